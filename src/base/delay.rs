//! How long something takes that is not always the same: a start, a repair, the time to a crash.

use std::sync::Arc;

use super::stats::ln_gamma;
use super::{Rng, Span};

/// The longest draw, 53 days: nothing in a run is later, and three in a row added to the last
/// point of a run stay within the clock's range.
const LONGEST: Span = Span::from_us((1 << 62) / 1_000_000);

/// A distribution of lengths of time. Draws are rounded to whole microseconds, never negative and
/// never above 53 days, for which no run lasts.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Constant(Span),
    /// Any length from `low` to `high` alike; `low <= high`.
    Uniform {
        /// The shortest.
        low: Span,
        /// The longest.
        high: Span,
    },
    /// Normal; what would be negative is zero.
    Normal {
        /// Mean before the cut at zero.
        mean: Span,
        /// Standard deviation before the cut.
        std_dev: Span,
    },
    /// Lognormal.
    LogNormal {
        /// The mean; above zero.
        mean: Span,
        /// The standard deviation.
        std_dev: Span,
    },
    /// Weibull; a shape of 1 is exponential, below 1 failures come early, above 1 by wear.
    Weibull {
        /// The mean.
        mean: Span,
        /// The shape; above 0.
        shape: f64,
    },
    /// One of these alike; not empty.
    Empirical(Arc<[Span]>),
}

impl Delay {
    /// No time at all.
    pub const NONE: Self = Self::Constant(Span::ZERO);

    /// Draws a length. Each kind takes the same number of draws whatever comes out, but for
    /// constants, which take none.
    pub fn draw(&self, rng: &mut Rng) -> Span {
        self.draw_freely(rng).min(LONGEST)
    }

    fn draw_freely(&self, rng: &mut Rng) -> Span {
        match self {
            Self::Constant(span) => *span,
            Self::Uniform { low, high } => {
                let (low, high) = (low.as_secs(), high.as_secs());
                Span::from_secs(low + (high - low) * rng.uniform())
            }
            Self::Normal { mean, std_dev } => {
                Span::from_secs(mean.as_secs() + std_dev.as_secs() * rng.normal())
            }
            Self::LogNormal { mean, std_dev } => {
                let ratio = std_dev.as_secs() / mean.as_secs();
                let variance = (1.0 + ratio * ratio).ln();
                let location = mean.as_secs().ln() - variance / 2.0;
                Span::from_secs((location + variance.sqrt() * rng.normal()).exp())
            }
            Self::Weibull { mean, shape } => {
                let scale = mean.as_secs() / ln_gamma(1.0 + 1.0 / shape).exp();
                Span::from_secs(scale * rng.exponential().powf(1.0 / shape))
            }
            Self::Empirical(values) => values[rng.below(values.len() as u64) as usize],
        }
    }

    /// The mean; of a normal, that before the cut at zero.
    pub fn mean(&self) -> Span {
        match self {
            Self::Constant(span) => *span,
            Self::Uniform { low, high } => {
                Span::from_secs(f64::midpoint(low.as_secs(), high.as_secs()))
            }
            Self::Normal { mean, .. }
            | Self::LogNormal { mean, .. }
            | Self::Weibull { mean, .. } => *mean,
            Self::Empirical(values) => {
                let total: f64 = values.iter().map(|value| value.as_secs()).sum();
                Span::from_secs(total / values.len() as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SimTime, Stream};

    #[test]
    fn draws_have_the_mean_that_is_promised() {
        let seconds = Span::from_secs;
        let delays = [
            Delay::Constant(seconds(90.0)),
            Delay::Uniform { low: seconds(30.0), high: seconds(90.0) },
            Delay::Normal { mean: seconds(240.0), std_dev: seconds(30.0) },
            Delay::LogNormal { mean: seconds(60.0), std_dev: seconds(40.0) },
            Delay::Weibull { mean: seconds(100.0), shape: 1.0 },
            Delay::Weibull { mean: seconds(100.0), shape: 0.7 },
            Delay::Weibull { mean: seconds(100.0), shape: 3.0 },
            Delay::Empirical([seconds(59.0), seconds(90.0), seconds(155.0)].into()),
        ];
        for delay in delays {
            let mut rng = Rng::new(1, Stream::StartUp, 0);
            let total: f64 = (0..40_000).map(|_| delay.draw(&mut rng).as_secs()).sum();
            let (drawn, promised) = (total / 40_000.0, delay.mean().as_secs());
            assert!((drawn / promised - 1.0).abs() < 0.02, "{delay:?}: {drawn} for {promised}");
        }
    }

    #[test]
    fn three_draws_fit_behind_the_last_point_of_a_run() {
        let endless =
            Delay::LogNormal { mean: Span::from_secs(1e7), std_dev: Span::from_secs(1e7) };
        for delay in [endless, Delay::Constant(Span::from_secs(1.7e7))] {
            let mut rng = Rng::new(1, Stream::StartUp, 0);
            let mut longest = || (0..1000).map(|_| delay.draw(&mut rng)).max().expect("a thousand");
            let three = longest() + longest() + longest();
            assert_eq!(three, LONGEST.times(3), "some are cut");
            assert!(SimTime::LAST + three < SimTime::NEVER);
        }
    }

    #[test]
    fn what_would_be_negative_is_zero() {
        let delay = Delay::Normal { mean: Span::from_secs(1.0), std_dev: Span::from_secs(10.0) };
        let mut rng = Rng::new(1, Stream::StartUp, 0);
        let zeros = (0..1000).filter(|_| delay.draw(&mut rng) == Span::ZERO).count();
        assert!((350..550).contains(&zeros), "{zeros}");
    }
}
