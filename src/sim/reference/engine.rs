//! One instance, step by step.

use std::collections::{BTreeSet, VecDeque};

use crate::base::{InstanceId, SimTime, Span};
use crate::latency::Blackbox;
use crate::policy::signals::Pass;
use crate::policy::{Pool, Priority, Scheduler};

use super::super::outcome::{RequestState, StepRecord};
use super::kv::Kv;
use super::{Request, Setting};

/// What happens on an instance; of events at one time the first kind goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A request comes from the router.
    Arrival,
    /// A request joins the wait queue.
    Queued,
    /// The engine begins a step.
    Step,
    /// The engine has ended a step.
    StepEnd,
}

/// Times of requests.
type Times = Vec<(usize, Span)>;

/// An event: when, of which kind, in which turn, for which request.
type Event = (SimTime, Kind, u64, usize);

/// What a step did, for others to know.
pub(super) struct Step {
    pub record: StepRecord,
    /// When it ends.
    pub end: SimTime,
    /// Requests whose first token it computes, and the time to it.
    pub first_tokens: Vec<(usize, Span)>,
    /// Requests whose answer is complete at its end.
    pub completing: Vec<usize>,
    /// Gaps between tokens, one for each answer token computed.
    pub gaps: Vec<(usize, Span)>,
}

/// One instance.
pub(super) struct Engine {
    index: usize,
    latency: Blackbox,
    pub kv: Kv,
    events: BTreeSet<Event>,
    turn: u64,
    pub waiting: VecDeque<usize>,
    pub running: Vec<usize>,
    /// Requests between the router and the wait queue, as they were sent.
    pub on_the_way: Vec<usize>,
    /// Requests that have left the batch and whose last step goes on.
    pub completing: Vec<usize>,
    step_pending: bool,
    /// By how much its steps take longer than they should.
    pub slow: Option<f64>,
    /// Whether nothing moves here any more.
    pub stopped: bool,
    /// When the last step ends.
    pub busy_until: SimTime,
    /// What the last step is.
    pub pass: Pass,
    /// When the last event happened.
    pub clock: SimTime,
    pub requests: u64,
    pub steps: u64,
    pub preemptions: u64,
    pub input_tokens: u64,
    pub decode_tokens: u64,
    pub kv_blocks_peak: u32,
    pub kv_block_us: u64,
    pub busy: Span,
}

impl Engine {
    /// An idle engine of instance `index`, in whose place `steps` were taken before.
    pub fn new(setting: &Setting, (index, steps): (usize, u64), pool: &Pool) -> Self {
        Self {
            index,
            latency: pool.latency,
            kv: Kv::new(pool.kv_blocks, setting.bundle.block_size),
            events: BTreeSet::new(),
            turn: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            on_the_way: Vec::new(),
            completing: Vec::new(),
            step_pending: false,
            slow: None,
            stopped: false,
            busy_until: SimTime::ZERO,
            pass: Pass::default(),
            clock: SimTime::ZERO,
            requests: 0,
            steps,
            preemptions: 0,
            input_tokens: 0,
            decode_tokens: 0,
            kv_blocks_peak: 0,
            kv_block_us: 0,
            busy: Span::ZERO,
        }
    }

    /// Requests here and on their way, without those that wait for nothing but a step's end.
    pub fn load(&self) -> usize {
        self.waiting.len() + self.running.len() + self.on_the_way.len()
    }

    /// All requests that would be lost with this instance.
    pub fn requests(&self) -> Vec<usize> {
        let waiting = self.waiting.iter().chain(&self.on_the_way);
        self.running.iter().chain(&self.completing).chain(waiting).copied().collect()
    }

    /// When its next event happens.
    pub fn next(&self) -> SimTime {
        self.events.first().map_or(SimTime::NEVER, |event| event.0)
    }

    /// A request was routed here.
    pub fn send(&mut self, now: SimTime, request: usize) {
        self.requests += 1;
        self.clock = now;
        self.on_the_way.push(request);
        if !self.stopped {
            self.push(now, Kind::Arrival, request);
        }
    }

