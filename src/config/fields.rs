//! A map being read: what was asked for, what is left over.

use std::ops::RangeInclusive;

use super::scalar::{self, Bounds};
use super::{Key, Node, Position, Problems, Value, did_you_mean};
use crate::base::Span;

/// A map being read.
///
/// Getters give `None` where the key is absent (or `null`) and where its value is wrong; the
/// latter is reported, so a caller may go on with a default and look at
/// [`Problems::has_errors`] once at the end. [`Fields::finish`] reports keys that nobody asked
/// for.
#[derive(Debug)]
pub struct Fields<'n, 'p> {
    entries: &'n [(Key, Node)],
    at: Position,
    what: String,
    asked: Vec<&'static str>,
    ignored: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// Begins to read the map `node`; anything else is a problem. `what` is what messages call
    /// the map, for example ``"`routing`"`` or `"the policy bundle"`.
    pub fn of(node: &'n Node, what: &str, problems: &'p mut Problems) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            if node.value == Value::Null {
                problems.error(node.at, format!("{what} is empty"));
            } else {
                scalar::wrong_type(node, what, "a map of keys", problems);
            }
            return None;
        };
        let (asked, ignored) = (Vec::new(), Vec::new());
        Some(Self { entries, at: node.at, what: what.to_owned(), asked, ignored, problems })
    }

    /// Where the map begins.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The problems, for readers of nested values and for problems of one's own.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// The value of `key`; `None` where it is absent or `null`.
    pub fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        let entry = self.entries.iter().find(|(k, _)| k.text == key);
        entry.map(|(_, node)| node).filter(|node| node.value != Value::Null)
    }

    /// The value of `key`; its absence is a problem.
    pub fn required(&mut self, key: &'static str) -> Option<&'n Node> {
        let node = self.node(key);
        if node.is_none() {
            let message = format!("{} needs `{key}`", self.what);
            self.problems.error(self.at, message).label(format!("`{key}` is missing"));
        }
        node
    }

    /// Reports each of `keys` that is absent, and says whether all are there.
    pub fn require(&mut self, keys: &[&'static str]) -> bool {
        let missing = keys.iter().filter(|key| self.required(key).is_none()).count();
        missing == 0
    }

    /// Text.
    pub fn text(&mut self, key: &'static str) -> Option<&'n str> {
        let node = self.node(key)?;
        scalar::read_text(node, &quoted(key), self.problems)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        scalar::read_bool(node, &quoted(key), self.problems)
    }

    /// A whole number in `range`.
    pub fn u32(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let node = self.node(key)?;
        scalar::read_u32(node, &quoted(key), range, self.problems)
    }

    /// A whole number in `range`.
    pub fn u64(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(key)?;
        scalar::read_u64(node, &quoted(key), range, self.problems)
    }

    /// A finite number within `bounds`.
    pub fn f64(&mut self, key: &'static str, bounds: Bounds) -> Option<f64> {
        let node = self.node(key)?;
        scalar::read_f64(node, &quoted(key), bounds, self.problems)
    }

    /// A length of time up to `max`: `90s`, `250ms`; a plain number where `key` ends in `_us`,
    /// `_ms` or `_s`.
    pub fn span(&mut self, key: &'static str, max: Span) -> Option<Span> {
        let node = self.node(key)?;
        scalar::read_span(node, &quoted(key), key, max, self.problems)
    }

    /// The value that `table` gives the name that stands here.
    pub fn one_of<T: Clone>(&mut self, key: &'static str, table: &[(&str, T)]) -> Option<T> {
        let node = self.node(key)?;
        scalar::read_one_of(node, &quoted(key), table, self.problems)
    }

    /// A list; may be empty.
    pub fn list(&mut self, key: &'static str) -> Option<&'n [Node]> {
        let node = self.node(key)?;
        scalar::read_list(node, &quoted(key), self.problems)
    }

    /// The entries of a map whose keys are names of the user's choice.
    pub fn map(&mut self, key: &'static str) -> Option<&'n [(Key, Node)]> {
        let node = self.node(key)?;
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        scalar::wrong_type(node, &quoted(key), "a map of keys", self.problems);
        None
    }

    /// A map inside this one, read in its own right.
    pub fn fields(&mut self, key: &'static str) -> Option<Fields<'n, '_>> {
        let node = self.node(key)?;
        Fields::of(node, &quoted(key), self.problems)
    }

    /// Accepts `keys` and warns where one is present: `why` says why it has no effect.
    pub fn ignored(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            self.ignored.push(key);
            if let Some((found, _)) = self.entries.iter().find(|(k, _)| k.text == *key) {
                let message = format!("`{key}` in {} has no effect", self.what);
                self.problems.warning(found.at, message).label(why);
            }
        }
    }

    /// Adds an error at the value of `key`, or at the map where it is absent.
    pub fn error(&mut self, key: &str, message: impl Into<String>) -> &mut super::Problem {
        let entry = self.entries.iter().find(|(k, _)| k.text == key);
        let at = entry.map_or(self.at, |(_, node)| node.at);
        self.problems.error(at, message)
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for (key, _) in self.entries {
            let text = key.text.as_str();
            if self.asked.contains(&text) || self.ignored.contains(&text) {
                continue;
            }
            let free =
                self.asked.iter().copied().filter(|asked| {
                    !self.entries.iter().any(|(present, _)| present.text == *asked)
                });
            let hint = did_you_mean(&key.text, free);
            let message = format!("unknown key `{}` in {}", key.text, self.what);
            self.problems.error(key.at, message).label("unknown key").hint(hint);
        }
    }
}

fn quoted(key: &str) -> String {
    format!("`{key}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn problems(text: &str, read: impl FnOnce(&mut Fields)) -> Vec<(String, String)> {
        let mut problems = Problems::new();
        let root = parse("x.yaml", text, &mut problems).expect("valid YAML");
        let mut fields = Fields::of(&root, "the test", &mut problems).expect("a map");
        read(&mut fields);
        fields.finish();
        problems.list().iter().map(|p| (p.message.clone(), p.hint.clone())).collect()
    }

    #[test]
    fn keys_nobody_asked_for_are_reported_with_the_nearest_free_one() {
        let found = problems("instances: 2\nintances: 3\n", |fields| {
            assert_eq!(fields.u32("instances", 1..=9), Some(2));
            fields.text("instance_type");
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "unknown key `intances` in the test");
        assert_eq!(found[0].1, "did you mean `instance_type`?");
    }

    #[test]
    fn absent_and_null_are_the_same_and_no_problem() {
        let found = problems("a:\n", |fields| {
            assert_eq!(fields.text("a"), None);
            assert_eq!(fields.f64("b", Bounds::FINITE), None);
        });
        assert!(found.is_empty());
    }

    #[test]
    fn every_missing_key_is_reported() {
        let found = problems("a: 1\n", |fields| assert!(!fields.require(&["a", "b", "c"])));
        let messages: Vec<&str> = found.iter().map(|(message, _)| message.as_str()).collect();
        assert_eq!(messages, ["the test needs `b`", "the test needs `c`"]);
    }

    #[test]
    fn problems_gather_over_all_fields() {
        let found = problems("a: x\nb: [1]\nc: 1\nd: {}\n", |fields| {
            fields.u32("a", 0..=1);
            fields.text("b");
            fields.one_of("c", &[("x", 1)]);
            fields.bool("d");
        });
        assert_eq!(found.len(), 4);
    }
}
