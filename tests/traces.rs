//! Trace files as workloads.
//!
//! Small files in the real formats are in `tests/data/traces`. The real traces are in the folder
//! named by `BLIS_OPT_TRACES_DIR`, by default `../shared/traces`; where it is absent the test says
//! so and passes.

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::search::Evaluator;
use blis_opt::search::read::{SourceRole, SpaceFile, open_beside, read_space};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate, simulate_drawn};
use blis_opt::workload::{NO_CHAIN, Trace, WorkloadSpec, generate};
use std::io::Write;
use std::path::{Path, PathBuf};

fn data(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces").join(file);
    path.to_string_lossy().into_owned()
}

/// Reads a workload; files are relative to the folder of `home`.
fn read_in(home: &str, text: &str) -> (Option<WorkloadSpec>, Problems) {
    let mut problems = Problems::new();
    let node = parse(home, text, &mut problems).expect("valid YAML");
    let open = |named: &str| open_beside(home, named);
    let spec = WorkloadSpec::read_with(&node, Defaults::embedded(), &open, &mut problems);
    (spec, problems)
}

/// Reads a workload whose files are the small ones.
fn read(text: &str) -> (Option<WorkloadSpec>, Problems) {
    read_in(&data("workload.yaml"), text)
}

pub(crate) fn good(text: &str) -> WorkloadSpec {
    let (spec, problems) = read(text);
    assert!(problems.is_empty(), "{:#?}", problems.list());
    spec.expect("there is no problem")
}

/// What is said about `text`: file, line and message of each problem.
pub(crate) fn said(text: &str) -> Vec<String> {
    let (_, problems) = read(text);
    let name = |file: &str| Path::new(file).file_name().map(|n| n.to_string_lossy().into_owned());
    let line = |p: &blis_opt::config::Problem| {
        format!("{}:{}: {}", name(&p.file).unwrap_or_default(), p.position.line, p.message)
    };
    problems.list().iter().map(line).collect()
}

pub(crate) fn all(spec: &WorkloadSpec, seed: u64) -> Trace {
    generate(spec, seed, spec.limits())
}

pub(crate) fn arrivals_us(trace: &Trace) -> Vec<u64> {
    trace.arrival.iter().map(|time| time.as_us()).collect()
}

