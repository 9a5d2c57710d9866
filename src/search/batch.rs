//! Several studies in one file: a map `studies` from a name to what differs.
//!
//! Everything else at the top of the file belongs to all of them; a key of a study takes the place
//! of the same key at the top, whole; a path such as `template.autoscaling` of one
//! part. One study alone is called `file.yaml#name`.

use crate::config::{Node, Problems, Value, did_you_mean, parse};

/// Where the studies stand.
const STUDIES: &str = "studies";
const EXAMPLE: &str = "studies: {hpa: {template: ...}, keda: {...}}";
/// The most studies of a file.
const STUDIES_MAX: usize = 256;

/// The file and the study that `name` names: `space.yaml#keda`.
pub fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('#') {
        Some((file, study)) if !file.is_empty() => (file, Some(study)),
        _ => (name, None),
    }
}

/// The names of the studies in `text`, in order; none where it is a single study, or no YAML.
pub fn study_names(text: &str) -> Vec<String> {
    let root = parse("", text, &mut Problems::new());
    let studies = root.as_ref().and_then(|root| root.entry(STUDIES)).map(|node| &node.value);
    match studies {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The tree of `study` in the file with the tree `root`; `None` where there is an error, which is
/// in `problems`.
pub(super) fn pick(root: Node, study: Option<&str>, problems: &mut Problems) -> Option<Node> {
    let at = root.at;
    let (studies, name) = match (root.entry(STUDIES), study) {
        (None, None) => return Some(root),
        (None, Some(name)) => {
            let message = format!("there is no study `{name}`: the file holds a single one");
            problems.error(at, message).hint("leave `#` and the name out");
            return None;
        }
        (Some(node), None) if !is_filled(node) => {
            problems.error(node.at, "`studies` must be a map with a study or more").hint(EXAMPLE);
            return None;
        }
        (Some(node), None) => {
            let problem = problems.error(node.at, "the file holds several studies");
            problem.label("name one").hint("write `file.yaml#name`, or let `search` run them all");
            return None;
        }
        (Some(studies), Some(name)) => (studies, name),
    };
    let Value::Map(entries) = &studies.value else {
        let message = format!("`studies` must be a map by name, not {}", studies.value.kind());
        problems.error(studies.at, message).hint(EXAMPLE);
        return None;
    };
    if entries.len() > STUDIES_MAX {
        problems.error(studies.at, format!("a file holds at most {STUDIES_MAX} studies"));
        return None;
    }
    let Some((key, own)) = entries.iter().find(|(key, _)| key.text == name) else {
        let hint = did_you_mean(name, entries.iter().map(|(key, _)| key.text.as_str()));
        problems.error(studies.at, format!("there is no study `{name}`")).hint(hint);
        return None;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let problem = problems.error(key.at, format!("`{name}` cannot name a folder"));
        problem.hint("use letters, digits, `-`, `_` and `.`");
        return None;
    }
    let Value::Map(own) = &own.value else {
        problems.error(own.at, format!("study `{name}` must be a map of what differs"));
        return None;
    };
    let Value::Map(shared) = &root.value else { return None };
    let (parts, own): (Vec<_>, Vec<_>) = own.iter().partition(|(key, _)| key.text.contains('.'));
    let differs = |text: &str| own.iter().any(|(key, _)| key.text == text);
    let kept = shared
        .iter()
        .filter(|(key, _)| key.text != STUDIES && key.text != "name" && !differs(&key.text));
    let entries = kept.chain(own.iter().copied()).cloned().collect();
    let mut tree = Node { value: Value::Map(entries), at };
    for (key, part) in parts {
        if !tree.set(&key.text, part.value.clone()) {
            let problem = problems.error(key.at, format!("`{}` names nothing", key.text));
            problem.label("no such part").hint("a path leads into what stands at the top");
            return None;
        }
    }
    Some(tree)
}

/// Whether `studies` is a map that is not empty.
fn is_filled(studies: &Node) -> bool {
    matches!(&studies.value, Value::Map(entries) if !entries.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
workload: {rate: 5}
budget: {evaluations: 9, wall: 5m}
studies:
  hpa: {template: {a: 1}}
  keda: {template: {a: 2}, budget: {evaluations: 3}}
  knative: {budget.evaluations: 4}
  ray: {budget.evaluation: 4}
";

    fn picked(study: Option<&str>) -> Result<Node, String> {
        let mut problems = Problems::new();
        let root = parse("f.yaml", FILE, &mut problems).expect("YAML");
        pick(root, study, &mut problems).ok_or_else(|| problems.list()[0].message.clone())
    }

    #[test]
    fn a_study_has_what_all_have_and_its_own_instead() {
        assert_eq!(study_names(FILE), ["hpa", "keda", "knative", "ray"]);
        let hpa = picked(Some("hpa")).expect("it is there").to_json();
        assert_eq!(hpa["budget"]["evaluations"], 9);
        assert_eq!(hpa["workload"]["rate"], 5);
        assert!(hpa.get("studies").is_none());
        let keda = picked(Some("keda")).expect("it is there").to_json();
        assert_eq!(keda["budget"]["evaluations"], 3);
        assert_eq!(keda["template"]["a"], 2);
        assert!(keda["budget"].get("wall").is_none());
        let knative = picked(Some("knative")).expect("it is there").to_json();
        assert_eq!(knative["budget"], serde_json::json!({"evaluations": 4, "wall": "5m"}));
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(picked(Some("heda")), Err("there is no study `heda`".to_owned()));
        assert_eq!(picked(Some("ray")), Err("`budget.evaluation` names nothing".to_owned()));
        assert_eq!(picked(None), Err("the file holds several studies".to_owned()));
        for text in ["studies: {}", "studies: [a, b]", "studies:"] {
            let mut problems = Problems::new();
            let root = parse("f.yaml", text, &mut problems).expect("YAML");
            assert_eq!(pick(root, None, &mut problems), None);
            assert!(problems.list()[0].message.contains("must be a map with"), "{text}");
        }
        let mut problems = Problems::new();
        let single = parse("f.yaml", "{a: 1}", &mut problems).expect("YAML");
        assert_eq!(pick(single, Some("x"), &mut problems), None);
        assert!(study_names("{a: 1}").is_empty());
        assert!(study_names("[").is_empty());
    }

    #[test]
    fn a_study_is_named_behind_the_last_hash() {
        assert_eq!(split("a.yaml#b"), ("a.yaml", Some("b")));
        assert_eq!(split("a#1/b.yaml#c"), ("a#1/b.yaml", Some("c")));
        assert_eq!(split("a.yaml"), ("a.yaml", None));
        assert_eq!(split("#a"), ("#a", None));
    }
}
