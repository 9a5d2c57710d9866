//! What befalls a fleet: faults, what follows from them, and how clients bear it.
//!
//! A [`Scenario`] is read from a file; under a seed it becomes [`Conditions`], in which everything
//! that strikes by chance has its time. Conditions never depend on a candidate's policy, so that
//! the same fault strikes at the same time for every candidate: a crash belongs to a *place* (the
//! k-th place of a pool), whose clock runs whether or not an instance is there, and a strike on
//! an empty place does nothing.

mod chance;
mod conditions;
mod read;
mod spec;

pub use conditions::{Conditions, Conduct, Fault, InFlight, Recovery, Retry, Strike, Victim};
pub use read::{FleetNames, read_scenario};
pub use spec::{Crashes, Declared, FAULTS_MAX, Moment, Reclaims, Scenario, Setting, Surge};
