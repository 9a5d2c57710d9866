//! From what happened to figures.

use crate::base::{InstanceId, SimTime, Span};
use crate::workload::{Targets, Trace};

use super::super::fleet_outcome::FleetOutcome;
use super::super::outcome::{
    ClassOutcome, Counts, InstanceOutcome, Outcome, RequestRecord, RequestState, Summary,
};
use super::cluster::Cluster;
use super::engine::Engine;
use super::fleet::{Place, Totals};
use super::{Request, Setting, ledger};

/// The figures of a run that has ended.
pub(super) fn outcome(cluster: &Cluster) -> Outcome {
    let Setting { trace, options, moves, .. } = cluster.setting;
    let all: Vec<&Request> = cluster.requests.iter().collect();
    let measured: Vec<&Request> =
        all.iter().copied().filter(|request| request.arrival >= options.warm_up).collect();
    let end = trace.end.min(options.horizon);
    let in_window = |r: &&&Request| {
        r.state == RequestState::Completed
            && r.finished.is_some_and(|at| at >= options.warm_up && at < end)
    };
    let answered = || all.iter().filter(in_window);
    let gaps = cluster.gaps.iter().filter(|gap| gap.1 >= options.warm_up && gap.1 < end);
    let totals: Vec<Totals> = cluster.places.iter().map(totals).collect();
    let hits: u64 = totals.iter().map(|place| place.hits).sum();
    let misses: u64 = totals.iter().map(|place| place.misses).sum();
    let window_s = end.since(options.warm_up).as_secs();
    let per_s = |count: u64| if window_s > 0.0 { count as f64 / window_s } else { 0.0 };
    let input_tokens: u64 = answered().map(|r| u64::from(r.input)).sum();
    let output_tokens: u64 = answered().map(|r| u64::from(r.output)).sum();
    let fleet = moves.then(|| ledger::fleet_outcome(cluster, cluster.end()));
    let mut outcome = Outcome {
        counts: counts(&all),
        measured: counts(&measured),
        within_slo: within_slo(cluster, &measured),
        window_s,
        end_s: totals.iter().map(|place| place.clock.as_us()).max().unwrap_or(0) as f64 / 1e6,
        ttft: ttft(&measured),
        tpot: tpot(&measured),
        itl: summary(gaps.map(|gap| gap.2)),
        e2e: e2e(&measured),
        throughput_rps: per_s(answered().count() as u64),
        output_tokens_per_s: per_s(output_tokens),
        total_tokens_per_s: per_s(input_tokens + output_tokens),
        kv_utilization_mean: kv_utilization_mean(cluster, &totals),
        kv_utilization_peak: kv_utilization_peak(cluster, &totals),
        busy_fraction: busy_fraction(cluster, options.warm_up, end, fleet.as_ref()),
        jain_fairness: jain_fairness(&totals),
        classes: (0..trace.classes.len()).map(|at| class(cluster, &measured, at)).collect(),
        scheduling_delay: summary(measured.iter().flat_map(|r| r.delays.iter().copied())),
        cache_hit_rate: rate(hits, misses),
        preemptions: totals.iter().map(|place| place.preemptions).sum(),
        instances: cluster.places.iter().zip(&totals).map(instance).collect(),
        fleet,
        gateway: cluster.gate.outcome(&cluster.setting, &cluster.requests),
        ..Outcome::default()
    };
    if options.keep_requests {
        outcome.requests = all.iter().map(|request| record(trace, request)).collect();
    }
    if options.keep_steps {
        outcome.steps.clone_from(&cluster.steps);
        outcome.steps.sort_by_key(|step| (step.start_us, step.instance));
    }
    outcome
}

/// Figures of all instances that were in a place.
fn totals(place: &Place) -> Totals {
    let gone = place.totals.clone();
    place.engine.iter().fold(gone, Totals::with)
}

