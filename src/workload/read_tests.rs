//! What workload files say, and what is said about wrong ones.

use std::path::PathBuf;

use super::*;
use crate::base::Span;
use crate::config::{Defaults, Problems, Severity, parse};

const GOOD: &str = r#"
version: "2"
seed: 7
category: reasoning
aggregate_rate: 90.0
horizon: 60000000
num_requests: 500
clients:
  - id: chat
    tenant_id: acme
    slo_class: interactive
    rate_fraction: 2
    prefix_group: sys
    streaming: false
    network: {rtt_ms: 0, bandwidth_mbps: 0}
    arrival: {process: weibull, cv: 1.5}
    input_distribution: {type: lognormal, params: {mu: 5, sigma: 1, max: 4000}}
    output_distribution: {type: empirical, params: {16: 1, 64: 3}}
    lifecycle: {windows: [{start_us: 5000, end_us: 9000}, {start_us: 0, end_us: 6000}]}
    reasoning:
      reason_ratio_distribution: {type: constant, params: {value: 0}}
      multi_turn: {max_rounds: 3, think_time_us: 250000, context_growth: accumulate}
  - rate_fraction: 1
    slo_class: ""
    open_loop: true
    timeout: 0
    arrival: {process: gamma, shape: 2, scale: 16666.7}
    output_distribution: {type: constant, params: {value: 8}}
    multimodal:
      text_distribution: {type: exponential, params: {mean: 90}}
      image_distribution: {type: constant, params: {value: 576}}
      image_count_distribution: {type: gaussian, params: {mean: 1, std_dev: 1, min: 0, max: 3}}
"#;

const PRESET: &str = "preset: chatbot\nrate: 100\nnum_requests: 50\n";

const SHORT: &str = "
rate: 500
arrivals: constant
prompt_tokens: {mean: 100, std_dev: 10, min: 2, max: 700}
output_tokens: 64
prefix_tokens: 32
duration: 60s
slo_class: critical
";

const STAGES: &str = "
inference_perf:
  stages: [{rate: 10, duration: 30}, {rate: 40, duration: 10}]
  shared_prefix: {num_unique_system_prompts: 2, num_users_per_system_prompt: 3,
    system_prompt_len: 100, question_len: 20, output_len: 30}
";

fn read(text: &str) -> (Option<WorkloadSpec>, Problems) {
    let mut problems = Problems::new();
    let node = parse("workload.yaml", text, &mut problems).expect("valid YAML");
    let spec = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
    assert_eq!(spec.is_none(), problems.has_errors());
    (spec, problems)
}

fn good(text: &str) -> WorkloadSpec {
    let (spec, problems) = read(text);
    assert!(problems.is_empty(), "{:#?}", problems.list());
    spec.expect("there is no problem")
}

/// What is wrong with `text`, one line each.
fn wrong(text: &str) -> Vec<String> {
    let (_, problems) = read(text);
    let line = |p: &crate::config::Problem| format!("{}: {}", p.position.line, p.message);
    problems.list().iter().map(line).collect()
}

/// What is wrong once `from` in the good file is `to`.
fn wrong_with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let all = wrong(&GOOD.replacen(from, to, 1));
    all.iter().map(|line| line.split_once(": ").expect("a line").1).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_references_spec_reads_as_it_is() {
    let spec = good(GOOD);
    assert_eq!((spec.aggregate_rate, spec.seed, spec.num_requests), (90.0, Some(7), Some(500)));
    assert_eq!(spec.horizon, Some(Span::from_us(60_000_000)));
    let chat = &spec.clients[0];
    assert_eq!((chat.name.as_str(), chat.tenant.as_str()), ("chat", "acme"));
    assert_eq!(chat.arrivals, Arrivals::Weibull { cv: 1.5 });
    assert_eq!(chat.prefix, Some(Prefix { group: "sys".to_owned(), length: 50 }));
    let joined = Window::new(Span::ZERO, Span::from_us(9000));
    assert_eq!(chat.windows, [joined]);
    let sessions = chat.sessions.expect("multi_turn");
    assert_eq!((sessions.pacing, sessions.growth), (Pacing::Closed, Growth::Accumulate));
    assert_eq!(spec.clients[1].slo_class, "default");
    assert_eq!(spec.clients[1].arrivals, Arrivals::GammaGaps { shape: 2.0, scale_us: 16666.7 });
    let trace = generate(&spec, 1, spec.limits());
    assert_eq!(trace.len(), 500);
}

