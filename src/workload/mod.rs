//! Who arrives, when, wanting what.

pub mod trace;

pub use trace::{Chain, ClientInfo, NO_CHAIN, Trace};
