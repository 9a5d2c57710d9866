//! What holds in every run of a fleet that changes: nothing is lost from the books, the bill is
//! what the events say, nobody works before being ready or after being gone.
//!
//! Each law is tried on random fleets (see `swarm`), of which a third stands still;
//! `BLIS_OPT_LAW_CASES` says on how many (400 unless set).

use std::cell::RefCell;
use std::collections::BTreeMap;

use blis_opt::base::{SimTime, Span};
use blis_opt::policy::autoscale::Reason;
use blis_opt::policy::signals::Signal;
use blis_opt::scenario::{InFlight, Strike};
use blis_opt::sim::fleet_outcome::{FleetEvent, Happening, PoolOutcome};
use blis_opt::sim::outcome::{Counts, RequestRecord, RequestState, StepRecord};
use blis_opt::sim::{FleetOutcome, Outcome, Scratch, simulate_under};

use crate::swarm::{Scenario, environment, for_all_fleets};

const NEVER_US: u64 = RequestRecord::NEVER_US;

type Law = Result<(), String>;

fn run(scenario: &Scenario) -> Outcome {
    run_with(scenario, &mut Scratch::default())
}

fn run_with(scenario: &Scenario, scratch: &mut Scratch) -> Outcome {
    let Scenario { bundle, trace, conditions, options } = scenario;
    simulate_under(bundle, trace, conditions, options, scratch)
}

/// Tries `law` on fleets that change.
fn for_all_moving(first: u64, law: impl Fn(&Scenario, &Outcome, &FleetOutcome) -> Law) {
    let cases = environment("BLIS_OPT_LAW_CASES").unwrap_or(400);
    for_all_fleets(first, cases, |scenario| {
        let outcome = run(scenario);
        outcome.fleet.as_ref().map_or(Ok(()), |fleet| law(scenario, &outcome, fleet))
    });
}

/// An error that shows `what` unless `holds`.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(what()) }
}

/// Some times at which to cut a run: when things happen, and just before and after.
fn cuts(outcome: &Outcome, fleet: &FleetOutcome) -> Vec<SimTime> {
    let events = fleet.events.iter().map(|event| event.at.as_us());
    let steps = outcome.steps.iter().map(|step| step.start_us);
    let mut times: Vec<u64> = events.chain(steps).collect();
    times.sort_unstable();
    let some = times.iter().step_by(times.len() / 5 + 1);
    let some = some.flat_map(|&us| [us.saturating_sub(1), us, us + 1]);
    some.map(SimTime::from_us).collect()
}

fn cut_at(scenario: &Scenario, at: SimTime) -> Outcome {
    let mut cut = scenario.clone();
    cut.options.horizon = cut.options.horizon.min(at);
    run(&cut)
}

fn total(counts: &Counts) -> u64 {
    let lost = counts.timed_out + counts.failed + counts.expired;
    let answered_not = counts.rejected + counts.dropped + lost;
    answered_not + counts.queued + counts.running + counts.completed
}

/// How many requests ended without an answer.
fn refused(counts: &Counts) -> u64 {
    total(counts) - counts.queued - counts.running - counts.completed
}

#[test]
fn every_request_is_in_one_bucket_at_any_horizon_however_often_it_is_tried() {
    for_all_moving(500_000, |scenario, whole, fleet| {
        for at in cuts(whole, fleet) {
            let outcome = cut_at(scenario, at);
            ensure(outcome.fleet.is_some(), || "the fleet stands still".into())?;
            let classes = outcome.classes.iter().map(|class| &class.measured);
            for counts in [&outcome.counts, &outcome.measured].into_iter().chain(classes) {
                ensure(total(counts) == counts.injected, || format!("at {at:?}: {counts:?}"))?;
            }
            let came = |r: &&RequestRecord| r.arrival_us != NEVER_US;
            let arrived = outcome.requests.iter().filter(came).count() as u64;
            ensure(arrived == outcome.counts.injected, || format!("at {at:?}: {arrived} came"))?;
            let kept = outcome.within_slo <= outcome.measured.completed;
            ensure(kept, || format!("at {at:?}: {} kept", outcome.within_slo))?;
            on_one_instance(&outcome).map_err(|wrong| format!("at {at:?}: {wrong}"))?;
        }
        Ok(())
    });
}

