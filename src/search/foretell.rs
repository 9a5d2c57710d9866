//! What is certain about a candidate before it is simulated: what a fleet that nobody changes
//! costs, and that too small a fleet can never keep up.
//!
//! An instance spends on each request at least the work of its tokens, plus its share of the fixed
//! cost of steps that are as full as the batch limits allow. Instances that arrive at less than
//! the offered rate with nothing but that are overloaded whatever else is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use super::candidate::Candidate;
use super::scenarios::Plan;
use super::space::SearchSpace;
use crate::policy::{Admission, Batching, Gateway, PolicyBundle, Pool};
use crate::workload::WorkloadSpec;

/// The parts of a bundle that decide about the bill, and whether somebody changes the fleet.
const BILL: [&str; 2] = ["pools", "autoscaling.policy"];
/// The parts that have no say in how much work there is and who is let in.
const SILENT: [&str; 4] = ["autoscaling", "routing", "scheduler", "kv_cache"];
/// Mean lengths come from draws; a fleet is overloaded when this share more arrives than it could
/// bear.
const MARGIN: f64 = 1.1;

/// Gives the bundle of a candidate; `None`: it has none.
type Read<'a> = &'a dyn Fn(&Candidate) -> Option<PolicyBundle>;

/// Tells what is certain about the candidates of a space.
#[derive(Debug)]
pub struct Foreteller {
    load: Option<Load>,
    /// What the objective is of a fleet that nobody changes; `None` where runs decide.
    bill: Option<Bill>,
    bills: Answers<Option<f64>>,
    overloads: Answers<Option<String>>,
}

/// A load that never changes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    requests_per_s: f64,
    /// Prompt tokens that no cache can spare.
    input_tokens: f64,
    output_tokens: f64,
}

/// An objective that a fleet's size decides.
#[derive(Clone, Copy, Debug)]
enum Bill {
    CostPerHour,
    Instances,
    Gpus,
}

/// Answers once given, by the values of the knobs that decide.
///
/// Asked is about the candidate in which all other knobs rest: the answer is then the same whoever
/// came first with those values, also where others of its knobs make no policy at all.
#[derive(Debug)]
struct Answers<T> {
    knobs: BTreeSet<usize>,
    told: RwLock<BTreeMap<Vec<u64>, T>>,
}

impl<T: Clone> Answers<T> {
    /// Of the knobs of `space` whose path `decides`, and of those that switch them on.
    fn new(space: &SearchSpace, decides: impl Fn(&str) -> bool) -> Self {
        let mut open: Vec<usize> =
            (0..space.knobs.len()).filter(|&index| decides(&space.knobs[index].path)).collect();
        let mut knobs = BTreeSet::new();
        while let Some(index) = open.pop() {
            if knobs.insert(index) {
                open.extend(space.knobs[index].when.iter().map(|condition| condition.knob));
            }
        }
        Self { knobs, told: RwLock::default() }
    }

    fn of(
        &self,
        space: &SearchSpace,
        candidate: &Candidate,
        find: impl FnOnce(&Candidate) -> T,
    ) -> T {
        let values = candidate.values();
        let key: Vec<u64> = self.knobs.iter().map(|&knob| values[knob].bits()).collect();
        let known = self.told.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let each = space.knobs.iter().zip(values).enumerate();
            let resting = each.map(
                |(index, (knob, &value))| {
                    if self.knobs.contains(&index) { value } else { knob.rest }
                },
            );
            let found = find(&Candidate::canonical(space, resting.collect()));
            let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
            told.insert(key, found.clone());
            found
        })
    }
}

