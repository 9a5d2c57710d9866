//! What to know about the numbers of a study before trusting them.

use super::number::{figure, percent, plural};
use super::study::StudyReport;
use crate::config::{Node, Value};
use crate::search::fresh::EQUAL;
use crate::search::journal::SearchEnd;
use crate::search::pareto::loss;
use crate::search::promise::{outward, runs_needed, values};
use crate::search::score::CONFIDENCE;
use crate::search::{
    Basis, Candidate, Constraint, Domain, Finding, KnobValue, ParetoPoint, Trial, Verification,
};

/// With fewer seeds per candidate the search mostly sees noise.
const SEARCH_SEEDS_MIN: u32 = 3;
/// With fewer fresh seeds the intervals are too wide to mean much.
const VERIFY_SEEDS_MIN: u32 = 5;
/// A search that found its best in this last share of its evaluations was still improving.
const LATE_SHARE: f64 = 0.2;
/// The keys of a pool that choose its hardware or model.
const HARDWARE_KEYS: [&str; 4] = ["gpu", "tensor_parallelism", "model", "vllm_version"];

impl StudyReport<'_> {
    /// Sentences about what limits the numbers; none where nothing does.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.few_seeds());
        warnings.extend(self.assumed());
        if let Some(winner) = self.winner() {
            warnings.extend(self.unseen());
            warnings.extend(self.edges(&winner.candidate));
            warnings.extend(self.better_than_the_winner());
            warnings.extend(self.before_the_winner(winner));
        }
        warnings.extend(self.ranked_hardware());
        warnings.extend(self.still_improving());
        warnings
    }

    fn few_seeds(&self) -> Vec<String> {
        let seeds = &self.space.seeds;
        let mut warnings = Vec::new();
        if seeds.search < SEARCH_SEEDS_MIN {
            warnings.push(format!(
                "few seeds: each candidate met {} in the search; use at least {SEARCH_SEEDS_MIN} \
                 to rank candidates",
                seeds.search
            ));
        }
        if seeds.verify < VERIFY_SEEDS_MIN {
            warnings.push(format!(
                "few fresh seeds: intervals rest on {}; use at least {VERIFY_SEEDS_MIN}",
                seeds.verify
            ));
        }
        warnings
    }

    /// Promises about a share of runs of which there were too few to show them.
    fn assumed(&self) -> Vec<String> {
        let met = self.state.winning().or(self.state.verifications.last());
        let Some(met) = met else { return Vec::new() };
        let pairs = self.space.constraints.iter().zip(&met.score.constraints);
        let few = pairs.filter_map(|(constraint, score)| {
            let needed = runs_needed(constraint, met.error)?;
            let count = met.runs.len();
            match score.basis? {
                Basis::Normal => Some(format!(
                    "`{constraint}` was judged on {count} fresh seeds as if the figure were normal \
                     over seeds on the scale of the promise; {needed} seeds show it without \
                     assuming so: `seeds: {{verify_max: {needed}}}`"
                )),
                Basis::OrderStatistics if score.shown.is_none() => Some(format!(
                    "{count} fresh seeds are too few for `{constraint}`, whose figure is not \
                     normal over seeds; {needed} may do: `seeds: {{verify_max: {needed}}}`"
                )),
                _ => None,
            }
        });
        few.collect()
    }

    /// Promises that others kept under some fresh seeds and broke so badly under others that one
    /// such seed more would break the winner's mean.
    fn unseen(&self) -> Vec<String> {
        let Some(winning) = self.state.winning() else { return Vec::new() };
        let count = winning.runs.len();
        let others = || self.state.met().into_iter().filter(|met| met.trial != winning.trial);
        // A candidate whose every run is outside is another thing than the winner.
        let erratic = |constraint: &Constraint, met: &Verification| {
            let values = values(&met.runs, constraint.metric.as_str())?;
            let keeps = values.iter().any(|&value| constraint.holds(value));
            let worst = values.into_iter().filter(|&value| !constraint.holds(value));
            let worst =
                worst.max_by(|a, b| outward(constraint, *a).total_cmp(&outward(constraint, *b)));
            worst.filter(|_| keeps && met.score.stable).map(|worst| (worst, met.trial))
        };
        let means = self.space.constraints.iter().filter(|constraint| constraint.share.is_none());
        let found = means.filter_map(|constraint| {
            let name = constraint.metric.as_str();
            let own = values(&winning.runs, name)?;
            let one_more = |worst: f64| (own.iter().sum::<f64>() + worst) / (count as f64 + 1.0);
            let mut bad = others().filter_map(|met| erratic(constraint, met));
            let (worst, trial) = bad.find(|&(worst, _)| !constraint.holds(one_more(worst)))?;
            let chance = 1.0 - (1.0 - CONFIDENCE).powf(1.0 / count as f64);
            Some(format!(
                "trial {trial} keeps `{constraint}` on some fresh seeds and has {} on another; {} \
                 may show nothing of what befalls the winner on fewer than {} of all: ask for more \
                 with `seeds: {{verify: {}}}`",
                figure(name, worst),
                plural(count, "seed"),
                percent(chance),
                4 * count
            ))
        });
        found.collect()
    }

    /// Knobs of the winner that stand at an end of their range: a better value may lie beyond.
    fn edges(&self, winner: &Candidate) -> Vec<String> {
        let scaled: Vec<usize> = self.space.scale_groups.iter().flatten().copied().collect();
        let mut warnings = Vec::new();
        for (index, knob) in self.space.knobs.iter().enumerate() {
            // Weights matter only up to a factor, so that one of them always touches its end.
            if scaled.contains(&index) || !winner.is_active(self.space, index) {
                continue;
            }
            let Some(end) = end_of_range(&knob.domain, winner.values()[index]) else { continue };
            warnings.push(format!(
                "the winner has `{}` at the {end} end of its range, {}: a better value may lie \
                 beyond",
                knob.path,
                knob.label(winner.values()[index])
            ));
        }
        warnings
    }

    /// The best point of the frontier that kept its promises in the re-test and beats the winner in
    /// the objective: a finalist that did not have its turn.
    fn better_than_the_winner(&self) -> Option<String> {
        let objective = &self.space.objective;
        let loss = |met: &Verification| met.score.objective.map(|v| objective.to_minimize(v));
        let held = loss(self.state.winning()?)?;
        let kept = self.state.retests.iter().filter(|met| met.found == Finding::Kept);
        let better = kept.filter_map(|met| Some((loss(met)?, met)));
        let (found, met) = better.min_by(|left, right| left.0.total_cmp(&right.0))?;
        let name = objective.metric.as_str();
        let [theirs, ours] = [found, held].map(|value| figure(name, objective.to_minimize(value)));
        (found < held - EQUAL * held.abs()).then(|| {
            format!(
                "trial {} has a `{name}` of {theirs}, better than the winner's {ours}, and kept \
                 its promises in the re-test of the frontier, whose error is its own: the \
                 confidence of the winner is not about it",
                met.trial
            )
        })
    }

    /// A point of the frontier that takes the place of the `winner`: of equal objectives the first
    /// that keeps its promises wins, whatever the other axes say.
    fn before_the_winner(&self, winner: &Trial) -> Option<String> {
        let points = self.state.pareto(self.space);
        let own = points.iter().find(|point| point.trial == winner.index && point.dominated)?;
        let axes = &self.space.pareto;
        let gains = |other: &ParetoPoint| -> Vec<f64> {
            let each = axes.iter().enumerate();
            each.map(|(at, axis)| loss(axis, own.values[at]) - loss(axis, other.values[at]))
                .collect()
        };
        let is_no_worse = |other: &&ParetoPoint| {
            other.is_on_frontier() && gains(other).iter().all(|gain| *gain >= 0.0)
        };
        let other = points.iter().find(is_no_worse)?;
        let better = axes.iter().zip(gains(other)).enumerate().filter(|(_, (_, gain))| *gain > 0.0);
        let better: Vec<String> = better
            .map(|(at, (axis, _))| {
                let [there, here] =
                    [other, own].map(|point| figure(axis.as_str(), point.values[at]));
                format!("`{axis}` is {there} there and {here} here")
            })
            .collect();
        (!better.is_empty()).then(|| {
            format!(
                "on fresh seeds trial {} is no worse than the winner on any axis of the frontier: \
                 {}",
                other.trial,
                better.join(", ")
            )
        })
    }

    /// Rows of the coefficients' table were fitted one by one.
    fn ranked_hardware(&self) -> Option<String> {
        let of_hardware = |path: &str| {
            let key = path.rsplit_once('.').map_or(path, |(_, key)| key);
            path.starts_with("pools") && HARDWARE_KEYS.contains(&key)
        };
        let knob = self.space.knobs.iter().find(|knob| of_hardware(&knob.path));
        let compared = match knob {
            Some(knob) => format!("`{}` is a knob", knob.path),
            None if self.mixed_pools() => "the pools run on different hardware".to_owned(),
            None => return None,
        };
        Some(format!(
            "{compared}, but the built-in coefficients were fitted per row and cannot rank \
             hardware; give `alpha` and `beta` of your own measurements"
        ))
    }

    /// Whether pools without coefficients of their own run on different hardware.
    fn mixed_pools(&self) -> bool {
        let Some(Value::Map(pools)) = self.template.tree().get("pools").map(|node| &node.value)
        else {
            return false;
        };
        let fitted = pools.iter().filter(|(_, pool)| pool.entry("alpha").is_none());
        let text = |node: Option<&Node>| node.map(|node| format!("{:?}", node.value));
        let mut hardware: Vec<_> = fitted
            .map(|(_, pool)| (text(pool.entry("gpu")), text(pool.entry("tensor_parallelism"))))
            .collect();
        hardware.dedup();
        hardware.len() > 1
    }

    fn still_improving(&self) -> Option<String> {
        let cut = matches!(
            self.state.searched,
            Some(SearchEnd::Evaluations | SearchEnd::Wall | SearchEnd::Requests)
        );
        let trials = self.state.search_trials();
        let (index, from, to) = last_improvement(self, trials)?;
        let late = index as f64 >= (1.0 - LATE_SHARE) * trials.len() as f64;
        let name = self.space.objective.metric.as_str();
        (cut && late && trials.len() > 1).then(|| {
            format!(
                "the budget ended while the search was still improving: evaluation {} of {} \
                 brought {name} from {} to {}; give it more with `--budget`",
                index + 1,
                trials.len(),
                figure(name, from),
                figure(name, to)
            )
        })
    }
}

