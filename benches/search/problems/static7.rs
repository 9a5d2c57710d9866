//! A static fleet of seven knobs: 500 requests/s of 512 prompt and 512 answer tokens.

use super::knobs::{choice, float_log, int, int_log, space, when};
use super::{Best, Knobs, Synthetic, Told};

const RATE: f64 = 500.0;
const PROMPT: f64 = 512.0;
const OUTPUT: f64 = 512.0;

/// US dollars per instance and hour: two GPUs of 3.5.
pub const PRICE: f64 = 7.0;

const BEST: Best = Best {
    cost: 77.0,
    knobs: r#"{"admission.policy": "always-admit", "batching.max_running_requests": 336,
            "pools.h100.instances": 11, "routing.policy": "weighted",
            "routing.scorers.kv-utilization.weight": 6.0,
            "routing.scorers.queue-depth.weight": 10.0}"#,
    found: "`optimum static7 --exhaust 12`: all of 3.6 million candidates with 12 values of \
            each float; 288 are as good, and no fleet of ten is stable",
};

pub fn problem() -> Synthetic {
    let knobs = vec![
        int_log("pools.h100.instances", (4, 64, 1)),
        choice("routing.policy", &["round-robin", "least-loaded", "weighted"]),
        when(float_log("routing.scorers.queue-depth.weight", 0.1, 10.0), 1, 2),
        when(float_log("routing.scorers.kv-utilization.weight", 0.1, 10.0), 1, 2),
        int("batching.max_running_requests", (32, 512, 16)),
        choice("admission.policy", &["always-admit", "token-bucket"]),
        when(float_log("admission.token_bucket_refill_rate", 2e5, 6e5), 5, 1),
    ];
    let constraints = ["ttft_p99_ms <= 500", "tpot_p99_ms <= 15", "completed_ratio >= 0.995"];
    let mut space = space("static7", knobs, &constraints);
    space.scale_groups = vec![vec![2, 3]];
    Synthetic { space, model, best: Some(BEST), salt: 0x7007 }
}

fn model(knobs: Knobs) -> Told {
    let imbalance = match knobs.choice(1) {
        0 => 0.10,
        1 => 0.04,
        _ => weighted_imbalance(knobs.number(2) / knobs.number(3), 2.2),
    };
    let refill = (knobs.choice(5) == 1).then(|| knobs.number(6) / (RATE * PROMPT));
    let fleet = Fleet {
        instances: knobs.number(0),
        batch: knobs.number(4),
        imbalance,
        refill,
        rate: RATE,
        output: OUTPUT,
    };
    fleet.told()
}

/// How unevenly a weighted router loads the fleet, given the ratio of its weights and the best.
pub fn weighted_imbalance(ratio: f64, best: f64) -> f64 {
    let off = (ratio / best).ln();
    0.012 + 0.16 * (1.0 - (-off * off / 2.5).exp())
}

/// A fleet of a fixed size under a steady load.
pub struct Fleet {
    /// Number of instances.
    pub instances: f64,
    /// The most requests in a batch.
    pub batch: f64,
    /// How much more than the mean the busiest instance gets.
    pub imbalance: f64,
    /// The token bucket's rate over the offered rate; without it all are let in.
    pub refill: Option<f64>,
    /// Requests per second.
    pub rate: f64,
    /// Tokens per answer.
    pub output: f64,
}

impl Fleet {
    /// What it amounts to.
    pub fn told(&self) -> Told {
        // A step grows with its batch, steeply once the KV cache is short.
        let step_ms = 6.9 + 0.012 * self.batch + 4.0 * (self.batch / 400.0).powi(3);
        let capacity = self.batch * 1000.0 / (self.output * step_ms);
        let (rejected, burstiness) = self.refill.map_or((0.0, 1.0), bucket);
        let admitted = self.rate * (1.0 - rejected);
        let load = admitted * (1.0 + self.imbalance) / (self.instances * capacity);
        let left = (1.0 - load).max(0.004);
        let wait_ms = 8.0 * 4.6 * burstiness * load.powi(6) / left;
        let mut told = Told { stable: load < 1.0, ..Told::default() };
        told.figure(
            "ttft_p99_ms",
            25.0 + 3.0 * step_ms + wait_ms,
            0.04 + 0.3 * load.min(1.1).powi(4),
        );
        told.figure("tpot_p99_ms", step_ms * (1.05 + 0.06 * load), 0.015);
        told.share("completed_ratio", 1.0 - rejected, 0.25);
        told.figure("cost_per_hour", PRICE * self.instances, 0.0);
        told
    }
}

/// The share that a bucket turns away, and the burstiness that it leaves.
fn bucket(refill: f64) -> (f64, f64) {
    let room = (refill - 1.0).max(0.0);
    let rejected = (1.0 - refill).max(0.0) + 0.02 * (-room / 0.04).exp();
    (rejected, 1.0 - 0.45 * (-room / 0.15).exp())
}
