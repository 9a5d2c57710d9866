//! Decisions over views: admission, routers and scorers, queue order.

pub mod admission;
pub mod bundle;
<<<<<<< HEAD
pub mod prefix_index;
pub mod queue;
pub mod router;
pub mod view;
=======
mod pools;
mod read;
>>>>>>> config

pub use bundle::{
    Admission, Batching, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind, Signals,
};
pub use read::read_bundle;
