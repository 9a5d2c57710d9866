//! A scenario from YAML.

use super::chance::lets_time_pass;
use super::conditions::{Conduct, InFlight, Recovery, Retry, Strike, Victim};
use super::spec::{Crashes, Declared, Moment, Reclaims, Scenario, Surge};
use crate::base::{Delay, SimTime, Span};
use crate::config::{
    Bounds, DAY, Fields, Node, Problems, SHAPE_BOUNDS, did_you_mean, read_delay, read_span,
};

/// No run lasts longer.
const LAST: Span = SimTime::LAST.since(SimTime::ZERO);
/// Mean GPU-hours to a failure of a GPU, all causes: 419 of them in 54 days on 16,384 H100.
const MTBF_GPU_HOURS: f64 = 50_677.0;
const MTBF_BOUNDS: Bounds = Bounds::between(0.01, 1e9);
/// Multiples of a load, and how many times longer a step takes.
const FACTORS: Bounds = Bounds::above(0.0, 1000.0);
const SLOWNESS: Bounds = Bounds::between(1.0, 1000.0);
const WEIGHTS: Bounds = Bounds::above(0.0, 1e6);
/// Serving instances that a fault can name one of, and those it can strike at once.
const INSTANCES_MAX: u32 = 100_000;
const COUNT_MAX: u32 = 1000;
/// Attempts of a client after its first.
const RETRIES_MAX: u32 = 20;
/// Notice of a reclaim that names none: that of the largest provider.
const NOTICE: Span = Span::from_us(120_000_000);
/// A repair that names no time: a driver reset or a reboot, from 1 to 4 hours.
const REPAIR: Delay =
    Delay::Uniform { low: Span::from_us(3_600_000_000), high: Span::from_us(4 * 3_600_000_000) };
const KINDS: [&str; 5] = ["crash", "zone_outage", "reclaim", "slow", "no_capacity"];

/// The fleet that a scenario is for, as far as it can name parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetNames {
    /// The pools.
    pub pools: Vec<String>,
    /// The zones of all pools, each once.
    pub zones: Vec<String>,
    /// Whether a pool has spot instances.
    pub has_spot: bool,
}

/// Reads a scenario; `what` is what messages call it. Names of pools and zones are checked where
/// the fleet is known. `None` where there was an error; all are in `problems`.
pub fn read_scenario(
    node: &Node,
    what: &str,
    fleet: Option<&FleetNames>,
    problems: &mut Problems,
) -> Option<Scenario> {
    let errors = problems.errors();
    let mut fields = Fields::of(node, what, problems)?;
    let usual = Scenario::default();
    let weight = fields.f64("weight", WEIGHTS).unwrap_or(usual.weight);
    let cold_start = fields.bool("cold_start").unwrap_or(usual.cold_start);
    let burst = read_burst(&mut fields);
    let mut faults = Vec::new();
    for item in fields.list("faults").unwrap_or_default() {
        read_fault(item, fleet, &mut faults, fields.problems());
    }
    let (crashes, reclaims) = read_random(&mut fields);
    let recovery = read_recovery(&mut fields);
    let clients = read_clients(&mut fields, usual.clients);
    let reclaims_spot = |fault: &Declared| matches!(fault.strike, Strike::Reclaim { .. });
    if fleet.is_some_and(|fleet| !fleet.has_spot)
        && (reclaims.is_some() || faults.iter().any(reclaims_spot))
    {
        let at = fields.at();
        let problem = fields.problems().warning(at, "nothing can be reclaimed: no pool is spot");
        problem.label("reclaims have no effect").hint("set `market: spot` in a pool");
    }
    fields.finish();
    let read = Scenario { weight, cold_start, burst, faults, crashes, reclaims, recovery, clients };
    Some(read).filter(|_| problems.errors() == errors)
}

fn read_burst(scenario: &mut Fields) -> Option<Surge> {
    let mut fields = scenario.fields("burst")?;
    fields.require(&["for", "factor"]);
    let at = read_moment(&mut fields);
    let lasting = read_lasting(&mut fields);
    let factor = fields.f64("factor", FACTORS);
    fields.finish();
    Some(Surge { at: at?, lasting: lasting?, factor: factor? })
}

/// When: a length of time from the start, `peak`, or a share of the run such as `"50%"`.
fn read_moment(fields: &mut Fields) -> Option<Moment> {
    let node = fields.required("at")?;
    if node.as_text() == Some("peak") {
        return Some(Moment::Peak);
    }
    if let Some(percent) = node.as_text().and_then(|text| text.trim().strip_suffix('%')) {
        let percent = percent.trim_end().parse::<f64>().ok();
        let inside = percent.filter(|percent| (0.0..=100.0).contains(percent));
        if inside.is_none() {
            fields.error("at", "a share of the run is from 0% to 100%");
        }
        return inside.map(|percent| Moment::Share(percent / 100.0));
    }
    read_span(node, "`at`", "at", LAST, fields.problems()).map(Moment::At)
}

