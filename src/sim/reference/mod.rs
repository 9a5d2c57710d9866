//! The slow and obvious twin of the simulator, to hold the fast one against.
//!
//! Every step, request and KV block is simulated by itself: events in ordered sets, blocks as
//! objects with an identity, the free list a deque, the wait queue sorted at each step. Nothing
//! is skipped and nothing is shared with the fast core but types, the formulas of latency and of
//! F5's scores, and the autoscalers with the window of scrapes that they look at.
//!
//! # Order of events
//!
//! Events of the cluster go by (time, kind, turn), the kinds in the order of `cluster::Kind`;
//! admissions and routings take turns as pushed. Events of an instance go by (time, kind, turn):
//! arrivals, then entries into the wait queue, then steps. The earlier of the two goes first, the
//! cluster on ties, and among instances the lowest index. What is later than the horizon does
//! not happen.

mod attempts;
mod cluster;
mod engine;
mod faults;
mod fleet;
mod gate;
mod health;
mod kv;
mod ledger;
mod router;
mod scaling;
mod scores;
mod tally;

use crate::base::{SimTime, Span};
use crate::policy::PolicyBundle;
use crate::scenario::Conditions;
use crate::workload::{NO_CHAIN, Trace};

use super::outcome::{Outcome, RequestState, RunOptions};
use kv::{Holding, Key};

/// How long a fleet that changes may take for what is left when arrivals have ended.
const LONGEST_END: Span = Span::from_us(3_600_000_000);

/// The figures of one run, equal to those of `sim::simulate` to the last bit, but for
/// `stability` and `steady`, which stay at their defaults, and for summaries of more values than
/// [`Distribution`](crate::base::Distribution) keeps one by one, which stay exact here.
///
/// Takes time in proportion to steps times batch. Users of closed loops ask nothing here.
pub fn simulate(bundle: &PolicyBundle, trace: &Trace, options: &RunOptions) -> Outcome {
    simulate_under(bundle, trace, &Conditions::calm(0), options)
}

/// The same for a fleet that changes: what befalls it is `conditions`, what it does in `fleet` of
/// the outcome, unless nothing can change.
pub fn simulate_under(
    bundle: &PolicyBundle,
    trace: &Trace,
    conditions: &Conditions,
    options: &RunOptions,
) -> Outcome {
    let fixed = |pool: &crate::policy::Pool| {
        pool.min_instances == pool.instances && pool.max_instances == pool.instances
    };
    let moves = bundle.autoscaling.is_some()
        || options.timeline.is_some()
        || !conditions.is_calm()
        || bundle.gateway.is_active()
        || !bundle.pools.iter().all(fixed);
    let mut horizon = options.horizon.min(SimTime::LAST);
    if moves {
        horizon = horizon.min(trace.end.min(SimTime::LAST) + LONGEST_END);
    }
    let setting = Setting { bundle, trace, conditions, options, moves, horizon };
    let mut cluster = cluster::Cluster::new(setting);
    cluster.run();
    tally::outcome(&cluster)
}

/// What is fixed in a run.
#[derive(Clone, Copy)]
struct Setting<'a> {
    bundle: &'a PolicyBundle,
    trace: &'a Trace,
    conditions: &'a Conditions,
    options: &'a RunOptions,
    /// Whether anything about the fleet can change, or its course is asked for.
    moves: bool,
    horizon: SimTime,
}

impl Setting<'_> {
    /// The SLO class of `request`.
    fn class(&self, request: usize) -> usize {
        usize::from(self.trace.clients[self.trace.client[request].index()].class)
    }

    /// The instance that the client of `request` wants, past the router.
    fn pinned(&self, request: usize) -> Option<usize> {
        let client = self.trace.client[request];
        self.trace.clients[client.index()].pinned.map(|instance| instance as usize)
    }

    /// What the tokens of `request` up to the end of its block `index` are.
    fn key(&self, request: usize, index: u32) -> Key {
        let size = u64::from(self.bundle.block_size);
        let trace = self.trace;
        let tokens = u64::from(trace.input[request]) + u64::from(trace.output[request]);
        let shared = tokens.min(u64::from(trace.shared[request]));
        let mut chain = trace.chain[request];
        if chain == NO_CHAIN || (u64::from(index) + 1) * size > shared {
            return Key::Own { request, index };
        }
        loop {
            let at = trace.chains[chain as usize];
            if at.parent == NO_CHAIN || index >= at.start / self.bundle.block_size {
                return Key::Chain { chain, index };
            }
            chain = at.parent;
        }
    }

    /// What the first `blocks` blocks of `request` are.
    fn keys(&self, request: usize, blocks: u32) -> Vec<Key> {
        (0..blocks).map(|index| self.key(request, index)).collect()
    }
}

