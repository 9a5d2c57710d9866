//! What an autoscaler sees: gauges, counters and latencies, as old as the last scrape.

use std::collections::VecDeque;

use crate::base::{Bins, SimTime, Span, bins};
use crate::policy::Batching;

/// A figure that a rule can look at. Gauges are of one pool and of the last scrape; rates and
/// latencies are of a window that ends there, latencies and arrivals of the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Requests that wait: in the queues of the pool's instances, on the way there, or held at
    /// the router for want of an instance.
    Waiting,
    /// The same over the pool's ready instances.
    WaitingPerInstance,
    /// Requests in a batch.
    Running,
    /// The same over the pool's ready instances.
    RunningPerInstance,
    /// Requests that wait or are in a batch.
    InFlight,
    /// The same over the pool's ready instances.
    InFlightPerInstance,
    /// Tokens of prompt and answer computed so far, or still to be computed of the prompt, of all
    /// requests on the pool's instances.
    InFlightTokens,
    /// The same over the pool's ready instances.
    InFlightTokensPerInstance,
    /// Share of KV blocks in use on the pool's ready instances.
    KvUtilization,
    /// Quantile of the time to first token, in milliseconds; the level in percent.
    Ttft(u8),
    /// Quantile of the time per output token after the first, in milliseconds.
    Tpot(u8),
    /// Quantile of the time to the last token, in milliseconds.
    E2e(u8),
    /// Requests that reached the cluster per second, retries counted.
    ArrivalRate,
    /// The same over the ready instances of the pool.
    ArrivalRatePerInstance,
    /// Share of time in which a step was running: what is exported as GPU utilization, near 1 on
    /// any loaded engine, full or not.
    BusyFraction,
    /// Tokens computed, each weighed by the time it takes in a full batch, over the time in which
    /// instances were ready: 1 at capacity.
    TokenUtilization,
    /// Mean tokens of the prompts of requests that were answered.
    PromptTokensMean,
    /// Mean tokens of the answers.
    OutputTokensMean,
}

impl Signal {
    /// Every signal with its name.
    pub const ALL: [(&'static str, Self); 22] = [
        ("waiting", Self::Waiting),
        ("waiting_per_instance", Self::WaitingPerInstance),
        ("running", Self::Running),
        ("running_per_instance", Self::RunningPerInstance),
        ("in_flight", Self::InFlight),
        ("in_flight_per_instance", Self::InFlightPerInstance),
        ("in_flight_tokens", Self::InFlightTokens),
        ("in_flight_tokens_per_instance", Self::InFlightTokensPerInstance),
        ("kv_utilization", Self::KvUtilization),
        ("ttft_p50_ms", Self::Ttft(50)),
        ("ttft_p95_ms", Self::Ttft(95)),
        ("ttft_p99_ms", Self::Ttft(99)),
        ("tpot_p50_ms", Self::Tpot(50)),
        ("tpot_p99_ms", Self::Tpot(99)),
        ("e2e_p50_ms", Self::E2e(50)),
        ("e2e_p99_ms", Self::E2e(99)),
        ("arrival_rate", Self::ArrivalRate),
        ("arrival_rate_per_instance", Self::ArrivalRatePerInstance),
        ("busy_fraction", Self::BusyFraction),
        ("token_utilization", Self::TokenUtilization),
        ("prompt_tokens_mean", Self::PromptTokensMean),
        ("output_tokens_mean", Self::OutputTokensMean),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, signal)| *signal == self).map_or("signal", |(name, _)| name)
    }

    /// Whether it grows with the number of instances that the load would need.
    pub const fn is_total(self) -> bool {
        matches!(
            self,
            Self::Waiting
                | Self::Running
                | Self::InFlight
                | Self::InFlightTokens
                | Self::ArrivalRate
        )
    }

    /// Whether it is a quantile of latencies.
    pub const fn is_latency(self) -> bool {
        matches!(self, Self::Ttft(_) | Self::Tpot(_) | Self::E2e(_))
    }

    /// Whether it tells of single requests, so that each has to be watched.
    pub const fn is_of_requests(self) -> bool {
        self.is_latency() || matches!(self, Self::PromptTokensMean | Self::OutputTokensMean)
    }
}

