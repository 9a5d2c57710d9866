//! How a client's rate moves over time, and when its arrivals come then.
//!
//! Arrivals follow the cumulative rate: a gap is drawn as if the rate never moved, and then spent
//! along the integral of the factor. So every process (Poisson, gamma, ...) keeps its law in that
//! clock, no draw is thrown away, and moving the curve moves no other random number.

use std::f64::consts::TAU;

use crate::base::Span;

use super::spec::ARRIVAL_MAX;

/// The shortest period of a curve that repeats.
pub const PERIOD_MIN: Span = Span::from_us(60_000_000);

/// A client's rate as a multiple of its nominal rate: straight lines times a daily wave times
/// spikes. Without any of them it is 1 throughout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Corners of straight lines, strictly ascending. Before the first and behind the last the
    /// factor stays, unless they repeat.
    pub points: Vec<Point>,
    /// After how long points and spikes begin again; at least [`PERIOD_MIN`], not before the last
    /// of them ends. A line leads from the last point to the first of the next period.
    pub period: Option<Span>,
    /// A smooth daily wave with mean 1.
    pub diurnal: Option<Diurnal>,
    /// Short stretches of another rate.
    pub spikes: Vec<Spike>,
    /// What multiplies all of this, once, whatever else repeats; not overlapping.
    pub bursts: Vec<Burst>,
}

/// A stretch of more load, or of less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Its start.
    pub at: Span,
    /// Its length; above zero.
    pub duration: Span,
    /// The multiple of the load; above 0.
    pub factor: f64,
}

impl Burst {
    /// Its end.
    pub fn end(&self) -> Span {
        self.at + self.duration
    }
}

/// A corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Span,
    /// The multiple of the nominal rate; at least 0.
    pub factor: f64,
}

/// A cosine whose mean over a period is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diurnal {
    /// When the rate is highest, after the start of each period.
    pub peak: Span,
    /// The highest rate over the lowest; at least 1.
    pub peak_to_trough: f64,
    /// From peak to peak; at least [`PERIOD_MIN`].
    pub period: Span,
}

/// A stretch of another rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Its start.
    pub at: Span,
    /// Its length; above zero.
    pub duration: Span,
    /// What happens in it.
    pub surge: Surge,
}

/// What a spike does; factors and levels are at least 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surge {
    /// Multiplies the curve; spikes that overlap multiply each other.
    Times(f64),
    /// Sets the factor, whatever the curve says; the highest level counts.
    Level(f64),
}

impl Diurnal {
    /// The wave is `1 + amplitude * cos(...)`.
    fn amplitude(&self) -> f64 {
        (self.peak_to_trough - 1.0) / (self.peak_to_trough + 1.0)
    }

    /// The highest factor.
    pub fn peak_factor(&self) -> f64 {
        1.0 + self.amplitude()
    }
}

impl Profile {
    /// The mean factor from the start to `end`, which is later.
    pub fn mean(&self, end: Span) -> f64 {
        let (mut now, mut sum) = (0, 0.0);
        while now < end.as_us() {
            let piece = self.piece(now);
            let until = piece.end.min(end.as_us());
            sum += piece.integral((until - now) as f64);
            now = until;
        }
        sum / end.as_us() as f64
    }

    /// The factor at `time`.
    pub fn factor(&self, time: Span) -> f64 {
        self.piece(time.as_us()).factor(0.0)
    }

    /// After how long everything that it says was said once.
    pub fn extent(&self) -> Span {
        let point = self.points.last().map(|point| point.at);
        let spikes = self.spikes.iter().map(|spike| spike.at + spike.duration);
        let bursts = self.bursts.iter().map(Burst::end);
        let once = spikes.chain(point).chain(bursts).max();
        let wave = self.diurnal.map(|diurnal| diurnal.period);
        [self.period.or(once), wave].into_iter().flatten().max().unwrap_or(Span::ZERO)
    }

