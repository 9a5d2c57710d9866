//! One promise in the light of one figure per run.
//!
//! A promise is about the expected value of its figure, or about a share of runs. Of a share of
//! runs a sample shows something without any assumption where it is large enough (order
//! statistics); a smaller one is taken to be normal on the scale of `outward`, which is
//! logarithmic for nearly all figures, and shows nothing where two of its values are equal, since
//! then it is not.

use serde::{Deserialize, Serialize};

use super::evaluate::Run;
use super::objective::{Bound, Constraint};
use super::space::SearchSpace;
use crate::base::stats::{self, mean, quantile, t_quantile, variance};
use crate::base::{normal, tolerance};

/// What a bound rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The mean of the runs, by Student's t with room for a long tail.
    Mean,
    /// Nothing but that runs are drawn alike.
    OrderStatistics,
    /// A normal distribution of the figure over runs, on the scale of the promise.
    Normal,
}

/// How many seeds the spread that all trials show counts for beside a trial's own.
const POOLED_WEIGHT: f64 = 4.0;

/// The spread between seeds that trials show, for each constraint of a space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spreads(Vec<Spread>);

/// A sum of squares with its degrees of freedom.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    squares: f64,
    freedom: f64,
}

impl Spreads {
    /// Takes the runs of one more candidate into account, unless one was unstable.
    pub fn learn(&mut self, space: &SearchSpace, runs: &[Run]) {
        self.0.resize(space.constraints.len(), Spread::default());
        if !runs.iter().all(|run| run.stable) {
            return;
        }
        for (spread, constraint) in self.0.iter_mut().zip(&space.constraints) {
            let values = values(runs, constraint.metric.as_str()).unwrap_or_default();
            let seen: Vec<f64> = values.iter().map(|&value| outward(constraint, value)).collect();
            if let Some(variance) = variance(&seen).filter(|variance| variance.is_finite()) {
                let freedom = (seen.len() - 1) as f64;
                spread.squares += freedom * variance;
                spread.freedom += freedom;
            }
        }
    }

    /// The variance of constraint `at`, on the scale of violations; `None` before anything is
    /// known.
    pub(super) fn variance(&self, at: usize) -> Option<f64> {
        let spread = self.0.get(at).filter(|spread| spread.freedom > 0.0)?;
        Some(spread.squares / spread.freedom)
    }
}

/// A figure of each run; `None` where one lacks it.
pub(crate) fn values(runs: &[Run], name: &str) -> Option<Vec<f64>> {
    runs.iter().map(|run| run.figures.get(name)).collect()
}

/// How far `value` is from the limit of `constraint`: negative inside, 0 on it, positive outside.
///
/// The scale is the logarithm of value over limit. A share that must be at least a limit close to
/// 1 is judged by what is missing to 1. Limits of zero and below have a linear scale.
pub(crate) fn outward(constraint: &Constraint, value: f64) -> f64 {
    let limit = constraint.limit;
    match constraint.bound {
        Bound::AtMost if limit > 0.0 => (value.max(limit * 1e-6) / limit).ln(),
        Bound::AtMost => (value - limit) / limit.abs().max(1.0),
        Bound::AtLeast if limit > 0.5 && limit < 1.0 => {
            let floor = floor(limit);
            ((1.0 - value.min(1.0) + floor) / (1.0 - limit + floor)).ln()
        }
        Bound::AtLeast if limit > 0.0 => (limit / value.max(limit * 1e-6)).ln(),
        Bound::AtLeast => (limit - value) / limit.abs().max(1.0),
    }
}

/// The value that is so far `outward`.
fn inward(constraint: &Constraint, outward: f64) -> f64 {
    let limit = constraint.limit;
    match constraint.bound {
        Bound::AtMost if limit > 0.0 => limit * outward.exp(),
        Bound::AtMost => limit + outward * limit.abs().max(1.0),
        Bound::AtLeast if limit > 0.5 && limit < 1.0 => {
            let floor = floor(limit);
            1.0 + floor - (1.0 - limit + floor) * outward.exp()
        }
        Bound::AtLeast if limit > 0.0 => limit * (-outward).exp(),
        Bound::AtLeast => limit - outward * limit.abs().max(1.0),
    }
}

/// Missing 0.0 and missing 0.0001 of 1 are alike; the floor keeps the logarithm finite.
fn floor(limit: f64) -> f64 {
    0.1 * (1.0 - limit)
}

/// `value` so that more is worse, or such a number back.
fn worse_upwards(constraint: &Constraint, value: f64) -> f64 {
    match constraint.bound {
        Bound::AtMost => value,
        Bound::AtLeast => -value,
    }
}

fn ascending(constraint: &Constraint, values: &[f64]) -> Vec<f64> {
    let mut turned: Vec<f64> = values.iter().map(|&v| worse_upwards(constraint, v)).collect();
    turned.sort_by(f64::total_cmp);
    turned
}

