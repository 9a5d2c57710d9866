//! Single values, checked: type, range, unit, name.

use std::ops::RangeInclusive;

use super::{Node, Problems, Value, did_you_mean, nearest, write};
use crate::base::Span;

/// A day, the usual bound of a length of time.
pub const DAY: Span = Span::from_us(86_400_000_000);

/// Which numbers are allowed; all bounds are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    low: f64,
    high: f64,
    above: bool,
}

impl Bounds {
    /// Any finite number.
    pub const FINITE: Self = Self { low: f64::MIN, high: f64::MAX, above: false };
    /// 0 or more.
    pub const NON_NEGATIVE: Self = Self { low: 0.0, high: f64::MAX, above: false };
    /// More than 0.
    pub const POSITIVE: Self = Self { low: 0.0, high: f64::MAX, above: true };
    /// From 0 to 1.
    pub const FRACTION: Self = Self { low: 0.0, high: 1.0, above: false };

    /// From `low` to `high`, both allowed.
    pub const fn between(low: f64, high: f64) -> Self {
        Self { low, high, above: false }
    }

    /// More than `low`, up to `high`.
    pub const fn above(low: f64, high: f64) -> Self {
        Self { low, high, above: true }
    }

    /// Whether `number` is allowed.
    pub fn contains(&self, number: f64) -> bool {
        let high_enough = if self.above { number > self.low } else { number >= self.low };
        high_enough && number <= self.high
    }

    fn describe(&self) -> String {
        let word = if self.above { "above" } else { "at least" };
        let low = (self.low > f64::MIN).then(|| format!("{word} {}", self.low));
        let high = (self.high < f64::MAX).then(|| format!("at most {}", self.high));
        match (low, high) {
            (Some(_), Some(_)) if !self.above => {
                format!("between {} and {}", self.low, self.high)
            }
            (Some(low), Some(high)) => format!("{low} and {high}"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => "finite".to_owned(),
        }
    }
}

/// The text of `node`; anything else is a problem. `what` is what messages call it.
pub fn read_text<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> Option<&'n str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    let typed = typed(node);
    let problem = wrong_type(node, what, "text", problems);
    if let Value::Int(_) | Value::Float(_) | Value::Bool(_) = node.value {
        problem.hint(format!("put it in quotes: \"{typed}\""));
    }
    None
}

/// The truth value of `node`; anything else is a problem.
pub fn read_bool(node: &Node, what: &str, problems: &mut Problems) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    wrong_type(node, what, "`true` or `false`", problems);
    None
}

/// The items of `node`; anything but a list is a problem.
pub fn read_list<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> Option<&'n [Node]> {
    if let Value::List(items) = &node.value {
        return Some(items);
    }
    wrong_type(node, what, "a list", problems);
    None
}

/// The whole number of `node` in `range`; anything else is a problem.
pub fn read_u64(
    node: &Node,
    what: &str,
    range: RangeInclusive<u64>,
    problems: &mut Problems,
) -> Option<u64> {
    let (low, high) = (*range.start(), *range.end());
    let number = match node.value {
        Value::Int(number) => u64::try_from(number).ok(),
        // Above 2^53 a float no longer says which whole number was meant.
        Value::Float(x) if x.fract() == 0.0 && (0.0..9e15).contains(&x) => Some(x as u64),
        Value::Float(x) if x.is_nan() || x.fract() != 0.0 => {
            wrong_type(node, what, "a whole number", problems);
            return None;
        }
        Value::Float(_) => None,
        _ => {
            wrong_type(node, what, "a whole number", problems);
            return None;
        }
    };
    let inside = number.filter(|number| range.contains(number));
    if inside.is_none() {
        let bounds = match high {
            u64::MAX => format!("at least {low}"),
            _ => format!("between {low} and {high}"),
        };
        out_of_range(node, what, &bounds, problems);
    }
    inside
}

/// The whole number of `node` in `range`; anything else is a problem.
pub fn read_u32(
    node: &Node,
    what: &str,
    range: RangeInclusive<u32>,
    problems: &mut Problems,
) -> Option<u32> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    read_u64(node, what, range, problems).and_then(|number| u32::try_from(number).ok())
}

