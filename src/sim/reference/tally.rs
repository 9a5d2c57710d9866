//! From what happened to figures.

use crate::base::{InstanceId, SimTime, Span};
use crate::workload::Trace;

use super::super::outcome::{
    ClassOutcome, Counts, InstanceOutcome, Outcome, RequestRecord, RequestState, RunOptions,
    Summary,
};
use super::Request;
use super::cluster::Cluster;
use super::engine::Engine;

/// The figures of a run that has ended.
pub(super) fn outcome(cluster: &Cluster, options: &RunOptions) -> Outcome {
    let trace = cluster.setting.trace;
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
    let hits: u64 = cluster.engines.iter().map(|engine| engine.kv.hits).sum();
    let misses: u64 = cluster.engines.iter().map(|engine| engine.kv.misses).sum();
    let window_s = end.since(options.warm_up).as_secs();
    let per_s = |count: u64| if window_s > 0.0 { count as f64 / window_s } else { 0.0 };
    let input_tokens: u64 = answered().map(|r| u64::from(r.input)).sum();
    let output_tokens: u64 = answered().map(|r| u64::from(r.output)).sum();
    let delay = |r: &&Request| r.first_scheduled.map(|at| at - r.arrival);
    let mut outcome = Outcome {
        counts: counts(&all),
        measured: counts(&measured),
        within_slo: counts(&measured).completed,
        window_s,
        end_s: cluster.engines.iter().map(|e| e.clock.as_us()).max().unwrap_or(0) as f64 / 1e6,
        ttft: ttft(&measured),
        tpot: tpot(&measured),
        itl: summary(gaps.map(|gap| gap.2)),
        e2e: e2e(&measured),
        throughput_rps: per_s(answered().count() as u64),
        output_tokens_per_s: per_s(output_tokens),
        total_tokens_per_s: per_s(input_tokens + output_tokens),
        kv_utilization_mean: kv_utilization_mean(&cluster.engines),
        kv_utilization_peak: kv_utilization_peak(&cluster.engines),
        busy_fraction: busy_fraction(cluster, options.warm_up, end),
        jain_fairness: jain_fairness(&cluster.engines),
        classes: (0..trace.classes.len()).map(|at| class(cluster, &measured, at)).collect(),
        scheduling_delay: summary(measured.iter().filter_map(delay)),
        cache_hit_rate: rate(hits, misses),
        preemptions: cluster.engines.iter().map(|engine| engine.preemptions).sum(),
        instances: cluster.engines.iter().enumerate().map(|e| instance(cluster, e)).collect(),
        ..Outcome::default()
    };
    if options.keep_requests {
        outcome.requests = all.iter().map(|request| record(trace, request)).collect();
    }
    if options.keep_steps {
        outcome.steps.clone_from(&cluster.steps);
        outcome.steps.sort_by_key(|step| (step.start_us, step.instance, step.step));
    }
    outcome
}

fn counts(requests: &[&Request]) -> Counts {
    let count = |state| requests.iter().filter(|request| request.state == state).count() as u64;
    Counts {
        injected: requests.len() as u64 - count(RequestState::Pending),
        rejected: count(RequestState::Rejected),
        dropped: count(RequestState::Dropped),
        timed_out: count(RequestState::TimedOut),
        failed: count(RequestState::Failed),
        queued: count(RequestState::Queued),
        running: count(RequestState::Running),
        completed: count(RequestState::Completed),
    }
}

fn instance(cluster: &Cluster, (index, engine): (usize, &Engine)) -> InstanceOutcome {
    let here = |state| {
        let requests = cluster.requests.iter();
        requests.filter(|r| r.instance == Some(index) && r.state == state).count() as u64
    };
    InstanceOutcome {
        requests: engine.requests,
        completed: here(RequestState::Completed),
        queued: here(RequestState::Queued),
        running: here(RequestState::Running),
        steps: engine.steps,
        preemptions: engine.preemptions,
        input_tokens: engine.input_tokens,
        decode_tokens: engine.decode_tokens,
        kv_blocks_peak: engine.kv_blocks_peak,
        kv_block_us: engine.kv_block_us,
        cache_hit_rate: rate(engine.kv.hits, engine.kv.misses),
        busy_s: engine.busy.as_secs(),
        end_us: engine.clock.as_us(),
    }
}

