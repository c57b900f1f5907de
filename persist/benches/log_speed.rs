//! How fast the log writes and comes back: orders per second through the whole journal
//! into a real directory, and through recovery (checksums, chain, decoding).
//!
//! `cargo bench -p stampede-persist --bench log_speed -- [ORDERS] [DIR]`; 200,000 orders and
//! a temporary directory by default. Prints one line per figure.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use stampede_core::fact::Fact;
use stampede_core::money::Price;
use stampede_core::sample::Order;
use stampede_core::shard::Accepted;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};
use stampede_persist::feed::FactFeed as _;
use stampede_persist::log::dir::{DataDir, LogOptions};
use stampede_persist::log::rebuild::Rebuild;
use stampede_records::Recorder;

/// A state that only counts.
#[derive(Default)]
struct Count(u64);

impl Rebuild for Count {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Ok(())
    }
    fn fact(&mut self, _: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.0 += u64::from(fact.item().is_some());
        Ok(())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

fn rate(recorder: &mut Recorder, key: &str, what: &str, orders: u64, took: Duration) {
    let per_s = orders as f64 / took.as_secs_f64();
    println!("{what:<28} {per_s:>10.0} orders/s ({orders} in {took:.2?})");
    recorder.add(key, vec![per_s]);
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let orders: u64 = args.next().map_or(200_000, |arg| arg.parse().expect("a number of orders"));
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = args.next().map_or_else(|| temp.path().to_owned(), PathBuf::from);
    let recorder = Recorder::new("log_speed", env!("CARGO_MANIFEST_DIR"));
    let mut recorder = recorder.with_setting(format!("{orders} orders"));
    let options = LogOptions { allow_volatile: true, ..LogOptions::default() };
    let opened = DataDir::open(&dir, &options).unwrap().recover(&mut Count::default()).unwrap();
    let started = opened.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    let (item, begun) = (ItemId::new(1).unwrap(), Instant::now());
    for n in 1..=orders {
        while !started.queue.has_room() || !started.status.accepting() {
            started.queue.flush();
            std::thread::yield_now();
        }
        let order = Order {
            at_ms: UnixMillis(1_700_000_000_000 + n),
            subject: b"buyer-0123456789",
            key: b"key-0123456789abcdef",
            price: Price { minor: 499_900, currency: *b"CNY" },
            ..Order::new(OrderId::new(item, n as u32))
        };
        started.queue.append(Accepted::forged(&order.placed()));
        if n % 64 == 0 {
            started.queue.flush();
        }
    }
    started.queue.flush();
    while started.status.durable_lsn() < Lsn(orders) {
        std::thread::yield_now();
    }
    rate(&mut recorder, "write", "written and synced", orders, begun.elapsed());
    println!("{:<28} {:>10} groups, {} bytes", "", started.status.groups(), started.status.bytes_written());
    let (mut tail, begun) = (started.journal.tail(Lsn::ZERO), Instant::now());
    while tail.read(Lsn(orders), 1 << 16, &mut |_, _| ()).unwrap() > 0 {}
    rate(&mut recorder, "tail", "read by a tail", orders, begun.elapsed());
    started.journal.shutdown(Duration::from_secs(60)).unwrap();
    let (mut count, begun) = (Count::default(), Instant::now());
    DataDir::open(&dir, &options).unwrap().recover(&mut count).unwrap();
    rate(&mut recorder, "recover", "recovered", count.0, begun.elapsed());
    if let Some(path) = recorder.finish().expect("the record is written") {
        println!("recorded in {}", path.display());
    }
}
