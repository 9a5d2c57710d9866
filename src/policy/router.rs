//! Where an admitted request goes.

use crate::base::InstanceId;
use crate::policy::load::Load;
use crate::policy::prefix_index::PrefixIndex;
use crate::policy::view::{ClusterView, RequestView};
use crate::policy::{Routing, ScorerKind};
use crate::workload::NO_CHAIN;
use std::collections::BTreeMap;

/// Chooses where an admitted request goes.
/// Must depend only on its arguments and its own state.
pub trait Router {
    /// Whether [`ClusterView::kv_utilization`] is read.
    fn needs_kv_utilization(&self) -> bool {
        false
    }

    /// The open instance that serves `request`; calls come in order of time.
    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId;

    /// Forgets what was sent to `instance`, whose cache is gone.
    fn forget(&mut self, _instance: InstanceId) {}
}

/// The router that a bundle names, for a fleet of `instances`; the prefix scorer remembers
/// `prefix_blocks` blocks per instance.
pub fn router(routing: &Routing, instances: usize, prefix_blocks: u32) -> Box<dyn Router> {
    match routing {
        Routing::RoundRobin => Box::new(RoundRobin { next: 0 }),
        Routing::LeastLoaded => Box::new(LeastLoaded),
        Routing::AlwaysBusiest => Box::new(AlwaysBusiest),
        Routing::PrefixAffinity => Box::new(PrefixAffinity { sent: BTreeMap::new() }),
        Routing::Weighted(scorers) => Box::new(Weighted::new(scorers, instances, prefix_blocks)),
    }
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

/// The highest weighted sum of scores; ties go to the lowest index.
struct Weighted {
    scorers: Vec<(ScorerKind, f64)>,
    index: Option<PrefixIndex>,
    matched: Vec<u32>,
    scores: Vec<f64>,
}

impl Weighted {
    fn new(scorers: &[(ScorerKind, f64)], instances: usize, prefix_blocks: u32) -> Self {
        let total: f64 = scorers.iter().map(|&(_, weight)| weight).sum();
        let scorers: Vec<_> = scorers.iter().map(|&(kind, w)| (kind, w / total)).collect();
        let remembers = scorers.iter().any(|&(kind, _)| kind == ScorerKind::PrefixAffinity);
        Self {
            index: remembers.then(|| PrefixIndex::new(prefix_blocks, instances)),
            scorers,
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

    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId {
        if let Some(index) = &mut self.index {
            index.matched(request, cluster.chains, &mut self.matched);
        }
        self.add_scores(request, cluster);
        let (mut best, mut best_score) = (0, -1.0);
        for (instance, &score) in self.scores.iter().enumerate() {
            if score > best_score && cluster.is_open(instance) {
                (best, best_score) = (instance, score);
            }
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClientId, SimTime};
    use crate::policy::view::ChainBlocks;

    fn route(routing: &Routing, load: &[u32], kv_utilization: &[f64]) -> u32 {
        let request = RequestView {
            id: 0,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::ZERO,
            input: 10,
            prompt_blocks: 0,
            chain: NO_CHAIN,
            chain_blocks: 0,
        };
        let chains = ChainBlocks::default();
        let load = &Load::from(load);
        let cluster = ClusterView { load, kv_utilization, chains: &chains, open: None };
        router(routing, load.len(), 100).route(&request, &cluster).0
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        let weighted = Routing::Weighted(vec![(ScorerKind::QueueDepth, 2.0)]);
        for routing in [Routing::LeastLoaded, weighted] {
            assert_eq!(route(&routing, &[5, 3, 3], &[]), 1);
        }
        assert_eq!(route(&Routing::AlwaysBusiest, &[1, 3, 3], &[]), 1);
    }

    #[test]
    fn weights_decide_between_a_short_queue_and_a_free_cache() {
        let routing = |queue, kv| {
            Routing::Weighted(vec![
                (ScorerKind::QueueDepth, queue),
                (ScorerKind::KvUtilization, kv),
            ])
        };
        assert_eq!(route(&routing(1.0, 5.0), &[0, 1], &[0.9, 0.1]), 1);
        assert_eq!(route(&routing(5.0, 1.0), &[0, 1], &[0.9, 0.1]), 0);
    }
}
