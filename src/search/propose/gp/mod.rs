//! Bayesian optimization of our own: what the general crate does, made for serving fleets.
//!
//! One Gaussian process per objective and constraint ([`model`]), on a log scale where it helps;
//! the criterion is the logarithm of the expected feasible gain ([`acquire`]; of a frontier in
//! hypervolume, [`front`]), which still points somewhere where the gain itself rounds to nothing.
//! An objective that is known without measuring is not learnt. Candidates come from chance, from
//! changes to the best and from a trust region ([`region`]); the most promising are refined by
//! small steps. Within a batch the surrogates believe their own expectations.
//!
//! Hyperparameters are found again whenever the history has grown by a fifth. They depend on
//! the trials up to that point only, so whoever resumes a study finds the same ones.

pub mod acquire;
mod draws;
pub mod front;
pub mod kernel;
pub mod ladder;
pub mod matrix;
pub mod model;
mod pool;
pub mod region;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use self::acquire::{Known, Lesson, Outlook, Surrogates};
use self::model::{Hyper, Points};
use self::pool::{Hope, Pool};
use super::training::{Columns, Goal, chosen, is_constant};
use super::{Ask, Fresh, Origin, Proposer};
use crate::base::{Rng, Stream};
use crate::search::candidate::{Candidate, KnobValue, fnv1a};
use crate::search::cube;
use crate::search::odds::margins;
use crate::search::pareto;
use crate::search::space::{Domain, SearchSpace, Seek};
use crate::search::state::{Trial, ranking};

/// Log expected feasible improvement over Gaussian processes.
#[derive(Debug, Default)]
pub struct Gp {
    /// Hyperparameters by the trials that they were found on: an answer once found is not sought
    /// again.
    found: Mutex<BTreeMap<u64, Vec<Hyper>>>,
}

/// The most trials that the surrogates see.
const SEEN_MAX: usize = 256;
/// The most trials that hyperparameters are found on.
const FITTED_MAX: usize = 96;
/// The fewest trials worth a surrogate.
const SEEN_MIN: usize = 3;
/// Starts of the refinement: for the first of a batch, and for each after it, which finds what
/// was refined before in the pool.
const REFINED: (usize, usize) = (6, 2);

impl Proposer for Gp {
    fn origin(&self) -> Origin {
        Origin::Gp
    }

    fn propose(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        let Some(mut surrogates) = self.surrogates(ask) else { return Vec::new() };
        for taken in ask.taken {
            let known = known(ask, surrogates.outlook, taken);
            surrogates.believe(&features(ask.space, taken), known);
        }
        let index = ask.batch * 1024 + ask.taken.len() as u64;
        let mut rng = Rng::new(ask.space.seeds.base, Stream::Surrogates, index);
        let mut fresh = Fresh::new(ask);
        let mut pool = Pool::drawn(ask, &surrogates, &fresh, &mut rng);
        let mut proposed = Vec::with_capacity(ask.count);
        while proposed.len() < ask.count {
            let starts = if proposed.is_empty() { REFINED.0 } else { REFINED.1 };
            let next = pool.next(&surrogates, starts, &mut fresh, &mut rng);
            let Some(Hope { entry, known, .. }) = next else { break };
            surrogates.believe(&entry.point, known);
            proposed.push(entry.candidate);
        }
        proposed
    }

    fn gain(&self, ask: &Ask<'_>) -> Option<f64> {
        let surrogates = self.surrogates(ask)?;
        let mut rng = Rng::new(ask.space.seeds.base, Stream::Surrogates, ask.batch * 1024 + 1023);
        let mut fresh = Fresh::new(ask);
        let mut pool = Pool::drawn(ask, &surrogates, &fresh, &mut rng);
        let next = pool.next(&surrogates, REFINED.0, &mut fresh, &mut rng);
        let Some(Hope { entry, known, .. }) = next else { return Some(0.0) };
        let gain = surrogates.criterion(&entry.point, known).exp();
        // On a log scale a small gain is a share already.
        let unit = if surrogates.outlook.log { 1.0 } else { best_objective(ask)?.abs() };
        Some(gain / unit.max(f64::MIN_POSITIVE))
    }
}

/// The objective that `gain` is a share of: the best feasible one so far, or else the nearest to
/// it.
fn best_objective(ask: &Ask<'_>) -> Option<f64> {
    let best = ranking(ask.space, ask.history);
    best.into_iter().find_map(|index| ask.history[index].score.objective)
}