    /// When its formula changes, before `end`: the ends of its pieces.
    pub(super) fn corners(&self, end: Span) -> Vec<Span> {
        let (mut corners, mut now) = (Vec::new(), 0);
        while now < end.as_us() {
            corners.push(Span::from_us(now));
            now = self.piece(now).end;
        }
        corners
    }

    /// The formula from `now` on.
    fn piece(&self, now: u64) -> Piece {
        let period = self.period.map_or(u64::MAX, Span::as_us);
        let (cycle, local) = (now / period * period, now % period);
        let mut end = period;
        let (from, slope) = self.line(local, &mut end);
        let surge = self.surge(local, &mut end);
        let mut end = cycle.saturating_add(end).min(ARRIVAL_MAX.as_us().max(now + 1));
        let burst = self.burst(now, &mut end);
        let flat = |from, end| Piece { end, from, slope: 0.0, wave: None };
        let scale = match surge {
            Some(Surge::Level(level)) => return flat(level * burst, end),
            Some(Surge::Times(factor)) => factor * burst,
            None => burst,
        };
        let (from, slope) = (from * scale, slope * scale);
        match self.diurnal {
            None => Piece { end, from, slope, wave: None },
            Some(diurnal) => {
                let turn = diurnal.period.as_us();
                let pulse = TAU / turn as f64;
                // Whole microseconds: the remainder is exact however late it is.
                let past = (now % turn) as f64 - diurnal.peak.as_us() as f64;
                let wave = Wave { amplitude: diurnal.amplitude(), pulse, phase: pulse * past };
                Piece { end: end.min(now + turn), from, slope, wave: Some(wave) }
            }
        }
    }

    /// Value and slope of the straight line at `local`; `end` becomes the next corner if that is
    /// earlier.
    fn line(&self, local: u64, end: &mut u64) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return (1.0, 0.0);
        };
        let next = self.points.partition_point(|point| point.at.as_us() <= local);
        let period = self.period.map(Span::as_us);
        let before = next.checked_sub(1).map(|at| self.points[at]);
        let after = self.points.get(next);
        if let Some(point) = after {
            *end = (*end).min(point.at.as_us());
        }
        let wrapped = |point: &Point, by: i128| (i128::from(point.at.as_us()) + by, point.factor);
        let by = period.map_or(0, i128::from);
        let (left, right) = match (before, after) {
            (Some(left), Some(right)) => (wrapped(&left, 0), wrapped(right, 0)),
            (None, _) if period.is_some() => (wrapped(last, -by), wrapped(first, 0)),
            (_, None) if period.is_some() => (wrapped(last, 0), wrapped(first, by)),
            (Some(point), None) => return (point.factor, 0.0),
            (None, _) => return (first.factor, 0.0),
        };
        let slope = (right.1 - left.1) / (right.0 - left.0) as f64;
        (left.1 + slope * (i128::from(local) - left.0) as f64, slope)
    }

    /// What a burst at `now` multiplies by; `end` becomes its next edge if that is earlier.
    fn burst(&self, now: u64, end: &mut u64) -> f64 {
        let mut factor = 1.0;
        for burst in &self.bursts {
            let (start, stop) = (burst.at.as_us(), burst.end().as_us());
            if now < start {
                *end = (*end).min(start);
            } else if now < stop {
                *end = (*end).min(stop);
                factor = burst.factor;
            }
        }
        factor
    }

    /// What the spikes at `local` do together; `end` becomes the next edge if that is earlier.
    fn surge(&self, local: u64, end: &mut u64) -> Option<Surge> {
        let mut together: Option<Surge> = None;
        for spike in &self.spikes {
            let (start, stop) = (spike.at.as_us(), (spike.at + spike.duration).as_us());
            if local < start {
                *end = (*end).min(start);
            } else if local < stop {
                *end = (*end).min(stop);
                together = Some(match (together, spike.surge) {
                    (None, surge) => surge,
                    (Some(Surge::Times(a)), Surge::Times(b)) => Surge::Times(a * b),
                    (Some(Surge::Level(a)), Surge::Level(b)) => Surge::Level(a.max(b)),
                    (Some(Surge::Level(level)), _) | (_, Surge::Level(level)) => {
                        Surge::Level(level)
                    }
                });
            }
        }
        together
    }
}