/// For how long; not for no time at all.
fn read_lasting(fields: &mut Fields) -> Option<Span> {
    let lasting = fields.span("for", LAST)?;
    if lasting == Span::ZERO {
        fields.error("for", "this is over before it begins").label("zero");
    }
    Some(lasting)
}

fn read_fault(
    item: &Node,
    fleet: Option<&FleetNames>,
    faults: &mut Vec<Declared>,
    problems: &mut Problems,
) {
    let Some(mut fields) = Fields::of(item, "a fault", problems) else { return };
    let given: Vec<&'static str> =
        KINDS.into_iter().filter(|kind| fields.node(kind).is_some()).collect();
    if let &[kind] = given.as_slice() {
        if let Some(inner) = fields.fields(kind) {
            faults.extend(read_strike(kind, inner, fleet).unwrap_or_default());
        }
    } else {
        let known = KINDS.map(|kind| format!("`{kind}`")).join(", ");
        let label = if given.is_empty() { "none of them is here" } else { "more than one" };
        let message = format!("a fault is one of {known}");
        fields.problems().error(item.at, message).label(label);
    }
    fields.finish();
}

/// The strikes of one fault: a crash may hit several instances.
fn read_strike(
    kind: &str,
    mut fields: Fields,
    fleet: Option<&FleetNames>,
) -> Option<Vec<Declared>> {
    let at = read_moment(&mut fields);
    let strikes = match kind {
        "crash" => Some(read_crash(&mut fields)),
        "zone_outage" => {
            fields.require(&["zone", "for"]);
            let zone = read_zone(&mut fields, fleet);
            let lasting = read_lasting(&mut fields);
            zone.zip(lasting).map(|(zone, lasting)| vec![Strike::ZoneOutage { zone, lasting }])
        }
        "reclaim" => read_reclaim(&mut fields, fleet).map(|strike| vec![strike]),
        "slow" => {
            fields.require(&["factor", "for"]);
            let victim = Victim::Serving(read_instance(&mut fields));
            let factor = fields.f64("factor", SLOWNESS);
            let lasting = read_lasting(&mut fields);
            let slow = factor.zip(lasting);
            slow.map(|(factor, lasting)| vec![Strike::Slow { victim, factor, lasting }])
        }
        _ => {
            fields.require(&["for"]);
            let pool = read_pool(&mut fields, fleet);
            let zone = read_zone(&mut fields, fleet);
            let lasting = read_lasting(&mut fields);
            lasting.map(|lasting| vec![Strike::NoCapacity { pool, zone, lasting }])
        }
    };
    fields.finish();
    let at = at?;
    Some(strikes?.into_iter().map(|strike| Declared { at, strike }).collect())
}

/// Which of the serving instances, counted from 0.
fn read_instance(fields: &mut Fields) -> u32 {
    fields.u32("instance", 0..=INSTANCES_MAX - 1).unwrap_or(0)
}

fn read_crash(fields: &mut Fields) -> Vec<Strike> {
    let first = read_instance(fields);
    let count = fields.u32("count", 1..=COUNT_MAX).unwrap_or(1);
    let in_flight = read_in_flight(fields);
    let repair = read_repair(fields);
    let crash = |index| Strike::Crash {
        victim: Victim::Serving(first + index),
        in_flight,
        repair: repair.clone(),
    };
    (0..count).map(crash).collect()
}

fn read_in_flight(fields: &mut Fields) -> InFlight {
    let table = [("lost", InFlight::Lost), ("finished", InFlight::Finished)];
    fields.one_of("in_flight", &table).unwrap_or_default()
}

fn read_repair(fields: &mut Fields) -> Option<Delay> {
    let node = fields.node("repair")?;
    read_delay(node, "`repair`", fields.problems())
}

fn read_reclaim(fields: &mut Fields, fleet: Option<&FleetNames>) -> Option<Strike> {
    fields.require(&["for"]);
    let zone = read_zone(fields, fleet);
    let (share, notice) = read_taking(fields);
    let lasting = read_lasting(fields)?;
    Some(Strike::Reclaim { zone, share, notice, lasting })
}

/// The share of instances that a reclaim takes, and its notice.
fn read_taking(fields: &mut Fields) -> (f64, Span) {
    let share = fields.f64("share", Bounds::FRACTION).unwrap_or(1.0);
    (share, fields.span("notice", DAY).unwrap_or(NOTICE))
}

