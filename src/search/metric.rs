//! Every figure of a run by name: what an objective, a constraint or an axis may ask for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet_metrics::FLEET_METRICS;
use super::scenarios::{EACH, Scope};
use crate::config::nearest;
use crate::policy::PolicyBundle;
use crate::sim::Outcome;
use crate::sim::outcome::{Counts, GatewayOutcome, Summary};

/// The figures of one run by name. A figure that does not exist in a run (a quantile of nothing,
/// a cost per token where none was made) is absent; no figure is NaN or infinite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

/// The name of a figure: `ttft_p99_ms`, or of one class: `interactive.ttft_p99_ms`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricName(String);

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Smaller is better.
    Lower,
    /// Larger is better.
    Higher,
}

/// What the registry says about a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Which way it is good.
    pub better: Better,
    /// What it measures, with its unit.
    pub about: &'static str,
}

/// The distributions of a run, each with mean, quantiles and maximum in milliseconds.
const DISTRIBUTIONS: [&str; 6] = ["ttft", "tpot", "itl", "e2e", "scheduling_delay", "gateway_wait"];
/// The distributions that are also kept per class.
const CLASS_DISTRIBUTIONS: [&str; 3] = ["ttft", "tpot", "e2e"];
/// What is told of each distribution.
const STATISTICS: [&str; 6] = ["mean", "p50", "p90", "p95", "p99", "max"];

/// Figures that are neither statistics of a distribution nor among the [`FLEET_METRICS`].
const RUN_METRICS: [Metric; 20] = [
    higher("throughput_rps", "requests answered per second of the measured window"),
    higher("output_tokens_per_s", "answer tokens of those requests per second"),
    higher("total_tokens_per_s", "prompt and answer tokens of those requests per second"),
    higher("completed_ratio", "share of measured requests that were answered in full"),
    lower("rejected_ratio", "share of measured requests turned away at the gateway"),
    lower("expired_ratio", "share of measured requests too long in the queue of the gateway"),
    lower("capped_ratio", "share of measured requests whose answer was cut short"),
    lower("shed_ratio", "share of attempts turned away at the gateway, whole run"),
    lower("dropped_ratio", "share of measured requests too large for an instance's KV cache"),
    higher("injected_requests", "measured requests that reached the cluster"),
    higher("completed_requests", "measured requests answered in full"),
    higher("cache_hit_rate", "prefix-cache hits over hits and misses, in blocks"),
    lower("preemptions", "requests thrown out of a batch, whole run"),
    lower("kv_utilization_mean", "mean share of KV blocks in use while stepping"),
    lower("kv_utilization_peak", "largest share of KV blocks in use on any instance"),
    lower("busy_fraction", "share of the measured window spent stepping, mean over instances"),
    higher("jain_fairness", "Jain's index of requests per instance"),
    lower("growth_rps", "growth of the requests in the system, per second"),
    higher("fitness", "weighted score of throughput and latency, under `objective.weights`"),
    higher("stable", "1 where the queue stopped growing, else 0"),
];

/// Figures besides distributions that are also kept per class.
const CLASS_METRICS: [&str; 10] = [
    "expired_ratio",
    "completed_ratio",
    "rejected_ratio",
    "dropped_ratio",
    "injected_requests",
    "completed_requests",
    "slo_attainment",
    "error_rate",
    "timed_out_ratio",
    "failed_ratio",
];

/// All figures that are not statistics of a distribution.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    RUN_METRICS.iter().chain(&FLEET_METRICS)
}

pub(super) const fn lower(name: &'static str, about: &'static str) -> Metric {
    Metric { name, better: Better::Lower, about }
}

pub(super) const fn higher(name: &'static str, about: &'static str) -> Metric {
    Metric { name, better: Better::Higher, about }
}

/// The names of all figures of a whole run, classes left out.
pub fn names() -> Vec<String> {
    let mut names = statistics(&DISTRIBUTIONS);
    names.extend(metrics().map(|metric| metric.name.to_owned()));
    names
}

