//! The Knative Pod Autoscaler: a stable window, and a short one to panic in.
//!
//! Its excess burst capacity decides whether requests go through the activator, which takes no time
//! here and changes no number of instances: it would have no effect, and is left out. To zero it
//! goes `scale_to_zero_grace_period` after it first wanted none, which is the longest that Knative
//! waits.

use std::collections::VecDeque;

use super::read::{Usual, WINDOW_MAX};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields};
use crate::policy::signals::{Aggregate, Signal};

const TARGET_BOUNDS: Bounds = Bounds::between(0.001, 1e12);
const RATE_BOUNDS: Bounds = Bounds::above(1.0, 1e6);
const SHARE_BOUNDS: Bounds = Bounds::above(0.0, 100.0);
const THRESHOLD_BOUNDS: Bounds = Bounds::between(1.1, 10.0);

/// The Knative Pod Autoscaler as its users set it. Numbers are those of its `config-autoscaler`.
#[derive(Clone, Debug, PartialEq)]
pub struct Knative {
    /// The pool, by position.
    pub pool: u32,
    /// What it looks at, a total over the pool: requests in flight are its `concurrency`, the
    /// arrival rate its `rps`.
    pub signal: Signal,
    /// What an instance can carry of it; at least 0.001.
    pub target: f64,
    /// The per cent of this that it aims at; above 0, at most 100.
    pub target_utilization_percentage: f64,
    /// Over which it takes the mean; above zero.
    pub stable_window: Span,
    /// The per cent of that over which it takes the mean to panic by; above 0, at most 100.
    pub panic_window_percentage: f64,
    /// It panics when it wants so many times the ready instances.
    pub panic_threshold: f64,
    /// At most so many times the ready instances at once; above 1.
    pub max_scale_up_rate: f64,
    /// At least the ready instances over this at once; above 1.
    pub max_scale_down_rate: f64,
    /// The highest number wanted in so long a time counts.
    pub scale_down_delay: Span,
    /// How long none must be wanted until the last instance goes.
    pub scale_to_zero_grace_period: Span,
}

impl Knative {
    /// One that nothing was said about.
    pub fn new(pool: u32) -> Self {
        Self {
            pool,
            signal: Signal::InFlight,
            target: 100.0,
            target_utilization_percentage: 70.0,
            stable_window: Span::from_us(60_000_000),
            panic_window_percentage: 10.0,
            panic_threshold: 2.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay: Span::ZERO,
            scale_to_zero_grace_period: Span::from_us(30_000_000),
        }
    }

    pub(super) fn read(fields: &mut Fields, usual: Usual) -> Self {
        let mut read = Self::new(usual.pool);
        let Some(mut fields) = fields.fields("knative") else { return read };
        let metrics = [("concurrency", Signal::InFlight), ("rps", Signal::ArrivalRate)];
        if fields.one_of("metric", &metrics) == Some(Signal::ArrivalRate) {
            (read.signal, read.target) = (Signal::ArrivalRate, 200.0);
        }
        let per_cent =
            |fields: &mut Fields, key, usual| fields.f64(key, SHARE_BOUNDS).unwrap_or(usual);
        read.target = fields.f64("target", TARGET_BOUNDS).unwrap_or(read.target);
        let share = read.target_utilization_percentage;
        read.target_utilization_percentage =
            per_cent(&mut fields, "target_utilization_percentage", share);
        let window = fields.span("stable_window", WINDOW_MAX).unwrap_or(read.stable_window);
        if window == Span::ZERO {
            fields.error("stable_window", "nothing is seen in a window of no length");
        }
        read.stable_window = window;
        let share = read.panic_window_percentage;
        read.panic_window_percentage = per_cent(&mut fields, "panic_window_percentage", share);
        let threshold = fields.f64("panic_threshold", THRESHOLD_BOUNDS);
        read.panic_threshold = threshold.unwrap_or(read.panic_threshold);
        let rate = |fields: &mut Fields, key, usual| fields.f64(key, RATE_BOUNDS).unwrap_or(usual);
        read.max_scale_up_rate = rate(&mut fields, "max_scale_up_rate", read.max_scale_up_rate);
        read.max_scale_down_rate =
            rate(&mut fields, "max_scale_down_rate", read.max_scale_down_rate);
        read.scale_down_delay = fields.span("scale_down_delay", WINDOW_MAX).unwrap_or(Span::ZERO);
        let grace = fields.span("scale_to_zero_grace_period", DAY);
        read.scale_to_zero_grace_period = grace.unwrap_or(read.scale_to_zero_grace_period);
        fields.finish();
        read
    }

