//! One instance: wait queue, batch, steps, and runs of decode steps taken in one jump.
//!
//! An engine has one due slot. Between two *full* steps, in which something enters or leaves the
//! batch or a prompt is computed, lie only decode steps of one length; they are planned as a run
//! and counted when the next full step is due, or when somebody asks. A request that arrives cuts
//! the run at the first step that could admit it.
//!
//! Requests that decode advance together: a request stores the number of the step that will
//! finish it, and no step touches it before.

use crate::base::{SimTime, Span};
use crate::latency::Blackbox;
use crate::policy::Batching;
use crate::policy::load::Load;
use crate::policy::signals::Pass;
use crate::policy::view::ChainBlocks;
use crate::sim::collect::Collector;
use crate::sim::kv::KvCache;
use crate::sim::live::{Phase, Slots};
use crate::sim::order::{BatchOrder, WaitQueue};
use crate::sim::outcome::InstanceOutcome;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the engines of a run share.
pub struct Shared<'a> {
    /// All live requests.
    pub slots: &'a mut Slots,
    /// Where figures go.
    pub collect: &'a mut Collector,
    /// The chains of the workload, in blocks.
    pub chains: &'a ChainBlocks,
    /// Requests waiting, running or on the way, by instance.
    pub load: &'a mut Load,
    /// Requests that left: their id and when their last step ends, NEVER when unanswered.
    pub answered: &'a mut Vec<(u32, SimTime)>,
    /// Per pool, the length of a step in which only so many requests decode.
    pub decode_steps: &'a [Vec<Span>],
    /// Every step by itself, recorded.
    pub keep_steps: bool,
    /// Answers complete when their last step ends, not when it begins.
    pub mortal: bool,
}

/// One instance.
#[derive(Debug)]
pub struct Engine {
    pub(super) id: u32,
    pub(super) latency: Blackbox,
    pub(super) limits: Batching,
    block_size: u32,
    pub(super) pool: u32,
    /// When the next step that was not counted yet begins, or could begin.
    pub(super) next_step: SimTime,
    pub(super) run_step: Span,
    pub(super) run_length: u32,
    /// Steps counted.
    pub(super) steps: u32,
    /// Requests on their way to the wait queue, by time and order of routing.
    pub(super) pending: BinaryHeap<Reverse<(SimTime, u32, u32)>>,
    /// Requests that will be dropped when they would join the wait queue: when, the order of
    /// routing, the slot.
    pub(super) drops: Vec<(SimTime, u32, u32)>,
    routed: u32,
    pub(super) wait: WaitQueue,
    pub(super) batch: BatchOrder,
    pub(super) admitted: u32,
    pub(super) prefilling: Vec<u32>,
    pub(super) decoding: u32,
    /// (finish step, order, slot); entries of requests that left or moved are passed over.
    pub(super) finishing: BinaryHeap<Reverse<(u32, u32, u32)>>,
    /// Requests that decode, by the step (modulo the block size) at which they need a block.
    pub(super) needing: Vec<u32>,
    /// The same with their order and slot, where the workload has chains.
    pub(super) members: Vec<Vec<(u32, u32)>>,
    pub(super) kv: KvCache,
    /// Requests that decode and got no token in this step.
    pub(super) starved: Vec<u32>,
    pub(super) finished: Vec<u32>,
    /// Requests whose last step has begun and not ended, in order of admission.
    pub(super) leaving: Vec<u32>,
    /// Nothing moves.
    pub(super) frozen: bool,
    /// By how much steps take longer.
    pub(super) slowness: f64,
    /// KV blocks in use above which the batch is made smaller.
    pub(super) kv_limit: u32,
    /// Prompt tokens of steps counted.
    pub(super) prefill_tokens: u64,
    /// The last step counted.
    pub(super) pass: Pass,
    pub(super) outcome: InstanceOutcome,
    kv_block_ps: u128,
    pub(super) busy: Span,
    pub(super) last_event: SimTime,
    pub(super) last_step_end: SimTime,
}

/// What one step computes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub prefill: u32,
    pub decode: u32,
    pub budget: u32,
    pub preempted: bool,
}

