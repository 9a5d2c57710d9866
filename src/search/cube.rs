//! Between candidates and the unit cube: the one place that knows about scales.
//!
//! One coordinate per knob. Every value of a discrete knob owns an equal share of its axis (on
//! the knob's own scale), and encodes to a point well inside that share, so that decoding what
//! was encoded gives the candidate back.

use super::candidate::{Candidate, KnobValue};
use super::space::{Domain, SearchSpace};

/// The point of `candidate` in the unit cube, one coordinate per knob.
pub fn encode(space: &SearchSpace, candidate: &Candidate) -> Vec<f64> {
    let pairs = space.knobs.iter().zip(candidate.values());
    pairs.map(|(knob, &value)| coordinate(&knob.domain, value)).collect()
}

/// The canonical candidate at `point`; coordinates outside [0, 1] count as the nearer end, and a
/// coordinate that is not a number as the middle.
pub fn decode(space: &SearchSpace, point: &[f64]) -> Candidate {
    let pairs = space.knobs.iter().zip(point);
    let values = pairs.map(|(knob, &coordinate)| value_at(&knob.domain, coordinate)).collect();
    Candidate::canonical(space, values)
}

/// Where `value` lies on the axis of `domain`.
pub fn coordinate(domain: &Domain, value: KnobValue) -> f64 {
    match (domain, value) {
        (Domain::Int { low, high, step, log }, KnobValue::Int(value)) => {
            let (first, last) = edges(*low, *high, *step, *log);
            share(first, last, value as f64, *log)
        }
        (Domain::Float { low, high, log }, KnobValue::Float(value)) => {
            share(*low, *high, value, *log)
        }
        (Domain::Choice { labels }, KnobValue::Choice(index)) => {
            (index as f64 + 0.5) / labels.len() as f64
        }
        _ => 0.5,
    }
}

/// The value of `domain` at `coordinate`.
pub fn value_at(domain: &Domain, coordinate: f64) -> KnobValue {
    let coordinate = if coordinate.is_nan() { 0.5 } else { coordinate.clamp(0.0, 1.0) };
    match domain {
        Domain::Int { low, high, step, log } => {
            let (first, last) = edges(*low, *high, *step, *log);
            let value = position(first, last, coordinate, *log);
            let steps_max = (high - low) / step;
            let steps = ((value - *low as f64) / *step as f64).round() as i64;
            KnobValue::Int(low + steps.clamp(0, steps_max) * step)
        }
        Domain::Float { low, high, log } => {
            KnobValue::Float(position(*low, *high, coordinate, *log).clamp(*low, *high))
        }
        Domain::Choice { labels } => {
            let index = (coordinate * labels.len() as f64) as usize;
            KnobValue::Choice(index.min(labels.len() - 1))
        }
    }
}

/// The outer ends of the first and the last value's shares.
fn edges(low: i64, high: i64, step: i64, log: bool) -> (f64, f64) {
    let half = step as f64 / 2.0;
    let first = low as f64 - half;
    // On a log scale the first value's share must stay above zero.
    let first = if log { first.max(low as f64 / 2.0) } else { first };
    (first, high as f64 + half)
}

fn share(low: f64, high: f64, value: f64, log: bool) -> f64 {
    if log { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) }
}

fn position(low: f64, high: f64, share: f64, log: bool) -> f64 {
    if log { low * (high / low).powf(share) } else { low + (high - low) * share }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::any_space;
    use proptest::prelude::*;

    #[test]
    fn a_wide_count_has_its_middle_at_the_geometric_mean() {
        let domain = Domain::Int { low: 4, high: 1024, step: 1, log: true };
        let KnobValue::Int(middle) = value_at(&domain, 0.5) else { panic!("an integer") };
        assert!((56..=72).contains(&middle), "{middle}");
    }

    #[test]
    fn the_ends_of_the_axis_are_the_ends_of_the_domain() {
        let domain = Domain::Int { low: 10, high: 50, step: 20, log: false };
        assert_eq!(value_at(&domain, -1.0), KnobValue::Int(10));
        assert_eq!(value_at(&domain, 0.5), KnobValue::Int(30));
        assert_eq!(value_at(&domain, 2.0), KnobValue::Int(50));
        let domain = Domain::Choice { labels: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(value_at(&domain, 1.0), KnobValue::Choice(1));
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_it_back(
            space in any_space(),
            seed in prop::collection::vec(-0.1_f64..1.1, 8),
        ) {
            let candidate = decode(&space, &seed[..space.knobs.len()]);
            for (knob, &value) in space.knobs.iter().zip(candidate.values()) {
                prop_assert!(knob.domain.contains(value), "{value:?} in {:?}", knob.domain);
            }
            let again = decode(&space, &encode(&space, &candidate));
            prop_assert_eq!(&again, &candidate);
            prop_assert_eq!(again.hash(), candidate.hash());
            let json = candidate.to_json(&space);
            prop_assert_eq!(Candidate::from_json(&space, &json), Ok(candidate));
        }
    }
}
