//! From the data directory to shards: every item to its owner, for any number of cores. Also takes in
//! what becomes a fact before the first request. Next: [`super::replay`], and
//! [`super::demo`] for the demo's items.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use stampede_core::catalogue::Catalogue;
use stampede_core::fact::Fact;
use stampede_core::shard::{ApplyError, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, UnixMillis};
use stampede_persist::export::{HalfTaken, PreheatSink};
use stampede_persist::feed::{FactFeed as _, FeedError};
use stampede_persist::log::block::ChainHash;
use stampede_persist::log::control::Control;
use stampede_persist::log::dir::{DataDir, LogOptions, OpenError, Opened, Started, Stepped};
use stampede_persist::log::queue::{FactQueue, Producer};
use stampede_persist::log::status::LogStatus;

use super::replay::{Replay, Shards};

/// Longest time without room in the log while facts are taken over from the database.
const FULL_MAX: Duration = Duration::from_secs(5);

/// A data directory and its state.
pub struct Replayed {
    opened: Option<Opened>,
    control: Control,
    last_ms: UnixMillis,
    state: Shards,
}

impl Replayed {
    /// Opens and checks the directory, and replays it into shards for that many cores.
    pub(super) fn open(dir: &Path, options: &LogOptions, cores: usize) -> anyhow::Result<Self> {
        Self::recover(DataDir::open(dir, options)?, cores, |data, state| {
            data.recover(&mut Replay::new(state))
        })
    }

    /// Checks a directory and replays it into shards for that many cores, by `replay`.
    ///
    /// # Errors
    /// The errors of `replay`.
    pub fn recover(
        data: DataDir,
        cores: usize,
        replay: impl FnOnce(DataDir, &mut Shards) -> Result<Opened, OpenError>,
    ) -> anyhow::Result<Self> {
        let mut state = Shards::new(cores, data.hash_secret());
        state.expect_facts(data.control().durable_lsn);
        let opened = replay(data, &mut state).context("the state cannot be recovered")?;
        opened.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let durable = Lsn(opened.next_lsn().0 - 1);
        let last_ms = opened.last_ms();
        state.shards.iter_mut().for_each(|shard| shard.finish_rows(durable, last_ms));
        let (items, orders) = state.counts();
        tracing::info!(
            items,
            orders,
            facts_replayed = opened.facts_replayed(),
            durable_lsn = durable.0,
            "recovered"
        );
        Ok(Self { control: opened.control(), opened: Some(opened), last_ms, state })
    }

    /// Its control file, as of this start.
    pub fn control(&self) -> &Control {
        &self.control
    }
    /// The latest time of any fact: the sale clock does not begin before it.
    pub fn last_ms(&self) -> UnixMillis {
        self.last_ms
    }
    /// The secret under which buyers are hashed.
    pub fn secret(&self) -> HashSecret {
        self.state.secret
    }
    /// The gauges of all items.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.state.catalogue
    }
    /// The shards, by owner.
    pub fn shards(&self) -> &[Shard] {
        &self.state.shards
    }
    /// The last durable fact, before the log is started.
    pub fn durable(&self) -> Lsn {
        self.opened.as_ref().map_or(Lsn::ZERO, |opened| Lsn(opened.next_lsn().0 - 1))
    }

    /// The hash of the log's block that holds an LSN, before the log is started.
    ///
    /// # Errors
    /// When the log does not hold it, or cannot be read.
    pub fn chain_at(&self, lsn: Lsn) -> Result<ChainHash, FeedError> {
        let opened = self.opened.as_ref().expect("asked for before the log is started");
        opened.tail(lsn).chain()
    }

    /// Starts the journal; once.
    pub(super) fn start_log(
        &mut self,
        wakers: Vec<Arc<dyn Fn() + Send + Sync>>,
        on_failure: impl FnOnce(&str) + Send + 'static,
    ) -> anyhow::Result<Started> {
        let opened = self.opened.take().context("the log was started before")?;
        Ok(opened.start(wakers, on_failure)?)
    }

    /// As [`Replayed::start_log`], without threads.
    ///
    /// # Errors
    /// When segments cannot be made, or the log was started before.
    pub fn start_stepped(&mut self, wakers: Vec<Arc<dyn Fn() + Send + Sync>>) -> anyhow::Result<Stepped> {
        let opened = self.opened.take().context("the log was started before")?;
        Ok(opened.start_stepped(wakers)?)
    }

    /// The shard that owns an item.
    pub(super) fn shard_of(&mut self, item: ItemId) -> &mut Shard {
        let owner = item.owner(self.state.shards.len());
        &mut self.state.shards[owner]
    }

    /// The shards, for decisions before they are given to their owners.
    pub fn shards_mut(&mut self) -> &mut [Shard] {
        &mut self.state.shards
    }

    /// The shards, to be given to their owners.
    pub fn into_shards(self) -> Vec<Shard> {
        self.state.shards
    }
}

