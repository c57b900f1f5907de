//! `stampede version`: of the program, of its formats, and what the kernel offers.

use std::io::Write;
use std::process::ExitCode;

use stampede_persist::export::SCHEMA_VERSION;
use stampede_persist::log::block::FORMAT_VERSION;

use super::Failure;
use super::args::defaults;
use crate::doctor::Uring;
use crate::doctor::probe::probe;

/// Prints it; never fails because of the machine.
pub(super) fn run(out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let machine = probe(&defaults()?.settings);
    let uring = if machine.uring == Uring::Works { "works" } else { "cannot be used (see stampede doctor)" };
    writeln!(out, "stampede {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "http api     v1")?;
    writeln!(out, "log format   {FORMAT_VERSION}")?;
    writeln!(out, "tables       {SCHEMA_VERSION}")?;
    writeln!(out, "kernel       Linux {}, {} processors", machine.kernel, machine.cpus.len())?;
    writeln!(out, "io_uring     {uring}")?;
    Ok(ExitCode::SUCCESS)
}
