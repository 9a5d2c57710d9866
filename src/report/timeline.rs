//! How a run went: load, instances, waiting and money by interval.

use super::number::{count, decimal, duration, ms, rate, usd};
use super::table::Table;
use crate::base::{SimTime, Span};
use crate::policy::PolicyBundle;
use crate::search::fleet::{arrived, bounds, interval_usd, length_s, within_slo};
use crate::sim::FleetOutcome;
use crate::sim::fleet_outcome::{Interval, StateTime};

/// Rows of the table for people; neighbours are taken together until there are no more than that.
const ROWS_MAX: usize = 48;
/// Lengths of a row that people like, in seconds, where they are multiples of the interval.
const ROUND_S: [u64; 22] = [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400,
    21_600, 28_800, 43_200, 86_400,
];
const DAY_S: u64 = 86_400;

/// One row: neighbouring intervals taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    /// When it begins.
    pub start: SimTime,
    /// Its length in seconds.
    pub length_s: f64,
    /// Requests that arrived.
    pub arrived: u64,
    /// Of these, within SLO.
    pub within_slo: u64,
    /// The most that waited at the end of one of its intervals.
    pub waiting: u32,
    /// The highest 99th percentile of one of its intervals, in milliseconds.
    pub ttft_p99_ms: Option<f64>,
    /// Mean instances in each state.
    pub instances: Instances,
    /// US dollars.
    pub usd: f64,
}

/// Mean numbers of instances by state, over all pools.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Instances {
    pub ready: f64,
    pub starting: f64,
    pub draining: f64,
    pub down: f64,
}

/// The table, and above it what a row is; empty without a timeline.
pub(super) fn timeline_section(fleet: &FleetOutcome, bundle: &PolicyBundle) -> String {
    if fleet.timeline.is_empty() {
        return String::new();
    }
    let together = together(fleet.timeline.len(), fleet.interval);
    let rows = rows(fleet, bundle, together);
    let header = [
        "time",
        "requests/s",
        "ready",
        "starting",
        "draining",
        "down",
        "waiting",
        "TTFT p99",
        "within SLO",
        "$/h",
    ];
    let mut table = Table::new(header);
    let step = fleet.interval.times(together as u64);
    for row in &rows {
        let per_s = row.arrived as f64 / row.length_s;
        let share = row.within_slo as f64 / row.arrived as f64 * 100.0;
        let Instances { ready, starting, draining, down } = row.instances;
        table.row([
            clock(row.start, step),
            if row.arrived == 0 { "0".to_owned() } else { rate(per_s) },
            decimal(ready, 1),
            some(starting),
            some(draining),
            some(down),
            count(u64::from(row.waiting)),
            row.ttft_p99_ms.map_or("-".to_owned(), ms),
            if row.arrived == 0 { "-".to_owned() } else { format!("{} %", decimal(share, 2)) },
            usd(row.usd / row.length_s * 3600.0),
        ]);
    }
    let worst = if together > 1 {
        format!(
            "; waiting and TTFT p99 (ms) are the worst of its {together} intervals of {}",
            length(fleet.interval)
        )
    } else {
        "; waiting at its end, TTFT p99 in ms".to_owned()
    };
    let each = length(step);
    format!("\n  timeline: instances are means over {each}{worst}\n{}", table.to_text())
}

/// How many of `intervals` make a row: few enough rows, of a round length where that is possible.
fn together(intervals: usize, interval: Span) -> usize {
    let least = intervals.div_ceil(ROWS_MAX);
    let us = interval.as_us().max(1);
    let round = ROUND_S.iter().map(|seconds| seconds * 1_000_000).find_map(|round| {
        let times = (round / us) as usize;
        (round % us == 0 && times >= least).then_some(times)
    });
    if least == 1 { 1 } else { round.unwrap_or(least) }
}

fn rows(fleet: &FleetOutcome, bundle: &PolicyBundle, together: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for first in (0..fleet.timeline.len()).step_by(together) {
        let last = (first + together).min(fleet.timeline.len());
        let row = row(fleet, bundle, first..last);
        // Nothing can be said per second of an end without length.
        if row.length_s > 0.0 {
            rows.push(row);
        }
    }
    rows
}

