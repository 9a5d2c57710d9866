//! What every command knows: the global options, resolved.

use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;

use super::args::GlobalArgs;
use super::exit::Failure;
use super::output::Output;

/// The global options, resolved against the machine.
#[derive(Debug)]
pub struct Context {
    /// Where text goes.
    pub output: Output,
    /// One JSON document in place of tables.
    pub json: bool,
    /// No talk.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// The seed of the command line, which goes before the one in a file.
    pub seed: Option<u64>,
    /// Defaults to use in place of the built-in ones.
    pub defaults: Option<PathBuf>,
}

impl Context {
    /// Resolves the global options and starts the worker threads.
    pub fn new(args: &GlobalArgs, output: Output) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or(cores, usize::from);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|problem| {
            Failure::input(format!("cannot start {threads} threads: {problem}"))
        })?;
        Ok(Self {
            output,
            json: args.json,
            quiet: args.quiet,
            verbose: args.verbose,
            seed: args.seed,
            defaults: args.defaults.clone(),
        })
    }
}

/// Sends tracing to stderr: warnings always but with `--quiet`, more with each `-v`.
pub fn trace_to_stderr(verbose: u8, quiet: bool, color: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(color)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}
