//! The planner's decisions: one more or one fewer by load, as many as are needed by traffic.

use super::engine::{Model, Promise};
use crate::policy::signals::EngineSample;

/// How a scale-down by load is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DownCheck {
    /// Every engine's estimates are below the sensitivity's share of the promise.
    #[default]
    Sensitivity,
    /// They still would be with one engine fewer; of the time to first token the part that the
    /// queue makes. So do later versions.
    Consolidation,
}

/// What one kind of latency says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vote {
    More,
    Keep,
    Fewer,
}

/// What load says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Engines wanted.
    pub wanted: u32,
    /// What was looked at.
    pub what: &'static str,
    /// Its value on the engine that decided.
    pub value: f64,
    /// What it was held against.
    pub limit: f64,
}

/// By how much and by what an estimate may be below the promise for one engine fewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Down {
    /// The share of the promise.
    pub sensitivity: f64,
    /// How it is checked.
    pub check: DownCheck,
}

/// One more where all engines miss a promise, one fewer where all keep both with room to spare.
pub fn by_promise(
    model: &Model,
    engines: &[EngineSample],
    promise: Promise,
    down: Down,
) -> Decision {
    let workers = engines.len() as u32;
    let ttft = |engine: &EngineSample| {
        let queued = engine.queued_prompt_tokens as f64;
        model.ttft_ms(queued, engine.limits.max_tokens, engine.decode_kv_tokens as f64)
    };
    let itl = |engine: &EngineSample| model.itl_ms(engine.decode_kv_tokens as f64);
    let ttfts: Vec<f64> = engines.iter().map(ttft).collect();
    let itls: Vec<f64> = engines.iter().map(itl).collect();
    let factor = f64::from(workers) / f64::from(workers.max(2) - 1);
    let (first, gap) = match down.check {
        DownCheck::Sensitivity => (
            ttfts.iter().all(|ms| *ms < promise.ttft_ms * down.sensitivity),
            itls.iter().all(|ms| *ms < promise.itl_ms * down.sensitivity),
        ),
        DownCheck::Consolidation => {
            let at = After { model, factor, promise, sensitivity: down.sensitivity };
            (engines.iter().all(|it| at.keeps_ttft(it)), engines.iter().all(|it| at.keeps_itl(it)))
        }
    };
    let votes = [vote(&ttfts, promise.ttft_ms, first), vote(&itls, promise.itl_ms, gap)];
    let smallest = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    let (wanted, value, by_itl) = match votes {
        [Vote::More, _] => (workers + 1, smallest(&ttfts), false),
        [_, Vote::More] => (workers + 1, smallest(&itls), true),
        [Vote::Fewer, Vote::Fewer] if workers > 1 => (workers - 1, largest(&ttfts), false),
        _ => (workers, largest(&ttfts), false),
    };
    let (what, limit) = if by_itl {
        ("estimated time between tokens in ms", promise.itl_ms)
    } else {
        ("estimated time to first token in ms", promise.ttft_ms)
    };
    Decision { wanted, what, value, limit }
}

fn vote(estimates: &[f64], limit: f64, may_shrink: bool) -> Vote {
    if estimates.iter().all(|ms| *ms > limit) {
        Vote::More
    } else if may_shrink {
        Vote::Fewer
    } else {
        Vote::Keep
    }
}

/// Engines after one of them is gone.
struct After<'a> {
    model: &'a Model,
    /// By how much the others have more to do.
    factor: f64,
    promise: Promise,
    sensitivity: f64,
}

impl After<'_> {
    fn keeps_ttft(&self, engine: &EngineSample) -> bool {
        let more = |tokens: u64| (tokens as f64 * self.factor).floor();
        let (queued, kv) = (more(engine.queued_prompt_tokens), more(engine.decode_kv_tokens));
        let max_tokens = engine.limits.max_tokens;
        let own = self.model.ttft_ms(0.0, max_tokens, kv);
        let room = (self.promise.ttft_ms - own) * self.sensitivity;
        room > 0.0 && self.model.ttft_ms(queued, max_tokens, kv) - own < room
    }

    fn keeps_itl(&self, engine: &EngineSample) -> bool {
        let tokens = engine.decode_kv_tokens + engine.queued_prompt_tokens;
        let kv = (tokens as f64 * self.factor).floor();
        kv < engine.kv_tokens as f64
            && self.model.itl_ms(kv) < self.promise.itl_ms * self.sensitivity
    }
}

