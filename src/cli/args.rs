//! The command line as it is typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::cache::CacheArgs;
use super::check::CheckArgs;
use super::completions::CompletionsArgs;
use super::evaluate::EvaluateArgs;
use super::pareto::ParetoArgs;
use super::report::ReportArgs;
use super::run::RunArgs;
use super::search::SearchArgs;

/// Finds the cheapest way to serve an LLM workload within its latency promises.
///
/// A search tries candidate fleets and policies in a seeded discrete-event simulator, re-tests the
/// winner on fresh seeds, and writes a policy that can be applied together with the evidence.
#[derive(Debug, Parser)]
#[command(
    name = "blis-opt",
    version,
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    found, or fine
  1    bad input: a file, a value or a folder that cannot be used
  2    bad command line
  3    no feasible candidate within the budget
  101  a bug in blis-opt; it says how to report it
  130  interrupted; the study is intact and can be resumed";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Search(SearchArgs),
    Run(RunArgs),
    Check(CheckArgs),
    Evaluate(EvaluateArgs),
    Pareto(ParetoArgs),
    Report(ReportArgs),
    Cache(CacheArgs),
    Completions(CompletionsArgs),
}

/// Options that every command understands.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Print one JSON document on standard output instead of tables
    #[arg(long, global = true)]
    pub json: bool,

    /// Say nothing on standard error but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Say more on standard error; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Worker threads; all cores without it. Results do not depend on it
    #[arg(long, global = true, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Seed of everything random, in place of the one in the files
    #[arg(long, global = true, value_name = "S")]
    pub seed: Option<u64>,

    /// When to colour standard error; `NO_COLOR` is respected
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,

    /// Models, hardware, coefficients and prices to use in place of the built-in defaults.yaml
    #[arg(long, global = true, value_name = "FILE")]
    pub defaults: Option<PathBuf>,

    /// Folder of runs that need not be simulated again; `blis-opt` in `$XDG_CACHE_HOME` or
    /// `~/.cache` without it. Results do not depend on it
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Simulate every run, and keep none
    #[arg(long, global = true, conflicts_with = "cache")]
    pub no_cache: bool,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_after_the_command() {
        let line = CommandLine::try_parse_from(["blis-opt", "check", "x.yaml", "--json", "-vv"]);
        let global = line.expect("this is a valid command line").global;
        assert!(global.json);
        assert_eq!(global.verbose, 2);
    }
}
