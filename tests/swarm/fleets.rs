//! What can change in a random scenario: places, launches, autoscalers, faults, clients.
//!
//! Times are on the scale of the requests there, milliseconds to a second, and many of them are
//! whole milliseconds or those of arrivals, so that events fall together.

use blis_opt::base::{Delay, SimTime, Span};
use blis_opt::config::Market;
use blis_opt::latency::Blackbox;
use blis_opt::policy::autoscale::{
    Aibrix, Analyzer, Autoscaling, Behavior, Calibration, Combine, CooldownFrom, DownCheck, Drain,
    Dynamo, Fallback, FallbackBehavior, Hpa, Keda, Knative, Method, Metric, MetricType, Noise,
    Oracle, QueueingModel, RayServe, Readiness, Rule, Saturation, ScalingPolicy, Schedule,
    SkyServe, Strategy, Sweep, Target, Thresholds, Transition, Trigger, Variant, Wva,
};
use blis_opt::policy::signals::{Aggregate, Quantiles, Signal};
use blis_opt::policy::{Pool, StartUp};
use blis_opt::scenario::{Conditions, Conduct, Fault, InFlight, Recovery, Retry, Strike, Victim};
use blis_opt::workload::Targets;

use super::{Dice, Scenario};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Turns a scenario that stands still into one that may move; two thirds of them do.
pub fn set_in_motion(scenario: &mut Scenario, case: u64) {
    let dice = &mut Dice::of_motion(case);
    for _ in 0..dice.between(0, 3) {
        scenario.trace.targets.push(Targets {
            ttft: target(dice, 100_000),
            tpot: target(dice, 20_000),
            e2e: target(dice, 1_000_000),
        });
    }
    if case.is_multiple_of(3) {
        return;
    }
    // Some features are off, so that the others show.
    let (few, lively) = (dice.once_in(3), dice.once_in(3));
    let on = |dice: &mut Dice| if few { dice.once_in(4) } else { lively || dice.once_in(2) };
    let mut moments = Moments::new(scenario);
    for (at, pool) in scenario.bundle.pools.iter_mut().enumerate() {
        pool.name = format!("pool-{at}");
        if on(dice) || dice.once_in(2) {
            resize(dice, pool);
        }
        if on(dice) {
            place(dice, pool);
        }
        pool.start_up = start_up(dice, moments.end_us);
        moments.zones.extend(pool.zones.iter().cloned());
    }
    if scenario.bundle.places() == 0 {
        scenario.bundle.pools[0].fix(1);
    }
    let pools = scenario.bundle.pools.len() as u32;
    let conditions = &mut scenario.conditions;
    conditions.recovery = recovery(dice, moments.end_us);
    if on(dice) {
        for _ in 0..dice.pick(&[1, 2, 3, 6, 12]) {
            conditions.faults.push(fault(dice, &moments, pools));
        }
        conditions.faults.sort_by_key(|fault| fault.at);
    }
    if on(dice) {
        conditions.clients.retry = Some(retry(dice));
    }
    if on(dice) {
        conditions.clients.timeout = Some(moments.span(dice));
    }
    conditions.cold_start = on(dice) && dice.once_in(2);
    if on(dice) {
        scenario.bundle.autoscaling = Some(autoscaling(dice, &moments, pools));
    }
    if on(dice) {
        scenario.options.timeline = Some(moments.interval(dice));
    }
    cut(dice, scenario, moments.end_us);
}

fn target(dice: &mut Dice, longest_us: u32) -> Span {
    if dice.once_in(2) { dice.span(longest_us) } else { Targets::NONE.ttft }
}

/// What repeats itself needs an end: who waits for an instance that never comes waits an hour.
fn cut(dice: &mut Dice, scenario: &mut Scenario, end_us: u64) {
    let repeats = scenario.bundle.autoscaling.is_some() || scenario.options.timeline.is_some();
    if repeats {
        let later = u64::from(dice.pick(&[0_u32, 5_000, 100_000, 1_000_000, 3_000_000]));
        let latest = SimTime::from_us(end_us + later);
        scenario.options.horizon = scenario.options.horizon.min(latest);
    }
}

