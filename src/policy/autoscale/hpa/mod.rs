//! The Horizontal Pod Autoscaler of Kubernetes, version 2.
//!
//! Starting instances, and those for which there is no capacity, are its Pending pods; instances
//! that are down, or got ready after the last scrape, run without a sample. Metrics of CPU have
//! readiness windows on top.

mod behavior;
mod cpu;
mod metric;

use super::{Autoscaler, Controller, FleetView, PoolView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields, Node, Problems};
use crate::policy::autoscale::read::{Usual, read_window};
use crate::policy::signals::Signal;

pub use behavior::{Behavior, RateLimit, Rates, Select, Unit};
pub use cpu::Readiness;
pub use metric::{Metric, MetricType};

pub(super) use behavior::Steering;
pub(super) use metric::Pods;

/// Targets are compared in thousandths.
pub(super) const TARGET_BOUNDS: Bounds = Bounds::between(0.001, 1e12);

/// The Horizontal Pod Autoscaler as its users set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hpa {
    /// The pool, by position.
    pub pool: u32,
    /// The metrics, at least one; that which asks for most counts.
    pub metrics: Vec<Metric>,
    /// Whose CPU use counts.
    pub readiness: Readiness,
    /// How fast it follows them.
    pub behavior: Behavior,
}

impl Hpa {
    pub(super) fn read(fields: &mut Fields, usual: Usual, is_used: bool) -> Option<Self> {
        if is_used {
            fields.require(&["hpa"]);
        }
        let mut fields = fields.fields("hpa")?;
        fields.require(&["metrics"]);
        let items = fields.list("metrics").unwrap_or_default();
        if items.is_empty() && fields.node("metrics").is_some() {
            fields.error("metrics", "an HPA needs a metric").label("nothing is looked at");
        }
        let problems = fields.problems();
        let metrics = items.iter().filter_map(|item| Metric::read(item, usual, problems)).collect();
        let mut readiness = Readiness::default();
        let delay = fields.span("initial_readiness_delay", DAY);
        readiness.initial_readiness_delay = delay.unwrap_or(readiness.initial_readiness_delay);
        let period = fields.span("cpu_initialization_period", DAY);
        readiness.cpu_initialization_period = period.unwrap_or(readiness.cpu_initialization_period);
        let behavior = Behavior::read(&mut fields);
        fields.finish();
        Some(Self { pool: usual.pool, metrics, readiness, behavior })
    }
}

impl Metric {
    fn read(item: &Node, usual: Usual, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::of(item, "a metric of `metrics`", problems)?;
        let kinds = [
            ("pods", MetricType::Pods),
            ("resource", MetricType::Resource),
            ("cpu", MetricType::Cpu),
            ("value", MetricType::Value),
            ("average-value", MetricType::AverageValue),
        ];
        let kind = fields.one_of("type", &kinds);
        let busy = [("busy_fraction", Signal::BusyFraction)];
        let signal = if kind == Some(MetricType::Cpu) {
            fields.require(&["target"]);
            fields.one_of("signal", &busy).or(Some(Signal::BusyFraction))
        } else {
            fields.require(&["type", "signal", "target"]);
            fields.one_of("signal", &Signal::ALL)
        };
        let target = fields.f64("target", TARGET_BOUNDS);
        let window = read_window(&mut fields).unwrap_or(usual.window);
        fields.finish();
        let metric = Self { kind: kind?, signal: signal?, target: target?, window };
        metric.check(item, problems);
        Some(metric)
    }

    /// Warns of a total that is taken for a mean, and of the reverse.
    pub(super) fn check(&self, item: &Node, problems: &mut Problems) {
        let of_one = matches!(self.kind, MetricType::Pods | MetricType::Resource | MetricType::Cpu);
        let (name, total) = (self.signal.name(), self.signal.is_total());
        if of_one && total {
            problems
                .warning(item.at, format!("`{name}` is of the whole pool"))
                .label("a metric of pods is the mean of one")
                .hint(format!("take `{name}_per_instance`, or the type `average-value`"));
        } else if self.kind == MetricType::AverageValue && !total {
            problems
                .warning(item.at, format!("`{name}` is no total over the pool"))
                .label("this type divides a total by the target")
                .hint("take the type `value` or `pods`");
        }
    }
}

impl Pods {
    /// The instances of a pool, of which `sampled` were ready at the last scrape.
    pub fn of(view: &PoolView, sampled: u32) -> Self {
        let PoolView { desired, ready, down, .. } = *view;
        let sampled = sampled.min(ready);
        Self {
            current: desired,
            ready,
            sampled,
            missing: ready - sampled + down,
            pending: desired.saturating_sub(ready + down),
        }
    }
}

