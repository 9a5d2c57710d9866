//! What every router and every scorer keeps, whatever it goes by: it decides the same twice, takes
//! only instances that are open, scores between 0 and 1, does not know how long answers will be,
//! and goes by what instances are, not by their numbers.
//!
//! Routers are found by the names that a bundle may have, scorers in their table, so that new ones
//! are held to this from the start.

use blis_opt::base::{ClientId, SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::load::Load;
use blis_opt::policy::router::{Router, router};
use blis_opt::policy::view::{ChainBlocks, ClusterView, RequestView, Seen};
use blis_opt::policy::{PolicyBundle, ScorerKind, read_bundle, routing_names};
use blis_opt::sim::outcome::RequestRecord;
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate_under};
use blis_opt::workload::{Chain, NO_CHAIN};

use crate::swarm::{Dice, Scenario};

const INSTANCES: usize = 6;

/// Every router as a bundle would have it: by name, and a weighted one per scorer and picker.
fn routers() -> Vec<(String, PolicyBundle)> {
    let mut texts: Vec<String> =
        routing_names().iter().map(|name| format!("policy: {name}")).collect();
    for (name, _) in ScorerKind::ALL {
        texts.push(format!("policy: weighted, scorers: [{{name: {name}, weight: 2}}]"));
    }
    for picker in ["ties: random", "picker: weighted-random"] {
        let all = ScorerKind::ALL.map(|(name, _)| format!("{{name: {name}, weight: 1}}"));
        texts.push(format!("policy: weighted, {picker}, scorers: [{}]", all.join(", ")));
    }
    texts.push("policy: least-connections, weights: {default: 3}".to_owned());
    texts.push(
        "policy: f5-s2-enhanced, f5: {member_running_req_threshold: 5, \
         member_waiting_queue_threshold: 5}"
            .to_owned(),
    );
    texts.into_iter().map(|text| (text.clone(), bundle(&text))).collect()
}

