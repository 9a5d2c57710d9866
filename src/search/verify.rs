//! The end of a study: its best candidates meet fresh seeds until one passes, what lies one step
//! from it is tried, and its frontier is tested ([`retest`](super::retest)).

use super::candidate::Candidate;
use super::certificate::{ROUNDS_MAX, Screen, neighbours};
use super::error::StudyError;
use super::evaluate::{Evaluator, Foresight, Run};
use super::finalists::finalists;
use super::jobs::{Course, Evaluated, evaluate};
use super::journal::{Entry, ListedNeighbour, ProposedCandidate};
use super::propose::Origin;
use super::race::Race;
use super::spending;
use super::study::{Limits, Observer, Phase, Progress, Study, complete, score_json};

impl Study {
    /// Does the next thing after the search: a look at a candidate on fresh seeds, neighbours of
    /// the winner so far, points of the frontier, or the end.
    pub(super) fn verify_or_finish(
        &mut self,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let state = &self.state;
        if state.trials.len() < state.proposed.len() {
            return self.screen(evaluator, observer, limits);
        }
        let open = state.open_verification().map(|open| (open.trial, open.round));
        if let Some((trial, round)) = open {
            return self.look(trial, round, evaluator, observer, limits);
        }
        let Some(winner) = state.passed().last().map(|passed| passed.trial) else {
            let tried = state.verifications.len();
            return match self.finalists().get(tried).copied() {
                Some(trial) => self.look(trial, 0, evaluator, observer, limits),
                None => self.retest_or_finish(None, evaluator, observer, limits),
            };
        };
        let rounds = state.rounds.len();
        let begins = state.passed().count() > rounds;
        if self.space.proof.certificate == 0 || begins && rounds == ROUNDS_MAX {
            return self.retest_or_finish(Some(winner), evaluator, observer, limits);
        }
        if begins {
            return self.list_neighbours(winner, evaluator);
        }
        let unknown = state.to_screen(&self.space);
        if !unknown.is_empty() {
            let candidates = unknown.iter().map(|candidate| ProposedCandidate {
                by: Origin::Neighbour,
                knobs: candidate.to_json(&self.space),
            });
            let (batch, candidates) = (state.batches, candidates.collect());
            return self.record(&Entry::Proposed { batch, candidates });
        }
        match state.next_challenger(&self.space) {
            Some(trial) => self.look(trial, rounds as u32, evaluator, observer, limits),
            None => self.retest_or_finish(Some(winner), evaluator, observer, limits),
        }
    }

    /// Who meets fresh seeds, in order; found once the search has ended.
    fn finalists(&self) -> &[usize] {
        let (space, state) = (&self.space, &self.state);
        self.finalists.get_or_init(|| finalists(space, state.search_trials()))
    }

    /// Begins a round of the certificate.
    fn list_neighbours(
        &mut self,
        winner: usize,
        evaluator: &dyn Evaluator,
    ) -> Result<(), StudyError> {
        let (space, trial) = (&self.space, &self.state.trials[winner]);
        let found = neighbours(space, trial, Foresight::from(evaluator)).into_iter();
        let listed = found.map(|neighbour| ListedNeighbour {
            knobs: neighbour.candidate.to_json(space),
            settled: neighbour.settled,
        });
        let round = self.state.rounds.len() as u32 + 1;
        let neighbours = listed.collect();
        self.record(&Entry::Neighbours { round, winner, neighbours })
    }

    /// Lets proposed neighbours meet the seeds of the search.
    fn screen(
        &mut self,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let first = self.state.trials.len();
        let candidates: Vec<_> =
            self.state.proposed[first..].iter().map(|p| p.candidate.clone()).collect();
        let (space, before) = (self.space.clone(), self.state.before_batch().to_vec());
        let winner = self.state.rounds.last().expect("neighbours follow a winner").winner;
        let screen = Screen::new(&space, &before, &before[winner]);
        let verdict = |runs: &mut Vec<Run>| {
            complete(&space, runs);
            screen.verdict(runs)
        };
        let seeds = space.seeds.of_search();
        let looks = Race::looks(seeds.len());
        // The certificate tells by how much each of the few has failed.
        let course = Course { seeds: &seeds, may_stop: false, looks: &looks, verdict: &verdict };
        evaluate(evaluator, &candidates, course, limits, &mut |offset, evaluated| {
            let Evaluated { runs, dropped } = evaluated;
            let score = score_json(&self.state.score_of(&space, &runs));
            let (trial, knobs) = (first + offset, candidates[offset].to_json(&space));
            self.record(&Entry::Evaluated { trial, knobs, runs, dropped, score })?;
            self.tell(observer, Phase::Certify, winner);
            Ok(())
        })
    }

    /// Lets a candidate meet fresh seeds, or more of them, and its rival too where it has one.
    fn look(
        &mut self,
        trial: usize,
        round: u32,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let space = self.space.clone();
        let state = &self.state;
        let met = state.open_verification().map_or(0, |open| open.runs.len());
        let looks = spending::looks(&space.seeds, &space.proof);
        let until = looks.iter().copied().find(|&look| look as usize > met);
        let until = until.expect("what was looked at last is not open");
        let seeds = space.seeds.fresh(round, until);
        let rival = state.rounds.last().filter(|_| round > 0 && state.has_rival(&space, trial));
        let mut wanted = vec![(trial, met)];
        wanted.extend(rival.map(|round| (round.winner, round.rival.len())));
        wanted.retain(|(_, known)| *known < seeds.len());
        // Side by side where they miss the same seeds, so that no thread waits at the end of each.
        let mut told = Vec::new();
        for part in wanted.chunk_by(|left, right| left.1 == right.1) {
            let candidates: Vec<Candidate> =
                part.iter().map(|&(trial, _)| self.state.trials[trial].candidate.clone()).collect();
            let verdict = |runs: &mut Vec<Run>| {
                complete(&space, runs);
                None
            };
            let known = part[0].1;
            let (seeds, all) = (&seeds[known..], [seeds.len() - known]);
            let course = Course { seeds, may_stop: false, looks: &all, verdict: &verdict };
            evaluate(evaluator, &candidates, course, limits, &mut |_, evaluated| {
                told.push(evaluated.runs);
                Ok(())
            })?;
        }
        if told.len() < wanted.len() {
            return Ok(());
        }
        let mut told = told.into_iter();
        let (runs, rival) = (told.next().unwrap_or_default(), told.next().unwrap_or_default());
        let found = self.state.judged(&space, (trial, round), &runs, &rival);
        let found = found.expect("a study tries in order");
        let (score, found) = (score_json(&found.score), found.found);
        self.record(&Entry::Verified { trial, round, runs, rival, score, found })?;
        self.tell(observer, Phase::Verify, trial);
        Ok(())
    }

    fn tell(&self, observer: &mut dyn Observer, phase: Phase, best: usize) {
        let (space, state) = (&self.space, &self.state);
        let (done, total) = if phase == Phase::Certify {
            let done = state.certificate_evaluations(space).ceil() as usize;
            (done, space.proof.certificate as usize)
        } else {
            let finalists = self.finalists().len();
            (state.verifications.len(), finalists.max(state.verifications.len()))
        };
        let best = Some(&state.trials[best]);
        observer.progress(&Progress { phase, done, total, best, state });
    }
}
