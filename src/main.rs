//! The command line of `blis-opt`; see [`blis_opt::cli`].

fn main() {}
