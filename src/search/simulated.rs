//! The evaluator that simulates, on the threads of this process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::cache::{Remembered, RunCache};
use super::candidate::Candidate;
use super::capacity::capacities;
use super::evaluate::{Evaluator, Job, Run, Sink, Stop};
use super::foretell::Foreteller;
use super::metric::Figures;
use super::scenarios::Plan;
use super::space::SearchSpace;
use super::stopping::Stopping;
use super::template::Template;
use crate::base::{Hash128, Span};
use crate::config::Node;
use crate::policy::PolicyBundle;
use crate::scenario::Conditions;
use crate::sim::{self, Outcome, RunOptions, Scratch};
use crate::workload::{Limits, Trace, generate};

/// Reads a bundle's tree; the error is a sentence.
pub type ReadBundle<'a> = Box<dyn Fn(&Node) -> Result<PolicyBundle, String> + Sync + 'a>;

/// What candidates meet.
#[derive(Clone, Debug)]
pub struct World {
    /// The scenarios and their workloads.
    pub plan: Plan,
    /// Where a realisation of a workload ends.
    pub limits: Limits,
    /// Requests are drawn as they come until then, where there are too many to keep.
    pub drawn: Option<Span>,
    /// The template's own policy, on which the capacity of an instance is measured where a figure
    /// rests on it.
    pub measured: Option<PolicyBundle>,
    /// What is measured and kept of a run.
    pub options: RunOptions,
}

/// Realisations by seed and workload.
type Traces = BTreeMap<(u64, usize), Arc<OnceLock<Trace>>>;

/// Simulates candidates of a space on the current rayon pool.
pub struct SimulatedEvaluator<'a> {
    space: &'a SearchSpace,
    template: &'a Template,
    read: ReadBundle<'a>,
    world: World,
    version: u64,
    /// One realisation per seed and workload, made once and shared by all candidates.
    traces: Mutex<Traces>,
    capacities: OnceLock<Vec<Option<f64>>>,
    foreteller: Foreteller,
    stopping: Stopping,
    cache: Option<&'a RunCache>,
    /// What the names of all runs of a scenario begin with.
    names: OnceLock<Vec<Hash128>>,
}

impl std::fmt::Debug for SimulatedEvaluator<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SimulatedEvaluator").field("version", &self.version).finish()
    }
}

impl<'a> SimulatedEvaluator<'a> {
    /// An evaluator of `space` on `template`. `version` names everything else that results
    /// depend on: the program, the defaults, the workload.
    pub fn new(
        space: &'a SearchSpace,
        template: &'a Template,
        read: ReadBundle<'a>,
        world: World,
        version: u64,
    ) -> Self {
        let traces = Mutex::new(BTreeMap::new());
        let capacities = OnceLock::new();
        let calm = world.plan.is_calm() && world.options.timeline.is_none();
        let foreteller = Foreteller::new(space, &world.plan, calm);
        let (cache, names) = (None, OnceLock::new());
        let plain = world.plan.runs_per_seed() == 1 && world.drawn.is_none();
        let classes = world.plan.workload(0).0.class_names();
        let stopping = if plain { Stopping::new(space, &classes) } else { Stopping::default() };
        Self {
            space,
            template,
            read,
            world,
            version,
            traces,
            capacities,
            foreteller,
            stopping,
            cache,
            names,
        }
    }

    /// The same evaluator, which simulates nothing that `cache` knows. Results do not depend on
    /// what that is.
    #[must_use]
    pub fn with_cache(self, cache: Option<&'a RunCache>) -> Self {
        Self { cache, ..self }
    }

    /// The same evaluator, which lets every run come to its end.
    #[must_use]
    pub fn to_the_end(self) -> Self {
        Self { stopping: Stopping::default(), ..self }
    }

    /// The policy of `candidate`, or why there is none.
    fn bundle(&self, candidate: &Candidate) -> Result<PolicyBundle, String> {
        (self.read)(&self.template.apply(self.space, candidate)?)
    }

    fn trace(&self, seed: u64, part: usize) -> Arc<OnceLock<Trace>> {
        let (workload, named) = self.world.plan.workload(part);
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(traces.entry((seed, named)).or_default());
        drop(traces);
        slot.get_or_init(|| generate(workload, seed, self.world.limits));
        slot
    }

