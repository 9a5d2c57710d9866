//! Whatever a file says, the answer is a message, never a panic.

use std::path::Path;

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::read_bundle;
use blis_opt::scenario::{FAULTS_MAX, FleetNames, Setting, read_scenario};
use blis_opt::search::propose::Sight;
use blis_opt::search::{Foresight, ProposerKind, read_space};
use blis_opt::workload::{Burst, WorkloadSpec};
use proptest::prelude::*;

/// What a bundle's text is answered with.
fn answer(text: &str) -> String {
    let mut problems = Problems::new();
    if let Some(node) = parse("policy.yaml", text, &mut problems) {
        let syntax_errors = problems.errors();
        let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
        let refused = problems.errors() > syntax_errors;
        assert_eq!(bundle.is_none(), refused, "{}", problems.render(false));
    }
    problems.render(false)
}

/// What a search space's text is answered with; whole candidates of a space that is accepted
/// make bundles, or a reason why not.
fn answer_to_space(text: &str) -> String {
    let mut problems = Problems::new();
    let absent = |path: &str| Err(format!("there is no file `{path}`"));
    let defaults = Defaults::embedded();
    let found = read_space(("space.yaml", text), defaults, &absent, &mut problems);
    assert_eq!(found.is_none(), problems.has_errors(), "{}", problems.render(false));
    if let Some(found) = found {
        let proposer = ProposerKind::Random.proposer();
        let foresight = Foresight::none();
        let sight = Sight { space: &found.space, history: &[], batch: 0, foresight };
        for proposal in sight.next_batch(proposer.as_ref()) {
            if let Ok(tree) = found.template.apply(&found.space, &proposal.candidate) {
                read_bundle(&tree, defaults, &mut Problems::new());
            }
        }
    }
    problems.render(false)
}

/// What a scenario's text is answered with; one that is accepted can be played.
fn answer_to_scenario(text: &str) -> String {
    let mut problems = Problems::new();
    let zones = vec!["zone-a".to_owned(), "zone-b".to_owned()];
    let pools = vec!["default".to_owned()];
    let fleet = FleetNames { pools, zones: zones.clone(), has_spot: true };
    if let Some(node) = parse("scenario.yaml", text, &mut problems) {
        let before = problems.errors();
        let read = read_scenario(&node, "the scenario", Some(&fleet), &mut problems);
        assert_eq!(read.is_none(), problems.errors() > before, "{}", problems.render(false));
        let (peak, end) = (SimTime::from_secs(43_200.0), SimTime::from_secs(86_400.0));
        let run = Setting { peak, end, pools: vec![(3, 2)], zones };
        if let Some(scenario) = read.filter(|read| read.faults_expected(&run) <= FAULTS_MAX) {
            let conditions = scenario.conditions(7, &run);
            assert!(conditions.faults.is_sorted_by_key(|fault| fault.at));
            assert!(conditions.faults.iter().all(|fault| fault.at <= SimTime::LAST));
        }
    }
    problems.render(false)
}

/// What a workload's text is answered with; one that is accepted has a peak and bears a burst.
fn answer_to_workload(text: &str) -> String {
    let mut problems = Problems::new();
    if let Some(node) = parse("workload.yaml", text, &mut problems) {
        let before = problems.errors();
        let read = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
        assert_eq!(read.is_none(), problems.errors() > before, "{}", problems.render(false));
        if let Some(spec) = read {
            let day = Span::from_secs(86_400.0);
            let at = spec.peak_time(day);
            assert!(at <= day, "{at:?}");
            let burst = Burst { at, duration: Span::from_secs(60.0), factor: 3.0 };
            if let Ok(spec) = spec.with_burst(burst) {
                spec.peak_time(day);
            }
        }
    }
    problems.render(false)
}

const WORKLOAD: &str = "\
rate: 5
slo_class: interactive
slo: {interactive: {ttft: 500ms, tpot: 50ms, e2e: 30s}}
profile:
  diurnal: {peak_hour: 14, peak_to_trough_ratio: 4}
  spikes: [{at: 10h, duration: 15m, factor: 3}]
  period: 24h
";

fn samples(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::fs::read_dir(root.join(folder)).expect("in the repository");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect()
}

/// One thing that happens to a text.
#[derive(Clone, Debug)]
enum Mutation {
    DeleteLine(usize),
    DuplicateLine(usize),
    SwapLines(usize, usize),
    Indent(usize, usize),
    ReplaceToken(usize, String),
    InsertBytes(usize, Vec<u8>),
    Cut(usize),
    Nest(usize, usize),
}

