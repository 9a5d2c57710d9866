//! What a workload is: clients, each with its arrivals, lengths, prefix, windows and sessions.

use crate::base::{Rng, Span, Stream};

use super::arrivals::Arrivals;
use super::lengths::Lengths;

/// The longest time of an arrival (53 days): half the clock, so that answers fit behind it.
pub const ARRIVAL_MAX: Span = Span::from_us((1 << 62) / 1_000_000);
/// The highest rate in arrivals per second: one per microsecond.
pub const RATE_MAX: f64 = 1e6;
/// The most requests of one run.
pub const REQUESTS_MAX: u64 = 1 << 31;
/// The most clients of one workload.
pub const CLIENTS_MAX: usize = 1 << 15;
/// The length of a prefix group that does not state one, in tokens.
pub const PREFIX_LENGTH_DEFAULT: u32 = 50;

/// Draws per distribution behind [`WorkloadSpec::offered`], shared among the clients.
const PROFILE_DRAWS: usize = 1 << 22;

/// Who arrives, when, wanting what. Reading checks all ranges; values built by hand must keep
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Arrivals per second of all clients together, shared out by their fractions; above 0, at
    /// most [`RATE_MAX`]. For a client with sessions an arrival is the *start of a session*.
    pub aggregate_rate: f64,
    /// When arrivals end.
    pub horizon: Option<Span>,
    /// How many requests there are, follow-up rounds included; at most [`REQUESTS_MAX`].
    pub num_requests: Option<u64>,
    /// The seed that the file names; a seed on the command line comes first.
    pub seed: Option<u64>,
    /// At least one, at most [`CLIENTS_MAX`].
    pub clients: Vec<ClientSpec>,
}

/// One client: a stream of requests alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSpec {
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Its SLO class; `default` where it has none.
    pub slo_class: String,
    /// Its share of the aggregate rate, relative to the other clients' fractions; above 0.
    pub rate_fraction: f64,
    /// The law of its arrivals.
    pub arrivals: Arrivals,
    /// New prompt tokens of a request, without prefix and without the conversation so far.
    pub prompt: Prompt,
    /// Answer lengths.
    pub output: Lengths,
    /// The tokens that its prompts start with.
    pub prefix: Option<Prefix>,
    /// When it is active: in order, disjoint; empty for always. Arrivals happen only inside:
    /// the clock of the arrival process stands still between windows.
    pub windows: Vec<Window>,
    /// Whether an arrival is one request, or starts a conversation of several rounds.
    pub sessions: Option<Sessions>,
}

/// The new tokens of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// One length.
    Text(Lengths),
    /// Text, and a number of images, audio clips and videos with a length each.
    Multimodal {
        /// Text tokens, where there is text.
        text: Option<Lengths>,
        /// Everything else.
        parts: Vec<Part>,
    },
}

/// Images, audio clips or videos.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// How many of them; `None` for one.
    pub count: Option<Lengths>,
    /// Tokens of each.
    pub tokens: Lengths,
}

/// Tokens shared by all requests of a group, from the start of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The group; clients that name the same group share its tokens.
    pub group: String,
    /// Its length in tokens, at most `LENGTH_MAX`; the first client of a group decides.
    pub length: u32,
}

/// A stretch of time in which a client is active: `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its start.
    pub start: Span,
    /// Its end; later than the start.
    pub end: Span,
    /// The client's rate in it, as a multiple of its rate elsewhere; above 0.
    pub rate: f64,
}

/// Conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Requests of one session; at least 1.
    pub max_rounds: u32,
    /// Between the end of an answer and the next round.
    pub think_time: Span,
    /// What a round's prompt contains.
    pub growth: Growth,
    /// What a round waits for.
    pub pacing: Pacing,
    /// Whether the client has a single session, started by its first arrival.
    pub single: bool,
}

/// What a round's prompt contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The whole conversation so far: the earlier prompt, its answer, then the new input. A
    /// session ends early before a round that would pass `LENGTH_MAX` tokens.
    Accumulate,
    /// The new input only (behind the group's prefix).
    None,
}

/// What a round waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// The answer of the round before it, and then the think time.
    Closed,
    /// Nothing: it comes the think time and one microsecond per answer token after the round
    /// before it, however long that answer really takes. Replays the reference, which also starts
    /// no further session of a client once twice the number of requests of the run are its own.
    Open,
}

/// Normal prompt and answer lengths of the rate mode, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct RateMode {
    /// Requests per second; above 0, at most [`RATE_MAX`].
    pub rate: f64,
    /// `Poisson`, or the reference's even spacing with the first request at time zero.
    pub arrivals: Arrivals,
    /// New prompt tokens.
    pub prompt: Lengths,
    /// Answer tokens.
    pub output: Lengths,
    /// Tokens that all prompts start with, in front of `prompt`.
    pub prefix_tokens: u32,
    /// The SLO class of all requests.
    pub slo_class: String,
}

/// What a workload asks of a fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offered {
    /// Requests per second, all rounds of sessions counted, at the time when the active windows
    /// together ask for most.
    pub requests_per_s: f64,
    /// Mean prompt tokens per request, prefix and conversation included.
    pub input_tokens_mean: f64,
    /// Mean answer tokens per request.
    pub output_tokens_mean: f64,
}

impl Default for RateMode {
    fn default() -> Self {
        Self {
            rate: 1.0,
            arrivals: Arrivals::Poisson,
            prompt: Lengths::gaussian(512.0, 256.0, 2.0, 7000.0),
            output: Lengths::gaussian(512.0, 256.0, 2.0, 7000.0),
            prefix_tokens: 0,
            slo_class: WorkloadSpec::CLASS_DEFAULT.to_owned(),
        }
    }
}

