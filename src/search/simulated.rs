//! The evaluator that simulates, on the threads of this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::candidate::Candidate;
use super::capacity::capacities;
use super::evaluate::{Evaluator, Foretold, Job, Run, Sink, Stop};
use super::foretell::Foreteller;
use super::metric::Figures;
use super::scenarios::Plan;
use super::space::SearchSpace;
use super::template::Template;
use crate::base::Span;
use crate::config::Node;
use crate::policy::PolicyBundle;
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
        Self { space, template, read, world, version, traces, capacities, foreteller }
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
        part: usize,
        seed: u64,
        scratch: &mut Scratch,
    ) -> Outcome {
        let World { plan, drawn, options, .. } = &self.world;
        let conditions = plan.conditions(part, seed);
        if let Some(end) = *drawn {
            let drawn = (plan.workload(part).0, seed, end);
            return sim::simulate_drawn_under(bundle, drawn, &conditions, options, scratch);
        }
        let slot = self.trace(seed, part);
        let trace = slot.get().expect("`trace` filled the slot");
        sim::simulate_under(bundle, trace, &conditions, options, scratch)
    }

    fn run(&self, job: &Job, scratch: &mut Scratch) -> Run {
        let tree = self.template.apply(self.space, &job.candidate);
        let bundle = match tree.and_then(|tree| (self.read)(&tree)) {
            Ok(bundle) => bundle,
            Err(reason) => return Run::failed(job.seed, reason),
        };
        let plan = &self.world.plan;
        let (mut stable, mut figures) = (true, Vec::with_capacity(plan.runs_per_seed()));
        for part in 0..plan.runs_per_seed() {
            let outcome = self.play(&bundle, part, job.seed, scratch);
            stable &= outcome.stability.stable || !plan.has_to_be_stable(part);
            figures.push(Figures::of(&outcome, &bundle, self.capacities()));
        }
        Run { seed: job.seed, stable, failed: None, figures: plan.combine(figures) }
    }
}

impl Evaluator for SimulatedEvaluator<'_> {
    fn foretell(&self, candidate: &Candidate) -> Foretold {
        self.foreteller.of(candidate, || {
            let tree = self.template.apply(self.space, candidate).ok()?;
            (self.read)(&tree).ok()
        })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
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
                        done(index, self.run(job, &mut scratch));
                    }
                });
            }
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::Span;
    use crate::config::Market;
    use crate::latency::Blackbox;
    use crate::policy::{
        Admission, Batching, Gateway, Pool, Priority, Routing, Scheduler, Signals, StartUp,
    };

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
}
