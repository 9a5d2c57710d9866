//! Scorers of the reference's later version and of the llm-d endpoint picker.

use crate::policy::ScorerKind;
use crate::policy::view::{ClusterView, Column};

/// The columns of [`Seen`](crate::policy::view::Seen) that a scorer reads.
pub fn columns(kind: ScorerKind) -> &'static [Column] {
    match kind {
        ScorerKind::QueueDepth
        | ScorerKind::KvUtilization
        | ScorerKind::LoadBalance
        | ScorerKind::PrefixAffinity => &[],
        ScorerKind::PrecisePrefixCache | ScorerKind::NoHitLru => &[Column::Cached],
        ScorerKind::ActiveRequests => &[Column::Sent],
        ScorerKind::WaitingRequests
        | ScorerKind::RunningRequests
        | ScorerKind::VllmDp
        | ScorerKind::LoadAware { .. } => &[Column::Metrics],
        ScorerKind::TokenLoad { .. } => &[Column::PromptTokens],
    }
}

/// Adds `weight` times the scores of a scorer that reads [`ClusterView::seen`]; closed instances
/// get any number.
pub(super) fn add_scores(
    kind: ScorerKind,
    weight: f64,
    cluster: &ClusterView,
    cold: Option<&mut ColdPrompts>,
    scores: &mut [f64],
) {
    let seen = cluster.seen;
    let waiting = |at: usize| f64::from(seen.waiting[at]);
    let running = |at: usize| f64::from(seen.running[at]);
    let mut add = |score: &dyn Fn(usize) -> f64| {
        for (at, total) in scores.iter_mut().enumerate() {
            *total += score(at).clamp(0.0, 1.0) * weight;
        }
    };
    match kind {
        ScorerKind::PrecisePrefixCache => {
            let cached = |at: usize| f64::from(seen.cached[at]);
            let (least, most) = range(cluster, cached);
            add(&|at| if least < most { (cached(at) - least) / (most - least) } else { 1.0 });
        }
        ScorerKind::NoHitLru => {
            if let Some(cold) = cold {
                cold.rank(cluster);
                add(&|at| cold.scores[at]);
            }
        }
        ScorerKind::ActiveRequests => {
            let sent = |at: usize| f64::from(cluster.sent(at));
            let (_, most) = range(cluster, sent);
            add(&|at| if sent(at) > 0.0 { (most - sent(at)) / most } else { 1.0 });
        }
        ScorerKind::WaitingRequests => add(&fewest(cluster, waiting)),
        ScorerKind::RunningRequests => add(&fewest(cluster, running)),
        ScorerKind::VllmDp => add(&fewest(cluster, |at| 4.0 * waiting(at) + running(at))),
        ScorerKind::LoadAware { threshold } => {
            let threshold = f64::from(threshold);
            add(&|at| 0.5 * (1.0 - waiting(at).min(threshold) / threshold));
        }
        ScorerKind::TokenLoad { threshold } => {
            let tokens = |at: usize| seen.prompt_tokens[at] as f64;
            add(&|at| 1.0 - (tokens(at) / f64::from(threshold)).min(1.0));
        }
        ScorerKind::QueueDepth
        | ScorerKind::KvUtilization
        | ScorerKind::LoadBalance
        | ScorerKind::PrefixAffinity => {}
    }
}

/// The least and the largest value among open instances.
fn range(cluster: &ClusterView, value: impl Fn(usize) -> f64) -> (f64, f64) {
    let widen = |(least, most): (f64, f64), value: f64| (least.min(value), most.max(value));
    cluster.open_instances().map(value).fold((f64::INFINITY, f64::NEG_INFINITY), widen)
}

/// The least value scores 1, the largest 0, and equals all score 1.
fn fewest(cluster: &ClusterView, value: impl Fn(usize) -> f64) -> impl Fn(usize) -> f64 {
    let (least, most) = range(cluster, &value);
    move |at| if least < most { (most - value(at)) / (most - least) } else { 1.0 }
}

/// When instances were last sent a prompt of which nobody had a block.
pub(super) struct ColdPrompts {
    /// The number of that prompt among all such, by instance; 0: never.
    last: Vec<u64>,
    count: u64,
    order: Vec<usize>,
    scores: Vec<f64>,
}

impl ColdPrompts {
    pub fn new(instances: usize) -> Self {
        let (last, scores) = (vec![0; instances], vec![0.0; instances]);
        Self { last, count: 0, order: Vec::new(), scores }
    }

    fn is_cold(cluster: &ClusterView) -> bool {
        cluster.open_instances().all(|at| cluster.seen.cached[at] == 0)
    }

    fn rank(&mut self, cluster: &ClusterView) {
        if !Self::is_cold(cluster) {
            return self.scores.fill(0.5);
        }
        self.order.clear();
        self.order.extend(cluster.open_instances());
        self.order.sort_unstable_by_key(|&at| (self.last[at], at));
        let behind = (self.order.len() - 1).max(1) as f64;
        for (rank, &at) in self.order.iter().enumerate() {
            self.scores[at] = 1.0 - rank as f64 / behind;
        }
    }

    /// The prompt at hand goes to `instance`.
    pub fn sent(&mut self, cluster: &ClusterView, instance: usize) {
        if Self::is_cold(cluster) {
            self.count += 1;
            self.last[instance] = self.count;
        }
    }