/// Takes facts from Postgres before the cores run: the owner's shard checks each by the rules of replay, and
/// only accepted facts go into the log.
pub struct Intake<'a> {
    replayed: &'a mut Replayed,
    log: Producer,
    status: &'a LogStatus,
}

impl<'a> Intake<'a> {
    /// Into this state and into the queue of a running journal, whose status shows whether it has room.
    pub fn new(replayed: &'a mut Replayed, queue: &Arc<FactQueue>, status: &'a LogStatus) -> Self {
        Self { replayed, log: queue.producer(), status }
    }

    fn accept(&mut self, fact: &Fact<'_>) -> Result<(), ApplyError> {
        let shards = &mut self.replayed.state.shards;
        let owner = fact.item().map_or(0, |item| item.owner(shards.len()));
        let lsn = shards[owner].accept(fact, &mut self.log)?;
        if fact.item().is_none() {
            shards[1..].iter_mut().try_for_each(|shard| shard.apply(lsn, fact))?;
        }
        Ok(())
    }
}

/// Waits a millisecond for the journal.
///
/// # Errors
/// It has failed, or has had no room on the disk for [`FULL_MAX`]: no old segments are deleted before the
/// import has ended.
pub(super) fn wait_for_room(log: &LogStatus, full_since: &mut Option<Instant>) -> Result<(), String> {
    check_room(log.failure(), log.is_full(), full_since, Instant::now())?;
    std::thread::park_timeout(Duration::from_millis(1));
    Ok(())
}

/// Whether waiting for room may go on, at this moment.
fn check_room(
    failure: Option<&str>,
    is_full: bool,
    full_since: &mut Option<Instant>,
    now: Instant,
) -> Result<(), String> {
    if let Some(reason) = failure {
        return Err(format!("the log has failed: {reason}"));
    }
    let since = *full_since.get_or_insert(now);
    if !is_full {
        *full_since = None;
    } else if now.saturating_duration_since(since) > FULL_MAX {
        return Err(
            "the log has no room for what the database holds: raise log.bytes_max, or free space on \
             the disk, and start again"
                .to_owned(),
        );
    }
    Ok(())
}

impl PreheatSink for Intake<'_> {
    fn knows_item(&mut self, item: ItemId) -> bool {
        self.replayed.state.catalogue.find(item).is_some()
    }
    fn half_taken(&mut self, item: ItemId) -> Option<HalfTaken> {
        let shard = self.replayed.shard_of(item);
        let view = if shard.is_half_imported(item) { shard.item(item) } else { None };
        view.map(|item| HalfTaken {
            granted: item.granted,
            held: item.held,
            sold: item.sold,
            last_seq: item.accepted,
        })
    }
    fn has_room(&mut self, item: ItemId, orders: u64) -> bool {
        self.replayed.shard_of(item).has_room_for_item(orders)
    }
    fn knows_blocked(&mut self, subject: &[u8]) -> bool {
        let buyer = self.replayed.state.secret.buyer(subject);
        self.replayed.state.shards[0].is_blocked(buyer)
    }
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let mut full_since = None;
        while !self.log.has_room() {
            self.log.flush();
            wait_for_room(self.status, &mut full_since)?;
        }
        let accepted = self.accept(fact);
        self.log.flush();
        accepted.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_failed_ends_the_import_at_once() {
        let mut since = None;
        for is_full in [false, true] {
            let said = check_room(Some("the disk is gone"), is_full, &mut since, Instant::now());
            assert_eq!(said, Err("the log has failed: the disk is gone".to_owned()));
        }
    }

    #[test]
    fn a_log_that_stays_full_ends_the_import_a_busy_one_does_not() {
        let begin = Instant::now();
        let mut since = None;
        let mut look = |is_full, at: Duration| check_room(None, is_full, &mut since, begin + at);
        // Busy for as long as one likes: the queue is drained as fast as the disk takes it.
        assert_eq!(look(false, Duration::ZERO), Ok(()));
        assert_eq!(look(false, FULL_MAX * 100), Ok(()));
        // Full for a while, then not: the time begins anew.
        assert_eq!(look(true, FULL_MAX * 200), Ok(()));
        assert_eq!(look(true, FULL_MAX * 201), Ok(()));
        assert_eq!(look(false, FULL_MAX * 202), Ok(()));
        assert_eq!(look(true, FULL_MAX * 300), Ok(()));
        assert_eq!(look(true, FULL_MAX * 301), Ok(()));
        let said = look(true, FULL_MAX * 301 + Duration::from_millis(1)).unwrap_err();
        assert!(said.contains("raise log.bytes_max, or free space on the disk"), "{said}");
    }
}
