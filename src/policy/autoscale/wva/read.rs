//! `wva` of an autoscaling, from YAML.

use super::{Analyzer, Calibration, QueueingModel, Saturation, Service, Transition, Variant, Wva};
use crate::base::Span;
use crate::config::{Bounds, DAY, Fields, Node, Problems, did_you_mean};
use crate::policy::Pool;
use crate::policy::autoscale::hpa::Behavior;
use crate::policy::autoscale::read::{Usual, WINDOW_MAX};

/// The largest batch of the model.
pub(super) const BATCH_MAX: u32 = 4096;
const QUEUE_RATIO_MAX: u32 = 1000;
const SHARE_BOUNDS: Bounds = Bounds::between(0.0, 1.0);
const THRESHOLD_BOUNDS: Bounds = Bounds::above(0.0, 1.0);
const QUEUE_BOUNDS: Bounds = Bounds::between(0.0, 1e9);
const TOKEN_BOUNDS: Bounds = Bounds::above(0.0, 1e7);
const TIME_BOUNDS: Bounds = Bounds::above(0.0, 1e6);
const PENALTY_BOUNDS: Bounds = Bounds::between(0.0, 100.0);

/// Which analyzer.
#[derive(Clone, Copy)]
enum Name {
    V1,
    V2,
    Model,
}

const NAMES: [(&str, Name); 3] =
    [("saturation-v1", Name::V1), ("saturation-v2", Name::V2), ("queueing-model", Name::Model)];

impl Wva {
    /// Reads `wva`. Its variants are all pools, or the one that is named.
    pub(in crate::policy::autoscale) fn read(
        fields: &mut Fields,
        usual: Usual,
        pools: &[Pool],
    ) -> Self {
        let only = fields.node("pool").is_some().then_some(usual.pool);
        let mut wva = Self::new(pools, only);
        let Some(mut fields) = fields.fields("wva") else { return wva };
        let name = fields.one_of("analyzer", &NAMES).unwrap_or(Name::V1);
        let thresholds = Saturation::read(&mut fields);
        let transitions = [("variant", Transition::Variant), ("model", Transition::Model)];
        let transition = fields.one_of("transition", &transitions).unwrap_or_default();
        let model = read_model(&mut fields, pools, &mut wva.variants);
        wva.analyzer = match name {
            Name::V1 => Analyzer::SaturationV1(thresholds, transition),
            Name::V2 => Analyzer::SaturationV2(thresholds),
            Name::Model => Analyzer::QueueingModel(model),
        };
        let mut above_zero = |key, usual: Span, most: Span| {
            let span = fields.span(key, most).unwrap_or(usual);
            if span == Span::ZERO {
                fields.error(key, format!("`{key}` must be longer than zero")).label("zero");
            }
            span
        };
        wva.optimization_interval =
            above_zero("optimization_interval", wva.optimization_interval, DAY);
        wva.window = above_zero("window", wva.window, WINDOW_MAX);
        wva.metric_delay = fields.span("metric_delay", DAY).unwrap_or(wva.metric_delay);
        wva.behavior = Behavior::read(&mut fields);
        fields.finish();
        wva
    }

    /// One that nothing was said about, over all pools or one.
    pub fn new(pools: &[Pool], only: Option<u32>) -> Self {
        let variants = (0..).zip(pools).filter(|(at, _)| only.is_none_or(|only| only == *at));
        let variant = |(at, pool): (u32, &Pool)| Variant {
            pool: at,
            cost: pool.instance_cost_per_hour(),
            calibration: Calibration::OfSteps(pool.latency.beta),
        };
        Self {
            variants: variants.map(variant).collect(),
            analyzer: Analyzer::SaturationV1(Saturation::default(), Transition::default()),
            optimization_interval: Span::from_us(60_000_000),
            window: Span::from_us(60_000_000),
            metric_delay: Span::from_us(15_000_000),
            behavior: Behavior::default(),
        }
    }
}

