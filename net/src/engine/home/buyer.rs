//! The buyers' endpoints: items, purchases, their own orders.
//!
//! Order of checks on a purchase, as docs/API.md has it. Framing and route were checked before. Then come: body;
//! identity (before a token is verified, the rate of its address and its budget of invalid tokens); blocklist and
//! eligibility; window; rate; ticket; sold out. The owner decides last.

use stampede_core::admit::{Buyer, admit};
use stampede_core::command::Refusal;
use stampede_core::types::{BuyerHash, ItemId, OrderId, Subject};

use super::state::{Caller, Handled, Home};
use crate::engine::ask::{Ask, Key, OwnedItem, PurchaseAsk, RareAsk};
use crate::engine::counters::Count;
use crate::engine::pages;
use crate::engine::render::problem_of;
use crate::engine::response::{RequestKind, Response};
use crate::http::body;
use crate::http::cursor;
use crate::http::field::Name;
use crate::http::problem::{Code, Problem};
use crate::http::route::{ListQuery, OrdersAfter, OrdersQuery};
use crate::identity::{Buyer as Known, Recognised, Unverified};

/// Least time between two alarms about invalid tokens, in milliseconds.
const INVALID_TOKENS_QUIET_MS: u64 = 60_000;

impl Home {
    #[inline]
    pub(super) fn identify(&mut self, caller: &Caller<'_>) -> Result<(Subject, Buyer), Problem> {
        let (head, now) = (&caller.request.head, self.now.sale);
        let known = match self.shared.identity.recognise(head, now, caller.peer, &mut self.verdicts)? {
            Recognised::Buyer(known) => known,
            Recognised::Unverified(token) => self.verify(token, caller)?,
        };
        if self.shared.identity.expects_addresses() {
            let _seen = self.address(caller);
        }
        let hash = self.shared.secret.buyer(known.subject.as_bytes());
        let blocked = self.owner.shard().is_blocked(hash);
        Ok((known.subject, Buyer { hash, level: known.level, since_s: known.since_s, blocked }))
    }

    /// Verifies a token that this core does not remember, unless its address is over its rate already or has
    /// sent too many invalid tokens. A token that fails is charged to the address before the next one is verified.
    #[cold]
    fn verify(&mut self, token: Unverified<'_>, caller: &Caller<'_>) -> Result<Known, Problem> {
        let limited = |refusal| problem_of(refusal, RequestKind::Other);
        let (address, now) = (self.address(caller), self.now);
        self.limits.check_address(Some(address), now.mono_ms).map_err(limited)?;
        if let Err(refusal) = self.limits.may_verify(address, now.mono_ms) {
            self.report_invalid_tokens(caller);
            return Err(limited(refusal));
        }
        self.count(Count::TokensVerified);
        self.shared.identity.verify(token, now.sale, &mut self.verdicts).map_err(|reason| {
            let _over = self.limits.rate_address(Some(address), now.mono_ms);
            if reason.is_junk() {
                self.limits.note_invalid_token(address, now.mono_ms);
            }
            reason.problem()
        })
    }

    /// Raises an alarm about an address that sends too many invalid tokens; not about each, since a flood has many.
    fn report_invalid_tokens(&mut self, caller: &Caller<'_>) {
        self.count(Count::TokensRefused);
        if self.now.mono_ms < self.invalid_tokens_quiet_ms {
            return;
        }
        self.invalid_tokens_quiet_ms = self.now.mono_ms + INVALID_TOKENS_QUIET_MS;
        let client = self.shared.identity.client_ip(&caller.request.head, caller.peer);
        self.shared.alarm_once(format!(
            "{client} sends more invalid tokens than limits.bad_tokens_per_s allows. Most new tokens from there now \
             get 429. If it is the address of your own proxy, add it to \
             identity.trusted_proxies: then each client is counted by its own address"
        ));
    }

    fn identify_hash(&mut self, caller: &Caller<'_>) -> Result<BuyerHash, Problem> {
        self.identify(caller).map(|(_, buyer)| buyer.hash)
    }

    pub(super) fn buy(&mut self, item: ItemId, caller: &mut Caller<'_>) -> Handled {
        let request = caller.request;
        self.shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let purchase = body::purchase(request.body)?;
        let key = request.head.idempotency_key()?.unwrap_or_default();
        let who = self.identify(caller)?;
        let kind = RequestKind::Buy(request.head.prefers_async);
        self.place(item, who, (&purchase, key), kind, caller)
    }

