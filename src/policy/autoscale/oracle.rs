//! Knows the future, and launches for it early enough: what no real autoscaler can beat.

use super::{Autoscaler, FleetView, Oracle, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};

/// Requests that will reach the cluster, counted by intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foresight {
    /// The length of an interval; above zero where there are counts.
    pub interval: Span,
    /// Requests by interval from the start.
    pub arrivals: Vec<u64>,
}

impl Foresight {
    /// The most requests per second in any interval that touches `from..=to`.
    pub fn highest_rate(&self, from: SimTime, to: SimTime) -> f64 {
        if self.arrivals.is_empty() {
            return 0.0;
        }
        let place = |time: SimTime| (time.as_ps() / self.interval.as_ps()) as usize;
        let end = place(to).min(self.arrivals.len() - 1);
        let most = (place(from)..=end).map(|at| self.arrivals[at]).max().unwrap_or(0);
        most as f64 / self.interval.as_secs()
    }
}

pub(super) struct Clairvoyant {
    oracle: Oracle,
    foresight: Foresight,
}

impl Clairvoyant {
    pub fn new(oracle: Oracle, foresight: Foresight) -> Self {
        Self { oracle, foresight }
    }
}

impl Autoscaler for Clairvoyant {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Oracle { pool, requests_per_instance_s, lead } = self.oracle;
        let rate = self.foresight.highest_rate(now, now + lead);
        let wanted = (rate / requests_per_instance_s).ceil() as u32;
        towards(wanted, pool, &fleet.pools[pool as usize], Reason::Foresight(wanted), orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_ahead_counts() {
        let foresight = Foresight { interval: Span::from_secs(10.0), arrivals: vec![10, 50, 20] };
        let at = SimTime::from_secs;
        assert_eq!(foresight.highest_rate(at(0.0), at(9.0)).to_bits(), 1.0_f64.to_bits());
        assert_eq!(foresight.highest_rate(at(0.0), at(10.0)).to_bits(), 5.0_f64.to_bits());
        assert_eq!(foresight.highest_rate(at(25.0), at(99.0)).to_bits(), 2.0_f64.to_bits());
        assert_eq!(foresight.highest_rate(at(40.0), at(99.0)).to_bits(), 0.0_f64.to_bits());
    }
}
