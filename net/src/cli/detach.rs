//! `stampede detach`: on the operator's word a log belongs to no database any more. It changes
//! the control file alone, and says first what that means.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use stampede_persist::disk::real::RealDisk;
use stampede_persist::log::detach::{detach, kept_for};

use super::failure::Failure;

const AFTER_HELP: &str = "\
A log that has a database keeps every fact until the database holds it, also while it is served
without one; when its disk budget is used up, selling stops. Detached, it keeps facts for nobody:
they go as soon as a snapshot covers them. Orders, stock and limits stay as they are in the log.

Do it when the database is lost for good, or when the log is to have another one. The same database
can be attached again with `serve --postgres URL` as long as the log still holds what it lacks; after
that, and for any other database, run `stampede export --from-snapshot DIR --postgres URL` first.

The engine must not run.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct DetachArgs {
    /// The data directory
    dir: PathBuf,
    /// Do it; without this it only says what would be done
    #[arg(long)]
    yes: bool,
}

/// Detaches, or says what that would mean.
pub(super) fn run(args: &DetachArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let place = args.dir.display();
    let told = |error: stampede_persist::log::detach::DetachError| Failure::Failed(error.to_string());
    let kept = if args.yes { detach(&RealDisk, &args.dir) } else { kept_for(&RealDisk, &args.dir) };
    let Some(kept) = kept.map_err(told)? else {
        writeln!(out, "the log in {place} belongs to no database; nothing was changed")?;
        return Ok(ExitCode::SUCCESS);
    };
    if args.yes {
        writeln!(out, "the log in {place} no longer keeps facts for {kept}; what a snapshot covers may go")?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!(
        "the log in {place} keeps its facts for {kept}; detached, it lets go of facts that the database may \
         lack, and `stampede export --from-snapshot` is then the only way to bring them there. Nothing was \
         changed; to do it, add --yes"
    )))
}
