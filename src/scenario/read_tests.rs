use super::*;
use crate::config::parse;

fn names() -> FleetNames {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    FleetNames { pools: list(&["a", "spot"]), zones: list(&["east", "west"]), has_spot: true }
}

fn read_for(text: &str, fleet: Option<&FleetNames>) -> (Option<Scenario>, Vec<String>) {
    let mut problems = Problems::new();
    let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
    let read = read_scenario(&node, "the scenario", fleet, &mut problems);
    assert_eq!(read.is_none(), problems.has_errors(), "{}", problems.render(false));
    (read, problems.list().iter().map(|problem| problem.message.clone()).collect())
}

fn accepted(text: &str) -> Scenario {
    let (read, messages) = read_for(text, Some(&names()));
    assert_eq!(messages, Vec::<String>::new());
    read.expect("no problem")
}

fn seconds(seconds: u64) -> Span {
    Span::from_us(seconds * 1_000_000)
}

fn uniform(low: u64, high: u64) -> Delay {
    Delay::Uniform { low: seconds(low), high: seconds(high) }
}

#[test]
fn a_scenario_that_says_little_has_clients_that_come_again() {
    assert_eq!(accepted("weight: 1\n"), Scenario::default());
    assert_eq!(accepted("clients: {retries: 0}\n").clients.retry, None);
    let patient = accepted("clients: {timeout: 60s, cap: 2s}\n").clients;
    assert_eq!(patient.timeout, Some(seconds(60)));
    assert_eq!(patient.retry, Some(Retry { cap: seconds(2), ..Retry::STANDARD }));
}

#[test]
fn every_fault_is_read() {
    let text = "
faults:
  - {crash: {at: peak, instance: 2, count: 2, in_flight: finished, repair: {uniform: [1h, 4h]}}}
  - {zone_outage: {at: 14h, zone: east, for: 30m}}
  - {reclaim: {at: '50%', zone: west, share: 0.5, notice: 0s, for: 45m}}
  - {slow: {at: 9h, instance: 3, factor: 2, for: 10m}}
  - {no_capacity: {at: 8h, pool: spot, for: 1h}}
";
    let crash = |index| Strike::Crash {
        victim: Victim::Serving(index),
        in_flight: InFlight::Finished,
        repair: Some(uniform(3600, 14_400)),
    };
    let at = |hours: u64| Moment::At(seconds(hours * 3600));
    let zone = |zone: &str| zone.to_owned();
    let expected = [
        (Moment::Peak, crash(2)),
        (Moment::Peak, crash(3)),
        (at(14), Strike::ZoneOutage { zone: zone("east"), lasting: seconds(1800) }),
        (
            Moment::Share(0.5),
            Strike::Reclaim {
                zone: Some(zone("west")),
                share: 0.5,
                notice: Span::ZERO,
                lasting: seconds(2700),
            },
        ),
        (at(9), Strike::Slow { victim: Victim::Serving(3), factor: 2.0, lasting: seconds(600) }),
        (
            at(8),
            Strike::NoCapacity { pool: Some(zone("spot")), zone: None, lasting: seconds(3600) },
        ),
    ];
    let expected: Vec<Declared> =
        expected.into_iter().map(|(at, strike)| Declared { at, strike }).collect();
    assert_eq!(accepted(text).faults, expected);
}

#[test]
fn chance_recovery_and_burst_are_read() {
    let text = "
weight: 0.5
cold_start: true
burst: {at: peak, for: 10m, factor: 3}
random:
  crashes: {mtbf_gpu_hours: 300, shape: 0.7, repair_share: 0.5, repair: 2h}
  reclaims: {every: {exponential: {mean: 6h}}, share: 0.6, notice: 2m, for: 40m}
recovery: {detection: {uniform: [0s, 2s]}, restart: 45s}
";
    let expected = Scenario {
        weight: 0.5,
        cold_start: true,
        burst: Some(Surge { at: Moment::Peak, lasting: seconds(600), factor: 3.0 }),
        crashes: Some(Crashes {
            mtbf_gpu_hours: 300.0,
            shape: 0.7,
            repair_share: 0.5,
            repair: Delay::Constant(seconds(7200)),
            in_flight: InFlight::Lost,
        }),
        reclaims: Some(Reclaims {
            every: Delay::Weibull { mean: seconds(6 * 3600), shape: 1.0 },
            share: 0.6,
            notice: seconds(120),
            lasting: Delay::Constant(seconds(2400)),
        }),
        recovery: Recovery { detection: uniform(0, 2), restart: Delay::Constant(seconds(45)) },
        ..Scenario::default()
    };
    assert_eq!(accepted(text), expected);
    let usual = accepted("random: {crashes: {}}\n").crashes.expect("they come");
    assert_eq!((usual.mtbf_gpu_hours, usual.shape, usual.repair_share), (50_677.0, 1.0, 0.0));
}