#[test]
fn short_forms_are_one_client() {
    let spec = good(SHORT);
    assert_eq!(spec.clients[0].arrivals, Arrivals::Constant { from_zero: true });
    assert_eq!(spec.clients[0].output, Lengths::Constant(64.0));
    assert_eq!(spec.clients[0].slo_class, "critical");
    assert_eq!(spec.horizon, Some(Span::from_secs(60.0)));
    assert_eq!(good("rate: 1\n"), WorkloadSpec::rate_mode(RateMode::default()));
    let chatbot = good(PRESET);
    assert_eq!(chatbot.clients[0].output, Lengths::gaussian(256.0, 100.0, 1.0, 1024.0));
    assert_eq!(chatbot.num_requests, Some(50));
    let gamma = good("rate: 1\narrivals: gamma\ncv: 2\n");
    assert_eq!(gamma.clients[0].arrivals, Arrivals::Gamma { cv: 2.0 });
}

#[test]
fn stages_of_inference_perf_keep_their_own_rates() {
    let spec = good(STAGES);
    assert_eq!(spec.clients.len(), 6);
    let trace = generate(&spec, 1, spec.limits());
    let stage = crate::base::SimTime::from_secs(30.0);
    let first = trace.arrival.iter().filter(|&&arrival| arrival < stage).count() as f64;
    let second = trace.len() as f64 - first;
    assert!((first - 300.0).abs() < 4.0 * 300.0_f64.sqrt(), "{first}");
    assert!((second - 400.0).abs() < 4.0 * 400.0_f64.sqrt(), "{second}");
    assert_eq!(trace.chains.len(), 2);
    assert!(trace.input.iter().all(|&input| input == 120));
    assert!((spec.offered_rate() - 40.0).abs() < 0.1);
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = GOOD
        .replace("aggregate_rate: 90.0", "aggregate_rate: -90")
        .replace("rate_fraction: 2", "rate_fraction: 0")
        .replace("cv: 1.5", "cv: .nan")
        .replace("end_us: 6000", "end_us: 0")
        .replace("prefix_group", "prefix_grop");
    assert_eq!(
        wrong(&text),
        [
            "5: `aggregate_rate` must be between 0 and 1000000, not `-90`",
            "12: `rate_fraction` must be between 0.000000001 and 1000000000, not `0`",
            "16: `cv` must be a finite number, not `.nan`",
            "19: this window is empty: it must end after its start",
            "13: unknown key `prefix_grop` in client `chat`",
        ]
    );
}

#[test]
fn wrong_values_are_named() {
    for (from, to, message) in [
        ("process: weibull", "process: wiebull", "`process` cannot be `wiebull`"),
        ("cv: 1.5", "cv: 11", "`cv` must be between 0.01 and 10.4, not `11`"),
        ("slo_class: interactive", "slo_class: urgent", "`slo_class` cannot be `urgent`"),
        ("max: 4000", "max: 3, min: 9", "no length lies between 9 and 3"),
        ("16: 1, 64: 3", "16: 0", "an empirical distribution needs a weight above 0"),
        ("16: 1, 64: 3", "many: 1", "`many` is not a length"),
        ("max_rounds: 3", "max_rounds: 0", "`max_rounds` must be between 1 and 100000, not `0`"),
        ("context_growth: accumulate", "context_growth: x", "`context_growth` cannot be `x`"),
    ] {
        assert_eq!(wrong_with(from, to), message);
    }
    assert_eq!(
        wrong_with("open_loop: true", "open_loop: true\n    closed_loop: true"),
        "`open_loop` and `closed_loop` contradict each other"
    );
    assert_eq!(wrong("clients: []\naggregate_rate: 1\n").len(), 1);
    assert_eq!(wrong("rate: .inf\n").len(), 1);
}