/// How many of `requests` were answered in full as was promised to their class.
fn within_slo(cluster: &Cluster, requests: &[&Request]) -> u64 {
    let kept = requests.iter().filter(|request| keeps_promise(&cluster.setting, request));
    kept.count() as u64
}

/// Whether a request was answered in full within the targets of its class.
pub(super) fn keeps_promise(setting: &Setting, request: &Request) -> bool {
    let targets = setting.trace.targets.get(setting.class(request.id));
    let targets = targets.copied().unwrap_or(Targets::NONE);
    request.state == RequestState::Completed
        && request.ttft.is_none_or(|ttft| ttft <= targets.ttft)
        && request.tpot().is_none_or(|tpot| tpot <= targets.tpot)
        && request.e2e().is_none_or(|e2e| e2e <= targets.e2e)
}

fn counts(requests: &[&Request]) -> Counts {
    let count = |state| requests.iter().filter(|request| request.state == state).count() as u64;
    Counts {
        injected: requests.len() as u64 - count(RequestState::Pending),
        rejected: count(RequestState::Rejected),
        dropped: count(RequestState::Dropped),
        timed_out: count(RequestState::TimedOut),
        failed: count(RequestState::Failed),
        expired: count(RequestState::Expired),
        queued: count(RequestState::Queued),
        running: count(RequestState::Running),
        completed: count(RequestState::Completed),
    }
}

fn instance((place, totals): (&Place, &Totals)) -> InstanceOutcome {
    let engine = place.engine.as_ref();
    // On a stopped instance no last step ends.
    let completing = |engine: &Engine| engine.completing.len();
    let waiting = |engine: &Engine| engine.waiting.len() + engine.on_the_way.len();
    let running = |engine: &Engine| engine.running.len() + completing(engine);
    InstanceOutcome {
        requests: totals.requests,
        completed: place.completed,
        queued: engine.map_or(0, waiting) as u64,
        running: engine.map_or(0, running) as u64,
        steps: totals.steps,
        preemptions: totals.preemptions,
        input_tokens: totals.input_tokens,
        decode_tokens: totals.decode_tokens,
        kv_blocks_peak: totals.kv_blocks_peak,
        kv_block_us: totals.kv_block_us,
        cache_hit_rate: rate(totals.hits, totals.misses),
        busy_s: totals.busy.as_secs(),
        end_us: totals.clock.as_us(),
    }
}

fn rate(hits: u64, misses: u64) -> f64 {
    if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
}

fn class(cluster: &Cluster, measured: &[&Request], at: usize) -> ClassOutcome {
    let trace = cluster.setting.trace;
    let of_class = |r: &&Request| cluster.setting.class(r.id) == at;
    let mine: Vec<&Request> = measured.iter().copied().filter(of_class).collect();
    ClassOutcome {
        name: trace.classes[at].clone(),
        measured: counts(&mine),
        within_slo: within_slo(cluster, &mine),
        ttft: ttft(&mine),
        tpot: tpot(&mine),
        e2e: e2e(&mine),
    }
}

/// Share of KV blocks in use while stepping: block-time over possible block-time.
fn kv_utilization_mean(cluster: &Cluster, totals: &[Totals]) -> f64 {
    let (mut used, mut possible) = (0.0, 0.0);
    for (place, totals) in cluster.places.iter().zip(totals) {
        let blocks = cluster.setting.bundle.pools[place.pool].kv_blocks;
        used += (u128::from(totals.kv_block_us) * 1_000_000) as f64;
        possible += f64::from(blocks) * totals.busy.as_ps() as f64;
    }
    if possible > 0.0 { used / possible } else { 0.0 }
}

fn kv_utilization_peak(cluster: &Cluster, totals: &[Totals]) -> f64 {
    let mut highest: f64 = 0.0;
    for (place, totals) in cluster.places.iter().zip(totals) {
        let blocks = cluster.setting.bundle.pools[place.pool].kv_blocks;
        highest = highest.max(f64::from(totals.kv_blocks_peak) / f64::from(blocks));
    }
    highest
}

