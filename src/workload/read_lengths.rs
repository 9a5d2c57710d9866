//! Reads distributions of lengths and arrival processes.

use crate::config::{Bounds, Fields, Node, Problems, Value};

use super::arrivals::Arrivals;
use super::lengths::{Clamp, Empirical, LENGTH_MAX, Lengths};

/// Whole and fractional token counts that a file may name.
const TOKENS: Bounds = Bounds::between(0.0, LENGTH_MAX as f64);
/// Exponents: `exp(30)` is past every length.
const LOGARITHM: Bounds = Bounds::between(-30.0, 30.0);

#[derive(Clone, Copy)]
enum Kind {
    Gaussian,
    Exponential,
    LogNormal,
    ParetoLogNormal,
    Constant,
    Empirical,
}

const KINDS: [(&str, Kind); 6] = [
    ("gaussian", Kind::Gaussian),
    ("exponential", Kind::Exponential),
    ("lognormal", Kind::LogNormal),
    ("pareto_lognormal", Kind::ParetoLogNormal),
    ("constant", Kind::Constant),
    ("empirical", Kind::Empirical),
];

#[derive(Clone, Copy)]
enum Process {
    Poisson,
    Constant,
    Gamma,
    Weibull,
}

const PROCESSES: [(&str, Process); 4] = [
    ("poisson", Process::Poisson),
    ("gamma", Process::Gamma),
    ("weibull", Process::Weibull),
    ("constant", Process::Constant),
];

/// The distribution under `key` of a workload spec: `{type, params, file}`.
pub(super) fn read_lengths(fields: &mut Fields, key: &'static str) -> Option<Lengths> {
    let node = fields.node(key)?;
    read_distribution(node, &format!("`{key}`"), fields.problems())
}

/// The lengths under `key` of the short forms: a number of tokens,
/// `{mean, std_dev, min, max}` for a gaussian, or a distribution with its `type`.
pub(super) fn read_short_lengths(fields: &mut Fields, key: &'static str) -> Option<Lengths> {
    let node = fields.node(key)?;
    let what = format!("`{key}`");
    match &node.value {
        Value::Int(_) | Value::Float(_) => {
            let bounds = Bounds::between(1.0, f64::from(LENGTH_MAX));
            crate::config::read_f64(node, &what, bounds, fields.problems()).map(Lengths::Constant)
        }
        _ if node.entry("type").is_some() => read_distribution(node, &what, fields.problems()),
        _ => {
            let mut params = Fields::of(node, &what, fields.problems())?;
            let lengths = read_params(&mut params, Kind::Gaussian);
            params.finish();
            lengths
        }
    }
}

fn read_distribution(node: &Node, what: &str, problems: &mut Problems) -> Option<Lengths> {
    let mut fields = Fields::of(node, what, problems)?;
    fields.require(&["type"]);
    let kind = fields.one_of("type", &KINDS);
    if fields.text("file").is_some_and(|file| !file.is_empty()) {
        fields
            .error("file", format!("`file` in {what} is not available yet"))
            .label("this file is not read")
            .hint("list lengths and weights inline: `params: {128: 0.7, 512: 0.3}`");
    }
    let lengths = match kind {
        None => {
            fields.node("params");
            None
        }
        Some(Kind::Empirical) => read_empirical(&mut fields),
        Some(kind) => {
            fields.require(&["params"]);
            fields.fields("params").and_then(|mut params| {
                let lengths = read_params(&mut params, kind);
                params.finish();
                lengths
            })
        }
    };
    fields.finish();
    lengths
}

fn read_params(params: &mut Fields, kind: Kind) -> Option<Lengths> {
    match kind {
        Kind::Gaussian => {
            params.require(&["mean"]);
            let mean = params.f64("mean", TOKENS);
            let std_dev = params.f64("std_dev", TOKENS).unwrap_or(0.0);
            let clamp = read_clamp(params);
            Some(Lengths::Gaussian { mean: mean?, std_dev, clamp: clamp? })
        }
        Kind::Exponential => {
            params.require(&["mean"]);
            let mean = params.f64("mean", Bounds::above(0.0, f64::from(LENGTH_MAX)));
            let clamp = read_clamp(params);
            Some(Lengths::Exponential { mean: mean?, clamp: clamp? })
        }
        Kind::LogNormal => {
            params.require(&["mu", "sigma"]);
            let (mu, sigma) = read_log_normal(params);
            let clamp = read_clamp(params);
            Some(Lengths::LogNormal { mu: mu?, sigma: sigma?, clamp: clamp? })
        }
        Kind::ParetoLogNormal => {
            params.require(&["alpha", "xm", "mu", "sigma", "mix_weight"]);
            let alpha = params.f64("alpha", Bounds::above(0.0, 1e6));
            let xm = params.f64("xm", Bounds::above(0.0, f64::from(LENGTH_MAX)));
            let (mu, sigma) = read_log_normal(params);
            let mix_weight = params.f64("mix_weight", Bounds::FRACTION)?;
            Some(Lengths::ParetoLogNormal {
                alpha: alpha?,
                xm: xm?,
                mu: mu?,
                sigma: sigma?,
                mix_weight,
            })
        }
        Kind::Constant => {
            params.require(&["value"]);
            params.f64("value", TOKENS).map(Lengths::Constant)
        }
        Kind::Empirical => None,
    }
}

fn read_log_normal(params: &mut Fields) -> (Option<f64>, Option<f64>) {
    (params.f64("mu", LOGARITHM), params.f64("sigma", Bounds::between(0.0, 30.0)))
}

