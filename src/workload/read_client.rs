//! Reads the clients of a workload spec.

use std::sync::Arc;

use crate::base::Span;
use crate::config::{Bounds, Fields, Node, Position, Problems, Value};

use super::arrivals::Arrivals;
use super::lengths::LENGTH_MAX;
use super::read::Draft;
use super::read_lengths::{read_arrivals, read_lengths};
use super::read_profile::read_profile;
use super::spec::{
    ARRIVAL_MAX, ClientSpec, ClosedLoop, Growth, PREFIX_LENGTH_DEFAULT, Pacing, Part, Prefix,
    Prompt, RATE_MAX, Sessions, USERS_MAX, Window, WindowOwn, WorkloadSpec,
};

/// The most rounds of a session.
const ROUNDS_MAX: u32 = 100_000;
/// The most instances that a client can name one of.
const INSTANCES_MAX: u32 = 1 << 20;

/// The SLO classes of the reference, in both of its versions.
pub(super) const CLASSES: [&str; 7] =
    ["realtime", "interactive", "batch", "critical", "standard", "sheddable", "background"];

/// Whether a value says no more than its absence does.
pub(super) fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        _ => node.as_f64() == Some(0.0),
    }
}

pub(super) fn read_client(index: usize, node: &Node, problems: &mut Problems) -> Option<Draft> {
    let what = match node.entry("id").and_then(Node::as_text) {
        Some(id) => format!("client `{id}`"),
        None => format!("client {}", index + 1),
    };
    let mut fields = Fields::of(node, &what, problems)?;
    let name = fields.text("id").map_or_else(|| format!("client-{}", index + 1), str::to_owned);
    let pinned_instance = fields.u32("pinned_instance", 0..=INSTANCES_MAX - 1);
    let prefix = read_prefix(&mut fields);
    let concurrency = fields.node("concurrency").is_some_and(|node| !is_blank(node));
    let draft = if concurrency { read_users(&mut fields) } else { read_open(&mut fields) };
    fields.finish();
    let draft = draft?;
    let spec = ClientSpec { name, prefix, pinned_instance, ..draft.spec };
    Some(Draft { spec, at: node.at, ..draft })
}

/// A client whose requests come at a rate.
fn read_open(fields: &mut Fields) -> Option<Draft> {
    read_think_time_alone(fields);
    let fraction = read_rate_fraction(fields);
    let asking = read_asking(fields);
    let profile = read_profile(fields, "profile").map(Arc::new);
    let (windows, window_rates) = read_windows(fields);
    let spec = ClientSpec { rate_fraction: fraction?, windows, profile, ..asking? };
    Some(Draft { window_rates, ..Draft::new(spec, fields.at()) })
}

/// A client of users who wait for their answers.
fn read_users(fields: &mut Fields) -> Option<Draft> {
    let closed_loop = read_closed_loop(fields);
    let asking = read_asked(fields);
    let spec = ClientSpec { rate_fraction: 0.0, closed_loop, ..asking? };
    Some(Draft::new(spec, fields.at()))
}

/// The share of the aggregate rate.
pub(super) fn read_rate_fraction(fields: &mut Fields) -> Option<f64> {
    fields.require(&["rate_fraction"]);
    fields.f64("rate_fraction", Bounds::between(1e-9, 1e9))
}

/// What clients and cohorts say about the arrivals of requests and what they want.
pub(super) fn read_asking(fields: &mut Fields) -> Option<ClientSpec> {
    let arrivals = read_arrivals(fields);
    let sessions = read_sessions(fields);
    let asked = read_asked(fields);
    Some(ClientSpec { arrivals: arrivals?, sessions, ..asked? })
}

/// What requests want, and of whom they are.
fn read_asked(fields: &mut Fields) -> Option<ClientSpec> {
    let tenant = fields.text("tenant_id").filter(|text| !text.is_empty());
    let tenant = tenant.unwrap_or(WorkloadSpec::CLASS_DEFAULT).to_owned();
    let slo_class = read_class(fields);
    let prompt = read_prompt(fields);
    fields.require(&["output_distribution"]);
    let output = read_lengths(fields, "output_distribution");
    note_unused(fields);
    let (prompt, output) = (prompt?, output?);
    Some(ClientSpec { tenant, slo_class, prompt, output, ..ClientSpec::default() })
}

/// `concurrency` users who wait for their answers.
fn read_closed_loop(fields: &mut Fields) -> Option<ClosedLoop> {
    const WHY: &str = "`concurrency` users ask again once they are answered";
    fields.ignored(&["rate_fraction", "arrival"], WHY);
    fields.bool("closed_loop");
    for key in ["profile", "lifecycle", "reasoning", "open_loop"] {
        if fields.node(key).is_some_and(|node| !is_blank(node)) {
            let message = format!("`{key}` and `concurrency` exclude each other");
            fields.error(key, message).label(WHY);
        }
    }
    let users = fields.u32("concurrency", 1..=USERS_MAX);
    let think_time = fields.span("think_time_us", ARRIVAL_MAX).unwrap_or(Span::ZERO);
    Some(ClosedLoop { users: users?, think_time })
}

