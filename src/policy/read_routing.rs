//! Where an admitted request goes, from YAML.
//!
//! Everything is checked whatever the policy is, so that a search may choose it.

use super::{F5, F5Mode, Picker, Pool, Routing, ScorerKind, Weights};
use crate::base::Span;
use crate::config::{Bounds, DAY, Fields, Node, Value, did_you_mean, read_f64};

/// Scorer weights; what matters is their ratio.
const WEIGHT_BOUNDS: Bounds = Bounds::between(0.0, 1e9);
/// Weights of pools, and what weights are divided by.
const POSITIVE: Bounds = Bounds::above(0.0, 1e9);
/// Block identities that a router remembers per instance.
const PREFIX_INDEX_MAX: u32 = 1 << 24;
/// Instances that a router looks at for one request.
const CHOICES_MAX: u32 = 1000;
/// Requests or tokens at which a scorer gives nothing.
const THRESHOLD_MAX: u32 = 1 << 30;
/// The scorers of a weighted router that names none.
pub(super) const DEFAULT_SCORERS: [(ScorerKind, f64); 3] = [
    (ScorerKind::PrefixAffinity, 3.0),
    (ScorerKind::QueueDepth, 2.0),
    (ScorerKind::KvUtilization, 2.0),
];

/// The policies that are no mode of F5's.
#[derive(Clone, Copy)]
enum Name {
    RoundRobin,
    LeastLoaded,
    Weighted,
    AlwaysBusiest,
    PrefixAffinity,
    WeightedRoundRobin,
    LeastConnections,
    LeastOutstanding,
    SessionAffinity,
    F5(F5Mode),
}

const NAMES: [(&str, Name); 9] = [
    ("round-robin", Name::RoundRobin),
    ("least-loaded", Name::LeastLoaded),
    ("weighted", Name::Weighted),
    ("always-busiest", Name::AlwaysBusiest),
    ("prefix-affinity", Name::PrefixAffinity),
    ("weighted-round-robin", Name::WeightedRoundRobin),
    ("least-connections", Name::LeastConnections),
    ("least-outstanding-requests", Name::LeastOutstanding),
    ("session-affinity", Name::SessionAffinity),
];

/// The names that `routing.policy` may have.
pub fn routing_names() -> Vec<&'static str> {
    let plain = NAMES.iter().map(|(name, _)| *name);
    plain.chain(F5Mode::ALL.iter().map(|(name, ..)| *name)).collect()
}

/// How scored instances are picked; whether by chance.
const PICKERS: [(&str, bool); 2] = [("max-score", false), ("weighted-random", true)];
/// Who is taken among equals; whether by chance.
const TIES: [(&str, bool); 2] = [("lowest-index", false), ("random", true)];

/// The routing policy, the size of its prefix index and its latency.
pub(super) fn read_routing(bundle: &mut Fields, pools: &[Pool]) -> (Routing, u32, Span) {
    const INDEX_BLOCKS: u32 = 10_000;
    let Some(mut fields) = bundle.fields("routing") else {
        return (Routing::RoundRobin, INDEX_BLOCKS, Span::ZERO);
    };
    let scorers = read_scorers(&mut fields);
    let all_zero = scorers.iter().all(|(_, weight)| *weight <= 0.0);
    let active: Vec<_> = scorers.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
    let modes = F5Mode::ALL.map(|(name, mode, _)| (name, Name::F5(mode)));
    let names: Vec<(&str, Name)> = NAMES.into_iter().chain(modes).collect();
    let name = fields.one_of("policy", &names).unwrap_or(Name::RoundRobin);
    let picker = read_picker(&mut fields);
    let weights = read_weights(&mut fields, pools);
    let choices = fields.u32("choices", 1..=CHOICES_MAX).unwrap_or(2);
    let f5 = read_f5(&mut fields, name);
    if all_zero && matches!(name, Name::Weighted) {
        let problem = fields.error("scorers", "the weights of all scorers are zero");
        problem.label("nothing is scored").hint("give at least one scorer a weight above 0");
    }
    let routing = match (name, picker) {
        (Name::RoundRobin, _) => Routing::RoundRobin,
        (Name::LeastLoaded, _) => Routing::LeastLoaded,
        (Name::AlwaysBusiest, _) => Routing::AlwaysBusiest,
        (Name::PrefixAffinity, _) => Routing::PrefixAffinity,
        (Name::Weighted, None) => Routing::Weighted(active),
        (Name::Weighted, Some(picker)) => Routing::Picked(active, picker),
        (Name::WeightedRoundRobin, _) => {
            Routing::WeightedRoundRobin(weights.unwrap_or(Weights::Capacity))
        }
        (Name::LeastConnections, _) => Routing::LeastConnections(weights.unwrap_or(Weights::Equal)),
        (Name::LeastOutstanding, _) => Routing::LeastOutstanding(choices),
        (Name::SessionAffinity, _) => Routing::SessionAffinity,
        (Name::F5(_), _) => Routing::F5(f5),
    };
    let index = fields.u32("prefix_index_blocks", 1..=PREFIX_INDEX_MAX).unwrap_or(INDEX_BLOCKS);
    let latency = fields.span("latency_us", DAY).unwrap_or(Span::ZERO);
    fields.finish();
    (routing, index, latency)
}

