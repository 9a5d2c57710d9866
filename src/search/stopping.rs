//! Runs of the search that are stopped, since their candidate cannot become feasible.
//!
//! A promise about an expected value is judged by the mean over the seeds that a candidate met,
//! `k` of them at most. Of a latency at most `L` none of the others can be below zero: one run
//! above `k L` puts the mean above `L`, whichever runs there are beside it. Of a share at least
//! `1 - m` none of the others can be above one: one run that misses more than `k m` puts the mean
//! below. Promises about a share of runs are estimated with a spread that one worse run may
//! change either way: they stop nothing.
//!
//! A run is stopped only where what the objective comes to is known without it, so that a
//! surrogate learns the objective of every candidate, and where the optimum is sought: a frontier
//! asks what the hopeless figures are. Fresh seeds are met to the end of every run: the figures
//! that they show stand in the evidence.

use super::candidate::six_digits;
use super::evaluate::Run;
use super::metric::Figures;
use super::objective::{Bound, Constraint};
use super::space::{SearchSpace, Seek};
use crate::base::{Hash128, Span};
use crate::sim::{Crossing, Latency, Line, Loss};

/// What stops runs of the search.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stopping {
    limits: Vec<Limit>,
    lines: Vec<Line>,
    /// The objective, which a stopped run has too.
    objective: String,
}

/// What a figure of one run must not be beyond.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    metric: String,
    bound: Bound,
    value: f64,
}

/// Distributions whose quantiles may be promised.
const LATENCIES: [(&str, Latency); 3] =
    [("ttft", Latency::Ttft), ("tpot", Latency::Tpot), ("e2e", Latency::E2e)];
/// Their quantiles.
const LEVELS: [(&str, f64); 4] =
    [("_p50_ms", 0.5), ("_p90_ms", 0.9), ("_p95_ms", 0.95), ("_p99_ms", 0.99)];

impl Stopping {
    /// What the promises of `space` allow to stop, where requests have these `classes`.
    pub fn new(space: &SearchSpace, classes: &[String]) -> Self {
        let mut stopping =
            Self { objective: space.objective.metric.as_str().to_owned(), ..Self::default() };
        if space.seek == Seek::Optimum {
            for constraint in &space.constraints {
                if let Some((limit, line)) = limit(constraint, space.seeds.search, classes) {
                    stopping.limits.push(limit);
                    stopping.lines.push(line);
                }
            }
        }
        stopping
    }

