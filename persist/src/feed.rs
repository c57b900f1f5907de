//! How the exporter gets its facts: a trait, so that it can be tested without a log.
//!
//! The product's feed is [`crate::log::tail::LogTail`]; it reads the log's files,
//! never the memory of the process. Nothing here may hand out a fact that is not
//! durable. Next: [`crate::log::tail`].

use std::path::PathBuf;

use stampede_core::fact::Fact;
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, UnixMillis};

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

    /// The hash of the block that holds the last fact visited or, before the first visit, the fact
    /// after which the feed begins. Two logs with the same hash for an LSN hold the same facts up to it.
    ///
    /// # Errors
    /// See [`FeedError`]; the feed stays where it is.
    fn chain(&mut self) -> Result<ChainHash, FeedError>;
}

/// Everything that a stopped log knows: a snapshot and the facts after it. The product's is
/// [`crate::log::history::LogHistory`].
pub trait History {
    /// The last fact in the snapshot.
    fn snapshot_lsn(&self) -> Lsn;
    /// The latest time of any fact in the snapshot.
    fn snapshot_ms(&self) -> UnixMillis;
    /// The last fact of all.
    fn last_lsn(&self) -> Lsn;
    /// Visits the rows of the snapshot, in its order, until one of them is refused.
    ///
    /// # Errors
    /// The visitor's, or why the snapshot cannot be read.
    fn snapshot_rows(&self, visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>)
    -> Result<(), String>;
    /// The facts after the snapshot.
    fn facts(&self) -> Box<dyn FactFeed + '_>;
    /// The hash of the log's block that holds the last fact.
    ///
    /// # Errors
    /// See [`FeedError`].
    fn chain(&self) -> Result<ChainHash, FeedError>;
    /// Visits the state at the last fact, in the order of [`stampede_core::state_row`].
    fn state(&self, visit: &mut dyn FnMut(StateRow<'_>));
}

/// Why a feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The wanted fact was trimmed.
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
    #[error("cannot read {}: {source}; check the disk, then restart", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
}
