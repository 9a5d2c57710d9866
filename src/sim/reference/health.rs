//! Health checks.

use crate::base::{SimTime, Span};
use crate::policy::health::Ailment;

use super::super::fleet_outcome::Happening;
use super::cluster::{Cluster, Kind};
use super::fleet::State;

/// Something that a health check will know of an instance.
pub(super) struct Sign {
    pub at: SimTime,
    pub place: usize,
    pub request: usize,
    pub what: What,
}

/// What was seen.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum What {
    Answer,
    GivenUp,
    /// So long after it was sent there.
    FirstToken(Span),
}

/// What is known of the instance in a place.
#[derive(Clone, Default)]
pub(super) struct Checkup {
    /// What was seen, and at which check.
    seen: Vec<(u64, What)>,
    /// Since when it is out of rotation.
    pub out: Option<SimTime>,
    /// Judgements in a row that speak for the other side.
    in_a_row: u32,
}

impl Cluster<'_> {
    /// Checks all instances, for the `number`th time.
    pub fn check_health(&mut self, now: SimTime, number: u64) {
        let checks = self.setting.bundle.gateway.health_checks.expect("there are checks");
        self.events.insert((now + checks.interval, Kind::HealthCheck, number + 1, 0));
        for sign in self.signs.iter().filter(|sign| sign.at <= now) {
            self.places[sign.place].checkup.seen.push((number, sign.what));
        }
        self.signs.retain(|sign| sign.at > now);
        for at in 0..self.places.len() {
            if self.places[at].state != State::Ready {
                continue;
            }
            let ailment = self.ailment(at, number);
            let open = self.places.iter().filter(|place| place.is_ready()).count();
            let checkup = &mut self.places[at].checkup;
            if ailment.is_some() == checkup.out.is_some() {
                checkup.in_a_row = 0;
                continue;
            }
            checkup.in_a_row += 1;
            let in_a_row = checkup.in_a_row;
            match (ailment, checkup.out) {
                (Some(ailment), _)
                    if in_a_row >= checks.failure_threshold && (open > 1 || checks.allow_empty) =>
                {
                    *checkup = Checkup { out: Some(now), ..Checkup::default() };
                    self.note(now, at, Happening::OutOfRotation { ailment });
                }
                (None, Some(since))
                    if in_a_row >= checks.success_threshold && now - since >= checks.probation =>
                {
                    *checkup = Checkup::default();
                    self.note(now, at, Happening::BackInRotation);
                    for id in std::mem::take(&mut self.held) {
                        self.route(now, id);
                    }
                }
                _ => {}
            }
        }
    }

    /// What is wrong with the instance in place `at`, going by the checks until `number`.
    fn ailment(&self, at: usize, number: u64) -> Option<Ailment> {
        let checks = self.setting.bundle.gateway.health_checks?;
        let window = checks.window.as_ps().div_ceil(checks.interval.as_ps()).max(1);
        let seen = || {
            let all = self.places[at].checkup.seen.iter();
            all.filter(|(check, _)| check + window > number).map(|(_, what)| *what)
        };
        let least = checks.min_requests as usize;
        let errors = seen().filter(|what| *what == What::GivenUp).count();
        let requests = errors + seen().filter(|what| *what == What::Answer).count();
        let rate = errors as f64 / requests as f64;
        if requests >= least && checks.max_error_rate.is_some_and(|limit| rate > limit) {
            return Some(Ailment::Errors(rate));
        }
        let mut ttfts: Vec<Span> = seen()
            .filter_map(|what| if let What::FirstToken(ttft) = what { Some(ttft) } else { None })
            .collect();
        ttfts.sort_unstable();
        let limit = checks.max_ttft_p99?;
        // The least that 99 % keep to.
        let rank = (ttfts.len() * 99).div_ceil(100);
        let p99 = ttfts.get(rank.checked_sub(1)?)?;
        let late = ttfts.iter().filter(|&&ttft| ttft > limit).count();
        let is_late = ttfts.len() >= least && *p99 > limit;
        is_late.then(|| Ailment::Late(late as f64 / ttfts.len() as f64))
    }
}
