//! Reads search spaces: everything that is wrong is said at once, with its place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::candidate::fnv1a;
use super::propose::sobol;
use super::runs::{Offer, RunLength, RunWishes, fleet_wishes, run_length};
use super::scenarios::{self, Part, Plan, Scope};
use super::setting::{fleet_names, largest, pleasant_interval, setting};
use super::simulated::{SimulatedEvaluator, World};
use super::space::{Budget, Proof, SearchSpace, Seeds, Seek};
use super::template::Template;
use super::{alike, batch, read_goal, read_knobs};
use crate::base::Span;
use crate::config::{Bounds, DAY, Defaults, Fields, Node, Position, Problems, Value, parse};
use crate::policy::{PolicyBundle, read_bundle};
use crate::sim::RunOptions;
use crate::workload::{FileDigest, Limits, WorkloadSpec};

/// What an input file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceRole {
    /// The search space.
    Space,
    /// The template of the policy bundle.
    Template,
    /// The workload.
    Workload,
    /// A trace file of the workload; its text is a fingerprint of what it holds.
    Trace,
    /// Coefficients and prices.
    Defaults,
    /// A scenario.
    Scenario,
}

/// An input file and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is for.
    pub role: SourceRole,
    /// Its name as given.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Gives the text of a file that another names; the error is a sentence.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Opens `named`, which stands in `file`: relative to the folder of that. The error is a
/// sentence. Trace files are too large to be kept as text.
///
/// # Errors
/// The reason why the file cannot be opened.
pub fn open_beside(file: &str, named: &str) -> Result<Box<dyn Read>, String> {
    let opened = File::open(beside(file, named)).map_err(|error| error.to_string())?;
    Ok(Box::new(opened))
}

/// The path `named` in `file`.
fn beside(file: &str, named: &str) -> String {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    folder.join(named).to_string_lossy().into_owned()
}

/// More requests of a run than this are drawn when they are due, so that they never fill the
/// memory.
pub const KEPT_MAX: f64 = 4e6;

/// A search space with all that it refers to.
#[derive(Clone, Debug)]
pub struct SpaceFile {
    /// The question.
    pub space: SearchSpace,
    /// What knobs are turned on.
    pub template: Template,
    /// The template as it is.
    pub bundle: PolicyBundle,
    /// Who arrives.
    pub workload: WorkloadSpec,
    /// How long runs last.
    pub run: RunLength,
    /// What candidates are judged under.
    pub plan: Plan,
    /// The texts of the search space and of what it refers to.
    pub sources: Vec<Source>,
}

/// Reads the search space in `text`, called `file`. What it refers to by a path is read by `read`
/// relative to the file's folder. `None` where there was an error; all are in `problems`.
pub fn read_space(
    (file, text): (&str, &str),
    defaults: &Defaults,
    read: ReadFile<'_>,
    problems: &mut Problems,
) -> Option<SpaceFile> {
    let errors = problems.errors();
    let (path, study) = batch::split(file);
    let root = batch::pick(parse(path, text, problems)?, study, problems)?;
    let source = |role, (file, text): (String, String)| Source { role, file, text };
    let mut sources = vec![source(SourceRole::Space, (file.to_owned(), text.to_owned()))];
    let mut fields = Fields::of(&root, "the search space", problems)?;
    let mut library = Library { file: path, read };
    let template = library.tree(&mut fields, "template");
    let workload = library.tree(&mut fields, "workload");
    let bundle = template.as_ref().and_then(|found| {
        found.with(path, fields.problems(), |node, problems| read_bundle(node, defaults, problems))
    });
    let spec = workload.as_ref().and_then(|found| {
        let home = found.text.as_ref().map_or(path, |(home, _)| home);
        let open = |named: &str| open_beside(home, named);
        found.with(path, fields.problems(), |node, problems| {
            WorkloadSpec::read_with(node, defaults, &open, problems)
        })
    });
    let wishes = read_run(&mut fields);
    let names = bundle.as_ref().map(fleet_names);
    let mut texts = Vec::new();
    let parts = scenarios::read(&mut fields, names.as_ref(), |node, problems| {
        let tree = library.named(node, "scenario", problems)?;
        texts.extend(tree.text.clone());
        Some(tree)
    });
    let space = read_parts(&mut fields, (path, study), template.as_ref(), (spec.as_ref(), &parts));
    fields.finish();
    let (space, template_tree) = (space?, template?);
    let (bundle, spec) = (bundle?, spec?);
    if problems.errors() > errors {
        return None;
    }
    let offer = offer(&spec);
    let changes = bundle.autoscaling.is_some() || !parts.is_empty();
    let wishes = fleet_wishes(&wishes, &offer, changes);
    let run = run_length(&wishes, &bundle.pools[0], &bundle.batching, &offer);
    let end = run.duration.or(offer.arrivals).unwrap_or(DAY);
    let plan = Plan::new(parts, &spec, setting(&largest(&bundle, &space.0), &spec, end));
    let plan = plan.map_err(|reason| problems.error(root.at, reason)).ok()?;
    let named = texts.into_iter().map(|text| source(SourceRole::Scenario, text));
    sources.extend(named);
    sources.extend(template_tree.text.clone().map(|text| source(SourceRole::Template, text)));
    let workload = workload?;
    let home = workload.text.as_ref().map_or(path, |(home, _)| home).to_owned();
    sources.extend(workload.text.map(|text| source(SourceRole::Workload, text)));
    let traces = spec.files.iter().map(|digest| (beside(&home, &digest.file), fingerprint(digest)));
    sources.extend(traces.map(|text| source(SourceRole::Trace, text)));
    let (space, options) = space;
    let template = Template::new(template_tree.node, options);
    Some(SpaceFile { space, template, bundle, workload: spec, run, plan, sources })
}

