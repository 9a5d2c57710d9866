//! Who changes the number of instances: autoscalers over views of the fleet.
//!
//! A policy is asked every [`Autoscaling::interval`] and answers with orders; the fleet carries
//! out what minimum, maximum, cooldowns and capacity allow.

mod aibrix;
mod dynamo;
mod hpa;
mod keda;
mod knative;
mod oracle;
mod ray_serve;
mod read;
mod scheduled;
mod skyserve;
mod thresholds;
mod wva;

use std::cmp::Ordering;

use crate::base::{InstanceId, SimTime, Span};
use crate::policy::signals::{Quantiles, Samples, Signal};

pub use aibrix::{Aibrix, Strategy};
pub use dynamo::{DownCheck, Dynamo, Method, Noise, Sweep, Target};
pub use hpa::{Behavior, Hpa, Metric, MetricType, RateLimit, Rates, Readiness, Select, Unit};
pub use keda::{Fallback, FallbackBehavior, Keda, Trigger};
pub use knative::Knative;
pub use oracle::Foresight;
pub use ray_serve::RayServe;
pub use read::policy_names;
pub(super) use read::read_autoscaling;
pub use skyserve::SkyServe;
pub use wva::{
    Analyzer, Calibration, QueueingModel, Saturation, Service, Transition, Variant, Wva,
};

/// How a fleet scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaling {
    /// What decides.
    pub policy: ScalingPolicy,
    /// Between two decisions; above zero. The first is taken one interval after the start.
    pub interval: Span,
    /// Between two scrapes of the signals; above zero. The first is at the start. At one instant
    /// a scrape comes before a decision.
    pub scrape_interval: Span,
    /// How quantiles of latencies are made.
    pub quantiles: Quantiles,
    /// What becomes of requests on an instance that is to go.
    pub drain: Drain,
    /// Least time from an order to launch to the next of the same pool.
    pub cooldown_up: Span,
    /// Least time from any order of a pool to one to drain.
    pub cooldown_down: Span,
    /// From when cooldowns count.
    pub cooldown_from: CooldownFrom,
    /// Whether no more are launched in a pool while some of it are starting.
    pub pending_guard: bool,
}

/// What becomes of requests on an instance that is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// All are finished there.
    #[default]
    Finish,
    /// Those in the batch are finished there, the others go back to the router.
    HandBack,
}

/// From when a cooldown counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CooldownFrom {
    /// The order.
    #[default]
    Decision,
    /// The moment when the last launched instance is ready; until then no order is taken.
    Ready,
}

/// What decides how many instances there are.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalingPolicy {
    /// So many at this time of day.
    Scheduled(Schedule),
    /// Rules on signals that must hold for some time.
    Thresholds(Thresholds),
    /// Knows the future: a yardstick.
    Oracle(Oracle),
    /// The Horizontal Pod Autoscaler of Kubernetes, version 2.
    Hpa(Hpa),
    /// KEDA: to zero and back, and an HPA in between.
    Keda(Keda),
    /// The Knative Pod Autoscaler.
    Knative(Knative),
    /// The autoscaler of Ray Serve.
    RayServe(RayServe),
    /// The request rate autoscaler of SkyServe.
    SkyServe(SkyServe),
    /// The KPA or APA of AIBrix.
    Aibrix(Aibrix),
    /// The Dynamo planner.
    Dynamo(Dynamo),
    /// The Workload Variant Autoscaler of llm-d.
    Wva(Wva),
}

/// Instances by time of day.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The pool, by position.
    pub pool: u32,
    /// After this long it begins again; above zero.
    pub period: Span,
    /// From when on, how many; in order, the first at zero, all within the period.
    pub entries: Vec<(Span, u32)>,
}

/// Rules on signals that must hold for some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Rules that add instances.
    pub up: Vec<Rule>,
    /// Rules that remove instances; they count only where no rule adds any in that pool.
    pub down: Vec<Rule>,
    /// What several rules that hold at once amount to.
    pub combine: Combine,
}

/// What several rules that hold at once amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// The largest of them.
    #[default]
    Max,
    /// Their sum.
    Sum,
}

/// A rule: a signal beyond a limit for some time changes the number of instances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The pool, by position.
    pub pool: u32,
    /// What it looks at.
    pub signal: Signal,
    /// What the signal must exceed (up) or stay below (down).
    pub limit: f64,
    /// For how long: it must hold at every decision from some time at least this long ago.
    pub lasting: Span,
    /// Over which the signal is taken, where it is a rate or a quantile.
    pub window: Span,
    /// Instances added or removed; at least 1.
    pub step: u32,
}

