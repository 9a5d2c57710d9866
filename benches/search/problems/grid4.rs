//! A static fleet of four discrete knobs, small enough to try them all.

use super::knobs::{choice, int, space};
use super::static7::Fleet;
use super::{Best, Knobs, Synthetic, Told};

/// Refill rates of the token bucket over the offered rate; the first stands for no bucket.
const REFILLS: [Option<f64>; 4] = [None, Some(1.02), Some(1.08), Some(1.25)];

const BEST: Best = Best {
    cost: 91.0,
    knobs: r#"{"admission.policy": "always-admit", "batching.max_running_requests": 384,
            "pools.h100.instances": 13, "routing.policy": "least-loaded"}"#,
    found: "`optimum grid4 --exhaust 2`: all 3,168 candidates; three are as good",
};

pub fn problem() -> Synthetic {
    let knobs = vec![
        int("pools.h100.instances", (8, 40, 1)),
        choice("routing.policy", &["round-robin", "least-loaded", "power-of-two"]),
        int("batching.max_running_requests", (64, 512, 64)),
        choice("admission.policy", &["always-admit", "tight", "fitting", "wide"]),
    ];
    let constraints = ["ttft_p99_ms <= 400", "tpot_p99_ms <= 17", "completed_ratio >= 0.995"];
    let space = space("grid4", knobs, &constraints);
    Synthetic { space, model, best: Some(BEST), salt: 0x6004 }
}

fn model(knobs: Knobs) -> Told {
    let imbalance = [0.11, 0.035, 0.055][knobs.choice(1)];
    let fleet = Fleet {
        instances: knobs.number(0),
        batch: knobs.number(2),
        imbalance,
        refill: REFILLS[knobs.choice(3)],
        rate: 620.0,
        output: 480.0,
    };
    fleet.told()
}
