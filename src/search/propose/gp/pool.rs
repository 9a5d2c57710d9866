//! The pool of a batch: candidates worth judging, and the climb from the best of them.
//!
//! Judging costs more than bounding ([`Surrogates::bound`]), so only those are judged whose bound
//! leaves them a chance. Of one goal the bounds hold for the whole batch: what the surrogates
//! believe of a candidate moves no mean and widens no deviation, and leaves less to gain. Those of
//! a frontier are found again for each candidate.

use rayon::prelude::*;

use super::acquire::{HOPELESS, Known, Surrogates};
use super::draws::{self, Entry};
use super::{known, parents_of, region};
use crate::base::{Rng, Stream};
use crate::search::candidate::Candidate;
use crate::search::propose::{Ask, Fresh, start_count};
use crate::search::space::Seek;

/// Candidates drawn uniformly, as changes to the best, and around the incumbent.
const DRAWN: (usize, usize, usize) = (300, 200, 350);
/// The same where a frontier is sought, which has many places to be improved.
const DRAWN_OF_FRONTIER: (usize, usize, usize) = (900, 500, 700);
/// How many of the best are changed.
const PARENTS: usize = 8;
/// The candidates with the highest hopes stay in the pool for the rest of a batch.
const SHORT_LIST: usize = 250;
/// Candidates judged between two looks at how good the best are.
const JUDGED: usize = 32;
/// Steps of a climb.
const STEPS: u32 = 40;

/// A candidate and the most that can be hoped from it.
#[derive(Clone, Debug)]
pub struct Hope {
    /// The candidate.
    pub entry: Entry,
    /// What is known of it.
    pub known: Known,
    /// At least its criterion.
    bound: f64,
}

impl Hope {
    fn of(ask: &Ask<'_>, surrogates: &Surrogates, entry: Entry) -> Self {
        let known = known(ask, surrogates.outlook, &entry.candidate);
        Self { bound: surrogates.bound(&entry.point, known), entry, known }
    }
}

/// Candidates that were never tried and certainly are no loss, the highest hopes first.
#[derive(Debug)]
pub struct Pool<'a> {
    ask: &'a Ask<'a>,
    hopes: Vec<Hope>,
}

impl<'a> Pool<'a> {
    /// The pool of the batch that `ask` is about.
    pub fn drawn(
        ask: &'a Ask<'a>,
        surrogates: &Surrogates,
        fresh: &Fresh<'_>,
        rng: &mut Rng,
    ) -> Self {
        let best = parents_of(ask);
        let parents: Vec<&Candidate> =
            best.iter().take(PARENTS).map(|&index| &ask.history[index].candidate).collect();
        let size = if ask.space.seek == Seek::Frontier { DRAWN_OF_FRONTIER } else { DRAWN };
        let mut entries = draws::global(ask.space, &parents, (size.0, size.1), rng);
        if let (Some(centre), Some(scales)) = (parents.first(), surrogates.length_scales()) {
            let side = region::side(ask.space, ask.history, start_count(ask.space));
            entries.extend(draws::around(ask.space, centre, (side, &scales), size.2, rng));
        }
        let mut pool = Self::of(ask, surrogates, fresh, entries);
        pool.shorten(fresh);
        pool
    }

    /// The pool of `entries`.
    fn of(
        ask: &'a Ask<'a>,
        surrogates: &Surrogates,
        fresh: &Fresh<'_>,
        entries: Vec<Entry>,
    ) -> Self {
        let fresh_ones = entries.into_par_iter().filter(|entry| fresh.is_new(&entry.candidate));
        let hopes = fresh_ones.map(|entry| Hope::of(ask, surrogates, entry)).collect();
        let mut pool = Self { ask, hopes };
        pool.sort();
        pool
    }

    /// Keeps the short list: candidates that have a chance.
    fn shorten(&mut self, fresh: &Fresh<'_>) {
        let mut kept = Vec::with_capacity(SHORT_LIST);
        for chunk in self.hopes.chunks(SHORT_LIST) {
            let has_a_chance = |hope: &&Hope| fresh.has_a_chance(&hope.entry.candidate);
            kept.par_extend(chunk.par_iter().filter(has_a_chance).cloned());
            if kept.len() >= SHORT_LIST {
                break;
            }
        }
        kept.truncate(SHORT_LIST);
        self.hopes = kept;
    }

