//! Racing: a candidate meets one search seed first, and more only while it may still win.
//!
//! A candidate stops early where
//! - a run of it was unstable, stopped or could not be measured: it cannot be feasible any more;
//! - a constraint is violated by more than chance explains: the mean over its seeds so far, minus
//!   `CAUTION` standard errors, is outside;
//! - its objective is worse than the best feasible candidate's on the very same seeds by more
//!   than chance explains: the mean of the paired differences, minus as many standard errors, is
//!   a loss.
//!
//! The best feasible candidate is one that is inside of its limits by a standard error at least:
//! who dares to race against a doubtful one would lose the safer ones.
//!
//! Standard errors come from the spread between seeds of all trials so far, since one seed has no
//! spread of its own. The best so far is what it was before the batch, so that a candidate's fate
//! depends on no thread.

use super::evaluate::Run;
use super::objective::Direction;
use super::promise::Spreads;
use super::score::{self, Score};
use super::space::{SearchSpace, Seek};
use super::state::{self, Trial, ranking};
use crate::base::stats;

/// Standard errors that a candidate must be outside by.
const CAUTION: f64 = 2.0;
/// The spread between seeds before anything is known, and how many seeds it counts for.
const PRIOR_SPREAD: f64 = 0.1;
const PRIOR_WEIGHT: f64 = 4.0;
/// The same for paired differences of the objective.
const PRIOR_DIFFERENCE: f64 = 0.02;

/// The race that candidates run against the trials before their batch.
#[derive(Debug)]
pub struct Race<'a> {
    space: &'a SearchSpace,
    best: Option<&'a Trial>,
    /// Standard deviation between seeds, per constraint, on the scale of violations.
    spreads: Vec<f64>,
    /// What scores know of spreads.
    pool: Spreads,
    /// Standard deviation between seeds of differences to the best.
    difference: f64,
}

impl<'a> Race<'a> {
    /// The race against `history`.
    pub fn new(space: &'a SearchSpace, history: &'a [Trial]) -> Self {
        let deviations: Vec<f64> =
            (0..space.constraints.len()).map(|at| spread(space, history, at)).collect();
        let is_credible = |trial: &&Trial| {
            let root = (trial.runs.len() as f64).sqrt();
            let mut pairs = trial.score.violations(space).into_iter().zip(&deviations);
            trial.score.feasible && pairs.all(|(v, spread)| v + spread / root <= 0.0)
        };
        let order = ranking(space, history).into_iter();
        let best = order.map(|index| &history[index]).find(is_credible);
        Self::against(space, history, best)
    }

    /// The race against `best`, where `history` is known.
    pub fn against(space: &'a SearchSpace, history: &'a [Trial], best: Option<&'a Trial>) -> Self {
        let spreads = (0..space.constraints.len()).map(|at| spread(space, history, at)).collect();
        let pool = state::spreads(space, history);
        let mut race = Self { space, best, spreads, pool, difference: PRIOR_DIFFERENCE };
        let known = history.iter().map(|trial| race.differences(&trial.runs));
        race.difference = pooled(known, PRIOR_DIFFERENCE);
        race
    }

    /// How many search seeds a candidate has met when it is looked at: one, then twice as many
    /// each time, all in the end.
    pub fn looks(seeds: usize) -> Vec<usize> {
        let mut looks: Vec<usize> =
            (0..usize::BITS).map(|power| 1 << power).take_while(|&n| n < seeds).collect();
        looks.push(seeds);
        looks
    }

    /// Why a candidate with these `runs` meets no further seed; `None`: it goes on.
    pub fn verdict(&self, runs: &[Run]) -> Option<String> {
        let seeds = runs.len() as f64;
        let score = Score::beside(self.space, runs, &self.pool);
        if let Some(why) = runs.iter().find_map(|run| run.stopped.as_ref()) {
            return Some(why.clone());
        }
        if !score.stable {
            let run = runs.iter().find(|run| !run.stable);
            return Some(format!("unstable under seed {}", run.map_or(0, |run| run.seed)));
        }
        if score.objective.is_none() {
            return Some(format!("without `{}`", self.space.objective.metric));
        }
        let violations = score.violations(self.space);
        for (constraint, (violation, spread)) in
            self.space.constraints.iter().zip(violations.iter().zip(&self.spreads))
        {
            if violation - CAUTION * spread / seeds.sqrt() > 0.0 {
                return Some(format!("outside of `{constraint}`"));
            }
        }
        // Of a frontier, what costs more may answer faster.
        if self.space.seek == Seek::Frontier {
            return None;
        }
        let differences = self.differences(runs);
        let mean = stats::mean(&differences)?;
        let least = mean - CAUTION * self.difference / (differences.len() as f64).sqrt();
        (least > 1e-9).then(|| {
            format!(
                "`{}` worse than trial {}'s",
                self.space.objective.metric,
                self.best.map_or(0, |b| b.index)
            )
        })
    }

