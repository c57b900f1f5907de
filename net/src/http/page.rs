//! Sale pages: items rendered once per change and sent many times.
//!
//! A [`Page`] is a body whose last field is `now_ms`, 13 digits that are written
//! over in each copy. Its entity tag names what was rendered, without the time;
//! the tag is weak (RFC 9110 section 8.8.1), because two copies differ in it.
//! Whoever owns the item builds a new page when its version, state or band changes.

use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, UnixMillis};

use crate::http::answer::{Answer, Date, Manner, Media, Status};
use crate::http::draw::DrawFace;
use crate::http::field::Field;
use crate::http::head::lists_tag;
use crate::http::json_out::{self, Object};

/// Width of `now_ms`: milliseconds have 13 digits from 2001 until 2286.
const NOW_DIGITS: usize = 13;
/// Largest time that fits.
const NOW_MS_MAX: u64 = 9_999_999_999_999;
/// Smallest time that fills the place.
const NOW_MS_MIN: u64 = 1_000_000_000_000;

/// What buyers see of an item.
#[derive(Clone, Copy, Debug)]
pub struct ItemView<'a> {
    /// Which.
    pub item: ItemId,
    /// Its settings.
    pub spec: &'a ItemSpec<'a>,
    /// `upcoming`, `open`, `sold_out`, `paused` or `ended`.
    pub state: &'static str,
    /// `plenty`, `few`, `last` or `none`.
    pub stock_band: &'static str,
    /// Its draw, if it has one.
    pub draw: Option<DrawFace<'a>>,
    /// How long a client should wait before it asks again, in milliseconds.
    pub refresh_ms: u64,
    /// How often the item has changed.
    pub version: u64,
}

impl ItemView<'_> {
    /// Appends its fields to an object; `now_ms` is not among them.
    pub fn fill(&self, object: &mut Object<'_>) {
        let spec = self.spec;
        object
            .number("id", self.item.get())
            .text("name", spec.name)
            .number("price_minor", spec.price_minor)
            .bytes("currency", &spec.currency)
            .text("state", self.state)
            .number("opens_at_ms", spec.opens_at_ms.0)
            .number("closes_at_ms", spec.closes_at_ms.0)
            .text("stock_band", self.stock_band)
            .number("cap", spec.cap)
            .text("payment", spec.payment.name())
            .boolean("ticket_required", spec.ticket.code() != 0)
            .text("challenge", spec.challenge.name());
        if let Some(draw) = &self.draw {
            draw.fill(object);
        }
        object.number("refresh_ms", self.refresh_ms);
    }
}

/// A body that waits for its time of day.
#[derive(Clone, Debug, Default)]
pub struct Page {
    body: Vec<u8>,
    /// The entity tag with its quotes, without `W/`.
    tag: String,
}

impl Page {
    /// The page of one item.
    pub fn item(view: &ItemView<'_>) -> Self {
        let tag = format!("\"{}-{}-{}-{}\"", view.item, view.version, view.state, view.stock_band);
        Self::render(tag, |object| view.fill(object))
    }

    /// The page of many items. `version` has to change whenever one of them does.
    pub fn list<'v>(views: impl IntoIterator<Item = ItemView<'v>>, version: u64) -> Self {
        Self::render(format!("\"all-{version}\""), |object| {
            object.array("items", |array| {
                for view in views {
                    array.object(|object| view.fill(object));
                }
            });
        })
    }

    /// Appends a response with the page, or 304 if the client has this version of it.
    pub fn answer(&self, out: &mut Vec<u8>, held: Field<'_>, now: UnixMillis, manner: Manner, date: &Date) {
        let fresh = held.last().is_some_and(|held| self.is_listed(held));
        let status = if fresh { Status::NotModified } else { Status::Ok };
        let answer = Answer::begin(out, status, manner, date)
            .push(&["ETag: W/", &self.tag, "\r\n"])
            .header("Cache-Control", "max-age=1");
        if fresh { answer.no_body() } else { answer.body(Media::Json, |out| self.write_body(out, now)) }
    }

    /// How many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        self.body.capacity() + self.tag.capacity()
    }

    fn render(tag: String, fill: impl FnOnce(&mut Object<'_>)) -> Self {
        let mut body = Vec::new();
        json_out::object(&mut body, |object| {
            fill(object);
            object.number("now_ms", NOW_MS_MIN);
        });
        body.shrink_to_fit();
        Self { body, tag }
    }

    fn write_body(&self, out: &mut Vec<u8>, now: UnixMillis) {
        out.extend_from_slice(&self.body);
        let end = out.len() - 1;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(now.0.clamp(NOW_MS_MIN, NOW_MS_MAX));
        out[end - NOW_DIGITS..end].copy_from_slice(digits.as_bytes());
    }

    /// Whether an `If-None-Match` lists the page's tag, compared weakly, or any.
    fn is_listed(&self, held: &[u8]) -> bool {
        lists_tag(held, &self.tag)
    }
}

/// What the merchant sees of an item: everything, exact.
#[derive(Clone, Copy, Debug)]
pub struct AdminItemView<'a> {
    /// Which.
    pub item: ItemId,
    /// Its settings.
    pub spec: &'a ItemSpec<'a>,
    /// `upcoming`, `open`, `sold_out`, `paused` or `ended`.
    pub state: &'static str,
    /// Its draw, if it has one.
    pub draw: Option<DrawFace<'a>>,
    /// Units granted, withdrawals taken off.
    pub granted: u64,
    /// Units that can be sold.
    pub available: u64,
    /// Units set aside until they are paid.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
    /// Orders decided, durable or not.
    pub accepted: u64,
    /// The last fact known durable.
    pub durable_lsn: u64,
    /// The last fact in Postgres; `None` without one.
    pub exported_lsn: Option<u64>,
    /// How often the item has changed.
    pub version: u64,
}

impl AdminItemView<'_> {
    /// Appends its fields to an object.
    pub fn fill(&self, object: &mut Object<'_>) {
        let spec = self.spec;
        object
            .number("id", self.item.get())
            .text("name", spec.name)
            .number("price_minor", spec.price_minor)
            .bytes("currency", &spec.currency)
            .text("state", self.state)
            .number("opens_at_ms", spec.opens_at_ms.0)
            .number("closes_at_ms", spec.closes_at_ms.0)
            .number("cap", spec.cap)
            .text("payment", spec.payment.name())
            .number("hold_ms", spec.hold_ms)
            .text("ticket", spec.ticket.name())
            .text("challenge", spec.challenge.name())
            .number("min_level", spec.min_level)
            .number("min_account_age_s", spec.min_account_age_s)
            .number("admit_per_s", spec.admit_per_s);
        if let Some(draw) = &self.draw {
            draw.fill(object);
            object.number("entered", draw.view.entered);
        }
        object
            .number("granted", self.granted)
            .number("available", self.available)
            .number("held", self.held)
            .number("sold", self.sold)
            .number("accepted", self.accepted)
            .number("durable_lsn", self.durable_lsn)
            .number_or_null("exported_lsn", self.exported_lsn)
            .number("version", self.version);
    }
}