    /// Whether nothing is ever stopped.
    pub fn is_idle(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that a run must not cross.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether a run that was not stopped came to these figures for certain: they are within all
    /// limits, so that no line was crossed.
    pub fn clears(&self, figures: &Figures) -> bool {
        self.limits.iter().all(|limit| {
            figures.get(&limit.metric).is_some_and(|value| match limit.bound {
                Bound::AtMost => value <= limit.value,
                Bound::AtLeast => value >= limit.value,
            })
        })
    }

    /// What names a run that may be stopped, where `whole` names the same to its end.
    pub fn name(&self, whole: u128) -> u128 {
        Hash128::of(format!("{whole:032x} {:?} {:?}", self.limits, self.lines).as_bytes())
    }

    /// The run under `seed` that line `line` stopped after a share of its requests, of a candidate
    /// with this objective.
    pub fn run(&self, seed: u64, (line, arrived): (usize, f64), objective: f64) -> Run {
        let Limit { metric, bound, value } = &self.limits[line];
        let side = if *bound == Bound::AtMost { "above" } else { "below" };
        let (limit, share) = (six_digits(*value), (arrived * 100.0).round());
        let why = format!("{metric} is {side} {limit} whatever comes, after {share} % of requests");
        let mut figures = Figures::default();
        figures.set(&self.objective, objective);
        figures.set(metric, limit);
        Run { stopped: Some(why), ..Run::new(seed, false, figures) }
    }
}

/// What `constraint` demands of one of `seeds` runs; `None` where one run decides nothing.
fn limit(constraint: &Constraint, seeds: u32, classes: &[String]) -> Option<(Limit, Line)> {
    let (metric, promised) = (constraint.metric.as_str(), constraint.limit);
    if constraint.share.is_some() || metric.contains('@') {
        return None;
    }
    let class = match metric.rsplit_once('.') {
        None => None,
        Some((name, _)) => Some(classes.iter().position(|class| class == name)? as u8),
    };
    let runs = f64::from(seeds);
    let missed = runs * (1.0 - promised);
    let (value, crossing) = match (constraint.metric.figure(), constraint.bound) {
        ("slo_attainment", Bound::AtLeast) if (0.0..1.0).contains(&missed) => {
            (1.0 - missed, Crossing::Share { of: Loss::OutsideTargets, above: missed })
        }
        ("completed_ratio", Bound::AtLeast) if (0.0..1.0).contains(&missed) => {
            (1.0 - missed, Crossing::Share { of: Loss::Unanswered, above: missed })
        }
        ("error_rate", Bound::AtMost) if promised >= 0.0 => {
            let above = runs * promised;
            (above, Crossing::Share { of: Loss::Unanswered, above })
        }
        // Below a millisecond a limit and what crosses it would differ by a rounding.
        (figure, Bound::AtMost) if promised >= 1.0 => {
            let (of, level) = quantile(figure)?;
            let above = Span::from_secs(runs * promised / 1e3);
            (above.as_secs() * 1e3, Crossing::Quantile { of, level, above })
        }
        _ => return None,
    };
    let limit = Limit { metric: metric.to_owned(), bound: constraint.bound, value };
    Some((limit, Line { class, crossing }))
}

fn quantile(figure: &str) -> Option<(Latency, f64)> {
    let pairs =
        LATENCIES.iter().flat_map(|latency| LEVELS.iter().map(move |level| (latency, level)));
    let named = pairs.into_iter().find(|((latency, _), (level, _))| {
        figure.strip_prefix(latency).is_some_and(|rest| rest == *level)
    });
    named.map(|((_, latency), (_, level))| (*latency, *level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Defaults, Problems};
    use crate::search::cache::RunCache;
    use crate::search::evaluate::{Evaluator, Job};
    use crate::search::promise::outward;
    use crate::search::read::{SpaceFile, read_space};
    use crate::search::score::Score;
    use crate::search::{Candidate, KnobValue};
    use std::sync::Mutex;

    const SPACE: &str = "\
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2}
  admission: {policy: always-admit, token_bucket_capacity: 9000, token_bucket_refill_rate: 9000}
workload: {rate: 60, prompt_tokens: 200, output_tokens: 200, slo: {default: {ttft: 300ms}}}
run: {duration: 40s, warm_up: 10s}
knobs:
  pools.default.instances: {int: [1, 4]}
  admission.policy: {choice: [always-admit, token-bucket]}
  batching.max_running_requests: {choice: [8, 64]}
objective: {minimize: cost_per_hour, subject_to: [PROMISE]}
seeds: {search: 2}
";

    fn file(promise: &str) -> SpaceFile {
        let text = SPACE.replace("PROMISE", promise);
        let text = text.replace("workload:", "  batching: {max_running_requests: 64}\nworkload:");
        let mut problems = Problems::new();
        let none = |_: &str| Err("there is no other file".to_owned());
        let file = read_space(("a.yaml", &text), Defaults::embedded(), &none, &mut problems);
        file.unwrap_or_else(|| panic!("{}", problems.render(false)))
    }

    fn candidates(space: &SearchSpace) -> Vec<Candidate> {
        let each = (0..16_i64).map(|at| {
            let [instances, admission, batch] = [at / 4 + 1, at / 2 % 2, at % 2];
            let choice = |index: i64| KnobValue::Choice(index as usize);
            let values = vec![KnobValue::Int(instances), choice(admission), choice(batch)];
            Candidate::canonical(space, values)
        });
        each.collect()
    }

    /// The runs of `candidate` under the seeds of the search.
    fn runs(evaluator: &dyn Evaluator, candidate: &Candidate, may_stop: bool) -> Vec<Run> {
        let job = |seed| Job { candidate: candidate.clone(), seed };
        let jobs = [job(42), job(43)];
        let told = Mutex::new(vec![None; jobs.len()]);
        let sink = |index: usize, run| told.lock().expect("no panic")[index] = Some(run);
        if may_stop {
            evaluator.screen(&jobs, &|| false, &sink);
        } else {
            evaluator.evaluate(&jobs, &|| false, &sink);
        }
        told.into_inner().expect("no panic").into_iter().flatten().collect()
    }

    #[test]
    fn who_is_stopped_is_infeasible_to_the_end_and_the_others_tell_the_same() {
        for promise in ["ttft_p99_ms <= 400", "e2e_p90_ms <= 6000", "slo_attainment >= 0.9"]
            .into_iter()
            .chain(["default.ttft_p50_ms <= 300", "completed_ratio >= 0.95", "error_rate <= 0.1"])
        {
            let file = file(promise);
            let evaluator = file.evaluator(Defaults::embedded());
            let constraint = &file.space.constraints[0];
            let figure = |run: &Run| run.figures.get(constraint.metric.as_str());
            let mut stopped = 0;
            for candidate in candidates(&file.space) {
                let whole = runs(&evaluator, &candidate, false);
                let screened = runs(&evaluator, &candidate, true);
                for (run, whole) in screened.iter().zip(&whole) {
                    if run.stopped.is_none() {
                        assert_eq!(run, whole, "{promise}");
                        continue;
                    }
                    stopped += 1;
                    let cost = |run: &Run| run.figures.get("cost_per_hour");
                    assert_eq!(cost(run), cost(whole), "{promise}");
                    assert!(!Score::of(&file.space, std::slice::from_ref(whole)).feasible);
                    let kept = Score::of(&file.space, &screened);
                    assert!(!kept.feasible && kept.stopped, "{promise}: {kept:?}");
                    let (told, came) = (figure(run).expect("a bound"), figure(whole));
                    assert!(outward(constraint, told) > 0.0, "{promise}: {told}");
                    let is_bound =
                        |came| outward(constraint, came) >= outward(constraint, told) - 1e-9;
                    assert!(came.is_none_or(is_bound), "{promise}: {told} for {came:?}");
                }
                if screened.iter().any(|run| run.stopped.is_some()) {
                    assert!(!Score::of(&file.space, &whole).feasible, "{promise}: {whole:?}");
                }
            }
            assert!((2..32).contains(&stopped), "{promise}: {stopped} of 32 were stopped");
        }
    }

    #[test]
    fn a_cache_of_whole_or_of_stopped_runs_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = RunCache::of(folder.path(), 1);
        let all = |file: &SpaceFile, cache: Option<&RunCache>, may_stop: bool| -> Vec<Run> {
            let evaluator = file.evaluator(Defaults::embedded()).with_cache(cache);
            let each = candidates(&file.space);
            each.iter().flat_map(|candidate| runs(&evaluator, candidate, may_stop)).collect()
        };
        // Who keeps the second one waits long enough to be stopped by the first one.
        for promises in [
            ["ttft_p99_ms <= 200", "ttft_p99_ms <= 900"],
            ["e2e_p90_ms <= 500", "e2e_p90_ms <= 6000"],
        ] {
            let [strict, loose] = promises.map(file);
            let before = cache.found();
            for file in [&strict, &loose, &strict] {
                assert_eq!(all(file, Some(&cache), true), all(file, None, true));
            }
            let found = cache.found() - before;
            assert!(found >= 32, "{found} were known");
            assert_eq!(all(&loose, Some(&cache), false), all(&loose, None, false));
            for file in [&strict, &loose] {
                assert_eq!(all(file, Some(&cache), true), all(file, None, true));
            }
        }
    }

    #[test]
    fn one_run_has_to_be_worse_than_all_seeds_together_can_mend() {
        let lines = |promise: &str, seeds: u32| {
            let mut file = file(promise);
            file.space.seeds.search = seeds;
            let classes = ["other", "default"].map(str::to_owned);
            Stopping::new(&file.space, &classes).lines().to_vec()
        };
        let ttft = |ms: f64, level| {
            let above = Span::from_secs(ms / 1e3);
            Crossing::Quantile { of: Latency::Ttft, level, above }
        };
        let line = Line { class: None, crossing: ttft(1200.0, 0.99) };
        assert_eq!(lines("ttft_p99_ms <= 400", 3), [line]);
        let line = Line { class: Some(1), crossing: ttft(600.0, 0.5) };
        assert_eq!(lines("default.ttft_p50_ms <= 300", 2), [line]);
    }

    #[test]
    fn what_one_run_cannot_decide_stops_nothing() {
        let of = |promise: &str| {
            let file = file(promise);
            Stopping::new(&file.space, &file.workload.class_names()).is_idle()
        };
        assert!(!of("ttft_p99_ms <= 400"));
        assert!(of("ttft_p99_ms <= 400 in 95% of runs"));
        assert!(of("throughput_rps >= 50"));
        assert!(of("ttft_p99_ms >= 1"));
        assert!(of("slo_attainment >= 0.4"), "another run may make up for all that one misses");
        let mut frontier = file("ttft_p99_ms <= 400");
        frontier.space.seek = Seek::Frontier;
        let stopping = Stopping::new(&frontier.space, &frontier.workload.class_names());
        assert!(stopping.is_idle(), "a frontier asks what the hopeless figures are");
    }
}
