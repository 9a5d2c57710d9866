//! What happens next: one slot per instance.

use crate::base::SimTime;

/// Up to this many slots are scanned; more are kept in a tournament.
const SCAN_MAX: usize = 32;

/// The due times of instances; ties go to the lowest index.
///
/// An arrival re-keys a slot, which heaps can only do by leaving dead entries behind. A scan of
/// a short array or a tournament tree overwrites.
#[derive(Debug, Default)]
pub struct Agenda {
    due: Vec<SimTime>,
    /// Winners of the matches, root at 1; empty while slots are few.
    winners: Vec<u32>,
    /// Leaves of the tournament: a power of two.
    leaves: usize,
}

impl Agenda {
    /// `slots` slots in which nothing is due.
    pub fn reset(&mut self, slots: usize) {
        self.due.clear();
        self.due.resize(slots, SimTime::NEVER);
        self.winners.clear();
        if slots > SCAN_MAX {
            self.leaves = slots.next_power_of_two();
            self.due.resize(self.leaves, SimTime::NEVER);
            self.winners.resize(self.leaves, 0);
            for node in (1..self.leaves).rev() {
                self.winners[node] = self.winner(node);
            }
        }
    }

    /// The earliest due time and its slot.
    pub fn first(&self) -> (SimTime, usize) {
        if !self.winners.is_empty() {
            let slot = self.winners[1] as usize;
            return (self.due[slot], slot);
        }
        let (mut best, mut slot) = (SimTime::NEVER, 0);
        for (at, &due) in self.due.iter().enumerate() {
            if due < best {
                (best, slot) = (due, at);
            }
        }
        (best, slot)
    }

    /// Sets when `slot` is due.
    pub fn set(&mut self, slot: usize, due: SimTime) {
        self.due[slot] = due;
        if self.winners.is_empty() {
            return;
        }
        let mut node = usize::midpoint(slot, self.leaves);
        while node > 0 {
            self.winners[node] = self.winner(node);
            node /= 2;
        }
    }

    fn winner(&self, node: usize) -> u32 {
        let player = |child: usize| {
            if child >= self.leaves { (child - self.leaves) as u32 } else { self.winners[child] }
        };
        let (left, right) = (player(2 * node), player(2 * node + 1));
        if self.due[right as usize] < self.due[left as usize] { right } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    #[test]
    fn scan_and_tournament_equal_a_sorted_list() {
        let mut rng = Rng::new(5, Stream::RouterTies, 0);
        for slots in [1, 2, 31, 32, 33, 64, 100] {
            let mut agenda = Agenda::default();
            agenda.reset(slots);
            let mut list = vec![SimTime::NEVER; slots];
            for _ in 0..2000 {
                let slot = rng.below(slots as u64) as usize;
                let due = match rng.below(40) {
                    0..10 => SimTime::NEVER,
                    time => SimTime::from_us(time),
                };
                agenda.set(slot, due);
                list[slot] = due;
                let first = list.iter().enumerate().map(|(at, &due)| (due, at)).min();
                let (due, at) = agenda.first();
                assert_eq!(Some(due), first.map(|(due, _)| due));
                if due != SimTime::NEVER {
                    assert_eq!(Some((due, at)), first);
                }
            }
        }
    }
}
