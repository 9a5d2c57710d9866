//! Reads a workload: the reference's workload spec as it is, or one of our short forms.

use crate::base::Span;
use crate::config::{Bounds, Defaults, Fields, Node, Problems, Value, read_span};

use super::arrivals::Arrivals;
use super::inference_perf::read_inference_perf;
use super::lengths::LENGTH_MAX;
use super::read_lengths::{read_arrivals, read_lengths};
use super::read_short::read_short;
use super::spec::{
    ARRIVAL_MAX, CLIENTS_MAX, ClientSpec, Growth, PREFIX_LENGTH_DEFAULT, Pacing, Part, Prefix,
    Prompt, RATE_MAX, REQUESTS_MAX, Sessions, Window, WorkloadSpec,
};

/// A rate this low or lower sends nothing in the 53 days that the clock lasts.
const RATE_MIN: f64 = 1e-9;
/// The most rounds of a session.
const ROUNDS_MAX: u32 = 100_000;

/// The SLO classes of the reference, in both of its versions.
const CLASSES: [&str; 7] =
    ["realtime", "interactive", "batch", "critical", "standard", "sheddable", "background"];

impl WorkloadSpec {
    /// Reads a workload: a spec of the reference (with `clients` or `inference_perf`), or a
    /// short form `{rate, arrivals, prompt_tokens, output_tokens, ...}` or `{preset, rate, ...}`.
    /// Presets come from `defaults`. `None` where there was an error; all are in `problems`.
    pub fn read(node: &Node, defaults: &Defaults, problems: &mut Problems) -> Option<Self> {
        let errors = problems.errors();
        let is_short = node.entry("rate").is_some() || node.entry("preset").is_some();
        let spec =
            if is_short { read_short(node, defaults, problems) } else { read_full(node, problems) };
        let spec = spec.filter(|_| problems.errors() == errors)?;
        check_times(&spec, node, problems);
        Some(spec).filter(|_| problems.errors() == errors)
    }
}

fn read_full(node: &Node, problems: &mut Problems) -> Option<WorkloadSpec> {
    let mut fields = Fields::of(node, "the workload", problems)?;
    fields.node("version");
    fields.one_of("category", &[("language", ()), ("multimodal", ()), ("reasoning", ())]);
    not_yet(&mut fields, &["goodput_slo_targets", "cohorts", "servegen_data"]);
    let (horizon, num_requests, seed) = read_limits(&mut fields, "horizon");
    let (aggregate_rate, clients) = if fields.node("inference_perf").is_some() {
        read_inference_perf(&mut fields)?
    } else {
        fields.require(&["aggregate_rate"]);
        let rate = read_rate(&mut fields, "aggregate_rate");
        let clients = read_clients(&mut fields);
        (rate.unwrap_or(1.0), clients.unwrap_or_default())
    };
    fields.finish();
    Some(WorkloadSpec { aggregate_rate, horizon, num_requests, seed, clients })
}

/// A rate in arrivals per second.
pub(super) fn read_rate(fields: &mut Fields, key: &'static str) -> Option<f64> {
    fields.f64(key, Bounds::above(0.0, RATE_MAX)).map(|rate| rate.max(RATE_MIN))
}

/// Horizon, number of requests and seed.
pub(super) fn read_limits(
    fields: &mut Fields,
    horizon_key: &'static str,
) -> (Option<Span>, Option<u64>, Option<u64>) {
    let no_horizon = Value::Int(i64::MAX);
    let horizon = fields.node(horizon_key).filter(|node| node.value != no_horizon);
    let what = format!("`{horizon_key}`");
    // The reference's horizon is in microseconds, without saying so.
    let unit = if horizon_key == "horizon" { "horizon_us" } else { horizon_key };
    let horizon =
        horizon.and_then(|node| read_span(node, &what, unit, ARRIVAL_MAX, fields.problems()));
    if horizon == Some(Span::ZERO) {
        fields.error(horizon_key, format!("{what} ends before the first arrival")).label("zero");
    }
    let requests = fields.u64("num_requests", 0..=REQUESTS_MAX).filter(|number| *number > 0);
    let seed = fields.u64("seed", 0..=u64::MAX);
    (horizon, requests, seed)
}