/// When and where things happen in a scenario.
struct Moments {
    zones: Vec<String>,
    end_us: u64,
    arrivals_us: Vec<u64>,
}

impl Moments {
    fn new(scenario: &Scenario) -> Self {
        let arrivals = scenario.trace.arrival.iter().filter(|&&at| at != SimTime::NEVER);
        let arrivals_us = arrivals.map(|at| at.as_us()).collect();
        let zones = vec![ZONES[2].to_owned()];
        Self { zones, end_us: scenario.trace.end.as_us(), arrivals_us }
    }

    /// The start, a whole millisecond, an arrival, or any time.
    fn time(&self, dice: &mut Dice) -> SimTime {
        let latest = self.end_us as u32 + 20_000;
        let soon = dice.between(1, 20_000);
        let soon = u64::from(dice.pick(&[0, 1000, soon, soon]));
        SimTime::from_us(match dice.between(0, 6) {
            0 => 0,
            1 | 2 if !self.arrivals_us.is_empty() => dice.pick(&self.arrivals_us) + soon,
            3 | 4 => u64::from(dice.between(0, latest / 1000)) * 1000,
            _ => u64::from(dice.between(0, latest)),
        })
    }

    /// Nothing, whole milliseconds, up to as long as it all takes, or anything.
    fn span(&self, dice: &mut Dice) -> Span {
        let longest = self.end_us as u32 + 20_000;
        Span::from_us(u64::from(match dice.between(0, 5) {
            0 => 0,
            1 | 2 => dice.between(0, 20) * 1000,
            3 => dice.between(0, longest / 1000) * 1000,
            4 => dice.between(0, 10_000),
            _ => dice.between(0, longest),
        }))
    }

    /// Between what repeats itself: above zero, and not too often.
    fn interval(&self, dice: &mut Dice) -> Span {
        let times = dice.pick(&[1, 3, 10, 40]);
        let us = self.end_us / times + u64::from(dice.between(0, 3_000)) + 1;
        let us = us.max(1000);
        Span::from_us(if dice.once_in(2) { us } else { us.div_ceil(1000) * 1000 })
    }
}

/// A delay of any kind, with a mean of up to `mean_us` microseconds.
fn delay(dice: &mut Dice, mean_us: u32) -> Delay {
    let mean = Span::from_us(u64::from(dice.between(0, mean_us)));
    let above = Span::from_us(mean.as_us() + 1);
    match dice.between(0, 9) {
        0 | 1 => Delay::NONE,
        2..=4 => Delay::Constant(Span::from_us(mean.as_us() / 1000 * 1000)),
        5 => Delay::Uniform { low: Span::ZERO, high: mean.times(2) },
        6 => Delay::Normal { mean, std_dev: mean },
        7 => Delay::LogNormal { mean: above, std_dev: mean },
        8 => Delay::Weibull { mean: above, shape: dice.pick(&[0.7, 1.0, 3.0]) },
        _ => Delay::Empirical([Span::ZERO, mean, mean.times(2)].into()),
    }
}

fn scale(dice: &mut Dice, end_us: u64) -> u32 {
    dice.pick(&[1_000, 20_000, end_us as u32 / 4 + 1_000])
}

fn resize(dice: &mut Dice, pool: &mut Pool) {
    if dice.once_in(4) {
        pool.instances = 0;
    }
    pool.min_instances = dice.between(0, pool.instances);
    pool.max_instances = pool.instances + dice.between(0, 4);
}

fn place(dice: &mut Dice, pool: &mut Pool) {
    let first = dice.between(0, 2) as usize;
    let zones = dice.between(1, 3) as usize;
    pool.zones = (first..first + zones).map(|zone| ZONES[zone % 3].to_owned()).collect();
    pool.market = dice.pick(&[Market::OnDemand, Market::Spot, Market::Spot]);
}

