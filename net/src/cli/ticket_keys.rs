//! `stampede rotate-ticket-key`: a new key for purchase tickets, beside the one in use.
//!
//! Prints numbers, never a key.

use std::io::Write;
use std::process::ExitCode;

use super::args::SettingsArgs;
use super::failure::Failure;
use crate::settings::secrets;

/// Makes the key, and says from when it is used.
pub(super) fn rotate(args: &SettingsArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let settings = args.load(false)?.settings;
    if !settings.gate.ticket_keys.is_empty() {
        return Err(Failure::Settings(
            "gate.ticket_keys is configured, so no key of the data directory is used. Put a new number:secret before the present one there, and remove the third".to_owned(),
        ));
    }
    let (new, former) = secrets::rotate_ticket_keys(&settings.data_dir)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    write!(out, "ticket key {new} is made; from the next start on it seals")?;
    match former {
        Some(former) => writeln!(out, ", and key {former} still opens the tickets that are out")?,
        None => writeln!(out)?,
    }
    Ok(ExitCode::SUCCESS)
}