impl SpaceFile {
    /// Reads a search space again from the texts that a journal keeps.
    pub fn from_sources(
        sources: &[Source],
        defaults: &Defaults,
        problems: &mut Problems,
    ) -> Option<Self> {
        let space = sources.iter().find(|source| source.role == SourceRole::Space)?;
        let read = |file: &str| {
            let found = sources.iter().find(|source| source.file == file);
            found.map(|source| source.text.clone()).ok_or_else(|| "it was not kept".to_owned())
        };
        let file = read_space((&space.file, &space.text), defaults, &read, problems)?;
        let traces = |sources: &[Source]| -> Vec<Source> {
            let traces = sources.iter().filter(|source| source.role == SourceRole::Trace);
            traces.cloned().collect()
        };
        for (then, now) in traces(sources).iter().zip(traces(&file.sources)) {
            if then.text != now.text {
                let message = format!("`{}` is not what it was when the study began", now.file);
                problems.error(Position::NOWHERE, message).label("it held something else");
                return None;
            }
        }
        Some(file)
    }

    /// What simulates this space's candidates.
    pub fn evaluator<'a>(&'a self, defaults: &'a Defaults) -> SimulatedEvaluator<'a> {
        let read = move |node: &Node| {
            let mut problems = Problems::new();
            let bundle = read_bundle(node, defaults, &mut problems);
            bundle.ok_or_else(|| first_error(&problems))
        };
        let depends = format!("{:?} {:?} {:?} {:?}", self.bundle, self.plan, self.run, defaults);
        let version = fnv1a(format!("{} {depends}", env!("CARGO_PKG_VERSION")).as_bytes());
        let (read, world) = (Box::new(read) as _, self.world());
        SimulatedEvaluator::new(&self.space, &self.template, read, world, version)
    }

    /// What candidates meet.
    fn world(&self) -> World {
        let limits = self.limits();
        let offered = self.workload.offered();
        let end = limits.duration.filter(|_| limits.max_requests.is_none());
        let many = |end: &Span| offered.requests_per_s_mean * end.as_secs() > KEPT_MAX;
        let asks = |figures: &[&str]| {
            let metrics = self.space.constraints.iter().map(|constraint| &constraint.metric);
            let metrics = metrics.chain(&self.space.pareto).chain(&self.space.show);
            let metrics = metrics.chain([&self.space.objective.metric]);
            metrics.into_iter().any(|metric| figures.contains(&metric.figure()))
        };
        let rests_on_capacity = asks(&["below_needed_s", "cost_over_clairvoyant"]);
        let by_interval = rests_on_capacity || asks(&["slo_attainment_min", "recovery_s_max"]);
        let timeline = end.filter(|_| by_interval).map(pleasant_interval);
        World {
            plan: self.plan.clone(),
            limits,
            drawn: end.filter(many),
            measured: rests_on_capacity.then(|| self.bundle.clone()),
            options: RunOptions { timeline, ..self.run.options() },
        }
    }

