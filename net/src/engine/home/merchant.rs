//! What the shop's back office calls. Every change is decided by an owner, is a fact in
//! the log, and is answered when that fact is durable.

use stampede_core::command::{Movement, Outcome};
use stampede_core::fact::Switch;
use stampede_core::shard::OrderFilter;
use stampede_core::types::{ItemId, Lsn, OrderId, Subject, UnixMillis};

use super::{Called, Caller, Home};
use crate::engine::ask::{Ask, OwnedItem, OwnedPatch, RareAsk, Reply, Who};
use crate::engine::render::{Call, Shown, problem_of, problem_of_busy};
use crate::http::answer::{self, Status};
use crate::http::body;
use crate::http::conn::Request;
use crate::http::problem::{Code, Problem};
use crate::http::route::{AdminOrdersQuery, BlocklistQuery, Route};
use crate::identity::{check_admin, subject};

impl Home {
    pub(super) fn merchant(&mut self, route: Route, caller: &mut Caller<'_>) -> Called {
        let request = caller.request;
        check_admin(&request.head, self.shared.admin_token.as_bytes())?;
        let mut scratch = String::new();
        let ask = match route {
            Route::AdminItems(query) => {
                self.gather_items(query, true, caller);
                return Ok(());
            }
            Route::AdminOrders(query) => {
                self.admin_orders(&query, caller);
                return Ok(());
            }
            Route::Audit(query) => {
                self.gather_audit(query, caller);
                return Ok(());
            }
            Route::Stats => {
                self.stats(caller);
                return Ok(());
            }
            Route::Blocklist(query) => {
                self.blocklist(&query, caller);
                return Ok(());
            }
            Route::Block(who) => return self.block(&who, true, caller),
            Route::Unblock(who) => return self.block(&who, false, caller),
            Route::AdminItem(item) => (item, Call::Other, RareAsk::Item(item)),
            Route::AdminOrder(order) => (order.item(), Call::Other, RareAsk::Order(order)),
            Route::PutItem(item) => {
                let patch = body::item_patch(request.body, &mut scratch)?;
                (item, Call::Other, RareAsk::PutItem(item, OwnedPatch::new(&patch)))
            }
            Route::Restock(item) => {
                (item, Call::Other, RareAsk::Adjust(item, body::restock(request.body)?, Who::Merchant))
            }
            Route::Books(query) => {
                let (after, limit) = (query.after, u32::from(query.limit));
                (query.item, Call::Other, RareAsk::Books(query.item, after, limit, query.rows))
            }
            Route::Mismatch(item) => {
                let reason = body::mismatch(request.body, &mut scratch)?;
                self.shared.alarm_once(format!("item {item} is paused by reconcile: {reason}"));
                (item, Call::Other, RareAsk::SwitchItem(item, Switch::Paused, Who::Reconcile))
            }
            Route::PauseItem(item) => switch(item, Switch::Paused, request)?,
            Route::ResumeItem(item) => switch(item, Switch::Resumed, request)?,
            Route::CloseItem(item) => switch(item, Switch::Closed, request)?,
            Route::PayOrder(order) => {
                let reference = body::pay(request.body, &mut scratch)?.0.to_owned();
                movement(order, Movement::Pay, reference)
            }
            Route::RefundOrder(order) => {
                let reference = body::refund(request.body, &mut scratch)?.map_or("", |given| given.0);
                movement(order, Movement::Refund, reference.to_owned())
            }
            Route::AdminCancelOrder(order) => {
                let reference = body::refund(request.body, &mut scratch)?.map_or("", |given| given.0);
                movement(order, Movement::Cancel, reference.to_owned())
            }
            _ => return Err(Code::NotFound.problem()),
        };
        let (item, call, ask) = ask;
        self.ask(item, call, Ask::Rare(Box::new(ask)), caller)
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
        self.gather_page(filter, after, limit, caller);
    }

    /// Every core knows who is blocked: this one tells, when what it knows is durable.
    fn blocklist(&mut self, query: &BlocklistQuery, caller: &Caller<'_>) {
        let (limit, shard) = (usize::from(query.limit), self.owner.shard());
        let after = query.after.as_ref().map_or(&[][..], Subject::as_bytes);
        let mut buyers: Vec<&[u8]> = shard.blocked_after(after, limit + 1).collect();
        let has_more = buyers.len() > limit;
        buyers.truncate(limit);
        let (lsn, mut bytes) = (shard.lsn(), Vec::new());
        answer::json(&mut bytes, Status::Ok, caller.manner, &self.date, |object| {
            object.array("buyers", |array| {
                buyers.iter().for_each(|buyer| {
                    array.object(|object| {
                        object.bytes("buyer", buyer);
                    });
                });
            });
            object.boolean("has_more", has_more);
        });
        let number = self.connections.open_slot(caller.token, caller.manner, Call::Other);
        let limits = (lsn, self.shared.shown_lsn());
        self.connections.fill(caller.token, number, self.core, limits, Shown::Bytes(bytes));
    }

    /// Owner 0 decides; the merchant listener is on its core, so that changes of one buyer
    /// reach every core in the order in which they were decided.
    fn block(&mut self, who: &Subject, blocked: bool, caller: &Caller<'_>) -> Called {
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
            Reply::Outcome(Outcome::Refused(refusal)) => Err(problem_of(refusal, Call::Other)),
            Reply::Busy(busy) => Err(problem_of_busy(busy)),
            _ => Err(Code::Internal.problem()),
        }
    }
}

/// The question, the item whose owner is asked, and what the answer depends on.
type Question = (ItemId, Call, RareAsk);

fn switch(item: ItemId, switch: Switch, request: &Request<'_>) -> Result<Question, Problem> {
    body::empty(request.body)?;
    Ok((item, Call::Other, RareAsk::SwitchItem(item, switch, Who::Merchant)))
}

fn movement(order: OrderId, movement: Movement, payment_ref: String) -> Question {
    let call = if movement == Movement::Refund { Call::Refund } else { Call::MoveOrder };
    (order.item(), call, RareAsk::Move(order, movement, payment_ref))
}

/// What the merchant sees of a change: the item as it is now, once the change is durable.
pub(super) fn shown_change(outcome: Outcome, item: Option<OwnedItem>) -> (Lsn, Shown) {
    match (outcome, item) {
        (Outcome::Done { lsn, changed }, Some(item)) => {
            let created = changed && item.get().version == 1;
            (lsn, Shown::AdminItem(Box::new(item), created))
        }
        (Outcome::Refused(refusal), _) => (Lsn::ZERO, Shown::Problem(problem_of(refusal, Call::Other))),
        (outcome, _) => (outcome.shown_after(), Shown::Done),
    }
}
