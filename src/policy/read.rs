//! A policy bundle from YAML: the reference's form and more.

use super::admission::{DEFAULT_REFRESH, read_admission, read_detector, read_gateway_refresh};
use super::autoscale::read_autoscaling;
use super::gateway::read_gateway;
use super::pools::read_pools;
use super::read_routing::read_routing;
use super::{Batching, PolicyBundle, Priority, Scheduler, Signals};
use crate::base::Span;
use crate::config::{Bounds, DAY, Defaults, Fields, Node, Problems, read_f64, read_span};

/// Urgencies of classes; what matters is their order.
const URGENCY_BOUNDS: Bounds = Bounds::between(-1e9, 1e9);
/// Requests of a batch and tokens of a step.
const BATCH_MAX: u32 = 1 << 20;
/// Tokens of a KV block.
const BLOCK_SIZE_MAX: u32 = 1 << 16;
/// What a warning says about keys of the reference's later version.
const NOT_SIMULATED: &str = "not simulated by this version";

/// Reads a policy bundle. Everything that is wrong becomes a problem; `None` where there was an
/// error. Cheap enough to be called for every candidate of a search.
pub fn read_bundle(
    node: &Node,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Option<PolicyBundle> {
    let errors = problems.errors();
    let mut fields = Fields::of(node, "the policy bundle", problems)?;
    let pools = fields.node("pools");
    let pools = read_pools(pools, node.at, defaults, fields.problems());
    let detector = read_detector(&mut fields);
    let (admission, admission_latency, priorities) = read_admission(&mut fields, detector);
    let (routing, prefix_index_blocks, routing_latency) =
        read_routing(&mut fields, pools.as_deref().unwrap_or_default());
    let (kv_utilization_refresh, metrics_fetch_interval, gateway_refresh) =
        read_refresh(&mut fields);
    let priority = read_priority(&mut fields);
    let scheduler = fields.one_of("scheduler", &SCHEDULERS).unwrap_or(Scheduler::Fcfs);
    let batching = read_batching(&mut fields);
    let block_size = read_block_size(&mut fields);
    let autoscaling = read_autoscaling(&mut fields, pools.as_deref().unwrap_or_default());
    let gateway = read_gateway(&mut fields, detector, gateway_refresh, priorities);
    let later = ["preemption", "tenant_budgets", "node_pools", "autoscaler", "instance_lifecycle"];
    fields.ignored(&later, NOT_SIMULATED);
    warn_of_idle_priority(&priority, scheduler, &mut fields);
    fields.finish();
    if problems.errors() > errors {
        return None;
    }
    Some(PolicyBundle {
        pools: pools?,
        admission,
        admission_latency,
        routing,
        routing_latency,
        signals: Signals { kv_utilization_refresh, metrics_fetch_interval, prefix_index_blocks },
        priority,
        scheduler,
        batching,
        block_size,
        autoscaling,
        gateway,
    })
}

const SCHEDULERS: [(&str, Scheduler); 4] = [
    ("fcfs", Scheduler::Fcfs),
    ("priority-fcfs", Scheduler::PriorityFcfs),
    ("sjf", Scheduler::Sjf),
    ("reverse-priority", Scheduler::ReversePriority),
];

/// How old KV utilization, other metrics, and what the gateway sees may be. The first two are
/// exported together: one interval is enough unless they are to differ.
fn read_refresh(bundle: &mut Fields) -> (Span, Span, Span) {
    let Some(mut fields) = bundle.fields("signals") else {
        return (Span::ZERO, Span::ZERO, DEFAULT_REFRESH);
    };
    let metrics = fields.span("metrics_fetch_interval", DAY).unwrap_or(Span::ZERO);
    let kv_utilization = fields.span("kv_utilization_refresh_us", DAY).unwrap_or(metrics);
    let gateway = read_gateway_refresh(&mut fields);
    fields.finish();
    (kv_utilization, metrics, gateway)
}

#[derive(Clone, Copy)]
enum PriorityName {
    Constant,
    Age,
    InvertedAge,
    SloClass,
    SloDeadline,
}

const PRIORITIES: [(&str, PriorityName); 5] = [
    ("constant", PriorityName::Constant),
    ("slo-based", PriorityName::Age),
    ("inverted-slo", PriorityName::InvertedAge),
    ("slo-class", PriorityName::SloClass),
    ("slo-deadline", PriorityName::SloDeadline),
];

fn read_priority(bundle: &mut Fields) -> Priority {
    let Some(mut fields) = bundle.fields("priority") else { return Priority::Constant };
    let policy = fields.one_of("policy", &PRIORITIES).unwrap_or(PriorityName::Constant);
    let classes = read_named(&mut fields, "classes", |node, what, problems| {
        read_f64(node, what, URGENCY_BOUNDS, problems)
    });
    let targets = read_named(&mut fields, "ttft_targets_ms", |node, what, problems| {
        read_span(node, what, "ttft_targets_ms", DAY, problems)
    });
    let priority = match policy {
        PriorityName::Constant => Priority::Constant,
        PriorityName::Age => Priority::Age,
        PriorityName::InvertedAge => Priority::InvertedAge,
        PriorityName::SloClass => {
            fields.require(&["classes"]);
            Priority::SloClass(classes)
        }
        PriorityName::SloDeadline => {
            fields.require(&["ttft_targets_ms"]);
            Priority::SloDeadline(targets)
        }
    };
    fields.finish();
    priority
}

/// The entries of a map by class, each read by `read`.
fn read_named<T>(
    fields: &mut Fields,
    key: &'static str,
    read: impl Fn(&Node, &str, &mut Problems) -> Option<T>,
) -> Vec<(String, T)> {
    let mut named = Vec::new();
    for (class, node) in fields.map(key).unwrap_or_default() {
        let what = format!("`{key}.{}`", class.text);
        if let Some(value) = read(node, &what, fields.problems()) {
            named.push((class.text.clone(), value));
        }
    }
    named
}

fn warn_of_idle_priority(priority: &Priority, scheduler: Scheduler, bundle: &mut Fields) {
    let reads_it = matches!(scheduler, Scheduler::PriorityFcfs | Scheduler::ReversePriority);
    if reads_it || *priority == Priority::Constant {
        return;
    }
    let at = bundle.node("priority").map_or(bundle.at(), |node| node.at);
    let name = if scheduler == Scheduler::Sjf { "sjf" } else { "fcfs" };
    let message = format!("`priority` has no effect: scheduler `{name}` does not look at it");
    bundle.problems().warning(at, message).hint("set `scheduler: priority-fcfs`");
}

fn read_batching(bundle: &mut Fields) -> Batching {
    const DEFAULT: Batching =
        Batching { max_running: 256, max_tokens: 2048, long_prefill_threshold: 0 };
    let Some(mut fields) = bundle.fields("batching") else { return DEFAULT };
    let running = fields.u32("max_running_requests", 1..=BATCH_MAX);
    let tokens = fields.u32("max_scheduled_tokens", 1..=BATCH_MAX);
    let threshold = fields.u32("long_prefill_token_threshold", 0..=BATCH_MAX);
    fields.finish();
    Batching {
        max_running: running.unwrap_or(DEFAULT.max_running),
        max_tokens: tokens.unwrap_or(DEFAULT.max_tokens),
        long_prefill_threshold: threshold.unwrap_or(DEFAULT.long_prefill_threshold),
    }
}

fn read_block_size(bundle: &mut Fields) -> u32 {
    let Some(mut fields) = bundle.fields("kv_cache") else { return 16 };
    let size = fields.u32("block_size_tokens", 1..=BLOCK_SIZE_MAX).unwrap_or(16);
    fields.finish();
    size
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;
    use crate::policy::read_routing::DEFAULT_SCORERS;
    use crate::policy::{Admission, Routing, ScorerKind};

    fn read(text: &str) -> (Option<PolicyBundle>, Problems) {
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
        let bundle = read_bundle(&node, Defaults::embedded(), &mut problems);
        assert_eq!(bundle.is_none(), problems.has_errors(), "{}", problems.render(false));
        (bundle, problems)
    }

    fn accepted(text: &str) -> PolicyBundle {
        let (bundle, problems) = read(text);
        assert!(problems.is_empty(), "{}", problems.render(false));
        bundle.expect("no problem")
    }

    fn messages(text: &str) -> Vec<String> {
        read(text).1.list().iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn what_is_not_said_is_the_reference() {
        let bundle = accepted("scheduler: fcfs\n");
        assert_eq!(bundle.pools.len(), 1);
        let pool = &bundle.pools[0];
        assert_eq!((pool.instances, pool.gpus_per_instance, pool.kv_blocks), (1, 2, 66_069));
        assert!((bundle.cost_per_hour() - 5.9).abs() < 1e-9);
        assert!(pool.price_source.contains("2025"), "{}", pool.price_source);
        assert_eq!(bundle.routing, Routing::RoundRobin);
        assert_eq!(bundle.admission, Admission::AlwaysAdmit);
        assert_eq!((bundle.batching.max_running, bundle.batching.max_tokens), (256, 2048));
        assert_eq!(bundle.block_size, 16);
    }

    #[test]
    fn a_bundle_of_the_reference_loads_as_it_is() {
        let bundle = accepted(
            "admission: {policy: token-bucket, token_bucket_capacity: 500}\n\
             routing: {policy: weighted, scorers: [{name: queue-depth, weight: 2}]}\n\
             priority: {policy: slo-based}\nscheduler: priority-fcfs\n",
        );
        let bucket = Admission::TokenBucket { capacity: 500.0, refill_rate: 1_000.0 };
        assert_eq!(bundle.admission, bucket);
        assert_eq!(bundle.routing, Routing::Weighted(vec![(ScorerKind::QueueDepth, 2.0)]));
        assert_eq!(bundle.priority, Priority::Age);
    }

    #[test]
    fn keys_of_the_later_version_are_accepted_with_a_warning() {
        let text = "autoscaler: {interval_us: 5}\nadmission: {slo_targets: {batch: 1}}\n";
        let (bundle, problems) = read(text);
        assert!(bundle.is_some());
        assert_eq!(problems.list().len(), 2, "{}", problems.render(false));
    }

    #[test]
    fn scorers_keep_their_order_and_zero_turns_one_off() {
        let bundle = accepted(
            "routing:\n  policy: weighted\n  scorers:\n    - {name: load-balance, weight: 1}\n    \
             - {name: queue-depth, weight: 0}\n    - {name: prefix-affinity, weight: 0.5}\n",
        );
        let expected = vec![(ScorerKind::LoadBalance, 1.0), (ScorerKind::PrefixAffinity, 0.5)];
        assert_eq!(bundle.routing, Routing::Weighted(expected));
        let empty = accepted("routing: {policy: weighted, scorers: []}");
        assert_eq!(empty.routing, Routing::Weighted(DEFAULT_SCORERS.to_vec()));
    }

    #[test]
    fn weights_all_zero_matter_only_to_a_weighted_router() {
        let scorers = "scorers: [{name: queue-depth, weight: 0}]";
        accepted(&format!("routing: {{policy: least-loaded, {scorers}}}"));
        let wrong = messages(&format!("routing: {{policy: weighted, {scorers}}}"));
        assert_eq!(wrong, ["the weights of all scorers are zero"]);
    }

    #[test]
    fn a_pool_may_bring_everything_itself() {
        let bundle = accepted(
            "pools:\n  own:\n    model: acme/tiny\n    gpu: B200\n    tensor_parallelism: 4\n    \
             instances: 3\n    kv_blocks: 100\n    alpha: [1, 2, 3]\n    beta: [4, 5, 6]\n    \
             price_per_gpu_hour: 2\n",
        );
        let pool = &bundle.pools[0];
        assert_eq!(
            (pool.model.as_str(), pool.gpu.as_str(), pool.kv_blocks),
            ("acme/tiny", "B200", 100)
        );
        assert_eq!(pool.latency.beta.map(f64::to_bits), [4.0, 5.0, 6.0].map(f64::to_bits));
        assert!((bundle.cost_per_hour() - 24.0).abs() < 1e-9);
    }

    #[test]
    fn a_pool_takes_the_price_of_its_market_and_provider() {
        let price = |keys: &str| {
            accepted(&format!("pools: {{a: {{{keys}}}}}")).pools[0].price_per_gpu_hour.to_string()
        };
        assert_eq!(price("instances: 1"), "2.95");
        assert_eq!(price("market: spot"), "1.25");
        assert_eq!(price("provider: azure"), "6.98");
        assert_eq!(price("provider: azure, price_per_gpu_hour: 1.5"), "1.5");
    }

    #[test]
    fn pools_on_different_hardware_from_the_table_are_warned_about() {
        let mixed = messages("pools: {a: {gpu: H100}, b: {gpu: A100-80}}");
        let text = "pools `a` and `b` run on different hardware, and the table cannot compare it";
        assert_eq!(mixed, [text]);
        assert_eq!(messages("pools: {a: {instances: 2}, b: {market: spot}}"), Vec::<String>::new());
    }

    #[test]
    fn sizes_that_no_fleet_has_are_refused() {
        for text in [
            "pools: {}",
            "pools: {a: {instances: 0}}",
            "pools: {a: {instances: 100000}, b: {instances: 1}}",
            "pools: {a: {instances: 1e12}}",
            "pools: {a: {kv_blocks: 0}}",
            "pools: {a: {kv_blocks: 9223372036854775807}}",
            "pools: {a: {alpha: [1e300, 0, 0], beta: [1, 1, 1]}}",
            "pools: {a: {alpha: [1, 1, 1], beta: [0, 0, 0]}}",
            "pools: {a: {alpha: [1, 1, 1]}}",
            "pools: {a: {price_per_gpu_hour: -1}}",
            "admission: {latency_us: 86400000001}",
            "routing: {latency_us: -1}",
            "batching: {max_scheduled_tokens: 0}",
            "kv_cache: {block_size_tokens: 0}",
            "priority: {policy: slo-class}",
        ] {
            assert!(read(text).0.is_none(), "{text}");
        }
    }

    #[test]
    fn classes_and_targets_keep_the_order_of_the_file() {
        let bundle = accepted(
            "scheduler: priority-fcfs\npriority:\n  policy: slo-deadline\n  \
             ttft_targets_ms: {b: 500, a: 1s}\n",
        );
        let targets = vec![
            ("b".to_owned(), Span::from_us(500_000)),
            ("a".to_owned(), Span::from_us(1_000_000)),
        ];
        assert_eq!(bundle.priority, Priority::SloDeadline(targets));
    }

    #[test]
    fn a_priority_that_nobody_looks_at_is_warned_about() {
        let text = "priority: {policy: slo-class, classes: {a: 1}}";
        let warned = "`priority` has no effect: scheduler `fcfs` does not look at it";
        assert_eq!(messages(text), [warned]);
    }

    #[test]
    fn every_sample_loads_and_its_first_line_says_what_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let mut samples = 0;
        for entry in std::fs::read_dir(folder).expect("the folder is in the repository") {
            let path = entry.expect("readable").path();
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(text.starts_with("# "), "{}", path.display());
            accepted(&text);
            samples += 1;
        }
        assert!(samples >= 7);
    }
}
