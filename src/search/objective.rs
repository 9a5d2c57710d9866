//! What is wanted, and what must hold.

use super::candidate::six_digits;
use super::metric::{Figures, MetricName};
use super::scenarios::{EACH, Scope};
use crate::config::nearest;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smaller the better.
    Minimize,
    /// The larger the better.
    Maximize,
}

/// What a search is after: the mean of one figure over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Which way.
    pub direction: Direction,
    /// Which figure.
    pub metric: MetricName,
}

/// The side of its limit on which a figure must stay; the limit itself is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `metric <= limit`
    AtMost,
    /// `metric >= limit`
    AtLeast,
}

/// A promise about one figure: about its expected value over seeds, or about a share of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// Which figure.
    pub metric: MetricName,
    /// On which side.
    pub bound: Bound,
    /// Of which limit; finite, in the figure's unit.
    pub limit: f64,
    /// The share of runs, one per seed, that has to keep the limit, from one half up to below 1;
    /// `None`: the expected value has to.
    pub share: Option<f64>,
}

/// The weights of the fitness: `p99_ttft:3,mean_e2e:1,throughput:2`.
///
/// The fitness is the sum of weight times component. Throughput x counts x/(x+100) (requests per
/// second) or x/(x+10000) (tokens per second); a latency x counts 1/(1 + x/scale). Weights are
/// not normalised. The reference simulator's scale is 1 ms, at which throughput dominates every
/// mixture; 1000 ms (the default) weighs seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct FitnessWeights {
    /// Index into the keys and weight, in order of the keys' names; weights at least 0.
    weights: Vec<(usize, f64)>,
    /// Milliseconds at which a latency's component is one half; above 0.
    pub latency_scale_ms: f64,
}

/// Keys of the fitness in alphabetical order, the figure of each, and for a throughput the value
/// at which its component is one half.
const KEYS: [(&str, &str, Option<f64>); 8] = [
    ("mean_e2e", "e2e_mean_ms", None),
    ("mean_ttft", "ttft_mean_ms", None),
    ("p50_e2e", "e2e_p50_ms", None),
    ("p50_ttft", "ttft_p50_ms", None),
    ("p99_e2e", "e2e_p99_ms", None),
    ("p99_ttft", "ttft_p99_ms", None),
    ("throughput", "throughput_rps", Some(100.0)),
    ("tokens_per_sec", "output_tokens_per_s", Some(10_000.0)),
];

impl Objective {
    /// The figure's mean as a number to make small, whichever the direction.
    pub fn to_minimize(&self, value: f64) -> f64 {
        match self.direction {
            Direction::Minimize => value,
            Direction::Maximize => -value,
        }
    }
}

impl Constraint {
    /// Reads `metric <= number` or `metric >= number`, and the same ` in 95% of runs`.
    ///
    /// # Errors
    /// What is wrong, and a hint.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, (String, Option<String>)> {
        let Some((metric, bound, limit)) = split(text) else {
            let hint = "write `metric <= number` or `metric >= number`".to_owned();
            return Err((format!("`{text}` is not a constraint"), Some(hint)));
        };
        let (limit, share) = split_share(limit)?;
        let Some(limit) = limit.parse::<f64>().ok().filter(|limit| limit.is_finite()) else {
            let hint = "limits are plain numbers in the unit of the metric's name".to_owned();
            return Err((format!("`{limit}` is not a number"), Some(hint)));
        };
        match MetricName::parse(metric, scope) {
            Ok(metric) => Ok(Self { metric, bound, limit, share }),
            Err(near) => Err((
                format!("no metric `{metric}`"),
                near.map(|name| format!("did you mean `{name}`?")),
            )),
        }
    }

    /// How far `value` is inside of the limit; negative outside.
    pub fn margin(&self, value: f64) -> f64 {
        match self.bound {
            Bound::AtMost => self.limit - value,
            Bound::AtLeast => value - self.limit,
        }
    }

    /// Whether `value` is on the right side.
    pub fn holds(&self, value: f64) -> bool {
        match self.bound {
            Bound::AtMost => value <= self.limit,
            Bound::AtLeast => value >= self.limit,
        }
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.bound {
            Bound::AtMost => "<=",
            Bound::AtLeast => ">=",
        };
        write!(formatter, "{} {sign} {}", self.metric, self.limit)?;
        // Six digits undo what a percentage lost on its way to a share.
        self.share
            .map_or(Ok(()), |share| write!(formatter, " in {}% of runs", six_digits(share * 100.0)))
    }
}

