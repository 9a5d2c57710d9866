//! Seeded random streams, one per purpose.
//!
//! A stream is named by a seed, a purpose and an index. Drawing more from one stream never moves
//! another, so two policies under one seed meet the same requests (common random numbers).

use rand::{Rng as _, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::ziggurat;

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Times between the arrivals of a client; index: the client.
    Arrivals = 1,
    /// Prompt lengths of a client; index: the client.
    Lengths = 2,
    /// Proposals of the search; index: the batch.
    Proposals = 3,
    /// Space-filling designs of the search.
    Design = 4,
    /// Resampling in statistics.
    Resampling = 5,
    /// Random choices of the router, among tied instances and others.
    RouterTies = 6,
    /// Answer lengths of a client; index: the client.
    Outputs = 7,
    /// How long instances take to start; index: the instance and its launch.
    StartUp = 8,
    /// How long a crash goes unnoticed; index: the instance and its crash.
    Detection = 9,
    /// How long restarts and repairs take; index: the instance and its crash.
    Recovery = 10,
    /// Jitter between a client's attempts; index: the request and its attempt.
    Retries = 11,
    /// When things break by chance; index: the cause and the place.
    Faults = 12,
    /// Whom a reclaim takes; index: the fault and the instance.
    Reclaims = 13,
    /// What surrogates are asked about; index: the batch.
    Surrogates = 14,
    /// Whom a probabilistic admission refuses; index: the request and its attempt.
    Admission = 20,
}

/// A deterministic random stream (xoshiro256++).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The stream of `purpose` and `index` under `seed`.
    pub fn new(seed: u64, purpose: Stream, index: u64) -> Self {
        let mixed = mix(mix(mix(seed) ^ purpose as u64) ^ index);
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Uniform in (0, 1]: safe under a logarithm.
    pub fn uniform_positive(&mut self) -> f64 {
        1.0 - self.uniform()
    }

    /// Uniform in 0..`bound`; `bound` is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        ziggurat::exponential(self)
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        ziggurat::normal(self)
    }

    /// 64 random bits.
    pub(super) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// The finaliser of SplitMix64.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_index() {
        let first = |seed, purpose, index| Rng::new(seed, purpose, index).next_u64();
        let base = first(42, Stream::Arrivals, 0);
        assert_eq!(base, first(42, Stream::Arrivals, 0));
        assert_ne!(base, first(43, Stream::Arrivals, 0));
        assert_ne!(base, first(42, Stream::Lengths, 0));
        assert_ne!(base, first(42, Stream::Arrivals, 1));
    }
}
