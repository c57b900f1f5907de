//! Memory = log = Postgres, item by item, while the sale runs: what `stampede reconcile` does.
//!
//! The three are never at the same LSN while orders come in. So the log is the middle: a replica
//! of it goes forward through the files, and each of the others is compared with it at the very
//! LSN at which that one was read.
//!
//! ```text
//! the log's files ─▶ replica ──────●─────────────●──●──●─────────●────▶ LSN
//!                                  │ cursor      │  │  │ as_of   │ cursor again, for the items
//! Postgres, one snapshot ──────────┘             │  │  │         │ that differed
//! the owner of an item, one step a page ─────────┴──┴──┘ ────────┘
//! ```
//!
//! - The owner's page says up to which fact it goes; every fact that the replica already has was
//!   decided before the page was asked for, so the page is the state at the later of the two.
//! - A difference from Postgres counts only when a second look, past everything that memory has
//!   shown, finds it again: rows that were taken over in the middle of an import, or that the
//!   exporter is about to follow, are no mismatch.
//!
//! Nothing here changes anything but by [`engine::Engine::report`], which pauses one item. Next:
//! [`memory`], [`database`], and [`follow`] for the replica.

pub mod database;
pub mod engine;
pub mod fields;
pub mod follow;
pub mod memory;
mod options;
pub mod report;
mod trouble;

use std::collections::BTreeMap;
use std::time::Instant;

use stampede_core::types::{HashSecret, Lsn, OrderId};
use stampede_persist::export::Database;

use self::engine::Engine;
use self::follow::Follower;
pub use self::options::Options;
use self::report::{Mismatch, Place, Report};
pub use self::trouble::Trouble;
use crate::engine::books::mark;

/// Everything that is compared.
pub struct Sources<'a> {
    /// The log.
    pub log: &'a mut Follower,
    /// The engine's memory.
    pub engine: &'a Engine,
    /// Postgres; `None` = not configured.
    pub database: Option<&'a mut Database>,
}

/// Compares everything once. Mismatches and what could not be compared are in the report.
///
/// # Errors
/// [`Trouble`] when the log or the engine cannot be read and no mismatch was found before.
pub fn round(
    sources: &mut Sources<'_>,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, Trouble> {
    let begun = Instant::now();
    let mut report = Report::default();
    match compare(sources, options, &mut report, progress) {
        Ok(()) => {}
        Err(trouble) if report.mismatches.is_empty() || matches!(trouble, Trouble::Trimmed) => {
            return Err(trouble);
        }
        // What was found stands, and its item has to stop.
        Err(trouble) => report.unable.push(format!("everything: {trouble}")),
    }
    report.lsn = sources.log.lsn();
    report.items_total(sources.log.replica(), options.item);
    for mismatch in &mut report.mismatches {
        if options.pause {
            mismatch.pause = Some(sources.engine.report(mismatch.item, &mismatch.reason()));
        }
        complete(mismatch, sources);
    }
    report.took = begun.elapsed();
    Ok(report)
}

fn compare(
    sources: &mut Sources<'_>,
    options: &Options,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Trouble> {
    let patience = options.patience;
    let secret = HashSecret(sources.log.control().hash_secret);
    if sources.engine.mark()? != format!("{:016x}", mark(&secret)) {
        let what = "the engine that answers writes to another data directory than this one";
        return Err(Trouble::Unable(what.to_owned()));
    }
    let mut differing = BTreeMap::new();
    if let Some(postgres) = sources.database.as_deref_mut() {
        let only = options.item.map(|item| vec![item]);
        let looked = database::look(postgres, sources.log, only.as_deref(), patience, progress)?;
        differing = database::note(looked, report);
    }
    memory::compare(sources.log, sources.engine, options, report, progress)?;
    if let Some(postgres) = sources.database.as_deref_mut() {
        database::look_again(postgres, sources.log, differing, patience, report, progress)?;
    }
    Ok(())
}

/// Adds what the places that were not part of the comparison say about the order, if they say
/// anything: it is there to be shown, and proves nothing more.
fn complete(mismatch: &mut Mismatch, sources: &mut Sources<'_>) {
    let Some(order) = mismatch.order else { return };
    if mismatch.told(Place::Memory).is_none()
        && let Ok((as_of, record)) = order_in_memory(sources, order)
    {
        mismatch.tell(Place::Memory, as_of, record);
    }
    if mismatch.told(Place::Postgres).is_none()
        && let Some(postgres) = sources.database.as_deref_mut()
        && let Ok((cursor, record)) = database::one(postgres, sources.log, order)
    {
        mismatch.tell(Place::Postgres, cursor, record);
    }
}

fn order_in_memory(sources: &Sources<'_>, order: OrderId) -> Result<(Lsn, Option<fields::Fields>), Trouble> {
    let page = sources.engine.books(order.item(), order.seq() - 1, 1, true)?;
    Ok(page.map_or((Lsn::ZERO, None), |page| (page.as_of, page.rows.into_iter().next())))
}
