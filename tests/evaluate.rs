//! `blis-opt evaluate` from end to end: lines in, lines out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Two instances keep up, one does not.
const SPACE: &str = "\
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 4}
  routing: {policy: least-loaded}
  batching: {max_running_requests: 64}
workload: {rate: 40, num_requests: 3000, prompt_tokens: 200, output_tokens: 200}
knobs:
  pools.default.instances: {int: [1, 6]}
  routing.policy: {choice: [round-robin, least-loaded]}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
seeds: {base: 7, search: 2, verify: 3}
";

fn start(folder: &TempDir, arguments: &[&str]) -> Child {
    std::fs::write(folder.path().join("space.yaml"), SPACE).expect("a written file");
    Command::new(env!("CARGO_BIN_EXE_blis-opt"))
        .env_clear()
        .current_dir(folder.path())
        .args(["evaluate", "space.yaml"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// The exit code, the lines on stdout, and what stands on stderr.
fn evaluate(arguments: &[&str], lines: &str) -> (Option<i32>, Vec<Json>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = start(&folder, arguments);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(lines.as_bytes()).expect("it reads");
    drop(stdin);
    let ended = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(ended.stdout).expect("UTF-8");
    let told = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (ended.status.code(), told, String::from_utf8(ended.stderr).expect("UTF-8"))
}

#[test]
fn a_candidate_is_answered_by_its_figures_and_its_score() {
    let lines = "{\"knobs\": {\"pools.default.instances\": 2}}\n";
    let (code, told, talk) = evaluate(&[], lines);
    assert_eq!((code, talk.as_str()), (Some(0), ""));
    let [answer] = &told[..] else { panic!("one line: {told:?}") };
    // The knob that is left out rests at the template's value.
    let knobs = json!({"pools.default.instances": 2, "routing.policy": "least-loaded"});
    assert_eq!(answer["knobs"], knobs);
    assert_eq!(answer["hash"].as_str().map(str::len), Some(16));
    assert_eq!(answer["runs"][0]["seed"], 7);
    assert_eq!(answer["runs"][1]["seed"], 8);
    let ttft = |run: usize| answer["runs"][run]["figures"]["ttft_p99_ms"].as_f64().expect("one");
    let mean = answer["score"]["constraints"][0]["mean"].as_f64().expect("a mean");
    assert!((2.0 * mean - ttft(0) - ttft(1)).abs() < 1e-9);
    assert_eq!(answer["score"]["feasible"], true);
}

#[test]
fn seeds_may_be_chosen_and_are_answered_in_their_order() {
    let lines = "{\"knobs\": {\"pools.default.instances\": 2}, \"seeds\": [90, 7]}\n\
                 {\"pools.default.instances\": 2}\n";
    let (_, told, _) = evaluate(&[], lines);
    assert_eq!(told[0]["runs"][0]["seed"], 90);
    assert_eq!(told[0]["runs"][1], told[1]["runs"][0], "the same run of seed 7");
    let (_, told, _) = evaluate(&["--seed", "90"], "{\"pools.default.instances\": 2}\n");
    assert_eq!(told[0]["runs"][0]["seed"], 90);
}

#[test]
fn a_bad_line_is_answered_in_its_place_and_the_others_go_on() {
    let lines = "{\"pools.default.instances\": 3}\n\nnonsense\n{\"pools.default.instances\": 9}\n\
                 {\"pools.default.instances\": 2}\n";
    let (code, told, talk) = evaluate(&[], lines);
    assert_eq!(code, Some(1));
    assert_eq!(talk, "lines that could not be used: 2\n");
    assert_eq!(told[0]["knobs"]["pools.default.instances"], 3);
    assert_eq!(told[1]["line"], 3);
    assert_eq!(told[2]["line"], 4);
    assert_eq!(told[2]["error"], "`pools.default.instances` cannot be 9");
    assert_eq!(told[3]["knobs"]["pools.default.instances"], 2);
}

#[test]
fn many_lines_are_answered_in_order_whatever_the_number_of_threads() {
    let line = |index: usize| format!("{{\"pools.default.instances\": {}}}\n", index % 6 + 1);
    let lines: String = (0..24).map(line).collect();
    let (_, one, _) = evaluate(&["--threads", "1"], &lines);
    let (_, four, _) = evaluate(&["--threads", "4"], &lines);
    assert_eq!(one, four);
    for (index, answer) in one.iter().enumerate() {
        assert_eq!(answer["knobs"]["pools.default.instances"], index % 6 + 1);
    }
    assert_eq!(one.len(), 24);
}

#[test]
fn an_answer_comes_before_the_next_question() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = start(&folder, &[]);
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    for instances in [3, 2] {
        writeln!(stdin, "{{\"pools.default.instances\": {instances}}}").expect("it reads");
        let mut answer = String::new();
        stdout.read_line(&mut answer).expect("it answers");
        let answer: Json = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["knobs"]["pools.default.instances"], instances);
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn the_space_is_described_as_one_document() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = start(&folder, &["--describe"]);
    let ended = child.wait_with_output().expect("it ends");
    let told: Json = serde_json::from_slice(&ended.stdout).expect("one document");
    assert_eq!(told["space"], "space");
    assert_eq!(told["knobs"][0]["path"], "pools.default.instances");
    assert_eq!(told["knobs"][0]["high"], 6);
    assert_eq!(told["knobs"][1]["options"], json!(["round-robin", "least-loaded"]));
    assert_eq!(told["constraints"][0]["metric"], "ttft_p99_ms");
    assert_eq!(told["seeds"]["search"], json!([7, 8]));
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = start(&folder, &[]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a pipe");
    for _ in 0..400 {
        // Once nobody reads the answers the program reads no more questions.
        if stdin.write_all(b"{\"pools.default.instances\": 2}\n").is_err() {
            break;
        }
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}
