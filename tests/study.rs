//! Studies over an evaluator whose truth is known: optimum, journal, resume, threads.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use blis_opt::base::Span;
use blis_opt::config::{Defaults, Problems};
use blis_opt::search::journal;
use blis_opt::search::{
    Candidate, Evaluator, Job, Limits, Mode, NoObserver, Observer, Progress, ProposerKind,
    SearchEnd, SearchSpace, Sink, SpaceFile, Stop, Study, StudyEnd, StudyError, StudyState,
    read_space,
};

use crate::synthetic::{
    self, Folder, SPACE, Synthetic, Truth, VERSION, file, limits, line_ends, serving, space,
};

/// Runs a study to its end and gives it with its end.
fn run(
    folder: &Folder,
    space: &SearchSpace,
    mode: Mode,
    proposer: ProposerKind,
    truth: Truth,
) -> (StudyEnd, StudyState) {
    synthetic::run(folder, space, (mode, proposer), &Synthetic::new(space, truth))
}

fn label(space: &SearchSpace, candidate: &Candidate, path: &str) -> String {
    let labels = candidate.labels(space);
    labels.into_iter().find(|(name, _)| name == path).expect("an active knob").1
}

#[test]
fn every_proposer_finds_the_known_optimum() {
    let space = space(&SPACE);
    for (name, proposer) in ProposerKind::ALL {
        let folder = Folder::new();
        let (end, state) = run(&folder, &space, Mode::New, proposer, serving);
        let StudyEnd::Found { trial } = end else { panic!("{name} found nothing") };
        let winner = &state.trials[trial].candidate;
        assert_eq!(label(&space, winner, "pools.h100.instances"), "12", "{name}");
        assert_eq!(label(&space, winner, "routing.policy"), "least-loaded", "{name}");
        assert!(state.winning().expect("verified").score.feasible);
    }
}

#[test]
fn the_boundary_below_the_winner_was_tried() {
    let folder = Folder::new();
    let space = space(&SPACE);
    let (end, state) = run(&folder, &space, Mode::New, ProposerKind::Ego, serving);
    let StudyEnd::Found { trial } = end else { panic!("found nothing") };
    let mut fewer = state.trials[trial].candidate.to_json(&space);
    fewer["pools.h100.instances"] = 11.into();
    let fewer = Candidate::from_json(&space, &fewer).expect("a neighbour");
    let tried = state.trials.iter().find(|trial| trial.candidate == fewer);
    assert!(tried.is_some_and(|trial| !trial.score.feasible));
}

/// The search did all the runs that [`SPACE`] allows, but for less than an evaluation.
fn assert_whole_budget(state: &StudyState) {
    let runs = state.search_runs();
    assert!((3 * 40 - 2..=3 * 40).contains(&runs), "{runs}");
}

#[test]
fn no_candidate_is_simulated_twice() {
    let folder = Folder::new();
    let space = space(&SPACE);
    let (_, state) = run(&folder, &space, Mode::New, ProposerKind::Ego, serving);
    let mut hashes: Vec<u64> = state.trials.iter().map(|t| t.candidate.hash()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert!(hashes.len() == state.trials.len() && hashes.len() > 40);
    assert!(state.search_trials().len() < hashes.len());
    assert_whole_budget(&state);
    assert_eq!(state.searched, Some(SearchEnd::Evaluations));
}

#[test]
fn one_thread_and_two_write_the_same_bytes() {
    let space = space(&SPACE);
    let journals = [1, 2].map(|threads| {
        let folder = Folder::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| run(&folder, &space, Mode::New, ProposerKind::Ego, serving));
        folder.journal()
    });
    assert!(journals[0] == journals[1]);
}

fn small(evaluations: u32) -> SearchSpace {
    let text = SPACE
        .replace(
            "{evaluations: 40}",
            &format!("{{evaluations: {evaluations}, certificate: 2}}\nbatch: 3"),
        )
        .replace("search: 3, verify: 5", "search: 1, verify: 2");
    space(&text)
}

#[test]
fn cut_anywhere_and_resumed_a_journal_ends_in_the_same_bytes() {
    let space = small(4);
    let whole = Folder::new();
    run(&whole, &space, Mode::New, ProposerKind::Random, serving);
    let bytes = whole.journal();
    assert!(bytes.len() > 2000);
    for cut in 0..=bytes.len() {
        let folder = Folder::with_journal(&bytes[..cut]);
        run(&folder, &space, Mode::Resume, ProposerKind::Random, serving);
        assert!(folder.journal() == bytes, "cut at byte {cut} of {}", bytes.len());
    }
}

