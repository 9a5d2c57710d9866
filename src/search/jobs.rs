//! Runs that are done in any order and told in theirs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::candidate::Candidate;
use super::error::StudyError;
use super::evaluate::{Evaluator, Job, Run};
use super::study::Limits;

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
/// as soon as it and all before it are done. What is stopped incomplete is not told.
pub(super) fn evaluate(
    evaluator: &dyn Evaluator,
    candidates: &[Candidate],
    course: Course<'_>,
    Limits { workers, stop, .. }: Limits<'_>,
    tell: Tell<'_>,
) -> Result<(), StudyError> {
    let waiting = vec![None; candidates.len()];
    let order = Mutex::new(InOrder { waiting, next: 0, tell, error: None });
    let failed = AtomicBool::new(false);
    let stop = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let next = AtomicUsize::new(0);
    // Workers take the next candidate themselves, so that they begin in order: what is told is a
    // prefix, and a long one does not wait behind short ones.
    let work = || {
        while !stop() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = candidates.get(index) else { break };
            if let Some(evaluated) = one(evaluator, candidate, course, &stop) {
                let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                order.put(index, evaluated);
                failed.store(order.error.is_some(), Ordering::Relaxed);
            }
        }
    };
    let all_work = || {
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(candidates.len()) {
                scope.spawn(|_| work());
            }
        });
    };
    match workers {
        Some(pool) => pool.install(all_work),
        None => all_work(),
    }
    let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
    order.error.map_or(Ok(()), Err)
}

/// Sends one candidate on its course; `None` where it was stopped.
///
/// Who passes the first look mostly passes all. So threads that have nothing else to do begin what
/// lies behind the next look, and it counts for nothing if that look says no.
fn one(
    evaluator: &dyn Evaluator,
    candidate: &Candidate,
    course: Course<'_>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Evaluated> {
    let all = course.seeds.len();
    let told: Mutex<Vec<Option<Run>>> = Mutex::new(vec![None; all]);
    let judged = || {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let runs: Vec<Run> = told.iter().map_while(Clone::clone).collect();
        drop(told);
        judged(course, &runs)
    };
    let mut from = 0;
    for until in [course.looks.first().map_or(all, |&look| look), all] {
        let job = |&seed: &u64| Job { candidate: candidate.clone(), seed };
        let jobs: Vec<Job> = course.seeds[from..until].iter().map(job).collect();
        let settled = AtomicBool::new(false);
        let is_looked_into = course.looks.iter().any(|&look| from < look && look < until);
        let sink = |index: usize, run| {
            told.lock().unwrap_or_else(PoisonError::into_inner)[from + index] = Some(run);
            if is_looked_into && judged().is_some() {
                settled.store(true, Ordering::Relaxed);
            }
        };
        let stop = || stop() || settled.load(Ordering::Relaxed);
        if course.may_stop {
            evaluator.screen(&jobs, &stop, &sink);
        } else {
            evaluator.evaluate(&jobs, &stop, &sink);
        }
        if let Some(evaluated) = judged() {
            return Some(evaluated);
        }
        from = until;
    }
    None
}

/// What becomes of a candidate whose first runs are `runs`; `None` where they do not reach the
/// look that tells.
fn judged(course: Course<'_>, runs: &[Run]) -> Option<Evaluated> {
    for &look in course.looks {
        let mut seen = runs.get(..look)?.to_vec();
        let verdict = (course.verdict)(&mut seen);
        if look == course.seeds.len() {
            return Some(Evaluated { runs: seen, dropped: None });
        }
        if verdict.is_some() {
            return Some(Evaluated { runs: seen, dropped: verdict });
        }
    }
    None
}
