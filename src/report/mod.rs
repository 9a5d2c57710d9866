//! What was learned: summary, tables, CSV and JSON.
