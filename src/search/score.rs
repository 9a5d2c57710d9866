//! What the runs of a candidate amount to.

use serde::Serialize;

use super::evaluate::Run;
use super::objective::{Bound, Constraint};
use super::space::SearchSpace;
use crate::base::stats::{self, Interval};

/// The confidence of all intervals.
pub const CONFIDENCE: f64 = 0.95;

/// A candidate's runs in the light of objective and constraints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The objective's mean over the seeds, in its own unit; absent where a run lacks it.
    pub objective: Option<f64>,
    /// One per constraint of the space.
    pub constraints: Vec<ConstraintScore>,
    /// Whether every run was stable.
    pub stable: bool,
    /// Whether every run is stable and every constraint holds on the mean.
    pub feasible: bool,
}

/// One constraint over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ConstraintScore {
    /// The figure's mean; absent where a run lacks the figure.
    pub mean: Option<f64>,
    /// The lower end of the mean's 95 % interval; absent with fewer than two seeds.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// Whether the mean keeps the limit.
    pub holds: bool,
    /// Whether the interval's worse end keeps it.
    pub confident: bool,
}

impl Score {
    /// Scores `runs`, at least one.
    pub fn of(space: &SearchSpace, runs: &[Run]) -> Self {
        let objective = mean(runs, space.objective.metric.as_str());
        let stable = runs.iter().all(|run| run.stable);
        let constraints: Vec<ConstraintScore> =
            space.constraints.iter().map(|constraint| constraint_score(constraint, runs)).collect();
        let feasible =
            stable && objective.is_some() && constraints.iter().all(|constraint| constraint.holds);
        Self { objective, constraints, stable, feasible }
    }

    /// Scores `runs` on fresh seeds: feasible only when each constraint's whole interval keeps its
    /// limit, not just the mean. A single seed has no interval, and its mean decides.
    pub fn on_fresh_seeds(space: &SearchSpace, runs: &[Run]) -> Self {
        let mut score = Self::of(space, runs);
        score.feasible &= runs.len() < 2 || score.confident();
        score
    }

    /// Whether every constraint's interval keeps its limit, too.
    pub fn confident(&self) -> bool {
        self.feasible && self.constraints.iter().all(|constraint| constraint.confident)
    }

    /// How far each constraint is from its limit: negative inside, 0 on it, positive outside, on
    /// a scale that a surrogate can learn, in [-[`VIOLATION_MAX`], [`VIOLATION_MAX`]]. An
    /// unstable candidate is outside of each.
    ///
    /// The scale is the logarithm of value over limit, compressed above 1. A share that must be
    /// at least a limit close to 1 is judged by what is missing to 1.
    pub fn violations(&self, space: &SearchSpace) -> Vec<f64> {
        let pairs = space.constraints.iter().zip(&self.constraints);
        let mut violations: Vec<f64> =
            pairs.map(|(constraint, score)| violation(constraint, score.mean)).collect();
        if violations.is_empty() {
            violations.push(-UNSTABLE_LEAST);
        }
        if !self.stable || self.objective.is_none() {
            for violation in &mut violations {
                *violation = violation.max(UNSTABLE_LEAST);
            }
        }
        violations
    }
}

/// The largest violation, of what could not be measured at all.
pub const VIOLATION_MAX: f64 = 4.0;
/// The least violation of an unstable candidate.
const UNSTABLE_LEAST: f64 = 0.5;

/// How far `mean` is from the limit of `constraint`, on the scale of [`Score::violations`].
pub(super) fn violation(constraint: &Constraint, mean: Option<f64>) -> f64 {
    let Some(value) = mean else { return VIOLATION_MAX };
    let limit = constraint.limit;
    let raw = match constraint.bound {
        Bound::AtMost if limit > 0.0 => (value.max(limit * 1e-6) / limit).ln(),
        Bound::AtMost => (value - limit) / limit.abs().max(1.0),
        Bound::AtLeast if limit > 0.5 && limit < 1.0 => {
            // Missing 0.0 and missing 0.0001 of 1 are alike; the floor keeps the log finite.
            let floor = 0.1 * (1.0 - limit);
            ((1.0 - value.min(1.0) + floor) / (1.0 - limit + floor)).ln()
        }
        Bound::AtLeast if limit > 0.0 => (limit / value.max(limit * 1e-6)).ln(),
        Bound::AtLeast => (limit - value) / limit.abs().max(1.0),
    };
    let compressed = if raw > 1.0 { 1.0 + raw.ln() } else { raw };
    compressed.clamp(-VIOLATION_MAX, VIOLATION_MAX)
}

