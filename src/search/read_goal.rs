//! Reads what is wanted: objective, constraints, weights, axes.

use super::metric::{MetricName, class_names, names};
use super::objective::{Bound, Constraint, Direction, FitnessWeights, Objective};
use super::scenarios::Scope;
use super::space::{Proof, Seek};
use crate::config::{Bounds, Fields, Node, Problems, did_you_mean, read_list, read_text};

/// What a search is after.
pub(super) struct Goal {
    pub objective: Objective,
    pub constraints: Vec<Constraint>,
    pub fitness: Option<FitnessWeights>,
    pub seek: Seek,
    pub confidence: f64,
}

/// The axes of a space that names none.
const PARETO_DEFAULT: [&str; 2] = ["ttft_p99_ms", "cost_per_hour"];
const FITNESS: &str = "fitness";

pub(super) fn read(fields: &mut Fields<'_, '_>, scope: Scope) -> Option<Goal> {
    let node = fields.required("objective")?;
    let problems = fields.problems();
    let mut goal = Fields::of(node, "`objective`", problems)?;
    let minimize = goal.node("minimize");
    let maximize = goal.node("maximize");
    let (direction, metric) = match (minimize, maximize) {
        (Some(node), None) => (Direction::Minimize, Some(node)),
        (None, Some(node)) => (Direction::Maximize, Some(node)),
        (one, _) => {
            let message = "`objective` needs one of `minimize` and `maximize`";
            let label = if one.is_some() { "both are here" } else { "neither is here" };
            goal.problems().error(node.at, message).label(label);
            (Direction::Minimize, None)
        }
    };
    let metric = metric.and_then(|node| read_metric(node, scope, goal.problems()));
    let constraints = goal.node("subject_to");
    let constraints =
        constraints.map_or_else(Vec::new, |node| read_constraints(node, scope, goal.problems()));
    let fitness = read_fitness(&mut goal);
    let seek = goal.one_of("seek", &SEEK).unwrap_or_default();
    let confidence = goal.f64("confidence", CONFIDENCE);
    goal.finish();
    let metric = metric?;
    let wanted =
        is_fitness(&metric) || constraints.iter().any(|constraint| is_fitness(&constraint.metric));
    if wanted && fitness.is_none() && node.entry("weights").is_none() {
        fields.problems().error(node.at, "`fitness` needs weights").hint(WEIGHTS_HINT);
    }
    let confidence = confidence.unwrap_or(Proof::default().confidence);
    let objective = Objective { direction, metric };
    Some(Goal { objective, constraints, fitness, seek, confidence })
}

/// Whether `metric` is the fitness, of one scenario or of all.
fn is_fitness(metric: &MetricName) -> bool {
    metric.as_str().split('@').next() == Some(FITNESS)
}

impl Goal {
    /// Adds to `show` what each fitness that is wanted, promised, an axis of `pareto` or shown is
    /// made of: large differences of a figure are small ones of the fitness.
    pub fn show_parts(&self, pareto: &[MetricName], scope: Scope, show: &mut Vec<MetricName>) {
        let Some(weights) = &self.fitness else { return };
        let promised = self.constraints.iter().map(|constraint| &constraint.metric);
        let told = std::iter::once(&self.objective.metric).chain(promised).chain(pareto);
        let told: Vec<MetricName> = told.chain(show.iter()).cloned().collect();
        for metric in told.iter().filter(|metric| is_fitness(metric)) {
            let place = metric.as_str().strip_prefix(FITNESS).unwrap_or_default();
            for part in weights.figures() {
                let part = MetricName::parse(&format!("{part}{place}"), scope);
                show.extend(part.ok().filter(|part| !told.contains(part)));
            }
        }
    }
}

/// Below it is no evidence, above it no number of seeds would do.
const CONFIDENCE: Bounds = Bounds::between(0.5, 0.9999);

const SEEK: [(&str, Seek); 2] = [("optimum", Seek::Optimum), ("frontier", Seek::Frontier)];
const WEIGHTS_HINT: &str = "add `weights: \"p99_ttft:3,mean_e2e:1,throughput:2\"` to `objective`";

