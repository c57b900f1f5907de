//! Redis with a Lua script and a worker, against real servers: it sells what there is, each buyer once;
//! a worker that is killed loses no order; what Redis has synced survives Redis.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, NoTls};
use stampede_classic::ITEM;
use stampede_classic::redis_lua::front::Front;
use stampede_classic::redis_lua::nginx::Nginx;
use stampede_classic::redis_lua::{Keys, at_hand, preheat, redis_options};
use stampede_classic::rival::start_worker;
use stampede_classic::totals::{OwnDatabase, Totals, make_tables};
use stampede_loadgen::engine::{Outcome, RunConfig, run};
use stampede_loadgen::meaning::{Class, Code, Meaning, meaning_of};
use stampede_loadgen::workload::Workload;
use stampede_testkit::{AppendLog, Missing, Need, RedisServer, redis_connect, skip};

use crate::classic::{cluster_url, command, is_empty, wait_until, words};

const STOCK: u64 = 300;

/// A Redis with stock, its front in a thread of this process, and a database. Fields are dropped in this order.
struct Bed {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    front: Option<JoinHandle<()>>,
    redis: RedisServer,
    database: OwnDatabase,
}

impl Bed {
    fn new(log: AppendLog, stock: u64) -> Self {
        let database = OwnDatabase::create(&cluster_url()).unwrap();
        make_tables(&database.url, stock).unwrap();
        let redis = RedisServer::new(&redis_options(log, &[])).unwrap();
        preheat(&mut redis_connect(&redis.url()).unwrap(), ITEM, stock).unwrap();
        let front = Front::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &redis.socket_url()).unwrap();
        let (addr, stop) = (front.addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&stop);
        let front = Some(thread::spawn(move || front.serve(&seen).unwrap()));
        Self { addr, stop, front, redis, database }
    }

    fn worker(&self) -> stampede_classic::process::Helper {
        start_worker(Path::new(program()), &self.redis.socket_url(), &self.database.url).unwrap()
    }

    fn totals(&self) -> Totals {
        Totals::read(&self.database.url).unwrap()
    }

    /// Units left and orders that are not in Postgres yet.
    fn at_hand(&self) -> (i64, u64) {
        at_hand(&mut redis_connect(&self.redis.url()).unwrap(), ITEM).unwrap()
    }

    fn wait_written(&self) {
        wait_until("the worker to write all", || self.at_hand().1 == 0);
    }

    /// The numbers of the orders in the database.
    fn orders(&self) -> HashSet<u64> {
        let mut client = Client::connect(&self.database.url, NoTls).unwrap();
        let rows = client.query("SELECT id FROM stock_order", &[]).unwrap();
        rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.front.take().map(JoinHandle::join);
    }
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_stampede-classic")
}

fn load(addr: SocketAddr, purchases: u64, workload: Workload) -> Outcome {
    run(&RunConfig::closed(addr, workload, purchases)).unwrap()
}

/// The orders that buyers were told of.
fn acked(outcome: &Outcome) -> HashSet<u64> {
    let entries = outcome.history.as_ref().unwrap().entries();
    entries.iter().filter(|e| e.code.class() == Class::Winner).map(|entry| entry.order_id).collect()
}