/// The scorers with their weights, zeros included; the default where there are none.
fn read_scorers(routing: &mut Fields) -> Vec<(ScorerKind, f64)> {
    let items = routing.list("scorers").unwrap_or_default();
    if items.is_empty() {
        return DEFAULT_SCORERS.to_vec();
    }
    let mut scorers: Vec<(ScorerKind, f64)> = Vec::new();
    let mut names = Vec::new();
    for item in items {
        let Some(mut fields) = Fields::of(item, "a scorer", routing.problems()) else { continue };
        fields.require(&["name", "weight"]);
        let kind = fields.one_of("name", &ScorerKind::ALL);
        let weight = fields.f64("weight", WEIGHT_BOUNDS);
        if let Some(kind) = kind {
            let text = item.entry("name").and_then(Node::as_text).unwrap_or_default();
            if names.contains(&text) {
                let problem = fields.error("name", format!("scorer `{text}` appears twice"));
                problem.label("already in the list").hint("keep one of the two");
            }
            names.push(text);
            scorers.push((with_threshold(kind, &mut fields), weight.unwrap_or(1.0)));
        } else {
            // A wrong entry is reported; a stand-in keeps its mistake from being reported again
            // as weights that are all zero.
            scorers.push((ScorerKind::QueueDepth, weight.unwrap_or(1.0)));
        }
        fields.finish();
    }
    scorers
}

/// The scorer with its own threshold, where it has one.
fn with_threshold(kind: ScorerKind, fields: &mut Fields) -> ScorerKind {
    let mut read = |known| fields.u32("threshold", 1..=THRESHOLD_MAX).unwrap_or(known);
    match kind {
        ScorerKind::LoadAware { threshold } => ScorerKind::LoadAware { threshold: read(threshold) },
        ScorerKind::TokenLoad { threshold } => ScorerKind::TokenLoad { threshold: read(threshold) },
        plain => plain,
    }
}

/// `None`: the best, ties to the lowest index.
fn read_picker(fields: &mut Fields) -> Option<Picker> {
    let by_chance = fields.one_of("picker", &PICKERS).unwrap_or(false);
    let random_ties = fields.one_of("ties", &TIES).unwrap_or(false);
    match (by_chance, random_ties) {
        (true, _) => Some(Picker::WeightedRandom),
        (false, true) => Some(Picker::AnyBest),
        (false, false) => None,
    }
}

/// `equal`, `capacity`, or a weight by pool; pools that are not named have 1.
fn read_weights(fields: &mut Fields, pools: &[Pool]) -> Option<Weights> {
    let node = fields.node("weights")?;
    if !matches!(node.value, Value::Map(_)) {
        let words = [("equal", Weights::Equal), ("capacity", Weights::Capacity)];
        return fields.one_of("weights", &words);
    }
    let mut weights = vec![1.0; pools.len()];
    for (key, node) in fields.map("weights").unwrap_or_default() {
        let Some(pool) = pools.iter().position(|pool| pool.name == key.text) else {
            // Where the pools are wrong, that is what is to be said.
            if !pools.is_empty() {
                let hint = did_you_mean(&key.text, pools.iter().map(|pool| pool.name.as_str()));
                let message = format!("there is no pool `{}`", key.text);
                fields.problems().error(key.at, message).label("unknown pool").hint(hint);
            }
            continue;
        };
        let what = format!("`weights.{}`", key.text);
        if let Some(weight) = read_f64(node, &what, POSITIVE, fields.problems()) {
            weights[pool] = weight;
        }
    }
    Some(Weights::Pools(weights))
}

/// The parameters of F5's scheduler; those of its mode where they are left out.
fn read_f5(routing: &mut Fields, name: Name) -> F5 {
    let mode = if let Name::F5(mode) = name { mode } else { F5Mode::S1 };
    let mut f5 = F5::new(mode);
    let Some(mut fields) = routing.fields("f5") else { return f5 };
    set(&mut f5.w_a, fields.f64("w_a", WEIGHT_BOUNDS));
    set(&mut f5.w_b, fields.f64("w_b", WEIGHT_BOUNDS));
    set(&mut f5.w_g, fields.f64("w_g", WEIGHT_BOUNDS));
    set(&mut f5.transition_point, fields.f64("transition_point", POSITIVE));
    set(&mut f5.steepness, fields.f64("steepness", POSITIVE));
    f5.running_threshold = read_limit("member_running_req_threshold", &mut fields);
    f5.waiting_threshold = read_limit("member_waiting_queue_threshold", &mut fields);
    fields.finish();
    f5
}

