//! What a workload wants of a trace file.

use super::{FORMATS, Format};
use crate::base::Span;
use crate::config::{Bounds, Fields, Position, Problems};
use crate::workload::lengths::Lengths;
use crate::workload::read_client::read_class;
use crate::workload::read_lengths::read_short_lengths;
use crate::workload::replay::SCALE_MAX;
use crate::workload::spec::{ARRIVAL_MAX, Growth, RATE_MAX, WorkloadSpec};

/// How often requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// A multiple of what was recorded.
    Scale(f64),
    /// Requests per second, on average over the slice.
    Mean(f64),
}

/// A further file.
pub(super) struct Named {
    pub file: String,
    pub at: Position,
}

/// What a workload wants of a trace file.
pub(super) struct Wishes {
    pub file: String,
    pub at: Position,
    pub format: Option<Format>,
    /// The slice, in the time of the file.
    pub start: Span,
    pub duration: Option<Span>,
    /// The length of a second of the file, in seconds.
    pub time_scale: f64,
    pub rate: Rate,
    /// Class and tenant of requests that have none.
    pub slo_class: String,
    pub tenant: String,
    /// Rounds of a session wait for the answer before, and then for so long.
    pub think_time: Option<Span>,
    pub growth: Growth,
    /// The header of a BLIS trace.
    pub header: Option<Named>,
    /// The histogram of lengths of `ServeGen`.
    pub lengths: Option<Named>,
    pub prompt: Option<Lengths>,
    pub output: Option<Lengths>,
    /// Where keys stand that matter to some formats only.
    special: Vec<(&'static str, Position)>,
}

/// Reads the keys of `trace`.
pub(super) fn read_wishes(fields: &mut Fields) -> Option<Wishes> {
    let errors = fields.problems().errors();
    fields.require(&["file"]);
    let file = fields.text("file").unwrap_or_default().to_owned();
    let at = fields.node("file").map_or(fields.at(), |node| node.at);
    let format = fields.one_of("format", &FORMATS);
    let start = fields.span("start", ARRIVAL_MAX).unwrap_or(Span::ZERO);
    let duration = fields.span("duration", ARRIVAL_MAX);
    if duration == Some(Span::ZERO) {
        fields.error("duration", "nothing lies in this slice").label("zero");
    }
    let time_scale = fields.f64("time_scale", Bounds::between(1e-3, 1e3)).unwrap_or(1.0);
    let rate = read_rate(fields);
    let tenant = fields.text("tenant_id").filter(|text| !text.is_empty());
    let tenant = tenant.unwrap_or(WorkloadSpec::CLASS_DEFAULT).to_owned();
    let slo_class = read_class(fields);
    let table = [("accumulate", Growth::Accumulate), ("none", Growth::None)];
    let growth = fields.one_of("context_growth", &table).unwrap_or(Growth::None);
    let special = ["think_time", "context_growth", "header", "lengths"];
    let special = special.into_iter().chain(["prompt_tokens", "output_tokens"]);
    let wishes = Wishes {
        file,
        at,
        format,
        start,
        duration,
        time_scale,
        rate,
        slo_class,
        tenant,
        think_time: fields.span("think_time", ARRIVAL_MAX),
        growth,
        header: named(fields, "header"),
        lengths: named(fields, "lengths"),
        prompt: read_short_lengths(fields, "prompt_tokens"),
        output: read_short_lengths(fields, "output_tokens"),
        special: special.filter_map(|key| Some((key, fields.node(key)?.at))).collect(),
    };
    Some(wishes).filter(|_| fields.problems().errors() == errors)
}

fn read_rate(fields: &mut Fields) -> Rate {
    let scale = fields.f64("rate_scale", Bounds::above(0.0, SCALE_MAX));
    let mean = fields.f64("mean_rate", Bounds::above(0.0, RATE_MAX));
    if scale.is_some() && mean.is_some() {
        let message = "`rate_scale` and `mean_rate` exclude each other";
        fields.error("mean_rate", message).label("both set how often requests come");
    }
    mean.map_or(Rate::Scale(scale.unwrap_or(1.0)), Rate::Mean)
}

fn named(fields: &mut Fields, key: &'static str) -> Option<Named> {
    let file = fields.text(key)?.to_owned();
    Some(Named { file, at: fields.node(key)?.at })
}

impl Wishes {
    /// Warns about keys that say nothing about a file of `format`.
    pub fn note_unused(&self, format: Format, problems: &mut Problems) {
        for &(key, at) in &self.special {
            let matters = match key {
                "think_time" | "context_growth" => matches!(format, Format::BlisV2 | Format::Csv),
                "header" => format == Format::BlisV2,
                _ => format == Format::ServeGen,
            };
            if !matters {
                let message =
                    format!("`{key}` has no effect on a trace of format `{}`", format.name());
                problems.warning(at, message).label("no effect");
            }
        }
    }
}
