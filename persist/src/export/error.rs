//! What can go wrong with the database, in words: problem, cause, remedy.
//!
//! One enum for every call, since the exporter only has to know what to do next, which
//! the methods at the end say. No text here may show a password. Next:
//! [`super::link`], where these come from.

use tokio_postgres::error::SqlState;

use super::claim::DatabaseId;

/// Why a row was not written although Postgres reported no error.
pub(super) const SWALLOWED: &str = "a trigger, a rule or a policy of the database swallows what is written";

/// Why a call to Postgres failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The connection URL cannot be used.
    #[error("the Postgres URL is not usable: {0}; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl(String),
    /// TLS was asked for and cannot be set up.
    #[error("TLS to Postgres failed: {0}; check sslmode, the server's certificate and the root certificates")]
    Tls(String),
    /// Nothing answers there.
    #[error("Postgres is unreachable at {target}: {reason}; start it, or correct host and port in the URL")]
    Unreachable {
        /// Host and port.
        target: String,
        /// The operating system's error.
        reason: String,
    },
    /// It is starting up or shutting down.
    #[error("Postgres at {target} accepts no connections now: {reason}; waiting for it")]
    NotReady {
        /// Host and port.
        target: String,
        /// What it said.
        reason: String,
    },
    /// User or password are wrong.
    #[error("Postgres at {target} refused the login: {reason}; correct user and password, or pg_hba.conf")]
    LoginRefused {
        /// Host and port.
        target: String,
        /// What it said.
        reason: String,
    },
    /// It asks for a password, and there is none.
    #[error(
        "Postgres at {target} asks for a password and the URL has none; add it to the URL, preferably in the file \
         that STAMPEDE_POSTGRES_URL_FILE names"
    )]
    PasswordMissing {
        /// Host and port.
        target: String,
    },
    /// There is no such database.
    #[error("there is no such database at {target}: {reason}; create it: createdb NAME")]
    DatabaseMissing {
        /// Host and port.
        target: String,
        /// What it said.
        reason: String,
    },
    /// The user may not do what is needed.
    #[error(
        "the Postgres user lacks a privilege: {reason}; let the owner run `stampede migrate`, or GRANT it \
         (CREATE on the schema to migrate; SELECT, INSERT, UPDATE, DELETE on the stampede tables to export)"
    )]
    LackingRights {
        /// What it said.
        reason: String,
    },
    /// The connection broke. What was not committed will be written again.
    #[error("the connection to Postgres was lost: {0}; reconnecting")]
    Lost(String),
    /// No answer within the time limit.
    #[error("Postgres gave no answer for {after_ms} ms; the connection is dropped, reconnecting")]
    Stalled {
        /// The limit that ran out.
        after_ms: u64,
    },
    /// The exporter was told to stop while it waited.
    #[error("the export was told to stop")]
    Stopping,
    /// Another session holds a lock for too long.
    #[error("another session holds a lock that the export needs: {0}; trying again")]
    Locked(String),
    /// Postgres refuses the row itself: a constraint, a trigger, a value.
    #[error("Postgres refused a row: {0}")]
    RowRefused(String),
    /// The database that the log was exported to has lost its tables.
    #[error(
        "the database has no Stampede tables, although this log was exported to database {database}; if a backup is \
         being restored, the export goes on by itself; otherwise correct the URL, restore a backup, or see `stampede \
         detach`"
    )]
    Emptied {
        /// Which it was.
        database: DatabaseId,
    },
    /// A transaction of another session got in the way.
    #[error("a conflicting transaction got in the way: {0}; trying again")]
    Conflict(String),
    /// Anything else that Postgres said.
    #[error("Postgres said: {0}; please fix it, the export keeps trying")]
    Other(String),
}

impl ExportError {
    /// Classifies an error of the client.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return Self::Lost(chain(error));
        };
        let code = said.code();
        // Their detail is the whole row with its time of change: two refusals of one row would differ
        // in it, and could not be recognised as the same.
        let shows_row = matches!(*code, SqlState::CHECK_VIOLATION | SqlState::NOT_NULL_VIOLATION);
        let text = match said.detail().filter(|_| !shows_row) {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        };
        match (code, &code.code()[..2]) {
            (&SqlState::INSUFFICIENT_PRIVILEGE, _) => Self::LackingRights { reason: text },
            (&SqlState::LOCK_NOT_AVAILABLE, _) => Self::Locked(text),
            (&SqlState::QUERY_CANCELED, _) => Self::Locked(text),
            (_, "08" | "57") => Self::Lost(text),
            (_, "40") => Self::Conflict(text),
            (
                _,
                "03" | "0A" | "25" | "26" | "2D" | "34" | "3B" | "3D" | "3F" | "42" | "53" | "55" | "58"
                | "F0" | "XX",
            ) => Self::Other(text),
            _ => Self::RowRefused(text),
        }
    }

    /// Classifies an error of an attempt to connect.
    pub(super) fn of_connect(error: &tokio_postgres::Error, target: &str) -> Self {
        let target = target.to_owned();
        let Some(said) = error.as_db_error() else {
            return Self::of_failed_connect(error, target);
        };
        let reason = said.message().to_owned();
        match (said.code(), &said.code().code()[..2]) {
            (&SqlState::CANNOT_CONNECT_NOW | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN, _)
            | (_, "53") => Self::NotReady { target, reason },
            (&SqlState::INVALID_CATALOG_NAME, _) => Self::DatabaseMissing { target, reason },
            (_, "28") => Self::LoginRefused { target, reason },
            (&SqlState::INSUFFICIENT_PRIVILEGE, _) => Self::LackingRights { reason },
            _ => Self::Other(reason),
        }
    }

    fn of_failed_connect(error: &tokio_postgres::Error, target: String) -> Self {
        let reason = chain(error);
        let about = error.to_string();
        if reason.contains("password missing") {
            Self::PasswordMissing { target }
        } else if about.contains("TLS") {
            Self::Tls(reason)
        } else if about.contains("password") || about.contains("authentication") {
            Self::LoginRefused { target, reason }
        } else {
            Self::Unreachable { target, reason }
        }
    }

    /// Whether waiting does not help: somebody has to fix the URL, the privileges or the server's settings.
    pub const fn needs_a_hand(&self) -> bool {
        matches!(
            self,
            Self::BadUrl(_)
                | Self::Tls(_)
                | Self::LoginRefused { .. }
                | Self::PasswordMissing { .. }
                | Self::DatabaseMissing { .. }
                | Self::LackingRights { .. }
        )
    }

    /// Whether the connection has to be dropped; otherwise only the transaction has failed.
    pub(super) fn drops_connection(&self) -> bool {
        !matches!(self, Self::RowRefused(_) | Self::Locked(_) | Self::Conflict(_))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