/// A think time belongs to users who wait, or to the rounds of a session.
fn read_think_time_alone(fields: &mut Fields) {
    fields.node("concurrency");
    if let Some(node) = fields.node("think_time_us").filter(|node| !is_blank(node)) {
        let message = "`think_time_us` without `concurrency` has no effect";
        fields
            .problems()
            .warning(node.at, message)
            .label("nobody waits here")
            .hint("the rounds of a session have their own in `multi_turn`");
    }
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

pub(super) fn read_prefix(fields: &mut Fields) -> Option<Prefix> {
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

/// The client's windows in order, those that overlap joined, and their rates where given.
fn read_windows(fields: &mut Fields) -> (Vec<Window>, Vec<Option<f64>>) {
    let Some(mut lifecycle) = fields.fields("lifecycle") else { return (Vec::new(), Vec::new()) };
    let items = lifecycle.list("windows").unwrap_or_default();
    let problems = lifecycle.problems();
    let read = items.iter().filter_map(|n| Some((read_window(n, problems)?, n.at)));
    let mut windows: Vec<((Window, Option<f64>), Position)> = read.collect();
    windows.sort_by_key(|((window, _), _)| (window.start, window.end));
    let mut joined: Vec<(Window, Option<f64>)> = Vec::with_capacity(windows.len());
    for ((window, rate), at) in windows {
        let Some((last, last_rate)) = joined.last_mut().filter(|last| window.start <= last.0.end)
        else {
            joined.push((window, rate));
            continue;
        };
        if last_rate.is_none() && rate.is_none() && last.own.is_none() && window.own.is_none() {
            last.end = last.end.max(window.end);
        } else if window.start == last.end {
            joined.push((window, rate));
        } else {
            let message = "windows with rates or laws of their own must not overlap";
            let label = format!("begins before {} us, the end of another", last.end.as_us());
            problems.error(at, message).label(label);
        }
    }
    lifecycle.finish();
    joined.into_iter().unzip()
}

fn read_window(node: &Node, problems: &mut Problems) -> Option<(Window, Option<f64>)> {
    let mut fields = Fields::of(node, "a window", problems)?;
    fields.require(&["start_us", "end_us"]);
    let start = fields.span("start_us", ARRIVAL_MAX);
    let end = fields.span("end_us", ARRIVAL_MAX);
    let rate = fields.f64("trace_rate", Bounds::between(0.0, RATE_MAX)).filter(|rate| *rate > 0.0);
    let arrival = fields.node("arrival").is_some_and(|node| !is_blank(node));
    let own = WindowOwn {
        arrivals: if arrival { read_arrivals(&mut fields).map(Arrivals::at_rate) } else { None },
        prompt: read_lengths(&mut fields, "input_distribution"),
        output: read_lengths(&mut fields, "output_distribution"),
    };
    fields.finish();
    let own = (own != WindowOwn::default()).then(|| Arc::new(own));
    let window = Window { own, ..Window::new(start?, end?) };
    if window.start >= window.end {
        let (start, end) = (window.start.as_us(), window.end.as_us());
        let at = node.entry("end_us").map_or(node.at, |value| value.at);
        problems
            .error(at, "this window is empty: it must end after its start")
            .label(format!("from {start} us to {end} us"));
        return None;
    }
    Some((window, rate))
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

/// Reads what nothing depends on, and warns where it says something.
fn note_unused(fields: &mut Fields) {
    const WIRE: &str = "a workload describes requests at the cluster's door";
    const TARGET: &str = "`slo` of the workload says what classes were promised";
    let streaming = fields.bool("streaming").unwrap_or(false);
    let mut network = false;
    if let Some(mut map) = fields.fields("network") {
        for key in ["rtt_ms", "bandwidth_mbps"] {
            network |= map.f64(key, Bounds::NON_NEGATIVE).is_some_and(|value| value > 0.0);
        }
        map.finish();
    }
    let mut says = |key| fields.node(key).is_some_and(|node| !is_blank(node));
    let noted = [
        ("streaming", streaming, WIRE),
        ("network", network, WIRE),
        ("model", says("model"), "all requests are for the model of the policy bundle"),
        ("adapter", says("adapter"), "adapters are not simulated"),
        ("timeout", says("timeout"), "a scenario says when clients give up"),
        ("slo_target_us", says("slo_target_us"), TARGET),
    ];
    for (key, is_set, why) in noted {
        if is_set {
            let at = fields.node(key).map_or(fields.at(), |node| node.at);
            let message = format!("`{key}` has no effect on the simulation");
            fields.problems().warning(at, message).label(why);
        }
    }
}
