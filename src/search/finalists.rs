//! Which candidates meet fresh seeds, and in which order.

use std::cmp::Ordering;

use super::candidate::Candidate;
use super::cube;
use super::odds::Odds;
use super::space::{Domain, SearchSpace};
use super::state::Trial;

/// The most candidates that meet fresh seeds before there is a winner.
pub(super) const FINALISTS_MAX: usize = RUNGS.len() + STEPS.len();
/// Numbers closer than this share of their axis are as good as equal.
const NEAR: f64 = 0.05;
/// A candidate this much further inside of its worst limit, on the scale of violations, may keep
/// what the other broke.
const SAFER: f64 = 0.1;

/// The odds that a finalist must have, first to last. The first are a bold try each for something
/// cheaper; the error of a try shrinks with each before it, so that boldness is not for long.
const RUNGS: [f64; 7] = [0.1, 0.25, 0.4, 0.6, 0.8, 0.9, 0.95];
/// By which share of the worst objective before them the rest are worse at least. All candidates
/// met the same few seeds, so that they agree in what was luck there, and their odds with them.
const STEPS: [f64; 5] = [0.02, 0.04, 0.08, 0.16, 0.32];
/// The odds that those must have.
const SAFE: f64 = 0.8;

/// Odds that give a chance to whoever is infeasible on the seeds of the search by bad luck.
const CHANCE: f64 = 0.05;

/// The trials that meet fresh seeds, first to last: each the best by objective, then by distance
/// from the limits, whose [`Odds`] to pass are those of its rung; after the last rung each a good
/// deal worse by objective than all before it; where there is none, whoever has the best odds. One
/// that is as good as equal to one before it comes after all that are not: where the first failed,
/// so would it.
///
/// The order depends on the search alone and on nothing that fresh seeds tell.
pub(super) fn finalists(space: &SearchSpace, trials: &[Trial]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..trials.len()).filter(|&at| trials[at].score.stable).collect();
    let odds = Odds::new(space, trials, &left);
    let first = odds.after(0, 0);
    let mut left: Vec<(usize, usize)> = left.drain(..).enumerate().collect();
    left.retain(|&(at, trial)| trials[trial].score.feasible || first[at] >= CHANCE);
    left.sort_by(|left, right| by_objective(space, &trials[left.1], &trials[right.1]));
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < FINALISTS_MAX && !left.is_empty() {
        let odds = odds.after(0, chosen.len() as u32);
        let alike = |trial: usize| {
            chosen.iter().any(|&other| is_alike(space, &trials[other], &trials[trial]))
        };
        let differs = |&at: &usize| !alike(left[at].1);
        let (rung, least) = demanded(space, trials, &chosen);
        let is_up = |at: usize| to_minimize(space, &trials[left[at].1]) >= least;
        let bold =
            (0..left.len()).filter(|&at| odds[left[at].0] >= rung && is_up(at)).find(differs);
        let best = |places: Vec<usize>| {
            let better = |best: usize, at: usize| {
                if odds[left[at].0] > odds[left[best].0] { at } else { best }
            };
            places.into_iter().reduce(better)
        };
        let at = bold
            .or_else(|| best((0..left.len()).filter(differs).collect()))
            .or_else(|| best((0..left.len()).collect()));
        chosen.push(left.remove(at.expect("somebody is left")).1);
    }
    chosen
}

/// What is demanded of the finalist after those `chosen`: its odds, and its objective at least, to
/// be made small.
fn demanded(space: &SearchSpace, trials: &[Trial], chosen: &[usize]) -> (f64, f64) {
    if let Some(&rung) = RUNGS.get(chosen.len()) {
        return (rung, f64::NEG_INFINITY);
    }
    let objectives = chosen.iter().map(|&trial| to_minimize(space, &trials[trial]));
    let worst = objectives.fold(f64::NEG_INFINITY, f64::max);
    (SAFE, worst + STEPS[chosen.len() - RUNGS.len()] * worst.abs())
}

/// Which of two comes first: the better objective, then the larger distance from the limits, then
/// who was tried first.
fn by_objective(space: &SearchSpace, left: &Trial, right: &Trial) -> Ordering {
    let objectives = to_minimize(space, left).total_cmp(&to_minimize(space, right));
    objectives
        .then(outermost(space, left).total_cmp(&outermost(space, right)))
        .then(left.index.cmp(&right.index))
}

