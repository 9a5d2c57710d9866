//! The expected gain in hypervolume of two or three objectives, exactly.
//!
//! The region that a front leaves free is cut into boxes. Of two axes these are strips along the
//! first one; of three axes the space is first cut into slices along the first one, and each slice
//! into the strips that the points begun before it leave. A new point gains in each box the product
//! of how far it reaches into it along each axis, and these are independent: so the expectation is
//! a sum of products of one-dimensional expected improvements. (Emmerich, Deutz, Klinkenberg,
//! 2011.)

use super::acquire::ln_sum;
use super::model::Prediction;
use crate::base::normal::{ln_cumulative, ln_improvement};

/// Points that do not beat each other, all coordinates to be made small, and the corner that
/// bounds what counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Front {
    /// Ascending.
    points: Vec<Vec<f64>>,
    corner: Vec<f64>,
    /// Per axis the coordinates at which boxes end, ascending, the corner last.
    edges: Vec<Vec<f64>>,
    /// What the points leave free.
    boxes: Vec<Vec<Side>>,
}

/// What is expected of a point along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    /// The prediction.
    pub found: Prediction,
    /// Whether it is about the logarithm of the coordinate.
    pub log: bool,
}

impl Coordinate {
    /// What the coordinate is below half of the time.
    pub fn middle(&self) -> f64 {
        if self.log { self.found.mean.exp() } else { self.found.mean }
    }

    /// The logarithm of E[max(0, bound - Y)].
    fn ln_below(&self, bound: f64) -> f64 {
        let Prediction { mean, deviation } = self.found;
        if !self.log || deviation <= 0.0 {
            return ln_below(bound, Prediction { mean: self.middle(), deviation });
        }
        if bound <= 0.0 {
            return f64::NEG_INFINITY;
        }
        // With d = (ln bound - mean) / deviation it is, in units of the bound,
        // P(Z < d) - exp(deviation^2 / 2 - deviation d) P(Z < d - deviation).
        let depth = (bound.ln() - mean) / deviation;
        let most = ln_cumulative(depth);
        let less = deviation * (0.5 * deviation - depth) + ln_cumulative(depth - deviation) - most;
        // Where the two hardly differ the coordinate is as good as normal.
        let share = if less < -1e-6 {
            most + (-less.exp()).ln_1p()
        } else {
            deviation.ln() + ln_improvement(depth)
        };
        bound.ln() + share
    }
}

/// The extent of a box along one axis, as indexes of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    /// `None`: without end.
    from: Option<usize>,
    to: usize,
}

impl Front {
    /// The front of `points`, which all have the same two or three coordinates. The corner is the
    /// worst of each coordinate and a tenth of the range beyond; `None` without points.
    pub fn of(points: Vec<Vec<f64>>) -> Option<Self> {
        let axes = points.first()?.len();
        let corner = (0..axes).map(|axis| {
            let along = points.iter().map(|point| point[axis]);
            let (low, high) =
                along.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            high + (0.1 * (high - low)).max(1e-3 * high.abs()).max(1e-6)
        });
        let corner = corner.collect();
        Some(Self::within(corner, points))
    }

    /// The front of those of `points` that are below `corner`.
    fn within(corner: Vec<f64>, mut points: Vec<Vec<f64>>) -> Self {
        points.retain(|point| point.iter().zip(&corner).all(|(value, end)| value < end));
        let points = undominated(points);
        let edges: Vec<Vec<f64>> = corner
            .iter()
            .enumerate()
            .map(|(axis, &end)| {
                let mut edges: Vec<f64> = points.iter().map(|point| point[axis]).collect();
                edges.push(end);
                edges.sort_by(f64::total_cmp);
                edges.dedup();
                edges
            })
            .collect();
        let indexed = |point: &Vec<f64>| -> Vec<usize> {
            let at =
                |(axis, value): (usize, &f64)| edges[axis].partition_point(|edge| edge < value);
            point.iter().enumerate().map(at).collect()
        };
        let indexed: Vec<Vec<usize>> = points.iter().map(indexed).collect();
        let ends: Vec<usize> = edges.iter().map(|edges| edges.len() - 1).collect();
        let boxes = free(&indexed, &ends);
        Self { points, corner, edges, boxes }
    }

    /// The front with one more point, within the same corner.
    #[must_use]
    pub fn with(self, point: Vec<f64>) -> Self {
        let points = self.points.into_iter().chain([point]).collect();
        Self::within(self.corner, points)
    }

