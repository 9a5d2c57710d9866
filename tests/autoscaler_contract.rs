//! What every autoscaler must keep to, whichever it is.
//!
//! Runs over all names that `autoscaling.policy` knows, each as its samples in `policies/` have it
//! and with its fleet and brakes varied: a new one is covered with its sample, and without one the
//! tests fail. A failing case prints the policy and its number; `BLIS_OPT_CONTRACT_CASE=<number>`
//! runs that number alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blis_opt::base::{Bins, InstanceId, SimTime, Span};
use blis_opt::config::{Defaults, Problems, parse};
use blis_opt::policy::autoscale::{
    Action, Autoscaler, CooldownFrom, Drain, FleetView, Foresight, PoolView, ScaleOrder,
    autoscaler, policy_names,
};
use blis_opt::policy::signals::{
    Answered, EngineSample, Pass, PoolSample, Quantiles, Sample, Samples, TokenCost,
};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::scenario::{Conditions, Fault, InFlight, Strike, Victim};
use blis_opt::sim::fleet_outcome::{FleetEvent, Happening};
use blis_opt::sim::outcome::{RequestRecord, RequestState};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate_under};
use blis_opt::workload::{Trace, WorkloadSpec, generate};

use crate::swarm::{Dice, environment, row};

/// Fleets and loads per sample.
const CASES: u64 = 5;

/// The name of a policy and its `autoscaling` as a sample has it.
struct Sampled {
    name: String,
    /// The lines under `autoscaling:`.
    text: String,
}

/// The samples that have an autoscaler, in order of their files.
fn samples() -> Vec<Sampled> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let lines = text.lines().skip_while(|line| *line != "autoscaling:").skip(1);
        let lines: Vec<&str> = lines.take_while(|line| line.starts_with("  ")).collect();
        let policy = lines.iter().find_map(|line| line.strip_prefix("  policy: "))?;
        let name = policy.split('#').next().expect("one part").trim().to_owned();
        Some(Sampled { name, text: lines.join("\n") })
    };
    paths.iter().filter_map(read).collect()
}

/// Runs `law` on every sample and every case.
fn for_all(law: impl Fn(&Sampled, u64)) {
    let only = environment("BLIS_OPT_CONTRACT_CASE");
    for sampled in samples() {
        for case in only.map_or(0..CASES, |case| case..case + 1) {
            law(&sampled, case);
        }
    }
}

/// A fleet of three pools: `a` stands still, `b` scales, `c` is closed for good. `order` says in
/// which order they are written.
fn fleet(sampled: &Sampled, order: [usize; 3], case: u64) -> PolicyBundle {
    let mut dice = Dice::new(case);
    let min = dice.between(0, 2);
    let instances = min + dice.between(0, 2);
    let max = instances + dice.between(1, 5);
    let engine = "gpu: H100, tensor_parallelism: 1, price_per_gpu_hour: 2, kv_blocks: 20000, \
                  alpha: [2000, 3, 0], beta: [20000, 60, 100]";
    let start = dice.pick(&[0, 5, 40]);
    let pools = [
        format!("a: {{{engine}, instances: {}}}", dice.between(0, 1)),
        format!(
            "b: {{{engine}, instances: {instances}, min_instances: {min}, max_instances: {max}, \
             start_up: {start}s}}"
        ),
        format!("c: {{{engine}, instances: 0, min_instances: 0, max_instances: 0}}"),
    ];
    let pools: Vec<&str> = order.iter().map(|&at| pools[at].as_str()).collect();
    let text = format!(
        "pools: {{{}}}\nrouting: {{policy: least-loaded}}\n\
         batching: {{max_running_requests: 64}}\nautoscaling:\n  pool: b\n{}\n",
        pools.join(", "),
        sampled.text
    );
    let mut problems = Problems::new();
    let node = parse("contract.yaml", &text, &mut problems).expect("valid YAML");
    let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
    let mut bundle =
        bundle.unwrap_or_else(|| panic!("{}: {}", sampled.name, problems.render(false)));
    let scaling = bundle.autoscaling.as_mut().expect("it scales");
    if case > 0 {
        let seconds = |s: u64| Span::from_us(s * 1_000_000);
        scaling.drain = dice.pick(&[Drain::Finish, Drain::HandBack]);
        scaling.cooldown_up = seconds(dice.pick(&[0, 0, 20]));
        scaling.cooldown_down = seconds(dice.pick(&[0, 0, 45]));
        scaling.cooldown_from = dice.pick(&[CooldownFrom::Decision, CooldownFrom::Ready]);
        scaling.pending_guard = dice.once_in(3);
        scaling.quantiles = dice.pick(&[Quantiles::Exact, Quantiles::Buckets]);
    }
    bundle
}