/// One more where any engine's KV cache, what is queued included, is fuller than `up`; one fewer
/// where all are emptier than `down`.
pub fn by_kv(engines: &[EngineSample], up: f64, down: f64) -> Decision {
    let workers = engines.len() as u32;
    let fill = |engine: &EngineSample| {
        let tokens = engine.decode_kv_tokens + engine.queued_prompt_tokens;
        tokens as f64 / engine.kv_tokens as f64
    };
    let fullest = engines.iter().map(fill).fold(0.0, f64::max);
    let (wanted, limit) = if fullest > up {
        (workers + 1, up)
    } else if workers > 1 && fullest < down {
        (workers - 1, down)
    } else {
        (workers, up)
    };
    Decision { wanted, what: "share of KV tokens in use or queued", value: fullest, limit }
}

/// Engines for `demand` requests per second where one carries `capacity`; no more than `step`
/// away from those there are.
pub fn by_traffic(demand: f64, capacity: f64, workers: u32, step: u32) -> u32 {
    let wanted = (demand / capacity).ceil() as u32;
    wanted.clamp(workers.saturating_sub(step), workers.saturating_add(step))
}

/// What a planner may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Engines at least.
    pub min_endpoint: u32,
    /// GPUs of an engine; at least 1.
    pub engine_gpus: u32,
    /// GPUs at most; negative: any number.
    pub max_gpus: i64,
    /// GPUs at least; negative: none.
    pub min_gpus: i64,
}

