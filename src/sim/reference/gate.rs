//! The gateway: admission, the queue behind it, dispatch.

use std::collections::BTreeMap;

use crate::base::{Rng, SimTime, Span, Stream};
use crate::policy::Admission;
use crate::policy::admission::{Detector, Measure};
use crate::policy::flow_control::{Fairness, Flow, Ordering};

use super::super::outcome::{GatewayOutcome, RequestState};
use super::cluster::{Cluster, Kind};
use super::fleet::State;
use super::{Request, Setting, tally};

/// What was last seen of an instance.
#[derive(Clone)]
struct Sight {
    at: SimTime,
    waiting: usize,
    kv: f64,
    prompt_tokens: u64,
}

/// Somebody in the queue.
struct Waiter {
    id: usize,
    /// Counts those who joined.
    turn: u64,
    priority: i32,
    flow: u32,
    deadline: SimTime,
}

/// What a gateway remembers between decisions.
pub(super) struct Gate {
    /// Tokens in the bucket, and when they were last counted.
    bucket: (f64, SimTime),
    seen: Vec<Option<Sight>>,
    looked: Option<SimTime>,
    /// In the order of joining.
    queue: Vec<Waiter>,
    joined: u64,
    /// The flow that was served last, by band.
    served: BTreeMap<i32, u32>,
    ticks: bool,
    shed: Vec<(&'static str, u64)>,
    full: u64,
    displaced: u64,
    expired: u64,
    /// Waits that ended well, and whose.
    waits: Vec<(usize, Span)>,
}

impl Gate {
    pub fn new(setting: &Setting, places: usize) -> Self {
        let rules = setting.bundle.admission.rules();
        let mut bucket = 0.0;
        for rule in &rules {
            if let Admission::TokenBucket { capacity, .. } = rule {
                bucket = *capacity;
            }
        }
        let mut shed: Vec<_> = rules.iter().map(|rule| (rule.name(), 0)).collect();
        if setting.bundle.gateway.degradation.shed.is_some() {
            shed.push(("degradation", 0));
        }
        Self {
            bucket: (bucket, SimTime::ZERO),
            seen: vec![None; places],
            looked: None,
            queue: Vec::new(),
            joined: 0,
            served: BTreeMap::new(),
            ticks: false,
            shed,
            full: 0,
            displaced: 0,
            expired: 0,
            waits: Vec::new(),
        }
    }

    /// How many are in the queue.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// A request is not in the queue any more, if it ever was.
    pub fn forget(&mut self, id: usize) {
        self.queue.retain(|waiter| waiter.id != id);
    }

    /// What it did to `requests`, of which some are measured.
    pub fn outcome(&self, setting: &Setting, requests: &[Request]) -> Option<GatewayOutcome> {
        if self.shed.is_empty() && !setting.bundle.gateway.is_active() {
            return None;
        }
        let is_measured = |id: usize| requests[id].arrival >= setting.options.warm_up;
        let waits = self.waits.iter().filter(|(id, _)| is_measured(*id));
        let is_capped = |request: &&Request| {
            request.state == RequestState::Completed
                && request.output < setting.trace.output[request.id]
                && is_measured(request.id)
        };
        Some(GatewayOutcome {
            shed: self.shed.clone(),
            full: self.full,
            displaced: self.displaced,
            expired: self.expired,
            waited: self.waits.iter().filter(|(_, wait)| *wait > Span::ZERO).count() as u64,
            wait: tally::summary(waits.map(|(_, wait)| *wait)),
            capped: requests.iter().filter(is_capped).count() as u64,
        })
    }
}

impl Cluster<'_> {
    fn look_at_instances(&mut self, now: SimTime) {
        let refresh = self.setting.bundle.gateway.refresh;
        if self.gate.looked.is_some_and(|last| now - last < refresh) {
            return;
        }
        self.gate.looked = Some(now);
        for (place, seen) in self.places.iter().zip(&mut self.gate.seen) {
            let Some(engine) = &place.engine else { continue };
            if place.state != State::Ready || engine.stopped {
                continue;
            }
            let here = engine.waiting.iter().chain(&engine.on_the_way).chain(&engine.running);
            *seen = Some(Sight {
                at: now,
                waiting: engine.waiting.len() + engine.on_the_way.len(),
                kv: f64::from(engine.kv.used()) / f64::from(engine.kv.total()),
                prompt_tokens: here.map(|&id| u64::from(self.requests[id].input)).sum(),
            });
        }
    }