    fn sort(&mut self) {
        self.hopes.retain(|hope| hope.bound > HOPELESS);
        self.hopes.sort_by(|left, right| right.bound.total_cmp(&left.bound));
    }

    /// The most promising fresh candidate: of the pool, or found by climbing from its `starts`
    /// best. What was climbed to stays in the pool.
    pub fn next(
        &mut self,
        surrogates: &Surrogates,
        starts: usize,
        fresh: &mut Fresh<'_>,
        rng: &mut Rng,
    ) -> Option<Hope> {
        if self.ask.space.seek == Seek::Frontier {
            let bound = |hope: &mut Hope| {
                hope.bound = surrogates.bound(&hope.entry.point, hope.known);
            };
            self.hopes.par_iter_mut().for_each(bound);
            self.sort();
        }
        let best = self.most_promising(surrogates, starts);
        let seeds: Vec<u64> = best.iter().map(|_| rand::RngCore::next_u64(rng)).collect();
        let climb = |((start, criterion), seed): (&(&Hope, f64), &u64)| {
            refine(self.ask, surrogates, (*start, *criterion), *seed)
        };
        let climbed: Vec<Option<(Hope, f64)>> = best.par_iter().zip(&seeds).map(climb).collect();
        let climbed: Vec<(Hope, f64)> = climbed.into_iter().flatten().collect();
        let mut judged: Vec<(Hope, f64)> = climbed.clone();
        judged.extend(best.into_iter().map(|(hope, criterion)| (hope.clone(), criterion)));
        judged.sort_by(|left, right| right.1.total_cmp(&left.1));
        self.hopes.extend(climbed.into_iter().map(|(hope, _)| hope));
        let taken = judged.iter().position(|(hope, _)| fresh.take(&hope.entry.candidate));
        let gone = &judged[..taken.map_or(judged.len(), |at| at + 1)];
        let is_gone = |hope: &Hope| {
            gone.iter().any(|(other, _)| other.entry.candidate == hope.entry.candidate)
        };
        self.hopes.retain(|hope| !is_gone(hope));
        self.sort();
        taken.map(|at| judged.swap_remove(at).0)
    }

    /// The `count` most promising with their criteria, the best first, without those that
    /// certainly are no gain: what judging each would find.
    fn most_promising(&self, surrogates: &Surrogates, count: usize) -> Vec<(&Hope, f64)> {
        let mut best: Vec<(&Hope, f64)> = Vec::with_capacity(count + JUDGED);
        for chunk in self.hopes.chunks(JUDGED) {
            let least = best.get(count - 1).map_or(HOPELESS, |(_, criterion)| *criterion);
            let judge = |hope: &'_ Hope| {
                (hope.bound > least).then(|| surrogates.criterion(&hope.entry.point, hope.known))
            };
            let judged: Vec<Option<f64>> = chunk.par_iter().map(judge).collect();
            let is_last = judged.last().is_some_and(Option::is_none);
            let gains = chunk.iter().zip(judged).filter_map(|(hope, judged)| {
                judged.filter(|criterion| *criterion > HOPELESS).map(|criterion| (hope, criterion))
            });
            best.extend(gains);
            best.sort_by(|left, right| right.1.total_cmp(&left.1));
            best.truncate(count);
            if is_last {
                break;
            }
        }
        best
    }
}

