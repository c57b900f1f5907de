//! The home's side of a core: from requests to answers.
//!
//! It answers by itself what it can (bad requests, early refusals, pages), asks the
//! owner for the rest, and lets an answer go only when what it shows is durable
//! (I3). On its own thread alone; the executor calls in: [`Home::serve`] when bytes
//! came or answers may go, [`Home::pump`] when the core was woken, [`Home::tick`] a
//! few times a second.
//!
//! Next: [`buyer`], [`batch`], [`gate`], [`merchant`] and [`site`] for the calls, [`gather`] for answers that
//! several owners give, [`ops`] for health and metrics.

mod batch;
mod buyer;
mod draw;
mod gate;
mod gather;
mod lists;
mod merchant;
mod open_batches;
mod open_gathers;
pub(crate) mod ops;
mod site;
mod site_pages;
mod state;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;

use stampede_core::types::{ItemId, Lsn, UnixMillis};

use self::open_batches::Taken;
use self::state::{Caller, Handled};
pub use self::state::{Client, Home, OUT_BYTES_MAX};
use super::ask::{Ask, ConnId, RareReply, Reply, ReplyTo};
use super::batch::Chunk;
use super::busy::Busy;
use super::clock::Now;
use super::counters::{Count, Counters};
use super::mesh::Endpoint;
use super::owner::Owner;
use super::render::{problem_of, problem_of_busy, render};
use super::response::{RenderContext, RequestKind, Response};
use super::shared::{Phase, Shared};
use super::slots::Connections;
use super::turns::Peers;
use crate::http::answer::{self, ResponseMode};
use crate::http::body::check_media;
use crate::http::conn::Next;
use crate::http::problem::{Code, Problem};
use crate::http::proxy_header::Flaw;
use crate::http::route::{Listener, Route};
use stampede_core::command::Outcome;

/// Batches of due holds and windows in one tick; the rest waits for the next.
const TICK_BATCHES_MAX: usize = 32;
/// Of these, such as look at rows and find that nothing has to be done with them.
const TICK_BATCHES_IDLE_MAX: usize = 4;
/// How long purchases are taken when the server drains, and connections that have not asked yet are left
/// open, in milliseconds.
const LAST_ORDERS_MS: u64 = 500;
/// How often an idle engine notes the time in its log, in milliseconds.
const CLOCK_MARK_MS: u64 = 60_000;
/// The same while tickets are out: by so much at most can a clock that is set back before a
/// restart revive one.
const CLOCK_MARK_TICKETS_MS: u64 = 500;

impl Home {
    /// The core's owner, for reading.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What all cores share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads the clock and counts a turn of the core; once per wake.
    pub fn read_clock(&mut self) -> Now {
        self.shared.state.pulse.beat(self.core);
        self.now = self.clock.now();
        let second = self.now.sale.0 / 1000;
        if second != self.date_s {
            (self.date, self.date_s) = (self.shared.date(second), second);
        }
        if self.shared.phase() >= Phase::Draining {
            self.draining_since_ms.get_or_insert(self.now.mono_ms);
        }
        self.now
    }

    /// The time as of the last [`Self::read_clock`], in monotonic milliseconds.
    pub fn mono_ms(&self) -> u64 {
        self.now.mono_ms
    }

    /// How whoever calls [`Self::pump`] is woken, from any thread.
    pub fn register_pump(&mut self, waker: &Waker) {
        self.mesh.waker().register(waker);
    }

    /// One sleep of the core: `sleep` is told whether it may wait until the waker is called. To be
    /// followed by [`Self::read_clock`], and by [`Self::pump`] if [`Self::has_work`].
    pub fn sleep<R>(&self, sleep: impl FnOnce(bool) -> R) -> R {
        self.mesh.waker().sleep(|| self.has_work(), sleep)
    }

    /// Whether the core may end. It calls this when its doors are shut; it has drained once no connection is
    /// left, and may end when all cores have: until then others may ask its owner.
    pub fn may_end(&mut self) -> bool {
        if self.connections.open() == 0 && !std::mem::replace(&mut self.has_drained, true) {
            self.shared.one_has_drained();
        }
        self.shared.all_have_drained()
    }

    /// Tells everybody whether the system lets connections in to this core: the error number if not.
    pub fn accept_fails(&self, error: Option<i32>) {
        self.shared.state.accept_errors.note(self.core, error);
    }

    /// Whether questions, facts or replies wait to be sent off by [`Self::pump`].
    pub fn needs_pump(&self) -> bool {
        self.needs_flush
    }

    fn counters(&self) -> &Counters {
        &self.shared.state.counters[self.core]
    }

    /// Counts something on this core.
    pub fn count(&self, count: Count) {
        self.counters().add(count);
    }

    // ---- one connection ----

    /// Whether one more connection from an address may be open; if so, [`Self::leave`] gives it
    /// back. The shop's own and those of trusted proxies always may.
    pub fn enter(&mut self, listener: Listener, peer: IpAddr) -> bool {
        self.is_uncounted(listener, peer) || self.limits.enter(&self.shared.secret, peer)
    }

