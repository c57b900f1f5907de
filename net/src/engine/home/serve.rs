//! One connection: takes its requests, passes each to its handler, writes the responses.
//!
//! A response is written at once if no earlier one is outstanding, else it waits in
//! [`Connections`]. Next: [`super::replies`] for what comes back from owners.

use stampede_core::types::Lsn;

use super::open_batches::Taken;
use super::state::{Caller, Client, Handled, Home, OUT_BYTES_MAX};
use crate::engine::ask::ConnId;
use crate::engine::counters::Count;
use crate::engine::render::render;
use crate::engine::response::{RenderContext, RequestKind, Response};
use crate::engine::shared::Phase;
use crate::engine::slots::Connections;
use crate::http::answer::{self, ResponseMode};
use crate::http::body::check_media;
use crate::http::conn::Next;
use crate::http::problem::{Code, Problem};
use crate::http::route::Route;

/// How long a draining server still takes purchases, and leaves connections open that have not sent a
/// request yet, in milliseconds.
const LAST_ORDERS_MS: u64 = 500;

impl Home {
    /// Takes every complete request and appends every response that may go. Returns whether it
    /// stopped because enough bytes wait to be written: then call it again once they are.
    pub fn serve(&mut self, client: &mut Client) -> bool {
        let out_is_full = loop {
            self.collect(client);
            let out_is_full = client.out.len() >= OUT_BYTES_MAX;
            if client.closing || out_is_full {
                break out_is_full;
            }
            if client.intake.is_some() {
                match self.take_records(client) {
                    Taken::All => continue,
                    Taken::NeedMore | Taken::Held => break false,
                }
            }
            if !self.connections.has_room(client.id) {
                break false;
            }
            let (conn, peer, listener) = (client.id, client.peer, client.conn.listener());
            // By reference: it is too large to be moved for every request.
            match &client.conn.next() {
                Next::NeedMore => break false,
                Next::Reject(problem) => self.refuse(conn, &mut client.out, ResponseMode::CLOSE, *problem),
                Next::Request(request) => {
                    client.has_asked = true;
                    let mode = request.head.response_mode();
                    let serving = self.shared.phase() == Phase::Serving;
                    let mode = if serving { mode } else { mode.closing() };
                    let cors = self.shared.cors(listener, &request.head);
                    let mode = ResponseMode { cors, ..mode };
                    let (out, intake) = (&mut client.out, &mut client.intake);
                    self.request(&mut Caller { request, mode, conn, peer, out, intake });
                    // The body of a refused batch is not read, and nothing is taken after a response that closes
                    // the connection (RFC 9112 section 9.6).
                    if (client.conn.is_streaming() || !serving) && client.intake.is_none() {
                        client.conn.finish();
                    }
                }
            }
        };
        let drained = self.drains_idle(client.has_asked) && !client.conn.is_mid_request();
        let idle = self.connections.is_idle(client.id) && client.outgoing.is_none();
        if (client.conn.is_finished() || drained) && idle {
            client.closing = true;
        }
        let owes = !idle || client.owed_batches > 0;
        if client.conn.take_continue(owes) {
            client.out.extend_from_slice(answer::CONTINUE);
        }
        self.connections.served(client.id);
        out_is_full && !client.closing
    }

    /// Whether to close an idle connection because the server shuts down. One that has not sent a request yet
    /// is most likely new, and its request on the way.
    fn drains_idle(&self, has_asked: bool) -> bool {
        self.shared.phase() >= Phase::Draining && (has_asked || self.is_closed_for_business())
    }

    /// Whether purchases are refused because the server shuts down: only a moment after it began to drain, so
    /// that clients that have just connected can send their requests.
    pub(super) fn is_closed_for_business(&self) -> bool {
        self.draining_since_ms.is_some_and(|since_ms| self.now.mono_ms >= since_ms + LAST_ORDERS_MS)
    }

    fn collect(&mut self, client: &mut Client) {
        let shown_lsn = self.shared.shown_lsn();
        let owed = !self.connections.is_idle(client.id);
        while self.write_answers(client)
            && let Some((mode, kind, response)) = self.connections.pop(client.id, shown_lsn)
        {
            if let Response::Batch(answers) = response {
                self.begin_answers(client, answers, mode);
                continue;
            }
            self.write(&mut client.out, &response, kind, mode);
            client.closing |= mode.closes();
        }
        if owed && self.connections.is_idle(client.id) {
            client.conn.answered(self.now.mono_ms);
        }
    }

