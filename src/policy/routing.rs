//! Where an admitted request goes, as a bundle says it.

/// Where an admitted request goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// In turn.
    RoundRobin,
    /// To the smallest load (waiting + running + on the way), ties to the lowest index.
    LeastLoaded,
    /// To the largest load; an adversary for tests.
    AlwaysBusiest,
    /// To the highest weighted sum of scores, ties to the lowest index; weights above 0.
    Weighted(Vec<(ScorerKind, f64)>),
    /// The same sums with another choice among them.
    Picked(Vec<(ScorerKind, f64)>, Picker),
    /// Where the same last full prompt block went before, else as `LeastLoaded`.
    PrefixAffinity,
    /// In turn, as often as weights say: nginx's smooth weighted round robin.
    WeightedRoundRobin(Weights),
    /// To the fewest connections over weight; ties in turn by weight: nginx's `least_conn`. A
    /// connection is a request that this router sent and that has not left its instance; requests
    /// that went past the router are not seen.
    LeastConnections(Weights),
    /// To the fewest connections of so many instances taken at random, with repetition, ties to
    /// the first taken: Envoy's `LEAST_REQUEST`; at least 1.
    LeastOutstanding(u32),
    /// Where its session went before, or others with its prefix; who shares nothing, and who is
    /// the first, goes to the fewest connections.
    SessionAffinity,
    /// By chance, in proportion to scores made of what instances export.
    F5(F5),
}

/// Who is taken of those that were scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picker {
    /// The best; among equals by chance.
    AnyBest,
    /// By chance, in proportion to the sum of scores; uniformly where all sums are 0.
    WeightedRandom,
}

/// How much of the traffic an instance is to get, relative to others.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// All alike.
    Equal,
    /// Tokens per second of an instance in a full batch that computes as many tokens of answers
    /// as of prompts, as its latency model has it.
    Capacity,
    /// One weight per pool, in their order; above 0.
    Pools(Vec<f64>),
}

/// What a scorer looks at; scores are in [0, 1].
///
/// `sent` is what this router sent to an instance and has not left it; `waiting` and `running` are
/// what the instance exported last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScorerKind {
    /// `(max - load) / (max - min)`; 1 for all when equal.
    QueueDepth,
    /// `1 - used / total` KV blocks.
    KvUtilization,
    /// `1 / (1 + load)`.
    LoadBalance,
    /// The share of the prompt's full blocks that this instance was sent before, from the start.
    PrefixAffinity,
    /// `(c - min) / (max - min)` of the prompt's blocks that are in the cache now, from the start;
    /// 1 for all when equal.
    PrecisePrefixCache,
    /// 0.5 for all where some instance has a block of the prompt; else the longer ago an instance
    /// was sent such a cold prompt, the better: `1 - rank / (n - 1)`, those never sent one first.
    NoHitLru,
    /// `(max - sent) / max`; 1 where nothing was sent.
    ActiveRequests,
    /// `(max - waiting) / (max - min)`; 1 for all when equal.
    WaitingRequests,
    /// `(max - running) / (max - min)`; 1 for all when equal.
    RunningRequests,
    /// The same of `4 waiting + running`.
    VllmDp,
    /// `0.5 (1 - min(waiting, threshold) / threshold)`.
    LoadAware {
        /// Requests; at least 1.
        threshold: u32,
    },
    /// `1 - min(1, tokens / threshold)` of the prompts sent and not yet computed in full.
    TokenLoad {
        /// Tokens; at least 1.
        threshold: u32,
    },
}

impl ScorerKind {
    /// Every scorer, with its name in a bundle and the threshold of the endpoint picker.
    pub const ALL: [(&'static str, Self); 12] = [
        ("queue-depth", Self::QueueDepth),
        ("kv-utilization", Self::KvUtilization),
        ("load-balance", Self::LoadBalance),
        ("prefix-affinity", Self::PrefixAffinity),
        ("precise-prefix-cache", Self::PrecisePrefixCache),
        ("no-hit-lru", Self::NoHitLru),
        ("active-requests", Self::ActiveRequests),
        ("waiting-requests", Self::WaitingRequests),
        ("running-requests", Self::RunningRequests),
        ("vllm-dp", Self::VllmDp),
        ("load-aware", Self::LoadAware { threshold: 128 }),
        ("token-load", Self::TokenLoad { threshold: 4_194_304 }),
    ];
}

/// The scheduler of F5's inference gateway (`llm-inference-lb`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F5 {
    /// How scores are made.
    pub mode: F5Mode,
    /// The weight of waiting requests; not negative, nor are the others.
    pub w_a: f64,
    /// The weight of the KV cache in use.
    pub w_b: f64,
    /// The weight of running requests; only the modes of three metrics look at it.
    pub w_g: f64,
    /// Waiting requests at which [`F5Mode::S2DynamicWaiting`] has moved to the weight of waiting;
    /// above 0.
    pub transition_point: f64,
    /// How fast it does; above 0.
    pub steepness: f64,
    /// Instances with more running are passed over.
    pub running_threshold: Option<u32>,
    /// Instances with more waiting are passed over. Where none is left, and where all scores are
    /// 0, the balancer goes by its own method, the fewest connections.
    pub waiting_threshold: Option<u32>,
}

/// How [`F5`] makes scores of waiting w, cache use c and running r.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F5Mode {
    /// `w_a (1 - minmax(w)) + w_b (1 - c)`.
    S1,
    /// The same with the logarithm of c over the least c, in [0.2, 1].
    S1Enhanced,
    /// Both by range; the metric that varies more gets more weight.
    S1Adaptive,
    /// As `S1Enhanced`, and `w_g (1 - log)` of running, in [0.15, 0.95].
    S2Enhanced,
    /// Each metric by its distribution; the longer the longest queue, the more weight it gets.
    S2DynamicWaiting,
}

impl F5Mode {
    /// Every mode, with the name of its policy in a bundle and its documented weights.
    pub const ALL: [(&'static str, Self, [f64; 3]); 5] = [
        ("f5-s1", Self::S1, [0.2, 0.8, 0.0]),
        ("f5-s1-enhanced", Self::S1Enhanced, [0.2, 0.8, 0.0]),
        ("f5-s1-adaptive", Self::S1Adaptive, [0.2, 0.8, 0.0]),
        ("f5-s2-enhanced", Self::S2Enhanced, [0.4, 0.4, 0.2]),
        ("f5-s2-dynamic-waiting", Self::S2DynamicWaiting, [0.4, 0.3, 0.3]),
    ];
}

impl F5 {
    /// The documented weights of `mode`, without thresholds.
    pub fn new(mode: F5Mode) -> Self {
        let known = F5Mode::ALL.iter().find(|(_, other, _)| *other == mode);
        let [w_a, w_b, w_g] = known.expect("every mode is in the table").2;
        Self {
            mode,
            w_a,
            w_b,
            w_g,
            transition_point: 30.0,
            steepness: 1.0,
            running_threshold: None,
            waiting_threshold: None,
        }
    }

    /// Whether running requests are looked at.
    pub fn weighs_running(&self) -> bool {
        matches!(self.mode, F5Mode::S2Enhanced | F5Mode::S2DynamicWaiting)
    }
}
