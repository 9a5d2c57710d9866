//! The trap of GPU utilization, clause by clause: it is near 1 long before an engine is full, so
//! that a target below it asks for the maximum for good and one close to it for nothing. And that
//! of the KV cache, which stays empty where prompts are the load.

use blis_opt::policy::PolicyBundle;
use blis_opt::search::capacity::capacity_rps;
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{Limits, WorkloadSpec, generate};

use crate::controllers::{Course, course_of, fleet, workload, workload_of};
use blis_opt::base::{SimTime, Span};

const SEEDS: [u64; 3] = [1, 2, 3];
/// What the answers to a request were promised, in the share of requests.
const KEPT: f64 = 0.99;

/// One instance for good.
fn one() -> PolicyBundle {
    let mut bundle = fleet("instances: 1", "policy: none");
    bundle.autoscaling = None;
    bundle
}

/// Ten minutes of `rate` requests per second on one instance, after five that do not count.
fn steady(spec: &WorkloadSpec, rate: f64, seed: u64) -> Outcome {
    let duration = Span::from_secs(900.0);
    let spec = spec.steady(rate, seed, duration);
    let limits = Limits { duration: Some(duration), max_requests: None };
    let options = RunOptions {
        warm_up: SimTime::from_secs(300.0),
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: None,
    };
    simulate(&one(), &generate(&spec, seed, limits), &options, &mut Scratch::default())
}

#[test]
fn a_gpu_is_busy_at_a_seventh_of_what_it_carries() {
    let spec = workload("rate: 10\nduration: 10m");
    let capacity = capacity_rps(&one(), 0, &spec).expect("it carries something");
    assert!((36.0..43.0).contains(&capacity), "{capacity}");
    for seed in SEEDS {
        // The public lab: busy at 0.5 of 3.5 requests per second.
        for share in [0.05, 0.15, 0.5] {
            let busy = steady(&spec, share * capacity, seed).busy_fraction;
            assert!(busy > 0.9, "{busy} at {share} of capacity");
        }
        let loaded = steady(&spec, 0.9 * capacity, seed);
        let kept = loaded.within_slo as f64 / loaded.measured.injected as f64;
        assert!(kept > KEPT, "{kept} while it is as busy as at a seventh");
    }
}

/// From half to one and a half times 120 requests per second and back.
fn hill() -> WorkloadSpec {
    workload(
        "rate: 120\nduration: 50m\n\
         profile: [{at: 0m, factor: 0.5}, {at: 25m, factor: 1.5}, {at: 50m, factor: 0.5}]",
    )
}

/// What an HPA on `metric` does with it under each seed.
fn days(metric: &str) -> Vec<Course> {
    let pool = "instances: 4, min_instances: 2, max_instances: 12, start_up: 60s";
    let bundle = fleet(pool, &format!("policy: hpa, hpa: {{metrics: [{{{metric}}}]}}"));
    SEEDS.iter().map(|&seed| course_of(&bundle, &hill(), seed)).collect()
}

const BUSY_70: &str = "type: pods, signal: busy_fraction, target: 0.7";
const BUSY_95: &str = "type: pods, signal: busy_fraction, target: 0.95";

#[test]
fn a_target_of_70_percent_goes_to_the_maximum_and_never_down() {
    for day in days(BUSY_70) {
        assert_eq!(day.numbers().last(), Some(&12), "{:?}", day.desired);
        assert_eq!(day.reversals(), 0, "{:?}", day.desired);
        // Half of the load of the start is over when it is there.
        assert!(day.desired[day.desired.len() - 1].0 < 600, "{:?}", day.desired);
    }
}

#[test]
fn a_target_of_95_percent_never_scales_and_breaks_the_promise() {
    for day in days(BUSY_95) {
        assert!(day.numbers().iter().all(|&number| number <= 4), "{:?}", day.desired);
        assert!(day.within_slo() < 0.9, "{}", day.within_slo());
    }
}

#[test]
fn requests_or_tokens_in_flight_keep_the_promise_at_lower_cost_on_the_same_day() {
    let busy = days(BUSY_70);
    for metric in [
        "type: average-value, signal: in_flight, target: 190",
        "type: average-value, signal: in_flight_tokens, target: 140000",
    ] {
        for (told, busy) in days(metric).iter().zip(&busy) {
            assert!(told.within_slo() > KEPT, "{metric}: {}", told.within_slo());
            assert!(told.hours() < 0.7 * busy.hours(), "{} of {}", told.hours(), busy.hours());
            let most = told.numbers().into_iter().max();
            assert!(most < Some(12), "{metric}: {:?}", told.desired);
            assert!(told.numbers().last() < most.as_ref(), "{metric}: {:?}", told.desired);
        }
    }
}

/// Prompts of 6000 tokens and answers of 2, which is one step after the first token: 8 per second
/// fill an instance.
fn prompts() -> WorkloadSpec {
    workload_of(
        "rate: 24\nduration: 30m\n\
         prompt_tokens: 6000\noutput_tokens: 2\n\
         slo: {default: {ttft: 2s}}\n",
    )
}

fn prompt_days(metric: &str) -> Vec<Course> {
    let pool = "instances: 2, min_instances: 1, max_instances: 8, start_up: 60s";
    let bundle = fleet(pool, &format!("policy: hpa, hpa: {{metrics: [{{{metric}}}]}}"));
    SEEDS.iter().map(|&seed| course_of(&bundle, &prompts(), seed)).collect()
}

#[test]
fn a_kv_target_misses_an_overload_of_prompts() {
    for day in prompt_days("type: pods, signal: kv_utilization, target: 0.8") {
        assert!(day.outcome.kv_utilization_peak < 0.35, "{}", day.outcome.kv_utilization_peak);
        assert!(day.numbers().iter().all(|&number| number <= 2), "{:?}", day.desired);
        assert!(day.within_slo() < 0.1, "{}", day.within_slo());
    }
}

#[test]
fn tokens_in_flight_see_an_overload_of_prompts() {
    for day in prompt_days("type: average-value, signal: in_flight_tokens, target: 12000") {
        assert!(day.numbers().iter().any(|&number| number >= 4), "{:?}", day.desired);
        assert!(day.within_slo() > 0.8, "{} {:?}", day.within_slo(), day.desired);
    }
}
