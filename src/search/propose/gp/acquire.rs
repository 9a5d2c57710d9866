//! What a candidate promises: the surrogates of objective and constraints together.

use super::front::{Coordinate, Front};
use super::model::{Hyper, Model, Points, Prediction};
use crate::base::normal::{ln_cumulative, ln_improvement};
use crate::search::propose::training::{Columns, is_constant};

/// The surrogates after what was seen, and what is to be beaten.
#[derive(Clone, Debug)]
pub struct Surrogates {
    /// One per goal; none of a goal that is known everywhere.
    goals: Vec<Option<Model>>,
    /// Which goals are on a log scale.
    logs: Vec<bool>,
    /// Of the constraints that differ between points.
    constraints: Vec<Model>,
    best: Best,
    /// How to tell what is known of a goal.
    pub outlook: Outlook,
}

/// What is to be beaten.
#[derive(Clone, Debug)]
enum Best {
    /// Nothing keeps the constraints yet.
    Nothing,
    /// One goal at this value.
    Value(f64),
    /// Two or three goals with this front.
    Front(Front),
}

/// Which goal can be known without measuring it, and its scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// The goal that is the objective.
    pub goal: Option<usize>,
    /// Whether that goal is on a log scale.
    pub log: bool,
}

/// What is known of a candidate's objective without measuring it, on the surrogate's scale.
pub type Known = Option<f64>;

/// The criterion of what certainly is no gain.
pub const HOPELESS: f64 = -1e12;

/// What is to be learnt from, and with which hyperparameters.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// Where it was measured.
    pub points: Points,
    /// What was measured.
    pub columns: Columns,
    /// How many runs are behind each.
    pub replicates: Vec<f64>,
    /// What is known of each point's objective.
    pub known: Vec<Known>,
    /// How it is known.
    pub outlook: Outlook,
    /// The goals', then the constraints'.
    pub hypers: Vec<Hyper>,
}

impl Surrogates {
    /// Surrogates of `lesson`; `None` where a process cannot be built.
    pub fn of(lesson: &Lesson) -> Option<Self> {
        let Lesson { points, columns, replicates, known, hypers, outlook } = lesson;
        let model = |column: &[f64], hyper: &Hyper| {
            Model::new(hyper.clone(), points.clone(), column, replicates)
        };
        let is_known = known.iter().all(Option::is_some);
        let mut goals = Vec::with_capacity(columns.goals.len());
        for (index, column) in columns.goals.iter().enumerate() {
            let spared = is_known && outlook.goal == Some(index);
            goals.push(if spared { None } else { Some(model(column, &hypers[index])?) });
        }
        let pairs = columns.constraints.iter().zip(&hypers[goals.len()..]);
        let learnt = pairs.filter(|(column, _)| !is_constant(column));
        let constraints: Option<Vec<Model>> = learnt.map(|(c, hyper)| model(c, hyper)).collect();
        let (constraints, best) = (constraints?, Best::Nothing);
        let logs = columns.logs.clone();
        let mut found = Self { goals, logs, constraints, best, outlook: *outlook };
        found.best = found.best_of(lesson);
        Some(found)
    }

    /// The best of the points that probably keep the constraints.
    fn best_of(&self, lesson: &Lesson) -> Best {
        let rows = lesson.points.rows.iter().zip(&lesson.known);
        let believed = rows.filter(|(row, _)| self.ln_feasible(row) > 0.5_f64.ln());
        if self.goals.len() == 1 {
            let means = believed.map(|(row, &known)| self.goal(0, row, known).mean);
            return means.min_by(f64::total_cmp).map_or(Best::Nothing, Best::Value);
        }
        let middles = believed.map(|(row, &known)| middles(&self.all_goals(row, known)));
        Front::of(middles.collect()).map_or(Best::Nothing, Best::Front)
    }

    fn all_goals(&self, point: &[f64], known: Known) -> Vec<Coordinate> {
        let each = self.logs.iter().enumerate();
        each.map(|(at, &log)| Coordinate { found: self.goal(at, point, known), log }).collect()
    }

    fn goal(&self, index: usize, point: &[f64], known: Known) -> Prediction {
        let known = known.filter(|_| self.outlook.goal == Some(index));
        match (known, &self.goals[index]) {
            (Some(mean), _) => Prediction { mean, deviation: 0.0 },
            (None, Some(model)) => model.predict(point),
            (None, None) => Prediction { mean: f64::INFINITY, deviation: 0.0 },
        }
    }

    /// The logarithm of the probability that every constraint is kept at `point`.
    pub fn ln_feasible(&self, point: &[f64]) -> f64 {
        let kept = self.constraints.iter().map(|model| {
            let found = model.predict(point);
            ln_cumulative(-found.mean / found.deviation)
        });
        kept.sum()
    }

    /// The logarithm of the expected gain over the best, constraints kept; of the chance to keep
    /// them while nothing does.
    pub fn criterion(&self, point: &[f64], known: Known) -> f64 {
        let ln_gain = match &self.best {
            Best::Nothing => 0.0,
            Best::Value(best) => ln_gain(*best, self.goal(0, point, known)),
            Best::Front(front) => front.ln_gain(&self.all_goals(point, known)),
        };
        if ln_gain > HOPELESS { ln_gain + self.ln_feasible(point) } else { HOPELESS }
    }

    /// Takes what the surrogates expect at `point` as seen there; a front then reaches so far.
    pub fn believe(&mut self, point: &[f64], known: Known) {
        if let Best::Front(front) = &self.best {
            let expected = middles(&self.all_goals(point, known));
            self.best = Best::Front(front.clone().with(expected));
        }
        for model in self.goals.iter_mut().flatten().chain(&mut self.constraints) {
            let expected = model.predict(point).mean;
            model.believe(point, expected);
        }
    }

    /// The length scales of what matters most: of the first goal that is learnt, or else of the
    /// first constraint.
    pub fn length_scales(&self) -> Option<Vec<f64>> {
        self.goals.iter().flatten().chain(&self.constraints).next().map(Model::length_scales)
    }
}

fn middles(goals: &[Coordinate]) -> Vec<f64> {
    goals.iter().map(Coordinate::middle).collect()
}

fn ln_gain(best: f64, predicted: Prediction) -> f64 {
    let gain = best - predicted.mean;
    if predicted.deviation > 0.0 {
        predicted.deviation.ln() + ln_improvement(gain / predicted.deviation)
    } else if gain > 1e-9 * best.abs() {
        gain.ln()
    } else {
        HOPELESS
    }
}
