//! Decisions over views: admission, routers and scorers, queue order.

pub mod bundle;
mod pools;
mod read;

pub use bundle::{
    Admission, Batching, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind, Signals,
};
pub use read::read_bundle;
