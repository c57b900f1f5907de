//! A snapshot's row as bytes: a kind byte and its fields.
//!
//! Kinds are never renumbered. Next: [`crate::log::snapshot`].

use stampede_core::draw::{DrawRow, Drawn};
use stampede_core::gauge::Rules;
use stampede_core::item::ItemSpec;
use stampede_core::limits::{FACT_BYTES_MAX, STOCK_MAX};
use stampede_core::money::{MoneyKind, MoneyRow, Price};
use stampede_core::state_row::{AuditAction, AuditRow, CallRow, StateRow};
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};

use super::DecodeError;
use super::bytes::{Reader, Writer};

/// The old layout of an item, before it had an epoch; read only.
const ITEM_WITHOUT_EPOCH: u8 = 1;
/// The old layout of an order, before it had its texts and its price; read only.
const ORDER_WITHOUT_TEXTS: u8 = 2;
const BLOCKED: u8 = 3;
const AUDIT: u8 = 4;
const ITEM: u8 = 5;
const ITEM_WITH_DRAW: u8 = 6;
/// The same for an order of a draw; read only.
const ORDER_OF_DRAW_WITHOUT_TEXTS: u8 = 7;
const ORDER: u8 = 8;
const MONEY: u8 = 9;
const CALL: u8 = 10;

/// The bits of an item's flags in use: paused, closed, ended, importing; with a draw also: drawn.
const ITEM_FLAGS_MASK: u8 = Rules::PAUSED | Rules::CLOSED | Rules::ENDED | Rules::IMPORTING;
/// Marks of an order of a draw: placed as an entry, drawn.
const ENTRY: u8 = 1;
const DRAWN: u8 = 2;

/// Most bytes of one encoded row.
pub const ROW_BYTES_MAX: usize = FACT_BYTES_MAX;

/// The stable number of a row's kind.
pub const fn row_kind(row: &StateRow<'_>) -> u8 {
    match row {
        StateRow::Item { draw: Some(_), .. } => ITEM_WITH_DRAW,
        StateRow::Item { .. } => ITEM,
        StateRow::Order { .. } => ORDER,
        StateRow::Money(_) => MONEY,
        StateRow::Call(_) => CALL,
        StateRow::Blocked { .. } => BLOCKED,
        StateRow::Audit(_) => AUDIT,
    }
}

/// Writes a row, kind first, and returns its length, at most [`ROW_BYTES_MAX`].
///
/// # Panics
/// When the buffer is shorter than that, or a value lies outside its bound.
pub fn encode_row(row: &StateRow<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.u8(row_kind(row));
    match *row {
        StateRow::Item { item, ref spec, granted, flags, epoch, ref draw, version, last_seq, lsn } => {
            assert!(
                granted <= STOCK_MAX && flags & !flags_mask(draw.is_some()) == 0,
                "an item keeps its bounds"
            );
            w.u32(item.get());
            w.u64(granted);
            w.u8(flags);
            w.u64(version);
            w.u32(last_seq);
            w.u64(lsn.0);
            w.u32(epoch);
            match draw {
                None => w.spec(spec),
                Some(draw) => encode_draw(spec, draw, &mut w),
            }
        }
        StateRow::Order { .. } => encode_order(row, &mut w),
        StateRow::Money(ref money) => encode_money(money, &mut w),
        StateRow::Call(ref call) => {
            w.u32(call.item.get());
            w.u64(call.key_hash);
            w.i64(call.asked);
            w.u64(call.lsn.0);
        }
        StateRow::Blocked { subject } => w.subject(subject),
        StateRow::Audit(ref audit) => encode_audit(audit, &mut w),
    }
    w.len()
}

const fn flags_mask(draw: bool) -> u8 {
    if draw { ITEM_FLAGS_MASK | Rules::DRAWN } else { ITEM_FLAGS_MASK }
}

