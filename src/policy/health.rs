//! Which instances are fit to serve, as `sim/admission.md` has it.

use std::collections::VecDeque;

use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields};

/// Requests or judgements, as a number to wait for.
const COUNT_MAX: u32 = 1_000_000;

/// When instances are taken out of rotation, and when they are put back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthChecks {
    /// Between judgements; above zero.
    pub interval: Span,
    /// What a judgement looks back at: whole intervals, rounded up.
    pub window: Span,
    /// The share of attempts given up above which an instance is bad; in [0, 1].
    pub max_error_rate: Option<f64>,
    /// The 99th percentile of times to first token above which it is bad.
    pub max_ttft_p99: Option<Span>,
    /// Neither is judged over less than this; at least 1.
    pub min_requests: u32,
    /// Bad judgements in a row that take an instance out of rotation; at least 1.
    pub failure_threshold: u32,
    /// Judgements in a row that were not bad and put it back; at least 1.
    pub success_threshold: u32,
    /// How long it is out at least.
    pub probation: Span,
    /// Also the last one in rotation may be taken out.
    pub allow_empty: bool,
}

impl Default for HealthChecks {
    /// Limits and window of `scalability-and-reliability.md`; the rest as proxies have it.
    fn default() -> Self {
        Self {
            interval: Span::from_us(10_000_000),
            window: Span::from_us(300_000_000),
            max_error_rate: Some(0.01),
            max_ttft_p99: Some(Span::from_us(500_000)),
            min_requests: 10,
            failure_threshold: 1,
            success_threshold: 3,
            probation: Span::from_us(30_000_000),
            allow_empty: false,
        }
    }
}

impl HealthChecks {
    /// Judgements in a window.
    pub fn intervals(&self) -> usize {
        (self.window.as_ps().div_ceil(self.interval.as_ps()) as usize).max(1)
    }
}

/// What was seen of an instance between two judgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers completed.
    pub answers: u64,
    /// Attempts given up there.
    pub errors: u64,
    /// First tokens.
    pub first_tokens: u64,
    /// Those that came later than the limit.
    pub late: u64,
}

/// Why an instance is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ailment {
    /// Too large a share of attempts was given up.
    Errors(f64),
    /// This share of first tokens came too late.
    Late(f64),
}

impl std::fmt::Display for Ailment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errors(rate) => write!(formatter, "{:.1} % of attempts given up", rate * 100.0),
            Self::Late(share) => {
                write!(formatter, "{:.1} % of first tokens too late", share * 100.0)
            }
        }
    }
}

/// What follows from a judgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It stays where it is.
    Stay,
    /// It is to be taken out of rotation.
    Out(Ailment),
    /// It is to be put back.
    Back,
}

/// The record of one instance.
#[derive(Clone, Debug, Default)]
pub struct HealthRecord {
    window: VecDeque<Seen>,
    /// What was seen since the last judgement.
    pub now: Seen,
    /// Since when it is out of rotation.
    out: Option<SimTime>,
    in_a_row: u32,
}

impl HealthRecord {
    /// Whether it is out of rotation.
    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Begins anew, in rotation.
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// Takes note that a verdict was carried out: it begins anew on the other side.
    pub fn change_sides(&mut self, now: SimTime) {
        let out = if self.is_out() { None } else { Some(now) };
        *self = Self { out, ..Self::default() };
    }

    /// Judges at `now`, once an interval.
    pub fn judge(&mut self, checks: &HealthChecks, now: SimTime) -> Verdict {
        self.window.push_back(std::mem::take(&mut self.now));
        if self.window.len() > checks.intervals() {
            self.window.pop_front();
        }
        let ailment = self.ailment(checks);
        let counts = ailment.is_some() != self.is_out();
        self.in_a_row = if counts { self.in_a_row.saturating_add(1) } else { 0 };
        match (self.out, ailment) {
            (None, Some(ailment)) if self.in_a_row >= checks.failure_threshold => {
                Verdict::Out(ailment)
            }
            (Some(since), None)
                if self.in_a_row >= checks.success_threshold
                    && now.since(since) >= checks.probation =>
            {
                Verdict::Back
            }
            _ => Verdict::Stay,
        }
    }

    fn ailment(&self, checks: &HealthChecks) -> Option<Ailment> {
        let sum = |of: fn(&Seen) -> u64| self.window.iter().map(of).sum::<u64>();
        let (answers, errors) = (sum(|seen| seen.answers), sum(|seen| seen.errors));
        let (first_tokens, late) = (sum(|seen| seen.first_tokens), sum(|seen| seen.late));
        let least = u64::from(checks.min_requests);
        let requests = answers + errors;
        let rate = errors as f64 / requests as f64;
        if requests >= least && checks.max_error_rate.is_some_and(|max| rate > max) {
            return Some(Ailment::Errors(rate));
        }
        // More than one in a hundred later than the limit: so is the 99th percentile.
        let is_late = first_tokens >= least && late * 100 > first_tokens;
        is_late.then(|| Ailment::Late(late as f64 / first_tokens as f64))
    }
}

