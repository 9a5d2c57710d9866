//! The autoscaler of Ray Serve: ongoing requests over a target, followed after a delay.
//!
//! Requests waiting at a handle or running on a replica are ongoing. Handles and replicas push
//! their aggregate over the look-back every `metrics_interval`.

use super::read::{Usual, WINDOW_MAX};
use super::{Autoscaler, Controller, FleetView, Reason, ScaleOrder, towards};
use crate::base::{SimTime, Span};
use crate::config::{Bounds, DAY, Fields};
use crate::policy::signals::{Aggregate, Signal};

const TARGET_BOUNDS: Bounds = Bounds::between(0.001, 1e9);
const FACTOR_BOUNDS: Bounds = Bounds::above(0.0, 1e6);

/// `autoscaling_config` of a deployment as its users set it.
#[derive(Clone, Debug, PartialEq)]
pub struct RayServe {
    /// The pool, by position.
    pub pool: u32,
    /// Ongoing requests per replica; above 0.
    pub target_ongoing_requests: f64,
    /// How long more must be wanted until there are more.
    pub upscale_delay: Span,
    /// How long fewer must be wanted until there are fewer.
    pub downscale_delay: Span,
    /// The same for the last replica, where it differs.
    pub downscale_to_zero_delay: Option<Span>,
    /// The share of a difference upwards that is made at once; above 0.
    pub upscaling_factor: f64,
    /// The share of a difference downwards that is made at once; above 0.
    pub downscaling_factor: f64,
    /// Between two pushes of the metrics; above zero.
    pub metrics_interval: Span,
    /// Over which they are aggregated; above zero.
    pub look_back_period: Span,
    /// How.
    pub aggregation: Aggregate,
}

impl RayServe {
    /// One that nothing was said about.
    pub fn new(pool: u32) -> Self {
        let seconds = |seconds: u64| Span::from_us(seconds * 1_000_000);
        Self {
            pool,
            target_ongoing_requests: 2.0,
            upscale_delay: seconds(30),
            downscale_delay: seconds(600),
            downscale_to_zero_delay: None,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            metrics_interval: seconds(10),
            look_back_period: seconds(30),
            aggregation: Aggregate::Mean,
        }
    }

    pub(super) fn read(fields: &mut Fields, usual: Usual) -> Self {
        let mut read = Self::new(usual.pool);
        let Some(mut fields) = fields.fields("ray_serve") else { return read };
        let target = fields.f64("target_ongoing_requests", TARGET_BOUNDS);
        read.target_ongoing_requests = target.unwrap_or(read.target_ongoing_requests);
        read.upscale_delay = fields.span("upscale_delay_s", DAY).unwrap_or(read.upscale_delay);
        read.downscale_delay =
            fields.span("downscale_delay_s", DAY).unwrap_or(read.downscale_delay);
        read.downscale_to_zero_delay = fields.span("downscale_to_zero_delay_s", DAY);
        let up = fields.f64("upscaling_factor", FACTOR_BOUNDS);
        read.upscaling_factor = up.unwrap_or(read.upscaling_factor);
        let down = fields.f64("downscaling_factor", FACTOR_BOUNDS);
        read.downscaling_factor = down.unwrap_or(read.downscaling_factor);
        let above_zero = |fields: &mut Fields, key, max, usual| {
            let span = fields.span(key, max).unwrap_or(usual);
            if span == Span::ZERO {
                fields.error(key, format!("`{key}` must be longer than zero")).label("zero");
            }
            span
        };
        read.metrics_interval =
            above_zero(&mut fields, "metrics_interval_s", DAY, read.metrics_interval);
        read.look_back_period =
            above_zero(&mut fields, "look_back_period_s", WINDOW_MAX, read.look_back_period);
        let ways = [("mean", Aggregate::Mean), ("max", Aggregate::Max), ("min", Aggregate::Min)];
        read.aggregation = fields.one_of("aggregation_function", &ways).unwrap_or_default();
        let delay = read.upscale_delay.min(read.downscale_delay);
        if delay < read.look_back_period {
            let at = fields.at();
            fields
                .problems()
                .warning(at, "a delay is shorter than `look_back_period_s`")
                .label("the deployment follows what it has already answered")
                .hint("make delays longer than the look-back, or that shorter");
        }
        fields.finish();
        read
    }
}

/// The replicas of a deployment, and how many it may have.
#[derive(Clone, Copy, Debug)]
struct Replicas {
    /// Those that run.
    running: u32,
    /// Those there should be.
    target: u32,
    min: u32,
    max: u32,
}

/// The arithmetic of the autoscaler, and what it remembers.
#[derive(Clone, Debug)]
struct Decider {
    ray: RayServe,
    /// Of the control loop.
    interval: Span,
    /// Decisions in a row to have more, or to have fewer where negative.
    counter: i64,
}

impl Decider {
    /// The replicas there should be, where `ongoing` requests are seen.
    fn decide(&mut self, ongoing: f64, replicas: Replicas) -> u32 {
        let Replicas { running, target, min, max } = replicas;
        if running == 0 {
            let first = self.ray.upscaling_factor.ceil() as u32;
            return if ongoing > 0.0 { first.max(target) } else { target };
        }
        let wanted = self.scaled(ongoing, running).clamp(i64::from(min), i64::from(max));
        self.after_delay(wanted as u32, target)
    }