/// The inputs of a draw are zero until it is held.
fn encode_draw(spec: &ItemSpec<'_>, draw: &DrawRow, w: &mut Writer<'_>) {
    let none = Drawn { at_ms: UnixMillis(0), units: 0, entries: 0, last_seq: 0 };
    let Drawn { at_ms, units, entries, last_seq } = draw.drawn.unwrap_or(none);
    w.spec_with_draw(spec, &draw.seed);
    w.time(at_ms);
    w.u64(units);
    w.u32(entries);
    w.u32(last_seq);
}

fn encode_order(row: &StateRow<'_>, w: &mut Writer<'_>) {
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
        key,
        price,
        refunded,
        entry,
        drawn,
        subject,
    } = *row
    else {
        unreachable!("only orders come here")
    };
    w.u64(order.get());
    w.u32(quantity.get());
    w.u8(state.code());
    w.time(created_at_ms);
    w.time(pay_by_ms);
    w.u64(lsn.0);
    w.u64(state_lsn.0);
    w.u64(key_hash);
    w.u64(payment_ref_hash);
    let (entry, drawn) = (if entry { ENTRY } else { 0 }, if drawn { DRAWN } else { 0 });
    w.u8(entry | drawn);
    w.subject(subject);
    w.key(key);
    w.price(price);
    w.u32(refunded);
}

fn encode_money(money: &MoneyRow<'_>, w: &mut Writer<'_>) {
    w.u64(money.order.get());
    w.u8(money.kind.code());
    w.time(money.at_ms);
    w.u64(money.lsn.0);
    w.u32(money.units);
    w.u64(money.reference_hash);
    w.payment_ref(money.reference);
}

fn encode_audit(audit: &AuditRow<'_>, w: &mut Writer<'_>) {
    w.u64(audit.lsn.0);
    w.time(audit.at_ms);
    w.u8(audit.action.code());
    w.u32(audit.item.map_or(0, ItemId::get));
    w.u64(audit.order.map_or(0, OrderId::get));
    w.i64(audit.units);
    w.actor(audit.actor);
    w.subject_or_none(audit.subject);
}

/// Reads a row that fills the bytes; it borrows from them.
///
/// # Errors
/// See [`DecodeError`]. Never panics, whatever the bytes.
pub fn decode_row(bytes: &[u8]) -> Result<StateRow<'_>, DecodeError> {
    let mut r = Reader::new(bytes);
    let row = match r.u8("kind")? {
        kind @ (ITEM_WITHOUT_EPOCH | ITEM | ITEM_WITH_DRAW) => decode_item(kind, &mut r)?,
        kind @ (ORDER | ORDER_WITHOUT_TEXTS | ORDER_OF_DRAW_WITHOUT_TEXTS) => decode_order(kind, &mut r)?,
        MONEY => StateRow::Money(decode_money(&mut r)?),
        CALL => {
            let (item, key_hash) = (r.item()?, r.u64("key_hash")?);
            let (asked, lsn) = (r.i64("asked")?, Lsn(r.u64("lsn")?));
            StateRow::Call(CallRow { item, key_hash, asked, lsn })
        }
        BLOCKED => StateRow::Blocked { subject: r.subject()? },
        AUDIT => StateRow::Audit(decode_audit(&mut r)?),
        unknown => return Err(DecodeError::Kind(u16::from(unknown))),
    };
    r.end()?;
    Ok(row)
}

fn decode_item<'a>(kind: u8, r: &mut Reader<'a>) -> Result<StateRow<'a>, DecodeError> {
    let (item, granted, flags) = (r.item()?, r.stock("granted")?, r.u8("flags")?);
    if flags & !flags_mask(kind == ITEM_WITH_DRAW) != 0 {
        return Err(DecodeError::Range("flags"));
    }
    let (version, last_seq, lsn) = (r.u64("version")?, r.u32("last_seq")?, Lsn(r.u64("lsn")?));
    let epoch = if kind == ITEM_WITHOUT_EPOCH { 0 } else { r.u32("epoch")? };
    let (spec, draw) = match kind {
        ITEM_WITH_DRAW => decode_draw(flags & Rules::DRAWN != 0, r)?,
        _ => (r.spec()?, None),
    };
    Ok(StateRow::Item { item, spec, granted, flags, epoch, draw, version, last_seq, lsn })
}

