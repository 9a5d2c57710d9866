//! What a fleet costs, never without the price, its source and its date.

use super::number::usd;
use crate::policy::{PolicyBundle, Pool};

/// One line per pool: what it costs per hour, and on which price that rests.
pub fn cost_lines(bundle: &PolicyBundle) -> Vec<String> {
    bundle.pools.iter().filter(|pool| pool.max_instances > 0).map(pool_line).collect()
}

fn pool_line(pool: &Pool) -> String {
    let Pool { name, instances, gpus_per_instance, gpu, price_source, .. } = pool;
    let price = usd(pool.price_per_gpu_hour);
    if pool.min_instances < pool.max_instances {
        let (least, most) = (pool.min_instances, pool.max_instances);
        let each = usd(pool.instance_cost_per_hour());
        return format!(
            "{name}: {least} to {most} x {gpus_per_instance} {gpu} at {price} per GPU-hour = \
             {each}/h each; price: {price_source}"
        );
    }
    let cost = usd(pool.cost_per_hour());
    format!(
        "{name}: {instances} x {gpus_per_instance} {gpu} at {price} per GPU-hour = {cost}/h; \
         price: {price_source}"
    )
}
