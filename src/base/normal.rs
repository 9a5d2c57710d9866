//! The standard normal distribution, also far out in its tails, where plain formulas give zero.

use std::f64::consts::{PI, SQRT_2};

/// Below this the tail formulas take over.
const TAIL: f64 = -2.5;

/// The density at `z`.
pub fn density(z: f64) -> f64 {
    ln_density(z).exp()
}

/// The logarithm of the density at `z`.
pub fn ln_density(z: f64) -> f64 {
    -0.5 * (z * z + (2.0 * PI).ln())
}

/// P(Z <= z).
pub fn cumulative(z: f64) -> f64 {
    if z < TAIL {
        return density(z) * mills(-z);
    }
    if z > -TAIL {
        return 1.0 - cumulative(-z);
    }
    // The Taylor series of the integral of the density, term by term.
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + density(z) * sum
}

/// The logarithm of P(Z <= z), finite for every finite `z`.
pub fn ln_cumulative(z: f64) -> f64 {
    if z < TAIL { ln_density(z) + mills(-z).ln() } else { cumulative(z).ln() }
}

/// The logarithm of E[max(0, z + Z)], the expected improvement in standard deviations of a
/// prediction that lies `z` of them below the incumbent; finite for every finite `z`.
///
/// Ament et al., Unexpected Improvements to Expected Improvement, 2023.
pub fn ln_improvement(z: f64) -> f64 {
    if z >= TAIL {
        return (density(z) + z * cumulative(z)).ln();
    }
    let beyond = -z;
    // 1 - x m(x) approaches 1 / x^2, of which rounding leaves nothing in the end.
    let rest = if beyond > 1e3 { -2.0 * beyond.ln() } else { (1.0 - beyond * mills(beyond)).ln() };
    ln_density(z) + rest
}

/// The z with P(Z <= z) = `probability`, in (0, 1); relative error below 1e-9.
pub fn quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if cumulative(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The Mills ratio P(Z > x) / density(x) for x of at least 2.5.
fn mills(x: f64) -> f64 {
    if x > 1e8 * SQRT_2 {
        return 1.0 / x;
    }
    mills_of(x, 10 + (500.0 / (x * x)) as u32)
}

/// The continued fraction of the Mills ratio, with so many terms.
fn mills_of(x: f64, terms: u32) -> f64 {
    let fraction = (1..=terms).rev().fold(x, |below, term| x + f64::from(term) / below);
    1.0 / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_agree() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-2.0, 0.022_750_131_948_179_21),
            (-2.5, 0.006_209_665_325_776_132),
            (-3.0, 0.001_349_898_031_630_095),
            (-6.0, 9.865_876_450_376_98e-10),
            (4.0, 0.999_968_328_758_166_9),
        ] {
            let found = cumulative(z);
            assert!((found / expected - 1.0).abs() < 1e-12, "{z}: {found}");
        }
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-9);
        assert!((ln_cumulative(-40.0) - -804.608_442_013_753_9).abs() < 1e-6);
    }

    #[test]
    fn the_tail_has_terms_enough_everywhere() {
        for step in 0..2000 {
            let x = -TAIL * 1.003_f64.powi(step);
            let (found, expected) = (mills(x), mills_of(x, 400));
            assert!((found / expected - 1.0).abs() < 1e-15, "{x}: {found} {expected}");
        }
    }

    #[test]
    fn improvement_is_smooth_where_the_formulas_meet_and_finite_far_out() {
        for z in [TAIL, -1e3] {
            let (below, above) =
                (ln_improvement(z * (1.0 + 1e-9)), ln_improvement(z * (1.0 - 1e-9)));
            assert!((below - above).abs() < 1e-5 * below.abs(), "{z}: {below} {above}");
        }
        assert!((ln_improvement(0.0) - density(0.0).ln()).abs() < 1e-12);
        let mut last = f64::NEG_INFINITY;
        for z in [-1e9, -1e4, -100.0, -10.0, -2.0, 0.0, 2.0, 1e4] {
            let found = ln_improvement(z);
            assert!(found.is_finite() && found > last, "{z}: {found}");
            last = found;
        }
    }
}
