//! A fact's payload in a record of the log.
//!
//! The kind number is in the record's header, not here. Kinds are never
//! renumbered and a layout never changes: a new layout gets a new number.
//! Next: [`crate::log::block`].

use stampede_core::draw::DrawSeed;
use stampede_core::fact::{Fact, ImportedMoney, Switch};
use stampede_core::item::ItemSpec;
use stampede_core::limits::STOCK_MAX;
use stampede_core::money::Price;

use super::DecodeError;
use super::bytes::{Reader, Writer};

const ITEM_CREATED: u16 = 1;
const ITEM_CHANGED: u16 = 2;
const STOCK_ADJUSTED: u16 = 3;
const ITEM_SWITCHED: u16 = 4;
const ORDER_PLACED: u16 = 5;
const ORDER_MOVED: u16 = 6;
const BUYER_BLOCKED: u16 = 7;
const ORDER_IMPORTED: u16 = 8;
const CLOCK_MARK: u16 = 9;
const ITEM_CREATED_WITH_DRAW: u16 = 10;
const ITEM_CHANGED_WITH_DRAW: u16 = 11;
const DRAW_HELD: u16 = 12;
const ENTRY_DRAWN: u16 = 13;
const ORDER_PLACED_AT_PRICE: u16 = 14;
const ORDER_REFUNDED: u16 = 15;
const PAYMENT_LATE: u16 = 16;
const HOLD_EXTENDED: u16 = 17;
const ORDER_IMPORTED_WITH_MONEY: u16 = 18;
const STOCK_ADJUSTED_BY_KEY: u16 = 19;
const ITEM_SWITCHED_BY_KEY: u16 = 20;
const LATE_PAYMENT_RETURNED: u16 = 21;

/// The stable number of a fact's kind, as the record header holds it. Items that never had a
/// draw keep the shorter kinds.
pub fn fact_kind(fact: &Fact<'_>) -> u16 {
    match fact {
        Fact::ItemCreated { seed, .. } if !seed.is_none() => ITEM_CREATED_WITH_DRAW,
        Fact::ItemCreated { .. } => ITEM_CREATED,
        Fact::ItemChanged { seed, .. } if !seed.is_none() => ITEM_CHANGED_WITH_DRAW,
        Fact::ItemChanged { .. } => ITEM_CHANGED,
        Fact::StockAdjusted { key, .. } if !key.is_empty() => STOCK_ADJUSTED_BY_KEY,
        Fact::StockAdjusted { .. } => STOCK_ADJUSTED,
        Fact::ItemSwitched { key, .. } if !key.is_empty() => ITEM_SWITCHED_BY_KEY,
        Fact::ItemSwitched { .. } => ITEM_SWITCHED,
        Fact::OrderPlaced { price, .. } if price.known().is_some() => ORDER_PLACED_AT_PRICE,
        Fact::OrderPlaced { .. } => ORDER_PLACED,
        Fact::OrderMoved { .. } => ORDER_MOVED,
        Fact::OrderRefunded { .. } => ORDER_REFUNDED,
        Fact::PaymentLate { .. } => PAYMENT_LATE,
        Fact::LatePaymentReturned { .. } => LATE_PAYMENT_RETURNED,
        Fact::HoldExtended { .. } => HOLD_EXTENDED,
        Fact::BuyerBlocked { .. } => BUYER_BLOCKED,
        Fact::OrderImported { money, .. } if *money != ImportedMoney::NONE => ORDER_IMPORTED_WITH_MONEY,
        Fact::OrderImported { .. } => ORDER_IMPORTED,
        Fact::ClockMark { .. } => CLOCK_MARK,
        Fact::DrawHeld { .. } => DRAW_HELD,
        Fact::EntryDrawn { .. } => ENTRY_DRAWN,
    }
}

