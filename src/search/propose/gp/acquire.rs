//! What a candidate promises: the surrogates of objective and constraints together.

use super::model::{Hyper, Model, Points, Prediction};
use crate::base::normal::{ln_cumulative, ln_improvement};
use crate::search::propose::training::{Columns, is_constant};

/// The surrogates after what was seen, and what is to be beaten.
#[derive(Clone, Debug)]
pub struct Surrogates {
    objective: Option<Model>,
    /// Of the constraints that differ between points.
    constraints: Vec<Model>,
    /// The best objective believed feasible, to be made small.
    incumbent: Option<f64>,
    /// Whether the objective is on a log scale.
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
    /// Whether the objective is on a log scale.
    pub log: bool,
    /// The objective's, then the constraints'.
    pub hypers: Vec<Hyper>,
}

impl Surrogates {
    /// Surrogates of `lesson`; `None` where a process cannot be built. An objective that is known
    /// everywhere has none.
    pub fn of(lesson: &Lesson) -> Option<Self> {
        let Lesson { points, columns, replicates, known, hypers, .. } = lesson;
        let model = |column: &[f64], hyper: &Hyper| {
            Model::new(hyper.clone(), points.clone(), column, replicates)
        };
        let is_known = known.iter().all(Option::is_some);
        let objective = if is_known { None } else { Some(model(&columns.objective, &hypers[0])?) };
        let pairs = columns.constraints.iter().zip(&hypers[1..]);
        let learnt = pairs.filter(|(column, _)| !is_constant(column));
        let constraints: Option<Vec<Model>> = learnt.map(|(c, hyper)| model(c, hyper)).collect();
        let mut found =
            Self { objective, constraints: constraints?, incumbent: None, log: lesson.log };
        found.incumbent = found.best(lesson);
        Some(found)
    }

    /// The best objective among the points that probably keep the constraints.
    fn best(&self, lesson: &Lesson) -> Option<f64> {
        let rows = lesson.points.rows.iter().zip(&lesson.known);
        let believed = rows.filter(|(row, _)| self.ln_feasible(row) > 0.5_f64.ln());
        believed.map(|(row, &known)| self.objective_at(row, known).mean).min_by(f64::total_cmp)
    }

    fn objective_at(&self, point: &[f64], known: Known) -> Prediction {
        match (known, &self.objective) {
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

    /// The logarithm of the expected gain over the incumbent, constraints kept; of the chance to
    /// keep them while nothing does.
    pub fn criterion(&self, point: &[f64], known: Known) -> f64 {
        let Some(incumbent) = self.incumbent else { return self.ln_feasible(point) };
        let objective = self.objective_at(point, known);
        let gain = incumbent - objective.mean;
        let ln_gain = if objective.deviation > 0.0 {
            objective.deviation.ln() + ln_improvement(gain / objective.deviation)
        } else if gain > 1e-9 * incumbent.abs() {
            gain.ln()
        } else {
            return HOPELESS;
        };
        ln_gain + self.ln_feasible(point)
    }

    /// Takes what the surrogates expect at `point` as seen there.
    pub fn believe(&mut self, point: &[f64]) {
        for model in self.objective.iter_mut().chain(&mut self.constraints) {
            let expected = model.predict(point).mean;
            model.believe(point, expected);
        }
    }

    /// The length scales of what matters most: of the objective, or of the first constraint where
    /// the objective is known.
    pub fn length_scales(&self) -> Option<Vec<f64>> {
        self.objective.iter().chain(&self.constraints).next().map(Model::length_scales)
    }
}
