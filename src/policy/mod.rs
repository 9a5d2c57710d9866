//! Decisions over views: admission, routers and scorers, queue order, autoscalers.

pub mod admission;
pub mod autoscale;
pub mod bundle;
pub mod degradation;
pub mod flow_control;
pub mod gateway;
pub mod health;
pub mod load;
mod pools;
pub mod prefix_index;
pub mod queue;
mod read;
mod read_routing;
pub mod router;
pub mod routing;
pub mod signals;
mod start_up;
pub mod view;

pub use admission::Admission;
pub use bundle::{Batching, PolicyBundle, Pool, Priority, Scheduler, Signals, StartUp};
pub use gateway::Gateway;
pub use read::read_bundle;
pub use read_routing::routing_names;
pub use routing::{F5, F5Mode, Picker, Routing, ScorerKind, Weights};
