//! Where the requests of a run come from: a trace, or a generator that keeps nothing.

use crate::base::{RequestId, SimTime, Span};
use crate::policy::autoscale::Foresight;
use crate::policy::view::ChainBlocks;
use crate::workload::{Chain, ClientInfo, Generator, Request, Targets, Trace, User};
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Tokens from here on name users of closed loops; ids are below.
const FIRST_USER: u32 = 1 << 31;
/// A user who was turned away thinks for at least as long before asking something else; without
/// it, users who do not think would ask endlessly at one instant.
const REFUSED_PAUSE: Span = Span::from_us(1_000_000);

/// Gives the requests of a run in order of arrival; ids count them, follow-up rounds included.
///
/// Requests that wait for something have a token: follow-up rounds their id, users of closed loops
/// a number behind all ids. At one instant they come in the order of their tokens.
pub trait Source {
    /// Who the clients are.
    fn clients(&self) -> &[ClientInfo];
    /// Names of the SLO classes.
    fn classes(&self) -> &[String];
    /// What each class was promised, as far as it was.
    fn targets(&self) -> &[Targets];
    /// The chains known before the first request.
    fn first_chains(&self) -> Vec<Chain>;
    /// Whether any request may lie on a chain.
    fn is_chained(&self) -> bool;
    /// How many requests there are, where that is known.
    fn len(&self) -> usize;
    /// When arrivals end.
    fn end(&self) -> SimTime;
    /// How many requests that wait for no other arrive, counted by intervals.
    fn foresight(&self, interval: Span) -> Foresight;
    /// Whether nothing more can arrive although [`Source::end`] may be later: users of closed loops
    /// alone, who have asked all that they wanted.
    fn is_spent(&self) -> bool;
    /// The arrival and id of the next request that waits for no other.
    fn next(&mut self) -> (SimTime, u32);
    /// Takes that request. Chains that it begins are added to `chains`.
    fn take(&mut self, chains: &mut ChainBlocks) -> Request;
    /// When the users of closed loops first ask, and their tokens.
    fn first_asks(&self) -> Vec<(SimTime, u32)>;
    /// The time and token of the request that waited for the answer of `id`, which ended at
    /// `answered`; there may be none.
    fn follow_up(&mut self, id: u32, answered: SimTime) -> Option<(SimTime, u32)>;
    /// Takes the request of `token`, whose time has come, and its id.
    fn take_follow_up(&mut self, token: u32) -> (u32, Request);
    /// Forgets the rounds that wait for the answer of `id`, which will never come, as was known
    /// at `now`. A user of a closed loop asks something else instead.
    fn refused(&mut self, id: u32, now: SimTime) -> Option<(SimTime, u32)>;
}

/// Arrivals by intervals; follow-up rounds, whose time depends on an answer, are left out.
fn count_arrivals(arrivals: impl Iterator<Item = SimTime>, interval: Span) -> Foresight {
    let mut counts = Vec::new();
    for arrival in arrivals.filter(|&arrival| arrival != SimTime::NEVER) {
        let place = (arrival.as_ps() / interval.as_ps()) as usize;
        if place >= counts.len() {
            counts.resize(place + 1, 0);
        }
        counts[place] += 1;
    }
    Foresight { interval, arrivals: counts }
}

/// The users of closed loops in a run.
struct Crowd {
    users: Vec<User>,
    /// Whose request is on its way, by id.
    asked: BTreeMap<u32, u32>,
}

impl Crowd {
    fn new(users: &[User]) -> Self {
        Self { users: users.to_vec(), asked: BTreeMap::new() }
    }

    /// Whether there were users, and all of them have asked all that they wanted.
    fn is_spent(&self) -> bool {
        !self.users.is_empty() && !self.users.iter().any(User::goes_on)
    }

    fn first_asks(&self) -> Vec<(SimTime, u32)> {
        let first = self.users.iter().zip(FIRST_USER..);
        let first = first.filter(|(user, _)| user.asks_at(user.start()));
        first.map(|(user, token)| (user.start(), token)).collect()
    }

    /// When the user behind `id` asks again after `pause`, or after its think time if that is
    /// longer; `None` where it is nobody's, or was the last.
    fn next(&mut self, id: u32, now: SimTime, pause: Span) -> Option<(SimTime, u32)> {
        let index = self.asked.remove(&id)?;
        let user = &self.users[index as usize];
        let at = now + user.think_time().max(pause);
        user.asks_at(at).then_some((at, FIRST_USER + index))
    }

    /// What the user of `token` asks as request `id`.
    fn take(&mut self, token: u32, id: u32) -> Request {
        let index = token - FIRST_USER;
        self.asked.insert(id, index);
        self.users[index as usize].ask(SimTime::NEVER)
    }
}

/// The requests of a trace.
pub struct Listed<'a> {
    trace: &'a Trace,
    next: usize,
    crowd: Crowd,
    /// Requests of users have the ids behind the trace.
    next_id: u32,
}

impl<'a> Listed<'a> {
    /// From the first request on.
    pub fn new(trace: &'a Trace) -> Self {
        let crowd = Crowd::new(&trace.users);
        let mut listed = Self { trace, next: 0, crowd, next_id: trace.len() as u32 };
        listed.skip_follow_ups();
        listed
    }

    fn skip_follow_ups(&mut self) {
        while self.trace.arrival.get(self.next) == Some(&SimTime::NEVER) {
            self.next += 1;
        }
    }

    fn request(&self, at: usize) -> Request {
        let trace = self.trace;
        Request {
            arrival: trace.arrival[at],
            input: trace.input[at],
            output: trace.output[at],
            client: trace.client[at],
            chain: trace.chain[at],
            shared: trace.shared[at],
        }
    }
}