fn set(value: &mut f64, read: Option<f64>) {
    *value = read.unwrap_or(*value);
}

fn read_limit(key: &'static str, fields: &mut Fields) -> Option<u32> {
    fields.u32(key, 0..=THRESHOLD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Defaults, Problems, parse};
    use crate::policy::{PolicyBundle, read_bundle};

    fn read(text: &str) -> (Option<PolicyBundle>, Problems) {
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
        let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
        (bundle, problems)
    }

    fn routing(text: &str) -> Routing {
        let (bundle, problems) = read(&format!("routing: {{{text}}}"));
        assert!(problems.is_empty(), "{}", problems.render(false));
        bundle.expect("no problem").routing
    }

    fn message(text: &str) -> String {
        let (bundle, problems) = read(text);
        assert!(bundle.is_none(), "{text}");
        problems.list()[0].message.clone()
    }

    #[test]
    fn every_name_is_a_policy() {
        for name in routing_names() {
            routing(&format!("policy: {name}"));
        }
        let weights = Weights::Capacity;
        assert_eq!(routing("policy: weighted-round-robin"), Routing::WeightedRoundRobin(weights));
        let equal = Routing::LeastConnections(Weights::Equal);
        assert_eq!(routing("policy: least-connections"), equal);
    }

    #[test]
    fn scorers_have_thresholds_of_their_own_where_they_have_any() {
        let read = routing(
            "policy: weighted, picker: weighted-random, \
             scorers: [{name: load-aware, weight: 2, threshold: 64}, \
             {name: token-load, weight: 1}]",
        );
        let scorers = vec![
            (ScorerKind::LoadAware { threshold: 64 }, 2.0),
            (ScorerKind::TokenLoad { threshold: 4_194_304 }, 1.0),
        ];
        assert_eq!(read, Routing::Picked(scorers, Picker::WeightedRandom));
        let scorer = "{name: queue-depth, weight: 1, threshold: 3}";
        let wrong = message(&format!("routing: {{policy: weighted, scorers: [{scorer}]}}"));
        assert_eq!(wrong, "unknown key `threshold` in a scorer");
        let twice = "{name: load-aware, weight: 1, threshold: 3}, {name: load-aware, weight: 1}";
        let wrong = message(&format!("routing: {{policy: weighted, scorers: [{twice}]}}"));
        assert_eq!(wrong, "scorer `load-aware` appears twice");
    }

    #[test]
    fn weights_are_those_of_pools_by_name() {
        let (bundle, _) = read(
            "pools: {a: {}, b: {}}\nrouting: {policy: least-connections, weights: {b: 2.5}}\n",
        );
        let weights = Weights::Pools(vec![1.0, 2.5]);
        assert_eq!(bundle.expect("valid").routing, Routing::LeastConnections(weights));
        assert_eq!(
            message("pools: {a: {}}\nrouting: {policy: least-connections, weights: {c: 1}}\n"),
            "there is no pool `c`"
        );
        message("pools: {a: {}}\nrouting: {weights: {a: 0}}\n");
        message("routing: {weights: fair}\n");
    }

    #[test]
    fn modes_of_f5_have_their_own_weights_unless_others_are_given() {
        let Routing::F5(plain) = routing("policy: f5-s2-dynamic-waiting") else {
            panic!("it is F5's")
        };
        assert_eq!((plain.w_a, plain.w_b, plain.w_g), (0.4, 0.3, 0.3));
        assert_eq!((plain.transition_point, plain.steepness), (30.0, 1.0));
        let Routing::F5(own) =
            routing("policy: f5-s1-enhanced, f5: {w_a: 0.1, member_waiting_queue_threshold: 15}")
        else {
            panic!("it is F5's")
        };
        assert_eq!((own.w_a, own.w_b), (0.1, 0.8));
        assert_eq!((own.waiting_threshold, own.running_threshold), (Some(15), None));
    }

    #[test]
    fn kv_utilization_is_as_old_as_the_other_metrics_unless_it_says_otherwise() {
        let signals = |text: &str| read(text).0.expect("valid").signals;
        let together = signals("signals: {metrics_fetch_interval: 10s}");
        assert_eq!(together.metrics_fetch_interval, Span::from_secs(10.0));
        assert_eq!(together.kv_utilization_refresh, Span::from_secs(10.0));
        let apart = signals("signals: {metrics_fetch_interval: 10s, kv_utilization_refresh_us: 5}");
        assert_eq!(apart.kv_utilization_refresh, Span::from_us(5));
        let alone = signals("signals: {kv_utilization_refresh_us: 5}");
        assert_eq!(alone.metrics_fetch_interval, Span::ZERO);
    }
}
