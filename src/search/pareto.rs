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
    /// Whether another point is at least as good on every axis and better on one; of points that
    /// keep the constraints, one that keeps them too.
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
        .map(|point| {
            // What breaks a promise takes no place on the frontier of those that keep it.
            let counts = |other: &&ParetoPoint| other.feasible || !point.feasible;
            points.iter().filter(counts).any(|other| dominates(&space.pareto, other, point))
        })
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

/// How much of a box points take together, in [0, 1]: the share of it that at least one of them
/// beats on every axis. Each point is a loss per axis in [0, 1], the worst corner being 1.
/// One to three axes.
pub fn hypervolume(points: &[Vec<f64>]) -> f64 {
    let inside = |point: &&Vec<f64>| point.iter().all(|loss| *loss < 1.0);
    let mut inside: Vec<&Vec<f64>> = points.iter().filter(inside).collect();
    let Some(axes) = inside.first().map(|point| point.len()) else { return 0.0 };
    let last = axes - 1;
    inside.sort_by(|a, b| a[last].total_cmp(&b[last]));
    if axes == 1 {
        return 1.0 - inside[0][0].max(0.0);
    }
    // Slices along the last axis: what the points before the slice's end take of the others.
    let ends = inside.iter().skip(1).map(|point| point[last]).chain([1.0]);
    let slices = inside.iter().zip(ends).enumerate().map(|(index, (from, end))| {
        let begun: Vec<Vec<f64>> =
            inside[..=index].iter().map(|point| point[..last].to_vec()).collect();
        let depth = end.max(0.0) - from[last].max(0.0);
        if depth > 0.0 { depth * hypervolume(&begun) } else { 0.0 }
    });
    slices.sum()
}

/// The feasible trials in the box between the best and the worst that any of them has on each
/// axis, as losses in [0, 1] in order of trial, each with its trial.
fn in_box(space: &SearchSpace, points: &[ParetoPoint]) -> Vec<(usize, Vec<f64>)> {
    let mut feasible: Vec<&ParetoPoint> = points.iter().filter(|point| point.feasible).collect();
    feasible.sort_by_key(|point| point.trial);
    let ends: Vec<(f64, f64)> = (0..space.pareto.len())
        .map(|axis| {
            let losses = feasible.iter().map(|p| loss(&space.pareto[axis], p.values[axis]));
            losses.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        })
        .collect();
    let share = |axis: usize, value: f64| {
        let (low, high) = ends[axis];
        if high > low { (loss(&space.pareto[axis], value) - low) / (high - low) } else { 0.0 }
    };
    let shares = |point: &ParetoPoint| {
        point.values.iter().enumerate().map(|(axis, &value)| share(axis, value)).collect()
    };
    feasible.into_iter().map(|point| (point.trial, shares(point))).collect()
}

/// The hypervolume after each feasible trial that made it grow: the trial, and the share of the
/// box between the best and the worst feasible figures. Empty for more than three axes.
pub fn history(space: &SearchSpace, points: &[ParetoPoint]) -> Vec<(usize, f64)> {
    if space.pareto.len() > 3 {
        return Vec::new();
    }
    let mut front: Vec<Vec<f64>> = Vec::new();
    let mut grown: Vec<(usize, f64)> = Vec::new();
    for (trial, point) in in_box(space, points) {
        let beaten = |by: &[f64], point: &[f64]| by.iter().zip(point).all(|(a, b)| a <= b);
        if front.iter().any(|other| beaten(other, &point)) {
            continue;
        }
        front.retain(|other| !beaten(&point, other));
        front.push(point);
        let volume = hypervolume(&front);
        if grown.last().is_none_or(|(_, last)| volume > *last) {
            grown.push((trial, volume));
        }
    }
    grown
}

