//! Gathers the figures of a run while it runs.

use crate::base::{Distribution, InstanceId, SimTime, Span};
use crate::sim::live::Live;
use crate::sim::outcome::{
    ClassOutcome, Counts, Outcome, RequestRecord, RequestState, RunOptions, Stability, StepRecord,
    Summary,
};
use crate::sim::source::Source;

/// Intervals of the arrival time in which requests that come and go are counted.
const INTERVALS: usize = 64;

/// The distributions of one class, or of all.
#[derive(Debug, Default)]
struct Latencies {
    measured: Counts,
    ttft: Distribution,
    tpot: Distribution,
    e2e: Distribution,
}

impl Latencies {
    fn clear(&mut self) {
        self.measured = Counts::default();
        self.ttft.clear();
        self.tpot.clear();
        self.e2e.clear();
    }
}

/// Gathers the figures of a run.
#[derive(Debug, Default)]
pub struct Collector {
    keep_requests: bool,
    warm_up: SimTime,
    end: SimTime,
    last_arrival: SimTime,
    output_time: Vec<Span>,
    counts: Counts,
    all: Latencies,
    classes: Vec<Latencies>,
    itl: Distribution,
    scheduling_delay: Distribution,
    input_tokens: u64,
    output_tokens: u64,
    came: Vec<u64>,
    went: Vec<u64>,
    interval_ps: f64,
    requests: Vec<RequestRecord>,
    pub(super) steps: Vec<StepRecord>,
}

impl Collector {
    /// Forgets the last run. `output_time` is what each instance adds to a reported token.
    pub fn reset(&mut self, source: &impl Source, options: &RunOptions, output_time: Vec<Span>) {
        self.keep_requests = options.keep_requests;
        self.warm_up = options.warm_up;
        self.end = source.end().min(options.horizon);
        self.last_arrival = SimTime::ZERO;
        self.output_time = output_time;
        self.counts = Counts::default();
        self.all.clear();
        self.classes.iter_mut().for_each(Latencies::clear);
        self.classes.resize_with(source.classes().len(), Latencies::default);
        self.itl.clear();
        self.scheduling_delay.clear();
        (self.input_tokens, self.output_tokens) = (0, 0);
        self.came.clear();
        self.came.resize(INTERVALS, 0);
        self.went.clear();
        self.went.resize(INTERVALS, 0);
        self.interval_ps = (self.end.as_ps() as f64 / INTERVALS as f64).max(1.0);
        self.requests.clear();
        if options.keep_requests {
            self.requests.resize(source.len(), RequestRecord::default());
        }
        self.steps.clear();
    }

    fn interval(&self, time: SimTime) -> usize {
        ((time.as_ps() as f64 / self.interval_ps) as usize).min(INTERVALS)
    }

    fn is_measured(&self, live: &Live) -> bool {
        live.arrival >= self.warm_up
    }

    /// Counts `live` in the buckets that `bucket` chooses.
    fn count(&mut self, live: &Live, bucket: impl Fn(&mut Counts) -> &mut u64) {
        *bucket(&mut self.counts) += 1;
        if self.is_measured(live) {
            *bucket(&mut self.all.measured) += 1;
            *bucket(&mut self.classes[usize::from(live.class)].measured) += 1;
        }
    }

    fn record(&mut self, live: &Live, change: impl Fn(&mut RequestRecord)) {
        if self.keep_requests {
            change(&mut self.requests[live.id as usize]);
        }
    }

    fn leave(&mut self, time: SimTime) {
        let interval = self.interval(time);
        if let Some(went) = self.went.get_mut(interval) {
            *went += 1;
        }
    }

    /// A request reached the cluster.
    pub fn arrived(&mut self, live: &Live) {
        self.count(live, |counts| &mut counts.injected);
        self.last_arrival = live.arrival;
        let interval = self.interval(live.arrival).min(INTERVALS - 1);
        self.came[interval] += 1;
        if self.keep_requests && live.id as usize >= self.requests.len() {
            self.requests.resize(live.id as usize + 1, RequestRecord::default());
        }
        self.record(live, |record| {
            record.state = RequestState::Queued;
            record.arrival_us = live.arrival.as_us();
        });
    }

    /// A request was turned away at `now`.
    pub fn rejected(&mut self, live: &Live, now: SimTime) {
        self.count(live, |counts| &mut counts.rejected);
        self.leave(now);
        self.record(live, |record| record.state = RequestState::Rejected);
    }

    /// A request was sent to `instance` at `now`.
    pub fn routed(&mut self, live: &Live, instance: u32, now: SimTime) {
        self.record(live, |record| {
            record.instance = Some(InstanceId(instance));
            record.routed_us = now.as_us();
        });
    }

