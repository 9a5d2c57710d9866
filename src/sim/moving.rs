//! A run of a fleet that changes: faults, orders, clients that give up and come again.
//!
//! Obeys `fleet.md`. [`Fleet`] keeps the life of places; what follows for requests and engines is
//! done here.

use crate::base::{Delay, Rng, SimTime, Span, Stream};
use crate::policy::autoscale::{
    Autoscaler, Autoscaling, FleetView, Foresight, ScaleOrder, autoscaler,
};
use crate::policy::signals::{InstanceSample, PoolSample, Sample, Samples, TokenCost};
use crate::policy::{PolicyBundle, Pool};
use crate::scenario::{Conditions, Strike};
use crate::sim::cluster::{Cluster, Scratch};
use crate::sim::engine::{Engine, Shared};
use crate::sim::fleet::{After, Due, Fleet, State};
use crate::sim::fleet_outcome::{FleetOutcome, Happening, StateTime};
use crate::sim::live::{Live, NOWHERE, Phase};
use crate::sim::outcome::RequestState;
use crate::sim::source::Source;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How long a run goes on at most behind the end of its arrivals.
const OVERTIME: Span = Span::from_us(3_600_000_000);
/// The intervals in which an oracle is told how many will arrive.
const FORESIGHT: Span = Span::from_us(60_000_000);

/// What a run of a fleet that changes needs besides.
pub struct Moving<'a> {
    pub(super) fleet: Fleet<'a>,
    conditions: &'a Conditions,
    scaling: Option<&'a Autoscaling>,
    autoscaler: Option<Box<dyn Autoscaler>>,
    samples: Samples,
    orders: Vec<ScaleOrder>,
    /// Which places take requests, and how many do.
    pub(super) open: Vec<bool>,
    open_count: u32,
    /// With fewer nobody is sent to an instance.
    least_open: u32,
    /// Requests that wait at the router for an instance.
    held: VecDeque<u32>,
    /// When attempts are given up: when, slot, id, attempt; in order of time.
    deadlines: VecDeque<(SimTime, u32, u32, u8)>,
    /// Clients that will come again: when, id, slot.
    retries: BinaryHeap<Reverse<(SimTime, u32, u32)>>,
    /// When last steps end, and where.
    endings: BinaryHeap<Reverse<(SimTime, u32)>>,
    /// Attempts that reached the cluster.
    arrivals: u64,
    /// Prompt tokens of these.
    prompt_tokens: u64,
}

/// What is next in such a run; of several at one instant the first kind goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Ending,
    Fleet,
    Deadline,
    Expiry,
    Arrival,
    Retry,
    Admission,
    Tick,
    Routing,
    Engine,
}

impl<'a> Moving<'a> {
    /// `None` where nothing can change and nobody wants a timeline.
    pub fn new(
        bundle: &'a PolicyBundle,
        conditions: &'a Conditions,
        source: &mut impl Source,
        (window, interval): ((SimTime, SimTime), Option<Span>),
    ) -> Option<Self> {
        let fixed = |pool: &Pool| {
            pool.min_instances == pool.instances && pool.max_instances == pool.instances
        };
        let scaling = bundle.autoscaling.as_ref();
        let quiet = scaling.is_none() && interval.is_none() && !bundle.gateway.is_active();
        let still = quiet && bundle.pools.iter().all(fixed);
        if still && conditions.is_calm() {
            return None;
        }
        let foresight = match scaling {
            Some(scaling) if scaling.needs_foresight() => source.foresight(FORESIGHT),
            _ => Foresight::default(),
        };
        let cost = |pool: &Pool| {
            let [step, prefill, decode] = pool.latency.beta;
            let batch = f64::from(bundle.batching.max_running);
            TokenCost { prefill_s: prefill / 1e6, decode_s: (decode + step / batch) / 1e6 }
        };
        let costs = bundle.pools.iter().map(cost).collect();
        let longest = scaling.map_or(Span::ZERO, Autoscaling::longest_window);
        Some(Self {
            fleet: Fleet::new(bundle, conditions, window, interval.unwrap_or(Span::ZERO)),
            conditions,
            scaling,
            autoscaler: scaling.map(|scaling| autoscaler(scaling, foresight)),
            samples: Samples::new(longest, costs),
            orders: Vec::new(),
            open: vec![false; bundle.places() as usize],
            open_count: 0,
            least_open: bundle.gateway.degradation.min_healthy.unwrap_or(1),
            held: VecDeque::new(),
            deadlines: VecDeque::new(),
            retries: BinaryHeap::new(),
            endings: BinaryHeap::new(),
            arrivals: 0,
            prompt_tokens: 0,
        })
    }

