//! The prices that docs/CAPACITY.md multiplies: what one append, one block, one synced write
//! and one hop between two cores cost, each alone.
//!
//! `cargo bench -p stampede-persist --bench primitives -- [DIR]`; DIR is where the synced writes
//! go, a temporary directory by default. Small mode; `--full` takes longer and is what a
//! recorded figure needs. Each line but the writes is the best of several rounds: the least
//! disturbed one. Writes show their median and range.

use std::hint::{black_box, spin_loop};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use sha2::{Digest as _, Sha256};
use stampede_core::fact::Fact;
use stampede_core::limits::{CORES_MAX, JOURNAL_SLOTS, OWNER_BATCH_MAX};
use stampede_core::money::Price;
use stampede_core::sample::{Order, item_id};
use stampede_core::shard::Accepted;
use stampede_core::types::{Lsn, OrderId, UnixMillis};
use stampede_persist::codec;
use stampede_persist::disk::buffer::AlignedBuffer;
use stampede_persist::disk::real::RealDisk;
use stampede_persist::disk::{Disk as _, OpenMode};
use stampede_persist::log::block::{BlockBuilder, BlockHeader};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::record::Record;
use stampede_records::Recorder;

/// About the size of a question between cores, and of a reply, in words.
type Question = [u64; 24];
type Reply = [u64; 12];

fn placed(n: u64) -> Fact<'static> {
    let order = Order {
        at_ms: UnixMillis(1_700_000_000_000 + n),
        subject: b"buyer-0123456789",
        key: b"key-0123456789abcdef",
        price: Price { minor: 499_900, currency: *b"CNY" },
        ..Order::new(OrderId::new(item_id(1), n as u32 + 1))
    };
    order.placed()
}

