//! Who is fit to serve, judged by what was seen of each instance.

use crate::base::{SimTime, Span};
use crate::policy::health::{HealthChecks, HealthRecord, Verdict};
use crate::sim::cluster::Cluster;
use crate::sim::fleet::{Due, State};
use crate::sim::fleet_outcome::Happening;
use crate::sim::source::Source;

/// What is seen of instances for health checks; nothing where there are none.
#[derive(Debug, Default)]
pub struct HealthWatch {
    records: Vec<HealthRecord>,
    limit: Span,
    /// First tokens: when, of which request, where, how long after it was sent there. Their steps
    /// may not have ended yet.
    first_tokens: Vec<(SimTime, u32, u32, Span)>,
}

impl HealthWatch {
    /// Forgets the last run; `None` where nobody is judged.
    pub fn reset(&mut self, checks: Option<&HealthChecks>, places: usize) {
        self.first_tokens.clear();
        self.records.clear();
        if let Some(checks) = checks {
            self.records.resize_with(places, HealthRecord::default);
            // Without a limit none is late.
            let longest = Span::from_ps(u64::MAX);
            self.limit = checks.max_ttft_p99.unwrap_or(longest);
        }
    }

    fn is_on(&self) -> bool {
        !self.records.is_empty()
    }

    /// A first token of request `id` will come at `end`, `ttft` after it was sent to `instance`.
    pub fn first_token(&mut self, end: SimTime, id: u32, instance: u32, ttft: Span) {
        if self.is_on() {
            self.first_tokens.push((end, id, instance, ttft));
        }
    }

    /// An answer is complete on `instance`.
    pub fn completed(&mut self, instance: u32) {
        if self.is_on() {
            self.records[instance as usize].now.answers += 1;
        }
    }

    /// An attempt was given up on `instance`.
    pub fn given_up(&mut self, instance: u32) {
        if self.is_on() {
            self.records[instance as usize].now.errors += 1;
        }
    }

    /// Request `id` left at `now`: a first token later than that never comes.
    pub fn left(&mut self, id: u32, now: SimTime) {
        self.first_tokens.retain(|&(end, other, ..)| other != id || end <= now);
    }

    /// `instance` is new: what was seen of those before it counts no more.
    fn renew(&mut self, instance: usize) {
        if self.is_on() {
            self.records[instance].renew();
            self.first_tokens.retain(|&(_, _, other, _)| other as usize != instance);
        }
    }

    /// Brings first tokens whose steps have ended by `now` to the records.
    fn settle(&mut self, now: SimTime) {
        let (records, limit) = (&mut self.records, self.limit);
        self.first_tokens.retain(|&(end, _, instance, ttft)| {
            if end <= now {
                let seen = &mut records[instance as usize].now;
                seen.first_tokens += 1;
                seen.late += u64::from(ttft > limit);
            }
            end > now
        });
    }
}

impl<S: Source> Cluster<'_, S> {
    /// An instance got ready: whatever was seen in its place before counts no more.
    pub(super) fn begin_record(&mut self, place: usize) {
        self.s.collect.health.renew(place);
    }

    /// Judges all ready instances.
    pub(super) fn check_health(&mut self, now: SimTime) {
        let Some(checks) = &self.bundle.gateway.health_checks else { return };
        self.s.collect.health.settle(now);
        for place in 0..self.s.engines.len() {
            if self.fleet().places[place].state != State::Ready {
                continue;
            }
            let verdict = self.s.collect.health.records[place].judge(checks, now);
            match verdict {
                Verdict::Stay => {}
                Verdict::Out(ailment) => {
                    if self.moving().open_count() > 1 || checks.allow_empty {
                        self.s.collect.health.records[place].change_sides(now);
                        self.set_open(place, false);
                        self.fleet().note(now, place, Happening::OutOfRotation { ailment });
                    }
                }
                Verdict::Back => {
                    self.s.collect.health.records[place].change_sides(now);
                    self.set_open(place, true);
                    self.fleet().note(now, place, Happening::BackInRotation);
                    self.route_held(now);
                }
            }
        }
        self.fleet().schedule(now + checks.interval, Due::Check, 0);
    }
}
