//! The summary of a study as one JSON document.

use serde_json::{Map, Value, json};

use super::run_json::fleet_json;
use super::study::{StudyReport, Verdict, proposed_by};
use crate::search::score::{self, Score};
use crate::search::state::ranking;
use crate::search::{Finding, Trial};

impl StudyReport<'_> {
    /// The same as the summary for people, and all trials in order of rank. Keys are in
    /// alphabetical order.
    pub fn to_json(&self) -> Value {
        let state = self.state;
        let ranked = ranking(self.space, &state.trials).into_iter();
        let trials: Vec<Value> =
            ranked.map(|index| self.trial_json(&state.trials[index])).collect();
        let verifications: Vec<Value> = state
            .verifications
            .iter()
            .map(|met| {
                let seeds: Vec<u64> = met.runs.iter().map(|run| run.seed).collect();
                json!({
                    "trial": met.trial,
                    "round": met.round,
                    "passed": met.found == Finding::Kept,
                    "found": met.found,
                    "error": met.error,
                    "stable": met.score.stable,
                    "seeds": seeds,
                    "promises": self.promises_json(&met.score),
                    "broken": self.broken(&met.score, &met.runs),
                })
            })
            .collect();
        json!({
            "study": self.space.name,
            "finished": state.finished,
            "ended": self.ending(),
            "candidates": state.trials.len(),
            "runs": state.search_runs(),
            "evaluations": state.evaluations(self.space),
            "counts": self.counts_json(),
            "objective": {
                "metric": self.space.objective.metric.as_str(),
                "direction": format!("{:?}", self.space.objective.direction).to_lowercase(),
            },
            "winner": self.winner().map(|winner| self.winner_json(winner)),
            "verifications": verifications,
            "certificate": self.certificate_json(),
            "trials": trials,
            "pareto": self.pareto_json(),
            "warnings": self.warnings(),
        })
    }

    fn counts_json(&self) -> Value {
        let mut counts = Map::new();
        for verdict in [Verdict::Feasible, Verdict::Infeasible, Verdict::Unstable, Verdict::Failed]
        {
            counts.insert(verdict.word().to_owned(), json!(self.count(verdict)));
        }
        Value::Object(counts)
    }

    fn winner_json(&self, winner: &Trial) -> Value {
        let fleet = self.bundle(&winner.candidate);
        let winning = self.state.winning();
        json!({
            "trial": winner.index,
            "knobs": winner.candidate.to_json(self.space),
            "usd_per_hour": fleet.as_ref().map(crate::policy::PolicyBundle::cost_per_hour),
            "fleet": fleet.as_ref().map(fleet_json),
            "objective": winning.and_then(|met| met.score.objective),
            "promises": winning.map(|met| self.promises_json(&met.score)),
            "figures": winning.map(|met| figures_json(&met.runs)),
        })
    }

    fn promises_json(&self, score: &Score) -> Value {
        let pairs = self.space.constraints.iter().zip(&score.constraints);
        let promises = pairs.map(|(promise, score)| {
            json!({
                "promise": promise.to_string(),
                "metric": promise.metric.as_str(),
                "limit": promise.limit,
                "share_of_runs": promise.share,
                "estimate": score.estimate,
                "shown": score.shown,
                "margin": score.shown.map(|shown| promise.margin(shown)),
                "basis": score.basis,
                "mean": score.mean,
                "low_95": score.low,
                "high_95": score.high,
                "kept": score.holds,
                "kept_with_confidence": score.confident,
            })
        });
        Value::Array(promises.collect())
    }

    fn trial_json(&self, trial: &Trial) -> Value {
        let mut metrics = Map::new();
        for name in self.shown_metrics() {
            metrics.insert(name.to_owned(), json!(trial.mean(name)));
        }
        json!({
            "trial": trial.index,
            "by": proposed_by(trial.by),
            "verdict": Verdict::of(trial).word(),
            "standing": self.standing(trial),
            "failure": trial.failed(),
            "stopped": trial.stopped(),
            "knobs": trial.candidate.to_json(self.space),
            "figures": metrics,
        })
    }
}

/// Mean and 95 % interval of every figure.
fn figures_json(runs: &[crate::search::evaluate::Run]) -> Value {
    let mut figures = Map::new();
    for (name, _) in runs.iter().take(1).flat_map(|run| run.figures.iter()) {
        let interval = score::interval(runs, name);
        let figure = json!({
            "mean": score::mean(runs, name),
            "low_95": interval.map(|interval| interval.low),
            "high_95": interval.map(|interval| interval.high),
        });
        figures.insert(name.to_owned(), figure);
    }
    Value::Object(figures)
}
