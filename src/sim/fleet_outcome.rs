//! What a fleet that can change did: its bill, its timeline, its events.

use crate::base::{InstanceId, SimTime, Span};
use crate::policy::autoscale::Reason;
use crate::policy::health::Ailment;

/// What the fleet did and what it cost, over the whole run but where it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetOutcome {
    /// Until when the bill runs: the end of arrivals or of the last request, the later of them,
    /// and no later than the horizon.
    pub end: SimTime,
    /// By pool.
    pub pools: Vec<PoolOutcome>,
    /// Attempts after a client's first.
    pub retries: u64,
    /// Prompt and answer tokens that were computed for attempts which then were lost or given up;
    /// tokens found in a cache do not count.
    pub wasted_tokens: u64,
    /// Everything that happened to the fleet, in order of time.
    pub events: Vec<FleetEvent>,
    /// The length of an interval of the timeline; zero without a timeline.
    pub interval: Span,
    /// The intervals in order of time; the last one may be cut short by the end.
    pub timeline: Vec<Interval>,
}

/// One pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolOutcome {
    /// Time from launch to termination, summed over instances: what is paid.
    pub paid_ps: u128,
    /// The part of it in the measured window.
    pub paid_in_window_ps: u128,
    /// Time ready or draining, summed over instances, in the measured window; a crash that nobody
    /// noticed yet counts as ready.
    pub ready_in_window_ps: u128,
    /// Instances launched, those at the start included.
    pub launches: u32,
    /// Instances terminated: drained, reclaimed, or gone with their zone.
    pub terminations: u32,
    /// The most instances at once that were paid for.
    pub most: u32,
}

/// Something that happened to the fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetEvent {
    /// When.
    pub at: SimTime,
    /// In which pool, by position; `None` where several are concerned.
    pub pool: Option<u32>,
    /// To which instance.
    pub instance: Option<InstanceId>,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// An autoscaler's order was carried out: so many more should be there.
    ScaleUp {
        /// How many.
        count: u32,
        /// Why.
        reason: Reason,
    },
    /// An autoscaler's order was carried out: so many fewer should be there.
    ScaleDown {
        /// How many.
        count: u32,
        /// Why.
        reason: Reason,
    },
    /// An instance was launched.
    Launched,
    /// An instance should be launched, and there is no capacity for it.
    NoCapacity,
    /// An instance became ready, after its launch, a restart or a repair.
    Ready,
    /// An instance takes no more requests.
    Draining,
    /// An instance is gone and no longer paid for.
    Terminated,
    /// An instance crashed.
    Crashed {
        /// Position of the fault in the conditions.
        fault: u32,
    },
    /// A crash was noticed; so many requests were lost with the instance.
    Noticed {
        /// Requests lost.
        lost: u32,
    },
    /// An instance got slow.
    Slowed {
        /// Position of the fault in the conditions.
        fault: u32,
    },
    /// A slow instance is as before.
    Recovered,
    /// A zone went out.
    ZoneOut {
        /// Position of the fault in the conditions.
        fault: u32,
    },
    /// An instance went with its zone; so many requests were lost.
    ZoneLost {
        /// Requests lost.
        lost: u32,
    },
    /// The provider takes spot capacity back.
    Reclaim {
        /// Position of the fault in the conditions.
        fault: u32,
    },
    /// An instance got notice of being taken away.
    Noted,
    /// An instance was taken away; so many requests were lost.
    Reclaimed {
        /// Requests lost.
        lost: u32,
    },
    /// There is capacity again that had been missing.
    CapacityBack,
    /// An instance was found unfit and takes no more requests until it is back.
    OutOfRotation {
        /// Why.
        ailment: Ailment,
    },
    /// An instance takes requests again.
    BackInRotation,
}

/// One interval of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// Requests that arrived, by class.
    pub arrived: Vec<u32>,
    /// Of these, answered in full within the targets of their class, by class.
    pub within_slo: Vec<u32>,
    /// Requests answered in full in the interval, whenever they arrived.
    pub completed: u32,
    /// Requests that were turned away, lost, given up or dropped for good in the interval.
    pub refused: u32,
    /// Further attempts that reached the cluster in the interval.
    pub retries: u32,
    /// 99th percentile of the time to first token of requests that arrived in the interval and
    /// were answered in full, in milliseconds; within 1 %. `None` without any.
    pub ttft_p99_ms: Option<f64>,
    /// Requests waiting at the end of the interval: in wait queues, on the way there, or at the
    /// gateway.
    pub waiting: u32,
    /// Requests in batches at the end of the interval.
    pub running: u32,
    /// Time spent in each state within the interval, summed over instances, by pool.
    pub states: Vec<StateTime>,
}

/// Time in each state, summed over instances, in picoseconds. Their sum is what is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTime {
    /// From launch to ready.
    pub starting: u64,
    /// Ready to serve; a crash that nobody noticed yet counts as ready.
    pub ready: u64,
    /// Taking no more requests.
    pub draining: u64,
    /// Restarting or being repaired.
    pub down: u64,
}
