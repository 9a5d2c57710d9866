//! The candidates of a study: all of them as a file, the best ones as a table.

use super::number::{exact, figure};
use super::study::{StudyReport, Verdict, proposed_by};
use super::table::Table;
use crate::search::state::ranking;
use crate::search::{Bound, Trial};

/// Rows of the table of the best candidates.
const BEST_SHOWN: usize = 10;

impl StudyReport<'_> {
    /// The best candidates as the search saw them.
    pub fn best_text(&self) -> String {
        let ranked = ranking(self.space, &self.state.trials).into_iter().take(BEST_SHOWN);
        let trials = ranked.map(|index| &self.state.trials[index]);
        let metrics = self.shown_metrics();
        let names = metrics.iter().map(|name| (*name).to_owned());
        let header = std::iter::once("trial".to_owned()).chain(names);
        let header = header.chain(["standing".to_owned(), "knobs".to_owned()]);
        let mut table = Table::new(header).words(metrics.len() + 1).words(metrics.len() + 2);
        for trial in trials {
            let values = metrics.iter().map(|name| self.shown_mean(trial, name));
            let row = std::iter::once(trial.index.to_string()).chain(values);
            table.row(
                row.chain([self.standing(trial).to_owned(), self.knob_line(&trial.candidate)]),
            );
        }
        table.to_text()
    }

    /// The mean of a figure of `trial`; `> 1,500` where a run was stopped above that.
    fn shown_mean(&self, trial: &Trial, name: &str) -> String {
        let Some(mean) = trial.mean(name) else { return "-".to_owned() };
        let constraint = self.space.constraints.iter().find(|c| c.metric.as_str() == name);
        let sign = match constraint.filter(|_| trial.score.stopped).map(|c| c.bound) {
            None => "",
            Some(Bound::AtMost) => "> ",
            Some(Bound::AtLeast) => "< ",
        };
        format!("{sign}{}", figure(name, mean))
    }

    /// `trials.csv`: every evaluated candidate, in order, with the mean of every figure that any
    /// of them has, and its knobs.
    pub fn trials_csv(&self) -> String {
        let figures = self.figure_names();
        let fixed = ["trial", "by", "verdict", "standing", "seeds", "failure"].map(str::to_owned);
        let knobs = self.space.knobs.iter().map(|knob| knob.path.clone());
        let header = fixed.into_iter().chain(knobs).chain(figures.iter().cloned());
        let mut table = Table::new(header);
        for trial in &self.state.trials {
            let fixed = [
                trial.index.to_string(),
                proposed_by(trial.by).to_owned(),
                Verdict::of(trial).word().to_owned(),
                self.standing(trial).to_owned(),
                trial.runs.len().to_string(),
                trial.failed().or(trial.stopped()).unwrap_or_default().to_owned(),
            ];
            let knobs =
                (0..self.space.knobs.len()).map(|index| self.knob_value(&trial.candidate, index));
            let values = figures.iter().map(|name| trial.mean(name).map_or(String::new(), exact));
            table.row(fixed.into_iter().chain(knobs).chain(values));
        }
        table.to_csv()
    }

    /// The figures that any run of any trial has, in order of name.
    fn figure_names(&self) -> Vec<String> {
        let runs = self.state.trials.iter().flat_map(|trial| &trial.runs);
        let names = runs.flat_map(|run| run.figures.iter().map(|(name, _)| name.to_owned()));
        let names: std::collections::BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }
}
