//! What controllers of the real world do to a fleet: cascades, thrashing, panics, and what they
//! look at.

use std::path::{Path, PathBuf};

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::autoscale::Reason;
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::scenario::Conditions;
use blis_opt::sim::fleet_outcome::{Happening, Interval};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate_under};
use blis_opt::workload::{WorkloadSpec, generate};

/// Llama 3.1 8B on H100 with TP 2: 41 requests/s of 512 and 512 tokens each.
pub const POOL: &str = "model: meta-llama/llama-3.1-8b-instruct, gpu: H100, tensor_parallelism: 2";

/// A fleet of one pool with an autoscaler; its YAML may have warnings.
pub fn fleet(pool: &str, autoscaling: &str) -> PolicyBundle {
    let text = format!(
        "pools: {{default: {{{POOL}, {pool}}}}}\nrouting: {{policy: least-loaded}}\n\
         autoscaling: {{{autoscaling}}}\n"
    );
    let mut problems = Problems::new();
    let node = parse("fleet.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    bundle.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

pub fn workload(text: &str) -> WorkloadSpec {
    workload_of(&format!(
        "{text}\nprompt_tokens: {{mean: 512, std_dev: 256, min: 2, max: 7000}}\n\
         output_tokens: {{mean: 512, std_dev: 256, min: 2, max: 7000}}\n\
         slo: {{default: {{ttft: 500ms}}}}\n"
    ))
}

pub fn workload_of(text: &str) -> WorkloadSpec {
    let mut problems = Problems::new();
    let node = parse("workload.yaml", text, &mut problems);
    let node = node.expect("valid YAML");
    let spec = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
    assert!(problems.is_empty(), "{}", problems.render(false));
    spec.expect("no problem")
}

/// What became of a fleet.
pub struct Course {
    pub outcome: Outcome,
    /// The numbers ordered in all, with the time in seconds, first those of the start.
    pub desired: Vec<(u64, i64)>,
}

fn course(bundle: &PolicyBundle, spec: &WorkloadSpec) -> Course {
    course_of(bundle, spec, 42)
}

/// The same for the realisation of that number.
pub fn course_of(bundle: &PolicyBundle, spec: &WorkloadSpec, seed: u64) -> Course {
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: false,
        keep_steps: false,
        timeline: Some(Span::from_us(60_000_000)),
    };
    let trace = generate(spec, seed, spec.limits());
    let scratch = &mut Scratch::default();
    let outcome = simulate_under(bundle, &trace, &Conditions::calm(seed), &options, scratch);
    let mut desired = vec![(0, i64::from(bundle.pools[0].instances))];
    for event in &outcome.fleet.as_ref().expect("it changes").events {
        let before = desired[desired.len() - 1].1;
        let at = event.at.as_us() / 1_000_000;
        match event.what {
            Happening::ScaleUp { count, .. } => desired.push((at, before + i64::from(count))),
            Happening::ScaleDown { count, .. } => desired.push((at, before - i64::from(count))),
            _ => {}
        }
    }
    Course { outcome, desired }
}

impl Course {
    pub fn numbers(&self) -> Vec<i64> {
        self.desired.iter().map(|&(_, desired)| desired).collect()
    }

    /// How often it went the other way than before.
    pub fn reversals(&self) -> usize {
        let numbers = self.numbers();
        let ways: Vec<bool> = numbers.windows(2).map(|pair| pair[1] > pair[0]).collect();
        ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// When the controller ordered more, and when fewer, while it panicked; in seconds.
    fn panics(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut ups, mut downs) = (Vec::new(), Vec::new());
        for event in &self.outcome.fleet.as_ref().expect("it changes").events {
            match event.what {
                Happening::ScaleUp { reason: Reason::Panicked { .. }, .. } => &mut ups,
                Happening::ScaleDown { reason: Reason::Panicked { .. }, .. } => &mut downs,
                _ => continue,
            }
            .push(event.at.as_us() / 1_000_000);
        }
        (ups, downs)
    }

    /// Hours of instances that were paid for.
    pub fn hours(&self) -> f64 {
        let fleet = self.outcome.fleet.as_ref().expect("it changes");
        fleet.pools.iter().map(|pool| pool.paid_ps as f64 / 3.6e15).sum()
    }

    /// The share of requests that were answered within their targets.
    pub fn within_slo(&self) -> f64 {
        let fleet = self.outcome.fleet.as_ref().expect("it changes");
        let sum = |counts: fn(&Interval) -> &[u32]| -> u32 {
            fleet.timeline.iter().flat_map(counts).sum()
        };
        f64::from(sum(|interval| &interval.within_slo))
            / f64::from(sum(|interval| &interval.arrived))
    }
}

/// The samples with an autoscaler, by file name.
fn samples() -> Vec<(String, PolicyBundle)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let name = path.display().to_string();
        let mut problems = Problems::new();
        let node = parse(&name, &text, &mut problems).expect("valid YAML");
        let bundle = read_bundle(&node, Defaults::embedded(), &mut problems).expect("a sample");
        bundle.autoscaling.is_some().then_some((name, bundle))
    };
    paths.iter().filter_map(read).collect()
}

