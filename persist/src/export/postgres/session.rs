//! Transactions, the tables' version, the database's identity, the cursor.

use stampede_core::types::Lsn;
use tokio_postgres::Row;

use super::super::claim::{DatabaseId, Nonce};
use super::super::error::ExportError;
use super::super::link::Link;
use super::super::numbers::{as_i64, as_u64};
use super::super::store::{Begin, CursorKey, CursorMove, CursorRow, Given, Traits};
use crate::log::block::ChainHash;

/// Migration `n` leads from version `n` to version `n + 1`.
pub(in super::super) const MIGRATIONS: &[&str] = &[
    include_str!("../schema/0001.sql"),
    include_str!("../schema/0002.sql"),
    include_str!("../schema/0003.sql"),
    include_str!("../schema/0004.sql"),
];

/// The key of the advisory lock: "stampede" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"stampede");

/// The isolation level is explicit: the server's default may be another, at which a version
/// check fails instead of finding no row.
pub(super) const fn begin(how: Begin) -> &'static str {
    match how {
        Begin::Ordinary => "BEGIN ISOLATION LEVEL READ COMMITTED",
        // A constraint that is checked at COMMIT would not show which row it refuses.
        Begin::Careful => "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE",
        Begin::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }
}

pub(super) async fn traits(link: &mut Link) -> Result<Traits, ExportError> {
    const SERVER: &str =
        "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')";
    // An order in a table that a crash empties would count as exported, and its fact would be trimmed.
    const ODD: &str = "SELECT c.relname::text, CASE \
             WHEN c.relkind = 'p' THEN 'a partitioned table' WHEN c.relkind = 'f' THEN 'a foreign table' \
             WHEN c.relkind IN ('v', 'm') THEN 'a view' \
             WHEN c.relpersistence = 'u' THEN 'unlogged: a crash of Postgres empties it' \
             WHEN c.relpersistence = 't' THEN 'a temporary table' \
             ELSE 'rewritten by a rule for INSERT or UPDATE' END \
         FROM pg_class c WHERE c.relname = ANY($1) AND pg_table_is_visible(c.oid) \
             AND (c.relkind <> 'r' OR c.relpersistence <> 'p' \
                 OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3'))) \
         ORDER BY 1";
    let server = link.query(SERVER, &[]).await?;
    let odd = link.query(ODD, &[&TABLES.to_vec()]).await?;
    let odd_tables = odd.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Traits { version: server[0].get(0), encoding: server[0].get(1), odd_tables })
}

/// The tables that are written to.
const TABLES: [&str; 8] = [
    "stock",
    "stock_order",
    "stock_payment",
    "stampede_blocked",
    "stampede_cursor",
    "stampede_item",
    "stampede_schema",
    "stampede_set_aside",
];

pub(super) async fn lock_migrations(link: &mut Link) -> Result<(), ExportError> {
    link.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK_KEY]).await.map(drop)
}