    /// Where a realisation of the workload ends.
    pub fn limits(&self) -> Limits {
        let run = Limits { duration: self.run.duration, max_requests: None };
        run.or(self.workload.limits())
    }
}

/// What a trace file holds, in short.
fn fingerprint(digest: &FileDigest) -> String {
    format!("{} bytes, fnv1a {:016x}", digest.bytes, digest.fnv1a)
}

fn first_error(problems: &Problems) -> String {
    let error = problems.list().iter().find(|p| p.severity == crate::config::Severity::Error);
    error.map_or_else(|| "it is no policy bundle".to_owned(), |problem| problem.message.clone())
}

/// A tree that the search space holds or names.
pub(super) struct Tree {
    pub node: Node,
    /// What messages call it.
    pub name: String,
    /// The file of its own and its text, where it has one.
    pub text: Option<(String, String)>,
}

impl Tree {
    /// Reads it, with problems placed in its own file.
    fn with<T>(
        &self,
        back: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &mut Problems) -> T,
    ) -> T {
        if let Some((file, _)) = &self.text {
            problems.select_file(file);
        }
        let done = read(&self.node, problems);
        problems.select_file(back);
        done
    }
}

struct Library<'a> {
    file: &'a str,
    read: ReadFile<'a>,
}

impl Library<'_> {
    /// The map at `key`, or the file that it names.
    fn tree(&mut self, fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Tree> {
        let node = fields.required(key)?;
        self.named(node, key, fields.problems())
    }

    /// The map at `node`, or the file that it names; `key` is what messages call it.
    fn named(&mut self, node: &Node, key: &str, problems: &mut Problems) -> Option<Tree> {
        let Value::Text(path) = &node.value else {
            let name = format!("the `{key}` of this file");
            return Some(Tree { node: node.clone(), name, text: None });
        };
        let path = beside(self.file, path);
        match (self.read)(&path) {
            Err(reason) => {
                let message = format!("cannot read `{path}`: {reason}");
                let problem = problems.error(node.at, message);
                problem.label("named here").hint("paths are relative to the search space's folder");
                None
            }
            Ok(text) => {
                let node = parse(&path, &text, problems);
                problems.select_file(self.file);
                Some(Tree { node: node?, name: path.clone(), text: Some((path, text)) })
            }
        }
    }
}

type Space = (SearchSpace, Vec<Vec<Node>>);

/// Everything but template, workload and run length.
fn read_parts(
    fields: &mut Fields<'_, '_>,
    (file, study): (&str, Option<&str>),
    template: Option<&Tree>,
    (workload, parts): (Option<&WorkloadSpec>, &[Part]),
) -> Option<Space> {
    let name = read_name(fields, study.unwrap_or(file));
    let knobs = read_knobs::read(fields, template);
    let require = fields.node("require");
    let require = require.map_or_else(Vec::new, |node| {
        read_knobs::read_relations(node, &knobs.list, fields.problems())
    });
    let classes = workload.map(WorkloadSpec::class_names);
    let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
    let scope = Scope { classes: classes.as_deref(), scenarios: &names };
    let goal = read_goal::read(fields, scope);
    let pareto = read_goal::read_pareto(fields, scope, goal.as_ref());
    let mut show = read_goal::read_show(fields, scope);
    let (seeds, fresh_max) = read_seeds(fields);
    let (budget, certificate, frontier) = read_budget(fields);
    let batch = fields.u32("batch", 1..=256).unwrap_or(4) as usize;
    let goal = goal?;
    if goal.seek == Seek::Frontier && budget.gain.is_some() {
        let problem = fields.error("budget", "`gain` is about the objective, not a frontier");
        problem.hint("leave `gain` out, or seek the optimum");
    }
    goal.show_parts(&pareto, scope, &mut show);
    let frontier = frontier.or(goal.seek.frontier_default());
    let proof = Proof { confidence: goal.confidence, fresh_max, certificate, frontier };
    let template = template.map(|template| &template.node);
    let alike = template.map(|node| alike::read(node, &knobs.list, &require)).unwrap_or_default();
    let space = SearchSpace {
        name,
        knobs: knobs.list,
        require,
        scale_groups: knobs.scale_groups,
        alike,
        objective: goal.objective,
        constraints: goal.constraints,
        seek: goal.seek,
        fitness: goal.fitness,
        pareto,
        show,
        seeds,
        budget,
        proof,
        batch,
    };
    if space.knobs.is_empty() {
        return None;
    }
    if !space.require.is_empty() && !sobol::some_allowed(&space) {
        let problem = fields.error("require", "no candidate keeps all of these relations");
        problem.label("thousands of candidates were tried").hint("widen the ranges of the knobs");
    }
    Some((space, knobs.options))
}

