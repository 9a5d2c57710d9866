//! What a fleet that changes asks of an engine: answers that complete when their last step ends,
//! requests that leave before, stops, fresh starts, gauges.
//!
//! An engine runs ahead: a step is counted when it begins, a run of steps when the next full one
//! is due. Before anything is taken out it catches up with the present.

use crate::base::{SimTime, Span};
use crate::policy::signals::{EngineSample, Pass};
use crate::sim::engine::{Engine, Shared};
use crate::sim::live::{Phase, Slots};
use std::cmp::Reverse;

/// What an instance shows at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Requests in the wait queue or on the way there.
    pub waiting: u64,
    /// Requests in the batch.
    pub running: u64,
    /// Tokens of all these, computed so far or prompts still to be computed.
    pub in_flight_tokens: u64,
    /// KV blocks in use.
    pub kv_used: u64,
    /// Time stepped so far, a step under way up to now.
    pub busy: Span,
    /// Prompt tokens of steps that have begun.
    pub prefill_tokens: u64,
    /// Answer tokens of steps that have begun.
    pub decode_tokens: u64,
}

impl Engine {
    /// Takes a request out of the batch whose last step has begun and ends at `end`.
    pub(super) fn begin_end(&mut self, slot: u32, end: SimTime, cx: &mut Shared) {
        // A client who gives up before the end may come again and find its prompt cached.
        let given_up = end > cx.slots[slot].deadline;
        if given_up {
            self.name_private(cx);
        }
        self.leave_batch(slot, cx);
        let block_size = self.block_size();
        let live = &mut cx.slots[slot];
        let progress = live.progress(self.steps);
        live.holding.sync(progress, block_size);
        if live.output > 0 && self.kv.can_extend(&live.holding, 1) {
            self.kv.extend(&mut live.holding, &live.naming, cx.chains, 1);
        }
        self.kv.release(&mut live.holding, &live.naming, !given_up);
        (live.phase, live.computed) = (Phase::Ending, progress);
        cx.load.remove(self.id as usize);
        self.leaving.push(slot);
    }

    /// Completes the answers whose last step ended at `end`.
    pub fn end_answers(&mut self, end: SimTime, cx: &mut Shared) {
        for slot in self.leaving.drain(..) {
            let live = &cx.slots[slot];
            cx.collect.completed(live, self.id, end);
            cx.answered.push((live.id, end));
            cx.slots.remove(slot);
            self.outcome.completed += 1;
        }
    }

    /// Counts the steps that began before `begun`, and lets those requests wait that joined the
    /// queue before.
    fn catch_up(&mut self, begun: SimTime, cx: &mut Shared) {
        if self.frozen {
            return;
        }
        if self.run_length > 0 && begun > self.next_step {
            let steps = self.run_steps_before(begun).min(self.run_length);
            self.count_run(steps, cx);
        }
        if begun > SimTime::ZERO {
            self.queue_pending(SimTime::from_ps(begun.as_ps() - 1), cx);
        }
    }

    /// Plans anew after something was taken out.
    fn plan_anew(&mut self, cx: &Shared) {
        self.run_length = 0;
        if !self.frozen {
            self.plan_run(cx);
        }
    }

    /// Stops: steps that began before `begun` are counted, and nothing moves any more.
    pub fn freeze(&mut self, now: SimTime, begun: SimTime, cx: &mut Shared) {
        self.catch_up(begun, cx);
        self.run_length = 0;
        self.frozen = true;
        self.end_last_step(now);
    }

    /// A step that has not ended by now never does.
    fn end_last_step(&mut self, now: SimTime) {
        if self.last_step_end <= now {
            self.last_event = self.last_event.max(self.last_step_end);
        }
        self.last_step_end = SimTime::ZERO;
    }

    /// First tokens whose step has not ended at `now` never come.
    pub fn lose_tokens_after(&self, now: SimTime, cx: &mut Shared) {
        for slot in self.batch.iter().chain(self.leaving.iter().copied()) {
            let live = &mut cx.slots[slot];
            if live.first_token != SimTime::NEVER && live.first_token > now {
                live.first_token = SimTime::NEVER;
                cx.collect.left(live.id, now);
            }
        }
    }

