//! Budgets end a search, and a study does no more than its plan says.

use std::sync::atomic::Ordering;

use blis_opt::search::{Mode, ProposerKind, SearchEnd, StudyPlan, StudyState};

use crate::place::Place;
use crate::synthetic::{self, Folder, REQUESTS, SPACE, Synthetic, serving, space};

/// A finished study of `text`, with all runs that it did.
fn studied(text: &str, proposer: ProposerKind) -> (StudyState, u64) {
    let (folder, space) = (Folder::new(), space(text));
    let evaluator = Synthetic::new(&space, serving);
    let (_, state) = synthetic::run(&folder, &space, (Mode::New, proposer), &evaluator);
    (state, evaluator.evaluated.load(Ordering::Relaxed) as u64)
}

fn with_budget(budget: &str) -> String {
    SPACE.replace("budget: {evaluations: 40}", &format!("budget: {{{budget}}}"))
}

#[test]
fn spent_requests_end_the_search() {
    let most = 50 * REQUESTS;
    let text = with_budget(&format!("evaluations: 40, requests: {most}"));
    let (state, _) = studied(&text, ProposerKind::Random);
    assert_eq!(state.searched, Some(SearchEnd::Requests));
    // It is looked at between batches of four candidates with three seeds each.
    assert!((50..62).contains(&state.search_runs()), "{}", state.search_runs());
    assert!(state.finished && !state.verifications.is_empty());
}

#[test]
fn a_search_that_expects_little_more_stops_early_and_finds_as_much() {
    let (whole, _) = studied(&SPACE, ProposerKind::Gp);
    let (early, _) = studied(&with_budget("evaluations: 40, gain: 0.005"), ProposerKind::Gp);
    assert_eq!(early.searched, Some(SearchEnd::Gain));
    assert!(early.search_runs() < whole.search_runs(), "{}", early.search_runs());
    let cost = |state: &StudyState| {
        state.trials[state.winner.expect("a winner")].score.objective.expect("a cost")
    };
    assert!(cost(&early) <= cost(&whole) * 1.005, "{} {}", cost(&early), cost(&whole));
}

#[test]
fn no_study_does_more_runs_than_its_plan_says() {
    let budgets = [
        "evaluations: 40",
        "evaluations: 7, certificate: 0, frontier: 0",
        "evaluations: 13, certificate: 3, frontier: 100",
        "evaluations: 30, certificate: 200",
    ];
    for budget in budgets {
        for (seek, seeds) in [("optimum", "3"), ("frontier", "2")] {
            let text = with_budget(budget)
                .replace(
                    "minimize: cost_per_hour",
                    &format!("minimize: cost_per_hour\n  seek: {seek}"),
                )
                .replace("search: 3", &format!("search: {seeds}"));
            let plan = StudyPlan::of(&space(&text), REQUESTS);
            let (state, runs) = studied(&text, ProposerKind::Gp);
            let searched = state.search_runs() as u64;
            // What is left is less than an evaluation.
            assert!((plan.search - 2..=plan.search).contains(&searched), "{budget}: {searched}");
            let beside = &state.trials[state.search_trials().len()..];
            let beside: usize = beside.iter().map(|trial| trial.runs.len()).sum();
            assert!(beside as u64 <= plan.certificate, "{budget}, {seek}: {beside}");
            let met = |is: fn(u32) -> bool| {
                state.verifications.iter().filter(|met| is(met.round)).count() as u64
            };
            assert!(met(|round| round == 0) <= plan.finalists, "{budget}, {seek}");
            assert!(met(|round| round > 0) <= plan.challengers, "{budget}, {seek}");
            assert!(state.retested().count() as u64 <= plan.frontier.unwrap_or(u64::MAX));
            let fresh = state.verifications.iter().chain(&state.retests);
            assert!(fresh.clone().all(|met| met.runs.len() as u64 <= plan.fresh.1), "{budget}");
            assert!(fresh.count() > 0, "{budget}, {seek}: nobody met fresh seeds");
            assert!(runs <= plan.most(), "{budget}, {seek}: {runs} of {}", plan.most());
            assert!(runs > 0 && plan.usual() <= plan.most());
        }
    }
}

#[test]
fn the_plan_is_said_before_the_search_unless_nobody_wants_to_hear() {
    let place = Place::new();
    let text = with_budget("evaluations: 4, wall: 2h, requests: 1e6, gain: 0.01, certificate: 0");
    place.write("small.yaml", &text);
    let search = |more: &str| place.run(&format!("search small.yaml --overwrite {more}"));
    let said = search("").talk;
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("  search ")).collect();
    let expected = "  search       4 evaluations of 3 seeds (12 runs of about 10 requests), \
                    or until 2 h 00 min have passed, or 1,000,000 requests were simulated, \
                    or one more is expected to gain less than 1.00 %";
    assert_eq!(lines, [expected]);
    assert!(!search("-q").talk.contains("PLAN"));
    let said = search("--proposer random").expect(1).talk;
    assert!(said.contains("`random` expects no gain"), "{said}");
}

#[test]
fn a_gain_without_an_objective_is_refused() {
    let text = with_budget("evaluations: 4, gain: 0.01")
        .replace("minimize: cost_per_hour", "minimize: cost_per_hour\n  seek: frontier");
    let mut problems = blis_opt::config::Problems::new();
    let none = |_: &str| Err("no file".to_owned());
    let defaults = blis_opt::config::Defaults::embedded();
    let _ = blis_opt::search::read_space(("s.yaml", &text), defaults, &none, &mut problems);
    assert!(problems.render(false).contains("`gain` is about the objective"));
}
