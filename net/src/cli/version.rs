//! `stampede version`: versions of the program and its formats, and what the kernel offers.

use std::io::Write;
use std::process::ExitCode;

use stampede_persist::export::SCHEMA_VERSION;
use stampede_persist::log::block::FORMAT_VERSION;

use super::failure::Failure;
use crate::doctor::probe::usable_cpus;
use crate::runtime::Cores;
use crate::settings::TransportChoice;

/// Prints the versions; never fails because of the machine.
pub(super) fn run(out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let cpus = usable_cpus();
    let uring = match Cores::acquire(TransportChoice::Ring, &cpus[..1]) {
        Ok(_) => "works",
        Err(_) => "cannot be used (see stampede doctor)",
    };
    let kernel = rustix::system::uname();
    writeln!(out, "stampede {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "http api     v1")?;
    writeln!(out, "log format   {FORMAT_VERSION}")?;
    writeln!(out, "tables       {SCHEMA_VERSION}")?;
    let release = kernel.release().to_string_lossy();
    writeln!(out, "kernel       Linux {release}, {} processors", cpus.len())?;
    writeln!(out, "io_uring     {uring}")?;
    Ok(ExitCode::SUCCESS)
}