/// One request and all that happens to it.
struct Request {
    id: usize,
    /// How it is called where ids are compared as text.
    name: String,
    input: u32,
    output: u32,
    /// When it first reached the cluster.
    arrival: SimTime,
    state: RequestState,
    preemptions: u32,
    /// Attempts before the present one.
    retries: u8,
    /// When the present attempt reached the cluster, and as which of all attempts.
    came: (SimTime, u64),
    /// When it left for good.
    ended: Option<SimTime>,
    /// How long each attempt waited for a batch.
    delays: Vec<Span>,
    instance: Option<usize>,
    routed: Option<SimTime>,
    /// Since when it waits at the gateway.
    gated: Option<SimTime>,
    enqueued: Option<SimTime>,
    first_scheduled: Option<SimTime>,
    scheduled: Option<SimTime>,
    ttft: Option<Span>,
    /// When the step ends that made the first token.
    first_token: Option<SimTime>,
    /// Whether a scrape will know of a first token of this attempt.
    seen: bool,
    /// Times between its tokens since it last entered a batch.
    gaps: Vec<Span>,
    finished: Option<SimTime>,
    /// Tokens of prompt and answer computed.
    progress: u32,
    /// Those that were found in the cache.
    cached: u32,
    /// Tokens computed in the present step.
    new: u32,
    holding: Holding,
}

impl Request {
    fn new(setting: &Setting, id: usize) -> Self {
        Self {
            id,
            name: format!("request_{id}"),
            input: setting.trace.input[id],
            output: setting.trace.output[id],
            arrival: setting.trace.arrival[id],
            state: RequestState::Pending,
            preemptions: 0,
            retries: 0,
            came: (SimTime::NEVER, 0),
            ended: None,
            delays: Vec::new(),
            instance: None,
            routed: None,
            gated: None,
            enqueued: None,
            first_scheduled: None,
            scheduled: None,
            ttft: None,
            first_token: None,
            seen: false,
            gaps: Vec::new(),
            finished: None,
            progress: 0,
            cached: 0,
            new: 0,
            holding: Holding::default(),
        }
    }

    /// The same request without what happened to it in its last attempt.
    fn afresh(&self, setting: &Setting) -> Self {
        Self {
            arrival: self.arrival,
            came: self.came,
            retries: self.retries,
            delays: self.delays.clone(),
            ..Self::new(setting, self.id)
        }
    }

    /// Whether it reached the cluster and has not left it for good.
    fn is_under_way(&self) -> bool {
        matches!(self.state, RequestState::Queued | RequestState::Running)
    }

    /// Whether its prompt is computed.
    fn decodes(&self) -> bool {
        self.progress >= self.input
    }

    /// Progress at which it is answered: the last token is never fed back.
    fn goal(&self) -> u32 {
        self.input + self.output.max(1) - 1
    }

    /// Arrival to last token, where there was one.
    fn e2e(&self) -> Option<Span> {
        if self.state != RequestState::Completed {
            return None;
        }
        let mut total = self.ttft?;
        for &gap in &self.gaps {
            total += gap;
        }
        Some(total)
    }

    /// Mean time per token after the first, where it was answered with such tokens.
    fn tpot(&self) -> Option<Span> {
        if self.state != RequestState::Completed {
            return None;
        }
        let total: u64 = self.gaps.iter().map(|gap| gap.as_ps()).sum();
        total.checked_div(self.gaps.len() as u64).map(Span::from_ps)
    }
}
