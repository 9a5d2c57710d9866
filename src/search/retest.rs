//! The frontier meets fresh seeds, so that no point of it is there by luck.
//!
//! Once there is a winner, or none was found, every point of the feasible frontier that met no
//! fresh seeds yet meets them, in waves: the points of the frontier first, then whoever steps
//! forward where one of them fell, until each point of the frontier is tested or
//! `budget.frontier` is spent. A point *falls* where its promises could not be shown to be kept;
//! it is then off the frontier. A wave is journalled before its points are tested, and depends on
//! nothing but the journal before it.
//!
//! # Seeds
//!
//! A candidate of the search meets the seeds of the finalists: all points then differ by what
//! they are and not by luck, and the winner and the finalists need no new run. That is sound for
//! the reason for which it is sound among finalists: who may be tested, and with which error, is
//! fixed by the seeds of the search alone. A neighbour of a winner is known only after finalists
//! met those seeds, so it meets a block that nobody has met. What the certificate tested before
//! stays as it was found.
//!
//! # Error
//!
//! The re-test has an error of its own, as large as that of finalists and certificate together: of
//! 100 studies at most 5 (at a confidence of 95 %) show here as kept any point that does not keep
//! its promises. It is spent as in [`spending`]: layer `l` of the feasible candidates of the search
//! (1: beaten by none, 2: by those of layer 1 only, ...) has 1 / (l (l + 1)) of it, its candidates
//! and their looks share alike, and what all layers leave belongs to the neighbours. Whichever
//! candidates are tested in the end, these shares were theirs before, and together they are at
//! most the error (Bonferroni).

use super::error::StudyError;
use super::evaluate::{Evaluator, Run};
use super::fresh::{self, Finding, Verification};
use super::jobs::{Course, Evaluated, evaluate};
use super::journal::Entry;
use super::pareto::{self, ParetoPoint, Retest};
use super::space::SearchSpace;
use super::spending;
use super::state::StudyState;
use super::study::{Limits, Observer, Phase, Progress, Study, complete, score_json};

/// Points of the frontier that meet fresh seeds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Wave {
    /// The trials, each with the error that a look at it may spend.
    pub trials: Vec<(usize, f64)>,
}

impl StudyState {
    /// The points of the frontier that were listed for a re-test, in order.
    pub fn retested(&self) -> impl Iterator<Item = usize> + '_ {
        self.waves.iter().flat_map(|wave| wave.trials.iter().map(|&(trial, _)| trial))
    }

    /// The meetings with fresh seeds that were decided: of finalists, of what the certificate
    /// tested, of points of the frontier; in this order.
    pub fn met(&self) -> Vec<&Verification> {
        let all = self.verifications.iter().chain(&self.retests);
        all.filter(|met| met.found != Finding::Open).collect()
    }

    /// Takes note of a wave.
    ///
    /// # Errors
    /// A sentence why it cannot come now.
    pub(super) fn begin_wave(
        &mut self,
        space: &SearchSpace,
        number: u32,
        trials: &[usize],
    ) -> Result<(), String> {
        let early = self.searched.is_none() || self.open_verification().is_some();
        if early || number as usize != self.waves.len() + 1 || !self.undecided().is_empty() {
            return Err(format!("wave {number} of the frontier is out of order"));
        }
        let (errors, met) = (Errors::of(space, self), self.met());
        let listed = trials.iter().map(|&trial| {
            let is_new = met.iter().all(|met| met.trial != trial);
            let error = errors.of_look(trial).filter(|_| is_new);
            Ok((trial, error.ok_or_else(|| format!("trial {trial} has no place in a re-test"))?))
        });
        let trials = listed.collect::<Result<_, String>>()?;
        self.waves.push(Wave { trials });
        Ok(())
    }

    /// What becomes of point `trial` of the last wave once it met `runs` more on fresh seeds.
    ///
    /// # Errors
    /// A sentence why it cannot meet them now.
    pub(super) fn rejudged(
        &self,
        space: &SearchSpace,
        trial: usize,
        runs: &[Run],
    ) -> Result<Verification, String> {
        let listed = self.waves.last().and_then(|wave| wave.trials.iter().find(|t| t.0 == trial));
        let before = self.retests.iter().find(|met| met.trial == trial);
        let decided = before.is_some_and(|met| met.found != Finding::Open);
        let Some(&(_, error)) = listed.filter(|_| !decided && !runs.is_empty()) else {
            return Err(format!("trial {trial} has no place in a re-test now"));
        };
        let mut met = before.map(|met| met.runs.clone()).unwrap_or_default();
        met.extend_from_slice(runs);
        let looks = spending::looks(&space.seeds, &space.proof);
        let (score, difference, found) = fresh::judge(space, &met, &[], error, &looks);
        let round = self.block_of(trial);
        Ok(Verification { trial, round, error, runs: met, score, difference, found })
    }

    /// Keeps what became of a point.
    pub(super) fn keep_retest(&mut self, met: Verification) {
        match self.retests.iter_mut().find(|before| before.trial == met.trial) {
            Some(before) => *before = met,
            None => self.retests.push(met),
        }
    }

    /// The block of seeds in which a point of the frontier is tested.
    fn block_of(&self, trial: usize) -> u32 {
        if trial < self.search_trials().len() { 0 } else { self.rounds.len() as u32 + 1 }
    }

    /// The points of the last wave that are not decided on, each with its block and the fresh
    /// seeds that it met.
    fn undecided(&self) -> Vec<(usize, u32, usize)> {
        let listed = self.waves.last().map_or(&[][..], |wave| &wave.trials);
        let each = listed.iter().filter_map(|&(trial, _)| {
            let met = self.retests.iter().find(|met| met.trial == trial);
            let open = met.is_none_or(|met| met.found == Finding::Open);
            open.then(|| (trial, self.block_of(trial), met.map_or(0, |met| met.runs.len())))
        });
        each.collect()
    }

    /// The points to test next: those of the frontier that met no fresh seeds, the most telling
    /// ones where not all of them can be.
    fn next_wave(&self, space: &SearchSpace) -> Vec<usize> {
        let tested = self.retested().count();
        let most = space.proof.frontier.map_or(usize::MAX, |most| most as usize);
        let left = most.saturating_sub(tested);
        if left == 0 {
            return Vec::new();
        }
        let points = self.pareto(space);
        let on = |point: &&ParetoPoint| point.is_on_frontier();
        let (untested, tested): (Vec<&ParetoPoint>, Vec<&ParetoPoint>) =
            points.iter().filter(on).partition(|point| point.retest == Retest::Untested);
        let next = pareto::most_telling(space, &tested, untested, left);
        next.into_iter().map(|point| point.trial).collect()
    }
}

