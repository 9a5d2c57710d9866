//! The Dynamo planner, for engines that compute prompts and answers (`mode: agg`).
//!
//! It fits the time of a pass to prompt tokens and KV tokens over the last pass of each engine at
//! each decision, and from that estimates latencies (load) and what an engine carries within the
//! promise (throughput). It takes no hits of the prefix cache into account.

mod arima;
mod engine;
mod plan;
mod predictor;
mod regression;

use super::read::{Usual, WINDOW_MAX};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, Fields};
use crate::latency::Blackbox;
use crate::policy::Pool;
use crate::policy::signals::{EngineSample, Signal};
use engine::{Learned, Promise};
use plan::{Budget, Decision, Down};

pub use plan::DownCheck;
pub use predictor::{Method, Noise};

const MS_BOUNDS: Bounds = Bounds::above(0.0, 1e9);
const TOKENS_BOUNDS: Bounds = Bounds::above(0.0, 1e9);
const NOISE_BOUNDS: Bounds = Bounds::above(0.0, 1e12);
const PERCENT_BOUNDS: Bounds = Bounds::between(0.0, 100.0);
const GPUS_BOUNDS: Bounds = Bounds::between(-1.0, 1e6);
const SAMPLES_MAX: u32 = 10_000;
const ENGINES_MAX: u32 = 100_000;

/// A `PlannerConfig` as its users set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamo {
    /// The pool, by position.
    pub pool: u32,
    /// What it scales by.
    pub target: Target,
    /// The time to first token promised, in milliseconds; above 0.
    pub ttft_ms: f64,
    /// The time between tokens promised, in milliseconds; above 0.
    pub itl_ms: f64,
    /// Whether predicted traffic decides, or is the floor of what load decides.
    pub throughput_scaling: bool,
    /// Whether the load of each engine decides.
    pub load_scaling: bool,
    /// Between two predictions; above zero, an hour at most.
    pub throughput_interval: Span,
    /// The most engines that one prediction adds or removes.
    pub max_throughput_replicas: u32,
    /// The share of a promise below which one engine fewer is tried; in [0, 1].
    pub sensitivity: f64,
    /// How that is checked.
    pub down_check: DownCheck,
    /// Passes needed for a fit; at least 1.
    pub min_observations: u32,
    /// Passes kept; at least 1.
    pub max_samples: u32,
    /// Buckets over which they are spread; a square number.
    pub buckets: u32,
    /// How requests, prompts and answers to come are predicted.
    pub predictor: Method,
    /// Whether their logarithms are.
    pub log1p: bool,
    /// Engines at least.
    pub min_endpoint: u32,
    /// GPUs of an engine; at least 1.
    pub engine_gpus: u32,
    /// GPUs at most; negative: any number.
    pub max_gpus: i64,
    /// GPUs at least; negative: none.
    pub min_gpus: i64,
    /// Passes that are known before the first request; `None`: none.
    pub sweep: Option<Sweep>,
}

/// What the planner scales by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The share of KV tokens in use or queued: above 1 on any engine, below 0.6 on all.
    #[default]
    Throughput,
    /// The same with 0.4 and 0.1.
    Latency,
    /// The promised latencies.
    Sla,
}

impl Target {
    /// Above which share there is one more, and below which one fewer.
    const fn kv_shares(self) -> Option<(f64, f64)> {
        match self {
            Self::Throughput => Some((1.0, 0.6)),
            Self::Latency => Some((0.4, 0.1)),
            Self::Sla => None,
        }
    }
}

/// A sweep before deployment: passes as the latency model has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// How long a pass takes.
    pub latency: Blackbox,
    /// Prompt tokens of a request; above 0.
    pub isl: f64,
    /// Answer tokens of a request; above 0.
    pub osl: f64,
}

