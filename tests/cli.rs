//! The built program from end to end: cleared environment, a temporary folder, real signals.

use std::fs;

use crate::place::{Ended, Place, files_of, interrupt, wait_for_lines};

/// A fleet that a few small runs decide: two instances keep up, one does not.
const SPACE: &str = "\
# A small question.
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 4}
  routing: {policy: round-robin}
  batching: {max_running_requests: 64}
workload: {rate: 40, num_requests: 6000, prompt_tokens: 200, output_tokens: 200}
knobs:
  pools.default.instances: {int: [1, 6]}
  routing.policy: {choice: [round-robin, least-loaded]}
  batching.max_running_requests: {int: [32, 128]}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
pareto: [ttft_p99_ms, cost_per_hour]
seeds: {base: 7, search: 2, verify: 3}
budget: {evaluations: 24}
batch: 4
";

const POLICY: &str = "\
pools:
  default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2}
";

/// The study of [`SPACE`] as it is when nothing disturbs it.
fn undisturbed(place: &Place) -> Vec<(String, String)> {
    place.write("space.yaml", SPACE);
    place.run("search space.yaml --out undisturbed").expect(0);
    files_of(&place.path("undisturbed"))
}

#[test]
fn a_search_finds_the_cheapest_fleet_and_says_why() {
    let place = Place::new();
    place.write("space.yaml", SPACE);
    let ended = place.run("search space.yaml").expect(0);
    for words in ["WINNER", "per GPU-hour", "price:", "fresh seeds", "TRIED", "FRONTIER"] {
        assert!(ended.out.contains(words), "no {words} in:\n{}", ended.out);
    }
    let lines: Vec<&str> = ended.talk.lines().collect();
    assert!(lines[0].starts_with("PLAN of space"), "{lines:?}");
    assert_eq!(lines.len(), 6, "nothing but the plan is said where all is well: {lines:?}");
    let names: Vec<String> =
        files_of(&place.path("results/space")).into_iter().map(|(name, _)| name).collect();
    let wanted = [
        "best-policy.yaml",
        "journal.jsonl",
        "pareto.csv",
        "pareto.json",
        "pareto.svg",
        "trials.csv",
    ];
    assert_eq!(names, wanted);
    place.run("check results/space/best-policy.yaml").expect(0);
    place.write("workload.yaml", "{rate: 40, prompt_tokens: 200, output_tokens: 200}\n");
    let again = place.run("run results/space/best-policy.yaml --workload workload.yaml").expect(0);
    assert!(again.out.contains("yes; the queue grows"), "{}", again.out);
}

#[test]
fn a_search_prints_one_document_with_json() {
    let place = Place::new();
    place.write("space.yaml", SPACE);
    let ended = place.run("search space.yaml --json").expect(0);
    let document: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert!(document["winner"]["usd_per_hour"].as_f64().expect("a cost") > 0.0);
    assert_eq!(document["winner"]["promises"][0]["kept"], true);
    let evaluations = document["evaluations"].as_f64().expect("a number");
    assert!((24.0..26.0).contains(&evaluations), "{evaluations}");
    let pareto = place.run("pareto results/space --format json").expect(0);
    let pareto: serde_json::Value = serde_json::from_str(&pareto.out).expect("JSON");
    assert_eq!(document["pareto"], pareto);
    let csv = place.run("pareto results/space --format csv").expect(0).out;
    assert_eq!(csv, place.read("results/space/pareto.csv"));
}

#[test]
fn a_search_without_a_feasible_candidate_exits_with_3() {
    let place = Place::new();
    place.write("space.yaml", &SPACE.replace("ttft_p99_ms <= 500", "ttft_p99_ms <= 0.1"));
    let ended = place.run("search space.yaml --budget 6").expect(3);
    assert!(ended.out.contains("NO WINNER") && ended.out.contains("missed by"), "{}", ended.out);
    assert!(!place.path("results/space/best-policy.yaml").exists());
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let place = Place::new();
    let expected = undisturbed(&place);
    for threads in [1, 2] {
        place.run(&format!("search space.yaml --out t{threads} --threads {threads}")).expect(0);
        assert_eq!(files_of(&place.path(&format!("t{threads}"))), expected, "{threads} threads");
    }
}

#[test]
fn a_killed_search_resumes_to_the_same_bytes() {
    let place = Place::new();
    let expected = undisturbed(&place);
    for lines in [1, 4, 11, 19] {
        let folder = place.path(&format!("killed{lines}"));
        let line = format!("search space.yaml --out killed{lines}");
        let mut child = place.start(&line);
        wait_for_lines(&mut child, std::slice::from_ref(&folder), lines);
        child.kill().expect("killed");
        child.wait().expect("ended");
        place.run(&format!("{line} --resume")).expect(0);
        assert_eq!(files_of(&folder), expected, "killed at line {lines}");
    }
}