fn bundle(routing: &str) -> PolicyBundle {
    let text = format!(
        "pools: {{default: {{instances: {INSTANCES}}}}}\nrouting: {{{routing}}}\n\
         kv_cache: {{block_size_tokens: 16}}\n"
    );
    let mut problems = Problems::new();
    let node = parse("fleet.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    bundle.unwrap_or_else(|| panic!("{}", problems.render(false)))
}

/// What a router sees of a fleet at some moment.
#[derive(Clone)]
struct Sight {
    load: Vec<u32>,
    kv_utilization: Vec<f64>,
    open: Vec<bool>,
    seen: Seen,
    request: RequestView,
}

impl Sight {
    /// Any sight, in which no two instances are alike.
    fn random(dice: &mut Dice, id: u32) -> Self {
        let distinct = |dice: &mut Dice, step: u32| {
            let mut values: Vec<u32> =
                (0..INSTANCES as u32).map(|at| at * step + dice.between(0, step - 1)).collect();
            for at in (1..INSTANCES).rev() {
                values.swap(at, dice.between(0, at as u32) as usize);
            }
            values
        };
        let load = distinct(dice, 20);
        let percent = distinct(dice, 15);
        let kv_utilization = percent.iter().map(|&value| f64::from(value) / 100.0).collect();
        let mut open: Vec<bool> = (0..INSTANCES).map(|_| !dice.once_in(3)).collect();
        open[dice.between(0, INSTANCES as u32 - 1) as usize] = true;
        let cached = if dice.once_in(2) { vec![0; INSTANCES] } else { distinct(dice, 3) };
        // So far apart that no running requests make up for a difference.
        let waiting = distinct(dice, 7).iter().map(|&waiting| 2 * waiting).collect();
        let seen = Seen {
            waiting,
            running: distinct(dice, 1),
            sent: distinct(dice, 13),
            prompt_tokens: distinct(dice, 4000).into_iter().map(u64::from).collect(),
            cached,
        };
        let request = RequestView {
            id,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::from_us(u64::from(id) * 1000),
            input: 320,
            prompt_blocks: 20,
            chain: dice.pick(&[0, 1, 2, NO_CHAIN]),
            chain_blocks: dice.between(0, 20),
        };
        Self { load, kv_utilization, open, seen, request }
    }

    /// The same fleet with instance `at` called `names[at]`.
    fn relabelled(&self, names: &[usize]) -> Self {
        fn moved<T: Clone>(column: &[T], names: &[usize]) -> Vec<T> {
            let mut moved = column.to_vec();
            for (at, value) in column.iter().enumerate() {
                moved[names[at]] = value.clone();
            }
            moved
        }
        Self {
            load: moved(&self.load, names),
            kv_utilization: moved(&self.kv_utilization, names),
            open: moved(&self.open, names),
            seen: Seen {
                waiting: moved(&self.seen.waiting, names),
                running: moved(&self.seen.running, names),
                sent: moved(&self.seen.sent, names),
                prompt_tokens: moved(&self.seen.prompt_tokens, names),
                cached: moved(&self.seen.cached, names),
            },
            request: self.request,
        }
    }

    fn route(&self, router: &mut dyn Router) -> usize {
        let mut load = Load::from(self.load.as_slice());
        for (at, &open) in self.open.iter().enumerate() {
            load.set_open(at, open);
        }
        let mut chains = ChainBlocks::default();
        let chain = Chain { parent: NO_CHAIN, start: 0 };
        chains.rebuild(&[chain, chain, chain], 16);
        let cluster = ClusterView {
            load: &load,
            kv_utilization: &self.kv_utilization,
            chains: &chains,
            open: Some(&self.open),
            seen: &self.seen,
        };
        router.route(&self.request, &cluster).index()
    }
}

fn sights(seed: u64, count: u32) -> Vec<Sight> {
    let dice = &mut Dice::new(seed);
    (0..count).map(|id| Sight::random(dice, id)).collect()
}

#[test]
fn the_same_sights_give_the_same_decisions() {
    for (name, bundle) in routers() {
        let decide = |seed: u64| {
            let mut router = router(&bundle, seed);
            sights(1, 300).iter().map(|sight| sight.route(&mut *router)).collect::<Vec<_>>()
        };
        assert_eq!(decide(5), decide(5), "{name}");
    }
}

#[test]
fn nobody_is_sent_to_an_instance_that_is_not_open() {
    for (name, bundle) in routers() {
        let mut router = router(&bundle, 3);
        for (turn, sight) in sights(2, 2000).into_iter().enumerate() {
            let chosen = sight.route(&mut *router);
            assert!(sight.open[chosen], "{name} took {chosen} of {:?}", sight.open);
            if turn % 50 == 0 {
                router.forget(blis_opt::base::InstanceId::new(chosen));
            }
        }
    }
}

#[test]
fn one_scorer_alone_is_weighed_between_nothing_and_its_weight() {
    // A scorer with a hundredth of the weight of a binary one cannot turn its decision: no score
    // is outside of [0, 1].
    for (name, _) in ScorerKind::ALL {
        let heavy = "{name: kv-utilization, weight: 100}";
        if name == "kv-utilization" {
            continue;
        }
        let both = format!("policy: weighted, scorers: [{heavy}, {{name: {name}, weight: 1}}]");
        let mut router = router(&bundle(&both), 1);
        for mut sight in sights(3, 500) {
            let best = sight.open.iter().rposition(|&open| open).expect("one is open");
            for at in 0..INSTANCES {
                sight.kv_utilization[at] = if at == best { 0.5 } else { 0.5101 };
            }
            assert_eq!(sight.route(&mut *router), best, "{name}");
        }
    }
}

/// Whether decisions depend on nothing but the sight: they can be compared instance by instance.
fn is_memoryless(name: &str) -> bool {
    let remembers = ["round-robin", "prefix-affinity", "no-hit-lru", "session"];
    let by_chance = ["least-outstanding", "f5", "weighted-random"];
    !remembers.iter().chain(&by_chance).any(|part| name.contains(part))
}

#[test]
fn instances_are_known_by_what_they_are_and_not_by_their_numbers() {
    let names = [3, 0, 5, 1, 4, 2];
    let mut compared = 0;
    for (name, bundle) in routers().into_iter().filter(|(name, _)| is_memoryless(name)) {
        let (mut one, mut other) = (router(&bundle, 1), router(&bundle, 1));
        for sight in sights(4, 300) {
            let equal_cache = sight.seen.cached.iter().all(|&cached| cached == 0);
            if equal_cache && name.contains("precise-prefix-cache") {
                continue;
            }
            let chosen = sight.route(&mut *one);
            let relabelled = sight.relabelled(&names).route(&mut *other);
            assert_eq!(names[chosen], relabelled, "{name}: {:?}", sight.load);
            compared += 1;
        }
    }
    assert!(compared > 3000, "{compared}");
}

#[test]
fn chance_prefers_the_same_instances_under_any_numbers() {
    let names = [3, 0, 5, 1, 4, 2];
    let chance = ["least-outstanding", "f5", "weighted-random"];
    let by_chance = |name: &String| chance.iter().any(|part| name.contains(part));
    for (name, bundle) in routers().into_iter().filter(|(name, _)| by_chance(name)) {
        for sight in sights(5, 4) {
            let shares = |sight: &Sight| {
                let (mut router, mut times) = (router(&bundle, 9), [0_i32; INSTANCES]);
                for _ in 0..4000 {
                    times[sight.route(&mut *router)] += 1;
                }
                times
            };
            let (plain, moved) = (shares(&sight), shares(&sight.relabelled(&names)));
            for at in 0..INSTANCES {
                let off = (plain[at] - moved[names[at]]).abs();
                // Four and a half deviations of a difference of two shares of 4,000.
                assert!(off < 202, "{name}: {plain:?}, relabelled {moved:?}");
            }
        }
    }
}

/// A fleet under load, half of whose answers come in the time of the run.
fn run(bundle: &PolicyBundle, scenario: &Scenario) -> Outcome {
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    };
    simulate_under(bundle, &scenario.trace, &scenario.conditions, &options, &mut Scratch::default())
}

