//! Several studies of one file: on the same threads, each as if it were alone.

use std::fs;

use crate::place::{Ended, Place, files_of, interrupt, wait_for_lines};

const STUDIES: [&str; 3] = ["few", "many", "short"];

/// Three studies of a small fleet: two instances keep up, one does not.
const SPACE: &str = "
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 4}
  routing: {policy: round-robin}
  scheduler: fcfs
  batching: {max_running_requests: 64}
workload: {rate: 40, num_requests: 2000, prompt_tokens: 200, output_tokens: 200}
knobs:
  pools.default.instances: {int: [1, 6]}
  batching.max_running_requests: {int: [32, 128]}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
pareto: [ttft_p99_ms, cost_per_hour]
seeds: {base: 7, search: 2, verify: 4}
budget: {evaluations: 10, frontier: 2}
batch: 3
studies:
  few: {knobs: {pools.default.instances: {int: [1, 3]}}}
  many: {}
  short: {budget.evaluations: 4, template.scheduler: sjf}
";

fn place() -> Place {
    let place = Place::new();
    place.write("space.yaml", SPACE);
    place
}

/// Every file of the batch in `folder`: of each study, and those beside them.
fn all_files(place: &Place, folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for study in STUDIES {
        let own = files_of(&place.path(&format!("{folder}/{study}"))).into_iter();
        files.extend(own.map(|(name, text)| (format!("{study}/{name}"), text)));
    }
    for name in ["comparison.txt", "comparison.csv", "comparison.json"] {
        files.push((name.to_owned(), place.read(&format!("{folder}/{name}"))));
    }
    files
}

#[test]
fn side_by_side_and_one_after_the_other_they_end_in_the_same_bytes() {
    let place = place();
    let on = |threads: u32| {
        let line = format!("search space.yaml --out s{threads} --no-cache --threads {threads}");
        place.run(&line).expect(0).out.replace(&format!("s{threads}"), "s")
    };
    let (one, two) = (on(1), on(2));
    assert_eq!(one, two);
    assert_eq!(all_files(&place, "s1"), all_files(&place, "s2"));
    for study in STUDIES {
        let alone = format!("alone-{study}");
        place.run(&format!("search space.yaml#{study} --out {alone} --no-cache")).expect(0);
        let own = files_of(&place.path(&format!("s2/{study}")));
        assert_eq!(files_of(&place.path(&alone)), own);
    }
}

#[test]
fn nothing_begins_where_the_command_line_does_not_suit_one_of_them() {
    let place = place();
    place.write(
        "space.yaml",
        &SPACE.replace("budget.evaluations: 4", "budget: {evaluations: 4, gain: 0.01}"),
    );
    let told = place.run("search space.yaml --out s --no-cache --proposer sobol").expect(1).talk;
    assert!(told.contains("`sobol` expects no gain"), "{told}");
    assert!(!place.path("s").exists());
}

#[test]
fn nothing_begins_where_one_of_them_is_there_already() {
    let place = place();
    place.run("search space.yaml#short --out s/short --no-cache").expect(0);
    let told = place.run("search space.yaml --out s --no-cache").expect(1).talk;
    assert!(told.contains("`s/short` already holds a study"), "{told}");
    assert!(!place.path("s/few").exists());
    let told = place.run("search space.yaml --out s --no-cache --resume").expect(0).talk;
    assert_eq!(told.matches("PLAN of").count(), 2, "{told}");
    let again = place.run("search space.yaml --out s --no-cache --resume").expect(0).talk;
    assert!(!again.contains("PLAN"), "{again}");
}

#[test]
fn killed_at_any_moment_they_go_on_to_the_same_bytes() {
    let place = place();
    place.run("search space.yaml --out whole --no-cache --threads 2").expect(0);
    let whole = all_files(&place, "whole");
    let lines: usize =
        whole.iter().filter(|(n, _)| n.ends_with("jsonl")).map(|(_, t)| t.lines().count()).sum();
    for part in [1, 2, 3] {
        let folder = format!("cut{part}");
        let line = format!("search space.yaml --out {folder} --no-cache --threads 2");
        let mut child = place.start(&line);
        let folders = STUDIES.map(|study| place.path(&format!("{folder}/{study}")));
        wait_for_lines(&mut child, &folders, lines * part / 4);
        child.kill().expect("killed");
        child.wait().expect("ended");
        place.run(&format!("{line} --resume")).expect(0);
        assert_eq!(all_files(&place, &folder), whole);
    }
}

#[test]
fn interrupted_they_say_how_many_are_done_and_how_to_go_on() {
    let place = place();
    place.write("space.yaml", &SPACE.replace("evaluations: 10", "evaluations: 400"));
    let mut child = place.start("search space.yaml --out s --no-cache --threads 2");
    wait_for_lines(&mut child, &STUDIES.map(|study| place.path(&format!("s/{study}"))), 12);
    interrupt(&child);
    let ended = Ended::of(&child.wait_with_output().expect("it ends")).expect(130);
    assert!(ended.talk.contains("the studies in s are intact"), "{}", ended.talk);
    assert!(ended.talk.contains(" of 3 are done. Go on with:\n  "), "{}", ended.talk);
    assert_eq!(ended.talk.matches("Go on with").count(), 1, "{}", ended.talk);
    assert!(ended.talk.contains("--no-cache --threads 2 --resume"), "{}", ended.talk);
    assert!(ended.out.is_empty(), "{}", ended.out);
}

#[test]
fn one_that_cannot_go_on_ends_the_others_without_loss() {
    let place = place();
    place.write("s/many", "a file where a folder has to be");
    let told = place.run("search space.yaml --out s --no-cache --threads 2").expect(1).talk;
    assert!(told.contains("s/many"), "{told}");
    fs::remove_file(place.path("s/many")).expect("it is there");
    place.run("search space.yaml --out s --no-cache --resume").expect(0);
    place.run("search space.yaml --out whole --no-cache").expect(0);
    assert_eq!(all_files(&place, "s"), all_files(&place, "whole"));
}
