//! A Gaussian process over the unit cube with choices.
//!
//! Matern-5/2 with one length scale per knob; two options of a choice are one apart. Targets are
//! standardised. A point that was measured r times has 1/r of the noise. The hyperparameters are
//! the most probable ones under weak priors (length scales grow with the root of the number of
//! knobs, so that wide spaces start smooth; noise starts small), found by Rprop, which needs no
//! line search and cannot run away.

use super::kernel::{Axis, Kernel, matern, matern_slopes};
use super::matrix::{Factor, dot};

/// Points with the shape of their coordinates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// Whether each coordinate is a choice: equal or not.
    pub choices: Vec<bool>,
    /// One row per point.
    pub rows: Vec<Vec<f64>>,
}

/// Logarithms of everything that shapes the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyper {
    /// Per coordinate: how far one must go for the function to change.
    pub scales: Vec<f64>,
    /// The variance of the function, in units of the targets' variance.
    pub signal: f64,
    /// The variance of a single measurement, in the same units.
    pub noise: f64,
}

/// A process that has seen its points.
#[derive(Clone, Debug)]
pub struct Model {
    hyper: Hyper,
    kernel: Kernel,
    /// Standardised targets, and what each point's noise is divided by.
    targets: Vec<f64>,
    factor: Factor,
    weights: Vec<f64>,
    /// Mean and deviation of the targets.
    scale: (f64, f64),
    /// The variance of each target.
    variances: Vec<f64>,
}

/// A prediction in the targets' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The most probable value.
    pub mean: f64,
    /// The standard deviation of the function there, without noise of measurement; above 0.
    pub deviation: f64,
}

/// Added to every variance, so that points close to each other stay apart.
const JITTER: f64 = 1e-8;
/// By which share rounding may make a variance too large.
const ROUNDING: f64 = 1e-9;
const SCALE_BOUNDS: (f64, f64) = (-3.5, 4.0);
const SIGNAL_BOUNDS: (f64, f64) = (-4.0, 4.0);
const NOISE_BOUNDS: (f64, f64) = (-14.0, 0.0);
/// Means and deviations of the normal priors of the logarithms.
const SCALE_PRIOR: f64 = 1.0;
const SIGNAL_PRIOR: (f64, f64) = (0.0, 1.0);
const NOISE_PRIOR: (f64, f64) = (-5.0, 1.5);
/// Steps of Rprop from each start, and of the better of them in all.
const TRIED: usize = 12;
const STEPS: usize = 40;

impl Hyper {
    /// The prior's own values for `width` coordinates.
    pub fn prior(width: usize) -> Self {
        let scales = vec![scale_mean(width); width];
        Self { scales, signal: SIGNAL_PRIOR.0, noise: NOISE_PRIOR.0 }
    }

    /// The length scales themselves.
    fn length_scales(&self) -> Vec<f64> {
        self.scales.iter().map(|scale| scale.exp()).collect()
    }

    fn values(&self) -> Vec<f64> {
        self.scales.iter().copied().chain([self.signal, self.noise]).collect()
    }

    fn from_values(values: &[f64]) -> Self {
        let width = values.len() - 2;
        let scales = values[..width].to_vec();
        Self { scales, signal: values[width], noise: values[width + 1] }
    }
}

/// The prior mean of the logarithm of a length scale.
fn scale_mean(width: usize) -> f64 {
    (0.4 * (width as f64).sqrt()).ln()
}

/// Mean and deviation of `targets`; a deviation of one where they are all alike.
fn standard(targets: &[f64]) -> (f64, f64) {
    let mean = targets.iter().sum::<f64>() / targets.len() as f64;
    let square =
        targets.iter().map(|t| (t - mean) * (t - mean)).sum::<f64>() / targets.len() as f64;
    let deviation = square.sqrt();
    (mean, if deviation > 1e-12 * mean.abs().max(1e-12) { deviation } else { 1.0 })
}

/// The most probable hyperparameters for `targets` at `points`, each the mean of `replicates`
/// measurements. Finite targets, at least one.
pub fn fit(points: &Points, targets: &[f64], replicates: &[f64]) -> Hyper {
    let (mean, deviation) = standard(targets);
    let standardised: Vec<f64> = targets.iter().map(|target| (target - mean) / deviation).collect();
    let posterior = Posterior::new(points, &standardised, replicates);
    let width = points.choices.len();
    let smooth = Hyper::prior(width);
    let rough = Hyper { scales: vec![-1.2; width], noise: -7.0, ..smooth.clone() };
    let mut climbs = [smooth, rough].map(Climb::new);
    for climb in &mut climbs {
        climb.go(&posterior, TRIED);
    }
    let [first, second] = climbs;
    let mut climb = if second.density > first.density { second } else { first };
    climb.go(&posterior, STEPS - TRIED);
    climb.best
}

