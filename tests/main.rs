//! One binary for all integration tests, so that linking happens once.

mod cli;
mod samplers;
mod tidy;
