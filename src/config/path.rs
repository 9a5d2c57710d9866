//! Dotted paths into a tree: `routing.scorers.queue-depth.weight`.
//!
//! A segment is a key of a map, the index of a list's item, or the `name` of an item that has
//! one. A path that ends at a named item with a `weight` means that weight. Keys may hold dots;
//! the longest key that fits is tried first.

use super::{Node, Position, Value};

/// The short form of a named item stands for this key of it.
const SHORT_FORM: &str = "weight";
/// Items of a list are addressed by this key.
const NAME: &str = "name";

impl Node {
    /// What stands at `path`; `None` where the path names nothing.
    pub fn get(&self, path: &str) -> Option<&Self> {
        self.steps(path).map(|steps| {
            steps.iter().fold(self, |node, &index| match &node.value {
                Value::Map(entries) => &entries[index].1,
                Value::List(items) => &items[index],
                _ => unreachable!("steps lead through maps and lists only"),
            })
        })
    }

    /// Puts `value` at `path`, and says whether the path names something; nothing is changed
    /// otherwise.
    #[must_use]
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> bool {
        let Some(steps) = self.steps(path) else { return false };
        let target = steps.iter().fold(self, |node, &index| match &mut node.value {
            Value::Map(entries) => &mut entries[index].1,
            Value::List(items) => &mut items[index],
            _ => unreachable!("steps lead through maps and lists only"),
        });
        *target = Self { value: value.into(), at: Position::NOWHERE };
        true
    }

    /// The paths of all leaves (empty lists and maps are leaves), in the order of the file. Items
    /// with a distinct name are addressed by it; a named item with a `weight` is listed in its
    /// short form too.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        collect(self, "", &mut paths);
        paths
    }

    /// Positions in maps and lists that lead to `path`.
    fn steps(&self, path: &str) -> Option<Vec<usize>> {
        let mut steps = Vec::new();
        find(self, path, &mut steps).then_some(steps)
    }
}

fn find(node: &Node, path: &str, steps: &mut Vec<usize>) -> bool {
    match &node.value {
        Value::Map(entries) => {
            let mut fits: Vec<(usize, &str)> = entries
                .iter()
                .enumerate()
                .filter(|(_, (key, _))| rest(path, &key.text).is_some())
                .map(|(index, (key, _))| (index, key.text.as_str()))
                .collect();
            fits.sort_by_key(|(_, key)| std::cmp::Reverse(key.len()));
            fits.into_iter().any(|(index, key)| descend(&entries[index].1, index, key, path, steps))
        }
        Value::List(items) => items.iter().enumerate().any(|(index, item)| {
            let number = index.to_string();
            item_name(item).is_some_and(|name| named(item, index, name, path, steps))
                || descend(item, index, &number, path, steps)
        }),
        _ => false,
    }
}

/// What is left of `path` after `key`; empty at its end.
fn rest<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    match path.strip_prefix(key)? {
        "" => Some(""),
        tail => tail.strip_prefix('.'),
    }
}

fn descend(node: &Node, index: usize, key: &str, path: &str, steps: &mut Vec<usize>) -> bool {
    let Some(rest) = rest(path, key) else { return false };
    steps.push(index);
    let found = rest.is_empty() && path == key || find(node, rest, steps);
    if !found {
        steps.pop();
    }
    found
}

fn named(item: &Node, index: usize, name: &str, path: &str, steps: &mut Vec<usize>) -> bool {
    if path == name && item.entry(SHORT_FORM).is_some() {
        steps.push(index);
        return find(item, SHORT_FORM, steps);
    }
    descend(item, index, name, path, steps)
}

fn item_name(item: &Node) -> Option<&str> {
    item.entry(NAME)?.as_text().filter(|name| !name.is_empty())
}

fn collect(node: &Node, path: &str, paths: &mut Vec<String>) {
    let join =
        |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                collect(value, &join(&key.text), paths);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let distinct = |name: &&str| {
                    items.iter().filter(|other| item_name(other) == Some(*name)).count() == 1
                };
                let name = item_name(item).filter(distinct);
                let path = join(&name.map_or_else(|| index.to_string(), str::to_owned));
                if name.is_some() && item.entry(SHORT_FORM).is_some() {
                    paths.push(path.clone());
                }
                collect(item, &path, paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, parse};

    fn tree(text: &str) -> Node {
        parse("x.yaml", text, &mut Problems::new()).expect("valid YAML")
    }

    fn bundle() -> Node {
        tree(
            "routing:\n  policy: weighted\n  scorers:\n    - {name: queue-depth, weight: 2}\n    \
             - {name: kv-utilization, weight: 1.5}\nscale_up: [{threshold: 3}, {threshold: 4}]\n\
             pools: {h100.a: {instances: 4}, h100: {a: 1}}\nempty: []\n",
        )
    }

    #[test]
    fn items_are_found_by_name_by_index_and_in_short_form() {
        let bundle = bundle();
        let int = |path| bundle.get(path).map(|node| node.value.clone());
        assert_eq!(int("routing.scorers.queue-depth.weight"), Some(Value::Int(2)));
        assert_eq!(int("routing.scorers.queue-depth"), Some(Value::Int(2)));
        assert_eq!(int("routing.scorers.0.weight"), Some(Value::Int(2)));
        assert_eq!(int("scale_up.1.threshold"), Some(Value::Int(4)));
    }

    #[test]
    fn keys_may_hold_dots() {
        let bundle = bundle();
        assert_eq!(bundle.get("pools.h100.a.instances").map(|n| &n.value), Some(&Value::Int(4)));
        assert!(matches!(bundle.get("pools.h100").map(|n| &n.value), Some(Value::Map(_))));
    }

    #[test]
    fn what_is_not_there_is_not_found_and_not_made() {
        let mut bundle = bundle();
        let before = bundle.clone();
        for path in ["", ".", "routing.", "routing..policy", "scale_up.2", "pools.h200", "x.y"] {
            assert!(bundle.get(path).is_none(), "{path}");
            assert!(!bundle.set(path, 1i64), "{path}");
        }
        assert_eq!(bundle, before);
    }

    #[test]
    fn every_listed_path_can_be_set_and_read_back() {
        for path in bundle().paths() {
            let mut bundle = bundle();
            assert!(bundle.set(&path, "new"), "{path}");
            // A name that is set renames its item, so the path to it is another one.
            if path.rsplit('.').next() != Some("name") {
                assert_eq!(bundle.get(&path).and_then(Node::as_text), Some("new"), "{path}");
            }
        }
    }

    #[test]
    fn paths_list_leaves_in_the_order_of_the_file() {
        let paths = bundle().paths();
        assert_eq!(paths[0], "routing.policy");
        assert_eq!(paths[1], "routing.scorers.queue-depth");
        assert!(paths.contains(&"routing.scorers.kv-utilization.weight".to_owned()));
        assert!(paths.contains(&"scale_up.0.threshold".to_owned()));
        assert_eq!(paths.last().map(String::as_str), Some("empty"));
    }
}