/// Rprop without backtracking.
#[derive(Clone, Debug)]
struct Climb {
    /// Where it stands.
    at: Vec<f64>,
    /// Per coordinate the next step and the sign of the last slope.
    steps: Vec<f64>,
    signs: Vec<f64>,
    /// The best place seen, and its log density.
    best: Hyper,
    density: f64,
}

impl Climb {
    fn new(start: Hyper) -> Self {
        let at = start.values();
        let (steps, signs) = (vec![0.2; at.len()], vec![0.0; at.len()]);
        Self { at, steps, signs, best: start, density: f64::NEG_INFINITY }
    }

    /// Goes `count` steps, fewer where it stands still.
    fn go(&mut self, posterior: &Posterior<'_>, count: usize) {
        for _ in 0..count {
            let hyper = Hyper::from_values(&self.at);
            let Some((density, gradient)) = posterior.at(&hyper) else { break };
            if density > self.density {
                (self.best, self.density) = (hyper, density);
            }
            for (index, slope) in gradient.into_iter().enumerate() {
                self.step(index, slope);
            }
            let rests = |(step, sign): (&f64, &f64)| *step < 5e-3 || sign.abs() < 0.5;
            if self.steps.iter().zip(&self.signs).all(rests) {
                break;
            }
        }
    }

    fn step(&mut self, index: usize, slope: f64) {
        let sign = if slope.abs() < 1e-3 { 0.0 } else { slope.signum() };
        let agreed = sign * self.signs[index];
        let change = if agreed > 0.0 {
            1.2
        } else if agreed < 0.0 {
            0.5
        } else {
            1.0
        };
        let step = (self.steps[index] * change).clamp(1e-3, 1.0);
        let (low, high) = bounds(index, self.at.len());
        self.at[index] = (self.at[index] + sign * step).clamp(low, high);
        (self.steps[index], self.signs[index]) = (step, sign);
    }
}

fn bounds(index: usize, count: usize) -> (f64, f64) {
    match count - index {
        1 => NOISE_BOUNDS,
        2 => SIGNAL_BOUNDS,
        _ => SCALE_BOUNDS,
    }
}

/// The log density of hyperparameters given the data, up to a constant.
struct Posterior<'a> {
    targets: &'a [f64],
    replicates: &'a [f64],
    /// Per coordinate the squared distance of each pair i >= j, in packed order.
    squares: Vec<Vec<f64>>,
}

impl<'a> Posterior<'a> {
    fn new(points: &Points, targets: &'a [f64], replicates: &'a [f64]) -> Self {
        let of_pairs = |axis: &Axis| {
            let mut squares = vec![0.0; targets.len() * (targets.len() + 1) / 2];
            let mut rest = squares.as_mut_slice();
            for index in 0..targets.len() {
                let (own, after) = rest.split_at_mut(index + 1);
                axis.add_squares(axis.at(index), 1.0, own);
                rest = after;
            }
            squares
        };
        let squares = Axis::all(&points.choices, &points.rows).iter().map(of_pairs).collect();
        Self { targets, replicates, squares }
    }

    /// Log density and its gradient at `hyper`; `None` where the matrix is not definite.
    fn at(&self, hyper: &Hyper) -> Option<(f64, Vec<f64>)> {
        let count = self.targets.len();
        let inverse: Vec<f64> = hyper.scales.iter().map(|scale| (-2.0 * scale).exp()).collect();
        let (signal, noise) = (hyper.signal.exp(), hyper.noise.exp());
        let mut distances = vec![0.0; count * (count + 1) / 2];
        for (squares, inverse) in self.squares.iter().zip(&inverse) {
            distances.iter_mut().zip(squares).for_each(|(sum, square)| *sum += inverse * square);
        }
        let mut kernel = distances.clone();
        matern(signal, &mut kernel);
        let mut matrix = kernel.clone();
        for (index, replicates) in self.replicates.iter().enumerate() {
            matrix[index * (index + 3) / 2] += noise / replicates + JITTER;
        }
        let factor = Factor::of(matrix, count)?;
        let mut weights = self.targets.to_vec();
        factor.forward(&mut weights);
        let fit = dot(&weights, &weights);
        factor.backward(&mut weights);
        let density = -0.5 * (fit + factor.ln_determinant());
        let pulls = pulls(&factor, &weights);
        let mut gradient: Vec<f64> = Vec::with_capacity(inverse.len() + 2);
        let slopes: Vec<f64> = matern_slopes(&distances)
            .iter()
            .zip(&pulls)
            .map(|(slope, pull)| signal * slope * pull)
            .collect();
        let along = self.squares.iter().zip(&inverse);
        gradient.extend(along.map(|(squares, inverse)| inverse * dot(&slopes, squares)));
        gradient.push(dot(&pulls, &kernel));
        let own = self.replicates.iter().enumerate();
        let noises = own.map(|(index, replicates)| pulls[index * (index + 3) / 2] / replicates);
        gradient.push(noise * noises.sum::<f64>());
        let prior = self.add_prior(hyper, &mut gradient);
        Some((density + prior, gradient))
    }

