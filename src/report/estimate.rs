//! A figure over several seeds: its mean and how far off it may be.

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

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
        let n = values.len();
        assert!(n > 0, "a report has at least one run");
        let mean = values.iter().sum::<f64>() / n as f64;
        if n < 2 {
            return Self { mean, half_width: None };
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (n - 1) as f64 / n as f64).sqrt();
        Self { mean, half_width: Some(t_95(n - 1) * error) }
    }

    /// The mean, and the interval where there is one, each written by `format`.
    pub fn show(&self, format: impl Fn(f64) -> String) -> String {
        match self.half_width {
            None => format(self.mean),
            Some(half) => format!("{} ± {}", format(self.mean), format(half)),
        }
    }
}

/// The two-sided 95 % quantile of Student's t; beyond the table, where two terms of the expansion
/// around the normal quantile are exact to three decimals.
fn t_95(degrees: usize) -> f64 {
    T_95.get(degrees - 1).copied().unwrap_or_else(|| {
        let n = degrees as f64;
        let z: f64 = 1.959_964;
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        z + first / n + second / (n * n)
    })
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
        assert!((half - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9, "{half}");
        assert!((estimate.mean - 2.0).abs() < 1e-12);
    }

    #[test]
    fn large_samples_approach_the_normal_quantile() {
        assert!((t_95(31) - 2.0395).abs() < 0.001);
        assert!((t_95(100_000) - 1.96).abs() < 0.001);
    }
}
