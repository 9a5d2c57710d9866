//! What a fleet is paid: the time from launch to termination of every instance.

use crate::policy::{PolicyBundle, Pool};
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::{Interval, StateTime};

/// Picoseconds in an hour.
const PS_PER_HOUR: f64 = 3.6e15;

/// What one pool is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolBill {
    /// Hours from launch to termination, summed over instances, whole run.
    pub instance_hours: f64,
    /// The same times the GPUs of an instance.
    pub gpu_hours: f64,
    /// US dollars for the whole run.
    pub usd: f64,
    /// US dollars of it in the measured window.
    pub usd_in_window: f64,
}

/// The bill of each pool of `bundle`.
pub fn bills(fleet: &FleetOutcome, bundle: &PolicyBundle) -> Vec<PoolBill> {
    let bill = |(paid, pool): (&crate::sim::fleet_outcome::PoolOutcome, &Pool)| {
        let instance_hours = paid.paid_ps as f64 / PS_PER_HOUR;
        let in_window = paid.paid_in_window_ps as f64 / PS_PER_HOUR;
        PoolBill {
            instance_hours,
            gpu_hours: instance_hours * f64::from(pool.gpus_per_instance),
            usd: instance_hours * pool.instance_cost_per_hour(),
            usd_in_window: in_window * pool.instance_cost_per_hour(),
        }
    };
    fleet.pools.iter().zip(&bundle.pools).map(bill).collect()
}

/// US dollars for the whole run, over all pools.
pub fn total_usd(fleet: &FleetOutcome, bundle: &PolicyBundle) -> f64 {
    bills(fleet, bundle).iter().map(|bill| bill.usd).sum()
}

/// US dollars for one interval of the timeline, over all pools.
pub fn interval_usd(interval: &Interval, bundle: &PolicyBundle) -> f64 {
    let paid = |state: &StateTime| {
        let StateTime { starting, ready, draining, down } = *state;
        [starting, ready, draining, down].iter().map(|&ps| ps as f64 / PS_PER_HOUR).sum::<f64>()
    };
    let pools = interval.states.iter().zip(&bundle.pools);
    pools.map(|(state, pool)| paid(state) * pool.instance_cost_per_hour()).sum()
}
