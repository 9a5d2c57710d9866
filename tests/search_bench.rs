//! The problems of the search bench: that their truth is one, and their tables those of today's
//! simulator.

// Not all that the bench needs is needed here.
#[allow(dead_code, unused_imports)]
#[path = "../benches/search/problems/mod.rs"]
mod problems;

use std::sync::Mutex;

use blis_opt::search::{Candidate, Evaluator, Job, Run, score};
use problems::{
    Problem, SWEPT, SYNTHETIC, Simulated, Swept, TRUTH_SEEDS, every_candidate, named, stored_lines,
    write_row,
};

fn runs(problem: &dyn Evaluator, candidate: &Candidate, seeds: std::ops::Range<u64>) -> Vec<Run> {
    let job = |seed| Job { candidate: candidate.clone(), seed };
    let jobs: Vec<Job> = seeds.map(job).collect();
    let told = Mutex::new(Vec::new());
    problem.evaluate(&jobs, &|| false, &|index, run| {
        told.lock().expect("no panic").push((index, run));
    });
    let mut told = told.into_inner().expect("no panic");
    told.sort_by_key(|(index, _)| *index);
    told.into_iter().map(|(_, run)| run).collect()
}

fn best_of(problem: &dyn Problem) -> Candidate {
    let best = problem.best().expect("a best candidate");
    let json = serde_json::from_str(best.knobs).expect("JSON");
    Candidate::from_json(problem.space(), &json).expect("a candidate")
}

#[test]
fn the_best_known_candidates_are_feasible_and_cost_what_is_said() {
    for name in SYNTHETIC {
        let problem = named(name);
        let truth = problem.truth(&best_of(problem.as_ref()));
        let said = problem.best().expect("a best candidate");
        assert!(truth.feasible, "{name}");
        assert!((truth.cost - said.cost).abs() < 1e-3, "{name}: {} {}", truth.cost, said.cost);
        assert!(!said.found.is_empty());
    }
}

#[test]
fn the_grid_has_no_better_candidate_than_its_best() {
    let problem = named("grid4");
    let truths = every_candidate(problem.space()).map(|candidate| problem.truth(&candidate));
    let feasible = truths.filter(|truth| truth.feasible).map(|truth| truth.cost);
    let least = feasible.min_by(f64::total_cmp);
    assert_eq!(least, problem.best().map(|best| best.cost));
}

#[test]
fn noise_has_the_truth_as_its_mean_and_depends_on_candidate_and_seed_only() {
    for name in SYNTHETIC {
        let problem = named(name);
        let candidate = best_of(problem.as_ref());
        let runs = runs(problem.as_ref(), &candidate, 0..4000);
        assert_eq!(runs[7..9], self::runs(problem.as_ref(), &candidate, 7..9)[..]);
        let metric = problem.space().objective.metric.as_str();
        let mean = score::mean(&runs, metric).expect("a cost");
        let truth = problem.truth(&candidate).cost;
        assert!((mean / truth - 1.0).abs() < 0.002, "{name}: {mean} {truth}");
        let ttft = |index: usize| runs[index].figures.get("ttft_p99_ms").expect("a latency");
        assert!((ttft(0) - ttft(1)).abs() > 1e-6, "{name}");
    }
}

#[test]
fn under_one_seed_candidates_share_a_part_of_their_noise() {
    let problem = named("static7");
    let best = best_of(problem.as_ref());
    let other = best.with(problem.space(), 0, blis_opt::search::KnobValue::Int(20));
    let logs = |candidate: &Candidate| -> Vec<f64> {
        let runs = runs(problem.as_ref(), candidate, 0..2000);
        let logs = runs.iter().map(|run| run.figures.get("ttft_p99_ms").expect("a latency").ln());
        let logs: Vec<f64> = logs.collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        logs.into_iter().map(|value| value - mean).collect()
    };
    let (left, right) = (logs(&best), logs(&other));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let correlation =
        product(&left, &right) / (product(&left, &left) * product(&right, &right)).sqrt();
    assert!((0.5..0.7).contains(&correlation), "{correlation}");
}

#[test]
fn the_stored_tables_are_what_the_simulator_says_today() {
    for name in SWEPT {
        let (swept, simulated) = (Swept::open(name), Simulated::open(name));
        let all: Vec<Candidate> = every_candidate(swept.space()).collect();
        assert!(all.len() >= 2000, "{name}");
        let lines = stored_lines(name);
        assert_eq!(lines.len(), all.len(), "sweep `{name}` again");
        for at in (0..all.len()).step_by(all.len() / 5) {
            let today = write_row(&simulated.runs(&all[at], &TRUTH_SEEDS.collect::<Vec<_>>()));
            assert_eq!(lines[at], today, "sweep `{name}` again");
            assert!(swept.truth(&all[at]).cost > 0.0);
        }
    }
}
