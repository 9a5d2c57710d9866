//! `autoscaling` of a bundle, from YAML.

use super::{
    Aibrix, Autoscaling, Combine, CooldownFrom, Drain, Dynamo, Hpa, Keda, Knative, Oracle,
    RayServe, Rule, ScalingPolicy, Schedule, SkyServe, Strategy, Thresholds, Wva,
};
use crate::base::Span;
use crate::config::{Bounds, DAY, Fields, Node, Position, Problems, did_you_mean};
use crate::policy::Pool;
use crate::policy::signals::{Quantiles, Signal};

/// The shortest interval of decisions.
const INTERVAL_MIN: Span = Span::from_us(100_000);
/// The shortest interval of scrapes: those of an hour may be kept.
const SCRAPE_MIN: Span = Span::from_us(1_000_000);
/// The longest window of a signal: every scrape in it is kept.
pub(super) const WINDOW_MAX: Span = Span::from_us(3_600_000_000);
/// The longest period of a schedule, in days.
const PERIOD_DAYS_MAX: u64 = 30;
/// Limits of signals.
const LIMIT_BOUNDS: Bounds = Bounds::between(0.0, 1e12);
/// Instances that one rule adds or removes.
const STEP_MAX: u32 = 100_000;
/// Requests per second of one instance.
const RATE_BOUNDS: Bounds = Bounds::above(0.0, 1e6);
/// What an oracle looks ahead beyond the start of an instance.
const LEAD_BEYOND: Span = Span::from_us(60_000_000);

#[derive(Clone, Copy, PartialEq)]
enum PolicyName {
    None,
    Scheduled,
    Thresholds,
    Oracle,
    Hpa,
    Keda,
    Knative,
    RayServe,
    SkyServe,
    Aibrix(Strategy),
    Dynamo,
    Wva,
}

const POLICIES: [(&str, PolicyName); 13] = [
    ("none", PolicyName::None),
    ("scheduled", PolicyName::Scheduled),
    ("thresholds", PolicyName::Thresholds),
    ("oracle", PolicyName::Oracle),
    ("hpa", PolicyName::Hpa),
    ("keda", PolicyName::Keda),
    ("knative", PolicyName::Knative),
    ("ray-serve", PolicyName::RayServe),
    ("skyserve", PolicyName::SkyServe),
    ("aibrix-kpa", PolicyName::Aibrix(Strategy::Kpa)),
    ("aibrix-apa", PolicyName::Aibrix(Strategy::Apa)),
    ("dynamo-planner", PolicyName::Dynamo),
    ("wva", PolicyName::Wva),
];

/// What `autoscaling.policy` may be, but for `none`.
pub fn policy_names() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().filter(|(_, name)| *name != PolicyName::None).map(|(text, _)| *text)
}

impl PolicyName {
    /// The usual intervals of decisions and of scrapes, in milliseconds: those of the real thing.
    const fn intervals_ms(self) -> (u64, u64) {
        match self {
            Self::Knative => (2_000, 1_000),
            Self::RayServe => (100, 1_000),
            Self::SkyServe => (20_000, 20_000),
            Self::Aibrix(_) => (10_000, 10_000),
            Self::Dynamo => (5_000, 5_000),
            _ => (15_000, 15_000),
        }
    }
}

/// Which way a rule leads, and how its keys are called.
#[derive(Clone, Copy)]
struct Way {
    list: &'static str,
    limit: &'static str,
    step: &'static str,
}

const UP: Way = Way { list: "scale_up", limit: "above", step: "add" };
const DOWN: Way = Way { list: "scale_down", limit: "below", step: "remove" };

/// What rules and metrics have where they do not say it.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub pool: u32,
    pub window: Span,
    interval: Span,
}

/// Cooldowns and guard.
struct Brakes {
    up: Span,
    down: Span,
    from: CooldownFrom,
    pending_guard: bool,
}

