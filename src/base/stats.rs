//! Means, quantiles and intervals.