/// How quantiles of latencies are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantiles {
    /// From fine bins: within 1 %.
    #[default]
    Exact,
    /// From the buckets that vLLM exports, interpolated as Prometheus does.
    Buckets,
}

/// What the scrapes of a window amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their mean, which is that over time: scrapes are evenly spaced.
    #[default]
    Mean,
    /// The highest.
    Max,
    /// The lowest.
    Min,
}

/// One pool at a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolSample {
    /// Instances that are ready, crashed ones that nobody noticed yet included.
    pub ready: u32,
    /// Requests in wait queues of instances that are ready or draining, or on the way there.
    pub waiting: u64,
    /// Requests in the batches of these.
    pub running: u64,
    /// Their tokens, see [`Signal::InFlightTokens`].
    pub in_flight_tokens: u64,
    /// KV blocks in use on ready instances.
    pub kv_used: u64,
    /// KV blocks of ready instances.
    pub kv_total: u64,
    /// Time stepped so far, over all its places; a step under way counts up to now.
    pub busy_ps: u128,
    /// Time ready or draining so far, over all its places.
    pub ready_ps: u128,
    /// Prompt tokens of steps that began so far.
    pub prefill_tokens: u64,
    /// Answer tokens of steps that began so far.
    pub decode_tokens: u64,
}

/// The last step of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Prompt tokens computed.
    pub prefill_tokens: u32,
    /// How long it takes.
    pub length: Span,
}

/// A ready instance at a scrape, for who wants to know each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSample {
    /// The place.
    pub place: u32,
    /// Its pool, by position.
    pub pool: u32,
    /// The last step that began; `None` while it idles.
    pub pass: Option<Pass>,
    /// Requests that decode.
    pub decoding: u32,
    /// Tokens of theirs in the KV cache.
    pub decode_kv_tokens: u64,
    /// Prompt tokens of requests in its wait queue or on the way there.
    pub queued_prompt_tokens: u64,
    /// Tokens that its KV cache holds.
    pub kv_tokens: u64,
    /// Limits of its steps.
    pub limits: Batching,
}

/// One instance at a scrape: what is exported by pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstanceSample {
    /// Its pool, by position.
    pub pool: u32,
    /// Its place; with the time of its launch the name of the pod.
    pub place: u32,
    /// When it was launched.
    pub launched: SimTime,
    /// Since when it is ready; `None` while it starts.
    pub ready_since: Option<SimTime>,
    /// Requests in its wait queue, or on the way there.
    pub waiting: u64,
    /// Tokens that the KV blocks in use have room for.
    pub kv_used: u64,
    /// Tokens that all its KV blocks have room for; 0 while it starts.
    pub kv_total: u64,
    /// Time stepped so far in its place; a step under way counts up to now.
    pub busy_ps: u128,
}

impl InstanceSample {
    fn is_same(&self, other: &Self) -> bool {
        (self.place, self.launched) == (other.place, other.launched)
    }
}

/// The highest that a ready instance showed over a window, `max_over_time` of Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// Requests waiting.
    pub waiting: u64,
    /// Tokens that the KV blocks in use have room for.
    pub kv_used: u64,
    /// Tokens that all its KV blocks have room for.
    pub kv_total: u64,
}

impl Peak {
    /// The share of its KV blocks in use.
    pub fn kv_utilization(&self) -> f64 {
        self.kv_used as f64 / self.kv_total as f64
    }
}

