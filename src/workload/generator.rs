//! From a workload and a seed to its requests, one after the other.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::base::{ClientId, Rng, SimTime, Span, Stream};

use super::arrivals::{Arrivals, Gaps};
use super::lengths::{LENGTH_MAX, Lengths};
use super::spec::{
    ARRIVAL_MAX, ClientSpec, Growth, Pacing, Prompt, REQUESTS_MAX, Sessions, Window, WorkloadSpec,
};
use super::trace::{Chain, ClientInfo, NO_CHAIN, Request, Trace};

/// Stands for "no further arrival".
const NEVER_US: u64 = u64::MAX;

/// Where a realisation ends; without either limit it ends with the workload's windows, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// No request arrives at or after this.
    pub duration: Option<Span>,
    /// No more requests than this; rounds of sessions count, and the last session may be cut.
    pub max_requests: Option<u64>,
}

impl Limits {
    /// These limits, and those of `other` where this has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            duration: self.duration.or(other.duration),
            max_requests: self.max_requests.or(other.max_requests),
        }
    }
}

impl WorkloadSpec {
    /// The limits that the workload itself names.
    pub fn limits(&self) -> Limits {
        Limits { duration: self.horizon, max_requests: self.num_requests }
    }
}

/// The realisation of `spec` named by `seed`, up to `limits`.
pub fn generate(spec: &WorkloadSpec, seed: u64, limits: Limits) -> Trace {
    Trace::collect(Generator::new(spec, seed, limits))
}

/// Gives the requests of one realisation in trace order without keeping them.
///
/// Requests come in order of arrival, ties in the order of the clients. A closed-loop session
/// comes as a whole, when it starts: its follow-up rounds ([`SimTime::NEVER`]) directly behind its
/// first. Rounds of open-loop sessions have arrivals of their own.
#[derive(Clone, Debug)]
pub struct Generator {
    sources: Vec<Source>,
    /// The next arrival of every client that still has one: microseconds, client.
    agenda: BinaryHeap<Reverse<(u64, u32)>>,
    /// Rounds of the session that has just started.
    follow_ups: VecDeque<Request>,
    clients: Vec<ClientInfo>,
    classes: Vec<String>,
    tenants: Vec<String>,
    groups: u32,
    next_chain: u32,
    requests_left: u64,
    limits: Limits,
    horizon_us: u64,
    /// When the last window of all clients ends.
    windows_end_us: u64,
    /// The last arrival given.
    last_us: u64,
    expected_requests: usize,
}

impl Generator {
    /// A fresh realisation. Limits beyond the clock ([`ARRIVAL_MAX`]) or the identifiers
    /// ([`REQUESTS_MAX`]) are cut to them.
    pub fn new(spec: &WorkloadSpec, seed: u64, limits: Limits) -> Self {
        let horizon = limits.duration.unwrap_or(ARRIVAL_MAX).min(ARRIVAL_MAX);
        let max_requests = limits.max_requests.unwrap_or(REQUESTS_MAX).min(REQUESTS_MAX);
        let groups = Groups::of(&spec.clients);
        let mut names = Names::default();
        let mut clients = Vec::with_capacity(spec.clients.len());
        let mut sources = Vec::with_capacity(spec.clients.len());
        for (index, (client, rate)) in spec.clients.iter().zip(spec.client_rates()).enumerate() {
            clients.push(names.client(client));
            let mut source = Source::new(client, ClientId::new(index), rate, seed);
            source.prefix = groups.prefix(client);
            source.open_budget = limits.max_requests.map_or(NEVER_US, |max| max.saturating_mul(2));
            sources.push(source);
        }
        let mut generator = Self {
            agenda: BinaryHeap::with_capacity(sources.len()),
            sources,
            follow_ups: VecDeque::new(),
            clients,
            classes: names.classes,
            tenants: names.tenants,
            groups: groups.count(),
            next_chain: groups.count(),
            requests_left: max_requests,
            limits,
            horizon_us: horizon.as_us(),
            windows_end_us: windows_end_us(&spec.clients),
            last_us: 0,
            expected_requests: expected_requests(spec, horizon, max_requests),
        };
        for (index, source) in generator.sources.iter_mut().enumerate() {
            source.first_start();
            if source.due_us() != NEVER_US {
                generator.agenda.push(Reverse((source.due_us(), index as u32)));
            }
        }
        generator
    }

