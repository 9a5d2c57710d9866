//! Replays the golden cases: every request, instance and step to the microsecond.
//!
//! The cases are in the folder named by `BLIS_OPT_GOLDEN_DIR`, by default `../shared/golden`;
//! where it is absent the test says so and passes.

use blis_opt::base::{ClientId, SimTime, Span};
use blis_opt::latency::Blackbox;
use blis_opt::policy::{
    Admission, Batching, Gateway, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind,
    Signals,
};
use blis_opt::sim::outcome::{RequestRecord, RequestState};
use blis_opt::sim::{Outcome, RunOptions, Scratch, reference, simulate};
use blis_opt::workload::{Chain, ClientInfo, NO_CHAIN, Trace};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    horizon_us: i64,
    instances: u32,
    routing: RoutingConfig,
    admission: AdmissionConfig,
    snapshots: Snapshots,
    scheduler: String,
    priority_policy: String,
    batching: BatchingConfig,
    kv_cache: Kv,
    latency_model: LatencyModel,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutingConfig {
    policy: String,
    #[serde(default)]
    scorers: Vec<Scorer>,
    #[serde(default = "ten_thousand")]
    prefix_index_lru_blocks_per_instance: u32,
    latency_us: u64,
}

fn ten_thousand() -> u32 {
    10_000
}

#[derive(Deserialize)]
struct Scorer {
    name: String,
    weight: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdmissionConfig {
    policy: String,
    latency_us: u64,
    #[serde(default)]
    capacity_tokens: f64,
    #[serde(default)]
    refill_tokens_per_s: f64,
}

#[derive(Deserialize)]
struct Snapshots {
    kv_utilization_refresh_us: u64,
}

#[derive(Deserialize)]
struct BatchingConfig {
    max_running_requests: u32,
    max_scheduled_tokens: u32,
    long_prefill_token_threshold: u32,
}

#[derive(Deserialize)]
struct Kv {
    total_blocks_per_instance: u32,
    block_size_tokens: u32,
}

#[derive(Deserialize)]
struct LatencyModel {
    kind: String,
    alpha: [f64; 3],
    beta: [f64; 3],
}

fn bundle_of(config: &Config) -> PolicyBundle {
    assert_eq!(config.latency_model.kind, "blackbox");
    let scorer = |scorer: &Scorer| {
        let kind = ScorerKind::ALL.iter().find(|(name, _)| *name == scorer.name);
        (kind.expect("a known scorer").1, scorer.weight)
    };
    PolicyBundle {
        pools: vec![Pool::bare(
            config.instances,
            config.kv_cache.total_blocks_per_instance,
            Blackbox { alpha: config.latency_model.alpha, beta: config.latency_model.beta },
        )],
        admission: match config.admission.policy.as_str() {
            "always-admit" => Admission::AlwaysAdmit,
            "reject-all" => Admission::RejectAll,
            "token-bucket" => Admission::TokenBucket {
                capacity: config.admission.capacity_tokens,
                refill_rate: config.admission.refill_tokens_per_s,
            },
            other => panic!("admission {other}"),
        },
        admission_latency: Span::from_us(config.admission.latency_us),
        routing: match config.routing.policy.as_str() {
            "round-robin" => Routing::RoundRobin,
            "least-loaded" => Routing::LeastLoaded,
            "always-busiest" => Routing::AlwaysBusiest,
            "prefix-affinity" => Routing::PrefixAffinity,
            "weighted" => Routing::Weighted(config.routing.scorers.iter().map(scorer).collect()),
            other => panic!("routing {other}"),
        },
        routing_latency: Span::from_us(config.routing.latency_us),
        signals: Signals {
            kv_utilization_refresh: Span::from_us(config.snapshots.kv_utilization_refresh_us),
            metrics_fetch_interval: Span::ZERO,
            prefix_index_blocks: config.routing.prefix_index_lru_blocks_per_instance,
        },
        priority: match config.priority_policy.as_str() {
            "constant" => Priority::Constant,
            "slo-based" => Priority::Age,
            "inverted-slo" => Priority::InvertedAge,
            other => panic!("priority {other}"),
        },
        scheduler: match config.scheduler.as_str() {
            "fcfs" => Scheduler::Fcfs,
            "priority-fcfs" => Scheduler::PriorityFcfs,
            "sjf" => Scheduler::Sjf,
            "reverse-priority" => Scheduler::ReversePriority,
            other => panic!("scheduler {other}"),
        },
        batching: Batching {
            max_running: config.batching.max_running_requests,
            max_tokens: config.batching.max_scheduled_tokens,
            long_prefill_threshold: config.batching.long_prefill_token_threshold,
        },
        block_size: config.kv_cache.block_size_tokens,
        autoscaling: None,
        gateway: Gateway::default(),
    }
}

/// The rows of a CSV file without quoting, each a map from column to field.
fn read_csv(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).expect("a readable golden file");
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().expect("a header").split(',').collect();
    let row = |line: &str| {
        header.iter().zip(line.split(',')).map(|(k, v)| ((*k).to_string(), v.to_string())).collect()
    };
    lines.map(row).collect()
}

