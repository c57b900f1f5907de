//! Responses that several owners give: each is asked, and the parts are put together when the last
//! has come.

use std::cmp::Reverse;

use super::open_gathers::{Gather, Kind};
use super::state::{Caller, Home};
use crate::engine::ask::{Ask, Busy, OwnedOrder, RareAsk, RareReply, Reply, ReplyTo};
use crate::engine::render::problem_of_busy;
use crate::engine::response::{Browser, RequestKind, Response};
use crate::http::cursor::{self, Age};
use crate::http::limits::MERCHANT_LIST_MAX;
use crate::http::problem::Problem;
use crate::http::route::{AuditQuery, ItemsQuery, ListAfter, ListQuery};
use stampede_core::gauge::Gauge;
use stampede_core::shard::OrderFilter;
use stampede_core::types::{ItemId, Lsn, OrderId};

impl Home {
    pub(super) fn gather_orders(
        &mut self,
        (limit, newest): (usize, bool),
        caller: &Caller<'_>,
        ask: impl Fn(usize) -> RareAsk,
    ) {
        // One more than the page holds tells whether there are more.
        self.gather(Kind::Orders { limit, newest }, caller, || ask(limit + 1));
    }

    /// A page of the merchant's list of orders, up to where all owners have looked.
    pub(super) fn gather_page(&mut self, filter: OrderFilter, after: u64, limit: usize, caller: &Caller<'_>) {
        let kind = Kind::OrdersPage { limit, newest: filter.newest };
        self.gather(kind, caller, || RareAsk::Orders(filter, after, limit));
    }

    /// A page of the merchant's list of payments that came too late.
    pub(super) fn gather_late_payments(
        &mut self,
        item: Option<ItemId>,
        after: u64,
        limit: usize,
        caller: &Caller<'_>,
    ) {
        let kind = Kind::OrdersPage { limit, newest: false };
        self.gather(kind, caller, || RareAsk::LatePayments(item, after, limit));
    }

    pub(super) fn gather_items(&mut self, query: ItemsQuery, caller: &Caller<'_>) {
        let (after, limit) = (query.after.map_or(0, ItemId::get), usize::from(query.limit));
        self.gather(Kind::Items(query), caller, || RareAsk::Items(after, limit + 1, query.newest));
    }

    pub(super) fn gather_listed(&mut self, query: ListQuery, caller: &Caller<'_>) {
        let behind = match query.after {
            ListAfter::Start => None,
            ListAfter::Place(place) => Some(place),
            // After the item's present place; an item that does not exist means from the start.
            ListAfter::Item(item) => self.shared.catalogue.find(item).map(Gauge::place),
        };
        let limit = usize::from(query.limit);
        self.gather(Kind::Listed(query), caller, || RareAsk::Listed(behind, limit + 1));
    }

    pub(super) fn gather_sales(&mut self, browser: Browser, caller: &Caller<'_>) {
        let limit = usize::from(MERCHANT_LIST_MAX);
        self.gather(Kind::Sales(browser), caller, || RareAsk::Listed(None, limit));
    }

    pub(super) fn gather_audit(&mut self, query: AuditQuery, caller: &Caller<'_>) {
        let (after, limit, newest) = (Lsn(query.after), usize::from(query.limit), query.newest);
        self.gather(Kind::Audit { limit, newest }, caller, || RareAsk::Audit(after, limit + 1, newest));
    }

    /// Has all owners apply what owner 0 decided with the fact at `lsn`.
    pub(super) fn gather_followers(&mut self, lsn: Lsn, caller: &Caller<'_>, ask: impl Fn() -> RareAsk) {
        self.gather(Kind::Followed(lsn), caller, ask);
    }

    fn gather(&mut self, kind: Kind, caller: &Caller<'_>, ask: impl Fn() -> RareAsk) {
        let request =
            if let Kind::Sales(browser) = kind { RequestKind::Browser(browser) } else { RequestKind::Other };
        let number = self.connections.open_slot(caller.conn, caller.mode, request);
        let id = self.gathers.last.wrapping_add(1);
        self.gathers.last = id;
        let missing = self.mesh.cores();
        let slot = (caller.conn, number);
        let (orders, items, audit) = (Vec::new(), Vec::new(), Vec::new());
        let (busy, too_many, looked_to) = (None, false, None);
        let gather = Gather { slot, kind, missing, busy, too_many, orders, looked_to, items, audit };
        self.gathers.open.insert(id, gather);
        self.needs_flush = true;
        let here = self.core;
        for owner in (0..missing).filter(|&owner| owner != here) {
            self.ask_part(owner, id, ask());
        }
        // This core last: the others work meanwhile.
        self.ask_part(here, id, ask());
    }

    fn ask_part(&mut self, owner: usize, id: u32, ask: RareAsk) {
        let ask = Ask::Rare(Box::new(ask));
        let reply = if owner == self.core && !self.contended {
            self.owner.answer(self.now.sale, &ask)
        } else if self.mesh.ask(owner, ReplyTo::Gather(id), ask) {
            return;
        } else {
            Reply::Busy(Busy::Overloaded)
        };
        self.gathered(id, reply);
    }