/// What the future needs, launched early enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Oracle {
    /// The pool, by position.
    pub pool: u32,
    /// Requests per second that one instance carries within its promises; above 0.
    pub requests_per_instance_s: f64,
    /// How far it looks ahead: the start-up of an instance, and some more.
    pub lead: Span,
}

/// The instances of a pool as an autoscaler sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolView {
    /// Those that should be there.
    pub desired: u32,
    /// Launched and not ready yet.
    pub starting: u32,
    /// Ready to serve, as far as anybody knows.
    pub ready: u32,
    /// On their way out.
    pub draining: u32,
    /// Known to be down, restarting or being repaired.
    pub down: u32,
    /// No order goes below this.
    pub min: u32,
    /// No order goes above this.
    pub max: u32,
}

/// The fleet as an autoscaler sees it.
#[derive(Clone, Copy, Debug)]
pub struct FleetView<'a> {
    /// By pool.
    pub pools: &'a [PoolView],
    /// Signals as of the last scrape.
    pub signals: &'a Samples,
}

/// What an autoscaler wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleOrder {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Launch so many in a pool.
    Launch {
        /// The pool, by position.
        pool: u32,
        /// How many; at least 1.
        count: u32,
    },
    /// Remove so many of a pool: those that are starting first, then the ready ones with the
    /// fewest requests, of equals the highest index.
    Shrink {
        /// The pool, by position.
        pool: u32,
        /// How many; at least 1.
        count: u32,
    },
    /// Remove this one.
    Drain(InstanceId),
}

/// Why an order was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// The schedule says so many.
    Schedule(u32),
    /// A signal is beyond its limit.
    Signal {
        /// Which.
        signal: Signal,
        /// Its value.
        value: f64,
        /// Its limit.
        limit: f64,
        /// For how long it had to be.
        lasting: Span,
    },
    /// So many will be needed.
    Foresight(u32),
    /// A controller computed it from a signal and its target.
    Recommended {
        /// Which signal.
        signal: Signal,
        /// Its value.
        value: f64,
        /// What it should be, in total or per instance, as the controller has it.
        target: f64,
        /// How many instances the controller wants.
        wanted: u32,
    },
    /// A controller computed it from an estimate of its own.
    Estimated {
        /// What it estimated.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What that is held against.
        limit: f64,
        /// How many instances the controller wants.
        wanted: u32,
    },
    /// The same while the controller panics, which Knative calls it.
    Panicked {
        /// Which signal.
        signal: Signal,
        /// The higher of its values over both windows.
        value: f64,
        /// What it should be per instance.
        target: f64,
        /// How many instances the controller wants.
        wanted: u32,
    },
}

/// Decides about the number of instances.
/// Must depend only on its arguments and its own state.
pub trait Autoscaler {
    /// Appends to `orders` what should happen at `now`; calls come in order of time.
    fn plan(&mut self, now: SimTime, fleet: &FleetView, orders: &mut Vec<ScaleOrder>);
}

/// A controller of the real world, as its users set it.
trait Controller {
    /// The pools, by position, each once.
    fn pools(&self) -> Vec<u32>;
    /// The signals it looks at, each with its window.
    fn looks_at(&self) -> Vec<(Signal, Span)>;
    /// Whether it wants to know each engine.
    fn reads_engines(&self) -> bool {
        false
    }
    /// Whether it looks at single instances.
    fn looks_at_instances(&self) -> bool {
        false
    }
    /// One that begins its work.
    fn start(&self, interval: Span) -> Box<dyn Autoscaler>;
}

/// The autoscaler that a bundle names. `foresight` is what an oracle knows.
pub fn autoscaler(scaling: &Autoscaling, foresight: Foresight) -> Box<dyn Autoscaler> {
    match &scaling.policy {
        ScalingPolicy::Scheduled(schedule) => Box::new(scheduled::Scheduled::new(schedule)),
        ScalingPolicy::Thresholds(rules) => Box::new(thresholds::Rules::new(rules)),
        ScalingPolicy::Oracle(oracle) => Box::new(oracle::Clairvoyant::new(*oracle, foresight)),
        other => {
            let controller = other.controller().expect("all others are controllers");
            controller.start(scaling.interval)
        }
    }
}

