use super::engine::tests::{LIMITS, engine};
use super::*;
use crate::config::{Defaults, Problems, parse};
use crate::policy::autoscale::{Action, Autoscaling, PoolView, ScalingPolicy};
use crate::policy::read_bundle;
use crate::policy::signals::{Answered, Pass, PoolSample, Sample, Samples};

fn seconds(seconds: u64) -> Span {
    Span::from_us(seconds * 1_000_000)
}

/// A planner with these keys on a pool of Llama 3.1 8B on two H100, or what is wrong with it.
fn read(keys: &str) -> Result<Autoscaling, Vec<String>> {
    let text = format!(
        "pools: {{a: {{model: meta-llama/llama-3.1-8b-instruct, gpu: H100, tensor_parallelism: 2, \
         instances: 2, min_instances: 0, max_instances: 20}}}}\n\
         autoscaling: {{policy: dynamo-planner, dynamo_planner: {{{keys}}}}}\n"
    );
    let mut problems = Problems::new();
    let node = parse("x.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    let messages = problems.list().iter().map(|problem| problem.message.clone()).collect();
    if problems.is_empty() {
        return Ok(bundle.and_then(|bundle| bundle.autoscaling).expect("it scales"));
    }
    Err(messages)
}

fn planner(keys: &str) -> Dynamo {
    match read(keys).map(|scaling| scaling.policy) {
        Ok(ScalingPolicy::Dynamo(dynamo)) => dynamo,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_said_is_as_documented() {
    let scaling = read("").expect("no problem");
    assert_eq!((scaling.interval, scaling.scrape_interval), (seconds(5), seconds(5)));
    let dynamo = planner("");
    assert_eq!((dynamo.target, dynamo.ttft_ms, dynamo.itl_ms), (Target::Throughput, 500.0, 50.0));
    assert_eq!((dynamo.throughput_scaling, dynamo.load_scaling), (true, false));
    assert_eq!((dynamo.throughput_interval, dynamo.sensitivity), (seconds(180), 0.8));
    assert_eq!((dynamo.min_observations, dynamo.max_samples, dynamo.buckets), (5, 64, 16));
    assert_eq!((dynamo.predictor, dynamo.log1p), (Method::Arima, false));
    assert_eq!((dynamo.min_endpoint, dynamo.engine_gpus), (1, 2));
    assert_eq!((dynamo.max_gpus, dynamo.min_gpus, dynamo.max_throughput_replicas), (8, -1, 8));
    assert_eq!(dynamo.sweep.map(|sweep| (sweep.isl, sweep.osl)), Some((3000.0, 150.0)));
}

#[test]
fn every_key_is_read() {
    let dynamo = planner(
        "optimization_target: sla, ttft_ms: 300, itl_ms: 30, enable_throughput_scaling: false, \
         enable_load_scaling: true, throughput_adjustment_interval: 600s, \
         max_throughput_scaling_replicas: 3, load_scaling_down_sensitivity: 70, \
         scale_down_check: consolidation, load_min_observations: 3, max_num_fpm_samples: 32, \
         fpm_sample_bucket_size: 64, load_predictor: kalman, load_predictor_log1p: true, \
         kalman_q_level: 10, kalman_q_trend: 1, kalman_r: 5, min_endpoint: 2, \
         decode_engine_num_gpu: 4, max_gpu_budget: 32, min_gpu_budget: 8, isl: 700, osl: 70",
    );
    let noise = Noise { q_level: 10.0, q_trend: 1.0, r: 5.0 };
    let usual = planner("");
    let sweep = usual.sweep.map(|sweep| Sweep { isl: 700.0, osl: 70.0, ..sweep });
    let expected = Dynamo {
        target: Target::Sla,
        ttft_ms: 300.0,
        itl_ms: 30.0,
        throughput_scaling: false,
        load_scaling: true,
        throughput_interval: seconds(600),
        max_throughput_replicas: 3,
        sensitivity: 0.7,
        down_check: DownCheck::Consolidation,
        min_observations: 3,
        max_samples: 32,
        buckets: 64,
        predictor: Method::Kalman(noise),
        log1p: true,
        min_endpoint: 2,
        engine_gpus: 4,
        max_gpus: 32,
        min_gpus: 8,
        sweep,
        ..usual
    };
    assert_eq!(dynamo, expected);
    assert_eq!(planner("pre_deployment_sweeping_mode: none").sweep, None);
}

#[test]
fn what_cannot_be_is_said() {
    for (keys, message) in [
        (
            "load_predictor: prophet",
            "`prophet` is not simulated: its fit by Stan cannot be reproduced",
        ),
        ("fpm_sample_bucket_size: 12", "`fpm_sample_bucket_size` must be a square number"),
        (
            "optimization_target: sla, enable_throughput_scaling: false",
            "a planner scales by throughput, by load or both",
        ),
        ("max_gpu_budget: 1", "`max_gpu_budget` is less than `min_endpoint` engines need"),
        ("min_gpu_budget: 9", "`min_gpu_budget` is above `max_gpu_budget`"),
        ("max_gpu_budget: 2.5", "`max_gpu_budget` must be a whole number, not `2.5`"),
    ] {
        assert_eq!(read(keys).expect_err("a problem")[0], message, "{keys}");
    }
    assert!(read("kalman_min_points: 5").is_err(), "it is warned of");
}

/// A planner at work on engines that take 10 ms for a pass and 1 ms for every 50 prompt tokens.
struct Bench {
    planner: Box<dyn Autoscaler>,
    samples: Samples,
    at: u64,
    requests: u64,
}

impl Bench {
    fn new(change: impl Fn(&mut Dynamo)) -> Self {
        let latency = Blackbox { alpha: [0.0; 3], beta: [10_000.0, 20.0, 0.0] };
        let sweep = Some(Sweep { latency, isl: 1000.0, osl: 100.0 });
        let mut dynamo =
            Dynamo { target: Target::Sla, sweep, max_gpus: -1, ..Dynamo::new(0, None) };
        change(&mut dynamo);
        let (planner, samples) = (dynamo.start(seconds(5)), Samples::new(seconds(180), Vec::new()));
        Self { planner, samples, at: 0, requests: 0 }
    }

    /// What is ordered 5 s later, `rps` requests of 1000 and 100 tokens a second later, with these
    /// engines ready of so many desired.
    fn decide(&mut self, rps: u64, engines: &[EngineSample], desired: u32) -> Option<Action> {
        self.at += 5;
        self.requests += 5 * rps;
        self.samples.push(Sample {
            at: SimTime::ZERO + seconds(self.at),
            arrivals: self.requests,
            prompt_tokens: 1000 * self.requests,
            answered: Answered {
                requests: 5 * rps,
                prompt_tokens: 5000 * rps,
                output_tokens: 500 * rps,
            },
            pools: vec![PoolSample::default()],
            engines: engines.to_vec(),
            ..Sample::default()
        });
        let ready = engines.len() as u32;
        let view = PoolView { desired, ready, min: 0, max: 100, ..PoolView::default() };
        let fleet = FleetView { pools: &[view], signals: &self.samples };
        let mut orders = Vec::new();
        self.planner.plan(SimTime::ZERO + seconds(self.at), &fleet, &mut orders);
        assert!(orders.len() <= 1);
        orders.first().map(|order| order.action)
    }
}

fn busy(queued: u64) -> EngineSample {
    let pass = Some(Pass { prefill_tokens: 500, length: Span::from_us(20_000) });
    EngineSample { pass, ..engine(queued, 1000) }
}

const LAUNCH: Option<Action> = Some(Action::Launch { pool: 0, count: 1 });

#[test]
fn load_adds_one_and_waits_for_it() {
    let mut bench = Bench::new(|dynamo| {
        (dynamo.load_scaling, dynamo.throughput_scaling) = (true, false);
    });
    // 30000 and 1000 tokens: 16 passes and 620 ms.
    assert_eq!(bench.decide(10, &[busy(30_000); 2], 2), LAUNCH);
    assert_eq!(bench.decide(10, &[busy(90_000); 2], 3), None, "one is on its way");
    assert_eq!(bench.decide(10, &[busy(90_000); 3], 3), LAUNCH);
    assert_eq!(bench.decide(10, &[busy(0); 4], 4), Some(Action::Shrink { pool: 0, count: 1 }));
    let mut mixed = [busy(90_000); 4];
    mixed[2] = busy(0);
    assert_eq!(bench.decide(10, &mixed, 4), None, "not all");
}

#[test]
fn load_waits_until_as_many_report_as_are_ready_and_a_fit_is_possible() {
    let load = |dynamo: &mut Dynamo| {
        (dynamo.load_scaling, dynamo.throughput_scaling, dynamo.sweep) = (true, false, None);
    };
    let mut bench = Bench::new(load);
    let two = [busy(90_000), EngineSample { pass: None, ..busy(90_000) }];
    assert!((0..4).all(|_| bench.decide(10, &two, 2).is_none()), "four passes");
    assert_eq!(bench.decide(10, &two, 2), LAUNCH, "and the fifth");
    let other = EngineSample { pool: 1, ..busy(90_000) };
    let mut bench = Bench::new(load);
    assert!((0..9).all(|_| bench.decide(10, &[busy(90_000), other], 2).is_none()), "one of two");
}

#[test]
fn traffic_decides_every_180_s_by_what_an_engine_carries() {
    // 10 prompt tokens of each of b requests in a pass: 10 + 0.2 b ms, 50 at b = 200 for a gap;
    // rates balance at 1000 / (2048 - b) <= 100. 200 / (100 * 50 ms) = 40 requests per second.
    let mut bench = Bench::new(|dynamo| dynamo.predictor = Method::Constant);
    let engines = [EngineSample { kv_tokens: 1 << 40, ..busy(0) }; 2];
    assert!((0..35).all(|_| bench.decide(159, &engines, 2).is_none()), "175 s");
    assert_eq!(bench.decide(159, &engines, 2), Some(Action::Launch { pool: 0, count: 2 }));
    assert!((0..35).all(|_| bench.decide(1000, &engines, 4).is_none()));
    let most = Some(Action::Launch { pool: 0, count: 6 });
    assert_eq!(bench.decide(1000, &engines, 4), most, "8 more than are ready");
}

#[test]
fn traffic_is_the_floor_of_load() {
    let mut bench = Bench::new(|dynamo| {
        (dynamo.load_scaling, dynamo.predictor) = (true, Method::Constant);
    });
    let idle = EngineSample { kv_tokens: 1 << 40, ..busy(0) };
    for turn in 1..=36 {
        // Before the first prediction nothing holds load back from going down.
        let order = bench.decide(159, &[idle; 4], 4);
        assert_eq!(order, Some(Action::Shrink { pool: 0, count: 1 }), "{turn}");
    }
    assert_eq!(bench.decide(159, &[idle; 4], 4), None, "four carry it");
    assert_eq!(bench.decide(159, &[idle; 3], 3), LAUNCH);
}

#[test]
fn without_promised_latencies_the_kv_cache_decides() {
    let mut bench = Bench::new(|dynamo| dynamo.target = Target::Latency);
    let full = |kv| EngineSample { kv_tokens: 10_000, limits: LIMITS, ..engine(0, kv) };
    assert_eq!(bench.decide(1, &[full(0), full(4001)], 2), LAUNCH);
    assert_eq!(bench.decide(1, &[full(0), full(4000)], 2), None);
    assert_eq!(bench.decide(1, &[full(999); 2], 2), Some(Action::Shrink { pool: 0, count: 1 }));
}

#[test]
fn the_budget_of_gpus_is_kept() {
    let load = |dynamo: &mut Dynamo| {
        (dynamo.load_scaling, dynamo.throughput_scaling) = (true, false);
        (dynamo.max_gpus, dynamo.engine_gpus) = (8, 2);
    };
    assert_eq!(Bench::new(load).decide(10, &[busy(90_000); 3], 3), LAUNCH);
    assert_eq!(Bench::new(load).decide(10, &[busy(90_000); 4], 4), None);
}
