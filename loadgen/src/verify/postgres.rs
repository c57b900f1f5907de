//! Reads what Postgres holds about an item, through Postgres' own client program `psql`.
//!
//! So that the generator links no database client, and takes whatever URL, TLS setting and password file
//! psql takes. The URL is an argument of psql, as it is one of ours. Next: [`crate::check`], which weighs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::check::{OrderRow, PostgresRows, State};

/// Where Debian keeps the programs of each version.
const VERSIONS_DIR: &str = "/usr/lib/postgresql";
/// Lines of psql's errors that are passed on.
const WORDS_LINES_MAX: usize = 5;

/// A line of the output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    /// `count`, `held` and `sale` of the stock row.
    Stock(i64, i64, i64),
    /// Number, buyer, quantity, state and key of an order.
    Order(i64, String, i64, String, Option<String>),
}

/// The rows of an item in the database at `url`, all of one snapshot.
///
/// # Errors
/// Why there are none, in one line.
pub(super) fn read(url: &str, item: u32) -> Result<PostgresRows, String> {
    let stock =
        format!("SELECT json_build_array(count::int8, held::int8, sale::int8) FROM stock WHERE id = {item}");
    let orders = format!(
        "SELECT json_build_array(id::int8, buyer, quantity::int8, state, to_jsonb(o)->>'idem_key') \
         FROM stock_order o WHERE sid = {item} ORDER BY id"
    );
    let mut rows = PostgresRows::default();
    for line in psql(url, &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", &stock, &orders])?.lines() {
        let line = serde_json::from_str(line).map_err(|error| format!("`{line}` is no row: {error}"))?;
        match line {
            Line::Stock(count, held, sale) => (rows.count, rows.held, rows.sale) = (count, held, sale),
            Line::Order(id, buyer, quantity, state, key) => rows.orders.push(OrderRow {
                order_id: u64::try_from(id).unwrap_or(0),
                buyer,
                quantity: u32::try_from(quantity).unwrap_or(0),
                // A state that nobody knows counts as gone, and so differs from whatever the merchant says.
                state: State::from_name(&state).unwrap_or(State::Gone),
                key,
                created_at_ms: 0,
            }),
        }
    }
    Ok(rows)
}

/// What these statements print, one row a line, in one session.
fn psql(url: &str, statements: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program());
    // No settings of the user's, no words but rows, no alignment, no headings, no question for a password.
    command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", url]);
    command.args(statements.iter().flat_map(|statement| ["-c", statement]));
    command.env("PGCLIENTENCODING", "UTF8").stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        format!("cannot start psql ({error}); --postgres needs it: apt-get install postgresql-client")
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let lines = words.lines().map(str::trim).filter(|line| !line.is_empty()).take(WORDS_LINES_MAX);
        return Err(lines.collect::<Vec<_>>().join("; "));
    }
    String::from_utf8(output.stdout).map_err(|_| "psql printed something that is not UTF-8".to_owned())
}

/// `psql` in PATH, else that of the newest version of Postgres.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("psql"));
    let version = |dir: &PathBuf| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok()).unwrap_or(0)
    };
    let dirs = std::fs::read_dir(VERSIONS_DIR).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = dirs.map(|entry| entry.path()).collect();
    dirs.sort_by_key(|dir| std::cmp::Reverse(version(dir)));
    let all = in_path.chain(dirs.into_iter().map(|dir| dir.join("bin/psql")));
    all.into_iter().find(|program| program.is_file()).unwrap_or_else(|| PathBuf::from("psql"))
}
