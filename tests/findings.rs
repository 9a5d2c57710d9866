//! Published findings about the reference simulator come back from our own generator and
//! simulator: horizontal scaling (H7), routing of conversations near saturation (H377), and the
//! capacity-planning tutorial, whose numbers are wrong where its runs are too short.
//!
//! The documents give figures for seeds of another generator, so a figure that chance moves is
//! compared as a mean over seeds. What the reference calls Poisson arrivals are evenly spaced.

use blis_opt::base::{SimTime, Span};
use blis_opt::config::{self, Defaults, Problems};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::sim::outcome::RequestRecord;
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{Limits, WorkloadSpec, generate};

/// The seeds of both documents.
const SEEDS: [u64; 3] = [42, 123, 456];

/// Llama 3.1 8B on H100 with TP 2 and the engine limits of the reference.
fn fleet(instances: u32, routing: &str) -> PolicyBundle {
    let text = format!(
        "pools: {{h100: {{model: meta-llama/llama-3.1-8b-instruct, gpu: H100, \
         tensor_parallelism: 2, instances: {instances}}}}}\nrouting: {routing}\n"
    );
    let mut problems = Problems::new();
    let node = config::parse("fleet", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.list());
    bundle.expect("a valid bundle")
}

fn workload(text: &str) -> WorkloadSpec {
    let mut problems = Problems::new();
    let node = config::parse("workload", text, &mut problems).expect("valid YAML");
    let spec = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.list());
    spec.expect("a valid workload")
}

fn requests(number: u64) -> Limits {
    Limits { duration: None, max_requests: Some(number) }
}

fn seconds(duration: f64) -> Limits {
    Limits { duration: Some(Span::from_secs(duration)), max_requests: None }
}