    pub fn forget(&mut self, instance: usize) {
        self.last[instance] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Routing;
    use crate::policy::router::fixture::Fixture;

    /// What the scorer makes of an instance each.
    fn scores(kind: ScorerKind, fixture: &Fixture) -> Vec<f64> {
        let instances = fixture.load.len();
        let (mut cold, mut scores) = (ColdPrompts::new(instances), vec![0.0; instances]);
        add_scores(kind, 1.0, &fixture.cluster(), Some(&mut cold), &mut scores);
        scores
    }

    fn exported(waiting: [u32; 4], running: [u32; 4]) -> Fixture {
        let mut fixture = Fixture::of(&[0; 4]);
        fixture.seen.waiting = waiting.to_vec();
        fixture.seen.running = running.to_vec();
        fixture
    }

    #[test]
    fn queues_are_compared_by_their_range() {
        let fixture = exported([10, 4, 2, 6], [30, 50, 40, 30]);
        assert_eq!(scores(ScorerKind::WaitingRequests, &fixture), [0.0, 0.75, 1.0, 0.5]);
        assert_eq!(scores(ScorerKind::RunningRequests, &fixture), [1.0, 0.0, 0.5, 1.0]);
        // 4 w + r is 70, 66, 48 and 54.
        let dp = scores(ScorerKind::VllmDp, &fixture);
        assert_eq!(dp, [0.0, 4.0 / 22.0, 1.0, 16.0 / 22.0]);
        let equal = exported([3; 4], [0; 4]);
        assert_eq!(scores(ScorerKind::WaitingRequests, &equal), [1.0; 4]);
        assert_eq!(scores(ScorerKind::RunningRequests, &equal), [1.0; 4]);
    }

    #[test]
    fn a_closed_instance_does_not_widen_the_range() {
        let mut fixture = exported([10, 4, 2, 6], [0; 4]);
        fixture.close(0);
        let scores = scores(ScorerKind::WaitingRequests, &fixture);
        assert_eq!(scores[1..], [0.5, 1.0, 0.0]);
    }

    #[test]
    fn load_aware_falls_from_a_half_to_nothing_at_its_threshold() {
        let fixture = exported([0, 32, 128, 500], [0; 4]);
        let kind = ScorerKind::LoadAware { threshold: 128 };
        assert_eq!(scores(kind, &fixture), [0.5, 0.375, 0.0, 0.0]);
    }

    #[test]
    fn token_load_falls_from_one_to_nothing_at_its_threshold() {
        let mut fixture = Fixture::of(&[0; 4]);
        fixture.seen.prompt_tokens = vec![0, 1_048_576, 4_194_304, 9_000_000];
        let kind = ScorerKind::TokenLoad { threshold: 4_194_304 };
        assert_eq!(scores(kind, &fixture), [1.0, 0.75, 0.0, 0.0]);
    }

    #[test]
    fn active_requests_are_shares_of_the_most() {
        let fixture = Fixture::of(&[0, 2, 8, 5]);
        assert_eq!(scores(ScorerKind::ActiveRequests, &fixture), [1.0, 0.75, 0.0, 0.375]);
        let mut past_router = Fixture::of(&[50, 2, 8, 5]);
        past_router.seen.sent = vec![4, 2, 8, 5];
        assert_eq!(scores(ScorerKind::ActiveRequests, &past_router), [0.5, 0.75, 0.0, 0.375]);
    }

    #[test]
    fn the_real_cache_is_compared_by_its_range() {
        let mut fixture = Fixture::of(&[0; 4]);
        fixture.seen.cached = vec![2, 6, 10, 2];
        assert_eq!(scores(ScorerKind::PrecisePrefixCache, &fixture), [0.0, 0.5, 1.0, 0.0]);
        fixture.seen.cached = vec![7; 4];
        assert_eq!(scores(ScorerKind::PrecisePrefixCache, &fixture), [1.0; 4]);
    }

    #[test]
    fn cold_prompts_go_to_who_had_none_for_longest() {
        let fixture = Fixture::of(&[0; 4]);
        let mut cold = ColdPrompts::new(4);
        let ranks = [1.0, 1.0 - 1.0 / 3.0, 1.0 - 2.0 / 3.0, 0.0];
        let rank = |cold: &mut ColdPrompts, sent: &[usize]| {
            for &at in sent {
                cold.sent(&fixture.cluster(), at);
            }
            cold.rank(&fixture.cluster());
            cold.scores.clone()
        };
        assert_eq!(rank(&mut cold, &[]), ranks);
        // 0 and 3 never had one; 2 had its last before 1.
        assert_eq!(rank(&mut cold, &[1, 2, 1]), [ranks[0], ranks[3], ranks[2], ranks[1]]);
        cold.forget(1);
        assert_eq!(rank(&mut cold, &[]), [ranks[0], ranks[1], ranks[3], ranks[2]]);
        let mut warm = Fixture::of(&[0; 4]);
        warm.seen.cached = vec![0, 0, 1, 0];
        cold.rank(&warm.cluster());
        assert_eq!(cold.scores, [0.5; 4]);
        let before = cold.last.clone();
        cold.sent(&warm.cluster(), 3);
        assert_eq!(cold.last, before, "a prompt that somebody has is not cold");
    }

    #[test]
    fn scores_are_weighed_with_those_of_the_reference() {
        let mut fixture = exported([0, 9, 0, 0], [0; 4]);
        fixture.kv_utilization = vec![0.9, 0.1, 0.8, 0.85];
        let routed = |waiting, kv| {
            let scorers =
                vec![(ScorerKind::WaitingRequests, waiting), (ScorerKind::KvUtilization, kv)];
            let mut router = fixture.router(Routing::Weighted(scorers));
            router.route(&Fixture::request(), &fixture.cluster()).0
        };
        assert_eq!((routed(1.0, 2.0), routed(2.0, 1.0)), (1, 2));
    }
}