/// The names of the figures that each class has.
pub fn class_names() -> Vec<String> {
    let mut names = statistics(&CLASS_DISTRIBUTIONS);
    names.extend(CLASS_METRICS.iter().map(|&name| name.to_owned()));
    names
}

fn statistics(distributions: &[&str]) -> Vec<String> {
    let pairs = distributions.iter().flat_map(|name| STATISTICS.iter().map(move |of| (name, of)));
    pairs.map(|(name, of)| format!("{name}_{of}_ms")).collect()
}

impl MetricName {
    /// The figure called `name`, as far as `scope` knows what names may refer to.
    ///
    /// # Errors
    /// The nearest name, where one is near.
    pub fn parse(name: &str, scope: Scope) -> Result<Self, Option<String>> {
        let Some((figure, scenario)) = name.split_once('@') else {
            return Self::parse_plain(name, scope.classes);
        };
        let scenarios = || scope.scenarios.iter().map(String::as_str).chain([EACH]);
        let near = |figure: &str, scenario: &str| format!("{figure}@{scenario}");
        match Self::parse_plain(figure, scope.classes) {
            Err(nearest) => Err(nearest.map(|figure| near(&figure, scenario))),
            Ok(_) if scope.scenarios.is_empty() => Err(Some(figure.to_owned())),
            Ok(_) if scenarios().any(|known| known == scenario) => Ok(Self(name.to_owned())),
            Ok(_) => Err(nearest(scenario, scenarios()).map(|scenario| near(figure, scenario))),
        }
    }

    fn parse_plain(name: &str, classes: Option<&[String]>) -> Result<Self, Option<String>> {
        let known = match name.rsplit_once('.') {
            None => names(),
            Some((class, _)) => {
                let prefixed = |class: &str| {
                    class_names().into_iter().map(|name| format!("{class}.{name}")).collect()
                };
                match classes {
                    None => prefixed(class),
                    Some(classes) => classes
                        .iter()
                        .flat_map(|class| -> Vec<String> { prefixed(class) })
                        .collect(),
                }
            }
        };
        if known.iter().any(|known| known == name) {
            return Ok(Self(name.to_owned()));
        }
        Err(nearest(name, known.iter().map(String::as_str)).map(str::to_owned))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The figure itself, without class and scenario.
    pub fn figure(&self) -> &str {
        plain(&self.0)
    }

    /// Which way the figure is good.
    pub fn better(&self) -> Better {
        better(&self.0)
    }
}

/// A figure's name without class and scenario.
fn plain(name: &str) -> &str {
    let figure = name.split_once('@').map_or(name, |(figure, _)| figure);
    figure.rsplit_once('.').map_or(figure, |(_, plain)| plain)
}

/// Which way the figure called `name` is good, whatever its class and its scenario.
pub(super) fn better(name: &str) -> Better {
    let figure = plain(name);
    let listed = metrics().find(|metric| metric.name == figure);
    listed.map_or(Better::Lower, |metric| metric.better)
}

impl std::fmt::Display for MetricName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Figures {
    /// The figures of `outcome`, run under `bundle`. `capacities` are the requests per second that
    /// one instance of each pool carries ([`capacities`](super::capacity::capacities)); without
    /// them what rests on them is absent.
    pub fn of(outcome: &Outcome, bundle: &PolicyBundle, capacities: &[Option<f64>]) -> Self {
        let mut figures = Self::default();
        let gateway = outcome.gateway.clone().unwrap_or_default();
        let summaries = [
            ("ttft", &outcome.ttft),
            ("tpot", &outcome.tpot),
            ("itl", &outcome.itl),
            ("e2e", &outcome.e2e),
            ("scheduling_delay", &outcome.scheduling_delay),
            ("gateway_wait", &gateway.wait),
        ];
        for (name, summary) in summaries {
            figures.set_summary("", name, summary);
        }
        figures.set_counts("", &outcome.measured);
        figures.set_promises("", &outcome.measured, outcome.within_slo);
        for class in &outcome.classes {
            let prefix = format!("{}.", class.name);
            let summaries = [("ttft", &class.ttft), ("tpot", &class.tpot), ("e2e", &class.e2e)];
            for (name, summary) in summaries {
                figures.set_summary(&prefix, name, summary);
            }
            figures.set_counts(&prefix, &class.measured);
            figures.set_promises(&prefix, &class.measured, class.within_slo);
        }
        figures.set_rates(outcome);
        figures.set_gateway(outcome, &gateway);
        figures.set_costs(outcome, bundle);
        figures.set_fleet(outcome, bundle, capacities);
        figures
    }

