//! The clock that all instances share.

use std::collections::BTreeSet;

use crate::base::{RequestId, SimTime, Span};

use super::super::outcome::{RequestState, StepRecord};
use super::engine::Engine;
use super::router::Router;
use super::{Request, Setting};

/// What happens before an instance; of events at one time the first kind goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Arrival,
    Admission,
    Routing,
}

/// A cluster and all that happened in it.
pub(super) struct Cluster<'a> {
    pub setting: Setting<'a>,
    /// When, of which kind, in which turn, for which request.
    events: BTreeSet<(SimTime, Kind, u64, usize)>,
    turn: u64,
    router: Router,
    pub requests: Vec<Request>,
    pub engines: Vec<Engine>,
    pub steps: Vec<StepRecord>,
    /// Every gap between tokens: the request, when its step began, how long.
    pub gaps: Vec<(usize, SimTime, Span)>,
}

impl<'a> Cluster<'a> {
    pub fn new(setting: Setting<'a>) -> Self {
        let instances = setting.bundle.instances() as usize;
        let trace = setting.trace;
        let mut cluster = Self {
            setting,
            events: BTreeSet::new(),
            turn: 0,
            router: Router::new(&setting, instances),
            requests: (0..trace.len()).map(|id| Request::new(&setting, id)).collect(),
            engines: (0..instances).map(|index| Engine::new(&setting, index)).collect(),
            steps: Vec::new(),
            gaps: Vec::new(),
        };
        for (id, &arrival) in trace.arrival.iter().enumerate() {
            if arrival != SimTime::NEVER {
                cluster.arrive(arrival, id);
            }
        }
        cluster
    }

    /// Until nothing is left to do, or all that is left lies behind the horizon.
    pub fn run(&mut self) {
        loop {
            let cluster = self.events.first().map_or(SimTime::NEVER, |event| event.0);
            let instance = self.engines.iter().map(Engine::next).min();
            let instance = instance.expect("a fleet has instances");
            let now = cluster.min(instance);
            if now == SimTime::NEVER || now > self.setting.horizon {
                return;
            }
            if cluster <= instance {
                self.happen();
            } else {
                let first = self.engines.iter().position(|engine| engine.next() == now);
                self.happen_at(first.expect("one of them is due"), now);
            }
        }
    }

    /// Requests at one time arrive in the order of their ids.
    fn arrive(&mut self, at: SimTime, id: usize) {
        self.requests[id].arrival = at;
        self.events.insert((at, Kind::Arrival, id as u64, id));
    }

    fn push(&mut self, at: SimTime, kind: Kind, id: usize) {
        self.turn += 1;
        self.events.insert((at, kind, self.turn, id));
    }

    fn happen(&mut self) {
        let (now, kind, _, id) = self.events.pop_first().expect("an event is due");
        match kind {
            Kind::Arrival => {
                self.requests[id].state = RequestState::Queued;
                let at = now + self.setting.bundle.admission_latency;
                self.push(at, Kind::Admission, id);
            }
            Kind::Admission => {
                self.router.look(now, &self.setting, &self.engines);
                if self.router.admit(now, &self.setting, id) {
                    let at = now + self.setting.bundle.routing_latency;
                    self.push(at, Kind::Routing, id);
                } else {
                    self.requests[id].state = RequestState::Rejected;
                }
            }
            Kind::Routing => {
                self.router.look(now, &self.setting, &self.engines);
                let chosen = match self.setting.pinned(id) {
                    Some(instance) if instance < self.engines.len() => instance,
                    _ => self.router.route(&self.setting, &self.engines, id),
                };
                self.requests[id].routed = Some(now);
                self.requests[id].instance = Some(chosen);
                self.engines[chosen].send(now, id);
            }
        }
    }

    fn happen_at(&mut self, instance: usize, now: SimTime) {
        let engine = &mut self.engines[instance];
        let Some(step) = engine.happen(&self.setting, &mut self.requests) else { return };
        self.steps.push(step.record);
        self.gaps.extend(step.gaps.iter().map(|&(id, gap)| (id, now, gap)));
        for id in step.completed {
            let Some(next) = self.setting.trace.follow_up(RequestId::new(id)) else { continue };
            let client = self.setting.trace.client[next.index()];
            let think_time = self.setting.trace.clients[client.index()].think_time;
            let finished = self.requests[id].finished.expect("it has just completed");
            self.arrive(finished + think_time, next.index());
        }
    }
}
