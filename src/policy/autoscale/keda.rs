//! KEDA: to zero and back by polling, and an HPA on external metrics in between.

use super::hpa::{Behavior, Metric, MetricType, Steering, TARGET_BOUNDS, propose};
use super::read::{Usual, read_window};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields, Node, Problems};
use crate::policy::signals::Signal;

/// Instances to fall back on.
const REPLICAS_MAX: u32 = 100_000;
/// Failures in a row.
const FAILURES_MAX: u32 = 1_000_000;

/// A `ScaledObject` as its users set it. `min_instances` of the pool is its `minReplicaCount`,
/// `max_instances` its `maxReplicaCount`.
#[derive(Clone, Debug, PartialEq)]
pub struct Keda {
    /// The pool, by position.
    pub pool: u32,
    /// Between two looks at whether any trigger is active; above zero. Matters at zero instances,
    /// and for leaving the last ones.
    pub polling_interval: Span,
    /// From the last look with an active trigger to zero instances.
    pub cooldown_period: Span,
    /// From the start to zero instances, where no trigger was ever active.
    pub initial_cooldown_period: Span,
    /// What it looks at, at least one.
    pub triggers: Vec<Trigger>,
    /// What to do without a metric.
    pub fallback: Option<Fallback>,
    /// How fast the HPA follows.
    pub behavior: Behavior,
}

/// A trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    /// What the HPA makes of it; `Value` or `AverageValue`, the target is KEDA's `threshold`.
    pub metric: Metric,
    /// It is active above this.
    pub activation_threshold: f64,
    /// Whether a metric without a value counts as 0, not as an error.
    pub ignore_null_values: bool,
}

/// What to do without a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// After more errors in a row than this.
    pub failure_threshold: u32,
    /// As if the metric asked for so many instances.
    pub replicas: u32,
    /// How that goes together with those there are.
    pub behavior: FallbackBehavior,
}

/// How a fallback goes together with the instances there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FallbackBehavior {
    /// As many as the fallback says.
    #[default]
    Static,
    /// As many as there are.
    Current,
    /// The more of both.
    CurrentIfHigher,
    /// The fewer of both.
    CurrentIfLower,
}

impl Keda {
    pub(super) fn read(fields: &mut Fields, usual: Usual, is_used: bool) -> Option<Self> {
        if is_used {
            fields.require(&["keda"]);
        }
        let mut fields = fields.fields("keda")?;
        fields.require(&["triggers"]);
        let polling = fields.span("polling_interval", DAY).unwrap_or(Span::from_us(30_000_000));
        if polling == Span::ZERO {
            fields.error("polling_interval", "`polling_interval` must be longer than zero");
        }
        let cooldown = fields.span("cooldown_period", DAY).unwrap_or(Span::from_us(300_000_000));
        let initial = fields.span("initial_cooldown_period", DAY).unwrap_or(Span::ZERO);
        let items = fields.list("triggers").unwrap_or_default();
        if items.is_empty() && fields.node("triggers").is_some() {
            fields.error("triggers", "KEDA needs a trigger").label("nothing is looked at");
        }
        let problems = fields.problems();
        let triggers: Vec<Trigger> =
            items.iter().filter_map(|item| Trigger::read(item, usual, problems)).collect();
        let fallback = Fallback::read(&mut fields);
        let behavior = Behavior::read(&mut fields);
        fields.finish();
        Some(Self {
            pool: usual.pool,
            polling_interval: polling.max(Span::from_us(1)),
            cooldown_period: cooldown,
            initial_cooldown_period: initial,
            triggers,
            fallback,
            behavior,
        })
    }

    /// Whether there is something to do for an instance, or that is not known.
    fn activity(&self, values: &[Option<f64>]) -> Activity {
        let mut triggers = self.triggers.iter().zip(values);
        let is_active = |(trigger, value): (&Trigger, &Option<f64>)| {
            value > &Some(trigger.activation_threshold)
        };
        if triggers.any(is_active) {
            Activity::Active
        } else if values.contains(&None) {
            Activity::Unknown
        } else {
            Activity::Idle
        }
    }
}

