//! `blis-opt run`: one policy on one workload, over one or several seeds.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rayon::prelude::*;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::files::write_whole;
use super::output;
use super::plan::{Plan, resolve};
use crate::base::Span;
use crate::config::span_from_text;
use crate::report::number::{decimal, rate};
use crate::report::{RunReport, requests_csv};
use crate::search::{Figures, capacities};
use crate::sim::{Outcome, RunOptions, Scratch, simulate_drawn_under, simulate_under};
use crate::workload::{Targets, generate};

/// Simulate one policy on one workload
///
/// The workload is a file, or requests at a steady rate. The run lasts several times as long as a
/// request stays in the system, leaves out a warm-up part, and says whether the queue still grows.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  blis-opt run policies/round-robin.yaml --rate 500 --instances 13
  blis-opt run policies/round-robin.yaml --workload chat.yaml --seeds 5 --json
  blis-opt run policies/weighted.yaml --rate 500 --fitness-weights p99_ttft:3,throughput:2
  blis-opt run policies/two-zones.yaml --rate 300 --scenario zone-lost.yaml --slo ttft=500ms")]
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

    /// Instances of the fleet for good, in place of the number and the autoscaling in the policy;
    /// for policies of one pool
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub instances: Option<u32>,

    /// What befalls the fleet: a scenario (YAML) with faults, retries and bursts
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// What every request is promised: `ttft=500ms,tpot=50ms,e2e=30s`, in place of `slo` in the
    /// workload
    #[arg(long, value_name = "TARGETS", value_parser = targets)]
    pub slo: Option<Targets>,

    /// Length of an interval of the timeline, or `none`; by default about a 96th of the run where
    /// the fleet or its load changes, else none
    #[arg(long, value_name = "INTERVAL", value_parser = timeline)]
    pub timeline: Option<Timeline>,
}

/// Whether there is a timeline, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// There is none.
    None,
    /// Its intervals are this long.
    Every(Span),
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

/// The length of an interval, or `none`.
fn timeline(text: &str) -> Result<Timeline, String> {
    match text {
        "none" => Ok(Timeline::None),
        _ => duration(text).map(Timeline::Every),
    }
}

/// Targets such as `ttft=500ms,tpot=50ms`.
fn targets(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::NONE;
    for part in text.split(',') {
        let (name, length) = part.split_once('=').ok_or("must be such as ttft=500ms,tpot=50ms")?;
        let target = match name.trim() {
            "ttft" => &mut targets.ttft,
            "tpot" => &mut targets.tpot,
            "e2e" => &mut targets.e2e,
            name => return Err(format!("`{name}` is none of `ttft`, `tpot` and `e2e`")),
        };
        *target = duration(length.trim())?;
    }
    Ok(targets)
}

/// A length of time such as `90s`.
fn duration_or_zero(text: &str) -> Result<Span, String> {
    span_from_text(text).ok_or_else(|| "must be a length of time such as 90s, 5m or 1h".to_owned())
}

/// Simulates and reports.
pub fn run(args: &RunArgs, context: &Context) -> Result<Exit, Failure> {
    let plan = resolve(args, context)?;
    let words = describe(args, &plan);
    let (outcomes, capacities) =
        rayon::join(|| simulate_all(&plan, args.requests_csv.is_some()), || capacities_of(&plan));
    if let Some(path) = &args.requests_csv {
        let trace = generate(&plan.workload, plan.seeds[0], plan.limits);
        write_whole(path, requests_csv(&trace, &outcomes[0]).as_bytes())?;
        context.output.talk(&format!("wrote {}", path.display()));
    }
    let report = report(args, plan, words, (outcomes, capacities));
    if context.json {
        output::data(&format!("{:#}\n", report.to_json()))?;
    } else {
        output::data(&report.to_text(context.verbose > 0))?;
    }
    Ok(Exit::Fine)
}

fn simulate_all(plan: &Plan, keep_requests: bool) -> Vec<Outcome> {
    let one = |(index, seed): (usize, &u64)| {
        let conditions = plan.conditions(*seed);
        let scratch = &mut Scratch::default();
        if let Some(duration) = plan.drawn_until() {
            let drawn = (&plan.workload, *seed, duration);
            return simulate_drawn_under(&plan.bundle, drawn, &conditions, &plan.options, scratch);
        }
        let trace = generate(&plan.workload, *seed, plan.limits);
        // Records are large, and only those of the first seed are written.
        let options = RunOptions { keep_requests: keep_requests && index == 0, ..plan.options };
        simulate_under(&plan.bundle, &trace, &conditions, &options, scratch)
    };
    plan.seeds.par_iter().enumerate().map(|(index, seed)| one((index, seed))).collect()
}

/// What one instance of each pool carries, where a timeline shows what is needed.
fn capacities_of(plan: &Plan) -> Vec<Option<f64>> {
    match plan.options.timeline {
        Some(_) => capacities(&plan.bundle, &plan.workload),
        None => Vec::new(),
    }
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
    let scenario = args.scenario.as_ref();
    let scenario = scenario.map(|path| format!("; scenario {}", path.display()));
    format!(
        "workload {name}: {often}{spacing}, about {} prompt and {} answer tokens each{}",
        decimal(offered.input_tokens_mean, 0),
        decimal(offered.output_tokens_mean, 0),
        scenario.unwrap_or_default()
    )
}

fn report(
    args: &RunArgs,
    plan: Plan,
    workload: String,
    (outcomes, capacities): (Vec<Outcome>, Vec<Option<f64>>),
) -> RunReport {
    let figures = outcomes
        .iter()
        .map(|outcome| {
            let mut figures = Figures::of(outcome, &plan.bundle, &capacities);
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
        capacities,
    }
}
