//! What a candidate promises: the surrogates of objective and constraints together.

use super::front::{Coordinate, Front};
use super::ladder::Ladder;
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
    /// How far inside of each of those a candidate has to be.
    margins: Vec<f64>,
    best: Best,
    /// How to tell what is known of a goal.
    pub outlook: Outlook,
}

/// What is to be beaten.
#[derive(Clone, Debug)]
enum Best {
    /// Nothing keeps the constraints yet.
    Nothing,
    /// One goal, with what it will come to.
    Ladder(Ladder),
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
    /// How far inside of each constraint a candidate has to be to show that it keeps it, on the
    /// scale of the constraints.
    pub margins: Vec<f64>,
    /// The goals', then the constraints'.
    pub hypers: Vec<Hyper>,
}

impl Surrogates {
    /// Surrogates of `lesson`; `None` where a process cannot be built.
    pub fn of(lesson: &Lesson) -> Option<Self> {
        let Lesson { points, columns, replicates, known, hypers, outlook, .. } = lesson;
        let model =
            |column: &[f64], hyper: &Hyper| Model::new(hyper.clone(), points, column, replicates);
        let is_known = known.iter().all(Option::is_some);
        let mut goals = Vec::with_capacity(columns.goals.len());
        for (index, column) in columns.goals.iter().enumerate() {
            let spared = is_known && outlook.goal == Some(index);
            goals.push(if spared { None } else { Some(model(column, &hypers[index])?) });
        }
        let (mut constraints, mut margins) = (Vec::new(), Vec::new());
        for (at, (column, hyper)) in
            columns.constraints.iter().zip(&hypers[goals.len()..]).enumerate()
        {
            if !is_constant(column) {
                constraints.push(model(column, hyper)?);
                margins.push(lesson.margins.get(at).copied().unwrap_or(0.0));
            }
        }
        let (logs, best) = (columns.logs.clone(), Best::Nothing);
        let mut found = Self { goals, logs, constraints, margins, best, outlook: *outlook };
        found.best = found.best_of(lesson);
        Some(found)
    }

    /// What the points seen so far leave to be beaten.
    fn best_of(&self, lesson: &Lesson) -> Best {
        let rows = lesson.points.rows.iter().zip(&lesson.known);
        if self.goals.len() == 1 {
            let seen = |(row, &known): (&Vec<f64>, &Known)| {
                (self.goal(0, row, known).mean, self.ln_feasible(row).exp())
            };
            return Ladder::of(rows.map(seen).collect()).map_or(Best::Nothing, Best::Ladder);
        }
        let believed = rows.filter(|(row, _)| self.ln_feasible(row) > 0.5_f64.ln());
        let middles = believed.map(|(row, &known)| middles(&self.all_goals(row, known)));
        Front::of(middles.collect()).map_or(Best::Nothing, Best::Front)
    }

    fn all_goals(&self, point: &[f64], known: Known) -> Vec<Coordinate> {
        let each = self.logs.iter().enumerate();
        each.map(|(at, &log)| Coordinate { found: self.goal(at, point, known), log }).collect()
    }

    fn goal(&self, index: usize, point: &[f64], known: Known) -> Prediction {
        self.goal_by(index, known, |model| model.predict(point))
    }

    fn goal_by(
        &self,
        index: usize,
        known: Known,
        look: impl Fn(&Model) -> Prediction,
    ) -> Prediction {
        let known = known.filter(|_| self.outlook.goal == Some(index));
        match (known, &self.goals[index]) {
            (Some(mean), _) => Prediction { mean, deviation: 0.0 },
            (None, Some(model)) => look(model),
            (None, None) => Prediction { mean: f64::INFINITY, deviation: 0.0 },
        }
    }

    /// The logarithm of the probability that every constraint is kept at `point`.
    pub fn ln_feasible(&self, point: &[f64]) -> f64 {
        let kept = self.constraints.iter().zip(&self.margins).map(|(model, margin)| {
            let found = model.predict(point);
            ln_cumulative(-(found.mean + margin) / found.deviation)
        });
        kept.sum()
    }

    /// The logarithm of the expected gain over the best, constraints kept; of the chance to keep
    /// them while nothing does.
    pub fn criterion(&self, point: &[f64], known: Known) -> f64 {
        let ln_gain = match &self.best {
            Best::Nothing => 0.0,
            Best::Ladder(ladder) => ladder.ln_gain(self.goal(0, point, known)),
            Best::Front(front) => front.ln_gain(&self.all_goals(point, known)),
        };
        if ln_gain > HOPELESS { ln_gain + self.ln_feasible(point) } else { HOPELESS }
    }

    /// At least the [criterion](Self::criterion), for a part of its price: of one goal the gain
    /// grows with the deviation, and so does the chance to keep a constraint whose mean is
    /// outside. Of a front it is the criterion itself.
    pub fn bound(&self, point: &[f64], known: Known) -> f64 {
        let ln_gain = match &self.best {
            Best::Nothing => 0.0,
            Best::Ladder(ladder) => {
                ladder.ln_gain(self.goal_by(0, known, |model| model.outline(point)))
            }
            Best::Front(_) => return self.criterion(point, known),
        };
        if ln_gain <= HOPELESS {
            return HOPELESS;
        }
        let kept = self.constraints.iter().zip(&self.margins).map(|(model, margin)| {
            let found = model.outline(point);
            let outside = found.mean + margin;
            if outside > 0.0 { ln_cumulative(-outside / found.deviation) } else { 0.0 }
        });
        ln_gain + kept.sum::<f64>()
    }

    /// Takes what the surrogates expect at `point` as seen there; a front then reaches so far.
    pub fn believe(&mut self, point: &[f64], known: Known) {
        match &self.best {
            Best::Nothing => {}
            Best::Ladder(ladder) => {
                let expected = self.goal(0, point, known).mean;
                let probability = self.ln_feasible(point).exp();
                self.best = Best::Ladder(ladder.clone().with(expected, probability));
            }
            Best::Front(front) => {
                let expected = middles(&self.all_goals(point, known));
                self.best = Best::Front(front.clone().with(expected));
            }
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

/// The logarithm of the expected improvement over `best`; [`HOPELESS`] where there is none.
pub(super) fn ln_gain(best: f64, predicted: Prediction) -> f64 {
    let gain = best - predicted.mean;
    if predicted.deviation > 0.0 {
        predicted.deviation.ln() + ln_improvement(gain / predicted.deviation)
    } else if gain > 1e-9 * best.abs() {
        gain.ln()
    } else {
        HOPELESS
    }
}

/// ln(e^left + e^right).
pub(super) fn ln_sum(left: f64, right: f64) -> f64 {
    let (high, low) = if left > right { (left, right) } else { (right, left) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}
