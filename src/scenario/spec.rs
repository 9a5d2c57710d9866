//! What a scenario file says, before a seed and a run make [`Conditions`] of it.
//!
//! [`Conditions`]: super::Conditions

use super::conditions::{Conduct, InFlight, Recovery, Retry, Strike};
use crate::base::{Delay, SimTime, Span};

/// The most faults of one run that may be expected.
pub const FAULTS_MAX: f64 = 1e6;

/// A scenario: what befalls a fleet, as a file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// How much it counts beside other scenarios; above 0.
    pub weight: f64,
    /// Whether the fleet's first instances are launched at the start instead of being ready.
    pub cold_start: bool,
    /// More load for a while.
    pub burst: Option<Surge>,
    /// What strikes for certain, in the order of the file.
    pub faults: Vec<Declared>,
    /// Crashes by chance.
    pub crashes: Option<Crashes>,
    /// Spot capacity taken back by chance.
    pub reclaims: Option<Reclaims>,
    /// What follows from a crash.
    pub recovery: Recovery,
    /// How clients bear errors and waiting.
    pub clients: Conduct,
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// So long after the start.
    At(Span),
    /// When most is offered.
    Peak,
    /// After this share of the run, in [0, 1].
    Share(f64),
}

/// More load for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surge {
    /// From when on.
    pub at: Moment,
    /// For how long; above zero.
    pub lasting: Span,
    /// How many times the load; above 0.
    pub factor: f64,
}

/// A fault that strikes for certain.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// When.
    pub at: Moment,
    /// What.
    pub strike: Strike,
}

/// Crashes by chance: every place of the fleet has a clock of its own, which runs whether or not
/// an instance is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Crashes {
    /// Mean time to failure of one GPU in hours, longer than the simulator's clock can tell; the
    /// first of an instance's GPUs to fail takes it down.
    pub mtbf_gpu_hours: f64,
    /// The shape of the Weibull distribution of that time; 1: exponential.
    pub shape: f64,
    /// The share of crashes that end with a repair, in [0, 1]; the others with a restart.
    pub repair_share: f64,
    /// How long a repair takes.
    pub repair: Delay,
    /// What becomes of requests.
    pub in_flight: InFlight,
}

/// Spot capacity taken back by chance, in each zone at times of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Reclaims {
    /// From one to the next.
    pub every: Delay,
    /// The probability of an instance to be taken, in [0, 1].
    pub share: f64,
    /// From the notice to the end.
    pub notice: Span,
    /// For how long there is no spot capacity.
    pub lasting: Delay,
}

/// The run that a scenario is played in. It belongs to a study and not to a candidate: places
/// beyond those that a fleet has are struck in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// When most is offered.
    pub peak: SimTime,
    /// When arrivals end; nothing is drawn beyond it.
    pub end: SimTime,
    /// Places and GPUs per instance of each pool.
    pub pools: Vec<(u32, u32)>,
    /// The zones of all pools, each once.
    pub zones: Vec<String>,
}

impl Default for Scenario {
    /// Nothing goes wrong; clients try again as `scalability-and-reliability.md` has it.
    fn default() -> Self {
        Self {
            weight: 1.0,
            cold_start: false,
            burst: None,
            faults: Vec::new(),
            crashes: None,
            reclaims: None,
            recovery: Recovery::default(),
            clients: Conduct { retry: Some(Retry::STANDARD), timeout: None },
        }
    }
}

impl Moment {
    /// When that is in a run.
    pub fn in_run(self, run: &Setting) -> SimTime {
        match self {
            Self::At(span) => SimTime::ZERO + span,
            Self::Peak => run.peak,
            Self::Share(share) => SimTime::from_secs(run.end.as_secs() * share),
        }
    }
}
