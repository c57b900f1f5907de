//! Sale pages: items rendered once per change and sent many times.
//!
//! A [`Page`] is a body whose last field is `now_ms`, 13 digits that are written
//! over in each copy. Its entity tag names what was rendered, without the time: by the
//! facts that made it so ([`Version`]), and by what changes without one (state, band, refresh).
//! So it is the same on every core, stays as long as nothing changes, and never comes again for
//! something else, whatever restarts. It is weak (RFC 9110 section 8.8.1), because two copies
//! differ in their time. Whoever owns the item builds a new page when one of these changes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use stampede_core::command;
use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, Lsn, UnixMillis};

use crate::http::answer::{Answer, Cache, Date, Media, ResponseMode, Status};
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

/// The durable fact that has brought an item into the state that a page shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    /// The log, and the build that shows it: another log numbers its facts from one on, too, and another
    /// build may show them in other words.
    pub log: u32,
    /// The fact's number in it.
    pub lsn: Lsn,
}

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
    /// The fact behind this state; `None` = it is not durable: its number may yet become another fact's, so the
    /// page has no tag.
    pub version: Option<Version>,
}

impl ItemView<'_> {
    /// The tag of its page, without quotes.
    fn tag(&self) -> Option<String> {
        let Version { log, lsn } = self.version?;
        let Self { item, state, stock_band, refresh_ms, .. } = self;
        Some(format!("{log:08x}-{item}-{lsn}-{state}-{stock_band}-{refresh_ms}"))
    }

    /// Appends its fields to an object; `now_ms` is not among them.
    pub fn fill(&self, object: &mut Object<'_>) {
        let spec = self.spec;
        begin(object, self.item, spec, self.state)
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

/// A rendered body in which only the time of day is filled in later.
#[derive(Clone, Debug, Default)]
pub struct Page {
    body: Vec<u8>,
    /// The entity tag with its quotes, without `W/`; `None` where it would identify nothing.
    tag: Option<String>,
}

impl Page {
    /// The page of one item.
    pub fn item(view: &ItemView<'_>) -> Self {
        let tag = view.tag().map(|tag| format!("\"{tag}\""));
        Self::render(tag, |object| view.fill(object))
    }

    /// The page of many items, of the log with this number, with the cursor of the next page, if there
    /// is one. Its tag names the last fact among theirs, with a hash of all.
    pub fn list<'v>(
        views: impl IntoIterator<Item = ItemView<'v>>,
        next_after: Option<&str>,
        log: u32,
    ) -> Self {
        let mut tags = ListTag::new(log);
        let mut page = Self::render(None, |object| {
            object.array("items", |array| {
                for view in views {
                    tags.add(view.version, view.tag().as_deref());
                    array.object(|object| view.fill(object));
                }
            });
            object.boolean("has_more", next_after.is_some()).text_if("next_after", next_after);
        });
        // The cursor follows from the last entry, which is in the hash.
        page.tag = tags.finish(if next_after.is_some() { "more" } else { "all" });
        page
    }

    /// Appends a response with the page, or 304 if the client has this version of it.
    pub fn answer(
        &self,
        out: &mut Vec<u8>,
        held: Field<'_>,
        now: UnixMillis,
        mode: ResponseMode,
        date: &Date,
    ) {
        let fresh = held.last().is_some_and(|held| self.is_listed(held));
        let status = if fresh { Status::NotModified } else { Status::Ok };
        let answer = Answer::begin(out, status, Cache::Read, mode, date).weak_tag(self.tag.as_deref());
        if fresh { answer.no_body() } else { answer.body(Media::Json, |out| self.write_body(out, now)) }
    }

    /// How many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        self.body.capacity() + self.tag.as_ref().map_or(0, String::capacity)
    }

    fn render(tag: Option<String>, fill: impl FnOnce(&mut Object<'_>)) -> Self {
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
        lists_tag(held, self.tag.as_deref())
    }
}

/// The tag of a list, which follows from those of its entries.
pub struct ListTag {
    last: Version,
    entries: DefaultHasher,
    /// An entry had no tag.
    is_unsettled: bool,
}

impl ListTag {
    /// Of a list without entries, by the log with this number.
    pub fn new(log: u32) -> Self {
        let last = Version { log, lsn: Lsn::ZERO };
        Self { last, entries: DefaultHasher::new(), is_unsettled: false }
    }

    /// Adds an entry: the fact behind its state, and its own tag.
    pub fn add(&mut self, version: Option<Version>, tag: Option<&str>) {
        self.is_unsettled |= tag.is_none();
        tag.hash(&mut self.entries);
        self.last.lsn = self.last.lsn.max(version.map_or(Lsn::ZERO, |version| version.lsn));
    }

    /// The tag with its quotes; `None` if an entry had none.
    pub fn finish(self, name: &str) -> Option<String> {
        let Version { log, lsn } = self.last;
        (!self.is_unsettled).then(|| format!("\"{name}-{log:08x}-{lsn}-{:016x}\"", self.entries.finish()))
    }
}

/// Appends the fields that buyers and the merchant see alike, in this order, at the beginning.
fn begin<'o, 'b>(
    object: &'o mut Object<'b>,
    item: ItemId,
    spec: &ItemSpec<'_>,
    state: &str,
) -> &'o mut Object<'b> {
    object
        .number("id", item.get())
        .text("name", spec.name)
        .number("price_minor", spec.price_minor)
        .bytes("currency", &spec.currency)
        .text("state", state)
        .number("opens_at_ms", spec.opens_at_ms.0)
        .number("closes_at_ms", spec.closes_at_ms.0)
}

/// Appends what the merchant sees of an item: everything, exact. `durable` and `exported` are the last
/// facts known to be durable and in Postgres; `None` without one.
pub fn fill_admin(
    object: &mut Object<'_>,
    item: &command::ItemView<'_>,
    state: &'static str,
    (durable, exported): (Lsn, Option<Lsn>),
) {
    let spec = &item.spec;
    begin(object, item.item, spec, state)
        .number("cap", spec.cap)
        .text("payment", spec.payment.name())
        .number("hold_ms", spec.hold_ms)
        .text("ticket", spec.ticket.name())
        .text("challenge", spec.challenge.name())
        .number("min_level", spec.min_level)
        .number("min_account_age_s", spec.min_account_age_s)
        .number("admit_per_s", spec.admit_per_s);
    if let Some(view) = &item.draw {
        DrawFace { draw_ms: spec.draw_ms, view }.fill(object);
        object.number("entered", view.entered);
    }
    object
        .number("granted", item.granted)
        .number("available", item.available)
        .number("held", item.held)
        .number("sold", item.sold)
        .number("accepted", item.accepted)
        .number("durable_lsn", durable.0)
        .number_or_null("exported_lsn", exported.map(|lsn| lsn.0))
        .number("version", item.version)
        // What `If-Match` of a later change names.
        .number("settings_lsn", item.shown_lsn.0);
}
