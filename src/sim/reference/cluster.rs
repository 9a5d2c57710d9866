//! The clock that all instances share.

use std::collections::BTreeSet;

use crate::base::{SimTime, Span};

use super::super::fleet_outcome::FleetEvent;
use super::super::outcome::{RequestState, StepRecord};
use super::engine::Engine;
use super::fleet::Place;
use super::gate::Gate;
use super::health::{Sign, What};
use super::router::{Router, Sight};
use super::scaling::{Control, Observed};
use super::{Request, Setting};

/// What happens outside of the steps of an instance; of events at one time the first kind goes
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An answer is complete; turn: the instance.
    Completion,
    /// A fault no longer takes capacity; turn: the fault.
    CapacityBack,
    /// A fault strikes; turn: the fault.
    Strike,
    /// A crash is noticed; turn: the instance.
    Noticed,
    /// The notice of a reclaim is over; turn: the instance.
    NoticeEnd,
    /// An instance is no longer slow; turn: the instance.
    SlowEnd,
    /// An instance gets ready; turn: the instance.
    Ready,
    /// An interval of the timeline ends.
    IntervalEnd,
    /// The signals are scraped.
    Scrape,
    /// The autoscaler is asked.
    Decision,
    /// The health of instances is checked; turn: which check.
    HealthCheck,
    /// A client gives up; turn: that of the attempt.
    GiveUp,
    /// A request has been in the queue of the gateway for too long; turn: as it joined.
    Expiry,
    /// A request first reaches the cluster; turn: the request.
    Arrival,
    /// A client tries again; turn: the request.
    Retry,
    /// A request is let in or not.
    Admission,
    /// The gateway tries to dispatch.
    Tick,
    /// A request is sent to an instance.
    Routing,
}

/// A cluster and all that happened in it.
pub(super) struct Cluster<'a> {
    pub setting: Setting<'a>,
    /// When, of which kind, in which turn, for which request.
    pub events: BTreeSet<(SimTime, Kind, u64, usize)>,
    turn: u64,
    pub router: Router,
    pub gate: Gate,
    /// What health checks will know.
    pub signs: Vec<Sign>,
    pub requests: Vec<Request>,
    /// Requests that the router holds for want of an instance.
    pub held: Vec<usize>,
    pub places: Vec<Place>,
    /// Faults that take capacity at present.
    pub scarce: BTreeSet<usize>,
    pub control: Control,
    pub steps: Vec<StepRecord>,
    /// Every gap between tokens: the request, when its step began, how long.
    pub gaps: Vec<(usize, SimTime, Span)>,
    /// Latencies that no scrape has found yet.
    pub observed: Vec<Observed>,
    /// When attempts reached the cluster, first ones and further ones.
    pub attempts: Vec<SimTime>,
    /// Prompt tokens of these.
    pub prompt_tokens: u64,
    pub retries: Vec<SimTime>,
    /// Tokens computed for attempts that were lost or given up.
    pub wasted_tokens: u64,
    pub log: Vec<FleetEvent>,
    /// Requests waiting and running at the ends of intervals.
    pub snapshots: Vec<(u32, u32)>,
}

