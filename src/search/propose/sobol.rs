//! A Sobol sequence with a digital shift: fills the cube evenly, however many points are taken.

use super::{Ask, Fresh, Origin, Proposer};
use crate::base::{Rng, Stream};
use crate::search::candidate::Candidate;
use crate::search::cube;
use crate::search::space::SearchSpace;

/// The points of the sequence in turn, without those already seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sobol;

/// Points looked at per candidate wanted.
const TRIES: usize = 64;
const BITS: usize = 32;

/// Joe and Kuo's primitive polynomials (degree and coefficients) and initial direction numbers
/// of dimensions 2 to 21.
const DIRECTIONS: [(usize, u32, [u32; 7]); 20] = [
    (1, 0, [1, 0, 0, 0, 0, 0, 0]),
    (2, 1, [1, 3, 0, 0, 0, 0, 0]),
    (3, 1, [1, 3, 1, 0, 0, 0, 0]),
    (3, 2, [1, 1, 1, 0, 0, 0, 0]),
    (4, 1, [1, 1, 3, 3, 0, 0, 0]),
    (4, 4, [1, 3, 5, 13, 0, 0, 0]),
    (5, 2, [1, 1, 5, 5, 17, 0, 0]),
    (5, 4, [1, 1, 5, 5, 5, 0, 0]),
    (5, 7, [1, 1, 7, 11, 19, 0, 0]),
    (5, 11, [1, 1, 5, 1, 1, 0, 0]),
    (5, 13, [1, 1, 1, 3, 11, 0, 0]),
    (5, 14, [1, 3, 5, 5, 31, 0, 0]),
    (6, 1, [1, 3, 3, 9, 7, 49, 0]),
    (6, 13, [1, 1, 1, 15, 21, 21, 0]),
    (6, 16, [1, 3, 1, 13, 27, 49, 0]),
    (6, 19, [1, 1, 1, 15, 7, 5, 0]),
    (6, 22, [1, 3, 1, 15, 13, 25, 0]),
    (6, 25, [1, 1, 5, 5, 19, 61, 0]),
    (7, 1, [1, 3, 7, 11, 23, 15, 103]),
    (7, 4, [1, 3, 7, 13, 13, 15, 69]),
];

impl Proposer for Sobol {
    fn origin(&self) -> Origin {
        Origin::Sobol
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let sequence = Sequence::new(ask.space.knobs.len(), ask.space.seeds.base);
        let mut fresh = Fresh::new(ask);
        let looked_at = (ask.history.len() + ask.taken.len() + ask.count) * TRIES;
        let points =
            (0..looked_at as u32).map(|index| cube::decode(ask.space, &sequence.at(index)));
        points.filter(|candidate| fresh.take(candidate)).take(ask.count).collect()
    }
}

/// Whether some of the first points of the sequence keep the space's relations.
pub fn some_allowed(space: &SearchSpace) -> bool {
    const LOOKED_AT: u32 = 20_000;
    let sequence = Sequence::new(space.knobs.len(), space.seeds.base);
    (0..LOOKED_AT).any(|index| space.allows(&cube::decode(space, &sequence.at(index))))
}

/// A shifted sequence of points.
struct Sequence {
    seed: u64,
    directions: Vec<[u32; BITS]>,
    shifts: Vec<u32>,
    /// Dimensions without direction numbers, filled by chance.
    plain: usize,
}

impl Sequence {
    fn new(dimensions: usize, seed: u64) -> Self {
        let known = dimensions.min(DIRECTIONS.len() + 1);
        let mut rng = Rng::new(seed, Stream::Design, 0);
        let shifts = (0..known).map(|_| rng.below(1 << 32) as u32).collect();
        let directions = (0..known).map(directions).collect();
        Self { seed, directions, shifts, plain: dimensions - known }
    }

    /// The point of position `index`, each coordinate in [0, 1).
    fn at(&self, index: u32) -> Vec<f64> {
        let shifted = self.directions.iter().zip(&self.shifts).map(|(directions, shift)| {
            let bits = (0..BITS).filter(|bit| index >> bit & 1 == 1);
            let bits = bits.fold(*shift, |value, bit| value ^ directions[bit]);
            f64::from(bits) / 2_f64.powi(32)
        });
        let mut point: Vec<f64> = shifted.collect();
        let mut rng = Rng::new(self.seed, Stream::Design, 1 + u64::from(index));
        point.extend((0..self.plain).map(|_| rng.uniform()));
        point
    }
}

/// The direction numbers of one dimension, from 0.
fn directions(dimension: usize) -> [u32; BITS] {
    let mut numbers = [0; BITS];
    let Some(row) = dimension.checked_sub(1) else {
        for (bit, number) in numbers.iter_mut().enumerate() {
            *number = 1 << (BITS - 1 - bit);
        }
        return numbers;
    };
    let (degree, coefficients, initial) = DIRECTIONS[row];
    for bit in 0..BITS {
        if bit < degree {
            numbers[bit] = initial[bit] << (BITS - 1 - bit);
            continue;
        }
        let mut number = numbers[bit - degree] ^ (numbers[bit - degree] >> degree);
        for back in 1..degree {
            if coefficients >> (degree - 1 - back) & 1 == 1 {
                number ^= numbers[bit - back];
            }
        }
        numbers[bit] = number;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coordinate_visits_every_interval_once() {
        let sequence = Sequence::new(21, 42);
        for dimension in 0..21 {
            let mut visits = [0; 64];
            for index in 0..64 {
                visits[(sequence.at(index)[dimension] * 64.0) as usize] += 1;
            }
            assert_eq!(visits, [1; 64], "dimension {dimension}");
        }
    }

    #[test]
    fn pairs_of_the_first_dimensions_fill_the_square_evenly() {
        let sequence = Sequence::new(2, 7);
        let mut visits = [0; 16];
        for index in 0..16 {
            let point = sequence.at(index);
            visits[(point[0] * 4.0) as usize * 4 + (point[1] * 4.0) as usize] += 1;
        }
        assert_eq!(visits, [1; 16]);
    }

    #[test]
    fn dimensions_beyond_the_table_still_lie_in_the_cube() {
        let sequence = Sequence::new(30, 1);
        assert!(sequence.at(5).iter().all(|coordinate| (0.0..1.0).contains(coordinate)));
        assert_eq!(sequence.at(5).len(), 30);
        assert_eq!(sequence.at(5), sequence.at(5));
    }
}
