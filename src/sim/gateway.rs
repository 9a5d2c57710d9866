//! What happens to a request at the gateway, as `admission.md` has it.

use std::collections::VecDeque;

use crate::base::{SimTime, Span};
use crate::policy::PolicyBundle;
use crate::policy::admission::{GateRequest, GateView, Gauge, Measure, RuleChain};
use crate::policy::flow_control::{Flow, FlowControl, FlowQueue, Joined, Newcomer};
use crate::policy::gateway::Gateway;
use crate::sim::cluster::Cluster;
use crate::sim::fleet::State;
use crate::sim::outcome::RequestState;
use crate::sim::source::Source;

/// What turned an attempt away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The rule of admission at this position; behind the last, degradation.
    Rule(usize),
    /// The queue was full.
    Full,
    /// Somebody more urgent came.
    Displaced,
}

/// The gateway of a run.
pub struct Gate<'a> {
    config: &'a Gateway,
    rules: RuleChain,
    /// Priorities and TTFT targets by class; empty where nobody asks.
    priorities: Vec<i32>,
    targets: Vec<Span>,
    /// By instance, as last seen.
    gauges: Vec<Gauge>,
    looked: Option<SimTime>,
    looks: bool,
    counts_tokens: bool,
    /// Whether everybody is admitted.
    is_open: bool,
    queue: Option<(&'a FlowControl, FlowQueue)>,
    /// When those who joined the queue expire: when, slot, id, attempt; in order of time.
    expiries: VecDeque<(SimTime, u32, u32, u8)>,
    tick: SimTime,
}

impl<'a> Gate<'a> {
    /// The gateway of `bundle` for requests of `source`; draws come from `seed`.
    pub fn new(bundle: &'a PolicyBundle, source: &impl Source, seed: u64) -> Self {
        let config = &bundle.gateway;
        let rules = RuleChain::new(&bundle.admission, seed);
        let is_open = rules.names().is_empty() && config.degradation.shed.is_none();
        let classes = source.classes();
        let priorities: Vec<i32> = if is_open && config.flow_control.is_none() {
            Vec::new()
        } else {
            classes.iter().map(|class| config.priorities.of(class)).collect()
        };
        let queue = config.flow_control.as_ref();
        let asked = bundle.admission.rules().into_iter().filter_map(|rule| rule.detector());
        let mut detectors = asked.chain(queue.map(|flow| &flow.detector));
        let looks = rules.needs_gauges() || config.needs_gauges();
        Self {
            config,
            counts_tokens: detectors.any(|detector| detector.measure == Measure::Tokens),
            is_open,
            rules,
            targets: source.targets().iter().map(|targets| targets.ttft).collect(),
            gauges: vec![Gauge::UNSEEN; bundle.places() as usize],
            looked: None,
            looks,
            queue: queue.map(|flow| (flow, FlowQueue::new(flow, &priorities))),
            priorities,
            expiries: VecDeque::new(),
            tick: SimTime::NEVER,
        }
    }

    /// The names of what is counted by [`Refusal::Rule`].
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = self.rules.names().to_vec();
        names.extend(self.config.degradation.shed.map(|_| "degradation"));
        names
    }

    /// Whether it can do anything to a request.
    pub fn is_active(&self) -> bool {
        !self.is_open || self.config.is_active()
    }

    /// How many wait in its queue.
    pub fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |(_, queue)| queue.len())
    }

    /// Those who wait in its queue.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.queue.iter().flat_map(|(_, queue)| queue.keys())
    }

    /// When the next try to dispatch is due.
    pub fn tick(&self) -> SimTime {
        self.tick
    }

    /// When somebody expires next.
    pub fn next_expiry(&self) -> SimTime {
        self.expiries.front().map_or(SimTime::NEVER, |&(time, ..)| time)
    }

    /// Takes out somebody who may wait here.
    pub fn remove(&mut self, slot: u32) {
        if let Some((_, queue)) = &mut self.queue {
            queue.remove(slot);
        }
    }
}

