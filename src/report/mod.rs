//! What was learned: summaries, tables, CSV and JSON.
//!
//! Everything here is a pure function from outcomes or a journal to text; only `cli` writes it
//! anywhere.

pub mod certificate;
pub mod comparison;
mod cost;
pub mod derived;
pub mod estimate;
mod events;
mod fleet;
mod fleet_json;
mod frontier;
mod gateway;
pub mod number;
mod picture;
mod plan;
mod policy;
mod requests;
pub mod run;
mod run_json;
#[cfg(test)]
mod run_tests;
pub mod study;
mod study_json;
mod summary;
pub mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod trials;
mod warnings;

pub use comparison::Comparison;
pub use derived::DerivedFile;
pub use plan::plan_text;
pub use requests::requests_csv;
pub use run::RunReport;
pub use study::StudyReport;
