//! Routing over what is known of the instances.

use std::collections::BTreeMap;

use crate::base::{Rng, SimTime, Stream};
use crate::policy::router::{f5, instance_weights};
use crate::policy::{F5, Picker, Routing, ScorerKind, Weights};
use crate::workload::NO_CHAIN;

use super::fleet::Place;
use super::kv::Key;
use super::{Request, Setting};

/// What the router decides upon.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub setting: &'a Setting<'a>,
    pub places: &'a [Place],
    pub requests: &'a [Request],
    /// The request at hand.
    pub request: usize,
}

/// The router: what it remembers between decisions.
pub(super) struct Router {
    /// Share of KV blocks in use per instance as last seen, and when that was.
    pub(super) kv_seen: (Vec<f64>, SimTime),
    /// Requests that wait and that run per instance as last seen, and when that was.
    pub(super) metrics_seen: (Vec<(usize, usize)>, SimTime),
    /// Where it looks first for the next in turn.
    turn: usize,
    /// What each instance has saved up, where turns have weights.
    credit: Vec<f64>,
    /// Where the first request of a chain went.
    sessions: BTreeMap<u32, usize>,
    /// As which of all cold prompts an instance got its last; 0: none.
    pub(super) cold: Vec<usize>,
    cold_prompts: usize,
    rng: Rng,
    /// Prompt blocks sent to each instance, the least recently sent first.
    pub(super) sent: Vec<Vec<Key>>,
    /// Where a prompt with this last full block went.
    homes: BTreeMap<Key, usize>,
    /// Requests routed so far.
    routed: usize,
}

impl Router {
    pub fn new(setting: &Setting, instances: usize) -> Self {
        Self {
            kv_seen: (vec![0.0; instances], SimTime::ZERO),
            metrics_seen: (vec![(0, 0); instances], SimTime::ZERO),
            turn: 0,
            credit: vec![0.0; instances],
            sessions: BTreeMap::new(),
            cold: vec![0; instances],
            cold_prompts: 0,
            rng: Rng::new(setting.conditions.seed, Stream::RouterTies, 0),
            sent: vec![Vec::new(); instances],
            homes: BTreeMap::new(),
            routed: 0,
        }
    }

    /// Looks at the instances: before every decision, of admission and of routing. What it saw
    /// last of a place stays until it looks again.
    pub fn look(&mut self, now: SimTime, setting: &Setting, places: &[Place]) {
        self.look_at_kv(now, setting, places);
        let (seen, at) = &mut self.metrics_seen;
        if now - *at >= setting.bundle.signals.metrics_fetch_interval {
            *at = now;
            for (seen, place) in seen.iter_mut().zip(places) {
                *seen = place.engine.as_ref().map_or((0, 0), |engine| {
                    (engine.waiting.len() + engine.on_the_way.len(), engine.running.len())
                });
            }
        }
    }

    fn look_at_kv(&mut self, now: SimTime, setting: &Setting, places: &[Place]) {
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
        self.sessions.retain(|_, home| *home != place);
        self.cold[place] = 0;
    }

