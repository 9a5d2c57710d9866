//! Orders of an autoscaler: what of them a fleet accepts, and who goes.

use crate::base::SimTime;
use crate::policy::autoscale::{Action, CooldownFrom, Reason, ScaleOrder};
use crate::policy::load::Load;
use crate::sim::fleet::{Fleet, State};
use crate::sim::fleet_outcome::Happening;
use std::cmp::Reverse;

/// What follows from an order that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The pool.
    pub pool: usize,
    /// Places to be terminated at once.
    pub end: Vec<usize>,
    /// Places to be drained.
    pub drain: Vec<usize>,
}

impl Fleet<'_> {
    /// Accepts what can be accepted of an order; returns what is to be taken away: those to be
    /// terminated at once, and those to be drained. What is to be launched is missing then.
    pub fn accept(&mut self, order: &ScaleOrder, load: &Load, now: SimTime) -> Option<Accepted> {
        let (pool, up, count) = match order.action {
            Action::Launch { pool, count } => (pool as usize, true, count),
            Action::Shrink { pool, count } => (pool as usize, false, count),
            Action::Drain(instance) => {
                let place = self.places.get(instance.index())?;
                if place.state != State::Ready {
                    return None;
                }
                (place.pool as usize, false, 1)
            }
        };
        let spec = &self.pools_spec[pool];
        let desired = self.pools[pool].desired;
        let count = if up {
            count.min(spec.max_instances.saturating_sub(desired))
        } else {
            count.min(desired.saturating_sub(spec.min_instances))
        };
        if count == 0 || !self.may_scale(pool, up, now) {
            return None;
        }
        let mut accepted = Accepted { pool, end: Vec::new(), drain: Vec::new() };
        self.note_order(pool, up, count, order.reason, now);
        if up {
            self.pools[pool].desired += count;
        } else {
            self.pools[pool].desired -= count;
            match order.action {
                Action::Drain(instance) => accepted.drain.push(instance.index()),
                _ => self.choose_who_goes(load, &mut accepted),
            }
        }
        Some(accepted)
    }

    fn note_order(&mut self, pool: usize, up: bool, count: u32, reason: Reason, now: SimTime) {
        let state = &mut self.pools[pool];
        state.last_any = Some(now);
        if up {
            state.last_up = Some(now);
            let from = self.scaling.map(|scaling| scaling.cooldown_from);
            state.unsettled = from == Some(CooldownFrom::Ready);
        }
        let what = if up {
            Happening::ScaleUp { count, reason }
        } else {
            Happening::ScaleDown { count, reason }
        };
        self.note_of_all(now, Some(pool as u32), what);
    }

    /// Whether cooldowns and the pending guard allow an order.
    fn may_scale(&self, pool: usize, up: bool, now: SimTime) -> bool {
        let Some(scaling) = self.scaling else { return false };
        let starting = self.in_state(pool, State::Starting) > 0;
        let state = &self.pools[pool];
        let missing = self.present(pool) < state.desired;
        if up && scaling.pending_guard && (starting || missing) {
            return false;
        }
        if state.unsettled {
            return false;
        }
        let (last, cooldown) = if up {
            (state.last_up, scaling.cooldown_up)
        } else {
            (state.last_any, scaling.cooldown_down)
        };
        last.is_none_or(|last| now.since(last) >= cooldown)
    }

    /// Cooldowns that count from ready begin when none of a pool is starting any more.
    pub fn settle_cooldowns(&mut self, now: SimTime) {
        for pool in 0..self.pools.len() {
            if self.pools[pool].unsettled && self.in_state(pool, State::Starting) == 0 {
                let state = &mut self.pools[pool];
                state.unsettled = false;
                (state.last_up, state.last_any) = (Some(now), Some(now));
            }
        }
    }

    fn choose_who_goes(&self, load: &Load, accepted: &mut Accepted) {
        let pool = accepted.pool;
        let too_many = self.present(pool).saturating_sub(self.pools[pool].desired) as usize;
        for state in [State::Starting, State::Down] {
            let there = self.range(pool).rev().filter(|&at| self.places[at].state == state);
            accepted.end.extend(there.take(too_many - accepted.end.len()));
        }
        let mut ready: Vec<usize> =
            self.range(pool).filter(|&at| self.places[at].state == State::Ready).collect();
        ready.sort_by_key(|&at| (load.count(at), Reverse(at)));
        accepted.drain.extend(ready.into_iter().take(too_many - accepted.end.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{InstanceId, Span};
    use crate::config::{Defaults, Problems, parse};
    use crate::policy::autoscale::Reason;
    use crate::policy::{PolicyBundle, read_bundle};
    use crate::scenario::Conditions;

    const NOW: SimTime = SimTime::ZERO;

    fn bundle() -> PolicyBundle {
        let text = "pools: {a: {instances: 3, min_instances: 1, max_instances: 4}}\n\
                    autoscaling: {policy: scheduled, \
                    schedule: {entries: [{at: 0s, instances: 3}]}}\n";
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
        read_bundle(&node, Defaults::embedded(), &mut problems).expect("a bundle")
    }

    fn order(action: Action) -> ScaleOrder {
        ScaleOrder { action, reason: Reason::Schedule(0) }
    }

    #[test]
    fn a_named_instance_goes_where_it_serves_and_the_least_allows_it() {
        let (bundle, conditions) = (bundle(), Conditions::calm(1));
        let window = (SimTime::ZERO, SimTime::from_secs(60.0));
        let mut fleet = Fleet::new(&bundle, &conditions, window, Span::ZERO);
        for place in fleet.launch_missing(0, NOW) {
            fleet.set_state(place, State::Ready, NOW);
        }
        let mut load = Load::default();
        load.reset(4);
        let drain = |fleet: &mut Fleet, instance| {
            let drain = order(Action::Drain(InstanceId(instance)));
            let accepted = fleet.accept(&drain, &load, NOW)?;
            for &place in &accepted.drain {
                fleet.set_state(place, State::Draining, NOW);
            }
            Some(accepted.drain)
        };
        assert_eq!(drain(&mut fleet, 3), None, "nobody is there");
        assert_eq!(drain(&mut fleet, 1), Some(vec![1]));
        assert_eq!(drain(&mut fleet, 1), None, "it drains already");
        assert_eq!(drain(&mut fleet, 0), Some(vec![0]));
        assert_eq!(drain(&mut fleet, 2), None, "one stays");
        assert_eq!(fleet.view(0).desired, 1);
        let many = order(Action::Launch { pool: 0, count: 9 });
        assert!(fleet.accept(&many, &load, NOW).is_some());
        assert_eq!(fleet.view(0).desired, 4, "no more than the most");
    }
}
