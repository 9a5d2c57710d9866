//! Values that files may hold and no fleet ever had: the simulator answers all the same.

use blis_opt::base::SimTime;
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{Limits, WorkloadSpec, generate};

fn run(policy: &str, workload: &str, requests: u64) -> Outcome {
    let mut problems = Problems::new();
    let policy = parse("policy.yaml", policy, &mut problems).expect("YAML");
    let bundle: Option<PolicyBundle> = read_bundle(&policy, Defaults::embedded(), &mut problems);
    let workload = parse("workload.yaml", workload, &mut problems).expect("YAML");
    let spec = WorkloadSpec::read(&workload, Defaults::embedded(), &mut problems);
    assert!(!problems.has_errors(), "{}", problems.render(false));
    let (bundle, spec) = (bundle.expect("valid"), spec.expect("valid"));
    let limits = Limits { duration: None, max_requests: Some(requests) };
    let trace = generate(&spec, 1, limits);
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    };
    simulate(&bundle, &trace, &options, &mut Scratch::default())
}

fn is_conserved(outcome: &Outcome) -> bool {
    let counts = outcome.counts;
    let left = counts.rejected + counts.dropped + counts.completed;
    counts.injected == left + counts.queued + counts.running
}

const RATE: &str = "{rate: 100}";

#[test]
fn steps_of_minutes_end_at_the_end_of_the_clock() {
    let slowest = "pools: {a: {instances: 1, alpha: [100000000, 100000, 100000000], \
                   beta: [100000000, 100000, 100000]}}\n\
                   batching: {max_running_requests: 1}";
    let outcome = run(slowest, RATE, 300);
    assert!(is_conserved(&outcome) && outcome.counts.completed < 300, "{:?}", outcome.counts);
    assert!(outcome.end_s < 107.0 * 86_400.0);
}

#[test]
fn steps_of_no_length_at_all_end() {
    let free = "pools: {a: {instances: 2, alpha: [0, 0, 0], beta: [0.4, 0, 0]}}";
    let outcome = run(free, RATE, 500);
    assert_eq!(outcome.counts.completed, 500);
    assert!(outcome.e2e.max_ms.abs() < 1e-9);
}

#[test]
fn a_cache_of_one_block_drops_what_it_cannot_hold() {
    let tiny = "pools: {a: {instances: 1, kv_blocks: 1}}";
    let outcome = run(tiny, RATE, 200);
    assert!(is_conserved(&outcome) && outcome.counts.dropped > 190, "{:?}", outcome.counts);
}

#[test]
fn a_fleet_of_a_thousand_serves_one_request() {
    let outcome = run("pools: {a: {instances: 1000}}", RATE, 1);
    assert_eq!(outcome.counts.completed, 1);
}

#[test]
fn one_token_in_and_one_out_complete() {
    let one = "{rate: 100, prompt_tokens: {mean: 1, std_dev: 0, min: 1, max: 1}, \
               output_tokens: {mean: 1, std_dev: 0, min: 1, max: 1}}";
    let outcome = run("pools: {a: {instances: 1}}", one, 1000);
    assert_eq!((outcome.counts.completed, outcome.tpot.count), (1000, 0));
}
