//! Studies whose truth is known: evaluators in closed form, and how tests run them.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use blis_opt::base::{Rng, Span, Stream};
use blis_opt::config::{Defaults, Problems};
use blis_opt::search::{
    Candidate, Evaluator, Figures, Job, Limits, Mode, NoObserver, Observer, ProposerKind, Run,
    SearchSpace, Sink, SpaceFile, Stop, Study, StudyEnd, StudyOptions, StudyState, read_space,
};

/// A template, its load, and the knob that turns its `start` instances into 4 to `most`.
pub fn fleet(start: u32, most: u32) -> String {
    format!(
        "template:
  pools: {{h100: {{model: meta-llama/llama-3.1-8b-instruct, gpu: H100, instances: {start}}}}}
  routing: {{policy: round-robin}}
  batching: {{max_running_requests: 128}}
workload: {{rate: 500, num_requests: 10}}
knobs:
  {INSTANCES}: {{int: [4, {most}]}}
"
    )
}

const INSTANCES: &str = "pools.h100.instances";
/// A knob that may stand behind those of [`fleet`].
pub const ROUTING: &str = "  routing.policy: {choice: [round-robin, least-loaded]}\n";
/// Another one.
pub const LIMIT: &str = "  batching.max_running_requests: {int: [32, 256]}\n";

/// A space for [`serving`].
pub static SPACE: LazyLock<String> = LazyLock::new(|| {
    let goal = "objective:
  minimize: cost_per_hour
  subject_to: [ttft_p99_ms <= 500, completed_ratio >= 0.999]
seeds: {search: 3, verify: 5}
budget: {evaluations: 40}
";
    [&fleet(20, 64), ROUTING, LIMIT, goal].concat()
});

pub fn file(text: &str) -> SpaceFile {
    let mut problems = Problems::new();
    let none = |_: &str| Err("no file".to_owned());
    let read = read_space(("serving.yaml", text), Defaults::embedded(), &none, &mut problems);
    read.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

pub fn space(text: &str) -> SearchSpace {
    file(text).space
}

/// Instances, batch limit and whether requests are routed well: what a closed form is about.
pub fn knobs(space: &SearchSpace, candidate: &Candidate) -> (f64, f64, bool) {
    let labels = candidate.labels(space);
    let label = |path: &str| labels.iter().find(|(name, _)| name == path).map(|(_, v)| v.as_str());
    let number = |path: &str| label(path).map(|text| text.parse().expect("a number"));
    let instances = number(INSTANCES).expect("an active knob");
    let limit = number("batching.max_running_requests").unwrap_or(256.0);
    (instances, limit, label("routing.policy") != Some("round-robin"))
}

/// Lets all threads take jobs in order, as an evaluator does.
fn on_all_threads(
    jobs: &[Job],
    (stop, done): (Stop<'_>, Sink<'_>),
    run: impl Fn(&Job) -> Run + Sync,
) {
    let next = AtomicUsize::new(0);
    rayon::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(jobs.len()) {
            scope.spawn(|_| {
                while !stop() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    done(index, run(job));
                }
            });
        }
    });
}

/// What both evaluators call themselves.
pub const VERSION: u64 = 7;
/// Requests of a run.
pub const REQUESTS: u64 = 10;

/// TTFT p99, cost and stability of a fleet; `None` where there is no such policy.
pub type Truth = fn(instances: f64, limit: f64, routed_well: bool) -> Option<(f64, f64, bool)>;

/// Tells a truth with a little noise, which all candidates share under a seed.
pub struct Synthetic<'a> {
    pub space: &'a SearchSpace,
    truth: Truth,
    /// How many runs there were.
    pub evaluated: AtomicUsize,
}

impl<'a> Synthetic<'a> {
    pub fn new(space: &'a SearchSpace, truth: Truth) -> Self {
        Self { space, truth, evaluated: AtomicUsize::new(0) }
    }

    pub fn run(&self, job: &Job) -> Run {
        self.evaluated.fetch_add(1, Ordering::Relaxed);
        let (instances, limit, routed_well) = knobs(self.space, &job.candidate);
        let Some((ttft, cost, stable)) = (self.truth)(instances, limit, routed_well) else {
            return Run::failed(job.seed, "no such policy".to_owned());
        };
        let noise = 0.02 * Rng::new(job.seed, Stream::Arrivals, 0).normal();
        let mut figures = Figures::default();
        figures.set("ttft_p99_ms", ttft * (1.0 + noise));
        figures.set("completed_ratio", 1.0);
        figures.set("cost_per_hour", cost);
        Run::new(job.seed, stable, figures)
    }
}

