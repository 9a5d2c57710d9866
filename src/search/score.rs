//! What the runs of a candidate amount to.

use serde::Serialize;

use super::evaluate::Run;
use super::objective::Constraint;
use super::promise::{self, Basis, Spreads, values};
use super::space::SearchSpace;
use crate::base::stats::{self, Interval};

/// The confidence of the two-sided intervals that are shown.
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
    /// Whether a run was stopped: what it does not tell is not known to be bad.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether every run is stable and every constraint holds: as estimated on the seeds of the
    /// search, as shown at the error of the look on fresh seeds.
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
    /// What is compared with the limit: the mean, or what the promised share of runs keeps.
    pub estimate: Option<f64>,
    /// What fresh seeds show: it is no worse than this; absent where they show nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<f64>,
    /// What that rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Whether the estimate keeps the limit.
    pub holds: bool,
    /// Whether fresh seeds show that the limit is kept.
    pub confident: bool,
}

impl Score {
    /// Scores `runs`, at least one, by themselves.
    pub fn of(space: &SearchSpace, runs: &[Run]) -> Self {
        Self::beside(space, runs, &Spreads::default())
    }

    /// Scores `runs`, at least one, of a candidate beside others with these spreads between seeds:
    /// a few runs say little about their own.
    pub fn beside(space: &SearchSpace, runs: &[Run], spreads: &Spreads) -> Self {
        let objective = mean(runs, space.objective.metric.as_str());
        let stable = runs.iter().all(|run| run.stable);
        let each = space.constraints.iter().enumerate();
        let constraints: Vec<ConstraintScore> = each
            .map(|(at, constraint)| constraint_score(constraint, runs, (spreads, at)))
            .collect();
        let feasible =
            stable && objective.is_some() && constraints.iter().all(|constraint| constraint.holds);
        let stopped = runs.iter().any(|run| run.stopped.is_some());
        Self { objective, constraints, stable, stopped, feasible }
    }

    /// Scores `runs` on fresh seeds: feasible only where they show, but for a chance of `error`,
    /// that each constraint is kept.
    pub fn on_fresh_seeds(space: &SearchSpace, runs: &[Run], error: f64) -> Self {
        let mut score = Self::of(space, runs);
        for (constraint, found) in space.constraints.iter().zip(&mut score.constraints) {
            let Some(values) = values(runs, constraint.metric.as_str()) else { continue };
            let (shown, basis) = promise::bound(constraint, &values, error);
            found.shown = shown.filter(|shown| shown.is_finite());
            found.basis = Some(basis);
            found.confident = found.shown.is_some_and(|shown| constraint.holds(shown));
        }
        score.feasible = score.stable
            && score.objective.is_some()
            && score.constraints.iter().all(|c| c.confident);
        score
    }

    /// How far each constraint is from its limit: negative inside, 0 on it, positive outside, on
    /// a scale that a surrogate can learn, in [-[`VIOLATION_MAX`], [`VIOLATION_MAX`]]. An
    /// unstable candidate is outside of each.
    ///
    /// The scale is the logarithm of value over limit, compressed above 1. A share that must be
    /// at least a limit close to 1 is judged by what is missing to 1.
    pub fn violations(&self, space: &SearchSpace) -> Vec<f64> {
        let pairs = space.constraints.iter().zip(&self.constraints);
        let mut violations: Vec<f64> = pairs
            .map(|(constraint, score)| match score.estimate {
                None if self.stopped => UNSTABLE_LEAST,
                estimate => violation(constraint, estimate),
            })
            .collect();
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

/// How far `value` is from the limit of `constraint`, on the scale of [`Score::violations`].
pub(super) fn violation(constraint: &Constraint, value: Option<f64>) -> f64 {
    let Some(value) = value else { return VIOLATION_MAX };
    let raw = promise::outward(constraint, value);
    let compressed = if raw > 1.0 { 1.0 + raw.ln() } else { raw };
    compressed.clamp(-VIOLATION_MAX, VIOLATION_MAX)
}

fn constraint_score(
    constraint: &Constraint,
    runs: &[Run],
    spreads: (&Spreads, usize),
) -> ConstraintScore {
    let name = constraint.metric.as_str();
    let interval = interval(runs, name);
    let estimate = values(runs, name)
        .and_then(|values| promise::estimate(constraint, &values, spreads))
        .filter(|estimate| estimate.is_finite());
    ConstraintScore {
        mean: mean(runs, name),
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        estimate,
        shown: None,
        basis: None,
        holds: estimate.is_some_and(|estimate| constraint.holds(estimate)),
        confident: false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::metric::Figures;
    use crate::search::objective::Bound;
    use crate::search::scenarios::Scope;
    use crate::search::space::tests::{int, knob, space};

    fn run(seed: u64, stable: bool, ttft: f64) -> Run {
        let mut figures = Figures::default();
        figures.set("ttft_p99_ms", ttft);
        figures.set("cost_per_hour", 10.0);
        Run::new(seed, stable, figures)
    }

    fn score(runs: &[Run]) -> Score {
        Score::of(&space(vec![knob("instances", int(1, 9))]), runs)
    }

    #[test]
    fn in_the_search_the_mean_decides_and_the_interval_is_kept_beside_it() {
        let score = score(&[run(1, true, 300.0), run(2, true, 600.0), run(3, true, 450.0)]);
        assert!(score.feasible && !score.constraints[0].confident);
        assert_eq!(score.constraints[0].mean, Some(450.0));
        assert!(score.constraints[0].high.is_some_and(|high| high > 800.0));
    }

    #[test]
    fn on_fresh_seeds_what_they_show_decides() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let fresh = |runs: &[Run], error| Score::on_fresh_seeds(&space, runs, error);
        let wide = [run(1, true, 300.0), run(2, true, 600.0), run(3, true, 450.0)];
        assert!(!fresh(&wide, 0.05).feasible);
        assert!(!fresh(&wide[..1], 0.05).feasible, "one run says nothing about its spread");
        let narrow = [run(1, true, 440.0), run(2, true, 460.0), run(3, true, 450.0)];
        assert!(fresh(&narrow, 0.05).feasible);
        assert!(!fresh(&narrow, 0.001).feasible, "a smaller error asks for more");
        let shown = fresh(&narrow, 0.05).constraints[0].shown.expect("three runs");
        assert!((shown - (450.0 + 2.919_986 * 10.0 / 3.0_f64.sqrt())).abs() < 1e-3, "{shown}");
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
