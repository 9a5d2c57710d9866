//! The fast simulator and the slow, obvious one agree to the last bit.
//!
//! `BLIS_OPT_TWIN_CASES` says how many random scenarios are tried (2,500, and 4,000 fleets, unless
//! set).

use blis_opt::base::{InstanceId, SimTime, Span};
use blis_opt::policy::health::Ailment;
use blis_opt::policy::{Routing, ScorerKind};
use blis_opt::scenario::Conditions;
use blis_opt::sim::outcome::{
    GatewayOutcome, RequestRecord, RequestState, Stability, SteadyMeans, Summary,
};
use blis_opt::sim::{
    FleetOutcome, Outcome, RunOptions, Scratch, reference, simulate, simulate_drawn,
    simulate_drawn_under, simulate_under,
};
use blis_opt::workload::{Limits, generate};
use std::cell::RefCell;
use std::fmt::Debug;

use crate::swarm::{self, Scenario};

const NEVER_US: u64 = RequestRecord::NEVER_US;

/// One line about two columns that differ, at the first place where they do.
fn same<T: PartialEq + Debug>(what: &str, fast: &[T], slow: &[T]) -> Result<(), String> {
    if fast.len() != slow.len() {
        return Err(format!("{what}: {} by the fast one, {} by the slow", fast.len(), slow.len()));
    }
    match fast.iter().zip(slow).position(|(fast, slow)| fast != slow) {
        None => Ok(()),
        Some(at) => Err(format!("{what} {at}:\n fast {:?}\n slow {:?}", fast[at], slow[at])),
    }
}

/// Values up to which a distribution is surely kept one by one.
const EXACT_MAX: u64 = 8192;

/// Whether two runs tell the same, but for statistics over time and gaps too many to be exact.
pub fn agree(fast: &Outcome, slow: &Outcome) -> Result<(), String> {
    same("has a fleet", &[fast.fleet.is_some()], &[slow.fleet.is_some()])?;
    if let (Some(fast), Some(slow)) = (&fast.fleet, &slow.fleet) {
        fleets_agree(fast, slow)?;
    }
    same("step", &fast.steps, &slow.steps)?;
    same("request", &fast.requests, &slow.requests)?;
    same("instance", &fast.instances, &slow.instances)?;
    same("class", &fast.classes, &slow.classes)?;
    same("counts", &[fast.counts, fast.measured], &[slow.counts, slow.measured])?;
    let rest = |outcome: &Outcome| {
        let mut rest = outcome.clone();
        (rest.steps, rest.requests, rest.instances, rest.classes) = Default::default();
        rest.stability = Stability::default();
        rest.steady = SteadyMeans::default();
        if rest.itl.count > EXACT_MAX {
            rest.itl = Summary { count: rest.itl.count, ..Summary::default() };
        }
        rest
    };
    same("figures", &[rest(fast)], &[rest(slow)])
}

fn fleets_agree(fast: &FleetOutcome, slow: &FleetOutcome) -> Result<(), String> {
    same("event", &fast.events, &slow.events)?;
    same("pool", &fast.pools, &slow.pools)?;
    same("interval", &fast.timeline, &slow.timeline)?;
    let rest =
        |fleet: &FleetOutcome| (fleet.end, fleet.retries, fleet.wasted_tokens, fleet.interval);
    same("fleet", &[rest(fast)], &[rest(slow)])
}

/// Whether two runs of the fast one judge alike what the slow one does not judge.
fn same_statistics(one: &Outcome, other: &Outcome) -> Result<(), String> {
    let judged = |outcome: &Outcome| [(outcome.stability, outcome.steady)];
    same("statistics", &judged(one), &judged(other))
}

/// Both agree on `scenario`, stepping and jumping; gives what they say.
fn agreed(scenario: &Scenario, scratch: &mut Scratch) -> Result<Outcome, String> {
    let Scenario { bundle, trace, conditions, options } = scenario;
    let stepped = simulate_under(bundle, trace, conditions, options, scratch);
    agree(&stepped, &reference::simulate_under(bundle, trace, conditions, options))?;
    let options = RunOptions { keep_steps: false, ..*options };
    let jumped = simulate_under(bundle, trace, conditions, &options, scratch);
    let mut still = stepped.clone();
    still.steps.clear();
    agree(&jumped, &still)?;
    same_statistics(&jumped, &stepped)?;
    Ok(stepped)
}

