//! The places of a fleet and the life of their instances: states, orders, capacity, the bill.
//!
//! Knows nothing of requests and engines; the cluster carries out what follows for them.

use crate::base::{InstanceId, Rng, SimTime, Span, Stream};
use crate::config::Market;
use crate::policy::autoscale::{Autoscaling, PoolView};
use crate::policy::{PolicyBundle, Pool};
use crate::scenario::{Conditions, Victim};
use crate::sim::fleet_outcome::{FleetEvent, Happening, PoolOutcome, StateTime};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What can be due in a fleet; of several at one instant the first kind goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Capacity that was missing is back.
    Capacity,
    /// A fault strikes; the index is its position in the conditions.
    Strike,
    /// A crash is noticed; the index, as for the next three, is the place.
    Notice,
    /// The notice of a reclaim is over.
    Deadline,
    /// An instance is as fast as before.
    Recovery,
    /// An instance is ready.
    Ready,
    /// An interval of the timeline ends; the index is its position.
    Interval,
    /// The signals are scraped.
    Scrape,
    /// The autoscaler decides.
    Decision,
    /// The health of instances is checked.
    Check,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is none.
    #[default]
    Vacant,
    /// Launched, not ready.
    Starting,
    /// Serves.
    Ready,
    /// Takes no more requests.
    Draining,
    /// Restarts or is being repaired.
    Down,
}

/// What becomes of an instance when it has no more requests, or when its crash is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// It restarts.
    #[default]
    Restart,
    /// It is terminated.
    End,
}

/// A crash that was not noticed yet, or whose recovery goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crash {
    /// Position of the fault.
    pub fault: u32,
    /// Crashes of the place before.
    pub number: u32,
    /// Nothing moves: not a crash whose requests are finished.
    pub stopped: bool,
    /// The whole zone went.
    pub zone_lost: bool,
}

/// A place for an instance.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its pool.
    pub pool: u32,
    /// The zone of its instance.
    pub zone: u32,
    /// Where its instance is in its life.
    pub state: State,
    /// What comes after draining.
    pub after: After,
    /// It is to be taken away, or was: not present any more.
    pub noted: bool,
    /// Launches and crashes so far.
    pub launches: u32,
    pub crashes: u32,
    /// The last crash.
    pub crash: Crash,
    /// When what is due, NEVER where it is not.
    pub notice_at: SimTime,
    pub deadline_at: SimTime,
    pub recovery_at: SimTime,
    pub ready_at: SimTime,
    /// When its instance was launched, and when it came into its state.
    pub launched: SimTime,
    pub entered: SimTime,
    since: SimTime,
}

/// A pool while the run goes on.
#[derive(Clone, Debug)]
pub(super) struct PoolState {
    first: u32,
    places: u32,
    zones: Vec<u32>,
    pub desired: u32,
    /// A shortage of capacity was noted.
    pub short: bool,
    pub last_up: Option<SimTime>,
    pub last_any: Option<SimTime>,
    /// A launch order waits until none is starting; cooldowns count from then.
    pub unsettled: bool,
    occupied: u32,
    ready_ps: u128,
    outcome: PoolOutcome,
}

/// Where nothing can be launched for some time.
#[derive(Clone, Debug)]
pub struct Shortage {
    /// The pool; `None`: all.
    pub pool: Option<u32>,
    /// The zone; `None`: all.
    pub zone: Option<u32>,
    /// Spot only.
    pub spot: bool,
}

/// The places of a fleet.
#[derive(Debug)]
pub struct Fleet<'a> {
    pub(super) pools_spec: &'a [Pool],
    conditions: &'a Conditions,
    pub(super) scaling: Option<&'a Autoscaling>,
    /// All places, through the pools.
    pub places: Vec<Place>,
    pub(super) pools: Vec<PoolState>,
    zones: Vec<String>,
    /// Shortages by the order in which they began; `None` when they are over.
    shortages: Vec<Option<Shortage>>,
    due: BinaryHeap<Reverse<(SimTime, Due, u32)>>,
    /// What happened.
    pub log: Vec<FleetEvent>,
    window: (SimTime, SimTime),
    interval: Span,
    states: Vec<Vec<StateTime>>,
}