/// Reads `autoscaling` of `bundle`. Everything in it is checked, whatever the policy is, so that
/// a search may choose the policy. `pools` is empty where they could not be read.
pub(in crate::policy) fn read_autoscaling(
    bundle: &mut Fields,
    pools: &[Pool],
) -> Option<Autoscaling> {
    let mut fields = bundle.fields("autoscaling")?;
    fields.require(&["policy"]);
    let name = fields.one_of("policy", &POLICIES).unwrap_or(PolicyName::None);
    let (interval, scrape_interval) = read_intervals(&mut fields, name);
    let quantiles = [("exact", Quantiles::Exact), ("buckets", Quantiles::Buckets)];
    let quantiles = fields.one_of("quantiles", &quantiles).unwrap_or_default();
    let drains = [("finish", Drain::Finish), ("hand-back", Drain::HandBack)];
    let drain = fields.one_of("drain", &drains).unwrap_or_default();
    let brakes = read_brakes(&mut fields, name == PolicyName::Thresholds);
    let window = read_window(&mut fields).unwrap_or(Span::from_us(60_000_000));
    let usual = Usual { pool: read_pool(&mut fields, pools).unwrap_or(0), window, interval };
    let policy = read_policy(&mut fields, name, usual, pools);
    let at = fields.at();
    if let Some(policy) = &policy {
        warn(policy, pools, at, fields.problems());
    }
    fields.finish();
    Some(Autoscaling {
        policy: policy?,
        interval,
        scrape_interval,
        quantiles,
        drain,
        cooldown_up: brakes.up,
        cooldown_down: brakes.down,
        cooldown_from: brakes.from,
        pending_guard: brakes.pending_guard,
    })
}

/// Reads what every policy has said about it, and takes that of `name`.
fn read_policy(
    fields: &mut Fields,
    name: PolicyName,
    usual: Usual,
    pools: &[Pool],
) -> Option<ScalingPolicy> {
    let pool = usual.pool;
    let thresholds = read_thresholds(fields, usual, pools, name == PolicyName::Thresholds);
    let schedule = read_schedule(fields, pool, name == PolicyName::Scheduled);
    let oracle = read_oracle(fields, pool, pools, name == PolicyName::Oracle);
    let hpa = Hpa::read(fields, usual, name == PolicyName::Hpa);
    let keda = Keda::read(fields, usual, name == PolicyName::Keda);
    let knative = Knative::read(fields, usual);
    let ray = RayServe::read(fields, usual);
    let sky = SkyServe::read(fields, usual, name == PolicyName::SkyServe);
    let strategy = if let PolicyName::Aibrix(strategy) = name { Some(strategy) } else { None };
    let aibrix = Aibrix::read(fields, usual, strategy);
    let dynamo = Dynamo::read(fields, usual, pools);
    let wva = Wva::read(fields, usual, pools);
    match name {
        PolicyName::None => None,
        PolicyName::Scheduled => schedule.map(ScalingPolicy::Scheduled),
        PolicyName::Thresholds => Some(ScalingPolicy::Thresholds(thresholds)),
        PolicyName::Oracle => oracle.map(ScalingPolicy::Oracle),
        PolicyName::Hpa => hpa.map(ScalingPolicy::Hpa),
        PolicyName::Keda => keda.map(ScalingPolicy::Keda),
        PolicyName::Knative => Some(ScalingPolicy::Knative(knative)),
        PolicyName::RayServe => Some(ScalingPolicy::RayServe(ray)),
        PolicyName::SkyServe => sky.map(ScalingPolicy::SkyServe),
        PolicyName::Aibrix(_) => aibrix.map(ScalingPolicy::Aibrix),
        PolicyName::Dynamo => Some(ScalingPolicy::Dynamo(dynamo)),
        PolicyName::Wva => Some(ScalingPolicy::Wva(wva)),
    }
}

fn read_intervals(fields: &mut Fields, name: PolicyName) -> (Span, Span) {
    let (interval, scrapes) = name.intervals_ms();
    let mut read = |key, usual_ms: u64, min: Span, least: &str| {
        let Some(interval) = fields.span(key, DAY) else { return Span::from_us(usual_ms * 1000) };
        if interval < min {
            let message = format!("`{key}` must be at least {least}");
            fields.error(key, message).label(format!("{} s", interval.as_secs()));
        }
        interval.max(min)
    };
    let interval = read("interval", interval, INTERVAL_MIN, "100 ms");
    (interval, read("scrape_interval", scrapes, SCRAPE_MIN, "a second"))
}

pub(super) fn read_window(fields: &mut Fields) -> Option<Span> {
    let window = fields.span("window", WINDOW_MAX)?;
    if window == Span::ZERO {
        fields.error("window", "nothing is seen in a window of no length").label("zero");
    }
    Some(window)
}

