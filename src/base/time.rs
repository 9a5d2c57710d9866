//! Points and lengths of simulated time, in whole picoseconds.

use std::ops::{Add, AddAssign, Sub};

/// Picoseconds in a microsecond.
const PS_PER_US: u64 = 1_000_000;
/// Picoseconds in a second.
const PS_PER_S: u64 = 1_000_000_000_000;

/// A point in simulated time: picoseconds since the run began, up to 213 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(u64);

/// A length of simulated time, in picoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl SimTime {
    /// The start of a run.
    pub const ZERO: Self = Self(0);
    /// No run goes on beyond this, 53 days: what is added to it cannot leave the clock's range.
    pub const LAST: Self = Self(1 << 62);
    /// Later than everything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `ps` picoseconds after the start.
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// The point `us` microseconds after the start.
    pub const fn from_us(us: u64) -> Self {
        Self(us * PS_PER_US)
    }

    /// The point `seconds` after the start, rounded to whole microseconds.
    /// Negative and non-finite values give the start.
    pub fn from_secs(seconds: f64) -> Self {
        Self(Span::from_secs(seconds).0)
    }

    /// Picoseconds since the start.
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the start, rounded down.
    pub const fn as_us(self) -> u64 {
        self.0 / PS_PER_US
    }

    /// Seconds since the start.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / PS_PER_S as f64
    }

    /// The length from `earlier` to this point; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `ps` picoseconds.
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// `us` microseconds.
    pub const fn from_us(us: u64) -> Self {
        Self(us * PS_PER_US)
    }

    /// `seconds`, rounded to whole microseconds. Negative and non-finite values give zero;
    /// values past the range of the clock give its end.
    pub fn from_secs(seconds: f64) -> Self {
        Self(((seconds * 1e6).round().max(0.0) as u64).saturating_mul(PS_PER_US))
    }

    /// Picoseconds.
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// Whole microseconds, rounded down.
    pub const fn as_us(self) -> u64 {
        self.0 / PS_PER_US
    }

    /// Milliseconds.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Seconds.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / PS_PER_S as f64
    }

    /// This length `times` over, or the longest length where that is longer.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Add<Span> for SimTime {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0 + span.0)
    }
}

impl Sub for SimTime {
    type Output = Span;
    /// Panics where `earlier` is later: a bug in the caller, since time never runs backwards.
    fn sub(self, earlier: Self) -> Span {
        Span(self.0 - earlier.0)
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_to_whole_microseconds() {
        assert_eq!(Span::from_secs(2.01), Span::from_us(2_010_000));
        assert_eq!(Span::from_secs(-1.0), Span::ZERO);
        assert_eq!(Span::from_secs(f64::NAN), Span::ZERO);
    }

    #[test]
    fn since_never_goes_below_zero() {
        assert_eq!(SimTime::from_us(1).since(SimTime::from_us(2)), Span::ZERO);
    }
}
