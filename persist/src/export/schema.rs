//! The version of the tables, and migrations to the current one.
//!
//! Migrations are SQL files, applied in order, all in one transaction under an advisory
//! lock, so that two processes that start at once cannot both apply them. A database with
//! newer tables than this program knows is refused and not changed. Next: [`super::attach`].

use super::database::Database;
use super::error::ExportError;
use super::postgres::MIGRATIONS;
use super::store::{Begin, Connect, Store, Traits};

/// The version of the tables that this program reads and writes.
pub const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program has made them.
    #[error(
        "the database has Stampede's tables in version {found}, this program knows up to {SCHEMA_VERSION}; \
         use the newer program, or another database"
    )]
    TooNew {
        /// Their version.
        found: i32,
    },
    /// There are none, or they are too old.
    #[error(
        "the database has no current Stampede tables (version {found} of {SCHEMA_VERSION}); run `stampede migrate`"
    )]
    NotMigrated {
        /// Their version; 0 = none.
        found: i32,
    },
    /// A table with such a name exists and is not ours.
    #[error(
        "a table named {table} is already there and is not Stampede's; rename it, or use another database"
    )]
    InTheWay {
        /// Its name.
        table: String,
    },
    /// The database cannot hold what is exported.
    #[error("{0}")]
    Unfit(String),
    /// The database itself.
    #[error(transparent)]
    Database(#[from] ExportError),
}

/// Brings the tables to the current version; does nothing if they have it.
/// Returns the version before.
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
    require_fit(store).await?;
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
    if let Some(table) = store.table_in_the_way(found).await? {
        return Err(SchemaError::InTheWay { table });
    }
    if found == 0 {
        store.make_identity().await?;
    }
    for from in found..SCHEMA_VERSION {
        store.migrate_step(from).await?;
    }
    store.set_schema_version(SCHEMA_VERSION).await?;
    Ok(found)
}

/// Checks whether the export can work with this database at all.
pub(super) async fn require_fit(store: &mut impl Store) -> Result<(), SchemaError> {
    match unfit(&store.traits().await?) {
        Some(reason) => Err(SchemaError::Unfit(reason)),
        None => Ok(()),
    }
}

/// The oldest version whose functions the tables need (`gen_random_uuid`).
const VERSION_MIN: i32 = 130_000;

/// Why the export cannot work with this database, and what to do.
fn unfit(traits: &Traits) -> Option<String> {
    let Traits { version, encoding, odd_tables } = traits;
    if *version < VERSION_MIN {
        let major = version / 10_000;
        return Some(format!("this is PostgreSQL {major}, the export needs 13 or newer; upgrade it"));
    }
    // SQL_ASCII stores bytes unchanged.
    if !["UTF8", "SQL_ASCII"].contains(&encoding.as_str()) {
        return Some(format!(
            "the database has the encoding {encoding}, which lacks characters that names and buyers may have; use \
             one in UTF8: createdb -T template0 -E UTF8 NAME"
        ));
    }
    let (table, what) = odd_tables.first()?;
    Some(format!(
        "{table} is {what}; the export needs an ordinary table: make it one, or use another database"
    ))
}

/// Checks the version without changing anything.
pub(super) async fn require_current(store: &mut impl Store) -> Result<(), SchemaError> {
    match store.schema_version().await? {
        SCHEMA_VERSION => Ok(()),
        found if found > SCHEMA_VERSION => Err(SchemaError::TooNew { found }),
        found => Err(SchemaError::NotMigrated { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_databases_are_refused_with_a_reason() {
        let fit = |version, encoding: &str, odd_tables: &[(&str, &str)]| {
            let own = |(table, what): &(&str, &str)| ((*table).to_owned(), (*what).to_owned());
            let odd_tables = odd_tables.iter().map(own).collect();
            unfit(&Traits { version, encoding: encoding.to_owned(), odd_tables }).unwrap_or_default()
        };
        for (version, encoding) in [(130_000, "UTF8"), (150_004, "SQL_ASCII"), (180_001, "UTF8")] {
            assert_eq!(fit(version, encoding, &[]), "");
        }
        assert!(fit(120_022, "UTF8", &[]).contains("PostgreSQL 12"));
        for encoding in ["LATIN1", "LATIN9", "WIN1252", "EUC_CN", "EUC_JP", "KOI8R", "MULE_INTERNAL"] {
            let said = fit(150_000, encoding, &[]);
            assert!(said.contains(encoding) && said.contains("createdb"), "{said}");
        }
        let said = fit(150_000, "UTF8", &[("stock_order", "a partitioned table")]);
        assert!(said.contains("stock_order is a partitioned table"), "{said}");
    }
}
