//! How attempts end, and what clients do about it.

use crate::base::{RequestId, SimTime};
use crate::scenario::Conduct;

use super::super::outcome::RequestState;
use super::cluster::{Cluster, Kind};
use super::health::{Sign, What};
use super::scaling::Observed;

impl Cluster<'_> {
    /// An answer is complete on the instance in place `at`.
    pub fn complete(&mut self, now: SimTime, at: usize, id: usize) {
        let engine = self.places[at].engine.as_mut().expect("its step went on until now");
        engine.completing.retain(|&other| other != id);
        self.places[at].completed += 1;
        self.forget_attempt(id);
        let request = &mut self.requests[id];
        request.state = RequestState::Completed;
        request.finished = Some(now);
        request.ended = Some(now);
        let e2e = request.e2e().expect("it is complete");
        self.signs.push(Sign { at: now, place: at, request: id, what: What::Answer });
        self.observed.push(Observed::e2e(now, id, e2e));
        if let Some(tpot) = request.tpot() {
            self.observed.push(Observed::tpot(now, id, tpot));
        }
        if let Some(next) = self.setting.trace.follow_up(RequestId::new(id)) {
            let client = self.setting.trace.client[next.index()];
            let think_time = self.setting.trace.clients[client.index()].think_time;
            self.will_arrive(now + think_time, next.index());
        }
        self.end_if_drained(now, at);
    }

    /// A client has waited for as long as it would.
    pub fn give_up(&mut self, now: SimTime, id: usize) {
        if !self.requests[id].is_under_way() {
            return;
        }
        self.take_back_tokens(now, id);
        let somewhere = |place: &super::fleet::Place| {
            place.engine.as_ref().is_some_and(|engine| engine.requests().contains(&id))
        };
        let at = self.places.iter().position(somewhere);
        if let Some(place) = at {
            self.signs.push(Sign { at: now, place, request: id, what: What::GivenUp });
        }
        self.leave(id);
        self.fail(now, id, RequestState::TimedOut);
        if let Some(at) = at {
            self.end_if_drained(now, at);
        }
    }

    /// All requests of the instance in place `at` are lost; says how many.
    pub fn lose_all(&mut self, now: SimTime, at: usize) -> u32 {
        let Some(engine) = &mut self.places[at].engine else { return 0 };
        engine.stop(now);
        let lost = engine.requests();
        for &id in &lost {
            self.take_back_tokens(now, id);
            self.leave(id);
            self.fail(now, id, RequestState::Failed);
        }
        lost.len() as u32
    }

    /// A request leaves the instance that it is on, if it is on any.
    fn leave(&mut self, id: usize) {
        for engine in self.places.iter_mut().filter_map(|place| place.engine.as_mut()) {
            if engine.requests().contains(&id) {
                engine.leave(&mut self.requests[id]);
            }
        }
    }

    /// The step that a request is in has no effect for it any more.
    pub fn take_back_tokens(&mut self, now: SimTime, id: usize) {
        let request = &mut self.requests[id];
        if request.first_token.is_some_and(|at| at > now) {
            (request.first_token, request.ttft) = (None, None);
        }
        self.observed.retain(|observed| observed.request != id || observed.at <= now);
        self.signs.retain(|sign| sign.request != id || sign.at <= now);
        self.events.retain(|&(_, kind, _, other)| kind != Kind::Completion || other != id);
    }

    /// An attempt ends without an answer, as `state` says.
    pub fn fail(&mut self, now: SimTime, id: usize, state: RequestState) {
        self.forget_attempt(id);
        let Conduct { retry, .. } = self.setting.conditions.clients;
        let seed = self.setting.conditions.seed;
        let request = &mut self.requests[id];
        if request.state == RequestState::Running {
            self.wasted_tokens += u64::from(request.progress - request.cached);
        }
        request.state = state;
        match retry.filter(|retry| request.retries < retry.attempts) {
            Some(retry) => {
                let wait = retry.wait(seed, id as u32, request.retries);
                self.events.insert((now + wait, Kind::Retry, id as u64, id));
                *request = request.afresh(&self.setting);
                request.state = RequestState::Queued;
            }
            None => request.ended = Some(now),
        }
    }

    /// What was to happen to an attempt that has ended does not happen.
    fn forget_attempt(&mut self, id: usize) {
        let of_attempt =
            |kind| matches!(kind, Kind::GiveUp | Kind::Expiry | Kind::Admission | Kind::Routing);
        self.events.retain(|&(_, kind, _, other)| !of_attempt(kind) || other != id);
        self.held.retain(|&other| other != id);
        self.gate.forget(id);
    }

    /// The client of request `id` tries again.
    pub fn retry(&mut self, now: SimTime, id: usize) {
        self.requests[id].retries += 1;
        self.retries.push(now);
        self.attempt(now, id);
    }
}
