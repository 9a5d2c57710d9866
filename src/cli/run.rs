//! `blis-opt run`: one policy on one workload, over one or several seeds.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rayon::prelude::*;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::write_whole;
use super::{load, output};
use crate::base::Span;
use crate::config::{Defaults, Node, Problems, Value, span_from_text};
use crate::policy::{PolicyBundle, read_bundle};
use crate::report::number::{decimal, plural, rate};
use crate::report::{RunReport, requests_csv};
use crate::search::runs::{Offer, RunLength, RunWishes, run_length};
use crate::search::{Figures, FitnessWeights, open_beside};
use crate::sim::{Outcome, RunOptions, Scratch, simulate};
use crate::workload::{Limits, WorkloadSpec, generate};

/// The seed of a run that names none.
const SEED: u64 = 42;

/// Simulate one policy on one workload
///
/// The workload is a file, or requests at a steady rate. The run lasts several times as long as a
/// request stays in the system, leaves out a warm-up part, and says whether the queue still grows.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  blis-opt run policies/round-robin.yaml --rate 500 --instances 13
  blis-opt run policies/round-robin.yaml --workload chat.yaml --seeds 5 --json
  blis-opt run policies/weighted.yaml --rate 500 --fitness-weights p99_ttft:3,throughput:2")]
pub struct RunArgs {
    /// Policy bundle (YAML)
    #[arg(value_name = "POLICY")]
    pub policy: PathBuf,

    /// Workload specification (YAML)
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["rate", "arrivals", "preset"])]
    pub workload: Option<PathBuf>,

    /// Requests per second, in place of a workload file
    #[arg(long, value_name = "R", value_parser = positive, required_unless_present = "workload")]
    pub rate: Option<f64>,

    /// How many requests arrive in all
    #[arg(long, value_name = "N", conflicts_with = "duration",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub num_requests: Option<u32>,

    /// For how long requests arrive: 90s, 5m, 1h
    #[arg(long, value_name = "D", value_parser = duration)]
    pub duration: Option<Span>,

    /// Do not measure requests that arrive before this; by default twice as long as a request
    /// stays in the system
    #[arg(long, value_name = "D", value_parser = duration_or_zero)]
    pub warm_up: Option<Span>,

    /// How arrivals are spaced
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "rate")]
    pub arrivals: Arrivals,

    /// Lengths of prompts and answers: a preset of the defaults, such as chatbot. Without it both
    /// have a mean of 512 and a standard deviation of 256 tokens
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,

    /// How many seeds to run, counted up from --seed; figures then have 95 % intervals
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,

    /// Also write one line per request of the first seed to this file
    #[arg(long, value_name = "FILE")]
    pub requests_csv: Option<PathBuf>,

    /// Also print a weighted fitness: `p99_ttft:3,mean_e2e:1,throughput:2`
    #[arg(long, value_name = "WEIGHTS")]
    pub fitness_weights: Option<String>,

    /// Milliseconds at which the fitness of a latency is one half; BLIS has 1
    #[arg(long, value_name = "MS", default_value_t = 1000.0, value_parser = positive)]
    pub fitness_scale_ms: f64,

    /// Instances of the fleet, in place of the number in the policy; for policies of one pool
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub instances: Option<u32>,
}

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At random, independent of each other
    #[default]
    Poisson,
    /// Evenly
    Constant,
}

/// A finite number above zero.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

/// A length of time above zero.
fn duration(text: &str) -> Result<Span, String> {
    match duration_or_zero(text)? {
        Span::ZERO => Err("must be longer than zero".to_owned()),
        span => Ok(span),
    }
}

/// A length of time such as `90s`.
fn duration_or_zero(text: &str) -> Result<Span, String> {
    span_from_text(text).ok_or_else(|| "must be a length of time such as 90s, 5m or 1h".to_owned())
}

/// The command line resolved against the files it names.
struct Plan {
    bundle: PolicyBundle,
    workload: WorkloadSpec,
    limits: Limits,
    options: RunOptions,
    weights: Option<FitnessWeights>,
    seeds: Vec<u64>,
}

/// Simulates and reports.
pub fn run(args: &RunArgs, context: &Context) -> Result<Exit, Failure> {
    let plan = resolve(args, context)?;
    let words = describe(args, &plan);
    let outcomes = simulate_all(&plan, args.requests_csv.is_some());
    if let Some(path) = &args.requests_csv {
        let trace = generate(&plan.workload, plan.seeds[0], plan.limits);
        write_whole(path, requests_csv(&trace, &outcomes[0]).as_bytes())?;
        context.output.talk(&format!("wrote {}", path.display()));
    }
    let report = report(args, plan, words, outcomes);
    if context.json {
        output::data(&format!("{:#}\n", report.to_json()))?;
    } else {
        output::data(&report.to_text(context.verbose > 0))?;
    }
    Ok(Exit::Fine)
}

