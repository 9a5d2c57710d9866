//! The fitness of the capacity-planning tutorial, from the search space to the files.

use blis_opt::search::{Figures, FitnessWeights};
use serde_json::Value;

use crate::place::Place;

const WEIGHTS: &str = "p99_ttft:3,mean_e2e:1,throughput:2";
const PARTS: [&str; 3] = ["ttft_p99_ms", "e2e_mean_ms", "throughput_rps"];

const SPACE: &str = "\
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2}
  batching: {max_running_requests: 16}
workload: {rate: 30, prompt_tokens: 200, output_tokens: 60}
run: {duration: 20s, warm_up: 2s}
knobs:
  pools.default.instances: {int: [2, 4]}
  batching.max_running_requests: {int: [8, 64]}
objective: {maximize: fitness, weights: \"p99_ttft:3,mean_e2e:1,throughput:2\"}
pareto: [fitness, cost_per_hour]
seeds: {base: 7, search: 2, verify: 3}
budget: {evaluations: 6, certificate: 2}
";

/// The place of a finished search of `space` in `s`, and what it printed.
fn searched(space: &str) -> (Place, String) {
    let place = Place::new();
    place.write("space.yaml", space);
    let said = place.run("search space.yaml --out s").expect(0).out;
    (place, said)
}

/// The fitness by its formula, at a scale of 1000 ms.
fn by_hand(parts: &[f64]) -> f64 {
    let [ttft, e2e, rps] = parts else { panic!("three figures") };
    3.0 / (1.0 + ttft / 1000.0) + 1.0 / (1.0 + e2e / 1000.0) + 2.0 * rps / (rps + 100.0)
}

/// The columns of `csv` named `names`, line by line.
fn columns(csv: &str, names: &[&str]) -> Vec<Vec<f64>> {
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let at = |name: &&str| header.iter().position(|column| column == name);
    let places: Option<Vec<usize>> = names.iter().map(at).collect();
    let places = places.unwrap_or_else(|| panic!("{names:?} in {header:?}"));
    let lines = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    assert!(lines.clone().count() > 0, "nothing but a header");
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` is a number"));
    lines.map(|cells| places.iter().map(|&place| number(cells[place])).collect()).collect()
}

#[test]
fn every_table_and_file_with_a_fitness_has_what_it_is_made_of() {
    let (place, said) = searched(SPACE);
    let tables = said.lines().filter(|line| line.contains("trial ") && line.contains(" fitness"));
    let tables: Vec<&str> = tables.collect();
    assert_eq!(tables.len(), 2, "tried and frontier:\n{said}");
    for table in tables {
        assert!(PARTS.iter().all(|part| table.contains(part)), "{table}");
    }
    assert!(said.contains("\n  of e2e_mean_ms "), "{said}");

    // The mean of a fitness over seeds is near that of the means.
    let all = ["fitness", PARTS[0], PARTS[1], PARTS[2]];
    for row in columns(&place.read("s/trials.csv"), &all) {
        assert!((row[0] - by_hand(&row[1..])).abs() < 0.05, "{row:?}");
    }
    for row in columns(&place.read("s/pareto.csv"), &all) {
        assert!((row[0] - by_hand(&row[1..])).abs() < 0.05, "{row:?}");
    }
    let pareto: Value = serde_json::from_str(&place.read("s/pareto.json")).expect("JSON");
    let document: Value =
        serde_json::from_str(&place.run("report s --json").expect(0).out).expect("JSON");
    for part in PARTS {
        assert!(pareto["points"][0]["figures"][part].is_f64(), "{pareto}");
        assert!(document["trials"][0]["figures"][part].is_f64(), "{document}");
    }
}

#[test]
fn a_comparison_of_studies_has_what_a_fitness_is_made_of() {
    let knobs = "  pools.default.instances: {int: [2, 4]}\n";
    let study =
        |name: &str, scheduler: &str| format!("  {name}: {{template.scheduler: {scheduler}}}\n");
    let two = format!("studies:\n{}{}", study("first", "fcfs"), study("second", "sjf"));
    assert!(SPACE.contains(knobs));
    let space =
        format!("{}{two}", SPACE.replace("  batching: {", "  scheduler: fcfs\n  batching: {"));
    let (place, _) = searched(&space);
    let text = place.read("s/comparison.txt");
    let csv = place.read("s/comparison.csv");
    for row in columns(&csv, &["fitness", PARTS[0], PARTS[1], PARTS[2]]) {
        assert!((row[0] - by_hand(&row[1..])).abs() < 0.05, "{row:?}");
    }
    assert!(PARTS.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn each_scenario_has_its_fitness_and_figures() {
    let scenarios = "scenarios:\n  calm: {weight: 9}\n  \
                     crowd: {weight: 1, burst: {at: 5s, for: 5s, factor: 3}}\n";
    let goal = "objective: {maximize: fitness@crowd, subject_to: [fitness@each >= 1], weights:";
    let space = SPACE.replace("objective: {maximize: fitness, weights:", goal) + scenarios;
    let (place, _) = searched(&space);
    let csv = place.read("s/trials.csv");
    let crowd = PARTS.map(|part| format!("{part}@crowd"));
    let names = ["fitness@crowd", &crowd[0], &crowd[1], &crowd[2]];
    for row in columns(&csv, &names) {
        assert!((row[0] - by_hand(&row[1..])).abs() < 0.05, "{row:?}");
    }
    for row in columns(&csv, &["fitness@each", "fitness@crowd", "fitness@calm"]) {
        assert!(row[0] <= row[1].min(row[2]) + 1e-9, "{row:?}");
    }
    let unweighted = SPACE.replace(", weights: \"p99_ttft:3,mean_e2e:1,throughput:2\"", "");
    let unweighted = unweighted.replace("maximize: fitness", "maximize: fitness@calm") + scenarios;
    place.write("bad.yaml", &unweighted);
    let told = place.run("check bad.yaml").expect(1).talk;
    assert!(told.contains("`fitness` needs weights"), "{told}");
}

#[test]
fn the_worked_example_of_the_readme_is_right() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("a file of the repository");
    let fitness = |ttft: f64, scale: f64| {
        let mut figures = Figures::default();
        for (name, value) in PARTS.into_iter().zip([ttft, 4000.0, 300.0]) {
            figures.set(name, value);
        }
        FitnessWeights::parse(WEIGHTS, scale).expect("weights").fitness(&figures)
    };
    assert!((fitness(250.0, 1000.0) - by_hand(&[250.0, 4000.0, 300.0])).abs() < 1e-12);
    let more = 100.0 * (fitness(155.0, 1000.0) / fitness(250.0, 1000.0) - 1.0);
    for text in [
        format!("= 2.4 + 0.2 + 1.5 = {:.1}", fitness(250.0, 1000.0)),
        format!("gives {:.4}, {more:.1} % more", fitness(155.0, 1000.0)),
        format!("have {:.4} and {:.4}", fitness(250.0, 1.0), fitness(155.0, 1.0)),
    ] {
        assert!(readme.contains(&text), "{text}");
    }
    assert!(readme.contains("of 155 ms, 38 % less"));
    assert!((0.375..0.385).contains(&(1.0 - 155.0 / 250.0)));
}