    fn panic_window(&self) -> Span {
        Span::from_secs(self.stable_window.as_secs() * self.panic_window_percentage / 100.0)
    }

    /// What it aims at per instance.
    fn aim(&self) -> f64 {
        self.target * self.target_utilization_percentage / 100.0
    }
}

/// The arithmetic of the autoscaler, and what it remembers.
#[derive(Clone, Debug)]
struct Decider {
    knative: Knative,
    /// Since when it panics, counted from the last time that it was over the threshold.
    panic_since: Option<SimTime>,
    max_panic_pods: u32,
    /// Numbers wanted within the delay.
    delayed: VecDeque<(SimTime, u32)>,
    /// Since when none are wanted.
    zero_since: Option<SimTime>,
}

impl Decider {
    /// One that finds `ready` instances at `now`. Where there is more than one it panics, so that
    /// none goes before it knows enough.
    fn new(knative: &Knative, now: SimTime, ready: u32) -> Self {
        Self {
            knative: knative.clone(),
            panic_since: (ready > 1).then_some(now),
            max_panic_pods: ready,
            delayed: VecDeque::new(),
            zero_since: None,
        }
    }

    /// The instances to have, where `ready` are there and the means of both windows are such.
    fn decide(&mut self, now: SimTime, ready: u32, stable: f64, panic: f64) -> u32 {
        let Knative { max_scale_up_rate, max_scale_down_rate, panic_threshold, .. } = self.knative;
        let pods = f64::from(ready.max(1));
        let most = (max_scale_up_rate * pods).ceil();
        let least = (pods / max_scale_down_rate).floor();
        let aim = self.knative.aim();
        let (for_stable, for_panic) = ((stable / aim).ceil(), (panic / aim).ceil());
        let within = |wanted: f64| wanted.max(least).min(most) as u32;
        self.mind_panic(now, for_panic / pods >= panic_threshold);
        let mut wanted = within(for_stable);
        if self.panic_since.is_some() {
            self.max_panic_pods = self.max_panic_pods.max(wanted).max(within(for_panic));
            wanted = self.max_panic_pods;
        }
        self.delay(now, wanted)
    }

    fn mind_panic(&mut self, now: SimTime, over: bool) {
        if over {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + self.knative.stable_window < now) {
            self.panic_since = None;
            self.max_panic_pods = 0;
        }
    }

    /// The highest of the numbers wanted within the delay.
    fn delay(&mut self, now: SimTime, wanted: u32) -> u32 {
        let delay = self.knative.scale_down_delay;
        self.delayed.push_back((now, wanted));
        while self.delayed.front().is_some_and(|(at, _)| *at < now && now - *at >= delay) {
            self.delayed.pop_front();
        }
        self.delayed.iter().map(|&(_, wanted)| wanted).max().unwrap_or(wanted)
    }

    /// Keeps the last instance for the grace period.
    fn with_grace(&mut self, now: SimTime, wanted: u32, desired: u32) -> u32 {
        if wanted > 0 {
            self.zero_since = None;
            return wanted;
        }
        let since = *self.zero_since.get_or_insert(now);
        let waits = now - since < self.knative.scale_to_zero_grace_period;
        if waits { desired.min(1) } else { 0 }
    }
}

impl Controller for Knative {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        vec![(self.signal, self.stable_window)]
    }

    fn start(&self, _: Span) -> Box<dyn Autoscaler> {
        Box::new(KnativeLoop { knative: self.clone(), decider: None })
    }
}

struct KnativeLoop {
    knative: Knative,
    decider: Option<Decider>,
}

