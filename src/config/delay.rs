//! Lengths of time that are not always the same: `90s`, `{uniform: [30s, 90s]}`.

use super::scalar::{self, Bounds, DAY, read_span};
use super::{Fields, Node, Problems, Value};
use crate::base::{Delay, Span};

/// The longest length of time in a delay; what is longer than a run is never.
pub const DELAY_MAX: Span = DAY.times(200);
/// Shapes of a Weibull distribution; beyond them all of its mass is at zero or in one point.
pub const SHAPE_BOUNDS: Bounds = Bounds::between(0.1, 100.0);
/// The most values of an empirical distribution.
const VALUES_MAX: usize = 100_000;
/// The distributions by name.
const KINDS: [&str; 6] = ["uniform", "normal", "lognormal", "exponential", "weibull", "empirical"];
/// The stages of a start, in their order.
const STAGES: [&str; 3] = ["provisioning", "loading", "warm_up"];

/// The delay of `node`: a length of time, or a map of one distribution with its figures. `what`
/// is what messages call it.
pub fn read_delay(node: &Node, what: &str, problems: &mut Problems) -> Option<Delay> {
    if !matches!(node.value, Value::Map(_)) {
        if matches!(node.value, Value::List(_)) {
            let hint = "write `{uniform: [30s, 90s]}` or `{empirical: [59s, 90s, 155s]}`";
            scalar::wrong_type(node, what, "a length of time or its distribution", problems)
                .hint(hint);
            return None;
        }
        return read_span(node, what, "", DELAY_MAX, problems).map(Delay::Constant);
    }
    let mut fields = Fields::of(node, what, problems)?;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| fields.node(kind).is_some()).collect();
    let &[kind] = given.as_slice() else {
        let known = KINDS.map(|kind| format!("`{kind}`")).join(", ");
        let label = if given.is_empty() { "none of them is here" } else { "more than one" };
        let message = format!("{what} needs one of {known}");
        fields.problems().error(node.at, message).label(label);
        fields.finish();
        return None;
    };
    let delay = match kind {
        "uniform" => read_uniform(&mut fields),
        "normal" | "lognormal" => read_normal(&mut fields, kind),
        "exponential" => read_weibull(&mut fields, "exponential", false),
        "weibull" => read_weibull(&mut fields, "weibull", true),
        _ => read_empirical(&mut fields),
    };
    fields.finish();
    delay
}

/// Whether `node` is a map that names a distribution.
pub fn is_distribution(node: &Node) -> bool {
    KINDS.iter().any(|kind| node.entry(kind).is_some())
}

/// The stages of a start: provisioning, loading and warm-up; what is absent takes no time.
pub fn read_stages(fields: &mut Fields) -> Option<[Delay; 3]> {
    let mut stages = [Some(Delay::NONE), Some(Delay::NONE), Some(Delay::NONE)];
    for (key, stage) in STAGES.into_iter().zip(&mut stages) {
        if let Some(node) = fields.node(key) {
            *stage = read_delay(node, &format!("`{key}`"), fields.problems());
        }
    }
    let [Some(provisioning), Some(loading), Some(warm_up)] = stages else { return None };
    Some([provisioning, loading, warm_up])
}

/// The lengths in the list under `key`; `None` where one is wrong.
fn read_spans(fields: &mut Fields, key: &'static str) -> Option<Vec<Span>> {
    let items = fields.list(key)?;
    let what = format!("a value of `{key}`");
    let spans: Vec<Option<Span>> = items
        .iter()
        .take(VALUES_MAX + 1)
        .map(|item| read_span(item, &what, "", DELAY_MAX, fields.problems()))
        .collect();
    spans.into_iter().collect()
}

fn read_uniform(fields: &mut Fields) -> Option<Delay> {
    let ends = read_spans(fields, "uniform")?;
    let &[low, high] = ends.as_slice() else {
        let message = "`uniform` needs two lengths of time: `[low, high]`";
        fields.error("uniform", message).label(format!("{} here", ends.len()));
        return None;
    };
    if low > high {
        let (low, high) = (low.as_secs(), high.as_secs());
        fields
            .error("uniform", "`uniform` is empty: low must not be above high")
            .label(format!("low is {low}s, high is {high}s"))
            .hint(format!("write `uniform: [{high}s, {low}s]`"));
        return None;
    }
    Some(Delay::Uniform { low, high })
}

fn read_normal(fields: &mut Fields, kind: &'static str) -> Option<Delay> {
    let mut figures = fields.fields(kind)?;
    figures.require(&["mean", "std_dev"]);
    let mean =
        if kind == "normal" { figures.span("mean", DELAY_MAX) } else { read_mean(&mut figures) };
    let std_dev = figures.span("std_dev", DELAY_MAX);
    figures.finish();
    let (mean, std_dev) = (mean?, std_dev?);
    Some(match kind {
        "normal" => Delay::Normal { mean, std_dev },
        _ => Delay::LogNormal { mean, std_dev },
    })
}