    /// Steps that begin from now on take `slowness` times as long.
    pub fn slow(&mut self, slowness: f64, begun: SimTime, cx: &mut Shared) {
        self.catch_up(begun, cx);
        self.slowness = slowness;
        self.plan_anew(cx);
    }

    /// Takes out a request that is here; returns the tokens that were computed for it.
    /// `comes_back`: it may be sent here again and find its prompt in the cache.
    pub fn remove(&mut self, slot: u32, comes_back: bool, begun: SimTime, cx: &mut Shared) -> u32 {
        self.catch_up(begun, cx);
        let mut computed = 0;
        match cx.slots[slot].phase {
            Phase::Ending => {
                self.leaving.retain(|&other| other != slot);
                let live = &cx.slots[slot];
                return live.computed - live.cached;
            }
            Phase::Pending => {
                self.pending.retain(|&Reverse((.., other))| other != slot);
                self.drops.retain(|&(.., other)| other != slot);
            }
            Phase::Waiting => self.wait.remove(slot),
            Phase::Prefilling | Phase::Decoding => {
                if comes_back {
                    self.name_private(cx);
                }
                self.leave_batch(slot, cx);
                let (steps, block_size) = (self.steps, self.block_size());
                let live = &mut cx.slots[slot];
                let progress = live.progress(steps);
                live.holding.sync(progress, block_size);
                self.kv.release(&mut live.holding, &live.naming, !comes_back);
                computed = progress - live.cached;
            }
        }
        cx.load.remove(self.id as usize);
        self.plan_anew(cx);
        computed
    }

    /// Takes out all requests that are not in the batch, in the order in which they would be
    /// served if all had joined the queue.
    pub fn take_waiting(&mut self, begun: SimTime, cx: &mut Shared) -> Vec<u32> {
        self.catch_up(begun, cx);
        let mut taken: Vec<u32> = self.wait.drain().collect();
        taken.extend(self.take_pending());
        for _ in &taken {
            cx.load.remove(self.id as usize);
        }
        self.plan_anew(cx);
        taken
    }

    fn take_pending(&mut self) -> impl Iterator<Item = u32> + use<> {
        let mut pending: Vec<_> = self.pending.drain().map(|Reverse(entry)| entry).collect();
        pending.append(&mut self.drops);
        pending.sort_unstable();
        pending.into_iter().map(|(.., slot)| slot)
    }

    /// Takes out everybody, with the tokens computed for each, and leaves an engine that is idle
    /// and empty.
    pub fn take_all(&mut self, now: SimTime, begun: SimTime, cx: &mut Shared) -> Vec<(u32, u32)> {
        self.freeze(now, begun, cx);
        let ending: Vec<u32> = self.leaving.drain(..).collect();
        let running: Vec<u32> = self.batch.iter().collect();
        let mut taken = Vec::with_capacity(ending.len() + running.len());
        for &slot in ending.iter().chain(&running) {
            let live = &mut cx.slots[slot];
            let progress = live.progress(self.steps);
            taken.push((slot, progress - live.cached));
            live.holding.clear();
        }
        taken.extend(self.wait.drain().map(|slot| (slot, 0)));
        taken.extend(self.take_pending().map(|slot| (slot, 0)));
        for _ in ending.len()..taken.len() {
            cx.load.remove(self.id as usize);
        }
        self.empty();
        taken
    }

    /// Forgets the batch and the cache.
    fn empty(&mut self) {
        self.batch.clear();
        self.prefilling.clear();
        self.decoding = 0;
        self.finishing.clear();
        self.needing.fill(0);
        self.members.iter_mut().for_each(Vec::clear);
        self.starved.clear();
        self.kv.renew();
        self.run_length = 0;
    }

    /// Starts anew at `now`, idle and empty.
    pub fn renew(&mut self, now: SimTime) {
        self.empty();
        self.end_last_step(now);
        (self.frozen, self.slowness) = (false, 1.0);
        self.pass = Pass::default();
        self.next_step = now;
    }