    fn write(&self, out: &mut Vec<u8>, response: &Response, kind: RequestKind, mode: ResponseMode) {
        let context = RenderContext {
            now: self.now.sale,
            date: &self.date,
            shown: self.shared.shown_lsn(),
            durable: self.shared.log.durable_lsn(),
            exported: self.shared.export.as_ref().map(|export| export.exported_lsn()),
        };
        match response {
            Response::Problem(problem) => self.counters().refused(problem.code),
            Response::Order { replay: true, .. } => self.count(Count::Replayed),
            Response::Order { .. } if kind.buys() => self.count(Count::Placed),
            Response::Order { .. } if kind.moves() => self.count(Count::Moved),
            _ => {}
        }
        render(out, response, kind, mode, &context);
    }

    fn request(&mut self, caller: &mut Caller<'_>) {
        self.count(Count::Requests);
        let request = caller.request;
        let done = match &request.route {
            Ok(route) => self.dispatch(route, caller),
            Err(problem) => Err(*problem),
        };
        if let Err(problem) = done {
            let body_follows = caller.request.streamed.is_some();
            let mode = if body_follows { caller.mode.closing() } else { caller.mode };
            self.refuse(caller.conn, caller.out, mode, problem);
        }
    }

    /// Responds with a refusal, at once or after the responses that are still outstanding.
    pub(super) fn refuse(&mut self, conn: ConnId, out: &mut Vec<u8>, mode: ResponseMode, problem: Problem) {
        self.answer(conn, out, mode, RequestKind::Other, Response::Problem(problem));
    }

    /// Responds to a request, at once or after the responses that are still outstanding.
    pub(super) fn answer(
        &mut self,
        conn: ConnId,
        out: &mut Vec<u8>,
        mode: ResponseMode,
        kind: RequestKind,
        response: Response,
    ) {
        if self.connections.is_idle(conn) && !mode.closes() {
            self.write(out, &response, kind, mode);
        } else {
            self.connections.queue(conn, mode, kind, Lsn::ZERO, response);
        }
    }

    fn dispatch(&mut self, route: &Route, caller: &mut Caller<'_>) -> Handled {
        let mode = caller.mode;
        if self.shared.is_waiting() && !route.is_about_the_engine() {
            return Err(Code::AwaitingDatabase.problem());
        }
        let foreign = self.shared.identity.refuse_foreign(&caller.request.head, route.needs_admin_token());
        if let Err(problem) = foreign {
            return self.refuse_foreign(route, problem, caller);
        }
        if !caller.request.body.is_empty() {
            let wants_json = !matches!(route, Route::Site(_));
            check_media(&caller.request.head, caller.request.body, wants_json)?;
        }
        match *route {
            Route::Time => {
                let (now, date) = (self.now.sale, &self.date);
                self.connections.answer_bytes(caller, |out| answer::time(out, now, mode, date));
                Ok(())
            }
            Route::Items(query) => self.list_items(query, caller),
            Route::Item(item) => self.item_page(item, caller),
            Route::Challenge(item) => self.challenge(item, caller),
            Route::Ticket(item) => self.ticket(item, caller),
            Route::Draw(query) => self.draw_page(query, caller),
            Route::Buy(item) => self.buy(item, caller),
            Route::Orders(query) => self.own_orders(query, caller),
            Route::Order { order, wait_ms } => self.own_order(order, wait_ms, caller),
            Route::CancelOrder(order) => self.cancel_own(order, caller),
            Route::Batch => self.batch(caller),
            Route::Site(call) => self.site(call, caller),
            Route::Healthz | Route::Readyz | Route::Metrics | Route::PublicHealthz | Route::PublicReadyz => {
                self.ops(route, caller);
                Ok(())
            }
            Route::Options(methods) => {
                self.options(methods, caller);
                Ok(())
            }
            _ => self.merchant(route.clone(), caller),
        }
    }
}

impl Connections {
    /// Responds with the bytes that `render` appends, at once or after the responses that are still outstanding.
    pub(super) fn answer_bytes(&mut self, caller: &mut Caller<'_>, render: impl FnOnce(&mut Vec<u8>)) {
        let mode = caller.mode;
        if self.is_idle(caller.conn) && !mode.closes() {
            render(caller.out);
        } else {
            let mut bytes = Vec::new();
            render(&mut bytes);
            self.queue(caller.conn, mode, RequestKind::Other, Lsn::ZERO, Response::Bytes(bytes));
        }
    }
}