impl Trigger {
    fn read(item: &Node, usual: Usual, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::of(item, "a trigger of `triggers`", problems)?;
        fields.require(&["signal", "threshold"]);
        let kinds = [("average-value", MetricType::AverageValue), ("value", MetricType::Value)];
        let kind = fields.one_of("metric_type", &kinds).unwrap_or(MetricType::AverageValue);
        let signal = fields.one_of("signal", &Signal::ALL);
        let target = fields.f64("threshold", TARGET_BOUNDS);
        let activation = fields.f64("activation_threshold", Bounds::NON_NEGATIVE).unwrap_or(0.0);
        let ignore_null_values = fields.bool("ignore_null_values").unwrap_or(true);
        let window = read_window(&mut fields).unwrap_or(usual.window);
        fields.finish();
        let metric = Metric { kind, signal: signal?, target: target?, window };
        metric.check(item, problems);
        Some(Self { metric, activation_threshold: activation, ignore_null_values })
    }
}

impl Fallback {
    fn read(fields: &mut Fields) -> Option<Self> {
        let mut fields = fields.fields("fallback")?;
        fields.require(&["failure_threshold", "replicas"]);
        let failure_threshold = fields.u32("failure_threshold", 0..=FAILURES_MAX);
        let replicas = fields.u32("replicas", 0..=REPLICAS_MAX);
        let behaviors = [
            ("static", FallbackBehavior::Static),
            ("current", FallbackBehavior::Current),
            ("current-if-higher", FallbackBehavior::CurrentIfHigher),
            ("current-if-lower", FallbackBehavior::CurrentIfLower),
        ];
        let behavior = fields.one_of("behavior", &behaviors).unwrap_or_default();
        fields.finish();
        Some(Self { failure_threshold: failure_threshold?, replicas: replicas?, behavior })
    }

    /// The instances to pretend that a metric asks for.
    fn replicas(&self, current: u32) -> u32 {
        match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::Current => current,
            FallbackBehavior::CurrentIfHigher => self.replicas.max(current),
            FallbackBehavior::CurrentIfLower => self.replicas.min(current),
        }
    }
}

/// What a look at the triggers tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Active,
    Idle,
    /// None is active, but not all could be read.
    Unknown,
}

/// Goes to zero and comes back.
#[derive(Clone, Copy, Debug)]
struct Poller {
    cooldown: Span,
    initial_cooldown: Span,
    last_active: Option<SimTime>,
}

impl Poller {
    /// The instances to have instead of `current`, if that is to change between none and some.
    fn poll(&mut self, now: SimTime, current: u32, min: u32, activity: Activity) -> Option<u32> {
        match activity {
            Activity::Active => {
                self.last_active = Some(now);
                (current == 0).then_some(min.max(1))
            }
            Activity::Idle if current > 0 && min == 0 => {
                let (since, wait) = match self.last_active {
                    Some(active) => (active, self.cooldown),
                    None => (SimTime::ZERO, self.initial_cooldown),
                };
                (now > since + wait).then_some(0)
            }
            Activity::Idle | Activity::Unknown => None,
        }
    }
}

impl Controller for Keda {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        self.triggers.iter().map(|Trigger { metric, .. }| (metric.signal, metric.window)).collect()
    }

    fn start(&self, _: Span) -> Box<dyn Autoscaler> {
        let (cooldown, initial_cooldown) = (self.cooldown_period, self.initial_cooldown_period);
        Box::new(KedaLoop {
            poller: Poller { cooldown, initial_cooldown, last_active: None },
            next_poll: SimTime::ZERO,
            steering: Steering::new(&self.behavior),
            failures: vec![0; self.triggers.len()],
            keda: self.clone(),
        })
    }
}