fn read_name(fields: &mut Fields<'_, '_>, file: &str) -> String {
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_else(|| "study".to_owned());
    let Some(name) = fields.text("name") else { return stem };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let problem = fields.error("name", format!("`{name}` cannot name a folder"));
        problem.hint("use letters, digits, `-`, `_` and `.`");
        return stem;
    }
    name.to_owned()
}

fn read_run(fields: &mut Fields<'_, '_>) -> RunWishes {
    let Some(mut run) = fields.fields("run") else { return RunWishes::default() };
    let month = DAY.times(30);
    let wishes = RunWishes {
        duration: run.span("duration", month),
        warm_up: run.span("warm_up", month),
        horizon: run.span("horizon", month),
    };
    for (key, end) in [("duration", wishes.duration), ("horizon", wishes.horizon)] {
        let Some(end) = end else { continue };
        if end <= wishes.warm_up.unwrap_or(Span::ZERO) {
            let problem = run.error(key, format!("`{key}` ends before anything is measured"));
            problem.label("not after the warm-up").hint(format!("`{key}` counts from the start"));
        }
    }
    run.finish();
    wishes
}

/// The seeds, and how many fresh ones a candidate winner meets at most.
fn read_seeds(fields: &mut Fields<'_, '_>) -> (Seeds, Option<u32>) {
    let default = Seeds::default();
    let Some(mut seeds) = fields.fields("seeds") else { return (default, None) };
    let read = Seeds {
        base: seeds.u64("base", 0..=u64::MAX).unwrap_or(default.base),
        search: seeds.u32("search", 1..=Seeds::SEARCH_MAX).unwrap_or(default.search),
        verify: seeds.u32("verify", 2..=Seeds::FRESH_MAX).unwrap_or(default.verify),
    };
    let most = seeds.u32("verify_max", 2..=Seeds::FRESH_MAX);
    if most.is_some_and(|most| most < read.verify) {
        let message = format!("`verify_max` is below `verify`, {}", read.verify);
        let problem = seeds.error("verify_max", message);
        problem.label("fewer seeds than at first").hint("leave it out for four times `verify`");
    }
    seeds.finish();
    (read, most)
}

/// The budget of the search, the evaluations of the certificate, and the points of the frontier
/// that meet fresh seeds where that is said.
fn read_budget(fields: &mut Fields<'_, '_>) -> (Budget, u32, Option<u32>) {
    let (default, certificate) = (Budget::default(), Proof::default().certificate);
    let Some(mut budget) = fields.fields("budget") else {
        return (default, certificate, None);
    };
    let evaluations = budget.u32("evaluations", 1..=1_000_000).unwrap_or(default.evaluations);
    let wall = budget.span("wall", DAY.times(30));
    let certificate = budget.u32("certificate", 0..=100_000).unwrap_or(certificate);
    let frontier = budget.u32("frontier", 0..=100_000);
    if wall == Some(Span::ZERO) {
        budget.error("wall", "`wall` leaves no time at all").hint("leave it out for no limit");
    }
    let requests = budget.f64("requests", Bounds::between(1.0, 1e15)).map(|most| most as u64);
    let gain = budget.f64("gain", Bounds::above(0.0, 1.0));
    budget.finish();
    (Budget { evaluations, wall, requests, gain }, certificate, frontier)
}

/// What the length of a run depends on.
fn offer(spec: &WorkloadSpec) -> Offer {
    let offered = spec.offered();
    let counted = spec.num_requests.map(|requests| requests as f64 / offered.requests_per_s_mean);
    let counted = counted.map(Span::from_secs);
    let arrivals = match (counted, spec.horizon) {
        (Some(counted), Some(horizon)) => Some(counted.min(horizon)),
        (counted, horizon) => counted.or(horizon),
    };
    Offer {
        input_tokens_mean: offered.input_tokens_mean,
        output_tokens_mean: offered.output_tokens_mean,
        arrivals,
    }
}
