//! A day under autoscaling rules of fourteen knobs.

use super::fleet_day::{HOURS, Rules, Step, demand, in_time, wait};
use super::knobs::{choice, float, float_log, int, space, when};
use super::static7::{PRICE, weighted_imbalance};
use super::{Best, Knobs, Synthetic, Told};

const BEST: Best = Best {
    cost: 85.0849,
    knobs: r#"{"autoscaling.cooldown_down_s": 30.0035, "autoscaling.interval_s": 5.00025,
            "autoscaling.scale_down.below": 0.721634, "autoscaling.scale_down.for_s": 1168.2,
            "autoscaling.scale_up.above": 0.790888, "autoscaling.scale_up.by": "share",
            "autoscaling.scale_up.for_s": 129.881, "autoscaling.scale_up.share": 0.162306,
            "pools.h100.max_instances": 21, "pools.h100.min_instances": 2,
            "routing.policy": "weighted", "routing.scorers.kv-utilization.weight": 10.0,
            "routing.scorers.queue-depth.weight": 6.0}"#,
    found: "`optimum auto14 --steps 1000000 --climbers 24`: two million random candidates, \
            then a million steps from each of the best 24; half of the climbs end within \
            0.02 of it",
};

pub fn problem() -> Synthetic {
    let knobs = vec![
        int("pools.h100.min_instances", (1, 12, 1)),
        int("pools.h100.max_instances", (8, 40, 1)),
        choice("routing.policy", &["round-robin", "least-loaded", "weighted"]),
        when(float_log("routing.scorers.queue-depth.weight", 0.1, 10.0), 2, 2),
        when(float_log("routing.scorers.kv-utilization.weight", 0.1, 10.0), 2, 2),
        float_log("autoscaling.interval_s", 5.0, 120.0),
        float("autoscaling.scale_up.above", 0.4, 0.98),
        float_log("autoscaling.scale_up.for_s", 1.0, 300.0),
        choice("autoscaling.scale_up.by", &["one", "step", "share"]),
        when(int("autoscaling.scale_up.step", (2, 8, 1)), 8, 1),
        when(float_log("autoscaling.scale_up.share", 0.05, 1.0), 8, 2),
        float("autoscaling.scale_down.below", 0.1, 0.9),
        float_log("autoscaling.scale_down.for_s", 30.0, 3600.0),
        float_log("autoscaling.cooldown_down_s", 30.0, 3600.0),
    ];
    let constraints =
        ["ttft_p99_ms <= 500", "slo_attainment >= 0.99", "scale_events_per_hour <= 6"];
    let mut space = space("auto14", knobs, &constraints);
    space.scale_groups = vec![vec![3, 4]];
    Synthetic { space, model, best: Some(BEST), salt: 0xa014 }
}

fn model(knobs: Knobs) -> Told {
    let imbalance = match knobs.choice(2) {
        0 => 0.09,
        1 => 0.035,
        _ => weighted_imbalance(knobs.number(3) / knobs.number(4), 0.6),
    };
    let demand: [f64; HOURS] = demand(9.0 * (1.0 + imbalance), 13.0);
    let rules = Rules {
        min: knobs.number(0),
        max: knobs.number(1),
        above: knobs.number(6),
        below: knobs.number(11),
        interval_s: knobs.number(5),
        up_for_s: knobs.number(7),
        step: match knobs.choice(8) {
            0 => Step::Count(1.0),
            1 => Step::Count(knobs.number(9)),
            _ => Step::Share(knobs.number(10)),
        },
        down_for_s: knobs.number(12),
        cooldown_s: knobs.number(13),
    };
    let day = rules.day(&demand);
    let worst = day.burst.iter().copied().fold(0.0, f64::max);
    let mut told = Told { stable: worst < 1.6, ..Told::default() };
    let ttft = day.tail(&demand, |load| 45.0 + 30.0 * wait(load));
    told.figure("ttft_p99_ms", ttft, 0.05 + 0.25 * worst.min(1.2).powi(4) / 2.0);
    told.share("slo_attainment", day.attainment(&demand, in_time), 0.12);
    told.figure("scale_events_per_hour", day.events_per_hour, 0.06);
    told.figure("cost_per_hour", PRICE * day.instances, 0.012);
    told
}
