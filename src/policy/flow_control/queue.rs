//! Bands, flows and the order in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::{BandRules, Fairness, FlowControl, Ordering};
use crate::base::SimTime;

/// The order in a flow: the deadline, the number of joining, the key of the request.
type Turn = (SimTime, u64, u32);

/// Somebody who wants to join.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// What names the request here; nobody else in the queue has it.
    pub key: u32,
    /// Its priority, one of those that the queue was made for.
    pub priority: i32,
    /// The number of its tenant or client.
    pub flow: u32,
    /// Prompt tokens.
    pub tokens: u64,
    /// When its first token is due; NEVER without a target.
    pub deadline: SimTime,
}

/// What became of somebody who wanted to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It waits.
    In,
    /// It waits in the place of this one, who has left.
    InsteadOf(u32),
    /// There is no room.
    Full,
}

#[derive(Debug)]
struct Band {
    priority: i32,
    rules: BandRules,
    ceiling: f64,
    count: u32,
    flows: BTreeMap<u32, BTreeSet<Turn>>,
    /// The flow that was served last.
    served: Option<u32>,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug)]
struct Entry {
    band: usize,
    flow: u32,
    turn: Turn,
    tokens: u64,
}

/// The queue of a gateway.
#[derive(Debug)]
pub struct FlowQueue {
    max_requests: u32,
    max_tokens: u64,
    displace: bool,
    /// The highest priority first.
    bands: Vec<Band>,
    entries: BTreeMap<u32, Entry>,
    tokens: u64,
    joined: u64,
}

