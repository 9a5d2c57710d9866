//! What the planner thinks of an engine: its next latencies, and what it carries.

use std::collections::VecDeque;

use super::regression::{Plane, Regression, Seen};
use crate::latency::Blackbox;
use crate::policy::Batching;
use crate::policy::signals::EngineSample;

/// Sequences of an engine whose KV cache is not known to the planner are at most so many.
const SEQUENCES_MAX: u32 = 1 << 16;

/// The mean of the last so many values, from the first on that is not zero.
#[derive(Clone, Debug)]
struct MovingMean {
    most: usize,
    values: VecDeque<f64>,
}

impl MovingMean {
    fn new(most: u32) -> Self {
        Self { most: most as usize, values: VecDeque::new() }
    }

    fn add(&mut self, value: f64) {
        if value == 0.0 && self.values.is_empty() {
            return;
        }
        if self.values.len() == self.most {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Zero without values.
    fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }
}

/// What passes so far tell about engines of one kind.
#[derive(Clone, Debug)]
pub struct Learned {
    regression: Regression,
    prompt: MovingMean,
    decode_tokens: MovingMean,
    prefill_tokens: MovingMean,
}

impl Learned {
    /// Nothing yet: keeps at most `most` passes in `buckets` buckets, and needs `least`.
    pub fn new(most: u32, least: u32, buckets: u32) -> Self {
        Self {
            regression: Regression::new(most, least, buckets),
            prompt: MovingMean::new(most),
            decode_tokens: MovingMean::new(most),
            prefill_tokens: MovingMean::new(most),
        }
    }

    /// Takes in the mean prompt of requests that came; no number where none did.
    pub fn see_prompts(&mut self, mean: f64) {
        if mean.is_finite() {
            self.prompt.add(mean);
        }
    }

    /// Takes in the last pass of an engine; one that idles reports zeros.
    pub fn see(&mut self, engine: &EngineSample) {
        let pass = engine.pass.unwrap_or_default();
        let (prefill, kv) = (f64::from(pass.prefill_tokens), engine.decode_kv_tokens as f64);
        self.prefill_tokens.add(prefill);
        if engine.decoding > 0 {
            self.decode_tokens.add(kv / f64::from(engine.decoding));
        }
        self.regression.add(Seen { x: [prefill, kv], seconds: pass.length.as_secs() });
    }

    /// Takes in a grid of passes of the latency model, as a sweep before deployment would: prompts
    /// up to the token budget, and KV tokens up to what fits, of requests with `context` each.
    pub fn sweep(&mut self, latency: &Blackbox, engine: &EngineSample, context: f64) {
        const POINTS: u32 = 4;
        let limits = engine.limits;
        let sequences = (engine.kv_tokens as f64 / context).min(f64::from(limits.max_running));
        for (at, other) in (0..POINTS * POINTS).map(|point| (point / POINTS, point % POINTS)) {
            let share = |at: u32| f64::from(at) / f64::from(POINTS - 1);
            let prefill = (share(at) * f64::from(limits.max_tokens)).round();
            let decoding = (share(other) * sequences).round();
            let us = latency.step_us(prefill as u64, decoding as u64);
            let x = [prefill, decoding * context];
            self.regression.add(Seen { x, seconds: us as f64 / 1e6 });
        }
    }

    /// What can be said now; `None` while too little is known.
    pub fn model(&self) -> Option<Model> {
        Some(Model {
            plane: self.regression.fit()?,
            prompt: self.prompt.mean(),
            decode_tokens: self.decode_tokens.mean(),
            prefill_tokens: self.prefill_tokens.mean(),
        })
    }
}

/// What is known about engines of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Seconds of a pass.
    pub plane: Plane,
    /// Mean prompt in tokens.
    pub prompt: f64,
    /// Mean KV tokens of a request that decodes.
    pub decode_tokens: f64,
    /// Mean prompt tokens of a pass.
    pub prefill_tokens: f64,
}

/// What an engine carries, and the latencies there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests per second.
    pub rps: f64,
    /// Time to first token in milliseconds.
    pub ttft_ms: f64,
    /// Time between tokens in milliseconds.
    pub itl_ms: f64,
}

/// What was promised, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// Time to first token.
    pub ttft_ms: f64,
    /// Time between tokens.
    pub itl_ms: f64,
}