/// How the frontier's error is spent.
struct Errors {
    layers: Vec<(usize, u32)>,
    /// Of the neighbours of winners those that may be tested.
    neighbours: Vec<usize>,
    /// What there is to spend on each look.
    all: f64,
}

impl Errors {
    fn of(space: &SearchSpace, state: &StudyState) -> Self {
        let neighbours = state.trials[state.search_trials().len()..].iter();
        let feasible = neighbours.filter(|trial| trial.score.feasible).map(|trial| trial.index);
        let looks = spending::looks(&space.seeds, &space.proof).len() as f64;
        Self {
            layers: pareto::layers(space, state.search_trials()),
            neighbours: feasible.collect(),
            all: space.proof.error() / looks,
        }
    }

    /// What each look at `trial` may spend; `None` of who may not be tested.
    fn of_look(&self, trial: usize) -> Option<f64> {
        let alike = |layer: u32| self.layers.iter().filter(|(_, other)| *other == layer).count();
        let (share, sharers) = match self.layers.iter().find(|(known, _)| *known == trial) {
            Some(&(_, layer)) => (1.0 / (f64::from(layer) * f64::from(layer + 1)), alike(layer)),
            None if self.neighbours.contains(&trial) => {
                let deepest = self.layers.iter().map(|&(_, layer)| layer).max().unwrap_or(0);
                (1.0 / f64::from(deepest + 1), self.neighbours.len())
            }
            None => return None,
        };
        Some(self.all * share / sharers as f64)
    }
}

impl Study {
    /// Does the next thing after there is a `winner` or none was found: fresh seeds for points of
    /// the frontier, or the end.
    pub(super) fn retest_or_finish(
        &mut self,
        winner: Option<usize>,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let undecided = self.state.undecided();
        // Whoever met fewest seeds comes first, so that a wave that was cut goes on as it began.
        if let Some((block, met)) = undecided.iter().map(|&(_, block, met)| (block, met)).min() {
            let due = undecided.into_iter().filter(|&(_, b, m)| (b, m) == (block, met));
            let due: Vec<usize> = due.map(|(trial, ..)| trial).collect();
            return self.retest(&due, (block, met), (evaluator, observer, limits));
        }
        let trials = self.state.next_wave(&self.space);
        if trials.is_empty() {
            return self.record(&Entry::Finished { winner });
        }
        let wave = self.state.waves.len() as u32 + 1;
        self.record(&Entry::Frontier { wave, trials })
    }

