//! The cache of runs: whatever it knows, the bytes of a study are the same.

use std::fs;
use std::path::{Path, PathBuf};

use crate::place::{Place, files_of};

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

fn place() -> Place {
    let place = Place::new();
    place.write("space.yaml", SPACE);
    place
}

/// Searches `space` in a folder of its own: what it wrote and printed, and what it said.
fn search(place: &Place, space: &str, options: &str) -> (Vec<(String, String)>, String) {
    let told = place.run(&format!("search {space} --out study --overwrite {options}"));
    assert!(matches!(told.code, Some(0 | 3)), "{}", told.talk);
    let mut files = files_of(&place.path("study"));
    files.push(("standard output".to_owned(), told.out));
    (files, told.talk)
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
    let place = place();
    place.write("calm.yaml", &calm());
    let stopped = [("space.yaml", false), ("calm.yaml", true)].map(|(space, stops)| {
        let journal = same_bytes(&place, space, &format!("--cache {space}.runs"));
        (journal.contains("\"stopped\":\""), stops)
    });
    assert!(stopped.iter().all(|(found, expected)| found == expected), "{stopped:?}");
}

/// Searches `space` with the cache that `option` names in every state; its journal.
fn same_bytes(place: &Place, space: &str, option: &str) -> String {
    let (without, talk) = search(place, space, "--no-cache");
    assert_eq!(known(&talk), (0, 0));
    let (cold, talk) = search(place, space, &format!("{option} --threads 1"));
    assert_eq!(cold, without);
    let again = known(&talk).0;
    for threads in [1, 2] {
        let (warm, talk) = search(place, space, &format!("{option} --threads {threads}"));
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
    let (mended, talk) = search(place, space, option);
    assert_eq!(mended, without);
    let (found, asked) = known(&talk);
    assert!(0 < found && found < asked, "{talk}");
    let (_, talk) = search(place, space, option);
    assert_eq!(known(&talk), (asked, asked), "what was spoilt is whole again");
    let journal = without.into_iter().find(|(name, _)| name == "journal.jsonl");
    journal.expect("a study has a journal").1
}

#[test]
fn other_knobs_limits_budgets_and_proposers_share_the_runs_that_are_the_same() {
    let place = place();
    search(&place, "space.yaml", "--cache runs");
    let more = SPACE
        .replace("batch: 4", "batch: 4\nname: other")
        .replace("knobs:\n", "knobs:\n  batching.max_running_requests: {choice: [64, 128, 256]}\n");
    let limits = SPACE.replace("<= 500", "<= 400").replace("evaluations: 6", "evaluations: 8");
    place.write("limits.yaml", &limits);
    place.write("more.yaml", &more);
    for (space, options) in
        [("limits.yaml", ""), ("more.yaml", ""), ("space.yaml", "--proposer random")]
    {
        let (without, _) = search(&place, space, &format!("{options} --no-cache"));
        let (with, talk) = search(&place, space, &format!("{options} --cache runs"));
        assert_eq!(with, without, "{space} {options}");
        assert!(known(&talk).0 > 0, "{space} {options}: {talk}");
    }
    search(&place, "space.yaml", "--cache other --seed 100");
    let (_, talk) = search(&place, "space.yaml", "--cache other --seed 5000");
    assert_eq!(known(&talk), (0, 0), "no seed is the same: {talk}");
}

#[test]
fn a_cache_that_cannot_be_written_is_said_and_changes_nothing() {
    let place = place();
    let (without, _) = search(&place, "space.yaml", "--no-cache");
    place.write("taken", "no folder");
    let (with, talk) = search(&place, "space.yaml", "--cache taken");
    assert_eq!(with, without);
    assert!(talk.contains("the cache of runs was of no use: cannot"), "{talk}");
    let (_, talk) = search(&place, "space.yaml", "--cache taken --quiet");
    assert_eq!(talk, "");
}

#[test]
fn the_cache_command_shows_and_clears() {
    let place = place();
    assert_eq!(place.run("cache --cache runs").out, "0 runs in runs, 0.0 of at most 256.0 MiB\n");
    search(&place, "space.yaml", "--cache runs");
    let shown = place.run("cache --cache runs --json").out;
    let count = entries(&place.path("runs")).len();
    assert!(shown.contains(&format!("\"runs\": {count}")) && count > 10, "{shown}");
    let cleared = place.run("cache clear --cache runs").out;
    assert!(cleared.starts_with(&format!("removed {count} runs, ")), "{cleared}");
    assert!(!place.path("runs/runs-1").exists());
    // No folder is set.
    place.run("cache").expect(1);
}
