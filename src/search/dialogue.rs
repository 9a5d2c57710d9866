//! Candidates in, metrics out, a line of JSON each: how other programs ask what a candidate does.

use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::{Map, Value as Json, json};

use super::candidate::{Candidate, KnobValue};
use super::evaluate::{Evaluator, Job, Run};
use super::objective::{Bound, Direction};
use super::relation::{Side, Sign};
use super::score::Score;
use super::space::{Domain, Knob, SearchSpace, Unit};

/// The most seeds of one question.
pub const SEEDS_MAX: usize = 10_000;

/// What one line asks: a candidate and the seeds that it shall meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The candidate, canonical.
    pub candidate: Candidate,
    /// At least one, distinct.
    pub seeds: Vec<u64>,
}

impl Question {
    /// Reads `{"knobs": {...}, "seeds": [...]}`, or the object of knobs alone. Without seeds
    /// those of the search are meant; knobs that are left out rest.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn read(space: &SearchSpace, line: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let Some(object) = json.as_object() else {
            return Err("a question is an object with `knobs`, or of knobs".to_owned());
        };
        let (knobs, seeds) = match object.get("knobs") {
            None => (&json, None),
            Some(knobs) => {
                let known = ["knobs", "seeds"];
                if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
                    return Err(format!("no key `{key}`; there are `knobs` and `seeds`"));
                }
                (knobs, object.get("seeds"))
            }
        };
        let candidate = Candidate::from_json(space, knobs)?;
        if !space.allows(&candidate) {
            return Err("the candidate breaks a relation that the search space requires".to_owned());
        }
        let seeds = seeds.map_or_else(|| Ok(space.seeds.of_search()), read_seeds)?;
        Ok(Self { candidate, seeds })
    }

    /// Asks `evaluator`: the runs in order of the seeds, and what they amount to.
    pub fn ask(&self, space: &SearchSpace, evaluator: &dyn Evaluator) -> Json {
        let job = |&seed| Job { candidate: self.candidate.clone(), seed };
        let jobs: Vec<Job> = self.seeds.iter().map(job).collect();
        let told = Mutex::new(vec![None; jobs.len()]);
        evaluator.evaluate(&jobs, &|| false, &|index, run| {
            told.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(run);
        });
        let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut runs: Vec<Run> = told.into_iter().flatten().collect();
        for run in runs.iter_mut().filter(|run| run.failed.is_none()) {
            space.complete(&mut run.figures);
        }
        self.answer(space, &runs)
    }

    /// The answer that `runs` amount to.
    fn answer(&self, space: &SearchSpace, runs: &[Run]) -> Json {
        let score = Score::of(space, runs);
        let violations = score.violations(space);
        let mut scored = serde_json::to_value(score).expect("scores hold finite numbers only");
        scored["violations"] = json!(violations);
        json!({
            "knobs": self.candidate.to_json(space),
            "hash": format!("{:016x}", self.candidate.hash()),
            "runs": runs,
            "score": scored,
        })
    }
}

fn read_seeds(json: &Json) -> Result<Vec<u64>, String> {
    let list = json.as_array().ok_or("`seeds` is a list of whole numbers")?;
    let seeds: Option<Vec<u64>> = list.iter().map(Json::as_u64).collect();
    let seeds = seeds.ok_or("`seeds` are whole numbers, 0 or more")?;
    if seeds.is_empty() || seeds.len() > SEEDS_MAX {
        return Err(format!("`seeds` holds {}, not 1 to {SEEDS_MAX}", seeds.len()));
    }
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("seed {} is asked for twice", pair[0])),
        None => Ok(seeds),
    }
}

/// The space as plain data: what another optimizer has to know of it.
pub fn describe(space: &SearchSpace) -> Json {
    let path = |&index: &usize| space.knobs[index].path.clone();
    let groups = space.scale_groups.iter();
    let groups: Vec<Vec<String>> = groups.map(|group| group.iter().map(path).collect()).collect();
    let constraints: Vec<Json> = space
        .constraints
        .iter()
        .map(|constraint| {
            let bound = match constraint.bound {
                Bound::AtMost => "<=",
                Bound::AtLeast => ">=",
            };
            let metric = constraint.metric.as_str();
            json!({"metric": metric, "bound": bound, "limit": constraint.limit})
        })
        .collect();
    let direction = match space.objective.direction {
        Direction::Minimize => "minimize",
        Direction::Maximize => "maximize",
    };
    let knobs = space.knobs.iter().map(|knob| describe_knob(space, knob));
    let require = space.require.iter().map(|relation| {
        let sign = match relation.sign {
            Sign::Below => "<",
            Sign::AtMost => "<=",
            Sign::Above => ">",
            Sign::AtLeast => ">=",
        };
        let (left, right) = (side_json(space, &relation.left), side_json(space, &relation.right));
        json!({"left": left, "sign": sign, "right": right})
    });
    json!({
        "space": space.name,
        "knobs": knobs.collect::<Vec<Json>>(),
        "require": require.collect::<Vec<Json>>(),
        "scale_groups": groups,
        "objective": {direction: space.objective.metric.as_str()},
        "constraints": constraints,
        "seeds": {"search": space.seeds.of_search(), "verify": space.seeds.of_verification()},
        "evaluations": space.budget.evaluations,
    })
}

