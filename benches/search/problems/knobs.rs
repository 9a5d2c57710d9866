//! Search spaces written in code.

use blis_opt::search::scenarios::Scope;
use blis_opt::search::{
    Budget, Condition, Constraint, Direction, Domain, Knob, KnobValue, MetricName, Objective,
    Proof, SearchSpace, Seeds, Seek, Unit,
};

/// An integer from `low` to `high` in steps of `step`.
pub fn int(path: &str, (low, high, step): (i64, i64, i64)) -> Knob {
    knob(path, Domain::Int { low, high, step, log: false })
}

/// An integer on a logarithmic scale.
pub fn int_log(path: &str, (low, high, step): (i64, i64, i64)) -> Knob {
    knob(path, Domain::Int { low, high, step, log: true })
}

/// A number from `low` to `high`.
pub fn float(path: &str, low: f64, high: f64) -> Knob {
    knob(path, Domain::Float { low, high, log: false })
}

/// A number on a logarithmic scale.
pub fn float_log(path: &str, low: f64, high: f64) -> Knob {
    knob(path, Domain::Float { low, high, log: true })
}

/// One of `labels`.
pub fn choice(path: &str, labels: &[&str]) -> Knob {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    knob(path, Domain::Choice { labels })
}

/// The same knob, which matters only where the choice `of` has the option `option`.
pub fn when(mut knob: Knob, of: usize, option: usize) -> Knob {
    knob.when.push(Condition { knob: of, values: vec![KnobValue::Choice(option)] });
    knob
}

fn knob(path: &str, domain: Domain) -> Knob {
    let rest = match &domain {
        Domain::Int { low, .. } => KnobValue::Int(*low),
        Domain::Float { low, .. } => KnobValue::Float(*low),
        Domain::Choice { .. } => KnobValue::Choice(0),
    };
    let counts_instances = path.ends_with(".instances");
    let (unit, when, path) = (Unit::Plain, Vec::new(), path.to_owned());
    Knob { path, domain, unit, when, rest, start: None, counts_instances }
}

/// The cheapest of `knobs` that keeps `constraints`, with four seeds an evaluation.
pub fn space(name: &str, knobs: Vec<Knob>, constraints: &[&str]) -> SearchSpace {
    let metric = |name| MetricName::parse(name, Scope::default()).expect("a metric");
    let constraint = |text: &&str| Constraint::parse(text, Scope::default()).expect("a constraint");
    SearchSpace {
        name: name.to_owned(),
        knobs,
        require: Vec::new(),
        scale_groups: Vec::new(),
        alike: Vec::new(),
        objective: Objective { direction: Direction::Minimize, metric: metric("cost_per_hour") },
        constraints: constraints.iter().map(constraint).collect(),
        seek: Seek::Optimum,
        fitness: None,
        show: Vec::new(),
        pareto: vec![metric("ttft_p99_ms"), metric("cost_per_hour")],
        seeds: Seeds { base: 1, search: 4, verify: 16 },
        budget: Budget { evaluations: 240, ..Budget::default() },
        proof: Proof::default(),
        batch: 4,
    }
}
