//! The classic designs against a real Postgres and a real Redis: what they promise holds, what
//! they are known for is seen, and the command leaves nothing behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use stampede_classic::cache::{self, Stock};
use stampede_classic::limiter::RedisLimiter;
use stampede_classic::shop::{Bought, Shop, ShopConfig};
use stampede_classic::totals::{OwnDatabase, Totals, make_capped_tables, make_tables};
use stampede_classic::{Design, ITEM};
use stampede_testkit::{ClusterOptions, PostgresCluster, RedisOptions, RedisServer};

const STOCK: u64 = 40;
const BUYERS: usize = 8;
/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One cluster for all tests of this process; its warden ends it with the process.
pub(crate) fn cluster_url() -> String {
    static CLUSTER: OnceLock<PostgresCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| PostgresCluster::new(ClusterOptions::default()).unwrap()).url()
}

/// A design with its own database and its own Redis. Fields are dropped in this order.
struct Bed {
    shop: Shop,
    database: OwnDatabase,
    redis: Option<RedisServer>,
}

impl Bed {
    fn new(design: Design, stock: u64) -> Self {
        let database = OwnDatabase::create(&cluster_url()).unwrap();
        let make = if design.has_cap() { make_capped_tables } else { make_tables };
        make(&database.url, stock).unwrap();
        let redis = design.needs_redis().then(|| RedisServer::new(&RedisOptions::default()).unwrap());
        let shop = Shop::open(&ShopConfig {
            design,
            postgres: database.url.clone(),
            redis: redis.as_ref().map(RedisServer::url),
            pool: BUYERS as u32,
            limit_per_s: 2_000,
        });
        let shop = shop.unwrap();
        shop.preheat(ITEM).unwrap();
        Self { shop, database, redis }
    }

    fn totals(&self) -> Totals {
        Totals::read(&self.database.url).unwrap()
    }

    fn redis(&self) -> redis::Connection {
        let url = self.redis.as_ref().expect("the design has one").url();
        redis::Client::open(url).unwrap().get_connection().unwrap()
    }

    fn version(&self) -> i64 {
        let mut client = Client::connect(&self.database.url, NoTls).unwrap();
        client.query_one("SELECT version FROM stock", &[]).unwrap().get(0)
    }

    /// Buyers in as many threads buy until each hears "sold out", or until so many orders are
    /// there; returns how many orders they were told of.
    fn rush(&self, orders_max: u64) -> u64 {
        let (told, begin, deadline) = (AtomicU64::new(0), Barrier::new(BUYERS), Instant::now() + WAIT_MAX);
        thread::scope(|scope| {
            for buyer in 0..BUYERS {
                let (told, begin) = (&told, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for visit in 0.. {
                        if told.load(Ordering::Relaxed) >= orders_max {
                            break;
                        }
                        assert!(Instant::now() < deadline, "the sale does not end");
                        match self.shop.buy(ITEM, &format!("b{buyer}-{visit}"), "").unwrap() {
                            Bought::Order { .. } => drop(told.fetch_add(1, Ordering::Relaxed)),
                            Bought::SoldOut => break,
                            Bought::Conflict | Bought::RateLimited => thread::yield_now(),
                            other => panic!("{other:?} of a new buyer"),
                        }
                    }
                });
            }
        });
        told.load(Ordering::Relaxed)
    }
}

/// A race has to happen once; it may be sought for a minute.
#[test]
fn naive_oversells() {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let bed = Bed::new(Design::Naive, STOCK);
        let (told, totals) = (bed.rush(u64::MAX), bed.totals());
        assert_eq!(told, totals.orders as u64, "an order that a buyer was told of is there");
        if totals.orders as u64 > STOCK {
            assert!(!totals.agree(STOCK), "{totals:?}");
            return;
        }
        assert!(Instant::now() < deadline, "{BUYERS} buyers at once never oversold");
    }
}

#[test]
fn the_other_designs_sell_exactly_what_there_is() {
    thread::scope(|scope| {
        for &design in Design::ALL.iter().filter(|design| !design.may_oversell()) {
            scope.spawn(move || {
                let bed = Bed::new(design, STOCK);
                let (told, totals) = (bed.rush(u64::MAX), bed.totals());
                assert!(totals.agree(STOCK), "{}: {totals:?}", design.name());
                assert_eq!((told, totals.orders), (STOCK, STOCK as i64), "{}", design.name());
                let figures = bed.shop.counters.figures();
                assert_eq!((figures.winners, figures.failures), (STOCK, 0), "{figures:?}");
                let statements_each = if design.has_cap() { 1 } else { 4 };
                assert!(figures.statements >= statements_each * STOCK, "{figures:?}");
                assert!(figures.sold_out >= 1, "{figures:?}");
                assert_eq!(design.is_cached(), figures.cache_hits > 0, "{figures:?}");
            });
        }
    });
}

