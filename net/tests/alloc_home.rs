//! A purchase goes from bytes to bytes without allocating: parsed, decided, logged, durable,
//! answered, on one core and over the hop to another; and so does every refusal at the gate. A binary of its own, because it counts
//! every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stampede_core::command::{Command, ItemPatch, Outcome};
use stampede_core::draw::DrawSeed;
use stampede_core::item::{ChallengeRule, TicketRule};
use stampede_core::types::{ItemId, UnixMillis};
use stampede_net::engine::home::{Client, Home};

use rig::{Rig, connect};

#[path = "common/rig.rs"]
mod rig;

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

/// Rounds before anything is counted, and rounds that are.
const ROUNDS: (u64, u64) = (64, 256);
/// Tables grow in chunks, each for many orders: so many purchases per allocation at least.
const PURCHASES_PER_CHUNK: u64 = 1_000;

/// Buyers that ask at the same time.
const CLIENTS: usize = 32;
/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The digits of a purchase's number.
const BLANK: &str = "##########";

/// Buyers at core 0 of an engine that is driven by hand.
struct Crowd {
    rig: Rig,
    clients: Vec<Client>,
    request: Vec<u8>,
    /// Where the number of the purchase stands in the request.
    numbers_at: [usize; 2],
    purchases: u64,
}

impl Crowd {
    fn at(mut rig: Rig) -> Self {
        let clients = (0..CLIENTS).map(|_| connect(&mut rig.homes[0])).collect();
        let (request, numbers_at) = request(rig.item);
        Self { rig, clients, request, numbers_at, purchases: 0 }
    }