/// Instances know of no request that is not counted, and of all that were answered or run.
fn on_one_instance(outcome: &Outcome) -> Law {
    let sum = |of: &dyn Fn(usize) -> u64| (0..outcome.instances.len()).map(of).sum::<u64>();
    let counts = &outcome.counts;
    let completed = sum(&|at| outcome.instances[at].completed);
    ensure(completed == counts.completed, || format!("{completed} answered"))?;
    let running = sum(&|at| outcome.instances[at].running);
    ensure(running == counts.running, || format!("{running} run"))?;
    let queued = sum(&|at| outcome.instances[at].queued);
    ensure(queued <= counts.queued, || format!("{queued} wait"))?;
    for instance in &outcome.instances {
        let known = instance.completed + instance.queued + instance.running;
        ensure(known <= instance.requests, || format!("{instance:?}"))?;
    }
    Ok(())
}

#[test]
fn attempts_add_up() {
    for_all_moving(510_000, |scenario, outcome, fleet| {
        let retries: u64 = outcome.requests.iter().map(|r| u64::from(r.retries)).sum();
        ensure(retries == fleet.retries, || format!("{retries} for {}", fleet.retries))?;
        let allowed = scenario.conditions.clients.retry.map_or(0, |retry| retry.attempts);
        let most = outcome.requests.iter().map(|r| r.retries).max().unwrap_or(0);
        ensure(most <= u32::from(allowed), || format!("{most} retries of {allowed}"))?;
        for record in &outcome.requests {
            let for_good = [RequestState::Rejected, RequestState::Failed, RequestState::TimedOut];
            let gave_in = for_good.contains(&record.state);
            let last = record.retries == u32::from(allowed);
            ensure(!gave_in || last, || format!("has attempts left: {record:?}"))?;
        }
        let lost: u64 = fleet.events.iter().map(|event| u64::from(lost(event))).sum();
        let failed = outcome.counts.failed;
        let all = if allowed == 0 { failed == lost } else { failed <= lost };
        ensure(all, || format!("{failed} failed, {lost} lost"))?;
        let attempted = outcome.instances.iter().map(|instance| instance.requests).sum::<u64>();
        let answers = outcome.counts.completed + lost;
        ensure(answers <= attempted, || format!("{answers} of {attempted}"))
    });
}

fn lost(event: &FleetEvent) -> u32 {
    match event.what {
        Happening::Noticed { lost }
        | Happening::ZoneLost { lost }
        | Happening::Reclaimed { lost } => lost,
        _ => 0,
    }
}

/// When an instance was in which part of its life, as the events tell it.
#[derive(Debug, Default)]
struct Life {
    /// From launch to termination.
    paid: Vec<(SimTime, SimTime)>,
    /// Taking requests, as far as anybody knows.
    open: Vec<(SimTime, SimTime)>,
    /// Stepping, as far as it can: until it drained, crashed or was gone.
    works: Vec<(SimTime, SimTime)>,
    state: State,
    crash: Option<InFlight>,
    is_isolated: bool,
    is_to_go: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Vacant,
    Starting,
    Ready,
    Draining,
    Down,
}

