//! `blis-opt search`: the cheapest candidate that keeps its promises.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;
use clap::builder::PossibleValuesParser;
use rayon::ThreadPool;

use super::batch::search_all;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::read_text;
use super::progress::{Board, Clock};
use super::study::{self, Inputs};
use super::{interrupt, output};
use crate::report::number::plural;
use crate::report::{StudyReport, plan_text};
use crate::search::batch::{split, study_names};
use crate::search::{
    Evaluator, Limits, Mode, ProposerKind, Study, StudyEnd, StudyOptions, StudyPlan, StudyState,
};

/// Find the cheapest candidate of a search space that keeps its promises
///
/// Candidates are tried in a simulator; the best are re-tested on fresh seeds that the search
/// never saw, and the first that passes is the winner. Every evaluation is in the study's journal
/// before it counts: a search that was stopped goes on with --resume and ends in the same bytes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  blis-opt search search-spaces/500rps.yaml
  blis-opt search search-spaces/500rps.yaml --resume
  blis-opt search search-spaces/controllers.yaml
  blis-opt search search-spaces/controllers.yaml#keda
  blis-opt search search-spaces/500rps.yaml --budget 200 --out results/long --overwrite")]
pub struct SearchArgs {
    /// Search space (YAML); one with several `studies` runs them all, `FILE#NAME` only one
    #[arg(value_name = "SPACE")]
    pub space: PathBuf,

    /// Go on with the study where it stopped
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,

    /// Throw away a study in the same folder first
    #[arg(long)]
    overwrite: bool,

    /// Who proposes what to try next
    #[arg(long, value_name = "WHO", default_value = ProposerKind::default().name(),
          value_parser = PossibleValuesParser::new(ProposerKind::ALL.map(|(name, _)| name)))]
    proposer: String,

    /// Evaluations to spend, in place of the number in the search space
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    budget: Option<u32>,

    /// Folder of the study; results/<name of the space> without it
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl SearchArgs {
    /// The inputs at `path`, with what the command line puts in their place.
    pub fn inputs(&self, path: &Path, context: &Context) -> Result<Inputs, Failure> {
        let inputs = Inputs::from_files(path, context)?.with(context.seed, self.budget);
        if inputs.file.space.budget.gain.is_some() && proposer(&self.proposer) != ProposerKind::Gp {
            let message =
                format!("`{}` expects no gain, and `budget.gain` rests on one", self.proposer);
            let hint = "search with `--proposer gp`, or without `gain`";
            return Err(Failure::input(message).hint(hint));
        }
        Ok(inputs)
    }

    /// Whether there must be no study yet.
    pub fn is_new(&self) -> bool {
        mode(self) == Mode::New
    }
}

/// Searches and reports.
pub fn search(args: &SearchArgs, context: &Context) -> Result<Exit, Failure> {
    let file = args.space.to_string_lossy();
    if let (file, None) = split(&file) {
        let names = study_names(&read_text(Path::new(file))?);
        if !names.is_empty() {
            return search_all(args, &names, context);
        }
    }
    let inputs = args.inputs(&args.space, context)?;
    let folder = args.out.clone().unwrap_or_else(|| {
        let (file, study) = split(&file);
        let results = PathBuf::from("results");
        let stem = Path::new(file).file_stem().unwrap_or_default();
        study.map_or_else(
            || results.join(&inputs.file.space.name),
            |study| results.join(stem).join(study),
        )
    });
    let stop = interrupt::stop_flag()?;
    let board = Board::new(context);
    let around = Around { context, board: &board, stop: &stop, workers: None, name: None };
    let (end, state) = ran(args, &inputs, &folder, around)?;
    if end == StudyEnd::Interrupted {
        let done = plural(state.trials.len(), "candidate");
        say_how_to_resume(
            &format!("the study in {} is intact with {done}", folder.display()),
            context,
        );
        return Ok(Exit::Interrupted);
    }
    context.talk_of_cache();
    let report = inputs.report(&state);
    study::write_derived(&report, &folder)?;
    print(&report, &folder, context)?;
    Ok(if end == StudyEnd::NoFeasible { Exit::NothingFeasible } else { Exit::Fine })
}

