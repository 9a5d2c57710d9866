//! Who decides what to try next.
//!
//! A batch is a pure function of the space, the proposer and the trials before it:
//!
//! 1. The start: the template's own values, then a space-filling design, about two points per
//!    knob, at most sixteen and at most a third of the budget.
//! 2. After three trials per knob up to half of each batch, of batches of one every other, are
//!    descents ([`descent`]): deterministic steps from the best candidates towards fewer
//!    instances. The rest comes from the proposer.
//! 3. The last batch of the budget prefers descents altogether, so that what wins is locally
//!    minimal wherever the budget allows.
//! 4. Whatever the proposer does not fill is filled by mutations of the best and random points.

pub mod descent;
pub mod ego;
pub mod gp;
pub mod random;
pub mod sobol;
pub mod training;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::evaluate::Foresight;
use super::space::{SearchSpace, Seek};
use super::state::{Trial, evaluations_left};

/// Where a candidate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The template's own values.
    Template,
    /// The space-filling start.
    Design,
    /// The Sobol sequence.
    Sobol,
    /// Chance.
    Random,
    /// A change to one of the best.
    Mutation,
    /// Bayesian optimization by `egobox-ego`.
    Ego,
    /// Bayesian optimization by [`gp`].
    Gp,
    /// A step from one of the best towards fewer instances.
    Descent,
    /// One step from the winner, for its certificate.
    Neighbour,
}

/// A candidate to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The candidate.
    pub candidate: Candidate,
    /// Where it came from.
    pub by: Origin,
}

/// What a proposer may know. There is no hidden state, so that resuming is replaying.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The space.
    pub space: &'a SearchSpace,
    /// Every trial so far, in order.
    pub history: &'a [Trial],
    /// Candidates already in this batch.
    pub taken: &'a [Candidate],
    /// How many are wanted; at least 1.
    pub count: usize,
    /// Counts the batches of the study from 0.
    pub batch: u64,
    /// What is certain about candidates.
    pub foresight: Foresight<'a>,
}

/// Proposes candidates.
///
/// They lie in the space, keep its relations, differ from each other and from all in `history`
/// and `taken`, and depend only on the question: on no clock, thread or earlier call. There may be
/// fewer than asked for, never more.
pub trait Proposer: std::fmt::Debug + Send {
    /// Where its candidates come from.
    fn origin(&self) -> Origin;

    /// Candidates to try next.
    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate>;

    /// By which share of itself the best candidate that could be proposed is expected to make the
    /// objective better; `None` where the proposer expects nothing in particular.
    fn gain(&self, _ask: &Ask<'_>) -> Option<f64> {
        None
    }
}

/// The proposers that can be asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProposerKind {
    /// The Sobol sequence alone.
    Sobol,
    /// Chance alone.
    Random,
    /// Bayesian optimization by `egobox-ego` as it is.
    Ego,
    /// Bayesian optimization made for serving fleets.
    #[default]
    Gp,
}

impl ProposerKind {
    /// Every proposer with its name.
    pub const ALL: [(&'static str, Self); 4] =
        [("sobol", Self::Sobol), ("random", Self::Random), ("ego", Self::Ego), ("gp", Self::Gp)];

    /// Its name on the command line and in the journal.
    pub fn name(self) -> &'static str {
        let listed = Self::ALL.iter().find(|(_, kind)| *kind == self);
        listed.map_or("gp", |(name, _)| name)
    }

    /// The proposer.
    pub fn proposer(self) -> Box<dyn Proposer> {
        match self {
            Self::Sobol => Box::new(sobol::Sobol),
            Self::Random => Box::new(random::Random),
            Self::Ego => Box::new(ego::Ego),
            Self::Gp => Box::new(gp::Gp::default()),
        }
    }
}

/// Candidates that were seen, to propose none twice.
#[derive(Clone, Debug)]
pub struct Fresh<'a> {
    space: &'a SearchSpace,
    foresight: Foresight<'a>,
    seen: BTreeSet<u64>,
}

impl<'a> Fresh<'a> {
    /// Nothing of `ask`'s history or batch is fresh.
    pub fn new(ask: &Ask<'a>) -> Self {
        let history = ask.history.iter().map(|trial| &trial.candidate);
        let seen = history.chain(ask.taken).map(Candidate::hash).collect();
        Self { space: ask.space, foresight: ask.foresight, seen }
    }

    /// Whether `candidate` was never tried.
    pub fn is_new(&self, candidate: &Candidate) -> bool {
        !self.seen.contains(&candidate.hash())
    }

    /// Whether `candidate` may keep its promises, for all that is known beforehand.
    pub fn has_a_chance(&self, candidate: &Candidate) -> bool {
        self.foresight.hopeless(candidate).is_none()
    }

    /// Whether `candidate` may be tried, has a chance and never was tried; from now on it was.
    pub fn take(&mut self, candidate: &Candidate) -> bool {
        self.space.allows(candidate)
            && self.seen.insert(candidate.hash())
            && self.has_a_chance(candidate)
    }
}

