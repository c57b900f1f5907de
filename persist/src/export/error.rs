//! What can go wrong with the database, in words: problem, cause, remedy.
//!
//! One enum for every call, since the exporter's one question is what to do next; the
//! methods at the end answer it. No text here may show a password. Next:
//! [`super::database`], which makes these.

use tokio_postgres::error::SqlState;

use super::claim::DatabaseId;

/// Why a row was not written although nobody refused it.
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
    /// Nobody answers there.
    #[error("Postgres is unreachable at {target}: {reason}; start it, or correct host and port in the URL")]
    Unreachable {
        /// Host and port.
        target: String,
        /// What the operating system said.
        reason: String,
    },
    /// It is starting up or shutting down.
    #[error("Postgres at {target} takes no connections now: {reason}; waiting for it")]
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
        "Postgres at {target} asks for a password and the URL has none; write it into the URL, best in the file \
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
        "the Postgres user lacks a right: {reason}; let the owner run `stampede migrate`, or GRANT it \
         (CREATE on the schema to migrate; SELECT, INSERT, UPDATE, DELETE on the stampede tables to export)"
    )]
    LackingRights {
        /// What it said.
        reason: String,
    },
    /// The connection broke. What was not committed will be written again.
    #[error("the connection to Postgres was lost: {0}; it is made again by itself")]
    Lost(String),
    /// No answer within the time limit.
    #[error("Postgres gave no answer for {after_ms} ms; the connection is dropped and made again")]
    Stalled {
        /// The limit that ran out.
        after_ms: u64,
    },
    /// The exporter was told to stop while it waited.
    #[error("the export was told to stop")]
    Stopping,
    /// Another session holds a lock for too long.
    #[error("another session holds a lock that the export needs: {0}; it is tried again")]
    Locked(String),
    /// Postgres refuses something for its own sake: a constraint, a trigger, a value.
    #[error("Postgres refused a row: {0}")]
    RowRefused(String),
    /// The database that the log was exported to has lost its tables.
    #[error(
        "the database has no Stampede tables, although this log was exported to database {database}; if a backup of \
         it is being restored, the export goes on by itself; otherwise correct the URL, restore one, or see `stampede \
         detach`"
    )]
    Emptied {
        /// Which it was.
        database: DatabaseId,
    },
    /// A transaction of another session got in the way.
    #[error("a conflicting transaction got in the way: {0}; it is tried again")]
    Conflict(String),
    /// Anything else that Postgres said.
    #[error("Postgres said: {0}; see to it, the export is tried again")]
    Other(String),
}

impl ExportError {
    /// Sorts an error of the client by what it means for us.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return Self::Lost(chain(error));
        };
        let code = said.code();
        // The detail of these is the whole row, times of change included: no two refusals of one
        // row would read the same, and be known as the same.
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

    /// Sorts an error of an attempt to connect.
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

    /// Whether waiting does not help: somebody has to mend the URL, the rights or the server's settings.
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

    /// Whether only this connection, or this attempt, is spoilt.
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
