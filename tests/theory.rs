//! The simulator against queueing theory, where theory has closed forms: a batch of one, and
//! steps that make service times of a known distribution.
//!
//! Every check is a band of four standard errors at fixed seeds, over independent runs, and asks
//! that the band be narrow.

use blis_opt::base::{ClientId, Rng, SimTime, Span, Stream, batch_means};
use blis_opt::latency::Blackbox;
use blis_opt::policy::{
    Admission, Batching, Gateway, PolicyBundle, Pool, Priority, Routing, Scheduler, Signals,
};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{ClientInfo, NO_CHAIN, Request, Trace};

/// Mean service time in milliseconds.
const SERVICE_MS: f64 = 10.0;
/// Requests of a run, and the first of them that are not measured.
const REQUESTS: usize = 40_000;
const WARM_UP: usize = 4_000;
const SEEDS: u64 = 24;

/// How long a request is served, as (prompt, answer, class).
type Draw = fn(&mut Rng) -> (u32, u32, u8);

/// Servers that serve one request at a time: `beta` in microseconds per step, prompt token and
/// answer token.
fn servers(servers: u32, beta: [f64; 3]) -> PolicyBundle {
    PolicyBundle {
        pools: vec![Pool::bare(servers, 1_000_000, Blackbox { alpha: [0.0; 3], beta })],
        admission: Admission::AlwaysAdmit,
        admission_latency: Span::ZERO,
        routing: Routing::RoundRobin,
        routing_latency: Span::ZERO,
        signals: Signals {
            kv_utilization_refresh: Span::ZERO,
            metrics_fetch_interval: Span::ZERO,
            prefix_index_blocks: 1,
        },
        priority: Priority::Constant,
        scheduler: Scheduler::Fcfs,
        batching: Batching { max_running: 1, max_tokens: u32::MAX, long_prefill_threshold: 0 },
        block_size: 1024,
        autoscaling: None,
        gateway: Gateway::default(),
    }
}

/// Where a prompt token takes a microsecond and answers have one token: any service time.
fn by_prompt(count: u32) -> PolicyBundle {
    servers(count, [0.0, 1.0, 0.0])
}

/// Poisson arrivals at `load` of all `servers` together.
fn poisson(seed: u64, load: f64, servers: u32, draw: Draw) -> Trace {
    let mut arrivals = Rng::new(seed, Stream::Arrivals, 0);
    let mut lengths = Rng::new(seed, Stream::Lengths, 0);
    let mut trace = Trace {
        classes: vec!["first".into(), "second".into()],
        tenants: vec![String::new()],
        ..Trace::default()
    };
    for class in 0..2 {
        let think_time = Span::ZERO;
        trace.clients.push(ClientInfo {
            name: String::new(),
            class,
            tenant: 0,
            think_time,
            pinned: None,
        });
    }
    let mut now_us = 0.0;
    for _ in 0..REQUESTS {
        now_us += arrivals.exponential() * SERVICE_MS * 1e3 / (load * f64::from(servers));
        let (input, output, class) = draw(&mut lengths);
        let arrival = SimTime::from_us(now_us as u64);
        let client = ClientId(u32::from(class));
        trace.push(Request { arrival, input, output, client, chain: NO_CHAIN, shared: 0 });
        trace.end = arrival;
    }
    trace
}

fn run(bundle: &PolicyBundle, trace: &Trace, keep_requests: bool) -> Outcome {
    let options = RunOptions {
        warm_up: trace.arrival[WARM_UP],
        horizon: SimTime::NEVER,
        keep_requests,
        keep_steps: false,
        timeline: None,
    };
    simulate(bundle, trace, &options, &mut Scratch::default())
}

/// Holds the mean of `figure` over independent runs against `theory`.
fn holds(
    what: &str,
    bundle: &PolicyBundle,
    (load, draw): (f64, Draw),
    figure: impl Fn(&Outcome) -> f64,
    theory: f64,
) {
    let count = bundle.instances();
    let one = |seed| figure(&run(bundle, &poisson(seed, load, count, draw), false));
    let values: Vec<f64> = (0..SEEDS).map(one).collect();
    let mean = values.iter().sum::<f64>() / SEEDS as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (SEEDS * (SEEDS - 1)) as f64).sqrt();
    let says = format!("{what}: {mean} +- {error}, theory {theory}");
    assert!((mean - theory).abs() <= 4.0 * error, "{says}");
    assert!(error < 0.015 * theory, "too wide to say anything: {says}");
}

fn waiting(outcome: &Outcome) -> f64 {
    outcome.scheduling_delay.mean_ms
}