impl Model {
    /// When the next request would see its first token, in milliseconds: its prompt and those
    /// queued are computed in chunks of `max_tokens`, while requests with `kv` tokens decode.
    pub fn ttft_ms(&self, queued: f64, max_tokens: u32, kv: f64) -> f64 {
        let tokens = queued + self.prompt;
        if tokens <= 0.0 {
            return 0.0;
        }
        let most = f64::from(max_tokens);
        let full = (tokens / most).ceil() - 1.0;
        let rest = tokens - full * most;
        1000.0 * (full * self.plane.pass_s(most, kv) + self.plane.pass_s(rest, kv))
    }

    /// The gap between tokens in milliseconds, with one more request than now.
    pub fn itl_ms(&self, kv: f64) -> f64 {
        1000.0 * self.plane.pass_s(self.prefill_tokens, kv + self.decode_tokens)
    }

    /// The most requests of `isl` prompt and `osl` answer tokens that an engine carries within
    /// the promise, by Little's law at the largest batch that keeps it; at a batch of one where
    /// none does. `None` without tokens.
    pub fn capacity(
        &self,
        (isl, osl): (f64, f64),
        promise: Promise,
        limits: Batching,
        kv_tokens: u64,
    ) -> Option<Capacity> {
        // Also false for what is no number.
        if !(isl > 0.0 && osl > 0.0) {
            return None;
        }
        let context = isl + osl / 2.0;
        let fitting = ((kv_tokens as f64 / context.max(1.0)) as u32).max(1);
        let most = fitting.min(limits.max_running).min(SEQUENCES_MAX);
        let mut best = None;
        for batch in 1..=most {
            let sequences = f64::from(batch);
            // Prompts must come in as fast as answers go out.
            let room = f64::from(limits.max_tokens) - sequences;
            if batch > 1 && (room <= 0.0 || isl / room > osl) {
                break;
            }
            let kv = sequences * context;
            let prefill = (sequences * isl / osl.max(1.0)).min(f64::from(limits.max_tokens));
            let pass_s = self.plane.pass_s(prefill, kv);
            let capacity = Capacity {
                rps: sequences / (osl * pass_s),
                ttft_ms: self.ttft_ms(prefill.floor(), limits.max_tokens, kv.floor()),
                itl_ms: 1000.0 * pass_s,
            };
            if capacity.itl_ms > promise.itl_ms || capacity.ttft_ms > promise.ttft_ms {
                return best.or(Some(capacity));
            }
            best = Some(capacity);
        }
        best
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Span;
    use crate::policy::signals::Pass;

    pub const LIMITS: Batching =
        Batching { max_running: 256, max_tokens: 2048, long_prefill_threshold: 0 };

    /// An engine with so many prompt tokens queued and so many KV tokens of 10 requests.
    pub fn engine(queued: u64, kv: u64) -> EngineSample {
        EngineSample {
            place: 0,
            pool: 0,
            pass: Some(Pass { prefill_tokens: 0, length: Span::from_us(10_000) }),
            decoding: 10,
            decode_kv_tokens: kv,
            queued_prompt_tokens: queued,
            kv_tokens: 500_000,
            limits: LIMITS,
        }
    }

    /// 10 ms, 20 us for a prompt token, 0.1 us for a KV token; prompts of 1000 tokens.
    pub fn model() -> Model {
        let mut regression = Regression::new(64, 3, 16);
        for x in [[0.0, 0.0], [1000.0, 0.0], [0.0, 1e5]] {
            let seconds = 0.01 + 20e-6 * x[0] + 0.1e-6 * x[1];
            regression.add(Seen { x, seconds });
        }
        let plane = regression.fit().expect("three passes");
        Model { plane, prompt: 1000.0, decode_tokens: 500.0, prefill_tokens: 512.0 }
    }

    fn close(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-6 * expected
    }

    #[test]
    fn a_first_token_comes_after_the_chunks_before_it() {
        // 3000 + 1000 tokens are 2048 and 1952: twice 10 ms and 1 ms for the KV, 80 ms for all.
        assert!(close(model().ttft_ms(3000.0, 2048, 1e4), 102.0));
        // 1048 more fill the second chunk; one more takes a third.
        assert!(close(model().ttft_ms(3096.0, 2048, 0.0), 20.0 + 81.92));
        assert!(close(model().ttft_ms(3097.0, 2048, 0.0), 30.0 + 81.94));
        assert!(close(model().ttft_ms(0.0, 2048, 0.0), 30.0));
        assert_eq!(Model { prompt: 0.0, ..model() }.ttft_ms(0.0, 2048, 0.0), 0.0);
    }

    #[test]
    fn the_next_gap_is_of_one_more_request_beside_the_usual_prompts() {
        // 10 + 512 * 0.02 + 10500 * 0.0001.
        assert!(close(model().itl_ms(1e4), 10.0 + 10.24 + 1.05));
    }

    #[test]
    fn a_batch_of_71_keeps_a_gap_of_25_ms() {
        // Per request of 1000 and 200 tokens: 1100 KV tokens are 0.11 ms, 5 prompt tokens of each
        // pass 0.1 ms: 10 + 0.21 b <= 25 for b <= 71; 71 / (200 * 24.91 ms) = 14.25 per second.
        let carried = |ttft_ms, itl_ms| {
            let promise = Promise { ttft_ms, itl_ms };
            model().capacity((1000.0, 200.0), promise, LIMITS, 500_000).expect("tokens")
        };
        let capacity = carried(500.0, 25.0);
        assert!(close(capacity.itl_ms, 24.91), "{capacity:?}");
        assert!(close(capacity.rps, 71.0 / (200.0 * 0.02491)), "{capacity:?}");
        // 355 + 1000 tokens in one pass beside 78100: 10 + 27.1 + 7.81.
        assert!(close(capacity.ttft_ms, 44.91), "{capacity:?}");
        // A first token within 40 ms: 30 + 0.1 b + 0.11 b <= 40 for b <= 47.
        assert!(close(carried(40.0, 25.0).itl_ms, 10.0 + 0.21 * 47.0));
        // Nothing keeps 5 ms: a batch of one.
        assert!(close(carried(500.0, 5.0).rps, 1.0 / (200.0 * 0.01021)));
    }

    #[test]
    fn capacity_ends_with_the_batch_the_cache_and_the_prompts() {
        let promise = Promise { ttft_ms: 1e9, itl_ms: 1e9 };
        let batch = |isl: f64, osl: f64, max_running: u32, kv_tokens: u64| {
            let limits = Batching { max_running, ..LIMITS };
            let capacity = model().capacity((isl, osl), promise, limits, kv_tokens);
            let capacity = capacity.expect("tokens");
            (capacity.rps * osl * capacity.itl_ms / 1000.0).round()
        };
        assert_eq!(batch(1000.0, 200.0, 30, 500_000), 30.0);
        assert_eq!(batch(1000.0, 200.0, 256, 110_000), 100.0);
        // 1000 / (2048 - b) <= 2 for b <= 1548; <= 0.5 for b <= 48.
        assert_eq!(batch(1000.0, 0.5, 256, 500_000), 48.0);
        assert_eq!(model().capacity((f64::NAN, 2.0), promise, LIMITS, 9), None);
        assert_eq!(model().capacity((5.0, 0.0), promise, LIMITS, 9), None);
    }

    #[test]
    fn a_sweep_tells_what_the_latency_model_does() {
        let latency = Blackbox { alpha: [0.0; 3], beta: [7000.0, 18.0, 30.0] };
        let mut learned = Learned::new(64, 5, 16);
        assert_eq!(learned.model(), None);
        learned.sweep(&latency, &engine(0, 0), 1000.0);
        let plane = learned.model().expect("16 passes").plane;
        let expected = latency.step_us(300, 50) as f64 / 1e6;
        assert!((plane.pass_s(300.0, 50_000.0) - expected).abs() < 2e-6, "{plane:?}");
    }

    #[test]
    fn engines_teach_by_their_last_pass_and_idle_ones_nothing() {
        let mut learned = Learned::new(64, 2, 16);
        learned.see(&EngineSample { pass: None, decoding: 0, ..engine(0, 0) });
        assert_eq!(learned.model(), None);
        for kv in [10_000, 20_000] {
            learned.see_prompts(900.0);
            learned.see(&engine(0, kv));
        }
        learned.see_prompts(f64::NAN);
        let model = learned.model().expect("two passes");
        assert_eq!((model.prompt, model.decode_tokens), (900.0, 1500.0));
        assert!(close(model.itl_ms(5.0), 10.0));
    }
}
