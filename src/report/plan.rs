//! What a study may cost, said before it starts.

use super::number::{count, duration, percent, plural};
use crate::search::{SearchSpace, StudyPlan};

/// The plan of a study of `space` in words, a line per stage.
pub fn plan_text(space: &SearchSpace, plan: &StudyPlan) -> String {
    let knobs = plural(space.knobs.len(), "knob");
    let size = space.size().map_or("more candidates than a billion".to_owned(), |size| {
        format!("at most {} candidates", count(size))
    });
    let (first, most) = plan.fresh;
    let each = format!("{first} to {most} runs each");
    let evaluations = plural(space.budget.evaluations as usize, "evaluation");
    let requests = match plan.requests_per_run {
        0 => String::new(),
        1 => " of 1 request".to_owned(),
        requests => format!(" of about {} requests", count(requests)),
    };
    let runs = count(plan.search);
    let search =
        format!("{evaluations} of {} ({runs} runs{requests}){}", seeds(space), ends(space));
    let certificate = match plan.certificate {
        0 => "none".to_owned(),
        runs => format!(
            "{} runs on what lies one step from the winner; {} on fresh seeds, {each}",
            count(runs),
            plural(plan.challengers as usize, "challenger")
        ),
    };
    let frontier = match plan.frontier {
        Some(0) => "no re-test".to_owned(),
        Some(points) => format!("{} on fresh seeds, {each}", plural(points as usize, "point")),
        None => format!("every point on fresh seeds, {each}"),
    };
    let finalists = plural(plan.finalists as usize, "finalist");
    let lines = [
        ("search", search),
        ("fresh seeds", format!("{finalists} until one keeps its promises, {each}")),
        ("certificate", certificate),
        ("frontier", frontier),
        ("in all", format!("{} runs, mostly about {}", count(plan.most()), count(plan.usual()))),
    ];
    let lines = lines.map(|(stage, most)| format!("  {stage:<12} {most}"));
    format!("PLAN of {}: {knobs}, {size}; at most\n{}", space.name, lines.join("\n"))
}

fn seeds(space: &SearchSpace) -> String {
    plural(space.seeds.search as usize, "seed")
}

/// What else ends the search.
fn ends(space: &SearchSpace) -> String {
    let budget = &space.budget;
    let wall = budget.wall.map(|wall| format!("{} have passed", duration(wall.as_secs())));
    let requests = budget.requests.map(|most| format!("{} requests were simulated", count(most)));
    let gain = budget
        .gain
        .map(|least| format!("one more is expected to gain less than {}", percent(least)));
    let ends: Vec<String> = [wall, requests, gain].into_iter().flatten().collect();
    if ends.is_empty() { String::new() } else { format!(", or until {}", ends.join(", or ")) }
}
