//! What happened to a fleet, line by line, and what faults cost.

use super::number::{count, duration, plural};
use super::table::Table;
use super::timeline::clock;
use crate::base::Span;
use crate::policy::PolicyBundle;
use crate::search::fleet::{Aftermath, aftermaths};
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::{FleetEvent, Happening};

/// Lines of the log for people.
const LINES_MAX: usize = 40;
/// Faults told one by one.
const FAULTS_MAX: usize = 20;
const SECOND: Span = Span::from_us(1_000_000);

/// Events of one kind in one pool at one instant.
struct Line<'a> {
    first: &'a FleetEvent,
    instances: Vec<u32>,
    lost: u64,
}

/// What happened, in order of time; empty where nothing did. Where that is too much, launches,
/// starts and ends of instances are left out first.
pub(super) fn events_section(fleet: &FleetOutcome, bundle: &PolicyBundle) -> String {
    let all = lines(&fleet.events);
    let is_routine = |line: &&Line| {
        use Happening::{Draining, Launched, Ready, Terminated};
        matches!(line.first.what, Launched | Ready | Draining | Terminated)
    };
    let shown: Vec<&Line> = if all.len() > LINES_MAX {
        all.iter().filter(|line| !is_routine(line)).take(LINES_MAX).collect()
    } else {
        all.iter().collect()
    };
    if all.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["time", "pool", "what happened"]).words(1).words(2);
    for line in &shown {
        let pool = line.first.pool.and_then(|pool| bundle.pools.get(pool as usize));
        let pool = pool.map_or(String::new(), |pool| pool.name.clone());
        table.row([clock(line.first.at, SECOND), pool, line.words()]);
    }
    let left_out = all.len() - shown.len();
    let more = match left_out {
        0 => String::new(),
        _ => format!("  … and {} more; --json has all\n", count(left_out as u64)),
    };
    format!("\n{}{more}", table.to_text())
}

/// One line per fault that struck.
pub(super) fn fault_lines(fleet: &FleetOutcome) -> Vec<String> {
    let faults = aftermaths(fleet);
    let mut lines: Vec<String> = faults.iter().take(FAULTS_MAX).map(fault_line).collect();
    if faults.len() > FAULTS_MAX {
        lines.push(format!("… and {} more; --json has all", faults.len() - FAULTS_MAX));
    }
    lines
}

fn fault_line(aftermath: &Aftermath) -> String {
    let Aftermath { strike, lost, recovery, .. } = aftermath;
    let whom = strike.instance.map_or(String::new(), |instance| format!(" {}", instance.0));
    let what = match strike.what {
        Happening::ZoneOut { .. } => "zone outage".to_owned(),
        Happening::Reclaim { .. } => "spot capacity taken back".to_owned(),
        Happening::Slowed { .. } => format!("slow instance{whom}"),
        _ => format!("crash of instance{whom}"),
    };
    let recovery = match recovery {
        None => String::new(),
        Some(Span::ZERO) => "; within SLO throughout".to_owned(),
        Some(span) => format!("; {} to recover", duration(span.as_secs())),
    };
    format!("{what} at {}: {}{recovery}", clock(strike.at, SECOND), requests_lost(*lost))
}

/// Events of instances that come together as one line each.
fn lines(events: &[FleetEvent]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = Vec::new();
    for event in events {
        let kind = |event: &FleetEvent| {
            (event.at, event.pool, std::mem::discriminant(&event.what), event.instance.is_some())
        };
        let instance = event.instance.map(|instance| instance.0);
        if is_told(event, &lines) {
            continue;
        }
        let same = lines.iter_mut().rev().take_while(|line| line.first.at == event.at);
        let mut same = same.filter(|line| kind(line.first) == kind(event));
        match (same.next(), instance) {
            (Some(line), Some(instance)) => {
                line.instances.push(instance);
                line.lost += lost(event);
            }
            _ => lines.push(Line {
                first: event,
                instances: instance.into_iter().collect(),
                lost: lost(event),
            }),
        }
    }
    lines
}

