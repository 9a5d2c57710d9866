//! A hash of 128 bits that names content: `MurmurHash3` (x64, 128 bit), read in pieces.
//!
//! Two different contents get the same name with a chance of 2^-128 per pair, unless somebody
//! chose them to.

use std::fmt;

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;
const BLOCK: usize = 16;

/// A hash in the making. It can be written to like any text: `write!(hash, "{value:?}")`.
#[derive(Clone, Debug, Default)]
pub struct Hash128 {
    low: u64,
    high: u64,
    /// Bytes seen.
    length: u64,
    /// Bytes that do not fill a block yet: `length % BLOCK` of them.
    rest: [u8; BLOCK],
}

impl Hash128 {
    /// The hash of nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> u128 {
        let mut hash = Self::new();
        hash.update(bytes);
        hash.finish()
    }

    /// Takes more bytes; how they are cut into pieces does not matter.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.length % BLOCK as u64) as usize;
        self.length += bytes.len() as u64;
        if held > 0 {
            let taken = bytes.len().min(BLOCK - held);
            self.rest[held..held + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if held + taken < BLOCK {
                return;
            }
            let block = self.rest;
            self.mix(&block);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.mix(block);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    /// The hash of all that was taken.
    pub fn finish(&self) -> u128 {
        let held = (self.length % BLOCK as u64) as usize;
        let mut last = [0; BLOCK];
        last[..held].copy_from_slice(&self.rest[..held]);
        let (low, high) = halves(&last);
        let mut h1 = self.low ^ scrambled(low, C1, 31, C2) ^ self.length;
        let mut h2 = self.high ^ scrambled(high, C2, 33, C1) ^ self.length;
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        h1 = avalanched(h1);
        h2 = avalanched(h2);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        u128::from(h1) << 64 | u128::from(h2)
    }

    fn mix(&mut self, block: &[u8; BLOCK]) {
        let (low, high) = halves(block);
        let h1 = (self.low ^ scrambled(low, C1, 31, C2)).rotate_left(27).wrapping_add(self.high);
        self.low = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        let h2 = (self.high ^ scrambled(high, C2, 33, C1)).rotate_left(31).wrapping_add(self.low);
        self.high = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
}

impl fmt::Write for Hash128 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

fn halves(block: &[u8; BLOCK]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    (both as u64, (both >> 64) as u64)
}

fn scrambled(half: u64, before: u64, by: u32, after: u64) -> u64 {
    half.wrapping_mul(before).rotate_left(by).wrapping_mul(after)
}

fn avalanched(mut half: u64) -> u64 {
    half ^= half >> 33;
    half = half.wrapping_mul(0xff51_afd7_ed55_8ccd);
    half ^= half >> 33;
    half = half.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    half ^ half >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_are_met() {
        let published: [(&str, u128); 5] = [
            ("", 0),
            ("hello", 0xcbd8_a7b3_41bd_9b02_5b1e_906a_48ae_1d19),
            ("hello, world", 0x342f_ac62_3a5e_bc8e_4cdc_bc07_9642_414d),
            ("19 Jan 2038 at 3:14:07 AM", 0xb89e_5988_b737_affc_664f_c295_0231_b2cb),
            (
                "The quick brown fox jumps over the lazy dog.",
                0xcd99_481f_9ee9_02c9_695d_a1a3_8987_b6e7,
            ),
        ];
        for (text, hash) in published {
            assert_eq!(Hash128::of(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..100_u8).map(|k| k.wrapping_mul(37)).collect();
        let whole = Hash128::of(&bytes);
        for size in 1..40 {
            let mut hash = Hash128::new();
            bytes.chunks(size).for_each(|piece| hash.update(piece));
            assert_eq!(hash.finish(), whole, "pieces of {size}");
        }
    }

    #[test]
    fn every_bit_and_every_byte_more_counts() {
        let bytes = [7_u8; 50];
        let mut seen = std::collections::BTreeSet::from([Hash128::of(&bytes)]);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(Hash128::of(&other)), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(seen.insert(Hash128::of(&bytes[..length])), "{length} bytes");
        }
    }
}
