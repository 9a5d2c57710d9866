//! What holds in every run: conservation, causality, order, and what must not matter.
//!
//! Each law is tried on random scenarios, numbered as in the twins (see `swarm`).

use blis_opt::base::{SimTime, Span};
use blis_opt::policy::{Admission, PolicyBundle, Priority, Routing, Scheduler, Weights};
use blis_opt::sim::outcome::{Counts, RequestRecord, RequestState, StepRecord};
use blis_opt::sim::{Outcome, RunOptions, Scratch, simulate};
use blis_opt::workload::{Chain, NO_CHAIN, Trace};

use crate::swarm::{self, Dice, Scenario, for_all, row};

const CASES: u64 = 300;
const NEVER_US: u64 = RequestRecord::NEVER_US;

fn run(scenario: &Scenario) -> Outcome {
    run_with(scenario, &mut Scratch::default())
}

fn run_with(scenario: &Scenario, scratch: &mut Scratch) -> Outcome {
    simulate(&scenario.bundle, &scenario.trace, &scenario.options, scratch)
}

/// An error that shows `what` unless `holds`.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Points in a run at which to cut it: the first and last, some steps' starts and just before.
fn cuts(whole: &Outcome) -> Vec<u64> {
    let starts = whole.steps.iter().step_by(whole.steps.len() / 6 + 1).map(|step| step.start_us);
    let mut cuts: Vec<u64> = starts.flat_map(|at| [at.saturating_sub(1), at, at + 1]).collect();
    cuts.push((whole.end_s * 1e6) as u64 + 1);
    cuts.sort_unstable();
    cuts
}

fn cut_at(scenario: &Scenario, at_us: u64) -> Outcome {
    let mut cut = scenario.clone();
    cut.options.horizon = SimTime::from_us(at_us);
    run(&cut)
}

fn of_instance(outcome: &Outcome, instance: usize) -> impl Iterator<Item = &StepRecord> {
    outcome.steps.iter().filter(move |step| step.instance.index() == instance)
}

fn end_us(step: &StepRecord) -> u64 {
    step.start_us + step.duration_us
}

fn total(counts: &Counts) -> u64 {
    counts.rejected + counts.dropped + counts.queued + counts.running + counts.completed
}

#[test]
fn every_request_is_in_one_bucket_at_any_horizon() {
    for_all(10_000, CASES, |scenario| {
        let drained = scenario.drained();
        let mut before = Counts::default();
        for at_us in cuts(&run(&drained)) {
            let outcome = cut_at(&drained, at_us);
            let counts = outcome.counts;
            ensure(total(&counts) == counts.injected, || format!("at {at_us}: {counts:?}"))?;
            let arrived = outcome.requests.iter().filter(|r| r.arrival_us <= at_us).count() as u64;
            ensure(counts.injected == arrived, || format!("{arrived} of {counts:?}"))?;
            let measured = outcome.measured;
            ensure(total(&measured) == measured.injected, || format!("{measured:?}"))?;
            let left = |counts: &Counts| [counts.completed, counts.rejected, counts.dropped];
            let grew = left(&before).iter().zip(left(&counts)).all(|(&before, now)| before <= now);
            ensure(grew, || format!("{before:?} then {counts:?}"))?;
            before = counts;
            conserved_per_instance(&outcome)?;
        }
        Ok(())
    });
}

fn conserved_per_instance(outcome: &Outcome) -> Result<(), String> {
    for (at, instance) in outcome.instances.iter().enumerate() {
        let here = outcome.requests.iter().filter(|r| r.instance.is_some_and(|i| i.index() == at));
        let dropped = here.clone().filter(|r| r.state == RequestState::Dropped).count() as u64;
        let sum = instance.completed + instance.queued + instance.running + dropped;
        let sent = instance.requests;
        ensure(sum == sent && here.count() as u64 == sent, || format!("{at}: {instance:?}"))?;
    }
    Ok(())
}

/// Whether what happened by `at_us` is the same in two records.
fn same_until(at_us: u64, whole: &RequestRecord, cut: &RequestRecord) -> bool {
    let times =
        |r: &RequestRecord| [r.arrival_us, r.routed_us, r.enqueued_us, r.first_scheduled_us];
    let seen = |time: u64| if time <= at_us { time } else { NEVER_US };
    times(whole).map(seen) == times(cut)
}