#[test]
fn a_search_with_surrogates_resumes_to_the_same_bytes_at_every_line() {
    let text = SPACE.replace("evaluations: 40", "evaluations: 20, certificate: 3");
    let space = space(&text);
    let whole = Folder::new();
    run(&whole, &space, Mode::New, ProposerKind::Ego, serving);
    let bytes = whole.journal();
    for end in line_ends(&bytes) {
        let folder = Folder::with_journal(&bytes[..(end + 40).min(bytes.len())]);
        run(&folder, &space, Mode::Resume, ProposerKind::Ego, serving);
        assert!(folder.journal() == bytes, "cut after byte {end}");
    }
}

/// Sets the stop flag after some evaluations.
struct StopAfter<'a> {
    left: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn progress(&mut self, _: &Progress<'_>) {
        self.left = self.left.saturating_sub(1);
        self.stop.store(self.left == 0, Ordering::Relaxed);
    }
}

#[test]
fn a_stopped_study_goes_on_to_the_same_bytes() {
    let space = small(9);
    let whole = Folder::new();
    run(&whole, &space, Mode::New, ProposerKind::Random, serving);
    for after in 1..=10 {
        let folder = Folder::new();
        let evaluator = Synthetic::new(&space, serving);
        let options = folder.options(Mode::New, ProposerKind::Random);
        let mut study = Study::open(space.clone(), &options, VERSION).expect("opened");
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { left: after, stop: &stop };
        let end = study.run(&evaluator, &mut observer, limits(&stop)).expect("no trouble");
        if after < 10 {
            assert_eq!(end, StudyEnd::Interrupted);
            assert!(study.state().trials.len() >= after.min(9));
        }
        drop(study);
        run(&folder, &space, Mode::Resume, ProposerKind::Random, serving);
        assert!(folder.journal() == whole.journal(), "stopped after {after}");
    }
}

#[test]
fn a_finished_study_is_not_simulated_again() {
    let (folder, space) = (Folder::new(), small(9));
    let first = run(&folder, &space, Mode::New, ProposerKind::Random, serving);
    let evaluator = Synthetic::new(&space, serving);
    let resume = (Mode::Resume, ProposerKind::Random);
    let (end, _) = synthetic::run(&folder, &space, resume, &evaluator);
    assert_eq!(end, first.0);
    assert_eq!(evaluator.evaluated.load(Ordering::Relaxed), 0);
    assert_eq!(StudyState::read(&space, &folder.path()).expect("readable"), first.1);
}

#[test]
fn damage_in_the_middle_is_refused_by_line_and_the_journal_is_left_alone() {
    let (folder, space) = (Folder::new(), small(9));
    run(&folder, &space, Mode::New, ProposerKind::Random, serving);
    let mut bytes = folder.journal();
    let second = bytes.iter().position(|&byte| byte == b'\n').expect("lines") + 60;
    bytes[second] ^= 1;
    let path = folder.path().join("journal.jsonl");
    std::fs::write(&path, &bytes).expect("written");
    let options = folder.options(Mode::Resume, ProposerKind::Random);
    let error = Study::open(space, &options, VERSION).expect_err("damaged");
    assert!(matches!(error, StudyError::Corrupt { line: 2, .. }), "{error}");
    assert!(folder.journal() == bytes);
}

#[test]
fn a_folder_is_never_overwritten_by_accident() {
    let (folder, space) = (Folder::new(), small(9));
    run(&folder, &space, Mode::New, ProposerKind::Random, serving);
    let open = |mode, proposer, version, space: &SearchSpace| {
        Study::open(space.clone(), &folder.options(mode, proposer), version).map(drop)
    };
    let random = ProposerKind::Random;
    let exists = open(Mode::New, random, 7, &space).expect_err("exists");
    assert!(matches!(exists, StudyError::Exists { .. }));
    assert!(exists.hint().is_some_and(|hint| hint.contains("--resume")));
    let refused = |error: Result<(), StudyError>| match error {
        Err(StudyError::Different { what, .. }) => what,
        other => panic!("not refused: {other:?}"),
    };
    assert!(refused(open(Mode::Resume, ProposerKind::Sobol, 7, &space)).contains("proposer"));
    assert!(refused(open(Mode::Resume, random, 8, &space)).contains("defaults"));
    let mut other = space.clone();
    other.budget.evaluations = 10;
    assert!(refused(open(Mode::Resume, random, 7, &other)).contains("budget"));
    other = space.clone();
    other.seeds.base = 1;
    assert_eq!(refused(open(Mode::Resume, random, 7, &other)), "seed 42 instead of 1");
    open(Mode::Overwrite, random, 8, &space).expect("overwritten");
    assert_eq!(StudyState::read(&space, &folder.path()).expect("readable").trials.len(), 0);
}

