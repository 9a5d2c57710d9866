//! How long a new instance of a pool takes, from YAML.

use super::StartUp;
use crate::base::Delay;
use crate::config::{
    Defaults, Fields, Node, Problems, StartUpRow, Value, did_you_mean, is_distribution, read_delay,
    read_stages, span_from_text,
};

/// The start of a pool that says nothing about it.
const DEFAULT_START: &str = "document";

/// Reads `start_up`: a name of the defaults, a length of time or a distribution for the whole, or
/// the delays of its stages.
pub(super) fn read_start_up(fields: &mut Fields, defaults: &Defaults) -> Option<StartUp> {
    let Some(node) = fields.node("start_up") else {
        let row = defaults.start_ups.iter().find(|row| row.name == DEFAULT_START);
        return Some(row.map_or_else(StartUp::default, of_row));
    };
    let problems = fields.problems();
    match &node.value {
        Value::Text(text) if span_from_text(text).is_none() && !is_number(text) => {
            read_name(node, text, defaults, problems)
        }
        Value::Map(_) if !is_distribution(node) => {
            let mut fields = Fields::of(node, "`start_up`", problems)?;
            let stages = read_stages(&mut fields);
            fields.finish();
            stages.map(of_stages)
        }
        _ => read_delay(node, "`start_up`", problems)
            .map(|whole| of_stages([Delay::NONE, whole, Delay::NONE])),
    }
}

/// Whether a text was meant as a length of time.
fn is_number(text: &str) -> bool {
    text.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

fn read_name(
    node: &Node,
    name: &str,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Option<StartUp> {
    let row = defaults.start_ups.iter().find(|row| row.name == name);
    if row.is_none() {
        let names = defaults.start_ups.iter().map(|row| row.name.as_str());
        problems
            .error(node.at, format!("no start-up is known as `{name}`"))
            .label("not in the defaults")
            .hint(did_you_mean(name, names));
    }
    row.map(of_row)
}

fn of_row(row: &StartUpRow) -> StartUp {
    of_stages(row.stages.clone())
}

fn of_stages([provisioning, loading, warm_up]: [Delay; 3]) -> StartUp {
    StartUp { provisioning, loading, warm_up }
}
