//! How a latency went over the run: means by time of arrival, for the interval of its mean.

use crate::base::batch_means::{BATCHES, SteadyMean, batch_means};
use crate::base::{SimTime, Span};

/// Sums of one latency by interval of arrival; the intervals divide the measured window.
#[derive(Debug, Default)]
pub struct Course {
    start: SimTime,
    interval_ps: u64,
    sums_ns: Vec<u64>,
    counts: Vec<u64>,
}

impl Course {
    /// Forgets the last run; the window is `start..end`.
    pub fn reset(&mut self, start: SimTime, end: SimTime) {
        self.start = start;
        self.interval_ps = (end.since(start).as_ps() / BATCHES as u64).max(1);
        for column in [&mut self.sums_ns, &mut self.counts] {
            column.clear();
            column.resize(BATCHES, 0);
        }
    }

    /// Adds the latency of a request that arrived at `arrival`, in the window.
    pub fn add(&mut self, arrival: SimTime, latency: Span) {
        let interval = (arrival.since(self.start).as_ps() / self.interval_ps) as usize;
        let interval = interval.min(BATCHES - 1);
        let sum = &mut self.sums_ns[interval];
        *sum = sum.saturating_add(latency.as_ps() / 1000);
        self.counts[interval] += 1;
    }

    /// The mean over the intervals, in milliseconds; `None` where an interval is empty.
    pub fn steady_mean(&self) -> Option<SteadyMean> {
        let means: Option<Vec<f64>> = self
            .sums_ns
            .iter()
            .zip(&self.counts)
            .map(|(&sum, &count)| (count > 0).then(|| sum as f64 / count as f64 / 1e6))
            .collect();
        batch_means(&means?, BATCHES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_divide_the_window_and_an_empty_one_tells_nothing() {
        let mut course = Course::default();
        course.reset(SimTime::from_us(1000), SimTime::from_us(1000 + 6400));
        for k in 0..64 {
            assert!(course.steady_mean().is_none());
            let latency = Span::from_us(if k % 2 == 0 { 10_000 } else { 30_000 });
            course.add(SimTime::from_us(1000 + k * 100), latency);
            course.add(SimTime::from_us(1000 + k * 100 + 99), latency);
        }
        let mean = course.steady_mean().map(|mean| mean.interval.mean);
        assert_eq!(mean, Some(20.0));
    }
}