impl Engine {
    /// An idle engine without memory of its own yet; [`Self::reset`] makes it usable.
    pub fn new() -> Self {
        Self {
            id: 0,
            latency: Blackbox { alpha: [0.0; 3], beta: [0.0; 3] },
            limits: Batching { max_running: 1, max_tokens: 1, long_prefill_threshold: 0 },
            block_size: 1,
            pool: 0,
            next_step: SimTime::ZERO,
            run_step: Span::ZERO,
            run_length: 0,
            steps: 0,
            pending: BinaryHeap::new(),
            drops: Vec::new(),
            routed: 0,
            wait: WaitQueue::default(),
            batch: BatchOrder::default(),
            admitted: 0,
            prefilling: Vec::new(),
            decoding: 0,
            finishing: BinaryHeap::new(),
            needing: Vec::new(),
            members: Vec::new(),
            kv: KvCache::default(),
            starved: Vec::new(),
            finished: Vec::new(),
            leaving: Vec::new(),
            frozen: false,
            slowness: 1.0,
            kv_limit: u32::MAX,
            prefill_tokens: 0,
            pass: Pass::default(),
            outcome: InstanceOutcome::default(),
            kv_block_ps: 0,
            busy: Span::ZERO,
            last_event: SimTime::ZERO,
            last_step_end: SimTime::ZERO,
        }
    }

    /// Makes the engine instance `id`, idle and empty, reusing its memory.
    pub fn reset(&mut self, id: u32, setup: &EngineSetup) {
        self.id = id;
        (self.pool, self.latency) = (setup.pool, setup.latency);
        self.limits = setup.limits;
        self.block_size = setup.block_size;
        self.next_step = SimTime::ZERO;
        (self.run_step, self.run_length, self.steps) = (Span::ZERO, 0, 0);
        self.pending.clear();
        self.drops.clear();
        self.wait.clear(setup.fcfs);
        self.batch.clear();
        (self.routed, self.admitted, self.decoding) = (0, 0, 0);
        self.prefilling.clear();
        self.finishing.clear();
        self.needing.clear();
        self.needing.resize(setup.block_size as usize, 0);
        self.members.iter_mut().for_each(Vec::clear);
        self.members.resize(if setup.chained { setup.block_size as usize } else { 0 }, Vec::new());
        self.kv.reset(setup.kv_blocks, setup.block_size);
        self.starved.clear();
        self.finished.clear();
        self.leaving.clear();
        (self.frozen, self.slowness, self.prefill_tokens) = (false, 1.0, 0);
        self.pass = Pass::default();
        let limit = |share: f64| (share * f64::from(setup.kv_blocks)).floor() as u32;
        self.kv_limit = setup.preempt_above.map_or(u32::MAX, limit);
        self.outcome = InstanceOutcome::default();
        (self.kv_block_ps, self.busy) = (0, Span::ZERO);
        (self.last_event, self.last_step_end) = (SimTime::ZERO, SimTime::ZERO);
    }

    /// When something next happens here that others could notice.
    pub fn due(&self) -> SimTime {
        if self.frozen {
            return SimTime::NEVER;
        }
        let drop = self.drops.iter().map(|&(time, ..)| time).min().unwrap_or(SimTime::NEVER);
        drop.min(self.step_due())
    }

    fn step_due(&self) -> SimTime {
        if self.is_working() {
            return self.next_step + self.run_step.times(u64::from(self.run_length));
        }
        match self.pending.peek() {
            Some(&Reverse((time, ..))) => time.max(self.next_step),
            None => SimTime::NEVER,
        }
    }

    fn is_working(&self) -> bool {
        self.decoding > 0 || !self.prefilling.is_empty() || !self.wait.is_empty()
    }

    /// Requests in the batch.
    pub(super) fn running(&self) -> u32 {
        self.decoding + self.prefilling.len() as u32
    }

    /// Takes a request that the router sent here at `now`. It joins the wait queue after its
    /// queueing delay; a prompt larger than the whole cache will be dropped then. Steps earlier
    /// than `begun` have begun.
    pub fn accept(&mut self, slot: u32, now: SimTime, begun: SimTime, cx: &mut Shared) {
        let live = &cx.slots[slot];
        let queued = now + Span::from_us(self.latency.queueing_us(live.input));
        self.outcome.requests += 1;
        self.last_event = self.last_event.max(now);
        if live.input.div_ceil(self.block_size) > self.kv.used() + self.kv.free() {
            self.drops.push((queued, self.routed, slot));
            self.routed += 1;
            return;
        }
        self.pending.push(Reverse((queued, self.routed, slot)));
        self.routed += 1;
        if self.run_length > 0 && self.running() < self.limits.max_running {
            self.run_length = self.run_length.min(self.run_steps_before(queued.max(begun)));
        }
    }