    /// Every client buys once, with a key of its own, as a buyer whom nobody has seen before,
    /// and gets the order when it is durable.
    fn round(&mut self) {
        for client in &mut self.clients {
            self.purchases += 1;
            for at in self.numbers_at {
                write_number(self.purchases, &mut self.request[at..at + BLANK.len()]);
            }
            let now_ms = self.rig.homes[0].read_clock().mono_ms;
            assert_eq!(client.conn.feed(&self.request, now_ms), self.request.len());
            client.out.clear();
            self.rig.homes[0].serve(client);
        }
        let begin = Instant::now();
        let mut owed = CLIENTS;
        while owed > 0 {
            assert!(begin.elapsed() < WAIT_MAX, "{owed} answers of {CLIENTS} do not come");
            for home in &mut self.rig.homes {
                home.read_clock();
                while home.pump() {}
            }
            owed = 0;
            for client in &mut self.clients {
                self.rig.homes[0].serve(client);
                owed += usize::from(client.out.is_empty());
            }
            std::thread::yield_now();
        }
        for client in &self.clients {
            assert!(client.out.starts_with(b"HTTP/1.1 201 "), "{}", client.out.escape_ascii());
        }
        // Between requests: there the owner makes room ahead, so that no purchase has to.
        let counted = HERE.replace(Some(0));
        self.rig.homes.iter_mut().for_each(Home::tick);
        HERE.set(counted);
    }
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
fn allocations(crowd: &mut Crowd, rounds: u64) -> (u64, u64) {
    let elsewhere = ELSEWHERE.load(Ordering::Relaxed);
    HERE.set(Some(0));
    (0..rounds).for_each(|_| crowd.round());
    let here = HERE.replace(None).unwrap_or_default();
    (here, ELSEWHERE.load(Ordering::Relaxed) - elsewhere)
}

/// One test at a time: what other threads allocate is counted together.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(cores: usize) {
    let _turn = turn();
    let mut crowd = Crowd::at(Rig::new(cores));
    let (warming, _) = allocations(&mut crowd, ROUNDS.0);
    assert!(warming > 0, "the counter counts: the first rounds make the buffers");
    let (here, elsewhere) = allocations(&mut crowd, ROUNDS.1);
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

/// What the items of the refusals are like, by number, beside the defaults of `put_on_sale`.
fn refusing_items() -> Vec<(u64, ItemPatch<'static>)> {
    let sale = ItemPatch {
        name: Some("phone"),
        stock: Some(1 << 30),
        opens_at_ms: Some(UnixMillis(0)),
        closes_at_ms: Some(UnixMillis(200_000_000_000_000)),
        ..ItemPatch::default()
    };
    let ticketed = ItemPatch { ticket: Some(TicketRule::Required), ..sale };
    vec![
        (11, ItemPatch { opens_at_ms: Some(UnixMillis(100_000_000_000_000)), ..sale }),
        (12, ItemPatch { closes_at_ms: Some(UnixMillis(1)), ..sale }),
        (13, ItemPatch { min_level: Some(1), ..sale }),
        (14, ItemPatch { stock: Some(0), ..sale }),
        (15, ticketed),
        (16, ItemPatch { stock: Some(0), ..ticketed }),
        (17, ItemPatch { admit_per_s: Some(1), stock: Some(0), ..sale }),
        (18, ItemPatch { challenge: Some(ChallengeRule::Always), ..ticketed }),
    ]
}

/// Sends a request as a client and gives back the answer, which no owner is asked for.
fn ask(rig: &mut Rig, client: &mut Client, request: &[u8]) -> usize {
    let now_ms = rig.homes[0].read_clock().mono_ms;
    client.out.clear();
    client.conn.feed(request, now_ms);
    rig.homes[0].serve(client);
    client.out.len()
}

fn purchase(item: u64, buyer: &str, body: &str) -> Vec<u8> {
    post(&format!("/v1/items/{item}/orders"), buyer, body)
}

fn post(path: &str, buyer: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: shop\r\nX-Buyer: {buyer}\r\nContent-Length: {len}\r\n\r\n");
    (head + body).into_bytes()
}

/// No refusal allocates: it costs the reading of the request and the copying of an answer.
#[test]
fn a_refusal_at_the_gate_allocates_nothing() {
    let _turn = turn();
    let mut rig = Rig::with(1, 5, |shard, shared| {
        for (number, patch) in refusing_items() {
            let item = ItemId::new(number).expect("a number");
            let command = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "test" };
            let outcome = shard.decide(shared.clock.now().sale, &command, &mut shared.queue.producer());
            assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        }
    });
    let mut client = connect(&mut rig.homes[0]);
    let (one, junk) = (r#"{"quantity":1}"#, format!(r#"{{"ticket":"{}"}}"#, "A".repeat(96)));
    let limited = purchase(14, "limited", one);
    for _ in 0..8 {
        ask(&mut rig, &mut client, &limited);
    }
    let solved = format!(r#"{{"challenge":"{}","answer":"1"}}"#, "A".repeat(96));
    let table = [
        ("403 Forbidden", "not_open", purchase(11, "b", one)),
        ("403 Forbidden", "ended", purchase(12, "b", one)),
        ("403 Forbidden", "not_eligible", purchase(13, "b", one)),
        ("409 Conflict", "sold_out", purchase(14, "c", one)),
        ("403 Forbidden", "ticket_required", purchase(15, "d", one)),
        ("403 Forbidden", "ticket_invalid", purchase(15, "e", &junk)),
        ("403 Forbidden", "ticket_invalid", purchase(16, "f", &junk)),
        ("429 Too Many Requests", "rate_limited", limited),
        ("403 Forbidden", "challenge_required", post("/v1/items/18/ticket", "g", "{}")),
        ("403 Forbidden", "challenge_failed", post("/v1/items/18/ticket", "h", &solved)),
    ];
    for (status, code, request) in table {
        ask(&mut rig, &mut client, &request);
        HERE.set(Some(0));
        let len = ask(&mut rig, &mut client, &request);
        let allocations = HERE.replace(None).unwrap_or_default();
        let out = String::from_utf8_lossy(&client.out[..len]).into_owned();
        let said = out.starts_with(&format!("HTTP/1.1 {status}")) && out.contains(&format!("\"{code}\""));
        assert!(said, "{code}: {out}");
        assert_eq!(allocations, 0, "{code}");
    }
    // The item's own rate: the first is let through to the stock, the next are not.
    let admitted = purchase(17, "i", one);
    ask(&mut rig, &mut client, &admitted);
    HERE.set(Some(0));
    ask(&mut rig, &mut client, &admitted);
    assert_eq!(HERE.replace(None), Some(0), "admission");
    assert!(client.out.starts_with(b"HTTP/1.1 429 "), "{}", client.out.escape_ascii());
}
