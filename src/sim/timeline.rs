//! A run by intervals, and what an autoscaler sees of its latencies.

use crate::base::{Bins, SimTime, Span};
use crate::policy::signals::{Answered, Quantiles, Sample, empty_latencies};
use crate::sim::fleet_outcome::Interval;

/// One interval while the run goes on.
#[derive(Debug, Default)]
struct Cell {
    interval: Interval,
    ttft: Bins,
}

/// The intervals of a run; none where nobody asked for a timeline.
#[derive(Debug, Default)]
pub struct Timeline {
    interval: Span,
    classes: usize,
    cells: Vec<Cell>,
}

impl Timeline {
    /// Forgets the last run.
    pub fn reset(&mut self, interval: Option<Span>, classes: usize) {
        self.interval = interval.unwrap_or(Span::ZERO);
        self.classes = classes;
        self.cells.clear();
    }

    /// The length of an interval; zero without a timeline.
    pub fn interval(&self) -> Span {
        self.interval
    }

    fn cell(&mut self, time: SimTime) -> Option<&mut Cell> {
        if self.interval == Span::ZERO {
            return None;
        }
        let index = (time.as_ps() / self.interval.as_ps()) as usize;
        while self.cells.len() <= index {
            let (arrived, within_slo) = (vec![0; self.classes], vec![0; self.classes]);
            let interval = Interval { arrived, within_slo, ..Interval::default() };
            self.cells.push(Cell { interval, ttft: Bins::new(&[]) });
        }
        self.cells.get_mut(index)
    }

    fn change(&mut self, time: SimTime, change: impl FnOnce(&mut Interval)) {
        if let Some(cell) = self.cell(time) {
            change(&mut cell.interval);
        }
    }

    /// A request arrived for the first time.
    pub fn arrived(&mut self, asked: SimTime, class: u8) {
        self.change(asked, |interval| interval.arrived[usize::from(class)] += 1);
    }

    /// A client came again.
    pub fn tried_again(&mut self, now: SimTime) {
        self.change(now, |interval| interval.retries += 1);
    }

    /// A request ended without an answer.
    pub fn refused(&mut self, now: SimTime) {
        self.change(now, |interval| interval.refused += 1);
    }

    /// A request that had arrived at `asked` was answered at `end`.
    pub fn completed(
        &mut self,
        (asked, end): (SimTime, SimTime),
        class: u8,
        ttft: Span,
        kept: bool,
    ) {
        self.change(end, |interval| interval.completed += 1);
        if let Some(cell) = self.cell(asked) {
            cell.interval.within_slo[usize::from(class)] += u32::from(kept);
            cell.ttft.add(ttft);
        }
    }

    /// So many wait and so many are in batches at the end of interval `index`.
    pub fn closed(&mut self, index: usize, waiting: u64, running: u64) {
        let begin = SimTime::ZERO + self.interval.times(index as u64);
        self.change(begin, |interval| {
            (interval.waiting, interval.running) = (waiting as u32, running as u32);
        });
    }

    /// The intervals of a run that ended at `end`; what was noted behind it counts for the last.
    pub fn finish(&mut self, end: SimTime) -> Vec<Interval> {
        if self.interval == Span::ZERO {
            return Vec::new();
        }
        let count = end.as_ps().div_ceil(self.interval.as_ps()).max(1) as usize;
        self.cell(SimTime::ZERO + self.interval.times(count as u64 - 1));
        let behind = self.cells.split_off(count);
        let last = &mut self.cells[count - 1];
        for cell in behind {
            last.take_in(&cell);
        }
        let closed = |mut cell: Cell| {
            cell.interval.ttft_p99_ms = cell.ttft.quantile_ms(0.99);
            cell.interval
        };
        self.cells.drain(..).map(closed).collect()
    }
}

impl Cell {
    fn take_in(&mut self, other: &Self) {
        let mine = &mut self.interval;
        let theirs = &other.interval;
        for (mine, theirs) in mine.arrived.iter_mut().zip(&theirs.arrived) {
            *mine += theirs;
        }
        for (mine, theirs) in mine.within_slo.iter_mut().zip(&theirs.within_slo) {
            *mine += theirs;
        }
        mine.completed += theirs.completed;
        mine.refused += theirs.refused;
        mine.retries += theirs.retries;
        self.ttft.merge(&other.ttft);
    }
}