    /// A purchase by an identified buyer: checks what can be checked here, then asks the owner.
    pub(super) fn place(
        &mut self,
        item: ItemId,
        (subject, buyer): (Subject, Buyer),
        (purchase, key): (&body::Purchase<'_>, &[u8]),
        kind: RequestKind,
        caller: &Caller<'_>,
    ) -> Handled {
        let wants_address = self.limits.counts_addresses();
        let asker = self.asker(&buyer, caller, wants_address);
        let gauge = self.shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        if self.is_closed_for_business() {
            return Err(Code::Draining.problem());
        }
        let (now, limits, tickets) = (self.now, &mut self.limits, &self.shared.gate.tickets);
        let rate = || limits.rate_purchase(gauge, asker, now.mono_ms);
        let check = || tickets.check(gauge, purchase.ticket, subject.as_bytes(), now.sale);
        let ticket = admit(now.sale, gauge, &buyer, rate, check).map_err(|refusal| {
            self.count(Count::RefusedEarly);
            problem_of(refusal, RequestKind::Other)
        })?;
        let ask = Ask::Purchase(PurchaseAsk {
            item,
            buyer: buyer.hash,
            subject,
            quantity: purchase.quantity,
            key: Key::new(key),
            ticket,
        });
        self.ask(item, kind, ask, caller)
    }

    pub(super) fn cancel_own(&mut self, order: OrderId, caller: &mut Caller<'_>) -> Handled {
        body::empty(caller.request.body)?;
        let buyer = self.identify_hash(caller)?;
        self.ask(order.item(), RequestKind::MoveOrder, Ask::CancelOwn(order, buyer), caller)
    }

    pub(super) fn own_order(&mut self, order: OrderId, wait_ms: u32, caller: &mut Caller<'_>) -> Handled {
        let buyer = self.identify_hash(caller)?;
        let until_ms = if wait_ms == 0 { 0 } else { self.now.mono_ms + u64::from(wait_ms) };
        self.ask(order.item(), RequestKind::ReadOrder(until_ms), Ask::OrderOf(order, buyer), caller)
    }

    pub(super) fn own_orders(&mut self, query: OrdersQuery, caller: &mut Caller<'_>) -> Handled {
        let buyer = self.identify_hash(caller)?;
        let limit = usize::from(query.limit);
        match query.after {
            OrdersAfter::Oldest(after) => {
                let after = after.map_or(0, OrderId::get);
                let ask = |limit| RareAsk::OrdersOf(buyer, None, after, limit);
                self.gather_orders((limit, false), caller, ask);
            }
            OrdersAfter::Newest(behind) => {
                self.gather_orders((limit, true), caller, |limit| RareAsk::NewestOf(buyer, behind, limit));
            }
        }
        Ok(())
    }

    // ---- items ----

    pub(super) fn item_page(&mut self, item: ItemId, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(problem_of(Refusal::NotFound, RequestKind::Other))?;
        let (now, date) = (self.now.sale, self.date);
        if let Some(page) = self.pages.get(gauge, now) {
            let held = request.head.field(Name::IfNoneMatch);
            self.connections.answer_bytes(caller, |out| page.answer(out, held, now, mode, &date));
            return Ok(());
        }
        self.ask(item, RequestKind::ItemPage, Ask::Rare(Box::new(RareAsk::Item(item))), caller)
    }

    /// The settings of an item have arrived: stores its page and responds with it.
    pub(super) fn page_reply(&mut self, item: OwnedItem) -> Response {
        let shared = self.shared.clone();
        let Some(gauge) = shared.catalogue.find(item.get().item) else {
            return Response::Problem(Code::NotFound.problem());
        };
        Response::Page(self.pages.put(gauge, item, self.now.sale, &shared).clone())
    }

    pub(super) fn list_items(&mut self, query: ListQuery, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        if let Some(page) = self.lists.get(query, self.now.mono_ms) {
            let (held, now, date) = (request.head.field(Name::IfNoneMatch), self.now.sale, &self.date);
            self.connections.answer_bytes(caller, |out| page.answer(out, held, now, mode, date));
            return Ok(());
        }
        self.rate_address(caller)?;
        self.gather_listed(query, caller);
        Ok(())
    }

    /// Charges the address of an anonymous client for a request that costs the owners work.
    pub(super) fn rate_address(&mut self, caller: &Caller<'_>) -> Handled {
        let address = self.limits.counts_addresses().then(|| self.address(caller));
        let rate = self.limits.rate_address(address, self.now.mono_ms);
        rate.map_err(|refusal| problem_of(refusal, RequestKind::Other))
    }

    /// The items have arrived: keeps their page for a second.
    pub(super) fn list_reply(&mut self, query: ListQuery, items: &[OwnedItem], has_more: bool) -> Response {
        let shared = self.shared.clone();
        let last = items.last().filter(|_| has_more);
        let next_after = last.map(|item| cursor::place_text(item.get().place()));
        let page = pages::list(items, next_after.as_deref(), &shared, self.now.sale);
        self.lists.put(query, self.now.mono_ms, page.clone());
        Response::Page(page)
    }
}