impl Gp {
    /// The surrogates of the history; `None` where there is nothing to learn.
    fn surrogates(&self, ask: &Ask<'_>) -> Option<Surrogates> {
        if ask.history.len() < SEEN_MIN {
            return None;
        }
        let kept = chosen(ask.space, ask.history, SEEN_MAX);
        let trials: Vec<&Trial> = kept.iter().map(|&index| &ask.history[index]).collect();
        let columns = Columns::of(ask.space, &trials, ask.batch);
        if columns.goals.iter().chain(&columns.constraints).all(|column| is_constant(column)) {
            return None;
        }
        let outlook = outlook(ask, &trials);
        let known = trials.iter().map(|trial| known(ask, outlook, &trial.candidate)).collect();
        let (points, replicates) = (points(ask.space, &trials), replicates(&trials));
        let hypers = self.hypers(ask, &ask.history[..milestone(ask.history.len())]);
        let margins = margins(ask.space, ask.history);
        Surrogates::of(&Lesson { points, columns, replicates, known, outlook, margins, hypers })
    }

    /// The hyperparameters of objective and constraints, as the trials of `history` tell them.
    fn hypers(&self, ask: &Ask<'_>, history: &[Trial]) -> Vec<Hyper> {
        let space = ask.space;
        let key = fingerprint(ask, history);
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(found) = found {
            return found;
        }
        let kept = chosen(space, history, FITTED_MAX);
        let trials: Vec<&Trial> = kept.iter().map(|&index| &history[index]).collect();
        let (points, replicates) = (points(space, &trials), replicates(&trials));
        let columns = Columns::of(space, &trials, ask.batch);
        let outlook = outlook(ask, &trials);
        let is_known = |trial: &&Trial| known(ask, outlook, &trial.candidate).is_some();
        let spared = outlook.goal.filter(|_| trials.iter().all(is_known));
        let columns: Vec<Vec<f64>> = columns.goals.into_iter().chain(columns.constraints).collect();
        let find = |(index, column): (usize, &Vec<f64>)| {
            if spared == Some(index) || is_constant(column) {
                return Hyper::prior(space.knobs.len());
            }
            model::fit(&points, column, &replicates)
        };
        let hypers: Vec<Hyper> = columns.par_iter().enumerate().map(find).collect();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(key, hypers.clone());
        hypers
    }
}

/// The length of the history on which hyperparameters for `count` trials rest.
fn milestone(count: usize) -> usize {
    let mut at = SEEN_MIN;
    loop {
        let next = at + (at / 5).max(1);
        if next > count {
            return at;
        }
        at = next;
    }
}

/// Names a history by what its trials told, and what a batch is after.
fn fingerprint(ask: &Ask<'_>, history: &[Trial]) -> u64 {
    let space = ask.space;
    let mut bytes = Vec::with_capacity(history.len() * 24);
    for goal in Goal::of(space, ask.batch) {
        bytes.extend(goal.metric.as_str().bytes());
    }
    for trial in history {
        bytes.extend(trial.candidate.hash().to_le_bytes());
        bytes.extend(trial.runs.len().to_le_bytes());
        bytes.extend(trial.score.objective.unwrap_or(f64::NAN).to_bits().to_le_bytes());
    }
    fnv1a(&bytes)
}

/// One coordinate per knob: a number's place on its axis, a choice's option.
pub(in crate::search) fn features(space: &SearchSpace, candidate: &Candidate) -> Vec<f64> {
    let pairs = space.knobs.iter().zip(candidate.values());
    pairs
        .map(|(knob, &value)| match value {
            KnobValue::Choice(index) => index as f64,
            value => cube::coordinate(&knob.domain, value),
        })
        .collect()
}

/// The candidates of `trials` as the surrogates see them.
pub(in crate::search) fn points(space: &SearchSpace, trials: &[&Trial]) -> Points {
    let is_choice = |domain: &Domain| matches!(domain, Domain::Choice { .. });
    Points {
        choices: space.knobs.iter().map(|knob| is_choice(&knob.domain)).collect(),
        rows: trials.iter().map(|trial| features(space, &trial.candidate)).collect(),
    }
}

/// How often each of `trials` was measured.
pub(in crate::search) fn replicates(trials: &[&Trial]) -> Vec<f64> {
    trials.iter().map(|trial| trial.runs.len() as f64).collect()
}

/// Which goal of a batch can be known.
fn outlook(ask: &Ask<'_>, trials: &[&Trial]) -> Outlook {
    let goals = Goal::of(ask.space, ask.batch);
    let goal = goals.iter().position(|goal| *goal.metric == ask.space.objective.metric);
    Outlook { goal, log: goal.is_some_and(|at| goals[at].is_log(trials)) }
}

/// What is known of a candidate's objective without measuring it.
fn known(ask: &Ask<'_>, outlook: Outlook, candidate: &Candidate) -> Known {
    let goal = *Goal::of(ask.space, ask.batch).get(outlook.goal?)?;
    let finite = goal.scaled(outlook.log, ask.foresight.objective(candidate)?);
    finite.is_finite().then_some(finite)
}

