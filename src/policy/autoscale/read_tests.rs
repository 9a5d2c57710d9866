use super::*;
use crate::config::{Defaults, parse};
use crate::policy::{PolicyBundle, read_bundle};

const POOLS: &str = "pools:\n  a: {instances: 4, min_instances: 2, max_instances: 16}\n  \
                     b: {instances: 0, max_instances: 8, start_up: vllm-small}\n";

pub(super) fn read(autoscaling: &str) -> (Option<PolicyBundle>, Vec<String>) {
    let mut problems = Problems::new();
    let text = format!("{POOLS}autoscaling: {autoscaling}\n");
    let node = parse("x.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    assert_eq!(bundle.is_none(), problems.has_errors(), "{}", problems.render(false));
    (bundle, problems.list().iter().map(|problem| problem.message.clone()).collect())
}

pub(super) fn accepted(autoscaling: &str) -> Option<Autoscaling> {
    let (bundle, messages) = read(autoscaling);
    assert_eq!(messages, Vec::<String>::new());
    bundle.expect("no problem").autoscaling
}

pub(super) fn messages(autoscaling: &str) -> Vec<String> {
    read(autoscaling).1
}

pub(super) fn seconds(seconds: u64) -> Span {
    Span::from_us(seconds * 1_000_000)
}

#[test]
fn without_rules_thresholds_are_those_of_the_document() {
    let (bundle, warned) = read("{policy: thresholds}");
    assert_eq!(warned, ["`busy_fraction` is near 1 on any loaded engine, full or not"]);
    let scaling = bundle.and_then(|bundle| bundle.autoscaling).expect("it scales");
    let rule = |signal, limit, lasting, step| {
        let window = seconds(60);
        Rule { pool: 0, signal, limit, lasting: seconds(lasting), window, step }
    };
    let rules = Thresholds {
        up: vec![
            rule(Signal::Ttft(99), 300.0, 60, 1),
            rule(Signal::BusyFraction, 0.85, 120, 1),
            rule(Signal::Waiting, 100.0, 30, 2),
        ],
        down: vec![rule(Signal::BusyFraction, 0.30, 600, 1)],
        combine: Combine::Max,
    };
    assert_eq!(scaling.policy, ScalingPolicy::Thresholds(rules));
    assert_eq!((scaling.cooldown_up, scaling.cooldown_down), (seconds(60), seconds(300)));
    assert_eq!((scaling.interval, scaling.scrape_interval), (seconds(15), seconds(15)));
    assert!(scaling.pending_guard);
}

#[test]
fn every_key_of_rules_is_read() {
    let scaling = accepted(
        "{policy: thresholds, interval: 30s, scrape_interval: 5s, window: 2m, \
         quantiles: buckets, drain: hand-back, combine: sum, pending_guard: false, pool: b, \
         cooldown: {up: 10s, down: 20s, from: ready}, \
         scale_up: [{signal: waiting_per_instance, above: 4, for: 30s, add: 3, window: 90s}], \
         scale_down: [{signal: token_utilization, below: 0.5, pool: a}]}",
    )
    .expect("it scales");
    let up = Rule {
        pool: 1,
        signal: Signal::WaitingPerInstance,
        limit: 4.0,
        lasting: seconds(30),
        window: seconds(90),
        step: 3,
    };
    let down = Rule {
        pool: 0,
        signal: Signal::TokenUtilization,
        limit: 0.5,
        lasting: Span::ZERO,
        window: seconds(120),
        step: 1,
    };
    let rules = Thresholds { up: vec![up], down: vec![down], combine: Combine::Sum };
    let expected = Autoscaling {
        policy: ScalingPolicy::Thresholds(rules),
        interval: seconds(30),
        scrape_interval: seconds(5),
        quantiles: Quantiles::Buckets,
        drain: Drain::HandBack,
        cooldown_up: seconds(10),
        cooldown_down: seconds(20),
        cooldown_from: CooldownFrom::Ready,
        pending_guard: false,
    };
    assert_eq!(scaling, expected);
}

#[test]
fn a_schedule_begins_with_the_end_of_the_day_before() {
    let scaling = accepted(
        "{policy: scheduled, schedule: {entries: [{at: 8h, instances: 12}, \
         {at: 20h, instances: 5}]}}",
    )
    .expect("it scales");
    let entries = vec![(Span::ZERO, 5), (seconds(8 * 3600), 12), (seconds(20 * 3600), 5)];
    let schedule = Schedule { pool: 0, period: DAY, entries };
    assert_eq!(scaling.policy, ScalingPolicy::Scheduled(schedule));
    assert_eq!((scaling.cooldown_up, scaling.cooldown_down), (Span::ZERO, Span::ZERO));
    assert!(!scaling.pending_guard);
}

#[test]
fn an_oracle_looks_ahead_as_far_as_its_pool_takes_to_start() {
    let oracle = |text: &str| match accepted(text).map(|scaling| scaling.policy) {
        Some(ScalingPolicy::Oracle(oracle)) => oracle,
        other => panic!("{other:?}"),
    };
    let a = oracle("{policy: oracle, oracle: {requests_per_instance_s: 38}}");
    assert_eq!((a.pool, a.lead), (0, seconds(150)));
    let b = oracle("{policy: oracle, pool: b, oracle: {requests_per_instance_s: 38}}");
    assert_eq!((b.pool, b.lead), (1, seconds(119)));
    let c = oracle("{policy: oracle, oracle: {requests_per_instance_s: 38, lead: 5s}}");
    assert_eq!(c.lead, seconds(5));
}

#[test]
fn no_policy_still_checks_what_another_would_use() {
    assert_eq!(accepted("{policy: none, scale_up: [{signal: waiting, above: 4}]}"), None);
    let wrong = messages("{policy: none, scale_up: [{signal: wating, above: 4}]}");
    assert_eq!(wrong, ["`signal` cannot be `wating`"]);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, message) in [
        ("{}", "`autoscaling` needs `policy`"),
        ("{policy: scheduled}", "`autoscaling` needs `schedule`"),
        ("{policy: oracle}", "`autoscaling` needs `oracle`"),
        ("{policy: none, interval: 10ms}", "`interval` must be at least 100 ms"),
        ("{policy: none, scrape_interval: 500ms}", "`scrape_interval` must be at least a second"),
        ("{policy: none, window: 2h}", "`window` must be at most 3600s, not `2h`"),
        ("{policy: none, window: 0s}", "nothing is seen in a window of no length"),
        ("{policy: none, pool: c}", "there is no pool `c`"),
        ("{policy: none, cooldown: {upp: 1s}}", "unknown key `upp` in `cooldown`"),
        ("{policy: none, scale_down: [{below: 1}]}", "a rule of `scale_down` needs `signal`"),
        (
            "{policy: none, scale_down: [{signal: running, above: 1}]}",
            "a rule of `scale_down` needs `below`",
        ),
        ("{policy: none, schedule: {entries: []}}", "a schedule needs an entry"),
        (
            "{policy: none, schedule: {entries: [{at: 9h, instances: 1}, {at: 8h, instances: 2}]}}",
            "the entries of a schedule must come in order of time",
        ),
        (
            "{policy: none, schedule: {period: 8h, entries: [{at: 8h, instances: 2}]}}",
            "`period` is over before this entry",
        ),
        (
            "{policy: none, oracle: {requests_per_instance_s: 0}}",
            "`requests_per_instance_s` must be above 0 and at most 1000000, not `0`",
        ),
    ] {
        assert_eq!(messages(text).first().map(String::as_str), Some(message), "{text}");
        assert!(read(text).0.is_none(), "{text}");
    }
}