/// Rules need time to see what they did; who knows the number beforehand does not.
fn read_brakes(fields: &mut Fields, by_rules: bool) -> Brakes {
    let seconds = |s: u64| if by_rules { Span::from_us(s * 1_000_000) } else { Span::ZERO };
    let pending_guard = fields.bool("pending_guard").unwrap_or(by_rules);
    let from = CooldownFrom::default();
    let mut brakes = Brakes { up: seconds(60), down: seconds(300), from, pending_guard };
    if let Some(mut fields) = fields.fields("cooldown") {
        brakes.up = fields.span("up", DAY).unwrap_or(brakes.up);
        brakes.down = fields.span("down", DAY).unwrap_or(brakes.down);
        let froms = [("decision", CooldownFrom::Decision), ("ready", CooldownFrom::Ready)];
        brakes.from = fields.one_of("from", &froms).unwrap_or_default();
        fields.finish();
    }
    brakes
}

/// The position of the pool under `pool`.
fn read_pool(fields: &mut Fields, pools: &[Pool]) -> Option<u32> {
    let name = fields.text("pool")?;
    let found = pools.iter().position(|pool| pool.name == name);
    // Pools that could not be read have been reported.
    if found.is_none() && !pools.is_empty() {
        let hint = did_you_mean(name, pools.iter().map(|pool| pool.name.as_str()));
        fields.error("pool", format!("there is no pool `{name}`")).hint(hint);
    }
    found.map(|index| index as u32)
}

/// The rules; without any, those of `scalability-and-reliability.md`.
fn read_thresholds(fields: &mut Fields, usual: Usual, pools: &[Pool], is_used: bool) -> Thresholds {
    let combines = [("max", Combine::Max), ("sum", Combine::Sum)];
    let combine = fields.one_of("combine", &combines).unwrap_or_default();
    let up = read_rules(fields, UP, usual, pools);
    let down = read_rules(fields, DOWN, usual, pools);
    if up.is_none() && down.is_none() {
        let at = fields.at();
        let (up, down) = standard_rules(usual);
        if is_used {
            warn_of_busy(at, fields.problems());
        }
        return Thresholds { up, down, combine };
    }
    Thresholds { up: up.unwrap_or_default(), down: down.unwrap_or_default(), combine }
}

/// The rules of `scalability-and-reliability.md`.
fn standard_rules(usual: Usual) -> (Vec<Rule>, Vec<Rule>) {
    let rule = |signal, limit, lasting_s: u64, step| {
        let lasting = Span::from_us(lasting_s * 1_000_000);
        Rule { pool: usual.pool, signal, limit, lasting, window: usual.window, step }
    };
    let up = vec![
        rule(Signal::Ttft(99), 300.0, 60, 1),
        rule(Signal::BusyFraction, 0.85, 120, 1),
        rule(Signal::Waiting, 100.0, 30, 2),
    ];
    (up, vec![rule(Signal::BusyFraction, 0.3, 600, 1)])
}

fn read_rules(fields: &mut Fields, way: Way, usual: Usual, pools: &[Pool]) -> Option<Vec<Rule>> {
    let items = fields.list(way.list)?;
    let rules =
        items.iter().filter_map(|item| read_rule(item, way, usual, pools, fields.problems()));
    Some(rules.collect())
}

fn read_rule(
    item: &Node,
    way: Way,
    usual: Usual,
    pools: &[Pool],
    problems: &mut Problems,
) -> Option<Rule> {
    let mut fields = Fields::of(item, &format!("a rule of `{}`", way.list), problems)?;
    fields.require(&["signal", way.limit]);
    let signal = fields.one_of("signal", &Signal::ALL);
    let limit = fields.f64(way.limit, LIMIT_BOUNDS);
    let lasting = fields.span("for", DAY).unwrap_or(Span::ZERO);
    let window = read_window(&mut fields).unwrap_or(usual.window);
    let step = fields.u32(way.step, 1..=STEP_MAX).unwrap_or(1);
    let pool = read_pool(&mut fields, pools).unwrap_or(usual.pool);
    if lasting > Span::ZERO && lasting < usual.interval {
        let at = fields.node("for").map_or(item.at, |node| node.at);
        let message = "`for` is shorter than the interval of decisions";
        let label = format!("it is looked at every {} s", usual.interval.as_secs());
        fields.problems().warning(at, message).label(label);
    }
    if way.list == UP.list && signal == Some(Signal::BusyFraction) {
        let at = fields.node("signal").map_or(item.at, |node| node.at);
        warn_of_busy(at, fields.problems());
    }
    fields.finish();
    Some(Rule { pool, signal: signal?, limit: limit?, lasting, window, step })
}

