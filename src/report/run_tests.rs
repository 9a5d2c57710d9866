//! Fifty-five minutes of a fleet by hand, and how they are told.

use super::RunReport;
use crate::search::Figures;
use crate::search::fleet::tests::{CAPACITIES, bundle, outcome};
use crate::sim::Outcome;
use crate::sim::outcome::InstanceOutcome;

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
