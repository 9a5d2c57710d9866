//! The certificate of a winner: what it keeps, what lies one step from it, and what that means.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::number::{decimal, figure, percent, plural};
use super::study::StudyReport;
use super::table::Table;
use crate::search::{Candidate, Finding, Outcome, Trial, Verification};

impl StudyReport<'_> {
    /// The section of the summary; empty while there is no winner.
    pub(super) fn certificate_section(&self) -> String {
        let (Some(winner), Some(winning)) = (self.winner(), self.state.winning()) else {
            return String::new();
        };
        let mut text = "\nCERTIFICATE\n".to_owned();
        let _ = writeln!(text, "  {}", self.meaning(winner, winning));
        let mut table = Table::new(["one step away", "why it is not the winner"]).words(1);
        for (neighbour, outcome) in self.state.outcomes(self.space) {
            if !matches!(outcome, Outcome::Untried) {
                table.row([self.step(winner, &neighbour.candidate), self.why_not(outcome)]);
            }
        }
        if !table.is_empty() {
            let _ = write!(text, "\n{}", table.to_text());
        }
        text
    }

    /// What the certificate says, in plain words.
    fn meaning(&self, winner: &Trial, winning: &Verification) -> String {
        let confidence = self.space.proof.confidence;
        let finalists = self.state.verifications.iter().filter(|met| met.round == 0).count();
        let mut text = format!(
            "Trial {} keeps every promise with {} % confidence: it passed on {}, and at most {} in \
             100\n  such studies name a winner that does not ({} met fresh seeds before one \
             passed).",
            winner.index,
            decimal(confidence * 100.0, 2).trim_end_matches('0').trim_end_matches('.'),
            plural(winning.runs.len(), "fresh seed"),
            decimal((1.0 - confidence) * 100.0, 2).trim_end_matches('0').trim_end_matches('.'),
            plural(finalists, "finalist"),
        );
        let outcomes = self.state.outcomes(self.space);
        let untried = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Untried)).count();
        let unproven = outcomes.iter().any(|(_, o)| matches!(o, Outcome::Unproven(_)));
        if outcomes.is_empty() {
            text.push_str("\n  What lies one step from it was not tried.");
            return text;
        }
        let tried = outcomes.len() - untried;
        let _ = write!(
            text,
            "\n  {tried} of {} one step away {} tried: {}.",
            plural(outcomes.len(), "candidate"),
            if tried == 1 { "was" } else { "were" },
            if unproven {
                "some look better and were not tested on fresh seeds, see below"
            } else {
                "none is both better and shown to keep its promises"
            }
        );
        if untried > 0 {
            let spent = self.space.proof.certificate;
            let _ = write!(
                text,
                "\n  {untried} were not: the budget of the certificate, {}, was spent.",
                plural(spent as usize, "evaluation")
            );
        }
        if let Some(others) = self.others() {
            let _ = write!(text, "\n  {others}");
        }
        let _ = write!(text, "\n  {}", self.certificate_cost());
        text
    }

    /// What became of all others that looked better in the search.
    fn others(&self) -> Option<String> {
        let others = self.state.looked_better(self.space);
        let tested = others.iter().filter(|(_, tested)| *tested).count();
        let untested = others.len() - tested;
        let all = plural(others.len(), "other candidate");
        let mut text = format!(
            "{tested} of {all} that looked better in the search met fresh seeds: none is both \
             better\n  there and shown to keep its promises."
        );
        if untested > 0 {
            let _ = write!(text, " {untested} met none, with little to win or little chance.");
        }
        (!others.is_empty()).then_some(text)
    }

    /// What the certificate cost beside the rest.
    fn certificate_cost(&self) -> String {
        let after = &self.state.trials[self.state.search_trials().len()..];
        let screened: usize = after.iter().map(|trial| trial.runs.len()).sum();
        let fresh = |round: bool| -> usize {
            let met = self.state.verifications.iter().filter(|met| (met.round > 0) == round);
            met.map(|met| met.runs.len()).sum()
        };
        let rivals: usize = self.state.rounds.iter().map(|round| round.rival.len()).sum();
        let own = screened + fresh(true) + rivals;
        let searched: usize = self.state.search_trials().iter().map(|trial| trial.runs.len()).sum();
        let all = searched + fresh(false) + own;
        format!(
            "It cost {} of {} ({}), the finalists {}.",
            plural(own, "run"),
            all,
            percent(own as f64 / all.max(1) as f64),
            plural(fresh(false), "run")
        )
    }

    /// In what `candidate` differs from `winner`, in one line.
    fn step(&self, winner: &Trial, candidate: &Candidate) -> String {
        let changed = self.knob_names().into_iter().enumerate().filter(|&(index, _)| {
            candidate.is_active(self.space, index)
                && (candidate.values()[index] != winner.candidate.values()[index]
                    || !winner.candidate.is_active(self.space, index))
        });
        let words =
            changed.map(|(index, name)| format!("{name}={}", self.knob_value(candidate, index)));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Why a neighbour is not the winner, with figures.
    fn why_not(&self, outcome: Outcome<'_>) -> String {
        let name = self.space.objective.metric.as_str();
        match outcome {
            Outcome::Settled(why) => format!("not simulated: {why}"),
            Outcome::Untried => "not tried".to_owned(),
            Outcome::Unproven(_) => "looks better; not tested on fresh seeds".to_owned(),
            Outcome::NoBetter(_, above) if above <= 0.0 => format!("{name} is the same"),
            Outcome::NoBetter(_, above) => {
                format!("{name} is worse by {}", figure(name, above))
            }
            Outcome::Broken(trial) => {
                let on = plural(trial.runs.len(), "seed");
                format!("{} (on {on})", self.broken(&trial.score, &trial.runs).join("; "))
            }
            Outcome::Met(met) if met.found == Finding::NoBetter => {
                let interval = met.difference.map_or_else(String::new, |above| {
                    let show = |value| figure(name, value);
                    format!(
                        ", to be made small, differs by {} ({} to {})",
                        show(above.mean),
                        show(above.low),
                        show(above.high)
                    )
                });
                format!("{name} is not shown to be better on fresh seeds{interval}")
            }
            Outcome::Met(met) => format!(
                "{} (on {})",
                self.broken(&met.score, &met.runs).join("; "),
                plural(met.runs.len(), "fresh seed")
            ),
        }
    }

    /// The certificate for programs; null while there is no winner.
    pub(super) fn certificate_json(&self) -> Value {
        let Some(winner) = self.winner() else { return Value::Null };
        let outcomes = self.state.outcomes(self.space).into_iter();
        let neighbours = outcomes.map(|(neighbour, outcome)| {
            let (word, trial) = match outcome {
                Outcome::Settled(_) => ("settled", None),
                Outcome::Broken(trial) => ("broken", Some(trial.index)),
                Outcome::NoBetter(trial, _) => ("no-better", Some(trial.index)),
                Outcome::Unproven(trial) => ("unproven", Some(trial.index)),
                Outcome::Untried => ("untried", None),
                Outcome::Met(met) if met.found == Finding::NoBetter => {
                    ("no-better", Some(met.trial))
                }
                Outcome::Met(met) => ("not-kept", Some(met.trial)),
            };
            json!({
                "step": self.step(winner, &neighbour.candidate),
                "outcome": word,
                "trial": trial,
                "on_fresh_seeds": matches!(outcome, Outcome::Met(_)),
                "why": self.why_not(outcome),
            })
        });
        let others = self.state.looked_better(self.space).into_iter();
        let others =
            others.map(|(trial, tested)| json!({"trial": trial, "on_fresh_seeds": tested}));
        json!({
            "confidence": self.space.proof.confidence,
            "complete": self.state.is_certified(self.space),
            "neighbours": neighbours.collect::<Vec<_>>(),
            "looked_better": others.collect::<Vec<_>>(),
            "evaluations": self.state.certificate_evaluations(self.space),
        })
    }
}
