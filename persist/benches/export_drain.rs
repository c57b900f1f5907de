//! How fast the exporter drains, measured against the same rows by raw binary COPY.
//!
//! `cargo bench -p stampede-persist --bench export_drain -- [ORDERS] [PAIRS]`: small by
//! default. Each pair drains the orders into one database and copies them, as the drain left
//! them, into another table of the same shape; pairs are interleaved, since a machine's
//! speed changes over the minutes. The figure that counts is the ratio.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use stampede_core::fact::Fact;
use stampede_core::item::ItemSpec;
use stampede_core::money::Price;
use stampede_core::sample::{Item, Order, spec};
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};
use stampede_persist::export::{
    ExportEvent, ExportPort, ExportStatus, Exporter, ExporterOptions, LogId, Nonce, Step,
};
use stampede_persist::feed::{FactFeed, FeedError};
use stampede_persist::log::block::ChainHash;
use stampede_records::{Recorder, median};
use stampede_testkit::{ClusterOptions, PostgresCluster};

const ITEMS: u64 = 8;

/// A log that makes its facts up as they are read: an item each, then orders in turn.
#[derive(Clone)]
struct MadeUp {
    orders: u64,
    next: u64,
    exported: Arc<AtomicU64>,
}

impl MadeUp {
    fn durable(&self) -> u64 {
        ITEMS + self.orders
    }

    fn visit(lsn: u64, visit: &mut dyn FnMut(Lsn, &Fact<'_>)) {
        let id = |number: u64| ItemId::new(1 + number % ITEMS).expect("small");
        if lsn <= ITEMS {
            let closes_at_ms = UnixMillis(4_000_000_000_000);
            let spec = ItemSpec { price_minor: PRICE.minor, closes_at_ms, ..spec("phone") };
            let fact = Item { spec, actor: "bench", ..Item::new(id(lsn - 1), 1 << 30) }.created();
            return visit(Lsn(lsn), &fact);
        }
        let number = lsn - ITEMS - 1;
        // Subjects in no order, as people arrive.
        let subject = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let key = format!("k-{number}");
        let order = Order {
            at_ms: UnixMillis(1_800_000_000_000 + number / 1_000),
            subject: subject.as_bytes(),
            key: key.as_bytes(),
            price: PRICE,
            ..Order::new(OrderId::new(id(number), 1 + (number / ITEMS) as u32))
        };
        visit(Lsn(lsn), &order.placed());
    }
}

const PRICE: Price = Price { minor: 499_900, currency: *b"CNY" };

impl FactFeed for MadeUp {
    fn chain(&mut self) -> Result<ChainHash, FeedError> {
        Ok([7; 32])
    }

    fn read(
        &mut self,
        up_to: Lsn,
        max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<usize, FeedError> {
        let end = up_to.0.min(self.next + max as u64);
        (self.next + 1..=end).for_each(|lsn| Self::visit(lsn, visit));
        let read = end - self.next;
        self.next = end;
        Ok(read as usize)
    }
}

impl ExportPort for MadeUp {
    fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable())
    }
    fn first_retained_lsn(&self) -> Lsn {
        Lsn(1)
    }
    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError> {
        Ok(Box::new(Self { next: after.0, ..self.clone() }))
    }
    fn exported(&mut self, lsn: Lsn) {
        self.exported.store(lsn.0, Ordering::Relaxed);
    }
    fn event(&mut self, event: ExportEvent) {
        assert!(matches!(event, ExportEvent::Attached { .. }), "{event:?}");
    }
}

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<u64>().ok());
    let (orders, pairs) = (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(2));
    let options = ClusterOptions {
        fsync: true,
        settings: vec![("max_wal_size".into(), "4GB".into()), ("shared_buffers".into(), "1GB".into())],
    };
    let cluster = PostgresCluster::new(options).expect("a throw-away cluster");
    println!("{orders} orders, {pairs} pairs; rows per second");
    println!("{:>12} {:>12} {:>8}", "drain", "raw COPY", "ratio");
    let recorder = Recorder::new("export_drain", env!("CARGO_MANIFEST_DIR"));
    let mut recorder = recorder.with_setting(format!("{orders} orders, {pairs} pairs"));
    let (mut ratios, mut drains, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let name = format!("pair{pair}");
        cluster.psql("postgres", &format!("CREATE DATABASE {name}")).expect("created");
        let url = cluster.url_of(&name);
        let drained = drain(&url, orders);
        let copied = copy(&url, orders);
        let rate = |took: Duration| orders as f64 / took.as_secs_f64();
        let ratio = rate(drained) / rate(copied);
        println!("{:>12.0} {:>12.0} {:>8.2}", rate(drained), rate(copied), ratio);
        ratios.push(ratio);
        drains.push(rate(drained));
        copies.push(rate(copied));
        cluster.psql("postgres", &format!("DROP DATABASE {name}")).expect("dropped");
    }
    println!("drain / raw COPY, median: {:.2}", median(ratios.iter().copied()));
    recorder.add("drain", ratios);
    recorder.add("drain.rate", drains);
    recorder.add("copy.rate", copies);
    if let Some(path) = recorder.finish().expect("the record is written") {
        println!("recorded in {}", path.display());
    }
}

/// From the first attach to the last commit.
fn drain(url: &str, orders: u64) -> Duration {
    let log = MadeUp { orders, next: 0, exported: Arc::default() };
    let options = ExporterOptions::new(url, LogId([1; 16]), Nonce::new(1));
    let mut exporter = Exporter::new(options, Box::new(log.clone()), Arc::new(ExportStatus::default()))
        .expect("an exporter");
    assert_eq!(exporter.step(), Step::Again, "connected: {:?}", exporter.status());
    let begin = Instant::now();
    while log.exported.load(Ordering::Relaxed) < log.durable() {
        assert_ne!(exporter.step(), Step::Stopped);
    }
    begin.elapsed()
}

/// The rows as the drain left them, in the order in which it wrote them, with one COPY into
/// a table of the same shape with the same indexes.
fn copy(url: &str, orders: u64) -> Duration {
    let mut client = Client::connect(url, NoTls).expect("connected");
    client.batch_execute("CHECKPOINT; CREATE TABLE raw (LIKE stock_order INCLUDING ALL)").expect("created");
    let mut bytes = Vec::new();
    let mut reader = client
        .copy_out("COPY (SELECT * FROM stock_order ORDER BY lsn) TO STDOUT (FORMAT binary)")
        .expect("copied out");
    reader.read_to_end(&mut bytes).expect("read");
    drop(reader);
    let begin = Instant::now();
    let mut writer = client.copy_in("COPY raw FROM STDIN (FORMAT binary)").expect("copying");
    for chunk in bytes.chunks(1 << 17) {
        writer.write_all(chunk).expect("written");
    }
    assert_eq!(writer.finish().expect("copied"), orders);
    begin.elapsed()
}
