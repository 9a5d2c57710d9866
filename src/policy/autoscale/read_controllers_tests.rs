//! Controllers of the real world, from YAML.

use super::tests::{accepted, messages, read, seconds};
use super::*;
use crate::policy::autoscale::{
    Analyzer, Behavior, Calibration, Fallback, FallbackBehavior, Metric, MetricType, QueueingModel,
    RateLimit, Rates, Readiness, Saturation, Select, Service, Transition, Trigger, Unit,
};
use crate::policy::signals::Aggregate;

fn policy(autoscaling: &str) -> ScalingPolicy {
    accepted(autoscaling).expect("it scales").policy
}

fn metric(kind: MetricType, signal: Signal, target: f64) -> Metric {
    Metric { kind, signal, target, window: seconds(60) }
}

#[test]
fn an_hpa_behaves_by_default_as_in_kubernetes() {
    let metric = metric(MetricType::AverageValue, Signal::Waiting, 5.0);
    let hpa = "{policy: hpa, hpa: {metrics: [{type: average-value, signal: waiting, target: 5}]}}";
    let limit = |unit, value| RateLimit { unit, value, period: seconds(15) };
    let (tolerance, select) = (0.1, Select::Max);
    let limits = vec![limit(Unit::Percent, 100), limit(Unit::Pods, 4)];
    let up = Rates { stabilization: seconds(0), tolerance, select, limits };
    let limits = vec![limit(Unit::Percent, 100)];
    let down = Rates { stabilization: seconds(300), tolerance, select, limits };
    let behavior = Behavior { up, down };
    let readiness =
        Readiness { initial_readiness_delay: seconds(30), cpu_initialization_period: seconds(300) };
    let metrics = vec![metric];
    assert_eq!(policy(hpa), ScalingPolicy::Hpa(Hpa { pool: 0, metrics, readiness, behavior }));
}

#[test]
fn every_key_of_an_hpa_is_read() {
    let text = "{policy: hpa, pool: b, window: 2m, hpa: {tolerance: 0.2, metrics: [\
                {type: pods, signal: running_per_instance, target: 40}, \
                {type: resource, signal: kv_utilization, target: 0.6}, \
                {type: value, signal: ttft_p99_ms, target: 500, window: 30s}], \
                scale_up: {stabilization: 1m, tolerance: 0.05, select: min, policies: \
                [{type: pods, value: 2, period: 30s}, {type: percent, value: 50, period: 1m}]}, \
                scale_down: {select: disabled}, initial_readiness_delay: 10s, \
                cpu_initialization_period: 2m}}";
    let ScalingPolicy::Hpa(hpa) = policy(text) else { panic!("an HPA") };
    let windows = [seconds(10), seconds(120)];
    let Readiness { initial_readiness_delay, cpu_initialization_period } = hpa.readiness;
    assert_eq!([initial_readiness_delay, cpu_initialization_period], windows);
    let [mut pods, mut share, mut slow] = [
        metric(MetricType::Pods, Signal::RunningPerInstance, 40.0),
        metric(MetricType::Resource, Signal::KvUtilization, 0.6),
        metric(MetricType::Value, Signal::Ttft(99), 500.0),
    ];
    (pods.window, share.window, slow.window) = (seconds(120), seconds(120), seconds(30));
    assert_eq!((hpa.pool, hpa.metrics), (1, vec![pods, share, slow]));
    let limits = vec![
        RateLimit { unit: Unit::Pods, value: 2, period: seconds(30) },
        RateLimit { unit: Unit::Percent, value: 50, period: seconds(60) },
    ];
    let select = Select::Min;
    let up = Rates { stabilization: seconds(60), tolerance: 0.05, select, limits };
    assert_eq!(hpa.behavior.up, up);
    let down = hpa.behavior.down;
    assert_eq!((down.tolerance, down.select), (0.2, Select::Disabled));
}

