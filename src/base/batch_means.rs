//! The interval of a steady-state mean from one run, by batch means.
//!
//! Neighbouring values of a run are alike, so that their spread says too little about the error
//! of their mean. Means of long batches are nearly independent; the fewer and longer, the more so.

use super::stats::{Interval, mean, t_interval};

/// Batches to begin with: merging them twice still leaves 16.
pub const BATCHES: usize = 64;
/// Fewest batches that an interval is made of: fewer are too few to tell their spread.
const BATCHES_MIN: usize = 8;
/// Standard errors by which the correlation of neighbouring batches may exceed zero.
const CORRELATION_SIGMAS: f64 = 1.645;
/// How sure an interval is.
const CONFIDENCE: f64 = 0.95;

/// A steady-state mean and how well one run tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteadyMean {
    /// The mean of the batches with its interval at 95 %.
    pub interval: Interval,
    /// Batches that the interval is made of.
    pub batches: usize,
    /// Values per batch; up to a batch's worth of the first values is left out.
    pub batch_length: usize,
    /// Correlation of neighbouring batch means, in [-1, 1].
    pub correlation: f64,
    /// Whether that correlation is small enough for the interval to be believed: if not, even
    /// the longest batches were alike, and the run is too short.
    pub independent: bool,
}

impl SteadyMean {
    /// Half the width of the interval.
    pub fn half_width(&self) -> f64 {
        (self.interval.high - self.interval.low) / 2.0
    }
}

/// The mean of `values`, which are in order of time and without warm-up, from `batches` batches
/// of equal length ([`BATCHES`] is a good number; at least 8).
///
/// While neighbouring batch means are correlated by more than chance explains, pairs of batches
/// are merged, down to 8. `None` where there are fewer values than batches.
pub fn batch_means(values: &[f64], batches: usize) -> Option<SteadyMean> {
    let batches = batches.max(BATCHES_MIN);
    let mut batch_length = values.len() / batches;
    if batch_length == 0 {
        return None;
    }
    let first = values.len() - batch_length * batches;
    let mut means: Vec<f64> = values[first..].chunks(batch_length).filter_map(mean).collect();
    loop {
        let correlation = lag_one_correlation(&means);
        let independent = correlation * (means.len() as f64).sqrt() <= CORRELATION_SIGMAS;
        if independent || means.len() / 2 < BATCHES_MIN {
            let interval = t_interval(&means, CONFIDENCE)?;
            let batches = means.len();
            return Some(SteadyMean { interval, batches, batch_length, correlation, independent });
        }
        // Of an odd number, the first goes: it is the nearest to the start of the run.
        means = means[means.len() % 2..].chunks(2).filter_map(mean).collect();
        batch_length *= 2;
    }
}

/// The correlation of neighbours in [-1, 1]; 0 of values that are all alike.
fn lag_one_correlation(values: &[f64]) -> f64 {
    let Some(mean) = mean(values) else { return 0.0 };
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let lagged: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if squares > 0.0 { lagged / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    /// An autoregression of order one around 5 with innovations of variance 1; the variance of
    /// the mean of n values tends to 1 / (n (1 - rho)^2).
    fn autoregression(rho: f64, values: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, Stream::Resampling, 0);
        let mut level = rng.normal() / (1.0 - rho * rho).sqrt();
        let mut next = || {
            level = rho * level + rng.normal();
            5.0 + level
        };
        (0..values).map(|_| next()).collect()
    }

    fn steady(rho: f64, values: usize, seed: u64) -> SteadyMean {
        batch_means(&autoregression(rho, values, seed), BATCHES).expect("enough values")
    }

    #[test]
    fn intervals_cover_the_mean_as_often_as_they_say() {
        for rho in [0.0, 0.5, 0.9] {
            let covers = |seed: &u64| {
                let interval = steady(rho, 20_000, *seed).interval;
                interval.low <= 5.0 && 5.0 <= interval.high
            };
            let covered = (0..400).filter(covers).count();
            // Four standard errors of a share of 0.95 in 400 are 0.044.
            assert!((362..=398).contains(&covered), "{covered} of 400 at {rho}");
        }
    }

    #[test]
    fn the_width_is_that_of_the_known_variance() {
        for rho in [0.0, 0.5, 0.9] {
            let seeds = 0..200;
            let widths: f64 = seeds.map(|seed| steady(rho, 20_000, seed).half_width()).sum();
            let expected = 1.96 / (1.0 - rho) / 20_000_f64.sqrt();
            let ratio = widths / 200.0 / expected;
            // Few batches are wider by the t quantile: 2.0 at 64, 2.1 at 16.
            assert!((0.97..1.12).contains(&ratio), "{ratio} at {rho}");
        }
    }

    #[test]
    fn alike_batches_are_merged_and_doubt_is_admitted() {
        let merged = (0..50).filter(|&seed| steady(0.99, 20_000, seed).batches < BATCHES).count();
        assert!(merged > 25, "{merged} of 50");
        let doubted = (0..50).filter(|&seed| !steady(0.999, 2_000, seed).independent).count();
        assert!(doubted > 5, "{doubted} of 50");
    }

    #[test]
    fn the_first_values_are_left_out_where_batches_do_not_fill() {
        let mut values = vec![1e9];
        values.extend([1.0, 3.0].repeat(8));
        let steady = batch_means(&values, 8).expect("two values per batch");
        assert_eq!((steady.interval.mean, steady.half_width()), (2.0, 0.0));
        assert_eq!((steady.batches, steady.batch_length, steady.independent), (8, 2, true));
        assert_eq!(batch_means(&values[..7], 8), None);
    }
}
