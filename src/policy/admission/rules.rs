//! What admission sees, and what each rule says.

use super::{Admission, Detector};
use crate::base::{Rng, SimTime, Stream};
use crate::policy::load::Load;
use crate::policy::view::RequestView;

/// An attempt as the gateway sees it.
#[derive(Clone, Copy, Debug)]
pub struct GateRequest {
    /// What routers see of it.
    pub view: RequestView,
    /// That of its class; sheddable below 0.
    pub priority: i32,
    /// Attempts before it.
    pub attempt: u8,
}

/// An instance as the gateway last saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// When that was; NEVER before.
    pub seen: SimTime,
    /// Requests in the wait queue or on the way there.
    pub waiting: u32,
    /// Requests in the batch.
    pub running: u32,
    /// Share of KV blocks in use.
    pub kv: f64,
    /// Prompt tokens of all these; only where somebody asks for them.
    pub prompt_tokens: u64,
}

impl Gauge {
    /// An instance that was not seen yet.
    pub const UNSEEN: Self =
        Self { seen: SimTime::NEVER, waiting: 0, running: 0, kv: 0.0, prompt_tokens: 0 };
}

/// The fleet as the gateway sees it.
#[derive(Clone, Copy, Debug)]
pub struct GateView<'a> {
    /// By instance, as old as the bundle allows; only where a rule needs them.
    pub gauges: &'a [Gauge],
    /// Requests waiting, in the batch or on the way, by instance; always live.
    pub load: &'a Load,
    /// Which instances are in rotation; `None`: all.
    pub open: Option<&'a [bool]>,
    /// Requests in the queue of the gateway, or held for want of an instance.
    pub queued: u32,
    /// Requests dispatched and not with an instance yet.
    pub dispatched: u32,
}

impl GateView<'_> {
    /// The instances in rotation.
    pub fn in_rotation(&self) -> impl Iterator<Item = usize> {
        (0..self.load.len()).filter(|&at| self.open.is_none_or(|open| open[at]))
    }

    /// Requests that wait at the gateway, and on instances as last seen.
    pub fn waiting(&self) -> u64 {
        let there = self.in_rotation().map(|at| u64::from(self.gauges[at].waiting));
        u64::from(self.queued) + there.sum::<u64>()
    }
}

/// Decides whether a request is let in.
/// Must depend only on its arguments and its own state.
pub trait AdmissionPolicy {
    /// Whether [`GateView::gauges`] are read.
    fn needs_gauges(&self) -> bool {
        false
    }

    /// Whether `request` is let in at `now`; calls come in order of time.
    fn admit(&mut self, now: SimTime, request: &GateRequest, gate: &GateView) -> bool;
}

/// The rules of a bundle in the order in which they are asked.
#[derive(Default)]
pub struct RuleChain {
    names: Vec<&'static str>,
    rules: Vec<Box<dyn AdmissionPolicy>>,
}

impl RuleChain {
    /// The rules of `admission`; draws come from `seed`.
    pub fn new(admission: &Admission, seed: u64) -> Self {
        let rules = admission.rules();
        Self {
            names: rules.iter().map(|rule| rule.name()).collect(),
            rules: rules.iter().map(|rule| policy(rule, seed)).collect(),
        }
    }

    /// The names of the rules.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Whether [`GateView::gauges`] are read.
    pub fn needs_gauges(&self) -> bool {
        self.rules.iter().any(|rule| rule.needs_gauges())
    }

    /// The position of the first rule that refuses `request`; those behind it are not asked.
    pub fn refuses(
        &mut self,
        now: SimTime,
        request: &GateRequest,
        gate: &GateView,
    ) -> Option<usize> {
        self.rules.iter_mut().position(|rule| !rule.admit(now, request, gate))
    }
}

fn policy(rule: &Admission, seed: u64) -> Box<dyn AdmissionPolicy> {
    match *rule {
        Admission::AlwaysAdmit | Admission::Chain(_) => Box::new(Always(true)),
        Admission::RejectAll => Box::new(Always(false)),
        Admission::TokenBucket { capacity, refill_rate } => {
            Box::new(TokenBucket { capacity, refill_rate, tokens: capacity, last: SimTime::ZERO })
        }
        Admission::QueueLimit { max_waiting, per_instance } => {
            Box::new(QueueLimit { max_waiting, per_instance })
        }
        Admission::KvLimit { max_utilization } => Box::new(KvLimit(max_utilization)),
        Admission::TierShed { threshold, min_priority } => {
            Box::new(TierShed { threshold, min_priority })
        }
        Admission::Saturation { detector, limit } => Box::new(Saturation { detector, limit }),
        Admission::Probabilistic { detector, power, k } => {
            Box::new(Probabilistic { detector, power, k, seed })
        }
    }
}

