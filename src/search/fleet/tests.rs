//! Fifty-five minutes of a fleet by hand, and what they amount to.

use super::*;
use crate::base::{InstanceId, Span};
use crate::config::Market;
use crate::policy::PolicyBundle;
use crate::policy::autoscale::Reason;
use crate::policy::signals::Signal;
use crate::search::Figures;
use crate::sim::Outcome;
use crate::sim::fleet_outcome::{FleetEvent, Happening, PoolOutcome, StateTime};
use crate::sim::outcome::{ClassOutcome, Counts};

/// Two to four H100 pairs at $7.00/h each, and one spot L4 at $1.40/h.
pub(crate) fn bundle() -> PolicyBundle {
    let mut bundle = crate::search::simulated::tests::bundle(2, 3.5);
    let steady = &mut bundle.pools[0];
    (steady.min_instances, steady.max_instances) = (2, 4);
    let mut spot = steady.clone();
    (spot.name, spot.gpu, spot.market) = ("spot".to_owned(), "L4".to_owned(), Market::Spot);
    spot.fix(1);
    (spot.gpus_per_instance, spot.price_per_gpu_hour) = (1, 1.4);
    bundle.pools.push(spot);
    bundle
}

fn at(seconds: u64) -> SimTime {
    SimTime::from_us(seconds * 1_000_000)
}

fn event(seconds: u64, pool: u32, instance: Option<u32>, what: Happening) -> FleetEvent {
    FleetEvent { at: at(seconds), pool: Some(pool), instance: instance.map(InstanceId), what }
}

/// An instance crashes at 700 s, spot capacity is taken back at 1300 s, an instance gets slow at
/// 2395 s; the first pool grows, shrinks and grows again.
fn events() -> Vec<FleetEvent> {
    let signal = |value, limit| Reason::Signal {
        signal: Signal::Waiting,
        value,
        limit,
        lasting: Span::from_us(30_000_000),
    };
    let up = Happening::ScaleUp { count: 1, reason: signal(132.0, 100.0) };
    let down = Happening::ScaleDown { count: 1, reason: signal(0.5, 2.0) };
    let zone = FleetEvent { pool: None, ..event(1300, 0, None, Happening::Reclaim { fault: 1 }) };
    vec![
        event(700, 0, Some(1), Happening::Crashed { fault: 0 }),
        event(705, 0, Some(1), Happening::Noticed { lost: 12 }),
        event(765, 0, Some(1), Happening::Ready),
        event(800, 0, None, up),
        event(800, 0, Some(2), Happening::Launched),
        event(890, 0, Some(2), Happening::Ready),
        zone,
        event(1300, 1, Some(4), Happening::Noted),
        event(1420, 1, Some(4), Happening::Reclaimed { lost: 3 }),
        event(1420, 1, None, Happening::NoCapacity),
        event(2000, 0, None, down),
        event(2000, 0, Some(2), Happening::Draining),
        event(2030, 0, Some(2), Happening::Terminated),
        event(2395, 0, Some(0), Happening::Slowed { fault: 2 }),
        event(2400, 0, None, up),
        event(2400, 0, Some(2), Happening::Launched),
        event(2490, 0, Some(2), Happening::Ready),
    ]
}

/// Arrivals and those within SLO, then seconds starting, ready, draining and down of each pool.
type Row = (u32, u32, [u64; 4], [u64; 4]);

const ROWS: [Row; 6] = [
    (6000, 6000, [0, 1200, 0, 0], [0, 600, 0, 0]),
    (12_000, 9000, [90, 1450, 0, 60], [0, 600, 0, 0]),
    (15_000, 14_000, [0, 1800, 0, 0], [0, 100, 120, 0]),
    (9000, 8950, [0, 1400, 30, 0], [0, 0, 0, 0]),
    (0, 0, [90, 1710, 0, 0], [0, 0, 0, 0]),
    (1500, 1500, [0, 900, 0, 0], [0, 0, 0, 0]),
];

fn interval(row: &Row) -> Interval {
    let ps = |seconds: u64| seconds * 1_000_000_000_000;
    let state = |[starting, ready, draining, down]: [u64; 4]| StateTime {
        starting: ps(starting),
        ready: ps(ready),
        draining: ps(draining),
        down: ps(down),
    };
    let (arrived, within_slo, first, second) = *row;
    Interval {
        arrived: vec![arrived / 3, arrived - arrived / 3],
        within_slo: vec![within_slo / 3, within_slo - within_slo / 3],
        completed: arrived,
        refused: arrived - within_slo,
        retries: 0,
        ttft_p99_ms: (arrived > 0).then(|| f64::from(arrived) / 20.0),
        waiting: arrived - within_slo,
        running: arrived / 100,
        states: vec![state(first), state(second)],
    }
}

