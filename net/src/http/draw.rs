//! The public view of a draw: the `draw` object of an item, and the pages of its entries.
//!
//! The seed is shown only once the draw is over. The
//! protocol is in docs/DRAW.md. Next: [`crate::http::page`].

use stampede_core::draw::{DrawEntry, DrawView, HeldView};
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};

use crate::http::answer::{Answer, Cache, Date, Media, ResponseMode, Status};
use crate::http::json_out::{self, Object};

/// The draw of an item, for everybody.
#[derive(Clone, Copy, Debug)]
pub struct DrawFace<'a> {
    /// How long entries are taken, in milliseconds.
    pub draw_ms: u32,
    /// Its other settings.
    pub view: &'a DrawView,
}

impl DrawFace<'_> {
    /// Its outcome, once that is final.
    fn result(&self) -> Option<&HeldView> {
        self.view.held.as_ref().filter(|_| self.view.entered == 0)
    }

    /// Appends the `draw` object.
    pub fn fill(&self, object: &mut Object<'_>) {
        object.object("draw", |object| {
            self.announce(object);
            if let Some(held) = self.result() {
                object.number("drawn_at_ms", held.drawn.at_ms.0).text("seed", &hex(&held.seed.0));
                object.number("units", held.drawn.units).number("entries", held.drawn.entries);
                object.number("winners", held.winners);
            }
        });
    }

    fn announce(&self, object: &mut Object<'_>) {
        object.number("draw_ms", self.draw_ms).number("draws_at_ms", self.view.draws_at_ms.0);
        object.text("commitment", &hex(&self.view.commitment));
    }
}

/// A page of the entries of a draw; empty until the draw is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrawPage {
    /// The item.
    pub item: ItemId,
    /// How long entries are taken, in milliseconds.
    pub draw_ms: u32,
    /// The state of the draw.
    pub view: DrawView,
    /// The entries, by number.
    pub entries: Vec<DrawEntry>,
    /// The cursor of the next page, if there may be more.
    pub next_after: Option<OrderId>,
    /// The fact that has to be durable before this may be shown.
    pub after: Lsn,
}

impl DrawPage {
    fn state(&self) -> &'static str {
        match (&self.view.held, self.view.entered) {
            (None, _) => "waiting",
            (Some(_), 0) => "drawn",
            (Some(_), _) => "drawing",
        }
    }

    /// Appends a response with the page. One of a draw that is over never changes.
    pub fn answer(&self, out: &mut Vec<u8>, now: UnixMillis, mode: ResponseMode, date: &Date) {
        let cache = if self.state() == "drawn" { Cache::ReadLong } else { Cache::Read };
        let answer = Answer::begin(out, Status::Ok, cache, mode, date);
        answer.body(Media::Json, |out| json_out::object(out, |object| self.fill(object, now)));
    }

    fn fill(&self, object: &mut Object<'_>, now: UnixMillis) {
        object.number("item_id", self.item.get()).text("state", self.state());
        let face = DrawFace { draw_ms: self.draw_ms, view: &self.view };
        face.announce(object);
        if let Some(held) = face.result() {
            object.text("seed", &hex(&held.seed.0)).number("drawn_at_ms", held.drawn.at_ms.0);
            object.number("units", held.drawn.units).number("entries_total", held.drawn.entries);
            object.number("winners", held.winners);
        }
        object.array("entries", |array| {
            for entry in &self.entries {
                array.object(|object| {
                    object.quoted("order_id", entry.order.get()).number("quantity", entry.quantity.get());
                    object.boolean("won", entry.won);
                });
            }
        });
        object.boolean("has_more", self.next_after.is_some());
        object.quoted_if("next_after", self.next_after.map(OrderId::get)).number("now_ms", now.0);
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
