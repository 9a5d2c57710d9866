//! Flow control from YAML.

use super::{BandRules, Fairness, Flow, FlowControl, Ordering};
use crate::base::Span;
use crate::config::{Bounds, DAY, Fields};
use crate::policy::admission::{Detector, read_priority_number};

/// Requests that wait, or go at once, as a limit.
const REQUESTS_MAX: u32 = 1_000_000_000;
/// Prompt tokens that wait.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// Reads `flow_control`; `None` without.
pub(in crate::policy) fn read_flow_control(
    bundle: &mut Fields,
    detector: Detector,
) -> Option<FlowControl> {
    let mut fields = bundle.fields("flow_control")?;
    let default = FlowControl::default();
    let dispatch_interval = fields.span("dispatch_interval", DAY);
    if dispatch_interval == Some(Span::ZERO) {
        let problem = fields.error("dispatch_interval", "`dispatch_interval` is zero");
        problem.label("above 0").hint("write `dispatch_interval: 1ms`");
    }
    let flows = [("tenant", Flow::Tenant), ("client", Flow::Client)];
    let band = read_rules(&mut fields, "max_requests_per_band", default.others);
    let flow = FlowControl {
        detector,
        max_requests: fields.u32("max_requests", 0..=REQUESTS_MAX).unwrap_or(0),
        max_tokens: fields.u64("max_tokens", 0..=TOKENS_MAX).unwrap_or(0),
        request_ttl: fields.span("request_ttl", DAY).unwrap_or(Span::ZERO),
        usage_limit: fields.f64("usage_limit", Bounds::above(0.0, 1.0)).unwrap_or(1.0),
        displace: fields.bool("displace").unwrap_or(false),
        flow: fields.one_of("flow", &flows).unwrap_or(default.flow),
        dispatch_interval: dispatch_interval.unwrap_or(default.dispatch_interval),
        dispatch_burst: fields.u32("dispatch_burst", 1..=REQUESTS_MAX).unwrap_or(1),
        others: band,
        bands: read_bands(&mut fields, band),
    };
    fields.finish();
    Some(flow)
}

fn read_rules(fields: &mut Fields, limit: &'static str, others: BandRules) -> BandRules {
    let fairness =
        [("global-strict", Fairness::GlobalStrict), ("round-robin", Fairness::RoundRobin)];
    let ordering = [("fcfs", Ordering::Fcfs), ("slo-deadline", Ordering::SloDeadline)];
    BandRules {
        max_requests: fields.u32(limit, 0..=REQUESTS_MAX).unwrap_or(others.max_requests),
        fairness: fields.one_of("fairness", &fairness).unwrap_or(others.fairness),
        ordering: fields.one_of("ordering", &ordering).unwrap_or(others.ordering),
    }
}

fn read_bands(flow: &mut Fields, others: BandRules) -> Vec<(i32, BandRules)> {
    let mut bands: Vec<(i32, BandRules)> = Vec::new();
    for item in flow.list("bands").unwrap_or_default() {
        let Some(mut fields) = Fields::of(item, "a band", flow.problems()) else { continue };
        fields.require(&["priority"]);
        // A name only serves paths: `flow_control.bands.batch.max_requests`.
        fields.text("name");
        let priority = read_priority_number(&mut fields, "priority");
        let rules = read_rules(&mut fields, "max_requests", others);
        if let Some(priority) = priority {
            if bands.iter().any(|(other, _)| *other == priority) {
                let problem = fields.error("priority", format!("priority {priority} twice"));
                problem.label("already in the list").hint("keep one of the two");
            }
            bands.push((priority, rules));
        }
        fields.finish();
    }
    bands
}
