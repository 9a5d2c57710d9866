//! Random scenarios for laws and twins: some features off, the rest wildly weighted.
//!
//! A scenario is a function of its number. A failing test prints the number and how to replay it:
//! `BLIS_OPT_SWARM_CASE=<number>` runs that one alone, `BLIS_OPT_TWIN_CASES=<count>` says how many
//! the twins try.

mod fleets;
pub mod gates;
mod routers;

use blis_opt::base::{ClientId, Rng, SimTime, Span, Stream};
use blis_opt::latency::Blackbox;
use blis_opt::policy::{
    Admission, Batching, Gateway, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind,
    Signals,
};
use blis_opt::scenario::Conditions;
use blis_opt::sim::RunOptions;
use blis_opt::workload::{
    Arrivals, Chain, Clamp, ClientInfo, ClientSpec, Growth, Lengths, NO_CHAIN, Pacing, Point,
    Prefix, Profile, Prompt, Request, Sessions, Trace, WorkloadSpec,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A fleet, its policies, its requests, what befalls it and what part of the run is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub bundle: PolicyBundle,
    pub trace: Trace,
    pub conditions: Conditions,
    pub options: RunOptions,
}

/// Runs `law` on `count` scenarios starting at `first`; a law says what it found wrong. The first
/// scenario that breaks it is made as small as it stays broken, and shown.
pub fn for_all(first: u64, count: u64, law: impl Fn(&Scenario) -> Result<(), String>) {
    for_all_of(Scenario::random, first, count, law);
}

/// The same for fleets of which two thirds can change.
pub fn for_all_fleets(first: u64, count: u64, law: impl Fn(&Scenario) -> Result<(), String>) {
    for_all_of(Scenario::random_fleet, first, count, law);
}

fn for_all_of(
    scenario: impl Fn(u64) -> Scenario,
    first: u64,
    count: u64,
    law: impl Fn(&Scenario) -> Result<(), String>,
) {
    let only = environment("BLIS_OPT_SWARM_CASE");
    let cases = only.map_or(first..first + count, |case| case..case + 1);
    for case in cases {
        let scenario = scenario(case);
        let Err(wrong) = attempt(&law, &scenario) else { continue };
        let (small, reason) = shrink(scenario, wrong, &law);
        panic!(
            "case {case}: {reason}\nreplay with BLIS_OPT_SWARM_CASE={case}\nsmallest: {small:#?}"
        );
    }
}

/// A number from the environment.
pub fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn attempt(
    law: &impl Fn(&Scenario) -> Result<(), String>,
    scenario: &Scenario,
) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| law(scenario))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn shrink(
    mut scenario: Scenario,
    mut reason: String,
    law: &impl Fn(&Scenario) -> Result<(), String>,
) -> (Scenario, String) {
    'smaller: loop {
        for candidate in scenario.simpler() {
            if let Err(wrong) = attempt(law, &candidate) {
                (scenario, reason) = (candidate, wrong);
                continue 'smaller;
            }
        }
        return (scenario, reason);
    }
}

/// A die with the ways a scenario is drawn.
pub struct Dice(Rng);

impl Dice {
    pub fn new(case: u64) -> Self {
        Self(Rng::new(case, Stream::Design, 0))
    }

    /// A die for what moves in a scenario, which leaves all else as it is.
    fn of_motion(case: u64) -> Self {
        Self(Rng::new(case, Stream::Faults, 0))
    }

    /// A die for routers besides those of the reference, which leaves all else as it is.
    fn of_routing(case: u64) -> Self {
        Self(Rng::new(case, Stream::RouterTies, 1))
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.0.below(u64::from(high - low) + 1) as u32
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.between(1, times) == 1
    }

