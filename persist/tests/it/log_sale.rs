//! A small sale to log: one item, orders with numbers, and a state that knows when
//! something is missing, doubled or out of order.

use std::path::Path;
use std::sync::Arc;

use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::disk::Disk;
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, OpenError, Opened, Stepped};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::rebuild::Rebuild;

/// Where the simulated disk keeps the log.
pub(crate) const DIR: &str = "/data";
/// Stock of the item.
pub(crate) const GRANTED: u64 = 1 << 30;

pub(crate) fn item() -> ItemId {
    ItemId::new(7).unwrap()
}

pub(crate) fn spec(name: &str) -> ItemSpec<'_> {
    ItemSpec {
        name,
        price_minor: 100,
        currency: *b"CNY",
        opens_at_ms: UnixMillis(1),
        closes_at_ms: UnixMillis(1 << 40),
        cap: 1,
        payment: Payment::OnOrder,
        hold_ms: 0,
        ticket: TicketRule::Never,
        challenge: ChallengeRule::Never,
        min_level: 0,
        min_account_age_s: 0,
        admit_per_s: 0,
        draw_ms: 0,
    }
}

fn subject(seq: u32) -> String {
    format!("buyer-{seq}-{}", "x".repeat(seq as usize % 40))
}

/// Appends the fact that belongs to the next LSN: the item first, then its orders.
pub(crate) fn append_next(queue: &Arc<FactQueue>, next: &mut u64) {
    let lsn = with_fact(*next, |fact| queue.producer().append(Accepted::forged(fact)));
    assert_eq!(lsn, Lsn(*next), "the ticket is the LSN");
    *next += 1;
}

/// Hands out the fact that belongs to an LSN.
pub(crate) fn with_fact<R>(lsn: u64, visit: impl FnOnce(&Fact<'_>) -> R) -> R {
    let at_ms = UnixMillis(1000 + lsn);
    if lsn == 1 {
        let spec = spec("phone");
        let (seed, actor) = (DrawSeed::NONE, "shop");
        return visit(&Fact::ItemCreated { at_ms, item: item(), spec, granted: GRANTED, seed, actor });
    }
    let seq = lsn as u32 - 1;
    visit(&Fact::OrderPlaced {
        at_ms,
        order: OrderId::new(item(), seq),
        quantity: Quantity::ONE,
        state: OrderState::Confirmed,
        pay_by_ms: UnixMillis(0),
        subject: subject(seq).as_bytes(),
        key: b"",
        price: stampede_core::money::Price::UNKNOWN,
    })
}

/// The state: how many facts it has seen, from rows or one by one.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) has_item: bool,
    pub(crate) orders: u32,
    pub(crate) rows: u64,
}

impl Sale {
    /// The LSN up to which it knows everything.
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
        let (spec, lsn) = (spec("phone"), self.lsn());
        let last_seq = self.orders;
        visit(StateRow::Item {
            item: item(),
            spec,
            granted: GRANTED,
            flags: 0,
            epoch: 0,
            draw: None,
            version: 1,
            last_seq,
            lsn,
        });
        for seq in 1..=self.orders {
            let lsn = Lsn(u64::from(seq) + 1);
            visit(StateRow::Order {
                order: OrderId::new(item(), seq),
                quantity: Quantity::ONE,
                state: OrderState::Confirmed,
                created_at_ms: UnixMillis(1000 + lsn.0),
                pay_by_ms: UnixMillis(0),
                lsn,
                state_lsn: lsn,
                key_hash: 0,
                payment_ref_hash: 0,
                entry: false,
                drawn: false,
                subject: subject(seq).as_bytes(),
                key: b"",
                price: stampede_core::money::Price::UNKNOWN,
                refunded: 0,
            });
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
pub(crate) fn recover_on(disk: &impl CloneDisk, options: &LogOptions) -> Result<(Sale, Opened), OpenError> {
    let mut sale = Sale::default();
    let dir = DataDir::open_on(disk.shared(), Path::new(DIR), options, &new_log())?;
    let opened = dir.recover(&mut sale)?;
    assert_eq!(opened.next_lsn(), sale.lsn().next(), "the state has seen the whole log");
    Ok((sale, opened))
}

/// As [`recover_on`], and starts it to be stepped by hand.
pub(crate) fn step_on(disk: &impl CloneDisk, options: &LogOptions) -> Result<(Sale, Stepped), OpenError> {
    let (sale, opened) = recover_on(disk, options)?;
    Ok((sale, opened.start_stepped(Vec::new())?))
}

/// A disk that can be shared.
pub(crate) trait CloneDisk {
    fn shared(&self) -> Arc<dyn Disk>;
}
impl CloneDisk for super::log_sim::SimDisk {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}
