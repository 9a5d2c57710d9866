//! What the fewest instances that could have carried each interval's load would have cost.

use super::{arrived, length_s};
use crate::policy::PolicyBundle;
use crate::sim::FleetOutcome;

/// A fleet that knew the future: in each interval of the timeline it has as many instances as its
/// arrivals need, of the pool that carries a request per second at the least price, ready at once
/// and gone at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Clairvoyant {
    /// The pool that its instances are of, by position.
    pub pool: usize,
    /// Instances needed, by interval.
    pub needed: Vec<u32>,
    /// What they would have cost, in US dollars.
    pub usd: f64,
    /// Seconds of intervals in which the instances that were ready, on average over the interval,
    /// carry less than what arrived.
    pub below_needed_s: f64,
}

/// The clairvoyant fleet for what arrived, where one instance of each pool carries `capacities`
/// requests per second (`None`: its promise cannot be kept there). `None` without a timeline or
/// without any capacity.
pub fn clairvoyant(
    fleet: &FleetOutcome,
    bundle: &PolicyBundle,
    capacities: &[Option<f64>],
) -> Option<Clairvoyant> {
    let price = |pool: usize| bundle.pools[pool].instance_cost_per_hour();
    let known = capacities.iter().enumerate();
    let known = known.filter_map(|(pool, capacity)| Some((pool, (*capacity)?)));
    let cheapest = known.min_by(|a, b| (price(a.0) / a.1).total_cmp(&(price(b.0) / b.1)));
    let (pool, capacity) = cheapest.filter(|_| !fleet.timeline.is_empty())?;
    let mut ideal = Clairvoyant { pool, needed: Vec::new(), usd: 0.0, below_needed_s: 0.0 };
    for (index, interval) in fleet.timeline.iter().enumerate() {
        let length_s = length_s(fleet, index);
        let rate = if length_s > 0.0 { arrived(interval) as f64 / length_s } else { 0.0 };
        let needed = (rate / capacity).ceil();
        ideal.needed.push(needed as u32);
        ideal.usd += needed * price(pool) * length_s / 3600.0;
        let ready = interval.states.iter().zip(capacities);
        let carried: f64 =
            ready.map(|(state, one)| state.ready as f64 / 1e12 * one.unwrap_or(0.0)).sum();
        // Both in requests of the interval: no quotient to round.
        if carried < arrived(interval) as f64 {
            ideal.below_needed_s += length_s;
        }
    }
    Some(ideal)
}
