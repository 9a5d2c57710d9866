//! What the life of a fleet amounts to: its bill, what faults did, what foresight would have cost.
//!
//! All of it is derived from a [`FleetOutcome`](crate::sim::FleetOutcome) and nothing else, so that
//! metrics and reports cannot disagree.

mod bill;
mod clairvoyant;
mod faults;
mod scaling;
#[cfg(test)]
pub(crate) mod tests;

pub use bill::{PoolBill, bills, interval_usd, total_usd};
pub use clairvoyant::{Clairvoyant, clairvoyant};
pub use faults::{Aftermath, KEPT_SHARE, aftermaths};
pub use scaling::{REVERSAL_WINDOW, Scaling, scaling};

use crate::base::SimTime;
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::Interval;

/// When interval `index` of the timeline begins and ends; the run may cut the last one short.
pub fn bounds(fleet: &FleetOutcome, index: usize) -> (SimTime, SimTime) {
    let start = fleet.interval.times(index as u64);
    let start = SimTime::ZERO + start;
    (start, (start + fleet.interval).min(fleet.end).max(start))
}

/// Length of interval `index` in seconds.
pub fn length_s(fleet: &FleetOutcome, index: usize) -> f64 {
    let (start, end) = bounds(fleet, index);
    (end - start).as_secs()
}

/// Requests that arrived in an interval, over all classes.
pub fn arrived(interval: &Interval) -> u64 {
    interval.arrived.iter().map(|&count| u64::from(count)).sum()
}

/// Of these, those answered in full within the targets of their class.
pub fn within_slo(interval: &Interval) -> u64 {
    interval.within_slo.iter().map(|&count| u64::from(count)).sum()
}

/// The least share of arrivals within their targets over the intervals in which anybody arrived.
pub fn slo_attainment_min(fleet: &FleetOutcome) -> Option<f64> {
    let busy = fleet.timeline.iter().filter(|interval| arrived(interval) > 0);
    let shares = busy.map(|interval| within_slo(interval) as f64 / arrived(interval) as f64);
    shares.reduce(f64::min)
}