impl<'a> Fleet<'a> {
    /// A fleet before its start. `window` is the measured one, `interval` that of the timeline,
    /// zero without.
    pub fn new(
        bundle: &'a PolicyBundle,
        conditions: &'a Conditions,
        window: (SimTime, SimTime),
        interval: Span,
    ) -> Self {
        let mut fleet = Self {
            pools_spec: &bundle.pools,
            conditions,
            scaling: bundle.autoscaling.as_ref(),
            places: Vec::new(),
            pools: Vec::new(),
            zones: Vec::new(),
            shortages: Vec::new(),
            due: BinaryHeap::new(),
            log: Vec::new(),
            window,
            interval,
            states: Vec::new(),
        };
        for (at, pool) in bundle.pools.iter().enumerate() {
            fleet.add_pool(at as u32, pool);
        }
        fleet.schedule_all();
        if let Some(checks) = &bundle.gateway.health_checks {
            fleet.schedule(SimTime::ZERO + checks.interval, Due::Check, 0);
        }
        fleet
    }

    fn add_pool(&mut self, at: u32, pool: &Pool) {
        let never = SimTime::NEVER;
        let place = Place {
            pool: at,
            notice_at: never,
            deadline_at: never,
            recovery_at: never,
            ready_at: never,
            ..Place::default()
        };
        let zones = pool.zones.iter().map(|zone| self.zone_or_new(zone)).collect();
        self.pools.push(PoolState {
            first: self.places.len() as u32,
            places: pool.max_instances,
            zones,
            desired: pool.instances,
            short: false,
            last_up: None,
            last_any: None,
            unsettled: false,
            occupied: 0,
            ready_ps: 0,
            outcome: PoolOutcome::default(),
        });
        self.places.extend((0..pool.max_instances).map(|_| place.clone()));
    }

    fn zone_or_new(&mut self, name: &str) -> u32 {
        let known = self.zones.iter().position(|zone| zone == name);
        known.unwrap_or_else(|| {
            self.zones.push(name.to_owned());
            self.zones.len() - 1
        }) as u32
    }

    fn schedule_all(&mut self) {
        for (index, fault) in self.conditions.faults.iter().enumerate() {
            self.schedule(fault.at, Due::Strike, index as u32);
        }
        if self.interval > Span::ZERO {
            self.schedule(SimTime::ZERO + self.interval, Due::Interval, 0);
        }
        if let Some(scaling) = self.scaling {
            self.schedule(SimTime::ZERO, Due::Scrape, 0);
            self.schedule(SimTime::ZERO + scaling.interval, Due::Decision, 0);
        }
    }

    /// The number of the zone called `name`; `None` where no pool is in it.
    pub fn zone(&self, name: &str) -> Option<u32> {
        self.zones.iter().position(|zone| zone == name).map(|at| at as u32)
    }

    /// The position of the pool called `name`.
    pub fn pool(&self, name: &str) -> Option<u32> {
        self.pools_spec.iter().position(|pool| pool.name == name).map(|at| at as u32)
    }

    /// Whether `place` belongs to a pool of spot instances.
    pub fn is_spot(&self, place: usize) -> bool {
        self.pools_spec[self.places[place].pool as usize].market == Market::Spot
    }

    /// When something is due.
    pub fn next(&self) -> SimTime {
        self.due.peek().map_or(SimTime::NEVER, |&Reverse((time, ..))| time)
    }

    /// Takes what is due next.
    pub fn pop(&mut self) -> Option<(SimTime, Due, u32)> {
        self.due.pop().map(|Reverse(due)| due)
    }

    /// Lets something be due later.
    pub fn schedule(&mut self, at: SimTime, due: Due, index: u32) {
        if at < SimTime::LAST {
            self.due.push(Reverse((at, due, index)));
        }
    }

    /// Takes note of something.
    pub fn note(&mut self, at: SimTime, place: usize, what: Happening) {
        let (pool, instance) = (Some(self.places[place].pool), Some(InstanceId::new(place)));
        self.log.push(FleetEvent { at, pool, instance, what });
    }

    /// Takes note of something that concerns no single instance.
    pub fn note_of_all(&mut self, at: SimTime, pool: Option<u32>, what: Happening) {
        self.log.push(FleetEvent { at, pool, instance: None, what });
    }

    /// Brings an instance into another state.
    pub fn set_state(&mut self, place: usize, state: State, now: SimTime) {
        self.settle(place, now);
        let place = &mut self.places[place];
        (place.state, place.entered) = (state, now);
    }

