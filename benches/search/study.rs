//! One study, watched from outside.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use blis_opt::base::Span;
use blis_opt::search::{
    Candidate, Evaluator, Job, Limits, Mode, NoObserver, ProposerKind, Run, Score, SearchSpace,
    Seeds, Sink, Stop, Study, StudyOptions,
};

use super::problems::{Problem, Truth};

/// What a study came to.
#[derive(Clone, Debug)]
pub struct Told {
    /// Every candidate that met all seeds, with the runs that were done before its last, in order:
    /// one that was dropped early is lost to the search, however good it is.
    pub met: Vec<Met>,
    /// Runs on the seeds of the search.
    pub runs: u64,
    /// Runs on fresh seeds.
    pub fresh_runs: u64,
    /// The truth about what the study picks.
    pub winner: Option<Truth>,
    /// CPU time besides evaluations, in seconds.
    pub cpu_s: f64,
    /// Wall time, in seconds.
    pub wall_s: f64,
}

/// A candidate that met all seeds of the search.
#[derive(Clone, Debug)]
pub struct Met {
    /// The runs that were done before its last.
    before: u64,
    candidate: Candidate,
    /// The objective that the search saw, to be made small.
    seen: f64,
    /// Whether what the search saw is far outside of a constraint.
    hopeless: bool,
}

/// What is further outside than this on the scale of violations is not asked for its truth where
/// truth is dear: 1.5 times a limit.
const HOPELESS: f64 = 0.4;

/// By which share a cost that was seen is clearly above a true one.
const CLEARLY: f64 = 0.03;

impl Met {
    fn of(space: &SearchSpace, candidate: &Candidate, before: u64, runs: &[Run]) -> Self {
        let score = Score::of(space, runs);
        let worst = score.violations(space).into_iter().fold(f64::MIN, f64::max);
        let seen =
            score.objective.map_or(f64::INFINITY, |value| space.objective.to_minimize(value));
        Self { before, candidate: candidate.clone(), seen, hopeless: worst > HOPELESS }
    }
}

impl Told {
    /// The cost of the best truly feasible candidate within so many evaluations. Where truth is
    /// dear, it is asked in order of what the search saw, until that is clearly dearer than the
    /// best.
    pub fn best_within(&self, problem: &dyn Problem, evaluations: u32) -> Option<f64> {
        let runs = u64::from(evaluations) * u64::from(problem.space().seeds.search);
        let mut met: Vec<&Met> = self.met.iter().take_while(|met| met.before < runs).collect();
        let is_dear = problem.truth_is_dear();
        if is_dear {
            met.retain(|met| !met.hopeless);
            met.sort_by(|left, right| left.seen.total_cmp(&right.seen));
        }
        let mut best = f64::INFINITY;
        for met in met {
            if is_dear && met.seen > best + CLEARLY * best.abs() {
                break;
            }
            let truth = problem.truth(&met.candidate);
            if truth.feasible {
                best = best.min(truth.cost);
            }
        }
        best.is_finite().then_some(best)
    }
}

/// The seeds of a repetition: none shares any with another.
pub fn seeds_of(space: &SearchSpace, repetition: u64) -> Seeds {
    Seeds { base: 10_000 * (repetition + 1), ..space.seeds }
}

/// Runs a study on this thread alone.
pub fn run(problem: &dyn Problem, proposer: ProposerKind, evaluations: u32, seed: u64) -> Told {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| run_here(problem, proposer, evaluations, seed))
}

fn run_here(problem: &dyn Problem, proposer: ProposerKind, evaluations: u32, seed: u64) -> Told {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut space = problem.space().clone();
    space.seeds = seeds_of(&space, seed);
    space.budget.evaluations = evaluations;
    let options = StudyOptions {
        folder: folder.path().to_owned(),
        mode: Mode::New,
        proposer,
        sources: Vec::new(),
    };
    let watched = Watched { problem, space: space.clone(), log: Mutex::default() };
    let (started, cpu) = (Instant::now(), thread_cpu_s());
    let mut study = Study::open(space, &options, problem.version()).expect("a new study");
    let stop = AtomicBool::new(false);
    let limits = Limits { workers: None, stop: &stop, elapsed: &|| Span::ZERO };
    study.run(&watched, &mut NoObserver, limits).expect("a study");
    let state = study.state();
    let winner = state.winner.map(|trial| problem.truth(&state.trials[trial].candidate));
    let log = watched.log.into_inner().unwrap_or_else(PoisonError::into_inner);
    Told {
        met: log.met,
        runs: log.runs,
        fresh_runs: log.fresh_runs,
        winner,
        cpu_s: (thread_cpu_s() - cpu - log.cpu_s).max(0.0),
        wall_s: started.elapsed().as_secs_f64(),
    }
}

#[derive(Debug, Default)]
struct Log {
    met: Vec<Met>,
    /// The runs of each candidate on the seeds of the search.
    known: BTreeMap<u64, Vec<Run>>,
    runs: u64,
    fresh_runs: u64,
    cpu_s: f64,
}

/// Passes jobs on and keeps count.
struct Watched<'a> {
    problem: &'a dyn Problem,
    space: SearchSpace,
    log: Mutex<Log>,
}

impl Watched<'_> {
    fn note(&self, log: &mut Log, job: &Job, run: &Run) {
        let Seeds { base, .. } = self.space.seeds;
        if job.seed >= base + u64::from(Seeds::SEARCH_MAX) {
            log.fresh_runs += 1;
            return;
        }
        let known = log.known.entry(job.candidate.hash()).or_default();
        known.push(run.clone());
        if known.len() == self.space.seeds.search as usize {
            log.met.push(Met::of(&self.space, &job.candidate, log.runs, known));
        }
        log.runs += 1;
    }

    /// Notes what `ask` tells of `jobs`, and tells it.
    fn watch(&self, jobs: &[Job], done: Sink<'_>, ask: impl FnOnce(Sink<'_>)) {
        let cpu = thread_cpu_s();
        let told = Mutex::new(Vec::with_capacity(jobs.len()));
        ask(&|index, run| {
            told.lock().unwrap_or_else(PoisonError::into_inner).push((index, run));
        });
        let mut told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        told.sort_by_key(|(index, _)| *index);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, run) in &told {
            self.note(&mut log, &jobs[*index], run);
        }
        log.cpu_s += thread_cpu_s() - cpu;
        drop(log);
        for (index, run) in told {
            done(index, run);
        }
    }
}

impl Evaluator for Watched<'_> {
    fn version(&self) -> u64 {
        self.problem.version()
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.watch(jobs, done, |sink| self.problem.evaluate(jobs, stop, sink));
    }

    fn screen(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.watch(jobs, done, |sink| self.problem.screen(jobs, stop, sink));
    }

    fn known_objective(&self, candidate: &Candidate) -> Option<f64> {
        self.problem.known_objective(candidate)
    }

    fn hopeless(&self, candidate: &Candidate) -> Option<String> {
        self.problem.hopeless(candidate)
    }
}

/// CPU time of this thread in seconds, as far as the system tells.
fn thread_cpu_s() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}
