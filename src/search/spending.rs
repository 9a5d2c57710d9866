//! How the error of a study is spent on its tries.
//!
//! A study may name a winner that does not keep its promises with a chance of at most
//! 1 - confidence. Whoever tries ten candidates at that error each errs far more often, so the
//! error is spent:
//!
//! - One half belongs to the finalists, the other to the rounds of the certificate, round r having
//!   1 / (r (r + 1)) of it; without a certificate the finalists have it all.
//! - Try k of its stage has 1 / (k (k + 1)) of that: one half, one sixth, one twelfth, ...; all
//!   shares together are one, however many tries there are, and the first has most.
//! - A try is looked at after `verify` fresh seeds, twice as many, and so on; its looks share
//!   alike, since their number is known before.
//!
//! The sum of all is at most the error (Bonferroni), whatever depends on what. The candidates of a
//! stage meet the same fresh seeds, so that they differ by what they are and not by luck: that is
//! sound since who is tried, and in which order, was fixed before any of these seeds was met. A
//! round of the certificate depends on who passed before it, and meets seeds of its own.
//!
//! All promises of a candidate are tested at the same error, undivided: a candidate passes only
//! where all are kept, so a bad one passes no more often than its worst promise alone would.

use super::space::{Proof, Seeds};

/// After how many fresh seeds a candidate is looked at, ascending.
pub fn looks(seeds: &Seeds, proof: &Proof) -> Vec<u32> {
    let most = proof.fresh_max.unwrap_or(4 * seeds.verify).clamp(seeds.verify, Seeds::FRESH_MAX);
    let mut looks = vec![seeds.verify];
    while let Some(&last) = looks.last().filter(|&&last| last < most) {
        // A short last step is not worth a look of its own.
        looks.push(if 3 * last >= most { most } else { 2 * last });
    }
    looks
}

/// The error that each look at a candidate may spend, in `round` (0: the finalists; from 1 on the
/// rounds of the certificate) after `tries` others of that round.
pub fn error(seeds: &Seeds, proof: &Proof, round: u32, tries: u32) -> f64 {
    let part = |count: u32| 1.0 / (f64::from(count) * f64::from(count + 1));
    let stage = match (proof.certificate, round) {
        (0, _) => 1.0,
        (_, 0) => 0.5,
        (_, round) => 0.5 * part(round),
    };
    proof.error() * stage * part(tries + 1) / looks(seeds, proof).len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_candidate_is_looked_at_after_twice_as_many_seeds_each_time() {
        let seeds = Seeds::default();
        let looks = |verify, most| {
            looks(&Seeds { verify, ..seeds }, &Proof { fresh_max: most, ..Proof::default() })
        };
        assert_eq!(looks(10, None), [10, 20, 40]);
        assert_eq!(looks(10, Some(10)), [10]);
        assert_eq!(looks(10, Some(100)), [10, 20, 40, 100]);
        assert_eq!(looks(10, Some(150)), [10, 20, 40, 80, 150]);
        assert_eq!(looks(10, Some(11)), [10, 11]);
        assert_eq!(looks(1000, None), [1000]);
    }

    #[test]
    fn the_first_try_of_a_study_has_most() {
        let (seeds, proof) = (Seeds::default(), Proof::default());
        let at = |round, tries| error(&seeds, &proof, round, tries);
        assert!((at(0, 0) - 0.05 / 12.0).abs() < 1e-15);
        assert!((at(0, 1) - 0.05 / 36.0).abs() < 1e-15);
        assert!((at(1, 0) - 0.05 / 24.0).abs() < 1e-15);
        let alone = Proof { certificate: 0, fresh_max: Some(10), ..proof };
        assert!((error(&seeds, &alone, 0, 0) - 0.025).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn no_more_than_the_error_is_spent(
            confidence in 0.5_f64..0.999,
            verify in 2_u32..200,
            most in 2_u32..1000,
            certificate in 0_u32..2,
        ) {
            let seeds = Seeds { verify, ..Seeds::default() };
            let fresh_max = Some(most.max(verify));
            let proof = Proof { confidence, fresh_max, certificate, frontier: None };
            let mut spent = 0.0;
            for round in 0..if certificate == 0 { 1 } else { 60 } {
                for tries in 0..60 {
                    let looks = looks(&seeds, &proof).len() as f64;
                    spent += looks * error(&seeds, &proof, round, tries);
                }
            }
            prop_assert!(spent <= proof.error() && spent > 0.9 * proof.error());
        }
    }
}
