//! The merchant API. An owner decides every change; the change is a fact in the log, and the
//! response waits until that fact is durable.

use stampede_core::command::{Movement, Outcome};
use stampede_core::fact::Switch;
use stampede_core::shard::OrderFilter;
use stampede_core::types::{ItemId, Lsn, OrderId, Subject, UnixMillis};

use super::state::{Caller, Handled, Home};
use crate::engine::ask::{Ask, Key, OwnedItem, OwnedPatch, RareAsk, RefundAsk, Reply, Who};
use crate::engine::render::{problem_of, problem_of_busy};
use crate::engine::response::{RequestKind, Response};
use crate::http::answer::{self, Status};
use crate::http::body;
use crate::http::conn::Request;
use crate::http::field::{Field, Name};
use crate::http::line::Method;
use crate::http::problem::{Code, Problem};
use crate::http::route::{AdminOrdersQuery, BlocklistQuery, Route};
use crate::identity::{check_admin, subject};

impl Home {
    pub(super) fn merchant(&mut self, route: Route, caller: &mut Caller<'_>) -> Handled {
        let request = caller.request;
        check_admin(&request.head, self.shared.admin_token.as_bytes())?;
        check_condition(&route, request)?;
        match route {
            Route::AdminItems(query) => self.gather_items(query, caller),
            Route::AdminOrders(query) => self.admin_orders(&query, caller),
            Route::Audit(query) => self.gather_audit(query, caller),
            Route::Stats => self.stats(caller),
            Route::Blocklist(query) => self.blocklist(&query, caller),
            Route::Block(who) => return self.block(&who, true, caller),
            Route::Unblock(who) => return self.block(&who, false, caller),
            ref route => return self.ask_owner(route, caller),
        }
        Ok(())
    }

    /// What the owner of one item decides or tells.
    fn ask_owner(&mut self, route: &Route, caller: &Caller<'_>) -> Handled {
        let request = caller.request;
        let (item, kind, ask) = match *route {
            Route::AdminItem(item) => (item, RequestKind::Other, RareAsk::Item(item)),
            Route::AdminOrder(order) => (order.item(), RequestKind::Other, RareAsk::Order(order)),
            Route::PutItem(item) => {
                let mut name = String::new();
                let patch = body::item_patch(request.body, &mut name)?;
                (
                    item,
                    RequestKind::Other,
                    RareAsk::PutItem(item, OwnedPatch::new(&patch), if_match(request)?),
                )
            }
            Route::Restock(item) => {
                let add = body::restock(request.body)?;
                (item, RequestKind::Other, RareAsk::Adjust(item, add, Who::Merchant, key(request)?))
            }
            Route::Books(query) => {
                let (after, limit) = (query.after, u32::from(query.limit));
                (query.item, RequestKind::Other, RareAsk::Books(query.item, after, limit, query.rows))
            }
            Route::Mismatch(item) => {
                let reason = body::mismatch(request.body)?;
                self.shared.alarm_once(format!("item {item} is paused by reconcile: {reason}"));
                (
                    item,
                    RequestKind::Other,
                    RareAsk::SwitchItem(item, Switch::Paused, Who::Reconcile, Key::none()),
                )
            }
            Route::PauseItem(item) => switch(item, Switch::Paused, request)?,
            Route::ResumeItem(item) => switch(item, Switch::Resumed, request)?,
            Route::CloseItem(item) => switch(item, Switch::Closed, request)?,
            Route::PayOrder(order) => {
                let pay = body::pay(request.body)?;
                if pay.take_again {
                    (order.item(), RequestKind::MoveOrder, RareAsk::PayAgain(order, pay.payment_ref))
                } else {
                    movement(order, Movement::Pay, pay.payment_ref)
                }
            }
            Route::RefundOrder(order) => {
                let body::Refund { payment_ref, refund_ref, quantity } = body::refund(request.body)?;
                let refund_ref = if refund_ref.is_empty() { key_text(request)? } else { refund_ref };
                let ask = RefundAsk { payment_ref, refund_ref, units: quantity };
                (order.item(), RequestKind::Refund, RareAsk::Refund(order, ask))
            }
            Route::ExtendOrder(order) => {
                let pay_by_ms = body::extend(request.body)?;
                (order.item(), RequestKind::MoveOrder, RareAsk::Extend(order, pay_by_ms))
            }
            Route::AdminCancelOrder(order) => movement(order, Movement::Cancel, body::cancel(request.body)?),
            _ => return Err(Code::NotFound.problem()),
        };
        self.ask(item, kind, Ask::Rare(Box::new(ask)), caller)
    }

    fn admin_orders(&mut self, query: &AdminOrdersQuery, caller: &Caller<'_>) {
        let secret = &self.shared.secret;
        let filter = OrderFilter {
            item: query.item,
            buyer: query.buyer.as_ref().map(|subject| secret.buyer(subject.as_bytes())),
            state: query.state,
            payment_ref_hash: query.payment_ref.as_ref().map(|given| secret.reference(given.as_bytes())),
            from_ms: UnixMillis(query.from_ms),
            to_ms: UnixMillis(query.to_ms),
            newest: query.newest,
        };
        let (limit, after) = (usize::from(query.limit), query.after.map_or(0, OrderId::get));
        match query.late_payments {
            true => self.gather_late_payments(query.item, after, limit, caller),
            false => self.gather_page(filter, after, limit, caller),
        }
    }