    /// One of `values`.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.between(0, values.len() as u32 - 1) as usize].clone()
    }

    /// Zero, a small whole number or any number, up to `high`.
    fn coefficient(&mut self, high: f64) -> f64 {
        match self.between(0, 3) {
            0 => 0.0,
            1 => (self.0.uniform() * high).round(),
            _ => self.0.uniform() * high,
        }
    }

    /// Anything from nothing to `high` microseconds, on all scales.
    fn span(&mut self, high: u32) -> Span {
        let scale = self.pick(&[0, 1, 10, 1000, high]);
        Span::from_us(u64::from(self.between(0, scale.min(high))))
    }
}

impl Scenario {
    /// The scenario of that number.
    pub fn random(case: u64) -> Self {
        let mut dice = Dice::new(case);
        let mut bundle = bundle(&mut dice);
        let mut trace = trace(&mut dice);
        if dice.once_in(4) {
            crowd(&mut bundle, &mut trace, &mut dice);
        }
        let end_us = trace.end.as_us() as u32 + 20_000;
        let horizon = match dice.between(0, 3) {
            0 => SimTime::from_us(u64::from(dice.between(0, end_us * 2))),
            _ => SimTime::NEVER,
        };
        let warm_up = match dice.between(0, 2) {
            0 => SimTime::from_us(u64::from(dice.between(0, end_us))),
            _ => SimTime::ZERO,
        };
        routers::choose(&mut bundle, case);
        let options =
            RunOptions { warm_up, horizon, keep_requests: true, keep_steps: true, timeline: None };
        let mut scenario = Self { bundle, trace, conditions: Conditions::calm(case), options };
        gates::set_rules(&mut scenario, case);
        scenario
    }

    /// The scenario of that number, with a fleet that can change in two of three.
    pub fn random_fleet(case: u64) -> Self {
        let mut scenario = Self::random(case);
        fleets::set_in_motion(&mut scenario, case);
        if !case.is_multiple_of(3) {
            gates::set_up(&mut scenario, case);
        }
        scenario
    }

    /// One instance with steps of 1 ms and these requests: arrival in microseconds, prompt,
    /// answer. All requests lie on one chain, nothing of them shared.
    pub fn plain(kv_blocks: u32, block_size: u32, requests: &[(u64, u32, u32)]) -> Self {
        let mut scenario = Self::random(0);
        let bundle = &mut scenario.bundle;
        bundle.pools.truncate(1);
        bundle.pools[0].fix(1);
        bundle.pools[0].kv_blocks = kv_blocks;
        bundle.pools[0].latency = Blackbox { alpha: [0.0; 3], beta: [1000.0, 0.0, 0.0] };
        bundle.admission = Admission::AlwaysAdmit;
        bundle.gateway = Gateway::default();
        bundle.routing = Routing::RoundRobin;
        bundle.scheduler = Scheduler::Fcfs;
        bundle.priority = Priority::Constant;
        (bundle.admission_latency, bundle.routing_latency) = (Span::ZERO, Span::ZERO);
        bundle.batching =
            Batching { max_running: 256, max_tokens: 2048, long_prefill_threshold: 0 };
        bundle.block_size = block_size;
        let trace = &mut scenario.trace;
        *trace = Trace {
            clients: trace.clients.clone(),
            classes: trace.classes.clone(),
            tenants: trace.tenants.clone(),
            chains: vec![Chain { parent: NO_CHAIN, start: 0 }],
            ..Trace::default()
        };
        for &(arrival_us, input, output) in requests {
            let arrival = SimTime::from_us(arrival_us);
            trace.push(Request {
                arrival,
                input,
                output,
                client: ClientId(0),
                chain: 0,
                shared: 0,
            });
            trace.end = arrival;
        }
        scenario.drained()
    }

    /// The same without a cut and without a warm-up.
    pub fn drained(&self) -> Self {
        let mut drained = self.clone();
        drained.options.horizon = SimTime::NEVER;
        drained.options.warm_up = SimTime::ZERO;
        drained
    }

