//! From a workload and a seed to its requests, one after the other.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::base::{ClientId, Rng, SimTime, Span, Stream};

use super::lengths::{LENGTH_MAX, Lengths};
use super::replay::{Player, ReplayClient};
use super::spec::{
    ARRIVAL_MAX, ClientSpec, Growth, Pacing, Prompt, REQUESTS_MAX, Sessions, WindowOwn,
    WorkloadSpec,
};
use super::starts::{NEVER_US, Starts};
use super::trace::{Chain, ClientInfo, NO_CHAIN, Request, Targets, Trace};
use super::user::{Crowd, User};

/// Where a realisation ends; without either limit it ends with the workload's windows, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// No request arrives at or after this.
    pub duration: Option<Span>,
    /// No more requests than this; rounds of sessions count, and the last session may be cut.
    /// Users of closed loops are not counted with the others: they share the same number evenly
    /// among themselves, so that everybody asks the same however fast the answers come.
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
/// first. Rounds of open-loop sessions have arrivals of their own. Users of closed loops are not
/// among them, since their arrivals depend on the answers: [`Generator::users`].
#[derive(Clone, Debug)]
pub struct Generator {
    sources: Vec<Source>,
    /// The next arrival of every client that still has one: microseconds, client.
    agenda: BinaryHeap<Reverse<(u64, u32)>>,
    /// Recorded requests; behind those of clients at one instant.
    player: Option<Player>,
    users: Vec<User>,
    /// Rounds of the session that has just started.
    follow_ups: VecDeque<Request>,
    clients: Vec<ClientInfo>,
    classes: Vec<String>,
    /// In the order of the classes.
    targets: Vec<Targets>,
    tenants: Vec<String>,
    first_chains: Vec<Chain>,
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
        let mut users = Vec::new();
        for (index, (client, rate)) in spec.clients.iter().zip(spec.client_rates()).enumerate() {
            clients.push(names.client(client));
            let (id, prefix) = (ClientId::new(index), groups.prefix(client));
            let mut source = Source::new(client, id, rate, seed);
            source.prefix = prefix;
            source.open_budget = limits.max_requests.map_or(NEVER_US, |max| max.saturating_mul(2));
            sources.push(source);
            let prefix = (prefix.chain, prefix.length);
            users.extend(Crowd { spec: client, client: id, seed, prefix }.users());
        }
        share_out(limits, &mut users);
        let player = spec
            .replay
            .as_ref()
            .map(|replay| Player::new(replay, seed, spec.clients.len(), groups.count()));
        let replayed = spec.replay.iter().flat_map(|replay| &replay.clients);
        clients.extend(replayed.map(|client| names.replayed(client)));
        let first_chains = groups.chains(player.as_ref());
        let mut generator = Self {
            agenda: BinaryHeap::with_capacity(sources.len()),
            sources,
            player,
            users,
            follow_ups: VecDeque::new(),
            clients,
            targets: spec.targets_of(&names.classes),
            classes: names.classes,
            tenants: names.tenants,
            next_chain: first_chains.len() as u32,
            first_chains,
            requests_left: max_requests,
            limits,
            horizon_us: horizon.as_us(),
            windows_end_us: windows_end_us(spec),
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

    /// What the classes were promised.
    pub fn targets(&self) -> &[Targets] {
        &self.targets
    }

    /// Names of the tenants.
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// The chains of the prefix groups, then those of recorded requests; those of sessions follow
    /// them in order of first use.
    pub fn first_chains(&self) -> Vec<Chain> {
        self.first_chains.clone()
    }

    /// The users of closed loops, who have not asked anything yet.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// What the conversations of `client` continue.
    pub fn session_chain(&self, client: ClientId) -> Chain {
        let prefix = self.sources[client.index()].prefix;
        Chain { parent: prefix.chain, start: prefix.length }
    }

    /// When arrivals end; known once all requests were given.
    pub fn end(&self) -> SimTime {
        let next_us = match self.due_us() {
            NEVER_US => self.windows_end_us,
            us => us,
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
        !self.first_chains.is_empty() || self.sources.iter().any(|source| source.sessions.is_some())
    }

    /// Whether it ends by itself, before memory or the clock does.
    pub(super) fn is_bounded(&self) -> bool {
        self.limits != Limits::default() || self.windows_end_us < ARRIVAL_MAX.as_us()
    }

    /// About how many requests there will be, to reserve space; never absurdly many.
    pub(super) fn expected_requests(&self) -> usize {
        self.expected_requests
    }

    /// When the next request arrives that waits for no other.
    fn due_us(&self) -> u64 {
        let client = self.agenda.peek().map_or(NEVER_US, |Reverse((us, _))| *us);
        client.min(self.player.as_ref().map_or(NEVER_US, Player::due_us))
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
        let us = self.due_us();
        if us >= self.horizon_us {
            return None;
        }
        self.requests_left -= 1;
        self.last_us = us;
        match self.agenda.peek() {
            Some(&Reverse((due, client))) if due == us => self.start(client as usize),
            _ => self.player.as_mut()?.play(&mut self.follow_ups),
        }
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
    /// Whether it is an open client.
    asks_at_a_rate: bool,
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
            // Without a rate nothing is drawn.
            starts: Starts::new(spec, rate.max(1e-9), Rng::new(seed, Stream::Arrivals, index)),
            start_us: NEVER_US,
            asks_at_a_rate: spec.closed_loop.is_none(),
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
        if self.asks_at_a_rate {
            self.start_us = self.starts.first();
        }
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
        let own = self.starts.window().and_then(|window| window.own.clone());
        self.start_us = self.starts.next();
        let Some(sessions) = self.sessions else {
            let (input, output) = self.lengths(own.as_deref());
            return self.request(SimTime::from_us(now_us), input, output, self.prefix);
        };
        if sessions.single {
            self.start_us = NEVER_US;
        }
        self.session((now_us, own.as_deref()), &sessions, next_chain, follow_ups, horizon_us)
    }

    /// Starts a session: returns its first round and puts the others where they belong.
    fn session(
        &mut self,
        (now_us, own): (u64, Option<&WindowOwn>),
        sessions: &Sessions,
        next_chain: &mut u32,
        follow_ups: &mut VecDeque<Request>,
        horizon_us: u64,
    ) -> Request {
        let shared = self.session_prefix(sessions, next_chain);
        let (input, output) = self.lengths(own);
        let first = self.request(SimTime::from_us(now_us), input, output, shared);
        self.rounds_made += 1;
        let mut last = (input, output);
        let mut us = now_us;
        for _ in 1..sessions.max_rounds {
            let Some(round) = self.next_round(sessions, last, own) else { break };
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

    /// Prompt and answer of the round behind `last`; `None` where it would be too long. The law
    /// of lengths is that of the window in which the session began.
    fn next_round(
        &mut self,
        sessions: &Sessions,
        last: (u32, u32),
        own: Option<&WindowOwn>,
    ) -> Option<(u32, u32)> {
        let (input, output) = match sessions.growth {
            Growth::None => self.lengths(own),
            Growth::Accumulate => {
                let (new, output) = self.draw(own);
                (last.0 + last.1 + new, output)
            }
        };
        (input <= LENGTH_MAX).then_some((input, output))
    }

    /// Prompt (behind the prefix) and answer of a request or a first round.
    fn lengths(&mut self, own: Option<&WindowOwn>) -> (u32, u32) {
        let (new, output) = self.draw(own);
        (new.saturating_add(self.prefix.length).min(LENGTH_MAX), output)
    }

    /// New prompt and answer tokens.
    fn draw(&mut self, own: Option<&WindowOwn>) -> (u32, u32) {
        let new = match own.and_then(|own| own.prompt.as_ref()) {
            Some(prompt) => prompt.tokens(&mut self.prompts),
            None => self.prompt.tokens(&mut self.prompts),
        };
        let output = own.and_then(|own| own.output.as_ref()).unwrap_or(&self.output);
        (new, output.tokens(&mut self.outputs))
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

    /// The chains of the groups, then those of `player`.
    fn chains(&self, player: Option<&Player>) -> Vec<Chain> {
        let own = self.0.iter().map(|_| Chain { parent: NO_CHAIN, start: 0 });
        own.chain(player.into_iter().flat_map(Player::chains)).collect()
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
        ClientInfo {
            name: client.name.clone(),
            class: self.class(&client.slo_class),
            tenant: self.tenant(&client.tenant),
            think_time: client.sessions.as_ref().map_or(Span::ZERO, |s| s.think_time),
            pinned: client.pinned_instance,
        }
    }

    fn replayed(&mut self, client: &ReplayClient) -> ClientInfo {
        ClientInfo {
            name: client.name.clone(),
            class: self.class(&client.class),
            tenant: self.tenant(&client.tenant),
            think_time: client.think_time,
            pinned: None,
        }
    }

    fn class(&mut self, class: &str) -> u8 {
        let known = self.classes.iter().position(|name| name == class);
        let class = known.unwrap_or_else(|| {
            self.classes.push(class.to_owned());
            self.classes.len() - 1
        });
        u8::try_from(class).expect("reading allows a handful of SLO classes")
    }

    fn tenant(&mut self, tenant: &str) -> u16 {
        if let Some(known) = self.tenant_index.get(tenant) {
            return *known;
        }
        let next = self.tenants.len() as u16;
        self.tenant_index.insert(tenant.to_owned(), next);
        self.tenants.push(tenant.to_owned());
        next
    }
}

/// Ends the users' asking, and shares the number of requests evenly among them, the first of them
/// getting one more.
fn share_out(limits: Limits, users: &mut [User]) {
    let end = limits.duration.unwrap_or(ARRIVAL_MAX).min(ARRIVAL_MAX);
    let count = users.len() as u64;
    for (user, index) in users.iter_mut().zip(0..) {
        let share = |max| max / count + u64::from(index < max % count);
        user.limit(limits.max_requests.map_or(u64::MAX, share), SimTime::ZERO + end);
    }
}

/// When the last start of a request or session can be; a single session has no end of its own.
fn windows_end_us(spec: &WorkloadSpec) -> u64 {
    let end = |client: &ClientSpec| match client.windows.last() {
        _ if client.sessions.is_some_and(|sessions| sessions.single) => Span::ZERO,
        Some(window) => window.end,
        None => ARRIVAL_MAX,
    };
    let replay = spec.replay.as_ref().map(|replay| replay.end());
    spec.clients.iter().map(end).chain(replay).max().unwrap_or(Span::ZERO).as_us()
}

fn expected_requests(spec: &WorkloadSpec, horizon: Span, max_requests: u64) -> usize {
    const RESERVE_MAX: f64 = 1e7;
    let rounds = |client: &ClientSpec| client.sessions.as_ref().map_or(1, |s| s.max_rounds);
    let rounds_max = spec.clients.iter().map(rounds).max().unwrap_or(1);
    let arrivals = spec.aggregate_rate * horizon.as_secs() * f64::from(rounds_max);
    let rows = spec.replay.as_ref().map_or(0.0, |replay| replay.len() as f64 * replay.scale);
    (arrivals + rows).min(max_requests as f64).min(RESERVE_MAX) as usize
}
