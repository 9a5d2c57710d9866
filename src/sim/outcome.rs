//! What a run tells: every figure a report, an objective or a constraint may name.

use crate::base::batch_means::SteadyMean;
use crate::base::{ClientId, InstanceId, SimTime, Span};
use crate::sim::fleet_outcome::FleetOutcome;

/// Which part of a run is measured and what is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunOptions {
    /// Requests that arrive before this point are simulated and not measured.
    pub warm_up: SimTime,
    /// Nothing later than this is simulated; [`SimTime::NEVER`] runs until the fleet is idle.
    pub horizon: SimTime,
    /// Keep a record of every request.
    pub keep_requests: bool,
    /// Keep a record of every step (slow: each step is then simulated by itself).
    pub keep_steps: bool,
    /// The length of an interval of the timeline; `None`: no timeline.
    pub timeline: Option<Span>,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Where every request of the whole run ended, warm-up included.
    pub counts: Counts,
    /// The same for requests that arrived in the measured window.
    pub measured: Counts,
    /// Length of the measured window in seconds: from the end of the warm-up to the end of the
    /// arrivals (or the horizon, where that is earlier).
    pub window_s: f64,
    /// When the last thing happened, in seconds.
    pub end_s: f64,
    /// Arrival to first token of measured requests.
    pub ttft: Summary,
    /// Mean time per output token after the first, per completed measured request.
    pub tpot: Summary,
    /// Single gaps between tokens produced in the measured window.
    pub itl: Summary,
    /// Arrival to last token of completed measured requests.
    pub e2e: Summary,
    /// Arrival to the step that first admitted the request.
    pub scheduling_delay: Summary,
    /// Requests answered in the measured window per second of it, whenever they arrived.
    pub throughput_rps: f64,
    /// Their answer tokens per second of window.
    pub output_tokens_per_s: f64,
    /// Their prompt and answer tokens per second of window.
    pub total_tokens_per_s: f64,
    /// Prefix-cache hits over hits and misses, in blocks, whole run.
    pub cache_hit_rate: f64,
    /// Requests thrown out of a batch for want of KV blocks, whole run.
    pub preemptions: u64,
    /// Mean share of KV blocks in use while stepping, over the fleet, in [0, 1].
    pub kv_utilization_mean: f64,
    /// Largest share of KV blocks in use on any instance, in [0, 1].
    pub kv_utilization_peak: f64,
    /// Share of the measured window in which an instance was stepping, mean over instances.
    pub busy_fraction: f64,
    /// Whether the queue stopped growing.
    pub stability: Stability,
    /// How well this one run tells its means.
    pub steady: SteadyMeans,
    /// Measured requests that were answered in full within the targets of their class.
    pub within_slo: u64,
    /// Jain's index of requests served per instance: 1 all alike, 1/n all on one.
    pub jain_fairness: f64,
    /// Per SLO class, in the order of the trace's classes.
    pub classes: Vec<ClassOutcome>,
    /// Per instance; of a fleet that changes, per place.
    pub instances: Vec<InstanceOutcome>,
    /// What the fleet did and what it cost; `None` where nothing could change.
    pub fleet: Option<FleetOutcome>,
    /// What the gateway did; `None` where it lets everybody pass at once.
    pub gateway: Option<GatewayOutcome>,
    /// One record per request where asked for, by id.
    pub requests: Vec<RequestRecord>,
    /// One record per step where asked for, in order of time, then instance.
    pub steps: Vec<StepRecord>,
}

/// Each injected request is in exactly one bucket; a client's further attempts are no requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reached the cluster.
    pub injected: u64,
    /// Turned away at admission or by the queue of the gateway, with the last attempt.
    pub rejected: u64,
    /// Prompt larger than an instance's whole KV cache.
    pub dropped: u64,
    /// Given up by a client who had waited too long, with the last attempt.
    pub timed_out: u64,
    /// Lost with an instance, with the last attempt.
    pub failed: u64,
    /// In the queue of the gateway for longer than it lets anybody wait, with the last attempt.
    pub expired: u64,
    /// Not in a batch when the run was cut: in a wait queue, on its way there, at the gateway,
    /// or with a client who will try again.
    pub queued: u64,
    /// In a batch when the run was cut.
    pub running: u64,
    /// Answered in full.
    pub completed: u64,
}

/// What the gateway did, over the whole run but where it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayOutcome {
    /// Attempts turned away by each rule of admission, in the order in which they are asked, and
    /// by `degradation` where it sheds.
    pub shed: Vec<(&'static str, u64)>,
    /// Attempts turned away because the queue, or their band of it, was full.
    pub full: u64,
    /// Attempts that had to leave the queue for more urgent ones.
    pub displaced: u64,
    /// Attempts that were in the queue for too long.
    pub expired: u64,
    /// Waits at the gateway that were longer than no time and ended with dispatch or routing.
    pub waited: u64,
    /// All waits at the gateway that ended so, of measured requests, those of no time included.
    pub wait: Summary,
    /// Measured requests whose answer is complete and was cut short.
    pub capped: u64,
}

impl GatewayOutcome {
    /// Attempts turned away by admission or by the queue.
    pub fn turned_away(&self) -> u64 {
        self.shed.iter().map(|(_, shed)| shed).sum::<u64>() + self.full + self.displaced
    }
}

