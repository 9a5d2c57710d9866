//! Whether a fleet keeps up with its load.

use crate::base::SimTime;
use crate::sim::outcome::Stability;

/// Intervals of the measured window in which requests that come and go are counted.
const INTERVALS: usize = 64;
/// Least growth that counts, as a share of the arrival rate.
const GROWTH_SHARE_MIN: f64 = 0.005;
/// Standard errors of the arrival rate by which the wait queue must grow.
const WAITING_SIGMAS: f64 = 1.0;
/// Standard errors of its slope by which the number of requests in the system must grow.
const INSIDE_SIGMAS: f64 = 5.0;

/// Counts requests that come, begin and leave; each list has one entry for the time before the
/// window and one per interval of it. What happens behind the window is not counted.
#[derive(Debug, Default)]
pub struct Flow {
    start: SimTime,
    interval_ps: f64,
    came: Vec<u64>,
    begun: Vec<u64>,
    left: Vec<u64>,
}

impl Flow {
    /// Forgets the last run; the window is `start..end`.
    pub fn reset(&mut self, start: SimTime, end: SimTime) {
        self.start = start;
        self.interval_ps = (end.since(start).as_ps() as f64 / INTERVALS as f64).max(1.0);
        for list in [&mut self.came, &mut self.begun, &mut self.left] {
            list.clear();
            list.resize(INTERVALS + 1, 0);
        }
    }

    fn place(&self, time: SimTime) -> usize {
        if time < self.start {
            return 0;
        }
        1 + (time.since(self.start).as_ps() as f64 / self.interval_ps) as usize
    }

    /// A request reached the cluster.
    pub fn came(&mut self, time: SimTime) {
        let place = self.place(time);
        add_one(&mut self.came, place);
    }

    /// A request entered a batch for the first time: it does not wait any more.
    pub fn began(&mut self, time: SimTime) {
        let place = self.place(time);
        add_one(&mut self.begun, place);
    }

    /// A request that had begun left.
    pub fn ended(&mut self, time: SimTime) {
        let place = self.place(time);
        add_one(&mut self.left, place);
    }

    /// A request left without having begun.
    pub fn turned_away(&mut self, time: SimTime) {
        self.began(time);
        self.ended(time);
    }

    /// The verdict.
    ///
    /// Two signs count, each where it exceeds 0.5 % of the arrival rate and what chance explains:
    ///
    /// - The wait queue grows over the window. A fleet below its capacity has next to no queue,
    ///   so this tells 1.05 of the capacity from 0.95 within a minute; the queue of a fleet that
    ///   just keeps up grows as much as by chance more requests came than their rate says.
    /// - The number of requests in the system grows over the last three quarters of the window:
    ///   the run is too short to have filled the fleet, or batches grow without limit. Below
    ///   capacity that number follows the arrivals with a memory of one residence time, and its
    ///   slope strays accordingly.
    pub fn stability(&self) -> Stability {
        let waiting = levels(&self.came, &self.begun);
        let inside = levels(&self.came, &self.left);
        let filled = INTERVALS / 4;
        let waiting_growth = self.excess(&waiting, &self.came[1..], |arrivals, _| {
            WAITING_SIGMAS * arrivals.rate_error()
        });
        let inside_growth =
            self.excess(&inside[filled..], &self.came[1 + filled..], |arrivals, level| {
                INSIDE_SIGMAS * arrivals.level_slope_error(level)
            });
        match (waiting_growth, inside_growth) {
            (Growth { beyond_chance: true, rps }, _) => {
                Stability { stable: false, growth_rps: rps }
            }
            (_, Growth { beyond_chance, rps }) => {
                Stability { stable: !beyond_chance, growth_rps: rps }
            }
        }
    }

    /// How `levels`, at the ends of the intervals in which `came` were counted, grow. `error`
    /// tells from the arrivals and the mean level what chance explains.
    fn excess(
        &self,
        levels: &[f64],
        came: &[u64],
        error: impl Fn(&Arrivals, f64) -> f64,
    ) -> Growth {
        let interval_s = self.interval_ps / 1e12;
        let arrivals = Arrivals::new(came, interval_s);
        let rps = slope(levels) / interval_s;
        let mean_level = levels.iter().sum::<f64>() / levels.len() as f64;
        let least = (GROWTH_SHARE_MIN * arrivals.rate).max(error(&arrivals, mean_level));
        Growth { rps, beyond_chance: arrivals.rate > 0.0 && rps > least }
    }
}

#[derive(Clone, Copy, Debug)]
struct Growth {
    /// Requests per second.
    rps: f64,
    beyond_chance: bool,
}

