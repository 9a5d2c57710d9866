//! Runs that are stopped: what was certain comes true, and what is not stopped is the same.

use std::cell::Cell;

use blis_opt::base::{Rng, Span, Stream};
use blis_opt::sim::{
    Crossing, Latency, Line, Loss, Outcome, Scratch, simulate_under, simulate_within,
};

use crate::swarm::{Scenario, for_all, for_all_fleets};

const LEVELS: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// What the figure of `crossing` is in a run that was not stopped; `None` where it has none.
fn figure(outcome: &Outcome, line: &Line) -> Option<f64> {
    let class = line.class.map(|class| &outcome.classes[usize::from(class)]);
    let measured = class.map_or(&outcome.measured, |class| &class.measured);
    match line.crossing {
        Crossing::Quantile { of, level, .. } => {
            let summary = match (of, class) {
                (Latency::Ttft, None) => &outcome.ttft,
                (Latency::Tpot, None) => &outcome.tpot,
                (Latency::E2e, None) => &outcome.e2e,
                (Latency::Ttft, Some(class)) => &class.ttft,
                (Latency::Tpot, Some(class)) => &class.tpot,
                (Latency::E2e, Some(class)) => &class.e2e,
            };
            let each = [summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms];
            let at = LEVELS.iter().position(|known| *known >= level).expect("a known level");
            (summary.count > 0).then_some(each[at])
        }
        Crossing::Share { of, .. } => {
            let within = class.map_or(outcome.within_slo, |class| class.within_slo);
            let lost_for_good = measured.rejected
                + measured.dropped
                + measured.timed_out
                + measured.failed
                + measured.expired;
            let lost = match of {
                Loss::OutsideTargets => measured.injected - within,
                Loss::Unanswered => lost_for_good,
            };
            (measured.injected > 0).then_some(lost as f64 / measured.injected as f64)
        }
    }
}

fn is_beyond(outcome: &Outcome, line: &Line) -> bool {
    let limit = match line.crossing {
        Crossing::Quantile { above, .. } => above.as_secs() * 1e3,
        Crossing::Share { above, .. } => above,
    };
    figure(outcome, line).is_some_and(|figure| figure > limit)
}

/// Lines around what the run came to.
fn lines(outcome: &Outcome, rng: &mut Rng) -> Vec<Line> {
    let mut lines = Vec::new();
    for _ in 0..=rng.below(3) {
        let classes = outcome.classes.len() as u64;
        let class = (rng.below(2) == 0).then(|| rng.below(classes) as u8);
        let crossing = if rng.below(3) == 0 {
            let of = [Loss::OutsideTargets, Loss::Unanswered][rng.below(2) as usize];
            Crossing::Share { of, above: 0.0 }
        } else {
            let of = [Latency::Ttft, Latency::Tpot, Latency::E2e][rng.below(3) as usize];
            let level = LEVELS[rng.below(4) as usize];
            Crossing::Quantile { of, level, above: Span::ZERO }
        };
        let factor = [0.0, 0.3, 0.8, 0.98, 1.0, 1.02, 2.0][rng.below(7) as usize];
        let unlimited = Line { class, crossing };
        let found = figure(outcome, &unlimited).unwrap_or(1.0) * factor;
        let crossing = match crossing {
            Crossing::Quantile { of, level, .. } => {
                Crossing::Quantile { of, level, above: Span::from_secs(found / 1e3) }
            }
            Crossing::Share { of, .. } => Crossing::Share { of, above: found },
        };
        lines.push(Line { class, crossing });
    }
    lines
}

fn check(scenario: &Scenario, stopped: &Cell<u64>) -> Result<(), String> {
    let Scenario { bundle, trace, conditions, options } = scenario;
    let whole = simulate_under(bundle, trace, conditions, options, &mut Scratch::default());
    let mut rng = Rng::new(trace.len() as u64 + conditions.seed, Stream::Resampling, 0);
    let mut scratch = Scratch::default();
    for _ in 0..8 {
        let lines = lines(&whole, &mut rng);
        match simulate_within(&lines, (bundle, trace, conditions), options, &mut scratch) {
            Ok(same) if same == whole => {}
            Ok(_) => return Err(format!("not stopped and not the same: {lines:?}")),
            Err(crossed) => {
                stopped.set(stopped.get() + 1);
                let line = &lines[crossed.line];
                if !is_beyond(&whole, line) {
                    let came = figure(&whole, line);
                    return Err(format!("stopped by {line:?}, and came to {came:?}"));
                }
                if !(0.0..=1.0).contains(&crossed.arrived) {
                    return Err(format!("{crossed:?}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_run_that_is_stopped_would_have_crossed_its_line_and_any_other_is_the_same() {
    let stopped = Cell::new(0);
    for_all(7_000, 300, |scenario| check(scenario, &stopped));
    assert!(stopped.get() > 200, "{} runs were stopped", stopped.get());
}

#[test]
fn fleets_that_change_are_run_to_their_end_unless_the_line_is_certain() {
    let stopped = Cell::new(0);
    for_all_fleets(7_000, 200, |scenario| check(scenario, &stopped));
    assert!(stopped.get() > 20, "{} runs were stopped", stopped.get());
}
