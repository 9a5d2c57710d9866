//! What is known about models, workloads and prices without being told: `defaults.yaml`.

use std::sync::OnceLock;

use super::{did_you_mean, nearest};
use crate::base::Delay;

/// The text of the embedded `defaults.yaml`.
const EMBEDDED: &str = include_str!("../../defaults.yaml");

/// Models, workload presets and prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Coefficients and capacity; the first row that matches wins.
    pub models: Vec<ModelRow>,
    /// Where a model runs when a policy does not say.
    pub hardware: Vec<ModelHardware>,
    /// Named workloads.
    pub presets: Vec<Preset>,
    /// Prices; the first row of a GPU type and market is its default.
    pub prices: Vec<Price>,
    /// Named starts of an instance; the first of a name wins.
    pub start_ups: Vec<StartUpRow>,
}

/// How fast a model is on some hardware, and how much it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRow {
    /// The model's full identifier, lower case.
    pub model: String,
    /// The GPU type.
    pub gpu: String,
    /// GPUs per instance.
    pub tensor_parallelism: u32,
    /// The engine's version.
    pub vllm_version: String,
    /// alpha0, alpha1, alpha2 of the blackbox model, in microseconds.
    pub alpha: [f64; 3],
    /// beta0, beta1, beta2 of the blackbox model, in microseconds.
    pub beta: [f64; 3],
    /// KV blocks of one instance, of 16 tokens.
    pub kv_blocks: u32,
    /// The loss of the fit as its authors report it.
    pub fit_loss: f64,
}

/// Where a model runs when a policy does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHardware {
    /// The model's full identifier, lower case.
    pub model: String,
    /// The GPU type.
    pub gpu: String,
    /// GPUs per instance.
    pub tensor_parallelism: u32,
    /// The engine's version.
    pub vllm_version: String,
}

/// A named workload: lengths in tokens of prompts and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// Prompt lengths.
    pub prompt: PresetLengths,
    /// Answer lengths.
    pub output: PresetLengths,
}

/// Lengths in tokens: normal, rounded, clamped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PresetLengths {
    /// Mean before clamping.
    pub mean: f64,
    /// Standard deviation before clamping.
    pub std_dev: f64,
    /// The shortest; at least 1.
    pub min: u32,
    /// The longest.
    pub max: u32,
}

/// How a GPU is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Market {
    /// Kept as long as it is paid.
    OnDemand,
    /// Cheaper; can be taken away.
    Spot,
}

impl Market {
    /// Every market, with its name in a file.
    pub const ALL: [(&'static str, Self); 2] =
        [("on-demand", Self::OnDemand), ("spot", Self::Spot)];

    /// Its name in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        }
    }
}

/// What a GPU costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// The GPU type.
    pub gpu: String,
    /// Who asks this price.
    pub provider: String,
    /// How it is paid for.
    pub market: Market,
    /// US dollars per GPU and hour.
    pub usd_per_gpu_hour: f64,
    /// When the price was seen.
    pub date: String,
    /// Where the price was seen.
    pub source: String,
}

impl Price {
    /// Provider, market, source and date in one line, as reports print it.
    pub fn describe(&self) -> String {
        format!("{}, {} ({}; {})", self.provider, self.market.name(), self.source, self.date)
    }
}

/// How long a new instance takes until it serves, as somebody measured or published it.
#[derive(Clone, Debug, PartialEq)]
pub struct StartUpRow {
    /// Its name.
    pub name: String,
    /// Provisioning, loading and warm-up, one after the other.
    pub stages: [Delay; 3],
    /// When the figure was seen.
    pub date: String,
    /// Where the figure was seen.
    pub source: String,
}

/// What is asked of the table of models; what is `None` is filled from the model's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelQuery<'q> {
    /// Full identifier or the part after the `/`, in any case.
    pub model: &'q str,
    /// GPU type, in any case.
    pub gpu: Option<&'q str>,
    /// GPUs per instance.
    pub tensor_parallelism: Option<u32>,
    /// The engine's version.
    pub vllm_version: Option<&'q str>,
}

