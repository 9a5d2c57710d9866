//! Gathers the figures of a run while it runs.

use crate::base::{Distribution, InstanceId, SimTime, Span};
use crate::sim::course::Course;
use crate::sim::gateway::Refusal;
use crate::sim::health::HealthWatch;
use crate::sim::line::Lines;
use crate::sim::live::{Live, NOWHERE, Phase};
use crate::sim::outcome::{
    ClassOutcome, Counts, GatewayOutcome, Outcome, RequestRecord, RequestState, RunOptions,
    SteadyMeans, StepRecord, Summary,
};
use crate::sim::source::Source;
use crate::sim::stability::Flow;
use crate::sim::timeline::{Timeline, Watch};
use crate::workload::Targets;

/// The distributions of one class, or of all.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub measured: Counts,
    pub within_slo: u64,
    pub ttft: Distribution,
    pub tpot: Distribution,
    pub e2e: Distribution,
}

impl Latencies {
    fn clear(&mut self) {
        self.measured = Counts::default();
        self.within_slo = 0;
        self.ttft.clear();
        self.tpot.clear();
        self.e2e.clear();
    }
}

/// What is counted at the gateway.
#[derive(Debug, Default)]
pub struct GateTally {
    /// What can be shed by; `None` where everybody passes at once.
    names: Option<Vec<&'static str>>,
    shed: Vec<u64>,
    full: u64,
    displaced: u64,
    expired: u64,
    waited: u64,
    waits: Distribution,
    capped: u64,
}

impl GateTally {
    /// Forgets the last run.
    pub fn reset(&mut self, names: Option<Vec<&'static str>>) {
        let shed = vec![0; names.as_ref().map_or(0, Vec::len)];
        *self = Self { names, shed, ..Self::default() };
    }

    fn outcome(&mut self) -> Option<GatewayOutcome> {
        let names = self.names.as_ref()?;
        Some(GatewayOutcome {
            shed: names.iter().copied().zip(self.shed.iter().copied()).collect(),
            full: self.full,
            displaced: self.displaced,
            expired: self.expired,
            waited: self.waited,
            wait: summary(&mut self.waits),
            capped: self.capped,
        })
    }
}

/// Gathers the figures of a run.
#[derive(Debug, Default)]
pub struct Collector {
    keep_requests: bool,
    warm_up: SimTime,
    end: SimTime,
    last_answer: SimTime,
    output_time: Vec<Span>,
    counts: Counts,
    all: Latencies,
    classes: Vec<Latencies>,
    itl: Distribution,
    scheduling_delay: Distribution,
    /// Picoseconds spent stepping in the measured window, over all instances.
    busy_ps: u128,
    /// Requests answered in the measured window, and their tokens.
    answered: u64,
    input_tokens: u64,
    output_tokens: u64,
    flow: Flow,
    ttft_course: Course,
    e2e_course: Course,
    targets: Vec<Targets>,
    pub(super) timeline: Timeline,
    pub(super) watch: Watch,
    pub(super) health: HealthWatch,
    pub(super) gate: GateTally,
    /// The last time at which a request arrived, came again or left.
    pub(super) last_change: SimTime,
    /// Attempts after a client's first.
    pub(super) retries: u64,
    /// Tokens computed for attempts that were lost or given up.
    pub(super) wasted_tokens: u64,
    requests: Vec<RequestRecord>,
    pub(super) steps: Vec<StepRecord>,
}

impl Collector {
    /// Forgets the last run. `output_time` is what each instance adds to a reported token.
    pub fn reset(&mut self, source: &impl Source, options: &RunOptions, output_time: Vec<Span>) {
        self.keep_requests = options.keep_requests;
        self.warm_up = options.warm_up;
        self.end = source.end().min(options.horizon);
        self.last_answer = SimTime::ZERO;
        self.output_time = output_time;
        self.counts = Counts::default();
        self.all.clear();
        self.classes.iter_mut().for_each(Latencies::clear);
        self.classes.resize_with(source.classes().len(), Latencies::default);
        self.targets.clear();
        self.targets.extend(source.targets());
        self.targets.resize(source.classes().len(), Targets::NONE);
        self.itl.clear();
        self.scheduling_delay.clear();
        self.busy_ps = 0;
        (self.answered, self.input_tokens, self.output_tokens) = (0, 0, 0);
        self.flow.reset(self.warm_up, self.end);
        self.ttft_course.reset(self.warm_up, self.end);
        self.e2e_course.reset(self.warm_up, self.end);
        self.timeline.reset(options.timeline, source.classes().len());
        self.watch.reset(None);
        self.last_change = SimTime::ZERO;
        (self.retries, self.wasted_tokens) = (0, 0);
        self.requests.clear();
        if options.keep_requests {
            self.requests.resize(source.len(), RequestRecord::default());
        }
        self.steps.clear();
    }

