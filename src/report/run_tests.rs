//! Fifty-five minutes of a fleet by hand, and how they are told.

use std::sync::Arc;

use super::RunReport;
use crate::base::{Delay, SimTime, Span};
use crate::policy::autoscale::{
    Autoscaling, Combine, CooldownFrom, Drain, Rule, ScalingPolicy, Thresholds,
};
use crate::policy::signals::{Quantiles, Signal};
use crate::scenario::{Conditions, Conduct, Fault, InFlight, Retry, Strike, Victim};
use crate::search::fleet::tests::{CAPACITIES, bundle, outcome};
use crate::search::fleet::{arrived, interval_usd};
use crate::search::{Figures, capacities};
use crate::sim::outcome::{InstanceOutcome, Summary};
use crate::sim::{Outcome, RunOptions, Scratch, simulate_drawn_under};
use crate::workload::{Diurnal, Profile, RateMode, Targets, WorkloadSpec};

fn report(seeds: Vec<u64>, outcomes: Vec<Outcome>) -> RunReport {
    let bundle = bundle();
    let figures = outcomes.iter().map(|outcome| Figures::of(outcome, &bundle, &CAPACITIES));
    RunReport {
        policy: "policies/rules.yaml".to_owned(),
        workload: "workload day: 12.50 requests/s on average, up to 25.00".to_owned(),
        figures: figures.collect(),
        bundle,
        warm_up_s: 600.0,
        seeds,
        outcomes,
        capacities: CAPACITIES.to_vec(),
    }
}

fn of_one_seed() -> RunReport {
    report(vec![42], vec![outcome()])
}

#[test]
fn a_latency_that_nobody_had_is_no_zero() {
    let one = Summary { count: 1, p99_ms: 7.0, ..Summary::default() };
    let some = Outcome { ttft: one, ..outcome() };
    let nothing = Outcome { ttft: Summary::default(), ..outcome() };
    let report = report(vec![1, 2], vec![some, nothing]);
    let text = report.to_text(false);
    let row = text.lines().find(|line| line.trim_start().starts_with("TTFT ")).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["TTFT", "-", "-", "-", "-", "-", "-"], "one seed knows none");
    let document = report.to_json();
    assert!(document["runs"][1]["ttft"]["p99_ms"].is_null());
    assert!(document["runs"][0]["ttft"]["p99_ms"].is_number());
}

#[test]
fn the_report_of_a_changing_fleet_tells_its_life_and_its_bill() {
    insta::assert_snapshot!(of_one_seed().to_text(false));
}

#[test]
fn the_document_has_the_life_of_the_fleet() {
    let document = of_one_seed().to_json();
    let fleet = &document["runs"][0]["fleet"];
    insta::assert_snapshot!(format!("{:#}", fleet["timeline"][1]));
    insta::assert_snapshot!(format!("{:#}", fleet["faults"]));
    insta::assert_snapshot!(format!("{:#}", fleet["pools"]));
    assert_eq!(fleet["events"].as_array().map(Vec::len), Some(17));
    assert_eq!(fleet["events"][3]["reason"], "waiting 132.000 > 100 for 30s");
    assert_eq!(fleet["events"][1]["lost"], 12);
    assert_eq!(fleet["clairvoyant"]["pool"], "spot");
    assert_eq!(document["capacity_rps"][0], 6.0);
    assert_eq!(document["runs"][0]["measured"]["timed_out"], 45);
}

#[test]
fn of_several_seeds_the_first_is_told_and_the_bill_has_intervals() {
    let text = report(vec![42, 43], vec![outcome(), outcome()]).to_text(false);
    assert!(text.contains("of seed 42, the first:"), "{text}");
    assert!(text.contains("$16.97 ± $0.00"), "{text}");
    assert_eq!(text.matches("crash of instance 1 at").count(), 1, "{text}");
}

#[test]
fn each_place_of_a_fleet_that_changes_has_a_row() {
    let mut outcome = outcome();
    outcome.instances = vec![InstanceOutcome::default(); 5];
    let text = report(vec![42], vec![outcome]).to_text(false);
    let table = text.split("busy, whole run").nth(1).expect("a table of instances");
    assert_eq!(table.lines().filter(|line| line.contains("h100")).count(), 4, "{table}");
    assert!(table.lines().any(|line| line.starts_with("  4         spot")), "{table}");
}

