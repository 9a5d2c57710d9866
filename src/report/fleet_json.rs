//! The life of a fleet as JSON: times in seconds, money in US dollars, instances by their index.
//!
//! ```text
//! fleet
//!   end_s, retries, wasted_tokens, usd, interval_s
//!   pools[]     name, launches, terminations, most, instance_hours, gpu_hours, usd, usd_in_window
//!   events[]    at_s, pool, instance, what, and of some: count, reason, fault, lost
//!   faults[]    fault, at_s, what, instance, lost, recovery_s
//!   timeline[]  start_s, end_s, arrived, within_slo (by class), completed, refused, retries,
//!               ttft_p99_ms, waiting, running, usd, needed (instances of the clairvoyant fleet),
//!               pools[]: name, starting, ready, draining, down (means over the interval)
//!   clairvoyant pool, usd, below_needed_s; null where no capacity is known
//! ```

use serde_json::{Map, Value, json};

use crate::base::Span;
use crate::policy::PolicyBundle;
use crate::search::fleet::{
    Aftermath, Clairvoyant, aftermaths, bills, bounds, clairvoyant, interval_usd, length_s,
    total_usd,
};
use crate::sim::fleet_outcome::{FleetEvent, Happening, Interval};
use crate::sim::outcome::ClassOutcome;
use crate::sim::{FleetOutcome, Outcome};

/// The life of the fleet of `outcome`; null where it could not change.
pub(super) fn life_json(
    outcome: &Outcome,
    bundle: &PolicyBundle,
    capacities: &[Option<f64>],
) -> Value {
    let Some(fleet) = &outcome.fleet else { return Value::Null };
    let ideal = clairvoyant(fleet, bundle, capacities);
    let needed = |index: usize| ideal.as_ref().map(|ideal| ideal.needed[index]);
    let timeline: Vec<Value> = (0..fleet.timeline.len())
        .map(|index| interval_json(fleet, index, bundle, &outcome.classes, needed(index)))
        .collect();
    let events = fleet.events.iter().map(|event| event_json(event, bundle));
    let faults = aftermaths(fleet);
    json!({
        "end_s": fleet.end.as_secs(),
        "retries": fleet.retries,
        "wasted_tokens": fleet.wasted_tokens,
        "usd": total_usd(fleet, bundle),
        "interval_s": fleet.interval.as_secs(),
        "pools": pools_json(fleet, bundle),
        "events": events.collect::<Vec<_>>(),
        "faults": faults.iter().map(fault_json).collect::<Vec<_>>(),
        "timeline": timeline,
        "clairvoyant": ideal.as_ref().map(|ideal| ideal_json(ideal, bundle)),
    })
}

fn pools_json(fleet: &FleetOutcome, bundle: &PolicyBundle) -> Vec<Value> {
    let bills = bills(fleet, bundle);
    let pools = fleet.pools.iter().zip(&bundle.pools).zip(&bills);
    pools
        .map(|((outcome, pool), bill)| {
            json!({
                "name": pool.name,
                "launches": outcome.launches,
                "terminations": outcome.terminations,
                "most": outcome.most,
                "instance_hours": bill.instance_hours,
                "gpu_hours": bill.gpu_hours,
                "usd": bill.usd,
                "usd_in_window": bill.usd_in_window,
            })
        })
        .collect()
}

fn ideal_json(ideal: &Clairvoyant, bundle: &PolicyBundle) -> Value {
    json!({
        "pool": bundle.pools[ideal.pool].name,
        "usd": ideal.usd,
        "below_needed_s": ideal.below_needed_s,
    })
}

