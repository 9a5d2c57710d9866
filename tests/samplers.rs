//! Samplers and generated traces against the distributions they promise, at fixed seeds.
//!
//! Kolmogorov-Smirnov statistics are held against `1.949 / sqrt(n)` and chi-square statistics
//! against the table, both at a level of 0.1 %.

use blis_opt::base::{Rng, SimTime, Span, Stream};
use blis_opt::workload::{
    Arrivals, Clamp, ClientSpec, Empirical, Lengths, Limits, Prompt, RateMode, Trace, Window,
    WorkloadSpec, generate,
};

const DRAWS: usize = 100_000;

fn rng(seed: u64) -> Rng {
    Rng::new(seed, Stream::Resampling, 0)
}

fn assert_follows(what: &str, mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = values.iter().enumerate().fold(0.0_f64, |worst, (i, &value)| {
        let p = cdf(value);
        worst.max(p - i as f64 / n).max((i as f64 + 1.0) / n - p)
    });
    let critical = 1.949 / n.sqrt();
    assert!(distance < critical, "{what}: distance {distance:.5}, critical {critical:.5}");
}

fn assert_counts(what: &str, counts: &[u64], expected: &[f64], critical: f64) {
    let statistic: f64 =
        counts.iter().zip(expected).map(|(&count, e)| (count as f64 - e).powi(2) / e).sum();
    assert!(statistic < critical, "{what}: chi-square {statistic:.2}, critical {critical}");
}

/// The error function, to 1.2e-7 (Numerical Recipes' rational Chebyshev fit).
fn erf(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let sum = FIT.iter().fold(0.0, |sum, coefficient| sum * t + coefficient);
    let tail = t * (-x * x + sum).exp();
    if x >= 0.0 { 1.0 - tail } else { tail - 1.0 }
}

fn normal_cdf(z: f64) -> f64 {
    0.5 * (1.0 + erf(z / std::f64::consts::SQRT_2))
}

fn exponential_cdf(x: f64) -> f64 {
    -(-x).exp_m1()
}

fn mean_and_cv(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance.sqrt() / mean)
}

/// One client at one arrival per second.
fn one_client(arrivals: Arrivals) -> WorkloadSpec {
    WorkloadSpec::rate_mode(RateMode { arrivals, ..RateMode::default() })
}

fn requests(n: usize) -> Limits {
    Limits { max_requests: Some(n as u64), ..Limits::default() }
}

/// Gaps in seconds.
fn gaps(arrivals: Arrivals, seed: u64) -> Vec<f64> {
    let trace = generate(&one_client(arrivals), seed, requests(DRAWS));
    let mut last = SimTime::ZERO;
    let gap = |&arrival: &SimTime| {
        let gap = (arrival - last).as_secs();
        last = arrival;
        gap
    };
    trace.arrival.iter().map(gap).collect()
}

fn lengths_of(lengths: &Lengths, seed: u64) -> Vec<u32> {
    let mut rng = rng(seed);
    (0..DRAWS).map(|_| lengths.tokens(&mut rng)).collect()
}

#[test]
fn normal_draws_are_normal() {
    let mut stream = rng(11);
    let draws: Vec<f64> = (0..DRAWS).map(|_| stream.normal()).collect();
    assert_follows("normal", draws.clone(), normal_cdf);
    let tail = draws.iter().filter(|z| z.abs() > 3.0).count() as f64;
    let expected = DRAWS as f64 * 0.002_699_796;
    assert!((tail - expected).abs() < 4.0 * expected.sqrt(), "{tail} beyond 3 sigma");
}