#[test]
fn a_fleet_that_stands_still_has_no_life() {
    let still = Outcome { fleet: None, ..outcome() };
    let report = report(vec![42], vec![still]);
    let text = report.to_text(false);
    assert!(!text.contains("timeline") && !text.contains("bill"), "{text}");
    assert!(report.to_json()["runs"][0]["fleet"].is_null());
}

/// Two hours with a wave, rules on waiting requests, and a crash at its peak.
fn real_run() -> RunReport {
    let mut bundle = bundle();
    bundle.pools.truncate(1);
    bundle.pools[0].start_up.loading = Delay::Constant(Span::from_us(30_000_000));
    let rule = |signal, limit, seconds: u64, step| Rule {
        pool: 0,
        signal,
        limit,
        lasting: Span::from_us(seconds * 1_000_000),
        window: Span::from_us(60_000_000),
        step,
    };
    let rules = Thresholds {
        up: vec![rule(Signal::TokenUtilization, 0.8, 30, 1)],
        down: vec![rule(Signal::TokenUtilization, 0.4, 300, 1)],
        combine: Combine::Max,
    };
    let second = Span::from_us(1_000_000);
    bundle.autoscaling = Some(Autoscaling {
        policy: ScalingPolicy::Thresholds(rules),
        interval: second.times(15),
        scrape_interval: second.times(15),
        quantiles: Quantiles::Exact,
        drain: Drain::Finish,
        cooldown_up: second.times(60),
        cooldown_down: second.times(300),
        cooldown_from: CooldownFrom::Decision,
        pending_guard: false,
    });
    let mut workload = WorkloadSpec::rate_mode(RateMode { rate: 60.0, ..RateMode::default() });
    let hour = second.times(3600);
    let diurnal = Diurnal { peak: hour, peak_to_trough: 5.0, period: hour.times(2) };
    workload.clients[0].profile =
        Some(Arc::new(Profile { diurnal: Some(diurnal), ..Profile::default() }));
    let targets = Targets { ttft: second, ..Targets::NONE };
    workload.targets = vec![(WorkloadSpec::CLASS_DEFAULT.to_owned(), targets)];
    let crash =
        Strike::Crash { victim: Victim::Serving(0), in_flight: InFlight::Lost, repair: None };
    let at = SimTime::ZERO + hour;
    let conditions = Conditions {
        faults: vec![Fault { at, strike: crash }],
        clients: Conduct { retry: Some(Retry::STANDARD), timeout: None },
        ..Conditions::calm(7)
    };
    let options = RunOptions {
        warm_up: SimTime::ZERO + second.times(600),
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: Some(second.times(60)),
    };
    let drawn = (&workload, 7, hour.times(2));
    let scratch = &mut Scratch::default();
    let outcome = simulate_drawn_under(&bundle, drawn, &conditions, &options, scratch);
    let capacities = capacities(&bundle, &workload);
    RunReport {
        policy: "rules.yaml".to_owned(),
        workload: "a wave".to_owned(),
        figures: vec![Figures::of(&outcome, &bundle, &capacities)],
        bundle,
        warm_up_s: 600.0,
        seeds: vec![7],
        outcomes: vec![outcome],
        capacities,
    }
}

#[test]
fn a_real_run_adds_up() {
    let report = real_run();
    let text = report.to_text(false);
    let outcome = &report.outcomes[0];
    let fleet = outcome.fleet.as_ref().expect("a fleet that changes");
    let arrived: u64 = fleet.timeline.iter().map(arrived).sum();
    assert_eq!(arrived, outcome.counts.injected);
    let by_interval: f64 = fleet.timeline.iter().map(|it| interval_usd(it, &report.bundle)).sum();
    let bill = report.figures[0].get("cost_total").expect("a bill");
    assert!((by_interval / bill - 1.0).abs() < 1e-12, "{by_interval} {bill}");
    let figure = |name| report.figures[0].get(name).unwrap_or_else(|| panic!("no {name}"));
    assert!(figure("scale_ups") > 0.0 && figure("scale_downs") > 0.0, "{text}");
    assert!(figure("cost_over_clairvoyant") > 1.0, "nobody is cheaper than foresight");
    assert!((2.0..=4.0).contains(&figure("instances")), "{text}");
    assert!(figure("retries_per_request") > 0.0, "{text}");
    assert!(text.contains("crash of instance 0 at 01:00:00"), "{text}");
}
