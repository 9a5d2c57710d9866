//! How full a fleet is: the saturation detectors of the llm-d endpoint picker.

use super::rules::{GateView, Gauge};
use crate::base::{SimTime, Span};

/// What a detector looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The mean over instances of the longer of queue and KV use, each over its threshold.
    Utilization,
    /// Requests in flight over those that instances may have.
    Requests,
    /// Prompt tokens in flight over those that instances may have.
    Tokens,
}

/// Says how full a fleet is: 1 and more is saturated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detector {
    /// What it looks at.
    pub measure: Measure,
    /// Requests waiting on an instance that is full; above 0.
    pub queue_depth: f64,
    /// The share of KV blocks in use of an instance that is full; above 0.
    pub kv: f64,
    /// An instance whose signals are older than this counts as full.
    pub staleness: Span,
    /// How far an instance may be beyond both and still be routed to, as a share of them.
    pub headroom: f64,
    /// Whether instances beyond that are not routed to, as long as another is not.
    pub filter: bool,
    /// Requests in flight of an instance that is full; above 0.
    pub max_concurrency: f64,
    /// Prompt tokens in flight of an instance that is full; above 0.
    pub max_token_concurrency: f64,
}

impl Default for Detector {
    /// The defaults of the endpoint picker.
    fn default() -> Self {
        Self {
            measure: Measure::Utilization,
            queue_depth: 5.0,
            kv: 0.8,
            staleness: Span::from_us(200_000),
            headroom: 0.0,
            filter: false,
            max_concurrency: 100.0,
            max_token_concurrency: 1e6,
        }
    }
}

impl Detector {
    /// How full the fleet is at `now`, as far as `gate` shows; 1 without an instance in rotation.
    pub fn saturation(&self, now: SimTime, gate: &GateView) -> f64 {
        let count = gate.in_rotation().count() as f64;
        if count == 0.0 {
            return 1.0;
        }
        match self.measure {
            Measure::Utilization => {
                let fullness = gate.in_rotation().map(|at| self.fullness(now, &gate.gauges[at]));
                fullness.sum::<f64>() / count
            }
            Measure::Requests => {
                let there: u64 = gate.in_rotation().map(|at| u64::from(gate.load.count(at))).sum();
                (there + u64::from(gate.dispatched)) as f64 / (count * self.max_concurrency)
            }
            Measure::Tokens => {
                let tokens: u64 = gate.in_rotation().map(|at| gate.gauges[at].prompt_tokens).sum();
                tokens as f64 / (count * self.max_token_concurrency)
            }
        }
    }

    /// Whether it reads what was seen of instances.
    pub fn needs_gauges(&self) -> bool {
        self.measure != Measure::Requests || self.filter
    }

    fn fullness(&self, now: SimTime, gauge: &Gauge) -> f64 {
        if gauge.seen == SimTime::NEVER || now.since(gauge.seen) > self.staleness {
            return 1.0;
        }
        (f64::from(gauge.waiting) / self.queue_depth).max(gauge.kv / self.kv)
    }

    /// Whether an instance seen as `gauge` is beyond what it may have to be routed to.
    pub fn is_beyond(&self, gauge: &Gauge) -> bool {
        let kv = (self.kv * (1.0 + self.headroom)).min(1.0);
        f64::from(gauge.waiting) > self.queue_depth * (1.0 + self.headroom) || gauge.kv > kv
    }
}