impl Dynamo {
    /// One that nothing was said about, for engines of `pool` as they are.
    pub fn new(pool: u32, engines: Option<&Pool>) -> Self {
        let sweep = |pool: &Pool| Sweep { latency: pool.latency, isl: 3000.0, osl: 150.0 };
        Self {
            pool,
            target: Target::default(),
            ttft_ms: 500.0,
            itl_ms: 50.0,
            throughput_scaling: true,
            load_scaling: false,
            throughput_interval: Span::from_us(180_000_000),
            max_throughput_replicas: 8,
            sensitivity: 0.8,
            down_check: DownCheck::default(),
            min_observations: 5,
            max_samples: 64,
            buckets: 16,
            predictor: Method::Arima,
            log1p: false,
            min_endpoint: 1,
            engine_gpus: engines.map_or(1, |pool| pool.gpus_per_instance),
            max_gpus: 8,
            min_gpus: -1,
            sweep: engines.map(sweep),
        }
    }

    pub(super) fn read(fields: &mut Fields, usual: Usual, pools: &[Pool]) -> Self {
        let mut read = Self::new(usual.pool, pools.get(usual.pool as usize));
        let Some(mut fields) = fields.fields("dynamo_planner") else { return read };
        let targets = [
            ("throughput", Target::Throughput),
            ("latency", Target::Latency),
            ("sla", Target::Sla),
        ];
        read.target = fields.one_of("optimization_target", &targets).unwrap_or_default();
        read.ttft_ms = fields.f64("ttft_ms", MS_BOUNDS).unwrap_or(read.ttft_ms);
        read.itl_ms = fields.f64("itl_ms", MS_BOUNDS).unwrap_or(read.itl_ms);
        read.read_modes(&mut fields);
        read.read_samples(&mut fields);
        read.read_predictor(&mut fields);
        read.read_budget(&mut fields);
        read.read_sweep(&mut fields);
        fields.finish();
        read
    }

    fn read_modes(&mut self, fields: &mut Fields) {
        let throughput = fields.bool("enable_throughput_scaling");
        self.throughput_scaling = throughput.unwrap_or(self.throughput_scaling);
        self.load_scaling = fields.bool("enable_load_scaling").unwrap_or(self.load_scaling);
        if self.target == Target::Sla && !self.throughput_scaling && !self.load_scaling {
            fields.error("enable_load_scaling", "a planner scales by throughput, by load or both");
        }
        let key = "throughput_adjustment_interval";
        self.throughput_interval = fields.span(key, WINDOW_MAX).unwrap_or(self.throughput_interval);
        if self.throughput_interval == Span::ZERO {
            fields.error(key, format!("`{key}` must be longer than zero")).label("zero");
        }
        let most = fields.u32("max_throughput_scaling_replicas", 1..=ENGINES_MAX);
        self.max_throughput_replicas = most.unwrap_or(self.max_throughput_replicas);
        let percent = fields.f64("load_scaling_down_sensitivity", PERCENT_BOUNDS);
        self.sensitivity = percent.map_or(self.sensitivity, |percent| percent / 100.0);
        let checks =
            [("sensitivity", DownCheck::Sensitivity), ("consolidation", DownCheck::Consolidation)];
        self.down_check = fields.one_of("scale_down_check", &checks).unwrap_or_default();
    }

    fn read_samples(&mut self, fields: &mut Fields) {
        let mut count = |key, usual| fields.u32(key, 1..=SAMPLES_MAX).unwrap_or(usual);
        self.min_observations = count("load_min_observations", self.min_observations);
        self.max_samples = count("max_num_fpm_samples", self.max_samples);
        self.buckets = count("fpm_sample_bucket_size", self.buckets);
        if self.buckets.isqrt().pow(2) != self.buckets {
            let message = "`fpm_sample_bucket_size` must be a square number";
            fields.error("fpm_sample_bucket_size", message).hint("4, 16, 64");
        }
    }

    fn read_predictor(&mut self, fields: &mut Fields) {
        let mut noise = |key, usual| fields.f64(key, NOISE_BOUNDS).unwrap_or(usual);
        let noise = Noise {
            q_level: noise("kalman_q_level", 1.0),
            q_trend: noise("kalman_q_trend", 0.1),
            r: noise("kalman_r", 10.0),
        };
        fields.ignored(&["kalman_min_points"], "not looked at by the planner's own filter");
        let methods = [
            ("constant", Some(Method::Constant)),
            ("arima", Some(Method::Arima)),
            ("kalman", Some(Method::Kalman(noise))),
            ("prophet", None),
        ];
        match fields.one_of("load_predictor", &methods) {
            Some(Some(method)) => self.predictor = method,
            Some(None) => {
                let message = "`prophet` is not simulated: its fit by Stan cannot be reproduced";
                fields.error("load_predictor", message).hint("constant, arima or kalman");
            }
            None => {}
        }
        self.log1p = fields.bool("load_predictor_log1p").unwrap_or(self.log1p);
    }