fn read_zone(fields: &mut Fields, fleet: Option<&FleetNames>) -> Option<String> {
    let zones = fleet.map(|fleet| fleet.zones.as_slice());
    read_name(fields, "zone", "no pool has the zone", zones)
}

fn read_pool(fields: &mut Fields, fleet: Option<&FleetNames>) -> Option<String> {
    let pools = fleet.map(|fleet| fleet.pools.as_slice());
    read_name(fields, "pool", "there is no pool", pools)
}

fn read_name(
    fields: &mut Fields,
    key: &'static str,
    none: &str,
    known: Option<&[String]>,
) -> Option<String> {
    let name = fields.text(key)?;
    if let Some(known) = known.filter(|known| !known.iter().any(|one| one == name)) {
        let hint = did_you_mean(name, known.iter().map(String::as_str));
        fields.error(key, format!("{none} `{name}`")).hint(hint);
    }
    Some(name.to_owned())
}

fn read_random(scenario: &mut Fields) -> (Option<Crashes>, Option<Reclaims>) {
    let Some(mut fields) = scenario.fields("random") else { return (None, None) };
    let crashes = fields.fields("crashes").map(read_crashes);
    let reclaims = fields.fields("reclaims").and_then(read_reclaims);
    fields.finish();
    (crashes, reclaims)
}

fn read_crashes(mut fields: Fields) -> Crashes {
    let mtbf_gpu_hours = fields.f64("mtbf_gpu_hours", MTBF_BOUNDS).unwrap_or(MTBF_GPU_HOURS);
    let shape = fields.f64("shape", SHAPE_BOUNDS).unwrap_or(1.0);
    let repair = read_repair(&mut fields);
    let usual = if repair.is_some() { 1.0 } else { 0.0 };
    let repair_share = fields.f64("repair_share", Bounds::FRACTION).unwrap_or(usual);
    let in_flight = read_in_flight(&mut fields);
    fields.finish();
    let repair = repair.unwrap_or(REPAIR);
    Crashes { mtbf_gpu_hours, shape, repair_share, repair, in_flight }
}

fn read_reclaims(mut fields: Fields) -> Option<Reclaims> {
    fields.require(&["every", "for"]);
    let delay = |fields: &mut Fields, key| {
        let node = fields.node(key)?;
        read_delay(node, &format!("`{key}`"), fields.problems())
    };
    let every = delay(&mut fields, "every");
    let lasting = delay(&mut fields, "for");
    if every.as_ref().is_some_and(|every| !lets_time_pass(every)) {
        fields.error("every", "`every` must be at least a minute on average");
    }
    let (share, notice) = read_taking(&mut fields);
    fields.finish();
    Some(Reclaims { every: every?, share, notice, lasting: lasting? })
}

fn read_recovery(scenario: &mut Fields) -> Recovery {
    let mut recovery = Recovery::default();
    let Some(mut fields) = scenario.fields("recovery") else { return recovery };
    for (key, delay) in [("detection", &mut recovery.detection), ("restart", &mut recovery.restart)]
    {
        if let Some(node) = fields.node(key)
            && let Some(read) = read_delay(node, &format!("`{key}`"), fields.problems())
        {
            *delay = read;
        }
    }
    fields.finish();
    recovery
}

fn read_clients(scenario: &mut Fields, usual: Conduct) -> Conduct {
    let Some(mut fields) = scenario.fields("clients") else { return usual };
    let attempts = fields.u32("retries", 0..=RETRIES_MAX);
    let standard = Retry::STANDARD;
    let retry = Retry {
        attempts: attempts.map_or(standard.attempts, |attempts| attempts as u8),
        base: fields.span("base", DAY).unwrap_or(standard.base),
        cap: fields.span("cap", DAY).unwrap_or(standard.cap),
        jitter: fields.f64("jitter", Bounds::FRACTION).unwrap_or(standard.jitter),
    };
    if retry.base > retry.cap {
        let (base, cap) = (retry.base.as_secs(), retry.cap.as_secs());
        let key = if fields.node("base").is_some() { "base" } else { "cap" };
        let message = "`base` must not be above `cap`";
        fields.error(key, message).label(format!("{base} s is above {cap} s"));
    }
    let timeout = fields.span("timeout", DAY);
    if timeout == Some(Span::ZERO) {
        fields.error("timeout", "nobody can answer in no time").label("zero");
    }
    fields.finish();
    Conduct { retry: Some(retry).filter(|retry| retry.attempts > 0), timeout }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
