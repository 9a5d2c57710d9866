//! `blis-opt evaluate`: candidates in, metrics out, for other optimizers and for scripts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use clap::Args;
use serde_json::{Value as Json, json};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use super::study::Inputs;
use crate::search::dialogue::{Question, describe};
use crate::search::{Evaluator, SearchSpace};

/// Measure candidates that are given on standard input
///
/// Each line is {"knobs": {...}, "seeds": [...]}, or the object of knobs alone; without seeds a
/// candidate meets those of the search, and a knob that is left out rests. Each is answered by
/// one line, in order: the candidate in its canonical form, the figures under every seed, and the
/// score. A line that cannot be used is answered by an object with `error` and `line`; the others
/// go on, and the exit code is 1 at the end.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  blis-opt evaluate search-spaces/500rps.yaml --describe
  echo '{\"pools.h100.instances\": 13}' | blis-opt evaluate search-spaces/500rps.yaml
  blis-opt evaluate search-spaces/500rps.yaml < candidates.jsonl > metrics.jsonl")]
pub struct EvaluateArgs {
    /// Search space (YAML)
    #[arg(value_name = "SPACE")]
    space: PathBuf,

    /// Print the space as one JSON document instead: knobs, conditions, objective, constraints
    #[arg(long)]
    describe: bool,
}

/// Lines that wait for a thread or for those before them, per thread.
const AHEAD: usize = 4;

/// Answers until standard input ends.
pub fn evaluate(args: &EvaluateArgs, context: &Context) -> Result<Exit, Failure> {
    let inputs = Inputs::from_files(&args.space, context)?.with(context.seed, None);
    let space = &inputs.file.space;
    if args.describe {
        output::data(&format!("{:#}\n", describe(space)))?;
        return Ok(Exit::Fine);
    }
    let stdin = BufReader::new(std::io::stdin());
    let evaluator = inputs.evaluator().with_cache(context.cache());
    let refused = answer_all(space, &evaluator, stdin)?;
    context.talk_of_cache();
    if refused > 0 {
        context.output.talk(&format!("lines that could not be used: {refused}"));
        return Ok(Exit::BadInput);
    }
    Ok(Exit::Fine)
}

/// Answers every line of `reader` on standard output, and counts those that could not be used.
fn answer_all(
    space: &SearchSpace,
    evaluator: &dyn Evaluator,
    reader: impl BufRead,
) -> Result<usize, Failure> {
    let answers = Answers::default();
    let ahead = AHEAD * rayon::current_num_threads();
    // The lines are read on this thread, so that the pool's are free to simulate.
    rayon::in_place_scope(|scope| {
        let numbered = (1..).zip(reader.lines());
        let asked = numbered.filter(|(_, line)| !line.as_ref().is_ok_and(|l| l.trim().is_empty()));
        for (index, (number, line)) in asked.enumerate() {
            if !answers.wait_for_room(index, ahead) {
                return;
            }
            let line = line.map_err(|problem| problem.to_string());
            let unreadable = line.is_err();
            let answers = &answers;
            scope.spawn(move |_| answers.put(index, answer(space, evaluator, line, number)));
            if unreadable {
                return;
            }
        }
    });
    answers.end()
}

/// The answer to line `number`; an error where it cannot be used.
fn answer(
    space: &SearchSpace,
    evaluator: &dyn Evaluator,
    line: Result<String, String>,
    number: usize,
) -> Result<Json, Json> {
    let question = line.and_then(|line| Question::read(space, &line));
    let question = question.map_err(|error| json!({"line": number, "error": error}))?;
    Ok(question.ask(space, evaluator))
}

/// Answers that come in any order and go out in order.
#[derive(Default)]
struct Answers {
    told: Mutex<Told>,
    /// Something went out.
    moved: Condvar,
}

#[derive(Default)]
struct Told {
    /// Answers that wait for those before them.
    waiting: BTreeMap<usize, Result<Json, Json>>,
    /// How many went out.
    out: usize,
    /// How many of them were errors.
    refused: usize,
    /// Why nothing can go out any more.
    failure: Option<Failure>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer than `ahead` answers before the one at `index` are missing; false where
    /// nobody reads them.
    fn wait_for_room(&self, index: usize, ahead: usize) -> bool {
        let crowded = |told: &mut Told| told.failure.is_none() && index >= told.out + ahead;
        let told = self.moved.wait_while(self.lock(), crowded);
        told.unwrap_or_else(PoisonError::into_inner).failure.is_none()
    }

    fn put(&self, index: usize, answer: Result<Json, Json>) {
        let mut told = self.lock();
        told.waiting.insert(index, answer);
        while told.failure.is_none() {
            let next = told.out;
            let Some(answer) = told.waiting.remove(&next) else { break };
            told.refused += usize::from(answer.is_err());
            let (Ok(line) | Err(line)) = answer;
            told.failure = output::data(&format!("{line}\n")).err();
            told.out += 1;
        }
        self.moved.notify_all();
    }

    fn end(self) -> Result<usize, Failure> {
        let told = self.told.into_inner().unwrap_or_else(PoisonError::into_inner);
        told.failure.map_or(Ok(told.refused), Err)
    }
}
