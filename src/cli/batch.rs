//! Several studies of one file, one after the other, and what they found side by side.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::write_whole;
use super::search::{SearchArgs, ran};
use super::study::Inputs;
use super::{interrupt, output};
use crate::report::{Comparison, StudyReport};
use crate::search::StudyState;

/// Runs the studies `names` of the file of `args` and compares them.
pub fn search_all(args: &SearchArgs, names: &[String], context: &Context) -> Result<Exit, Failure> {
    let file = args.space.to_string_lossy();
    let stem = args.space.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&stem));
    let mut inputs = Vec::with_capacity(names.len());
    for name in names {
        let path = PathBuf::from(format!("{file}#{name}"));
        inputs.push(args.inputs(&path, context)?);
    }
    let stop = interrupt::stop_flag()?;
    let mut states = Vec::with_capacity(names.len());
    for (index, (name, inputs)) in names.iter().zip(&inputs).enumerate() {
        context.output.talk(&format!("study {} of {}: {name}", index + 1, names.len()));
        let own = folder.join(name);
        let Some((_, state)) = ran(args, inputs, &own, (context, &stop))? else {
            return Ok(Exit::Interrupted);
        };
        super::study::write_derived(&inputs.report(&state), &own)?;
        states.push(state);
    }
    context.talk_of_cache();
    compare(&stem, &folder, (names, &inputs, &states), context)?;
    let all_found = states.iter().all(|state| state.winner.is_some());
    Ok(if all_found { Exit::Fine } else { Exit::NothingFeasible })
}

/// The studies in the folder of a batch, by name; empty where there are none.
pub fn studies_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let has_journal = |path: &Path| path.join(crate::search::study::JOURNAL).is_file();
    let studies = entries.map(|entry| entry.path()).filter(|path| has_journal(path));
    let mut names: Vec<String> =
        studies.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// Compares the studies `names` in `folder` again from their journals.
pub fn report_all(folder: &Path, names: &[String], context: &Context) -> Result<Exit, Failure> {
    let (mut inputs, mut states) = (Vec::new(), Vec::new());
    for name in names {
        let own = folder.join(name);
        let (kept, state) = Inputs::from_journal(&own, context)?;
        super::study::write_derived(&kept.report(&state), &own)?;
        inputs.push(kept);
        states.push(state);
    }
    let stem = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    compare(&stem, folder, (names, &inputs, &states), context)?;
    Ok(Exit::Fine)
}

/// Prints the comparison and writes it beside the studies.
fn compare(
    name: &str,
    folder: &Path,
    (names, inputs, states): (&[String], &[Inputs], &[StudyState]),
    context: &Context,
) -> Result<(), Failure> {
    let reports: Vec<(String, StudyReport<'_>)> = names
        .iter()
        .zip(inputs.iter().zip(states))
        .map(|(name, (inputs, state))| (name.clone(), inputs.report(state)))
        .collect();
    let comparison = Comparison { name, studies: &reports };
    let (text, json) = (comparison.text(), format!("{:#}\n", comparison.to_json()));
    for (file, content) in [
        ("comparison.txt", &text),
        ("comparison.csv", &comparison.csv()),
        ("comparison.json", &json),
    ] {
        write_whole(&folder.join(file), content.as_bytes())?;
    }
    if context.json {
        return output::data(&json);
    }
    output::data(&text)?;
    output::data(&format!(
        "\nEach study has its policy and its evidence in {}/<study>; see one with \
         `blis-opt report {0}/<study>`.\n",
        folder.display()
    ))
}
