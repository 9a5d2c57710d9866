//! The frontier: candidates that no other beats on every axis.

use super::metric::{Better, MetricName};
use super::score;
use super::space::SearchSpace;
use super::state::Trial;

/// A candidate in the plane of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoPoint {
    /// Index of the trial.
    pub trial: usize,
    /// The mean of each axis's figure over the seeds.
    pub values: Vec<f64>,
    /// Whether another point is at least as good on every axis and better on one.
    pub dominated: bool,
    /// Whether it keeps the constraints.
    pub feasible: bool,
}

/// All stable trials that have every axis's figure, ordered by the first axis from good to bad,
/// then by the next, then by trial.
pub fn points(space: &SearchSpace, trials: &[Trial]) -> Vec<ParetoPoint> {
    let mut points: Vec<ParetoPoint> = trials
        .iter()
        .filter(|trial| trial.score.stable)
        .filter_map(|trial| {
            let values = space.pareto.iter().map(|axis| score::mean(&trial.runs, axis.as_str()));
            Some(ParetoPoint {
                trial: trial.index,
                values: values.collect::<Option<Vec<f64>>>()?,
                dominated: false,
                feasible: trial.score.feasible,
            })
        })
        .collect();
    let marks: Vec<bool> = points
        .iter()
        .map(|point| points.iter().any(|other| dominates(&space.pareto, other, point)))
        .collect();
    for (point, dominated) in points.iter_mut().zip(marks) {
        point.dominated = dominated;
    }
    points.sort_by(|left, right| {
        let by_axes = space.pareto.iter().enumerate().map(|(index, axis)| {
            loss(axis, left.values[index]).total_cmp(&loss(axis, right.values[index]))
        });
        by_axes
            .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            .then(left.trial.cmp(&right.trial))
    });
    points
}

fn dominates(axes: &[MetricName], left: &ParetoPoint, right: &ParetoPoint) -> bool {
    let pairs = || {
        axes.iter()
            .enumerate()
            .map(|(index, axis)| (loss(axis, left.values[index]), loss(axis, right.values[index])))
    };
    pairs().all(|(left, right)| left <= right) && pairs().any(|(left, right)| left < right)
}

/// The figure as a number to make small.
fn loss(axis: &MetricName, value: f64) -> f64 {
    match axis.better() {
        Better::Lower => value,
        Better::Higher => -value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::{int, knob, space};
    use crate::search::state::tests::trial;

    #[test]
    fn a_point_beaten_on_both_axes_is_dominated_and_a_twin_is_not() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let trials = [
            trial(&space, 0, 4, &[("ttft_p99_ms", 100.0), ("cost_per_hour", 4.0)]),
            trial(&space, 1, 5, &[("ttft_p99_ms", 120.0), ("cost_per_hour", 5.0)]),
            trial(&space, 2, 6, &[("ttft_p99_ms", 50.0), ("cost_per_hour", 6.0)]),
            trial(&space, 3, 7, &[("ttft_p99_ms", 50.0), ("cost_per_hour", 6.0)]),
            trial(&space, 4, 8, &[("cost_per_hour", 1.0)]),
        ];
        let points = points(&space, &trials);
        let marks: Vec<(usize, bool)> = points.iter().map(|p| (p.trial, p.dominated)).collect();
        assert_eq!(marks, [(2, false), (3, false), (0, false), (1, true)]);
    }

    #[test]
    fn unstable_trials_are_not_on_the_plane() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let mut one = trial(&space, 0, 4, &[("ttft_p99_ms", 1.0), ("cost_per_hour", 4.0)]);
        one.score.stable = false;
        assert!(points(&space, &[one]).is_empty());
    }
}
