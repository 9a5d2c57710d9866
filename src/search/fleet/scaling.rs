//! How often a fleet was scaled, and how often it changed its mind.

use crate::base::Span;
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::Happening;

/// Orders in opposite directions this close to each other are a reversal.
pub const REVERSAL_WINDOW: Span = Span::from_us(600_000_000);

/// Orders that were carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scaling {
    /// Those that added instances.
    pub ups: u64,
    /// Those that removed some.
    pub downs: u64,
    /// Those in the other direction than the order before it in the same pool, at most
    /// [`REVERSAL_WINDOW`] later.
    pub reversals: u64,
}

/// The orders of the whole run.
pub fn scaling(fleet: &FleetOutcome) -> Scaling {
    let mut scaling = Scaling::default();
    let mut last = vec![None; fleet.pools.len()];
    for event in &fleet.events {
        let up = match event.what {
            Happening::ScaleUp { .. } => true,
            Happening::ScaleDown { .. } => false,
            _ => continue,
        };
        *if up { &mut scaling.ups } else { &mut scaling.downs } += 1;
        let Some(last) = event.pool.and_then(|pool| last.get_mut(pool as usize)) else { continue };
        if let Some((before, at)) = last.replace((up, event.at)) {
            let close = event.at.since(at) <= REVERSAL_WINDOW;
            scaling.reversals += u64::from(before != up && close);
        }
    }
    scaling
}
