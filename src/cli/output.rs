//! stdout is data, stderr is talk.

use std::io::{self, IsTerminal, Write};

use super::args::Color;
use super::exit::Failure;

/// Where text goes, and whether it may be coloured.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color: Color,
    quiet: bool,
}

impl Output {
    /// Output that follows `--color` and `--quiet`.
    pub fn new(color: Color, quiet: bool) -> Self {
        Self { color, quiet }
    }

    /// Says something on stderr, unless `--quiet`.
    pub fn talk(self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Says on stderr what is wrong and what to do about it.
    pub fn error(self, message: &str, hint: Option<&str>) {
        let (red, cyan, off) = if self.colors_stderr() {
            ("\u{1b}[1;31m", "\u{1b}[36m", "\u{1b}[0m")
        } else {
            ("", "", "")
        };
        complain(&format!("{red}error:{off} {message}"));
        if let Some(hint) = hint {
            complain(&format!("{cyan}hint:{off} {hint}"));
        }
    }

    /// Whether stderr may be coloured.
    pub fn colors_stderr(self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                // https://no-color.org: any non-empty value counts.
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stderr().is_terminal()
            }
        }
    }

    /// Whether a progress bar has a terminal to live on.
    pub fn on_terminal(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}

/// Writes data to stdout; fails with [`Failure::ReaderGone`] when nobody reads it.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|problem| match problem.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::input(format!("cannot write to standard output: {problem}")),
    })
}

/// Says something on stderr even with `--quiet`.
pub fn complain(text: &str) {
    // There is no other place to report that stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}