    /// The instance a request goes to; at least one is ready.
    pub fn route(&mut self, sight: &Sight) -> usize {
        let &Sight { setting, places, request, .. } = sight;
        let keys = self.names(sight);
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
            Routing::Weighted(scorers) => self.weigh(scorers, None, sight, &keys),
            Routing::Picked(scorers, picker) => self.weigh(scorers, Some(*picker), sight, &keys),
            Routing::PrefixAffinity => {
                let Some(&last) = keys.last() else { return least_loaded(places) };
                let home = self.homes.get(&last).copied();
                let home = home.filter(|&home| places[home].is_ready());
                let chosen = home.unwrap_or_else(|| least_loaded(places));
                self.homes.insert(last, chosen);
                chosen
            }
            Routing::WeightedRoundRobin(weights) => {
                self.in_turn(&instance_weights(weights, setting.bundle), &sight.ready())
            }
            Routing::LeastConnections(weights) => self.fewest_connections(weights, sight),
            Routing::LeastOutstanding(choices) => {
                let ready = sight.ready();
                let taken =
                    (0..*choices).map(|_| ready[self.rng.below(ready.len() as u64) as usize]);
                let taken: Vec<usize> = taken.collect();
                let fewest = taken.iter().min_by_key(|&&at| sight.connections(at));
                *fewest.expect("at least one is taken")
            }
            Routing::SessionAffinity => {
                let chain = setting.trace.chain[request];
                let home = self.sessions.get(&chain).copied();
                let home = home.filter(|&home| chain != NO_CHAIN && places[home].is_ready());
                let chosen =
                    home.unwrap_or_else(|| self.fewest_connections(&Weights::Equal, sight));
                self.sessions.insert(chain, chosen);
                chosen
            }
            Routing::F5(f5) => self.by_f5(f5, sight),
        }
    }

    /// What the full blocks of the prompt at hand are; what only it has is new each time.
    fn names(&mut self, sight: &Sight) -> Vec<Key> {
        let setting = sight.setting;
        let blocks = setting.trace.input[sight.request] / setting.bundle.block_size;
        let mut keys = setting.keys(sight.request, blocks);
        self.routed += 1;
        for key in &mut keys {
            if let Key::Own { request, .. } = key {
                *request = self.routed;
            }
        }
        keys
    }

    fn in_turn(&mut self, weights: &[f64], candidates: &[usize]) -> usize {
        let mut paid = 0.0;
        for &at in candidates {
            self.credit[at] += weights[at];
            paid += weights[at];
        }
        let credit = |at: &usize| self.credit[*at];
        let richest = candidates
            .iter()
            .copied()
            .reduce(|one, other| if credit(&other) > credit(&one) { other } else { one });
        let richest = richest.expect("one is ready");
        self.credit[richest] -= paid;
        richest
    }

    fn fewest_connections(&mut self, weights: &Weights, sight: &Sight) -> usize {
        let weights = instance_weights(weights, sight.setting.bundle);
        let per_weight = |at: usize| sight.connections(at) as f64 / weights[at];
        let ready = sight.ready();
        let fewest = ready.iter().map(|&at| per_weight(at)).fold(f64::INFINITY, f64::min);
        let equal: Vec<usize> = ready.into_iter().filter(|&at| per_weight(at) <= fewest).collect();
        if equal.len() == 1 { equal[0] } else { self.in_turn(&weights, &equal) }
    }

    fn by_f5(&mut self, f5: &F5, sight: &Sight) -> usize {
        let ready = sight.ready();
        let mut metrics = f5::Metrics::default();
        for &at in &ready {
            let (waiting, running) = self.metrics_seen.0[at];
            metrics.waiting.push(waiting as f64);
            metrics.cache.push(self.kv_seen.0[at]);
            metrics.running.push(running as f64);
        }
        let mut scores = Vec::new();
        f5::score(f5, &mut metrics, &mut scores);
        let over = |value: usize, limit: Option<u32>| limit.is_some_and(|l| value > l as usize);
        let mut ranges: Vec<(usize, f64)> = Vec::new();
        let mut total = 0.0;
        for (&at, score) in ready.iter().zip(scores) {
            let (waiting, running) = self.metrics_seen.0[at];
            let full = over(waiting, f5.waiting_threshold) || over(running, f5.running_threshold);
            if score > 0.0 && !full {
                total += score;
                ranges.push((at, total));
            }
        }
        match ranges.as_slice() {
            [] => self.fewest_connections(&Weights::Equal, sight),
            [(only, _)] => *only,
            [.., last] => {
                let point = self.rng.uniform() * total;
                let within = ranges.iter().find(|(_, end)| point < *end);
                within.unwrap_or(last).0
            }
        }
    }

    fn weigh(
        &mut self,
        scorers: &[(ScorerKind, f64)],
        picker: Option<Picker>,
        sight: &Sight,
        keys: &[Key],
    ) -> usize {
        let places = sight.places;
        let mut total = 0.0;
        for (_, weight) in scorers {
            total += weight;
        }
        let sums: Vec<f64> = (0..places.len())
            .map(|at| {
                let mut sum = 0.0;
                for &(scorer, weight) in scorers {
                    let single: f64 = self.score(scorer, sight, at, keys);
                    sum += single.clamp(0.0, 1.0) * (weight / total);
                }
                sum
            })
            .collect();
        let chosen = match picker {
            None => best(places, |at| sums[at]),
            Some(picker) => self.pick(picker, &sums, sight),
        };
        if scorers.iter().any(|(scorer, _)| *scorer == ScorerKind::PrefixAffinity) {
            let capacity = sight.setting.bundle.signals.prefix_index_blocks as usize;
            self.remember(chosen, keys, capacity);
        }
        if scorers.iter().any(|(scorer, _)| *scorer == ScorerKind::NoHitLru) && sight.is_cold() {
            self.cold_prompts += 1;
            self.cold[chosen] = self.cold_prompts;
        }
        chosen
    }

    fn pick(&mut self, picker: Picker, sums: &[f64], sight: &Sight) -> usize {
        let ready = sight.ready();
        match picker {
            Picker::AnyBest => {
                let most = ready.iter().map(|&at| sums[at]).fold(f64::NEG_INFINITY, f64::max);
                let equal: Vec<usize> = ready.into_iter().filter(|&at| sums[at] >= most).collect();
                match equal.as_slice() {
                    [only] => *only,
                    equal => equal[self.rng.below(equal.len() as u64) as usize],
                }
            }
            Picker::WeightedRandom if ready.iter().all(|&at| sums[at] <= 0.0) => {
                ready[self.rng.below(ready.len() as u64) as usize]
            }
            Picker::WeightedRandom => {
                let positive = ready.into_iter().filter(|&at| sums[at] > 0.0);
                let keys: Vec<(usize, f64)> = positive
                    .map(|at| (at, self.rng.uniform_positive().powf(1.0 / sums[at])))
                    .collect();
                let most = keys.iter().map(|(_, key)| *key).fold(0.0, f64::max);
                keys.iter().find(|(_, key)| *key >= most).expect("one is positive").0
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
