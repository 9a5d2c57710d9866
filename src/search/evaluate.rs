//! The seam between a search and what measures candidates.
//!
//! Local threads stand behind it first; a distributed engine can serve it with the same messages,
//! so both sides are plain data.

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::metric::Figures;

/// One simulation to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Under which policy; canonical.
    pub candidate: Candidate,
    /// Under which realisation of the workload.
    pub seed: u64,
}

/// What one simulation told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The realisation of the workload.
    pub seed: u64,
    /// Whether the queue stopped growing; false where it failed or was stopped.
    pub stable: bool,
    /// Why there is no policy to simulate, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Why it was stopped, where it was: no run beside it makes its candidate feasible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Everything measured; empty where it failed. Of a run that was stopped the objective, which
    /// is exact, and the figure that stopped it, at the limit that it would have been beyond.
    pub figures: Figures,
}

/// Where results go: the job's index in its batch, and its run. Called once per job, from any
/// thread, in any order.
pub type Sink<'a> = &'a (dyn Fn(usize, Run) + Sync);

/// Whether to begin no further job.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Asks an evaluator what it can tell without simulating.
#[derive(Clone, Copy)]
pub struct Foresight<'a>(Option<&'a dyn Evaluator>);

impl<'a> Foresight<'a> {
    /// What `evaluator` can tell.
    pub fn from(evaluator: &'a dyn Evaluator) -> Self {
        Self(Some(evaluator))
    }

    /// Nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// [`Evaluator::known_objective`].
    pub fn objective(&self, candidate: &Candidate) -> Option<f64> {
        self.0?.known_objective(candidate)
    }

    /// [`Evaluator::hopeless`].
    pub fn hopeless(&self, candidate: &Candidate) -> Option<String> {
        self.0?.hopeless(candidate)
    }
}

impl std::fmt::Debug for Foresight<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Foresight").field(&self.0.map(Evaluator::version)).finish()
    }
}

/// Measures candidates.
pub trait Evaluator: Sync {
    /// A hash of all that results depend on besides the job: simulator, defaults, template,
    /// workload, run length. Results of evaluators with different versions are never mixed.
    fn version(&self) -> u64;

    /// Does `jobs`, beginning them in order, and tells each result once. A result depends on its
    /// job and the version only. Jobs that have not begun when `stop` says so are left out.
    fn evaluate(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>);

    /// The same on seeds of the search, where a run may be stopped ([`Run::stopped`]).
    fn screen(&self, jobs: &[Job], stop: Stop<'_>, done: Sink<'_>) {
        self.evaluate(jobs, stop, done);
    }

    /// How many requests the runs under `seed` have, of all scenarios; 0 where that is not known.
    fn requests(&self, _seed: u64) -> u64 {
        0
    }

    /// The exact objective of `candidate`, in its own unit, where it does not depend on the run.
    fn known_objective(&self, _candidate: &Candidate) -> Option<f64> {
        None
    }

    /// Why no run of `candidate` can keep the promises, where that is certain.
    fn hopeless(&self, _candidate: &Candidate) -> Option<String> {
        None
    }
}

impl Run {
    /// A run that was measured to its end.
    pub fn new(seed: u64, stable: bool, figures: Figures) -> Self {
        Self { seed, stable, failed: None, stopped: None, figures }
    }

    /// A run of a candidate that gives no policy.
    pub fn failed(seed: u64, reason: String) -> Self {
        Self { failed: Some(reason), ..Self::new(seed, false, Figures::default()) }
    }
}
