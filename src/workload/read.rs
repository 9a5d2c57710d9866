//! Reads a workload: the reference's workload spec as it is, or one of our short forms.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::Span;
use crate::config::{Bounds, Defaults, Fields, Node, Position, Problems, Value, read_span};

use super::arrivals::Arrivals;
use super::cohort::read_cohorts;
use super::files::{OpenFile, read_trace};
use super::inference_perf::read_inference_perf;
use super::profile::{Profile, Surge};
use super::read_client::{is_blank, read_client};
use super::read_profile::read_profile;
use super::read_short::read_short;
use super::read_slo::read_slo;
use super::spec::{ARRIVAL_MAX, CLIENTS_MAX, ClientSpec, RATE_MAX, REQUESTS_MAX, WorkloadSpec};

/// A rate this low or lower sends nothing in the 53 days that the clock lasts.
const RATE_MIN: f64 = 1e-9;

/// A client whose rates are not yet in proportion to its nominal one.
#[derive(Clone)]
pub(super) struct Draft {
    pub spec: ClientSpec,
    pub at: Position,
    /// Arrivals per second in each window, where given.
    pub window_rates: Vec<Option<f64>>,
    /// Arrivals per second in the spike of its profile, where given.
    pub spike_rate: Option<f64>,
}

impl Draft {
    /// Without rates of its own.
    pub fn new(spec: ClientSpec, at: Position) -> Self {
        let window_rates = vec![None; spec.windows.len()];
        Self { spec, at, window_rates, spike_rate: None }
    }
}

impl WorkloadSpec {
    /// Reads a workload that names no trace file, see [`WorkloadSpec::read_with`].
    pub fn read(node: &Node, defaults: &Defaults, problems: &mut Problems) -> Option<Self> {
        let none = |_: &str| Err("files cannot be read here".to_owned());
        Self::read_with(node, defaults, &none, problems)
    }

    /// Reads a workload: a spec of the reference (with `clients`, `cohorts` or `inference_perf`),
    /// a trace file (with `trace`), or a short form `{rate, arrivals, prompt_tokens,
    /// output_tokens, ...}` or `{preset, rate, ...}`. Presets come from `defaults`, trace files
    /// from `open`. `None` where there was an error; all are in `problems`.
    pub fn read_with(
        node: &Node,
        defaults: &Defaults,
        open: OpenFile<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let errors = problems.errors();
        let is_short = node.entry("rate").is_some() || node.entry("preset").is_some();
        let spec = if is_short {
            read_short(node, defaults, problems)
        } else {
            read_full(node, open, problems)
        };
        let mut spec = spec.filter(|_| problems.errors() == errors)?;
        if spec.num_requests.is_none() {
            spec.horizon = spec.horizon.or_else(|| profiles_end(&spec));
        }
        check_times(&spec, node, problems);
        Some(spec).filter(|_| problems.errors() == errors)
    }
}

fn read_full(node: &Node, open: OpenFile<'_>, problems: &mut Problems) -> Option<WorkloadSpec> {
    let mut fields = Fields::of(node, "the workload", problems)?;
    fields.node("version");
    fields.one_of("category", &[("language", ()), ("multimodal", ()), ("reasoning", ())]);
    if fields.node("servegen_data").is_some_and(|node| !is_blank(node)) {
        fields
            .error("servegen_data", "`servegen_data` is not available")
            .label("the folder layout of the reference is not read")
            .hint("`trace: {file: clients.csv, lengths: lengths.csv}` reads ServeGen's clients");
    }
    let targets = fields.node("goodput_slo_targets").filter(|node| !is_blank(node));
    if let Some(targets) = targets {
        let message = "`goodput_slo_targets` has no effect here";
        let problem = fields.problems().warning(targets.at, message);
        problem.label("`slo` says what classes were promised");
    }
    let (horizon, num_requests, seed) = read_limits(&mut fields, "horizon");
    let limits = WorkloadSpec { horizon, num_requests, seed, ..WorkloadSpec::default() };
    let profile = read_profile(&mut fields, "profile").map(Arc::new);
    let open_clients = if fields.node("inference_perf").is_some() {
        read_inference_perf(&mut fields)
    } else {
        read_open(&mut fields)
    };
    let mut spec = limits;
    if let Some((aggregate_rate, clients)) = open_clients {
        (spec.aggregate_rate, spec.clients) = (aggregate_rate, clients);
    }
    for client in spec.clients.iter_mut().filter(|client| client.closed_loop.is_none()) {
        client.profile = client.profile.take().or_else(|| profile.clone());
    }
    read_trace(&mut fields, open, &mut spec);
    if spec.clients.len() > CLIENTS_MAX {
        let message = format!("a workload has from 1 to {CLIENTS_MAX} clients");
        fields.error("clients", message).label(format!("there are {}", spec.clients.len()));
    }
    spec.targets = read_slo(&mut fields, &spec.class_names());
    fields.finish();
    Some(spec)
}

/// Clients and cohorts, and their rate together.
fn read_open(fields: &mut Fields) -> Option<(f64, Vec<ClientSpec>)> {
    let traced = fields.node("trace").is_some();
    let cohorts = fields.node("cohorts").is_some_and(|node| !is_blank(node));
    let needed = !traced && !cohorts;
    if needed {
        fields.require(&["clients"]);
    }
    let aggregate = fields.f64("aggregate_rate", Bounds::between(0.0, RATE_MAX));
    let clients = read_clients(fields, needed);
    let cohorts = read_cohorts(fields);
    let open = |draft: &Draft| draft.spec.closed_loop.is_none();
    let needs_rate = match (&clients, &cohorts) {
        (Some(clients), Some(cohorts)) => clients.iter().chain(cohorts).any(open),
        _ => needed,
    };
    if needs_rate {
        fields.require(&["aggregate_rate"]);
    }
    let mut drafts = clients?;
    drafts.extend(cohorts?);
    let aggregate = aggregate.filter(|rate| *rate > 0.0).map(|rate| rate.max(RATE_MIN));
    resolve(aggregate, drafts, fields.problems())
}

