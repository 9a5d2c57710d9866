//! Values of knobs that count as alike, played by the simulator.

use std::sync::Mutex;

use blis_opt::config::{Defaults, Problems};
use blis_opt::search::{
    Candidate, Evaluator, Job, KnobValue, Run, SearchSpace, SpaceFile, cube, read_space,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// A small fleet under rules, which are the worse for being slow.
const RULES: &str = "\
template:
  pools:
    default:
      model: meta-llama/llama-3.1-8b-instruct
      instances: 1
      min_instances: 1
      max_instances: 6
      start_up: {lognormal: {mean: 20s, std_dev: 6s}}
  batching: {max_running_requests: 8}
  autoscaling:
    policy: thresholds
    interval: 10s
    scrape_interval: 5s
    window: 20s
    pending_guard: false
    cooldown: {up: 15s, down: 30s}
    scale_up:
      - {signal: token_utilization, above: 0.7, for: 20s, add: 1}
      - {signal: waiting_per_instance, above: 4, for: 5s, add: 2}
    scale_down: [{signal: token_utilization, below: 0.6, for: 40s, remove: 1}]
workload: {rate: 14, prompt_tokens: {mean: 300, std_dev: 100, min: 2, max: 900}, output_tokens: 80}
run: {duration: 400s, warm_up: 5s}
scenarios:
  calm: {weight: 9}
  lost: {weight: 1, faults: [{crash: {at: 150s}}]}
knobs:
  autoscaling.interval: {span: [5s, 40s]}
  autoscaling.scale_up.0.for: {span: [0s, 2m]}
  autoscaling.scale_up.1.for: {span: [0s, 1m]}
  autoscaling.scale_down.0.for: {span: [0s, 2m]}
  autoscaling.cooldown.up: {span: [0s, 1m]}
  autoscaling.cooldown.down: {span: [1s, 90s], log: true}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
";

/// Prompts of many chunks on an instance that is short of memory.
const CHUNKS: &str = "\
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2, kv_blocks: 400}
  batching: {max_running_requests: 16, max_scheduled_tokens: 256, long_prefill_token_threshold: 64}
  scheduler: fcfs
workload:
  rate: 12
  prompt_tokens: {mean: 500, std_dev: 500, min: 2, max: 3000}
  output_tokens: {mean: 60, std_dev: 40, min: 1, max: 200}
run: {duration: 40s, warm_up: 2s}
knobs:
  batching.max_scheduled_tokens: {int: [16, 512], log: true}
  batching.long_prefill_token_threshold: {int: [0, 1000]}
  scheduler: {choice: [fcfs, sjf]}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
";

fn read(text: &str) -> SpaceFile {
    let mut problems = Problems::new();
    let none = |_: &str| Err("there is no other file".to_owned());
    let file = read_space(("a.yaml", text), Defaults::embedded(), &none, &mut problems);
    file.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

/// The space of `text`, and the same without anything alike.
fn both(text: &str) -> (SearchSpace, SpaceFile) {
    let mut file = read(text);
    let space = file.space.clone();
    file.space.alike.clear();
    (space, file)
}

fn played(file: &SpaceFile, candidate: &Candidate) -> Run {
    let evaluator = file.evaluator(Defaults::embedded());
    let told = Mutex::new(None);
    let jobs = [Job { candidate: candidate.clone(), seed: 42 }];
    let sink = |_: usize, run: Run| *told.lock().expect("no panic") = Some(run);
    evaluator.evaluate(&jobs, &|| false, &sink);
    let run = told.into_inner().expect("no panic").expect("a run");
    assert_eq!(run.failed, None);
    run
}

/// Whether the point is not canonical; if so, its form plays like it to the last bit.
fn forms_play_alike(text: &str, point: &[f64]) -> bool {
    let (space, plain) = both(text);
    let written = cube::decode(&plain.space, point);
    let form = Candidate::canonical(&space, written.values().to_vec());
    assert_eq!(Candidate::canonical(&space, form.values().to_vec()), form);
    assert_eq!(cube::decode(&space, &cube::encode(&space, &form)), form);
    if form == written {
        return false;
    }
    let form = Candidate::canonical(&plain.space, form.values().to_vec());
    assert_eq!(played(&plain, &written), played(&plain, &form));
    true
}

/// Plays random points until 120 were not in canonical form.
fn plays_alike(text: &str, knobs: usize) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let points = prop::collection::vec(0.0_f64..1.0, knobs);
    let mut compared = 0;
    for _ in 0..2000 {
        let point = points.new_tree(&mut runner).expect("a point").current();
        compared += u32::from(forms_play_alike(text, &point));
        if compared == 120 {
            return;
        }
    }
    panic!("only {compared} points were not in canonical form");
}

/// Whether `left` and `right` for the knob at `path` are one candidate, and whether they play
/// alike.
fn compare(text: &str, path: &str, (left, right): (i64, i64)) -> (bool, bool) {
    let (space, plain) = both(text);
    let knob = space.knob(path).expect("a knob");
    let start = plain.space.start().expect("the template is in the space");
    let with = |value| start.with(&plain.space, knob, KnobValue::Int(value));
    let form = |value| Candidate::canonical(&space, with(value).values().to_vec());
    let (one, other) = (played(&plain, &with(left)), played(&plain, &with(right)));
    (form(left) == form(right), one == other)
}

#[test]
fn durations_that_end_between_the_same_decisions_play_alike() {
    plays_alike(RULES, 6);
}

#[test]
fn chunks_no_smaller_than_a_step_play_alike() {
    plays_alike(CHUNKS, 3);
}

#[test]
fn one_decision_more_makes_a_difference() {
    let path = "autoscaling.scale_up.0.for";
    let seconds = |left: i64, right: i64| (left * 1_000_000, right * 1_000_000);
    assert_eq!(compare(RULES, path, seconds(21, 30)), (true, true));
    // One decision may happen to change nothing, all of them do not.
    let later: Vec<(bool, bool)> =
        (0..6).map(|n| compare(RULES, path, seconds(10 * n, 10 * n + 1))).collect();
    assert!(later.iter().all(|(one, _)| !one) && later.contains(&(false, false)), "{later:?}");
    let path = "autoscaling.cooldown.down";
    assert_eq!(compare(RULES, path, seconds(31, 40)), (true, true));
    assert_eq!(compare(RULES, path, seconds(40, 70)), (false, false));
}

#[test]
fn chunks_smaller_than_a_step_make_a_difference() {
    let path = "batching.long_prefill_token_threshold";
    assert_eq!(compare(CHUNKS, path, (0, 256)), (true, true));
    assert_eq!(compare(CHUNKS, path, (256, 900)), (true, true));
    assert_eq!(compare(CHUNKS, path, (0, 128)), (false, false));
}

/// The knobs of `text` that have values alike.
fn forms(text: &str) -> Vec<String> {
    let space = read(text).space;
    space.alike.iter().map(|alike| space.knobs[alike.knob].path.clone()).collect()
}

#[test]
fn what_something_else_decides_is_not_alike() {
    assert_eq!(forms(RULES).len(), 5);
    let change = |from: &str, to: &str| {
        assert!(RULES.contains(from), "{from}");
        forms(&RULES.replace(from, to))
    };
    let ready = change("cooldown: {up: 15s", "cooldown: {from: ready, up: 15s");
    assert!(!ready.iter().any(|path| path.contains("cooldown")) && ready.len() == 3, "{ready:?}");
    let named = change(
        "objective:",
        "require: [autoscaling.cooldown.up <= autoscaling.scale_down.0.for]\nobjective:",
    );
    let left = ["autoscaling.scale_up.0.for", "autoscaling.scale_up.1.for"];
    assert_eq!(named, [left[0], left[1], "autoscaling.cooldown.down"]);
    let fixed = change("  autoscaling.interval: {span: [5s, 40s]}\n", "");
    assert_eq!(fixed.len(), 5);
    let by_default = "  autoscaling.interval: {span: [5s, 40s]}\n";
    let text = RULES.replace(by_default, "").replace("    interval: 10s\n", "");
    assert!(forms(&text).is_empty());
}
