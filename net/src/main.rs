//! The binary `stampede`: the allocator, and the server handed to the command line.
//!
//! See [`stampede_net::cli`] for the commands.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stampede_net::cli::run(stampede_net::server::serve)
}