    /// Scenarios that are a little simpler than this one, the boldest first.
    fn simpler(&self) -> Vec<Self> {
        let mut simpler = fleets::simpler(self);
        simpler.extend(gates::simpler(self));
        let heads: Vec<usize> =
            (0..self.trace.len()).filter(|&at| self.trace.arrival[at] != SimTime::NEVER).collect();
        for piece in [heads.len() / 2, heads.len() / 4, 1] {
            for range in heads.chunks(piece.max(1)) {
                let last = heads.iter().find(|&&at| at > range[range.len() - 1]);
                let range = range[0]..last.copied().unwrap_or(self.trace.len());
                simpler.push(self.without(|at| range.contains(&at)));
            }
        }
        for at in 0..self.trace.len() {
            let next = at + 1;
            if next == self.trace.len() || self.trace.arrival[next] != SimTime::NEVER {
                simpler.push(self.without(|other| other == at));
            }
        }
        let mut change = |edit: &dyn Fn(&mut Self)| {
            let mut candidate = self.clone();
            edit(&mut candidate);
            if candidate != *self {
                simpler.push(candidate);
            }
        };
        change(&|s| s.options.horizon = SimTime::NEVER);
        change(&|s| s.options.warm_up = SimTime::ZERO);
        change(&|s| s.bundle.admission = Admission::AlwaysAdmit);
        change(&|s| s.bundle.routing = Routing::RoundRobin);
        change(&|s| s.bundle.scheduler = Scheduler::Fcfs);
        change(&|s| s.bundle.priority = Priority::Constant);
        change(&|s| s.bundle.admission_latency = Span::ZERO);
        change(&|s| s.bundle.routing_latency = Span::ZERO);
        change(&|s| s.bundle.signals.kv_utilization_refresh = Span::ZERO);
        change(&|s| s.bundle.signals.metrics_fetch_interval = Span::ZERO);
        change(&|s| s.bundle.batching.long_prefill_threshold = 0);
        change(&|s| s.bundle.batching.max_tokens = 2048);
        change(&|s| s.bundle.batching.max_running = 256);
        change(&fleets::keep_one_pool);
        change(&|s| s.bundle.pools[0].fix(1));
        change(&|s| s.bundle.pools[0].kv_blocks = 1000);
        change(&|s| s.bundle.pools[0].latency.alpha = [0.0; 3]);
        change(&|s| s.bundle.pools[0].latency.beta = [1000.0, 0.0, 0.0]);
        for at in 0..self.trace.len() {
            change(&|s| s.trace.chain[at] = NO_CHAIN);
            change(&|s| s.trace.input[at] = s.trace.input[at].div_ceil(2));
            change(&|s| s.trace.output[at] /= 2);
        }
        simpler
    }

    fn without(&self, gone: impl Fn(usize) -> bool) -> Self {
        let mut smaller = self.clone();
        smaller.trace = Trace {
            clients: self.trace.clients.clone(),
            classes: self.trace.classes.clone(),
            tenants: self.trace.tenants.clone(),
            chains: self.trace.chains.clone(),
            targets: self.trace.targets.clone(),
            end: self.trace.end,
            ..Trace::default()
        };
        for at in (0..self.trace.len()).filter(|&at| !gone(at)) {
            smaller.trace.push(row(&self.trace, at));
        }
        smaller
    }
}

/// A request as a row.
pub fn row(trace: &Trace, at: usize) -> Request {
    Request {
        arrival: trace.arrival[at],
        input: trace.input[at],
        output: trace.output[at],
        client: trace.client[at],
        chain: trace.chain[at],
        shared: trace.shared[at],
    }
}

