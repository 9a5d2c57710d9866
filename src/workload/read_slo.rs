//! Reads what classes of requests were promised: `slo: {default: {ttft: 500ms}}`.

use crate::base::Span;
use crate::config::{DAY, Fields, Node, Problems, did_you_mean};

use super::trace::Targets;

/// The targets under `slo` by class; `classes` are those that requests have, or none where they
/// could not be read.
pub(super) fn read_slo(fields: &mut Fields, classes: &[String]) -> Vec<(String, Targets)> {
    let mut read = Vec::new();
    for (class, node) in fields.map("slo").unwrap_or_default() {
        if !classes.is_empty() && !classes.contains(&class.text) {
            let hint = did_you_mean(&class.text, classes.iter().map(String::as_str));
            let message = format!("no request has the class `{}`", class.text);
            fields.problems().error(class.at, message).label("unknown class").hint(hint);
        }
        let targets = read_targets(node, &format!("`slo.{}`", class.text), fields.problems());
        read.extend(targets.map(|targets| (class.text.clone(), targets)));
    }
    read
}

fn read_targets(node: &Node, what: &str, problems: &mut Problems) -> Option<Targets> {
    let mut fields = Fields::of(node, what, problems)?;
    let mut target = |key| {
        let span = fields.span(key, DAY)?;
        if span == Span::ZERO {
            let message = format!("`{key}` must be longer than zero");
            fields.error(key, message).label("nobody can keep this");
        }
        Some(span)
    };
    let (ttft, tpot, e2e) = (target("ttft"), target("tpot"), target("e2e"));
    if ttft.or(tpot).or(e2e).is_none() {
        let at = fields.at();
        let message = format!("{what} promises nothing");
        fields.problems().error(at, message).label("one of `ttft`, `tpot` and `e2e` is needed");
    }
    fields.finish();
    let never = Targets::NONE;
    Some(Targets {
        ttft: ttft.unwrap_or(never.ttft),
        tpot: tpot.unwrap_or(never.tpot),
        e2e: e2e.unwrap_or(never.e2e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Defaults, parse};
    use crate::workload::WorkloadSpec;

    fn read(text: &str) -> Result<WorkloadSpec, Vec<String>> {
        let mut problems = Problems::new();
        let node = parse("x.yaml", text, &mut problems).expect("valid YAML");
        let spec = WorkloadSpec::read(&node, Defaults::embedded(), &mut problems);
        spec.ok_or_else(|| problems.list().iter().map(|p| p.message.clone()).collect())
    }

    fn ms(ms: u64) -> Span {
        Span::from_us(ms * 1000)
    }

    #[test]
    fn both_forms_of_a_workload_make_promises() {
        let short = read("rate: 5\nslo: {default: {ttft: 500ms, tpot: 50ms}}\n").expect("fine");
        let promised = Targets { ttft: ms(500), tpot: ms(50), ..Targets::NONE };
        assert_eq!(short.targets, [("default".to_owned(), promised)]);
        let lengths = "input_distribution: {type: constant, params: {value: 10}}, \
                       output_distribution: {type: constant, params: {value: 10}}, \
                       arrival: {process: poisson}, rate_fraction: 1";
        let long = read(&format!(
            "aggregate_rate: 5\nclients:\n  - {{slo_class: batch, {lengths}}}\n  \
             - {{slo_class: interactive, {lengths}}}\n\
             slo: {{interactive: {{e2e: 30s}}}}\n"
        ))
        .expect("fine");
        let promised = Targets { e2e: ms(30_000), ..Targets::NONE };
        assert_eq!(long.targets_of(&long.class_names()), [Targets::NONE, promised]);
    }

    #[test]
    fn a_class_without_requests_and_an_empty_promise_are_refused() {
        let wrong = |slo: &str| read(&format!("rate: 5\nslo_class: interactive\nslo: {slo}\n"));
        let unknown = vec!["no request has the class `interactiv`".to_owned()];
        assert_eq!(wrong("{interactiv: {ttft: 1s}}"), Err(unknown));
        let empty = vec!["`slo.interactive` promises nothing".to_owned()];
        assert_eq!(wrong("{interactive: {}}"), Err(empty));
        let zero = vec!["`ttft` must be longer than zero".to_owned()];
        assert_eq!(wrong("{interactive: {ttft: 0s}}"), Err(zero));
    }
}
