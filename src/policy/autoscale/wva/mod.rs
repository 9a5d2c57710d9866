//! The Workload Variant Autoscaler of llm-d: an optimizer over all variants of a model, and an HPA
//! for each that applies what it wishes for.
//!
//! Pools are the variants, and their price is the cost. At every `optimization_interval` the
//! analyzer looks at what the replicas showed at their worst over `window`, and emits a number for
//! each pool (`wva_desired_replicas`). After `metric_delay` the HPA of the pool, whose sync period
//! is the interval of decisions, finds it as an external metric with an average value of 1. So its
//! tolerance holds too: of 10 replicas it does not make 11.
//!
//! Where no replica shows anything nothing is emitted: the way from zero is not part of it. Wishes
//! are kept within the bounds of the pool, beyond which nothing could be delivered.

mod queueing;
mod read;
mod saturation;

use std::collections::VecDeque;

use super::hpa::{Behavior, Metric, MetricType, Steering};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::policy::signals::{Aggregate, Signal};

pub use queueing::Service;
pub use saturation::{Saturation, Transition};

use queueing::{Candidate, Lengths, Room, Targets, allocate, rate_within};
use saturation::Replicas;

/// The Workload Variant Autoscaler as its users set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wva {
    /// The variants, at least one; each of a pool of its own.
    pub variants: Vec<Variant>,
    /// What decides.
    pub analyzer: Analyzer,
    /// Between two decisions of the analyzer (`GLOBAL_OPT_INTERVAL`); above zero.
    pub optimization_interval: Span,
    /// Over which the highest KV use and queue of a replica count, and the mean of rates and
    /// lengths; above zero.
    pub window: Span,
    /// Until the HPA finds what was emitted: scrape and adapter.
    pub metric_delay: Span,
    /// How fast the HPA of each variant follows.
    pub behavior: Behavior,
}

/// A variant: a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The pool, by position.
    pub pool: u32,
    /// US dollars per hour of an instance.
    pub cost: f64,
    /// How long requests take, for the queueing model.
    pub calibration: Calibration,
}

/// How long requests take on a variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Calibration {
    /// As its users measured.
    Given(Service),
    /// As a perfect measurement of its steps would find for the lengths of the day: microseconds of
    /// a step, of a token of a prompt and of an answer in it.
    OfSteps([f64; 3]),
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Analyzer {
    /// Spare KV cache and queue of replicas; one more or one fewer at a time.
    SaturationV1(Saturation, Transition),
    /// Tokens needed over tokens that fit; as many as are required at once.
    SaturationV2(Saturation),
    /// What an instance carries within its targets, by a model of its queue.
    QueueingModel(QueueingModel),
}

/// The queueing model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueingModel {
    /// The mean time to first token that is to be kept, in milliseconds; above 0.
    pub ttft_ms: f64,
    /// The mean time between tokens that is to be kept, in milliseconds; above 0.
    pub itl_ms: f64,
    /// The largest batch; at least 1.
    pub max_batch_size: u32,
    /// The length of answers at which that is the largest batch; with longer ones it is smaller.
    /// `None`: with any.
    pub at_tokens: Option<f64>,
    /// How many times the largest batch may wait.
    pub queue_to_batch_ratio: u32,
    /// The share of the cost before and after that a change of the variant is charged with.
    pub transition_penalty: f64,
}

impl Default for QueueingModel {
    fn default() -> Self {
        Self {
            ttft_ms: 500.0,
            itl_ms: 24.0,
            max_batch_size: 256,
            at_tokens: None,
            queue_to_batch_ratio: 10,
            transition_penalty: 0.1,
        }
    }
}

impl QueueingModel {
    /// The most requests per second of an instance of `variant`, if it keeps the targets.
    fn rate(&self, variant: &Variant, lengths: Lengths) -> Option<f64> {
        let service = match variant.calibration {
            Calibration::Given(service) => service,
            Calibration::OfSteps(steps) => Service::of_steps(steps, lengths.prompt, lengths.output),
        };
        let batch = self.at_tokens.map_or(self.max_batch_size, |tokens| {
            let batch = f64::from(self.max_batch_size) * tokens / lengths.output.max(1.0);
            (batch as u32).clamp(1, read::BATCH_MAX)
        });
        let room = Room { batch, queue: batch * self.queue_to_batch_ratio };
        let targets = Targets { ttft_ms: self.ttft_ms, itl_ms: self.itl_ms };
        rate_within(&service, lengths, room, targets)
    }
}

