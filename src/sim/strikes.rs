//! What faults and orders do to instances and their requests.

use crate::base::{Delay, InstanceId, SimTime, Span, Stream};
use crate::policy::autoscale::Drain;
use crate::scenario::{InFlight, Strike, Victim};
use crate::sim::cluster::Cluster;
use crate::sim::fleet::{After, Crash, Due, Shortage, State};
use crate::sim::fleet_outcome::Happening;
use crate::sim::moving::rng_of;
use crate::sim::source::Source;

impl<S: Source> Cluster<'_, S> {
    /// Launches the instances of the start, ready at once unless the start is cold.
    pub(super) fn start_fleet(&mut self) {
        let now = SimTime::ZERO;
        let cold = self.moving().is_cold();
        for place in 0..self.s.engines.len() {
            self.s.load.set_open(place, false);
        }
        for pool in 0..self.fleet().pools() {
            for place in self.fleet().launch_missing(pool, now) {
                if !cold {
                    self.open(place, now);
                }
            }
        }
    }

    /// Does what is due in the fleet.
    pub(super) fn on_fleet(&mut self) {
        let Some((now, due, index)) = self.fleet().pop() else { return };
        let place = index as usize;
        match due {
            Due::Capacity => {
                self.fleet().capacity_back(index, now);
            }
            Due::Strike => self.strike(index, now),
            Due::Interval => self.end_interval(index, now),
            Due::Scrape => self.scrape(now),
            Due::Decision => self.decide(now),
            Due::Check => self.check_health(now),
            Due::Notice if self.fleet().places[place].notice_at == now => self.notice(place, now),
            Due::Deadline if self.fleet().places[place].deadline_at == now => {
                let lost = self.lose_all(place, now);
                self.fleet().note(now, place, Happening::Reclaimed { lost });
                self.terminate(place, now);
            }
            Due::Recovery if self.fleet().places[place].recovery_at == now => {
                self.fleet().places[place].recovery_at = SimTime::NEVER;
                self.fleet().note(now, place, Happening::Recovered);
                self.slow(place, 1.0, now);
            }
            Due::Ready if self.fleet().places[place].ready_at == now => self.open(place, now),
            // What was due has been called off.
            Due::Notice | Due::Deadline | Due::Recovery | Due::Ready => {}
        }
    }

    pub(super) fn launch_missing(&mut self, pool: usize, now: SimTime) {
        self.fleet().launch_missing(pool, now);
    }

    /// Ends an instance without requests.
    pub(super) fn terminate(&mut self, place: usize, now: SimTime) {
        self.close(place);
        self.router.forget(InstanceId::new(place));
        self.with_engine(place, |engine, _| engine.renew(now));
        let pool = self.fleet().places[place].pool as usize;
        self.fleet().vacate(place, now);
        self.launch_missing(pool, now);
    }

    fn close(&mut self, place: usize) {
        self.set_open(place, false);
    }

    /// Lets an instance take no more requests.
    pub(super) fn drain(&mut self, place: usize, how: Drain, after: After, now: SimTime) {
        self.close(place);
        self.fleet().places[place].after = after;
        self.fleet().set_state(place, State::Draining, now);
        self.fleet().note(now, place, Happening::Draining);
        if how == Drain::HandBack && !self.s.engines[place].is_frozen() {
            self.hand_back(place, now);
        }
        self.end_if_empty(place, now);
    }

    /// Ends or restarts a draining instance that has no more requests.
    pub(super) fn end_if_empty(&mut self, place: usize, now: SimTime) {
        let at = &self.fleet().places[place];
        let (state, after) = (at.state, at.after);
        let engine = &self.s.engines[place];
        if state != State::Draining || engine.is_frozen() || !engine.is_empty() {
            return;
        }
        match after {
            After::End => self.terminate(place, now),
            After::Restart => self.go_down(place, now),
        }
    }

    fn strike(&mut self, fault: u32, now: SimTime) {
        let strike = self.moving().strike(fault);
        match strike {
            Strike::Crash { victim, in_flight, .. } => {
                self.crash(victim, *in_flight, fault, now);
            }
            Strike::ZoneOutage { zone, lasting } => self.zone_outage(zone, *lasting, fault, now),
            Strike::Reclaim { .. } => self.reclaim(strike, fault, now),
            Strike::Slow { victim, factor, lasting } => {
                let Some(place) = self.fleet().find(victim) else { return };
                self.fleet().note(now, place, Happening::Slowed { fault });
                let until = now + *lasting;
                self.fleet().places[place].recovery_at = until;
                self.fleet().schedule(until, Due::Recovery, place as u32);
                self.slow(place, *factor, now);
            }
            Strike::NoCapacity { pool, zone, lasting } => {
                let pool = pool.as_ref().map(|name| self.fleet().pool(name));
                let zone = zone.as_ref().map(|name| self.fleet().zone(name));
                // A pool or a zone that this fleet does not have lacks nothing.
                if pool == Some(None) || zone == Some(None) {
                    return;
                }
                let (pool, zone) = (pool.flatten(), zone.flatten());
                let until = now + *lasting;
                self.fleet().shorten(Shortage { pool, zone, spot: false }, until);
            }
        }
    }

    fn slow(&mut self, place: usize, factor: f64, now: SimTime) {
        let begun = self.begun(place, now);
        self.with_engine(place, |engine, cx| engine.slow(factor, begun, cx));
    }

    fn crash(&mut self, victim: &Victim, in_flight: InFlight, fault: u32, now: SimTime) {
        let Some(place) = self.fleet().find(victim) else { return };
        if self.fleet().places[place].notice_at != SimTime::NEVER {
            return;
        }
        self.fleet().note(now, place, Happening::Crashed { fault });
        self.notice_later(place, fault, now);
        if in_flight == InFlight::Lost {
            self.stop(place, now);
        }
    }

    /// Draws when a crash will be noticed.
    fn notice_later(&mut self, place: usize, fault: u32, now: SimTime) {
        let (seed, delay) = self.moving().detection();
        let at = &mut self.fleet().places[place];
        let number = at.crashes;
        at.crashes += 1;
        at.crash = Crash { fault, number, stopped: false, zone_lost: false };
        let noticed = now + delay.draw(&mut rng_of(seed, Stream::Detection, place, number));
        self.fleet().places[place].notice_at = noticed;
        self.fleet().schedule(noticed, Due::Notice, place as u32);
    }

    fn stop(&mut self, place: usize, now: SimTime) {
        self.fleet().places[place].crash.stopped = true;
        let begun = self.begun(place, now);
        self.with_engine(place, |engine, cx| {
            engine.freeze(now, begun, cx);
            engine.lose_tokens_after(now, cx);
        });
    }

    fn notice(&mut self, place: usize, now: SimTime) {
        let at = &mut self.fleet().places[place];
        at.notice_at = SimTime::NEVER;
        let (crash, state, after) = (at.crash, at.state, at.after);
        if crash.zone_lost {
            let lost = self.lose_all(place, now);
            self.fleet().note(now, place, Happening::ZoneLost { lost });
            self.terminate(place, now);
        } else if crash.stopped {
            let lost = self.lose_all(place, now);
            self.fleet().note(now, place, Happening::Noticed { lost });
            if state == State::Draining && after == After::End {
                self.terminate(place, now);
            } else {
                self.go_down(place, now);
            }
        } else {
            self.fleet().note(now, place, Happening::Noticed { lost: 0 });
            if state == State::Ready {
                self.drain(place, Drain::HandBack, After::Restart, now);
            }
        }
    }

    /// An instance without requests restarts, or is repaired.
    fn go_down(&mut self, place: usize, now: SimTime) {
        self.close(place);
        self.router.forget(InstanceId::new(place));
        self.with_engine(place, |engine, _| engine.renew(now));
        self.fleet().set_state(place, State::Down, now);
        let Crash { fault, number, .. } = self.fleet().places[place].crash;
        let (seed, restart) = self.moving().restart();
        let repair = match self.moving().strike(fault) {
            Strike::Crash { repair, .. } => repair.as_ref(),
            _ => None,
        };
        let delay: &Delay = repair.unwrap_or(restart);
        let delay = delay.draw(&mut rng_of(seed, Stream::Recovery, place, number));
        let at = &mut self.fleet().places[place];
        // A crash that nobody noticed yet ends with the restart.
        (at.recovery_at, at.notice_at) = (SimTime::NEVER, SimTime::NEVER);
        at.after = After::Restart;
        self.fleet().ready_in(place, delay, now);
    }

    fn zone_outage(&mut self, zone: &str, lasting: Span, fault: u32, now: SimTime) {
        let Some(zone) = self.fleet().zone(zone) else { return };
        self.fleet().note_of_all(now, None, Happening::ZoneOut { fault });
        let until = now + lasting;
        self.fleet().shorten(Shortage { pool: None, zone: Some(zone), spot: false }, until);
        for place in self.occupied_in(Some(zone)) {
            if !self.fleet().places[place].serves() {
                self.terminate(place, now);
                continue;
            }
            if self.fleet().places[place].notice_at == SimTime::NEVER {
                self.notice_later(place, fault, now);
            }
            self.fleet().places[place].crash.zone_lost = true;
            self.stop(place, now);
        }
    }

    fn occupied_in(&mut self, zone: Option<u32>) -> Vec<usize> {
        let places = self.fleet().places.iter().enumerate();
        let there = places.filter(|(_, place)| {
            place.state != State::Vacant && zone.is_none_or(|zone| place.zone == zone)
        });
        there.map(|(at, _)| at).collect()
    }

    fn reclaim(&mut self, strike: &Strike, fault: u32, now: SimTime) {
        let Strike::Reclaim { zone, share, notice, lasting } = strike else { return };
        let zone = zone.as_ref().map(|name| self.fleet().zone(name));
        if zone == Some(None) {
            return;
        }
        let zone = zone.flatten();
        let (pool, until) = (None, now + *lasting);
        self.fleet().note_of_all(now, None, Happening::Reclaim { fault });
        self.fleet().shorten(Shortage { pool, zone, spot: true }, until);
        let seed = self.moving().seed();
        for place in self.occupied_in(zone) {
            let at = &self.fleet().places[place];
            let (noted, serves) = (at.noted, at.serves());
            if !self.fleet().is_spot(place) || noted {
                continue;
            }
            let mut rng = rng_of(seed, Stream::Reclaims, fault as usize, place as u32);
            if rng.uniform() >= *share {
                continue;
            }
            if !serves {
                self.terminate(place, now);
            } else if *notice == Span::ZERO {
                let lost = self.lose_all(place, now);
                self.fleet().note(now, place, Happening::Reclaimed { lost });
                self.terminate(place, now);
            } else {
                self.give_notice(place, now + *notice, now);
            }
        }
    }

    /// An instance will be taken away at `end`.
    fn give_notice(&mut self, place: usize, end: SimTime, now: SimTime) {
        self.fleet().note(now, place, Happening::Noted);
        let at = &mut self.fleet().places[place];
        at.noted = true;
        at.deadline_at = end;
        let (state, pool) = (at.state, at.pool as usize);
        at.after = After::End;
        self.fleet().schedule(end, Due::Deadline, place as u32);
        if state == State::Ready {
            self.drain(place, Drain::HandBack, After::End, now);
        } else if !self.s.engines[place].is_frozen() {
            self.hand_back(place, now);
            self.end_if_empty(place, now);
        }
        self.launch_missing(pool, now);
    }
}
