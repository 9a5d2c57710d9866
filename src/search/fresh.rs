//! What fresh seeds say about a candidate.

use serde::{Deserialize, Serialize};

use super::evaluate::Run;
use super::promise::{is_open, values};
use super::score::Score;
use super::space::SearchSpace;
use crate::base::stats::{self, Interval, mean, t_quantile, variance};

/// What became of a candidate on fresh seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It keeps its promises, as far as the error of the look allows to say so.
    Kept,
    /// That could not be shown.
    NotKept,
    /// It keeps its promises, and could not be shown to be better than the winner.
    NoBetter,
    /// More seeds may tell.
    Open,
}

/// A candidate's meeting with fresh seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Which trial.
    pub trial: usize,
    /// 0: as a finalist; from 1 on in that round of the certificate.
    pub round: u32,
    /// The error that each look at it may spend.
    pub error: f64,
    /// One per fresh seed that it met so far.
    pub runs: Vec<Run>,
    /// What they amount to at that error.
    pub score: Score,
    /// The 95 % interval of what its objective is above the winner's on the same seeds, to be made
    /// small; absent where objectives do not depend on seeds, and for finalists.
    pub difference: Option<Interval>,
    /// What became of it.
    pub found: Finding,
}

/// Judges the `runs` of a candidate under its first fresh seeds; `rival` holds the winner's under
/// the same ones, and is empty where the objective was compared before. `looks` are those of
/// [`spending::looks`](super::spending::looks).
pub(super) fn judge(
    space: &SearchSpace,
    runs: &[Run],
    rival: &[Run],
    error: f64,
    looks: &[u32],
) -> (Score, Option<Interval>, Finding) {
    let score = Score::on_fresh_seeds(space, runs, error);
    let most = looks.last().copied().filter(|&most| most as usize > runs.len());
    let above = differences(space, runs, rival);
    let difference = stats::t_interval(&above, super::score::CONFIDENCE);
    let found = match () {
        () if !score.stable || score.objective.is_none() => Finding::NotKept,
        () if !score.feasible => match most {
            Some(most) if may_be_shown(space, &score, runs, most, error) => Finding::Open,
            _ => Finding::NotKept,
        },
        () if rival.is_empty() || is_below(&above, above.len(), space.proof.error(), 0.0) => {
            Finding::Kept
        }
        // As with promises: the truth may be a standard error better than seen.
        () => match most {
            Some(most) if is_below(&above, most as usize, space.proof.error(), 1.0) => {
                Finding::Open
            }
            _ => Finding::NoBetter,
        },
    };
    (score, difference, found)
}

/// Whether `most` runs may show what these do not.
fn may_be_shown(space: &SearchSpace, score: &Score, runs: &[Run], most: u32, error: f64) -> bool {
    space.constraints.iter().zip(&score.constraints).all(|(constraint, found)| {
        let values = values(runs, constraint.metric.as_str());
        found.confident || values.is_some_and(|values| is_open(constraint, &values, most, error))
    })
}

/// Whether `count` values like these, and better by so many standard errors, have a mean below 0.
fn is_below(values: &[f64], count: usize, error: f64, better: f64) -> bool {
    let (Some(mean), Some(variance)) = (mean(values), variance(values)) else { return false };
    let away = t_quantile(1.0 - error, count as f64 - 1.0) / (count as f64).sqrt();
    mean + variance.sqrt() * (away - better / (values.len() as f64).sqrt()) < 0.0
}

/// What the objective of `runs` is above that of `others` under the same seed, to be made small.
pub(super) fn differences(space: &SearchSpace, runs: &[Run], others: &[Run]) -> Vec<f64> {
    let name = space.objective.metric.as_str();
    let paired = runs.iter().filter_map(|run| {
        let other = others.iter().find(|other| other.seed == run.seed)?;
        Some(space.objective.to_minimize(run.figures.get(name)? - other.figures.get(name)?))
    });
    paired.collect()
}

/// Whether the objective is the same under each seed.
pub(super) fn is_steady(space: &SearchSpace, runs: &[Run]) -> bool {
    let Some(values) = values(runs, space.objective.metric.as_str()) else { return false };
    values.iter().all(|value| (value - values[0]).abs() <= EQUAL * values[0].abs())
}

/// Objectives that differ by this share are equal.
pub(crate) const EQUAL: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::metric::Figures;
    use crate::search::space::tests::{int, knob, space};

    fn runs(cost: impl Fn(u64) -> f64, ttft: impl Fn(u64) -> f64, count: u64) -> Vec<Run> {
        let run = |seed| {
            let mut figures = Figures::default();
            figures.set("cost_per_hour", cost(seed));
            figures.set("ttft_p99_ms", ttft(seed));
            Run::new(seed, true, figures)
        };
        (0..count).map(run).collect()
    }

    fn found(runs: &[Run], rival: &[Run]) -> Finding {
        let space = space(vec![knob("instances", int(1, 9))]);
        judge(&space, runs, rival, 0.01, &[8, 16, 32]).2
    }

    fn wave(seed: u64) -> f64 {
        if seed.is_multiple_of(2) { 1.0 } else { -1.0 }
    }

    #[test]
    fn what_the_limit_lies_within_is_open_until_the_last_look() {
        let at = |ttft: f64, count| found(&runs(|_| 5.0, |s| ttft + 60.0 * wave(s), count), &[]);
        assert_eq!(at(300.0, 8), Finding::Kept);
        assert_eq!(at(450.0, 8), Finding::Open);
        assert_eq!(at(450.0, 32), Finding::Kept);
        assert_eq!(at(495.0, 32), Finding::NotKept);
        assert_eq!(at(700.0, 8), Finding::NotKept);
    }

    #[test]
    fn one_unstable_run_is_one_too_many() {
        let mut all = runs(|_| 5.0, |_| 100.0, 8);
        assert_eq!(found(&all, &[]), Finding::Kept);
        all[3].stable = false;
        assert_eq!(found(&all, &[]), Finding::NotKept);
    }

    #[test]
    fn a_rival_is_beaten_on_the_same_seeds_or_not_at_all() {
        let rival = runs(|s| 5.0 + wave(s), |_| 100.0, 32);
        let cheaper = |by: f64, count| {
            let noise = |s: u64| 0.1 * wave(s / 2);
            found(&runs(|s| 5.0 + wave(s) - by + noise(s), |_| 100.0, count), &rival)
        };
        assert_eq!(cheaper(0.5, 8), Finding::Kept);
        assert_eq!(cheaper(0.05, 8), Finding::Open);
        assert_eq!(cheaper(0.05, 32), Finding::Kept);
        assert_eq!(cheaper(0.0, 32), Finding::NoBetter);
        assert_eq!(cheaper(-0.5, 8), Finding::NoBetter);
    }
}
