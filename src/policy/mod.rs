//! Decisions over views: admission, routers and scorers, queue order.

pub mod admission;
pub mod bundle;
pub mod load;
mod pools;
pub mod prefix_index;
pub mod queue;
mod read;
pub mod router;
pub mod view;

pub use bundle::{
    Admission, Batching, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind, Signals,
};
pub use read::read_bundle;
