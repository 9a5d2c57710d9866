//! The local certificate: what lies one step from the winner is no better, or does not keep its
//! promises.
//!
//! The neighbours of a winner differ from it in one step:
//! 1. one instance less, for each count of instances;
//! 2. every other knob that matters one step down and one step up: a count of instances by one,
//!    another number by [`STEP`] of its axis and at least to the
//!    next value that is not alike; a choice to each of its other options;
//! 3. where fewer instances are always cheaper: one instance less and one more step of any knob.
//!
//! They meet the seeds of the search in that order, racing against the winner, until
//! `budget.certificate` is spent. Those that look better and keep their promises there meet fresh
//! seeds, and after them whoever else looks better (`overlooked`); the first to pass is the
//! next winner, and has neighbours of its own.

use super::candidate::{Candidate, KnobValue, six_digits};
use super::evaluate::{Foresight, Run};
use super::fresh::{EQUAL, Finding, Verification, differences, is_steady};
use super::propose::descent::STEP;
use super::propose::descent::{costs_instances, one_less, stepped};
use super::race::Race;
use super::space::{Domain, SearchSpace};
use super::state::{StudyState, Trial, ranking};
use crate::base::stats;

/// How often a neighbour may become the winner.
pub const ROUNDS_MAX: usize = 6;
/// The most candidates that meet the fresh seeds of one round.
pub(super) const CHALLENGES_MAX: u32 = 6;

/// The neighbours of one winner.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The winner.
    pub winner: usize,
    /// What lies one step from it, in the order in which it is tried.
    pub neighbours: Vec<Neighbour>,
    /// The winner's runs under the fresh seeds of the round, where objectives depend on seeds.
    pub rival: Vec<Run>,
}

/// A candidate one step from a winner.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The candidate.
    pub candidate: Candidate,
    /// Why it was not simulated, where it is certain that it is no better.
    pub settled: Option<String>,
}

