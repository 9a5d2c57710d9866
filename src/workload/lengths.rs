//! How many tokens: distributions of prompt and answer lengths.

use crate::base::Rng;

/// The longest prompt or answer, in tokens: larger draws are cut to it.
pub const LENGTH_MAX: u32 = 1 << 24;

/// The most images, audio clips or videos of one kind in one request.
const COUNT_MAX: f64 = 1000.0;

/// A distribution of lengths in tokens. A draw is rounded half away from zero and then lies in
/// 1..=[`LENGTH_MAX`]. All parameters are finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    /// Always the same.
    Constant(f64),
    /// Normal, clamped to its bounds (not redrawn: the bounds gather the tails).
    Gaussian {
        /// Mean before clamping.
        mean: f64,
        /// Standard deviation before clamping; at least 0.
        std_dev: f64,
        /// Where draws end.
        clamp: Clamp,
    },
    /// Exponential, clamped.
    Exponential {
        /// Mean before clamping; above 0.
        mean: f64,
        /// Where draws end.
        clamp: Clamp,
    },
    /// `exp(mu + sigma * Z)`, clamped.
    LogNormal {
        /// Mean of the logarithm.
        mu: f64,
        /// Standard deviation of the logarithm; at least 0.
        sigma: f64,
        /// Where draws end.
        clamp: Clamp,
    },
    /// With probability `mix_weight` a Pareto tail, else lognormal.
    ParetoLogNormal {
        /// Tail index; above 0.
        alpha: f64,
        /// Where the Pareto part starts; above 0.
        xm: f64,
        /// Mean of the logarithm.
        mu: f64,
        /// Standard deviation of the logarithm; at least 0.
        sigma: f64,
        /// In [0, 1].
        mix_weight: f64,
    },
    /// Listed lengths with weights.
    Empirical(Empirical),
    /// A histogram.
    Binned(Binned),
}

/// The smallest and the largest value, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// The smallest.
    pub min: f64,
    /// The largest; not below `min`.
    pub max: f64,
}

/// Listed lengths with weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Empirical {
    lengths: Vec<f64>,
    /// Ends with exactly 1.
    cumulative: Vec<f64>,
}

/// A histogram: intervals of lengths with their shares; inside an interval all whole lengths are
/// equally likely.
#[derive(Clone, Debug, PartialEq)]
pub struct Binned {
    /// Lowest (exclusive) and highest (inclusive) length of each interval.
    bins: Vec<(f64, f64)>,
    /// Ends with exactly 1.
    cumulative: Vec<f64>,
}

impl Clamp {
    /// No bounds of their own.
    pub const NONE: Self = Self { min: 0.0, max: LENGTH_MAX as f64 };

    /// Between `min` and `max` tokens.
    pub const fn new(min: f64, max: f64) -> Self {
        Self { min, max }
    }

    fn apply(self, value: f64) -> f64 {
        value.min(self.max).max(self.min)
    }
}

impl Empirical {
    /// Lengths with weights of any scale; `None` where no weight is above 0, or one is negative
    /// or not finite.
    pub fn new(mut weighted: Vec<(f64, f64)>) -> Option<Self> {
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let fine = weighted.iter().all(|&(length, weight)| length.is_finite() && weight >= 0.0);
        if !fine || !total.is_finite() || total <= 0.0 {
            return None;
        }
        weighted.retain(|&(_, weight)| weight > 0.0);
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = weighted
            .iter()
            .map(|(_, weight)| {
                sum += weight / total;
                sum
            })
            .collect();
        *cumulative.last_mut()? = 1.0;
        Some(Self { lengths: weighted.into_iter().map(|(length, _)| length).collect(), cumulative })
    }

    fn draw(&self, uniform: f64) -> f64 {
        let at = self.cumulative.partition_point(|&share| share < uniform);
        self.lengths[at.min(self.lengths.len() - 1)]
    }
}

impl Binned {
    /// The histogram with the share `cdf` of lengths up to `tokens`, for ascending `(tokens, cdf)`;
    /// the first interval begins behind 0. `None` where lengths do not ascend, shares fall, or
    /// there is none above 0.
    pub fn from_cdf(knots: &[(f64, f64)]) -> Option<Self> {
        let total = knots.last().map(|knot| knot.1).filter(|total| *total > 0.0)?;
        let (mut bins, mut cumulative) = (Vec::new(), Vec::new());
        let (mut low, mut below) = (0.0, 0.0);
        for &(high, share) in knots {
            if !(high > low && share >= below && share.is_finite()) {
                return None;
            }
            if share > below {
                bins.push((low, high));
                cumulative.push(share / total);
            }
            (low, below) = (high, share);
        }
        *cumulative.last_mut()? = 1.0;
        Some(Self { bins, cumulative })
    }

    fn draw(&self, uniform: f64) -> f64 {
        let at = self.cumulative.partition_point(|&share| share <= uniform);
        let at = at.min(self.bins.len() - 1);
        let below = if at == 0 { 0.0 } else { self.cumulative[at - 1] };
        let inside = (uniform - below) / (self.cumulative[at] - below);
        let (low, high) = self.bins[at];
        (low + inside * (high - low)).floor() + 1.0
    }
}

impl Lengths {
    /// A normal distribution clamped to `min..=max` tokens.
    pub const fn gaussian(mean: f64, std_dev: f64, min: f64, max: f64) -> Self {
        Self::Gaussian { mean, std_dev, clamp: Clamp::new(min, max) }
    }

