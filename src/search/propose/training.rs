//! What a surrogate learns from: finite columns over chosen trials.

use crate::search::cube;
use crate::search::metric::{Better, MetricName};
use crate::search::objective::Direction;
use crate::search::space::{SearchSpace, Seek};
use crate::search::state::{Trial, ranking};

/// Targets over trials, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// What is wanted, to be made small: the objective, or up to three axes of the frontier.
    pub goals: Vec<Vec<f64>>,
    /// Which goals are on a log scale.
    pub logs: Vec<bool>,
    /// Per constraint: at most 0 where it is kept.
    pub constraints: Vec<Vec<f64>>,
}

impl Columns {
    /// The columns over `trials`, at least one, for this batch: of more than three axes it looks
    /// at three.
    pub fn of(space: &SearchSpace, trials: &[&Trial], batch: u64) -> Self {
        let wanted = Goal::of(space, batch);
        let goals = wanted.iter().map(|goal| goal.column(trials)).collect();
        let logs = wanted.iter().map(|goal| goal.is_log(trials)).collect();
        let violations: Vec<Vec<f64>> =
            trials.iter().map(|trial| trial.score.violations(space)).collect();
        let constraints = (0..violations[0].len())
            .map(|constraint| violations.iter().map(|row| row[constraint]).collect())
            .collect();
        Self { goals, logs, constraints }
    }
}

/// A figure that is to be made better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal<'a> {
    /// Which figure.
    pub metric: &'a MetricName,
    /// Whether smaller is better.
    pub minimize: bool,
}

impl<'a> Goal<'a> {
    /// What `batch` of a search is after: the objective, or the axes of the frontier, three in turn
    /// where there are more.
    pub fn of(space: &'a SearchSpace, batch: u64) -> Vec<Self> {
        if space.seek == Seek::Optimum {
            let minimize = space.objective.direction == Direction::Minimize;
            return vec![Self { metric: &space.objective.metric, minimize }];
        }
        let count = space.pareto.len();
        let first = if count > 3 { batch as usize % count } else { 0 };
        let axes = (0..count.min(3)).map(|at| &space.pareto[(first + at) % count]);
        axes.map(|metric| Self { metric, minimize: metric.better() == Better::Lower }).collect()
    }

    /// Whether the figure is taken on a log scale: it is to be made small, and positive
    /// throughout.
    pub fn is_log(&self, trials: &[&Trial]) -> bool {
        let mut values = trials.iter().filter_map(|trial| trial.mean(self.metric.as_str()));
        self.minimize && values.all(|value| value > 0.0)
    }

    /// `value` as a surrogate sees it.
    pub fn scaled(&self, log: bool, value: f64) -> f64 {
        match (self.minimize, log) {
            (true, true) => value.ln(),
            (true, false) => value,
            (false, _) => -value,
        }
    }

    /// The figure of each trial, to be made small. A trial without it counts as the worst.
    fn column(&self, trials: &[&Trial]) -> Vec<f64> {
        let log = self.is_log(trials);
        let value =
            |trial: &&Trial| trial.mean(self.metric.as_str()).map(|value| self.scaled(log, value));
        let worst = trials.iter().filter_map(value).fold(f64::NEG_INFINITY, f64::max);
        let worst = if worst.is_finite() { worst } else { 0.0 };
        trials.iter().map(|trial| value(trial).unwrap_or(worst)).collect()
    }
}

/// Whether a column says nothing.
pub fn is_constant(column: &[f64]) -> bool {
    let low = column.iter().copied().fold(f64::INFINITY, f64::min);
    let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    high - low <= 1e-9 * low.abs().max(high.abs()).max(1.0)
}

/// At most `most` trials to learn from, in order: all, or the best half of them and then, one by
/// one, whatever is farthest from those chosen.
pub fn chosen(space: &SearchSpace, history: &[Trial], most: usize) -> Vec<usize> {
    if history.len() <= most {
        return (0..history.len()).collect();
    }
    let points: Vec<Vec<f64>> =
        history.iter().map(|trial| cube::encode(space, &trial.candidate)).collect();
    let mut chosen = ranking(space, history);
    let mut rest = chosen.split_off(most / 2);
    let distance = |left: usize, right: usize| -> f64 {
        points[left].iter().zip(&points[right]).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let nearest = |from: usize, chosen: &[usize]| {
        chosen.iter().map(|&to| distance(from, to)).fold(f64::INFINITY, f64::min)
    };
    let mut gaps: Vec<f64> = rest.iter().map(|&index| nearest(index, &chosen)).collect();
    while chosen.len() < most {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::propose::tests::trials;
    use crate::search::space::tests::serving_space;

    #[test]
    fn more_points_than_the_cap_are_thinned_and_keep_the_best() {
        let space = serving_space();
        let history = trials(&space, 90, |p| [1.0 + p[0], 100.0]);
        let kept = chosen(&space, &history, 50);
        assert_eq!(kept.len(), 50);
        assert!(kept.contains(&ranking(&space, &history)[0]));
        assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
