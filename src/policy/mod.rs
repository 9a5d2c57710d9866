//! Decisions over views: admission, routers and scorers, queue order.

pub mod bundle;

pub use bundle::{
    Admission, Batching, PolicyBundle, Pool, Priority, Routing, Scheduler, ScorerKind, Signals,
};
