//! The queue of the gateway: who may wait there, and who goes next; see `sim/admission.md`.

mod queue;
mod read;

pub use queue::{FlowQueue, Joined, Newcomer};
pub(super) use read::read_flow_control;

use crate::base::Span;
use crate::policy::admission::Detector;

/// The queue of the gateway. Limits of 0 are none.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowControl {
    /// What saturation is.
    pub detector: Detector,
    /// Requests in the queue.
    pub max_requests: u32,
    /// Prompt tokens in the queue.
    pub max_tokens: u64,
    /// How long a request waits at most; zero: as long as it takes.
    pub request_ttl: Span,
    /// The ceiling of the lowest band; in (0, 1].
    pub usage_limit: f64,
    /// Whether a newcomer takes the place of a sheddable request of lower priority.
    pub displace: bool,
    /// Whose requests are one flow.
    pub flow: Flow,
    /// Between two tries; above zero.
    pub dispatch_interval: Span,
    /// Requests that a try dispatches at most; at least 1.
    pub dispatch_burst: u32,
    /// The rules of a band that is not among `bands`.
    pub others: BandRules,
    /// The rules of bands, by priority; priorities are distinct.
    pub bands: Vec<(i32, BandRules)>,
}

/// Whose requests are one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Those of a tenant.
    Tenant,
    /// Those of a client.
    Client,
}

/// What holds within a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandRules {
    /// Requests in the band; 0: no limit of its own.
    pub max_requests: u32,
    /// Which flow is next.
    pub fairness: Fairness,
    /// Who is next in a flow.
    pub ordering: Ordering,
}

/// Which flow of a band is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fairness {
    /// The one whose first request is first.
    GlobalStrict,
    /// Each in turn, by number.
    RoundRobin,
}

/// Who is next in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Who joined first.
    Fcfs,
    /// Whose deadline is first.
    SloDeadline,
}

impl Default for FlowControl {
    fn default() -> Self {
        Self {
            detector: Detector::default(),
            max_requests: 0,
            max_tokens: 0,
            request_ttl: Span::ZERO,
            usage_limit: 1.0,
            displace: false,
            flow: Flow::Tenant,
            dispatch_interval: Span::from_us(1_000),
            dispatch_burst: 1,
            others: BandRules {
                max_requests: 0,
                fairness: Fairness::GlobalStrict,
                ordering: Ordering::Fcfs,
            },
            bands: Vec::new(),
        }
    }
}

impl FlowControl {
    /// The priorities of all bands, the highest first; `classes` are those of the workload.
    pub fn priorities(&self, classes: &[i32]) -> Vec<i32> {
        let named = self.bands.iter().map(|&(priority, _)| priority);
        let mut priorities: Vec<i32> = named.chain(classes.iter().copied()).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        priorities.dedup();
        priorities
    }

    /// The rules of the band of `priority`.
    pub fn rules(&self, priority: i32) -> BandRules {
        let own = self.bands.iter().find(|(other, _)| *other == priority);
        own.map_or(self.others, |&(_, rules)| rules)
    }

    /// The saturation from which on band `at` of `bands` waits.
    pub fn ceiling(&self, at: usize, bands: usize) -> f64 {
        if bands < 2 {
            return 1.0;
        }
        1.0 - at as f64 * (1.0 - self.usage_limit) / (bands - 1) as f64
    }
}
