//! All integration tests, in one binary so that linking happens once.

mod bad_input;
mod golden;
mod laws;
mod samplers;
mod study;
mod swarm;
mod twins;
