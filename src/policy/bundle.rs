//! A policy bundle: every decision about a fleet, checked and in the units of the simulator.
//!
//! `config` reads bundles from YAML; the values here are already in range.

use crate::base::Span;
use crate::latency::Blackbox;

/// All that a candidate configuration decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyBundle {
    /// The pools of identical instances, at least one; instance indexes count through them in
    /// this order.
    pub pools: Vec<Pool>,
    /// Who is let in.
    pub admission: Admission,
    /// From arrival to the admission decision.
    pub admission_latency: Span,
    /// Where an admitted request goes.
    pub routing: Routing,
    /// From the admission decision to the routing decision.
    pub routing_latency: Span,
    /// How stale the router's signals are.
    pub signals: Signals,
    /// How urgent a waiting request is; read by the priority schedulers.
    pub priority: Priority,
    /// The order of the wait queue.
    pub scheduler: Scheduler,
    /// Limits of one step of the engine.
    pub batching: Batching,
    /// Tokens per KV block; at least 1.
    pub block_size: u32,
}

/// Identical instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its key in the bundle.
    pub name: String,
    /// The model's full identifier.
    pub model: String,
    /// The GPU type.
    pub gpu: String,
    /// GPUs per instance (tensor parallelism); at least 1.
    pub gpus_per_instance: u32,
    /// How many instances; at least 1 over all pools.
    pub instances: u32,
    /// KV blocks of one instance; at least 1.
    pub kv_blocks: u32,
    /// How long its steps take.
    pub latency: Blackbox,
    /// US dollars per GPU and hour.
    pub price_per_gpu_hour: f64,
    /// Where the price comes from and of which date, printed in every report.
    pub price_source: String,
}

/// Who is let in.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Everybody.
    AlwaysAdmit,
    /// Nobody.
    RejectAll,
    /// A request costs its prompt's tokens; the bucket starts full.
    TokenBucket {
        /// Tokens the bucket holds; above 0.
        capacity: f64,
        /// Tokens per second that flow in; above 0.
        refill_rate: f64,
    },
}

/// Where an admitted request goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// In turn.
    RoundRobin,
    /// To the smallest load (waiting + running + on the way), ties to the lowest index.
    LeastLoaded,
    /// To the largest load; an adversary for tests.
    AlwaysBusiest,
    /// To the highest weighted sum of scores, ties to the lowest index; weights above 0.
    Weighted(Vec<(ScorerKind, f64)>),
    /// Where the same last full prompt block went before, else as `LeastLoaded`.
    PrefixAffinity,
}

/// What a scorer looks at; scores are in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScorerKind {
    /// `(max - load) / (max - min)`; 1 for all when equal.
    QueueDepth,
    /// `1 - used / total` KV blocks.
    KvUtilization,
    /// `1 / (1 + load)`.
    LoadBalance,
    /// The share of the prompt's full blocks that this instance was sent before, from the start.
    PrefixAffinity,
}

impl ScorerKind {
    /// Every scorer, with its name in a bundle.
    pub const ALL: [(&'static str, Self); 4] = [
        ("queue-depth", Self::QueueDepth),
        ("kv-utilization", Self::KvUtilization),
        ("load-balance", Self::LoadBalance),
        ("prefix-affinity", Self::PrefixAffinity),
    ];
}

/// How stale the router's signals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals {
    /// KV utilization is refreshed when it is at least this old; zero: always live. Queue and
    /// batch are always live.
    pub kv_utilization_refresh: Span,
    /// Block identities that the router remembers per instance, least recently used first out.
    pub prefix_index_blocks: u32,
}

/// How urgent a waiting request is.
#[derive(Clone, Debug, PartialEq)]
pub enum Priority {
    /// All alike.
    Constant,
    /// Grows with age: the reference's `slo-based`, which never looks at a class.
    Age,
    /// Falls with age: the reference's `inverted-slo`.
    InvertedAge,
    /// By class: a higher number is more urgent; classes not named here have 0.
    SloClass(Vec<(String, f64)>),
    /// Earliest deadline first: arrival plus the class's TTFT target. Classes without a target
    /// come last.
    SloDeadline(Vec<(String, Span)>),
}

/// The order of the wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// As queued, preempted requests in front.
    Fcfs,
    /// Most urgent first, then arrival, then id.
    PriorityFcfs,
    /// Shortest prompt first, then arrival, then id.
    Sjf,
    /// Least urgent first; an adversary for tests.
    ReversePriority,
}

/// Limits of one step of the engine (vLLM's names: `max_num_seqs`, `max_num_batched_tokens`,
/// `long_prefill_token_threshold`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Requests in the batch; at least 1.
    pub max_running: u32,
    /// Tokens computed in one step; at least 1.
    pub max_tokens: u32,
    /// The largest chunk of a prompt in one step; 0: no limit of its own.
    pub long_prefill_threshold: u32,
}

impl PolicyBundle {
    /// US dollars per hour of the whole fleet.
    pub fn cost_per_hour(&self) -> f64 {
        self.pools.iter().map(Pool::cost_per_hour).sum()
    }

    /// The number of instances over all pools.
    pub fn instances(&self) -> u32 {
        self.pools.iter().map(|pool| pool.instances).sum()
    }
}

impl Pool {
    /// US dollars per hour of all its instances.
    pub fn cost_per_hour(&self) -> f64 {
        f64::from(self.instances) * f64::from(self.gpus_per_instance) * self.price_per_gpu_hour
    }
}