#[test]
fn every_controller_keeps_its_bounds_and_decides_the_same_twice() {
    let spec = workload(
        "rate: 150\nduration: 12m\n\
         profile: [{at: 0m, factor: 0.1}, {at: 4m, factor: 3}, {at: 12m, factor: 0}]",
    );
    let samples = samples();
    assert!(samples.len() >= 10, "{}", samples.len());
    for (name, mut bundle) in samples {
        // A hill that asks for more than there may be.
        bundle.pools[0].max_instances = 9;
        let (min, max) = (bundle.pools[0].min_instances, bundle.pools[0].max_instances);
        let (once, twice) = (course(&bundle, &spec), course(&bundle, &spec));
        assert_eq!(once.outcome, twice.outcome, "{name}");
        let within = |&number: &i64| (i64::from(min)..=i64::from(max)).contains(&number);
        assert!(once.numbers().iter().all(within), "{name}: {:?}", once.desired);
    }
}

#[test]
fn aibrix_doubles_what_it_has_just_ordered_unless_it_is_guarded() {
    let spec = workload("rate: 160\nduration: 4m");
    let pool = "instances: 2, min_instances: 1, max_instances: 16, start_up: 200s";
    let numbers = |guard: bool| {
        let aibrix = format!(
            "policy: aibrix-apa, aibrix: {{signal: running_per_instance, target: 110, \
             observe_window: 10s, pending_guard: {guard}}}"
        );
        let course = course(&fleet(pool, &aibrix), &spec);
        let early = course.desired.iter().filter(|&&(at, _)| at < 200);
        early.map(|&(_, desired)| desired).collect::<Vec<_>>()
    };
    assert_eq!(numbers(false), [2, 4, 8, 16]);
    let guarded = numbers(true);
    assert!(guarded.iter().all(|&number| number <= 8), "{guarded:?}");
}

#[test]
fn ray_serve_thrashes_with_delays_below_its_look_back() {
    // Load that comes and goes within the look-back.
    let waves = "rate: 100\nduration: 20m\n\
                 profile: {period: 2m, points: [{at: 0s, factor: 1.6}, {at: 58s, factor: 1.6}, \
                 {at: 60s, factor: 0.4}, {at: 118s, factor: 0.4}]}";
    let spec = workload(waves);
    let pool = "instances: 5, min_instances: 1, max_instances: 12, start_up: 20s";
    let reversals = |up: u32, down: u32| {
        let ray = format!(
            "policy: ray-serve, ray_serve: {{target_ongoing_requests: 200, \
             upscale_delay_s: {up}, downscale_delay_s: {down}}}"
        );
        course(&fleet(pool, &ray), &spec).reversals()
    };
    let (hasty, usual) = (reversals(1, 1), reversals(30, 600));
    assert!(hasty >= 12, "{hasty}");
    assert!(usual <= 1, "{usual}");
}

