//! Distributions of durations: exact while they are small, log-spaced bins when they are large.

use crate::base::Span;

/// Values kept one by one before a distribution turns to bins.
const EXACT_MAX: usize = 8192;
/// Bins per doubling; the middle of a bin is within 2^-10 (0.098 %) of each value in it.
const BINS_PER_OCTAVE: usize = 512;
/// Doublings covered above 512 ns: up to 78 hours.
const OCTAVES: usize = 39;

/// A distribution of durations that takes runs of equal values.
///
/// Up to 8,192 runs it is exact; beyond, quantiles have a relative error of at most 0.1 %. The
/// mean and the maximum are exact always.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    exact: Vec<(u64, u64)>,
    bins: Vec<u64>,
    count: u64,
    total_ns: u128,
    max_ns: u64,
}

impl Distribution {
    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.exact.clear();
        self.bins.fill(0);
        self.count = 0;
        self.total_ns = 0;
        self.max_ns = 0;
    }

    /// Adds `times` values of `span` each, with a resolution of a nanosecond.
    pub fn add(&mut self, span: Span, times: u64) {
        if times == 0 {
            return;
        }
        let ns = span.as_ps() / 1000;
        self.total_ns += u128::from(ns) * u128::from(times);
        self.max_ns = self.max_ns.max(ns);
        let binned = self.count > 0 && self.exact.is_empty();
        self.count += times;
        if binned {
            self.bins[bin_of(ns)] += times;
            return;
        }
        self.exact.push((ns, times));
        if self.exact.len() > EXACT_MAX {
            self.spill();
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many values are above `span`; where there are bins, without those in its own bin.
    pub fn count_above(&self, span: Span) -> u64 {
        let ns = span.as_ps() / 1000;
        if self.max_ns <= ns {
            return 0;
        }
        let exact = self.exact.iter().filter(|(value, _)| *value > ns).map(|(_, times)| times);
        let bins = self.bins.iter().skip(bin_of(ns) + 1);
        exact.chain(bins).sum()
    }

    /// The mean in milliseconds; zero without values.
    pub fn mean_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total_ns as f64 / self.count as f64 / 1e6 }
    }

    /// The largest value in milliseconds; zero without values.
    pub fn max_ms(&self) -> f64 {
        self.max_ns as f64 / 1e6
    }

    /// The quantiles of ascending `levels` in [0, 1], in milliseconds; zeros without values.
    /// The quantile of level q interpolates linearly at rank q (n - 1).
    pub fn quantiles_ms<const N: usize>(&mut self, levels: [f64; N]) -> [f64; N] {
        let mut quantiles = [0.0; N];
        if self.count == 0 {
            return quantiles;
        }
        self.exact.sort_unstable();
        let mut walk = Walk::new(self);
        for (quantile, level) in quantiles.iter_mut().zip(levels) {
            let rank = level * (self.count - 1) as f64;
            let low = walk.value_at(rank.floor() as u64);
            let high = walk.peek_at(rank.ceil() as u64);
            *quantile = (low + (high - low) * (rank - rank.floor())) / 1e6;
        }
        quantiles
    }

    fn spill(&mut self) {
        if self.bins.is_empty() {
            self.bins.resize(BINS_PER_OCTAVE * (OCTAVES + 1), 0);
        }
        for (ns, times) in self.exact.drain(..) {
            self.bins[bin_of(ns)] += times;
        }
    }
}

/// The bin of a value: linear below 512 ns, then 512 bins per doubling.
fn bin_of(ns: u64) -> usize {
    if ns < BINS_PER_OCTAVE as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - BINS_PER_OCTAVE.ilog2();
    let within = (ns >> shift) as usize - BINS_PER_OCTAVE;
    ((shift as usize + 1) * BINS_PER_OCTAVE + within).min(BINS_PER_OCTAVE * (OCTAVES + 1) - 1)
}

/// The middle of a bin, in nanoseconds.
fn middle_of(bin: usize) -> f64 {
    if bin < BINS_PER_OCTAVE {
        return bin as f64;
    }
    let shift = bin / BINS_PER_OCTAVE - 1;
    let low = ((bin % BINS_PER_OCTAVE + BINS_PER_OCTAVE) << shift) as f64;
    low + ((1u64 << shift) - 1) as f64 / 2.0
}

/// Walks the values of a distribution in ascending order, by rank.
struct Walk<'a> {
    distribution: &'a Distribution,
    position: usize,
    below: u64,
}

impl<'a> Walk<'a> {
    fn new(distribution: &'a Distribution) -> Self {
        Self { distribution, position: 0, below: 0 }
    }

    fn times(&self, position: usize) -> u64 {
        let distribution = self.distribution;
        match distribution.exact.get(position) {
            Some(&(_, times)) => times,
            None => distribution.bins.get(position).copied().unwrap_or(0),
        }
    }

    fn value(&self, position: usize) -> f64 {
        let distribution = self.distribution;
        match distribution.exact.get(position) {
            Some(&(ns, _)) => ns as f64,
            None => middle_of(position).min(distribution.max_ns as f64),
        }
    }

    /// The value at `rank`; ranks asked for must not fall.
    fn value_at(&mut self, rank: u64) -> f64 {
        while self.below + self.times(self.position) <= rank {
            self.below += self.times(self.position);
            self.position += 1;
        }
        self.value(self.position)
    }

    /// The value at `rank` without moving on.
    fn peek_at(&self, rank: u64) -> f64 {
        Self { distribution: self.distribution, ..*self }.value_at(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Span {
        Span::from_us(value * 1000)
    }

    #[test]
    fn small_distributions_interpolate_exactly() {
        let mut distribution = Distribution::default();
        for value in [4, 1, 3, 2] {
            distribution.add(ms(value), 1);
        }
        assert_eq!(distribution.quantiles_ms([0.0, 0.5, 1.0]), [1.0, 2.5, 4.0]);
        assert_eq!((distribution.mean_ms(), distribution.max_ms()), (2.5, 4.0));
    }

    #[test]
    fn a_run_equals_its_values() {
        let (mut runs, mut values) = (Distribution::default(), Distribution::default());
        for k in 0..20_000u64 {
            runs.add(Span::from_us(k * 7 % 9000), 3);
            for _ in 0..3 {
                values.add(Span::from_us(k * 7 % 9000), 1);
            }
        }
        let levels = [0.01, 0.5, 0.9, 0.99];
        assert_eq!(runs.quantiles_ms(levels), values.quantiles_ms(levels));
        assert_eq!(runs.count(), values.count());
    }

    #[test]
    fn large_distributions_are_within_a_thousandth() {
        let mut distribution = Distribution::default();
        let value = |k: u64| 1 + k * k * 13;
        for k in 0..50_000 {
            distribution.add(Span::from_us(value(k)), 1);
        }
        for level in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999] {
            let rank: f64 = level * 49_999.0;
            let (low, high) = (value(rank.floor() as u64), value(rank.ceil() as u64));
            let exact = (low as f64 + (high - low) as f64 * rank.fract()) / 1000.0;
            let [quantile] = distribution.quantiles_ms([level]);
            assert!((quantile / exact - 1.0).abs() < 1.1e-3, "{level}: {quantile} for {exact}");
        }
    }

    #[test]
    fn a_cleared_distribution_is_new() {
        let mut distribution = Distribution::default();
        for k in 0..20_000 {
            distribution.add(Span::from_us(k), 1);
        }
        distribution.clear();
        assert_eq!(distribution.quantiles_ms([0.5]), [0.0]);
        distribution.add(ms(5), 1);
        assert_eq!(distribution.quantiles_ms([0.5]), [5.0]);
    }
}
