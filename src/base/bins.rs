//! A small histogram of durations that can be added up over intervals.

use super::Span;

/// Bins per doubling: the middle of a bin is within 0.8 % of each value in it.
const BINS_PER_OCTAVE: u64 = 64;
/// All bins: microseconds up to 64 one by one, then 30 doublings, up to 19 hours.
const BINS: usize = 31 * BINS_PER_OCTAVE as usize;

/// Upper bounds of the buckets in which vLLM exports latencies, in microseconds; what is longer
/// than the last is counted in a bucket without an end.
pub type Bounds = &'static [u64];

/// Time to first token (`vllm:time_to_first_token_seconds`).
pub const TTFT_BOUNDS: Bounds = &[
    1_000,
    5_000,
    10_000,
    20_000,
    40_000,
    60_000,
    80_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    20_000_000,
    40_000_000,
    80_000_000,
    160_000_000,
    640_000_000,
    2_560_000_000,
];

/// Time per output token (`vllm:time_per_output_token_seconds`).
pub const TPOT_BOUNDS: Bounds = &[
    10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000,
    1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000, 20_000_000, 40_000_000, 80_000_000,
];

/// Whole requests (`vllm:e2e_request_latency_seconds`).
pub const E2E_BOUNDS: Bounds = &[
    300_000,
    500_000,
    800_000,
    1_000_000,
    1_500_000,
    2_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    20_000_000,
    30_000_000,
    40_000_000,
    50_000_000,
    60_000_000,
    120_000_000,
    240_000_000,
    480_000_000,
    960_000_000,
    1_920_000_000,
    7_680_000_000,
];

/// Counts of durations: in logarithmic bins, or in buckets as Prometheus keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bins {
    /// Empty for logarithmic bins.
    bounds: &'static [u64],
    counts: Vec<u32>,
    count: u64,
}

impl Bins {
    /// An empty histogram with these bucket bounds, or with logarithmic bins where there are none.
    pub fn new(bounds: Bounds) -> Self {
        let bins = if bounds.is_empty() { BINS } else { bounds.len() + 1 };
        Self { bounds, counts: vec![0; bins], count: 0 }
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.counts.fill(0);
            self.count = 0;
        }
    }

    /// Adds a value.
    pub fn add(&mut self, span: Span) {
        let us = span.as_us();
        let bin = if self.bounds.is_empty() {
            bin_of(us)
        } else {
            self.bounds.partition_point(|&bound| bound < us)
        };
        self.counts[bin] += 1;
        self.count += 1;
    }

    /// Adds all values of `other`, which has the same bins.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The quantile of `level` in [0, 1], in milliseconds; `None` without values.
    ///
    /// In buckets as `histogram_quantile` of Prometheus gives it: the rank is `level * count`,
    /// interpolated linearly inside its bucket from the bound before (zero before the first); a
    /// rank in the bucket without an end gives the last bound.
    pub fn quantile_ms(&self, level: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = level * self.count as f64;
        let mut below = 0.0;
        for (bin, &count) in self.counts.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && below + count >= rank {
                let share = (rank - below) / count;
                return Some(self.value_us(bin, share) / 1000.0);
            }
            below += count;
        }
        None
    }

    /// The value at `share` of the way through a bin.
    fn value_us(&self, bin: usize, share: f64) -> f64 {
        if self.bounds.is_empty() {
            return f64::midpoint(low_of(bin), low_of(bin + 1));
        }
        let Some(&high) = self.bounds.get(bin) else {
            return self.bounds.last().map_or(0.0, |&last| last as f64);
        };
        let low = if bin == 0 { 0 } else { self.bounds[bin - 1] };
        low as f64 + (high - low) as f64 * share
    }
}

/// The bin of a value: one each below 64 us, then 64 bins per doubling.
fn bin_of(us: u64) -> usize {
    if us < BINS_PER_OCTAVE {
        return us as usize;
    }
    let shift = us.ilog2() - BINS_PER_OCTAVE.ilog2();
    let within = (us >> shift) - BINS_PER_OCTAVE;
    (((u64::from(shift) + 1) * BINS_PER_OCTAVE + within) as usize).min(BINS - 1)
}

/// The least value of a bin, in microseconds.
fn low_of(bin: usize) -> f64 {
    let per_octave = BINS_PER_OCTAVE as usize;
    if bin < per_octave {
        return bin as f64;
    }
    let shift = bin / per_octave - 1;
    (bin % per_octave + per_octave) as f64 * (1_u64 << shift) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_bins_are_within_a_percent() {
        for us in [1_u64, 63, 64, 100, 12_345, 500_000, 77_000_000, 40_000_000_000] {
            let mut bins = Bins::new(&[]);
            bins.add(Span::from_us(us));
            let found = bins.quantile_ms(0.99).expect("one value") * 1000.0;
            assert!((found / us as f64 - 1.0).abs() < 0.0079 || us < 64, "{us}: {found}");
        }
    }

    #[test]
    fn buckets_interpolate_as_prometheus_does() {
        let mut bins = Bins::new(TTFT_BOUNDS);
        for _ in 0..90 {
            bins.add(Span::from_us(50_000));
        }
        for _ in 0..10 {
            bins.add(Span::from_us(300_000));
        }
        // Rank 99 is the 9th of ten in (250, 500] ms.
        assert_eq!(bins.quantile_ms(0.99), Some(475.0));
        // Rank 45 is half way through (40, 60] ms.
        assert_eq!(bins.quantile_ms(0.45), Some(50.0));
        bins.add(Span::from_secs(1e6));
        assert_eq!(bins.quantile_ms(1.0), Some(2_560_000.0));
        assert_eq!(Bins::new(TTFT_BOUNDS).quantile_ms(0.5), None);
    }

    #[test]
    fn sums_of_intervals_are_the_whole() {
        let (mut whole, mut sum) = (Bins::new(&[]), Bins::new(&[]));
        for part in 0..4 {
            let mut bins = Bins::new(&[]);
            for k in 0..100_u64 {
                let span = Span::from_us(k * k * (part + 1) * 37);
                bins.add(span);
                whole.add(span);
            }
            sum.merge(&bins);
        }
        assert_eq!(whole, sum);
    }
}
