//! Reads the knobs of a search space and the relations between them.

use super::candidate::KnobValue;
use super::read::Tree;
use super::relation::{Relation, Side};
use super::space::{Condition, Domain, Knob, Unit};
use crate::base::Span;
use crate::config::{
    DAY, Fields, Key, Node, Problems, Value, did_you_mean, read_bool, read_list, read_span,
    read_text,
};

/// Numbers of knobs stay within this, either way.
const NUMBER_MAX: i64 = 1_000_000_000_000_000;
/// An integer whose largest value is this many times its smallest is taken on a log scale.
const WIDE: i64 = 10;
/// The kinds of a knob.
const KINDS: [&str; 4] = ["int", "float", "span", "choice"];

/// The knobs, and what belongs to them.
#[derive(Default)]
pub(super) struct Knobs {
    pub list: Vec<Knob>,
    /// Per knob: what each option of a choice puts at its path.
    pub options: Vec<Vec<Node>>,
    pub scale_groups: Vec<Vec<usize>>,
}

pub(super) fn read(fields: &mut Fields<'_, '_>, template: Option<&Tree>) -> Knobs {
    let mut found = Knobs::default();
    if fields.required("knobs").is_none() {
        return found;
    }
    let entries = fields.map("knobs").unwrap_or_default();
    if entries.is_empty() {
        fields.error("knobs", "nothing to search: there is no knob").hint("simulate it with `run`");
    }
    let problems = fields.problems();
    let mut conditions = Vec::new();
    for (key, node) in entries {
        let own = template.and_then(|template| own_value(template, key, problems));
        let Some((knob, options)) = read_knob(key, node, own, problems) else { continue };
        found.list.push(knob);
        found.options.push(options);
        conditions.push(node.entry("when"));
    }
    for (index, when) in conditions.into_iter().enumerate() {
        let Some(when) = when else { continue };
        found.list[index].when = read_when(when, &found, problems);
    }
    check_cycles(&mut found.list, entries, problems);
    if let Some(template) = template {
        check_aliases(&template.node, entries, problems);
        found.scale_groups = scale_groups(&template.node, &found.list);
    }
    found
}

/// What the template has at the knob's path; a path that names nothing is a problem.
fn own_value<'t>(template: &'t Tree, key: &Key, problems: &mut Problems) -> Option<&'t Node> {
    let own = template.node.get(&key.text);
    if own.is_none() {
        let paths = template.node.paths();
        let hint = did_you_mean(&key.text, paths.iter().map(String::as_str));
        let message = format!("no knob `{}` in {}", key.text, template.name);
        problems.error(key.at, message).label("unknown knob").hint(hint);
    }
    own
}

fn read_knob(
    key: &Key,
    node: &Node,
    own: Option<&Node>,
    problems: &mut Problems,
) -> Option<(Knob, Vec<Node>)> {
    let path = key.text.as_str();
    let mut fields = Fields::of(node, &format!("knob `{path}`"), problems)?;
    let kinds: Vec<(&str, &Node)> =
        KINDS.iter().filter_map(|&kind| Some((kind, fields.node(kind)?))).collect();
    let log = fields.node("log");
    let step = fields.node("step");
    fields.node("when");
    let problems = fields.problems();
    let &[(kind, range)] = kinds.as_slice() else {
        let message = format!("knob `{path}` needs one of `int`, `float`, `span` and `choice`");
        let problem = problems.error(node.at, message);
        problem.label(if kinds.is_empty() { "none of them is here" } else { "more than one" });
        fields.finish();
        return None;
    };
    let log = log.and_then(|node| read_bool(node, "`log`", problems));
    let step = step.and_then(|node| read_step(node, kind, problems));
    let mut options = Vec::new();
    let domain = match kind {
        "int" => read_int(range, step.unwrap_or(1), log, problems),
        "float" => read_float(range, log.unwrap_or(false), problems),
        "span" => read_duration(range, path, (log, own), problems),
        _ => read_choice(range, &mut options, problems),
    };
    fields.finish();
    let domain = domain?;
    let unit = if kind == "span" { Unit::Microseconds } else { Unit::Plain };
    let start = own.and_then(|own| value_of(&domain, unit, path, own, &options));
    let first = match &domain {
        Domain::Int { low, .. } => KnobValue::Int(*low),
        Domain::Float { low, .. } => KnobValue::Float(*low),
        Domain::Choice { .. } => KnobValue::Choice(0),
    };
    let counts_instances = kind == "int" && path.ends_with(".instances");
    let rest = start.unwrap_or(first);
    let path = path.to_owned();
    Some((Knob { path, domain, unit, when: Vec::new(), rest, start, counts_instances }, options))
}

