//! What a journal tells: everything reports need, without simulating.

use std::path::Path;

use super::candidate::Candidate;
use super::certificate::{Neighbour, Round};
use super::error::StudyError;
use super::evaluate::Run;
use super::fresh::{self, Finding, Verification};
use super::journal::{self, Entry, Header, SearchEnd};
use super::pareto::{self, ParetoPoint};
use super::promise::Spreads;
use super::propose::{Origin, Proposal};
use super::retest::Wave;
use super::score::Score;
use super::space::SearchSpace;
use super::spending;

/// A study as far as its journal goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StudyState {
    /// The first line.
    pub header: Option<Header>,
    /// Every candidate proposed so far; trials are its first entries.
    pub proposed: Vec<Proposal>,
    /// Batches proposed so far.
    pub batches: u64,
    /// The first trial of the last batch.
    pub batch_first: usize,
    /// The evaluated candidates, in order.
    pub trials: Vec<Trial>,
    /// Why the search stopped, once it has.
    pub searched: Option<SearchEnd>,
    /// The trials of the search, once it has stopped; those after them are neighbours of winners.
    pub searched_trials: Option<usize>,
    /// The candidates that met fresh seeds, in order.
    pub verifications: Vec<Verification>,
    /// The rounds of the certificate.
    pub rounds: Vec<Round>,
    /// The waves of the frontier's re-test.
    pub waves: Vec<Wave>,
    /// The points of the frontier that met fresh seeds, in order.
    pub retests: Vec<Verification>,
    /// What `spreads` tells of the trials, learnt trial by trial.
    pub spreads: Spreads,
    /// Whether the study has come to its end.
    pub finished: bool,
    /// The trial that kept its promises on fresh seeds.
    pub winner: Option<usize>,
}

/// An evaluated candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Its number, from 0.
    pub index: usize,
    /// Who proposed it.
    pub by: Origin,
    /// The candidate.
    pub candidate: Candidate,
    /// One per search seed that it met; at least one.
    pub runs: Vec<Run>,
    /// Why it met no more of them, where it did not meet all.
    pub dropped: Option<String>,
    /// What they amount to.
    pub score: Score,
}

impl Trial {
    /// Why there is no policy, where there is none.
    pub fn failed(&self) -> Option<&str> {
        self.runs.iter().find_map(|run| run.failed.as_deref())
    }

    /// Why a run of it was stopped, where one was.
    pub fn stopped(&self) -> Option<&str> {
        self.runs.iter().find_map(|run| run.stopped.as_deref())
    }

    /// The mean of a figure over the seeds; `None` where a run lacks it. Where a run was stopped,
    /// all but the objective is a bound.
    pub fn mean(&self, name: &str) -> Option<f64> {
        super::score::mean(&self.runs, name)
    }
}

impl StudyState {
    /// Reads the study in `folder` without touching it.
    ///
    /// # Errors
    /// [`StudyError::Io`], or [`StudyError::Corrupt`] where the journal makes no sense.
    pub fn read(space: &SearchSpace, folder: &Path) -> Result<Self, StudyError> {
        let path = folder.join(super::study::JOURNAL);
        let entries = journal::read_file(&path)?;
        Self::replay(space, &entries, &path)
    }

