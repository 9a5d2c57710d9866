//! `blis-opt search`: the cheapest candidate that keeps its promises.

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Find the cheapest candidate of a search space that keeps its promises
///
/// Candidates are tried in a simulator; the best are re-tested on fresh seeds that the search
/// never saw, and the first that passes is the winner. Every evaluation is in the study's journal
/// before the next begins: a search that was stopped goes on with --resume.
#[derive(Args, Debug)]
pub struct SearchArgs {
    /// Search space (YAML)
    #[arg(value_name = "SPACE")]
    space: PathBuf,

    /// Go on with the study where it stopped
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,

    /// Throw away a study of the same name first
    #[arg(long)]
    overwrite: bool,

    /// Evaluations to spend, in place of the number in the search space
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,

    /// Folder of the study; results/<name of the space> without it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Searches.
pub fn search(args: &SearchArgs, context: &Context) -> Result<Exit, Failure> {
    let _ = (args, context);
    Err(Failure::input("wip"))
}