fn start_up(dice: &mut Dice, end_us: u64) -> StartUp {
    let scale = scale(dice, end_us);
    StartUp {
        provisioning: if dice.once_in(2) { delay(dice, scale) } else { Delay::NONE },
        loading: delay(dice, scale),
        warm_up: if dice.once_in(2) { delay(dice, scale) } else { Delay::NONE },
    }
}

fn recovery(dice: &mut Dice, end_us: u64) -> Recovery {
    let scale = scale(dice, end_us);
    Recovery { detection: delay(dice, scale), restart: delay(dice, scale) }
}

fn fault(dice: &mut Dice, moments: &Moments, pools: u32) -> Fault {
    let at = moments.time(dice);
    let victim = match dice.between(0, 2) {
        0 => Victim::Place { pool: dice.between(0, pools), place: dice.between(0, 3) },
        _ => Victim::Serving(dice.between(0, 5)),
    };
    let lasting = moments.span(dice);
    let zone = dice.pick(&moments.zones);
    let some_zone = dice.once_in(2).then(|| zone.clone());
    let strike = match dice.between(0, 9) {
        0..=3 => Strike::Crash {
            victim,
            in_flight: dice.pick(&[InFlight::Lost, InFlight::Finished]),
            repair: dice.once_in(3).then(|| delay(dice, 50_000)),
        },
        4 => Strike::ZoneOutage { zone, lasting },
        5 | 6 => Strike::Reclaim {
            zone: some_zone,
            share: dice.pick(&[0.0, 0.7, 1.0, 1.0]),
            notice: if dice.once_in(3) { Span::ZERO } else { moments.span(dice) },
            lasting,
        },
        7 | 8 => Strike::Slow { victim, factor: dice.pick(&[1.0, 1.5, 2.7, 30.0]), lasting },
        _ => {
            let pool = dice.once_in(2).then(|| format!("pool-{}", dice.between(0, pools)));
            Strike::NoCapacity { pool, zone: some_zone, lasting }
        }
    };
    Fault { at, strike }
}

fn retry(dice: &mut Dice) -> Retry {
    Retry {
        attempts: dice.between(0, 4) as u8,
        base: Span::from_us(u64::from(dice.pick(&[0_u32, 1, 100, 1_000, 10_000]))),
        cap: Span::from_us(u64::from(dice.pick(&[0_u32, 2_000, 100_000]))),
        jitter: dice.pick(&[0.0, 0.0, 0.1, 1.0]),
    }
}

fn autoscaling(dice: &mut Dice, moments: &Moments, pools: u32) -> Autoscaling {
    let short = |dice: &mut Dice| if dice.once_in(2) { Span::ZERO } else { moments.span(dice) };
    Autoscaling {
        policy: match dice.between(0, 6) {
            5 | 6 => controller(dice, moments, pools),
            0 => ScalingPolicy::Scheduled(schedule(dice, moments, pools)),
            1 => ScalingPolicy::Oracle(Oracle {
                pool: dice.between(0, pools - 1),
                requests_per_instance_s: dice.pick(&[0.02, 0.1, 0.5, 3.0]),
                lead: moments.span(dice),
            }),
            _ => ScalingPolicy::Thresholds(Thresholds {
                up: (0..dice.between(0, 3)).map(|_| rule(dice, moments, pools)).collect(),
                down: (0..dice.between(0, 2)).map(|_| rule(dice, moments, pools)).collect(),
                combine: dice.pick(&[Combine::Max, Combine::Sum]),
            }),
        },
        interval: moments.interval(dice),
        scrape_interval: moments.interval(dice),
        quantiles: dice.pick(&[Quantiles::Exact, Quantiles::Buckets]),
        drain: dice.pick(&[Drain::Finish, Drain::HandBack]),
        cooldown_up: short(dice),
        cooldown_down: short(dice),
        cooldown_from: dice.pick(&[CooldownFrom::Decision, CooldownFrom::Ready]),
        pending_guard: dice.once_in(3),
    }
}

