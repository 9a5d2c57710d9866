//! A candidate: one value per knob, in canonical form.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::space::{Domain, SearchSpace};

/// The value of one knob.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum KnobValue {
    /// Of an integer knob.
    Int(i64),
    /// Of a float knob; finite.
    Float(f64),
    /// Of a choice: which one.
    Choice(usize),
}

impl KnobValue {
    /// Its bits: equal values of one knob have equal ones.
    pub fn bits(self) -> u64 {
        match self {
            Self::Int(value) => value.cast_unsigned(),
            // Both zeros are one value.
            Self::Float(value) => (value + 0.0).to_bits(),
            Self::Choice(index) => index as u64,
        }
    }
}

/// One point of a search space. Two candidates that mean the same policy are equal: values that
/// do not matter rest, and values that matter up to a factor are scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    values: Vec<KnobValue>,
}

impl Candidate {
    /// The canonical form of `values`, one per knob and each in its domain: inactive knobs rest,
    /// floats have six significant digits, each group that matters only up to a factor is scaled
    /// up until its first knob meets its upper bound, and one value stands for all that are
    /// [`Alike`](super::alike::Alike).
    pub fn canonical(space: &SearchSpace, values: Vec<KnobValue>) -> Self {
        let mut candidate = Self { values };
        for index in 0..space.knobs.len() {
            let rounded = candidate.rounded(space, index);
            candidate.values[index] = rounded;
        }
        // A condition may name a knob that another one switches off: decide on the values as
        // given, then let all that is off rest.
        let active: Vec<bool> =
            (0..space.knobs.len()).map(|index| candidate.is_active(space, index)).collect();
        for (index, knob) in space.knobs.iter().enumerate() {
            if !active[index] {
                candidate.values[index] = knob.rest;
            }
        }
        for group in &space.scale_groups {
            if group.iter().all(|&index| active[index]) {
                candidate.scale(space, group);
            }
        }
        for alike in space.alike.iter().filter(|alike| active[alike.knob]) {
            let value = alike.representative(space, &candidate);
            candidate.values[alike.knob] = value;
        }
        candidate
    }

    /// The value of every knob.
    pub fn values(&self) -> &[KnobValue] {
        &self.values
    }

    /// The same candidate with another value for knob `index`, canonical again.
    #[must_use]
    pub fn with(&self, space: &SearchSpace, index: usize, value: KnobValue) -> Self {
        let mut values = self.values.clone();
        values[index] = value;
        Self::canonical(space, values)
    }

    /// Whether knob `index` matters: all its conditions hold, on knobs that matter themselves.
    pub fn is_active(&self, space: &SearchSpace, index: usize) -> bool {
        space.knobs[index].when.iter().all(|condition| {
            condition.values.contains(&self.values[condition.knob])
                && self.is_active(space, condition.knob)
        })
    }

    /// The number behind knob `index`, where it has one.
    pub fn number(&self, index: usize) -> Option<f64> {
        match self.values[index] {
            KnobValue::Int(value) => Some(value as f64),
            KnobValue::Float(value) => Some(value),
            KnobValue::Choice(_) => None,
        }
    }

    /// Every active knob with its value, for people.
    pub fn labels(&self, space: &SearchSpace) -> Vec<(String, String)> {
        (0..space.knobs.len())
            .filter(|&index| self.is_active(space, index))
            .map(|index| {
                let knob = &space.knobs[index];
                (knob.path.clone(), knob.label(self.values[index]))
            })
            .collect()
    }

    /// The active knobs as a JSON object from path to value; a choice by its label.
    pub fn to_json(&self, space: &SearchSpace) -> Json {
        let mut object = Map::new();
        for (index, knob) in space.knobs.iter().enumerate() {
            if !self.is_active(space, index) {
                continue;
            }
            let value = match self.values[index] {
                KnobValue::Int(value) => Json::from(value),
                KnobValue::Float(value) => Json::from(value),
                KnobValue::Choice(_) => Json::from(knob.label(self.values[index])),
            };
            object.insert(knob.path.clone(), value);
        }
        Json::Object(object)
    }

    /// Reads what [`Candidate::to_json`] wrote. Knobs that are left out rest.
    ///
    /// # Errors
    /// A sentence about the first value that is not in its knob's domain.
    pub fn from_json(space: &SearchSpace, json: &Json) -> Result<Self, String> {
        let object = json.as_object().ok_or("a candidate is an object from path to value")?;
        if let Some(path) = object.keys().find(|path| space.knob(path).is_none()) {
            return Err(format!("no knob `{path}` in this search space"));
        }
        let mut values = Vec::with_capacity(space.knobs.len());
        for knob in &space.knobs {
            values.push(match object.get(&knob.path) {
                None => knob.rest,
                Some(json) => value_of(&knob.domain, json)
                    .ok_or_else(|| format!("`{}` cannot be {json}", knob.path))?,
            });
        }
        Ok(Self::canonical(space, values))
    }

    /// A stable 64-bit name: equal candidates of one space have equal names, on any machine.
    pub fn hash(&self) -> u64 {
        let bytes: Vec<u8> =
            self.values.iter().flat_map(|value| value.bits().to_le_bytes()).collect();
        fnv1a(&bytes)
    }

    fn rounded(&self, space: &SearchSpace, index: usize) -> KnobValue {
        match (&space.knobs[index].domain, self.values[index]) {
            (Domain::Float { low, high, .. }, KnobValue::Float(value)) => {
                // The bounds are kept as written, however long.
                let on_bound = value <= *low || value >= *high;
                let rounded = if on_bound { value } else { six_digits(value) };
                KnobValue::Float(rounded.clamp(*low, *high))
            }
            (_, value) => value,
        }
    }