fn constraint_score(constraint: &Constraint, runs: &[Run]) -> ConstraintScore {
    let name = constraint.metric.as_str();
    let mean = mean(runs, name);
    let interval = interval(runs, name);
    let worse = interval.map(|interval| match constraint.bound {
        Bound::AtMost => interval.high,
        Bound::AtLeast => interval.low,
    });
    ConstraintScore {
        mean,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        holds: mean.is_some_and(|mean| constraint.holds(mean)),
        confident: worse.is_some_and(|worse| constraint.holds(worse)),
    }
}

/// The mean of a figure over runs; `None` where a run lacks it.
pub fn mean(runs: &[Run], name: &str) -> Option<f64> {
    stats::mean(&values(runs, name)?).filter(|mean| mean.is_finite())
}

/// The 95 % interval of a figure's mean over runs; `None` where a run lacks it or there are
/// fewer than two.
pub fn interval(runs: &[Run], name: &str) -> Option<Interval> {
    stats::t_interval(&values(runs, name)?, CONFIDENCE)
        .filter(|interval| interval.low.is_finite() && interval.high.is_finite())
}

fn values(runs: &[Run], name: &str) -> Option<Vec<f64>> {
    runs.iter().map(|run| run.figures.get(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::metric::Figures;
    use crate::search::scenarios::Scope;
    use crate::search::space::tests::{int, knob, space};

    fn run(seed: u64, stable: bool, ttft: f64) -> Run {
        let mut figures = Figures::default();
        figures.set("ttft_p99_ms", ttft);
        figures.set("cost_per_hour", 10.0);
        Run { seed, stable, failed: None, figures }
    }

    fn score(runs: &[Run]) -> Score {
        Score::of(&space(vec![knob("instances", int(1, 9))]), runs)
    }

    #[test]
    fn the_mean_decides_and_the_interval_is_kept_beside_it() {
        let score = score(&[run(1, true, 300.0), run(2, true, 600.0), run(3, true, 450.0)]);
        assert!(score.feasible && !score.confident());
        assert_eq!(score.constraints[0].mean, Some(450.0));
        assert!(score.constraints[0].high.is_some_and(|high| high > 800.0));
    }

    #[test]
    fn on_fresh_seeds_the_whole_interval_decides() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let wide = [run(1, true, 300.0), run(2, true, 600.0), run(3, true, 450.0)];
        assert!(!Score::on_fresh_seeds(&space, &wide).feasible);
        assert!(Score::on_fresh_seeds(&space, &wide[..1]).feasible);
        let narrow = [run(1, true, 440.0), run(2, true, 460.0), run(3, true, 450.0)];
        assert!(Score::on_fresh_seeds(&space, &narrow).feasible);
    }

    #[test]
    fn one_unstable_run_makes_a_candidate_infeasible_whatever_its_p99() {
        let score = score(&[run(1, true, 30.0), run(2, false, 30.0)]);
        assert!(!score.feasible && score.constraints[0].holds);
        let space = space(vec![knob("instances", int(1, 9))]);
        assert!(score.violations(&space)[0] > 0.0);
    }

    #[test]
    fn what_could_not_be_measured_does_not_hold() {
        let score = score(&[run(1, true, 30.0), run(2, true, f64::NAN)]);
        assert!(!score.feasible);
        assert_eq!(score.constraints[0].mean, None);
        let space = space(vec![knob("instances", int(1, 9))]);
        assert!((score.violations(&space)[0] - VIOLATION_MAX).abs() < 1e-12);
    }

    #[test]
    fn violations_are_finite_ordered_and_change_sign_at_the_limit() {
        for text in ["ttft_p99_ms <= 500", "completed_ratio >= 0.999", "throughput_rps >= 100"] {
            let constraint = Constraint::parse(text, Scope::default()).expect("a constraint");
            let limit = constraint.limit;
            assert!(violation(&constraint, Some(limit)).abs() < 1e-12, "{text}");
            let outwards = if constraint.bound == Bound::AtMost { 1.0 } else { -1.0 };
            let mut last = -10.0;
            for share in [-0.9, -0.001, 0.0, 0.001, 0.5, 0.99] {
                let value = limit * (1.0 + outwards * share);
                let violation = violation(&constraint, Some(value));
                assert!(violation.is_finite() && violation >= last, "{text} at {value}");
                last = violation;
            }
            assert!(violation(&constraint, Some(1e300)).is_finite());
            assert!(violation(&constraint, Some(-1e300)).is_finite());
        }
    }
}
