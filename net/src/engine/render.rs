//! From what was decided to bytes: every answer of the engine but the sale pages.
//!
//! Rendering happens when an answer is at the head of its connection and may be
//! shown, so that the numbers in it are of that moment.

use stampede_core::command::{ItemView, OrderView, Refusal};
use stampede_core::gauge::{ItemState, Rules};
use stampede_core::item::OrderState;
use stampede_core::money::{MoneyKind, MoneyRow, reference_of};
use stampede_core::types::{Lsn, OrderId, UnixMillis};

use super::ask::{Busy, OrderOf, OwnedAudit, OwnedItem, OwnedMoney, OwnedOrder};
use super::batch::BatchAnswers;
use super::books::BooksReply;
use super::browser::Browser;
use crate::http::answer::{self, Cache, Date, Manner, Media, OrderHeaders, ShownState, Status};
use crate::http::draw::{DrawFace, DrawPage};
use crate::http::field::Field;
use crate::http::json_out::{self, Object};
use crate::http::page::{AdminItemView, Page};
use crate::http::problem::{Code, Problem};
use crate::site::html::Html;

/// What was asked, as far as the answer depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
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

impl Call {
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
pub enum Shown {
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
pub struct Moment<'a> {
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

/// Appends the answer.
pub fn render(out: &mut Vec<u8>, shown: &Shown, call: Call, manner: Manner, moment: &Moment<'_>) {
    let date = moment.date;
    if let Call::Browser(browser) = call
        && super::browser::write(out, shown, browser, manner, moment)
    {
        return;
    }
    match shown {
        Shown::Problem(problem) => answer::problem(out, problem, manner, date),
        Shown::Order { view, replay } => order(out, view, *replay, call, manner, moment),
        Shown::AdminOrder(owned) => {
            answer::json(out, Status::Ok, manner, date, |object| admin_order(object, owned, moment.shown));
        }
        Shown::Orders(rows, has_more, next_after) => {
            let views = rows.iter().map(|row| order_view(&row.order, moment.shown));
            answer::order_list(out, views, (*has_more, next_after.as_deref()), manner, date);
        }
        Shown::OrdersPage(rows, next_after) => {
            admin_orders(out, rows, *next_after, manner, moment);
        }
        Shown::AdminItem(item, created) => {
            let status = if *created { Status::Created } else { Status::Ok };
            let item = item.get();
            // What `If-Match` of a later change names.
            answer::Answer::begin(out, status, Cache::Never, manner, date)
                .tag(item.shown_lsn)
                .body(Media::Json, |out| json_out::object(out, |object| admin_item(object, &item, moment)));
        }
        Shown::AdminItems(items, has_more) => answer::json(out, Status::Ok, manner, date, |object| {
            object.array("items", |array| {
                for item in items {
                    array.object(|object| admin_item(object, &item.get(), moment));
                }
            });
            object.boolean("has_more", *has_more).number("now_ms", moment.now.0);
        }),
        Shown::Books(books) => answer::json(out, Status::Ok, manner, date, |object| books.fill(object)),
        Shown::Audit(rows, has_more) => audit(out, rows, *has_more, manner, date),
        Shown::Draw(page) => page.answer(out, moment.now, manner, date),
        Shown::Page(page) => page.answer(out, Field::Absent, moment.now, manner, date),
        Shown::Bytes(bytes) => out.extend_from_slice(bytes),
        // Pages are answered above, since only browsers ask for them.
        // Nor is a batch: the home writes it in pieces.
        Shown::Batch(_) | Shown::Html(_) | Shown::OrderPage(_) | Shown::SendAgain(..) | Shown::Done => {
            answer::json(out, Status::Ok, manner, date, |_| {});
        }
    }
}

fn order(out: &mut Vec<u8>, view: &OrderView, replay: bool, call: Call, manner: Manner, moment: &Moment<'_>) {
    let (status, shown, location) = match call {
        Call::Buy(true) => (Status::Accepted, shown_as(view, ShownState::Accepted), true),
        // An entry is taken in; what becomes of it is decided later.
        Call::Buy(false) if view.state == OrderState::Entered => {
            (Status::Accepted, shown_as(view, ShownState::Durable(view.state)), true)
        }
        Call::Buy(false) => (Status::Created, shown_as(view, ShownState::Durable(view.state)), true),
        _ => (Status::Ok, order_view(view, moment.shown), false),
    };
    answer::order(out, status, &shown, OrderHeaders { replay, location }, manner, moment.date);
}

/// An order with everything that was told of it (I20), as far as it may be shown.
fn admin_order(object: &mut Object<'_>, owned: &OwnedOrder, shown: Lsn) {
    order_view(&owned.order, shown).fill(object);
    object.bytes("buyer", &owned.subject);
    if !owned.key.is_empty() {
        object.bytes("idempotency_key", &owned.key);
    }
    let money = || owned.money.iter().map(OwnedMoney::get).filter(|row| row.lsn <= shown);
    let mut last = |kind, reference: &'static str, at: &'static str| {
        let Some(row) = money().rfind(|row| row.kind == kind) else { return };
        let (counts, _) = reference_of(money(), kind);
        if !counts.is_empty() {
            object.bytes(reference, counts);
        }
        if row.at_ms.0 != 0 {
            object.number(at, row.at_ms.0);
        }
    };
    let paid = !matches!(owned.order.state, OrderState::Cancelled);
    last(MoneyKind::Payment, "payment_ref", if paid { "paid_at_ms" } else { "payment_told_at_ms" });
    last(MoneyKind::Refund, "refund_ref", "refunded_at_ms");
    last(MoneyKind::Ended, "", "ended_at_ms");
    for (kind, name) in [(MoneyKind::Refund, "refunds"), (MoneyKind::LatePayment, "late_payments")] {
        if money().any(|row| row.kind == kind) {
            object.array(name, |array| {
                for row in money().filter(|row| row.kind == kind) {
                    let of = |back: &MoneyRow<'_>| {
                        back.kind == MoneyKind::LateReturned && back.reference_hash == row.reference_hash
                    };
                    let back = money().find(of).filter(|_| kind == MoneyKind::LatePayment);
                    array.object(|object| money_row(object, &row, back.as_ref()));
                }
            });
        }
    }
}

/// A refund, or a late payment and what is known of its return.
fn money_row(object: &mut Object<'_>, row: &MoneyRow<'_>, back: Option<&MoneyRow<'_>>) {
    let name = if row.kind == MoneyKind::Refund { "refund_ref" } else { "payment_ref" };
    if !row.reference.is_empty() {
        object.bytes(name, row.reference);
    }
    if row.units > 0 {
        object.number("quantity", row.units);
    }
    if row.at_ms.0 != 0 {
        object.number("at_ms", row.at_ms.0);
    }
    object.number("lsn", row.lsn.0);
    if let Some(back) = back {
        if !back.reference.is_empty() {
            object.bytes("refund_ref", back.reference);
        }
        object.number("refunded_at_ms", back.at_ms.0);
    }
}

/// `{"orders":[…],"has_more":…}`, with `next_after` where there are more: a page of filtered orders may be
/// empty, and others follow.
fn admin_orders(
    out: &mut Vec<u8>,
    rows: &[OwnedOrder],
    next_after: Option<OrderId>,
    manner: Manner,
    at: &Moment<'_>,
) {
    answer::json(out, Status::Ok, manner, at.date, |object| {
        object.array("orders", |array| {
            for row in rows {
                array.object(|object| admin_order(object, row, at.shown));
            }
        });
        object.boolean("has_more", next_after.is_some());
        if let Some(order) = next_after {
            object.quoted("next_after", order.get());
        }
    });
}

/// An order as its reader may see it: `accepted` until the fact that placed it may be shown.
pub(super) fn order_view(view: &OrderView, shown: Lsn) -> answer::OrderView {
    let hidden = view.lsn > shown;
    let state = if hidden { ShownState::Accepted } else { ShownState::Durable(view.state) };
    shown_as(view, state)
}

fn shown_as(view: &OrderView, state: ShownState) -> answer::OrderView {
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

fn admin_item(object: &mut Object<'_>, item: &ItemView<'_>, moment: &Moment<'_>) {
    AdminItemView {
        item: item.item,
        spec: &item.spec,
        state: state_of(item, moment.now).name(),
        draw: item.draw.as_ref().map(|draw| DrawFace { draw_ms: item.spec.draw_ms, view: draw }),
        granted: item.granted,
        available: item.available,
        held: item.held,
        sold: item.sold,
        accepted: u64::from(item.accepted),
        durable_lsn: moment.durable.0,
        exported_lsn: moment.exported.map(|lsn| lsn.0),
        version: item.version,
        settings_lsn: item.shown_lsn.0,
    }
    .fill(object);
}

fn state_of(item: &ItemView<'_>, now: UnixMillis) -> ItemState {
    match () {
        () if item.flags & (Rules::CLOSED | Rules::ENDED) != 0 => ItemState::Ended,
        () if now >= item.spec.closes_at_ms => ItemState::Ended,
        () if item.flags & Rules::PAUSED != 0 => ItemState::Paused,
        () if now < item.spec.opens_at_ms => ItemState::Upcoming,
        () if item.available == 0 => ItemState::SoldOut,
        () => ItemState::Open,
    }
}

fn audit(out: &mut Vec<u8>, rows: &[OwnedAudit], has_more: bool, manner: Manner, date: &Date) {
    answer::json(out, Status::Ok, manner, date, |object| {
        object.array("entries", |array| {
            for row in rows.iter().map(OwnedAudit::get) {
                array.object(|object| {
                    object.number("lsn", row.lsn.0).number("at_ms", row.at_ms.0);
                    object.text("actor", row.actor).text("action", row.action.name());
                    if let Some(item) = row.item {
                        object.number("item_id", item.get());
                    }
                    if let Some(order) = row.order {
                        object.quoted("order_id", order.get());
                    }
                    if row.units != 0 {
                        object.number("units", row.units);
                    }
                    if !row.subject.is_empty() {
                        object.bytes("buyer", row.subject);
                    }
                });
            }
        });
        object.boolean("has_more", has_more);
    });
}

/// A refusal of the core, as the client is told.
pub fn problem_of(refusal: Refusal, call: Call) -> Problem {
    match refusal {
        Refusal::NotFound => Code::NotFound.problem(),
        Refusal::NotEligible => Code::NotEligible.problem(),
        Refusal::NotOpen { opens_in_ms } => Problem::not_open(opens_in_ms),
        Refusal::Ended => Code::Ended.problem(),
        Refusal::Paused => Code::Paused.problem(),
        Refusal::RateLimited { retry_after_ms } => Problem::rate_limited(retry_after_ms),
        Refusal::TicketRequired => Code::TicketRequired.problem(),
        Refusal::TicketInvalid => Code::TicketInvalid.problem(),
        Refusal::BadQuantity => Code::BadQuantity.problem().detail("more than the cap of this item"),
        Refusal::SoldOut => Code::SoldOut.problem(),
        Refusal::CapReached { order: Some(order) } => Problem::cap_reached(order),
        Refusal::CapReached { order: None } => Code::CapReached.problem(),
        Refusal::OrdersUsedUp => {
            Code::CapReached.problem().detail("as many orders of this item as one buyer may place")
        }
        Refusal::KeyReused => Code::IdempotencyKeyReused.problem(),
        Refusal::NotCancellable if call == Call::Refund => Code::NotRefundable.problem(),
        Refusal::NotCancellable => Code::NotCancellable.problem(),
        Refusal::HoldExpired => Code::HoldExpired.problem(),
        Refusal::AlreadyPaid => Code::AlreadyPaid.problem(),
        Refusal::AlreadyRefunded => Code::AlreadyRefunded.problem(),
        Refusal::OtherPayment => Code::OtherPayment.problem(),
        Refusal::NotExtendable => Code::NotExtendable.problem(),
        Refusal::NotDrawn => Code::NotDrawn.problem(),
        Refusal::StockInUse { .. } => {
            Code::StockOutOfRange.problem().detail("fewer units are available than were to be withdrawn")
        }
        Refusal::Invalid(error) => Problem::from(error),
        Refusal::Overloaded => Code::Overloaded.problem(),
    }
}

/// Why nothing is decided at present, as the client is told.
pub fn problem_of_busy(busy: Busy) -> Problem {
    match busy {
        Busy::Overloaded => Code::Overloaded.problem(),
        Busy::LogFull => Code::LogFull.problem(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_core::types::{ItemId, OrderId, Quantity};

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
        assert_eq!(order_view(&view, Lsn(6)).state, ShownState::Accepted);
        assert_eq!(order_view(&view, Lsn(7)).state, ShownState::Durable(OrderState::Confirmed));
    }
}
