//! Real search spaces on the simulator, and those whose every candidate was simulated once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use blis_opt::config::{Defaults, Problems};
use blis_opt::search::{
    Candidate, Evaluator, Figures, Job, Run, Score, SearchSpace, SimulatedEvaluator, Sink,
    SpaceFile, Stop, read_space,
};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{Best, Problem, Truth};

/// The spaces whose every candidate was simulated once.
pub const SWEPT: [&str; 2] = ["steady", "bursty"];
/// The spaces that are simulated as they are asked.
pub const SIMULATED: [&str; 1] = ["autoscaling-day"];

/// Seeds behind the truth of a swept candidate, which no study meets.
pub const TRUTH_SEEDS: std::ops::Range<u64> = 1000..1016;
/// Seeds behind the truth of a candidate that is simulated as it is asked.
const TRUTH_ASKED: std::ops::Range<u64> = 900_000..900_012;

/// The figures whose means a table keeps.
pub const KEPT: [&str; 4] = ["ttft_p99_ms", "tpot_p99_ms", "completed_ratio", "cost_per_hour"];

/// A search space of `spaces/` and what simulates it.
pub struct Simulated {
    file: &'static SpaceFile,
    evaluator: SimulatedEvaluator<'static>,
    truths: Mutex<BTreeMap<u64, Truth>>,
}

/// The folder of this bench.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/search")
}

impl Simulated {
    /// The space of `spaces/<name>.yaml`.
    pub fn open(name: &str) -> Self {
        let path = folder().join(format!("spaces/{name}.yaml"));
        let text = std::fs::read_to_string(&path).expect("a space of this bench");
        let (mut problems, file) = (Problems::new(), path.to_string_lossy());
        let none = |file: &str| Err(format!("there is no `{file}`"));
        let read = read_space((&file, &text), Defaults::embedded(), &none, &mut problems);
        // One bench asks a handful of spaces; they may live as long as it does.
        let file: &'static SpaceFile = Box::leak(Box::new(
            read.unwrap_or_else(|| panic!("{name}: {}", problems.render(false))),
        ));
        let evaluator = file.evaluator(Defaults::embedded());
        Self { file, evaluator, truths: Mutex::default() }
    }

    /// What `candidate` does under `seeds`, in their order.
    pub fn runs(&self, candidate: &Candidate, seeds: &[u64]) -> Vec<Run> {
        let job = |&seed| Job { candidate: candidate.clone(), seed };
        let jobs: Vec<Job> = seeds.iter().map(job).collect();
        let told = Mutex::new(vec![None; jobs.len()]);
        self.evaluator.evaluate(&jobs, &|| false, &|index, run| {
            told.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(run);
        });
        let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        told.into_iter().flatten().collect()
    }
}

impl Evaluator for Simulated {
    fn version(&self) -> u64 {
        self.evaluator.version()
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.evaluator.evaluate(jobs, stop, done);
    }

    fn screen(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.evaluator.screen(jobs, stop, done);
    }

    fn known_objective(&self, candidate: &Candidate) -> Option<f64> {
        self.evaluator.known_objective(candidate)
    }

    fn hopeless(&self, candidate: &Candidate) -> Option<String> {
        self.evaluator.hopeless(candidate)
    }
}

impl Problem for Simulated {
    fn space(&self) -> &SearchSpace {
        &self.file.space
    }

    fn truth(&self, candidate: &Candidate) -> Truth {
        let hash = candidate.hash();
        let known = || self.truths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(truth) = known().get(&hash).copied() {
            return truth;
        }
        let seeds: Vec<u64> = TRUTH_ASKED.collect();
        let score = Score::of(self.space(), &self.runs(candidate, &seeds));
        let truth = Truth {
            cost: score
                .objective
                .map_or(f64::INFINITY, |cost| self.space().objective.to_minimize(cost)),
            feasible: score.feasible,
        };
        known().insert(hash, truth);
        truth
    }

    fn truth_seeds(&self) -> Vec<u64> {
        TRUTH_ASKED.collect()
    }

    fn best(&self) -> Option<Best> {
        None
    }
}

/// A space whose every candidate was simulated once, so that the truth about each is known.
pub struct Swept {
    simulated: Simulated,
    table: BTreeMap<u64, Truth>,
    best: Option<Best>,
}

