//! `defaults.yaml`, read.

use super::defaults::{
    Defaults, Market, ModelHardware, ModelRow, Preset, PresetLengths, Price, StartUpRow,
};
use super::{Bounds, Fields, Key, Node, Problems, parse, read_f64, read_stages};

/// The largest KV cache of one instance, in blocks.
pub const KV_BLOCKS_MAX: u32 = 1 << 30;
/// The most GPUs of one instance.
pub const TENSOR_PARALLELISM_MAX: u32 = 1024;
/// The longest prompt or answer of a preset, in tokens.
const TOKENS_MAX: u32 = 1 << 24;
/// Microseconds that do not depend on tokens; far above any fit, far below the clock's range.
const CONSTANT_MAX: Bounds = Bounds::between(0.0, 1e8);
/// Microseconds per token.
const PER_TOKEN_MAX: Bounds = Bounds::between(0.0, 1e5);
/// US dollars per GPU and hour.
const PRICE_BOUNDS: Bounds = Bounds::between(0.0, 1e6);

impl Defaults {
    /// The embedded defaults with the file `text` laid over them: its rows and prices come first,
    /// its default hardware, workloads and starts replace those of the same name. `None` where
    /// something is wrong with it.
    pub fn read(file: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        let errors = problems.errors();
        let mut defaults = Self::default();
        if let Some(root) = parse(file, text, problems) {
            read_into(&root, &mut defaults, problems);
        }
        (problems.errors() == errors).then(|| defaults.over(Self::embedded()))
    }

    fn over(mut self, below: &Self) -> Self {
        self.models.extend(below.models.iter().cloned());
        self.prices.extend(below.prices.iter().cloned());
        self.hardware.extend(below.hardware.iter().cloned());
        self.presets.extend(below.presets.iter().cloned());
        self.start_ups.extend(below.start_ups.iter().cloned());
        self
    }
}

/// Reads defaults that are known to be right. Panics where they are not, a bug in the package.
pub(super) fn read_alone(file: &str, text: &str) -> Defaults {
    let mut problems = Problems::new();
    let mut defaults = Defaults::default();
    if let Some(root) = parse(file, text, &mut problems) {
        read_into(&root, &mut defaults, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.render(false));
    defaults
}

fn read_into(root: &Node, defaults: &mut Defaults, problems: &mut Problems) {
    let Some(mut fields) = Fields::of(root, "the defaults", problems) else { return };
    for (key, node) in fields.map("defaults").unwrap_or_default() {
        defaults.hardware.extend(read_hardware(key, node, fields.problems()));
    }
    for (key, node) in fields.map("workloads").unwrap_or_default() {
        defaults.presets.extend(read_preset(key, node, fields.problems()));
    }
    for (key, node) in fields.map("start_up").unwrap_or_default() {
        defaults.start_ups.extend(read_start_up(key, node, fields.problems()));
    }
    for node in fields.list("prices").unwrap_or_default() {
        defaults.prices.extend(read_price(node, fields.problems()));
    }
    for node in fields.list("models").unwrap_or_default() {
        defaults.models.extend(read_row(node, fields.problems()));
    }
    fields.finish();
}

fn read_hardware(key: &Key, node: &Node, problems: &mut Problems) -> Option<ModelHardware> {
    let mut fields = Fields::of(node, &format!("the default of `{}`", key.text), problems)?;
    fields.require(&["gpu", "tensor_parallelism", "vllm_version"]);
    let gpu = fields.text("gpu");
    let degree = fields.u32("tensor_parallelism", 1..=TENSOR_PARALLELISM_MAX);
    let version = fields.text("vllm_version");
    fields.finish();
    Some(ModelHardware {
        model: key.text.to_lowercase(),
        gpu: gpu?.to_owned(),
        tensor_parallelism: degree?,
        vllm_version: version?.to_owned(),
    })
}

fn read_preset(key: &Key, node: &Node, problems: &mut Problems) -> Option<Preset> {
    let mut fields = Fields::of(node, &format!("workload `{}`", key.text), problems)?;
    let prompt = fields.required("prompt");
    let output = fields.required("output");
    let prompt = prompt.and_then(|node| read_lengths(node, "`prompt`", fields.problems()));
    let output = output.and_then(|node| read_lengths(node, "`output`", fields.problems()));
    fields.finish();
    Some(Preset { name: key.text.clone(), prompt: prompt?, output: output? })
}

fn read_start_up(key: &Key, node: &Node, problems: &mut Problems) -> Option<StartUpRow> {
    let mut fields = Fields::of(node, &format!("start-up `{}`", key.text), problems)?;
    fields.require(&["date", "source"]);
    let date = fields.text("date");
    let source = fields.text("source");
    let stages = read_stages(&mut fields);
    fields.finish();
    Some(StartUpRow {
        name: key.text.clone(),
        stages: stages?,
        date: date?.to_owned(),
        source: source?.to_owned(),
    })
}

fn read_lengths(node: &Node, what: &str, problems: &mut Problems) -> Option<PresetLengths> {
    let mut fields = Fields::of(node, what, problems)?;
    fields.require(&["mean", "std_dev", "min", "max"]);
    let bounds = Bounds::between(0.0, f64::from(TOKENS_MAX));
    let mean = fields.f64("mean", bounds);
    let std_dev = fields.f64("std_dev", bounds);
    let min = fields.u32("min", 1..=TOKENS_MAX);
    let max = fields.u32("max", 1..=TOKENS_MAX);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        fields.error("min", format!("{what} is empty: `min` {min} is above `max` {max}"));
    }
    fields.finish();
    Some(PresetLengths { mean: mean?, std_dev: std_dev?, min: min?, max: max? })
}