/// Reports `keys` that say something and that nothing here can do.
fn not_yet(fields: &mut Fields, keys: &[&'static str]) {
    for key in keys {
        if fields.node(key).is_some_and(|node| !is_blank(node)) {
            fields
                .error(key, format!("`{key}` is not available yet"))
                .label("a later version of the reference's workload spec knows it");
        }
    }
}

/// Whether a value says no more than its absence does.
fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        _ => node.as_f64() == Some(0.0),
    }
}

fn read_clients(fields: &mut Fields) -> Option<Vec<ClientSpec>> {
    fields.require(&["clients"]);
    let items = fields.list("clients")?;
    if items.is_empty() || items.len() > CLIENTS_MAX {
        let message = format!("a workload has from 1 to {CLIENTS_MAX} clients");
        fields.error("clients", message).label(format!("there are {}", items.len()));
        return None;
    }
    let problems = fields.problems();
    let clients: Vec<Option<ClientSpec>> =
        items.iter().enumerate().map(|(i, node)| read_client(i, node, problems)).collect();
    let clients: Vec<ClientSpec> = clients.into_iter().collect::<Option<_>>()?;
    check_groups(&clients, items, problems);
    Some(clients)
}

fn read_client(index: usize, node: &Node, problems: &mut Problems) -> Option<ClientSpec> {
    let what = match node.entry("id").and_then(Node::as_text) {
        Some(id) => format!("client `{id}`"),
        None => format!("client {}", index + 1),
    };
    let mut fields = Fields::of(node, &what, problems)?;
    let name = fields.text("id").map_or_else(|| format!("client-{}", index + 1), str::to_owned);
    let tenant = fields.text("tenant_id").filter(|text| !text.is_empty());
    let tenant = tenant.unwrap_or(WorkloadSpec::CLASS_DEFAULT).to_owned();
    let slo_class = read_class(&mut fields);
    fields.require(&["rate_fraction"]);
    let rate_fraction = fields.f64("rate_fraction", Bounds::between(1e-9, 1e9));
    let arrivals = read_arrivals(&mut fields);
    let prompt = read_prompt(&mut fields);
    fields.require(&["output_distribution"]);
    let output = read_lengths(&mut fields, "output_distribution");
    let prefix = read_prefix(&mut fields);
    let windows = read_windows(&mut fields);
    let sessions = read_sessions(&mut fields);
    note_unused(&mut fields);
    not_yet(
        &mut fields,
        &["model", "adapter", "concurrency", "think_time_us", "timeout", "slo_target_us"],
    );
    fields.finish();
    Some(ClientSpec {
        name,
        tenant,
        slo_class,
        rate_fraction: rate_fraction?,
        arrivals: arrivals?,
        prompt: prompt?,
        output: output?,
        prefix,
        windows,
        sessions,
    })
}

/// The SLO class; `default` where it is absent or empty.
pub(super) fn read_class(fields: &mut Fields) -> String {
    let written = fields.node("slo_class").filter(|node| !is_blank(node));
    let table = CLASSES.map(|class| (class, class));
    let class = written.and_then(|_| fields.one_of("slo_class", &table));
    class.unwrap_or(WorkloadSpec::CLASS_DEFAULT).to_owned()
}

fn read_prompt(fields: &mut Fields) -> Option<Prompt> {
    if fields.node("multimodal").is_some() {
        fields.node("input_distribution");
        return read_multimodal(fields);
    }
    fields.require(&["input_distribution"]);
    read_lengths(fields, "input_distribution").map(Prompt::Text)
}

fn read_multimodal(fields: &mut Fields) -> Option<Prompt> {
    const KINDS: [(&str, &str); 3] = [
        ("image_distribution", "image_count_distribution"),
        ("audio_distribution", "audio_count_distribution"),
        ("video_distribution", "video_count_distribution"),
    ];
    let mut map = fields.fields("multimodal")?;
    let text = read_lengths(&mut map, "text_distribution");
    let mut parts = Vec::new();
    for (tokens_key, count_key) in KINDS {
        let tokens = read_lengths(&mut map, tokens_key);
        let count = read_lengths(&mut map, count_key);
        parts.extend(tokens.map(|tokens| Part { count, tokens }));
    }
    map.finish();
    Some(Prompt::Multimodal { text, parts })
}

