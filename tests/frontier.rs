//! The frontier of a study keeps its word: what is shown on it was tested on fresh seeds.

use blis_opt::search::{
    Candidate, Evaluator, Figures, Job, Mode, NoObserver, Observer, ParetoPoint, Phase, Progress,
    ProposerKind, Retest, Run, SearchSpace, Sink, Stop, StudyState,
};

use crate::synthetic::{self, Folder, LIMIT, Middle, Noisy, fleet, line_ends};

/// More instances answer faster; below twelve the mean breaks the promise of 500 ms, and many a
/// candidate just below looks as if it did not.
fn serving(instances: f64, limit: f64, _: bool) -> (f64, f64) {
    let capacity = instances * (limit / 256.0).powf(0.05);
    (470.0 * (12.0 / capacity).powf(0.8), instances * 7.0)
}

fn space(goal: &str) -> SearchSpace {
    synthetic::space(&[&fleet(14, 32), LIMIT, goal].concat())
}

fn goal(seek: &str, budget: &str) -> String {
    format!(
        "objective: {{minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500], seek: {seek}}}\n\
         seeds: {{search: 2, verify: 8}}\nbudget: {{{budget}}}\n"
    )
}

fn run(
    folder: &Folder,
    mode: Mode,
    evaluator: &Noisy<'_>,
    observer: &mut dyn Observer,
) -> StudyState {
    let how = (mode, ProposerKind::Random);
    synthetic::run_watched(folder, evaluator.space, how, (evaluator, observer)).1
}

fn noisy(space: &SearchSpace) -> Noisy<'_> {
    Noisy { space, middle: serving, noise: 0.3, cost_noise: 0.0 }
}

fn quiet(space: &SearchSpace) -> Noisy<'_> {
    Noisy { noise: 0.05, ..noisy(space) }
}

fn on_frontier(state: &StudyState, space: &SearchSpace) -> Vec<ParetoPoint> {
    state.pareto(space).into_iter().filter(ParetoPoint::is_on_frontier).collect()
}

/// Whether the mean of a candidate's TTFT keeps the promise in truth.
fn keeps(evaluator: &Noisy<'_>, state: &StudyState, trial: usize) -> bool {
    let (middle, _) = evaluator.middle(&state.trials[trial].candidate);
    middle * (0.5 * evaluator.noise * evaluator.noise).exp() <= 500.0
}

#[test]
fn a_point_that_only_looks_feasible_is_found_out() {
    let space = space(&goal("frontier", "evaluations: 60"));
    let (folder, evaluator) = (Folder::new(), noisy(&space));
    let state = run(&folder, Mode::New, &evaluator, &mut NoObserver);
    let points = state.pareto(&space);
    let fallen: Vec<_> = points.iter().filter(|p| p.retest == Retest::Fallen).collect();
    assert!(fallen.iter().any(|point| !keeps(&evaluator, &state, point.trial)), "{points:#?}");
    assert!(fallen.iter().all(|point| !point.feasible && !point.is_on_frontier()));
    let front = on_frontier(&state, &space);
    assert!(front.len() >= 3, "{front:#?}");
    for point in &front {
        assert_eq!(point.retest, Retest::Kept, "with `seek: frontier` every point is tested");
        assert!(keeps(&evaluator, &state, point.trial), "{point:?}");
        assert!(point.fresh_seeds >= 8 && point.intervals.len() == 2);
    }
    let steps = front
        .windows(2)
        .all(|pair| pair[0].values[0] < pair[1].values[0] && pair[0].values[1] > pair[1].values[1]);
    assert!(steps, "no point beats another on fresh seeds: {front:#?}");
}

#[test]
fn hardly_a_study_shows_a_point_that_does_not_keep_its_promises() {
    // The expected value of every candidate is just outside, whatever it costs.
    let middle: Middle = |instances, _, _| (500.5 / (0.5_f64 * 0.3 * 0.3).exp(), 7.0 * instances);
    let (studies, mut points_tested) = (150, 0);
    let falsely = (0..studies).filter(|&study| {
        // More than may be finalists, which are not tested again.
        let mut space = space(&goal("frontier", "evaluations: 48, certificate: 4"));
        space.seeds.base = 100_000 * (study + 1);
        space.pareto.reverse();
        let (folder, evaluator) = (Folder::new(), Noisy { middle, ..noisy(&space) });
        let state = run(&folder, Mode::New, &evaluator, &mut NoObserver);
        let points = state.pareto(&space);
        let tested: Vec<usize> = state.retested().collect();
        points_tested += tested.len();
        points.iter().any(|p| tested.contains(&p.trial) && p.retest == Retest::Kept)
    });
    // 5 % of 150 are 7.5; three standard deviations more are 15.
    let falsely = falsely.count();
    assert!(falsely <= 15, "{falsely} of {studies} studies show a false point");
    assert!(points_tested > 2 * 150, "{points_tested} points were tested");
}