    /// The replicas wanted, as far as the factors go. The order of operations is that of the
    /// original: it rounds up.
    fn scaled(&self, ongoing: f64, running: u32) -> i64 {
        let now = f64::from(running);
        let ratio = ongoing / (self.ray.target_ongoing_requests * now);
        let wanted = now * ratio;
        let difference = wanted - now;
        let factor =
            if difference > 0.0 { self.ray.upscaling_factor } else { self.ray.downscaling_factor };
        let scaled = (now + factor * difference).ceil() as i64;
        let is_stuck = wanted.ceil() < now && scaled == i64::from(running);
        scaled - i64::from(is_stuck)
    }

    fn after_delay(&mut self, wanted: u32, target: u32) -> u32 {
        if wanted == target {
            self.counter = 0;
            return target;
        }
        let sign = if wanted > target { 1 } else { -1 };
        self.counter = if self.counter * sign < 0 { sign } else { self.counter + sign };
        let (delay, wanted) = if sign > 0 {
            (self.ray.upscale_delay, wanted)
        } else if target == 1 {
            (self.ray.downscale_to_zero_delay.unwrap_or(self.ray.downscale_delay), wanted)
        } else {
            (self.ray.downscale_delay, wanted.max(1))
        };
        let periods = delay.as_ps() / self.interval.as_ps();
        if self.counter.unsigned_abs() <= periods {
            return target;
        }
        self.counter = 0;
        wanted
    }
}

impl Controller for RayServe {
    fn pools(&self) -> Vec<u32> {
        vec![self.pool]
    }

    fn looks_at(&self) -> Vec<(Signal, Span)> {
        vec![(Signal::InFlight, self.look_back_period)]
    }

    fn start(&self, interval: Span) -> Box<dyn Autoscaler> {
        let decider = Decider { ray: self.clone(), interval, counter: 0 };
        Box::new(RayLoop { decider, pushed: None, next_push: SimTime::ZERO })
    }
}

struct RayLoop {
    decider: Decider,
    /// Ongoing requests as pushed last.
    pushed: Option<f64>,
    next_push: SimTime,
}

impl Autoscaler for RayLoop {
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>) {
        let RayServe { pool, look_back_period, aggregation, .. } = self.decider.ray;
        let view = &fleet.pools[pool as usize];
        if now >= self.next_push {
            let signal = Signal::InFlight;
            self.pushed = fleet.signals.over(signal, pool as usize, look_back_period, aggregation);
            while self.next_push <= now {
                self.next_push = self.next_push + self.decider.ray.metrics_interval;
            }
        }
        let Some(ongoing) = self.pushed else { return };
        let (running, target, min, max) = (view.ready, view.desired, view.min, view.max);
        let wanted = self.decider.decide(ongoing, Replicas { running, target, min, max });
        let target = self.decider.ray.target_ongoing_requests;
        let reason =
            Reason::Recommended { signal: Signal::InFlight, value: ongoing, target, wanted };
        towards(wanted, pool, view, reason, orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decider(change: impl Fn(&mut RayServe)) -> Decider {
        let mut ray = RayServe::new(0);
        change(&mut ray);
        Decider { ray, interval: Span::from_us(100_000), counter: 0 }
    }

    fn replicas(running: u32, target: u32) -> Replicas {
        Replicas { running, target, min: 0, max: 20 }
    }

    #[test]
    fn replicas_are_ongoing_requests_over_the_target_by_the_factors() {
        for (ongoing, running, up, down, expected) in [
            (20.0, 3, 1.0, 1.0, 10),
            (21.0, 3, 1.0, 1.0, 11),
            (20.0, 2, 0.5, 1.0, 6),
            (4.0, 10, 1.0, 1.0, 2),
            (4.0, 10, 1.0, 0.5, 6),
            (10.0, 6, 1.0, 0.5, 5),
            (0.0, 1, 1.0, 0.3, 0),
        ] {
            let decider = decider(|ray| {
                (ray.upscaling_factor, ray.downscaling_factor) = (up, down);
            });
            assert_eq!(decider.scaled(ongoing, running), expected, "{ongoing} on {running}");
        }
    }

    #[test]
    fn a_delay_of_30_s_is_over_at_the_301st_decision_in_a_row() {
        let mut decider = decider(|_| {});
        let mut decide = |ongoing| decider.decide(ongoing, replicas(2, 2));
        assert!((0..300).all(|_| decide(20.0) == 2));
        assert_eq!(decide(20.0), 10);
        assert!((0..300).all(|_| decide(20.0) == 2), "it counts anew");
        assert_eq!(decide(4.0), 2, "one that wants no change");
        assert!((0..300).all(|_| decide(20.0) == 2));
        assert_eq!(decide(2.0), 2, "or the other way");
        assert!((0..300).all(|_| decide(20.0) == 2));
        assert_eq!(decide(20.0), 10);
    }

    #[test]
    fn from_zero_there_is_no_delay() {
        let mut decider = decider(|ray| ray.upscaling_factor = 2.5);
        assert_eq!(decider.decide(0.0, replicas(0, 0)), 0);
        assert_eq!(decider.decide(1.0, replicas(0, 0)), 3);
        assert_eq!(decider.decide(1.0, replicas(0, 7)), 7, "they are on their way");
    }

    #[test]
    fn the_last_one_goes_by_itself_after_a_delay_of_its_own() {
        let mut decider = decider(|ray| {
            ray.downscale_delay = Span::from_us(1_000_000);
            ray.downscale_to_zero_delay = Some(Span::from_us(2_000_000));
        });
        assert!((0..10).all(|_| decider.decide(0.0, replicas(3, 3)) == 3));
        assert_eq!(decider.decide(0.0, replicas(3, 3)), 1, "not 0 from 3");
        assert!((0..20).all(|_| decider.decide(0.0, replicas(1, 1)) == 1));
        assert_eq!(decider.decide(0.0, replicas(1, 1)), 0);
    }
}