fn read_prefix(fields: &mut Fields) -> Option<Prefix> {
    let group = fields.text("prefix_group").filter(|group| !group.is_empty());
    let length = fields.u32("prefix_length", 0..=LENGTH_MAX);
    let at = fields.node("prefix_length").map_or(fields.at(), |node| node.at);
    let Some(group) = group else {
        if length.is_some_and(|length| length > 0) {
            fields
                .problems()
                .warning(at, "`prefix_length` without `prefix_group` has no effect")
                .label("no group shares these tokens");
        }
        return None;
    };
    if length == Some(0) {
        let message = format!("`prefix_length: 0` means {PREFIX_LENGTH_DEFAULT} tokens");
        fields.problems().warning(at, message).label("as in the reference");
    }
    let length = length.filter(|length| *length > 0).unwrap_or(PREFIX_LENGTH_DEFAULT);
    Some(Prefix { group: group.to_owned(), length })
}

/// The client's windows in order, those that overlap joined.
fn read_windows(fields: &mut Fields) -> Vec<Window> {
    let Some(mut lifecycle) = fields.fields("lifecycle") else { return Vec::new() };
    let items = lifecycle.list("windows").unwrap_or_default();
    let problems = lifecycle.problems();
    let mut windows: Vec<Window> = items.iter().filter_map(|n| read_window(n, problems)).collect();
    lifecycle.finish();
    windows.sort_by_key(|window| (window.start, window.end));
    let mut joined: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        match joined.last_mut().filter(|last| window.start <= last.end) {
            Some(last) => last.end = last.end.max(window.end),
            None => joined.push(window),
        }
    }
    joined
}

fn read_window(node: &Node, problems: &mut Problems) -> Option<Window> {
    let mut fields = Fields::of(node, "a window", problems)?;
    fields.require(&["start_us", "end_us"]);
    let start = fields.span("start_us", ARRIVAL_MAX);
    let end = fields.span("end_us", ARRIVAL_MAX);
    not_yet(&mut fields, &["trace_rate", "arrival", "input_distribution", "output_distribution"]);
    fields.finish();
    let window = Window { start: start?, end: end?, rate: 1.0 };
    if window.start >= window.end {
        let (start, end) = (window.start.as_us(), window.end.as_us());
        let at = node.entry("end_us").map_or(node.at, |value| value.at);
        problems
            .error(at, "this window is empty: it must end after its start")
            .label(format!("from {start} us to {end} us"));
        return None;
    }
    Some(window)
}

fn read_sessions(fields: &mut Fields) -> Option<Sessions> {
    let pacing = read_pacing(fields);
    let mut reasoning = fields.fields("reasoning")?;
    let ratio = read_lengths(&mut reasoning, "reason_ratio_distribution");
    if ratio.is_some_and(|ratio| !ratio.is_zero()) {
        let at = reasoning.at();
        let message = "`reason_ratio_distribution` has no effect on the simulation";
        reasoning.problems().warning(at, message).label("reasoning tokens are answer tokens");
    }
    let turns = reasoning.fields("multi_turn").and_then(|turns| read_turns(turns, pacing));
    reasoning.finish();
    turns
}

fn read_turns(mut turns: Fields, pacing: Pacing) -> Option<Sessions> {
    turns.require(&["max_rounds"]);
    let max_rounds = turns.u32("max_rounds", 1..=ROUNDS_MAX);
    let think_time = turns.span("think_time_us", ARRIVAL_MAX).unwrap_or(Span::ZERO);
    let table = [("accumulate", Growth::Accumulate), ("none", Growth::None)];
    let growth = turns.node("context_growth").filter(|node| !is_blank(node));
    let growth = growth.and_then(|_| turns.one_of("context_growth", &table));
    let single = turns.bool("single_session").unwrap_or(false);
    turns.finish();
    Some(Sessions {
        max_rounds: max_rounds?,
        think_time,
        growth: growth.unwrap_or(Growth::None),
        pacing,
        single,
    })
}

fn read_pacing(fields: &mut Fields) -> Pacing {
    let open = fields.bool("open_loop");
    let closed = fields.bool("closed_loop");
    if let (Some(open), Some(closed)) = (open, closed)
        && open == closed
    {
        fields
            .error("open_loop", "`open_loop` and `closed_loop` contradict each other")
            .label(format!("both are {open}"))
            .hint("one of them is enough; without either, sessions are closed loop");
    }
    if open == Some(true) || closed == Some(false) { Pacing::Open } else { Pacing::Closed }
}

