//! The summary of a study: the winner and its evidence, what failed, what else was tried.

use std::fmt::Write as _;

use super::cost::cost_lines;
use super::number::{figure, plural, usd};
use super::study::{StudyReport, Verdict};
use super::table::Table;
use crate::search::score;
use crate::search::{Constraint, ConstraintScore, MetricName, Run, Score, Trial, Verification};

impl StudyReport<'_> {
    /// The whole summary for people.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{}: {} raced over {}, {} in all; {}\n",
            self.space.name,
            plural(self.state.search_trials().len(), "candidate"),
            plural(self.space.seeds.search as usize, "seed"),
            plural(self.state.search_runs(), "run"),
            self.ending()
        );
        match (self.winner(), self.state.winning()) {
            (Some(winner), Some(winning)) => text.push_str(&self.winner_section(winner, winning)),
            _ => text.push_str(&self.no_winner_section()),
        }
        text.push_str(&self.failed_section());
        text.push_str(&self.certificate_section());
        text.push_str(&self.tried_section());
        text.push_str(&self.frontier_section());
        let warnings = self.warnings();
        if !warnings.is_empty() {
            text.push_str("\nKEEP IN MIND\n");
            for warning in warnings {
                let _ = writeln!(text, "  - {warning}");
            }
        }
        text
    }

    fn winner_section(&self, winner: &Trial, winning: &Verification) -> String {
        let mut text = format!("\nWINNER: trial {}", winner.index);
        if let Some(bundle) = self.bundle(&winner.candidate) {
            // What it was on average where the fleet changes, what it is where it does not.
            let measured = score::mean(&winning.runs, "cost_per_hour");
            let measured = measured.filter(|_| bundle.autoscaling.is_some());
            let cost = measured.unwrap_or_else(|| bundle.cost_per_hour());
            let _ = writeln!(text, ", {} per hour", usd(cost));
            for line in cost_lines(&bundle) {
                let _ = writeln!(text, "  {line}");
            }
        } else {
            text.push('\n');
        }
        let name = self.space.objective.metric.as_str();
        if let Some(value) = winning.score.objective.filter(|_| name != "cost_per_hour") {
            let _ = writeln!(text, "  {name}: {} on fresh seeds", figure(name, value));
            text.push_str(&self.parts_text(&winning.runs));
        }
        let mut knobs = Table::new(["knob", "value"]);
        for (path, value) in winner.candidate.labels(self.space) {
            knobs.row([path, value]);
        }
        let _ = write!(text, "\n{}", knobs.to_text());
        let seeds: Vec<u64> = winning.runs.iter().map(|run| run.seed).collect();
        let _ = writeln!(
            text,
            "\n  Its promises on {} that the search never saw (mean, 95 % interval, what they \
             show):\n\n{}",
            plural(seeds.len(), "fresh seed"),
            self.promises_table(winner, winning).to_text().trim_end_matches('\n')
        );
        text
    }

    /// What the fitness of `runs` is made of; empty where the objective is another figure.
    fn parts_text(&self, runs: &[Run]) -> String {
        let (metric, weights) = (self.space.objective.metric.as_str(), &self.space.fitness);
        let (Some(weights), Some(place)) = (weights, metric.strip_prefix("fitness")) else {
            return String::new();
        };
        let part = |name: &str| {
            let mean = score::mean(runs, &format!("{name}{place}"));
            format!("{name}{place} {}", mean.map_or("-".to_owned(), |mean| figure(name, mean)))
        };
        format!("  of {}\n", weights.figures().map(part).collect::<Vec<_>>().join(", "))
    }

    fn promises_table(&self, trial: &Trial, met: &Verification) -> Table {
        let word = |kept: bool| if kept { "kept" } else { "broken" };
        let header =
            ["promise", "fresh seeds", "from", "to", "shown", "margin", "in the search", "verdict"];
        let mut table = Table::new(header).words(7);
        let pairs = met.score.constraints.iter().zip(&trial.score.constraints);
        for (constraint, (fresh, searched)) in self.space.constraints.iter().zip(pairs) {
            let name = constraint.metric.as_str();
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |v| figure(name, v));
            table.row([
                constraint.to_string(),
                show(fresh.mean),
                show(fresh.low),
                show(fresh.high),
                show(fresh.shown),
                show(fresh.shown.map(|shown| constraint.margin(shown))),
                show(searched.estimate),
                word(fresh.confident).to_owned(),
            ]);
        }
        let (fresh, searched) = (met.score.stable, trial.score.stable);
        let stable = |stable: bool| if stable { "stable" } else { "unstable" }.to_owned();
        let blank = String::new;
        let (now, before) = (stable(fresh), stable(searched));
        let word = word(fresh).to_owned();
        table.row(["stable".to_owned(), now, blank(), blank(), blank(), blank(), before, word]);
        table
    }

    fn no_winner_section(&self) -> String {
        if !self.state.finished {
            return match self.state.best(self.space) {
                None => "\nNo candidate has kept its promises yet.\n".to_owned(),
                Some(best) => format!(
                    "\nBest so far: trial {}, not yet re-tested on fresh seeds\n  {}\n",
                    best.index,
                    self.knob_line(&best.candidate)
                ),
            };
        }
        let mut text =
            "\nNO WINNER: no candidate kept its promises within the budget.\n".to_owned();
        let nearest = crate::search::state::ranking(self.space, &self.state.trials);
        if let Some(trial) = nearest.first().map(|&index| &self.state.trials[index]) {
            let _ = writeln!(text, "  The nearest is trial {}:", trial.index);
            let _ = writeln!(text, "  {}", self.knob_line(&trial.candidate));
            for line in self.broken(&trial.score, &trial.runs) {
                let _ = writeln!(text, "  {line}");
            }
            text.push_str(
                "  Allow more instances, loosen a promise, or give the search more evaluations.\n",
            );
            if self.measures_nothing() {
                text.push_str(
                    "  Runs that measure nothing are too short: `run: {duration: ...}` sets their \
                     length.\n",
                );
            }
        }
        text
    }

    /// Whether promises fell for want of a figure.
    fn measures_nothing(&self) -> bool {
        let nothing = |score: &ConstraintScore| score.estimate.is_none();
        let stable = self.state.verifications.iter().filter(|met| met.score.stable);
        stable.flat_map(|met| &met.score.constraints).any(nothing)
    }

    /// What a candidate broke, and by how much.
    pub(super) fn broken(&self, score: &Score, runs: &[Run]) -> Vec<String> {
        if let Some(why) = runs.iter().find_map(|run| run.stopped.as_ref()) {
            return vec![format!("stopped early: {why}")];
        }
        let mut broken: Vec<String> = unstable(runs).into_iter().collect();
        let kept_on_average = score.stable && score.constraints.iter().all(|score| score.holds);
        for (constraint, score) in self.space.constraints.iter().zip(&score.constraints) {
            let name = constraint.metric.as_str();
            if score.holds {
                if kept_on_average && score.basis.is_some() && !score.confident {
                    broken.push(reaches_past(constraint, score));
                }
                continue;
            }
            broken.push(match score.estimate {
                None => {
                    let without = |run: &&Run| run.figures.get(name).is_none();
                    let (none, all) = (runs.iter().filter(without).count(), runs.len());
                    let seeds = plural(all, "seed");
                    format!("`{constraint}`: nothing to measure it by on {none} of {seeds}")
                }
                Some(estimate) => {
                    let off = (estimate - constraint.limit).abs();
                    format!(
                        "`{constraint}`: {}, missed by {}{}{}",
                        figure(name, estimate),
                        figure(name, off),
                        share_of(off, constraint.limit),
                        interval_of(constraint, score)
                    )
                }
            });
        }
        broken
    }

    fn failed_section(&self) -> String {
        let failed: Vec<&Verification> =
            self.state.verifications.iter().filter(|met| !met.score.feasible).collect();
        if failed.is_empty() {
            return String::new();
        }
        let mut text = "\nLOOKED GOOD IN THE SEARCH, FAILED ON FRESH SEEDS\n".to_owned();
        for met in failed {
            let trial = &self.state.trials[met.trial];
            let cost = trial.mean("cost_per_hour").map_or("-".to_owned(), usd);
            let knobs = self.knob_line(&trial.candidate);
            let _ = writeln!(text, "  trial {}, {cost} per hour: {knobs}", met.trial);
            for line in self.broken(&met.score, &met.runs) {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }

    fn tried_section(&self) -> String {
        if self.state.trials.is_empty() {
            return String::new();
        }
        let counts: Vec<String> =
            [Verdict::Feasible, Verdict::Infeasible, Verdict::Unstable, Verdict::Failed]
                .into_iter()
                .map(|verdict| format!("{} {}", self.count(verdict), verdict.word()))
                .collect();
        format!(
            "\nTRIED: {} ({}); the best as the search saw them\n\
             (knobs that are not named have the template's value):\n\n{}",
            plural(self.state.trials.len(), "candidate"),
            counts.join(", "),
            self.best_text()
        )
    }

    fn frontier_section(&self) -> String {
        let table = self.frontier_text();
        if table.is_empty() {
            return table;
        }
        let axes: Vec<&str> = self.space.pareto.iter().map(MetricName::as_str).collect();
        format!(
            "\nFRONTIER of {}: no other candidate beats one of these on every axis\n\
             (mean and 95 % interval over fresh seeds; of what is not re-tested the mean in the \
             search):\n\n{table}",
            axes.join(" and ")
        )
    }
}

/// Of a promise that seems kept: what the fresh seeds show instead.
fn reaches_past(constraint: &Constraint, score: &ConstraintScore) -> String {
    let name = constraint.metric.as_str();
    let show = |value: Option<f64>| value.map_or("unknown".to_owned(), |v| figure(name, v));
    let seen = show(score.estimate);
    match score.shown {
        Some(shown) => {
            format!("`{constraint}`: {seen}, but all that is shown is {}", figure(name, shown))
        }
        None => format!("`{constraint}`: {seen}, but too few runs to show it"),
    }
}

/// `, 95 % interval 1 to 2` of a mean; empty without one and for shares of runs.
fn interval_of(constraint: &Constraint, score: &ConstraintScore) -> String {
    let name = constraint.metric.as_str();
    match (score.low, score.high, constraint.share) {
        (Some(low), Some(high), None) if low < high => {
            format!(", 95 % interval {} to {}", figure(name, low), figure(name, high))
        }
        _ => String::new(),
    }
}

/// On how many seeds the fleet did not keep up, and by how much; `None` where it did on all, or
/// where there was no policy to run.
fn unstable(runs: &[Run]) -> Option<String> {
    if let Some(reason) = runs.iter().find_map(|run| run.failed.as_deref()) {
        return Some(format!("no policy: {reason}"));
    }
    let behind: Vec<&Run> = runs.iter().filter(|run| !run.stable).collect();
    let growth = behind.iter().filter_map(|run| run.figures.get("growth_rps"));
    let growth = growth.fold(0.0, f64::max);
    (!behind.is_empty()).then(|| {
        format!(
            "unstable on {} of {}: requests in the system grow by up to {} requests/s",
            behind.len(),
            plural(runs.len(), "seed"),
            figure("growth_rps", growth)
        )
    })
}

/// ` (12 % of the limit)`; empty for a limit of zero.
fn share_of(off: f64, limit: f64) -> String {
    let share = off / limit.abs();
    if share.is_finite() {
        format!(" ({:.1} % of the limit)", share * 100.0)
    } else {
        String::new()
    }
}