/// The trial at the knee of a frontier of two axes: of its feasible points the one farthest below
/// the straight line between its ends, axes scaled to the frontier. `None` with fewer than three
/// points, or where none lies below.
pub fn knee(space: &SearchSpace, points: &[ParetoPoint]) -> Option<usize> {
    if space.pareto.len() != 2 {
        return None;
    }
    let front: Vec<ParetoPoint> =
        points.iter().filter(|point| point.feasible && !point.dominated).cloned().collect();
    if front.len() < 3 {
        return None;
    }
    // Within its own box a frontier runs from (0, 1) to (1, 0): the line is x + y = 1.
    let below = in_box(space, &front).into_iter().map(|(trial, p)| (trial, 1.0 - p[0] - p[1]));
    let best = below.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.filter(|(_, depth)| *depth > 1e-9).map(|(trial, _)| trial)
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
    fn hypervolumes_of_boxes_by_hand() {
        assert!(hypervolume(&[]).abs() < 1e-12);
        assert!((hypervolume(&[vec![0.25]]) - 0.75).abs() < 1e-12);
        let two = [vec![0.0, 0.5], vec![0.5, 0.0]];
        assert!((hypervolume(&two) - 0.75).abs() < 1e-12);
        let with_dominated = [vec![0.0, 0.5], vec![0.5, 0.0], vec![0.6, 0.6], vec![2.0, -1.0]];
        assert!((hypervolume(&with_dominated) - 0.75).abs() < 1e-12);
        let three = [vec![0.5, 0.5, 0.0], vec![0.0, 0.0, 0.5]];
        assert!((hypervolume(&three) - (0.125 + 0.5)).abs() < 1e-12);
    }

    /// Feasible trials at these TTFTs and costs.
    fn at(places: &[(f64, f64)]) -> (SearchSpace, Vec<ParetoPoint>) {
        let space = space(vec![knob("instances", int(1, 9))]);
        let each = places.iter().enumerate().map(|(index, &(ttft, cost))| {
            trial(&space, index, 1, &[("ttft_p99_ms", ttft), ("cost_per_hour", cost)])
        });
        let trials: Vec<Trial> = each.collect();
        let points = points(&space, &trials);
        (space, points)
    }

    #[test]
    fn what_breaks_a_promise_dominates_nothing_that_keeps_it() {
        // A TTFT of 600 breaks the promise of 500.
        let space = space(vec![knob("instances", int(1, 9))]);
        let axes = ["cost_per_hour", "e2e_p99_ms"];
        let parse = |name| MetricName::parse(name, crate::search::scenarios::Scope::default());
        let pareto = axes.iter().map(|name| parse(name).expect("a metric")).collect();
        let space = SearchSpace { pareto, ..space };
        let figures =
            |ttft, cost| [("ttft_p99_ms", ttft), ("cost_per_hour", cost), ("e2e_p99_ms", cost)];
        let trials = [
            trial(&space, 0, 1, &figures(600.0, 1.0)),
            trial(&space, 1, 1, &figures(400.0, 2.0)),
            trial(&space, 2, 1, &figures(700.0, 3.0)),
        ];
        let points = points(&space, &trials);
        let kept: Vec<usize> = points.iter().filter(|p| !p.dominated).map(|p| p.trial).collect();
        assert_eq!(kept, [0, 1]);
    }

    #[test]
    fn the_knee_is_where_the_frontier_bends_most() {
        let (space, points) = at(&[(100.0, 10.0), (150.0, 4.0), (400.0, 2.0), (450.0, 9.0)]);
        assert_eq!(knee(&space, &points), Some(1));
        let (space, points) = at(&[(100.0, 10.0), (400.0, 2.0)]);
        assert_eq!(knee(&space, &points), None, "two points have no bend");
    }

    #[test]
    fn the_history_of_the_hypervolume_only_grows() {
        let (space, points) =
            at(&[(450.0, 10.0), (400.0, 2.0), (420.0, 9.0), (100.0, 9.0), (150.0, 4.0)]);
        let grown = history(&space, &points);
        assert_eq!(grown.iter().map(|(trial, _)| *trial).collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert!(grown.windows(2).all(|pair| pair[0].1 < pair[1].1), "{grown:?}");
    }

    #[test]
    fn unstable_trials_are_not_on_the_plane() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let mut one = trial(&space, 0, 4, &[("ttft_p99_ms", 1.0), ("cost_per_hour", 4.0)]);
        one.score.stable = false;
        assert!(points(&space, &[one]).is_empty());
    }
}
