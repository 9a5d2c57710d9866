//! Runs that are done in any order and told in theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::candidate::Candidate;
use super::error::StudyError;
use super::evaluate::{Evaluator, Job, Run};

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
pub(super) fn evaluate(
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
