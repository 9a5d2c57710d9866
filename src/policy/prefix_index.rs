//! What the router remembers of the prompts it sent: per instance, the block identities used most
//! recently.
//!
//! The memory is a least-recently-used set of blocks, kept as runs: the blocks of one chain that
//! were last used together. A decision costs time per run, not per block.

use crate::policy::view::{ChainBlocks, RequestView};
use crate::workload::NO_CHAIN;

const NONE: u32 = u32::MAX;

/// Blocks `low..high` of one chain, last used together by one instance, lowest first.
#[derive(Clone, Copy, Debug)]
struct Run {
    chain: u32,
    low: u32,
    high: u32,
    instance: u32,
    /// The next run of the same chain, on any instance.
    next_of_chain: u32,
    older: u32,
    newer: u32,
}

/// The runs of one instance by recency.
#[derive(Clone, Copy, Debug)]
struct Recency {
    oldest: u32,
    newest: u32,
    blocks: u64,
}

/// A least-recently-used set of block identities per instance.
#[derive(Clone, Debug)]
pub struct PrefixIndex {
    capacity: u64,
    runs: Vec<Run>,
    vacant: Vec<u32>,
    first_of_chain: Vec<u32>,
    instances: Vec<Recency>,
    path: Vec<(u32, u32, u32)>,
}

impl PrefixIndex {
    /// An empty index of `capacity` blocks for each of `instances`.
    pub fn new(capacity: u32, instances: usize) -> Self {
        let empty = Recency { oldest: NONE, newest: NONE, blocks: 0 };
        Self {
            capacity: u64::from(capacity),
            runs: Vec::new(),
            vacant: Vec::new(),
            first_of_chain: Vec::new(),
            instances: vec![empty; instances],
            path: Vec::new(),
        }
    }

    /// Writes to `matched`, per instance, how many of the prompt's full blocks it was sent
    /// before, counted from the start without a gap.
    pub fn matched(&mut self, request: &RequestView, chains: &ChainBlocks, matched: &mut [u32]) {
        matched.fill(0);
        self.read_path(request, chains);
        for &(chain, low, high) in &self.path {
            if self.extend(chain, low, high, matched) == 0 {
                break;
            }
        }
    }

    /// Remembers that the prompt's full blocks were sent to `instance`.
    pub fn touch(&mut self, request: &RequestView, chains: &ChainBlocks, instance: usize) {
        self.read_path(request, chains);
        for step in 0..self.path.len() {
            let (chain, low, high) = self.path[step];
            self.forget(chain, high, instance);
            self.remember(chain, low, high, instance);
        }
        let own = if request.chain == NO_CHAIN { 0 } else { request.chain_blocks };
        if own < request.prompt_blocks {
            self.remember(NO_CHAIN, own, request.prompt_blocks, instance);
        }
        self.shrink(instance, self.capacity);
    }

    /// The chains that the prompt's blocks lie on, from the start, as (chain, low, high).
    fn read_path(&mut self, request: &RequestView, chains: &ChainBlocks) {
        self.path.clear();
        if self.first_of_chain.len() < chains.len() {
            self.first_of_chain.resize(chains.len(), NONE);
        }
        let (mut chain, mut high) = (request.chain, request.chain_blocks);
        while chain != NO_CHAIN && high > 0 {
            let low = chains.start(chain);
            if low < high {
                self.path.push((chain, low, high));
                high = low;
            }
            chain = chains.parent(chain);
        }
        self.path.reverse();
    }

    /// Extends the matches that reach `low` into blocks `low..high` of `chain`; returns the
    /// number of instances that match to the end.
    fn extend(&self, chain: u32, low: u32, high: u32, matched: &mut [u32]) -> usize {
        let mut complete = 0;
        let mut changed = true;
        while changed {
            changed = false;
            let mut at = self.first_of_chain[chain as usize];
            while at != NONE {
                let run = &self.runs[at as usize];
                let reach = &mut matched[run.instance as usize];
                if *reach >= low && *reach < high && run.low <= *reach && run.high > *reach {
                    changed |= run.high < high;
                    *reach = run.high.min(high);
                    complete += usize::from(*reach == high);
                }
                at = run.next_of_chain;
            }
        }
        complete
    }

    /// Drops blocks below `high` of `chain` from the older runs of `instance`. Blocks are
    /// forgotten from the lowest up, so that what is left of a run lies above.
    fn forget(&mut self, chain: u32, high: u32, instance: usize) {
        let mut before = NONE;
        let mut at = self.first_of_chain[chain as usize];
        while at != NONE {
            let run = self.runs[at as usize];
            if run.instance as usize == instance && run.low < high {
                let cut = run.high.min(high);
                self.instances[instance].blocks -= u64::from(cut - run.low);
                if cut == run.high {
                    self.unlink_from_chain(before, at);
                    self.unlink_from_recency(at);
                    self.vacant.push(at);
                    at = run.next_of_chain;
                    continue;
                }
                self.runs[at as usize].low = cut;
            }
            before = at;
            at = run.next_of_chain;
        }
    }

