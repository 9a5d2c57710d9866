//! The cluster: requests arrive, are admitted and routed; engines step in between.
//!
//! At one instant cluster events come first, arrivals before admissions before routings; among
//! engines the lowest index.

use crate::base::{SimTime, Span};
use crate::policy::load::Load;
use crate::policy::queue::Ranking;
use crate::policy::router::{Router, router};
use crate::policy::view::{ChainBlocks, ClusterView, RequestView, Seen};
use crate::policy::{PolicyBundle, Scheduler};
use crate::scenario::Conditions;
use crate::sim::agenda::Agenda;
use crate::sim::collect::Collector;
use crate::sim::engine::{Engine, EngineSetup};
use crate::sim::gateway::Gate;
use crate::sim::kv::{Holding, Naming};
use crate::sim::line::{Crossed, Line, Lines};
use crate::sim::live::{Live, NOWHERE, Phase, Slots};
use crate::sim::moving::Moving;
use crate::sim::observe::Observing;
use crate::sim::outcome::{InstanceOutcome, Outcome, RunOptions};
use crate::sim::source::{Drawn, Listed, Source};
use crate::workload::{Generator, Limits, NO_CHAIN, Request, Trace, WorkloadSpec};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Buffers that a run needs, reused from run to run by one worker.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) slots: Slots,
    pub(super) collect: Collector,
    pub(super) chains: ChainBlocks,
    pub(super) engines: Vec<Engine>,
    pub(super) agenda: Agenda,
    pub(super) load: Load,
    kv_utilization: Vec<f64>,
    pub(super) seen: Seen,
    pub(super) decode_steps: Vec<Vec<Span>>,
    pub(super) answered: Vec<(u32, SimTime)>,
    pub(super) follow_ups: BinaryHeap<Reverse<(SimTime, u32)>>,
    pub(super) admissions: VecDeque<(SimTime, u32)>,
    pub(super) routings: VecDeque<(SimTime, u32)>,
}

/// A run in progress.
pub struct Cluster<'a, S> {
    pub(super) bundle: &'a PolicyBundle,
    pub(super) source: S,
    pub(super) options: &'a RunOptions,
    pub(super) s: &'a mut Scratch,
    pub(super) gate: Gate<'a>,
    pub(super) router: Box<dyn Router>,
    reads_kv: bool,
    kv_refreshed: SimTime,
    /// What else the router reads.
    pub(super) observing: Observing,
    /// When an engine last advanced, and the highest engine that did so then.
    advanced: (SimTime, usize),
    pub(super) ranking: Ranking,
    /// `None` where nothing changes.
    pub(super) moving: Option<Moving<'a>>,
}

