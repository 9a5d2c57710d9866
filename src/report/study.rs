//! What a study knows, in the words that all its tables share.

use std::fmt::Write as _;

use crate::config::{Defaults, Node, Problems};
use crate::policy::{PolicyBundle, read_bundle};
use crate::search::journal::SearchEnd;
use crate::search::{Candidate, MetricName, Origin, SearchSpace, StudyState, Template, Trial};

/// A study to report on: the space, and what the journal tells. Nothing here simulates.
#[derive(Clone, Copy, Debug)]
pub struct StudyReport<'a> {
    /// The question.
    pub space: &'a SearchSpace,
    /// What the knobs are turned on.
    pub template: &'a Template,
    /// Models and prices the study was run with.
    pub defaults: &'a Defaults,
    /// The answer so far.
    pub state: &'a StudyState,
}

/// What became of a candidate in the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Kept every promise.
    Feasible,
    /// Broke a promise, and kept up with its load as far as was seen.
    Infeasible,
    /// Did not keep up with its load.
    Unstable,
    /// Gives no policy that could be simulated.
    Failed,
}

impl Verdict {
    /// What became of `trial`.
    pub fn of(trial: &Trial) -> Self {
        match () {
            () if trial.failed().is_some() => Self::Failed,
            () if trial.score.stopped => Self::Infeasible,
            () if !trial.score.stable => Self::Unstable,
            () if trial.score.feasible => Self::Feasible,
            () => Self::Infeasible,
        }
    }

    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Feasible => "feasible",
            Self::Infeasible => "infeasible",
            Self::Unstable => "unstable",
            Self::Failed => "failed",
        }
    }
}

impl StudyReport<'_> {
    /// The winner, once the study has one.
    pub fn winner(&self) -> Option<&Trial> {
        self.state.winner.and_then(|index| self.state.trials.get(index))
    }

    /// The template under a candidate; `None` where it cannot be applied.
    pub fn tree(&self, candidate: &Candidate) -> Option<Node> {
        self.template.apply(self.space, candidate).ok()
    }

    /// The policy of a candidate; `None` where it gives none.
    pub fn bundle(&self, candidate: &Candidate) -> Option<PolicyBundle> {
        read_bundle(&self.tree(candidate)?, self.defaults, &mut Problems::new())
    }

    /// The names of the knobs, each as short as it can be while it differs from the others.
    pub fn knob_names(&self) -> Vec<String> {
        let paths: Vec<&str> = self.space.knobs.iter().map(|knob| knob.path.as_str()).collect();
        paths.iter().map(|path| short_name(path, &paths)).collect()
    }

    /// What of a candidate is not as in the template, and its instances, in one line.
    pub fn knob_line(&self, candidate: &Candidate) -> String {
        let mut line = String::new();
        for (index, name) in self.knob_names().iter().enumerate() {
            let knob = &self.space.knobs[index];
            let as_template = knob.start == Some(candidate.values()[index]);
            let shown = knob.counts_instances || !as_template;
            if shown && candidate.is_active(self.space, index) {
                let blank = if line.is_empty() { "" } else { " " };
                let _ = write!(line, "{blank}{name}={}", self.knob_value(candidate, index));
            }
        }
        if line.is_empty() { "as the template".to_owned() } else { line }
    }

    /// The value of knob `index` in words; empty where it does not matter.
    pub fn knob_value(&self, candidate: &Candidate, index: usize) -> String {
        if !candidate.is_active(self.space, index) {
            return String::new();
        }
        self.space.knobs[index].label(candidate.values()[index])
    }

    /// What became of a trial in the end, in words: its verdict, unless fresh seeds said more.
    pub fn standing(&self, trial: &Trial) -> &'static str {
        let met = self.state.met();
        match met.iter().rev().find(|met| met.trial == trial.index) {
            _ if self.state.winner == Some(trial.index) => "winner",
            Some(met) if !met.score.feasible => "failed re-test",
            Some(_) => "re-tested",
            None if trial.score.stopped => "stopped early",
            None => Verdict::of(trial).word(),
        }
    }

    /// How many trials had this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.state.trials.iter().filter(|trial| Verdict::of(trial) == verdict).count()
    }

    /// Why the search ended, in words.
    pub fn ending(&self) -> &'static str {
        match self.state.searched {
            Some(SearchEnd::Evaluations) => "all evaluations of the budget were spent",
            Some(SearchEnd::Wall) => "the wall time of the budget was spent",
            Some(SearchEnd::Requests) => "all simulated requests of the budget were spent",
            Some(SearchEnd::Gain) => "one more was expected to gain less than `budget.gain`",
            Some(SearchEnd::Exhausted) => "every candidate of the space was evaluated",
            None => "not finished; `--resume` goes on",
        }
    }

    /// The figures a table of trials shows: the objective, the cost, what the promises are about,
    /// and the axes of the frontier, each once.
    pub fn shown_metrics(&self) -> Vec<&str> {
        let mut names = vec![self.space.objective.metric.as_str(), "cost_per_hour"];
        names.extend(self.space.constraints.iter().map(|constraint| constraint.metric.as_str()));
        names.extend(self.space.pareto.iter().map(MetricName::as_str));
        names.extend(self.space.show.iter().map(MetricName::as_str));
        let mut once: Vec<&str> = Vec::new();
        for name in names {
            if !once.contains(&name) {
                once.push(name);
            }
        }
        once
    }
}

/// Who proposed a candidate, in one word.
pub(super) const fn proposed_by(origin: Origin) -> &'static str {
    match origin {
        Origin::Template => "template",
        Origin::Design => "design",
        Origin::Sobol => "sobol",
        Origin::Random => "random",
        Origin::Mutation => "mutation",
        Origin::Ego => "ego",
        Origin::Gp => "gp",
        Origin::Descent => "descent",
        Origin::Neighbour => "neighbour",
    }
}

/// The shortest tail of a dotted path that no other path ends in.
fn short_name(path: &str, paths: &[&str]) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    for length in 1..parts.len() {
        let tail = parts[parts.len() - length..].join(".");
        let dotted = format!(".{tail}");
        let same = paths.iter().filter(|other| **other == tail || other.ends_with(&dotted));
        if same.count() == 1 {
            return tail;
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay_distinct() {
        let paths = ["pools.default.instances", "routing.policy", "admission.policy"];
        let names: Vec<String> = paths.iter().map(|path| short_name(path, &paths)).collect();
        assert_eq!(names, ["instances", "routing.policy", "admission.policy"]);
        assert_eq!(short_name("policy", &["policy", "routing.policy"]), "policy");
    }
}
