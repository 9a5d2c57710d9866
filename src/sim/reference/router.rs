//! Admission and routing over what is known of the instances.

use std::collections::BTreeMap;

use crate::base::SimTime;
use crate::policy::{Admission, Routing, ScorerKind};

use super::Setting;
use super::fleet::Place;
use super::kv::Key;

/// The cluster's front door: what it remembers between decisions.
pub(super) struct Router {
    /// Tokens in the bucket, and when they were last counted.
    bucket: (f64, SimTime),
    /// Share of KV blocks in use per instance as last seen, and when that was.
    kv_seen: (Vec<f64>, SimTime),
    /// Where it looks first for the next in turn.
    turn: usize,
    /// Prompt blocks sent to each instance, the least recently sent first.
    sent: Vec<Vec<Key>>,
    /// Where a prompt with this last full block went.
    homes: BTreeMap<Key, usize>,
    /// Requests routed so far.
    routed: usize,
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
            turn: 0,
            sent: vec![Vec::new(); instances],
            homes: BTreeMap::new(),
            routed: 0,
        }
    }

    /// Looks at the instances: before every decision, of admission and of routing. What it saw
    /// last of a place stays until it looks again.
    pub fn look(&mut self, now: SimTime, setting: &Setting, places: &[Place]) {
        let (seen, at) = &mut self.kv_seen;
        if now - *at < setting.bundle.signals.kv_utilization_refresh {
            return;
        }
        *at = now;
        for (seen, place) in seen.iter_mut().zip(places) {
            *seen = place
                .engine
                .as_ref()
                .map_or(0.0, |engine| f64::from(engine.kv.used()) / f64::from(engine.kv.total()));
        }
    }

    /// An instance has lost its cache.
    pub fn forget(&mut self, place: usize) {
        self.sent[place].clear();
        self.homes.retain(|_, home| *home != place);
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

    /// The instance a request goes to; at least one is ready.
    pub fn route(&mut self, setting: &Setting, places: &[Place], request: usize) -> usize {
        let size = setting.bundle.block_size;
        let mut keys = setting.keys(request, setting.trace.input[request] / size);
        self.routed += 1;
        for key in &mut keys {
            // What only this request has is new each time.
            if let Key::Own { request, .. } = key {
                *request = self.routed;
            }
        }
        match &setting.bundle.routing {
            Routing::RoundRobin => {
                while !places[self.turn % places.len()].is_ready() {
                    self.turn += 1;
                }
                let chosen = self.turn % places.len();
                self.turn = chosen + 1;
                chosen
            }
            Routing::LeastLoaded => least_loaded(places),
            Routing::AlwaysBusiest => best(places, |at| places[at].load() as f64),
            Routing::Weighted(scorers) => self.weigh(scorers, setting, places, &keys),
            Routing::PrefixAffinity => {
                let Some(&last) = keys.last() else { return least_loaded(places) };
                let home = self.homes.get(&last).copied();
                let home = home.filter(|&home| places[home].is_ready());
                let chosen = home.unwrap_or_else(|| least_loaded(places));
                self.homes.insert(last, chosen);
                chosen
            }
        }
    }

    fn weigh(
        &mut self,
        scorers: &[(ScorerKind, f64)],
        setting: &Setting,
        places: &[Place],
        keys: &[Key],
    ) -> usize {
        let mut total = 0.0;
        for (_, weight) in scorers {
            total += weight;
        }
        let chosen = best(places, |at| {
            let mut sum = 0.0;
            for &(scorer, weight) in scorers {
                let single: f64 = self.score(scorer, places, at, keys);
                sum += single.clamp(0.0, 1.0) * (weight / total);
            }
            sum
        });
        if scorers.iter().any(|(scorer, _)| *scorer == ScorerKind::PrefixAffinity) {
            self.remember(chosen, keys, setting.bundle.signals.prefix_index_blocks as usize);
        }
        chosen
    }

    fn score(&self, scorer: ScorerKind, places: &[Place], at: usize, keys: &[Key]) -> f64 {
        let mine = places[at].load() as f64;
        match scorer {
            ScorerKind::QueueDepth => {
                let ready = || places.iter().filter(|place| place.is_ready());
                let max = ready().map(|place| place.load() as f64).fold(f64::MIN, f64::max);
                let min = ready().map(|place| place.load() as f64).fold(f64::MAX, f64::min);
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

fn least_loaded(places: &[Place]) -> usize {
    best(places, |at| -(places[at].load() as f64))
}

/// The ready place of the largest value, the first of equals.
fn best(places: &[Place], value: impl Fn(usize) -> f64) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for at in (0..places.len()).filter(|&at| places[at].is_ready()) {
        if value(at) > best.1 {
            best = (at, value(at));
        }
    }
    best.0
}
