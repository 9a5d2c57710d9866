//! The short forms of a workload: one stream of requests at one rate.

use std::sync::Arc;

use crate::config::{Defaults, Fields, Node, Preset, PresetLengths, Problems};

use super::lengths::{LENGTH_MAX, Lengths};
use super::read::{read_limits, read_rate};
use super::read_client::read_class;
use super::read_lengths::{read_short_arrivals, read_short_lengths};
use super::read_profile::read_profile;
use super::read_slo::read_slo;
use super::spec::{RateMode, WorkloadSpec};

pub(super) fn read_short(
    node: &Node,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Option<WorkloadSpec> {
    let mut fields = Fields::of(node, "the workload", problems)?;
    let mut mode = RateMode::default();
    let presets = defaults.presets.iter();
    let table: Vec<(&str, &Preset)> = presets.map(|it| (it.name.as_str(), it)).collect();
    if let Some(preset) = fields.one_of("preset", &table) {
        mode.prompt = gaussian(&preset.prompt);
        mode.output = gaussian(&preset.output);
    }
    fields.require(&["rate"]);
    mode.rate = read_rate(&mut fields, "rate").unwrap_or(mode.rate);
    mode.arrivals = read_short_arrivals(&mut fields);
    mode.prompt = read_short_lengths(&mut fields, "prompt_tokens").unwrap_or(mode.prompt);
    mode.output = read_short_lengths(&mut fields, "output_tokens").unwrap_or(mode.output);
    let prefix_tokens = fields.u32("prefix_tokens", 0..=LENGTH_MAX);
    mode.prefix_tokens = prefix_tokens.unwrap_or(mode.prefix_tokens);
    mode.slo_class = read_class(&mut fields);
    let (horizon, num_requests, seed) = read_limits(&mut fields, "duration");
    let profile = read_profile(&mut fields, "profile");
    let targets = read_slo(&mut fields, std::slice::from_ref(&mode.slo_class));
    fields.finish();
    let mut spec = WorkloadSpec::rate_mode(mode);
    spec.clients[0].profile = profile.map(Arc::new);
    Some(WorkloadSpec { horizon, num_requests, seed, targets, ..spec })
}

fn gaussian(lengths: &PresetLengths) -> Lengths {
    let (min, max) = (f64::from(lengths.min), f64::from(lengths.max));
    Lengths::gaussian(lengths.mean, lengths.std_dev, min, max)
}