#[test]
fn keda_polls_every_30_s_and_cools_down_for_300() {
    let metric = metric(MetricType::AverageValue, Signal::Waiting, 5.0);
    let trigger = Trigger { metric, activation_threshold: 0.0, ignore_null_values: true };
    let keda = Keda {
        pool: 0,
        polling_interval: seconds(30),
        cooldown_period: seconds(300),
        initial_cooldown_period: seconds(0),
        triggers: vec![trigger],
        fallback: None,
        behavior: Behavior::default(),
    };
    let text = "{policy: keda, keda: {triggers: [{signal: waiting, threshold: 5}]}}";
    assert_eq!(policy(text), ScalingPolicy::Keda(keda.clone()));
    let text = "{policy: keda, keda: {polling_interval: 15s, cooldown_period: 360s, \
                initial_cooldown_period: 10m, triggers: [{signal: waiting, threshold: 5, \
                metric_type: value, activation_threshold: 2, ignore_null_values: false}], \
                fallback: {failure_threshold: 3, replicas: 6, behavior: current-if-higher}}}";
    let metric = Metric { kind: MetricType::Value, ..metric };
    let trigger = Trigger { metric, activation_threshold: 2.0, ignore_null_values: false };
    let behavior = FallbackBehavior::CurrentIfHigher;
    let other = Keda {
        polling_interval: seconds(15),
        cooldown_period: seconds(360),
        initial_cooldown_period: seconds(600),
        triggers: vec![trigger],
        fallback: Some(Fallback { failure_threshold: 3, replicas: 6, behavior }),
        ..keda
    };
    assert_eq!(policy(text), ScalingPolicy::Keda(other));
}

#[test]
fn knative_ray_serve_and_skyserve_have_their_defaults() {
    assert_eq!(policy("{policy: knative}"), ScalingPolicy::Knative(Knative::new(0)));
    let text = "{policy: knative, knative: {metric: rps, panic_threshold: 3, stable_window: 2m, \
                panic_window_percentage: 20, target_utilization_percentage: 80, \
                max_scale_up_rate: 4, max_scale_down_rate: 3, scale_down_delay: 1m, \
                scale_to_zero_grace_period: 45s}}";
    let knative = Knative {
        pool: 0,
        signal: Signal::ArrivalRate,
        target: 200.0,
        target_utilization_percentage: 80.0,
        stable_window: seconds(120),
        panic_window_percentage: 20.0,
        panic_threshold: 3.0,
        max_scale_up_rate: 4.0,
        max_scale_down_rate: 3.0,
        scale_down_delay: seconds(60),
        scale_to_zero_grace_period: seconds(45),
    };
    assert_eq!(policy(text), ScalingPolicy::Knative(knative));
    assert_eq!(policy("{policy: ray-serve}"), ScalingPolicy::RayServe(RayServe::new(0)));
    let text = "{policy: ray-serve, ray_serve: {target_ongoing_requests: 40, upscale_delay_s: 45, \
                downscale_delay_s: 300, downscale_to_zero_delay_s: 900, upscaling_factor: 0.5, \
                downscaling_factor: 0.3, metrics_interval_s: 5, look_back_period_s: 20, \
                aggregation_function: max}}";
    let ray = RayServe {
        pool: 0,
        target_ongoing_requests: 40.0,
        upscale_delay: seconds(45),
        downscale_delay: seconds(300),
        downscale_to_zero_delay: Some(seconds(900)),
        upscaling_factor: 0.5,
        downscaling_factor: 0.3,
        metrics_interval: seconds(5),
        look_back_period: seconds(20),
        aggregation: Aggregate::Max,
    };
    assert_eq!(policy(text), ScalingPolicy::RayServe(ray));
    let sky = SkyServe {
        pool: 0,
        target_qps_per_replica: 30.0,
        upscale_delay: seconds(300),
        downscale_delay: seconds(1200),
    };
    let text = "{policy: skyserve, skyserve: {target_qps_per_replica: 30}}";
    assert_eq!(policy(text), ScalingPolicy::SkyServe(sky));
}

#[test]
fn aibrix_has_the_defaults_of_its_annotations() {
    for (name, strategy) in [("aibrix-kpa", Strategy::Kpa), ("aibrix-apa", Strategy::Apa)] {
        let text = format!("{{policy: {name}, aibrix: {{signal: running, target: 30, MORE}}}}");
        let usual = Aibrix::new(0, strategy, Signal::Running, 30.0);
        assert_eq!(policy(&text.replace(", MORE", "")), ScalingPolicy::Aibrix(usual.clone()));
        let more = "pending_guard: false, max_scale_up_rate: 3, scale_up_tolerance: 0.2, \
                    observe_window: 1m, scale_down_cooldown_window: 0s";
        let other = Aibrix {
            pending_guard: false,
            max_scale_up_rate: 3.0,
            scale_up_tolerance: 0.2,
            observe_window: seconds(60),
            scale_down_cooldown_window: seconds(0),
            ..usual
        };
        assert_eq!(policy(&text.replace("MORE", more)), ScalingPolicy::Aibrix(other));
    }
}