/// What the promise at index `at` of a space is about, as a number to compare with its limit: the
/// mean, or the value that the promised share of runs keeps. `values` has at least one.
pub(super) fn estimate(
    constraint: &Constraint,
    values: &[f64],
    spreads: (&Spreads, usize),
) -> Option<f64> {
    let Some(share) = constraint.share else { return mean(values) };
    // Where two runs are expected outside, the sample speaks for itself.
    if values.len() as f64 * (1.0 - share) >= 2.0 {
        let found = quantile(&ascending(constraint, values), share)?;
        return Some(worse_upwards(constraint, found));
    }
    let seen: Vec<f64> = values.iter().map(|&value| outward(constraint, value)).collect();
    let freedom = (seen.len() - 1) as f64;
    let own = variance(&seen).unwrap_or(0.0);
    let (pool, at) = spreads;
    let variance = match pool.variance(at) {
        Some(pooled) => (freedom * own + POOLED_WEIGHT * pooled) / (freedom + POOLED_WEIGHT),
        None => own,
    };
    Some(inward(constraint, mean(&seen)? + normal::quantile(share) * variance.sqrt()))
}

/// What `values` show about what the promise is about: it is no worse than the bound, but for a
/// chance of `error`. `None` where they show nothing.
pub(super) fn bound(constraint: &Constraint, values: &[f64], error: f64) -> (Option<f64>, Basis) {
    let Some(share) = constraint.share else {
        let bound = tolerance::mean_bound(&ascending(constraint, values), error);
        return (bound.map(|bound| worse_upwards(constraint, bound)), Basis::Mean);
    };
    let sorted = ascending(constraint, values);
    let count = values.len() as u32;
    if let Some(outside) = tolerance::outside_allowed(count, share, error) {
        let bound = sorted[(count - 1 - outside) as usize];
        return (Some(worse_upwards(constraint, bound)), Basis::OrderStatistics);
    }
    if is_tied(&sorted) || count < 2 {
        return (None, Basis::OrderStatistics);
    }
    let factor = tolerance::tolerance_factor(count, share, error);
    let outward = spread_out(constraint, values).map(|(mean, sd)| mean + factor * sd);
    (outward.map(|outward| inward(constraint, outward)), Basis::Normal)
}

/// Whether more runs could show what these do not: `most` of them would, were the truth one
/// standard error better than seen.
pub(super) fn is_open(constraint: &Constraint, values: &[f64], most: u32, error: f64) -> bool {
    let count = values.len() as f64;
    let Some(share) = constraint.share else {
        let turned = ascending(constraint, values);
        let (Some(mean), Some(variance)) = (mean(&turned), variance(&turned)) else { return false };
        let away = t_quantile(1.0 - error, f64::from(most - 1)) / f64::from(most).sqrt();
        let best = mean + variance.sqrt() * (away - 1.0 / count.sqrt());
        return best <= worse_upwards(constraint, constraint.limit);
    };
    let outside = values.iter().filter(|&&value| !constraint.holds(value)).count();
    if let Some(allowed) = tolerance::outside_allowed(most, share, error) {
        return outside <= allowed as usize;
    }
    if is_tied(&ascending(constraint, values)) {
        return false;
    }
    let factor = tolerance::tolerance_factor(most, share, error);
    spread_out(constraint, values)
        .is_some_and(|(mean, sd)| mean + sd * (factor - 1.0 / count.sqrt()) <= 0.0)
}

/// The fewest runs that show a promise about a share of runs without any assumption; `None` of a
/// promise about the expected value.
pub fn runs_needed(constraint: &Constraint, error: f64) -> Option<u32> {
    constraint.share.map(|share| tolerance::draws_needed(share, error))
}

/// Mean and standard deviation on the scale of the promise.
fn spread_out(constraint: &Constraint, values: &[f64]) -> Option<(f64, f64)> {
    let seen: Vec<f64> = values.iter().map(|&value| outward(constraint, value)).collect();
    Some((stats::mean(&seen)?, stats::variance(&seen)?.sqrt()))
}

