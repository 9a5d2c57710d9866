//! The report of one policy on one workload, over one or several seeds.

use std::fmt::Write as _;

use super::cost::cost_lines;
use super::estimate::Estimate;
use super::gateway::gateway_line;
use super::number::{
    count, decimal, figure, milliseconds_digits, ms, percent, plural, rate_digits, usd,
};
use super::table::Table;
use crate::policy::PolicyBundle;
use crate::search::metric::Figures;
use crate::sim::Outcome;
use crate::sim::outcome::{ClassOutcome, Counts, Summary};

/// With more instances than this the table of instances is left out unless asked for.
const INSTANCES_SHOWN_MAX: usize = 32;

/// What was simulated and what came out: everything a report of a run needs.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The policy as the user named it.
    pub policy: String,
    /// The workload in words.
    pub workload: String,
    /// The policy itself.
    pub bundle: PolicyBundle,
    /// Requests that arrive before this many seconds are not measured.
    pub warm_up_s: f64,
    /// The seeds, one per outcome.
    pub seeds: Vec<u64>,
    /// What each seed gave, at least one.
    pub outcomes: Vec<Outcome>,
    /// The same by name, and the fitness where it was asked for; one per outcome.
    pub figures: Vec<Figures>,
    /// Requests per second that one instance of each pool carries within its promises; empty
    /// where that was not measured.
    pub capacities: Vec<Option<f64>>,
}

/// A latency of an outcome, with its name in tables and in JSON.
pub(super) type Latency = (&'static str, &'static str, fn(&Outcome) -> &Summary);

/// The latencies in the order of tables.
pub(super) const LATENCIES: [Latency; 5] = [
    ("TTFT", "ttft", |outcome| &outcome.ttft),
    ("TPOT", "tpot", |outcome| &outcome.tpot),
    ("ITL", "itl", |outcome| &outcome.itl),
    ("E2E", "e2e", |outcome| &outcome.e2e),
    ("scheduling delay", "scheduling_delay", |outcome| &outcome.scheduling_delay),
];