/// What became of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// It is certain without simulating it that it is no better.
    Settled(&'a str),
    /// It broke a promise on the seeds of the search.
    Broken(&'a Trial),
    /// It was no better on the seeds of the search: its objective is so much above the winner's,
    /// to be made small.
    NoBetter(&'a Trial, f64),
    /// It met fresh seeds.
    Met(&'a Verification),
    /// It looked better and met no fresh seeds: others before it took all tries.
    Unproven(&'a Trial),
    /// The budget of the certificate was spent before.
    Untried,
}

/// The neighbours of `winner`, each with what foresight says about it.
pub fn neighbours(space: &SearchSpace, winner: &Trial, foresight: Foresight<'_>) -> Vec<Neighbour> {
    let centre = &winner.candidate;
    let fewer: Vec<Candidate> =
        space.instance_knobs().filter_map(|knob| one_less(space, centre, knob)).collect();
    let mut all = fewer.clone();
    all.extend(one_step(space, centre));
    if costs_instances(space) {
        all.extend(fewer.iter().flat_map(|base| one_step(space, base)));
    }
    let mut once: Vec<Neighbour> = Vec::new();
    for candidate in all {
        let known = once.iter().any(|other| other.candidate == candidate);
        if candidate != *centre && !known && space.allows(&candidate) {
            let settled = settled(space, winner, &candidate, foresight);
            once.push(Neighbour { candidate, settled });
        }
    }
    once
}

/// Everything that differs from `base` in one step of one knob.
fn one_step(space: &SearchSpace, base: &Candidate) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, knob) in space.knobs.iter().enumerate() {
        if !base.is_active(space, index) {
            continue;
        }
        let value = base.values()[index];
        let values: Vec<KnobValue> = match (&knob.domain, value) {
            (Domain::Choice { labels }, _) => (0..labels.len()).map(KnobValue::Choice).collect(),
            (Domain::Int { step, .. }, KnobValue::Int(count)) if knob.counts_instances => {
                [count - step, count + step].map(KnobValue::Int).to_vec()
            }
            _ => {
                let shares = [-STEP, STEP].into_iter();
                found.extend(shares.filter_map(|share| stepped(space, base, index, share)));
                continue;
            }
        };
        let values = values.into_iter().filter(|&v| v != value && knob.domain.contains(v));
        found.extend(values.map(|other| base.with(space, index, other)));
    }
    found
}

/// Why `candidate` is certainly no better than `winner`, where it is.
fn settled(
    space: &SearchSpace,
    winner: &Trial,
    candidate: &Candidate,
    foresight: Foresight<'_>,
) -> Option<String> {
    if let Some(why) = foresight.hopeless(candidate) {
        return Some(why);
    }
    let (exact, held) = (foresight.objective(candidate)?, winner.score.objective?);
    let above = space.objective.to_minimize(exact) - space.objective.to_minimize(held);
    let (name, exact) = (&space.objective.metric, six_digits(exact));
    (above >= -EQUAL * held.abs()).then(|| format!("{name} is {exact}, whatever happens"))
}

impl StudyState {
    /// The trial of `candidate`, where it has one.
    pub fn trial_of(&self, candidate: &Candidate) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.candidate == *candidate)
    }

    /// Evaluations that the neighbours of winners cost on the seeds of the search.
    pub fn certificate_evaluations(&self, space: &SearchSpace) -> f64 {
        let after = &self.trials[self.search_trials().len()..];
        super::state::evaluations(space, after)
    }

    /// The neighbours to evaluate next; none where all are known or the budget is spent.
    pub(super) fn to_screen(&self, space: &SearchSpace) -> Vec<Candidate> {
        let left = f64::from(space.proof.certificate) - self.certificate_evaluations(space);
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let open = round.neighbours.iter().filter(|neighbour| neighbour.settled.is_none());
        let unknown = open.filter(|neighbour| self.trial_of(&neighbour.candidate).is_none());
        let unknown = unknown.map(|neighbour| neighbour.candidate.clone());
        unknown.take(left.max(0.0) as usize).collect()
    }

    /// Who meets fresh seeds next in this round: the neighbours that look better than the winner
    /// from the best on, then whoever else does.
    pub(super) fn next_challenger(&self, space: &SearchSpace) -> Option<usize> {
        let number = self.rounds.len() as u32;
        let tries = self.verifications.iter().filter(|met| met.round == number).count();
        if tries >= CHALLENGES_MAX as usize {
            return None;
        }
        let neighbours = self.better_neighbours(space);
        neighbours.get(tries).copied().or_else(|| {
            let others = self.overlooked(space, &neighbours);
            others.get(tries - neighbours.len()).copied()
        })
    }

    /// The neighbours that look better than the winner and met no fresh seeds before this round,
    /// from the best on.
    fn better_neighbours(&self, space: &SearchSpace) -> Vec<usize> {
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let number = self.rounds.len() as u32;
        let is_new = |trial: &&Trial| {
            let mut before = self.verifications.iter().filter(|met| met.round < number);
            before.all(|met| met.trial != trial.index)
        };
        let known: Vec<usize> = round
            .neighbours
            .iter()
            .filter_map(|neighbour| self.trial_of(&neighbour.candidate))
            .filter(is_new)
            .filter(|trial| trial.score.feasible)
            .filter(|trial| self.above(space, trial, round.winner).is_some_and(|above| above < 0.0))
            .map(|trial| trial.index)
            .collect();
        ranking(space, &self.trials).into_iter().filter(|trial| known.contains(trial)).collect()
    }

    /// By how much the objective of `trial` is above that of trial `winner` on the seeds of the
    /// search that both met, to be made small; exactly 0 where they are equal.
    pub(super) fn above(&self, space: &SearchSpace, trial: &Trial, winner: usize) -> Option<f64> {
        let winner = &self.trials[winner];
        let above = stats::mean(&differences(space, &trial.runs, &winner.runs))?;
        let equal = above.abs() <= EQUAL * winner.score.objective.unwrap_or(0.0).abs();
        Some(if equal { 0.0 } else { above })
    }

    /// Whether the objective of `trial` has to be compared with the winner's on fresh seeds.
    pub(super) fn has_rival(&self, space: &SearchSpace, trial: usize) -> bool {
        let Some(round) = self.rounds.last() else { return false };
        let fresh = self.verifications.iter().find(|met| met.trial == round.winner);
        let steady = is_steady(space, &self.trials[trial].runs)
            && is_steady(space, &self.trials[round.winner].runs)
            && fresh.is_some_and(|met| is_steady(space, &met.runs));
        !steady
    }

    /// What became of the neighbours of the last winner.
    pub fn outcomes(&self, space: &SearchSpace) -> Vec<(&Neighbour, Outcome<'_>)> {
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let each = round.neighbours.iter();
        each.map(|neighbour| (neighbour, self.outcome(space, round, neighbour))).collect()
    }

    fn outcome<'a>(
        &'a self,
        space: &SearchSpace,
        round: &Round,
        neighbour: &'a Neighbour,
    ) -> Outcome<'a> {
        if let Some(why) = &neighbour.settled {
            return Outcome::Settled(why);
        }
        let Some(trial) = self.trial_of(&neighbour.candidate) else { return Outcome::Untried };
        let above = self.above(space, trial, round.winner);
        match self.verifications.iter().rev().find(|met| met.trial == trial.index) {
            // It was the winner before this one, which is better.
            Some(met) if met.found == Finding::Kept => {
                return Outcome::NoBetter(trial, above.unwrap_or(0.0).max(0.0));
            }
            Some(met) => return Outcome::Met(met),
            None => {}
        }
        match above {
            _ if !trial.score.feasible => Outcome::Broken(trial),
            Some(above) if above >= 0.0 => Outcome::NoBetter(trial, above),
            _ => Outcome::Unproven(trial),
        }
    }

    /// Whether every neighbour of the winner was tried, or need not be.
    pub fn is_certified(&self, space: &SearchSpace) -> bool {
        let open = |outcome| matches!(outcome, Outcome::Unproven(_) | Outcome::Untried);
        let outcomes = self.outcomes(space);
        !outcomes.is_empty() && !outcomes.iter().any(|(_, outcome)| open(*outcome))
    }
}

/// The race of neighbours against their winner.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    space: &'a SearchSpace,
    winner: &'a Trial,
    race: Race<'a>,
    /// Whether the winner's objective depends on no seed.
    steady: bool,
}

impl<'a> Screen<'a> {
    /// The race against `winner`, known from `history`.
    pub fn new(space: &'a SearchSpace, history: &'a [Trial], winner: &'a Trial) -> Self {
        let race = Race::against(space, history, Some(winner));
        Self { space, winner, race, steady: is_steady(space, &winner.runs) }
    }

    /// Why a neighbour with these `runs` meets no further seed; `None`: it goes on.
    pub fn verdict(&self, runs: &[Run]) -> Option<String> {
        let held = self.winner.score.objective.unwrap_or(0.0).abs();
        let above = differences(self.space, runs, &self.winner.runs);
        let no_better = !above.is_empty() && above.iter().all(|above| *above >= -EQUAL * held);
        self.race.verdict(runs).or_else(|| {
            let index = self.winner.index;
            (self.steady && no_better).then(|| {
                format!("`{}` no better than trial {index}'s", self.space.objective.metric)
            })
        })
    }
}