    /// The logarithm of the expected gain of a point with these coordinates.
    pub fn ln_gain(&self, expected: &[Coordinate]) -> f64 {
        let below: Vec<Vec<f64>> = self
            .edges
            .iter()
            .zip(expected)
            .map(|(edges, found)| edges.iter().map(|&edge| found.ln_below(edge)).collect())
            .collect();
        // Shares of what the corner would let through: nothing overflows.
        let most: Vec<f64> = below.iter().map(|column| *column.last().expect("a corner")).collect();
        if most.contains(&f64::NEG_INFINITY) {
            return f64::NEG_INFINITY;
        }
        let shares: Vec<Vec<f64>> = below
            .iter()
            .zip(&most)
            .map(|(column, most)| column.iter().map(|ln| (ln - most).exp()).collect())
            .collect();
        let reach = |shares: &[f64], side: &Side| {
            shares[side.to] - side.from.map_or(0.0, |from| shares[from])
        };
        let gains = self.boxes.iter().map(|sides| -> f64 {
            sides.iter().zip(&shares).map(|(side, shares)| reach(shares, side)).product()
        });
        let gain: f64 = gains.sum();
        if gain > f64::MIN_POSITIVE {
            return gain.ln() + most.iter().sum::<f64>();
        }
        // So far off that shares vanish: the same in logarithms, which takes longer.
        let ln_reach = |column: &[f64], side: &Side| {
            let from = side.from.map_or(f64::NEG_INFINITY, |from| column[from]);
            ln_difference(column[side.to], from)
        };
        let gains = self.boxes.iter().map(|sides| -> f64 {
            sides.iter().zip(&below).map(|(side, column)| ln_reach(column, side)).sum()
        });
        gains.fold(f64::NEG_INFINITY, ln_sum)
    }
}

