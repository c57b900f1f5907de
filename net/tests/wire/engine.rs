//! The engine that the table is put to: home, owner and log are the real ones, without sockets.
//!
//! Many connections are driven at once, so that one sync of the log serves all of them. It
//! judges nothing. Next: [`super::case`].

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use stampede_core::command::{Command, ItemPatch, Outcome};
use stampede_core::draw::DrawSeed;
use stampede_core::gauge::Gauge;
use stampede_core::item::{ChallengeRule, TicketRule};
use stampede_core::shard::Shard;
use stampede_core::types::{ItemId, UnixMillis};
use stampede_net::engine::home::{Client, OUT_BYTES_MAX};
use stampede_net::engine::shared::Shared;
use stampede_net::gate::seal::SealKey;
use stampede_net::http::conn::Conn;
use stampede_net::http::limits::CONN_BUFFER_BYTES_MAX;
use stampede_net::http::route::Listener;

use crate::answers::Answers;
use crate::rig::{Base, Rig, Setup};
use crate::tokens;

/// Longest wait for answers that the log has to let go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that are driven at once, and their bytes: what they ask has to find room.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 200_000;
/// The merchant's token.
pub(crate) const ADMIN_TOKEN: &str = "token-of-the-test-shop";
/// Items by number: what the canaries buy, and what the table speaks of.
pub(crate) const CANARY_ITEM: u32 = 1;
/// No more than one unit for anybody.
pub(crate) const PHONE: u32 = 7;
/// As many as anybody wants.
pub(crate) const SWEETS: u32 = 8;
/// A ticket is needed.
pub(crate) const TICKETED: u32 = 9;
/// The same, and another item.
pub(crate) const TICKETED_TOO: u32 = 10;
/// Opens in a far future.
pub(crate) const LATER: u32 = 11;
/// Was over long ago.
pub(crate) const OVER: u32 = 12;
/// Has no stock.
pub(crate) const EMPTY: u32 = 13;
/// A challenge has to be solved for the ticket.
pub(crate) const CHALLENGED: u32 = 14;

/// How buyers are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// By `X-Buyer`.
    Header,
    /// By a signed token.
    Token,
}

/// Bytes for one connection, cut before these positions.
pub(crate) struct Run {
    pub(crate) listener: Listener,
    pub(crate) bytes: Vec<u8>,
    pub(crate) cuts: Vec<usize>,
}

/// An engine with all its items on sale.
pub(crate) struct Engine {
    rig: Rig,
    pub(crate) naming: Naming,
}

/// The keys of tickets: the one that seals, and the one before it.
pub(crate) fn ticket_keys() -> Vec<SealKey> {
    [(2, 12), (1, 11)].map(|(id, fill)| SealKey::new(id, &[fill; 32]).expect("long enough")).into()
}

impl Engine {
    pub(crate) fn new(naming: Naming) -> Self {
        let mut setup =
            Setup { admin_token: ADMIN_TOKEN.into(), ticket_keys: ticket_keys(), ..Setup::default() };
        if naming == Naming::Token {
            setup.identity = tokens::identity();
        }
        Self { rig: Rig::on(Base::made(1, setup), 1, put_on_sale), naming }
    }

    /// What every core sees of an item.
    pub(crate) fn gauge(&self, item: u32) -> &Gauge {
        let item = ItemId::new(item.into()).expect("a number");
        self.rig.homes[0].shared().catalogue.find(item).expect("on sale")
    }

    /// The time on the sale clock.
    pub(crate) fn now(&self) -> UnixMillis {
        self.rig.homes[0].shared().clock.now().sale
    }

    /// Units that were sold so far, of all items.
    pub(crate) fn sold(&self) -> u64 {
        let items = [CANARY_ITEM, PHONE, SWEETS, TICKETED, TICKETED_TOO, LATER, OVER, EMPTY, CHALLENGED];
        items.map(|item| stock_of(item) - self.gauge(item).stock.available()).iter().sum()
    }

    /// Feeds each run into a connection of its own, and gives back everything that was answered.
    pub(crate) fn answers(&mut self, runs: &[Run]) -> Vec<Answers> {
        let longest = runs.iter().map(|run| run.bytes.len()).max().unwrap_or(0);
        let batch = (BATCH_BYTES / longest.max(1)).clamp(8, BATCH);
        runs.chunks(batch).flat_map(|batch| self.batch(batch)).collect()
    }