fn warn_of_busy(at: Position, problems: &mut Problems) {
    problems
        .warning(at, "`busy_fraction` is near 1 on any loaded engine, full or not")
        .label("this scales up and up")
        .hint("`token_utilization` is 1 at capacity");
}

fn read_schedule(fields: &mut Fields, pool: u32, is_used: bool) -> Option<Schedule> {
    if is_used {
        fields.require(&["schedule"]);
    }
    let mut fields = fields.fields("schedule")?;
    fields.require(&["entries"]);
    let period = fields.span("period", DAY.times(PERIOD_DAYS_MAX)).unwrap_or(DAY);
    if period == Span::ZERO {
        fields.error("period", "`period` must be longer than zero").label("zero");
    }
    let items = fields.list("entries").unwrap_or_default();
    if items.is_empty() && fields.node("entries").is_some() {
        fields.error("entries", "a schedule needs an entry").label("nothing is said");
    }
    let problems = fields.problems();
    let mut entries: Vec<(Span, u32)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(entry) = read_entry(item, problems) else { continue };
        let before = entries.last().map(|(at, _)| *at);
        if before.is_some_and(|before| before >= entry.0) {
            problems.error(item.at, "the entries of a schedule must come in order of time");
        } else if entry.0 >= period {
            problems
                .error(item.at, "`period` is over before this entry")
                .label(format!("it lasts {} s", period.as_secs()));
        }
        entries.push(entry);
    }
    fields.finish();
    // What comes before the first entry belongs to the last one of the period before.
    if let (Some(first), Some(last)) = (entries.first(), entries.last())
        && first.0 > Span::ZERO
    {
        entries.insert(0, (Span::ZERO, last.1));
    }
    Some(Schedule { pool, period: period.max(Span::from_us(1)), entries })
}

fn read_entry(item: &Node, problems: &mut Problems) -> Option<(Span, u32)> {
    let mut fields = Fields::of(item, "an entry of the schedule", problems)?;
    fields.require(&["at", "instances"]);
    let at = fields.span("at", DAY.times(PERIOD_DAYS_MAX));
    let instances = fields.u32("instances", 0..=STEP_MAX);
    fields.finish();
    Some((at?, instances?))
}

fn read_oracle(fields: &mut Fields, pool: u32, pools: &[Pool], is_used: bool) -> Option<Oracle> {
    if is_used {
        fields.require(&["oracle"]);
    }
    let mut fields = fields.fields("oracle")?;
    fields.require(&["requests_per_instance_s"]);
    let rate = fields.f64("requests_per_instance_s", RATE_BOUNDS);
    let lead = fields.span("lead", DAY);
    fields.finish();
    let start_up = pools.get(pool as usize).map_or(Span::ZERO, |pool| pool.start_up.mean());
    let lead = lead.unwrap_or((start_up + LEAD_BEYOND).min(DAY));
    Some(Oracle { pool, requests_per_instance_s: rate?, lead })
}

/// Warns of what will never do anything.
fn warn(policy: &ScalingPolicy, pools: &[Pool], at: Position, problems: &mut Problems) {
    for pool in policy.pools().into_iter().filter_map(|index| pools.get(index as usize)) {
        if pool.min_instances == pool.max_instances {
            problems
                .warning(at, format!("pool `{}` cannot scale", pool.name))
                .label(format!("it always has {}", pool.instances))
                .hint("give it `min_instances` and `max_instances`");
        }
    }
    let is_busy = |(signal, _): &(Signal, Span)| *signal == Signal::BusyFraction;
    if policy.controller().is_some_and(|controller| controller.looks_at().iter().any(is_busy)) {
        warn_of_busy(at, problems);
    }
    let ScalingPolicy::Scheduled(schedule) = policy else { return };
    let Some(pool) = pools.get(schedule.pool as usize) else { return };
    let (min, max) = (pool.min_instances, pool.max_instances);
    let outside = schedule.entries.iter().find(|(_, count)| !(min..=max).contains(count));
    if let Some((_, count)) = outside.filter(|_| min < max) {
        let message = format!("pool `{}` never has {count} instances", pool.name);
        problems.warning(at, message).label(format!("its bounds are {min} and {max}"));
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "read_controllers_tests.rs"]
mod controllers_tests;