/// Twenty minutes of load that comes and goes.
fn load(case: u64) -> Trace {
    let mut dice = Dice::new(1000 + case);
    let mut factor = || f64::from(dice.between(0, 20)) / 10.0;
    let points: Vec<String> =
        (0..=5).map(|at| format!("{{at: {}m, factor: {}}}", 4 * at, factor())).collect();
    let text = format!(
        "rate: {}\nduration: 20m\nprofile: [{}]\n\
         prompt_tokens: {{mean: 120, std_dev: 60, min: 2, max: 700}}\n\
         output_tokens: {{mean: 120, std_dev: 60, min: 2, max: 700}}\n",
        dice.pick(&[10, 30, 60]),
        points.join(", "),
    );
    let mut problems = Problems::new();
    let node = parse("workload.yaml", &text, &mut problems).expect("valid YAML");
    let spec = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
    let spec = spec.unwrap_or_else(|| panic!("{}", problems.render(false)));
    generate(&spec, case, spec.limits())
}

/// What befalls the fleet: in most cases a few crashes.
fn conditions(case: u64) -> Conditions {
    let mut dice = Dice::new(2000 + case);
    let mut conditions = Conditions::calm(case);
    conditions.cold_start = dice.once_in(3);
    for _ in 0..dice.between(0, 3) {
        let at = SimTime::from_us(u64::from(dice.between(0, 1_200)) * 1_000_000);
        let victim = Victim::Serving(dice.between(0, 5));
        let strike = Strike::Crash { victim, in_flight: InFlight::Lost, repair: None };
        conditions.faults.push(Fault { at, strike });
    }
    conditions.faults.sort_by_key(|fault| fault.at);
    conditions
}

fn run(bundle: &PolicyBundle, trace: &Trace, case: u64) -> Outcome {
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline: None,
    };
    simulate_under(bundle, trace, &conditions(case), &options, &mut Scratch::default())
}

fn events(outcome: &Outcome) -> &[FleetEvent] {
    &outcome.fleet.as_ref().expect("it changes").events
}

#[test]
fn every_policy_has_a_sample() {
    let sampled: BTreeSet<String> = samples().into_iter().map(|sampled| sampled.name).collect();
    let known: BTreeSet<String> = policy_names().map(str::to_owned).collect();
    assert_eq!(sampled, known);
}

#[test]
fn every_policy_gives_orders_here() {
    let mut orders: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for sampled in samples() {
        for case in 0..CASES {
            let outcome = run(&fleet(&sampled, [0, 1, 2], case), &load(case), case);
            let counts = orders.entry(sampled.name.clone()).or_default();
            for event in events(&outcome) {
                counts[0] += usize::from(matches!(event.what, Happening::ScaleUp { .. }));
                counts[1] += usize::from(matches!(event.what, Happening::ScaleDown { .. }));
            }
        }
    }
    for (name, [up, down]) in orders {
        // Some wait longer than these minutes before they go one of the ways.
        assert!(up + down > 0, "{name} gives no orders: the tests here say little");
    }
}

#[test]
fn the_same_bytes_twice_and_on_two_threads() {
    for_all(|sampled, case| {
        let (bundle, trace) = (fleet(sampled, [0, 1, 2], case), load(case));
        let told = || format!("{:?}", run(&bundle, &trace, case));
        let alone = told();
        let [one, other] = std::thread::scope(|scope| {
            let threads = [scope.spawn(told), scope.spawn(told)];
            threads.map(|thread| thread.join().expect("it runs"))
        });
        assert!(alone == one && one == other, "{} case {case}", sampled.name);
    });
}

/// What the log says of places and pools, as it goes on.
struct Story<'a> {
    bundle: &'a PolicyBundle,
    desired: Vec<i64>,
    /// Which places are occupied.
    alive: BTreeSet<InstanceId>,
}