struct KedaLoop {
    keda: Keda,
    poller: Poller,
    next_poll: SimTime,
    steering: Steering,
    /// Errors in a row, by trigger.
    failures: Vec<u32>,
}

impl KedaLoop {
    /// Goes to zero or comes back, where it is time to; the order says why.
    fn poll(
        &mut self,
        now: SimTime,
        fleet: &FleetView,
        values: &[Option<f64>],
    ) -> Option<(u32, Reason)> {
        if now < self.next_poll {
            return None;
        }
        self.next_poll = now + self.keda.polling_interval;
        let view = &fleet.pools[self.keda.pool as usize];
        let activity = self.keda.activity(values);
        let wanted = self.poller.poll(now, view.desired, view.min, activity)?;
        let highest = |(_, a): &(&Trigger, f64), (_, b): &(&Trigger, f64)| a.total_cmp(b);
        let values = values.iter().map(|value| value.unwrap_or(0.0));
        let (trigger, value) = self.keda.triggers.iter().zip(values).max_by(highest)?;
        let (signal, target) = (trigger.metric.signal, trigger.activation_threshold);
        Some((wanted, Reason::Recommended { signal, value, target, wanted }))
    }

    /// The values that the HPA gets, with those to fall back on.
    fn served(&mut self, current: u32, values: &[Option<f64>]) -> Vec<(Metric, Option<f64>)> {
        let Self { keda, failures, .. } = self;
        let triggers = keda.triggers.iter().zip(values).zip(failures);
        triggers
            .map(|((trigger, &value), failures)| {
                *failures = if value.is_some() { 0 } else { *failures + 1 };
                let fallback = keda.fallback.filter(|f| *failures > f.failure_threshold);
                let substitute = fallback
                    .map(|fallback| trigger.metric.target * f64::from(fallback.replicas(current)));
                (trigger.metric, value.or(substitute))
            })
            .collect()
    }
}

