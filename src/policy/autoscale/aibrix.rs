//! The KPA and the APA of AIBrix, with and without the guard for pending replicas.
//!
//! As it runs there: replicas still starting count among the current ones, whose rates limit a
//! step, while their metrics are missing, so that without the guard each decision doubles what the
//! one before has just ordered. And of the recommendations in a cooldown window it takes the
//! highest on the way up and the *lowest* on the way down.

use super::read::{Usual, WINDOW_MAX};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields};
use crate::policy::signals::{Aggregate, Signal};

const TARGET_BOUNDS: Bounds = Bounds::above(0.0, 1e12);
const RATE_BOUNDS: Bounds = Bounds::between(1.0, 1e6);
const TOLERANCE_BOUNDS: Bounds = Bounds::between(0.0, 100.0);
const THRESHOLD_BOUNDS: Bounds = Bounds::above(0.0, 1e6);

/// A `PodAutoscaler` as its users set it, with its annotations.
#[derive(Clone, Debug, PartialEq)]
pub struct Aibrix {
    /// The pool, by position.
    pub pool: u32,
    /// How replicas are computed.
    pub strategy: Strategy,
    /// What it looks at: for the APA what an instance has, for the KPA a total.
    pub signal: Signal,
    /// What an instance should have of it; above 0.
    pub target: f64,
    /// Over which it takes the mean (`observeWindowSeconds`); above zero.
    pub observe_window: Span,
    /// Over which the KPA takes the mean in a panic (`panicWindowSeconds`); above zero.
    pub panic_window: Span,
    /// The KPA panics where that mean is above so many times the other one.
    pub panic_threshold: f64,
    /// At most so many times the current replicas at once; at least 1.
    pub max_scale_up_rate: f64,
    /// At least the current replicas over this at once; at least 1.
    pub max_scale_down_rate: f64,
    /// How far above the target nothing happens, as a share.
    pub scale_up_tolerance: f64,
    /// How far below the target nothing happens, as a share.
    pub scale_down_tolerance: f64,
    /// The highest recommendation of so long a time counts on the way up.
    pub scale_up_cooldown_window: Span,
    /// The lowest recommendation of so long a time counts on the way down.
    pub scale_down_cooldown_window: Span,
    /// Whether replicas that are pending count as idle on the way up, and as at the target on the
    /// way down.
    pub pending_guard: bool,
}

/// How replicas are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// A total over the target, with a short window to panic in.
    Kpa,
    /// The current replicas times the ratio to the target.
    Apa,
}

impl Aibrix {
    /// One with this metric of which nothing else was said.
    pub fn new(pool: u32, strategy: Strategy, signal: Signal, target: f64) -> Self {
        let seconds = |seconds: u64| Span::from_us(seconds * 1_000_000);
        Self {
            pool,
            strategy,
            signal,
            target,
            observe_window: seconds(180),
            panic_window: seconds(60),
            panic_threshold: 2.0,
            max_scale_up_rate: 2.0,
            max_scale_down_rate: 2.0,
            scale_up_tolerance: 0.1,
            scale_down_tolerance: 0.1,
            scale_up_cooldown_window: Span::ZERO,
            scale_down_cooldown_window: seconds(300),
            pending_guard: true,
        }
    }

    /// Reads `aibrix`; `strategy` is `None` where it is not used.
    pub(super) fn read(
        fields: &mut Fields,
        usual: Usual,
        strategy: Option<Strategy>,
    ) -> Option<Self> {
        if strategy.is_some() {
            fields.require(&["aibrix"]);
        }
        let mut fields = fields.fields("aibrix")?;
        fields.require(&["signal", "target"]);
        let signal = fields.one_of("signal", &Signal::ALL);
        let target = fields.f64("target", TARGET_BOUNDS);
        let strategy = strategy.unwrap_or(Strategy::Apa);
        let known = (signal.unwrap_or(Signal::InFlight), target.unwrap_or(1.0));
        let mut read = Self::new(usual.pool, strategy, known.0, known.1);
        read.read_windows(&mut fields);
        read.read_steps(&mut fields);
        fields.finish();
        (signal.is_some() && target.is_some()).then_some(read)
    }

    fn read_windows(&mut self, fields: &mut Fields) {
        for (key, window) in
            [("observe_window", &mut self.observe_window), ("panic_window", &mut self.panic_window)]
        {
            *window = fields.span(key, WINDOW_MAX).unwrap_or(*window);
            if *window == Span::ZERO {
                fields.error(key, "nothing is seen in a window of no length").label("zero");
            }
        }
        for (key, window) in [
            ("scale_up_cooldown_window", &mut self.scale_up_cooldown_window),
            ("scale_down_cooldown_window", &mut self.scale_down_cooldown_window),
        ] {
            *window = fields.span(key, DAY).unwrap_or(*window);
        }
    }

