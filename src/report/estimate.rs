//! A figure over several seeds: its mean and how far off it may be.

use crate::base::stats::{mean, t_interval};

/// The mean of one figure over seeds, with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean over the seeds.
    pub mean: f64,
    /// The interval is `mean` plus or minus this (Student's t); `None` with fewer than two seeds.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// The estimate from one value per seed, at least one.
    pub fn of(values: &[f64]) -> Self {
        let mean = mean(values).expect("a report has at least one run");
        let interval = t_interval(values, 0.95);
        Self { mean, half_width: interval.map(|interval| interval.high - mean) }
    }

    /// The mean, and the interval where there is one, each written by `format`.
    pub fn show(&self, format: impl Fn(f64) -> String) -> String {
        match self.half_width {
            None => format(self.mean),
            Some(half) => format!("{} ± {}", format(self.mean), format(half)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_no_interval() {
        assert_eq!(Estimate::of(&[3.0]), Estimate { mean: 3.0, half_width: None });
    }

    #[test]
    fn the_interval_of_three_values_by_hand() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]);
        let half = estimate.half_width.expect("three seeds have an interval");
        assert!((half - 4.302_652_73 / 3.0_f64.sqrt()).abs() < 1e-8, "{half}");
        assert!((estimate.mean - 2.0).abs() < 1e-12);
    }
}
