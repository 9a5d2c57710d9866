//! Where an admitted request goes.

mod connections;
pub mod f5;
#[cfg(test)]
mod fixture;
mod pick;
pub mod scorers;

use crate::base::{InstanceId, Rng, Stream};
use crate::policy::load::Load;
use crate::policy::prefix_index::PrefixIndex;
use crate::policy::view::{ClusterView, Column, RequestView};
use crate::policy::{Picker, PolicyBundle, Pool, Routing, ScorerKind, Weights};
use crate::workload::NO_CHAIN;
use connections::{LeastConnections, LeastOutstanding, SessionAffinity, WeightedRoundRobin};
use f5::F5Router;
use scorers::ColdPrompts;
use std::collections::BTreeMap;

/// Chooses where an admitted request goes.
/// Must depend only on its arguments, its own state and its own random stream.
pub trait Router {
    /// Whether [`ClusterView::kv_utilization`] is read.
    fn needs_kv_utilization(&self) -> bool {
        false
    }

    /// The columns of [`ClusterView::seen`] that are read.
    fn columns(&self) -> Vec<Column> {
        Vec::new()
    }

    /// The open instance that serves `request`; calls come in order of time.
    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId;

    /// Forgets what was sent to `instance`, whose cache is gone.
    fn forget(&mut self, _instance: InstanceId) {}
}

/// The router that `bundle` names; `seed` is that of its random choices.
pub fn router(bundle: &PolicyBundle, seed: u64) -> Box<dyn Router> {
    let instances = bundle.places() as usize;
    let memory = bundle.signals.prefix_index_blocks;
    let rng = Rng::new(seed, Stream::RouterTies, 0);
    let weighted = |scorers, picker| Box::new(Weighted::new(scorers, picker, instances, memory));
    match &bundle.routing {
        Routing::RoundRobin => Box::new(RoundRobin { next: 0 }),
        Routing::LeastLoaded => Box::new(LeastLoaded),
        Routing::AlwaysBusiest => Box::new(AlwaysBusiest),
        Routing::PrefixAffinity => Box::new(PrefixAffinity { sent: BTreeMap::new() }),
        Routing::Weighted(scorers) => weighted(scorers, None),
        Routing::Picked(scorers, picker) => weighted(scorers, Some((*picker, rng))),
        Routing::WeightedRoundRobin(weights) => {
            Box::new(WeightedRoundRobin::new(instance_weights(weights, bundle)))
        }
        Routing::LeastConnections(weights) => {
            Box::new(LeastConnections::new(instance_weights(weights, bundle)))
        }
        Routing::LeastOutstanding(choices) => Box::new(LeastOutstanding::new(*choices, rng)),
        Routing::SessionAffinity => Box::new(SessionAffinity::new(instances)),
        Routing::F5(f5) => Box::new(F5Router::new(*f5, instances, rng)),
    }
}

/// The weight of each place of `bundle`.
pub fn instance_weights(weights: &Weights, bundle: &PolicyBundle) -> Vec<f64> {
    let weight = |(at, pool): (usize, &Pool)| match weights {
        Weights::Equal => 1.0,
        Weights::Capacity => capacity(pool, bundle.batching.max_running),
        Weights::Pools(weights) => weights[at],
    };
    let pools = bundle.pools.iter().enumerate();
    let each = |(at, pool): (usize, &Pool)| {
        std::iter::repeat_n(weight((at, pool)), pool.max_instances as usize).collect::<Vec<_>>()
    };
    pools.flat_map(each).collect()
}

/// Tokens per second of an instance whose batch is full and computes as many tokens of prompts as
/// of answers; a pool in which steps take no time counts as the fastest that there is.
fn capacity(pool: &Pool, max_running: u32) -> f64 {
    let [step, prefill, decode] = pool.latency.beta;
    let us = prefill + decode + step / f64::from(max_running);
    2e6 / us.max(1e-3)
}

struct RoundRobin {
    next: usize,
}

impl Router for RoundRobin {
    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        let mut chosen = self.next;
        while !cluster.is_open(chosen) {
            chosen = (chosen + 1) % cluster.load.len();
        }
        self.next = (chosen + 1) % cluster.load.len();
        InstanceId(chosen as u32)
    }
}