impl Budget {
    /// The number of engines within the budget that is closest to `wanted`: none where the least
    /// is not within it.
    pub fn fit(&self, wanted: u32) -> u32 {
        let gpus = i64::from(self.engine_gpus);
        let wanted = i64::from(wanted.max(self.min_endpoint));
        let least = i64::from(self.min_endpoint);
        if self.max_gpus >= 0 && wanted * gpus > self.max_gpus {
            return if least * gpus > self.max_gpus { 0 } else { (self.max_gpus / gpus) as u32 };
        }
        // Engines of several GPUs may not meet a least and a most exactly.
        let tolerance = if self.max_gpus >= 0 { gpus } else { 0 };
        let enough = (self.min_gpus.max(0) + gpus - 1) / gpus;
        let too_few = self.min_gpus >= 0 && wanted * gpus < self.min_gpus - tolerance;
        let possible = self.max_gpus < 0 || enough * gpus <= self.max_gpus;
        if too_few && possible { enough as u32 } else { wanted as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::tests::{engine, model};
    use super::*;

    const PROMISE: Promise = Promise { ttft_ms: 500.0, itl_ms: 50.0 };
    const DOWN: Down = Down { sensitivity: 0.8, check: DownCheck::Sensitivity };

    fn wanted(engines: &[EngineSample]) -> u32 {
        by_promise(&model(), engines, PROMISE, DOWN).wanted
    }

    #[test]
    fn one_more_where_every_first_token_is_late() {
        // 40000 queued and 1000 of its own are 21 chunks: 210 + 820 + 21 = 1051 ms.
        let late = engine(40_000, 10_000);
        let decision = by_promise(&model(), &[late, late], PROMISE, DOWN);
        assert_eq!((decision.wanted, decision.limit), (3, 500.0));
        assert!((decision.value - 1051.0).abs() < 1e-6, "{decision:?}");
        assert_eq!(wanted(&[late, engine(0, 10_000)]), 2, "one is not");
    }

    #[test]
    fn one_more_where_every_gap_is_long() {
        // 20.24 ms and 0.1 us for each of 300500.
        let slow = engine(0, 300_000);
        let decision = by_promise(&model(), &[slow], PROMISE, DOWN);
        assert_eq!((decision.wanted, decision.limit), (2, 50.0));
        assert!((decision.value - 50.29).abs() < 1e-6, "{decision:?}");
    }

    #[test]
    fn one_fewer_where_all_keep_both_promises_with_room() {
        // A gap of 40 ms, 0.8 of 50: (40 - 20.24 - 0.05) ms are 197100 tokens.
        assert_eq!(wanted(&[engine(0, 197_000); 3]), 2);
        assert_eq!(wanted(&[engine(0, 197_200); 3]), 3);
        assert_eq!(wanted(&[engine(0, 0), engine(0, 0), engine(0, 197_200)]), 3, "all");
        // A first token of 400 ms: 8 chunks without KV tokens are 80 + 320, 16000 tokens.
        assert_eq!(wanted(&[engine(14_900, 0); 3]), 2);
        assert_eq!(wanted(&[engine(15_100, 0); 3]), 3);
        assert_eq!(wanted(&[engine(0, 0)]), 1, "the last one stays");
    }

    #[test]
    fn consolidation_looks_at_those_who_stay() {
        let down = Down { check: DownCheck::Consolidation, ..DOWN };
        let wanted = |engines: &[EngineSample]| by_promise(&model(), engines, PROMISE, down).wanted;
        // Two with 98500 tokens are one with 197000, and one more is too many.
        assert_eq!(wanted(&[engine(0, 98_500); 2]), 1);
        assert_eq!(wanted(&[engine(0, 98_600); 2]), 2);
        // Of a first token of 30 ms without a queue 376 ms may be the queue's: twice 8900 queued
        // and 1000 are 10 chunks, 476 ms, of which 446 are; twice 7400 are 8 chunks, 396 ms.
        assert_eq!(wanted(&[engine(8_900, 0); 2]), 2);
        assert_eq!(wanted(&[engine(7_400, 0); 2]), 1);
        // What does not fit into the cache cannot be consolidated.
        let small = EngineSample { kv_tokens: 40_000, ..engine(0, 20_000) };
        assert_eq!(wanted(&[small; 2]), 2);
        assert_eq!(wanted(&[EngineSample { kv_tokens: 40_001, ..small }; 2]), 1);
    }

    #[test]
    fn by_kv_any_engine_asks_for_more_and_all_for_fewer() {
        let wanted = |engines: &[EngineSample]| by_kv(engines, 1.0, 0.6).wanted;
        assert_eq!(wanted(&[engine(0, 0), engine(300_000, 200_001)]), 3);
        assert_eq!(wanted(&[engine(0, 0), engine(300_000, 200_000)]), 2);
        assert_eq!(wanted(&[engine(0, 0), engine(0, 300_000)]), 2);
        assert_eq!(wanted(&[engine(0, 0), engine(0, 299_999)]), 1);
        assert_eq!(wanted(&[engine(0, 0)]), 1);
    }

    #[test]
    fn traffic_over_capacity_is_rounded_up_and_moves_8_at_most() {
        assert_eq!(by_traffic(100.0, 14.25, 6, 8), 8);
        assert_eq!(by_traffic(142.5, 14.25, 6, 8), 10);
        assert_eq!(by_traffic(1000.0, 14.25, 6, 8), 14);
        assert_eq!(by_traffic(-3.0, 14.25, 12, 8), 4);
        assert_eq!(by_traffic(0.0, 14.25, 6, 8), 0);
    }

    #[test]
    fn a_budget_counts_gpus_and_its_most_goes_before_its_least() {
        let budget = Budget { min_endpoint: 1, engine_gpus: 2, max_gpus: 8, min_gpus: -1 };
        assert_eq!([0, 3, 4, 9].map(|wanted| budget.fit(wanted)), [1, 3, 4, 4]);
        assert_eq!(Budget { max_gpus: 7, ..budget }.fit(9), 3);
        assert_eq!(Budget { max_gpus: -1, ..budget }.fit(9), 9);
        assert_eq!(Budget { min_endpoint: 5, ..budget }.fit(9), 0, "the least is too much");
        let least = Budget { max_gpus: -1, min_gpus: 7, ..budget };
        assert_eq!([1, 3, 4, 5].map(|wanted| least.fit(wanted)), [4, 4, 4, 5]);
        let band = Budget { max_gpus: 8, min_gpus: 7, ..budget };
        assert_eq!([1, 2, 3].map(|wanted| band.fit(wanted)), [4, 4, 3], "6 is close to 7");
        assert_eq!(Budget { max_gpus: 4, min_gpus: 9, ..budget }.fit(1), 1);
    }
}
