//! Laws of generated traces.

use proptest::prelude::*;

use super::*;
use crate::base::{RequestId, SimTime, Span};

fn session(growth: Growth, pacing: Pacing) -> Sessions {
    let think_time = Span::from_us(20_000);
    Sessions { max_rounds: 4, think_time, growth, pacing, single: false }
}

fn client(name: &str, arrivals: Arrivals) -> ClientSpec {
    ClientSpec {
        name: name.to_owned(),
        tenant: format!("tenant of {name}"),
        slo_class: "batch".to_owned(),
        arrivals,
        prompt: Prompt::Text(Lengths::gaussian(60.0, 30.0, 1.0, 200.0)),
        output: Lengths::Exponential { mean: 20.0, clamp: Clamp::NONE },
        ..ClientSpec::default()
    }
}

fn prefix(group: &str, length: u32) -> Prefix {
    Prefix { group: group.to_owned(), length }
}

/// One of everything; open-loop sessions only where asked for.
fn zoo(pacing: Pacing) -> WorkloadSpec {
    let chat = ClientSpec {
        sessions: Some(session(Growth::Accumulate, pacing)),
        prefix: Some(prefix("system", 64)),
        slo_class: "interactive".to_owned(),
        ..client("chat", Arrivals::Poisson)
    };
    let forgetful = ClientSpec {
        sessions: Some(session(Growth::None, pacing)),
        prefix: Some(prefix("system", 999)),
        ..client("forgetful", Arrivals::Gamma { cv: 2.0 })
    };
    let window = |start, end| Window::new(Span::from_us(start), Span::from_us(end));
    let windowed = ClientSpec {
        prefix: Some(prefix("other", 50)),
        windows: vec![window(100_000, 400_000), window(700_000, 90_000_000)],
        ..client("windowed", Arrivals::Weibull { cv: 1.5 })
    };
    let pictures = Part {
        count: Some(Lengths::gaussian(1.0, 2.0, 0.0, 4.0)),
        tokens: Lengths::Constant(500.0),
    };
    let seeing = ClientSpec {
        prompt: Prompt::Multimodal { text: None, parts: vec![pictures] },
        ..client("seeing", Arrivals::Constant { from_zero: false })
    };
    WorkloadSpec {
        aggregate_rate: 500.0,
        clients: vec![chat, forgetful, windowed, seeing],
        ..WorkloadSpec::default()
    }
}

fn requests(max: u64) -> Limits {
    Limits { max_requests: Some(max), ..Limits::default() }
}

fn of_client(trace: &Trace, client: usize) -> Vec<(SimTime, u32, u32)> {
    (0..trace.len())
        .filter(|&i| trace.client[i].index() == client)
        .map(|i| (trace.arrival[i], trace.input[i], trace.output[i]))
        .collect()
}

fn is_prefix_of(short: &Trace, long: &Trace) -> bool {
    let n = short.len();
    short.arrival == long.arrival[..n]
        && short.input == long.input[..n]
        && short.output == long.output[..n]
        && short.client == long.client[..n]
        && short.chain == long.chain[..n]
        && short.shared == long.shared[..n]
        && short.chains == long.chains[..short.chains.len()]
}

fn assert_well_formed(trace: &Trace) {
    let mut last = SimTime::ZERO;
    for i in 0..trace.len() {
        assert!(trace.input[i] >= 1 && trace.input[i] <= LENGTH_MAX);
        assert!(trace.output[i] >= 1 && trace.output[i] <= LENGTH_MAX);
        if trace.is_follow_up(RequestId::new(i)) {
            assert!(i > 0 && trace.client[i] == trace.client[i - 1], "a session stays together");
        } else {
            assert!(trace.arrival[i] >= last, "arrivals ascend");
            assert!(trace.arrival[i] < trace.end, "nothing arrives after the end");
            last = trace.arrival[i];
        }
        if trace.chain[i] == NO_CHAIN {
            assert_eq!(trace.shared[i], 0);
        } else {
            assert!((trace.chain[i] as usize) < trace.chains.len());
        }
    }
    for (index, chain) in trace.chains.iter().enumerate() {
        match chain.parent {
            NO_CHAIN => assert_eq!(chain.start, 0),
            parent => assert!((parent as usize) < index, "a parent precedes its children"),
        }
    }
}

