//! `blis-opt check`: everything that is wrong with a file; nothing is simulated.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::read_text;
use super::{load, output};
use crate::config::{Defaults, Node, Position, Problem, Problems, Severity, Value, parse};
use crate::policy::read_bundle;
use crate::scenario::read_scenario;
use crate::search::batch::study_names;
use crate::search::read::{open_beside, read_space};
use crate::workload::WorkloadSpec;

/// Say everything that is wrong with files, without simulating anything
///
/// Policies, workloads, scenarios, search spaces and defaults are told apart by their keys.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Files to check (YAML)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Policy,
    Workload,
    Scenario,
    SearchSpace,
    Defaults,
}

/// Keys at the top of a file that tell its kind.
const KEYS: [(Kind, &[&str]); 5] = [
    (
        Kind::Policy,
        &[
            "pools",
            "admission",
            "routing",
            "priority",
            "scheduler",
            "batching",
            "kv_cache",
            "signals",
            "autoscaling",
            "node_pools",
            "autoscaler",
            "preemption",
            "tenant_budgets",
            "instance_lifecycle",
        ],
    ),
    (
        Kind::Workload,
        &[
            "clients",
            "aggregate_rate",
            "inference_perf",
            "servegen_data",
            "cohorts",
            "trace",
            "category",
            "rate",
            "preset",
            "prompt_tokens",
            "output_tokens",
            "num_requests",
            "slo",
        ],
    ),
    (Kind::Scenario, &["faults", "random", "burst", "recovery", "cold_start", "weight"]),
    (
        Kind::SearchSpace,
        &[
            "knobs",
            "template",
            "objective",
            "constraints",
            "budget",
            "workload",
            "pareto",
            "seeds",
            "studies",
            "scenarios",
        ],
    ),
    (Kind::Defaults, &["defaults", "models", "prices", "workloads", "start_up"]),
];

impl Kind {
    /// The kind whose keys the file has most of; the first of equals. `None` without any.
    /// `clients` of a workload are a list, those of a scenario a map.
    fn of(node: &Node) -> Option<Self> {
        if matches!(node.entry("clients").map(|node| &node.value), Some(Value::Map(_))) {
            return Some(Self::Scenario);
        }
        let known = |keys: &[&str]| keys.iter().filter(|key| node.entry(key).is_some()).count();
        let mut best = (None, 0);
        for (kind, keys) in KEYS {
            if known(keys) > best.1 {
                best = (Some(kind), known(keys));
            }
        }
        best.0
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy bundle",
            Self::Workload => "workload",
            Self::Scenario => "scenario",
            Self::SearchSpace => "search space",
            Self::Defaults => "defaults",
        }
    }
}

/// A checked file.
struct Checked {
    file: String,
    kind: Option<Kind>,
}

/// Checks the files.
pub fn check(args: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    let defaults = load::defaults(context)?;
    let mut problems = Problems::new();
    let mut checked = Vec::new();
    for path in &args.files {
        checked.push(check_file(path, &defaults, &mut problems)?);
    }
    if context.json {
        let document = to_json(&checked, &problems);
        output::data(&format!("{document:#}\n"))?;
    } else {
        if !problems.is_empty() {
            output::complain(problems.render(context.output.colors_stderr()).trim_end());
        }
        let fine = |file: &&Checked| !problems.list().iter().any(|p| p.file == file.file);
        for file in checked.iter().filter(fine) {
            let kind = file.kind.map_or("file", Kind::name);
            output::data(&format!("{}: {kind}, nothing to complain about\n", file.file))?;
        }
    }
    Ok(if problems.has_errors() { Exit::BadInput } else { Exit::Fine })
}

fn check_file(
    path: &Path,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Result<Checked, Failure> {
    let file = path.to_string_lossy().into_owned();
    let text = read_text(path)?;
    let mut syntax = Problems::new();
    let Some(node) = parse(&file, &text, &mut syntax) else {
        parse(&file, &text, problems);
        return Ok(Checked { file, kind: None });
    };
    let kind = Kind::of(&node);
    // Readers that take a text parse it themselves; the others get the tree, once.
    if !matches!(kind, Some(Kind::SearchSpace | Kind::Defaults)) {
        parse(&file, &text, problems);
    }
    match kind {
        Some(Kind::Policy) => {
            read_bundle(&node, defaults, problems);
        }
        Some(Kind::Workload) => {
            let open = |named: &str| open_beside(&file, named);
            WorkloadSpec::read_with(&node, defaults, &open, problems);
        }
        Some(Kind::Scenario) => {
            read_scenario(&node, "the scenario", None, problems);
        }
        Some(Kind::SearchSpace) => {
            let read = |file: &str| load::text_or_reason(Path::new(file));
            let names = study_names(&text);
            if names.is_empty() {
                read_space((&file, &text), defaults, &read, problems);
            }
            for name in names {
                read_space((&format!("{file}#{name}"), &text), defaults, &read, problems);
            }
            problems.without_repeats();
        }
        Some(Kind::Defaults) => {
            Defaults::read(&file, &text, problems);
        }
        None => unknown(&node, problems),
    }
    Ok(Checked { file, kind })
}

fn unknown(node: &Node, problems: &mut Problems) {
    let at = match &node.value {
        Value::Map(entries) => entries.first().map_or(node.at, |(key, _)| key.at),
        _ => node.at,
    };
    let at = if at == Position::NOWHERE { node.at } else { at };
    problems.error(at, "this is no policy, workload, scenario, search space or defaults").hint(
        "a policy has `pools` or `routing`, a workload `clients` or `rate`, a scenario `faults` or \
         `random`, a search space `knobs` and `template`, defaults have `models` or `prices`",
    );
}

fn to_json(checked: &[Checked], problems: &Problems) -> Json {
    let of_file = |file: &str| -> Vec<Json> {
        problems.list().iter().filter(|problem| problem.file == file).map(problem_json).collect()
    };
    let files: Vec<Json> = checked
        .iter()
        .map(|checked| {
            json!({
                "file": checked.file,
                "kind": checked.kind.map(Kind::name),
                "problems": of_file(&checked.file),
            })
        })
        .collect();
    let all: Vec<Json> = problems.list().iter().map(problem_json).collect();
    json!({ "fine": !problems.has_errors(), "files": files, "problems": all })
}

fn problem_json(problem: &Problem) -> Json {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "severity": severity,
        "file": problem.file,
        "line": problem.position.line,
        "column": problem.position.column,
        "message": problem.message,
        "label": problem.label,
        "hint": problem.hint,
    })
}
