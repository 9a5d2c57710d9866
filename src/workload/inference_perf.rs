//! Expands the `inference_perf` section of a workload spec into clients.
//!
//! N system prompts times M users are N * M clients alike. Every stage keeps its own rate; in the
//! reference all stages run at their time-weighted mean.

use crate::base::Span;
use crate::config::{Bounds, Fields, Node, Problems};

use super::lengths::{LENGTH_MAX, Lengths};
use super::spec::{
    ARRIVAL_MAX, CLIENTS_MAX, ClientSpec, Growth, Pacing, Prefix, Prompt, RATE_MAX, Sessions,
    Window,
};

/// The lowest rate that counts, in arrivals per second.
const RATE_MIN: f64 = 1e-9;

/// Conversations of users, as the reference expands them.
const SESSIONS: Sessions = Sessions {
    max_rounds: 5,
    think_time: Span::from_us(500_000),
    growth: Growth::Accumulate,
    pacing: Pacing::Closed,
    single: false,
};

/// One stretch of the load.
struct Stage {
    rate: f64,
    duration_s: f64,
}

impl Stage {
    /// Slower stages are pauses: nothing comes in the 53 days that the clock lasts.
    fn sends(&self) -> bool {
        self.rate >= RATE_MIN
    }
}

/// What all users ask.
struct Questions {
    prompts: u32,
    users: u32,
    prompt_tokens: u32,
    question_tokens: u32,
    output_tokens: u32,
    multi_turn: bool,
}

/// The mean rate and the clients; `None` where something is wrong.
pub(super) fn read_inference_perf(fields: &mut Fields) -> Option<(f64, Vec<ClientSpec>)> {
    if fields.node("clients").is_some() {
        fields
            .error("clients", "`clients` and `inference_perf` exclude each other")
            .label("the section makes its own clients");
    }
    fields.ignored(&["aggregate_rate"], "the stages of `inference_perf` set the rate");
    let mut perf = fields.fields("inference_perf")?;
    perf.require(&["stages", "shared_prefix"]);
    let stages = read_stages(&mut perf);
    let questions = perf.fields("shared_prefix").and_then(read_questions);
    perf.finish();
    let (stages, questions) = (stages?, questions?);
    let total_s: f64 = stages.iter().map(|stage| stage.duration_s).sum();
    let mean = stages.iter().map(|stage| stage.rate * stage.duration_s).sum::<f64>() / total_s;
    Some((mean, expand(&windows(&stages, mean), &questions)))
}

fn read_stages(perf: &mut Fields) -> Option<Vec<Stage>> {
    let items = perf.list("stages")?;
    let problems = perf.problems();
    let stages: Vec<Option<Stage>> = items.iter().map(|item| read_stage(item, problems)).collect();
    let stages: Vec<Stage> = stages.into_iter().collect::<Option<_>>()?;
    if !stages.iter().any(Stage::sends) {
        perf.error("stages", "no stage sends anything").label("a rate above 0 is needed");
        return None;
    }
    let total_s: f64 = stages.iter().map(|stage| stage.duration_s).sum();
    if total_s > ARRIVAL_MAX.as_secs() {
        perf.error("stages", "the stages last longer than the simulated clock")
            .label(format!("{total_s} s; at most {} s", ARRIVAL_MAX.as_secs()));
        return None;
    }
    Some(stages)
}

fn read_stage(item: &Node, problems: &mut Problems) -> Option<Stage> {
    let mut fields = Fields::of(item, "a stage", problems)?;
    fields.require(&["rate", "duration"]);
    let rate = fields.f64("rate", Bounds::between(0.0, RATE_MAX));
    let duration_s = fields.f64("duration", Bounds::between(1e-6, ARRIVAL_MAX.as_secs()));
    fields.finish();
    Some(Stage { rate: rate?, duration_s: duration_s? })
}

fn read_questions(mut fields: Fields) -> Option<Questions> {
    fields.require(&[
        "num_unique_system_prompts",
        "num_users_per_system_prompt",
        "question_len",
        "output_len",
    ]);
    let many = 1..=CLIENTS_MAX as u32;
    let prompts = fields.u32("num_unique_system_prompts", many.clone());
    let users = fields.u32("num_users_per_system_prompt", many);
    let prompt_tokens = fields.u32("system_prompt_len", 0..=LENGTH_MAX).unwrap_or(0);
    let question_tokens = fields.u32("question_len", 1..=LENGTH_MAX);
    let output_tokens = fields.u32("output_len", 1..=LENGTH_MAX);
    let multi_turn = fields.bool("enable_multi_turn_chat").unwrap_or(false);
    let clients = u64::from(prompts.unwrap_or(1)) * u64::from(users.unwrap_or(1));
    if clients > CLIENTS_MAX as u64 {
        fields
            .error("num_users_per_system_prompt", format!("more than {CLIENTS_MAX} users"))
            .label(format!("{clients} users over all system prompts"));
    }
    fields.finish();
    Some(Questions {
        prompts: prompts?,
        users: users?,
        prompt_tokens,
        question_tokens: question_tokens?,
        output_tokens: output_tokens?,
        multi_turn,
    })
    .filter(|_| clients <= CLIENTS_MAX as u64)
}

/// The stages one behind the other, each with its own rate.
fn windows(stages: &[Stage], mean: f64) -> Vec<Window> {
    let mut end_s = 0.0;
    let mut windows = Vec::with_capacity(stages.len());
    for stage in stages {
        let start = Span::from_secs(end_s);
        end_s += stage.duration_s;
        let end = Span::from_secs(end_s);
        if stage.sends() && start < end {
            windows.push(Window { rate: stage.rate / mean, ..Window::new(start, end) });
        }
    }
    windows
}

fn expand(windows: &[Window], questions: &Questions) -> Vec<ClientSpec> {
    let mut clients = Vec::with_capacity((questions.prompts * questions.users) as usize);
    for prompt in 0..questions.prompts {
        for user in 0..questions.users {
            let group = format!("prompt-{prompt}");
            let length = questions.prompt_tokens;
            clients.push(ClientSpec {
                name: format!("prompt-{prompt}-user-{user}"),
                tenant: group.clone(),
                prompt: Prompt::Text(Lengths::Constant(f64::from(questions.question_tokens))),
                output: Lengths::Constant(f64::from(questions.output_tokens)),
                prefix: (length > 0).then_some(Prefix { group, length }),
                windows: windows.to_vec(),
                sessions: questions.multi_turn.then_some(SESSIONS),
                ..ClientSpec::default()
            });
        }
    }
    clients
}