    fn capacities(&self) -> &[Option<f64>] {
        self.capacities.get_or_init(|| {
            let measured = self.world.measured.as_ref();
            measured
                .map(|bundle| capacities(bundle, self.world.plan.workload(0).0))
                .unwrap_or_default()
        })
    }

    /// Plays scenario `part` under `seed`.
    fn play(
        &self,
        bundle: &PolicyBundle,
        (part, seed, conditions): (usize, u64, &Conditions),
        scratch: &mut Scratch,
    ) -> Outcome {
        let World { plan, drawn, options, .. } = &self.world;
        if let Some(end) = *drawn {
            let drawn = (plan.workload(part).0, seed, end);
            return sim::simulate_drawn_under(bundle, drawn, conditions, options, scratch);
        }
        let slot = self.trace(seed, part);
        let trace = slot.get().expect("`trace` filled the slot");
        sim::simulate_under(bundle, trace, conditions, options, scratch)
    }

    /// What scenario `part` under `seed` tells, played unless it is known.
    fn told(
        &self,
        bundle: &PolicyBundle,
        (part, seed): (usize, u64),
        scratch: &mut Scratch,
    ) -> Remembered {
        let conditions = self.world.plan.conditions(part, seed);
        let of_run = (part, seed, &conditions);
        let Some(cache) = self.cache else {
            return self.summed_up(&self.play(bundle, of_run, scratch), bundle);
        };
        let name = self.name(cache, bundle, of_run);
        let known = cache.get(name);
        cache.count(known.is_some());
        known.unwrap_or_else(|| {
            let told = self.summed_up(&self.play(bundle, of_run, scratch), bundle);
            cache.put(name, &told);
            told
        })
    }

    /// The same for a run of the only scenario that may be stopped.
    fn screened(&self, bundle: &PolicyBundle, seed: u64, scratch: &mut Scratch) -> Remembered {
        let conditions = self.world.plan.conditions(0, seed);
        let Some(cache) = self.cache else {
            return self.play_within(bundle, (seed, &conditions), scratch);
        };
        let whole = self.name(cache, bundle, (0, seed, &conditions));
        let here = self.stopping.name(whole);
        let cleared = |known: &Remembered| self.stopping.clears(&known.figures);
        let known = cache.get(whole).filter(cleared).or_else(|| cache.get(here));
        cache.count(known.is_some());
        known.unwrap_or_else(|| {
            let told = self.play_within(bundle, (seed, &conditions), scratch);
            if told.stopped.is_none() {
                cache.put(whole, &told);
            }
            if !cleared(&told) {
                cache.put(here, &told);
            }
            told
        })
    }

    fn play_within(
        &self,
        bundle: &PolicyBundle,
        (seed, conditions): (u64, &Conditions),
        scratch: &mut Scratch,
    ) -> Remembered {
        let slot = self.trace(seed, 0);
        let trace = slot.get().expect("`trace` filled the slot");
        let (lines, options) = (self.stopping.lines(), &self.world.options);
        match sim::simulate_within(lines, (bundle, trace, conditions), options, scratch) {
            Ok(outcome) => self.summed_up(&outcome, bundle),
            Err(crossed) => {
                let stopped = Some((crossed.line, crossed.arrived));
                Remembered { stable: false, figures: Figures::default(), stopped }
            }
        }
    }

    fn summed_up(&self, outcome: &Outcome, bundle: &PolicyBundle) -> Remembered {
        let figures = Figures::of(outcome, bundle, self.capacities());
        Remembered { stable: outcome.stability.stable, figures, stopped: None }
    }

    /// The hash of all that what a run tells is a function of.
    fn name(
        &self,
        cache: &RunCache,
        bundle: &PolicyBundle,
        (part, seed, conditions): (usize, u64, &Conditions),
    ) -> u128 {
        let World { plan, limits, drawn, measured, options } = &self.world;
        let of_part = |part: usize| {
            let mut hash = cache.hash();
            plan.workload(part).0.feed(&mut hash);
            write!(hash, "{limits:?} {drawn:?} {options:?}").expect("a hash takes any text");
            if let Some(measured) = measured {
                write!(hash, "{measured:?}").expect("a hash takes any text");
                plan.workload(0).0.feed(&mut hash);
            }
            hash
        };
        let names = self.names.get_or_init(|| (0..plan.runs_per_seed()).map(of_part).collect());
        let mut hash = names[part].clone();
        write!(hash, "{seed} {conditions:?} {bundle:?}").expect("a hash takes any text");
        hash.finish()
    }

