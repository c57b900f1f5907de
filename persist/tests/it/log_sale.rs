//! A small sale for tests of the log: one item, numbered orders, and a state that notices missing,
//! repeated or misplaced facts.

use std::path::Path;
use std::sync::Arc;

use stampede_core::fact::Fact;
use stampede_core::sample::{Item, Order, item_id};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, OpenError, Opened, Stepped};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::rebuild::Rebuild;

use super::sim_disk::SimDisk;

/// Where the simulated disk keeps the log.
pub(crate) const DIR: &str = "/data";
/// Stock of the item.
pub(crate) const GRANTED: u64 = 1 << 30;

pub(crate) fn item() -> ItemId {
    item_id(7)
}

fn subject(seq: u32) -> String {
    format!("buyer-{seq}-{}", "x".repeat(seq as usize % 40))
}

/// Appends the fact of the next LSN: the item first, then its orders.
pub(crate) fn append_next(queue: &Arc<FactQueue>, next: &mut u64) {
    let lsn = with_fact(*next, |fact| queue.producer().append(Accepted::forged(fact)));
    assert_eq!(lsn, Lsn(*next), "the ticket is the LSN");
    *next += 1;
}

/// Passes on the fact of an LSN.
pub(crate) fn with_fact<R>(lsn: u64, visit: impl FnOnce(&Fact<'_>) -> R) -> R {
    let at_ms = UnixMillis(1000 + lsn);
    if lsn == 1 {
        return visit(&Item { at_ms, ..Item::new(item(), GRANTED) }.created());
    }
    let seq = lsn as u32 - 1;
    let (order, subject) = (OrderId::new(item(), seq), subject(seq));
    visit(&Order { at_ms, subject: subject.as_bytes(), ..Order::new(order) }.placed())
}

/// The state: how many facts it has seen, from rows or one by one.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) has_item: bool,
    pub(crate) orders: u32,
    pub(crate) rows: u64,
}

impl Sale {
    /// Its last LSN.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(u64::from(self.has_item) + u64::from(self.orders))
    }
    fn order(&mut self, lsn: Lsn, order: OrderId, who: &[u8]) -> Result<(), String> {
        self.orders += 1;
        let expected = (Lsn(u64::from(self.orders) + 1), OrderId::new(item(), self.orders));
        let name = subject(self.orders);
        if (lsn, order, who) == (expected.0, expected.1, name.as_bytes()) {
            Ok(())
        } else {
            Err(format!("order {order} of LSN {lsn} where {} of {} belongs", expected.1, expected.0))
        }
    }
}

impl Rebuild for Sale {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        self.rows += 1;
        match *row {
            StateRow::Item { .. } => {
                self.has_item = true;
                Ok(())
            }
            StateRow::Order { order, lsn, subject, .. } => self.order(lsn, order, subject),
            _ => Err("no such row in this sale".to_owned()),
        }
    }

    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::ItemCreated { .. } if lsn == Lsn(1) && !self.has_item => {
                self.has_item = true;
                Ok(())
            }
            Fact::OrderPlaced { order, subject, .. } => self.order(lsn, order, subject),
            _ => Err(format!("unexpected {} at LSN {lsn}", fact.kind_name())),
        }
    }

    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        if !self.has_item {
            return;
        }
        visit(Item::new(item(), GRANTED).row(self.orders, self.lsn()));
        for seq in 1..=self.orders {
            let (lsn, subject) = (Lsn(u64::from(seq) + 1), subject(seq));
            let order = Order::new(OrderId::new(item(), seq));
            let at_ms = UnixMillis(1000 + lsn.0);
            visit(Order { at_ms, subject: subject.as_bytes(), ..order }.row(lsn));
        }
    }
}

/// Small segments, a small queue: much happens in few operations.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        log_bytes_max: 4 << 20,
        free_bytes_min: 0,
        queue_slots: 64,
        queue_reserve: 16,
        snapshot_segments: 2,
        ..LogOptions::default()
    }
}

pub(crate) fn new_log() -> NewLog {
    NewLog { log_id: LogId(*b"a log of a test!"), hash_secret: [9; 16] }
}

/// Opens and recovers the log of a simulated disk.
pub(crate) fn recover_on(disk: &SimDisk, options: &LogOptions) -> Result<(Sale, Opened), OpenError> {
    let mut sale = Sale::default();
    let dir = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), options, &new_log())?;
    let opened = dir.recover(&mut sale)?;
    assert_eq!(opened.next_lsn(), sale.lsn().next(), "the state has seen the whole log");
    Ok((sale, opened))
}

/// As [`recover_on`], and starts the log without threads, for tests that step it.
pub(crate) fn step_on(disk: &SimDisk, options: &LogOptions) -> Result<(Sale, Stepped), OpenError> {
    let (sale, opened) = recover_on(disk, options)?;
    Ok((sale, opened.start_stepped(Vec::new())?))
}