    /// Does what is due at `now`, the value of [`Self::due`].
    pub fn advance(&mut self, now: SimTime, cx: &mut Shared) {
        if !self.drops.is_empty() {
            self.drop_oversized(now, cx);
            if now < self.step_due() {
                return;
            }
        }
        if self.run_length > 0 {
            self.count_run(self.run_length, cx);
        }
        self.next_step = now;
        self.full_step(now, cx);
        self.run_length = 0;
        // After a step without length others may have their turn before the next.
        if self.next_step > now {
            self.plan_run(cx);
        }
    }

    fn drop_oversized(&mut self, now: SimTime, cx: &mut Shared) {
        let mut at = 0;
        while at < self.drops.len() {
            let (time, _, slot) = self.drops[at];
            if time > now {
                at += 1;
                continue;
            }
            self.drops.remove(at);
            self.last_event = self.last_event.max(time);
            cx.collect.dropped(&cx.slots[slot], self.id, time);
            cx.answered.push((cx.slots[slot].id, SimTime::NEVER));
            cx.load.remove(self.id as usize);
            cx.slots.remove(slot);
        }
    }

    /// Moves requests that have reached the wait queue by `now`.
    pub(super) fn queue_pending(&mut self, now: SimTime, cx: &mut Shared) {
        while let Some(&Reverse((time, _, slot))) = self.pending.peek() {
            if time > now {
                break;
            }
            self.pending.pop();
            self.last_event = self.last_event.max(time);
            let live = &mut cx.slots[slot];
            live.phase = Phase::Waiting;
            cx.collect.enqueued(live, time);
            self.outcome.input_tokens += u64::from(live.input);
            self.wait.push(slot, cx.slots);
        }
    }

    /// One step with everything that can happen in it.
    fn full_step(&mut self, now: SimTime, cx: &mut Shared) {
        self.queue_pending(now, cx);
        self.last_event = self.last_event.max(now);
        let step = self.steps + 1;
        let mut work = Work { budget: self.limits.max_tokens, ..Work::default() };
        if self.kv.used() > self.kv_limit {
            self.relieve(&mut work, cx);
        }
        if self.running() > 0 {
            if self.can_advance_together(step, cx.slots) {
                self.advance_together(step, &mut work, cx);
            } else {
                self.advance_one_by_one(step, &mut work, cx);
            }
        }
        if !work.preempted {
            self.admit_waiting(now, &mut work, cx);
        }
        let batch = self.running();
        let length = self.step_length(work.prefill, work.decode);
        let end = now + length;
        self.steps = step;
        self.busy += length;
        self.kv.note_peak();
        self.kv_block_ps += u128::from(self.kv.used()) * u128::from(length.as_ps());
        self.outcome.decode_tokens += u64::from(work.decode);
        self.prefill_tokens += u64::from(work.prefill);
        self.pass = Pass { prefill_tokens: work.prefill, length };
        cx.collect.stepped(self.id, now, length, 1, work.decode);
        self.rest_starved(length, cx);
        self.finish_prompts(end, cx);
        let completed = self.finish_answers(end, cx);
        self.next_step = end;
        self.last_step_end = end;
        if cx.keep_steps {
            self.record_step(now, length, &work, batch, completed, cx);
        }
    }

    /// How long a step takes that computes these tokens.
    fn step_length(&self, prefill: u32, decode: u32) -> Span {
        let us = self.latency.step_us(u64::from(prefill), u64::from(decode));
        if self.slowness > 1.0 {
            return Span::from_us((us as f64 * self.slowness) as u64);
        }
        Span::from_us(us)
    }

