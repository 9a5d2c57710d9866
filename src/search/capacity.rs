//! What one instance carries: the yardstick of a fleet that knew the future.

use super::runs::{Offer, RunLength, RunWishes, residence_s, run_length};
use crate::base::{SimTime, Span};
use crate::policy::{Admission, Batching, Gateway, PolicyBundle, Pool, Routing};
use crate::sim::{Scratch, simulate};
use crate::workload::spec::RATE_MAX;
use crate::workload::{Limits, WorkloadSpec, generate};

/// The share of requests that must be kept within the targets of their class.
pub const KEPT_SHARE: f64 = 0.99;
/// Two rates are told apart when they differ by more than this share.
const TOLERANCE: f64 = 0.01;
/// The realisations, most of which must be stable and which together must keep the promise.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Least requests that are measured under one seed: a promise to 99 of 100 needs some thousands.
const MEASURED_MIN: f64 = 4000.0;
/// An instance that cannot keep its promise while requests, one at a time, would keep it busy for
/// this share of the time cannot keep it at all.
const IDLE: f64 = 0.01;

/// The highest steady rate in requests per second that one instance of `bundle.pools[pool]`
/// carries under the promises of `workload`, to 1 %: its queue does not grow, and at least
/// [`KEPT_SHARE`] of its requests are within the targets of their class (without targets:
/// answered in full). `None` where it cannot keep them at any rate, or nobody comes.
///
/// Measured by simulation, the same for the same arguments: requests of the workload's own kinds
/// arrive as a Poisson process ([`WorkloadSpec::steady`]) and all are let in.
pub fn capacity_rps(bundle: &PolicyBundle, pool: usize, workload: &WorkloadSpec) -> Option<f64> {
    Bench::new(bundle, pool, workload)?.capacity_rps()
}

/// [`capacity_rps`] of each pool. Pools with the same hardware are measured once.
pub fn capacities(bundle: &PolicyBundle, workload: &WorkloadSpec) -> Vec<Option<f64>> {
    let mut known: Vec<Option<f64>> = Vec::new();
    let same = |a: &Pool, b: &Pool| (a.kv_blocks, a.latency) == (b.kv_blocks, b.latency);
    for (index, pool) in bundle.pools.iter().enumerate() {
        let twin = bundle.pools[..index].iter().position(|before| same(before, pool));
        known.push(match twin {
            Some(twin) => known[twin],
            None => capacity_rps(bundle, index, workload),
        });
    }
    known
}

/// One instance under a steady load.
struct Bench<'a> {
    bundle: PolicyBundle,
    workload: &'a WorkloadSpec,
    length: RunLength,
    /// A rate that fills its batch, in requests per second.
    guess: f64,
    /// A rate at which it is idle but for [`IDLE`] of the time.
    idle: f64,
    scratch: Scratch,
}

impl<'a> Bench<'a> {
    fn new(bundle: &PolicyBundle, pool: usize, workload: &'a WorkloadSpec) -> Option<Self> {
        let offered = workload.offered();
        if offered.requests_per_s_mean <= 0.0 {
            return None;
        }
        let mut alone = bundle.pools[pool].clone();
        alone.fix(1);
        // The means of its windows, which the workload as it stands does not tell.
        let offered = workload.steady(1.0, 0, Span::from_secs(1000.0)).offered();
        let offer = Offer {
            input_tokens_mean: offered.input_tokens_mean,
            output_tokens_mean: offered.output_tokens_mean,
            arrivals: None,
        };
        let mut length = run_length(&RunWishes::default(), &alone, &bundle.batching, &offer);
        length.warm_up += workload.settling();
        length.duration = length.duration.map(|duration| duration + workload.settling());
        let one_by_one = Batching { max_running: 1, ..bundle.batching };
        let [residence, service] = [&bundle.batching, &one_by_one]
            .map(|batching| residence_s(&alone, batching, &offer).max(1e-6));
        let bundle = PolicyBundle {
            pools: vec![alone],
            admission: Admission::AlwaysAdmit,
            routing: Routing::RoundRobin,
            autoscaling: None,
            gateway: Gateway::default(),
            ..bundle.clone()
        };
        let guess = f64::from(bundle.batching.max_running) / residence;
        let (idle, scratch) = (IDLE / service, Scratch::default());
        Some(Self { bundle, workload, length, guess, idle, scratch })
    }

