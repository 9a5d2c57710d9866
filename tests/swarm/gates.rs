//! What a random scenario has at its gateway: rules of admission, a queue, stress, health checks.

use blis_opt::base::{Rng, SimTime, Span, Stream};
use blis_opt::policy::Admission;
use blis_opt::policy::admission::{Detector, Measure, Priorities};
use blis_opt::policy::degradation::{CapOutput, Degradation, Shed};
use blis_opt::policy::flow_control::{BandRules, Fairness, Flow, FlowControl, Ordering};
use blis_opt::policy::health::HealthChecks;

use super::{Dice, Scenario};

/// Rules of admission for one scenario in four; the rest stays as it is.
pub fn set_rules(scenario: &mut Scenario, case: u64) {
    let dice = &mut Dice(Rng::new(case, Stream::Admission, 1));
    let gateway = &mut scenario.bundle.gateway;
    gateway.refresh = dice.span(50_000);
    for class in ["gold", "iron"] {
        let priority = dice.pick(&[-3, -1, -1, 0, 3, 4]);
        gateway.priorities.0.push((class.to_owned(), priority));
    }
    if !dice.once_in(4) {
        return;
    }
    let detector = detector(dice);
    let mut rules = vec![scenario.bundle.admission.clone()];
    for _ in 0..dice.pick(&[1, 1, 2, 3]) {
        let rule = rule(dice, detector);
        if rules.iter().all(|other| other.name() != rule.name()) {
            rules.push(rule);
        }
    }
    scenario.bundle.admission = Admission::Chain(rules);
}

fn rule(dice: &mut Dice, detector: Detector) -> Admission {
    match dice.between(0, 4) {
        0 => Admission::QueueLimit {
            max_waiting: dice.pick(&[1, 2, 5, 20]),
            per_instance: dice.once_in(2),
        },
        1 => Admission::KvLimit { max_utilization: dice.pick(&[0.1, 0.5, 0.9, 1.0]) },
        2 => Admission::TierShed {
            threshold: dice.pick(&[0, 1, 3, 10]),
            min_priority: dice.pick(&[0, 3, 5]),
        },
        3 => Admission::Saturation { detector, limit: dice.pick(&[0.1, 0.5, 1.0, 3.0]) },
        _ => Admission::Probabilistic {
            detector,
            power: dice.pick(&[0.5, 1.0, 5.0]),
            k: dice.pick(&[0.5, 3.0, 300.0]),
        },
    }
}

fn detector(dice: &mut Dice) -> Detector {
    Detector {
        measure: dice.pick(&[Measure::Utilization, Measure::Requests, Measure::Tokens]),
        queue_depth: dice.pick(&[0.5, 1.0, 5.0]),
        kv: dice.pick(&[0.1, 0.5, 0.8]),
        staleness: dice.pick(&[Span::ZERO, Span::from_us(2_000), Span::from_us(200_000)]),
        headroom: dice.pick(&[0.0, 0.5]),
        filter: dice.once_in(3),
        max_concurrency: dice.pick(&[1.0, 2.5, 10.0]),
        max_token_concurrency: dice.pick(&[50.0, 300.0, 3000.0]),
    }
}

/// A gateway that does something, in two of three.
pub fn set_up(scenario: &mut Scenario, case: u64) {
    let dice = &mut Dice(Rng::new(case, Stream::Admission, 2));
    if dice.once_in(3) {
        return;
    }
    let few = dice.once_in(2);
    let on = |dice: &mut Dice| dice.once_in(if few { 4 } else { 2 });
    let detector = detector(dice);
    let end_us = scenario.trace.end.as_us() as u32 + 20_000;
    let instances = scenario.bundle.places();
    let gateway = &mut scenario.bundle.gateway;
    gateway.filter = on(dice).then_some(detector);
    if on(dice) {
        gateway.flow_control = Some(flow_control(dice, end_us));
    }
    if on(dice) {
        gateway.health_checks = Some(health_checks(dice, end_us));
    }
    if on(dice) {
        gateway.degradation = degradation(dice, instances);
    }
    let repeats = gateway.flow_control.is_some() || gateway.health_checks.is_some();
    if repeats {
        let later = dice.pick(&[0, 5_000, 100_000, 1_000_000]);
        let latest = SimTime::from_us(u64::from(end_us + later));
        scenario.options.horizon = scenario.options.horizon.min(latest);
    }
}