    /// What each run loses against the best under the same seed: the logarithm of the ratio where
    /// both are positive and to be made small, else the difference relative to the best.
    fn differences(&self, runs: &[Run]) -> Vec<f64> {
        let Some(best) = self.best else { return Vec::new() };
        let name = self.space.objective.metric.as_str();
        let paired = runs.iter().filter_map(|run| {
            let other = best.runs.iter().find(|other| other.seed == run.seed)?;
            let (own, other) = (run.figures.get(name)?, other.figures.get(name)?);
            let minimize = self.space.objective.direction == Direction::Minimize;
            Some(if minimize && own > 0.0 && other > 0.0 {
                (own / other).ln()
            } else {
                self.space.objective.to_minimize(own - other) / other.abs().max(1e-9)
            })
        });
        paired.collect()
    }
}

/// The standard deviation between seeds of constraint `at`, over all trials that met several.
fn spread(space: &SearchSpace, history: &[Trial], at: usize) -> f64 {
    let constraint = &space.constraints[at];
    let each = history.iter().filter(|trial| trial.score.stable).map(|trial| {
        let values = trial.runs.iter().map(|run| run.figures.get(constraint.metric.as_str()));
        values.map(|value| score::violation(constraint, value)).collect::<Vec<f64>>()
    });
    pooled(each, PRIOR_SPREAD)
}

/// The root of the mean variance within groups, beginning with a prior.
fn pooled(groups: impl Iterator<Item = Vec<f64>>, prior: f64) -> f64 {
    let (mut squares, mut freedom) = (PRIOR_WEIGHT * prior * prior, PRIOR_WEIGHT);
    for group in groups {
        if let Some(variance) = stats::variance(&group) {
            let own = (group.len() - 1) as f64;
            squares += own * variance;
            freedom += own;
        }
    }
    (squares / freedom).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::metric::Figures;
    use crate::search::space::tests::{int, knob, space};
    use crate::search::state::tests::trial;

    fn run(seed: u64, stable: bool, cost: f64, ttft: f64) -> Run {
        let mut figures = Figures::default();
        figures.set("cost_per_hour", cost);
        figures.set("ttft_p99_ms", ttft);
        Run::new(seed, stable, figures)
    }

    fn fleet() -> SearchSpace {
        space(vec![knob("instances", int(1, 9))])
    }

    /// A best trial at a cost of 5 and trials whose TTFT spreads by `spread` between two seeds.
    fn history(space: &SearchSpace, spread: f64) -> Vec<Trial> {
        let best = [("ttft_p99_ms", 400.0), ("cost_per_hour", 5.0)];
        let mut trials: Vec<Trial> = (0..20).map(|index| trial(space, index, 5, &best)).collect();
        for trial in &mut trials {
            let away = [-spread, spread];
            let runs = (1..3).zip(away).map(|(seed, by)| run(seed, true, 5.0, 400.0 * (1.0 + by)));
            trial.runs = runs.collect();
        }
        trials
    }

    #[test]
    fn it_looks_after_one_seed_and_each_time_twice_as_many() {
        assert_eq!(Race::looks(1), [1]);
        assert_eq!(Race::looks(3), [1, 2, 3]);
        assert_eq!(Race::looks(8), [1, 2, 4, 8]);
    }

    #[test]
    fn one_unstable_run_ends_it_before_anything_is_known() {
        let space = fleet();
        let race = Race::new(&space, &[]);
        assert_eq!(race.verdict(&[run(7, false, 1.0, 1.0)]), Some("unstable under seed 7".into()));
        assert_eq!(race.verdict(&[run(7, true, 1.0, 1.0)]), None);
        assert!(race.verdict(&[run(7, true, f64::NAN, 1.0)]).is_some(), "no objective");
        assert!(race.verdict(&[run(7, true, 1.0, f64::NAN)]).is_some(), "no figure to judge");
    }

    #[test]
    fn a_violation_counts_once_chance_does_not_explain_it() {
        let space = fleet();
        let (calm, wild) = (history(&space, 0.01), history(&space, 0.4));
        let slightly_outside = [run(1, true, 4.0, 560.0)];
        assert!(Race::new(&space, &calm).verdict(&slightly_outside).is_some());
        assert_eq!(Race::new(&space, &wild).verdict(&slightly_outside), None);
    }

    #[test]
    fn who_costs_more_on_the_same_seeds_cannot_win() {
        let space = fleet();
        let history = history(&space, 0.01);
        let race = Race::new(&space, &history);
        assert!(race.verdict(&[run(1, true, 5.5, 100.0)]).is_some());
        assert_eq!(race.verdict(&[run(1, true, 4.5, 100.0)]), None);
        assert_eq!(race.verdict(&[run(1, true, 5.0, 100.0)]), None, "a tie may be safer");
        assert_eq!(race.verdict(&[run(9, true, 5.5, 100.0)]), None, "no seed in common");
    }
}