    /// Nothing moves here any more.
    pub fn stop(&mut self, now: SimTime) {
        if !self.stopped && self.busy_until <= now {
            // It has just ended its last step.
            self.clock = self.clock.max(self.busy_until);
        }
        self.stopped = true;
        self.events.clear();
    }

    /// A request leaves, wherever it is; the step under way goes on.
    pub fn leave(&mut self, request: &mut Request) {
        let id = request.id;
        let comes = |kind| matches!(kind, Kind::Arrival | Kind::Queued);
        self.events.retain(|&(_, kind, _, other)| !comes(kind) || other != id);
        self.on_the_way.retain(|&other| other != id);
        self.waiting.retain(|&other| other != id);
        self.running.retain(|&other| other != id);
        self.completing.retain(|&other| other != id);
        self.kv.release(&mut request.holding);
        if self.waiting.is_empty() && self.running.is_empty() {
            // Nobody is there for the next step.
            self.events.retain(|event| event.1 != Kind::Step);
            self.step_pending = false;
        }
    }

    /// Gives back whom it has not begun to serve: those that wait in the order in which they
    /// would be served, then those on the way in the order in which they would join.
    pub fn hand_back(
        &mut self,
        now: SimTime,
        setting: &Setting,
        requests: &mut [Request],
    ) -> Vec<usize> {
        order(&mut self.waiting, now, setting, requests);
        let mut on_the_way = self.on_the_way.clone();
        on_the_way.sort_by_key(|&id| {
            let delay = Span::from_us(self.latency.queueing_us(requests[id].input));
            requests[id].routed.map(|routed| routed + delay)
        });
        let back: Vec<usize> = self.waiting.iter().copied().chain(on_the_way).collect();
        for &id in &back {
            self.leave(&mut requests[id]);
            // It will be computed anew elsewhere.
            (requests[id].ttft, requests[id].first_token) = (None, None);
        }
        back
    }

    /// Lets the next event happen.
    pub fn happen(&mut self, setting: &Setting, requests: &mut [Request]) -> Option<Step> {
        let (now, kind, _, request) = self.events.pop_first().expect("an event is due");
        self.clock = now;
        match kind {
            Kind::Arrival => {
                let delay = self.latency.queueing_us(requests[request].input);
                self.push(now + Span::from_us(delay), Kind::Queued, request);
            }
            Kind::Queued => self.enqueue(now, setting, &mut requests[request]),
            Kind::Step => return Some(self.step(now, setting, requests)),
            Kind::StepEnd => {}
        }
        None
    }

    fn push(&mut self, at: SimTime, kind: Kind, request: usize) {
        self.turn += 1;
        self.events.insert((at, kind, self.turn, request));
    }

    fn enqueue(&mut self, now: SimTime, setting: &Setting, request: &mut Request) {
        self.on_the_way.retain(|&other| other != request.id);
        if request.input.div_ceil(setting.bundle.block_size) > self.kv.total() {
            drop(now, request);
            return;
        }
        request.enqueued = Some(now);
        self.input_tokens += u64::from(request.input);
        self.waiting.push_back(request.id);
        if !self.step_pending {
            self.step_pending = true;
            self.push(now.max(self.busy_until), Kind::Step, 0);
        }
    }

    fn step(&mut self, now: SimTime, setting: &Setting, requests: &mut [Request]) -> Step {
        self.steps += 1;
        order(&mut self.waiting, now, setting, requests);
        self.form_batch(now, setting, requests);
        // Before the answers of this step let go of theirs.
        let used = self.kv.used();
        let batch = self.running.len() as u32;
        let (mut prefill, mut decode) = (0, 0);
        for &id in &self.running {
            let part = if requests[id].decodes() { &mut decode } else { &mut prefill };
            *part += requests[id].new;
        }
        let duration = self.duration(prefill, decode);
        let (first_tokens, gaps) = self.compute(now, duration, requests);
        let completing = self.complete(setting, requests);
        self.decode_tokens += u64::from(decode);
        self.kv_blocks_peak = self.kv_blocks_peak.max(used);
        self.kv_block_us += u64::from(used) * duration.as_us();
        self.end_step(now, duration);
        self.pass = Pass { prefill_tokens: prefill, length: duration };
        Step {
            record: StepRecord {
                instance: InstanceId::new(self.index),
                step: self.steps,
                start_us: now.as_us(),
                duration_us: duration.as_us(),
                batch,
                prefill_tokens: prefill,
                decode_tokens: decode,
                completed: completing.len() as u32,
                waiting_after: self.waiting.len() as u32,
                kv_blocks_after: self.kv.used(),
            },
            end: now + duration,
            first_tokens,
            completing,
            gaps,
        }
    }

