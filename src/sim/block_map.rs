//! From block identities to blocks: which block of an instance holds which piece of a chain.

/// No block.
pub const NO_BLOCK: u32 = u32::MAX;
/// Consecutive blocks of a chain that share an entry, hence one look at memory.
const GROUP: u32 = 8;
const EMPTY: u64 = u64::MAX;

/// Eight consecutive blocks of one chain.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    blocks: [u32; GROUP as usize],
}

const VACANT: Entry = Entry { key: EMPTY, blocks: [NO_BLOCK; GROUP as usize] };

/// A map from (chain, index) to block, never iterated. Open addressing over groups of blocks,
/// with removal by shifting back, so that no tombstones build up.
#[derive(Clone, Debug, Default)]
pub struct BlockMap {
    entries: Vec<Entry>,
    used: usize,
}

impl BlockMap {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        if self.used > 0 {
            self.entries.fill(VACANT);
        }
        self.used = 0;
    }

    /// The block that holds `index` of `chain`, or [`NO_BLOCK`].
    #[cfg(test)]
    pub fn get(&self, chain: u32, index: u32) -> u32 {
        if self.used == 0 {
            return NO_BLOCK;
        }
        let entry = &self.entries[self.find(key_of(chain, index))];
        entry.blocks[(index % GROUP) as usize]
    }

    /// Calls `visit` with the block at each index of `chain` from `low` up to `high`, until one
    /// is absent; returns the first index not visited.
    pub fn walk(&self, chain: u32, low: u32, high: u32, mut visit: impl FnMut(u32)) -> u32 {
        let mut index = low;
        while index < high && self.used > 0 {
            let entry = &self.entries[self.find(key_of(chain, index))];
            let end = high.min((index / GROUP + 1) * GROUP);
            while index < end {
                let block = entry.blocks[(index % GROUP) as usize];
                if block == NO_BLOCK {
                    return index;
                }
                visit(block);
                index += 1;
            }
        }
        index
    }

    /// Lets `block` hold `index` of `chain`, in place of any other.
    pub fn insert(&mut self, chain: u32, index: u32, block: u32) {
        if (self.used + 1) * 2 > self.entries.len() {
            self.grow();
        }
        let at = self.find(key_of(chain, index));
        let entry = &mut self.entries[at];
        if entry.key == EMPTY {
            entry.key = key_of(chain, index);
            self.used += 1;
        }
        entry.blocks[(index % GROUP) as usize] = block;
    }

    /// Lets nothing hold `index` of `chain`.
    pub fn remove(&mut self, chain: u32, index: u32) {
        if self.used == 0 {
            return;
        }
        let at = self.find(key_of(chain, index));
        let entry = &mut self.entries[at];
        entry.blocks[(index % GROUP) as usize] = NO_BLOCK;
        if entry.key != EMPTY && entry.blocks == VACANT.blocks {
            self.used -= 1;
            self.shift_back(at);
        }
    }

    /// The place of `key`: where it is, or where it would go.
    fn find(&self, key: u64) -> usize {
        let mask = self.entries.len() - 1;
        let mut at = home(key, mask);
        while self.entries[at].key != key && self.entries[at].key != EMPTY {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(64);
        let old = std::mem::replace(&mut self.entries, vec![VACANT; size]);
        for entry in old {
            if entry.key != EMPTY {
                let at = self.find(entry.key);
                self.entries[at] = entry;
            }
        }
    }

    fn shift_back(&mut self, mut hole: usize) {
        let mask = self.entries.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let key = self.entries[at].key;
            if key == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(home(key, mask)) & mask;
            if from_home >= (at.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
        }
        self.entries[hole] = VACANT;
    }
}

fn key_of(chain: u32, index: u32) -> u64 {
    u64::from(chain) << 32 | u64::from(index / GROUP)
}

fn home(key: u64, mask: usize) -> usize {
    ((key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};
    use std::collections::BTreeMap;

    #[test]
    fn equals_a_tree_map() {
        let mut rng = Rng::new(3, Stream::RouterTies, 0);
        let (mut map, mut tree) = (BlockMap::default(), BTreeMap::new());
        for _ in 0..200_000 {
            let key = (rng.below(40) as u32, rng.below(64) as u32);
            if rng.below(2) == 0 {
                let block = rng.below(1000) as u32;
                map.insert(key.0, key.1, block);
                tree.insert(key, block);
            } else {
                map.remove(key.0, key.1);
                tree.remove(&key);
            }
            let key = (rng.below(40) as u32, rng.below(64) as u32);
            assert_eq!(map.get(key.0, key.1), tree.get(&key).copied().unwrap_or(NO_BLOCK));
        }
    }

    #[test]
    fn a_walk_ends_at_the_first_absent_block() {
        let mut map = BlockMap::default();
        for index in (0..30).filter(|&index| index != 21) {
            map.insert(5, index, 100 + index);
        }
        let mut seen = Vec::new();
        assert_eq!(map.walk(5, 3, 30, |block| seen.push(block)), 21);
        assert_eq!(seen, (103..121).collect::<Vec<_>>());
        assert_eq!(map.walk(5, 3, 10, |_| ()), 10);
        assert_eq!(map.walk(6, 0, 10, |_| ()), 0);
    }
}