fn number<T: std::str::FromStr>(row: &BTreeMap<String, String>, column: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    row[column].parse().unwrap_or_else(|e| panic!("{column} = {:?}: {e:?}", row[column]))
}

/// Turns block identities into chains: an identity seen for the first time continues the chain
/// of the request that brings it, and leaves the one it came from.
#[derive(Default)]
struct Chains {
    list: Vec<Chain>,
    /// The chain and depth of each identity.
    places: BTreeMap<u64, (u32, u32)>,
    /// How many blocks reach the end of each chain.
    lengths: Vec<u32>,
}

impl Chains {
    /// The chain on which all the given blocks lie.
    fn place(&mut self, ids: &[u64], block_size: u32) -> u32 {
        let mut chain = NO_CHAIN;
        for (depth, &id) in ids.iter().enumerate() {
            let depth = depth as u32;
            if let Some(&(known, at)) = self.places.get(&id) {
                assert_eq!(at, depth, "an identity stands at one depth");
                chain = known;
                continue;
            }
            if chain == NO_CHAIN || self.lengths[chain as usize] > depth {
                self.list.push(Chain { parent: chain, start: depth * block_size });
                self.lengths.push(depth);
                chain = (self.list.len() - 1) as u32;
            }
            self.places.insert(id, (chain, depth));
            self.lengths[chain as usize] = depth + 1;
        }
        chain
    }
}

fn block_ids(text: &str) -> Vec<u64> {
    let mut ids = Vec::new();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let parse = |text: &str| text.parse::<u64>().expect("a block id");
        match part.split_once('-') {
            Some((low, high)) => ids.extend(parse(low)..=parse(high)),
            None => ids.push(parse(part)),
        }
    }
    ids
}

fn trace_of(dir: &Path, block_size: u32) -> Trace {
    let rows = read_csv(&dir.join("requests.csv"));
    let mut trace = Trace::default();
    let mut chains = Chains::default();
    for row in &rows {
        let arrival = SimTime::from_us(number(row, "arrival_us"));
        let class = match row["slo_class"].as_str() {
            "" => "default",
            named => named,
        };
        let class = trace.classes.iter().position(|known| known == class).unwrap_or_else(|| {
            trace.classes.push(class.to_string());
            trace.classes.len() - 1
        });
        let client = trace.clients.iter().position(|c| usize::from(c.class) == class);
        let client = client.unwrap_or_else(|| {
            trace.clients.push(ClientInfo {
                name: String::new(),
                class: class as u8,
                tenant: 0,
                think_time: Span::ZERO,
                pinned: None,
            });
            trace.clients.len() - 1
        });
        let ids = row.get("block_ids").map_or(Vec::new(), |text| block_ids(text));
        trace.arrival.push(arrival);
        trace.input.push(number(row, "input_tokens"));
        trace.output.push(number(row, "output_tokens"));
        trace.client.push(ClientId(client as u32));
        trace.chain.push(chains.place(&ids, block_size));
        trace.shared.push(ids.len() as u32 * block_size);
        trace.end = trace.end.max(arrival);
    }
    trace.chains = chains.list;
    trace
}

fn expected_us(row: &BTreeMap<String, String>, column: &str) -> u64 {
    match row[column].as_str() {
        "" | "-1" => RequestRecord::NEVER_US,
        text => text.parse().expect("microseconds"),
    }
}

fn compare_requests(case: &str, dir: &Path, outcome: &Outcome) {
    let rows = read_csv(&dir.join("expected.csv"));
    assert_eq!(rows.len(), outcome.requests.len(), "{case}: rows");
    for (row, got) in rows.iter().zip(&outcome.requests) {
        let place = format!("{case}: {}: got {got:?}", row["id"]);
        let state = match row["state"].as_str() {
            "completed" => RequestState::Completed,
            "running" => RequestState::Running,
            "queued" => RequestState::Queued,
            "rejected" => RequestState::Rejected,
            "dropped" => RequestState::Dropped,
            other => panic!("state {other}"),
        };
        // What lies behind the horizon never reached the cluster.
        let pending = got.state == RequestState::Pending && state == RequestState::Queued;
        assert!(got.state == state || pending, "{place}, expected {state:?}");
        let instance = got.instance.map_or(-1, |id| i64::from(id.0));
        assert_eq!(instance, number::<i64>(row, "instance"), "{place}");
        for (column, got) in [
            ("routed_us", got.routed_us),
            ("enqueued_us", got.enqueued_us),
            ("first_scheduled_us", got.first_scheduled_us),
            ("scheduled_us", got.scheduled_us),
            ("ttft_us", got.ttft_us),
            ("e2e_us", got.e2e_us),
            ("finished_us", got.finished_us),
        ] {
            if row.contains_key(column) {
                assert_eq!(got, expected_us(row, column), "{place}: {column}");
            }
        }
        if row.contains_key("preemptions") {
            assert_eq!(got.preemptions, number::<u32>(row, "preemptions"), "{place}");
        }
    }
}

