//! `blis-opt check`: everything that is wrong with a file; nothing is simulated.

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Say everything that is wrong with files, without simulating anything
///
/// Policies, workloads, search spaces and defaults are told apart by their keys.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Files to check (YAML)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Checks the files.
pub fn check(args: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    let _ = (args, context);
    Err(Failure::input("wip"))
}
