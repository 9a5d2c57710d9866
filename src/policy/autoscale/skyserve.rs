//! The request rate autoscaler of SkyServe.
//!
//! With no replica SkyServe decides every 5 s; here the interval is always the same.

use super::read::Usual;
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields};
use crate::policy::signals::Signal;

/// Over which requests are counted.
const WINDOW: Span = Span::from_us(60_000_000);
const TARGET_BOUNDS: Bounds = Bounds::above(0.0, 1e6);

/// `replica_policy` of a service as its users set it.
#[derive(Clone, Debug, PartialEq)]
pub struct SkyServe {
    /// The pool, by position.
    pub pool: u32,
    /// Requests per second of a replica; above 0.
    pub target_qps_per_replica: f64,
    /// How long more must be wanted until there are more.
    pub upscale_delay: Span,
    /// How long fewer must be wanted until there are fewer.
    pub downscale_delay: Span,
}

impl SkyServe {
    pub(super) fn read(fields: &mut Fields, usual: Usual, is_used: bool) -> Option<Self> {
        if is_used {
            fields.require(&["skyserve"]);
        }
        let mut fields = fields.fields("skyserve")?;
        fields.require(&["target_qps_per_replica"]);
        let target = fields.f64("target_qps_per_replica", TARGET_BOUNDS);
        let mut delay =
            |key, usual_s: u64| fields.span(key, DAY).unwrap_or(Span::from_us(usual_s * 1_000_000));
        let up = delay("upscale_delay", 300);
        let down = delay("downscale_delay", 1200);
        fields.finish();
        Some(Self {
            pool: usual.pool,
            target_qps_per_replica: target?,
            upscale_delay: up,
            downscale_delay: down,
        })
    }
}

/// The arithmetic of the autoscaler, and what it remembers.
#[derive(Clone, Debug)]
struct Decider {
    target_qps_per_replica: f64,
    /// Decisions in a row after which there are more.
    upscale_periods: u64,
    /// Decisions in a row after which there are fewer.
    downscale_periods: u64,
    upscale_counter: u64,
    downscale_counter: u64,
}

impl Decider {
    fn new(sky: &SkyServe, interval: Span) -> Self {
        let periods = |delay: Span| delay.as_ps() / interval.as_ps();
        Self {
            target_qps_per_replica: sky.target_qps_per_replica,
            upscale_periods: periods(sky.upscale_delay),
            downscale_periods: periods(sky.downscale_delay),
            upscale_counter: 0,
            downscale_counter: 0,
        }
    }

    /// The replicas to have instead of `target`, where `requests` came in the window.
    fn decide(&mut self, requests: u64, target: u32, (min, max): (u32, u32)) -> u32 {
        let qps = requests as f64 / WINDOW.as_secs();
        let wanted = ((qps / self.target_qps_per_replica).ceil() as u32).clamp(min, max);
        if target == 0 {
            return wanted;
        }
        if wanted == target {
            (self.upscale_counter, self.downscale_counter) = (0, 0);
            return target;
        }
        let (counter, other, periods) = if wanted > target {
            (&mut self.upscale_counter, &mut self.downscale_counter, self.upscale_periods)
        } else {
            (&mut self.downscale_counter, &mut self.upscale_counter, self.downscale_periods)
        };
        *counter += 1;
        *other = 0;
        if *counter < periods {
            return target;
        }
        *counter = 0;
        wanted
    }
}

impl Controller for SkyServe {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        vec![(Signal::ArrivalRate, WINDOW)]
    }

    fn start(&self, interval: Span) -> Box<dyn Autoscaler> {
        Box::new(SkyLoop { sky: self.clone(), decider: Decider::new(self, interval) })
    }
}

struct SkyLoop {
    sky: SkyServe,
    decider: Decider,
}

impl Autoscaler for SkyLoop {
    fn plan(&mut self, _: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let SkyServe { pool, target_qps_per_replica: target, .. } = self.sky;
        let view = &fleet.pools[pool as usize];
        let Some(requests) = fleet.signals.arrivals(WINDOW) else { return };
        let wanted = self.decider.decide(requests, view.desired, (view.min, view.max));
        let (signal, value) = (Signal::ArrivalRate, requests as f64 / WINDOW.as_secs());
        let reason = Reason::Recommended { signal, value, target, wanted };
        towards(wanted, pool, view, reason, orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decider(target_qps_per_replica: f64) -> Decider {
        let seconds = |seconds: u64| Span::from_us(seconds * 1_000_000);
        let (upscale_delay, downscale_delay) = (seconds(300), seconds(1200));
        let sky = SkyServe { pool: 0, target_qps_per_replica, upscale_delay, downscale_delay };
        Decider::new(&sky, seconds(20))
    }

    #[test]
    fn requests_per_second_over_the_target_are_rounded_up() {
        for (requests, expected) in [(0, 1), (600, 1), (601, 2), (6000, 10), (60_000, 12)] {
            assert_eq!(decider(10.0).decide(requests, 0, (1, 12)), expected, "{requests}");
        }
        assert_eq!(decider(10.0).decide(0, 0, (0, 12)), 0);
    }

    #[test]
    fn more_come_after_300_s_and_fewer_go_after_1200_s() {
        let mut decider = decider(10.0);
        let mut decide = |requests| decider.decide(requests, 4, (1, 12));
        assert!((0..14).all(|_| decide(6000) == 4));
        assert_eq!(decide(6000), 10, "the 15th decision, 20 s apart");
        assert!((0..59).all(|_| decide(600) == 4));
        assert_eq!(decide(600), 1);
    }

    #[test]
    fn one_decision_otherwise_begins_the_delay_anew() {
        let mut decider = decider(10.0);
        let mut decide = |requests| decider.decide(requests, 4, (1, 12));
        for otherwise in [600, 2400] {
            assert!((0..14).all(|_| decide(6000) == 4));
            assert_eq!(decide(otherwise), 4);
        }
        assert!((0..14).all(|_| decide(6000) == 4));
        assert_eq!(decide(6000), 10);
    }
}