/// Why a number was emitted.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Because {
    signal: Signal,
    value: f64,
    target: f64,
}

/// A variant while it runs.
struct Applied {
    /// What was emitted and when, the last one last; what nobody will look at any more is gone.
    emitted: VecDeque<(SimTime, u32, Because)>,
    /// Tokens that the KV cache of an instance has room for, when one was seen last.
    kv_tokens: u64,
    steering: Steering,
}

impl Applied {
    /// The last number that the HPA can know at `now`.
    fn known(&mut self, now: SimTime, delay: Span) -> Option<(u32, Because)> {
        let is_known = |entry: &(SimTime, u32, Because)| entry.0 + delay <= now;
        while self.emitted.get(1).is_some_and(is_known) {
            self.emitted.pop_front();
        }
        let &(_, desired, because) = self.emitted.front().filter(|entry| is_known(entry))?;
        Some((desired, because))
    }
}

impl Controller for Wva {
    fn pools(&self) -> Vec<u32> {
        self.variants.iter().map(|variant| variant.pool).collect()
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        let mut signals = match self.analyzer {
            Analyzer::SaturationV1(..) => vec![Signal::KvUtilization],
            Analyzer::SaturationV2(Saturation { avg_input_tokens: Some(_), .. }) => {
                vec![Signal::KvUtilization]
            }
            Analyzer::SaturationV2(_) => vec![Signal::KvUtilization, Signal::PromptTokensMean],
            Analyzer::QueueingModel(_) => {
                vec![Signal::ArrivalRate, Signal::PromptTokensMean, Signal::OutputTokensMean]
            }
        };
        signals.drain(..).map(|signal| (signal, self.window)).collect()
    }

    fn looks_at_instances(&self) -> bool {
        !matches!(self.analyzer, Analyzer::QueueingModel(_))
    }

    fn start(&self, _: Span) -> Box<dyn Autoscaler> {
        let applied = |_: &Variant| Applied {
            emitted: VecDeque::new(),
            kv_tokens: 0,
            steering: Steering::new(&self.behavior),
        };
        Box::new(WvaLoop {
            applied: self.variants.iter().map(applied).collect(),
            next: SimTime::ZERO,
            wva: self.clone(),
        })
    }
}

struct WvaLoop {
    wva: Wva,
    /// By variant.
    applied: Vec<Applied>,
    /// When the analyzer decides again.
    next: SimTime,
}

impl WvaLoop {
    /// The replicas of each variant as the analyzer finds them.
    fn replicas(&mut self, fleet: &FleetView) -> Vec<Replicas> {
        let find = |(variant, applied): (&Variant, &mut Applied)| {
            let view = &fleet.pools[variant.pool as usize];
            let peaks = fleet.signals.peaks(variant.pool, self.wva.window);
            if let Some(peak) = peaks.first() {
                applied.kv_tokens = peak.kv_total;
            }
            Replicas {
                cost: variant.cost,
                peaks,
                current: view.desired,
                desired: applied.emitted.back().map(|&(_, desired, _)| desired),
                min: view.min,
                max: view.max,
                kv_tokens: applied.kv_tokens,
            }
        };
        self.wva.variants.iter().zip(&mut self.applied).map(find).collect()
    }

