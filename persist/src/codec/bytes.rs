//! Writes fields into bytes and reads them back, with their checks.
//!
//! Writing asserts (the values were checked when they were decided); reading
//! returns [`DecodeError`]. Next: [`super::fact`].

use stampede_core::draw::DrawSeed;
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::limits::{
    ACTOR_BYTES_MAX, HOLD_MS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, ITEM_NAME_BYTES_MAX, PAYMENT_REF_BYTES_MAX,
    PRICE_MINOR_MAX, STOCK_MAX, SUBJECT_BYTES_MAX, UNIX_MILLIS_MAX,
};
use stampede_core::money::Price;
use stampede_core::types::{ItemId, OrderId, Quantity, UnixMillis};

use super::DecodeError;

/// Latest time in a record: the latest from outside plus the longest hold.
const TIME_MS_MAX: u64 = UNIX_MILLIS_MAX + HOLD_MS_MAX;

/// Longest name whose length is one byte, and the mark that a longer one has there.
const NAME_BYTES_SHORT: usize = 200;
const NAME_IS_LONG: u8 = 255;

/// Writes fields one after another into a buffer that is large enough.
pub(super) struct Writer<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self { out, at: 0 }
    }
    /// How many bytes were written.
    pub(super) fn len(&self) -> usize {
        self.at
    }
    pub(super) fn seed(&mut self, seed: &DrawSeed) {
        self.put(&seed.0);
    }
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    pub(super) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    pub(super) fn i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    pub(super) fn time(&mut self, value: UnixMillis) {
        assert!(value.0 <= TIME_MS_MAX, "a decided time lies before the year 10000");
        self.u64(value.0);
    }
    /// What [`Reader::spec_with_draw`] reads.
    pub(super) fn spec_with_draw(&mut self, spec: &ItemSpec<'_>, seed: &DrawSeed) {
        assert!(!seed.is_none(), "a draw has a seed");
        self.spec(spec);
        self.u32(spec.draw_ms);
        self.seed(seed);
    }
    fn var(&mut self, bytes: &[u8], len_max: usize) {
        assert!(bytes.len() <= len_max, "a decided value keeps its bound");
        self.u8(bytes.len() as u8);
        self.put(bytes);
    }
    pub(super) fn subject(&mut self, subject: &[u8]) {
        assert!(!subject.is_empty(), "a buyer has a name");
        self.var(subject, SUBJECT_BYTES_MAX);
    }
    pub(super) fn subject_or_none(&mut self, subject: &[u8]) {
        self.var(subject, SUBJECT_BYTES_MAX);
    }
    pub(super) fn key(&mut self, key: &[u8]) {
        self.var(key, IDEMPOTENCY_KEY_BYTES_MAX);
    }
    /// A field that only the kinds "by key" have.
    pub(super) fn key_if_any(&mut self, key: &[u8]) {
        if !key.is_empty() {
            self.key(key);
        }
    }
    /// A price; all zero = not known.
    pub(super) fn price(&mut self, price: Price) {
        assert!(price.minor <= PRICE_MINOR_MAX, "a decided price keeps its bound");
        self.u64(price.minor);
        self.put(&price.currency);
    }
    pub(super) fn payment_ref(&mut self, reference: &[u8]) {
        self.var(reference, PAYMENT_REF_BYTES_MAX);
    }
    pub(super) fn actor(&mut self, actor: &str) {
        self.var(actor.as_bytes(), ACTOR_BYTES_MAX);
    }
    /// The settings without those of a draw.
    pub(super) fn spec(&mut self, spec: &ItemSpec<'_>) {
        assert!(spec.check().is_ok(), "decided settings were checked");
        self.u64(spec.price_minor);
        self.time(spec.opens_at_ms);
        self.time(spec.closes_at_ms);
        self.u64(spec.hold_ms);
        self.u32(spec.cap);
        self.u32(spec.min_account_age_s);
        self.u32(spec.admit_per_s);
        self.put(&spec.currency);
        self.u8(spec.payment.code());
        self.u8(spec.ticket.code());
        self.u8(spec.challenge.code());
        self.u8(spec.min_level);
        self.name(spec.name);
    }
    /// A length byte and the name; a name of more than 200 bytes has 255 there, followed by its length.
    fn name(&mut self, name: &str) {
        let bytes = name.as_bytes();
        assert!(bytes.len() <= ITEM_NAME_BYTES_MAX, "a decided name keeps its bound");
        if bytes.len() <= NAME_BYTES_SHORT {
            return self.var(bytes, NAME_BYTES_SHORT);
        }
        self.u8(NAME_IS_LONG);
        self.put(&(bytes.len() as u16).to_le_bytes());
        self.put(bytes);
    }
}