fn read_price(node: &Node, problems: &mut Problems) -> Option<Price> {
    let mut fields = Fields::of(node, "a price", problems)?;
    fields.require(&["gpu", "provider", "market", "usd_per_gpu_hour", "date", "source"]);
    let gpu = fields.text("gpu");
    let provider = fields.text("provider");
    let market = fields.one_of("market", &Market::ALL);
    let usd = fields.f64("usd_per_gpu_hour", PRICE_BOUNDS);
    let date = fields.text("date");
    let source = fields.text("source");
    fields.finish();
    Some(Price {
        gpu: gpu?.to_owned(),
        provider: provider?.to_owned(),
        market: market?,
        usd_per_gpu_hour: usd?,
        date: date?.to_owned(),
        source: source?.to_owned(),
    })
}

fn read_row(node: &Node, problems: &mut Problems) -> Option<ModelRow> {
    let mut fields = Fields::of(node, "a model row", problems)?;
    fields.require(&["model", "gpu", "tensor_parallelism", "kv_blocks", "alpha", "beta"]);
    let model = fields.text("model");
    let gpu = fields.text("gpu");
    let degree = fields.u32("tensor_parallelism", 1..=TENSOR_PARALLELISM_MAX);
    let version = fields.text("vllm_version").unwrap_or_default();
    let kv_blocks = fields.u32("kv_blocks", 1..=KV_BLOCKS_MAX);
    let fit_loss = fields.f64("fit_loss", Bounds::NON_NEGATIVE).unwrap_or_default();
    let alpha = read_alpha(&mut fields);
    let beta = read_beta(&mut fields);
    fields.finish();
    Some(ModelRow {
        model: model?.to_lowercase(),
        gpu: gpu?.to_owned(),
        tensor_parallelism: degree?,
        vllm_version: version.to_owned(),
        alpha: alpha?,
        beta: beta?,
        kv_blocks: kv_blocks?,
        fit_loss,
    })
}

/// Reads `alpha`: alpha0 and alpha2 in microseconds, alpha1 in microseconds per token.
pub fn read_alpha(fields: &mut Fields) -> Option<[f64; 3]> {
    read_three(fields, "alpha", [CONSTANT_MAX, PER_TOKEN_MAX, CONSTANT_MAX])
}

/// Reads `beta`: beta0 in microseconds, beta1 and beta2 in microseconds per token, not all zero.
pub fn read_beta(fields: &mut Fields) -> Option<[f64; 3]> {
    let beta = read_three(fields, "beta", [CONSTANT_MAX, PER_TOKEN_MAX, PER_TOKEN_MAX])?;
    if beta.iter().sum::<f64>() > 0.0 {
        return Some(beta);
    }
    fields.error("beta", "`beta` is all zero").label("a step would take no time");
    None
}

