//! What happens in one full step of an engine.
//!
//! Running requests come first, in order of admission: a chunk of the prompt or one token each.
//! When a request finds no free block, the request that entered the batch last is thrown out.
//! Then requests are admitted from the head of the wait queue, unless somebody was thrown out.

use crate::base::{InstanceId, SimTime, Span};
use crate::sim::engine::{Engine, Shared, Work};
use crate::sim::live::Phase;
use crate::sim::outcome::StepRecord;
use std::cmp::Reverse;

impl Engine {
    /// Whether in this step every running request surely gets its tokens and its blocks, so that
    /// those that decode need not be looked at one by one.
    pub(super) fn can_advance_together(&self, step: u32, slots: &crate::sim::live::Slots) -> bool {
        let limit = self.limits.max_tokens;
        let mut blocks = self.needing[self.class_of(step)];
        if self.prefilling.is_empty() {
            return self.decoding <= limit && blocks <= self.kv.free();
        }
        if self.decoding >= limit {
            return false;
        }
        let alone_and_last = self.prefills_alone_and_last();
        let mut budget = limit - self.decoding;
        for &slot in &self.prefilling {
            let live = &slots[slot];
            let wanted = self.chunk(live.input - live.computed, u32::MAX);
            if wanted > budget && !alone_and_last {
                return false;
            }
            let tokens = wanted.min(budget);
            let held = live.holding.tokens + tokens;
            blocks += held.div_ceil(self.block_size()) - live.holding.blocks;
            budget -= tokens;
        }
        blocks <= self.kv.free() && (alone_and_last || self.kv.next_are_unnamed(blocks))
    }

    /// Whether all who decode entered the batch before the only one whose prompt is computed.
    fn prefills_alone_and_last(&self) -> bool {
        self.prefilling.len() == 1 && self.batch.last() == Some(self.prefilling[0])
    }

    /// The next chunk of a prompt of which `rest` tokens are not computed.
    fn chunk(&self, rest: u32, budget: u32) -> u32 {
        let threshold = self.limits.long_prefill_threshold;
        let limited = if threshold > 0 { rest.min(threshold) } else { rest };
        limited.min(budget)
    }

    fn class_of(&self, step: u32) -> usize {
        (step % self.block_size()) as usize
    }

    pub(super) fn advance_together(&mut self, step: u32, work: &mut Work, cx: &mut Shared) {
        work.decode = self.decoding;
        work.budget -= self.decoding;
        // Who fills the same block of a chain last holds its name.
        let prefills_between = !self.prefilling.is_empty() && !self.prefills_alone_and_last();
        let merge = prefills_between && !self.members.is_empty();
        if merge {
            self.kv.take(self.needing[self.class_of(step)]);
        } else {
            self.take_step_blocks(step, cx);
        }
        let (filling, mut filled) = (self.class_of(step + 1), 0);
        for at in 0..self.prefilling.len() {
            let slot = self.prefilling[at];
            if merge {
                filled = self.fill_before(cx.slots[slot].order, filling, filled, step, cx);
            }
            let live = &mut cx.slots[slot];
            let tokens = self.chunk(live.input - live.computed, work.budget);
            self.kv.extend(&mut live.holding, &live.naming, cx.chains, tokens);
            live.computed += tokens;
            work.prefill += tokens;
            work.budget -= tokens;
        }
        if merge {
            self.fill_before(u32::MAX, filling, filled, step, cx);
        }
    }

    /// Names the blocks that members of class `filling` fill, from position `at` to those who
    /// entered the batch before `order`; returns the next position.
    fn fill_before(
        &mut self,
        order: u32,
        filling: usize,
        mut at: usize,
        step: u32,
        cx: &mut Shared,
    ) -> usize {
        while let Some(&(entered, slot)) = self.members[filling].get(at)
            && entered < order
        {
            self.fill(slot, step, cx);
            at += 1;
        }
        at
    }