impl Swept {
    /// The space of `spaces/<name>.yaml` with the table of `truth/<name>.csv.gz`.
    pub fn open(name: &str) -> Self {
        let simulated = Simulated::open(name);
        let lines = stored_lines(name);
        let space = simulated.space().clone();
        let pairs = lines.iter().zip(every_candidate(&space));
        let table: BTreeMap<u64, Truth> =
            pairs.map(|(line, candidate)| (candidate.hash(), read_row(&space, line))).collect();
        assert_eq!(table.len(), every_candidate(&space).count(), "sweep `{name}` again");
        let feasible = table.values().filter(|truth| truth.feasible);
        let cost = feasible.map(|truth| truth.cost).min_by(f64::total_cmp);
        let best = cost.map(|cost| Best { cost, knobs: "{}", found: "all candidates simulated" });
        Self { simulated, table, best }
    }

    /// Every candidate's truth.
    pub fn truths(&self) -> impl Iterator<Item = Truth> + '_ {
        self.table.values().copied()
    }
}

impl Evaluator for Swept {
    fn version(&self) -> u64 {
        self.simulated.version()
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.simulated.evaluate(jobs, stop, done);
    }

    fn screen(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.simulated.screen(jobs, stop, done);
    }

    fn known_objective(&self, candidate: &Candidate) -> Option<f64> {
        self.simulated.known_objective(candidate)
    }

    fn hopeless(&self, candidate: &Candidate) -> Option<String> {
        self.simulated.hopeless(candidate)
    }
}

impl Problem for Swept {
    fn space(&self) -> &SearchSpace {
        self.simulated.space()
    }

    fn truth(&self, candidate: &Candidate) -> Truth {
        self.table[&candidate.hash()]
    }

    fn best(&self) -> Option<Best> {
        self.best
    }
}

fn table(name: &str) -> PathBuf {
    folder().join(format!("truth/{name}.csv.gz"))
}

/// The rows of the table of a swept space, in order of its candidates.
pub fn stored_lines(name: &str) -> Vec<String> {
    let file = std::fs::File::open(table(name)).expect("the table of a swept space");
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("a table of text");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Stores the table of a swept space.
pub fn write_table(name: &str, text: &str) {
    let file = std::fs::File::create(table(name)).expect("a new table");
    let mut file = GzEncoder::new(file, Compression::best());
    file.write_all(text.as_bytes()).and_then(|()| file.finish()).expect("a written table");
}

/// Every candidate of a space without floats, in a fixed order.
pub fn every_candidate(space: &SearchSpace) -> impl Iterator<Item = Candidate> + '_ {
    let levels: Vec<u64> =
        space.knobs.iter().map(|knob| knob.domain.levels().expect("no float")).collect();
    let mut seen = std::collections::BTreeSet::new();
    (0..levels.iter().product::<u64>()).filter_map(move |mut index| {
        let at = |&count: &u64| {
            let level = index % count;
            index /= count;
            (level as f64 + 0.5) / count as f64
        };
        let shares: Vec<f64> = levels.iter().map(at).collect();
        let candidate = candidate_at(space, &shares);
        seen.insert(candidate.hash()).then_some(candidate)
    })
}

/// The candidate at these shares of the knobs' lists of values.
fn candidate_at(space: &SearchSpace, shares: &[f64]) -> Candidate {
    use blis_opt::search::{Domain, KnobValue};
    let pairs = space.knobs.iter().zip(shares);
    let value = |(knob, share): (&blis_opt::search::Knob, &f64)| match &knob.domain {
        Domain::Int { low, step, .. } => {
            let level = (share * knob.domain.levels().expect("an integer") as f64) as i64;
            KnobValue::Int(low + step * level)
        }
        Domain::Choice { labels } => KnobValue::Choice((share * labels.len() as f64) as usize),
        Domain::Float { .. } => unreachable!("a swept space has no floats"),
    };
    Candidate::canonical(space, pairs.map(value).collect())
}

/// Writes what a candidate does in truth: its runs under [`TRUTH_SEEDS`].
pub fn write_row(runs: &[Run]) -> String {
    let stable = runs.iter().filter(|run| run.stable).count();
    let mean = |name: &&str| blis_opt::search::score::mean(runs, name);
    let shown = KEPT.iter().map(mean).map(|mean| mean.map_or_else(String::new, digits));
    format!("{stable}/{},{}", runs.len(), shown.collect::<Vec<_>>().join(","))
}

fn digits(value: f64) -> String {
    format!("{value:.4}")
}

fn read_row(space: &SearchSpace, line: &str) -> Truth {
    let cells: Vec<&str> = line.split(',').collect();
    let mut means = Figures::default();
    for (name, cell) in KEPT.iter().zip(&cells[1..]) {
        means.set(name, cell.parse().unwrap_or(f64::NAN));
    }
    let stable = cells[0].split_once('/').is_some_and(|(stable, all)| stable == all);
    let cost = means.get(KEPT[3]).unwrap_or(f64::INFINITY);
    let run = Run::new(0, stable, means);
    Truth { cost, feasible: Score::of(space, &[run]).feasible }
}
