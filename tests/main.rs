//! One binary for all integration tests, so that linking happens once.

mod autoscaler_contract;
mod bad_input;
mod cli;
mod controllers;
mod evaluate;
mod extremes;
mod findings;
mod fleet_laws;
mod fleets;
mod golden;
mod gpu_utilization;
mod laws;
mod moving;
mod redundancy;
mod router_contract;
mod router_findings;
mod samplers;
mod scenarios;
mod search_bench;
mod search_spaces;
mod study;
mod swarm;
mod theory;
mod tidy;
mod traces;
mod twins;
