//! A purchase goes from bytes to bytes without allocating: parsed, decided, logged, durable,
//! answered, on one core and over the hop to another. A binary of its own, because it counts
//! every allocation. No socket, no executor: homes are driven by hand, the log is real.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

thread_local! {
    /// Allocations of this thread, while it is a core.
    static HERE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Allocations of all other threads: the journal's are among them.
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

/// Counts what is asked for, and hands everything on.
struct Counting;

fn count() {
    // A thread that is ending has no cell any more, and is no core.
    let here = HERE.try_with(|count| {
        let counted = count.get().map(|before| before + 1);
        count.set(counted);
        counted.is_some()
    });
    if here != Ok(true) {
        ELSEWHERE.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Buyers that ask at the same time.
const CLIENTS: usize = 32;
/// Rounds before anything is counted, and rounds that are.
const ROUNDS: (u64, u64) = (64, 256);
/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Tables grow in chunks, each for many orders: so many purchases per allocation at least.
const PURCHASES_PER_CHUNK: u64 = 1_000;

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
struct Rig {
    homes: Vec<Home>,
    clients: Vec<Client>,
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
    /// With so many cores; the item that is bought belongs to the last one.
    fn new(cores: usize) -> Self {
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
            gate: gate(cores),
            admin_token: String::new(),
            secret,
            catalogue: Arc::new(Catalogue::new(cores)),
            log: started.status.clone(),
            queue: started.queue.clone(),
            export: None,
            weakened: vec![],
            demo: None,
            ack_durable: true,
            mesh,
        }));
        let item =
            (1..).filter_map(ItemId::new).find(|item| item.owner(cores) == cores - 1).expect("one of many");
        let homes = (0..cores).map(|core| {
            let mut shard = Shard::new(core, secret, shared.catalogue.clone());
            if core == item.owner(cores) {
                put_on_sale(&mut shard, item, &shared);
            }
            Home::new(core, Owner::new(shard, shared.queue.producer(), shared.clone()), shared.clone())
        });
        let mut homes: Vec<Home> = homes.collect();
        let clients = (0..CLIENTS).map(|_| {
            let token = homes[0].connections.enter();
            homes[0].connections.register(token, Waker::noop());
            Client::new(token, Conn::new(Listener::Public, 0), IpAddr::V4(Ipv4Addr::LOCALHOST))
        });
        let clients = clients.collect();
        let (request, numbers_at) = request(item);
        Self { homes, clients, request, numbers_at, purchases: 0, _journal: started.journal, _dir: dir }
    }

    /// Every client buys once, with a key of its own, as a buyer whom nobody has seen before,
    /// and gets the order when it is durable.
    fn round(&mut self) {
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

/// Every limit is on, and none is ever reached.
fn gate(cores: usize) -> Gate {
    Gate {
        rules: GateRules {
            buyer_per_s: 1_000_000,
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

/// Allocations during so many rounds: of this thread, of all others.
fn allocations(rig: &mut Rig, rounds: u64) -> (u64, u64) {
    let elsewhere = ELSEWHERE.load(Ordering::Relaxed);
    HERE.set(Some(0));
    (0..rounds).for_each(|_| rig.round());
    let here = HERE.replace(None).unwrap_or_default();
    (here, ELSEWHERE.load(Ordering::Relaxed) - elsewhere)
}

fn check(cores: usize) {
    // One at a time: what other threads allocate is counted together.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rig = Rig::new(cores);
    let (warming, _) = allocations(&mut rig, ROUNDS.0);
    assert!(warming > 0, "the counter counts: the first rounds make the buffers");
    let (here, elsewhere) = allocations(&mut rig, ROUNDS.1);
    let purchases = ROUNDS.1 * CLIENTS as u64;
    println!(
        "{cores} core(s), {purchases} purchases: {here} allocations on the cores, {elsewhere} elsewhere"
    );
    assert!(here <= purchases / PURCHASES_PER_CHUNK, "{here} allocations for {purchases} purchases");
    assert!(elsewhere <= purchases / PURCHASES_PER_CHUNK, "the journal: {elsewhere} for {purchases}");
}

#[test]
fn a_durable_purchase_allocates_nothing() {
    check(1);
}

#[test]
fn a_durable_purchase_over_the_hop_allocates_nothing() {
    check(2);
}
