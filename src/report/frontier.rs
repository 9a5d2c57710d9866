//! The frontier of a study, as a table and as files.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::number::{exact, figure, plural};
use super::study::StudyReport;
use super::table::Table;
use crate::search::pareto::{self, ParetoPoint, Retest};
use crate::search::{MetricName, score};

impl StudyReport<'_> {
    /// The frontier for people: the feasible points that no other beats, with what fresh seeds say
    /// of each, and who fell off; empty without any.
    pub fn frontier_text(&self) -> String {
        let all = self.state.pareto(self.space);
        let points: Vec<&ParetoPoint> = all.iter().filter(|point| point.is_on_frontier()).collect();
        let mut text = String::new();
        if !points.is_empty() {
            text.push_str(&self.frontier_table(&points, pareto::knee(self.space, &all)));
        }
        text.push_str(&self.fallen_text(&all));
        text
    }

    fn frontier_table(&self, points: &[&ParetoPoint], knee: Option<usize>) -> String {
        let besides = self.besides_axes();
        let columns = self.space.pareto.len() + besides.len();
        let axes = self.space.pareto.iter().chain(besides.iter().copied()).map(ToString::to_string);
        let header = std::iter::once("trial".to_owned()).chain(axes);
        let header = header.chain(["fresh seeds", "standing", "knobs"].map(str::to_owned));
        let mut table = Table::new(header).words(columns + 2).words(columns + 3);
        for point in points {
            let trial = &self.state.trials[point.trial];
            let values = (0..self.space.pareto.len()).map(|axis| self.value(point, axis));
            let besides = besides.iter().map(|metric| {
                let mean = self.mean_of(point, metric.as_str());
                mean.map_or("-".to_owned(), |mean| figure(metric.as_str(), mean))
            });
            let values = values.chain(besides);
            let row = std::iter::once(point.trial.to_string()).chain(values);
            let mut standing = match point.retest {
                Retest::Untested => "not re-tested".to_owned(),
                _ => self.standing(trial).to_owned(),
            };
            if knee == Some(point.trial) {
                standing.push_str(", knee");
            }
            let seeds = match point.fresh_seeds {
                0 => "-".to_owned(),
                seeds => seeds.to_string(),
            };
            table.row(row.chain([seeds, standing, self.knob_line(&trial.candidate)]));
        }
        table.to_text()
    }

    /// The figures that tables show besides the axes.
    fn besides_axes(&self) -> Vec<&MetricName> {
        let shown = self.space.show.iter();
        shown.filter(|metric| !self.space.pareto.contains(metric)).collect()
    }

    /// The mean of a figure of a point: on its fresh seeds where it met any, else in the search.
    fn mean_of(&self, point: &ParetoPoint, name: &str) -> Option<f64> {
        let met = self.state.met().into_iter().find(|met| met.trial == point.trial);
        match met.filter(|_| point.fresh_seeds > 0) {
            Some(met) => score::mean(&met.runs, name),
            None => self.state.trials[point.trial].mean(name),
        }
    }

    /// The value of a point on an axis, with its interval where fresh seeds differ.
    fn value(&self, point: &ParetoPoint, axis: usize) -> String {
        let (name, value) = (self.space.pareto[axis].as_str(), point.values[axis]);
        let half = point.intervals.get(axis).map_or(0.0, |interval| interval.high - value);
        if half > 1e-9 * value.abs() {
            format!("{} ± {}", figure(name, value), figure(name, half))
        } else {
            figure(name, value)
        }
    }

    /// Who looked like a point of the frontier, and is none on fresh seeds.
    fn fallen_text(&self, all: &[ParetoPoint]) -> String {
        let mut text = String::new();
        let tested: Vec<usize> = self.state.retested().collect();
        for point in all.iter().filter(|p| tested.contains(&p.trial) && !p.is_on_frontier()) {
            let met = self.state.retests.iter().find(|met| met.trial == point.trial);
            let Some(met) = met.filter(|_| point.retest != Retest::Untested) else { continue };
            let searched = self
                .space
                .pareto
                .iter()
                .zip(&point.searched)
                .map(|(axis, &value)| format!("{axis} {}", figure(axis.as_str(), value)));
            let searched = searched.collect::<Vec<_>>().join(", ");
            let why = match self.broken(&met.score, &met.runs) {
                broken if point.retest == Retest::Fallen => broken.join("; "),
                _ => {
                    let values = (0..point.values.len()).map(|axis| {
                        format!("{} {}", self.space.pareto[axis], self.value(point, axis))
                    });
                    format!("others beat it there: {}", values.collect::<Vec<_>>().join(", "))
                }
            };
            let seeds = plural(met.runs.len(), "fresh seed");
            let _ = writeln!(text, "  trial {} ({searched}); on {seeds} {why}", point.trial);
        }
        if text.is_empty() { text } else { format!("\n  Fell off on fresh seeds:\n{text}") }
    }

    /// `pareto.csv`: every stable trial on the axes, points off the frontier marked.
    pub fn pareto_csv(&self) -> String {
        let fixed = ["trial", "on_frontier", "dominated", "feasible", "standing", "fresh_seeds"];
        let axes = self.space.pareto.iter().flat_map(|axis| {
            ["", "_low_95", "_high_95", "_in_search"].map(|end| format!("{axis}{end}"))
        });
        let besides = self.besides_axes();
        let axes = axes.chain(besides.iter().map(ToString::to_string));
        let knobs = self.space.knobs.iter().map(|knob| knob.path.clone());
        let mut table = Table::new(fixed.map(str::to_owned).into_iter().chain(axes).chain(knobs));
        for point in self.state.pareto(self.space) {
            let trial = &self.state.trials[point.trial];
            let fixed = [
                point.trial.to_string(),
                point.is_on_frontier().to_string(),
                point.dominated.to_string(),
                point.feasible.to_string(),
                self.standing(trial).to_owned(),
                point.fresh_seeds.to_string(),
            ];
            let values = (0..point.values.len()).flat_map(|axis| {
                let interval = point.intervals.get(axis);
                let end = |end: Option<f64>| end.map_or_else(String::new, exact);
                [
                    exact(point.values[axis]),
                    end(interval.map(|interval| interval.low)),
                    end(interval.map(|interval| interval.high)),
                    exact(point.searched[axis]),
                ]
            });
            let besides = besides.iter().map(|metric| {
                self.mean_of(&point, metric.as_str()).map_or_else(String::new, exact)
            });
            let values = values.chain(besides);
            let knobs =
                (0..self.space.knobs.len()).map(|index| self.knob_value(&trial.candidate, index));
            table.row(fixed.into_iter().chain(values).chain(knobs));
        }
        table.to_csv()
    }

    /// `pareto.json`: the same, with the knee, the histories of the hypervolume and all knobs of
    /// each point.
    pub fn pareto_json(&self) -> Value {
        let axes: Vec<Value> = self
            .space
            .pareto
            .iter()
            .map(|axis| json!({ "metric": axis.as_str(), "better": better(axis.better()) }))
            .collect();
        let all = self.state.pareto(self.space);
        let points: Vec<Value> = all.iter().map(|point| self.point_json(point)).collect();
        let order: Vec<usize> = self.state.met().iter().map(|met| met.trial).collect();
        let volumes = pareto::history(self.space, &all, &order);
        json!({
            "study": self.space.name,
            "axes": axes,
            "knee": pareto::knee(self.space, &all),
            "hypervolume": volumes_json(&volumes.searched),
            "hypervolume_on_fresh_seeds": volumes_json(&volumes.retested),
            "points": points,
        })
    }

    fn point_json(&self, point: &ParetoPoint) -> Value {
        let trial = &self.state.trials[point.trial];
        let by_axis = |values: &mut dyn Iterator<Item = Value>| -> Map<String, Value> {
            self.space.pareto.iter().map(ToString::to_string).zip(values).collect()
        };
        let intervals = &mut point
            .intervals
            .iter()
            .map(|interval| json!({ "low_95": interval.low, "high_95": interval.high }));
        let besides = self
            .besides_axes()
            .into_iter()
            .map(|metric| (metric.to_string(), json!(self.mean_of(point, metric.as_str()))));
        let besides: Map<String, Value> = besides.collect();
        json!({
            "trial": point.trial,
            "on_frontier": point.is_on_frontier(),
            "dominated": point.dominated,
            "feasible": point.feasible,
            "standing": self.standing(trial),
            "fresh_seeds": point.fresh_seeds,
            "values": by_axis(&mut point.values.iter().map(|value| json!(value))),
            "intervals": by_axis(intervals),
            "in_search": by_axis(&mut point.searched.iter().map(|value| json!(value))),
            "figures": besides,
            "knobs": trial.candidate.to_json(self.space),
        })
    }
}

fn volumes_json(grown: &[(usize, f64)]) -> Value {
    let each = grown.iter();
    each.map(|(trial, volume)| json!({ "trial": trial, "hypervolume": volume })).collect()
}

fn better(better: crate::search::Better) -> &'static str {
    match better {
        crate::search::Better::Lower => "lower",
        crate::search::Better::Higher => "higher",
    }
}