fn always(_: &mut Rng) -> (u32, u32, u8) {
    (10_000, 1, 0)
}

fn exponential(rng: &mut Rng) -> (u32, u32, u8) {
    // Rounded up, which adds half a microsecond to ten thousand.
    ((rng.exponential() * 10_000.0).ceil().max(1.0) as u32, 1, 0)
}

fn seldom_long(rng: &mut Rng) -> (u32, u32, u8) {
    (if rng.below(10) == 0 { 55_000 } else { 5_000 }, 1, 0)
}

/// Geometric with mean 10: an answer of so many tokens at 1 ms each.
fn geometric(rng: &mut Rng) -> (u32, u32, u8) {
    (1, 1 + (rng.uniform_positive().ln() / 0.9_f64.ln()).floor() as u32, 0)
}

/// The mean wait of M/G/1 in milliseconds (Pollaczek and Khinchine); `scv` is the squared
/// coefficient of variation of the service time.
fn pollaczek_khinchine(load: f64, scv: f64) -> f64 {
    load / (1.0 - load) * (1.0 + scv) / 2.0 * SERVICE_MS
}

#[test]
fn fixed_service_waits_as_in_m_d_1() {
    for load in [0.5, 0.8] {
        let theory = pollaczek_khinchine(load, 0.0);
        holds("M/D/1", &by_prompt(1), (load, always), waiting, theory);
    }
}

#[test]
fn exponential_service_waits_as_in_m_m_1() {
    let theory = pollaczek_khinchine(0.8, 1.0);
    holds("M/M/1", &by_prompt(1), (0.8, exponential), waiting, theory);
}

#[test]
fn sojourns_of_m_m_1_are_exponential() {
    let (load, mean) = (0.7, SERVICE_MS / 0.3);
    let model = by_prompt(1);
    let ln2 = 2.0_f64.ln();
    holds("median", &model, (load, exponential), |outcome| outcome.e2e.p50_ms, mean * ln2);
    let p90 = mean * 10.0_f64.ln();
    holds("p90", &model, (load, exponential), |outcome| outcome.e2e.p90_ms, p90);
    holds("mean", &model, (load, exponential), |outcome| outcome.e2e.mean_ms, mean);
}

#[test]
fn varied_service_waits_as_in_m_g_1() {
    // Mean 10, second moment 0.9 * 25 + 0.1 * 3025 = 325.
    let theory = pollaczek_khinchine(0.6, 325.0 / 100.0 - 1.0);
    holds("two lengths", &by_prompt(1), (0.6, seldom_long), waiting, theory);
    // Tokens of 1 ms: a geometric number of mean 10 has the variance 10 * 9.
    let by_answer = servers(1, [1000.0, 0.0, 0.0]);
    let theory = pollaczek_khinchine(0.8, 0.9);
    holds("geometric", &by_answer, (0.8, geometric), waiting, theory);
}

#[test]
fn the_busy_share_is_the_load() {
    let figure = |outcome: &Outcome| outcome.busy_fraction;
    holds("busy", &by_prompt(1), (0.7, exponential), figure, 0.7);
}

#[test]
fn shortest_first_waits_as_in_theory() {
    // The wait of a job of length x is W0 / (1 - rho(x))^2, rho(x) the load of shorter jobs
    // (Phipps); W0 = lambda E[S^2] / 2. Integrated by the midpoint rule, in service times.
    let load = 0.8;
    let steps = 400_000;
    let width = 40.0 / f64::from(steps);
    let wait_of = |step: u32| {
        let x = (f64::from(step) + 0.5) * width;
        let shorter = load * (1.0 - (1.0 + x) * (-x).exp());
        (-x).exp() * width * load / (1.0 - shorter).powi(2)
    };
    let theory: f64 = (0..steps).map(wait_of).sum::<f64>() * SERVICE_MS;
    let mut bundle = by_prompt(1);
    bundle.scheduler = Scheduler::Sjf;
    holds("SJF", &bundle, (load, exponential), waiting, theory);
}