    fn read_budget(&mut self, fields: &mut Fields) {
        self.min_endpoint =
            fields.u32("min_endpoint", 0..=ENGINES_MAX).unwrap_or(self.min_endpoint);
        let gpus = fields.u32("decode_engine_num_gpu", 1..=ENGINES_MAX);
        self.engine_gpus = gpus.unwrap_or(self.engine_gpus);
        let mut budget = |key, usual| {
            let Some(gpus) = fields.f64(key, GPUS_BOUNDS) else { return usual };
            if gpus.fract() != 0.0 {
                fields.error(key, format!("`{key}` must be a whole number, not `{gpus}`"));
            }
            gpus as i64
        };
        self.max_gpus = budget("max_gpu_budget", self.max_gpus);
        self.min_gpus = budget("min_gpu_budget", self.min_gpus);
        if self.max_gpus >= 0 && self.min_gpus > self.max_gpus {
            fields.error("min_gpu_budget", "`min_gpu_budget` is above `max_gpu_budget`");
        }
        if self.budget().fit(self.min_endpoint) < self.min_endpoint {
            let message = "`max_gpu_budget` is less than `min_endpoint` engines need";
            let label = format!("an engine has {} GPUs", self.engine_gpus);
            fields.error("max_gpu_budget", message).label(label);
        }
    }

    fn read_sweep(&mut self, fields: &mut Fields) {
        let modes = [("rapid", true), ("none", false)];
        let sweeps = fields.one_of("pre_deployment_sweeping_mode", &modes).unwrap_or(true);
        let (isl, osl) = (fields.f64("isl", TOKENS_BOUNDS), fields.f64("osl", TOKENS_BOUNDS));
        self.sweep = self.sweep.filter(|_| sweeps).map(|sweep| Sweep {
            isl: isl.unwrap_or(sweep.isl),
            osl: osl.unwrap_or(sweep.osl),
            ..sweep
        });
    }

    fn budget(&self) -> Budget {
        Budget {
            min_endpoint: self.min_endpoint,
            engine_gpus: self.engine_gpus,
            max_gpus: self.max_gpus,
            min_gpus: self.min_gpus,
        }
    }

    fn promise(&self) -> Promise {
        Promise { ttft_ms: self.ttft_ms, itl_ms: self.itl_ms }
    }

    /// Without promised latencies nothing is predicted.
    fn predicts(&self) -> bool {
        self.target == Target::Sla && self.throughput_scaling
    }

    fn looks_at_load(&self) -> bool {
        self.target != Target::Sla || self.load_scaling
    }
}

impl Controller for Dynamo {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        vec![(Signal::ArrivalRate, self.throughput_interval)]
    }

    fn reads_engines(&self) -> bool {
        true
    }

    fn start(&self, interval: Span) -> Box<dyn Autoscaler> {
        let predictor = predictor::Predictor::new(self.predictor, self.log1p);
        Box::new(Planner {
            interval,
            learned: Learned::new(self.max_samples, self.min_observations, self.buckets),
            is_swept: false,
            seen: None,
            predictors: [predictor.clone(), predictor.clone(), predictor],
            floor: self.min_endpoint,
            next_throughput: SimTime::ZERO + self.throughput_interval,
            dynamo: self.clone(),
        })
    }
}

struct Planner {
    dynamo: Dynamo,
    interval: Span,
    learned: Learned,
    is_swept: bool,
    /// The last scrape that was learned from.
    seen: Option<SimTime>,
    /// Of requests, prompts and answers.
    predictors: [predictor::Predictor; 3],
    /// What load may not go below.
    floor: u32,
    next_throughput: SimTime,
}

