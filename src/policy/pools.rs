//! The pools of a policy bundle: what is not said comes from the defaults.

use super::Pool;
use super::start_up::read_start_up;
use crate::config::{
    Bounds, Defaults, Fields, KV_BLOCKS_MAX, Market, ModelQuery, ModelRow, Node, NotFound,
    Position, Problems, TENSOR_PARALLELISM_MAX, Value, read_alpha, read_beta, read_text,
};
use crate::latency::Blackbox;

/// Places for instances of a whole fleet.
const INSTANCES_MAX: u32 = 100_000;
/// US dollars per GPU and hour.
const PRICE_BOUNDS: Bounds = Bounds::between(0.0, 1e6);
/// The model of a pool that names none.
const DEFAULT_MODEL: &str = "meta-llama/llama-3.1-8b-instruct";
/// The pool of a bundle that has none.
const DEFAULT_POOL: &str = "default";
/// The zone of a pool that names none.
const DEFAULT_ZONE: &str = "zone-a";
/// The most zones of a pool.
const ZONES_MAX: usize = 1000;
/// Pipeline stages of an instance.
const PIPELINE_PARALLELISM_MAX: u32 = 64;
/// How KV entries are kept, with the tokens that fit into the room of one at 16 bits.
const KV_DTYPES: [(&str, u32); 4] = [("fp16", 1), ("fp8", 2), ("int8", 2), ("int4", 4)];

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
    let places: u64 = read.iter().map(|read| u64::from(read.pool.max_instances)).sum();
    if !(1..=u64::from(INSTANCES_MAX)).contains(&places) {
        let message = format!("a fleet has 1 to {INSTANCES_MAX} instances, not {places}");
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
    let stages = fields.u32("pipeline_parallelism", 1..=PIPELINE_PARALLELISM_MAX).unwrap_or(1);
    let vllm_version = fields.text("vllm_version");
    let counts = read_counts(&mut fields);
    let own_blocks = fields.u32("kv_blocks", 1..=KV_BLOCKS_MAX);
    let per_block = read_kv_dtype(&mut fields);
    let own = read_own_coefficients(&mut fields);
    let query = ModelQuery { model, gpu, tensor_parallelism: degree, vllm_version };
    let complete = own.is_some() && own_blocks.is_some();
    let row = match stages {
        1 => find_row(&query, complete, defaults, &mut fields),
        _ => refuse_stages(complete, &mut fields),
    };
    let gpu = gpu.or(row.map(|row| row.gpu.as_str()));
    let market = fields.one_of("market", &Market::ALL).unwrap_or(Market::OnDemand);
    let price = read_price(gpu, market, defaults, &mut fields);
    let zones = read_zones(&mut fields);
    let start_up = read_start_up(&mut fields, defaults);
    if complete && row.is_none() {
        fields.require(&["gpu", "tensor_parallelism"]);
    }
    fields.finish();
    if problems.errors() > errors {
        return None;
    }
    let (price_per_gpu_hour, price_source) = price?;
    let of_table = |row: &ModelRow| row.kv_blocks.saturating_mul(per_block).min(KV_BLOCKS_MAX);
    let pool = Pool {
        name: name.to_owned(),
        model: row.map_or(model, |row| &row.model).to_owned(),
        gpu: row.map_or(gpu, |row| Some(row.gpu.as_str()))?.to_owned(),
        gpus_per_instance: stages * degree.or(row.map(|row| row.tensor_parallelism))?,
        instances: counts.instances,
        min_instances: counts.min,
        max_instances: counts.max,
        kv_blocks: own_blocks.or(row.map(of_table))?,
        latency: own.or(row.map(|row| Blackbox { alpha: row.alpha, beta: row.beta }))?,
        price_per_gpu_hour,
        price_source,
        market,
        zones: zones?,
        start_up: start_up?,
    };
    Some(Read { pool, at: node.at, from_table: own.is_none() })
}

/// How many instances a pool has.
struct Counts {
    instances: u32,
    min: u32,
    max: u32,
}