#[test]
fn no_router_knows_how_long_answers_will_be() {
    for (name, mut bundle) in routers() {
        bundle.signals.metrics_fetch_interval = Span::from_us(3000);
        bundle.signals.kv_utilization_refresh = Span::from_us(3000);
        let requests: Vec<(u64, u32, u32)> =
            (0..120).map(|id| (id * 4000, 20 + (id as u32 * 37) % 300, 150)).collect();
        let scenario = Scenario::plain(1000, 16, &requests);
        let mut longer = scenario.clone();
        for (at, output) in longer.trace.output.iter_mut().enumerate() {
            *output = 90 + (at as u32 * 53) % 200;
        }
        let (one, other) = (run(&bundle, &scenario), run(&bundle, &longer));
        let ends = |outcome: &Outcome| {
            let known = |record: &RequestRecord| record.finished_us;
            outcome.requests.iter().map(known).min().expect("there are some")
        };
        let first = ends(&one).min(ends(&other));
        let routes = |outcome: &Outcome| {
            let before = |record: &&RequestRecord| record.routed_us < first;
            let routed = outcome.requests.iter().filter(before);
            routed.map(|record| record.instance).collect::<Vec<_>>()
        };
        assert!(routes(&one).len() > 20, "{name}: {}", routes(&one).len());
        assert_eq!(routes(&one), routes(&other), "{name}");
    }
}

/// All that can be said about a router.
const EVERYTHING: &str = "
pools: {a: {instances: 2}, b: {instances: 2}}
routing:
  policy: POLICY
  scorers: [{name: waiting-requests, weight: 1}, {name: load-aware, weight: 1, threshold: 128}]
  picker: max-score
  ties: lowest-index
  choices: 2
  weights: {a: 1, b: 1}
  f5: {w_a: 0.2, w_b: 0.8, w_g: 0.2, transition_point: 30, steepness: 1}
signals: {metrics_fetch_interval: 3s}
";

#[test]
fn every_knob_of_a_router_can_be_turned_by_a_search() {
    let knobs = [
        ("weighted", "routing.scorers.waiting-requests.weight", "2"),
        ("weighted", "routing.scorers.load-aware.threshold", "64"),
        ("weighted", "routing.picker", "weighted-random"),
        ("weighted", "routing.ties", "random"),
        ("weighted", "signals.metrics_fetch_interval", "10s"),
        ("least-outstanding-requests", "routing.choices", "3"),
        ("least-connections", "routing.weights.b", "2.5"),
        ("weighted-round-robin", "routing.weights", "capacity"),
        ("f5-s1", "routing.f5.w_a", "0.5"),
        ("f5-s1", "routing.f5.w_b", "0.5"),
        ("f5-s2-enhanced", "routing.f5.w_g", "0.5"),
        ("f5-s2-dynamic-waiting", "routing.f5.transition_point", "15"),
        ("f5-s2-dynamic-waiting", "routing.f5.steepness", "2"),
    ];
    for (policy, path, value) in knobs {
        let mut problems = Problems::new();
        let text = EVERYTHING.replace("POLICY", policy);
        let plain = parse("plain.yaml", &text, &mut problems).expect("valid YAML");
        let value = parse("value.yaml", value, &mut problems).expect("valid YAML").value;
        let mut turned = plain.clone();
        assert!(turned.set(path, value), "{path} is in the template");
        let read = |node, problems: &mut Problems| {
            read_bundle(node, Defaults::embedded(), problems).expect("valid")
        };
        let (plain, turned) = (read(&plain, &mut problems), read(&turned, &mut problems));
        let differs = plain.routing != turned.routing || plain.signals != turned.signals;
        assert!(differs, "{path} of {policy}");
    }
}