/// Latencies since the last scrape, for an autoscaler that looks at them.
#[derive(Debug, Default)]
pub struct Watch {
    on: bool,
    /// First tokens: when, of which request, how long after its arrival. Their steps may not
    /// have ended yet.
    first_tokens: Vec<(SimTime, u32, Span)>,
    latencies: [Bins; 3],
    answered: Answered,
}

impl Watch {
    /// Forgets the last run; `None` where nobody looks.
    pub fn reset(&mut self, quantiles: Option<Quantiles>) {
        self.on = quantiles.is_some();
        self.first_tokens.clear();
        self.answered = Answered::default();
        self.latencies = quantiles.map(empty_latencies).unwrap_or_default();
    }

    /// A first token will come at `end`.
    pub fn first_token(&mut self, end: SimTime, id: u32, ttft: Span) {
        if self.on {
            self.first_tokens.push((end, id, ttft));
        }
    }

    /// A request with so many tokens of prompt and answer was answered.
    pub fn completed(&mut self, tokens: (u32, u32), tpot: Option<Span>, e2e: Span) {
        if self.on {
            self.answered.add(tokens.0, tokens.1);
            if let Some(tpot) = tpot {
                self.latencies[1].add(tpot);
            }
            self.latencies[2].add(e2e);
        }
    }

    /// Request `id` left at `now`: a first token later than that never comes.
    pub fn left(&mut self, id: u32, now: SimTime) {
        self.first_tokens.retain(|&(end, other, _)| other != id || end <= now);
    }

    /// Moves what is known at `now` to `sample`.
    pub fn scrape(&mut self, now: SimTime, sample: &mut Sample) {
        if !self.on {
            return;
        }
        sample.answered = std::mem::take(&mut self.answered);
        let [ttft, tpot, e2e] = &mut self.latencies;
        self.first_tokens.retain(|&(end, _, span)| {
            if end <= now {
                ttft.add(span);
            }
            end > now
        });
        sample.ttft.clone_from(ttft);
        sample.tpot.clone_from(tpot);
        sample.e2e.clone_from(e2e);
        for bins in [ttft, tpot, e2e] {
            bins.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::from_us(seconds * 1_000_000)
    }

    #[test]
    fn requests_count_where_they_arrived_and_answers_where_they_came() {
        let mut timeline = Timeline::default();
        timeline.reset(Some(Span::from_secs(10.0)), 2);
        timeline.arrived(at(9), 1);
        timeline.completed((at(9), at(31)), 1, Span::from_us(500), true);
        timeline.closed(0, 7, 3);
        let intervals = timeline.finish(at(30));
        assert_eq!(intervals.len(), 3);
        assert_eq!(intervals[0].arrived, [0, 1]);
        assert_eq!(intervals[0].within_slo, [0, 1]);
        assert_eq!((intervals[0].waiting, intervals[0].running), (7, 3));
        assert_eq!(intervals[0].ttft_p99_ms.map(f64::round), Some(1.0));
        assert_eq!(intervals[2].completed, 1, "behind the end");
        assert_eq!(
            intervals[1],
            Interval { arrived: vec![0, 0], within_slo: vec![0, 0], ..Interval::default() }
        );
    }

    #[test]
    fn a_first_token_is_seen_when_its_step_has_ended() {
        let mut watch = Watch::default();
        watch.reset(Some(Quantiles::Exact));
        watch.first_token(at(1), 1, Span::from_us(100));
        watch.first_token(at(2), 2, Span::from_us(200));
        watch.first_token(at(2), 3, Span::from_us(300));
        watch.left(3, at(1));
        let mut sample = Sample::default();
        watch.scrape(at(1), &mut sample);
        assert_eq!(sample.ttft.count(), 1);
        watch.scrape(at(2), &mut sample);
        assert_eq!(sample.ttft.quantile_ms(0.5).map(|ms| (ms * 10.0).round()), Some(2.0));
        watch.scrape(at(3), &mut sample);
        assert_eq!(sample.ttft.count(), 0);
    }
}