struct LeastLoaded;

impl Router for LeastLoaded {
    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        least_loaded(cluster.load)
    }
}

fn least_loaded(load: &Load) -> InstanceId {
    InstanceId(load.least_loaded() as u32)
}

struct AlwaysBusiest;

impl Router for AlwaysBusiest {
    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        let mut best: Option<usize> = None;
        for (instance, &load) in cluster.load.iter().enumerate() {
            let busier = best.is_none_or(|best| load > cluster.load[best]);
            if busier && cluster.is_open(instance) {
                best = Some(instance);
            }
        }
        InstanceId(best.unwrap_or(0) as u32)
    }
}

/// Remembers where each last full prompt block went.
struct PrefixAffinity {
    sent: BTreeMap<(u32, u32), InstanceId>,
}

impl Router for PrefixAffinity {
    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId {
        // Only a prompt that ends on a chain can come again.
        let shared = request.chain != NO_CHAIN
            && request.prompt_blocks > 0
            && request.chain_blocks == request.prompt_blocks;
        if !shared {
            return least_loaded(cluster.load);
        }
        let last = request.prompt_blocks - 1;
        let key = (cluster.chains.owner(request.chain, last), last);
        let home = self.sent.entry(key).or_insert_with(|| least_loaded(cluster.load));
        if !cluster.is_open(home.index()) {
            *home = least_loaded(cluster.load);
        }
        *home
    }

    fn forget(&mut self, instance: InstanceId) {
        self.sent.retain(|_, home| *home != instance);
    }
}

/// The highest weighted sum of scores, ties to the lowest index, unless a picker says otherwise.
struct Weighted {
    scorers: Vec<(ScorerKind, f64)>,
    picker: Option<(Picker, Rng)>,
    index: Option<PrefixIndex>,
    cold: Option<ColdPrompts>,
    matched: Vec<u32>,
    scores: Vec<f64>,
}

impl Weighted {
    fn new(
        scorers: &[(ScorerKind, f64)],
        picker: Option<(Picker, Rng)>,
        instances: usize,
        prefix_blocks: u32,
    ) -> Self {
        let total: f64 = scorers.iter().map(|&(_, weight)| weight).sum();
        let scorers: Vec<_> = scorers.iter().map(|&(kind, w)| (kind, w / total)).collect();
        let has = |wanted| scorers.iter().any(|&(kind, _)| kind == wanted);
        Self {
            index: has(ScorerKind::PrefixAffinity)
                .then(|| PrefixIndex::new(prefix_blocks, instances)),
            cold: has(ScorerKind::NoHitLru).then(|| ColdPrompts::new(instances)),
            scorers,
            picker,
            matched: vec![0; instances],
            scores: vec![0.0; instances],
        }
    }

    fn add_scores(&mut self, request: &RequestView, cluster: &ClusterView) {
        self.scores.fill(0.0);
        for &(kind, weight) in &self.scorers {
            match kind {
                ScorerKind::QueueDepth => add_queue_depth(&mut self.scores, weight, cluster),
                ScorerKind::LoadBalance => {
                    add(&mut self.scores, weight, cluster.load, |&load| {
                        1.0 / (1.0 + f64::from(load))
                    });
                }
                ScorerKind::KvUtilization => {
                    add(&mut self.scores, weight, cluster.kv_utilization, |&used| 1.0 - used);
                }
                ScorerKind::PrefixAffinity => {
                    if request.prompt_blocks > 0 {
                        let blocks = f64::from(request.prompt_blocks);
                        add(&mut self.scores, weight, &self.matched, |&matched| {
                            f64::from(matched) / blocks
                        });
                    }
                }
                kind => {
                    let scores = &mut self.scores;
                    scorers::add_scores(kind, weight, cluster, self.cold.as_mut(), scores);
                }
            }
        }
    }
}

fn add<T>(scores: &mut [f64], weight: f64, column: &[T], score: impl Fn(&T) -> f64) {
    for (total, value) in scores.iter_mut().zip(column) {
        *total += score(value).clamp(0.0, 1.0) * weight;
    }
}