fn read_weibull(fields: &mut Fields, kind: &'static str, with_shape: bool) -> Option<Delay> {
    let mut figures = fields.fields(kind)?;
    figures.require(&["mean"]);
    let mean = read_mean(&mut figures);
    let mut shape = Some(1.0);
    if with_shape && figures.require(&["shape"]) {
        shape = figures.f64("shape", SHAPE_BOUNDS);
    }
    figures.finish();
    Some(Delay::Weibull { mean: mean?, shape: shape? })
}

/// A mean, which has to be above zero.
fn read_mean(figures: &mut Fields) -> Option<Span> {
    let mean = figures.span("mean", DELAY_MAX)?;
    if mean == Span::ZERO {
        figures.error("mean", "`mean` must be above zero").label("zero");
        return None;
    }
    Some(mean)
}

fn read_empirical(fields: &mut Fields) -> Option<Delay> {
    let values = read_spans(fields, "empirical")?;
    if values.is_empty() || values.len() > VALUES_MAX {
        let message = format!("`empirical` needs from 1 to {VALUES_MAX} lengths of time");
        fields.error("empirical", message);
        return None;
    }
    Some(Delay::Empirical(values.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Result<Delay, String> {
        let mut problems = Problems::new();
        let root = parse("x.yaml", &format!("d: {text}\n"), &mut problems).expect("valid YAML");
        let node = root.entry("d").expect("it is there");
        let delay = read_delay(node, "`d`", &mut problems);
        match problems.list().first() {
            None => Ok(delay.expect("without a problem it is read")),
            Some(problem) => Err(problem.message.clone()),
        }
    }

    fn seconds(seconds: u64) -> Span {
        Span::from_us(seconds * 1_000_000)
    }

    #[test]
    fn every_distribution_is_read() {
        assert_eq!(read("90s"), Ok(Delay::Constant(seconds(90))));
        let uniform = Delay::Uniform { low: seconds(30), high: seconds(90) };
        assert_eq!(read("{uniform: [30s, 90s]}"), Ok(uniform));
        let normal = Delay::Normal { mean: seconds(240), std_dev: seconds(30) };
        assert_eq!(read("{normal: {mean: 4m, std_dev: 30s}}"), Ok(normal));
        let lognormal = Delay::LogNormal { mean: seconds(90), std_dev: seconds(40) };
        assert_eq!(read("{lognormal: {mean: 90s, std_dev: 40s}}"), Ok(lognormal));
        let exponential = Delay::Weibull { mean: seconds(36_000), shape: 1.0 };
        assert_eq!(read("{exponential: {mean: 10h}}"), Ok(exponential));
        let weibull = Delay::Weibull { mean: seconds(2 * 86_400), shape: 0.7 };
        assert_eq!(read("{weibull: {mean: 2d, shape: 0.7}}"), Ok(weibull));
        let values = [seconds(59), seconds(90), seconds(155)];
        assert_eq!(read("{empirical: [59s, 90s, 155s]}"), Ok(Delay::Empirical(values.into())));
    }

    #[test]
    fn what_is_no_delay_says_why() {
        const NONE: &str = "`d` needs one of `uniform`, `normal`, `lognormal`, `exponential`, \
                            `weibull`, `empirical`";
        for (text, message) in [
            ("90", "`d` needs a unit"),
            ("soon", "`d` must be a length of time, not text"),
            ("[30s, 90s]", "`d` must be a length of time or its distribution, not a list"),
            ("201d", "`d` must be at most 17280000s, not `201d`"),
            ("{}", NONE),
            ("{uniform: [90s, 30s]}", "`uniform` is empty: low must not be above high"),
            ("{uniform: [90s]}", "`uniform` needs two lengths of time: `[low, high]`"),
            ("{normal: {mean: 9s}}", "`normal` needs `std_dev`"),
            ("{exponential: {mean: 0s}}", "`mean` must be above zero"),
            ("{weibull: {mean: 9s, shape: 0}}", "`shape` must be between 0.1 and 100, not `0`"),
            ("{exponential: {mean: 9s, shape: 1}}", "unknown key `shape` in `exponential`"),
            ("{empirical: []}", "`empirical` needs from 1 to 100000 lengths of time"),
        ] {
            assert_eq!(read(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn stages_that_are_not_there_take_no_time() {
        let mut problems = Problems::new();
        let root = parse("x.yaml", "loading: 60s\nwarm_up: 30s\n", &mut problems).expect("YAML");
        let mut fields = Fields::of(&root, "`start_up`", &mut problems).expect("a map");
        let stages = read_stages(&mut fields).expect("all is well");
        assert_eq!(stages[0], Delay::NONE);
        assert_eq!(stages[2], Delay::Constant(seconds(30)));
    }
}
