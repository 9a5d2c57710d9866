//! Load that moves: curves, cohorts, closed loops, pinned clients.

use crate::traces::{TWO, all, arrivals_us, assert_near, bundle, good, options, run, said};
use blis_opt::base::{SimTime, Span};
use blis_opt::sim::outcome::RequestState;
use blis_opt::sim::{Outcome, Scratch, simulate, simulate_drawn};
use blis_opt::workload::{Trace, WorkloadSpec};

const HOUR_US: u64 = 3_600_000_000;

fn counts_by_hour(trace: &Trace, hours: usize) -> Vec<f64> {
    let mut counts = vec![0.0; hours];
    for us in arrivals_us(trace) {
        counts[(us / HOUR_US) as usize] += 1.0;
    }
    counts
}

// Curves

#[test]
fn a_day_follows_its_curve_hour_by_hour() {
    let spec = good(
        "rate: 2\nprofile:\n  diurnal: {peak_hour: 14, peak_to_trough_ratio: 5}\n  \
         spikes: [{at: 3h, duration: 30m, factor: 4}]\nprompt_tokens: 9\noutput_tokens: 9\n",
    );
    assert_eq!(spec.horizon, Some(Span::from_us(24 * HOUR_US)), "a day is one period");
    let wave = |hour: f64| 1.0 + 2.0 / 3.0 * (std::f64::consts::TAU * (hour - 14.0) / 24.0).cos();
    for (hour, count) in counts_by_hour(&all(&spec, 5), 24).into_iter().enumerate() {
        let minute = |m: u32| {
            let surge = if hour == 3 && m < 30 { 4.0 } else { 1.0 };
            120.0 * surge * wave(hour as f64 + (f64::from(m) + 0.5) / 60.0)
        };
        assert_near(count, (0..60).map(minute).sum(), &format!("hour {hour}"));
    }
    let offered = spec.offered();
    assert!((offered.requests_per_s - 2.0 * 5.0 / 3.0).abs() < 0.01, "{offered:?}");
    assert!((2.0..2.1).contains(&offered.requests_per_s_mean), "{offered:?}");
}

#[test]
fn ramps_repeat_with_their_period() {
    let spec = good(
        "rate: 5\nduration: 8h\nprofile: {period: 4h, points: [{at: 0h, factor: 0}, \
         {at: 2h, factor: 2}]}\nprompt_tokens: 9\noutput_tokens: 9\n",
    );
    let counts = counts_by_hour(&all(&spec, 1), 8);
    for (count, mean) in counts.into_iter().zip([0.5, 1.5, 1.5, 0.5].into_iter().cycle()) {
        assert_near(count, 18_000.0 * mean, "ramp");
    }
}

#[test]
fn one_clients_curve_moves_nobody_else_and_a_seed_names_one_day() {
    let still = good(&TWO.replace("PROFILE", ""));
    let curve = "profile: [{at: 0s, factor: 2}, {at: 3h, factor: 0.2}],";
    let moving = good(&TWO.replace("PROFILE", curve));
    let of = |trace: &Trace, client: usize| -> Vec<(SimTime, u32, u32)> {
        let of_client = (0..trace.len()).filter(|&i| trace.client[i].index() == client);
        of_client.map(|i| (trace.arrival[i], trace.input[i], trace.output[i])).collect()
    };
    let (before, after) = (all(&still, 7), all(&moving, 7));
    assert_eq!(of(&before, 0), of(&after, 0));
    let lengths = |trace: &Trace| -> Vec<u32> {
        of(trace, 1).into_iter().take(1000).map(|(_, input, _)| input).collect()
    };
    assert_ne!(of(&before, 1), of(&after, 1));
    assert_eq!(lengths(&before), lengths(&after), "lengths have a stream of their own");
    assert_eq!(after, all(&moving, 7));
}

