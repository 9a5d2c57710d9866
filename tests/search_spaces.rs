//! What wrong search spaces are told.

use blis_opt::config::{Defaults, Problems};
use blis_opt::search::{Domain, SpaceFile, read_space};

const HEAD: &str = "\
template:
  pools: {h100: {model: meta-llama/llama-3.1-8b-instruct, gpu: H100, instances: 20}}
  admission: {policy: always-admit, latency_us: 50}
  routing:
    policy: round-robin
    scorers: [{name: queue-depth, weight: 1}, {name: kv-utilization, weight: 2}]
  batching: {max_running_requests: 128}
workload: {rate: 500, num_requests: 10}
";
const GOAL: &str = "objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}\n";
const KNOBS: &str = "knobs: {pools.h100.instances: {int: [4, 32]}}\n";

fn read(text: &str) -> (Option<SpaceFile>, Problems) {
    let mut problems = Problems::new();
    let files = |path: &str| match path {
        "spaces/policy.yaml" => Ok("pools: {a: {model: meta-llama/llama-3.1-8b-instruct, \
                                    instances: 2}}\nrouting: {policy: robin}\n"
            .to_owned()),
        _ => Err("there is no such file".to_owned()),
    };
    let read = read_space(("spaces/x.yaml", text), Defaults::embedded(), &files, &mut problems);
    (read, problems)
}

/// The messages about a text, each with line and hint.
fn told(text: &str) -> Vec<(u32, String, String)> {
    let (read, problems) = read(text);
    assert!(read.is_none(), "read all the same");
    let list = problems.list().iter();
    list.map(|p| (p.position.line, p.message.clone(), p.hint.clone())).collect()
}

fn told_of_knobs(knobs: &str) -> Vec<(u32, String, String)> {
    told(&format!("{HEAD}{GOAL}knobs:\n{knobs}"))
}

fn one(mut told: Vec<(u32, String, String)>) -> (u32, String, String) {
    assert_eq!(told.len(), 1, "{told:#?}");
    told.remove(0)
}

#[test]
fn defaults_fill_what_is_not_said() {
    let (file, problems) = read(&format!("{HEAD}{GOAL}{KNOBS}"));
    assert!(problems.is_empty(), "{:#?}", problems.list());
    let space = file.expect("a good space").space;
    assert_eq!((space.name.as_str(), space.batch), ("x", 4));
    assert_eq!((space.seeds.base, space.seeds.search, space.seeds.verify), (42, 3, 10));
    assert_eq!((space.budget.evaluations, space.budget.wall), (60, None));
    assert_eq!(space.pareto.len(), 2);
    assert!(space.knobs[0].counts_instances && space.start().is_some());
    assert!(matches!(space.knobs[0].domain, Domain::Int { log: false, .. }));
}

#[test]
fn durations_are_knobs_and_end_up_in_the_policy() {
    let knobs = "knobs: {admission.latency_us: {span: [10us, 1ms]}}\n";
    let (file, problems) = read(&format!("{HEAD}{GOAL}{knobs}"));
    assert!(problems.is_empty(), "{:#?}", problems.list());
    let file = file.expect("a good space");
    let start = file.space.start().expect("50 is in the range");
    assert_eq!(start.labels(&file.space)[0].1, "50us");
    let tree = file.template.apply(&file.space, &start).expect("applied");
    assert_eq!(tree.get("admission.latency_us").and_then(|node| node.as_text()), Some("50us"));
}

#[test]
fn a_choice_may_hold_whole_subtrees() {
    let knobs = "knobs:\n  admission: {choice: [{policy: always-admit, latency_us: 50}, \
                 {policy: token-bucket, token_bucket_capacity: 9000}]}\n  \
                 admission.latency_us: {int: [1, 60], when: {admission: {policy: x}}}\n";
    let told = told(&format!("{HEAD}{GOAL}{knobs}"));
    assert_eq!(one(told).1, "`admission` is never x");
    let knobs = knobs.lines().take(2).collect::<Vec<_>>().join("\n");
    let (file, problems) = read(&format!("{HEAD}{GOAL}{knobs}\n"));
    assert!(problems.is_empty(), "{:#?}", problems.list());
    let file = file.expect("a good space");
    let labels = Domain::Choice { labels: vec!["always-admit".into(), "token-bucket".into()] };
    assert_eq!(file.space.knobs[0].domain, labels);
}