#[test]
fn an_interrupted_search_says_how_to_resume_and_resumes_to_the_same_bytes() {
    let place = Place::new();
    let expected = undisturbed(&place);
    let folder = place.path("stopped");
    let mut child = place.start("search space.yaml --out stopped --overwrite");
    wait_for_lines(&mut child, std::slice::from_ref(&folder), 6);
    interrupt(&child);
    let ended = Ended::of(&child.wait_with_output().expect("it ends")).expect(130);
    let resume = "search space.yaml --out stopped --resume";
    assert!(ended.talk.contains("is intact") && ended.talk.contains(resume), "{}", ended.talk);
    assert_eq!(ended.out, "");
    place.run(resume).expect(0);
    assert_eq!(files_of(&folder), expected);
}

#[test]
fn a_torn_last_line_is_forgotten() {
    let place = Place::new();
    let expected = undisturbed(&place);
    let journal = place.read("undisturbed/journal.jsonl");
    let cut = journal.len() * 2 / 3;
    place.write("torn/journal.jsonl", &journal[..cut]);
    place.run("search space.yaml --out torn --resume").expect(0);
    assert_eq!(files_of(&place.path("torn")), expected);
}

#[test]
fn a_study_is_neither_overwritten_nor_mixed_by_accident() {
    let place = Place::new();
    undisturbed(&place);
    let again = place.run("search space.yaml --out undisturbed").expect(1);
    assert!(again.talk.contains("--resume") && again.talk.contains("--overwrite"));
    let other = place.run("search space.yaml --out undisturbed --resume --seed 8").expect(1);
    assert!(other.talk.contains("seed"), "{}", other.talk);
    place.write("space.yaml", &SPACE.replace("rate: 40", "rate: 41"));
    let other = place.run("search space.yaml --out undisturbed --resume").expect(1);
    assert!(other.talk.contains("space.yaml"), "{}", other.talk);
}

#[test]
fn a_second_process_on_a_study_is_refused() {
    let place = Place::new();
    place.write("space.yaml", &SPACE.replace("num_requests: 6000", "num_requests: 60000"));
    let mut first = place.start("search space.yaml --out shared");
    wait_for_lines(&mut first, &[place.path("shared")], 1);
    let second = place.run("search space.yaml --out shared --resume").expect(1);
    assert!(second.talk.contains("another process"), "{}", second.talk);
    first.kill().expect("killed");
    first.wait().expect("ended");
}

#[test]
fn report_rebuilds_the_same_bytes_from_the_journal_alone() {
    let place = Place::new();
    let expected = undisturbed(&place);
    let printed = place.run("search space.yaml --out undisturbed --resume").expect(0).out;
    fs::remove_file(place.path("space.yaml")).expect("removed");
    for name in ["best-policy.yaml", "pareto.csv", "pareto.json", "pareto.svg", "trials.csv"] {
        fs::remove_file(place.path("undisturbed").join(name)).expect("removed");
    }
    let report = place.run("report undisturbed").expect(0);
    assert_eq!(files_of(&place.path("undisturbed")), expected);
    assert_eq!(report.out, printed);
}

#[test]
fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let place = Place::new();
    place.write("space.yaml", SPACE);
    place.write("taken", "a file, not a folder");
    let ended = place.run("search space.yaml --out taken/study").expect(1);
    assert!(ended.talk.contains("taken/study"), "{}", ended.talk);
    assert!(!ended.talk.contains("has a bug"));
    place.write("policy.yaml", POLICY);
    let ended = place.run("run policy.yaml --rate 5 --duration 5s --requests-csv taken/r.csv");
    assert!(ended.expect(1).talk.contains("taken/r.csv"));
}

#[test]
fn a_run_prints_every_figure_and_the_price() {
    let place = Place::new();
    place.write("policy.yaml", POLICY);
    let line = "run policy.yaml --rate 20 --num-requests 500 --requests-csv requests.csv \
                --fitness-weights p99_ttft:3,mean_e2e:1,throughput:2";
    let ended = place.run(line).expect(0);
    insta::assert_snapshot!("run", ended.out);
    assert_eq!(place.read("requests.csv").lines().count(), 501);
}

#[test]
fn a_run_over_seeds_has_intervals_and_one_document() {
    let place = Place::new();
    place.write("policy.yaml", POLICY);
    let line = "run policy.yaml --rate 20 --num-requests 500 --seeds 3 --seed 5";
    let text = place.run(line).expect(0).out;
    assert!(text.contains("seeds 5, 6, 7") && text.contains(" ± "), "{text}");
    let json = place.run(&format!("{line} --json")).expect(0).out;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["runs"].as_array().map(Vec::len), Some(3));
    assert!(document["figures"]["ttft_p99_ms"]["half_width_95"].as_f64().expect("a width") > 0.0);
    assert_eq!(json, place.run(&format!("{line} --json --threads 1")).expect(0).out);
}

