//! Whether this log and this database belong together, and which process may write (I12, I13).
//!
//! Attaching rejects a database from the past, from the future, or of another log; every
//! connection goes through it. It writes nothing but the cursor row. A copy of a data
//! directory has the same log identity, so nothing in the directory decides who may write:
//!
//! ```text
//! the row's nonce is ours      the same process comes back: nothing changes
//! first attach of a process    takes over: the database counts the epoch up, the nonce becomes ours
//! it was ours, and is not now  another process got it since: refused for good, another engine has taken over;
//!                              the row is older than our claim: the database went back, and is taken again
//! always                       the hash of the log's block at the cursor is as the row has it, or refused
//! ```
//!
//! A database goes back when a standby that lacks the last commits is promoted, or a backup is
//! restored. If the hash shows that it holds this log's facts up to an older cursor, and the log
//! holds the facts after it, the export goes on from there, as at a start: nothing is lost.
//!
//! Next: [`super::exporter`].

use stampede_core::types::Lsn;

pub use super::claim::{Claim, DatabaseId, LogClaim, Nonce};
use super::database::Database;
use super::error::ExportError;
use super::schema::{self, SchemaError};
use super::store::{Begin, Connect, CursorRow, Given, Store};
use crate::feed::FeedError;
use crate::log::block::ChainHash;
use crate::log::identity::LogId;

/// A database that this process may write to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Which; to be kept in the control file.
    pub database: DatabaseId,
    /// The last LSN in it.
    pub cursor: Lsn,
    /// The right to write to it.
    pub claim: Claim,
}

/// Why this log must not be exported to this database. Selling is refused until an
/// operator has decided.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// The database lacks facts that the log no longer holds.
    #[error(
        "the database ends at LSN {cursor}, the log begins at LSN {first_retained}: the facts in between are in \
         neither (was an old backup restored?); restore a newer backup of the database, or stop the engine and fill \
         this one: stampede export --from-snapshot DIR --postgres URL"
    )]
    Behind {
        /// Where the database ends.
        cursor: Lsn,
        /// Where the log begins.
        first_retained: Lsn,
    },
    /// The database holds facts that the log does not have.
    #[error(
        "the database holds LSN {cursor}, the log ends at LSN {durable}: the data directory is from the past (was \
         an old copy put back?); put the newer data directory back, or start with a new one and a new log"
    )]
    Ahead {
        /// Where the database ends.
        cursor: Lsn,
        /// Where the log ends.
        durable: Lsn,
    },
    /// Not the database that this log has exported to.
    #[error(
        "this is database {found}, the log was exported to database {expected}; correct the URL, or restore that \
         database here; if it is lost for good, run `stampede detach`, then `stampede export --from-snapshot`"
    )]
    OtherDatabase {
        /// The one in the control file.
        expected: DatabaseId,
        /// The one that answered.
        found: DatabaseId,
    },
    /// The database belongs to another log.
    #[error(
        "the database was written from log {theirs} (up to LSN {lsn}), this is log {ours}; start with the data \
         directory of that log. If it is lost for good, DELETE FROM stampede_cursor and start again: the items and \
         orders in the database are then imported"
    )]
    OtherLog {
        /// This log.
        ours: LogId,
        /// Theirs, in hexadecimal digits.
        theirs: String,
        /// How far that log was exported.
        lsn: Lsn,
    },
    /// The database holds other facts than the log, under the same LSNs.
    #[error(
        "the database and this log hold different facts up to LSN {cursor} (chain {theirs}, this log has {ours}): \
         two engines have run on copies of one data directory, and the database was written by the other one; \
         start the engine on that one's directory and retire this one. Orders that were sold only here are only in \
         this log: list them with `stampede log inspect` before you remove it"
    )]
    OtherHistory {
        /// The LSN that was compared.
        cursor: Lsn,
        /// The hash in the database, shortened.
        theirs: String,
        /// The hash in this log, shortened.
        ours: String,
    },
    /// Another process has started on this log since.
    #[error(
        "another engine has taken over this database (epoch {theirs}, ours is {ours}); stop one of the two: one \
         log has one writer"
    )]
    Fenced {
        /// Our epoch.
        ours: u64,
        /// Theirs.
        theirs: u64,
    },
    /// The cursor is not where this process left it, and the row has no hash that shows what the
    /// database holds.
    #[error(
        "the database now ends at LSN {found}, this engine had exported up to LSN {left}, and nothing proves that it \
         holds this log's facts up to there: somebody has edited stampede_cursor, or restored a backup of an older \
         program; restart the engine: it exports again what is missing, if its log still holds it"
    )]
    CursorMoved {
        /// Where this process left it.
        left: Lsn,
        /// Where it is.
        found: Lsn,
    },
    /// The tables are of another version.
    #[error("{0}")]
    Schema(String),
    /// The log cannot be read where the database ends.
    #[error("{0}")]
    Log(String),
    /// The database cannot be reached or used; the only error that is worth another try.
    #[error("{0}")]
    Database(String),
}

