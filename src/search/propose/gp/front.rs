//! The expected gain in hypervolume of two objectives, exactly.
//!
//! The region that a front leaves free is cut into strips along the first axis. A new point gains
//! in each strip the product of how far it reaches into it and of how far it is below the strip's
//! roof, and the two are independent: so the expectation is a sum of products of one-dimensional
//! expected improvements. (Emmerich, Deutz, Klinkenberg, 2011.)

use super::acquire::ln_sum;
use super::model::Prediction;
use crate::base::normal::ln_improvement;

/// Points that do not beat each other, both coordinates to be made small, and the corner that
/// bounds what counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Front {
    /// By the first coordinate, ascending; all below the corner.
    points: Vec<[f64; 2]>,
    corner: [f64; 2],
}

impl Front {
    /// The front of `points`. The corner is the worst of each coordinate and a tenth of the range
    /// beyond; `None` without points.
    pub fn of(points: Vec<[f64; 2]>) -> Option<Self> {
        let end = |axis: usize, pick: fn(f64, f64) -> f64| {
            points.iter().map(|point| point[axis]).reduce(pick)
        };
        let mut corner = [0.0; 2];
        for (axis, corner) in corner.iter_mut().enumerate() {
            let (low, high) = (end(axis, f64::min)?, end(axis, f64::max)?);
            *corner = high + (0.1 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
        }
        Some(Self { points: undominated(points), corner })
    }

    /// The front with one more point, within the same corner.
    #[must_use]
    pub fn with(self, point: [f64; 2]) -> Self {
        let inside = (0..2).all(|axis| point[axis] < self.corner[axis]);
        let points = self.points.iter().copied().chain(inside.then_some(point)).collect();
        Self { points: undominated(points), ..self }
    }

    /// The logarithm of the expected gain of a point with these coordinates.
    pub fn ln_gain(&self, first: Prediction, second: Prediction) -> f64 {
        let inner = self.points.iter().map(|point| point[0]);
        let lefts = std::iter::once(f64::NEG_INFINITY).chain(inner.clone());
        let rights = inner.chain([self.corner[0]]);
        let roofs = std::iter::once(self.corner[1]).chain(self.points.iter().map(|p| p[1]));
        let strips = lefts.zip(rights).zip(roofs).map(|((left, right), roof)| {
            let reach = ln_difference(ln_below(right, first), ln_below(left, first));
            reach + ln_below(roof, second)
        });
        strips.fold(f64::NEG_INFINITY, ln_sum)
    }
}

/// Those of `points` that no other beats, by the first coordinate.
fn undominated(mut points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let mut roof = f64::INFINITY;
    points.retain(|point| {
        let is_below = point[1] < roof;
        roof = roof.min(point[1]);
        is_below
    });
    points
}

/// The logarithm of E[max(0, bound - Y)].
fn ln_below(bound: f64, predicted: Prediction) -> f64 {
    let gap = bound - predicted.mean;
    if bound == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if predicted.deviation > 0.0 {
        predicted.deviation.ln() + ln_improvement(gap / predicted.deviation)
    } else {
        gap.max(0.0).ln()
    }
}

/// ln(e^large - e^small) for `small` of at most `large`.
fn ln_difference(large: f64, small: f64) -> f64 {
    if small >= large { f64::NEG_INFINITY } else { large + (-(small - large).exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    fn front() -> Front {
        Front { points: vec![[1.0, 4.0], [2.0, 2.0], [3.5, 1.0]], corner: [5.0, 5.0] }
    }

    /// The free area that `point` would take.
    fn gain(front: &Front, point: [f64; 2]) -> f64 {
        let mut area = 0.0;
        let mut left = f64::NEG_INFINITY;
        let mut roof = front.corner[1];
        let ends = front.points.iter().copied().chain([[front.corner[0], f64::NEG_INFINITY]]);
        for [right, next] in ends {
            area += (right - point[0].max(left)).max(0.0) * (roof - point[1]).max(0.0);
            (left, roof) = (right, next);
        }
        area
    }

    #[test]
    fn the_expectation_is_that_of_many_draws() {
        let front = front();
        let mut rng = Rng::new(7, Stream::Resampling, 0);
        for (mean, deviation) in [([1.5, 1.5], [0.5, 0.7]), ([3.0, 3.0], [1.0, 0.5])] {
            let draws = 200_000;
            let sum: f64 = (0..draws)
                .map(|_| {
                    let point = [0, 1].map(|axis| mean[axis] + deviation[axis] * rng.normal());
                    gain(&front, point)
                })
                .sum();
            let [a, b] =
                [0, 1].map(|axis| Prediction { mean: mean[axis], deviation: deviation[axis] });
            let (found, drawn) = (front.ln_gain(a, b).exp(), sum / f64::from(draws));
            assert!((found / drawn - 1.0).abs() < 0.02, "{found} against {drawn}");
        }
    }

    #[test]
    fn a_certain_point_gains_its_own_area() {
        let front = front();
        let certain = |mean: f64| Prediction { mean, deviation: 0.0 };
        for point in [[0.5, 0.5], [1.5, 3.0], [4.5, 0.9], [2.5, 2.5], [6.0, 0.0]] {
            let found = front.ln_gain(certain(point[0]), certain(point[1])).exp();
            assert!((found - gain(&front, point)).abs() < 1e-9, "{point:?}: {found}");
        }
    }

    #[test]
    fn dominated_points_and_twins_are_not_on_the_front() {
        let points = vec![[2.0, 2.0], [1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [2.0, 3.0]];
        let front = Front::of(points).expect("points");
        assert_eq!(front.points, [[1.0, 4.0], [2.0, 2.0]]);
        assert!((front.corner[0] - 3.2).abs() < 1e-12 && (front.corner[1] - 4.2).abs() < 1e-12);
        assert_eq!(Front::of(vec![]), None);
    }

    #[test]
    fn far_from_the_front_the_gain_still_points_somewhere() {
        let uncertain = |mean: f64| Prediction { mean, deviation: 0.1 };
        let front = front();
        let near = front.ln_gain(uncertain(6.0), uncertain(6.0));
        let far = front.ln_gain(uncertain(9.0), uncertain(9.0));
        assert!(near.is_finite() && far.is_finite() && near > far);
    }
}