impl Source for Listed<'_> {
    fn clients(&self) -> &[ClientInfo] {
        &self.trace.clients
    }

    fn classes(&self) -> &[String] {
        &self.trace.classes
    }

    fn targets(&self) -> &[Targets] {
        &self.trace.targets
    }

    fn first_chains(&self) -> Vec<Chain> {
        self.trace.chains.clone()
    }

    fn is_chained(&self) -> bool {
        !self.trace.chains.is_empty()
    }

    fn len(&self) -> usize {
        self.trace.len()
    }

    fn end(&self) -> SimTime {
        self.trace.end
    }

    fn foresight(&self, interval: Span) -> Foresight {
        count_arrivals(self.trace.arrival.iter().copied(), interval)
    }

    fn is_spent(&self) -> bool {
        self.trace.arrival.is_empty() && self.crowd.is_spent()
    }

    fn next(&mut self) -> (SimTime, u32) {
        let arrival = self.trace.arrival.get(self.next).copied();
        (arrival.unwrap_or(SimTime::NEVER), self.next as u32)
    }

    fn take(&mut self, _: &mut ChainBlocks) -> Request {
        let request = self.request(self.next);
        self.next += 1;
        self.skip_follow_ups();
        request
    }

    fn first_asks(&self) -> Vec<(SimTime, u32)> {
        self.crowd.first_asks()
    }

    fn follow_up(&mut self, id: u32, answered: SimTime) -> Option<(SimTime, u32)> {
        if id as usize >= self.trace.len() {
            return self.crowd.next(id, answered, Span::ZERO);
        }
        let next = self.trace.follow_up(RequestId(id))?;
        let client = self.trace.client[next.index()];
        Some((answered + self.trace.clients[client.index()].think_time, next.0))
    }

    fn take_follow_up(&mut self, token: u32) -> (u32, Request) {
        if token < FIRST_USER {
            return (token, self.request(token as usize));
        }
        let id = self.next_id;
        self.next_id += 1;
        (id, self.crowd.take(token, id))
    }

    fn refused(&mut self, id: u32, now: SimTime) -> Option<(SimTime, u32)> {
        self.crowd.next(id, now, REFUSED_PAUSE)
    }
}

/// Requests drawn when they are due. Memory holds the open sessions, and a few bytes for each
/// session that ever was, since its content may still be cached.
pub struct Drawn {
    generator: Peekable<Generator>,
    about: Generator,
    end: SimTime,
    next_id: u32,
    /// Rounds of open sessions by id.
    waiting: BTreeMap<u32, Request>,
    crowd: Crowd,
}

impl Drawn {
    /// The requests of `generator`, whose arrivals end at `end`.
    pub fn new(generator: Generator, end: SimTime) -> Self {
        let about = generator.clone();
        let crowd = Crowd::new(generator.users());
        let (generator, waiting) = (generator.peekable(), BTreeMap::new());
        Self { generator, about, end, next_id: 0, waiting, crowd }
    }
}

impl Source for Drawn {
    fn clients(&self) -> &[ClientInfo] {
        self.about.clients()
    }

    fn classes(&self) -> &[String] {
        self.about.classes()
    }

    fn targets(&self) -> &[Targets] {
        self.about.targets()
    }

    fn first_chains(&self) -> Vec<Chain> {
        self.about.first_chains()
    }

    fn is_chained(&self) -> bool {
        self.about.is_chained()
    }

    fn len(&self) -> usize {
        0
    }

    fn end(&self) -> SimTime {
        self.end
    }

    fn foresight(&self, interval: Span) -> Foresight {
        count_arrivals(self.about.clone().map(|request| request.arrival), interval)
    }

    fn is_spent(&self) -> bool {
        // Only a number of requests ends users before the duration does.
        false
    }

    fn next(&mut self) -> (SimTime, u32) {
        let arrival = self.generator.peek().map(|request| request.arrival);
        (arrival.unwrap_or(SimTime::NEVER), self.next_id)
    }

    fn take(&mut self, chains: &mut ChainBlocks) -> Request {
        let request = self.generator.next().expect("the caller saw its arrival");
        self.next_id += 1;
        if request.chain as usize == chains.len() {
            chains.push(self.about.session_chain(request.client));
        }
        let is_follow_up = |next: &Request| next.arrival == SimTime::NEVER;
        while let Some(round) = self.generator.next_if(is_follow_up) {
            self.waiting.insert(self.next_id, round);
            self.next_id += 1;
        }
        request
    }

    fn first_asks(&self) -> Vec<(SimTime, u32)> {
        self.crowd.first_asks()
    }

    fn follow_up(&mut self, id: u32, answered: SimTime) -> Option<(SimTime, u32)> {
        if let Some(round) = self.waiting.get(&(id + 1)) {
            let think_time = self.about.clients()[round.client.index()].think_time;
            return Some((answered + think_time, id + 1));
        }
        self.crowd.next(id, answered, Span::ZERO)
    }

    fn take_follow_up(&mut self, token: u32) -> (u32, Request) {
        if token < FIRST_USER {
            let round = self.waiting.remove(&token);
            return (token, round.expect("a round waits until its time has come"));
        }
        let id = self.next_id;
        self.next_id += 1;
        (id, self.crowd.take(token, id))
    }

    fn refused(&mut self, id: u32, now: SimTime) -> Option<(SimTime, u32)> {
        let mut next = id + 1;
        while self.waiting.remove(&next).is_some() {
            next += 1;
        }
        self.crowd.next(id, now, REFUSED_PAUSE)
    }
}