fn flow_control(dice: &mut Dice, end_us: u32) -> FlowControl {
    let others = band(dice);
    let mut bands = Vec::new();
    for priority in [4, -1, -2] {
        if dice.once_in(3) {
            bands.push((priority, band(dice)));
        }
    }
    FlowControl {
        detector: detector(dice),
        max_requests: dice.pick(&[0, 0, 1, 3, 10]),
        max_tokens: dice.pick(&[0, 0, 100, 1000]),
        request_ttl: if dice.once_in(2) { Span::ZERO } else { dice.span(end_us / 4) },
        usage_limit: dice.pick(&[0.3, 0.8, 1.0]),
        displace: dice.once_in(2),
        flow: dice.pick(&[Flow::Tenant, Flow::Client]),
        dispatch_interval: Span::from_us(u64::from(dice.pick(&[500_u32, 1_000, 7_777]))),
        dispatch_burst: dice.pick(&[1, 1, 2, 100]),
        others,
        bands,
    }
}

fn band(dice: &mut Dice) -> BandRules {
    BandRules {
        max_requests: dice.pick(&[0, 0, 1, 4]),
        fairness: dice.pick(&[Fairness::GlobalStrict, Fairness::RoundRobin]),
        ordering: dice.pick(&[Ordering::Fcfs, Ordering::SloDeadline]),
    }
}

fn health_checks(dice: &mut Dice, end_us: u32) -> HealthChecks {
    let interval = (end_us / dice.pick(&[3, 10, 40])).max(1_000);
    HealthChecks {
        interval: Span::from_us(u64::from(interval)),
        window: Span::from_us(u64::from(interval * dice.pick(&[0, 1, 3]))),
        max_error_rate: dice.once_in(2).then(|| dice.pick(&[0.0, 0.01, 0.3])),
        max_ttft_p99: dice.once_in(2).then(|| dice.span(end_us / 10)),
        min_requests: dice.pick(&[1, 1, 3]),
        failure_threshold: dice.pick(&[1, 1, 2]),
        success_threshold: dice.pick(&[1, 2]),
        probation: dice.span(end_us / 4),
        allow_empty: dice.once_in(3),
    }
}

fn degradation(dice: &mut Dice, instances: u32) -> Degradation {
    let cap = CapOutput {
        above_waiting: dice.pick(&[0, 1, 5]),
        max_output_tokens: dice.pick(&[1, 2, 10, 50]),
    };
    let shed = Shed { above_waiting: dice.pick(&[0, 2, 10]), min_priority: dice.pick(&[0, 1, 5]) };
    Degradation {
        cap_output: dice.once_in(2).then_some(cap),
        preempt_above: dice.once_in(2).then(|| dice.pick(&[0.05, 0.3, 0.6, 0.95])),
        shed: dice.once_in(3).then_some(shed),
        min_healthy: dice.once_in(3).then(|| dice.between(1, instances.max(2))),
    }
}

/// Makes a rule as it is where everything takes `factor` times as long.
pub fn slow_rule(rule: &mut Admission, factor: u64) {
    match rule {
        Admission::TokenBucket { refill_rate, .. } => *refill_rate /= factor as f64,
        Admission::Saturation { detector, .. } | Admission::Probabilistic { detector, .. } => {
            detector.staleness = detector.staleness.times(factor);
        }
        Admission::Chain(rules) => rules.iter_mut().for_each(|rule| slow_rule(rule, factor)),
        _ => {}
    }
}

/// Whether who is let in depends on what instances do.
pub fn looks_at_engines(rule: &Admission) -> bool {
    !matches!(rule, Admission::TokenBucket { .. } | Admission::RejectAll)
}

/// Changes that make a gateway simpler.
pub fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    let mut change = |edit: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        edit(&mut candidate);
        if candidate != *scenario {
            simpler.push(candidate);
        }
    };
    change(&|s| s.bundle.gateway.filter = None);
    change(&|s| s.bundle.gateway.flow_control = None);
    change(&|s| s.bundle.gateway.health_checks = None);
    change(&|s| s.bundle.gateway.degradation = Degradation::default());
    change(&|s| s.bundle.gateway.degradation.cap_output = None);
    change(&|s| s.bundle.gateway.degradation.preempt_above = None);
    change(&|s| s.bundle.gateway.degradation.shed = None);
    change(&|s| s.bundle.gateway.degradation.min_healthy = None);
    change(&|s| s.bundle.gateway.priorities = Priorities::default());
    change(&|s| s.bundle.gateway.refresh = Span::ZERO);
    if let Admission::Chain(rules) = &scenario.bundle.admission {
        for at in 0..rules.len() {
            let mut fewer = rules.clone();
            fewer.remove(at);
            change(&|s| s.bundle.admission = Admission::Chain(fewer.clone()));
        }
    }
    change(&|s| {
        if let Some(flow) = &mut s.bundle.gateway.flow_control {
            let detector = flow.detector;
            *flow = FlowControl { detector, ..FlowControl::default() };
        }
    });
    simpler
}
