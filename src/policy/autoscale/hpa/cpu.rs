//! CPU use of pods, and whose use counts.
//!
//! The simulator has no CPU. The process that schedules the steps of an engine keeps one core busy
//! while a step runs and none otherwise, so the share of time stepped stands for the use of a pod
//! that requests one core: near 1 on any loaded engine, as it is in the field.

use super::super::FleetView;
use super::Pods;
use crate::base::{SimTime, Span};
use crate::policy::signals::InstanceSample;

/// Whose CPU use counts; flags of the controller manager, for all its HPAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Who is not ready and was in the state for no longer than this after its start never was
    /// (`--horizontal-pod-autoscaler-initial-readiness-delay`). Here an instance that starts was
    /// never ready, so that only zero makes a difference: it then counts, as idle, when its
    /// initialization period is over.
    pub initial_readiness_delay: Span,
    /// For so long after its start a pod counts only with a sample that was taken, over all of its
    /// window, while it was ready (`--horizontal-pod-autoscaler-cpu-initialization-period`).
    pub cpu_initialization_period: Span,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            initial_readiness_delay: Span::from_us(30_000_000),
            cpu_initialization_period: Span::from_us(300_000_000),
        }
    }
}

impl Readiness {
    /// Whether a sample taken at `sampled` over the `window` before counts at `now`.
    fn counts(&self, pod: &InstanceSample, now: SimTime, sampled: SimTime, window: Span) -> bool {
        if now < pod.launched + self.cpu_initialization_period {
            pod.ready_since.is_some_and(|since| sampled >= since + window)
        } else {
            pod.ready_since.is_some() || self.initial_readiness_delay == Span::ZERO
        }
    }

    /// The pods of `pool` as they count for CPU, and the mean use of those that do.
    pub(super) fn see(
        &self,
        now: SimTime,
        fleet: &FleetView,
        pool: u32,
        window: Span,
    ) -> (Pods, Option<f64>) {
        let mut pods = fleet.pods(pool);
        let Some(last) = fleet.signals.last() else { return (pods, None) };
        let (mut sum, mut count) = (0.0, 0_u32);
        for pod in last.instances.iter().filter(|pod| pod.pool == pool) {
            match (self.counts(pod, now, last.at, window), pod.ready_since.is_some()) {
                (true, is_ready) => {
                    sum += fleet.signals.busy_of(pod, window);
                    count += 1;
                    if !is_ready && pods.pending > 0 {
                        (pods.pending, pods.sampled) = (pods.pending - 1, pods.sampled + 1);
                    }
                }
                (false, true) if pods.sampled > 0 => {
                    (pods.pending, pods.sampled) = (pods.pending + 1, pods.sampled - 1);
                }
                (false, _) => {}
            }
        }
        (pods, (count > 0).then(|| sum / f64::from(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::autoscale::PoolView;
    use crate::policy::autoscale::hpa::metric::Tolerance;
    use crate::policy::autoscale::hpa::{Metric, MetricType};
    use crate::policy::signals::{PoolSample, Sample, Samples, Signal};

    fn at(seconds: u64) -> SimTime {
        SimTime::from_us(seconds * 1_000_000)
    }

    const WINDOW: Span = Span::from_us(30_000_000);

    /// One launched and ready at these times, in seconds, and busy for a share of all time.
    fn pod(place: u32, launched: u64, ready: Option<u64>) -> InstanceSample {
        let (launched, ready_since) = (at(launched), ready.map(at));
        InstanceSample { place, launched, ready_since, ..InstanceSample::default() }
    }

    #[test]
    fn in_its_first_five_minutes_a_pod_counts_with_a_window_in_which_it_was_ready() {
        let counts = |now: u64, ready: Option<u64>| {
            Readiness::default().counts(&pod(0, 100, ready), at(now), at(now - 5), WINDOW)
        };
        assert!(!counts(130, None), "it starts");
        assert!(!counts(194, Some(160)), "sampled 29 s after it got ready");
        assert!(counts(195, Some(160)), "sampled 30 s after");
        assert!(!counts(399, Some(390)));
        assert!(counts(400, Some(390)), "5 minutes after its start any sample counts");
        assert!(!counts(400, None), "who never was ready does not");
    }

    #[test]
    fn without_a_delay_who_starts_for_long_counts_as_idle() {
        let readiness = Readiness { initial_readiness_delay: Span::ZERO, ..Readiness::default() };
        assert!(!readiness.counts(&pod(0, 0, None), at(299), at(299), WINDOW));
        assert!(readiness.counts(&pod(0, 0, None), at(300), at(300), WINDOW));
    }

    /// What pods ask for that were busy for these shares of the 30 s before 600 s, at a target.
    fn asked(target: f64, pods: &[(InstanceSample, f64)], view: PoolView) -> (Pods, Option<u32>) {
        let mut samples = Samples::new(WINDOW, Vec::new());
        for (time, share) in [(570, 0.0), (600, 1.0)] {
            let busy = |(pod, busy): &(InstanceSample, f64)| InstanceSample {
                busy_ps: (busy * share * 30e12) as u128,
                ..*pod
            };
            let instances: Vec<_> = pods.iter().map(busy).collect();
            let ready = instances.iter().filter(|pod| pod.ready_since.is_some()).count() as u32;
            let pools = vec![PoolSample { ready, ..PoolSample::default() }];
            samples.push(Sample { at: at(time), pools, instances, ..Sample::default() });
        }
        let fleet = FleetView { pools: &[view], signals: &samples };
        let (pods, value) = Readiness::default().see(at(600), &fleet, 0, WINDOW);
        let (kind, signal) = (MetricType::Cpu, Signal::BusyFraction);
        let metric = Metric { kind, signal, target, window: WINDOW };
        (pods, metric.replicas(value, &pods, Tolerance { up: 0.1, down: 0.1 }))
    }

    #[test]
    fn who_is_not_ready_long_enough_is_idle_on_the_way_up_and_out_of_it_on_the_way_down() {
        let view = PoolView { desired: 4, ready: 4, max: 9, ..PoolView::default() };
        let of = |old: f64, new: f64| {
            let (old_one, new_one) = (|at| pod(at, 0, Some(60)), |at| pod(at, 500, Some(590)));
            [(old_one(0), old), (old_one(1), old), (new_one(2), new), (new_one(3), new)]
        };
        let counted = Pods { current: 4, ready: 4, sampled: 2, missing: 0, pending: 2 };
        // 1.0 over 0.5 with two idle ones is at the target.
        assert_eq!(asked(0.5, &of(1.0, 1.0), view), (counted, Some(4)));
        assert_eq!(asked(0.4, &of(1.0, 1.0), view).1, Some(5), "2.0 over 0.4");
        assert_eq!(asked(0.5, &of(0.25, 1.0), view).1, Some(1), "0.25 of two over 0.5");
    }

    #[test]
    fn two_at_half_the_target_and_two_missing_make_three() {
        // Two got ready after the scrape; at a target of all of a core full is the target.
        let view = PoolView { desired: 4, ready: 4, max: 9, ..PoolView::default() };
        let two = [(pod(0, 0, Some(60)), 0.5), (pod(1, 0, Some(60)), 0.5)];
        let counted = Pods { current: 4, ready: 4, sampled: 2, missing: 2, pending: 0 };
        assert_eq!(asked(1.0, &two, view), (counted, Some(3)));
        assert_eq!(asked(2.0, &two, view).1, Some(3), "and so where the target is above");
    }
}
