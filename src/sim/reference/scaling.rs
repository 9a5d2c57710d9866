//! The autoscaler: what it is shown, and what becomes of its orders.

use crate::base::{SimTime, Span};
use crate::policy::autoscale::{
    Action, Autoscaler, Autoscaling, CooldownFrom, FleetView, Foresight, PoolView, ScaleOrder,
    autoscaler,
};
use crate::policy::signals::{
    Answered, EngineSample, InstanceSample, PoolSample, Sample, Samples, TokenCost, empty_latencies,
};

use super::super::fleet_outcome::{FleetEvent, Happening};
use super::Setting;
use super::cluster::{Cluster, Kind};
use super::fleet::State;

/// What is decided about one pool.
#[derive(Clone, Default)]
pub(super) struct PoolControl {
    pub desired: u32,
    /// Whether it was noted that it cannot launch what it should.
    pub lacks_capacity: bool,
    /// From when the cooldowns of launches and of all orders count.
    last_launch: Option<SimTime>,
    last_order: Option<SimTime>,
    /// Whether they will count when none is starting any more.
    unsettled: bool,
}

/// What an autoscaler needs from decision to decision.
pub(super) struct Control {
    pub pools: Vec<PoolControl>,
    autoscaler: Option<Box<dyn Autoscaler>>,
    samples: Samples,
}

impl Control {
    pub fn new(setting: &Setting) -> Self {
        let max_running = f64::from(setting.bundle.batching.max_running);
        let pools = &setting.bundle.pools;
        let cost = |beta: [f64; 3]| TokenCost {
            prefill_s: beta[1] / 1e6,
            decode_s: (beta[2] + beta[0] / max_running) / 1e6,
        };
        let costs = pools.iter().map(|pool| cost(pool.latency.beta)).collect();
        let autoscaling = setting.bundle.autoscaling.as_ref();
        let longest = autoscaling.map_or(Span::ZERO, Autoscaling::longest_window);
        let desired = pools.iter().map(|pool| pool.instances);
        Self {
            pools: desired.map(|desired| PoolControl { desired, ..Default::default() }).collect(),
            autoscaler: autoscaling.map(|a| autoscaler(a, foresight(a, setting))),
            samples: Samples::new(longest, costs),
        }
    }
}

fn foresight(autoscaling: &Autoscaling, setting: &Setting) -> Foresight {
    if !autoscaling.needs_foresight() {
        return Foresight::default();
    }
    let interval = Span::from_us(60_000_000);
    let place = |time: SimTime| (time.as_ps() / interval.as_ps()) as usize;
    let mut arrivals = vec![0; place(setting.trace.end) + 1];
    for &arrival in setting.trace.arrival.iter().filter(|&&at| at != SimTime::NEVER) {
        arrivals[place(arrival)] += 1;
    }
    Foresight { interval, arrivals }
}

/// A latency that a client saw, for the next scrape.
pub(super) struct Observed {
    /// From when on it can be known.
    pub at: SimTime,
    pub request: usize,
    latency: Span,
    /// Time to first token, per token, to last token.
    which: usize,
}

impl Observed {
    pub fn ttft(at: SimTime, request: usize, latency: Span) -> Self {
        Self { at, request, latency, which: 0 }
    }

    pub fn tpot(at: SimTime, request: usize, latency: Span) -> Self {
        Self { at, request, latency, which: 1 }
    }

    pub fn e2e(at: SimTime, request: usize, latency: Span) -> Self {
        Self { at, request, latency, which: 2 }
    }
}

