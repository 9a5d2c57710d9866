//! Tests of signals.

use super::*;

fn sample(at_s: f64, arrivals: u64, ttft_ms: &[u64]) -> Sample {
    let [mut ttft, tpot, e2e] = empty_latencies(Quantiles::Exact);
    for &ms in ttft_ms {
        ttft.add(Span::from_us(ms * 1000));
    }
    let pool = PoolSample {
        ready: 2,
        waiting: 6,
        busy_ps: u128::from(arrivals) * 1_000_000_000_000,
        ready_ps: 2 * (at_s * 1e12) as u128,
        ..PoolSample::default()
    };
    let at = SimTime::from_secs(at_s);
    let answered = Answered { requests: 2, prompt_tokens: arrivals, output_tokens: 6 };
    let prompt_tokens = 200 * arrivals;
    let pools = vec![pool];
    Sample {
        at,
        arrivals,
        prompt_tokens,
        held: 4,
        pools,
        ttft,
        tpot,
        e2e,
        answered,
        ..Sample::default()
    }
}

fn samples() -> Samples {
    let cost = TokenCost { prefill_s: 1e-5, decode_s: 1e-4 };
    let mut samples = Samples::new(Span::from_secs(60.0), vec![cost]);
    for (at, arrivals, ttft) in
        [(0.0, 0, &[][..]), (30.0, 10, &[100, 100]), (60.0, 40, &[200; 8]), (90.0, 50, &[100])]
    {
        samples.push(sample(at, arrivals, ttft));
    }
    samples
}

#[test]
fn gauges_are_those_of_the_last_scrape() {
    let value = |signal| samples().value(signal, 0, Span::from_secs(60.0));
    assert_eq!(value(Signal::Waiting), Some(10.0));
    assert_eq!(value(Signal::WaitingPerInstance), Some(5.0));
    assert_eq!(value(Signal::KvUtilization), None);
}

#[test]
fn gauges_have_a_mean_and_extremes_over_a_window() {
    let mut samples = samples();
    let last = Sample { held: 9, ..sample(120.0, 50, &[]) };
    samples.push(last);
    let over = |s, how| samples.over(Signal::Waiting, 0, Span::from_secs(s), how);
    assert_eq!(over(0.0, Aggregate::Mean), Some(15.0), "the last one at least");
    assert_eq!(over(30.0, Aggregate::Mean), Some(15.0));
    assert_eq!(over(60.0, Aggregate::Mean), Some(12.5));
    assert_eq!(over(60.0, Aggregate::Max), Some(15.0));
    assert_eq!(over(60.0, Aggregate::Min), Some(10.0));
    let rate = samples.over(Signal::ArrivalRate, 0, Span::from_secs(60.0), Aggregate::Mean);
    assert_eq!(rate, Some(10.0 / 60.0), "what is no gauge has its own window");
    assert_eq!(samples.arrivals(Span::from_secs(60.0)), Some(10));
    assert_eq!(Samples::default().over(Signal::Waiting, 0, Span::ZERO, Aggregate::Mean), None);
}

#[test]
fn rates_are_of_the_window_and_a_longer_one_begins_where_it_can() {
    let rate = |s| samples().value(Signal::ArrivalRate, 0, Span::from_secs(s));
    assert_eq!(rate(30.0), Some(10.0 / 30.0));
    assert_eq!(rate(60.0), Some(40.0 / 60.0));
    assert_eq!(rate(600.0), Some(40.0 / 60.0), "older scrapes are gone");
    let busy = samples().value(Signal::BusyFraction, 0, Span::from_secs(60.0));
    assert_eq!(busy, Some(40.0 / 120.0));
}

#[test]
fn traffic_is_what_came_and_what_was_answered_in_the_window() {
    let traffic = samples().traffic(Span::from_secs(60.0)).expect("it was scraped");
    let expected = Traffic { requests: 40, seconds: 60.0, prompt_mean: 200.0, answer_mean: 100.0 };
    assert_eq!(traffic, expected);
    assert_eq!(Samples::default().traffic(Span::ZERO), None);
}

#[test]
fn lengths_are_means_over_what_was_answered_in_the_window() {
    let value = |signal, s| samples().value(signal, 0, Span::from_secs(s));
    assert_eq!(value(Signal::PromptTokensMean, 30.0), Some(25.0), "50 over 2");
    assert_eq!(value(Signal::PromptTokensMean, 60.0), Some(22.5), "50 and 40 over 4");
    assert_eq!(value(Signal::OutputTokensMean, 60.0), Some(3.0));
    let idle = Sample { answered: Answered::default(), ..sample(120.0, 50, &[]) };
    let mut samples = samples();
    samples.push(idle);
    let mean = samples.value(Signal::PromptTokensMean, 0, Span::from_secs(30.0));
    assert_eq!(mean, None, "nobody was answered");
}

fn pod(place: u32, launched: u64, waiting: u64, kv_used: u64) -> InstanceSample {
    let launched = SimTime::from_us(launched);
    let ready_since = Some(launched);
    let busy_ps = u128::from(kv_used) * 1_000_000_000_000;
    let (pool, kv_total) = (0, 100);
    InstanceSample { pool, place, launched, ready_since, waiting, kv_used, kv_total, busy_ps }
}

#[test]
fn a_pod_shows_its_peak_and_not_that_of_the_one_before_in_its_place() {
    let mut samples = Samples::new(Span::from_secs(60.0), Vec::new());
    for (at, instances) in [
        (0.0, vec![pod(0, 0, 9, 90), pod(1, 0, 9, 90)]),
        (30.0, vec![pod(0, 0, 2, 40), pod(1, 0, 7, 80)]),
        (
            60.0,
            vec![
                pod(0, 0, 0, 50),
                pod(1, 7, 1, 10),
                InstanceSample { place: 2, ..InstanceSample::default() },
            ],
        ),
    ] {
        samples.push(Sample { at: SimTime::from_secs(at), instances, ..Sample::default() });
    }
    let peaks = samples.peaks(0, Span::from_secs(60.0));
    let peak = |waiting, kv_used| Peak { waiting, kv_used, kv_total: 100 };
    assert_eq!(peaks, [peak(2, 50), peak(1, 10)], "who starts shows nothing");
    assert_eq!(samples.peaks(1, Span::from_secs(60.0)), []);
    let last = samples.last().expect("one").instances.clone();
    let busy = |pod| samples.busy_of(pod, Span::from_secs(30.0));
    assert_eq!(busy(&last[0]), 10.0 / 30.0);
    assert_eq!(busy(&last[1]), 0.0);
}

#[test]
fn quantiles_are_of_what_was_seen_in_the_window() {
    let p50 = |s| samples().value(Signal::Ttft(50), 0, Span::from_secs(s)).unwrap_or(0.0);
    assert!((p50(30.0) - 100.0).abs() < 1.0);
    assert!((p50(60.0) - 200.0).abs() < 2.0);
    assert_eq!(Samples::default().value(Signal::Ttft(50), 0, Span::ZERO), None);
}