pub(crate) fn bundle(instances: u32, rest: &str) -> PolicyBundle {
    let text = format!(
        "pools:\n  default:\n    model: meta-llama/llama-3.1-8b-instruct\n    gpu: H100\n    \
         tensor_parallelism: 2\n    instances: {instances}\n{rest}"
    );
    let mut problems = Problems::new();
    let node = parse("bundle.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    bundle.unwrap_or_else(|| panic!("{:#?}", problems.list()))
}

pub(crate) fn options() -> RunOptions {
    RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    }
}

pub(crate) fn run(bundle: &PolicyBundle, trace: &Trace) -> Outcome {
    simulate(bundle, trace, &options(), &mut Scratch::default())
}

pub(crate) fn assert_near(count: f64, expected: f64, what: &str) {
    assert!((count - expected).abs() < 4.0 * expected.sqrt() + 1e-9, "{what}: {count} {expected}");
}

pub(crate) const TWO: &str = "
aggregate_rate: 4
horizon: 6h
clients:
  - {id: a, rate_fraction: 1, arrival: {process: gamma, cv: 2},
     input_distribution: {type: constant, params: {value: 10}},
     output_distribution: {type: exponential, params: {mean: 20}}}
  - {id: b, rate_fraction: 1, arrival: {process: poisson},PROFILE
     input_distribution: {type: exponential, params: {mean: 50}},
     output_distribution: {type: constant, params: {value: 5}}}
";

// Files of requests

#[test]
fn azure_counts_from_its_first_request() {
    let spec = good("trace: {file: azure.csv}\n");
    let trace = all(&spec, 1);
    assert_eq!(arrivals_us(&trace), [0, 4_314_579, 4_541_877, 60_000_000]);
    assert_eq!(trace.input, [374, 396, 879, 91]);
    assert_eq!(trace.output, [44, 109, 55, 16]);
    assert_eq!(trace.end, SimTime::from_us(60_000_001));
    assert_eq!(trace.classes, ["default"]);
    let offered = spec.offered();
    assert!((offered.requests_per_s_mean - 4.0 / 60.0).abs() < 1e-6);
    assert!((offered.input_tokens_mean - 435.0).abs() < 1e-9);
}

#[test]
fn blis_traces_arrive_when_they_were_sent_and_share_prefixes() {
    let spec = good("trace: {file: blis-v2.csv, header: blis-v2.yaml}\n");
    let trace = all(&spec, 1);
    assert_eq!(arrivals_us(&trace), [1010, 2000, 500_020, 600_000]);
    assert_eq!(trace.input, [164, 300, 284, 154], "the prefix counts");
    assert_eq!(
        (&trace.chain[..], &trace.shared[..]),
        (&[0, NO_CHAIN, 0, 0][..], &[64, 0, 64, 64][..])
    );
    assert_eq!((trace.classes.len(), trace.tenants.len(), trace.clients.len()), (2, 1, 2));
    let text = "trace: {file: blis-v2.csv, think_time: 2s, context_growth: accumulate}\n";
    let trace = all(&good(text), 1);
    let never = SimTime::NEVER.as_us();
    assert_eq!(arrivals_us(&trace), [1010, never, 2000, 600_000]);
    assert_eq!(trace.clients[0].think_time, Span::from_secs(2.0));
    assert_eq!(trace.chain[0], trace.chain[1]);
    assert_ne!(trace.chain[0], trace.chain[3]);
    assert_eq!(trace.shared[0], u32::MAX);
    let chain = trace.chains[trace.chain[0] as usize];
    assert_eq!(chain.start, 64, "behind the prefix of the group");
}

#[test]
fn plain_csv_is_sorted_with_a_warning() {
    let text = "trace: {file: plain.csv, slo_class: standard}\n";
    let said = said(text);
    assert_eq!(
        said,
        [
            "plain.csv:4: 1 rows are earlier than the row before them",
            "plain.csv:6: 1 rows have a prompt or an answer without tokens",
        ]
    );
    let trace = all(&read(text).0.expect("only warnings"), 1);
    assert_eq!(arrivals_us(&trace), [500_000, 1_250_000, 2_000_000, 2_500_000, 3_000_000]);
    assert_eq!(trace.input, [10, 30, 20, 55, 1]);
    let class = |i: usize| {
        trace.classes[usize::from(trace.clients[trace.client[i].index()].class)].as_str()
    };
    assert_eq!([class(0), class(1), class(2)], ["interactive", "batch", "standard"]);
}

#[test]
fn a_slice_is_cut_and_its_clock_stretched() {
    let text = "trace: {file: azure.csv, start: 4s, duration: 1m, time_scale: 0.5}\n";
    let spec = good(text);
    let trace = all(&spec, 1);
    assert_eq!(arrivals_us(&trace), [157_290, 270_939, 28_000_000]);
    assert_eq!((spec.horizon, trace.end), (Some(Span::from_secs(30.0)), SimTime::from_secs(30.0)));
    let empty = "trace: {file: azure.csv, start: 2m}\n";
    assert_eq!(said(empty), ["workload.yaml:1: no request of `azure.csv` lies in this slice"]);
}

/// A trace of `rows` requests, four a second, in a temporary folder.
fn long_csv(rows: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut file = flate2::write::GzEncoder::new(
        std::fs::File::create(folder.path().join("long.csv.gz")).expect("a file"),
        flate2::Compression::fast(),
    );
    writeln!(file, "arrival_us,input_tokens,output_tokens").expect("written");
    for row in 0..rows {
        writeln!(file, "{},{},{}", row * 250_000, 10 + row % 90, 1 + row % 7).expect("written");
    }
    file.finish().expect("written");
    let home = folder.path().join("workload.yaml").to_string_lossy().into_owned();
    (folder, home)
}

#[test]
fn traces_are_thinned_and_multiplied_by_the_seed() {
    let (_folder, home) = long_csv(8000);
    let spec = |keys: &str| {
        let (spec, problems) = read_in(&home, &format!("trace: {{file: long.csv.gz{keys}}}\n"));
        assert!(problems.is_empty(), "{:?}", problems.list());
        spec.expect("no problem")
    };
    let whole = all(&spec(""), 1);
    assert_eq!((whole.len(), all(&spec(""), 2)), (8000, whole.clone()));
    let thin = spec(", rate_scale: 0.3");
    let kept = all(&thin, 1);
    assert_near(kept.len() as f64, 2400.0, "kept");
    assert_eq!(kept, all(&thin, 1));
    assert_ne!(kept.arrival, all(&thin, 2).arrival);
    assert!(kept.arrival.iter().all(|arrival| whole.arrival.contains(arrival)));
    let more = all(&spec(", rate_scale: 2.5"), 1);
    assert!(more.arrival.is_sorted());
    assert!((more.len() as f64 - 20_000.0).abs() < 300.0, "{}", more.len());
    let mean = spec(", mean_rate: 1");
    assert_near(all(&mean, 4).len() as f64, 2000.0, "a mean rate");
    assert!((mean.offered().requests_per_s_mean - 1.0).abs() < 0.01);
}

#[test]
fn bad_rows_are_named_with_their_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path().join("workload.yaml").to_string_lossy().into_owned();
    let said = |file: &str, text: &str, keys: &str| {
        std::fs::write(folder.path().join(file), text).expect("written");
        let (spec, problems) = read_in(&home, &format!("trace: {{file: {file}{keys}}}\n"));
        assert_eq!(spec, None);
        let place = |p: &blis_opt::config::Problem| {
            format!(
                "{}:{}: {}",
                p.file.rsplit('/').next().unwrap_or(""),
                p.position.line,
                p.message
            )
        };
        problems.list().iter().map(place).collect::<Vec<_>>()
    };
    let azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n\
                 2023-11-16 25:15:46,1,1\n2023-11-16 18:15:47,many,1\n2023-11-16 18:15:48,1\n";
    assert_eq!(
        said("azure.csv", azure, ""),
        [
            "azure.csv:3: `TIMESTAMP` must be a date and a time, not `2023-11-16 25:15:46`",
            "azure.csv:4: `input_tokens` must be a whole number, not `many`",
            "azure.csv:5: this row has only 2 fields",
        ]
    );
    let mooncake =
        "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 5}\n{\"timestamp\": 1}\n";
    assert_eq!(
        said("m.jsonl", mooncake, ""),
        ["m.jsonl:2: this is no request of Mooncake's: missing field `input_length`"]
    );
    let class = "arrival_s,input_tokens,output_tokens,slo_class\n1,1,1,urgent\n-1,1,1,\n";
    let said_class = said("c.csv", class, "");
    assert!(said_class[0].starts_with("c.csv:2: `slo_class` cannot be `urgent`"), "{said_class:?}");
    assert_eq!(said_class[1], "c.csv:3: `arrival_s` must be a number of at least 0, not `-1`");
    let columns = said("d.csv", "arrival_s,input_tokens\n1,1\n", "");
    assert_eq!(columns, ["d.csv:1: there is no column `output_tokens`"]);
    let unknown = said("e.csv", "when,what\n1,1\n", "");
    assert_eq!(unknown, ["workload.yaml:1: cannot tell the format of `e.csv`"]);
    assert_eq!(said("f.csv", "", ""), ["workload.yaml:1: `f.csv` is empty"]);
    let many = format!("arrival_s,input_tokens,output_tokens\n{}", "x,1,1\n".repeat(50));
    assert_eq!(said("g.csv", &many, "").len(), 10, "ten are enough");
    let clients = "client,t_s,rate_rps,cv,pattern,p1,p2\n0,0,1,1,Lognormal,1,1\n";
    let tokens = ", prompt_tokens: 5, output_tokens: 5";
    assert_eq!(
        said("s.csv", clients, tokens),
        ["s.csv:2: `pattern` must be `Gamma` or `Weibull`, not `Lognormal`"]
    );
    let missing = read_in(&home, "trace: {file: none.csv}\n").1;
    assert!(missing.list()[0].message.starts_with("cannot read `none.csv`"));
    let torn = [0x1f, 0x8b, 8, 0, 1, 2, 3];
    std::fs::write(folder.path().join("torn.gz"), torn).expect("written");
    let torn = read_in(&home, "trace: {file: torn.gz}\n").1;
    assert!(torn.list()[0].message.starts_with("cannot be read from here on"));
}

