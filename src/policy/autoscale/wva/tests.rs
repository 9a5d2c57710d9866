use super::*;
use crate::policy::autoscale::hpa::{RateLimit, Unit};
use crate::policy::autoscale::{Action, PoolView};
use crate::policy::signals::{Answered, InstanceSample, PoolSample, Sample, Samples};

fn seconds(seconds: u64) -> Span {
    Span::from_us(seconds * 1_000_000)
}

fn at(time: u64) -> SimTime {
    SimTime::ZERO + seconds(time)
}

/// Variants of these costs.
fn wva(costs: &[f64], analyzer: Analyzer) -> Wva {
    let variant = |(pool, &cost): (u32, &f64)| {
        let calibration = Calibration::OfSteps([7000.0, 20.0, 3.0]);
        Variant { pool, cost, calibration }
    };
    Wva { variants: (0..).zip(costs).map(variant).collect(), analyzer, ..Wva::new(&[], None) }
}

const V1: fn() -> Analyzer =
    || Analyzer::SaturationV1(Saturation::default(), Transition::default());

/// A fleet whose instances are ready as soon as they are ordered.
struct Fleet {
    desired: Vec<u32>,
    samples: Samples,
    scaler: Box<dyn Autoscaler>,
}

impl Fleet {
    fn new(wva: &Wva, desired: &[u32]) -> Self {
        let samples = Samples::new(wva.window, Vec::new());
        Self { desired: desired.to_vec(), samples, scaler: wva.start(seconds(15)) }
    }

    /// A scrape that finds these per mille of KV in use and requests waiting on each instance of a
    /// pool, and a decision.
    fn tick(&mut self, now: u64, shown: &[(u64, u64)]) -> Vec<u32> {
        let mut sample = Sample { at: at(now), ..Sample::default() };
        for ((pool, &ready), &(kv_used, waiting)) in (0..).zip(&self.desired).zip(shown) {
            sample.pools.push(PoolSample { ready, ..PoolSample::default() });
            sample.instances.extend((0..ready).map(|place| InstanceSample {
                pool,
                place: 100 * pool + place,
                ready_since: Some(SimTime::ZERO),
                waiting,
                kv_used,
                kv_total: 1000,
                ..InstanceSample::default()
            }));
        }
        self.decide(sample)
    }

    fn decide(&mut self, sample: Sample) -> Vec<u32> {
        let now = sample.at;
        self.samples.push(sample);
        let view =
            |&desired: &u32| PoolView { desired, ready: desired, max: 30, ..PoolView::default() };
        let pools: Vec<PoolView> = self.desired.iter().map(view).collect();
        let mut orders = Vec::new();
        let view = FleetView { pools: &pools, signals: &self.samples };
        self.scaler.plan(now, &view, &mut orders);
        for order in orders {
            match order.action {
                Action::Launch { pool, count } => self.desired[pool as usize] += count,
                Action::Shrink { pool, count } => self.desired[pool as usize] -= count,
                Action::Drain(_) => unreachable!("an HPA names nobody"),
            }
        }
        self.desired.clone()
    }
}

/// The numbers of one pool at decisions 15 s apart.
fn course(wva: &Wva, from: u32, shown: &[(u64, u64)]) -> Vec<u32> {
    let mut fleet = Fleet::new(wva, &[from]);
    (1..).zip(shown).map(|(tick, &shown)| fleet.tick(15 * tick, &[shown])[0]).collect()
}

#[test]
fn what_is_emitted_every_60_s_is_found_15_s_later_and_applied() {
    let full = [(750, 0); 10];
    let expected = [2, 3, 3, 3, 3, 4, 4, 4, 4, 5];
    assert_eq!(course(&wva(&[1.0], V1()), 2, &full), expected, "emitted at 15, 75 and 135 s");
    let at_once = Wva { metric_delay: Span::ZERO, ..wva(&[1.0], V1()) };
    assert_eq!(course(&at_once, 2, &full)[..6], [3, 3, 3, 3, 4, 4]);
}

#[test]
fn the_worst_of_the_window_counts() {
    // Full for one scrape at 30 s, idle before and after; the analyzer decides at 15 and 75 s.
    let mut shown = [(400, 0); 8];
    shown[1] = (790, 0);
    assert_eq!(course(&wva(&[1.0], V1()), 2, &shown)[..8], [2, 2, 2, 2, 2, 3, 3, 3]);
    shown[1] = (400, 0);
    assert_eq!(course(&wva(&[1.0], V1()), 2, &shown), [2; 8]);
}

#[test]
fn an_undelivered_wish_outlasts_the_stabilization_of_the_hpa() {
    // V1 wishes for 3 at 15 s, and for nothing else before the HPA has made it 3.
    let shown = [(100, 0); 24];
    let course = course(&wva(&[1.0], V1()), 4, &shown);
    assert_eq!(course[..20], [4; 20], "{course:?}");
    assert_eq!(course[21], 3, "{course:?}");
}

#[test]
fn of_ten_the_hpa_does_not_make_eleven() {
    let full = [(750, 0); 10];
    assert_eq!(course(&wva(&[1.0], V1()), 10, &full), [10; 10], "1.1 is within the tolerance");
    assert_eq!(course(&wva(&[1.0], V1()), 9, &full)[1], 10);
    let mut strict = wva(&[1.0], V1());
    (strict.behavior.up.tolerance, strict.behavior.down.tolerance) = (0.0, 0.0);
    assert_eq!(course(&strict, 10, &full)[1], 11);
}