fn junk() -> impl Strategy<Value = String> {
    let numbers = [
        "-1",
        "0",
        "-0.0",
        "1e308",
        "1e999",
        "-1e999",
        ".nan",
        "NaN",
        ".inf",
        "-.inf",
        "0x7f",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775808",
        "1e-320",
        "0755",
        "1_000",
        "0.1.2",
    ];
    let structures = [
        "",
        "~",
        "null",
        "true",
        "[]",
        "{}",
        "[1, 2",
        "{a: 1",
        "'",
        "\"",
        "&a",
        "*a",
        "!!int x",
        "<<: *a",
        "? a",
        "|",
        ">",
        "---",
        "...",
        "%YAML 9",
        "- -",
        ": :",
        "#",
        "@",
        "`",
        "\t",
        "name: queue-depth",
        "[[[[[[[[]]]]]]]]",
        "{a: {b: {c: {}}}}",
        "999999999999h",
        "5m",
        "-5s",
    ];
    prop_oneof![
        proptest::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        proptest::sample::select(structures.to_vec()).prop_map(str::to_owned),
        any::<String>(),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
    ]
}

fn mutations() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = any::<usize>;
    prop_oneof![
        2 => at().prop_map(DeleteLine),
        2 => at().prop_map(DuplicateLine),
        2 => (at(), at()).prop_map(|(a, b)| SwapLines(a, b)),
        2 => (at(), 0..7usize).prop_map(|(line, by)| Indent(line, by)),
        8 => (at(), junk()).prop_map(|(token, junk)| ReplaceToken(token, junk)),
        1 => (at(), any::<Vec<u8>>()).prop_map(|(byte, bytes)| InsertBytes(byte, bytes)),
        1 => at().prop_map(Cut),
        1 => (at(), 0..5_000usize).prop_map(|(line, depth)| Nest(line, depth)),
    ]
}

impl Mutation {
    fn apply(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let count = lines.len().max(1);
        if lines.is_empty() {
            lines.push(String::new());
        }
        match self {
            Self::DeleteLine(line) => drop(lines.remove(line % count)),
            Self::DuplicateLine(line) => lines.insert(line % count, lines[line % count].clone()),
            Self::SwapLines(a, b) => lines.swap(a % count, b % count),
            Self::Indent(line, by) => lines[line % count].insert_str(0, &" ".repeat(*by)),
            Self::ReplaceToken(token, junk) => return replace_token(text, *token, junk),
            Self::InsertBytes(byte, bytes) => return insert_bytes(text, *byte, bytes),
            Self::Cut(byte) => {
                let end = byte % (text.len() + 1);
                return String::from_utf8_lossy(&text.as_bytes()[..end]).into_owned();
            }
            Self::Nest(line, depth) => {
                let opening = if depth % 2 == 0 { "[" } else { "{a: " };
                lines[line % count].push_str(&opening.repeat(*depth));
            }
        }
        lines.join("\n")
    }
}

fn replace_token(text: &str, token: usize, junk: &str) -> String {
    let is_separator = |c: char| c.is_whitespace() || ",:{}[]".contains(c);
    let tokens: Vec<&str> = text.split(is_separator).filter(|token| !token.is_empty()).collect();
    let Some(token) = tokens.get(token % tokens.len().max(1)) else { return junk.to_owned() };
    let start = token.as_ptr() as usize - text.as_ptr() as usize;
    format!("{}{junk}{}", &text[..start], &text[start + token.len()..])
}

fn insert_bytes(text: &str, at: usize, bytes: &[u8]) -> String {
    let at = at % (text.len() + 1);
    let (before, after) = text.as_bytes().split_at(at);
    String::from_utf8_lossy(&[before, bytes, after].concat()).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_mutated_sample_is_answered_without_panic(
        sample in proptest::sample::select(samples("policies")),
        mutations in proptest::collection::vec(mutations(), 1..6),
    ) {
        let text = mutations.iter().fold(sample, |text, mutation| mutation.apply(&text));
        let answer = answer(&text);
        prop_assert!(answer.is_empty() || answer.contains("error:") || answer.contains("warning:"));
    }

    #[test]
    fn a_mutated_search_space_is_answered_without_panic(
        sample in proptest::sample::select(samples("search-spaces")),
        mutations in proptest::collection::vec(mutations(), 1..6),
    ) {
        let text = mutations.iter().fold(sample, |text, mutation| mutation.apply(&text));
        answer_to_space(&text);
    }

    #[test]
    fn a_mutated_scenario_is_answered_without_panic(
        sample in proptest::sample::select(samples("tests/data/scenarios")),
        mutations in proptest::collection::vec(mutations(), 1..6),
    ) {
        let text = mutations.iter().fold(sample, |text, mutation| mutation.apply(&text));
        answer_to_scenario(&text);
    }

    #[test]
    fn a_mutated_workload_is_answered_without_panic(
        mutations in proptest::collection::vec(mutations(), 1..6),
    ) {
        let text = mutations.iter().fold(WORKLOAD.to_owned(), |text, m| m.apply(&text));
        answer_to_workload(&text);
    }

    #[test]
    fn mutated_defaults_are_answered_without_panic(
        mutations in proptest::collection::vec(mutations(), 1..6),
    ) {
        let whole = include_str!("../defaults.yaml");
        let start: String = whole.split_inclusive('\n').take(150).collect();
        let text = mutations.iter().fold(start, |text, mutation| mutation.apply(&text));
        let mut problems = Problems::new();
        let defaults = Defaults::read("mine.yaml", &text, &mut problems);
        prop_assert_eq!(defaults.is_none(), problems.has_errors());
        problems.render(false);
    }

    #[test]
    fn any_text_is_answered_without_panic(text in any::<String>()) {
        answer(&text);
    }
}

