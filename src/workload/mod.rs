//! Who arrives, when, wanting what.
//!
//! A [`WorkloadSpec`] says it; [`generate`] draws one realisation, named by a seed. Every client
//! has its own random streams, one for its arrivals, one for its prompts, one for its answers:
//! changing one client, or one of its distributions, moves nothing else.

pub mod arrivals;
mod burst;
mod cohort;
pub mod files;
pub mod generator;
mod inference_perf;
#[cfg(test)]
mod laws;
pub mod lengths;
pub mod offered;
pub mod profile;
mod read;
mod read_client;
mod read_lengths;
mod read_profile;
mod read_short;
mod read_slo;
#[cfg(test)]
mod read_tests;
pub mod replay;
pub mod spec;
mod starts;
mod steady;
pub mod trace;
pub mod user;

pub use arrivals::Arrivals;
pub use generator::{Generator, Limits, generate};
pub use lengths::{Binned, Clamp, Empirical, LENGTH_MAX, Lengths};
pub use offered::Offered;
pub use profile::{Burst, Diurnal, Point, Profile, Spike, Surge};
pub use replay::Replay;
pub use spec::{
    ClientSpec, ClosedLoop, FileDigest, Growth, Pacing, Part, Prefix, Prompt, RateMode, Sessions,
    Window, WindowOwn, WorkloadSpec,
};
pub use trace::{Chain, ClientInfo, NO_CHAIN, Request, Targets, Trace};
pub use user::User;
