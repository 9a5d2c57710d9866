//! The problems on which searches are compared.
//!
//! The synthetic ones are closed-form models of serving, of the kind that queueing theory
//! suggests: latency grows as one over what is left of the capacity, cost with the mean number of
//! instances, and knobs act on each other. They are written down before any optimizer met them,
//! and are no optimizer's friend: optima lie inside the ranges, some knobs hardly matter, noise
//! grows with load and is partly common to all candidates under one seed.

mod auto14;
mod disagg24;
mod fleet_day;
mod grid4;
mod knobs;
mod simulated;
mod static7;

use blis_opt::base::{Rng, Stream};
use blis_opt::search::candidate::fnv1a;
use blis_opt::search::{
    Candidate, Evaluator, Figures, Job, KnobValue, Run, SearchSpace, Sink, Stop,
};

#[allow(unused_imports, reason = "the bench uses some, the tests of problems others")]
pub use simulated::{
    KEPT, SIMULATED, SWEPT, Simulated, Swept, TRUTH_SEEDS, every_candidate, stored_lines,
    write_row, write_table,
};

/// What a candidate is in truth.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// The objective's expectation, to be made small.
    pub cost: f64,
    /// Whether every constraint holds in expectation, and the queue does not grow.
    pub feasible: bool,
}

/// The best candidate that is known.
#[derive(Clone, Copy, Debug)]
pub struct Best {
    /// What it costs in truth.
    pub cost: f64,
    /// Its knobs as JSON; those left out rest.
    pub knobs: &'static str,
    /// How it was found.
    pub found: &'static str,
}

/// A search space whose candidates' truth is known.
pub trait Problem: Evaluator {
    /// The question.
    fn space(&self) -> &SearchSpace;

    /// What `candidate` is in truth.
    fn truth(&self, candidate: &Candidate) -> Truth;

    /// The seeds behind the truth, where it costs as many simulations; none where it is cheap.
    fn truth_seeds(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether the truth costs many simulations.
    fn truth_is_dear(&self) -> bool {
        !self.truth_seeds().is_empty()
    }

    /// The best that is known.
    fn best(&self) -> Option<Best>;
}

/// A figure's expectation and how it scatters.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Its name.
    pub figure: &'static str,
    /// Its mean over seeds.
    pub mean: f64,
    /// The standard deviation of its logarithm; of a share, that of the logarithm of what is
    /// missing to 1.
    pub scatter: f64,
    /// Whether it is a share close to 1.
    pub share: bool,
}

/// What a model says about a candidate.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Every figure.
    pub figures: Vec<Expected>,
    /// Whether the queue stops growing.
    pub stable: bool,
}

/// Reads a candidate's knobs by their place, inactive ones as their resting values.
#[derive(Clone, Copy, Debug)]
pub struct Knobs<'a>(&'a [KnobValue]);

/// A problem in closed form.
pub struct Synthetic {
    space: SearchSpace,
    model: fn(Knobs) -> Told,
    best: Option<Best>,
    /// Tells the problems' noise apart.
    salt: u64,
}

/// The part of the noise's variance that all candidates share under one seed.
const COMMON: f64 = 0.6;

/// The problem called `name`.
///
/// # Panics
/// Where there is none.
pub fn named(name: &str) -> Box<dyn Problem> {
    if let Some(problem) = synthetic(name) {
        return Box::new(problem);
    }
    match name {
        name if SWEPT.contains(&name) => Box::new(Swept::open(name)),
        name if SIMULATED.contains(&name) => Box::new(Simulated::open(name)),
        _ => panic!("no problem `{name}`; there are {SYNTHETIC:?}, {SWEPT:?} and {SIMULATED:?}"),
    }
}

/// The names of the synthetic problems.
pub const SYNTHETIC: [&str; 4] = ["static7", "auto14", "disagg24", "grid4"];

/// The synthetic problem called `name`.
pub fn synthetic(name: &str) -> Option<Synthetic> {
    Some(match name {
        "static7" => static7::problem(),
        "auto14" => auto14::problem(),
        "disagg24" => disagg24::problem(),
        "grid4" => grid4::problem(),
        _ => return None,
    })
}

impl Knobs<'_> {
    /// The number behind knob `index`.
    pub fn number(&self, index: usize) -> f64 {
        match self.0[index] {
            KnobValue::Int(value) => value as f64,
            KnobValue::Float(value) => value,
            KnobValue::Choice(choice) => choice as f64,
        }
    }

    /// Which option knob `index` has.
    pub fn choice(&self, index: usize) -> usize {
        match self.0[index] {
            KnobValue::Choice(choice) => choice,
            _ => unreachable!("knob {index} is no choice"),
        }
    }
}

impl Told {
    /// Adds a figure that scatters by `scatter`.
    pub fn figure(&mut self, figure: &'static str, mean: f64, scatter: f64) {
        self.figures.push(Expected { figure, mean, scatter, share: false });
    }

    /// Adds a share close to 1.
    pub fn share(&mut self, figure: &'static str, mean: f64, scatter: f64) {
        self.figures.push(Expected { figure, mean, scatter, share: true });
    }

    fn mean(&self, figure: &str) -> Option<f64> {
        self.figures.iter().find(|expected| expected.figure == figure).map(|told| told.mean)
    }
}

impl Expected {
    /// What one realisation shows, given a standard normal number.
    fn realised(&self, normal: f64) -> f64 {
        // The mean of the factor is 1, so that the mean over seeds is the truth.
        let factor = (self.scatter * normal - 0.5 * self.scatter * self.scatter).exp();
        if self.share { 1.0 - ((1.0 - self.mean) * factor).min(1.0) } else { self.mean * factor }
    }
}

impl Synthetic {
    fn run(&self, job: &Job) -> Run {
        let told = (self.model)(Knobs(job.candidate.values()));
        let mut common = Rng::new(job.seed ^ self.salt, Stream::Arrivals, 0);
        let hash = fnv1a(job.candidate.to_json(&self.space).to_string().as_bytes());
        let mut own = Rng::new(job.seed ^ self.salt, Stream::Arrivals, hash | 1);
        let mut figures = Figures::default();
        for expected in &told.figures {
            let normal = COMMON.sqrt() * common.normal() + (1.0 - COMMON).sqrt() * own.normal();
            figures.set(expected.figure, expected.realised(normal));
        }
        Run::new(job.seed, told.stable, figures)
    }
}

impl Evaluator for Synthetic {
    fn version(&self) -> u64 {
        self.salt
    }

    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        for (index, job) in jobs.iter().enumerate() {
            if stop() {
                return;
            }
            done(index, self.run(job));
        }
    }
}

impl Problem for Synthetic {
    fn space(&self) -> &SearchSpace {
        &self.space
    }

    fn truth(&self, candidate: &Candidate) -> Truth {
        let told = (self.model)(Knobs(candidate.values()));
        let objective = &self.space.objective;
        let cost = told.mean(objective.metric.as_str()).expect("models tell the objective");
        let holds = self.space.constraints.iter().all(|constraint| {
            told.mean(constraint.metric.as_str()).is_some_and(|mean| constraint.holds(mean))
        });
        Truth { cost: objective.to_minimize(cost), feasible: told.stable && holds }
    }

    fn best(&self) -> Option<Best> {
        self.best
    }
}
