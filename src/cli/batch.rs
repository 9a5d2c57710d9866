//! Several studies of one file on the same threads, and what they found side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::ThreadPool;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::write_whole;
use super::progress::Board;
use super::search::{Around, SearchArgs, ran, say_how_to_resume};
use super::study::Inputs;
use super::{interrupt, output};
use crate::report::{Comparison, StudyReport};
use crate::search::{StudyEnd, StudyError, StudyState};

/// The most studies that are searched at once: what one leaves idle at the ends of its batches, few
/// others fill, and each holds its workload in memory.
const AT_ONCE_MAX: usize = 8;

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
    if args.is_new()
        && let Some(held) = studies_in(&folder).iter().find(|held| names.contains(held))
    {
        return Err(StudyError::Exists { folder: folder.join(held) }.into());
    }
    let batch = Batch { args, names, inputs: &inputs, folder: &folder };
    let states = batch.ran(context)?;
    let done = states.iter().flatten().count();
    let Some(states) = states.into_iter().collect::<Option<Vec<StudyState>>>() else {
        let (folder, all) = (folder.display(), names.len());
        let left = format!("the studies in {folder} are intact, {done} of {all} are done");
        say_how_to_resume(&left, context);
        return Ok(Exit::Interrupted);
    };
    context.talk_of_cache();
    compare(&stem, &folder, (names, &inputs, &states), context)?;
    let all_found = states.iter().all(|state| state.winner.is_some());
    Ok(if all_found { Exit::Fine } else { Exit::NothingFeasible })
}

/// Studies to run.
struct Batch<'a> {
    args: &'a SearchArgs,
    names: &'a [String],
    inputs: &'a [Inputs],
    folder: &'a Path,
}

impl Batch<'_> {
    /// Runs them, several at once, on as many threads as one alone would have: what each finds
    /// depends on the others only where its wall time ends it. `None` stands for a study that was
    /// interrupted. After a failure no study is begun, and those that run end as if interrupted.
    fn ran(&self, context: &Context) -> Result<Vec<Option<StudyState>>, Failure> {
        let threads = rayon::current_num_threads();
        let workers = pool(threads)?;
        let stop = interrupt::stop_flag()?;
        let board = Board::new(context);
        let around =
            Around { context, board: &board, stop: &stop, workers: Some(&workers), name: None };
        let next = AtomicUsize::new(0);
        let ended = Mutex::new(Vec::new());
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = self.names.get(index) else { break };
                let ran = self.one(index, Around { name: Some(name), ..around });
                stop.fetch_or(ran.is_err(), Ordering::Relaxed);
                ended.lock().unwrap_or_else(PoisonError::into_inner).push((index, ran));
            }
        };
        // A thread of its own proposes for each study, so that no proposal waits for the
        // simulations of others.
        let count = threads.min(self.names.len()).min(AT_ONCE_MAX);
        let own = (0..count).map(|_| pool(1)).collect::<Result<Vec<ThreadPool>, Failure>>()?;
        std::thread::scope(|scope| {
            for pool in &own {
                scope.spawn(|| pool.install(work));
            }
        });
        let mut states: Vec<Option<StudyState>> = vec![None; self.names.len()];
        let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        ended.sort_by_key(|(index, _)| *index);
        for (index, ran) in ended {
            states[index] = ran?;
        }
        Ok(states)
    }

    /// Runs study number `index` and writes what follows from it.
    fn one(&self, index: usize, around: Around<'_>) -> Result<Option<StudyState>, Failure> {
        let (name, inputs) = (&self.names[index], &self.inputs[index]);
        around.board.talk(&format!("study {} of {}: {name}", index + 1, self.names.len()));
        let own = self.folder.join(name);
        let (end, state) = ran(self.args, inputs, &own, around)?;
        if end == StudyEnd::Interrupted {
            return Ok(None);
        }
        super::study::write_derived(&inputs.report(&state), &own)?;
        Ok(Some(state))
    }
}

fn pool(threads: usize) -> Result<ThreadPool, Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|problem| Failure::input(format!("cannot start {threads} threads: {problem}")))
}

/// The studies in the folder of a batch, by name; empty where there are none.
pub fn studies_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let journal = |path: &Path| fs::metadata(path.join(crate::search::study::JOURNAL));
    let has_journal = |path: &Path| journal(path).is_ok_and(|journal| journal.len() > 0);
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