/// The hash of the log's block that holds an LSN; see [`crate::feed::FactFeed::chain`].
pub type ChainAt<'a> = &'a mut dyn FnMut(Lsn) -> Result<ChainHash, FeedError>;

/// Checks that log and database belong together and takes the right to write. Calling it again
/// with the same nonce changes nothing. `chain_at` is called for an LSN that the log holds, or
/// for the one before the first.
///
/// # Errors
/// See [`AttachError`]; the database is then as it was.
pub fn attach<C: Connect>(
    database: &mut Database<C>,
    claim: &LogClaim,
    chain_at: ChainAt<'_>,
) -> Result<Attached, AttachError> {
    database
        .run(async |store| attach_over(store, claim, chain_at).await)
        .map_err(|failure| failure.into_error())
}

/// Why attaching failed: for good, because of the connection, or because of the log.
#[derive(Debug)]
pub(super) enum AttachFailure {
    Refused(AttachError),
    Database(ExportError),
    Log(FeedError),
}

impl AttachFailure {
    fn into_error(self) -> AttachError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) => AttachError::Database(error.to_string()),
            Self::Log(error) => AttachError::Log(error.to_string()),
        }
    }
}

impl From<ExportError> for AttachFailure {
    fn from(error: ExportError) -> Self {
        Self::Database(error)
    }
}

impl From<SchemaError> for AttachFailure {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Database(error) => Self::Database(error),
            other => Self::Refused(AttachError::Schema(other.to_string())),
        }
    }
}

/// A database whose connection was lost during the check is not refused (I18).
impl From<SchemaError> for AttachError {
    fn from(error: SchemaError) -> Self {
        AttachFailure::from(error).into_error()
    }
}

impl From<AttachError> for AttachFailure {
    fn from(error: AttachError) -> Self {
        Self::Refused(error)
    }
}

pub(super) async fn attach_over(
    store: &mut impl Store,
    claim: &LogClaim,
    chain_at: ChainAt<'_>,
) -> Result<Attached, AttachFailure> {
    schema::require_current(store).await?;
    schema::require_fit(store).await?;
    store.begin(Begin::Ordinary).await?;
    let done = attach_locked(store, claim, chain_at).await;
    let ended = if done.is_ok() { store.commit().await } else { store.roll_back().await };
    let attached = done?;
    ended?;
    Ok(attached)
}