#[test]
fn wrong_curves_are_named() {
    for (profile, message) in [
        ("[{at: 1h, factor: 1}, {at: 1h, factor: 2}]", "points must come in order of time"),
        ("[{at: 1h, factor: 0}]", "the rate of this profile is 0 throughout"),
        ("[{at: 1h, factor: -1}]", "`factor` must be between 0 and 1000, not `-1`"),
        ("{}", "this profile says nothing"),
        ("{period: 1s, points: [{at: 0s, factor: 1}]}", "`period` must be at least a minute"),
        (
            "{period: 1h, points: [{at: 2h, factor: 1}]}",
            "`period` is over before everything in it has happened",
        ),
        (
            "{diurnal: {peak_hour: 25, peak_to_trough_ratio: 2}}",
            "`peak_hour` must be between 0 and 24, not `25`",
        ),
        ("{spikes: [{at: 1h, duration: 0s, factor: 2}]}", "this spike is over before it begins"),
        ("{spike: []}", "unknown key `spike` in `profile`"),
    ] {
        let said = said(&format!("rate: 1\nprofile: {profile}\n"));
        assert!(said[0].ends_with(message), "{profile}: {said:?}");
    }
}

// Cohorts

fn cohort(keys: &str) -> String {
    format!(
        "aggregate_rate: 10\nhorizon: 4h\ncohorts:\n  - id: staff\n    population: 50\n    \
         rate_fraction: 1\n    arrival: {{process: poisson}}\n    \
         input_distribution: {{type: constant, params: {{value: 100}}}}\n    \
         output_distribution: {{type: constant, params: {{value: 5}}}}\n{keys}"
    )
}

#[test]
fn a_cohort_at_random_is_one_stream_of_its_whole_rate() {
    let spec = good(&cohort("    prefix_group: p\n    prefix_length: 32\n"));
    assert_eq!(spec.clients.len(), 1);
    for count in counts_by_hour(&all(&spec, 3), 4) {
        assert_near(count, 36_000.0, "an hour of the cohort");
    }
}

#[test]
fn members_with_prefixes_of_their_own_are_clients() {
    let keys = "    prefix_group: p\n    prefix_length: 32\n    prefix_sharing: per_member\n";
    let spec = good(&cohort(keys));
    assert_eq!(spec.clients.len(), 50);
    let trace = all(&spec, 3);
    assert_eq!(trace.chains.len(), 50);
    assert_near(trace.len() as f64, 144_000.0, "all members");
    let regular = good(&cohort("").replace("poisson", "constant"));
    assert_eq!((regular.clients.len(), regular.clients[7].name.as_str()), (50, "staff-7"));
}

#[test]
fn cohorts_drain_smoothly_and_stop() {
    let keys = "    drain: {start_time_us: 3600000000, ramp_duration_us: 7200000000}\n";
    let counts = counts_by_hour(&all(&good(&cohort(keys)), 3), 4);
    for (count, mean) in counts.into_iter().zip([1.0, 0.75, 0.25, 0.0]) {
        assert_near(count, 36_000.0 * mean, "drain");
    }
}

#[test]
fn cohorts_have_a_smooth_day_with_a_spike_at_its_own_rate() {
    let keys = "    diurnal: {peak_hour: 2, peak_to_trough_ratio: 3}\n    \
                spike: {start_time_us: 3600000000, duration_us: 1800000000, trace_rate: 30}\n";
    let counts = counts_by_hour(&all(&good(&cohort(keys)), 3), 4);
    let wave = |hour: f64| 1.0 + 0.5 * (std::f64::consts::TAU * (hour - 2.0) / 24.0).cos();
    let part = |from: f64, to: f64| {
        let step = (to - from) / 100.0;
        let middle = |i: u32| from + (f64::from(i) + 0.5) * step;
        (0..100).map(|i| 36_000.0 * wave(middle(i)) * step).sum::<f64>()
    };
    assert_near(counts[0], part(0.0, 1.0), "wave");
    assert_near(counts[1], 30.0 * 1800.0 + part(1.5, 2.0), "spike and wave");
    assert_near(counts[2], part(2.0, 3.0), "wave");
}

