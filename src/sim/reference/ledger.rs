//! The bill, the events and the timeline of a fleet.

use crate::base::{Bins, SimTime, Span};

use super::super::fleet_outcome::{FleetOutcome, Happening, Interval, PoolOutcome, StateTime};
use super::super::outcome::RequestState;
use super::cluster::{Cluster, Kind};
use super::fleet::{Place, State};
use super::tally::keeps_promise;

/// How many intervals there are until `end`.
pub(super) fn intervals(end: SimTime, interval: Span) -> u64 {
    end.as_ps().div_ceil(interval.as_ps()).max(1)
}

/// What the fleet did in a run that has ended.
pub(super) fn fleet_outcome(cluster: &Cluster, end: SimTime) -> FleetOutcome {
    let interval = cluster.setting.options.timeline;
    FleetOutcome {
        end,
        pools: (0..cluster.setting.bundle.pools.len()).map(|at| pool(cluster, at, end)).collect(),
        retries: cluster.retries.len() as u64,
        wasted_tokens: cluster.wasted_tokens,
        events: cluster.log.clone(),
        interval: interval.unwrap_or(Span::ZERO),
        timeline: interval.map_or_else(Vec::new, |interval| timeline(cluster, end, interval)),
    }
}

fn pool(cluster: &Cluster, pool: usize, end: SimTime) -> PoolOutcome {
    let options = cluster.setting.options;
    let window_end = cluster.setting.trace.end.min(options.horizon);
    let (mut outcome, mut now) = (PoolOutcome::default(), 0);
    for event in cluster.log.iter().filter(|event| event.pool == Some(pool as u32)) {
        match event.what {
            Happening::Launched => {
                outcome.launches += 1;
                now += 1;
                outcome.most = outcome.most.max(now);
            }
            Happening::Terminated => {
                outcome.terminations += 1;
                now -= 1;
            }
            _ => {}
        }
    }
    for at in cluster.places_of(pool) {
        let place = &cluster.places[at];
        for state in [State::Starting, State::Ready, State::Draining, State::Down] {
            let in_window = place.time_in(state, options.warm_up, window_end.min(end));
            outcome.paid_ps += u128::from(place.time_in(state, SimTime::ZERO, end));
            outcome.paid_in_window_ps += u128::from(in_window);
            if matches!(state, State::Ready | State::Draining) {
                outcome.ready_in_window_ps += u128::from(in_window);
            }
        }
    }
    outcome
}

fn timeline(cluster: &Cluster, end: SimTime, length: Span) -> Vec<Interval> {
    let count = intervals(end, length);
    (0..count).map(|at| one_interval(cluster, end, length, (at, count))).collect()
}

/// Interval `at` of `count`.
fn one_interval(
    cluster: &Cluster,
    end: SimTime,
    length: Span,
    (at, count): (u64, u64),
) -> Interval {
    // What happens at the very end, or later, counts in the last one.
    let inside = |time: SimTime| (time.as_ps() / length.as_ps()).min(count - 1) == at;
    let classes = cluster.setting.trace.classes.len();
    let (waiting, running) = cluster.snapshots[at as usize];
    let mut interval = Interval {
        arrived: vec![0; classes],
        within_slo: vec![0; classes],
        retries: cluster.retries.iter().filter(|&&at| inside(at)).count() as u32,
        waiting,
        running,
        ..Interval::default()
    };
    let mut ttfts = Bins::new(&[]);
    for request in cluster.requests.iter().filter(|r| r.state != RequestState::Pending) {
        let completed = request.state == RequestState::Completed;
        if request.ended.is_some_and(inside) {
            *(if completed { &mut interval.completed } else { &mut interval.refused }) += 1;
        }
        if !inside(request.arrival) {
            continue;
        }
        let class = cluster.setting.class(request.id);
        interval.arrived[class] += 1;
        if completed {
            interval.within_slo[class] += u32::from(keeps_promise(&cluster.setting, request));
            ttfts.add(request.ttft.expect("an answer has a first token"));
        }
    }
    interval.ttft_p99_ms = ttfts.quantile_ms(0.99);
    let start = SimTime::ZERO + length.times(at);
    let states = |pool| state_time(cluster, pool, start, end.min(start + length));
    interval.states = (0..cluster.setting.bundle.pools.len()).map(states).collect();
    interval
}

fn state_time(cluster: &Cluster, pool: usize, start: SimTime, end: SimTime) -> StateTime {
    let total = |state| {
        let mine = cluster.places_of(pool).map(|at| &cluster.places[at]);
        mine.map(|place: &Place| place.time_in(state, start, end)).sum()
    };
    StateTime {
        starting: total(State::Starting),
        ready: total(State::Ready),
        draining: total(State::Draining),
        down: total(State::Down),
    }
}

impl Cluster<'_> {
    pub fn end_interval(&mut self, now: SimTime) {
        self.snapshots.push(self.snapshot());
        let interval = self.setting.options.timeline.expect("intervals end where there are some");
        self.events.insert((now + interval, Kind::IntervalEnd, 0, 0));
    }

    /// Requests that wait, and requests in batches.
    pub fn snapshot(&self) -> (u32, u32) {
        let (mut waiting, mut running) = (self.held.len() + self.gate.queued(), 0);
        for engine in self.places.iter().filter_map(|place| place.engine.as_ref()) {
            waiting += engine.waiting.len() + engine.on_the_way.len();
            running += engine.running.len();
        }
        (waiting as u32, running as u32)
    }
}
