//! The report of a run as one JSON document.

use serde_json::{Map, Value, json};

use super::cost::usd_per_million_tokens;
use super::estimate::Estimate;
use super::run::{LATENCIES, RunReport, STATISTICS};
use crate::policy::PolicyBundle;
use crate::sim::Outcome;
use crate::sim::outcome::{Counts, InstanceOutcome, Summary};

impl RunReport {
    /// Everything, per seed and over the seeds. Keys are in alphabetical order; latencies are in
    /// milliseconds; a figure that does not exist is null.
    pub fn to_json(&self) -> Value {
        let runs: Vec<Value> =
            self.seeds.iter().zip(&self.outcomes).map(|(seed, run)| run_json(*seed, run)).collect();
        json!({
            "policy": self.policy,
            "workload": self.workload,
            "warm_up_s": self.warm_up_s,
            "seeds": self.seeds,
            "stable": self.stable(),
            "fleet": fleet_json(&self.bundle),
            "cost": self.cost_json(),
            "fitness": self.fitness.as_deref().map(|values| estimate_json(Estimate::of(values))),
            "fitness_per_seed": self.fitness,
            "summary": self.summary_json(),
            "runs": runs,
        })
    }

    fn cost_json(&self) -> Value {
        let per_hour = self.bundle.cost_per_hour();
        let per_million = |tokens: fn(&Outcome) -> f64| {
            estimate_json(self.estimate(|o| usd_per_million_tokens(per_hour, tokens(o))))
        };
        json!({
            "usd_per_hour": per_hour,
            "usd_per_million_output_tokens": per_million(|o| o.output_tokens_per_s),
            "usd_per_million_tokens": per_million(|o| o.total_tokens_per_s),
        })
    }

    fn summary_json(&self) -> Value {
        let mut summary = Map::new();
        for (_, name, latency) in LATENCIES {
            for (statistic, pick) in STATISTICS {
                let estimate = self.estimate(|outcome| pick(latency(outcome)));
                summary.insert(format!("{name}_{statistic}_ms"), estimate_json(estimate));
            }
        }
        for (name, figure) in FIGURES {
            summary.insert(name.to_owned(), estimate_json(self.estimate(figure)));
        }
        Value::Object(summary)
    }
}

/// A figure that is one number per run, with its name.
type Figure = (&'static str, fn(&Outcome) -> f64);

const FIGURES: [Figure; 13] = [
    ("window_s", |o| o.window_s),
    ("end_s", |o| o.end_s),
    ("throughput_rps", |o| o.throughput_rps),
    ("output_tokens_per_s", |o| o.output_tokens_per_s),
    ("total_tokens_per_s", |o| o.total_tokens_per_s),
    ("cache_hit_rate", |o| o.cache_hit_rate),
    ("preemptions", |o| o.preemptions as f64),
    ("kv_utilization_mean", |o| o.kv_utilization_mean),
    ("kv_utilization_peak", |o| o.kv_utilization_peak),
    ("busy_fraction", |o| o.busy_fraction),
    ("jain_fairness", |o| o.jain_fairness),
    ("growth_rps", |o| o.stability.growth_rps),
    ("completed_ratio", |o| o.measured.completed as f64 / o.measured.injected.max(1) as f64),
];

fn run_json(seed: u64, outcome: &Outcome) -> Value {
    let mut run = Map::new();
    for (name, figure) in FIGURES {
        run.insert(name.to_owned(), json!(figure(outcome)));
    }
    for (_, name, latency) in LATENCIES {
        run.insert(name.to_owned(), summary_json(latency(outcome)));
    }
    let classes: Vec<Value> = outcome
        .classes
        .iter()
        .map(|class| {
            json!({
                "name": class.name,
                "measured": counts_json(&class.measured),
                "ttft": summary_json(&class.ttft),
                "tpot": summary_json(&class.tpot),
                "e2e": summary_json(&class.e2e),
            })
        })
        .collect();
    run.insert("seed".to_owned(), json!(seed));
    run.insert("stable".to_owned(), json!(outcome.stability.stable));
    run.insert("preemptions".to_owned(), json!(outcome.preemptions));
    run.insert("counts".to_owned(), counts_json(&outcome.counts));
    run.insert("measured".to_owned(), counts_json(&outcome.measured));
    run.insert("classes".to_owned(), Value::Array(classes));
    let instances = outcome.instances.iter().map(instance_json).collect();
    run.insert("instances".to_owned(), Value::Array(instances));
    Value::Object(run)
}

fn estimate_json(estimate: Estimate) -> Value {
    json!({ "mean": estimate.mean, "half_width_95": estimate.half_width })
}

fn summary_json(summary: &Summary) -> Value {
    let mut fields = Map::new();
    fields.insert("count".to_owned(), json!(summary.count));
    for (name, pick) in STATISTICS {
        fields.insert(format!("{name}_ms"), json!(pick(summary)));
    }
    Value::Object(fields)
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "injected": counts.injected,
        "rejected": counts.rejected,
        "dropped": counts.dropped,
        "queued": counts.queued,
        "running": counts.running,
        "completed": counts.completed,
    })
}

fn instance_json(instance: &InstanceOutcome) -> Value {
    json!({
        "requests": instance.requests,
        "completed": instance.completed,
        "queued": instance.queued,
        "running": instance.running,
        "steps": instance.steps,
        "preemptions": instance.preemptions,
        "input_tokens": instance.input_tokens,
        "decode_tokens": instance.decode_tokens,
        "kv_blocks_peak": instance.kv_blocks_peak,
        "cache_hit_rate": instance.cache_hit_rate,
        "busy_s": instance.busy_s,
    })
}

/// The pools of a fleet with the price each rests on.
pub(super) fn fleet_json(bundle: &PolicyBundle) -> Value {
    let pools = bundle.pools.iter().map(|pool| {
        json!({
            "name": pool.name,
            "model": pool.model,
            "gpu": pool.gpu,
            "gpus_per_instance": pool.gpus_per_instance,
            "instances": pool.instances,
            "kv_blocks": pool.kv_blocks,
            "usd_per_gpu_hour": pool.price_per_gpu_hour,
            "usd_per_hour": pool.cost_per_hour(),
            "price_source": pool.price_source,
        })
    });
    Value::Array(pools.collect())
}