    /// A request joined the wait queue at `now`.
    pub fn enqueued(&mut self, live: &Live, now: SimTime) {
        self.record(live, |record| record.enqueued_us = now.as_us());
    }

    /// A request can never be served; it left at `now`.
    pub fn dropped(&mut self, live: &Live, now: SimTime) {
        self.count(live, |counts| &mut counts.dropped);
        self.leave(now);
        self.record(live, |record| record.state = RequestState::Dropped);
    }

    /// A request entered a batch at `now`.
    pub fn scheduled(&mut self, live: &Live, now: SimTime) {
        if live.preemptions == 0 {
            if self.is_measured(live) {
                self.scheduling_delay.add(now - live.arrival, 1);
            }
            self.record(live, |record| record.first_scheduled_us = now.as_us());
        }
        self.record(live, |record| record.scheduled_us = now.as_us());
    }

    /// `times` tokens took `gap` each after the one before, in `steps` steps from `start` on.
    pub fn gaps(&mut self, instance: u32, start: SimTime, gap: Span, steps: u32, batch: u32) {
        let steps = u64::from(steps);
        let end = start + gap.times(steps);
        if end <= self.warm_up || start >= self.end || batch == 0 {
            return;
        }
        let inside = if start >= self.warm_up && end <= self.end {
            steps
        } else {
            let starts_before =
                |time: SimTime| time.since(start).as_ps().div_ceil(gap.as_ps().max(1)).min(steps);
            starts_before(self.end) - starts_before(self.warm_up)
        };
        let reported = gap + self.output_time[instance as usize];
        self.itl.add(reported, inside * u64::from(batch));
    }

    /// A request was answered in full; its last step ended at `finished`.
    pub fn completed(&mut self, live: &Live, instance: u32, finished: SimTime) {
        self.count(live, |counts| &mut counts.completed);
        self.leave(finished);
        let output_time = self.output_time[instance as usize];
        let ttft = live.first_token - live.arrival + output_time;
        let gaps = u64::from(live.output.max(1) - 1);
        let decoding = (finished - live.first_token - live.starved) + output_time.times(gaps);
        let e2e = ttft + decoding;
        if self.is_measured(live) {
            self.input_tokens += u64::from(live.input);
            self.output_tokens += u64::from(live.output);
            let class = &mut self.classes[usize::from(live.class)];
            for latencies in [&mut self.all, class] {
                latencies.ttft.add(ttft, 1);
                latencies.e2e.add(e2e, 1);
                if let Some(tpot) = decoding.as_ps().checked_div(gaps) {
                    latencies.tpot.add(Span::from_ps(tpot), 1);
                }
            }
        }
        self.keep(live, instance, RequestState::Completed);
        self.record(live, |record| {
            record.e2e_us = e2e.as_us();
            record.finished_us = finished.as_us();
        });
    }

    /// The run was cut with this request unanswered.
    pub fn cut(&mut self, live: &Live, instance: Option<u32>, running: bool) {
        if running {
            self.count(live, |counts| &mut counts.running);
        } else {
            self.count(live, |counts| &mut counts.queued);
        }
        let Some(instance) = instance else { return };
        if live.first_token != SimTime::NEVER && self.is_measured(live) {
            let ttft = live.first_token - live.arrival + self.output_time[instance as usize];
            self.all.ttft.add(ttft, 1);
            self.classes[usize::from(live.class)].ttft.add(ttft, 1);
        }
        let state = if running { RequestState::Running } else { RequestState::Queued };
        self.keep(live, instance, state);
    }

    fn keep(&mut self, live: &Live, instance: u32, state: RequestState) {
        let output_time = self.output_time[instance as usize];
        self.record(live, |record| {
            record.state = state;
            if live.first_token != SimTime::NEVER {
                record.ttft_us = (live.first_token - live.arrival + output_time).as_us();
            }
            record.preemptions = live.preemptions;
        });
    }

    /// Arrivals ended with the last one, sooner or later than was thought.
    pub fn end_with_last_arrival(&mut self) {
        self.end = self.last_arrival;
    }

