//! Histograms of durations that take runs of equal values.
