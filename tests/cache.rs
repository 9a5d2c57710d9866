//! The cache of runs: whatever it knows, the bytes of a study are the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A fleet that changes, in two scenarios: every kind of figure is in it.
const SPACE: &str = "\
# A small question.
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2}
  routing: {policy: round-robin}
  batching: {max_running_requests: 256}
workload: {rate: 30, prompt_tokens: 200, output_tokens: 100, slo: {default: {ttft: 1s}}}
run: {duration: 40s, warm_up: 5s}
scenarios:
  calm: {}
  crash: {faults: [{crash: {at: 10s}}]}
knobs:
  pools.default.instances: {int: [1, 4]}
  routing.policy: {choice: [round-robin, least-loaded]}
objective:
  minimize: cost_per_hour
  subject_to: [ttft_p99_ms@calm <= 500, slo_attainment_min@each >= 0.1]
pareto: [ttft_p99_ms, cost_per_hour]
seeds: {base: 7, search: 2, verify: 3}
budget: {evaluations: 6}
batch: 4
";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        place.write("space.yaml", SPACE);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a written file");
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blis-opt"));
        command.env_clear().current_dir(self.0.path()).args(arguments.split_whitespace());
        command.output().expect("the program runs")
    }

    /// Searches `space` in a folder of its own: what it wrote and printed, and what it said.
    fn search(&self, space: &str, options: &str) -> (Vec<(String, Vec<u8>)>, String) {
        let told = self.run(&format!("search {space} --out study --overwrite {options}"));
        let talk = String::from_utf8(told.stderr).expect("UTF-8");
        assert!(matches!(told.status.code(), Some(0 | 3)), "{talk}");
        let mut files = files_of(&self.path("study"));
        files.push(("standard output".to_owned(), told.stdout));
        (files, talk)
    }
}

fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a study").map(|entry| entry.expect("readable"));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let paths = entries.map(|entry| entry.path()).filter(|path| name(path) != "lock");
    let mut files: Vec<(String, Vec<u8>)> =
        paths.map(|path| (name(&path), fs::read(&path).expect("readable"))).collect();
    files.sort();
    files
}

/// How many runs were known, of how many.
fn known(talk: &str) -> (u32, u32) {
    let line = talk.lines().find(|line| line.contains(" runs were known from"));
    let words: Vec<&str> = line.unwrap_or("0 of 0").split_whitespace().collect();
    let number = |at: usize| words[at].parse().expect("a number");
    (number(0), number(2))
}

/// Every file of a cache.
fn entries(cache: &Path) -> Vec<PathBuf> {
    let listed = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("readable").path())
            .collect()
    };
    let shards = listed(&cache.join("runs-1"));
    shards.iter().flat_map(|shard| listed(shard)).collect()
}

/// The same question without scenarios, some of whose runs are stopped early.
fn calm() -> String {
    let from = SPACE.find("scenarios:").expect("there are scenarios");
    let until = SPACE.find("knobs:").expect("there are knobs");
    let calm = SPACE.replace(&SPACE[from..until], "").replace("@calm", "");
    calm.replace("slo_attainment_min@each >= 0.1", "slo_attainment >= 0.9")
        .replace("rate: 30", "rate: 160")
}

#[test]
fn a_study_has_the_same_bytes_with_a_cold_a_warm_a_spoilt_and_no_cache_on_any_threads() {
    let place = Place::new();
    place.write("calm.yaml", &calm());
    let stopped = [("space.yaml", false), ("calm.yaml", true)].map(|(space, stops)| {
        let journal = same_bytes(&place, space, &format!("--cache {space}.runs"));
        let journal = String::from_utf8_lossy(&journal).into_owned();
        (journal.contains("\"stopped\":\""), stops)
    });
    assert!(stopped.iter().all(|(found, expected)| found == expected), "{stopped:?}");
}

