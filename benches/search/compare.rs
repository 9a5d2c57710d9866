//! Studies on problems whose truth is known, side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use blis_opt::search::ProposerKind;
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::problems::{self, Problem};
use super::study::{self, Told};
use super::table::{Row, print_table};

/// Run studies and print what the best truly feasible candidate costs
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Only this problem; may be repeated
    #[arg(long, value_name = "P")]
    problem: Vec<String>,

    /// Only this proposer; may be repeated
    #[arg(long, value_name = "NAME")]
    proposer: Vec<String>,

    /// Repetitions, each with other seeds
    #[arg(long, default_value_t = 20)]
    seeds: u64,

    /// The first repetition
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// After how many evaluations to look; the last is the studies' budget
    #[arg(long, value_delimiter = ',', default_values_t = [30, 60, 120, 240])]
    at: Vec<u32>,

    /// Give each of `--at` a study of its own, which knows its budget
    #[arg(long)]
    apart: bool,

    /// Studies at once
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,

    /// Print a line of JSON per study instead of tables
    #[arg(long)]
    json: bool,
}

/// One study to run.
struct Task<'a> {
    problem: &'a str,
    proposer: (&'static str, ProposerKind),
    repetition: u64,
}

/// Runs them all.
pub fn compare(args: &CompareArgs) {
    let names: Vec<&str> = if args.problem.is_empty() {
        problems::SYNTHETIC.to_vec()
    } else {
        args.problem.iter().map(String::as_str).collect()
    };
    let problems: Vec<(&str, Box<dyn Problem>)> =
        names.iter().map(|&name| (name, problems::named(name))).collect();
    let proposers = chosen(&args.proposer);
    let mut tasks = Vec::new();
    for repetition in args.first..args.first + args.seeds {
        for &problem in &names {
            for &proposer in &proposers {
                tasks.push(Task { problem, proposer, repetition });
            }
        }
    }
    let rows = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = problems.iter().find(|(name, _)| *name == task.problem);
                    let (_, problem) = found.expect("tasks name known problems");
                    let row = row(task, problem.as_ref(), args);
                    if args.json {
                        println!("{}", row_json(&row));
                    }
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    if !args.json {
        let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (name, problem) in &problems {
            let of_problem = rows.iter().filter(|row| row.problem == *name).cloned();
            print_table(name, problem.best(), &args.at, &of_problem.collect::<Vec<Row>>());
        }
    }
}

fn chosen(names: &[String]) -> Vec<(&'static str, ProposerKind)> {
    let listed = ProposerKind::ALL.into_iter();
    let chosen: Vec<_> = if names.is_empty() {
        listed.filter(|(_, kind)| *kind == ProposerKind::default()).collect()
    } else {
        listed.filter(|(name, _)| names.iter().any(|wanted| wanted == name)).collect()
    };
    assert!(chosen.len() >= names.len().max(1), "unknown proposer among {names:?}");
    chosen
}

fn row(task: &Task, problem: &dyn Problem, args: &CompareArgs) -> Row {
    let seeds = problem.space().seeds.search;
    let (proposer, repetition) = (task.proposer.1, task.repetition);
    let last = args.at.iter().copied().max().unwrap_or(60);
    let whole = study::run(problem, proposer, last, repetition);
    let at = args.at.iter().map(|&budget| {
        let cost = if args.apart && budget != last {
            let own = study::run(problem, proposer, budget, repetition);
            own.best_within(problem, budget)
        } else {
            whole.best_within(problem, budget)
        };
        (budget, cost)
    });
    let at = at.collect();
    let Told { runs, fresh_runs, winner, cpu_s, wall_s, .. } = whole;
    Row {
        problem: task.problem.to_owned(),
        method: task.proposer.0.to_owned(),
        repetition,
        at,
        winner,
        cpu_per_evaluation_s: cpu_s * f64::from(seeds) / runs.max(1) as f64,
        wall_s,
        evaluations: runs as f64 / f64::from(seeds),
        fresh_runs,
    }
}

fn row_json(row: &Row) -> Json {
    let at: Map<String, Json> =
        row.at.iter().map(|(budget, cost)| (budget.to_string(), json!(cost))).collect();
    let winner = row.winner.map(|truth| json!({"cost": truth.cost, "feasible": truth.feasible}));
    json!({
        "problem": row.problem,
        "method": row.method,
        "seed": row.repetition,
        "at": at,
        "winner": winner,
        "cpu_per_evaluation_s": row.cpu_per_evaluation_s,
        "wall_s": row.wall_s,
        "evaluations": row.evaluations,
        "fresh_runs": row.fresh_runs,
    })
}
