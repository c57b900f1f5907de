//! Rows of `stock` and `stock_order` that anybody may have written, checked value by value.
//!
//! Each row gives either values that facts can hold, or a reason. Whether the values fit together
//! is not checked here but by the checks of replay. Next: [`super::preheat`].

use stampede_core::fact::{Fact, ImportedMoney};
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, PAYMENT_REF_BYTES_MAX, PRICE_MINOR_MAX, STOCK_MAX, SUBJECT_BYTES_MAX,
    UNIX_MILLIS_MAX,
};
use stampede_core::money::Price;
use stampede_core::types::{OrderId, Quantity, UnixMillis};

use super::store::{OrderRecord, Piles, StockRecord};
use super::text;

const HAS_NULL: &str = "a column is NULL that must not be";
const STOCK_RANGE: &str = "its stock is out of range";

/// A row of `stock`, checked.
pub(super) struct StockSettings {
    name: String,
    pub(super) granted: u64,
    pub(super) held: u64,
    pub(super) sale: u64,
    pub(super) paused: bool,
    pub(super) closed: bool,
    pub(super) ended: bool,
    spec: ItemSpec<'static>,
}

impl StockSettings {
    pub(super) fn read(row: &StockRecord) -> Result<Self, String> {
        if row.has_null {
            return Err(HAS_NULL.to_owned());
        }
        let (name, Piles { count, held, sale }) = (row.name.clone(), row.piles);
        let units = |units: i64| u64::try_from(units).ok().filter(|units| *units <= STOCK_MAX);
        let piles = units(count).zip(units(held)).zip(units(sale));
        let ((count, held), sale) = piles.ok_or(STOCK_RANGE)?;
        let granted = count + held + sale;
        if granted > STOCK_MAX {
            return Err(STOCK_RANGE.to_owned());
        }
        let spec = read_spec(row)?;
        ItemSpec { name: &name, ..spec }
            .check()
            .map_err(|wrong| format!("{}: {}", wrong.field, wrong.reason))?;
        let (paused, closed, ended) = (row.paused, row.closed, row.ended);
        Ok(Self { name, granted, held, sale, paused, closed, ended, spec })
    }

    /// Whether the import of the item needs switches.
    pub(super) const fn is_switched(&self) -> bool {
        self.paused || self.closed || self.ended
    }

    pub(super) fn spec(&self) -> ItemSpec<'_> {
        ItemSpec { name: &self.name, ..self.spec }
    }
}

/// The settings in a row, without the name.
fn read_spec(row: &StockRecord) -> Result<ItemSpec<'static>, String> {
    Ok(ItemSpec {
        name: "",
        price_minor: in_range(row.price_minor, "price_minor")?,
        currency: row.currency.as_bytes().try_into().map_err(|_| "currency: not three letters")?,
        opens_at_ms: UnixMillis(in_range(row.opens_at_ms, "opens_at_ms")?),
        closes_at_ms: UnixMillis(in_range(row.closes_at_ms, "closes_at_ms")?),
        cap: in_range(row.cap.into(), "cap")?,
        payment: Payment::from_name(&row.payment).ok_or("payment: no such kind")?,
        hold_ms: in_range(row.hold_ms, "hold_ms")?,
        ticket: TicketRule::from_name(&row.ticket).ok_or("ticket: no such rule")?,
        challenge: ChallengeRule::from_name(&row.challenge).ok_or("challenge: no such rule")?,
        min_level: in_range(row.min_level.into(), "min_level")?,
        min_account_age_s: in_range(row.min_account_age_s, "min_account_age_s")?,
        admit_per_s: in_range(row.admit_per_s, "admit_per_s")?,
        draw_ms: 0,
    })
}

fn in_range<T: TryFrom<i64>>(value: i64, name: &str) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{name}: out of range"))
}

/// A row of `stock_order`, checked.
pub(super) struct ImportedOrder {
    pub(super) id: OrderId,
    pub(super) quantity: Quantity,
    pub(super) state: OrderState,
    created_at_ms: UnixMillis,
    pay_by_ms: UnixMillis,
    subject: Vec<u8>,
    key: Vec<u8>,
    payment_ref: Vec<u8>,
    refund_ref: Vec<u8>,
    refunded: u32,
    price: Price,
}

impl ImportedOrder {
    pub(super) fn read(row: &OrderRecord) -> Result<Self, String> {
        if row.has_null {
            return Err(HAS_NULL.to_owned());
        }
        let (units, state) = (row.quantity, row.state.as_str());
        Ok(Self {
            id: u64::try_from(row.id).ok().and_then(OrderId::from_u64).ok_or("no order id")?,
            quantity: u64::try_from(units).ok().and_then(Quantity::new).ok_or("quantity out of range")?,
            state: OrderState::from_name(state).ok_or_else(|| format!("no such state: {state}"))?,
            created_at_ms: moment(row.create_time_ms)?,
            pay_by_ms: moment(row.pay_by_ms)?,
            subject: subject_of(&row.buyer).ok_or("the buyer is not 1 to 255 bytes")?,
            key: bytes_of(&row.idem_key, IDEMPOTENCY_KEY_BYTES_MAX)
                .ok_or("the idempotency key is too long")?,
            payment_ref: bytes_of(&row.payment_ref, PAYMENT_REF_BYTES_MAX)
                .ok_or("the payment reference is too long")?,
            refund_ref: bytes_of(&row.refund_ref, PAYMENT_REF_BYTES_MAX)
                .ok_or("the refund's reference is too long")?,
            refunded: u32::try_from(row.refunded).map_err(|_| "refunded is below 0")?,
            price: price_of(row.price_minor, &row.currency)?,
        })
    }

    pub(super) fn fact(&self, at_ms: UnixMillis) -> Fact<'_> {
        Fact::OrderImported {
            at_ms,
            order: self.id,
            quantity: self.quantity,
            state: self.state,
            created_at_ms: self.created_at_ms,
            pay_by_ms: self.pay_by_ms,
            subject: &self.subject,
            key: &self.key,
            payment_ref: &self.payment_ref,
            money: ImportedMoney { price: self.price, refund_ref: &self.refund_ref, refunded: self.refunded },
        }
    }
}

/// A price without a currency is not known.
fn price_of(minor: i64, currency: &str) -> Result<Price, &'static str> {
    if currency.is_empty() {
        return Ok(Price::UNKNOWN);
    }
    let minor = u64::try_from(minor)
        .ok()
        .filter(|&minor| minor <= PRICE_MINOR_MAX)
        .ok_or("price_minor is out of range")?;
    let letters: Option<[u8; 3]> = currency.as_bytes().try_into().ok();
    let letters = letters.filter(|code| code.iter().all(u8::is_ascii_uppercase));
    Ok(Price { minor, currency: letters.ok_or("currency is not three upper-case letters")? })
}

fn moment(at_ms: i64) -> Result<UnixMillis, &'static str> {
    let at_ms = u64::try_from(at_ms).map_err(|_| "a time before 1970, or one that is not finite")?;
    if at_ms > UNIX_MILLIS_MAX { Err("a time beyond the year 9999") } else { Ok(UnixMillis(at_ms)) }
}

/// The bytes of a buyer, if they are a buyer's.
pub(super) fn subject_of(buyer: &str) -> Option<Vec<u8>> {
    bytes_of(buyer, SUBJECT_BYTES_MAX).filter(|subject| !subject.is_empty())
}

fn bytes_of(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    text::unescape(text).filter(|bytes| bytes.len() <= bytes_max)
}