/// One of the real controllers.
fn controller(dice: &mut Dice, moments: &Moments, pools: u32) -> ScalingPolicy {
    let pool = dice.between(0, pools - 1);
    let short = |dice: &mut Dice| if dice.once_in(2) { Span::ZERO } else { moments.span(dice) };
    match dice.between(0, 7) {
        6 => ScalingPolicy::Dynamo(dynamo(dice, moments, pool)),
        7 => ScalingPolicy::Wva(wva(dice, moments, pools)),
        0 => {
            let metrics = (0..dice.between(1, 3)).map(|_| metric(dice, moments)).collect();
            let readiness = Readiness {
                initial_readiness_delay: short(dice),
                cpu_initialization_period: short(dice),
            };
            ScalingPolicy::Hpa(Hpa { pool, metrics, readiness, behavior: behavior(dice, moments) })
        }
        1 => ScalingPolicy::Keda(Keda {
            pool,
            polling_interval: moments.interval(dice),
            cooldown_period: short(dice),
            initial_cooldown_period: short(dice),
            triggers: (0..dice.between(1, 3)).map(|_| trigger(dice, moments)).collect(),
            fallback: dice.once_in(2).then(|| Fallback {
                failure_threshold: dice.between(0, 3),
                replicas: dice.between(0, 3),
                behavior: dice.pick(&[FallbackBehavior::Static, FallbackBehavior::CurrentIfLower]),
            }),
            behavior: behavior(dice, moments),
        }),
        2 => ScalingPolicy::Knative(Knative {
            target: dice.pick(&[0.01, 0.5, 3.0, 50.0]),
            stable_window: moments.interval(dice),
            scale_down_delay: short(dice),
            scale_to_zero_grace_period: short(dice),
            ..Knative::new(pool)
        }),
        3 => ScalingPolicy::RayServe(RayServe {
            target_ongoing_requests: dice.pick(&[0.01, 0.5, 3.0, 50.0]),
            upscale_delay: short(dice),
            downscale_delay: short(dice),
            downscaling_factor: dice.pick(&[0.3, 1.0, 2.0]),
            metrics_interval: moments.interval(dice),
            look_back_period: moments.interval(dice),
            aggregation: dice.pick(&[Aggregate::Mean, Aggregate::Max, Aggregate::Min]),
            ..RayServe::new(pool)
        }),
        4 => ScalingPolicy::SkyServe(SkyServe {
            pool,
            target_qps_per_replica: dice.pick(&[0.001, 0.1, 3.0]),
            upscale_delay: short(dice),
            downscale_delay: short(dice),
        }),
        _ => {
            let strategy = dice.pick(&[Strategy::Kpa, Strategy::Apa]);
            let (_, signal) = dice.pick(&Signal::ALL);
            ScalingPolicy::Aibrix(Aibrix {
                observe_window: moments.interval(dice),
                panic_window: moments.interval(dice),
                scale_down_cooldown_window: short(dice),
                pending_guard: dice.once_in(2),
                ..Aibrix::new(pool, strategy, signal, dice.pick(&[0.01, 0.5, 3.0, 50.0]))
            })
        }
    }
}

