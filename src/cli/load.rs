//! Files that somebody wrote, read into what they mean.

use std::borrow::Cow;
use std::path::Path;

use super::context::Context;
use super::exit::Failure;
use super::files::read_text;
use super::output;
use crate::config::{Defaults, Node, PresetLengths, Problems, parse};
use crate::workload::{Lengths, Preset, Presets};

/// The tree of a YAML file; `None` where it is no YAML, which is then among the problems.
pub fn tree(path: &Path, problems: &mut Problems) -> Result<Option<Node>, Failure> {
    let text = read_text(path)?;
    Ok(parse(&path.to_string_lossy(), &text, problems))
}

/// The defaults in force: the built-in ones, with the file of `--defaults` laid over them.
pub fn defaults(context: &Context) -> Result<Cow<'static, Defaults>, Failure> {
    let Some(path) = &context.defaults else { return Ok(Cow::Borrowed(Defaults::embedded())) };
    let mut problems = Problems::new();
    let read = Defaults::read(&path.to_string_lossy(), &read_text(path)?, &mut problems);
    let defaults = checked(read, &problems, context)?;
    Ok(Cow::Owned(defaults))
}

/// The workloads that the defaults know by name.
pub fn presets(defaults: &Defaults) -> Presets {
    let lengths = |of: &PresetLengths| {
        Lengths::gaussian(of.mean, of.std_dev, f64::from(of.min), f64::from(of.max))
    };
    let mut presets = Presets::default();
    for preset in &defaults.presets {
        let (prompt, output) = (lengths(&preset.prompt), lengths(&preset.output));
        presets.insert(&preset.name, Preset { prompt, output, prefix_tokens: 0 });
    }
    presets
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