    /// Takes the blocks that the next `count` decode steps need.
    pub(super) fn take_run_blocks(&mut self, count: u32, cx: &mut Shared) {
        if self.members.is_empty() {
            let blocks = self.blocks_needed(count);
            self.kv.take(blocks);
            return;
        }
        for step in 1..=count {
            self.take_step_blocks(self.steps + step, cx);
        }
    }

    /// Takes the blocks that the decode tokens of `step` need and names those that they fill.
    fn take_step_blocks(&mut self, step: u32, cx: &mut Shared) {
        let (needing, filling) = (self.class_of(step), self.class_of(step + 1));
        let blocks = self.needing[needing];
        if self.members.is_empty() || self.members[filling].is_empty() {
            self.kv.take(blocks);
        } else if self.kv.next_are_unnamed(blocks) {
            self.kv.take(blocks);
            for at in 0..self.members[filling].len() {
                self.fill(self.members[filling][at].1, step, cx);
            }
        } else {
            self.take_and_fill_in_order(needing, filling, step, cx);
        }
    }

    /// The same in order of admission: what is taken may be forgotten content that another
    /// request names anew in the same step.
    fn take_and_fill_in_order(
        &mut self,
        needing: usize,
        filling: usize,
        step: u32,
        cx: &mut Shared,
    ) {
        let mut taken = 0;
        for at in 0..self.members[filling].len() {
            let (order, slot) = self.members[filling][at];
            let before = self.members[needing].partition_point(|&(other, _)| other < order);
            // Blocks of one token are taken and filled by the same request.
            let reach = if needing == filling { at + 1 } else { before };
            self.kv.take((reach - taken) as u32);
            taken = reach;
            self.fill(slot, step, cx);
        }
        self.kv.take((self.members[needing].len() - taken) as u32);
    }

    fn fill(&mut self, slot: u32, step: u32, cx: &mut Shared) {
        let live = &mut cx.slots[slot];
        let tokens = live.progress(step - 1) + 1;
        let index = tokens / self.block_size() - 1;
        self.kv.fill(&mut live.holding, &live.naming, cx.chains, index);
    }

    pub(super) fn advance_one_by_one(&mut self, step: u32, work: &mut Work, cx: &mut Shared) {
        self.starved.clear();
        let mut stopped = false;
        let mut order = self.batch.range().start;
        while order < self.batch.range().end {
            if let Some(slot) = self.batch.get(order) {
                if !stopped && work.budget > 0 {
                    stopped = !self.advance_one(slot, step, work, cx);
                } else if cx.slots[slot].phase == Phase::Decoding {
                    self.starved.push(slot);
                }
            }
            order += 1;
        }
    }

    /// Gives one running request its tokens; false when it was thrown out itself.
    fn advance_one(&mut self, slot: u32, step: u32, work: &mut Work, cx: &mut Shared) -> bool {
        let block_size = self.block_size();
        let live = &mut cx.slots[slot];
        let decodes = live.phase == Phase::Decoding;
        let tokens = if decodes {
            live.holding.sync(live.progress(step - 1), block_size);
            1
        } else {
            self.chunk(live.input - live.computed, work.budget)
        };
        if (live.holding.tokens + tokens).div_ceil(block_size) > self.kv.used() + self.kv.free() {
            self.drop_running(slot, cx);
            return true;
        }
        while !self.kv.can_extend(&cx.slots[slot].holding, tokens) {
            let Some(victim) = self.batch.last() else { return false };
            work.preempted = true;
            self.preempt(victim, cx);
            if victim == slot {
                return false;
            }
        }
        let live = &mut cx.slots[slot];
        self.kv.extend(&mut live.holding, &live.naming, cx.chains, tokens);
        work.budget -= tokens;
        if decodes {
            work.decode += 1;
        } else {
            live.computed += tokens;
            work.prefill += tokens;
        }
        true
    }

