//! What a sample shows about what it was drawn from, at a stated error.
//!
//! Every bound here is one-sided and lies above: negate the sample for one below. `error` is the
//! chance, in (0, 1), that the bound lies on the wrong side of the truth.

use super::normal;
use super::stats::{incomplete_beta, ln_gamma, mean, t_quantile, variance};

/// Steps of the integral over the spread of a sample; even.
const STEPS: u32 = 400;

/// P(X <= `count`) of a binomial number of `trials` with `probability` each.
pub fn binomial_at_most(count: u32, trials: u32, probability: f64) -> f64 {
    if count >= trials {
        return 1.0;
    }
    incomplete_beta(1.0 - probability, f64::from(trials - count), f64::from(count + 1))
}

/// How many of `trials` draws may lie outside while they show that a `share` in (0, 1) of all
/// draws lies inside (Clopper and Pearson, 1934); `None` where even none is too many. It holds
/// whatever the distribution.
pub fn outside_allowed(trials: u32, share: f64, error: f64) -> Option<u32> {
    let shows = |outside: u32| binomial_at_most(outside, trials, 1.0 - share) <= error;
    (0..trials).take_while(|&outside| shows(outside)).last()
}

/// The fewest draws that show, with none outside, that a `share` in (0, 1) of all lies inside.
pub fn draws_needed(share: f64, error: f64) -> u32 {
    // A rounding error must not ask for one draw too few.
    let mut draws = ((error.ln() / share.ln()).ceil() as u32).max(1);
    while draws > 1 && outside_allowed(draws - 1, share, error).is_some() {
        draws -= 1;
    }
    while outside_allowed(draws, share, error).is_none() {
        draws += 1;
    }
    draws
}

