//! What candidates are judged under: one scenario or several.
//!
//! A run of a candidate under a seed plays all scenarios. A figure by its plain name is the mean
//! over them, weighed by their weights; `ttft_p99_ms@zone-lost` is that of one scenario, and
//! `ttft_p99_ms@each` the worst of all: a limit on it must hold in each.

use super::metric::{Better, Figures, better};
use super::read::Tree;
use super::setting::with_burst;
use crate::config::{Fields, Problems, Value};
use crate::scenario::{Conditions, FAULTS_MAX, FleetNames, Scenario, Setting, read_scenario};
use crate::workload::WorkloadSpec;

/// Names the worst of all scenarios.
pub const EACH: &str = "each";
/// The most scenarios of a search.
const SCENARIOS_MAX: usize = 64;

/// What a metric's name may refer to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The SLO classes of the workload; `None`: not known, any name will do.
    pub classes: Option<&'a [String]>,
    /// The scenarios; empty where there is only one, without a name.
    pub scenarios: &'a [String],
}

/// A scenario of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What befalls the fleet.
    pub scenario: Scenario,
}

/// Reads the `scenarios` of a search space: a map of scenarios by name, each in place or a path.
pub(super) fn read(
    fields: &mut Fields,
    fleet: Option<&FleetNames>,
    mut tree: impl FnMut(&crate::config::Node, &mut Problems) -> Option<Tree>,
) -> Vec<Part> {
    let Some(node) = fields.node("scenarios") else { return Vec::new() };
    let Value::Map(entries) = &node.value else {
        let message = format!("`scenarios` must be a map by name, not {}", node.value.kind());
        let hint = "scenarios: {calm: {}, dawn: {cold_start: true}}";
        fields.problems().error(node.at, message).hint(hint);
        return Vec::new();
    };
    let problems = fields.problems();
    if entries.is_empty() || entries.len() > SCENARIOS_MAX {
        let message = format!("a search has 1 to {SCENARIOS_MAX} scenarios");
        problems.error(node.at, message).hint("leave `scenarios` out for a calm fleet");
    }
    let mut parts = Vec::new();
    for (key, value) in entries {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if key.text.is_empty() || !key.text.chars().all(plain) || key.text == EACH {
            let problem = problems.error(key.at, format!("`{}` cannot name a scenario", key.text));
            problem.hint("use letters, digits, `-` and `_`; `each` means all of them");
            continue;
        }
        let Some(tree) = tree(value, problems) else { continue };
        let what = format!("scenario `{}`", key.text);
        if let Some(scenario) = read_scenario(&tree.node, &what, fleet, problems) {
            parts.push(Part { name: key.text.clone(), scenario });
        }
    }
    parts
}

/// What befalls a fleet in each scenario under a seed, and by which of `workloads` of a plan.
#[derive(Clone, Debug)]
pub struct Plan {
    parts: Vec<Part>,
    run: Setting,
    /// One per scenario; a single one where there is none.
    workloads: Vec<WorkloadSpec>,
    /// For each scenario the first one with the same workload.
    same: Vec<usize>,
}

impl Plan {
    /// The plan of a search under `parts` of `workload`.
    ///
    /// # Errors
    /// A sentence where a scenario cannot be played.
    pub fn new(parts: Vec<Part>, workload: &WorkloadSpec, run: Setting) -> Result<Self, String> {
        let mut workloads = Vec::new();
        for Part { name, scenario } in &parts {
            if scenario.faults_expected(&run) > FAULTS_MAX {
                return Err(format!("scenario `{name}`: more faults by chance than a run bears"));
            }
            let burst = with_burst(workload.clone(), scenario, &run);
            workloads.push(burst.map_err(|reason| format!("scenario `{name}`: {reason}"))?);
        }
        if workloads.is_empty() {
            workloads.push(workload.clone());
        }
        let same = (0..workloads.len())
            .map(|at| workloads[..at].iter().position(|w| *w == workloads[at]).unwrap_or(at))
            .collect();
        Ok(Self { parts, run, workloads, same })
    }

    /// How many runs a seed takes.
    pub fn runs_per_seed(&self) -> usize {
        self.workloads.len()
    }