    /// Whether requests are routed: enough instances take some.
    pub fn may_route(&self) -> bool {
        self.open_count >= self.least_open
    }

    /// Instances in rotation.
    pub fn open_count(&self) -> u32 {
        self.open_count
    }

    /// Holds a request at the router.
    pub fn hold(&mut self, slot: u32) {
        self.held.push_back(slot);
    }

    /// Requests held at the router.
    pub fn held(&self) -> impl Iterator<Item = u32> {
        self.held.iter().copied()
    }

    /// Requests of clients who will come again.
    pub fn coming_again(&self) -> impl Iterator<Item = u32> {
        self.retries.iter().map(|&Reverse((.., slot))| slot)
    }

    /// An attempt reached the cluster; returns when it will be given up.
    pub fn arrived(&mut self, now: SimTime, slot: u32, live: &Live) -> SimTime {
        let (id, attempt) = (live.id, live.attempt);
        self.arrivals += 1;
        self.prompt_tokens += u64::from(live.input);
        let Some(timeout) = self.conditions.clients.timeout else { return SimTime::NEVER };
        let deadline = now + timeout.min(SimTime::LAST.since(SimTime::ZERO));
        self.deadlines.push_back((deadline, slot, id, attempt));
        deadline
    }

    /// The last step of some request on `place` ends at `end`.
    pub fn will_end(&mut self, end: SimTime, place: usize) {
        self.endings.push(Reverse((end, place as u32)));
    }

    /// Whether the first instances are launched at the start.
    pub fn is_cold(&self) -> bool {
        self.conditions.cold_start
    }

    /// What seeds the draws.
    pub fn seed(&self) -> u64 {
        self.conditions.seed
    }

    /// What fault `index` does.
    pub fn strike(&self, index: u32) -> &'a Strike {
        &self.conditions.faults[index as usize].strike
    }

    /// The seed, and how long crashes go unnoticed.
    pub fn detection(&self) -> (u64, &'a Delay) {
        (self.conditions.seed, &self.conditions.recovery.detection)
    }

    /// The seed, and how long restarts take.
    pub fn restart(&self) -> (u64, &'a Delay) {
        (self.conditions.seed, &self.conditions.recovery.restart)
    }

    fn set_open(&mut self, place: usize, open: bool) {
        if self.open[place] != open {
            self.open[place] = open;
            self.open_count = if open { self.open_count + 1 } else { self.open_count - 1 };
        }
    }
}