    /// The figure called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Sets a figure; NaN and infinity take it away.
    pub fn set(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.0.insert(name.to_owned(), value);
        } else {
            self.0.remove(name);
        }
    }

    /// All figures in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, &value)| (name.as_str(), value))
    }

    fn set_summary(&mut self, prefix: &str, name: &str, summary: &Summary) {
        if summary.count == 0 {
            return;
        }
        let values = [
            summary.mean_ms,
            summary.p50_ms,
            summary.p90_ms,
            summary.p95_ms,
            summary.p99_ms,
            summary.max_ms,
        ];
        for (statistic, value) in STATISTICS.iter().zip(values) {
            self.set(&format!("{prefix}{name}_{statistic}_ms"), value);
        }
    }

    fn set_counts(&mut self, prefix: &str, counts: &Counts) {
        let injected = counts.injected as f64;
        // 0/0 is NaN, which `set` leaves out.
        let ratios = [
            ("completed_ratio", counts.completed as f64 / injected),
            ("rejected_ratio", counts.rejected as f64 / injected),
            ("dropped_ratio", counts.dropped as f64 / injected),
            ("expired_ratio", counts.expired as f64 / injected),
            ("injected_requests", injected),
            ("completed_requests", counts.completed as f64),
        ];
        for (name, value) in ratios {
            self.set(&format!("{prefix}{name}"), value);
        }
    }

    /// Where no gateway does anything nobody is turned away by it: zero, not unknown.
    fn set_gateway(&mut self, outcome: &Outcome, gateway: &GatewayOutcome) {
        let retries = outcome.fleet.as_ref().map_or(0, |fleet| fleet.retries);
        let attempts = (outcome.counts.injected + retries) as f64;
        self.set("shed_ratio", gateway.turned_away() as f64 / attempts);
        self.set("capped_ratio", gateway.capped as f64 / outcome.measured.injected as f64);
    }

    fn set_rates(&mut self, outcome: &Outcome) {
        self.set("throughput_rps", outcome.throughput_rps);
        self.set("output_tokens_per_s", outcome.output_tokens_per_s);
        self.set("total_tokens_per_s", outcome.total_tokens_per_s);
        self.set("cache_hit_rate", outcome.cache_hit_rate);
        self.set("preemptions", outcome.preemptions as f64);
        self.set("kv_utilization_mean", outcome.kv_utilization_mean);
        self.set("kv_utilization_peak", outcome.kv_utilization_peak);
        self.set("busy_fraction", outcome.busy_fraction);
        self.set("jain_fairness", outcome.jain_fairness);
        self.set("growth_rps", outcome.stability.growth_rps);
        self.set("stable", f64::from(u8::from(outcome.stability.stable)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::outcome::ClassOutcome;

    #[test]
    fn a_misspelt_metric_is_answered_by_the_nearest() {
        assert!(MetricName::parse("ttft_p99_ms", Scope::default()).is_ok());
        assert_eq!(
            MetricName::parse("ttft_p99", Scope::default()),
            Err(Some("ttft_p99_ms".to_owned()))
        );
        assert_eq!(MetricName::parse("zzz", Scope::default()), Err(None));
    }

    #[test]
    fn class_metrics_need_a_class_of_the_workload() {
        let classes = ["interactive".to_owned()];
        let scope = Scope { classes: Some(&classes), scenarios: &[] };
        assert!(MetricName::parse("interactive.ttft_p99_ms", scope).is_ok());
        assert_eq!(
            MetricName::parse("interactiv.ttft_p99_ms", scope),
            Err(Some("interactive.ttft_p99_ms".to_owned()))
        );
        assert!(MetricName::parse("interactive.cost_per_hour", scope).is_err());
    }

    #[test]
    fn a_figure_of_a_scenario_needs_a_scenario_of_the_search() {
        let scenarios = ["zone-lost".to_owned()];
        let scope = Scope { classes: None, scenarios: &scenarios };
        for name in ["ttft_p99_ms@zone-lost", "ttft_p99_ms@each", "chat.ttft_p99_ms@each"] {
            assert!(MetricName::parse(name, scope).is_ok(), "{name}");
        }
        let near = |name| MetricName::parse(name, scope).err().flatten();
        assert_eq!(near("ttft_p99_ms@zone-lots").as_deref(), Some("ttft_p99_ms@zone-lost"));
        assert_eq!(near("ttft_p99@each").as_deref(), Some("ttft_p99_ms@each"));
        let plain = MetricName::parse("ttft_p99_ms@each", Scope::default());
        assert_eq!(plain, Err(Some("ttft_p99_ms".to_owned())), "there are no scenarios");
        assert_eq!(better("slo_attainment@each"), Better::Higher);
    }

    #[test]
    fn figures_of_nothing_are_absent_and_never_zero() {
        let mut outcome = Outcome::default();
        outcome.classes.push(ClassOutcome { name: "batch".to_owned(), ..Default::default() });
        let mut figures = Figures::default();
        figures.set_summary("", "ttft", &outcome.ttft);
        figures.set_counts("batch.", &outcome.classes[0].measured);
        assert_eq!(figures.get("ttft_p99_ms"), None);
        assert_eq!(figures.get("batch.completed_ratio"), None);
        assert_eq!(figures.get("batch.injected_requests"), Some(0.0));
    }

    /// Figures that only a fleet that changes has.
    const OF_CHANGE: [&str; 6] = [
        "slo_attainment_min",
        "cost_total",
        "gpu_hours",
        "recovery_s_max",
        "below_needed_s",
        "cost_over_clairvoyant",
    ];

    #[test]
    fn every_listed_figure_but_the_fitness_and_those_of_change_is_filled_by_a_full_outcome() {
        let bundle = crate::search::simulated::tests::bundle(2, 3.5);
        let summary = Summary { count: 1, p99_ms: 7.0, ..Summary::default() };
        let outcome = Outcome {
            counts: Counts { injected: 4, ..Counts::default() },
            measured: Counts { injected: 4, completed: 3, rejected: 1, ..Counts::default() },
            within_slo: 2,
            window_s: 10.0,
            ttft: summary,
            tpot: summary,
            itl: summary,
            e2e: summary,
            scheduling_delay: summary,
            gateway: Some(GatewayOutcome { wait: summary, ..GatewayOutcome::default() }),
            total_tokens_per_s: 100.0,
            output_tokens_per_s: 50.0,
            ..Outcome::default()
        };
        let figures = Figures::of(&outcome, &bundle, &[]);
        for name in names() {
            let absent = name == "fitness" || OF_CHANGE.contains(&name.as_str());
            assert_eq!(figures.get(&name).is_none(), absent, "{name}");
        }
        assert_eq!(figures.get("completed_ratio"), Some(0.75));
        assert_eq!(figures.get("error_rate"), Some(0.25));
        assert_eq!(figures.get("slo_attainment"), Some(0.5));
        assert_eq!(figures.get("goodput_rps"), Some(0.2));
        assert_eq!(figures.get("scale_ups"), Some(0.0));
        assert_eq!(figures.get("cost_per_hour"), Some(2.0 * 2.0 * 3.5));
        let per_million = figures.get("cost_per_million_tokens").expect("tokens were made");
        assert!((per_million - 14.0 / 0.36).abs() < 1e-9);
    }
}