#[test]
fn the_tails_of_the_ziggurat_are_right() {
    let mut stream = rng(12);
    let far = (0..2_000_000).filter(|_| stream.normal().abs() > 3.7).count() as f64;
    let expected = 2e6 * 2.156e-4;
    assert!((far - expected).abs() < 4.0 * expected.sqrt(), "{far} normals, {expected} expected");
    let far = (0..2_000_000).filter(|_| stream.exponential() > 8.0).count() as f64;
    let expected = 2e6 * (-8.0_f64).exp();
    assert!((far - expected).abs() < 4.0 * expected.sqrt(), "{far} beyond 8, {expected} expected");
}

#[test]
fn exponential_draws_are_exponential() {
    let mut stream = rng(13);
    let draws = (0..DRAWS).map(|_| stream.exponential()).collect();
    assert_follows("exponential", draws, exponential_cdf);
}

#[test]
fn successive_draws_are_not_correlated() {
    let mut stream = rng(14);
    let mut last = stream.normal();
    let mut sum = 0.0;
    for _ in 0..DRAWS {
        let next = stream.normal();
        sum += last * next;
        last = next;
    }
    let correlation = sum / DRAWS as f64;
    assert!(correlation.abs() < 4.0 / (DRAWS as f64).sqrt(), "{correlation}");
}

#[test]
fn poisson_gaps_are_exponential() {
    assert_follows("poisson", gaps(Arrivals::Poisson, 1), exponential_cdf);
}

#[test]
fn gamma_gaps_follow_the_gamma_distribution() {
    // Shape 4: an Erlang distribution. Shape 1/2: a chi-square with one degree of freedom.
    let erlang = |t: f64| {
        let x = 4.0 * t;
        1.0 - (-x).exp() * (1.0 + x + x * x / 2.0 + x * x * x / 6.0)
    };
    assert_follows("gamma, cv 1/2", gaps(Arrivals::Gamma { cv: 0.5 }, 2), erlang);
    let chi_square = |t: f64| erf((t / 2.0).sqrt());
    let bursty = Arrivals::Gamma { cv: std::f64::consts::SQRT_2 };
    assert_follows("gamma, cv 1.41", gaps(bursty, 3), chi_square);
}

#[test]
fn weibull_gaps_follow_the_weibull_distribution() {
    // With shape 2 (Rayleigh) the mean is sqrt(pi)/2 scales, and cv = sqrt(4/pi - 1).
    let cv = (4.0 / std::f64::consts::PI - 1.0).sqrt();
    let rayleigh = |t: f64| exponential_cdf(std::f64::consts::PI / 4.0 * t * t);
    assert_follows("weibull", gaps(Arrivals::Weibull { cv }, 4), rayleigh);
    let measured = Arrivals::WeibullGaps { shape: 2.0, scale_us: 3e6 };
    assert_follows("shape and scale", gaps(measured, 5), |t| exponential_cdf(t * t / 9.0));
}

#[test]
fn gamma_and_weibull_gaps_keep_mean_and_variation() {
    for (arrivals, cv) in [
        (Arrivals::Gamma { cv: 0.2 }, 0.2),
        (Arrivals::Gamma { cv: 2.0 }, 2.0),
        (Arrivals::Gamma { cv: 3.5 }, 3.5),
        (Arrivals::Weibull { cv: 0.2 }, 0.2),
        (Arrivals::Weibull { cv: 1.5 }, 1.5),
        (Arrivals::GammaGaps { shape: 0.25, scale_us: 4e6 }, 2.0),
    ] {
        let (mean, seen) = mean_and_cv(&gaps(arrivals.clone(), 6));
        let sigma = cv / (DRAWS as f64).sqrt();
        assert!((mean - 1.0).abs() < 4.0 * sigma, "{arrivals:?}: mean {mean}");
        assert!((seen / cv - 1.0).abs() < 0.05, "{arrivals:?}: cv {seen}");
    }
}