#[test]
fn a_knob_that_names_nothing_is_answered_by_the_nearest_path() {
    let (line, message, hint) = one(told_of_knobs("  pools.h100.instnces: {int: [4, 32]}\n"));
    assert_eq!(line, 11);
    assert_eq!(message, "no knob `pools.h100.instnces` in the `template` of this file");
    assert_eq!(hint, "did you mean `pools.h100.instances`?");
}

#[test]
fn empty_ranges_are_refused_with_their_ends() {
    let (line, message, hint) = one(told_of_knobs("  pools.h100.instances: {int: [32, 4]}\n"));
    assert_eq!((line, message.as_str()), (11, "`int: [32, 4]` is empty: low must be below high"));
    assert_eq!(hint, "write `int: [4, 32]`");
    let hint = one(told_of_knobs("  pools.h100.instances: {int: [4, 4]}\n")).2;
    assert_eq!(hint, "put a single value into the template");
}

#[test]
fn wrong_knobs_are_told_what_they_need() {
    for (knob, expected) in [
        ("{}", "needs one of `int`, `float`, `span` and `choice`"),
        ("{int: [1, 2], float: [1, 2]}", "needs one of `int`, `float`, `span` and `choice`"),
        ("{int: [1, 2, 3]}", "`int` needs two numbers: `[low, high]`"),
        ("{int: [1, 2.5]}", "the ends of `int` must be whole numbers up to 10^15"),
        ("{int: [1, 9223372036854775807]}", "the ends of `int` must be whole numbers up to 10^15"),
        ("{float: [.nan, 1]}", "the ends of `float` must be numbers up to 10^15"),
        ("{int: [0, 5], log: true}", "a log scale needs a range above 0"),
        ("{int: [1, 5], step: 0}", "`step` must be a whole number of at least 1"),
        ("{int: [1, 5], step: 9}", "holds one value at a step of 9"),
        ("{float: [1, 5], step: 1}", "`step` belongs to `int`"),
        ("{choice: [4]}", "`choice` needs at least two options"),
        ("{choice: [4, 5, 4]}", "this choice appears twice"),
        ("{int: [1, 5], lgo: true}", "unknown key `lgo` in knob `pools.h100.instances`"),
    ] {
        let told = told_of_knobs(&format!("  pools.h100.instances: {knob}\n"));
        assert!(told[0].1.contains(expected), "{knob}: {told:?}");
    }
}

#[test]
fn conditions_must_name_knobs_their_values_and_no_circle() {
    let routing = "  routing.policy: {choice: [round-robin, weighted]}\n";
    let weight = "  routing.scorers.queue-depth.weight: {float: [0.1, 9], when: ";
    let told = told_of_knobs(&format!("{routing}{weight}{{routing.polcy: weighted}}}}\n"));
    assert_eq!(one(told).2, "did you mean `routing.policy`?");
    let told = told_of_knobs(&format!("{routing}{weight}{{routing.policy: weigted}}}}\n"));
    assert_eq!(one(told).2, "did you mean `weighted`?");
    let circle = "  pools.h100.instances:\n    {int: [1, 5], \
                  when: {batching.max_running_requests: 9}}\n  \
                  batching.max_running_requests: {int: [9, 20], when: {pools.h100.instances: 2}}\n";
    let told = told_of_knobs(circle);
    assert!(told[0].1.contains("waits for itself"), "{told:?}");
}

#[test]
fn two_names_of_one_thing_are_refused() {
    let knobs = "  routing.scorers.queue-depth: {float: [1, 2]}\n  \
                 routing.scorers.0.weight: {float: [1, 2]}\n";
    assert!(one(told_of_knobs(knobs)).1.ends_with("turn the same thing"));
}

