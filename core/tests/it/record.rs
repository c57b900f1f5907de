//! Facts and rows that outlive their shard, as a test needs them to replay and to mutate.
//!
//! Strings are interned for the life of the process: a history draws them from small
//! sets, so that little is ever kept.

use std::cell::RefCell;
use std::collections::BTreeSet;

use stampede_core::fact::{Fact, ImportedMoney};
use stampede_core::item::ItemSpec;
use stampede_core::money::MoneyRow;
use stampede_core::shard::{Accepted, FactSink};
use stampede_core::state_row::{AuditRow, StateRow};
use stampede_core::types::Lsn;

thread_local! {
    static POOL: RefCell<BTreeSet<&'static [u8]>> = const { RefCell::new(BTreeSet::new()) };
}

/// The same bytes, for ever.
pub(crate) fn keep(bytes: &[u8]) -> &'static [u8] {
    POOL.with_borrow_mut(|pool| match pool.get(bytes) {
        Some(kept) => kept,
        None => {
            let kept: &'static [u8] = bytes.to_vec().leak();
            pool.insert(kept);
            kept
        }
    })
}

/// The same text, for ever.
pub(crate) fn keep_str(text: &str) -> &'static str {
    std::str::from_utf8(keep(text.as_bytes())).expect("was text")
}

pub(crate) fn keep_spec(spec: &ItemSpec<'_>) -> ItemSpec<'static> {
    ItemSpec { name: keep_str(spec.name), ..*spec }
}

/// A sink that keeps every fact and numbers them from 1.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) facts: Vec<(Lsn, Fact<'static>)>,
}

impl FactSink for Recorder {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        let lsn = Lsn(self.facts.len() as u64 + 1);
        self.facts.push((lsn, keep_fact(&fact)));
        lsn
    }
}

pub(crate) fn keep_fact(fact: &Fact<'_>) -> Fact<'static> {
    match *fact {
        Fact::ItemCreated { at_ms, item, ref spec, granted, seed, actor } => {
            Fact::ItemCreated { at_ms, item, spec: keep_spec(spec), granted, seed, actor: keep_str(actor) }
        }
        Fact::ItemChanged { at_ms, item, ref spec, seed, actor } => {
            Fact::ItemChanged { at_ms, item, spec: keep_spec(spec), seed, actor: keep_str(actor) }
        }
        Fact::StockAdjusted { at_ms, item, delta, actor, key } => {
            Fact::StockAdjusted { at_ms, item, delta, actor: keep_str(actor), key: keep(key) }
        }
        Fact::ItemSwitched { at_ms, item, switch, actor, key } => {
            Fact::ItemSwitched { at_ms, item, switch, actor: keep_str(actor), key: keep(key) }
        }
        Fact::BuyerBlocked { at_ms, subject, blocked, actor } => {
            Fact::BuyerBlocked { at_ms, subject: keep(subject), blocked, actor: keep_str(actor) }
        }
        Fact::ClockMark { at_ms } => Fact::ClockMark { at_ms },
        Fact::DrawHeld { at_ms, item, entries, units, seed } => {
            Fact::DrawHeld { at_ms, item, entries, units, seed }
        }
        Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms } => {
            Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms }
        }
        Fact::OrderPlaced { .. }
        | Fact::OrderMoved { .. }
        | Fact::OrderRefunded { .. }
        | Fact::PaymentLate { .. }
        | Fact::LatePaymentReturned { .. }
        | Fact::HoldExtended { .. }
        | Fact::OrderImported { .. } => keep_order_fact(fact),
    }
}

fn keep_order_fact(fact: &Fact<'_>) -> Fact<'static> {
    match *fact {
        Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price } => {
            let (subject, key) = (keep(subject), keep(key));
            Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price }
        }
        Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, actor } => {
            let (payment_ref, actor) = (keep(payment_ref), keep_str(actor));
            Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, actor }
        }
        Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, actor } => {
            let (refund_ref, actor) = (keep(refund_ref), keep_str(actor));
            Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, actor }
        }
        Fact::PaymentLate { at_ms, order, payment_ref, actor } => {
            let (payment_ref, actor) = (keep(payment_ref), keep_str(actor));
            Fact::PaymentLate { at_ms, order, payment_ref, actor }
        }
        Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, actor } => {
            let (payment_ref, refund_ref, actor) = (keep(payment_ref), keep(refund_ref), keep_str(actor));
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, actor }
        }
        Fact::HoldExtended { at_ms, order, quantity, state, pay_by_ms, actor } => {
            Fact::HoldExtended { at_ms, order, quantity, state, pay_by_ms, actor: keep_str(actor) }
        }
        Fact::OrderImported {
            at_ms,
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject,
            key,
            payment_ref,
            money,
        } => Fact::OrderImported {
            at_ms,
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject: keep(subject),
            key: keep(key),
            payment_ref: keep(payment_ref),
            money: ImportedMoney { refund_ref: keep(money.refund_ref), ..money },
        },
        _ => panic!("{} is of no order", fact.kind_name()),
    }
}

pub(crate) fn keep_row(row: &StateRow<'_>) -> StateRow<'static> {
    match *row {
        StateRow::Item { item, ref spec, granted, flags, epoch, draw, version, last_seq, lsn } => {
            let spec = keep_spec(spec);
            StateRow::Item { item, spec, granted, flags, epoch, draw, version, last_seq, lsn }
        }
        StateRow::Order { .. } => keep_order_row(row),
        StateRow::Money(row) => StateRow::Money(MoneyRow { reference: keep(row.reference), ..row }),
        StateRow::Call(row) => StateRow::Call(row),
        StateRow::Blocked { subject } => StateRow::Blocked { subject: keep(subject) },
        StateRow::Audit(ref row) => StateRow::Audit(keep_audit(row)),
    }
}

fn keep_order_row(row: &StateRow<'_>) -> StateRow<'static> {
    let StateRow::Order {
        order,
        quantity,
        state,
        created_at_ms,
        pay_by_ms,
        lsn,
        state_lsn,
        key_hash,
        payment_ref_hash,
        entry,
        drawn,
        key,
        price,
        refunded,
        subject,
    } = *row
    else {
        panic!("only orders come here")
    };
    StateRow::Order {
        order,
        quantity,
        state,
        created_at_ms,
        pay_by_ms,
        lsn,
        state_lsn,
        key_hash,
        payment_ref_hash,
        entry,
        drawn,
        subject: keep(subject),
        key: keep(key),
        price,
        refunded,
    }
}

pub(crate) fn keep_audit(row: &AuditRow<'_>) -> AuditRow<'static> {
    AuditRow { actor: keep_str(row.actor), subject: keep(row.subject), ..*row }
}