fn resolve(args: &RunArgs, context: &Context) -> Result<Plan, Failure> {
    let weights = args
        .fitness_weights
        .as_deref()
        .map(|text| FitnessWeights::parse(text, args.fitness_scale_ms))
        .transpose()
        .map_err(|(message, hint)| {
            let failure = Failure::command_line(format!("--fitness-weights: {message}"));
            hint.into_iter().fold(failure, Failure::hint)
        })?;
    let defaults = load::defaults(context)?;
    let mut problems = Problems::new();
    let bundle = load::tree(&args.policy, &mut problems)?
        .and_then(|node| read_bundle(&node, &defaults, &mut problems));
    let workload = read_workload(args, &defaults, &mut problems)?;
    let both = bundle.zip(workload);
    let (mut bundle, workload) = load::checked(both, &problems, context)?;
    if let Some(instances) = args.instances {
        set_instances(&mut bundle, instances, &args.policy)?;
    }
    let length = length(args, &bundle, &workload)?;
    let typed =
        Limits { duration: length.duration, max_requests: args.num_requests.map(u64::from) };
    let first = context.seed.or(workload.seed).unwrap_or(SEED);
    let seeds = (0..u64::from(args.seeds)).map(|index| first.wrapping_add(index)).collect();
    let options = RunOptions { keep_requests: args.requests_csv.is_some(), ..length.options() };
    Ok(Plan { bundle, limits: typed.or(workload.limits()), workload, options, weights, seeds })
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
    Ok(())
}

/// How long the run lasts: as asked for, as the workload says, or long enough for a steady state.
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
    let wishes = RunWishes { warm_up: args.warm_up, duration: args.duration, horizon: None };
    let length = run_length(&wishes, &bundle.pools[0], &bundle.batching, &offer);
    let end = length.duration.or(arrivals);
    if end.is_some_and(|end| length.warm_up >= end) {
        let message = "nothing is left to measure: the warm-up lasts as long as the run";
        return Err(Failure::command_line(message).hint("give a shorter --warm-up"));
    }
    Ok(length)
}

fn simulate_all(plan: &Plan, keep_requests: bool) -> Vec<Outcome> {
    let one = |(index, seed): (usize, &u64)| {
        let trace = generate(&plan.workload, *seed, plan.limits);
        // Records are large, and only those of the first seed are written.
        let options = RunOptions { keep_requests: keep_requests && index == 0, ..plan.options };
        simulate(&plan.bundle, &trace, &options, &mut Scratch::default())
    };
    plan.seeds.par_iter().enumerate().map(|(index, seed)| one((index, seed))).collect()
}

/// The workload in words.
fn describe(args: &RunArgs, plan: &Plan) -> String {
    let offered = plan.workload.offered();
    let name = match (&args.workload, &args.preset) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(preset)) => preset.clone(),
        (None, None) => "rate".to_owned(),
    };
    let spacing = match (args.rate, args.arrivals) {
        (None, _) => "",
        (Some(_), Arrivals::Poisson) => ", Poisson",
        (Some(_), Arrivals::Constant) => ", evenly spaced",
    };
    let (mean, peak) = (offered.requests_per_s_mean, offered.requests_per_s);
    let often = match args.rate {
        Some(typed) => format!("{} requests/s", rate(typed)),
        None if peak > 1.005 * mean => {
            format!("{} requests/s on average, up to {}", rate(mean), rate(peak))
        }
        None => format!("{} requests/s", rate(peak)),
    };
    format!(
        "workload {name}: {often}{spacing}, about {} prompt and {} answer tokens each",
        decimal(offered.input_tokens_mean, 0),
        decimal(offered.output_tokens_mean, 0)
    )
}

fn report(args: &RunArgs, plan: Plan, workload: String, outcomes: Vec<Outcome>) -> RunReport {
    let figures = outcomes
        .iter()
        .map(|outcome| {
            let mut figures = Figures::of(outcome, &plan.bundle, &[]);
            if let Some(weights) = &plan.weights {
                let fitness = weights.fitness(&figures);
                figures.set("fitness", fitness);
            }
            figures
        })
        .collect();
    RunReport {
        policy: args.policy.display().to_string(),
        workload,
        bundle: plan.bundle,
        warm_up_s: plan.options.warm_up.as_secs(),
        seeds: plan.seeds,
        outcomes,
        figures,
        capacities: Vec::new(),
    }
}