#[test]
fn a_seed_names_one_realisation() {
    let spec = zoo(Pacing::Closed);
    let trace = generate(&spec, 7, requests(2000));
    assert_eq!(trace, generate(&spec, 7, requests(2000)));
    assert_ne!(trace.arrival, generate(&spec, 8, requests(2000)).arrival);
    assert_eq!(trace.len(), 2000);
}

#[test]
fn one_clients_lengths_move_nobody_else() {
    let duration = Limits { duration: Some(Span::from_secs(3.0)), ..Limits::default() };
    for pacing in [Pacing::Closed, Pacing::Open] {
        let spec = zoo(pacing);
        let before = generate(&spec, 3, duration);
        for changed in 0..spec.clients.len() {
            let mut other = spec.clone();
            other.clients[changed].prompt = Prompt::Text(Lengths::Constant(7.0));
            other.clients[changed].output = Lengths::gaussian(9.0, 3.0, 1.0, 20.0);
            let after = generate(&other, 3, duration);
            for client in (0..spec.clients.len()).filter(|&client| client != changed) {
                assert_eq!(of_client(&before, client), of_client(&after, client));
            }
            assert_ne!(of_client(&before, changed), of_client(&after, changed));
        }
    }
}

#[test]
fn answers_do_not_move_prompts_nor_arrivals() {
    let spec = zoo(Pacing::Closed);
    let mut other = spec.clone();
    other.clients[2].output = Lengths::gaussian(9.0, 3.0, 1.0, 20.0);
    let (before, after) = (generate(&spec, 3, requests(500)), generate(&other, 3, requests(500)));
    assert_eq!((&before.arrival, &before.input), (&after.arrival, &after.input));
    assert_ne!(before.output, after.output);
}

#[test]
fn prompts_of_a_conversation_hold_all_that_was_said() {
    let trace = generate(&zoo(Pacing::Closed), 5, requests(3000));
    let mut rounds = 0;
    for i in 1..trace.len() {
        if !trace.is_follow_up(RequestId::new(i)) {
            continue;
        }
        rounds += 1;
        assert_eq!(trace.chain[i], trace.chain[i - 1]);
        if trace.client[i].index() == 0 {
            assert_eq!(trace.shared[i], u32::MAX);
            let new = trace.input[i] - trace.input[i - 1] - trace.output[i - 1];
            assert!((1..=200).contains(&new));
        } else {
            assert!((65..=264).contains(&trace.input[i]), "prefix and new input only");
            assert_eq!(trace.shared[i], 64);
        }
    }
    assert!(rounds > 1000);
}

#[test]
fn chains_follow_groups_then_sessions() {
    let trace = generate(&zoo(Pacing::Closed), 5, requests(1000));
    let no_parent = Chain { parent: NO_CHAIN, start: 0 };
    assert_eq!(trace.chains[..2], [no_parent, no_parent]);
    assert!(trace.chains[2..].iter().all(|chain| *chain == Chain { parent: 0, start: 64 }));
    let sessions = (0..trace.len())
        .filter(|&i| trace.client[i].index() == 0 && trace.arrival[i] != SimTime::NEVER)
        .map(|i| trace.chain[i]);
    let expected = 2..trace.chains.len() as u32;
    assert!(sessions.eq(expected), "every session has a chain of its own, in order");
}

#[test]
fn rounds_of_open_loops_come_at_their_own_time() {
    let mut spec = zoo(Pacing::Open);
    spec.clients.truncate(1);
    let duration = Span::from_secs(2.0);
    let trace = generate(&spec, 9, Limits { duration: Some(duration), ..Limits::default() });
    let mut last: Vec<Option<usize>> = vec![None; trace.chains.len()];
    let mut rounds = 0;
    for i in 0..trace.len() {
        let chain = trace.chain[i] as usize;
        if let Some(before) = last[chain] {
            let gap = Span::from_us(20_000 + u64::from(trace.output[before]));
            assert_eq!(trace.arrival[i] - trace.arrival[before], gap);
            assert!(trace.input[i] > trace.input[before] + trace.output[before]);
            rounds += 1;
        }
        last[chain] = Some(i);
    }
    assert!(rounds > 2000, "{rounds}");
}

