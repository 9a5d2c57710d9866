//! Chance: uniform points, and small changes to the best.

use super::{Ask, Fresh, Origin, Proposer};
use crate::base::{Rng, Stream};
use crate::search::candidate::{Candidate, KnobValue};
use crate::search::cube;
use crate::search::space::{Domain, SearchSpace};
use crate::search::state::ranking;

/// Uniform over the unit cube. Where points repeat themselves and the space is small, what is
/// left of it is counted through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

/// Changes one to three knobs of one of the best trials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutation;

/// Tries per candidate before giving up on chance.
const TRIES: usize = 200;
/// Spaces up to this size are counted through.
const COUNTABLE: u64 = 200_000;
/// How many of the best are changed.
const PARENTS: usize = 5;

impl Proposer for Random {
    fn origin(&self) -> Origin {
        Origin::Random
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let mut rng = stream(ask, 0);
        let mut fresh = Fresh::new(ask);
        let mut found = Vec::with_capacity(ask.count);
        for _ in 0..ask.count * TRIES {
            let point: Vec<f64> = ask.space.knobs.iter().map(|_| rng.uniform()).collect();
            let candidate = cube::decode(ask.space, &point);
            if fresh.take(&candidate) {
                found.push(candidate);
            }
            if found.len() == ask.count {
                return found;
            }
        }
        if let Some(size) = ask.space.size().filter(|&size| size <= COUNTABLE) {
            let first = rng.below(size);
            let rest = (0..size).map(|step| nth(ask.space, (first + step) % size));
            let missing = ask.count - found.len();
            found.extend(rest.filter(|candidate| fresh.take(candidate)).take(missing));
        }
        found
    }
}

impl Proposer for Mutation {
    fn origin(&self) -> Origin {
        Origin::Mutation
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let mut rng = stream(ask, 1);
        let mut fresh = Fresh::new(ask);
        let mut found = Vec::with_capacity(ask.count);
        let parents: Vec<usize> =
            ranking(ask.space, ask.history).into_iter().take(PARENTS).collect();
        if parents.is_empty() {
            return found;
        }
        for _ in 0..ask.count * TRIES {
            let parent = parents[rng.below(parents.len() as u64) as usize];
            let child = mutate(ask.space, &ask.history[parent].candidate, &mut rng);
            if fresh.take(&child) {
                found.push(child);
            }
            if found.len() == ask.count {
                break;
            }
        }
        found
    }
}

/// `parent` with one to three knobs changed.
pub(super) fn mutate(space: &SearchSpace, parent: &Candidate, rng: &mut Rng) -> Candidate {
    let mut values = parent.values().to_vec();
    for _ in 0..=rng.below(3) {
        let index = rng.below(values.len() as u64) as usize;
        let domain = &space.knobs[index].domain;
        let coordinate = match domain {
            Domain::Choice { .. } => rng.uniform(),
            _ => cube::coordinate(domain, values[index]) + 0.15 * rng.normal(),
        };
        values[index] = cube::value_at(domain, coordinate);
    }
    Candidate::canonical(space, values)
}

/// The candidate of position `index` when counting through a space without floats.
fn nth(space: &SearchSpace, mut index: u64) -> Candidate {
    let values = space.knobs.iter().map(|knob| {
        let levels = knob.domain.levels().unwrap_or(1);
        let level = index % levels;
        index /= levels;
        match &knob.domain {
            Domain::Int { low, step, .. } => KnobValue::Int(low + step * level.cast_signed()),
            Domain::Float { low, .. } => KnobValue::Float(*low),
            Domain::Choice { .. } => KnobValue::Choice(level as usize),
        }
    });
    Candidate::canonical(space, values.collect())
}

/// The stream of a batch; what is already in the batch moves it on, so that two askers of one
/// batch draw different numbers.
fn stream(ask: &Ask<'_>, purpose: u64) -> Rng {
    let index = (ask.batch * 2 + purpose) * 1024 + ask.taken.len() as u64;
    Rng::new(ask.space.seeds.base, Stream::Proposals, index)
}