#[test]
fn row_lock_knows_keys_and_the_cap() {
    let bed = Bed::new(Design::RowLock, 3);
    let buy = |buyer: &str, key: &str| bed.shop.buy(ITEM, buyer, key).unwrap();
    let Bought::Order { order_id, created_at_ms } = buy("a", "k") else { panic!("there is stock") };
    assert_eq!(buy("a", "k"), Bought::Again { order_id, created_at_ms });
    assert_eq!((buy("a", "other"), buy("a", "")), (Bought::CapReached, Bought::CapReached));
    assert_eq!(bed.shop.buy(9, "z", "").unwrap(), Bought::NotFound);
    // The same buyer and key in all threads at once: one order, and everybody is told of it.
    let begin = Barrier::new(BUYERS);
    let orders: Vec<Bought> = thread::scope(|scope| {
        let rush = |_| scope.spawn(|| (begin.wait(), buy("b", "k")).1);
        let threads: Vec<_> = (0..BUYERS).map(rush).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let number = |bought: &Bought| match *bought {
        Bought::Order { order_id, .. } | Bought::Again { order_id, .. } => order_id,
        ref other => panic!("{other:?}"),
    };
    assert!(orders.iter().all(|bought| number(bought) == number(&orders[0])), "{orders:?}");
    assert_eq!(
        orders.iter().filter(|bought| matches!(bought, Bought::Order { .. })).count(),
        1,
        "{orders:?}"
    );
    assert!(matches!(buy("c", ""), Bought::Order { .. }));
    assert_eq!((buy("d", ""), buy("a", "k")), (Bought::SoldOut, Bought::Again { order_id, created_at_ms }));
    assert!(bed.totals().agree(3), "{:?}", bed.totals());
}

#[test]
fn the_limiter_in_redis_lets_exactly_so_many_through() {
    const LIMIT: u64 = 20;
    let server = RedisServer::new(&RedisOptions::default()).unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let admitted = |window: &str| {
        let admitted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let (limiter, mut redis) = (RedisLimiter::new(LIMIT), client.get_connection().unwrap());
                    for _ in 0..LIMIT {
                        if limiter.admit(&mut redis, window).unwrap() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        admitted.into_inner()
    };
    assert_eq!(admitted("fixed"), LIMIT);
    assert_eq!(admitted("next"), LIMIT, "another window is empty");
    let mut redis = client.get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    for key in keys {
        let left_s: i64 = redis::cmd("TTL").arg(&key).query(&mut redis).unwrap();
        // -2: it has expired meanwhile.
        assert!(left_s == -2 || (0..=2).contains(&left_s), "{key} would stay for {left_s} s");
    }
}

/// Half sold, then rest: what the cache has is what the database has.
#[test]
fn changed_in_the_cache_means_right_at_rest() {
    let bed = Bed::new(Design::CachedUpdate, STOCK);
    bed.rush(STOCK / 2);
    let cached = cache::read(&mut bed.redis(), ITEM).unwrap();
    assert_eq!(cached, Some(Stock { count: bed.totals().count, version: bed.version() }));
    assert!(bed.totals().count > 0 && bed.totals().agree(STOCK), "{:?}", bed.totals());
    bed.rush(u64::MAX);
    assert_eq!(cache::read(&mut bed.redis(), ITEM).unwrap().map(|stock| stock.count), Some(0));
}

/// At rest after a sale the cache has nothing, or what the database has, or a late fill that
/// costs one buyer and is gone.
#[test]
fn deleted_from_the_cache_means_right_after_one_look_at_most() {
    let bed = Bed::new(Design::CachedDelete, STOCK);
    bed.rush(STOCK / 2);
    let at_rest = Stock { count: bed.totals().count, version: bed.version() };
    let late_fill = cache::read(&mut bed.redis(), ITEM).unwrap().is_some_and(|cached| cached != at_rest);
    if late_fill {
        assert_eq!(bed.shop.buy(ITEM, "x", "").unwrap(), Bought::Conflict);
    }
    assert!(matches!(bed.shop.buy(ITEM, "x", "").unwrap(), Bought::Order { .. }));
    assert_eq!(cache::read(&mut bed.redis(), ITEM).unwrap(), None, "a winner deletes");
}

/// The same old entry in both cached designs: one heals, the other sells no more. Both as
/// docs/CLASSICS.md says.
#[test]
fn a_stale_entry_costs_one_buyer_or_the_whole_sale() {
    for (design, conflicts) in [(Design::CachedDelete, 1), (Design::CachedUpdate, 5)] {
        let bed = Bed::new(design, STOCK);
        assert!(matches!(bed.shop.buy(ITEM, "first", "").unwrap(), Bought::Order { .. }));
        cache::fill(&mut bed.redis(), ITEM, Stock { count: STOCK as i64, version: 0 }).unwrap();
        let met = (0..5).filter(|_| bed.shop.buy(ITEM, "next", "").unwrap() == Bought::Conflict).count();
        let figures = bed.shop.counters.figures();
        assert_eq!((met, figures.cache_stale), (conflicts, conflicts as u64), "{}", design.name());
        assert!(bed.totals().agree(STOCK), "{}: {:?}", design.name(), bed.totals());
    }
}

#[test]
fn tables_of_somebody_else_are_left_alone() {
    let database = OwnDatabase::create(&cluster_url()).unwrap();
    let mut client = Client::connect(&database.url, NoTls).unwrap();
    client.batch_execute("CREATE TABLE stock_order (precious int)").unwrap();
    let error = make_tables(&database.url, 1).unwrap_err().to_string();
    assert!(error.contains("stock_order that was not made by this command"), "{error}");
    client.batch_execute("SELECT precious FROM stock_order; DROP TABLE stock_order").unwrap();
    make_tables(&database.url, 1).unwrap();
    make_tables(&database.url, 2).unwrap();
    assert_eq!(Totals::read(&database.url).unwrap().count, 2, "one's own are made anew");
}

/// The command as a user has it, its temporary directories under `dir`.
pub(crate) fn command(flags: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-classic"));
    command.args(flags.split_whitespace()).env("TMPDIR", dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

pub(crate) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn the_command_prints_a_row_per_design_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = dir.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let json = dir.path().join("rows.json");
    let flags = format!(
        "--designs naive,optimistic,limited,cached-update --stock 20 --requests 60 -c 8 --pool 8 --limit 1k \
         --no-engine --seed 3 --json {}",
        json.display()
    );
    let output = command(&flags, &temporary).output().unwrap();
    let (text, told) = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{told}");
    for name in ["naive", "optimistic", "limited", "cached-update"] {
        assert_eq!(
            text.lines().filter(|line| line.split(' ').next() == Some(name)).count(),
            2,
            "{name}: {text}"
        );
    }
    for expected in ["durable alike: Postgres with fsync", "winners/s", "CPU/1000 won", "cache stale"] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    assert!(!text.contains("stampede ") && !text.contains("NOT RUN"), "{text}");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let orders = row["orders"].as_u64().unwrap();
        assert!(orders >= 20 && row["acked"] == orders && row["ended"] == true, "{row}");
        assert!(row["name"] == "naive" || (orders == 20 && row["oversold"] == 0), "{row}");
        assert!(row["statements_per_winner"].as_f64().unwrap() >= 4.0, "{row}");
        assert!(row["cpu_s_per_1000_winners"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["sale"]["p50_ns"].as_u64().unwrap() > 0 && row["wrong"].is_null(), "{row}");
    }
    assert!(is_empty(&temporary), "something was left in {}", temporary.display());
}

#[test]
fn servers_given_by_url_are_used_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let redis = RedisServer::new(&RedisOptions::default()).unwrap();
    let (postgres, cache) = (cluster.url(), redis.url());
    let flags = format!(
        "--designs cached-delete,cached-update --stock 10 --requests 30 -c 4 --pool 4 --no-engine \
         --postgres {postgres} --redis {cache}"
    );
    let output = command(&flags, dir.path()).output().unwrap();
    let (text, told) = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{told}");
    assert!(!told.contains("throw-away") && text.contains("CPU does not hold the servers"), "{text}{told}");
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'stampede%'";
    assert_eq!(cluster.psql("postgres", databases).unwrap(), "0");
    let mut redis = redis::Client::open(cache).unwrap().get_connection().unwrap();
    assert_eq!(redis::cmd("DBSIZE").query::<u32>(&mut redis).unwrap(), 0);
}

/// Starts a comparison that would take long, and waits for its first row.
fn start_long(temporary: &Path) -> (Child, BufReader<std::process::ChildStderr>) {
    let flags = "--designs pessimistic --pairs 100 --stock 10 --requests 20 -c 4 --pool 4 --no-engine";
    let mut child = command(flags, temporary).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("pessimistic:") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it ended before its first row");
    }
    (child, told)
}

#[test]
fn ctrl_c_prints_the_rows_so_far_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (child, _told) = start_long(dir.path());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (text, _) = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("\npessimistic ") && text.contains("interrupted: the rows above"), "{text}");
    assert!(is_empty(dir.path()));
}

