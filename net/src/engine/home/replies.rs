//! Asks the owner of an item, and turns its replies into responses.
//!
//! A response waits until the LSN that it shows is durable. Next: [`super::gather`] for responses of several owners.

use stampede_core::command::Outcome;
use stampede_core::types::{ItemId, Lsn};

use super::merchant;
use super::state::{Caller, Handled, Home};
use crate::engine::ask::{Ask, RareReply, Reply, ReplyTo};
use crate::engine::busy::Busy;
use crate::engine::counters::Count;
use crate::engine::render::{problem_of, problem_of_busy};
use crate::engine::response::{RequestKind, Response};
use crate::http::problem::Code;

impl Home {
    /// Asks the owner of an item; its reply becomes the response.
    pub(super) fn ask(&mut self, item: ItemId, kind: RequestKind, ask: Ask, caller: &Caller<'_>) -> Handled {
        let mode = caller.mode;
        let owner = item.owner(self.mesh.cores());
        self.needs_flush = true;
        if owner == self.core && !self.contended {
            let reply = self.owner.answer(self.now.sale, &ask);
            let number = self.connections.open_slot(caller.conn, mode, kind);
            self.deliver(owner, ReplyTo::Slot(caller.conn, number), reply);
            return Ok(());
        }
        let number = self.connections.open_slot(caller.conn, mode, kind);
        let to = ReplyTo::Slot(caller.conn, number);
        if owner != self.core {
            self.count(Count::Hops);
        }
        if !self.mesh.ask(owner, to, ask) {
            self.deliver(owner, to, Reply::Busy(Busy::Overloaded));
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, owner: usize, to: ReplyTo, reply: Reply) {
        match to {
            ReplyTo::Slot(conn, number) => {
                let Some(kind) = self.connections.kind_of(conn, number) else { return };
                let (after, response) = self.response_to(kind, reply);
                let limits = (after, self.shared.shown_lsn());
                self.connections.fill(conn, number, owner, limits, response);
            }
            ReplyTo::Gather(id) => self.gathered(id, reply),
            ReplyTo::Batch(id) => {
                if let Reply::Batch(chunk) = reply {
                    self.batch_reply(owner, id, chunk);
                }
            }
            ReplyTo::Nobody => {}
        }
    }

    /// The response to a reply, and the LSN that has to be durable first.
    fn response_to(&mut self, kind: RequestKind, reply: Reply) -> (Lsn, Response) {
        match reply {
            Reply::Outcome(outcome) => outcome_response(outcome, kind),
            Reply::Order(None) => (Lsn::ZERO, Response::Problem(Code::NotFound.problem())),
            Reply::Order(Some(view)) => {
                let patient = kind != RequestKind::ReadOrder(0);
                let placed = view.lsn <= self.shared.shown_lsn();
                let after = if placed || patient { view.state_lsn } else { Lsn::ZERO };
                (after, Response::Order { view, replay: false })
            }
            Reply::Busy(busy) => (Lsn::ZERO, Response::Problem(problem_of_busy(busy))),
            Reply::Batch(_) => (Lsn::ZERO, Response::Done),
            Reply::Rare(rare) => self.rare_response(kind, *rare),
        }
    }

    fn rare_response(&mut self, kind: RequestKind, reply: RareReply) -> (Lsn, Response) {
        match reply {
            RareReply::Item(Some(item)) => match kind {
                RequestKind::Browser(browser) => (Lsn::ZERO, self.sale_reply(item, browser)),
                RequestKind::ItemPage => (Lsn::ZERO, self.page_reply(item)),
                _ => (item.get().lsn, Response::AdminItem(Box::new(item), false)),
            },
            RareReply::Stale(item) => {
                let lsn = item.get().shown_lsn;
                (lsn, Response::Problem(Code::PreconditionFailed.problem()))
            }
            RareReply::Order(Some(order)) => (order.order.state_lsn, Response::AdminOrder(Box::new(order))),
            RareReply::Changed(outcome, item) => merchant::change_response(outcome, item),
            RareReply::OrderPage(Some(page)) => {
                // Until the order may be shown, the page says that it is accepted.
                let placed = page.order.lsn <= self.shared.shown_lsn();
                let after = if placed { page.order.state_lsn } else { Lsn::ZERO };
                (after, Response::OrderPage(Box::new(page)))
            }
            RareReply::Draw(Some(page)) => (page.after, Response::Draw(Box::new(page))),
            RareReply::Books(Some(books)) => (books.as_of, Response::Books(Box::new(books))),
            RareReply::Item(None)
            | RareReply::Books(None)
            | RareReply::Order(None)
            | RareReply::OrderPage(None)
            | RareReply::Draw(None) => (Lsn::ZERO, Response::Problem(Code::NotFound.problem())),
            RareReply::Items(_)
            | RareReply::Orders(_)
            | RareReply::TooManyOrders
            | RareReply::OrdersPage(..)
            | RareReply::Audit(_)
            | RareReply::Followed => (Lsn::ZERO, Response::Done),
        }
    }
}

fn outcome_response(outcome: Outcome, kind: RequestKind) -> (Lsn, Response) {
    let accepted_is_enough = kind == RequestKind::Buy(true);
    let after = if accepted_is_enough { Lsn::ZERO } else { outcome.shown_after() };
    match outcome {
        Outcome::Placed(view) | Outcome::Moved(view) => (after, Response::Order { view, replay: false }),
        Outcome::Replayed(view) => (after, Response::Order { view, replay: true }),
        Outcome::Done { .. } => (after, Response::Done),
        Outcome::Refused(refusal) | Outcome::Noted(refusal, _) => {
            (after, Response::Problem(problem_of(refusal, kind)))
        }
    }
}
