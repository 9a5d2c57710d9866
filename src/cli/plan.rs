//! What `run` simulates: its command line resolved against the files that it names.

use std::path::Path;

use super::context::Context;
use super::exit::Failure;
use super::load;
use super::run::{Arrivals, RunArgs, Timeline};
use crate::base::{SimTime, Span};
use crate::config::{Defaults, Node, Problems, Value};
use crate::policy::{PolicyBundle, read_bundle};
use crate::report::number::{decimal, plural};
use crate::scenario::{Conditions, FAULTS_MAX, Scenario, Setting, read_scenario};
use crate::search::read::KEPT_MAX;
use crate::search::runs::{Offer, RunLength, RunWishes, fleet_wishes, run_length};
use crate::search::setting::{fleet_names, pleasant_interval, setting, with_burst};
use crate::search::{FitnessWeights, open_beside};
use crate::sim::RunOptions;
use crate::workload::{Limits, Offered, WorkloadSpec};

/// The seed of a run that names none.
const SEED: u64 = 42;
/// A timeline has no more intervals than this.
const INTERVALS_MAX: f64 = 20_000.0;

/// The command line resolved against the files it names.
pub struct Plan {
    /// Every decision about the fleet.
    pub bundle: PolicyBundle,
    /// Who arrives, the burst of the scenario included.
    pub workload: WorkloadSpec,
    /// Where a realisation of it ends.
    pub limits: Limits,
    /// What is measured and kept.
    pub options: RunOptions,
    /// Weights of the fitness, where it is asked for.
    pub weights: Option<FitnessWeights>,
    /// The seeds.
    pub seeds: Vec<u64>,
    scenario: Option<Scenario>,
    run: Setting,
    requests: f64,
}

impl Plan {
    /// What befalls the fleet under `seed`.
    pub fn conditions(&self, seed: u64) -> Conditions {
        match &self.scenario {
            Some(scenario) => scenario.conditions(seed, &self.run),
            None => Conditions::calm(seed),
        }
    }

    /// Until when requests are drawn as they come, where there are too many to keep.
    pub fn drawn_until(&self) -> Option<Span> {
        let Limits { duration, max_requests } = self.limits;
        let many = self.requests > KEPT_MAX && max_requests.is_none();
        duration.filter(|_| many && !self.options.keep_requests)
    }
}

/// Resolves the command line.
pub fn resolve(args: &RunArgs, context: &Context) -> Result<Plan, Failure> {
    let weights = read_weights(args)?;
    let defaults = load::defaults(context)?;
    let mut problems = Problems::new();
    let bundle = load::tree(&args.policy, &mut problems)?
        .and_then(|node| read_bundle(&node, &defaults, &mut problems));
    let scenario = read_scenario_of(args, bundle.as_ref(), &mut problems)?;
    let workload = read_workload(args, &defaults, &mut problems)?;
    let all = bundle.zip(workload);
    let (mut bundle, workload) = load::checked(all, &problems, context)?;
    if let Some(instances) = args.instances {
        set_instances(&mut bundle, instances, &args.policy)?;
    }
    let length = length(args, &bundle, &workload)?;
    let typed =
        Limits { duration: length.duration, max_requests: args.num_requests.map(u64::from) };
    let limits = typed.or(workload.limits());
    let offered = workload.offered();
    let end = end_of(limits, &offered);
    let run = setting(&bundle.pools, &workload, end);
    let first = context.seed.or(workload.seed).unwrap_or(SEED);
    let workload = prepare(args, workload, scenario.as_ref(), &run)?;
    let moves = bundle.autoscaling.is_some()
        || scenario.is_some()
        || offered.requests_per_s > 1.005 * offered.requests_per_s_mean;
    let timeline = timeline(args.timeline, end, moves)?;
    warn_of_late_faults(scenario.as_ref(), &run, context);
    Ok(Plan {
        limits,
        options: RunOptions {
            keep_requests: args.requests_csv.is_some(),
            timeline,
            ..length.options()
        },
        weights,
        seeds: (0..u64::from(args.seeds)).map(|index| first.wrapping_add(index)).collect(),
        requests: workload.offered().requests_per_s_mean * end.as_secs(),
        bundle,
        workload,
        scenario,
        run,
    })
}

fn read_weights(args: &RunArgs) -> Result<Option<FitnessWeights>, Failure> {
    let weights = args.fitness_weights.as_deref();
    let weights = weights.map(|text| FitnessWeights::parse(text, args.fitness_scale_ms));
    weights.transpose().map_err(|(message, hint)| {
        let failure = Failure::command_line(format!("--fitness-weights: {message}"));
        hint.into_iter().fold(failure, Failure::hint)
    })
}

/// The scenario; its names are checked where the bundle could be read.
fn read_scenario_of(
    args: &RunArgs,
    bundle: Option<&PolicyBundle>,
    problems: &mut Problems,
) -> Result<Option<Scenario>, Failure> {
    let Some(path) = &args.scenario else { return Ok(None) };
    let names = bundle.map(fleet_names);
    let tree = load::tree(path, problems)?;
    Ok(tree.and_then(|node| read_scenario(&node, "the scenario", names.as_ref(), problems)))
}

