//! Responses as values, with what their rendering depends on: the kind of request and the moment.
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

/// How to respond to a browser.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Browser {
    /// The language.
    pub lang: Lang,
    /// The item in question, if there is one.
    pub item: Option<ItemId>,
    /// Whether the request places an order.
    pub buys: bool,
    /// Whether this is the demo.
    pub demo: bool,
    /// Whether it accepts a compressed page.
    pub gzip: bool,
}

impl Browser {
    /// The form of a response that is rendered after the request's head is gone: what the client has
    /// cached is not known any more.
    pub(super) const fn wants(self) -> Wants<'static> {
        Wants { gzip: self.gzip, held: Field::Absent }
    }
}

/// The kind of a request, as far as the response depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A purchase; `true`: respond as soon as it is accepted.
    Buy(bool),
    /// Reading one's own order; waits until this moment for it to leave `accepted`
    /// (monotonic ms; 0 = does not wait).
    ReadOrder(u64),
    /// Paying, cancelling or extending an order.
    MoveOrder,
    /// The merchant refunds an order.
    Refund,
    /// Reading an item's page.
    ItemPage,
    /// A browser's request: the response is a page.
    Browser(Browser),
    /// Anything else: the response does not depend on it.
    Other,
}

impl RequestKind {
    /// Whether it places an order.
    pub const fn buys(self) -> bool {
        matches!(self, Self::Buy(_) | Self::Browser(Browser { buys: true, .. }))
    }
    /// Whether it changes an order.
    pub const fn moves(self) -> bool {
        matches!(self, Self::MoveOrder | Self::Refund | Self::Browser(Browser { buys: false, .. }))
    }
}

/// A response, as a value.
pub enum Response {
    /// A refusal.
    Problem(Problem),
    /// An order.
    Order {
        /// The order.
        view: OrderView,
        /// Whether an earlier request placed it.
        replay: bool,
    },
    /// An order and its buyer, for the merchant.
    AdminOrder(Box<OwnedOrder>),
    /// A buyer's orders; whether there are more; and the cursor, where it is not the last order's id.
    Orders(Vec<OwnedOrder>, bool, Option<String>),
    /// Orders with their buyers, for the merchant, and after which one the list goes on, if it does.
    OrdersPage(Vec<OwnedOrder>, Option<OrderId>),
    /// An item, for the merchant; `true`: this request created it.
    AdminItem(Box<OwnedItem>, bool),
    /// Items, for the merchant; `true`: there are more.
    AdminItems(Vec<OwnedItem>, bool),
    /// A draw and a page of its entries.
    Draw(Box<DrawPage>),
    /// An item's totals and orders, for `stampede reconcile`.
    Books(Box<BooksReply>),
    /// The audit trail; `true`: there is more.
    Audit(Vec<OwnedAudit>, bool),
    /// The JSON of an item or a list, for a client that has not cached it.
    Page(Page),
    /// A whole response that was rendered before.
    Bytes(Vec<u8>),
    /// A rendered page, for a browser that has not cached it.
    Html(Box<Html>),
    /// An order and its item, for a browser.
    OrderPage(Box<OrderOf>),
    /// A session for a browser that had none: where to send its form again, and the cookie.
    SendAgain(String, String),
    /// The answers of a batch, which are written piece by piece.
    Batch(Box<BatchAnswers>),
    /// Done; there is nothing to report.
    Done,
}

/// What the rendering of a response needs to know about the moment.
#[derive(Clone, Copy)]
pub struct RenderContext<'a> {
    /// The sale clock.
    pub now: UnixMillis,
    /// The `Date` line.
    pub date: &'a Date,
    /// The last fact that may be shown.
    pub shown: Lsn,
    /// The durable LSN.
    pub durable: Lsn,
    /// The exported LSN; `None` without Postgres.
    pub exported: Option<Lsn>,
}

/// An order as the client may see it: `accepted` until the fact that placed it may be shown.
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

    /// I3: an order shows its state only when the fact that placed it may be shown.
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