/// Why a lookup found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// The key of a policy that is to blame.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Defaults {
    /// The defaults in the binary.
    pub fn embedded() -> &'static Self {
        static DEFAULTS: OnceLock<Defaults> = OnceLock::new();
        DEFAULTS.get_or_init(|| super::defaults_read::read_alone("defaults.yaml", EMBEDDED))
    }

    /// The row that `query` names: the first that matches.
    ///
    /// # Errors
    /// Where the model is unknown, or known but not on this hardware.
    pub fn row(&self, query: &ModelQuery) -> Result<&ModelRow, NotFound> {
        let model = self.model_name(query.model).ok_or_else(|| self.no_model(query.model))?;
        let default = self.hardware.iter().find(|hardware| hardware.model == model);
        let gpu = query.gpu.or(default.map(|d| d.gpu.as_str()));
        let degree = query.tensor_parallelism.or(default.map(|d| d.tensor_parallelism));
        let version = query.vllm_version.or(default.map(|d| d.vllm_version.as_str()));
        let (Some(gpu), Some(degree)) = (gpu, degree) else {
            let key = if gpu.is_none() { "gpu" } else { "tensor_parallelism" };
            let message = format!("`{model}` has no default `{key}`");
            return Err(NotFound { key, message, hint: self.choices(model) });
        };
        let row = self.models.iter().find(|row| {
            row.model == model
                && row.gpu.eq_ignore_ascii_case(gpu)
                && row.tensor_parallelism == degree
                && version.is_none_or(|version| row.vllm_version == version)
        });
        row.ok_or_else(|| self.no_hardware(model, gpu, degree, version))
    }

    /// The full identifier of a model, given with or without its organisation, in any case.
    pub fn model_name(&self, model: &str) -> Option<&str> {
        let full = |name: &&str| name.eq_ignore_ascii_case(model);
        let short = |name: &&str| {
            name.split_once('/').is_some_and(|(_, short)| short.eq_ignore_ascii_case(model))
        };
        let names = || self.models.iter().map(|row| row.model.as_str());
        names().find(full).or_else(|| names().find(short))
    }

    /// The price of a GPU of type `gpu`, in any case: of `provider` where one is given, else the
    /// default.
    ///
    /// # Errors
    /// Where no such price is known.
    pub fn price(
        &self,
        gpu: &str,
        market: Market,
        provider: Option<&str>,
    ) -> Result<&Price, NotFound> {
        let of_gpu = || self.prices.iter().filter(|price| price.gpu.eq_ignore_ascii_case(gpu));
        let asked = |price: &&Price| {
            price.market == market && provider.is_none_or(|name| price.provider == name)
        };
        if let Some(price) = of_gpu().find(asked) {
            return Ok(price);
        }
        let from = provider.map(|name| format!(" from `{name}`")).unwrap_or_default();
        let message = format!("no {} price is known for `{gpu}`{from}", market.name());
        let hint = match (of_gpu().next(), provider) {
            (Some(_), Some(name)) => did_you_mean(name, providers(of_gpu(), market)),
            _ => "set `price_per_gpu_hour`".to_owned(),
        };
        let key = if provider.is_some() { "provider" } else { "price_per_gpu_hour" };
        Err(NotFound { key, message, hint })
    }

    /// The workload preset `name`.
    pub fn preset(&self, name: &str) -> Option<&Preset> {
        self.presets.iter().find(|preset| preset.name == name)
    }

    fn no_model(&self, model: &str) -> NotFound {
        let names = || self.models.iter().map(|row| row.model.as_str());
        let wanted = model.to_lowercase();
        let by_short_name = nearest(&wanted, names().map(after_slash));
        let by_short_name = by_short_name.and_then(|short| self.model_name(short));
        let near = nearest(&wanted, names()).or(by_short_name);
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give `alpha`, `beta` and `kv_blocks` for a model of your own".to_owned(),
        };
        NotFound { key: "model", message: format!("no coefficients for model `{model}`"), hint }
    }

    fn no_hardware(&self, model: &str, gpu: &str, degree: u32, version: Option<&str>) -> NotFound {
        let rows = || self.models.iter().filter(|row| row.model == model);
        let on_gpu = || rows().filter(|row| row.gpu.eq_ignore_ascii_case(gpu));
        let version_text = version.map(|v| format!(" under `{v}`")).unwrap_or_default();
        let key = if on_gpu().next().is_none() {
            "gpu"
        } else if on_gpu().all(|row| row.tensor_parallelism != degree) {
            "tensor_parallelism"
        } else {
            "vllm_version"
        };
        let where_ = format!("`{gpu}` with tensor parallelism {degree}");
        let end = if key == "vllm_version" { version_text.as_str() } else { "" };
        let message = format!("no coefficients for `{model}` on {where_}{end}");
        NotFound { key, message, hint: self.choices(model) }
    }

    /// The hardware that is known for `model`, as a hint.
    fn choices(&self, model: &str) -> String {
        let mut choices: Vec<String> = Vec::new();
        for row in self.models.iter().filter(|row| row.model == model) {
            let choice = format!("{} with {}", row.gpu, row.tensor_parallelism);
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        format!("known are {}", choices.join(", "))
    }
}