impl<'a> Cluster<'a> {
    pub fn new(setting: Setting<'a>) -> Self {
        let trace = setting.trace;
        let places = Place::all(setting.bundle);
        let mut cluster = Self {
            setting,
            events: BTreeSet::new(),
            turn: 0,
            router: Router::new(&setting, places.len()),
            gate: Gate::new(&setting, places.len()),
            signs: Vec::new(),
            requests: (0..trace.len()).map(|id| Request::new(&setting, id)).collect(),
            held: Vec::new(),
            places,
            scarce: BTreeSet::new(),
            control: Control::new(&setting),
            steps: Vec::new(),
            gaps: Vec::new(),
            observed: Vec::new(),
            attempts: Vec::new(),
            prompt_tokens: 0,
            retries: Vec::new(),
            wasted_tokens: 0,
            log: Vec::new(),
            snapshots: Vec::new(),
        };
        for (id, &arrival) in trace.arrival.iter().enumerate() {
            if arrival != SimTime::NEVER {
                cluster.will_arrive(arrival, id);
            }
        }
        for (fault, strike) in setting.conditions.faults.iter().enumerate() {
            cluster.events.insert((strike.at, Kind::Strike, fault as u64, 0));
        }
        if let Some(interval) = setting.options.timeline {
            cluster.events.insert((SimTime::ZERO + interval, Kind::IntervalEnd, 0, 0));
        }
        if let Some(autoscaling) = &setting.bundle.autoscaling {
            cluster.events.insert((SimTime::ZERO, Kind::Scrape, 0, 0));
            let first = SimTime::ZERO + autoscaling.interval;
            cluster.events.insert((first, Kind::Decision, 0, 0));
        }
        if let Some(checks) = &setting.bundle.gateway.health_checks {
            let first = SimTime::ZERO + checks.interval;
            cluster.events.insert((first, Kind::HealthCheck, 1, 0));
        }
        cluster.start();
        cluster
    }

    /// Until nothing is left to do, or all that is left lies behind the horizon.
    pub fn run(&mut self) {
        loop {
            let cluster = self.events.first().map_or(SimTime::NEVER, |event| event.0);
            let now = cluster.min(self.next_step());
            if now == SimTime::NEVER || now > self.setting.horizon {
                break;
            }
            if self.setting.moves && self.is_over() && now > self.setting.trace.end {
                break;
            }
            if cluster <= self.next_step() {
                self.happen();
            } else {
                self.happen_at_an_instance(now);
            }
            self.settle_cooldowns(now);
        }
        self.cut();
    }

    /// When an engine next does something.
    fn next_step(&self) -> SimTime {
        let engines = self.places.iter().filter_map(|place| place.engine.as_ref());
        engines.map(Engine::next).min().unwrap_or(SimTime::NEVER)
    }

    /// Whether no request is under way and none can arrive.
    pub fn is_over(&self) -> bool {
        let comes = |event: &(SimTime, Kind, u64, usize)| event.1 == Kind::Arrival;
        !self.requests.iter().any(Request::is_under_way) && !self.events.iter().any(comes)
    }

    /// Until when the bill runs, as it seems.
    pub fn end(&self) -> SimTime {
        if !self.is_over() {
            return self.setting.horizon;
        }
        let last = self.requests.iter().filter_map(|request| request.ended).max();
        let last = last.unwrap_or(SimTime::ZERO);
        self.setting.trace.end.max(last).min(self.setting.horizon)
    }

    /// Requests at one time arrive in the order of their ids.
    pub fn will_arrive(&mut self, at: SimTime, id: usize) {
        self.requests[id].arrival = at;
        self.events.insert((at, Kind::Arrival, id as u64, id));
    }

    pub fn push(&mut self, at: SimTime, kind: Kind, id: usize) {
        self.turn += 1;
        self.events.insert((at, kind, self.turn, id));
    }

    /// Strikes out what was to happen to `place` and is of this kind.
    pub fn cancel(&mut self, kind: Kind, place: usize) {
        self.events.retain(|&(_, other, turn, _)| other != kind || turn != place as u64);
    }

    fn happen(&mut self) {
        let (now, kind, turn, id) = self.events.pop_first().expect("an event is due");
        let place = turn as usize;
        match kind {
            Kind::Completion => self.complete(now, place, id),
            Kind::CapacityBack => self.capacity_back(now, turn as usize),
            Kind::Strike => self.strike(now, turn as usize),
            Kind::Noticed => self.notice(now, place),
            Kind::NoticeEnd => self.take_away(now, place),
            Kind::SlowEnd => self.recover(now, place),
            Kind::Ready => self.get_ready(now, place),
            Kind::IntervalEnd => self.end_interval(now),
            Kind::Scrape => self.scrape(now),
            Kind::Decision => self.decide(now),
            Kind::HealthCheck => self.check_health(now, turn),
            Kind::Expiry => self.expire(now, id),
            Kind::Tick => self.tick(now),
            Kind::GiveUp => self.give_up(now, id),
            Kind::Arrival => self.attempt(now, id),
            Kind::Retry => self.retry(now, id),
            Kind::Admission => self.admit(now, id),
            Kind::Routing => self.route(now, id),
        }
    }

