//! The queueing model of WVA (inferno): what an instance carries within its targets.
//!
//! A batch of `n` takes `alpha + beta * n` per token and `gamma + delta * prompt * n` for the
//! prompts, so that it serves `n` requests in the sum over all tokens: an M/M/1/K queue whose rate
//! depends on its state up to the largest batch. Times are in milliseconds, rates per millisecond
//! unless they say otherwise.

/// How far from its ends the range of rates is searched, as a share of the rate there.
const EPSILON: f64 = 0.001;
/// Halvings of that range: as fine as the numbers are.
const HALVINGS: u32 = 50;
/// Weights of states are scaled down above this.
const WEIGHT_MAX: f64 = 1e200;

/// How long requests take in a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Of a token, without the others in the batch.
    pub alpha_ms: f64,
    /// Of a token, for each request in the batch.
    pub beta_ms: f64,
    /// Of a prompt, without its tokens.
    pub gamma_ms: f64,
    /// Of a prompt, for each of its tokens and each request in the batch.
    pub delta_ms: f64,
}

/// Mean tokens of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths {
    pub prompt: f64,
    pub output: f64,
}

/// What was promised on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Targets {
    pub ttft_ms: f64,
    pub itl_ms: f64,
}

/// What limits the requests in the batch and in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub batch: u32,
    pub queue: u32,
}

impl Service {
    /// What a perfect calibration finds for steps of `base + prefill * prompt tokens + decode *
    /// answer tokens` microseconds: in the long run each request in the batch brings, with each
    /// token of its answer, a share of its prompt.
    pub fn of_steps([base, prefill, decode]: [f64; 3], prompt: f64, output: f64) -> Self {
        let beta_ms = (decode + prefill * prompt / output.max(1.0)) / 1000.0;
        Self {
            alpha_ms: base / 1000.0,
            beta_ms,
            gamma_ms: (base + prefill * prompt) / 1000.0,
            delta_ms: beta_ms / prompt.max(1.0),
        }
    }

    fn prefill(&self, lengths: Lengths, batch: f64) -> f64 {
        self.gamma_ms + self.delta_ms * lengths.prompt * batch
    }

    fn token(&self, batch: f64) -> f64 {
        self.alpha_ms + self.beta_ms * batch
    }

    /// Requests per millisecond of a batch of `batch`.
    fn rate(&self, lengths: Lengths, batch: f64) -> f64 {
        let decodes = (lengths.output - 1.0).max(0.0);
        batch / (self.prefill(lengths, batch) + decodes * self.token(batch))
    }

    /// The batch in which a request takes `service_ms` from its first step to its last.
    fn batch_of(&self, lengths: Lengths, service_ms: f64, most: f64) -> f64 {
        let decodes = (lengths.output - 1.0).max(0.0);
        let alone = self.gamma_ms + self.alpha_ms * decodes;
        let each = self.delta_ms * lengths.prompt + self.beta_ms * decodes;
        let batch = (service_ms - alone) / each;
        if batch.is_nan() { 0.0 } else { batch.clamp(0.0, most) }
    }
}

/// The queue in equilibrium.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Equilibrium {
    /// Requests served per millisecond.
    throughput: f64,
    /// Time in the queue.
    wait_ms: f64,
    /// Time in the batch.
    service_ms: f64,
}

/// The queue where `rates` are those of batches from one on, `queue` more may wait, and `arrivals`
/// come per millisecond, fewer than the largest batch serves.
fn equilibrium(rates: &[f64], queue: u32, arrivals: f64) -> Equilibrium {
    let (mut weight, mut sum, mut served) = (1.0_f64, 1.0_f64, 0.0_f64);
    for (batch, rate) in (1..).zip(rates) {
        weight *= arrivals / rate;
        sum += weight;
        served += f64::from(batch) * weight;
        if weight > WEIGHT_MAX {
            (weight, sum, served) = (weight / WEIGHT_MAX, sum / WEIGHT_MAX, served / WEIGHT_MAX);
        }
    }
    // With a full batch each waiting request is `ratio` times as likely as one fewer.
    let (batch, ratio) = (rates.len() as f64, arrivals / rates[rates.len() - 1]);
    let (room, spare, last) = (f64::from(queue), 1.0 - ratio, ratio.powf(f64::from(queue)));
    let full = weight * ratio * (1.0 - last) / spare;
    let waiting =
        weight * ratio * (1.0 - (room + 1.0) * last + room * last * ratio) / (spare * spare);
    let last = weight * last;
    sum += full;
    served += batch * full;
    let throughput = arrivals * (1.0 - last / sum);
    Equilibrium {
        throughput,
        wait_ms: waiting / sum / throughput,
        service_ms: served / sum / throughput,
    }
}

