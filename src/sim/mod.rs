//! The machine: cluster loop, instance, decode run, KV blocks, outcome.

pub mod outcome;

pub use outcome::{Outcome, RunOptions};

use crate::policy::PolicyBundle;
use crate::workload::Trace;

/// Buffers that a run needs, reused from run to run by one worker.
#[derive(Debug, Default)]
pub struct Scratch {}

/// Simulates `bundle` under the requests of `trace`: a pure function of its arguments.
pub fn simulate(
    bundle: &PolicyBundle,
    trace: &Trace,
    options: &RunOptions,
    scratch: &mut Scratch,
) -> Outcome {
    let _ = (bundle, trace, options, scratch);
    Outcome::default()
}
