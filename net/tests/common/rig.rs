//! A small engine without sockets and executor: homes are driven by hand, the log is real.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome};
use stampede_core::fact::Fact;
use stampede_core::shard::Shard;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, UnixMillis};
use stampede_net::engine::clock::SaleClock;
use stampede_net::engine::home::{Client, Home};
use stampede_net::engine::mesh::Mesh;
use stampede_net::engine::owner::Owner;
use stampede_net::engine::shared::{Parts, Shared};
use stampede_net::gate::challenge::Challenges;
use stampede_net::gate::seal::SealKey;
use stampede_net::gate::ticket::Tickets;
use stampede_net::gate::{Gate, GateRules};
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;
use stampede_net::identity::Identity;
use stampede_persist::log::dir::{DataDir, LogOptions};
use stampede_persist::log::rebuild::Rebuild;
use stampede_persist::log::thread::JournalHandle;
use tempfile::TempDir;

/// Buyers that ask at the same time.
pub(crate) const CLIENTS: usize = 32;
/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The log is new: nothing comes out of it.
struct Empty;

impl Rebuild for Empty {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Err("a new log has no rows".into())
    }
    fn fact(&mut self, _: Lsn, _: &Fact<'_>) -> Result<(), String> {
        Err("a new log has no facts".into())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

/// A small engine without an executor; the clients are connected to core 0.
pub(crate) struct Rig {
    /// One per core.
    pub(crate) homes: Vec<Home>,
    /// All connected to core 0.
    pub(crate) clients: Vec<Client>,
    request: Vec<u8>,
    /// Where the number of the purchase stands in the request.
    numbers_at: [usize; 2],
    purchases: u64,
    _journal: JournalHandle,
    _dir: TempDir,
}

/// The digits of a purchase's number.
const BLANK: &str = "##########";

impl Rig {
    /// With so many cores; the item that is bought belongs to the last one. No limit is reached.
    pub(crate) fn new(cores: usize) -> Self {
        Self::with(cores, 1_000_000, |_, _| {})
    }

    /// The same with a rate per buyer, and with more items that `prepare` puts on sale.
    pub(crate) fn with(cores: usize, buyer_per_s: u32, prepare: impl Fn(&mut Shard, &Shared)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { allow_volatile: true, ..LogOptions::default() };
        let data = DataDir::open(dir.path(), &options).expect("opened");
        let (secret, mesh) = (data.hash_secret(), Arc::new(Mesh::new(cores)));
        let wakers = mesh.wakers().iter().map(|waker| {
            let waker = waker.clone();
            Arc::new(move || waker.wake()) as Arc<dyn Fn() + Send + Sync>
        });
        let started =
            data.recover(&mut Empty).expect("new").start(wakers.collect(), |reason| panic!("{reason}"));
        let started = started.expect("started");
        let shared = Arc::new(Shared::new(Parts {
            clock: SaleClock::start(UnixMillis(0)),
            identity: Identity::header(IpAddr::V4(Ipv4Addr::LOCALHOST), vec![]).expect("loopback"),
            gate: gate(cores, buyer_per_s),
            admin_token: String::new(),
            secret,
            catalogue: Arc::new(Catalogue::new(cores)),
            log: started.status.clone(),
            queue: started.queue.clone(),
            export: None,
            weakened: vec![],
            ack_durable: true,
            demo: None,
            mesh,
        }));
        let item =
            (1..).filter_map(ItemId::new).find(|item| item.owner(cores) == cores - 1).expect("one of many");
        let homes = (0..cores).map(|core| {
            let mut shard = Shard::new(core, secret, shared.catalogue.clone());
            if core == item.owner(cores) {
                put_on_sale(&mut shard, item, &shared);
                prepare(&mut shard, &shared);
            }
            Home::new(core, Owner::new(shard, shared.queue.producer(), shared.clone()), shared.clone())
        });
        let mut homes: Vec<Home> = homes.collect();
        let clients = (0..CLIENTS).map(|_| connect(&mut homes[0])).collect();
        let (request, numbers_at) = request(item);
        Self { homes, clients, request, numbers_at, purchases: 0, _journal: started.journal, _dir: dir }
    }

    /// Every client buys once, with a key of its own, as a buyer whom nobody has seen before,
    /// and gets the order when it is durable.
    pub(crate) fn round(&mut self) {
        for client in &mut self.clients {
            self.purchases += 1;
            for at in self.numbers_at {
                write_number(self.purchases, &mut self.request[at..at + BLANK.len()]);
            }
            let now_ms = self.homes[0].read_clock().mono_ms;
            assert_eq!(client.conn.feed(&self.request, now_ms), self.request.len());
            client.out.clear();
            self.homes[0].serve(client);
        }
        let begin = Instant::now();
        let mut owed = CLIENTS;
        while owed > 0 {
            assert!(begin.elapsed() < WAIT_MAX, "{owed} answers of {CLIENTS} do not come");
            for home in &mut self.homes {
                home.read_clock();
                while home.pump() {}
            }
            owed = 0;
            for client in &mut self.clients {
                self.homes[0].serve(client);
                owed += usize::from(client.out.is_empty());
            }
            std::thread::yield_now();
        }
        for client in &self.clients {
            assert!(client.out.starts_with(b"HTTP/1.1 201 "), "{}", client.out.escape_ascii());
        }
        self.homes.iter_mut().for_each(Home::tick);
    }
}

/// Every limit is on.
fn gate(cores: usize, buyer_per_s: u32) -> Gate {
    Gate {
        rules: GateRules {
            buyer_per_s,
            ip_per_s: 1_000_000,
            connections_per_ip: 1_000,
            suspicious_accounts: 8,
            suspicious_asks_per_min: 60,
        },
        tickets: Tickets::new(vec![SealKey::new(1, &[7; 32]).expect("long enough")], 60_000),
        challenges: Challenges::new(cores, &[9; 64], 60_000, 16),
    }
}

fn put_on_sale(shard: &mut Shard, item: ItemId, shared: &Shared) {
    let (name, stock, cap) = (Some("phone"), Some(1 << 30), Some(1));
    let (opens_at_ms, closes_at_ms) = (Some(UnixMillis(0)), Some(UnixMillis(200_000_000_000_000)));
    let patch = ItemPatch { name, stock, cap, opens_at_ms, closes_at_ms, ..ItemPatch::default() };
    let command = Command::PutItem { item, patch, actor: "test" };
    let outcome = shard.decide(shared.clock.now().sale, &command, &mut shared.queue.producer());
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

/// A purchase with blanks for its number, and where they are.
fn request(item: ItemId) -> (Vec<u8>, [usize; 2]) {
    let text = format!(
        "POST /v1/items/{}/orders HTTP/1.1\r\nHost: shop\r\nX-Buyer: buyer-{BLANK}\r\n\
         Idempotency-Key: key-{BLANK}\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n\
         {{\"quantity\":1}}",
        item.get()
    );
    let mut blanks = text.match_indices(BLANK).map(|(at, _)| at);
    let numbers_at = [blanks.next().expect("the buyer"), blanks.next().expect("the key")];
    (text.into_bytes(), numbers_at)
}

fn write_number(number: u64, digits: &mut [u8]) {
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A new connection to a core.
pub(crate) fn connect(home: &mut Home) -> Client {
    let token = home.connections.enter();
    home.connections.register(token, Waker::noop());
    Client::new(token, Conn::new(Listener::Public, 0), IpAddr::V4(Ipv4Addr::LOCALHOST))
}