impl Story<'_> {
    fn go_on(&mut self, event: &FleetEvent) -> Result<(), String> {
        let pool = event.pool.map_or(0, |pool| pool as usize);
        let change = match event.what {
            Happening::ScaleUp { count, .. } => i64::from(count),
            Happening::ScaleDown { count, .. } => -i64::from(count),
            Happening::Launched => {
                self.alive.extend(event.instance);
                return Ok(());
            }
            Happening::Terminated => {
                let gone = event.instance.is_some_and(|instance| self.alive.remove(&instance));
                return if gone { Ok(()) } else { Err("nobody was there".to_owned()) };
            }
            Happening::Draining => {
                let is_there = event.instance.is_some_and(|it| self.alive.contains(&it));
                return if is_there { Ok(()) } else { Err("nobody is there".to_owned()) };
            }
            _ => return Ok(()),
        };
        let spec = self.bundle.pools.get(pool).ok_or("there is no such pool")?;
        if spec.name != "b" {
            return Err(format!("nobody asked it about pool {}", spec.name));
        }
        self.desired[pool] += change;
        let bounds = i64::from(spec.min_instances)..=i64::from(spec.max_instances);
        let within = bounds.contains(&self.desired[pool]);
        if within { Ok(()) } else { Err(format!("{} desired of {bounds:?}", self.desired[pool])) }
    }
}

#[test]
fn orders_keep_within_bounds_and_name_what_lives() {
    for_all(|sampled, case| {
        let bundle = fleet(sampled, [2, 1, 0], case);
        let outcome = run(&bundle, &load(case), case);
        let desired = bundle.pools.iter().map(|pool| i64::from(pool.instances)).collect();
        let mut story = Story { bundle: &bundle, desired, alive: BTreeSet::new() };
        for event in events(&outcome) {
            let wrong = story.go_on(event).err();
            assert!(wrong.is_none(), "{} case {case}: {wrong:?} {event:?}", sampled.name);
        }
    });
}

/// The events of the fleet up to and with `until`.
fn before(outcome: &Outcome, until: SimTime) -> Vec<FleetEvent> {
    events(outcome).iter().copied().take_while(|event| event.at <= until).collect()
}

fn assert_same(one: &[FleetEvent], other: &[FleetEvent], what: &str) {
    let differ = one.iter().zip(other).find(|(one, other)| one != other);
    assert!(differ.is_none() && one.len() == other.len(), "{what}: {differ:?}");
}

#[test]
fn lengths_that_nobody_has_seen_yet_change_nothing() {
    for_all(|sampled, case| {
        let (bundle, trace) = (fleet(sampled, [0, 1, 2], case), load(case));
        let outcome = run(&bundle, &trace, case);
        let mut dice = Dice::new(3000 + case);
        for _ in 0..2 {
            let until_us = u64::from(dice.between(60, 1_150)) * 1_000_000;
            let mut other = trace.clone();
            let mut changed = 0;
            for (at, record) in outcome.requests.iter().enumerate() {
                if other.arrival[at].as_us() > until_us {
                    other.output[at] = 1 + dice.between(0, 900);
                } else if !has_ended(record, until_us) {
                    // More than it has now, whatever that is.
                    other.output[at] += 1 + dice.between(0, 900);
                    changed += 1;
                }
            }
            let rerun = run(&bundle, &other, case);
            let until = SimTime::from_us(until_us);
            let name = format!("{} case {case}, {changed} under way at {until_us}", sampled.name);
            assert_same(&before(&outcome, until), &before(&rerun, until), &name);
        }
    });
}

/// Whether a request was answered or lost for good by then. Of one that was lost it is not told
/// when, and its answer is left as it is.
fn has_ended(record: &RequestRecord, at_us: u64) -> bool {
    match record.state {
        RequestState::Completed => record.finished_us <= at_us,
        RequestState::Queued | RequestState::Running => false,
        _ => true,
    }
}

#[test]
fn requests_that_have_not_come_yet_change_nothing_but_for_the_oracle() {
    for_all(|sampled, case| {
        let (bundle, trace) = (fleet(sampled, [0, 1, 2], case), load(case));
        let scaling = bundle.autoscaling.as_ref().expect("it scales");
        assert_eq!(scaling.needs_foresight(), sampled.name == "oracle", "the only exception");
        if scaling.needs_foresight() {
            return;
        }
        let mut dice = Dice::new(4000 + case);
        let until = SimTime::from_us(u64::from(dice.between(60, 1_150)) * 1_000_000);
        let mut other = Trace {
            clients: trace.clients.clone(),
            classes: trace.classes.clone(),
            tenants: trace.tenants.clone(),
            chains: trace.chains.clone(),
            targets: trace.targets.clone(),
            end: trace.end,
            ..Trace::default()
        };
        for at in 0..trace.len() {
            let mut request = row(&trace, at);
            if request.arrival > until {
                if dice.once_in(2) {
                    continue;
                }
                request.input = dice.between(1, 2000);
            }
            other.push(request);
        }
        assert!(other.len() < trace.len());
        let (one, other) = (run(&bundle, &trace, case), run(&bundle, &other, case));
        let name = format!("{} case {case} {until:?}", sampled.name);
        assert_same(&before(&one, until), &before(&other, until), &name);
    });
}

