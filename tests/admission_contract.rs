//! What every rule of admission must keep: deterministic, within its own limit, blind to what
//! nobody can know, indifferent to the numbering of instances. Runs over all rules there are.

use blis_opt::base::{ClientId, Rng, SimTime, Span, Stream};
use blis_opt::policy::Admission;
use blis_opt::policy::admission::{GateRequest, GateView, Gauge, RuleChain};
use blis_opt::policy::load::Load;
use blis_opt::policy::view::RequestView;
use blis_opt::sim::{Scratch, simulate_under};
use blis_opt::workload::NO_CHAIN;

use crate::swarm::Scenario;

const CASES: u64 = 300;

/// A fleet as a gateway sees it, and who asks.
struct Moment {
    now: SimTime,
    request: GateRequest,
    gauges: Vec<Gauge>,
    load: Vec<u32>,
    open: Vec<bool>,
    queued: u32,
    dispatched: u32,
}

impl Moment {
    fn random(rng: &mut Rng, now: SimTime, instances: usize) -> Self {
        let mut below = |limit: u64| rng.below(limit) as u32;
        let gauges = (0..instances).map(|_| Gauge {
            seen: SimTime::from_us(now.as_us() - u64::from(below(now.as_us().min(300_000) + 1))),
            waiting: below(80),
            running: below(256),
            // A power of two keeps sums of shares exact in any order.
            kv: f64::from(below(129)) / 128.0,
            prompt_tokens: u64::from(below(2_000_000)),
        });
        let gauges = gauges.collect();
        let load = (0..instances).map(|_| below(150)).collect();
        let open = (0..instances).map(|_| below(4) > 0).collect();
        let view = RequestView {
            id: below(1 << 20),
            client: ClientId(0),
            class: 0,
            arrival: now,
            input: 1 + below(4000),
            prompt_blocks: 0,
            chain: NO_CHAIN,
            chain_blocks: 0,
        };
        let request = GateRequest { view, priority: below(8).cast_signed() - 3, attempt: 0 };
        Self { now, request, gauges, load, open, queued: below(40), dispatched: below(5) }
    }

    /// The same with instance `at` in the place of the one that `order` has there.
    fn relabelled(&self, order: &[usize]) -> Self {
        Self {
            gauges: order.iter().map(|&at| self.gauges[at]).collect(),
            load: order.iter().map(|&at| self.load[at]).collect(),
            open: order.iter().map(|&at| self.open[at]).collect(),
            ..*self
        }
    }

    fn is_admitted(&self, rule: &mut RuleChain) -> bool {
        let load = Load::from(self.load.as_slice());
        let gate = GateView {
            gauges: &self.gauges,
            load: &load,
            open: Some(&self.open),
            queued: self.queued,
            dispatched: self.dispatched,
        };
        rule.refuses(self.now, &self.request, &gate).is_none()
    }
}

/// Moments in order of time, the same for every rule.
fn moments(case: u64) -> Vec<Moment> {
    let mut rng = Rng::new(case, Stream::Design, 9);
    let instances = 1 + rng.below(9) as usize;
    let mut now = SimTime::from_us(1);
    (0..40)
        .map(|_| {
            now = now + Span::from_us(rng.below(50_000));
            Moment::random(&mut rng, now, instances)
        })
        .collect()
}

fn for_all_rules(law: impl Fn(&Admission, &[Moment])) {
    for case in 0..CASES {
        let moments = moments(case);
        for rule in Admission::all() {
            law(&rule, &moments);
        }
        let all = Admission::all().into_iter().filter(|rule| *rule != Admission::RejectAll);
        law(&Admission::Chain(all.collect()), &moments);
    }
}

#[test]
fn a_rule_decides_the_same_twice_whatever_the_instances_are_called() {
    for_all_rules(|rule, moments| {
        let decisions = |rename: &dyn Fn(&Moment) -> Moment| -> Vec<bool> {
            let mut chain = RuleChain::new(rule, 5);
            moments.iter().map(|moment| rename(moment).is_admitted(&mut chain)).collect()
        };
        let instances = moments[0].load.len();
        let same: Vec<usize> = (0..instances).collect();
        let back: Vec<usize> = same.iter().rev().copied().collect();
        let first = decisions(&|moment| moment.relabelled(&same));
        assert_eq!(first, decisions(&|moment| moment.relabelled(&same)), "{rule:?}");
        // The mean of quotients is only the same to the last bits; no moment is that near a limit.
        assert_eq!(first, decisions(&|moment| moment.relabelled(&back)), "{rule:?}");
    });
}