    /// Accounts for the time until `now` in the present state of `place`.
    fn settle(&mut self, place: usize, now: SimTime) {
        let Place { pool, state, since, .. } = self.places[place];
        self.places[place].since = now;
        if state == State::Vacant || now <= since {
            return;
        }
        let pool_at = pool as usize;
        let serves = matches!(state, State::Ready | State::Draining);
        let inside = now.min(self.window.1).since(since.max(self.window.0)).as_ps();
        let pool = &mut self.pools[pool_at];
        let length = u128::from(now.since(since).as_ps());
        pool.outcome.paid_ps += length;
        pool.outcome.paid_in_window_ps += u128::from(inside);
        if serves {
            pool.ready_ps += length;
            pool.outcome.ready_in_window_ps += u128::from(inside);
        }
        if self.interval > Span::ZERO {
            self.settle_intervals(pool_at, state, since, now);
        }
    }

    fn settle_intervals(&mut self, pool: usize, state: State, since: SimTime, now: SimTime) {
        let mut from = since;
        while from < now {
            let index = (from.as_ps() / self.interval.as_ps()) as usize;
            let end = (SimTime::ZERO + self.interval.times(index as u64 + 1)).min(now);
            while self.states.len() <= index {
                self.states.push(vec![StateTime::default(); self.pools.len()]);
            }
            let times = &mut self.states[index][pool];
            let time = match state {
                State::Vacant => return,
                State::Starting => &mut times.starting,
                State::Ready => &mut times.ready,
                State::Draining => &mut times.draining,
                State::Down => &mut times.down,
            };
            *time += end.since(from).as_ps();
            from = end;
        }
    }

    /// Time ready or draining so far, over the places of a pool.
    pub fn ready_ps(&self, pool: usize, now: SimTime) -> u128 {
        let serving = self.places_of(pool).filter(|place| place.serves());
        let running: u128 = serving.map(|place| u128::from(now.since(place.since).as_ps())).sum();
        self.pools[pool].ready_ps + running
    }

    pub(super) fn range(&self, pool: usize) -> std::ops::Range<usize> {
        let PoolState { first, places, .. } = self.pools[pool];
        first as usize..(first + places) as usize
    }

    fn places_of(&self, pool: usize) -> impl Iterator<Item = &Place> {
        self.places[self.range(pool)].iter()
    }

    /// The number of pools.
    pub fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn present(&self, pool: usize) -> u32 {
        self.places_of(pool).filter(|place| place.is_present()).count() as u32
    }

    pub(super) fn in_state(&self, pool: usize, state: State) -> u32 {
        self.places_of(pool).filter(|place| place.state == state).count() as u32
    }

    /// A pool as the autoscaler sees it.
    pub fn view(&self, pool: usize) -> PoolView {
        let spec = &self.pools_spec[pool];
        PoolView {
            desired: self.pools[pool].desired,
            starting: self.in_state(pool, State::Starting),
            ready: self.in_state(pool, State::Ready),
            draining: self.in_state(pool, State::Draining),
            down: self.in_state(pool, State::Down),
            min: spec.min_instances,
            max: spec.max_instances,
        }
    }

    /// Launches what is desired and not there; returns the places.
    pub fn launch_missing(&mut self, pool: usize, now: SimTime) -> Vec<usize> {
        let mut launched = Vec::new();
        while self.present(pool) < self.pools[pool].desired {
            let mut places = self.range(pool);
            let vacant = places.find(|&at| self.places[at].state == State::Vacant);
            let Some(place) = vacant else { break };
            let Some(zone) = self.zone_for(pool) else {
                if !self.pools[pool].short {
                    self.pools[pool].short = true;
                    self.note_of_all(now, Some(pool as u32), Happening::NoCapacity);
                }
                break;
            };
            self.pools[pool].short = false;
            self.launch(place, zone, now);
            launched.push(place);
        }
        launched
    }

    fn launch(&mut self, place: usize, zone: u32, now: SimTime) {
        self.set_state(place, State::Starting, now);
        let launches = self.places[place].launches;
        let index = (place as u64) << 32 | u64::from(launches);
        let mut rng = Rng::new(self.conditions.seed, Stream::StartUp, index);
        let start_up = &self.pools_spec[self.places[place].pool as usize].start_up;
        let stages = [&start_up.provisioning, &start_up.loading, &start_up.warm_up];
        let delay = stages.iter().fold(Span::ZERO, |sum, stage| sum + stage.draw(&mut rng));
        let at = &mut self.places[place];
        at.zone = zone;
        at.launches += 1;
        at.launched = now;
        (at.after, at.noted) = (After::Restart, false);
        let pool = &mut self.pools[at.pool as usize];
        pool.outcome.launches += 1;
        pool.occupied += 1;
        pool.outcome.most = pool.outcome.most.max(pool.occupied);
        self.note(now, place, Happening::Launched);
        self.ready_in(place, delay, now);
    }

