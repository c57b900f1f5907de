//! What a worker does on its sockets: open, send, receive, lose, close.
//!
//! A connection that breaks puts the requests on it in doubt; what follows from that is in
//! `worker/responses.rs`. Next: [`crate::engine::conn`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::{RECEIVE_BYTES, Worker};
use crate::engine::conn::{Lane, Phase};
use crate::meaning::Code;
use crate::workload::mix;

/// First and longest pause before a retry or a reconnect, in nanoseconds.
const PAUSE_NS: (u64, u64) = (10_000_000, 500_000_000);

impl Worker<'_> {
    pub(super) fn handle_opened(&mut self, index: usize) {
        let now_ns = self.now_ns;
        match self.conns[index].opened(self.epoll.as_fd(), index as u64, now_ns) {
            Ok(()) => {
                self.up += 1;
                if self.conns[index].unsent.is_empty() {
                    self.make_roomy(index);
                } else {
                    self.flush(index);
                }
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    pub(super) fn handle_writable(&mut self, index: usize) {
        let was_full = self.room(index) == 0;
        self.flush(index);
        if self.room(index) > 0 {
            // A server that did not read is not the generator's lateness.
            if was_full {
                self.conns[index].free_ns = self.now_ns;
            }
            self.feed(index);
        }
    }

    /// Sends what the socket did not take before, and asks epoll to report room for the rest.
    pub(super) fn flush(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let sent = conn.send(&conn.unsent).and_then(|count| {
            conn.unsent.drain(..count);
            conn.want_write(self.epoll.as_fd(), index as u64, !conn.unsent.is_empty())
        });
        if let Err(error) = sent {
            self.lose(index, Code::Reset, Some(&error));
        }
    }

    pub(super) fn handle_readable(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let kept = conn.partial.len();
        if self.inbox.len() - kept < RECEIVE_BYTES / 2 {
            self.inbox.resize(self.inbox.len() + RECEIVE_BYTES, 0);
        }
        self.inbox[..kept].copy_from_slice(&conn.partial);
        conn.partial.clear();
        match conn.recv(&mut self.inbox[kept..]) {
            Ok(None) => conn.partial.extend_from_slice(&self.inbox[..kept]),
            Ok(Some(0)) => self.lose(index, Code::Reset, None),
            Ok(Some(count)) => {
                self.tally.received_bytes += count as u64;
                self.handle_bytes(index, kept + count);
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    /// Takes every whole response out of the inbox, keeps the rest, and sends what is due next.
    pub(super) fn handle_bytes(&mut self, index: usize, filled: usize) {
        self.now_ns = self.read_clock();
        let was_full = self.room(index) == 0;
        let mut at = 0;
        while at < filled {
            let head = match self.reader.read(&self.inbox[at..filled]) {
                Ok(Some(head)) => head,
                Ok(None) if filled - at <= self.reader.bytes_max() => break,
                Ok(None) => return self.lose(index, Code::BadAnswer, None),
                Err(error) => return self.lose(index, Code::BadAnswer, Some(&io::Error::other(error))),
            };
            let Some(op) = self.conns[index].under_way.pop_front() else {
                let error = io::Error::other("a response came to which there is no request");
                return self.lose(index, Code::BadAnswer, Some(&error));
            };
            self.under_way -= 1;
            self.conns[index].losses = 0;
            self.silent_since_ns = self.now_ns;
            self.handle_response(op, head, at);
            at += head.head_bytes + head.body_bytes;
            if head.close || !self.keeps_alive(index) {
                return self.retire(index);
            }
        }
        let (inbox, conn) = (&self.inbox, &mut self.conns[index]);
        conn.partial.extend_from_slice(&inbox[at..filled]);
        if was_full {
            conn.free_ns = self.now_ns;
        }
        self.feed(index);
    }

    pub(super) fn send(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if conn.phase == Phase::Parked {
            conn.unsent.extend_from_slice(&self.outbox);
            return self.connect(index);
        }
        match conn.send(&self.outbox) {
            Ok(count) if count == self.outbox.len() => {}
            Ok(count) => {
                conn.unsent.extend_from_slice(&self.outbox[count..]);
                if let Err(error) = conn.want_write(self.epoll.as_fd(), index as u64, true) {
                    self.lose(index, Code::Reset, Some(&error));
                }
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        let Some(addr) = self.addr(self.conns[index].lane) else { return };
        let conn = &mut self.conns[index];
        if let Err(error) = conn.open(self.epoll.as_fd(), index as u64, addr, self.now_ns) {
            self.lose(index, Code::Reset, Some(&error));
        }
    }

    pub(super) fn addr(&self, lane: Lane) -> Option<SocketAddr> {
        match lane {
            Lane::Public => Some(self.config.addr),
            Lane::Shop => self.config.shop.as_ref().map(|shop| shop.addr),
        }
    }

    pub(super) fn room(&self, index: usize) -> usize {
        let conn = &self.conns[index];
        match conn.phase {
            Phase::Up if conn.unsent.is_empty() => self.config.pipeline as usize - conn.under_way.len(),
            Phase::Parked => 1,
            _ => 0,
        }
    }

    pub(super) fn make_roomy(&mut self, index: usize) {
        if !self.conns[index].queued {
            self.conns[index].queued = true;
            self.lanes[self.conns[index].lane as usize].roomy.push_back(index);
        }
    }

    pub(super) fn keeps_alive(&self, index: usize) -> bool {
        self.config.keep_alive || self.conns[index].lane == Lane::Shop
    }

    /// Ends a connection after its last response: one per request, or the server wished it.
    pub(super) fn retire(&mut self, index: usize) {
        if self.keeps_alive(index) || !self.conns[index].under_way.is_empty() {
            return self.lose(index, Code::Reset, None);
        }
        self.up -= 1;
        self.conns[index].close(Phase::Parked);
        self.conns[index].free_ns = self.now_ns;
        self.make_roomy(index);
    }

    /// Closes a connection. The request at its head met `code`; those behind it were cut off.
    pub(super) fn lose(&mut self, index: usize, code: Code, error: Option<&io::Error>) {
        if let Some(error) = error {
            self.last_error = error.to_string();
        }
        self.up -= usize::from(self.conns[index].phase == Phase::Up);
        let losses = self.conns[index].losses;
        // The first time it comes straight back: servers may close idle connections.
        let until_ns = if losses == 0 { self.now_ns } else { self.now_ns + self.pause_ns(losses - 1) };
        self.conns[index].losses += 1;
        self.conns[index].close(Phase::Down { until_ns });
        self.sweep_ns = self.sweep_ns.min(until_ns.max(self.now_ns + 1));
        let mut met = code;
        while let Some(op) = self.conns[index].under_way.pop_front() {
            self.under_way -= 1;
            self.doubt(op, met);
            met = Code::Reset;
        }
    }

    /// Doubling pauses with a quarter of jitter, so that connections do not come back in step.
    pub(super) fn pause_ns(&mut self, tries: u32) -> u64 {
        let pause_ns = (PAUSE_NS.0 << tries.min(10)).min(PAUSE_NS.1);
        self.dice = mix(self.dice);
        pause_ns - self.dice % (pause_ns / 4)
    }
}