fn read_fitness(goal: &mut Fields<'_, '_>) -> Option<FitnessWeights> {
    let scale = goal.f64("latency_scale_ms", Bounds::above(0.0, 1e9)).unwrap_or(1000.0);
    let text = goal.text("weights")?;
    match FitnessWeights::parse(text, scale) {
        Ok(weights) => Some(weights),
        Err((message, hint)) => {
            let problem = goal.error("weights", message);
            problem.hint(hint.unwrap_or_default());
            None
        }
    }
}

fn read_metric(node: &Node, scope: Scope, problems: &mut Problems) -> Option<MetricName> {
    let text = read_text(node, "a metric", problems)?;
    match MetricName::parse(text, scope) {
        Ok(metric) => Some(metric),
        Err(near) => {
            let hint =
                near.map_or_else(|| all_metrics(text), |near| format!("did you mean `{near}`?"));
            let message = format!("no metric `{text}`");
            problems.error(node.at, message).label("unknown metric").hint(hint);
            None
        }
    }
}

fn all_metrics(text: &str) -> String {
    let names = if text.contains('.') { class_names() } else { names() };
    did_you_mean(text, names.iter().map(String::as_str))
}

fn read_constraints(node: &Node, scope: Scope, problems: &mut Problems) -> Vec<Constraint> {
    let mut constraints: Vec<Constraint> = Vec::new();
    for item in read_list(node, "`subject_to`", problems).unwrap_or_default() {
        let Some(text) = read_text(item, "a constraint", problems) else { continue };
        let constraint = match Constraint::parse(text, scope) {
            Ok(constraint) => constraint,
            Err((message, hint)) => {
                problems.error(item.at, message).hint(hint.unwrap_or_default());
                continue;
            }
        };
        // A figure may have a limit on average and another one for most runs.
        let same_metric = |other: &&Constraint| {
            other.metric == constraint.metric && other.share == constraint.share
        };
        if let Some(other) =
            constraints.iter().filter(same_metric).find(|other| other.bound == constraint.bound)
        {
            let message = format!("`{constraint}` repeats `{other}`");
            problems.error(item.at, message).label("a second limit").hint("keep the tighter one");
            continue;
        }
        if let Some(other) = constraints.iter().find(same_metric)
            && !leaves_room(&constraint, other)
        {
            let message = format!("`{constraint}` and `{other}` cannot both hold");
            problems.error(item.at, message).label("leaves no room");
            continue;
        }
        constraints.push(constraint);
    }
    constraints
}

fn leaves_room(left: &Constraint, right: &Constraint) -> bool {
    match left.bound {
        Bound::AtMost => right.limit <= left.limit,
        Bound::AtLeast => left.limit <= right.limit,
    }
}

/// Figures that tables show besides those that are wanted.
pub(super) fn read_show(fields: &mut Fields<'_, '_>, scope: Scope) -> Vec<MetricName> {
    let Some(node) = fields.node("show") else { return Vec::new() };
    let problems = fields.problems();
    let items = read_list(node, "`show`", problems).unwrap_or_default();
    items.iter().filter_map(|item| read_metric(item, scope, problems)).collect()
}

/// The axes of the frontier.
pub(super) fn read_pareto(
    fields: &mut Fields<'_, '_>,
    scope: Scope,
    goal: Option<&Goal>,
) -> Vec<MetricName> {
    let Some(node) = fields.node("pareto") else {
        let axes = PARETO_DEFAULT.iter();
        return axes.filter_map(|name| MetricName::parse(name, Scope::default()).ok()).collect();
    };
    let problems = fields.problems();
    let items = read_list(node, "`pareto`", problems).unwrap_or_default();
    let mut axes: Vec<MetricName> = Vec::new();
    for item in items {
        let Some(axis) = read_metric(item, scope, problems) else { continue };
        if axes.contains(&axis) {
            problems.error(item.at, format!("axis `{axis}` appears twice")).label("once is enough");
        } else if is_fitness(&axis) && goal.is_some_and(|goal| goal.fitness.is_none()) {
            problems.error(item.at, "`fitness` needs weights").hint(WEIGHTS_HINT);
        } else {
            axes.push(axis);
        }
    }
    if items.len() == 1 {
        problems.error(node.at, "a frontier needs at least two axes").label("one axis");
    }
    axes
}
