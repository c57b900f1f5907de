//! Why a comparison came to no end.

/// Why a comparison came to no end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Something cannot be read, or is not there in time.
    #[error("{0}")]
    Unable(String),
    /// The log itself is wrong.
    #[error("the log is wrong: {0}")]
    LogWrong(String),
    /// The log was trimmed under the replica: begin anew.
    #[error("the log was trimmed while it was read, again and again; try once more")]
    Trimmed,
}
