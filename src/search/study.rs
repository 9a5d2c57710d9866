//! A study: propose, evaluate, journal, until the budget is spent; then test the best on fresh
//! seeds.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

use super::candidate::{Candidate, fnv1a};
use super::error::StudyError;
use super::evaluate::{Evaluator, Job, Run};
use super::journal::{Entry, FORMAT, Header, Journal, ProposedCandidate, SearchEnd};
use super::propose::{self, ProposerKind};
use super::read::Source;
use super::score::Score;
use super::space::SearchSpace;
use super::state::{StudyState, Trial, ranking};
use crate::base::Span;

/// The journal's name in a study's folder.
pub const JOURNAL: &str = "journal.jsonl";
/// The lock's name in a study's folder.
const LOCK: &str = "lock";
/// The most candidates that meet fresh seeds.
const VERIFIED_MAX: usize = 12;

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

/// What stops a study from outside.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
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
}

/// How far a study is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What it is doing.
    pub phase: Phase,
    /// Candidates evaluated in the search; in [`Phase::Verify`] candidates tested.
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
    space: SearchSpace,
    options: StudyOptions,
    journal: Journal,
    state: StudyState,
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
        options: StudyOptions,
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
        let header = header(&space, &options, version);
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
        Ok(Self { space, options, journal, state, _lock: lock })
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
            self.propose_or_end(limits)?;
        }
        while !self.state.finished {
            if limits.stop.load(Ordering::Relaxed) {
                return Ok(StudyEnd::Interrupted);
            }
            self.verify_or_finish(evaluator, observer, limits)?;
        }
        Ok(self.state.winner.map_or(StudyEnd::NoFeasible, |trial| StudyEnd::Found { trial }))
    }

    fn record(&mut self, entry: &Entry) -> Result<(), StudyError> {
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
        let seeds = self.space.seeds.of_search();
        evaluate(evaluator, &candidates, &seeds, limits.stop, &mut |offset, runs| {
            let trial = first + offset;
            let runs = completed(&self.space, runs);
            let score = score_json(&Score::of(&self.space, &runs));
            let knobs = candidates[offset].to_json(&self.space);
            self.record(&Entry::Evaluated { trial, knobs, runs, score })?;
            self.report(observer);
            Ok(())
        })
    }

    fn report(&self, observer: &mut dyn Observer) {
        let state = &self.state;
        let done = state.trials.len();
        let is_start = done < propose::start_count(&self.space);
        observer.progress(&Progress {
            phase: if is_start { Phase::Start } else { Phase::Search },
            done,
            total: self.space.budget.evaluations as usize,
            best: state.best(&self.space),
            state,
        });
    }

    fn propose_or_end(&mut self, limits: Limits<'_>) -> Result<(), StudyError> {
        let budget = &self.space.budget;
        if self.state.trials.len() >= budget.evaluations as usize {
            return self.record(&Entry::Searched { why: SearchEnd::Evaluations });
        }
        if budget.wall.is_some_and(|wall| (limits.elapsed)() >= wall) {
            return self.record(&Entry::Searched { why: SearchEnd::Wall });
        }
        let proposer = self.options.proposer.proposer();
        let (batch, history) = (self.state.batches, &self.state.trials);
        let proposals = propose::next_batch(&self.space, proposer.as_ref(), history, batch);
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

    /// Takes the next best candidate to fresh seeds, or ends the study.
    fn verify_or_finish(
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
        evaluate(evaluator, &[candidate], &seeds, limits.stop, &mut |_, runs| {
            let runs = completed(&self.space, runs);
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

/// Lets the figures be complete that only the space can tell.
fn completed(space: &SearchSpace, mut runs: Vec<Run>) -> Vec<Run> {
    for run in runs.iter_mut().filter(|run| run.failed.is_none()) {
        space.complete(&mut run.figures);
    }
    runs
}

fn score_json(score: &Score) -> Json {
    serde_json::to_value(score).expect("scores hold finite numbers only")
}

/// Results as they come in, told in order of candidate.
struct InOrder<'a> {
    runs: Vec<Vec<Option<Run>>>,
    next: usize,
    tell: &'a mut (dyn FnMut(usize, Vec<Run>) -> Result<(), StudyError> + Send),
    error: Option<StudyError>,
}

impl InOrder<'_> {
    fn put(&mut self, candidate: usize, seed: usize, run: Run) {
        self.runs[candidate][seed] = Some(run);
        while self.error.is_none() && self.next < self.runs.len() {
            if self.runs[self.next].iter().any(Option::is_none) {
                return;
            }
            let runs = std::mem::take(&mut self.runs[self.next]).into_iter().flatten().collect();
            if let Err(error) = (self.tell)(self.next, runs) {
                self.error = Some(error);
            }
            self.next += 1;
        }
    }
}

/// Evaluates `candidates` under `seeds` and tells each candidate's runs in order, as soon as it
/// and all before it are complete. What `stop` leaves incomplete is not told.
fn evaluate(
    evaluator: &dyn Evaluator,
    candidates: &[Candidate],
    seeds: &[u64],
    stop: &AtomicBool,
    tell: &mut (dyn FnMut(usize, Vec<Run>) -> Result<(), StudyError> + Send),
) -> Result<(), StudyError> {
    if candidates.is_empty() {
        return Ok(());
    }
    let jobs: Vec<Job> = candidates
        .iter()
        .flat_map(|candidate| seeds.iter().map(|&seed| Job { candidate: candidate.clone(), seed }))
        .collect();
    let runs = vec![vec![None; seeds.len()]; candidates.len()];
    let order = Mutex::new(InOrder { runs, next: 0, tell, error: None });
    let failed = AtomicBool::new(false);
    let done = |index: usize, run: Run| {
        let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
        order.put(index / seeds.len(), index % seeds.len(), run);
        failed.store(order.error.is_some(), Ordering::Relaxed);
    };
    let stop = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    evaluator.evaluate(&jobs, &stop, &done);
    let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
    order.error.map_or(Ok(()), Err)
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

fn header(space: &SearchSpace, options: &StudyOptions, version: u64) -> Header {
    let texts = options.sources.iter().map(|source| format!("{:?} {}\n", source.role, source.text));
    // Wall time stops a search and never steers it; everything else does.
    let mut steering = space.clone();
    steering.budget.wall = None;
    let hashed = format!("{steering:?}\n{}", texts.collect::<String>());
    Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        study: space.name.clone(),
        seed: space.seeds.base,
        proposer: options.proposer.name().to_owned(),
        evaluator: format!("{version:016x}"),
        hash: format!("{:016x}", fnv1a(hashed.as_bytes())),
        sources: options.sources.clone(),
    }
}

/// Whether a journal begun with `found` may go on under `wanted`.
fn same(folder: &Path, found: &Header, wanted: &Header) -> Result<(), StudyError> {
    let what = if found.format != wanted.format {
        format!("journal format {} instead of {}", found.format, wanted.format)
    } else if found.version != wanted.version {
        format!("version {} of this program instead of {}", found.version, wanted.version)
    } else if found.seed != wanted.seed {
        format!("seed {} instead of {}", found.seed, wanted.seed)
    } else if found.proposer != wanted.proposer {
        format!("proposer `{}` instead of `{}`", found.proposer, wanted.proposer)
    } else if found.hash != wanted.hash {
        format!("other {}", differing(found, wanted))
    } else if found.study != wanted.study || found.evaluator != wanted.evaluator {
        "other defaults or another run length".to_owned()
    } else {
        return Ok(());
    };
    Err(StudyError::Different { folder: folder.to_owned(), what })
}

/// Which input files are not as they were.
fn differing(found: &Header, wanted: &Header) -> String {
    let changed = wanted.sources.iter().filter(|source| {
        !found.sources.iter().any(|old| old.role == source.role && old.text == source.text)
    });
    let names: Vec<String> = changed.map(|source| format!("text in `{}`", source.file)).collect();
    if names.is_empty() { "settings (budget, seeds)".to_owned() } else { names.join(" and ") }
}