/// Climbs from `start` by small steps; `None` where none leads up.
fn refine(
    ask: &Ask<'_>,
    surrogates: &Surrogates,
    start: (&Hope, f64),
    seed: u64,
) -> Option<(Hope, f64)> {
    let mut rng = Rng::new(seed, Stream::Surrogates, 0);
    let (mut best, mut criterion) = (None, start.1);
    for step in 0..STEPS {
        let width = 0.2 * 0.925_f64.powi(step.cast_signed());
        let from = best.as_ref().unwrap_or(start.0);
        let Some(entry) = draws::nearby(ask.space, &from.entry.candidate, width, &mut rng) else {
            continue;
        };
        let hope = Hope::of(ask, surrogates, entry);
        if hope.bound <= criterion {
            continue;
        }
        let judged = surrogates.criterion(&hope.entry.point, hope.known);
        if judged > criterion {
            (best, criterion) = (Some(hope), judged);
        }
    }
    best.map(|hope| (hope, criterion))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::KnobValue;
    use crate::search::cube;
    use crate::search::evaluate::{Evaluator, Foresight, Job, Sink, Stop};
    use crate::search::propose::gp::Gp;
    use crate::search::propose::tests::{ask_after, trials};
    use crate::search::space::tests::serving_space;
    use crate::search::state::Trial;

    /// An evaluator that knows beforehand what an instance costs, or how many are too few.
    #[derive(Default)]
    struct Certain {
        price: Option<f64>,
        too_few: i64,
    }

    impl Certain {
        fn count(candidate: &Candidate) -> i64 {
            if let KnobValue::Int(count) = candidate.values()[0] { count } else { 0 }
        }
    }

    impl Evaluator for Certain {
        fn version(&self) -> u64 {
            0
        }

        fn evaluate(&self, _: &[Job], _: Stop<'_>, _: Sink<'_>) {}

        fn known_objective(&self, candidate: &Candidate) -> Option<f64> {
            Some(self.price? * Self::count(candidate) as f64)
        }

        fn hopeless(&self, candidate: &Candidate) -> Option<String> {
            (Self::count(candidate) <= self.too_few).then(|| "too few".to_owned())
        }
    }

    #[test]
    fn a_pool_holds_nobody_without_a_chance() {
        let space = serving_space();
        // Few instances look best.
        let history = trials(&space, 30, |p| [1.0 + p[0], 900.0 * p[0]]);
        let ten = Certain { too_few: 9, ..Certain::default() };
        let few = |foresight| {
            let ask = Ask { foresight, ..ask_after(&space, &history, 1) };
            let surrogates = Gp::default().surrogates(&ask).expect("figures differ");
            let mut rng = Rng::new(1, Stream::Surrogates, 0);
            let pool = Pool::drawn(&ask, &surrogates, &Fresh::new(&ask), &mut rng);
            assert!(pool.hopes.len() > 10, "{}", pool.hopes.len());
            let is_few = |hope: &&Hope| Certain::count(&hope.entry.candidate) < 10;
            pool.hopes.iter().filter(is_few).count()
        };
        assert!(few(Foresight::none()) > 0);
        assert_eq!(few(Foresight::from(&ten)), 0);
    }

    #[test]
    fn after_many_failures_a_pool_gathers_around_the_best() {
        let space = serving_space();
        // The best of all comes first: whatever follows fails, four times too often in a row.
        let count = start_count(&space) + 4 * space.knobs.len();
        let far = |p: &[f64]| (p[0] - 0.5).abs() + (p[7] - 0.5).abs();
        let drawn = trials(&space, count, |p| [1.0 + far(p), 300.0 + 100.0 * p[7]]);
        let mut order: Vec<&Trial> = drawn.iter().collect();
        let cost = |trial: &Trial| trial.score.objective.expect("a cost");
        order.sort_by(|left, right| cost(left).total_cmp(&cost(right)));
        let history: Vec<Trial> = order
            .into_iter()
            .zip(0..)
            .map(|(trial, index)| Trial { index, ..trial.clone() })
            .collect();
        let best = &history[0].candidate;
        let ask = ask_after(&space, &history, 1);
        let surrogates = Gp::default().surrogates(&ask).expect("figures differ");
        let mut rng = Rng::new(1, Stream::Surrogates, 0);
        let pool = Pool::drawn(&ask, &surrogates, &Fresh::new(&ask), &mut rng);
        let centre = cube::encode(&space, best);
        let is_near = |hope: &&Hope| {
            let point = cube::encode(&space, &hope.entry.candidate);
            let apart = || point.iter().zip(&centre).map(|(a, b)| (a - b).abs());
            apart().all(|apart| apart < 0.1) && apart().filter(|apart| *apart > 0.0).count() > 1
        };
        let near = pool.hopes.iter().filter(is_near).count();
        assert!(near > 20, "{near} of {}", pool.hopes.len());
    }

    #[test]
    fn the_most_promising_are_those_that_judging_each_would_find() {
        // Far from the limit, and all on both sides of it and near.
        for slope in [700.0, 30.0] {
            most_promising_with(slope);
        }
    }

    fn most_promising_with(slope: f64) {
        let space = serving_space();
        let ttft = |p: &[f64]| 500.0 + slope * (0.57 - p[0]) + 0.13 * slope * p[2];
        let history = trials(&space, 30, |p| [1.0 + p[0] * p[3], ttft(p)]);
        let ask = ask_after(&space, &history, 1);
        let mut surrogates = Gp::default().surrogates(&ask).expect("figures differ");
        let mut rng = Rng::new(1, Stream::Surrogates, 0);
        let entries = draws::global(&space, &[&history[0].candidate], (300, 100), &mut rng);
        let fresh = Fresh::new(&ask);
        let pool = Pool::of(&ask, &surrogates, &fresh, entries.clone());
        // Also after the surrogates have come to believe in some of them.
        for believed in &entries[..4] {
            let criterion = |entry: &Entry| surrogates.criterion(&entry.point, None);
            let new = entries.iter().filter(|entry| fresh.is_new(&entry.candidate));
            let mut all: Vec<f64> = new.map(criterion).filter(|c| *c > HOPELESS).collect();
            all.sort_by(|left, right| right.total_cmp(left));
            for count in [1, 7, 250] {
                let found = pool.most_promising(&surrogates, count);
                let criteria: Vec<f64> = found.iter().map(|(_, criterion)| *criterion).collect();
                assert_eq!(criteria, all[..count.min(all.len())]);
            }
            for hope in &pool.hopes {
                let (bound, criterion) = (hope.bound, criterion(&hope.entry));
                assert!(bound >= criterion, "{bound} is no bound of {criterion}");
            }
            surrogates.believe(&believed.point, None);
        }
    }

    #[test]
    fn where_objectives_are_known_only_the_constraint_leaves_room() {
        let space = serving_space();
        let ttft = |p: &[f64]| 500.0 + 30.0 * (0.57 - p[0]) + 4.0 * p[2];
        let history = trials(&space, 30, |p| [4.0 + (28.0 * p[0]).round(), ttft(p)]);
        let priced = Certain { price: Some(1.0), ..Certain::default() };
        let ask = Ask { foresight: Foresight::from(&priced), ..ask_after(&space, &history, 1) };
        let surrogates = Gp::default().surrogates(&ask).expect("figures differ");
        let mut rng = Rng::new(1, Stream::Surrogates, 0);
        let entries = draws::global(&space, &[&history[0].candidate], (300, 100), &mut rng);
        let pool = Pool::of(&ask, &surrogates, &Fresh::new(&ask), entries);
        let near = pool.hopes.iter().filter(|hope| {
            let criterion = surrogates.criterion(&hope.entry.point, hope.known);
            assert!(hope.bound >= criterion, "{} is no bound of {criterion}", hope.bound);
            hope.known.is_some() && hope.bound < criterion + 1.0
        });
        let near = near.count();
        assert!(near > 9, "{near} of {} are near", pool.hopes.len());
    }

    #[test]
    fn a_climb_leads_up_or_nowhere() {
        let space = serving_space();
        let history = trials(&space, 30, |p| [1.0 + p[0] * p[3], 900.0 - 700.0 * p[0]]);
        let ask = ask_after(&space, &history, 1);
        let surrogates = Gp::default().surrogates(&ask).expect("figures differ");
        let mut rng = Rng::new(1, Stream::Surrogates, 0);
        let entries = draws::global(&space, &[&history[0].candidate], (60, 0), &mut rng);
        let pool = Pool::of(&ask, &surrogates, &Fresh::new(&ask), entries);
        let starts = pool.most_promising(&surrogates, 6);
        let climbed: Vec<(f64, Hope, f64)> = starts
            .iter()
            .zip(0..)
            .filter_map(|(&(hope, from), seed)| {
                let (top, to) = refine(&ask, &surrogates, (hope, from), seed)?;
                Some((from, top, to))
            })
            .collect();
        assert!(climbed.len() >= 3, "{} of 6 led up", climbed.len());
        for (from, top, to) in climbed {
            assert!(to > from, "{to} is no higher than {from}");
            assert_eq!(to, surrogates.criterion(&top.entry.point, top.known));
        }
    }
}