/// Searches `space` with the cache that `option` names in every state; its journal.
fn same_bytes(place: &Place, space: &str, option: &str) -> Vec<u8> {
    let (without, talk) = place.search(space, "--no-cache");
    assert_eq!(known(&talk), (0, 0));
    let (cold, talk) = place.search(space, &format!("{option} --threads 1"));
    assert_eq!(cold, without);
    let again = known(&talk).0;
    for threads in [1, 2] {
        let (warm, talk) = place.search(space, &format!("{option} --threads {threads}"));
        assert_eq!(warm, without, "{threads} threads");
        let (found, asked) = known(&talk);
        assert!(found == asked && asked > again + 10, "{talk}");
    }
    let folder = option.split_whitespace().last().expect("a folder");
    for (index, entry) in entries(&place.path(folder)).iter().enumerate() {
        match index % 3 {
            0 => {
                let whole = fs::read(entry).expect("readable");
                fs::write(entry, &whole[..whole.len() / 2]).expect("torn");
            }
            1 => fs::remove_file(entry).expect("removed"),
            _ => {}
        }
    }
    let (mended, talk) = place.search(space, option);
    assert_eq!(mended, without);
    let (found, asked) = known(&talk);
    assert!(0 < found && found < asked, "{talk}");
    let (_, talk) = place.search(space, option);
    assert_eq!(known(&talk), (asked, asked), "what was spoilt is whole again");
    let journal = without.into_iter().find(|(name, _)| name == "journal.jsonl");
    journal.expect("a study has a journal").1
}

#[test]
fn other_knobs_limits_budgets_and_proposers_share_the_runs_that_are_the_same() {
    let place = Place::new();
    place.search("space.yaml", "--cache runs");
    let more = SPACE
        .replace("batch: 4", "batch: 4\nname: other")
        .replace("knobs:\n", "knobs:\n  batching.max_running_requests: {choice: [64, 128, 256]}\n");
    let limits = SPACE.replace("<= 500", "<= 400").replace("evaluations: 6", "evaluations: 8");
    place.write("limits.yaml", &limits);
    place.write("more.yaml", &more);
    for (space, options) in
        [("limits.yaml", ""), ("more.yaml", ""), ("space.yaml", "--proposer random")]
    {
        let (without, _) = place.search(space, &format!("{options} --no-cache"));
        let (with, talk) = place.search(space, &format!("{options} --cache runs"));
        assert_eq!(with, without, "{space} {options}");
        assert!(known(&talk).0 > 0, "{space} {options}: {talk}");
    }
    let seed = place.search("space.yaml", "--cache other --seed 100").1;
    assert_eq!(known(&place.search("space.yaml", "--cache other --seed 5000").1), (0, 0), "{seed}");
}

#[test]
fn a_cache_that_cannot_be_written_is_said_and_changes_nothing() {
    let place = Place::new();
    let (without, _) = place.search("space.yaml", "--no-cache");
    place.write("taken", "no folder");
    let (with, talk) = place.search("space.yaml", "--cache taken");
    assert_eq!(with, without);
    assert!(talk.contains("the cache of runs was of no use: cannot"), "{talk}");
    let (_, talk) = place.search("space.yaml", "--cache taken --quiet");
    assert_eq!(talk, "");
}

#[test]
fn the_cache_command_shows_and_clears() {
    let place = Place::new();
    let text = |output: Output| String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text(place.run("cache --cache runs")), "0 runs in runs, 0.0 of at most 256.0 MiB\n");
    place.search("space.yaml", "--cache runs");
    let shown = text(place.run("cache --cache runs --json"));
    let count = entries(&place.path("runs")).len();
    assert!(shown.contains(&format!("\"runs\": {count}")) && count > 10, "{shown}");
    let cleared = text(place.run("cache clear --cache runs"));
    assert!(cleared.starts_with(&format!("removed {count} runs, ")), "{cleared}");
    assert!(!place.path("runs/runs-1").exists());
    let nowhere = place.run("cache");
    assert_eq!(nowhere.status.code(), Some(1), "no folder is set");
}
