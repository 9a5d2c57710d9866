//! When the requests and sessions of one client start.

use crate::base::{Rng, Span};

use super::arrivals::{Arrivals, Gaps};
use super::profile::Walk;
use super::spec::{ARRIVAL_MAX, ClientSpec, Window};

/// Stands for "no further arrival".
pub(super) const NEVER_US: u64 = u64::MAX;

/// The arrival process of one client, inside its windows and along its profile.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    /// Arrivals per second where no window and no profile changes it.
    rate: f64,
    arrivals: Arrivals,
    /// The law of the current window.
    gaps: Gaps,
    rng: Rng,
    windows: Vec<Window>,
    /// The window that `now_us` lies in.
    window: usize,
    now_us: u64,
    walk: Option<Walk>,
    from_zero: bool,
    /// Whether the next gap is the first of a window with a law of its own.
    afresh: bool,
}

impl Starts {
    /// Of the client in `spec` at `rate` arrivals per second, above 0.
    pub fn new(spec: &ClientSpec, rate: f64, rng: Rng) -> Self {
        let always = Window::new(Span::ZERO, ARRIVAL_MAX);
        let windows = if spec.windows.is_empty() { vec![always] } else { spec.windows.clone() };
        let now_us = windows[0].start.as_us();
        let mut starts = Self {
            rate,
            arrivals: spec.arrivals.clone(),
            gaps: Gaps::new(&spec.arrivals, rate),
            rng,
            now_us,
            windows,
            window: 0,
            walk: spec.profile.as_ref().map(|profile| Walk::new(profile.clone(), now_us)),
            from_zero: matches!(spec.arrivals, Arrivals::Constant { from_zero: true }),
            afresh: false,
        };
        starts.adopt_law(None);
        starts
    }

    /// The first arrival in microseconds.
    pub fn first(&mut self) -> u64 {
        if self.from_zero { self.now_us } else { self.next() }
    }

    /// The window of the last arrival given.
    pub fn window(&self) -> Option<&Window> {
        self.windows.get(self.window)
    }

    /// The next arrival in microseconds; [`NEVER_US`] behind the last window. A gap is spent in
    /// active time only, and faster where the rate is higher. It ends with its window where laws
    /// change: the next one has always been going on.
    pub fn next(&mut self) -> u64 {
        let mut gap = self.draw();
        while let Some(window) = self.windows.get(self.window) {
            match self.spend(gap, window.rate, window.end.as_us()) {
                Ok(us) => return us,
                Err(left) => gap = left,
            }
            self.window += 1;
            let Some(next) = self.windows.get(self.window) else { break };
            self.now_us = next.start.as_us();
            if let Some(walk) = &mut self.walk {
                walk.jump(self.now_us);
            }
            self.adopt_law(Some(self.window - 1));
            if self.afresh {
                gap = self.draw();
            }
        }
        NEVER_US
    }

    fn draw(&mut self) -> f64 {
        if std::mem::take(&mut self.afresh) {
            self.gaps.draw_first(&mut self.rng)
        } else {
            self.gaps.draw(&mut self.rng)
        }
    }

    /// Spends `gap` at `rate` times the nominal one: where it ends, or what is left at `until`.
    fn spend(&mut self, gap: f64, rate: f64, until: u64) -> Result<u64, f64> {
        if let Some(walk) = &mut self.walk {
            return walk.spend(gap / rate, until).map_err(|left| left * rate);
        }
        let room = until.saturating_sub(self.now_us) as f64 * rate;
        if gap < room {
            self.now_us += (gap / rate) as u64;
            return Ok(self.now_us);
        }
        Err(gap - room)
    }