#[test]
fn gaussian_lengths_are_normal_inside_and_gather_at_the_bounds() {
    let lengths = lengths_of(&Lengths::gaussian(100.0, 20.0, 70.0, 130.0), 21);
    let mut counts = vec![0; 14];
    for &length in &lengths {
        counts[match length {
            70 => 0,
            130 => 13,
            length => 1 + (length as usize - 71) / 5,
        }] += 1;
    }
    let below = |tokens: f64| normal_cdf((tokens - 0.5 - 100.0) / 20.0);
    let mut expected = vec![below(71.0)];
    expected.extend((0..12).map(|bin| {
        let low = 71.0 + 5.0 * f64::from(bin);
        below((low + 5.0).min(130.0)) - below(low)
    }));
    expected.push(1.0 - below(130.0));
    let expected: Vec<f64> = expected.iter().map(|p| p * DRAWS as f64).collect();
    // 13 degrees of freedom.
    assert_counts("clamped gaussian", &counts, &expected, 34.53);
}

#[test]
fn exponential_lengths_round_and_start_at_one() {
    let lengths = lengths_of(&Lengths::Exponential { mean: 5.0, clamp: Clamp::NONE }, 22);
    let mut counts = vec![0; 16];
    for &length in &lengths {
        counts[(length as usize - 1).min(15)] += 1;
    }
    let above = |tokens: f64| (-(tokens - 0.5) / 5.0).exp();
    let mut expected = vec![1.0 - above(2.0)];
    expected.extend((2..16).map(|n| above(f64::from(n)) - above(f64::from(n) + 1.0)));
    expected.push(above(16.0));
    let expected: Vec<f64> = expected.iter().map(|p| p * DRAWS as f64).collect();
    // 15 degrees of freedom.
    assert_counts("exponential lengths", &counts, &expected, 37.70);
}

#[test]
fn exponential_lengths_keep_their_bounds() {
    let clamp = Clamp::new(10.0, 200.0);
    let lengths = lengths_of(&Lengths::Exponential { mean: 100.0, clamp }, 23);
    assert_eq!(lengths.iter().min(), Some(&10));
    assert_eq!(lengths.iter().max(), Some(&200));
}

#[test]
fn lognormal_lengths_have_normal_logarithms() {
    let lognormal = Lengths::LogNormal { mu: 9.0, sigma: 0.7, clamp: Clamp::NONE };
    let logs = lengths_of(&lognormal, 24).iter().map(|&n| f64::from(n).ln()).collect();
    assert_follows("lognormal", logs, |log| normal_cdf((log - 9.0) / 0.7));
}

#[test]
fn pareto_lognormal_lengths_are_the_mixture() {
    let lengths =
        Lengths::ParetoLogNormal { alpha: 1.5, xm: 20_000.0, mu: 9.0, sigma: 0.5, mix_weight: 0.3 };
    let values = lengths_of(&lengths, 25).iter().map(|&n| f64::from(n)).collect();
    let cdf = |x: f64| {
        let pareto = if x < 20_000.0 { 0.0 } else { 1.0 - (20_000.0 / x).powf(1.5) };
        0.3 * pareto + 0.7 * normal_cdf((x.ln() - 9.0) / 0.5)
    };
    assert_follows("pareto_lognormal", values, cdf);
}

#[test]
fn empirical_lengths_come_as_often_as_they_weigh() {
    let table = Empirical::new(vec![(300.0, 1.0), (10.0, 5.0), (70.0, 2.0), (5000.0, 2.0)]);
    let lengths = lengths_of(&Lengths::Empirical(table.expect("a table")), 26);
    let count = |wanted| lengths.iter().filter(|&&length| length == wanted).count() as u64;
    let counts = [count(10), count(70), count(300), count(5000)];
    let expected = [0.5, 0.2, 0.1, 0.2].map(|p| p * DRAWS as f64);
    // 3 degrees of freedom.
    assert_counts("empirical", &counts, &expected, 16.27);
}

fn window(start_s: f64, end_s: f64, rate: f64) -> Window {
    Window { rate, ..Window::new(Span::from_secs(start_s), Span::from_secs(end_s)) }
}

