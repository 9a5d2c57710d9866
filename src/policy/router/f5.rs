//! The scheduler of F5's inference gateway: scores of what instances exported last, and a choice
//! by chance in proportion to them.
//!
//! Metric by metric, names and constants are those of `llm-inference-lb`; deviations are over the
//! number of instances, not one less.

use crate::base::{InstanceId, Rng};
use crate::policy::router::Router;
use crate::policy::router::connections::LeastConnections;
use crate::policy::view::{ClusterView, Column, RequestView};
use crate::policy::{F5, F5Mode};

/// What instances exported, one entry each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Requests that wait.
    pub waiting: Vec<f64>,
    /// Share of KV blocks in use.
    pub cache: Vec<f64>,
    /// Requests that run; only looked at by modes of three metrics.
    pub running: Vec<f64>,
}

impl Metrics {
    fn clear(&mut self) {
        self.waiting.clear();
        self.cache.clear();
        self.running.clear();
    }
}

/// Writes the score of each entry of `metrics` to `scores`, in [0, 1]; `metrics` has what became
/// of it on the way.
pub fn score(f5: &F5, metrics: &mut Metrics, scores: &mut Vec<f64>) {
    let [w_a, w_b, w_g] = weights(f5, metrics);
    let Metrics { waiting, cache, running } = metrics;
    match f5.mode {
        F5Mode::S1 => min_max(waiting),
        F5Mode::S1Enhanced => {
            min_max(waiting);
            logarithm_of_cache(cache);
        }
        F5Mode::S1Adaptive => {
            min_max(waiting);
            min_max(cache);
        }
        F5Mode::S2Enhanced => {
            min_max(waiting);
            logarithm_of_cache(cache);
            logarithm_of_running(running);
        }
        F5Mode::S2DynamicWaiting => {
            distribution_of_waiting(waiting);
            distribution(cache, 1.5, Some((0.2, (0.35, 0.65))));
            distribution(running, 1.0, None);
        }
    }
    scores.clear();
    for at in 0..waiting.len() {
        let mut sum = w_a * (1.0 - waiting[at]) + w_b * (1.0 - cache[at]);
        if f5.weighs_running() {
            sum += w_g * (1.0 - running[at]);
        }
        scores.push(sum.clamp(0.0, 1.0));
    }
}

/// The weights of waiting, cache and running for these metrics.
fn weights(f5: &F5, metrics: &Metrics) -> [f64; 3] {
    let base = [f5.w_a, f5.w_b, f5.w_g];
    match f5.mode {
        F5Mode::S1 | F5Mode::S1Enhanced | F5Mode::S2Enhanced => base,
        F5Mode::S1Adaptive => {
            let (waiting, cache) = (variation(&metrics.waiting), variation(&metrics.cache));
            let both = waiting + cache;
            if both <= 0.0 {
                return base;
            }
            let moved = [f5.w_a * (1.0 + waiting / both), f5.w_b * (1.0 + cache / both), 0.0];
            rescaled(moved, f5.w_a + f5.w_b)
        }
        F5Mode::S2DynamicWaiting => {
            let longest = metrics.waiting.iter().fold(0.0, |most: f64, &value| most.max(value));
            let intensity = (longest * f5.steepness / f5.transition_point).tanh();
            let between = |none: f64, full: f64| none + (full - none) * intensity;
            let moved = [
                f5.w_a * between(0.1, 2.5),
                f5.w_b * between(1.5, 0.4),
                f5.w_g * between(1.4, 0.6),
            ];
            rescaled(moved, f5.w_a + f5.w_b + f5.w_g)
        }
    }
}

/// The same weights with this sum.
fn rescaled(weights: [f64; 3], sum: f64) -> [f64; 3] {
    let total = weights[0] + weights[1] + weights[2];
    if total > 0.0 { weights.map(|weight| weight * sum / total) } else { weights }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of all of `values`.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (squares / values.len() as f64).sqrt()
}

/// The deviation over the mean; 0 where there is none.
fn variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    if values.len() > 1 && mean > 0.0 { deviation(values) / mean } else { 0.0 }
}

