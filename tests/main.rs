//! One binary for all integration tests, so that linking happens once.

mod bad_input;
mod cli;
mod controllers;
mod extremes;
mod findings;
mod fleet_laws;
mod fleets;
mod golden;
mod laws;
mod moving;
mod redundancy;
mod samplers;
mod scenarios;
mod search_spaces;
mod study;
mod swarm;
mod theory;
mod tidy;
mod traces;
mod twins;
mod winners;
