//! The slow and obvious twin of the simulator, to hold the fast one against.
//!
//! Every step, request and KV block is simulated by itself: events in ordered sets, blocks as
//! objects with an identity, the free list a deque, the wait queue sorted at each step. Nothing
//! is skipped and nothing is shared with the fast core but types and the formulas of latency.
//!
//! # Order of events
//!
//! Cluster events go by (time, kind, turn): arrivals, then admissions, then routings; arrivals at
//! one time by request id, the others as pushed. Events of an instance go by (time, kind, turn):
//! arrivals, then entries into the wait queue, then steps. The earlier of the two goes first, the
//! cluster on ties, and among instances the lowest index. What is later than the horizon does
//! not happen.

mod cluster;
mod engine;
mod kv;
mod router;
mod tally;

use crate::base::{SimTime, Span};
use crate::policy::PolicyBundle;
use crate::workload::{NO_CHAIN, Trace};

use super::outcome::{Outcome, RequestState, RunOptions};
use kv::{Holding, Key};

/// The figures of one run, equal to those of `sim::simulate` to the last bit, but for
/// `stability` and `steady`, which stay at their defaults, and for summaries of more values than
/// [`Distribution`](crate::base::Distribution) keeps one by one, which stay exact here.
///
/// Takes time in proportion to steps times batch. Users of closed loops ask nothing here.
pub fn simulate(bundle: &PolicyBundle, trace: &Trace, options: &RunOptions) -> Outcome {
    let mut cluster = cluster::Cluster::new(Setting {
        bundle,
        trace,
        horizon: options.horizon.min(SimTime::LAST),
    });
    cluster.run();
    tally::outcome(&cluster, options)
}

/// What is fixed in a run.
#[derive(Clone, Copy)]
struct Setting<'a> {
    bundle: &'a PolicyBundle,
    trace: &'a Trace,
    horizon: SimTime,
}

impl Setting<'_> {
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
    arrival: SimTime,
    state: RequestState,
    instance: Option<usize>,
    routed: Option<SimTime>,
    enqueued: Option<SimTime>,
    first_scheduled: Option<SimTime>,
    scheduled: Option<SimTime>,
    ttft: Option<Span>,
    /// Times between its tokens since it last entered a batch.
    gaps: Vec<Span>,
    finished: Option<SimTime>,
    preemptions: u32,
    /// Tokens of prompt and answer computed.
    progress: u32,
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
            instance: None,
            routed: None,
            enqueued: None,
            first_scheduled: None,
            scheduled: None,
            ttft: None,
            gaps: Vec::new(),
            finished: None,
            preemptions: 0,
            progress: 0,
            new: 0,
            holding: Holding::default(),
        }
    }

    /// Whether its prompt is computed.
    fn decodes(&self) -> bool {
        self.progress >= self.input
    }

    /// Progress at which it is answered: the last token is never fed back.
    fn goal(&self) -> u32 {
        self.input + self.output.max(1) - 1
    }
}