    /// A connection that entered is over.
    pub fn leave(&mut self, listener: Listener, peer: IpAddr) {
        if !self.is_uncounted(listener, peer) {
            self.limits.leave(&self.shared.secret, peer);
        }
    }

    /// A trusted proxy has named the client whose connection to the buyers' listener this is: from here on it
    /// is as if the client had connected itself. False if that has too many connections.
    pub fn hand_over(&mut self, client: &mut Client, to: IpAddr) -> bool {
        let fits = self.enter(client.conn.listener(), to);
        if fits {
            client.peer = to;
        }
        fits
    }

    /// A trusted proxy has begun a connection with something else than a PROXY header. That is an alarm: its
    /// buyers are shut out.
    pub fn note_no_header(&mut self, proxy: IpAddr, flaw: Flaw) {
        self.count(Count::ProxyHeadersBad);
        if self.headerless_proxy.replace(proxy) != Some(proxy) {
            self.shared.alarm_once(format!(
                "the trusted proxy {proxy} begins connections without a PROXY header ({flaw}), which are closed. Have it send \
                 one (send-proxy-v2, health checks included: check-send-proxy), or take identity.proxy_protocol out"
            ));
        }
    }

    fn is_uncounted(&self, listener: Listener, peer: IpAddr) -> bool {
        listener == Listener::Merchant || self.shared.identity.is_proxy(peer)
    }

    /// Takes every complete request and appends every answer that may go. Returns whether it
    /// stopped because enough is waiting to be written: then call it again after that.
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
            // Looked at where it is: it is too large to be moved for every request.
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
                    // The body of a batch that was refused is not read, and nothing is taken behind an answer
                    // that says that the connection is closed (RFC 9112 section 9.6).
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

    /// Whether an idle connection is to be closed since the server goes down. One that has never asked has
    /// just come, most likely, and its request is on the way.
    fn drains_idle(&self, has_asked: bool) -> bool {
        self.shared.phase() >= Phase::Draining && (has_asked || self.is_closed_for_business())
    }

