//! `blis-opt` finds the cheapest way to serve an LLM workload within its latency promises.
//!
//! # Rooms
//!
//! ```text
//! base/       words everyone shares: SimTime and Span, ids, seeded streams, histogram, statistics
//! config/     text to values with good manners: file, line, column, all problems at once
//! workload/   who arrives, when, wanting what: arrival processes, lengths, sessions, prefixes
//! latency/    how long a step takes
//! policy/     decisions over views: admission, routers and scorers, queue order, autoscalers
//! scenario/   what befalls a fleet: faults, recovery, clients that try again
//! sim/        the machine: cluster loop, instance, decode run, KV blocks, fleet, outcome
//! search/     what to try next: space, candidate, objective, proposers, study, journal, frontier
//! report/     what was learned: summary, tables, CSV and JSON
//! cli/        the only room that prints, reads the command line, or exits
//! ```
//!
//! Arrows go one way, and `tests/tidy.rs` keeps them:
//!
//! ```text
//! main -> cli -> report -> search -> sim -> { policy, scenario, latency, workload } -> config
//!      -> base
//! ```
//!
//! # Invariants
//!
//! - The simulator is a pure function, [`sim::simulate`]: no I/O, no wall clock, no logging, no
//!   error. Bad input is refused at the edge.
//! - Same inputs, same bytes, on any number of threads. Nothing depends on hash order or on which
//!   worker finished first; candidates are proposed in batches whose size belongs to the study.
//! - A policy sees views only, and no view holds a request's true answer length.
//! - A seed names one realisation of the workload and of the faults, the same for every candidate
//!   (common random numbers): differences between candidates are paired.
//! - The journal of a study is the only truth; every table and file can be deleted and derived
//!   again.
//! - stdout is data, stderr is talk.
//!
//! # Data flow
//!
//! ```text
//! search-spaces/x.yaml -check-> SearchSpace -propose-> Candidate -onto template-> PolicyBundle
//!                                    ^                                                  |
//! workload -generate(seed)-> Trace (shared) ---------------> simulate <-----------------+
//!                                                               v
//!      results/x/journal <-tell- Study <- Score <-objective- Outcome (one per seed)
//!             +--> report --> best-policy.yaml, trials.csv, pareto.csv, pareto.json
//! ```

// Tests compare figures that must be equal to the last bit.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod base;
pub mod cli;
pub mod config;
pub mod latency;
pub mod policy;
pub mod report;
pub mod scenario;
pub mod search;
pub mod sim;
pub mod workload;