fn split(text: &str) -> Option<(&str, Bound, &str)> {
    let at = |sign: &str, bound| {
        text.split_once(sign).map(|(metric, limit)| (metric.trim(), bound, limit.trim()))
    };
    at("<=", Bound::AtMost).or_else(|| at(">=", Bound::AtLeast))
}

/// What is wrong, and a hint.
type Wrong = (String, Option<String>);

/// The limit's text, and the share of runs that follows it, where one does.
fn split_share(text: &str) -> Result<(&str, Option<f64>), Wrong> {
    let Some((limit, rest)) = text.split_once(char::is_whitespace) else { return Ok((text, None)) };
    let rest = rest.trim();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = match words.as_slice() {
        ["in", number, "of", "runs"] => number.strip_suffix('%'),
        ["in", number, "%", "of", "runs"] => Some(*number),
        _ => None,
    };
    let Some(number) = number else {
        let hint = "write `metric <= number in 95% of runs`".to_owned();
        return Err((format!("`{rest}` cannot follow a limit"), Some(hint)));
    };
    let percent = number.parse::<f64>().ok().filter(|percent| percent.is_finite());
    let hint = match percent {
        Some(percent) if (50.0..100.0).contains(&percent) => {
            return Ok((limit, Some(percent / 100.0)));
        }
        Some(percent) if percent >= 100.0 => {
            "no number of runs shows that all keep it; write `in 99% of runs`"
        }
        _ => "the share is a number from 50 up to below 100",
    };
    Err((format!("`{number}%` is no share of runs that can be promised"), Some(hint.to_owned())))
}

impl FitnessWeights {
    /// Reads `key:weight,key:weight`; spaces are free, the last weight of a key counts.
    ///
    /// # Errors
    /// What is wrong, and a hint.
    pub fn parse(text: &str, latency_scale_ms: f64) -> Result<Self, (String, Option<String>)> {
        if !(latency_scale_ms.is_finite() && latency_scale_ms > 0.0) {
            let hint = Some("the usual scale is 1000, the reference's is 1".to_owned());
            return Err((format!("a latency scale of {latency_scale_ms} ms makes no sense"), hint));
        }
        let mut weights = std::collections::BTreeMap::new();
        for pair in text.split(',') {
            let Some((key, weight)) = pair.split_once(':') else {
                let hint = Some("write `key:weight,key:weight`".to_owned());
                return Err((format!("`{}` is not `key:weight`", pair.trim()), hint));
            };
            let key = key.trim();
            let Some(index) = KEYS.iter().position(|(known, ..)| *known == key) else {
                let near = nearest(key, KEYS.iter().map(|(known, ..)| *known));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                return Err((format!("the fitness has no `{key}`"), hint));
            };
            let weight = weight.trim();
            match weight.parse::<f64>() {
                Ok(value) if value.is_finite() && value >= 0.0 => weights.insert(index, value),
                _ => {
                    let hint = Some("weights are finite numbers of at least 0".to_owned());
                    return Err((format!("`{weight}` is not a weight"), hint));
                }
            };
        }
        if weights.values().all(|&weight| weight <= 0.0) {
            return Err(("all weights are zero".to_owned(), None));
        }
        Ok(Self { weights: weights.into_iter().collect(), latency_scale_ms })
    }

    /// The weighted sum. A figure that is absent counts nothing: no latency was kept where
    /// nothing was answered.
    pub fn fitness(&self, figures: &Figures) -> f64 {
        self.sum(|name| figures.get(name))
    }

    /// The figures that it is made of, by name; those of weight 0 left out.
    pub fn figures(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.weights.iter().filter(|(_, weight)| *weight > 0.0).map(|&(index, _)| KEYS[index].1)
    }

    /// Adds the fitness of `figures`, and where they are of several scenarios that of each and
    /// the worst.
    pub fn complete(&self, figures: &mut Figures) {
        let places = figures.iter().filter_map(|(name, _)| name.split_once('@'));
        let places: std::collections::BTreeSet<String> =
            places.map(|(_, place)| place.to_owned()).filter(|place| place != EACH).collect();
        let of_one = |place: &str| self.sum(|name| figures.get(&in_place(name, place)));
        let of_each: Vec<(&String, f64)> =
            places.iter().map(|place| (place, of_one(place))).collect();
        let plain = self.fitness(figures);
        figures.set("fitness", plain);
        for &(place, fitness) in &of_each {
            figures.set(&in_place("fitness", place), fitness);
        }
        if let Some(worst) = of_each.iter().map(|&(_, fitness)| fitness).reduce(f64::min) {
            figures.set(&in_place("fitness", EACH), worst);
        }
    }

