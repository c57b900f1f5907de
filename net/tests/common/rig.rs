//! A small engine without sockets and executor: the test drives the homes by hand, and the log is real.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::shard::Shard;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, UnixMillis};
use stampede_net::engine::clock::{Begin, SaleClock};
use stampede_net::engine::home::{Client, Home};
use stampede_net::engine::mesh::Mesh;
use stampede_net::engine::owner::Owner;
use stampede_net::engine::shared::{EngineState, Shared};
use stampede_net::gate::challenge::Challenges;
use stampede_net::gate::seal::SealKey;
use stampede_net::gate::ticket::Tickets;
use stampede_net::gate::{Gate, GateRules};
use stampede_net::http::conn::Conn;
use stampede_net::http::limits::{HEAD_BYTES, IDLE_MS};
use stampede_net::http::route::Listener;
use stampede_net::identity::Identity;
use stampede_persist::log::dir::{DataDir, LogOptions};
use stampede_persist::log::rebuild::Rebuild;
use stampede_persist::log::thread::JournalHandle;
use tempfile::TempDir;

/// The log is new: nothing is replayed.
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

/// What all cores share, over a fresh log.
pub(crate) struct Base {
    pub(crate) shared: Arc<Shared>,
    _journal: JournalHandle,
    _dir: TempDir,
}

/// The settings of an engine, apart from its number of cores.
pub(crate) struct Setup {
    /// Purchases per second and buyer.
    pub(crate) buyer_per_s: u32,
    /// Requests per second and address.
    pub(crate) ip_per_s: u32,
    /// Invalid tokens per second and address.
    pub(crate) bad_tokens_per_s: u32,
    /// How buyers are authenticated.
    pub(crate) identity: Identity,
    /// The merchant's token.
    pub(crate) admin_token: String,
    /// The keys of tickets; the first one seals.
    pub(crate) ticket_keys: Vec<SealKey>,
    /// Capacity of a ring between two cores; `None`: as in the product.
    pub(crate) ring_slots: Option<usize>,
    /// Whether answers wait for the log.
    pub(crate) ack_durable: bool,
}

impl Default for Setup {
    /// Buyers are named by a header, no limit is reached, and nobody has the merchant's token.
    fn default() -> Self {
        Self {
            buyer_per_s: 1_000_000,
            ip_per_s: 1_000_000,
            bad_tokens_per_s: 1_000_000,
            identity: Identity::header(IpAddr::V4(Ipv4Addr::LOCALHOST), vec![]).expect("loopback"),
            admin_token: String::new(),
            ticket_keys: vec![SealKey::new(1, &[7; 32]).expect("long enough")],
            ring_slots: None,
            ack_durable: true,
        }
    }
}

impl Base {
    /// For so many cores, with a rate limit per buyer.
    pub(crate) fn new(cores: usize, buyer_per_s: u32) -> Self {
        Self::made(cores, Setup { buyer_per_s, ..Setup::default() })
    }

    /// For so many cores.
    pub(crate) fn made(cores: usize, setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { allow_volatile: true, ..LogOptions::default() };
        let data = DataDir::open(dir.path(), &options).expect("opened");
        let mesh = setup.ring_slots.map_or_else(|| Mesh::new(cores), |slots| Mesh::with_slots(cores, slots));
        let (secret, mesh) = (data.hash_secret(), Arc::new(mesh));
        let wakers = mesh.wakers().iter().map(|waker| {
            let waker = waker.clone();
            Arc::new(move || waker.wake()) as Arc<dyn Fn() + Send + Sync>
        });
        let started =
            data.recover(&mut Empty).expect("new").start(wakers.collect(), |reason| panic!("{reason}"));
        let started = started.expect("started");
        let gate = gate(cores, rules(&setup), setup.ticket_keys);
        let shared = Arc::new(Shared {
            clock: SaleClock::start(UnixMillis(0), Begin::AtTheLog),
            identity: setup.identity,
            gate,
            admin_token: setup.admin_token,
            secret,
            catalogue: Arc::new(Catalogue::new(cores)),
            log: started.status.clone(),
            queue: started.queue.clone(),
            export: None,
            weakened: vec![],
            ack_durable: setup.ack_durable,
            demo: None,
            mesh,
            idle_ms: IDLE_MS as u32,
            head_bytes: HEAD_BYTES as u32,
            state: EngineState::serving(cores),
        });
        Self { shared, _journal: started.journal, _dir: dir }
    }
}

/// A small engine without an executor.
pub(crate) struct Rig {
    /// One per core.
    pub(crate) homes: Vec<Home>,
    /// The item on sale; the last core owns it.
    pub(crate) item: ItemId,
    _base: Base,
}

impl Rig {
    /// With so many cores, and one item that stays on sale. No limit is reached.
    pub(crate) fn new(cores: usize) -> Self {
        Self::with(cores, 1_000_000, |_, _| {})
    }

    /// The same with a rate limit per buyer, and with more items that `prepare` puts on sale.
    pub(crate) fn with(cores: usize, buyer_per_s: u32, prepare: impl Fn(&mut Shard, &Shared)) -> Self {
        Self::on(Base::new(cores, buyer_per_s), cores, prepare)
    }

    /// The same on an existing base; `prepare` gets the shard of the last core.
    pub(crate) fn on(base: Base, cores: usize, prepare: impl Fn(&mut Shard, &Shared)) -> Self {
        let shared = &base.shared;
        let item =
            (1..).filter_map(ItemId::new).find(|item| item.owner(cores) == cores - 1).expect("one of many");
        let homes = (0..cores).map(|core| {
            let mut shard = Shard::new(core, shared.secret, shared.catalogue.clone());
            if core == item.owner(cores) {
                put_on_sale(&mut shard, item, shared);
                prepare(&mut shard, shared);
            }
            Home::new(core, Owner::new(shard, shared.queue.producer(), shared.clone()), shared.clone())
        });
        let homes = homes.collect();
        Self { homes, item, _base: base }
    }
}

/// Every limit is on.
fn rules(setup: &Setup) -> GateRules {
    GateRules {
        buyer_per_s: setup.buyer_per_s,
        ip_per_s: setup.ip_per_s,
        bad_tokens_per_s: setup.bad_tokens_per_s,
        connections_per_ip: 1_000,
        suspicious_accounts: 8,
        suspicious_asks_per_min: 60,
    }
}

fn gate(cores: usize, rules: GateRules, ticket_keys: Vec<SealKey>) -> Gate {
    Gate {
        rules,
        tickets: Tickets::new(ticket_keys, 60_000),
        challenges: Challenges::new(cores, &[9; 64], 60_000, 16),
    }
}

fn put_on_sale(shard: &mut Shard, item: ItemId, shared: &Shared) {
    let (name, stock, cap) = (Some("phone"), Some(1 << 30), Some(1));
    let (opens_at_ms, closes_at_ms) = (Some(UnixMillis(0)), Some(UnixMillis(200_000_000_000_000)));
    let patch = ItemPatch { name, stock, cap, opens_at_ms, closes_at_ms, ..ItemPatch::default() };
    let command = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "test" };
    let outcome = shard.decide(shared.clock.now().sale, &command, &mut shared.queue.producer());
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

/// A new connection to a core.
pub(crate) fn connect(home: &mut Home) -> Client {
    let token = home.connections.enter();
    Client::new(token, Conn::new(Listener::Public, 0), IpAddr::V4(Ipv4Addr::LOCALHOST))
}