    fn capacity_rps(mut self) -> Option<f64> {
        let (mut low, mut high) = self.bracket()?;
        while high > low * (1.0 + TOLERANCE) {
            let middle = (low * high).sqrt();
            if self.carries(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// A rate that it carries and a higher one that it does not.
    fn bracket(&mut self) -> Option<(f64, f64)> {
        let carried = self.carries(self.guess);
        let factor = if carried { 2.0 } else { 0.5 };
        let mut rate = self.guess;
        while (self.idle..RATE_MAX).contains(&rate) {
            let next = rate * factor;
            if self.carries(next) != carried {
                return Some((rate.min(next), rate.max(next)));
            }
            rate = next;
        }
        None
    }

    fn carries(&mut self, rate: f64) -> bool {
        let RunLength { warm_up, duration, .. } = self.length;
        let enough = warm_up + Span::from_secs(MEASURED_MIN / rate);
        let duration = duration.map_or(enough, |duration| duration.max(enough));
        let options = RunLength { duration: Some(duration), ..self.length }.options();
        debug_assert!(SimTime::ZERO + duration > options.warm_up);
        let (mut kept, mut injected, mut unstable) = (0, 0, 0);
        for seed in SEEDS {
            let workload = self.workload.steady(rate, seed, duration);
            let limits = Limits { duration: Some(duration), max_requests: None };
            let trace = generate(&workload, seed, limits);
            let outcome = simulate(&self.bundle, &trace, &options, &mut self.scratch);
            // Near the capacity a queue that wanders looks as if it grew in a run or another.
            unstable += usize::from(!outcome.stability.stable);
            if 2 * unstable > SEEDS.len() {
                return false;
            }
            kept += outcome.within_slo;
            injected += outcome.measured.injected;
        }
        injected > 0 && kept as f64 >= KEPT_SHARE * injected as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::simulated::tests::bundle;
    use crate::workload::{Arrivals, Lengths, RateMode, Targets};

    fn chat(ttft: Option<f64>) -> WorkloadSpec {
        let mut spec = WorkloadSpec::rate_mode(RateMode { rate: 500.0, ..RateMode::default() });
        if let Some(seconds) = ttft {
            let targets = Targets { ttft: Span::from_secs(seconds), ..Targets::NONE };
            spec.targets = vec![(WorkloadSpec::CLASS_DEFAULT.to_owned(), targets)];
        }
        spec
    }

    #[test]
    fn an_instance_of_the_tutorial_carries_41_requests_per_second() {
        let capacity = capacity_rps(&bundle(13, 3.5), 0, &chat(None)).expect("it serves");
        assert!((39.0..42.5).contains(&capacity), "{capacity}");
    }

    #[test]
    fn a_stricter_promise_costs_capacity() {
        let bundle = bundle(1, 3.5);
        let free = capacity_rps(&bundle, 0, &chat(None));
        let strict = capacity_rps(&bundle, 0, &chat(Some(0.060)));
        assert!(strict < free, "{strict:?} {free:?}");
        assert_eq!(capacity_rps(&bundle, 0, &chat(Some(0.001))), None, "no prefill is that fast");
        assert_eq!(capacity_rps(&bundle, 0, &chat(Some(0.060))), strict, "the same each time");
    }

    #[test]
    fn one_request_at_a_time_gives_the_rate_of_its_service() {
        let mut bundle = bundle(1, 3.5);
        bundle.batching.max_running = 1;
        let mode = RateMode {
            arrivals: Arrivals::Poisson,
            prompt: Lengths::Constant(100.0),
            output: Lengths::Constant(50.0),
            ..RateMode::default()
        };
        let spec = WorkloadSpec::rate_mode(mode);
        let latency = bundle.pools[0].latency;
        let service = latency.step_us(100, 0) + 49 * latency.step_us(0, 1);
        let capacity = capacity_rps(&bundle, 0, &spec).expect("it serves");
        let utilization = capacity * service as f64 / 1e6;
        assert!((0.93..1.02).contains(&utilization), "{utilization}");
    }

    #[test]
    fn pools_of_the_same_hardware_have_the_same_capacity() {
        let mut bundle = bundle(1, 3.5);
        let mut spot = bundle.pools[0].clone();
        spot.price_per_gpu_hour = 1.0;
        let mut small = spot.clone();
        small.kv_blocks = 2000;
        bundle.pools.extend([spot, small]);
        let capacities = capacities(&bundle, &chat(None));
        assert_eq!(capacities[0], capacities[1]);
        assert!(capacities[2] < capacities[0], "{capacities:?}");
    }

    #[test]
    fn where_nobody_comes_there_is_no_capacity() {
        assert_eq!(capacity_rps(&bundle(1, 3.5), 0, &WorkloadSpec::default()), None);
    }
}