/// Best of the rounds, in nanoseconds per operation.
fn best(rounds: u32, mut run: impl FnMut() -> (Duration, u64)) -> f64 {
    let rounds = (0..rounds).map(|_| {
        let (took, operations) = run();
        took.as_nanos() as f64 / operations as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// Waits for the other side, and lets it run where it has no processor of its own just now.
fn wait_until(mut is_there: impl FnMut() -> bool) {
    for spins in 1_u64.. {
        if is_there() {
            return;
        }
        if spins % 4_096 == 0 { std::thread::yield_now() } else { spin_loop() }
    }
}

/// What one owner pays to hand a fact to the journal, encoding included.
fn append(rounds: u32) -> f64 {
    let reserve = CORES_MAX * OWNER_BATCH_MAX;
    best(rounds, || {
        let queue = Arc::new(FactQueue::new(JOURNAL_SLOTS, reserve, Lsn(1)));
        let mut begun = Instant::now();
        let mut counted = 0;
        for n in 0.. {
            if !queue.has_room() {
                break;
            }
            // The first lap touches the memory for the first time.
            if n == 4_096 {
                (begun, counted) = (Instant::now(), 0);
            }
            black_box(queue.append(Accepted::forged(&placed(n))));
            counted += 1;
        }
        (begun.elapsed(), counted)
    })
}

/// What the journal's thread pays to put a fact into a block of a group, checks and chain included:
/// (nanoseconds per fact, bytes per fact in the log).
fn block(rounds: u32, facts: u64) -> (f64, f64) {
    let mut buffer = AlignedBuffer::new(1 << 20);
    let mut payload = [0_u8; 480];
    let len = codec::encode(&placed(0), &mut payload);
    let kind = codec::fact_kind(&placed(0));
    let header = BlockHeader {
        log_id: LogId([1; 16]),
        epoch: 1,
        segment: 1,
        first_lsn: Lsn(1),
        durable_lsn: Lsn(0),
        records: 0,
        records_len: 0,
        prev_hash: [0; 32],
    };
    let mut bytes = 0;
    let ns = best(rounds, || {
        let begun = Instant::now();
        let mut block = BlockBuilder::new(buffer.as_mut_slice());
        for lsn in 1..=facts {
            assert!(block.push(&Record { lsn: Lsn(lsn), kind, payload: &payload[..len] }), "it fits");
        }
        let (len, hash) = block.finish(BlockHeader { ..header });
        black_box(hash);
        bytes = len;
        (begun.elapsed(), facts)
    });
    (ns, bytes as f64 / facts as f64)
}

/// Gigabytes per second.
fn checks(rounds: u32) -> (f64, f64) {
    let bytes = vec![7_u8; 1 << 20];
    let crc = best(rounds, || {
        let begun = Instant::now();
        black_box(crc32c::crc32c(black_box(&bytes)));
        (begun.elapsed(), bytes.len() as u64)
    });
    let sha = best(rounds, || {
        let begun = Instant::now();
        black_box(Sha256::digest(black_box(&bytes)));
        (begun.elapsed(), bytes.len() as u64)
    });
    (1.0 / crc, 1.0 / sha)
}

/// Microseconds of each synced write into a zero-filled file, as the journal writes.
fn synced_writes(dir: &Path, bytes: usize, writes: usize) -> Vec<f64> {
    const FILE_BYTES: u64 = 64 << 20;
    let disk = RealDisk;
    let path = dir.join("synced");
    let mut file = disk.open(&path, OpenMode::CreateNew).expect("a new file");
    file.zero_fill(FILE_BYTES).expect("room");
    file.sync().expect("synced");
    let buffer = AlignedBuffer::new(bytes);
    let places = FILE_BYTES / bytes as u64;
    let took = (0..writes as u64)
        .map(|n| {
            let begun = Instant::now();
            file.write_durable(n % places * bytes as u64, buffer.as_slice()).expect("written");
            begun.elapsed().as_nanos() as f64 / 1_000.0
        })
        .collect();
    disk.remove(&path).expect("removed");
    took
}

/// Nanoseconds for one question and its reply over two rings, both cores awake, in batches.
fn hop(rounds: u32, batch: u64, batches: u64) -> f64 {
    let asks = Arc::new(ArrayQueue::<Question>::new(256));
    let replies = Arc::new(ArrayQueue::<Reply>::new(256));
    best(rounds, || {
        let (owner_asks, owner_replies) = (Arc::clone(&asks), Arc::clone(&replies));
        let all = batch * batches;
        let owner = std::thread::spawn(move || {
            // It is there: time begins.
            owner_replies.push([0; 12]).expect("empty");
            let mut answered = 0;
            while answered < all {
                wait_until(|| !owner_asks.is_empty());
                while let Some(question) = owner_asks.pop() {
                    owner_replies.push([question[0]; 12]).expect("never more than a batch is open");
                    answered += 1;
                }
            }
        });
        wait_until(|| replies.pop().is_some());
        let begun = Instant::now();
        for _ in 0..batches {
            (0..batch).for_each(|n| asks.push([n; 24]).expect("never more than a batch is open"));
            for _ in 0..batch {
                wait_until(|| replies.pop().map(black_box).is_some());
            }
        }
        let took = begun.elapsed();
        owner.join().expect("the other side");
        (took, all)
    })
}

/// Nanoseconds for one cache line to go to the other core and come back.
fn line_round_trip(rounds: u32, trips: u64) -> f64 {
    let line = Arc::new(AtomicU64::new(0));
    best(rounds, || {
        line.store(0, Ordering::Release);
        let other = Arc::clone(&line);
        let answering = std::thread::spawn(move || {
            for n in 0..trips {
                wait_until(|| other.load(Ordering::Acquire) == 2 * n + 1);
                other.store(2 * n + 2, Ordering::Release);
            }
        });
        let begun = Instant::now();
        for n in 0..trips {
            line.store(2 * n + 1, Ordering::Release);
            wait_until(|| line.load(Ordering::Acquire) == 2 * n + 2);
        }
        let took = begun.elapsed();
        answering.join().expect("the other side");
        (took, trips)
    })
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let dir = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.map_or_else(|| temp.path().to_owned(), PathBuf::from);
    let (rounds, writes) = if full { (40, 300) } else { (8, 50) };
    let setting =
        format!("best of {rounds} rounds and more; median of {writes} writes, a fifth of large ones");
    let mut recorder = Recorder::new("primitives", env!("CARGO_MANIFEST_DIR")).with_setting(setting);
    let ns = append(rounds);
    println!("append, encoded                  {ns:8.1} ns/fact");
    recorder.add("append", vec![ns]);
    for facts in [1, 16, 256, 4_096] {
        let (ns, bytes) = block(rounds * 4, facts);
        println!("block of {facts:>5} facts             {ns:8.1} ns/fact, {bytes:.0} bytes/fact");
        if facts != 256 {
            recorder.add(&format!("block.{facts}"), vec![ns]);
        }
        if facts == 4_096 {
            recorder.add("bytes", vec![bytes]);
        }
    }
    let (crc, sha) = checks(rounds);
    println!("CRC-32C                          {crc:8.2} GB/s");
    println!("SHA-256                          {sha:8.2} GB/s");
    recorder.add("crc", vec![crc]);
    recorder.add("sha", vec![sha]);
    for kib in [4, 16, 64, 256, 1_024, 4_096] {
        let writes = if kib > 256 { writes / 5 } else { writes };
        let mut took = synced_writes(&dir, kib << 10, writes);
        took.sort_by(f64::total_cmp);
        let [least, most] = [took[0], took[writes - 1]];
        println!("synced write of {kib:>5} KiB        {:8.0} us ({least:.0}-{most:.0})", took[writes / 2]);
        // The slowest of many writes is the disk's bad moment; the sums of CAPACITY.md take the median.
        recorder.add(&format!("sync.{kib}"), vec![took[writes / 2]]);
    }
    // Short rounds, many of them: on a machine that does other things, too, some are left alone.
    let rounds = rounds * 5;
    let ns = line_round_trip(rounds, 500);
    println!("cache line there and back        {ns:8.1} ns");
    recorder.add("line", vec![ns]);
    for (batch, key) in [(1, "hop.1"), (16, ""), (64, "hop"), (128, "")] {
        let ns = hop(rounds, batch, if batch == 1 { 256 } else { 4_096 / batch });
        println!("ask and reply, batches of {batch:>4}   {ns:8.1} ns");
        if !key.is_empty() {
            recorder.add(key, vec![ns]);
        }
    }
    if let Some(path) = recorder.finish().expect("the record is written") {
        println!("recorded in {}", path.display());
    }
}