    /// Does `job`; what its objective comes to is known where it `may_stop`.
    fn run(&self, job: &Job, may_stop: Option<f64>, scratch: &mut Scratch) -> Run {
        let bundle = match self.bundle(&job.candidate) {
            Ok(bundle) => bundle,
            Err(reason) => return Run::failed(job.seed, reason),
        };
        let plan = &self.world.plan;
        let (mut stable, mut figures) = (true, Vec::with_capacity(plan.runs_per_seed()));
        for part in 0..plan.runs_per_seed() {
            let told = match may_stop {
                Some(_) => self.screened(&bundle, job.seed, scratch),
                None => self.told(&bundle, (part, job.seed), scratch),
            };
            if let (Some(objective), Some(stopped)) = (may_stop, told.stopped) {
                return self.stopping.run(job.seed, stopped, objective);
            }
            stable &= told.stable || !plan.has_to_be_stable(part);
            figures.push(told.figures);
        }
        Run::new(job.seed, stable, plan.combine(figures))
    }

    /// Does `jobs` on all threads; `may_stop` tells what the objective comes to of a candidate
    /// whose runs may be stopped.
    fn run_all(
        &self,
        jobs: &[Job],
        may_stop: impl Fn(&Job) -> Option<f64> + Sync,
        (stop, done): (Stop<'_>, Sink<'_>),
    ) {
        let next = AtomicUsize::new(0);
        // Workers take the next job themselves: jobs begin in order, so that what is journalled
        // is a prefix, and a long run holds nobody up.
        rayon::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(jobs.len()) {
                scope.spawn(|_| {
                    let mut scratch = Scratch::default();
                    while !stop() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(index) else { break };
                        done(index, self.run(job, may_stop(job), &mut scratch));
                    }
                });
            }
        });
    }
}

