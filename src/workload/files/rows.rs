//! From recorded requests to a replay: sliced, scaled, in order, with chains and sessions.

use std::collections::BTreeMap;

use super::wishes::{Rate, Wishes};
use super::{line_at, placed};
use crate::base::Span;
use crate::config::{Position, Problems};
use crate::workload::lengths::LENGTH_MAX;
use crate::workload::replay::{Replay, ReplayClient, Row, SCALE_MAX};
use crate::workload::spec::{ARRIVAL_MAX, CLIENTS_MAX, Growth, REQUESTS_MAX, WorkloadSpec};
use crate::workload::starts::NEVER_US;
use crate::workload::trace::{Chain, NO_CHAIN};

/// Tokens of a block that a hash stands for.
const HASH_TOKENS: u32 = 512;
/// Stands for "in no session" and "in no group".
const NONE: u32 = u32::MAX;

/// A request as a file has it; texts are empty where it has nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recorded<'a> {
    /// Microseconds.
    pub at_us: u64,
    /// Prompt tokens, prefix included.
    pub input: u32,
    pub output: u32,
    pub client: &'a str,
    pub tenant: &'a str,
    pub class: &'a str,
    pub session: &'a str,
    pub round: u32,
    pub group: &'a str,
    /// Tokens of the group's prefix.
    pub prefix: u32,
    /// What names the blocks of the prompt, from the start.
    pub hashes: &'a [u64],
}

/// A request before it is sliced and scaled.
struct Raw {
    at_us: u64,
    input: u32,
    output: u32,
    client: u32,
    session: u32,
    round: u32,
    group: u32,
    hashes: std::ops::Range<usize>,
}

/// Gathers the requests of a file.
pub(super) struct Rows<'w> {
    wishes: &'w Wishes,
    raw: Vec<Raw>,
    hashes: Vec<u64>,
    clients: Names<(String, String, String)>,
    sessions: Names<(u32, String)>,
    groups: Names<String>,
    /// Prefix tokens of each group.
    prefixes: Vec<u32>,
    /// The first line that is earlier than the one before, and how many there are.
    disorder: (u32, u32),
    /// The same for lengths of zero.
    zeros: (u32, u32),
}

/// Names in order of first mention.
struct Names<T>(BTreeMap<T, u32>);

impl<T: Ord> Names<T> {
    fn index(&mut self, name: T) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(name).or_insert(next)
    }

    fn in_order(self) -> Vec<T> {
        let mut names: Vec<(u32, T)> = self.0.into_iter().map(|(name, at)| (at, name)).collect();
        names.sort_unstable_by_key(|(at, _)| *at);
        names.into_iter().map(|(_, name)| name).collect()
    }
}

impl<'w> Rows<'w> {
    /// No requests yet.
    pub fn new(wishes: &'w Wishes) -> Self {
        Self {
            wishes,
            raw: Vec::new(),
            hashes: Vec::new(),
            clients: Names(BTreeMap::new()),
            sessions: Names(BTreeMap::new()),
            groups: Names(BTreeMap::new()),
            prefixes: Vec::new(),
            disorder: (0, 0),
            zeros: (0, 0),
        }
    }

    /// Adds the request in `line`.
    pub fn add(&mut self, recorded: &Recorded, line: u32) -> Result<(), String> {
        let Recorded { at_us, input, output, round, prefix, .. } = *recorded;
        if input > LENGTH_MAX || output > LENGTH_MAX {
            return Err(format!("prompts and answers have at most {LENGTH_MAX} tokens"));
        }
        if self.raw.len() as u64 >= REQUESTS_MAX {
            return Err(format!("a workload has at most {REQUESTS_MAX} requests"));
        }
        if self.raw.last().is_some_and(|last| last.at_us > at_us) {
            note(&mut self.disorder, line);
        }
        if input == 0 || output == 0 {
            note(&mut self.zeros, line);
        }
        let or =
            |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
        let client = self.clients.index((
            or(recorded.client, "trace"),
            or(recorded.tenant, &self.wishes.tenant),
            or(recorded.class, &self.wishes.slo_class),
        ));
        if client as usize >= CLIENTS_MAX {
            return Err(format!("a workload has from 1 to {CLIENTS_MAX} clients"));
        }
        let session = match recorded.session {
            "" => NONE,
            session => self.sessions.index((client, session.to_owned())),
        };
        let group = match recorded.group {
            "" => NONE,
            group => self.groups.index(group.to_owned()),
        };
        if group as usize == self.prefixes.len() {
            self.prefixes.push(prefix);
        }
        let first = self.hashes.len();
        self.hashes.extend_from_slice(recorded.hashes);
        let hashes = first..self.hashes.len();
        let (input, output) = (input.max(1), output.max(1));
        self.raw.push(Raw { at_us, input, output, client, session, round, group, hashes });
        Ok(())
    }