    /// The numbers that the analyzer wishes for; `None` where it knows too little.
    fn optimize(&mut self, fleet: &FleetView) -> Option<(Vec<u32>, Because)> {
        match self.wva.analyzer {
            Analyzer::SaturationV1(thresholds, transition) => {
                let variants = self.replicas(fleet);
                let spare = thresholds.spare(&variants)?;
                let targets = thresholds.targets_v1(&variants, &spare, transition);
                let Saturation { kv_cache_threshold, queue_length_threshold, .. } = thresholds;
                let by_queue = spare.kv >= thresholds.kv_spare_trigger
                    && spare.queue < thresholds.queue_spare_trigger;
                let because = if by_queue {
                    Because {
                        signal: Signal::WaitingPerInstance,
                        value: queue_length_threshold - spare.queue,
                        target: queue_length_threshold - thresholds.queue_spare_trigger,
                    }
                } else {
                    Because {
                        signal: Signal::KvUtilization,
                        value: kv_cache_threshold - spare.kv,
                        target: kv_cache_threshold - thresholds.kv_spare_trigger,
                    }
                };
                Some((targets, because))
            }
            Analyzer::SaturationV2(thresholds) => {
                let variants = self.replicas(fleet);
                let input = thresholds
                    .avg_input_tokens
                    .or_else(|| fleet.signals.value(Signal::PromptTokensMean, 0, self.wva.window));
                let balance = thresholds.balance(&variants, input.unwrap_or(0.0))?;
                let targets = thresholds.targets_v2(&variants, &balance);
                let is_short = balance.required(&thresholds) > 0.0;
                let (up, down) = (thresholds.scale_up_threshold, thresholds.scale_down_boundary);
                let because = Because {
                    signal: Signal::KvUtilization,
                    value: balance.demand / (balance.supply + balance.pending)
                        * thresholds.kv_cache_threshold,
                    target: if is_short { up } else { down } * thresholds.kv_cache_threshold,
                };
                Some((targets, because))
            }
            Analyzer::QueueingModel(model) => self.allocate(&model, fleet),
        }
    }

    fn allocate(&self, model: &QueueingModel, fleet: &FleetView) -> Option<(Vec<u32>, Because)> {
        let Wva { variants, window, .. } = &self.wva;
        let mean = |signal| fleet.signals.over(signal, 0, *window, Aggregate::Mean);
        let arrivals = mean(Signal::ArrivalRate)?;
        let lengths = mean(Signal::PromptTokensMean).zip(mean(Signal::OutputTokensMean));
        let lengths = lengths.map(|(prompt, output)| Lengths { prompt, output });
        if arrivals > 0.0 && lengths.is_none() {
            return None;
        }
        let candidate = |variant: &Variant| {
            let view = &fleet.pools[variant.pool as usize];
            Candidate {
                rate: lengths.and_then(|lengths| model.rate(variant, lengths)),
                cost: variant.cost,
                current: view.desired,
                min: view.min,
                max: view.max,
            }
        };
        let candidates: Vec<Candidate> = variants.iter().map(candidate).collect();
        let targets = allocate(&candidates, arrivals, model.transition_penalty)?;
        let rates = candidates.iter().zip(&targets);
        let target = rates.max_by_key(|(_, target)| **target).and_then(|(it, _)| it.rate);
        let because =
            Because { signal: Signal::ArrivalRate, value: arrivals, target: target.unwrap_or(0.0) };
        Some((targets, because))
    }

    fn emit(&mut self, now: SimTime, fleet: &FleetView) {
        if now < self.next {
            return;
        }
        self.next = now + self.wva.optimization_interval;
        let Some((targets, because)) = self.optimize(fleet) else { return };
        let variants = self.wva.variants.iter().zip(&mut self.applied);
        for ((variant, applied), target) in variants.zip(targets) {
            let view = &fleet.pools[variant.pool as usize];
            let target = target.clamp(view.min, view.max);
            applied.emitted.push_back((now, target, because));
        }
    }
}

/// What each HPA looks at.
const EMITTED: Metric = Metric {
    kind: MetricType::AverageValue,
    signal: Signal::Waiting,
    target: 1.0,
    window: Span::ZERO,
};

impl Autoscaler for WvaLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        self.emit(now, fleet);
        let Wva { variants, behavior, metric_delay, .. } = &self.wva;
        for (variant, applied) in variants.iter().zip(&mut self.applied) {
            let Some((desired, because)) = applied.known(now, *metric_delay) else { continue };
            let (view, pods) = (&fleet.pools[variant.pool as usize], fleet.pods(variant.pool));
            let desired = Some(f64::from(desired));
            let replicas = EMITTED.replicas(desired, &pods, behavior.tolerance());
            let Some(replicas) = replicas else { continue };
            let bounds = (view.min, view.max);
            let wanted = applied.steering.follow(now, view.desired, replicas, bounds);
            let Because { signal, value, target } = because;
            let reason = Reason::Recommended { signal, value, target, wanted };
            towards(wanted, variant.pool, view, reason, orders);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