fn read_step(node: &Node, kind: &str, problems: &mut Problems) -> Option<i64> {
    if kind != "int" {
        problems.error(node.at, "`step` belongs to `int`").label("has no meaning here");
        return None;
    }
    match node.value {
        Value::Int(step) if (1..=NUMBER_MAX).contains(&step) => Some(step),
        _ => {
            problems.error(node.at, "`step` must be a whole number of at least 1");
            None
        }
    }
}

/// The two ends of a range as `end` reads them.
fn read_ends<T: PartialOrd + std::fmt::Display + Copy>(
    node: &Node,
    kind: &str,
    mut end: impl FnMut(&Node, &mut Problems) -> Option<T>,
    problems: &mut Problems,
) -> Option<(T, T)> {
    let items = read_list(node, &format!("`{kind}`"), problems)?;
    let [low, high] = items else {
        let message = format!("`{kind}` needs two numbers: `[low, high]`");
        problems.error(node.at, message).label(format!("{} here", items.len()));
        return None;
    };
    let (at, low, high) = (low.at, end(low, problems), end(high, problems));
    let (low, high) = (low?, high?);
    if low < high {
        return Some((low, high));
    }
    let message = format!("`{kind}: [{low}, {high}]` is empty: low must be below high");
    let problem = problems.error(at, message).label(format!("low is {low}, high is {high}"));
    if low > high {
        problem.hint(format!("write `{kind}: [{high}, {low}]`"));
    } else {
        problem.hint("put a single value into the template");
    }
    None
}

fn check_log(log: bool, positive: bool, node: &Node, problems: &mut Problems) -> Option<()> {
    if log && !positive {
        let problem = problems.error(node.at, "a log scale needs a range above 0");
        problem.label("reaches 0 or below").hint("raise the low end, or leave `log` out");
        return None;
    }
    Some(())
}

fn read_int(node: &Node, step: i64, log: Option<bool>, problems: &mut Problems) -> Option<Domain> {
    let whole = |node: &Node, problems: &mut Problems| match node.value {
        Value::Int(value) if (-NUMBER_MAX..=NUMBER_MAX).contains(&value) => Some(value),
        _ => {
            problems.error(node.at, "the ends of `int` must be whole numbers up to 10^15");
            None
        }
    };
    let (low, high) = read_ends(node, "int", whole, problems)?;
    let last = low + (high - low) / step * step;
    if last == low {
        let message = format!("`int: [{low}, {high}]` holds one value at a step of {step}");
        problems.error(node.at, message).hint("make the step smaller");
        return None;
    }
    if last != high {
        let message = format!("{high} is never reached from {low} in steps of {step}");
        problems.warning(node.at, message).label(format!("the last value is {last}"));
    }
    let log = log.unwrap_or(low >= 1 && last / low >= WIDE);
    check_log(log, low > 0, node, problems)?;
    Some(Domain::Int { low, high: last, step, log })
}

fn read_float(node: &Node, log: bool, problems: &mut Problems) -> Option<Domain> {
    let number = |node: &Node, problems: &mut Problems| {
        let value = node.as_f64().filter(|value| value.abs() <= NUMBER_MAX as f64);
        if value.is_none() {
            problems.error(node.at, "the ends of `float` must be numbers up to 10^15");
        }
        value
    };
    let (low, high) = read_ends(node, "float", number, problems)?;
    check_log(log, low > 0.0, node, problems)?;
    Some(Domain::Float { low, high, log })
}

/// A duration between two others takes at least so many values, where a readable step allows it.
const DURATIONS_MIN: i64 = 60;

/// A duration, in whole microseconds on a grid that people can read.
fn read_duration(
    node: &Node,
    path: &str,
    (log, own): (Option<bool>, Option<&Node>),
    problems: &mut Problems,
) -> Option<Domain> {
    let key = path.rsplit('.').next().unwrap_or(path);
    let span = |node: &Node, problems: &mut Problems| {
        read_span(node, "an end of `span`", key, DAY.times(30), problems).map(micros)
    };
    let (low, high) = read_ends(node, "span", span, problems)?;
    let log = log.unwrap_or(low >= 1 && high / low >= WIDE);
    check_log(log, low > 0, node, problems)?;
    let unheard = &mut Problems::new();
    let own = own.and_then(|own| read_span(own, "", key, DAY.times(30), unheard)).map(micros);
    let step = readable_step(low, high, own.filter(|own| (low..=high).contains(own)));
    Some(Domain::Int { low, high, step, log })
}