    /// The workload of scenario `at`, and what names it among all.
    pub fn workload(&self, at: usize) -> (&WorkloadSpec, usize) {
        (&self.workloads[at], self.same[at])
    }

    /// Whether scenario `at` has to be stable: where capacity goes or load comes for a while, a
    /// queue that grows meanwhile is judged by the promises alone.
    pub fn has_to_be_stable(&self, at: usize) -> bool {
        self.parts.get(at).is_none_or(|Part { scenario, .. }| {
            scenario.faults.is_empty()
                && scenario.burst.is_none()
                && scenario.crashes.is_none()
                && scenario.reclaims.is_none()
                && !scenario.cold_start
        })
    }

    /// Whether nothing befalls the fleet in any scenario.
    pub fn is_calm(&self) -> bool {
        (0..self.runs_per_seed()).all(|at| self.has_to_be_stable(at))
    }

    /// What befalls the fleet in scenario `at` under `seed`.
    pub fn conditions(&self, at: usize, seed: u64) -> Conditions {
        let part = self.parts.get(at);
        part.map_or_else(|| Conditions::calm(seed), |p| p.scenario.conditions(seed, &self.run))
    }

    /// The figures of a run from those of each scenario.
    pub fn combine(&self, mut figures: Vec<Figures>) -> Figures {
        if self.parts.is_empty() {
            return figures.pop().unwrap_or_default();
        }
        let mut combined = Figures::default();
        let names: Vec<String> =
            figures.iter().flat_map(Figures::iter).map(|(name, _)| name.to_owned()).collect();
        for name in names {
            if combined.get(&format!("{name}@{EACH}")).is_none() {
                self.combine_one(&name, &figures, &mut combined);
            }
        }
        combined
    }

    fn combine_one(&self, name: &str, figures: &[Figures], combined: &mut Figures) {
        for (part, figures) in self.parts.iter().zip(figures) {
            if let Some(value) = figures.get(name) {
                combined.set(&format!("{name}@{}", part.name), value);
            }
        }
        let values: Option<Vec<f64>> = figures.iter().map(|figures| figures.get(name)).collect();
        let Some(values) = values else { return };
        let weights = || self.parts.iter().map(|part| part.scenario.weight);
        let sum: f64 = values.iter().zip(weights()).map(|(value, weight)| value * weight).sum();
        combined.set(name, sum / weights().sum::<f64>());
        let worst = match better(name) {
            Better::Lower => values.iter().copied().fold(f64::MIN, f64::max),
            Better::Higher => values.iter().copied().fold(f64::MAX, f64::min),
        };
        combined.set(&format!("{name}@{EACH}"), worst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, weight: f64) -> Part {
        Part { name: name.to_owned(), scenario: Scenario { weight, ..Scenario::default() } }
    }

    fn figures(values: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (name, value) in values {
            figures.set(name, *value);
        }
        figures
    }

    #[test]
    fn plain_names_are_weighted_means_and_each_is_the_worst() {
        let parts = vec![part("calm", 3.0), part("storm", 1.0)];
        let plan = Plan::new(parts, &WorkloadSpec::default(), Setting::default()).expect("plays");
        let calm = figures(&[("ttft_p99_ms", 100.0), ("slo_attainment", 1.0), ("retries", 1.0)]);
        let storm = figures(&[("ttft_p99_ms", 500.0), ("slo_attainment", 0.8)]);
        let both = plan.combine(vec![calm, storm]);
        assert_eq!(both.get("ttft_p99_ms"), Some(200.0));
        assert_eq!(both.get("ttft_p99_ms@storm"), Some(500.0));
        assert_eq!(both.get("ttft_p99_ms@each"), Some(500.0));
        assert_eq!(both.get("slo_attainment@each"), Some(0.8));
        assert_eq!(both.get("retries"), None, "one scenario does not know it");
        assert!(plan.has_to_be_stable(0));
    }

    #[test]
    fn without_scenarios_a_run_is_what_it_is() {
        let plan = Plan::new(vec![], &WorkloadSpec::default(), Setting::default()).expect("plays");
        assert_eq!(plan.runs_per_seed(), 1);
        assert!(plan.conditions(0, 7).is_calm());
        let one = figures(&[("ttft_p99_ms", 100.0)]);
        assert_eq!(plan.combine(vec![one.clone()]), one);
    }
}