#[test]
fn knative_panics_in_a_surge_and_never_shrinks_before_it_is_over() {
    let surge = "rate: 30\nduration: 8m\nprofile: [{at: 0s, factor: 1}, {at: 180s, factor: 1}, \
                 {at: 181s, factor: 10}, {at: 210s, factor: 10}, {at: 211s, factor: 1}]";
    let spec = workload(surge);
    let pool = "instances: 1, min_instances: 1, max_instances: 30, start_up: 5s";
    let with = |threshold: &str| {
        let knative = format!("policy: knative, knative: {{target: 200{threshold}}}");
        course(&fleet(pool, &knative), &spec)
    };
    let panicked = with("");
    let most = panicked.numbers().into_iter().max().expect("some");
    let at = |number: i64| panicked.desired.iter().find(|(_, n)| *n == number).expect("it is").0;
    let fewer = |pair: &&[(u64, i64)]| pair[0].0 > 180 && pair[1].1 < pair[0].1;
    let shrank = panicked.desired.windows(2).find(fewer).expect("it ends")[1].0;
    assert!((181..215).contains(&at(most)), "{:?}", panicked.desired);
    let (ups, downs) = panicked.panics();
    assert!(ups.len() >= 2 && downs.is_empty(), "{ups:?} {downs:?}");
    let began = *ups.iter().find(|&&at| at > 180).expect("it panics in the surge");
    assert!(shrank > began + 60, "a stable window after {began}: {shrank}");
    let calm = with(", panic_threshold: 10");
    let later = calm.desired.iter().find(|&&(_, number)| number >= most).map_or(u64::MAX, |x| x.0);
    assert!(later > at(most), "{:?} {:?}", panicked.desired, calm.desired);
}

#[test]
fn triggers_on_kv_alone_miss_an_overload_of_prompts() {
    // An instance computes 8 prompts per second.
    let lengths = "prompt_tokens: 6000\noutput_tokens: 2\nslo: {default: {ttft: 2s}}\n";
    let rise = "rate: 10\nduration: 40m\nprofile: [{at: 0m, factor: 0.8}, \
                {at: 5m, factor: 0.8}, {at: 25m, factor: 4}, {at: 40m, factor: 4}]";
    let spec = workload_of(&format!("{rise}\n{lengths}"));
    let pool = "instances: 2, min_instances: 2, max_instances: 12, start_up: 60s";
    let wva = |keys: &str| {
        let wva = format!("analyzer: saturation-v1{keys}");
        course(&fleet(pool, &format!("policy: wva, wva: {{{wva}}}")), &spec)
    };
    let hpa = |metric: &str| {
        course(&fleet(pool, &format!("policy: hpa, hpa: {{metrics: [{{{metric}}}]}}")), &spec)
    };
    for metric in ["signal: in_flight_tokens, target: 10000", "signal: in_flight, target: 2"] {
        let told = hpa(&format!("type: average-value, {metric}"));
        assert!(told.within_slo() > 0.999, "{} {:?}", told.within_slo(), told.desired);
    }
    // One more at a time, and one fewer whenever the queue is short: late, but not blind.
    let by_queue = wva("");
    assert!(by_queue.numbers().iter().any(|&number| number >= 6), "{:?}", by_queue.desired);
    assert!(by_queue.within_slo() > 0.8, "{}", by_queue.within_slo());
    let by_kv = [
        wva(", queue_length_threshold: 1000000000, queue_spare_trigger: 0"),
        hpa("type: pods, signal: kv_utilization, target: 0.5"),
    ];
    for missed in &by_kv {
        assert!(missed.numbers().iter().all(|&number| number <= 2), "{:?}", missed.desired);
        assert!(missed.within_slo() < 0.2, "{}", missed.within_slo());
        let kv = missed.outcome.kv_utilization_peak;
        assert!(kv < 0.01, "{kv}");
    }
}
