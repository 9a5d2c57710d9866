//! So many instances at this time of day.

use super::{Autoscaler, FleetView, Reason, ScaleOrder, Schedule, towards};
use crate::base::{SimTime, Span};

pub(super) struct Scheduled {
    schedule: Schedule,
}

impl Scheduled {
    pub fn new(schedule: &Schedule) -> Self {
        Self { schedule: schedule.clone() }
    }
}

impl Autoscaler for Scheduled {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Schedule { pool, period, entries } = &self.schedule;
        let within = Span::from_ps(now.as_ps() % period.as_ps());
        let begun = entries.iter().rev().find(|(from, _)| *from <= within);
        let Some(&(_, wanted)) = begun.or(entries.first()) else { return };
        let view = &fleet.pools[*pool as usize];
        towards(wanted, *pool, view, Reason::Schedule(wanted), orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::autoscale::{Action, PoolView};
    use crate::policy::signals::Samples;

    #[test]
    fn the_count_of_the_hour_is_ordered_day_after_day() {
        let hours = |hours: u64| Span::from_us(hours * 3_600_000_000);
        let entries = vec![(hours(0), 4), (hours(8), 20), (hours(20), 6)];
        let schedule = Schedule { pool: 0, period: hours(24), entries };
        let samples = Samples::default();
        let ordered = |hour, desired| {
            let view = PoolView { desired, min: 2, max: 16, ..PoolView::default() };
            let fleet = FleetView { pools: &[view], signals: &samples };
            let mut orders = Vec::new();
            let now = SimTime::ZERO + hours(hour);
            Scheduled::new(&schedule).plan(now, &fleet, &mut orders);
            orders.first().map(|order| order.action)
        };
        assert_eq!(ordered(3, 4), None);
        assert_eq!(ordered(8, 4), Some(Action::Launch { pool: 0, count: 12 }), "16 at most");
        assert_eq!(ordered(24 + 21, 16), Some(Action::Shrink { pool: 0, count: 10 }));
    }
}