    /// Who the clients are.
    pub fn clients(&self) -> &[ClientInfo] {
        &self.clients
    }

    /// Names of the SLO classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Names of the tenants.
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// The chains of the prefix groups; those of sessions follow them in order of first use.
    pub fn group_chains(&self) -> Vec<Chain> {
        vec![Chain { parent: NO_CHAIN, start: 0 }; self.groups as usize]
    }

    /// What the conversations of `client` continue.
    pub fn session_chain(&self, client: ClientId) -> Chain {
        let prefix = self.sources[client.index()].prefix;
        Chain { parent: prefix.chain, start: prefix.length }
    }

    /// When arrivals end; known once all requests were given.
    pub fn end(&self) -> SimTime {
        let next_us = match self.agenda.peek() {
            Some(Reverse((us, _))) => *us,
            None => self.windows_end_us,
        };
        // The first request left out may arrive with the last one given.
        let next_us = next_us.max(self.last_us + 1);
        let cut_by_number = self.requests_left == 0;
        let end_us = match self.limits.duration {
            Some(_) if !cut_by_number => self.horizon_us,
            _ => next_us.min(self.horizon_us),
        };
        SimTime::from_us(end_us)
    }

    /// Whether any request may lie on a chain.
    pub fn is_chained(&self) -> bool {
        self.groups > 0 || self.sources.iter().any(|source| source.sessions.is_some())
    }

    /// Whether it ends by itself, before memory or the clock does.
    pub(super) fn is_bounded(&self) -> bool {
        self.limits != Limits::default() || self.windows_end_us < ARRIVAL_MAX.as_us()
    }

    /// About how many requests there will be, to reserve space; never absurdly many.
    pub(super) fn expected_requests(&self) -> usize {
        self.expected_requests
    }

    fn start(&mut self, index: usize) -> Option<Request> {
        let source = &mut self.sources[index];
        let request = source.emit(&mut self.next_chain, &mut self.follow_ups, self.horizon_us);
        let due = source.due_us();
        let top = self.agenda.peek_mut()?;
        if due == NEVER_US {
            PeekMut::pop(top);
        } else {
            let mut top = top;
            top.0.0 = due;
        }
        Some(request)
    }
}

impl Iterator for Generator {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        if self.requests_left == 0 {
            return None;
        }
        if let Some(request) = self.follow_ups.pop_front() {
            self.requests_left -= 1;
            return Some(request);
        }
        let &Reverse((us, client)) = self.agenda.peek()?;
        if us >= self.horizon_us {
            return None;
        }
        self.requests_left -= 1;
        self.last_us = us;
        self.start(client as usize)
    }
}

/// The tokens shared by a client's prompts.
#[derive(Clone, Copy, Debug)]
struct SharedPrefix {
    chain: u32,
    length: u32,
}

/// One client at work.
#[derive(Clone, Debug)]
struct Source {
    client: ClientId,
    starts: Starts,
    /// The next arrival of the process.
    start_us: u64,
    prompt: Prompt,
    output: Lengths,
    prompts: Rng,
    outputs: Rng,
    prefix: SharedPrefix,
    sessions: Option<Sessions>,
    /// Rounds of open-loop sessions yet to come, in order of arrival, then of generation.
    rounds: BinaryHeap<Reverse<Round>>,
    rounds_made: u64,
    /// No session starts once this many open-loop rounds were made.
    open_budget: u64,
}

/// A round of an open-loop session; ordered by its first two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Round {
    us: u64,
    made: u64,
    input: u32,
    output: u32,
    chain: u32,
    shared: u32,
}

impl Source {
    fn new(spec: &ClientSpec, client: ClientId, rate: f64, seed: u64) -> Self {
        let index = client.index() as u64;
        Self {
            client,
            starts: Starts::new(spec, rate, Rng::new(seed, Stream::Arrivals, index)),
            start_us: NEVER_US,
            prompt: spec.prompt.clone(),
            output: spec.output.clone(),
            prompts: Rng::new(seed, Stream::Lengths, index),
            outputs: Rng::new(seed, Stream::Outputs, index),
            prefix: SharedPrefix { chain: NO_CHAIN, length: 0 },
            sessions: spec.sessions,
            rounds: BinaryHeap::new(),
            rounds_made: 0,
            open_budget: NEVER_US,
        }
    }

    fn first_start(&mut self) {
        self.start_us = self.starts.first();
    }

