//! Strikes and what follows from them.

use crate::base::{Delay, Rng, SimTime, Span, Stream};
use crate::config::Market;
use crate::policy::autoscale::Drain;
use crate::scenario::{InFlight, Strike, Victim};

use super::super::fleet_outcome::{FleetEvent, Happening};
use super::cluster::{Cluster, Kind};
use super::fleet::State;

/// A crash that nobody noticed yet.
pub(super) struct Trouble {
    /// Whether its zone is gone with it.
    zone_lost: bool,
    in_flight: InFlight,
}

impl Cluster<'_> {
    pub fn strike(&mut self, now: SimTime, fault: usize) {
        let conditions = self.setting.conditions;
        let number = fault as u32;
        match &conditions.faults[fault].strike {
            Strike::Crash { victim, in_flight, repair } => {
                let delay = repair.as_ref().unwrap_or(&conditions.recovery.restart);
                if let Some(at) = self.victim(victim)
                    && self.places[at].trouble.is_none()
                {
                    self.note(now, at, Happening::Crashed { fault: number });
                    self.crash(now, at, *in_flight, delay);
                }
            }
            Strike::ZoneOutage { zone, lasting } => {
                if !self.is_anywhere(Some(zone)) {
                    return;
                }
                self.note_all(now, None, Happening::ZoneOut { fault: number });
                self.take_capacity(now, fault, *lasting);
                self.lose_zone(now, zone);
            }
            Strike::Reclaim { zone, share, notice, lasting } => {
                if !self.is_anywhere(zone.as_ref()) {
                    return;
                }
                self.note_all(now, None, Happening::Reclaim { fault: number });
                self.take_capacity(now, fault, *lasting);
                for at in 0..self.places.len() {
                    if self.is_reclaimed(at, fault, zone.as_ref(), *share) {
                        self.reclaim(now, at, *notice);
                    }
                }
            }
            Strike::Slow { victim, factor, lasting } => {
                let Some(at) = self.victim(victim) else { return };
                self.note(now, at, Happening::Slowed { fault: number });
                self.cancel(Kind::SlowEnd, at);
                self.events.insert((now + *lasting, Kind::SlowEnd, at as u64, 0));
                self.places[at].engine.as_mut().expect("it serves").slow = Some(*factor);
            }
            Strike::NoCapacity { lasting, .. } => self.take_capacity(now, fault, *lasting),
        }
    }

    /// Whether any pool is in `zone`; some are in all zones.
    fn is_anywhere(&self, zone: Option<&String>) -> bool {
        let pools = &self.setting.bundle.pools;
        zone.is_none_or(|zone| pools.iter().any(|pool| pool.zones.contains(zone)))
    }

    fn note_all(&mut self, at: SimTime, pool: Option<usize>, what: Happening) {
        let pool = pool.map(|pool| pool as u32);
        self.log.push(FleetEvent { at, pool, instance: None, what });
    }

    /// Who is struck; nobody where it does not serve.
    fn victim(&self, victim: &Victim) -> Option<usize> {
        let serving = |&at: &usize| self.places[at].serves();
        match *victim {
            Victim::Serving(number) => {
                let serving: Vec<usize> = (0..self.places.len()).filter(serving).collect();
                serving.get((number as usize).checked_rem(serving.len())?).copied()
            }
            Victim::Place { pool, place } => {
                self.places_of(pool as usize).nth(place as usize).filter(serving)
            }
        }
    }

    /// An instance that serves stops, or will when its requests are finished.
    fn crash(&mut self, now: SimTime, at: usize, in_flight: InFlight, recovery: &Delay) {
        let index = ((at as u64) << 32) + self.places[at].crashes;
        self.places[at].crashes += 1;
        let seed = self.setting.conditions.seed;
        let detection = &self.setting.conditions.recovery.detection;
        let detection = detection.draw(&mut Rng::new(seed, Stream::Detection, index));
        let recovery = recovery.draw(&mut Rng::new(seed, Stream::Recovery, index));
        self.places[at].recovery = recovery;
        self.places[at].trouble = Some(Trouble { zone_lost: false, in_flight });
        self.events.insert((now + detection, Kind::Noticed, at as u64, 0));
        if in_flight == InFlight::Lost {
            self.stop(now, at);
        }
    }

    /// Nothing moves on this instance any more.
    fn stop(&mut self, now: SimTime, at: usize) {
        let engine = self.places[at].engine.as_mut().expect("it serves");
        engine.stop(now);
        for id in engine.requests() {
            self.take_back_tokens(now, id);
        }
    }

    /// A crash is noticed.
    pub fn notice(&mut self, now: SimTime, at: usize) {
        let trouble = self.places[at].trouble.take().expect("it crashed");
        let drains = self.places[at].state == State::Draining;
        if trouble.zone_lost {
            let lost = self.lose_all(now, at);
            self.note(now, at, Happening::ZoneLost { lost });
            self.terminate(now, at);
        } else if trouble.in_flight == InFlight::Lost {
            let lost = self.lose_all(now, at);
            self.note(now, at, Happening::Noticed { lost });
            if drains && !self.places[at].isolated {
                self.terminate(now, at);
            } else {
                self.go_down(now, at);
            }
        } else {
            self.note(now, at, Happening::Noticed { lost: 0 });
            if !drains {
                self.places[at].isolated = true;
                self.drain(now, at, Drain::HandBack);
            }
        }
    }

    fn lose_zone(&mut self, now: SimTime, zone: &str) {
        for at in 0..self.places.len() {
            if self.places[at].zone != zone {
                continue;
            }
            match self.places[at].state {
                State::Vacant => {}
                State::Starting | State::Down => self.terminate(now, at),
                State::Ready | State::Draining => {
                    if self.places[at].trouble.is_none() {
                        self.crash(now, at, InFlight::Lost, &Delay::NONE);
                    }
                    self.stop(now, at);
                    self.places[at].trouble.as_mut().expect("it has stopped").zone_lost = true;
                }
            }
        }
    }

    fn is_reclaimed(&self, at: usize, fault: usize, zone: Option<&String>, share: f64) -> bool {
        let place = &self.places[at];
        let index = ((fault as u64) << 32) + at as u64;
        let mut rng = Rng::new(self.setting.conditions.seed, Stream::Reclaims, index);
        self.setting.bundle.pools[place.pool].market == Market::Spot
            && place.state != State::Vacant
            && !place.noted
            && zone.is_none_or(|zone| *zone == place.zone)
            && rng.uniform() < share
    }

    fn reclaim(&mut self, now: SimTime, at: usize, notice: Span) {
        if !self.places[at].serves() {
            self.terminate(now, at);
            return;
        }
        if notice == Span::ZERO {
            self.take_away(now, at);
            return;
        }
        let place = &mut self.places[at];
        (place.noted, place.isolated) = (true, false);
        self.note(now, at, Happening::Noted);
        self.events.insert((now + notice, Kind::NoticeEnd, at as u64, 0));
        self.drain(now, at, Drain::HandBack);
    }

    /// The provider takes an instance, with all that it still has.
    pub fn take_away(&mut self, now: SimTime, at: usize) {
        let lost = self.lose_all(now, at);
        self.note(now, at, Happening::Reclaimed { lost });
        self.terminate(now, at);
    }

    /// A slow instance is as before.
    pub fn recover(&mut self, now: SimTime, at: usize) {
        self.places[at].engine.as_mut().expect("it serves").slow = None;
        self.note(now, at, Happening::Recovered);
    }

    fn take_capacity(&mut self, now: SimTime, fault: usize, lasting: Span) {
        self.scarce.insert(fault);
        self.events.insert((now + lasting, Kind::CapacityBack, fault as u64, 0));
    }

    /// A fault takes no more capacity.
    pub fn capacity_back(&mut self, now: SimTime, fault: usize) {
        self.scarce.remove(&fault);
        for pool in 0..self.setting.bundle.pools.len() {
            if self.control.pools[pool].lacks_capacity && self.zone_for(pool).is_some() {
                self.control.pools[pool].lacks_capacity = false;
                self.note_all(now, Some(pool), Happening::CapacityBack);
                self.look_again(now, pool);
            }
        }
    }
}
