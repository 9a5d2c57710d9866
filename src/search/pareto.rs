//! The frontier: candidates that no other beats on every axis, as far as each is known.
//!
//! The search sees every candidate on the same few seeds, so what looks best on them was also a
//! little lucky. Points of the frontier therefore meet fresh seeds ([`retest`](super::retest)),
//! and like is compared with like: two candidates that met fresh seeds by what these say, any
//! other two by what the seeds of the search say. Who could not be shown to keep the promises on
//! fresh seeds takes nobody's place, and who kept them gives way only to others that did. Of
//! candidates that are equal on every axis one stands for all: one that met fresh seeds, or else
//! the safest.

use super::evaluate::Run;
use super::fresh::Verification;
use super::metric::{Better, MetricName};
use super::score;
use super::space::SearchSpace;
use super::state::{Trial, ranking};
use crate::base::stats::Interval;

/// A candidate in the plane of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoPoint {
    /// Index of the trial.
    pub trial: usize,
    /// The mean of each axis's figure over the fresh seeds that it met, or else over the seeds of
    /// the search.
    pub values: Vec<f64>,
    /// The mean of each axis's figure over the seeds of the search.
    pub searched: Vec<f64>,
    /// The 95 % interval of each axis's mean over fresh seeds; empty where it met none.
    pub intervals: Vec<Interval>,
    /// How many fresh seeds it met.
    pub fresh_seeds: usize,
    /// What fresh seeds said.
    pub retest: Retest,
    /// Whether another point takes its place: one at least as good on every axis and better on
    /// one, or one that stands for its equals.
    pub dominated: bool,
    /// Whether it keeps the constraints, as far as is known.
    pub feasible: bool,
}

/// What fresh seeds said about a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retest {
    /// It met none.
    Untested,
    /// It was shown to keep its promises.
    Kept,
    /// It kept its promises in the search, and could not be shown to keep them, or lacked the
    /// figure of an axis.
    Fallen,
}

impl ParetoPoint {
    /// Whether it belongs to the frontier.
    pub fn is_on_frontier(&self) -> bool {
        self.feasible && !self.dominated
    }

    /// Whether it kept its promises on the seeds of the search.
    fn was_feasible(&self) -> bool {
        self.feasible || self.retest != Retest::Untested
    }

    /// Only who is known as well, or better, takes another's place.
    fn standing(&self) -> u8 {
        match (self.feasible, self.retest) {
            (true, Retest::Kept) => 2,
            (true, _) => 1,
            (false, _) => 0,
        }
    }
}