    /// The state after `entries`, which stand in the journal at `path`.
    ///
    /// # Errors
    /// [`StudyError::Corrupt`] naming the first line that does not follow from those before it.
    pub fn replay(space: &SearchSpace, entries: &[Entry], path: &Path) -> Result<Self, StudyError> {
        let mut state = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            state.follow(space, entry).map_err(|reason| StudyError::Corrupt {
                path: path.to_owned(),
                line: index + 1,
                reason,
            })?;
        }
        Ok(state)
    }

    /// Takes one more entry into account.
    ///
    /// # Errors
    /// A sentence why it cannot come now.
    pub fn follow(&mut self, space: &SearchSpace, entry: &Entry) -> Result<(), String> {
        if self.header.is_none() != matches!(entry, Entry::Header(_)) {
            return Err("a journal has its header first and once".to_owned());
        }
        if self.finished {
            return Err("the study was finished before it".to_owned());
        }
        match entry {
            Entry::Header(header) => self.header = Some(header.clone()),
            Entry::Proposed { batch, candidates } => {
                if *batch != self.batches || self.trials.len() != self.proposed.len() {
                    return Err(format!("batch {batch} is out of order"));
                }
                self.batch_first = self.trials.len();
                for proposed in candidates {
                    let candidate = Candidate::from_json(space, &proposed.knobs)?;
                    self.proposed.push(Proposal { candidate, by: proposed.by });
                }
                self.batches += 1;
            }
            Entry::Evaluated { trial, runs, dropped, .. } => {
                if *trial != self.trials.len() || *trial >= self.proposed.len() {
                    return Err(format!("trial {trial} is out of order"));
                }
                if runs.is_empty() {
                    return Err(format!("trial {trial} has no runs"));
                }
                self.push_trial(space, runs.clone(), dropped.clone());
            }
            Entry::Searched { why } => {
                self.searched = Some(*why);
                self.searched_trials = Some(self.trials.len());
            }
            Entry::Verified { trial, round, runs, rival, .. } => {
                let verification = self.judged(space, (*trial, *round), runs, rival)?;
                self.verifications.pop_if(|last| last.found == Finding::Open);
                self.verifications.push(verification);
                if let Some(round) = (*round as usize).checked_sub(1) {
                    self.rounds[round].rival.extend_from_slice(rival);
                }
            }
            Entry::Neighbours { round, winner, neighbours } => {
                if *round as usize != self.rounds.len() + 1 || *winner >= self.trials.len() {
                    return Err(format!("round {round} of the certificate is out of order"));
                }
                let read = neighbours.iter().map(|listed| {
                    let candidate = Candidate::from_json(space, &listed.knobs)?;
                    Ok(Neighbour { candidate, settled: listed.settled.clone() })
                });
                let neighbours = read.collect::<Result<_, String>>()?;
                self.rounds.push(Round { winner: *winner, neighbours, rival: Vec::new() });
            }
            Entry::Frontier { wave, trials } => self.begin_wave(space, *wave, trials)?,
            Entry::Retested { trial, runs, .. } => {
                let met = self.rejudged(space, *trial, runs)?;
                self.keep_retest(met);
            }
            Entry::Finished { winner } => {
                self.finished = true;
                self.winner = *winner;
            }
        }
        Ok(())
    }

    fn push_trial(&mut self, space: &SearchSpace, runs: Vec<Run>, dropped: Option<String>) {
        let index = self.trials.len();
        let Proposal { candidate, by } = self.proposed[index].clone();
        let score = self.score_of(space, &runs);
        self.spreads.learn(space, &runs);
        self.trials.push(Trial { index, by, candidate, runs, dropped, score });
    }

    /// What `runs` amount to as the next trial.
    pub(super) fn score_of(&self, space: &SearchSpace, runs: &[Run]) -> Score {
        let mut spreads = self.spreads.clone();
        spreads.learn(space, runs);
        Score::beside(space, runs, &spreads)
    }

    /// What becomes of `trial` once it met `runs` more on fresh seeds in `round`, and its rival
    /// those of `rival`.
    ///
    /// # Errors
    /// A sentence why it cannot meet them now.
    pub(super) fn judged(
        &self,
        space: &SearchSpace,
        (trial, round): (usize, u32),
        runs: &[Run],
        rival: &[Run],
    ) -> Result<Verification, String> {
        if trial >= self.trials.len() || runs.is_empty() || round as usize > self.rounds.len() {
            return Err(format!("there is no trial {trial} to verify in round {round}"));
        }
        let mut met = match self.open_verification() {
            Some(open) if (open.trial, open.round) == (trial, round) => open.runs.clone(),
            Some(open) => return Err(format!("trial {} was not yet decided on", open.trial)),
            None => Vec::new(),
        };
        met.extend_from_slice(runs);
        let decided = self.verifications.iter().filter(|met| met.found != Finding::Open);
        let tries = decided.filter(|met| met.round == round).count() as u32;
        let error = spending::error(&space.seeds, &space.proof, round, tries);
        let looks = spending::looks(&space.seeds, &space.proof);
        let mut rivals = Vec::new();
        if round > 0 && self.has_rival(space, trial) {
            rivals.clone_from(&self.rounds[round as usize - 1].rival);
            rivals.extend_from_slice(rival);
        }
        let (score, difference, found) = fresh::judge(space, &met, &rivals, error, &looks);
        Ok(Verification { trial, round, error, runs: met, score, difference, found })
    }

    /// The trials of the search, without the neighbours of winners.
    pub fn search_trials(&self) -> &[Trial] {
        &self.trials[..self.searched_trials.unwrap_or(self.trials.len())]
    }

    /// Runs on the seeds of the search, without those of the neighbours of winners.
    pub fn search_runs(&self) -> usize {
        self.search_trials().iter().map(|trial| trial.runs.len()).sum()
    }

    /// The candidate that more fresh seeds have to decide on.
    pub fn open_verification(&self) -> Option<&Verification> {
        self.verifications.last().filter(|met| met.found == Finding::Open)
    }

    /// The candidates that passed, each better than the one before.
    pub fn passed(&self) -> impl Iterator<Item = &Verification> {
        self.verifications.iter().filter(|met| met.found == Finding::Kept)
    }

    /// What the trials cost: runs of the search over search seeds, so that a trial that met all of
    /// them counts one.
    pub fn evaluations(&self, space: &SearchSpace) -> f64 {
        evaluations(space, self.search_trials())
    }

    /// The trials before the last batch.
    pub fn before_batch(&self) -> &[Trial] {
        &self.trials[..self.batch_first]
    }

    /// The best feasible trial so far, as the search's own seeds see it.
    pub fn best(&self, space: &SearchSpace) -> Option<&Trial> {
        let first = ranking(space, &self.trials).first().copied()?;
        Some(&self.trials[first]).filter(|trial| trial.score.feasible)
    }

    /// The winner's meeting with fresh seeds.
    pub fn winning(&self) -> Option<&Verification> {
        let winner = self.winner?;
        self.verifications.iter().rev().find(|verification| verification.trial == winner)
    }

    /// All stable trials on the axes of the space, as far as each is known.
    pub fn pareto(&self, space: &SearchSpace) -> Vec<ParetoPoint> {
        pareto::points(space, &self.trials, &self.met())
    }
}