fn decode_draw<'a>(held: bool, r: &mut Reader<'a>) -> Result<(ItemSpec<'a>, Option<DrawRow>), DecodeError> {
    let (spec, seed) = r.spec_with_draw()?;
    let (at_ms, units) = (r.time("drawn_at_ms")?, r.stock("draw_units")?);
    let (entries, last_seq) = (r.u32("draw_entries")?, r.u32("draw_last_seq")?);
    if !held && (at_ms.0, units, entries, last_seq) != (0, 0, 0, 0) {
        return Err(DecodeError::Range("drawn_at_ms"));
    }
    let drawn = held.then_some(Drawn { at_ms, units, entries, last_seq });
    Ok((spec, Some(DrawRow { seed, drawn })))
}

fn decode_order<'a>(kind: u8, r: &mut Reader<'a>) -> Result<StateRow<'a>, DecodeError> {
    let (order, quantity, state) = (r.order()?, r.quantity()?, r.order_state("state")?);
    let (created_at_ms, pay_by_ms) = (r.time("created_at_ms")?, r.time("pay_by_ms")?);
    let (lsn, state_lsn) = (Lsn(r.u64("lsn")?), Lsn(r.u64("state_lsn")?));
    let (key_hash, payment_ref_hash) = (r.u64("key_hash")?, r.u64("payment_ref_hash")?);
    let marks = if kind == ORDER_WITHOUT_TEXTS { 0 } else { r.u8("marks")? };
    if marks & !(ENTRY | DRAWN) != 0 || (marks == 0 && kind == ORDER_OF_DRAW_WITHOUT_TEXTS) {
        return Err(DecodeError::Range("marks"));
    }
    let subject = r.subject()?;
    let (key, price, refunded) = match kind {
        ORDER => (r.key()?, r.price_or_none()?, r.u32("refunded")?),
        _ => (&[][..], Price::UNKNOWN, 0),
    };
    if refunded > quantity.get() {
        return Err(DecodeError::Range("refunded"));
    }
    Ok(StateRow::Order {
        order,
        quantity,
        state,
        created_at_ms,
        pay_by_ms,
        lsn,
        state_lsn,
        key_hash,
        payment_ref_hash,
        key,
        price,
        refunded,
        entry: marks & ENTRY != 0,
        drawn: marks & DRAWN != 0,
        subject,
    })
}

fn decode_money<'a>(r: &mut Reader<'a>) -> Result<MoneyRow<'a>, DecodeError> {
    let order = r.order()?;
    let kind = MoneyKind::from_code(r.u8("kind")?).ok_or(DecodeError::Range("kind"))?;
    let (at_ms, lsn, units) = (r.time("at_ms")?, Lsn(r.u64("lsn")?), r.u32("units")?);
    let (reference_hash, reference) = (r.u64("reference_hash")?, r.payment_ref()?);
    Ok(MoneyRow { order, kind, at_ms, lsn, units, reference_hash, reference })
}

fn decode_audit<'a>(r: &mut Reader<'a>) -> Result<AuditRow<'a>, DecodeError> {
    let (lsn, at_ms) = (Lsn(r.u64("lsn")?), r.time("at_ms")?);
    let action = AuditAction::from_code(r.u8("action")?).ok_or(DecodeError::Range("action"))?;
    let item = match r.u32("item")? {
        0 => None,
        id => Some(ItemId::new(u64::from(id)).ok_or(DecodeError::Range("item"))?),
    };
    let order = match r.u64("order")? {
        0 => None,
        id => Some(OrderId::from_u64(id).ok_or(DecodeError::Range("order"))?),
    };
    let units = r.stock_delta("units")?;
    Ok(AuditRow { lsn, at_ms, action, item, order, units, actor: r.actor()?, subject: r.subject_or_none()? })
}