fn compare_instances(case: &str, dir: &Path, outcome: &Outcome) {
    let rows = read_csv(&dir.join("expected-instances.csv"));
    for (at, (row, got)) in rows.iter().zip(&outcome.instances).enumerate() {
        // The expectation counts a dropped request nowhere.
        let dropped = outcome.requests.iter().filter(|request| {
            request.state == RequestState::Dropped
                && request.instance.is_some_and(|id| id.index() == at)
        });
        for (column, got) in [
            ("requests", got.requests - dropped.count() as u64),
            ("completed", got.completed),
            ("still_queued", got.queued),
            ("still_running", got.running),
            ("steps", got.steps),
            ("preemptions", got.preemptions),
            ("input_tokens", got.input_tokens),
            ("output_tokens", got.decode_tokens),
            ("peak_kv_blocks", u64::from(got.kv_blocks_peak)),
            ("kv_block_us", got.kv_block_us),
            ("sim_ended_us", got.end_us),
        ] {
            let expected: u64 = number(row, column);
            assert_eq!(got, expected, "{case}: instance {}: {column}", row["instance"]);
        }
        let rate: f64 = number(row, "cache_hit_rate");
        let place = format!("{case}: instance {}: hit rate", row["instance"]);
        assert!((got.cache_hit_rate - rate).abs() < 1e-12, "{place}: {}", got.cache_hit_rate);
    }
}

fn compare_steps(case: &str, dir: &Path, outcome: &Outcome) {
    let path = dir.join("steps.csv");
    if !path.exists() {
        return;
    }
    let rows = read_csv(&path);
    for (at, row) in rows.iter().enumerate() {
        let got = &outcome.steps[at];
        let place = format!("{case}: row {}: got {got:?}, expected {row:?}", at + 1);
        assert_eq!(format!("instance_{}", got.instance.0), row["instance"], "{place}");
        for (column, got) in [
            ("step", got.step),
            ("t_us", got.start_us),
            ("dur_us", got.duration_us),
            ("batch", u64::from(got.batch)),
            ("prefill_tokens", u64::from(got.prefill_tokens)),
            ("decode_tokens", u64::from(got.decode_tokens)),
            ("completed", u64::from(got.completed)),
            ("waitq_after", u64::from(got.waiting_after)),
            ("kv_used_after", u64::from(got.kv_blocks_after)),
        ] {
            assert_eq!(got, number::<u64>(row, column), "{place}: {column}");
        }
    }
}

fn replay(case: &str, dir: &Path, scratch: &mut Scratch) {
    let text = std::fs::read_to_string(dir.join("config.yaml")).expect("a config");
    let config: Config = serde_saphyr::from_str(&text).expect("a valid config");
    assert!(!config.name.is_empty());
    let bundle = bundle_of(&config);
    let trace = trace_of(dir, bundle.block_size);
    let horizon = match config.horizon_us {
        i64::MAX => SimTime::NEVER,
        us => SimTime::from_us(us as u64),
    };
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    };
    let jumped = simulate(&bundle, &trace, &options, scratch);
    compare_requests(case, dir, &jumped);
    compare_instances(case, dir, &jumped);
    let stepping = RunOptions { keep_steps: true, ..options };
    let slow = reference::simulate(&bundle, &trace, &stepping);
    compare_requests(case, dir, &slow);
    compare_instances(case, dir, &slow);
    compare_steps(case, dir, &slow);
    let mut stepped = simulate(&bundle, &trace, &stepping, scratch);
    compare_steps(case, dir, &stepped);
    crate::twins::agree(&stepped, &slow).unwrap_or_else(|wrong| panic!("{case}: {wrong}"));
    stepped.steps.clear();
    assert_eq!(stepped, jumped, "{case}: stepping equals jumping");
}

fn golden_dir() -> PathBuf {
    std::env::var_os("BLIS_OPT_GOLDEN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"),
        PathBuf::from,
    )
}

#[test]
fn every_case_replays_to_the_microsecond() {
    let root = golden_dir();
    let Ok(entries) = std::fs::read_dir(&root) else {
        eprintln!("skipped: no golden cases at {}", root.display());
        return;
    };
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.join("config.yaml").exists())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", root.display());
    let mut scratch = Scratch::default();
    for dir in &cases {
        let case = dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        replay(&case, dir, &mut scratch);
    }
    eprintln!("{} golden cases replayed", cases.len());
}
