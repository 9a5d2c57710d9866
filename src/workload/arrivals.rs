//! When: times between the arrivals of one client.

use crate::base::Rng;
use crate::base::stats::ln_gamma;

/// The longest gap in microseconds; whole numbers up to it are exact in `f64`.
const GAP_MAX_US: f64 = (1_u64 << 53) as f64;

/// The law of the times between arrivals. Gaps are truncated to whole microseconds, and the
/// shortest is one microsecond, as in the reference: at rates above some 10,000/s per client
/// the realised rate differs visibly from the nominal one ([`Arrivals::mean_gap_us`] knows).
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Independent arrivals: exponential gaps.
    Poisson,
    /// Evenly spaced.
    Constant {
        /// Whether the first request arrives at once, or after one gap.
        from_zero: bool,
    },
    /// Gamma gaps at the client's rate.
    Gamma {
        /// Standard deviation of a gap over its mean; above 0, at most 10.
        cv: f64,
    },
    /// Weibull gaps at the client's rate.
    Weibull {
        /// Standard deviation of a gap over its mean; in [0.01, 10.4].
        cv: f64,
    },
    /// Gamma gaps of a measured shape at the client's rate.
    GammaShape {
        /// In [0.01, 1e6].
        shape: f64,
    },
    /// Weibull gaps of a measured shape at the client's rate.
    WeibullShape {
        /// In [0.1, 1e6].
        shape: f64,
    },
    /// Gamma gaps as measured; they set the client's rate themselves.
    GammaGaps {
        /// Shape; at least 0.01.
        shape: f64,
        /// Scale in microseconds; above 0.
        scale_us: f64,
    },
    /// Weibull gaps as measured; they set the client's rate themselves.
    WeibullGaps {
        /// Shape; at least 0.1.
        shape: f64,
        /// Scale in microseconds; above 0.
        scale_us: f64,
    },
}

impl Arrivals {
    /// The same law, with a rate that is given otherwise.
    pub(super) fn at_rate(self) -> Self {
        match self {
            Self::GammaGaps { shape, .. } => Self::GammaShape { shape },
            Self::WeibullGaps { shape, .. } => Self::WeibullShape { shape },
            other => other,
        }
    }

    /// The mean gap in microseconds at a nominal rate per second, truncation included: exact
    /// for Poisson and constant arrivals, else to within one microsecond.
    pub fn mean_gap_us(&self, rate: f64) -> f64 {
        match Gaps::new(self, rate) {
            Gaps::Constant(gap) => whole(gap),
            Gaps::Exponential(mean) => {
                let longer_than_one = (-1.0 / mean).exp();
                longer_than_one / -(-1.0 / mean).exp_m1() + 1.0 - longer_than_one
            }
            Gaps::Gamma { shape, scale_us } => (shape * scale_us - 0.5).max(1.0),
            Gaps::Weibull { exponent, scale_us } => {
                (scale_us * ln_gamma(1.0 + exponent).exp() - 0.5).max(1.0)
            }
        }
    }
}

/// Draws gaps.
#[derive(Clone, Debug)]
pub(super) enum Gaps {
    Constant(f64),
    Exponential(f64),
    Gamma { shape: f64, scale_us: f64 },
    Weibull { exponent: f64, scale_us: f64 },
}

impl Gaps {
    /// At `rate` arrivals per second, above 0.
    pub(super) fn new(arrivals: &Arrivals, rate: f64) -> Self {
        // In this order the reference computes it: 300/s is a gap of 3333 us.
        let mean = 1.0 / (rate / 1e6);
        match *arrivals {
            Arrivals::Poisson => Self::Exponential(mean),
            Arrivals::Constant { .. } => Self::Constant(mean),
            Arrivals::Gamma { cv } => {
                Self::Gamma { shape: 1.0 / (cv * cv), scale_us: mean * cv * cv }
            }
            Arrivals::GammaShape { shape } => Self::Gamma { shape, scale_us: mean / shape },
            Arrivals::Weibull { cv } => Self::weibull(weibull_shape(cv), mean),
            Arrivals::WeibullShape { shape } => Self::weibull(shape, mean),
            Arrivals::GammaGaps { shape, scale_us } => Self::Gamma { shape, scale_us },
            Arrivals::WeibullGaps { shape, scale_us } => {
                Self::Weibull { exponent: 1.0 / shape, scale_us }
            }
        }
    }

    fn weibull(shape: f64, mean: f64) -> Self {
        let exponent = 1.0 / shape;
        Self::Weibull { exponent, scale_us: mean / ln_gamma(1.0 + exponent).exp() }
    }

    /// A gap of whole microseconds, at least 1.
    pub(super) fn draw(&self, rng: &mut Rng) -> f64 {
        whole(match *self {
            Self::Constant(gap) => gap,
            Self::Exponential(mean) => rng.exponential() * mean,
            Self::Gamma { shape, scale_us } => gamma(shape, rng) * scale_us,
            Self::Weibull { exponent, scale_us } => rng.exponential().powf(exponent) * scale_us,
        })
    }

