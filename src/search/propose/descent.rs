//! Deterministic steps towards a cheaper fleet.
//!
//! What a fleet costs is known without simulating it, and whether it keeps its promises is nearly
//! always monotone in its instances. So the boundary of a family (candidates that differ in one
//! instance count only) is found by splitting the gap between the largest count that failed and
//! the smallest that held; then one instance less is tried together with one other knob moved.
//! Where the objective is not the fleet's cost, single-knob neighbours of the best are tried.

use super::{Ask, Fresh, Origin, Proposer};
use crate::search::candidate::{Candidate, KnobValue};
use crate::search::cube;
use crate::search::objective::Direction;
use crate::search::space::{Domain, SearchSpace};
use crate::search::state::{Trial, ranking};

/// Steps from the best candidates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descent;

/// The best family and its rivals.
const FAMILIES: usize = 4;
/// How far a number moves along its axis.
pub const STEP: f64 = 0.15;
/// Figures that grow with every instance, whatever else is decided.
const FLEET_COSTS: [&str; 3] = ["cost_per_hour", "instances", "gpus"];

impl Proposer for Descent {
    fn origin(&self) -> Origin {
        Origin::Descent
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let mut fresh = Fresh::new(ask);
        let mut found = Vec::with_capacity(ask.count);
        let order = ranking(ask.space, ask.history);
        let best: Vec<&Trial> = order.iter().map(|&index| &ask.history[index]).collect();
        let counts: Vec<usize> = ask.space.instance_knobs().collect();
        let costs = costs_instances(ask.space) && !counts.is_empty();
        let Some(first) = best.first() else { return found };
        if costs {
            for &knob in &counts {
                let split = split(ask, first, knob, ask.count - found.len());
                found.extend(split.into_iter().filter(|candidate| fresh.take(candidate)));
            }
            let rivals = rivals(ask.space, &best, &counts).into_iter();
            let missing = ask.count - found.len();
            found.extend(rivals.filter(|candidate| fresh.take(candidate)).take(missing));
        }
        let bases: Vec<Candidate> = if costs && first.score.feasible {
            counts.iter().filter_map(|&knob| one_less(ask.space, &first.candidate, knob)).collect()
        } else if costs {
            Vec::new()
        } else {
            vec![first.candidate.clone()]
        };
        let neighbours = bases.iter().flat_map(|base| {
            std::iter::once(base.clone()).chain(neighbours(ask.space, base, costs))
        });
        let missing = ask.count - found.len();
        found.extend(neighbours.filter(|candidate| fresh.take(candidate)).take(missing));
        found
    }
}

/// Whether fewer instances are always cheaper.
pub(in crate::search) fn costs_instances(space: &SearchSpace) -> bool {
    space.objective.direction == Direction::Minimize
        && FLEET_COSTS.contains(&space.objective.metric.as_str())
}

/// The next best families, each with one instance less than the best needs: only there can they
/// win.
fn rivals(space: &SearchSpace, best: &[&Trial], counts: &[usize]) -> Vec<Candidate> {
    let mut families: Vec<&Trial> = Vec::new();
    for trial in best.iter().filter(|trial| trial.score.feasible) {
        let is_known = |known: &&Trial| {
            counts.iter().any(|&knob| same_family(space, &known.candidate, &trial.candidate, knob))
        };
        if families.len() < FAMILIES && !families.iter().any(is_known) {
            families.push(trial);
        }
    }
    let Some((first, rest)) = families.split_first() else { return Vec::new() };
    let less = |trial: &&Trial| {
        counts
            .iter()
            .filter_map(|&knob| {
                let held = first.candidate.values()[knob];
                one_less(space, &trial.candidate.with(space, knob, held), knob)
            })
            .collect::<Vec<_>>()
    };
    rest.iter().flat_map(less).collect()
}

fn same_family(space: &SearchSpace, left: &Candidate, right: &Candidate, knob: usize) -> bool {
    left.with(space, knob, right.values()[knob]) == *right
}

/// Up to `wanted` counts that split the gap in which the family of `trial` begins to hold.
fn split(ask: &Ask<'_>, trial: &Trial, knob: usize, wanted: usize) -> Vec<Candidate> {
    let Domain::Int { low, high, step, .. } = ask.space.knobs[knob].domain else {
        return Vec::new();
    };
    let count_of = |candidate: &Candidate| match candidate.values()[knob] {
        KnobValue::Int(count) => count,
        _ => low,
    };
    let (mut failed, mut held) = (low - step, high + step);
    let family = ask
        .history
        .iter()
        .filter(|other| same_family(ask.space, &other.candidate, &trial.candidate, knob));
    let mut counts: Vec<(i64, bool)> =
        family.map(|other| (count_of(&other.candidate), other.score.feasible)).collect();
    counts.sort_unstable();
    if let Some(&(count, _)) = counts.iter().find(|(_, feasible)| *feasible) {
        held = count;
    }
    let below = counts.iter().rev().find(|(count, feasible)| !feasible && *count < held);
    if let Some(&(count, _)) = below {
        failed = count;
    }
    let gap = (held - failed) / step;
    let parts = (wanted.cast_signed() as i64 + 1).min(gap);
    let splits = (1..parts).map(|part| held - step * (gap * part).div_euclid(parts).max(1));
    splits.map(|count| trial.candidate.with(ask.space, knob, KnobValue::Int(count))).collect()
}