impl Autoscaler for KnativeLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Self { knative, decider } = self;
        let Knative { pool, signal, stable_window, .. } = *knative;
        let view = &fleet.pools[pool as usize];
        let decider = decider.get_or_insert_with(|| Decider::new(knative, now, view.ready));
        let mean = |window| fleet.signals.over(signal, pool as usize, window, Aggregate::Mean);
        let (Some(stable), Some(panic)) = (mean(stable_window), mean(knative.panic_window()))
        else {
            return;
        };
        let wanted = decider.decide(now, view.ready, stable, panic);
        let wanted = decider.with_grace(now, wanted, view.desired).clamp(view.min, view.max);
        let target = knative.aim();
        let reason = if decider.panic_since.is_some() {
            Reason::Panicked { signal, value: panic.max(stable), target, wanted }
        } else {
            Reason::Recommended { signal, value: stable, target, wanted }
        };
        towards(wanted, pool, view, reason, orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::from_us(seconds * 1_000_000)
    }

    /// One with a target of 10 per instance.
    fn decider(ready: u32, change: impl Fn(&mut Knative)) -> Decider {
        let mut knative = Knative { target: 10.0, ..Knative::new(0) };
        knative.target_utilization_percentage = 100.0;
        change(&mut knative);
        Decider::new(&knative, at(0), ready)
    }

    #[test]
    fn by_default_an_instance_carries_70_requests() {
        let knative = Knative::new(0);
        assert_eq!(knative.aim(), 70.0);
        assert_eq!(knative.panic_window(), Span::from_us(6_000_000));
    }

    #[test]
    fn the_stable_mean_over_the_target_is_rounded_up() {
        for (ready, stable, expected) in [(1, 0.0, 0), (1, 9.0, 1), (1, 10.0, 1), (1, 10.1, 2)] {
            let wanted = decider(1, |_| {}).decide(at(2), ready, stable, stable);
            assert_eq!(wanted, expected, "{stable}");
        }
    }

    #[test]
    fn steps_are_limited_by_rates_of_the_ready_ones() {
        let slow = |knative: &mut Knative| knative.max_scale_up_rate = 1.1;
        let mut decider_up = decider(1, slow);
        assert_eq!(decider_up.decide(at(2), 2, 60.0, 10.0), 3, "ceil(1.1 * 2)");
        let mut calm = decider(1, |_| {});
        assert_eq!(calm.decide(at(2), 9, 10.0, 10.0), 4, "floor(9 / 2)");
        assert_eq!(calm.decide(at(4), 0, 0.0, 0.0), 0, "none counts as one");
    }

    #[test]
    fn at_twice_the_ready_ones_it_panics_and_never_shrinks_until_a_stable_window_is_over() {
        let mut decider = decider(1, |_| {});
        assert_eq!(decider.decide(at(2), 5, 50.0, 90.0), 5, "9 / 5 is no panic");
        assert_eq!(decider.decide(at(4), 5, 50.0, 95.0), 10, "10 / 5 is");
        assert_eq!(decider.decide(at(6), 10, 60.0, 10.0), 10, "no decrease");
        assert_eq!(decider.decide(at(8), 10, 60.0, 120.0), 12, "but an increase");
        assert_eq!(decider.decide(at(64), 12, 60.0, 60.0), 12, "60 s from the last time over");
        assert_eq!(decider.decide(at(66), 12, 60.0, 60.0), 6);
    }

    #[test]
    fn what_is_stably_more_counts_in_a_panic_too() {
        let mut decider = decider(4, |_| {});
        assert_eq!(decider.decide(at(2), 4, 70.0, 20.0), 7);
        assert_eq!(decider.decide(at(4), 4, 10.0, 20.0), 7);
    }

    #[test]
    fn whoever_finds_more_than_one_keeps_them_for_a_stable_window() {
        let mut found = decider(8, |_| {});
        assert_eq!(found.decide(at(60), 8, 0.0, 0.0), 8);
        assert_eq!(found.decide(at(62), 8, 0.0, 0.0), 4);
        assert_eq!(decider(1, |_| {}).decide(at(2), 1, 0.0, 0.0), 0, "one is no reason");
    }

    #[test]
    fn a_delay_keeps_the_highest_number_of_its_time() {
        let mut decider = decider(1, |knative| knative.scale_down_delay = Span::from_us(6_000_000));
        let course = [3.0, 1.0, 1.0, 1.0, 2.0].map(|load| load * 10.0);
        let decide = |(tick, load): (u64, f64)| decider.decide(at(2 * tick), 3, load, load);
        let wanted: Vec<u32> = (1..).zip(course).map(decide).collect();
        assert_eq!(wanted, [3, 3, 3, 1, 2]);
    }

    #[test]
    fn the_last_one_stays_for_the_grace_period() {
        let mut decider = decider(1, |_| {});
        assert_eq!(decider.with_grace(at(2), 0, 1), 1);
        assert_eq!(decider.with_grace(at(30), 0, 1), 1);
        assert_eq!(decider.with_grace(at(32), 0, 1), 0);
        assert_eq!(decider.with_grace(at(34), 0, 0), 0);
        assert_eq!(decider.with_grace(at(36), 1, 0), 1);
        assert_eq!(decider.with_grace(at(38), 0, 1), 1, "it begins anew");
    }
}
