//! A study on disk: its inputs, its journal, the files that follow from it.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use super::context::Context;
use super::exit::Failure;
use super::files::{read_text, write_whole};
use super::load;
use crate::config::{Defaults, Problems};
use crate::report::StudyReport;
use crate::search::batch;
use crate::search::journal::{self, Entry};
use crate::search::read::{SpaceFile, read_space};
use crate::search::study::JOURNAL;
use crate::search::{SimulatedEvaluator, Source, SourceRole, StudyError, StudyState};

/// Everything that the results of a study depend on.
pub struct Inputs {
    /// The search space with all that it refers to.
    pub file: SpaceFile,
    /// Models and prices.
    defaults: Cow<'static, Defaults>,
    /// The texts of all input files.
    pub sources: Vec<Source>,
}

impl Inputs {
    /// Reads a search space and what it refers to.
    pub fn from_files(path: &Path, context: &Context) -> Result<Self, Failure> {
        let defaults = load::defaults(context)?;
        let mut problems = Problems::new();
        let named = path.to_string_lossy();
        let text = read_text(Path::new(batch::split(&named).0))?;
        let read = read_space(
            (&named, &text),
            &defaults,
            &|file| load::text_or_reason(Path::new(file)),
            &mut problems,
        );
        let file = load::checked(read, &problems, context)?;
        let mut sources = file.sources.clone();
        if let Some(path) = &context.defaults {
            let (role, file) = (SourceRole::Defaults, path.to_string_lossy().into_owned());
            sources.push(Source { role, file, text: read_text(path)? });
        }
        Ok(Self { file, defaults, sources })
    }

    /// The inputs that a study's journal keeps, and the study as far as it goes.
    pub fn from_journal(folder: &Path, context: &Context) -> Result<(Self, StudyState), Failure> {
        let path = folder.join(JOURNAL);
        if !path.is_file() {
            let message = format!("there is no study in `{}`", folder.display());
            let hint = "name the folder that a search wrote, such as results/500rps";
            return Err(Failure::input(message).hint(hint));
        }
        if context.defaults.is_some() {
            context.output.talk("--defaults has no effect here: a study keeps its own");
        }
        let entries = journal::read_file(&path)?;
        let Some(Entry::Header(header)) = entries.first() else {
            return Err(Failure::input(format!("`{}` has no header", path.display())));
        };
        let mut problems = Problems::new();
        let sources = header.sources.clone();
        let kept = sources.iter().find(|source| source.role == SourceRole::Defaults);
        let defaults = match kept {
            None => Some(Cow::Borrowed(Defaults::embedded())),
            Some(kept) => Defaults::read(&kept.file, &kept.text, &mut problems).map(Cow::Owned),
        };
        let defaults = load::checked(defaults, &problems, context)?;
        let file = SpaceFile::from_sources(&sources, &defaults, &mut problems);
        let mut file = load::checked(file, &problems, context)?;
        file.space.seeds.base = header.seed;
        let state = StudyState::replay(&file.space, &entries, &path)?;
        Ok((Self { file, defaults, sources }, state))
    }

    /// The same inputs with what the command line puts in place of the file.
    #[must_use]
    pub fn with(mut self, seed: Option<u64>, evaluations: Option<u32>) -> Self {
        let space = &mut self.file.space;
        space.seeds.base = seed.unwrap_or(space.seeds.base);
        space.budget.evaluations = evaluations.unwrap_or(space.budget.evaluations);
        self
    }

    /// What simulates the candidates.
    pub fn evaluator(&self) -> SimulatedEvaluator<'_> {
        self.file.evaluator(&self.defaults)
    }

    /// A report on the study in this state.
    pub fn report<'a>(&'a self, state: &'a StudyState) -> StudyReport<'a> {
        StudyReport {
            space: &self.file.space,
            template: &self.file.template,
            defaults: &self.defaults,
            state,
        }
    }
}

/// Writes the files that follow from a study's journal, each whole or not at all.
pub fn write_derived(report: &StudyReport, folder: &Path) -> Result<(), Failure> {
    for file in report.derived_files() {
        let path = folder.join(file.name);
        match file.text {
            Some(text) => write_whole(&path, text.as_bytes())?,
            None => remove(&path)?,
        }
    }
    Ok(())
}

/// Removes a file that must not outlive the study it was derived from.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
            Err(Failure::input(format!("cannot remove `{}`: {problem}", path.display())))
        }
        _ => Ok(()),
    }
}

impl From<StudyError> for Failure {
    fn from(error: StudyError) -> Self {
        let failure = Self::input(error.to_string());
        error.hint().into_iter().fold(failure, Self::hint)
    }
}