/// The coarsest power of ten, in microseconds and up to 10 s, that leaves at least
/// [`DURATIONS_MIN`] durations from `low` to `high`, both and `own` among them.
fn readable_step(low: i64, high: i64, own: Option<i64>) -> i64 {
    let fits = |step: &i64| {
        let on_grid = |end: i64| end % step == 0;
        on_grid(low)
            && on_grid(high)
            && own.is_none_or(on_grid)
            && (high - low) / step >= DURATIONS_MIN
    };
    (0..=7).rev().map(|power| 10_i64.pow(power)).find(fits).unwrap_or(1)
}

fn micros(span: Span) -> i64 {
    span.as_us().cast_signed()
}

fn read_choice(node: &Node, options: &mut Vec<Node>, problems: &mut Problems) -> Option<Domain> {
    let items = read_list(node, "`choice`", problems)?;
    let mut labels: Vec<String> = Vec::new();
    for item in items {
        if options.iter().any(|known| known.value == item.value) {
            let problem = problems.error(item.at, "this choice appears twice");
            problem.label("already in the list");
            continue;
        }
        let label = label(item);
        let taken = labels.contains(&label);
        labels.push(if taken { format!("{label} #{}", labels.len() + 1) } else { label });
        options.push(item.clone());
    }
    if options.len() < 2 {
        let problem = problems.error(node.at, "`choice` needs at least two options");
        problem.label(format!("{} here", options.len()));
        return None;
    }
    Some(Domain::Choice { labels })
}

/// How an option is called: a scalar by itself, a map by its `policy` or `name`.
fn label(node: &Node) -> String {
    let named = node.entry("policy").or_else(|| node.entry("name")).and_then(Node::as_text);
    if let Some(text) = node.as_text().or(named) {
        return text.to_owned();
    }
    node.to_json().to_string()
}

/// The value of a domain that `node` stands for.
fn value_of(
    domain: &Domain,
    unit: Unit,
    path: &str,
    node: &Node,
    options: &[Node],
) -> Option<KnobValue> {
    let value = match domain {
        Domain::Choice { .. } => {
            KnobValue::Choice(options.iter().position(|option| option.value == node.value)?)
        }
        Domain::Float { .. } => KnobValue::Float(node.as_f64()?),
        Domain::Int { .. } if unit == Unit::Microseconds => {
            let key = path.rsplit('.').next().unwrap_or(path);
            let unheard = &mut Problems::new();
            KnobValue::Int(micros(read_span(node, "", key, DAY.times(30), unheard)?))
        }
        Domain::Int { .. } => match node.value {
            Value::Int(value) => KnobValue::Int(value),
            _ => return None,
        },
    };
    domain.contains(value).then_some(value)
}

fn read_when(node: &Node, found: &Knobs, problems: &mut Problems) -> Vec<Condition> {
    let Value::Map(entries) = &node.value else {
        let problem = problems.error(node.at, "`when` must be a map from a knob to its values");
        problem.hint("write `when: {routing.policy: weighted}`");
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for (key, wanted) in entries {
        let Some(index) = knob_index(&found.list, key, problems) else { continue };
        let knob = &found.list[index];
        let wanted = match &wanted.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![wanted],
        };
        let mut values = Vec::new();
        for node in wanted {
            let options = &found.options[index];
            if let Some(value) = value_of(&knob.domain, knob.unit, &knob.path, node, options) {
                values.push(value);
                continue;
            }
            let message = format!("`{}` is never {}", knob.path, label(node));
            let problem = problems.error(node.at, message).label("not one of its values");
            if let Domain::Choice { labels } = &knob.domain {
                problem.hint(did_you_mean(&label(node), labels.iter().map(String::as_str)));
            }
        }
        conditions.push(Condition { knob: index, values });
    }
    conditions
}

fn knob_index(knobs: &[Knob], key: &Key, problems: &mut Problems) -> Option<usize> {
    let index = knobs.iter().position(|knob| knob.path == key.text);
    if index.is_none() {
        let hint = did_you_mean(&key.text, knobs.iter().map(|knob| knob.path.as_str()));
        let message = format!("`{}` is not a knob of this search space", key.text);
        problems.error(key.at, message).label("unknown knob").hint(hint);
    }
    index
}

/// Knobs that wait for each other are a problem; their conditions are dropped, so that nothing
/// goes in circles while the rest is checked.
fn check_cycles(knobs: &mut [Knob], entries: &[(Key, Node)], problems: &mut Problems) {
    for index in 0..knobs.len() {
        let mut seen = vec![false; knobs.len()];
        let mut open: Vec<usize> = knobs[index].when.iter().map(|on| on.knob).collect();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut seen[next], true) {
                open.extend(knobs[next].when.iter().map(|on| on.knob));
            }
        }
        if !seen[index] {
            continue;
        }
        let path = &knobs[index].path;
        let at = entries.iter().find(|(key, _)| key.text == *path).map(|(key, _)| key.at);
        let message = format!("`{path}` waits for itself through `when`");
        problems.error(at.unwrap_or_default(), message).label("a circle of conditions");
        knobs[index].when.clear();
    }
}