impl Life {
    /// What an event does to the instance; `Err` where it cannot happen to it.
    fn happen(&mut self, scenario: &Scenario, event: &FleetEvent) -> Law {
        let serves = matches!(self.state, State::Ready | State::Draining);
        let now = event.at;
        let possible = match event.what {
            Happening::Launched => self.state == State::Vacant,
            Happening::Ready => match self.state {
                State::Starting | State::Down => true,
                State::Draining => self.is_isolated,
                State::Vacant | State::Ready => false,
            },
            Happening::Draining => self.state == State::Ready,
            Happening::Terminated => self.state != State::Vacant,
            Happening::Crashed { .. } | Happening::Noticed { .. } => {
                serves && (self.crash.is_none() != matches!(event.what, Happening::Noticed { .. }))
            }
            Happening::Noted => serves && !self.is_to_go,
            _ => serves,
        };
        ensure(possible, || format!("in {:?}: {event:?}", self.state))?;
        match event.what {
            Happening::Launched => {
                self.state = State::Starting;
                self.paid.push((now, SimTime::NEVER));
            }
            Happening::Ready => {
                (self.state, self.crash, self.is_isolated) = (State::Ready, None, false);
                self.open.push((now, SimTime::NEVER));
                self.works.push((now, SimTime::NEVER));
            }
            Happening::Draining => {
                self.state = State::Draining;
                end(&mut self.open, now);
            }
            Happening::Crashed { fault } => {
                let Strike::Crash { in_flight, .. } =
                    scenario.conditions.faults[fault as usize].strike
                else {
                    return Err(format!("not by a crash: {event:?}"));
                };
                self.crash = Some(in_flight);
                if in_flight == InFlight::Lost {
                    end(&mut self.works, now);
                }
            }
            Happening::Noticed { .. } => match self.crash.take() {
                Some(InFlight::Finished) => self.is_isolated |= self.state == State::Ready,
                _ => self.go(now, State::Down),
            },
            Happening::Noted => self.is_to_go = true,
            Happening::Terminated => {
                self.go(now, State::Vacant);
                end(&mut self.paid, now);
                (self.is_isolated, self.is_to_go, self.crash) = (false, false, None);
            }
            _ => {}
        }
        Ok(())
    }

    fn go(&mut self, now: SimTime, state: State) {
        self.state = state;
        end(&mut self.open, now);
        end(&mut self.works, now);
    }
}

/// Ends what goes on.
fn end(times: &mut [(SimTime, SimTime)], now: SimTime) {
    if let Some(last) = times.last_mut() {
        last.1 = last.1.min(now);
    }
}

/// The life of each place.
fn lives(
    scenario: &Scenario,
    outcome: &Outcome,
    fleet: &FleetOutcome,
) -> Result<Vec<Life>, String> {
    let mut lives: Vec<Life> = outcome.instances.iter().map(|_| Life::default()).collect();
    for event in &fleet.events {
        if let Some(instance) = event.instance {
            let life = &mut lives[instance.index()];
            life.happen(scenario, event).map_err(|wrong| format!("{instance:?} {wrong}"))?;
        }
    }
    Ok(lives)
}

/// The pool of each place.
fn pools_of_places(scenario: &Scenario) -> Vec<usize> {
    let pools = scenario.bundle.pools.iter().enumerate();
    pools.flat_map(|(at, pool)| (0..pool.max_instances).map(move |_| at)).collect()
}

#[test]
fn events_come_in_order_of_time_and_of_life() {
    for_all_moving(520_000, |scenario, outcome, fleet| {
        let in_order = fleet.events.is_sorted_by_key(|event| event.at);
        ensure(in_order, || "time runs backwards".into())?;
        let last = fleet.events.last().map_or(SimTime::ZERO, |event| event.at);
        ensure(last <= fleet.end, || format!("{last:?} is behind the end {:?}", fleet.end))?;
        let of_place = pools_of_places(scenario);
        for event in &fleet.events {
            let known = event.instance.map(|instance| of_place[instance.index()] as u32);
            ensure(known.is_none() || event.pool == known, || format!("{event:?}"))?;
        }
        lives(scenario, outcome, fleet).map(|_| ())
    });
}

#[test]
fn the_bill_is_the_time_from_launch_to_termination() {
    for_all_moving(530_000, |scenario, outcome, fleet| {
        let lives = lives(scenario, outcome, fleet)?;
        let window = (
            scenario.options.warm_up,
            scenario.trace.end.min(scenario.options.horizon).min(fleet.end),
        );
        let mut told = vec![PoolOutcome::default(); fleet.pools.len()];
        for (life, pool) in lives.iter().zip(pools_of_places(scenario)) {
            let pool = &mut told[pool];
            for &(from, to) in &life.paid {
                pool.launches += 1;
                pool.terminations += u32::from(to != SimTime::NEVER);
                let to = to.min(fleet.end);
                pool.paid_ps += u128::from(to.since(from).as_ps());
                let inside = to.min(window.1).since(from.max(window.0));
                pool.paid_in_window_ps += u128::from(inside.as_ps());
            }
        }
        for (told, pool) in told.iter_mut().zip(&fleet.pools) {
            // The events do not say when an isolated instance goes down.
            (told.ready_in_window_ps, told.most) = (pool.ready_in_window_ps, pool.most);
            ensure(told.ready_in_window_ps <= told.paid_in_window_ps, || format!("{pool:?}"))?;
        }
        ensure(told == fleet.pools, || format!("told {told:?}\npaid {:?}", fleet.pools))
    });
}