    fn add_prior(&self, hyper: &Hyper, gradient: &mut [f64]) -> f64 {
        let mean = scale_mean(self.squares.len());
        let scales = hyper.scales.iter().map(|&scale| (scale, mean, SCALE_PRIOR));
        let others = [
            (hyper.signal, SIGNAL_PRIOR.0, SIGNAL_PRIOR.1),
            (hyper.noise, NOISE_PRIOR.0, NOISE_PRIOR.1),
        ];
        let mut density = 0.0;
        for ((value, mean, deviation), slope) in scales.chain(others).zip(gradient) {
            let away = (value - mean) / deviation;
            density -= 0.5 * away * away;
            *slope -= away / deviation;
        }
        density
    }
}

/// How the log likelihood grows with each entry of the packed covariance matrix: half of
/// (w w^T - K^-1), and an entry off the diagonal stands for its mirror, too.
fn pulls(factor: &Factor, weights: &[f64]) -> Vec<f64> {
    let mut pulls = factor.inverse();
    let mut rest = pulls.as_mut_slice();
    for (index, weight) in weights.iter().enumerate() {
        let (own, after) = rest.split_at_mut(index + 1);
        for (pull, other) in own.iter_mut().zip(weights) {
            *pull = weight * other - *pull;
        }
        own[index] *= 0.5;
        rest = after;
    }
    pulls
}

impl Model {
    /// The process of `hyper` that has seen `targets`; `None` where the matrix is not definite.
    pub fn new(hyper: Hyper, points: &Points, targets: &[f64], replicates: &[f64]) -> Option<Self> {
        let scale = standard(targets);
        let targets: Vec<f64> = targets.iter().map(|t| (t - scale.0) / scale.1).collect();
        let (signal, noise) = (hyper.signal.exp(), hyper.noise.exp());
        let variances: Vec<f64> =
            replicates.iter().map(|replicates| signal + noise / replicates + JITTER).collect();
        let scales = hyper.length_scales();
        let kernel = Kernel::new(&points.choices, &points.rows, &scales, signal);
        let mut matrix = Vec::with_capacity(targets.len() * (targets.len() + 1) / 2);
        for (index, (row, variance)) in points.rows.iter().zip(&variances).enumerate() {
            matrix.extend(kernel.covariances(row, index));
            matrix.push(*variance);
        }
        let factor = Factor::of(matrix, targets.len())?;
        let weights = Vec::new();
        let mut model = Self { hyper, kernel, targets, factor, weights, scale, variances };
        model.weigh();
        Some(model)
    }

    fn weigh(&mut self) {
        self.weights.clone_from(&self.targets);
        self.factor.forward(&mut self.weights);
        self.factor.backward(&mut self.weights);
    }

    fn covariances(&self, point: &[f64]) -> Vec<f64> {
        self.kernel.covariances(point, self.targets.len())
    }

    /// What the function may be at `point`.
    pub fn predict(&self, point: &[f64]) -> Prediction {
        let mut covariances = self.covariances(point);
        let mean = dot(&covariances, &self.weights);
        self.factor.forward(&mut covariances);
        self.prediction(mean, self.kernel.signal - dot(&covariances, &covariances))
    }

    /// The mean of [`Self::predict`], and a deviation that is no smaller: what the one point that
    /// tells most leaves open. It spares solving for all points together.
    pub fn outline(&self, point: &[f64]) -> Prediction {
        let covariances = self.covariances(point);
        let mean = dot(&covariances, &self.weights);
        let told = covariances.iter().zip(&self.variances).map(|(c, variance)| c * c / variance);
        let most = told.fold(0.0, f64::max);
        self.prediction(mean, self.kernel.signal * (1.0 + ROUNDING) - most)
    }

    fn prediction(&self, mean: f64, variance: f64) -> Prediction {
        let deviation = variance.max(1e-10).sqrt();
        Prediction { mean: self.scale.0 + self.scale.1 * mean, deviation: self.scale.1 * deviation }
    }

    /// Takes `target` at `point` as seen, without noise.
    pub fn believe(&mut self, point: &[f64], target: f64) {
        let covariances = self.covariances(point);
        let variance = self.kernel.signal + JITTER * 10.0;
        if self.factor.push(&covariances, variance).is_some() {
            self.kernel.push(point);
            self.variances.push(variance);
            self.targets.push((target - self.scale.0) / self.scale.1);
            self.weigh();
        }
    }

