//! Scenarios from end to end: what the documentation shows is accepted, and what a run makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blis_opt::config::{Defaults, Node, Problems, parse};
use blis_opt::policy::read_bundle;
use blis_opt::scenario::read_scenario;
use serde_json::Value;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The YAML blocks of the README between two headings.
fn blocks(from: &str, to: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("readable");
    let start = text.find(&format!("\n{from}\n")).expect("the first heading");
    let section = &text[start..];
    let end = section.find(&format!("\n{to}\n")).expect("the second heading");
    let parts = section[..end].split("```yaml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

fn accepted(text: &str, read: impl FnOnce(&Node, &mut Problems) -> bool) {
    let mut problems = Problems::new();
    let node = parse("README.md", text, &mut problems).expect("valid YAML");
    assert!(read(&node, &mut problems) && problems.is_empty(), "{}", problems.render(false));
}

#[test]
fn what_the_readme_shows_is_accepted_without_a_warning() {
    let scenarios = blocks("### Scenario", "### Search space");
    assert_eq!(scenarios.len(), 5);
    for text in scenarios {
        accepted(&text, |node, problems| {
            read_scenario(node, "the scenario", None, problems).is_some()
        });
    }
    let bundles = blocks("### Policy bundle", "### Workload");
    assert_eq!(bundles.len(), 2);
    accepted(&bundles.concat(), |node, problems| {
        read_bundle(node, Defaults::embedded(), problems).is_some()
    });
}

/// The program in a folder of its own with a policy, a workload and scenarios.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        let pool = "model: meta-llama/llama-3.1-8b-instruct, instances: 3";
        place.write("fixed.yaml", &format!("pools: {{default: {{{pool}}}}}\n"));
        place.write(
            "scaling.yaml",
            &format!(
                "pools: {{default: {{{pool}, min_instances: 1, max_instances: 6}}}}\n\
                 autoscaling: {{policy: thresholds, scale_up: [{{signal: waiting, above: 9}}]}}\n"
            ),
        );
        place.write(
            "load.yaml",
            "{rate: 20, duration: 10m, prompt_tokens: 99, output_tokens: 99}\n",
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a written file");
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blis-opt"));
        command.env_clear().current_dir(self.0.path()).args(arguments.split_whitespace());
        command.output().expect("the program runs")
    }

    /// The document of a run that ended well.
    fn json(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --json"));
        assert!(output.status.success(), "{}", talk(&output));
        serde_json::from_slice(&output.stdout).expect("one document")
    }

    /// What is said of a command line or of files that cannot be used.
    fn refused(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", talk(&output));
        talk(&output)
    }
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Requests injected and completed.
fn counts(document: &Value) -> (u64, u64) {
    let count = |name: &str| document["runs"][0]["counts"][name].as_u64().expect("a count");
    (count("injected"), count("completed"))
}

#[test]
fn a_lost_zone_loses_requests_unless_clients_come_again() {
    let place = Place::new();
    let outage = "faults: [{zone_outage: {at: peak, zone: zone-a, for: 1m}}]\n\
                  recovery: {detection: 2s}\n";
    place.write("lost.yaml", &format!("{outage}clients: {{retries: 0}}\n"));
    place.write("again.yaml", outage);
    let calm = counts(&place.json("run fixed.yaml -w load.yaml"));
    let lost = counts(&place.json("run fixed.yaml -w load.yaml --scenario lost.yaml"));
    let again = counts(&place.json("run fixed.yaml -w load.yaml --scenario again.yaml"));
    assert_eq!(calm.0, calm.1);
    assert_eq!((lost.0, again.0), (calm.0, calm.0), "the same requests arrive");
    let missing = lost.0 - lost.1;
    assert!((20..120).contains(&missing), "{missing}: those of 2 s at 20/s, and those under way");
    assert_eq!(again.0, again.1, "they are tried again after the 2 s");
}

#[test]
fn a_burst_brings_its_share_of_requests() {
    let place = Place::new();
    place.write("burst.yaml", "burst: {at: \"50%\", for: 100s, factor: 3}\n");
    let calm = counts(&place.json("run fixed.yaml -w load.yaml")).0;
    let burst = counts(&place.json("run fixed.yaml -w load.yaml --scenario burst.yaml")).0;
    let more = burst - calm;
    assert!((3700..4300).contains(&more), "{more} for 2 * 20/s * 100 s");
}

#[test]
fn a_fleet_that_changes_is_looked_at_for_an_hour_and_measured_whole() {
    let place = Place::new();
    place.write("calm.yaml", "clients: {}\n");
    let length = |arguments: &str| {
        let document = place.json(arguments);
        let warm_up = document["warm_up_s"].as_f64().expect("a number");
        (document["runs"][0]["window_s"].as_f64().expect("a number"), warm_up)
    };
    assert_eq!(length("run fixed.yaml --rate 1 --scenario calm.yaml"), (3600.0, 0.0));
    assert_eq!(length("run scaling.yaml --rate 1"), (3600.0, 0.0));
    assert_eq!(length("run scaling.yaml --rate 1 --warm-up 600s"), (3000.0, 600.0));
    let (window, warm_up) = length("run scaling.yaml --rate 1 --duration 5m");
    assert!(warm_up > 0.0 && (window + warm_up - 300.0).abs() < 1e-6, "{window} {warm_up}");
    assert!(length("run fixed.yaml --rate 1").0 < 600.0);
}

#[test]
fn a_fixed_number_of_instances_overrides_autoscaling() {
    let place = Place::new();
    let document = place.json("run scaling.yaml --rate 5 --instances 2");
    assert_eq!(document["runs"][0]["instances"].as_array().map(Vec::len), Some(2));
    assert!(document["runs"][0]["window_s"].as_f64().is_some_and(|window| window < 600.0));
}

#[test]
fn promises_of_the_command_line_are_for_all() {
    let place = Place::new();
    place.json("run fixed.yaml -w load.yaml --slo ttft=500ms,tpot=50ms --timeline 1m");
    let said = place.refused("run fixed.yaml --rate 5 --slo ttfft=500ms", 2);
    assert!(said.contains("`ttfft` is none of `ttft`, `tpot` and `e2e`"), "{said}");
    let said = place.refused("run fixed.yaml --rate 5 --slo ttft=0s", 2);
    assert!(said.contains("must be longer than zero"), "{said}");
}

#[test]
fn what_a_scenario_cannot_do_here_is_said() {
    let place = Place::new();
    place.write("zone.yaml", "faults: [{zone_outage: {at: 1m, zone: zone-b, for: 1m}}]\n");
    let said = place.refused("run fixed.yaml -w load.yaml --scenario zone.yaml", 1);
    assert!(said.contains("no pool has the zone `zone-b`"), "{said}");
    assert!(said.contains("did you mean `zone-a`?"), "{said}");

    place.write("often.yaml", "random: {crashes: {mtbf_gpu_hours: 0.01}}\n");
    let arguments = "run scaling.yaml --rate 1 --duration 50d --scenario often.yaml";
    assert!(place.refused(arguments, 1).contains("faults would strike by chance"));

    place.write("late.yaml", "faults: [{crash: {at: 2h}}]\n");
    let late = place.run("run fixed.yaml -w load.yaml --scenario late.yaml");
    let warned = "1 fault of the scenario strikes after the end of arrivals at 600 s";
    assert!(late.status.success() && talk(&late).contains(warned), "{}", talk(&late));

    let lengths = "input_distribution: {type: constant, params: {value: 9}}, \
                   output_distribution: {type: constant, params: {value: 9}}";
    let users = format!("horizon: 1m\nclients: [{{concurrency: 3, {lengths}}}]\n");
    place.write("users.yaml", &users);
    place.write("burst.yaml", "burst: {at: peak, for: 10s, factor: 3}\n");
    let said = place.refused("run fixed.yaml -w users.yaml --scenario burst.yaml", 1);
    assert!(said.contains("users of closed loops have no rate"), "{said}");

    let said = place.refused("run fixed.yaml -w load.yaml --timeline 1ms", 2);
    assert!(said.contains("at most 20000 intervals"), "{said}");
}

#[test]
fn check_knows_scenarios_by_their_keys() {
    let place = Place::new();
    place.write("clients.yaml", "clients: {retries: 1}\n");
    place.write("weight.yaml", "{weight: 2, cold_start: true}\n");
    let checked = place.run("check clients.yaml weight.yaml load.yaml scaling.yaml");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let expected = "clients.yaml: scenario, nothing to complain about\n\
                    weight.yaml: scenario, nothing to complain about\n\
                    load.yaml: workload, nothing to complain about\n\
                    scaling.yaml: policy bundle, nothing to complain about\n";
    assert_eq!(said, expected);
    let samples =
        std::fs::read_dir(root().join("tests/data/scenarios")).expect("in the repository");
    for sample in samples {
        let path = sample.expect("readable").path();
        let checked = place.run(&format!("check {}", path.display()));
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.ends_with(": scenario, nothing to complain about\n"), "{said}");
    }
}