/// Share of the time from `start` to `end` in which an instance was stepping; of a fleet that
/// changes, of the time in which instances were ready.
fn busy_fraction(
    cluster: &Cluster,
    start: SimTime,
    end: SimTime,
    fleet: Option<&FleetOutcome>,
) -> f64 {
    let mut busy_ps = 0;
    for step in &cluster.steps {
        let step_start = SimTime::from_us(step.start_us);
        let step_end = SimTime::from_us(step.start_us + step.duration_us);
        busy_ps += u128::from(step_end.min(end).since(step_start.max(start)).as_ps());
    }
    let window = end.since(start);
    let ready = match fleet {
        None => cluster.places.len() as f64,
        Some(fleet) => {
            let ready_ps: u128 = fleet.pools.iter().map(|pool| pool.ready_in_window_ps).sum();
            ready_ps as f64 / window.as_ps() as f64
        }
    };
    let possible = window.as_secs() * ready;
    if possible > 0.0 { busy_ps as f64 / 1e12 / possible } else { 0.0 }
}

/// (sum x)^2 / (n sum x^2) of the requests per instance.
fn jain_fairness(totals: &[Totals]) -> f64 {
    let sum: f64 = totals.iter().map(|place| place.requests as f64).sum();
    let squares: f64 = totals.iter().map(|place| (place.requests as f64).powi(2)).sum();
    if squares > 0.0 { sum * sum / (totals.len() as f64 * squares) } else { 1.0 }
}

fn ttft(requests: &[&Request]) -> Summary {
    summary(requests.iter().filter_map(|r| r.ttft))
}

fn e2e(requests: &[&Request]) -> Summary {
    summary(requests.iter().filter_map(|r| r.e2e()))
}

/// Mean times per token after the first, of requests with such tokens.
fn tpot(requests: &[&Request]) -> Summary {
    summary(requests.iter().filter_map(|r| r.tpot()))
}

fn record(trace: &Trace, request: &Request) -> RequestRecord {
    let at = |time: Option<SimTime>| time.map_or(RequestRecord::NEVER_US, SimTime::as_us);
    let span = |span: Option<Span>| span.map_or(RequestRecord::NEVER_US, Span::as_us);
    if request.state == RequestState::Pending {
        return RequestRecord::default();
    }
    RequestRecord {
        state: request.state,
        instance: request.instance.map(InstanceId::new),
        client: trace.client[request.id],
        input: trace.input[request.id],
        output: trace.output[request.id],
        arrival_us: request.arrival.as_us(),
        routed_us: at(request.routed),
        enqueued_us: at(request.enqueued),
        first_scheduled_us: at(request.first_scheduled),
        scheduled_us: at(request.scheduled),
        ttft_us: span(request.ttft),
        e2e_us: span(request.e2e()),
        finished_us: at(request.finished),
        preemptions: request.preemptions,
        retries: u32::from(request.retries),
    }
}

/// Quantiles by linear interpolation at rank q (n - 1), over nanoseconds.
pub(super) fn summary(values: impl Iterator<Item = Span>) -> Summary {
    let mut ns: Vec<u64> = values.map(|span| span.as_ps() / 1000).collect();
    ns.sort_unstable();
    let Some(&max) = ns.last() else { return Summary::default() };
    let total: u128 = ns.iter().map(|&ns| u128::from(ns)).sum();
    let quantile = |level: f64| {
        let rank = level * (ns.len() - 1) as f64;
        let (low, high) = (ns[rank.floor() as usize] as f64, ns[rank.ceil() as usize] as f64);
        (low + (high - low) * (rank - rank.floor())) / 1e6
    };
    Summary {
        count: ns.len() as u64,
        mean_ms: total as f64 / ns.len() as f64 / 1e6,
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        max_ms: max as f64 / 1e6,
    }
}
