//! The frontier of a study, as a table and as files.

use serde_json::{Map, Value, json};

use super::number::{exact, figure};
use super::study::StudyReport;
use super::table::Table;
use crate::search::pareto::{self, ParetoPoint};

impl StudyReport<'_> {
    /// The points that no other beats, feasible ones and others, for people; empty without any.
    pub fn frontier_text(&self) -> String {
        let all = self.state.pareto(self.space);
        let points: Vec<&ParetoPoint> = all.iter().filter(|point| !point.dominated).collect();
        if points.is_empty() {
            return String::new();
        }
        let knee = pareto::knee(self.space, &all);
        let columns = self.space.pareto.len();
        let axes = self.space.pareto.iter().map(ToString::to_string);
        let header = std::iter::once("trial".to_owned()).chain(axes);
        let header = header.chain(["standing".to_owned(), "knobs".to_owned()]);
        let mut table = Table::new(header).words(columns + 1).words(columns + 2);
        for point in points {
            let trial = &self.state.trials[point.trial];
            let values = self.space.pareto.iter().zip(&point.values);
            let values = values.map(|(axis, value)| figure(axis.as_str(), *value));
            let row = std::iter::once(point.trial.to_string()).chain(values);
            let mut standing = self.standing(trial).to_owned();
            if knee == Some(point.trial) {
                standing.push_str(", knee");
            }
            table.row(row.chain([standing, self.knob_line(&trial.candidate)]));
        }
        table.to_text()
    }

    /// `pareto.csv`: every stable trial on the axes, dominated points marked.
    pub fn pareto_csv(&self) -> String {
        let fixed = ["trial", "dominated", "feasible", "standing"].map(str::to_owned);
        let axes = self.space.pareto.iter().map(ToString::to_string);
        let knobs = self.space.knobs.iter().map(|knob| knob.path.clone());
        let mut table = Table::new(fixed.into_iter().chain(axes).chain(knobs));
        for point in self.state.pareto(self.space) {
            let trial = &self.state.trials[point.trial];
            let fixed = [
                point.trial.to_string(),
                point.dominated.to_string(),
                point.feasible.to_string(),
                self.standing(trial).to_owned(),
            ];
            let values = point.values.iter().map(|value| exact(*value));
            let knobs =
                (0..self.space.knobs.len()).map(|index| self.knob_value(&trial.candidate, index));
            table.row(fixed.into_iter().chain(values).chain(knobs));
        }
        table.to_csv()
    }

    /// `pareto.json`: the same, with the verdict and all knobs of each point.
    pub fn pareto_json(&self) -> Value {
        let axes: Vec<Value> = self
            .space
            .pareto
            .iter()
            .map(|axis| json!({ "metric": axis.as_str(), "better": better(axis.better()) }))
            .collect();
        let points: Vec<Value> =
            self.state.pareto(self.space).iter().map(|point| self.point_json(point)).collect();
        let all = self.state.pareto(self.space);
        let volumes: Vec<Value> = pareto::history(self.space, &all)
            .into_iter()
            .map(|(trial, volume)| json!({ "trial": trial, "hypervolume": volume }))
            .collect();
        json!({
            "study": self.space.name,
            "axes": axes,
            "knee": pareto::knee(self.space, &all),
            "hypervolume": volumes,
            "points": points,
        })
    }

    fn point_json(&self, point: &ParetoPoint) -> Value {
        let trial = &self.state.trials[point.trial];
        let pairs = self.space.pareto.iter().zip(&point.values);
        let values: Map<String, Value> =
            pairs.map(|(axis, value)| (axis.to_string(), json!(value))).collect();
        json!({
            "trial": point.trial,
            "dominated": point.dominated,
            "feasible": point.feasible,
            "standing": self.standing(trial),
            "values": values,
            "knobs": trial.candidate.to_json(self.space),
        })
    }
}

fn better(better: crate::search::Better) -> &'static str {
    match better {
        crate::search::Better::Lower => "lower",
        crate::search::Better::Higher => "higher",
    }
}