#[test]
fn wva_has_the_defaults_of_its_config_map_and_all_pools_are_its_variants() {
    let ScalingPolicy::Wva(usual) = policy("{policy: wva}") else { panic!("a WVA") };
    let pools: Vec<u32> = usual.variants.iter().map(|variant| variant.pool).collect();
    assert_eq!(pools, [0, 1]);
    assert!(usual.variants.iter().all(|variant| variant.cost > 0.0));
    let thresholds = Saturation {
        kv_cache_threshold: 0.8,
        queue_length_threshold: 5.0,
        kv_spare_trigger: 0.1,
        queue_spare_trigger: 3.0,
        scale_up_threshold: 0.8,
        scale_down_boundary: 0.4,
        avg_input_tokens: None,
    };
    assert_eq!(usual.analyzer, Analyzer::SaturationV1(thresholds, Transition::Variant));
    let times = [usual.optimization_interval, usual.window, usual.metric_delay];
    assert_eq!(times, [60, 60, 15].map(seconds));
    assert_eq!(usual.behavior, Behavior::default());
    assert_eq!(policy("{policy: wva, wva: {analyzer: saturation-v1}}"), ScalingPolicy::Wva(usual));
    let ScalingPolicy::Wva(one) = policy("{policy: wva, pool: b}") else { panic!("a WVA") };
    assert_eq!(one.variants.iter().map(|variant| variant.pool).collect::<Vec<_>>(), [1]);
}

#[test]
fn every_key_of_wva_is_read() {
    let common = "optimization_interval: 30s, window: 2m, metric_delay: 30s, tolerance: 0, \
                  kv_cache_threshold: 0.7, queue_length_threshold: 8, kv_spare_trigger: 0.2, \
                  queue_spare_trigger: 2, scale_up_threshold: 0.85, scale_down_boundary: 0.7, \
                  avg_input_tokens: 512, transition: model, model: {ttft: 1s, itl: 80ms, \
                  max_batch_size: 64, at_tokens: 128, queue_to_batch_ratio: 5, \
                  transition_penalty: 0.2, calibration: {b: {alpha_ms: 20.58, beta_ms: 0.41, \
                  gamma_ms: 5.2, delta_ms: 0.1}}}";
    let read = |analyzer: &str| {
        let text = format!("{{policy: wva, wva: {{analyzer: {analyzer}, {common}}}}}");
        let ScalingPolicy::Wva(wva) = policy(&text) else { panic!("a WVA") };
        wva
    };
    let thresholds = Saturation {
        kv_cache_threshold: 0.7,
        queue_length_threshold: 8.0,
        kv_spare_trigger: 0.2,
        queue_spare_trigger: 2.0,
        scale_up_threshold: 0.85,
        scale_down_boundary: 0.7,
        avg_input_tokens: Some(512.0),
    };
    let v1 = read("saturation-v1");
    assert_eq!(v1.analyzer, Analyzer::SaturationV1(thresholds, Transition::Model));
    assert_eq!(read("saturation-v2").analyzer, Analyzer::SaturationV2(thresholds));
    let model = QueueingModel {
        ttft_ms: 1000.0,
        itl_ms: 80.0,
        max_batch_size: 64,
        at_tokens: Some(128.0),
        queue_to_batch_ratio: 5,
        transition_penalty: 0.2,
    };
    assert_eq!(read("queueing-model").analyzer, Analyzer::QueueingModel(model));
    let times = [v1.optimization_interval, v1.window, v1.metric_delay];
    assert_eq!(times, [30, 120, 30].map(seconds));
    assert_eq!((v1.behavior.up.tolerance, v1.behavior.down.tolerance), (0.0, 0.0));
    assert!(matches!(v1.variants[0].calibration, Calibration::OfSteps(_)));
    let given = Service { alpha_ms: 20.58, beta_ms: 0.41, gamma_ms: 5.2, delta_ms: 0.1 };
    assert_eq!(v1.variants[1].calibration, Calibration::Given(given));
}

#[test]
fn controllers_decide_as_often_as_the_real_ones_and_have_no_other_brakes() {
    let given = "hpa: {metrics: [{type: value, signal: waiting, target: 5}]}, \
                 keda: {triggers: [{signal: waiting, threshold: 5}]}, \
                 skyserve: {target_qps_per_replica: 30}, \
                 aibrix: {signal: running_per_instance, target: 30}";
    for (name, interval_ms, scrape_ms) in [
        ("hpa", 15_000, 15_000),
        ("keda", 15_000, 15_000),
        ("knative", 2_000, 1_000),
        ("ray-serve", 100, 1_000),
        ("skyserve", 20_000, 20_000),
        ("aibrix-kpa", 10_000, 10_000),
        ("aibrix-apa", 10_000, 10_000),
        ("wva", 15_000, 15_000),
    ] {
        let scaling = accepted(&format!("{{policy: {name}, {given}}}")).expect("it scales");
        let ms = |ms: u64| Span::from_us(ms * 1000);
        assert_eq!((scaling.interval, scaling.scrape_interval), (ms(interval_ms), ms(scrape_ms)));
        assert_eq!((scaling.cooldown_up, scaling.cooldown_down), (Span::ZERO, Span::ZERO));
        assert!(!scaling.pending_guard, "{name}");
    }
}