impl<S: Source> Cluster<'_, S> {
    /// Looks at the instances if the last look is too old.
    fn look(&mut self, now: SimTime) {
        let refresh = self.gate.config.refresh;
        if !self.gate.looks || self.gate.looked.is_some_and(|last| now - last < refresh) {
            return;
        }
        self.gate.looked = Some(now);
        for at in 0..self.s.engines.len() {
            let ready = |place: usize| {
                let moving = self.moving.as_ref();
                moving.is_none_or(|moving| moving.fleet.places[place].state == State::Ready)
            };
            if self.s.engines[at].is_frozen() || !ready(at) {
                continue;
            }
            let begun = self.begun(at, now);
            let engine = &self.s.engines[at];
            let slots = self.gate.counts_tokens.then_some(&self.s.slots);
            self.gate.gauges[at] = engine.gauge(now, begun, slots);
        }
    }

    fn gate_view(&self) -> GateView<'_> {
        let held = self.moving.as_ref().map_or(0, |moving| moving.held().count());
        GateView {
            gauges: &self.gate.gauges,
            load: &self.s.load,
            open: self.moving.as_ref().map(|moving| moving.open.as_slice()),
            queued: (self.gate.queued() + held) as u32,
            dispatched: self.s.routings.len() as u32,
        }
    }

    /// What turns the attempt in `slot` away at `now`, if anything does.
    pub(super) fn refusal(&mut self, slot: u32, now: SimTime) -> Option<Refusal> {
        if self.gate.is_open {
            return None;
        }
        self.look(now);
        let live = &self.s.slots[slot];
        let priority = self.gate.priorities[usize::from(live.class)];
        let request = GateRequest { view: Self::view(live), priority, attempt: live.attempt };
        let mut rules = std::mem::take(&mut self.gate.rules);
        let view = self.gate_view();
        let sheds = || {
            let shed = self.gate.config.degradation.shed;
            shed.is_some_and(|shed| {
                priority < shed.min_priority && view.waiting() > u64::from(shed.above_waiting)
            })
        };
        let refused = rules.refuses(now, &request, &view);
        let refused = refused.or_else(|| sheds().then_some(rules.names().len()));
        self.gate.rules = rules;
        refused.map(Refusal::Rule)
    }

    /// Lets an admitted request go on.
    pub(super) fn pass(&mut self, slot: u32, now: SimTime) {
        if self.gate.queue.is_some() {
            self.join(slot, now);
        } else {
            self.s.routings.push_back((now + self.bundle.routing_latency, slot));
        }
    }

    /// Lets a request join the queue of the gateway, and tries to dispatch.
    fn join(&mut self, slot: u32, now: SimTime) {
        let live = &self.s.slots[slot];
        let Some((flow, queue)) = &mut self.gate.queue else { return };
        let class = usize::from(live.class);
        let target = self.gate.targets.get(class).copied();
        let deadline = target.map_or(SimTime::NEVER, |target| {
            SimTime::from_ps(now.as_ps().saturating_add(target.as_ps()))
        });
        let client = &self.source.clients()[live.client.index()];
        let newcomer = Newcomer {
            key: slot,
            priority: self.gate.priorities[class],
            flow: match flow.flow {
                Flow::Tenant => u32::from(client.tenant),
                Flow::Client => live.client.0,
            },
            tokens: u64::from(live.input),
            deadline,
        };
        let joined = queue.join(&newcomer);
        if joined == Joined::Full {
            return self.turn_away(slot, Refusal::Full, now);
        }
        if flow.request_ttl > Span::ZERO {
            let end = now + flow.request_ttl;
            self.gate.expiries.push_back((end, slot, live.id, live.attempt));
        }
        if self.gate.tick == SimTime::NEVER {
            self.gate.tick = now + flow.dispatch_interval;
        }
        self.s.slots[slot].gated = now;
        if let Joined::InsteadOf(other) = joined {
            self.turn_away(other, Refusal::Displaced, now);
        }
        self.dispatch(now);
    }

    /// Dispatches as many as may go.
    fn dispatch(&mut self, now: SimTime) {
        let Some((flow, _)) = self.gate.queue else { return };
        for _ in 0..flow.dispatch_burst {
            if self.gate.queued() == 0 {
                return;
            }
            self.look(now);
            let may_route = self.moving.as_ref().is_none_or(super::moving::Moving::may_route);
            let saturation =
                if may_route { flow.detector.saturation(now, &self.gate_view()) } else { 1.0 };
            let Some((_, queue)) = &mut self.gate.queue else { return };
            let Some(slot) = queue.next(saturation) else { return };
            self.leave_gate(slot, now);
            self.s.routings.push_back((now + self.bundle.routing_latency, slot));
        }
    }

    /// Takes note that a wait at the gateway ended well.
    pub(super) fn leave_gate(&mut self, slot: u32, now: SimTime) {
        let live = &mut self.s.slots[slot];
        if live.gated != SimTime::NEVER {
            self.s.collect.waited_at_gate(live, now);
            live.gated = SimTime::NEVER;
        }
    }

    /// Tries to dispatch because it is time to.
    pub(super) fn on_tick(&mut self) {
        let now = self.gate.tick;
        self.dispatch(now);
        self.gate.tick = match self.gate.queue {
            Some((flow, ref queue)) if !queue.is_empty() => now + flow.dispatch_interval,
            _ => SimTime::NEVER,
        };
    }

    /// Ends an attempt that is turned away.
    pub(super) fn turn_away(&mut self, slot: u32, refusal: Refusal, now: SimTime) {
        self.s.collect.refused(refusal);
        if self.moving.is_some() {
            return self.end_attempt(slot, RequestState::Rejected, 0, now);
        }
        self.s.collect.rejected(&self.s.slots[slot], now);
        let next = self.source.refused(self.s.slots[slot].id, now);
        self.s.follow_ups.extend(next.map(std::cmp::Reverse));
        self.s.slots.remove(slot);
    }

    /// Passes over those who left the queue before they expired.
    pub(super) fn drop_stale_expiries(&mut self) {
        let Some((_, queue)) = &self.gate.queue else { return };
        while let Some(&(_, slot, id, attempt)) = self.gate.expiries.front() {
            if self.s.slots.holds(slot, id, attempt) && queue.holds(slot) {
                return;
            }
            self.gate.expiries.pop_front();
        }
    }

    /// Ends an attempt that was in the queue for too long.
    pub(super) fn on_expiry(&mut self) {
        let Some((now, slot, ..)) = self.gate.expiries.pop_front() else { return };
        self.gate.remove(slot);
        self.s.collect.expired();
        self.end_attempt(slot, RequestState::Expired, 0, now);
    }

    /// Cuts the answer of a request that is about to be sent to an instance, where many wait.
    pub(super) fn cap_output(&mut self, slot: u32, now: SimTime) {
        let Some(cap) = self.gate.config.degradation.cap_output else { return };
        self.look(now);
        let many = self.gate_view().waiting() > u64::from(cap.above_waiting);
        let live = &mut self.s.slots[slot];
        live.output = if many { live.wanted.min(cap.max_output_tokens) } else { live.wanted };
    }

    /// The instances that are kept from the next request because they are too full, closed until
    /// [`Self::reopen`]; none where all are.
    pub(super) fn close_full(&mut self, now: SimTime) -> Vec<usize> {
        let Some(detector) = self.gate.config.filter else { return Vec::new() };
        self.look(now);
        let view = self.gate_view();
        let is_full = |at: &usize| detector.is_beyond(&view.gauges[*at]);
        let (full, others): (Vec<usize>, Vec<usize>) = view.in_rotation().partition(is_full);
        if others.is_empty() {
            return Vec::new();
        }
        for &at in &full {
            self.set_open(at, false);
        }
        full
    }

    /// Opens what [`Self::close_full`] closed.
    pub(super) fn reopen(&mut self, full: Vec<usize>) {
        for at in full {
            self.set_open(at, true);
        }
    }
}
