//! Formats that list single requests: Azure, Mooncake, BLIS `TraceV2`, plain CSV.

use std::borrow::Cow;

use serde::Deserialize;

use super::lines::{Columns, Lines, decimal, number, split};
use super::rows::{Recorded, Rows, class};
use super::wishes::Named;
use super::{Format, OpenFile, date, line_at, placed};
use crate::config::{Problems, parse};
use crate::workload::spec::{FileDigest, PREFIX_LENGTH_DEFAULT};

/// The highest time of a row: 2^62 microseconds.
const TIME_MAX_US: u64 = 1 << 62;

/// Reads all rows of a file that begins with `first`; `None` where one is wrong.
pub(super) fn read(
    format: Format,
    first: &str,
    lines: &mut Lines,
    rows: &mut Rows,
    problems: &mut Problems,
) -> Option<()> {
    if format == Format::Mooncake {
        return read_mooncake(first, lines, rows, problems);
    }
    let columns = Columns::of(first);
    let table = match format {
        Format::Azure => Table::azure(&columns),
        Format::BlisV2 => Table::blis(&columns),
        _ => Table::csv(&columns),
    };
    let table = match table {
        Ok(table) => table,
        Err(reason) => {
            let file = lines.digest().file;
            placed(&file, problems, |problems| {
                let label = format!("the columns of format `{}` are needed", format.name());
                problems.error(line_at(lines.number()), reason).label(label);
            });
            return None;
        }
    };
    if format == Format::BlisV2 && table.prefix.is_none() && table.group.is_some() {
        let file = lines.digest().file;
        placed(&file, problems, |problems| {
            let message =
                format!("prefix groups are taken to share {PREFIX_LENGTH_DEFAULT} tokens");
            problems.warning(line_at(lines.number()), message).label("there is no `prefix_length`");
        });
    }
    let mut line_rows = |line: &str, number: u32| {
        let mut fields = Vec::new();
        split(line, &mut fields);
        rows.add(&table.row(&fields)?, number)
    };
    lines.rows(problems, &mut line_rows)
}

/// Where a time stands, and in what.
#[derive(Clone, Copy)]
enum Clock {
    Date(usize),
    Seconds(usize),
    Micros(usize),
    /// When it was sent, where that is known; else when it was due.
    SentMicros(usize, usize),
}

/// Which column says what.
struct Table {
    clock: Clock,
    input: usize,
    output: usize,
    client: Option<usize>,
    tenant: Option<usize>,
    class: Option<usize>,
    session: Option<usize>,
    round: Option<usize>,
    group: Option<usize>,
    prefix: Option<usize>,
    /// Whether `input` lacks the tokens of the prefix.
    prefix_apart: bool,
}

impl Table {
    fn azure(columns: &Columns) -> Result<Self, String> {
        let [time, input, output] =
            columns.all(["timestamp", "contexttokens", "generatedtokens"])?;
        Ok(Self::new(Clock::Date(time), input, output))
    }

    fn blis(columns: &Columns) -> Result<Self, String> {
        let [due, input, output] =
            columns.all(["arrival_time_us", "input_tokens", "output_tokens"])?;
        let clock = match columns.find("send_time_us") {
            Some(sent) => Clock::SentMicros(sent, due),
            None => Clock::Micros(due),
        };
        Ok(Self {
            client: columns.find("client_id"),
            tenant: columns.find("tenant_id"),
            class: columns.find("slo_class"),
            session: columns.find("session_id"),
            round: columns.find("round_index"),
            group: columns.find("prefix_group"),
            prefix: columns.find("prefix_length"),
            prefix_apart: columns.find("prefix_length").is_some(),
            ..Self::new(clock, input, output)
        })
    }

    fn csv(columns: &Columns) -> Result<Self, String> {
        let clock = match (columns.find("arrival_us"), columns.find("arrival_s")) {
            (Some(micros), _) => Clock::Micros(micros),
            (None, Some(seconds)) => Clock::Seconds(seconds),
            (None, None) => return Err("there is no column `arrival_s` or `arrival_us`".to_owned()),
        };
        let [input, output] = columns.all(["input_tokens", "output_tokens"])?;
        Ok(Self {
            client: columns.find("client"),
            tenant: columns.find("tenant"),
            class: columns.find("slo_class"),
            session: columns.find("session_id"),
            group: columns.find("prefix_group"),
            prefix: columns.find("prefix_length"),
            ..Self::new(clock, input, output)
        })
    }

    fn new(clock: Clock, input: usize, output: usize) -> Self {
        let (client, tenant, class, session) = (None, None, None, None);
        let (round, group, prefix, prefix_apart) = (None, None, None, false);
        Self {
            clock,
            input,
            output,
            client,
            tenant,
            class,
            session,
            round,
            group,
            prefix,
            prefix_apart,
        }
    }