fn dynamo(dice: &mut Dice, moments: &Moments, pool: u32) -> Dynamo {
    let noise = Noise { q_level: 1.0, q_trend: 0.1, r: 10.0 };
    let latency = Blackbox { alpha: [0.0; 3], beta: [1000.0, 1.0, 10.0] };
    let sweep = Sweep { latency, isl: 30.0, osl: 8.0 };
    Dynamo {
        target: dice.pick(&[Target::Throughput, Target::Latency, Target::Sla, Target::Sla]),
        ttft_ms: dice.pick(&[0.1, 2.0, 20.0, 500.0]),
        itl_ms: dice.pick(&[0.1, 1.0, 5.0, 50.0]),
        throughput_scaling: dice.once_in(2),
        load_scaling: dice.once_in(2),
        throughput_interval: moments.interval(dice),
        max_throughput_replicas: dice.between(1, 8),
        sensitivity: dice.pick(&[0.2, 0.8, 1.0]),
        down_check: dice.pick(&[DownCheck::Sensitivity, DownCheck::Consolidation]),
        min_observations: dice.between(1, 5),
        predictor: dice.pick(&[Method::Constant, Method::Arima, Method::Kalman(noise)]),
        log1p: dice.once_in(3),
        min_endpoint: dice.between(0, 2),
        max_gpus: dice.pick(&[-1, 1, 3, 8]),
        min_gpus: dice.pick(&[-1, -1, 2]),
        sweep: dice.once_in(2).then_some(sweep),
        ..Dynamo::new(pool, None)
    }
}

fn wva(dice: &mut Dice, moments: &Moments, pools: u32) -> Wva {
    let thresholds = Saturation {
        kv_spare_trigger: dice.pick(&[0.0, 0.1, 0.5]),
        queue_length_threshold: dice.pick(&[1.0, 5.0, 100.0]),
        queue_spare_trigger: dice.pick(&[0.0, 0.5, 1.0]),
        scale_up_threshold: dice.pick(&[0.1, 0.8]),
        scale_down_boundary: dice.pick(&[0.01, 0.09]),
        avg_input_tokens: dice.once_in(2).then_some(50.0),
        ..Saturation::default()
    };
    let analyzer = match dice.between(0, 2) {
        0 => {
            let transition = dice.pick(&[Transition::Variant, Transition::Model]);
            Analyzer::SaturationV1(thresholds, transition)
        }
        1 => Analyzer::SaturationV2(thresholds),
        _ => Analyzer::QueueingModel(QueueingModel {
            ttft_ms: dice.pick(&[1.0, 50.0, 1e6]),
            itl_ms: dice.pick(&[1.0, 10.0, 1e6]),
            max_batch_size: dice.pick(&[1, 4, 20]),
            ..QueueingModel::default()
        }),
    };
    let variant = |pool| Variant {
        pool,
        cost: dice.pick(&[1.0, 1.0, 3.0]),
        calibration: Calibration::OfSteps([dice.pick(&[1.0, 1000.0]), 10.0, 5.0]),
    };
    Wva {
        variants: (0..pools).map(variant).collect(),
        analyzer,
        optimization_interval: moments.interval(dice),
        window: moments.interval(dice),
        metric_delay: if dice.once_in(2) { Span::ZERO } else { moments.span(dice) },
        behavior: behavior(dice, moments),
    }
}

fn metric(dice: &mut Dice, moments: &Moments) -> Metric {
    use MetricType::{AverageValue, Cpu, Pods, Resource, Value};
    let (_, signal) = dice.pick(&Signal::ALL);
    Metric {
        kind: dice.pick(&[Pods, Resource, Value, AverageValue, Cpu]),
        signal,
        target: dice.pick(&[0.001, 0.5, 3.0, 50.0]),
        window: moments.interval(dice),
    }
}

fn trigger(dice: &mut Dice, moments: &Moments) -> Trigger {
    Trigger {
        metric: metric(dice, moments),
        activation_threshold: dice.pick(&[0.0, 0.5, 5.0]),
        ignore_null_values: dice.once_in(2),
    }
}

fn behavior(dice: &mut Dice, moments: &Moments) -> Behavior {
    let mut behavior = Behavior::default();
    for rates in [&mut behavior.up, &mut behavior.down] {
        rates.stabilization = if dice.once_in(2) { Span::ZERO } else { moments.span(dice) };
        for limit in &mut rates.limits {
            limit.period = moments.interval(dice);
        }
    }
    behavior
}