#[test]
fn equal_hashes_are_cache_hits() {
    let trace = all(&good("trace: {file: mooncake.jsonl}\n"), 1);
    assert_eq!(arrivals_us(&trace), [0, 3_000_000, 6_000_000, 9_000_000, 12_000_000]);
    assert_eq!(trace.shared, [1536, 1600, 1100, 700, 1100]);
    let options = RunOptions { keep_steps: true, ..options() };
    let outcome = simulate(&bundle(1, ""), &trace, &options, &mut Scratch::default());
    let computed: u32 = outcome.steps.iter().map(|step| step.prefill_tokens).sum();
    // Blocks of 16 tokens: 1536 tokens are known to the second request, 1024 to the third, and
    // all full blocks but for the last token to the fifth.
    let known = 1536 + 1024 + (1099 / 16) * 16;
    assert_eq!(computed, trace.input.iter().sum::<u32>() - known);
}

#[test]
fn copies_of_requests_bring_tokens_of_their_own() {
    let trace = all(&good("trace: {file: mooncake.jsonl, rate_scale: 2}\n"), 1);
    assert_eq!(trace.len(), 10);
    let half = trace.chains.len() as u32 / 2;
    let copies: Vec<u32> = trace.chain.iter().filter(|&&chain| chain >= half).copied().collect();
    assert_eq!(copies.len(), 5);
    for (index, chain) in trace.chains.iter().enumerate() {
        assert!(chain.parent == NO_CHAIN || chain.parent < index as u32);
        let same_copy = (chain.parent >= half) == (index as u32 >= half);
        assert!(chain.parent == NO_CHAIN || same_copy);
    }
    let outcome = run(&bundle(1, ""), &trace);
    assert_eq!(outcome.counts.completed, 10);
}