#[test]
fn each_variant_has_an_hpa_of_its_own() {
    let mut fleet = Fleet::new(&wva(&[5.0, 1.0], V1()), &[2, 2]);
    assert_eq!(fleet.tick(15, &[(750, 0), (750, 0)]), [2, 2]);
    assert_eq!(fleet.tick(30, &[(750, 0), (750, 0)]), [2, 3], "the cheap one grows");
}

#[test]
fn v2_adds_what_is_required_at_once_within_the_rates_of_the_hpa() {
    let thresholds = Saturation { avg_input_tokens: Some(512.0), ..Saturation::default() };
    let mut v2 = wva(&[1.0], Analyzer::SaturationV2(thresholds));
    // 2 * (1000 + 10 * 512) / 0.8 - 1600 are required, at 800 each: 18 more.
    assert_eq!(course(&v2, 2, &[(1000, 10); 4]), [2, 6, 12, 20], "as fast as the HPA goes");
    let limit = RateLimit { unit: Unit::Pods, value: 18, period: seconds(15) };
    v2.behavior.up.limits = vec![limit];
    assert_eq!(course(&v2, 2, &[(1000, 10); 4]), [2, 20, 20, 20]);
}

#[test]
fn the_prompts_answered_lately_are_those_that_wait() {
    let mut v2 = wva(&[1.0], Analyzer::SaturationV2(Saturation::default()));
    v2.behavior.up.limits = vec![RateLimit { unit: Unit::Pods, value: 99, period: seconds(15) }];
    let mut fleet = Fleet::new(&v2, &[2]);
    let mut tick = |now, requests, prompt_tokens| {
        let pod = |place| InstanceSample {
            place,
            ready_since: Some(SimTime::ZERO),
            waiting: 10,
            kv_used: 100,
            kv_total: 1000,
            ..InstanceSample::default()
        };
        let answered = Answered { requests, prompt_tokens, output_tokens: 1 };
        let pools = vec![PoolSample::default()];
        let instances = vec![pod(0), pod(1)];
        fleet.decide(Sample { at: at(now), answered, instances, pools, ..Sample::default() })[0]
    };
    assert_eq!([tick(15, 0, 0), tick(30, 0, 0)], [2, 2], "nobody was answered");
    assert_eq!([tick(45, 4, 400), tick(60, 4, 800), tick(75, 0, 0)], [2, 2, 2]);
    // 2 * (100 + 10 * 150) / 0.8 - 1600 at 800 each.
    assert_eq!(tick(90, 0, 0), 5);
}

/// The orders of a queueing model at 100 requests per second of 500 and 250 tokens.
fn modelled(wva: &Wva, desired: &[u32], rate: u64) -> Vec<u32> {
    let mut fleet = Fleet::new(wva, desired);
    let answered = Answered { requests: 2, prompt_tokens: 1000, output_tokens: 500 };
    let pools = vec![PoolSample::default(); desired.len()];
    for tick in 0..6 {
        let arrivals = 15 * tick * rate;
        let pools = pools.clone();
        fleet.decide(Sample { at: at(15 * tick), arrivals, answered, pools, ..Sample::default() });
    }
    fleet.desired
}

#[test]
fn the_model_orders_the_load_over_what_an_instance_carries() {
    let model = QueueingModel::default();
    let mut given = wva(&[1.0], Analyzer::QueueingModel(model));
    let lengths = Lengths { prompt: 500.0, output: 250.0 };
    let rate = model.rate(&given.variants[0], lengths).expect("it keeps the targets");
    // A batch of 256 takes 7 + 0.043 * 256 = 18.0 ms per token: 56 requests per second at most.
    assert!((50.0..57.0).contains(&rate), "{rate}");
    assert_eq!(modelled(&given, &[1], 100), [2]);
    assert_eq!(modelled(&given, &[1], 200), [4]);
    let tight = QueueingModel { itl_ms: 11.3, ..model };
    given.analyzer = Analyzer::QueueingModel(tight);
    // 7 + 0.043 * 100 ms: a batch of 100 serves 100 in 250 * 11.3 ms and a bit.
    let rate = tight.rate(&given.variants[0], lengths).expect("it keeps the targets");
    assert!((34.0..36.0).contains(&rate), "{rate}");
    assert_eq!(modelled(&given, &[1], 100), [3]);
    let short = QueueingModel { at_tokens: Some(25.0), ..model };
    let a_tenth = QueueingModel { max_batch_size: 25, ..model };
    assert_eq!(short.rate(&given.variants[0], lengths), a_tenth.rate(&given.variants[0], lengths));
}

#[test]
fn the_model_takes_the_cheapest_variant_and_leaves_its_least_to_the_other() {
    let mut two = wva(&[1.0, 9.0], Analyzer::QueueingModel(QueueingModel::default()));
    two.behavior.down.stabilization = Span::ZERO;
    assert_eq!(modelled(&two, &[0, 2], 100), [2, 0]);
    let impossible = QueueingModel { itl_ms: 7.0, ..QueueingModel::default() };
    two.analyzer = Analyzer::QueueingModel(impossible);
    assert_eq!(modelled(&two, &[0, 2], 100), [0, 2], "no allocation, no wish");
}
