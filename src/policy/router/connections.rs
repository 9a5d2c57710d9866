//! Routers that count their own connections, or none: what balancers in front of web servers do.
//!
//! A connection is a request that this router sent to an instance and that has not left it. What
//! reaches an instance past the router is not seen.

use crate::base::{InstanceId, Rng};
use crate::policy::router::{Router, pick};
use crate::policy::view::{ClusterView, Column, RequestView};
use crate::workload::NO_CHAIN;

/// The next of `candidates` by smooth weighted round robin: each gains its weight, the richest is
/// taken (ties to the lowest index) and pays what all gained.
fn in_turn(weights: &[f64], credit: &mut [f64], candidates: impl Iterator<Item = usize>) -> usize {
    let (mut best, mut total) = (None, 0.0);
    for at in candidates {
        credit[at] += weights[at];
        total += weights[at];
        if best.is_none_or(|best: usize| credit[at] > credit[best]) {
            best = Some(at);
        }
    }
    let best = best.unwrap_or(0);
    credit[best] -= total;
    best
}

/// In turn, as often as weights say.
pub(super) struct WeightedRoundRobin {
    weights: Vec<f64>,
    credit: Vec<f64>,
}

impl WeightedRoundRobin {
    pub fn new(weights: Vec<f64>) -> Self {
        Self { credit: vec![0.0; weights.len()], weights }
    }
}

impl Router for WeightedRoundRobin {
    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        let candidates = cluster.open_instances();
        InstanceId::new(in_turn(&self.weights, &mut self.credit, candidates))
    }
}

/// The fewest connections over weight; ties in turn by weight.
pub(super) struct LeastConnections {
    weights: Vec<f64>,
    credit: Vec<f64>,
}

impl LeastConnections {
    pub fn new(weights: Vec<f64>) -> Self {
        Self { credit: vec![0.0; weights.len()], weights }
    }

    #[expect(clippy::float_cmp, reason = "only what is equal to the last bit is a tie")]
    pub fn choose(&mut self, cluster: &ClusterView) -> usize {
        let Self { weights, credit } = self;
        let per_weight = |at: usize| f64::from(cluster.sent(at)) / weights[at];
        let least = cluster.open_instances().map(per_weight).fold(f64::INFINITY, f64::min);
        let fewest = || cluster.open_instances().filter(|&at| per_weight(at) == least);
        match (fewest().next(), fewest().nth(1)) {
            (Some(only), None) => only,
            _ => in_turn(weights, credit, fewest()),
        }
    }
}

impl Router for LeastConnections {
    fn columns(&self) -> Vec<Column> {
        vec![Column::Sent]
    }

    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        InstanceId::new(self.choose(cluster))
    }
}

/// The fewest connections of a few taken at random, with repetition; ties to the first taken.
pub(super) struct LeastOutstanding {
    choices: u32,
    rng: Rng,
}

impl LeastOutstanding {
    pub fn new(choices: u32, rng: Rng) -> Self {
        Self { choices, rng }
    }
}

impl Router for LeastOutstanding {
    fn columns(&self) -> Vec<Column> {
        vec![Column::Sent]
    }

    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        let mut best = pick::any(cluster, &mut self.rng);
        for _ in 1..self.choices {
            let other = pick::any(cluster, &mut self.rng);
            if cluster.sent(other) < cluster.sent(best) {
                best = other;
            }
        }
        InstanceId::new(best)
    }
}

/// Where a session, or another request with the same prefix, went before.
pub(super) struct SessionAffinity {
    /// By chain: the instance, and how often that had lost its cache when it was chosen.
    homes: Vec<Option<(u32, u32)>>,
    /// How often an instance lost its cache.
    losses: Vec<u32>,
    fallback: LeastConnections,
}

impl SessionAffinity {
    pub fn new(instances: usize) -> Self {
        Self {
            homes: Vec::new(),
            losses: vec![0; instances],
            fallback: LeastConnections::new(vec![1.0; instances]),
        }
    }
}

impl Router for SessionAffinity {
    fn columns(&self) -> Vec<Column> {
        vec![Column::Sent]
    }

    fn route(&mut self, request: &RequestView, cluster: &ClusterView) -> InstanceId {
        if request.chain == NO_CHAIN {
            return InstanceId::new(self.fallback.choose(cluster));
        }
        let chain = request.chain as usize;
        if self.homes.len() <= chain {
            self.homes.resize(cluster.chains.len().max(chain + 1), None);
        }
        let still = |&(at, losses): &(u32, u32)| {
            losses == self.losses[at as usize] && cluster.is_open(at as usize)
        };
        if let Some((home, _)) = self.homes[chain].filter(still) {
            return InstanceId(home);
        }
        let home = self.fallback.choose(cluster);
        self.homes[chain] = Some((home as u32, self.losses[home]));
        InstanceId::new(home)
    }

