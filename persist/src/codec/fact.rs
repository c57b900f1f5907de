//! A fact's payload in a record of the log.
//!
//! The kind number stands in the record's header, not here. Kinds are never
//! renumbered and a layout is never changed: a new one gets a new number.
//! Next: [`crate::log::block`].

use stampede_core::fact::{Fact, Switch};
use stampede_core::limits::STOCK_MAX;

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

/// The stable number of a fact's kind, as the record header holds it.
pub const fn fact_kind(fact: &Fact<'_>) -> u16 {
    match fact {
        Fact::ItemCreated { .. } => ITEM_CREATED,
        Fact::ItemChanged { .. } => ITEM_CHANGED,
        Fact::StockAdjusted { .. } => STOCK_ADJUSTED,
        Fact::ItemSwitched { .. } => ITEM_SWITCHED,
        Fact::OrderPlaced { .. } => ORDER_PLACED,
        Fact::OrderMoved { .. } => ORDER_MOVED,
        Fact::BuyerBlocked { .. } => BUYER_BLOCKED,
        Fact::OrderImported { .. } => ORDER_IMPORTED,
        Fact::ClockMark { .. } => CLOCK_MARK,
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
        Fact::ItemCreated { item, ref spec, granted, actor, .. } => {
            assert!(granted <= STOCK_MAX, "granted stock keeps its bound");
            w.u32(item.get());
            w.u64(granted);
            w.spec(spec);
            w.actor(actor);
        }
        Fact::ItemChanged { item, ref spec, actor, .. } => {
            w.u32(item.get());
            w.spec(spec);
            w.actor(actor);
        }
        Fact::StockAdjusted { item, delta, actor, .. } => {
            assert!(delta.unsigned_abs() <= STOCK_MAX, "a change of stock keeps its bound");
            w.u32(item.get());
            w.i64(delta);
            w.actor(actor);
        }
        Fact::ItemSwitched { item, switch, actor, .. } => {
            w.u32(item.get());
            w.u8(switch.code());
            w.actor(actor);
        }
        Fact::BuyerBlocked { subject, blocked, actor, .. } => {
            w.u8(u8::from(blocked));
            w.subject(subject);
            w.actor(actor);
        }
        Fact::ClockMark { .. } => {}
        Fact::OrderPlaced { .. } | Fact::OrderMoved { .. } | Fact::OrderImported { .. } => {
            encode_order(fact, &mut w);
        }
    }
    w.len()
}

/// The facts that concern an order: these come by the million.
fn encode_order(fact: &Fact<'_>, w: &mut Writer<'_>) {
    match *fact {
        Fact::OrderPlaced { order, quantity, state, pay_by_ms, subject, key, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(state.code());
            w.time(pay_by_ms);
            w.subject(subject);
            w.key(key);
        }
        Fact::OrderMoved { order, quantity, from, to, payment_ref, actor, .. } => {
            w.u64(order.get());
            w.u32(quantity.get());
            w.u8(from.code());
            w.u8(to.code());
            w.payment_ref(payment_ref);
            w.actor(actor);
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
        ITEM_CREATED | ITEM_CHANGED | STOCK_ADJUSTED | ITEM_SWITCHED => decode_item(kind, &mut r)?,
        ORDER_PLACED => decode_placed(&mut r)?,
        ORDER_MOVED => decode_moved(&mut r)?,
        ORDER_IMPORTED => decode_imported(&mut r)?,
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

fn decode_item<'a>(kind: u16, r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, item) = (r.time("at_ms")?, r.item()?);
    Ok(match kind {
        ITEM_CREATED => {
            let granted = r.stock("granted")?;
            Fact::ItemCreated { at_ms, item, granted, spec: r.spec()?, actor: r.actor()? }
        }
        ITEM_CHANGED => Fact::ItemChanged { at_ms, item, spec: r.spec()?, actor: r.actor()? },
        STOCK_ADJUSTED => {
            let delta = r.stock_delta("delta")?;
            Fact::StockAdjusted { at_ms, item, delta, actor: r.actor()? }
        }
        _ => {
            let switch = Switch::from_code(r.u8("switch")?).ok_or(DecodeError::Range("switch"))?;
            Fact::ItemSwitched { at_ms, item, switch, actor: r.actor()? }
        }
    })
}

fn decode_placed<'a>(r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (state, pay_by_ms) = (r.order_state("state")?, r.time("pay_by_ms")?);
    Ok(Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject: r.subject()?, key: r.key()? })
}

fn decode_moved<'a>(r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let (from, to) = (r.order_state("from")?, r.order_state("to")?);
    let (payment_ref, actor) = (r.payment_ref()?, r.actor()?);
    Ok(Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, actor })
}

fn decode_imported<'a>(r: &mut Reader<'a>) -> Result<Fact<'a>, DecodeError> {
    let (at_ms, order, quantity) = (r.time("at_ms")?, r.order()?, r.quantity()?);
    let state = r.order_state("state")?;
    let (created_at_ms, pay_by_ms) = (r.time("created_at_ms")?, r.time("pay_by_ms")?);
    let (subject, key, payment_ref) = (r.subject()?, r.key()?, r.payment_ref()?);
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
    })
}