impl<'a, S: Source> Cluster<'a, S> {
    /// The part of a fleet that changes; this is only called for such a run.
    pub(super) fn moving(&mut self) -> &mut Moving<'a> {
        self.moving.as_mut().expect("only a fleet that changes gets here")
    }

    /// The fleet that changes.
    pub(super) fn fleet(&mut self) -> &mut Fleet<'a> {
        &mut self.moving().fleet
    }

    /// Runs a fleet that changes.
    pub(super) fn run_moving(&mut self) {
        self.start_fleet();
        let horizon = self.horizon();
        loop {
            let (now, next) = self.next_moving();
            if now == SimTime::NEVER || now > horizon || self.is_over(now) {
                return;
            }
            self.happen(now, next);
            self.fleet().settle_cooldowns(now);
        }
    }

    fn happen(&mut self, now: SimTime, next: Next) {
        match next {
            Next::Ending => self.on_ending(),
            Next::Fleet => self.on_fleet(),
            Next::Deadline => self.on_deadline(),
            Next::Expiry => self.on_expiry(),
            Next::Tick => self.on_tick(),
            Next::Arrival => self.on_arrival(now),
            Next::Retry => self.on_retry(),
            Next::Admission => self.on_admission(now),
            Next::Routing => self.on_routing(now),
            Next::Engine => {
                let (due, instance) = self.s.agenda.first();
                self.advance(instance, due);
                self.note_ending(instance);
                self.end_if_empty(instance, due);
            }
        }
    }

    /// When what is next.
    fn next_moving(&mut self) -> (SimTime, Next) {
        self.drop_stale_deadlines();
        self.drop_stale_expiries();
        let (kind, cluster) = self.next_cluster_event();
        let kind = [Next::Arrival, Next::Admission, Next::Routing][usize::from(kind)];
        let engine = self.s.agenda.first().0;
        let (expiry, tick) = (self.gate.next_expiry(), self.gate.tick());
        let moving = self.moving();
        let ending = moving.endings.peek().map_or(SimTime::NEVER, |&Reverse((end, _))| end);
        let deadline = moving.deadlines.front().map_or(SimTime::NEVER, |&(time, ..)| time);
        let retry = moving.retries.peek().map_or(SimTime::NEVER, |&Reverse((time, ..))| time);
        [
            (ending, Next::Ending),
            (moving.fleet.next(), Next::Fleet),
            (deadline, Next::Deadline),
            (expiry, Next::Expiry),
            (tick, Next::Tick),
            (cluster, kind),
            (retry, Next::Retry),
            (engine, Next::Engine),
        ]
        .into_iter()
        .min()
        .unwrap_or((SimTime::NEVER, Next::Engine))
    }

    /// Passes over attempts that ended before they were given up.
    fn drop_stale_deadlines(&mut self) {
        let slots = &self.s.slots;
        let Some(moving) = &mut self.moving else { return };
        while let Some(&(_, slot, id, attempt)) = moving.deadlines.front() {
            if slots.holds(slot, id, attempt) {
                return;
            }
            moving.deadlines.pop_front();
        }
    }

    /// Whether nobody is under way at `now`, or can come, and the time of arrivals is over.
    fn is_over(&mut self, now: SimTime) -> bool {
        if !self.s.slots.is_empty() || !self.s.follow_ups.is_empty() {
            return false;
        }
        self.source.next().0 == SimTime::NEVER
            && (self.source.is_spent() || now > self.source.end())
    }

    /// The last point at which anything happens in a fleet that changes.
    pub(super) fn overtime(&self) -> SimTime {
        self.source.end().min(SimTime::LAST) + OVERTIME
    }

    /// Does something to an engine.
    pub(super) fn with_engine<R>(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut Engine, &mut Shared) -> R,
    ) -> R {
        let mortal = self.moving.is_some();
        let keep_steps = self.options.keep_steps;
        let Scratch {
            slots, collect, chains, engines, agenda, load, answered, decode_steps, ..
        } = &mut *self.s;
        let mut cx =
            Shared { slots, collect, chains, load, answered, decode_steps, keep_steps, mortal };
        let engine = &mut engines[place];
        let done = act(engine, &mut cx);
        agenda.set(place, engine.due());
        done
    }

    fn note_ending(&mut self, place: usize) {
        let engine = &self.s.engines[place];
        if engine.has_ending() {
            let end = engine.step_end();
            self.moving().will_end(end, place);
        }
    }

    fn on_ending(&mut self) {
        let Some(Reverse((end, place))) = self.moving().endings.pop() else { return };
        let place = place as usize;
        let engine = &self.s.engines[place];
        if engine.is_frozen() || engine.step_end() != end {
            return;
        }
        self.with_engine(place, |engine, cx| engine.end_answers(end, cx));
        self.release_follow_ups(end);
        self.end_if_empty(place, end);
    }

    fn on_deadline(&mut self) {
        let Some((now, slot, ..)) = self.moving().deadlines.pop_front() else { return };
        let instance = self.s.slots[slot].instance;
        let computed = if instance == NOWHERE {
            self.s.admissions.retain(|&(_, other)| other != slot);
            self.s.routings.retain(|&(_, other)| other != slot);
            self.moving().held.retain(|&other| other != slot);
            self.gate.remove(slot);
            0
        } else {
            let place = instance as usize;
            self.s.collect.health.given_up(instance);
            let comes_back = self.may_come_again(slot);
            let begun = self.begun(place, now);
            self.with_engine(place, |engine, cx| engine.remove(slot, comes_back, begun, cx))
        };
        self.end_attempt(slot, RequestState::TimedOut, computed, now);
        if instance != NOWHERE {
            self.end_if_empty(instance as usize, now);
        }
    }

    fn may_come_again(&mut self, slot: u32) -> bool {
        let attempt = self.s.slots[slot].attempt;
        let retry = self.moving().conditions.clients.retry;
        retry.is_some_and(|retry| attempt < retry.attempts)
    }

    /// An attempt ended without an answer: its client comes again, or the request has ended.
    pub(super) fn end_attempt(
        &mut self,
        slot: u32,
        state: RequestState,
        computed: u32,
        now: SimTime,
    ) {
        let comes_again = self.may_come_again(slot);
        let seed = self.moving().conditions.seed;
        let retry = self.moving().conditions.clients.retry.filter(|_| comes_again);
        let live = &mut self.s.slots[slot];
        self.s.collect.attempt_failed(live, computed, now);
        if let Some(retry) = retry {
            let (id, wait) = (live.id, retry.wait(seed, live.id, live.attempt));
            self.s.collect.will_come_again(live);
            live.come_again();
            self.moving().retries.push(Reverse((now + wait, id, slot)));
            return;
        }
        let id = live.id;
        self.s.collect.ended(live, state, now);
        let next = self.source.refused(id, now);
        self.s.follow_ups.extend(next.map(Reverse));
        self.s.slots.remove(slot);
    }

    fn on_retry(&mut self) {
        let Some(Reverse((now, _, slot))) = self.moving().retries.pop() else { return };
        if let Some(moving) = &mut self.moving {
            self.s.slots[slot].deadline = moving.arrived(now, slot, &self.s.slots[slot]);
        }
        let live = &mut self.s.slots[slot];
        live.arrival = now;
        live.rank = self.ranking.rank(now, live.class, live.input);
        self.s.collect.tried_again(live, now);
        self.s.admissions.push_back((now + self.bundle.admission_latency, slot));
    }

    /// Routes those who were held, in the order in which they came to be.
    pub(super) fn route_held(&mut self, now: SimTime) {
        let held = std::mem::take(&mut self.moving().held);
        for slot in held {
            self.route(slot, now);
        }
    }

    /// Routes the requests anew that wait on `place`.
    pub(super) fn hand_back(&mut self, place: usize, now: SimTime) {
        let begun = self.begun(place, now);
        let taken = self.with_engine(place, |engine, cx| engine.take_waiting(begun, cx));
        for slot in taken {
            let live = &mut self.s.slots[slot];
            (live.phase, live.instance) = (Phase::Pending, NOWHERE);
            // It will be computed anew elsewhere.
            live.first_token = SimTime::NEVER;
            self.route(slot, now);
        }
    }

    /// Loses all requests on `place`; returns how many.
    pub(super) fn lose_all(&mut self, place: usize, now: SimTime) -> u32 {
        let begun = self.begun(place, now);
        let lost = self.with_engine(place, |engine, cx| engine.take_all(now, begun, cx));
        for &(slot, computed) in &lost {
            self.end_attempt(slot, RequestState::Failed, computed, now);
        }
        lost.len() as u32
    }

    /// Lets an instance take requests, or no more.
    pub(super) fn set_open(&mut self, place: usize, open: bool) {
        self.moving().set_open(place, open);
        self.s.load.set_open(place, open);
    }

    /// An instance is ready, idle and empty.
    pub(super) fn open(&mut self, place: usize, now: SimTime) {
        self.fleet().set_state(place, State::Ready, now);
        self.fleet().places[place].ready_at = SimTime::NEVER;
        self.fleet().note(now, place, Happening::Ready);
        self.with_engine(place, |engine, _| engine.renew(now));
        self.begin_record(place);
        self.set_open(place, true);
        self.route_held(now);
    }

    /// Scrapes the signals.
    pub(super) fn scrape(&mut self, now: SimTime) {
        let pools = self.fleet().pools();
        let reads_engines = self.moving().scaling.is_some_and(Autoscaling::reads_engines);
        let mut sample =
            Sample { at: now, pools: vec![PoolSample::default(); pools], ..Sample::default() };
        let scaling = self.moving().scaling;
        let block_size = u64::from(self.bundle.block_size);
        let by_instance = scaling.is_some_and(Autoscaling::watches_instances);
        for place in 0..self.s.engines.len() {
            let gauges = self.s.engines[place].gauges(now, self.begun(place, now), &self.s.slots);
            let at = &self.fleet().places[place];
            let (pool, state, serves) = (at.pool as usize, at.state, at.serves());
            let (launched, entered) = (at.launched, at.entered);
            let kv = self.s.engines[place].kv.used() + self.s.engines[place].kv.free();
            if by_instance && matches!(state, State::Starting | State::Ready) {
                let is_ready = state == State::Ready;
                sample.instances.push(InstanceSample {
                    pool: pool as u32,
                    place: place as u32,
                    launched,
                    ready_since: is_ready.then_some(entered),
                    waiting: gauges.waiting,
                    kv_used: gauges.kv_used * block_size,
                    kv_total: if is_ready { u64::from(kv) * block_size } else { 0 },
                    busy_ps: u128::from(gauges.busy.as_ps()),
                });
            }
            let pool = &mut sample.pools[pool];
            pool.busy_ps += u128::from(gauges.busy.as_ps());
            pool.prefill_tokens += gauges.prefill_tokens;
            pool.decode_tokens += gauges.decode_tokens;
            if serves {
                pool.waiting += gauges.waiting;
                pool.running += gauges.running;
                pool.in_flight_tokens += gauges.in_flight_tokens;
            }
            if state == State::Ready {
                pool.ready += 1;
                pool.kv_used += gauges.kv_used;
                pool.kv_total += u64::from(kv);
                if reads_engines {
                    let begun = self.begun(place, now);
                    sample.engines.push(self.s.engines[place].sample(now, begun, &self.s.slots));
                }
            }
        }
        self.s.collect.watch.scrape(now, &mut sample);
        let queued = self.gate.queued() as u64;
        let moving = self.moving();
        (sample.arrivals, sample.prompt_tokens) = (moving.arrivals, moving.prompt_tokens);
        sample.held = moving.held.len() as u64 + queued;
        for (pool, sample) in sample.pools.iter_mut().enumerate() {
            sample.ready_ps = moving.fleet.ready_ps(pool, now);
        }
        moving.samples.push(sample);
        if let Some(scaling) = moving.scaling {
            moving.fleet.schedule(now + scaling.scrape_interval, Due::Scrape, 0);
        }
    }

    /// Lets the autoscaler decide, and carries out what can be.
    pub(super) fn decide(&mut self, now: SimTime) {
        let moving = self.moving();
        let (Some(scaling), Some(scaler)) = (moving.scaling, &mut moving.autoscaler) else {
            return;
        };
        let views: Vec<_> = (0..moving.fleet.pools()).map(|pool| moving.fleet.view(pool)).collect();
        let mut orders = std::mem::take(&mut moving.orders);
        let view = FleetView { pools: &views, signals: &moving.samples };
        scaler.plan(now, &view, &mut orders);
        moving.fleet.schedule(now + scaling.interval, Due::Decision, 0);
        for order in orders.drain(..) {
            let Some(moving) = &mut self.moving else { return };
            let Some(accepted) = moving.fleet.accept(&order, &self.s.load, now) else { continue };
            for place in accepted.end {
                self.terminate(place, now);
            }
            for place in accepted.drain {
                self.drain(place, scaling.drain, After::End, now);
            }
            self.launch_missing(accepted.pool, now);
        }
        self.moving().orders = orders;
    }

    /// Takes down how many wait and run at the end of an interval of the timeline.
    fn close_interval(&mut self, index: u32, now: SimTime) {
        let held = self.moving().held.len() + self.gate.queued();
        let (mut waiting, mut running) = (held as u64, 0);
        for place in 0..self.s.engines.len() {
            let gauges = self.s.engines[place].gauges(now, self.begun(place, now), &self.s.slots);
            waiting += gauges.waiting;
            running += gauges.running;
        }
        self.s.collect.timeline.closed(index as usize, waiting, running);
    }

    pub(super) fn end_interval(&mut self, index: u32, now: SimTime) {
        self.close_interval(index, now);
        let interval = self.s.collect.timeline.interval();
        self.fleet().schedule(now + interval, Due::Interval, index + 1);
    }

    /// Until when the bill runs; `cut`: the run was cut at that time.
    fn bill_end(&self, cut: Option<SimTime>) -> SimTime {
        let arrivals = if self.source.is_spent() { SimTime::ZERO } else { self.source.end() };
        cut.unwrap_or(arrivals.max(self.s.collect.last_change)).min(self.horizon())
    }

    /// Gathers what the fleet did; `cut`: the run was cut at that time.
    pub(super) fn fleet_outcome(&mut self, cut: Option<SimTime>) -> FleetOutcome {
        let end = self.bill_end(cut);
        let interval = self.s.collect.timeline.interval();
        let (pools, states) = self.fleet().finish(end);
        let mut timeline = self.s.collect.timeline.finish(end);
        for (interval, states) in timeline.iter_mut().zip(states) {
            interval.states = states;
        }
        for interval in &mut timeline {
            interval.states.resize(pools.len(), StateTime::default());
        }
        FleetOutcome {
            end,
            pools,
            retries: self.s.collect.retries,
            wasted_tokens: self.s.collect.wasted_tokens,
            events: std::mem::take(&mut self.fleet().log),
            interval,
            timeline,
        }
    }

    /// Takes down how many wait and run at the end of the run.
    pub(super) fn close_last_interval(&mut self, cut: Option<SimTime>) {
        let end = self.bill_end(cut);
        let interval = self.s.collect.timeline.interval();
        if interval > Span::ZERO {
            let count = end.as_ps().div_ceil(interval.as_ps()).max(1) as u32;
            self.close_interval(count - 1, end);
        }
    }
}

/// A seeded draw for something that happens to a place.
pub(super) fn rng_of(seed: u64, purpose: Stream, place: usize, number: u32) -> Rng {
    Rng::new(seed, purpose, (place as u64) << 32 | u64::from(number))
}