/// The one row with the version of the tables and the identity of the database. The identity
/// is drawn here and not taken from the cluster, so that it survives a dump and a restore and
/// can be read without a special privilege.
pub(super) const IDENTITY: &str = "
    CREATE TABLE stampede_schema (
        one         boolean PRIMARY KEY DEFAULT true CHECK (one),
        version     integer NOT NULL,
        database_id text NOT NULL,
        migrated    timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO stampede_schema (version, database_id) VALUES (0, replace(gen_random_uuid()::text, '-', ''));";

/// The tables that each version adds.
const MADE: [(i32, &[&str]); 2] = [
    (
        1,
        &[
            "stampede_blocked",
            "stampede_cursor",
            "stampede_item",
            "stampede_set_aside",
            "stock",
            "stock_order",
        ],
    ),
    (4, &["stock_payment"]),
];

pub(super) async fn table_in_the_way(link: &mut Link, found: i32) -> Result<Option<String>, ExportError> {
    const FIND: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL ORDER BY name LIMIT 1";
    let made = MADE.iter().filter(|(version, _)| *version > found);
    let names: Vec<&str> = made.flat_map(|(_, names)| names.iter().copied()).collect();
    Ok(link.query(FIND, &[&names]).await?.first().map(|row| row.get(0)))
}

pub(super) async fn migrate_step(link: &mut Link, from: i32) -> Result<(), ExportError> {
    let step = usize::try_from(from).ok().and_then(|from| MIGRATIONS.get(from));
    link.execute_batch(step.expect("only asked for steps up to the current version")).await
}

pub(super) async fn set_schema_version(link: &mut Link, version: i32) -> Result<(), ExportError> {
    link.execute("UPDATE stampede_schema SET version = $1, migrated = now()", &[&version]).await.map(drop)
}

pub(super) async fn schema_version(link: &mut Link) -> Result<i32, ExportError> {
    // Not with to_regclass: a session may cache "there is none" for the rest of the transaction,
    // although another session has created the table meanwhile.
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
    const LOCK: &str = "SELECT log_id, epoch, lsn, nonce, chain, (extract(epoch FROM update_time) * 1000000)::bigint \
         FROM stampede_cursor ORDER BY log_id FOR UPDATE";
    let rows = link.query(LOCK, &[]).await?;
    let read = rows.iter().map(|row| CursorRow {
        log_id: row.get(0),
        epoch: as_u64(row.get(1)),
        lsn: Lsn(as_u64(row.get(2))),
        nonce: row.get::<_, Option<&str>>(3).and_then(Nonce::from_hex),
        chain: row.get::<_, Option<&str>>(4).and_then(chain_from_hex),
        touched_us: row.get(5),
    });
    Ok(read.collect())
}

// A claim must be later than everything that was committed to the row before: so it takes the time of
// the call, not that of the beginning of its transaction.

pub(super) async fn make_cursor(link: &mut Link, log_id: &str, nonce: Nonce) -> Result<Given, ExportError> {
    const MAKE: &str = "INSERT INTO stampede_cursor (log_id, epoch, lsn, nonce, update_time) \
         VALUES ($1, 1, 0, $2, clock_timestamp()) \
         RETURNING epoch, (extract(epoch FROM update_time) * 1000000)::bigint";
    given(&link.query(MAKE, &[&log_id, &nonce.to_string()]).await?)
}

pub(super) async fn take_cursor(
    link: &mut Link,
    log_id: &str,
    nonce: Nonce,
    above: u64,
) -> Result<Given, ExportError> {
    const TAKE: &str = "UPDATE stampede_cursor SET epoch = greatest(epoch, $3) + 1, nonce = $2, \
         update_time = clock_timestamp() WHERE log_id = $1 \
         RETURNING epoch, (extract(epoch FROM update_time) * 1000000)::bigint";
    given(&link.query(TAKE, &[&log_id, &nonce.to_string(), &as_i64(above)]).await?)
}

fn given(rows: &[Row]) -> Result<Given, ExportError> {
    let gone = || ExportError::Other("the row in stampede_cursor went away while it was locked".to_owned());
    let row = rows.first().ok_or_else(gone)?;
    Ok(Given { epoch: as_u64(row.get(0)), since_us: row.get(1) })
}

pub(super) async fn move_cursor(
    link: &mut Link,
    key: &CursorKey,
    to: &CursorMove,
) -> Result<bool, ExportError> {
    const MOVE: &str = "UPDATE stampede_cursor SET lsn = $5, chain = $6, update_time = now() \
         WHERE log_id = $1 AND epoch = $2 AND nonce = $3 AND lsn = $4";
    let (epoch, nonce) = (as_i64(key.epoch), key.nonce.to_string());
    let (from, lsn, chain) = (as_i64(to.from.0), as_i64(to.to.0), chain_to_hex(&to.chain));
    Ok(link.execute(MOVE, &[&key.log_id, &epoch, &nonce, &from, &lsn, &chain]).await? == 1)
}

pub(super) async fn holds_cursor(link: &mut Link, key: &CursorKey, left: Lsn) -> Result<bool, ExportError> {
    const HOLDS: &str =
        "SELECT FROM stampede_cursor WHERE log_id = $1 AND epoch = $2 AND nonce = $3 AND lsn = $4";
    let (epoch, nonce, lsn) = (as_i64(key.epoch), key.nonce.to_string(), as_i64(left.0));
    Ok(!link.query(HOLDS, &[&key.log_id, &epoch, &nonce, &lsn]).await?.is_empty())
}

fn chain_to_hex(chain: &ChainHash) -> String {
    chain.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The column's own check allows nothing but 64 digits.
fn chain_from_hex(text: &str) -> Option<ChainHash> {
    let mut chain = ChainHash::default();
    for (at, byte) in chain.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(chain)
}
