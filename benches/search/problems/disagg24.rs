//! Prompts and answers on two pools that scale apart: 24 knobs.

use super::fleet_day::{Day, HOURS, Rules, Step, demand, in_time, wait};
use super::knobs::{choice, float, float_log, int, int_log, space, when};
use super::static7::PRICE;
use super::{Best, Knobs, Synthetic, Told};
use blis_opt::search::Knob;

/// The knobs of each pool.
const PER_POOL: usize = 8;

const BEST: Best = Best {
    cost: 76.929,
    knobs: r#"{"admission.policy": "queue-limit", "admission.queue_limit": 27,
            "decode.cooldown_down_s": 30.0, "decode.max_instances": 10,
            "decode.max_running_requests": 400, "decode.min_instances": 1,
            "decode.routing": "kv-utilization", "decode.scale_down.below": 0.745412,
            "decode.scale_down.for_s": 2430.35, "decode.scale_up.above": 0.788034,
            "decode.scale_up.for_s": 93.6165, "decode.scale_up.step": 1,
            "prefill.cooldown_down_s": 45.0852, "prefill.max_instances": 9,
            "prefill.max_scheduled_tokens": 10112, "prefill.min_instances": 1,
            "prefill.routing": "weighted", "prefill.scale_down.below": 0.709555,
            "prefill.scale_down.for_s": 2308.6, "prefill.scale_up.above": 0.754347,
            "prefill.scale_up.for_s": 112.468, "prefill.scale_up.step": 1,
            "prefill.scorers.prefix-affinity.weight": 9.24183,
            "prefill.scorers.queue-depth.weight": 10.0}"#,
    found: "`optimum disagg24 --steps 1000000 --climbers 24`: two million random candidates, \
            then a million steps from each of the best 24, which end between it and 79.4",
};

pub fn problem() -> Synthetic {
    let mut knobs = rules("prefill");
    knobs.extend(rules("decode"));
    knobs.extend([
        int_log("prefill.max_scheduled_tokens", (512, 16384, 128)),
        int("decode.max_running_requests", (32, 512, 16)),
        choice("prefill.routing", &["round-robin", "least-loaded", "weighted"]),
        when(float_log("prefill.scorers.prefix-affinity.weight", 0.1, 10.0), 18, 2),
        when(float_log("prefill.scorers.queue-depth.weight", 0.1, 10.0), 18, 2),
        choice("decode.routing", &["round-robin", "least-loaded", "kv-utilization"]),
        choice("admission.policy", &["always-admit", "queue-limit"]),
        when(int_log("admission.queue_limit", (8, 4096, 1)), 22, 1),
    ]);
    let constraints = [
        "ttft_p99_ms <= 600",
        "tpot_p99_ms <= 25",
        "slo_attainment >= 0.985",
        "completed_ratio >= 0.995",
        "scale_events_per_hour <= 10",
    ];
    let mut space = space("disagg24", knobs, &constraints);
    space.scale_groups = vec![vec![19, 20]];
    Synthetic { space, model, best: Some(BEST), salt: 0xd024 }
}

fn rules(pool: &str) -> Vec<Knob> {
    let path = |name: &str| format!("{pool}.{name}");
    vec![
        int(&path("min_instances"), (1, 8, 1)),
        int(&path("max_instances"), (4, 32, 1)),
        float(&path("scale_up.above"), 0.4, 0.98),
        float_log(&path("scale_up.for_s"), 1.0, 300.0),
        int(&path("scale_up.step"), (1, 8, 1)),
        float(&path("scale_down.below"), 0.1, 0.9),
        float_log(&path("scale_down.for_s"), 30.0, 3600.0),
        float_log(&path("cooldown_down_s"), 30.0, 3600.0),
    ]
}

