//! KV blocks one by one.

use std::collections::{BTreeMap, VecDeque};

/// What a block holds: which tokens, from the start of the prompt to the block's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Block `index` of a chain of tokens that requests share.
    Chain { chain: u32, index: u32 },
    /// Block `index` of tokens that only `request` has.
    Own { request: usize, index: u32 },
}

/// The blocks of one request.
#[derive(Default)]
pub(super) struct Holding {
    blocks: Vec<usize>,
    /// Tokens in them.
    tokens: u32,
}

#[derive(Clone, Default)]
struct Block {
    /// What it holds, once full.
    key: Option<Key>,
    /// How many requests hold it.
    owners: u32,
}

/// The KV cache of one instance.
pub(super) struct Kv {
    block_size: u32,
    blocks: Vec<Block>,
    /// Blocks nobody holds, the least recently released first.
    free: VecDeque<usize>,
    /// Where the tokens of a key were last computed.
    cached: BTreeMap<Key, usize>,
    /// Blocks found computed.
    pub hits: u64,
    /// Blocks taken from the free list.
    pub misses: u64,
}

impl Kv {
    pub fn new(blocks: u32, block_size: u32) -> Self {
        Self {
            block_size,
            blocks: vec![Block::default(); blocks as usize],
            free: (0..blocks as usize).collect(),
            cached: BTreeMap::new(),
            hits: 0,
            misses: 0,
        }
    }

    pub fn total(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub fn used(&self) -> u32 {
        self.total() - self.free.len() as u32
    }

    /// The blocks that hold the first of `keys`, up to the first key that is not cached.
    pub fn lookup(&self, keys: &[Key]) -> Vec<usize> {
        keys.iter().map_while(|key| self.cached.get(key).copied()).collect()
    }

    /// Whether a request with `holding` and `more` tokens needs more blocks than there are.
    pub fn can_never_hold(&self, holding: &Holding, more: u32) -> bool {
        (holding.tokens + more).div_ceil(self.block_size) > self.total()
    }

    /// Gives the cached blocks `hits` and room for `more` tokens to `holding`, or does nothing
    /// and says so where there is not enough; `key_of` names the request's blocks.
    pub fn allocate(
        &mut self,
        holding: &mut Holding,
        hits: &[usize],
        more: u32,
        key_of: impl Fn(u32) -> Key,
    ) -> bool {
        let room = holding.blocks.len() as u32 * self.block_size - holding.tokens;
        let fresh = more.saturating_sub(room).div_ceil(self.block_size);
        let revived = hits.iter().filter(|&&block| self.blocks[block].owners == 0).count();
        if fresh as usize + revived > self.free.len() {
            return false;
        }
        for &block in hits {
            self.revive(block);
            holding.blocks.push(block);
            holding.tokens += self.block_size;
        }
        for _ in 0..more {
            if holding.tokens == holding.blocks.len() as u32 * self.block_size {
                holding.blocks.push(self.take());
            }
            holding.tokens += 1;
            if holding.tokens.is_multiple_of(self.block_size) {
                let index = holding.blocks.len() - 1;
                self.label(holding.blocks[index], key_of(index as u32));
            }
        }
        true
    }

    /// Takes all blocks from `holding`; what they hold stays cached until they are used again.
    pub fn release(&mut self, holding: &mut Holding) {
        for &block in holding.blocks.iter().rev() {
            self.blocks[block].owners -= 1;
            if self.blocks[block].owners == 0 {
                self.free.push_back(block);
            }
        }
        *holding = Holding::default();
    }

    fn revive(&mut self, block: usize) {
        if self.blocks[block].owners == 0 {
            self.free.retain(|&other| other != block);
        }
        self.blocks[block].owners += 1;
        self.hits += 1;
    }

    fn take(&mut self) -> usize {
        let block = self.free.pop_front().expect("counted before");
        if let Some(key) = self.blocks[block].key.take() {
            self.cached.remove(&key);
        }
        self.blocks[block].owners = 1;
        self.misses += 1;
        block
    }

    fn label(&mut self, block: usize, key: Key) {
        self.blocks[block].key = Some(key);
        self.cached.insert(key, block);
    }
}
