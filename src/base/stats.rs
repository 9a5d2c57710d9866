//! Means, quantiles and intervals.
//!
//! Everything here is a pure function of a slice; sums run in the slice's order, so equal slices
//! give equal bits.

/// A mean with its two-sided confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean of the sample.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The arithmetic mean; `None` of an empty slice.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The unbiased sample variance; `None` of fewer than two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

/// The quantile of `share` in [0, 1] of values in ascending order, linear between order
/// statistics (rank `share * (n - 1)`); `None` of an empty slice.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let below = rank.floor() as usize;
    let above = rank.ceil() as usize;
    Some(sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64))
}

/// The Student-t interval of the mean at `confidence` in (0, 1); `None` of fewer than two values,
/// since one value says nothing about its own spread.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<Interval> {
    let mean = mean(values)?;
    let variance = variance(values)?;
    let count = values.len() as f64;
    let half = t_quantile(0.5 + confidence / 2.0, count - 1.0) * (variance / count).sqrt();
    Some(Interval { mean, low: mean - half, high: mean + half })
}

/// The Student-t interval of the mean of `left - right`, pair by pair: the right comparison of
/// two candidates that met the same seeds. `None` of fewer than two pairs; pairs beyond the
/// shorter slice are left out.
pub fn paired_difference(left: &[f64], right: &[f64], confidence: f64) -> Option<Interval> {
    let differences: Vec<f64> = left.iter().zip(right).map(|(a, b)| a - b).collect();
    t_interval(&differences, confidence)
}

/// The quantile of Student's t distribution: the x with P(T <= x) = `probability` in (0, 1), for
/// `freedom` degrees of freedom above 0. Relative error below 1e-9.
pub fn t_quantile(probability: f64, freedom: f64) -> f64 {
    if probability < 0.5 {
        return -t_quantile(1.0 - probability, freedom);
    }
    let mut high = 1.0;
    while t_cumulative(high, freedom) < probability && high < 1e12 {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..120 {
        let middle = f64::midpoint(low, high);
        if t_cumulative(middle, freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(T <= x) of Student's t distribution for x of at least 0.
fn t_cumulative(x: f64, freedom: f64) -> f64 {
    1.0 - 0.5 * incomplete_beta(freedom / (freedom + x * x), freedom / 2.0, 0.5)
}

/// The regularised incomplete beta function.
pub(super) fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The continued fraction converges fast on this side of the mean; the other is its mirror.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut upper = 1.0;
    let mut lower = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = lower;
    for step in 1..500 {
        let step = f64::from(step);
        let twice = a + 2.0 * step;
        let even = step * (b - step) * x / ((twice - 1.0) * twice);
        let odd = -(a + step) * (a + b + step) * x / (twice * (twice + 1.0));
        for term in [even, odd] {
            lower = 1.0 / away_from_zero(1.0 + term * lower);
            upper = away_from_zero(1.0 + term / upper);
            result *= lower * upper;
        }
        if (lower * upper - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function for x above 0 (Lanczos, g = 7, nine terms).
pub fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let base = x + 7.5;
    let sum =
        (1..9).fold(TERMS[0], |sum, index| sum + TERMS[index] / (x + f64::from(index as u32)));
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * base.ln() - base + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(left: f64, right: f64, tolerance: f64) -> bool {
        (left - right).abs() <= tolerance * right.abs().max(1.0)
    }

    #[test]
    fn t_quantiles_are_those_of_the_tables() {
        for (probability, freedom, expected) in [
            (0.975, 1.0, 12.706_204_736),
            (0.975, 2.0, 4.302_652_730),
            (0.975, 9.0, 2.262_157_163),
            (0.95, 9.0, 1.833_112_933),
            (0.995, 30.0, 2.749_995_654),
            (0.975, 1e6, 1.959_966_4),
        ] {
            assert!(near(t_quantile(probability, freedom), expected, 1e-7));
        }
    }

    #[test]
    fn the_interval_of_a_worked_sample() {
        let interval = t_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).expect("five values");
        assert!(near(interval.mean, 3.0, 1e-12));
        assert!(near(interval.high, 3.0 + 2.776_445_105 * (2.5_f64 / 5.0).sqrt(), 1e-8));
    }

    #[test]
    fn one_value_has_a_mean_and_no_interval() {
        assert_eq!(mean(&[7.0]), Some(7.0));
        assert_eq!(t_interval(&[7.0], 0.95), None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn paired_differences_cancel_what_the_pairs_share() {
        let left = [11.0, 102.0, 1001.0];
        let right = [10.0, 100.0, 1000.0];
        let paired = paired_difference(&left, &right, 0.95).expect("three pairs");
        assert!(near(paired.mean, 4.0 / 3.0, 1e-12));
        assert!(paired.high < 4.0);
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn t_is_symmetric_and_wider_than_the_normal(
            p in 0.51_f64..0.999,
            freedom in 1.0_f64..200.0,
        ) {
            let t = t_quantile(p, freedom);
            prop_assert!(near(t, -t_quantile(1.0 - p, freedom), 1e-6));
            prop_assert!(t >= t_quantile(p, 1e7) - 1e-6);
        }

        #[test]
        fn quantiles_grow_with_their_share(
            mut values in prop::collection::vec(-1e6_f64..1e6, 1..40),
            p in 0.0_f64..1.0,
        ) {
            values.sort_by(f64::total_cmp);
            let low = quantile(&values, p / 2.0).expect("not empty");
            let high = quantile(&values, p).expect("not empty");
            prop_assert!(low <= high);
        }
    }
}