#[test]
fn nobody_is_admitted_beyond_the_limit_of_a_rule() {
    for_all_rules(|rule, moments| {
        let mut chain = RuleChain::new(rule, 5);
        let mut tokens = 0.0;
        for moment in moments {
            if !moment.is_admitted(&mut chain) {
                continue;
            }
            tokens += f64::from(moment.request.view.input);
            assert_within(rule, moment, tokens);
        }
    });
}

/// `tokens` have been let in up to and with `moment`.
fn assert_within(rule: &Admission, moment: &Moment, tokens: f64) {
    let there: Vec<usize> = (0..moment.load.len()).filter(|&at| moment.open[at]).collect();
    let waiting: u32 = there.iter().map(|&at| moment.gauges[at].waiting).sum();
    let waiting = u64::from(waiting + moment.queued);
    let count = there.len() as f64;
    let mean_kv = there.iter().map(|&at| moment.gauges[at].kv).sum::<f64>() / count;
    let most = there.iter().map(|&at| moment.load[at]).max().unwrap_or(0);
    let priority = moment.request.priority;
    match rule {
        Admission::AlwaysAdmit => {}
        Admission::RejectAll => panic!("admitted by reject-all"),
        Admission::TokenBucket { capacity, refill_rate } => {
            let flowed_in = refill_rate * moment.now.as_us() as f64 / 1e6;
            assert!(tokens <= capacity + flowed_in + 1e-6, "{tokens}");
        }
        Admission::QueueLimit { max_waiting, per_instance } => {
            let instances = if *per_instance { there.len() as u64 } else { 1 };
            assert!(waiting < u64::from(*max_waiting) * instances);
        }
        Admission::KvLimit { max_utilization } => {
            assert!(there.is_empty() || mean_kv < *max_utilization);
        }
        Admission::TierShed { threshold, min_priority } => {
            assert!(priority >= *min_priority || most <= *threshold);
        }
        Admission::Saturation { detector, limit } => {
            let full = |at: &usize| {
                let gauge = &moment.gauges[*at];
                let fullness =
                    (f64::from(gauge.waiting) / detector.queue_depth).max(gauge.kv / detector.kv);
                if moment.now - gauge.seen > detector.staleness { 1.0 } else { fullness }
            };
            let saturation = there.iter().map(full).sum::<f64>() / count;
            assert!(priority >= 0 || saturation < *limit, "{saturation}");
        }
        Admission::Probabilistic { .. } => {
            // All are shed from 0.320 on, which an instance that nobody heard of exceeds.
            let unheard =
                moment.gauges.iter().all(|g| moment.now - g.seen > Span::from_us(200_000));
            assert!(priority >= 0 || !(unheard || there.is_empty()));
        }
        Admission::Chain(rules) => {
            for rule in rules {
                assert_within(rule, moment, tokens);
            }
        }
    }
}

#[test]
fn how_long_answers_will_be_changes_no_admission_before_the_first_is_answered() {
    let mut refused = 0;
    for case in 0..60 {
        for rule in Admission::all() {
            let scenario = |answer| {
                let requests: Vec<(u64, u32, u32)> =
                    (0..30).map(|at| (at * 300, 5 + (at as u32 * 7 + case) % 40, answer)).collect();
                let mut scenario = Scenario::plain(200, 4, &requests);
                scenario.bundle.admission = rule.clone();
                scenario.bundle.gateway.priorities.0 = vec![("default".into(), -1)];
                scenario
            };
            // 30 requests come within 9 ms, the first answer of 20 tokens or more after 20 ms.
            let outcomes = [20, 90].map(|answer| {
                let s = scenario(answer);
                let scratch = &mut Scratch::default();
                simulate_under(&s.bundle, &s.trace, &s.conditions, &s.options, scratch)
            });
            let [short, long] = outcomes.map(|outcome| outcome.gateway.map(|gate| gate.shed));
            assert_eq!(short, long, "{rule:?}");
            refused += short.unwrap_or_default().iter().map(|(_, shed)| shed).sum::<u64>();
        }
    }
    assert!(refused > 60 * 30, "more than by the one that refuses all: {refused}");
}
