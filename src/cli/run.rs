//! `blis-opt run`: one policy on one workload, over one or several seeds.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    #[arg(long, value_name = "D", value_parser = seconds)]
    pub duration: Option<f64>,

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

/// A length of time in seconds: a number with `ms`, `s`, `m` or `h`; seconds without a unit.
fn seconds(text: &str) -> Result<f64, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, scale) = match unit {
        Some((unit, scale)) => (text.strip_suffix(unit).unwrap_or(text), *scale),
        None => (text, 1.0),
    };
    positive(number.trim())
        .map(|value| value * scale)
        .map_err(|_| "must be a length of time above 0 such as 90s, 5m or 1h".to_owned())
}

use super::context::Context;
use super::exit::{Exit, Failure};
/// Runs.
pub fn run(args: &RunArgs, context: &Context) -> Result<Exit, Failure> {
    let _ = (args, context);
    Err(Failure::input("wip"))
}
