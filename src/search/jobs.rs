//! Runs that are done in any order and told in theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::candidate::Candidate;
use super::error::StudyError;
use super::evaluate::{Evaluator, Job, Run};

/// What becomes of a candidate: its runs, and why it met no more seeds where it did not meet all.
#[derive(Clone, Debug)]
pub(super) struct Evaluated {
    /// In order of seeds.
    pub runs: Vec<Run>,
    /// Why there are no more.
    pub dropped: Option<String>,
}

/// How candidates meet seeds.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    /// The seeds in order.
    pub seeds: &'a [u64],
    /// Whether a run may be stopped that leaves no hope: only on seeds of the search.
    pub may_stop: bool,
    /// After how many of them a candidate is looked at, ascending, all of them last.
    pub looks: &'a [usize],
    /// Why a candidate with these runs meets no more seeds.
    pub verdict: &'a (dyn Fn(&mut Vec<Run>) -> Option<String> + Sync),
}

type Tell<'a> = &'a mut (dyn FnMut(usize, Evaluated) -> Result<(), StudyError> + Send);

/// Results as they come in, told in order of candidate.
struct InOrder<'a> {
    waiting: Vec<Option<Evaluated>>,
    next: usize,
    tell: Tell<'a>,
    error: Option<StudyError>,
}

impl InOrder<'_> {
    fn put(&mut self, candidate: usize, evaluated: Evaluated) {
        self.waiting[candidate] = Some(evaluated);
        while self.error.is_none() && self.next < self.waiting.len() {
            let Some(ready) = self.waiting[self.next].take() else { return };
            if let Err(error) = (self.tell)(self.next, ready) {
                self.error = Some(error);
            }
            self.next += 1;
        }
    }
}

/// Sends `candidates` on their `course`, each by itself, and tells what becomes of each in order,
/// as soon as it and all before it are done. What `stop` leaves incomplete is not told.
pub(super) fn evaluate(
    evaluator: &dyn Evaluator,
    candidates: &[Candidate],
    course: Course<'_>,
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Result<(), StudyError> {
    let waiting = vec![None; candidates.len()];
    let order = Mutex::new(InOrder { waiting, next: 0, tell, error: None });
    let failed = AtomicBool::new(false);
    let stop = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    candidates.par_iter().enumerate().with_max_len(1).for_each(|(index, candidate)| {
        if let Some(evaluated) = one(evaluator, candidate, course, &stop) {
            let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
            order.put(index, evaluated);
            failed.store(order.error.is_some(), Ordering::Relaxed);
        }
    });
    let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
    order.error.map_or(Ok(()), Err)
}

/// Sends one candidate on its course; `None` where it was stopped.
fn one(
    evaluator: &dyn Evaluator,
    candidate: &Candidate,
    course: Course<'_>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Evaluated> {
    let mut runs: Vec<Run> = Vec::with_capacity(course.seeds.len());
    for &look in course.looks {
        let job = |&seed: &u64| Job { candidate: candidate.clone(), seed };
        let jobs: Vec<Job> = course.seeds[runs.len()..look].iter().map(job).collect();
        let done: Mutex<Vec<Option<Run>>> = Mutex::new(vec![None; jobs.len()]);
        let sink = |index: usize, run| {
            done.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(run);
        };
        if course.may_stop {
            evaluator.screen(&jobs, stop, &sink);
        } else {
            evaluator.evaluate(&jobs, stop, &sink);
        }
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        runs.extend(done.into_iter().collect::<Option<Vec<Run>>>()?);
        let verdict = (course.verdict)(&mut runs);
        if look < course.seeds.len() && verdict.is_some() {
            return Some(Evaluated { runs, dropped: verdict });
        }
    }
    Some(Evaluated { runs, dropped: None })
}
