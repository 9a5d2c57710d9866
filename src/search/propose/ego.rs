//! Bayesian optimization through `egobox-ego`.
//!
//! The crate panics on numbers that are not finite and on fewer than two points, gets lost on
//! outliers and constants, repeats points, and grows with the cube of the points. So it is given
//! transformed finite data, no constant columns, and at most [`POINTS_MAX`] points; what it says
//! is taken as a hint, and what is no fresh candidate is changed a little or left to others.
//!
//! Plain expected improvement with the constraints kept by the inner optimizer, measured on
//! `search-spaces/500rps.yaml`: the criterion weighted by feasibility proposed hopelessly small
//! fleets again and again, and log-EI did the same more often, at twice the time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use egobox_ego::{EgorServiceBuilder, InfillStrategy, QEiStrategy, RuntimeFlags, XType};
use ndarray::Array2;

use super::random::mutate;
use super::{Ask, Fresh, Origin, Proposer};
use crate::base::{Rng, Stream};
use crate::search::candidate::{Candidate, KnobValue};
use crate::search::cube;
use crate::search::objective::Direction;
use crate::search::space::{Domain, SearchSpace};
use crate::search::state::{Trial, ranking};

/// Expected improvement over Gaussian processes, constraints as surrogates, batches by kriging
/// believer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ego;

/// The most points a surrogate is fitted to: the best half, and those farthest from each other.
pub const POINTS_MAX: usize = 150;
/// The fewest points worth a surrogate.
const POINTS_MIN: usize = 4;
/// Changes tried to a suggestion that is not fresh.
const CHANGES: usize = 20;
/// Integers of up to this many values are ordered levels; wider ones are continuous.
const LEVELS_MAX: u64 = 33;

impl Proposer for Ego {
    fn origin(&self) -> Origin {
        Origin::Ego
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let Some((points, values)) = training(ask) else { return Vec::new() };
        let seed = rand::RngCore::next_u64(&mut Rng::new(
            ask.space.seeds.base,
            Stream::Proposals,
            (ask.batch * 2 + 1) * 1024 + 512,
        ));
        // A surrogate that cannot be fitted ends in a panic inside the crate. Its state is built
        // here and dropped here, so nothing half-done survives, and the search goes on without.
        let suggested = catch_unwind(AssertUnwindSafe(|| {
            suggest(ask.space, ask.count, seed, &points, &values)
        }));
        let Ok(Some(suggested)) = suggested else { return Vec::new() };
        let mut rng = Rng::new(seed, Stream::Proposals, ask.batch);
        let mut fresh = Fresh::new(ask);
        let rows = suggested.rows().into_iter().map(|row| from_ego(ask.space, &row.to_vec()));
        rows.filter_map(|candidate| near(ask.space, candidate, &mut fresh, &mut rng))
            .take(ask.count)
            .collect()
    }
}

/// `candidate`, or where it is not fresh the first change to it that is.
fn near(
    space: &SearchSpace,
    candidate: Candidate,
    fresh: &mut Fresh<'_>,
    rng: &mut Rng,
) -> Option<Candidate> {
    if fresh.take(&candidate) {
        return Some(candidate);
    }
    let mut changes = (0..CHANGES).map(|_| mutate(space, &candidate, rng));
    changes.find(|changed| fresh.take(changed))
}

fn suggest(
    space: &SearchSpace,
    count: usize,
    seed: u64,
    points: &Array2<f64>,
    values: &Array2<f64>,
) -> Option<Array2<f64>> {
    let types: Vec<XType> = space.knobs.iter().map(|knob| x_type(&knob.domain)).collect();
    let service = EgorServiceBuilder::optimize()
        .configure(|config| {
            config
                .n_cstr(values.ncols() - 1)
                .seed(seed)
                .infill_strategy(InfillStrategy::EI)
                .n_start(8)
                .configure_gp(|gp| gp.n_start(4).max_eval(25))
                .configure_qei(|qei| qei.batch(count).strategy(QEiStrategy::KrigingBeliever))
                .runtime_flags(RuntimeFlags::none())
        })
        .min_within_mixint_space(&types)
        .ok()?;
    let suggested = service.suggest(points, values);
    (suggested.ncols() == types.len()).then_some(suggested)
}

