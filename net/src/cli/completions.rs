//! `stampede completions`: a completion script for a shell.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// For which shell; bash: `stampede completions bash > /etc/bash_completion.d/stampede`
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(
    args: &CompletionsArgs,
    mut command: Command,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "stampede", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
