//! What a workload is: clients, each with its arrivals, lengths, prefix, windows and sessions.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::{Hash128, Rng, Span};

use super::arrivals::Arrivals;
use super::lengths::Lengths;
use super::profile::Profile;
use super::replay::Replay;
use super::trace::Targets;

/// The longest time of an arrival (53 days): half the clock, so that answers fit behind it.
pub const ARRIVAL_MAX: Span = Span::from_us((1 << 62) / 1_000_000);
/// The highest rate in arrivals per second: one per microsecond.
pub const RATE_MAX: f64 = 1e6;
/// The most requests of one run.
pub const REQUESTS_MAX: u64 = 1 << 31;
/// The most clients of one workload.
pub const CLIENTS_MAX: usize = 1 << 15;
/// The most users of one closed loop.
pub const USERS_MAX: u32 = 1 << 20;
/// The length of a prefix group that does not state one, in tokens.
pub const PREFIX_LENGTH_DEFAULT: u32 = 50;

/// Who arrives, when, wanting what. Reading checks all ranges; values built by hand must keep
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Arrivals per second of all open clients together, shared out by their fractions; above 0
    /// where there is one, at most [`RATE_MAX`]. For a client with sessions an arrival is the
    /// *start of a session*.
    pub aggregate_rate: f64,
    /// When arrivals end.
    pub horizon: Option<Span>,
    /// How many requests there are, follow-up rounds included; at most [`REQUESTS_MAX`].
    pub num_requests: Option<u64>,
    /// The seed that the file names; a seed on the command line comes first.
    pub seed: Option<u64>,
    /// At least one unless there is a trace to replay; at most [`CLIENTS_MAX`].
    pub clients: Vec<ClientSpec>,
    /// Requests as somebody recorded them, beside those of the clients.
    pub replay: Option<Arc<Replay>>,
    /// The trace files behind this workload.
    pub files: Vec<FileDigest>,
    /// What SLO classes were promised, by name.
    pub targets: Vec<(String, Targets)>,
}

/// A file that a workload was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// Its name as the workload gives it.
    pub file: String,
    /// Its length in bytes, as it lies on the disk.
    pub bytes: u64,
    /// FNV-1a of those bytes.
    pub fnv1a: u64,
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
    /// Its share of the aggregate rate, relative to the other clients' fractions; above 0, but 0
    /// for a closed loop.
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
    /// How its rate moves; inside windows it multiplies theirs.
    pub profile: Option<Arc<Profile>>,
    /// Whether an arrival is one request, or starts a conversation of several rounds.
    pub sessions: Option<Sessions>,
    /// Users that ask again once they are answered, in place of arrivals at a rate; such a client
    /// has no windows, profile or sessions.
    pub closed_loop: Option<ClosedLoop>,
    /// The instance that all its requests go to, past the router.
    pub pinned_instance: Option<u32>,
}

/// Users who each wait for their answer, think, and ask again, until arrivals end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedLoop {
    /// How many; at least 1, at most [`USERS_MAX`]. User `u` begins `u / users` of the think time
    /// after the start.
    pub users: u32,
    /// Between the end of an answer and the next request.
    pub think_time: Span,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its start.
    pub start: Span,
    /// Its end; later than the start.
    pub end: Span,
    /// The client's rate in it, as a multiple of its nominal rate; above 0.
    pub rate: f64,
    /// What is different in it.
    pub own: Option<Arc<WindowOwn>>,
}

/// Laws of one window in place of the client's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowOwn {
    /// The law of arrivals, at the rate of the window. Its process has always been going on when
    /// the window begins, so that the expected number of arrivals is rate times length.
    pub arrivals: Option<Arrivals>,
    /// New prompt tokens.
    pub prompt: Option<Lengths>,
    /// Answer tokens.
    pub output: Option<Lengths>,
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
    /// Feeds `hash` with all that its realisations depend on: traces by their rows, whatever their
    /// files are called.
    pub fn feed(&self, hash: &mut Hash128) {
        let nameless = Self { files: Vec::new(), ..self.clone() };
        write!(hash, "{nameless:?}").expect("a hash takes any text");
        if let Some(replay) = &self.replay {
            replay.feed(hash);
        }
    }

    /// What each of `classes` was promised.
    pub(super) fn targets_of(&self, classes: &[String]) -> Vec<Targets> {
        let of = |class: &String| {
            let named = self.targets.iter().find(|(name, _)| name == class);
            named.map_or(Targets::NONE, |&(_, targets)| targets)
        };
        classes.iter().map(of).collect()
    }

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
            ..ClientSpec::default()
        };
        Self { aggregate_rate: mode.rate, clients: vec![client], ..Self::default() }
    }

    /// The nominal arrivals per second of each client, in order; 0 for a closed loop.
    pub fn client_rates(&self) -> Vec<f64> {
        let total: f64 = self.clients.iter().map(|client| client.rate_fraction).sum();
        let share = |client: &ClientSpec| match client.closed_loop {
            None => self.aggregate_rate * (client.rate_fraction / total),
            Some(_) => 0.0,
        };
        self.clients.iter().map(share).collect()
    }

    /// The SLO classes of all requests, each once, in order of first mention.
    pub fn class_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let replayed = self.replay.iter().flat_map(|replay| &replay.clients);
        let replayed = replayed.map(|client| &client.class);
        for class in self.clients.iter().map(|client| &client.slo_class).chain(replayed) {
            if !names.contains(class) {
                names.push(class.clone());
            }
        }
        names
    }
}

impl Default for ClientSpec {
    /// An open client with Poisson arrivals and the lengths of [`RateMode`].
    fn default() -> Self {
        let RateMode { arrivals, prompt, output, slo_class, .. } = RateMode::default();
        Self {
            name: String::new(),
            tenant: WorkloadSpec::CLASS_DEFAULT.to_owned(),
            slo_class,
            rate_fraction: 1.0,
            arrivals,
            prompt: Prompt::Text(prompt),
            output,
            prefix: None,
            windows: Vec::new(),
            profile: None,
            sessions: None,
            closed_loop: None,
            pinned_instance: None,
        }
    }
}

impl Default for WorkloadSpec {
    /// Nobody at all, to be filled in.
    fn default() -> Self {
        Self {
            aggregate_rate: 0.0,
            horizon: None,
            num_requests: None,
            seed: None,
            clients: Vec::new(),
            replay: None,
            files: Vec::new(),
            targets: Vec::new(),
        }
    }
}

impl Window {
    /// The client as it always is, from `start` to `end`.
    pub const fn new(start: Span, end: Span) -> Self {
        Self { start, end, rate: 1.0, own: None }
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

    pub(super) fn mean(&self, rng: &mut Rng, draws: u32) -> f64 {
        match self {
            Self::Text(lengths) => lengths.mean(rng, draws),
            Self::Multimodal { .. } => {
                let draws = draws.clamp(1, 4096);
                (0..draws).map(|_| f64::from(self.tokens(rng))).sum::<f64>() / f64::from(draws)
            }
        }
    }
}