/// One run to its end, with a record of every request.
fn run(
    bundle: &PolicyBundle,
    spec: &WorkloadSpec,
    seed: u64,
    limits: Limits,
    warm_up_s: f64,
) -> Outcome {
    let options = RunOptions {
        warm_up: SimTime::ZERO + Span::from_secs(warm_up_s),
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    };
    simulate(bundle, &generate(spec, seed, limits), &options, &mut Scratch::default())
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Panics unless `value` is within `share` of `expected`.
fn assert_near(what: &str, value: f64, expected: f64, share: f64) {
    eprintln!("{what}: {value:.3}, expected {expected:.3}");
    let off = value / expected - 1.0;
    assert!(off.abs() <= share, "{what} is {value:.3}, {:+.1} % off {expected:.3}", off * 100.0);
}

/// The SLO of the tutorial, kept in a run that lasted long enough to tell.
fn is_feasible(outcome: &Outcome) -> bool {
    outcome.ttft.p99_ms <= 500.0 && outcome.stability.stable
}

mod h7 {
    use super::*;

    const INSTANCES: [u32; 3] = [2, 4, 8];
    /// Seeds behind a mean that is compared with the document's mean over three.
    const MANY: std::ops::Range<u64> = 0..30;

    /// TTFT mean and p99, E2E mean and p99 in milliseconds, with 2, 4 and 8 instances: the means
    /// of the document's three rows.
    const SATURATED: [[f64; 4]; 3] = [
        [1156.84, 2286.31, 6958.44, 11955.64],
        [470.52, 937.84, 5595.80, 10527.86],
        [138.12, 278.32, 4924.16, 9858.51],
    ];
    const CONTROL: [[f64; 4]; 3] = [
        [27.68, 46.77, 5754.90, 11144.72],
        [25.45, 41.16, 5079.53, 10191.19],
        [25.05, 38.69, 4769.13, 9734.22],
    ];

    /// 500 evenly spaced requests to 2, 4 and 8 instances.
    fn sweep(rate: u32, seed: u64) -> [Outcome; 3] {
        let spec = workload(&format!("{{rate: {rate}, arrivals: constant}}"));
        INSTANCES.map(|n| run(&fleet(n, "{policy: least-loaded}"), &spec, seed, requests(500), 0.0))
    }

    fn ratio(sweep: &[Outcome; 3]) -> f64 {
        sweep[2].ttft.p99_ms / sweep[1].ttft.p99_ms
    }

    /// The ratios of TTFT p99 with 8 and 4 instances, by seed.
    fn ratios(rate: u32) -> Vec<f64> {
        let ratios = SEEDS.map(|seed| ratio(&sweep(rate, seed))).to_vec();
        eprintln!("rate {rate}: 8/4 TTFT p99 ratios {ratios:.3?} for seeds {SEEDS:?}");
        ratios
    }

    /// Means over seeds within 5 %: three seeds, as the document has, stray by that much. E2E in
    /// the document counts one step too many per answer (a quarter of a percent here). Our
    /// smaller KV cache has no effect: nothing is preempted.
    fn assert_levels(rate: u32, published: &[[f64; 4]; 3]) {
        let sweeps: Vec<_> = MANY.map(|seed| sweep(rate, seed)).collect();
        let figures = |o: &Outcome| [o.ttft.mean_ms, o.ttft.p99_ms, o.e2e.mean_ms, o.e2e.p99_ms];
        for (at, expected) in published.iter().enumerate() {
            let rows: Vec<_> = sweeps.iter().map(|sweep| figures(&sweep[at])).collect();
            for (column, name) in
                ["TTFT mean", "TTFT p99", "E2E mean", "E2E p99"].iter().enumerate()
            {
                let what = format!("rate {rate}, {} instances, {name}", INSTANCES[at]);
                assert_near(
                    &what,
                    mean(rows.iter().map(|row| row[column])),
                    expected[column],
                    0.05,
                );
            }
            assert!(sweeps.iter().all(|sweep| sweep[at].preemptions == 0));
            assert!(sweeps.iter().all(|sweep| sweep[at].counts.completed == 500));
        }
    }

    #[test]
    fn under_saturation_8_instances_have_three_tenths_of_the_ttft_p99_of_4() {
        let ratios = ratios(1000);
        assert!((0.27..=0.33).contains(&mean(ratios.clone())), "{ratios:?}");
        // The document's own seeds lie between 0.284 and 0.304, ours between 0.255 and 0.299.
        assert!(ratios.iter().all(|ratio| (0.25..=0.35).contains(ratio)), "{ratios:?}");
        let many = mean(MANY.map(|seed| ratio(&sweep(1000, seed))));
        assert!((0.285..=0.31).contains(&many), "{many}");
    }

    #[test]
    fn below_saturation_more_instances_change_little() {
        let ratios = ratios(100);
        assert!((0.85..=1.0).contains(&mean(ratios.clone())), "{ratios:?}");
        assert!(ratios.iter().all(|ratio| (0.85..=1.05).contains(ratio)), "{ratios:?}");
    }

    #[test]
    fn ttft_p99_falls_from_2_to_4_to_8_instances() {
        for (rate, seed) in [1000, 100].into_iter().flat_map(|rate| SEEDS.map(|s| (rate, s))) {
            let p99 = sweep(rate, seed).map(|outcome| outcome.ttft.p99_ms);
            assert!(
                p99.is_sorted_by(|more, less| more > less),
                "rate {rate}, seed {seed}: {p99:?}"
            );
        }
    }

    #[test]
    fn the_levels_of_the_tables_come_back() {
        assert_levels(1000, &SATURATED);
        assert_levels(100, &CONTROL);
    }
}

mod h377 {
    use super::*;

    /// The document's workload; `open_loop` because the reference's rounds wait for nothing.
    const CHAT: &str = "
category: reasoning
aggregate_rate: RATE
clients:
  - id: multi-turn-chat
    tenant_id: t-multi-turn-chat
    slo_class: interactive
    rate_fraction: 1.0
    open_loop: true
    arrival: {process: poisson}
    input_distribution: {type: gaussian, params: {mean: 128, std_dev: 30, min: 32, max: 512}}
    output_distribution: {type: gaussian, params: {mean: 64, std_dev: 20, min: 16, max: 256}}
    reasoning:
      multi_turn: {max_rounds: 5, think_time_us: 500000, context_growth: accumulate}
";

    /// C1 to C5: weights of prefix affinity, queue depth and KV utilization, in the document's
    /// order of scorers.
    const CONFIGURATIONS: [(&str, &str); 5] = [
        ("cache-heavy", "prefix-affinity 5, queue-depth 1"),
        ("llmd-default", "prefix-affinity 3, queue-depth 2, kv-utilization 2"),
        ("load-only", "queue-depth 3, kv-utilization 2"),
        ("load-heavy", "prefix-affinity 1, queue-depth 5"),
        ("kv-heavy", "kv-utilization 5, queue-depth 1"),
    ];
    const CACHE_HEAVY: usize = 0;
    const LOAD_ONLY: usize = 2;
    const KV_HEAVY: usize = 4;

    fn weighted(scorers: &str) -> PolicyBundle {
        let entries: Vec<_> = scorers
            .split(", ")
            .filter_map(|scorer| scorer.split_once(' '))
            .map(|(name, weight)| format!("{{name: {name}, weight: {weight}}}"))
            .collect();
        fleet(4, &format!("{{policy: weighted, scorers: [{}]}}", entries.join(", ")))
    }

    /// 500 requests of about 100 conversations under each configuration.
    fn outcomes(rate: u32, seed: u64) -> [Outcome; 5] {
        let spec = workload(&CHAT.replace("RATE", &rate.to_string()));
        CONFIGURATIONS.map(|(_, scorers)| run(&weighted(scorers), &spec, seed, requests(500), 0.0))
    }

    fn every_run(check: impl Fn(u32, u64, &[Outcome; 5])) {
        for (rate, seed) in [300, 1000].into_iter().flat_map(|rate| SEEDS.map(|s| (rate, s))) {
            check(rate, seed, &outcomes(rate, seed));
        }
    }

    #[test]
    fn cache_heavy_routing_is_best_at_both_rates() {
        type Figure = fn(&Outcome) -> f64;
        let figures: [(&str, Figure); 4] = [
            ("TTFT mean", |outcome| outcome.ttft.mean_ms),
            ("TTFT p99", |outcome| outcome.ttft.p99_ms),
            ("E2E mean", |outcome| outcome.e2e.mean_ms),
            ("E2E p99", |outcome| outcome.e2e.p99_ms),
        ];
        every_run(|rate, seed, outcomes| {
            for (name, figure) in figures {
                let values = outcomes.each_ref().map(figure);
                let others = &values[CACHE_HEAVY + 1..];
                let is_best = others.iter().all(|&other| values[CACHE_HEAVY] < other);
                assert!(is_best, "rate {rate}, seed {seed}, {name}: {values:.1?}");
            }
            assert!(outcomes.iter().all(|o| o.counts.completed == 500 && o.preemptions == 0));
        });
    }

    #[test]
    fn load_only_and_kv_heavy_routing_are_identical() {
        every_run(|rate, seed, outcomes| {
            let [load_only, kv_heavy] = [LOAD_ONLY, KV_HEAVY].map(|at| &outcomes[at].requests);
            assert_eq!(load_only.len(), 500);
            assert!(load_only == kv_heavy, "rate {rate}, seed {seed}");
        });
    }

    #[test]
    fn conversations_spread_evenly_and_two_fifths_of_their_blocks_are_cached() {
        every_run(|rate, seed, outcomes| {
            let sticky = &outcomes[CACHE_HEAVY];
            assert_near("cache hits of cache-heavy", sticky.cache_hit_rate, 0.397, 0.03);
            assert_near("cache hits of load-only", outcomes[LOAD_ONLY].cache_hit_rate, 0.114, 0.1);
            assert!(sticky.jain_fairness > 0.99, "rate {rate}, seed {seed}");
        });
    }
}

mod tutorial {
    use super::*;

    const EVEN: &str = "{rate: 500, arrivals: constant}";
    const POISSON: &str = "{rate: 500, arrivals: poisson}";
    /// An answer takes 5 s and more: the fleet is full after three times as long.
    const WARM_UP_S: f64 = 15.0;
    const END_S: f64 = 75.0;

    fn round_robin(instances: u32, requests_sent: u64) -> [Outcome; 3] {
        let (bundle, spec) = (fleet(instances, "{policy: round-robin}"), workload(EVEN));
        SEEDS.map(|seed| run(&bundle, &spec, seed, requests(requests_sent), 0.0))
    }

    fn steady(instances: u32, seed: u64) -> Outcome {
        let bundle = fleet(instances, "{policy: round-robin}");
        run(&bundle, &workload(POISSON), seed, seconds(END_S), WARM_UP_S)
    }

    fn p99_ms(outcomes: &[Outcome; 3]) -> [f64; 3] {
        outcomes.each_ref().map(|outcome| outcome.ttft.p99_ms)
    }

    /// With 8 instances the queue grows for all of 40 s: a law of large numbers, 5 %. With 12 the
    /// load is 1.02 of the capacity and the queue is what chance makes of that: 25 % for the mean
    /// over seeds. With 13 there is no queue: 5 %.
    #[test]
    fn over_20_000_requests_13_instances_are_needed() {
        for (instances, published_ms, share) in
            [(8, 19_400.0, 0.05), (12, 940.0, 0.25), (13, 39.0, 0.05)]
        {
            let p99 = p99_ms(&round_robin(instances, 20_000));
            eprintln!("{instances} instances: TTFT p99 {p99:.1?} ms for seeds {SEEDS:?}");
            assert_near(
                &format!("{instances} instances, TTFT p99"),
                mean(p99),
                published_ms,
                share,
            );
            assert!(p99.iter().all(|&p99| (p99 <= 500.0) == (instances >= 13)), "{p99:?}");
        }
    }

    #[test]
    fn the_same_runs_tell_12_instances_from_13_by_the_growth_of_the_queue() {
        let verdicts = |instances| {
            let outcomes = round_robin(instances, 20_000);
            outcomes.map(|outcome| outcome.stability.stable)
        };
        assert_eq!([8, 12, 13].map(verdicts), [[false; 3], [false; 3], [true; 3]]);
    }

    /// Four seconds of traffic: the first answers are not even finished.
    #[test]
    fn over_2_000_requests_8_instances_look_fine_and_the_run_says_it_is_too_short() {
        let outcomes = round_robin(8, 2_000);
        assert_near("8 instances, TTFT p99", mean(p99_ms(&outcomes)), 60.0, 0.1);
        for outcome in outcomes {
            eprintln!("{:?}", outcome.stability);
            assert!(!outcome.stability.stable && !is_feasible(&outcome));
            assert!(outcome.stability.growth_rps > 250.0, "{:?}", outcome.stability);
        }
    }

    /// At 1.02 of the capacity chance may send so few requests that the queue of 12 instances does
    /// not grow in this minute; its TTFT is too long all the same.
    #[test]
    fn in_the_steady_state_8_and_12_instances_are_infeasible_and_14_are_not() {
        let mut growing = 0;
        for seed in SEEDS {
            let [eight, twelve, fourteen] = [8, 12, 14].map(|n| steady(n, seed));
            assert!(!eight.stability.stable && !is_feasible(&eight), "seed {seed}");
            // 500 requests come per second and 8 * 41 are answered.
            assert!((eight.stability.growth_rps - 172.0).abs() < 20.0, "{:?}", eight.stability);
            assert!(!is_feasible(&twelve), "seed {seed}");
            growing += u32::from(!twelve.stability.stable);
            assert!(fourteen.stability.stable && is_feasible(&fourteen), "seed {seed}");
        }
        eprintln!("12 instances: unstable with {growing} of {} seeds", SEEDS.len());
        assert!(growing >= 2);
    }

    #[test]
    fn feasibility_is_monotone_in_the_number_of_instances() {
        let counts = 4..=20;
        for seed in SEEDS {
            let feasible: Vec<_> = counts.clone().map(|n| is_feasible(&steady(n, seed))).collect();
            let least = counts.clone().zip(&feasible).find(|(_, feasible)| **feasible);
            eprintln!("seed {seed}: feasible from {least:?} on");
            assert!(feasible.is_sorted(), "seed {seed}: {feasible:?}");
            assert_eq!(least.map(|(instances, _)| instances), Some(13), "seed {seed}");
        }
    }

    /// At a full batch a request costs its share of every step it is in, 24.3 ms; the tutorial's
    /// 57/s counts one prefill and one decode step.
    #[test]
    fn one_instance_serves_41_requests_per_second_and_not_57() {
        let bundle = fleet(1, "{policy: round-robin}");
        let [b0, b1, b2] = bundle.pools[0].latency.beta;
        let batch = f64::from(bundle.batching.max_running);
        let computed = 1e6 / (512.0 * b1 + 511.0 * b2 + 512.0 / batch * b0);
        let spec = workload("{rate: 80, arrivals: poisson}");
        let served =
            SEEDS.map(|seed| served_per_s(&run(&bundle, &spec, seed, seconds(300.0), 0.0)));
        eprintln!("served {served:.2?} requests/s, computed {computed:.2}");
        assert_near("one instance, requests/s", mean(served), 41.0, 0.02);
        assert_near("one instance, requests/s", mean(served), computed, 0.02);
    }

    /// Requests answered per second between 50 s and 300 s.
    fn served_per_s(outcome: &Outcome) -> f64 {
        let inside =
            |record: &&RequestRecord| (50_000_000..300_000_000).contains(&record.finished_us);
        outcome.requests.iter().filter(inside).count() as f64 / 250.0
    }
}
