//! The command `blis-opt`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    blis_opt::cli::main()
}