    fn batch(&mut self, runs: &[Run]) -> Vec<Answers> {
        let mut lines: Vec<Line<'_>> = runs.iter().map(|run| Line::open(&mut self.rig, run)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            lines.iter_mut().for_each(|line| line.step(&mut self.rig));
            if lines.iter().all(|line| line.is_done(&self.rig)) {
                break;
            }
            assert!(Instant::now() < deadline, "answers do not come");
            let home = &mut self.rig.homes[0];
            home.read_clock();
            while home.pump() {}
            std::thread::yield_now();
        }
        lines.into_iter().map(|line| line.close(&mut self.rig)).collect()
    }
}

/// A connection and what is still to be sent on it.
struct Line<'r> {
    client: Client,
    pieces: Vec<&'r [u8]>,
    out: Vec<u8>,
}

impl<'r> Line<'r> {
    fn open(rig: &mut Rig, run: &'r Run) -> Self {
        let home = &mut rig.homes[0];
        let now_ms = home.read_clock().mono_ms;
        let token = home.connections.enter();
        let client = Client::new(token, Conn::new(run.listener, now_ms), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in run.cuts.iter().copied().chain([run.bytes.len()]) {
            pieces.push(&run.bytes[from..to]);
            from = to;
        }
        pieces.reverse();
        Self { client, pieces, out: Vec::new() }
    }

    /// One read, all its requests, one write: as the runtime does it.
    fn step(&mut self, rig: &mut Rig) {
        let home = &mut rig.homes[0];
        loop {
            let now_ms = home.mono_ms();
            let full = home.serve(&mut self.client);
            assert!(self.client.out.len() <= 2 * OUT_BYTES_MAX, "answers without bound");
            assert!(self.client.conn.buffer_bytes() <= CONN_BUFFER_BYTES_MAX, "a buffer without bound");
            self.out.append(&mut self.client.out);
            if full {
                continue;
            }
            if !home.connections.has_room(self.client.id) {
                return;
            }
            let Some(piece) = self.pieces.last_mut() else { return };
            let taken = self.client.conn.feed(piece, now_ms);
            *piece = &piece[taken..];
            if piece.is_empty() {
                self.pieces.pop();
            } else {
                assert!(taken > 0, "a connection that wants more takes something");
            }
        }
    }

    fn is_done(&self, rig: &Rig) -> bool {
        self.pieces.is_empty() && rig.homes[0].connections.is_idle(self.client.id)
    }

    fn close(mut self, rig: &mut Rig) -> Answers {
        self.step(rig);
        rig.homes[0].connections.leave(self.client.id);
        Answers {
            bytes: self.out,
            closes: self.client.is_closing(),
            waits: self.client.conn.is_mid_request(),
        }
    }
}

fn stock_of(item: u32) -> u64 {
    if item == EMPTY { 0 } else { 1 << 30 }
}

fn put_on_sale(shard: &mut Shard, shared: &Shared) {
    const FAR: UnixMillis = UnixMillis(200_000_000_000_000);
    let sale = ItemPatch {
        name: Some("phone"),
        opens_at_ms: Some(UnixMillis(0)),
        closes_at_ms: Some(FAR),
        cap: Some(1),
        ..ItemPatch::default()
    };
    let ticketed = ItemPatch { ticket: Some(TicketRule::Required), ..sale };
    let items = [
        (PHONE, sale),
        (SWEETS, ItemPatch { cap: Some(1_000_000), ..sale }),
        (TICKETED, ticketed),
        (TICKETED_TOO, ticketed),
        (LATER, ItemPatch { opens_at_ms: Some(UnixMillis(FAR.0 / 2)), ..sale }),
        (OVER, ItemPatch { closes_at_ms: Some(UnixMillis(1)), ..sale }),
        (EMPTY, sale),
        (CHALLENGED, ItemPatch { challenge: Some(ChallengeRule::Always), ..ticketed }),
    ];
    for (number, patch) in items {
        let patch = ItemPatch { stock: Some(stock_of(number)), ..patch };
        let item = ItemId::new(number.into()).expect("a number");
        let command = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "test" };
        let outcome = shard.decide(shared.clock.now().sale, &command, &mut shared.queue.producer());
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }
}