    fn row<'f>(&self, fields: &'f [Cow<'f, str>]) -> Result<Recorded<'f>, String> {
        let at = |column: usize| {
            let field = fields.get(column).map(AsRef::as_ref);
            field.ok_or_else(|| format!("this row has only {} fields", fields.len()))
        };
        let text = |column: Option<usize>| column.map_or(Ok(""), at);
        let whole = |column: Option<usize>, what| match text(column)? {
            "" => Ok(0),
            text => number::<u32>(text, what),
        };
        let group = text(self.group)?;
        let mut prefix = whole(self.prefix, "prefix_length")?;
        if self.prefix.is_none() && !group.is_empty() {
            prefix = PREFIX_LENGTH_DEFAULT;
        }
        let mut input = number::<u32>(at(self.input)?, "input_tokens")?;
        if self.prefix_apart {
            input = input.saturating_add(prefix);
        }
        Ok(Recorded {
            at_us: self.time(&at)?,
            input,
            output: number(at(self.output)?, "output_tokens")?,
            client: text(self.client)?,
            tenant: text(self.tenant)?,
            class: class(text(self.class)?)?,
            session: text(self.session)?,
            round: whole(self.round, "round_index")?,
            group,
            prefix,
            hashes: &[],
        })
    }

    fn time<'f>(&self, at: &impl Fn(usize) -> Result<&'f str, String>) -> Result<u64, String> {
        let micros = match self.clock {
            Clock::Date(column) => {
                let text = at(column)?;
                let date = date::micros(text);
                date.ok_or_else(|| format!("`TIMESTAMP` must be a date and a time, not `{text}`"))?
            }
            Clock::Seconds(column) => {
                let seconds = decimal(at(column)?, "arrival_s")?;
                (seconds * 1e6).round() as u64
            }
            Clock::Micros(column) => number(at(column)?, "arrival in microseconds")?,
            Clock::SentMicros(sent, due) => match number(at(sent)?, "send_time_us")? {
                0 => number(at(due)?, "arrival_time_us")?,
                sent => sent,
            },
        };
        if micros > TIME_MAX_US {
            return Err("this time is past the end of the clock".to_owned());
        }
        Ok(micros)
    }
}

/// A line of Mooncake's trace.
#[derive(Deserialize)]
struct Mooncake {
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

fn read_mooncake(
    first: &str,
    lines: &mut Lines,
    rows: &mut Rows,
    problems: &mut Problems,
) -> Option<()> {
    let mut row = |line: &str, number: u32| {
        let read: Mooncake = serde_json::from_str(line).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" at line").next().unwrap_or_default().to_owned();
            format!("this is no request of Mooncake's: {reason}")
        })?;
        let us = read.timestamp * 1e3;
        if !(0.0..=TIME_MAX_US as f64).contains(&us) {
            return Err(format!("`timestamp` cannot be {}", read.timestamp));
        }
        let recorded = Recorded {
            at_us: us.round() as u64,
            input: read.input_length,
            output: read.output_length,
            hashes: &read.hash_ids,
            ..Recorded::default()
        };
        rows.add(&recorded, number)
    };
    let number = lines.number();
    if let Err(reason) = row(first, number) {
        let file = lines.digest().file;
        placed(&file, problems, |problems| {
            problems.error(line_at(number), reason);
        });
        return None;
    }
    lines.rows(problems, &mut row)
}

/// Checks the YAML header beside the data of a BLIS trace.
pub(super) fn check_header(
    header: &Named,
    open: OpenFile<'_>,
    files: &mut Vec<FileDigest>,
    problems: &mut Problems,
) -> Option<()> {
    let mut lines = Lines::open(&header.file, header.at, open, problems)?;
    let mut text = lines.first(problems)?;
    lines.rows(problems, |line, _| {
        text.push('\n');
        text.push_str(line);
        Ok(())
    })?;
    files.push(lines.digest());
    let back = problems.file().to_owned();
    let node = parse(&header.file, &text, problems);
    problems.select_file(&back);
    let node = node?;
    let errors = problems.errors();
    let version = node.entry("trace_version").and_then(crate::config::Node::as_f64);
    if !version.is_some_and(|version| (1.0..=3.0).contains(&version)) {
        let message = format!("`{}` is no header of a trace of version 1 to 3", header.file);
        problems.error(header.at, message).label("`trace_version` says otherwise");
    }
    let unit = node.entry("time_unit").and_then(crate::config::Node::as_text);
    if unit.is_some_and(|unit| !["us", "microseconds"].contains(&unit)) {
        let message = format!("the times of `{}` are not in microseconds", header.file);
        problems.error(header.at, message).label("`time_unit` says otherwise");
    }
    (problems.errors() == errors).then_some(())
}