#[test]
fn fast_and_slow_agree_on_random_scenarios() {
    let cases = swarm::environment("BLIS_OPT_TWIN_CASES").unwrap_or(2_500);
    // One scratch for all: what an earlier run left in it must not matter.
    let scratch = RefCell::new(Scratch::default());
    swarm::for_all(0, cases, |scenario| {
        agreed(scenario, &mut scratch.borrow_mut())?;
        Ok(())
    });
}

#[test]
fn fast_and_slow_agree_on_random_fleets() {
    let cases = swarm::environment("BLIS_OPT_TWIN_CASES").unwrap_or(4_000);
    let scratch = RefCell::new(Scratch::default());
    swarm::for_all_fleets(400_000, cases, |scenario| {
        agreed(scenario, &mut scratch.borrow_mut())?;
        Ok(())
    });
}

#[test]
fn a_fleet_in_which_nothing_changes_is_a_static_one() {
    swarm::for_all(800_000, 500, |scenario| {
        let Scenario { bundle, trace, conditions, options } = scenario;
        let mut scratch = Scratch::default();
        let fixed = simulate_under(bundle, trace, conditions, options, &mut scratch);
        let timeline = Some(Span::from_us(1000 + trace.end.as_us() / 7));
        let options = RunOptions { timeline, ..*options };
        let mut moving = simulate_under(bundle, trace, conditions, &options, &mut scratch);
        same("has a fleet", &[moving.fleet.take().is_some()], &[true])?;
        agree(&moving, &fixed)?;
        same_statistics(&moving, &fixed)
    });
}

#[test]
fn requests_drawn_when_due_are_those_of_the_trace() {
    let mut scratch = Scratch::default();
    for case in 0..400 {
        drawn_agrees(case, &mut scratch).unwrap_or_else(|wrong| panic!("case {case}: {wrong}"));
    }
}

fn drawn_agrees(case: u64, scratch: &mut Scratch) -> Result<(), String> {
    let scenario = Scenario::random_fleet(200_000 + case);
    let (spec, duration) = (swarm::workload(case), Span::from_secs(1.0));
    let limits = Limits { duration: Some(duration), max_requests: None };
    let Scenario { bundle, conditions, options, .. } = &scenario;
    let source = (&spec, case, duration);
    let drawn = simulate_drawn_under(bundle, source, conditions, options, scratch);
    if drawn.fleet.is_none() {
        let plainly = simulate_drawn(bundle, source, options, scratch);
        let calm = Conditions::calm(0);
        let under = simulate_drawn_under(bundle, source, &calm, options, scratch);
        agree(&plainly, &under)?;
        same_statistics(&plainly, &under)?;
    }
    let trace = generate(&spec, case, limits);
    let mut listed = agreed(&Scenario { trace, ..scenario.clone() }, scratch)?;
    // Records of drawn requests end with the last that came.
    let never = listed.requests.split_off(drawn.requests.len());
    same("never came", &never, &vec![RequestRecord::default(); never.len()])?;
    agree(&drawn, &listed)?;
    same_statistics(&drawn, &listed)
}

#[test]
fn the_swarm_reaches_every_mechanism() {
    let mut reached = [0; 11];
    let mut scratch = Scratch::default();
    for case in 0..1000 {
        let scenario = Scenario::random(case);
        let outcome = simulate(&scenario.bundle, &scenario.trace, &scenario.options, &mut scratch);
        for (times, happened) in reached.iter_mut().zip(mechanisms(&scenario, &outcome)) {
            *times += u32::from(happened);
        }
    }
    assert!(reached.iter().all(|&times| times >= 50), "{reached:?}");
}

#[test]
fn random_fleets_reach_everything_that_can_happen() {
    let mut reached = [0; 36];
    let mut scratch = Scratch::default();
    for case in 0..8000 {
        let Scenario { bundle, trace, conditions, options } = &Scenario::random_fleet(case);
        let outcome = simulate_under(bundle, trace, conditions, options, &mut scratch);
        let Some(fleet) = &outcome.fleet else { continue };
        for (times, happened) in reached.iter_mut().zip(fleet_mechanisms(&outcome, fleet)) {
            *times += u32::from(happened);
        }
    }
    assert!(reached.iter().all(|&times| times >= 20), "{reached:?}");
}

