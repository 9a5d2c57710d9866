//! What to try next: space, candidate, objective, proposers, study, journal, frontier.
