//! Which candidates meet fresh seeds, and in which order.

use super::candidate::Candidate;
use super::cube;
use super::space::{Domain, SearchSpace};
use super::state::{Trial, ranking};

/// The most candidates that meet fresh seeds before there is a winner.
const FINALISTS_MAX: usize = 12;
/// Numbers closer than this share of their axis are as good as equal.
const NEAR: f64 = 0.05;
/// A candidate this much further inside of its worst limit, on the scale of violations, may keep
/// what the other broke.
const SAFER: f64 = 0.1;

/// The trials that meet fresh seeds, first to last: by objective, then by distance from the
/// limits. One that is as good as equal to one before it comes after all that are not: where the
/// first failed, so would it.
///
/// The order depends on the search alone and on nothing that fresh seeds tell.
pub(super) fn finalists(space: &SearchSpace, trials: &[Trial]) -> Vec<usize> {
    let mut first: Vec<usize> = Vec::new();
    let mut later = Vec::new();
    for index in ranking(space, trials) {
        let trial = &trials[index];
        if !trial.score.feasible {
            continue;
        }
        if first.iter().any(|&other| is_alike(space, &trials[other], trial)) {
            later.push(index);
        } else {
            first.push(index);
        }
    }
    first.truncate(FINALISTS_MAX);
    first.extend(later);
    first.truncate(FINALISTS_MAX);
    first
}

/// Whether `trial` differs from one `before` it by nothing that matters.
fn is_alike(space: &SearchSpace, before: &Trial, trial: &Trial) -> bool {
    let inside =
        |trial: &Trial| trial.score.violations(space).into_iter().fold(f64::NEG_INFINITY, f64::max);
    is_near(space, &before.candidate, &trial.candidate) && inside(trial) > inside(before) - SAFER
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
