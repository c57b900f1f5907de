//! F5: how fast a restart gets its orders back. Real shards decide and the real journal
//! writes; then the directory is opened, checked and replayed into new shards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::shard::Shard;
use stampede_core::types::{HashSecret, ItemId, Lsn, Quantity, UnixMillis};
use stampede_net::server::replay::{Replay, Shards};
use stampede_persist::log::dir::{DataDir, LogOptions, Started};

use crate::Bench;
use crate::cost::limit_per_s;
use crate::table::Table;

/// Owners that the orders are replayed for.
const CORES: usize = 2;
/// Items that the orders are spread over.
const ITEMS: u64 = 100;
/// Most purchases before the journal is woken, as an owner does it.
const BATCH: u64 = 64;
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Adds the figure.
pub(crate) fn replay(bench: &Bench, table: &mut Table) {
    let size = &bench.size;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = LogOptions::default();
    let data = DataDir::open(dir.path(), &options).expect("opened");
    let secret = data.hash_secret();
    let opened = data.recover(&mut Replay::new(&mut Shards::new(1, secret))).expect("new");
    let started = opened.start(Vec::new(), |reason| panic!("{reason}")).expect("started");
    let bytes = write(&secret, size.orders, started);
    let rounds = size.pairs.min(5);
    println!(
        "{} orders of {ITEMS} items, {:.0} bytes of log each",
        size.orders,
        bytes as f64 / size.orders as f64
    );
    let rates = (0..rounds).map(|_| {
        let begin = Instant::now();
        let mut state = Shards::new(CORES, secret);
        state.expect_facts(Lsn(size.orders));
        // Dropped without being started: the directory stays as it is.
        let opened =
            DataDir::open(dir.path(), &options).expect("opened").recover(&mut Replay::new(&mut state));
        let rate = size.orders as f64 / begin.elapsed().as_secs_f64();
        assert_eq!(opened.expect("recovered").facts_replayed(), size.orders + ITEMS);
        assert_eq!(state.counts(), (ITEMS as usize, size.orders as usize));
        println!("{rate:>12.0} orders/s");
        rate
    });
    let rates: Vec<f64> = rates.collect();
    let limit = limit_per_s(bench);
    table.add("F5", rates.iter().map(|rate| rate / limit).collect());
    table.add("F5.rate", rates);
}

/// Has a shard sell so many orders through the journal; returns the bytes of log that they took.
fn write(secret: &HashSecret, orders: u64, started: Started) -> u64 {
    let Started { queue, status, journal } = started;
    let mut shard = Shard::new(0, *secret, Arc::new(Catalogue::new(1)));
    let mut producer = queue.producer();
    let item = |number: u64| ItemId::new(number % ITEMS + 1).expect("small");
    for number in 0..ITEMS {
        let closes_at_ms = Some(UnixMillis(NOW.0 + 1_000));
        let (name, stock, opens_at_ms) =
            (Some("an item of a bench"), Some(orders / ITEMS + 1), Some(UnixMillis(0)));
        let patch = ItemPatch { name, stock, opens_at_ms, closes_at_ms, ..ItemPatch::default() };
        shard.decide(
            NOW,
            &Command::PutItem { item: item(number), patch, seed: DrawSeed::NONE, actor: "bench" },
            &mut producer,
        );
    }
    for number in 0..orders {
        if number.is_multiple_of(BATCH) {
            producer.flush();
            while !producer.has_room() || !status.accepting() {
                std::thread::yield_now();
            }
        }
        let (subject, key) = (format!("b0123abcd-{number:010}"), format!("k0123abcd-{number:010}"));
        let (subject, key) = (subject.as_bytes(), key.as_bytes());
        let (item, buyer) = (item(number.wrapping_mul(7_919)), secret.buyer(subject));
        let purchase = Purchase { item, buyer, subject, quantity: Quantity::ONE, key, ticket: Ticket::Good };
        let outcome = shard.decide(NOW, &Command::Purchase(purchase), &mut producer);
        assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
    }
    producer.flush();
    journal.shutdown(Duration::from_secs(60)).expect("all durable");
    status.bytes_written()
}