fn read_rules(knobs: Knobs, first: usize) -> Rules {
    Rules {
        min: knobs.number(first),
        max: knobs.number(first + 1),
        above: knobs.number(first + 2),
        below: knobs.number(first + 5),
        interval_s: 15.0,
        up_for_s: knobs.number(first + 3),
        step: Step::Count(knobs.number(first + 4)),
        down_for_s: knobs.number(first + 6),
        cooldown_s: knobs.number(first + 7),
    }
}

/// The imbalance of the prefill pool and the share of prompts that its caches spare.
fn prefill_routing(knobs: Knobs) -> (f64, f64) {
    match knobs.choice(18) {
        0 => (0.08, 0.05),
        1 => (0.03, 0.05),
        _ => {
            // The more affinity counts, the more is found in caches and the less even the load.
            let affinity = knobs.number(19) / knobs.number(20);
            let hits = 0.05 + 0.30 * affinity / (affinity + 0.8);
            let square = affinity * affinity;
            (0.012 + 0.35 * square / (square + 4.0), hits)
        }
    }
}

fn model(knobs: Knobs) -> Told {
    let (imbalance, hits) = prefill_routing(knobs);
    let tokens = knobs.number(16);
    // Small chunks pay overhead; large ones make the others wait.
    let overhead = 1.0 + 400.0 / tokens;
    let prefill_demand: [f64; HOURS] =
        demand(4.2 * (1.0 + imbalance) * (1.0 - hits) * overhead, 11.0);
    let batch = knobs.number(17);
    let step_ms = 9.0 + 0.022 * batch + 5.0 * (batch / 420.0).powi(3);
    let even = [0.07, 0.03, 0.018][knobs.choice(21)];
    let decode_demand: [f64; HOURS] =
        demand(4.6 * (1.0 + even) * (256.0 / batch) * (step_ms / 15.8), 12.0);
    let prefill = read_rules(knobs, 0).day(&prefill_demand);
    let decode = read_rules(knobs, PER_POOL).day(&decode_demand);
    let limit = (knobs.choice(22) == 1).then(|| knobs.number(23));
    let pools = [(prefill, prefill_demand), (decode, decode_demand)];
    told(&pools, (tokens, step_ms), limit)
}

fn told(pools: &[(Day, [f64; HOURS]); 2], chunk: (f64, f64), limit: Option<f64>) -> Told {
    let [(prefill, prefill_demand), (decode, decode_demand)] = pools;
    let (tokens, step_ms) = chunk;
    let worst = prefill.burst.iter().chain(&decode.burst).copied().fold(0.0, f64::max);
    let mut told = Told { stable: worst < 1.6, ..Told::default() };
    let chunk_ms = 20.0 + tokens / 40.0;
    let queue = prefill.tail(prefill_demand, wait);
    // A queue of limited length sheds what would have waited longest.
    let (kept_queue, shed) = limit.map_or((queue, 0.0), |limit| {
        let room = limit / 24.0;
        let kept = (queue.powi(-2) + room.powi(-2)).powf(-0.5);
        (kept, 0.02 * (queue - kept) / queue * (queue / (queue + 12.0)))
    });
    let ttft = 60.0 + 1.6 * chunk_ms + 28.0 * kept_queue * (0.6 + chunk_ms / 100.0);
    told.figure("ttft_p99_ms", ttft, 0.05 + 0.12 * worst.min(1.2).powi(4));
    let slowed = 1.0 + 0.010 * decode.tail(decode_demand, wait);
    told.figure("tpot_p99_ms", step_ms * slowed, 0.03);
    let kept = prefill.attainment(prefill_demand, in_time)
        * decode.attainment(decode_demand, in_time)
        * (1.0 - shed);
    told.share("slo_attainment", kept, 0.12);
    told.share("completed_ratio", 1.0 - shed, 0.2);
    told.figure("scale_events_per_hour", prefill.events_per_hour + decode.events_per_hour, 0.06);
    told.figure("cost_per_hour", PRICE * (prefill.instances + decode.instances), 0.012);
    told
}
