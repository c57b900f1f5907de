//! A file of the directory of records: a [`Record`] as a bench writes it, or what `stampede-classic` writes.

use std::fs;
use std::path::Path;

use crate::comparison;
use crate::record::Record;

/// The record in a file.
///
/// # Errors
///
/// What is wrong with the file, with its name.
pub fn read(path: &Path) -> Result<Record, String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    parse(&text).map_err(named)
}

/// The record in a file's text.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Record, String> {
    let record: Record = match comparison::read(text) {
        Some(record) => record?,
        None => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    record.check()?;
    Ok(record)
}