/// The app tier of this process, once it serves: before that it would end by itself when its
/// Postgres goes.
fn app_tier_of(parent: u32) -> u32 {
    // Its own three threads and those of four connections, of which one may be late.
    const THREADS_MIN: u32 = 6;
    let found = std::cell::Cell::new(0);
    wait_until("an app tier that serves", || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let own = pids.find(|pid| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let status = read("status");
            let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
            read("cmdline").contains("--until-eof")
                && status.contains(&format!("PPid:\t{parent}\n"))
                && threads.is_some_and(|threads: u32| threads >= THREADS_MIN)
        });
        found.set(own.unwrap_or(0));
        own.is_some()
    });
    found.get()
}

#[test]
fn a_killed_comparison_leaves_nothing_either() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--designs pessimistic --stock 1m --requests 2m -c 4 --pool 4 --no-engine";
    let mut child = command(flags, dir.path()).spawn().unwrap();
    let app_tier = app_tier_of(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the wardens clean up", || is_empty(dir.path()));
    let cmdline = format!("/proc/{app_tier}/cmdline");
    wait_until("the app tier ends", || {
        !std::fs::read_to_string(&cmdline).is_ok_and(|cmdline| cmdline.contains("--until-eof"))
    });
}

/// A served design; dropping it stops it as Ctrl-C does.
struct Served {
    child: Child,
    addr: String,
}

