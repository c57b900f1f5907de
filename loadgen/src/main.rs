//! The binary `stampede-loadgen`: hands the command line to the library.
//!
//! Nothing is decided here. Next: `stampede_loadgen::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stampede_loadgen::cli::main()
}
