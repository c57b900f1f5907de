//! F4: how fast orders drain into Postgres while the sale goes on, beside raw COPY of the
//! same rows. Postgres is away while the first orders are sold, so that the exporter has
//! something to catch up with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stampede_loadgen::throwaway::{ClusterOptions, PostgresCluster, StopMode};
use stampede_loadgen::workload::Workload;

use crate::load::{Cpus, Leg};
use crate::server::{Flags, ServerProcess};
use crate::table::{Goal, Table};
use crate::{PLENTY, Size};

/// Purchases per second that go on meanwhile.
const SALE_PER_S: f64 = 5_000.0;
/// How often the drain is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for the drain.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Adds the figure.
pub(crate) fn while_selling(size: &Size, cpus: Cpus, table: &mut Table) {
    println!("\n{:<8}{:>12}{:>12}", "F4", "drained/s", "raw COPY/s");
    let ratios = (0..size.pairs.min(3)).map(|round| {
        let (drained, copied) = one_round(size.orders, round, cpus);
        println!("{round:<8}{drained:>12.0}{copied:>12.0}");
        drained / copied
    });
    table.add("F4", "rows/s drained while selling ÷ raw COPY", Goal::AtLeast(0.3), ratios.collect());
}

/// Rows per second: drained while selling, and copied.
fn one_round(orders: u64, round: u64, cpus: Cpus) -> (f64, f64) {
    let settings = [("max_wal_size", "4GB"), ("shared_buffers", "512MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut cluster = PostgresCluster::new(ClusterOptions { fsync: true, settings }).expect("a cluster");
    cluster.stop(StopMode::Fast).expect("stopped");
    let url = cluster.url();
    let server = ServerProcess::start(&Flags { postgres: Some(url), ..Flags::default() }, cpus);
    Leg::count(server.addr, Workload::purchases(PLENTY, 10 + round), orders).run(cpus);
    let stop = Arc::new(AtomicBool::new(false));
    let drained = std::thread::scope(|scope| {
        let sale = Leg::closed(server.addr, Workload::purchases(PLENTY, 50 + round), 64, WAIT_MAX);
        let sale = sale.at_rate(SALE_PER_S, Arc::clone(&stop));
        scope.spawn(move || sale.run(cpus));
        cluster.start().expect("started");
        let drained = drain_per_s(&server);
        stop.store(true, Ordering::Relaxed);
        drained
    });
    let rows = copy_out(&cluster);
    drop(server);
    (drained, copy_per_s(&cluster, rows))
}

/// From the first rows in Postgres until it is as far as the log was when they came.
fn drain_per_s(server: &ServerProcess) -> f64 {
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

fn wait_until<T>(look: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    loop {
        let seen = look();
        if done(&seen) {
            return seen;
        }
        std::thread::park_timeout(LOOK);
    }
}

fn copy_file(cluster: &PostgresCluster) -> String {
    cluster.data_dir().join("rows.bin").display().to_string()
}

/// Writes the rows as the drain left them into a file of the cluster; returns how many.
fn copy_out(cluster: &PostgresCluster) -> u64 {
    let file = copy_file(cluster);
    let sql = format!("COPY (SELECT * FROM stock_order ORDER BY lsn) TO '{file}' (FORMAT binary)");
    cluster.psql("postgres", &sql).expect("copied out");
    let rows = cluster.psql("postgres", "SELECT count(*) FROM stock_order").expect("counted");
    rows.trim().parse().expect("a number")
}

/// One COPY of the rows into a table of the same shape with the same indexes, nothing else running.
fn copy_per_s(cluster: &PostgresCluster, rows: u64) -> f64 {
    let file = copy_file(cluster);
    cluster.psql("postgres", "CHECKPOINT").expect("checkpoint");
    cluster.psql("postgres", "CREATE TABLE raw (LIKE stock_order INCLUDING ALL)").expect("created");
    let begin = Instant::now();
    cluster.psql("postgres", &format!("COPY raw FROM '{file}' (FORMAT binary)")).expect("copied");
    rows as f64 / begin.elapsed().as_secs_f64()
}
