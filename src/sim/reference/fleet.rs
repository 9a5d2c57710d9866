//! Places and the instances in them, from launch to termination.

use crate::base::{InstanceId, Rng, SimTime, Span, Stream};
use crate::config::Market;
use crate::policy::PolicyBundle;
use crate::policy::autoscale::Drain;
use crate::scenario::Strike;

use super::super::fleet_outcome::{FleetEvent, Happening};
use super::cluster::{Cluster, Kind};
use super::engine::Engine;
use super::faults::Trouble;
use super::health::Checkup;

/// What is in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Vacant,
    Starting,
    Ready,
    Draining,
    Down,
}

/// Figures of the instances that were in a place.
#[derive(Clone, Default)]
pub(super) struct Totals {
    pub requests: u64,
    pub steps: u64,
    pub preemptions: u64,
    pub input_tokens: u64,
    pub decode_tokens: u64,
    pub kv_blocks_peak: u32,
    pub kv_block_us: u64,
    pub hits: u64,
    pub misses: u64,
    pub busy: Span,
    pub clock: SimTime,
}

impl Totals {
    pub fn with(mut self, engine: &Engine) -> Self {
        self.requests += engine.requests;
        self.steps = engine.steps;
        self.preemptions += engine.preemptions;
        self.input_tokens += engine.input_tokens;
        self.decode_tokens += engine.decode_tokens;
        self.kv_blocks_peak = self.kv_blocks_peak.max(engine.kv_blocks_peak);
        self.kv_block_us += engine.kv_block_us;
        self.hits += engine.kv.hits;
        self.misses += engine.kv.misses;
        self.busy += engine.busy;
        self.clock = self.clock.max(engine.clock);
        self
    }
}

/// A place for an instance.
pub(super) struct Place {
    /// Its pool, by position.
    pub pool: usize,
    pub state: State,
    /// Where the instance is; without meaning while vacant.
    pub zone: String,
    /// While it serves, or should.
    pub engine: Option<Engine>,
    /// A crash that nobody noticed yet.
    pub trouble: Option<Trouble>,
    /// Whether it goes down when it has finished its requests.
    pub isolated: bool,
    /// How long it will be down after its last crash.
    pub recovery: Span,
    /// Whether it has notice of being taken away.
    pub noted: bool,
    /// What health checks know of its instance.
    pub checkup: Checkup,
    /// Whether it is too full for the request to be routed.
    pub hidden: bool,
    pub launches: u64,
    pub crashes: u64,
    /// Requests answered in full.
    pub completed: u64,
    /// Since when it was in which state.
    pub history: Vec<(SimTime, State)>,
    /// Of instances that are gone.
    pub totals: Totals,
}

impl Place {
    /// The places of a fleet, vacant.
    pub fn all(bundle: &PolicyBundle) -> Vec<Self> {
        let mut places = Vec::new();
        for (pool, of) in bundle.pools.iter().enumerate() {
            places.extend((0..of.max_instances).map(|_| Self {
                pool,
                state: State::Vacant,
                zone: String::new(),
                engine: None,
                trouble: None,
                isolated: false,
                recovery: Span::ZERO,
                noted: false,
                checkup: Checkup::default(),
                hidden: false,
                launches: 0,
                crashes: 0,
                completed: 0,
                history: Vec::new(),
                totals: Totals::default(),
            }));
        }
        places
    }

    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready && self.checkup.out.is_none() && !self.hidden
    }

    /// Whether it is to stay.
    fn is_present(&self) -> bool {
        match self.state {
            State::Starting | State::Ready | State::Down => true,
            State::Draining => self.isolated,
            State::Vacant => false,
        }
    }

    /// Whether there is an instance with requests, or for requests.
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Ready | State::Draining)
    }

    pub fn load(&self) -> usize {
        self.engine.as_ref().map_or(0, Engine::load)
    }

    /// Time in `state` from `start` to `end`.
    pub fn time_in(&self, state: State, start: SimTime, end: SimTime) -> u64 {
        let mut total = 0;
        for (at, &(since, entered)) in self.history.iter().enumerate() {
            let until = self.history.get(at + 1).map_or(end, |next| next.0);
            if entered == state {
                total += until.min(end).since(since.max(start)).as_ps();
            }
        }
        total
    }
}