/// A stretch with one formula: `(from + slope x) (1 + amplitude cos(pulse x + phase))`, where `x`
/// are microseconds since its start.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where it ends, in microseconds since the start of the run.
    end: u64,
    from: f64,
    slope: f64,
    wave: Option<Wave>,
}

#[derive(Clone, Copy, Debug)]
struct Wave {
    amplitude: f64,
    /// Radians per microsecond.
    pulse: f64,
    phase: f64,
}

impl Piece {
    fn factor(&self, x: f64) -> f64 {
        let line = (self.from + self.slope * x).max(0.0);
        match &self.wave {
            None => line,
            Some(wave) => line * (1.0 + wave.amplitude * (wave.pulse * x + wave.phase).cos()),
        }
    }

    /// The integral of the factor from 0 to `x`.
    fn integral(&self, x: f64) -> f64 {
        let line = self.from * x + self.slope * x * x / 2.0;
        let Some(Wave { amplitude, pulse, phase }) = self.wave else { return line };
        let (sine, cosine) = (pulse * x + phase).sin_cos();
        let (sine_0, cosine_0) = phase.sin_cos();
        let swing = ((self.from + self.slope * x) * sine - self.from * sine_0)
            + self.slope / pulse * (cosine - cosine_0);
        line + amplitude * swing / pulse
    }

    /// The `x` in `low..=high` up to which the factor integrates to `sum`.
    fn invert(&self, sum: f64, mut low: f64, mut high: f64) -> f64 {
        if self.wave.is_none() {
            // The root of a quadratic in the form that neither cancels nor divides by the slope.
            let root = (self.from * self.from + 2.0 * self.slope * sum).max(0.0).sqrt();
            return (2.0 * sum / (self.from + root)).clamp(low, high);
        }
        let mut x = low;
        // Newton, kept between the bounds; halving alone would take 60 rounds at most.
        for _ in 0..80 {
            let excess = self.integral(x) - sum;
            if excess > 0.0 {
                high = x;
            } else {
                low = x;
            }
            let step = excess / self.factor(x);
            let next = x - step;
            // The next round would only polish what is far below a microsecond.
            if high - low < 1e-3 || step.abs() < 1e-3 {
                return next.clamp(low, high);
            }
            x = if next > low && next < high { next } else { f64::midpoint(low, high) };
        }
        x
    }
}

/// A walk along a profile in the clock of its arrivals.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    profile: std::sync::Arc<Profile>,
    piece: Piece,
    /// Where the piece starts, in microseconds since the start of the run.
    start: u64,
    /// Where the walk is: microseconds since the start of the piece, not rounded, so that no
    /// drift gathers over millions of arrivals.
    x: f64,
}

impl Walk {
    /// Begins at `now`, in microseconds.
    pub fn new(profile: std::sync::Arc<Profile>, now: u64) -> Self {
        let piece = profile.piece(now);
        Self { profile, piece, start: now, x: 0.0 }
    }

    /// Goes on at `now`.
    pub fn jump(&mut self, now: u64) {
        (self.piece, self.start, self.x) = (self.profile.piece(now), now, 0.0);
    }