impl Planner {
    /// Takes in what the last scrape shows, once.
    fn learn(&mut self, engines: &[EngineSample], fleet: &FleetView) {
        let at = fleet.signals.last().map(|sample| sample.at);
        if at == self.seen || self.dynamo.target != Target::Sla {
            return;
        }
        self.seen = at;
        if let (Some(sweep), Some(engine), false) =
            (self.dynamo.sweep, engines.first(), self.is_swept)
        {
            self.learned.sweep(&sweep.latency, engine, sweep.isl + sweep.osl / 2.0);
            self.is_swept = true;
        }
        let traffic = fleet.signals.traffic(self.interval);
        self.learned.see_prompts(traffic.map_or(f64::NAN, |traffic| traffic.prompt_mean));
        for engine in engines {
            self.learned.see(engine);
        }
    }

    /// What load says of `workers` ready engines; `None` where it cannot tell.
    fn by_load(&self, engines: &[EngineSample], workers: u32) -> Option<Decision> {
        // As many as are ready must have reported.
        if engines.is_empty() || engines.len() as u32 != workers {
            return None;
        }
        if let Some((up, down)) = self.dynamo.target.kv_shares() {
            return Some(plan::by_kv(engines, up, down));
        }
        let down = Down { sensitivity: self.dynamo.sensitivity, check: self.dynamo.down_check };
        let decision =
            plan::by_promise(&self.learned.model()?, engines, self.dynamo.promise(), down);
        let wanted = decision.wanted.max(if self.dynamo.predicts() { self.floor } else { 0 });
        Some(Decision { wanted, ..decision })
    }

    /// What the traffic to come needs; those there are where nothing can be said about engines.
    fn by_traffic(
        &mut self,
        engines: &[EngineSample],
        fleet: &FleetView,
        workers: u32,
    ) -> Option<Decision> {
        let traffic = fleet.signals.traffic(self.dynamo.throughput_interval)?;
        let seen = [traffic.requests as f64, traffic.prompt_mean, traffic.answer_mean];
        for (predictor, value) in self.predictors.iter_mut().zip(seen) {
            predictor.add(value);
        }
        let [requests, isl, osl] = [0, 1, 2].map(|at: usize| self.predictors[at].next());
        let demand = requests / traffic.seconds;
        if !demand.is_finite() {
            return None;
        }
        let capacity = engines.first().and_then(|engine| {
            let promise = self.dynamo.promise();
            self.learned.model()?.capacity((isl, osl), promise, engine.limits, engine.kv_tokens)
        });
        let capacity = capacity.map_or(0.0, |capacity| capacity.rps);
        let wanted = if capacity > 0.0 {
            plan::by_traffic(demand, capacity, workers, self.dynamo.max_throughput_replicas)
        } else {
            workers
        };
        let what = "predicted requests per second and those of an engine";
        Some(Decision { wanted, what, value: demand, limit: capacity })
    }
}

impl Autoscaler for Planner {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let pool = self.dynamo.pool;
        let view = &fleet.pools[pool as usize];
        let sample = fleet.signals.last();
        let all = sample.map_or(&[][..], |sample| &sample.engines);
        let mut engines: Vec<EngineSample> =
            all.iter().filter(|engine| engine.pool == pool).copied().collect();
        // Which place an engine has must not matter to what is learned last.
        engines.sort_by_key(|engine| {
            let pass = engine.pass.map(|pass| (pass.prefill_tokens, pass.length));
            (pass, engine.decoding, engine.decode_kv_tokens, engine.queued_prompt_tokens)
        });
        self.learn(&engines, fleet);
        let mut decision = None;
        // While a change is on its way, load only looks on.
        if self.dynamo.looks_at_load() && view.desired == view.ready {
            decision = self.by_load(&engines, view.ready);
        }
        if self.dynamo.predicts() && now >= self.next_throughput {
            self.next_throughput = now + self.dynamo.throughput_interval;
            let traffic = self.by_traffic(&engines, fleet, view.ready);
            if self.dynamo.load_scaling {
                let wanted = traffic.map(|traffic| self.dynamo.budget().fit(traffic.wanted));
                self.floor = wanted.unwrap_or(self.floor);
            } else {
                decision = traffic;
            }
        }
        let Some(Decision { wanted, what, value, limit }) = decision else { return };
        let wanted = self.dynamo.budget().fit(wanted);
        if wanted != view.ready {
            let reason = Reason::Estimated { what, value, limit, wanted };
            towards(wanted, pool, view, reason, orders);
        }
    }
}

#[cfg(test)]
mod tests;