    /// Whether purchases are refused since the server goes down: a moment after it began to drain, in which
    /// whoever got in has asked.
    fn is_closed_for_business(&self) -> bool {
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

    /// Answers a request with a refusal, at once or behind the answers that are still owed.
    fn refuse(&mut self, conn: ConnId, out: &mut Vec<u8>, mode: ResponseMode, problem: Problem) {
        self.answer(conn, out, mode, RequestKind::Other, Response::Problem(problem));
    }

    /// Answers a request, at once or behind the answers that are still owed.
    fn answer(
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

    // ---- questions and replies ----

    /// Puts a question to the owner of an item; its reply becomes the answer.
    fn ask(&mut self, item: ItemId, kind: RequestKind, ask: Ask, caller: &Caller<'_>) -> Handled {
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

    fn deliver(&mut self, owner: usize, to: ReplyTo, reply: Reply) {
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
        match (reply, kind) {
            (RareReply::Item(Some(item)), RequestKind::Browser(browser)) => {
                (Lsn::ZERO, self.sale_reply(item, browser))
            }
            (reply, _) => self.other_response(kind, reply),
        }
    }

    fn other_response(&mut self, kind: RequestKind, reply: RareReply) -> (Lsn, Response) {
        match reply {
            RareReply::Item(Some(item)) if kind == RequestKind::ItemPage => {
                (Lsn::ZERO, self.page_reply(item))
            }
            RareReply::Item(Some(item)) => (item.get().lsn, Response::AdminItem(Box::new(item), false)),
            RareReply::Stale(item) => {
                let lsn = item.get().shown_lsn;
                (lsn, Response::Problem(Code::PreconditionFailed.problem()))
            }
            RareReply::Order(Some(order)) => (order.order.state_lsn, Response::AdminOrder(Box::new(order))),
            RareReply::Changed(outcome, item) => merchant::change_response(outcome, item),
            RareReply::OrderPage(Some(page)) => {
                // Before the order may be shown, the page says that it is accepted.
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

    // ---- the loop ----

    /// Decides what other cores ask, takes their replies, lets go what has become durable,
    /// and wakes whoever got something. Returns whether more work waits already.
    pub fn pump(&mut self) -> bool {
        let more = self.decide_batch();
        self.take_replies();
        self.flush();
        self.release();
        more
    }

    /// Whether [`Self::pump`] would find something to do.
    pub fn has_work(&self) -> bool {
        self.needs_flush || self.contended || self.shared.shown_lsn() > self.released || self.mesh.has_work()
    }

    fn decide_batch(&mut self) -> bool {
        let (now, owner, mesh, cut) = (self.now.sale, &mut self.owner, &mut self.mesh, &mut self.cut);
        self.contended = self.turns.serve(&mut Asking { now, owner, mesh, cut }, self.turn_max);
        self.contended
    }

    /// Whether another home has put a question to this owner that is not answered.
    fn somebody_waits(&self) -> bool {
        self.contended || (0..self.mesh.cores()).any(|home| self.mesh.has_ask(home))
    }

    fn take_replies(&mut self) {
        for owner in 0..self.mesh.cores() {
            while let Some((to, reply)) = self.mesh.next_reply(owner) {
                self.deliver(owner, to, reply);
            }
        }
    }

    fn flush(&mut self) {
        self.needs_flush = false;
        self.owner.flush();
        self.mesh.flush();
    }

    fn release(&mut self) {
        let shown = self.shared.shown_lsn();
        if shown > self.released {
            self.released = shown;
            self.connections.release(shown);
            self.retry_batches();
        }
    }

    /// Lets time pass: expires what is due, marks connections whose wait is over.
    pub fn tick(&mut self) {
        let now = self.read_clock();
        let mut idle = 0;
        for _ in 0..TICK_BATCHES_MAX {
            let due = self.owner.tick(now.sale);
            self.counters().add_many(Count::Ticked, due as u64);
            idle += usize::from(due == 0);
            if due == 0 && (idle == TICK_BATCHES_IDLE_MAX || !self.owner.has_more_due(now.sale)) {
                break;
            }
            self.owner.flush();
        }
        self.retry_batches();
        // Here and not in `pump`: connections that only come and go do not wake it.
        self.counters().set_open(self.connections.open());
        let tickets_out = self.shared.gate.tickets.are_out(now.sale);
        let mark_ms = if tickets_out { CLOCK_MARK_TICKETS_MS } else { CLOCK_MARK_MS };
        if self.core == 0 && now.mono_ms - self.marked_ms >= mark_ms {
            self.marked_ms = now.mono_ms;
            self.owner.answer(now.sale, &Ask::Rare(Box::new(super::ask::RareAsk::MarkClock)));
        }
        self.flush();
    }

    /// Closes connections whose wait is over; once or twice a second.
    pub fn sweep(&mut self) {
        self.sweep_batches();
        let overdue = self.connections.sweep(self.now.mono_ms);
        self.counters().add_many(Count::Overdue, overdue as u64);
        self.connections.give_up_waiting(self.now.mono_ms, self.shared.shown_lsn());
        if self.shared.phase() >= Phase::Draining {
            self.connections.wake_all();
        }
    }
}

/// Everybody who asks an owner: the homes, this core's own among them, and behind them the exporter.
struct Asking<'a> {
    now: UnixMillis,
    owner: &'a mut Owner,
    mesh: &'a mut Endpoint,
    cut: &'a mut [Option<(ReplyTo, Box<Chunk>)>],
}

impl Asking<'_> {
    /// Decides records of a chunk; it goes back when all were, or when there is no room for the next.
    fn decide_chunk(&mut self, home: usize, to: ReplyTo, mut chunk: Box<Chunk>, most: usize) -> usize {
        let decided = self.owner.decide_chunk(self.now, &mut chunk, most);
        if chunk.is_decided() || chunk.busy.is_some() {
            self.mesh.reply(home, to, Reply::Batch(chunk));
        } else {
            self.cut[home] = Some((to, chunk));
        }
        decided.max(1)
    }

    fn serve_home(&mut self, home: usize, most: usize) -> usize {
        let mut served = 0;
        while served < most {
            let left = most - served;
            if let Some((to, chunk)) = self.cut[home].take() {
                served += self.decide_chunk(home, to, chunk, left);
                continue;
            }
            served += match self.mesh.next_ask(home) {
                None => break,
                Some((to, Ask::Batch(chunk))) => self.decide_chunk(home, to, chunk, left),
                Some((to, ask)) => {
                    let reply = self.owner.answer(self.now, &ask);
                    self.mesh.reply(home, to, reply);
                    1
                }
            };
        }
        served
    }

    fn serve_outside(&mut self, most: usize) -> usize {
        let mut served = 0;
        while served < most
            && let Some(ask) = self.mesh.next_outside()
        {
            self.owner.answer_outside(self.now, ask);
            served += 1;
        }
        served
    }
}

impl Peers for Asking<'_> {
    fn count(&self) -> usize {
        self.mesh.cores() + 1
    }
    fn waits(&self, peer: usize) -> bool {
        match self.cut.get(peer) {
            Some(cut) => cut.is_some() || self.mesh.has_ask(peer),
            None => self.mesh.has_outside(),
        }
    }
    fn serve(&mut self, peer: usize, most: usize) -> usize {
        if peer < self.cut.len() { self.serve_home(peer, most) } else { self.serve_outside(most) }
    }
}

impl Connections {
    /// Answers with bytes that `render` appends, at once or behind the answers that are still owed.
    fn answer_bytes(&mut self, caller: &mut Caller<'_>, render: impl FnOnce(&mut Vec<u8>)) {
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