impl Served {
    fn start(flags: &str) -> Self {
        let mut command = command(&format!("serve {flags} --listen 127.0.0.1:0"), &std::env::temp_dir());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, addr }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_served_design_speaks_the_contract() {
    let database = OwnDatabase::create(&cluster_url()).unwrap();
    let served = Served::start(&format!("pessimistic --pool 2 --stock 1 --postgres {}", database.url));
    let mut stream = TcpStream::connect(&served.addr).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let post = |buyer: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /v1/items/1/orders HTTP/1.1\r\nHost: h\r\n{buyer}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let one = r#"{"quantity":1}"#;
    // All on one connection, two of them in one packet; the last one asks for its end.
    let requests = [
        post("X-Buyer: a\r\n", r#"{"quantity":2}"#),
        post("X-Buyer: a\r\n", r#"{"quantity":1,"x":1}"#),
        post("", one),
        post("X-Buyer: a\r\n", one) + &post("X-Buyer: b\r\nIdempotency-Key: k\r\n", one),
        "GET /v1/items/1 HTTP/1.1\r\n\r\n".to_owned(),
        "PUT /stats HTTP/1.1\r\n\r\n".to_owned(),
        "GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    requests.iter().for_each(|request| stream.write_all(request.as_bytes()).unwrap());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["400", "400", "401", "201", "409", "404", "405", "200"], "{text}");
    for expected in [
        "\"code\":\"bad_quantity\"",
        "\"code\":\"bad_json\"",
        "\"code\":\"unauthenticated\"",
        "\"order_id\":\"1\",\"item_id\":1,\"quantity\":1,\"state\":\"confirmed\",\"created_at_ms\":",
        "\"code\":\"sold_out\"",
        "\"requests\":2,\"winners\":1,\"sold_out\":1",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    drop(served);
    assert!(Totals::read(&database.url).unwrap().agree(1));
}

#[test]
fn flags_that_make_no_sense_get_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (flags, code, expected) in [
        ("--designs nonsense", 2, "`nonsense` is not a design; there are naive, pessimistic"),
        ("--stock 10 --requests 10", 2, "--requests must be above --stock"),
        ("--engine /nowhere/stampede", 2, "/nowhere/stampede: there is no such file"),
        ("--limit 0", 2, "admit nobody"),
        ("--pool 1000", 2, "1000 is not in 1..=90"),
        ("serve nonsense", 2, "`nonsense` is not a design"),
        (
            "--postgres postgres://u@127.0.0.1:1/x --no-engine --designs naive",
            1,
            "Postgres: error connecting to server: Connection refused",
        ),
        ("--redis redis://127.0.0.1:1 --no-engine --designs limited", 1, "Redis: Connection refused"),
    ] {
        let output = command(flags, dir.path()).output().unwrap();
        let (text, told) = words(&output);
        assert_eq!(output.status.code(), Some(code), "`{flags}` said {text}{told}");
        assert!(text.contains(expected) || told.contains(expected), "`{flags}` said {text}{told}");
        let lines = (text.clone() + &told).lines().filter(|line| !line.starts_with("starting ")).count();
        assert_eq!(lines, 1, "`{flags}` said {text}{told}");
    }
}
