//! How the exporter gets its facts: a seam, so that it can be tested without a log.
//!
//! The product's feed is [`crate::log::tail::LogTail`]; it reads the log's files,
//! never the memory of the process. Nothing here may hand out a fact that is not
//! durable. Next: [`crate::log::tail`].

use std::path::PathBuf;

use stampede_core::fact::Fact;
use stampede_core::types::Lsn;

use crate::log::block::ChainHash;

/// Facts in LSN order, each once.
pub trait FactFeed {
    /// Visits facts in LSN order, beginning after the last one visited, none beyond `up_to`,
    /// at most about `max` of them; returns how many.
    ///
    /// # Errors
    /// See [`FeedError`]; facts visited before the error count as visited.
    fn read(
        &mut self,
        up_to: Lsn,
        max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<usize, FeedError>;

    /// The hash of the block that holds the last fact visited or, before any was, the fact after
    /// which the feed begins. Two logs that give the same hash for an LSN hold the same facts up to it.
    ///
    /// # Errors
    /// See [`FeedError`]; the feed stays where it is.
    fn chain(&mut self) -> Result<ChainHash, FeedError>;
}

/// Why a feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The wanted fact has left the log.
    #[error(
        "the log no longer holds LSN {wanted}: it begins at {first}; restore a newer database, or a data \
         directory that still holds it"
    )]
    Trimmed {
        /// The LSN that was to come next.
        wanted: Lsn,
        /// The first LSN that is still there.
        first: Lsn,
    },
    /// A durable record cannot be read.
    #[error(
        "{} is damaged at byte {offset}: {reason}; stop the engine and run `stampede log verify`",
        file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot read {}: {source}; see to the disk, then restart", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
}