/// Made-up signals of three pools, which a policy sees under some labels.
struct World {
    dice: Dice,
    bundle: PolicyBundle,
    /// Where a pool stands here, by its position in the bundle.
    order: [usize; 3],
    samples: Samples,
    /// What has been counted so far, by pool as it stands here.
    counted: [PoolSample; 3],
    sample: Sample,
    views: [PoolView; 3],
    /// Whether places are numbered from the other end.
    backwards: bool,
    /// Whether little is going on.
    calm: bool,
}

impl World {
    fn new(sampled: &Sampled, order: [usize; 3], backwards: bool, case: u64) -> Self {
        let bundle = fleet(sampled, order, case);
        let longest = bundle.autoscaling.as_ref().expect("it scales").longest_window();
        let cost = TokenCost { prefill_s: 1e-4, decode_s: 1e-3 };
        let mut views = [PoolView::default(); 3];
        for (pool, &at) in bundle.pools.iter().zip(&order) {
            views[at] = PoolView {
                desired: pool.instances,
                ready: pool.instances,
                min: pool.min_instances,
                max: pool.max_instances,
                ..PoolView::default()
            };
        }
        Self {
            dice: Dice::new(5000 + case),
            bundle,
            order,
            samples: Samples::new(longest, vec![cost; 3]),
            counted: [PoolSample::default(); 3],
            sample: Sample::default(),
            views,
            backwards,
            calm: false,
        }
    }

    /// Scrapes figures that hang together as little as they may, but for calm and busy times of
    /// ten minutes.
    fn scrape(&mut self, at: SimTime) {
        let passed = self.samples.last().map_or(Span::ZERO, |last| at.since(last.at));
        let dice = &mut self.dice;
        if at.as_us().is_multiple_of(600_000_000) {
            self.calm = dice.once_in(2);
        }
        let calm = self.calm;
        let mut up_to = |most: u32| u64::from(dice.between(0, if calm { most / 20 } else { most }));
        let arrivals = up_to(2_000);
        self.sample.arrivals += arrivals;
        self.sample.prompt_tokens += arrivals * (1 + up_to(900));
        let requests = arrivals / 2;
        self.sample.answered = Answered {
            requests,
            prompt_tokens: requests * (1 + up_to(900)),
            output_tokens: requests * (1 + up_to(900)),
        };
        self.sample.held = up_to(30);
        for bins in [&mut self.sample.ttft, &mut self.sample.tpot, &mut self.sample.e2e] {
            *bins = Bins::new(&[]);
            for _ in 0..up_to(5) {
                bins.add(Span::from_us(up_to(2_000_000)));
            }
        }
        for (pool, view) in self.counted.iter_mut().zip(&self.views) {
            let ready = u64::from(view.ready);
            pool.ready = view.ready;
            (pool.waiting, pool.running) = (ready * up_to(400), ready * up_to(256));
            pool.in_flight_tokens = pool.running * (1 + up_to(900));
            (pool.kv_total, pool.kv_used) = (ready * 20_000, ready * up_to(20_000));
            let possible = u128::from(ready) * u128::from(passed.as_ps());
            pool.ready_ps += possible;
            pool.busy_ps += possible * u128::from(up_to(100)) / 100;
            pool.prefill_tokens += ready * up_to(9_000);
            pool.decode_tokens += ready * up_to(9_000);
        }
        let engines = self.engines();
        let pools = self.order.iter().map(|&at| self.counted[at]).collect();
        self.samples.push(Sample { at, pools, engines, ..self.sample.clone() });
    }

    /// The ready engines as they are labelled.
    fn engines(&mut self) -> Vec<EngineSample> {
        let limits = self.bundle.batching;
        let mut engines = Vec::new();
        for (at, view) in self.views.iter().enumerate() {
            let pool = self.order.iter().position(|&other| other == at).expect("one of them");
            for _ in 0..view.ready {
                let dice = &mut self.dice;
                let decoding = dice.between(0, 64);
                let prefill_tokens = dice.between(0, 2048);
                let us = 10_000 + 20 * prefill_tokens + 50 * decoding + dice.between(0, 900);
                let length = Span::from_us(u64::from(us));
                engines.push(EngineSample {
                    place: 0,
                    pool: pool as u32,
                    pass: (decoding > 0).then_some(Pass { prefill_tokens, length }),
                    decoding,
                    decode_kv_tokens: u64::from(decoding) * u64::from(dice.between(100, 500)),
                    queued_prompt_tokens: if self.calm { 0 } else { 90_000 },
                    kv_tokens: 320_000,
                    limits,
                });
            }
        }
        if self.backwards {
            engines.reverse();
        }
        engines.sort_by_key(|engine| engine.pool);
        for (place, engine) in engines.iter_mut().enumerate() {
            engine.place = place as u32;
        }
        engines
    }

