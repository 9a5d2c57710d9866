//! Simulates every candidate of a space once and stores what it does.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use blis_opt::search::Candidate;
use clap::Args;
use rayon::prelude::*;

use super::problems::{
    KEPT, Problem as _, Simulated, Swept, TRUTH_SEEDS, every_candidate, write_row, write_table,
};

/// Simulate every candidate of a space and store what it does in `truth/`
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// Which space of `spaces/`
    space: String,

    /// Only say what the stored table holds
    #[arg(long)]
    show: bool,
}

/// Sweeps and says what was found.
pub fn sweep(args: &SweepArgs) {
    if !args.show {
        store(&args.space);
    }
    let swept = Swept::open(&args.space);
    let feasible: Vec<f64> =
        swept.truths().filter(|truth| truth.feasible).map(|truth| truth.cost).collect();
    let best = swept.best().map_or(f64::NAN, |best| best.cost);
    let equals = feasible.iter().filter(|&&cost| cost <= best).count();
    println!(
        "{}: {} candidates, {} feasible, the best costs {best}, {equals} cost as much",
        args.space,
        swept.truths().count(),
        feasible.len()
    );
}

fn store(name: &str) {
    let started = Instant::now();
    let problem = Simulated::open(name);
    let candidates: Vec<Candidate> = every_candidate(problem.space()).collect();
    let seeds: Vec<u64> = TRUTH_SEEDS.collect();
    let done = AtomicUsize::new(0);
    let rows: Vec<String> = candidates
        .par_iter()
        .map(|candidate| {
            let row = write_row(&problem.runs(candidate, &seeds));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(200) {
                eprintln!("{count} of {} after {:.0?}", candidates.len(), started.elapsed());
            }
            row
        })
        .collect();
    let mut text = format!(
        "# Every candidate of {name}.yaml in order of its knobs, by `sweep {name}`: stable runs, \
         then means of\n# {} under seeds {} to {}.\n",
        KEPT.join(", "),
        TRUTH_SEEDS.start,
        TRUTH_SEEDS.end - 1
    );
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    write_table(name, &text);
    eprintln!("{} candidates in {:.0?}", candidates.len(), started.elapsed());
}
