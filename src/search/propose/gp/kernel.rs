//! Matern-5/2 over coordinates of which some are choices, for many points at once.
//!
//! Everything is a loop over long lists of numbers with no branch and no call inside, which
//! compilers turn into vector instructions; the exponential is our own for that reason, and gives
//! the same bits on every machine.

/// One coordinate of many points.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Whether it is a choice: two of its options are one apart.
    is_choice: bool,
    values: Vec<f64>,
}

impl Axis {
    /// Every coordinate of `rows`; `choices` says which are choices.
    pub fn all(choices: &[bool], rows: &[Vec<f64>]) -> Vec<Self> {
        let axis = |(index, &is_choice): (usize, &bool)| Self {
            is_choice,
            values: rows.iter().map(|row| row[index]).collect(),
        };
        choices.iter().enumerate().map(axis).collect()
    }

    /// Adds the squared distances of the first points to `value`, each times `weight`, to `sums`,
    /// which has one entry for each of those.
    pub fn add_squares(&self, value: f64, weight: f64, sums: &mut [f64]) {
        let each = sums.iter_mut().zip(&self.values);
        if self.is_choice {
            // Options are exact numbers, not measurements.
            #[expect(clippy::float_cmp)]
            each.for_each(|(sum, other)| *sum += if value == *other { 0.0 } else { weight });
        } else {
            each.for_each(|(sum, other)| *sum += weight * (value - other) * (value - other));
        }
    }

    /// The value of point `index`.
    pub fn at(&self, index: usize) -> f64 {
        self.values[index]
    }
}

/// The kernel between points that it knows and any other.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    axes: Vec<Axis>,
    /// Per coordinate one over the square of its length scale.
    weights: Vec<f64>,
    /// Of a point with itself.
    pub signal: f64,
}

impl Kernel {
    /// The kernel of `signal` and these length scales, between `rows` and any other; `choices`
    /// says which coordinates are choices.
    pub fn new(choices: &[bool], rows: &[Vec<f64>], scales: &[f64], signal: f64) -> Self {
        let weights = scales.iter().map(|scale| 1.0 / (scale * scale)).collect();
        Self { axes: Axis::all(choices, rows), weights, signal }
    }

    /// The covariances of `point` with the first `count` points.
    pub fn covariances(&self, point: &[f64], count: usize) -> Vec<f64> {
        let mut found = vec![0.0; count];
        for ((axis, weight), value) in self.axes.iter().zip(&self.weights).zip(point) {
            axis.add_squares(*value, *weight, &mut found);
        }
        matern(self.signal, &mut found);
        found
    }

    /// Takes one more point.
    pub fn push(&mut self, point: &[f64]) {
        self.axes.iter_mut().zip(point).for_each(|(axis, value)| axis.values.push(*value));
    }
}

/// The kernel at each of `squares`, squared distances, times `signal`, in their place.
pub fn matern(signal: f64, squares: &mut [f64]) {
    for square in squares {
        let root = (5.0 * *square).sqrt();
        *square = signal * (1.0 + root + root * root / 3.0) * exp_of_negative(-root);
    }
}

/// How the kernel falls with the squared distance, at each of `squares`: minus twice its slope.
pub fn matern_slopes(squares: &[f64]) -> Vec<f64> {
    let slope = |&square: &f64| {
        let root = (5.0 * square).sqrt();
        (5.0 / 3.0) * (1.0 + root) * exp_of_negative(-root)
    };
    squares.iter().map(slope).collect()
}

/// Where e^x is taken for nothing.
const LOWEST: f64 = -700.0;
/// Added to a number below 2^51 it leaves the nearest integer in the last bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts: products of the first with small integers are exact.
const LN_2: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);
/// 1/n! for n from 12 down to 0.
const TAYLOR: [f64; 13] = [
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// e^x for x <= 0, to a few units in the last place; e^-700 below that.
#[inline]
fn exp_of_negative(x: f64) -> f64 {
    let x = if x < LOWEST { LOWEST } else { x };
    // x = k ln 2 + rest, and |rest| <= ln(2) / 2.
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let k = shifted - ROUNDER;
    let rest = (x - k * LN_2.0) - k * LN_2.1;
    let mut sum = TAYLOR[0];
    for coefficient in &TAYLOR[1..] {
        sum = sum * rest + coefficient;
    }
    // The last bits of `shifted` hold k: moved to the exponent and added to its bias, 2^k.
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    sum * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_exponential_is_that_of_the_library(x in -690.0..0.0) {
            let (own, library) = (exp_of_negative(x), x.exp());
            prop_assert!((own - library).abs() <= 1e-15 * library, "{own:e} {library:e}");
        }
    }

    #[test]
    fn the_exponential_of_zero_is_one_and_of_what_is_far_below_next_to_nothing() {
        assert_eq!(exp_of_negative(0.0).to_bits(), 1.0_f64.to_bits());
        for far in [-701.0, -1e9, f64::NEG_INFINITY] {
            assert!(exp_of_negative(far) < 1e-300);
        }
        assert!(exp_of_negative(f64::NAN).is_nan());
    }

    #[test]
    fn distances_are_squares_of_numbers_and_one_between_options() {
        let rows = [vec![0.5, 2.0], vec![0.1, 0.0]];
        let axes = Axis::all(&[false, true], &rows);
        let mut sums = vec![0.0; 2];
        axes[0].add_squares(0.3, 10.0, &mut sums);
        axes[1].add_squares(2.0, 3.0, &mut sums);
        assert!((sums[0] - 0.4).abs() < 1e-12 && (sums[1] - 3.4).abs() < 1e-12, "{sums:?}");
    }

    #[test]
    fn distances_count_in_length_scales_also_to_a_point_that_came_later() {
        let mut kernel = Kernel::new(&[false, true], &[vec![0.0, 1.0]], &[2.0, 4.0], 3.0);
        kernel.push(&[1.0, 0.0]);
        let mut expected = [0.25 * 0.25, 0.25 * 0.25 + 1.0 / 16.0];
        matern(3.0, &mut expected);
        assert_eq!(kernel.covariances(&[0.5, 1.0], 2), expected);
    }

    #[test]
    fn the_kernel_falls_from_the_signal_with_its_slope() {
        let at = |square: f64| {
            let mut one = [square];
            matern(2.0, &mut one);
            one[0]
        };
        assert!((at(0.0) - 2.0).abs() < 1e-15);
        // (1 + sqrt 5 + 5/3) e^(-sqrt 5) at a distance of one.
        assert!((at(1.0) / 2.0 - 0.523_994_108_831_820_3).abs() < 1e-12, "{}", at(1.0));
        let slope = (at(1.0 + 1e-5) - at(1.0 - 1e-5)) / 2e-5;
        assert!((slope + matern_slopes(&[1.0])[0]).abs() < 1e-8, "{slope}");
    }
}