/// Six intervals of ten minutes, the last one cut short at 3300 s.
pub(crate) fn fleet() -> FleetOutcome {
    let ps = |seconds: u128| seconds * 1_000_000_000_000;
    let pool = |paid, in_window, ready, launches, terminations, most| PoolOutcome {
        paid_ps: ps(paid),
        paid_in_window_ps: ps(in_window),
        ready_in_window_ps: ps(ready),
        launches,
        terminations,
        most,
    };
    FleetOutcome {
        end: at(3300),
        pools: vec![pool(8730, 7530, 7290, 4, 1, 3), pool(1420, 820, 820, 1, 1, 1)],
        retries: 870,
        wasted_tokens: 51_200,
        events: events(),
        interval: Span::from_us(600_000_000),
        timeline: ROWS.iter().map(interval).collect(),
    }
}

/// The whole outcome around it: ten minutes of warm-up, 45 minutes measured.
pub(crate) fn outcome() -> Outcome {
    let measured = Counts {
        injected: 37_500,
        completed: 37_400,
        rejected: 40,
        timed_out: 45,
        failed: 15,
        ..Counts::default()
    };
    let class = |name: &str, part: u64| ClassOutcome {
        name: name.to_owned(),
        measured: Counts { injected: 37_500 / part, failed: 15 / part, ..Counts::default() },
        within_slo: 33_450 / part,
        ..ClassOutcome::default()
    };
    Outcome {
        counts: Counts { injected: 43_500, completed: 43_400, ..measured },
        measured,
        window_s: 2700.0,
        end_s: 3300.0,
        within_slo: 33_450,
        throughput_rps: 13.5,
        output_tokens_per_s: 2000.0,
        total_tokens_per_s: 4000.0,
        classes: vec![class("interactive", 3), class("batch", 1)],
        fleet: Some(fleet()),
        ..Outcome::default()
    }
}

/// What one instance of each pool carries.
pub(crate) const CAPACITIES: [Option<f64>; 2] = [Some(6.0), Some(4.0)];

fn close(value: f64, wanted: f64) {
    assert!((value - wanted).abs() < 1e-9, "{value} for {wanted}");
}

#[test]
fn the_bill_is_right_to_the_cent() {
    let bills = bills(&fleet(), &bundle());
    // 8730 s at $7.00 an hour, 1420 s at $1.40.
    close(bills[0].instance_hours, 2.425);
    close(bills[0].gpu_hours, 4.85);
    close(bills[0].usd, 16.975);
    close(bills[1].gpu_hours, bills[1].instance_hours);
    close(bills[1].usd, 1420.0 * 1.4 / 3600.0);
    close(bills[0].usd_in_window, 7530.0 * 7.0 / 3600.0);
    close(total_usd(&fleet(), &bundle()), bills[0].usd + bills[1].usd);
}

#[test]
fn the_intervals_add_up_to_the_bill() {
    let fleet = fleet();
    let sum: f64 = fleet.timeline.iter().map(|interval| interval_usd(interval, &bundle())).sum();
    close(sum, total_usd(&fleet, &bundle()));
}

#[test]
fn the_last_interval_ends_with_the_run() {
    let fleet = fleet();
    assert_eq!(bounds(&fleet, 4), (at(2400), at(3000)));
    assert_eq!(bounds(&fleet, 5), (at(3000), at(3300)));
    close(length_s(&fleet, 5), 300.0);
}

#[test]
fn only_opposite_orders_close_to_each_other_are_reversals() {
    let mut fleet = fleet();
    // Up at 800 s, down at 2000 s, up at 2400 s.
    assert_eq!(scaling(&fleet), Scaling { ups: 2, downs: 1, reversals: 1 });
    let last = fleet.events.iter_mut().find(|event| event.at == at(2400)).expect("an order");
    last.at = at(2600);
    assert_eq!(scaling(&fleet).reversals, 1, "at most ten minutes apart");
    let last = fleet.events.iter_mut().find(|event| event.at == at(2600)).expect("an order");
    last.at = at(2601);
    assert_eq!(scaling(&fleet).reversals, 0);
}

#[test]
fn orders_of_different_pools_do_not_reverse_each_other() {
    let mut fleet = fleet();
    for event in fleet.events.iter_mut().filter(|event| event.at == at(2400)) {
        event.pool = Some(1);
    }
    assert_eq!(scaling(&fleet), Scaling { ups: 2, downs: 1, reversals: 0 });
}

#[test]
fn each_fault_is_charged_with_what_it_lost_and_how_long_it_took() {
    let aftermaths = aftermaths(&fleet());
    let told: Vec<(u32, u64, Option<u64>)> = aftermaths
        .iter()
        .map(|told| (told.fault, told.lost, told.recovery.map(|span| span.as_us() / 1_000_000)))
        .collect();
    // 75 % and then 93.3 % were kept in the intervals up to 1800 s, 99.4 % afterwards.
    assert_eq!(told, [(0, 12, Some(1100)), (1, 3, Some(500)), (2, 0, Some(0))]);
}

