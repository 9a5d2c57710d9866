//! Values of a knob that no run can tell apart.
//!
//! - Autoscaling decides at whole intervals. How long a rule has to hold, and how long nothing
//!   is done after an order, counts from one decision to another: of two durations that end
//!   between the same decisions none is longer.
//! - A prompt is computed in chunks of at most what a step schedules. A limit of chunks that is
//!   no less is none at all, which is written 0.
//!
//! This is decided on candidates and not on the bundles made of them: proposers, budgets and
//! journals count candidates, and two bundles that turn out equal were both proposed and paid
//! for. It needs the template only, as nothing here depends on who arrives. Knobs that a required
//! relation names are left alone: which of two equal values is meant then decides whether the
//! candidate is allowed.

use super::candidate::{Candidate, KnobValue};
use super::relation::{Relation, Side};
use super::space::{Domain, Knob, SearchSpace, Unit};
use crate::config::{DAY, Node, Problems, read_span};

/// That values of a knob are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// The knob; one of whole numbers.
    pub knob: usize,
    /// Which values are.
    pub which: Which,
}

/// Which values of a knob are alike.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    /// Those above `n - 1` and up to `n` times this; 0 is like no other.
    Begun(Side),
    /// Those of at least this, and 0.
    OutOfReach(Side),
}

/// Whole numbers up to here are the same as floats.
const NUMBER_MAX: f64 = 1e15;
const INTERVAL: &str = "autoscaling.interval";
const COOLDOWNS: [&str; 2] = ["autoscaling.cooldown.up", "autoscaling.cooldown.down"];
const COOLDOWN_FROM: &str = "autoscaling.cooldown.from";
const CHUNK: &str = "batching.long_prefill_token_threshold";
const STEP_TOKENS: &str = "batching.max_scheduled_tokens";

impl Alike {
    /// The one value that stands for all that are like that of `candidate`: the template's own
    /// where it is among them.
    pub(super) fn representative(&self, space: &SearchSpace, candidate: &Candidate) -> KnobValue {
        let (knob, value) = (&space.knobs[self.knob], candidate.values()[self.knob]);
        let (Domain::Int { low, high, step, .. }, KnobValue::Int(count)) = (&knob.domain, value)
        else {
            return value;
        };
        let Some(number) = self.which.number(space, candidate) else { return value };
        let begun = |value: i64| (value + number - 1).div_euclid(number);
        let is_none = |value: i64| value == 0 || value >= number;
        let alike = |other: i64| match self.which {
            Which::Begun(_) => begun(other) == begun(count),
            Which::OutOfReach(_) => other == count || is_none(other) && is_none(count),
        };
        if let Some(own @ KnobValue::Int(start)) = knob.start
            && alike(start)
        {
            return own;
        }
        let on_grid = |steps: i64| low + steps.clamp(0, (high - low) / step) * step;
        KnobValue::Int(match self.which {
            Which::Begun(_) => on_grid((begun(count) * number - low).div_euclid(*step)),
            Which::OutOfReach(_) if !is_none(count) => count,
            Which::OutOfReach(_) if alike(*low) => *low,
            Which::OutOfReach(_) => on_grid((number - low + step - 1).div_euclid(*step)),
        })
    }
}

impl Which {
    /// What it counts by; `None` where that is not a number of at least 1.
    fn number(&self, space: &SearchSpace, candidate: &Candidate) -> Option<i64> {
        let (Self::Begun(side) | Self::OutOfReach(side)) = self;
        let number = side.value(space, candidate)?;
        (1.0..=NUMBER_MAX).contains(&number).then_some(number as i64)
    }
}

/// What is alike among the values of `knobs`, which turn `template` and keep `require`.
pub(super) fn read(template: &Node, knobs: &[Knob], require: &[Relation]) -> Vec<Alike> {
    let given = Given { template, knobs };
    let mut found = Vec::new();
    for (index, knob) in knobs.iter().enumerate() {
        let is_named = require.iter().any(|relation| {
            [&relation.left, &relation.right].into_iter().any(|side| names(side, index))
        });
        if is_named || !matches!(knob.domain, Domain::Int { low, .. } if low >= 0) {
            continue;
        }
        let lasts = knob.unit == Unit::Microseconds
            && (is_rule(&knob.path)
                || COOLDOWNS.contains(&knob.path.as_str()) && given.cools_from_decisions());
        let which = match knob.path.as_str() {
            CHUNK => given.count(STEP_TOKENS).map(Which::OutOfReach),
            _ if lasts => given.interval().map(Which::Begun),
            _ => None,
        };
        found.extend(which.map(|which| Alike { knob: index, which }));
    }
    found
}

fn names(side: &Side, index: usize) -> bool {
    matches!(side, Side::Knob { knob, .. } if *knob == index)
}