    /// Writes what was gathered to `outcome`.
    pub fn finish(&mut self, classes: &[String], outcome: &mut Outcome) {
        let window_s = self.end.since(self.warm_up).as_secs();
        outcome.counts = self.counts;
        outcome.measured = self.all.measured;
        outcome.window_s = window_s;
        outcome.ttft = summary(&mut self.all.ttft);
        outcome.tpot = summary(&mut self.all.tpot);
        outcome.e2e = summary(&mut self.all.e2e);
        outcome.itl = summary(&mut self.itl);
        outcome.scheduling_delay = summary(&mut self.scheduling_delay);
        if window_s > 0.0 {
            outcome.throughput_rps = self.all.measured.completed as f64 / window_s;
            outcome.output_tokens_per_s = self.output_tokens as f64 / window_s;
            outcome.total_tokens_per_s = (self.input_tokens + self.output_tokens) as f64 / window_s;
        }
        outcome.stability = self.stability();
        outcome.classes = classes.iter().zip(&mut self.classes).map(class_outcome).collect();
        outcome.requests = std::mem::take(&mut self.requests);
        outcome.steps = std::mem::take(&mut self.steps);
    }

    /// Whether the number of requests in the system still grows, see [`growth`].
    fn stability(&self) -> Stability {
        let mut inside = Vec::with_capacity(INTERVALS + 1);
        let mut now = 0.0;
        inside.push(now);
        for (came, went) in self.came.iter().zip(&self.went) {
            now += *came as f64 - *went as f64;
            inside.push(now);
        }
        let first = self.interval(self.warm_up).min(INTERVALS);
        let rate = self.counts.injected as f64 / self.end.as_secs().max(1e-9);
        growth(&inside[first..], self.interval_ps / 1e12, rate)
    }
}

/// Least slope of a queue that counts as growth, as a share of the arrival rate.
const GROWTH_SHARE_MIN: f64 = 0.005;
/// Standard errors by which the slope must exceed zero.
const GROWTH_SIGMAS: f64 = 3.0;

/// Judges the number of requests `inside` the system at the ends of intervals of `interval_s`
/// seconds, under `rate` arrivals per second.
///
/// The slope is fitted by least squares. Its standard error takes the lag-one correlation of the
/// residuals into account, since a queue forgets slowly. The system is unstable when the slope
/// exceeds three standard errors and 0.5 % of the arrival rate.
fn growth(inside: &[f64], interval_s: f64, rate: f64) -> Stability {
    let n = inside.len() as f64;
    if inside.len() < 8 {
        return Stability::default();
    }
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, inside.iter().sum::<f64>() / n);
    let (mut sxx, mut sxy) = (0.0, 0.0);
    for (x, y) in inside.iter().enumerate() {
        sxx += (x as f64 - mean_x).powi(2);
        sxy += (x as f64 - mean_x) * (y - mean_y);
    }
    let slope = sxy / sxx;
    let residuals: Vec<f64> =
        inside.iter().enumerate().map(|(x, y)| y - mean_y - slope * (x as f64 - mean_x)).collect();
    let squares: f64 = residuals.iter().map(|r| r * r).sum();
    let lagged: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let correlation = if squares > 0.0 { (lagged / squares).clamp(0.0, 0.9) } else { 0.0 };
    let inflation = (1.0 + correlation) / (1.0 - correlation);
    let error = (squares / (n - 2.0) / sxx * inflation).sqrt();
    let growth_rps = slope / interval_s;
    let stable = slope <= GROWTH_SIGMAS * error || growth_rps <= GROWTH_SHARE_MIN * rate;
    Stability { stable, growth_rps }
}

fn class_outcome((name, latencies): (&String, &mut Latencies)) -> ClassOutcome {
    ClassOutcome {
        name: name.clone(),
        measured: latencies.measured,
        ttft: summary(&mut latencies.ttft),
        tpot: summary(&mut latencies.tpot),
        e2e: summary(&mut latencies.e2e),
    }
}

fn summary(distribution: &mut Distribution) -> Summary {
    let [p50_ms, p90_ms, p95_ms, p99_ms] = distribution.quantiles_ms([0.5, 0.9, 0.95, 0.99]);
    Summary {
        count: distribution.count(),
        mean_ms: distribution.mean_ms(),
        p50_ms,
        p90_ms,
        p95_ms,
        p99_ms,
        max_ms: distribution.max_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    #[test]
    fn a_queue_that_grows_is_unstable_and_noise_is_not() {
        let mut rng = Rng::new(1, Stream::Resampling, 0);
        let mut level = 0.0;
        let mut wander = |x: usize, slope: f64| {
            level = 0.7 * level + 20.0 * rng.normal();
            3000.0 + slope * x as f64 + level
        };
        let noise: Vec<f64> = (0..50).map(|x| wander(x, 0.0)).collect();
        assert!(growth(&noise, 1.0, 500.0).stable);
        let rising: Vec<f64> = (0..50).map(|x| wander(x, 8.0)).collect();
        let verdict = growth(&rising, 1.0, 500.0);
        assert!(!verdict.stable && (verdict.growth_rps - 8.0).abs() < 2.0, "{verdict:?}");
    }
}