/// The most requests per second that an instance serves within the targets; `None` where it does
/// not keep them for a single one.
pub(super) fn rate_within(
    service: &Service,
    lengths: Lengths,
    room: Room,
    targets: Targets,
) -> Option<f64> {
    let rates: Vec<f64> =
        (1..=room.batch).map(|batch| service.rate(lengths, f64::from(batch))).collect();
    let (low, high) = (rates[0] * EPSILON, rates[rates.len() - 1] * (1.0 - EPSILON));
    let most = f64::from(room.batch);
    let keeps = |arrivals: f64| {
        let Equilibrium { wait_ms, service_ms, .. } = equilibrium(&rates, room.queue, arrivals);
        let batch = service.batch_of(lengths, service_ms, most);
        wait_ms + service.prefill(lengths, batch) <= targets.ttft_ms
            && service.token(batch) <= targets.itl_ms
    };
    if !keeps(low) {
        return None;
    }
    let (mut low, mut high) = (low, high);
    if keeps(high) {
        low = high;
    } else {
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if keeps(middle) { low = middle } else { high = middle }
        }
    }
    Some(equilibrium(&rates, room.queue, low).throughput * 1000.0)
}

/// A kind of instance that could carry the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Requests per second within the targets; `None`: it cannot keep them.
    pub rate: Option<f64>,
    /// US dollars per hour of an instance.
    pub cost: f64,
    /// Those there should be now.
    pub current: u32,
    /// Bounds of their number.
    pub min: u32,
    /// See `min`.
    pub max: u32,
}

impl Candidate {
    fn needed(&self, arrivals_s: f64) -> Option<u32> {
        let needed = (arrivals_s / self.rate?).ceil().min(f64::from(u32::MAX));
        Some((needed as u32).max(self.min))
    }
}

