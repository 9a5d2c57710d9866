//! How good the search is: `cargo bench --bench search -- compare`, or `suggest`, `serve`,
//! `optimum`, `sweep`.
//!
//! `compare` runs studies on problems whose truth is known and prints what the best truly feasible
//! candidate costs after so many evaluations. `serve` answers other optimizers on the very same
//! evaluations, a line of JSON each (`benches/peers/`). `optimum` finds the best that there is, and
//! `suggest` times a suggestion.

#![allow(clippy::disallowed_methods, reason = "a bench looks at the clock")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod compare;
mod optimum;
mod problems;
mod serve;
mod study;
mod suggest;
mod sweep;
mod table;

use clap::{Parser, Subcommand};

/// How good the search is.
#[derive(Debug, Parser)]
struct CommandLine {
    /// What `cargo bench` adds by itself
    #[arg(long, global = true, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compare(compare::CompareArgs),
    Serve(serve::ServeArgs),
    Optimum(optimum::OptimumArgs),
    Suggest(suggest::SuggestArgs),
    Sweep(sweep::SweepArgs),
}

fn main() {
    match CommandLine::parse().command {
        Command::Compare(args) => compare::compare(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Optimum(args) => optimum::optimum(&args),
        Command::Suggest(args) => suggest::suggest(&args),
        Command::Sweep(args) => sweep::sweep(&args),
    }
}