    /// Takes one owner's part.
    pub(super) fn gathered(&mut self, id: u32, reply: Reply) {
        let Some(gather) = self.gathers.open.get_mut(&id) else { return };
        match reply {
            Reply::Busy(busy) => gather.busy = Some(busy),
            Reply::Rare(part) => match *part {
                RareReply::Orders(mut orders) => gather.orders.append(&mut orders),
                RareReply::TooManyOrders => gather.too_many = true,
                RareReply::OrdersPage(mut orders, looked_to) => {
                    gather.orders.append(&mut orders);
                    gather.looked_to = [gather.looked_to, looked_to].into_iter().flatten().min();
                }
                RareReply::Items(mut items) => gather.items.append(&mut items),
                RareReply::Audit(mut audit) => gather.audit.append(&mut audit),
                _ => {}
            },
            Reply::Outcome(_) | Reply::Order(_) | Reply::Batch(_) => {}
        }
        gather.missing -= 1;
        if gather.missing == 0
            && let Some(gather) = self.gathers.open.remove(&id)
        {
            self.finish_gather(gather);
        }
    }

    fn finish_gather(&mut self, gather: Gather) {
        let (conn, number) = gather.slot;
        let (after, response) = match gather.busy {
            Some(busy) => (Lsn::ZERO, Response::Problem(problem_of_busy(busy))),
            None if gather.too_many => {
                let reason =
                    "newest works for buyers with at most 2,048 orders on each core; this buyer has more";
                (Lsn::ZERO, Response::Problem(Problem::invalid_field("order", reason)))
            }
            None => self.put_together(gather),
        };
        let limits = (after, self.shared.shown_lsn());
        self.connections.fill(conn, number, self.core, limits, response);
    }

    /// The response that all parts make, and the LSN that has to be durable before it may be shown.
    fn put_together(&mut self, gather: Gather) -> (Lsn, Response) {
        let Gather { kind, mut orders, looked_to, mut items, mut audit, .. } = gather;
        match kind {
            Kind::OrdersPage { limit, newest } => orders_page(orders, looked_to, limit, newest),
            Kind::Orders { limit, newest } => {
                match newest {
                    true => orders.sort_unstable_by_key(|owned| Reverse(age(owned))),
                    false => orders.sort_unstable_by_key(|owned| owned.order.order),
                }
                let has_more = cut(&mut orders, limit);
                let last = orders.last().filter(|_| newest && has_more);
                let next_after = last.map(|owned| cursor::age_text(age(owned)));
                (last_change(&orders), Response::Orders(orders, has_more, next_after))
            }
            Kind::Items(ItemsQuery { limit, newest, .. }) => {
                sort(&mut items, newest, |item| item.get().item);
                let has_more = cut(&mut items, limit.into());
                let after = items.iter().map(|item| item.get().lsn).max().unwrap_or_default();
                (after, Response::AdminItems(items, has_more))
            }
            Kind::Listed(query) => {
                sort(&mut items, false, |item| item.get().place());
                let has_more = cut(&mut items, query.limit.into());
                let shown = self.shared.shown_lsn();
                for item in &mut items {
                    item.hide_draw(shown);
                }
                (Lsn::ZERO, self.list_reply(query, &items, has_more))
            }
            Kind::Sales(browser) => {
                sort(&mut items, false, |item| item.get().place());
                (Lsn::ZERO, self.sales_reply(&items, browser))
            }
            Kind::Audit { limit, newest } => {
                sort(&mut audit, newest, |entry| entry.get().lsn);
                let has_more = cut(&mut audit, limit);
                let after = audit.iter().map(|entry| entry.get().lsn).max().unwrap_or_default();
                (after, Response::Audit(audit, has_more))
            }
            Kind::Followed(lsn) => (lsn, Response::Done),
        }
    }
}

/// A page of orders for the merchant. `looked_to` is the first order at which an owner stopped looking: what
/// lies beyond it comes with the next page. With the newest first all are of one item, so of one owner.
fn orders_page(
    mut orders: Vec<OwnedOrder>,
    looked_to: Option<OrderId>,
    limit: usize,
    newest: bool,
) -> (Lsn, Response) {
    orders.retain(|owned| newest || looked_to.is_none_or(|last| owned.order.order <= last));
    sort(&mut orders, newest, |owned| owned.order.order);
    let has_more = cut(&mut orders, limit);
    let last = orders.last().map(|owned| owned.order.order);
    let next_after = if has_more { last } else { looked_to };
    (last_change(&orders), Response::OrdersPage(orders, next_after))
}

fn age(owned: &OwnedOrder) -> Age {
    (owned.order.created_at_ms, owned.order.order)
}

/// The LSN of the last change of these orders.
fn last_change(orders: &[OwnedOrder]) -> Lsn {
    orders.iter().map(|owned| owned.order.state_lsn).max().unwrap_or_default()
}

/// Sorts by a key that no two rows share; the highest first if `newest`.
fn sort<T, K: Ord>(rows: &mut [T], newest: bool, key: impl Fn(&T) -> K) {
    rows.sort_unstable_by_key(key);
    if newest {
        rows.reverse();
    }
}

/// Cuts the rows to a page; returns whether there were more.
fn cut<T>(rows: &mut Vec<T>, limit: usize) -> bool {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    has_more
}
