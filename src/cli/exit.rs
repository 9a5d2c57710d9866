//! How the program ends, and what it says when it ends badly.

use std::panic::PanicHookInfo;

use super::output::{Output, complain};

/// How the program ends. The numbers are part of the interface; the help text lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Found, or nothing to complain about.
    Fine = 0,
    /// A file, a value or a folder that cannot be used.
    BadInput = 1,
    /// The command line makes no sense.
    BadCommandLine = 2,
    /// No candidate kept its promises within the budget.
    NothingFeasible = 3,
    /// A bug of this program.
    Panic = 101,
    /// Stopped by a signal; the study is intact.
    Interrupted = 130,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// Problems with files, already rendered with places and hints.
    Problems(String),
    /// One sentence, and possibly something to paste.
    Message {
        /// Which end this is.
        exit: Exit,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Nobody reads the output any more: not an error.
    ReaderGone,
}

impl Failure {
    /// Input that cannot be used.
    pub fn input(message: impl Into<String>) -> Self {
        Self::Message { exit: Exit::BadInput, message: message.into(), hint: None }
    }

    /// A command line that makes no sense.
    pub fn command_line(message: impl Into<String>) -> Self {
        Self::Message { exit: Exit::BadCommandLine, message: message.into(), hint: None }
    }

    /// The same failure with something to paste.
    #[must_use]
    pub fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Message { exit, message, .. } => {
                Self::Message { exit, message, hint: Some(text.into()) }
            }
            other => other,
        }
    }

    /// Says on stderr what is wrong, and gives the exit that goes with it.
    pub fn explain(self, output: Output) -> Exit {
        match self {
            Self::Problems(text) => {
                complain(text.trim_end());
                Exit::BadInput
            }
            Self::Message { exit, message, hint } => {
                output.error(&message, hint.as_deref());
                exit
            }
            Self::ReaderGone => Exit::Fine,
        }
    }
}

/// Tells the user that a panic is our bug, and how to report it.
pub fn report_panic(info: &PanicHookInfo<'_>) {
    use std::io::Write as _;
    let reason = info
        .payload()
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| info.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown reason".to_owned());
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let line: Vec<String> = std::env::args().collect();
    let version = env!("CARGO_PKG_VERSION");
    // Nothing is left to tell the user when stderr itself is gone.
    let _ = writeln!(
        std::io::stderr(),
        "error: blis-opt {version} has a bug: {reason}\n  at {place}\n  in `{}`\n\
         hint: please report these lines together with the input files; a study that was being \
         searched is intact and goes on with `--resume`",
        line.join(" ")
    );
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        let trace = std::backtrace::Backtrace::force_capture();
        let _ = writeln!(std::io::stderr(), "{trace}");
    }
}