#[test]
fn names_of_zones_and_pools_are_checked_where_the_fleet_is_known() {
    let text = "faults: [{zone_outage: {at: 1h, zone: eats, for: 1h}}]\n";
    assert_eq!(read_for(text, None).1, Vec::<String>::new());
    assert_eq!(read_for(text, Some(&names())).1, ["no pool has the zone `eats`"]);
    let text = "faults: [{no_capacity: {at: 1h, pool: b, for: 1h}}]\n";
    assert_eq!(read_for(text, Some(&names())).1, ["there is no pool `b`"]);
}

#[test]
fn reclaims_without_spot_are_warned_of() {
    let fleet = FleetNames { has_spot: false, ..names() };
    for text in
        ["faults: [{reclaim: {at: 1h, for: 1h}}]\n", "random: {reclaims: {every: 1h, for: 5m}}\n"]
    {
        let (read, warned) = read_for(text, Some(&fleet));
        assert!(read.is_some());
        assert_eq!(warned, ["nothing can be reclaimed: no pool is spot"]);
        accepted(text);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let kinds = "a fault is one of `crash`, `zone_outage`, `reclaim`, `slow`, `no_capacity`";
    for (text, message) in [
        ("faults: [{crash: {}}]", "`crash` needs `at`"),
        ("faults: [{}]", kinds),
        ("faults: [{crash: {at: 1h}, slow: {at: 1h, factor: 2, for: 1h}}]", kinds),
        ("faults: [{crash: {at: noon}}]", "`at` must be a length of time, not text"),
        ("faults: [{crash: {at: 120%}}]", "a share of the run is from 0% to 100%"),
        ("faults: [{crash: {at: 60d}}]", "`at` must be at most 4611686.018427388s, not `60d`"),
        ("faults: [{crash: {at: 1h, count: 0}}]", "`count` must be between 1 and 1000, not `0`"),
        ("faults: [{zone_outage: {at: 1h, for: 1h}}]", "`zone_outage` needs `zone`"),
        (
            "faults: [{slow: {at: 1h, factor: 0.5, for: 1h}}]",
            "`factor` must be between 1 and 1000, not `0.5`",
        ),
        ("faults: [{slow: {at: 1h, factor: 2, for: 0s}}]", "this is over before it begins"),
        (
            "faults: [{reclaim: {at: 1h, share: 2, for: 1h}}]",
            "`share` must be between 0 and 1, not `2`",
        ),
        ("random: {crash: {}}", "unknown key `crash` in `random`"),
        (
            "random: {reclaims: {every: 1s, for: 1h}}",
            "`every` must be at least a minute on average",
        ),
        ("random: {reclaims: {every: 1h}}", "`reclaims` needs `for`"),
        (
            "burst: {at: peak, for: 10m, factor: 0}",
            "`factor` must be above 0 and at most 1000, not `0`",
        ),
        ("clients: {base: 10s}", "`base` must not be above `cap`"),
        ("clients: {timeout: 0s}", "nobody can answer in no time"),
        ("clients: {retries: 21}", "`retries` must be between 0 and 20, not `21`"),
        (
            "recovery: {restart: [1s]}",
            "`restart` must be a length of time or its distribution, not a list",
        ),
        ("weight: 0", "`weight` must be above 0 and at most 1000000, not `0`"),
        ("fault: []", "unknown key `fault` in the scenario"),
    ] {
        let (read, messages) = read_for(&format!("{text}\n"), Some(&names()));
        assert_eq!(read, None, "{text}");
        assert_eq!(messages.first().map(String::as_str), Some(message), "{text}");
    }
}