/// Standard deviations that a bound on the `share` quantile of a normal distribution lies above
/// the mean of a sample of `count` (at least 2), the standard deviation being the sample's own.
pub fn tolerance_factor(count: u32, share: f64, error: f64) -> f64 {
    let root = f64::from(count).sqrt();
    let freedom = f64::from(count - 1);
    let shift = normal::quantile(share) * root;
    let (mut low, mut high) = (-1.0, 1.0);
    let reached = |factor: f64| noncentral_t_at_most(factor * root, freedom, shift);
    while reached(high) < 1.0 - error && high < 1e9 {
        high *= 2.0;
    }
    while reached(low) > 1.0 - error && low > -1e9 {
        low *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if reached(middle) < 1.0 - error {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// P(T <= `t`) of the noncentral t distribution: the mean over the spread s of a sample of
/// P(Z <= t s - shift).
fn noncentral_t_at_most(t: f64, freedom: f64, shift: f64) -> f64 {
    let reach = 9.0 / (2.0 * freedom).sqrt();
    let (low, high) = ((1.0 - reach).max(0.0), 1.0 + reach);
    let half = freedom / 2.0;
    let front = std::f64::consts::LN_2 + half * half.ln() - ln_gamma(half);
    let at = |spread: f64| {
        let powers = if freedom > 1.0 { (freedom - 1.0) * spread.ln() } else { 0.0 };
        let density = (front + powers - half * spread * spread).exp();
        density * normal::cumulative(t * spread - shift)
    };
    let step = (high - low) / f64::from(STEPS);
    let inner = (1..STEPS).map(|index| {
        let weight = if index % 2 == 1 { 4.0 } else { 2.0 };
        weight * at(low + f64::from(index) * step)
    });
    ((at(low) + inner.sum::<f64>() + at(high)) * step / 3.0).clamp(0.0, 1.0)
}

/// Above what the mean of the distribution is not: the larger of Student's bound and Hall's, which
/// allows for a long upper tail that a small sample has not met yet (Hall, 1992). `None` of fewer
/// than two values.
pub fn mean_bound(values: &[f64], error: f64) -> Option<f64> {
    let (mean, variance) = (mean(values)?, variance(values)?);
    let count = values.len() as f64;
    let away = t_quantile(1.0 - error, count - 1.0);
    let spread = variance.sqrt() / count.sqrt();
    let skewness = skewness(values, mean);
    if spread <= 0.0 || skewness <= 1e-6 {
        return Some(mean + away * spread);
    }
    let inside = 1.0 - skewness * (away / count.sqrt() + skewness / (6.0 * count));
    let hall = 3.0 * count.sqrt() / skewness * (1.0 - inside.cbrt());
    Some(mean + away.max(hall) * spread)
}

/// The third moment about `mean` in standard deviations, larger for small samples as theirs is
/// too small on average.
fn skewness(values: &[f64], mean: f64) -> f64 {
    let moment = |power: i32| {
        values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / values.len() as f64
    };
    let second = moment(2);
    let count = values.len() as f64;
    if second <= 0.0 || count < 3.0 {
        return 0.0;
    }
    moment(3) / second.powf(1.5) * (count * (count - 1.0)).sqrt() / (count - 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    #[test]
    fn fifty_nine_draws_show_that_nineteen_of_twenty_lie_inside() {
        assert_eq!(draws_needed(0.95, 0.05), 59);
        assert_eq!(draws_needed(0.9, 0.05), 29);
        assert_eq!(draws_needed(0.5, 0.5), 1);
        assert_eq!(outside_allowed(58, 0.95, 0.05), None);
        assert_eq!(outside_allowed(59, 0.95, 0.05), Some(0));
        assert_eq!(outside_allowed(93, 0.95, 0.05), Some(1));
    }

    #[test]
    fn binomial_tails_are_those_of_sums() {
        let at_most_two: f64 = [1.0, 5.0, 10.0].iter().sum::<f64>() / 32.0;
        assert!((binomial_at_most(2, 5, 0.5) - at_most_two).abs() < 1e-12);
        assert!((binomial_at_most(0, 10, 0.05) - 0.95_f64.powi(10)).abs() < 1e-12);
        assert!((binomial_at_most(10, 10, 0.05) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn tolerance_factors_are_those_of_the_tables() {
        for (count, share, error, expected) in [
            (2, 0.95, 0.05, 26.260),
            (5, 0.95, 0.05, 4.203),
            (10, 0.95, 0.05, 2.911),
            (10, 0.90, 0.05, 2.355),
            (50, 0.95, 0.05, 2.065),
            (10, 0.99, 0.01, 5.074),
        ] {
            let factor = tolerance_factor(count, share, error);
            assert!((factor - expected).abs() < 2e-3, "{count} {share} {error}: {factor}");
        }
    }

    #[test]
    fn without_a_tail_the_bound_of_a_mean_is_students() {
        let bound = mean_bound(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.05).expect("five values");
        assert!((bound - (3.0 + 2.131_846_786 * (0.5_f64).sqrt())).abs() < 1e-6, "{bound}");
        assert_eq!(mean_bound(&[7.0, 7.0], 0.05), Some(7.0));
        assert_eq!(mean_bound(&[7.0], 0.05), None);
    }

    /// How often the bound lies below the true mean of `draw`.
    fn missed(count: usize, error: f64, truth: f64, draw: impl Fn(&mut Rng) -> f64) -> f64 {
        let rounds = 4000;
        let missed = (0..rounds).filter(|&seed| {
            let mut rng = Rng::new(seed, Stream::Arrivals, 0);
            let values: Vec<f64> = (0..count).map(|_| draw(&mut rng)).collect();
            mean_bound(&values, error).expect("values") < truth
        });
        missed.count() as f64 / rounds as f64
    }

    #[test]
    fn the_bound_of_a_mean_keeps_its_error_also_under_a_long_tail() {
        // Three standard errors of 4000 rounds.
        let allowed = 0.05 + 3.0 * (0.05_f64 * 0.95 / 4000.0).sqrt();
        for count in [10, 20, 40] {
            let normal = missed(count, 0.05, 5.0, |rng| 5.0 + rng.normal());
            let tailed = missed(count, 0.05, (0.125_f64).exp(), |rng| (0.5 * rng.normal()).exp());
            assert!(normal <= allowed, "normal, {count}: {normal}");
            // Student's alone misses 0.10 of ten.
            assert!(tailed <= allowed + 0.02, "tailed, {count}: {tailed}");
        }
    }

    #[test]
    fn the_normal_bound_of_a_quantile_keeps_its_error() {
        let (share, error) = (0.9, 0.05);
        let factor = tolerance_factor(8, share, error);
        let truth = normal::quantile(share);
        let missed = (0..4000).filter(|&seed| {
            let mut rng = Rng::new(seed, Stream::Arrivals, 1);
            let values: Vec<f64> = (0..8).map(|_| rng.normal()).collect();
            let spread = variance(&values).expect("values").sqrt();
            mean(&values).expect("values") + factor * spread < truth
        });
        let missed = missed.count() as f64 / 4000.0;
        assert!((missed - error).abs() < 3.5 * (error * 0.95 / 4000.0_f64).sqrt(), "{missed}");
    }
}