    /// From now on names private prompts: somebody will come back for what is cached of one.
    pub(super) fn name_private(&mut self, cx: &mut Shared) {
        if self.kv.names_private() {
            return;
        }
        self.kv.name_private();
        for other in self.batch.iter() {
            let live = &mut cx.slots[other];
            let progress = live.progress(self.steps);
            live.holding.sync(progress, self.block_size());
            self.kv.name_held(&mut live.holding, &live.naming, cx.chains);
        }
    }

    /// Throws a request out of the batch; it will compute its prompt again.
    fn preempt(&mut self, slot: u32, cx: &mut Shared) {
        self.name_private(cx);
        self.leave_batch(slot, cx);
        let live = &mut cx.slots[slot];
        live.holding.sync(live.progress(self.steps), self.block_size());
        live.phase = Phase::Waiting;
        live.computed = 0;
        live.starved = Span::ZERO;
        live.preemptions += 1;
        self.outcome.preemptions += 1;
        self.kv.release(&mut live.holding, &live.naming, false);
        self.wait.push_back_in(slot, cx.slots);
    }

    /// Throws out the last of the batch until its blocks are within the limit, or one is left.
    pub(super) fn relieve(&mut self, work: &mut Work, cx: &mut Shared) {
        while self.running() > 1 && self.kv.used() > self.kv_limit {
            let Some(victim) = self.batch.last() else { return };
            work.preempted = true;
            self.preempt(victim, cx);
        }
    }

    /// Whether a request whose first chunk ends at `tokens` would bring the batch over its limit.
    fn would_be_relieved(&self, tokens: u32) -> bool {
        self.kv_limit != u32::MAX
            && self.running() > 0
            && self.kv.used() + tokens.div_ceil(self.block_size()) > self.kv_limit
    }

    /// Drops a request whose prompt and answer exceed the whole cache: it could only be thrown
    /// out and started again for ever.
    fn drop_running(&mut self, slot: u32, cx: &mut Shared) {
        self.leave_batch(slot, cx);
        let live = &mut cx.slots[slot];
        live.holding.sync(live.progress(self.steps), self.block_size());
        self.kv.release(&mut live.holding, &live.naming, true);
        cx.collect.dropped(&cx.slots[slot], self.id, self.next_step);
        cx.answered.push((cx.slots[slot].id, SimTime::NEVER));
        cx.load.remove(self.id as usize);
        cx.slots.remove(slot);
    }

    pub(super) fn leave_batch(&mut self, slot: u32, cx: &Shared) {
        let live = &cx.slots[slot];
        self.batch.remove(live.order);
        if live.phase == Phase::Decoding {
            self.decoding -= 1;
            self.leave_class(slot, cx);
        } else {
            self.prefilling.retain(|&other| other != slot);
        }
    }

    /// The class of steps at which a decoding request needs a block.
    fn needing_class(&self, live: &crate::sim::live::Live) -> usize {
        let size = self.block_size();
        ((live.first_step + 1 + size - live.input % size) % size) as usize
    }

    fn enter_class(&mut self, slot: u32, cx: &Shared) {
        let live = &cx.slots[slot];
        let class = self.needing_class(live);
        self.needing[class] += 1;
        if !self.members.is_empty() {
            let members = &mut self.members[class];
            let at = members.partition_point(|&(order, _)| order < live.order);
            members.insert(at, (live.order, slot));
        }
        self.finishing.push(Reverse((live.finish_step, live.order, slot)));
    }

    fn leave_class(&mut self, slot: u32, cx: &Shared) {
        let live = &cx.slots[slot];
        let class = self.needing_class(live);
        self.needing[class] -= 1;
        if !self.members.is_empty() {
            let members = &mut self.members[class];
            let at = members.partition_point(|&(order, _)| order < live.order);
            members.remove(at);
        }
    }

