//! What settings are read from, and the result.
//!
//! Nothing in the inputs was checked. Next: [`super::raw`], which reads them.

use std::io;
use std::path::{Path, PathBuf};

use super::keys::Settings;
use super::raw::Source;

/// Everything that settings are made from.
pub struct Inputs<'a> {
    /// Flags that were given: the key's name and the text.
    pub flags: Vec<(&'static str, String)>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The settings file: its path as the operator named it, and its text.
    pub file: Option<(PathBuf, String)>,
    /// Whether `--demo` was given.
    pub demo: bool,
    /// Whether buyers will be served; only then must there be a key for their tokens.
    pub serving: bool,
    /// The processors that this process may use, ascending.
    pub cpus: Vec<usize>,
    /// Reads the file that a `…_FILE` variable names.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Checked settings, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One entry for each key of [`super::keys::KEYS`], in that order.
    pub sources: Vec<Source>,
    /// What is allowed but deserves a word, one sentence each.
    pub warnings: Vec<String>,
}