#[test]
fn no_more_than_the_most_and_no_fewer_than_the_least_are_wanted() {
    for_all_moving(540_000, |scenario, _, fleet| {
        let pools = &scenario.bundle.pools;
        let mut wanted: Vec<u32> = pools.iter().map(|pool| pool.instances).collect();
        let mut there = vec![0; pools.len()];
        let mut most = there.clone();
        for event in &fleet.events {
            let Some(at) = event.pool.map(|pool| pool as usize) else { continue };
            match event.what {
                Happening::ScaleUp { count, .. } => wanted[at] += count,
                Happening::ScaleDown { count, .. } => wanted[at] -= count,
                Happening::Launched => there[at] += 1,
                Happening::Terminated => there[at] -= 1,
                _ => {}
            }
            most[at] = most[at].max(there[at]);
            let bounds = pools[at].min_instances..=pools[at].max_instances;
            ensure(bounds.contains(&wanted[at]), || format!("{} wanted: {event:?}", wanted[at]))?;
            let enough = there[at] <= pools[at].max_instances;
            ensure(enough, || format!("{} there: {event:?}", there[at]))?;
        }
        let told: Vec<u32> = fleet.pools.iter().map(|pool| pool.most).collect();
        ensure(told == most, || format!("told {told:?}, were {most:?}"))
    });
}

#[test]
fn intervals_add_up_to_the_whole() {
    for_all_moving(550_000, |scenario, outcome, fleet| {
        let Some(interval) = scenario.options.timeline else { return Ok(()) };
        let sum = |of: &dyn Fn(usize) -> u64| (0..fleet.timeline.len()).map(of).sum::<u64>();
        let all = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        let counts = &outcome.counts;
        let sums = [
            (sum(&|at| all(&fleet.timeline[at].arrived)), counts.injected),
            (sum(&|at| u64::from(fleet.timeline[at].completed)), counts.completed),
            (sum(&|at| u64::from(fleet.timeline[at].refused)), refused(counts)),
            (sum(&|at| u64::from(fleet.timeline[at].retries)), fleet.retries),
        ];
        for (at, (sum, whole)) in sums.into_iter().enumerate() {
            ensure(sum == whole, || format!("figure {at}: {sum} in intervals, {whole} in all"))?;
        }
        for (at, pool) in fleet.pools.iter().enumerate() {
            let states = fleet.timeline.iter().map(|interval| interval.states[at]);
            let paid: u128 = states
                .map(|s| {
                    [s.starting, s.ready, s.draining, s.down].map(u128::from).iter().sum::<u128>()
                })
                .sum();
            ensure(paid == pool.paid_ps, || format!("{paid} in intervals: {pool:?}"))?;
        }
        let longest = interval.times(fleet.timeline.len() as u64);
        let (end, ready) = (fleet.end.since(SimTime::ZERO), fleet.timeline.len() > 1);
        let cut = !ready || end > interval.times(fleet.timeline.len() as u64 - 1);
        ensure(end <= longest && cut, || format!("{end:?} in {}", fleet.timeline.len()))
    });
}

