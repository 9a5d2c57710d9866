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
use super::training::{Columns, chosen, is_constant};
use super::{Ask, Fresh, Origin, Proposer};
use crate::base::{Rng, Stream};
use crate::search::candidate::{Candidate, KnobValue};
use crate::search::cube;
use crate::search::space::{Domain, SearchSpace};
use crate::search::state::Trial;

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
    let kept = chosen(ask.space, ask.history, POINTS_MAX);
    let trials: Vec<&Trial> = kept.iter().map(|&index| &ask.history[index]).collect();
    if trials.len() < POINTS_MIN {
        return None;
    }
    let mut learned = Columns::of(ask.space, &trials, ask.batch);
    // It has one objective: the axes of a frontier take turns.
    let goal = learned.goals.swap_remove(ask.batch as usize % learned.goals.len());
    if is_constant(&goal) {
        return None;
    }
    let mut columns = vec![goal];
    columns.extend(learned.constraints.into_iter().filter(|column| !is_constant(column)));
    let width = ask.space.knobs.len();
    let points: Vec<f64> =
        trials.iter().flat_map(|trial| to_ego(ask.space, &trial.candidate)).collect();
    let points = Array2::from_shape_vec((trials.len(), width), points).ok()?;
    let values =
        Array2::from_shape_fn((trials.len(), columns.len()), |(row, column)| columns[column][row]);
    values.iter().chain(points.iter()).all(|value| value.is_finite()).then_some((points, values))
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
    use crate::search::propose::tests::{ask_after, trials};
    use crate::search::space::tests::{float, knob, serving_space, space};

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
        let proposed = Ego.propose(&ask_after(&space, &history, 2));
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
                assert_eq!(Ego.propose(&ask_after(&space, &history, 2)), []);
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
        assert!(!Ego.propose(&ask_after(&space, &history, 2)).is_empty());
    }

    #[test]
    fn one_thread_and_two_suggest_the_same() {
        let space = serving_space();
        let history = trials(&space, 16, |p| [1.0 + p[0], 900.0 - 700.0 * p[0] + 50.0 * p[7]]);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| Ego.propose(&ask_after(&space, &history, 2)))
        };
        assert_eq!(on(1), on(2));
    }
}
