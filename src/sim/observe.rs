//! What routers read beside load and KV utilization, for those that do.

use crate::base::SimTime;
use crate::policy::view::{Column, Seen};
use crate::sim::cluster::{Cluster, Scratch};
use crate::sim::engine::{Engine, Shared};
use crate::sim::kv::Naming;
use crate::sim::live::Slots;
use crate::sim::source::Source;
use crate::workload::ClientInfo;
use std::cmp::Reverse;

/// What the router of a run reads, and when it last looked.
pub struct Observing {
    reads_metrics: bool,
    refreshed: SimTime,
    /// What is counted anew for each request.
    counted: Vec<Column>,
    /// Instances that clients send to past the router.
    pinned: Vec<usize>,
}

impl Observing {
    /// For a router that reads `columns` of `seen`, which are those of the run's instances.
    pub fn new(columns: Vec<Column>, clients: &[ClientInfo], seen: &mut Seen) -> Self {
        let instances = seen.waiting.len();
        let pinned = clients.iter().filter_map(|client| client.pinned);
        let mut pinned: Vec<usize> = pinned.map(|instance| instance as usize).collect();
        pinned.sort_unstable();
        pinned.dedup();
        pinned.retain(|&instance| instance < instances);
        let reads_metrics = columns.contains(&Column::Metrics);
        let mut counted = columns;
        // Where nobody goes past the router, what it sent is the load.
        let is_load = |column: &Column| *column == Column::Sent && pinned.is_empty();
        counted.retain(|column| *column != Column::Metrics && !is_load(column));
        counted.sort_unstable_by_key(|&column| column as u8);
        counted.dedup();
        if counted.contains(&Column::Sent) {
            seen.sent.resize(instances, 0);
        }
        Self { reads_metrics, refreshed: SimTime::ZERO, counted, pinned }
    }
}

impl<S: Source> Cluster<'_, S> {
    /// Brings what instances export to the age that the bundle allows.
    pub(super) fn refresh_metrics(&mut self, now: SimTime) {
        let interval = self.bundle.signals.metrics_fetch_interval;
        if !self.observing.reads_metrics || now - self.observing.refreshed < interval {
            return;
        }
        self.observing.refreshed = now;
        let Scratch { engines, load, seen, .. } = &mut *self.s;
        for (at, engine) in engines.iter().enumerate() {
            seen.running[at] = engine.running();
            seen.waiting[at] = load.count(at) - engine.running();
        }
    }

    /// Counts what the router reads when it routes the request in `slot` at `now`.
    pub(super) fn count_for_router(&mut self, slot: u32, now: SimTime) {
        for at in 0..self.observing.counted.len() {
            match self.observing.counted[at] {
                Column::Sent => self.count_sent(),
                Column::PromptTokens => self.count_prompt_tokens(),
                Column::Cached => self.look_up(slot, now),
                Column::Metrics => {}
            }
        }
    }

    fn count_sent(&mut self) {
        let Scratch { engines, slots, load, seen, .. } = &mut *self.s;
        for (at, sent) in seen.sent.iter_mut().enumerate() {
            *sent = load.count(at);
        }
        for &at in &self.observing.pinned {
            seen.sent[at] -= engines[at].came_past_router(slots, self.source.clients());
        }
    }

    fn count_prompt_tokens(&mut self) {
        let Scratch { engines, slots, seen, .. } = &mut *self.s;
        for (tokens, engine) in seen.prompt_tokens.iter_mut().zip(engines) {
            *tokens = engine.prompt_tokens(slots, self.source.clients());
        }
    }

    /// Looks for the prompt in the caches of all instances.
    fn look_up(&mut self, slot: u32, now: SimTime) {
        let naming = self.s.slots[slot].naming;
        for at in 0..self.s.engines.len() {
            let begun = self.begun(at, now);
            self.s.seen.cached[at] =
                self.with_engine(at, |engine, cx| engine.cached_blocks(&naming, begun, cx));
        }
    }
}

impl Engine {
    fn is_past_router(&self, slot: u32, slots: &Slots, clients: &[ClientInfo]) -> bool {
        clients[slots[slot].client.index()].pinned == Some(self.id)
    }

    /// Requests that are not in the batch.
    fn outside(&self) -> impl Iterator<Item = u32> {
        let pending = self.pending.iter().map(|&Reverse((.., slot))| slot);
        self.wait.iter().chain(pending).chain(self.drops.iter().map(|&(.., slot)| slot))
    }

    /// How many requests of the load were sent here past the router: its clients want this
    /// instance, and it takes requests whenever the router sends any here.
    fn came_past_router(&self, slots: &Slots, clients: &[ClientInfo]) -> u32 {
        let all = self.outside().chain(self.batch.iter());
        all.filter(|&slot| self.is_past_router(slot, slots, clients)).count() as u32
    }

    /// Tokens of prompts that the router sent here and that are not computed in full.
    fn prompt_tokens(&self, slots: &Slots, clients: &[ClientInfo]) -> u64 {
        let all = self.outside().chain(self.prefilling.iter().copied());
        let sent = all.filter(|&slot| !self.is_past_router(slot, slots, clients));
        sent.map(|slot| u64::from(slots[slot].input)).sum()
    }

    /// Blocks of a prompt that need not be computed here, once the steps earlier than `begun` have
    /// taken and named theirs.
    fn cached_blocks(&mut self, naming: &Naming, begun: SimTime, cx: &mut Shared) -> u32 {
        if !self.frozen && self.run_length > 0 && begun > self.next_step {
            let steps = self.run_steps_before(begun).min(self.run_length);
            self.count_run(steps, cx);
        }
        self.kv.look_up(naming, cx.chains)
    }
}
