//! The state at the end of the log, as far as a refill keeps it in memory: items, the blocklist,
//! and the numbers of the orders. The orders themselves are written as they are read.

use std::collections::BTreeMap;

use stampede_core::gauge::Rules;
use stampede_core::item::{ItemSpec, Pile};
use stampede_core::record::OrderRecord;
use stampede_core::state_row::{AuditAction, StateRow};
use stampede_core::types::{ItemId, Lsn, UnixMillis};

use crate::export::batch::Piles;
use crate::export::ledger::Ledger;
use crate::export::text;
use crate::feed::History;

/// The state. Memory: 8 bytes an order.
#[derive(Default)]
pub(super) struct StateNow {
    pub(super) items: BTreeMap<ItemId, ItemNow>,
    /// Numbers of all orders, ascending.
    pub(super) orders: Vec<u64>,
    /// By the buyer as text.
    pub(super) blocked: BTreeMap<String, BlockedNow>,
}

/// An item.
pub(super) struct ItemNow {
    pub(super) item: ItemId,
    pub(super) name: String,
    pub(super) piles: Piles,
    spec: ItemSpec<'static>,
    flags: u8,
}

/// Who blocked a buyer, as far as the audit trail goes back.
#[derive(Default)]
pub(super) struct BlockedNow {
    pub(super) actor: String,
    pub(super) since_ms: UnixMillis,
    pub(super) lsn: Lsn,
}

impl ItemNow {
    pub(super) fn spec(&self) -> ItemSpec<'_> {
        ItemSpec { name: &self.name, ..self.spec }
    }

    /// Its books, without a stock row. Outside edits that the engine has not answered are dropped: it
    /// is not known which answers are in the snapshot, and units granted twice would be worse than
    /// an edit that has to be made again.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            facts: self.piles,
            paused: self.flags & Rules::PAUSED != 0,
            closed: self.flags & Rules::CLOSED != 0,
            ended: self.flags & Rules::ENDED != 0,
            ..Ledger::new(self.name.clone())
        }
    }
}

impl StateNow {
    pub(super) fn of(history: &dyn History) -> Self {
        let mut now = Self::default();
        history.state(&mut |row| now.take(&row));
        // Where the audit trail does not go back far enough: the time of the snapshot.
        for blocked in now.blocked.values_mut().filter(|blocked| blocked.lsn == Lsn::ZERO) {
            (blocked.lsn, blocked.since_ms) = (history.snapshot_lsn(), history.snapshot_ms());
        }
        // Several shards deliver their rows one after the other.
        now.orders.sort_unstable();
        now
    }

    fn take(&mut self, row: &StateRow<'_>) {
        match *row {
            StateRow::Item { item, ref spec, granted, flags, .. } => {
                let count = i64::try_from(granted).expect("STOCK_MAX fits a signed column");
                let (name, piles) = (spec.name.to_owned(), Piles { count, held: 0, sale: 0 });
                let spec = ItemSpec { name: "", ..*spec };
                self.items.insert(item, ItemNow { item, name, piles, spec, flags });
            }
            StateRow::Order { .. } => {
                let record = OrderRecord::of_row(row).expect("the row of an order");
                self.orders.push(record.order.get());
                let item = self.items.get_mut(&record.order.item()).expect("items come before their orders");
                let live = record.quantity.get().saturating_sub(record.refunded);
                item.piles.shift_units(Pile::Available, record.state.pile(), live);
            }
            StateRow::Blocked { subject } => {
                self.blocked.entry(text::escape(subject)).or_default();
            }
            StateRow::Audit(audit) if audit.action == AuditAction::BuyerBlocked => {
                if let Some(blocked) = self.blocked.get_mut(&text::escape(audit.subject)) {
                    let (actor, since_ms) = (audit.actor.to_owned(), audit.at_ms);
                    *blocked = BlockedNow { actor, since_ms, lsn: audit.lsn };
                }
            }
            StateRow::Audit(_) | StateRow::Money(_) | StateRow::Call(_) => {}
        }
    }
}