/// Runs of `trials` over the search seeds of `space`.
pub fn evaluations(space: &SearchSpace, trials: &[Trial]) -> f64 {
    let runs: usize = trials.iter().map(|trial| trial.runs.len()).sum();
    runs as f64 / f64::from(space.seeds.search.max(1))
}

/// How many more candidates may meet every search seed within the budget that `trials` spent from.
pub fn evaluations_left(space: &SearchSpace, trials: &[Trial]) -> usize {
    let seeds = space.seeds.search.max(1) as usize;
    let runs: usize = trials.iter().map(|trial| trial.runs.len()).sum();
    (space.budget.evaluations as usize * seeds).saturating_sub(runs) / seeds
}

/// The spread between seeds that `trials` show.
pub(super) fn spreads(space: &SearchSpace, trials: &[Trial]) -> Spreads {
    let mut spreads = Spreads::default();
    for trial in trials {
        spreads.learn(space, &trial.runs);
    }
    spreads
}

/// Indexes of `trials` from best to worst: feasible ones by objective and then by their distance
/// from the limits (of equal costs the safer one first), infeasible ones by how far they are
/// outside, ties in order of trial.
pub fn ranking(space: &SearchSpace, trials: &[Trial]) -> Vec<usize> {
    let key = |trial: &Trial| -> (f64, f64, f64) {
        let violations = trial.score.violations(space);
        let worst = violations.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let objective = trial.score.objective.map(|value| space.objective.to_minimize(value));
        match objective {
            Some(objective) if trial.score.feasible => (0.0, objective, worst),
            _ => {
                let outside: f64 = violations.iter().map(|violation| violation.max(0.0)).sum();
                (1.0, outside, objective.unwrap_or(f64::INFINITY))
            }
        }
    };
    let keys: Vec<(f64, f64, f64)> = trials.iter().map(key).collect();
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by(|&left, &right| {
        let (a, b) = (keys[left], keys[right]);
        a.0.total_cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2.total_cmp(&b.2))
            .then(left.cmp(&right))
    });
    order
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::search::candidate::KnobValue;
    use crate::search::metric::Figures;

    /// A stable trial of a space whose first knob is an integer, one run with these figures.
    pub fn trial(space: &SearchSpace, index: usize, first: i64, figures: &[(&str, f64)]) -> Trial {
        let mut values: Vec<KnobValue> = space.knobs.iter().map(|knob| knob.rest).collect();
        values[0] = KnobValue::Int(first);
        trial_of(index, Candidate::canonical(space, values), space, figures)
    }

    /// A stable trial of one run with these figures.
    pub fn trial_of(
        index: usize,
        candidate: Candidate,
        space: &SearchSpace,
        figures: &[(&str, f64)],
    ) -> Trial {
        let mut kept = Figures::default();
        for (name, value) in figures {
            kept.set(name, *value);
        }
        let runs = vec![Run::new(1, true, kept)];
        let score = Score::of(space, &runs);
        Trial { index, by: Origin::Design, candidate, runs, dropped: None, score }
    }

    #[test]
    fn of_two_equal_costs_the_safer_candidate_ranks_first() {
        use crate::search::space::tests::{int, knob, space};
        let space = space(vec![knob("instances", int(1, 9))]);
        let trials = [
            trial(&space, 0, 3, &[("ttft_p99_ms", 900.0), ("cost_per_hour", 3.0)]),
            trial(&space, 1, 5, &[("ttft_p99_ms", 499.0), ("cost_per_hour", 5.0)]),
            trial(&space, 2, 6, &[("ttft_p99_ms", 200.0), ("cost_per_hour", 5.0)]),
            trial(&space, 3, 4, &[("ttft_p99_ms", 600.0), ("cost_per_hour", 4.0)]),
        ];
        assert_eq!(ranking(&space, &trials), [2, 1, 3, 0]);
    }

    #[test]
    fn a_state_knows_the_spread_that_all_its_trials_show() {
        use crate::search::space::tests::{int, knob, space};
        let space = space(vec![knob("instances", int(1, 9))]);
        let mut state = StudyState::default();
        for (index, (first, ttft)) in [(1, 300.0), (2, 410.0), (3, 450.0)].into_iter().enumerate() {
            let of = |ttft: f64| {
                let figures = [("ttft_p99_ms", ttft), ("cost_per_hour", 1.0)];
                trial(&space, index, first, &figures)
            };
            let (one, other) = (of(ttft), of(1.1 * ttft));
            state.proposed.push(Proposal { candidate: one.candidate, by: one.by });
            state.push_trial(&space, [one.runs, other.runs].concat(), None);
        }
        assert_eq!(state.spreads, spreads(&space, &state.trials));
        let variance = state.spreads.variance(0).expect("each trial met two seeds");
        assert!((variance - 0.5 * 1.1_f64.ln().powi(2)).abs() < 1e-12, "{variance}");
    }

    #[test]
    fn entries_out_of_order_are_refused_by_line() {
        use crate::search::space::tests::{int, knob, space};
        let space = space(vec![knob("instances", int(1, 9))]);
        let entries = [Entry::Finished { winner: None }];
        let error = StudyState::replay(&space, &entries, Path::new("j")).expect_err("no header");
        assert!(matches!(error, StudyError::Corrupt { line: 1, .. }));
    }
}