#[test]
fn the_second_process_on_a_study_is_refused() {
    let (folder, space) = (Folder::new(), small(9));
    let open = || {
        let options = folder.options(Mode::Resume, ProposerKind::Random);
        Study::open(space.clone(), &options, VERSION)
    };
    let first = open().expect("opened");
    let error = open().expect_err("locked");
    assert!(matches!(error, StudyError::Locked { .. }), "{error}");
    drop(first);
    open().expect("free again");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_value() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "in the way").expect("written");
    let options = folder.options(Mode::New, ProposerKind::Random);
    let error = Study::open(small(9), &options, VERSION).expect_err("a file is no folder");
    assert!(matches!(error, StudyError::Io { .. }), "{error}");
}

#[test]
fn where_nothing_holds_the_study_says_so() {
    let overloaded: Truth = |instances, _, _| Some((1e5 / instances, instances * 7.0, false));
    let (folder, space) = (Folder::new(), space(&SPACE));
    let (end, state) = run(&folder, &space, Mode::New, ProposerKind::Ego, overloaded);
    assert_eq!(end, StudyEnd::NoFeasible);
    // Each was dropped after one of three seeds.
    assert_eq!(state.trials.len(), state.search_runs());
    assert_whole_budget(&state);
    assert!(state.trials.iter().all(|trial| trial.dropped.is_some()));
    assert!(state.verifications.is_empty() && state.finished);
    assert!(state.pareto(&space).is_empty());
}

#[test]
fn constants_missing_figures_and_failures_are_results() {
    let constant: Truth = |_, _, _| Some((100.0, 5.0, true));
    let missing: Truth = |instances, _, _| {
        let ttft = if instances > 30.0 { f64::NAN } else { 100.0 };
        Some((ttft, instances * 7.0, true))
    };
    let failing: Truth = |instances, limit, well| {
        if limit > 128.0 { None } else { serving(instances, limit, well) }
    };
    for truth in [constant, missing, failing] {
        let (folder, space) = (Folder::new(), space(&SPACE));
        let (end, state) = run(&folder, &space, Mode::New, ProposerKind::Ego, truth);
        let StudyEnd::Found { trial } = end else { panic!("found nothing") };
        assert!(state.trials[trial].failed().is_none());
        assert_whole_budget(&state);
    }
}

/// Good on the search's seeds, bad on all others, with 16 instances.
struct Flattering<'a>(Synthetic<'a>);

impl Evaluator for Flattering<'_> {
    fn version(&self) -> u64 {
        7
    }

    fn evaluate(&self, jobs: &[Job], _: Stop<'_>, done: Sink<'_>) {
        for (index, job) in jobs.iter().enumerate() {
            let mut run = self.0.run(job);
            let searched = self.0.space.seeds.of_search().contains(&job.seed);
            let few = run.figures.get("cost_per_hour").is_some_and(|cost| cost < 16.5 * 7.0);
            if !searched && few {
                run.figures.set("ttft_p99_ms", 600.0);
            }
            done(index, run);
        }
    }
}

#[test]
fn a_winner_that_fails_on_fresh_seeds_gives_way_to_the_next_best() {
    let text = SPACE.replace("int: [4, 64]", "int: [16, 24]");
    let (folder, space) = (Folder::new(), space(&text));
    let evaluator = Flattering(Synthetic::new(&space, |i, _, _| Some((100.0, i * 7.0, true))));
    let new = (Mode::New, ProposerKind::Sobol);
    let (end, state) = synthetic::run(&folder, &space, new, &evaluator);
    let first = &state.verifications[0].score;
    assert!(!first.feasible && first.constraints[0].mean > Some(500.0));
    let StudyEnd::Found { trial } = end else { panic!("17 instances are good") };
    assert_eq!(state.trials[trial].candidate.number(0), Some(17.0));
}

