//! What an operator can set: read from four places, checked once, then fixed.
//!
//! Raw settings ([`raw`]: texts and where each came from) and checked settings
//! ([`Settings`]) are two types, so that no other part of the program can meet
//! a value that nobody looked at. Reading and checking are pure: the
//! environment, the file's text and the machine's cores come in as [`Inputs`].
//! Nothing here opens a socket, and nothing prints a secret.
//!
//! Next: [`keys`] for the table of every setting, [`forms`] for how values are written,
//! [`check`] for the rules between them, [`secrets`] for the two secrets that are made at the first start.

pub mod check;
pub mod forms;
mod inputs;
pub mod keys;
pub mod raw;
mod raw_value;
pub mod secrets;
pub mod show;
mod table;
pub mod units;
mod values;

pub use inputs::{Inputs, Loaded};
pub use keys::{Key, Settings};
pub use raw::{SettingsError, Source};
pub use values::{Ack, IdentityMode, KeyText, PostgresSettings, Secret, TransportChoice};

/// Reads all places and checks every value: flag before environment before file
/// before (with `--demo`) the demo's preset before default.
///
/// # Errors
/// The first value that cannot be: the text names its key, where it came from, and
/// what is allowed.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, SettingsError> {
    let mut raw = raw::Raw::defaults(inputs.demo);
    if let Some((path, text)) = &inputs.file {
        raw.read_file(path, text)?;
    }
    raw.read_env(&inputs.env, inputs.read)?;
    raw.read_flags(&inputs.flags);
    check::check(raw, inputs)
}

#[cfg(test)]
mod tests;
