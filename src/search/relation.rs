//! Relations that a candidate must satisfy before it is simulated.

use super::candidate::Candidate;
use super::space::SearchSpace;

/// `left sign right`, between knobs with numbers, and numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// The left side.
    pub left: Side,
    /// The sign.
    pub sign: Sign,
    /// The right side.
    pub right: Side,
}

/// One side of a relation.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// A number times the knob of this index; durations count in microseconds.
    Knob {
        /// The number; finite.
        factor: f64,
        /// The knob.
        knob: usize,
    },
    /// A number.
    Number(f64),
}

/// How the sides of a relation compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Relation {
    /// Splits `a < b` into its sides' texts; `None` without a sign.
    pub(super) fn split(text: &str) -> Option<(&str, Sign, &str)> {
        let signs =
            [("<=", Sign::AtMost), (">=", Sign::AtLeast), ("<", Sign::Below), (">", Sign::Above)];
        signs.into_iter().find_map(|(written, sign)| {
            let (left, right) = text.split_once(written)?;
            Some((left.trim(), sign, right.trim()))
        })
    }

    /// Whether it holds. A relation about a knob that does not matter holds.
    pub fn holds(&self, space: &SearchSpace, candidate: &Candidate) -> bool {
        let left = self.left.value(space, candidate);
        let right = self.right.value(space, candidate);
        let (Some(left), Some(right)) = (left, right) else { return true };
        match self.sign {
            Sign::Below => left < right,
            Sign::AtMost => left <= right,
            Sign::Above => left > right,
            Sign::AtLeast => left >= right,
        }
    }
}

impl Side {
    /// Its number; `None` where its knob does not matter.
    pub(super) fn value(&self, space: &SearchSpace, candidate: &Candidate) -> Option<f64> {
        match *self {
            Self::Number(number) => Some(number),
            Self::Knob { factor, knob } => {
                let number = candidate.number(knob)?;
                candidate.is_active(space, knob).then_some(factor * number)
            }
        }
    }
}
