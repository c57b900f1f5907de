//! What buyers call: pages, purchases, their own orders.
//!
//! Order of checks on a purchase, as the contract has it: framing and route are
//! behind us; body, identity, blocklist and eligibility, window, rate, ticket, sold out; then
//! the owner.

use stampede_core::admit::{Buyer, admit};
use stampede_core::command::Refusal;
use stampede_core::types::{BuyerHash, ItemId, OrderId, Subject};

use super::{Called, Caller, Home};
use crate::engine::ask::{Ask, Key, OwnedItem, PurchaseAsk, RareAsk};
use crate::engine::counters::Count;
use crate::engine::pages;
use crate::engine::render::{Call, Shown, problem_of};
use crate::engine::shared::Phase;
use crate::http::answer::Manner;
use crate::http::body;
use crate::http::conn::Request;
use crate::http::page::Page;
use crate::http::problem::Code;
use crate::http::route::{ItemsQuery, OrdersQuery};

/// How long the list of items is kept before it is made anew, in milliseconds.
const LIST_MS: u64 = 1_000;

/// The page of items that was asked for last.
pub(super) struct List {
    query: ItemsQuery,
    until_ms: u64,
    page: Page,
}

impl Home {
    pub(super) fn identify(
        &self,
        request: &Request<'_>,
        caller: &mut Caller<'_>,
    ) -> Result<(Subject, Buyer), crate::http::problem::Problem> {
        let shared = &self.shared;
        let known = shared.identity.identify(&request.head, self.now.sale, caller.peer, caller.cache)?;
        let hash = shared.secret.buyer(known.subject.as_bytes());
        let blocked = self.owner.shard().is_blocked(hash);
        Ok((known.subject, Buyer { hash, level: known.level, since_s: known.since_s, blocked }))
    }

    fn identify_hash(
        &self,
        request: &Request<'_>,
        caller: &mut Caller<'_>,
    ) -> Result<BuyerHash, crate::http::problem::Problem> {
        self.identify(request, caller).map(|(_, buyer)| buyer.hash)
    }

    pub(super) fn buy(
        &mut self,
        item: ItemId,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        self.shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let purchase = body::purchase(request.body)?;
        let key = request.head.idempotency_key()?.unwrap_or_default();
        let who = self.identify(request, caller)?;
        let call = Call::Buy(request.head.prefers_async);
        self.place(item, who, (&purchase, key), request, (call, manner), caller)
    }

    /// A purchase by a known buyer: checks what can be checked here, then asks the owner.
    pub(super) fn place(
        &mut self,
        item: ItemId,
        (subject, buyer): (Subject, Buyer),
        (purchase, key): (&body::Purchase<'_>, &[u8]),
        request: &Request<'_>,
        (call, manner): (Call, Manner),
        caller: &Caller<'_>,
    ) -> Called {
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        if shared.phase() != Phase::Serving {
            return Err(Code::Draining.problem());
        }
        let asker = self.asker(&buyer, request, caller, self.keeper.counts_addresses());
        let (now, keeper, tickets) = (self.now, &mut self.keeper, &shared.gate.tickets);
        let rate = || keeper.rate_purchase(gauge, asker, now.mono_ms);
        let judge = || tickets.judge(gauge, purchase.ticket, subject.as_bytes(), now.sale);
        let ticket = admit(now.sale, gauge, &buyer, rate, judge).map_err(|refusal| {
            self.count(Count::RefusedEarly);
            problem_of(refusal, Call::Other)
        })?;
        let ask = Ask::Purchase(PurchaseAsk {
            item,
            buyer: buyer.hash,
            subject,
            quantity: purchase.quantity,
            key: Key::new(key),
            ticket,
        });
        self.ask(item, call, ask, manner, caller)
    }

    pub(super) fn cancel_own(
        &mut self,
        order: OrderId,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        body::empty(request.body)?;
        let buyer = self.identify_hash(request, caller)?;
        self.ask(order.item(), Call::MoveOrder, Ask::CancelOwn(order, buyer), manner, caller)
    }

    pub(super) fn own_order(
        &mut self,
        order: OrderId,
        wait_ms: u32,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        let buyer = self.identify_hash(request, caller)?;
        let until_ms = if wait_ms == 0 { 0 } else { self.now.mono_ms + u64::from(wait_ms) };
        self.ask(order.item(), Call::ReadOrder(until_ms), Ask::OrderOf(order, buyer), manner, caller)
    }

    pub(super) fn own_orders(
        &mut self,
        query: OrdersQuery,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        let buyer = self.identify_hash(request, caller)?;
        let (limit, after) = (usize::from(query.limit), query.after.map_or(0, OrderId::get));
        self.gather_orders(limit, false, manner, caller, |limit| {
            RareAsk::OrdersOf(buyer, None, after, limit)
        });
        Ok(())
    }

    // ---- pages ----

    pub(super) fn item_page(
        &mut self,
        item: ItemId,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(problem_of(Refusal::NotFound, Call::Other))?;
        let (now, date) = (self.now.sale, self.date);
        if let Some(page) = self.pages.get(gauge, now) {
            let held = request.head.if_none_match;
            self.connections.answer_bytes(caller, manner, |out| page.answer(out, held, now, manner, &date));
            return Ok(());
        }
        self.ask(item, Call::ItemPage, Ask::Rare(Box::new(RareAsk::Item(item))), manner, caller)
    }

    /// The settings of an item have come: keeps its page and answers with it.
    pub(super) fn page_reply(&mut self, item: OwnedItem) -> Shown {
        let shared = self.shared.clone();
        let Some(gauge) = shared.catalogue.find(item.get().item) else {
            return Shown::Problem(Code::NotFound.problem());
        };
        Shown::Page(self.pages.put(gauge, item, self.now.sale, shared.shown_lsn()).clone())
    }

    pub(super) fn list_items(
        &mut self,
        query: ItemsQuery,
        request: &Request<'_>,
        manner: Manner,
        caller: &mut Caller<'_>,
    ) -> Called {
        match &self.list {
            Some(list) if list.query == query && list.until_ms > self.now.mono_ms => {
                let (held, now, date) = (request.head.if_none_match, self.now.sale, &self.date);
                self.connections
                    .answer_bytes(caller, manner, |out| list.page.answer(out, held, now, manner, date));
            }
            _ => self.gather_items(query, false, manner, caller),
        }
        Ok(())
    }

    /// The items have come: keeps their page for a second.
    pub(super) fn list_reply(&mut self, query: ItemsQuery, items: &[OwnedItem]) -> Shown {
        let shared = self.shared.clone();
        let page = pages::list(items, |item| shared.catalogue.find(item), self.now.sale);
        self.list = Some(List { query, until_ms: self.now.mono_ms + LIST_MS, page: page.clone() });
        Shown::Page(page)
    }
}
