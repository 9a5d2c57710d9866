//! Requests as somebody recorded them, thinned or multiplied to the wished rate.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::base::{ClientId, Hash128, Rng, SimTime, Span, Stream};

use super::offered::Offered;
use super::profile::Burst;
use super::starts::NEVER_US;
use super::trace::{Chain, NO_CHAIN, Request};

/// How far the copies of a request are from it at most, where a trace is multiplied.
pub const SPREAD: Span = Span::from_us(30_000_000);
/// The highest multiple of a recorded rate.
pub const SCALE_MAX: f64 = 1000.0;
const MINUTE_US: u64 = 60_000_000;

/// The requests of a trace file, in order of arrival.
#[derive(Clone, PartialEq)]
pub struct Replay {
    pub(super) rows: Arc<[Row]>,
    /// What the rows share; a chain's parent is one of these.
    pub(super) chains: Vec<Chain>,
    pub(super) clients: Vec<ReplayClient>,
    /// The multiple of the recorded rate, in (0, [`SCALE_MAX`]]. Below 1 every request (or
    /// session) is kept with this probability. Above 1 there are copies: as many as the whole part
    /// says, one more with the probability of the rest, the first in its place and each other one
    /// at a random time within [`SPREAD`] around it, with tokens of its own.
    pub(super) scale: f64,
    /// What multiplies the scale for a while.
    pub(super) burst: Option<Burst>,
    /// When arrivals end.
    pub(super) end: Span,
    /// FNV-1a of the file.
    pub(super) fnv1a: u64,
}

/// A recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Microseconds; [`NEVER_US`] for a round that waits for the row before it.
    pub us: u64,
    pub input: u32,
    pub output: u32,
    /// Index into [`Replay::clients`].
    pub client: u32,
    /// Index into [`Replay::chains`], or [`NO_CHAIN`].
    pub chain: u32,
    pub shared: u32,
}

/// Who sent recorded requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayClient {
    pub name: String,
    pub tenant: String,
    pub class: String,
    pub think_time: Span,
}

impl fmt::Debug for Replay {
    /// What names it, instead of some million rows.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Replay")
            .field("rows", &self.rows.len())
            .field("first", &self.rows.first())
            .field("last", &self.rows.last())
            .field("clients", &self.clients)
            .field("scale", &self.scale)
            .field("burst", &self.burst)
            .field("end", &self.end)
            .field("fnv1a", &self.fnv1a)
            .finish_non_exhaustive()
    }
}

impl Replay {
    /// Feeds `hash` with what its [`Debug`](fmt::Debug) leaves out: every row and every chain.
    pub(super) fn feed(&self, hash: &mut Hash128) {
        for row in self.rows.iter() {
            let Row { us, input, output, client, chain, shared } = *row;
            hash.update(&us.to_le_bytes());
            for number in [input, output, client, chain, shared] {
                hash.update(&number.to_le_bytes());
            }
        }
        for Chain { parent, start } in &self.chains {
            hash.update(&parent.to_le_bytes());
            hash.update(&start.to_le_bytes());
        }
    }

    /// How many requests it holds, before any thinning.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// When its arrivals end.
    pub fn end(&self) -> Span {
        self.end
    }

    /// The multiple of the recorded rate at `us`.
    fn scale_at(&self, us: u64) -> f64 {
        let burst = self.burst.filter(|b| b.at.as_us() <= us && us < b.end().as_us());
        burst.map_or(self.scale, |burst| self.scale * burst.factor)
    }

    /// The highest multiple of the recorded rate.
    pub(super) fn scale_max(&self) -> f64 {
        self.burst.map_or(self.scale, |burst| self.scale * burst.factor.max(1.0))
    }

    /// Its requests by minute, its burst counted in and its scale not.
    fn minutes(&self) -> Vec<f64> {
        let minutes = self.end.as_us().div_ceil(MINUTE_US).max(1) as usize;
        let mut counts = vec![0.0; minutes];
        let (mut minute, mut weight) = (0, 1.0);
        for row in self.rows.iter() {
            if row.us != NEVER_US {
                minute = (row.us / MINUTE_US) as usize;
                weight = self.scale_at(row.us) / self.scale;
            }
            counts[minute.min(minutes - 1)] += weight;
        }
        counts
    }

    /// What it asks of a fleet; the peak is that of its busiest minute.
    pub(super) fn offered(&self) -> Offered {
        let counts = self.minutes();
        let (mut input, mut output) = (0.0, 0.0);
        for row in self.rows.iter() {
            input += f64::from(row.input);
            output += f64::from(row.output);
        }
        let rows = self.rows.len().max(1) as f64;
        let requests = if self.burst.is_some() { counts.iter().sum() } else { rows };
        let mean = self.scale * requests / self.end.as_secs().max(1e-6);
        let peak = counts.into_iter().fold(0.0, f64::max);
        Offered {
            requests_per_s: mean.max(self.scale * peak / 60.0),
            requests_per_s_mean: mean,
            input_tokens_mean: input / rows,
            output_tokens_mean: output / rows,
        }
    }

    /// Its busiest minute before `end`, as requests per second and the middle of it.
    pub(super) fn peak(&self, end: Span) -> (f64, Span) {
        let mut busiest = (0.0, Span::ZERO);
        for (minute, count) in self.minutes().into_iter().enumerate() {
            let start = Span::from_us(MINUTE_US * minute as u64);
            if start < end && self.scale * count / 60.0 > busiest.0 {
                let middle = Span::from_us(MINUTE_US * minute as u64 + MINUTE_US / 2);
                busiest = (self.scale * count / 60.0, middle.min(end));
            }
        }
        busiest
    }

