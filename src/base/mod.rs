//! Words everyone shares: time, identifiers, seeded streams, statistics.

pub mod batch_means;
pub mod bins;
pub mod delay;
pub mod hash;
pub mod histogram;
pub mod id;
pub mod normal;
pub mod rng;
pub mod stats;
pub mod time;
pub mod tolerance;
mod ziggurat;

pub use batch_means::{SteadyMean, batch_means};
pub use bins::Bins;
pub use delay::Delay;
pub use hash::Hash128;
pub use histogram::Distribution;
pub use id::{ClientId, InstanceId, RequestId};
pub use rng::{Rng, Stream};
pub use time::{SimTime, Span};
