//! How many replicas one metric asks for.

use crate::base::Span;
use crate::policy::signals::Signal;

/// A metric with its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// How it is compared with the target.
    pub kind: MetricType,
    /// What it is.
    pub signal: Signal,
    /// The target in the unit of the signal, compared in whole thousandths (`Resource`: in whole
    /// hundredths); at least 0.001.
    pub target: f64,
    /// Over which the signal is taken, where it is a rate or a quantile.
    pub window: Span,
}

/// How a metric is compared with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// The mean over the pods that report it; pods without a sample are made up for.
    Pods,
    /// The same for a share of what a pod has: whole per cents, and who does not report counts as
    /// full on the way down.
    Resource,
    /// The same for CPU: pods that are not ready for long enough do not count.
    Cpu,
    /// An object or external metric by its `Value`: its ratio to the target times the ready pods.
    Value,
    /// An object or external metric by its `AverageValue`: a total over the target.
    AverageValue,
}

/// The pods of a deployment as the controller counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy::autoscale) struct Pods {
    /// Replicas that the deployment should have.
    pub current: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods of which there is a sample.
    pub sampled: u32,
    /// Pods that run and of which there is none.
    pub missing: u32,
    /// Pods that do not run yet.
    pub pending: u32,
}

/// How far off the target is near enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::policy::autoscale) struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Tolerance {
    fn contains(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

fn milli(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

impl Metric {
    /// The replicas it asks for at `value`; `None` where it cannot be had.
    pub(in crate::policy::autoscale) fn replicas(
        &self,
        value: Option<f64>,
        pods: &Pods,
        tolerance: Tolerance,
    ) -> Option<u32> {
        let value = value?;
        match self.kind {
            MetricType::Pods | MetricType::Resource | MetricType::Cpu => {
                self.of_pods(value, pods, tolerance)
            }
            MetricType::Value => Some(self.of_value(value, pods, tolerance)),
            MetricType::AverageValue => Some(self.of_total(value, pods, tolerance)),
        }
    }

    /// Whether it is a share of what a pod has.
    fn is_share(&self) -> bool {
        matches!(self.kind, MetricType::Resource | MetricType::Cpu)
    }

    /// Usage over the target, when `total` thousandths are the sum over `count` pods.
    fn usage(&self, total: i64, count: u32) -> f64 {
        let count = i64::from(count);
        if self.is_share() {
            let percent = total * 100 / (count * 1000);
            return percent as f64 / (self.target * 100.0).round();
        }
        (total / count) as f64 / milli(self.target) as f64
    }

    fn of_pods(&self, mean: f64, pods: &Pods, tolerance: Tolerance) -> Option<u32> {
        if pods.sampled == 0 {
            return None;
        }
        let mut total = milli(mean * f64::from(pods.sampled));
        let mut count = pods.sampled;
        let ratio = self.usage(total, count);
        let with_pending = pods.pending > 0 && ratio > 1.0;
        if pods.missing == 0 && !with_pending {
            let replicas = (ratio * f64::from(count)).ceil() as u32;
            return Some(if tolerance.contains(ratio) { pods.current } else { replicas });
        }
        if ratio < 1.0 {
            let full = milli(self.target).max(if self.is_share() { 1000 } else { 0 });
            total += full * i64::from(pods.missing);
        }
        let is_at_target = (1.0..=1.0).contains(&ratio);
        if self.kind == MetricType::Pods || !is_at_target {
            count += pods.missing;
        }
        if with_pending {
            count += pods.pending;
        }
        let likely = self.usage(total, count);
        let turned = (ratio < 1.0 && likely > 1.0) || (ratio > 1.0 && likely < 1.0);
        let replicas = (likely * f64::from(count)).ceil() as u32;
        let astray =
            (likely < 1.0 && replicas > pods.current) || (likely > 1.0 && replicas < pods.current);
        let stays = tolerance.contains(likely) || turned || astray;
        Some(if stays { pods.current } else { replicas })
    }

    fn of_value(&self, value: f64, pods: &Pods, tolerance: Tolerance) -> u32 {
        let ratio = milli(value) as f64 / milli(self.target) as f64;
        if pods.current == 0 {
            return ratio.ceil() as u32;
        }
        if tolerance.contains(ratio) {
            return pods.current;
        }
        (ratio * f64::from(pods.ready)).ceil() as u32
    }

    fn of_total(&self, total: f64, pods: &Pods, tolerance: Tolerance) -> u32 {
        let (total, target) = (milli(total) as f64, milli(self.target) as f64);
        if tolerance.contains(total / (target * f64::from(pods.current))) {
            return pods.current;
        }
        (total / target).ceil() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { up: 0.1, down: 0.1 };

    fn asked(kind: MetricType, target: f64, value: f64, pods: Pods) -> Option<u32> {
        let metric = Metric { kind, signal: Signal::Waiting, target, window: Span::ZERO };
        metric.replicas(Some(value), &pods, TOLERANCE)
    }

    fn running(current: u32) -> Pods {
        Pods { current, ready: current, sampled: current, ..Pods::default() }
    }

    #[test]
    fn replicas_follow_the_ratio_rounded_up() {
        for (pods, value, target, expected) in
            [(3, 0.2, 0.1, 6), (4, 0.05, 0.1, 2), (5, 1.08, 1.0, 5), (5, 1.11, 1.0, 6)]
        {
            for kind in [MetricType::Pods, MetricType::Value] {
                assert_eq!(asked(kind, target, value, running(pods)), Some(expected), "{pods}");
            }
            let total = value * f64::from(pods);
            let asked = asked(MetricType::AverageValue, target, total, running(pods));
            assert_eq!(asked, Some(expected), "{pods} in total");
        }
    }

    #[test]
    fn a_third_of_a_pod_does_not_ask_for_one_more() {
        let thirds = 10.0 / 3.0;
        assert_eq!(asked(MetricType::Pods, 2.0, thirds, running(3)), Some(5));
        assert_eq!(asked(MetricType::AverageValue, 2.0, 10.0, running(3)), Some(5));
    }

    #[test]
    fn missing_pods_are_at_the_target_on_the_way_down_and_idle_on_the_way_up() {
        let pods = Pods { current: 4, ready: 4, sampled: 2, missing: 2, pending: 0 };
        assert_eq!(asked(MetricType::Pods, 10.0, 5.0, pods), Some(3), "not 1");
        assert_eq!(asked(MetricType::Pods, 10.0, 30.0, pods), Some(6), "not 12");
        assert_eq!(asked(MetricType::Pods, 10.0, 15.0, pods), Some(4), "the direction turned");
        assert_eq!(asked(MetricType::Resource, 0.5, 0.25, pods), Some(4), "full ones turn it");
        assert_eq!(asked(MetricType::Resource, 0.8, 0.2, pods), Some(3));
    }

    #[test]
    fn pending_pods_are_idle_on_the_way_up_and_out_of_it_on_the_way_down() {
        assert_eq!(asked(MetricType::Pods, 2.0, 10.0, running(2)), Some(10));
        let pods = Pods { current: 10, ready: 2, sampled: 2, missing: 0, pending: 8 };
        assert_eq!(asked(MetricType::Pods, 2.0, 10.0, pods), Some(10), "it holds");
        assert_eq!(asked(MetricType::Pods, 2.0, 15.0, pods), Some(15));
        assert_eq!(asked(MetricType::Pods, 2.0, 1.0, pods), Some(1));
    }

    #[test]
    fn shares_are_compared_in_whole_per_cents() {
        assert_eq!(asked(MetricType::Resource, 0.5, 0.559, running(10)), Some(10));
        assert_eq!(asked(MetricType::Resource, 0.5, 0.561, running(10)), Some(12));
    }

    #[test]
    fn values_count_ready_pods_and_totals_do_not() {
        let pods = Pods { current: 10, ready: 4, sampled: 4, missing: 0, pending: 6 };
        assert_eq!(asked(MetricType::Value, 100.0, 200.0, pods), Some(8));
        assert_eq!(asked(MetricType::AverageValue, 10.0, 200.0, pods), Some(20));
    }

    #[test]
    fn from_zero_only_what_is_not_of_pods_says_anything() {
        let none = Pods::default();
        assert_eq!(asked(MetricType::Pods, 2.0, 9.0, none), None);
        assert_eq!(asked(MetricType::Value, 2.0, 9.0, none), Some(5));
        assert_eq!(asked(MetricType::AverageValue, 2.0, 9.0, none), Some(5));
        assert_eq!(asked(MetricType::AverageValue, 2.0, 0.0, none), Some(0));
    }
}