/// The least and the largest of `values`, where they differ.
fn range(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least < most).then_some((least, most))
}

/// From 0 to 1; all 0 where all are equal.
fn min_max(values: &mut [f64]) {
    let Some((least, most)) = range(values) else { return values.fill(0.0) };
    for value in values {
        *value = (*value - least) / (most - least);
    }
}

/// From 0.2 to 1 by the logarithm of the ratio to the least; by deviation where that is 0.
fn logarithm_of_cache(values: &mut [f64]) {
    let Some((least, _)) = range(values) else { return values.fill(0.5) };
    if least > 0.0 {
        return logarithm(values, least, 0.2);
    }
    let (mean, deviation) = (mean(values), deviation(values));
    for value in values {
        let z = (*value - mean) / (3.0 * deviation);
        *value = 0.2 + 0.8 / (1.0 + (-2.0 * z).exp());
    }
}

/// From 0.15 to 0.95 by the logarithm of one more over the least.
fn logarithm_of_running(values: &mut [f64]) {
    let Some((least, _)) = range(values) else { return values.fill(0.5) };
    for value in &mut *values {
        *value += 1.0;
    }
    logarithm(values, least + 1.0, 0.15);
}

fn logarithm(values: &mut [f64], least: f64, low: f64) {
    let ratio = |value: f64| (value / least).log2();
    let most = values.iter().map(|&value| ratio(value)).fold(0.0, f64::max);
    for value in values {
        // Neighbours that differ in the last bit only have no ratio.
        *value = if most > 0.0 { low + 0.8 * (ratio(*value) / most) } else { 0.5 };
    }
}

/// Queues of very different lengths are compared by logarithm.
fn distribution_of_waiting(values: &mut [f64]) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if values.len() > 1 && most > 10.0 * least {
        for value in &mut *values {
            *value = (*value + 1.0).ln();
        }
    }
    distribution(values, 1.0, None);
}

/// Each value by how many deviations it is off the mean, into a range that is the narrower the
/// less the values vary. `close`: below this variation another range.
fn distribution(values: &mut [f64], sensitivity: f64, close: Option<(f64, (f64, f64))>) {
    const NOTHING: f64 = 1e-6;
    if values.len() < 2 {
        return values.fill(0.5);
    }
    let mean = mean(values);
    let deviation = deviation(values).max(if range(values).is_some() { 0.0 } else { NOTHING });
    let variation = if mean > NOTHING { deviation / mean } else { deviation };
    let (steepness, mut into) = match variation {
        v if v < 0.1 => (3.0, (0.4, 0.6)),
        v if v < 0.3 => (2.0, (0.25, 0.75)),
        v if v < 0.8 => (1.5, (0.15, 0.85)),
        _ => (1.0, (0.1, 0.9)),
    };
    if let Some((below, narrow)) = close
        && variation < below
    {
        into = narrow;
    }
    for value in values {
        let z = if deviation > NOTHING { (*value - mean) / deviation } else { 0.0 };
        let share = (z * steepness * sensitivity / 2.0).tanh() * 0.5 + 0.5;
        *value = into.0 + share * (into.1 - into.0);
    }
}

/// The position of one of `scores` by chance, in proportion to it; `None` where all are 0. There
/// is no draw where only one is above 0.
pub fn proportional(scores: &[f64], rng: &mut Rng) -> Option<usize> {
    let mut positive = (0..scores.len()).filter(|&at| scores[at] > 0.0);
    let first = positive.next()?;
    let Some(last) = positive.next_back() else { return Some(first) };
    let point = rng.uniform() * scores.iter().sum::<f64>();
    let mut sum = 0.0;
    for (at, score) in scores.iter().enumerate().take(last) {
        sum += score;
        if point < sum {
            return Some(at);
        }
    }
    Some(last)
}

pub(super) struct F5Router {
    f5: F5,
    rng: Rng,
    fallback: LeastConnections,
    /// The open instances, and what each exported.
    open: Vec<usize>,
    metrics: Metrics,
    scores: Vec<f64>,
}

