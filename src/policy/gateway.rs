//! What happens to a request between its admission and an instance.

use super::admission::{DEFAULT_REFRESH, Detector, Priorities};
use super::degradation::{Degradation, read_degradation};
use super::flow_control::{FlowControl, read_flow_control};
use super::health::{HealthChecks, read_health};
use crate::base::Span;
use crate::config::Fields;

/// The gateway of a fleet besides its admission; by default it does nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// How old its look at the instances gets; zero: it always looks.
    pub refresh: Span,
    /// The priorities of SLO classes.
    pub priorities: Priorities,
    /// The detector whose limits keep requests away from single instances, where it does.
    pub filter: Option<Detector>,
    /// Its queue; `None`: who is admitted is routed.
    pub flow_control: Option<FlowControl>,
    /// What it does less of under stress.
    pub degradation: Degradation,
    /// Which instances take part; `None`: all that are ready.
    pub health_checks: Option<HealthChecks>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            refresh: DEFAULT_REFRESH,
            priorities: Priorities::default(),
            filter: None,
            flow_control: None,
            degradation: Degradation::default(),
            health_checks: None,
        }
    }
}

impl Gateway {
    /// Whether it does anything.
    pub fn is_active(&self) -> bool {
        self.filter.is_some()
            || self.flow_control.is_some()
            || self.health_checks.is_some()
            || self.degradation.is_active()
    }

    /// Whether it looks at instances.
    pub fn needs_gauges(&self) -> bool {
        let flow = self.flow_control.as_ref();
        self.filter.is_some()
            || self.degradation.needs_gauges()
            || flow.is_some_and(|flow| flow.detector.needs_gauges())
    }
}

/// Reads what of a bundle is the gateway's, but for its admission.
pub(super) fn read_gateway(
    bundle: &mut Fields,
    detector: Detector,
    refresh: Span,
    priorities: Priorities,
) -> Gateway {
    Gateway {
        refresh,
        priorities,
        filter: detector.filter.then_some(detector),
        flow_control: read_flow_control(bundle, detector),
        degradation: read_degradation(bundle),
        health_checks: read_health(bundle),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Defaults, Problems, parse};
    use crate::policy::admission::{Admission, Detector, Measure};
    use crate::policy::degradation::{CapOutput, Degradation, Shed};
    use crate::policy::flow_control::FlowControl;
    use crate::policy::health::HealthChecks;
    use crate::policy::{PolicyBundle, read_bundle};

    fn read(text: &str) -> (Option<PolicyBundle>, Vec<String>) {
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
        let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
        (bundle, problems.list().iter().map(|problem| problem.message.clone()).collect())
    }

    fn accepted(text: &str) -> PolicyBundle {
        let (bundle, problems) = read(text);
        assert!(problems.is_empty(), "{problems:?}");
        bundle.expect("no problem")
    }

    #[test]
    fn what_is_there_and_empty_has_the_documented_defaults() {
        let gateway = accepted("{}").gateway;
        assert!(!gateway.is_active());
        let text = "flow_control: {request_ttl: 0s}\nhealth_checks: {interval: 10s}\n\
                    degradation: {cap_output: {above_waiting: 100}, \
                    preempt: {above_kv_utilization: 0.95}, shed: {min_priority: 0}, \
                    queue: {min_healthy: 2}}\n";
        let gateway = accepted(text).gateway;
        assert_eq!(gateway.flow_control, Some(FlowControl::default()));
        assert_eq!(gateway.health_checks, Some(HealthChecks::default()));
        let expected = Degradation {
            cap_output: Some(CapOutput { above_waiting: 100, max_output_tokens: 512 }),
            preempt_above: Some(0.95),
            shed: Some(Shed { above_waiting: 100, min_priority: 0 }),
            min_healthy: Some(2),
        };
        assert_eq!(gateway.degradation, expected);
    }

    #[test]
    fn every_rule_can_be_named_and_has_the_defaults_of_the_registry() {
        for rule in Admission::all() {
            let bundle = accepted(&format!("admission: {{policy: {}}}", rule.name()));
            assert_eq!(bundle.admission, rule);
        }
    }

    #[test]
    fn a_list_of_rules_is_a_chain_in_its_order() {
        let bundle = accepted(
            "admission: {policy: [kv-limit, gaie-legacy], kv_limit: {max_utilization: 0.7}, \
             gaie_qd_threshold: 9, slo_priorities: {bulk: -7}}\n\
             saturation_detector: {type: concurrency-detector, mode: tokens}\n",
        );
        let legacy = Detector { queue_depth: 9.0, ..Detector::default() };
        let chain = vec![
            Admission::KvLimit { max_utilization: 0.7 },
            Admission::Saturation { detector: legacy, limit: 1.0 },
        ];
        assert_eq!(bundle.admission, Admission::Chain(chain));
        let priorities = &bundle.gateway.priorities;
        assert_eq!(["bulk", "batch", "x"].map(|class| priorities.of(class)), [-7, -1, 3]);
        let flow = "flow_control: {}\nsaturation_detector: \
                    {type: concurrency-detector, mode: tokens}\n";
        let detector = read(flow).0.and_then(|bundle| bundle.gateway.flow_control);
        assert_eq!(detector.map(|flow| flow.detector.measure), Some(Measure::Tokens));
    }

    #[test]
    fn what_is_wrong_at_a_gateway_is_told_all_at_once() {
        let (bundle, problems) = read(
            "admission: {policy: [kv-limit, kv-limit], slo_priorities: {a: 0.5}}\n\
             flow_control: {dispatch_interval: 0s, bands: [{priority: 1}, {priority: 1}]}\n\
             health_checks: {interval: 0s}\ndegradation: {cap_outputs: {}}\n",
        );
        assert!(bundle.is_none());
        let expected = [
            "rule `kv-limit` appears twice",
            "`slo_priorities.a` is 0.5",
            "priority 1 twice",
            "`dispatch_interval` is zero",
            "`interval` is zero",
        ];
        for message in expected {
            assert!(problems.iter().any(|problem| problem == message), "{message}: {problems:?}");
        }
        assert_eq!(problems.len(), 6, "{problems:?}");
    }
}
