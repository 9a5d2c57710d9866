//! What a study may cost, known before it starts.
//!
//! The stages of a study have bounds of their own; the plan adds them up. A study never does more
//! runs than its plan says, and mostly far fewer: the first finalist tends to pass.

use super::certificate::{CHALLENGES_MAX, ROUNDS_MAX};
use super::finalists::FINALISTS_MAX;
use super::space::SearchSpace;
use super::spending;

/// The most runs of each stage of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyPlan {
    /// Runs of the search on its own seeds.
    pub search: u64,
    /// Requests of a run; 0 where that is not known.
    pub requests_per_run: u64,
    /// Candidates that meet fresh seeds before there is a winner.
    pub finalists: u64,
    /// Fresh seeds that a candidate meets at first and at most.
    pub fresh: (u64, u64),
    /// Runs of the winner's neighbours on the seeds of the search.
    pub certificate: u64,
    /// Candidates that meet fresh seeds to beat a winner, each together with it.
    pub challengers: u64,
    /// Points of the frontier that meet fresh seeds; `None`: all there are.
    pub frontier: Option<u64>,
}

impl StudyPlan {
    /// The plan of a study of `space`, whose runs have so many requests.
    pub fn of(space: &SearchSpace, requests_per_run: u64) -> Self {
        let seeds = u64::from(space.seeds.search);
        let runs = |evaluations: u32| u64::from(evaluations) * seeds;
        let most = spending::looks(&space.seeds, &space.proof).last().copied();
        let rounds = if space.proof.certificate == 0 { 0 } else { ROUNDS_MAX as u64 };
        Self {
            search: runs(space.budget.evaluations),
            requests_per_run,
            finalists: FINALISTS_MAX as u64,
            fresh: (u64::from(space.seeds.verify), u64::from(most.unwrap_or(space.seeds.verify))),
            certificate: runs(space.proof.certificate),
            challengers: rounds * u64::from(CHALLENGES_MAX),
            frontier: space.proof.frontier.map(u64::from),
        }
    }

    /// The most runs in all; a frontier of any size has at most one point per run of the search
    /// and of the certificate.
    pub fn most(&self) -> u64 {
        let rounds = self.challengers / u64::from(CHALLENGES_MAX);
        let tested = self.search + self.certificate;
        let fresh = self.finalists + self.challengers + rounds + self.frontier.unwrap_or(tested);
        tested + fresh * self.fresh.1
    }

    /// The runs of a study whose whole search budget is spent, and whose first finalist passes
    /// and has no better neighbour.
    pub fn usual(&self) -> u64 {
        self.search + self.fresh.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::{int, knob, space};

    #[test]
    fn all_stages_together_are_the_most_that_a_study_does() {
        let mut space = space(vec![knob("instances", int(1, 9))]);
        (space.seeds.search, space.seeds.verify) = (3, 5);
        (space.budget.evaluations, space.proof.certificate) = (10, 4);
        (space.proof.fresh_max, space.proof.frontier) = (Some(20), Some(2));
        let plan = StudyPlan::of(&space, 100);
        assert_eq!((plan.search, plan.certificate, plan.fresh), (30, 12, (5, 20)));
        // Finalists, the points of the frontier, and in each round a winner with its challengers.
        let met = 12 + 2 + ROUNDS_MAX as u64 * (1 + u64::from(CHALLENGES_MAX));
        assert_eq!((plan.most(), plan.usual()), (30 + 12 + 20 * met, 35));
        space.proof.certificate = 0;
        assert_eq!(StudyPlan::of(&space, 100).most(), 30 + 20 * (12 + 2));
        space.proof.frontier = None;
        assert_eq!(StudyPlan::of(&space, 100).most(), 30 + 20 * (12 + 30));
    }
}