#[test]
fn the_bound_is_kept_and_what_it_leaves_untested_is_marked() {
    for (bound, text) in [(3, ", frontier: 3"), (0, ", frontier: 0"), (6, "")] {
        let space = space(&goal("optimum", &format!("evaluations: 60{text}")));
        let (folder, evaluator) = (Folder::new(), noisy(&space));
        let state = run(&folder, Mode::New, &evaluator, &mut NoObserver);
        assert!(state.retested().count() <= bound);
        let met: Vec<usize> = state.met().iter().map(|met| met.trial).collect();
        for point in on_frontier(&state, &space) {
            assert_eq!(point.retest == Retest::Untested, !met.contains(&point.trial));
            assert_eq!(point.intervals.is_empty(), point.retest == Retest::Untested);
        }
    }
    assert_eq!(space(&goal("frontier", "evaluations: 60")).proof.frontier, None);
}

#[test]
fn the_winner_and_the_finalists_are_not_simulated_again() {
    let space = space(&goal("optimum", "evaluations: 60"));
    let (folder, evaluator) = (Folder::new(), quiet(&space));
    let state = run(&folder, Mode::New, &evaluator, &mut NoObserver);
    let winner = state.winner.expect("twelve instances and more do");
    assert!(state.retested().all(|trial| state.verifications.iter().all(|met| met.trial != trial)));
    let points = state.pareto(&space);
    let point = points.iter().find(|point| point.trial == winner).expect("a point");
    let fresh = state.winning().expect("a meeting").score.constraints[0].mean;
    assert_eq!(Some(point.values[0]), fresh);
    // All candidates of the search meet the same fresh seeds: they differ by what they are.
    let seeds: Vec<Vec<u64>> = state
        .retests
        .iter()
        .filter(|met| met.trial < state.search_trials().len())
        .map(|met| met.runs.iter().take(8).map(|run| run.seed).collect())
        .collect();
    assert!(!seeds.is_empty() && seeds.iter().all(|own| *own == space.seeds.of_verification()));
}

#[test]
fn cut_anywhere_in_the_re_test_a_study_ends_in_the_same_bytes() {
    let text = goal("frontier", "evaluations: 16, certificate: 2") + "batch: 3\n";
    let space = space(&text.replace("verify: 8", "verify: 3, verify_max: 12"));
    let (whole, evaluator) = (Folder::new(), quiet(&space));
    let state = run(&whole, Mode::New, &evaluator, &mut NoObserver);
    assert!(state.retests.len() > 2 && state.winner.is_some());
    let looks = state.retests.iter().map(|met| met.runs.len());
    assert!(looks.clone().max() > looks.min(), "some were looked at again");
    let bytes = whole.journal();
    let text = String::from_utf8(bytes.clone()).expect("text");
    let first = text.find("\"kind\":\"frontier\"").expect("a wave");
    let again = StudyState::read(&space, &whole.path()).expect("readable");
    assert_eq!(again, state);
    for cut in (0..first).step_by(997).chain((first..bytes.len()).step_by(61)).chain(
        // Every line's end, too.
        line_ends(&bytes).flat_map(|end| [end - 1, end]),
    ) {
        let folder = Folder::with_journal(&bytes[..cut]);
        run(&folder, Mode::Resume, &evaluator, &mut NoObserver);
        assert!(folder.journal() == bytes, "cut at byte {cut} of {}", bytes.len());
    }
}

/// Counts what it is told about the frontier.
#[derive(Default)]
struct Told {
    last: (usize, usize),
    times: usize,
}

impl Observer for Told {
    fn progress(&mut self, progress: &Progress<'_>) {
        if progress.phase == Phase::Frontier {
            assert!(progress.done <= progress.total);
            self.last = (progress.done, progress.total);
            self.times += 1;
        }
    }
}

#[test]
fn one_thread_and_two_write_the_same_bytes_and_tell_how_far_they_are() {
    let space = space(&goal("frontier", "evaluations: 30"));
    let journals = [1, 2].map(|threads| {
        let (folder, evaluator) = (Folder::new(), noisy(&space));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let mut told = Told::default();
        let state = pool.install(|| run(&folder, Mode::New, &evaluator, &mut told));
        let all = state.retested().count();
        assert!(told.last == (all, all) && told.times >= all && all > 0);
        folder.journal()
    });
    assert!(journals[0] == journals[1]);
}