struct Always(bool);

impl AdmissionPolicy for Always {
    fn admit(&mut self, _: SimTime, _: &GateRequest, _: &GateView) -> bool {
        self.0
    }
}

/// Starts full; a request costs its prompt's tokens.
struct TokenBucket {
    capacity: f64,
    refill_rate: f64,
    tokens: f64,
    last: SimTime,
}

impl AdmissionPolicy for TokenBucket {
    fn admit(&mut self, now: SimTime, request: &GateRequest, _: &GateView) -> bool {
        let elapsed_us = now.since(self.last).as_us();
        if elapsed_us > 0 {
            let refilled = self.tokens + elapsed_us as f64 * self.refill_rate / 1e6;
            self.tokens = refilled.min(self.capacity);
            self.last = now;
        }
        let cost = f64::from(request.view.input);
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }
}

struct QueueLimit {
    max_waiting: u32,
    per_instance: bool,
}

impl AdmissionPolicy for QueueLimit {
    fn needs_gauges(&self) -> bool {
        true
    }

    fn admit(&mut self, _: SimTime, _: &GateRequest, gate: &GateView) -> bool {
        let instances = if self.per_instance { gate.in_rotation().count() as u64 } else { 1 };
        gate.waiting() < u64::from(self.max_waiting) * instances
    }
}

struct KvLimit(f64);

impl AdmissionPolicy for KvLimit {
    fn needs_gauges(&self) -> bool {
        true
    }

    fn admit(&mut self, _: SimTime, _: &GateRequest, gate: &GateView) -> bool {
        let (mut sum, mut count) = (0.0, 0_u32);
        for at in gate.in_rotation() {
            sum += gate.gauges[at].kv;
            count += 1;
        }
        count == 0 || sum / f64::from(count) < self.0
    }
}

struct TierShed {
    threshold: u32,
    min_priority: i32,
}

impl AdmissionPolicy for TierShed {
    fn admit(&mut self, _: SimTime, request: &GateRequest, gate: &GateView) -> bool {
        let most = gate.in_rotation().map(|at| gate.load.count(at)).max().unwrap_or(0);
        request.priority >= self.min_priority || most <= self.threshold
    }
}

struct Saturation {
    detector: Detector,
    limit: f64,
}

impl AdmissionPolicy for Saturation {
    fn needs_gauges(&self) -> bool {
        self.detector.needs_gauges()
    }

    fn admit(&mut self, now: SimTime, request: &GateRequest, gate: &GateView) -> bool {
        request.priority >= 0 || self.detector.saturation(now, gate) < self.limit
    }
}

struct Probabilistic {
    detector: Detector,
    power: f64,
    k: f64,
    seed: u64,
}

impl AdmissionPolicy for Probabilistic {
    fn needs_gauges(&self) -> bool {
        self.detector.needs_gauges()
    }