/// The number of `node` within `bounds`; NaN, infinities and anything else are problems.
pub fn read_f64(node: &Node, what: &str, bounds: Bounds, problems: &mut Problems) -> Option<f64> {
    let number = match node.value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => {
            wrong_type(node, what, "a number", problems);
            return None;
        }
    };
    if !number.is_finite() {
        let label = if number.is_nan() { "this is not a number" } else { "this is infinite" };
        let message = format!("{what} must be a finite number, not `{}`", typed(node));
        problems.error(node.at, message).label(label);
        return None;
    }
    if !bounds.contains(number) {
        out_of_range(node, what, &bounds.describe(), problems);
        return None;
    }
    Some(number)
}

/// The value that `table` gives the name in `node`; other names and types are problems.
pub fn read_one_of<T: Clone>(
    node: &Node,
    what: &str,
    table: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let names = || table.iter().map(|(name, _)| *name);
    let Value::Text(text) = &node.value else {
        wrong_type(node, what, "a name", problems).hint(did_you_mean("", names()));
        return None;
    };
    if let Some((_, value)) = table.iter().find(|(name, _)| name == text) {
        return Some(value.clone());
    }
    let known: Vec<String> = names().map(|name| format!("`{name}`")).collect();
    let message = format!("{what} cannot be `{text}`");
    let problem = problems.error(node.at, message).label(format!("one of {}", known.join(", ")));
    if let Some(near) = nearest(text, names()) {
        problem.hint(format!("did you mean `{near}`?"));
    }
    None
}

/// The length of time of `node`, at most `max`: `90s`, `5m`, `1h`, `250ms`, `40us`. A plain
/// number needs a `key` that names the unit (`_us`, `_ms`, `_s`), else it is a problem.
/// Rounded to whole microseconds.
pub fn read_span(
    node: &Node,
    what: &str,
    key: &str,
    max: Span,
    problems: &mut Problems,
) -> Option<Span> {
    let seconds = match &node.value {
        Value::Text(text) => seconds_from_text(text),
        Value::Int(_) | Value::Float(_) => {
            let Some((_, unit)) = KEY_UNITS.iter().find(|(ending, _)| key.ends_with(ending)) else {
                let message = format!("{what} needs a unit");
                let hint = format!("write `{0}s` or `{0}ms`", typed(node));
                problems.error(node.at, message).label("seconds, minutes?").hint(hint);
                return None;
            };
            let number = read_f64(node, what, Bounds::NON_NEGATIVE, problems)?;
            Some(number * unit)
        }
        _ => None,
    };
    let Some(seconds) = seconds else {
        let problem = wrong_type(node, what, "a length of time", problems);
        problem.hint("for example `90s`, `5m`, `1h`, `250ms`, `40us`");
        return None;
    };
    if seconds > max.as_secs() {
        out_of_range(node, what, &format!("at most {}s", max.as_secs()), problems);
        return None;
    }
    Some(Span::from_secs(seconds))
}

/// The length of time that `text` names (`90s`, `5m`, `1h`, `250ms`, `40us`), rounded to whole
/// microseconds; `None` where it names none, is negative, or is past 200 days.
pub fn span_from_text(text: &str) -> Option<Span> {
    let seconds = seconds_from_text(text)?;
    (seconds < 200.0 * 86_400.0).then(|| Span::from_secs(seconds))
}

/// Units of plain numbers, by the end of the key.
const KEY_UNITS: [(&str, f64); 3] = [("_us", 1e-6), ("_ms", 1e-3), ("_s", 1.0)];
/// Units of typed lengths; `us` and `ms` before `s`, which they end in.
const UNITS: [(&str, f64); 6] =
    [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

fn seconds_from_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let number = number.trim_end();
    // Words such as `inf` and `nan` are numbers to `parse`.
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    Some(number * unit).filter(|seconds| seconds.is_finite())
}

