//! How far a search has come, on stderr.
