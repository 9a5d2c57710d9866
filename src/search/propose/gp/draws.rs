//! Candidates worth asking the surrogates about.

use super::features;
use crate::base::Rng;
use crate::search::candidate::{Candidate, KnobValue};
use crate::search::cube;
use crate::search::propose::random::mutate;
use crate::search::space::{Domain, SearchSpace};

/// A candidate as the surrogates see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The candidate.
    pub candidate: Candidate,
    /// Its features.
    pub point: Vec<f64>,
}

impl Entry {
    /// `candidate`, where the space allows it.
    pub fn of(space: &SearchSpace, candidate: Candidate) -> Option<Self> {
        space.allows(&candidate).then(|| Self { point: features(space, &candidate), candidate })
    }
}

/// Uniform candidates, and as many changes to each of `parents` in turn.
pub fn global(
    space: &SearchSpace,
    parents: &[&Candidate],
    (uniform, mutated): (usize, usize),
    rng: &mut Rng,
) -> Vec<Entry> {
    let mut found = Vec::with_capacity(uniform + mutated);
    for _ in 0..uniform {
        let point: Vec<f64> = space.knobs.iter().map(|_| rng.uniform()).collect();
        found.extend(Entry::of(space, cube::decode(space, &point)));
    }
    for index in 0..if parents.is_empty() { 0 } else { mutated } {
        let child = mutate(space, parents[index % parents.len()], rng);
        found.extend(Entry::of(space, child));
    }
    found
}

/// Candidates in the box of `side` around `centre`, narrower along short length scales. Of many
/// knobs only some move at a time.
pub fn around(
    space: &SearchSpace,
    centre: &Candidate,
    (side, scales): (f64, &[f64]),
    count: usize,
    rng: &mut Rng,
) -> Vec<Entry> {
    let width = space.knobs.len();
    let mean = scales.iter().map(|scale| scale.ln()).sum::<f64>() / width as f64;
    let sides: Vec<f64> =
        scales.iter().map(|scale| side * (scale.ln() - mean).exp().clamp(0.3, 3.0)).collect();
    let share = (8.0 / width as f64).min(1.0);
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let mut values = centre.values().to_vec();
        let always = rng.below(width as u64) as usize;
        for (index, knob) in space.knobs.iter().enumerate() {
            if index == always || rng.uniform() < share {
                values[index] = moved(&knob.domain, values[index], sides[index], rng);
            }
        }
        found.extend(Entry::of(space, Candidate::canonical(space, values)));
    }
    found
}

/// `value` moved within `side` along its axis; a choice drawn again as often as the side is wide.
fn moved(domain: &Domain, value: KnobValue, side: f64, rng: &mut Rng) -> KnobValue {
    let jump = rng.uniform() - 0.5;
    match domain {
        Domain::Choice { .. } if rng.uniform() < side.min(0.5) => {
            cube::value_at(domain, rng.uniform())
        }
        Domain::Choice { .. } => value,
        _ => {
            let at = cube::value_at(domain, cube::coordinate(domain, value) + side * jump);
            if at == value { next(domain, value, jump) } else { at }
        }
    }
}

/// The neighbour of an integer; any other value stays.
fn next(domain: &Domain, value: KnobValue, towards: f64) -> KnobValue {
    match (domain, value) {
        (Domain::Int { low, high, step, .. }, KnobValue::Int(count)) => {
            let other = if towards < 0.0 { count - step } else { count + step };
            KnobValue::Int(if (*low..=*high).contains(&other) { other } else { count })
        }
        _ => value,
    }
}

/// `from` with one or two knobs moved by about `step` along their axes.
pub fn nearby(space: &SearchSpace, from: &Candidate, step: f64, rng: &mut Rng) -> Option<Entry> {
    let mut values = from.values().to_vec();
    for _ in 0..=rng.below(2) {
        let index = rng.below(values.len() as u64) as usize;
        let domain = &space.knobs[index].domain;
        values[index] = if let Domain::Choice { .. } = domain {
            cube::value_at(domain, rng.uniform())
        } else {
            let jump = step * rng.normal();
            let at = cube::coordinate(domain, values[index]) + jump;
            let moved = cube::value_at(domain, at);
            if moved == values[index] { next(domain, moved, jump) } else { moved }
        };
    }
    Entry::of(space, Candidate::canonical(space, values))
}
