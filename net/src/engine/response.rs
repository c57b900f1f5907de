//! Responses as values: the kind of request, what is shown, and the moment that it shows.
//!
//! Next: [`super::render`] for JSON, [`super::browser`] for pages.

use stampede_core::command::OrderView;
use stampede_core::item::OrderState;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};

use super::ask::{OrderOf, OwnedAudit, OwnedItem, OwnedOrder};
use super::batch::BatchAnswers;
use super::books::BooksReply;
use crate::http::answer::{self, Date, VisibleState};
use crate::http::draw::DrawPage;
use crate::http::field::Field;
use crate::http::negotiate::Wants;
use crate::http::page::Page;
use crate::http::problem::Problem;
use crate::site::html::Html;
use crate::site::words::Lang;

/// How a browser is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Browser {
    /// In which language.
    pub lang: Lang,
    /// The item that it is about, if it is about one.
    pub item: Option<ItemId>,
    /// Whether the answer places an order.
    pub buys: bool,
    /// Whether this is the demo.
    pub demo: bool,
    /// Whether it takes a compressed page.
    pub gzip: bool,
}

impl Browser {
    /// The form of an answer that comes later than the request's head is kept: what the
    /// client holds already is not known any more.
    pub(super) const fn wants(self) -> Wants<'static> {
        Wants { gzip: self.gzip, held: Field::Absent }
    }
}

/// What was asked, as far as the answer depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A purchase; `true`: answer as soon as it is accepted.
    Buy(bool),
    /// Reading one's own order; waits for it to leave `accepted` until this moment
    /// (monotonic ms; 0 = not at all).
    ReadOrder(u64),
    /// Moving an order on.
    MoveOrder,
    /// The merchant refunds an order.
    Refund,
    /// Reading an item's page.
    ItemPage,
    /// Something that a browser asked for: answered with a page.
    Browser(Browser),
    /// Anything else: the answer stands by itself.
    Other,
}

impl RequestKind {
    /// Whether it places an order.
    pub const fn buys(self) -> bool {
        matches!(self, Self::Buy(_) | Self::Browser(Browser { buys: true, .. }))
    }
    /// Whether it moves an order on.
    pub const fn moves(self) -> bool {
        matches!(self, Self::MoveOrder | Self::Refund | Self::Browser(Browser { buys: false, .. }))
    }
}

/// An answer, as a value.
pub enum Response {
    /// A refusal.
    Problem(Problem),
    /// An order; `replay`: it was placed by an earlier request.
    Order {
        /// The order.
        view: OrderView,
        /// Whether this answer was given before.
        replay: bool,
    },
    /// An order and its buyer, for the merchant.
    AdminOrder(Box<OwnedOrder>),
    /// A buyer's orders; whether there are more; and the cursor, where the last order's id is none.
    Orders(Vec<OwnedOrder>, bool, Option<String>),
    /// Orders with their buyers, for the merchant, and behind which one the list goes on, if it does.
    OrdersPage(Vec<OwnedOrder>, Option<OrderId>),
    /// An item, for the merchant; `true`: it was made by this request.
    AdminItem(Box<OwnedItem>, bool),
    /// Items, for the merchant; `true`: there are more.
    AdminItems(Vec<OwnedItem>, bool),
    /// A draw and a page of its entries.
    Draw(Box<DrawPage>),
    /// An item's books.
    Books(Box<BooksReply>),
    /// The audit trail; `true`: there is more.
    Audit(Vec<OwnedAudit>, bool),
    /// A sale page, for a client that shows none of it.
    Page(Page),
    /// A whole response that was rendered before.
    Bytes(Vec<u8>),
    /// A rendered page, for a browser that shows none of it.
    Html(Box<Html>),
    /// An order and what it is of, for a browser.
    OrderPage(Box<OrderOf>),
    /// A session for a browser that had none: where to send its form once more, and the cookie.
    SendAgain(String, String),
    /// The answers of a batch, which are written piece by piece.
    Batch(Box<BatchAnswers>),
    /// Done, and nothing more to say.
    Done,
}

/// What an answer needs to know of the moment.
#[derive(Clone, Copy)]
pub struct RenderContext<'a> {
    /// The sale clock.
    pub now: UnixMillis,
    /// The `Date` line.
    pub date: &'a Date,
    /// Up to where facts may be shown.
    pub shown: Lsn,
    /// The durable LSN.
    pub durable: Lsn,
    /// The exported LSN; `None` without Postgres.
    pub exported: Option<Lsn>,
}

/// An order as its reader may see it: `accepted` until the fact that placed it may be shown.
pub(super) fn order_view(view: &OrderView, shown: Lsn) -> answer::OrderView {
    let hidden = view.lsn > shown;
    let state = if hidden { VisibleState::Accepted } else { VisibleState::Durable(view.state) };
    shown_as(view, state)
}

pub(super) fn shown_as(view: &OrderView, state: VisibleState) -> answer::OrderView {
    answer::OrderView {
        order: view.order,
        quantity: view.quantity,
        state,
        created_at_ms: view.created_at_ms,
        pay_by_ms: view.pay_by_ms,
        price: view.price,
        refunded: if view.state == OrderState::Refunded { view.quantity.get() } else { view.refunded },
        lsn: view.lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_core::types::Quantity;

    /// I3: an order says what it is only when the fact that placed it may be shown.
    #[test]
    fn what_is_not_durable_is_shown_as_accepted() {
        let item = ItemId::new(1).expect("small");
        let view = OrderView {
            order: OrderId::new(item, 1),
            quantity: Quantity::ONE,
            state: OrderState::Confirmed,
            created_at_ms: UnixMillis(1),
            pay_by_ms: UnixMillis(0),
            lsn: Lsn(7),
            state_lsn: Lsn(7),
            price: stampede_core::money::Price::UNKNOWN,
            refunded: 0,
        };
        assert_eq!(order_view(&view, Lsn(6)).state, VisibleState::Accepted);
        assert_eq!(order_view(&view, Lsn(7)).state, VisibleState::Durable(OrderState::Confirmed));
    }
}