/// What a scrape found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it was.
    pub at: SimTime,
    /// Requests that reached the cluster so far, retries counted.
    pub arrivals: u64,
    /// Prompt tokens of these.
    pub prompt_tokens: u64,
    /// Requests held at the router for want of an instance.
    pub held: u64,
    /// By pool.
    pub pools: Vec<PoolSample>,
    /// Ready instances in order of places; empty unless somebody wants to know each.
    pub engines: Vec<EngineSample>,
    /// Times to first token known since the scrape before.
    pub ttft: Bins,
    /// Times per output token of requests answered since then.
    pub tpot: Bins,
    /// Times to last token of requests answered since then.
    pub e2e: Bins,
    /// How many were answered since then, and their tokens.
    pub answered: Answered,
    /// Instances that start or are ready, in the order of places, where anybody looks at them.
    pub instances: Vec<InstanceSample>,
}

/// Requests that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// How many.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
}

impl Answered {
    /// Counts one more.
    pub fn add(&mut self, prompt: u32, output: u32) {
        self.requests += 1;
        self.prompt_tokens += u64::from(prompt);
        self.output_tokens += u64::from(output);
    }
}

impl Sample {
    /// The value of a gauge of `pool`, infinite or no number per instance without an instance;
    /// `None` for a signal that is no gauge.
    fn gauge(&self, signal: Signal, pool: usize) -> Option<f64> {
        let now = &self.pools[pool];
        let ready = f64::from(now.ready);
        let waiting = (now.waiting + self.held) as f64;
        let (running, tokens) = (now.running as f64, now.in_flight_tokens as f64);
        Some(match signal {
            Signal::Waiting => waiting,
            Signal::WaitingPerInstance => waiting / ready,
            Signal::Running => running,
            Signal::RunningPerInstance => running / ready,
            Signal::InFlight => waiting + running,
            Signal::InFlightPerInstance => (waiting + running) / ready,
            Signal::InFlightTokens => tokens,
            Signal::InFlightTokensPerInstance => tokens / ready,
            Signal::KvUtilization => now.kv_used as f64 / now.kv_total as f64,
            _ => return None,
        })
    }
}

/// Requests over some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Those that reached the cluster, retries counted.
    pub requests: u64,
    /// Over so many seconds.
    pub seconds: f64,
    /// Mean prompt of these in tokens; no number without any.
    pub prompt_mean: f64,
    /// Mean answer in tokens of those that were answered; no number without any.
    pub answer_mean: f64,
}

/// What computes a token's worth of time, for [`Signal::TokenUtilization`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenCost {
    /// Seconds per prompt token.
    pub prefill_s: f64,
    /// Seconds per answer token in a full batch.
    pub decode_s: f64,
}

/// The scrapes of the longest window that anybody looks at, the last one last.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    ring: VecDeque<Sample>,
    longest: Span,
    costs: Vec<TokenCost>,
}

/// Empty histograms for times to first token, times per token and times to last token.
pub fn empty_latencies(quantiles: Quantiles) -> [Bins; 3] {
    match quantiles {
        Quantiles::Exact => [Bins::new(&[]), Bins::new(&[]), Bins::new(&[])],
        Quantiles::Buckets => [
            Bins::new(bins::TTFT_BOUNDS),
            Bins::new(bins::TPOT_BOUNDS),
            Bins::new(bins::E2E_BOUNDS),
        ],
    }
}

impl Samples {
    /// No scrapes yet; those of the last `longest` are kept. `costs` has one entry per pool.
    pub fn new(longest: Span, costs: Vec<TokenCost>) -> Self {
        Self { ring: VecDeque::new(), longest, costs }
    }

    /// Adds a scrape, later than the last one.
    pub fn push(&mut self, sample: Sample) {
        // The one at the start of the window stays: counters are compared with it.
        while self.ring.get(1).is_some_and(|next| sample.at.since(next.at) >= self.longest) {
            self.ring.pop_front();
        }
        self.ring.push_back(sample);
    }

    /// The last scrape.
    pub fn last(&self) -> Option<&Sample> {
        self.ring.back()
    }

