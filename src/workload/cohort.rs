//! Expands cohorts into clients: many users alike whose number moves over the day.

use std::sync::Arc;

use crate::base::Span;
use crate::config::{Bounds, Fields, Node, Problems};

use super::arrivals::Arrivals;
use super::profile::{Point, Profile, Spike, Surge};
use super::read::Draft;
use super::read_client::{read_asking, read_prefix, read_rate_fraction};
use super::read_profile::read_diurnal;
use super::spec::{ARRIVAL_MAX, CLIENTS_MAX, ClientSpec, Prefix, RATE_MAX, Window};

/// Whether the members of a cohort have one prefix.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    Shared,
    PerMember,
}

/// A stretch in which a cohort comes at a rate of its own.
struct Burst {
    start: Span,
    end: Span,
    /// Arrivals per second of the whole cohort; its highest rate otherwise.
    rate: Option<f64>,
}

/// The clients of the cohorts under `cohorts`; `None` where one is wrong.
pub(super) fn read_cohorts(fields: &mut Fields) -> Option<Vec<Draft>> {
    let Some(items) = fields.list("cohorts") else { return Some(Vec::new()) };
    let problems = fields.problems();
    let cohorts: Vec<Option<Vec<Draft>>> =
        items.iter().enumerate().map(|(i, node)| read_cohort(i, node, problems)).collect();
    cohorts.into_iter().collect::<Option<Vec<_>>>().map(|drafts| drafts.concat())
}

fn read_cohort(index: usize, node: &Node, problems: &mut Problems) -> Option<Vec<Draft>> {
    let name = node.entry("id").and_then(Node::as_text);
    let name = name.map_or_else(|| format!("cohort-{}", index + 1), str::to_owned);
    let mut fields = Fields::of(node, &format!("cohort `{name}`"), problems)?;
    fields.text("id");
    fields.require(&["population"]);
    let population = fields.u32("population", 1..=CLIENTS_MAX as u32);
    let fraction = read_rate_fraction(&mut fields);
    let sharing = [("shared", Sharing::Shared), ("per_member", Sharing::PerMember)];
    let sharing = fields.one_of("prefix_sharing", &sharing).unwrap_or(Sharing::Shared);
    let prefix = read_prefix(&mut fields);
    let diurnal = read_diurnal(&mut fields);
    let spike = read_spike(&mut fields);
    let drain = read_drain(&mut fields);
    let asking = read_asking(&mut fields);
    fields.finish();
    let client = ClientSpec { name, prefix, rate_fraction: fraction?, ..asking? };
    let profile = Profile { diurnal, points: drain, ..Profile::default() };
    let draft = with_load(client, profile, spike?.as_ref(), node);
    Some(expand(&draft, population?, sharing))
}

/// `None` for a wrong one, `Some(None)` for none.
#[allow(clippy::option_option)]
fn read_spike(fields: &mut Fields) -> Option<Option<Burst>> {
    let Some(mut spike) = fields.fields("spike") else { return Some(None) };
    spike.require(&["start_time_us", "duration_us"]);
    let start = spike.span("start_time_us", ARRIVAL_MAX);
    let duration = spike.span("duration_us", ARRIVAL_MAX);
    let rate = spike.f64("trace_rate", Bounds::between(0.0, RATE_MAX)).filter(|rate| *rate > 0.0);
    if duration == Some(Span::ZERO) {
        spike.error("duration_us", "this spike is over before it begins").label("zero");
        return None;
    }
    spike.finish();
    let start = start?;
    Some(Some(Burst { start, end: start + duration?, rate }))
}

/// The corners of a rate that is full at first and falls to nothing.
fn read_drain(fields: &mut Fields) -> Vec<Point> {
    let Some(mut drain) = fields.fields("drain") else { return Vec::new() };
    drain.require(&["start_time_us", "ramp_duration_us"]);
    let start = drain.span("start_time_us", ARRIVAL_MAX);
    let ramp = drain.span("ramp_duration_us", ARRIVAL_MAX);
    if ramp == Some(Span::ZERO) {
        drain.error("ramp_duration_us", "a ramp takes time").label("zero");
    }
    drain.finish();
    let (Some(start), Some(ramp)) = (start, ramp.filter(|ramp| *ramp > Span::ZERO)) else {
        return Vec::new();
    };
    let end = start + ramp;
    vec![Point { at: start, factor: 1.0 }, Point { at: end, factor: 0.0 }]
}

/// The cohort as one client with its load over time. A spike alone is the only time in which
/// the cohort is active; beside a wave or a drain it replaces them while it lasts.
fn with_load(
    client: ClientSpec,
    mut profile: Profile,
    spike: Option<&Burst>,
    node: &Node,
) -> Draft {
    let mut draft = Draft::new(client, node.at);
    if profile == Profile::default() {
        if let Some(&Burst { start, end, rate }) = spike {
            draft.spec.windows = vec![Window::new(start, end)];
            draft.window_rates = vec![rate];
        }
        return draft;
    }
    if let Some(&Burst { start, end, rate }) = spike {
        let top = profile.diurnal.map_or(1.0, |diurnal| diurnal.peak_factor());
        let surge = Surge::Level(top);
        profile.spikes = vec![Spike { at: start, duration: end - start, surge }];
        draft.spike_rate = rate;
    }
    draft.spec.profile = Some(Arc::new(profile));
    draft
}

/// The members. Where they share a prefix and come at random, all of them together are one
/// stream: a sum of Poisson processes is one.
fn expand(cohort: &Draft, population: u32, sharing: Sharing) -> Vec<Draft> {
    let per_member = sharing == Sharing::PerMember && cohort.spec.prefix.is_some();
    let single = cohort.spec.sessions.is_some_and(|sessions| sessions.single);
    if cohort.spec.arrivals == Arrivals::Poisson && !per_member && !single {
        return vec![cohort.clone()];
    }
    let member = |index: u32| {
        let mut member = cohort.clone();
        let parts = f64::from(population);
        member.spec.name = format!("{}-{index}", cohort.spec.name);
        member.spec.rate_fraction /= parts;
        let shares = member.window_rates.iter_mut().chain([&mut member.spike_rate]);
        shares.flatten().for_each(|rate| *rate /= parts);
        if per_member {
            member.spec.prefix = cohort.spec.prefix.as_ref().map(|prefix| Prefix {
                group: format!("{}/{}-{index}", prefix.group, cohort.spec.name),
                length: prefix.length,
            });
        }
        member
    };
    (0..population).map(member).collect()
}
