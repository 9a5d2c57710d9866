//! Runs that are done in any order and told in theirs.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
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

/// Sends `candidates` on their `course`, each by itself, and tells what becomes of each in order,
/// as soon as it and all before it are done. What is stopped incomplete is not told.
///
/// Telling waits for a disk: a thread of its own does it, so that no simulation waits with it.
pub(super) fn evaluate(
    evaluator: &dyn Evaluator,
    candidates: &[Candidate],
    course: Course<'_>,
    Limits { workers, stop, .. }: Limits<'_>,
    tell: Tell<'_>,
) -> Result<(), StudyError> {
    let failed = AtomicBool::new(false);
    let stop = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let next = AtomicUsize::new(0);
    // Workers take the next candidate themselves, so that they begin in order: what is told is a
    // prefix, and a long one does not wait behind short ones.
    let work = |done: &Sender<(usize, Evaluated)>| {
        while !stop() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = candidates.get(index) else { break };
            if let Some(evaluated) = one(evaluator, candidate, course, &stop) {
                // Nobody listens any more where telling failed.
                let _ = done.send((index, evaluated));
            }
        }
    };
    let all_work = |done: Sender<(usize, Evaluated)>| {
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(candidates.len()) {
                let done = done.clone();
                scope.spawn(move |_| work(&done));
            }
        });
    };
    std::thread::scope(|scope| {
        let (done, told) = channel();
        let teller = scope.spawn(|| {
            let ended = tell_in_order(told, candidates.len(), tell);
            failed.store(ended.is_err(), Ordering::Relaxed);
            ended
        });
        match workers {
            Some(pool) => pool.install(|| all_work(done)),
            None => all_work(done),
        }
        teller.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Tells `count` results as they come in, in order of candidate.
fn tell_in_order(
    told: Receiver<(usize, Evaluated)>,
    count: usize,
    tell: Tell<'_>,
) -> Result<(), StudyError> {
    let mut waiting: Vec<Option<Evaluated>> = vec![None; count];
    let mut next = 0;
    for (index, evaluated) in told {
        waiting[index] = Some(evaluated);
        while let Some(ready) = waiting.get_mut(next).and_then(Option::take) {
            tell(next, ready)?;
            next += 1;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::candidate::KnobValue;
    use crate::search::evaluate::{Sink, Stop};
    use crate::search::metric::Figures;
    use crate::search::space::tests::{int, knob, space};
    use std::time::Duration;

    /// Counts its runs, which take no time.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Evaluator for Counting {
        fn version(&self) -> u64 {
            0
        }

        fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
            for (index, job) in jobs.iter().enumerate().take_while(|_| !stop()) {
                self.0.fetch_add(1, Ordering::SeqCst);
                done(index, Run::new(job.seed, true, Figures::default()));
            }
        }
    }

    /// Evaluates eight candidates on one thread.
    fn eight(evaluator: &Counting, tell: Tell<'_>) -> Result<(), StudyError> {
        let space = space(vec![knob("a", int(1, 8))]);
        let candidate = |value| Candidate::canonical(&space, vec![KnobValue::Int(value)]);
        let candidates: Vec<Candidate> = (1..=8).map(candidate).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let stop = AtomicBool::new(false);
        let elapsed = || crate::base::Span::ZERO;
        let limits = Limits { workers: Some(&pool), stop: &stop, elapsed: &elapsed };
        let course = Course { seeds: &[7], may_stop: false, looks: &[1], verdict: &|_| None };
        evaluate(evaluator, &candidates, course, limits, tell)
    }

    #[test]
    fn a_slow_disk_holds_no_simulation_up() {
        let evaluator = Counting::default();
        let mut told = Vec::new();
        eight(&evaluator, &mut |index, _| {
            for _ in 0..1000 {
                if evaluator.0.load(Ordering::SeqCst) == 8 {
                    told.push(index);
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!(told, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_cannot_be_told_ends_it() {
        let evaluator = Counting::default();
        let mut told = Vec::new();
        let ended = eight(&evaluator, &mut |index, _| {
            told.push(index);
            let full = StudyError::Locked { folder: "s".into() };
            if index < 2 { Ok(()) } else { Err(full) }
        });
        assert!(matches!(ended, Err(StudyError::Locked { .. })));
        assert_eq!(told, [0, 1, 2]);
    }
}
