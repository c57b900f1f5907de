//! Whether this log and this database belong together, and who may write (I12, I13).
//!
//! Attaching is the one moment at which a database from the past, from the future, or
//! another one altogether is told from the right one; every connection goes through it.
//! It writes nothing but the cursor row. Next: [`super::exporter`].

use std::fmt;

use stampede_core::planted::{Bug, planted};
use stampede_core::types::Lsn;

use super::database::Database;
use super::error::ExportError;
use super::schema::{self, SchemaError};
use super::store::{Begin, Connect, CursorKey, Store};
use crate::log::identity::LogId;

/// The identity of a database: 16 random bytes, drawn when it was first migrated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

impl DatabaseId {
    /// The identity written as 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then_some(Self(number.to_be_bytes()))
    }
}

/// What the log's side says of itself.
#[derive(Clone, Copy, Debug)]
pub struct LogClaim {
    /// The log.
    pub log_id: LogId,
    /// The epoch of this start; grows by one with each.
    pub epoch: u64,
    /// The first LSN that the log still holds (1 in a new log).
    pub first_retained: Lsn,
    /// The last durable LSN.
    pub durable: Lsn,
    /// The database that this log has exported to so far; `None` = to none.
    pub database: Option<DatabaseId>,
}

/// A database that is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Which; belongs into the control file.
    pub database: DatabaseId,
    /// The last LSN in it.
    pub cursor: Lsn,
}

/// Why this log must not be exported to this database. Selling is refused until an
/// operator has decided.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// The database lacks facts that the log no longer holds.
    #[error(
        "the database ends at LSN {cursor}, the log begins at LSN {first_retained}: what lies between is in \
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
         orders in the database are then taken over"
    )]
    OtherLog {
        /// This log.
        ours: LogId,
        /// Theirs, in hexadecimal digits.
        theirs: String,
        /// How far they came.
        lsn: Lsn,
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
    /// The cursor is not where this process left it.
    #[error(
        "the database now ends at LSN {found}, this engine had brought it to LSN {left}: somebody has restored a \
         backup, promoted a standby or edited stampede_cursor; restart the engine, it exports again what is missing \
         if its log still holds it"
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
    /// The database cannot be reached or used; this one alone is worth another try.
    #[error("{0}")]
    Database(String),
}

/// Checks that log and database belong together and takes the right to write.
/// Calling it again in the same epoch changes nothing.
///
/// # Errors
/// See [`AttachError`]; the database is then as it was.
pub fn attach<C: Connect>(database: &mut Database<C>, claim: &LogClaim) -> Result<Attached, AttachError> {
    database.run(async |store| attach_over(store, claim).await).map_err(|failure| failure.into_error())
}

/// Why attaching failed: for good, or because of the connection.
#[derive(Debug)]
pub(super) enum AttachFailure {
    Refused(AttachError),
    Database(ExportError),
}

impl AttachFailure {
    fn into_error(self) -> AttachError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) => AttachError::Database(error.to_string()),
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

/// A database that went away in the middle of it is no reason to refuse it (I18).
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

pub(super) async fn attach_over(store: &mut impl Store, claim: &LogClaim) -> Result<Attached, AttachFailure> {
    schema::require_current(store).await?;
    store.begin(Begin::Ordinary).await?;
    let done = attach_locked(store, claim).await;
    let ended = if done.is_ok() { store.commit().await } else { store.roll_back().await };
    let attached = done?;
    ended?;
    Ok(attached)
}

async fn attach_locked(store: &mut impl Store, claim: &LogClaim) -> Result<Attached, AttachFailure> {
    // Nobody else can attach between the look and the write; batches are not held up.
    store.lock_attaching().await?;
    let nameless = || ExportError::Other("stampede_schema holds no database identity".to_owned());
    let database = store.identity().await?.ok_or_else(nameless)?;
    if let Some(expected) = claim.database.filter(|expected| *expected != database) {
        return Err(AttachError::OtherDatabase { expected, found: database }.into());
    }
    let key = CursorKey { log_id: claim.log_id.to_string(), epoch: claim.epoch };
    let rows = store.lock_cursors().await?;
    let cursor = match rows.iter().find(|row| row.key.log_id == key.log_id) {
        Some(row) => take(claim, row.key.epoch, row.lsn)?,
        None => match rows.first() {
            None => Lsn::ZERO,
            Some(row) => {
                let (theirs, lsn) = (row.key.log_id.clone(), row.lsn);
                return Err(AttachError::OtherLog { ours: claim.log_id, theirs, lsn }.into());
            }
        },
    };
    check_range(claim, cursor)?;
    if rows.is_empty() {
        // Books of a log that is gone would be compared with rows that it no longer writes.
        store.clear_books().await?;
        store.make_cursor(&key).await?;
    } else {
        store.take_cursor(&key).await?;
    }
    Ok(Attached { database, cursor })
}

fn take(claim: &LogClaim, theirs: u64, cursor: Lsn) -> Result<Lsn, AttachError> {
    let fenced = theirs > claim.epoch && !planted(Bug::FenceDropped);
    if fenced { Err(AttachError::Fenced { ours: claim.epoch, theirs }) } else { Ok(cursor) }
}

fn check_range(claim: &LogClaim, cursor: Lsn) -> Result<(), AttachError> {
    if cursor.next() < claim.first_retained && !planted(Bug::OldBackupTaken) {
        return Err(AttachError::Behind { cursor, first_retained: claim.first_retained });
    }
    if cursor > claim.durable {
        return Err(AttachError::Ahead { cursor, durable: claim.durable });
    }
    Ok(())
}

/// Numbers of ours fit a signed column by far; a negative one there is nobody's.
pub(super) fn as_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_goes_away_while_its_tables_are_looked_at_is_not_refused() {
        let gone = SchemaError::Database(ExportError::Locked("lock timeout".to_owned()));
        assert!(matches!(AttachError::from(gone), AttachError::Database(_)));
        let newer = SchemaError::TooNew { found: 99 };
        assert!(matches!(AttachError::from(newer), AttachError::Schema(_)));
    }
}