    /// An attempt reaches the cluster.
    pub fn attempt(&mut self, now: SimTime, id: usize) {
        self.attempts.push(now);
        self.prompt_tokens += u64::from(self.requests[id].input);
        let attempt = self.attempts.len() as u64;
        self.requests[id].state = RequestState::Queued;
        self.requests[id].came = (now, attempt);
        if let Some(timeout) = self.setting.conditions.clients.timeout {
            self.events.insert((now + timeout, Kind::GiveUp, attempt, id));
        }
        self.push(now + self.setting.bundle.admission_latency, Kind::Admission, id);
    }

    /// Sends a request to an instance, or holds it where none is ready.
    pub fn route(&mut self, now: SimTime, id: usize) {
        self.router.look(now, &self.setting, &self.places);
        if !self.may_route() {
            self.held.push(id);
            self.requests[id].gated.get_or_insert(now);
            return;
        }
        self.leave_gate(now, id);
        self.cap_output(now, id);
        self.hide_full(now);
        let ready = |&place: &usize| self.places.get(place).is_some_and(Place::is_ready);
        let chosen = match self.setting.pinned(id).filter(ready) {
            Some(place) => place,
            None => {
                let Self { setting, places, requests, .. } = self;
                self.router.route(&Sight { setting, places, requests, request: id })
            }
        };
        self.show_all();
        self.requests[id].routed = Some(now);
        self.requests[id].instance = Some(chosen);
        let engine = self.places[chosen].engine.as_mut().expect("it is ready");
        engine.send(now, id);
    }

    fn happen_at_an_instance(&mut self, now: SimTime) {
        let due = |place: &Place| place.engine.as_ref().is_some_and(|engine| engine.next() == now);
        let at = self.places.iter().position(due).expect("one of them is due");
        let engine = self.places[at].engine.as_mut().expect("it is due");
        if let Some(step) = engine.happen(&self.setting, &mut self.requests) {
            self.steps.push(step.record);
            self.gaps.extend(step.gaps.iter().map(|&(id, gap)| (id, now, gap)));
            for (id, ttft) in step.first_tokens {
                if !self.requests[id].seen {
                    self.requests[id].seen = true;
                    self.observed.push(Observed::ttft(step.end, id, ttft));
                    let request = &self.requests[id];
                    let routed = request.routed.expect("it is on an instance");
                    let what = What::FirstToken(ttft - (routed - request.arrival));
                    self.signs.push(Sign { at: step.end, place: at, request: id, what });
                }
            }
            for id in step.completing {
                self.events.insert((step.end, Kind::Completion, at as u64, id));
            }
        }
        self.end_if_drained(now, at);
    }

    /// What is left at the end of the run: steps that have begun end, but not on stopped
    /// instances, and answers whose last step that is are complete.
    fn cut(&mut self) {
        let end = self.end();
        if let Some(interval) = self.setting.options.timeline {
            self.snapshots.truncate(super::ledger::intervals(end, interval) as usize - 1);
            self.snapshots.push(self.snapshot());
        }
        while self.next_step() <= self.setting.horizon {
            self.happen_at_an_instance(self.next_step());
        }
        for at in 0..self.places.len() {
            let Some(engine) = &mut self.places[at].engine else { continue };
            if engine.stopped {
                continue;
            }
            let finished = engine.busy_until;
            for id in std::mem::take(&mut engine.completing) {
                self.requests[id].state = RequestState::Completed;
                self.requests[id].finished = Some(finished);
                self.requests[id].ended = Some(finished);
                self.places[at].completed += 1;
            }
        }
    }
}