fn count_between(trace: &Trace, start_s: f64, end_s: f64) -> f64 {
    let (start, end) = (SimTime::from_secs(start_s), SimTime::from_secs(end_s));
    trace.arrival.iter().filter(|&&arrival| start <= arrival && arrival < end).count() as f64
}

#[test]
fn rates_are_within_four_sigma_of_the_promise() {
    let mut spec = one_client(Arrivals::Poisson);
    spec.aggregate_rate = 400.0;
    let share = |name: &str, rate_fraction: f64| ClientSpec {
        name: name.to_owned(),
        rate_fraction,
        ..spec.clients[0].clone()
    };
    spec.clients = vec![share("a", 3.0), share("b", 1.0)];
    let limits = Limits { duration: Some(Span::from_secs(250.0)), ..Limits::default() };
    let trace = generate(&spec, 31, limits);
    for (client, rate) in [(0, 300.0), (1, 100.0)] {
        let seen = trace.client.iter().filter(|id| id.index() == client).count() as f64;
        // A gap is truncated by half a microsecond on average.
        let expected = 250.0 * rate;
        assert!((seen - expected).abs() < 4.0 * expected.sqrt(), "client {client}: {seen}");
    }
    assert!((spec.offered_rate() / 400.0 - 1.0).abs() < 1e-3);
    assert_eq!(trace.end, SimTime::from_secs(250.0));
}

#[test]
fn windows_are_respected_and_have_their_own_rates() {
    let mut spec = one_client(Arrivals::Poisson);
    spec.aggregate_rate = 1000.0;
    spec.clients[0].windows =
        vec![window(5.0, 15.0, 1.0), window(20.0, 30.0, 0.25), window(30.0, 35.0, 3.0)];
    let trace = generate(&spec, 32, Limits::default());
    for (start, end, expected) in [(5.0, 15.0, 1e4), (20.0, 30.0, 2500.0), (30.0, 35.0, 15e3)] {
        let seen = count_between(&trace, start, end);
        assert!((seen - expected).abs() < 4.0 * f64::sqrt(expected), "{start} s: {seen}");
    }
    let inside = [(5.0, 15.0), (20.0, 30.0), (30.0, 35.0)];
    let inside: f64 = inside.iter().map(|&(start, end)| count_between(&trace, start, end)).sum();
    assert_eq!(inside as usize, trace.len());
    assert_eq!(trace.end, SimTime::from_secs(35.0));
    assert!((spec.offered_rate() / 3000.0 - 1.0).abs() < 1e-2);
}

#[test]
fn gaps_reach_over_the_pause_between_windows() {
    let mut spec = one_client(Arrivals::Constant { from_zero: false });
    spec.clients[0].windows = vec![window(0.0, 2.5, 1.0), window(10.0, 12.0, 1.0)];
    let trace = generate(&spec, 33, Limits::default());
    let arrivals: Vec<f64> = trace.arrival.iter().map(|arrival| arrival.as_secs()).collect();
    assert_eq!(arrivals, [1.0, 2.0, 10.5, 11.5]);
}

#[test]
fn offered_lengths_are_the_mean_of_a_trace() {
    let mut spec = one_client(Arrivals::Poisson);
    let mean =
        |column: &[u32]| column.iter().map(|&n| f64::from(n)).sum::<f64>() / column.len() as f64;
    let parts = Prompt::Text(Lengths::Exponential { mean: 300.0, clamp: Clamp::NONE });
    spec.clients.push(ClientSpec { prompt: parts, rate_fraction: 0.5, ..spec.clients[0].clone() });
    let trace = generate(&spec, 34, requests(DRAWS));
    let offered = spec.offered();
    assert!((offered.input_tokens_mean / mean(&trace.input) - 1.0).abs() < 0.01);
    assert!((offered.output_tokens_mean / mean(&trace.output) - 1.0).abs() < 0.01);
}