#[test]
fn spent_wall_time_ends_the_search_and_still_tests_the_best() {
    let text = SPACE.replace("{evaluations: 40}", "{evaluations: 40, wall: 10s}");
    let (folder, space) = (Folder::new(), space(&text));
    let evaluator = Synthetic::new(&space, serving);
    let options = folder.options(Mode::New, ProposerKind::Random);
    let mut study = Study::open(space.clone(), &options, VERSION).expect("opened");
    let stop = AtomicBool::new(false);
    let evaluated = &evaluator.evaluated;
    let elapsed = || Span::from_secs(evaluated.load(Ordering::Relaxed) as f64 / 4.0);
    let limits = Limits { workers: None, stop: &stop, elapsed: &elapsed };
    study.run(&evaluator, &mut NoObserver, limits).expect("no trouble");
    let state = study.state();
    assert_eq!(state.searched, Some(SearchEnd::Wall));
    assert!((40..56).contains(&state.search_runs()), "{}", state.search_runs());
    assert!(state.finished && !state.verifications.is_empty());
}

#[test]
fn a_space_smaller_than_its_budget_is_searched_whole() {
    let text = SPACE
        .replace("int: [4, 64]", "int: [4, 20]")
        .replace("  batching.max_running_requests: {int: [32, 256]}\n", "");
    let (folder, space) = (Folder::new(), space(&text));
    let (_, state) = run(&folder, &space, Mode::New, ProposerKind::Ego, serving);
    assert_eq!((state.searched, state.trials.len()), (Some(SearchEnd::Exhausted), 34));
}

#[test]
fn the_journal_alone_tells_what_the_study_was_about() {
    let file = file(&SPACE);
    let folder = Folder::new();
    let mut options = folder.options(Mode::New, ProposerKind::Random);
    options.sources.clone_from(&file.sources);
    drop(Study::open(file.space.clone(), &options, VERSION).expect("opened"));
    let entries = journal::read_file(&folder.path().join("journal.jsonl")).expect("readable");
    let journal::Entry::Header(header) = &entries[0] else { panic!("a header comes first") };
    let mut problems = Problems::new();
    let again = SpaceFile::from_sources(&header.sources, Defaults::embedded(), &mut problems);
    assert_eq!(again.expect("the same space").space, file.space);
}

/// Reads a file of the repository.
fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).expect("a file of the repository")
}

fn sample(path: &str) -> SpaceFile {
    let mut problems = Problems::new();
    let none = |_: &str| Err("no file".to_owned());
    let text = repository(path);
    let read = read_space((path, &text), Defaults::embedded(), &none, &mut problems);
    assert!(problems.is_empty(), "{:#?}", problems.list());
    read.expect("a sample is right")
}

#[test]
fn evenly_spaced_arrivals_need_thirteen_instances() {
    let file = sample("search-spaces/500rps-even.yaml");
    let evaluator = file.evaluator(Defaults::embedded());
    let folder = Folder::new();
    let new = (Mode::New, ProposerKind::Ego);
    let (end, state) = synthetic::run(&folder, &file.space, new, &evaluator);
    let mut tried = String::new();
    for trial in &state.trials {
        let ttft = trial.mean("ttft_p99_ms");
        let stable = trial.score.stable;
        writeln!(tried, "{:?} {ttft:?} {stable}", trial.candidate.number(0)).expect("a string");
    }
    let StudyEnd::Found { trial } = end else { panic!("found nothing:\n{tried}") };
    assert_eq!(state.trials[trial].candidate.number(0), Some(13.0), "{tried}");
    let twelve = state.trials.iter().find(|trial| trial.candidate.number(0) == Some(12.0));
    assert!(twelve.is_some_and(|trial| !trial.score.feasible), "{tried}");
}

#[test]
fn the_sample_spaces_are_right_and_their_templates_are_candidates() {
    for path in ["search-spaces/500rps.yaml", "search-spaces/500rps-even.yaml"] {
        assert!(sample(path).space.start().is_some(), "{path}");
    }
    let space = sample("search-spaces/500rps.yaml").space;
    assert_eq!(space.scale_groups, [[2, 3, 4]]);
}