#[test]
fn recorded_and_drawn_requests_mix() {
    let text = TWO.replace("PROFILE", "").replace("horizon: 6h", "horizon: 40s");
    let spec = good(&format!("{text}trace: {{file: mooncake.jsonl}}\n"));
    let trace = all(&spec, 3);
    assert_eq!((trace.clients.len(), trace.len() > 100), (3, true));
    let recorded = (0..trace.len()).filter(|&i| trace.client[i].index() == 2).count();
    assert_eq!(recorded, 5);
    let alone = all(&good(&text), 3);
    let drawn = (0..trace.len()).filter(|&i| trace.client[i].index() < 2);
    assert!(drawn.map(|i| trace.arrival[i]).eq(alone.arrival.iter().copied()));
    let (bundle, scratch) = (bundle(2, ""), &mut Scratch::default());
    let listed = simulate(&bundle, &trace, &options(), scratch);
    let duration = Span::from_secs(40.0);
    assert_eq!(simulate_drawn(&bundle, (&spec, 3, duration), &options(), scratch), listed);
}

// ServeGen

const SERVEGEN: &str = "trace: {file: clients.csv, lengths: lengths.csv}\n";

#[test]
fn servegen_clients_come_as_often_as_measured() {
    let spec = good(SERVEGEN);
    assert_eq!((spec.clients.len(), spec.horizon), (2, Some(Span::from_secs(1800.0))));
    let windows = |client: usize, trace: &Trace| {
        let mut counts = [0.0; 3];
        for i in (0..trace.len()).filter(|&i| trace.client[i].index() == client) {
            counts[(trace.arrival[i].as_us() / 600_000_000) as usize] += 1.0;
        }
        counts
    };
    let runs = 50;
    let (mut first, mut second) = ([0.0; 3], [0.0; 3]);
    for seed in 0..runs {
        let trace = all(&spec, seed);
        assert!(trace.input.iter().all(|&tokens| (2..=128).contains(&tokens)));
        assert!(trace.output.iter().all(|&tokens| (1..=16).contains(&tokens)));
        for at in 0..3 {
            first[at] += windows(0, &trace)[at] / f64::from(runs as u32);
            second[at] += windows(1, &trace)[at] / f64::from(runs as u32);
        }
    }
    for (mean, expected) in first.into_iter().zip([2400.0, 4800.0, 0.0]) {
        assert!((mean - expected).abs() < 4.0 * (expected / f64::from(runs as u32)).sqrt() + 1e-9);
    }
    // Weibull gaps of shape 1/2 have a squared coefficient of variation of 5.
    for (mean, expected) in second.into_iter().zip([600.0, 0.0, 1200.0]) {
        let error = (5.0 * expected / f64::from(runs as u32)).sqrt();
        assert!((mean - expected).abs() < 4.0 * error + 1e-9, "{mean} {expected}");
    }
}