    /// Takes the law of the current window where it, or the window `before`, has one of its own.
    fn adopt_law(&mut self, before: Option<usize>) {
        let law = |at: usize| self.windows[at].own.as_ref().and_then(|own| own.arrivals.as_ref());
        let own = law(self.window);
        if own.is_some() || before.is_some_and(|before| law(before).is_some()) {
            self.gaps = Gaps::new(own.unwrap_or(&self.arrivals), self.rate);
            self.afresh = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stream;
    use crate::workload::profile::{Diurnal, Point, Profile};
    use crate::workload::spec::WindowOwn;
    use std::sync::Arc;

    fn starts(spec: &ClientSpec, rate: f64, seed: u64) -> Starts {
        Starts::new(spec, rate, Rng::new(seed, Stream::Arrivals, 0))
    }

    fn counts(spec: &ClientSpec, rate: f64, seed: u64, hours: usize) -> Vec<f64> {
        let mut starts = starts(spec, rate, seed);
        let mut counts = vec![0.0; hours];
        let mut now = starts.first();
        while let Some(count) = counts.get_mut((now / 3_600_000_000) as usize) {
            *count += 1.0;
            now = starts.next();
        }
        counts
    }

    fn hour(hours: u64) -> Span {
        Span::from_us(hours * 3_600_000_000)
    }

    /// The variance of counts over their mean, in the long run.
    fn dispersion(arrivals: &Arrivals) -> f64 {
        match arrivals {
            Arrivals::Gamma { cv } | Arrivals::Weibull { cv } => cv * cv,
            Arrivals::Constant { .. } => 0.0,
            _ => 1.0,
        }
    }

    #[test]
    fn every_process_follows_the_profile_hour_by_hour() {
        let diurnal = Diurnal { peak: hour(14), peak_to_trough: 5.0, period: hour(24) };
        let point = |at, factor| Point { at: hour(at), factor };
        let points = vec![point(0, 0.5), point(6, 0.5), point(12, 2.0), point(24, 0.0)];
        let profile = Arc::new(Profile { points, diurnal: Some(diurnal), ..Profile::default() });
        for arrivals in [
            Arrivals::Poisson,
            Arrivals::Gamma { cv: 3.0 },
            Arrivals::Weibull { cv: 0.5 },
            Arrivals::Constant { from_zero: false },
        ] {
            let profile = Some(Arc::clone(&profile));
            let spread = dispersion(&arrivals);
            let spec = ClientSpec { arrivals, profile: profile.clone(), ..ClientSpec::default() };
            let counts = counts(&spec, 2.0, 11, 24);
            for (at, count) in counts.iter().enumerate() {
                let until = |hours: usize| match hours {
                    0 => 0.0,
                    h => profile.as_ref().expect("set").mean(hour(h as u64)) * h as f64 * 7200.0,
                };
                let expected = until(at + 1) - until(at);
                let allowed = 4.0 * (expected * spread).sqrt() + 4.0 * spread + 2.0;
                assert!((count - expected).abs() < allowed, "{spec:?} {at}: {count} {expected}");
            }
        }
    }

    #[test]
    fn a_profile_of_one_is_no_profile() {
        let plain = ClientSpec::default();
        let profile = Some(Arc::new(Profile::default()));
        let curved = ClientSpec { profile, ..plain.clone() };
        let (mut plain, mut curved) = (starts(&plain, 7.0, 3), starts(&curved, 7.0, 3));
        for _ in 0..10_000 {
            assert_eq!(plain.next(), curved.next());
        }
    }

    #[test]
    fn profiles_work_inside_windows() {
        let point = |at, factor| Point { at: hour(at), factor };
        let points = vec![point(0, 0.0), point(10, 1.0)];
        let profile = Some(Arc::new(Profile { points, ..Profile::default() }));
        let window = |start, rate| Window { rate, ..Window::new(hour(start), hour(start + 1)) };
        let windows = vec![window(1, 1.0), window(5, 2.0)];
        let spec = ClientSpec { windows, profile, ..ClientSpec::default() };
        let counts = counts(&spec, 20.0, 5, 5);
        assert_eq!((counts[0], counts[2], counts[3], counts[4]), (0.0, 0.0, 0.0, 0.0));
        let expected = 72_000.0 * 0.15;
        assert!((counts[1] - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        let mut all = starts(&spec, 20.0, 5);
        let late = std::iter::from_fn(|| Some(all.next())).take_while(|&us| us != NEVER_US);
        let late = late.filter(|&us| us > 2 * hour(1).as_us()).count() as f64;
        let expected = 2.0 * 72_000.0 * 0.55;
        assert!((late - expected).abs() < 4.0 * expected.sqrt(), "{late}");
    }

    #[test]
    fn windows_with_laws_of_their_own_have_their_rates_on_average() {
        let law = |shape| {
            let arrivals = Some(Arrivals::GammaShape { shape });
            Some(Arc::new(WindowOwn { arrivals, ..WindowOwn::default() }))
        };
        let window = |start, rate, shape| Window {
            rate,
            own: law(shape),
            ..Window::new(hour(start), hour(start + 1))
        };
        let windows = vec![window(0, 1.0, 0.05), window(1, 3.0, 50.0), window(2, 0.5, 0.1)];
        let spec = ClientSpec { windows, ..ClientSpec::default() };
        let runs = 300;
        let mut sums = [0.0; 3];
        for seed in 0..runs {
            for (sum, count) in sums.iter_mut().zip(counts(&spec, 0.05, seed, 3)) {
                *sum += count / runs as f64;
            }
        }
        for (mean, (expected, shape)) in
            sums.into_iter().zip([(180.0, 0.05), (540.0, 50.0), (90.0, 0.1)])
        {
            let error = (f64::midpoint(expected / shape, expected) / runs as f64).sqrt();
            assert!((mean - expected).abs() < 5.0 * error, "{mean} {expected} {error}");
        }
    }
}