impl FlowQueue {
    /// An empty queue for requests of `priorities`.
    pub fn new(flow: &FlowControl, priorities: &[i32]) -> Self {
        let priorities = flow.priorities(priorities);
        let band = |(at, &priority): (usize, &i32)| Band {
            priority,
            rules: flow.rules(priority),
            ceiling: flow.ceiling(at, priorities.len()),
            count: 0,
            flows: BTreeMap::new(),
            served: None,
        };
        Self {
            max_requests: flow.max_requests,
            max_tokens: flow.max_tokens,
            displace: flow.displace,
            bands: priorities.iter().enumerate().map(band).collect(),
            entries: BTreeMap::new(),
            tokens: 0,
            joined: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this one waits.
    pub fn holds(&self, key: u32) -> bool {
        self.entries.contains_key(&key)
    }

    /// Those who wait, by key.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.entries.keys().copied()
    }

    /// Lets somebody join, if there is room or room can be made.
    pub fn join(&mut self, newcomer: &Newcomer) -> Joined {
        let is_mine = |band: &Band| band.priority == newcomer.priority;
        let Some(at) = self.bands.iter().position(is_mine) else { return Joined::Full };
        let own = self.bands[at].rules.max_requests;
        let too_long = self.max_tokens > 0 && self.tokens + newcomer.tokens > self.max_tokens;
        if too_long || (own > 0 && self.bands[at].count >= own) {
            return Joined::Full;
        }
        let mut joined = Joined::In;
        if self.max_requests > 0 && self.entries.len() >= self.max_requests as usize {
            let Some(victim) = self.victim(newcomer.priority).filter(|_| self.displace) else {
                return Joined::Full;
            };
            self.remove(victim);
            joined = Joined::InsteadOf(victim);
        }
        self.add(newcomer, at);
        joined
    }

    fn add(&mut self, newcomer: &Newcomer, at: usize) {
        let band = &mut self.bands[at];
        let deadline = match band.rules.ordering {
            Ordering::Fcfs => SimTime::ZERO,
            Ordering::SloDeadline => newcomer.deadline,
        };
        let turn = (deadline, self.joined, newcomer.key);
        self.joined += 1;
        band.count += 1;
        band.flows.entry(newcomer.flow).or_default().insert(turn);
        let Newcomer { key, flow, tokens, .. } = *newcomer;
        self.tokens += tokens;
        self.entries.insert(key, Entry { band: at, flow, turn, tokens });
    }

    /// The sheddable request of the lowest priority, the latest of equals, if it is less urgent
    /// than `priority`.
    fn victim(&self, priority: i32) -> Option<u32> {
        let lowest = self.bands.iter().rfind(|band| band.count > 0)?;
        if lowest.priority >= priority.min(0) {
            return None;
        }
        let all = lowest.flows.values().flatten();
        all.max_by_key(|turn| turn.1).map(|turn| turn.2)
    }

    /// Takes out one who waits; says whether it did.
    pub fn remove(&mut self, key: u32) -> bool {
        let Some(entry) = self.entries.remove(&key) else { return false };
        let band = &mut self.bands[entry.band];
        band.count -= 1;
        self.tokens -= entry.tokens;
        if let Some(flow) = band.flows.get_mut(&entry.flow) {
            flow.remove(&entry.turn);
            if flow.is_empty() {
                band.flows.remove(&entry.flow);
            }
        }
        true
    }

    /// Takes out who goes next at this saturation.
    pub fn next(&mut self, saturation: f64) -> Option<u32> {
        let band = self.bands.iter_mut().find(|band| band.count > 0)?;
        if saturation >= band.ceiling {
            return None;
        }
        let (flow, key) = band.first()?;
        band.served = Some(flow);
        self.remove(key);
        Some(key)
    }
}

impl Band {
    /// The flow and the request whose turn it is.
    fn first(&self) -> Option<(u32, u32)> {
        let head = |flow: &u32, turns: &BTreeSet<Turn>| turns.first().map(|turn| (*flow, turn.2));
        match self.rules.fairness {
            Fairness::GlobalStrict => {
                let heads = self
                    .flows
                    .iter()
                    .filter_map(|(flow, turns)| turns.first().map(|turn| (*turn, *flow)));
                heads.min().map(|(turn, flow)| (flow, turn.2))
            }
            Fairness::RoundRobin => {
                let after = self.served.map_or(Unbounded, Excluded);
                let mut behind = self.flows.range((after, Unbounded));
                let next = behind.next().or_else(|| self.flows.iter().next());
                next.and_then(|(flow, turns)| head(flow, turns))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(key: u32, priority: i32, flow: u32) -> Newcomer {
        Newcomer { key, priority, flow, tokens: 10, deadline: SimTime::NEVER }
    }

    fn order(mut queue: FlowQueue) -> Vec<u32> {
        std::iter::from_fn(|| queue.next(0.0)).collect()
    }

    fn filled(flow: &FlowControl, newcomers: &[Newcomer]) -> FlowQueue {
        let mut queue = FlowQueue::new(flow, &[3, -1]);
        for newcomer in newcomers {
            assert_eq!(queue.join(newcomer), Joined::In);
        }
        queue
    }

    fn rules(fairness: Fairness, ordering: Ordering) -> FlowControl {
        let others = BandRules { max_requests: 0, fairness, ordering };
        FlowControl { others, ..FlowControl::default() }
    }

    #[test]
    fn high_bands_go_first_and_flows_in_turn() {
        let all = [
            newcomer(0, -1, 0),
            newcomer(1, 3, 0),
            newcomer(2, 3, 0),
            newcomer(3, 3, 0),
            newcomer(4, 3, 7),
            newcomer(5, 3, 9),
        ];
        let strict = rules(Fairness::GlobalStrict, Ordering::Fcfs);
        assert_eq!(order(filled(&strict, &all)), [1, 2, 3, 4, 5, 0]);
        let turns = rules(Fairness::RoundRobin, Ordering::Fcfs);
        assert_eq!(order(filled(&turns, &all)), [1, 4, 5, 2, 3, 0]);
    }

    #[test]
    fn the_earliest_deadline_goes_first_and_who_has_none_last() {
        let due = |key, deadline| Newcomer {
            deadline: SimTime::from_us(deadline),
            ..newcomer(key, 3, 0)
        };
        let all = [newcomer(0, 3, 0), due(1, 90), due(2, 20), due(3, 20)];
        let flow = rules(Fairness::GlobalStrict, Ordering::SloDeadline);
        assert_eq!(order(filled(&flow, &all)), [2, 3, 1, 0]);
    }

    #[test]
    fn the_lowest_band_waits_from_the_usage_limit_on() {
        let flow = FlowControl { usage_limit: 0.6, ..FlowControl::default() };
        let mut queue = filled(&flow, &[newcomer(0, -1, 0), newcomer(1, 3, 0)]);
        assert_eq!(queue.next(1.0), None);
        assert_eq!(queue.next(0.99), Some(1));
        assert_eq!(queue.next(0.6), None);
        assert_eq!(queue.next(0.59), Some(0));
    }

    #[test]
    fn a_full_queue_lets_in_who_is_more_urgent_than_a_sheddable_one() {
        let flow = FlowControl { max_requests: 2, displace: true, ..FlowControl::default() };
        let mut queue = filled(&flow, &[newcomer(0, -1, 0), newcomer(1, -1, 1)]);
        assert_eq!(queue.join(&newcomer(2, -1, 0)), Joined::Full);
        assert_eq!(queue.join(&newcomer(3, 3, 0)), Joined::InsteadOf(1));
        assert_eq!(queue.join(&newcomer(4, 3, 0)), Joined::InsteadOf(0));
        assert_eq!(queue.join(&newcomer(5, 3, 0)), Joined::Full, "nobody here is sheddable");
        assert_eq!(order(queue), [3, 4]);
    }

    #[test]
    fn bands_and_tokens_have_limits_of_their_own() {
        let few = BandRules { max_requests: 1, ..FlowControl::default().others };
        let bands = vec![(-1, few)];
        let flow = FlowControl { bands, max_tokens: 25, ..FlowControl::default() };
        let mut queue = filled(&flow, &[newcomer(0, -1, 0)]);
        assert_eq!(queue.join(&newcomer(1, -1, 0)), Joined::Full);
        assert_eq!(queue.join(&newcomer(2, 3, 0)), Joined::In);
        assert_eq!(queue.join(&newcomer(3, 3, 0)), Joined::Full, "30 tokens");
        assert!(queue.remove(0) && !queue.remove(0));
        assert_eq!(queue.join(&newcomer(3, 3, 0)), Joined::In);
    }
}
