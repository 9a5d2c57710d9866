//! Who is let in, as `sim/admission.md` has it.

mod read;
mod rules;
mod saturation;

pub(super) use read::{read_admission, read_detector, read_gateway_refresh, read_priority_number};
pub use rules::{AdmissionPolicy, GateRequest, GateView, Gauge, RuleChain};
pub use saturation::{Detector, Measure};

use crate::base::Span;

/// Who is let in.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Everybody.
    AlwaysAdmit,
    /// Nobody.
    RejectAll,
    /// A request costs its prompt's tokens; the bucket starts full.
    TokenBucket {
        /// Tokens the bucket holds; above 0.
        capacity: f64,
        /// Tokens per second that flow in; above 0.
        refill_rate: f64,
    },
    /// Who finds fewer requests waiting.
    QueueLimit {
        /// The number waiting from which on nobody is let in; at least 1.
        max_waiting: u32,
        /// The limit is of each instance in rotation, not of them all.
        per_instance: bool,
    },
    /// Who finds less of the KV cache in use.
    KvLimit {
        /// The mean share over instances from which on nobody is let in; above 0.
        max_utilization: f64,
    },
    /// Urgent requests, and others while no instance has much to do.
    TierShed {
        /// The most requests in flight on one instance up to which everybody is let in.
        threshold: u32,
        /// The least priority of an urgent request.
        min_priority: i32,
    },
    /// Requests that are not sheddable, and others while the fleet is not saturated.
    Saturation {
        /// What saturation is.
        detector: Detector,
        /// The saturation from which on sheddable requests are refused; above 0.
        limit: f64,
    },
    /// Requests that are not sheddable; others are refused with the probability
    /// `min(saturation^power * k, 1)`.
    Probabilistic {
        /// What saturation is.
        detector: Detector,
        /// The exponent; at least 0.
        power: f64,
        /// The factor; at least 0.
        k: f64,
    },
    /// Who passes all of these, asked in this order; none of them a chain.
    Chain(Vec<Admission>),
}

impl Admission {
    /// Every rule by its name in a bundle, with its documented defaults.
    pub fn all() -> Vec<Self> {
        let detector = Detector::default();
        vec![
            Self::AlwaysAdmit,
            Self::RejectAll,
            Self::TokenBucket { capacity: 10_000.0, refill_rate: 1_000.0 },
            Self::QueueLimit { max_waiting: 100, per_instance: false },
            Self::KvLimit { max_utilization: 0.9 },
            Self::TierShed { threshold: 0, min_priority: 3 },
            Self::Saturation { detector, limit: 1.0 },
            Self::Probabilistic { detector, power: 5.0, k: 300.0 },
        ]
    }

    /// The name of this rule in bundles and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AlwaysAdmit => "always-admit",
            Self::RejectAll => "reject-all",
            Self::TokenBucket { .. } => "token-bucket",
            Self::QueueLimit { .. } => "queue-limit",
            Self::KvLimit { .. } => "kv-limit",
            Self::TierShed { .. } => "tier-shed",
            Self::Saturation { .. } => "saturation",
            Self::Probabilistic { .. } => "probabilistic",
            Self::Chain(_) => "chain",
        }
    }

    /// The rules in the order in which they are asked, without those that let everybody in.
    pub fn rules(&self) -> Vec<&Self> {
        match self {
            Self::AlwaysAdmit => Vec::new(),
            Self::Chain(rules) => rules.iter().flat_map(Self::rules).collect(),
            rule => vec![rule],
        }
    }

    /// The detector of this rule, where it has one.
    pub fn detector(&self) -> Option<&Detector> {
        match self {
            Self::Saturation { detector, .. } | Self::Probabilistic { detector, .. } => {
                Some(detector)
            }
            _ => None,
        }
    }
}

/// The priorities of SLO classes, where a bundle changes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priorities(pub Vec<(String, i32)>);

impl Priorities {
    /// The priority of `class`; a negative one is sheddable.
    pub fn of(&self, class: &str) -> i32 {
        let own = self.0.iter().find(|(name, _)| name == class);
        own.map_or_else(
            || match class {
                "critical" | "realtime" => 4,
                "batch" => -1,
                "sheddable" => -2,
                "background" => -3,
                _ => 3,
            },
            |&(_, priority)| priority,
        )
    }
}

/// How old the gateway's look at the instances gets unless a bundle says otherwise: the metrics
/// interval of the endpoint picker.
pub const DEFAULT_REFRESH: Span = Span::from_us(50_000);