    /// How many sets of chains its copies need.
    pub(super) fn copies(&self) -> u32 {
        self.scale_max().ceil().max(1.0) as u32
    }
}

/// Gives the requests of a replay in order.
#[derive(Clone, Debug)]
pub(super) struct Player {
    replay: Arc<Replay>,
    rng: Rng,
    /// The next row that was not looked at.
    next: usize,
    /// Copies on their way: time, row, copy.
    due: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// What is added to clients and chains, which others use before.
    first_client: usize,
    first_chain: u32,
}

impl Player {
    /// The realisation of `replay` under `seed`; its clients and chains are counted from
    /// `first_client` and `first_chain`.
    pub fn new(replay: &Arc<Replay>, seed: u64, first_client: usize, first_chain: u32) -> Self {
        let rng = Rng::new(seed, Stream::Arrivals, u64::from(u32::MAX));
        let replay = Arc::clone(replay);
        let (next, due) = (0, BinaryHeap::new());
        let mut player = Self { replay, rng, next, due, first_client, first_chain };
        player.look_ahead();
        player
    }

    /// When the next request arrives, in microseconds; [`NEVER_US`] for none.
    pub fn due_us(&self) -> u64 {
        self.due.peek().map_or(NEVER_US, |Reverse((us, ..))| *us)
    }

    /// That request; the rounds that wait for its answer go to `follow_ups`.
    pub fn play(&mut self, follow_ups: &mut VecDeque<Request>) -> Option<Request> {
        let Reverse((us, at, copy)) = self.due.pop()?;
        self.look_ahead();
        let at = at as usize;
        let rows = &self.replay.rows;
        let rounds = rows[at + 1..].iter().take_while(|row| row.us == NEVER_US);
        follow_ups.extend(rounds.map(|row| self.request(row, SimTime::NEVER, copy)));
        Some(self.request(&rows[at], SimTime::from_us(us), copy))
    }

    /// Decides on rows until the first that is due is certain.
    fn look_ahead(&mut self) {
        let replay = Arc::clone(&self.replay);
        while let Some(row) = replay.rows.get(self.next) {
            // A copy may come before its row.
            let spread = SPREAD.as_us().min(replay.end.as_us() / 2);
            let early = replay.scale_max() > 1.0;
            let earliest = if early { row.us.saturating_sub(spread) } else { row.us };
            if earliest > self.due_us() {
                return;
            }
            let at = self.next as u32;
            self.next += 1;
            while replay.rows.get(self.next).is_some_and(|round| round.us == NEVER_US) {
                self.next += 1;
            }
            let scale = replay.scale_at(row.us);
            let part = scale.fract();
            let one_more = part > 0.0 && self.rng.uniform() < part;
            let copies = scale.trunc() as u32 + u32::from(one_more);
            for copy in 0..copies {
                let moved = copy > 0 && spread > 0;
                let us = if moved { self.near(row.us, spread) } else { row.us };
                self.due.push(Reverse((us, at, copy)));
            }
        }
    }

    /// A time at most `spread` from `us`; what would lie outside the trace is mirrored into it.
    fn near(&mut self, us: u64, spread: u64) -> u64 {
        let late = (us + self.rng.below(2 * spread)).abs_diff(spread);
        let last = self.replay.end.as_us() - 1;
        if late > last { 2 * last + 1 - late } else { late }
    }

    fn request(&self, row: &Row, arrival: SimTime, copy: u32) -> Request {
        let chain = match row.chain {
            NO_CHAIN => NO_CHAIN,
            chain => self.first_chain + copy * self.replay.chains.len() as u32 + chain,
        };
        Request {
            arrival,
            input: row.input,
            output: row.output,
            client: ClientId::new(self.first_client + row.client as usize),
            chain,
            shared: row.shared,
        }
    }

    /// All its chains, of all copies.
    pub fn chains(&self) -> impl Iterator<Item = Chain> + '_ {
        let count = self.replay.chains.len() as u32;
        (0..self.replay.copies()).flat_map(move |copy| {
            self.replay.chains.iter().map(move |chain| match chain.parent {
                NO_CHAIN => *chain,
                parent => Chain { parent: self.first_chain + copy * count + parent, ..*chain },
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(change: impl FnOnce(&mut Vec<Row>, &mut Vec<Chain>)) -> u128 {
        let row = |us: u64| Row { us, input: 100, output: 5, client: 0, chain: 0, shared: 50 };
        let mut rows: Vec<Row> = (0..9).map(row).collect();
        let mut chains = vec![Chain { parent: NO_CHAIN, start: 0 }, Chain { parent: 0, start: 8 }];
        change(&mut rows, &mut chains);
        let (clients, end) = (Vec::new(), Span::from_secs(1.0));
        let replay =
            Replay { rows: rows.into(), chains, clients, scale: 1.0, burst: None, end, fnv1a: 0 };
        let mut hash = Hash128::new();
        replay.feed(&mut hash);
        hash.finish()
    }

    #[test]
    fn a_row_in_the_middle_and_a_chain_count() {
        let hashes = [
            hash(|_, _| {}),
            hash(|rows, _| rows[4].us += 1),
            hash(|rows, _| rows[4].input += 1),
            hash(|rows, _| rows[4].output += 1),
            hash(|rows, _| rows[4].client += 1),
            hash(|rows, _| rows[4].chain += 1),
            hash(|rows, _| rows[4].shared += 1),
            hash(|_, chains| chains[1].start += 1),
            hash(|_, chains| chains[1].parent = NO_CHAIN),
        ];
        let distinct: std::collections::BTreeSet<u128> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(hash(|_, _| {}), hashes[0]);
    }
}
