//! The orders of requests on an instance: who waits before whom, who entered the batch when.

use crate::policy::queue::compare_as_text;
use crate::sim::live::Slots;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// The wait queue, in the order in which requests will be served.
#[derive(Debug, Default)]
pub struct WaitQueue {
    fcfs: bool,
    slots: VecDeque<u32>,
}

impl WaitQueue {
    /// Empties the queue; `fcfs` when it is served as it was queued.
    pub fn clear(&mut self, fcfs: bool) {
        self.fcfs = fcfs;
        self.slots.clear();
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Who is served next.
    pub fn first(&self) -> Option<u32> {
        self.slots.front().copied()
    }

    /// Removes who is served next.
    pub fn pop(&mut self) {
        self.slots.pop_front();
    }

    /// Adds a request at its place, behind its equals.
    pub fn push(&mut self, slot: u32, slots: &Slots) {
        if self.fcfs {
            self.slots.push_back(slot);
            return;
        }
        let at =
            self.slots.partition_point(|&other| before(other, slot, slots) != Ordering::Greater);
        self.slots.insert(at, slot);
    }

    /// Takes a request out.
    pub fn remove(&mut self, slot: u32) {
        self.slots.retain(|&other| other != slot);
    }

    /// Takes all out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = u32> {
        self.slots.drain(..)
    }

    /// Puts a request back that was thrown out of the batch: to the front, or at its place.
    pub fn push_back_in(&mut self, slot: u32, slots: &Slots) {
        if self.fcfs {
            self.slots.push_front(slot);
        } else {
            self.push(slot, slots);
        }
    }

    /// All who wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().copied()
    }
}

fn before(a: u32, b: u32, slots: &Slots) -> Ordering {
    let (a, b) = (&slots[a], &slots[b]);
    a.rank.cmp(&b.rank).then(a.arrival.cmp(&b.arrival)).then_with(|| compare_as_text(a.id, b.id))
}

const GONE: u32 = u32::MAX;

/// The batch in order of admission, with gaps where requests left.
#[derive(Debug, Default)]
pub struct BatchOrder {
    slots: VecDeque<u32>,
    /// The order of the first entry.
    first: u32,
}

impl BatchOrder {
    /// Empties the batch.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.first = 0;
    }

    /// Adds a request as number `order`, one more than the one before.
    pub fn push(&mut self, order: u32, slot: u32) {
        if self.slots.is_empty() {
            self.first = order;
        }
        // Requests thrown out from the back leave no gap, their numbers do.
        while self.first + (self.slots.len() as u32) < order {
            self.slots.push_back(GONE);
        }
        self.slots.push_back(slot);
    }

    /// Removes the request that entered as `order`.
    pub fn remove(&mut self, order: u32) {
        self.slots[(order - self.first) as usize] = GONE;
        while self.slots.front() == Some(&GONE) {
            self.slots.pop_front();
            self.first += 1;
        }
        while self.slots.back() == Some(&GONE) {
            self.slots.pop_back();
        }
    }

    /// Whether `slot` is in the batch as number `order`.
    pub fn holds(&self, order: u32, slot: u32) -> bool {
        order >= self.first && self.slots.get((order - self.first) as usize) == Some(&slot)
    }

    /// The request that entered last.
    pub fn last(&self) -> Option<u32> {
        self.slots.back().copied()
    }

    /// The first order in use, and one past the last.
    pub fn range(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.slots.len() as u32
    }

    /// The request that entered as `order`, if it is still there.
    pub fn get(&self, order: u32) -> Option<u32> {
        let at = order.checked_sub(self.first)?;
        self.slots.get(at as usize).copied().filter(|&slot| slot != GONE)
    }

    /// All requests of the batch, in order of admission.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().copied().filter(|&slot| slot != GONE)
    }
}