/// A statistic of a latency, with its name.
pub(super) type Statistic = (&'static str, fn(&Summary) -> f64);

/// The statistics in the order of tables.
pub(super) const STATISTICS: [Statistic; 6] = [
    ("mean", |summary| summary.mean_ms),
    ("p50", |summary| summary.p50_ms),
    ("p90", |summary| summary.p90_ms),
    ("p95", |summary| summary.p95_ms),
    ("p99", |summary| summary.p99_ms),
    ("max", |summary| summary.max_ms),
];

impl RunReport {
    /// Whether the fleet could change.
    pub fn changes(&self) -> bool {
        self.outcomes[0].fleet.is_some()
    }

    /// Whether every seed kept up with its load.
    pub fn stable(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.stability.stable)
    }

    /// One figure over the seeds.
    pub fn estimate(&self, figure: impl Fn(&Outcome) -> f64) -> Estimate {
        Estimate::of(&self.outcomes.iter().map(figure).collect::<Vec<_>>())
    }

    /// A figure by name over the seeds; `None` unless every seed has it.
    pub fn figure(&self, name: &str) -> Option<Estimate> {
        let values: Option<Vec<f64>> = self.figures.iter().map(|run| run.get(name)).collect();
        values.map(|values| Estimate::of(&values))
    }

    /// The whole report for people; the instances' table in full where `all_instances`.
    pub fn to_text(&self, all_instances: bool) -> String {
        let mut text = self.heading();
        text.push_str(&self.stability_lines());
        text.push('\n');
        text.push_str(&self.latency_table().to_text());
        text.push('\n');
        text.push_str(&self.figure_lines());
        text.push_str(&self.class_section());
        text.push_str(&self.fleet_section());
        text.push_str(&self.instance_section(all_instances));
        text
    }

    fn heading(&self) -> String {
        let instances = instances_words(&self.bundle);
        let mut text = format!("{} ({instances})\n{}\n", self.policy, self.workload);
        let window = self.outcomes[0].window_s;
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        let word = if seeds.len() == 1 { "seed" } else { "seeds" };
        let spread = if seeds.len() == 1 { "" } else { "; mean ± 95 % interval over seeds" };
        let _ = writeln!(
            text,
            "measured for {} s after {} s of warm-up; {word} {}{spread}",
            decimal(window, 1),
            decimal(self.warm_up_s, 1),
            seeds.join(", ")
        );
        text
    }

    /// Nothing where all is well: an unstable run must stand out.
    fn stability_lines(&self) -> String {
        let unstable: Vec<(&u64, &Outcome)> = self
            .seeds
            .iter()
            .zip(&self.outcomes)
            .filter(|(_, outcome)| !outcome.stability.stable)
            .collect();
        if unstable.is_empty() {
            return String::new();
        }
        let growth = unstable.iter().map(|(_, outcome)| outcome.stability.growth_rps);
        let growth = growth.fold(f64::NEG_INFINITY, f64::max);
        let up_to = if unstable.len() > 1 { "up to " } else { "" };
        let mut text = format!(
            "\nUNSTABLE: the fleet cannot keep up. Requests in the system grow by {up_to}{} \
             requests/s,\nso the latencies below depend on how long the run lasts; a longer run \
             shows larger ones.\n",
            decimal(growth, 2)
        );
        if unstable.len() < self.outcomes.len() {
            let seeds: Vec<String> = unstable.iter().map(|(seed, _)| seed.to_string()).collect();
            let _ = writeln!(text, "unstable seeds: {}", seeds.join(", "));
        }
        text
    }

    /// How well a single run tells its means; empty with several seeds, whose intervals stand in
    /// the table, and where too few requests completed.
    fn means_line(&self) -> String {
        let [outcome] = self.outcomes.as_slice() else { return String::new() };
        let told = [("TTFT", outcome.steady.ttft_ms), ("E2E", outcome.steady.e2e_ms)];
        let intervals: Vec<String> = told
            .iter()
            .filter_map(|(name, mean)| {
                let interval = mean.as_ref()?.interval;
                Some(format!("{name} {} to {} ms", ms(interval.low), ms(interval.high)))
            })
            .collect();
        if intervals.is_empty() {
            return String::new();
        }
        let sure = told.iter().all(|(_, mean)| mean.as_ref().is_none_or(|m| m.independent));
        let doubt = if sure { "" } else { "; the run is too short to be sure" };
        format!("{} (95 % intervals from this one run{doubt})", intervals.join(", "))
    }

    fn latency_table(&self) -> Table {
        let names = STATISTICS.iter().map(|(name, _)| *name);
        let mut table = Table::new(std::iter::once("latency (ms)").chain(names));
        for (name, _, latency) in LATENCIES {
            // Of nothing there is no quantile, and a zero would pass for a good one.
            let known = self.outcomes.iter().all(|outcome| latency(outcome).count > 0);
            let cells = STATISTICS.iter().map(|(_, statistic)| {
                if known {
                    show_ms(self.estimate(|outcome| statistic(latency(outcome))))
                } else {
                    "-".to_owned()
                }
            });
            table.row(std::iter::once(name.to_owned()).chain(cells));
        }
        table
    }

    fn figure_lines(&self) -> String {
        let show = |figure: fn(&Outcome) -> f64, digits: usize| {
            self.estimate(figure).show(|value| decimal(value, digits))
        };
        let share = |figure: fn(&Outcome) -> f64| self.estimate(figure).show(percent);
        let requests = self.estimate(|outcome| outcome.throughput_rps);
        let mut lines: Vec<(&str, String)> = vec![
            (
                "throughput",
                format!(
                    "{} requests/s, {} output tokens/s, {} tokens/s",
                    requests.show(|value| decimal(value, rate_digits(requests.mean))),
                    show(|o| o.output_tokens_per_s, 0),
                    show(|o| o.total_tokens_per_s, 0)
                ),
            ),
            ("requests", self.counts_line(|outcome| outcome.counts)),
            ("measured", self.counts_line(|outcome| outcome.measured)),
            ("retries", self.retries_line()),
            ("gateway", gateway_line(&self.outcomes)),
            ("within SLO", if self.changes() { self.promises_line() } else { String::new() }),
            ("stable", self.stable_line()),
            ("means", self.means_line()),
            (
                "fleet",
                format!(
                    "busy {}, KV in use {} mean and {} peak, Jain fairness {}",
                    share(|o| o.busy_fraction),
                    share(|o| o.kv_utilization_mean),
                    share(|o| o.kv_utilization_peak),
                    show(|o| o.jain_fairness, 4)
                ),
            ),
            (
                "cache",
                format!(
                    "hit rate {}, {} preemptions",
                    share(|o| o.cache_hit_rate),
                    show(|o| o.preemptions as f64, 0)
                ),
            ),
            ("cost", self.cost_line()),
        ];
        lines.extend(cost_lines(&self.bundle).into_iter().map(|line| ("", line)));
        if let Some(fitness) = self.figure("fitness") {
            lines.push(("fitness", fitness.show(|value| decimal(value, 6))));
        }
        let mut text = String::new();
        for (name, line) in lines.into_iter().filter(|(_, line)| !line.is_empty()) {
            let _ = writeln!(text, "  {name:<12}{line}");
        }
        text
    }

    /// Sums over the seeds: counts are exact and need no interval.
    fn counts_line(&self, counts: fn(&Outcome) -> Counts) -> String {
        let sum = |field: fn(&Counts) -> u64| {
            count(self.outcomes.iter().map(|outcome| field(&counts(outcome))).sum())
        };
        let mut line = format!(
            "{} injected = {} completed + {} rejected + {} dropped + {} queued + {} running",
            sum(|c| c.injected),
            sum(|c| c.completed),
            sum(|c| c.rejected),
            sum(|c| c.dropped),
            sum(|c| c.queued),
            sum(|c| c.running)
        );
        // Only where clients give up or instances fail.
        let others = [
            (sum(|c| c.timed_out), "timed out"),
            (sum(|c| c.failed), "failed"),
            (sum(|c| c.expired), "expired"),
        ];
        for (number, word) in others {
            if number != "0" {
                let _ = write!(line, " + {number} {word}");
            }
        }
        line
    }

    fn stable_line(&self) -> String {
        let growth = self.estimate(|o| o.stability.growth_rps).show(|value| decimal(value, 2));
        if self.stable() {
            format!("yes; the queue grows by no more than chance ({growth} requests/s)")
        } else {
            format!("NO; requests in the system grow by {growth} requests/s")
        }
    }

    fn cost_line(&self) -> String {
        let per_million = |name| {
            let cost = self.figure(name);
            cost.map_or("-".to_owned(), |cost| cost.show(|value| figure(name, value)))
        };
        let per_hour = match self.figure("cost_per_hour").filter(|_| self.changes()) {
            None => format!("{} per hour", usd(self.bundle.cost_per_hour())),
            Some(mean) => format!("{} per hour on average", mean.show(usd)),
        };
        format!(
            "{per_hour}; {} per million output tokens, {} per million tokens",
            per_million("cost_per_million_output_tokens"),
            per_million("cost_per_million_tokens")
        )
    }

    /// Nothing where all requests are of one class.
    fn class_section(&self) -> String {
        let classes = &self.outcomes[0].classes;
        if classes.len() < 2 {
            return String::new();
        }
        let mut header = vec![
            "class",
            "measured",
            "completed",
            "rejected",
            "TTFT mean",
            "TTFT p99",
            "TPOT mean",
            "TPOT p99",
            "E2E mean",
            "E2E p99",
        ];
        header.extend(self.changes().then_some("within SLO"));
        let mut table = Table::new(header);
        for (index, class) in classes.iter().enumerate() {
            let sum = |field: fn(&Counts) -> u64| {
                count(self.outcomes.iter().map(|o| field(&o.classes[index].measured)).sum())
            };
            let figure = |pick: fn(&ClassOutcome) -> f64| {
                show_ms(self.estimate(|outcome| pick(&outcome.classes[index])))
            };
            let mut row = vec![
                class.name.clone(),
                sum(|c| c.injected),
                sum(|c| c.completed),
                sum(|c| c.rejected),
                figure(|c| c.ttft.mean_ms),
                figure(|c| c.ttft.p99_ms),
                figure(|c| c.tpot.mean_ms),
                figure(|c| c.tpot.p99_ms),
                figure(|c| c.e2e.mean_ms),
                figure(|c| c.e2e.p99_ms),
            ];
            if self.changes() {
                let kept = self.figure(&format!("{}.slo_attainment", class.name));
                row.push(kept.map_or("-".to_owned(), |kept| kept.show(percent)));
            }
            table.row(row);
        }
        format!("\n{}", table.to_text())
    }

    fn instance_section(&self, all: bool) -> String {
        let instances = self.outcomes[0].instances.len();
        if instances < 2 {
            return String::new();
        }
        if instances > INSTANCES_SHOWN_MAX && !all {
            return format!("\n  {instances} instances; `-v` lists them\n");
        }
        let mut table = Table::new([
            "instance",
            "pool",
            "requests",
            "completed",
            "steps",
            "preemptions",
            "cache hits",
            "KV peak",
            "busy, whole run",
        ]);
        let pools = self.bundle.pools.iter().flat_map(|pool| {
            // Of a fleet that changes each place has a row.
            let rows = if self.changes() { pool.max_instances } else { pool.instances };
            std::iter::repeat_n((pool.name.as_str(), pool.kv_blocks), rows as usize)
        });
        for (index, (pool, kv_blocks)) in (0..instances).zip(pools) {
            let mean = |figure: &dyn Fn(&Outcome) -> f64| self.estimate(figure).mean;
            table.row([
                index.to_string(),
                pool.to_owned(),
                decimal(mean(&|o| o.instances[index].requests as f64), 0),
                decimal(mean(&|o| o.instances[index].completed as f64), 0),
                decimal(mean(&|o| o.instances[index].steps as f64), 0),
                decimal(mean(&|o| o.instances[index].preemptions as f64), 0),
                percent(mean(&|o| o.instances[index].cache_hit_rate)),
                percent(mean(&|o| {
                    f64::from(o.instances[index].kv_blocks_peak) / f64::from(kv_blocks)
                })),
                percent(mean(&|o| o.instances[index].busy_s / o.end_s)),
            ]);
        }
        format!("\n{}", table.to_text())
    }
}

/// `4 instances`, or `4 instances at the start, 2 to 16 later`.
fn instances_words(bundle: &PolicyBundle) -> String {
    let instances = plural(bundle.instances() as usize, "instance");
    let least: u32 = bundle.pools.iter().map(|pool| pool.min_instances).sum();
    match (least, bundle.places()) {
        (least, most) if least == most => instances,
        (least, most) => format!("{instances} at the start, {least} to {most} later"),
    }
}

/// The mean and the interval with the same number of decimals.
fn show_ms(estimate: Estimate) -> String {
    let digits = milliseconds_digits(estimate.mean);
    match estimate.half_width {
        None => ms(estimate.mean),
        Some(_) => estimate.show(|value| decimal(value, digits)),
    }
}