fn row(fleet: &FleetOutcome, bundle: &PolicyBundle, indexes: std::ops::Range<usize>) -> Row {
    let intervals = &fleet.timeline[indexes.clone()];
    let sum = |part: fn(&Interval) -> u64| intervals.iter().map(part).sum();
    let start = bounds(fleet, indexes.start).0;
    let length_s: f64 = indexes.map(|index| length_s(fleet, index)).sum();
    let states = || intervals.iter().flat_map(|interval| &interval.states);
    let mean = |part: fn(&StateTime) -> u64| {
        states().map(|state| part(state) as f64).sum::<f64>() / 1e12 / length_s
    };
    Row {
        start,
        length_s,
        arrived: sum(arrived),
        within_slo: sum(within_slo),
        waiting: intervals.iter().map(|interval| interval.waiting).max().unwrap_or(0),
        ttft_p99_ms: intervals.iter().filter_map(|it| it.ttft_p99_ms).reduce(f64::max),
        instances: Instances {
            ready: mean(|state| state.ready),
            starting: mean(|state| state.starting),
            draining: mean(|state| state.draining),
            down: mean(|state| state.down),
        },
        usd: intervals.iter().map(|interval| interval_usd(interval, bundle)).sum(),
    }
}

/// A mean number of instances that mostly is zero, which is left out.
fn some(instances: f64) -> String {
    match instances {
        0.0 => String::new(),
        few if few < 0.05 => decimal(few, 2),
        many => decimal(many, 1),
    }
}

/// `10 min` rather than `10 min 00 s`.
fn length(span: Span) -> String {
    match span.as_us() / 1_000_000 {
        s if s > 0 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s > 0 && s % 60 == 0 => format!("{} min", s / 60),
        s if s < 60 => format!("{} s", span.as_secs()),
        _ => duration(span.as_secs()),
    }
}

/// A time of day in steps of `step`: `09:30`, `1d 03:00`; with seconds where steps have some.
pub(super) fn clock(time: SimTime, step: Span) -> String {
    let seconds = time.as_us() / 1_000_000;
    let (day, hour, minute) = (seconds / DAY_S, seconds / 3600 % 24, seconds / 60 % 60);
    let mut text = if day == 0 { String::new() } else { format!("{day}d ") };
    text.push_str(&format!("{hour:02}:{minute:02}"));
    if step.as_us() % 60_000_000 != 0 {
        text.push_str(&format!(":{:02}", seconds % 60));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fleet::tests::{bundle, fleet};

    fn seconds(seconds: u64) -> Span {
        Span::from_us(seconds * 1_000_000)
    }

    #[test]
    fn a_day_of_minutes_has_a_row_per_half_hour() {
        assert_eq!(together(1440, seconds(60)), 30);
        assert_eq!(together(48, seconds(60)), 1);
        assert_eq!(together(49, seconds(60)), 2);
        assert_eq!(together(100, seconds(7)), 3, "no round length is a multiple of 7 s");
        assert_eq!(together(1441, seconds(60)), 60, "no half hour more");
    }

    #[test]
    fn rows_that_are_taken_together_keep_the_sums() {
        let fleet = fleet();
        let rows = rows(&fleet, &bundle(), 4);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].arrived, rows[0].within_slo), (42_000, 37_950));
        assert_eq!((rows[0].length_s, rows[1].length_s), (2400.0, 900.0));
        assert_eq!((rows[0].waiting, rows[0].ttft_p99_ms), (3000, Some(750.0)));
        // 1200 + 1450 + 1800 + 1400 s of the first pool, 1300 s of the second.
        assert_eq!(rows[0].instances.ready, 7150.0 / 2400.0);
        assert_eq!(rows[0].instances.down, 60.0 / 2400.0);
        assert_eq!(rows[1].start, SimTime::from_us(2_400_000_000));
        let usd = rows[0].usd + rows[1].usd;
        assert!((usd - (8730.0 * 7.0 + 1420.0 * 1.4) / 3600.0).abs() < 1e-9, "{usd}");
    }

    #[test]
    fn times_have_a_day_behind_the_first() {
        let at = |s: u64| SimTime::ZERO + seconds(s);
        assert_eq!(clock(at(9 * 3600 + 1800), seconds(1800)), "09:30");
        assert_eq!(clock(at(27 * 3600), seconds(3600)), "1d 03:00");
        assert_eq!(clock(at(75), seconds(15)), "00:01:15");
    }
}