#[test]
fn relations_are_read_and_must_leave_room() {
    let with = |relation: &str| told(&format!("{HEAD}{GOAL}{KNOBS}require: [{relation}]\n"));
    assert!(one(with("pools.h100.instances = 3")).1.contains("is not a relation"));
    assert_eq!(one(with("pools.h100.instance < 3")).2, "did you mean `pools.h100.instances`?");
    let none = one(with("2 * pools.h100.instances < 3")).1;
    assert_eq!(none, "no candidate keeps all of these relations");
    let (file, _) = read(&format!("{HEAD}{GOAL}{KNOBS}require: [pools.h100.instances <= 9]\n"));
    let space = file.expect("a good space").space;
    assert!(space.start().is_none(), "20 instances are not allowed");
}

#[test]
fn goals_are_checked_metric_by_metric() {
    let with = |goal: &str| told(&format!("{HEAD}{KNOBS}objective: {goal}\n"));
    assert_eq!(one(with("{minimize: cost_per_huor}")).2, "did you mean `cost_per_hour`?");
    assert!(one(with("{}")).1.contains("needs one of `minimize` and `maximize`"));
    assert!(one(with("{minimize: gpus, maximize: gpus}")).1.contains("needs one of"));
    assert_eq!(one(with("{maximize: fitness}")).1, "`fitness` needs weights");
    let hint = one(with("{maximize: fitness, weights: \"p99_tft:3\"}")).2;
    assert_eq!(hint, "did you mean `p99_ttft`?");
    let of =
        |constraints: &str| one(with(&format!("{{minimize: gpus, subject_to: [{constraints}]}}")));
    assert_eq!(of("ttft_p99 <= 500").2, "did you mean `ttft_p99_ms`?");
    assert_eq!(of("ttft_p99_ms <= 500ms").1, "`500ms` is not a number");
    assert!(of("ttft_p99_ms <= 5, ttft_p99_ms <= 6").1.contains("repeats"));
    assert!(of("ttft_p99_ms <= 5, ttft_p99_ms >= 6").1.contains("cannot both hold"));
    assert!(of("chat.ttft_p99_ms <= 5").1.contains("no metric"));
}

#[test]
fn runs_must_measure_something() {
    let with = |run: &str| told(&format!("{HEAD}{GOAL}{KNOBS}run: {run}\n"));
    assert!(one(with("{warm_up: 60s, duration: 30s}")).1.contains("before anything is measured"));
    assert!(one(with("{warm_up: 60s, horizon: 60s}")).1.contains("before anything is measured"));
    assert_eq!(one(with("{duration: 30}")).2, "write `30s` or `30ms`");
}

#[test]
fn problems_of_a_named_file_are_placed_in_it() {
    let rest = HEAD.lines().skip_while(|line| !line.starts_with("workload")).collect::<String>();
    let knobs = "knobs: {pools.a.instances: {int: [1, 5]}}\n";
    let (_, problems) = read(&format!("template: policy.yaml\n{rest}\n{GOAL}{knobs}"));
    let errors: Vec<(&str, u32)> =
        problems.list().iter().map(|p| (p.file.as_str(), p.position.line)).collect();
    assert_eq!(errors, [("spaces/policy.yaml", 2)]);
    let (_, problems) = read(&format!("template: none.yaml\n{rest}\n{GOAL}{knobs}"));
    assert_eq!(problems.list()[0].file, "spaces/x.yaml");
    assert!(problems.list()[0].message.contains("cannot read `spaces/none.yaml`"));
}

#[test]
fn everything_is_told_at_once() {
    let text = "name: a/b\nknobs: {x: {int: [2, 1]}}\nseeds: {search: 0}\nbatch: 0\n\
                budget: {evaluations: 0, wal: 1s}\npareto: [ttft_p99_ms]\n\
                objective: {minimize: x}\n";
    let told = told(text);
    for expected in [
        "the search space needs `template`",
        "the search space needs `workload`",
        "`a/b` cannot name a folder",
        "`int: [2, 1]` is empty",
        "`search` must be",
        "`batch` must be",
        "`evaluations` must be",
        "unknown key `wal`",
        "at least two axes",
        "no metric `x`",
    ] {
        assert!(
            told.iter().any(|(_, message, _)| message.contains(expected)),
            "{expected}: {told:#?}"
        );
    }
}
