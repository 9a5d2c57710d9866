//! A policy bundle: every decision about a fleet, checked and in the units of the simulator.
//!
//! `config` reads bundles from YAML; the values here are already in range.

use crate::base::{Delay, Span};
use crate::config::Market;
use crate::latency::Blackbox;
use crate::policy::admission::Admission;
use crate::policy::autoscale::Autoscaling;
use crate::policy::gateway::Gateway;
use crate::policy::routing::Routing;

/// All that a candidate configuration decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyBundle {
    /// The pools of identical instances, at least one. Instance indexes count through their places
    /// in this order: a pool has as many as it may ever have instances at once.
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
    /// Who changes the number of instances; `None`: nobody does.
    pub autoscaling: Option<Autoscaling>,
    /// What happens between admission and an instance; by default nothing.
    pub gateway: Gateway,
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
    /// GPUs per instance (tensor times pipeline parallelism); at least 1.
    pub gpus_per_instance: u32,
    /// How many instances there are at the start; `min_instances <= instances <= max_instances`.
    pub instances: u32,
    /// No order to scale goes below this.
    pub min_instances: u32,
    /// No more than these at once; at least 1 over all pools.
    pub max_instances: u32,
    /// KV blocks of one instance; at least 1.
    pub kv_blocks: u32,
    /// How long its steps take.
    pub latency: Blackbox,
    /// US dollars per GPU and hour.
    pub price_per_gpu_hour: f64,
    /// Where the price comes from and of which date, printed in every report.
    pub price_source: String,
    /// How it is paid for: spot instances can be taken away.
    pub market: Market,
    /// The zones in which its instances are spread evenly; at least one, distinct.
    pub zones: Vec<String>,
    /// How long a new instance takes until it serves.
    pub start_up: StartUp,
}

/// How long a new instance takes until it serves, in three stages, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct StartUp {
    /// Scheduling, a node, the image.
    pub provisioning: Delay,
    /// Weights from disk, cache or network into the GPUs.
    pub loading: Delay,
    /// Compilation, CUDA graphs, test requests.
    pub warm_up: Delay,
}

impl Default for StartUp {
    /// 90 s of loading and warm-up, as `scalability-and-reliability.md` has it.
    fn default() -> Self {
        Self {
            provisioning: Delay::NONE,
            loading: Delay::Constant(Span::from_us(60_000_000)),
            warm_up: Delay::Constant(Span::from_us(30_000_000)),
        }
    }
}

impl StartUp {
    /// Mean time from launch to ready.
    pub fn mean(&self) -> Span {
        self.provisioning.mean() + self.loading.mean() + self.warm_up.mean()
    }
}

/// How stale the router's signals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals {
    /// KV utilization is refreshed when it is at least this old; zero: always live. The load (what
    /// waits, runs or is on the way, together) is always live.
    pub kv_utilization_refresh: Span,
    /// The same for what instances export beside it: how many requests wait and how many run.
    pub metrics_fetch_interval: Span,
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
    /// US dollars per hour of the whole fleet as it is at the start.
    pub fn cost_per_hour(&self) -> f64 {
        self.pools.iter().map(Pool::cost_per_hour).sum()
    }

    /// The number of instances over all pools at the start.
    pub fn instances(&self) -> u32 {
        self.pools.iter().map(|pool| pool.instances).sum()
    }

    /// The number of places for instances over all pools.
    pub fn places(&self) -> u32 {
        self.pools.iter().map(|pool| pool.max_instances).sum()
    }
}

impl Pool {
    /// A pool of `instances` instances for good, of one GPU each at a dollar an hour, without a
    /// name or a model: for models of queues, and for tests.
    pub fn bare(instances: u32, kv_blocks: u32, latency: Blackbox) -> Self {
        Self {
            name: "bare".to_owned(),
            model: String::new(),
            gpu: String::new(),
            gpus_per_instance: 1,
            instances,
            min_instances: instances,
            max_instances: instances,
            kv_blocks,
            latency,
            price_per_gpu_hour: 1.0,
            price_source: String::new(),
            market: Market::OnDemand,
            zones: vec!["zone-a".to_owned()],
            start_up: StartUp::default(),
        }
    }

    /// Gives it `instances` instances for good.
    pub fn fix(&mut self, instances: u32) {
        self.instances = instances;
        (self.min_instances, self.max_instances) = (instances, instances);
    }

    /// US dollars per hour of its instances at the start.
    pub fn cost_per_hour(&self) -> f64 {
        f64::from(self.instances) * self.instance_cost_per_hour()
    }

    /// US dollars per hour of one instance.
    pub fn instance_cost_per_hour(&self) -> f64 {
        f64::from(self.gpus_per_instance) * self.price_per_gpu_hour
    }
}
