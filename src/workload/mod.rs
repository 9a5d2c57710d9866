//! Who arrives, when, wanting what.
//!
//! A [`WorkloadSpec`] says it; [`generate`] draws one realisation, named by a seed. Every client
//! has its own random streams, one for its arrivals, one for its prompts, one for its answers:
//! changing one client, or one of its distributions, moves nothing else.

pub mod arrivals;
pub mod generator;
mod inference_perf;
#[cfg(test)]
mod laws;
pub mod lengths;
mod read;
mod read_lengths;
mod read_short;
#[cfg(test)]
mod read_tests;
pub mod spec;
pub mod trace;

pub use arrivals::Arrivals;
pub use generator::{Generator, Limits, generate};
pub use lengths::{Clamp, Empirical, LENGTH_MAX, Lengths};
pub use spec::{
    ClientSpec, Growth, Offered, Pacing, Part, Prefix, Prompt, RateMode, Sessions, Window,
    WorkloadSpec,
};
pub use trace::{Chain, ClientInfo, NO_CHAIN, Request, Trace};
