//! Admission and saturation detectors from YAML.

use super::{Admission, DEFAULT_REFRESH, Detector, Measure, Priorities};
use crate::base::Span;
use crate::config::{Bounds, DAY, Fields, Node, Problems, Value, read_f64, read_text};

/// Tokens per second and tokens of a bucket; far above any traffic.
const TOKEN_BOUNDS: Bounds = Bounds::above(0.0, 1e12);
/// Thresholds of detectors.
const THRESHOLD_BOUNDS: Bounds = Bounds::above(0.0, 1e12);
/// Requests, as a limit.
const REQUESTS_MAX: u32 = 1_000_000_000;
/// Priorities of classes.
const PRIORITY_MAX: f64 = 1e6;

/// Reads a whole number, negative ones too.
pub(in crate::policy) fn read_priority_number(
    fields: &mut Fields,
    key: &'static str,
) -> Option<i32> {
    let node = fields.node(key)?;
    read_priority(node, &format!("`{key}`"), fields.problems())
}

fn read_priority(node: &Node, what: &str, problems: &mut Problems) -> Option<i32> {
    let number = read_f64(node, what, Bounds::between(-PRIORITY_MAX, PRIORITY_MAX), problems)?;
    if number.fract() == 0.0 {
        return Some(number as i32);
    }
    let problem = problems.error(node.at, format!("{what} is {number}"));
    problem.label("not a whole number").hint("priorities are whole numbers, such as 3 or -1");
    None
}

/// What `admission` says: the rules, how long they take, and priorities.
pub(in crate::policy) fn read_admission(
    bundle: &mut Fields,
    detector: Detector,
) -> (Admission, Span, Priorities) {
    let Some(mut fields) = bundle.fields("admission") else {
        return (Admission::AlwaysAdmit, Span::ZERO, Priorities::default());
    };
    let rules = read_rules(&mut fields, detector);
    let admission = read_policy(&mut fields, &rules);
    let latency = fields.span("latency_us", DAY).unwrap_or(Span::ZERO);
    let priorities = read_priorities(&mut fields);
    fields.ignored(&["slo_targets"], "targets are those of the workload's classes");
    fields.finish();
    (admission, latency, priorities)
}

/// Every rule by its name, with the values that the bundle has for it.
fn read_rules(fields: &mut Fields, detector: Detector) -> Vec<(&'static str, Admission)> {
    let capacity = fields.f64("token_bucket_capacity", TOKEN_BOUNDS).unwrap_or(10_000.0);
    let refill_rate = fields.f64("token_bucket_refill_rate", TOKEN_BOUNDS).unwrap_or(1_000.0);
    let threshold = fields.u32("tier_shed_threshold", 0..=REQUESTS_MAX).unwrap_or(0);
    let min_priority = read_priority_number(fields, "tier_shed_min_priority").unwrap_or(3);
    let legacy = Detector {
        measure: Measure::Utilization,
        queue_depth: fields.f64("gaie_qd_threshold", THRESHOLD_BOUNDS).unwrap_or(5.0),
        kv: fields.f64("gaie_kv_threshold", THRESHOLD_BOUNDS).unwrap_or(0.8),
        ..detector
    };
    vec![
        ("always-admit", Admission::AlwaysAdmit),
        ("reject-all", Admission::RejectAll),
        ("token-bucket", Admission::TokenBucket { capacity, refill_rate }),
        ("queue-limit", read_queue_limit(fields)),
        ("kv-limit", read_kv_limit(fields)),
        ("tier-shed", Admission::TierShed { threshold, min_priority }),
        ("gaie-legacy", Admission::Saturation { detector: legacy, limit: 1.0 }),
        ("saturation", read_saturation(fields, detector)),
        ("probabilistic", read_probabilistic(fields, detector)),
    ]
}

fn read_queue_limit(admission: &mut Fields) -> Admission {
    let mut limit = (None, None);
    if let Some(mut fields) = admission.fields("queue_limit") {
        limit.0 = fields.u32("max_waiting", 1..=REQUESTS_MAX);
        limit.1 = fields.one_of("per", &[("cluster", false), ("instance", true)]);
        fields.finish();
    }
    let per_instance = limit.1.unwrap_or(false);
    Admission::QueueLimit { max_waiting: limit.0.unwrap_or(100), per_instance }
}