fn after_slash(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, short)| short)
}

fn providers<'p>(
    prices: impl Iterator<Item = &'p Price>,
    market: Market,
) -> impl Iterator<Item = &'p str> {
    prices.filter(move |price| price.market == market).map(|price| price.provider.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str) -> ModelQuery<'_> {
        ModelQuery { model, ..ModelQuery::default() }
    }

    #[test]
    fn the_default_row_of_the_tutorial_model() {
        let row = Defaults::embedded().row(&of("meta-llama/llama-3.1-8b-instruct"));
        let row = row.expect("in the table");
        assert_eq!((row.gpu.as_str(), row.tensor_parallelism, row.kv_blocks), ("H100", 2, 66_069));
        let alpha = [1_601.350_510_688_092, 3.512_476_196_805_965, 1_805.543_036_082_698_8]
            .map(f64::to_bits);
        assert_eq!(row.alpha.map(f64::to_bits), alpha);
    }

    #[test]
    fn a_model_is_found_in_any_case_and_without_its_organisation() {
        let defaults = Defaults::embedded();
        let full = defaults.row(&of("meta-llama/llama-3.1-8b-instruct"));
        assert!(full.is_ok());
        assert_eq!(defaults.row(&of("Meta-Llama/Llama-3.1-8B-Instruct")), full);
        assert_eq!(defaults.row(&of("llama-3.1-8b-instruct")), full);
    }

    #[test]
    fn short_names_are_distinct() {
        let defaults = Defaults::embedded();
        for row in &defaults.models {
            assert_eq!(defaults.model_name(after_slash(&row.model)), Some(row.model.as_str()));
        }
    }

    #[test]
    fn the_first_of_two_rows_wins() {
        let query = ModelQuery { tensor_parallelism: Some(1), ..of("redhatai/phi-4-fp8-dynamic") };
        let row = Defaults::embedded().row(&query).expect("in the table");
        assert!((row.fit_loss - 198.583_912_975_287_4).abs() < 1e-9);
    }

    #[test]
    fn a_miss_names_the_nearest() {
        let defaults = Defaults::embedded();
        let miss = |query: ModelQuery| defaults.row(&query).expect_err("not in the table");
        let near = "did you mean `meta-llama/llama-3.1-8b-instruct`?";
        assert_eq!(miss(of("lama-3.1-8b-instruct")).hint, near);
        assert_eq!(miss(of("meta-lama/llama-3.1-8b-instruct")).hint, near);
        let a100 = ModelQuery { gpu: Some("A100-80"), ..of("granite-3.1-8b-instruct") };
        assert_eq!(miss(a100).key, "tensor_parallelism");
        assert!(miss(a100).hint.contains("A100-80 with 2"), "{}", miss(a100).hint);
        assert_eq!(miss(ModelQuery { gpu: Some("B200"), ..of("phi-4") }).key, "gpu");
        assert_eq!(miss(ModelQuery { vllm_version: Some("x"), ..of("phi-4") }).key, "vllm_version");
        assert_eq!(miss(of("mixtral-8x7b-instruct-v0.1")).key, "gpu");
    }

    #[test]
    fn prices_have_a_default_and_alternatives() {
        let usd = |gpu, market, provider| {
            let price = Defaults::embedded().price(gpu, market, provider);
            price.map(|price| price.usd_per_gpu_hour.to_string()).map_err(|miss| miss.hint)
        };
        assert_eq!(usd("H100", Market::OnDemand, None), Ok("2.95".to_owned()));
        assert_eq!(usd("h100", Market::Spot, None), Ok("1.25".to_owned()));
        assert_eq!(usd("H100", Market::OnDemand, Some("azure")), Ok("6.98".to_owned()));
        assert_eq!(usd("A100-80", Market::OnDemand, None), Ok("2.25".to_owned()));
        let near = usd("H100", Market::OnDemand, Some("azzure"));
        assert_eq!(near, Err("did you mean `azure`?".to_owned()));
        let set = usd("A100-80", Market::Spot, None);
        assert_eq!(set, Err("set `price_per_gpu_hour`".to_owned()));
    }

    #[test]
    fn every_gpu_of_the_table_has_a_price() {
        let defaults = Defaults::embedded();
        for row in &defaults.models {
            assert!(defaults.price(&row.gpu, Market::OnDemand, None).is_ok(), "{}", row.gpu);
        }
    }
}