/// Writes the payload of a fact and returns its length, at most
/// [`stampede_core::limits::FACT_BYTES_MAX`].
///
/// # Panics
/// When the buffer is shorter than that, or a value lies outside its bound: facts are
/// checked when they are decided.
pub fn encode(fact: &Fact<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.time(fact.at_ms());
    match *fact {
        Fact::ItemCreated { item, ref spec, granted, ref seed, actor, .. } => {
            assert!(granted <= STOCK_MAX, "granted stock keeps its bound");
            w.u32(item.get());
            w.u64(granted);
            encode_spec(spec, seed, &mut w);
            w.actor(actor);
        }
        Fact::ItemChanged { item, ref spec, ref seed, actor, .. } => {
            w.u32(item.get());
            encode_spec(spec, seed, &mut w);
            w.actor(actor);
        }
        Fact::StockAdjusted { item, delta, actor, key, .. } => {
            assert!(delta.unsigned_abs() <= STOCK_MAX, "a change of stock keeps its bound");
            w.u32(item.get());
            w.i64(delta);
            w.actor(actor);
            w.key_if_any(key);
        }
        Fact::ItemSwitched { item, switch, actor, key, .. } => {
            w.u32(item.get());
            w.u8(switch.code());
            w.actor(actor);
            w.key_if_any(key);
        }
        Fact::BuyerBlocked { subject, blocked, actor, .. } => {
            w.u8(u8::from(blocked));
            w.subject(subject);
            w.actor(actor);
        }
        Fact::ClockMark { .. } => {}
        Fact::DrawHeld { item, entries, units, ref seed, .. } => {
            assert!(units <= STOCK_MAX && !seed.is_none(), "a draw keeps its bounds");
            w.u32(item.get());
            w.u32(entries);
            w.u64(units);
            w.seed(seed);
        }
        Fact::OrderPlaced { .. }
        | Fact::OrderRefunded { .. }
        | Fact::PaymentLate { .. }
        | Fact::LatePaymentReturned { .. }
        | Fact::HoldExtended { .. }
        | Fact::OrderMoved { .. }
        | Fact::EntryDrawn { .. }
        | Fact::OrderImported { .. } => {
            encode_order(fact, &mut w);
        }
    }
    w.len()
}

/// Settings, in the layout that [`fact_kind`] names.
fn encode_spec(spec: &ItemSpec<'_>, seed: &DrawSeed, w: &mut Writer<'_>) {
    if seed.is_none() {
        assert!(spec.draw_ms == 0, "a draw has a seed");
        w.spec(spec);
    } else {
        w.spec_with_draw(spec, seed);
    }
}

/// The facts about an order: these come by the million.
fn encode_order(fact: &Fact<'_>, w: &mut Writer<'_>) {
    match *fact {
        Fact::OrderPlaced { order, quantity, state, pay_by_ms, subject, key, price, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(state.code());
            w.time(pay_by_ms);
            w.subject(subject);
            w.key(key);
            if price.known().is_some() {
                w.price(price);
            }
        }
        Fact::OrderRefunded { order, quantity, units, refunded, refund_ref, actor, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u32(units.get());
            w.u32(refunded.get());
            w.payment_ref(refund_ref);
            w.actor(actor);
        }
        Fact::PaymentLate { order, payment_ref, actor, .. } => {
            w.u64(order.get());
            w.payment_ref(payment_ref);
            w.actor(actor);
        }
        Fact::LatePaymentReturned { order, payment_ref, refund_ref, actor, .. } => {
            w.u64(order.get());
            w.payment_ref(payment_ref);
            w.payment_ref(refund_ref);
            w.actor(actor);
        }
        Fact::HoldExtended { order, quantity, state, pay_by_ms, actor, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(state.code());
            w.time(pay_by_ms);
            w.actor(actor);
        }
        Fact::OrderMoved { order, quantity, from, to, payment_ref, actor, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(from.code());
            w.u8(to.code());
            w.payment_ref(payment_ref);
            w.actor(actor);
        }
        Fact::EntryDrawn { order, quantity, to, pay_by_ms, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(to.code());
            w.time(pay_by_ms);
        }
        Fact::OrderImported {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject,
            key,
            payment_ref,
            money,
            ..
        } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(state.code());
            w.time(created_at_ms);
            w.time(pay_by_ms);
            w.subject(subject);
            w.key(key);
            w.payment_ref(payment_ref);
            if money != ImportedMoney::NONE {
                w.price(money.price);
                w.u32(money.refunded);
                w.payment_ref(money.refund_ref);
            }
        }
        _ => unreachable!("only facts about orders come here"),
    }
}

/// Reads the payload of a fact of this kind; the fact borrows from the bytes.
///
/// # Errors
/// See [`DecodeError`]. Never panics, whatever the bytes.
pub fn decode(kind: u16, payload: &[u8]) -> Result<Fact<'_>, DecodeError> {
    let mut r = Reader::new(payload);
    let fact = match kind {
        ITEM_CREATED | ITEM_CHANGED | ITEM_CREATED_WITH_DRAW | ITEM_CHANGED_WITH_DRAW => {
            decode_settings(kind, &mut r)?
        }
        STOCK_ADJUSTED | ITEM_SWITCHED | DRAW_HELD | STOCK_ADJUSTED_BY_KEY | ITEM_SWITCHED_BY_KEY => {
            decode_item(kind, &mut r)?
        }
        ORDER_PLACED | ORDER_PLACED_AT_PRICE => decode_placed(kind, &mut r)?,
        ORDER_REFUNDED => decode_refunded(&mut r)?,
        PAYMENT_LATE => Fact::PaymentLate {
            at_ms: r.time("at_ms")?,
            order: r.order()?,
            payment_ref: r.payment_ref()?,
            actor: r.actor()?,
        },
        LATE_PAYMENT_RETURNED => Fact::LatePaymentReturned {
            at_ms: r.time("at_ms")?,
            order: r.order()?,
            payment_ref: r.payment_ref()?,
            refund_ref: r.payment_ref()?,
            actor: r.actor()?,
        },
        HOLD_EXTENDED => Fact::HoldExtended {
            at_ms: r.time("at_ms")?,
            order: r.order()?,
            quantity: r.quantity()?,
            state: r.order_state("state")?,
            pay_by_ms: r.time("pay_by_ms")?,
            actor: r.actor()?,
        },
        ORDER_MOVED => decode_moved(&mut r)?,
        ENTRY_DRAWN => decode_drawn(&mut r)?,
        ORDER_IMPORTED | ORDER_IMPORTED_WITH_MONEY => decode_imported(kind, &mut r)?,
        BUYER_BLOCKED => {
            let (at_ms, blocked) = (r.time("at_ms")?, r.bool("blocked")?);
            Fact::BuyerBlocked { at_ms, blocked, subject: r.subject()?, actor: r.actor()? }
        }
        CLOCK_MARK => Fact::ClockMark { at_ms: r.time("at_ms")? },
        unknown => return Err(DecodeError::Kind(unknown)),
    };
    r.end()?;
    Ok(fact)
}