#[test]
fn without_an_aggregate_rate_windows_say_their_own() {
    let spike = "    spike: {start_time_us: 0, duration_us: 3600000000, trace_rate: 2}\n";
    let absolute = cohort(spike).replace("aggregate_rate: 10", "aggregate_rate: 0");
    let counts = counts_by_hour(&all(&good(&absolute), 3), 4);
    assert_near(counts[0], 7200.0, "the spike");
    assert_eq!(counts[1..], [0.0; 3]);
    let silent = cohort("").replace("aggregate_rate: 10", "aggregate_rate: 0");
    assert_eq!(said(&silent), ["workload.yaml:4: how often `staff` comes is not said"]);
    let windows = "
aggregate_rate: 0
clients:
  - {id: a, rate_fraction: 1, arrival: {process: poisson},
     input_distribution: {type: constant, params: {value: 10}},
     output_distribution: {type: constant, params: {value: 20}},
     lifecycle: {windows: [{start_us: 0, end_us: 3600000000, trace_rate: 3},
       {start_us: 3600000000, end_us: 7200000000, trace_rate: 1,
        arrival: {process: gamma, shape: 0.5, scale: 1},
        output_distribution: {type: constant, params: {value: 7}}}]}}
";
    let trace = all(&good(windows), 3);
    let counts = counts_by_hour(&trace, 2);
    assert_near(counts[0], 10_800.0, "first window");
    assert!((counts[1] - 3600.0).abs() < 4.0 * 7200.0_f64.sqrt(), "{counts:?}");
    let second = SimTime::from_us(HOUR_US);
    let fits = |i: usize| trace.output[i] == if trace.arrival[i] < second { 20 } else { 7 };
    assert!((0..trace.len()).all(fits));
}

// Closed loops

const CLOSED: &str = "
horizon: 120s
clients:
  - {id: loop, concurrency: USERS, think_time_us: THINK,
     input_distribution: {type: exponential, params: {mean: 300}},
     output_distribution: {type: exponential, params: {mean: 40}}REST}
";

fn closed(users: u32, think: &str, rest: &str) -> String {
    CLOSED.replace("USERS", &users.to_string()).replace("THINK", think).replace("REST", rest)
}

/// The sorted (arrival, time to first token, latency) of all requests that came.
fn records(outcome: &Outcome) -> Vec<(u64, u64, u64)> {
    let came = outcome.requests.iter().filter(|r| r.state != RequestState::Pending);
    let mut records: Vec<_> = came.map(|r| (r.arrival_us, r.ttft_us, r.e2e_us)).collect();
    records.sort_unstable();
    records
}

#[test]
fn users_start_staggered_and_never_have_two_requests() {
    let spec = good(&closed(10, "2s", ""));
    let trace = all(&spec, 4);
    assert_eq!((trace.len(), trace.users.len()), (0, 10));
    let outcome = run(&bundle(1, ""), &trace);
    let requests: Vec<_> =
        outcome.requests.iter().filter(|r| r.state == RequestState::Completed).collect();
    let first: Vec<u64> = requests.iter().take(10).map(|r| r.arrival_us).collect();
    assert_eq!(first, (0..10).map(|u| u * 200_000).collect::<Vec<_>>());
    assert!(requests.len() > 400, "{}", requests.len());
    assert!(requests.iter().all(|r| r.arrival_us < 120_000_000));
    let mut inside: Vec<(u64, i32)> = Vec::new();
    for request in &requests {
        inside.extend([(request.arrival_us, 1), (request.finished_us, -1)]);
    }
    inside.sort_unstable();
    let most = inside
        .iter()
        .scan(0, |now, (_, change)| {
            *now += change;
            Some(*now)
        })
        .max();
    assert!(most.expect("some") <= 10);
    // Everybody thinks two seconds: all later arrivals come as long after somebody's answer.
    let ends: Vec<u64> = requests.iter().map(|r| r.finished_us + 2_000_000).collect();
    assert!(requests[10..].iter().all(|r| ends.contains(&r.arrival_us)));
}