/// `instances`, `min_instances` and `max_instances`: each of the bounds is the number at the start
/// where it is not given.
fn read_counts(fields: &mut Fields) -> Counts {
    let mut count = |key| fields.u32(key, 0..=INSTANCES_MAX);
    let (instances, min, max) =
        (count("instances"), count("min_instances"), count("max_instances"));
    let instances = instances.or(min).unwrap_or_else(|| max.unwrap_or(1).min(1));
    let counts = Counts { instances, min: min.unwrap_or(instances), max: max.unwrap_or(instances) };
    let above = |low: u32, high: u32| format!("{low} is above {high}");
    if let Some(min) = min.filter(|min| *min > instances) {
        let message = "`min_instances` must not be above `instances`";
        fields.error("min_instances", message).label(above(min, instances));
    }
    if let Some(max) = max.filter(|max| *max < instances) {
        let message = "`instances` must not be above `max_instances`";
        fields.error("max_instances", message).label(above(instances, max));
    }
    counts
}

/// How many tokens fit where the table has one: its blocks are those of 16 bits.
fn read_kv_dtype(fields: &mut Fields) -> u32 {
    let Some(per_block) = fields.one_of("kv_dtype", &KV_DTYPES) else { return 1 };
    let own_blocks = fields.node("kv_blocks").is_some();
    if let Some(at) = fields.node("kv_dtype").map(|node| node.at).filter(|_| own_blocks) {
        let message = "`kv_dtype` has no effect beside `kv_blocks`";
        fields.problems().warning(at, message).label("the blocks are counted already");
    }
    per_block
}

/// Pipeline stages have no row: the pool must bring all that one would give (`complete`).
fn refuse_stages(complete: bool, fields: &mut Fields) -> Option<&'static ModelRow> {
    if !complete {
        let message = "no coefficients are known for `pipeline_parallelism` above 1";
        fields
            .error("pipeline_parallelism", message)
            .label("not in the table")
            .hint("give `alpha`, `beta` and `kv_blocks` of your own measurements");
    }
    None
}