fn schedule(dice: &mut Dice, moments: &Moments, pools: u32) -> Schedule {
    let period = moments.interval(dice).times(u64::from(dice.between(1, 10)));
    let mut entries = vec![(Span::ZERO, dice.between(0, 4))];
    for _ in 0..dice.between(1, 3) {
        let at = Span::from_us(u64::from(dice.between(0, period.as_us() as u32 - 1)));
        entries.push((at, dice.between(0, 4)));
    }
    entries.sort_by_key(|entry| entry.0);
    Schedule { pool: dice.between(0, pools - 1), period, entries }
}

fn rule(dice: &mut Dice, moments: &Moments, pools: u32) -> Rule {
    let (_, signal) = dice.pick(&Signal::ALL);
    Rule {
        pool: dice.between(0, pools - 1),
        signal,
        limit: dice.pick(&[0.0, 0.0, 0.01, 0.5, 0.9, 2.0, 10.0, 100.0]),
        lasting: if dice.once_in(2) { Span::ZERO } else { moments.interval(dice) },
        window: moments.interval(dice).times(u64::from(dice.between(1, 4))),
        step: dice.between(1, 3),
    }
}

/// Changes that make what moves in a scenario simpler.
pub fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut simpler = Vec::new();
    let mut change = |edit: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        edit(&mut candidate);
        if candidate != *scenario {
            simpler.push(candidate);
        }
    };
    // Each change goes one way, or shrinking would go round in circles.
    change(&|s| {
        let recovery = s.conditions.recovery.clone();
        s.conditions = Conditions { recovery, ..Conditions::calm(s.conditions.seed) };
    });
    change(&|s| s.conditions.faults.clear());
    change(&|s| s.bundle.autoscaling = None);
    change(&|s| s.options.timeline = None);
    change(&|s| s.conditions.clients = Conduct { retry: None, timeout: None });
    change(&|s| s.conditions.clients.retry = None);
    change(&|s| s.conditions.clients.timeout = None);
    change(&|s| s.conditions.cold_start = false);
    change(&|s| s.trace.targets.clear());
    for at in 0..scenario.conditions.faults.len() {
        change(&|s| {
            s.conditions.faults.remove(at);
        });
    }
    change(&|s| s.conditions.recovery.detection = Delay::NONE);
    change(&|s| s.conditions.recovery.restart = Delay::NONE);
    for at in 0..scenario.bundle.pools.len() {
        change(&|s| {
            let instances = s.bundle.pools[at].instances.max(1);
            s.bundle.pools[at].fix(instances);
        });
        change(&|s| s.bundle.pools[at].max_instances = s.bundle.pools[at].instances.max(1));
        change(&|s| s.bundle.pools[at].zones.truncate(1));
        change(&|s| s.bundle.pools[at].market = Market::OnDemand);
        change(&|s| s.bundle.pools[at].start_up = constant(&s.bundle.pools[at].start_up));
    }
    change(&|s| {
        if let Some(Autoscaling { policy: ScalingPolicy::Thresholds(rules), .. }) =
            &mut s.bundle.autoscaling
        {
            rules.up.truncate(1);
            rules.down.clear();
        }
    });
    simpler
}

fn constant(start_up: &StartUp) -> StartUp {
    let (provisioning, warm_up) = (Delay::NONE, Delay::NONE);
    StartUp { provisioning, loading: Delay::Constant(start_up.mean()), warm_up }
}

/// Leaves one pool, and the autoscaler where it speaks of no other.
pub fn keep_one_pool(scenario: &mut Scenario) {
    scenario.bundle.pools.truncate(1);
    if scenario.bundle.autoscaling.as_ref().is_some_and(|scaling| scaling.pools() != [0]) {
        scenario.bundle.autoscaling = None;
    }
    if scenario.bundle.places() == 0 {
        scenario.bundle.pools[0].fix(1);
    }
}