    fn admit(&mut self, now: SimTime, request: &GateRequest, gate: &GateView) -> bool {
        if request.priority >= 0 {
            return true;
        }
        let saturation = self.detector.saturation(now, gate);
        let refusal = (saturation.powf(self.power) * self.k).min(1.0);
        // Of each attempt its own draw: no candidate shifts those of other requests.
        let index = u64::from(request.view.id) << 8 | u64::from(request.attempt);
        Rng::new(self.seed, Stream::Admission, index).uniform() >= refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ClientId;
    use crate::policy::admission::Measure;

    fn request(input: u32, priority: i32) -> GateRequest {
        let view = RequestView {
            id: 0,
            client: ClientId(0),
            class: 0,
            arrival: SimTime::ZERO,
            input,
            prompt_blocks: 0,
            chain: crate::workload::NO_CHAIN,
            chain_blocks: 0,
        };
        GateRequest { view, priority, attempt: 0 }
    }

    fn gauge(waiting: u32, kv: f64) -> Gauge {
        Gauge { seen: SimTime::ZERO, waiting, kv, ..Gauge::UNSEEN }
    }

    fn view<'a>(gauges: &'a [Gauge], load: &'a Load) -> GateView<'a> {
        GateView { gauges, load, open: None, queued: 0, dispatched: 0 }
    }

    #[test]
    fn a_bucket_refills_with_time_up_to_its_capacity() {
        let bundle = Admission::TokenBucket { capacity: 100.0, refill_rate: 10.0 };
        let mut bucket = RuleChain::new(&bundle, 0);
        let load = Load::default();
        let mut admit = |s: u64, input| {
            let now = SimTime::from_us(s * 1_000_000);
            bucket.refuses(now, &request(input, 0), &view(&[], &load)).is_none()
        };
        assert!(admit(0, 100));
        assert!(!admit(1, 11));
        assert!(admit(1, 10));
        assert!(!admit(1000, 101));
        assert!(admit(1000, 100));
    }

    #[test]
    fn saturation_is_a_mean_in_which_who_is_not_heard_of_is_full() {
        let detector = Detector::default();
        let load = Load::from(&[0, 0, 0][..]);
        let gauges = [gauge(10, 0.0), gauge(0, 0.4), Gauge::UNSEEN];
        let at = |us| detector.saturation(SimTime::from_us(us), &view(&gauges, &load));
        assert_eq!(at(200_000), (2.0 + 0.5 + 1.0) / 3.0);
        assert_eq!(at(200_001), 1.0, "a signal too old says full, an overfull one too");
        let gone = GateView { open: Some(&[false; 3]), ..view(&gauges, &load) };
        assert_eq!(detector.saturation(SimTime::ZERO, &gone), 1.0);
    }

    #[test]
    fn concurrency_counts_who_is_dispatched_and_not_there_yet() {
        let detector = Detector { measure: Measure::Requests, ..Detector::default() };
        let load = Load::from(&[40, 50][..]);
        let gate = GateView { dispatched: 10, ..view(&[], &load) };
        assert_eq!(detector.saturation(SimTime::ZERO, &gate), 0.5);
    }

    #[test]
    fn the_probabilistic_admitter_sheds_all_from_a_saturation_of_0_320_on() {
        let probabilistic = Admission::all().pop().expect("the last one");
        let load = Load::from(&[0][..]);
        let admitted = |kv: f64, priority| {
            let mut rule = RuleChain::new(&probabilistic, 7);
            let gauges = [gauge(0, kv * 0.8)];
            (0..1000)
                .filter(|&id| {
                    let mut request = request(1, priority);
                    request.view.id = id;
                    rule.refuses(SimTime::ZERO, &request, &view(&gauges, &load)).is_none()
                })
                .count()
        };
        assert_eq!((admitted(0.3196, -1), admitted(9.0, 0)), (0, 1000));
        let some = admitted(0.278_38, -1);
        assert!((450..550).contains(&some), "half of them at (0.5 / k)^(1 / power): {some}");
        assert_eq!(admitted(0.03, -1), 1000);
    }

    #[test]
    fn a_queue_limit_counts_who_waits_at_the_gateway() {
        let load = Load::from(&[0, 0][..]);
        let gauges = [gauge(3, 0.0), gauge(4, 0.0)];
        let admits = |max_waiting, per_instance, queued| {
            let limit = Admission::QueueLimit { max_waiting, per_instance };
            let gate = GateView { queued, ..view(&gauges, &load) };
            RuleChain::new(&limit, 0).refuses(SimTime::ZERO, &request(1, 0), &gate).is_none()
        };
        assert!(admits(8, false, 0) && !admits(7, false, 0) && !admits(8, false, 1));
        assert!(admits(4, true, 0) && !admits(4, true, 1));
    }

    #[test]
    fn a_rule_of_a_chain_is_only_asked_when_those_before_let_in() {
        let rules = [
            Admission::KvLimit { max_utilization: 0.5 },
            Admission::TokenBucket { capacity: 10.0, refill_rate: 1e-9 },
        ];
        let mut chain = RuleChain::new(&Admission::Chain(rules.into()), 0);
        let load = Load::from(&[0][..]);
        let mut refuses =
            |kv| chain.refuses(SimTime::ZERO, &request(10, 0), &view(&[gauge(0, kv)], &load));
        assert_eq!(refuses(0.5), Some(0));
        assert_eq!(refuses(0.4), None, "the refused one took nothing from the bucket");
        assert_eq!(refuses(0.4), Some(1));
    }
}