/// Points and values to learn from, all finite: first the objective, then the constraints.
/// `None` where there is nothing to learn.
fn training(ask: &Ask<'_>) -> Option<(Array2<f64>, Array2<f64>)> {
    let kept = chosen(ask.space, ask.history);
    let trials: Vec<&Trial> = kept.iter().map(|&index| &ask.history[index]).collect();
    if trials.len() < POINTS_MIN {
        return None;
    }
    let mut columns = vec![objectives(ask.space, &trials)];
    if is_constant(&columns[0]) {
        return None;
    }
    let violations: Vec<Vec<f64>> =
        trials.iter().map(|trial| trial.score.violations(ask.space)).collect();
    for constraint in 0..violations[0].len() {
        let column: Vec<f64> = violations.iter().map(|row| row[constraint]).collect();
        if !is_constant(&column) {
            columns.push(column);
        }
    }
    let width = ask.space.knobs.len();
    let points: Vec<f64> =
        trials.iter().flat_map(|trial| to_ego(ask.space, &trial.candidate)).collect();
    let points = Array2::from_shape_vec((trials.len(), width), points).ok()?;
    let values =
        Array2::from_shape_fn((trials.len(), columns.len()), |(row, column)| columns[column][row]);
    values.iter().chain(points.iter()).all(|value| value.is_finite()).then_some((points, values))
}

/// The objective of each trial, to be made small: its logarithm where it is positive and to be
/// minimised. A trial without an objective counts as the worst.
fn objectives(space: &SearchSpace, trials: &[&Trial]) -> Vec<f64> {
    let values = || trials.iter().filter_map(|trial| trial.score.objective);
    let log = space.objective.direction == Direction::Minimize && values().all(|value| value > 0.0);
    let scaled = |value: f64| if log { value.ln() } else { space.objective.to_minimize(value) };
    let worst = values().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let worst = if worst.is_finite() { worst } else { 0.0 };
    trials.iter().map(|trial| trial.score.objective.map_or(worst, scaled)).collect()
}

fn is_constant(column: &[f64]) -> bool {
    let low = column.iter().copied().fold(f64::INFINITY, f64::min);
    let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    high - low <= 1e-9 * low.abs().max(high.abs()).max(1.0)
}