/// The trials worth changing, the best first: by objective, or those of the frontier, another one
/// first in each batch.
fn parents_of(ask: &Ask<'_>) -> Vec<usize> {
    if ask.space.seek == Seek::Optimum {
        return ranking(ask.space, ask.history);
    }
    let points = pareto::points(ask.space, ask.history, &[]);
    let mut front: Vec<usize> =
        points.iter().filter(|point| point.is_on_frontier()).map(|point| point.trial).collect();
    if front.is_empty() {
        return ranking(ask.space, ask.history);
    }
    let mut rng = Rng::new(ask.space.seeds.base, Stream::Proposals, ask.batch);
    for at in (1..front.len()).rev() {
        front.swap(at, rng.below(at as u64 + 1) as usize);
    }
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::propose::tests::{ask_after, trials};
    use crate::search::space::tests::{float, knob, serving_space, space};

    fn square() -> SearchSpace {
        space(vec![knob("x", float(0.0, 1.0, false)), knob("y", float(0.0, 1.0, false))])
    }

    #[test]
    fn it_proposes_near_the_optimum_of_a_smooth_bowl() {
        let bowl =
            |p: &[f64]| [1.0 + 9.0 * ((p[0] - 0.3).powi(2) + (p[1] - 0.6).powi(2)), 100.0 + p[0]];
        let space = square();
        let history = trials(&space, 20, bowl);
        for candidate in Gp::default().propose(&ask_after(&space, &history, 2)) {
            let point = cube::encode(&space, &candidate);
            let away = (point[0] - 0.3).abs().max((point[1] - 0.6).abs());
            assert!(away < 0.1, "{point:?}");
        }
    }

    #[test]
    fn a_constraint_keeps_it_on_the_right_side() {
        // Cheaper to the left, where the promise of 500 is kept right of 0.4 only.
        let space = square();
        let history = trials(&space, 24, |p| [1.0 + p[0], 700.0 - 500.0 * p[0]]);
        for candidate in Gp::default().propose(&ask_after(&space, &history, 2)) {
            let point = cube::encode(&space, &candidate);
            assert!((0.36..0.5).contains(&point[0]), "{point:?}");
        }
    }

    #[test]
    fn while_nothing_is_feasible_it_looks_for_what_is() {
        let space = square();
        let history = trials(&space, 16, |p| [1.0 + p[0], 2000.0 - 1000.0 * p[1]]);
        for candidate in Gp::default().propose(&ask_after(&space, &history, 2)) {
            assert!(cube::encode(&space, &candidate)[1] > 0.7);
        }
    }

    #[test]
    fn of_a_frontier_it_proposes_what_lies_between_its_points() {
        // Cost to the right, TTFT to the left; y only costs.
        let mut space = square();
        space.seek = crate::search::space::Seek::Frontier;
        space.constraints.clear();
        let history =
            trials(&space, 20, |p| [1.0 + p[0] + p[1], 100.0 / (0.2 + p[0]) + 50.0 * p[1]]);
        let proposed = Gp::default().propose(&ask_after(&space, &history, 4));
        assert_eq!(proposed.len(), 4);
        let points: Vec<Vec<f64>> = proposed.iter().map(|c| cube::encode(&space, c)).collect();
        assert!(points.iter().all(|point| point[1] < 0.1), "{points:?}");
        let spread = points.iter().map(|point| point[0]);
        let (low, high) = spread.fold((1.0, 0.0), |(l, h): (f64, f64), x| (l.min(x), h.max(x)));
        assert!(high - low > 0.15, "{points:?}");
    }

    #[test]
    fn nothing_measured_and_one_point_are_left_to_others() {
        let space = serving_space();
        for count in [0, 1, 2, 12] {
            let history = trials(&space, count, |_| [f64::NAN, f64::NAN]);
            assert_eq!(Gp::default().propose(&ask_after(&space, &history, 2)), []);
        }
    }

    #[test]
    fn missing_and_wild_figures_do_not_stop_it() {
        let space = serving_space();
        let wild = |p: &[f64]| match p[0] {
            x if x < 0.3 => [1.0 + x, f64::NAN],
            x if x < 0.5 => [1e300, 1e300],
            x => [1.0 + x, 100.0],
        };
        let history = trials(&space, 14, wild);
        assert_eq!(Gp::default().propose(&ask_after(&space, &history, 2)).len(), 2);
    }

    #[test]
    fn one_thread_and_two_suggest_the_same_and_so_does_who_comes_anew() {
        let space = serving_space();
        let history = trials(&space, 40, |p| [1.0 + p[0], 900.0 - 700.0 * p[0] + 50.0 * p[7]]);
        let on = |threads, proposer: &Gp| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| proposer.propose(&ask_after(&space, &history, 3)))
        };
        let old = Gp::default();
        old.propose(&ask_after(&space, &history[..35], 3));
        assert_eq!(on(1, &old), on(2, &Gp::default()));
    }

    #[test]
    fn hyperparameters_rest_on_the_same_trials_until_the_history_has_grown_by_a_fifth() {
        assert_eq!(milestone(3), 3);
        let marks: Vec<usize> = (80..100).map(milestone).collect();
        assert!(marks.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2, "{marks:?}");
        assert!(
            (3..2000)
                .all(|count| milestone(count) <= count && 5 * count <= 6 * milestone(count) + 9)
        );
    }
}