#[test]
fn a_strike_late_in_an_interval_shows_in_the_next() {
    let mut fleet = fleet();
    fleet.events.truncate(2);
    fleet.events[0].at = at(599);
    assert_eq!(aftermaths(&fleet)[0].recovery, Some(Span::from_us(1_201_000_000)));
}

#[test]
fn without_a_timeline_nobody_knows_the_recovery() {
    let fleet = FleetOutcome { interval: Span::ZERO, timeline: Vec::new(), ..fleet() };
    assert!(aftermaths(&fleet).iter().all(|aftermath| aftermath.recovery.is_none()));
    assert_eq!(slo_attainment_min(&fleet), None);
    assert_eq!(clairvoyant(&fleet, &bundle(), &CAPACITIES), None);
}

#[test]
fn losses_of_a_zone_are_charged_to_its_outage_and_those_of_a_crash_to_the_crash() {
    let mut fleet = fleet();
    let outage = FleetEvent { pool: None, ..event(702, 0, None, Happening::ZoneOut { fault: 9 }) };
    fleet.events = vec![
        event(700, 0, Some(1), Happening::Crashed { fault: 0 }),
        outage,
        event(705, 0, Some(1), Happening::ZoneLost { lost: 12 }),
        event(706, 0, Some(0), Happening::ZoneLost { lost: 8 }),
    ];
    let lost: Vec<(u32, u64)> = aftermaths(&fleet).iter().map(|a| (a.fault, a.lost)).collect();
    assert_eq!(lost, [(0, 12), (9, 8)]);
}

#[test]
fn the_clairvoyant_fleet_has_what_each_interval_needs_and_no_more() {
    let ideal = clairvoyant(&fleet(), &bundle(), &CAPACITIES).expect("capacities are known");
    // 10, 20, 25, 15, 0 and 5 requests/s at 4 an instance, which cost less there: $1.40/h.
    assert_eq!((ideal.pool, ideal.needed), (1, vec![3, 5, 7, 4, 0, 2]));
    close(ideal.usd, (19.0 * 600.0 + 2.0 * 300.0) * 1.4 / 3600.0);
    // Of 12,000 they carried 11,100; of 15,000 11,200; of 9,000 8,400.
    close(ideal.below_needed_s, 1800.0);
    let alone = clairvoyant(&fleet(), &bundle(), &[Some(6.0), None]).expect("one is known");
    assert_eq!((alone.pool, alone.needed), (0, vec![2, 4, 5, 3, 0, 1]));
    assert_eq!(clairvoyant(&fleet(), &bundle(), &[None, None]), None);
}

#[test]
fn figures_of_a_changing_fleet_by_hand() {
    let figures = Figures::of(&outcome(), &bundle(), &CAPACITIES);
    let get = |name: &str| figures.get(name).unwrap_or_else(|| panic!("no {name}"));
    let window_usd = (7530.0 * 7.0 + 820.0 * 1.4) / 3600.0;
    for (name, wanted) in [
        ("goodput_rps", 33_450.0 / 2700.0),
        ("slo_attainment", 33_450.0 / 37_500.0),
        ("slo_attainment_min", 0.75),
        ("error_rate", 100.0 / 37_500.0),
        ("timed_out_ratio", 45.0 / 37_500.0),
        ("failed_ratio", 15.0 / 37_500.0),
        ("interactive.slo_attainment", 11_150.0 / 12_500.0),
        ("batch.failed_ratio", 15.0 / 37_500.0),
        ("retries_per_request", 0.02),
        ("wasted_tokens", 51_200.0),
        ("cost_total", 16.975 + 1420.0 * 1.4 / 3600.0),
        ("cost_per_hour", window_usd / 0.75),
        ("cost_per_million_tokens", window_usd / (4000.0 * 2700.0) * 1e6),
        ("cost_per_million_output_tokens", window_usd / (2000.0 * 2700.0) * 1e6),
        ("cost_per_thousand_within_slo", window_usd / 33.45),
        ("gpu_hours", 4.85 + 1420.0 / 3600.0),
        ("instances", 8110.0 / 2700.0),
        ("gpus", (2.0 * 7530.0 + 820.0) / 2700.0),
        ("instances_max", 4.0),
        ("scale_events_per_hour", 3.0 / (3300.0 / 3600.0)),
        ("scale_ups", 2.0),
        ("scale_downs", 1.0),
        ("reversals", 1.0),
        ("recovery_s_max", 1100.0),
        ("below_needed_s", 1800.0),
        ("cost_over_clairvoyant", (16.975 + 1420.0 * 1.4 / 3600.0) / (12_000.0 * 1.4 / 3600.0)),
    ] {
        close(get(name), wanted);
    }
}

#[test]
fn what_no_capacity_tells_is_absent() {
    let figures = Figures::of(&outcome(), &bundle(), &[]);
    assert_eq!(figures.get("cost_over_clairvoyant"), None);
    assert_eq!(figures.get("below_needed_s"), None);
    assert!(figures.get("recovery_s_max").is_some());
}
