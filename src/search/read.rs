//! Reads search spaces: everything that is wrong is said at once, with its place.

use serde::{Deserialize, Serialize};

/// What an input file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceRole {
    /// The search space.
    Space,
    /// The template of the policy bundle.
    Template,
    /// The workload.
    Workload,
    /// Coefficients and prices.
    Defaults,
}

/// An input file and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is for.
    pub role: SourceRole,
    /// Its name as given.
    pub file: String,
    /// Its text.
    pub text: String,
}
