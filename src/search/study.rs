//! A study: propose, evaluate, journal, until the budget is spent; then test the best on fresh
//! seeds.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value as Json;

use super::candidate::Candidate;
use super::error::StudyError;
use super::evaluate::{Evaluator, Foresight, Run};
use super::identity::{header, same};
use super::jobs::{Course, Evaluated, evaluate};
use super::journal::{Entry, Journal, ProposedCandidate, SearchEnd};
use super::propose::{self, Proposer, ProposerKind, Sight};
use super::race::Race;
use super::read::Source;
use super::score::Score;
use super::space::SearchSpace;
use super::state::{StudyState, Trial, evaluations_left};
use crate::base::Span;

/// The journal's name in a study's folder.
pub const JOURNAL: &str = "journal.jsonl";
/// The lock's name in a study's folder.
const LOCK: &str = "lock";

/// What to do where the folder may hold a study already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There must be none.
    New,
    /// Go on with it; begin where there is none.
    Resume,
    /// Throw it away.
    Overwrite,
}

/// How to open a study.
#[derive(Clone, Debug)]
pub struct StudyOptions {
    /// The study's folder; made where it does not exist.
    pub folder: PathBuf,
    /// What to do with a study in it.
    pub mode: Mode,
    /// Who proposes.
    pub proposer: ProposerKind,
    /// The texts of all input files, kept in the journal.
    pub sources: Vec<Source>,
}

/// What a study gets from outside: who simulates, and what stops it.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Whose threads simulate, where several studies share them; `None`: those of the current pool.
    pub workers: Option<&'a rayon::ThreadPool>,
    /// Set to end after the evaluations that run.
    pub stop: &'a AtomicBool,
    /// Wall time since this process began to search; read between batches only.
    pub elapsed: &'a dyn Fn() -> Span,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Limits").field("stop", self.stop).finish_non_exhaustive()
    }
}

/// What a study is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Filling the space.
    Start,
    /// Looking for the best.
    Search,
    /// Testing the best on fresh seeds.
    Verify,
    /// Trying what lies one step from the winner so far.
    Certify,
    /// Testing the frontier on fresh seeds.
    Frontier,
}

/// How far a study is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What it is doing.
    pub phase: Phase,
    /// Evaluations of the search; in [`Phase::Verify`] and [`Phase::Frontier`] candidates tested
    /// on fresh seeds, in [`Phase::Certify`] evaluations of the certificate.
    pub done: usize,
    /// The most there will be.
    pub total: usize,
    /// The best feasible candidate so far.
    pub best: Option<&'a Trial>,
    /// The state behind it.
    pub state: &'a StudyState,
}

/// Watches a study; called after each journalled evaluation, one call at a time.
pub trait Observer: Send {
    /// Something was journalled.
    fn progress(&mut self, progress: &Progress<'_>);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn progress(&mut self, _: &Progress<'_>) {}
}

/// How a study ended; why the search stopped is in [`StudyState::searched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StudyEnd {
    /// This trial kept its promises on fresh seeds.
    Found {
        /// Its number.
        trial: usize,
    },
    /// No candidate kept its promises within the budget.
    NoFeasible,
    /// The stop flag was set; the journal goes on with [`Mode::Resume`].
    Interrupted,
}

/// An open study; its folder is locked while it lives.
#[derive(Debug)]
pub struct Study {
    pub(super) space: SearchSpace,
    proposer: Box<dyn Proposer>,
    journal: Journal,
    pub(super) state: StudyState,
    /// Who meets fresh seeds: a function of the trials of the search.
    pub(super) finalists: OnceCell<Vec<usize>>,
    /// Held, never read.
    _lock: File,
}

