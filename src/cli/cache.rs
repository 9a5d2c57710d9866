//! `blis-opt cache`: what the runs that need not be simulated again take, and how to forget them.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use crate::report::number::{decimal, plural};
use crate::search::RunCache;
use crate::search::cache::{BYTES_MAX, Usage};

/// Show the cache of runs, or clear it
///
/// Searches and evaluations keep what every run told, under a name made of all that a run depends
/// on: policy, workload, scenario, seed, and this very program. The same run is then never
/// simulated twice, in whichever study it is asked for. Results are the same with and without.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  blis-opt cache
  blis-opt cache clear
  blis-opt cache --cache nightly/runs")]
pub struct CacheArgs {
    /// What to do with it; shown without
    #[arg(value_enum)]
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Remove every run
    Clear,
}

/// Shows or clears.
pub fn cache(args: &CacheArgs, context: &Context) -> Result<Exit, Failure> {
    let Some(folder) = &context.cache_folder else {
        let failure = Failure::input("there is no cache of runs");
        return Err(failure.hint("name one with `--cache DIR`, or set `HOME`"));
    };
    let cleared = args.action == Some(Action::Clear);
    let usage = if cleared { RunCache::clear(folder) } else { RunCache::usage(folder) };
    let usage = usage.map_err(|problem| {
        Failure::input(format!("cannot use `{}`: {problem}", folder.display()))
    })?;
    let text =
        if context.json { in_json(folder, usage, cleared) } else { words(folder, usage, cleared) };
    output::data(&text)?;
    Ok(Exit::Fine)
}

fn words(folder: &Path, usage: Usage, cleared: bool) -> String {
    let (runs, folder) = (plural(usage.entries as usize, "run"), folder.display());
    let taken = mebibytes(usage.bytes);
    if cleared {
        return format!("removed {runs}, {taken} MiB, from {folder}\n");
    }
    format!("{runs} in {folder}, {taken} of at most {} MiB\n", mebibytes(BYTES_MAX))
}

fn in_json(folder: &Path, usage: Usage, cleared: bool) -> String {
    let Usage { entries, bytes } = usage;
    let folder = folder.to_string_lossy();
    let document = json!({
        "folder": folder, "runs": entries, "bytes": bytes, "bytes_max": BYTES_MAX,
        "cleared": cleared,
    });
    format!("{document:#}\n")
}

fn mebibytes(bytes: u64) -> String {
    decimal(bytes as f64 / f64::from(1 << 20), 1)
}
