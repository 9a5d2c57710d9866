//! How far a search has come, on stderr.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::context::Context;
use super::output;
use crate::base::Span;
use crate::report::number::{duration, figure, plural};
use crate::search::{Observer, Phase, Progress};

/// How often a line is said where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// The wall clock since this process began to search.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "only cli may look at a wall clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has been running.
    pub fn elapsed(self) -> Span {
        Span::from_secs(self.0.elapsed().as_secs_f64())
    }
}

/// Where the studies of a process tell how far they are.
pub struct Board<'a> {
    context: &'a Context,
    bars: MultiProgress,
}

impl<'a> Board<'a> {
    /// An empty board.
    pub fn new(context: &'a Context) -> Self {
        Self { context, bars: MultiProgress::new() }
    }

    /// Says something on stderr, above the bars, unless `--quiet`.
    pub fn talk(&self, text: &str) {
        self.bars.suspend(|| self.context.output.talk(text));
    }

    /// Begins to talk about a study, of this `name` where there are several, with `first`
    /// evaluations in its journal.
    pub fn study(&self, name: Option<&str>, clock: Clock, first: usize) -> Talk {
        let context = self.context;
        let how = match () {
            () if context.output.on_terminal() => How::Bar(self.bars.add(bar())),
            () if !context.quiet && context.verbose > 0 => How::Lines { said: None },
            () => How::Silent,
        };
        let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
        Talk { name, how, clock, first }
    }
}

/// Tells how far a study has come: a bar on a terminal, lines elsewhere with `-v`.
pub struct Talk {
    /// Put before what is told.
    name: String,
    how: How,
    clock: Clock,
    /// Evaluations that were in the journal when this process began.
    first: usize,
}

enum How {
    Bar(ProgressBar),
    Lines { said: Option<Span> },
    Silent,
}

impl Talk {
    /// Wipes the bar away.
    pub fn finish(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    fn words(&self, progress: &Progress<'_>) -> String {
        let done = match progress.phase {
            Phase::Verify => {
                format!("{} tested on fresh seeds", plural(progress.done, "candidate"))
            }
            Phase::Certify => {
                let done = plural(progress.done, "evaluation");
                format!("{done} of what lies one step from the winner")
            }
            Phase::Frontier => {
                let points = plural(progress.total, "point");
                format!("{} of {points} of the frontier tested on fresh seeds", progress.done)
            }
            Phase::Start | Phase::Search => {
                format!("{}/{} evaluations", progress.done, progress.total)
            }
        };
        let mut words = format!("{}{done}, {}", self.name, best(progress));
        if let Some(left) = self.left_s(progress) {
            words.push_str(", about ");
            words.push_str(&duration(left));
            words.push_str(" left");
        }
        words
    }

    /// Seconds that the rest of the evaluations takes at the pace of this process.
    fn left_s(&self, progress: &Progress<'_>) -> Option<f64> {
        let here = progress.done.checked_sub(self.first).filter(|&here| here > 0)?;
        let left = progress.total.saturating_sub(progress.done);
        let pace = self.clock.elapsed().as_secs() / here as f64;
        let searching = matches!(progress.phase, Phase::Start | Phase::Search);
        searching.then_some(pace * left as f64)
    }
}

impl Observer for Talk {
    fn progress(&mut self, progress: &Progress<'_>) {
        let words = self.words(progress);
        let now = self.clock.elapsed();
        match &mut self.how {
            How::Bar(bar) => {
                bar.set_length(progress.total as u64);
                bar.set_position(progress.done as u64);
                bar.set_message(words);
            }
            How::Lines { said } => {
                let due = said.is_none_or(|said| {
                    now.as_secs() - said.as_secs() >= BETWEEN_LINES.as_secs_f64()
                });
                if due {
                    output::complain(&words);
                    *said = Some(now);
                }
            }
            How::Silent => {}
        }
    }
}

fn best(progress: &Progress<'_>) -> String {
    let Some(best) = progress.best else { return "nothing feasible yet".to_owned() };
    let cost = best.mean("cost_per_hour");
    let cost = cost.map_or("-".to_owned(), |value| figure("cost_per_hour", value));
    format!("best {cost} per hour (trial {})", best.index)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::hidden();
    let style = ProgressStyle::with_template("{bar:24} {msg}");
    bar.with_style(style.expect("the template is well formed"))
}