    /// How long a step takes.
    fn duration(&self, prefill: u32, decode: u32) -> Span {
        let us = self.latency.step_us(prefill.into(), decode.into());
        Span::from_us(self.slow.map_or(us, |factor| (us as f64 * factor).floor() as u64))
    }

    /// Who computes how many tokens in this step.
    fn form_batch(&mut self, now: SimTime, setting: &Setting, requests: &mut [Request]) {
        let limits = setting.bundle.batching;
        let chunk = |rest: u32, budget: u32| match limits.long_prefill_threshold {
            0 => rest.min(budget),
            threshold => rest.min(threshold).min(budget),
        };
        let mut budget = limits.max_tokens;
        let mut evicted = false;
        for &id in &self.running {
            requests[id].new = 0;
        }
        let total = self.kv.total();
        let above = setting.bundle.gateway.degradation.preempt_above;
        let limit = above.map(|above| (above * f64::from(total)).floor() as u32);
        while limit.is_some_and(|limit| self.running.len() > 1 && self.kv.used() > limit) {
            self.evict_last(requests);
            evicted = true;
        }
        let mut at = 0;
        while at < self.running.len() && budget > 0 {
            let request = &requests[self.running[at]];
            let rest = request.input.saturating_sub(request.progress);
            let new = if request.decodes() { 1 } else { chunk(rest, budget) };
            let id = request.id;
            if self.kv.can_never_hold(&request.holding, new) {
                self.running.remove(at);
                self.kv.release(&mut requests[id].holding);
                drop(now, &mut requests[id]);
                continue;
            }
            let before = self.running.len();
            let fits = self.make_room(at, new, setting, requests);
            evicted |= self.running.len() < before;
            if !fits {
                break;
            }
            requests[id].new = new;
            budget -= new;
            at += 1;
        }
        while !evicted && self.running.len() < limits.max_running as usize && budget > 0 {
            let Some(&id) = self.waiting.front() else { break };
            let request = &mut requests[id];
            let full = (request.input - 1) / setting.bundle.block_size;
            let hits = self.kv.lookup(&setting.keys(id, full));
            let cached = hits.len() as u32 * setting.bundle.block_size;
            let new = chunk(request.input - cached, budget);
            let blocks = (cached + new).div_ceil(setting.bundle.block_size);
            let too_much = |limit| !self.running.is_empty() && self.kv.used() + blocks > limit;
            if limit.is_some_and(too_much) {
                break;
            }
            if !self.kv.allocate(&mut request.holding, &hits, new, |i| setting.key(id, i)) {
                break;
            }
            self.waiting.pop_front();
            self.running.push(id);
            request.state = RequestState::Running;
            if request.first_scheduled.is_none() {
                request.first_scheduled = Some(now);
                request.delays.push(now - request.came.0);
            }
            request.scheduled = Some(now);
            (request.progress, request.cached) = (cached, cached);
            request.new = new;
            budget -= new;
        }
    }

    /// Allocates `new` tokens for the request at position `at` of the batch, evicting the last of
    /// the batch until they fit; false where it evicted itself.
    fn make_room(
        &mut self,
        at: usize,
        new: u32,
        setting: &Setting,
        requests: &mut [Request],
    ) -> bool {
        let id = self.running[at];
        while !self.kv.allocate(&mut requests[id].holding, &[], new, |i| setting.key(id, i)) {
            if self.evict_last(requests) == id {
                return false;
            }
        }
        true
    }

    /// Throws the last of the batch out of it; says who that was.
    fn evict_last(&mut self, requests: &mut [Request]) -> usize {
        let last = self.running.pop().expect("somebody is in the batch");
        let victim = &mut requests[last];
        self.kv.release(&mut victim.holding);
        (victim.progress, victim.cached) = (0, 0);
        victim.gaps.clear();
        victim.preemptions += 1;
        victim.state = RequestState::Queued;
        self.preemptions += 1;
        self.waiting.push_front(last);
        last
    }