fn bundle(dice: &mut Dice) -> PolicyBundle {
    let block_size = dice.pick(&[1, 2, 3, 4, 7, 8, 16, 16, 32]);
    let pools = (0..dice.pick(&[1, 1, 2])).map(|_| pool(dice, block_size)).collect();
    PolicyBundle {
        pools,
        admission: match dice.between(0, 9) {
            0..=6 => Admission::AlwaysAdmit,
            7 if dice.once_in(4) => Admission::RejectAll,
            _ => Admission::TokenBucket {
                capacity: f64::from(dice.between(1, 1000)),
                refill_rate: 1.0 + dice.coefficient(100_000.0),
            },
        },
        admission_latency: if dice.once_in(3) { dice.span(30_000) } else { Span::ZERO },
        routing: routing(dice),
        routing_latency: if dice.once_in(3) { dice.span(30_000) } else { Span::ZERO },
        signals: Signals {
            kv_utilization_refresh: dice.span(50_000),
            metrics_fetch_interval: Span::ZERO,
            prefix_index_blocks: dice.pick(&[1, 2, 5, 20, 100, 10_000]),
        },
        priority: match dice.between(0, 4) {
            0 => Priority::Constant,
            1 => Priority::Age,
            2 => Priority::InvertedAge,
            3 => Priority::SloClass(vec![
                ("gold".into(), dice.pick(&[1.0, 2.5, -1.0])),
                ("iron".into(), dice.pick(&[1.0, -0.5])),
            ]),
            _ => Priority::SloDeadline(vec![
                ("gold".into(), dice.span(20_000)),
                ("iron".into(), dice.span(200_000)),
            ]),
        },
        scheduler: dice.pick(&[
            Scheduler::Fcfs,
            Scheduler::Fcfs,
            Scheduler::PriorityFcfs,
            Scheduler::Sjf,
            Scheduler::ReversePriority,
        ]),
        batching: Batching {
            max_running: dice.pick(&[1, 2, 3, 5, 8, 16, 64]),
            max_tokens: dice.pick(&[1, 2, 3, 5, 10, 30, 100, 500, 2048]),
            long_prefill_threshold: dice.pick(&[0, 0, 0, 1, 4, 16, 50]),
        },
        block_size,
        autoscaling: None,
        gateway: Gateway::default(),
    }
}

/// Lets everybody share and nobody have room: tiny blocks, few of them, two stories that all
/// tell from the start, so that what one request forgets another is about to compute.
fn crowd(bundle: &mut PolicyBundle, trace: &mut Trace, dice: &mut Dice) {
    bundle.block_size = dice.pick(&[1, 1, 2, 3]);
    for pool in &mut bundle.pools {
        pool.fix(dice.pick(&[1, 1, 2]));
        pool.kv_blocks = dice.between(4, 60);
    }
    bundle.batching = Batching {
        max_running: dice.pick(&[2, 4, 16]),
        max_tokens: dice.pick(&[4, 10, 100]),
        long_prefill_threshold: dice.pick(&[0, 1, 2, 5]),
    };
    if dice.once_in(4) {
        // In no time at all: everything at one instant, in the order of kinds and indexes.
        for pool in &mut bundle.pools {
            pool.latency.alpha = [0.0; 3];
            pool.latency.beta = [0.0, 0.0, dice.pick(&[0.0, 1.0, 1000.0])];
        }
        for client in &mut trace.clients {
            client.think_time = Span::ZERO;
        }
    }
    let fork = dice.between(0, 12);
    trace.chains = vec![Chain { parent: NO_CHAIN, start: 0 }, Chain { parent: 0, start: fork }];
    for at in 0..trace.len() {
        trace.chain[at] = dice.pick(&[0, 0, 1, NO_CHAIN]);
        trace.shared[at] = dice.pick(&[u32::MAX, u32::MAX, fork + 5]);
        trace.input[at] = 1 + trace.input[at] % 14;
        trace.output[at] %= 24;
    }
}

fn pool(dice: &mut Dice, block_size: u32) -> Pool {
    let tokens = dice.pick(&[20, 60, 120, 250, 400, 600, 1500, 20_000]);
    let few = (tokens / block_size).max(1);
    let slow = dice.pick(&[0.01, 1.0, 1.0]);
    // More than 32 instances are kept in another order of what is due.
    let instances = if dice.once_in(50) { 20 } else { dice.pick(&[1, 1, 2, 3]) };
    let kv_blocks = dice.between(few.div_ceil(2), few * 2);
    let alpha =
        [dice.coefficient(3000.0) * slow, dice.coefficient(10.0) * slow, dice.coefficient(2000.0)];
    let beta = [
        dice.coefficient(7000.0) * slow,
        dice.coefficient(50.0) * slow,
        dice.coefficient(300.0) * slow,
    ];
    Pool::bare(instances, kv_blocks, Blackbox { alpha, beta })
}