impl Study {
    /// Opens or begins the study of `space` in the folder of `options`, for results of the
    /// evaluator of this `version`.
    ///
    /// # Errors
    /// [`StudyError::Exists`], [`StudyError::Locked`], [`StudyError::Different`],
    /// [`StudyError::Corrupt`], [`StudyError::Io`].
    pub fn open(
        space: SearchSpace,
        options: &StudyOptions,
        version: u64,
    ) -> Result<Self, StudyError> {
        let folder = &options.folder;
        std::fs::create_dir_all(folder).map_err(io(folder, "create"))?;
        let lock = lock(folder)?;
        let path = folder.join(JOURNAL);
        let has_journal = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0);
        match options.mode {
            Mode::New if has_journal => {
                return Err(StudyError::Exists { folder: folder.clone() });
            }
            Mode::Overwrite if has_journal => {
                std::fs::remove_file(&path).map_err(io(&path, "remove"))?;
            }
            _ => {}
        }
        let header = header(&space, options, version);
        let (mut journal, entries) = Journal::open(&path)?;
        if let Some(Entry::Header(found)) = entries.first() {
            same(folder, found, &header)?;
        }
        let mut state = StudyState::replay(&space, &entries, &path)?;
        if entries.is_empty() {
            let entry = Entry::Header(header);
            journal.append(&entry)?;
            state.follow(&space, &entry).expect("a header comes first");
        }
        let proposer = options.proposer.proposer();
        let finalists = OnceCell::new();
        Ok(Self { space, proposer, journal, state, finalists, _lock: lock })
    }

    /// What the journal tells so far.
    pub fn state(&self) -> &StudyState {
        &self.state
    }

    /// The space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Goes on until the study is finished or stopped. Calling it again goes on.
    ///
    /// # Errors
    /// [`StudyError::Io`] where the journal cannot be written; it then holds what came before.
    pub fn run(
        &mut self,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<StudyEnd, StudyError> {
        while self.state.searched.is_none() {
            self.evaluate_proposed(evaluator, observer, limits)?;
            if limits.stop.load(Ordering::Relaxed) {
                return Ok(StudyEnd::Interrupted);
            }
            self.propose_or_end(evaluator, limits)?;
        }
        while !self.state.finished {
            if limits.stop.load(Ordering::Relaxed) {
                return Ok(StudyEnd::Interrupted);
            }
            self.verify_or_finish(evaluator, observer, limits)?;
        }
        Ok(self.state.winner.map_or(StudyEnd::NoFeasible, |trial| StudyEnd::Found { trial }))
    }

    pub(super) fn record(&mut self, entry: &Entry) -> Result<(), StudyError> {
        self.journal.append(entry)?;
        self.state.follow(&self.space, entry).expect("a study journals in order");
        Ok(())
    }

    /// Evaluates what was proposed and not yet evaluated.
    fn evaluate_proposed(
        &mut self,
        evaluator: &dyn Evaluator,
        observer: &mut dyn Observer,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let first = self.state.trials.len();
        let candidates: Vec<Candidate> =
            self.state.proposed[first..].iter().map(|p| p.candidate.clone()).collect();
        let (space, before) = (self.space.clone(), self.state.before_batch().to_vec());
        let race = Race::new(&space, &before);
        let seeds = space.seeds.of_search();
        let verdict = |runs: &mut Vec<Run>| {
            complete(&space, runs);
            race.verdict(runs)
        };
        let looks = Race::looks(seeds.len());
        let course = Course { seeds: &seeds, may_stop: true, looks: &looks, verdict: &verdict };
        evaluate(evaluator, &candidates, course, limits, &mut |offset, evaluated| {
            let trial = first + offset;
            let Evaluated { runs, dropped } = evaluated;
            let score = score_json(&self.state.score_of(&space, &runs));
            let knobs = candidates[offset].to_json(&space);
            self.record(&Entry::Evaluated { trial, knobs, runs, dropped, score })?;
            self.report(observer);
            Ok(())
        })
    }

    /// The requests of all runs of the search.
    fn requests_so_far(&self, evaluator: &dyn Evaluator) -> u64 {
        let seeds = self.space.seeds.of_search();
        let met = |at: usize| self.state.trials.iter().filter(|t| t.runs.len() > at).count() as u64;
        let each = seeds.iter().enumerate().map(|(at, &seed)| (met(at), seed));
        let begun = each.filter(|(runs, _)| *runs > 0);
        begun.map(|(runs, seed)| runs * evaluator.requests(seed)).sum()
    }

    fn report(&self, observer: &mut dyn Observer) {
        let state = &self.state;
        let is_start = state.trials.len() < propose::start_count(&self.space);
        let done = state.evaluations(&self.space) as usize;
        observer.progress(&Progress {
            phase: if is_start { Phase::Start } else { Phase::Search },
            done,
            total: self.space.budget.evaluations as usize,
            best: state.best(&self.space),
            state,
        });
    }

    fn propose_or_end(
        &mut self,
        evaluator: &dyn Evaluator,
        limits: Limits<'_>,
    ) -> Result<(), StudyError> {
        let budget = &self.space.budget;
        if evaluations_left(&self.space, &self.state.trials) == 0 {
            return self.record(&Entry::Searched { why: SearchEnd::Evaluations });
        }
        if budget.wall.is_some_and(|wall| (limits.elapsed)() >= wall) {
            return self.record(&Entry::Searched { why: SearchEnd::Wall });
        }
        let spent = |most: u64| self.requests_so_far(evaluator) >= most;
        if budget.requests.is_some_and(spent) {
            return self.record(&Entry::Searched { why: SearchEnd::Requests });
        }
        let (batch, history) = (self.state.batches, &self.state.trials);
        let foresight = Foresight::from(evaluator);
        let sight = Sight { space: &self.space, history, batch, foresight };
        let expected = budget.gain.and_then(|_| sight.gain(self.proposer.as_ref()));
        if expected.zip(budget.gain).is_some_and(|(expected, least)| expected < least) {
            return self.record(&Entry::Searched { why: SearchEnd::Gain });
        }
        let begun = (limits.elapsed)();
        let proposals = sight.next_batch(self.proposer.as_ref());
        let took = ((limits.elapsed)() - begun).as_secs();
        let (name, count) = (&self.space.name, proposals.len());
        tracing::debug!("{name}, batch {batch}: {count} candidates proposed in {took:.3} s");
        if proposals.is_empty() {
            return self.record(&Entry::Searched { why: SearchEnd::Exhausted });
        }
        let candidates = proposals.iter().map(|proposal| ProposedCandidate {
            by: proposal.by,
            knobs: proposal.candidate.to_json(&self.space),
        });
        let candidates = candidates.collect();
        self.record(&Entry::Proposed { batch, candidates })
    }
}

/// Lets the figures be complete that only the space can tell.
pub(super) fn complete(space: &SearchSpace, runs: &mut [Run]) {
    let whole = |run: &&mut Run| run.failed.is_none() && run.stopped.is_none();
    for run in runs.iter_mut().filter(whole) {
        space.complete(&mut run.figures);
    }
}

pub(super) fn score_json(score: &Score) -> Json {
    serde_json::to_value(score).expect("scores hold finite numbers only")
}

fn lock(folder: &Path) -> Result<File, StudyError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io(&path, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StudyError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(&path, "lock")(source)),
    }
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> StudyError {
    move |source| StudyError::Io { path: path.to_owned(), action, source }
}