/// Which trial last improved on the best feasible objective before it, from what and to what.
fn last_improvement(study: &StudyReport, trials: &[Trial]) -> Option<(usize, f64, f64)> {
    let objective = &study.space.objective;
    let mut best: Option<f64> = None;
    let mut last = None;
    for trial in trials.iter().filter(|trial| trial.score.feasible) {
        let Some(value) = trial.score.objective else { continue };
        match best {
            None => best = Some(value),
            Some(old) if objective.to_minimize(value) < objective.to_minimize(old) => {
                last = Some((trial.index, old, value));
                best = Some(value);
            }
            Some(_) => {}
        }
    }
    last
}

/// `lower` or `upper` where a number stands at an end of its range and could go on from there.
fn end_of_range(domain: &Domain, value: KnobValue) -> Option<&'static str> {
    match (domain, value) {
        // Counts end at 1 and switches at 0 by themselves.
        (Domain::Int { low, .. }, KnobValue::Int(value)) if value == *low && value > 1 => {
            Some("lower")
        }
        (Domain::Int { high, .. }, KnobValue::Int(value)) if value == *high => Some("upper"),
        (Domain::Float { low, .. }, KnobValue::Float(value)) if value <= *low && *low > 0.0 => {
            Some("lower")
        }
        (Domain::Float { high, .. }, KnobValue::Float(value)) if value >= *high => Some("upper"),
        _ => None,
    }
}
