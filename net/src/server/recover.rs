//! From the data directory to shards: every item to its owner, whatever the number of cores.
//! And what else becomes a fact before the first request. Next: [`super::replay`], and
//! [`super::demo`] for the demo's items.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use stampede_core::catalogue::Catalogue;
use stampede_core::fact::Fact;
use stampede_core::shard::Shard;
use stampede_core::types::{HashSecret, ItemId, Lsn, UnixMillis};
use stampede_persist::export::preheat::PreheatSink;
use stampede_persist::feed::{FactFeed as _, FeedError};
use stampede_persist::log::block::ChainHash;
use stampede_persist::log::control::Control;
use stampede_persist::log::dir::{DataDir, LogOptions, OpenError, Opened, Started, Stepped};
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::rebuild::Rebuild as _;

use super::replay::{Replay, Shards};

/// A data directory and the state that was in it.
pub struct Replayed {
    opened: Option<Opened>,
    control: Control,
    last_ms: UnixMillis,
    state: Shards,
}

impl Replayed {
    /// Opens the directory, checks it, and replays it into shards for that many cores.
    pub(super) fn open(dir: &Path, options: &LogOptions, cores: usize) -> anyhow::Result<Self> {
        Self::recover(DataDir::open(dir, options)?, cores, |data, state| {
            data.recover(&mut Replay::new(state))
        })
    }

    /// Checks a directory and replays it into shards for that many cores, by `replay`.
    ///
    /// # Errors
    /// What `replay` answers.
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

    /// What its control file says after this start.
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

    /// The shards, to be given to their owners.
    pub fn into_shards(self) -> Vec<Shard> {
        self.state.shards
    }
}

/// Takes facts before the cores run: appends each to the log and applies it.
pub(super) struct Intake<'a> {
    /// The state.
    pub(super) replayed: &'a mut Replayed,
    /// The queue to the journal, which runs.
    pub(super) queue: &'a FactQueue,
}

impl PreheatSink for Intake<'_> {
    fn knows_item(&mut self, item: ItemId) -> bool {
        self.replayed.state.catalogue.find(item).is_some()
    }
    fn knows_blocked(&mut self, subject: &[u8]) -> bool {
        let buyer = self.replayed.state.secret.buyer(subject);
        self.replayed.state.shards[0].is_blocked(buyer)
    }
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        while !self.queue.has_room() {
            self.queue.flush();
            std::thread::yield_now();
        }
        let lsn = self.queue.append(fact);
        self.queue.flush();
        self.replayed.state.fact(lsn, fact)
    }
}