    /// The replay of what was gathered from `file`, which is named at `at`.
    pub fn finish(
        mut self,
        file: &str,
        fnv1a: u64,
        at: Position,
        problems: &mut Problems,
    ) -> Option<Replay> {
        self.report(file, problems);
        self.raw.sort_by_key(|raw| raw.at_us);
        let (total, extent) = self.slice(file, at, problems)?;
        if self.raw.is_empty() {
            let message = format!("no request of `{file}` lies in this slice");
            let label = format!("it has {total} requests over {extent:.0} s");
            problems.error(at, message).label(label);
            return None;
        }
        let end = self.end();
        let scale = match self.wishes.rate {
            Rate::Scale(scale) => scale,
            Rate::Mean(rate) => rate * end.as_secs() / self.raw.len() as f64,
        };
        if scale > SCALE_MAX {
            let message = format!("this is {scale:.0} times as often as recorded");
            problems.error(at, message).label(format!("at most {SCALE_MAX} times"));
            return None;
        }
        let (rows, chains) = self.rows();
        let think_time = self.wishes.think_time.unwrap_or(Span::ZERO);
        let client = |(name, tenant, class)| ReplayClient { name, tenant, class, think_time };
        let clients = self.clients.in_order().into_iter().map(client).collect();
        Some(Replay { rows: rows.into(), chains, clients, scale, burst: None, end, fnv1a })
    }

    /// Says what was put right.
    fn report(&self, file: &str, problems: &mut Problems) {
        placed(file, problems, |problems| {
            if let (line, count @ 1..) = self.disorder {
                let message = format!("{count} rows are earlier than the row before them");
                problems.warning(line_at(line), message).label("sorted by time; the first is here");
            }
            if let (line, count @ 1..) = self.zeros {
                let message = format!("{count} rows have a prompt or an answer without tokens");
                problems.warning(line_at(line), message).label("taken as one token; here first");
            }
        });
    }

    /// Keeps what lies in the slice, in the time of the run. How many requests there were, and
    /// over how many seconds.
    fn slice(&mut self, file: &str, at: Position, problems: &mut Problems) -> Option<(usize, f64)> {
        let first = self.raw.first().map_or(0, |raw| raw.at_us);
        let last = self.raw.last().map_or(0, |raw| raw.at_us);
        // Clocks that count from 1970 or the like begin with the first request.
        let origin = if first > ARRIVAL_MAX.as_us() { first } else { 0 };
        let start = origin + self.wishes.start.as_us();
        let stop = self.wishes.duration.map_or(u64::MAX, |duration| start + duration.as_us());
        let (total, extent) = (self.raw.len(), (last - first) as f64 / 1e6);
        self.raw.retain(|raw| (start..stop).contains(&raw.at_us));
        let scale = self.wishes.time_scale;
        for raw in &mut self.raw {
            raw.at_us = scaled(raw.at_us - start, scale);
        }
        if self.raw.last().is_some_and(|raw| raw.at_us >= ARRIVAL_MAX.as_us()) {
            let message = format!("`{file}` lasts longer than the simulated clock");
            let label = format!("at most {} days", ARRIVAL_MAX.as_us() / 86_400_000_000);
            problems.error(at, message).label(label).hint("give `duration` in `trace`");
            return None;
        }
        Some((total, extent))
    }

    /// When arrivals end: with the slice, or with the last request.
    fn end(&self) -> Span {
        let last = self.raw.last().map_or(0, |raw| raw.at_us + 1);
        let slice = self.wishes.duration;
        let slice = slice.map_or(0, |slice| scaled(slice.as_us(), self.wishes.time_scale));
        Span::from_us(last.max(slice).min(ARRIVAL_MAX.as_us()))
    }

    /// The requests in order, rounds that wait behind the round before them, and their chains.
    fn rows(&self) -> (Vec<Row>, Vec<Chain>) {
        let mut chains = Chains::new(&self.prefixes);
        let waits = self.wishes.think_time.is_some();
        let mut rounds: BTreeMap<u32, Vec<&Raw>> = BTreeMap::new();
        for raw in self.raw.iter().filter(|raw| waits && raw.session != NONE) {
            rounds.entry(raw.session).or_default().push(raw);
        }
        let mut rows = Vec::with_capacity(self.raw.len());
        for raw in &self.raw {
            if !waits || raw.session == NONE {
                rows.push(self.row(raw, raw.at_us, &mut chains));
                continue;
            }
            // All rounds of a session stand where its first one does.
            let Some(mut session) = rounds.remove(&raw.session) else { continue };
            session.sort_by_key(|round| round.round);
            let times = std::iter::once(raw.at_us).chain(std::iter::repeat(NEVER_US));
            rows.extend(
                session.iter().zip(times).map(|(round, us)| self.row(round, us, &mut chains)),
            );
        }
        (rows, chains.list)
    }