/// What happened to a fleet, of all that can.
fn fleet_mechanisms(outcome: &Outcome, fleet: &FleetOutcome) -> [bool; 36] {
    use blis_opt::sim::fleet_outcome::Happening as H;
    let any = |of: &dyn Fn(&H) -> bool| fleet.events.iter().any(|event| of(&event.what));
    let record = |of: &dyn Fn(&RequestRecord) -> bool| outcome.requests.iter().any(of);
    let retried = |state| record(&|r| r.retries > 0 && r.state == state);
    let gateway = |of: &dyn Fn(&GatewayOutcome) -> bool| outcome.gateway.as_ref().is_some_and(of);
    let launches: u32 = fleet.pools.iter().map(|pool| pool.launches).sum();
    [
        any(&|what| matches!(what, H::ScaleUp { .. })),
        any(&|what| matches!(what, H::ScaleDown { .. })),
        any(&|what| *what == H::NoCapacity),
        any(&|what| *what == H::CapacityBack),
        any(&|what| *what == H::Draining),
        any(&|what| *what == H::Terminated),
        any(&|what| matches!(what, H::Crashed { .. })),
        any(&|what| matches!(what, H::Noticed { lost: 0 })),
        any(&|what| matches!(what, H::Noticed { lost: 1.. })),
        any(&|what| matches!(what, H::Slowed { .. })),
        any(&|what| *what == H::Recovered),
        any(&|what| matches!(what, H::ZoneLost { lost: 1.. })),
        any(&|what| matches!(what, H::Reclaimed { lost: 1.. })),
        any(&|what| *what == H::Noted),
        outcome.counts.timed_out > 0,
        outcome.counts.failed > 0,
        retried(RequestState::Completed),
        retried(RequestState::Rejected),
        retried(RequestState::TimedOut),
        retried(RequestState::Failed),
        outcome.within_slo < outcome.measured.completed,
        fleet.wasted_tokens > 0,
        fleet.timeline.iter().any(|interval| interval.waiting > 0 && interval.running > 0),
        launches as usize > outcome.instances.len(),
        outcome.preemptions > 0 && fleet.retries > 0,
        any(&|what| matches!(what, H::OutOfRotation { ailment: Ailment::Errors(_) })),
        any(&|what| matches!(what, H::OutOfRotation { ailment: Ailment::Late(_) })),
        any(&|what| *what == H::BackInRotation),
        outcome.counts.expired > 0,
        retried(RequestState::Expired),
        gateway(&|gate| gate.shed.iter().any(|&(rule, shed)| rule == "degradation" && shed > 0)),
        gateway(&|gate| gate.full > 0),
        gateway(&|gate| gate.displaced > 0),
        gateway(&|gate| gate.waited > 0 && gate.wait.p50_ms < gate.wait.max_ms),
        gateway(&|gate| gate.capped > 0),
        gateway(&|gate| gate.expired > outcome.counts.expired),
    ]
}

/// What happened in a run, of all that can.
fn mechanisms(scenario: &Scenario, outcome: &Outcome) -> [bool; 11] {
    let Scenario { bundle, trace, .. } = scenario;
    let (requests, steps) = (&outcome.requests, &outcome.steps);
    let dropped = || requests.iter().filter(|r| r.state == RequestState::Dropped);
    let in_chunks = |(r, &input): (&RequestRecord, &u32)| {
        r.state == RequestState::Completed && input > bundle.batching.max_tokens
    };
    let next_round =
        |(r, &at): (&RequestRecord, &SimTime)| at == SimTime::NEVER && r.arrival_us != NEVER_US;
    [
        outcome.preemptions > 0,
        dropped().any(|r| r.scheduled_us == NEVER_US),
        dropped().any(|r| r.scheduled_us != NEVER_US),
        outcome.counts.rejected > 0,
        outcome.counts.queued > 0,
        outcome.counts.running > 0,
        outcome.cache_hit_rate > 0.0,
        requests.iter().zip(&trace.input).any(in_chunks),
        requests.iter().zip(&trace.arrival).any(next_round),
        steps.iter().any(|step| step.duration_us == 0),
        steps.iter().filter(|step| step.waiting_after > 2).count() > 10,
    ]
}

