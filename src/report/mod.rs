//! What was learned: summaries, tables, CSV and JSON.
//!
//! Everything here is a pure function from outcomes or a journal to text; only `cli` writes it
//! anywhere.

pub mod cost;
pub mod estimate;
pub mod number;
pub mod run;
pub mod run_json;
pub mod table;

pub use run::RunReport;
