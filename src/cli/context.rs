//! What every command knows: the global options, resolved.

use std::path::PathBuf;
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;

use super::args::GlobalArgs;
use super::exit::Failure;
use super::output::Output;
use crate::search::RunCache;
use crate::search::cache::default_folder;

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
    /// The folder of runs that need not be simulated again.
    pub cache_folder: Option<PathBuf>,
    cache: OnceLock<Option<RunCache>>,
}

impl Context {
    /// Resolves the global options and starts the worker threads.
    pub fn new(args: &GlobalArgs, output: Output) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or(cores, usize::from);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|problem| {
            Failure::input(format!("cannot start {threads} threads: {problem}"))
        })?;
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let cache_folder = args.cache.clone().or_else(|| default_folder(variable));
        Ok(Self {
            output,
            json: args.json,
            quiet: args.quiet,
            verbose: args.verbose,
            seed: args.seed,
            defaults: args.defaults.clone(),
            cache_folder: cache_folder.filter(|_| !args.no_cache),
            cache: OnceLock::new(),
        })
    }

    /// The runs that need not be simulated again; opened when it is first asked for.
    pub fn cache(&self) -> Option<&RunCache> {
        let open = || {
            let opened = RunCache::open(self.cache_folder.as_deref()?);
            let why = |problem| self.output.talk(&format!("no cache of runs: {problem}"));
            opened.map_err(why).ok()
        };
        self.cache.get_or_init(open).as_ref()
    }

    /// Says how much of the simulating the cache saved, and what was wrong with it.
    pub fn talk_of_cache(&self) {
        let Some(Some(cache)) = self.cache.get() else { return };
        let (found, asked) = (cache.found(), cache.asked());
        if let Some(trouble) = cache.trouble() {
            self.output.talk(&format!("the cache of runs was of no use: {trouble}"));
        } else if found > 0 {
            let folder = cache.folder().display();
            self.output.talk(&format!("{found} of {asked} runs were known from {folder}"));
        }
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
