//! What each fault cost: requests lost, and the time until promises were kept again.

use std::collections::BTreeMap;

use super::{arrived, bounds, within_slo};
use crate::base::{InstanceId, SimTime, Span};
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::{FleetEvent, Happening, Interval};

/// An interval is fine when at least this share of its arrivals was kept within the targets.
pub const KEPT_SHARE: f64 = 0.95;

/// A fault that struck, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aftermath {
    /// Its position in the conditions.
    pub fault: u32,
    /// The strike itself.
    pub strike: FleetEvent,
    /// Attempts lost with the instances that it stopped or took.
    pub lost: u64,
    /// From the strike to the end of the last of the unbroken series of intervals, from the one of
    /// the strike or the one after it on (a strike late in an interval shows in the next), that
    /// were not fine; zero where neither was bad. `None` without a timeline.
    pub recovery: Option<Span>,
}

/// The faults that struck, in order of time. Instances that went with a zone count to the last
/// outage of any zone before.
pub fn aftermaths(fleet: &FleetOutcome) -> Vec<Aftermath> {
    let mut blame = Blame::default();
    for event in &fleet.events {
        blame.take(event, fleet);
    }
    blame.faults
}

/// Who is to blame for what is lost later.
#[derive(Default)]
struct Blame {
    faults: Vec<Aftermath>,
    /// Entries of `faults`.
    crashed: BTreeMap<InstanceId, usize>,
    noted: BTreeMap<InstanceId, usize>,
    outage: Option<usize>,
    reclaim: Option<usize>,
}

impl Blame {
    fn take(&mut self, event: &FleetEvent, fleet: &FleetOutcome) {
        let instance = event.instance;
        match event.what {
            Happening::Crashed { fault } => {
                let at = self.strike(fault, event, fleet);
                self.crashed.extend(instance.map(|instance| (instance, at)));
            }
            Happening::Slowed { fault } => {
                self.strike(fault, event, fleet);
            }
            Happening::ZoneOut { fault } => self.outage = Some(self.strike(fault, event, fleet)),
            Happening::Reclaim { fault } => self.reclaim = Some(self.strike(fault, event, fleet)),
            Happening::Noted => {
                self.noted.extend(instance.zip(self.reclaim));
            }
            Happening::Noticed { lost } | Happening::ZoneLost { lost } => {
                let crash = instance.and_then(|instance| self.crashed.remove(&instance));
                self.lose(crash.or(self.outage), lost);
            }
            Happening::Reclaimed { lost } => {
                let noted = instance.and_then(|instance| self.noted.remove(&instance));
                self.lose(noted.or(self.reclaim), lost);
            }
            // Whoever is in that place now had no part in it.
            Happening::Launched => {
                for owners in [&mut self.crashed, &mut self.noted] {
                    instance.map(|instance| owners.remove(&instance));
                }
            }
            _ => {}
        }
    }

    /// The entry of `fault`, new where it has none yet.
    fn strike(&mut self, fault: u32, event: &FleetEvent, fleet: &FleetOutcome) -> usize {
        let known = self.faults.iter().position(|known| known.fault == fault);
        known.unwrap_or_else(|| {
            let recovery = recovery(fleet, event.at);
            self.faults.push(Aftermath { fault, strike: *event, lost: 0, recovery });
            self.faults.len() - 1
        })
    }

    fn lose(&mut self, to_blame: Option<usize>, lost: u32) {
        if let Some(at) = to_blame {
            self.faults[at].lost += u64::from(lost);
        }
    }
}

fn recovery(fleet: &FleetOutcome, at: SimTime) -> Option<Span> {
    let struck = at.as_ps().checked_div(fleet.interval.as_ps())? as usize;
    let bad_at = |index: usize| fleet.timeline.get(index).is_some_and(is_bad);
    let first = if bad_at(struck) { struck } else { struck + 1 };
    let bad = (first..).take_while(|&index| bad_at(index)).count();
    Some(match bad {
        0 => Span::ZERO,
        _ => bounds(fleet, first + bad - 1).1.since(at),
    })
}

fn is_bad(interval: &Interval) -> bool {
    (within_slo(interval) as f64) < KEPT_SHARE * arrived(interval) as f64
}
