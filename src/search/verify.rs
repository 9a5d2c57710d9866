//! The end of a study: its best candidates meet fresh seeds.

use super::error::StudyError;
use super::evaluate::{Evaluator, Run};
use super::jobs::{Course, Evaluated, evaluate};
use super::journal::Entry;
use super::score::Score;
use super::state::ranking;
use super::study::{Limits, Observer, Phase, Progress, Study, complete, score_json};

/// The most candidates that meet fresh seeds.
const VERIFIED_MAX: usize = 12;

impl Study {
    /// Takes the next best candidate to fresh seeds, or ends the study.
    pub(super) fn verify_or_finish(
        &mut self,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let passed = self.state.verifications.iter().find(|found| found.score.feasible);
        if let Some(winner) = passed.map(|found| found.trial) {
            return self.record(&Entry::Finished { winner: Some(winner) });
        }
        let Some(trial) = self.next_to_verify() else {
            return self.record(&Entry::Finished { winner: None });
        };
        let candidate = self.state.trials[trial].candidate.clone();
        let seeds = self.space.seeds.of_verification();
        let space = self.space.clone();
        let verdict = |runs: &mut Vec<Run>| {
            complete(&space, runs);
            None
        };
        let course = Course { seeds: &seeds, looks: &[seeds.len()], verdict: &verdict };
        evaluate(evaluator, &[candidate], course, limits.stop, &mut |_, evaluated| {
            let Evaluated { runs, .. } = evaluated;
            let found = Score::on_fresh_seeds(&self.space, &runs);
            let (passed, score) = (found.feasible, score_json(&found));
            self.record(&Entry::Verified { trial, runs, score, passed })?;
            observer.progress(&Progress {
                phase: Phase::Verify,
                done: self.state.verifications.len(),
                total: self.verifiable().len(),
                best: Some(&self.state.trials[trial]),
                state: &self.state,
            });
            Ok(())
        })
    }

    /// The trials that may meet fresh seeds, best first.
    fn verifiable(&self) -> Vec<usize> {
        let order = ranking(&self.space, &self.state.trials);
        let feasible = order.into_iter().filter(|&trial| self.state.trials[trial].score.feasible);
        feasible.take(VERIFIED_MAX).collect()
    }

    fn next_to_verify(&self) -> Option<usize> {
        self.verifiable().get(self.state.verifications.len()).copied()
    }
}
