//! Routers and scorers besides those of the reference, in half of all scenarios.

use blis_opt::policy::{F5, F5Mode, Picker, PolicyBundle, Routing, ScorerKind, Weights};

use super::Dice;

/// The scorers of the reference.
pub const OF_THE_REFERENCE: [ScorerKind; 4] = [
    ScorerKind::QueueDepth,
    ScorerKind::KvUtilization,
    ScorerKind::LoadBalance,
    ScorerKind::PrefixAffinity,
];

/// Puts another router into the bundle of every second scenario.
pub fn choose(bundle: &mut PolicyBundle, case: u64) {
    let dice = &mut Dice::of_routing(case);
    if dice.once_in(2) {
        return;
    }
    bundle.routing = routing(dice, bundle.pools.len());
    if dice.once_in(2) {
        bundle.signals.metrics_fetch_interval = dice.span(50_000);
        if dice.once_in(2) {
            bundle.signals.kv_utilization_refresh = bundle.signals.metrics_fetch_interval;
        }
    }
}

fn routing(dice: &mut Dice, pools: usize) -> Routing {
    match dice.between(0, 9) {
        0 => Routing::WeightedRoundRobin(weights(dice, pools)),
        1 => Routing::LeastConnections(weights(dice, pools)),
        2 => Routing::LeastOutstanding(dice.pick(&[1, 2, 2, 3, 10])),
        3 => Routing::SessionAffinity,
        4 | 5 => Routing::F5(f5(dice)),
        6 | 7 => Routing::Weighted(scorers(dice)),
        _ => {
            let picker = dice.pick(&[Picker::AnyBest, Picker::WeightedRandom]);
            Routing::Picked(scorers(dice), picker)
        }
    }
}

fn weights(dice: &mut Dice, pools: usize) -> Weights {
    match dice.between(0, 3) {
        0 => Weights::Equal,
        1 => Weights::Capacity,
        _ => Weights::Pools((0..pools).map(|_| dice.pick(&[0.3, 1.0, 1.0, 2.0, 7.5])).collect()),
    }
}

fn scorers(dice: &mut Dice) -> Vec<(ScorerKind, f64)> {
    let mut kinds: Vec<ScorerKind> = ScorerKind::ALL.iter().map(|scorer| scorer.1).collect();
    let mut scorers = Vec::new();
    for _ in 0..dice.between(1, 4) {
        let kind = match kinds.remove(dice.between(0, kinds.len() as u32 - 1) as usize) {
            ScorerKind::LoadAware { .. } => ScorerKind::LoadAware { threshold: threshold(dice) },
            ScorerKind::TokenLoad { .. } => ScorerKind::TokenLoad { threshold: threshold(dice) },
            kind => kind,
        };
        scorers.push((kind, dice.pick(&[1.0, 2.0, 3.0, 0.1, 0.7, 5.5])));
    }
    scorers
}

fn threshold(dice: &mut Dice) -> u32 {
    dice.pick(&[1, 3, 20, 128, 500, 5000])
}

fn f5(dice: &mut Dice) -> F5 {
    let (_, mode, _) = dice.pick(&F5Mode::ALL);
    let mut f5 = F5::new(mode);
    if dice.once_in(2) {
        f5.w_a = dice.pick(&[0.0, 0.1, 0.5, 2.0]);
        f5.w_b = dice.pick(&[0.0, 0.1, 0.5, 2.0]);
        f5.w_g = dice.pick(&[0.0, 0.1, 0.5, 2.0]);
    }
    f5.transition_point = dice.pick(&[1.0, 5.0, 30.0]);
    f5.steepness = dice.pick(&[0.5, 1.0, 2.0]);
    f5.running_threshold = dice.once_in(3).then(|| dice.between(0, 5));
    f5.waiting_threshold = dice.once_in(3).then(|| dice.between(0, 5));
    f5
}
