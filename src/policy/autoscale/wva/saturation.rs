//! The saturation analyzers of WVA: from what replicas show to numbers of replicas.

use crate::policy::signals::Peak;

/// Fewer replicas with room than this are never made fewer still.
const WITH_ROOM_MIN: u32 = 2;

/// Thresholds of both analyzers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// A replica is saturated at this share of KV blocks in use (`kvCacheThreshold`).
    pub kv_cache_threshold: f64,
    /// And at so many requests waiting (`queueLengthThreshold`); V1.
    pub queue_length_threshold: f64,
    /// One more where less of KV is spare on average (`kvSpareTrigger`); V1.
    pub kv_spare_trigger: f64,
    /// And where fewer requests more may wait (`queueSpareTrigger`); V1.
    pub queue_spare_trigger: f64,
    /// More where the demand is above this share of the supply; V2.
    pub scale_up_threshold: f64,
    /// Fewer where it is below this share; V2.
    pub scale_down_boundary: f64,
    /// Tokens that a waiting request needs; `None`: as many as the prompts answered lately; V2.
    pub avg_input_tokens: Option<f64>,
}

impl Default for Saturation {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.8,
            queue_length_threshold: 5.0,
            kv_spare_trigger: 0.1,
            queue_spare_trigger: 3.0,
            scale_up_threshold: 0.8,
            scale_down_boundary: 0.4,
            avg_input_tokens: None,
        }
    }
}

/// What blocks a variant that is changing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transition {
    /// Itself: the others may be changed.
    #[default]
    Variant,
    /// All variants, as in later versions.
    Model,
}

/// The replicas of a variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Replicas {
    /// US dollars per hour of one.
    pub cost: f64,
    /// What those that are ready show.
    pub peaks: Vec<Peak>,
    /// Those there should be, as far as anybody applied.
    pub current: u32,
    /// Those wished for last; `None` before the first wish.
    pub desired: Option<u32>,
    /// Bounds of their number.
    pub min: u32,
    /// See `min`.
    pub max: u32,
    /// Tokens that the KV cache of one has room for, when one was seen last; 0: never.
    pub kv_tokens: u64,
}

impl Replicas {
    fn seen(&self) -> u32 {
        self.peaks.len() as u32
    }

    fn pending(&self) -> u32 {
        self.current.saturating_sub(self.seen())
    }

    /// What was wished for and is not there, if it is so.
    fn undelivered(&self) -> Option<u32> {
        self.desired.filter(|&desired| desired != self.current)
    }
}

/// The spare capacity that V1 finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spare {
    /// Replicas that are not saturated.
    pub with_room: u32,
    /// The share of KV blocks, and the requests, that each of these may still take.
    pub kv: f64,
    pub queue: f64,
}

impl Spare {
    /// Whether one more is needed.
    pub fn is_short(&self, of: &Saturation) -> bool {
        self.kv < of.kv_spare_trigger || self.queue < of.queue_spare_trigger
    }

    /// Whether enough would be spare with one fewer.
    fn has_one_too_many(&self, of: &Saturation) -> bool {
        if self.with_room < WITH_ROOM_MIN {
            return false;
        }
        let more = f64::from(self.with_room) / f64::from(self.with_room - 1);
        let left = |threshold: f64, spare: f64| threshold - (threshold - spare) * more;
        left(of.kv_cache_threshold, self.kv) >= of.kv_spare_trigger
            && left(of.queue_length_threshold, self.queue) >= of.queue_spare_trigger
    }
}

impl Saturation {
    /// What is spare on the replicas with room; nothing where none has any. `None` without
    /// replicas.
    pub(super) fn spare(&self, variants: &[Replicas]) -> Option<Spare> {
        let mut spare = Spare { with_room: 0, kv: 0.0, queue: 0.0 };
        let mut seen = false;
        for peak in variants.iter().flat_map(|variant| &variant.peaks) {
            seen = true;
            let (kv, queue) = (peak.kv_utilization(), peak.waiting as f64);
            if kv < self.kv_cache_threshold && queue < self.queue_length_threshold {
                spare.with_room += 1;
                spare.kv += self.kv_cache_threshold - kv;
                spare.queue += self.queue_length_threshold - queue;
            }
        }
        let count = f64::from(spare.with_room.max(1));
        (spare.kv, spare.queue) = (spare.kv / count, spare.queue / count);
        seen.then_some(spare)
    }