impl Cluster<'_> {
    /// Launches the first instances of all pools.
    pub fn start(&mut self) {
        let cold = self.setting.conditions.cold_start;
        for (pool, of) in self.setting.bundle.pools.iter().enumerate() {
            let first: Vec<usize> = self.places_of(pool).take(of.instances as usize).collect();
            for &at in &first {
                let zone = self.zone_for(pool).expect("nothing has gone wrong yet");
                let delay = self.launch(SimTime::ZERO, at, zone);
                if cold {
                    let ready = SimTime::ZERO + delay;
                    self.events.insert((ready, Kind::Ready, at as u64, 0));
                }
            }
            if !cold {
                for at in first {
                    self.get_ready(SimTime::ZERO, at);
                }
            }
        }
    }

    /// The places of `pool`.
    pub fn places_of(&self, pool: usize) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let pools = self.places.iter().map(|place| place.pool).collect::<Vec<_>>();
        (0..pools.len()).filter(move |&at| pools[at] == pool)
    }

    /// How many instances of `pool` are there and to stay.
    pub fn present(&self, pool: usize) -> u32 {
        self.places_of(pool).filter(|&at| self.places[at].is_present()).count() as u32
    }

    /// How many instances of `pool` are in `state`.
    pub fn count(&self, pool: usize, state: State) -> u32 {
        self.places_of(pool).filter(|&at| self.places[at].state == state).count() as u32
    }

    pub fn note(&mut self, at: SimTime, place: usize, what: Happening) {
        let pool = Some(self.places[place].pool as u32);
        let instance = Some(InstanceId::new(place));
        self.log.push(FleetEvent { at, pool, instance, what });
    }

    fn enter(&mut self, now: SimTime, at: usize, state: State) {
        self.places[at].state = state;
        self.places[at].history.push((now, state));
    }

    fn vacant_place(&self, pool: usize) -> Option<usize> {
        self.places_of(pool).find(|&at| self.places[at].state == State::Vacant)
    }

    /// Whether an instance of `pool` could be launched in `zone`.
    fn has_capacity(&self, pool: usize, zone: &str) -> bool {
        let pool = &self.setting.bundle.pools[pool];
        let here = |fault_zone: &Option<String>| fault_zone.as_ref().is_none_or(|z| z == zone);
        let takes = |fault: &usize| match &self.setting.conditions.faults[*fault].strike {
            Strike::ZoneOutage { zone: out, .. } => out == zone,
            Strike::Reclaim { zone, .. } => pool.market == Market::Spot && here(zone),
            Strike::NoCapacity { pool: name, zone, .. } => {
                here(zone) && name.as_ref().is_none_or(|name| *name == pool.name)
            }
            Strike::Crash { .. } | Strike::Slow { .. } => false,
        };
        !self.scarce.iter().any(takes)
    }

    /// Where `pool` launches its next instance.
    pub fn zone_for(&self, pool: usize) -> Option<String> {
        let zones = self.setting.bundle.pools[pool].zones.iter();
        let occupied = |zone: &String| {
            let mine = self.places_of(pool).map(|at| &self.places[at]);
            mine.filter(|place| place.state != State::Vacant && place.zone == *zone).count()
        };
        zones
            .filter(|zone| self.has_capacity(pool, zone))
            .min_by_key(|zone| occupied(zone))
            .cloned()
    }

    /// Launches what is missing in `pool`, where it can be launched.
    pub fn look_again(&mut self, now: SimTime, pool: usize) {
        while self.present(pool) < self.control.pools[pool].desired {
            let Some(at) = self.vacant_place(pool) else { return };
            let Some(zone) = self.zone_for(pool) else { return self.lack_capacity(now, pool) };
            let delay = self.launch(now, at, zone);
            self.events.insert((now + delay, Kind::Ready, at as u64, 0));
        }
    }

    fn lack_capacity(&mut self, now: SimTime, pool: usize) {
        if !self.control.pools[pool].lacks_capacity {
            self.control.pools[pool].lacks_capacity = true;
            let (pool, what) = (Some(pool as u32), Happening::NoCapacity);
            self.log.push(FleetEvent { at: now, pool, instance: None, what });
        }
    }

    /// Launches an instance in place `at`; says how long it takes.
    fn launch(&mut self, now: SimTime, at: usize, zone: String) -> Span {
        let index = ((at as u64) << 32) + self.places[at].launches;
        let mut rng = Rng::new(self.setting.conditions.seed, Stream::StartUp, index);
        self.places[at].launches += 1;
        self.places[at].zone = zone;
        self.enter(now, at, State::Starting);
        self.note(now, at, Happening::Launched);
        let start_up = &self.setting.bundle.pools[self.places[at].pool].start_up;
        let provisioning = start_up.provisioning.draw(&mut rng);
        let loading = start_up.loading.draw(&mut rng);
        let warm_up = start_up.warm_up.draw(&mut rng);
        provisioning + loading + warm_up
    }

    /// An instance is ready, after its launch, a restart or a repair.
    pub fn get_ready(&mut self, now: SimTime, at: usize) {
        self.enter(now, at, State::Ready);
        self.note(now, at, Happening::Ready);
        self.signs.retain(|sign| sign.place != at);
        self.places[at].checkup = Checkup::default();
        let pool = &self.setting.bundle.pools[self.places[at].pool];
        let steps = self.places[at].totals.steps;
        self.places[at].engine = Some(Engine::new(&self.setting, (at, steps), pool));
        for id in std::mem::take(&mut self.held) {
            self.route(now, id);
        }
    }

    /// An instance that serves takes no more requests.
    pub fn drain(&mut self, now: SimTime, at: usize, how: Drain) {
        if self.places[at].state == State::Ready {
            self.enter(now, at, State::Draining);
            self.note(now, at, Happening::Draining);
        }
        let engine = self.places[at].engine.as_mut().expect("it serves");
        if how == Drain::HandBack && !engine.stopped {
            for id in engine.hand_back(now, &self.setting, &mut self.requests) {
                self.route(now, id);
            }
        }
        self.end_if_drained(now, at);
        self.look_again(now, self.places[at].pool);
    }

    /// Ends an instance that drains and has no requests.
    pub fn end_if_drained(&mut self, now: SimTime, at: usize) {
        let place = &self.places[at];
        let is_empty = |engine: &Engine| !engine.stopped && engine.requests().is_empty();
        if place.state != State::Draining || !place.engine.as_ref().is_some_and(is_empty) {
            return;
        }
        if place.isolated {
            self.go_down(now, at);
        } else {
            self.terminate(now, at);
        }
    }

    /// The instance is gone from its place.
    pub fn terminate(&mut self, now: SimTime, at: usize) {
        self.lose_engine(now, at);
        for kind in [Kind::Ready, Kind::Noticed, Kind::NoticeEnd] {
            self.cancel(kind, at);
        }
        let place = &mut self.places[at];
        (place.trouble, place.isolated, place.noted) = (None, false, false);
        self.enter(now, at, State::Vacant);
        self.note(now, at, Happening::Terminated);
        self.look_again(now, self.places[at].pool);
    }

    /// The instance restarts or is repaired.
    pub fn go_down(&mut self, now: SimTime, at: usize) {
        self.lose_engine(now, at);
        self.cancel(Kind::Noticed, at);
        let place = &mut self.places[at];
        (place.trouble, place.isolated) = (None, false);
        let ready = now + place.recovery;
        self.enter(now, at, State::Down);
        self.events.insert((ready, Kind::Ready, at as u64, 0));
    }

    fn lose_engine(&mut self, now: SimTime, at: usize) {
        self.cancel(Kind::SlowEnd, at);
        self.router.forget(at);
        if let Some(mut engine) = self.places[at].engine.take() {
            engine.stop(now);
            let totals = std::mem::take(&mut self.places[at].totals);
            self.places[at].totals = totals.with(&engine);
        }
    }
}