/// Whether `path` is how long a rule on a threshold has to hold.
fn is_rule(path: &str) -> bool {
    let rules = ["autoscaling.scale_up.", "autoscaling.scale_down."];
    let position = rules.iter().find_map(|rule| path.strip_prefix(rule)?.strip_suffix(".for"));
    position.is_some_and(|position| !position.contains('.'))
}

/// A template and the knobs that turn it.
struct Given<'a> {
    template: &'a Node,
    knobs: &'a [Knob],
}

impl<'a> Given<'a> {
    /// What every candidate has at `path`; `None` where a knob may change it or it is left out.
    fn fixed(&self, path: &str) -> Option<&'a Node> {
        let turns = |knob: &Knob| {
            path.strip_prefix(&knob.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if self.knobs.iter().any(turns) { None } else { self.template.get(path) }
    }

    /// The knob at `path`, where it always matters and counts `unit`.
    fn knob(&self, path: &str, unit: Unit) -> Option<Side> {
        let is_it = |knob: &Knob| {
            knob.path == path
                && knob.unit == unit
                && knob.when.is_empty()
                && matches!(knob.domain, Domain::Int { .. })
        };
        let knob = self.knobs.iter().position(is_it)?;
        Some(Side::Knob { factor: 1.0, knob })
    }

    /// Microseconds from one decision to the next.
    fn interval(&self) -> Option<Side> {
        self.knob(INTERVAL, Unit::Microseconds).or_else(|| {
            let node = self.fixed(INTERVAL)?;
            let span = read_span(node, "", INTERVAL, DAY, &mut Problems::new())?;
            Some(Side::Number(span.as_us() as f64))
        })
    }

    fn count(&self, path: &str) -> Option<Side> {
        self.knob(path, Unit::Plain).or_else(|| Some(Side::Number(self.fixed(path)?.as_f64()?)))
    }

    /// Whether cooldowns begin when an order is given, and not when an instance is ready.
    fn cools_from_decisions(&self) -> bool {
        let turned = self.knobs.iter().any(|knob| COOLDOWN_FROM.starts_with(&knob.path));
        let from = self.template.get(COOLDOWN_FROM);
        !turned && from.is_none_or(|from| from.as_text() == Some("decision"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::propose::descent::{STEP, stepped};
    use crate::search::space::tests::{knob, space};

    /// Whole numbers from `low` to `high` that are alike as `which` says.
    fn numbers((low, high, step): (i64, i64, i64), which: Which) -> SearchSpace {
        let mut space = space(vec![knob("a", Domain::Int { low, high, step, log: false })]);
        space.alike = vec![Alike { knob: 0, which }];
        space
    }

    fn forms(space: &SearchSpace, values: &[i64]) -> Vec<f64> {
        let form = |&value: &i64| Candidate::canonical(space, vec![KnobValue::Int(value)]);
        values.iter().filter_map(|value| form(value).number(0)).collect()
    }

    #[test]
    fn the_longest_of_those_that_end_together_stands_for_them() {
        let space = numbers((0, 50, 2), Which::Begun(Side::Number(15.0)));
        assert_eq!(
            forms(&space, &[0, 2, 14, 16, 30, 32, 46, 50]),
            [0.0, 14.0, 14.0, 30.0, 30.0, 44.0, 50.0, 50.0]
        );
    }

    #[test]
    fn the_templates_own_value_stands_for_those_like_it() {
        let mut space = numbers((0, 50, 1), Which::Begun(Side::Number(15.0)));
        space.knobs[0].start = Some(KnobValue::Int(20));
        assert_eq!(forms(&space, &[15, 16, 20, 30, 31]), [15.0, 20.0, 20.0, 20.0, 45.0]);
    }

    #[test]
    fn a_limit_out_of_reach_is_none() {
        let which = Which::OutOfReach(Side::Number(25.0));
        let space = numbers((0, 50, 1), which.clone());
        assert_eq!(forms(&space, &[0, 1, 24, 25, 50]), [0.0, 1.0, 24.0, 0.0, 0.0]);
        let space = numbers((10, 50, 10), which);
        assert_eq!(forms(&space, &[10, 20, 30, 50]), [10.0, 20.0, 30.0, 30.0]);
    }

    #[test]
    fn a_step_leads_to_another_candidate_where_there_is_one() {
        let space = numbers((0, 60, 1), Which::Begun(Side::Number(20.0)));
        let base = Candidate::canonical(&space, vec![KnobValue::Int(40)]);
        let step = |share| stepped(&space, &base, 0, share).and_then(|found| found.number(0));
        assert_eq!((step(-STEP), step(STEP)), (Some(20.0), Some(60.0)));
        let base = Candidate::canonical(&space, vec![KnobValue::Int(60)]);
        assert_eq!(stepped(&space, &base, 0, STEP), None);
    }
}