#[test]
fn servegen_files_are_sliced_and_scaled() {
    let keys = "start: 300s, duration: 900s, time_scale: 0.5, rate_scale: 3}";
    let spec = good(&SERVEGEN.replace('}', &format!(", {keys}")));
    let offered = spec.offered();
    let requests = 4.0 * 300.0 + 300.0 + 8.0 * 600.0;
    assert_eq!(spec.horizon, Some(Span::from_secs(450.0)));
    // Twice as often by the clock, and three times on top.
    let mean = 3.0 * requests / 450.0;
    assert!((offered.requests_per_s_mean / mean - 1.0).abs() < 1e-3, "{offered:?}");
    assert!((offered.requests_per_s / 48.0 - 1.0).abs() < 1e-3, "{offered:?}");
    let wished = good(&SERVEGEN.replace('}', ", mean_rate: 7}"));
    assert!((wished.offered().requests_per_s_mean - 7.0).abs() < 0.01);
    let rates = good("trace: {file: rates.csv, prompt_tokens: 50, output_tokens: 5}\n");
    let trace = all(&rates, 2);
    let mut counts = [0.0; 4];
    for us in arrivals_us(&trace) {
        counts[(us / 600_000_000) as usize] += 1.0;
    }
    for (count, expected) in counts.into_iter().zip([1800.0, 5400.0, 0.0, 3600.0]) {
        assert_near(count, expected, "a window of the rate file");
    }
    let without = said("trace: {file: clients.csv}\n");
    assert_eq!(without, ["workload.yaml:1: `clients.csv` says nothing about lengths"]);
}

// Journals

#[test]
fn a_study_knows_its_trace_files() {
    let (folder, home) = long_csv(100);
    let space = "template: {pools: {default: {model: meta-llama/llama-3.1-8b-instruct, gpu: H100, \
                 tensor_parallelism: 2, instances: 4}}}\n\
                 workload: {trace: {file: long.csv.gz}}\n\
                 knobs:\n  pools.default.instances: {int: [1, 8]}\n\
                 objective: {minimize: cost_per_hour}\n";
    let none = |_: &str| Err("no file".to_owned());
    let mut problems = Problems::new();
    let read =
        |problems: &mut Problems| read_space((&home, space), Defaults::embedded(), &none, problems);
    let file = read(&mut problems).unwrap_or_else(|| panic!("{:#?}", problems.list()));
    let trace = file.sources.iter().find(|source| source.role == SourceRole::Trace);
    let text = trace.expect("the trace is a source").text.clone();
    assert!(text.contains("bytes, fnv1a "), "{text}");
    assert!(text.len() < 64, "not the file itself");
    let version = file.evaluator(Defaults::embedded()).version();
    let again = SpaceFile::from_sources(&file.sources, Defaults::embedded(), &mut problems);
    let again = again.expect("nothing changed");
    assert_eq!(again.evaluator(Defaults::embedded()).version(), version);
    let path = folder.path().join("long.csv.gz");
    let other = "arrival_us,input_tokens,output_tokens\n5,5,5\n900000,6,6\n";
    std::fs::write(&path, other).expect("written");
    assert!(SpaceFile::from_sources(&file.sources, Defaults::embedded(), &mut problems).is_none());
    let message = &problems.list()[0].message;
    assert!(message.ends_with("is not what it was when the study began"), "{message}");
    let changed = read(&mut Problems::new()).expect("a good space");
    assert_ne!(changed.sources, file.sources);
    assert_ne!(changed.evaluator(Defaults::embedded()).version(), version);
}

// Real traces