fn interval_json(
    fleet: &FleetOutcome,
    index: usize,
    bundle: &PolicyBundle,
    classes: &[ClassOutcome],
    needed: Option<u32>,
) -> Value {
    let interval = &fleet.timeline[index];
    let (start, end) = bounds(fleet, index);
    let by_class = |counts: &[u32]| -> Value {
        let pairs = classes.iter().zip(counts);
        pairs.map(|(class, count)| (class.name.clone(), json!(count))).collect::<Map<_, _>>().into()
    };
    json!({
        "start_s": start.as_secs(),
        "end_s": end.as_secs(),
        "arrived": by_class(&interval.arrived),
        "within_slo": by_class(&interval.within_slo),
        "completed": interval.completed,
        "refused": interval.refused,
        "retries": interval.retries,
        "ttft_p99_ms": interval.ttft_p99_ms,
        "waiting": interval.waiting,
        "running": interval.running,
        "usd": interval_usd(interval, bundle),
        "needed": needed,
        "pools": states_json(interval, length_s(fleet, index), bundle),
    })
}

/// Means over the interval; null over no time at all.
fn states_json(interval: &Interval, length_s: f64, bundle: &PolicyBundle) -> Vec<Value> {
    let mean = |ps: u64| ps as f64 / 1e12 / length_s;
    let pools = interval.states.iter().zip(&bundle.pools);
    pools
        .map(|(state, pool)| {
            json!({
                "name": pool.name,
                "starting": mean(state.starting),
                "ready": mean(state.ready),
                "draining": mean(state.draining),
                "down": mean(state.down),
            })
        })
        .collect()
}

fn fault_json(aftermath: &Aftermath) -> Value {
    let Aftermath { fault, strike, lost, recovery } = aftermath;
    json!({
        "fault": fault,
        "at_s": strike.at.as_secs(),
        "what": name(&strike.what),
        "instance": strike.instance.map(|instance| instance.0),
        "lost": lost,
        "recovery_s": recovery.map(Span::as_secs),
    })
}

fn event_json(event: &FleetEvent, bundle: &PolicyBundle) -> Value {
    let pool = event.pool.and_then(|pool| bundle.pools.get(pool as usize));
    let mut fields = Map::new();
    fields.insert("at_s".to_owned(), json!(event.at.as_secs()));
    fields.insert("pool".to_owned(), json!(pool.map(|pool| pool.name.as_str())));
    fields.insert("instance".to_owned(), json!(event.instance.map(|instance| instance.0)));
    fields.insert("what".to_owned(), json!(name(&event.what)));
    match event.what {
        Happening::ScaleUp { count, reason } | Happening::ScaleDown { count, reason } => {
            fields.insert("count".to_owned(), json!(count));
            fields.insert("reason".to_owned(), json!(reason.to_string()));
        }
        Happening::Crashed { fault }
        | Happening::Slowed { fault }
        | Happening::ZoneOut { fault }
        | Happening::Reclaim { fault } => {
            fields.insert("fault".to_owned(), json!(fault));
        }
        Happening::OutOfRotation { ailment } => {
            fields.insert("reason".to_owned(), json!(ailment.to_string()));
        }
        Happening::Noticed { lost }
        | Happening::ZoneLost { lost }
        | Happening::Reclaimed { lost } => {
            fields.insert("lost".to_owned(), json!(lost));
        }
        _ => {}
    }
    Value::Object(fields)
}

/// What happened, in one word that stays.
fn name(what: &Happening) -> &'static str {
    match what {
        Happening::ScaleUp { .. } => "scale_up",
        Happening::ScaleDown { .. } => "scale_down",
        Happening::Launched => "launched",
        Happening::NoCapacity => "no_capacity",
        Happening::Ready => "ready",
        Happening::Draining => "draining",
        Happening::Terminated => "terminated",
        Happening::Crashed { .. } => "crashed",
        Happening::Noticed { .. } => "noticed",
        Happening::Slowed { .. } => "slowed",
        Happening::Recovered => "recovered",
        Happening::ZoneOut { .. } => "zone_out",
        Happening::ZoneLost { .. } => "zone_lost",
        Happening::Reclaim { .. } => "reclaim",
        Happening::Noted => "noted",
        Happening::Reclaimed { .. } => "reclaimed",
        Happening::CapacityBack => "capacity_back",
        Happening::OutOfRotation { .. } => "out_of_rotation",
        Happening::BackInRotation => "back_in_rotation",
    }
}