/// The most candidates of a start: what many knobs do is learnt sooner by looking for the best.
const START_MAX: usize = 16;
/// Trials per knob before steps from the best take their half of each batch: where there are many
/// knobs, the first good candidate is far from the best.
const TRIALS_BEFORE_DESCENTS: usize = 3;

/// How many candidates the start has: about two per knob, at most a third of the budget, from two
/// to sixteen.
pub fn start_count(space: &SearchSpace) -> usize {
    let third = space.budget.evaluations as usize / 3;
    (2 * space.knobs.len() + 2).min(third).clamp(2, START_MAX)
}

/// A study as the next batch sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The space.
    pub space: &'a SearchSpace,
    /// Every trial so far, in order.
    pub history: &'a [Trial],
    /// Counts the batches of the study from 0.
    pub batch: u64,
    /// What is certain about candidates.
    pub foresight: Foresight<'a>,
}

impl<'a> Sight<'a> {
    fn ask<'b>(&self, taken: &'b [Candidate], count: usize) -> Ask<'b>
    where
        'a: 'b,
    {
        let Self { space, history, batch, foresight } = *self;
        Ask { space, history, taken, count, batch, foresight }
    }

    /// The next batch; empty where nothing is left to try or the budget is spent.
    pub fn next_batch(&self, proposer: &dyn Proposer) -> Vec<Proposal> {
        let Self { space, history, .. } = *self;
        let left = evaluations_left(space, history);
        let size = space.batch.min(left);
        let mut proposals: Vec<Proposal> = Vec::with_capacity(size);
        let start = start_count(space);
        if history.len() < start {
            self.design(size.min(start - history.len()), &mut proposals);
            return proposals;
        }
        let is_early = history.len() < TRIALS_BEFORE_DESCENTS * space.knobs.len();
        // Batches of one alternate.
        let half = if self.batch.is_multiple_of(2) { size / 2 } else { size.div_ceil(2) };
        let descents = match () {
            () if left <= space.batch => size,
            () if is_early => 0,
            () => half,
        };
        if space.seek == Seek::Optimum {
            self.extend(&descent::Descent, descents, &mut proposals);
        }
        self.extend(proposer, size, &mut proposals);
        self.extend(&random::Mutation, size, &mut proposals);
        self.extend(&random::Random, size, &mut proposals);
        self.largest_first(&mut proposals);
        proposals
    }

    /// Puts the fleets first that are known to be large: they keep up where others are given up,
    /// so that their runs last longest, and threads end a batch together if those begin it.
    fn largest_first(&self, proposals: &mut [Proposal]) {
        let objective = |proposal: &Proposal| self.foresight.objective(&proposal.candidate);
        proposals.sort_by_cached_key(|proposal| {
            // Costs and counts are not negative: their bits are ordered like they are.
            std::cmp::Reverse(objective(proposal).unwrap_or(0.0).to_bits())
        });
    }

    /// What one more evaluation is expected to gain, as a share of the objective; `None` before the
    /// end of the start, and where `proposer` does not know.
    pub fn gain(&self, proposer: &dyn Proposer) -> Option<f64> {
        let has_begun = self.history.len() >= start_count(self.space);
        has_begun.then(|| proposer.gain(&self.ask(&[], 1))).flatten()
    }

    /// The next points of the start.
    fn design(&self, count: usize, proposals: &mut Vec<Proposal>) {
        if self.history.is_empty()
            && let Some(candidate) = self.space.start()
        {
            proposals.push(Proposal { candidate, by: Origin::Template });
        }
        let before = proposals.len();
        self.extend(&sobol::Sobol, count, proposals);
        for proposal in &mut proposals[before..] {
            proposal.by = Origin::Design;
        }
    }

    /// Fills `proposals` up to `until` from `proposer`.
    fn extend(&self, proposer: &dyn Proposer, until: usize, proposals: &mut Vec<Proposal>) {
        let missing = until.checked_sub(proposals.len()).filter(|&count| count > 0);
        let Some(count) = missing else { return };
        let taken: Vec<Candidate> = proposals.iter().map(|p| p.candidate.clone()).collect();
        let by = proposer.origin();
        let found = proposer.propose(&self.ask(&taken, count)).into_iter();
        proposals.extend(found.map(|candidate| Proposal { candidate, by }));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::search::space::tests::{any_space, int, knob, serving_space, space};
    use crate::search::state::tests::trial_of;
    use proptest::prelude::*;

    /// What is asked after `history`, `count` at once.
    pub fn ask_after<'a>(space: &'a SearchSpace, history: &'a [Trial], count: usize) -> Ask<'a> {
        Ask { space, history, taken: &[], count, batch: 3, foresight: Foresight::none() }
    }

    /// `count` trials at random, with the cost and TTFT that `figures` gives to points.
    pub fn trials(
        space: &SearchSpace,
        count: usize,
        figures: impl Fn(&[f64]) -> [f64; 2],
    ) -> Vec<Trial> {
        let candidates = random::Random.propose(&ask_after(space, &[], count)).into_iter();
        let each = candidates.enumerate().map(|(index, candidate)| {
            let [cost, ttft] = figures(&crate::search::cube::encode(space, &candidate));
            let figures = [("cost_per_hour", cost), ("ttft_p99_ms", ttft)];
            trial_of(index, candidate, space, &figures)
        });
        each.collect()
    }

    fn all() -> Vec<Box<dyn Proposer>> {
        let mut all: Vec<Box<dyn Proposer>> =
            ProposerKind::ALL.iter().map(|(_, kind)| kind.proposer()).collect();
        all.push(Box::new(descent::Descent));
        all.push(Box::new(random::Mutation));
        all
    }

    /// A history with known figures: more instances cost more and answer faster.
    fn history(space: &SearchSpace, count: usize) -> Vec<Trial> {
        trials(space, count, |point| {
            let last = point[point.len() - 1];
            [1.0 + 10.0 * point[0], 200.0 + 1000.0 * (1.0 - point[0]) + 50.0 * last]
        })
    }

    fn batch_after(
        space: &SearchSpace,
        proposer: &dyn Proposer,
        history: &[Trial],
    ) -> Vec<Proposal> {
        let foresight = Foresight::none();
        Sight { space, history, batch: 3, foresight }.next_batch(proposer)
    }

    #[test]
    fn steps_from_the_best_have_half_of_each_batch_once_something_is_known() {
        for (batch, descents) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            let space = SearchSpace { batch, ..serving_space() };
            let proposer = ProposerKind::Gp.proposer();
            let by = |count: usize| {
                let history = history(&space, count);
                let next = |batch| {
                    let foresight = Foresight::none();
                    Sight { space: &space, history: &history, batch, foresight }
                        .next_batch(proposer.as_ref())
                };
                let both: Vec<Proposal> = (6..8).flat_map(next).collect();
                both.iter().filter(|proposal| proposal.by == Origin::Descent).count()
            };
            assert_eq!(by(3 * space.knobs.len()), descents, "of two batches of {batch}");
            assert_eq!(by(3 * space.knobs.len() - 1), 0, "too early");
        }
    }

    fn keeps_the_contract(space: &SearchSpace, trials: &[Trial], proposer: &dyn Proposer) {
        let taken: Vec<Candidate> =
            trials.first().map(|t| t.candidate.clone()).into_iter().collect();
        let ask = Ask { taken: &taken, ..ask_after(space, trials, 3) };
        let proposed = proposer.propose(&ask);
        assert_eq!(proposed, proposer.propose(&ask), "{:?} repeats itself", proposer.origin());
        assert!(proposed.len() <= 3);
        let mut fresh = Fresh::new(&ask);
        for candidate in &proposed {
            let canonical = Candidate::canonical(space, candidate.values().to_vec());
            assert_eq!(*candidate, canonical, "{:?} is canonical", proposer.origin());
            for (knob, &value) in space.knobs.iter().zip(candidate.values()) {
                assert!(knob.domain.contains(value), "{value:?} is not in {:?}", knob.domain);
            }
            assert!(fresh.take(candidate), "{:?} repeats or breaks a relation", proposer.origin());
        }
    }

    #[test]
    fn every_proposer_keeps_the_contract_on_the_serving_space() {
        let space = serving_space();
        for count in [0, 1, 2, 12] {
            let trials = history(&space, count);
            for proposer in all() {
                keeps_the_contract(&space, &trials, proposer.as_ref());
            }
        }
    }

    #[test]
    fn a_small_space_is_used_up_and_then_nothing_is_proposed() {
        let space = space(vec![knob("pools.a.instances", int(1, 7))]);
        let trials = history(&space, 5);
        let batch = batch_after(&space, &ego::Ego, &trials);
        assert_eq!(batch.len(), 2);
        let trials = history(&space, 9);
        assert_eq!(trials.len(), 7);
        assert_eq!(batch_after(&space, &ego::Ego, &trials), []);
    }

    #[test]
    fn no_batch_exceeds_what_the_budget_leaves() {
        let mut space = serving_space();
        space.budget.evaluations = 14;
        space.seeds.search = 1;
        let trials = history(&space, 13);
        assert_eq!(batch_after(&space, &random::Random, &trials).len(), 1);
        let trials = history(&space, 14);
        assert_eq!(batch_after(&space, &random::Random, &trials), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_cheap_proposer_keeps_the_contract_on_any_space(
            space in any_space(),
            count in 0_usize..20,
        ) {
            let trials = history(&space, count);
            let ego = Origin::Ego;
            for proposer in all().iter().filter(|proposer| proposer.origin() != ego) {
                keeps_the_contract(&space, &trials, proposer.as_ref());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn ego_keeps_the_contract_on_any_space(space in any_space(), count in 0_usize..14) {
            keeps_the_contract(&space, &history(&space, count), &ego::Ego);
        }
    }
}
