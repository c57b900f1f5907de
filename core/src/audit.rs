//! The audit trail in memory: the merchant's latest changes, oldest dropped first.
//!
//! The log keeps them all; this is what `GET /admin/audit` shows at once.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use crate::fact::{ACTOR_BUYER, ACTOR_CLOCK, Fact, Switch};
use crate::item::OrderState;
use crate::limits::AUDIT_ENTRIES_MAX;
use crate::state_row::{AuditAction, AuditRow};
use crate::types::{Lsn, UnixMillis};

struct Entry {
    row: AuditRow<'static>,
    actor: Box<str>,
    subject: Box<[u8]>,
}

impl Entry {
    fn new(row: &AuditRow<'_>) -> Self {
        let row = *row;
        Self {
            actor: row.actor.into(),
            subject: row.subject.into(),
            row: AuditRow { actor: "", subject: &[], ..row },
        }
    }
    fn view(&self) -> AuditRow<'_> {
        AuditRow { actor: &self.actor, subject: &self.subject, ..self.row }
    }
}

/// The last [`AUDIT_ENTRIES_MAX`] changes, by LSN.
pub(crate) struct Audit {
    entries: VecDeque<Entry>,
}

impl Audit {
    pub(crate) const fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, row: &AuditRow<'_>) {
        if self.entries.len() == AUDIT_ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry::new(row));
    }

    /// Records a fact if a merchant caused it.
    pub(crate) fn note(&mut self, lsn: Lsn, fact: &Fact<'_>) {
        if let Some(row) = audit_row(lsn, fact) {
            self.push(&row);
        }
    }

    /// The entries above `after`, oldest first.
    pub(crate) fn after(&self, after: Lsn) -> impl Iterator<Item = AuditRow<'_>> {
        let first = self.entries.partition_point(|entry| entry.row.lsn <= after);
        self.entries.range(first..).map(Entry::view)
    }

    /// The entries below `before`, newest first; 0 = all.
    pub(crate) fn before(&self, before: Lsn) -> impl Iterator<Item = AuditRow<'_>> {
        let end = match before {
            Lsn::ZERO => self.entries.len(),
            before => self.entries.partition_point(|entry| entry.row.lsn < before),
        };
        self.entries.range(..end).rev().map(Entry::view)
    }
}

fn audit_row<'a>(lsn: Lsn, fact: &Fact<'a>) -> Option<AuditRow<'a>> {
    let row = |action, at_ms: UnixMillis, actor| AuditRow {
        lsn,
        at_ms,
        action,
        item: fact.item(),
        order: None,
        units: 0,
        actor,
        subject: &[],
    };
    match *fact {
        Fact::ItemCreated { at_ms, granted, actor, .. } => {
            Some(AuditRow { units: granted as i64, ..row(AuditAction::ItemCreated, at_ms, actor) })
        }
        Fact::ItemChanged { at_ms, actor, .. } => Some(row(AuditAction::ItemChanged, at_ms, actor)),
        Fact::StockAdjusted { at_ms, delta, actor, .. } => {
            Some(AuditRow { units: delta, ..row(AuditAction::StockAdjusted, at_ms, actor) })
        }
        Fact::ItemSwitched { at_ms, switch, actor, .. } => {
            let action = match switch {
                Switch::Paused => AuditAction::Paused,
                Switch::Resumed => AuditAction::Resumed,
                Switch::Closed => AuditAction::Closed,
                Switch::Ended => return None,
            };
            Some(row(action, at_ms, actor))
        }
        Fact::OrderMoved { at_ms, order, quantity, to, actor, .. } => {
            let action = match to {
                OrderState::Cancelled if actor != ACTOR_BUYER && actor != ACTOR_CLOCK => {
                    AuditAction::OrderCancelled
                }
                OrderState::Refunded => AuditAction::OrderRefunded,
                _ => return None,
            };
            let units = i64::from(quantity.get());
            Some(AuditRow { order: Some(order), units, ..row(action, at_ms, actor) })
        }
        Fact::OrderRefunded { at_ms, order, units, actor, .. } => {
            let units = i64::from(units.get());
            Some(AuditRow { order: Some(order), units, ..row(AuditAction::OrderRefunded, at_ms, actor) })
        }
        Fact::LatePaymentReturned { at_ms, order, actor, .. } => {
            Some(AuditRow { order: Some(order), ..row(AuditAction::LatePaymentReturned, at_ms, actor) })
        }
        Fact::BuyerBlocked { at_ms, subject, blocked, actor } => {
            let action = if blocked { AuditAction::BuyerBlocked } else { AuditAction::BuyerUnblocked };
            Some(AuditRow { subject, ..row(action, at_ms, actor) })
        }
        Fact::OrderPlaced { .. }
        | Fact::PaymentLate { .. }
        | Fact::HoldExtended { .. }
        | Fact::DrawHeld { .. }
        | Fact::EntryDrawn { .. }
        | Fact::OrderImported { .. }
        | Fact::ClockMark { .. } => None,
    }
}