#[test]
fn closed_loops_are_the_same_listed_and_drawn() {
    let text = closed(7, "300ms", ", prefix_group: p, prefix_length: 64");
    let open = "  - {id: open, rate_fraction: 1, arrival: {process: poisson},\n     \
                input_distribution: {type: constant, params: {value: 200}},\n     \
                output_distribution: {type: constant, params: {value: 30}},\n     \
                reasoning: {multi_turn: {max_rounds: 3, think_time_us: 1s, \
                context_growth: accumulate}}}\n";
    let mixed = format!("aggregate_rate: 5{text}{open}");
    for text in [&text, &mixed] {
        let spec = good(text);
        let (bundle, scratch) =
            (bundle(3, "routing: {policy: least-loaded}\n"), &mut Scratch::default());
        let duration = Span::from_secs(120.0);
        let drawn = simulate_drawn(&bundle, (&spec, 9, duration), &options(), scratch);
        let listed = simulate(&bundle, &all(&spec, 9), &options(), scratch);
        assert_eq!(records(&listed), records(&drawn));
        assert_eq!(listed.counts, drawn.counts);
        assert_eq!(listed.e2e, drawn.e2e);
        assert!(listed.counts.completed > 300);
    }
}

#[test]
fn every_policy_meets_the_same_requests_of_a_user() {
    let trace = all(&good(&closed(5, "1s", "").replace("120s", "400s")), 2);
    let mut users = trace.users.clone();
    let mut again = trace.users.clone();
    for round in 0..50 {
        let asked = users[3].ask(SimTime::NEVER);
        assert_eq!(asked, again[3].ask(SimTime::NEVER), "{round}");
        // Others ask in another order, which is what another policy does to them.
        again[(round % 3) as usize].ask(SimTime::NEVER);
    }
    let spec = WorkloadSpec { horizon: None, num_requests: Some(52), ..good(&closed(5, "1s", "")) };
    let trace = all(&spec, 2);
    let asked = |rest: &str| {
        let outcome = run(&bundle(1, rest), &trace);
        assert_eq!(outcome.counts.completed, 52, "the budget is shared out");
        let last = outcome.requests.iter().map(|r| r.finished_us).max().expect("some");
        let window_us = (outcome.window_s * 1e6).round() as u64;
        assert_eq!(window_us, last, "all were answered then");
        let rate = 52.0 / outcome.window_s;
        assert!((outcome.throughput_rps - rate).abs() < 0.01 * rate);
        let mut asked: Vec<_> = outcome.requests.iter().map(|r| (r.input, r.output)).collect();
        asked.sort_unstable();
        asked
    };
    let small = "batching: {max_running_requests: 1}\n";
    assert_eq!(asked(""), asked(small), "all ask the same however fast the answers come");
}

#[test]
fn users_who_are_turned_away_come_back() {
    let trace = all(&good(&closed(3, "0us", "")), 2);
    let outcome = run(&bundle(1, "admission: {policy: reject-all}\n"), &trace);
    assert_eq!(outcome.counts.rejected, 3 * 120, "once a second each");
}

#[test]
fn wrong_closed_loops_are_named() {
    for (rest, message) in [
        (", profile: [{at: 0s, factor: 1}]", "`profile` and `concurrency` exclude each other"),
        (", rate_fraction: 1", "`rate_fraction` in client `loop` has no effect"),
        (
            ", reasoning: {multi_turn: {max_rounds: 2}}",
            "`reasoning` and `concurrency` exclude each other",
        ),
    ] {
        let said = said(&closed(3, "1s", rest));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with(message), "{said:?}");
    }
}

// Pinned clients

#[test]
fn pinned_requests_go_past_the_router() {
    let text = TWO.replace("horizon: 6h", "horizon: 60s");
    let spec = good(&text.replace("PROFILE", "pinned_instance: 2,"));
    let trace = all(&spec, 3);
    assert_eq!(trace.clients[1].pinned, Some(2));
    let outcome = run(&bundle(4, "routing: {policy: round-robin}\n"), &trace);
    let mut turn = 0;
    for (record, client) in outcome.requests.iter().zip(&trace.client) {
        let instance = record.instance.expect("all are routed").index();
        if client.index() == 1 {
            assert_eq!(instance, 2);
        } else {
            assert_eq!(instance, turn % 4, "the router did not notice the others");
            turn += 1;
        }
    }
    assert!(turn > 50);
    let elsewhere = run(&bundle(2, "routing: {policy: round-robin}\n"), &trace);
    let used = elsewhere.instances.iter().all(|instance| instance.requests > 0);
    assert!(used, "without such an instance the router decides");
}
