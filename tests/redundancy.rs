//! What a lost instance, a lost zone and a spot storm do, and what one more instance saves.

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::scenario::read_scenario;
use blis_opt::search::setting::{fleet_names, setting};
use blis_opt::sim::outcome::Outcome;
use blis_opt::sim::{FleetOutcome, RunOptions, Scratch, simulate_under};
use blis_opt::workload::{Limits, WorkloadSpec, generate};

const END: Span = Span::from_us(300_000_000);
const WORKLOAD: &str = "{rate: 250, prompt_tokens: {mean: 512, std_dev: 256, min: 2, max: 7000}, \
                        output_tokens: {mean: 512, std_dev: 256, min: 2, max: 7000}, \
                        slo: {default: {ttft: 500ms}}}";

fn bundle(pools: &str) -> PolicyBundle {
    let text = format!("pools: {pools}\nrouting: {{policy: least-loaded}}\n");
    let mut problems = Problems::new();
    let node = parse("policy.yaml", &text, &mut problems).expect("valid YAML");
    read_bundle(&node, Defaults::embedded(), &mut problems).expect("a bundle")
}

/// Five minutes at 250 requests/s, which seven instances carry.
fn run(pools: &str, scenario: &str) -> Outcome {
    let bundle = bundle(pools);
    let mut problems = Problems::new();
    let node = parse("scenario.yaml", scenario, &mut problems).expect("valid YAML");
    let names = fleet_names(&bundle);
    let scenario = read_scenario(&node, "the scenario", Some(&names), &mut problems);
    let node = parse("workload.yaml", WORKLOAD, &mut problems).expect("valid YAML");
    let workload = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems).expect("loads");
    let setting = setting(&bundle.pools, &workload, END);
    let conditions = scenario.expect("a scenario").conditions(42, &setting);
    let limits = Limits { duration: Some(END), max_requests: None };
    let options = RunOptions {
        warm_up: SimTime::from_secs(20.0),
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: Some(Span::from_us(10_000_000)),
    };
    let trace = generate(&workload, 42, limits);
    simulate_under(&bundle, &trace, &conditions, &options, &mut Scratch::default())
}

fn fleet(outcome: &Outcome) -> &FleetOutcome {
    outcome.fleet.as_ref().expect("the fleet has a timeline")
}

fn kept(outcome: &Outcome) -> f64 {
    outcome.within_slo as f64 / outcome.measured.injected as f64
}

/// Mean instances ready from `from` to `to`, in seconds.
fn ready(outcome: &Outcome, from: usize, to: usize) -> f64 {
    let intervals = &fleet(outcome).timeline[from / 10..to / 10];
    let ready: u64 = intervals.iter().flat_map(|i| &i.states).map(|states| states.ready).sum();
    ready as f64 / 1e13 / intervals.len() as f64
}

fn paid_s(outcome: &Outcome) -> f64 {
    fleet(outcome).pools.iter().map(|pool| pool.paid_ps as f64 / 1e12).sum()
}

const CALM: &str = "cold_start: false";
const CRASH: &str = "{faults: [{crash: {at: 100s}}], recovery: {detection: 5s, restart: 60s}}";

#[test]
fn one_more_instance_costs_its_price_and_saves_what_a_crash_would_take() {
    let pools = |instances| format!("{{a: {{instances: {instances}}}}}");
    let [n, more] = [7, 8].map(|instances| run(&pools(instances), CRASH));
    let calm = run(&pools(7), CALM);
    assert!(kept(&calm) > 0.999, "{}", kept(&calm));
    assert!(kept(&n) < 0.95, "{}", kept(&n));
    assert!(kept(&more) > 0.99, "{}", kept(&more));
    assert!((ready(&n, 60, 100) - 7.0).abs() < 1e-9);
    assert!((ready(&n, 110, 160) - 6.0).abs() < 1e-9, "{}", ready(&n, 110, 160));
    assert!((ready(&n, 170, 300) - 7.0).abs() < 1e-9);
    // What restarts is paid for all the same; the run ends a little later where more wait.
    let end = |outcome: &Outcome| fleet(outcome).end.as_secs();
    for (outcome, instances) in [(&n, 7.0), (&more, 8.0)] {
        assert!((paid_s(outcome) / (instances * end(outcome)) - 1.0).abs() < 1e-9);
    }
    assert_eq!(n.counts.failed, 0, "clients try again");
    assert!(fleet(&n).retries > 0 && fleet(&n).wasted_tokens > 0);
}

#[test]
fn a_lost_zone_is_made_good_in_the_other_after_a_start() {
    let pools = "{a: {instances: 10, zones: [zone-a, zone-b]}}";
    let outage = "{faults: [{zone_outage: {at: 100s, zone: zone-a, for: 150s}}], \
                  recovery: {detection: 0s}}";
    let lost = run(pools, outage);
    assert!((ready(&lost, 60, 100) - 10.0).abs() < 1e-9);
    assert!((ready(&lost, 100, 190) - 5.0).abs() < 1e-9);
    assert!((ready(&lost, 190, 300) - 10.0).abs() < 1e-9);
    let launched = fleet(&lost).pools[0].launches;
    assert_eq!(launched, 15);
    assert!(kept(&lost) < 0.8 && kept(&lost) > 0.2, "{}", kept(&lost));
}

#[test]
fn a_spot_storm_takes_capacity_and_its_price() {
    let pools = "{base: {instances: 4}, spot: {instances: 6, market: spot}}";
    let storm = "{faults: [{reclaim: {at: 100s, share: 1, notice: 30s, for: 1h}}]}";
    let (calm, stormy) = (run(pools, CALM), run(pools, storm));
    assert!((ready(&stormy, 110, 300) - 4.0).abs() < 1e-9, "{}", ready(&stormy, 110, 300));
    assert!(kept(&calm) > 0.999 && kept(&stormy) < 0.6, "{} {}", kept(&calm), kept(&stormy));
    let spot = |outcome: &Outcome| fleet(outcome).pools[1].paid_ps as f64 / 1e12;
    assert!(spot(&calm) >= 6.0 * 300.0);
    // Those that had requests are paid for until the end of the notice at most.
    assert!(spot(&stormy) > 600.0 && spot(&stormy) <= 6.0 * 130.0, "{}", spot(&stormy));
}