    /// The numbers that V1 wishes for. Who wants one more asks the cheapest variant that shows
    /// replicas and is not changing, who can do with one fewer takes it from the dearest; of equals
    /// the first and the last. What was wished for and not delivered stays.
    pub(super) fn targets_v1(
        &self,
        variants: &[Replicas],
        spare: &Spare,
        transition: Transition,
    ) -> Vec<u32> {
        let kept = |variant: &Replicas| variant.undelivered().unwrap_or(variant.current);
        let mut targets: Vec<u32> = variants.iter().map(kept).collect();
        let shown = |variant: &Replicas| variant.seen() > 0;
        let changing =
            |variant: &Replicas| variant.undelivered().is_some() || variant.pending() > 0;
        if transition == Transition::Model
            && variants.iter().any(|variant| shown(variant) && changing(variant))
        {
            return targets;
        }
        let able = variants.iter().enumerate().filter(|(_, variant)| shown(variant));
        if spare.is_short(self) {
            let able = able.filter(|(_, v)| !changing(v) && v.current < v.max);
            if let Some((at, _)) = able.min_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost)) {
                targets[at] += 1;
            }
        } else if spare.has_one_too_many(self) {
            let able = able.filter(|(_, v)| v.undelivered().is_none() && v.current > v.min.max(1));
            if let Some((at, _)) = able.max_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost)) {
                targets[at] -= 1;
            }
        }
        targets
    }

    /// The capacity in tokens that V2 compares: supply of those that are ready and of those that
    /// are not yet, and demand, where a waiting request needs `input` tokens. `None` without
    /// replicas.
    pub(super) fn balance(&self, variants: &[Replicas], input: f64) -> Option<Balance> {
        let mut balance = Balance { supply: 0.0, pending: 0.0, demand: 0.0, largest: 0.0 };
        let mut seen = false;
        for variant in variants {
            let each = self.capacity(variant);
            balance.pending += f64::from(variant.pending()) * each;
            for peak in &variant.peaks {
                seen = true;
                balance.supply += each;
                balance.demand += peak.kv_used as f64 + peak.waiting as f64 * input;
                balance.largest = balance.largest.max(each);
            }
        }
        seen.then_some(balance)
    }

    /// Tokens that a replica is to hold.
    fn capacity(&self, variant: &Replicas) -> f64 {
        variant.kv_tokens as f64 * self.kv_cache_threshold
    }

    /// The numbers that V2 wishes for: what is required is added where a token costs least, what
    /// is spare goes from the dearest variant on, and one replica stays.
    pub(super) fn targets_v2(&self, variants: &[Replicas], balance: &Balance) -> Vec<u32> {
        let mut targets: Vec<u32> = variants.iter().map(|variant| variant.current).collect();
        let mut order: Vec<usize> =
            (0..variants.len()).filter(|&at| variants[at].kv_tokens > 0).collect();
        let required = balance.required(self);
        if required > 0.0 {
            let price = |at: usize| variants[at].cost / self.capacity(&variants[at]);
            order.sort_by(|&a, &b| price(a).total_cmp(&price(b)));
            self.add(variants, &order, required, &mut targets);
        } else if let Some(spare) = balance.spare(self) {
            let cost = |at: usize| variants[at].cost;
            order.sort_by(|&a, &b| cost(b).total_cmp(&cost(a)));
            self.remove(variants, &order, spare, &mut targets);
        }
        targets
    }

    fn add(&self, variants: &[Replicas], order: &[usize], required: f64, targets: &mut [u32]) {
        let mut missing = required;
        for &at in order {
            if missing <= 0.0 {
                return;
            }
            let each = self.capacity(&variants[at]);
            let room = variants[at].max.saturating_sub(targets[at]);
            let more = ((missing / each).ceil() as u32).min(room);
            targets[at] += more;
            missing -= f64::from(more) * each;
        }
    }

    fn remove(&self, variants: &[Replicas], order: &[usize], spare: f64, targets: &mut [u32]) {
        let mut left = spare;
        for &at in order {
            let others: u32 = (0..targets.len()).filter(|&i| i != at).map(|i| targets[i]).sum();
            let least = variants[at].min.max(u32::from(others == 0));
            let each = self.capacity(&variants[at]);
            let fewer = ((left / each).floor() as u32).min(targets[at].saturating_sub(least));
            targets[at] -= fewer;
            left -= f64::from(fewer) * each;
        }
    }
}