    fn read_steps(&mut self, fields: &mut Fields) {
        for (key, bounds, value) in [
            ("panic_threshold", THRESHOLD_BOUNDS, &mut self.panic_threshold),
            ("max_scale_up_rate", RATE_BOUNDS, &mut self.max_scale_up_rate),
            ("max_scale_down_rate", RATE_BOUNDS, &mut self.max_scale_down_rate),
            ("scale_up_tolerance", TOLERANCE_BOUNDS, &mut self.scale_up_tolerance),
            ("scale_down_tolerance", TOLERANCE_BOUNDS, &mut self.scale_down_tolerance),
        ] {
            *value = fields.f64(key, bounds).unwrap_or(*value);
        }
        self.pending_guard = fields.bool("pending_guard").unwrap_or(self.pending_guard);
    }

    /// The value that counts, and the replicas wanted at the means of both windows.
    fn recommend(&self, current: u32, stable: f64, panic: f64) -> (f64, u32) {
        match self.strategy {
            Strategy::Apa => (stable, self.by_ratio(current, stable)),
            Strategy::Kpa => {
                let panics = stable <= 0.0 || panic / stable > self.panic_threshold;
                let wanted = self.by_total(current, stable);
                if panics {
                    (panic, wanted.max(self.by_total(current, panic)))
                } else {
                    (stable, wanted)
                }
            }
        }
    }

    fn by_ratio(&self, current: u32, value: f64) -> u32 {
        let now = f64::from(current);
        let ratio = value / self.target;
        let wanted = (now * ratio).ceil();
        if ratio > 1.0 + self.scale_up_tolerance {
            wanted.min((self.max_scale_up_rate * now).ceil()) as u32
        } else if ratio < 1.0 - self.scale_down_tolerance {
            wanted.max((now / self.max_scale_down_rate).floor()) as u32
        } else {
            current
        }
    }

    fn by_total(&self, current: u32, total: f64) -> u32 {
        let now = f64::from(current);
        let borne = self.target * now;
        let least = borne * (1.0 - self.scale_down_tolerance);
        if current > 0 && (least..=borne * (1.0 + self.scale_up_tolerance)).contains(&total) {
            return current;
        }
        let wanted = (total / self.target).ceil();
        let most = (self.max_scale_up_rate * now).ceil().max(1.0);
        wanted.max((now / self.max_scale_down_rate).floor()).min(most) as u32
    }

    /// The replicas wanted when those that are pending are not left out.
    fn guard(&self, current: u32, ready: u32, value: f64, wanted: u32) -> u32 {
        let pending = current.saturating_sub(ready);
        if !self.pending_guard || pending == 0 || wanted == current {
            return wanted;
        }
        let (now, there) = (f64::from(current), f64::from(current - pending));
        if wanted > current {
            let mean = value * there / now;
            let wide = if self.strategy == Strategy::Apa { now * mean } else { mean };
            return ((wide / self.target).ceil() as u32).clamp(current, wanted);
        }
        let with_full = (value * there + self.target * f64::from(pending)) / self.target;
        (with_full.ceil() as u32).clamp(wanted, current)
    }
}

/// The recommendations of a cooldown window.
#[derive(Clone, Debug, Default)]
struct Cooldown {
    recommendations: Vec<(SimTime, u32)>,
}

impl Cooldown {
    /// What is made of the recommendation to have `wanted` instead of `current`.
    fn settle(&mut self, aibrix: &Aibrix, now: SimTime, current: u32, wanted: u32) -> u32 {
        let (up, down) = (aibrix.scale_up_cooldown_window, aibrix.scale_down_cooldown_window);
        self.recommendations.push((now, wanted));
        self.recommendations.retain(|(at, _)| now - *at < up.max(down));
        let within = |window| {
            let recent = self.recommendations.iter().filter(move |(at, _)| now - *at < window);
            recent.map(|&(_, wanted)| wanted)
        };
        match wanted.cmp(&current) {
            std::cmp::Ordering::Greater => within(up).max().unwrap_or(wanted),
            std::cmp::Ordering::Less => within(down).min().unwrap_or(wanted),
            std::cmp::Ordering::Equal => current,
        }
    }
}

impl Controller for Aibrix {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        vec![(self.signal, self.observe_window), (self.signal, self.panic_window)]
    }

    fn start(&self, _: Span) -> Box<dyn Autoscaler> {
        Box::new(AibrixLoop { aibrix: self.clone(), cooldown: Cooldown::default() })
    }
}

struct AibrixLoop {
    aibrix: Aibrix,
    cooldown: Cooldown,
}