#[test]
fn the_smallest_integer_as_the_end_of_a_range_is_refused() {
    let text = samples("search-spaces").concat();
    assert!(text.contains("{int: [4, 32]}"));
    for sample in samples("search-spaces") {
        let answer = answer_to_space(&sample.replace("[4, 32]", "[-9223372036854775808, 32]"));
        assert!(!sample.contains("[4, 32]") || answer.contains("error:"), "{answer}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let expected = "\
error: unknown key `polcy` in `routing`
 --> policy.yaml:2:3
  |
2 |   polcy: weighted
  |   ^ unknown key
hint: did you mean `policy`?

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("routing:\n  polcy: weighted\n"), expected);
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let expected = "\
error: `scheduler` cannot be `fcsf`
 --> policy.yaml:1:12
  |
1 | scheduler: fcsf
  |            ^ one of `fcfs`, `priority-fcfs`, `sjf`, `reverse-priority`
hint: did you mean `fcfs`?

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("scheduler: fcsf\n"), expected);
}

#[test]
fn a_wrong_type_says_what_is_there_and_what_should_be() {
    let expected = "\
error: `instances` must be a whole number, not text
 --> policy.yaml:3:16
  |
3 |     instances: many
  |                ^ this is text

error: `model` must be text, not a whole number
 --> policy.yaml:4:12
  |
4 |     model: 8
  |            ^ this is a whole number
hint: put it in quotes: \"8\"

2 problems in 1 file; nothing was simulated
";
    let text = "pools:\n  default:\n    instances: many\n    model: 8\n";
    let mut found: Vec<String> = answer(text).split("\n\n").map(str::to_owned).collect();
    let mut wanted: Vec<String> = expected.split("\n\n").map(str::to_owned).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn a_duplicate_key_points_at_both() {
    let expected = "\
error: key `scheduler` appears twice
 --> policy.yaml:3:1
  |
3 | scheduler: sjf
  | ^ also on line 1
hint: keep one of the two

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("scheduler: fcfs\nrouting: {}\nscheduler: sjf\n"), expected);
}

#[test]
fn not_a_number_is_refused() {
    let expected = "\
error: `weight` must be a finite number, not `.nan`
 --> policy.yaml:4:35
  |
4 |     - {name: queue-depth, weight: .nan}
  |                                   ^ this is not a number

1 problem in 1 file; nothing was simulated
";
    let text =
        "routing:\n  policy: weighted\n  scorers:\n    - {name: queue-depth, weight: .nan}\n";
    assert_eq!(answer(text), expected);
}

#[test]
fn a_negative_rate_is_refused() {
    let expected = "\
error: `token_bucket_refill_rate` must be above 0 and at most 1000000000000, not `-5`
 --> policy.yaml:3:29
  |
3 |   token_bucket_refill_rate: -5
  |                             ^ out of range

1 problem in 1 file; nothing was simulated
";
    let text = "admission:\n  policy: token-bucket\n  token_bucket_refill_rate: -5\n";
    assert_eq!(answer(text), expected);
}

#[test]
fn weights_that_are_all_zero_are_refused() {
    let expected = "\
error: the weights of all scorers are zero
 --> policy.yaml:4:5
  |
4 |     - {name: queue-depth, weight: 0}
  |     ^ nothing is scored
hint: give at least one scorer a weight above 0

1 problem in 1 file; nothing was simulated
";
    let text = "routing:\n  policy: weighted\n  scorers:\n    - {name: queue-depth, weight: 0}\n";
    assert_eq!(answer(text), expected);
}