    pub(super) fn admit_waiting(&mut self, now: SimTime, work: &mut Work, cx: &mut Shared) {
        while self.running() < self.limits.max_running && work.budget > 0 {
            let Some(slot) = self.wait.first() else { return };
            let live = &mut cx.slots[slot];
            let cached = self.kv.look_up(&live.naming, cx.chains) * self.block_size();
            let tokens = self.chunk(live.input - cached, work.budget);
            if self.would_be_relieved(cached + tokens) {
                return;
            }
            if !self.kv.admit(&mut live.holding, &live.naming, cx.chains, tokens) {
                return;
            }
            self.wait.pop();
            live.phase = Phase::Prefilling;
            live.cached = cached;
            live.computed = cached + tokens;
            live.order = self.admitted;
            cx.collect.scheduled(live, now);
            self.batch.push(self.admitted, slot);
            self.prefilling.push(slot);
            self.admitted += 1;
            work.prefill += tokens;
            work.budget -= tokens;
        }
    }

    /// Puts off the answers of requests that got no token in this step.
    pub(super) fn rest_starved(&mut self, length: Span, cx: &mut Shared) {
        while let Some(slot) = self.starved.pop() {
            self.leave_class(slot, cx);
            let live = &mut cx.slots[slot];
            live.first_step += 1;
            live.finish_step += 1;
            live.starved += length;
            self.enter_class(slot, cx);
        }
    }

    /// Lets requests whose prompt is computed in full decode from the next step on.
    pub(super) fn finish_prompts(&mut self, end: SimTime, cx: &mut Shared) {
        let mut kept = 0;
        for at in 0..self.prefilling.len() {
            let slot = self.prefilling[at];
            let live = &mut cx.slots[slot];
            if live.computed < live.input {
                self.prefilling[kept] = slot;
                kept += 1;
                continue;
            }
            live.phase = Phase::Decoding;
            live.first_token = end;
            cx.collect.first_token(live, self.id);
            live.first_step = self.steps;
            live.finish_step = self.steps + (live.output.max(1) - 1);
            self.decoding += 1;
            self.enter_class(slot, cx);
        }
        self.prefilling.truncate(kept);
    }

    /// Ends the answers whose last token this step computed; returns how many.
    pub(super) fn finish_answers(&mut self, end: SimTime, cx: &mut Shared) -> u32 {
        while let Some(&Reverse((step, order, slot))) = self.finishing.peek() {
            if step > self.steps {
                break;
            }
            self.finishing.pop();
            if self.is_current(step, order, slot, cx.slots) {
                self.finished.push(slot);
            }
        }
        // Entries of one step leave the heap in order of admission, which is the batch's.
        let count = self.finished.len() as u32;
        for at in 0..self.finished.len() {
            self.finish_answer(self.finished[at], end, cx);
        }
        self.finished.clear();
        count
    }

    fn finish_answer(&mut self, slot: u32, end: SimTime, cx: &mut Shared) {
        if cx.mortal {
            return self.begin_end(slot, end, cx);
        }
        self.leave_batch(slot, cx);
        let live = &mut cx.slots[slot];
        live.holding.sync(live.progress(self.steps), self.block_size());
        if live.output > 0 && self.kv.can_extend(&live.holding, 1) {
            self.kv.extend(&mut live.holding, &live.naming, cx.chains, 1);
        }
        self.kv.release(&mut live.holding, &live.naming, true);
        cx.collect.completed(live, self.id, end);
        cx.answered.push((live.id, end));
        cx.load.remove(self.id as usize);
        cx.slots.remove(slot);
        self.outcome.completed += 1;
    }

    pub(super) fn record_step(
        &self,
        start: SimTime,
        length: Span,
        work: &Work,
        batch: u32,
        completed: u32,
        cx: &mut Shared,
    ) {
        cx.collect.steps.push(StepRecord {
            instance: InstanceId(self.id),
            step: u64::from(self.steps),
            start_us: start.as_us(),
            duration_us: length.as_us(),
            batch,
            prefill_tokens: work.prefill,
            decode_tokens: work.decode,
            completed,
            waiting_after: self.wait.len() as u32,
            kv_blocks_after: self.kv.used(),
        });
    }
}