    fn forget(&mut self, instance: InstanceId) {
        self.losses[instance.index()] += 1;
    }
}

#[cfg(test)]
mod tests {
    use crate::base::InstanceId;
    use crate::policy::router::fixture::Fixture;
    use crate::policy::view::RequestView;
    use crate::policy::{Routing, Weights};
    use crate::workload::{Chain, NO_CHAIN};

    fn in_turn(routing: Routing, load: &[u32], count: usize) -> Vec<u32> {
        let fixture = Fixture::of(load);
        let bundle = crate::policy::PolicyBundle {
            pools: load
                .iter()
                .map(|_| {
                    crate::policy::Pool::bare(
                        1,
                        10,
                        fixture.bundle(Routing::RoundRobin).pools[0].latency,
                    )
                })
                .collect(),
            ..fixture.bundle(routing)
        };
        let mut router = crate::policy::router::router(&bundle, 1);
        (0..count).map(|_| router.route(&Fixture::request(), &fixture.cluster()).0).collect()
    }

    #[test]
    fn turns_are_as_nginx_takes_them() {
        // The example of its authors: weights 5, 1, 1.
        let weights = Weights::Pools(vec![5.0, 1.0, 1.0]);
        let turns = in_turn(Routing::WeightedRoundRobin(weights), &[0; 3], 14);
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        let equal = in_turn(Routing::WeightedRoundRobin(Weights::Equal), &[0; 3], 6);
        assert_eq!(equal, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn connections_are_divided_by_weights_and_ties_go_in_turn() {
        let least = |weights: [f64; 3], load: &[u32], count| {
            in_turn(Routing::LeastConnections(Weights::Pools(weights.to_vec())), load, count)
        };
        assert_eq!(least([1.0; 3], &[4, 3, 5], 2), [1, 1]);
        // 2, 3 and 2.5 connections per weight.
        assert_eq!(least([2.0, 1.0, 2.0], &[4, 3, 5], 2), [0, 0]);
        assert_eq!(least([1.0; 3], &[4, 3, 3], 4), [1, 2, 1, 2]);
        assert_eq!(least([2.0, 1.0, 1.0], &[0; 3], 4), [0, 1, 2, 0]);
    }

    #[test]
    fn what_went_past_the_router_is_not_a_connection() {
        let mut fixture = Fixture::of(&[50, 4]);
        fixture.seen.sent = vec![3, 4];
        let mut router = fixture.router(Routing::LeastConnections(Weights::Equal));
        let request = Fixture::request();
        assert_eq!(router.route(&request, &fixture.cluster()), InstanceId(0));
        assert_eq!(
            fixture.router(Routing::LeastLoaded).route(&request, &fixture.cluster()),
            InstanceId(1)
        );
    }

    #[test]
    fn of_two_taken_at_random_the_worst_wins_only_against_itself() {
        let fixture = Fixture::of(&[9, 5, 1, 7]);
        let shares = |choices| {
            let mut router = fixture.router(Routing::LeastOutstanding(choices));
            let mut times = [0_u32; 4];
            for _ in 0..40_000 {
                times[router.route(&Fixture::request(), &fixture.cluster()).index()] += 1;
            }
            times.map(|times| (f64::from(times) / 40_000.0 * 16.0).round() as u32)
        };
        // Of 16 pairs the best is in 7, the next alone in 5, then 3, then 1.
        assert_eq!(shares(2), [1, 5, 7, 3]);
        assert_eq!(shares(1), [4; 4]);
    }

    #[test]
    fn a_session_stays_until_its_home_is_closed_or_forgets() {
        let mut fixture = Fixture::of(&[0, 3, 3]);
        let first = Chain { parent: NO_CHAIN, start: 0 };
        fixture.chains.rebuild(&[first, first], 16);
        let mut router = fixture.router(Routing::SessionAffinity);
        let of = |chain| RequestView { chain, ..Fixture::request() };
        assert_eq!(router.route(&of(0), &fixture.cluster()), InstanceId(0));
        let mut busy = Fixture::of(&[9, 3, 3]);
        assert_eq!(router.route(&of(0), &busy.cluster()), InstanceId(0), "it stays");
        assert_eq!(router.route(&of(1), &busy.cluster()), InstanceId(1), "another one");
        assert_eq!(router.route(&of(NO_CHAIN), &busy.cluster()), InstanceId(2), "nobody's");
        router.forget(InstanceId(0));
        assert_eq!(router.route(&of(0), &busy.cluster()), InstanceId(1), "its cache is gone");
        busy.close(1);
        assert_eq!(router.route(&of(0), &busy.cluster()), InstanceId(2), "its home is closed");
        assert_eq!(router.route(&of(0), &fixture.cluster()), InstanceId(2), "and it moved");
    }
}
