//! The binary `stampede-classic`: hands the command line to the library.
//!
//! Nothing is decided here. Next: `stampede_classic::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stampede_classic::cli::main()
}
