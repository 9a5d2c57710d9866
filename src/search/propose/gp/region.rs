//! The trust region: where a search in many dimensions looks for its next small gain.
//!
//! Its side doubles after a few gains in a row and halves after many failures in a row; once it
//! is tiny it starts wide again. Eriksson et al., Scalable Global Optimization via Local Bayesian
//! Optimization, 2019. It is a function of the trials alone.

use crate::search::space::SearchSpace;
use crate::search::state::Trial;

/// The side of the region at first, in units of the cube.
const FIRST: f64 = 0.8;
const LARGEST: f64 = 1.6;
const SMALLEST: f64 = 0.02;
/// Gains in a row that make it grow.
const GAINS: usize = 3;
/// A gain is at least this share of the objective.
const LEAST_GAIN: f64 = 1e-3;

/// The side of the region after `history`, of which the first `start` trials filled the space.
pub fn side(space: &SearchSpace, history: &[Trial], start: usize) -> f64 {
    let patience = space.knobs.len().max(6);
    let (mut side, mut gains, mut failures) = (FIRST, 0, 0);
    let mut best: Option<(bool, f64)> = None;
    for trial in history {
        let merit = merit(space, trial);
        let gained = best.is_none_or(|best| is_gain(best, merit));
        if gained {
            best = Some(merit);
        }
        if trial.index < start {
            continue;
        }
        (gains, failures) = if gained { (gains + 1, 0) } else { (0, failures + 1) };
        if gains == GAINS {
            (side, gains) = ((side * 2.0).min(LARGEST), 0);
        } else if failures == patience {
            (side, failures) = (side / 2.0, 0);
        }
        if side < SMALLEST {
            side = FIRST;
        }
    }
    side
}

/// Whether a trial keeps its promises, and what is to be made small meanwhile.
fn merit(space: &SearchSpace, trial: &Trial) -> (bool, f64) {
    match trial.score.objective {
        Some(value) if trial.score.feasible => (true, space.objective.to_minimize(value)),
        _ => {
            let violations = trial.score.violations(space);
            (false, violations.iter().map(|violation| violation.max(0.0)).sum())
        }
    }
}

fn is_gain(best: (bool, f64), new: (bool, f64)) -> bool {
    match (best.0, new.0) {
        (false, true) => true,
        (true, false) => false,
        _ => new.1 < best.1 - LEAST_GAIN * best.1.abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::tests::{int, knob, space};
    use crate::search::state::tests::trial;

    fn after(costs: &[f64]) -> f64 {
        let space = space(vec![knob("instances", int(1, 9))]);
        let figures = |cost: f64| [("ttft_p99_ms", 1.0), ("cost_per_hour", cost)];
        let trials: Vec<Trial> = costs
            .iter()
            .enumerate()
            .map(|(index, &cost)| trial(&space, index, 3, &figures(cost)))
            .collect();
        side(&space, &trials, 2)
    }

    #[test]
    fn it_grows_with_gains_and_shrinks_with_failures() {
        assert!((after(&[9.0, 8.0]) - FIRST).abs() < 1e-12);
        assert!((after(&[9.0, 8.0, 7.0, 6.0, 5.0]) - 1.6).abs() < 1e-12);
        assert!((after(&[9.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn once_tiny_it_starts_again() {
        let sides: Vec<f64> = (2..80).map(|count| after(&vec![8.0; count])).collect();
        assert!(sides.iter().all(|&side| side >= SMALLEST));
        assert!(sides.windows(2).any(|pair| pair[1] > pair[0]));
    }
}
