//! Reads a record and says in one line what is wrong with a file that is none.
//!
//! Next: [`crate::record`].

use serde_json::Value;

use super::model::{FORMAT, Record};

/// A file that is no record of this version.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON.
    #[error("it is not JSON ({0}); give a file that `run --json FILE` wrote")]
    Json(String),
    /// It is JSON of something else.
    #[error("it is not the record of a run; give a file that `run --json FILE` wrote")]
    Foreign,
    /// It is of another version.
    #[error(
        "it has the format `{0}`, and this version reads `{FORMAT}`; make the run again, or take the version that wrote it"
    )]
    Version(String),
    /// It is damaged.
    #[error("it is a damaged record ({0}); make the run again")]
    Damaged(String),
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] in one line if it is no JSON, of another kind or version, or lacks something.
    pub fn read(text: &[u8]) -> Result<Self, RecordError> {
        let value: Value =
            serde_json::from_slice(text).map_err(|error| RecordError::Json(error.to_string()))?;
        let format = value.get("format").and_then(Value::as_str).unwrap_or("");
        if format != FORMAT {
            let ours = format.starts_with("stampede-loadgen-report-");
            return Err(if ours { RecordError::Version(format.to_owned()) } else { RecordError::Foreign });
        }
        let record: Self =
            serde_json::from_value(value).map_err(|error| RecordError::Damaged(error.to_string()))?;
        if record.timeline.slice_ms == 0 {
            return Err(RecordError::Damaged("a slice of 0 ms".to_owned()));
        }
        Ok(record)
    }
}