#[test]
fn an_empty_list_is_refused_where_numbers_are_needed() {
    let expected = "\
error: `alpha` needs 3 numbers, not 0
 --> policy.yaml:3:12
  |
3 |     alpha: []
  |            ^ three coefficients

1 problem in 1 file; nothing was simulated
";
    let text = "pools:\n  default:\n    alpha: []\n    beta: [1, 2, 3]\n";
    assert_eq!(answer(text), expected);
}

#[test]
fn a_model_that_nobody_knows_names_the_nearest() {
    let expected = "\
error: no coefficients for model `llama-3.1-8b-instrukt`
 --> policy.yaml:1:23
  |
1 | pools: {main: {model: llama-3.1-8b-instrukt}}
  |                       ^ not in the table
hint: did you mean `meta-llama/llama-3.1-8b-instruct`?

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("pools: {main: {model: llama-3.1-8b-instrukt}}\n"), expected);
}

#[test]
fn a_start_above_its_bound_names_both() {
    let expected = "\
error: `instances` must not be above `max_instances`
 --> policy.yaml:1:42
  |
1 | pools: {a: {instances: 8, max_instances: 4}}
  |                                          ^ 8 is above 4

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("pools: {a: {instances: 8, max_instances: 4}}\n"), expected);
}

#[test]
fn a_start_that_nobody_measured_names_the_nearest() {
    let expected = "\
error: no start-up is known as `vllm-smal`
 --> policy.yaml:1:23
  |
1 | pools: {a: {start_up: vllm-smal}}
  |                       ^ not in the defaults
hint: did you mean `vllm-small`?

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("pools: {a: {start_up: vllm-smal}}\n"), expected);
}

#[test]
fn a_signal_that_does_not_exist_names_the_nearest() {
    let expected = "\
error: `signal` cannot be `ttft_p99`
 --> policy.yaml:3:23
  |
3 |   scale_up: [{signal: ttft_p99, above: 300}]
  |                       ^ one of `waiting`, `waiting_per_instance`, `running`, \
`running_per_instance`, `in_flight`, `in_flight_per_instance`, `in_flight_tokens`, \
`in_flight_tokens_per_instance`, `kv_utilization`, `ttft_p50_ms`, `ttft_p95_ms`, `ttft_p99_ms`, \
`tpot_p50_ms`, `tpot_p99_ms`, `e2e_p50_ms`, `e2e_p99_ms`, `arrival_rate`, \
`arrival_rate_per_instance`, `busy_fraction`, `token_utilization`, `prompt_tokens_mean`, \
`output_tokens_mean`
hint: did you mean `ttft_p99_ms`?

1 problem in 1 file; nothing was simulated
";
    let text = "autoscaling:\n  policy: none\n  scale_up: [{signal: ttft_p99, above: 300}]\n";
    assert_eq!(answer(text), expected);
}

#[test]
fn a_delay_the_wrong_way_round_is_turned_in_the_hint() {
    let expected = "\
error: `uniform` is empty: low must not be above high
 --> scenario.yaml:1:31
  |
1 | recovery: {restart: {uniform: [90s, 30s]}}
  |                               ^ low is 90s, high is 30s
hint: write `uniform: [30s, 90s]`

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer_to_scenario("recovery: {restart: {uniform: [90s, 30s]}}\n"), expected);
}

#[test]
fn a_zone_that_no_pool_has_names_the_nearest() {
    let expected = "\
error: no pool has the zone `zone-x`
 --> scenario.yaml:1:41
  |
1 | faults: [{zone_outage: {at: peak, zone: zone-x, for: 30m}}]
  |                                         ^
hint: did you mean `zone-a`?

1 problem in 1 file; nothing was simulated
";
    let text = "faults: [{zone_outage: {at: peak, zone: zone-x, for: 30m}}]\n";
    assert_eq!(answer_to_scenario(text), expected);
}

#[test]
fn a_promise_to_nobody_names_the_nearest_class() {
    let expected = "\
error: no request has the class `interactve`
 --> workload.yaml:3:7
  |
3 | slo: {interactve: {ttft: 500ms}}
  |       ^ unknown class
hint: did you mean `interactive`?

1 problem in 1 file; nothing was simulated
";
    let text = "rate: 5\nslo_class: interactive\nslo: {interactve: {ttft: 500ms}}\n";
    assert_eq!(answer_to_workload(text), expected);
}

#[test]
fn an_empty_file_and_an_unfinished_one_have_a_place_too() {
    let empty = "\
error: the policy bundle is empty
 --> policy.yaml:1:1

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer(""), empty);
    let unfinished = "\
error: not valid YAML: unclosed bracket '['
 --> policy.yaml:1:4
  |
1 | a: [1, 2
  |    ^ here

1 problem in 1 file; nothing was simulated
";
    assert_eq!(answer("a: [1, 2\n"), unfinished);
}