    fn is_measured(&self, live: &Live) -> bool {
        live.asked >= self.warm_up
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

    /// A request reached the cluster.
    pub fn arrived(&mut self, live: &Live) {
        self.count(live, |counts| &mut counts.injected);
        self.flow.came(live.arrival);
        self.timeline.arrived(live.asked, live.class);
        self.last_change = self.last_change.max(live.arrival);
        if self.keep_requests && live.id as usize >= self.requests.len() {
            self.requests.resize(live.id as usize + 1, RequestRecord::default());
        }
        self.record(live, |record| {
            record.state = RequestState::Queued;
            (record.client, record.input, record.output) = (live.client, live.input, live.output);
            record.arrival_us = live.asked.as_us();
        });
    }

    /// A request was turned away at `now`.
    pub fn rejected(&mut self, live: &Live, now: SimTime) {
        self.flow.turned_away(now);
        self.ended(live, RequestState::Rejected, now);
    }

    /// Request `id` left an instance at `now`.
    pub fn left(&mut self, id: u32, now: SimTime) {
        self.watch.left(id, now);
        self.health.left(id, now);
    }

    /// An attempt was turned away at the gateway.
    pub fn refused(&mut self, refusal: Refusal) {
        *match refusal {
            Refusal::Rule(at) => &mut self.gate.shed[at],
            Refusal::Full => &mut self.gate.full,
            Refusal::Displaced => &mut self.gate.displaced,
        } += 1;
    }

    /// An attempt was in the queue of the gateway for too long.
    pub fn expired(&mut self) {
        self.gate.expired += 1;
    }

    /// A wait at the gateway ended well at `now`.
    pub fn waited_at_gate(&mut self, live: &Live, now: SimTime) {
        let wait = now - live.gated;
        self.gate.waited += u64::from(wait > Span::ZERO);
        if self.is_measured(live) {
            self.gate.waits.add(wait, 1);
        }
    }

    /// An attempt left at `now` without an answer, after `computed` tokens.
    pub fn attempt_failed(&mut self, live: &Live, computed: u32, now: SimTime) {
        self.left(live.id, now);
        self.wasted_tokens += u64::from(computed);
        self.last_change = self.last_change.max(now);
        let has_begun = matches!(live.phase, Phase::Prefilling | Phase::Decoding | Phase::Ending)
            || live.preemptions > 0;
        if has_begun {
            self.flow.ended(now);
        } else {
            self.flow.turned_away(now);
        }
    }

    /// The client of a failed attempt will come again.
    pub fn will_come_again(&mut self, live: &Live) {
        self.record(live, |record| {
            let RequestRecord { client, input, output, arrival_us, retries, .. } = *record;
            let state = RequestState::Queued;
            *record = RequestRecord {
                state,
                client,
                input,
                output,
                arrival_us,
                retries,
                ..Default::default()
            };
        });
    }

    /// The client came again at `now`.
    pub fn tried_again(&mut self, live: &Live, now: SimTime) {
        self.retries += 1;
        self.flow.came(now);
        self.timeline.tried_again(now);
        self.last_change = self.last_change.max(now);
        self.record(live, |record| record.retries += 1);
    }

    /// A request ended at `now` without an answer, with its last attempt.
    pub fn ended(&mut self, live: &Live, state: RequestState, now: SimTime) {
        let bucket: fn(&mut Counts) -> &mut u64 = match state {
            RequestState::Rejected => |counts| &mut counts.rejected,
            RequestState::TimedOut => |counts| &mut counts.timed_out,
            RequestState::Failed => |counts| &mut counts.failed,
            RequestState::Expired => |counts| &mut counts.expired,
            _ => |counts| &mut counts.dropped,
        };
        self.count(live, bucket);
        self.timeline.refused(now);
        self.last_change = self.last_change.max(now);
        if live.instance == NOWHERE {
            self.record(live, |record| {
                (record.state, record.preemptions) = (state, live.preemptions);
            });
        } else {
            let known = live.first_token <= now;
            self.unanswered(live, live.instance, state, known);
        }
    }

    /// The step that ends the prompt of `live` on `instance` has begun.
    pub fn first_token(&mut self, live: &mut Live, instance: u32) {
        if !live.seen {
            live.seen = true;
            let ttft = live.first_token - live.asked + self.output_time[instance as usize];
            self.watch.first_token(live.first_token, live.id, ttft);
            let ttft = live.first_token - live.routed + self.output_time[instance as usize];
            self.health.first_token(live.first_token, live.id, instance, ttft);
        }
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

    /// A request can never be served by `instance`; it left at `now`.
    pub fn dropped(&mut self, live: &Live, instance: u32, now: SimTime) {
        self.count(live, |counts| &mut counts.dropped);
        self.timeline.refused(now);
        self.last_change = self.last_change.max(now);
        match live.phase {
            Phase::Pending | Phase::Waiting => self.flow.turned_away(now),
            Phase::Prefilling | Phase::Decoding | Phase::Ending => self.flow.ended(now),
        }
        self.unanswered(live, instance, RequestState::Dropped, live.first_token != SimTime::NEVER);
    }

    /// A request entered a batch at `now`.
    pub fn scheduled(&mut self, live: &Live, now: SimTime) {
        if live.preemptions == 0 {
            self.flow.began(now);
            if self.is_measured(live) {
                self.scheduling_delay.add(now - live.arrival, 1);
            }
            self.record(live, |record| record.first_scheduled_us = now.as_us());
        }
        self.record(live, |record| record.scheduled_us = now.as_us());
    }

    /// From `start` on an instance took `steps` steps of `gap` each, in which `batch` requests
    /// got an answer token.
    pub fn stepped(&mut self, instance: u32, start: SimTime, gap: Span, steps: u32, batch: u32) {
        let steps = u64::from(steps);
        let end = start + gap.times(steps);
        let busy = end.min(self.end).since(start.max(self.warm_up));
        self.busy_ps += u128::from(busy.as_ps());
        if end < self.warm_up || start >= self.end || batch == 0 {
            return;
        }
        let inside = if start >= self.warm_up && end <= self.end {
            steps
        } else {
            let starts_before =
                |time: SimTime| time.since(start).as_ps().div_ceil(gap.as_ps().max(1)).min(steps);
            starts_before(self.end).saturating_sub(starts_before(self.warm_up))
        };
        let reported = gap + self.output_time[instance as usize];
        self.itl.add(reported, inside * u64::from(batch));
    }

    /// A request was answered in full; its last step ended at `finished`.
    pub fn completed(&mut self, live: &Live, instance: u32, finished: SimTime) {
        self.count(live, |counts| &mut counts.completed);
        self.flow.ended(finished);
        self.last_answer = self.last_answer.max(finished);
        self.last_change = self.last_change.max(finished);
        let output_time = self.output_time[instance as usize];
        let ttft = live.first_token - live.asked + output_time;
        let gaps = u64::from(live.output.max(1) - 1);
        let decoding = (finished - live.first_token - live.starved) + output_time.times(gaps);
        let e2e = ttft + decoding;
        if finished >= self.warm_up && finished < self.end {
            self.answered += 1;
            self.input_tokens += u64::from(live.input);
            self.output_tokens += u64::from(live.output);
        }
        let tpot = decoding.as_ps().checked_div(gaps).map(Span::from_ps);
        let targets = self.targets[usize::from(live.class)];
        let kept = ttft <= targets.ttft
            && e2e <= targets.e2e
            && tpot.is_none_or(|tpot| tpot <= targets.tpot);
        self.timeline.completed((live.asked, finished), live.class, ttft, kept);
        self.watch.completed((live.input, live.output), tpot, e2e);
        self.health.completed(instance);
        if self.is_measured(live) {
            self.gate.capped += u64::from(live.output < live.wanted);
            self.ttft_course.add(live.asked, ttft);
            self.e2e_course.add(live.asked, e2e);
            let class = &mut self.classes[usize::from(live.class)];
            for latencies in [&mut self.all, class] {
                latencies.ttft.add(ttft, 1);
                latencies.e2e.add(e2e, 1);
                latencies.within_slo += u64::from(kept);
                if let Some(tpot) = tpot {
                    latencies.tpot.add(tpot, 1);
                }
            }
        }
        self.keep(live, instance, RequestState::Completed, true);
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
        let Some(instance) = instance else {
            self.record(live, |record| record.preemptions = live.preemptions);
            return;
        };
        let state = if running { RequestState::Running } else { RequestState::Queued };
        self.unanswered(live, instance, state, live.first_token != SimTime::NEVER);
    }

    /// Keeps what there is of a request that ended without its last token; `first`: its first
    /// token came.
    fn unanswered(&mut self, live: &Live, instance: u32, state: RequestState, first: bool) {
        if first && self.is_measured(live) {
            let ttft = live.first_token - live.asked + self.output_time[instance as usize];
            self.all.ttft.add(ttft, 1);
            self.classes[usize::from(live.class)].ttft.add(ttft, 1);
        }
        self.keep(live, instance, state, first);
    }

    fn keep(&mut self, live: &Live, instance: u32, state: RequestState, first: bool) {
        let output_time = self.output_time[instance as usize];
        self.record(live, |record| {
            record.state = state;
            if first {
                record.ttft_us = (live.first_token - live.asked + output_time).as_us();
            }
            record.preemptions = live.preemptions;
        });
    }

    /// The first of `lines` that is crossed whatever comes.
    pub fn crossed(&self, lines: &Lines<'_>) -> Option<usize> {
        lines.crossed(&self.all, &self.classes)
    }

    /// Requests that reached the cluster so far.
    pub fn arrivals(&self) -> u64 {
        self.counts.injected
    }

    /// The measured window.
    pub fn window(&self) -> (SimTime, SimTime) {
        (self.warm_up, self.end)
    }

    /// Everybody asked what they wanted and was answered, sooner than the end: the measured
    /// window ends with the last answer.
    pub fn end_with_last_answer(&mut self) {
        self.end = self.end.min(self.last_answer.max(self.warm_up));
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
            outcome.throughput_rps = self.answered as f64 / window_s;
            outcome.output_tokens_per_s = self.output_tokens as f64 / window_s;
            outcome.total_tokens_per_s = (self.input_tokens + self.output_tokens) as f64 / window_s;
        }
        let ready = match &outcome.fleet {
            None => self.output_time.len() as f64,
            Some(fleet) => {
                let ready_ps = fleet.pools.iter().map(|pool| pool.ready_in_window_ps);
                let window_ps = self.end.since(self.warm_up).as_ps();
                ready_ps.sum::<u128>() as f64 / window_ps as f64
            }
        };
        let possible_s = window_s * ready;
        if possible_s > 0.0 {
            outcome.busy_fraction = self.busy_ps as f64 / 1e12 / possible_s;
        }
        outcome.within_slo = self.all.within_slo;
        outcome.gateway = self.gate.outcome();
        outcome.stability = self.flow.stability();
        outcome.steady = SteadyMeans {
            ttft_ms: self.ttft_course.steady_mean(),
            e2e_ms: self.e2e_course.steady_mean(),
        };
        outcome.classes = classes.iter().zip(&mut self.classes).map(class_outcome).collect();
        outcome.requests = std::mem::take(&mut self.requests);
        outcome.steps = std::mem::take(&mut self.steps);
    }
}

fn class_outcome((name, latencies): (&String, &mut Latencies)) -> ClassOutcome {
    ClassOutcome {
        name: name.clone(),
        measured: latencies.measured,
        within_slo: latencies.within_slo,
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
