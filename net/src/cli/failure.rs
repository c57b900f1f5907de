//! Why a command failed, and its exit code.

use std::io;

use crate::settings::SettingsError;

pub(super) const EXIT_FAILED: u8 = 1;
pub(super) const EXIT_USAGE: u8 = 2;
pub(super) const EXIT_NOT_COMPARED: u8 = 2;
pub(super) const EXIT_SETTINGS: u8 = 78;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is invalid.
    Usage(String),
    /// The settings are invalid.
    Settings(String),
    /// The command failed.
    Failed(String),
    /// Nothing could be compared.
    NotCompared(String),
    /// The result could not be written.
    Output(io::Error),
}

impl Failure {
    pub(super) fn settings(error: &SettingsError) -> Self {
        Self::Settings(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<anyhow::Error> for Failure {
    /// The outermost text is the problem, what is below it the cause.
    fn from(error: anyhow::Error) -> Self {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let problem = error.to_string();
        Self::Failed(if causes.is_empty() { problem } else { format!("{problem} ({})", causes.join(": ")) })
    }
}
