//! Requests between arrival and answer, in slots that are used again.

use crate::base::{ClientId, SimTime, Span};
use crate::sim::kv::{Holding, Naming};

/// Where a live request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// On its way to the wait queue.
    #[default]
    Pending,
    /// In the wait queue.
    Waiting,
    /// In the batch, its prompt not yet computed in full.
    Prefilling,
    /// In the batch, one token a step.
    Decoding,
    /// Out of the batch; its last step has begun and not ended.
    Ending,
}

/// The instance of a request that has none.
pub const NOWHERE: u32 = u32::MAX;
/// The id in a slot without a request.
const NOBODY: u32 = u32::MAX;

/// A request between arrival and answer.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its position in the trace.
    pub id: u32,
    /// Who sent it.
    pub client: ClientId,
    /// Its SLO class.
    pub class: u8,
    /// Where it is.
    pub phase: Phase,
    /// When it reached the cluster first: latencies count from here.
    pub asked: SimTime,
    /// When this attempt reached the cluster.
    pub arrival: SimTime,
    /// When its client gives this attempt up.
    pub deadline: SimTime,
    /// Attempts before this one.
    pub attempt: u8,
    /// Whether its first token was reported to whoever watches latencies.
    pub seen: bool,
    /// Where it was sent, or [`NOWHERE`].
    pub instance: u32,
    /// Prompt tokens.
    pub input: u32,
    /// Answer tokens that it will get.
    pub output: u32,
    /// Answer tokens that it would have.
    pub wanted: u32,
    /// Since when it waits at the gateway; NEVER where it does not.
    pub gated: SimTime,
    /// When it was sent to its instance.
    pub routed: SimTime,
    /// What names its KV blocks.
    pub naming: Naming,
    /// Full KV blocks of the prompt.
    pub prompt_blocks: u32,
    /// Its place in the wait queue, see [`Ranking`](crate::policy::queue::Ranking).
    pub rank: u64,
    /// Its place in the batch: counts admissions of the instance.
    pub order: u32,
    /// Prompt tokens that were found in the cache when it last entered a batch.
    pub cached: u32,
    /// Prompt tokens computed or found; all tokens once it is [`Phase::Ending`].
    pub computed: u32,
    /// The step that finished the prompt; each later step adds a token.
    pub first_step: u32,
    /// The step that will finish the answer.
    pub finish_step: u32,
    /// When the prompt was last finished; NEVER before.
    pub first_token: SimTime,
    /// Steps it sat out since, for want of token budget.
    pub starved: Span,
    /// How often it was thrown out of the batch.
    pub preemptions: u32,
    /// Its KV blocks.
    pub holding: Holding,
}

impl Live {
    /// Makes it the next attempt of the same request, which has yet to reach the cluster.
    pub fn come_again(&mut self) {
        self.attempt += 1;
        self.phase = Phase::Pending;
        self.instance = NOWHERE;
        self.deadline = SimTime::NEVER;
        self.gated = SimTime::NEVER;
        self.output = self.wanted;
        self.seen = false;
        (self.cached, self.computed, self.preemptions) = (0, 0, 0);
        self.first_token = SimTime::NEVER;
        self.starved = Span::ZERO;
    }

    /// Tokens whose KV exists after step `steps`.
    pub fn progress(&self, steps: u32) -> u32 {
        match self.phase {
            Phase::Decoding => self.input + (steps - self.first_step),
            _ => self.computed,
        }
    }
}

/// Live requests by slot.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Live>,
    vacant: Vec<u32>,
}

impl Slots {
    /// Forgets all requests and keeps the memory.
    pub fn clear(&mut self) {
        self.vacant.clear();
        self.vacant.extend((0..self.slots.len() as u32).rev());
        for live in &mut self.slots {
            live.holding.clear();
        }
    }

    /// Puts a request into a slot. Its `holding` is replaced by the slot's own, for its memory.
    pub fn insert(&mut self, mut live: Live) -> u32 {
        if let Some(slot) = self.vacant.pop() {
            let place = &mut self.slots[slot as usize];
            std::mem::swap(&mut live.holding, &mut place.holding);
            *place = live;
            return slot;
        }
        self.slots.push(live);
        (self.slots.len() - 1) as u32
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: u32) {
        self.slots[slot as usize].id = NOBODY;
        self.vacant.push(slot);
    }

    /// Whether nobody is under way.
    pub fn is_empty(&self) -> bool {
        self.vacant.len() == self.slots.len()
    }

    /// Whether `slot` still holds this attempt of request `id`.
    pub fn holds(&self, slot: u32, id: u32, attempt: u8) -> bool {
        let live = &self.slots[slot as usize];
        live.id == id && live.attempt == attempt
    }
}

impl std::ops::Index<u32> for Slots {
    type Output = Live;
    fn index(&self, slot: u32) -> &Live {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Live {
        &mut self.slots[slot as usize]
    }
}