    fn priority(&self, id: usize) -> i32 {
        let class = &self.setting.trace.classes[self.setting.class(id)];
        self.setting.bundle.gateway.priorities.of(class)
    }

    /// Instances in rotation.
    fn in_rotation(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|&at| self.places[at].is_ready()).collect()
    }

    /// Whether there are enough of them.
    pub fn may_route(&self) -> bool {
        let least = self.setting.bundle.gateway.degradation.min_healthy.unwrap_or(1);
        self.in_rotation().len() >= least as usize
    }

    fn waiting(&self) -> usize {
        let seen = self.in_rotation().into_iter().filter_map(|at| self.gate.seen[at].as_ref());
        self.held.len() + self.gate.queue.len() + seen.map(|seen| seen.waiting).sum::<usize>()
    }

    fn saturation(&self, now: SimTime, detector: &Detector) -> f64 {
        let there = self.in_rotation();
        if there.is_empty() {
            return 1.0;
        }
        let count = there.len() as f64;
        match detector.measure {
            Measure::Utilization => {
                let mut sum = 0.0;
                for at in there {
                    sum += match &self.gate.seen[at] {
                        Some(seen) if now - seen.at <= detector.staleness => {
                            let queue = seen.waiting as f64 / detector.queue_depth;
                            queue.max(seen.kv / detector.kv)
                        }
                        _ => 1.0,
                    };
                }
                sum / count
            }
            Measure::Requests => {
                let dispatched = self.events.iter().filter(|event| event.1 == Kind::Routing);
                let in_flight: usize = there.iter().map(|&at| self.places[at].load()).sum();
                (in_flight + dispatched.count()) as f64 / (count * detector.max_concurrency)
            }
            Measure::Tokens => {
                let seen = there.into_iter().filter_map(|at| self.gate.seen[at].as_ref());
                let tokens: u64 = seen.map(|seen| seen.prompt_tokens).sum();
                tokens as f64 / (count * detector.max_token_concurrency)
            }
        }
    }

    /// Lets a request in, or does not.
    pub fn admit(&mut self, now: SimTime, id: usize) {
        self.router.look(now, &self.setting, &self.places);
        if !self.gate.shed.is_empty() {
            self.look_at_instances(now);
            let rules: Vec<Admission> =
                self.setting.bundle.admission.rules().into_iter().cloned().collect();
            let refusing = rules.iter().position(|rule| self.refuses(now, rule, id));
            let refusing = refusing.or_else(|| self.degraded(id).then_some(rules.len()));
            if let Some(at) = refusing {
                self.gate.shed[at].1 += 1;
                self.fail(now, id, RequestState::Rejected);
                return;
            }
        }
        if self.setting.bundle.gateway.flow_control.is_some() {
            self.join(now, id);
        } else {
            self.push(now + self.setting.bundle.routing_latency, Kind::Routing, id);
        }
    }

    fn refuses(&mut self, now: SimTime, rule: &Admission, id: usize) -> bool {
        let is_sheddable = self.priority(id) < 0;
        match *rule {
            Admission::AlwaysAdmit | Admission::Chain(_) => false,
            Admission::RejectAll => true,
            Admission::TokenBucket { capacity, refill_rate } => {
                let cost = f64::from(self.setting.trace.input[id]);
                !self.pay(now, (capacity, refill_rate), cost)
            }
            Admission::QueueLimit { max_waiting, per_instance } => {
                let instances = if per_instance { self.in_rotation().len() } else { 1 };
                self.waiting() >= max_waiting as usize * instances
            }
            Admission::KvLimit { max_utilization } => {
                let there = self.in_rotation();
                let used = |at: &usize| self.gate.seen[*at].as_ref().map_or(0.0, |seen| seen.kv);
                let sum: f64 = there.iter().map(used).sum();
                !there.is_empty() && sum / there.len() as f64 >= max_utilization
            }
            Admission::TierShed { threshold, min_priority } => {
                let there = self.in_rotation();
                let loads = there.iter().map(|&at| self.places[at].load());
                let most = loads.max().unwrap_or(0);
                self.priority(id) < min_priority && most > threshold as usize
            }
            Admission::Saturation { ref detector, limit } => {
                is_sheddable && self.saturation(now, detector) >= limit
            }
            Admission::Probabilistic { ref detector, power, k } => {
                let index = id as u64 * 256 + u64::from(self.requests[id].retries);
                let seed = self.setting.conditions.seed;
                let draw = Rng::new(seed, Stream::Admission, index).uniform();
                let refusal = self.saturation(now, detector).powf(power) * k;
                is_sheddable && draw < refusal.min(1.0)
            }
        }
    }

    /// Takes `cost` tokens from the bucket, if they are there.
    fn pay(&mut self, now: SimTime, (capacity, refill_rate): (f64, f64), cost: f64) -> bool {
        let (tokens, counted) = &mut self.gate.bucket;
        let elapsed_us = (now - *counted).as_us();
        if elapsed_us > 0 {
            *tokens = capacity.min(*tokens + elapsed_us as f64 * refill_rate / 1e6);
            *counted = now;
        }
        let enough = *tokens >= cost;
        if enough {
            *tokens -= cost;
        }
        enough
    }

    fn degraded(&self, id: usize) -> bool {
        let shed = self.setting.bundle.gateway.degradation.shed;
        shed.is_some_and(|shed| {
            self.priority(id) < shed.min_priority && self.waiting() > shed.above_waiting as usize
        })
    }

    /// A request joins the queue, where there is room for it.
    fn join(&mut self, now: SimTime, id: usize) {
        let trace = self.setting.trace;
        let flow = self.setting.bundle.gateway.flow_control.as_ref().expect("there is a queue");
        let priority = self.priority(id);
        let queue = &self.gate.queue;
        let in_band = queue.iter().filter(|waiter| waiter.priority == priority).count();
        let band_limit = flow.rules(priority).max_requests as usize;
        let tokens = |id: usize| u64::from(trace.input[id]);
        let total = queue.iter().map(|waiter| tokens(waiter.id)).sum::<u64>() + tokens(id);
        let mut no_room = band_limit > 0 && in_band >= band_limit;
        no_room |= flow.max_tokens > 0 && total > flow.max_tokens;
        let mut victim = None;
        if !no_room && flow.max_requests > 0 && queue.len() >= flow.max_requests as usize {
            let lower = queue.iter().filter(|other| other.priority < priority.min(0));
            victim = lower.min_by_key(|other| (other.priority, u64::MAX - other.turn));
            victim = victim.filter(|_| flow.displace);
            no_room = victim.is_none();
        }
        if no_room {
            self.gate.full += 1;
            self.fail(now, id, RequestState::Rejected);
            return;
        }
        let victim = victim.map(|victim| victim.id);
        self.gate.joined += 1;
        let client = trace.client[id];
        let target = trace.targets.get(self.setting.class(id)).map(|targets| targets.ttft.as_ps());
        let deadline = target.map_or(u64::MAX, |target| now.as_ps().saturating_add(target));
        let waiter = Waiter {
            id,
            turn: self.gate.joined,
            priority,
            flow: match flow.flow {
                Flow::Tenant => u32::from(trace.clients[client.index()].tenant),
                Flow::Client => client.0,
            },
            deadline: SimTime::from_ps(deadline),
        };
        if flow.request_ttl > Span::ZERO {
            self.events.insert((now + flow.request_ttl, Kind::Expiry, waiter.turn, id));
        }
        if !self.gate.ticks {
            self.gate.ticks = true;
            self.events.insert((now + flow.dispatch_interval, Kind::Tick, 0, 0));
        }
        self.gate.queue.push(waiter);
        self.requests[id].gated = Some(now);
        if let Some(victim) = victim {
            self.gate.displaced += 1;
            self.fail(now, victim, RequestState::Rejected);
        }
        self.dispatch(now);
    }

    /// Tries to dispatch.
    fn dispatch(&mut self, now: SimTime) {
        let flow = self.setting.bundle.gateway.flow_control.as_ref().expect("there is a queue");
        for _ in 0..flow.dispatch_burst {
            if self.gate.queue.is_empty() {
                return;
            }
            self.look_at_instances(now);
            let saturation =
                if self.may_route() { self.saturation(now, &flow.detector) } else { 1.0 };
            let Some(id) = self.next_to_dispatch(saturation) else { return };
            self.gate.forget(id);
            self.events.retain(|&(_, kind, _, other)| kind != Kind::Expiry || other != id);
            self.leave_gate(now, id);
            self.push(now + self.setting.bundle.routing_latency, Kind::Routing, id);
        }
    }

    /// Who goes next at this saturation; its flow has had its turn then.
    fn next_to_dispatch(&mut self, saturation: f64) -> Option<usize> {
        let setting = self.setting;
        let flow = setting.bundle.gateway.flow_control.as_ref()?;
        let classes = setting.trace.classes.iter();
        let of_classes: Vec<i32> =
            classes.map(|class| setting.bundle.gateway.priorities.of(class)).collect();
        let bands = flow.priorities(&of_classes);
        let band = self.gate.queue.iter().map(|waiter| waiter.priority).max()?;
        let at = bands.iter().position(|&priority| priority == band)? as f64;
        let ceiling = match bands.len() {
            1 => 1.0,
            n => 1.0 - at * (1.0 - flow.usage_limit) / (n as f64 - 1.0),
        };
        if saturation >= ceiling {
            return None;
        }
        let rules = flow.rules(band);
        let place = |waiter: &Waiter| match rules.ordering {
            Ordering::Fcfs => (SimTime::ZERO, waiter.turn),
            Ordering::SloDeadline => (waiter.deadline, waiter.turn),
        };
        let here = || self.gate.queue.iter().filter(|waiter| waiter.priority == band);
        let chosen = match rules.fairness {
            Fairness::GlobalStrict => here().min_by_key(|waiter| place(waiter))?,
            Fairness::RoundRobin => {
                let last = self.gate.served.get(&band).copied();
                let later = here().filter(|waiter| last.is_none_or(|last| waiter.flow > last));
                let next = later.map(|waiter| waiter.flow).min();
                let next = next.or_else(|| here().map(|waiter| waiter.flow).min())?;
                here().filter(|waiter| waiter.flow == next).min_by_key(|waiter| place(waiter))?
            }
        };
        let (id, flow) = (chosen.id, chosen.flow);
        self.gate.served.insert(band, flow);
        Some(id)
    }

    /// A wait at the gateway has ended well, if there was one.
    pub fn leave_gate(&mut self, now: SimTime, id: usize) {
        if let Some(since) = self.requests[id].gated.take() {
            self.gate.waits.push((id, now - since));
        }
    }

    pub fn tick(&mut self, now: SimTime) {
        self.gate.ticks = false;
        self.dispatch(now);
        if !self.gate.queue.is_empty() {
            let flow = self.setting.bundle.gateway.flow_control.as_ref().expect("it is not empty");
            self.gate.ticks = true;
            self.events.insert((now + flow.dispatch_interval, Kind::Tick, 0, 0));
        }
    }

    pub fn expire(&mut self, now: SimTime, id: usize) {
        self.gate.expired += 1;
        self.fail(now, id, RequestState::Expired);
    }

    /// How long the answer of a request will be that is sent to an instance now.
    pub fn cap_output(&mut self, now: SimTime, id: usize) {
        let Some(cap) = self.setting.bundle.gateway.degradation.cap_output else { return };
        self.look_at_instances(now);
        let wanted = self.setting.trace.output[id];
        let many = self.waiting() > cap.above_waiting as usize;
        self.requests[id].output = if many { wanted.min(cap.max_output_tokens) } else { wanted };
    }

    /// Takes those who are too full out of the router's sight.
    pub fn hide_full(&mut self, now: SimTime) {
        let Some(detector) = self.setting.bundle.gateway.filter else { return };
        self.look_at_instances(now);
        let most = detector.queue_depth * (1.0 + detector.headroom);
        let most_kv = (detector.kv * (1.0 + detector.headroom)).min(1.0);
        let is_full = |at: &usize| {
            let seen = self.gate.seen[*at].as_ref();
            seen.is_some_and(|seen| seen.waiting as f64 > most || seen.kv > most_kv)
        };
        let there = self.in_rotation();
        let full: Vec<usize> = there.iter().copied().filter(|at| is_full(at)).collect();
        if full.len() < there.len() {
            for at in full {
                self.places[at].hidden = true;
            }
        }
    }

    /// Everybody is in the router's sight again.
    pub fn show_all(&mut self) {
        for place in &mut self.places {
            place.hidden = false;
        }
    }
}