impl Autoscaler for AibrixLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Self { aibrix, cooldown } = self;
        let Aibrix { pool, signal, target, .. } = *aibrix;
        let view = &fleet.pools[pool as usize];
        let mean = |window| fleet.signals.over(signal, pool as usize, window, Aggregate::Mean);
        let (Some(stable), Some(panic)) = (mean(aibrix.observe_window), mean(aibrix.panic_window))
        else {
            return;
        };
        let current = view.desired;
        let (value, wanted) = aibrix.recommend(current, stable, panic);
        let wanted = aibrix.guard(current, view.ready, value, wanted.clamp(view.min, view.max));
        let wanted = cooldown.settle(aibrix, now, current, wanted);
        let reason = Reason::Recommended { signal, value, target, wanted };
        towards(wanted, pool, view, reason, orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apa(target: f64) -> Aibrix {
        Aibrix::new(0, Strategy::Apa, Signal::RunningPerInstance, target)
    }

    fn kpa(target: f64) -> Aibrix {
        Aibrix::new(0, Strategy::Kpa, Signal::Running, target)
    }

    #[test]
    fn the_apa_follows_the_ratio_within_tolerances_and_rates() {
        for (current, value, expected) in [
            (4, 80.0, 7),
            (4, 85.0, 7),
            (4, 500.0, 8),
            (4, 55.0, 4),
            (4, 56.0, 5),
            (4, 45.0, 4),
            (8, 30.0, 5),
            (8, 1.0, 4),
            (5, 1.0, 2),
        ] {
            assert_eq!(apa(50.0).by_ratio(current, value), expected, "{value} on {current}");
        }
    }

    #[test]
    fn the_kpa_divides_a_total_and_panics_by_the_ratio_of_its_windows() {
        for (current, stable, panic, expected) in [
            (1, 20.0, 20.0, 2),
            (2, 30.0, 40.0, 3),
            (2, 100.0, 100.0, 4),
            (3, 20.0, 40.0, 2),
            (3, 20.0, 41.0, 5),
            (8, 10.0, 10.0, 4),
            (5, 54.0, 54.0, 5),
            (0, 0.0, 30.0, 1),
        ] {
            let (_, wanted) = kpa(10.0).recommend(current, stable, panic);
            assert_eq!(wanted, expected, "{stable} and {panic} on {current}");
        }
    }

    /// Replicas after each decision while only two are ready, at this value.
    fn cascade(aibrix: &Aibrix, value: f64) -> Vec<u32> {
        let mut current = 2;
        let decide = |_| {
            let (value, wanted) = aibrix.recommend(current, value, value);
            current = aibrix.guard(current, 2, value, wanted);
            current
        };
        (0..3).map(decide).collect()
    }

    #[test]
    fn without_the_guard_pending_replicas_are_doubled_and_with_it_not() {
        for (aibrix, value) in [(apa(10.0), 20.0), (kpa(10.0), 160.0)] {
            assert_eq!(cascade(&aibrix, value)[0], 4);
            let aibrix = Aibrix { pending_guard: false, ..aibrix };
            assert_eq!(cascade(&aibrix, value), [4, 8, 16]);
        }
        assert_eq!(cascade(&apa(10.0), 20.0), [4, 4, 4]);
        assert_eq!(cascade(&apa(10.0), 40.0), [4, 8, 8], "as many as two times four need");
        assert_eq!(cascade(&kpa(10.0), 160.0), [4, 8, 8]);
    }

    #[test]
    fn with_the_guard_pending_replicas_are_full_on_the_way_down() {
        let guarded = |value, wanted| apa(10.0).guard(8, 4, value, wanted);
        assert_eq!(guarded(2.0, 4), 5, "(4 * 2 + 4 * 10) / 10");
        assert_eq!(guarded(9.0, 4), 8);
        assert_eq!(apa(10.0).guard(8, 8, 2.0, 4), 4, "none is pending");
        assert_eq!(apa(10.0).guard(8, 4, 10.0, 8), 8);
    }

    #[test]
    fn the_lowest_recommendation_of_the_window_counts_on_the_way_down() {
        let mut cooldown = Cooldown::default();
        let mut settle = |seconds: u64, current, wanted| {
            let now = SimTime::from_us(seconds * 1_000_000);
            cooldown.settle(&apa(10.0), now, current, wanted)
        };
        assert_eq!(settle(10, 4, 2), 2);
        assert_eq!(settle(20, 2, 8), 8, "without a window on the way up");
        assert_eq!(settle(30, 8, 7), 2);
        assert_eq!(settle(40, 8, 8), 8);
        assert_eq!(settle(310, 8, 7), 7, "that of 10 s is too old");
    }
}
