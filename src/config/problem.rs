//! Everything that is wrong with the files somebody wrote.

use super::Position;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing can be simulated.
    Error,
    /// Something surprising that does not stop us.
    Warning,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name as given; empty where there is none.
    pub file: String,
    /// Where in the file.
    pub position: Position,
    /// What is wrong: lower case, backticks round anything typed.
    pub message: String,
    /// What stands at the caret; may be empty.
    pub label: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Problem {
    /// Sets what stands at the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Sets what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = hint.into();
        self
    }
}

/// The text of a file, for snippets.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// The problems found so far, with the texts they are in.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    pub(super) sources: Vec<Source>,
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// No problems yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers the text of a file for snippets and places problems in it from now on.
    pub fn add_file(&mut self, name: &str, text: &str) {
        let known = self.sources.iter_mut().find(|source| source.name == name);
        match known {
            Some(source) => text.clone_into(&mut source.text),
            None => self.sources.push(Source { name: name.to_owned(), text: text.to_owned() }),
        }
        self.select_file(name);
    }

    /// Places problems in the file `name` from now on; for reading the tree of one file after
    /// another was parsed.
    pub fn select_file(&mut self, name: &str) {
        name.clone_into(&mut self.file);
    }

    /// The file that problems are placed in.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Adds an error; label and hint can be set on what is returned.
    pub fn error(&mut self, at: Position, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, at, message.into())
    }

    /// Adds a warning; label and hint can be set on what is returned.
    pub fn warning(&mut self, at: Position, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, at, message.into())
    }

    /// Leaves out what was said before of the same place: parts of a file that several readers
    /// share.
    pub fn without_repeats(&mut self) {
        let mut once: Vec<Problem> = Vec::new();
        for problem in self.list.drain(..) {
            if !once.contains(&problem) {
                once.push(problem);
            }
        }
        self.list = once;
    }

    /// The number of errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Whether there is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is neither an error nor a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems in the order they were found.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    fn push(&mut self, severity: Severity, position: Position, message: String) -> &mut Problem {
        let file = self.file.clone();
        let (label, hint) = (String::new(), String::new());
        self.list.push(Problem { severity, file, position, message, label, hint });
        self.list.last_mut().expect("one was just pushed")
    }
}