fn read_workload(
    args: &RunArgs,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Result<Option<WorkloadSpec>, Failure> {
    let home = args.workload.as_ref().map(|path| path.to_string_lossy().into_owned());
    let open = |named: &str| open_beside(home.as_deref().unwrap_or(""), named);
    let node = match (&args.workload, args.rate) {
        (Some(path), _) => load::tree(path, problems)?,
        (None, Some(rate)) => {
            problems.select_file("the command line");
            Some(rate_workload(args, rate))
        }
        (None, None) => return Err(Failure::command_line("give --rate or --workload")),
    };
    Ok(node.and_then(|node| WorkloadSpec::read_with(&node, defaults, &open, problems)))
}

/// The short form of a workload that the options spell out.
fn rate_workload(args: &RunArgs, rate: f64) -> Node {
    let arrivals = match args.arrivals {
        Arrivals::Poisson => "poisson",
        Arrivals::Constant => "constant",
    };
    let mut entries = vec![
        ("rate", Node::new(Value::Float(rate))),
        ("arrivals", Node::new(Value::Text(arrivals.to_owned()))),
    ];
    if let Some(preset) = &args.preset {
        entries.push(("preset", Node::new(Value::Text(preset.clone()))));
    }
    Node::map(entries)
}

/// A fleet of so many instances that nobody changes.
fn set_instances(bundle: &mut PolicyBundle, instances: u32, policy: &Path) -> Result<(), Failure> {
    let [pool] = bundle.pools.as_mut_slice() else {
        let pools = plural(bundle.pools.len(), "pool");
        let message =
            format!("--instances is for policies of one pool; `{}` has {pools}", policy.display());
        return Err(
            Failure::command_line(message).hint("set `instances` of each pool in the policy file")
        );
    };
    pool.fix(instances);
    bundle.autoscaling = None;
    Ok(())
}

/// How long the run lasts: as asked for, as the workload says, or long enough for a steady state;
/// a fleet that changes is looked at for an hour, and from an hour on it is measured whole.
fn length(
    args: &RunArgs,
    bundle: &PolicyBundle,
    workload: &WorkloadSpec,
) -> Result<RunLength, Failure> {
    let offered = workload.offered();
    let by_count = args.num_requests.map(u64::from).or(workload.num_requests);
    let by_count =
        by_count.map(|count| Span::from_secs(count as f64 / offered.requests_per_s_mean));
    let arrivals = match (by_count, workload.horizon) {
        (Some(counted), Some(horizon)) => Some(counted.min(horizon)),
        (counted, horizon) => counted.or(horizon),
    };
    let offer = Offer {
        input_tokens_mean: offered.input_tokens_mean,
        output_tokens_mean: offered.output_tokens_mean,
        arrivals,
    };
    let changes = bundle.autoscaling.is_some() || args.scenario.is_some();
    let wishes = RunWishes { warm_up: args.warm_up, duration: args.duration, horizon: None };
    let wishes = fleet_wishes(&wishes, &offer, changes);
    let length = run_length(&wishes, &bundle.pools[0], &bundle.batching, &offer);
    let end = length.duration.or(arrivals);
    if end.is_some_and(|end| length.warm_up >= end) {
        let message = "nothing is left to measure: the warm-up lasts as long as the run";
        return Err(Failure::command_line(message).hint("give a shorter --warm-up"));
    }
    Ok(length)
}

/// About when arrivals end.
fn end_of(limits: Limits, offered: &Offered) -> Span {
    let counted = limits
        .max_requests
        .map(|count| Span::from_secs(count as f64 / offered.requests_per_s_mean));
    let last = SimTime::LAST.since(SimTime::ZERO);
    limits.duration.unwrap_or(last).min(counted.unwrap_or(last))
}

/// The workload with the burst of the scenario and the promises of the command line.
fn prepare(
    args: &RunArgs,
    workload: WorkloadSpec,
    scenario: Option<&Scenario>,
    run: &Setting,
) -> Result<WorkloadSpec, Failure> {
    let mut workload = match scenario {
        None => workload,
        Some(scenario) => {
            let expected = scenario.faults_expected(run);
            if expected > FAULTS_MAX {
                let message = format!(
                    "about {} faults would strike by chance, and a run bears {}",
                    decimal(expected, 0),
                    decimal(FAULTS_MAX, 0)
                );
                return Err(Failure::input(message).hint("make `random` rarer, or the run shorter"));
            }
            with_burst(workload, scenario, run).map_err(Failure::input)?
        }
    };
    if let Some(targets) = args.slo {
        let classes = workload.class_names().into_iter();
        workload.targets = classes.map(|class| (class, targets)).collect();
    }
    Ok(workload)
}

/// The interval of the timeline: as asked for, or a pleasant one where there is something to see.
fn timeline(asked: Option<Timeline>, end: Span, moves: bool) -> Result<Option<Span>, Failure> {
    let interval = match asked {
        Some(Timeline::None) => None,
        Some(Timeline::Every(interval)) => Some(interval),
        None => moves.then(|| pleasant_interval(end)),
    };
    if interval.is_some_and(|interval| end.as_secs() / interval.as_secs() > INTERVALS_MAX) {
        let message = "--timeline: a timeline has at most 20000 intervals";
        return Err(Failure::command_line(message).hint("give a longer interval"));
    }
    Ok(interval)
}

/// A fault that comes after the end strikes nobody; more likely the run is too short.
fn warn_of_late_faults(scenario: Option<&Scenario>, run: &Setting, context: &Context) {
    let Some(scenario) = scenario else { return };
    let late = scenario.faults.iter().filter(|fault| fault.at.in_run(run) >= run.end).count();
    if late > 0 {
        let (faults, verb) = (plural(late, "fault"), if late == 1 { "strikes" } else { "strike" });
        let end = decimal(run.end.as_secs(), 0);
        context.output.talk(&format!(
            "warning: {faults} of the scenario {verb} after the end of arrivals at {end} s"
        ));
    }
}
