//! Who looked better than the winner on the seeds of the search and met no fresh seeds.
//!
//! The finalists are few, and chosen before any fresh seed said a word. What those said tells much
//! about the others: so in each round of the certificate, after the neighbours of the winner, the
//! others that look better than it meet the seeds of the round too, as long as what is to be
//! gained is worth a try.
//!
//! Who meets them, and in which order, rests on the search and on the rounds before this one
//! alone, as [`spending`](super::spending) demands of all that meet the same seeds.

use super::odds::Odds;
use super::space::SearchSpace;
use super::state::{StudyState, Trial};

/// The least that a try has to promise: what would be gained, times the odds to pass, as a share
/// of the winner's objective.
const GAIN_MIN: f64 = 0.005;

impl StudyState {
    /// The trials that meet the seeds of this round after the `neighbours` of the winner, first to
    /// last.
    pub(super) fn overlooked(&self, space: &SearchSpace, neighbours: &[usize]) -> Vec<usize> {
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let number = self.rounds.len() as u32;
        let met_before = |trial: usize| {
            self.verifications.iter().any(|met| met.trial == trial && met.round < number)
        };
        let open = self.trials.iter().filter(|trial| trial.score.feasible);
        let open = open.filter(|t| !met_before(t.index) && !neighbours.contains(&t.index));
        let better: Vec<(usize, f64)> = open
            .filter_map(|trial| Some((trial.index, -self.above(space, trial, round.winner)?)))
            .filter(|&(_, gain)| gain > 0.0)
            .collect();
        if better.is_empty() {
            return Vec::new();
        }
        let which: Vec<usize> = better.iter().map(|&(trial, _)| trial).collect();
        let odds = Odds::new(space, &self.informed(space, number), &which);
        let odds = odds.after(number, neighbours.len() as u32);
        let held = self.trials[round.winner].score.objective.unwrap_or(0.0).abs();
        let each = better.iter().zip(odds).map(|(&(trial, gain), odds)| (trial, gain * odds));
        let mut worth: Vec<(usize, f64)> =
            each.filter(|&(_, promised)| promised >= GAIN_MIN * held).collect();
        worth.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        worth.into_iter().map(|(trial, _)| trial).collect()
    }

    /// The trials that look better than the last winner and are no neighbours of it, and whether
    /// each met fresh seeds before the frontier did.
    pub fn looked_better(&self, space: &SearchSpace) -> Vec<(usize, bool)> {
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let is_neighbour =
            |trial: &Trial| round.neighbours.iter().any(|one| one.candidate == trial.candidate);
        let others = self.trials.iter().filter(|t| t.score.feasible && !is_neighbour(t));
        let better = others.filter(|trial| {
            self.above(space, trial, round.winner).is_some_and(|above| above < 0.0)
        });
        let met = |trial: usize| self.verifications.iter().any(|met| met.trial == trial);
        better.map(|trial| (trial.index, met(trial.index))).collect()
    }

    /// All trials, each with what it showed on the fresh seeds of rounds before `number`.
    fn informed(&self, space: &SearchSpace, number: u32) -> Vec<Trial> {
        let mut trials = self.trials.clone();
        for met in self.verifications.iter().filter(|met| met.round < number) {
            let trial = &mut trials[met.trial];
            trial.runs.extend_from_slice(&met.runs);
            trial.score = super::score::Score::beside(space, &trial.runs, &self.spreads);
        }
        trials
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::certificate::Round;
    use crate::search::evaluate::Run;
    use crate::search::fresh::{Finding, Verification};
    use crate::search::metric::Figures;
    use crate::search::space::tests::{int, knob, space};
    use crate::search::state::tests::trial;

    /// The search after its first finalist, trial 0, passed: candidates with these TTFTs and costs,
    /// one instance more each; a TTFT above 500 breaks the promise.
    fn won(places: &[(f64, f64)]) -> (SearchSpace, StudyState) {
        let space = space(vec![knob("instances", int(1, 99))]);
        let each = places.iter().enumerate().zip(1..).map(|((index, &(ttft, cost)), instances)| {
            let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", cost)];
            trial(&space, index, instances, &figures)
        });
        let trials: Vec<Trial> = each.collect();
        let searched_trials = Some(trials.len());
        let rounds = vec![Round { winner: 0, neighbours: Vec::new(), rival: Vec::new() }];
        let mut state = StudyState { trials, searched_trials, rounds, ..StudyState::default() };
        meet(&mut state, 0, (0, 100.0), Finding::Kept);
        (space, state)
    }

    /// Lets `trial` meet the seeds of `round`, with a TTFT there.
    fn meet(state: &mut StudyState, trial: usize, (round, ttft): (u32, f64), found: Finding) {
        let run = |seed| {
            let mut figures = Figures::default();
            figures.set("ttft_p99_ms", ttft);
            figures.set("cost_per_hour", 1.0);
            Run::new(seed, true, figures)
        };
        let runs: Vec<Run> = (100..110).map(run).collect();
        let score = state.trials[trial].score.clone();
        let met = Verification { trial, round, error: 0.01, runs, score, difference: None, found };
        state.verifications.push(met);
    }

    #[test]
    fn only_what_may_win_something_is_tried() {
        let places = [
            (100.0, 10.0),
            (100.0, 5.0),
            (100.0, 9.97),
            (600.0, 4.0),
            (100.0, 12.0),
            (100.0, 6.0),
            (100.0, 7.0),
        ];
        let (space, mut state) = won(&places);
        meet(&mut state, 5, (0, 600.0), Finding::NotKept);
        assert_eq!(state.overlooked(&space, &[]), [1, 6]);
        assert_eq!(state.overlooked(&space, &[1]), [6]);
        assert_eq!(state.next_challenger(&space), Some(1));
        state.rounds.clear();
        assert!(state.overlooked(&space, &[]).is_empty(), "there is no winner yet");
    }

    #[test]
    fn what_fails_on_fresh_seeds_speaks_against_what_is_near() {
        // All look alike in the search, the cheaper the fewer the instances.
        let mut places = vec![(100.0, 40.0)];
        places.extend((1..24).map(|at| (300.0 + f64::from(at % 3), 20.0 + f64::from(at))));
        let (space, mut state) = won(&places);
        assert_eq!(state.overlooked(&space, &[])[..3], [1, 2, 3]);
        for trial in [1, 3, 5] {
            meet(&mut state, trial, (0, 900.0), Finding::NotKept);
        }
        let order = state.overlooked(&space, &[]);
        assert!(order[0] > 5, "{order:?}");
        // What the seeds of this very round say changes nothing.
        meet(&mut state, order[0], (1, 900.0), Finding::NotKept);
        assert_eq!(state.overlooked(&space, &[]), order);
        assert_eq!(state.next_challenger(&space), Some(order[1]));
    }

    #[test]
    fn a_round_has_its_tries_and_no_more() {
        let places: Vec<(f64, f64)> = (0..12).map(|at| (100.0, 40.0 - f64::from(at))).collect();
        let (space, mut state) = won(&places);
        let mut tried = Vec::new();
        while let Some(next) = state.next_challenger(&space) {
            tried.push(next);
            meet(&mut state, next, (1, 900.0), Finding::NotKept);
        }
        assert_eq!(tried, [11, 10, 9, 8, 7, 6]);
    }
}