    fn scale(&mut self, space: &SearchSpace, group: &[usize]) {
        let room = |values: &[KnobValue], index: usize| match (
            &space.knobs[index].domain,
            values[index],
        ) {
            (Domain::Float { high, .. }, KnobValue::Float(value)) if value > 0.0 => high / value,
            _ => f64::INFINITY,
        };
        let factor =
            group.iter().map(|&index| room(&self.values, index)).fold(f64::INFINITY, f64::min);
        if factor <= 1.0 || !factor.is_finite() {
            return;
        }
        for &index in group {
            let Domain::Float { low, high, .. } = space.knobs[index].domain else { continue };
            let KnobValue::Float(value) = self.values[index] else { continue };
            let meets_bound = high / value <= factor;
            let scaled = if meets_bound { high } else { six_digits(value * factor) };
            self.values[index] = KnobValue::Float(scaled.clamp(low, high));
        }
    }
}

fn value_of(domain: &Domain, json: &Json) -> Option<KnobValue> {
    let value = match domain {
        Domain::Int { .. } => KnobValue::Int(json.as_i64()?),
        Domain::Float { .. } => KnobValue::Float(json.as_f64()?),
        Domain::Choice { labels } => {
            let label = json.as_str()?;
            KnobValue::Choice(labels.iter().position(|known| known == label)?)
        }
    };
    domain.contains(value).then_some(value)
}

/// `value` rounded to six significant decimal digits: the number that those digits read as.
pub(super) fn six_digits(value: f64) -> f64 {
    let size = value.abs();
    if !(1e-9..1e15).contains(&size) {
        return format!("{value:.5e}").parse().unwrap_or(value);
    }
    // Digits and powers of ten are exact here, so that only the last step rounds, as reading does.
    let mut power = 1.0;
    if size < 1e5 {
        while size * power < 1e5 {
            power *= 10.0;
        }
        (value * power).round() / power
    } else {
        while size / power >= 1e6 {
            power *= 10.0;
        }
        (value / power).round() * power
    }
}

/// FNV-1a, 64 bit: small, stable, and good enough to tell texts apart.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::serving_space;
    use proptest::prelude::*;

    fn candidate(router: usize, depth: f64, kv: f64) -> Candidate {
        let values = vec![
            KnobValue::Int(13),
            KnobValue::Choice(router),
            KnobValue::Float(depth),
            KnobValue::Float(kv),
            KnobValue::Choice(0),
            KnobValue::Float(2e5),
            KnobValue::Float(1e5),
            KnobValue::Int(1024),
        ];
        Candidate::canonical(&serving_space(), values)
    }

    #[test]
    fn knobs_that_do_not_matter_make_no_difference() {
        assert_eq!(candidate(0, 1.0, 2.0), candidate(0, 3.0, 0.5));
        assert_ne!(candidate(1, 1.0, 2.0), candidate(1, 3.0, 0.5));
    }

    #[test]
    fn weights_matter_up_to_a_factor_only() {
        assert_eq!(candidate(1, 1.0, 2.0), candidate(1, 2.0, 4.0));
        assert_eq!(candidate(1, 1.0, 2.0).hash(), candidate(1, 0.5, 1.0).hash());
        assert_eq!(candidate(1, 1.0, 2.0).values()[3], KnobValue::Float(10.0));
    }

    #[test]
    fn the_canonical_form_is_its_own_canonical_form() {
        let space = serving_space();
        let once = candidate(1, 0.123_456_789, 3.3);
        assert_eq!(Candidate::canonical(&space, once.values().to_vec()), once);
    }

    #[test]
    fn json_names_active_knobs_only_and_reads_back() {
        let space = serving_space();
        let json = candidate(0, 1.0, 2.0).to_json(&space);
        assert!(json.get("routing.scorers.queue-depth.weight").is_none());
        assert_eq!(Candidate::from_json(&space, &json), Ok(candidate(0, 1.0, 2.0)));
    }

    #[test]
    fn json_outside_the_space_is_refused() {
        let space = serving_space();
        let read = |text: &str| {
            let json = serde_json::from_str(text).expect("JSON");
            Candidate::from_json(&space, &json)
        };
        assert!(read(r#"{"pools.h100.instances": 33}"#).is_err());
        assert!(read(r#"{"pools.h100.instance": 13}"#).is_err());
        assert!(read(r#"{"routing.policy": "random"}"#).is_err());
    }

    proptest! {
        #[test]
        fn six_digits_are_those_that_text_has(digits in 1.0..10.0_f64, power in -20_i32..20) {
            for value in [digits * 10.0_f64.powi(power), -digits * 10.0_f64.powi(power)] {
                let rounded = six_digits(value);
                let text: f64 = format!("{value:.5e}").parse().expect("a number");
                prop_assert_eq!(rounded.to_bits(), text.to_bits());
                prop_assert_eq!(six_digits(rounded).to_bits(), rounded.to_bits());
            }
        }
    }

    #[test]
    fn what_has_no_six_digits_stays() {
        assert_eq!(six_digits(0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(six_digits(f64::INFINITY), f64::INFINITY);
        assert!(six_digits(f64::NAN).is_nan());
        assert_eq!(six_digits(999_999.9).to_bits(), 1e6_f64.to_bits());
    }

    #[test]
    fn a_hash_is_the_same_for_ever() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