fn decode_settings<'a>(kind: u16, r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, item) = (r.time("at_ms")?, r.item()?);
    let created = matches!(kind, ITEM_CREATED | ITEM_CREATED_WITH_DRAW);
    let granted = if created { r.stock("granted")? } else { 0 };
    let (spec, seed) = match kind {
        ITEM_CREATED | ITEM_CHANGED => (r.spec()?, DrawSeed::NONE),
        _ => r.spec_with_draw()?,
    };
    let actor = r.actor()?;
    Ok(match created {
        true => Fact::ItemCreated { at_ms, item, spec, granted, seed, actor },
        false => Fact::ItemChanged { at_ms, item, spec, seed, actor },
    })
}

fn decode_item<'a>(kind: u16, r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, item) = (r.time("at_ms")?, r.item()?);
    Ok(match kind {
        DRAW_HELD => {
            let (entries, units, seed) = (r.u32("entries")?, r.stock("units")?, r.seed()?);
            if seed.is_none() {
                return Err(DecodeError::Range("seed"));
            }
            Fact::DrawHeld { at_ms, item, entries, units, seed }
        }
        STOCK_ADJUSTED | STOCK_ADJUSTED_BY_KEY => {
            let (delta, actor) = (r.stock_delta("delta")?, r.actor()?);
            let key = if kind == STOCK_ADJUSTED_BY_KEY { r.some_key()? } else { &[] };
            Fact::StockAdjusted { at_ms, item, delta, actor, key }
        }
        _ => {
            let switch = Switch::from_code(r.u8("switch")?).ok_or(DecodeError::Range("switch"))?;
            let actor = r.actor()?;
            let key = if kind == ITEM_SWITCHED_BY_KEY { r.some_key()? } else { &[] };
            Fact::ItemSwitched { at_ms, item, switch, actor, key }
        }
    })
}

fn decode_placed<'a>(kind: u16, r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (state, pay_by_ms) = (r.order_state("state")?, r.time("pay_by_ms")?);
    let (subject, key) = (r.subject()?, r.key()?);
    let price = if kind == ORDER_PLACED { Price::UNKNOWN } else { r.price()? };
    Ok(Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price })
}

fn decode_refunded<'a>(r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (units, refunded) = (r.quantity()?, r.quantity()?);
    if units > refunded || refunded > quantity {
        return Err(DecodeError::Range("refunded"));
    }
    let (refund_ref, actor) = (r.payment_ref()?, r.actor()?);
    Ok(Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, actor })
}

fn decode_moved<'a>(r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (from, to) = (r.order_state("from")?, r.order_state("to")?);
    let (payment_ref, actor) = (r.payment_ref()?, r.actor()?);
    Ok(Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, actor })
}

fn decode_drawn<'a>(r: &mut Reader<'_>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (to, pay_by_ms) = (r.order_state("to")?, r.time("pay_by_ms")?);
    Ok(Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms })
}

fn decode_imported<'a>(kind: u16, r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let state = r.order_state("state")?;
    let (created_at_ms, pay_by_ms) = (r.time("created_at_ms")?, r.time("pay_by_ms")?);
    let (subject, key, payment_ref) = (r.subject()?, r.key()?, r.payment_ref()?);
    let money = match kind {
        ORDER_IMPORTED => ImportedMoney::NONE,
        _ => {
            let (price, refunded) = (r.price_or_none()?, r.u32("refunded")?);
            if refunded > quantity.get() {
                return Err(DecodeError::Range("refunded"));
            }
            ImportedMoney { price, refunded, refund_ref: r.payment_ref()? }
        }
    };
    Ok(Fact::OrderImported {
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
    })
}