/// Simulates `bundle` under the requests of `trace`: a pure function of its arguments.
///
/// `bundle` has at least one instance; `trace` is in order of arrival.
pub fn simulate(
    bundle: &PolicyBundle,
    trace: &Trace,
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Outcome {
    simulate_under(bundle, trace, &Conditions::calm(0), options, scratch)
}

/// Simulates `bundle` under the requests of `trace` and under `conditions`.
pub fn simulate_under(
    bundle: &PolicyBundle,
    trace: &Trace,
    conditions: &Conditions,
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Outcome {
    let no_lines = Lines::default();
    let ended = run_to_end((bundle, conditions), Listed::new(trace), (options, &no_lines), scratch);
    ended.expect("there is no line to cross")
}

/// The same, but stopped as soon as one of `lines` is crossed whatever comes; a run that is not
/// stopped tells the same to the last bit. A fleet that changes is not looked at, nor one that
/// users in a closed loop ask.
///
/// # Errors
/// The line that was crossed.
pub fn simulate_within(
    lines: &[Line],
    (bundle, trace, conditions): (&PolicyBundle, &Trace, &Conditions),
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Result<Outcome, Crossed> {
    let lines = Lines::of(lines, trace, options.warm_up);
    run_to_end((bundle, conditions), Listed::new(trace), (options, &lines), scratch)
}

/// The same for requests that are drawn when they are due, until `duration`, and never kept:
/// memory does not grow with their number, but for a few bytes per session.
///
/// Equals [`simulate`] of the collected trace, but that records and figures stop at the last
/// request that arrived.
pub fn simulate_drawn(
    bundle: &PolicyBundle,
    drawn: (&WorkloadSpec, u64, Span),
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Outcome {
    simulate_drawn_under(bundle, drawn, &Conditions::calm(0), options, scratch)
}

/// The same under `conditions`.
pub fn simulate_drawn_under(
    bundle: &PolicyBundle,
    (workload, seed, duration): (&WorkloadSpec, u64, Span),
    conditions: &Conditions,
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Outcome {
    let limits = Limits { duration: Some(duration), max_requests: None };
    let generator = Generator::new(workload, seed, limits);
    let source = Drawn::new(generator, SimTime::ZERO + duration);
    let no_lines = Lines::default();
    let ended = run_to_end((bundle, conditions), source, (options, &no_lines), scratch);
    ended.expect("there is no line to cross")
}

fn run_to_end<S: Source>(
    (bundle, conditions): (&PolicyBundle, &Conditions),
    mut source: S,
    (options, lines): (&RunOptions, &Lines<'_>),
    scratch: &mut Scratch,
) -> Result<Outcome, Crossed> {
    prepare(bundle, &source, options, scratch);
    let places = bundle.places() as usize;
    let router = router(bundle, conditions.seed);
    let timeline = (scratch.collect.window(), options.timeline);
    let moving = Moving::new(bundle, conditions, &mut source, timeline);
    let watched = bundle.autoscaling.as_ref().filter(|scaling| scaling.watches_requests());
    scratch.collect.watch.reset(watched.map(|scaling| scaling.quantiles));
    let gate = Gate::new(bundle, &source, conditions.seed);
    scratch.collect.gate.reset(gate.is_active().then(|| gate.names()));
    scratch.collect.health.reset(bundle.gateway.health_checks.as_ref(), places);
    let mut cluster = Cluster {
        bundle,
        options,
        gate,
        reads_kv: router.needs_kv_utilization(),
        observing: Observing::new(router.columns(), source.clients(), &mut scratch.seen),
        router,
        kv_refreshed: SimTime::ZERO,
        advanced: (SimTime::ZERO, 0),
        ranking: Ranking::new(bundle.scheduler, &bundle.priority, source.classes()),
        source,
        s: scratch,
        moving,
    };
    if cluster.moving.is_some() {
        cluster.run_moving();
    } else if let Some(line) = cluster.run(lines) {
        let arrived = cluster.s.collect.arrivals() as f64 / cluster.source.len() as f64;
        return Err(Crossed { line, arrived });
    }
    Ok(cluster.finish())
}

fn prepare(bundle: &PolicyBundle, source: &impl Source, options: &RunOptions, s: &mut Scratch) {
    let instances = bundle.places() as usize;
    s.slots.clear();
    s.chains.rebuild(&source.first_chains(), bundle.block_size);
    let mut output_time = Vec::with_capacity(instances);
    s.engines.truncate(instances);
    s.engines.resize_with(instances, Engine::new);
    s.decode_steps.resize_with(bundle.pools.len(), Vec::new);
    let mut id = 0;
    for (at, pool) in bundle.pools.iter().enumerate() {
        let batches = 0..=u64::from(bundle.batching.max_running);
        let steps = batches.map(|batch| Span::from_us(pool.latency.step_us(0, batch)));
        s.decode_steps[at].clear();
        s.decode_steps[at].extend(steps);
        let setup = EngineSetup {
            pool: at as u32,
            latency: pool.latency,
            limits: bundle.batching,
            block_size: bundle.block_size,
            kv_blocks: pool.kv_blocks,
            fcfs: bundle.scheduler == Scheduler::Fcfs,
            chained: source.is_chained(),
            preempt_above: bundle.gateway.degradation.preempt_above,
        };
        for _ in 0..pool.max_instances {
            s.engines[id as usize].reset(id, &setup);
            output_time.push(Span::from_us(pool.latency.output_us()));
            id += 1;
        }
    }
    s.collect.reset(source, options, output_time);
    s.agenda.reset(instances);
    s.load.reset(instances);
    s.kv_utilization.clear();
    s.kv_utilization.resize(instances, 0.0);
    s.seen.reset(instances);
    s.answered.clear();
    s.follow_ups.clear();
    s.follow_ups.extend(source.first_asks().into_iter().map(Reverse));
    s.admissions.clear();
    s.routings.clear();
}

impl<S: Source> Cluster<'_, S> {
    /// Runs a fleet in which nothing changes, to its end or until one of `lines` is crossed.
    fn run(&mut self, lines: &Lines<'_>) -> Option<usize> {
        let horizon = self.horizon();
        let first = self.options.warm_up + lines.every;
        let mut look = if lines.is_empty() { SimTime::NEVER } else { first };
        loop {
            let now = self.run_until(horizon.min(look));
            if now == SimTime::NEVER || now > horizon {
                return None;
            }
            let crossed = self.s.collect.crossed(lines);
            if crossed.is_some() {
                return crossed;
            }
            look = now + lines.every;
        }
    }

    /// Runs until nothing is left to do, or past `until`: when the next thing would happen.
    fn run_until(&mut self, until: SimTime) -> SimTime {
        loop {
            let (kind, cluster) = self.next_cluster_event();
            let (due, instance) = self.s.agenda.first();
            let now = cluster.min(due);
            if now == SimTime::NEVER || now > until {
                return now;
            }
            if due < cluster {
                self.advance(instance, due);
            } else {
                match kind {
                    0 => self.on_arrival(now),
                    1 => self.on_admission(now),
                    _ => self.on_routing(now),
                }
            }
        }
    }

    /// The kind (0 arrival, 1 admission, 2 routing) and time of the next cluster event.
    pub(super) fn next_cluster_event(&mut self) -> (u8, SimTime) {
        let (listed, _) = self.source.next();
        let follow_up = self.s.follow_ups.peek().map(|&Reverse((time, _))| time);
        let front = |queue: &VecDeque<(SimTime, u32)>| {
            queue.front().map_or(SimTime::NEVER, |&(time, _)| time)
        };
        let never = SimTime::NEVER;
        let mut next = (0, listed.min(follow_up.unwrap_or(never)));
        for (kind, time) in [(1, front(&self.s.admissions)), (2, front(&self.s.routings))] {
            if time < next.1 {
                next = (kind, time);
            }
        }
        next
    }

    pub(super) fn advance(&mut self, instance: usize, due: SimTime) {
        self.advanced = match self.advanced {
            (time, highest) if time == due => (due, highest.max(instance)),
            _ => (due, instance),
        };
        self.with_engine(instance, |engine, cx| engine.advance(due, cx));
        self.release_follow_ups(due);
    }

    /// Lets what waited for the answers that came until `now` arrive after its think time.
    pub(super) fn release_follow_ups(&mut self, now: SimTime) {
        for (id, end) in self.s.answered.drain(..) {
            let next = match end {
                SimTime::NEVER => self.source.refused(id, now),
                end => self.source.follow_up(id, end),
            };
            self.s.follow_ups.extend(next.map(Reverse));
        }
    }

    pub(super) fn on_arrival(&mut self, now: SimTime) {
        let (arrival, next) = self.source.next();
        let follow_up = match self.s.follow_ups.peek() {
            Some(&Reverse((time, token))) if time == now && (arrival > now || token < next) => {
                Some(token)
            }
            _ => None,
        };
        let (id, request) = if let Some(token) = follow_up {
            self.s.follow_ups.pop();
            self.source.take_follow_up(token)
        } else {
            (next, self.source.take(&mut self.s.chains))
        };
        let live = self.live(id, &request, now);
        self.s.collect.arrived(&live);
        let slot = self.s.slots.insert(live);
        if let Some(moving) = &mut self.moving {
            self.s.slots[slot].deadline = moving.arrived(now, slot, &self.s.slots[slot]);
        }
        self.s.admissions.push_back((now + self.bundle.admission_latency, slot));
    }

    fn live(&self, id: u32, request: &Request, now: SimTime) -> Live {
        let size = self.bundle.block_size;
        let Request { input, output, client, chain, .. } = *request;
        let class = self.source.clients()[client.index()].class;
        let shared = if chain == NO_CHAIN { 0 } else { request.shared };
        let chain_blocks = shared.min(input.saturating_add(output)) / size;
        let cover = input.saturating_sub(1) / size;
        Live {
            id,
            client,
            class,
            phase: Phase::Pending,
            asked: now,
            arrival: now,
            deadline: SimTime::NEVER,
            attempt: 0,
            seen: false,
            instance: NOWHERE,
            input,
            output,
            wanted: output,
            gated: SimTime::NEVER,
            routed: SimTime::NEVER,
            naming: Naming { id, chain, chain_blocks, cover },
            prompt_blocks: input / size,
            rank: self.ranking.rank(now, class, input),
            order: 0,
            cached: 0,
            computed: 0,
            first_step: 0,
            finish_step: 0,
            first_token: SimTime::NEVER,
            starved: Span::ZERO,
            preemptions: 0,
            holding: Holding::default(),
        }
    }

    pub(super) fn view(live: &Live) -> RequestView {
        RequestView {
            id: live.id,
            client: live.client,
            class: live.class,
            arrival: live.arrival,
            input: live.input,
            prompt_blocks: live.prompt_blocks,
            chain: live.naming.chain,
            chain_blocks: live.naming.chain_blocks.min(live.prompt_blocks),
        }
    }

    /// Brings the KV column to the age that the bundle allows; both decisions look at it.
    fn refresh_kv(&mut self, now: SimTime) {
        let interval = self.bundle.signals.kv_utilization_refresh;
        if !self.reads_kv || now - self.kv_refreshed < interval {
            return;
        }
        self.kv_refreshed = now;
        for at in 0..self.s.engines.len() {
            let begun = self.begun(at, now);
            self.s.kv_utilization[at] = self.s.engines[at].kv_utilization_at(begun);
        }
    }

    /// The time before which the steps of `instance` have begun as seen at `now`: those at `now`
    /// only where an engine behind it has had its turn then.
    pub(super) fn begun(&self, instance: usize, now: SimTime) -> SimTime {
        let (time, highest) = self.advanced;
        if time == now && instance < highest { now + Span::from_ps(1) } else { now }
    }

    pub(super) fn on_admission(&mut self, now: SimTime) {
        self.refresh_kv(now);
        self.refresh_metrics(now);
        let Some((_, slot)) = self.s.admissions.pop_front() else { return };
        match self.refusal(slot, now) {
            None => self.pass(slot, now),
            Some(refusal) => self.turn_away(slot, refusal, now),
        }
    }

    pub(super) fn on_routing(&mut self, now: SimTime) {
        let Some((_, slot)) = self.s.routings.pop_front() else { return };
        self.route(slot, now);
    }

    /// Sends a request to an instance, or holds it where there is none.
    pub(super) fn route(&mut self, slot: u32, now: SimTime) {
        self.refresh_kv(now);
        self.refresh_metrics(now);
        if let Some(moving) = &mut self.moving
            && !moving.may_route()
        {
            let gated = &mut self.s.slots[slot].gated;
            *gated = now.min(*gated);
            return moving.hold(slot);
        }
        self.leave_gate(slot, now);
        self.cap_output(slot, now);
        let full = self.close_full(now);
        self.count_for_router(slot, now);
        let request = Self::view(&self.s.slots[slot]);
        let Scratch { chains, load, kv_utilization, seen, .. } = &*self.s;
        let open = self.moving.as_ref().map(|moving| moving.open.as_slice());
        let cluster = ClusterView { load, kv_utilization, chains, open, seen };
        let pinned = self.source.clients()[request.client.index()].pinned;
        let instance = match pinned.map(|index| index as usize) {
            Some(index) if index < load.len() && cluster.is_open(index) => index,
            _ => self.router.route(&request, &cluster).index(),
        };
        self.reopen(full);
        let begun = self.begun(instance, now);
        self.with_engine(instance, |engine, cx| {
            cx.slots[slot].instance = instance as u32;
            cx.slots[slot].routed = now;
            cx.collect.routed(&cx.slots[slot], instance as u32, now);
            cx.load.add(instance);
            engine.accept(slot, now, begun, cx);
        });
    }

    /// The last point at which anything happens.
    pub(super) fn horizon(&self) -> SimTime {
        let horizon = self.options.horizon.min(SimTime::LAST);
        if self.moving.is_some() { horizon.min(self.overtime()) } else { horizon }
    }

    /// Cuts what still runs at the horizon and gathers the figures.
    fn finish(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let horizon = self.horizon();
        let queues = [&self.s.admissions, &self.s.routings];
        let queued = queues.into_iter().flatten().map(|&(_, slot)| slot);
        let waits =
            self.moving.iter().flat_map(|moving| moving.held().chain(moving.coming_again()));
        for slot in queued.chain(waits).chain(self.gate.waiting()) {
            self.s.collect.cut(&self.s.slots[slot], None, false);
        }
        let is_cut = !self.s.slots.is_empty() || !self.s.follow_ups.is_empty();
        let cut = is_cut.then_some(horizon);
        if self.moving.is_some() {
            self.close_last_interval(cut);
        }
        outcome.instances = (0..self.s.engines.len())
            .map(|at| self.with_engine(at, |engine, cx| engine.finish(horizon, cx)))
            .collect();
        if self.source.is_spent() {
            self.s.collect.end_with_last_answer();
        }
        if self.moving.is_some() {
            outcome.fleet = Some(self.fleet_outcome(cut));
        }
        self.s.collect.finish(self.source.classes(), &mut outcome);
        self.sum_up(&mut outcome);
        outcome
    }

    /// The figures of the fleet that follow from those of its instances.
    fn sum_up(&mut self, outcome: &mut Outcome) {
        let instances = &outcome.instances;
        let (mut hits, mut looked_up) = (0, 0);
        let (mut used, mut possible) = (0.0, 0.0);
        for (engine, instance) in self.s.engines.iter().zip(instances) {
            let (hit, missed) = engine.kv.hits_and_misses();
            hits += hit;
            looked_up += hit + missed;
            let total = f64::from(engine.kv.used() + engine.kv.free());
            let (block_ps, busy) = engine.occupancy();
            used += block_ps as f64;
            possible += total * busy.as_ps() as f64;
            let peak = f64::from(instance.kv_blocks_peak) / total;
            outcome.kv_utilization_peak = outcome.kv_utilization_peak.max(peak);
        }
        outcome.kv_utilization_mean = if possible > 0.0 { used / possible } else { 0.0 };
        outcome.cache_hit_rate = if looked_up > 0 { hits as f64 / looked_up as f64 } else { 0.0 };
        outcome.preemptions = instances.iter().map(|instance| instance.preemptions).sum();
        let end_us = instances.iter().map(|instance| instance.end_us).max().unwrap_or(0);
        outcome.end_s = end_us as f64 / 1e6;
        outcome.jain_fairness = jain(instances);
        outcome.steps.sort_by_key(|step| (step.start_us, step.instance));
    }
}

/// Jain's index of requests per instance: (sum x)^2 / (n sum x^2).
fn jain(instances: &[InstanceOutcome]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for instance in instances {
        let requests = instance.requests as f64;
        sum += requests;
        squares += requests * requests;
    }
    if squares > 0.0 { sum * sum / (instances.len() as f64 * squares) } else { 1.0 }
}