#[test]
fn open_loops_stop_as_in_the_reference() {
    let mut spec = zoo(Pacing::Open);
    spec.clients.truncate(1);
    spec.clients[0].sessions = Some(Sessions {
        max_rounds: 5,
        think_time: Span::from_us(500_000),
        ..session(Growth::Accumulate, Pacing::Open)
    });
    spec.aggregate_rate = 1000.0;
    let trace = generate(&spec, 42, requests(500));
    // Twice 500 requests are 200 sessions of five rounds; 500 requests are then the first two
    // rounds of all and the third of half of them.
    assert_eq!((trace.len(), trace.chains.len()), (500, 1 + 200));
}

#[test]
fn rate_mode_spaces_evenly_from_time_zero() {
    let mode = RateMode {
        rate: 300.0,
        arrivals: Arrivals::Constant { from_zero: true },
        prefix_tokens: 10,
        ..RateMode::default()
    };
    let trace = generate(&WorkloadSpec::rate_mode(mode), 1, requests(4));
    let times: Vec<u64> = trace.arrival.iter().map(|time| time.as_us()).collect();
    assert_eq!(times, [0, 3333, 6666, 9999]);
    assert_eq!(trace.end, SimTime::from_us(13_332));
    assert!(trace.input.iter().all(|&input| input >= 12));
    assert_eq!((trace.chain[0], trace.shared[0]), (0, 10));
}

#[test]
fn a_single_session_ends_the_workload() {
    let mut spec = zoo(Pacing::Closed);
    spec.clients.truncate(2);
    for client in &mut spec.clients {
        client.sessions = client.sessions.map(|sessions| Sessions { single: true, ..sessions });
    }
    let trace = generate(&spec, 2, Limits::default());
    assert_eq!(trace.len(), 8);
    assert_well_formed(&trace);
    assert!(spec.offered_rate().is_finite());
}

#[test]
fn a_conversation_ends_before_it_outgrows_every_model() {
    let mut spec = zoo(Pacing::Closed);
    spec.clients.truncate(1);
    spec.clients[0].prompt = Prompt::Text(Lengths::Constant(f64::from(LENGTH_MAX) / 3.0));
    let trace = generate(&spec, 2, requests(100));
    assert_well_formed(&trace);
    let starts = trace.arrival.iter().filter(|&&arrival| arrival != SimTime::NEVER).count();
    assert_eq!(starts, 50, "two rounds fit");
}

#[test]
fn absurd_rates_and_lengths_end_within_the_clock() {
    let mut spec = zoo(Pacing::Open);
    spec.aggregate_rate = 1e-9;
    let trace = generate(&spec, 2, requests(100));
    assert!(trace.end.as_ps() < 1 << 63);
    assert!(trace.len() < 100);
    spec.aggregate_rate = 1e6;
    assert_well_formed(&generate(&spec, 2, requests(10_000)));
}

proptest! {
    #[test]
    fn traces_are_well_formed(seed: u64, max in 1_u64..600, open: bool, rate in 1.0..5000.0_f64) {
        let mut spec = zoo(if open { Pacing::Open } else { Pacing::Closed });
        spec.aggregate_rate = rate;
        assert_well_formed(&generate(&spec, seed, requests(max)));
    }

    #[test]
    fn shorter_traces_are_the_start_of_longer_ones(
        seed: u64,
        short in 1_u64..300,
        more in 0_u64..300,
    ) {
        let spec = zoo(Pacing::Closed);
        let long = generate(&spec, seed, requests(short + more));
        prop_assert!(is_prefix_of(&generate(&spec, seed, requests(short)), &long));
    }

    #[test]
    fn earlier_horizons_cut_the_same_trace(seed: u64, short in 0.1..1.0_f64, open: bool) {
        let spec = zoo(if open { Pacing::Open } else { Pacing::Closed });
        let until = |secs| Limits { duration: Some(Span::from_secs(secs)), ..Limits::default() };
        let (short, long) =
            (generate(&spec, seed, until(short)), generate(&spec, seed, until(1.5)));
        prop_assert!(is_prefix_of(&short, &long));
        let later = long.arrival.get(short.len());
        prop_assert!(later.is_none_or(|&arrival| arrival >= short.end));
    }
}