fn routing(dice: &mut Dice) -> Routing {
    match dice.between(0, 8) {
        0 => Routing::RoundRobin,
        1 => Routing::LeastLoaded,
        2 => Routing::AlwaysBusiest,
        3 => Routing::PrefixAffinity,
        _ => {
            let mut kinds: Vec<ScorerKind> = routers::OF_THE_REFERENCE.to_vec();
            let mut scorers = Vec::new();
            for _ in 0..dice.between(1, 4) {
                let kind = kinds.remove(dice.between(0, kinds.len() as u32 - 1) as usize);
                scorers.push((kind, dice.pick(&[1.0, 2.0, 3.0, 0.1, 0.7, 5.5])));
            }
            Routing::Weighted(scorers)
        }
    }
}

/// Lengths and chains that the requests of one trace are drawn from.
struct Shape {
    input_max: u32,
    output_max: u32,
    /// Chains of prefix groups, and how many tokens they share.
    groups: Vec<(u32, u32)>,
    round_max: u32,
}

impl Shape {
    /// A group and its length, or none of them once in `times`.
    fn group(&self, dice: &mut Dice, times: u32) -> (u32, u32) {
        if self.groups.is_empty() || dice.once_in(times) {
            (NO_CHAIN, 0)
        } else {
            dice.pick(&self.groups)
        }
    }
}

fn trace(dice: &mut Dice) -> Trace {
    let mut trace = Trace {
        classes: vec!["default".into(), "gold".into(), "iron".into()],
        tenants: vec!["tenant".into()],
        ..Trace::default()
    };
    for class in 0..3 {
        let think_time = dice.span(100_000);
        let pinned = dice.once_in(8).then(|| dice.between(0, 4));
        let name = "client".into();
        trace.clients.push(ClientInfo { name, class, tenant: 0, think_time, pinned });
    }
    let shape = Shape {
        input_max: dice.pick(&[3, 20, 60, 150, 150, 400]),
        output_max: dice.pick(&[1, 5, 20, 40, 100, 600]),
        groups: groups(dice, &mut trace),
        round_max: dice.pick(&[1, 1, 3, 6]),
    };
    let gap = dice.pick(&[0, 10, 300, 3000, 20_000, 60_000]);
    let burst = dice.between(1, 4);
    let mut now_us = 0;
    let mut entries = Vec::new();
    for _ in 0..dice.pick(&[1, 2, 5, 10, 20, 40, 80]) {
        if dice.once_in(burst) {
            now_us += u64::from(dice.between(0, gap));
        }
        if dice.between(1, shape.round_max) > 1 {
            session(dice, &shape, &mut trace.chains, now_us, &mut entries);
        } else {
            entries.push(vec![single(dice, &shape, now_us)]);
        }
    }
    entries.sort_by_key(|entry| entry[0].arrival);
    trace.end = entries.last().map_or(SimTime::ZERO, |entry| entry[0].arrival);
    trace.end = trace.end + dice.span(20_000);
    for request in entries.into_iter().flatten() {
        trace.push(request);
    }
    trace
}

fn groups(dice: &mut Dice, trace: &mut Trace) -> Vec<(u32, u32)> {
    let mut groups: Vec<(u32, u32)> = Vec::new();
    for _ in 0..dice.pick(&[0, 1, 2, 4]) {
        let (parent, start) = match groups.last() {
            Some(&(chain, shared)) if dice.once_in(2) => {
                let above = trace.chains[chain as usize].start;
                (chain, dice.between(above, above + shared))
            }
            _ => (NO_CHAIN, 0),
        };
        trace.chains.push(Chain { parent, start });
        groups.push((trace.chains.len() as u32 - 1, start + dice.between(1, 100)));
    }
    groups
}