/// Two knobs that turn the same thing are a problem.
fn check_aliases(template: &Node, entries: &[(Key, Node)], problems: &mut Problems) {
    for (index, (key, _)) in entries.iter().enumerate() {
        let marked = mark(template, &key.text);
        let same = |(other, _): &&(Key, Node)| {
            marked.as_ref().is_some_and(|marked| is_marked(marked, &other.text))
        };
        if let Some((other, _)) = entries[..index].iter().find(same) {
            let message = format!("`{}` and `{}` turn the same thing", other.text, key.text);
            problems.error(key.at, message).label("a second name").hint("keep one of the two");
        }
    }
}

const MARK: &str = "\u{0}mark";

fn mark(template: &Node, path: &str) -> Option<Node> {
    let mut marked = template.clone();
    marked.set(path, MARK).then_some(marked)
}

fn is_marked(marked: &Node, path: &str) -> bool {
    marked.get(path).and_then(Node::as_text) == Some(MARK)
}

/// The weights of scorers, where each scorer that counts is a float knob: only their ratios
/// matter.
fn scale_groups(template: &Node, knobs: &[Knob]) -> Vec<Vec<usize>> {
    let Some(Value::List(scorers)) = template.get("routing.scorers").map(|node| &node.value) else {
        return Vec::new();
    };
    let mut group = Vec::new();
    for (index, scorer) in scorers.iter().enumerate() {
        let marked = mark(template, &format!("routing.scorers.{index}.weight"));
        let knob = marked.and_then(|marked| knobs.iter().position(|k| is_marked(&marked, &k.path)));
        let weighs = scorer.entry("weight").and_then(Node::as_f64).is_none_or(|w| w > 0.0);
        match knob {
            Some(knob) => group.push(knob),
            None if weighs => return Vec::new(),
            None => {}
        }
    }
    let is_float =
        |&knob: &usize| matches!(knobs[knob].domain, Domain::Float { low, .. } if low > 0.0);
    if group.len() > 1 && group.iter().all(is_float) { vec![group] } else { Vec::new() }
}

pub(super) fn read_relations(
    node: &Node,
    knobs: &[Knob],
    problems: &mut Problems,
) -> Vec<Relation> {
    let mut relations = Vec::new();
    for item in read_list(node, "`require`", problems).unwrap_or_default() {
        let Some(text) = read_text(item, "a relation", problems) else { continue };
        let Some((left, sign, right)) = Relation::split(text) else {
            let message = format!("`{text}` is not a relation");
            problems.error(item.at, message).hint("write `knob < knob`, `knob >= 2 * knob`, ...");
            continue;
        };
        let left = read_side(left, item, knobs, problems);
        let right = read_side(right, item, knobs, problems);
        if let (Some(left), Some(right)) = (left, right) {
            relations.push(Relation { left, sign, right });
        }
    }
    relations
}

/// A number, a knob, or a number times a knob.
fn read_side(text: &str, node: &Node, knobs: &[Knob], problems: &mut Problems) -> Option<Side> {
    let finite = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
    if let Some(number) = finite(text) {
        return Some(Side::Number(number));
    }
    let (factor, path) = match text.split_once('*') {
        Some((factor, path)) if finite(factor).is_some() => (finite(factor)?, path.trim()),
        Some((path, factor)) if finite(factor).is_some() => (finite(factor)?, path.trim()),
        _ => (1.0, text),
    };
    let key = Key { text: path.to_owned(), at: node.at };
    let knob = knob_index(knobs, &key, problems)?;
    if matches!(knobs[knob].domain, Domain::Choice { .. }) {
        let message = format!("`{path}` is a choice and has no number");
        problems.error(node.at, message).label("cannot be compared");
        return None;
    }
    Some(Side::Knob { factor, knob })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_on_a_grid_that_people_can_read() {
        let seconds = |s: i64| s * 1_000_000;
        assert_eq!(readable_step(seconds(120), seconds(1800), Some(seconds(600))), seconds(10));
        assert_eq!(readable_step(seconds(15), seconds(180), Some(seconds(60))), seconds(1));
        assert_eq!(readable_step(seconds(15), seconds(180), Some(90_500_000)), 100_000);
        assert_eq!(readable_step(0, 50, None), 1);
    }
}
