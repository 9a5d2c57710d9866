//! Trees to YAML text: stable, and readable by any YAML 1.2 parser.

use super::{Node, Value};

/// Longer lists and maps of scalars are written one entry per line.
const INLINE_WIDTH: usize = 72;

impl Node {
    /// This tree as YAML. `header` is written on top as comment lines; positions are lost, the
    /// order of keys is kept. Reading the text again gives the same tree.
    pub fn to_yaml(&self, header: &str) -> String {
        let mut out = String::new();
        for line in header.lines() {
            out.push_str(format!("# {line}").trim_end());
            out.push('\n');
        }
        if let Some(text) = inline(&self.value) {
            out.push_str(&text);
            out.push('\n');
        } else {
            block(&self.value, 0, &mut out);
        }
        out
    }
}

/// A scalar, or a short list or map of scalars, on one line; `None` for anything larger.
pub(super) fn inline(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::Text(text) => quoted(text),
        Value::List(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| scalar(&item.value)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(entries) => {
            let entry = |(key, node): &(super::Key, Node)| {
                Some(format!("{}: {}", quoted(&key.text), scalar(&node.value)?))
            };
            let entries: Option<Vec<_>> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries?.join(", "))
        }
    };
    let is_scalar = !matches!(value, Value::List(_) | Value::Map(_));
    (is_scalar || text.len() <= INLINE_WIDTH).then_some(text)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::List(items) if !items.is_empty() => None,
        Value::Map(entries) if !entries.is_empty() => None,
        value => inline(value),
    }
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let margin = &*" ".repeat(indent);
    match value {
        Value::List(items) => {
            for item in items {
                out.extend([margin, "-"]);
                after_key(item, indent + 2, true, out);
            }
        }
        Value::Map(entries) => {
            for (key, node) in entries {
                out.extend([margin, &*quoted(&key.text), ":"]);
                // Maps of scalars under a key read better one entry per line.
                let flat = !matches!(&node.value, Value::Map(entries) if !entries.is_empty());
                after_key(node, indent + 2, flat, out);
            }
        }
        scalar => out.extend([margin, &*inline(scalar).unwrap_or_default(), "\n"]),
    }
}

fn after_key(node: &Node, indent: usize, flat: bool, out: &mut String) {
    if let Some(text) = inline(&node.value).filter(|_| flat) {
        out.extend([" ", &text, "\n"]);
    } else {
        out.push('\n');
        block(&node.value, indent, out);
    }
}

fn float(number: f64) -> String {
    if number.is_nan() {
        ".nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        // Debug gives the shortest digits that read back as the same number, and a point or an
        // exponent, so that it stays a float.
        let text = format!("{number:?}");
        match text.split_once('e') {
            Some((digits, power)) if !digits.contains('.') => format!("{digits}.0e{power}"),
            _ => text,
        }
    }
}

fn quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => out.extend(["\\U", &format!("{:08X}", c as u32)]),
        }
    }
    out.push('"');
    out
}

/// Whether no parser could take `text` for anything but itself.
fn is_plain(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(safe)
        && !reserved.contains(&word.as_str())
        && word.parse::<f64>().is_err()
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Position, Problems, parse};

    fn without_places(node: &Node) -> Node {
        match &node.value {
            Value::List(items) => Node::list(items.iter().map(without_places)),
            Value::Map(entries) => {
                Node::map(entries.iter().map(|(key, node)| (&*key.text, without_places(node))))
            }
            value => Node { value: value.clone(), at: Position::NOWHERE },
        }
    }

    fn trees() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Node::new(Value::Null)),
            any::<bool>().prop_map(Node::new),
            any::<i64>().prop_map(Node::new),
            any::<f64>().prop_filter("NaN equals nothing", |x| !x.is_nan()).prop_map(Node::new),
            any::<String>().prop_map(Node::new),
            "[a-z0-9 :#'\\-~.!&*%@]{0,6}".prop_map(Node::new),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let keys = prop_oneof![any::<String>(), "[a-z0-9.~:-]{0,4}"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Node::list),
                proptest::collection::btree_map(keys, inner, 0..6).prop_map(Node::map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(tree in trees()) {
            let text = tree.to_yaml("first\nsecond");
            let mut problems = Problems::new();
            let back = parse("x.yaml", &text, &mut problems);
            let back = back.map(|node| without_places(&node));
            prop_assert_eq!(back, Some(tree), "{}\n{}", text, problems.render(false));
        }
    }

    #[test]
    fn the_text_is_how_a_person_would_write_it() {
        let text = "routing:\n  policy: weighted\n  scorers:\n    \
                    - {name: queue-depth, weight: 2}\n\
                    scheduler: fcfs\nalpha: [1.5, 2.0]\n";
        let tree = parse("x.yaml", text, &mut Problems::new()).expect("valid YAML");
        assert_eq!(tree.to_yaml(""), text);
        assert!(tree.to_yaml("why\n\nso").starts_with("# why\n#\n# so\nrouting:"));
    }
}
