//! The tables, and how an older set of them becomes the current one.
//!
//! Migrations are SQL files, applied in order, all in one transaction under an advisory
//! lock, so that two processes that start at once cannot both apply them. A database that
//! is newer than this program is refused and left alone. Next: [`super::attach`].

use super::database::Database;
use super::error::ExportError;
use super::postgres::MIGRATIONS;
use super::store::{Begin, Connect, Store};

/// The version of the tables that this program reads and writes.
pub const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;

/// Why the tables are not as they have to be.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Another program has been here: a newer one.
    #[error(
        "the database has Stampede's tables in version {found}, this program knows up to {SCHEMA_VERSION}; \
         use the newer program, or another database"
    )]
    TooNew {
        /// Their version.
        found: i32,
    },
    /// There are none, or old ones.
    #[error(
        "the database has no current Stampede tables (version {found} of {SCHEMA_VERSION}); run `stampede migrate`"
    )]
    NotMigrated {
        /// Their version; 0 = none.
        found: i32,
    },
    /// Tables of the same names are there, and they are not ours.
    #[error(
        "a table named {table} is already there and is not Stampede's; rename it, or use another database"
    )]
    InTheWay {
        /// Its name.
        table: String,
    },
    /// The database itself.
    #[error(transparent)]
    Database(#[from] ExportError),
}

/// Brings the tables to the current version; does nothing when they are.
/// Returns the version found before.
///
/// # Errors
/// See [`SchemaError`]; the database is then as it was.
pub fn migrate<C: Connect>(database: &mut Database<C>) -> Result<i32, SchemaError> {
    database.run(async |store| migrate_over(store).await)
}

pub(super) async fn migrate_over(store: &mut impl Store) -> Result<i32, SchemaError> {
    let found = store.schema_version().await?;
    if found == SCHEMA_VERSION {
        return Ok(found);
    }
    if found > SCHEMA_VERSION {
        return Err(SchemaError::TooNew { found });
    }
    store.begin(Begin::Ordinary).await?;
    let done = migrate_locked(store).await;
    let ended = if done.is_ok() { store.commit().await } else { store.roll_back().await };
    let found = done?;
    ended?;
    Ok(found)
}

async fn migrate_locked(store: &mut impl Store) -> Result<i32, SchemaError> {
    store.lock_migrations().await?;
    // Another process may have migrated while we waited for the lock.
    let found = store.schema_version().await?;
    if found == 0 {
        if let Some(table) = store.table_in_the_way().await? {
            return Err(SchemaError::InTheWay { table });
        }
        store.make_identity().await?;
    }
    for from in found..SCHEMA_VERSION {
        store.migrate_step(from).await?;
    }
    store.set_schema_version(SCHEMA_VERSION).await?;
    Ok(found)
}

/// Checks the version without changing anything.
pub(super) async fn require_current(store: &mut impl Store) -> Result<(), SchemaError> {
    match store.schema_version().await? {
        SCHEMA_VERSION => Ok(()),
        found if found > SCHEMA_VERSION => Err(SchemaError::TooNew { found }),
        found => Err(SchemaError::NotMigrated { found }),
    }
}