    /// When its next request arrives.
    fn due_us(&self) -> u64 {
        match self.rounds.peek() {
            Some(Reverse(round)) => round.us.min(self.start_us),
            None => self.start_us,
        }
    }

    /// The request that is due. Further rounds of a closed-loop session go to `follow_ups`.
    fn emit(
        &mut self,
        next_chain: &mut u32,
        follow_ups: &mut VecDeque<Request>,
        horizon_us: u64,
    ) -> Request {
        if self.rounds.peek().is_some_and(|next| next.0.us <= self.start_us)
            && let Some(Reverse(round)) = self.rounds.pop()
        {
            return self.open_round(round);
        }
        let now_us = self.start_us;
        self.start_us = self.starts.next();
        let Some(sessions) = self.sessions else {
            let (input, output) = self.lengths();
            return self.request(SimTime::from_us(now_us), input, output, self.prefix);
        };
        if sessions.single {
            self.start_us = NEVER_US;
        }
        self.session(now_us, &sessions, next_chain, follow_ups, horizon_us)
    }

    /// Starts a session: returns its first round and puts the others where they belong.
    fn session(
        &mut self,
        now_us: u64,
        sessions: &Sessions,
        next_chain: &mut u32,
        follow_ups: &mut VecDeque<Request>,
        horizon_us: u64,
    ) -> Request {
        let shared = self.session_prefix(sessions, next_chain);
        let (input, output) = self.lengths();
        let first = self.request(SimTime::from_us(now_us), input, output, shared);
        self.rounds_made += 1;
        let mut last = (input, output);
        let mut us = now_us;
        for _ in 1..sessions.max_rounds {
            let Some(round) = self.next_round(sessions, last) else { break };
            us = us.saturating_add(sessions.think_time.as_us()).saturating_add(last.1.into());
            last = round;
            self.rounds_made += 1;
            match sessions.pacing {
                Pacing::Closed => {
                    follow_ups.push_back(self.request(SimTime::NEVER, round.0, round.1, shared));
                }
                Pacing::Open if us < horizon_us => self.rounds.push(Reverse(Round {
                    us,
                    made: self.rounds_made,
                    input: round.0,
                    output: round.1,
                    chain: shared.chain,
                    shared: shared.length,
                })),
                Pacing::Open => {}
            }
        }
        if sessions.pacing == Pacing::Open && self.rounds_made >= self.open_budget {
            self.start_us = NEVER_US;
        }
        first
    }

    /// The chain of a new session's tokens, and how many of them lie on it.
    fn session_prefix(&self, sessions: &Sessions, next_chain: &mut u32) -> SharedPrefix {
        match sessions.growth {
            Growth::None => self.prefix,
            Growth::Accumulate => {
                let chain = *next_chain;
                *next_chain += 1;
                SharedPrefix { chain, length: u32::MAX }
            }
        }
    }

    /// Prompt and answer of the round behind `last`; `None` where it would be too long.
    fn next_round(&mut self, sessions: &Sessions, last: (u32, u32)) -> Option<(u32, u32)> {
        let (input, output) = match sessions.growth {
            Growth::None => self.lengths(),
            Growth::Accumulate => {
                let new = self.prompt.tokens(&mut self.prompts);
                let output = self.output.tokens(&mut self.outputs);
                (last.0 + last.1 + new, output)
            }
        };
        (input <= LENGTH_MAX).then_some((input, output))
    }

    /// Prompt (behind the prefix) and answer of a request or a first round.
    fn lengths(&mut self) -> (u32, u32) {
        let new = self.prompt.tokens(&mut self.prompts);
        let output = self.output.tokens(&mut self.outputs);
        (new.saturating_add(self.prefix.length).min(LENGTH_MAX), output)
    }

    fn request(&self, arrival: SimTime, input: u32, output: u32, on: SharedPrefix) -> Request {
        let SharedPrefix { chain, length: shared } = on;
        Request { arrival, input, output, client: self.client, chain, shared }
    }

    fn open_round(&self, round: Round) -> Request {
        let on = SharedPrefix { chain: round.chain, length: round.shared };
        self.request(SimTime::from_us(round.us), round.input, round.output, on)
    }
}

/// The arrival process of one client, inside its windows.
#[derive(Clone, Debug)]
struct Starts {
    gaps: Gaps,
    rng: Rng,
    windows: Vec<Window>,
    /// The window that `now_us` lies in.
    window: usize,
    now_us: u64,
    from_zero: bool,
}