    /// The length scales, from the shortest to the longest as they stand.
    pub fn length_scales(&self) -> Vec<f64> {
        self.hyper.length_scales()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    /// `count` points in a square with a choice beside it, and a smooth function of the first
    /// coordinate and the choice.
    fn data(count: usize, noise: f64) -> (Points, Vec<f64>) {
        let mut rng = Rng::new(1, Stream::Design, 0);
        let rows: Vec<Vec<f64>> = (0..count)
            .map(|_| vec![rng.uniform(), rng.uniform(), (3.0 * rng.uniform()).floor()])
            .collect();
        let targets = rows.iter().map(|row| truth(row) + noise * rng.normal()).collect();
        (Points { choices: vec![false, false, true], rows }, targets)
    }

    fn truth(row: &[f64]) -> f64 {
        10.0 + (4.0 * row[0]).sin() + if row[2] > 1.5 { 0.7 } else { 0.0 }
    }

    #[test]
    fn the_gradient_is_that_of_the_density() {
        let (points, targets) = data(17, 0.1);
        let (mean, deviation) = standard(&targets);
        let targets: Vec<f64> = targets.iter().map(|t| (t - mean) / deviation).collect();
        let replicates: Vec<f64> = (0..17).map(|index| f64::from(1 + index % 3)).collect();
        let posterior = Posterior::new(&points, &targets, &replicates);
        let at = Hyper { scales: vec![-0.5, 0.3, 0.1], signal: 0.2, noise: -2.0 };
        let (_, gradient) = posterior.at(&at).expect("definite");
        for index in 0..5 {
            let moved = |step: f64| {
                let mut values = at.values();
                values[index] += step;
                posterior.at(&Hyper::from_values(&values)).expect("definite").0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - gradient[index]).abs() < 1e-4 * slope.abs().max(1.0), "{index}");
        }
    }

    #[test]
    fn what_matters_gets_a_short_length_scale_and_what_does_not_a_long_one() {
        let (points, targets) = data(60, 0.01);
        let hyper = fit(&points, &targets, &vec![1.0; 60]);
        assert!(hyper.scales[0] + 1.0 < hyper.scales[1], "{hyper:?}");
        let model = Model::new(hyper, &points, &targets, &vec![1.0; 60]).expect("definite");
        for row in [[0.3, 0.9, 1.0], [0.7, 0.1, 2.0]] {
            let found = model.predict(&row);
            assert!((found.mean - truth(&row)).abs() < 0.1, "{found:?} for {}", truth(&row));
            assert!(found.deviation < 0.2);
        }
    }

    #[test]
    fn what_was_measured_often_is_believed_more() {
        let points = Points { choices: vec![false], rows: vec![vec![0.1], vec![0.9]] };
        let hyper = Hyper { scales: vec![-1.5], signal: 0.0, noise: 0.0 };
        let model = Model::new(hyper, &points, &[-1.0, 1.0], &[1.0, 10.0]).expect("definite");
        let (once, often) = (model.predict(&[0.1]), model.predict(&[0.9]));
        assert!(once.deviation > 2.0 * often.deviation, "{once:?} {often:?}");
        assert!(once.mean.abs() < 0.6 && often.mean > 0.8);
    }

    #[test]
    fn a_belief_closes_the_uncertainty_where_it_stands() {
        let (points, targets) = data(10, 0.0);
        let mut model =
            Model::new(Hyper::prior(3), &points, &targets, &[1.0; 10]).expect("definite");
        let point = [0.5, 0.5, 1.0];
        let before = model.predict(&point);
        model.believe(&point, before.mean);
        let after = model.predict(&point);
        assert!(
            (after.mean - before.mean).abs() < 1e-3 && after.deviation < 0.1 * before.deviation
        );
    }

    #[test]
    fn constants_duplicates_and_single_points_do_no_harm() {
        let rows = vec![vec![0.5]; 4];
        let points = Points { choices: vec![false], rows };
        let replicates = [1.0; 4];
        for targets in [[3.0; 4], [1.0, 2.0, 3.0, 4.0]] {
            let hyper = fit(&points, &targets, &replicates);
            let model = Model::new(hyper, &points, &targets, &replicates);
            let found = model.expect("noise keeps it definite").predict(&[0.2]);
            assert!(found.mean.is_finite() && found.deviation > 0.0);
        }
        let one = Points { choices: vec![false], rows: vec![vec![0.5]] };
        let hyper = fit(&one, &[7.0], &[1.0]);
        let found = Model::new(hyper, &one, &[7.0], &[1.0]).expect("definite").predict(&[0.9]);
        assert!((found.mean - 7.0).abs() < 1e-9);
    }
}
