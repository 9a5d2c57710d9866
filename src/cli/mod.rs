//! The only room that prints, reads the command line, or exits.
//!
//! One file per command: what is typed (an `Args` struct whose doc comments are the help text),
//! then what it means (resolved against files and defaults), then the command itself.

mod args;
mod batch;
mod cache;
mod check;
mod completions;
mod context;
mod evaluate;
mod exit;
mod files;
mod interrupt;
mod load;
mod output;
mod pareto;
mod plan;
mod progress;
mod report;
mod run;
mod search;
mod study;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Command, CommandLine};
use context::Context;
use exit::{Exit, Failure};
use output::Output;

/// Runs the command line of this process and says how it ended.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(exit::report_panic));
    let exit = std::panic::catch_unwind(run_process).unwrap_or(Exit::Panic);
    ExitCode::from(exit as u8)
}

fn run_process() -> Exit {
    let line = CommandLine::command()
        .try_get_matches()
        .and_then(|matches| CommandLine::from_arg_matches(&matches));
    let line = match line {
        Ok(line) => line,
        Err(problem) => return refuse(&problem),
    };
    let output = Output::new(line.global.color, line.global.quiet);
    context::trace_to_stderr(line.global.verbose, line.global.quiet, output.colors_stderr());
    let context = Context::new(&line.global, output);
    let done = context.and_then(|context| dispatch(line.command, &context));
    match done {
        Ok(exit) => exit,
        Err(failure) => failure.explain(output),
    }
}

fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Search(args) => search::search(&args, context),
        Command::Run(args) => run::run(&args, context),
        Command::Check(args) => check::check(&args, context),
        Command::Evaluate(args) => evaluate::evaluate(&args, context),
        Command::Pareto(args) => pareto::pareto(&args, context),
        Command::Report(args) => report::report(&args, context),
        Command::Cache(args) => cache::cache(&args, context),
        Command::Completions(args) => completions::completions(&args),
    }
}

/// Prints what clap has to say: help and version are data, everything else is a complaint.
fn refuse(problem: &clap::Error) -> Exit {
    // A reader that went away does not make a help text wrong.
    let _ = problem.print();
    if problem.use_stderr() { Exit::BadCommandLine } else { Exit::Fine }
}
