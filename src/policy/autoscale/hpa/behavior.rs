//! How fast a recommendation is followed: stabilization windows and limits of the rate.

use crate::base::{SimTime, Span};
use crate::config::{Bounds, Fields, Node, Problems};

use super::metric::Tolerance;

/// The longest window or period; Kubernetes allows no more for a window.
const PERIOD_MAX: Span = Span::from_us(3_600_000_000);
const TOLERANCE_BOUNDS: Bounds = Bounds::between(0.0, 100.0);
const CHANGE_MAX: u32 = 1_000_000;

/// How recommendations are followed upwards and downwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// Upwards.
    pub up: Rates,
    /// Downwards.
    pub down: Rates,
}

/// How recommendations are followed in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// The least change that was recommended in so long a time is made.
    pub stabilization: Span,
    /// How far the ratio to the target may be off without a change.
    pub tolerance: f64,
    /// Which of the limits counts.
    pub select: Select,
    /// Limits of the change.
    pub limits: Vec<RateLimit>,
}

/// Which of several limits counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// That which allows the largest change.
    Max,
    /// That which allows the smallest change.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// How much the number of replicas may change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What `value` counts.
    pub unit: Unit,
    /// Pods, or per cent of the pods at the start of the period; at least 1.
    pub value: u32,
    /// The period; above zero.
    pub period: Span,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Pods.
    Pods,
    /// Per cent of those at the start of the period.
    Percent,
}

impl Default for Behavior {
    /// What Kubernetes does where nothing is said: it doubles, or adds four, every 15 s, and
    /// removes down to the highest recommendation of five minutes.
    fn default() -> Self {
        let period = Span::from_us(15_000_000);
        let limit = |unit, value| RateLimit { unit, value, period };
        let double = limit(Unit::Percent, 100);
        let rates = |window_s: u64, limits| Rates {
            stabilization: Span::from_us(window_s * 1_000_000),
            tolerance: 0.1,
            select: Select::Max,
            limits,
        };
        let up = rates(0, vec![double, limit(Unit::Pods, 4)]);
        Self { up, down: rates(300, vec![double]) }
    }
}

impl Behavior {
    /// Reads `tolerance`, `scale_up` and `scale_down`.
    pub(in crate::policy::autoscale) fn read(fields: &mut Fields) -> Self {
        let mut behavior = Self::default();
        if let Some(tolerance) = fields.f64("tolerance", TOLERANCE_BOUNDS) {
            (behavior.up.tolerance, behavior.down.tolerance) = (tolerance, tolerance);
        }
        behavior.up.read(fields, "scale_up");
        behavior.down.read(fields, "scale_down");
        behavior
    }

    pub(in crate::policy::autoscale) fn tolerance(&self) -> Tolerance {
        Tolerance { up: self.up.tolerance, down: self.down.tolerance }
    }
}

impl Rates {
    fn read(&mut self, fields: &mut Fields, key: &'static str) {
        let Some(mut fields) = fields.fields(key) else { return };
        self.stabilization = fields.span("stabilization", PERIOD_MAX).unwrap_or(self.stabilization);
        self.tolerance = fields.f64("tolerance", TOLERANCE_BOUNDS).unwrap_or(self.tolerance);
        let selects = [("max", Select::Max), ("min", Select::Min), ("disabled", Select::Disabled)];
        self.select = fields.one_of("select", &selects).unwrap_or(self.select);
        if let Some(items) = fields.list("policies") {
            if items.is_empty() {
                let hint = "`select: disabled` allows no change in this direction";
                fields.error("policies", "there is no policy in `policies`").hint(hint);
            }
            let problems = fields.problems();
            self.limits = items.iter().filter_map(|item| RateLimit::read(item, problems)).collect();
        }
        fields.finish();
    }

    /// The pods at the start of a period, changed as far as the limits allow.
    fn reach(&self, start_of: impl Fn(Span) -> i64, sign: i64) -> Option<i64> {
        let reaches = self.limits.iter().map(|limit| {
            let (start, value) = (start_of(limit.period), i64::from(limit.value));
            match limit.unit {
                Unit::Pods => start + sign * value,
                Unit::Percent => {
                    let share = start as f64 * (1.0 + sign as f64 * value as f64 / 100.0);
                    (if sign > 0 { share.ceil() } else { share.trunc() }) as i64
                }
            }
        });
        match self.select {
            Select::Disabled => None,
            Select::Max => reaches.max_by_key(|reach| sign * reach),
            Select::Min => reaches.min_by_key(|reach| sign * reach),
        }
    }
}

impl RateLimit {
    fn read(item: &Node, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::of(item, "a policy of `policies`", problems)?;
        fields.require(&["type", "value", "period"]);
        let unit = fields.one_of("type", &[("pods", Unit::Pods), ("percent", Unit::Percent)]);
        let value = fields.u32("value", 1..=CHANGE_MAX);
        let period = fields.span("period", PERIOD_MAX);
        if period == Some(Span::ZERO) {
            fields.error("period", "`period` must be longer than zero").label("zero");
        }
        fields.finish();
        Some(Self { unit: unit?, value: value?, period: period? })
    }
}

/// Follows recommendations as fast as it may.
#[derive(Clone, Debug)]
pub(in crate::policy::autoscale) struct Steering {
    behavior: Behavior,
    recommendations: Vec<(SimTime, u32)>,
    /// Replicas added, or removed where negative.
    changes: Vec<(SimTime, i64)>,
}

impl Steering {
    pub fn new(behavior: &Behavior) -> Self {
        let behavior = behavior.clone();
        Self { behavior, recommendations: Vec::new(), changes: Vec::new() }
    }