fn read_three(fields: &mut Fields, key: &'static str, bounds: [Bounds; 3]) -> Option<[f64; 3]> {
    let items = fields.list(key)?;
    if items.len() != 3 {
        let message = format!("`{key}` needs 3 numbers, not {}", items.len());
        fields.error(key, message).label("three coefficients");
        return None;
    }
    let mut numbers = [Some(0.0); 3];
    for (index, number) in numbers.iter_mut().enumerate() {
        let what = format!("`{key}[{index}]`");
        *number = read_f64(&items[index], &what, bounds[index], fields.problems());
    }
    let [Some(first), Some(second), Some(third)] = numbers else { return None };
    Some([first, second, third])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ModelQuery;

    const TABLE: &str = "../shared/reference/blackbox-coefficients.csv";

    #[test]
    fn every_row_is_the_row_of_the_reference_with_corrected_capacity() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
        let Ok(table) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is not there", path.display());
            return;
        };
        let defaults = Defaults::embedded();
        let rows: Vec<&str> = table.lines().skip(1).collect();
        assert_eq!(defaults.models.len(), rows.len());
        for (row, line) in defaults.models.iter().zip(rows) {
            compare(defaults, row, &line.split(',').collect::<Vec<_>>());
        }
    }

    fn compare(defaults: &Defaults, row: &ModelRow, cells: &[&str]) {
        let number = |cell: usize| cells[cell].parse::<f64>().expect("a number").to_bits();
        assert_eq!([&*row.model, &*row.gpu], cells[1..3]);
        assert_eq!(row.tensor_parallelism.to_string(), cells[3]);
        assert_eq!(row.vllm_version, cells[4]);
        assert_eq!(row.alpha.map(f64::to_bits), [number(5), number(6), number(7)]);
        assert_eq!(row.beta.map(f64::to_bits), [number(8), number(9), number(10)]);
        let table_blocks: u32 = cells[11].parse().expect("a count");
        assert_eq!(row.kv_blocks, table_blocks / row.tensor_parallelism);
        assert_eq!(row.fit_loss.to_bits(), number(12));
        let query = ModelQuery {
            model: &row.model,
            gpu: Some(&row.gpu),
            tensor_parallelism: Some(row.tensor_parallelism),
            vllm_version: Some(&row.vllm_version),
        };
        let found = defaults.row(&query).expect("in the table");
        assert_eq!(std::ptr::eq(found, row), cells[13] == "1", "first match: {row:?}");
        let is_default = defaults.hardware.iter().any(|hardware| {
            hardware.model == row.model
                && hardware.gpu == row.gpu
                && hardware.tensor_parallelism == row.tensor_parallelism
        });
        assert_eq!(is_default && cells[13] == "1", cells[14] == "1", "default: {row:?}");
    }

    #[test]
    fn a_file_of_the_user_goes_first() {
        let text = "prices:\n  - {gpu: H100, provider: mine, market: on-demand, \
                    usd_per_gpu_hour: 1, date: today, source: contract}\n\
                    defaults:\n  microsoft/phi-4: {gpu: H100, tensor_parallelism: 1, \
                    vllm_version: \"vllm/vllm-openai:v0.8.4\"}\n";
        let mut problems = Problems::new();
        let defaults = Defaults::read("mine.yaml", text, &mut problems).expect("valid");
        let price = defaults.price("H100", Market::OnDemand, None).expect("a price");
        assert_eq!(price.provider, "mine");
        let query = ModelQuery { model: "phi-4", ..ModelQuery::default() };
        assert_eq!(defaults.row(&query).expect("a row").tensor_parallelism, 1);
        assert!(defaults.preset("chatbot").is_some());
    }

    #[test]
    fn a_wrong_file_is_refused_with_all_its_problems() {
        let text = "prices:\n  - {gpu: H100, market: weekly, usd_per_gpu_hour: -1}\n\
                    models:\n  - {model: x, gpu: y, tensor_parallelism: 0, kv_blocks: 1, \
                    alpha: [1, 2], beta: [0, 0, 0]}\nmodel: []\n";
        let mut problems = Problems::new();
        assert!(Defaults::read("mine.yaml", text, &mut problems).is_none());
        assert_eq!(problems.errors(), 9, "{}", problems.render(false));
    }
}
