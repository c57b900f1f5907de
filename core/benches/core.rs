//! What the core's verbs cost: nanoseconds per call on one core, nothing else.
//!
//! `cargo bench -p stampede-core` runs the small mode; `-- --full` takes longer and is
//! what a recorded figure needs. Each line is the best of several rounds: the least
//! disturbed one. Time is what the thread had a processor for, where the kernel tells, so
//! that other programs disturb less. Not here: queues, sockets, disks.
//!
//! At the end [`verbs`] shows the longest single call of every verb at 200,000 orders, and at ten
//! million with `--full` or as many as `STAMPEDE_BENCH_ORDERS` says (a gigabyte and a half for ten
//! million).

#[path = "core/verbs.rs"]
mod verbs;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stampede_core::admit::{Buyer, admit};
use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Refusal, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::money::Price;
use stampede_core::sample::Order;
use stampede_core::shard::{Accepted, Ahead, FactSink, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_records::Recorder;

const SECRET: HashSecret = HashSecret([5; 16]);
const NOW: UnixMillis = UnixMillis(1_000);

struct Size {
    purchases: u64,
    rounds: u32,
}

/// Numbers facts and forgets them.
struct Forget(u64);

impl FactSink for Forget {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        black_box(fact);
        self.0 += 1;
        Lsn(self.0)
    }
}

fn item(number: u64) -> ItemId {
    ItemId::new(number).expect("valid")
}

fn subject(buyer: u64) -> [u8; 16] {
    let mut subject = *b"buyer-__________";
    subject[8..].copy_from_slice(&buyer.to_be_bytes());
    subject
}

/// The item that the `n`-th purchase asks for: strides over all of them.
fn nth_item(n: u64, items: u64) -> ItemId {
    item(n.wrapping_mul(7_919) % items + 1)
}

fn shard_with(items: u64, stock: u64, sink: &mut Forget) -> Shard {
    let mut shard = Shard::new(0, SECRET, Arc::new(Catalogue::new(1)));
    for number in 1..=items {
        let patch = ItemPatch {
            name: Some("an item of a bench"),
            stock: Some(stock),
            opens_at_ms: Some(UnixMillis(0)),
            closes_at_ms: Some(UnixMillis(1_000_000)),
            ..ItemPatch::default()
        };
        shard.decide(
            NOW,
            &Command::PutItem { item: item(number), patch, seed: DrawSeed::NONE, actor: "bench" },
            sink,
        );
    }
    // As an owner does between requests.
    (0..1_000).for_each(|_| shard.keep_headroom());
    shard
}

/// Below this the kernel's account of a thread, which moves on in ticks of some milliseconds, is
/// too coarse; so short a round may well have been left alone.
const WALL_CLOCK_MAX: Duration = Duration::from_millis(40);

/// For how long this thread had a processor since it began, if the kernel tells.
fn on_cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// How long it took, by the processor's time where it is long enough.
fn timed(run: impl FnOnce() -> u64) -> (Duration, u64) {
    let (begin, before) = (Instant::now(), on_cpu());
    let operations = run();
    let (wall, after) = (begin.elapsed(), on_cpu());
    let used = after.zip(before).map(|(after, before)| after - before);
    (used.filter(|_| wall > WALL_CLOCK_MAX).unwrap_or(wall), operations)
}