/// Reports that `node` is not `wanted`.
pub(super) fn wrong_type<'p>(
    node: &Node,
    what: &str,
    wanted: &str,
    problems: &'p mut Problems,
) -> &'p mut super::Problem {
    let message = format!("{what} must be {wanted}, not {}", node.value.kind());
    let label = match &node.value {
        Value::Null => "nothing here".to_owned(),
        value => format!("this is {}", value.kind()),
    };
    problems.error(node.at, message).label(label)
}

fn out_of_range(node: &Node, what: &str, bounds: &str, problems: &mut Problems) {
    let message = format!("{what} must be {bounds}, not `{}`", typed(node));
    problems.error(node.at, message).label("out of range");
}

/// A scalar as one would type it.
fn typed(node: &Node) -> String {
    if let Some(text) = node.as_text() {
        return text.to_owned();
    }
    write::inline(&node.value).unwrap_or_else(|| node.value.kind().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(read: impl FnOnce(&mut Problems)) -> String {
        let mut problems = Problems::new();
        read(&mut problems);
        let messages: Vec<_> = problems.list().iter().map(|p| p.message.clone()).collect();
        messages.join("; ")
    }

    #[test]
    fn lengths_of_time_need_a_unit() {
        assert_eq!(span_from_text("90s"), Some(Span::from_us(90_000_000)));
        assert_eq!(span_from_text("5m"), Some(Span::from_us(300_000_000)));
        assert_eq!(span_from_text("1.5 h"), Some(Span::from_us(5_400_000_000)));
        assert_eq!(span_from_text("250ms"), Some(Span::from_us(250_000)));
        assert_eq!(span_from_text("1us"), Some(Span::from_us(1)));
        for bad in ["", "s", "5", "-5s", "infs", "nans", "1e999s", "5 parsecs", "300d"] {
            assert_eq!(span_from_text(bad), None, "{bad}");
        }
        let text = message(|p| assert!(read_span(&5i64.into_node(), "`a`", "a", DAY, p).is_none()));
        assert_eq!(text, "`a` needs a unit");
    }

    #[test]
    fn the_key_may_name_the_unit() {
        let mut problems = Problems::new();
        let mut read = |key| read_span(&5i64.into_node(), "`a`", key, DAY, &mut problems);
        assert_eq!(read("latency_us"), Some(Span::from_us(5)));
        assert_eq!(read("target_ms"), Some(Span::from_us(5_000)));
        assert_eq!(read("think_time_s"), Some(Span::from_us(5_000_000)));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let refuse = |value: f64, bounds| {
            message(|p| assert!(read_f64(&Node::new(value), "`w`", bounds, p).is_none()))
        };
        assert_eq!(refuse(f64::NAN, Bounds::FINITE), "`w` must be a finite number, not `.nan`");
        let infinite = refuse(f64::INFINITY, Bounds::POSITIVE);
        assert_eq!(infinite, "`w` must be a finite number, not `.inf`");
        assert_eq!(refuse(-1.0, Bounds::NON_NEGATIVE), "`w` must be at least 0, not `-1.0`");
        assert_eq!(refuse(0.0, Bounds::POSITIVE), "`w` must be above 0, not `0.0`");
        assert_eq!(refuse(2.0, Bounds::FRACTION), "`w` must be between 0 and 1, not `2.0`");
    }

    #[test]
    fn whole_numbers_keep_their_range() {
        let mut problems = Problems::new();
        let mut read = |value: Value| read_u32(&Node::new(value), "`n`", 1..=10, &mut problems);
        assert_eq!(read(10i64.into()), Some(10));
        assert_eq!(read(2.0.into()), Some(2));
        for bad in [0.0, 11.0, 1.5, -1.0, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(read(bad.into()), None, "{bad}");
        }
        assert_eq!(read(i64::MIN.into()), None);
        assert_eq!(read(i64::MAX.into()), None);
    }

    trait IntoNode {
        fn into_node(self) -> Node;
    }
    impl IntoNode for i64 {
        fn into_node(self) -> Node {
            Node::new(self)
        }
    }
}