    /// Whether nothing moves here.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.running() == 0
            && self.leaving.is_empty()
            && self.wait.is_empty()
            && self.pending.is_empty()
            && self.drops.is_empty()
    }

    /// Whether answers wait for the end of their last step.
    pub fn has_ending(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// When the step under way ends.
    pub fn step_end(&self) -> SimTime {
        self.next_step
    }

    /// Steps of the planned run that began before `begun` and are not counted.
    fn steps_ahead(&self, begun: SimTime) -> u32 {
        if self.run_length > 0 && begun > self.next_step {
            self.run_steps_before(begun).min(self.run_length)
        } else {
            0
        }
    }

    /// The instance as a gateway sees it at `now`, when the steps before `begun` have begun; the
    /// prompts of its requests are counted where there are `slots`.
    pub fn gauge(
        &self,
        now: SimTime,
        begun: SimTime,
        slots: Option<&Slots>,
    ) -> crate::policy::admission::Gauge {
        let prompts =
            |slots: &Slots| self.everybody().map(|slot| u64::from(slots[slot].input)).sum();
        crate::policy::admission::Gauge {
            seen: now,
            waiting: (self.wait.len() + self.pending.len() + self.drops.len()) as u32,
            running: self.running(),
            kv: self.kv_utilization_at(begun),
            prompt_tokens: slots.map_or(0, prompts),
        }
    }

    /// Those who wait, are on the way or in the batch.
    fn everybody(&self) -> impl Iterator<Item = u32> {
        self.all_waiting().chain(self.batch.iter())
    }

    /// Who waits here or is on the way.
    fn all_waiting(&self) -> impl Iterator<Item = u32> {
        let pending = self.pending.iter().map(|&Reverse((.., slot))| slot);
        self.wait.iter().chain(pending).chain(self.drops.iter().map(|&(.., slot)| slot))
    }

    /// What the instance shows at `now`, when the steps before `begun` have begun.
    pub fn gauges(&self, now: SimTime, begun: SimTime, slots: &Slots) -> Gauges {
        let ahead = self.steps_ahead(begun);
        let end = self.next_step + self.run_step.times(u64::from(ahead));
        let busy = self.busy + self.run_step.times(u64::from(ahead));
        let steps = self.steps + ahead;
        let tokens = |slot: u32| {
            let live = &slots[slot];
            u64::from(live.input.max(live.progress(steps)))
        };
        Gauges {
            waiting: (self.wait.len() + self.pending.len() + self.drops.len()) as u64,
            running: u64::from(self.running()),
            in_flight_tokens: self.everybody().map(tokens).sum(),
            kv_used: u64::from(self.kv_used_at(begun)),
            busy: Span::from_ps(busy.as_ps() - end.since(now).as_ps().min(busy.as_ps())),
            prefill_tokens: self.prefill_tokens,
            decode_tokens: self.outcome.decode_tokens + u64::from(ahead) * u64::from(self.decoding),
        }
    }

    /// What who wants to know each instance sees of this one at `now`, when the steps before
    /// `begun` have begun.
    pub fn sample(&self, now: SimTime, begun: SimTime, slots: &Slots) -> EngineSample {
        let ahead = self.steps_ahead(begun);
        let end = self.next_step + self.run_step.times(u64::from(ahead));
        let pass =
            if ahead > 0 { Pass { prefill_tokens: 0, length: self.run_step } } else { self.pass };
        let steps = self.steps + ahead;
        let decodes = |slot: &u32| slots[*slot].progress(steps) >= slots[*slot].input;
        let decoding = || self.batch.iter().filter(decodes);
        EngineSample {
            place: self.id,
            pool: self.pool,
            pass: (self.running() > 0 || end > now).then_some(pass),
            decoding: decoding().count() as u32,
            decode_kv_tokens: decoding().map(|slot| u64::from(slots[slot].progress(steps))).sum(),
            queued_prompt_tokens: self.all_waiting().map(|slot| u64::from(slots[slot].input)).sum(),
            kv_tokens: u64::from(self.kv.used() + self.kv.free()) * u64::from(self.block_size()),
            limits: self.limits,
        }
    }
}