    /// Goes on until the factor integrates to `gap` microseconds: gives the whole microsecond
    /// that it reaches, or what is left of the gap at `until`.
    pub fn spend(&mut self, mut gap: f64, until: u64) -> Result<u64, f64> {
        loop {
            let end = self.piece.end.min(until);
            let high = end.saturating_sub(self.start) as f64;
            let done = self.piece.integral(self.x);
            let room = (self.piece.integral(high) - done).max(0.0);
            if gap < room {
                self.x = self.piece.invert(done + gap, self.x, high);
                return Ok((self.start + self.x as u64).min(end - 1));
            }
            gap -= room;
            if end == until {
                return Err(gap);
            }
            self.jump(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};
    use proptest::prelude::*;
    use std::sync::Arc;

    const HOUR: Span = Span::from_us(3_600_000_000);

    fn point(hours: u64, factor: f64) -> Point {
        Point { at: HOUR.times(hours), factor }
    }

    fn wave(ratio: f64) -> Diurnal {
        Diurnal { peak: HOUR.times(14), peak_to_trough: ratio, period: HOUR.times(24) }
    }

    fn all_at_once() -> Profile {
        Profile {
            points: vec![point(0, 0.3), point(9, 1.2), point(17, 0.0)],
            period: Some(HOUR.times(24)),
            diurnal: Some(wave(4.0)),
            spikes: vec![
                Spike { at: HOUR.times(3), duration: HOUR, surge: Surge::Times(3.0) },
                Spike { at: HOUR.times(20), duration: HOUR.times(2), surge: Surge::Level(0.5) },
            ],
            bursts: vec![],
        }
    }

    /// The integral by summing factors, piece ends hit exactly.
    fn summed(profile: &Profile, from: u64, to: u64) -> f64 {
        let steps = 20_000;
        let step = (to - from) as f64 / f64::from(steps);
        let middle = |i| Span::from_us(from + ((f64::from(i) + 0.5) * step) as u64);
        (0..steps).map(|i| profile.factor(middle(i)) * step).sum()
    }

    #[test]
    fn lines_lead_from_corner_to_corner() {
        let profile = Profile { points: vec![point(1, 1.0), point(3, 2.0)], ..Profile::default() };
        for (hours, factor) in [(0, 1.0), (1, 1.0), (2, 1.5), (3, 2.0), (30, 2.0)] {
            assert_eq!(profile.factor(HOUR.times(hours)), factor, "{hours} h");
        }
        let daily = Profile { period: Some(HOUR.times(4)), ..profile };
        for (hours, factor) in [(0, 1.5), (1, 1.0), (3, 2.0), (4, 1.5), (6, 1.5), (401, 1.0)] {
            assert_eq!(daily.factor(HOUR.times(hours)), factor, "{hours} h");
        }
    }

    #[test]
    fn a_daily_wave_has_its_peak_its_ratio_and_a_mean_of_one() {
        let profile = Profile { diurnal: Some(wave(4.0)), ..Profile::default() };
        let (peak, trough) = (profile.factor(HOUR.times(14)), profile.factor(HOUR.times(2)));
        assert!((peak / trough - 4.0).abs() < 1e-12);
        assert!((peak - wave(4.0).peak_factor()).abs() < 1e-12);
        assert!((profile.mean(HOUR.times(24)) - 1.0).abs() < 1e-12);
        assert!((profile.mean(HOUR.times(240)) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn spikes_multiply_and_levels_replace() {
        let profile = all_at_once();
        let bare = Profile { spikes: vec![], ..profile.clone() };
        let at =
            |profile: &Profile, minutes: u64| profile.factor(Span::from_us(minutes * 60_000_000));
        assert!((at(&profile, 200) / at(&bare, 200) - 3.0).abs() < 1e-12);
        assert_eq!(at(&profile, 240), at(&bare, 240));
        assert_eq!(at(&profile, 21 * 60), 0.5);
        assert_eq!(at(&profile, (24 + 21) * 60), 0.5);
    }

    #[test]
    fn a_burst_comes_once_where_spikes_repeat() {
        let calm = Profile { period: Some(HOUR.times(24)), ..all_at_once() };
        let burst = Burst { at: HOUR.times(20), duration: HOUR.times(2), factor: 3.0 };
        let burst = Profile { bursts: vec![burst], ..calm.clone() };
        for hour in [19, 22, 23, 24 + 20, 48 + 21] {
            let at = HOUR.times(hour);
            assert_eq!(burst.factor(at), calm.factor(at), "{hour} h");
        }
        for hour in [20, 21] {
            let at = HOUR.times(hour);
            assert!((burst.factor(at) / calm.factor(at) - 3.0).abs() < 1e-12, "{hour} h");
        }
        assert_eq!(Profile::default().extent(), Span::ZERO);
        assert_eq!(burst.extent(), HOUR.times(24));
    }

    #[test]
    fn integrals_are_the_sum_of_the_factors() {
        let profile = all_at_once();
        let day = HOUR.times(24).as_us();
        let exact = profile.mean(HOUR.times(24)) * day as f64;
        let parts: f64 =
            (0..24).map(|h| summed(&profile, h * HOUR.as_us(), (h + 1) * HOUR.as_us())).sum();
        assert!((exact / parts - 1.0).abs() < 1e-7, "{exact} {parts}");
    }

    #[test]
    fn a_walk_ends_where_the_rate_ends() {
        let ramp = Profile { points: vec![point(0, 1.0), point(1, 0.0)], ..Profile::default() };
        let mut walk = Walk::new(Arc::new(ramp), 0);
        let half = HOUR.as_us() as f64 / 2.0;
        assert_eq!(walk.spend(half / 2.0, u64::MAX >> 2).expect("inside").div_ceil(1_000_000), {
            // 1 - x - x^2 / 2 = ... : half of the area lies before 1 - sqrt(1/2) of the hour.
            ((1.0 - 0.5_f64.sqrt()) * 3600.0).ceil() as u64
        });
        let left = walk.spend(half, ARRIVAL_MAX.as_us()).expect_err("nothing comes any more");
        assert!((left - half / 2.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn a_steep_rise_from_zero_is_walked_from_its_foot() {
        let points = vec![point(0, 0.0), point(1, 1.0)];
        let mut walk = Walk::new(Arc::new(Profile { points, ..Profile::default() }), 0);
        let eighth = HOUR.as_us() as f64 / 8.0;
        assert_eq!(walk.spend(eighth, HOUR.as_us()), Ok(HOUR.as_us() / 2));
    }

    proptest! {
        #[test]
        fn walking_inverts_the_integral(
            seed: u64,
            ratio in 1.0..50.0_f64,
            factors in prop::collection::vec(0.0..3.0_f64, 1..6),
            spike in 0.0..8.0_f64,
            period in prop::option::of(24_u64..48),
            waves: bool,
        ) {
            let points =
                factors.iter().zip(0..).map(|(&factor, i)| point(4 * i, factor)).collect();
            let surge = Surge::Times(spike);
            let profile = Profile {
                points,
                period: period.map(|hours| HOUR.times(hours)),
                diurnal: waves.then(|| wave(ratio)),
                spikes: vec![Spike { at: HOUR.times(2), duration: HOUR, surge }],
                bursts: vec![Burst { at: HOUR.times(9), duration: HOUR, factor: 2.5 }],
            };
            let mut rng = Rng::new(seed, Stream::Arrivals, 0);
            let mut walk = Walk::new(Arc::new(profile.clone()), 0);
            let (mut spent, mut now) = (0.0, 0);
            for _ in 0..200 {
                let gap = rng.exponential() * 1.2e9 + 1.0;
                let Ok(next) = walk.spend(gap, 100 * HOUR.as_us()) else { break };
                spent += gap;
                prop_assert!(next >= now);
                now = next;
                if now == 0 { continue }
                let integral = profile.mean(Span::from_us(now)) * now as f64;
                // The arrival is cut to the microsecond.
                let factor_max = 60.0;
                prop_assert!(
                    integral <= spent + 0.1 && spent - integral < 2.0 * factor_max,
                    "{now}: {integral} {spent}"
                );
            }
        }
    }
}
