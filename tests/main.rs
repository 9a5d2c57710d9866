//! All integration tests, in one binary so that linking happens once.

mod bad_input;
mod golden;
mod moving;
mod samplers;
mod study;
mod traces;