    /// The value of `signal` for pool `pool` over `window`; `None` where there is none: before the
    /// first scrape, without requests in the window, per instance without an instance.
    pub fn value(&self, signal: Signal, pool: usize, window: Span) -> Option<f64> {
        let last = self.last()?;
        let ready = f64::from(last.pools[pool].ready);
        let value = match signal {
            Signal::Ttft(level) => return self.quantile(level, window, |sample| &sample.ttft),
            Signal::Tpot(level) => return self.quantile(level, window, |sample| &sample.tpot),
            Signal::E2e(level) => return self.quantile(level, window, |sample| &sample.e2e),
            Signal::ArrivalRate => self.arrival_rate(window),
            Signal::ArrivalRatePerInstance => self.arrival_rate(window) / ready,
            Signal::BusyFraction => {
                let (busy, possible) = self.busy(pool, window);
                busy / possible
            }
            Signal::TokenUtilization => {
                self.token_seconds(pool, window) / self.busy(pool, window).1
            }
            Signal::PromptTokensMean => {
                let answered = self.answered(window);
                answered.prompt_tokens as f64 / answered.requests as f64
            }
            Signal::OutputTokensMean => {
                let answered = self.answered(window);
                answered.output_tokens as f64 / answered.requests as f64
            }
            gauge => last.gauge(gauge, pool).unwrap_or(f64::NAN),
        };
        value.is_finite().then_some(value)
    }

    /// What a gauge amounts to over the scrapes less than `window` before the last one; any other
    /// signal is as [`Samples::value`] has it. `None` where no scrape has a value.
    pub fn over(
        &self,
        signal: Signal,
        pool: usize,
        window: Span,
        aggregate: Aggregate,
    ) -> Option<f64> {
        let last = self.last()?;
        if last.gauge(signal, pool).is_none() {
            return self.value(signal, pool, window);
        }
        let (mut sum, mut count, mut low, mut high) = (0.0, 0_u32, f64::INFINITY, 0.0_f64);
        for sample in self.recent(last.at, window) {
            let Some(value) = sample.gauge(signal, pool).filter(|value| value.is_finite()) else {
                continue;
            };
            sum += value;
            count += 1;
            (low, high) = (low.min(value), high.max(value));
        }
        (count > 0).then(|| match aggregate {
            Aggregate::Mean => sum / f64::from(count),
            Aggregate::Max => high,
            Aggregate::Min => low,
        })
    }

    /// Requests that reached the cluster within `window` before the last scrape, retries counted;
    /// `None` before the first.
    pub fn arrivals(&self, window: Span) -> Option<u64> {
        self.increase(window, |sample| sample.arrivals).map(|(arrivals, _)| arrivals)
    }

    /// What reached and left the cluster within `window` before the last scrape; `None` before the
    /// first.
    pub fn traffic(&self, window: Span) -> Option<Traffic> {
        let of = |count: fn(&Sample) -> u64| self.increase(window, count);
        let answered = self.answered(window);
        let (requests, seconds) = of(|sample| sample.arrivals)?;
        let mean = |tokens: Option<(u64, f64)>, requests: Option<(u64, f64)>| {
            tokens.map_or(0, |(tokens, _)| tokens) as f64 / requests.map_or(0, |(n, _)| n) as f64
        };
        Some(Traffic {
            requests,
            seconds,
            prompt_mean: mean(of(|sample| sample.prompt_tokens), of(|sample| sample.arrivals)),
            answer_mean: answered.output_tokens as f64 / answered.requests as f64,
        })
    }

    /// The ready instances of `pool` at the last scrape, in the order of places, each with the
    /// highest that it showed over `window`.
    pub fn peaks(&self, pool: u32, window: Span) -> Vec<Peak> {
        let Some(last) = self.last() else { return Vec::new() };
        let is_ready = |seen: &&InstanceSample| seen.pool == pool && seen.ready_since.is_some();
        let peak = |pod: &InstanceSample| {
            let mut peak = Peak { kv_total: pod.kv_total, ..Peak::default() };
            for sample in self.recent(last.at, window) {
                let Some(seen) = sample.instances.iter().find(|seen| seen.is_same(pod)) else {
                    continue;
                };
                peak.waiting = peak.waiting.max(seen.waiting);
                peak.kv_used = peak.kv_used.max(seen.kv_used);
            }
            peak
        };
        last.instances.iter().filter(is_ready).map(peak).collect()
    }