#[test]
fn what_is_not_available_yet_says_so() {
    assert_eq!(
        wrong_with(
            "type: empirical, params: {16: 1, 64: 3}",
            "type: empirical, file: x.csv, params: {16: 1}",
        ),
        "`file` in `output_distribution` is not available yet"
    );
    let servegen = "aggregate_rate: 1\nservegen_data: {path: x}\nclients: []\n";
    assert!(wrong(servegen)[0].contains("`servegen_data` is not available"));
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (from, to) in [
        ("streaming: false", "streaming: true"),
        ("rtt_ms: 0", "rtt_ms: 5"),
        ("timeout: 0", "prefix_length: 9"),
        ("timeout: 0", "timeout: 5"),
        ("timeout: 0", "slo_target_us: 5"),
        ("timeout: 0", "model: some-model"),
        ("timeout: 0", "adapter: some-adapter"),
        ("timeout: 0", "think_time_us: 5"),
        ("seed: 7", "seed: 7\ngoodput_slo_targets: {batch: {ttft_ms: 5}}"),
        ("shape: 2", "shape: 5"),
    ] {
        let (spec, problems) = read(&GOOD.replacen(from, to, 1));
        assert!(spec.is_some(), "{to}");
        assert_eq!(problems.list().len(), 1, "{to}");
        assert_eq!(problems.list()[0].severity, Severity::Warning);
    }
}

#[test]
fn a_horizon_before_the_first_arrival_is_refused() {
    let late = GOOD.replace("start_us: 0, end_us: 6000", "start_us: 4000, end_us: 6000");
    let one_client = &late[..late.find("  - rate_fraction: 1").expect("second client")];
    let wrong = wrong(&one_client.replace("horizon: 60000000", "horizon: 4000"));
    assert_eq!(wrong, ["6: `horizon` ends before the first arrival"]);
    assert_eq!(
        wrong_with("horizon: 60000000", "horizon: 0"),
        "`horizon` ends before the first arrival"
    );
    let (spec, _) = read(&one_client.replace("horizon: 60000000", "horizon: 9223372036854775807"));
    assert_eq!(spec.expect("no horizon").horizon, None);
}

#[test]
fn requests_that_outlast_the_clock_are_refused() {
    let wrong = wrong("rate: 0.001\nnum_requests: 100000\n");
    assert_eq!(wrong, ["2: 100000 requests take too long at this rate"]);
}

/// The folder of golden cases, where it exists.
fn golden_dir() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let dir = std::env::var_os("BLIS_OPT_GOLDEN_DIR").map_or(beside, PathBuf::from);
    dir.is_dir().then_some(dir)
}

#[test]
#[allow(clippy::print_stdout)]
fn workloads_of_the_golden_cases_read() {
    let Some(dir) = golden_dir() else {
        println!("skipped: no folder of golden cases (BLIS_OPT_GOLDEN_DIR)");
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path().join("workload.yaml")) else {
            continue;
        };
        let spec = good(&text);
        let trace = generate(&spec, 42, spec.limits());
        assert_eq!(Some(trace.len() as u64), spec.num_requests, "{:?}", entry.path());
        seen += 1;
    }
    assert!(seen > 0, "the folder has cases");
}

/// Values that readers have stumbled over elsewhere.
const ODD: [&str; 16] = [
    "-1",
    "0",
    "1e308",
    "-1e308",
    ".nan",
    ".inf",
    "9223372036854775807",
    "1e-300",
    "''",
    "[]",
    "{}",
    "null",
    "true",
    "gamma",
    "constant",
    "16777217",
];

/// `text` with the `n`th value replaced.
fn mutated(text: &str, n: usize, value: &str) -> String {
    let spots: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
    let at = spots[n % spots.len()];
    let end = text[at..].find([',', '}', '\n']).map_or(text.len(), |length| at + length);
    format!("{}{value}{}", &text[..at], &text[end..])
}

proptest::proptest! {
    #[test]
    fn no_file_makes_the_reader_or_the_generator_panic(
        file in 0..4_usize,
        changes in proptest::collection::vec((0..100_usize, 0..ODD.len()), 1..4),
    ) {
        let mut text = [GOOD, SHORT, STAGES, PRESET][file].to_owned();
        for (n, odd) in changes {
            text = mutated(&text, n, ODD[odd]);
        }
        let mut problems = Problems::new();
        if let Some(node) = parse("workload.yaml", &text, &mut problems)
            && let Some(spec) = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems)
        {
            let offered = spec.offered();
            proptest::prop_assert!(offered.requests_per_s > 0.0 && offered.requests_per_s < 1e12);
            let few = Limits { max_requests: Some(20), ..Limits::default() };
            proptest::prop_assert!(generate(&spec, 1, few.or(spec.limits())).len() <= 20);
        }
    }
}