impl Saturation {
    fn read(fields: &mut Fields) -> Self {
        let usual = Self::default();
        let mut read = |key, bounds, usual| fields.f64(key, bounds).unwrap_or(usual);
        let queue = usual.queue_length_threshold;
        let saturation = Self {
            kv_cache_threshold: read(
                "kv_cache_threshold",
                THRESHOLD_BOUNDS,
                usual.kv_cache_threshold,
            ),
            queue_length_threshold: read("queue_length_threshold", QUEUE_BOUNDS, queue),
            kv_spare_trigger: read("kv_spare_trigger", SHARE_BOUNDS, usual.kv_spare_trigger),
            queue_spare_trigger: read(
                "queue_spare_trigger",
                QUEUE_BOUNDS,
                usual.queue_spare_trigger,
            ),
            scale_up_threshold: read(
                "scale_up_threshold",
                THRESHOLD_BOUNDS,
                usual.scale_up_threshold,
            ),
            scale_down_boundary: read(
                "scale_down_boundary",
                THRESHOLD_BOUNDS,
                usual.scale_down_boundary,
            ),
            avg_input_tokens: fields.f64("avg_input_tokens", TOKEN_BOUNDS),
        };
        saturation.check(fields);
        saturation
    }

    fn check(&self, fields: &mut Fields) {
        let mut below = |small: (&str, f64), large: (&str, f64), may_equal: bool| {
            if small.1 < large.1 || (may_equal && small.1 <= large.1) {
                return;
            }
            let at_most = if may_equal { "at most" } else { "below" };
            let message = format!("`{}` must be {at_most} `{}`", small.0, large.0);
            fields.error(small.0, message).label(format!("{} against {}", small.1, large.1));
        };
        let Self { kv_cache_threshold, kv_spare_trigger, .. } = *self;
        let (kv, queue) = ("kv_cache_threshold", "queue_length_threshold");
        below(("kv_spare_trigger", kv_spare_trigger), (kv, kv_cache_threshold), true);
        let (spare, length) = (self.queue_spare_trigger, self.queue_length_threshold);
        below(("queue_spare_trigger", spare), (queue, length), true);
        let (down, up) = (self.scale_down_boundary, self.scale_up_threshold);
        below(("scale_down_boundary", down), ("scale_up_threshold", up), false);
    }
}

/// Reads `model`, with the calibration of `variants`.
fn read_model(fields: &mut Fields, pools: &[Pool], variants: &mut [Variant]) -> QueueingModel {
    let mut model = QueueingModel::default();
    let Some(mut fields) = fields.fields("model") else { return model };
    for (key, target) in [("ttft", &mut model.ttft_ms), ("itl", &mut model.itl_ms)] {
        let Some(span) = fields.span(key, DAY) else { continue };
        if span == Span::ZERO {
            fields.error(key, format!("`{key}` must be longer than zero")).label("zero");
        }
        *target = span.as_us() as f64 / 1000.0;
    }
    let batch = fields.u32("max_batch_size", 1..=BATCH_MAX);
    model.max_batch_size = batch.unwrap_or(model.max_batch_size);
    model.at_tokens = fields.f64("at_tokens", TOKEN_BOUNDS);
    let ratio = fields.u32("queue_to_batch_ratio", 0..=QUEUE_RATIO_MAX);
    model.queue_to_batch_ratio = ratio.unwrap_or(model.queue_to_batch_ratio);
    let penalty = fields.f64("transition_penalty", PENALTY_BOUNDS);
    model.transition_penalty = penalty.unwrap_or(model.transition_penalty);
    let calibrations = fields.map("calibration").unwrap_or_default();
    let problems = fields.problems();
    for (key, node) in calibrations {
        let service = read_service(node, problems);
        let Some(at) = pools.iter().position(|pool| pool.name == key.text) else {
            // Pools that could not be read have been reported.
            if !pools.is_empty() {
                let names = pools.iter().map(|pool| pool.name.as_str());
                problems
                    .error(key.at, format!("there is no pool `{}`", key.text))
                    .hint(did_you_mean(&key.text, names));
            }
            continue;
        };
        let of_pool = |variant: &&mut Variant| variant.pool as usize == at;
        if let (Some(service), Some(variant)) = (service, variants.iter_mut().find(of_pool)) {
            variant.calibration = Calibration::Given(service);
        }
    }
    fields.finish();
    model
}

fn read_service(node: &Node, problems: &mut Problems) -> Option<Service> {
    let mut fields = Fields::of(node, "a calibration", problems)?;
    fields.require(&["alpha_ms", "beta_ms", "gamma_ms", "delta_ms"]);
    let mut read = |key| fields.f64(key, TIME_BOUNDS);
    let (alpha, beta) = (read("alpha_ms"), read("beta_ms"));
    let (gamma, delta) = (read("gamma_ms"), read("delta_ms"));
    fields.finish();
    Some(Service { alpha_ms: alpha?, beta_ms: beta?, gamma_ms: gamma?, delta_ms: delta? })
}
