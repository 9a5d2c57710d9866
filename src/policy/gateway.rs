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