    /// Counts `count` steps of the planned run.
    pub(super) fn count_run(&mut self, count: u32, cx: &mut Shared) {
        cx.collect.stepped(self.id, self.next_step, self.run_step, count, self.decoding);
        let used = u128::from(self.kv.used());
        let taken = self.blocks_over_time(count);
        let step_ps = u128::from(self.run_step.as_ps());
        self.kv_block_ps += (used * u128::from(count) + taken) * step_ps;
        self.take_run_blocks(count, cx);
        self.kv.note_peak();
        let length = self.run_step.times(u64::from(count));
        self.busy += length;
        self.steps += count;
        self.pass = Pass { prefill_tokens: 0, length: self.run_step };
        self.outcome.decode_tokens += u64::from(count) * u64::from(self.decoding);
        self.last_event =
            self.last_event.max(self.next_step + self.run_step.times(u64::from(count - 1)));
        self.next_step = self.next_step + length;
        self.last_step_end = self.next_step;
        self.run_length -= count;
    }

    /// Blocks that the next `count` decode steps take.
    pub(super) fn blocks_needed(&self, count: u32) -> u32 {
        let size = self.block_size;
        let mut blocks = count / size * self.decoding;
        for step in 1..=count % size {
            blocks += self.needing[((self.steps + step) % size) as usize];
        }
        blocks
    }

    /// The sum over the next `count` decode steps of the blocks taken up to and with each.
    fn blocks_over_time(&self, count: u32) -> u128 {
        let size = self.block_size;
        let (rounds, rest) = (u128::from(count / size), count % size);
        let per_round = u128::from(self.decoding);
        let (mut taken, mut round_sum, mut rest_sum) = (0u128, 0, 0);
        for step in 1..=size.min(count) {
            taken += u128::from(self.needing[((self.steps + step) % size) as usize]);
            round_sum += taken;
            if step <= rest {
                rest_sum += taken;
            }
        }
        if rounds == 0 {
            return rest_sum;
        }
        let full = round_sum * rounds + u128::from(size) * per_round * (rounds * (rounds - 1) / 2);
        full + rest_sum + u128::from(rest) * rounds * per_round
    }

    /// Plans the decode steps until something else must happen.
    pub(super) fn plan_run(&mut self, cx: &Shared) {
        let has_room = self.running() < self.limits.max_running;
        let only_decodes = self.prefilling.is_empty() && self.decoding > 0;
        if !only_decodes || cx.keep_steps || (has_room && !self.wait.is_empty()) {
            return;
        }
        if self.decoding > self.limits.max_tokens {
            return;
        }
        self.run_step = if self.slowness > 1.0 {
            self.step_length(0, self.decoding)
        } else {
            cx.decode_steps[self.pool as usize][self.decoding as usize]
        };
        if self.run_step == Span::ZERO {
            return;
        }
        let Some(finish) = self.next_finish(cx.slots) else { return };
        let longest = SimTime::LAST.as_ps() / self.run_step.as_ps();
        let mut length = (finish - self.steps - 1).min(longest.min(u64::from(u32::MAX)) as u32);
        if has_room && let Some(&Reverse((time, ..))) = self.pending.peek() {
            length = length.min(self.run_steps_before(time));
        }
        self.run_length = self.within_limit(self.with_free_blocks(length));
    }