/// Best of the rounds, in nanoseconds per operation; `make` is not timed.
fn best<T>(size: &Size, mut make: impl FnMut() -> T, mut run: impl FnMut(&mut T) -> u64) -> f64 {
    let rounds = (0..size.rounds).map(|_| {
        let mut state = make();
        let (took, operations) = timed(|| run(&mut state));
        took.as_nanos() as f64 / operations as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn buyers(count: u64) -> Vec<(stampede_core::types::BuyerHash, [u8; 16])> {
    let hashed = |subject: [u8; 16]| (SECRET.buyer(&subject), subject);
    (0..count).map(|buyer| hashed(subject(buyer))).collect()
}

fn decide_purchase(size: &Size, items: u64) -> f64 {
    let buyers = buyers(size.purchases);
    let make = || {
        let mut sink = Forget(0);
        (shard_with(items, size.purchases / items + 1, &mut sink), sink)
    };
    best(size, make, |(shard, sink)| {
        for (n, (buyer, subject)) in (0..).zip(&buyers) {
            let (item, buyer) = (nth_item(n, items), *buyer);
            let purchase = Purchase {
                item,
                buyer,
                subject,
                quantity: Quantity::ONE,
                key: subject,
                ticket: Ticket::Good,
            };
            let outcome = shard.decide(NOW, &Command::Purchase(purchase), sink);
            assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
        }
        size.purchases
    })
}

/// The same with a look ahead over each batch of so many.
fn decide_batch(size: &Size, items: u64, batch: usize) -> f64 {
    let buyers = buyers(size.purchases);
    let asks: Vec<_> =
        (0..).zip(&buyers).map(|(n, (buyer, subject))| (nth_item(n, items), *buyer, subject)).collect();
    let make = || {
        let mut sink = Forget(0);
        (shard_with(items, size.purchases / items + 1, &mut sink), sink)
    };
    best(size, make, |(shard, sink)| {
        for batch in asks.chunks(batch) {
            shard.look_ahead(batch.iter().map(|&(item, buyer, _)| Ahead::Purchase(item, buyer)));
            for &(item, buyer, subject) in batch {
                let (quantity, ticket) = (Quantity::ONE, Ticket::Good);
                let purchase = Purchase { item, buyer, subject, quantity, key: subject, ticket };
                let outcome = shard.decide(NOW, &Command::Purchase(purchase), sink);
                assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
            }
        }
        size.purchases
    })
}

/// One unit, sold; then everybody else is refused by what the gauge shows.
fn admit_sold_out(size: &Size, items: u64) -> f64 {
    let buyers = buyers(size.purchases);
    let make = || {
        let mut sink = Forget(0);
        let mut shard = shard_with(items, 1, &mut sink);
        let winner = subject(u64::MAX);
        let buyer = SECRET.buyer(&winner);
        for number in 1..=items {
            let quantity = Quantity::ONE;
            let purchase = Purchase {
                item: item(number),
                buyer,
                subject: &winner,
                quantity,
                key: &[],
                ticket: Ticket::Good,
            };
            shard.decide(NOW, &Command::Purchase(purchase), &mut sink);
        }
        shard
    };
    best(size, make, |shard| {
        let mut refused = 0;
        for (n, (hash, _)) in (0..).zip(&buyers) {
            let gauge = shard.catalogue().find(nth_item(n, items)).expect("created");
            let buyer = Buyer { hash: *hash, level: 0, since_s: None, blocked: false };
            refused +=
                u64::from(admit(NOW, gauge, &buyer, || Ok(()), || Ticket::Good) == Err(Refusal::SoldOut));
        }
        // The filter of holders may send a few to the owner.
        assert!(refused * 10 >= size.purchases * 9, "{refused} of {} refused", size.purchases);
        size.purchases
    })
}

fn apply_placed(size: &Size, items: u64) -> f64 {
    let buyers = buyers(size.purchases);
    let make = || {
        let mut sink = Forget(0);
        let shard = shard_with(items, size.purchases / items + 1, &mut sink);
        (shard, vec![0u32; items as usize + 1])
    };
    best(size, make, |(shard, seqs)| {
        for (n, (_, subject)) in (0..).zip(&buyers) {
            let item = nth_item(n, items);
            let seq = &mut seqs[item.get() as usize];
            *seq += 1;
            let price = Price { minor: 499_900, currency: *b"CNY" };
            let (order, key) = (OrderId::new(item, *seq), subject);
            let fact = Order { at_ms: NOW, subject, key, price, ..Order::new(order) }.placed();
            shard.apply(Lsn(items + 1 + n), &fact).expect("follows");
        }
        size.purchases
    })
}

/// A draw among as many entries as there are purchases, for a hundred units: how long it
/// takes in all by entry, and how long the owner's longest tick is, in nanoseconds.
fn draw(size: &Size) -> (f64, f64) {
    let buyers = buyers(size.purchases);
    let (opens, draws) = (UnixMillis(NOW.0 + 1), UnixMillis(NOW.0 + 10_001));
    let mut longest = f64::INFINITY;
    let make = || {
        let mut sink = Forget(0);
        let mut shard = Shard::new(0, SECRET, Arc::new(Catalogue::new(1)));
        let patch = ItemPatch {
            name: Some("an item of a bench"),
            stock: Some(100),
            opens_at_ms: Some(opens),
            closes_at_ms: Some(UnixMillis(1_000_000)),
            draw_ms: Some(10_000),
            ..ItemPatch::default()
        };
        let put = Command::PutItem { item: item(1), patch, seed: DrawSeed([7; 32]), actor: "bench" };
        shard.decide(NOW, &put, &mut sink);
        for (buyer, subject) in &buyers {
            let (item, buyer) = (item(1), *buyer);
            let purchase = Purchase {
                item,
                buyer,
                subject,
                quantity: Quantity::ONE,
                key: subject,
                ticket: Ticket::Good,
            };
            shard.decide(opens, &Command::Purchase(purchase), &mut sink);
        }
        (shard, sink)
    };
    let each = best(size, make, |(shard, sink)| {
        let mut longest_now = 0.0_f64;
        while shard.next_due().is_some_and(|due| due <= draws) {
            let begin = Instant::now();
            shard.tick(draws, 128, sink);
            longest_now = longest_now.max(begin.elapsed().as_nanos() as f64);
        }
        longest = longest.min(longest_now);
        size.purchases
    });
    (each, longest)
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let size =
        if full { Size { purchases: 1_000_000, rounds: 5 } } else { Size { purchases: 100_000, rounds: 3 } };
    let setting = format!("best of {} rounds of {}", size.rounds, size.purchases);
    println!("ns/op, {setting}");
    let mut recorder = Recorder::new("core", env!("CARGO_MANIFEST_DIR")).with_setting(setting);
    for (what, key, items) in [("one hot item", "hot", 1), ("100,000 items", "many", 100_000)] {
        let mut line = |verb: &str, figure: &str, ns: f64| {
            println!("{verb:<20}{what:<14} {ns:8.1}");
            if !figure.is_empty() {
                recorder.add(&figure.replace('*', key), vec![ns]);
            }
        };
        line("decide purchase", "decide.*", decide_purchase(&size, items));
        for (batch, figure) in [(16, ""), (64, "decide.*.ahead"), (256, "")] {
            line(&format!("  {batch:>3} looked ahead"), figure, decide_batch(&size, items, batch));
        }
        line("admit: sold out", "admit.*", admit_sold_out(&size, items));
        line("apply order placed", "apply.*", apply_placed(&size, items));
    }
    let (each, longest) = draw(&size);
    println!("draw, by entry      one item       {each:8.1}");
    println!("draw, longest tick  one item       {longest:8.1}");
    recorder.add("draw", vec![each]);
    recorder.add("draw.tick", vec![longest]);
    if let Some(path) = recorder.finish().expect("the record is written") {
        println!("recorded in {}", path.display());
    }
    let orders = std::env::var("STAMPEDE_BENCH_ORDERS").ok().and_then(|orders| orders.parse().ok());
    verbs::run(orders.unwrap_or(if full { 10_000_000 } else { 200_000 }));
}