    /// Lets the points of `due`, which met so many seeds of `block`, meet those up to the next
    /// look.
    fn retest(
        &mut self,
        due: &[usize],
        (block, met): (u32, usize),
        (evaluator, observer, limits): (&dyn Evaluator, &mut dyn Observer, Limits<'_>),
    ) -> Result<(), StudyError> {
        let space = self.space.clone();
        let looks = spending::looks(&space.seeds, &space.proof);
        let until = looks.iter().copied().find(|&look| look as usize > met);
        let seeds = space.seeds.fresh(block, until.expect("the last look decides"));
        let (seeds, all) = (&seeds[met..], [seeds.len() - met]);
        let candidates: Vec<_> =
            due.iter().map(|&trial| self.state.trials[trial].candidate.clone()).collect();
        let verdict = |runs: &mut Vec<Run>| {
            complete(&space, runs);
            None
        };
        let course = Course { seeds, looks: &all, verdict: &verdict, may_stop: false };
        evaluate(evaluator, &candidates, course, limits, &mut |offset, evaluated| {
            let (trial, Evaluated { runs, .. }) = (due[offset], evaluated);
            let found = self.state.rejudged(&space, trial, &runs);
            let found = found.expect("a study tests whom it listed");
            let (score, found) = (score_json(&found.score), found.found);
            self.record(&Entry::Retested { trial, runs, score, found })?;
            self.tell_retest(observer);
            Ok(())
        })
    }

    fn tell_retest(&self, observer: &mut dyn Observer) {
        let state = &self.state;
        let total = state.retested().count();
        let done = total - state.undecided().len();
        let winner = state.passed().last().map(|passed| &state.trials[passed.trial]);
        let best = winner.or_else(|| state.best(&self.space));
        observer.progress(&Progress { phase: Phase::Frontier, done, total, best, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::{int, knob, space};
    use crate::search::state::tests::trial;

    /// A searched state of candidates with these TTFTs and costs; those from `searched` on are
    /// neighbours.
    fn state(places: &[(f64, f64)], searched: usize) -> (SearchSpace, StudyState) {
        let space = space(vec![knob("instances", int(1, 99))]);
        let each = places.iter().enumerate().zip(1..).map(|((index, &(ttft, cost)), instances)| {
            let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", cost)];
            trial(&space, index, instances, &figures)
        });
        let trials = each.collect();
        let searched = Some(searched);
        (space, StudyState { trials, searched_trials: searched, ..StudyState::default() })
    }

    #[test]
    fn the_error_is_spent_over_layers_and_what_is_left_over_neighbours() {
        // Layers {0, 1}, {2}, {3}, and two neighbours; a TTFT of 600 breaks the promise.
        let places = [(100.0, 9.0), (300.0, 3.0), (120.0, 9.5), (130.0, 9.9), (600.0, 1.0)];
        let neighbours = [(90.0, 9.0), (600.0, 1.0), (91.0, 9.0)];
        let (space, state) = state(&[&places[..], &neighbours].concat(), places.len());
        let errors = Errors::of(&space, &state);
        let all = space.proof.error() / 3.0;
        let share = |trial| errors.of_look(trial).map(|error| error / all);
        for (trial, expected) in
            [(0, 0.25), (1, 0.25), (2, 1.0 / 6.0), (3, 1.0 / 12.0), (5, 0.125), (7, 0.125)]
        {
            let found = share(trial).expect("it may be tested");
            assert!((found - expected).abs() < 1e-12, "{trial}: {found}");
        }
        assert_eq!((share(4), share(6)), (None, None));
        let spent: f64 = (0..8).filter_map(share).sum();
        assert!((spent - 1.0).abs() < 1e-12, "all of it, and no more: {spent}");
    }

    #[test]
    fn where_few_may_be_tested_they_are_the_ends_and_the_bend() {
        // Two far ends, one bend, and a crowd near it.
        let mut places = vec![(10.0, 90.0), (20.0, 20.0), (90.0, 10.0)];
        places.extend((1..6).map(|i| (20.0 + f64::from(i), 20.0 - 0.1 * f64::from(i))));
        let (mut space, state) = state(&places, places.len());
        space.proof.frontier = Some(3);
        let mut chosen = state.next_wave(&space);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2]);
        space.proof.frontier = Some(0);
        assert!(state.next_wave(&space).is_empty());
        space.proof.frontier = None;
        assert_eq!(state.next_wave(&space).len(), places.len());
    }

    #[test]
    fn a_wave_of_who_may_not_be_tested_is_refused() {
        let (space, mut state) = state(&[(100.0, 9.0), (600.0, 1.0)], 2);
        assert!(state.begin_wave(&space, 1, &[0]).is_err(), "the search goes on");
        state.searched = Some(crate::search::SearchEnd::Exhausted);
        assert!(state.begin_wave(&space, 2, &[0]).is_err(), "waves are counted");
        assert!(state.begin_wave(&space, 1, &[1]).is_err(), "it broke a promise");
        assert!(state.begin_wave(&space, 1, &[2]).is_err(), "there is no such trial");
        assert_eq!(state.begin_wave(&space, 1, &[0]), Ok(()));
        assert!(state.begin_wave(&space, 2, &[0]).is_err(), "nobody was tested yet");
        assert!(state.rejudged(&space, 1, &state.trials[1].runs).is_err(), "it is not listed");
    }
}