fn read_clamp(params: &mut Fields) -> Option<Clamp> {
    let min = params.f64("min", TOKENS).unwrap_or(Clamp::NONE.min);
    let max = params.f64("max", TOKENS).unwrap_or(Clamp::NONE.max);
    let clamp = Clamp::new(min, max);
    if clamp.min > clamp.max {
        let (min, max) = (clamp.min, clamp.max);
        params
            .error("min", format!("no length lies between {min} and {max}"))
            .label(format!("min is {min}, max is {max}"))
            .hint("min must not be above max");
        return None;
    }
    Some(clamp)
}

fn read_empirical(fields: &mut Fields) -> Option<Lengths> {
    fields.require(&["params"]);
    let entries = fields.map("params")?;
    let at = fields.node("params")?.at;
    let problems = fields.problems();
    let mut weighted = Vec::with_capacity(entries.len());
    let mut fine = true;
    for (key, node) in entries {
        let weight = crate::config::read_f64(
            node,
            &format!("the weight of `{}`", key.text),
            Bounds::between(0.0, 1e15),
            problems,
        );
        let length = key.text.parse::<u32>().ok().filter(|length| *length <= LENGTH_MAX);
        if length.is_none() {
            problems
                .error(key.at, format!("`{}` is not a length", key.text))
                .label(format!("a whole number from 0 to {LENGTH_MAX} is needed"))
                .hint("an empirical distribution maps lengths to weights: `{128: 0.7, 512: 0.3}`");
        }
        match (length, weight) {
            (Some(length), Some(weight)) => weighted.push((f64::from(length), weight)),
            _ => fine = false,
        }
    }
    if !fine {
        return None;
    }
    let table = Empirical::new(weighted);
    if table.is_none() {
        problems
            .error(at, "an empirical distribution needs a weight above 0")
            .label("no length has one");
    }
    table.map(Lengths::Empirical)
}

/// The arrival process of a client: `{process, cv, shape, scale}`.
pub(super) fn read_arrivals(fields: &mut Fields) -> Option<Arrivals> {
    fields.require(&["arrival"]);
    let mut arrival = fields.fields("arrival")?;
    arrival.require(&["process"]);
    let process = arrival.one_of("process", &PROCESSES);
    let cv = arrival.node("cv").is_some();
    let shape = arrival.node("shape").is_some();
    let scale = arrival.node("scale").is_some();
    let arrivals = match process {
        Some(Process::Gamma | Process::Weibull) if shape || scale => {
            read_gaps(&mut arrival, process, cv)
        }
        Some(process) => {
            if shape || scale {
                arrival
                    .error("shape", "`shape` and `scale` belong to `gamma` and `weibull`")
                    .label("not with this process");
            }
            Some(read_process(&mut arrival, process, false))
        }
        None => None,
    };
    arrival.finish();
    arrivals
}

/// Arrivals of the short forms: `arrivals: gamma` with `cv` beside it; Poisson by default.
pub(super) fn read_short_arrivals(fields: &mut Fields) -> Arrivals {
    let process = fields.one_of("arrivals", &PROCESSES).unwrap_or(Process::Poisson);
    read_process(fields, process, true)
}

/// A process at the client's rate, with `cv` in the same map.
fn read_process(fields: &mut Fields, process: Process, from_zero: bool) -> Arrivals {
    let cv = fields.node("cv").filter(|node| node.as_f64() != Some(0.0));
    if let (Some(cv), Process::Poisson | Process::Constant) = (cv, process) {
        fields
            .problems()
            .warning(cv.at, "`cv` has no effect on this process")
            .label("poisson and constant arrivals have none")
            .hint("`gamma` and `weibull` take a `cv`");
    }
    match process {
        Process::Poisson => Arrivals::Poisson,
        Process::Constant => Arrivals::Constant { from_zero },
        Process::Gamma => {
            let cv = fields.f64("cv", Bounds::between(1e-6, 1000.0)).unwrap_or(1.0);
            if cv > 10.0 {
                let at = fields.at();
                fields
                    .problems()
                    .warning(at, "gamma arrivals with a `cv` above 10 are drawn as poisson")
                    .label("as in the reference")
                    .hint("a `cv` of at most 10 is honoured");
                return Arrivals::Poisson;
            }
            Arrivals::Gamma { cv }
        }
        Process::Weibull => {
            let cv = fields.f64("cv", Bounds::between(0.01, 10.4)).unwrap_or(1.0);
            Arrivals::Weibull { cv }
        }
    }
}

/// Gaps as measured: shape and scale in microseconds.
fn read_gaps(arrival: &mut Fields, process: Option<Process>, cv: bool) -> Option<Arrivals> {
    arrival.require(&["shape", "scale"]);
    if cv {
        arrival
            .error("cv", "`cv` and `shape` with `scale` exclude each other")
            .label("the gaps are given twice");
    }
    let low = if matches!(process, Some(Process::Gamma)) { 0.01 } else { 0.1 };
    let shape = arrival.f64("shape", Bounds::between(low, 1e6));
    let scale_us = arrival.f64("scale", Bounds::between(1e-3, 1e13));
    let (shape, scale_us) = (shape?, scale_us?);
    Some(match process {
        Some(Process::Gamma) => Arrivals::GammaGaps { shape, scale_us },
        _ => Arrivals::WeibullGaps { shape, scale_us },
    })
}
