//! Samplers and the workload generator against what they promise.
