//! All integration tests, in one binary so that linking happens once.

mod bad_input;
mod findings;
mod golden;
mod samplers;
