//! What the gateway did, in a line.

use super::number::count;
use crate::sim::Outcome;
use crate::sim::outcome::GatewayOutcome;

/// How often something happened at a gateway.
type Count = fn(&GatewayOutcome) -> u64;

/// Sums over the seeds of what happened at all; empty where nothing did.
pub(super) fn gateway_line(outcomes: &[Outcome]) -> String {
    let gateways: Vec<&GatewayOutcome> =
        outcomes.iter().filter_map(|outcome| outcome.gateway.as_ref()).collect();
    let Some(first) = gateways.first() else { return String::new() };
    let sum = |of: &dyn Fn(&GatewayOutcome) -> u64| gateways.iter().map(|gate| of(gate)).sum();
    let mut parts: Vec<(u64, String)> = Vec::new();
    for (at, (rule, _)) in first.shed.iter().enumerate() {
        parts.push((sum(&|gate| gate.shed[at].1), format!("attempts shed by {rule}")));
    }
    let others: [(Count, &str); 5] = [
        (|gate| gate.full, "found the queue full"),
        (|gate| gate.displaced, "displaced"),
        (|gate| gate.expired, "expired"),
        (|gate| gate.waited, "waited"),
        (|gate| gate.capped, "answers cut short"),
    ];
    parts.extend(others.map(|(of, what)| (sum(&of), what.to_owned())));
    let told = parts.iter().filter(|(number, _)| *number > 0);
    told.map(|(number, what)| format!("{} {what}", count(*number))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        let gateway = GatewayOutcome {
            shed: vec![("kv-limit", 0), ("queue-limit", 1200)],
            capped: 3,
            ..GatewayOutcome::default()
        };
        let outcome = Outcome { gateway: Some(gateway), ..Outcome::default() };
        let line = gateway_line(&[outcome.clone(), outcome]);
        assert_eq!(line, "2,400 attempts shed by queue-limit, 6 answers cut short");
        assert_eq!(gateway_line(&[Outcome::default()]), "");
    }
}