fn read_kv_limit(admission: &mut Fields) -> Admission {
    let limit = admission.fields("kv_limit").and_then(|mut fields| {
        let limit = fields.f64("max_utilization", Bounds::above(0.0, 1.0));
        fields.finish();
        limit
    });
    Admission::KvLimit { max_utilization: limit.unwrap_or(0.9) }
}

fn read_saturation(admission: &mut Fields, detector: Detector) -> Admission {
    let limit = admission.fields("saturation").and_then(|mut fields| {
        let limit = fields.f64("limit", Bounds::above(0.0, 1e6));
        fields.finish();
        limit
    });
    Admission::Saturation { detector, limit: limit.unwrap_or(1.0) }
}

fn read_probabilistic(admission: &mut Fields, detector: Detector) -> Admission {
    let mut own = (None, None);
    if let Some(mut fields) = admission.fields("probabilistic") {
        own.0 = fields.f64("power", Bounds::between(0.0, 100.0));
        own.1 = fields.f64("k", Bounds::between(0.0, 1e12));
        fields.finish();
    }
    Admission::Probabilistic { detector, power: own.0.unwrap_or(5.0), k: own.1.unwrap_or(300.0) }
}

/// The rule, or the list of rules, that `policy` names.
fn read_policy(fields: &mut Fields, rules: &[(&'static str, Admission)]) -> Admission {
    let is_list = |node: &Node| matches!(node.value, Value::List(_));
    if !fields.node("policy").is_some_and(is_list) {
        return fields.one_of("policy", rules).unwrap_or(Admission::AlwaysAdmit);
    }
    let mut chain: Vec<Admission> = Vec::new();
    for node in fields.list("policy").unwrap_or_default() {
        let what = "a rule of `policy`";
        let rule = crate::config::read_one_of(node, what, rules, fields.problems());
        let Some(rule) = rule else { continue };
        if chain.iter().any(|other| other.name() == rule.name()) {
            let text = read_text(node, what, fields.problems()).unwrap_or_default();
            let problem = fields.problems().error(node.at, format!("rule `{text}` appears twice"));
            problem.label("already in the list").hint("keep one of the two");
        }
        chain.push(rule);
    }
    Admission::Chain(chain)
}

fn read_priorities(admission: &mut Fields) -> Priorities {
    let mut priorities = Vec::new();
    for (class, node) in admission.map("slo_priorities").unwrap_or_default() {
        let what = format!("`slo_priorities.{}`", class.text);
        if let Some(priority) = read_priority(node, &what, admission.problems()) {
            priorities.push((class.text.clone(), priority));
        }
    }
    Priorities(priorities)
}

/// Reads `saturation_detector`.
pub(in crate::policy) fn read_detector(bundle: &mut Fields) -> Detector {
    let default = Detector::default();
    let Some(mut fields) = bundle.fields("saturation_detector") else { return default };
    let types = [("utilization-detector", false), ("concurrency-detector", true)];
    let concurrency = fields.one_of("type", &types).unwrap_or(false);
    let modes = [("requests", Measure::Requests), ("tokens", Measure::Tokens)];
    let mode = fields.one_of("mode", &modes).unwrap_or(Measure::Requests);
    let mut threshold = |key| fields.f64(key, THRESHOLD_BOUNDS);
    let queue_depth = threshold("queue_depth_threshold").unwrap_or(default.queue_depth);
    let kv = threshold("kv_cache_util_threshold").unwrap_or(default.kv);
    let requests = threshold("max_concurrency").unwrap_or(default.max_concurrency);
    let tokens = threshold("max_token_concurrency").unwrap_or(default.max_token_concurrency);
    let detector = Detector {
        measure: if concurrency { mode } else { Measure::Utilization },
        queue_depth,
        kv,
        staleness: fields.span("metrics_staleness_threshold", DAY).unwrap_or(default.staleness),
        headroom: fields.f64("headroom", Bounds::between(0.0, 1e6)).unwrap_or(default.headroom),
        filter: fields.bool("filter").unwrap_or(default.filter),
        max_concurrency: requests,
        max_token_concurrency: tokens,
    };
    fields.finish();
    detector
}

/// How old the gateway's look at the instances gets, from `signals`.
pub(in crate::policy) fn read_gateway_refresh(signals: &mut Fields) -> Span {
    signals.span("gateway_refresh", DAY).unwrap_or(DEFAULT_REFRESH)
}
