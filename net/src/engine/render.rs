//! Renders responses as bytes: all of the engine's but the sale pages.
//!
//! A response is rendered when it is the next of its connection and may be shown, so that
//! the numbers in it are of that moment.

use stampede_core::command::{ItemView, OrderView, Refusal};
use stampede_core::gauge::{ItemState, Rules};
use stampede_core::item::OrderState;
use stampede_core::money::{MoneyKind, MoneyRow, reference_of};
use stampede_core::types::{Lsn, OrderId, UnixMillis};

use super::ask::{OwnedAudit, OwnedMoney, OwnedOrder};
use super::busy::Busy;
use super::response::{RenderContext, RequestKind, Response, order_view, shown_as};
use crate::http::answer::{self, Cache, Date, Media, OrderHeaders, ResponseMode, Status, VisibleState};
use crate::http::field::Field;
use crate::http::json_out::{self, Object};
use crate::http::page::fill_admin;
use crate::http::problem::{Code, Problem};

/// Appends the response.
pub fn render(
    out: &mut Vec<u8>,
    response: &Response,
    kind: RequestKind,
    mode: ResponseMode,
    context: &RenderContext<'_>,
) {
    let date = context.date;
    if let RequestKind::Browser(browser) = kind
        && super::browser::write(out, response, browser, mode, context)
    {
        return;
    }
    match response {
        Response::Problem(problem) => answer::problem(out, problem, mode, date),
        Response::Order { view, replay } => order(out, view, *replay, kind, mode, context),
        Response::AdminOrder(owned) => {
            answer::json(out, Status::Ok, mode, date, |object| admin_order(object, owned, context.shown));
        }
        Response::Orders(rows, has_more, next_after) => {
            let views = rows.iter().map(|row| order_view(&row.order, context.shown));
            answer::order_list(out, views, (*has_more, next_after.as_deref()), mode, date);
        }
        Response::OrdersPage(rows, next_after) => {
            admin_orders(out, rows, *next_after, mode, context);
        }
        Response::AdminItem(item, created) => {
            let status = if *created { Status::Created } else { Status::Ok };
            let item = item.get();
            // A later change names it in `If-Match`.
            answer::Answer::begin(out, status, Cache::Never, mode, date)
                .tag(item.shown_lsn)
                .body(Media::Json, |out| json_out::object(out, |object| admin_item(object, &item, context)));
        }
        Response::AdminItems(items, has_more) => answer::json(out, Status::Ok, mode, date, |object| {
            object.array("items", |array| {
                for item in items {
                    array.object(|object| admin_item(object, &item.get(), context));
                }
            });
            object.boolean("has_more", *has_more).number("now_ms", context.now.0);
        }),
        Response::Books(books) => answer::json(out, Status::Ok, mode, date, |object| books.fill(object)),
        Response::Audit(rows, has_more) => audit(out, rows, *has_more, mode, date),
        Response::Draw(page) => page.answer(out, context.now, mode, date),
        Response::Page(page) => page.answer(out, Field::Absent, context.now, mode, date),
        Response::Bytes(bytes) => out.extend_from_slice(bytes),
        // Pages are rendered above, since only browsers ask for them; a batch is written in pieces by the home.
        Response::Batch(_)
        | Response::Html(_)
        | Response::OrderPage(_)
        | Response::SendAgain(..)
        | Response::Done => {
            answer::json(out, Status::Ok, mode, date, |_| {});
        }
    }
}

fn order(
    out: &mut Vec<u8>,
    view: &OrderView,
    replay: bool,
    kind: RequestKind,
    mode: ResponseMode,
    context: &RenderContext<'_>,
) {
    let (status, shown, location) = match kind {
        RequestKind::Buy(true) => (Status::Accepted, shown_as(view, VisibleState::Accepted), true),
        // An entry in a draw is accepted; its result is decided later.
        RequestKind::Buy(false) if view.state == OrderState::Entered => {
            (Status::Accepted, shown_as(view, VisibleState::Durable(view.state)), true)
        }
        RequestKind::Buy(false) => (Status::Created, shown_as(view, VisibleState::Durable(view.state)), true),
        _ => (Status::Ok, order_view(view, context.shown), false),
    };
    answer::order(out, status, &shown, OrderHeaders { replay, location }, mode, context.date);
}

/// An order with everything that is known of it (I20), as far as it may be shown.
fn admin_order(object: &mut Object<'_>, owned: &OwnedOrder, shown: Lsn) {
    order_view(&owned.order, shown).fill(object);
    object.bytes("buyer", &owned.subject).nonempty("idempotency_key", &owned.key);
    let money = || owned.money.iter().map(OwnedMoney::get).filter(|row| row.lsn <= shown);
    let mut last = |kind, reference: &'static str, at: &'static str| {
        let Some(row) = money().rfind(|row| row.kind == kind) else { return };
        let (counts, _) = reference_of(money(), kind);
        object.nonempty(reference, counts).nonzero(at, row.at_ms.0);
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
    object.nonempty(name, row.reference).nonzero("quantity", row.units);
    object.nonzero("at_ms", row.at_ms.0).number("lsn", row.lsn.0);
    if let Some(back) = back {
        object.nonempty("refund_ref", back.reference).number("refunded_at_ms", back.at_ms.0);
    }
}

/// `{"orders":[…],"has_more":…}`, with `next_after` where there are more: a page of filtered orders may be
/// empty although more follow.
fn admin_orders(
    out: &mut Vec<u8>,
    rows: &[OwnedOrder],
    next_after: Option<OrderId>,
    mode: ResponseMode,
    context: &RenderContext<'_>,
) {
    answer::json(out, Status::Ok, mode, context.date, |object| {
        object.array("orders", |array| {
            for row in rows {
                array.object(|object| admin_order(object, row, context.shown));
            }
        });
        object.boolean("has_more", next_after.is_some());
        object.quoted_if("next_after", next_after.map(OrderId::get));
    });
}

fn admin_item(object: &mut Object<'_>, item: &ItemView<'_>, context: &RenderContext<'_>) {
    let state = state_of(item, context.now).name();
    fill_admin(object, item, state, (context.durable, context.exported));
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

fn audit(out: &mut Vec<u8>, rows: &[OwnedAudit], has_more: bool, mode: ResponseMode, date: &Date) {
    answer::json(out, Status::Ok, mode, date, |object| {
        object.array("entries", |array| {
            for row in rows.iter().map(OwnedAudit::get) {
                array.object(|object| {
                    object.number("lsn", row.lsn.0).number("at_ms", row.at_ms.0);
                    object.text("actor", row.actor).text("action", row.action.name());
                    object.number_if("item_id", row.item.map(|item| item.get().into()));
                    object.quoted_if("order_id", row.order.map(OrderId::get));
                    object.nonzero("units", row.units).nonempty("buyer", row.subject);
                });
            }
        });
        object.boolean("has_more", has_more);
    });
}

/// The problem that the client gets for a refusal.
pub fn problem_of(refusal: Refusal, kind: RequestKind) -> Problem {
    Problem::of(refusal, kind == RequestKind::Refund)
}

/// The problem that the client gets while the owner decides nothing.
pub fn problem_of_busy(busy: Busy) -> Problem {
    match busy {
        Busy::Overloaded => Code::Overloaded.problem(),
        Busy::LogFull => Code::LogFull.problem(),
    }
}
