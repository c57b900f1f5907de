//! Row 13 and F4: how fast orders drain into Postgres beside a raw binary COPY of the same rows
//! into a table of the same shape. Postgres is away while the orders are sold, so that the exporter
//! has something to catch up with.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::load::Leg;
use crate::server::{Flags, ServerProcess};
use crate::table::Table;
use crate::{Bench, PLENTY, fresh_seed, ratios};

/// Purchases per second that go on meanwhile, in F4.
const SALE_PER_S: f64 = 5_000.0;
/// How often the drain is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for the drain.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Bytes that the raw COPY sends at a time.
const CHUNK_BYTES: usize = 1 << 17;

/// Row 13.
pub(crate) fn beside_copy(bench: &Bench, table: &mut Table) {
    let rounds = bench.rounds(["drained/s", "raw COPY/s"], || one_round(bench, false, drain_per_s));
    table.add("13", ratios(&rounds));
    table.add("13.rate", rounds.iter().map(|[drained, _]| *drained).collect());
    table.add("13.copy", rounds.iter().map(|[_, copied]| *copied).collect());
    let mut shares = String::new();
    one_round(bench, false, |server, url| {
        let (per_s, seen) = watched(server, url);
        shares = seen;
        per_s
    });
    table.note(format!(
        "Row 13, what the exporter's backend did while it was watched in one more drain: {shares}."
    ));
}

/// F4: the same while purchases go on.
pub(crate) fn while_selling(bench: &Bench, table: &mut Table) {
    let rounds = bench.rounds(["drained/s", "raw COPY/s"], || one_round(bench, true, drain_per_s));
    table.add("F4", ratios(&rounds));
}

/// Rows per second: drained, as `drain` says, and copied.
fn one_round(bench: &Bench, selling: bool, mut drain: impl FnMut(&ServerProcess, &str) -> f64) -> [f64; 2] {
    let settings = [("max_wal_size", "4GB"), ("shared_buffers", "512MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut cluster = PostgresCluster::new(ClusterOptions { fsync: true, settings }).expect("a cluster");
    cluster.stop(StopMode::Fast).expect("stopped");
    let flags = Flags { postgres: Some(cluster.url()), ..Flags::default() };
    let server = ServerProcess::start(bench, &flags);
    let workload = Workload::purchases(PLENTY, fresh_seed());
    Leg::count(server.addr, workload, Code::Won, bench.size.orders).run(bench.cpus);
    let stop = Arc::new(AtomicBool::new(!selling));
    let drained = std::thread::scope(|scope| {
        if selling {
            let sale = Workload::purchases(PLENTY, fresh_seed());
            let sale = Leg::closed(server.addr, sale, Code::Won, WAIT_MAX).at_rate(SALE_PER_S);
            let sale = sale.until(Arc::clone(&stop));
            scope.spawn(move || sale.run(bench.cpus));
        }
        cluster.start().expect("started");
        let drained = drain(&server, &cluster.url());
        stop.store(true, Ordering::Relaxed);
        drained
    });
    drop(server);
    [drained, copy_per_s(&cluster)]
}

/// From the first rows in Postgres until it is as far as the log was when they came.
fn drain_per_s(server: &ServerProcess, _url: &str) -> f64 {
    let begun = Instant::now();
    let exported = || {
        assert!(begun.elapsed() < WAIT_MAX, "the export does not get on");
        let page = server.merchant.item(PLENTY).expect("the item");
        (page.exported_lsn, page.durable_lsn, Instant::now())
    };
    let (first, goal, begin) = wait_until(exported, |&(exported, ..)| exported > 0);
    let (last, _, end) = wait_until(exported, |&(exported, ..)| exported >= goal);
    assert!(last > first, "all was there at the first look: more orders are needed");
    (last - first) as f64 / (end - begin).as_secs_f64()
}

/// The same, while Postgres is asked again and again what the exporter's backend is doing: the shares of
/// what it waited for, the largest first.
fn watched(server: &ServerProcess, url: &str) -> (f64, String) {
    const LOOK_AT_IT: &str = "SELECT coalesce(wait_event, 'running') FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let mut client = Client::connect(url, NoTls).expect("connected");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = BTreeMap::<String, u32>::new();
            while !over.load(Ordering::Relaxed) {
                for row in client.query(LOOK_AT_IT, &[]).expect("its sessions") {
                    *seen.entry(row.get(0)).or_default() += 1;
                }
                std::thread::park_timeout(LOOK / 2);
            }
            seen
        });
        let drained = drain_per_s(server, url);
        over.store(true, Ordering::Relaxed);
        (drained, shares(watching.join().expect("no panic")))
    })
}

fn shares(seen: BTreeMap<String, u32>) -> String {
    let all = f64::from(seen.values().sum::<u32>().max(1));
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let words = seen.iter().map(|(what, count)| format!("{what} {:.0} %", f64::from(*count) * 100.0 / all));
    words.collect::<Vec<_>>().join(", ")
}

fn wait_until<T>(look: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    loop {
        let seen = look();
        if done(&seen) {
            return seen;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// One COPY of the rows as the drain left them, out of a client's memory, into a table of the same
/// shape with the same indexes, nothing else running.
fn copy_per_s(cluster: &PostgresCluster) -> f64 {
    let mut client = Client::connect(&cluster.url(), NoTls).expect("connected");
    client.batch_execute("CHECKPOINT; CREATE TABLE raw (LIKE stock_order INCLUDING ALL)").expect("created");
    let mut bytes = Vec::new();
    let rows = "COPY (SELECT * FROM stock_order ORDER BY lsn) TO STDOUT (FORMAT binary)";
    client.copy_out(rows).expect("copied out").read_to_end(&mut bytes).expect("read");
    let begin = Instant::now();
    let mut writer = client.copy_in("COPY raw FROM STDIN (FORMAT binary)").expect("copying");
    for chunk in bytes.chunks(CHUNK_BYTES) {
        writer.write_all(chunk).expect("written");
    }
    let rows = writer.finish().expect("copied");
    rows as f64 / begin.elapsed().as_secs_f64()
}
