//! Answers questions about candidates of a problem.

use std::io::{BufRead as _, Write as _};

use blis_opt::search::SearchSpace;
use blis_opt::search::dialogue::{Question, describe};
use clap::Args;
use serde_json::{Value as Json, json};

use super::problems::{self, Problem};
use super::study::seeds_of;

/// Answer candidates on stdin with metrics on stdout, a line of JSON each
///
/// The first line describes the space. A question is `{"knobs": {...}, "seeds": [...]}`, an answer
/// is as that of `blis-opt evaluate` with the `truth` added, which no optimizer should look at.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Which problem
    problem: String,

    /// Which repetition: each meets other seeds
    #[arg(long, default_value_t = 0)]
    repetition: u64,
}

/// Answers until stdin ends.
pub fn serve(args: &ServeArgs) {
    let problem = problems::named(&args.problem);
    let mut space = problem.space().clone();
    space.seeds = seeds_of(&space, args.repetition);
    let mut told = describe(&space);
    told["truth_seeds"] = json!(problem.truth_seeds());
    say(&told);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("stdin is readable");
        if !line.trim().is_empty() {
            say(&answer(problem.as_ref(), &space, &line));
        }
    }
}

fn answer(problem: &dyn Problem, space: &SearchSpace, line: &str) -> Json {
    match Question::read(space, line) {
        Err(error) => json!({ "error": error }),
        Ok(question) => {
            let mut answer = question.ask(space, problem);
            // Where truth is dear it is asked for by fresh seeds, and for few.
            if !problem.truth_is_dear() {
                let truth = problem.truth(&question.candidate);
                answer["truth"] = json!({"cost": truth.cost, "feasible": truth.feasible});
            }
            answer
        }
    }
}

fn say(line: &Json) {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}