impl Autoscaler for KedaLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let pool = self.keda.pool;
        let view = &fleet.pools[pool as usize];
        let value = |Trigger { metric, ignore_null_values, .. }: &Trigger| {
            let value = fleet.signals.value(metric.signal, pool as usize, metric.window);
            value.or(ignore_null_values.then_some(0.0))
        };
        let values: Vec<Option<f64>> = self.keda.triggers.iter().map(value).collect();
        if let Some((wanted, reason)) = self.poll(now, fleet, &values) {
            towards(wanted, pool, view, reason, orders);
            return;
        }
        // At zero instances the HPA is switched off.
        if view.desired == 0 {
            return;
        }
        let pods = fleet.pods(pool);
        let served = self.served(view.desired, &values).into_iter();
        let served = served.map(|(metric, value)| (metric, pods, value));
        let Some(proposal) = propose(served, &self.keda.behavior) else { return };
        let bounds = (view.min.max(1), view.max);
        let wanted = self.steering.follow(now, view.desired, proposal.replicas, bounds);
        towards(wanted, pool, view, proposal.reason(wanted), orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::autoscale::{Action, PoolView};
    use crate::policy::signals::{PoolSample, Sample, Samples};

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO + span(seconds)
    }

    fn span(seconds: u64) -> Span {
        Span::from_us(seconds * 1_000_000)
    }

    #[test]
    fn the_first_activity_launches_and_the_cooldown_counts_from_the_last() {
        let (cooldown, initial_cooldown) = (span(300), Span::ZERO);
        let mut poller = Poller { cooldown, initial_cooldown, last_active: None };
        assert_eq!(poller.poll(at(30), 0, 0, Activity::Idle), None);
        assert_eq!(poller.poll(at(60), 0, 0, Activity::Active), Some(1));
        assert_eq!(poller.poll(at(90), 4, 0, Activity::Active), None);
        assert_eq!(poller.poll(at(390), 4, 0, Activity::Idle), None, "300 s are not over yet");
        assert_eq!(poller.poll(at(420), 4, 0, Activity::Unknown), None);
        assert_eq!(poller.poll(at(420), 4, 0, Activity::Idle), Some(0), "at once, from any number");
        assert_eq!(poller.poll(at(450), 0, 3, Activity::Active), Some(3));
        assert_eq!(poller.poll(at(900), 3, 3, Activity::Idle), None);
    }

    #[test]
    fn who_was_never_active_goes_after_the_initial_cooldown() {
        let mut poller =
            Poller { cooldown: span(300), initial_cooldown: span(60), last_active: None };
        assert_eq!(poller.poll(at(60), 2, 0, Activity::Idle), None);
        assert_eq!(poller.poll(at(90), 2, 0, Activity::Idle), Some(0));
    }

    fn keda(ignore_null_values: bool, fallback: Option<Fallback>) -> Keda {
        let (kind, signal) = (MetricType::AverageValue, Signal::Waiting);
        let metric = Metric { kind, signal, target: 5.0, window: span(60) };
        Keda {
            pool: 0,
            polling_interval: span(30),
            cooldown_period: span(300),
            initial_cooldown_period: Span::ZERO,
            triggers: vec![Trigger { metric, activation_threshold: 10.0, ignore_null_values }],
            fallback,
            behavior: Behavior::default(),
        }
    }

    /// The number of instances after each decision, 15 s apart, with so many waiting.
    fn course(keda: &Keda, from: u32, min: u32, waiting: &[Option<u64>]) -> Vec<u32> {
        let mut scaler = keda.start(span(15));
        let mut desired = from;
        let mut course = Vec::new();
        for (tick, waiting) in waiting.iter().enumerate() {
            let now = at(15 * tick as u64);
            let mut samples = Samples::new(span(60), Vec::new());
            if let &Some(waiting) = waiting {
                let pools = vec![PoolSample { ready: desired, waiting, ..PoolSample::default() }];
                samples.push(Sample { at: now, pools, ..Sample::default() });
            }
            let view = PoolView { desired, ready: desired, min, max: 20, ..PoolView::default() };
            let fleet = FleetView { pools: &[view], signals: &samples };
            let mut orders = Vec::new();
            scaler.plan(now, &fleet, &mut orders);
            match orders.first().map(|order| order.action) {
                Some(Action::Launch { count, .. }) => desired += count,
                Some(Action::Shrink { count, .. }) => desired -= count,
                _ => {}
            }
            course.push(desired);
        }
        course
    }

    #[test]
    fn it_is_activated_at_polls_only_and_by_more_than_the_threshold() {
        let waiting = [10, 100, 11, 40, 40].map(Some);
        assert_eq!(course(&keda(true, None), 0, 0, &waiting), [0, 0, 1, 5, 8]);
    }

    #[test]
    fn the_hpa_never_removes_the_last_one_and_the_poller_does() {
        let waiting: Vec<Option<u64>> =
            (0..23).map(|tick| Some(11 * u64::from(tick == 0))).collect();
        let course = course(&keda(true, None), 3, 0, &waiting);
        assert_eq!(course[..20], [3; 20], "the HPA waits for 300 s");
        assert_eq!(course[20..], [1, 1, 0], "the next poll after the cooldown takes it");
    }

    #[test]
    fn errors_fall_back_on_a_number_when_there_were_too_many() {
        let fallback = Fallback {
            failure_threshold: 3,
            replicas: 6,
            behavior: FallbackBehavior::CurrentIfHigher,
        };
        let waiting = [None; 5];
        assert_eq!(course(&keda(false, Some(fallback)), 4, 1, &waiting), [4, 4, 4, 6, 6]);
        assert_eq!(course(&keda(false, Some(fallback)), 9, 1, &waiting), [9; 5]);
        assert_eq!(course(&keda(false, None), 4, 1, &waiting), [4; 5]);
    }
}