/// All stable trials that have every axis's figure, ordered by the first axis from good to bad,
/// then by the next, then by trial. `met` are the decided meetings with fresh seeds.
pub fn points(space: &SearchSpace, trials: &[Trial], met: &[&Verification]) -> Vec<ParetoPoint> {
    let mut points: Vec<ParetoPoint> = trials
        .iter()
        .filter(|trial| trial.score.stable)
        .filter_map(|trial| {
            let met = met.iter().rev().find(|met| met.trial == trial.index);
            point(space, trial, met.copied())
        })
        .collect();
    let ranks = ranks(space, trials);
    let marks: Vec<bool> = points
        .iter()
        .map(|point| {
            points.iter().any(|other| takes_the_place(&space.pareto, &ranks, other, point))
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

/// The place of each trial in the ranking.
fn ranks(space: &SearchSpace, trials: &[Trial]) -> Vec<usize> {
    let mut ranks = vec![0; trials.len()];
    for (rank, index) in ranking(space, trials).into_iter().enumerate() {
        ranks[index] = rank;
    }
    ranks
}

fn point(space: &SearchSpace, trial: &Trial, met: Option<&Verification>) -> Option<ParetoPoint> {
    let on = |runs: &[Run]| -> Option<Vec<f64>> {
        space.pareto.iter().map(|axis| score::mean(runs, axis.as_str())).collect()
    };
    let searched = on(&trial.runs)?;
    let fresh = met.and_then(|met| on(&met.runs));
    let retest = match met {
        None => Retest::Untested,
        Some(met) if met.score.feasible && fresh.is_some() => Retest::Kept,
        Some(_) => Retest::Fallen,
    };
    let intervals = fresh.as_ref().zip(met).and_then(|(_, met)| {
        let each = space.pareto.iter().map(|axis| score::interval(&met.runs, axis.as_str()));
        each.collect::<Option<Vec<Interval>>>()
    });
    Some(ParetoPoint {
        trial: trial.index,
        values: fresh.unwrap_or_else(|| searched.clone()),
        searched,
        intervals: intervals.unwrap_or_default(),
        fresh_seeds: met.map_or(0, |met| met.runs.len()),
        retest,
        dominated: false,
        feasible: trial.score.feasible && retest != Retest::Fallen,
    })
}

/// The layers of the feasible `trials` on the seeds of the search, each with its trial: 1 for who
/// is beaten by none, 2 for who is beaten by those of layer 1 only, and so on. Equals have layers
/// of their own, the safest first.
pub(super) fn layers(space: &SearchSpace, trials: &[Trial]) -> Vec<(usize, u32)> {
    let mut points: Vec<ParetoPoint> = trials
        .iter()
        .filter(|trial| trial.score.feasible)
        .filter_map(|trial| point(space, trial, None))
        .collect();
    let ranks = ranks(space, trials);
    let losses = |point: &ParetoPoint| -> Vec<f64> {
        space.pareto.iter().zip(&point.searched).map(|(axis, &value)| loss(axis, value)).collect()
    };
    // Whoever beats another comes before it.
    points.sort_by(|left, right| {
        let pairs = losses(left).into_iter().zip(losses(right));
        pairs
            .map(|(left, right)| left.total_cmp(&right))
            .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            .then(ranks[left.trial].cmp(&ranks[right.trial]))
    });
    let mut layers: Vec<u32> = Vec::with_capacity(points.len());
    for (at, point) in points.iter().enumerate() {
        let before = points[..at].iter().zip(&layers);
        let beaten =
            before.filter(|(other, _)| takes_the_place(&space.pareto, &ranks, other, point));
        layers.push(1 + beaten.map(|(_, &layer)| layer).max().unwrap_or(0));
    }
    points.iter().map(|point| point.trial).zip(layers).collect()
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

/// A trial with its losses as shares of a box.
type Boxed = (usize, Vec<f64>);

/// The ends of each axis over `places`, as losses.
fn ends(axes: &[MetricName], places: &[&Vec<f64>]) -> Vec<(f64, f64)> {
    let along = |axis: usize| {
        let losses = places.iter().map(|place| loss(&axes[axis], place[axis]));
        losses.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    (0..axes.len()).map(along).collect()
}

/// `values` as losses in [0, 1] between `ends`.
fn shares(axes: &[MetricName], ends: &[(f64, f64)], values: &[f64]) -> Vec<f64> {
    let each = axes.iter().zip(ends).zip(values);
    each.map(
        |((axis, &(low, high)), &value)| {
            if high > low { (loss(axis, value) - low) / (high - low) } else { 0.0 }
        },
    )
    .collect()
}

/// The hypervolume of a study's frontier as it grew, each time as the trial that made it grow and
/// the share of one box: that between the best and the worst feasible figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volumes {
    /// As the search saw it, trial by trial.
    pub searched: Vec<(usize, f64)>,
    /// By what fresh seeds said, in the order in which points met them.
    pub retested: Vec<(usize, f64)>,
}

/// The hypervolumes of `points`, of which those in `met` met fresh seeds in this order. Empty for
/// more than three axes.
pub fn history(space: &SearchSpace, points: &[ParetoPoint], met: &[usize]) -> Volumes {
    let axes = &space.pareto;
    if axes.len() > 3 {
        return Volumes::default();
    }
    let mut searched: Vec<&ParetoPoint> = points.iter().filter(|p| p.was_feasible()).collect();
    searched.sort_by_key(|point| point.trial);
    let kept = |trial: &usize| {
        points.iter().find(|point| point.trial == *trial && point.retest == Retest::Kept)
    };
    let retested: Vec<&ParetoPoint> = met.iter().filter_map(kept).collect();
    let before = searched.iter().map(|point| &point.searched);
    let places: Vec<&Vec<f64>> = before.chain(retested.iter().map(|point| &point.values)).collect();
    let ends = ends(axes, &places);
    let place = |point: &ParetoPoint, values: &[f64]| (point.trial, shares(axes, &ends, values));
    Volumes {
        searched: grown(searched.into_iter().map(|point| place(point, &point.searched))),
        retested: grown(retested.into_iter().map(|point| place(point, &point.values))),
    }
}

/// The hypervolume after each of `places` that made it grow.
fn grown(places: impl Iterator<Item = Boxed>) -> Vec<(usize, f64)> {
    let mut front: Vec<Vec<f64>> = Vec::new();
    let mut grown: Vec<(usize, f64)> = Vec::new();
    for (trial, point) in places {
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

/// At most `most` of `untested`, each next the one that adds most hypervolume to those before it
/// and to the points that were tested; places on the seeds of the search. The first ones for more
/// than three axes.
pub(super) fn most_telling<'a>(
    space: &SearchSpace,
    tested: &[&ParetoPoint],
    mut untested: Vec<&'a ParetoPoint>,
    most: usize,
) -> Vec<&'a ParetoPoint> {
    let axes = &space.pareto;
    if axes.len() > 3 || untested.len() <= most {
        untested.truncate(most);
        return untested;
    }
    let all = tested.iter().copied().chain(untested.iter().copied());
    let mut ends = ends(axes, &all.map(|point| &point.searched).collect::<Vec<_>>());
    // The worst end of an axis counts too.
    for (low, high) in &mut ends {
        *high += 0.1 * (*high - *low);
    }
    let place = |point: &ParetoPoint| shares(axes, &ends, &point.searched);
    let mut taken: Vec<Vec<f64>> = tested.iter().map(|point| place(point)).collect();
    let mut chosen = Vec::with_capacity(most);
    while chosen.len() < most && !untested.is_empty() {
        let volume = |point: &ParetoPoint| {
            let with: Vec<Vec<f64>> = taken.iter().cloned().chain([place(point)]).collect();
            hypervolume(&with)
        };
        let volumes: Vec<f64> = untested.iter().map(|point| volume(point)).collect();
        let best = (0..volumes.len()).fold(0, |a, b| if volumes[b] > volumes[a] { b } else { a });
        let next = untested.remove(best);
        taken.push(place(next));
        chosen.push(next);
    }
    chosen
}

/// The trial at the knee of a frontier: of its points the one farthest below the straight line (of
/// more than two axes: the plane) through the corners in which one axis is at its best and the
/// others are at their worst, axes scaled to the frontier. `None` with fewer than three points, or
/// where none lies below.
pub fn knee(space: &SearchSpace, points: &[ParetoPoint]) -> Option<usize> {
    let front: Vec<&ParetoPoint> = points.iter().filter(|point| point.is_on_frontier()).collect();
    if front.len() < 3 {
        return None;
    }
    let places: Vec<&Vec<f64>> = front.iter().map(|point| &point.values).collect();
    let ends = ends(&space.pareto, &places);
    // In the frontier's own box the losses of such a corner sum up to the number of axes less one.
    let corner = space.pareto.len() as f64 - 1.0;
    let below = front.iter().map(|point| {
        let place = shares(&space.pareto, &ends, &point.values);
        (point.trial, corner - place.iter().sum::<f64>())
    });
    // Of two as deep the earlier trial, whatever the order of the points.
    let deeper = |best: (usize, f64), next: (usize, f64)| {
        let wins = next.1 > best.1 || (next.1 >= best.1 && next.0 < best.0);
        if wins { next } else { best }
    };
    below.reduce(deeper).filter(|(_, depth)| *depth > 1e-9).map(|(trial, _)| trial)
}

/// Whether `point` gives way to `other`.
fn takes_the_place(
    axes: &[MetricName],
    ranks: &[usize],
    other: &ParetoPoint,
    point: &ParetoPoint,
) -> bool {
    if other.trial == point.trial || other.standing() < point.standing() {
        return false;
    }
    let both_met = other.retest != Retest::Untested && point.retest != Retest::Untested;
    let (left, right) =
        if both_met { (&other.values, &point.values) } else { (&other.searched, &point.searched) };
    let pairs = || {
        let losses = |values: &[f64], at: usize| loss(&axes[at], values[at]);
        (0..axes.len()).map(move |at| (losses(left, at), losses(right, at)))
    };
    let stands_for_it =
        other.standing() > point.standing() || ranks[other.trial] < ranks[point.trial];
    pairs().all(|(left, right)| left <= right)
        && (stands_for_it || pairs().any(|(left, right)| left < right))
}

/// The figure as a number to make small.
pub fn loss(axis: &MetricName, value: f64) -> f64 {
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
    fn a_point_beaten_on_both_axes_gives_way_and_one_of_two_twins_stands_for_both() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let trials = [
            trial(&space, 0, 4, &[("ttft_p99_ms", 100.0), ("cost_per_hour", 4.0)]),
            trial(&space, 1, 5, &[("ttft_p99_ms", 120.0), ("cost_per_hour", 5.0)]),
            trial(&space, 2, 6, &[("ttft_p99_ms", 50.0), ("cost_per_hour", 6.0)]),
            trial(&space, 3, 7, &[("ttft_p99_ms", 50.0), ("cost_per_hour", 6.0)]),
            trial(&space, 4, 8, &[("cost_per_hour", 1.0)]),
        ];
        let points = points(&space, &trials, &[]);
        let marks: Vec<(usize, bool)> = points.iter().map(|p| (p.trial, p.dominated)).collect();
        assert_eq!(marks, [(2, false), (3, true), (0, false), (1, true)]);
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
        let points = points(&space, &trials, &[]);
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
        let points = points(&space, &trials, &[]);
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
        let grown = history(&space, &points, &[]).searched;
        assert_eq!(grown.iter().map(|(trial, _)| *trial).collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert!(grown.windows(2).all(|pair| pair[0].1 < pair[1].1), "{grown:?}");
    }

    #[test]
    fn unstable_trials_are_not_on_the_plane() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let mut one = trial(&space, 0, 4, &[("ttft_p99_ms", 1.0), ("cost_per_hour", 4.0)]);
        one.score.stable = false;
        assert!(points(&space, &[one], &[]).is_empty());
    }

    /// Points with what fresh seeds said of some of them: their TTFT, and whether they kept their
    /// promises.
    fn with_met(
        places: &[(f64, f64)],
        met: &[(usize, f64, bool)],
    ) -> (SearchSpace, Vec<ParetoPoint>) {
        let space = space(vec![knob("instances", int(1, 9))]);
        let of = |index, ttft, cost| {
            trial(&space, index, 1, &[("ttft_p99_ms", ttft), ("cost_per_hour", cost)])
        };
        let each = places.iter().enumerate();
        let trials: Vec<Trial> = each.map(|(index, &(ttft, cost))| of(index, ttft, cost)).collect();
        let met: Vec<Verification> = met
            .iter()
            .map(|&(index, ttft, kept)| {
                let fresh = [ttft - 1.0, ttft + 1.0].map(|ttft| of(index, ttft, places[index].1));
                let runs: Vec<Run> = fresh.into_iter().flat_map(|trial| trial.runs).collect();
                let mut score = crate::search::Score::of(&space, &runs);
                score.feasible = kept;
                let found = crate::search::Finding::Kept;
                let (round, error, difference) = (0, 0.01, None);
                Verification { trial: index, round, error, runs, score, difference, found }
            })
            .collect();
        let points = points(&space, &trials, &met.iter().collect::<Vec<_>>());
        (space, points)
    }

    fn frontier(points: &[ParetoPoint]) -> Vec<usize> {
        points.iter().filter(|p| p.is_on_frontier()).map(|p| p.trial).collect()
    }

    #[test]
    fn who_falls_gives_way_to_who_was_behind() {
        let places = [(100.0, 9.0), (110.0, 9.5), (400.0, 2.0), (420.0, 3.0)];
        assert_eq!(frontier(&with_met(&places, &[]).1), [0, 2]);
        let (_, points) = with_met(&places, &[(0, 105.0, true), (2, 600.0, false)]);
        assert_eq!(frontier(&points), [0, 3]);
        let fallen = points.iter().find(|point| point.trial == 2).expect("a point");
        assert!(fallen.retest == Retest::Fallen && !fallen.feasible);
        assert!(
            (fallen.values[0] - 600.0).abs() < 1e-9 && (fallen.searched[0] - 400.0).abs() < 1e-9
        );
    }

    #[test]
    fn like_is_compared_with_like() {
        // On fresh seeds the first is worse than the second looked in the search: both were seen
        // there, and there the first was better.
        let places = [(100.0, 9.0), (110.0, 9.0), (90.0, 9.5)];
        assert_eq!(frontier(&with_met(&places, &[(0, 130.0, true)]).1), [2, 0]);
        // Where both met fresh seeds these decide.
        let both = with_met(&places, &[(0, 130.0, true), (2, 135.0, true)]).1;
        assert_eq!(frontier(&both), [0]);
        let interval =
            both.iter().find(|p| p.trial == 0).map(|p| p.intervals[0]).expect("two runs");
        assert!(interval.low < 129.0 && interval.high > 131.0);
    }

    #[test]
    fn what_was_shown_gives_way_to_nothing_that_was_not() {
        let places = [(100.0, 9.0), (90.0, 8.0)];
        assert_eq!(frontier(&with_met(&places, &[(0, 100.0, true)]).1), [1, 0]);
        // And of equals the one that was shown stands for both.
        let twins = [(100.0, 9.0), (100.0, 9.0)];
        assert_eq!(frontier(&with_met(&twins, &[]).1), [0]);
        assert_eq!(frontier(&with_met(&twins, &[(1, 140.0, true)]).1), [1]);
        assert_eq!(frontier(&with_met(&twins, &[(0, 700.0, false)]).1), [1]);
    }

    #[test]
    fn layers_are_as_deep_as_the_chain_of_who_beats_whom() {
        let space = space(vec![knob("instances", int(1, 9))]);
        let places =
            [(300.0, 3.0), (100.0, 9.0), (100.0, 9.0), (120.0, 9.5), (310.0, 2.9), (600.0, 1.0)];
        let each = places.iter().enumerate().map(|(index, &(ttft, cost))| {
            trial(&space, index, 1, &[("ttft_p99_ms", ttft), ("cost_per_hour", cost)])
        });
        let mut layers = layers(&space, &each.collect::<Vec<_>>());
        layers.sort_unstable();
        assert_eq!(layers, [(0, 1), (1, 1), (2, 2), (3, 3), (4, 1)]);
    }

    #[test]
    fn the_hypervolume_on_fresh_seeds_counts_what_was_kept_in_the_same_box() {
        let places = [(450.0, 10.0), (400.0, 2.0), (100.0, 9.0), (50.0, 8.0)];
        let met = [(3, 900.0, false), (1, 440.0, true), (2, 100.0, true)];
        let (space, points) = with_met(&places, &met);
        let volumes = history(&space, &points, &[3, 1, 2]);
        let last = |grown: &[(usize, f64)]| grown.last().copied().expect("it grew");
        assert_eq!(volumes.retested.iter().map(|p| p.0).collect::<Vec<_>>(), [1, 2]);
        let (searched, retested) = (last(&volumes.searched).1, last(&volumes.retested).1);
        let by_hand = 0.025 + 0.125 * (350.0 - 10.0) / 400.0;
        assert!((retested - by_hand).abs() < 1e-9, "{retested} {by_hand}");
        assert!(searched > retested);
    }

    #[test]
    fn the_knee_of_three_axes_is_nearest_to_the_best_of_all() {
        let mut space = space(vec![knob("instances", int(1, 9))]);
        let parse =
            |name: &str| MetricName::parse(name, crate::search::scenarios::Scope::default());
        space.pareto.push(parse("tpot_p99_ms").expect("a metric"));
        let places =
            [[10.0, 90.0, 90.0], [90.0, 10.0, 90.0], [90.0, 90.0, 10.0], [30.0, 30.0, 30.0]];
        let each = places.iter().enumerate().map(|(index, &[ttft, cost, tpot])| {
            let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", cost), ("tpot_p99_ms", tpot)];
            trial(&space, index, 1, &figures)
        });
        let trials: Vec<Trial> = each.collect();
        assert_eq!(knee(&space, &points(&space, &trials, &[])), Some(3));
        assert_eq!(knee(&space, &points(&space, &trials[..3], &[])), None, "none lies below");
    }
}
