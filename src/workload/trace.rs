//! The requests of one run, as columns shared read-only by every worker.

use crate::base::{ClientId, RequestId, SimTime, Span};

use super::generator::Generator;
use super::user::User;

/// No chain: nothing of the request's tokens is shared with another request.
pub const NO_CHAIN: u32 = u32::MAX;

/// Who sends requests: what all requests of one client have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientInfo {
    /// The client's name in the workload.
    pub name: String,
    /// Index into [`Trace::classes`].
    pub class: u8,
    /// Index into [`Trace::tenants`].
    pub tenant: u16,
    /// Between the end of an answer and the next round of the same session.
    pub think_time: Span,
    /// The instance that its requests go to, past the router; where there is no such instance, the
    /// router decides.
    pub pinned: Option<u32>,
}

/// What a class of requests was promised; a request keeps its SLO when it is answered in full and
/// every target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The longest time to first token.
    pub ttft: Span,
    /// The longest mean time per output token after the first.
    pub tpot: Span,
    /// The longest time to the last token.
    pub e2e: Span,
}

impl Targets {
    /// An answer, whenever it comes.
    pub const NONE: Self = {
        let never = Span::from_ps(u64::MAX);
        Self { ttft: never, tpot: never, e2e: never }
    };
}

/// A sequence of tokens that several requests share from its start: the prompt of a prefix group,
/// or the growing conversation of a session. Tokens are never listed; a token's identity is its
/// chain and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The chain that this one continues, or [`NO_CHAIN`].
    pub parent: u32,
    /// The offset, in tokens from the start of the prompt, at which this chain leaves its parent;
    /// zero without a parent.
    pub start: u32,
}

/// One request as the generator gives it: a row of a [`Trace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// As [`Trace::arrival`].
    pub arrival: SimTime,
    /// As [`Trace::input`].
    pub input: u32,
    /// As [`Trace::output`].
    pub output: u32,
    /// As [`Trace::client`].
    pub client: ClientId,
    /// As [`Trace::chain`].
    pub chain: u32,
    /// As [`Trace::shared`].
    pub shared: u32,
}

/// The requests of one run in order of arrival.
///
/// A request whose arrival is [`SimTime::NEVER`] is a further round of a session: it directly
/// follows the round before it and arrives at that round's completion plus the client's
/// think time. All columns have one entry per request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// When the request reaches the cluster; ascending but for follow-ups ([`SimTime::NEVER`]).
    pub arrival: Vec<SimTime>,
    /// Prompt length in tokens, shared prefix included; at least 1.
    pub input: Vec<u32>,
    /// Answer length in tokens; no decision of a policy may depend on it.
    pub output: Vec<u32>,
    /// Who sent it.
    pub client: Vec<ClientId>,
    /// The chain that the request's first tokens lie on, or [`NO_CHAIN`].
    pub chain: Vec<u32>,
    /// How many tokens of prompt and answer lie on that chain (and its parents), from the start;
    /// `u32::MAX` for all. Later tokens are the request's own.
    pub shared: Vec<u32>,
    /// Who the clients are.
    pub clients: Vec<ClientInfo>,
    /// Names of the SLO classes; `default` for requests without one.
    pub classes: Vec<String>,
    /// What each class was promised, in the order of the classes; a class without an entry was
    /// promised an answer and nothing more.
    pub targets: Vec<Targets>,
    /// Names of the tenants.
    pub tenants: Vec<String>,
    /// All chains; a parent precedes its children.
    pub chains: Vec<Chain>,
    /// The users of closed loops, whose requests are not among the columns: when they arrive
    /// depends on the answers.
    pub users: Vec<User>,
    /// When arrivals end: rates are per this length of time. The limit of duration where that
    /// ended them; where a number of requests did, the arrival of the first one left out. Where
    /// only a number of requests ends closed loops, the end of the clock: a run finds out.
    pub end: SimTime,
}

impl Trace {
    /// The number of requests, follow-up rounds included, those of closed loops not.
    pub fn len(&self) -> usize {
        self.arrival.len()
    }

    /// All requests of `generator`, which must be bounded by a number, a duration or windows.
    pub fn collect(mut generator: Generator) -> Self {
        assert!(generator.is_bounded(), "a workload without end cannot be collected");
        let mut trace = Self {
            clients: generator.clients().to_vec(),
            classes: generator.classes().to_vec(),
            tenants: generator.tenants().to_vec(),
            targets: generator.targets().to_vec(),
            chains: generator.first_chains(),
            users: generator.users().to_vec(),
            ..Self::default()
        };
        trace.reserve(generator.expected_requests());
        while let Some(request) = generator.next() {
            if request.chain as usize == trace.chains.len() {
                trace.chains.push(generator.session_chain(request.client));
            }
            trace.push(request);
        }
        trace.end = generator.end();
        trace
    }

    /// Appends one request; its chain must be in [`Trace::chains`] already.
    pub fn push(&mut self, request: Request) {
        debug_assert!(request.chain == NO_CHAIN || (request.chain as usize) < self.chains.len());
        self.arrival.push(request.arrival);
        self.input.push(request.input);
        self.output.push(request.output);
        self.client.push(request.client);
        self.chain.push(request.chain);
        self.shared.push(request.shared);
    }

    fn reserve(&mut self, requests: usize) {
        self.arrival.reserve(requests);
        self.input.reserve(requests);
        self.output.reserve(requests);
        self.client.reserve(requests);
        self.chain.reserve(requests);
        self.shared.reserve(requests);
    }

    /// Whether nobody asks anything at all.
    pub fn is_empty(&self) -> bool {
        self.arrival.is_empty() && self.users.is_empty()
    }

    /// Whether `request` waits for the round before it.
    pub fn is_follow_up(&self, request: RequestId) -> bool {
        self.arrival[request.index()] == SimTime::NEVER
    }

    /// The next round of the session of `request`, where it waits for this one's answer.
    pub fn follow_up(&self, request: RequestId) -> Option<RequestId> {
        let next = request.index() + 1;
        (next < self.len() && self.arrival[next] == SimTime::NEVER).then(|| RequestId::new(next))
    }
}