#[test]
fn three_axes_are_tested_like_two() {
    let text = goal("frontier", "evaluations: 40");
    let space = space(&format!("{text}pareto: [ttft_p99_ms, tpot_p99_ms, cost_per_hour]\n"));
    let (folder, evaluator) = (Folder::new(), noisy(&space));
    let state = run(&folder, Mode::New, &evaluator, &mut NoObserver);
    let front = on_frontier(&state, &space);
    assert!(front.len() >= 3);
    for point in &front {
        assert!(point.retest == Retest::Kept && point.intervals.len() == 3);
        assert!(keeps(&evaluator, &state, point.trial), "{point:?}");
    }
}

const WIDE: &str = "
template:
  pools: {h100: {model: meta-llama/llama-3.1-8b-instruct, gpu: H100, instances: 14}}
  routing:
    policy: weighted
    scorers: [{name: queue-depth, weight: 2}, {name: kv-utilization, weight: 2}]
  batching: {max_running_requests: 128, max_scheduled_tokens: 2048}
  signals: {metrics_fetch_interval: 1s}
  scheduler: fcfs
workload: {rate: 500, num_requests: 10}
knobs:
  pools.h100.instances: {int: [4, 200]}
  batching.max_running_requests: {int: [32, 256]}
  batching.max_scheduled_tokens: {int: [512, 8192], log: true}
  signals.metrics_fetch_interval: {span: [10ms, 2s]}
  routing.scorers.queue-depth.weight: {float: [0.1, 10], log: true}
  scheduler: {choice: [fcfs, sjf]}
objective: {minimize: cost_per_hour, subject_to: [e2e_p99_ms <= 1200], seek: frontier}
pareto: [ttft_p99_ms, tpot_p99_ms, cost_per_hour]
seeds: {search: 1}
budget: {evaluations: 60, certificate: 0, frontier: 0}
";

/// Three figures that pull against each other, without noise: on a sphere where the other knobs are
/// right, outside of it where they are not.
struct Sphere<'a>(&'a SearchSpace);

impl Sphere<'_> {
    fn figures(&self, candidate: &Candidate) -> [f64; 4] {
        let at = blis_opt::search::cube::encode(self.0, candidate);
        let wrong: f64 = at[2..5].iter().map(|x| (x - 0.6) * (x - 0.6)).sum();
        let scheduler = if at.last().is_some_and(|x| *x > 0.5) { 0.0 } else { 0.1 };
        let radius = 1.0 + 2.0 * wrong + scheduler;
        let [up, round] = [at[0], at[1]].map(|x| x * std::f64::consts::FRAC_PI_2);
        let [x, y, z] =
            [up.cos() * round.cos(), up.cos() * round.sin(), up.sin()].map(|x| radius * x);
        [100.0 * (0.2 + x), 100.0 * (0.2 + y), 100.0 * (0.2 + z), 1000.0 * (0.2 + x * y * z)]
    }
}

impl Evaluator for Sphere<'_> {
    fn version(&self) -> u64 {
        7
    }

    fn evaluate(&self, jobs: &[Job], _: Stop<'_>, done: Sink<'_>) {
        for (index, job) in jobs.iter().enumerate() {
            let mut figures = Figures::default();
            let names = ["ttft_p99_ms", "tpot_p99_ms", "cost_per_hour", "e2e_p99_ms"];
            for (name, value) in names.into_iter().zip(self.figures(&job.candidate)) {
                figures.set(name, value);
            }
            done(index, Run::new(job.seed, true, figures));
        }
    }
}

/// The share of the box from the origin to 150 in each figure that a search takes.
fn volume_of(space: &SearchSpace, proposer: ProposerKind) -> f64 {
    let (folder, evaluator) = (Folder::new(), Sphere(space));
    let (_, state) = synthetic::run(&folder, space, (Mode::New, proposer), &evaluator);
    let front = on_frontier(&state, space).into_iter();
    let places = front.map(|point| point.values.iter().map(|value| value / 150.0).collect());
    blis_opt::search::pareto::hypervolume(&places.collect::<Vec<_>>())
}

#[test]
fn of_three_axes_the_default_search_takes_more_than_chance_and_a_grid_do() {
    let seeds = 4;
    let mut medians = Vec::new();
    for proposer in [ProposerKind::Gp, ProposerKind::Random, ProposerKind::Sobol] {
        let mut volumes: Vec<f64> = (0..seeds)
            .map(|seed| {
                let mut space = synthetic::space(WIDE);
                space.seeds.base = 1000 * (seed + 1);
                volume_of(&space, proposer)
            })
            .collect();
        volumes.sort_by(f64::total_cmp);
        medians.push(volumes[volumes.len() / 2]);
    }
    assert!(medians[0] > medians[1] + 0.02 && medians[0] > medians[2] + 0.02, "{medians:?}");
}