    /// Every core has the whole blocklist: this one responds when what it knows is durable.
    fn blocklist(&mut self, query: &BlocklistQuery, caller: &Caller<'_>) {
        let (limit, shard) = (usize::from(query.limit), self.owner.shard());
        let after = query.after.as_ref().map_or(&[][..], Subject::as_bytes);
        let mut buyers: Vec<&[u8]> = shard.blocked_after(after, limit + 1).collect();
        let has_more = buyers.len() > limit;
        buyers.truncate(limit);
        let (lsn, mut bytes) = (shard.lsn(), Vec::new());
        answer::json(&mut bytes, Status::Ok, caller.mode, &self.date, |object| {
            object.array("buyers", |array| {
                buyers.iter().for_each(|buyer| {
                    array.object(|object| {
                        object.bytes("buyer", buyer);
                    });
                });
            });
            object.boolean("has_more", has_more);
        });
        let number = self.connections.open_slot(caller.conn, caller.mode, RequestKind::Other);
        let limits = (lsn, self.shared.shown_lsn());
        self.connections.fill(caller.conn, number, self.core, limits, Response::Bytes(bytes));
    }

    /// Owner 0 decides; the merchant API's socket is on its core, so that changes for one buyer
    /// reach every core in the order in which they were decided.
    fn block(&mut self, who: &Subject, blocked: bool, caller: &Caller<'_>) -> Handled {
        let request = caller.request;
        body::empty(request.body)?;
        let who = subject(who.as_bytes())
            .ok_or(Problem::invalid_field("sub", "must be UTF-8 without control characters"))?;
        let decided =
            self.owner.answer(self.now.sale, &Ask::Rare(Box::new(RareAsk::Block(who.clone(), blocked))));
        match decided {
            Reply::Outcome(Outcome::Done { lsn, .. }) => {
                self.gather_followers(lsn, caller, || RareAsk::FollowBlock(who.clone(), blocked));
                Ok(())
            }
            Reply::Outcome(Outcome::Refused(refusal)) => Err(problem_of(refusal, RequestKind::Other)),
            Reply::Busy(busy) => Err(problem_of_busy(busy)),
            _ => Err(Code::Internal.problem()),
        }
    }
}

/// The idempotency key of a request about an item.
fn key(request: &Request<'_>) -> Result<Key, Problem> {
    Ok(request.head.idempotency_key()?.map_or(Key::none(), Key::new))
}

/// The idempotency key, for a refund without a reference of its own: it identifies a retry as well.
fn key_text(request: &Request<'_>) -> Result<String, Problem> {
    let key = request.head.idempotency_key()?.unwrap_or_default();
    Ok(String::from_utf8_lossy(key).into_owned())
}

/// `If-Match: "settings_lsn"`: the change applies only to the settings that the caller has read.
fn if_match(request: &Request<'_>) -> Result<Option<Lsn>, Problem> {
    const BAD: Problem = Problem::new(Code::BadHeader).detail("If-Match: one settings_lsn, in quotes, or *");
    let value = match request.head.field(Name::IfMatch) {
        Field::Absent | Field::Once(b"*") => return Ok(None),
        Field::Once(value) => value,
        Field::Repeated(_) => return Err(BAD),
    };
    let number = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let number = str::from_utf8(number).ok().and_then(|digits| digits.parse().ok());
    number.map(|lsn| Some(Lsn(lsn))).ok_or(BAD)
}

/// Refuses `If-Match` on a change that ignores it: a client that sends it relies on it.
fn check_condition(route: &Route, request: &Request<'_>) -> Result<(), Problem> {
    let is_read = matches!(request.head.method, Method::Get | Method::Head);
    if is_read || matches!(route, Route::PutItem(_)) || request.head.field(Name::IfMatch) == Field::Absent {
        return Ok(());
    }
    Err(Problem::new(Code::BadHeader).detail("If-Match is supported by PUT /admin/items/{id} only"))
}

/// The item whose owner is asked, the kind of request, and the request itself.
type ItemRequest = (ItemId, RequestKind, RareAsk);

fn switch(item: ItemId, switch: Switch, request: &Request<'_>) -> Result<ItemRequest, Problem> {
    body::empty(request.body)?;
    Ok((item, RequestKind::Other, RareAsk::SwitchItem(item, switch, Who::Merchant, key(request)?)))
}

fn movement(order: OrderId, movement: Movement, payment_ref: String) -> ItemRequest {
    let kind = if movement == Movement::Refund { RequestKind::Refund } else { RequestKind::MoveOrder };
    (order.item(), kind, RareAsk::Move(order, movement, payment_ref))
}

/// The response to a change: the item as it is now, once the change is durable.
pub(super) fn change_response(outcome: Outcome, item: Option<OwnedItem>) -> (Lsn, Response) {
    match (outcome, item) {
        (Outcome::Done { lsn, changed }, Some(item)) => {
            let created = changed && item.get().version == 1;
            (lsn, Response::AdminItem(Box::new(item), created))
        }
        (Outcome::Refused(refusal) | Outcome::Noted(refusal, _), _) => {
            (Lsn::ZERO, Response::Problem(problem_of(refusal, RequestKind::Other)))
        }
        (outcome, _) => (outcome.shown_after(), Response::Done),
    }
}
