//! A search space: which knobs may move where, what is wanted, and how long to look.

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, KnobValue};
use super::metric::{Figures, MetricName};
use super::objective::{Constraint, FitnessWeights, Objective};
use super::relation::Relation;
use crate::base::Span;

/// The question of a study, as plain data: everything a proposer may know.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    /// Names the study and its folder.
    pub name: String,
    /// What may move; at least one, paths distinct.
    pub knobs: Vec<Knob>,
    /// Relations between knobs; a candidate that breaks one is never simulated.
    pub require: Vec<Relation>,
    /// Knobs that matter only up to a common factor, by index (the weights of scorers).
    pub scale_groups: Vec<Vec<usize>>,
    /// What is wanted.
    pub objective: Objective,
    /// What must hold.
    pub constraints: Vec<Constraint>,
    /// Weights of the figure `fitness`, where it is used.
    pub fitness: Option<FitnessWeights>,
    /// Axes of the frontier; at least two distinct metrics, or none.
    pub pareto: Vec<MetricName>,
    /// Which realisations of the workload are met.
    pub seeds: Seeds,
    /// When to stop.
    pub budget: Budget,
    /// Candidates proposed at once; at least 1. Belongs to the study, never to the machine.
    pub batch: usize,
}

/// One degree of freedom.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Dotted path into the template.
    pub path: String,
    /// Where it may move.
    pub domain: Domain,
    /// All must hold for the knob to matter.
    pub when: Vec<Condition>,
    /// Its value while it does not matter; in the domain.
    pub rest: KnobValue,
    /// The template's own value, where it lies in the domain.
    pub start: Option<KnobValue>,
    /// Whether it counts instances: more of them cost more and nearly always serve better.
    pub counts_instances: bool,
}

/// Where a knob may move.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// `low`, `low + step`, ... up to `high`; log: equal ratios are equal steps (low above 0).
    Int {
        /// The smallest value.
        low: i64,
        /// The largest value, on the grid of steps.
        high: i64,
        /// The distance between neighbours; at least 1.
        step: i64,
        /// Whether the scale is logarithmic.
        log: bool,
        /// What the integer counts.
        unit: Unit,
    },
    /// Any number between, to six significant digits.
    Float {
        /// The smallest value.
        low: f64,
        /// The largest value; above `low`.
        high: f64,
        /// Whether the scale is logarithmic (low above 0).
        log: bool,
    },
    /// One of these, without order; at least two, distinct.
    Choice {
        /// How each is called in tables and the journal.
        labels: Vec<String>,
    },
}

/// What an integer knob counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Plain,
    /// Microseconds: the knob is a duration.
    Microseconds,
}

/// A knob matters only where another has one of these values.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Index of the other knob.
    pub knob: usize,
    /// The values that switch this one on.
    pub values: Vec<KnobValue>,
}

/// Which realisations of the workload a study meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first seed of the search; also seeds the proposals.
    pub base: u64,
    /// Seeds per candidate in the search; 1 to [`Seeds::SEARCH_MAX`].
    pub search: u32,
    /// Fresh seeds per candidate winner; at least 2, for an interval.
    pub verify: u32,
}

/// When a search stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Candidates simulated in the search, without the fresh-seed runs of the winners.
    pub evaluations: u32,
    /// Wall time of the search phase of one process; `None`: no limit.
    pub wall: Option<Span>,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { base: 42, search: 3, verify: 10 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { evaluations: 60, wall: None }
    }
}

impl Seeds {
    /// The most seeds a candidate may meet in the search.
    pub const SEARCH_MAX: u32 = 1000;

    /// The seeds of the search.
    pub fn of_search(&self) -> Vec<u64> {
        (0..u64::from(self.search)).map(|index| self.base.wrapping_add(index)).collect()
    }

    /// Seeds that the search never meets.
    pub fn of_verification(&self) -> Vec<u64> {
        let first = self.base.wrapping_add(u64::from(Self::SEARCH_MAX));
        (0..u64::from(self.verify)).map(|index| first.wrapping_add(index)).collect()
    }
}

impl SearchSpace {
    /// The index of the knob at `path`.
    pub fn knob(&self, path: &str) -> Option<usize> {
        self.knobs.iter().position(|knob| knob.path == path)
    }

    /// The candidate made of the template's own values, where they all lie in the space.
    pub fn start(&self) -> Option<Candidate> {
        let values: Option<Vec<KnobValue>> = self.knobs.iter().map(|knob| knob.start).collect();
        let candidate = Candidate::canonical(self, values?);
        self.allows(&candidate).then_some(candidate)
    }

    /// Whether every required relation holds.
    pub fn allows(&self, candidate: &Candidate) -> bool {
        self.require.iter().all(|relation| relation.holds(self, candidate))
    }

    /// The indexes of the knobs that count instances.
    pub fn instance_knobs(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.knobs.len()).filter(|&index| self.knobs[index].counts_instances)
    }

    /// How many candidates there are at most, before relations and canonical forms; `None` where
    /// a float makes them countless or there are more than 10^9.
    pub fn size(&self) -> Option<u64> {
        self.knobs.iter().try_fold(1_u64, |size, knob| {
            let size = size.checked_mul(knob.domain.levels()?)?;
            (size <= 1_000_000_000).then_some(size)
        })
    }

    /// Adds the figures that only the space can tell (the fitness under its weights).
    pub fn complete(&self, figures: &mut Figures) {
        if let Some(weights) = &self.fitness {
            figures.set("fitness", weights.fitness(figures));
        }
    }
}

impl Domain {
    /// The number of values; `None` for floats.
    pub fn levels(&self) -> Option<u64> {
        match self {
            Self::Int { low, high, step, .. } => Some(high.abs_diff(*low) / step.unsigned_abs() + 1),
            Self::Float { .. } => None,
            Self::Choice { labels } => Some(labels.len() as u64),
        }
    }

    /// Whether `value` is one of this domain's.
    pub fn contains(&self, value: KnobValue) -> bool {
        match (self, value) {
            (Self::Int { low, high, step, .. }, KnobValue::Int(value)) => {
                (*low..=*high).contains(&value) && (value - low) % step == 0
            }
            (Self::Float { low, high, .. }, KnobValue::Float(value)) => {
                (*low..=*high).contains(&value)
            }
            (Self::Choice { labels }, KnobValue::Choice(index)) => index < labels.len(),
            _ => false,
        }
    }

    /// How `value` is written for people.
    pub fn label(&self, value: KnobValue) -> String {
        match (self, value) {
            (Self::Choice { labels }, KnobValue::Choice(index)) => labels[index].clone(),
            (Self::Int { unit: Unit::Microseconds, .. }, KnobValue::Int(value)) => {
                duration_label(value)
            }
            (_, KnobValue::Int(value)) => value.to_string(),
            (_, KnobValue::Float(value)) => value.to_string(),
            (_, KnobValue::Choice(index)) => index.to_string(),
        }
    }
}

/// Microseconds in the largest unit that keeps them whole.
pub(super) fn duration_label(microseconds: i64) -> String {
    match microseconds {
        0 => "0s".to_owned(),
        us if us % 1_000_000 == 0 => format!("{}s", us / 1_000_000),
        us if us % 1_000 == 0 => format!("{}ms", us / 1_000),
        us => format!("{us}us"),
    }
}

/// A number that JSON can always carry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finite(f64);

impl Finite {
    /// `value`, where it is finite.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}