impl Evaluator for SimulatedEvaluator<'_> {
    fn known_objective(&self, candidate: &Candidate) -> Option<f64> {
        self.foreteller.objective(self.space, candidate, &|one| self.bundle(one).ok())
    }

    fn hopeless(&self, candidate: &Candidate) -> Option<String> {
        self.foreteller.hopeless(self.space, candidate, &|one| self.bundle(one).ok())
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn requests(&self, seed: u64) -> u64 {
        let World { plan, drawn, .. } = &self.world;
        let of_part = |part: usize| match drawn {
            Some(end) => {
                let offered = plan.workload(part).0.offered();
                (offered.requests_per_s_mean * end.as_secs()) as u64
            }
            None => self.trace(seed, part).get().map_or(0, |trace| trace.arrival.len() as u64),
        };
        (0..plan.runs_per_seed()).map(of_part).sum()
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.run_all(jobs, |_| None, (stop, done));
    }

    fn screen(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        let may_stop = |job: &Job| {
            let stops = !self.stopping.is_idle();
            stops.then(|| self.known_objective(&job.candidate)).flatten()
        };
        self.run_all(jobs, may_stop, (stop, done));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::Span;
    use crate::config::{Defaults, Market, Problems};
    use crate::latency::Blackbox;
    use crate::policy::{
        Admission, Batching, Gateway, Pool, Priority, Routing, Scheduler, Signals, StartUp,
    };
    use crate::search::read::read_space;

    /// `instances` pairs of H100, everything else as the reference has it.
    pub fn bundle(instances: u32, price_per_gpu_hour: f64) -> PolicyBundle {
        let pool = Pool {
            name: "h100".to_owned(),
            model: "meta-llama/llama-3.1-8b-instruct".to_owned(),
            gpu: "H100".to_owned(),
            gpus_per_instance: 2,
            instances,
            kv_blocks: 132_139,
            latency: Blackbox { alpha: [1601.35, 3.51, 1805.54], beta: [6910.42, 17.67, 2.84] },
            price_per_gpu_hour,
            price_source: "test".to_owned(),
            min_instances: instances,
            max_instances: instances,
            market: Market::OnDemand,
            zones: vec!["zone-a".to_owned()],
            start_up: StartUp::default(),
        };
        PolicyBundle {
            pools: vec![pool],
            admission: Admission::AlwaysAdmit,
            admission_latency: Span::ZERO,
            routing: Routing::RoundRobin,
            routing_latency: Span::ZERO,
            signals: Signals {
                kv_utilization_refresh: Span::ZERO,
                metrics_fetch_interval: Span::ZERO,
                prefix_index_blocks: 0,
            },
            priority: Priority::Constant,
            scheduler: Scheduler::Fcfs,
            batching: Batching { max_running: 256, max_tokens: 2048, long_prefill_threshold: 0 },
            block_size: 16,
            autoscaling: None,
            gateway: Gateway::default(),
        }
    }

    const SPACE: &str = "\
template:
  pools:
    default: {model: meta-llama/llama-3.1-8b-instruct, instances: 2}
  batching: {max_running_requests: 256}
workload: {rate: 30, prompt_tokens: 200, output_tokens: 100}
run: {duration: 40s, warm_up: 5s}
knobs:
  pools.default.instances: {int: [1, 4]}
objective: {minimize: cost_per_hour, subject_to: [ttft_p99_ms <= 500]}
budget: {evaluations: 6}
";

    /// What names the run of the template's own policy under `seed`.
    fn name(seed: u64, changes: &[(&str, &str)]) -> u128 {
        let change = |text: String, (from, to): &(&str, &str)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        };
        let text = changes.iter().fold(SPACE.to_owned(), change);
        let mut problems = Problems::new();
        let none = |_: &str| Err("there is no other file".to_owned());
        let file = read_space(("a.yaml", &text), Defaults::embedded(), &none, &mut problems);
        let file = file.unwrap_or_else(|| panic!("{}", problems.render(false)));
        let evaluator = file.evaluator(Defaults::embedded());
        let start = file.space.start().expect("the template is in the space");
        let tree = file.template.apply(&file.space, &start).expect("a policy");
        let bundle = (evaluator.read)(&tree).expect("a policy");
        let conditions = file.plan.conditions(0, seed);
        let cache = RunCache::of(std::path::Path::new("unused"), 1);
        evaluator.name(&cache, &bundle, (0, seed, &conditions))
    }

    #[test]
    fn a_run_is_named_by_all_that_it_depends_on() {
        let mut names = vec![name(42, &[]), name(43, &[])];
        for change in [
            ("instances: 2", "instances: 3"),
            ("instances: 2", "instances: 2, price_per_gpu_hour: 9.5"),
            ("requests: 256", "requests: 255"),
            ("rate: 30", "rate: 31"),
            ("output_tokens: 100", "output_tokens: 101"),
            ("duration: 40s", "duration: 41s"),
            ("warm_up: 5s", "warm_up: 6s"),
            ("warm_up: 5s", "warm_up: 5s, horizon: 50s"),
            ("knobs:", "scenarios: {lost: {faults: [{crash: {at: 10s}}]}}\nknobs:"),
            ("ttft_p99_ms <= 500", "slo_attainment_min >= 0.5"),
            ("ttft_p99_ms <= 500", "below_needed_s <= 5"),
        ] {
            names.push(name(42, &[change]));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_a_run_does_not_depend_on_does_not_name_it() {
        let plain = name(42, &[]);
        for change in [
            ("knobs:", "knobs:\n  batching.max_running_requests: {int: [64, 512]}"),
            ("int: [1, 4]", "int: [2, 9]"),
            ("ttft_p99_ms <= 500", "ttft_p99_ms <= 400, e2e_p99_ms <= 9000"),
            ("evaluations: 6", "evaluations: 60, certificate: 9"),
            ("budget:", "pareto: [ttft_p99_ms, cost_per_hour]\nbatch: 2\nbudget:"),
        ] {
            assert_eq!(name(42, &[change]), plain, "{change:?}");
        }
    }
}