/// Reads what describes the client's side of the wire and warns that nothing depends on it.
fn note_unused(fields: &mut Fields) {
    const WHY: &str = "a workload describes requests at the cluster's door";
    let streaming = fields.bool("streaming").unwrap_or(false);
    let mut network = false;
    if let Some(mut map) = fields.fields("network") {
        for key in ["rtt_ms", "bandwidth_mbps"] {
            network |= map.f64(key, Bounds::NON_NEGATIVE).is_some_and(|value| value > 0.0);
        }
        map.finish();
    }
    for (key, is_set) in [("streaming", streaming), ("network", network)] {
        if is_set {
            let at = fields.node(key).map_or(fields.at(), |node| node.at);
            let message = format!("`{key}` has no effect on the simulation");
            fields.problems().warning(at, message).label(WHY);
        }
    }
}

/// The first client of a group decides its length; the others should agree.
fn check_groups(clients: &[ClientSpec], items: &[Node], problems: &mut Problems) {
    let mut first: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    for (client, item) in clients.iter().zip(items) {
        let Some(prefix) = &client.prefix else { continue };
        let length = *first.entry(prefix.group.as_str()).or_insert(prefix.length);
        if length != prefix.length {
            let at = item.entry("prefix_length").map_or(item.at, |node| node.at);
            let message = format!("prefix group `{}` has {length} tokens", prefix.group);
            problems
                .warning(at, message)
                .label(format!("not {}: the first client of a group decides", prefix.length));
        }
    }
}

/// Arrivals must begin before the horizon, and end while the clock still runs.
fn check_times(spec: &WorkloadSpec, node: &Node, problems: &mut Problems) {
    let at = |key: &str| node.entry(key).map_or(node.at, |value| value.at);
    let rates = spec.client_rates();
    let firsts = spec.clients.iter().zip(&rates).map(|(client, rate)| earliest_us(client, *rate));
    let first_us = firsts.min().unwrap_or(0);
    let horizon_key = if node.entry("duration").is_some() { "duration" } else { "horizon" };
    if let Some(horizon) = spec.horizon
        && horizon.as_us() <= first_us
    {
        problems
            .error(at(horizon_key), format!("`{horizon_key}` ends before the first arrival"))
            .label(format!("nothing arrives before {first_us} us"));
    }
    let arrivals_max = spec.aggregate_rate * ARRIVAL_MAX.as_secs();
    let rounds = spec.clients.iter().map(|c| c.sessions.map_or(1, |s| s.max_rounds)).max();
    let requests_max = arrivals_max * f64::from(rounds.unwrap_or(1));
    if let Some(number) = spec.num_requests.filter(|number| *number as f64 > requests_max) {
        problems
            .error(at("num_requests"), format!("{number} requests take too long at this rate"))
            .label("the simulated clock ends after 53 days of arrivals");
    }
    for ((client, rate), index) in spec.clients.iter().zip(rates).zip(0..) {
        check_measured_rate(client, rate, client_at(node, index), problems);
    }
}

fn client_at(node: &Node, index: usize) -> crate::config::Position {
    match node.entry("clients").map(|clients| &clients.value) {
        Some(Value::List(items)) => items.get(index).map_or(node.at, |item| item.at),
        _ => node.at,
    }
}

/// Before this many microseconds the client surely sends nothing.
fn earliest_us(client: &ClientSpec, rate: f64) -> u64 {
    let start_us = client.windows.first().map_or(0, |window| window.start.as_us());
    match client.arrivals {
        Arrivals::Constant { from_zero: false } => {
            start_us.saturating_add(client.arrivals.mean_gap_us(rate) as u64)
        }
        _ => start_us,
    }
}

/// Gaps given by shape and scale set their own rate; say so where it is another one.
fn check_measured_rate(
    client: &ClientSpec,
    rate: f64,
    at: crate::config::Position,
    problems: &mut Problems,
) {
    if !matches!(client.arrivals, Arrivals::GammaGaps { .. } | Arrivals::WeibullGaps { .. }) {
        return;
    }
    let measured = 1e6 / client.arrivals.mean_gap_us(rate);
    if (measured / rate - 1.0).abs() > 0.05 {
        let message = format!(
            "`shape` and `scale` of client `{}` mean {measured:.4} arrivals/s, not {rate:.4}",
            client.name
        );
        problems.warning(at, message).label("they come before `rate_fraction`");
    }
}
