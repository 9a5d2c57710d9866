//! A search space: which knobs may move where, what is wanted, and how long to look.

use super::alike::Alike;
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
    /// Values of knobs that no run can tell apart; the knobs are in no required relation.
    pub alike: Vec<Alike>,
    /// What is wanted.
    pub objective: Objective,
    /// What must hold.
    pub constraints: Vec<Constraint>,
    /// Whether one candidate is sought or a frontier.
    pub seek: Seek,
    /// Weights of the figure `fitness`, where it is used.
    pub fitness: Option<FitnessWeights>,
    /// Axes of the frontier; at least two distinct metrics, or none.
    pub pareto: Vec<MetricName>,
    /// Figures that tables show besides those that are wanted.
    pub show: Vec<MetricName>,
    /// Which realisations of the workload are met.
    pub seeds: Seeds,
    /// When to stop.
    pub budget: Budget,
    /// What a winner has to show.
    pub proof: Proof,
    /// Candidates proposed at once; at least 1. Belongs to the study, never to the machine.
    pub batch: usize,
}

/// What a search spends its evaluations on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seek {
    /// The best objective.
    #[default]
    Optimum,
    /// A frontier as wide as can be on the axes of the space.
    Frontier,
}

/// One degree of freedom.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Dotted path into the template.
    pub path: String,
    /// Where it may move.
    pub domain: Domain,
    /// What an integer of it counts.
    pub unit: Unit,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    #[default]
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
    /// Fresh seeds that a candidate winner meets at first; at least 2, for an interval.
    pub verify: u32,
}

/// What a winner has to show on fresh seeds, and what that may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proof {
    /// The chance, over studies, that a winner keeps its promises; in (0, 1).
    pub confidence: f64,
    /// Fresh seeds that a candidate winner meets at most, up to [`Seeds::FRESH_MAX`]; `None`:
    /// four times as many as at first.
    pub fresh_max: Option<u32>,
    /// Evaluations that the neighbours of the winner may cost on the seeds of the search; 0: none
    /// is tried.
    pub certificate: u32,
    /// Points of the frontier that may meet fresh seeds besides the winner and the finalists; 0:
    /// none does; `None`: all of them.
    pub frontier: Option<u32>,
}

impl Seek {
    /// Points of the frontier that meet fresh seeds where nothing is said about it: all where the
    /// frontier is what is sought, a few where it is exported beside the winner.
    pub const fn frontier_default(self) -> Option<u32> {
        match self {
            Self::Optimum => Some(6),
            Self::Frontier => None,
        }
    }
}

/// When a search stops: as soon as one of these is spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Candidates simulated in the search, without the fresh-seed runs of the winners.
    pub evaluations: u32,
    /// Wall time of the search phase of one process; `None`: no limit.
    pub wall: Option<Span>,
    /// Requests of all runs of the search; `None`: no limit.
    pub requests: Option<u64>,
    /// It goes on while one more evaluation is expected to make the objective better by this
    /// share of it, in (0, 1); `None`: as long as the budget lasts.
    pub gain: Option<f64>,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { base: 42, search: 3, verify: 10 }
    }
}

impl Default for Proof {
    fn default() -> Self {
        Self { confidence: 0.95, fresh_max: None, certificate: 20, frontier: Some(6) }
    }
}

impl Proof {
    /// The chance, over studies, that a winner does not keep its promises.
    pub fn error(&self) -> f64 {
        1.0 - self.confidence
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { evaluations: 60, wall: None, requests: None, gain: None }
    }
}

impl Seeds {
    /// The most seeds a candidate may meet in the search.
    pub const SEARCH_MAX: u32 = 1000;
    /// The most fresh seeds a candidate may meet.
    pub const FRESH_MAX: u32 = 1000;

    /// The seeds of the search.
    pub fn of_search(&self) -> Vec<u64> {
        (0..u64::from(self.search)).map(|index| self.base.wrapping_add(index)).collect()
    }

    /// The fresh seeds that a candidate winner meets at first.
    pub fn of_verification(&self) -> Vec<u64> {
        self.fresh(0, self.verify)
    }