/// The zones, distinct.
fn read_zones(fields: &mut Fields) -> Option<Vec<String>> {
    let Some(items) = fields.list("zones") else {
        return fields.node("zones").is_none().then(|| vec![DEFAULT_ZONE.to_owned()]);
    };
    if items.is_empty() || items.len() > ZONES_MAX {
        let message = format!("a pool has from 1 to {ZONES_MAX} zones, not {}", items.len());
        fields.error("zones", message);
        return None;
    }
    let mut zones: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let zone = read_text(item, "a zone", fields.problems())?;
        if zone.is_empty() || zones.iter().any(|known| known == zone) {
            let message = if zone.is_empty() {
                "a zone needs a name".to_owned()
            } else {
                format!("zone `{zone}` appears twice")
            };
            fields.problems().error(item.at, message).hint("the zones of a pool are distinct");
            return None;
        }
        zones.push(zone.to_owned());
    }
    Some(zones)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Delay, Span};
    use crate::config::parse;
    use crate::policy::StartUp;

    fn read(pools: &str) -> (Option<Vec<Pool>>, Vec<String>) {
        let mut problems = Problems::new();
        let node = parse("x.yaml", pools, &mut problems).expect("valid YAML");
        let read = read_pools(Some(&node), node.at, Defaults::embedded(), &mut problems);
        assert_eq!(read.is_none(), problems.has_errors(), "{}", problems.render(false));
        (read, problems.list().iter().map(|problem| problem.message.clone()).collect())
    }

    fn accepted(keys: &str) -> Pool {
        let (pools, messages) = read(&format!("a: {{{keys}}}"));
        assert_eq!(messages, Vec::<String>::new(), "{keys}");
        pools.expect("no problem").remove(0)
    }

    fn refused(keys: &str) -> String {
        let (pools, mut messages) = read(&format!("a: {{{keys}}}"));
        assert_eq!(pools, None, "{keys}");
        messages.remove(0)
    }

    fn counts(keys: &str) -> [u32; 3] {
        let pool = accepted(keys);
        [pool.min_instances, pool.instances, pool.max_instances]
    }

    #[test]
    fn bounds_that_are_not_given_are_the_number_at_the_start() {
        assert_eq!(counts("instances: 4"), [4, 4, 4]);
        assert_eq!(counts("instances: 4, max_instances: 9"), [4, 4, 9]);
        assert_eq!(counts("instances: 4, min_instances: 0"), [0, 4, 4]);
        assert_eq!(counts("min_instances: 3, max_instances: 9"), [3, 3, 9]);
        assert_eq!(counts("max_instances: 9"), [1, 1, 9]);
        assert_eq!(counts("instances: 0, max_instances: 9"), [0, 0, 9]);
    }

    #[test]
    fn a_start_outside_its_bounds_names_both_keys() {
        let above = "`min_instances` must not be above `instances`";
        assert_eq!(refused("instances: 4, min_instances: 5"), above);
        let above = "`instances` must not be above `max_instances`";
        assert_eq!(refused("instances: 4, max_instances: 3"), above);
        assert_eq!(refused("instances: 0"), "a fleet has 1 to 100000 instances, not 0");
        assert_eq!(refused("max_instances: 0"), "a fleet has 1 to 100000 instances, not 0");
    }

    #[test]
    fn zones_are_distinct_and_there_is_one_by_default() {
        assert_eq!(accepted("").zones, ["zone-a"]);
        assert_eq!(accepted("zones: [east, west]").zones, ["east", "west"]);
        assert_eq!(refused("zones: [east, east]"), "zone `east` appears twice");
        assert_eq!(refused("zones: ['']"), "a zone needs a name");
        assert_eq!(refused("zones: []"), "a pool has from 1 to 1000 zones, not 0");
        assert_eq!(refused("zones: east"), "`zones` must be a list, not text");
    }

    #[test]
    fn a_start_is_a_name_a_delay_or_its_stages() {
        let seconds = |s: u64| Delay::Constant(Span::from_us(s * 1_000_000));
        assert_eq!(accepted("").start_up, StartUp::default());
        assert_eq!(accepted("start_up: document").start_up, StartUp::default());
        let whole = |keys: &str| accepted(keys).start_up.mean().as_secs();
        for (name, mean) in [
            ("document", 90.0),
            ("wva", 270.0),
            ("blis-wva", 240.0),
            ("sageserve", 155.0),
            ("vllm-small", 59.0),
            ("vllm-70b-fp8-tp8", 215.0),
            ("vllm-35b-nvfp4", 277.0),
        ] {
            assert_eq!(whole(&format!("start_up: {name}")), mean, "{name}");
        }
        assert_eq!(accepted("start_up: 2m").start_up.loading, seconds(120));
        assert_eq!(whole("start_up: {uniform: [10s, 30s]}"), 20.0);
        let staged = accepted("start_up: {provisioning: 300s, warm_up: 15s}").start_up;
        let [provisioning, warm_up] = [seconds(300), seconds(15)];
        assert_eq!(staged, StartUp { provisioning, loading: Delay::NONE, warm_up });
        assert_eq!(refused("start_up: vlm-small"), "no start-up is known as `vlm-small`");
        assert_eq!(refused("start_up: 90"), "`start_up` needs a unit");
        assert_eq!(refused("start_up: 90parsecs"), "`start_up` must be a length of time, not text");
        assert_eq!(refused("start_up: {warmup: 9s}"), "unknown key `warmup` in `start_up`");
    }

    #[test]
    fn smaller_kv_entries_leave_room_for_more_blocks() {
        let blocks = |keys: &str| accepted(keys).kv_blocks;
        assert_eq!(blocks("kv_dtype: fp16"), 66_069);
        assert_eq!(blocks("kv_dtype: fp8"), 2 * 66_069);
        assert_eq!(blocks("kv_dtype: int8"), 2 * 66_069);
        assert_eq!(blocks("kv_dtype: int4"), 4 * 66_069);
        let (pools, warned) = read("a: {kv_dtype: int4, kv_blocks: 100}");
        assert_eq!(pools.expect("a warning is none")[0].kv_blocks, 100);
        assert_eq!(warned, ["`kv_dtype` has no effect beside `kv_blocks`"]);
        assert_eq!(refused("kv_dtype: fp4"), "`kv_dtype` cannot be `fp4`");
    }

    #[test]
    fn pipeline_stages_need_coefficients_of_their_own() {
        let own = "alpha: [1, 2, 3], beta: [4, 5, 6], kv_blocks: 100, gpu: H100";
        let pool = accepted(&format!("{own}, tensor_parallelism: 4, pipeline_parallelism: 2"));
        assert_eq!((pool.gpus_per_instance, pool.kv_blocks), (8, 100));
        assert_eq!(accepted("pipeline_parallelism: 1").gpus_per_instance, 2);
        let unknown = "no coefficients are known for `pipeline_parallelism` above 1";
        assert_eq!(refused("pipeline_parallelism: 2"), unknown);
        let incomplete = refused(&format!("{own}, pipeline_parallelism: 2"));
        assert_eq!(incomplete, "pool `a` needs `tensor_parallelism`");
    }
}