/// Tokens that replicas are to hold, and those that requests need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Balance {
    /// What those that are ready are to hold.
    pub supply: f64,
    /// What those that are not yet ready are to hold.
    pub pending: f64,
    /// What is needed.
    pub demand: f64,
    /// What the largest of those that are ready is to hold.
    largest: f64,
}

impl Balance {
    /// What is missing; not above 0 where nothing is.
    pub fn required(&self, of: &Saturation) -> f64 {
        self.demand / of.scale_up_threshold - (self.supply + self.pending)
    }

    /// What is too much, where enough would be left without the largest.
    fn spare(&self, of: &Saturation) -> Option<f64> {
        let needed = self.demand / of.scale_down_boundary;
        (self.supply - self.largest > needed).then_some(self.supply - needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Saturation = Saturation {
        kv_cache_threshold: 0.8,
        queue_length_threshold: 5.0,
        kv_spare_trigger: 0.1,
        queue_spare_trigger: 3.0,
        scale_up_threshold: 0.8,
        scale_down_boundary: 0.4,
        avg_input_tokens: Some(512.0),
    };

    /// Replicas of 1000 tokens, each with the per mille of KV in use and the requests waiting.
    fn replicas(cost: f64, shown: &[(u64, u64)]) -> Replicas {
        let peak = |&(kv_used, waiting): &(u64, u64)| Peak { waiting, kv_used, kv_total: 1000 };
        let current = shown.len() as u32;
        let peaks = shown.iter().map(peak).collect();
        Replicas { cost, peaks, current, desired: None, min: 0, max: 99, kv_tokens: 1000 }
    }

    fn targets_v1(variants: &[Replicas], transition: Transition) -> Vec<u32> {
        let spare = V1.spare(variants).expect("replicas");
        V1.targets_v1(variants, &spare, transition)
    }

    #[test]
    fn the_defaults_are_those_of_the_document() {
        assert_eq!(Saturation { avg_input_tokens: Some(512.0), ..Saturation::default() }, V1);
    }

    #[test]
    fn one_more_is_needed_below_either_trigger() {
        let target =
            |shown: &[(u64, u64)]| targets_v1(&[replicas(1.0, shown)], Transition::Variant)[0];
        assert_eq!(target(&[(750, 2), (760, 2)]), 3, "0.045 of KV is spare");
        assert_eq!(target(&[(500, 3), (500, 3)]), 3, "2 more may wait");
        assert_eq!(target(&[(690, 2), (690, 2)]), 2, "0.11 and 3");
        assert_eq!(target(&[(850, 2), (500, 6), (900, 7)]), 4, "nobody has room");
        // The saturated one counts no more: 0.2 and 3 are spare on the other.
        assert_eq!(target(&[(850, 0), (600, 2)]), 2);
    }

    #[test]
    fn one_fewer_is_safe_where_the_others_could_take_its_load() {
        let target =
            |shown: &[(u64, u64)]| targets_v1(&[replicas(1.0, shown)], Transition::Variant)[0];
        assert_eq!(target(&[(200, 1), (300, 1), (250, 1)]), 2, "0.375 and 1.5 of two");
        assert_eq!(target(&[(340, 0), (340, 0)]), 1, "0.68 of one leave 0.12");
        assert_eq!(target(&[(360, 0), (360, 0)]), 2, "0.72 of one leave 0.08");
        assert_eq!(target(&[(100, 1), (100, 1)]), 1, "2 of one leave 3");
        assert_eq!(target(&[(100, 1), (100, 2)]), 2, "3 of one leave 2");
        assert_eq!(target(&[(0, 0)]), 1, "one stays");
        assert_eq!(target(&[(0, 0), (900, 0)]), 2, "only one has room");
    }

    #[test]
    fn the_cheapest_grows_and_the_dearest_shrinks() {
        let three = |shown: (u64, u64)| [20.0, 5.0, 15.0].map(|cost| replicas(cost, &[shown; 2]));
        let both = [Transition::Variant, Transition::Model];
        for transition in both {
            assert_eq!(targets_v1(&three((750, 0)), transition), [2, 3, 2]);
            assert_eq!(targets_v1(&three((100, 0)), transition), [1, 2, 2]);
        }
        let equal = |shown: (u64, u64)| [5.0, 5.0].map(|cost| replicas(cost, &[shown; 2]));
        assert_eq!(targets_v1(&equal((750, 0)), Transition::Variant), [3, 2], "the first");
        assert_eq!(targets_v1(&equal((100, 0)), Transition::Variant), [2, 1], "the last");
        let mut bounded = three((750, 0));
        bounded[1].max = 2;
        assert_eq!(targets_v1(&bounded, Transition::Variant), [2, 2, 3]);
        let none = Replicas { kv_tokens: 1000, ..replicas(1.0, &[]) };
        let hidden = [replicas(9.0, &[(750, 0)]), none];
        assert_eq!(targets_v1(&hidden, Transition::Variant), [2, 0], "who shows none gets none");
    }

    #[test]
    fn what_was_not_delivered_stays_and_who_waits_for_one_gets_no_more() {
        let mut variants = [replicas(20.0, &[(750, 0); 2]), replicas(5.0, &[(750, 0); 2])];
        variants[1].desired = Some(4);
        assert_eq!(targets_v1(&variants, Transition::Variant), [3, 4]);
        assert_eq!(targets_v1(&variants, Transition::Model), [2, 4]);
        variants[1] = Replicas { desired: Some(3), current: 3, ..variants[1].clone() };
        assert_eq!(targets_v1(&variants, Transition::Variant), [3, 3], "one is pending");
        assert_eq!(targets_v1(&variants, Transition::Model), [2, 3]);
        let mut shrinking = [replicas(20.0, &[(0, 0); 4])];
        shrinking[0].desired = Some(3);
        assert_eq!(targets_v1(&shrinking, Transition::Variant), [3], "the HPA takes its time");
    }

    fn targets_v2(variants: &[Replicas]) -> Vec<u32> {
        V1.targets_v2(variants, &V1.balance(variants, 512.0).expect("replicas"))
    }

    #[test]
    fn tokens_in_use_and_waiting_ones_are_the_demand() {
        let variants = [replicas(1.0, &[(600, 1), (300, 0)])];
        let balance = V1.balance(&variants, 512.0).expect("replicas");
        assert_eq!((balance.supply, balance.pending, balance.demand), (1600.0, 0.0, 1412.0));
        assert_eq!(balance.required(&V1), 165.0, "1412 / 0.8 - 1600");
        assert_eq!(targets_v2(&variants), [3]);
        let mut waiting = variants;
        waiting[0].current = 3;
        assert_eq!(targets_v2(&waiting), [3], "the pending one is enough");
        assert_eq!(V1.balance(&[replicas(1.0, &[])], 512.0), None);
    }

    #[test]
    fn as_many_are_added_as_are_required_where_a_token_costs_least() {
        // 4000 / 0.8 - 1600 = 3400, at 800 each.
        let one = replicas(1.0, &[(1000, 0), (952, 4)]);
        assert_eq!(targets_v2(std::slice::from_ref(&one)), [7]);
        // Half the price, and a third of the capacity: dearer by the token.
        let small = Replicas { kv_tokens: 333, ..replicas(0.5, &[(0, 0)]) };
        assert_eq!(targets_v2(&[small.clone(), one.clone()]), [1, 6]);
        let bounded = Replicas { max: 4, ..one };
        // 3400 - 266.4 = 3133.6 are required; 1600 fit, and 1533.6 take 6 of 266.4.
        assert_eq!(targets_v2(&[small, bounded]), [7, 4]);
    }

    #[test]
    fn what_is_spare_goes_while_one_fewer_is_enough() {
        let target = |shown: &[(u64, u64)]| targets_v2(&[replicas(1.0, shown)])[0];
        // Supply 3200, and the demand over 0.4.
        assert_eq!(target(&[(200, 0), (200, 0), (0, 0), (0, 0)]), 2, "2200 are spare");
        assert_eq!(target(&[(400, 0), (559, 0), (0, 0), (0, 0)]), 3, "802.5 are spare");
        assert_eq!(target(&[(400, 0), (560, 0), (0, 0), (0, 0)]), 4, "exactly one is not");
        assert_eq!(target(&[(0, 0); 4]), 1, "one stays on an idle tick");
        assert_eq!(target(&[(0, 0)]), 1);
        let idle = [replicas(5.0, &[(0, 0); 2]), replicas(20.0, &[(0, 0); 2])];
        assert_eq!(targets_v2(&idle), [1, 0], "the dearest first");
        let mut kept = idle;
        kept[1].min = 1;
        assert_eq!(targets_v2(&kept), [0, 1]);
    }
}