fn rate(hits: u64, misses: u64) -> f64 {
    if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
}

fn class(cluster: &Cluster, measured: &[&Request], at: usize) -> ClassOutcome {
    let trace = cluster.setting.trace;
    let class_of = |r: &Request| usize::from(trace.clients[trace.client[r.id].index()].class);
    let mine: Vec<&Request> = measured.iter().copied().filter(|r| class_of(r) == at).collect();
    ClassOutcome {
        name: trace.classes[at].clone(),
        measured: counts(&mine),
        within_slo: counts(&mine).completed,
        ttft: ttft(&mine),
        tpot: tpot(&mine),
        e2e: e2e(&mine),
    }
}

/// Share of KV blocks in use while stepping: block-time over possible block-time.
fn kv_utilization_mean(engines: &[Engine]) -> f64 {
    let (mut used, mut possible) = (0.0, 0.0);
    for engine in engines {
        used += (u128::from(engine.kv_block_us) * 1_000_000) as f64;
        possible += f64::from(engine.kv.total()) * engine.busy.as_ps() as f64;
    }
    if possible > 0.0 { used / possible } else { 0.0 }
}

fn kv_utilization_peak(engines: &[Engine]) -> f64 {
    let peak = |e: &Engine| f64::from(e.kv_blocks_peak) / f64::from(e.kv.total());
    engines.iter().map(peak).fold(0.0, f64::max)
}

/// Share of the time from `start` to `end` in which an instance was stepping.
fn busy_fraction(cluster: &Cluster, start: SimTime, end: SimTime) -> f64 {
    let mut busy_ps = 0;
    for step in &cluster.steps {
        let step_start = SimTime::from_us(step.start_us);
        let step_end = SimTime::from_us(step.start_us + step.duration_us);
        busy_ps += u128::from(step_end.min(end).since(step_start.max(start)).as_ps());
    }
    let possible = end.since(start).as_secs() * cluster.engines.len() as f64;
    if possible > 0.0 { busy_ps as f64 / 1e12 / possible } else { 0.0 }
}

/// (sum x)^2 / (n sum x^2) of the requests per instance.
fn jain_fairness(engines: &[Engine]) -> f64 {
    let sum: f64 = engines.iter().map(|e| e.requests as f64).sum();
    let squares: f64 = engines.iter().map(|e| (e.requests as f64).powi(2)).sum();
    if squares > 0.0 { sum * sum / (engines.len() as f64 * squares) } else { 1.0 }
}

fn ttft(requests: &[&Request]) -> Summary {
    summary(requests.iter().filter_map(|r| r.ttft))
}

fn e2e(requests: &[&Request]) -> Summary {
    summary(requests.iter().filter_map(|r| to_last_token(r)))
}

/// Mean times per token after the first, of requests with such tokens.
fn tpot(requests: &[&Request]) -> Summary {
    let completed = requests.iter().filter(|r| r.state == RequestState::Completed);
    summary(completed.filter_map(|r| {
        let total: u64 = r.gaps.iter().map(|gap| gap.as_ps()).sum();
        total.checked_div(r.gaps.len() as u64).map(Span::from_ps)
    }))
}

/// Arrival to last token, where there was one.
fn to_last_token(request: &Request) -> Option<Span> {
    if request.state != RequestState::Completed {
        return None;
    }
    let mut total = request.ttft?;
    for &gap in &request.gaps {
        total += gap;
    }
    Some(total)
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
        e2e_us: span(to_last_token(request)),
        finished_us: at(request.finished),
        preemptions: request.preemptions,
        retries: 0,
    }
}

/// Quantiles by linear interpolation at rank q (n - 1), over nanoseconds.
fn summary(values: impl Iterator<Item = Span>) -> Summary {
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