    /// A length in 1..=[`LENGTH_MAX`] tokens.
    pub fn tokens(&self, rng: &mut Rng) -> u32 {
        round(self.draw(rng).clamp(1.0, f64::from(LENGTH_MAX)))
    }

    /// A number of things, possibly none, at most 1000.
    pub fn count(&self, rng: &mut Rng) -> u32 {
        round(self.draw(rng).clamp(0.0, COUNT_MAX))
    }

    /// The mean length in tokens, from `draws` draws of `rng`; exact where nothing is drawn.
    pub fn mean(&self, rng: &mut Rng, draws: u32) -> f64 {
        let draws = if self.is_constant() { 1 } else { draws.max(1) };
        (0..draws).map(|_| f64::from(self.tokens(rng))).sum::<f64>() / f64::from(draws)
    }

    /// Whether every draw gives the same, without touching the stream.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Gaussian { clamp, .. } => clamp.max <= clamp.min,
            _ => false,
        }
    }

    /// Whether every draw is zero before it is cut to a length.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Constant(value) => *value <= 0.0,
            Self::Gaussian { clamp, .. } => clamp.max <= 0.0,
            _ => false,
        }
    }

    fn draw(&self, rng: &mut Rng) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Gaussian { clamp, .. } if clamp.max <= clamp.min => clamp.min,
            Self::Gaussian { mean, std_dev, clamp } => clamp.apply(rng.normal() * std_dev + mean),
            Self::Exponential { mean, clamp } => clamp.apply(rng.exponential() * mean),
            Self::LogNormal { mu, sigma, clamp } => clamp.apply((mu + sigma * rng.normal()).exp()),
            Self::ParetoLogNormal { alpha, xm, mu, sigma, mix_weight } => {
                if rng.uniform() < *mix_weight {
                    xm / rng.uniform_positive().powf(1.0 / alpha)
                } else {
                    (mu + sigma * rng.normal()).exp()
                }
            }
            Self::Empirical(table) => table.draw(rng.uniform()),
            Self::Binned(table) => table.draw(rng.uniform()),
        }
    }
}

/// Half away from zero, for values of at least 0: adding one half is exact below 2^24.
fn round(value: f64) -> u32 {
    (value + 0.5) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stream;

    fn rng() -> Rng {
        Rng::new(7, Stream::Lengths, 0)
    }

    #[test]
    fn halves_round_away_from_zero() {
        for (value, rounded) in [(1.5, 2), (2.5, 3), (2.499_999, 2), (0.2, 1), (-3.0, 1)] {
            assert_eq!(Lengths::Constant(value).tokens(&mut rng()), rounded, "{value}");
        }
    }

    #[test]
    fn huge_draws_are_cut_to_the_longest_length() {
        let huge = Lengths::LogNormal { mu: 700.0, sigma: 100.0, clamp: Clamp::NONE };
        assert_eq!(huge.tokens(&mut rng()), LENGTH_MAX);
        assert_eq!(Lengths::Constant(1e300).tokens(&mut rng()), LENGTH_MAX);
        assert_eq!(Lengths::Constant(1e300).count(&mut rng()), 1000);
    }

    #[test]
    fn a_gaussian_without_room_draws_nothing() {
        let fixed = Lengths::gaussian(10.0, 5.0, 12.0, 12.0);
        let mut stream = rng();
        assert_eq!(fixed.tokens(&mut stream), 12);
        assert_eq!(stream.uniform().to_bits(), rng().uniform().to_bits());
    }

    #[test]
    fn lengths_of_weight_zero_never_come() {
        let table = Empirical::new(vec![(9.0, 0.0), (5.0, 2.0), (3.0, 0.0)]).expect("one weight");
        let lengths = Lengths::Empirical(table);
        let mut stream = rng();
        assert!((0..100).all(|_| lengths.tokens(&mut stream) == 5));
    }

    #[test]
    fn weights_that_sum_to_nothing_are_no_table() {
        assert_eq!(Empirical::new(vec![]), None);
        assert_eq!(Empirical::new(vec![(1.0, 0.0)]), None);
        assert_eq!(Empirical::new(vec![(1.0, -1.0), (2.0, 3.0)]), None);
        assert_eq!(Empirical::new(vec![(1.0, f64::NAN)]), None);
    }

    #[test]
    fn a_histogram_keeps_its_shares() {
        let table = Binned::from_cdf(&[(2.0, 0.25), (4.0, 0.25), (104.0, 0.5)]).expect("ascends");
        let lengths = Lengths::Binned(table);
        let mut stream = rng();
        let (mut short, mut sum) = (0, 0.0);
        for _ in 0..40_000 {
            let tokens = lengths.tokens(&mut stream);
            assert!((1..=2).contains(&tokens) || (5..=104).contains(&tokens), "{tokens}");
            short += u32::from(tokens <= 2);
            sum += f64::from(tokens);
        }
        assert!((19_600..=20_400).contains(&short), "{short}");
        assert!((sum / 40_000.0 - f64::midpoint(1.5, 54.5)).abs() < 0.7, "{sum}");
        for wrong in [&[(2.0, 0.5), (2.0, 1.0)][..], &[(2.0, 0.5), (3.0, 0.4)], &[(2.0, 0.0)], &[]]
        {
            assert_eq!(Binned::from_cdf(wrong), None);
        }
    }
}
