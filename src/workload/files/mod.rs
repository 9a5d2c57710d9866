//! Trace files as workloads: `trace: {file, format, start, duration, time_scale, rate_scale, ...}`.
//!
//! Files are read in one pass, compressed or not. Formats of single requests (Azure, Mooncake,
//! BLIS `TraceV2`, plain CSV) become a [`Replay`](super::Replay); `ServeGen`'s files say how
//! clients behave, and become clients that are drawn like all others.

mod date;
mod lines;
mod requests;
mod rows;
mod servegen;
mod wishes;

use std::io::Read;
use std::sync::Arc;

use crate::config::{Fields, Position, Problems};

use super::spec::{ClientSpec, WorkloadSpec};
use lines::Lines;
use rows::Rows;
use wishes::{Wishes, read_wishes};

/// Opens a file that a workload names; the error is a sentence.
pub type OpenFile<'a> = &'a dyn Fn(&str) -> Result<Box<dyn Read>, String>;

/// What a trace file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Azure,
    Mooncake,
    ServeGen,
    BlisV2,
    Csv,
}

const FORMATS: [(&str, Format); 5] = [
    ("azure", Format::Azure),
    ("mooncake", Format::Mooncake),
    ("servegen", Format::ServeGen),
    ("blis-v2", Format::BlisV2),
    ("csv", Format::Csv),
];

impl Format {
    /// The format of a file that begins with `line`.
    fn guess(line: &str) -> Option<Self> {
        let columns: Vec<String> = line
            .split(',')
            .map(|name| name.trim().trim_matches('"').to_ascii_lowercase())
            .collect();
        let has = |names: &[&str]| names.iter().all(|name| columns.iter().any(|c| c == name));
        match () {
            () if line.trim_start().starts_with('{') => Some(Self::Mooncake),
            () if has(&["timestamp", "contexttokens", "generatedtokens"]) => Some(Self::Azure),
            () if has(&["client", "t_s", "rate_rps", "pattern", "p1"]) => Some(Self::ServeGen),
            () if has(&["t_s", "total_rate_rps"]) => Some(Self::ServeGen),
            () if has(&["request_id", "arrival_time_us", "input_tokens"]) => Some(Self::BlisV2),
            () if has(&["arrival_s"]) || has(&["arrival_us"]) => Some(Self::Csv),
            () => None,
        }
    }

    fn name(self) -> &'static str {
        let found = FORMATS.iter().find(|(_, format)| *format == self);
        found.map_or("", |(name, _)| name)
    }
}

/// Adds the requests of the file under `trace`, if there is one, to `spec`. A workload without a
/// horizon ends with its trace.
pub(super) fn read_trace(fields: &mut Fields, open: OpenFile<'_>, spec: &mut WorkloadSpec) {
    let Some(mut trace) = fields.fields("trace") else { return };
    let wishes = read_wishes(&mut trace);
    trace.finish();
    if let Some(wishes) = wishes {
        read_file(&wishes, open, spec, fields.problems());
    }
}

fn read_file(
    wishes: &Wishes,
    open: OpenFile<'_>,
    spec: &mut WorkloadSpec,
    problems: &mut Problems,
) -> Option<()> {
    let mut lines = Lines::open(&wishes.file, wishes.at, open, problems)?;
    let first = lines.first(problems)?;
    let format = wishes.format.or_else(|| Format::guess(&first));
    let Some(format) = format else {
        let names = FORMATS.map(|(name, _)| format!("`{name}`")).join(", ");
        problems
            .error(wishes.at, format!("cannot tell the format of `{}`", wishes.file))
            .label("its first line fits none")
            .hint(format!("give `format`: one of {names}"));
        return None;
    };
    wishes.note_unused(format, problems);
    let end = if format == Format::ServeGen {
        let loads = servegen::read(&first, &mut lines, wishes, problems)?;
        let lengths = servegen::read_lengths(wishes, open, &mut spec.files, problems)?;
        append(spec, loads.clients(wishes, &lengths));
        loads.end()
    } else {
        if let Some(header) = wishes.header.as_ref() {
            requests::check_header(header, open, &mut spec.files, problems)?;
        }
        let mut rows = Rows::new(wishes);
        requests::read(format, &first, &mut lines, &mut rows, problems)?;
        let replay = rows.finish(&wishes.file, lines.digest().fnv1a, wishes.at, problems)?;
        let end = replay.end();
        spec.replay = Some(Arc::new(replay));
        end
    };
    spec.files.push(lines.digest());
    spec.horizon = spec.horizon.or(Some(end));
    Some(())
}

/// Adds clients with their nominal rates to those that are there.
fn append(spec: &mut WorkloadSpec, clients: Vec<(f64, ClientSpec)>) {
    let before = spec.client_rates();
    let added: f64 = clients.iter().map(|(rate, _)| rate).sum();
    for (client, rate) in spec.clients.iter_mut().zip(before) {
        client.rate_fraction = rate;
    }
    spec.aggregate_rate = added + spec.clients.iter().map(|c| c.rate_fraction).sum::<f64>();
    let named = clients.into_iter();
    spec.clients.extend(named.map(|(rate, client)| ClientSpec { rate_fraction: rate, ..client }));
}

/// Does something with problems placed in `file`.
fn placed<T>(file: &str, problems: &mut Problems, work: impl FnOnce(&mut Problems) -> T) -> T {
    let back = problems.file().to_owned();
    problems.select_file(file);
    let done = work(problems);
    problems.select_file(&back);
    done
}

/// The place of a line.
fn line_at(line: u32) -> Position {
    Position { line, column: 1 }
}
