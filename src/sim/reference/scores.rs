//! What single scorers make of instances.

use crate::policy::ScorerKind;

use super::kv::Key;
use super::router::{Router, Sight};

impl Sight<'_> {
    /// The places that take requests.
    pub fn ready(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|&at| self.places[at].is_ready()).collect()
    }

    /// Requests on the instance in place `at`, without those that came past the router.
    fn sent(&self, at: usize) -> Vec<usize> {
        let Some(engine) = &self.places[at].engine else { return Vec::new() };
        let waiting = engine.waiting.iter().chain(&engine.on_the_way).chain(&engine.running);
        waiting.copied().filter(|&id| self.setting.pinned(id) != Some(at)).collect()
    }

    /// How many of them there are.
    pub fn connections(&self, at: usize) -> usize {
        self.sent(at).len()
    }

    /// Tokens of prompts among them that are not computed in full.
    fn prompt_tokens(&self, at: usize) -> u64 {
        let running = self.places[at].engine.as_ref().map_or(&[][..], |engine| &engine.running);
        let is_computed = |id: &usize| running.contains(id) && self.requests[*id].decodes();
        let open = self.sent(at).into_iter().filter(|id| !is_computed(id));
        open.map(|id| u64::from(self.setting.trace.input[id])).sum()
    }

    /// Blocks of the prompt at hand that the instance in place `at` has; at least one token is
    /// computed.
    fn cached(&self, at: usize) -> usize {
        let Some(engine) = &self.places[at].engine else { return 0 };
        let input = self.setting.trace.input[self.request];
        let keys = self.setting.keys(self.request, (input - 1) / self.setting.bundle.block_size);
        engine.kv.lookup(&keys).len()
    }

    /// Whether no instance has a block of the prompt at hand.
    pub fn is_cold(&self) -> bool {
        self.ready().iter().all(|&at| self.cached(at) == 0)
    }
}

impl Router {
    /// The score of the instance in place `at`, for which `keys` are the blocks of the prompt.
    pub(super) fn score(&self, scorer: ScorerKind, sight: &Sight, at: usize, keys: &[Key]) -> f64 {
        let places = sight.places;
        let mine = places[at].load() as f64;
        let waiting = self.metrics_seen.0[at].0;
        let fewest = |value: &dyn Fn(usize) -> usize| {
            let (least, most) = extremes(sight, value);
            let mine = value(at) as f64;
            if most > least { (most - mine) / (most - least) } else { 1.0 }
        };
        match scorer {
            ScorerKind::QueueDepth => fewest(&|at| places[at].load()),
            ScorerKind::KvUtilization => 1.0 - self.kv_seen.0[at],
            ScorerKind::LoadBalance => 1.0 / (1.0 + mine),
            ScorerKind::PrefixAffinity if keys.is_empty() => 0.0,
            ScorerKind::PrefixAffinity => {
                let known = keys.iter().take_while(|key| self.sent[at].contains(key));
                known.count() as f64 / keys.len() as f64
            }
            ScorerKind::PrecisePrefixCache => {
                let (least, most) = extremes(sight, &|at| sight.cached(at));
                let mine = sight.cached(at) as f64;
                if most > least { (mine - least) / (most - least) } else { 1.0 }
            }
            ScorerKind::NoHitLru => self.coldness(sight, at),
            ScorerKind::ActiveRequests => {
                let (_, most) = extremes(sight, &|at| sight.connections(at));
                let mine = sight.connections(at) as f64;
                if mine > 0.0 { (most - mine) / most } else { 1.0 }
            }
            ScorerKind::WaitingRequests => fewest(&|at| self.metrics_seen.0[at].0),
            ScorerKind::RunningRequests => fewest(&|at| self.metrics_seen.0[at].1),
            ScorerKind::VllmDp => {
                fewest(&|at| 4 * self.metrics_seen.0[at].0 + self.metrics_seen.0[at].1)
            }
            ScorerKind::LoadAware { threshold } => {
                let threshold = threshold as usize;
                0.5 * (1.0 - waiting.min(threshold) as f64 / threshold as f64)
            }
            ScorerKind::TokenLoad { threshold } => {
                let full = sight.prompt_tokens(at) as f64 / f64::from(threshold);
                1.0 - full.min(1.0)
            }
        }
    }

    /// 1 for whom no cold prompt went to for the longest time, 0 for whom the last went to.
    fn coldness(&self, sight: &Sight, at: usize) -> f64 {
        if !sight.is_cold() {
            return 0.5;
        }
        let ready = sight.ready();
        let earlier = |&&other: &&usize| (self.cold[other], other) < (self.cold[at], at);
        let rank = ready.iter().filter(earlier).count();
        if ready.len() > 1 { 1.0 - rank as f64 / (ready.len() - 1) as f64 } else { 1.0 }
    }
}

/// The least and the largest value among places that take requests.
fn extremes(sight: &Sight, value: &dyn Fn(usize) -> usize) -> (f64, f64) {
    let values: Vec<usize> = sight.ready().into_iter().map(value).collect();
    let least = values.iter().min().expect("one is ready");
    let most = values.iter().max().expect("one is ready");
    (*least as f64, *most as f64)
}