/// `candidate` with one step less of the count `knob`, where there is one.
pub(in crate::search) fn one_less(
    space: &SearchSpace,
    candidate: &Candidate,
    knob: usize,
) -> Option<Candidate> {
    let (KnobValue::Int(count), Domain::Int { low, step, .. }) =
        (candidate.values()[knob], &space.knobs[knob].domain)
    else {
        return None;
    };
    (count - step >= *low).then(|| candidate.with(space, knob, KnobValue::Int(count - step)))
}

/// `base` with one knob moved: numbers a step down and up, choices to each other option. Counts
/// of instances stay where `fixed`.
fn neighbours(space: &SearchSpace, base: &Candidate, fixed: bool) -> Vec<Candidate> {
    let mut neighbours = Vec::new();
    for (index, knob) in space.knobs.iter().enumerate() {
        if !base.is_active(space, index) || fixed && knob.counts_instances {
            continue;
        }
        let value = base.values()[index];
        if let Domain::Choice { labels } = &knob.domain {
            let others = (0..labels.len()).map(KnobValue::Choice).filter(|&other| other != value);
            neighbours.extend(others.map(|other| base.with(space, index, other)));
        } else {
            neighbours.extend([-STEP, STEP].iter().filter_map(|s| stepped(space, base, index, *s)));
        }
    }
    neighbours
}

/// `base` with knob `index`, a number, moved by `share` of its axis, or by as many times that as
/// it takes to be another candidate; `None` where none lies there.
pub(in crate::search) fn stepped(
    space: &SearchSpace,
    base: &Candidate,
    index: usize,
    share: f64,
) -> Option<Candidate> {
    let (domain, value) = (&space.knobs[index].domain, base.values()[index]);
    let times = (1.0 / share.abs()).ceil() as u32;
    let moves = (1..=times).map(|times| moved(domain, value, share * f64::from(times)));
    moves.map(|other| base.with(space, index, other)).find(|other| other != base)
}

/// `value` moved by `share` of its axis, at least to its neighbour.
fn moved(domain: &Domain, value: KnobValue, share: f64) -> KnobValue {
    let far = cube::value_at(domain, cube::coordinate(domain, value) + share);
    match (domain, value) {
        (Domain::Int { low, high, step, .. }, KnobValue::Int(count)) if far == value => {
            let next = if share < 0.0 { count - step } else { count + step };
            KnobValue::Int(if (*low..=*high).contains(&next) { next } else { count })
        }
        _ => far,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::propose::tests::ask_after;
    use crate::search::space::tests::{choice, int, knob, space};
    use crate::search::state::tests::trial;

    fn fleet() -> SearchSpace {
        space(vec![
            knob("pools.a.instances", int(4, 32)),
            knob("scheduler", choice(&["fcfs", "sjf"])),
        ])
    }

    fn counts(history: &[(i64, f64)], count: usize) -> Vec<i64> {
        let space = fleet();
        let trials: Vec<Trial> = history
            .iter()
            .enumerate()
            .map(|(index, &(instances, ttft))| {
                let figures = [("cost_per_hour", instances as f64), ("ttft_p99_ms", ttft)];
                trial(&space, index, instances, &figures)
            })
            .collect();
        let ask = ask_after(&space, &trials, count);
        let found = Descent.propose(&ask).into_iter();
        found.map(|candidate| candidate.number(0).expect("a count") as i64).collect()
    }

    #[test]
    fn the_gap_between_failed_and_held_is_split() {
        assert_eq!(counts(&[(8, 900.0), (24, 100.0)], 1), [16]);
        assert_eq!(counts(&[(8, 900.0), (24, 100.0)], 3), [20, 16, 12]);
        assert_eq!(counts(&[(24, 100.0)], 1), [14]);
    }

    #[test]
    fn where_nothing_holds_the_fleet_grows() {
        assert_eq!(counts(&[(8, 900.0), (5, 1900.0)], 1), [21]);
        assert_eq!(counts(&[(32, 900.0)], 1), Vec::<i64>::new());
    }

    #[test]
    fn at_the_boundary_one_instance_less_is_tried_with_another_knob_moved() {
        assert_eq!(counts(&[(12, 900.0), (13, 100.0)], 2), [12]);
    }

    #[test]
    fn splitting_alone_finds_the_boundary_in_few_steps() {
        let holds = |instances: i64| if instances >= 13 { 100.0 } else { 900.0 };
        let mut history = vec![(32, 100.0)];
        for _ in 0..5 {
            for instances in counts(&history, 1) {
                history.push((instances, holds(instances)));
            }
        }
        assert!(history.contains(&(13, 100.0)) && history.contains(&(12, 900.0)), "{history:?}");
    }
}
