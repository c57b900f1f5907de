//! What a full sale keeps in memory, and that selling does not allocate.
//!
//! A binary of its own, because it counts allocations, each thread its own: the test
//! runner's threads allocate as well. The figures are bounds of the product, not timings.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::shard::{Accepted, FactSink, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, Quantity, UnixMillis};

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    LIVE_BYTES.set(LIVE_BYTES.get() + bytes);
    ALLOCATIONS.set(ALLOCATIONS.get() + u64::from(bytes > 0));
}

// SAFETY: passes every call on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `ptr` came from `alloc` above, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: UnixMillis = UnixMillis(1_000);
const SECRET: HashSecret = HashSecret([3; 16]);

/// Numbers facts and forgets them.
struct Forget(u64);

impl FactSink for Forget {
    fn append(&mut self, _: Accepted<'_>) -> Lsn {
        self.0 += 1;
        Lsn(self.0)
    }
}

struct Sale {
    shard: Shard,
    sink: Forget,
}

impl Sale {
    fn new() -> Self {
        let catalogue = Arc::new(Catalogue::new(1));
        Self { shard: Shard::new(0, SECRET, catalogue), sink: Forget(0) }
    }

    fn create(&mut self, item: u64, stock: u64) {
        let patch = ItemPatch {
            name: Some("twenty bytes of name"),
            stock: Some(stock),
            opens_at_ms: Some(UnixMillis(0)),
            closes_at_ms: Some(UnixMillis(1_000_000)),
            ..ItemPatch::default()
        };
        let item = ItemId::new(item).expect("valid");
        let put = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "test" };
        let outcome = self.shard.decide(NOW, &put, &mut self.sink);
        assert!(matches!(outcome, Outcome::Done { changed: true, .. }), "{outcome:?}");
    }

    fn buy(&mut self, buyer: u64) {
        let (subject, key) = (text(b"buyer-", buyer), text(b"order-", buyer));
        let purchase = Purchase {
            item: ItemId::new(1).expect("valid"),
            buyer: SECRET.buyer(&subject),
            subject: &subject,
            quantity: Quantity::ONE,
            key: &key,
            ticket: Ticket::Good,
        };
        let outcome = self.shard.decide(NOW, &Command::Purchase(purchase), &mut self.sink);
        assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
    }
}

const SUBJECT_BYTES: i64 = 14;

/// A prefix and a number, without an allocation.
fn text(prefix: &[u8; 6], number: u64) -> [u8; SUBJECT_BYTES as usize] {
    let mut text = [0; SUBJECT_BYTES as usize];
    text[..6].copy_from_slice(prefix);
    text[6..].copy_from_slice(&number.to_be_bytes());
    text
}

#[test]
fn an_order_takes_at_most_160_bytes() {
    const ORDERS: i64 = 1_000_000;
    let mut sale = Sale::new();
    let before = LIVE_BYTES.get();
    sale.create(1, ORDERS as u64);
    (0..ORDERS as u64).for_each(|buyer| sale.buy(buyer));
    let bytes = LIVE_BYTES.get() - before;
    let each = bytes as f64 / ORDERS as f64 - SUBJECT_BYTES as f64;
    println!("{each:.1} bytes an order beside its subject ({ORDERS} orders, a key each)");
    assert!(each <= 160.0, "{each:.1} bytes an order");
}

#[test]
fn an_item_takes_at_most_600_bytes() {
    const ITEMS: i64 = 1_000_000;
    let mut sale = Sale::new();
    let before = LIVE_BYTES.get();
    (1..=ITEMS as u64).for_each(|item| sale.create(item, 100));
    let bytes = LIVE_BYTES.get() - before;
    let each = bytes as f64 / ITEMS as f64;
    println!("{each:.1} bytes an item ({ITEMS} items, stock 100, name of 20 bytes)");
    assert!(each <= 600.0, "{each:.1} bytes an item");
}

#[test]
fn a_purchase_does_not_allocate() {
    const PURCHASES: u64 = 10_000;
    /// Purchases that an owner decides between two looks at its tables.
    const TURN: u64 = 64;
    let mut sale = Sale::new();
    sale.create(1, 100_000);
    // The first one makes the filter of holders.
    sale.buy(0);
    let mut allocations = 0;
    for buyer in 1..=PURCHASES {
        if buyer % TURN == 1 {
            // Between turns the owner makes room ahead, at its own expense.
            sale.shard.keep_headroom();
        }
        let before = ALLOCATIONS.get();
        sale.buy(buyer);
        allocations += ALLOCATIONS.get() - before;
    }
    println!("{allocations} allocations in {PURCHASES} purchases");
    // Chunks of subjects and rows; nothing by the purchase.
    assert!(allocations <= PURCHASES / 1_000, "{allocations} allocations in {PURCHASES} purchases");
}

#[test]
fn a_refusal_does_not_allocate() {
    let mut sale = Sale::new();
    sale.create(1, 1);
    sale.buy(0);
    let before = ALLOCATIONS.get();
    for buyer in 1..1_000 {
        let subject = text(b"buyer-", buyer);
        let purchase = Purchase {
            item: ItemId::new(1).expect("valid"),
            buyer: SECRET.buyer(&subject),
            subject: &subject,
            quantity: Quantity::ONE,
            key: &subject,
            ticket: Ticket::Good,
        };
        let outcome = sale.shard.decide(NOW, &Command::Purchase(purchase), &mut sale.sink);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
