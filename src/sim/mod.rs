//! The machine: cluster loop, instance, decode run, KV blocks, outcome.
//!
//! # Life of a request
//!
//! It arrives (a slot holds it from now on), is admitted or rejected, is routed, joins the wait
//! queue of its instance after the queueing delay of the latency model, enters a batch, has its
//! prompt computed in one or more chunks, decodes one token a step, and is answered; its slot is
//! used again. A request thrown out of a batch for want of KV blocks waits again.
//!
#![doc = include_str!("fleet.md")]
//!
#![doc = include_str!("admission.md")]
//!
//! # What makes it fast
//!
//! No event objects: arrivals are a sorted column, an instance has one due slot, decode steps of
//! one length are a run in closed form, requests that decode advance together by a step counter,
//! KV blocks that nobody can ask for are counts, and routers ask for what they need.

mod abort;
mod agenda;
mod block_map;
mod cluster;
mod collect;
mod course;
mod engine;
mod fleet;
pub mod fleet_outcome;
mod gateway;
mod health;
mod kv;
mod line;
mod live;
mod moving;
mod observe;
mod order;
mod orders;
pub mod outcome;
pub mod reference;
mod source;
mod stability;
mod step;
mod strikes;
mod timeline;

pub use cluster::{
    Scratch, simulate, simulate_drawn, simulate_drawn_under, simulate_under, simulate_within,
};
pub use fleet_outcome::FleetOutcome;
pub use line::{Crossed, Crossing, Latency, Line, Loss};
pub use outcome::{Outcome, RunOptions};
