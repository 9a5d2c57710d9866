//! Speed of the simulator: `cargo bench --bench core [-- FILTER]`.
//!
//! Prints one line per case to stdout, `<case> <requests/s/core>`, the median of several runs on
//! one thread; the spread, decode steps per second, allocations in the loop and bytes per request
//! go to stderr. FILTER is part of a name, or `=` and a whole name. `BLIS_OPT_BENCH_RUNS` sets the
//! number of runs (default 7), `BLIS_OPT_BENCH_REQUESTS` the number of requests of every case.

#![allow(clippy::disallowed_methods, reason = "a bench looks at the clock")]

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{self, Defaults, Problems};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate, simulate_drawn};
use blis_opt::workload::{Limits, Trace, WorkloadSpec, generate};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts what the simulator takes from the system.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as for this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Case {
    name: String,
    bundle: PolicyBundle,
    workload: WorkloadSpec,
    requests: u64,
    /// Draw requests when they are due, with this many per second.
    drawn: Option<f64>,
}

fn case(name: &str, bundle: &str, workload: &str, requests: u64) -> Case {
    let defaults = Defaults::embedded();
    let mut problems = Problems::new();
    let read = |text: &str, problems: &mut Problems| {
        config::parse(name, text, problems).expect("valid YAML")
    };
    let node = read(bundle, &mut problems);
    let bundle = read_bundle(&node, defaults, &mut problems).expect("a valid bundle");
    let node = read(workload, &mut problems);
    let workload = WorkloadSpec::read(&node, defaults, &mut problems);
    let workload = workload.expect("a valid workload");
    Case { name: name.into(), bundle, workload, requests, drawn: None }
}

const MULTITURN: &str = "
aggregate_rate: 60
clients:
  - id: chat
    rate_fraction: 1
    arrival: {process: poisson}
    input_distribution: {type: gaussian, params: {mean: 128, std_dev: 40, min: 2, max: 512}}
    output_distribution: {type: gaussian, params: {mean: 64, std_dev: 20, min: 2, max: 256}}
    reasoning:
      multi_turn: {max_rounds: 5, think_time_us: 500000, context_growth: accumulate}
";

fn fleet(instances: u64, routing: &str) -> String {
    format!("pools: {{h100: {{instances: {instances}}}}}\nrouting: {routing}\n")
}

fn cases() -> Vec<Case> {
    let even = |rate: u64| format!("{{rate: {rate}, arrivals: constant}}");
    let poisson = |rate: u64| format!("{{rate: {rate}, arrivals: poisson}}");
    let cache_heavy = "{policy: weighted, scorers: [\
                       {name: prefix-affinity, weight: 5}, {name: queue-depth, weight: 1}]}";
    let least = "{policy: least-loaded}";
    let pressure =
        "pools: {h100: {instances: 12, kv_blocks: 6000}}\nrouting: {policy: least-loaded}\n";
    let mut cases = vec![
        case("tutorial", &fleet(13, least), &poisson(500), 200_000),
        case("multiturn", &fleet(8, cache_heavy), MULTITURN, 200_000),
        case("tutorial-round-robin-even", &fleet(13, "{policy: round-robin}"), &even(500), 200_000),
        case("tutorial-12-saturating", &fleet(12, least), &poisson(500), 200_000),
        case("h7-saturated", &fleet(4, least), &even(1000), 100_000),
        case("kv-pressure", pressure, &poisson(450), 100_000),
    ];
    for instances in [4, 64, 256, 1024] {
        let name = format!("instances-{instances}");
        let rate = 39 * instances;
        cases.push(case(&name, &fleet(instances, least), &poisson(rate), 500 * instances));
    }
    for requests in [10_000, 100_000, 1_000_000, 10_000_000] {
        let name = format!("requests-{requests}");
        cases.push(case(&name, &fleet(13, least), &poisson(500), requests));
    }
    for requests in [100_000, 1_000_000, 10_000_000] {
        let name = format!("drawn-{requests}");
        let drawn = Some(500.0);
        cases.push(Case { drawn, ..case(&name, &fleet(13, least), &poisson(500), requests) });
    }
    cases
}

struct Figures {
    per_second: Vec<f64>,
    outcome: Outcome,
    allocations: u64,
    bytes: u64,
}

fn measure(case: &Case, runs: usize) -> Figures {
    let limits = Limits { duration: None, max_requests: Some(case.requests) };
    let before = BYTES.load(Ordering::Relaxed);
    let trace =
        if case.drawn.is_none() { generate(&case.workload, 42, limits) } else { Trace::default() };
    let options = RunOptions {
        warm_up: SimTime::ZERO + Span::from_secs(1.0),
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: None,
    };
    let mut scratch = Scratch::default();
    let mut run = || match case.drawn {
        None => simulate(&case.bundle, &trace, &options, &mut scratch),
        Some(rate) => {
            let duration = Span::from_secs(case.requests as f64 / rate);
            let drawn = (&case.workload, 42, duration);
            simulate_drawn(&case.bundle, drawn, &options, &mut scratch)
        }
    };
    let mut outcome = run();
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    let mut per_second = Vec::new();
    let mut allocations = 0;
    for _ in 0..runs {
        let counted = ALLOCATIONS.load(Ordering::Relaxed);
        let start = Instant::now();
        outcome = run();
        let elapsed = start.elapsed().as_secs_f64();
        per_second.push(outcome.counts.injected as f64 / elapsed);
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - counted;
    }
    per_second.sort_by(f64::total_cmp);
    Figures { per_second, outcome, allocations, bytes }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn selects(filter: &str, name: &str) -> bool {
    filter.strip_prefix('=').map_or_else(|| name.contains(filter), |whole| whole == name)
}

#[allow(clippy::print_stdout, reason = "the figures are the output")]
fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let runs = number("BLIS_OPT_BENCH_RUNS").map(|runs| runs as usize);
    for case in cases() {
        if !filter.as_ref().is_none_or(|filter| selects(filter, &case.name)) {
            continue;
        }
        let case =
            Case { requests: number("BLIS_OPT_BENCH_REQUESTS").unwrap_or(case.requests), ..case };
        let runs = if case.requests > 1_000_000 { 1 } else { runs.unwrap_or(7) };
        let figures = measure(&case, runs);
        let speeds = &figures.per_second;
        let median = speeds[speeds.len() / 2];
        let outcome = &figures.outcome;
        let steps: u64 = outcome.instances.iter().map(|instance| instance.steps).sum();
        let requests = outcome.counts.injected as f64;
        println!("{} {median:.0}", case.name);
        eprintln!(
            "  {:.0} to {:.0}; {:.1} M steps/s; {} allocations; {:.0} bytes/request; \
             ttft p99 {:.0} ms, stable {}, preemptions {}, hit rate {:.2}",
            speeds[0],
            speeds[speeds.len() - 1],
            steps as f64 / requests * median / 1e6,
            figures.allocations,
            figures.bytes as f64 / requests,
            outcome.ttft.p99_ms,
            outcome.stability.stable,
            outcome.preemptions,
            outcome.cache_hit_rate,
        );
    }
}