/// What is around a study of this process.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The global options.
    pub context: &'a Context,
    /// Where it tells how far it is.
    pub board: &'a Board<'a>,
    /// Set to end after the evaluations that run.
    pub stop: &'a AtomicBool,
    /// Whose threads simulate; `None`: its own.
    pub workers: Option<&'a ThreadPool>,
    /// Its name, where there are several.
    pub name: Option<&'a str>,
}

/// Runs one study to its end, or until it is interrupted.
pub fn ran(
    args: &SearchArgs,
    inputs: &Inputs,
    folder: &Path,
    around: Around<'_>,
) -> Result<(StudyEnd, StudyState), Failure> {
    let Around { context, board, stop, workers, name } = around;
    let options = StudyOptions {
        folder: folder.to_owned(),
        mode: mode(args),
        proposer: proposer(&args.proposer),
        sources: inputs.sources.clone(),
    };
    let evaluator = inputs.evaluator().with_cache(context.cache());
    let version = evaluator.version();
    let space = &inputs.file.space;
    let mut opened = Study::open(space.clone(), &options, version)?;
    if !opened.state().finished {
        let plan = StudyPlan::of(space, evaluator.requests(space.seeds.base));
        board.talk(&plan_text(space, &plan));
    }
    let clock = Clock::start();
    let mut talk = board.study(name, clock, opened.state().evaluations(space) as usize);
    let limits = Limits { workers, stop, elapsed: &|| clock.elapsed() };
    let ended = opened.run(&evaluator, &mut talk, limits);
    talk.finish();
    Ok((ended?, opened.state().clone()))
}

/// Prints the summary, or the JSON document, of a study.
pub fn print(
    report: &StudyReport,
    folder: &std::path::Path,
    context: &Context,
) -> Result<(), Failure> {
    if context.json {
        return output::data(&format!("{:#}\n", report.to_json()));
    }
    output::data(&report.summary())?;
    if report.state.winner.is_some() {
        let policy = folder.join("best-policy.yaml");
        output::data(&format!(
            "\nThe winner is in {0}; try it with `blis-opt run {0} --rate R`.\n",
            policy.display()
        ))?;
    }
    Ok(())
}

fn mode(args: &SearchArgs) -> Mode {
    match (args.resume, args.overwrite) {
        (true, _) => Mode::Resume,
        (_, true) => Mode::Overwrite,
        _ => Mode::New,
    }
}

fn proposer(name: &str) -> ProposerKind {
    let listed = ProposerKind::ALL.into_iter().find(|(known, _)| *known == name);
    listed.map(|(_, kind)| kind).expect("clap lets known names through only")
}

/// Says that the search was interrupted, what is `left` of it, and how to go on.
pub fn say_how_to_resume(left: &str, context: &Context) {
    let line = resume_line(std::env::args());
    context.output.talk(&format!("interrupted; {left}. Go on with:\n  {line}"));
}

/// The command line again, with `--resume` in place of how it began.
fn resume_line(arguments: impl Iterator<Item = String>) -> String {
    let kept = arguments.filter(|word| word != "--resume" && word != "--overwrite");
    let words: Vec<String> =
        kept.chain(["--resume".to_owned()]).map(|word| quoted(&word)).collect();
    words.join(" ")
}

/// A word as a shell takes it for itself.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_resume_can_be_pasted() {
        let typed = ["blis-opt", "search", "my space.yaml", "--overwrite", "--budget", "9"];
        let line = resume_line(typed.into_iter().map(str::to_owned));
        assert_eq!(line, "blis-opt search 'my space.yaml' --budget 9 --resume");
    }

    #[test]
    fn every_proposer_has_a_name() {
        for (name, kind) in ProposerKind::ALL {
            assert_eq!(proposer(name), kind);
        }
    }
}
