//! What a fleet costs, never without the price, its source and its date.

use super::number::usd;
use crate::policy::{PolicyBundle, Pool};

/// One line per pool: what it costs per hour, and on which price that rests.
pub fn cost_lines(bundle: &PolicyBundle) -> Vec<String> {
    bundle.pools.iter().filter(|pool| pool.instances > 0).map(pool_line).collect()
}

fn pool_line(pool: &Pool) -> String {
    let Pool { name, instances, gpus_per_instance, gpu, price_source, .. } = pool;
    let price = usd(pool.price_per_gpu_hour);
    let cost = usd(pool.cost_per_hour());
    format!(
        "{name}: {instances} x {gpus_per_instance} {gpu} at {price} per GPU-hour = {cost}/h \
         (price: {price_source})"
    )
}

/// US dollars per million tokens at a rate of tokens per second; NaN where nothing is produced.
pub fn usd_per_million_tokens(cost_per_hour: f64, tokens_per_s: f64) -> f64 {
    if tokens_per_s > 0.0 { cost_per_hour / (tokens_per_s * 3600.0) * 1e6 } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tokens_at_a_thousand_per_second_take_a_thousand_seconds() {
        assert!((usd_per_million_tokens(3.6, 1000.0) - 1.0).abs() < 1e-12);
        assert!(usd_per_million_tokens(3.6, 0.0).is_nan());
    }
}
