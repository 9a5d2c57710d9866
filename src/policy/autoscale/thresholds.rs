//! Rules on signals that must hold for some time, as alerts do.

use super::{Action, Autoscaler, Combine, FleetView, Reason, Rule, ScaleOrder, Thresholds};
use crate::base::SimTime;

pub(super) struct Rules {
    rules: Thresholds,
    /// Since when each rule holds, first those that add.
    since: Vec<Option<SimTime>>,
}

impl Rules {
    pub fn new(rules: &Thresholds) -> Self {
        let count = rules.up.len() + rules.down.len();
        Self { rules: rules.clone(), since: vec![None; count] }
    }
}

/// The reason of a rule that has held for long enough.
fn judge(
    rule: &Rule,
    beyond: impl Fn(f64, f64) -> bool,
    since: &mut Option<SimTime>,
    now: SimTime,
    fleet: &FleetView,
) -> Option<Reason> {
    let value = fleet.signals.value(rule.signal, rule.pool as usize, rule.window);
    let Some(value) = value.filter(|&value| beyond(value, rule.limit)) else {
        *since = None;
        return None;
    };
    let begun = *since.get_or_insert(now);
    let (signal, limit, lasting) = (rule.signal, rule.limit, rule.lasting);
    (now - begun >= lasting).then_some(Reason::Signal { signal, value, limit, lasting })
}

/// What the rules of one direction amount to in each pool, with the reason of the largest.
fn add_up(total: &mut [(u32, Option<Reason>)], rule: &Rule, reason: Reason, combine: Combine) {
    let (step, because) = &mut total[rule.pool as usize];
    let larger = rule.step > *step || because.is_none();
    match combine {
        Combine::Max => *step = (*step).max(rule.step),
        Combine::Sum => *step += rule.step,
    }
    if larger {
        *because = Some(reason);
    }
}

impl Autoscaler for Rules {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let Thresholds { up, down, combine } = &self.rules;
        let (since_up, since_down) = self.since.split_at_mut(up.len());
        let mut add = vec![(0, None); fleet.pools.len()];
        let mut remove = add.clone();
        for (rule, since) in up.iter().zip(since_up) {
            if let Some(reason) = judge(rule, |value, limit| value > limit, since, now, fleet) {
                add_up(&mut add, rule, reason, *combine);
            }
        }
        for (rule, since) in down.iter().zip(since_down) {
            if let Some(reason) = judge(rule, |value, limit| value < limit, since, now, fleet) {
                add_up(&mut remove, rule, reason, *combine);
            }
        }
        for (pool, (add, remove)) in add.into_iter().zip(remove).enumerate() {
            let pool = pool as u32;
            if let (count, Some(reason)) = add {
                orders.push(ScaleOrder { action: Action::Launch { pool, count }, reason });
            } else if let (count, Some(reason)) = remove {
                orders.push(ScaleOrder { action: Action::Shrink { pool, count }, reason });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Span;
    use crate::policy::autoscale::PoolView;
    use crate::policy::signals::{PoolSample, Sample, Samples, Signal, TokenCost};

    fn rule(limit: f64, lasting_s: f64, step: u32) -> Rule {
        let (signal, window) = (Signal::Waiting, Span::from_secs(60.0));
        Rule { pool: 0, signal, limit, lasting: Span::from_secs(lasting_s), window, step }
    }

    /// The orders when the numbers of waiting requests are seen 15 s apart.
    fn orders(rules: &Thresholds, waiting: &[u64]) -> Vec<Option<Action>> {
        let cost = TokenCost { prefill_s: 0.0, decode_s: 0.0 };
        let mut samples = Samples::new(Span::from_secs(60.0), vec![cost]);
        let mut scaler = Rules::new(rules);
        let mut given = Vec::new();
        for (tick, &waiting) in waiting.iter().enumerate() {
            let now = SimTime::from_secs(15.0 * (tick + 1) as f64);
            let pools = vec![PoolSample { ready: 1, waiting, ..PoolSample::default() }];
            samples.push(Sample { at: now, pools, ..Sample::default() });
            let fleet = FleetView { pools: &[PoolView::default()], signals: &samples };
            let mut orders = Vec::new();
            scaler.plan(now, &fleet, &mut orders);
            given.push(orders.first().map(|order| order.action));
        }
        given
    }

    const LAUNCH_2: Option<Action> = Some(Action::Launch { pool: 0, count: 2 });

    #[test]
    fn a_rule_holds_for_its_time_and_one_false_begins_anew() {
        let (up, combine) = (vec![rule(100.0, 30.0, 2)], Combine::Max);
        let rules = Thresholds { up, down: vec![], combine };
        assert_eq!(
            orders(&rules, &[101, 101, 101, 101, 100, 101, 101, 101]),
            [None, None, LAUNCH_2, LAUNCH_2, None, None, None, LAUNCH_2]
        );
    }

    #[test]
    fn rules_that_hold_together_are_combined_and_up_wins() {
        let down = vec![rule(1000.0, 0.0, 1)];
        let up = vec![rule(100.0, 0.0, 1), rule(200.0, 0.0, 2)];
        let mut rules = Thresholds { up, down, combine: Combine::Max };
        let shrink = Some(Action::Shrink { pool: 0, count: 1 });
        assert_eq!(orders(&rules, &[300, 50]), [LAUNCH_2, shrink]);
        rules.combine = Combine::Sum;
        assert_eq!(orders(&rules, &[300]), [Some(Action::Launch { pool: 0, count: 3 })]);
    }
}
