//! Why a design cannot be run, in one line.

/// Why a design cannot be run, or a purchase not be decided.
#[derive(Debug, thiserror::Error)]
pub enum ClassicError {
    /// A throw-away server could not be had.
    #[error(transparent)]
    Server(#[from] stampede_testkit::ClusterError),
    /// The database refuses.
    #[error("Postgres: {0}; are the tables there (stampede-classic serve --stock N makes them)?")]
    Postgres(String),
    /// The database does not answer.
    #[error("Postgres: {0}; is it up, and the URL right?")]
    Unreachable(String),
    /// Redis refuses.
    #[error("Redis: {0}; is it up, and the password right?")]
    Redis(#[from] redis::RedisError),
    /// The design needs what was not given.
    #[error("{0}")]
    Missing(&'static str),
    /// The tables of somebody else stand where ours would.
    #[error("the database has a table {0} that was not made by this command; give a database of its own")]
    NotOurs(&'static str),
    /// A process could not be started, or does not do what it should.
    #[error("{what}: {why}")]
    Process {
        /// What was tried.
        what: String,
        /// What came of it.
        why: String,
    },
    /// The generator could not run.
    #[error(transparent)]
    Run(#[from] stampede_loadgen::engine::RunError),
    /// The engine's merchant API does not respond as it should.
    #[error(transparent)]
    Merchant(#[from] stampede_loadgen::verify::VerifyError),
}

impl From<postgres::Error> for ClassicError {
    fn from(error: postgres::Error) -> Self {
        // The client's own words are only "db error"; the server's are in its source.
        if let Some(db) = error.as_db_error() {
            return Self::Postgres(format!("{} ({})", db.message(), db.code().code()));
        }
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Self::Unreachable(format!("{error}{cause}"))
    }
}

impl ClassicError {
    pub(crate) fn process(what: impl Into<String>, why: &(impl ToString + ?Sized)) -> Self {
        Self::Process { what: what.into(), why: why.to_string() }
    }
}