    /// The share of `window` in which a step was running on `pod`, as seen at the last scrape.
    pub fn busy_of(&self, pod: &InstanceSample, window: Span) -> f64 {
        let (Some(first), Some(last)) = (self.first(window), self.last()) else { return 0.0 };
        let before = first.instances.iter().find(|seen| seen.is_same(pod));
        // Who was not there before has done nothing before; its place may have.
        let busy = before.map_or(0, |before| pod.busy_ps - before.busy_ps);
        let length = last.at.since(first.at).as_ps();
        if length == 0 { 0.0 } else { busy as f64 / length as f64 }
    }

    /// The last scrape, and those less than `window` before it, backwards.
    fn recent(&self, last: SimTime, window: Span) -> impl Iterator<Item = &Sample> {
        let is_recent = move |sample: &&Sample| {
            let age = last.since(sample.at);
            age == Span::ZERO || age < window
        };
        self.ring.iter().rev().take_while(is_recent)
    }

    /// What was answered in the window.
    fn answered(&self, window: Span) -> Answered {
        let mut sum = Answered::default();
        let Some(last) = self.last() else { return sum };
        for Answered { requests, prompt_tokens, output_tokens } in
            self.recent(last.at, window).map(|sample| sample.answered)
        {
            sum.requests += requests;
            sum.prompt_tokens += prompt_tokens;
            sum.output_tokens += output_tokens;
        }
        sum
    }

    /// The scrape that the window begins with: the last one that is at least as old, else the
    /// oldest.
    fn first(&self, window: Span) -> Option<&Sample> {
        let last = self.last()?.at;
        let old = self.ring.iter().rev().find(|sample| last.since(sample.at) >= window);
        old.or(self.ring.front())
    }

    fn quantile(&self, level: u8, window: Span, of: impl Fn(&Sample) -> &Bins) -> Option<f64> {
        let last = self.last()?;
        let mut sum = of(last).clone();
        for sample in self.ring.iter().rev().skip(1) {
            if last.at.since(sample.at) >= window {
                break;
            }
            sum.merge(of(sample));
        }
        sum.quantile_ms(f64::from(level) / 100.0)
    }

    /// The increase of a counter over the window; from the start where the window reaches there.
    fn increase<T: Copy + std::ops::Sub<Output = T>>(
        &self,
        window: Span,
        of: impl Fn(&Sample) -> T,
    ) -> Option<(T, f64)> {
        let (first, last) = (self.first(window)?, self.last()?);
        Some((of(last) - of(first), last.at.since(first.at).as_secs()))
    }

    fn arrival_rate(&self, window: Span) -> f64 {
        let increase = self.increase(window, |sample| sample.arrivals);
        increase.map_or(f64::NAN, |(arrivals, seconds)| arrivals as f64 / seconds)
    }

    /// Seconds stepped and seconds ready in the window.
    fn busy(&self, pool: usize, window: Span) -> (f64, f64) {
        let seconds = |ps: u128| ps as f64 / 1e12;
        let busy = self.increase(window, |sample| sample.pools[pool].busy_ps);
        let ready = self.increase(window, |sample| sample.pools[pool].ready_ps);
        let of = |increase: Option<(u128, f64)>| increase.map_or(f64::NAN, |(ps, _)| seconds(ps));
        (of(busy), of(ready))
    }

    /// Seconds that the tokens of the window take at capacity.
    fn token_seconds(&self, pool: usize, window: Span) -> f64 {
        let prefill = self.increase(window, |sample| sample.pools[pool].prefill_tokens);
        let decode = self.increase(window, |sample| sample.pools[pool].decode_tokens);
        let (Some((prefill, _)), Some((decode, _))) = (prefill, decode) else { return f64::NAN };
        let cost = self.costs[pool];
        prefill as f64 * cost.prefill_s + decode as f64 * cost.decode_s
    }
}

#[cfg(test)]
#[path = "signals_tests.rs"]
mod tests;