    /// The replicas to have at `now` instead of `current`, where `wanted` are recommended.
    pub fn follow(&mut self, now: SimTime, current: u32, wanted: u32, bounds: (u32, u32)) -> u32 {
        let stable = self.stabilize(now, current, wanted);
        let next = self.limit(now, current, stable).clamp(bounds.0, bounds.1);
        if next != current {
            self.changes.push((now, i64::from(next) - i64::from(current)));
        }
        next
    }

    fn stabilize(&mut self, now: SimTime, current: u32, wanted: u32) -> u32 {
        // What was there when the controller came counts as recommended.
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        let (up, down) = (self.behavior.up.stabilization, self.behavior.down.stabilization);
        let within = |window| {
            let recent = self.recommendations.iter().filter(move |(at, _)| now - *at < window);
            recent.map(|&(_, wanted)| wanted)
        };
        let least = within(up).min().map_or(wanted, |least| least.min(wanted));
        let most = within(down).max().map_or(wanted, |most| most.max(wanted));
        self.recommendations.retain(|(at, _)| now - *at < up.max(down));
        self.recommendations.push((now, wanted));
        current.max(least).min(most)
    }

    fn limit(&mut self, now: SimTime, current: u32, wanted: u32) -> u32 {
        let Behavior { up, down } = &self.behavior;
        let periods = up.limits.iter().chain(&down.limits).map(|limit| limit.period);
        let longest = periods.max().unwrap_or(Span::ZERO);
        self.changes.retain(|(at, _)| now - *at < longest);
        let start_of = |period| {
            let recent = self.changes.iter().filter(|(at, _)| now - *at < period);
            i64::from(current) - recent.map(|(_, change)| change).sum::<i64>()
        };
        let here = i64::from(current);
        let next = if wanted > current {
            let reach = up.reach(start_of, 1).map_or(here, |reach| reach.max(here));
            i64::from(wanted).min(reach)
        } else {
            let reach = down.reach(start_of, -1).map_or(here, |reach| reach.min(here));
            i64::from(wanted).max(reach)
        };
        next.max(0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Span {
        Span::from_us(seconds * 1_000_000)
    }

    fn limit(unit: Unit, value: u32, period_s: u64) -> RateLimit {
        RateLimit { unit, value, period: seconds(period_s) }
    }

    /// Replicas after each recommendation, 15 s apart.
    fn course(behavior: &Behavior, from: u32, wanted: &[u32]) -> Vec<u32> {
        let mut steering = Steering::new(behavior);
        let mut current = from;
        let follow = |(tick, &wanted): (usize, &u32)| {
            let now = SimTime::ZERO + seconds(15 * (tick as u64 + 1));
            current = steering.follow(now, current, wanted, (1, 40));
            current
        };
        wanted.iter().enumerate().map(follow).collect()
    }

    #[test]
    fn upwards_it_doubles_or_adds_four_every_15_seconds() {
        assert_eq!(course(&Behavior::default(), 3, &[100; 5]), [7, 14, 28, 40, 40]);
    }

    #[test]
    fn ten_per_cent_a_minute_go_from_80_to_72_to_64() {
        let mut behavior = Behavior::default();
        behavior.down.stabilization = Span::ZERO;
        behavior.down.limits = vec![limit(Unit::Percent, 10, 60)];
        let mut steering = Steering::new(&behavior);
        let mut current = 80;
        let mut course = Vec::new();
        for tick in 1..=6 {
            let now = SimTime::ZERO + seconds(15 * tick);
            current = steering.follow(now, current, 10, (1, 100));
            course.push(current);
        }
        assert_eq!(course, [72, 72, 72, 72, 64, 64]);
    }

    #[test]
    fn downwards_the_highest_recommendation_of_five_minutes_counts() {
        let mut wanted = vec![9; 25];
        wanted[0] = 20;
        wanted[5] = 12;
        let course = course(&Behavior::default(), 20, &wanted);
        assert_eq!(course[..20], [20; 20], "that of the start is 300 s old");
        assert_eq!(course[20..25], [12; 5]);
        let all_low = super::tests::course(&Behavior::default(), 20, &[9; 22]);
        assert_eq!(all_low[19..], [20, 9, 9], "what was there counts as recommended");
    }

    #[test]
    fn upwards_the_lowest_recommendation_of_the_window_counts() {
        let mut behavior = Behavior::default();
        behavior.up.stabilization = seconds(60);
        assert_eq!(course(&behavior, 3, &[6, 5, 6, 6, 6, 6, 6]), [3, 3, 3, 3, 5, 6, 6]);
    }

    #[test]
    fn of_several_limits_the_selected_one_counts() {
        let mut behavior = Behavior::default();
        behavior.up.limits = vec![limit(Unit::Pods, 1, 15), limit(Unit::Percent, 50, 15)];
        assert_eq!(course(&behavior, 10, &[40; 2]), [15, 23]);
        behavior.up.select = Select::Min;
        assert_eq!(course(&behavior, 10, &[40; 2]), [11, 12]);
        behavior.up.select = Select::Disabled;
        assert_eq!(course(&behavior, 10, &[40; 2]), [10, 10]);
    }

    #[test]
    fn a_period_counts_what_was_added_and_removed_in_it() {
        let mut behavior = Behavior::default();
        behavior.down.stabilization = Span::ZERO;
        behavior.down.limits = vec![limit(Unit::Pods, 5, 60)];
        behavior.up.limits = vec![limit(Unit::Pods, 4, 60)];
        assert_eq!(course(&behavior, 10, &[40, 40, 2, 40]), [14, 14, 5, 14]);
    }
}
