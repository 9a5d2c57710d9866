//! Reads how a rate moves: `profile: {points, period, diurnal, spikes}`.

use crate::base::Span;
use crate::config::{Bounds, Fields, Node, Position, Problems, Value};

use super::profile::{Diurnal, PERIOD_MIN, Point, Profile, Spike, Surge};
use super::spec::ARRIVAL_MAX;

/// The highest multiple of a rate.
const FACTORS: Bounds = Bounds::between(0.0, 1000.0);
/// The highest ratio of peak to trough.
const RATIOS: Bounds = Bounds::between(1.0, 1e6);
const HOUR: Span = Span::from_us(3_600_000_000);

/// The profile under `key`: a map, or the list of its points.
pub(super) fn read_profile(fields: &mut Fields, key: &'static str) -> Option<Profile> {
    let node = fields.node(key)?;
    let problems = fields.problems();
    let errors = problems.errors();
    let profile = match &node.value {
        Value::List(items) => {
            Profile { points: read_points(items, problems), ..Profile::default() }
        }
        _ => read_map(node, problems)?,
    };
    if problems.errors() > errors {
        return None;
    }
    check(&profile, node.at, problems);
    Some(profile).filter(|_| problems.errors() == errors)
}

fn read_map(node: &Node, problems: &mut Problems) -> Option<Profile> {
    let mut fields = Fields::of(node, "`profile`", problems)?;
    let points = fields.list("points").unwrap_or_default();
    let points = read_points(points, fields.problems());
    let spikes = fields.list("spikes").unwrap_or_default();
    let problems = fields.problems();
    let spikes = spikes.iter().filter_map(|item| read_spike(item, problems)).collect();
    let profile = Profile {
        points,
        period: read_period(&mut fields),
        diurnal: read_diurnal(&mut fields),
        spikes,
        bursts: Vec::new(),
    };
    fields.finish();
    Some(profile)
}

fn read_points(items: &[Node], problems: &mut Problems) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(items.len());
    for item in items {
        let Some(point) = read_point(item, problems) else { continue };
        if let Some(last) = points.last().filter(|last| last.at >= point.at) {
            let (at, last) = (point.at.as_secs(), last.at.as_secs());
            problems
                .error(item.at, "points must come in order of time")
                .label(format!("{at} s, behind {last} s"))
                .hint("for a jump give two points a microsecond apart");
        }
        points.push(point);
    }
    points
}

fn read_point(item: &Node, problems: &mut Problems) -> Option<Point> {
    let mut fields = Fields::of(item, "a point", problems)?;
    fields.require(&["at", "factor"]);
    let at = fields.span("at", ARRIVAL_MAX);
    let factor = fields.f64("factor", FACTORS);
    fields.finish();
    Some(Point { at: at?, factor: factor? })
}

fn read_spike(item: &Node, problems: &mut Problems) -> Option<Spike> {
    let mut fields = Fields::of(item, "a spike", problems)?;
    fields.require(&["at", "duration", "factor"]);
    let at = fields.span("at", ARRIVAL_MAX);
    let duration = fields.span("duration", ARRIVAL_MAX);
    let factor = fields.f64("factor", FACTORS);
    if duration == Some(Span::ZERO) {
        fields.error("duration", "this spike is over before it begins").label("zero");
    }
    fields.finish();
    Some(Spike { at: at?, duration: duration?, surge: Surge::Times(factor?) })
}

/// A period, which has to last a while.
fn read_period(fields: &mut Fields) -> Option<Span> {
    let period = fields.span("period", ARRIVAL_MAX)?;
    if period < PERIOD_MIN {
        let message = "`period` must be at least a minute";
        fields.error("period", message).label(format!("{} s", period.as_secs()));
    }
    Some(period.max(PERIOD_MIN))
}

/// A daily wave: `diurnal: {peak_hour, peak_to_trough_ratio, period}`.
pub(super) fn read_diurnal(fields: &mut Fields) -> Option<Diurnal> {
    let mut fields = fields.fields("diurnal")?;
    fields.require(&["peak_hour", "peak_to_trough_ratio"]);
    let peak_to_trough = fields.f64("peak_to_trough_ratio", RATIOS);
    let period = read_period(&mut fields).unwrap_or(HOUR.times(24));
    let hours = Bounds::between(0.0, period.as_secs() / HOUR.as_secs());
    let peak = fields.f64("peak_hour", hours);
    fields.finish();
    let peak = Span::from_secs(peak? * HOUR.as_secs());
    Some(Diurnal { peak, peak_to_trough: peak_to_trough?, period })
}

fn check(profile: &Profile, at: Position, problems: &mut Problems) {
    if profile.points.is_empty() && profile.spikes.is_empty() && profile.diurnal.is_none() {
        problems
            .error(at, "this profile says nothing")
            .label("`points`, `diurnal` or `spikes` are needed");
        return;
    }
    let silent = !profile.points.is_empty() && profile.points.iter().all(|p| p.factor <= 0.0);
    if silent {
        problems.error(at, "the rate of this profile is 0 throughout").label("nobody ever comes");
    }
    let Some(period) = profile.period else { return };
    let points = profile.points.iter().map(|point| point.at).filter(|at| *at >= period);
    let ends = profile.spikes.iter().map(|spike| spike.at + spike.duration);
    if let Some(late) = points.chain(ends.filter(|end| *end > period)).max() {
        problems.error(at, "`period` is over before everything in it has happened").label(format!(
            "it lasts {} s, and {} s is named",
            period.as_secs(),
            late.as_secs()
        ));
    }
}
