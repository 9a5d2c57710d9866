//! `blis-opt completions`: a script that teaches a shell our command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::CommandLine;
use super::exit::{Exit, Failure};
use super::output;

/// Print a completion script for a shell
///
/// For bash: `blis-opt completions bash > ~/.local/share/bash-completion/completions/blis-opt`
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "blis-opt", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}