fn single(dice: &mut Dice, shape: &Shape, now_us: u64) -> Request {
    let own = dice.between(1, shape.input_max);
    let (chain, shared) = shape.group(dice, 3);
    Request {
        arrival: SimTime::from_us(now_us),
        input: if dice.once_in(4) { own } else { own + shared },
        output: output(dice, shape),
        client: ClientId(dice.between(0, 2)),
        chain,
        shared: if dice.once_in(8) { u32::MAX } else { shared },
    }
}

fn output(dice: &mut Dice, shape: &Shape) -> u32 {
    if dice.once_in(6) { dice.between(0, 1) } else { dice.between(0, shape.output_max) }
}

/// Rounds of one conversation: each waits for the one before, or all have their own times.
fn session(
    dice: &mut Dice,
    shape: &Shape,
    chains: &mut Vec<Chain>,
    now_us: u64,
    entries: &mut Vec<Vec<Request>>,
) {
    let (parent, start) = shape.group(dice, 2);
    chains.push(Chain { parent, start });
    let chain = chains.len() as u32 - 1;
    let client = ClientId(dice.between(0, 2));
    let (open, grows) = (dice.once_in(3), !dice.once_in(4));
    let mut at_us = now_us;
    let mut history = start;
    let mut rounds = Vec::new();
    for round in 0..dice.between(2, shape.round_max) {
        let waits = round > 0 && !open;
        let arrival = if waits { SimTime::NEVER } else { SimTime::from_us(at_us) };
        let input = history + dice.between(1, shape.input_max.div_ceil(4));
        let output = output(dice, shape);
        rounds.push(Request { arrival, input, output, client, chain, shared: u32::MAX });
        if grows {
            history = input + output;
        }
        at_us += u64::from(dice.between(0, 20_000));
    }
    if open {
        entries.extend(rounds.into_iter().map(|round| vec![round]));
    } else {
        entries.push(rounds);
    }
}

/// A random workload of a few clients, some with sessions, some with a shared prefix.
pub fn workload(case: u64) -> WorkloadSpec {
    let dice = &mut Dice::new(case);
    let clients = (0..dice.between(1, 3)).map(|_| client(dice)).collect();
    let aggregate_rate = f64::from(dice.pick(&[5, 20, 60]));
    WorkloadSpec { aggregate_rate, clients, ..WorkloadSpec::default() }
}

fn client(dice: &mut Dice) -> ClientSpec {
    let sessions = Sessions {
        max_rounds: dice.between(1, 5),
        think_time: dice.span(100_000),
        growth: dice.pick(&[Growth::Accumulate, Growth::None]),
        pacing: dice.pick(&[Pacing::Closed, Pacing::Closed, Pacing::Open]),
        single: dice.once_in(5),
    };
    let group = dice.pick(&["system", "other"]).to_owned();
    let prefix = Prefix { group, length: dice.between(1, 80) };
    let mean = f64::from(dice.between(2, 80));
    let corner = |seconds: u32, factor: u32| Point {
        at: Span::from_secs(f64::from(seconds)),
        factor: f64::from(factor),
    };
    let points = vec![corner(0, dice.between(0, 2)), corner(3, dice.between(1, 2))];
    let profile = Profile { points, ..Profile::default() };
    ClientSpec {
        name: "client".into(),
        tenant: "tenant".into(),
        slo_class: dice.pick(&["default", "gold", "iron"]).into(),
        rate_fraction: f64::from(dice.between(1, 4)),
        arrivals: dice.pick(&[Arrivals::Poisson, Arrivals::Gamma { cv: 2.0 }]),
        prompt: Prompt::Text(Lengths::gaussian(mean, mean, 1.0, 200.0)),
        output: Lengths::Exponential { mean: 1.0 + mean / 2.0, clamp: Clamp::NONE },
        prefix: dice.once_in(2).then_some(prefix),
        sessions: dice.once_in(2).then_some(sessions),
        profile: dice.once_in(3).then(|| Arc::new(profile)),
        pinned_instance: dice.once_in(5).then(|| dice.between(0, 4)),
        ..ClientSpec::default()
    }
}
