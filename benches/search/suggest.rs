//! What a suggestion costs after so many trials.

use std::sync::Mutex;
use std::time::Instant;

use blis_opt::search::propose::random::Random;
use blis_opt::search::propose::{Ask, Sight};
use blis_opt::search::{Foresight, Job, Origin, Proposer, ProposerKind, Run, Score, Trial};
use clap::Args;

use super::problems::{self, Problem};

/// Time a suggestion after so many trials, on one thread
#[derive(Args, Debug)]
pub struct SuggestArgs {
    /// Only this problem; may be repeated
    #[arg(long, value_name = "P")]
    problem: Vec<String>,

    /// After how many trials
    #[arg(long, value_delimiter = ',', default_values_t = [50, 200, 1000])]
    after: Vec<usize>,
}

/// Prints milliseconds per suggestion: of a batch that has to find its hyperparameters, and of one
/// that knows them.
pub fn suggest(args: &SuggestArgs) {
    let names: Vec<&str> = if args.problem.is_empty() {
        problems::SYNTHETIC.to_vec()
    } else {
        args.problem.iter().map(String::as_str).collect()
    };
    println!(
        "| problem | knobs | trials | batch | ms anew | ms again |\n|---|---|---|---|---|---|"
    );
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for name in names {
        let problem = problems::named(name);
        for &count in &args.after {
            let history = trials(problem.as_ref(), count);
            pool.install(|| line(name, problem.as_ref(), &history));
        }
    }
}

/// `count` random candidates, each under one seed.
fn trials(problem: &dyn Problem, count: usize) -> Vec<Trial> {
    let space = problem.space();
    let foresight = Foresight::none();
    let ask = Ask { space, history: &[], taken: &[], count, batch: 0, foresight };
    let candidates = Random.propose(&ask);
    let jobs: Vec<Job> = candidates.iter().map(|c| Job { candidate: c.clone(), seed: 1 }).collect();
    let done: Mutex<Vec<Option<Run>>> = Mutex::new(vec![None; jobs.len()]);
    problem.evaluate(&jobs, &|| false, &|index, run| {
        done.lock().expect("nobody panics")[index] = Some(run);
    });
    let runs = done.into_inner().expect("nobody panics");
    let pairs = candidates.into_iter().zip(runs.into_iter().flatten()).enumerate();
    let trial = pairs.map(|(index, (candidate, mut run))| {
        space.complete(&mut run.figures);
        let runs = vec![run];
        let score = Score::of(space, &runs);
        Trial { index, by: Origin::Random, candidate, runs, dropped: None, score }
    });
    trial.collect()
}

fn line(name: &str, problem: &dyn Problem, history: &[Trial]) {
    let mut space = problem.space().clone();
    space.budget.evaluations = 10_000;
    let foresight = Foresight::none();
    let proposer = ProposerKind::Gp.proposer();
    let mut times = Vec::new();
    let mut size = 0;
    for batch in 0..2 {
        let sight = Sight { space: &space, history, batch, foresight };
        let started = Instant::now();
        size = sight.next_batch(proposer.as_ref()).len();
        times.push(1000.0 * started.elapsed().as_secs_f64() / size.max(1) as f64);
    }
    let (knobs, count) = (space.knobs.len(), history.len());
    println!("| {name} | {knobs} | {count} | {size} | {:.1} | {:.1} |", times[0], times[1]);
}
