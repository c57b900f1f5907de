//! Transactions, the tables' version, the database's identity, the cursor.

use stampede_core::types::Lsn;

use super::super::attach::{DatabaseId, as_i64, as_u64};
use super::super::database::Link;
use super::super::error::ExportError;
use super::super::store::{Begin, CursorKey, CursorRow};

/// Migration `n` leads from version `n` to version `n + 1`.
pub(in super::super) const MIGRATIONS: &[&str] = &[include_str!("../schema/0001.sql")];

/// The key of the advisory lock: "stampede" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"stampede");

/// The isolation is named, since the server's default may be another one, under which a
/// version check would fail instead of finding no row.
pub(super) const fn begin(how: Begin) -> &'static str {
    match how {
        Begin::Ordinary => "BEGIN ISOLATION LEVEL READ COMMITTED",
        // A constraint that is checked at COMMIT would not show which row it is about.
        Begin::Careful => "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE",
        Begin::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }
}

pub(super) async fn lock_migrations(link: &mut Link) -> Result<(), ExportError> {
    link.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_KEY]).await.map(drop)
}

/// The one row that says which version the tables have, and which database this is. The
/// identity is drawn here and not taken from the cluster, so that it survives a dump and
/// a restore and needs no special right to read.
pub(super) const IDENTITY: &str = "
    CREATE TABLE stampede_schema (
        one         boolean PRIMARY KEY DEFAULT true CHECK (one),
        version     integer NOT NULL,
        database_id text NOT NULL,
        migrated    timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO stampede_schema (version, database_id) VALUES (0, replace(gen_random_uuid()::text, '-', ''));";

pub(super) async fn table_in_the_way(link: &mut Link) -> Result<Option<String>, ExportError> {
    const FIND: &str = "SELECT name FROM unnest(ARRAY['stock', 'stock_order', 'stampede_cursor', 'stampede_item', \
         'stampede_blocked', 'stampede_set_aside']) AS name WHERE to_regclass(name) IS NOT NULL ORDER BY name LIMIT 1";
    Ok(link.query(FIND, &[]).await?.first().map(|row| row.get(0)))
}

pub(super) async fn migrate_step(link: &mut Link, from: i32) -> Result<(), ExportError> {
    let step = usize::try_from(from).ok().and_then(|from| MIGRATIONS.get(from));
    link.execute_batch(step.expect("only asked for steps up to the current version")).await
}

pub(super) async fn set_schema_version(link: &mut Link, version: i32) -> Result<(), ExportError> {
    link.execute("UPDATE stampede_schema SET version = $1, migrated = now()", &[&version]).await.map(drop)
}

pub(super) async fn schema_version(link: &mut Link) -> Result<i32, ExportError> {
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

pub(super) async fn identity(link: &mut Link) -> Result<Option<DatabaseId>, ExportError> {
    let rows = link.query("SELECT database_id FROM stampede_schema", &[]).await?;
    Ok(rows.first().and_then(|row| DatabaseId::from_hex(row.get(0))))
}

pub(super) async fn lock_cursors(link: &mut Link) -> Result<Vec<CursorRow>, ExportError> {
    const LOCK: &str = "SELECT log_id, epoch, lsn FROM stampede_cursor ORDER BY log_id FOR UPDATE";
    let rows = link.query(LOCK, &[]).await?;
    let read = rows.iter().map(|row| CursorRow {
        key: CursorKey { log_id: row.get(0), epoch: as_u64(row.get(1)) },
        lsn: Lsn(as_u64(row.get(2))),
    });
    Ok(read.collect())
}

pub(super) async fn make_cursor(link: &mut Link, key: &CursorKey) -> Result<(), ExportError> {
    const NEW: &str = "INSERT INTO stampede_cursor (log_id, epoch, lsn) VALUES ($1, $2, 0)";
    link.execute(NEW, &[&key.log_id, &as_i64(key.epoch)]).await.map(drop)
}

pub(super) async fn take_cursor(link: &mut Link, key: &CursorKey) -> Result<(), ExportError> {
    const TAKE: &str = "UPDATE stampede_cursor SET epoch = $2 WHERE log_id = $1 AND epoch < $2";
    link.execute(TAKE, &[&key.log_id, &as_i64(key.epoch)]).await.map(drop)
}

pub(super) async fn move_cursor(
    link: &mut Link,
    key: &CursorKey,
    from: Lsn,
    to: Lsn,
) -> Result<bool, ExportError> {
    const MOVE: &str = "UPDATE stampede_cursor SET lsn = $4, update_time = now() \
         WHERE log_id = $1 AND epoch = $2 AND lsn = $3";
    let (epoch, from, to) = (as_i64(key.epoch), as_i64(from.0), as_i64(to.0));
    Ok(link.execute(MOVE, &[&key.log_id, &epoch, &from, &to]).await? == 1)
}
