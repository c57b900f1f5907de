//! `stampede detach`: the operator declares that a log no longer belongs to a database. It changes only
//! the control file, and first says what that means.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use stampede_persist::disk::real::RealDisk;
use stampede_persist::log::detach::{detach, kept_for};

use super::failure::Failure;

const AFTER_HELP: &str = "\
A log that belongs to a database keeps every fact until the database holds it, even while the engine
runs without a database; when the log's disk budget is used up, selling stops. A detached log deletes
facts as soon as a snapshot covers them. Orders, stock and limits in the log stay as they are.

Detach when the database is lost, or when the log is to use another one. The same database can be
attached again with `serve --postgres URL` while the log still holds what the database lacks; after
that, and for any other database, run `stampede export --from-snapshot DIR --postgres URL` first.

The engine must not be running.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct DetachArgs {
    /// The data directory
    dir: PathBuf,
    /// Detach; without this flag only say what would be done
    #[arg(long)]
    yes: bool,
}

/// Detaches, or says what detaching would mean.
pub(super) fn run(args: &DetachArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let place = args.dir.display();
    let told = |error: stampede_persist::log::detach::DetachError| Failure::Failed(error.to_string());
    let kept = if args.yes { detach(&RealDisk, &args.dir) } else { kept_for(&RealDisk, &args.dir) };
    let Some(kept) = kept.map_err(told)? else {
        writeln!(out, "the log in {place} belongs to no database; nothing was changed")?;
        return Ok(ExitCode::SUCCESS);
    };
    if args.yes {
        writeln!(
            out,
            "the log in {place} no longer keeps facts for {kept}; facts that a snapshot covers may be deleted"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!(
        "the log in {place} keeps its facts for {kept}; a detached log may delete facts that the database \
         lacks, and then only `stampede export --from-snapshot` can bring them there. Nothing was \
         changed; add --yes to detach"
    )))
}