    /// The time to the first arrival for somebody who begins to watch at a random moment: a
    /// uniform part of a gap drawn in proportion to its length. From there on the expected number
    /// of arrivals is exactly rate times time, however bursty they are.
    pub(super) fn draw_first(&self, rng: &mut Rng) -> f64 {
        let gap = match *self {
            Self::Constant(gap) => gap,
            Self::Exponential(mean) => return whole(rng.exponential() * mean),
            Self::Gamma { shape, scale_us } => gamma(shape + 1.0, rng) * scale_us,
            Self::Weibull { exponent, scale_us } => {
                gamma(1.0 + exponent, rng).powf(exponent) * scale_us
            }
        };
        whole(gap * rng.uniform())
    }
}

/// Truncated to 1, 2, 3, ...
fn whole(gap_us: f64) -> f64 {
    (gap_us.clamp(1.0, GAP_MAX_US) as u64) as f64
}

/// Gamma with scale 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * rng.uniform_positive().powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && rng.uniform_positive().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// The Weibull shape with coefficient of variation `cv`, by bisection.
fn weibull_shape(cv: f64) -> f64 {
    let (mut low, mut high) = (0.1_f64, 1000.0_f64);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if weibull_cv(middle) > cv {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The coefficient of variation of a Weibull distribution; falls as the shape grows.
fn weibull_cv(shape: f64) -> f64 {
    let exponent = 1.0 / shape;
    (ln_gamma(1.0 + 2.0 * exponent) - 2.0 * ln_gamma(1.0 + exponent)).exp_m1().max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stream;

    #[test]
    fn the_gamma_function_is_the_factorial() {
        let mut factorial = 1.0_f64;
        for n in 1..20 {
            assert!((ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-12, "{n}");
            factorial *= f64::from(n);
        }
        assert!((ln_gamma(1.5).exp() - std::f64::consts::PI.sqrt() / 2.0).abs() < 1e-14);
    }

    #[test]
    fn the_weibull_shape_has_the_wished_variation() {
        assert!((weibull_shape(1.0) - 1.0).abs() < 1e-9);
        for cv in [0.01, 0.5, 1.5, 3.5, 10.4] {
            assert!((weibull_cv(weibull_shape(cv)) / cv - 1.0).abs() < 1e-9, "{cv}");
        }
    }

    #[test]
    fn a_measured_shape_keeps_the_rate() {
        let mut rng = Rng::new(5, Stream::Arrivals, 0);
        for arrivals in [
            Arrivals::GammaShape { shape: 0.3 },
            Arrivals::GammaShape { shape: 40.0 },
            Arrivals::WeibullShape { shape: 0.5 },
            Arrivals::WeibullShape { shape: 3.0 },
        ] {
            let gaps = Gaps::new(&arrivals, 2.0);
            let mean = (0..400_000).map(|_| gaps.draw(&mut rng)).sum::<f64>() / 4e5;
            assert!((mean / 5e5 - 1.0).abs() < 0.02, "{arrivals:?} {mean}");
            assert!((arrivals.mean_gap_us(2.0) / 5e5 - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn counts_from_a_random_moment_on_are_rate_times_time() {
        for arrivals in [
            Arrivals::Constant { from_zero: false },
            Arrivals::Poisson,
            Arrivals::GammaShape { shape: 0.1 },
            Arrivals::WeibullShape { shape: 0.4 },
        ] {
            let gaps = Gaps::new(&arrivals, 1.0);
            let runs = 20_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for run in 0..runs {
                let mut rng = Rng::new(run, Stream::Arrivals, 0);
                let (mut now, mut count) = (gaps.draw_first(&mut rng), 0.0);
                while now < 7.3e6 {
                    count += 1.0;
                    now += gaps.draw(&mut rng);
                }
                sum += count;
                squares += count * count;
            }
            let mean = sum / runs as f64;
            let error = ((squares / runs as f64 - mean * mean) / runs as f64).sqrt();
            assert!((mean - 7.3).abs() < 4.0 * error + 1e-3, "{arrivals:?} {mean} {error}");
        }
    }

    #[test]
    fn constant_gaps_are_truncated_as_in_the_reference() {
        let mut rng = Rng::new(1, Stream::Arrivals, 0);
        for (rate, gap) in [(500.0, 2000.0), (300.0, 3333.0), (1e6, 1.0), (600_000.0, 1.0)] {
            let drawn = Gaps::new(&Arrivals::Constant { from_zero: true }, rate).draw(&mut rng);
            assert!((drawn - gap).abs() < 0.5, "{rate}: {drawn}");
        }
    }

    #[test]
    fn the_mean_gap_counts_the_truncation() {
        let mut rng = Rng::new(3, Stream::Arrivals, 0);
        for (arrivals, rate) in [
            (Arrivals::Poisson, 1e6),
            (Arrivals::Poisson, 1e5),
            (Arrivals::Gamma { cv: 0.5 }, 1e5),
            (Arrivals::Weibull { cv: 0.5 }, 1e5),
        ] {
            let gaps = Gaps::new(&arrivals, rate);
            let mean = (0..200_000).map(|_| gaps.draw(&mut rng)).sum::<f64>() / 2e5;
            assert!((mean / arrivals.mean_gap_us(rate) - 1.0).abs() < 0.01, "{arrivals:?} {rate}");
        }
    }
}
