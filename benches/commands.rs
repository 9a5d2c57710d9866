//! What a user waits for: `cargo bench --bench commands [-- FILTER]`.
//!
//! Each case does what a command does, reading of its files included and its start and output
//! left out: a run on one thread, a search on all cores. `benches/core.rs` has the simulator's
//! speed alone.

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{self, Defaults, Problems};
use blis_opt::policy::read_bundle;
use blis_opt::search::{
    Limits as SearchLimits, Mode, NoObserver, ProposerKind, Study, StudyEnd, StudyOptions,
    read_space,
};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{Limits, WorkloadSpec, generate};
use divan::counter::ItemsCount;
use std::sync::atomic::AtomicBool;

const TUTORIAL_FLEET: &str = "
pools: {h100: {model: meta-llama/llama-3.1-8b-instruct, instances: 12}}
routing: {policy: round-robin}
";
const TUTORIAL_WORKLOAD: &str = "{rate: 500, arrivals: constant}";
const TUTORIAL_REQUESTS: u64 = 20_000;

const CHAT_FLEET: &str = "
pools: {h100: {model: meta-llama/llama-3.1-8b-instruct, instances: 8}}
routing:
  policy: weighted
  scorers: [{name: prefix-affinity, weight: 5}, {name: queue-depth, weight: 1}]
";
/// 60 conversations of five rounds start per second.
const CHAT_WORKLOAD: &str = "
aggregate_rate: 60
clients:
  - id: chat
    rate_fraction: 1
    arrival: {process: poisson}
    input_distribution: {type: gaussian, params: {mean: 128, std_dev: 30, min: 32, max: 512}}
    output_distribution: {type: gaussian, params: {mean: 64, std_dev: 20, min: 16, max: 256}}
    reasoning:
      multi_turn: {max_rounds: 5, think_time_us: 500000, context_growth: accumulate}
";
const CHAT_REQUESTS: u64 = 20_000;

/// Evenly spaced arrivals, one knob, at most 20 evaluations of three runs each, and ten more runs
/// per finalist.
const SMALL_SPACE: &str = include_str!("../search-spaces/500rps-even.yaml");

/// One run of one policy on one workload with one seed.
fn run(bundle: &str, workload: &str, requests: u64) -> Outcome {
    let mut problems = Problems::new();
    let defaults = Defaults::embedded();
    let node = config::parse("policy.yaml", bundle, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, defaults, &mut problems).expect("a valid bundle");
    let node = config::parse("workload.yaml", workload, &mut problems).expect("valid YAML");
    let spec = WorkloadSpec::read(&node, defaults, &mut problems).expect("a valid workload");
    let limits = Limits { duration: None, max_requests: Some(requests) };
    let options = RunOptions {
        warm_up: SimTime::ZERO + Span::from_secs(10.0),
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: None,
    };
    simulate(&bundle, &generate(&spec, 42, limits), &options, &mut Scratch::default())
}

#[divan::bench]
fn run_tutorial_12_instances(bencher: divan::Bencher) {
    bencher
        .counter(ItemsCount::new(TUTORIAL_REQUESTS))
        .bench(|| run(TUTORIAL_FLEET, TUTORIAL_WORKLOAD, TUTORIAL_REQUESTS));
}

#[divan::bench]
fn run_multi_turn(bencher: divan::Bencher) {
    bencher
        .counter(ItemsCount::new(CHAT_REQUESTS))
        .bench(|| run(CHAT_FLEET, CHAT_WORKLOAD, CHAT_REQUESTS));
}

/// A search from the text of its space to its winner, with its journal in a fresh folder.
fn search(space: &str) -> StudyEnd {
    let mut problems = Problems::new();
    let no_files = |_: &str| Err("the space stands alone".to_owned());
    let defaults = Defaults::embedded();
    let file = read_space(("space.yaml", space), defaults, &no_files, &mut problems);
    let file = file.expect("a valid space");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = StudyOptions {
        folder: folder.path().join("study"),
        mode: Mode::New,
        proposer: ProposerKind::default(),
        sources: file.sources.clone(),
    };
    let evaluator = file.evaluator(defaults);
    let version = blis_opt::search::Evaluator::version(&evaluator);
    let mut study = Study::open(file.space.clone(), &options, version).expect("a new study");
    let stop = AtomicBool::new(false);
    let limits = SearchLimits { workers: None, stop: &stop, elapsed: &|| Span::ZERO };
    study.run(&evaluator, &mut NoObserver, limits).expect("a writable folder")
}

#[divan::bench(sample_count = 10)]
fn search_instances() {
    assert!(matches!(search(SMALL_SPACE), StudyEnd::Found { .. }), "a feasible fleet exists");
}

fn main() {
    divan::main();
}