impl Evaluator for Synthetic<'_> {
    fn requests(&self, _: u64) -> u64 {
        REQUESTS
    }

    fn version(&self) -> u64 {
        VERSION
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        on_all_threads(jobs, (stop, done), |job| self.run(job));
    }
}

/// Capacity grows with instances, batch limit and routing; 12 instances are enough, but only with
/// a batch limit of at least 230 and good routing. Round-robin needs 14.
#[expect(clippy::unnecessary_wraps, reason = "it is a `Truth`, and others fail")]
pub fn serving(instances: f64, limit: f64, routed_well: bool) -> Option<(f64, f64, bool)> {
    let capacity =
        instances * 45.0 * (limit / 256.0).sqrt() * if routed_well { 1.02 } else { 0.88 };
    let load = 500.0 / capacity;
    let ttft = if load < 1.0 { 20.0 / (1.0 - load) } else { 1e5 * load };
    Some((ttft, instances * 7.0, load < 1.0))
}

/// TTFT p99 that is right in the middle of a candidate's runs, and its cost.
pub type Middle = fn(instances: f64, limit: f64, routed_well: bool) -> (f64, f64);

/// Lognormal noise, drawn anew for each candidate and seed: the hardest case for whoever picks.
pub struct Noisy<'a> {
    pub space: &'a SearchSpace,
    pub middle: Middle,
    /// The deviation of latencies.
    pub noise: f64,
    pub cost_noise: f64,
}

impl Noisy<'_> {
    pub fn middle(&self, candidate: &Candidate) -> (f64, f64) {
        let (instances, limit, routed_well) = knobs(self.space, candidate);
        (self.middle)(instances, limit, routed_well)
    }

    fn run(&self, job: &Job) -> Run {
        let (ttft, cost) = self.middle(&job.candidate);
        let mut rng = Rng::new(job.seed ^ job.candidate.hash(), Stream::Arrivals, 0);
        // What has no noise draws none.
        let mut factor = |noise: f64| if noise > 0.0 { (noise * rng.normal()).exp() } else { 1.0 };
        let mut figures = Figures::default();
        figures.set("ttft_p99_ms", ttft * factor(self.noise));
        figures.set("cost_per_hour", cost * factor(self.cost_noise));
        figures.set("tpot_p99_ms", 10.0 + 1e3 / cost * factor(self.noise));
        Run::new(job.seed, true, figures)
    }
}

impl Evaluator for Noisy<'_> {
    fn version(&self) -> u64 {
        VERSION
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        on_all_threads(jobs, (stop, done), |job| self.run(job));
    }
}

/// The folder of one study.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        // In memory where there is such a folder: thousands of flushes to a disk take minutes.
        let memory = tempfile::tempdir_in("/dev/shm");
        Self(memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder"))
    }

    /// The folder of a study that left this much of its journal.
    pub fn with_journal(bytes: &[u8]) -> Self {
        let folder = Self::new();
        std::fs::create_dir_all(folder.path()).expect("a folder");
        std::fs::write(folder.path().join("journal.jsonl"), bytes).expect("written");
        folder
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("study")
    }

    pub fn journal(&self) -> Vec<u8> {
        std::fs::read(self.path().join("journal.jsonl")).expect("a journal")
    }

    pub fn options(&self, mode: Mode, proposer: ProposerKind) -> StudyOptions {
        StudyOptions { folder: self.path(), mode, proposer, sources: vec![] }
    }
}

/// The bytes of `journal` up to each line's end.
pub fn line_ends(journal: &[u8]) -> impl Iterator<Item = usize> {
    journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1)
}

pub fn limits(stop: &AtomicBool) -> Limits<'_> {
    Limits { workers: None, stop, elapsed: &|| Span::ZERO }
}

/// Opens a study and runs it to its end, which it gives with the study's state.
pub fn run(
    folder: &Folder,
    space: &SearchSpace,
    how: (Mode, ProposerKind),
    evaluator: &dyn Evaluator,
) -> (StudyEnd, StudyState) {
    run_watched(folder, space, how, (evaluator, &mut NoObserver))
}

/// The same, told to an observer.
pub fn run_watched(
    folder: &Folder,
    space: &SearchSpace,
    (mode, proposer): (Mode, ProposerKind),
    (evaluator, observer): (&dyn Evaluator, &mut dyn Observer),
) -> (StudyEnd, StudyState) {
    let options = folder.options(mode, proposer);
    let mut study = Study::open(space.clone(), &options, evaluator.version()).expect("opened");
    let stop = AtomicBool::new(false);
    let end = study.run(evaluator, observer, limits(&stop)).expect("no trouble");
    (end, study.state().clone())
}