/// The shortest queue scores 1, the longest 0, and equals all score 1.
fn add_queue_depth(scores: &mut [f64], weight: f64, cluster: &ClusterView) {
    let load: &[u32] = cluster.load;
    let widen = |(least, most): (u32, u32), &value: &u32| (least.min(value), most.max(value));
    let (least, most) = if cluster.open.is_none() {
        load.iter().fold((u32::MAX, 0), widen)
    } else {
        let open = load.iter().enumerate().filter(|&(instance, _)| cluster.is_open(instance));
        open.map(|(_, value)| value).fold((u32::MAX, 0), widen)
    };
    if least == most {
        return add(scores, weight, load, |_| 1.0);
    }
    let range = f64::from(most - least);
    add(scores, weight, load, |&value| f64::from(most.saturating_sub(value)) / range);
}

impl Router for Weighted {
    fn needs_kv_utilization(&self) -> bool {
        self.scorers.iter().any(|&(kind, _)| kind == ScorerKind::KvUtilization)
    }

    fn columns(&self) -> Vec<Column> {
        let columns = |&(kind, _): &(ScorerKind, f64)| scorers::columns(kind);
        self.scorers.iter().flat_map(columns).copied().collect()
    }

    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId {
        if let Some(index) = &mut self.index {
            index.matched(request, cluster.chains, &mut self.matched);
        }
        self.add_scores(request, cluster);
        let best = match &mut self.picker {
            None => pick::first_best(&self.scores, cluster),
            Some((Picker::AnyBest, rng)) => pick::any_best(&self.scores, cluster, rng),
            Some((Picker::WeightedRandom, rng)) => {
                pick::weighted_random(&self.scores, cluster, rng)
            }
        };
        if let Some(cold) = &mut self.cold {
            cold.sent(cluster, best);
        }
        if let Some(index) = &mut self.index {
            index.touch(request, cluster.chains, best);
        }
        InstanceId(best as u32)
    }

    fn forget(&mut self, instance: InstanceId) {
        if let Some(index) = &mut self.index {
            index.forget_instance(instance.index());
        }
        if let Some(cold) = &mut self.cold {
            cold.forget(instance.index());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;
    use crate::latency::Blackbox;

    fn route(routing: Routing, load: &[u32], kv_utilization: &[f64]) -> u32 {
        let fixture = Fixture { kv_utilization: kv_utilization.to_vec(), ..Fixture::of(load) };
        fixture.router(routing).route(&Fixture::request(), &fixture.cluster()).0
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        let weighted = Routing::Weighted(vec![(ScorerKind::QueueDepth, 2.0)]);
        for routing in [Routing::LeastLoaded, weighted] {
            assert_eq!(route(routing, &[5, 3, 3], &[]), 1);
        }
        assert_eq!(route(Routing::AlwaysBusiest, &[1, 3, 3], &[]), 1);
    }

    #[test]
    fn weights_decide_between_a_short_queue_and_a_free_cache() {
        let routing = |queue, kv| {
            Routing::Weighted(vec![
                (ScorerKind::QueueDepth, queue),
                (ScorerKind::KvUtilization, kv),
            ])
        };
        assert_eq!(route(routing(1.0, 5.0), &[0, 1], &[0.9, 0.1]), 1);
        assert_eq!(route(routing(5.0, 1.0), &[0, 1], &[0.9, 0.1]), 0);
    }

    #[test]
    fn capacity_is_that_of_a_full_batch() {
        let mut bundle = Fixture::of(&[0]).bundle(Routing::RoundRobin);
        let fast = Blackbox { alpha: [0.0; 3], beta: [6400.0, 10.0, 5.0] };
        let slow = Blackbox { alpha: [0.0; 3], beta: [6400.0, 50.0, 25.0] };
        bundle.pools = vec![Pool::bare(1, 10, fast), Pool::bare(2, 10, slow)];
        bundle.batching.max_running = 256;
        // 10 + 5 + 6400 / 256 us for a token of each kind; 50 + 25 + 25.
        let weights = instance_weights(&Weights::Capacity, &bundle);
        assert_eq!(weights, [2e6 / 40.0, 2e6 / 100.0, 2e6 / 100.0]);
        let weights = instance_weights(&Weights::Pools(vec![3.0, 1.5]), &bundle);
        assert_eq!(weights, [3.0, 1.5, 1.5]);
    }
}
