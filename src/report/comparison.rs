//! Studies side by side: what each found, on fresh seeds.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::number::{figure, usd};
use super::study::StudyReport;
use super::table::Table;
use crate::search::score;

/// Studies with the same promises, by name.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// What the studies are about together.
    pub name: &'a str,
    /// Each study by its name.
    pub studies: &'a [(String, StudyReport<'a>)],
}

/// Cost is also shown by the day, as bills come.
const HOURS_PER_DAY: f64 = 24.0;

impl Comparison<'_> {
    /// The studies from the best objective to the worst, those without a winner last.
    fn ranked(&self) -> Vec<&(String, StudyReport<'_>)> {
        let mut ranked: Vec<_> = self.studies.iter().collect();
        ranked.sort_by(|left, right| loss(&left.1).total_cmp(&loss(&right.1)));
        ranked
    }

    /// The figures that any of the studies shows, each once, the cost left out.
    fn metrics(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (_, report) in self.studies {
            for name in report.shown_metrics() {
                if !names.contains(&name) && name != "cost_per_hour" {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The table and the tuned values, for people.
    pub fn text(&self) -> String {
        let metrics = self.metrics();
        let columns = ["study", "$/day"].into_iter().chain(metrics.iter().copied());
        let mut table = Table::new(columns);
        for (name, report) in self.ranked() {
            let mut cells = vec![name.clone(), per_day(report).map_or("none".to_owned(), usd)];
            cells.extend(metrics.iter().map(|metric| {
                fresh(report, metric).map_or_else(|| "-".to_owned(), |value| figure(metric, value))
            }));
            table.row(cells);
        }
        let mut text = format!(
            "{}: the winner of each study on fresh seeds, the best first\n\n{}",
            self.name,
            table.to_text()
        );
        text.push_str("\nTUNED (what differs from the study's template)\n");
        for (name, report) in self.ranked() {
            let tuned = report.winner().map_or_else(
                || "no candidate kept its promises".to_owned(),
                |winner| report.knob_line(&winner.candidate),
            );
            let _ = writeln!(text, "  {name}: {tuned}");
        }
        text
    }

    /// The same as comma-separated values, one line per study.
    pub fn csv(&self) -> String {
        let metrics = self.metrics();
        let columns = ["study", "usd_per_day"].into_iter().chain(metrics.iter().copied());
        let mut table = Table::new(columns.chain(["tuned"]));
        let exact = |value: Option<f64>| value.map_or_else(String::new, super::number::exact);
        for (name, report) in self.ranked() {
            let mut cells = vec![name.clone(), exact(per_day(report))];
            cells.extend(metrics.iter().map(|metric| exact(fresh(report, metric))));
            let winner = report.winner();
            cells.push(winner.map_or_else(String::new, |w| report.knob_line(&w.candidate)));
            table.row(cells);
        }
        table.to_csv()
    }

    /// The same as JSON, with the whole report of each study.
    pub fn to_json(&self) -> Json {
        let metrics = self.metrics();
        let rows: Vec<Json> = self
            .ranked()
            .into_iter()
            .map(|(name, report)| {
                let figures: serde_json::Map<String, Json> = metrics
                    .iter()
                    .map(|metric| ((*metric).to_owned(), json!(fresh(report, metric))))
                    .collect();
                json!({
                    "study": name,
                    "usd_per_day": per_day(report),
                    "figures": figures,
                    "tuned": report.winner().map(|w| w.candidate.to_json(report.space)),
                    "report": report.to_json(),
                })
            })
            .collect();
        json!({"name": self.name, "studies": rows})
    }
}

/// The mean of a figure of the winner over its fresh seeds.
fn fresh(report: &StudyReport<'_>, metric: &str) -> Option<f64> {
    score::mean(&report.state.winning()?.runs, metric)
}

fn per_day(report: &StudyReport<'_>) -> Option<f64> {
    Some(HOURS_PER_DAY * fresh(report, "cost_per_hour")?)
}

/// The objective to be made small; infinite without a winner.
fn loss(report: &StudyReport<'_>) -> f64 {
    let objective = &report.space.objective;
    let value = report.state.winning().and_then(|winning| winning.score.objective);
    value.map_or(f64::INFINITY, |value| objective.to_minimize(value))
}
