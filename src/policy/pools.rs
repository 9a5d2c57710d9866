//! The pools of a policy bundle: what is not said comes from the defaults.

use super::{Pool, StartUp};
use crate::config::{
    Bounds, Defaults, Fields, KV_BLOCKS_MAX, Market, ModelQuery, ModelRow, Node, NotFound,
    Position, Problems, TENSOR_PARALLELISM_MAX, Value, read_alpha, read_beta,
};
use crate::latency::Blackbox;

/// Instances of a whole fleet.
const INSTANCES_MAX: u32 = 100_000;
/// US dollars per GPU and hour.
const PRICE_BOUNDS: Bounds = Bounds::between(0.0, 1e6);
/// The model of a pool that names none.
const DEFAULT_MODEL: &str = "meta-llama/llama-3.1-8b-instruct";
/// The pool of a bundle that has none.
const DEFAULT_POOL: &str = "default";
/// The zone of a pool that names none.
const DEFAULT_ZONE: &str = "zone-a";

/// A pool and what the warning about fitted rows needs to know of it.
struct Read {
    pool: Pool,
    at: Position,
    from_table: bool,
}

/// Reads `pools`; one pool with the default model where the bundle at `bundle_at` has none.
pub(super) fn read_pools(
    node: Option<&Node>,
    bundle_at: Position,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Option<Vec<Pool>> {
    let Some(node) = node else {
        let empty = Node { value: Value::Map(Vec::new()), at: bundle_at };
        let pool = read_pool(DEFAULT_POOL, &empty, defaults, problems)?;
        return Some(vec![pool.pool]);
    };
    let Value::Map(entries) = &node.value else {
        let message = format!("`pools` must be a map of pools by name, not {}", node.value.kind());
        problems.error(node.at, message).hint("pools: {default: {instances: 4}}");
        return None;
    };
    let read: Vec<Read> = entries
        .iter()
        .filter_map(|(key, pool)| read_pool(&key.text, pool, defaults, problems))
        .collect();
    if read.len() < entries.len() {
        return None;
    }
    let instances: u64 = read.iter().map(|read| u64::from(read.pool.instances)).sum();
    if !(1..=u64::from(INSTANCES_MAX)).contains(&instances) {
        let message = format!("a fleet has 1 to {INSTANCES_MAX} instances, not {instances}");
        problems.error(node.at, message).label("over all pools");
        return None;
    }
    warn_of_fits(&read, problems);
    Some(read.into_iter().map(|read| read.pool).collect())
}

/// Rows of the table are separate fits; what they say about different hardware is mostly noise.
fn warn_of_fits(pools: &[Read], problems: &mut Problems) {
    let mut fitted = pools.iter().filter(|read| read.from_table);
    let Some(first) = fitted.next() else { return };
    let hardware = |read: &Read| (read.pool.gpu.clone(), read.pool.gpus_per_instance);
    if let Some(other) = fitted.find(|read| hardware(read) != hardware(first)) {
        let message = format!(
            "pools `{}` and `{}` run on different hardware, and the table cannot compare it",
            first.pool.name, other.pool.name
        );
        let hint = "give `alpha` and `beta` of your own measurements for both";
        let label = "each row of the table was fitted by itself";
        problems.warning(other.at, message).label(label).hint(hint);
    }
}

fn read_pool(
    name: &str,
    node: &Node,
    defaults: &Defaults,
    problems: &mut Problems,
) -> Option<Read> {
    let errors = problems.errors();
    // `fast:` with nothing after it is a pool of defaults.
    let empty = Node { value: Value::Map(Vec::new()), at: node.at };
    let node = if node.value == Value::Null { &empty } else { node };
    let mut fields = Fields::of(node, &format!("pool `{name}`"), problems)?;
    let model = fields.text("model").unwrap_or(DEFAULT_MODEL);
    let gpu = fields.text("gpu");
    let degree = fields.u32("tensor_parallelism", 1..=TENSOR_PARALLELISM_MAX);
    let vllm_version = fields.text("vllm_version");
    let instances = fields.u32("instances", 0..=INSTANCES_MAX).unwrap_or(1);
    let kv_blocks = fields.u32("kv_blocks", 1..=KV_BLOCKS_MAX);
    let own = read_own_coefficients(&mut fields);
    let query = ModelQuery { model, gpu, tensor_parallelism: degree, vllm_version };
    let complete = own.is_some() && kv_blocks.is_some();
    let row = find_row(&query, complete, defaults, &mut fields);
    let gpu = gpu.or(row.map(|row| row.gpu.as_str()));
    let market = fields.one_of("market", &Market::ALL).unwrap_or(Market::OnDemand);
    let price = read_price(gpu, market, defaults, &mut fields);
    if complete && row.is_none() {
        fields.require(&["gpu", "tensor_parallelism"]);
    }
    fields.finish();
    if problems.errors() > errors {
        return None;
    }
    let (price_per_gpu_hour, price_source) = price?;
    let pool = Pool {
        name: name.to_owned(),
        model: row.map_or(model, |row| &row.model).to_owned(),
        gpu: row.map_or(gpu, |row| Some(row.gpu.as_str()))?.to_owned(),
        gpus_per_instance: degree.or(row.map(|row| row.tensor_parallelism))?,
        instances,
        kv_blocks: kv_blocks.or(row.map(|row| row.kv_blocks))?,
        latency: own.or(row.map(|row| Blackbox { alpha: row.alpha, beta: row.beta }))?,
        price_per_gpu_hour,
        price_source,
        min_instances: instances,
        max_instances: instances,
        market,
        zones: vec![DEFAULT_ZONE.to_owned()],
        start_up: StartUp::default(),
    };
    Some(Read { pool, at: node.at, from_table: own.is_none() })
}

/// `alpha` and `beta`, where the pool brings both.
fn read_own_coefficients(fields: &mut Fields) -> Option<Blackbox> {
    let given = [fields.node("alpha").is_some(), fields.node("beta").is_some()];
    if given == [true, false] || given == [false, true] {
        let key = if given[0] { "alpha" } else { "beta" };
        fields.error(key, "`alpha` and `beta` go together").label("the other one is missing");
        return None;
    }
    let (alpha, beta) = (read_alpha(fields), read_beta(fields));
    Some(Blackbox { alpha: alpha?, beta: beta? })
}

/// The row of the table; that there is none is a problem unless the pool brings everything
/// (`complete`) that the row would give.
fn find_row<'d>(
    query: &ModelQuery,
    complete: bool,
    defaults: &'d Defaults,
    fields: &mut Fields,
) -> Option<&'d ModelRow> {
    match defaults.row(query) {
        Ok(row) => Some(row),
        Err(_) if complete => None,
        Err(miss) => {
            report(miss, fields);
            None
        }
    }
}

/// US dollars per GPU and hour, and where that comes from.
fn read_price(
    gpu: Option<&str>,
    market: Market,
    defaults: &Defaults,
    fields: &mut Fields,
) -> Option<(f64, String)> {
    let provider = fields.text("provider");
    if fields.node("price_per_gpu_hour").is_some() {
        let price = fields.f64("price_per_gpu_hour", PRICE_BOUNDS)?;
        return Some((price, format!("set in the policy, {}", market.name())));
    }
    match defaults.price(gpu?, market, provider) {
        Ok(price) => Some((price.usd_per_gpu_hour, price.describe())),
        Err(miss) => {
            report(miss, fields);
            None
        }
    }
}

fn report(miss: NotFound, fields: &mut Fields) {
    fields.error(miss.key, miss.message).label("not in the table").hint(miss.hint);
}