/// The boxes that `points` leave free below `ends`, all as indexes of edges.
fn free(points: &[Vec<usize>], ends: &[usize]) -> Vec<Vec<Side>> {
    let Some((&end, rest)) = ends.split_first() else { return vec![Vec::new()] };
    let mut cuts: Vec<usize> = points.iter().map(|point| point[0]).chain([end]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut boxes = Vec::new();
    let mut from = None;
    for to in cuts {
        // What begins before the slice fills it up; of one axis nothing beyond it is free.
        let begun = points.iter().filter(|point| from.is_some_and(|from| point[0] <= from));
        let begun: Vec<Vec<usize>> = begun.map(|point| point[1..].to_vec()).collect();
        let filled = rest.is_empty() && !begun.is_empty();
        if !filled {
            for mut sides in free(&begun, rest) {
                sides.insert(0, Side { from, to });
                boxes.push(sides);
            }
        }
        from = Some(to);
    }
    boxes
}

/// Those of `points` that no other beats, ascending, each once.
fn undominated(mut points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let ascending = |a: &Vec<f64>, b: &Vec<f64>| {
        let pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
        pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    points.sort_by(ascending);
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for point in points {
        // Whoever beats a point comes before it.
        let beaten = |by: &Vec<f64>| by.iter().zip(&point).all(|(by, own)| by <= own);
        if !kept.iter().any(beaten) {
            kept.push(point);
        }
    }
    kept
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
    use crate::search::pareto::hypervolume;
    use proptest::prelude::*;

    fn front() -> Front {
        let points = [[1.0, 4.0], [2.0, 2.0], [3.5, 1.0]];
        Front::within(vec![5.0, 5.0], points.map(Vec::from).to_vec())
    }

    fn front_of_three() -> Front {
        let points = [[1.0, 4.0, 3.0], [2.0, 2.0, 2.0], [3.5, 1.0, 4.0], [4.0, 4.0, 0.5]];
        Front::within(vec![5.0; 3], points.map(Vec::from).to_vec())
    }

    /// The free space that `point` would take.
    fn gain(front: &Front, point: &[f64]) -> f64 {
        // A box so large that everything lies in it.
        let low = -100.0;
        let scaled = |point: &[f64]| -> Vec<f64> {
            let pairs = point.iter().zip(&front.corner);
            pairs.map(|(value, end)| (value - low) / (end - low)).collect()
        };
        let all: f64 = front.corner.iter().map(|end| end - low).product();
        let before: Vec<Vec<f64>> = front.points.iter().map(|point| scaled(point)).collect();
        let after: Vec<Vec<f64>> = before.iter().cloned().chain([scaled(point)]).collect();
        all * (hypervolume(&after) - hypervolume(&before))
    }

    fn predictions(mean: &[f64], deviation: &[f64]) -> Vec<Coordinate> {
        let pairs = mean.iter().zip(deviation);
        pairs
            .map(|(&mean, &deviation)| Coordinate {
                found: Prediction { mean, deviation },
                log: false,
            })
            .collect()
    }

    #[test]
    fn of_a_logarithm_the_expectation_is_that_of_many_draws() {
        let mut rng = Rng::new(8, Stream::Resampling, 0);
        for (mean, deviation, bound) in [(1.0, 0.5, 4.0), (1.0, 0.5, 1.5), (2.0, 1.5, 3.0)] {
            let expected = Coordinate { found: Prediction { mean, deviation }, log: true };
            let draws = 200_000;
            let below = |_| (bound - f64::exp(mean + deviation * rng.normal())).max(0.0);
            let drawn = (0..draws).map(below).sum::<f64>() / f64::from(draws);
            let found = expected.ln_below(bound).exp();
            assert!((found / drawn - 1.0).abs() < 0.02, "{found} against {drawn}");
        }
        // A narrow one is as good as normal, wherever it lies; and far off it still points.
        let at = |mean: f64, deviation: f64, log: bool| {
            Coordinate { found: Prediction { mean, deviation }, log }.ln_below(2.0)
        };
        for away in [-30.0, -3.0, 0.0, 3.0] {
            let narrow = at((2.0_f64).ln() - 1e-7 * away, 1e-7, true);
            assert!((narrow - at(2.0 - 2e-7 * away, 2e-7, false)).abs() < 1e-3, "{narrow}");
        }
        assert!(at(9.0, 0.1, true).is_finite() && at(9.0, 0.1, true) > at(12.0, 0.1, true));
        assert_eq!(at(1.0, 0.1, true).total_cmp(&f64::NEG_INFINITY), std::cmp::Ordering::Greater);
    }

    #[test]
    fn the_expectation_is_that_of_many_draws() {
        let mut rng = Rng::new(7, Stream::Resampling, 0);
        for front in [front(), front_of_three()] {
            let axes = front.corner.len();
            for (mean, deviation) in
                [([1.5, 1.5, 1.5], [0.5, 0.7, 0.6]), ([3.0, 3.0, 2.5], [1.0, 0.5, 0.8])]
            {
                let draws = 100_000;
                let sum: f64 = (0..draws)
                    .map(|_| {
                        let point: Vec<f64> =
                            (0..axes).map(|at| mean[at] + deviation[at] * rng.normal()).collect();
                        gain(&front, &point)
                    })
                    .sum();
                let found = front.ln_gain(&predictions(&mean[..axes], &deviation[..axes])).exp();
                let drawn = sum / f64::from(draws);
                assert!((found / drawn - 1.0).abs() < 0.02, "{found} against {drawn}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_certain_point_gains_what_it_takes(
            points in prop::collection::vec(prop::collection::vec(0_u8..9, 3), 0..12),
            point in prop::collection::vec(0_u8..12, 3),
            axes in 2_usize..4,
        ) {
            let values =
                |point: &[u8]| point[..axes].iter().copied().map(f64::from).collect::<Vec<f64>>();
            let front = Front::within(vec![9.0; axes], points.iter().map(|p| values(p)).collect());
            let point = values(&point);
            let found = front.ln_gain(&predictions(&point, &[0.0; 3])).exp();
            let taken = gain(&front, &point);
            prop_assert!((found - taken).abs() < 1e-6, "{found} against {taken}");
        }
    }

    #[test]
    fn dominated_points_and_twins_are_not_on_the_front() {
        let points = [[2.0, 2.0], [1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [2.0, 3.0]];
        let front = Front::of(points.map(Vec::from).to_vec()).expect("points");
        assert_eq!(front.points, [[1.0, 4.0], [2.0, 2.0]]);
        assert!((front.corner[0] - 3.2).abs() < 1e-12 && (front.corner[1] - 4.2).abs() < 1e-12);
        assert_eq!(Front::of(vec![]), None);
    }

    #[test]
    fn far_from_the_front_the_gain_still_points_somewhere() {
        for front in [front(), front_of_three()] {
            let at = |mean: f64| {
                front.ln_gain(&predictions(&[mean; 3], &[0.1; 3])[..front.corner.len()])
            };
            let (near, far) = (at(6.0), at(9.0));
            assert!(near.is_finite() && far.is_finite() && near > far);
        }
    }
}