    /// As many of `length` decode steps as begin before the batch must be made smaller.
    fn within_limit(&self, length: u32) -> u32 {
        let begins = |steps: u32| self.kv.used() + self.blocks_needed(steps - 1) <= self.kv_limit;
        if self.kv_limit == u32::MAX || self.running() < 2 || length == 0 || begins(length) {
            return length;
        }
        let (mut low, mut high) = (0, length);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if begins(middle) { low = middle } else { high = middle }
        }
        low
    }

    /// As many of `length` decode steps as the free blocks last for.
    fn with_free_blocks(&self, length: u32) -> u32 {
        let free = self.kv.free();
        let enough = |steps: u32| self.blocks_needed(steps) <= free;
        if u64::from(length / self.block_size + 1) * u64::from(self.decoding) <= u64::from(free)
            || enough(length)
        {
            return length;
        }
        let (mut low, mut high) = (0, length);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if enough(middle) { low = middle } else { high = middle }
        }
        low
    }

    /// The step at which the next answer will be finished.
    fn next_finish(&mut self, slots: &Slots) -> Option<u32> {
        while let Some(&Reverse((step, order, slot))) = self.finishing.peek() {
            if self.is_current(step, order, slot, slots) {
                return Some(step);
            }
            self.finishing.pop();
        }
        None
    }

    /// Whether an entry of `finishing` still speaks of a request in this batch.
    pub(super) fn is_current(&self, step: u32, order: u32, slot: u32, slots: &Slots) -> bool {
        let live = &slots[slot];
        self.batch.holds(order, slot) && live.phase == Phase::Decoding && live.finish_step == step
    }

    /// KV blocks in use once the steps earlier than `begun` have taken theirs.
    pub fn kv_used_at(&self, begun: SimTime) -> u32 {
        if self.run_length == 0 || begun <= self.next_step {
            return self.kv.used();
        }
        let steps = self.run_steps_before(begun);
        self.kv.used() + self.blocks_needed(steps.min(self.run_length))
    }

    /// Steps of the run that begin before `time`, were the run without end.
    pub(super) fn run_steps_before(&self, time: SimTime) -> u32 {
        let steps = time.since(self.next_step).as_ps().div_ceil(self.run_step.as_ps());
        steps.min(u64::from(u32::MAX)) as u32
    }

    /// The share of KV blocks in use once the steps earlier than `begun` have taken theirs.
    pub fn kv_utilization_at(&self, begun: SimTime) -> f64 {
        f64::from(self.kv_used_at(begun)) / f64::from(self.kv.used() + self.kv.free())
    }

    /// Cuts the run at `horizon`, the last point at which anything happens, and hands over the
    /// figures.
    pub fn finish(&mut self, horizon: SimTime, cx: &mut Shared) -> InstanceOutcome {
        if !self.frozen && self.run_length > 0 && self.next_step <= horizon {
            let begun = self.run_steps_before(horizon + Span::from_ps(1));
            self.count_run(begun.min(self.run_length), cx);
        }
        if !self.frozen {
            self.queue_pending(horizon, cx);
            self.end_answers(self.next_step, cx);
        }
        self.cut_requests(cx);
        if self.last_step_end <= horizon {
            self.last_event = self.last_event.max(self.last_step_end);
        }
        let (hits, misses) = self.kv.hits_and_misses();
        let looked_up = hits + misses;
        InstanceOutcome {
            steps: u64::from(self.steps),
            kv_blocks_peak: self.kv.peak(),
            kv_block_us: (self.kv_block_ps / 1_000_000) as u64,
            cache_hit_rate: if looked_up == 0 { 0.0 } else { hits as f64 / looked_up as f64 },
            busy_s: self.busy.as_secs(),
            end_us: self.last_event.as_us(),
            ..self.outcome
        }
    }

    fn cut_requests(&mut self, cx: &mut Shared) {
        let on_the_way = self.pending.drain().map(|Reverse((.., slot))| slot);
        let oversized = self.drops.drain(..).map(|(.., slot)| slot);
        for slot in on_the_way.chain(oversized) {
            cx.collect.cut(&cx.slots[slot], Some(self.id), false);
            self.outcome.queued += 1;
        }
        for slot in self.wait.iter() {
            cx.collect.cut(&cx.slots[slot], Some(self.id), false);
            self.outcome.queued += 1;
        }
        for slot in self.batch.iter().chain(self.leaving.drain(..)) {
            cx.collect.cut(&cx.slots[slot], Some(self.id), true);
            self.outcome.running += 1;
        }
    }

    /// Tokens per KV block.
    pub(super) fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Time stepping, in block-picoseconds of KV and in time, for means over the fleet.
    pub fn occupancy(&self) -> (u128, Span) {
        (self.kv_block_ps, self.busy)
    }
}

/// What makes an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineSetup {
    /// Its pool's position in the bundle.
    pub pool: u32,
    /// How long its steps take.
    pub latency: Blackbox,
    /// Limits of one step.
    pub limits: Batching,
    /// Tokens per KV block.
    pub block_size: u32,
    /// KV blocks.
    pub kv_blocks: u32,
    /// Whether the wait queue is served as it was queued.
    pub fcfs: bool,
    /// Whether requests share tokens.
    pub chained: bool,
    /// The share of KV blocks in use above which the batch is made smaller.
    pub preempt_above: Option<f64>,
}
