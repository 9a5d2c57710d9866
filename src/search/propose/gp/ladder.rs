//! What is to be beaten where one goal is to be made small: the value with which the search will
//! have ended.
//!
//! That value is uncertain as long as it is uncertain who keeps the constraints. Every candidate
//! tried so far will do so with some probability; what they will have led to is at most `v` with
//! the highest probability among those whose goal is at most `v` (they share their luck: what a
//! seed spoils for one it spoils for its like). A new candidate gains what it is below that value,
//! in expectation over it. Where one candidate is certain this is the usual expected improvement;
//! where the best one is doubtful, a safer one of the same cost is worth something too, and so is
//! a dearer one.

use super::acquire::{HOPELESS, ln_gain, ln_sum};
use super::model::Prediction;

/// Rungs less probable than this are left out.
const LEAST: f64 = 1e-9;

/// The distribution of the value with which a search will have ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// Values, ascending, and the probability to end with at most that.
    rungs: Vec<(f64, f64)>,
    /// The value of ending with nothing.
    nothing: f64,
    /// The least gain over ending with nothing.
    least: f64,
}

impl Ladder {
    /// The ladder of candidates with these values and probabilities to keep the constraints;
    /// `None` without any.
    pub fn of(mut candidates: Vec<(f64, f64)>) -> Option<Self> {
        candidates.sort_by(|left, right| left.0.total_cmp(&right.0));
        let (low, high) = (candidates.first()?.0, candidates.last()?.0);
        let range = (high - low).max(1e-3 * high.abs()).max(1e-6);
        let mut rungs: Vec<(f64, f64)> = Vec::new();
        for (value, probability) in candidates {
            if probability > rungs.last().map_or(0.0, |rung| rung.1) + LEAST {
                rungs.push((value, probability));
            }
        }
        // A dearer candidate than all so far is better than nothing, too.
        Some(Self { rungs, nothing: high + range, least: 0.01 * range })
    }

    /// The ladder with one more candidate, whose luck is its own.
    #[must_use]
    pub fn with(mut self, value: f64, probability: f64) -> Self {
        let at = self.rungs.partition_point(|rung| rung.0 < value);
        let before = at.checked_sub(1).map_or(0.0, |at| self.rungs[at].1);
        if self.rungs.get(at).is_none_or(|rung| rung.0 > value) {
            self.rungs.insert(at, (value, before));
        }
        for rung in &mut self.rungs[at..] {
            rung.1 += (1.0 - rung.1) * probability;
        }
        self
    }

    /// The logarithm of what a candidate whose goal is so `predicted`, and which keeps the
    /// constraints, is expected to gain; [`HOPELESS`] where it certainly gains nothing. It grows
    /// with the deviation.
    pub fn ln_gain(&self, predicted: Prediction) -> f64 {
        let mut before = 0.0;
        let mut sum = f64::NEG_INFINITY;
        for &(value, probability) in &self.rungs {
            let gain = ln_gain(value, predicted);
            if gain > HOPELESS && probability > before {
                sum = ln_sum(sum, (probability - before).ln() + gain);
            }
            before = probability;
        }
        if before < 1.0 {
            let gain = ln_gain(self.nothing, predicted).max(self.least.ln());
            sum = ln_sum(sum, (1.0 - before).ln() + gain);
        }
        sum.max(HOPELESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(ladder: &Ladder, mean: f64) -> f64 {
        ladder.ln_gain(Prediction { mean, deviation: 0.0 }).exp()
    }

    #[test]
    fn over_a_certain_best_it_is_the_usual_improvement() {
        let ladder = Ladder::of(vec![(5.0, 1.0), (9.0, 1.0)]).expect("candidates");
        assert!((gain(&ladder, 3.0) - 2.0).abs() < 1e-12);
        assert!(gain(&ladder, 5.0) < 1e-300);
        let predicted = Prediction { mean: 4.0, deviation: 2.0 };
        assert!((ladder.ln_gain(predicted) - ln_gain(5.0, predicted)).abs() < 1e-12);
    }

    #[test]
    fn who_is_safer_at_the_same_value_gains_what_the_doubtful_may_lose() {
        // 5 with 40 %, else 9: at 5 one gains 4 with 60 %, at 6 only 3.
        let ladder = Ladder::of(vec![(9.0, 1.0), (5.0, 0.4)]).expect("candidates");
        assert!((gain(&ladder, 5.0) - 2.4).abs() < 1e-9);
        assert!((gain(&ladder, 6.0) - 1.8).abs() < 1e-9);
        assert!((gain(&ladder, 4.0) - 2.4 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn who_is_dearer_and_less_safe_than_another_changes_nothing() {
        let ladder = Ladder::of(vec![(9.0, 1.0), (7.0, 0.3), (5.0, 0.6)]).expect("candidates");
        assert_eq!(ladder, Ladder::of(vec![(9.0, 1.0), (5.0, 0.6)]).expect("candidates"));
        assert!((gain(&ladder, 4.0) - 0.6 - 0.4 * 5.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_taken_leaves_less_for_its_like() {
        let ladder = Ladder::of(vec![(9.0, 1.0), (5.0, 0.4)]).expect("candidates");
        let after = ladder.clone().with(5.0, 0.5);
        assert!((gain(&after, 5.0) - 1.2).abs() < 1e-9);
        let cheaper = ladder.with(4.0, 0.5);
        assert!((gain(&cheaper, 4.0) - 0.5 * 3.4).abs() < 1e-9);
    }

    #[test]
    fn while_nobody_keeps_the_constraints_the_dearer_are_worth_something() {
        let ladder = Ladder::of(vec![(5.0, 0.0), (9.0, 0.0)]).expect("candidates");
        assert!(gain(&ladder, 12.0) > gain(&ladder, 20.0) && gain(&ladder, 20.0) > 0.0);
    }
}