impl WorkloadSpec {
    /// The class of requests that name none.
    pub const CLASS_DEFAULT: &str = "default";

    /// One client at one rate.
    pub fn rate_mode(mode: RateMode) -> Self {
        let prefix = (mode.prefix_tokens > 0)
            .then(|| Prefix { group: "prefix".to_owned(), length: mode.prefix_tokens });
        let client = ClientSpec {
            name: "rate".to_owned(),
            tenant: Self::CLASS_DEFAULT.to_owned(),
            slo_class: mode.slo_class,
            rate_fraction: 1.0,
            arrivals: mode.arrivals,
            prompt: Prompt::Text(mode.prompt),
            output: mode.output,
            prefix,
            windows: Vec::new(),
            sessions: None,
        };
        Self {
            aggregate_rate: mode.rate,
            horizon: None,
            num_requests: None,
            seed: None,
            clients: vec![client],
        }
    }

    /// The nominal arrivals per second of each client, in order, outside special windows.
    pub fn client_rates(&self) -> Vec<f64> {
        let total: f64 = self.clients.iter().map(|client| client.rate_fraction).sum();
        self.clients
            .iter()
            .map(|client| self.aggregate_rate * (client.rate_fraction / total))
            .collect()
    }

    /// What this workload asks of a fleet. Mean lengths come from draws with a fixed seed (a
    /// relative error of about 1 %, more under heavy tails); rates are exact to the microsecond
    /// of a gap. A client with a single session counts as one request per think time (per second
    /// where that is shorter).
    pub fn offered(&self) -> Offered {
        let draws = (PROFILE_DRAWS / self.clients.len().max(1)).clamp(256, 1 << 16) as u32;
        let (mut requests, mut input, mut output) = (0.0, 0.0, 0.0);
        let mut edges = Vec::new();
        for (index, (client, rate)) in self.clients.iter().zip(self.client_rates()).enumerate() {
            let mut rng = Rng::new(0, Stream::Lengths, index as u64);
            let starts = 1e6 / client.arrivals.mean_gap_us(rate);
            let (rounds, prompt_mean, answer_mean) = client.session_means(&mut rng, draws);
            let weight = client.edges(starts * rounds, &mut edges);
            requests += weight;
            input += weight * prompt_mean;
            output += weight * answer_mean;
        }
        Offered {
            requests_per_s: peak(edges),
            input_tokens_mean: input / requests,
            output_tokens_mean: output / requests,
        }
    }

    /// Requests per second offered at most, all rounds of sessions counted.
    pub fn offered_rate(&self) -> f64 {
        self.offered().requests_per_s
    }
}

impl ClientSpec {
    /// Requests per arrival, and mean prompt and answer tokens of a request.
    fn session_means(&self, rng: &mut Rng, draws: u32) -> (f64, f64, f64) {
        let prefix = self.prefix.as_ref().map_or(0.0, |prefix| f64::from(prefix.length));
        let new = self.prompt.mean(rng, draws);
        let answer = self.output.mean(rng, draws);
        let Some(sessions) = &self.sessions else { return (1.0, prefix + new, answer) };
        let rounds = f64::from(sessions.max_rounds);
        let conversation = match sessions.growth {
            Growth::Accumulate => (rounds - 1.0) / 2.0 * (new + answer),
            Growth::None => 0.0,
        };
        (rounds, prefix + new + conversation, answer)
    }

    /// Appends when its rate changes and by how much; returns its weight among the clients.
    fn edges(&self, rate: f64, edges: &mut Vec<(Span, f64)>) -> f64 {
        if let Some(sessions) = self.sessions.as_ref().filter(|sessions| sessions.single) {
            let rate = 1.0 / sessions.think_time.as_secs().max(1.0);
            edges.push((Span::ZERO, rate));
            return rate;
        }
        if self.windows.is_empty() {
            edges.push((Span::ZERO, rate));
            return rate;
        }
        for window in &self.windows {
            edges.push((window.start, rate * window.rate));
            edges.push((window.end, -rate * window.rate));
        }
        let active = |w: &Window| (w.end.as_secs() - w.start.as_secs()) * w.rate;
        let span = self.windows.last().map_or(1.0, |window| window.end.as_secs());
        rate * self.windows.iter().map(active).sum::<f64>() / span
    }
}

impl Prompt {
    /// New tokens of one prompt, in 1..=`LENGTH_MAX`.
    pub(super) fn tokens(&self, rng: &mut Rng) -> u32 {
        match self {
            Self::Text(lengths) => lengths.tokens(rng),
            Self::Multimodal { text, parts } => {
                let mut sum = text.as_ref().map_or(0, |lengths| u64::from(lengths.tokens(rng)));
                for part in parts {
                    let count = part.count.as_ref().map_or(1, |counts| counts.count(rng));
                    sum += (0..count).map(|_| u64::from(part.tokens.tokens(rng))).sum::<u64>();
                }
                sum.clamp(1, u64::from(super::lengths::LENGTH_MAX)) as u32
            }
        }
    }

    fn mean(&self, rng: &mut Rng, draws: u32) -> f64 {
        match self {
            Self::Text(lengths) => lengths.mean(rng, draws),
            Self::Multimodal { .. } => {
                let draws = draws.clamp(1, 4096);
                (0..draws).map(|_| f64::from(self.tokens(rng))).sum::<f64>() / f64::from(draws)
            }
        }
    }
}

/// The highest sum of changes; at one instant ends come before starts.
fn peak(mut edges: Vec<(Span, f64)>) -> f64 {
    edges.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (mut now, mut peak) = (0.0_f64, 0.0_f64);
    for (_, change) in edges {
        now += change;
        peak = peak.max(now);
    }
    peak
}