    /// Lets the instance of `place` be ready after `delay`.
    pub fn ready_in(&mut self, place: usize, delay: Span, now: SimTime) {
        let at = now + delay.min(SimTime::LAST.since(SimTime::ZERO));
        self.places[place].ready_at = at;
        self.schedule(at, Due::Ready, place as u32);
    }

    /// The zone for the next instance of a pool.
    fn zone_for(&self, pool: usize) -> Option<u32> {
        let spot = self.pools_spec[pool].market == Market::Spot;
        let lacks = |zone: u32| {
            self.shortages.iter().flatten().any(|shortage| {
                (spot || !shortage.spot)
                    && shortage.pool.is_none_or(|other| other as usize == pool)
                    && shortage.zone.is_none_or(|other| other == zone)
            })
        };
        let taken = |zone: u32| {
            let there = |place: &&Place| place.state != State::Vacant && place.zone == zone;
            self.places_of(pool).filter(there).count()
        };
        let zones = self.pools[pool].zones.iter().copied();
        zones.filter(|&zone| !lacks(zone)).min_by_key(|&zone| taken(zone))
    }

    /// From now on until `until` nothing can be launched where `shortage` says.
    pub fn shorten(&mut self, shortage: Shortage, until: SimTime) {
        self.schedule(until, Due::Capacity, self.shortages.len() as u32);
        self.shortages.push(Some(shortage));
    }

    /// Shortage `index` is over: launches in pools that waited for capacity; returns the places.
    pub fn capacity_back(&mut self, index: u32, now: SimTime) -> Vec<usize> {
        self.shortages[index as usize] = None;
        let mut launched = Vec::new();
        for pool in 0..self.pools.len() {
            if self.pools[pool].short && self.zone_for(pool).is_some() {
                self.pools[pool].short = false;
                self.note_of_all(now, Some(pool as u32), Happening::CapacityBack);
                launched.extend(self.launch_missing(pool, now));
            }
        }
        launched
    }

    /// Empties a place.
    pub fn vacate(&mut self, place: usize, now: SimTime) {
        self.set_state(place, State::Vacant, now);
        self.note(now, place, Happening::Terminated);
        let at = &mut self.places[place];
        let never = SimTime::NEVER;
        (at.notice_at, at.deadline_at, at.recovery_at, at.ready_at) = (never, never, never, never);
        (at.noted, at.after) = (false, After::Restart);
        let pool = &mut self.pools[at.pool as usize];
        pool.outcome.terminations += 1;
        pool.occupied -= 1;
    }

    /// The place that a strike hits.
    pub fn find(&self, victim: &Victim) -> Option<usize> {
        match *victim {
            Victim::Serving(number) => {
                let serving: Vec<usize> =
                    (0..self.places.len()).filter(|&at| self.places[at].serves()).collect();
                (!serving.is_empty()).then(|| serving[number as usize % serving.len()])
            }
            Victim::Place { pool, place } => {
                let range = self.pools.get(pool as usize).map(|_| self.range(pool as usize))?;
                range.clone().nth(place as usize).filter(|&at| self.places[at].serves())
            }
        }
    }

    /// Settles all accounts at `end` and hands over the figures, with the time in each state by
    /// interval.
    pub fn finish(&mut self, end: SimTime) -> (Vec<PoolOutcome>, Vec<Vec<StateTime>>) {
        for place in 0..self.places.len() {
            self.settle(place, end);
        }
        let outcomes = self.pools.iter().map(|pool| pool.outcome).collect();
        (outcomes, std::mem::take(&mut self.states))
    }
}

impl Place {
    /// Whether requests are computed here, as far as anybody knows.
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Ready | State::Draining)
    }

    /// Whether it counts towards what is desired.
    fn is_present(&self) -> bool {
        match self.state {
            State::Vacant => false,
            State::Draining => self.after == After::Restart && !self.noted,
            State::Starting | State::Ready | State::Down => !self.noted,
        }
    }
}
