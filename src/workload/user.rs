//! Users of closed loops: who asks again once answered.

use std::sync::Arc;

use crate::base::{ClientId, Rng, SimTime, Span, Stream};

use super::lengths::{LENGTH_MAX, Lengths};
use super::spec::{ClientSpec, Prompt};
use super::trace::Request;

/// One user of a closed loop. Requests come one behind the answer of the other; the `k`-th has
/// the same lengths however fast the answers come, since every user draws from streams of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    client: ClientId,
    start: SimTime,
    think_time: Span,
    /// How much it asks at most.
    left: u64,
    /// It asks nothing from here on.
    end: SimTime,
    /// What all users of a client ask.
    asks: Arc<(Prompt, Lengths)>,
    prompts: Rng,
    outputs: Rng,
    chain: u32,
    shared: u32,
}

/// What the users of one client have in common.
pub(super) struct Crowd<'a> {
    pub spec: &'a ClientSpec,
    pub client: ClientId,
    pub seed: u64,
    /// The chain and length of its prefix.
    pub prefix: (u32, u32),
}

impl Crowd<'_> {
    /// The users, in order; none where the client has no closed loop.
    pub fn users(&self) -> Vec<User> {
        let Some(closed) = self.spec.closed_loop else { return Vec::new() };
        let asks = Arc::new((self.spec.prompt.clone(), self.spec.output.clone()));
        let (chain, shared) = self.prefix;
        let user = |index: u32| {
            // Streams of clients have indices below 2^32.
            let stream = self.client.index() as u64 | (u64::from(index) + 1) << 32;
            let late = u128::from(closed.think_time.as_us()) * u128::from(index);
            User {
                client: self.client,
                start: SimTime::from_us((late / u128::from(closed.users)) as u64),
                think_time: closed.think_time,
                left: u64::MAX,
                end: SimTime::NEVER,
                asks: Arc::clone(&asks),
                prompts: Rng::new(self.seed, Stream::Lengths, stream),
                outputs: Rng::new(self.seed, Stream::Outputs, stream),
                chain,
                shared,
            }
        };
        (0..closed.users).map(user).collect()
    }
}

impl User {
    /// It sends no more than `requests`, and none at or after `end`.
    pub(super) fn limit(&mut self, requests: u64, end: SimTime) {
        (self.left, self.end) = (requests, end);
    }

    /// When its first request arrives.
    pub fn start(&self) -> SimTime {
        self.start
    }

    /// Between the end of an answer and the next request.
    pub fn think_time(&self) -> Span {
        self.think_time
    }

    /// Whether it has something left to ask.
    pub fn goes_on(&self) -> bool {
        self.left > 0
    }

    /// Whether it asks something at `time`.
    pub fn asks_at(&self, time: SimTime) -> bool {
        self.goes_on() && time < self.end
    }

    /// Its next request, which arrives at `arrival`.
    pub fn ask(&mut self, arrival: SimTime) -> Request {
        self.left = self.left.saturating_sub(1);
        let new = self.asks.0.tokens(&mut self.prompts);
        let output = self.asks.1.tokens(&mut self.outputs);
        let own = if self.chain == super::trace::NO_CHAIN { 0 } else { self.shared };
        Request {
            arrival,
            input: new.saturating_add(own).min(LENGTH_MAX),
            output,
            client: self.client,
            chain: self.chain,
            shared: own,
        }
    }
}