impl Cluster<'_> {
    fn autoscaling(&self) -> &Autoscaling {
        self.setting.bundle.autoscaling.as_ref().expect("only who is asked decides")
    }

    pub fn scrape(&mut self, now: SimTime) {
        let again = now + self.autoscaling().scrape_interval;
        let [mut ttft, mut tpot, mut e2e] = empty_latencies(self.autoscaling().quantiles);
        let mut answered = Answered::default();
        for observed in &self.observed {
            if observed.at <= now {
                if observed.which == 2 && self.autoscaling().watches_requests() {
                    let request = &self.requests[observed.request];
                    answered.add(request.input, request.output);
                }
                [&mut ttft, &mut tpot, &mut e2e][observed.which].add(observed.latency);
            }
        }
        self.observed.retain(|observed| observed.at > now);
        let pools = 0..self.setting.bundle.pools.len();
        let sample = Sample {
            at: now,
            arrivals: self.attempts.len() as u64,
            prompt_tokens: self.prompt_tokens,
            engines: self.engine_samples(now),
            held: (self.held.len() + self.gate.queued()) as u64,
            pools: pools.map(|pool| self.sample(now, pool)).collect(),
            ttft,
            tpot,
            e2e,
            answered,
            instances: self.instances(now),
        };
        self.control.samples.push(sample);
        self.events.insert((again, Kind::Scrape, 0, 0));
    }

    fn instances(&self, now: SimTime) -> Vec<InstanceSample> {
        if !self.autoscaling().watches_instances() {
            return Vec::new();
        }
        let block_size = u64::from(self.setting.bundle.block_size);
        let mut instances = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            let times = |state| {
                let entries = place.history.iter().rev();
                entries.filter(move |(_, other)| *other == state).map(|&(since, _)| since).next()
            };
            if !matches!(place.state, State::Starting | State::Ready) {
                continue;
            }
            let mut instance = InstanceSample {
                pool: place.pool as u32,
                place: at as u32,
                launched: times(State::Starting).expect("it was launched"),
                busy_ps: u128::from(place.totals.busy.as_ps()),
                ..Default::default()
            };
            if place.is_ready() {
                let engine = place.engine.as_ref().expect("it serves");
                let under_way = engine.busy_until.since(now);
                instance.ready_since = times(State::Ready);
                instance.waiting = (engine.waiting.len() + engine.on_the_way.len()) as u64;
                instance.kv_used = u64::from(engine.kv.used()) * block_size;
                instance.kv_total = u64::from(engine.kv.total()) * block_size;
                instance.busy_ps += u128::from((engine.busy - under_way).as_ps());
            }
            instances.push(instance);
        }
        instances
    }

    fn sample(&self, now: SimTime, pool: usize) -> PoolSample {
        let mut sample = PoolSample { ready: self.count(pool, State::Ready), ..Default::default() };
        for at in self.places_of(pool) {
            let place = &self.places[at];
            for state in [State::Ready, State::Draining] {
                let time = place.time_in(state, SimTime::ZERO, now);
                sample.ready_ps += u128::from(time);
            }
            sample.busy_ps += u128::from(place.totals.busy.as_ps());
            let Some(engine) = &place.engine else { continue };
            let under_way = engine.busy_until.since(now);
            sample.busy_ps += u128::from((engine.busy - under_way).as_ps());
            sample.waiting += (engine.waiting.len() + engine.on_the_way.len()) as u64;
            sample.running += engine.running.len() as u64;
            let here = engine.waiting.iter().chain(&engine.on_the_way).chain(&engine.running);
            for request in here.map(|&id| &self.requests[id]) {
                sample.in_flight_tokens += u64::from(request.input.max(request.progress));
            }
            if place.state == State::Ready {
                sample.kv_used += u64::from(engine.kv.used());
                sample.kv_total += u64::from(engine.kv.total());
            }
        }
        for step in &self.steps {
            if self.places[step.instance.index()].pool == pool {
                sample.prefill_tokens += u64::from(step.prefill_tokens);
                sample.decode_tokens += u64::from(step.decode_tokens);
            }
        }
        sample
    }

    fn engine_samples(&self, now: SimTime) -> Vec<EngineSample> {
        let ready = (0..self.places.len()).filter(|&at| self.places[at].is_ready());
        ready
            .filter_map(|at| {
                let engine = self.places[at].engine.as_ref()?;
                let waiting = engine.waiting.iter().chain(&engine.on_the_way);
                let running = engine.running.iter().map(|&id| &self.requests[id]);
                let decoding: Vec<_> = running.filter(|request| request.decodes()).collect();
                let idles = engine.running.is_empty() && engine.busy_until <= now;
                let kv_tokens = u64::from(engine.kv.total()) * u64::from(self.block_size());
                Some(EngineSample {
                    place: at as u32,
                    pool: self.places[at].pool as u32,
                    pass: if idles { None } else { Some(engine.pass) },
                    decoding: decoding.len() as u32,
                    decode_kv_tokens: decoding
                        .iter()
                        .map(|request| u64::from(request.progress))
                        .sum(),
                    queued_prompt_tokens: waiting
                        .map(|&id| u64::from(self.requests[id].input))
                        .sum(),
                    kv_tokens,
                    limits: self.setting.bundle.batching,
                })
            })
            .collect()
    }

    fn block_size(&self) -> u32 {
        self.setting.bundle.block_size
    }

    pub fn decide(&mut self, now: SimTime) {
        let pools = 0..self.setting.bundle.pools.len();
        let views: Vec<PoolView> = pools.map(|pool| self.view(pool)).collect();
        let again = now + self.autoscaling().interval;
        let mut orders = Vec::new();
        let Control { autoscaler, samples, .. } = &mut self.control;
        let autoscaler = autoscaler.as_mut().expect("somebody decides");
        autoscaler.plan(now, &FleetView { pools: &views, signals: samples }, &mut orders);
        for order in orders {
            self.carry_out(now, order);
        }
        self.events.insert((again, Kind::Decision, 0, 0));
    }

    fn view(&self, pool: usize) -> PoolView {
        PoolView {
            desired: self.control.pools[pool].desired,
            starting: self.count(pool, State::Starting),
            ready: self.count(pool, State::Ready),
            draining: self.count(pool, State::Draining),
            down: self.count(pool, State::Down),
            min: self.setting.bundle.pools[pool].min_instances,
            max: self.setting.bundle.pools[pool].max_instances,
        }
    }

    fn carry_out(&mut self, now: SimTime, order: ScaleOrder) {
        match order.action {
            Action::Launch { pool, count } => self.order_more(now, pool as usize, count, order),
            Action::Shrink { pool, count } => {
                let removed = self.order_fewer(now, pool as usize, count, order);
                if removed {
                    self.remove_surplus(now, pool as usize);
                }
            }
            Action::Drain(instance) => {
                let at = instance.index();
                let pool = self.places[at].pool;
                if self.places[at].state == State::Ready && self.order_fewer(now, pool, 1, order) {
                    self.drain(now, at, self.autoscaling().drain);
                }
            }
        }
    }

    fn note_order(&mut self, now: SimTime, pool: usize, what: Happening) {
        self.log.push(FleetEvent { at: now, pool: Some(pool as u32), instance: None, what });
    }

    fn order_more(&mut self, now: SimTime, pool: usize, count: u32, order: ScaleOrder) {
        let Autoscaling { cooldown_up, cooldown_from, pending_guard, .. } = *self.autoscaling();
        let max = self.setting.bundle.pools[pool].max_instances;
        let control = &self.control.pools[pool];
        let count = count.min(max.saturating_sub(control.desired));
        let cools = control.last_launch.is_some_and(|last| now - last < cooldown_up);
        let pending = self.count(pool, State::Starting) > 0 || self.present(pool) < control.desired;
        if count == 0 || control.unsettled || cools || (pending_guard && pending) {
            return;
        }
        let control = &mut self.control.pools[pool];
        control.desired += count;
        (control.last_launch, control.last_order) = (Some(now), Some(now));
        control.unsettled = cooldown_from == CooldownFrom::Ready;
        self.note_order(now, pool, Happening::ScaleUp { count, reason: order.reason });
        self.look_again(now, pool);
    }

    /// Lowers the number of instances that should be there; says whether it did.
    fn order_fewer(&mut self, now: SimTime, pool: usize, count: u32, order: ScaleOrder) -> bool {
        let cooldown = self.autoscaling().cooldown_down;
        let min = self.setting.bundle.pools[pool].min_instances;
        let control = &mut self.control.pools[pool];
        let count = count.min(control.desired.saturating_sub(min));
        let cools = control.last_order.is_some_and(|last| now - last < cooldown);
        if count == 0 || control.unsettled || cools {
            return false;
        }
        control.desired -= count;
        control.last_order = Some(now);
        self.note_order(now, pool, Happening::ScaleDown { count, reason: order.reason });
        true
    }

    /// Removes instances until no more are present than should be.
    fn remove_surplus(&mut self, now: SimTime, pool: usize) {
        let too_many = self.present(pool).saturating_sub(self.control.pools[pool].desired) as usize;
        let last_in = |state| -> Vec<usize> {
            self.places_of(pool).rev().filter(|&at| self.places[at].state == state).collect()
        };
        let mut idle = [last_in(State::Starting), last_in(State::Down)].concat();
        idle.truncate(too_many);
        let mut ready = last_in(State::Ready);
        ready.sort_by_key(|&at| self.places[at].load());
        ready.truncate(too_many - idle.len());
        let how = self.autoscaling().drain;
        for at in idle {
            self.terminate(now, at);
        }
        for at in ready {
            self.drain(now, at, how);
        }
    }

    /// Where cooldowns count from when the launched are ready: they do now, if none is starting.
    pub fn settle_cooldowns(&mut self, now: SimTime) {
        for pool in 0..self.control.pools.len() {
            if self.control.pools[pool].unsettled && self.count(pool, State::Starting) == 0 {
                let control = &mut self.control.pools[pool];
                control.unsettled = false;
                (control.last_launch, control.last_order) = (Some(now), Some(now));
            }
        }
    }
}