#[test]
fn nobody_is_sent_where_nobody_serves_and_steps_begin_where_somebody_does() {
    for_all_moving(560_000, |scenario, outcome, fleet| {
        let lives = lives(scenario, outcome, fleet)?;
        let during = |times: &[(SimTime, SimTime)], us: u64| {
            times.iter().any(|&(from, to)| from.as_us() <= us && us <= to.as_us())
        };
        for record in outcome.requests.iter().filter(|r| r.routed_us != NEVER_US) {
            let Some(instance) = record.instance else { return Err(format!("{record:?}")) };
            let ready = during(&lives[instance.index()].open, record.routed_us);
            ensure(ready, || format!("sent to an instance that is not ready: {record:?}"))?;
        }
        for step in &outcome.steps {
            let works = during(&lives[step.instance.index()].works, step.start_us);
            ensure(works, || format!("a step of nobody: {step:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn an_attempt_lives_in_order() {
    for_all_moving(570_000, |scenario, outcome, _| {
        for r in &outcome.requests {
            let order = [r.arrival_us, r.routed_us, r.enqueued_us, r.scheduled_us];
            // Who was handed back has been in a queue and a batch elsewhere, and in no batch since.
            let was_elsewhere = r.enqueued_us.min(r.scheduled_us) < r.routed_us;
            let served = matches!(r.state, RequestState::Running | RequestState::Completed);
            let ordered = order.is_sorted() || (was_elsewhere && !served);
            ensure(ordered, || format!("out of order: {r:?}"))?;
            let completed = r.state == RequestState::Completed;
            let answered = [r.finished_us, r.e2e_us].map(|us| us != NEVER_US);
            ensure(answered == [completed; 2], || format!("answered? {r:?}"))?;
            if completed {
                let sane = r.ttft_us <= r.e2e_us && r.scheduled_us <= r.finished_us;
                ensure(sane, || format!("done before it began: {r:?}"))?;
                let timeout =
                    scenario.conditions.clients.timeout.unwrap_or(Span::from_ps(u64::MAX));
                let cut = scenario.options.horizon.as_us();
                let patient = r.finished_us - r.routed_us <= timeout.as_us() || r.finished_us > cut;
                ensure(patient, || format!("answered to nobody: {r:?}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn time_runs_forward_on_every_engine_and_blocks_are_never_more_than_there_are() {
    for_all_moving(580_000, |scenario, outcome, fleet| {
        let lives = lives(scenario, outcome, fleet)?;
        let pools = pools_of_places(scenario);
        let mut last: BTreeMap<usize, &StepRecord> = BTreeMap::new();
        for step in &outcome.steps {
            let at = step.instance.index();
            let blocks = scenario.bundle.pools[pools[at]].kv_blocks;
            let peak = outcome.instances[at].kv_blocks_peak;
            ensure(step.kv_blocks_after <= peak && peak <= blocks, || format!("{step:?}"))?;
            if let Some(before) = last.insert(at, step) {
                ensure(step.step == before.step + 1, || format!("{before:?} {step:?}"))?;
                let end_us = before.start_us + before.duration_us;
                let again = |&(from, _): &(SimTime, SimTime)| {
                    (before.start_us..=step.start_us).contains(&from.as_us())
                };
                let follows = step.start_us >= end_us || lives[at].works.iter().any(again);
                ensure(follows, || format!("{before:?} overlaps {step:?}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn no_engine_idles_beside_somebody_who_waits() {
    for_all_moving(590_000, |scenario, outcome, fleet| {
        let lives = lives(scenario, outcome, fleet)?;
        for r in outcome.requests.iter().filter(|r| r.state == RequestState::Completed) {
            let Some(instance) = r.instance else { return Err(format!("{r:?}")) };
            let works = &lives[instance.index()].works;
            let since = works.iter().map(|&(from, _)| from.as_us());
            let since = since.filter(|&from| from <= r.enqueued_us).max().unwrap_or(0);
            let mut now_us = r.enqueued_us;
            for step in outcome.steps.iter().filter(|step| step.instance == instance) {
                let end_us = step.start_us + step.duration_us;
                if step.start_us < since
                    || end_us <= now_us
                    || step.start_us >= r.first_scheduled_us
                {
                    continue;
                }
                ensure(step.start_us <= now_us, || format!("idle from {now_us}: {r:?}"))?;
                now_us = end_us;
            }
            let at_once = now_us >= r.first_scheduled_us;
            ensure(at_once, || format!("idle from {now_us} on: {r:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn the_same_inputs_give_the_same_bytes_in_any_scratch() {
    let dirty = RefCell::new(Scratch::default());
    for_all_moving(600_000, |scenario, outcome, _| {
        let second = run_with(scenario, &mut dirty.borrow_mut());
        ensure(format!("{outcome:?}") == format!("{second:?}"), || "a dirty scratch shows".into())
    });
}

#[test]
fn a_cut_run_is_the_start_of_the_whole_one() {
    for_all_moving(610_000, |scenario, whole, fleet| {
        for at in cuts(whole, fleet).into_iter().filter(|&at| at < fleet.end) {
            let cut = cut_at(scenario, at);
            let Some(cut_fleet) = &cut.fleet else { return Err("the fleet stands still".into()) };
            let events = fleet.events.iter().filter(|event| event.at <= at);
            ensure(events.eq(&cut_fleet.events), || format!("other events until {at:?}"))?;
            let steps = whole.steps.iter().filter(|step| step.start_us <= at.as_us());
            ensure(steps.eq(&cut.steps), || format!("other steps until {at:?}"))?;
            ensure(cut_fleet.end == at, || format!("cut at {at:?}: {:?}", cut_fleet.end))?;
        }
        Ok(())
    });
}

#[test]
fn a_signal_changes_at_scrapes_only() {
    for_all_moving(620_000, |scenario, _, fleet| {
        let Some(scaling) = &scenario.bundle.autoscaling else { return Ok(()) };
        let mut seen: BTreeMap<(u64, Option<u32>, &str), f64> = BTreeMap::new();
        for event in &fleet.events {
            let (Happening::ScaleUp { reason, .. } | Happening::ScaleDown { reason, .. }) =
                event.what
            else {
                continue;
            };
            let rest = event.at.as_ps() % scaling.interval.as_ps();
            ensure(rest == 0 && event.at > SimTime::ZERO, || format!("unasked: {event:?}"))?;
            let Reason::Signal { signal, value, .. } = reason else { continue };
            // Of the others the window counts too, which an event does not tell.
            let is_gauge = matches!(
                signal,
                Signal::Waiting | Signal::Running | Signal::InFlightTokens | Signal::KvUtilization
            );
            let scrape = event.at.as_ps() / scaling.scrape_interval.as_ps();
            if is_gauge {
                let first = *seen.entry((scrape, event.pool, signal.name())).or_insert(value);
                ensure(first.to_bits() == value.to_bits(), || format!("{first} then {event:?}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn nobody_looks_at_the_length_of_an_answer_before_it_ends() {
    for_all_moving(630_000, |scenario, outcome, fleet| {
        let mut longer = scenario.clone();
        longer.trace.output.iter_mut().for_each(|output| *output += 7);
        let other = run(&longer);
        let Some(other_fleet) = &other.fleet else { return Err("the fleet stands still".into()) };
        let ends = |outcome: &Outcome| {
            let completing = outcome.steps.iter().filter(|step| step.completed > 0);
            completing.map(|step| step.start_us).min().unwrap_or(NEVER_US)
        };
        // The run itself may end, or be cut, before anybody is answered.
        let ends = ends(outcome).min(ends(&other));
        let until = ends.min(fleet.end.as_us()).min(other_fleet.end.as_us());
        let events = |fleet: &FleetOutcome| {
            let before = fleet.events.iter().filter(|event| event.at.as_us() < until);
            before.copied().collect::<Vec<_>>()
        };
        ensure(events(fleet) == events(other_fleet), || format!("other events until {until}"))?;
        let steps = |outcome: &Outcome| {
            let before = outcome.steps.iter().filter(|step| step.start_us < until);
            before.copied().collect::<Vec<_>>()
        };
        ensure(steps(outcome) == steps(&other), || format!("other steps until {until}"))
    });
}

#[test]
fn a_session_goes_on_after_its_answers_and_thinks_in_between() {
    for_all_moving(640_000, |scenario, outcome, _| {
        let trace = &scenario.trace;
        let horizon_us = scenario.options.horizon.as_us();
        for next in (1..trace.len()).filter(|&at| trace.arrival[at] == SimTime::NEVER) {
            let (before, round) = (&outcome.requests[next - 1], &outcome.requests[next]);
            let client = &trace.clients[trace.client[next].index()];
            let completed = before.state == RequestState::Completed;
            if !completed {
                let silent = round.state == RequestState::Pending;
                ensure(silent, || format!("goes on without an answer: {before:?} {round:?}"))?;
                continue;
            }
            let due_us = before.finished_us + client.think_time.as_us();
            let due = if due_us <= horizon_us { due_us } else { NEVER_US };
            ensure(round.arrival_us == due, || format!("due at {due}: {round:?}"))?;
        }
        Ok(())
    });
}