#[test]
fn what_is_wrong_with_a_controller_is_said() {
    for (text, message) in [
        ("{policy: hpa}", "`autoscaling` needs `hpa`"),
        ("{policy: keda}", "`autoscaling` needs `keda`"),
        ("{policy: skyserve}", "`autoscaling` needs `skyserve`"),
        ("{policy: aibrix-apa}", "`autoscaling` needs `aibrix`"),
        ("{policy: none, hpa: {metrics: []}}", "an HPA needs a metric"),
        ("{policy: none, hpa: {metrics: [{}]}}", "a metric of `metrics` needs `type`"),
        ("{policy: none, hpa: {}}", "`hpa` needs `metrics`"),
        ("{policy: none, keda: {triggers: []}}", "KEDA needs a trigger"),
        ("{policy: none, keda: {}}", "`keda` needs `triggers`"),
        (
            "{policy: none, knative: {max_scale_down_rate: 1}}",
            "`max_scale_down_rate` must be above 1 and at most 1000000, not `1`",
        ),
        (
            "{policy: none, ray_serve: {look_back_period_s: 0}}",
            "`look_back_period_s` must be longer than zero",
        ),
        ("{policy: none, skyserve: {}}", "`skyserve` needs `target_qps_per_replica`"),
        ("{policy: none, aibrix: {signal: running}}", "`aibrix` needs `target`"),
        ("{policy: none, knative: {taget: 9}}", "unknown key `taget` in `knative`"),
        (
            "{policy: none, wva: {scale_down_boundary: 0.8}}",
            "`scale_down_boundary` must be below `scale_up_threshold`",
        ),
        (
            "{policy: none, wva: {kv_cache_threshold: 0.3, kv_spare_trigger: 0.4}}",
            "`kv_spare_trigger` must be at most `kv_cache_threshold`",
        ),
        (
            "{policy: none, wva: {queue_spare_trigger: 6}}",
            "`queue_spare_trigger` must be at most `queue_length_threshold`",
        ),
        (
            "{policy: none, wva: {optimization_interval: 0s}}",
            "`optimization_interval` must be longer than zero",
        ),
        ("{policy: none, wva: {model: {ttft: 0ms}}}", "`ttft` must be longer than zero"),
        ("{policy: none, wva: {model: {calibration: {c: {}}}}}", "a calibration needs `alpha_ms`"),
        (
            "{policy: none, wva: {model: {calibration: {c: {alpha_ms: 20, beta_ms: 0.4, \
             gamma_ms: 5, delta_ms: 0.1}}}}}",
            "there is no pool `c`",
        ),
    ] {
        assert_eq!(messages(text).first().map(String::as_str), Some(message), "{text}");
        assert!(read(text).0.is_none(), "{text}");
    }
}

#[test]
fn metrics_that_cannot_mean_much_are_warned_of() {
    let hpa = |metric: &str| messages(&format!("{{policy: hpa, hpa: {{metrics: [{metric}]}}}}"));
    let total = hpa("{type: pods, signal: waiting, target: 5}");
    assert_eq!(total, ["`waiting` is of the whole pool"]);
    let mean = hpa("{type: average-value, signal: kv_utilization, target: 0.5}");
    assert_eq!(mean, ["`kv_utilization` is no total over the pool"]);
    let busy = hpa("{type: pods, signal: busy_fraction, target: 0.7}");
    assert_eq!(busy, ["`busy_fraction` is near 1 on any loaded engine, full or not"]);
    let other = hpa("{type: cpu, signal: waiting, target: 0.7}");
    assert!(other[0].contains("`signal`"), "{other:?}");
    let (cpu, warned) = read("{policy: hpa, hpa: {metrics: [{type: cpu, target: 0.7}]}}");
    assert_eq!(warned, busy);
    let scaling = cpu.and_then(|bundle| bundle.autoscaling).expect("it scales");
    assert!(scaling.watches_instances());
    let ScalingPolicy::Hpa(hpa) = scaling.policy else { panic!("an HPA") };
    assert_eq!(hpa.metrics[0].kind, MetricType::Cpu);
    let ray = messages("{policy: ray-serve, ray_serve: {upscale_delay_s: 5}}");
    assert_eq!(ray, ["a delay is shorter than `look_back_period_s`"]);
}