impl F5Router {
    pub fn new(f5: F5, instances: usize, rng: Rng) -> Self {
        Self {
            f5,
            rng,
            fallback: LeastConnections::new(vec![1.0; instances]),
            open: Vec::new(),
            metrics: Metrics::default(),
            scores: Vec::new(),
        }
    }

    fn look(&mut self, cluster: &ClusterView) {
        self.open.clear();
        self.open.extend(cluster.open_instances());
        self.metrics.clear();
        let Metrics { waiting, cache, running } = &mut self.metrics;
        let seen = cluster.seen;
        waiting.extend(self.open.iter().map(|&at| f64::from(seen.waiting[at])));
        cache.extend(self.open.iter().map(|&at| cluster.kv_utilization[at]));
        running.extend(self.open.iter().map(|&at| f64::from(seen.running[at])));
    }
}

/// Whether an instance that exported these is passed over.
pub fn is_full(f5: &F5, waiting: u32, running: u32) -> bool {
    f5.running_threshold.is_some_and(|threshold| running > threshold)
        || f5.waiting_threshold.is_some_and(|threshold| waiting > threshold)
}

impl Router for F5Router {
    fn needs_kv_utilization(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::Metrics, Column::Sent]
    }

    fn route(&mut self, _: &RequestView, cluster: &ClusterView) -> InstanceId {
        self.look(cluster);
        score(&self.f5, &mut self.metrics, &mut self.scores);
        for (&at, score) in self.open.iter().zip(&mut self.scores) {
            if is_full(&self.f5, cluster.seen.waiting[at], cluster.seen.running[at]) {
                *score = 0.0;
            }
        }
        let chosen = proportional(&self.scores, &mut self.rng);
        let chosen = chosen.map_or_else(|| self.fallback.choose(cluster), |at| self.open[at]);
        InstanceId::new(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Routing;
    use crate::policy::router::fixture::Fixture;

    fn scored(f5: &F5, waiting: &[f64], cache: &[f64], running: &[f64]) -> Vec<f64> {
        let mut metrics =
            Metrics { waiting: waiting.to_vec(), cache: cache.to_vec(), running: running.to_vec() };
        let mut scores = Vec::new();
        score(f5, &mut metrics, &mut scores);
        scores
    }

    fn near(values: &[f64], expected: &[f64]) {
        let off = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-5;
        assert_eq!(values.len(), expected.len());
        assert!(!values.iter().zip(expected).any(off), "{values:?}, not {expected:?}");
    }

    #[test]
    fn s1_weighs_the_range_of_waiting_and_cache_as_it_is() {
        let s1 = F5::new(F5Mode::S1);
        // 0.2 (1 - 1) + 0.8 (1 - 0.5); 0.2 (1 - 0.25) + 0.8 (1 - 0.1); 0.2 + 0.8 (1 - 0.9).
        near(&scored(&s1, &[8.0, 2.0, 0.0], &[0.5, 0.1, 0.9], &[0.0; 3]), &[0.4, 0.87, 0.28]);
        near(&scored(&s1, &[3.0; 2], &[0.0, 1.0], &[0.0; 2]), &[1.0, 0.2]);
        near(&scored(&s1, &[9.0], &[0.25], &[0.0]), &[0.8]);
    }

    #[test]
    fn s1_enhanced_takes_the_logarithm_of_cache() {
        let enhanced = F5 { w_a: 0.1, w_b: 0.9, ..F5::new(F5Mode::S1Enhanced) };
        // One, two and three doublings of the least: 0.2, 0.46667, 0.73333 and 1.
        let scores = scored(&enhanced, &[0.0; 4], &[0.1, 0.2, 0.4, 0.8], &[0.0; 4]);
        near(&scores, &[0.82, 0.58, 0.34, 0.1]);
        // An empty cache: deviations of 1.2247 over three, through a sigmoid.
        let scores = scored(&enhanced, &[0.0; 3], &[0.0, 0.3, 0.6], &[0.0; 3]);
        near(&scores, &[1.0 - 0.9 * 0.445_206, 1.0 - 0.9 * 0.6, 1.0 - 0.9 * 0.754_794]);
        near(&scored(&enhanced, &[0.0; 2], &[0.3; 2], &[0.0; 2]), &[0.55, 0.55]);
    }

    #[test]
    fn s1_adaptive_gives_more_weight_to_what_varies_more() {
        let adaptive = F5::new(F5Mode::S1Adaptive);
        // Variations of 1 and 0.5: 0.2 (1 + 2/3) and 0.8 (1 + 1/3) to a sum of 1.
        let scores = scored(&adaptive, &[0.0, 4.0], &[0.6, 0.2], &[0.0; 2]);
        near(&scores, &[0.238_095, 0.761_905]);
        near(&scored(&adaptive, &[0.0; 2], &[0.3; 2], &[0.0; 2]), &[1.0, 1.0]);
    }

    #[test]
    fn s2_enhanced_takes_the_logarithm_of_running_too() {
        let enhanced = F5::new(F5Mode::S2Enhanced);
        // Running: 0.15, 0.41667, 0.68333 and 0.95; cache alike is 0.5.
        let scores = scored(&enhanced, &[0.0; 4], &[0.4; 4], &[0.0, 1.0, 3.0, 7.0]);
        near(&scores, &[0.77, 0.716_667, 0.663_333, 0.61]);
    }

    #[test]
    fn s2_dynamic_waiting_looks_at_waiting_once_there_is_any() {
        let dynamic = F5::new(F5Mode::S2DynamicWaiting);
        // Nobody waits: weights 0.1 * 0.4, 1.5 * 0.3 and 1.4 * 0.3 to a sum of 1, waiting 0.5.
        let scores = scored(&dynamic, &[0.0; 2], &[0.5, 0.4], &[100.0, 60.0]);
        near(&scores, &[0.344_984, 0.655_016]);
        // 30 wait: intensity tanh(1) = 0.761594, weights 0.638870, 0.164598 and 0.196531; waiting
        // by logarithm 0.684847, cache 0.635772 and 0.364228, running 0.690399 and 0.309601.
        let scores = scored(&dynamic, &[30.0, 0.0], &[0.5, 0.4], &[100.0, 60.0]);
        near(&scores, &[0.322_140, 0.677_860]);
    }

    #[test]
    fn scores_stay_within_bounds_whatever_the_weights() {
        let heavy = F5 { w_a: 3.0, w_b: 2.0, ..F5::new(F5Mode::S1) };
        assert_eq!(scored(&heavy, &[0.0, 1.0], &[0.0, 1.0], &[0.0; 2]), [1.0, 0.0]);
    }

    #[test]
    fn a_draw_is_in_proportion_to_scores() {
        let (mut rng, mut times) = (Fixture::rng(), [0_u32; 3]);
        for _ in 0..40_000 {
            times[proportional(&[0.3, 0.0, 0.1], &mut rng).expect("two are positive")] += 1;
        }
        assert!((29_600..30_400).contains(&times[0]) && times[1] == 0, "{times:?}");
        let mut rng = Fixture::rng();
        assert_eq!(proportional(&[0.0, 0.2], &mut rng), Some(1));
        assert_eq!(proportional(&[0.0, 0.0], &mut rng), None);
        assert_eq!(rng, Fixture::rng(), "no draw where there is no choice");
    }

    #[test]
    fn who_is_over_a_threshold_is_passed_over_unless_all_are() {
        let mut fixture = Fixture::of(&[9, 8, 3]);
        fixture.seen.waiting = vec![16, 15, 40];
        fixture.seen.running = vec![5, 20, 5];
        let limits = |waiting, running| F5 {
            waiting_threshold: waiting,
            running_threshold: running,
            ..F5::new(F5Mode::S1)
        };
        let route = |f5| {
            let mut router = fixture.router(Routing::F5(f5));
            router.route(&Fixture::request(), &fixture.cluster()).0
        };
        assert_eq!(route(limits(Some(15), Some(20))), 1, "exactly at the threshold is fine");
        assert_eq!(route(limits(Some(15), Some(19))), 2, "the fewest connections");
        assert_eq!(route(limits(Some(16), Some(19))), 0);
    }
}