/// Instances of each kind for `arrivals_s` requests per second: one kind carries all, the others
/// keep their least. It is the one whose allocation is worth least, which is its cost beyond the
/// present one's, and a share `penalty` of both where the kind changes; one that may not have
/// enough is passed over, and where none may, the best has as many as it may. `None` where no kind
/// keeps the targets.
pub(super) fn allocate(
    candidates: &[Candidate],
    arrivals_s: f64,
    penalty: f64,
) -> Option<Vec<u32>> {
    let least = || candidates.iter().map(|candidate| candidate.min).collect::<Vec<u32>>();
    if arrivals_s <= 0.0 {
        return Some(least());
    }
    let most_now = |(at, candidate): &(usize, &Candidate)| (candidate.current, usize::MAX - at);
    let (here, present) = candidates.iter().enumerate().max_by_key(most_now)?;
    let cost_now = f64::from(present.current) * present.cost;
    let mut allocations: Vec<(f64, usize, u32)> = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let Some(needed) = candidate.needed(arrivals_s) else { continue };
        let cost = f64::from(needed) * candidate.cost;
        let change = if at == here { 0.0 } else { penalty * (cost_now + cost) };
        allocations.push((cost - cost_now + change, at, needed));
    }
    allocations.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let fits = |&&(_, at, needed): &&(f64, usize, u32)| needed <= candidates[at].max;
    let may = |&&(_, at, _): &&(f64, usize, u32)| candidates[at].max > 0;
    let &(_, at, needed) =
        allocations.iter().find(fits).or_else(|| allocations.iter().find(may))?;
    let mut numbers = least();
    numbers[at] = needed.min(candidates[at].max);
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} {expected}");
    }

    #[test]
    fn a_batch_of_one_is_an_m_m_1_k_queue() {
        // K = 11 and half the rate: 1 - 12 / 4095 in the system.
        let queue = equilibrium(&[1.0], 10, 0.5);
        let lost = 1.0 / 4095.0;
        near(queue.throughput, 0.5 * (1.0 - lost));
        near(queue.service_ms, 1.0);
        near(queue.wait_ms, (1.0 - 12.0 / 4095.0) / queue.throughput - 1.0);
    }

    #[test]
    fn the_rate_follows_the_batch() {
        // Weights 1, 1, 2/3 and 4/9.
        let none_waits = equilibrium(&[1.0, 1.5], 0, 1.0);
        near(none_waits.throughput, 0.75);
        near(none_waits.service_ms, 7.0 / 6.0);
        near(none_waits.wait_ms, 0.0);
        let one_waits = equilibrium(&[1.0, 1.5], 1, 1.0);
        near(one_waits.throughput, 24.0 / 28.0);
        near(one_waits.service_ms, 29.0 / 24.0);
        near(one_waits.wait_ms, 1.0 / 6.0);
    }

    #[test]
    fn weights_of_large_batches_do_not_overflow() {
        let rates: Vec<f64> = (1..=4096).map(|batch| f64::from(batch) / 100.0).collect();
        let queue = equilibrium(&rates, 40_960, 40.0);
        assert!((queue.service_ms - 100.0).abs() < 1e-6, "{queue:?}");
        assert!((queue.throughput - 40.0).abs() < 1e-6, "{queue:?}");
    }

    /// 20 ms and 0.5 ms per request of the batch for a token; 10 ms and 0.1 ms per token of a
    /// prompt and request of the batch.
    const SERVICE: Service =
        Service { alpha_ms: 20.0, beta_ms: 0.5, gamma_ms: 10.0, delta_ms: 0.1 };
    const LENGTHS: Lengths = Lengths { prompt: 100.0, output: 51.0 };

    #[test]
    fn a_request_takes_its_prompt_and_all_tokens_but_the_first() {
        // 10 + 0.1 * 100 * 4 for the prompt and 50 tokens of 22 ms.
        near(SERVICE.rate(LENGTHS, 4.0), 4.0 / 1150.0);
        near(SERVICE.batch_of(LENGTHS, 1150.0, 8.0), 4.0);
        near(SERVICE.batch_of(LENGTHS, 9999.0, 8.0), 8.0);
        near(SERVICE.batch_of(LENGTHS, 1.0, 8.0), 0.0);
    }

    #[test]
    fn a_calibration_finds_the_steps_of_the_pool() {
        let service = Service::of_steps([7000.0, 20.0, 3.0], 500.0, 250.0);
        near(service.alpha_ms, 7.0);
        near(service.beta_ms, 0.043);
        near(service.gamma_ms, 17.0);
        near(service.delta_ms * 500.0, 0.043);
    }

    fn within(ttft_ms: f64, itl_ms: f64) -> Option<f64> {
        rate_within(&SERVICE, LENGTHS, Room { batch: 8, queue: 80 }, Targets { ttft_ms, itl_ms })
    }

    #[test]
    fn the_rate_is_the_highest_that_keeps_both_targets() {
        // A full batch of 8 serves 8 requests in 90 + 50 * 24 ms, but one in 90 is turned away.
        let most = within(1e9, 1e9).expect("any rate does");
        assert_eq!(within(1e9, 24.0), Some(most), "a batch of 8 keeps 24 ms");
        assert_eq!(within(1e9, 20.0), None, "20.5 ms is the least");
        assert_eq!(within(10.0, 1e9), None, "a prompt takes 20 ms");
        let (by_itl, by_ttft) = (within(1e9, 22.0), within(60.0, 1e9));
        let (by_itl, by_ttft) = (by_itl.expect("a batch of 4"), by_ttft.expect("of at most 5"));
        assert!(by_itl < most && by_ttft < most, "{by_itl} {by_ttft} {most}");
        assert_eq!(within(60.0, 22.0), Some(by_itl.min(by_ttft)));
        // As all 89 states one by one have it.
        assert!((by_itl - 2.624_732_122_6).abs() < 1e-9, "{by_itl}");
        assert!((by_ttft - 2.801_758_201_2).abs() < 1e-9, "{by_ttft}");
        assert!((most - 6.125_077_660_1).abs() < 1e-9, "{most}");
    }

    fn candidate(rate: f64, cost: f64, current: u32, max: u32) -> Candidate {
        Candidate { rate: Some(rate), cost, current, min: 0, max }
    }

    #[test]
    fn instances_are_the_load_over_the_rate_rounded_up() {
        let one = [candidate(8.0, 1.0, 1, 100)];
        for (arrivals, expected) in [(0.0, 0), (1.0, 1), (8.0, 1), (8.1, 2), (80.0, 10)] {
            assert_eq!(allocate(&one, arrivals, 0.1), Some(vec![expected]), "{arrivals}");
        }
        let least = [Candidate { min: 2, ..one[0] }];
        assert_eq!(allocate(&least, 1.0, 0.1), Some(vec![2]));
        assert_eq!(allocate(&[Candidate { rate: None, ..one[0] }], 1.0, 0.1), None);
    }

    #[test]
    fn the_cheapest_kind_carries_the_load_and_one_that_may_not_have_enough_does_not() {
        // 10 at 1 $/h, 4 at 2 $/h, 3 at 5 $/h.
        let kinds = |most: u32| {
            [candidate(4.0, 1.0, 0, 99), candidate(10.0, 2.0, 0, most), candidate(15.0, 5.0, 0, 99)]
        };
        assert_eq!(allocate(&kinds(4), 40.0, 0.0), Some(vec![0, 4, 0]));
        assert_eq!(allocate(&kinds(3), 40.0, 0.0), Some(vec![10, 0, 0]));
        let few = kinds(3).map(|kind| Candidate { max: 2, ..kind });
        assert_eq!(allocate(&few, 40.0, 0.0), Some(vec![0, 2, 0]), "as many as may be");
    }

    #[test]
    fn a_change_of_kind_must_be_worth_its_penalty() {
        // 10 at 1 $/h are there; 4 at 2.2 $/h cost 8.8.
        let kinds = [candidate(4.0, 1.0, 10, 99), candidate(10.0, 2.2, 0, 99)];
        assert_eq!(allocate(&kinds, 40.0, 0.05), Some(vec![0, 4]), "1.2 less 0.94");
        assert_eq!(allocate(&kinds, 40.0, 0.1), Some(vec![10, 0]), "1.2 less 1.88");
    }

    proptest! {
        #[test]
        fn looser_targets_never_lower_the_rate(
            ttft_ms in 15.0..3000.0_f64, itl_ms in 20.6..40.0_f64, more in 1.0..2.0_f64,
        ) {
            let (strict, loose) = (within(ttft_ms, itl_ms), within(ttft_ms * more, itl_ms * more));
            prop_assert!(strict.unwrap_or(0.0) <= loose.unwrap_or(0.0) * (1.0 + 1e-9));
        }
    }
}
