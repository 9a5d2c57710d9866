//! Where the requests of a run come from: a trace, or a generator that keeps nothing.

use crate::base::{RequestId, SimTime};
use crate::policy::view::ChainBlocks;
use crate::workload::{Chain, ClientInfo, Generator, Request, Trace};
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Gives the requests of a run in order of arrival; ids count them, follow-up rounds included.
pub trait Source {
    /// Who the clients are.
    fn clients(&self) -> &[ClientInfo];
    /// Names of the SLO classes.
    fn classes(&self) -> &[String];
    /// The chains known before the first request.
    fn first_chains(&self) -> Vec<Chain>;
    /// Whether any request may lie on a chain.
    fn is_chained(&self) -> bool;
    /// How many requests there are, where that is known.
    fn len(&self) -> usize;
    /// When arrivals end.
    fn end(&self) -> SimTime;
    /// The arrival and id of the next request that waits for no other.
    fn next(&mut self) -> (SimTime, u32);
    /// Takes that request. Chains that it begins are added to `chains`.
    fn take(&mut self, chains: &mut ChainBlocks) -> Request;
    /// The client of the round that waits for the answer of `id`, if there is one.
    fn follow_up_client(&self, id: u32) -> Option<usize>;
    /// Takes the follow-up round `id`, whose time has come.
    fn take_follow_up(&mut self, id: u32) -> Request;
    /// Forgets the rounds that wait for the answer of `id`, which will never come.
    fn cancel_follow_ups(&mut self, id: u32);
}

/// The requests of a trace.
pub struct Listed<'a> {
    trace: &'a Trace,
    next: usize,
}

impl<'a> Listed<'a> {
    /// From the first request on.
    pub fn new(trace: &'a Trace) -> Self {
        let mut listed = Self { trace, next: 0 };
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

    fn follow_up_client(&self, id: u32) -> Option<usize> {
        let next = self.trace.follow_up(RequestId(id))?;
        Some(self.trace.client[next.index()].index())
    }

    fn take_follow_up(&mut self, id: u32) -> Request {
        self.request(id as usize)
    }

    fn cancel_follow_ups(&mut self, _: u32) {}
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
}

impl Drawn {
    /// The requests of `generator`, whose arrivals end at `end`.
    pub fn new(generator: Generator, end: SimTime) -> Self {
        let about = generator.clone();
        let (generator, waiting) = (generator.peekable(), BTreeMap::new());
        Self { generator, about, end, next_id: 0, waiting }
    }
}

impl Source for Drawn {
    fn clients(&self) -> &[ClientInfo] {
        self.about.clients()
    }

    fn classes(&self) -> &[String] {
        self.about.classes()
    }

    fn first_chains(&self) -> Vec<Chain> {
        self.about.group_chains()
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

    fn follow_up_client(&self, id: u32) -> Option<usize> {
        self.waiting.get(&(id + 1)).map(|round| round.client.index())
    }

    fn take_follow_up(&mut self, id: u32) -> Request {
        self.waiting.remove(&id).expect("a round waits until its time has come")
    }

    fn cancel_follow_ups(&mut self, id: u32) {
        let mut next = id + 1;
        while self.waiting.remove(&next).is_some() {
            next += 1;
        }
    }
}