/// Reads fields one after another.
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }
    /// Refuses left-over bytes.
    pub(super) fn end(&self) -> Read<()> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.left.len())) }
    }
    fn take<const N: usize>(&mut self, field: &'static str) -> Read<[u8; N]> {
        let (head, left) = self.left.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.left = left;
        Ok(*head)
    }
    pub(super) fn u8(&mut self, field: &'static str) -> Read<u8> {
        self.take::<1>(field).map(|[byte]| byte)
    }
    pub(super) fn u32(&mut self, field: &'static str) -> Read<u32> {
        self.take(field).map(u32::from_le_bytes)
    }
    pub(super) fn u64(&mut self, field: &'static str) -> Read<u64> {
        self.take(field).map(u64::from_le_bytes)
    }
    pub(super) fn i64(&mut self, field: &'static str) -> Read<i64> {
        self.take(field).map(i64::from_le_bytes)
    }
    pub(super) fn time(&mut self, field: &'static str) -> Read<UnixMillis> {
        let ms = self.u64(field)?;
        if ms <= TIME_MS_MAX { Ok(UnixMillis(ms)) } else { Err(DecodeError::Range(field)) }
    }
    fn var(&mut self, field: &'static str, len_max: usize) -> Read<&'a [u8]> {
        let len = usize::from(self.u8(field)?);
        if len > len_max {
            return Err(DecodeError::Range(field));
        }
        let (head, left) = self.left.split_at_checked(len).ok_or(DecodeError::Short(field))?;
        self.left = left;
        Ok(head)
    }
    fn text(&mut self, field: &'static str, len_max: usize) -> Read<&'a str> {
        core::str::from_utf8(self.var(field, len_max)?).map_err(|_| DecodeError::Utf8(field))
    }
    pub(super) fn subject(&mut self) -> Read<&'a [u8]> {
        let subject = self.subject_or_none()?;
        if subject.is_empty() { Err(DecodeError::Range("subject")) } else { Ok(subject) }
    }
    pub(super) fn subject_or_none(&mut self) -> Read<&'a [u8]> {
        self.var("subject", SUBJECT_BYTES_MAX)
    }
    pub(super) fn key(&mut self) -> Read<&'a [u8]> {
        self.var("key", IDEMPOTENCY_KEY_BYTES_MAX)
    }
    pub(super) fn some_key(&mut self) -> Read<&'a [u8]> {
        let key = self.key()?;
        if key.is_empty() { Err(DecodeError::Range("key")) } else { Ok(key) }
    }
    pub(super) fn price_or_none(&mut self) -> Read<Price> {
        let price = Price { minor: self.u64("price_minor")?, currency: self.take("currency")? };
        let fits = price.minor <= PRICE_MINOR_MAX && price.currency.iter().all(u8::is_ascii_uppercase);
        if fits || price == Price::UNKNOWN { Ok(price) } else { Err(DecodeError::Range("price")) }
    }
    pub(super) fn price(&mut self) -> Read<Price> {
        self.price_or_none()?.known().ok_or(DecodeError::Range("price"))
    }
    pub(super) fn payment_ref(&mut self) -> Read<&'a [u8]> {
        self.var("payment_ref", PAYMENT_REF_BYTES_MAX)
    }
    pub(super) fn actor(&mut self) -> Read<&'a str> {
        self.text("actor", ACTOR_BYTES_MAX)
    }
    pub(super) fn item(&mut self) -> Read<ItemId> {
        ItemId::new(u64::from(self.u32("item")?)).ok_or(DecodeError::Range("item"))
    }
    pub(super) fn order(&mut self) -> Read<OrderId> {
        OrderId::from_u64(self.u64("order")?).ok_or(DecodeError::Range("order"))
    }
    pub(super) fn quantity(&mut self) -> Read<Quantity> {
        Quantity::new(u64::from(self.u32("quantity")?)).ok_or(DecodeError::Range("quantity"))
    }
    pub(super) fn order_state(&mut self, field: &'static str) -> Read<OrderState> {
        OrderState::from_code(self.u8(field)?).ok_or(DecodeError::Range(field))
    }
    pub(super) fn seed(&mut self) -> Read<DrawSeed> {
        self.take("seed").map(DrawSeed)
    }
    pub(super) fn bool(&mut self, field: &'static str) -> Read<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Range(field)),
        }
    }
    pub(super) fn stock(&mut self, field: &'static str) -> Read<u64> {
        let units = self.u64(field)?;
        if units <= STOCK_MAX { Ok(units) } else { Err(DecodeError::Range(field)) }
    }
    pub(super) fn stock_delta(&mut self, field: &'static str) -> Read<i64> {
        let units = self.i64(field)?;
        if units.unsigned_abs() <= STOCK_MAX { Ok(units) } else { Err(DecodeError::Range(field)) }
    }
    /// The settings, followed by those of a draw.
    pub(super) fn spec_with_draw(&mut self) -> Read<(ItemSpec<'a>, DrawSeed)> {
        let spec = self.spec()?;
        let (draw_ms, seed) = (self.u32("draw_ms")?, self.seed()?);
        let spec = ItemSpec { draw_ms, ..spec };
        spec.check().map_err(|wrong| DecodeError::Range(wrong.field))?;
        if seed.is_none() { Err(DecodeError::Range("seed")) } else { Ok((spec, seed)) }
    }
    /// Exactly what [`Writer::name`] writes.
    fn name(&mut self) -> Read<&'a str> {
        if self.left.first() != Some(&NAME_IS_LONG) {
            return self.text("name", NAME_BYTES_SHORT);
        }
        let _mark = self.u8("name")?;
        let len = usize::from(u16::from_le_bytes(self.take("name")?));
        if !(NAME_BYTES_SHORT + 1..=ITEM_NAME_BYTES_MAX).contains(&len) {
            return Err(DecodeError::Range("name"));
        }
        let (name, left) = self.left.split_at_checked(len).ok_or(DecodeError::Short("name"))?;
        self.left = left;
        core::str::from_utf8(name).map_err(|_| DecodeError::Utf8("name"))
    }
    pub(super) fn spec(&mut self) -> Read<ItemSpec<'a>> {
        let price_minor = self.u64("price_minor")?;
        let opens_at_ms = self.time("opens_at_ms")?;
        let closes_at_ms = self.time("closes_at_ms")?;
        let hold_ms = self.u64("hold_ms")?;
        let cap = self.u32("cap")?;
        let min_account_age_s = self.u32("min_account_age_s")?;
        let admit_per_s = self.u32("admit_per_s")?;
        let currency = self.take("currency")?;
        let payment = Payment::from_code(self.u8("payment")?).ok_or(DecodeError::Range("payment"))?;
        let ticket = TicketRule::from_code(self.u8("ticket")?).ok_or(DecodeError::Range("ticket"))?;
        let challenge = ChallengeRule::from_code(self.u8("challenge")?);
        let challenge = challenge.ok_or(DecodeError::Range("challenge"))?;
        let min_level = self.u8("min_level")?;
        let name = self.name()?;
        let spec = ItemSpec {
            name,
            price_minor,
            currency,
            opens_at_ms,
            closes_at_ms,
            cap,
            payment,
            hold_ms,
            ticket,
            challenge,
            min_level,
            min_account_age_s,
            admit_per_s,
            draw_ms: 0,
        };
        spec.check().map_err(|wrong| DecodeError::Range(wrong.field))?;
        Ok(spec)
    }
}