impl Starts {
    fn new(spec: &ClientSpec, rate: f64, rng: Rng) -> Self {
        let always = Window { start: Span::ZERO, end: ARRIVAL_MAX, rate: 1.0 };
        let windows = if spec.windows.is_empty() { vec![always] } else { spec.windows.clone() };
        Self {
            gaps: Gaps::new(&spec.arrivals, rate),
            rng,
            now_us: windows[0].start.as_us(),
            windows,
            window: 0,
            from_zero: matches!(spec.arrivals, Arrivals::Constant { from_zero: true }),
        }
    }

    fn first(&mut self) -> u64 {
        if self.from_zero { self.now_us } else { self.next() }
    }

    /// The next arrival in microseconds; [`NEVER_US`] behind the last window. A gap is spent in
    /// active time only, and faster where a window's rate is higher.
    fn next(&mut self) -> u64 {
        let mut gap = self.gaps.draw(&mut self.rng);
        while let Some(window) = self.windows.get(self.window) {
            let room = window.end.as_us().saturating_sub(self.now_us) as f64 * window.rate;
            if gap < room {
                self.now_us += (gap / window.rate) as u64;
                return self.now_us;
            }
            gap -= room;
            self.window += 1;
            if let Some(next) = self.windows.get(self.window) {
                self.now_us = next.start.as_us();
            }
        }
        NEVER_US
    }
}

/// The prefix groups in order of first mention.
struct Groups<'a>(BTreeMap<&'a str, SharedPrefix>);

impl<'a> Groups<'a> {
    fn of(clients: &'a [ClientSpec]) -> Self {
        let mut groups = BTreeMap::new();
        for prefix in clients.iter().filter_map(|client| client.prefix.as_ref()) {
            let chain = groups.len() as u32;
            groups
                .entry(prefix.group.as_str())
                .or_insert(SharedPrefix { chain, length: prefix.length });
        }
        Self(groups)
    }

    fn count(&self) -> u32 {
        self.0.len() as u32
    }

    fn prefix(&self, client: &ClientSpec) -> SharedPrefix {
        client
            .prefix
            .as_ref()
            .and_then(|prefix| self.0.get(prefix.group.as_str()).copied())
            .unwrap_or(SharedPrefix { chain: NO_CHAIN, length: 0 })
    }
}

/// Names of classes and tenants in order of first mention.
#[derive(Default)]
struct Names {
    classes: Vec<String>,
    tenants: Vec<String>,
    tenant_index: BTreeMap<String, u16>,
}

impl Names {
    fn client(&mut self, client: &ClientSpec) -> ClientInfo {
        let known = self.classes.iter().position(|name| *name == client.slo_class);
        let class = known.unwrap_or_else(|| {
            self.classes.push(client.slo_class.clone());
            self.classes.len() - 1
        });
        let next = self.tenants.len() as u16;
        let tenant = *self.tenant_index.entry(client.tenant.clone()).or_insert(next);
        if tenant == next {
            self.tenants.push(client.tenant.clone());
        }
        ClientInfo {
            name: client.name.clone(),
            class: u8::try_from(class).expect("reading allows a handful of SLO classes"),
            tenant,
            think_time: client.sessions.as_ref().map_or(Span::ZERO, |s| s.think_time),
        }
    }
}

/// When the last start of a request or session can be; a single session has no end of its own.
fn windows_end_us(clients: &[ClientSpec]) -> u64 {
    let end = |client: &ClientSpec| match client.windows.last() {
        _ if client.sessions.is_some_and(|sessions| sessions.single) => Span::ZERO,
        Some(window) => window.end,
        None => ARRIVAL_MAX,
    };
    clients.iter().map(end).max().unwrap_or(Span::ZERO).as_us()
}

fn expected_requests(spec: &WorkloadSpec, horizon: Span, max_requests: u64) -> usize {
    const RESERVE_MAX: f64 = 1e7;
    let rounds = |client: &ClientSpec| client.sessions.as_ref().map_or(1, |s| s.max_rounds);
    let rounds_max = spec.clients.iter().map(rounds).max().unwrap_or(1);
    let arrivals = spec.aggregate_rate * horizon.as_secs() * f64::from(rounds_max);
    arrivals.min(max_requests as f64).min(RESERVE_MAX) as usize
}