#[test]
fn two_classes_wait_as_in_theory() {
    fn either_class(rng: &mut Rng) -> (u32, u32, u8) {
        let (input, output, _) = exponential(rng);
        (input, output, u8::from(rng.below(10) < 6))
    }
    // Cobham, without preemption: W0 / (1 - rho_1) and W0 / ((1 - rho_1) (1 - rho)).
    let (load, urgent) = (0.8, 0.8 * 0.4);
    let residual = load * SERVICE_MS;
    let mut bundle = by_prompt(1);
    bundle.scheduler = Scheduler::PriorityFcfs;
    bundle.priority = Priority::SloClass(vec![("first".into(), 1.0)]);
    let waited =
        |class: usize| move |outcome: &Outcome| outcome.classes[class].e2e.mean_ms - SERVICE_MS;
    let theory = residual / (1.0 - urgent);
    holds("urgent", &bundle, (load, either_class), waited(0), theory);
    let theory = residual / (1.0 - urgent) / (1.0 - load);
    holds("patient", &bundle, (load, either_class), waited(1), theory);
}

/// Exponential to within a thousandth: steps of 20 us, a geometric number of mean 500. In many
/// steps, since a router no longer sees a request whose last step has begun.
fn many_steps(rng: &mut Rng) -> (u32, u32, u8) {
    (1, 1 + (rng.uniform_positive().ln() / (1.0_f64 - 1.0 / 500.0).ln()).floor() as u32, 0)
}

fn two_servers(routing: Routing) -> PolicyBundle {
    PolicyBundle { routing, ..servers(2, [20.0, 0.0, 0.0]) }
}

#[test]
fn round_robin_to_two_waits_as_in_e2_m_1() {
    // Every other Poisson arrival: GI/M/1 with the root of s = A*(mu (1 - s)), mu = 1.
    let load = 0.8;
    let mut root: f64 = 0.5;
    for _ in 0..10_000 {
        root = (2.0 * load / (2.0 * load + 1.0 - root)).powi(2);
    }
    let theory = root / (1.0 - root) * SERVICE_MS;
    holds("E2/M/1", &two_servers(Routing::RoundRobin), (load, many_steps), waiting, theory);
}

#[test]
fn the_shorter_of_two_queues_waits_as_its_markov_chain() {
    let load = 0.8;
    let theory = (shorter_queue(load) / (2.0 * load) - 1.0) * SERVICE_MS;
    // Better than each arrival to any one queue, worse than one queue for both (Erlang C).
    let (alone, pooled) = (load / (1.0 - load), load * load / (1.0 - load * load));
    assert!(pooled * SERVICE_MS < theory && theory < alone * SERVICE_MS, "{theory}");
    holds("JSQ(2)", &two_servers(Routing::LeastLoaded), (load, many_steps), waiting, theory);
}

/// Mean number of requests at two servers of rate 1 with arrivals at 2 `load` that join the
/// shorter queue: the stationary distribution of the chain, cut at 60 requests a server.
fn shorter_queue(load: f64) -> f64 {
    const SIZE: usize = 61;
    let uniform = 2.0 * load + 2.0;
    let mut now = vec![[0.0; SIZE]; SIZE];
    now[0][0] = 1.0;
    for _ in 0..6_000 {
        let mut next = vec![[0.0; SIZE]; SIZE];
        for (m, row) in now.iter().enumerate() {
            for (n, &share) in row.iter().enumerate() {
                let (up_m, up_n) = if m <= n { (m + 1, n) } else { (m, n + 1) };
                next[up_m.min(SIZE - 1)][up_n.min(SIZE - 1)] += share * 2.0 * load / uniform;
                next[m.saturating_sub(1)][n] += share / uniform;
                next[m][n.saturating_sub(1)] += share / uniform;
            }
        }
        now = next;
    }
    let count = |(m, row): (usize, &[f64; SIZE])| -> f64 {
        row.iter().enumerate().map(|(n, share)| (m + n) as f64 * share).sum()
    };
    now.iter().enumerate().map(count).sum()
}

#[test]
fn batch_means_of_one_run_cover_the_wait_of_m_m_1() {
    let (load, theory) = (0.6, pollaczek_khinchine(0.6, 1.0));
    let covers = |seed: &u64| {
        let outcome = run(&by_prompt(1), &poisson(1000 + seed, load, 1, exponential), true);
        let measured = outcome.requests[WARM_UP..].iter();
        let wait_ms = |r: &_| {
            let blis_opt::sim::outcome::RequestRecord { scheduled_us, arrival_us, .. } = r;
            (scheduled_us - arrival_us) as f64 / 1e3
        };
        let waits: Vec<f64> = measured.map(wait_ms).collect();
        let steady = batch_means(&waits, 64).expect("more requests than batches");
        assert!(steady.independent, "{steady:?}");
        steady.interval.low <= theory && theory <= steady.interval.high
    };
    let covered = (0..100).filter(covers).count();
    // 95 of 100 are expected; four standard errors are 9.
    assert!(covered >= 86, "{covered} of 100");
}
