//! YAML text to a tree that knows its lines.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::{Key, Node, Position, Problems, Value};

/// Reads YAML `text`. `file_name` is what messages call it; problems that are found later are
/// placed in this file until another one is parsed or selected.
///
/// Anything that is not YAML, is nested too deeply or is too large becomes a problem and gives
/// `None`. Keys that appear twice become problems too; the first stays in the tree.
pub fn parse(file_name: &str, text: &str, problems: &mut Problems) -> Option<Node> {
    problems.add_file(file_name, text);
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => {
            let mut root = node(root);
            drop_duplicates(&mut root, problems);
            Some(root)
        }
        Err(error) => {
            let at = error.location().map_or(Position::NOWHERE, position);
            let message = UserMessageFormatter.format_message(&error);
            let first_line = message.lines().next().unwrap_or_default();
            problems.error(at, format!("not valid YAML: {first_line}")).label("here");
            None
        }
    }
}

fn position(location: Location) -> Position {
    let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position { line: clamp(location.line()), column: clamp(location.column()) }
}

fn node(spanned: Spanned<Raw>) -> Node {
    Node { value: spanned.value.0, at: position(spanned.referenced) }
}

fn drop_duplicates(node: &mut Node, problems: &mut Problems) {
    match &mut node.value {
        Value::List(items) => {
            for item in items {
                drop_duplicates(item, problems);
            }
        }
        Value::Map(entries) => {
            let mut first_places = BTreeMap::new();
            entries.retain(|(key, _)| match first_places.get(&key.text) {
                None => {
                    first_places.insert(key.text.clone(), key.at);
                    true
                }
                Some(first) => {
                    report_duplicate(key, *first, problems);
                    false
                }
            });
            for (_, value) in entries {
                drop_duplicates(value, problems);
            }
        }
        _ => {}
    }
}

fn report_duplicate(key: &Key, first: Position, problems: &mut Problems) {
    problems
        .error(key.at, format!("key `{}` appears twice", key.text))
        .label(format!("also on line {}", first.line))
        .hint("keep one of the two");
}

/// A value as the parser hands it over.
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Self)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            let key = Key { at: position(key.referenced), text: key.value };
            map.push((key, node(value)));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems);
        assert!(problems.is_empty(), "{}", problems.render(false));
        node.expect("parsed")
    }

    fn refused(text: &str) -> String {
        let mut problems = Problems::new();
        parse("x.yaml", text, &mut problems);
        assert!(problems.has_errors(), "accepted: {text}");
        problems.render(false)
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let root = read("a: 1\nb:\n  c: [x, 2.5]\n  d: {e: true}\n");
        let at = |line, column| Position { line, column };
        let Value::Map(entries) = &root.value else { panic!("no map") };
        assert_eq!(entries[1].0.at, at(2, 1));
        assert_eq!(root.get("a").map(|n| n.at), Some(at(1, 4)));
        assert_eq!(root.get("b.c.1").map(|n| n.at), Some(at(3, 10)));
        assert_eq!(root.get("b.d.e").map(|n| (n.at, &n.value)), Some((at(4, 10), &true.into())));
        let Value::Map(inner) = &root.get("b").expect("b").value else { panic!("no map") };
        assert_eq!(inner[1].0.at, at(4, 3));
    }

    #[test]
    fn scalars_have_the_type_that_yaml_1_2_gives_them() {
        let root = read("[~, true, yes, -3, 2.5, 1e3, .nan, '7', 18446744073709551615]");
        let Value::List(items) = root.value else { panic!("no list") };
        assert_eq!(items[0].value, Value::Null);
        assert_eq!(items[1].value, Value::Bool(true));
        assert_eq!(items[2].value, "yes".into());
        assert_eq!(items[3].value, Value::Int(-3));
        assert_eq!(items[4].value, Value::Float(2.5));
        assert_eq!(items[5].value, Value::Float(1000.0));
        assert!(matches!(items[6].value, Value::Float(x) if x.is_nan()));
        assert_eq!(items[7].value, "7".into());
        assert_eq!(items[8].value, Value::Float(18_446_744_073_709_551_615.0));
    }

    #[test]
    fn every_duplicate_key_is_reported_and_the_first_stays() {
        let mut problems = Problems::new();
        let root = parse("x.yaml", "a: 1\nb: {c: 1, c: 2}\na: 2\n", &mut problems);
        assert_eq!(problems.errors(), 2);
        assert_eq!(root.expect("a tree").get("a"), read("a: 1").get("a"));
    }

    #[test]
    fn an_alias_stands_where_it_is_used() {
        let root = read("a: &x {b: 1}\nc: *x\n");
        assert_eq!(root.get("c").map(|n| n.at), Some(Position { line: 2, column: 4 }));
        assert_eq!(root.get("c.b").map(|n| n.value.clone()), Some(Value::Int(1)));
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_a_place() {
        assert!(refused("a: [1, 2\nb: 3\n").contains("not valid YAML"));
        assert!(refused("a: 1\n  b: 2\n").contains("x.yaml:2"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("not valid YAML"));
    }

    #[test]
    fn hostile_nesting_and_alias_bombs_are_refused() {
        refused(&"[".repeat(100_000));
        refused(&"{a: ".repeat(100_000));
        let mut deep = String::new();
        for level in 0..2_000 {
            deep.push_str(&" ".repeat(level));
            deep.push_str("a:\n");
        }
        refused(&deep);
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.extend([format!("a{level}: &a{level} [{refs}]\n")]);
        }
        refused(&bomb);
    }
}
