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