    fn remember(&mut self, chain: u32, low: u32, high: u32, instance: usize) {
        let next_of_chain =
            if chain == NO_CHAIN { NONE } else { self.first_of_chain[chain as usize] };
        let older = self.instances[instance].newest;
        let instance_id = instance as u32;
        let run =
            Run { chain, low, high, instance: instance_id, next_of_chain, older, newer: NONE };
        let id = if let Some(id) = self.vacant.pop() {
            self.runs[id as usize] = run;
            id
        } else {
            self.runs.push(run);
            (self.runs.len() - 1) as u32
        };
        if chain != NO_CHAIN {
            self.first_of_chain[chain as usize] = id;
        }
        let recency = &mut self.instances[instance];
        recency.blocks += u64::from(high - low);
        recency.newest = id;
        if older == NONE {
            recency.oldest = id;
        } else {
            self.runs[older as usize].newer = id;
        }
    }

    /// Forgets all blocks of `instance`.
    pub fn forget_instance(&mut self, instance: usize) {
        self.shrink(instance, 0);
    }

    /// Forgets the least recently used blocks of `instance` beyond `capacity`.
    fn shrink(&mut self, instance: usize, capacity: u64) {
        while self.instances[instance].blocks > capacity {
            let excess = self.instances[instance].blocks - capacity;
            let at = self.instances[instance].oldest;
            let run = self.runs[at as usize];
            let length = u64::from(run.high - run.low);
            let cut = excess.min(length);
            self.instances[instance].blocks -= cut;
            if cut < length {
                self.runs[at as usize].low += cut as u32;
                continue;
            }
            if run.chain != NO_CHAIN {
                self.unlink_from_chain(self.before_in_chain(at), at);
            }
            self.unlink_from_recency(at);
            self.vacant.push(at);
        }
    }

    fn before_in_chain(&self, id: u32) -> u32 {
        let mut before = NONE;
        let mut at = self.first_of_chain[self.runs[id as usize].chain as usize];
        while at != id {
            before = at;
            at = self.runs[at as usize].next_of_chain;
        }
        before
    }

    fn unlink_from_chain(&mut self, before: u32, id: u32) {
        let run = self.runs[id as usize];
        if before == NONE {
            self.first_of_chain[run.chain as usize] = run.next_of_chain;
        } else {
            self.runs[before as usize].next_of_chain = run.next_of_chain;
        }
    }

    fn unlink_from_recency(&mut self, id: u32) {
        let Run { older, newer, instance, .. } = self.runs[id as usize];
        if older == NONE {
            self.instances[instance as usize].oldest = newer;
        } else {
            self.runs[older as usize].newer = newer;
        }
        if newer == NONE {
            self.instances[instance as usize].newest = older;
        } else {
            self.runs[newer as usize].older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClientId, Rng, SimTime, Stream};
    use crate::workload::Chain;
    use std::collections::VecDeque;

    fn request(id: u32, chain: u32, chain_blocks: u32, prompt_blocks: u32) -> RequestView {
        RequestView {
            id,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::ZERO,
            input: 0,
            prompt_blocks,
            chain,
            chain_blocks,
        }
    }

    /// The same memory, one block at a time.
    struct Plain {
        capacity: usize,
        blocks: Vec<VecDeque<(u32, u32, u32)>>,
    }

    impl Plain {
        fn key(request: &RequestView, chains: &ChainBlocks, index: u32) -> (u32, u32, u32) {
            if request.chain != NO_CHAIN && index < request.chain_blocks {
                (chains.owner(request.chain, index), 0, index)
            } else {
                (NO_CHAIN, request.id, index)
            }
        }

        fn matched(&self, request: &RequestView, chains: &ChainBlocks, instance: usize) -> u32 {
            (0..request.prompt_blocks)
                .take_while(|&index| {
                    self.blocks[instance].contains(&Self::key(request, chains, index))
                })
                .count() as u32
        }

        fn touch(&mut self, request: &RequestView, chains: &ChainBlocks, instance: usize) {
            let blocks = &mut self.blocks[instance];
            for index in 0..request.prompt_blocks {
                let key = Self::key(request, chains, index);
                blocks.retain(|&block| block != key);
                blocks.push_back(key);
                if blocks.len() > self.capacity {
                    blocks.pop_front();
                }
            }
        }
    }

    #[test]
    fn runs_of_blocks_equal_single_blocks() {
        let mut rng = Rng::new(7, Stream::RouterTies, 0);
        let chain = |parent, start| Chain { parent, start };
        let list = [
            chain(NO_CHAIN, 0),
            chain(NO_CHAIN, 0),
            chain(0, 48),
            chain(0, 40),
            chain(2, 90),
            chain(0, 0),
        ];
        let mut chains = ChainBlocks::default();
        chains.rebuild(&list, 8);
        for capacity in [5, 17, 40] {
            let mut index = PrefixIndex::new(capacity, 3);
            let mut plain = Plain { capacity: capacity as usize, blocks: vec![VecDeque::new(); 3] };
            for id in 0..3000 {
                let prompt_blocks = rng.below(30) as u32;
                let request = match rng.below(8) {
                    c @ 0..6 => {
                        let chain_blocks = (rng.below(30) as u32).min(prompt_blocks);
                        request(id, c as u32, chain_blocks, prompt_blocks)
                    }
                    _ => request(id, NO_CHAIN, 0, prompt_blocks),
                };
                let mut matched = [0; 3];
                index.matched(&request, &chains, &mut matched);
                for (instance, &found) in matched.iter().enumerate() {
                    assert_eq!(found, plain.matched(&request, &chains, instance), "{request:?}");
                }
                let instance = rng.below(3) as usize;
                index.touch(&request, &chains, instance);
                plain.touch(&request, &chains, instance);
                if rng.below(100) == 0 {
                    index.forget_instance(instance);
                    plain.blocks[instance].clear();
                }
            }
        }
    }
}