#[test]
fn what_cannot_work_is_warned_of() {
    let rules = |rule: &str| messages(&format!("{{policy: thresholds, scale_up: [{rule}]}}"));
    let busy = "`busy_fraction` is near 1 on any loaded engine, full or not";
    assert_eq!(rules("{signal: busy_fraction, above: 0.8}"), [busy]);
    let short = "`for` is shorter than the interval of decisions";
    assert_eq!(rules("{signal: waiting, above: 8, for: 10s}"), [short]);
    let never = messages("{policy: scheduled, schedule: {entries: [{at: 0h, instances: 99}]}}");
    assert_eq!(never, ["pool `a` never has 99 instances"]);

    let mut problems = Problems::new();
    let text = "autoscaling: {policy: oracle, oracle: {requests_per_instance_s: 38}}\n";
    let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
    assert!(read_bundle(&node, Defaults::embedded(), &mut problems).is_some());
    assert_eq!(problems.list()[0].message, "pool `default` cannot scale");
}

#[test]
fn knobs_reach_rules_and_cooldowns() {
    let text = format!(
        "{POOLS}autoscaling:\n  policy: thresholds\n  cooldown: {{up: 60s}}\n  scale_up:\n    \
         - {{signal: waiting, above: 100, for: 30s}}\n    - {{signal: running, above: 200}}\n"
    );
    let mut problems = Problems::new();
    let mut node = parse("x.yaml", &text, &mut problems).expect("valid YAML");
    for path in ["autoscaling.scale_up.0.for", "autoscaling.cooldown.up"] {
        assert!(node.set(path, "90s"), "{path}");
    }
    assert!(node.set("autoscaling.scale_up.1.above", 64i64));
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems).expect("no problem");
    let scaling = bundle.autoscaling.expect("it scales");
    assert_eq!(scaling.cooldown_up, seconds(90));
    let ScalingPolicy::Thresholds(rules) = scaling.policy else { panic!("thresholds") };
    assert_eq!(rules.up[0].lasting, seconds(90));
    assert_eq!(rules.up[1].limit, 64.0);
}