    /// Computes the tokens of the batch; gives the times to first tokens and the gaps before
    /// further ones.
    fn compute(
        &mut self,
        now: SimTime,
        duration: Span,
        requests: &mut [Request],
    ) -> (Times, Times) {
        let token = duration + Span::from_us(self.latency.output_us());
        let (mut first_tokens, mut gaps) = (Vec::new(), Vec::new());
        for &id in &self.running {
            let request = &mut requests[id];
            if request.new == 0 {
                continue;
            }
            let decodes = request.decodes();
            request.progress += request.new;
            if decodes {
                request.gaps.push(token);
                gaps.push((id, token));
            } else if request.decodes() {
                let ttft = now + token - request.arrival;
                request.ttft = Some(ttft);
                request.first_token = Some(now + duration);
                first_tokens.push((id, ttft));
            }
        }
        (first_tokens, gaps)
    }

    /// Lets go of those whose last step this is.
    fn complete(&mut self, setting: &Setting, requests: &mut [Request]) -> Vec<usize> {
        let mut completing = Vec::new();
        for &id in &self.running {
            let request = &mut requests[id];
            if request.progress != request.goal() {
                continue;
            }
            if request.output > 0 {
                // Where there is no room the last token goes without.
                let key = |index| setting.key(id, index);
                self.kv.allocate(&mut request.holding, &[], 1, key);
            }
            self.kv.release(&mut request.holding);
            completing.push(id);
        }
        self.running.retain(|id| !completing.contains(id));
        self.completing.extend(&completing);
        completing
    }

    fn end_step(&mut self, now: SimTime, duration: Span) {
        self.busy += duration;
        self.busy_until = now + duration;
        self.push(self.busy_until, Kind::StepEnd, 0);
        self.step_pending = !self.running.is_empty() || !self.waiting.is_empty();
        if self.step_pending {
            self.push(self.busy_until, Kind::Step, 0);
        }
    }
}

/// The request can never be served here.
fn drop(now: SimTime, request: &mut Request) {
    request.state = RequestState::Dropped;
    request.ended = Some(now);
}

/// Brings the wait queue into the scheduler's order.
fn order(waiting: &mut VecDeque<usize>, now: SimTime, setting: &Setting, requests: &[Request]) {
    let urgency = |id: usize| priority(now, setting, &requests[id]);
    let turn = |id: usize| (requests[id].came.0, &requests[id].name);
    let waiting = waiting.make_contiguous();
    match setting.bundle.scheduler {
        Scheduler::Fcfs => {}
        Scheduler::Sjf => waiting.sort_by_key(|&id| (requests[id].input, turn(id))),
        Scheduler::PriorityFcfs => waiting.sort_by(|&a, &b| {
            urgency(b).total_cmp(&urgency(a)).then_with(|| turn(a).cmp(&turn(b)))
        }),
        Scheduler::ReversePriority => waiting.sort_by(|&a, &b| {
            urgency(a).total_cmp(&urgency(b)).then_with(|| turn(a).cmp(&turn(b)))
        }),
    }
}

/// How urgent a waiting request is now.
fn priority(now: SimTime, setting: &Setting, request: &Request) -> f64 {
    let trace = setting.trace;
    let class = &trace.classes[setting.class(request.id)];
    let age_us = (now - request.came.0).as_us() as f64;
    match &setting.bundle.priority {
        Priority::Constant => 0.0,
        Priority::Age => 0.0 + 1e-6 * age_us,
        Priority::InvertedAge => 0.0 - 1e-6 * age_us,
        Priority::SloClass(classes) => {
            classes.iter().find(|(name, _)| name == class).map_or(0.0, |&(_, urgency)| urgency)
        }
        Priority::SloDeadline(targets) => {
            let target = targets.iter().find(|(name, _)| name == class);
            let deadline = |&(_, target)| (request.came.0 + target).as_us() as f64;
            target.map_or(f64::NEG_INFINITY, |target| -deadline(target))
        }
    }
}