/// Reads `health_checks`; `None` without.
pub(super) fn read_health(bundle: &mut Fields) -> Option<HealthChecks> {
    let mut fields = bundle.fields("health_checks")?;
    let default = HealthChecks::default();
    let interval = fields.span("interval", DAY).unwrap_or(default.interval);
    if interval == Span::ZERO {
        let problem = fields.error("interval", "`interval` is zero");
        problem.label("above 0").hint("write `interval: 10s`");
    }
    let rate = fields.f64("max_error_rate", Bounds::between(0.0, 1.0)).or(default.max_error_rate);
    let ttft = fields.span("max_ttft_p99", DAY).or(default.max_ttft_p99);
    let mut count = |key| fields.u32(key, 1..=COUNT_MAX);
    let min_requests = count("min_requests").unwrap_or(default.min_requests);
    let failure_threshold = count("failure_threshold").unwrap_or(default.failure_threshold);
    let success_threshold = count("success_threshold").unwrap_or(default.success_threshold);
    let checks = HealthChecks {
        interval,
        window: fields.span("window", DAY).unwrap_or(default.window),
        // A rate of 1 is never exceeded, nor is a day.
        max_error_rate: rate.filter(|&rate| rate < 1.0),
        max_ttft_p99: ttft.filter(|&ttft| ttft < DAY),
        min_requests,
        failure_threshold,
        success_threshold,
        probation: fields.span("probation", DAY).unwrap_or(default.probation),
        allow_empty: fields.bool("allow_empty").unwrap_or(default.allow_empty),
    };
    fields.finish();
    Some(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: HealthChecks = HealthChecks {
        interval: Span::from_us(10_000_000),
        window: Span::from_us(20_000_000),
        max_error_rate: Some(0.01),
        max_ttft_p99: Some(Span::from_us(500_000)),
        min_requests: 10,
        failure_threshold: 2,
        success_threshold: 2,
        probation: Span::from_us(30_000_000),
        allow_empty: false,
    };

    fn judge(record: &mut HealthRecord, seconds: u64, seen: Seen) -> Verdict {
        record.now = seen;
        record.judge(&CHECKS, SimTime::from_us(seconds * 1_000_000))
    }

    fn errors(answers: u64, errors: u64) -> Seen {
        Seen { answers, errors, ..Seen::default() }
    }

    #[test]
    fn two_bad_judgements_in_a_row_take_out_and_two_good_ones_put_back_after_probation() {
        let mut record = HealthRecord::default();
        assert_eq!(judge(&mut record, 10, errors(99, 1)), Verdict::Stay, "1 % is not above 1 %");
        assert_eq!(judge(&mut record, 20, errors(95, 5)), Verdict::Stay, "the first bad one");
        assert_eq!(judge(&mut record, 30, errors(0, 0)), Verdict::Out(Ailment::Errors(0.05)));
        record.change_sides(SimTime::from_us(30_000_000));
        assert!(record.is_out());
        for (seconds, verdict) in [(40, Verdict::Stay), (50, Verdict::Stay), (60, Verdict::Back)] {
            assert_eq!(judge(&mut record, seconds, Seen::default()), verdict, "{seconds}");
        }
    }

    #[test]
    fn the_window_forgets_and_few_requests_say_nothing() {
        let mut record = HealthRecord::default();
        assert_eq!(judge(&mut record, 10, errors(4, 5)), Verdict::Stay, "fewer than ten");
        judge(&mut record, 20, errors(100, 0));
        assert_eq!(judge(&mut record, 30, errors(100, 0)), Verdict::Stay, "the five are forgotten");
        assert_eq!(record.in_a_row, 0);
    }

    #[test]
    fn a_percentile_is_above_the_limit_when_more_than_one_in_a_hundred_is() {
        let late = |first_tokens, late| Seen { first_tokens, late, ..Seen::default() };
        let mut record = HealthRecord::default();
        judge(&mut record, 10, late(200, 2));
        assert_eq!(record.in_a_row, 0);
        judge(&mut record, 20, late(100, 2));
        assert_eq!(record.in_a_row, 1);
        assert_eq!(judge(&mut record, 30, late(0, 0)), Verdict::Out(Ailment::Late(0.02)));
    }
}
