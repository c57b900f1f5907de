//! The tables, and how an older set of them becomes the current one.
//!
//! Migrations are SQL files, applied in order, all in one transaction under an advisory
//! lock, so that two processes that start at once cannot both apply them. A database that
//! is newer than this program is refused and left alone. Next: [`super::attach`].

use super::database::{Database, Link};
use super::error::ExportError;

/// The version of the tables that this program reads and writes.
pub const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;

/// Migration `n` leads from version `n` to version `n + 1`.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// The key of the advisory lock: "stampede" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"stampede");

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
pub fn migrate(database: &mut Database) -> Result<i32, SchemaError> {
    database.run(async |link| migrate_over(link).await)
}

pub(super) async fn migrate_over(link: &mut Link) -> Result<i32, SchemaError> {
    let found = version(link).await?;
    if found == SCHEMA_VERSION {
        return Ok(found);
    }
    if found > SCHEMA_VERSION {
        return Err(SchemaError::TooNew { found });
    }
    link.execute_batch("BEGIN").await?;
    let done = migrate_locked(link).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = link.execute_batch(end).await;
    let found = done?;
    ended?;
    Ok(found)
}

async fn migrate_locked(link: &mut Link) -> Result<i32, SchemaError> {
    link.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_KEY]).await?;
    // Another process may have migrated while we waited for the lock.
    let found = version(link).await?;
    if found == 0 {
        nothing_in_the_way(link).await?;
        link.execute_batch(BASE).await?;
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        link.execute_batch(step).await?;
    }
    link.execute("UPDATE stampede_schema SET version = $1, migrated = now()", &[&SCHEMA_VERSION]).await?;
    Ok(found)
}

/// The one row that says which version the tables have, and which database this is. The
/// identity is drawn here and not taken from the cluster, so that it survives a dump and
/// a restore and needs no special right to read.
const BASE: &str = "
    CREATE TABLE stampede_schema (
        one         boolean PRIMARY KEY DEFAULT true CHECK (one),
        version     integer NOT NULL,
        database_id text NOT NULL,
        migrated    timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO stampede_schema (version, database_id) VALUES (0, replace(gen_random_uuid()::text, '-', ''));";

async fn nothing_in_the_way(link: &mut Link) -> Result<(), SchemaError> {
    const FIND: &str = "SELECT name FROM unnest(ARRAY['stock', 'stock_order', 'stampede_cursor', 'stampede_item', \
         'stampede_blocked', 'stampede_set_aside']) AS name WHERE to_regclass(name) IS NOT NULL ORDER BY name LIMIT 1";
    match link.query(FIND, &[]).await?.first() {
        Some(row) => Err(SchemaError::InTheWay { table: row.get(0) }),
        None => Ok(()),
    }
}

/// The version of the tables; 0 = none.
pub(super) async fn version(link: &mut Link) -> Result<i32, ExportError> {
    // Not by to_regclass: a session that has looked once may keep "there is none" in its cache
    // for the rest of the transaction, although another has made the table meanwhile.
    const THERE: &str = "SELECT EXISTS (SELECT FROM pg_class \
         WHERE relname = 'stampede_schema' AND relkind = 'r' AND pg_table_is_visible(oid))";
    let rows = link.query(THERE, &[]).await?;
    if !rows[0].get::<_, bool>(0) {
        return Ok(0);
    }
    let rows = link.query("SELECT version FROM stampede_schema", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Checks the version without changing anything.
pub(super) async fn require_current(link: &mut Link) -> Result<(), SchemaError> {
    match version(link).await? {
        SCHEMA_VERSION => Ok(()),
        found if found > SCHEMA_VERSION => Err(SchemaError::TooNew { found }),
        found => Err(SchemaError::NotMigrated { found }),
    }
}
