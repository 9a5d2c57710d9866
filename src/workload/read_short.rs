//! The short forms of a workload: one stream of requests at one rate.

use std::collections::BTreeMap;

use crate::config::{Fields, Node, Problems};

use super::lengths::{LENGTH_MAX, Lengths};
use super::read::{RATE, read_class, read_limits};
use super::read_lengths::{read_short_arrivals, read_short_lengths};
use super::spec::{RateMode, WorkloadSpec};

/// Lengths that go by a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// New prompt tokens.
    pub prompt: Lengths,
    /// Answer tokens.
    pub output: Lengths,
    /// Tokens that all prompts start with.
    pub prefix_tokens: u32,
}

/// The presets that a workload may name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Presets(BTreeMap<String, Preset>);

impl Presets {
    /// Reads a table of presets: `name: {prompt_tokens, output_tokens, prefix_tokens}`, with
    /// lengths as in the rate form. Wrong entries are left out and reported.
    pub fn read(node: &Node, problems: &mut Problems) -> Self {
        let mut presets = Self::default();
        let crate::config::Value::Map(entries) = &node.value else {
            Fields::of(node, "`workloads`", problems);
            return presets;
        };
        for (key, value) in entries {
            let what = format!("preset `{}`", key.text);
            let Some(mut fields) = Fields::of(value, &what, problems) else { continue };
            fields.require(&["prompt_tokens", "output_tokens"]);
            let prompt = read_short_lengths(&mut fields, "prompt_tokens");
            let output = read_short_lengths(&mut fields, "output_tokens");
            let prefix_tokens = fields.u32("prefix_tokens", 0..=LENGTH_MAX).unwrap_or(0);
            fields.finish();
            if let (Some(prompt), Some(output)) = (prompt, output) {
                presets.insert(&key.text, Preset { prompt, output, prefix_tokens });
            }
        }
        presets
    }

    /// Adds a preset, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, preset: Preset) {
        self.0.insert(name.to_owned(), preset);
    }

    /// The preset called `name`.
    pub fn get(&self, name: &str) -> Option<&Preset> {
        self.0.get(name)
    }

    /// The presets in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Preset)> {
        self.0.iter().map(|(name, preset)| (name.as_str(), preset))
    }
}

pub(super) fn read_short(
    node: &Node,
    presets: &Presets,
    problems: &mut Problems,
) -> Option<WorkloadSpec> {
    let mut fields = Fields::of(node, "the workload", problems)?;
    let mut mode = RateMode::default();
    let table: Vec<(&str, &Preset)> = presets.iter().collect();
    if let Some(preset) = fields.one_of("preset", &table) {
        mode.prompt = preset.prompt.clone();
        mode.output = preset.output.clone();
        mode.prefix_tokens = preset.prefix_tokens;
    }
    fields.require(&["rate"]);
    mode.rate = fields.f64("rate", RATE).unwrap_or(mode.rate);
    mode.arrivals = read_short_arrivals(&mut fields).unwrap_or(mode.arrivals);
    mode.prompt = read_short_lengths(&mut fields, "prompt_tokens").unwrap_or(mode.prompt);
    mode.output = read_short_lengths(&mut fields, "output_tokens").unwrap_or(mode.output);
    let prefix_tokens = fields.u32("prefix_tokens", 0..=LENGTH_MAX);
    mode.prefix_tokens = prefix_tokens.unwrap_or(mode.prefix_tokens);
    mode.slo_class = read_class(&mut fields);
    let (horizon, num_requests, seed) = read_limits(&mut fields, "duration");
    fields.finish();
    let spec = WorkloadSpec::rate_mode(mode);
    Some(WorkloadSpec { horizon, num_requests, seed, ..spec })
}