impl ScalingPolicy {
    /// The controller, where it is one of the real world.
    fn controller(&self) -> Option<&dyn Controller> {
        match self {
            Self::Scheduled(_) | Self::Thresholds(_) | Self::Oracle(_) => None,
            Self::Hpa(hpa) => Some(hpa),
            Self::Keda(keda) => Some(keda),
            Self::Knative(knative) => Some(knative),
            Self::RayServe(ray) => Some(ray),
            Self::SkyServe(sky) => Some(sky),
            Self::Aibrix(aibrix) => Some(aibrix),
            Self::Dynamo(dynamo) => Some(dynamo),
            Self::Wva(wva) => Some(wva),
        }
    }

    /// The pools it may change, each once.
    fn pools(&self) -> Vec<u32> {
        let mut pools: Vec<u32> = match self {
            Self::Scheduled(schedule) => vec![schedule.pool],
            Self::Oracle(oracle) => vec![oracle.pool],
            Self::Thresholds(rules) => {
                rules.up.iter().chain(&rules.down).map(|rule| rule.pool).collect()
            }
            _ => self.controller().map_or_else(Vec::new, Controller::pools),
        };
        pools.sort_unstable();
        pools.dedup();
        pools
    }

    /// The signals it looks at, each with its window.
    fn looks_at(&self) -> Vec<(Signal, Span)> {
        if let Self::Thresholds(rules) = self {
            let rules = rules.up.iter().chain(&rules.down);
            return rules.map(|rule| (rule.signal, rule.window)).collect();
        }
        self.controller().map_or_else(Vec::new, Controller::looks_at)
    }
}

impl Autoscaling {
    /// The longest window that the policy looks at.
    pub fn longest_window(&self) -> Span {
        let windows = self.policy.looks_at().into_iter().map(|(_, window)| window);
        windows.max().unwrap_or(Span::ZERO)
    }

    /// The pools that the policy may change, by position, each once.
    pub fn pools(&self) -> Vec<u32> {
        self.policy.pools()
    }

    /// Whether the policy looks at latencies or lengths of single requests.
    pub fn watches_requests(&self) -> bool {
        self.reads_engines()
            || self.policy.looks_at().iter().any(|(signal, _)| signal.is_of_requests())
    }

    /// Whether the policy looks at single instances.
    pub fn watches_instances(&self) -> bool {
        self.policy.controller().is_some_and(Controller::looks_at_instances)
    }

    /// Whether the policy wants to know each instance.
    pub fn reads_engines(&self) -> bool {
        self.policy.controller().is_some_and(Controller::reads_engines)
    }

    /// Whether the policy is an oracle, which has to be told the future.
    pub fn needs_foresight(&self) -> bool {
        matches!(self.policy, ScalingPolicy::Oracle(_))
    }
}

/// The order that brings a pool from `desired` to `wanted` instances, kept within its bounds.
fn towards(wanted: u32, pool: u32, view: &PoolView, reason: Reason, orders: &mut Vec<ScaleOrder>) {
    let wanted = wanted.clamp(view.min, view.max);
    let action = match wanted.cmp(&view.desired) {
        Ordering::Greater => Action::Launch { pool, count: wanted - view.desired },
        Ordering::Less => Action::Shrink { pool, count: view.desired - wanted },
        Ordering::Equal => return,
    };
    orders.push(ScaleOrder { action, reason });
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Schedule(wanted) => write!(formatter, "the schedule says {wanted}"),
            Self::Foresight(wanted) => write!(formatter, "{wanted} will be needed"),
            Self::Recommended { signal, value, target, wanted } => {
                let name = signal.name();
                write!(formatter, "{name} {value:.3} for a target of {target}: {wanted} wanted")
            }
            Self::Estimated { what, value, limit, wanted } => {
                write!(formatter, "{what} {value:.3} against {limit:.3}: {wanted} wanted")
            }
            Self::Panicked { signal, value, target, wanted } => {
                let name = signal.name();
                write!(formatter, "panic: {name} {value:.3} for a target of {target}: ")?;
                write!(formatter, "{wanted} wanted")
            }
            Self::Signal { signal, value, limit, lasting } => {
                let sign = if value > limit { '>' } else { '<' };
                let name = signal.name();
                write!(formatter, "{name} {value:.3} {sign} {limit} for {}s", lasting.as_secs())
            }
        }
    }
}
