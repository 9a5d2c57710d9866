//! The paged KV cache of one instance, with prefix caching.
//!
//! A block whose content another request could ask for is *named*: by its chain and its index on
//! it. All other blocks are alike and only counted. The free list keeps the order of release,
//! least recently used first, as a list of named blocks and of counts of unnamed ones; taking
//! from its head forgets what the block held.
//!
//! A private prompt (on no chain) can only be asked for by the request itself, after it was
//! thrown out of the batch. Private blocks are therefore named from an instance's first
//! preemption on, see [`KvCache::name_private`].

use crate::policy::view::ChainBlocks;
use crate::sim::block_map::{BlockMap, NO_BLOCK};
use crate::workload::NO_CHAIN;

/// Marks the chain of one request's own prompt.
const PRIVATE: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

/// A named block, or a count of unnamed blocks that are free together.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// [`NO_CHAIN`] for unnamed blocks.
    chain: u32,
    /// The index on the chain, or the count.
    index: u32,
    /// Requests that hold the block; on the free list when 0.
    holders: u32,
    previous: u32,
    next: u32,
}

/// What names the blocks of one request.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// The request's id, below 2^31.
    pub id: u32,
    /// The chain of its first blocks, or [`NO_CHAIN`].
    pub chain: u32,
    /// Blocks of prompt and answer that lie on the chain and its forebears, from the start.
    pub chain_blocks: u32,
    /// Full blocks that a look-up may cover: at least one prompt token is always computed.
    pub cover: u32,
}

/// The blocks of one request.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// Its named blocks, by index from 0.
    named: Vec<u32>,
    /// All its blocks.
    pub blocks: u32,
    /// Tokens they hold.
    pub tokens: u32,
}

impl Holding {
    /// Forgets all blocks and keeps the memory.
    pub fn clear(&mut self) {
        self.named.clear();
        (self.blocks, self.tokens) = (0, 0);
    }

    /// Takes note of decode steps that were counted and not made one by one.
    pub fn sync(&mut self, tokens: u32, block_size: u32) {
        if tokens > self.tokens {
            self.tokens = tokens;
            self.blocks = tokens.div_ceil(block_size);
        }
    }
}

/// The KV cache of one instance.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    block_size: u32,
    total: u32,
    used: u32,
    peak: u32,
    hits: u64,
    misses: u64,
    names_private: bool,
    map: BlockMap,
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    head: u32,
    tail: u32,
    /// The last look-up's blocks.
    found: Vec<u32>,
    found_free: u32,
}

impl KvCache {
    /// Empties the cache and gives it `total` blocks of `block_size` tokens.
    pub fn reset(&mut self, total: u32, block_size: u32) {
        self.block_size = block_size;
        self.total = total;
        (self.used, self.peak, self.hits, self.misses) = (0, 0, 0, 0);
        self.names_private = false;
        self.map.clear();
        self.nodes.clear();
        self.vacant.clear();
        (self.head, self.tail) = (NONE, NONE);
        self.push_unnamed(total);
    }

    /// Empties the cache and goes on counting hits, misses and the peak.
    pub fn renew(&mut self) {
        let kept = (self.hits, self.misses, self.peak);
        self.reset(self.total, self.block_size);
        (self.hits, self.misses, self.peak) = kept;
    }

    /// Blocks in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Blocks not in use; cached content counts as free.
    pub fn free(&self) -> u32 {
        self.total - self.used
    }

    /// Takes note of how many blocks a step uses.
    pub fn note_peak(&mut self) {
        self.peak = self.peak.max(self.used);
    }

    /// The most blocks that a step used; the block of an answer's last token, taken and given
    /// back within the step that ends it, does not count.
    pub fn peak(&self) -> u32 {
        self.peak
    }

    /// Hits and misses of the prefix cache, in blocks; blocks of answers are misses.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    /// Whether private prompts are named.
    pub fn names_private(&self) -> bool {
        self.names_private
    }

    /// Whether the next `count` blocks to be taken hold nothing that anybody could ask for.
    pub fn next_are_unnamed(&self, count: u32) -> bool {
        count == 0 || self.head == NONE || {
            let head = &self.nodes[self.head as usize];
            head.chain == NO_CHAIN && head.index >= count
        }
    }

    /// Looks for the longest cached start of a prompt and remembers it for [`Self::admit`];
    /// returns its length in blocks. Claims nothing.
    pub fn look_up(&mut self, naming: &Naming, chains: &ChainBlocks) -> u32 {
        self.found.clear();
        self.found_free = 0;
        let Self { found, map, nodes, found_free, .. } = self;
        let mut visit = |block: u32| {
            *found_free += u32::from(nodes[block as usize].holders == 0);
            found.push(block);
        };
        let shared = if naming.chain == NO_CHAIN { 0 } else { naming.chain_blocks };
        let mut index = 0;
        while index < naming.cover {
            let (chain, end) = if index < shared {
                let chain = chains.owner(naming.chain, index);
                (chain, end_on(chains, naming.chain, chain).min(shared))
            } else if self.names_private {
                (PRIVATE | naming.id, u32::MAX)
            } else {
                break;
            };
            let end = end.min(naming.cover);
            index = map.walk(chain, index, end, &mut visit);
            if index < end {
                break;
            }
        }
        index
    }