/// A distribution in milliseconds. Quantiles interpolate linearly between order statistics in
/// small runs and have a relative error of at most 0.1 % in large ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest value.
    pub max_ms: f64,
}

/// Whether the system keeps up with its load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stability {
    /// False when the wait queue, or the number of requests in the system, grows over the
    /// measured window by more than chance explains: the fleet is too small, or the run too
    /// short to tell.
    pub stable: bool,
    /// That growth, in requests per second.
    pub growth_rps: f64,
}

impl Default for Stability {
    fn default() -> Self {
        Self { stable: true, growth_rps: 0.0 }
    }
}

/// Means of completed measured requests with their intervals from one run, by batch means over
/// equal intervals of the measured window; absent where too few requests completed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SteadyMeans {
    /// Arrival to first token, in milliseconds.
    pub ttft_ms: Option<SteadyMean>,
    /// Arrival to last token, in milliseconds.
    pub e2e_ms: Option<SteadyMean>,
}

/// The figures of one SLO class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassOutcome {
    /// Its name.
    pub name: String,
    /// Its measured requests.
    pub measured: Counts,
    /// Of these, answered in full within the targets of the class.
    pub within_slo: u64,
    /// Arrival to first token.
    pub ttft: Summary,
    /// Mean time per output token.
    pub tpot: Summary,
    /// Arrival to last token.
    pub e2e: Summary,
}

/// The figures of one instance over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstanceOutcome {
    /// Requests routed to it.
    pub requests: u64,
    /// Of these, answered in full.
    pub completed: u64,
    /// Waiting, or on the way to its wait queue, when the run was cut.
    pub queued: u64,
    /// In the batch when the run was cut.
    pub running: u64,
    /// Steps of its engine.
    pub steps: u64,
    /// Requests thrown out of its batch.
    pub preemptions: u64,
    /// Prompt tokens that joined its wait queue.
    pub input_tokens: u64,
    /// Decode steps of its requests: an answer's first token comes from the prefill.
    pub decode_tokens: u64,
    /// The most KV blocks ever in use.
    pub kv_blocks_peak: u32,
    /// KV blocks in use, summed over time, in block-microseconds.
    pub kv_block_us: u64,
    /// Prefix-cache hits over hits and misses, in blocks.
    pub cache_hit_rate: f64,
    /// Time spent stepping, in seconds.
    pub busy_s: f64,
    /// When its last event happened, in microseconds.
    pub end_us: u64,
}

/// Where a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RequestState {
    /// Never reached the cluster before the run was cut.
    #[default]
    Pending,
    /// Waiting for a batch, or on its way.
    Queued,
    /// In a batch.
    Running,
    /// Answered in full.
    Completed,
    /// Turned away at admission or by the queue of the gateway.
    Rejected,
    /// Can never fit into an instance's KV cache.
    Dropped,
    /// Given up by its client.
    TimedOut,
    /// Lost with its instance.
    Failed,
    /// For too long in the queue of the gateway.
    Expired,
}

/// One request, in whole microseconds; [`RequestRecord::NEVER_US`] where it did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Where it ended.
    pub state: RequestState,
    /// Where it was sent; `None` when it was not.
    pub instance: Option<InstanceId>,
    /// Who sent it; with its lengths, of a request that reached the cluster.
    pub client: ClientId,
    /// Prompt tokens.
    pub input: u32,
    /// Answer tokens wanted.
    pub output: u32,
    /// When it reached the cluster.
    pub arrival_us: u64,
    /// When it was sent to its instance.
    pub routed_us: u64,
    /// When it joined the wait queue.
    pub enqueued_us: u64,
    /// When it first entered a batch.
    pub first_scheduled_us: u64,
    /// When it last entered a batch.
    pub scheduled_us: u64,
    /// Arrival to first token.
    pub ttft_us: u64,
    /// Arrival to last token, as reported.
    pub e2e_us: u64,
    /// When the completing step ended.
    pub finished_us: u64,
    /// How often it was thrown out of a batch.
    pub preemptions: u32,
    /// Attempts after the first; times but `arrival_us`, and the instance, are of the last one.
    pub retries: u32,
}

impl RequestRecord {
    /// Stands for an event that did not happen.
    pub const NEVER_US: u64 = u64::MAX;
}

impl Default for RequestRecord {
    fn default() -> Self {
        Self {
            state: RequestState::Pending,
            instance: None,
            client: ClientId(0),
            input: 0,
            output: 0,
            arrival_us: Self::NEVER_US,
            routed_us: Self::NEVER_US,
            enqueued_us: Self::NEVER_US,
            first_scheduled_us: Self::NEVER_US,
            scheduled_us: Self::NEVER_US,
            ttft_us: Self::NEVER_US,
            e2e_us: Self::NEVER_US,
            finished_us: Self::NEVER_US,
            preemptions: 0,
            retries: 0,
        }
    }
}

/// One step of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Which engine.
    pub instance: InstanceId,
    /// Counts the engine's steps from 1.
    pub step: u64,
    /// When it began, in microseconds.
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Requests in the batch.
    pub batch: u32,
    /// Prompt tokens computed.
    pub prefill_tokens: u32,
    /// Answer tokens computed.
    pub decode_tokens: u32,
    /// Requests answered in full.
    pub completed: u32,
    /// Requests waiting afterwards.
    pub waiting_after: u32,
    /// KV blocks in use afterwards.
    pub kv_blocks_after: u32,
}