#[test]
fn a_cut_run_is_the_start_of_the_whole_one() {
    for_all(20_000, CASES, |scenario| {
        let drained = scenario.drained();
        let whole = run(&drained);
        for at_us in cuts(&whole) {
            let cut = cut_at(&drained, at_us);
            let until = |step: &&StepRecord| step.start_us <= at_us;
            let steps: Vec<_> = whole.steps.iter().filter(until).copied().collect();
            ensure(cut.steps == steps, || format!("other steps until {at_us}"))?;
            for (whole, cut) in whole.requests.iter().zip(&cut.requests) {
                let same = same_until(at_us, whole, cut);
                ensure(same, || format!("until {at_us}:\nwhole {whole:?}\ncut {cut:?}"))?;
                let done = cut.state != RequestState::Completed || cut == whole;
                ensure(done, || format!("completed by {at_us}:\nwhole {whole:?}\ncut {cut:?}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_request_lives_in_order() {
    for_all(30_000, CASES, |scenario| {
        let outcome = run(scenario);
        for (id, record) in outcome.requests.iter().enumerate() {
            lives_in_order(scenario, id, record)
                .map_err(|wrong| format!("request {id}: {wrong}: {record:?}"))?;
        }
        Ok(())
    });
}

fn lives_in_order(scenario: &Scenario, id: usize, r: &RequestRecord) -> Result<(), String> {
    let Scenario { bundle, trace, .. } = scenario;
    let order = [r.arrival_us, r.routed_us, r.enqueued_us, r.first_scheduled_us, r.scheduled_us];
    // An event that did not happen is later than all others.
    ensure(order.is_sorted(), || "out of order".into())?;
    let happened = |time: u64| time != NEVER_US;
    ensure(happened(r.routed_us) == r.instance.is_some(), || "sent nowhere".into())?;
    let entered = [r.first_scheduled_us, r.scheduled_us].map(happened);
    ensure(entered[0] == entered[1], || "entered a batch once only".into())?;
    let answered = [r.finished_us, r.e2e_us].map(happened);
    let completed = r.state == RequestState::Completed;
    ensure(answered == [completed; 2], || "answered and not completed".into())?;
    let queued = matches!(r.state, RequestState::Queued) && r.preemptions == 0;
    ensure(!queued || !entered[0], || "queued after a batch".into())?;
    ensure(r.state != RequestState::Running || entered[0], || "running, never in".into())?;
    ensure(r.preemptions == 0 || entered[0], || "thrown out, never in".into())?;
    let Some(instance) = r.instance else { return Ok(()) };
    let pipeline = (bundle.admission_latency + bundle.routing_latency).as_us();
    ensure(r.routed_us == r.arrival_us + pipeline, || "routed when?".into())?;
    let latency = latency_of(bundle, instance.index());
    let queued_us = r.routed_us + latency.queueing_us(trace.input[id]);
    ensure(!happened(r.enqueued_us) || r.enqueued_us == queued_us, || "queued when?".into())?;
    if completed {
        // The clock leaves out the output processing of each token.
        let tokens = u64::from(trace.output[id].max(1));
        let reported = r.finished_us - r.arrival_us + latency.output_us() * tokens;
        ensure(r.e2e_us == reported && r.ttft_us <= r.e2e_us, || "reported when?".into())?;
        ensure(r.scheduled_us <= r.finished_us, || "finished before it began".into())?;
    }
    Ok(())
}

fn latency_of(bundle: &PolicyBundle, instance: usize) -> blis_opt::latency::Blackbox {
    let pools = bundle.pools.iter();
    let mut each = pools.flat_map(|pool| (0..pool.instances).map(|_| pool.latency));
    each.nth(instance).expect("an instance of the fleet")
}

#[test]
fn steps_follow_each_other_and_leave_nobody_waiting_beside_an_idle_engine() {
    for_all(40_000, CASES, |scenario| {
        let outcome = run(&scenario.drained());
        for at in 0..outcome.instances.len() {
            let steps: Vec<_> = of_instance(&outcome, at).collect();
            for (index, step) in steps.iter().enumerate() {
                ensure(step.step == index as u64 + 1, || format!("a step is missing: {step:?}"))?;
                let Some(next) = steps.get(index + 1) else { continue };
                ensure(next.start_us >= end_us(step), || format!("{step:?} overlaps {next:?}"))?;
                let at_once = step.waiting_after == 0 || next.start_us == end_us(step);
                ensure(at_once, || format!("idle beside waiting work: {step:?} {next:?}"))?;
            }
            let last = steps.last().is_none_or(|step| step.waiting_after == 0);
            ensure(last, || format!("instance {at} stopped beside waiting work"))?;
            let here = |r: &&RequestRecord| r.instance.is_some_and(|i| i.index() == at);
            for request in outcome.requests.iter().filter(here) {
                noticed(request.enqueued_us, &steps)?;
            }
        }
        Ok(())
    });
}

/// A request that joins the queue is seen by a step at once, or at the end of the one in flight.
fn noticed(enqueued_us: u64, steps: &[&StepRecord]) -> Result<(), String> {
    if enqueued_us == NEVER_US {
        return Ok(());
    }
    let at = steps.partition_point(|step| step.start_us < enqueued_us);
    let free_us = if at == 0 { 0 } else { end_us(steps[at - 1]) };
    let start_us = steps.get(at).map(|step| step.start_us);
    let due = Some(enqueued_us.max(free_us));
    ensure(start_us == due, || format!("queued at {enqueued_us}, due {due:?}, got {start_us:?}"))
}

#[test]
fn blocks_are_never_more_than_there_are_and_all_come_back() {
    for_all(50_000, CASES, |scenario| {
        let outcome = run(&scenario.drained());
        let pools = scenario.bundle.pools.iter();
        let blocks = pools.flat_map(|pool| (0..pool.instances).map(|_| pool.kv_blocks));
        for (at, blocks) in blocks.enumerate() {
            let used = |step: &StepRecord| step.kv_blocks_after;
            let most = of_instance(&outcome, at).map(used).max().unwrap_or(0);
            let peak = outcome.instances[at].kv_blocks_peak;
            ensure(most <= peak && peak <= blocks, || format!("{most} {peak} {blocks}"))?;
            let last = of_instance(&outcome, at).last().map_or(0, used);
            ensure(last == 0, || format!("{last} blocks of instance {at} never came back"))?;
        }
        Ok(())
    });
}

#[test]
fn the_same_inputs_give_the_same_bytes_in_any_scratch() {
    let dirty = std::cell::RefCell::new(Scratch::default());
    for_all(60_000, CASES, |scenario| {
        let first = run(scenario);
        let second = run_with(scenario, &mut dirty.borrow_mut());
        ensure(format!("{first:?}") == format!("{second:?}"), || "a dirty scratch shows".into())
    });
}

#[test]
fn what_is_kept_changes_no_figure() {
    for_all(70_000, CASES, |scenario| {
        let mut kept = run(scenario);
        let options = RunOptions { keep_requests: false, keep_steps: false, ..scenario.options };
        let bare = run(&Scenario { options, ..scenario.clone() });
        kept.requests.clear();
        kept.steps.clear();
        // Gaps too many to be kept one by one are binned in either, each from its own runs.
        ensure(kept.itl.count > 8192 || bare == kept, || format!("{bare:?}\n{kept:?}"))
    });
}

#[test]
fn whoever_is_in_a_batch_computes_a_token() {
    for_all(80_000, CASES, |scenario| {
        for step in run(scenario).steps {
            let tokens = step.prefill_tokens + step.decode_tokens;
            let limits = scenario.bundle.batching;
            let within = step.batch <= tokens
                && step.batch <= limits.max_running
                && tokens <= limits.max_tokens;
            ensure(within, || format!("{step:?}"))?;
        }
        Ok(())
    });
}

/// When something first left a batch for good, in microseconds.
fn first_end_us(outcome: &Outcome) -> u64 {
    let ends = outcome.steps.iter().filter(|step| step.completed > 0).map(|step| step.start_us);
    let dropped = outcome.requests.iter().filter(|r| r.state == RequestState::Dropped);
    ends.chain(dropped.map(|r| r.arrival_us)).min().unwrap_or(NEVER_US)
}

#[test]
fn answer_lengths_decide_nothing_before_the_first_answer() {
    for_all(90_000, CASES, |scenario| {
        let scenario = scenario.drained();
        let mut shuffled = scenario.clone();
        shuffled.trace.output.reverse();
        let (one, other) = (run(&scenario), run(&shuffled));
        let until_us = first_end_us(&one).min(first_end_us(&other));
        let early = |outcome: &Outcome| -> Vec<StepRecord> {
            outcome.steps.iter().filter(|step| step.start_us < until_us).copied().collect()
        };
        ensure(early(&one) == early(&other), || format!("other steps before {until_us}"))?;
        let bundle = &scenario.bundle;
        let pipeline = (bundle.admission_latency + bundle.routing_latency).as_us();
        for (one, other) in one.requests.iter().zip(&other.requests) {
            if one.arrival_us < until_us.saturating_sub(pipeline) {
                let decided = |r: &RequestRecord| {
                    (r.state == RequestState::Rejected, r.instance, r.routed_us)
                };
                let same = decided(one) == decided(other);
                ensure(same, || format!("before {until_us}:\n{one:?}\n{other:?}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn the_next_round_of_a_session_follows_the_answer_and_the_thought() {
    for_all(100_000, CASES, |scenario| {
        let outcome = run(scenario);
        let trace = &scenario.trace;
        for (id, round) in outcome.requests.iter().enumerate() {
            if trace.arrival[id] != SimTime::NEVER {
                continue;
            }
            let before = outcome.requests[id - 1];
            let thought = trace.clients[trace.client[id].index()].think_time.as_us();
            let due_us = match before.state {
                RequestState::Completed => before.finished_us + thought,
                _ => NEVER_US,
            };
            let seen = due_us != NEVER_US && SimTime::from_us(due_us) <= scenario.options.horizon;
            let expected_us = if seen { due_us } else { NEVER_US };
            let right = round.arrival_us == expected_us
                && (round.state == RequestState::Pending) == (expected_us == NEVER_US);
            ensure(right, || format!("round {id}: {before:?} then {round:?}"))?;
        }
        Ok(())
    });
}

/// A scenario in which nobody is thrown out of a batch or dropped from it.
fn calm(scenario: &Scenario) -> Scenario {
    let mut calm = scenario.drained();
    for pool in &mut calm.bundle.pools {
        pool.kv_blocks = 2_000_000;
    }
    calm
}

#[test]
fn time_in_the_system_adds_up_twice_the_same() {
    // Little's law as an identity of integers: requests in a place, summed over time, are the
    // times spent there, summed over requests. One side is made of steps, the other of requests.
    for_all(110_000, CASES, |scenario| {
        let outcome = run(&calm(scenario));
        for at in 0..outcome.instances.len() {
            let steps: Vec<_> = of_instance(&outcome, at).collect();
            let here = |r: &&RequestRecord| r.instance.is_some_and(|i| i.index() == at);
            let here: Vec<_> = outcome.requests.iter().filter(here).collect();
            let in_batch: u64 = steps.iter().map(|s| u64::from(s.batch) * s.duration_us).sum();
            let running: u64 = here.iter().map(|r| r.finished_us - r.scheduled_us).sum();
            ensure(in_batch == running, || format!("in the batch {in_batch}, {running}"))?;
            let mut in_queue: u64 =
                steps.iter().map(|s| u64::from(s.waiting_after) * s.duration_us).sum();
            for request in &here {
                // Who comes during a step is not counted by it.
                let next = steps.partition_point(|step| step.start_us < request.enqueued_us);
                let end = if next == 0 { 0 } else { end_us(steps[next - 1]) };
                in_queue += end.saturating_sub(request.enqueued_us);
            }
            let waiting: u64 = here.iter().map(|r| r.first_scheduled_us - r.enqueued_us).sum();
            ensure(in_queue == waiting, || format!("in the queue {in_queue}, {waiting}"))?;
        }
        Ok(())
    });
}

#[test]
fn every_token_is_computed_once() {
    for_all(120_000, CASES, |scenario| {
        let mut scenario = calm(scenario);
        scenario.trace.chain.fill(NO_CHAIN);
        let outcome = run(&scenario);
        let sum = |part: fn(&StepRecord) -> u32| -> u64 {
            outcome.steps.iter().map(|step| u64::from(part(step))).sum()
        };
        let computed = (sum(|step| step.prefill_tokens), sum(|step| step.decode_tokens));
        let served = |(at, _): &(usize, &RequestRecord)| {
            outcome.requests[*at].state == RequestState::Completed
        };
        let served = || outcome.requests.iter().enumerate().filter(served);
        let trace = &scenario.trace;
        let prompts: u64 = served().map(|(at, _)| u64::from(trace.input[at])).sum();
        let answers: u64 = served().map(|(at, _)| u64::from(trace.output[at].max(1) - 1)).sum();
        let asked = (prompts, answers);
        ensure(computed == asked, || format!("asked {asked:?}, computed {computed:?}"))
    });
}

#[test]
fn more_load_never_means_less_waiting() {
    // One at a time, in order: the only place where it is a theorem (Lindley).
    for_all(130_000, CASES, |scenario| {
        let mut sparse = alone(&calm(scenario));
        sparse.bundle.pools.truncate(1);
        sparse.bundle.pools[0].fix(1);
        sparse.bundle.pools[0].latency.alpha = [0.0; 3];
        sparse.bundle.batching.max_running = 1;
        sparse.bundle.scheduler = Scheduler::Fcfs;
        sparse.bundle.admission = Admission::AlwaysAdmit;
        let mut dense = sparse.clone();
        for arrival in &mut dense.trace.arrival {
            *arrival = SimTime::from_us(arrival.as_us() / 2);
        }
        let (sparse, dense) = (run(&sparse), run(&dense));
        for (sparse, dense) in sparse.requests.iter().zip(&dense.requests) {
            let waited = |r: &RequestRecord| r.first_scheduled_us - r.enqueued_us;
            // Gaps round down, by less than a microsecond each.
            let less = waited(dense) + 1 < waited(sparse);
            ensure(!less, || format!("sparse {sparse:?}\ndense {dense:?}"))?;
        }
        Ok(())
    });
}

/// The scenario without follow-up rounds and without shared tokens.
fn alone(scenario: &Scenario) -> Scenario {
    let mut alone = scenario.clone();
    let trace = &scenario.trace;
    alone.trace = Trace {
        clients: trace.clients.clone(),
        classes: trace.classes.clone(),
        tenants: trace.tenants.clone(),
        end: trace.end,
        ..Trace::default()
    };
    for at in (0..trace.len()).filter(|&at| trace.arrival[at] != SimTime::NEVER) {
        let mut request = row(trace, at);
        request.chain = NO_CHAIN;
        alone.trace.push(request);
    }
    alone
}

#[test]
fn round_robin_deals_the_same_whatever_the_engines_do() {
    for_all(140_000, CASES, |scenario| {
        let mut scenario = alone(scenario);
        scenario.bundle.routing = Routing::RoundRobin;
        let rules = scenario.bundle.admission.rules();
        if rules.iter().any(|rule| swarm::gates::looks_at_engines(rule)) {
            return Ok(());
        }
        let mut quick = scenario.clone();
        for pool in &mut quick.bundle.pools {
            pool.latency.beta = [1.0, 0.0, 0.0];
            pool.kv_blocks *= 10;
        }
        let dealt = |outcome: &Outcome| -> Vec<_> {
            outcome.requests.iter().map(|request| request.instance).collect()
        };
        ensure(dealt(&run(&scenario)) == dealt(&run(&quick)), || "dealt otherwise".into())
    });
}

#[test]
fn time_has_no_unit() {
    for_all(150_000, CASES, |scenario| {
        let mut one = scenario.clone();
        for pool in &mut one.bundle.pools {
            pool.latency.alpha = pool.latency.alpha.map(f64::round);
            pool.latency.beta = pool.latency.beta.map(f64::round);
        }
        if let Routing::WeightedRoundRobin(weights) | Routing::LeastConnections(weights) =
            &mut one.bundle.routing
            && *weights == Weights::Capacity
        {
            // A third of a rate is no number of the machine either.
            *weights = Weights::Equal;
        }
        for factor in [2, 3, 8] {
            let is_bucket = |rule: &&Admission| matches!(rule, Admission::TokenBucket { .. });
            let token_bucket = one.bundle.admission.rules().iter().any(is_bucket);
            if factor == 3 && token_bucket {
                // A third of a refill rate is no number of the machine.
                continue;
            }
            let (one, other) = (run(&one), run(&slowed(&one, factor)));
            for (one, other) in one.requests.iter().zip(&other.requests) {
                let slowed = slowed_record(one, factor);
                ensure(slowed == *other, || format!("{factor} times {one:?}\nis not {other:?}"))?;
            }
            let times = |step: &StepRecord, factor| StepRecord {
                start_us: step.start_us * factor,
                duration_us: step.duration_us * factor,
                ..*step
            };
            let steps: Vec<_> = one.steps.iter().map(|step| times(step, factor)).collect();
            ensure(steps == other.steps, || format!("other steps, {factor} times slower"))?;
        }
        Ok(())
    });
}

/// The scenario in which everything takes `factor` times as long.
fn slowed(scenario: &Scenario, factor: u64) -> Scenario {
    let mut slowed = scenario.clone();
    let Scenario { bundle, trace, options, .. } = &mut slowed;
    let point = |time: &mut SimTime| {
        if *time != SimTime::NEVER {
            *time = SimTime::from_ps(time.as_ps() * factor);
        }
    };
    let span = |length: &mut Span| *length = length.times(factor);
    for arrival in &mut trace.arrival {
        point(arrival);
    }
    point(&mut trace.end);
    for client in &mut trace.clients {
        span(&mut client.think_time);
    }
    point(&mut options.horizon);
    point(&mut options.warm_up);
    span(&mut bundle.admission_latency);
    span(&mut bundle.routing_latency);
    span(&mut bundle.signals.kv_utilization_refresh);
    span(&mut bundle.signals.metrics_fetch_interval);
    for pool in &mut bundle.pools {
        pool.latency.alpha = pool.latency.alpha.map(|us| us * factor as f64);
        pool.latency.beta = pool.latency.beta.map(|us| us * factor as f64);
    }
    span(&mut bundle.gateway.refresh);
    swarm::gates::slow_rule(&mut bundle.admission, factor);
    if let Priority::SloDeadline(targets) = &mut bundle.priority {
        for (_, target) in targets {
            span(target);
        }
    }
    slowed
}

fn slowed_record(record: &RequestRecord, factor: u64) -> RequestRecord {
    let times = |us: u64| if us == NEVER_US { us } else { us * factor };
    RequestRecord {
        arrival_us: times(record.arrival_us),
        routed_us: times(record.routed_us),
        enqueued_us: times(record.enqueued_us),
        first_scheduled_us: times(record.first_scheduled_us),
        scheduled_us: times(record.scheduled_us),
        ttft_us: times(record.ttft_us),
        e2e_us: times(record.e2e_us),
        finished_us: times(record.finished_us),
        ..*record
    }
}

#[test]
fn names_of_chains_do_not_matter() {
    for_all(160_000, CASES, |scenario| {
        let renamed = Scenario { trace: renamed(&scenario.trace), ..scenario.clone() };
        ensure(run(scenario) == run(&renamed), || "a chain's number shows".into())
    });
}

/// The trace with its chains in another order, parents still before their children.
fn renamed(trace: &Trace) -> Trace {
    let mut dice = Dice::new(trace.len() as u64);
    let mut renamed = Trace { chains: Vec::new(), ..trace.clone() };
    let mut names = vec![NO_CHAIN; trace.chains.len()];
    let mut left: Vec<usize> = (0..names.len()).collect();
    while !left.is_empty() {
        let at = dice.between(0, left.len() as u32 - 1) as usize;
        let Chain { parent, start } = trace.chains[left[at]];
        let parent = match parent {
            NO_CHAIN => NO_CHAIN,
            parent if names[parent as usize] == NO_CHAIN => continue,
            parent => names[parent as usize],
        };
        names[left.remove(at)] = renamed.chains.len() as u32;
        renamed.chains.push(Chain { parent, start });
    }
    for chain in &mut renamed.chain {
        *chain = names.get(*chain as usize).copied().unwrap_or(NO_CHAIN);
    }
    renamed
}

#[test]
fn weights_of_scorers_are_only_compared() {
    for_all(170_000, CASES, |scenario| {
        let mut heavy = scenario.clone();
        if let Routing::Weighted(scorers) | Routing::Picked(scorers, _) = &mut heavy.bundle.routing
        {
            for (_, weight) in scorers {
                *weight *= 8.0;
            }
        }
        ensure(run(scenario) == run(&heavy), || "a power of two shows".into())
    });
}

#[test]
fn a_pool_is_the_sum_of_its_parts() {
    for_all(180_000, CASES, |scenario| {
        let mut parts = scenario.clone();
        parts.bundle.pools.clear();
        let mut origins = Vec::new();
        for (at, pool) in scenario.bundle.pools.iter().enumerate() {
            for _ in 0..pool.instances {
                let mut part = pool.clone();
                part.fix(1);
                parts.bundle.pools.push(part);
                origins.push(at);
            }
        }
        if let Routing::WeightedRoundRobin(Weights::Pools(weights))
        | Routing::LeastConnections(Weights::Pools(weights)) = &mut parts.bundle.routing
        {
            *weights = origins.iter().map(|&at| weights[at]).collect();
        }
        ensure(run(scenario) == run(&parts), || "pools of one differ from one pool".into())
    });
}
