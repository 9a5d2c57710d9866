//! The best that there is, by force.

use blis_opt::base::{Rng, Stream};
use blis_opt::search::{Candidate, Domain, KnobValue, SearchSpace, cube};
use clap::Args;

use super::problems::{self, Problem};

/// Find the best truly feasible candidate by brute force
#[derive(Args, Debug)]
pub struct OptimumArgs {
    /// Which problem
    problem: String,

    /// Try every candidate, with so many values of each float
    #[arg(long, value_name = "LEVELS")]
    exhaust: Option<u64>,

    /// Random candidates to begin with
    #[arg(long, default_value_t = 2_000_000)]
    points: u64,

    /// How many of the best go on with steps
    #[arg(long, default_value_t = 64)]
    climbers: usize,

    /// Steps of each
    #[arg(long, default_value_t = 200_000)]
    steps: u64,
}

/// Prints the best, and how much of the space is feasible.
pub fn optimum(args: &OptimumArgs) {
    let problem = problems::named(&args.problem);
    if let Some(best) = problem.best() {
        println!("stored: {} {}, found by {}", best.cost, best.knobs, best.found);
    }
    let best = match args.exhaust {
        Some(levels) => exhaust(problem.as_ref(), levels),
        None => climb(problem.as_ref(), args),
    };
    let Some((cost, candidate)) = best else {
        println!("nothing is feasible");
        return;
    };
    println!("{cost} {}", candidate.to_json(problem.space()));
}

type Found = (f64, Candidate);

fn feasible(problem: &dyn Problem, candidate: &Candidate) -> Option<f64> {
    let truth = problem.truth(candidate);
    truth.feasible.then_some(truth.cost)
}

/// Every candidate, floats at `levels` values each.
fn exhaust(problem: &dyn Problem, levels: u64) -> Option<Found> {
    let space = problem.space();
    let (mut best, mut kept, mut tried): (Option<Found>, u64, u64) = (None, 0, 0);
    let mut equals = 0_u64;
    each(space, levels, &mut vec![], &mut |values| {
        let candidate = Candidate::canonical(space, values.to_vec());
        tried += 1;
        let Some(cost) = feasible(problem, &candidate) else { return };
        kept += 1;
        let least = best.as_ref().map_or(f64::INFINITY, |(least, _)| *least);
        if cost < least {
            (best, equals) = (Some((cost, candidate)), 0);
        }
        equals += u64::from(cost <= least);
    });
    println!("tried {tried}, feasible {kept}, as good as the best {equals}");
    best
}

fn each(
    space: &SearchSpace,
    levels: u64,
    chosen: &mut Vec<KnobValue>,
    tell: &mut dyn FnMut(&[KnobValue]),
) {
    let Some(knob) = space.knobs.get(chosen.len()) else {
        tell(chosen);
        return;
    };
    let is_on = knob.when.iter().all(|condition| {
        chosen.get(condition.knob).is_some_and(|value| condition.values.contains(value))
    });
    let count = knob.domain.levels().unwrap_or(levels);
    for level in 0..if is_on { count } else { 1 } {
        let value = match &knob.domain {
            _ if !is_on => knob.rest,
            Domain::Float { .. } => {
                cube::value_at(&knob.domain, level as f64 / (count - 1).max(1) as f64)
            }
            Domain::Int { low, step, .. } => KnobValue::Int(low + step * level.cast_signed()),
            Domain::Choice { .. } => KnobValue::Choice(level as usize),
        };
        chosen.push(value);
        each(space, levels, chosen, tell);
        chosen.pop();
    }
}

/// Random points, then random steps of every size from the best of them.
fn climb(problem: &dyn Problem, args: &OptimumArgs) -> Option<Found> {
    let space = problem.space();
    let mut rng = Rng::new(1, Stream::Proposals, 0);
    let mut pool: Vec<Found> = Vec::new();
    let mut kept = 0_u64;
    for _ in 0..args.points {
        let point: Vec<f64> = space.knobs.iter().map(|_| rng.uniform()).collect();
        let candidate = cube::decode(space, &point);
        let Some(cost) = feasible(problem, &candidate) else { continue };
        kept += 1;
        if pool.len() < args.climbers || pool.last().is_some_and(|(worst, _)| cost < *worst) {
            pool.push((cost, candidate));
            pool.sort_by(|left, right| left.0.total_cmp(&right.0));
            pool.truncate(args.climbers);
        }
    }
    println!("feasible: {kept} of {}", args.points);
    for (cost, candidate) in &mut pool {
        for step in 0..args.steps {
            let size = 0.3 * (1e-4_f64).powf(step as f64 / args.steps as f64);
            let moved = moved(space, candidate, size, &mut rng);
            if let Some(less) = feasible(problem, &moved).filter(|less| *less <= *cost) {
                (*cost, *candidate) = (less, moved);
            }
        }
    }
    pool.sort_by(|left, right| left.0.total_cmp(&right.0));
    let costs: Vec<String> = pool.iter().map(|(cost, _)| format!("{cost:.3}")).collect();
    println!("ends of the climbs: {}", costs.join(" "));
    pool.into_iter().next()
}

/// `candidate` with one to three knobs moved by about `size`.
fn moved(space: &SearchSpace, candidate: &Candidate, size: f64, rng: &mut Rng) -> Candidate {
    let mut values = candidate.values().to_vec();
    for _ in 0..=rng.below(3) {
        let index = rng.below(space.knobs.len() as u64) as usize;
        let domain = &space.knobs[index].domain;
        values[index] = match domain {
            Domain::Choice { labels } => KnobValue::Choice(rng.below(labels.len() as u64) as usize),
            Domain::Int { low, high, step, .. } if rng.uniform() < 0.5 => {
                let KnobValue::Int(value) = values[index] else { unreachable!("an integer") };
                let by = if rng.uniform() < 0.5 { -step } else { *step };
                KnobValue::Int((value + by).clamp(*low, *high))
            }
            _ => {
                let at = cube::coordinate(domain, values[index]);
                cube::value_at(domain, at + size * rng.normal())
            }
        };
    }
    Candidate::canonical(space, values)
}