fn is_tied(sorted: &[f64]) -> bool {
    sorted.windows(2).any(|pair| pair[0].total_cmp(&pair[1]).is_eq())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};
    use crate::search::scenarios::Scope;
    use proptest::prelude::*;

    const TEXTS: [&str; 6] = [
        "ttft_p99_ms <= 500",
        "completed_ratio >= 0.999",
        "throughput_rps >= 100",
        "growth_rps <= 0",
        "growth_rps <= -5",
        "growth_rps >= -5",
    ];

    fn constraint(text: &str) -> Constraint {
        Constraint::parse(text, Scope::default()).expect("a constraint")
    }

    fn estimated(text: &str, values: &[f64]) -> f64 {
        estimate(&constraint(text), values, (&Spreads::default(), 0)).expect("values")
    }

    #[test]
    fn of_most_runs_the_mean_is_not_enough() {
        let values = [440.0, 480.0, 460.0];
        assert!((estimated("ttft_p99_ms <= 500", &values) - 460.0).abs() < 1e-9);
        let most = estimated("ttft_p99_ms <= 500 in 95% of runs", &values);
        assert!((493.0..495.0).contains(&most), "{most}");
        let shares = [0.9995, 0.9991, 0.9993];
        let most = estimated("completed_ratio >= 0.999 in 95% of runs", &shares);
        assert!(most < 0.999, "{most}");
    }

    #[test]
    fn what_few_runs_do_not_tell_about_their_spread_the_others_do() {
        let space = crate::search::space::tests::space(vec![]);
        let text = "ttft_p99_ms <= 500 in 95% of runs";
        let run = |ttft: f64| {
            let mut figures = crate::search::Figures::default();
            figures.set("ttft_p99_ms", ttft);
            Run::new(1, true, figures)
        };
        let mut pool = Spreads::default();
        for _ in 0..20 {
            pool.learn(&space, &[run(300.0), run(330.0)]);
        }
        let alone = estimated(text, &[480.0]);
        let pooled = estimate(&constraint(text), &[480.0], (&pool, 0)).expect("a value");
        let sd = (1.1_f64).ln() / 2.0_f64.sqrt();
        assert!((alone - 480.0).abs() < 1e-9);
        assert!((pooled - 480.0 * (1.644_853_6 * sd).exp()).abs() < 1e-3, "{pooled}");
    }

    #[test]
    fn equal_values_are_not_normal_and_need_more_runs() {
        let all = constraint("completed_ratio >= 0.999 in 95% of runs");
        assert_eq!(bound(&all, &[1.0; 10], 0.05), (None, Basis::OrderStatistics));
        assert_eq!(bound(&all, &[1.0; 59], 0.05), (Some(1.0), Basis::OrderStatistics));
        assert_eq!(runs_needed(&all, 0.05), Some(59));
        assert!(is_open(&all, &[1.0; 10], 59, 0.05) && !is_open(&all, &[1.0; 10], 58, 0.05));
        assert!(!is_open(&all, &[0.9, 1.0], 59, 0.05), "one outside is too many of 59");
    }

    #[test]
    fn a_promise_is_open_while_more_runs_could_show_it() {
        let mean = constraint("ttft_p99_ms <= 500");
        let values = [380.0, 560.0, 400.0, 520.0];
        assert!(bound(&mean, &values, 0.01).0.is_some_and(|bound| bound > 500.0));
        assert!(is_open(&mean, &values, 64, 0.01));
        assert!(!is_open(&mean, &values, 5, 0.01));
        assert!(!is_open(&mean, &[780.0, 790.0, 770.0], 1000, 0.01));
    }

    /// How often a promise that the truth just breaks seems kept.
    fn false_passes(text: &str, count: usize, error: f64, draw: impl Fn(&mut Rng) -> f64) -> f64 {
        let constraint = constraint(text);
        let passes = (0..2000).filter(|&seed| {
            let mut rng = Rng::new(seed, Stream::Arrivals, 0);
            let values: Vec<f64> = (0..count).map(|_| draw(&mut rng)).collect();
            bound(&constraint, &values, error).0.is_some_and(|bound| constraint.holds(bound))
        });
        passes.count() as f64 / 2000.0
    }

    #[test]
    fn a_promise_that_does_not_hold_seems_kept_no_more_often_than_stated() {
        let allowed = 0.05 + 3.5 * (0.05_f64 * 0.95 / 2000.0).sqrt();
        let lognormal = |centre: f64| move |rng: &mut Rng| centre * (0.3 * rng.normal()).exp();
        // The limit is the true 90 % quantile; a hair less would be kept.
        let centre = 500.0 / (0.3_f64 * 1.281_551_6).exp() * 1.0001;
        let most = "ttft_p99_ms <= 500 in 90% of runs";
        for count in [8, 30, 60] {
            let found = false_passes(most, count, 0.05, lognormal(centre));
            assert!(found <= allowed, "{count}: {found}");
        }
        // Runs of two kinds only: nothing is assumed, and nothing is wrongly shown.
        let coin = |rng: &mut Rng| if rng.normal() > 1.28 { 900.0 } else { 100.0 };
        for count in [8, 30, 60] {
            let found = false_passes(most, count, 0.05, coin);
            assert!(found <= allowed, "{count}: {found}");
        }
    }

    proptest! {
        #[test]
        fn inward_undoes_outward(text in prop::sample::select(&TEXTS[..]), o in -3.0_f64..3.0) {
            let constraint = constraint(text);
            let value = inward(&constraint, o);
            prop_assume!(value <= 1.0 || !text.starts_with("completed"));
            prop_assert!((outward(&constraint, value) - o).abs() < 1e-9, "{value}");
        }

        #[test]
        fn what_is_shown_is_never_better_than_the_estimate(
            text in prop::sample::select(&TEXTS[..]),
            share in prop::sample::select(&["", " in 90% of runs"][..]),
            away in prop::collection::vec(-1.0_f64..1.0, 2..80),
        ) {
            let constraint = constraint(&format!("{text}{share}"));
            let values: Vec<f64> = away.iter().map(|&o| inward(&constraint, o).min(1e4)).collect();
            let estimate = estimate(&constraint, &values, (&Spreads::default(), 0)).expect("some");
            if let Some(bound) = bound(&constraint, &values, 0.05).0 {
                let worse = worse_upwards(&constraint, bound) + 1e-9;
                prop_assert!(worse >= worse_upwards(&constraint, estimate));
            }
        }
    }
}