impl Controller for Hpa {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        self.metrics.iter().map(|metric| (metric.signal, metric.window)).collect()
    }

    fn looks_at_instances(&self) -> bool {
        self.metrics.iter().any(|metric| metric.kind == MetricType::Cpu)
    }

    fn start(&self, _: Span) -> Box<dyn Autoscaler> {
        Box::new(HpaLoop { hpa: self.clone(), steering: Steering::new(&self.behavior) })
    }
}

/// What the metric that asks for most asks for, with its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proposal {
    pub replicas: u32,
    pub metric: Metric,
    pub value: f64,
}

/// The highest proposal of `metrics`, each with the pods that count and its value. `None` where
/// none can be had, or where one cannot and the others would remove pods.
pub(super) fn propose(
    metrics: impl Iterator<Item = (Metric, Pods, Option<f64>)>,
    behavior: &Behavior,
) -> Option<Proposal> {
    let mut best: Option<Proposal> = None;
    let (mut all, mut current) = (true, 0);
    for (metric, pods, value) in metrics {
        current = pods.current;
        let replicas = metric.replicas(value, &pods, behavior.tolerance());
        let (Some(replicas), Some(value)) = (replicas, value) else {
            all = false;
            continue;
        };
        if best.is_none_or(|best| replicas > best.replicas) {
            best = Some(Proposal { replicas, metric, value });
        }
    }
    best.filter(|best| all || best.replicas >= current)
}

impl Proposal {
    pub fn reason(&self, wanted: u32) -> Reason {
        let Metric { signal, target, .. } = self.metric;
        Reason::Recommended { signal, value: self.value, target, wanted }
    }
}

struct HpaLoop {
    hpa: Hpa,
    steering: Steering,
}

impl Autoscaler for HpaLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Hpa { pool, metrics, readiness, behavior } = &self.hpa;
        let view = &fleet.pools[*pool as usize];
        let see = |metric: &Metric| {
            let (pods, value) = if metric.kind == MetricType::Cpu {
                readiness.see(now, fleet, *pool, metric.window)
            } else {
                let value = fleet.signals.value(metric.signal, *pool as usize, metric.window);
                (fleet.pods(*pool), value)
            };
            (*metric, pods, value)
        };
        let Some(proposal) = propose(metrics.iter().map(see), behavior) else { return };
        let bounds = (view.min, view.max);
        let wanted = self.steering.follow(now, view.desired, proposal.replicas, bounds);
        towards(wanted, *pool, view, proposal.reason(wanted), orders);
    }
}

impl FleetView<'_> {
    /// The instances of a pool as Kubernetes counts pods.
    pub(super) fn pods(&self, pool: u32) -> Pods {
        let pool = pool as usize;
        let sampled = self.signals.last().map_or(0, |sample| sample.pools[pool].ready);
        Pods::of(&self.pools[pool], sampled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(target: f64) -> Metric {
        let (kind, signal) = (MetricType::Pods, Signal::RunningPerInstance);
        Metric { kind, signal, target, window: Span::ZERO }
    }

    #[test]
    fn the_metric_that_asks_for_most_counts_and_one_that_fails_forbids_removal() {
        let view = PoolView { desired: 4, ready: 4, max: 9, ..PoolView::default() };
        let pods = Pods::of(&view, 4);
        let asked = |values: &[Option<f64>]| {
            let metrics = values.iter().map(|&value| (metric(10.0), pods, value));
            propose(metrics, &Behavior::default()).map(|proposal| proposal.replicas)
        };
        assert_eq!(asked(&[Some(15.0), Some(20.0), Some(1.0)]), Some(8));
        assert_eq!(asked(&[Some(5.0), Some(1.0)]), Some(2));
        assert_eq!(asked(&[Some(15.0), None]), Some(6));
        assert_eq!(asked(&[Some(5.0), None]), None);
        assert_eq!(asked(&[None]), None);
    }

    #[test]
    fn instances_are_counted_as_pods() {
        let view = PoolView { desired: 9, starting: 3, ready: 4, down: 1, ..PoolView::default() };
        let pods = Pods { current: 9, ready: 4, sampled: 3, missing: 2, pending: 4 };
        assert_eq!(Pods::of(&view, 3), pods, "one place has no capacity");
        assert_eq!(Pods::of(&view, 6).sampled, 4, "two are gone since the scrape");
    }
}