/// Whether `path` is `part` of a bundle or below it.
fn is_within(path: &str, part: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a knob at `path` may change what a fleet costs that nobody changes.
fn decides_bill(path: &str) -> bool {
    BILL.iter().any(|part| is_within(path, part) || is_within(part, path))
}

/// Whether a knob at `path` may change how much load a fleet bears, or who is let in.
fn decides_capacity(path: &str) -> bool {
    decides_bill(path) || !SILENT.iter().any(|part| is_within(path, part))
}

impl Foreteller {
    /// Tells about candidates of `space` under `plan`. It is `calm` where nothing befalls the
    /// fleet in any scenario and no figure rests on its timeline.
    pub fn new(space: &SearchSpace, plan: &Plan, calm: bool) -> Self {
        let judged = (0..plan.runs_per_seed()).find(|&at| plan.has_to_be_stable(at));
        let bill = match space.objective.metric.as_str() {
            _ if !calm => None,
            "cost_per_hour" => Some(Bill::CostPerHour),
            "instances" => Some(Bill::Instances),
            "gpus" => Some(Bill::Gpus),
            _ => None,
        };
        Self {
            load: judged.and_then(|at| Load::of(plan.workload(at).0)),
            bill,
            bills: Answers::new(space, decides_bill),
            overloads: Answers::new(space, decides_capacity),
        }
    }

    /// The objective of `candidate`, of this foreteller's `space`, where no run changes it; `read`
    /// gives the bundle of a candidate.
    pub fn objective(
        &self,
        space: &SearchSpace,
        candidate: &Candidate,
        read: Read<'_>,
    ) -> Option<f64> {
        let bill = self.bill?;
        self.bills.of(space, candidate, |candidate| bill.of(&read(candidate)?))
    }

    /// Why `candidate` can never bear the load, where that is so; the rest as above.
    pub fn hopeless(
        &self,
        space: &SearchSpace,
        candidate: &Candidate,
        read: Read<'_>,
    ) -> Option<String> {
        let load = self.load?;
        self.overloads.of(space, candidate, |candidate| overloaded(load, &read(candidate)?))
    }
}

impl Bill {
    /// What `bundle` comes to, where nobody changes its fleet.
    fn of(self, bundle: &PolicyBundle) -> Option<f64> {
        let gpus = |pool: &Pool| f64::from(pool.instances) * f64::from(pool.gpus_per_instance);
        bundle.autoscaling.is_none().then(|| match self {
            Self::CostPerHour => bundle.cost_per_hour(),
            Self::Instances => f64::from(bundle.instances()),
            Self::Gpus => bundle.pools.iter().map(gpus).sum(),
        })
    }
}

impl Load {
    /// The load of `workload`, where it is the same all the time and does not wait for answers.
    fn of(workload: &WorkloadSpec) -> Option<Self> {
        let offered = workload.offered();
        let steady = offered.requests_per_s <= offered.requests_per_s_mean * (1.0 + 1e-9);
        let waits =
            workload.clients.iter().any(|c| c.closed_loop.is_some() || c.sessions.is_some());
        let shares = workload.clients.iter().any(|client| client.prefix.is_some());
        (steady && !waits && workload.replay.is_none()).then_some(Self {
            requests_per_s: offered.requests_per_s_mean,
            input_tokens: if shares { 0.0 } else { offered.input_tokens_mean },
            output_tokens: offered.output_tokens_mean,
        })
    }

    /// The least seconds that an instance of `pool` spends on a request.
    fn work_s(self, pool: &Pool, batching: &Batching) -> f64 {
        let [step, prefill, decode] = pool.latency.beta;
        let answer = self.output_tokens.max(1.0);
        // The first token of an answer comes with the prompt's last step.
        let own = self.input_tokens * prefill + (answer - 1.0) * decode;
        let tokens = self.input_tokens + answer - 1.0;
        let by_sequences = answer / f64::from(batching.max_running);
        let by_tokens = tokens / f64::from(batching.max_tokens);
        // Steps last whole microseconds, rounded down.
        (own + (step - 1.0).max(0.0) * by_sequences.max(by_tokens)) / 1e6
    }
}

/// Why `bundle` can never bear `load`, where that is so: everybody is let in, and no number of
/// instances that it may have is enough.
fn overloaded(load: Load, bundle: &PolicyBundle) -> Option<String> {
    if bundle.admission != Admission::AlwaysAdmit || bundle.gateway != Gateway::default() {
        return None;
    }
    let bears = |pool: &Pool| {
        let instances =
            if bundle.autoscaling.is_some() { pool.max_instances } else { pool.instances };
        f64::from(instances) / load.work_s(pool, &bundle.batching)
    };
    let most: f64 = bundle.pools.iter().map(bears).sum();
    (load.requests_per_s > MARGIN * most).then(|| {
        format!("its instances bear at most {most:.1} of {:.1} requests/s", load.requests_per_s)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Defaults, Problems};
    use crate::search::candidate::KnobValue;
    use crate::search::evaluate::{Evaluator, Job};
    use crate::search::read::{SpaceFile, read_space};
    use crate::search::space::Domain;
    use crate::workload::spec::ClosedLoop;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SPACE: &str = include_str!("../../search-spaces/500rps-even.yaml");

    fn file(text: &str) -> SpaceFile {
        let read = |_: &str| Err("there is no other file".to_owned());
        let mut problems = Problems::new();
        let found = read_space(("space.yaml", text), Defaults::embedded(), &read, &mut problems);
        found.unwrap_or_else(|| panic!("{}", problems.render(false)))
    }

    #[test]
    fn what_is_foretold_comes_true() {
        let file = file(SPACE);
        let evaluator = file.evaluator(Defaults::embedded());
        let knob = file.space.knob("pools.h100.instances").expect("it counts instances");
        let start = file.space.start().expect("the template is in the space");
        let with = |count: i64| start.with(&file.space, knob, KnobValue::Int(count));
        let (known, unstable) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for count in 4..=14 {
            let candidate = with(count);
            let (objective, hopeless) =
                (evaluator.known_objective(&candidate), evaluator.hopeless(&candidate));
            let job = Job { candidate, seed: 42 };
            evaluator.evaluate(&[job], &|| false, &|_, run| {
                assert_eq!(run.figures.get("cost_per_hour"), objective);
                known.fetch_add(1, Ordering::Relaxed);
                if hopeless.is_some() {
                    assert!(!run.stable, "{count} instances: {hopeless:?}");
                    unstable.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        assert_eq!(known.into_inner(), 11);
        assert!(unstable.into_inner() >= 3, "the bound is of some use");
        assert_eq!(evaluator.hopeless(&with(13)), None);
    }

    /// Spaces with a knob, besides that of instances or in its place, that changes what is certain:
    /// whole pools, the gateway, policies that cannot be read, and whether the other knob counts.
    fn awkward() -> Vec<SpaceFile> {
        const COUNT: &str = "pools.h100.instances: {int: [4, 32]}\n";
        let pools = |count| {
            let model = "model: meta-llama/llama-3.1-8b-instruct";
            format!("{{h100: {{{model}, gpu: H100, tensor_parallelism: 2, instances: {count}}}}}")
        };
        let few = "pools.h100.instances: {int: [4, 6]}\n";
        let knobs = [
            format!("pools: {{choice: [{}, {}]}}\n", pools(5), pools(9)),
            format!("{few}  signals.gateway_refresh: {{choice: [50ms, 90ms]}}\n"),
            format!("{few}  routing.policy: {{choice: [nonsense, round-robin]}}\n"),
            format!("{few}  routing.policy: {{choice: [round-robin, least-loaded]}}\n")
                .replace("6]", "6], when: {routing.policy: least-loaded}"),
        ];
        let refresh = "scheduler: fcfs\n  signals: {gateway_refresh: 50ms}";
        let text = SPACE.replace("scheduler: fcfs", refresh);
        knobs.iter().map(|knobs| file(&text.replace(COUNT, knobs))).collect()
    }

    fn every(space: &SearchSpace) -> Vec<Candidate> {
        let mut all = vec![space.start().unwrap_or_else(|| {
            Candidate::canonical(space, space.knobs.iter().map(|knob| knob.rest).collect())
        })];
        for (index, knob) in space.knobs.iter().enumerate() {
            let values: Vec<KnobValue> = match &knob.domain {
                Domain::Choice { labels } => (0..labels.len()).map(KnobValue::Choice).collect(),
                _ => (4..=6).map(KnobValue::Int).collect(),
            };
            let turned = |one: &Candidate| {
                values.iter().map(|&value| one.with(space, index, value)).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(turned).collect();
        }
        all
    }

    #[test]
    fn what_is_foretold_of_one_does_not_depend_on_whom_was_asked_before() {
        let mut differ = 0;
        for file in awkward() {
            let evaluator = || file.evaluator(Defaults::embedded());
            let told = |evaluator: &dyn Evaluator, candidate: &Candidate| {
                (evaluator.known_objective(candidate), evaluator.hopeless(candidate))
            };
            let all = every(&file.space);
            let (first, last) = (evaluator(), evaluator());
            let forwards: Vec<_> = all.iter().map(|one| told(&first, one)).collect();
            let backwards: Vec<_> = all.iter().rev().map(|one| told(&last, one)).collect();
            let anew: Vec<_> = all.iter().map(|one| told(&evaluator(), one)).collect();
            assert!(backwards.iter().rev().eq(&forwards), "{backwards:?} {forwards:?}");
            assert_eq!(forwards, anew);
            differ += usize::from(forwards.iter().any(|one| *one != forwards[0]));
        }
        assert_eq!(differ, 4, "each space has something to tell apart");
    }

    #[test]
    fn a_load_that_moves_or_waits_is_not_judged() {
        let read = |text: &str| {
            let mut problems = Problems::new();
            let node = crate::config::parse("w.yaml", text, &mut problems).expect("YAML");
            WorkloadSpec::read(&node, Defaults::embedded(), &mut problems).expect("a workload")
        };
        let steady = read("{rate: 500}");
        assert!(Load::of(&steady).is_some_and(|load| load.input_tokens > 0.0));
        let diurnal = "{diurnal: {peak_hour: 14, peak_to_trough_ratio: 4}}";
        let moving = read(&format!("{{rate: 500, duration: 10m, profile: {diurnal}}}"));
        assert_eq!(Load::of(&moving), None);
        let mut waiting = steady.clone();
        let think_time = crate::base::Span::from_secs(1.0);
        waiting.clients[0].closed_loop = Some(ClosedLoop { users: 9, think_time });
        assert_eq!(Load::of(&waiting), None);
        let shared = read("{rate: 500, prefix_tokens: 100}");
        assert!(Load::of(&shared).is_some_and(|load| load.input_tokens < 1e-9));
    }
}
