//! Connections and responses: one for each request (I15); and no owner passes over a home.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::{Fault, Step};
use crate::engine::Life;
use crate::shop::Call;
use crate::wire::{Answer, Writer};

/// A connection, and the calls that are under way on it.
pub(super) struct Link {
    pub(super) core: usize,
    client: Client,
    pub(super) calls: VecDeque<Call>,
}

impl History<'_> {
    pub(super) fn connect(&mut self, listener: Listener, core: usize) {
        let now_ms = self.mono_ms.load(Ordering::Relaxed);
        let home = &mut self.life().homes[core];
        let token = home.connections.enter();
        let client = Client::new(token, Conn::new(listener, now_ms), [127, 0, 0, 1].into());
        self.links.push(Link { core, client, calls: VecDeque::new() });
    }

    /// Drops the connection, with the responses under way.
    pub(super) fn cut(&mut self, at: usize, listener: Listener) {
        let link = self.links.swap_remove(at);
        self.life().homes[link.core].connections.leave(link.client.id);
        self.cover.struck(Fault::AnswerLost, self.step, None);
        self.connect(listener, link.core);
        let last = self.links.len() - 1;
        self.links.swap(at, last);
    }

    /// Sends a request on a connection, and has it served.
    pub(super) fn send(
        &mut self,
        at: usize,
        call: Call,
        request: impl FnOnce(&mut Writer) -> &[u8],
    ) -> Result<(), Red> {
        let now_ms = self.mono_ms.load(Ordering::Relaxed);
        let bytes = request(&mut self.writer);
        self.trace.bytes(bytes);
        let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        self.trace.note("ask", &[at as u64], || {
            format!("link {at} {call:?} {} {}", first.escape_ascii(), body_of(bytes))
        });
        let link = &mut self.links[at];
        if link.client.conn.feed(bytes, now_ms) < bytes.len() {
            return Ok(());
        }
        link.calls.push_back(call);
        self.cover.requests += 1;
        self.serve(at)
    }

    /// The core serves a connection, and the client reads the output.
    pub(super) fn serve(&mut self, at: usize) -> Result<(), Red> {
        self.step = Step::Serve;
        let life = self.life.as_mut().expect("called in a life");
        let link = &mut self.links[at];
        let home = &mut life.homes[link.core];
        home.read_clock();
        home.serve(&mut link.client);
        let (core, needs_pump) = (link.core, home.needs_pump());
        if needs_pump && self.rng.below(4) > 0 {
            self.pump(core)?;
            self.step = Step::Serve;
        }
        let durable = self.life().log.status.durable_lsn().0;
        let link = &mut self.links[at];
        let out = std::mem::take(&mut link.client.out);
        self.read(at, &out, durable)?;
        let link = &mut self.links[at];
        if out.len() <= 4096 {
            link.client.out = out;
            link.client.out.clear();
        }
        let closed = link.client.is_closing();
        let merchant = at + 1 == self.links.len();
        if closed {
            let listener = if merchant { Listener::Merchant } else { Listener::Public };
            self.cut(at, listener);
        }
        Ok(())
    }

    pub(super) fn pump(&mut self, core: usize) -> Result<(), Red> {
        self.step = Step::Pump;
        let waiting = |life: &Life| -> Vec<usize> {
            let mesh = &life.shared.mesh;
            (0..life.homes.len()).map(|home| mesh.waiting(home, core)).collect()
        };
        let life = self.life();
        let before = waiting(life);
        life.homes[core].read_clock();
        life.homes[core].pump();
        let after = waiting(life);
        let peers = before.len() + 1;
        for (home, (before, after)) in before.into_iter().zip(after).enumerate() {
            let passed_over = &mut self.passed_over[home * self.cores + core];
            *passed_over = if before > 0 && after >= before { *passed_over + 1 } else { 0 };
            ensure!(*passed_over <= peers, "unfair: the owner {core} passes over home {home}");
        }
        Ok(())
    }

    pub(super) fn read(&mut self, at: usize, out: &[u8], durable: u64) -> Result<(), Red> {
        let mut rest = out;
        while let Some((answer, len)) = Answer::parse(rest) {
            rest = &rest[len..];
            let call = self.links[at].calls.pop_front();
            let call = call.ok_or("I15 an answer to nothing")?;
            let code = answer.text("code");
            self.cover.answered(answer.status, code);
            self.cover.busy += u64::from(answer.status == 503);
            self.trace.bytes(answer.body);
            self.trace.note("answer", &[at as u64, answer.status.into()], || {
                let replay = memchr::memmem::find(answer.head, b"Replay").is_some();
                let again = if replay { " (again)" } else { "" };
                format!("link {at} {call:?}: {}{again} {}", answer.status, answer.body.escape_ascii())
            });
            self.shop.answered(call, &answer, durable)?;
        }
        ensure!(rest.is_empty(), "I15 half an answer: {}", rest.escape_ascii());
        Ok(())
    }
}

fn body_of(request: &[u8]) -> String {
    let at = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    request[at..].escape_ascii().to_string()
}