/// One purchase: the status, what it means, and the whole response.
fn post(addr: SocketAddr, item: u32, buyer: &str, key: &str, body: &str) -> (u16, Meaning, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let key = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    let length = body.len();
    let request = format!(
        "POST /v1/items/{item}/orders HTTP/1.1\r\nHost: h\r\nX-Buyer: {buyer}\r\n{key}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let replay = text.contains("\r\nIdempotent-Replay: true\r\n");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, meaning_of(status, replay, body.as_bytes()), text)
}

const ONE: &str = "{\"quantity\":1}";

/// What both fronts have to answer.
fn speaks_the_contract(addr: SocketAddr) {
    let buy = |buyer: &str, key: &str| post(addr, ITEM, buyer, key, ONE).1;
    let first = buy("a", "k");
    assert_eq!((first.code, first.acked.quantity), (Code::Won, 1));
    let again = buy("a", "k");
    assert_eq!((again.code, again.acked), (Code::Replayed, first.acked), "a retry is told the same");
    assert_eq!((buy("a", "other").code, buy("a", "").code), (Code::CapReached, Code::CapReached));
    let second = buy("b", "k");
    assert_eq!(second.code, Code::Won, "another buyer's key is another key");
    assert!(second.acked.order_id > first.acked.order_id);
    assert_eq!((buy("c", "k").code, buy("a", "k").code), (Code::SoldOut, Code::Replayed));
    for (item, buyer, body, status) in [
        (9, "a", ONE, 404),
        (ITEM, "a", "{\"quantity\":2}", 400),
        (ITEM, "a", "{", 400),
        (ITEM, "a b", ONE, 401),
    ] {
        let (found, _, text) = post(addr, item, buyer, "", body);
        assert_eq!(found, status, "{text}");
    }
}

#[test]
fn redis_lua_sells_what_there_is_and_its_worker_writes_it() {
    let bed = Bed::new(AppendLog::EverySecond, STOCK);
    let _worker = bed.worker();
    let workload = Workload { repeat: 0.2, double_click: 0.1, ..Workload::purchases(ITEM, 7) };
    let outcome = load(bed.addr, 2 * STOCK, workload);
    bed.wait_written();
    assert!(bed.totals().agree(STOCK), "{:?}", bed.totals());
    assert_eq!((bed.totals().orders, bed.at_hand()), (STOCK as i64, (0, 0)));
    assert_eq!(acked(&outcome), bed.orders(), "what buyers were told of is what is there");
    assert!(outcome.tally.count(Code::SoldOut) > 0 && outcome.tally.count(Code::Replayed) > 0);
}

#[test]
fn redis_lua_answers_as_the_contract_says() {
    speaks_the_contract(Bed::new(AppendLog::EverySecond, 2).addr);
}

#[test]
fn nginx_lua_answers_as_the_contract_says_and_sells() {
    let bed = Bed::new(AppendLog::EverySecond, 2);
    let nginx = Nginx::start(&bed.redis, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let nginx = nginx.expect("make deps installs nginx with Lua");
    speaks_the_contract(nginx.addr);
    preheat(&mut redis_connect(&bed.redis.url()).unwrap(), ITEM, STOCK).unwrap();
    let workload = Workload { repeat: 0.2, ..Workload::purchases(ITEM, 8) };
    let outcome = load(nginx.addr, 2 * STOCK, workload);
    let _worker = bed.worker();
    bed.wait_written();
    assert_eq!(acked(&outcome), bed.orders());
    assert_eq!((bed.orders().len() as u64, bed.at_hand().0), (STOCK, 0));
}

/// Deterministic: the worker hangs in its transaction, with orders that it has taken and not written.
#[test]
fn a_worker_killed_in_the_middle_loses_no_order() {
    let bed = Bed::new(AppendLog::Always, STOCK);
    let mut worker = bed.worker();
    // The number of orders that a worker has taken; none before its group is there.
    let pending = || {
        let mut redis = redis_connect(&bed.redis.url()).unwrap();
        let key = Keys::of(ITEM).orders;
        let answer: redis::RedisResult<Vec<redis::Value>> =
            redis::cmd("XPENDING").arg(key).arg("postgres").query(&mut redis);
        answer.ok().and_then(|answer| answer.into_iter().next())
    };
    wait_until("the worker to be ready", || pending().is_some());
    let mut lock = Client::connect(&bed.database.url, NoTls).unwrap();
    let mut locked = lock.transaction().unwrap();
    locked.batch_execute("LOCK TABLE stock_order IN ACCESS EXCLUSIVE MODE").unwrap();
    let outcome = load(bed.addr, STOCK, Workload::purchases(ITEM, 9));
    wait_until("the worker to take orders", || pending() != Some(redis::Value::Int(0)));
    worker.kill();
    locked.rollback().unwrap();
    drop(lock);
    assert_eq!(bed.at_hand(), (0, STOCK), "they are all still there");
    let _next = bed.worker();
    bed.wait_written();
    assert_eq!((bed.orders(), bed.totals().agree(STOCK)), (acked(&outcome), true), "{:?}", bed.totals());
}

/// What was written and not acked in the stream is met again by the next worker.
#[test]
fn an_order_that_comes_twice_is_written_once() {
    let bed = Bed::new(AppendLog::Off, STOCK);
    load(bed.addr, 20, Workload::purchases(ITEM, 10));
    let mut redis = redis_connect(&bed.redis.url()).unwrap();
    let key = Keys::of(ITEM).orders;
    let copy: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut redis).unwrap();
    let mut worker = bed.worker();
    bed.wait_written();
    worker.kill();
    redis::cmd("RESTORE").arg(&key).arg(0).arg(copy).arg("REPLACE").exec(&mut redis).unwrap();
    assert_eq!(bed.at_hand().1, 20, "the same again");
    let _next = bed.worker();
    bed.wait_written();
    assert_eq!((bed.orders().len(), bed.totals().count), (20, STOCK as i64 - 20), "{:?}", bed.totals());
}

#[test]
fn redis_always_killed_loses_no_acked_order() {
    let mut bed = Bed::new(AppendLog::Always, 4 * STOCK);
    let _worker = bed.worker();
    let addr = bed.addr;
    let running = thread::spawn(move || load(addr, 8 * STOCK, Workload::purchases(ITEM, 11)));
    wait_until("the sale to get going", || bed.at_hand().0 < 3 * STOCK as i64);
    bed.redis.kill();
    bed.redis.start().unwrap();
    let outcome = running.join().unwrap();
    bed.wait_written();
    assert!(outcome.gave_up.is_none(), "{:?}", outcome.gave_up);
    let (told, there) = (acked(&outcome), bed.orders());
    assert_eq!(told.difference(&there).count(), 0, "an acked order is lost");
    assert!(there.len() as u64 <= 4 * STOCK && bed.totals().agree(4 * STOCK), "{:?}", bed.totals());
    assert_eq!(bed.at_hand().0, 0, "it went on selling until nothing was left");
}

#[test]
fn the_kill_command_counts_what_is_lost_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = dir.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let json = dir.path().join("kill.json");
    let flags = format!(
        "kill --stores row-lock,redis-lua-always --fault both --stock 100 --rate 200 -c 8 --seed 4 --json {}",
        json.display()
    );
    let output = command(&flags, &temporary).output().unwrap();
    let (text, told) = words(&output);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for trouble in record["troubles"].as_array().unwrap() {
        assert!(trouble.as_str().unwrap().contains("power cut"), "{text}{told}");
        skip(&Missing::new(Need::FileSystems, trouble));
    }
    let rows = record["rows"].as_array().unwrap();
    assert!(rows.iter().filter(|row| row["fault"] == "kill").count() == 2, "{text}{told}");
    for row in rows {
        // Both answer after the disk has it: neither may lose anything, whatever is cut.
        for wrong in ["lost", "oversold", "undersold", "over_cap", "changed", "unknown"] {
            assert_eq!(row[wrong], 0, "{wrong}: {row}\n{text}{told}");
        }
        assert!(row["acked"] == 100 && row["orders"] == 100 && row["left"] == 0, "{row}\n{text}{told}");
        assert!(row["sold_before"].as_u64().is_some_and(|sold| (1..100).contains(&sold)), "{row}");
        assert!(text.contains(row["name"].as_str().unwrap()), "{text}");
    }
    assert!(record["versions"]["postgres"].is_string() && record["machine"]["cores"].is_u64(), "{record}");
    assert!(is_empty(&temporary), "something was left in {}", temporary.display());
}

#[test]
fn a_comparison_has_a_row_per_rival() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        command("--designs rivals --stock 50 --requests 150 -c 8 --pool 4 --no-engine", dir.path()).output();
    let (text, told) = words(&output.unwrap());
    for name in ["row-lock", "redis-lua", "redis-lua-always", "nginx-lua"] {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}{told}"));
        assert!(!line.contains("WRONG"), "{line}");
    }
    assert!(!text.contains("NOT RUN") && !text.contains("WRONG"), "{text}{told}");
    let lax = "NOT durable when they answer, as Redis's log is synced once a second: redis-lua, nginx-lua\n";
    assert!(text.contains(lax), "what is not alike is said: {text}");
    assert!(is_empty(dir.path()));
}