fn describe_knob(space: &SearchSpace, knob: &Knob) -> Json {
    let mut object = match &knob.domain {
        Domain::Int { low, high, step, log } => {
            json!({"type": "int", "low": low, "high": high, "step": step, "log": log})
        }
        Domain::Float { low, high, log } => {
            json!({"type": "float", "low": low, "high": high, "log": log})
        }
        Domain::Choice { labels } => json!({"type": "choice", "options": labels}),
    };
    let unit = match knob.unit {
        Unit::Plain => None,
        Unit::Microseconds => Some("microseconds"),
    };
    let mut when = Map::new();
    for condition in &knob.when {
        let other = &space.knobs[condition.knob];
        let values = condition.values.iter().map(|&value| value_json(other, value));
        when.insert(other.path.clone(), values.collect());
    }
    object["path"] = json!(knob.path);
    object["unit"] = json!(unit);
    object["when"] = Json::Object(when);
    object["rest"] = value_json(knob, knob.rest);
    object["start"] = knob.start.map_or(Json::Null, |value| value_json(knob, value));
    object["counts_instances"] = json!(knob.counts_instances);
    object
}

fn side_json(space: &SearchSpace, side: &Side) -> Json {
    match *side {
        Side::Number(number) => json!({"number": number}),
        Side::Knob { factor, knob } => json!({"knob": space.knobs[knob].path, "factor": factor}),
    }
}

/// A value as a candidate's JSON has it: numbers plain, choices by label.
fn value_json(knob: &Knob, value: KnobValue) -> Json {
    match value {
        KnobValue::Int(value) => json!(value),
        KnobValue::Float(value) => json!(value),
        KnobValue::Choice(_) => json!(knob.label(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::evaluate::{Sink, Stop};
    use crate::search::metric::Figures;
    use crate::search::space::tests::serving_space;

    struct Echo;

    impl Evaluator for Echo {
        fn version(&self) -> u64 {
            1
        }

        fn evaluate(&self, jobs: &[Job], _: Stop<'_>, done: Sink<'_>) {
            // Backwards: the order of telling must not matter.
            for (index, job) in jobs.iter().enumerate().rev() {
                let mut figures = Figures::default();
                figures.set("ttft_p99_ms", 100.0 * job.seed as f64);
                figures.set("cost_per_hour", job.candidate.number(0).expect("a count"));
                done(index, Run::new(job.seed, true, figures));
            }
        }
    }

    fn read(line: &str) -> Result<Question, String> {
        Question::read(&serving_space(), line)
    }

    #[test]
    fn knobs_may_stand_alone_and_then_meet_the_seeds_of_the_search() {
        let alone = read(r#"{"pools.h100.instances": 9}"#).expect("a question");
        assert_eq!(alone.seeds, [42, 43, 44]);
        let line = r#"{"knobs": {"pools.h100.instances": 9}, "seeds": [42, 43, 44]}"#;
        assert_eq!(read(line), Ok(alone));
    }

    #[test]
    fn what_is_no_question_is_answered_by_a_sentence() {
        let sentence = |line: &str| read(line).expect_err(line);
        assert!(sentence("{").starts_with("EOF"));
        assert!(sentence("[1]").contains("object"));
        assert!(sentence(r#"{"knobs": {}, "seed": 3}"#).contains("no key `seed`"));
        assert!(sentence(r#"{"knobs": {}, "seeds": []}"#).contains("holds 0"));
        assert!(sentence(r#"{"knobs": {}, "seeds": [-1]}"#).contains("whole numbers"));
        assert!(sentence(r#"{"knobs": {}, "seeds": [7, 3, 7]}"#).contains("seed 7"));
        assert!(sentence(r#"{"knobs": {"pools.h100.instances": 99}}"#).contains("cannot be 99"));
        let bucket = r#"{"admission.policy": "token-bucket", "admission.capacity": 10000,
                         "admission.refill": 20000}"#;
        assert!(sentence(bucket).contains("relation"));
    }

    #[test]
    fn the_answer_has_the_runs_in_order_of_the_seeds_and_their_score() {
        let space = serving_space();
        let line = r#"{"knobs": {"pools.h100.instances": 9}, "seeds": [3, 8]}"#;
        let answer = read(line).expect("a question").ask(&space, &Echo);
        assert_eq!(answer["runs"][0]["seed"], 3);
        assert_eq!(answer["runs"][1]["figures"]["ttft_p99_ms"], 800.0);
        assert_eq!(answer["score"]["objective"], 9.0);
        assert_eq!(answer["score"]["constraints"][0]["mean"], 550.0);
        assert_eq!(answer["score"]["feasible"], false);
        assert!(answer["score"]["violations"][0].as_f64().is_some_and(|value| value > 0.0));
    }

    #[test]
    fn a_description_tells_domains_conditions_and_limits() {
        let told = describe(&serving_space());
        assert_eq!(told["knobs"][0]["type"], "int");
        assert_eq!(told["knobs"][2]["when"], json!({"routing.policy": ["weighted"]}));
        assert_eq!(told["knobs"][1]["options"], json!(["round-robin", "weighted"]));
        assert_eq!(told["constraints"][0]["limit"], 500.0);
        assert_eq!(told["objective"], json!({"minimize": "cost_per_hour"}));
        let relation = &told["require"][0];
        assert_eq!(relation["left"], json!({"knob": "admission.refill", "factor": 1.0}));
        assert_eq!(relation["sign"], "<=");
    }
}