    fn row(&self, raw: &Raw, us: u64, chains: &mut Chains) -> Row {
        let Raw { input, output, client, group, session, .. } = *raw;
        let hashes = &self.hashes[raw.hashes.clone()];
        let prefix = if group == NONE { 0 } else { self.prefixes[group as usize] };
        let (chain, shared) = if !hashes.is_empty() {
            let tokens = hashes.len() as u64 * u64::from(HASH_TOKENS);
            (chains.hashed(hashes), tokens.min(u64::from(input)) as u32)
        } else if session != NONE && self.wishes.growth == Growth::Accumulate {
            (chains.session(session, group, prefix), u32::MAX)
        } else if group != NONE && prefix > 0 {
            (chains.group(group), prefix.min(input))
        } else {
            (NO_CHAIN, 0)
        };
        Row { us, input, output, client, chain, shared }
    }
}

/// Counts a line and keeps the first.
fn note(seen: &mut (u32, u32), line: u32) {
    if seen.1 == 0 {
        seen.0 = line;
    }
    seen.1 += 1;
}

/// A length of time in the run.
fn scaled(us: u64, scale: f64) -> u64 {
    #[allow(clippy::float_cmp)]
    if scale == 1.0 { us } else { (us as f64 * scale).round() as u64 }
}

/// Names what requests share.
struct Chains {
    list: Vec<Chain>,
    groups: Vec<u32>,
    sessions: BTreeMap<u32, u32>,
    /// Blocks by the block before them and their hash.
    blocks: BTreeMap<(u32, u64), u32>,
    /// The chain of each block.
    places: Vec<u32>,
    /// How many blocks reach the end of each chain.
    lengths: Vec<u32>,
}

impl Chains {
    fn new(prefixes: &[u32]) -> Self {
        let (list, places, lengths) = (Vec::new(), Vec::new(), Vec::new());
        let groups = vec![NO_CHAIN; prefixes.len()];
        let (sessions, blocks) = (BTreeMap::new(), BTreeMap::new());
        Self { list, groups, sessions, blocks, places, lengths }
    }

    fn add(&mut self, parent: u32, start: u32) -> u32 {
        self.list.push(Chain { parent, start });
        self.lengths.push(0);
        (self.list.len() - 1) as u32
    }

    fn group(&mut self, group: u32) -> u32 {
        if self.groups[group as usize] == NO_CHAIN {
            self.groups[group as usize] = self.add(NO_CHAIN, 0);
        }
        self.groups[group as usize]
    }

    fn session(&mut self, session: u32, group: u32, prefix: u32) -> u32 {
        if let Some(&chain) = self.sessions.get(&session) {
            return chain;
        }
        let parent = if group == NONE || prefix == 0 { NO_CHAIN } else { self.group(group) };
        let chain = self.add(parent, if parent == NO_CHAIN { 0 } else { prefix });
        self.sessions.insert(session, chain);
        chain
    }

    /// The chain that a prompt of these blocks lies on: equal beginnings lie on the same one.
    fn hashed(&mut self, hashes: &[u64]) -> u32 {
        let (mut chain, mut last) = (NO_CHAIN, NONE);
        for (depth, &hash) in (0_u32..).zip(hashes) {
            if let Some(&block) = self.blocks.get(&(last, hash)) {
                (chain, last) = (self.places[block as usize], block);
                continue;
            }
            if chain == NO_CHAIN || self.lengths[chain as usize] > depth {
                chain = self.add(chain, depth * HASH_TOKENS);
            }
            self.lengths[chain as usize] = depth + 1;
            let block = self.places.len() as u32;
            self.places.push(chain);
            self.blocks.insert((last, hash), block);
            last = block;
        }
        chain
    }
}

/// The class of a row, where it has one.
pub(super) fn class(text: &str) -> Result<&str, String> {
    let known = crate::workload::read_client::CLASSES;
    if text.is_empty() || text == WorkloadSpec::CLASS_DEFAULT {
        return Ok("");
    }
    if known.contains(&text) {
        return Ok(text);
    }
    Err(format!("`slo_class` cannot be `{text}`: one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beginnings_share_their_chain() {
        let mut chains = Chains::new(&[]);
        let first = chains.hashed(&[0, 1, 2]);
        assert_eq!(chains.hashed(&[0, 1, 2]), first);
        assert_eq!(chains.hashed(&[0, 1]), first);
        assert_eq!(chains.hashed(&[0, 1, 2, 3]), first, "the tip grows");
        let other = chains.hashed(&[0, 1, 9]);
        assert_eq!(chains.list[other as usize], Chain { parent: first, start: 1024 });
        let again = chains.hashed(&[0, 1, 9, 10]);
        assert_eq!(again, other);
        assert_eq!(chains.list.len(), 2);
        let apart = chains.hashed(&[7, 1, 2]);
        assert_eq!(chains.list[apart as usize], Chain { parent: NO_CHAIN, start: 0 });
    }

    #[test]
    fn a_hash_in_another_place_is_another_block() {
        let mut chains = Chains::new(&[]);
        let (one, two) = (chains.hashed(&[1, 2]), chains.hashed(&[2, 1]));
        assert_ne!(one, two);
    }
}