/// The trials to learn from, in order: all, or the best half of the cap and then, one by one,
/// whatever is farthest from those chosen.
fn chosen(space: &SearchSpace, history: &[Trial]) -> Vec<usize> {
    if history.len() <= POINTS_MAX {
        return (0..history.len()).collect();
    }
    let points: Vec<Vec<f64>> =
        history.iter().map(|trial| cube::encode(space, &trial.candidate)).collect();
    let mut chosen = ranking(space, history);
    let mut rest = chosen.split_off(POINTS_MAX / 2);
    let distance = |left: usize, right: usize| -> f64 {
        points[left].iter().zip(&points[right]).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let nearest = |from: usize, chosen: &[usize]| {
        chosen.iter().map(|&to| distance(from, to)).fold(f64::INFINITY, f64::min)
    };
    let mut gaps: Vec<f64> = rest.iter().map(|&index| nearest(index, &chosen)).collect();
    while chosen.len() < POINTS_MAX {
        let far = (0..rest.len()).fold(0, |far, at| if gaps[at] > gaps[far] { at } else { far });
        let index = rest.remove(far);
        gaps.remove(far);
        for (gap, &other) in gaps.iter_mut().zip(&rest) {
            *gap = gap.min(distance(index, other));
        }
        chosen.push(index);
    }
    chosen.sort_unstable();
    chosen
}

/// How the crate sees a knob: choices without order, narrow integers as ordered levels of the
/// axis, everything else as the axis itself.
fn x_type(domain: &Domain) -> XType {
    match domain {
        Domain::Choice { labels } => XType::Enum(labels.len()),
        Domain::Int { low, step, .. } => match domain.levels() {
            Some(levels) if levels <= LEVELS_MAX => XType::Ord(
                (0..levels.cast_signed())
                    .map(|level| cube::coordinate(domain, KnobValue::Int(low + step * level)))
                    .collect(),
            ),
            _ => XType::Float(0.0, 1.0),
        },
        Domain::Float { .. } => XType::Float(0.0, 1.0),
    }
}

fn to_ego(space: &SearchSpace, candidate: &Candidate) -> Vec<f64> {
    let pairs = space.knobs.iter().zip(candidate.values());
    pairs
        .map(|(knob, &value)| match value {
            KnobValue::Choice(index) => index as f64,
            value => cube::coordinate(&knob.domain, value),
        })
        .collect()
}

fn from_ego(space: &SearchSpace, row: &[f64]) -> Candidate {
    let pairs = space.knobs.iter().zip(row);
    let point = pairs.map(|(knob, &value)| match &knob.domain {
        Domain::Choice { labels } => (value.round() + 0.5) / labels.len() as f64,
        _ => value,
    });
    cube::decode(space, &point.collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::propose::random::Random;
    use crate::search::space::tests::{float, knob, serving_space, space};
    use crate::search::state::tests::trial_of;

    fn trials(
        space: &SearchSpace,
        count: usize,
        figures: impl Fn(&[f64]) -> [f64; 2],
    ) -> Vec<Trial> {
        let ask = Ask { space, history: &[], taken: &[], count, batch: 0 };
        let candidates = Random.propose(&ask).into_iter().enumerate();
        candidates
            .map(|(index, candidate)| {
                let [cost, ttft] = figures(&cube::encode(space, &candidate));
                let figures = [("cost_per_hour", cost), ("ttft_p99_ms", ttft)];
                trial_of(index, candidate, space, &figures)
            })
            .collect()
    }

    fn ask<'a>(space: &'a SearchSpace, history: &'a [Trial]) -> Ask<'a> {
        Ask { space, history, taken: &[], count: 2, batch: 3 }
    }

    #[test]
    fn candidates_survive_the_way_to_the_crate_and_back() {
        let space = serving_space();
        for trial in trials(&space, 40, |_| [1.0, 1.0]) {
            assert_eq!(from_ego(&space, &to_ego(&space, &trial.candidate)), trial.candidate);
        }
    }

    #[test]
    fn it_proposes_near_the_optimum_of_a_smooth_bowl() {
        let space =
            space(vec![knob("x", float(0.0, 1.0, false)), knob("y", float(0.0, 1.0, false))]);
        let bowl =
            |p: &[f64]| [1.0 + 9.0 * ((p[0] - 0.3).powi(2) + (p[1] - 0.6).powi(2)), 100.0 + p[0]];
        let history = trials(&space, 20, bowl);
        let proposed = Ego.propose(&ask(&space, &history));
        let near = proposed.iter().any(|candidate| {
            let point = cube::encode(&space, candidate);
            (point[0] - 0.3).abs() < 0.15 && (point[1] - 0.6).abs() < 0.15
        });
        assert!(near, "{proposed:?}");
    }

    #[test]
    fn constants_nothing_measured_and_one_point_are_left_to_others() {
        let space = serving_space();
        for figures in [[5.0, 100.0], [f64::NAN, f64::NAN]] {
            for count in [0, 1, 2, 12] {
                let history = trials(&space, count, |_| figures);
                assert_eq!(Ego.propose(&ask(&space, &history)), []);
            }
        }
    }

    #[test]
    fn missing_and_wild_figures_do_not_stop_it() {
        let space = serving_space();
        let wild = |p: &[f64]| match p[0] {
            x if x < 0.3 => [1.0 + x, f64::NAN],
            x if x < 0.5 => [1.0 + x, 1e300],
            x => [1.0 + x, 100.0],
        };
        let history = trials(&space, 14, wild);
        assert!(!Ego.propose(&ask(&space, &history)).is_empty());
    }

    #[test]
    fn more_points_than_the_cap_are_thinned_and_keep_the_best() {
        let space = serving_space();
        let history = trials(&space, POINTS_MAX + 40, |p| [1.0 + p[0], 100.0]);
        let kept = chosen(&space, &history);
        assert_eq!(kept.len(), POINTS_MAX);
        assert!(kept.contains(&ranking(&space, &history)[0]));
        assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn one_thread_and_two_suggest_the_same() {
        let space = serving_space();
        let history = trials(&space, 16, |p| [1.0 + p[0], 900.0 - 700.0 * p[0] + 50.0 * p[7]]);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| Ego.propose(&ask(&space, &history)))
        };
        assert_eq!(on(1), on(2));
    }
}
