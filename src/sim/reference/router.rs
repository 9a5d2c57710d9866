//! Routing over what is known of the instances.

use std::collections::BTreeMap;

use crate::base::SimTime;
use crate::policy::{Routing, ScorerKind};

use super::Setting;
use super::fleet::Place;
use super::kv::Key;

/// The router: what it remembers between decisions.
pub(super) struct Router {
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
    pub fn new(instances: usize) -> Self {
        Self {
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
