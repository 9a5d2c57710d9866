//! Files that somebody wrote, read into what they mean.

use std::borrow::Cow;
use std::path::Path;

use super::context::Context;
use super::exit::Failure;
use super::files::read_text;
use super::output;
use crate::config::{Defaults, Node, Problems, parse};

/// The tree of a YAML file; `None` where it is no YAML, which is then among the problems.
pub fn tree(path: &Path, problems: &mut Problems) -> Result<Option<Node>, Failure> {
    let text = read_text(path)?;
    Ok(parse(&path.to_string_lossy(), &text, problems))
}

/// The text of a file that another names; the error is a sentence.
pub fn text_or_reason(path: &Path) -> Result<String, String> {
    read_text(path).map_err(|failure| match failure {
        Failure::Message { message, .. } => message,
        other => format!("{other:?}"),
    })
}

/// The defaults in force: the built-in ones, with the file of `--defaults` laid over them.
pub fn defaults(context: &Context) -> Result<Cow<'static, Defaults>, Failure> {
    let Some(path) = &context.defaults else { return Ok(Cow::Borrowed(Defaults::embedded())) };
    let mut problems = Problems::new();
    let read = Defaults::read(&path.to_string_lossy(), &read_text(path)?, &mut problems);
    let defaults = checked(read, &problems, context)?;
    Ok(Cow::Owned(defaults))
}

/// What was read, unless there were errors; warnings are said on stderr.
pub fn checked<T>(read: Option<T>, problems: &Problems, context: &Context) -> Result<T, Failure> {
    match read {
        Some(read) if !problems.has_errors() => {
            if !problems.is_empty() && !context.quiet {
                output::complain(problems.render(context.output.colors_stderr()).trim_end());
            }
            Ok(read)
        }
        _ => Err(Failure::Problems(problems.render(context.output.colors_stderr()))),
    }
}
