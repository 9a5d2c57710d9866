//! What a policy may see: never a request's true answer length.

use crate::base::{ClientId, SimTime};
use crate::policy::load::Load;

/// A request as admission and routing see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView {
    /// Its position in the trace.
    pub id: u32,
    /// Who sent it.
    pub client: ClientId,
    /// Its SLO class.
    pub class: u8,
    /// When it reached the cluster.
    pub arrival: SimTime,
    /// Prompt length in tokens.
    pub input: u32,
    /// Full KV blocks of the prompt.
    pub prompt_blocks: u32,
    /// The chain that its first blocks lie on, or [`NO_CHAIN`](crate::workload::NO_CHAIN).
    pub chain: u32,
    /// How many of the prompt's full blocks lie on that chain and its parents.
    pub chain_blocks: u32,
}

/// The fleet as admission and routing see it; columns by instance.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView<'a> {
    /// Requests waiting, in the batch or on the way; always live.
    pub load: &'a Load,
    /// Share of KV blocks in use, of the age that the bundle says; only maintained where the
    /// router needs it.
    pub kv_utilization: &'a [f64],
    /// The chains that prompts share, in blocks.
    pub chains: &'a ChainBlocks,
    /// Which instances take requests, at least one; `None`: all.
    pub open: Option<&'a [bool]>,
    /// What else the router reads.
    pub seen: &'a Seen,
}

impl ClusterView<'_> {
    /// Whether `instance` takes requests.
    pub fn is_open(&self, instance: usize) -> bool {
        self.open.is_none_or(|open| open[instance])
    }

    /// The instances that take requests, in order.
    pub fn open_instances(&self) -> impl Iterator<Item = usize> + Clone + use<'_> {
        (0..self.load.len()).filter(|&instance| self.is_open(instance))
    }

    /// Requests that the router sent to `instance` and that have not left it.
    pub fn sent(&self, instance: usize) -> u32 {
        match self.seen.sent.get(instance) {
            Some(&sent) => sent,
            None => self.load.count(instance),
        }
    }
}

/// A column of [`Seen`], of which a router says which it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// [`Seen::waiting`] and [`Seen::running`].
    Metrics,
    /// [`Seen::sent`].
    Sent,
    /// [`Seen::prompt_tokens`].
    PromptTokens,
    /// [`Seen::cached`].
    Cached,
}

/// What instances export and what a router counts itself, by instance; only columns that the
/// router reads are maintained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that wait or are on the way, of the age that the bundle says.
    pub waiting: Vec<u32>,
    /// Requests in the batch, of the same age.
    pub running: Vec<u32>,
    /// Requests that this router sent and that have not left; empty where those are all that
    /// there are.
    pub sent: Vec<u32>,
    /// Tokens of those prompts among them that are not computed in full.
    pub prompt_tokens: Vec<u64>,
    /// Blocks of the prompt at hand that need not be computed, from the start: what is in the
    /// cache now.
    pub cached: Vec<u32>,
}

impl Seen {
    /// `instances` instances in which nothing was seen yet.
    pub fn reset(&mut self, instances: usize) {
        for column in [&mut self.waiting, &mut self.running, &mut self.cached] {
            column.clear();
            column.resize(instances, 0);
        }
        self.sent.clear();
        self.prompt_tokens.clear();
        self.prompt_tokens.resize(instances, 0);
    }
}

/// The chains of a workload in whole KV blocks.
#[derive(Clone, Debug, Default)]
pub struct ChainBlocks {
    parent: Vec<u32>,
    start: Vec<u32>,
    block_size: u32,
}

impl ChainBlocks {
    /// Reads the chains of `trace` for blocks of `block_size` tokens, reusing this one's memory.
    /// A block that straddles the point where a chain leaves its parent belongs to the chain.
    pub fn rebuild(&mut self, chains: &[crate::workload::Chain], block_size: u32) {
        self.parent.clear();
        self.parent.extend(chains.iter().map(|chain| chain.parent));
        self.start.clear();
        self.start.extend(chains.iter().map(|chain| chain.start / block_size));
        self.block_size = block_size;
    }

    /// Adds a chain.
    pub fn push(&mut self, chain: crate::workload::Chain) {
        self.parent.push(chain.parent);
        self.start.push(chain.start / self.block_size);
    }

    /// The number of chains.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Whether there is no chain.
    pub fn is_empty(&self) -> bool {
        self.parent.is_empty()
    }

    /// The chain that block `index` of a request on `chain` lies on: `chain` or a forebear.
    pub fn owner(&self, chain: u32, index: u32) -> u32 {
        let mut owner = chain;
        while index < self.start[owner as usize] {
            owner = self.parent[owner as usize];
        }
        owner
    }

    /// The first block that lies on `chain` itself.
    pub fn start(&self, chain: u32) -> u32 {
        self.start[chain as usize]
    }

    /// The chain that `chain` continues.
    pub fn parent(&self, chain: u32) -> u32 {
        self.parent[chain as usize]
    }
}