    fn sum(&self, figure: impl Fn(&str) -> Option<f64>) -> f64 {
        let component = |index: usize| -> f64 {
            let (_, name, half) = KEYS[index];
            let Some(value) = figure(name) else { return 0.0 };
            match half {
                Some(half) => value / (value + half),
                None => 1.0 / (1.0 + value / self.latency_scale_ms),
            }
        };
        self.weights.iter().map(|&(index, weight)| weight * component(index)).sum()
    }
}

/// The name of a figure of one scenario.
fn in_place(name: &str, place: &str) -> String {
    format!("{name}@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_read_and_print_alike() {
        let constraint =
            Constraint::parse("ttft_p99_ms<=500", Scope::default()).expect("a constraint");
        assert_eq!(constraint.to_string(), "ttft_p99_ms <= 500");
        assert!(constraint.holds(500.0) && !constraint.holds(500.1));
        let share =
            Constraint::parse("completed_ratio >= 0.999", Scope::default()).expect("a constraint");
        assert!(share.holds(0.999) && !share.holds(0.99));
    }

    #[test]
    fn a_share_of_runs_reads_and_prints_alike() {
        for text in ["ttft_p99_ms<=500 in 95% of runs", "ttft_p99_ms <= 500  in 95 % of runs"] {
            let constraint = Constraint::parse(text, Scope::default()).expect("a constraint");
            assert_eq!(constraint.share, Some(0.95));
            assert_eq!(constraint.to_string(), "ttft_p99_ms <= 500 in 95% of runs");
        }
        let fine = Constraint::parse("slo_attainment >= 0.99 in 99.9% of runs", Scope::default());
        assert_eq!(
            fine.expect("a constraint").to_string(),
            "slo_attainment >= 0.99 in 99.9% of runs"
        );
    }

    #[test]
    fn bad_shares_say_what_is_wrong() {
        let wrong = |text| Constraint::parse(text, Scope::default()).expect_err("no constraint");
        let (message, hint) = wrong("ttft_p99_ms <= 500 in 100% of runs");
        assert_eq!(message, "`100%` is no share of runs that can be promised");
        assert!(hint.is_some_and(|hint| hint.contains("in 99% of runs")));
        let (message, hint) = wrong("ttft_p99_ms <= 500 in 95% of seeds");
        assert_eq!(message, "`in 95% of seeds` cannot follow a limit");
        assert_eq!(hint.as_deref(), Some("write `metric <= number in 95% of runs`"));
        assert!(wrong("ttft_p99_ms <= 500 in 5% of runs").1.is_some_and(|h| h.contains("50")));
        assert_eq!(wrong("ttft_p99_ms <= 500 ms").0, "`ms` cannot follow a limit");
    }

    #[test]
    fn bad_constraints_say_what_is_wrong() {
        let wrong = |text| Constraint::parse(text, Scope::default()).expect_err("not a constraint");
        assert_eq!(wrong("ttft_p99_ms < 500").0, "`ttft_p99_ms < 500` is not a constraint");
        assert_eq!(wrong("ttft_p99_ms <= 500ms").0, "`500ms` is not a number");
        assert_eq!(wrong("ttft_p99_ms <= NaN").0, "`NaN` is not a number");
        assert_eq!(wrong("ttft_p99 <= 5").1.as_deref(), Some("did you mean `ttft_p99_ms`?"));
    }

    #[test]
    fn the_fitness_of_a_worked_run() {
        let mut figures = Figures::default();
        figures.set("throughput_rps", 300.0);
        figures.set("ttft_p99_ms", 1000.0);
        let weights = FitnessWeights::parse("throughput:2, p99_ttft:3", 1000.0).expect("weights");
        assert!((weights.fitness(&figures) - (2.0 * 0.75 + 3.0 * 0.5)).abs() < 1e-12);
        let reference = FitnessWeights::parse("p99_ttft:1", 1.0).expect("weights");
        assert!((reference.fitness(&figures) - 1.0 / 1001.0).abs() < 1e-15);
    }

    #[test]
    fn weights_that_weigh_nothing_are_refused() {
        assert!(FitnessWeights::parse("throughput:0", 1000.0).is_err());
        assert!(FitnessWeights::parse("throughput:-1", 1000.0).is_err());
        assert!(FitnessWeights::parse("throughput:1", 0.0).is_err());
        let hint = FitnessWeights::parse("p99_tft:1", 1.0).expect_err("misspelt").1;
        assert_eq!(hint.as_deref(), Some("did you mean `p99_ttft`?"));
    }

    #[test]
    fn where_nothing_was_answered_latency_earns_nothing() {
        let weights = FitnessWeights::parse("p99_ttft:3", 1000.0).expect("weights");
        assert!(weights.fitness(&Figures::default()).abs() < 1e-15);
    }
}