    /// Claims the blocks of the last look-up and takes room for the next `tokens` of the prompt;
    /// false, with nothing changed, when there is not enough.
    pub fn admit(
        &mut self,
        holding: &mut Holding,
        naming: &Naming,
        chains: &ChainBlocks,
        tokens: u32,
    ) -> bool {
        if tokens.div_ceil(self.block_size) + self.found_free > self.free() {
            return false;
        }
        debug_assert!(holding.named.is_empty(), "a request enters a batch with nothing");
        for at in 0..self.found.len() {
            let block = self.found[at];
            if self.nodes[block as usize].holders == 0 {
                self.unlink(block);
                self.used += 1;
            }
            self.nodes[block as usize].holders += 1;
            holding.named.push(block);
        }
        let found = self.found.len() as u32;
        self.hits += u64::from(found);
        holding.blocks = found;
        holding.tokens = found * self.block_size;
        self.extend(holding, naming, chains, tokens);
        true
    }

    /// Whether there is room for `tokens` more of a request.
    pub fn can_extend(&self, holding: &Holding, tokens: u32) -> bool {
        (holding.tokens + tokens).div_ceil(self.block_size) - holding.blocks <= self.free()
    }

    /// Takes room for `tokens` more of a request; the caller has asked [`Self::can_extend`].
    pub fn extend(
        &mut self,
        holding: &mut Holding,
        naming: &Naming,
        chains: &ChainBlocks,
        tokens: u32,
    ) {
        let full_before = holding.tokens / self.block_size;
        holding.tokens += tokens;
        let full = holding.tokens / self.block_size;
        for index in full_before..full.min(self.named_limit(naming)) {
            if index >= holding.blocks {
                self.take(1);
                holding.blocks += 1;
            }
            self.name(holding, naming, chains, index);
        }
        let blocks = holding.tokens.div_ceil(self.block_size);
        self.take(blocks - holding.blocks);
        holding.blocks = blocks;
    }

    /// Names block `index`, which a decode step has filled.
    pub fn fill(
        &mut self,
        holding: &mut Holding,
        naming: &Naming,
        chains: &ChainBlocks,
        index: u32,
    ) {
        if index < self.named_limit(naming) {
            self.name(holding, naming, chains, index);
        }
    }

    /// Takes `count` blocks from the head of the free list.
    pub fn take(&mut self, count: u32) {
        self.used += count;
        self.misses += u64::from(count);
        let mut wanted = count;
        while wanted > 0 {
            let head = self.head;
            let node = &mut self.nodes[head as usize];
            if node.chain == NO_CHAIN && node.index > wanted {
                node.index -= wanted;
                return;
            }
            let Node { chain, index, .. } = *node;
            if chain == NO_CHAIN {
                wanted -= index;
            } else {
                self.map.remove(chain, index);
                wanted -= 1;
            }
            self.unlink(head);
            self.vacant.push(head);
        }
    }

    /// Gives back all blocks of a request, the last first; `done` when it never comes back.
    pub fn release(&mut self, holding: &mut Holding, naming: &Naming, done: bool) {
        let unnamed = holding.blocks - holding.named.len() as u32;
        self.push_unnamed(unnamed);
        self.used -= unnamed;
        while let Some(block) = holding.named.pop() {
            let node = &mut self.nodes[block as usize];
            node.holders -= 1;
            if node.holders > 0 {
                continue;
            }
            self.used -= 1;
            let Node { chain, index, .. } = *node;
            if done && chain == PRIVATE | naming.id {
                self.map.remove(chain, index);
                self.vacant.push(block);
                self.push_unnamed(1);
            } else {
                self.push_tail(block);
            }
        }
        holding.blocks = 0;
        holding.tokens = 0;
    }

    /// From now on names private prompts. The blocks that running requests hold already are
    /// named by [`Self::name_held`].
    pub fn name_private(&mut self) {
        self.names_private = true;
    }

    /// Names the private blocks that a running request holds.
    pub fn name_held(&mut self, holding: &mut Holding, naming: &Naming, chains: &ChainBlocks) {
        let full = holding.tokens / self.block_size;
        for index in holding.named.len() as u32..full.min(self.named_limit(naming)) {
            self.name(holding, naming, chains, index);
        }
    }

