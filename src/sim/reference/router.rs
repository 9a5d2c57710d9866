//! Admission and routing over what is known of the instances.

use std::collections::BTreeMap;

use crate::base::SimTime;
use crate::policy::{Admission, Routing, ScorerKind};

use super::Setting;
use super::engine::Engine;
use super::kv::Key;

/// The cluster's front door: what it remembers between decisions.
pub(super) struct Router {
    /// Tokens in the bucket, and when they were last counted.
    bucket: (f64, SimTime),
    /// Share of KV blocks in use per instance as last seen, and when that was.
    kv_seen: (Vec<f64>, SimTime),
    /// Requests routed so far.
    routed: usize,
    /// Prompt blocks sent to each instance, the least recently sent first.
    sent: Vec<Vec<Key>>,
    /// Where a prompt with this last full block went.
    homes: BTreeMap<Key, usize>,
}

impl Router {
    pub fn new(setting: &Setting, instances: usize) -> Self {
        let capacity = match setting.bundle.admission {
            Admission::TokenBucket { capacity, .. } => capacity,
            Admission::AlwaysAdmit | Admission::RejectAll => 0.0,
        };
        Self {
            bucket: (capacity, SimTime::ZERO),
            kv_seen: (vec![0.0; instances], SimTime::ZERO),
            routed: 0,
            sent: vec![Vec::new(); instances],
            homes: BTreeMap::new(),
        }
    }

    /// Looks at the instances: before every decision, of admission and of routing.
    pub fn look(&mut self, now: SimTime, setting: &Setting, engines: &[Engine]) {
        let (seen, at) = &mut self.kv_seen;
        if now - *at < setting.bundle.signals.kv_utilization_refresh {
            return;
        }
        *at = now;
        for (seen, engine) in seen.iter_mut().zip(engines) {
            *seen = f64::from(engine.kv.used()) / f64::from(engine.kv.total());
        }
    }

    /// Whether a request is let in.
    pub fn admit(&mut self, now: SimTime, setting: &Setting, request: usize) -> bool {
        match setting.bundle.admission {
            Admission::AlwaysAdmit => true,
            Admission::RejectAll => false,
            Admission::TokenBucket { capacity, refill_rate } => {
                let (tokens, counted) = &mut self.bucket;
                let elapsed_us = (now - *counted).as_us();
                if elapsed_us > 0 {
                    *tokens = capacity.min(*tokens + elapsed_us as f64 * refill_rate / 1e6);
                    *counted = now;
                }
                let cost = f64::from(setting.trace.input[request]);
                let enough = *tokens >= cost;
                if enough {
                    *tokens -= cost;
                }
                enough
            }
        }
    }

    /// The instance a request goes to.
    pub fn route(&mut self, setting: &Setting, engines: &[Engine], request: usize) -> usize {
        self.routed += 1;
        let size = setting.bundle.block_size;
        let keys = setting.keys(request, setting.trace.input[request] / size);
        match &setting.bundle.routing {
            Routing::RoundRobin => (self.routed - 1) % engines.len(),
            Routing::LeastLoaded => least_loaded(engines),
            Routing::AlwaysBusiest => {
                first_best(engines.iter().map(|engine| f64::from(engine.load())))
            }
            Routing::Weighted(scorers) => self.weigh(scorers, setting, engines, &keys),
            Routing::PrefixAffinity => match keys.last() {
                Some(&last) => *self.homes.entry(last).or_insert_with(|| least_loaded(engines)),
                None => least_loaded(engines),
            },
        }
    }

    fn weigh(
        &mut self,
        scorers: &[(ScorerKind, f64)],
        setting: &Setting,
        engines: &[Engine],
        keys: &[Key],
    ) -> usize {
        let mut total = 0.0;
        for (_, weight) in scorers {
            total += weight;
        }
        let mut scores = vec![0.0; engines.len()];
        for &(scorer, weight) in scorers {
            for (at, score) in scores.iter_mut().enumerate() {
                let single: f64 = self.score(scorer, engines, at, keys);
                *score += single.clamp(0.0, 1.0) * (weight / total);
            }
        }
        let chosen = first_best(scores.into_iter());
        if scorers.iter().any(|(scorer, _)| *scorer == ScorerKind::PrefixAffinity) {
            self.remember(chosen, keys, setting.bundle.signals.prefix_index_blocks as usize);
        }
        chosen
    }

    fn score(&self, scorer: ScorerKind, engines: &[Engine], at: usize, keys: &[Key]) -> f64 {
        let load = |engine: &Engine| f64::from(engine.load());
        let mine = load(&engines[at]);
        match scorer {
            ScorerKind::QueueDepth => {
                let max = engines.iter().map(load).fold(f64::MIN, f64::max);
                let min = engines.iter().map(load).fold(f64::MAX, f64::min);
                if max > min { (max - mine) / (max - min) } else { 1.0 }
            }
            ScorerKind::KvUtilization => 1.0 - self.kv_seen.0[at],
            ScorerKind::LoadBalance => 1.0 / (1.0 + mine),
            ScorerKind::PrefixAffinity if keys.is_empty() => 0.0,
            ScorerKind::PrefixAffinity => {
                let known = keys.iter().take_while(|key| self.sent[at].contains(key));
                known.count() as f64 / keys.len() as f64
            }
        }
    }

    fn remember(&mut self, instance: usize, keys: &[Key], capacity: usize) {
        let sent = &mut self.sent[instance];
        for &key in keys {
            sent.retain(|&other| other != key);
            sent.push(key);
            if sent.len() > capacity {
                sent.remove(0);
            }
        }
    }
}

fn least_loaded(engines: &[Engine]) -> usize {
    first_best(engines.iter().map(|engine| -f64::from(engine.load())))
}

/// The position of the largest value, the first of equals.
fn first_best(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, value) in values.enumerate() {
        if value > best.1 {
            best = (at, value);
        }
    }
    best.0
}
