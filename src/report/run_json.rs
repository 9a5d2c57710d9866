//! The report of a run as one JSON document.

use serde_json::{Map, Value, json};

use super::estimate::Estimate;
use super::fleet_json::life_json;
use super::run::{LATENCIES, RunReport, STATISTICS};
use crate::base::batch_means::SteadyMean;
use crate::base::stats::Interval;
use crate::policy::PolicyBundle;
use crate::search::metric::Figures;
use crate::sim::Outcome;
use crate::sim::outcome::{Counts, GatewayOutcome, InstanceOutcome, Summary};

impl RunReport {
    /// Everything, per seed and over the seeds. Keys are in alphabetical order; latencies are in
    /// milliseconds; a figure that does not exist is null. `capacity_rps` is what one instance of
    /// each pool carries, empty where it was not measured; `fleet` of the whole are the pools at
    /// the start, `fleet` of a run is what became of them, null where nothing could change.
    pub fn to_json(&self) -> Value {
        let runs = self.seeds.iter().zip(&self.outcomes).zip(&self.figures);
        let runs: Vec<Value> = runs
            .map(|((seed, run), figures)| {
                let mut document = run_json(*seed, run, figures);
                document["fleet"] = life_json(run, &self.bundle, &self.capacities);
                document
            })
            .collect();
        json!({
            "policy": self.policy,
            "workload": self.workload,
            "warm_up_s": self.warm_up_s,
            "seeds": self.seeds,
            "stable": self.stable(),
            "fleet": fleet_json(&self.bundle),
            "usd_per_hour": self.bundle.cost_per_hour(),
            "capacity_rps": self.capacities,
            "figures": self.figures_json(),
            "runs": runs,
        })
    }

    /// Mean and interval of each figure that every seed has.
    fn figures_json(&self) -> Value {
        let mut figures = Map::new();
        for (name, _) in self.figures[0].iter() {
            if let Some(estimate) = self.figure(name) {
                figures.insert(name.to_owned(), estimate_json(estimate));
            }
        }
        Value::Object(figures)
    }
}

fn run_json(seed: u64, outcome: &Outcome, figures: &Figures) -> Value {
    let mut run = Map::new();
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
                "within_slo": class.within_slo,
                "ttft": summary_json(&class.ttft),
                "tpot": summary_json(&class.tpot),
                "e2e": summary_json(&class.e2e),
            })
        })
        .collect();
    run.insert("seed".to_owned(), json!(seed));
    run.insert("stable".to_owned(), json!(outcome.stability.stable));
    run.insert("growth_rps".to_owned(), json!(outcome.stability.growth_rps));
    let steady = outcome.steady;
    for (name, mean) in [("ttft", steady.ttft_ms), ("e2e", steady.e2e_ms)] {
        run.insert(format!("{name}_mean_interval_ms"), json!(mean.map(steady_json)));
    }
    run.insert("within_slo".to_owned(), json!(outcome.within_slo));
    run.insert("window_s".to_owned(), json!(outcome.window_s));
    run.insert("end_s".to_owned(), json!(outcome.end_s));
    run.insert("figures".to_owned(), json!(figures));
    run.insert("counts".to_owned(), counts_json(&outcome.counts));
    run.insert("measured".to_owned(), counts_json(&outcome.measured));
    run.insert("classes".to_owned(), Value::Array(classes));
    if let Some(gateway) = &outcome.gateway {
        run.insert("gateway".to_owned(), gateway_json(gateway));
    }
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
        let value = (summary.count > 0).then(|| pick(summary));
        fields.insert(format!("{name}_ms"), json!(value));
    }
    Value::Object(fields)
}

/// What the gateway did; attempts but where it says requests.
fn gateway_json(gateway: &GatewayOutcome) -> Value {
    let shed = gateway.shed.iter();
    let shed = shed.map(|(rule, shed)| json!({ "rule": rule, "attempts": shed }));
    json!({
        "shed": shed.collect::<Vec<_>>(),
        "full": gateway.full,
        "displaced": gateway.displaced,
        "expired": gateway.expired,
        "waited": gateway.waited,
        "wait": summary_json(&gateway.wait),
        "capped_requests": gateway.capped,
    })
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "injected": counts.injected,
        "rejected": counts.rejected,
        "dropped": counts.dropped,
        "timed_out": counts.timed_out,
        "failed": counts.failed,
        "expired": counts.expired,
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
            "min_instances": pool.min_instances,
            "max_instances": pool.max_instances,
            "market": pool.market.name(),
            "kv_blocks": pool.kv_blocks,
            "usd_per_gpu_hour": pool.price_per_gpu_hour,
            "usd_per_hour": pool.cost_per_hour(),
            "price_source": pool.price_source,
        })
    });
    Value::Array(pools.collect())
}

/// The interval of a mean from one run.
fn steady_json(mean: SteadyMean) -> Value {
    let Interval { mean: middle, low, high } = mean.interval;
    json!({
        "mean": middle,
        "low": low,
        "high": high,
        "batches": mean.batches,
        "independent": mean.independent,
    })
}