fn traces_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traces");
    let dir = std::env::var_os("BLIS_OPT_TRACES_DIR").map_or(beside, PathBuf::from);
    let found = dir.is_dir().then(|| dir.clone());
    if found.is_none() {
        eprintln!("skipped: no real traces at {} (BLIS_OPT_TRACES_DIR)", dir.display());
    }
    found
}

fn real(dir: &Path, text: &str) -> WorkloadSpec {
    let (spec, problems) = read_in(&dir.join("workload.yaml").to_string_lossy(), text);
    assert!(problems.is_empty(), "{:#?}", problems.list());
    spec.expect("there is no problem")
}

#[test]
fn real_request_traces_have_their_counts_and_spans() {
    let Some(dir) = traces_dir() else { return };
    for (file, rows, seconds) in [
        ("azure2023/AzureLLMInferenceTrace_conv.csv.gz", 19_366, 3502),
        ("mooncake/conversation_trace.jsonl.gz", 12_031, 3537),
    ] {
        let trace = all(&real(&dir, &format!("trace: {{file: {file}}}\n")), 1);
        assert_eq!(trace.len(), rows, "{file}");
        let last = trace.arrival.last().expect("rows").as_secs();
        assert_eq!(last.round() as u64, seconds, "{file}: {last}");
        assert!(trace.arrival.is_sorted());
    }
}

#[test]
fn the_real_conversation_trace_hits_the_cache() {
    let Some(dir) = traces_dir() else { return };
    let keys = "file: mooncake/conversation_trace.jsonl.gz, duration: 5m, rate_scale: 0.2";
    let trace = all(&real(&dir, &format!("trace: {{{keys}}}\n")), 1);
    let outcome = run(&bundle(8, ""), &trace);
    assert!(outcome.cache_hit_rate > 0.01, "{}", outcome.cache_hit_rate);
    assert_eq!(outcome.counts.completed + outcome.counts.dropped, trace.len() as u64);
}

#[test]
fn real_service_traces_have_their_rates() {
    let Some(dir) = traces_dir() else { return };
    for (name, days, clients, low, high) in
        [("m-large", 14.0, 162, 48.0, 583.0), ("deepseek-r1", 1.0, 25, 0.0, 1e6)]
    {
        let lengths = format!("lengths: servegen/{name}_lengths.csv");
        let rates =
            real(&dir, &format!("trace: {{file: servegen/{name}_rate_10min.csv, {lengths}}}\n"));
        assert_eq!(rates.horizon, Some(Span::from_secs(days * 86_400.0)), "{name}");
        let window_rates = rates.clients[0].windows.iter().map(|window| window.rate);
        let nominal = rates.client_rates()[0];
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for rate in window_rates.map(|rate| rate * nominal) {
            (least, most) = (least.min(rate), most.max(rate));
        }
        if name == "m-large" {
            assert!((least - low).abs() < 1.0 && (most - high).abs() < 1.0, "{least} {most}");
            let offered = rates.offered();
            let ratio = offered.requests_per_s / offered.requests_per_s_mean;
            assert!((ratio - 2.98).abs() < 0.01, "{ratio}");
        }
        let text = format!("trace: {{file: servegen/{name}_clients.csv.gz, {lengths}}}\n");
        let by_client = real(&dir, &text);
        if name == "m-large" {
            assert_eq!(by_client.clients.len(), clients);
        }
        let (whole, parts) = (rates.offered(), by_client.offered());
        let ratio = parts.requests_per_s_mean / whole.requests_per_s_mean;
        assert!((ratio - 1.0).abs() < 0.02, "{name}: {ratio}");
    }
}

#[test]
fn an_hour_of_the_real_service_is_drawn_at_its_rate() {
    let Some(dir) = traces_dir() else { return };
    let text = "trace: {file: servegen/m-large_clients.csv.gz, start: 24h, duration: 1h,\n  \
                lengths: servegen/m-large_lengths.csv, mean_rate: 40}\n";
    let spec = real(&dir, text);
    let trace = all(&spec, 3);
    let mean = trace.len() as f64 / 3600.0;
    assert!((mean / 40.0 - 1.0).abs() < 0.1, "{mean}");
    assert!(trace.arrival.is_sorted());
}
