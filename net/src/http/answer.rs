//! Renders values as responses, appended to the caller's buffer.
//!
//! Every length is counted, never guessed; every response to ambiguous framing says `Connection: close`; no byte
//! that came from outside ever reaches a header; no response can begin without saying who may cache it ([`Cache`]).
//! The time of day comes in as a ready [`Date`], which RFC 9110 section
//! 6.6.1 wants from a server that has a clock. Hot refusals come out of
//! [`crate::http::templates`]; pages of items out of [`crate::http::page`].

use stampede_core::item::OrderState;
use stampede_core::money::Price;
use stampede_core::types::{Lsn, OrderId, Quantity, UnixMillis};

use crate::http::json_out::{self, Object};
use crate::http::problem::Problem;
use crate::http::refusal::render_problem;
pub use crate::http::response::{Answer, Cache, Cors, Date, KeepAlive, Media, ResponseMode, date_line};
pub use crate::http::status::Status;
use crate::http::templates;

/// The interim response that a waiting client gets before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response whose body is one JSON object; nobody may cache it.
pub fn json(
    out: &mut Vec<u8>,
    status: Status,
    mode: ResponseMode,
    date: &Date,
    fill: impl FnOnce(&mut Object<'_>),
) {
    Answer::begin(out, status, Cache::Never, mode, date).body(Media::Json, |out| json_out::object(out, fill));
}

/// A response whose body is rendered already; nobody may cache it.
pub fn bytes(out: &mut Vec<u8>, status: Status, media: Media, body: &[u8], mode: ResponseMode, date: &Date) {
    Answer::begin(out, status, Cache::Never, mode, date).body(media, |out| out.extend_from_slice(body));
}

/// `{"now_ms":…}`
pub fn time(out: &mut Vec<u8>, now: UnixMillis, mode: ResponseMode, date: &Date) {
    json(out, Status::Ok, mode, date, |object| {
        object.number("now_ms", now.0);
    });
}

/// A refusal as RFC 9457 wants it. Frequent ones are copied whole and patched.
pub fn problem(out: &mut Vec<u8>, problem: &Problem, mode: ResponseMode, date: &Date) {
    if !templates::write(out, problem, mode, date) {
        render_problem(out, problem, mode, date);
    }
}

/// The state of an order, as a client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VisibleState {
    /// Decided, not durable yet.
    Accepted,
    /// Durable, in this state.
    Durable(OrderState),
}

impl VisibleState {
    /// The state's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable(state) => state.name(),
        }
    }
}

/// An order, as a client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderView {
    /// Its id.
    pub order: OrderId,
    /// Its units.
    pub quantity: Quantity,
    /// Its state.
    pub state: VisibleState,
    /// When it was placed.
    pub created_at_ms: UnixMillis,
    /// When it expires unpaid; zero = never, which is shown as `null`.
    pub pay_by_ms: UnixMillis,
    /// What a unit of it costs.
    pub price: Price,
    /// Units refunded; shown where there are any.
    pub refunded: u32,
    /// The LSN of the fact that placed it.
    pub lsn: Lsn,
}

impl OrderView {
    /// Appends its fields to an object.
    pub fn fill(&self, object: &mut Object<'_>) {
        let pay_by_ms = Some(self.pay_by_ms.0).filter(|&time| time != 0);
        object
            .quoted("order_id", self.order.get())
            .number("item_id", self.order.item().get())
            .number("quantity", self.quantity.get())
            .text("state", self.state.name())
            .number("created_at_ms", self.created_at_ms.0)
            .number_or_null("pay_by_ms", pay_by_ms);
        if let Some(price) = self.price.known() {
            object.number("price_minor", price.minor).text("currency", price.currency());
        }
        object.nonzero("refunded_quantity", self.refunded).number("lsn", self.lsn.0);
    }
}

/// The headers that only a response with an order has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OrderHeaders {
    /// `Idempotent-Replay: true`: this response was given before.
    pub replay: bool,
    /// `Location`: where the order can be read.
    pub location: bool,
}

/// A response with one order.
pub fn order(
    out: &mut Vec<u8>,
    status: Status,
    view: &OrderView,
    headers: OrderHeaders,
    mode: ResponseMode,
    date: &Date,
) {
    let mut answer = Answer::begin(out, status, Cache::Never, mode, date);
    if headers.replay {
        answer = answer.header("Idempotent-Replay", "true");
    }
    if headers.location {
        answer = answer.location(view.order);
    }
    answer.body(Media::Json, |out| json_out::object(out, |object| view.fill(object)));
}

/// `{"orders":[…],"has_more":…}`, with `next_after` where the list goes on behind that.
pub fn order_list(
    out: &mut Vec<u8>,
    orders: impl IntoIterator<Item = OrderView>,
    (has_more, next_after): (bool, Option<&str>),
    mode: ResponseMode,
    date: &Date,
) {
    json(out, Status::Ok, mode, date, |object| {
        object.array("orders", |array| {
            for view in orders {
                array.object(|object| view.fill(object));
            }
        });
        object.boolean("has_more", has_more).text_if("next_after", next_after);
    });
}