    /// The first `count` seeds of block `round`, which neither the search nor another block meets;
    /// at most [`Seeds::FRESH_MAX`].
    pub fn fresh(&self, round: u32, count: u32) -> Vec<u64> {
        let before = u64::from(Self::SEARCH_MAX) + u64::from(round) * u64::from(Self::FRESH_MAX);
        let first = self.base.wrapping_add(before);
        (0..u64::from(count)).map(|index| first.wrapping_add(index)).collect()
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
            weights.complete(figures);
        }
    }
}

impl Domain {
    /// The number of values; `None` for floats.
    pub fn levels(&self) -> Option<u64> {
        match self {
            Self::Int { low, high, step, .. } => {
                Some(high.abs_diff(*low) / step.unsigned_abs() + 1)
            }
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
}

impl Knob {
    /// How `value` is written in tables, the journal and the policy.
    pub fn label(&self, value: KnobValue) -> String {
        match (value, &self.domain) {
            (KnobValue::Choice(index), Domain::Choice { labels }) => labels[index].clone(),
            (KnobValue::Choice(index), _) => index.to_string(),
            (KnobValue::Int(value), _) if self.unit == Unit::Microseconds => duration(value),
            (KnobValue::Int(value), _) => value.to_string(),
            (KnobValue::Float(value), _) => value.to_string(),
        }
    }
}

/// Microseconds in the largest unit that keeps them whole.
pub(super) fn duration(microseconds: i64) -> String {
    match microseconds {
        0 => "0s".to_owned(),
        us if us % 1_000_000 == 0 => format!("{}s", us / 1_000_000),
        us if us % 1_000 == 0 => format!("{}ms", us / 1_000),
        us => format!("{us}us"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::search::alike::Which;
    use crate::search::objective::{Bound, Direction};
    use crate::search::relation::{Relation, Side, Sign};
    use proptest::prelude::*;

    /// An unconditional knob that rests at its first value.
    pub fn knob(path: &str, domain: Domain) -> Knob {
        let rest = match &domain {
            Domain::Int { low, .. } => KnobValue::Int(*low),
            Domain::Float { low, .. } => KnobValue::Float(*low),
            Domain::Choice { .. } => KnobValue::Choice(0),
        };
        let counts_instances = path.ends_with("instances");
        let unit = Unit::Plain;
        Knob {
            path: path.to_owned(),
            domain,
            unit,
            when: vec![],
            rest,
            start: None,
            counts_instances,
        }
    }

    pub fn int(low: i64, high: i64) -> Domain {
        Domain::Int { low, high, step: 1, log: false }
    }

    pub fn float(low: f64, high: f64, log: bool) -> Domain {
        Domain::Float { low, high, log }
    }

    pub fn choice(labels: &[&str]) -> Domain {
        Domain::Choice { labels: labels.iter().map(|&label| label.to_owned()).collect() }
    }

    /// Cheapest fleet under a TTFT promise, over `knobs`.
    pub fn space(knobs: Vec<Knob>) -> SearchSpace {
        let metric = |name| {
            MetricName::parse(name, crate::search::scenarios::Scope::default()).expect("a metric")
        };
        SearchSpace {
            name: "test".to_owned(),
            knobs,
            require: vec![],
            scale_groups: vec![],
            alike: vec![],
            objective: Objective {
                direction: Direction::Minimize,
                metric: metric("cost_per_hour"),
            },
            constraints: vec![Constraint {
                metric: metric("ttft_p99_ms"),
                bound: Bound::AtMost,
                limit: 500.0,
                share: None,
            }],
            seek: Seek::Optimum,
            fitness: None,
            pareto: vec![metric("ttft_p99_ms"), metric("cost_per_hour")],
            show: vec![],
            seeds: Seeds::default(),
            budget: Budget::default(),
            proof: Proof::default(),
            batch: 4,
        }
    }

    /// Instances, a router with two weights that matter only when it is weighted, a bucket that
    /// must be larger than its refill, and a batch limit.
    pub fn serving_space() -> SearchSpace {
        let weighted = Condition { knob: 1, values: vec![KnobValue::Choice(1)] };
        let bucket = Condition { knob: 4, values: vec![KnobValue::Choice(1)] };
        let mut knobs = vec![
            knob("pools.h100.instances", int(4, 32)),
            knob("routing.policy", choice(&["round-robin", "weighted"])),
            knob("routing.scorers.queue-depth.weight", float(0.1, 10.0, true)),
            knob("routing.scorers.kv-utilization.weight", float(0.1, 10.0, true)),
            knob("admission.policy", choice(&["always-admit", "token-bucket"])),
            knob("admission.capacity", float(1e4, 1e6, true)),
            knob("admission.refill", float(1e4, 1e6, true)),
            knob(
                "batching.max_scheduled_tokens",
                Domain::Int { low: 1024, high: 8192, step: 256, log: true },
            ),
        ];
        for index in [2, 3] {
            knobs[index].when = vec![weighted.clone()];
        }
        for index in [5, 6] {
            knobs[index].when = vec![bucket.clone()];
        }
        let mut space = space(knobs);
        space.scale_groups = vec![vec![2, 3]];
        space.require = vec![Relation {
            left: Side::Knob { factor: 1.0, knob: 6 },
            sign: Sign::AtMost,
            right: Side::Knob { factor: 1.0, knob: 5 },
        }];
        space
    }

    fn any_domain() -> impl Strategy<Value = Domain> {
        let ints = (1_i64..50, 1_i64..8, 1_i64..2000, any::<bool>()).prop_map(
            |(low, step, count, log)| Domain::Int { low, high: low + step * count, step, log },
        );
        let floats = (1e-3_f64..1e3, 1.001_f64..1e4, any::<bool>())
            .prop_map(|(low, ratio, log)| Domain::Float { low, high: low * ratio, log });
        let choices = (2_usize..6).prop_map(|count| Domain::Choice {
            labels: (0..count).map(|index| format!("option {index}")).collect(),
        });
        prop_oneof![ints, floats, choices]
    }

    /// Spaces of one to seven knobs, the later ones possibly conditional on the first, and
    /// floats possibly in one scale group and whole numbers possibly alike.
    pub fn any_space() -> impl Strategy<Value = SearchSpace> {
        let knobs = prop::collection::vec((any_domain(), any::<bool>()), 0..7);
        (knobs, any::<bool>(), 0..3, 1..300_i32).prop_map(|(domains, grouped, kind, number)| {
            let mut knobs = vec![knob("switch", choice(&["off", "on"]))];
            for (index, (domain, conditional)) in domains.into_iter().enumerate() {
                let mut knob = knob(&format!("knob{index}"), domain);
                if conditional {
                    knob.when = vec![Condition { knob: 0, values: vec![KnobValue::Choice(1)] }];
                }
                knobs.push(knob);
            }
            let mut space = space(knobs);
            let is_float =
                |index: &usize| matches!(space.knobs[*index].domain, Domain::Float { .. });
            let group: Vec<usize> = (0..space.knobs.len()).filter(is_float).collect();
            if grouped && group.len() > 1 {
                space.scale_groups = vec![group];
            }
            let which = |number| match kind {
                1 => Some(Which::Begun(number)),
                2 => Some(Which::OutOfReach(number)),
                _ => None,
            };
            let counts = |&knob: &usize| matches!(space.knobs[knob].domain, Domain::Int { .. });
            space.alike = (0..space.knobs.len())
                .filter(counts)
                .filter_map(|knob| {
                    let which = which(Side::Number(f64::from(number)))?;
                    Some(Alike { knob, which })
                })
                .collect();
            space
        })
    }

    #[test]
    fn search_and_blocks_of_fresh_seeds_share_no_seed() {
        let seeds = Seeds { base: u64::MAX - 2, search: Seeds::SEARCH_MAX, verify: 50 };
        let mut met = seeds.of_search();
        for round in 0..3 {
            met.extend(seeds.fresh(round, Seeds::FRESH_MAX));
        }
        assert_eq!(met.iter().collect::<std::collections::BTreeSet<_>>().len(), 4000);
        assert_eq!(seeds.of_verification(), seeds.fresh(0, 50));
    }

    #[test]
    fn sizes_multiply_and_floats_are_countless() {
        let grid = space(vec![knob("a", int(4, 32)), knob("b", choice(&["x", "y"]))]);
        assert_eq!(grid.size(), Some(58));
        assert_eq!(serving_space().size(), None);
    }

    #[test]
    fn durations_are_written_in_the_largest_whole_unit() {
        assert_eq!(duration(1_500_000), "1500ms");
        assert_eq!(duration(2_000_000), "2s");
        assert_eq!(duration(17), "17us");
        assert_eq!(duration(0), "0s");
    }
}