/// Whether the line about what took an instance away tells its end already.
fn is_told(event: &FleetEvent, lines: &[Line]) -> bool {
    let Some(instance) = event.instance.filter(|_| event.what == Happening::Terminated) else {
        return false;
    };
    let now = lines.iter().rev().take_while(|line| line.first.at == event.at);
    let mut taken = now.filter(|line| {
        matches!(line.first.what, Happening::ZoneLost { .. } | Happening::Reclaimed { .. })
    });
    taken.any(|line| line.instances.contains(&instance.0))
}

/// `2,138 requests lost`.
fn requests_lost(number: u64) -> String {
    let word = if number == 1 { "request" } else { "requests" };
    format!("{} {word} lost", count(number))
}

fn lost(event: &FleetEvent) -> u64 {
    match event.what {
        Happening::Noticed { lost }
        | Happening::ZoneLost { lost }
        | Happening::Reclaimed { lost } => u64::from(lost),
        _ => 0,
    }
}

impl Line<'_> {
    fn words(&self) -> String {
        let who = self.who();
        let lost = || requests_lost(self.lost);
        match self.first.what {
            Happening::ScaleUp { count, reason } => {
                format!("+{}: {reason}", plural(count as usize, "instance"))
            }
            Happening::ScaleDown { count, reason } => {
                format!("-{}: {reason}", plural(count as usize, "instance"))
            }
            Happening::Launched => format!("{who} launched"),
            Happening::NoCapacity => "no capacity for a launch".to_owned(),
            Happening::Ready => format!("{who} ready"),
            Happening::Draining => format!("{who} draining"),
            Happening::Terminated => format!("{who} gone"),
            Happening::Crashed { .. } => format!("{who} crashed"),
            Happening::Noticed { .. } => format!("crash of {who} noticed: {}", lost()),
            Happening::Slowed { .. } => format!("{who} slow"),
            Happening::Recovered => format!("{who} as fast as before"),
            Happening::ZoneOut { .. } => "a zone is out".to_owned(),
            Happening::ZoneLost { .. } => format!("{who} gone with the zone: {}", lost()),
            Happening::Reclaim { .. } => "spot capacity is taken back".to_owned(),
            Happening::Noted => format!("{who} got notice"),
            Happening::Reclaimed { .. } => format!("{who} taken away: {}", lost()),
            Happening::CapacityBack => "capacity is back".to_owned(),
            Happening::OutOfRotation { ailment } => format!("{who} out of rotation: {ailment}"),
            Happening::BackInRotation => format!("{who} back in rotation"),
        }
    }

    /// `instance 3`, `instances 3-5, 8`.
    fn who(&self) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &instance in &self.instances {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == instance => *last = instance,
                _ => ranges.push((instance, instance)),
            }
        }
        let range = |&(first, last): &(u32, u32)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}-{last}"),
        };
        let word = if self.instances.len() == 1 { "instance" } else { "instances" };
        format!("{word} {}", ranges.iter().map(range).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{InstanceId, SimTime};
    use crate::search::fleet::tests::{bundle, fleet};

    fn launched(second: u64, instance: u32) -> FleetEvent {
        FleetEvent {
            at: SimTime::from_us(second * 1_000_000),
            pool: Some(0),
            instance: Some(InstanceId(instance)),
            what: Happening::Launched,
        }
    }

    #[test]
    fn events_of_one_instant_share_a_line() {
        let events: Vec<FleetEvent> = [0, 1, 2, 5].map(|instance| launched(7, instance)).into();
        let lines = lines(&events);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].words(), "instances 0-2, 5 launched");
    }

    #[test]
    fn the_end_of_an_instance_is_told_once() {
        let event = |what| FleetEvent { what, ..launched(7, 3) };
        let events = [Happening::ZoneLost { lost: 2138 }, Happening::Terminated].map(event);
        let lines = lines(&events);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].words(), "instance 3 gone with the zone: 2,138 requests lost");
    }

    #[test]
    fn too_many_events_leave_the_routine_out_first() {
        let mut fleet = fleet();
        fleet.events.extend((0..100).map(|second| launched(2500 + second, 3)));
        let text = events_section(&fleet, &bundle());
        assert!(text.contains("… and 107 more; --json has all"), "{text}");
        assert!(text.contains("waiting 132.000 > 100"), "{text}");
        assert!(!text.contains("launched"), "{text}");
    }
}
