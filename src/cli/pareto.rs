//! `blis-opt pareto`: the frontier of a study.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use super::study::Inputs;

/// Export the Pareto frontier of a study
///
/// A candidate is on the frontier when it keeps its promises and no other that does is at least as
/// good on every axis and better on one. Its points were re-tested on fresh seeds: values are their
/// means with 95 % intervals. The axes belong to the search space; without any they are TTFT p99
/// and cost per hour.
#[derive(Args, Debug)]
pub struct ParetoArgs {
    /// Folder of the study, such as results/500rps
    #[arg(value_name = "STUDY")]
    study: PathBuf,

    /// How to print it; csv and json contain the points off it too, marked as such
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    format: Format,
}

/// How a frontier is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// Comma-separated values
    Csv,
    /// One JSON document, with the knee and the histories of the hypervolume
    Json,
    /// A picture: one panel, or two where there are three axes
    Svg,
}

/// Prints the frontier.
pub fn pareto(args: &ParetoArgs, context: &Context) -> Result<Exit, Failure> {
    let (inputs, state) = Inputs::from_journal(&args.study, context)?;
    let report = inputs.report(&state);
    let format = if context.json { Format::Json } else { args.format };
    let text = match format {
        Format::Table => report.frontier_text(),
        Format::Csv => report.pareto_csv(),
        Format::Svg => report.pareto_svg().ok_or_else(|| {
            Failure::input("nothing feasible to draw: every trial broke a promise")
        })?,
        Format::Json => format!("{:#}\n", report.pareto_json()),
    };
    if text.is_empty() {
        context.output.talk("nothing feasible yet: there is no frontier");
    }
    output::data(&text)?;
    Ok(Exit::Fine)
}