/// Turns rates per second into multiples of nominal ones. Without an aggregate rate every client
/// says its own rates, and the highest of them is its nominal one.
fn resolve(
    aggregate: Option<f64>,
    drafts: Vec<Draft>,
    problems: &mut Problems,
) -> Option<(f64, Vec<ClientSpec>)> {
    let open = |draft: &&Draft| draft.spec.closed_loop.is_none();
    let fractions: f64 = drafts.iter().filter(open).map(|draft| draft.spec.rate_fraction).sum();
    let mut clients = Vec::with_capacity(drafts.len());
    let (mut total, errors) = (0.0, problems.errors());
    for mut draft in drafts {
        if draft.spec.closed_loop.is_some() {
            clients.push(draft.spec);
            continue;
        }
        let nominal = match aggregate {
            Some(rate) => rate * draft.spec.rate_fraction / fractions,
            None => absolute_rate(&draft, problems).unwrap_or(RATE_MIN),
        };
        total += nominal;
        if aggregate.is_none() {
            draft.spec.rate_fraction = nominal;
        }
        for (window, rate) in draft.spec.windows.iter_mut().zip(&draft.window_rates) {
            window.rate = rate.map_or(window.rate, |rate| rate / nominal);
        }
        if let (Some(rate), Some(profile)) = (draft.spike_rate, &draft.spec.profile) {
            let mut profile = Profile::clone(profile);
            let surge = Surge::Level(rate / nominal);
            profile.spikes.iter_mut().for_each(|spike| spike.surge = surge);
            draft.spec.profile = Some(Arc::new(profile));
        }
        clients.push(draft.spec);
    }
    let rate = aggregate.unwrap_or(total);
    Some((rate, clients)).filter(|_| problems.errors() == errors)
}

/// The highest rate that a client gives for itself; every window must have one.
fn absolute_rate(draft: &Draft, problems: &mut Problems) -> Option<f64> {
    let rates: Option<Vec<f64>> = draft.window_rates.iter().copied().collect();
    let fine = rates.filter(|rates| !rates.is_empty() && draft.spec.profile.is_none());
    if fine.is_none() {
        let what = match &draft.spec.profile {
            Some(_) => "a curve needs an aggregate rate that it can scale",
            None => "without an aggregate rate every window needs its `trace_rate`",
        };
        let message = format!("how often `{}` comes is not said", draft.spec.name);
        problems.error(draft.at, message).label(what).hint("or give `aggregate_rate` above 0");
    }
    fine?.into_iter().reduce(f64::max)
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

fn read_clients(fields: &mut Fields, needed: bool) -> Option<Vec<Draft>> {
    let Some(items) = fields.list("clients") else {
        return (!needed && fields.node("clients").is_none()).then(Vec::new);
    };
    if items.len() > CLIENTS_MAX || (items.is_empty() && needed) {
        let message = format!("a workload has from 1 to {CLIENTS_MAX} clients");
        fields.error("clients", message).label(format!("there are {}", items.len()));
        return None;
    }
    let problems = fields.problems();
    let clients: Vec<Option<Draft>> =
        items.iter().enumerate().map(|(i, node)| read_client(i, node, problems)).collect();
    let clients: Vec<Draft> = clients.into_iter().collect::<Option<_>>()?;
    check_groups(&clients, items, problems);
    Some(clients)
}

/// When all curves have been seen once: a workload that says no more ends there, for a run that
/// saw only the quiet start of a day would tell nothing about it.
fn profiles_end(spec: &WorkloadSpec) -> Option<Span> {
    let profiles = spec.clients.iter().filter_map(|client| client.profile.as_ref());
    profiles.map(|profile| profile.extent()).max().filter(|end| *end > Span::ZERO)
}

/// The first client of a group decides its length; the others should agree.
fn check_groups(clients: &[Draft], items: &[Node], problems: &mut Problems) {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    for (client, item) in clients.iter().zip(items) {
        let Some(prefix) = &client.spec.prefix else { continue };
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
    let first_us = firsts.min().filter(|_| spec.replay.is_none()).unwrap_or(0);
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
    let users = spec.clients.iter().any(|client| client.closed_loop.is_some());
    // Users come as fast as they are answered, and a trace may end before it is asked to.
    let unknown = users || spec.replay.is_some();
    let rounds = f64::from(rounds.unwrap_or(1));
    let requests_max = if unknown { f64::INFINITY } else { arrivals_max * rounds };
    if let Some(number) = spec.num_requests.filter(|number| *number as f64 > requests_max) {
        problems
            .error(at("num_requests"), format!("{number} requests take too long at this rate"))
            .label("the simulated clock ends after 53 days of arrivals");
    }
    for ((client, rate), index) in spec.clients.iter().zip(rates).zip(0..) {
        check_measured_rate(client, rate, client_at(node, index), problems);
    }
}

fn client_at(node: &Node, index: usize) -> Position {
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
fn check_measured_rate(client: &ClientSpec, rate: f64, at: Position, problems: &mut Problems) {
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
