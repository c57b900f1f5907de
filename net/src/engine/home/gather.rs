//! Answers that several owners give: each is asked, and the parts are put together
//! when the last has come.

use std::collections::HashMap;

use super::{Caller, Home};
use crate::engine::ask::{
    Ask, Busy, OwnedAudit, OwnedItem, OwnedOrder, RareAsk, RareReply, Reply, ReplyTo, Token,
};
use crate::engine::browser::Browser;
use crate::engine::render::{Call, Shown, problem_of_busy};
use crate::http::limits::MERCHANT_LIST_MAX;
use crate::http::route::ItemsQuery;
use stampede_core::types::{ItemId, Lsn};

/// What the parts become.
enum Kind {
    /// Orders; `true`: for the merchant.
    Orders { limit: usize, merchant: bool },
    /// Items; `true`: for the merchant.
    Items { query: ItemsQuery, merchant: bool },
    /// The page of all sales.
    Sales(Browser),
    /// The audit trail.
    Audit { limit: usize },
    /// Nothing but that all have done it; shows after that LSN.
    Followed(Lsn),
}

/// An answer that is being gathered.
struct Gather {
    slot: (Token, u32),
    kind: Kind,
    missing: usize,
    busy: Option<Busy>,
    orders: Vec<OwnedOrder>,
    items: Vec<OwnedItem>,
    audit: Vec<OwnedAudit>,
}

/// All answers that are being gathered on a core: at most one per outstanding request.
#[derive(Default)]
pub(super) struct Gathers {
    open: HashMap<u32, Gather>,
    last: u32,
}

impl Home {
    pub(super) fn gather_orders(
        &mut self,
        limit: usize,
        merchant: bool,
        caller: &Caller<'_>,
        ask: impl Fn(usize) -> RareAsk,
    ) {
        // One more than wanted tells whether there are more.
        self.gather(Kind::Orders { limit, merchant }, caller, || ask(limit + 1));
    }

    pub(super) fn gather_items(&mut self, query: ItemsQuery, merchant: bool, caller: &Caller<'_>) {
        let (after, limit) = (query.after.map_or(0, ItemId::get), usize::from(query.limit));
        self.gather(Kind::Items { query, merchant }, caller, || RareAsk::Items(after, limit));
    }

    pub(super) fn gather_sales(&mut self, browser: Browser, caller: &Caller<'_>) {
        let limit = usize::from(MERCHANT_LIST_MAX);
        self.gather(Kind::Sales(browser), caller, || RareAsk::Items(0, limit));
    }

    pub(super) fn gather_audit(&mut self, after: Lsn, limit: usize, caller: &Caller<'_>) {
        self.gather(Kind::Audit { limit }, caller, || RareAsk::Audit(after, limit + 1));
    }

    /// Has all owners follow what owner 0 decided with the fact at `lsn`.
    pub(super) fn gather_followers(&mut self, lsn: Lsn, caller: &Caller<'_>, ask: impl Fn() -> RareAsk) {
        self.gather(Kind::Followed(lsn), caller, ask);
    }

    fn gather(&mut self, kind: Kind, caller: &Caller<'_>, ask: impl Fn() -> RareAsk) {
        let call = if let Kind::Sales(browser) = kind { Call::Browser(browser) } else { Call::Other };
        let number = self.connections.open_slot(caller.token, caller.manner, call);
        let id = self.gathers.last.wrapping_add(1);
        self.gathers.last = id;
        let missing = self.mesh.cores();
        let slot = (caller.token, number);
        let (orders, items, audit) = (Vec::new(), Vec::new(), Vec::new());
        self.gathers.open.insert(id, Gather { slot, kind, missing, busy: None, orders, items, audit });
        self.needs_flush = true;
        let here = self.core;
        for owner in (0..missing).filter(|&owner| owner != here) {
            self.ask_part(owner, id, ask());
        }
        // Last, so that the others decide meanwhile.
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

    /// One part has come.
    pub(super) fn gathered(&mut self, id: u32, reply: Reply) {
        let Some(gather) = self.gathers.open.get_mut(&id) else { return };
        match reply {
            Reply::Busy(busy) => gather.busy = Some(busy),
            Reply::Rare(part) => match *part {
                RareReply::Orders(mut orders) => gather.orders.append(&mut orders),
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
        let (token, number) = gather.slot;
        let (after, shown) = match gather.busy {
            Some(busy) => (Lsn::ZERO, Shown::Problem(problem_of_busy(busy))),
            None => self.put_together(gather),
        };
        let limits = (after, self.shared.shown_lsn());
        self.connections.fill(token, number, self.core, limits, shown);
    }

    fn put_together(&mut self, gather: Gather) -> (Lsn, Shown) {
        let Gather { kind, mut orders, mut items, mut audit, .. } = gather;
        match kind {
            Kind::Orders { limit, merchant } => {
                orders.sort_unstable_by_key(|owned| owned.order.order);
                let has_more = orders.len() > limit;
                orders.truncate(limit);
                let after = orders.iter().map(|owned| owned.order.state_lsn).max().unwrap_or_default();
                (after, Shown::Orders(orders, has_more, merchant))
            }
            Kind::Items { query, merchant } => {
                items.sort_unstable_by_key(|item| item.get().item);
                items.truncate(usize::from(query.limit));
                let after = items.iter().map(|item| item.get().lsn).max().unwrap_or_default();
                match merchant {
                    true => (after, Shown::AdminItems(items)),
                    false => {
                        let shown = self.shared.shown_lsn();
                        for item in &mut items {
                            item.hide_draw(shown);
                        }
                        (Lsn::ZERO, self.list_reply(query, &items))
                    }
                }
            }
            Kind::Sales(browser) => {
                items.sort_unstable_by_key(|item| item.get().item);
                (Lsn::ZERO, self.sales_reply(&items, browser))
            }
            Kind::Audit { limit } => {
                audit.sort_unstable_by_key(|entry| entry.get().lsn);
                let has_more = audit.len() > limit;
                audit.truncate(limit);
                let after = audit.last().map_or(Lsn::ZERO, |entry| entry.get().lsn);
                (after, Shown::Audit(audit, has_more))
            }
            Kind::Followed(lsn) => (lsn, Shown::Done),
        }
    }
}
