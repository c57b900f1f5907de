//! The settings of an exporter.

use super::super::claim::{Claim, DatabaseId, Nonce};
use super::super::error::ExportError;
use super::super::limits::FACTS_PER_BATCH_MAX;
use super::super::link::ConnectOptions;
use crate::log::identity::LogId;

/// The settings of an exporter.
#[derive(Clone, Debug)]
pub struct ExporterOptions<T = ConnectOptions> {
    /// How to reach the database.
    pub connect: T,
    /// The log that is exported.
    pub log_id: LogId,
    /// The process: drawn anew at each start.
    pub nonce: Nonce,
    /// The claim that this process got at an earlier attach; `None` = there was none.
    pub held: Option<Claim>,
    /// The database that the log was exported to so far; `None` = none.
    pub database: Option<DatabaseId>,
    /// Whether to bring the tables to the current version first.
    pub migrate: bool,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// Most facts in one transaction; at most [`FACTS_PER_BATCH_MAX`].
    pub facts_per_batch_max: usize,
}

impl ExporterOptions {
    /// Options for this log and this URL, with the defaults for the rest.
    pub fn new(url: impl Into<String>, log_id: LogId, nonce: Nonce) -> Self {
        Self::over(ConnectOptions::new(url), log_id, nonce)
    }
}

impl<T> ExporterOptions<T> {
    /// Options for this log and this way to connect, with the defaults for the rest.
    pub const fn over(connect: T, log_id: LogId, nonce: Nonce) -> Self {
        Self {
            connect,
            log_id,
            nonce,
            held: None,
            database: None,
            migrate: true,
            seed: nonce.seed(),
            facts_per_batch_max: FACTS_PER_BATCH_MAX,
        }
    }

    pub(super) fn with_connect<U>(
        self,
        connect: impl FnOnce(T) -> Result<U, ExportError>,
    ) -> Result<ExporterOptions<U>, ExportError> {
        Ok(ExporterOptions {
            connect: connect(self.connect)?,
            log_id: self.log_id,
            nonce: self.nonce,
            held: self.held,
            database: self.database,
            migrate: self.migrate,
            seed: self.seed,
            facts_per_batch_max: self.facts_per_batch_max,
        })
    }
}