#[test]
fn a_request_dropped_from_the_batch_keeps_what_happened_to_it() {
    let scenario = Scenario::plain(2, 2, &[(0, 1, 3), (0, 1, 9)]);
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    let dropped = outcome.requests[1];
    assert_eq!(dropped.state, RequestState::Dropped);
    assert_eq!((dropped.ttft_us, dropped.preemptions, outcome.ttft.count), (4000, 1, 2));
}

#[test]
fn a_window_that_ends_before_it_begins_measures_nothing() {
    let mut scenario = Scenario::plain(10, 16, &[(38, 1, 0), (38, 1, 37)]);
    scenario.options.warm_up = SimTime::from_us(6_000);
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    assert_eq!((outcome.itl.count, outcome.measured.injected), (0, 0));
}

#[test]
fn gaps_without_length_are_measured_too() {
    let mut scenario = Scenario::plain(10, 16, &[(0, 1, 5), (100, 1, 1)]);
    scenario.bundle.pools[0].latency.beta = [0.0; 3];
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    assert_eq!(outcome.itl.count, 4);
}

#[test]
fn an_instance_ends_with_its_last_step_even_if_that_answers_nobody() {
    let scenario = Scenario::plain(1, 32, &[(0, 1, 34)]);
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    assert_eq!((outcome.counts.dropped, outcome.instances[0].end_us), (1, 33_000));
}

#[test]
fn who_fills_a_shared_block_last_holds_its_name() {
    let requests = [(0, 102, 80), (0, 1, 16), (141_000, 30, 0)];
    let mut scenario = Scenario::plain(1000, 16, &requests);
    scenario.trace.shared = vec![43; 3];
    scenario.bundle.batching.long_prefill_threshold = 1;
    agreed(&scenario, &mut Scratch::default()).expect("twins agree");
}

#[test]
fn busy_is_a_share_of_the_measured_window() {
    let mut scenario = Scenario::plain(10, 16, &[(0, 1, 3), (4_000, 1, 4)]);
    scenario.trace.end = SimTime::from_us(6_000);
    scenario.options.warm_up = SimTime::from_us(2_000);
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    assert!((outcome.busy_fraction - 0.75).abs() < 1e-15, "{}", outcome.busy_fraction);
}

/// At 3 ms the first instance begins a step that takes a block; then the second answers in no
/// time at all, so that the next round is routed at 3 ms too, by prefix and free blocks.
fn answered_in_no_time(prefix_weight: f64) -> RequestRecord {
    let mut scenario = Scenario::plain(10, 1, &[(0, 1, 9), (3000, 1, 1), (3000, 1, 1)]);
    scenario.trace.arrival[2] = SimTime::NEVER;
    scenario.trace.shared = vec![u32::MAX, 0, u32::MAX];
    scenario.trace.clients[0].think_time = Span::ZERO;
    scenario.bundle.pools.push(scenario.bundle.pools[0].clone());
    scenario.bundle.pools[1].latency.beta = [0.0; 3];
    let scorers =
        vec![(ScorerKind::PrefixAffinity, prefix_weight), (ScorerKind::KvUtilization, 1.0)];
    scenario.bundle.routing = Routing::Weighted(scorers);
    scenario.bundle.signals.kv_utilization_refresh = Span::ZERO;
    let outcome = agreed(&scenario, &mut Scratch::default()).expect("twins agree");
    assert_eq!(outcome.requests[2].routed_us, 3000);
    outcome.requests[2]
}

#[test]
fn a_router_sees_the_blocks_of_every_step_that_began_before_it() {
    assert_eq!(answered_in_no_time(0.35).instance, Some(InstanceId(1)));
}

#[test]
fn a_step_that_began_before_a_request_came_does_not_admit_it() {
    // The prefix outweighs what blocks are left.
    let record = answered_in_no_time(0.7);
    assert_eq!((record.instance, record.scheduled_us), (Some(InstanceId(0)), 4000));
}