    /// Asks `policy`, does what it wants, and tells it by the pools as they stand here.
    fn ask(&mut self, policy: &mut dyn Autoscaler, now: SimTime) -> Vec<Action> {
        let views = self.order.map(|at| self.views[at]);
        let mut orders: Vec<ScaleOrder> = Vec::new();
        policy.plan(now, &FleetView { pools: &views, signals: &self.samples }, &mut orders);
        let here = |pool: u32| self.order.get(pool as usize).copied().expect("a known pool");
        let told: Vec<Action> = orders
            .iter()
            .map(|order| match order.action {
                Action::Launch { pool, count } => Action::Launch { pool: here(pool) as u32, count },
                Action::Shrink { pool, count } => Action::Shrink { pool: here(pool) as u32, count },
                drain @ Action::Drain(_) => drain,
            })
            .collect();
        for action in &told {
            match *action {
                Action::Launch { pool, count } => {
                    let view = &mut self.views[pool as usize];
                    view.desired = (view.desired + count).min(view.max);
                }
                Action::Shrink { pool, count } => {
                    let view = &mut self.views[pool as usize];
                    view.desired = view.desired.saturating_sub(count).max(view.min);
                }
                Action::Drain(_) => {}
            }
        }
        // What is wanted is there at once, or later.
        for view in &mut self.views {
            let late = self.dice.once_in(3);
            view.ready = if late { view.ready.min(view.desired) } else { view.desired };
            view.starting = view.desired - view.ready;
        }
        told
    }
}

/// What a policy orders in a world of two hours, by pools as they stand there, with the seconds.
fn orders(sampled: &Sampled, order: [usize; 3], backwards: bool, case: u64) -> Vec<(u64, Action)> {
    let mut world = World::new(sampled, order, backwards, case);
    let scaling = world.bundle.autoscaling.clone().expect("it scales");
    let interval = Span::from_us(60_000_000);
    let foresight = Foresight { interval, arrivals: (0..120).map(|at| 100 * (at % 9)).collect() };
    let mut policy = autoscaler(&scaling, foresight);
    let mut told = Vec::new();
    let mut now = SimTime::ZERO;
    while now < SimTime::from_secs(7200.0) {
        // At most once a second.
        if now.as_us().is_multiple_of(1_000_000) {
            world.scrape(now);
        }
        now = now + scaling.interval;
        told.extend(world.ask(policy.as_mut(), now).into_iter().map(|it| (now.as_us(), it)));
    }
    told
}

#[test]
fn orders_are_for_something_of_its_own_pool() {
    for_all(|sampled, case| {
        let told = orders(sampled, [2, 0, 1], false, case);
        for (at, action) in &told {
            let fine = match *action {
                Action::Launch { pool, count } | Action::Shrink { pool, count } => {
                    pool == 1 && count > 0
                }
                // Places here have no life of their own that could be checked.
                Action::Drain(_) => false,
            };
            assert!(fine, "{} case {case} at {at}: {action:?}", sampled.name);
        }
    });
}

#[test]
fn labels_of_pools_and_instances_mean_nothing() {
    for_all(|sampled, case| {
        let told = orders(sampled, [0, 1, 2], false, case);
        for (order, backwards) in [([0, 1, 2], true), ([1, 2, 0], false), ([2, 1, 0], true)] {
            let other = orders(sampled, order, backwards, case);
            let differ = told.iter().zip(&other).find(|(one, other)| one != other);
            let name = &sampled.name;
            assert!(told == other, "{name} case {case}, pools {order:?}: {differ:?}");
        }
        assert_eq!(told, orders(sampled, [0, 1, 2], false, case), "{}", sampled.name);
    });
    for sampled in samples() {
        let given: usize =
            (0..CASES).map(|case| orders(&sampled, [0, 1, 2], false, case).len()).sum();
        assert!(given > 0, "{} gives no orders", sampled.name);
    }
}