    /// Blocks below this index are named when full.
    fn named_limit(&self, naming: &Naming) -> u32 {
        let shared = if naming.chain == NO_CHAIN { 0 } else { naming.chain_blocks };
        if self.names_private { shared.max(naming.cover) } else { shared }
    }

    fn name(&mut self, holding: &mut Holding, naming: &Naming, chains: &ChainBlocks, index: u32) {
        debug_assert_eq!(holding.named.len() as u32, index, "named blocks come in order");
        let shared = naming.chain != NO_CHAIN && index < naming.chain_blocks;
        let chain = if shared { chains.owner(naming.chain, index) } else { PRIVATE | naming.id };
        let block = self.node(Node { chain, index, holders: 1, previous: NONE, next: NONE });
        holding.named.push(block);
        self.map.insert(chain, index, block);
    }

    fn node(&mut self, node: Node) -> u32 {
        if let Some(at) = self.vacant.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    fn push_unnamed(&mut self, count: u32) {
        if count == 0 {
            return;
        }
        if self.tail != NONE {
            let tail = &mut self.nodes[self.tail as usize];
            if tail.chain == NO_CHAIN {
                tail.index += count;
                return;
            }
        }
        let node = Node { chain: NO_CHAIN, index: count, holders: 0, previous: NONE, next: NONE };
        let at = self.node(node);
        self.push_tail(at);
    }

    fn push_tail(&mut self, at: u32) {
        let tail = self.tail;
        let node = &mut self.nodes[at as usize];
        node.previous = tail;
        node.next = NONE;
        self.tail = at;
        if tail == NONE {
            self.head = at;
        } else {
            self.nodes[tail as usize].next = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Node { previous, next, .. } = self.nodes[at as usize];
        if previous == NONE {
            self.head = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next == NONE {
            self.tail = previous;
        } else {
            self.nodes[next as usize].previous = previous;
        }
    }
}

/// The first block of `chain` that does not lie on `forebear`.
fn end_on(chains: &ChainBlocks, chain: u32, forebear: u32) -> u32 {
    let mut end = u32::MAX;
    let mut at = chain;
    while at != forebear {
        end = chains.start(at);
        at = chains.parent(at);
    }
    end
}

const _: () = assert!(NO_BLOCK == NONE);

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Naming = Naming { id: 1, chain: NO_CHAIN, chain_blocks: 0, cover: 3 };

    fn cache(total: u32) -> (KvCache, ChainBlocks) {
        let mut cache = KvCache::default();
        cache.reset(total, 16);
        let mut chains = ChainBlocks::default();
        chains.rebuild(&[crate::workload::Chain { parent: NO_CHAIN, start: 0 }], 16);
        (cache, chains)
    }

    #[test]
    fn admission_counts_cached_blocks_on_the_free_list() {
        let (mut cache, chains) = cache(6);
        let session = Naming { id: 0, chain: 0, chain_blocks: 100, cover: 4 };
        let mut first = Holding::default();
        assert_eq!(cache.look_up(&session, &chains), 0);
        assert!(cache.admit(&mut first, &session, &chains, 80));
        cache.release(&mut first, &session, true);
        let mut second = Holding::default();
        assert_eq!(cache.look_up(&session, &chains), 4);
        assert!(!cache.admit(&mut second, &session, &chains, 33), "4 cached + 3 new > 6");
        assert!(cache.admit(&mut second, &session, &chains, 32));
        assert_eq!((cache.used(), cache.hits_and_misses()), (6, (4, 7)));
    }

    #[test]
    fn the_last_block_of_a_prompt_is_forgotten_first() {
        let (mut cache, chains) = cache(5);
        let session = Naming { id: 0, chain: 0, chain_blocks: 100, cover: 5 };
        let mut first = Holding::default();
        cache.look_up(&session, &chains);
        assert!(cache.admit(&mut first, &session, &chains, 80));
        cache.release(&mut first, &session, true);
        let mut other = Holding::default();
        cache.look_up(&PLAIN, &chains);
        assert!(cache.admit(&mut other, &PLAIN, &chains, 20));
        assert_eq!(cache.look_up(&session, &chains), 3);
    }

    #[test]
    fn a_preempted_prompt_finds_itself_again() {
        let (mut cache, chains) = cache(8);
        let mut holding = Holding::default();
        cache.look_up(&PLAIN, &chains);
        assert!(cache.admit(&mut holding, &PLAIN, &chains, 60));
        assert_eq!(cache.look_up(&PLAIN, &chains), 0);
        cache.name_private();
        cache.name_held(&mut holding, &PLAIN, &chains);
        cache.release(&mut holding, &PLAIN, false);
        assert_eq!(cache.look_up(&PLAIN, &chains), 3);
        assert!(cache.admit(&mut holding, &PLAIN, &chains, 12));
        cache.release(&mut holding, &PLAIN, true);
        assert_eq!((cache.look_up(&PLAIN, &chains), cache.free()), (0, 8));
    }
}