async fn attach_locked(
    store: &mut impl Store,
    claim: &LogClaim,
    chain_at: ChainAt<'_>,
) -> Result<Attached, AttachFailure> {
    // Nobody else can attach between the check and the write; batches do not wait for this lock.
    store.lock_attaching().await?;
    let nameless = || ExportError::Other("stampede_schema holds no database identity".to_owned());
    let database = store.identity().await?.ok_or_else(nameless)?;
    if let Some(expected) = claim.database.filter(|expected| *expected != database) {
        return Err(AttachError::OtherDatabase { expected, found: database }.into());
    }
    let log_id = claim.log_id.to_string();
    let rows = store.lock_cursors().await?;
    let Some(row) = rows.iter().find(|row| row.log_id == log_id) else {
        check_unclaimed(claim, &rows)?;
        if claim.database.is_none() {
            // The books of a lost log would be compared with rows that nobody updates any more. In this
            // log's own database they are kept: they show which rows are its own, although its cursor is lost.
            store.clear_books().await?;
        }
        let given = store.make_cursor(&log_id, claim.nonce).await?;
        return Ok(Attached { database, cursor: Lsn::ZERO, claim: given.at(Lsn::ZERO) });
    };
    let takes_over = takes_over(claim, row)?;
    check_range(claim, row.lsn)?;
    check_history(claim, row, chain_at)?;
    let given = match claim.held {
        _ if takes_over => {
            // Above every epoch that this process has had, so that no process gets one of them again.
            let above = claim.held.map_or(0, |held| held.epoch);
            store.take_cursor(&log_id, claim.nonce, above).await?
        }
        Some(held) => Given { epoch: row.epoch, since_us: held.since_us },
        None => Given { epoch: row.epoch, since_us: row.touched_us },
    };
    Ok(Attached { database, cursor: row.lsn, claim: given.at(row.lsn) })
}

/// Whether this log may begin with the database, which has no cursor of it.
fn check_unclaimed(claim: &LogClaim, rows: &[CursorRow]) -> Result<(), AttachError> {
    if let Some(row) = rows.first() {
        return Err(AttachError::OtherLog { ours: claim.log_id, theirs: row.log_id.clone(), lsn: row.lsn });
    }
    check_range(claim, Lsn::ZERO)
}

/// Whether this process has to take the right to write from another one; `false` = it has it.
fn takes_over(claim: &LogClaim, row: &CursorRow) -> Result<bool, AttachError> {
    if row.nonce == Some(claim.nonce) {
        return Ok(false);
    }
    match claim.held {
        None => Ok(true),
        // The database went back to a time before this process had it, and no process got it since.
        Some(held) if row.epoch < held.epoch && was_before(held, row) => Ok(true),
        Some(held) => Err(AttachError::Fenced { ours: held.epoch, theirs: row.epoch }),
    }
}

fn was_before(held: Claim, row: &CursorRow) -> bool {
    row.touched_us < held.since_us
}

/// Checks that the facts up to the cursor are those of this log. A row without a hash is from an older
/// program; the next batch enters the hash. Such a row must be where this process left it.
fn check_history(claim: &LogClaim, row: &CursorRow, chain_at: ChainAt<'_>) -> Result<(), AttachFailure> {
    let Some(theirs) = row.chain else {
        let moved = claim.held.filter(|held| row.lsn > Lsn::ZERO && row.lsn != held.left);
        let refused = |held: Claim| AttachError::CursorMoved { left: held.left, found: row.lsn };
        return moved.map_or(Ok(()), |held| Err(refused(held).into()));
    };
    let ours = chain_at(row.lsn).map_err(AttachFailure::Log)?;
    if ours == theirs {
        return Ok(());
    }
    let short =
        |hash: ChainHash| hash[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "…";
    Err(AttachError::OtherHistory { cursor: row.lsn, theirs: short(theirs), ours: short(ours) }.into())
}

fn check_range(claim: &LogClaim, cursor: Lsn) -> Result<(), AttachError> {
    if cursor.next() < claim.first_retained {
        return Err(AttachError::Behind { cursor, first_retained: claim.first_retained });
    }
    if cursor > claim.durable {
        return Err(AttachError::Ahead { cursor, durable: claim.durable });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_lost_during_the_check_is_no_refusal() {
        let gone = SchemaError::Database(ExportError::Locked("lock timeout".to_owned()));
        assert!(matches!(AttachError::from(gone), AttachError::Database(_)));
        let newer = SchemaError::TooNew { found: 99 };
        assert!(matches!(AttachError::from(newer), AttachError::Schema(_)));
    }
}