#[test]
fn an_unstable_run_says_so_in_words() {
    let place = Place::new();
    place.write("policy.yaml", POLICY);
    let ended = place.run("run policy.yaml --rate 200 --instances 1 --duration 60s").expect(0);
    assert!(ended.out.contains("UNSTABLE") && ended.out.contains("requests/s"), "{}", ended.out);
}

#[test]
fn check_says_everything_that_is_wrong_at_once() {
    let place = Place::new();
    place.write("policy.yaml", "poolz: {}\nscheduler: fifo\nbatching: {max_running_requests: 0}\n");
    place.write("workload.yaml", "rate: -3\nrate: 4\n");
    place.write(
        "space.yaml",
        &SPACE.replace("default.instances: {int: [1, 6]}", "x: {int: [6, 1]}"),
    );
    place.write("what.yaml", "hello: world\n");
    let ended = place.run("check policy.yaml workload.yaml space.yaml what.yaml").expect(1);
    insta::assert_snapshot!("check", ended.talk);
    assert_eq!(ended.out, "");
    let json = place.run("check policy.yaml --json").expect(1).out;
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["fine"], false);
    assert_eq!(document["files"][0]["kind"], "policy bundle");
}

#[test]
fn check_tells_the_kinds_of_files_apart() {
    let place = Place::new();
    place.write("policy.yaml", POLICY);
    place.write("workload.yaml", "{rate: 5, num_requests: 10}\n");
    place.write("space.yaml", SPACE);
    place.write("defaults.yaml", "workloads: {}\nprices: []\n");
    let ended = place.run("check policy.yaml workload.yaml space.yaml defaults.yaml").expect(0);
    let kinds = ["policy bundle", "workload", "search space", "defaults"];
    for (line, kind) in ended.out.lines().zip(kinds) {
        assert!(line.contains(&format!(": {kind},")), "{line}");
    }
    assert_eq!(ended.out.lines().count(), 4);
}

#[test]
fn colours_follow_the_option() {
    let place = Place::new();
    let colored = place.run("check nothing.yaml --color always").expect(1).talk;
    assert!(colored.contains('\u{1b}'));
    for line in ["check nothing.yaml --color never", "check nothing.yaml"] {
        assert!(!place.run(line).expect(1).talk.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn help_says_what_there_is() {
    let place = Place::new();
    insta::assert_snapshot!("help", place.run("--help").expect(0).out);
    for command in ["search", "run", "check", "evaluate", "pareto", "report", "completions"] {
        let help = place.run(&format!("{command} --help")).expect(0).out;
        insta::assert_snapshot!(format!("help-{command}"), help);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let place = Place::new();
    for line in [
        "",
        "serach x.yaml",
        "search",
        "search x.yaml --resume --overwrite",
        "search x.yaml --budget 0",
        "run x.yaml",
        "run x.yaml --rate -3",
        "run x.yaml --rate NaN",
        "run x.yaml --rate 3 --workload y.yaml",
        "run x.yaml --rate 3 --duration 5parsecs",
        "run x.yaml --rate 3 --num-requests 5 --duration 5s",
        "run x.yaml --workload w.yaml --preset chatbot",
        "run x.yaml --rate 3 --fitness-weights p99_ttft",
        "check x.yaml --threads 0",
        "check x.yaml -q -v",
        "completions tcsh",
    ] {
        let ended = place.run(line).expect(2);
        assert!(ended.out.is_empty(), "{line}: talk belongs to stderr");
        assert!(!ended.talk.is_empty(), "{line}: must say what is wrong");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::new();
    for line in ["check x.yaml", "run x.yaml --rate 3", "search x.yaml", "report x", "pareto x"] {
        let ended = place.run(line).expect(1);
        assert!(ended.talk.contains("`x") || ended.talk.contains(" x"), "{line}: {}", ended.talk);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn every_shell_gets_a_script() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.run(&format!("completions {shell}")).expect(0).out;
        assert!(script.contains("resume"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    place.write("policy.yaml", POLICY);
    place.write("space.yaml", SPACE);
    for line in [
        "completions bash",
        "run policy.yaml --rate 5 --duration 9s",
        "search space.yaml -q",
        "--help",
    ] {
        let mut child = place.start(line);
        drop(child.stdout.take());
        let ended = Ended::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(ended.expect(0).talk, "", "{line}");
    }
}
