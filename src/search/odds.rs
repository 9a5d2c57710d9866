//! How probable it is that a candidate shows on fresh seeds that it keeps its promises.
//!
//! Its own few runs are biased: it was chosen for them. What all trials tell together is less so:
//! a Gaussian process per constraint says where a candidate lies from its limits, and how
//! certainly. To pass it has to lie so much inside as a look at the most fresh seeds demands at
//! the error of its try.

use super::objective::Constraint;
use super::propose::gp::model::{Model, fit};
use super::propose::gp::{features, points, replicates};
use super::propose::training::{chosen, is_constant};
use super::space::SearchSpace;
use super::spending;
use super::state::{Trial, spreads};
use crate::base::normal;
use crate::base::stats::t_quantile;
use crate::base::tolerance::tolerance_factor;

/// The most trials that the processes are fitted to.
const SEEN_MAX: usize = 128;

/// Where a figure lies on the scale of violations, its deviation, and that between seeds.
#[derive(Clone, Copy, Debug)]
struct Place {
    mean: f64,
    deviation: f64,
    spread: f64,
}

/// The odds of candidates, by what some trials tell.
#[derive(Debug)]
pub(super) struct Odds<'a> {
    space: &'a SearchSpace,
    /// Per candidate, per constraint.
    places: Vec<Vec<(usize, Place)>>,
    /// The most fresh seeds that a candidate meets.
    most: u32,
}

impl<'a> Odds<'a> {
    /// Of the trials `which` among `trials`.
    pub fn new(space: &'a SearchSpace, trials: &[Trial], which: &[usize]) -> Self {
        let spreads = spreads(space, trials);
        let mut seen = chosen(space, trials, SEEN_MAX);
        seen.retain(|index| trials[*index].score.stable);
        let learnt: Vec<&Trial> = seen.iter().map(|&index| &trials[index]).collect();
        let violations: Vec<Vec<f64>> =
            learnt.iter().map(|trial| trial.score.violations(space)).collect();
        let mut places = vec![Vec::new(); which.len()];
        for at in 0..space.constraints.len() {
            let column: Vec<f64> = violations.iter().map(|row| row[at]).collect();
            let spread = spreads.variance(at).unwrap_or(0.0).sqrt();
            if column.is_empty() || is_constant(&column) {
                let mean = column.first().copied().unwrap_or(0.0);
                let alike = Place { mean, deviation: 0.0, spread: 0.0 };
                for places in &mut places {
                    places.push((at, alike));
                }
                continue;
            }
            let (points, replicates) = (points(space, &learnt), replicates(&learnt));
            let hyper = fit(&points, &column, &replicates);
            let Some(model) = Model::new(hyper, &points, &column, &replicates) else { continue };
            for (places, &trial) in places.iter_mut().zip(which) {
                let found = model.predict(&features(space, &trials[trial].candidate));
                let place = Place { mean: found.mean, deviation: found.deviation, spread };
                places.push((at, place));
            }
        }
        Self { space, places, most: most(space) }
    }

    /// Of each candidate, where so many others met the seeds of that `round` before it; 0 is that
    /// of the finalists.
    pub fn after(&self, round: u32, tries: u32) -> Vec<f64> {
        let error = spending::error(&self.space.seeds, &self.space.proof, round, tries);
        let constraints = self.space.constraints.iter();
        let demanded: Vec<f64> =
            constraints.map(|constraint| demanded(constraint, self.most, error)).collect();
        let odds = |places: &Vec<(usize, Place)>| {
            let kept = places.iter().map(|&(at, place)| {
                let sampling = place.spread / f64::from(self.most).sqrt();
                let deviation = place.deviation.hypot(sampling).max(1e-12);
                normal::cumulative((-place.mean - demanded[at] * place.spread) / deviation)
            });
            kept.product()
        };
        self.places.iter().map(odds).collect()
    }
}

/// How far inside of each constraint, on the scale of violations, a candidate has to be for the
/// most fresh seeds to show that it keeps it at the first try; 0 where nothing is known of the
/// spread between seeds.
pub(super) fn margins(space: &SearchSpace, trials: &[Trial]) -> Vec<f64> {
    let spreads = spreads(space, trials);
    let error = spending::error(&space.seeds, &space.proof, 0, 0);
    let most = most(space);
    let margin = |(at, constraint): (usize, &Constraint)| {
        let spread = spreads.variance(at).map(f64::sqrt).filter(|spread| *spread > 0.0);
        spread.map_or(0.0, |spread| demanded(constraint, most, error) * spread)
    };
    space.constraints.iter().enumerate().map(margin).collect()
}

/// The most fresh seeds that a candidate meets.
fn most(space: &SearchSpace) -> u32 {
    let looks = spending::looks(&space.seeds, &space.proof);
    looks.last().copied().unwrap_or(space.seeds.verify)
}

/// By how many deviations between seeds a candidate has to lie inside of `constraint` for `most`
/// fresh seeds to show it.
fn demanded(constraint: &Constraint, most: u32, error: f64) -> f64 {
    match constraint.share {
        None => t_quantile(1.0 - error, f64::from(most - 1)) / f64::from(most).sqrt(),
        Some(share) => tolerance_factor(most, share, error) - normal::quantile(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::{float, knob, space};
    use crate::search::state::tests::trial_of;
    use crate::search::{Candidate, Figures, KnobValue, Origin, Run, Score};

    /// Trials along a line on which the TTFT falls through its limit of 500 at one half.
    fn line(space: &SearchSpace) -> Vec<Trial> {
        let trial = |index: usize| {
            let at = index as f64 / 20.0;
            let candidate = Candidate::canonical(space, vec![KnobValue::Float(at)]);
            let ttft = 500.0 * (0.5 - at).exp();
            let run = |(seed, wobble): (u64, f64)| {
                let mut figures = Figures::default();
                figures.set("ttft_p99_ms", ttft * wobble);
                figures.set("cost_per_hour", 1.0 + at);
                Run::new(seed, true, figures)
            };
            let runs: Vec<Run> = [(1, 1.1), (2, 0.9)].map(run).to_vec();
            let score = Score::of(space, &runs);
            Trial { index, by: Origin::Design, candidate, runs, dropped: None, score }
        };
        (0..=20).map(trial).collect()
    }

    #[test]
    fn the_odds_grow_from_the_limit_inwards_and_shrink_with_the_tries() {
        let space = space(vec![knob("x", float(0.0, 1.0, false))]);
        let trials = line(&space);
        let which: Vec<usize> = (0..=20).collect();
        let odds = Odds::new(&space, &trials, &which);
        let (first, tenth) = (odds.after(0, 0), odds.after(0, 9));
        assert!(first[5] < 0.05 && first[10] < 0.5 && first[18] > 0.95, "{first:?}");
        assert!((8..13).all(|at| first[at] < first[at + 1]), "{first:?}");
        assert!(tenth[12] < first[12], "{tenth:?}");
    }

    #[test]
    fn where_all_are_alike_all_pass_or_none() {
        let space = space(vec![knob("x", float(0.0, 1.0, false))]);
        let candidate = Candidate::canonical(&space, vec![KnobValue::Float(0.5)]);
        for (ttft, odds) in [(400.0, 1.0), (600.0, 0.0), (f64::NAN, 0.0)] {
            let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", 1.0)];
            let trials = [trial_of(0, candidate.clone(), &space, &figures)];
            assert_eq!(Odds::new(&space, &trials, &[0]).after(0, 0), [odds]);
        }
    }
}