/// How requests came in some stretch of time.
struct Arrivals {
    /// Per second.
    rate: f64,
    /// Seconds.
    duration: f64,
    /// Variance over mean of the number that comes in one interval: 1 for Poisson arrivals, more
    /// where they come in bursts or their rate changes. Not less than 1, since lengths vary too.
    dispersion: f64,
}

impl Arrivals {
    fn new(came: &[u64], interval_s: f64) -> Self {
        let n = came.len() as f64;
        let mean = came.iter().sum::<u64>() as f64 / n;
        let squares: f64 = came.iter().map(|&count| (count as f64 - mean).powi(2)).sum();
        let dispersion = if mean > 0.0 { squares / (n - 1.0) / mean } else { 1.0 };
        Self { rate: mean / interval_s, duration: n * interval_s, dispersion: dispersion.max(1.0) }
    }

    /// Standard error of the rate.
    fn rate_error(&self) -> f64 {
        (self.dispersion * self.rate / self.duration).sqrt()
    }

    /// Standard error of the slope of the number of requests in a system that holds `level` of
    /// them on average, per second.
    ///
    /// They stay for `level / rate` each (Little's law). Taken as a process with variance
    /// `level` and a correlation that fades over that time, the slope fitted over `duration` has
    /// the variance `15 * dispersion * rate * stay^2 / duration^3`.
    fn level_slope_error(&self, level: f64) -> f64 {
        let stay = level / self.rate.max(f64::MIN_POSITIVE);
        stay * (15.0 * self.dispersion * self.rate / self.duration.powi(3)).sqrt()
    }
}

fn add_one(counts: &mut [u64], place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

/// Those that came and did not go, at the start of the window and at the end of each interval.
fn levels(came: &[u64], gone: &[u64]) -> Vec<f64> {
    let mut level = 0.0;
    let change = |(came, gone): (&u64, &u64)| {
        level += *came as f64 - *gone as f64;
        level
    };
    came.iter().zip(gone).map(change).collect()
}

/// The slope per entry of a straight line through `values`, by least squares.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut sxx, mut sxy) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let x = x as f64 - middle;
        sxx += x * x;
        sxy += x * (y - mean);
    }
    sxy / sxx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Span, Stream};

    const WARM_UP_S: f64 = 20.0;
    const END_S: f64 = 80.0;

    /// Requests at `rate` that begin at once where `rate` is below `capacity`, else in order at
    /// that rate, and stay for about six seconds.
    fn flow(seed: u64, rate: f64, capacity: f64, end_s: f64, warm_up_s: f64) -> Flow {
        let at = |seconds: f64| SimTime::ZERO + Span::from_secs(seconds);
        let mut rng = Rng::new(seed, Stream::Resampling, 0);
        let mut flow = Flow::default();
        flow.reset(at(warm_up_s), at(end_s));
        let (mut now, mut free) = (0.0, 0.0_f64);
        while now < end_s {
            now += rng.exponential() / rate;
            let begin = free.max(now);
            free = begin + 1.0 / capacity;
            flow.came(at(now));
            flow.began(at(begin));
            flow.ended(at(begin + (6.0 + 3.0 * rng.normal()).max(0.1)));
        }
        flow
    }

    fn unstable(rate: f64, capacity: f64) -> usize {
        let verdict = |seed| flow(seed, rate, capacity, END_S, WARM_UP_S).stability();
        (0..100).filter(|&seed| !verdict(seed).stable).count()
    }

    #[test]
    fn a_fleet_below_its_capacity_is_stable() {
        assert_eq!(unstable(475.0, 500.0), 0);
        assert_eq!(unstable(500.0, 1e9), 0);
    }

    #[test]
    fn a_fleet_above_its_capacity_is_not() {
        assert_eq!(unstable(525.0, 500.0), 100);
        let verdict = flow(1, 600.0, 500.0, END_S, WARM_UP_S).stability();
        assert!((verdict.growth_rps - 100.0).abs() < 10.0, "{verdict:?}");
    }

    #[test]
    fn a_run_too_short_to_fill_the_fleet_is_not_stable() {
        let verdict = flow(1, 500.0, 1e9, 4.0, 0.0).stability();
        assert!(!verdict.stable && verdict.growth_rps > 250.0, "{verdict:?}");
    }

    #[test]
    fn a_fleet_that_fills_early_in_the_window_is_stable() {
        assert!(flow(1, 500.0, 1e9, 60.0, 0.0).stability().stable);
    }

    #[test]
    fn no_arrivals_are_stable() {
        let mut flow = Flow::default();
        flow.reset(SimTime::ZERO, SimTime::ZERO);
        assert_eq!(flow.stability(), Stability::default());
        flow.turned_away(SimTime::ZERO);
        assert!(flow.stability().stable);
    }
}