/// The objective of `trial`, to be made small; infinite where it has none.
fn to_minimize(space: &SearchSpace, trial: &Trial) -> f64 {
    trial.score.objective.map_or(f64::INFINITY, |value| space.objective.to_minimize(value))
}

/// How far `trial` is from its nearest limit: negative inside.
fn outermost(space: &SearchSpace, trial: &Trial) -> f64 {
    trial.score.violations(space).into_iter().fold(f64::NEG_INFINITY, f64::max)
}

/// Whether `trial` differs from one `before` it by nothing that matters.
fn is_alike(space: &SearchSpace, before: &Trial, trial: &Trial) -> bool {
    is_near(space, &before.candidate, &trial.candidate)
        && outermost(space, trial) > outermost(space, before) - SAFER
}

fn is_near(space: &SearchSpace, left: &Candidate, right: &Candidate) -> bool {
    let pairs = left.values().iter().zip(right.values()).enumerate();
    pairs.map(|(index, pair)| (&space.knobs[index], index, pair)).all(|(knob, index, pair)| {
        let (&a, &b) = pair;
        let active = left.is_active(space, index);
        let numbers = !matches!(knob.domain, Domain::Choice { .. }) && !knob.counts_instances;
        let apart = || cube::coordinate(&knob.domain, a) - cube::coordinate(&knob.domain, b);
        active == right.is_active(space, index) && (a == b || numbers && apart().abs() < NEAR)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::candidate::KnobValue;
    use crate::search::space::tests::{choice, int, knob, space};
    use crate::search::state::tests::trial_of;

    #[test]
    fn what_is_as_good_as_equal_to_a_better_one_comes_later() {
        let space = space(vec![
            knob("pools.a.instances", int(1, 9)),
            knob("scheduler", choice(&["fcfs", "sjf"])),
            knob("batching", int(0, 1000)),
        ]);
        let tried = [
            (3, 0, 500, 400.0),
            (3, 0, 510, 410.0),
            (3, 0, 900, 420.0),
            (3, 1, 505, 430.0),
            (4, 0, 500, 300.0),
            (2, 0, 500, 800.0),
        ];
        let trials: Vec<Trial> = tried
            .iter()
            .enumerate()
            .map(|(index, &(instances, scheduler, batching, ttft))| {
                let values = vec![
                    KnobValue::Int(instances),
                    KnobValue::Choice(scheduler),
                    KnobValue::Int(batching),
                ];
                let candidate = Candidate::canonical(&space, values);
                let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", instances as f64)];
                trial_of(index, candidate, &space, &figures)
            })
            .collect();
        assert_eq!(finalists(&space, &trials), [0, 2, 3, 4, 1]);
    }

    #[test]
    fn what_all_owe_to_the_seeds_of_the_search_does_not_take_every_place() {
        let options = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
        let space =
            space(vec![knob("pools.a.instances", int(1, 9)), knob("routing", choice(&options))]);
        let of = |index: usize, instances: i64, routing: usize| {
            let values = vec![KnobValue::Int(instances), KnobValue::Choice(routing)];
            let candidate = Candidate::canonical(&space, values);
            let ttft = 900.0 / instances as f64 + routing as f64;
            let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", instances as f64)];
            trial_of(index, candidate, &space, &figures)
        };
        let mut trials: Vec<Trial> =
            (0..options.len()).map(|routing| of(routing, 3, routing)).collect();
        trials
            .extend((4..8).zip(options.len()..).map(|(instances, index)| of(index, instances, 0)));
        let chosen = finalists(&space, &trials);
        assert_eq!(chosen, [0, 1, 2, 3, 4, 5, 6, 14, 15, 16, 17, 7]);
    }

    #[test]
    fn a_near_but_safer_one_keeps_its_place() {
        let space = space(vec![knob("batching", int(0, 1000))]);
        let of = |index, value, ttft, cost| {
            let candidate = Candidate::canonical(&space, vec![KnobValue::Int(value)]);
            trial_of(index, candidate, &space, &[("ttft_p99_ms", ttft), ("cost_per_hour", cost)])
        };
        let trials = [of(0, 500, 480.0, 1.0), of(1, 501, 300.0, 2.0), of(2, 800, 300.0, 3.0)];
        assert_eq!(finalists(&space, &trials), [0, 1, 2]);
    }
}
