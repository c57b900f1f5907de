//! Fills a database that lacks facts that the log no longer holds from the data directory, for
//! `stampede export --from-snapshot`. No engine may be running on the directory.

use anyhow::Context;
use stampede_core::types::Lsn;
use stampede_persist::export::refill::{Refill, Refilled};
use stampede_persist::export::store::Connect;
use stampede_persist::export::{Database, DatabaseId, LogClaim, Nonce, migrate};
use stampede_persist::log::dir::DataDir;
use stampede_persist::log::history::LogHistory;
use stampede_persist::log::rebuild::Rebuild;

use super::replay::{Replay, Shards};

/// Recovers the log as a start does and fills the database from it.
///
/// # Errors
/// What is wrong, with the remedy; what was written by then stays, and a repetition continues.
pub fn refill<C: Connect>(
    data: DataDir,
    mut database: Database<C>,
    nonce: Nonce,
) -> anyhow::Result<Refilled> {
    let mut state = Shards::new(1, data.hash_secret());
    state.expect_facts(data.control().durable_lsn);
    let opened = data.recover(&mut Replay::new(&mut state)).context("the state cannot be recovered")?;
    migrate(&mut database)?;
    let control = opened.control();
    let claim = LogClaim {
        log_id: control.log_id,
        nonce,
        held: None,
        first_retained: control.first_lsn,
        durable: Lsn(opened.next_lsn().0 - 1),
        database: control.database.map(DatabaseId),
    };
    let state: &dyn Rebuild = &state;
    let history = LogHistory::of(&opened, state)?;
    let history =
        history.context("the log holds every fact, so there is nothing to fill in: start the engine")?;
    let refill = Refill::begin(&mut database, &claim, &history)?;
    // From now on no other database is accepted (I12).
    opened.set_database(refill.database().0).context("cannot write the control file")?;
    Ok(refill.run()?)
}
