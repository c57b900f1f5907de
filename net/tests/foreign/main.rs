//! Foreign rows by generator, against a real Postgres: preheat, export, reconcile.
//!
//! Whatever stands in the tables, the engine starts, sells what it took over, exports, and the
//! directory opens again, with the database and without. `PROPTEST_CASES` says how many cases,
//! `STAMPEDE_SEED` repeats a run. Next: [`rows`] for what is generated, [`life`] for the engine.

mod life;
mod rows;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use postgres::{Client, NoTls};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use stampede_core::types::{ItemId, Lsn};
use stampede_persist::export::look::{AsideLook, Looker, OrderLook, PaymentLook, StockLook, look};
use stampede_persist::export::{ConnectOptions, Database, migrate};
use stampede_persist::log::control::read_control;
use stampede_persist::log::mirror::{Advance, Mirror};
use stampede_persist::log::verify::verify;
use stampede_testkit::{ClusterOptions, PostgresCluster};

use crate::life::{Judged, Life};
use crate::rows::Shop;

/// Cases where the environment does not say how many.
const CASES: u32 = 120;

/// A database with the tables as they are made, and one whose tables have lost their constraints.
struct Databases {
    cluster: PostgresCluster,
    strict: Client,
    loose: Client,
}

const LOOSEN: &str = "
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT conrelid::regclass AS tab, conname FROM pg_constraint
        WHERE contype IN ('c', 'n') AND conrelid IN ('stock'::regclass, 'stock_order'::regclass, 'stock_payment'::regclass) LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.tab, c.conname);
    END LOOP;
    FOR c IN SELECT attrelid::regclass AS tab, attname FROM pg_attribute
        WHERE attnum > 0 AND attnotnull AND attname NOT IN ('id', 'order_id', 'lsn')
            AND attrelid IN ('stock'::regclass, 'stock_order'::regclass, 'stock_payment'::regclass) LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', c.tab, c.attname);
    END LOOP;
END $$";

const EMPTY: &str = "DELETE FROM stock; DELETE FROM stock_order; DELETE FROM stock_payment; DELETE FROM stampede_blocked; \
     DELETE FROM stampede_item; DELETE FROM stampede_cursor; DELETE FROM stampede_set_aside";

impl Databases {
    fn new() -> Self {
        let cluster = PostgresCluster::new(ClusterOptions::default()).expect("a throw-away cluster");
        let mut all = Client::connect(&cluster.url(), NoTls).expect("connected");
        let mut make = |name: &str| {
            all.batch_execute(&format!("CREATE DATABASE {name}")).expect("created");
            let url = cluster.url_of(name);
            let mut database = Database::connect(&ConnectOptions::new(&*url)).expect("connected");
            migrate(&mut database).expect("migrated");
            Client::connect(&url, NoTls).expect("connected")
        };
        let (strict, mut loose) = (make("strict"), make("loose"));
        loose.batch_execute(LOOSEN).expect("loosened");
        Self { cluster, strict, loose }
    }

    fn of(&mut self, shop: &Shop) -> (&mut Client, String) {
        let (client, name) =
            if shop.loose { (&mut self.loose, "loose") } else { (&mut self.strict, "strict") };
        (client, self.cluster.url_of(name))
    }
}

/// Does it, unless the tables' own constraints refuse it.
fn sql(client: &mut Client, text: &str) {
    if let Err(error) = client.batch_execute(text) {
        assert!(error.as_db_error().is_some(), "{text}: {error}");
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Judged<()> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Every row of `stock` is on sale, or an alarm names it.
fn all_is_told(client: &mut Client, life: &Life, told: &BTreeSet<String>) -> Judged<usize> {
    let known: BTreeSet<i64> = life.items().iter().map(|item| i64::from(item.get())).collect();
    let rows = client.query("SELECT id FROM stock", &[]).map_err(|error| error.to_string())?;
    for id in rows.iter().map(|row| row.get::<_, i64>(0)) {
        let named = told.contains(&format!("stock row {id}"));
        ensure(known.contains(&id) != named, || {
            format!("stock row {id}: on sale {}, named {named}", known.contains(&id))
        })?;
    }
    Ok(known.len())
}

/// One case: what it came to, as figures for the end.
fn judge(databases: &mut Databases, shop: &Shop) -> Judged<(usize, u64, u64)> {
    // What is tested is no disk: a directory in memory, where there is one.
    let home = Some(Path::new("/dev/shm")).filter(|memory| memory.is_dir());
    let home = home.map_or_else(tempfile::tempdir, tempfile::tempdir_in);
    let dir = home.map_err(|error| error.to_string())?;
    let dir = dir.path();
    let (client, url) = databases.of(shop);
    client.batch_execute(EMPTY).map_err(|error| error.to_string())?;
    shop.rows.iter().for_each(|row| sql(client, &row.insert()));

    let (mut life, report) = Life::with(dir, &url)?;
    let told: BTreeSet<String> = report.left.iter().map(|left| left.row.clone()).collect();
    let items = all_is_told(client, &life, &told)?;
    ensure(items as u64 == report.items, || format!("{items} items, {report:?}"))?;
    life.sell("early")?;
    life.export()?;
    shop.edits.iter().for_each(|edit| sql(client, edit));
    life.sell("late")?;
    life.pay()?;
    life.export()?;
    look_at(dir, &url)?;
    let digest = life.digest();
    drop(life);
    reopen(dir, &url, digest)?;
    Ok((items, report.orders, report.left_total))
}

/// What `stampede reconcile` reads can be read, and the log as well, to its end.
fn look_at(dir: &Path, url: &str) -> Judged<()> {
    let disk = stampede_persist::disk::real::RealDisk;
    let control = read_control(&disk, dir).map_err(|error| error.to_string())?.ok_or("no control file")?;
    let mut database = Database::connect(&ConnectOptions::new(url)).map_err(|error| error.to_string())?;
    let one = [ItemId::new(1), ItemId::new(i32::MAX as u64)].map(|item| item.expect("an item"));
    for only in [None, Some(&one[..])] {
        let looked = look(&mut database, control.log_id, only, &mut Onlooker);
        ensure(looked.map_err(|error| format!("looked: {error}"))?, || "it did not want to".to_owned())?;
    }
    let mut mirror = Mirror::open(dir).map_err(|error| error.to_string())?;
    while mirror.advance(Lsn(u64::MAX)).map_err(|error| format!("mirror: {error}"))? == Advance::More {}
    Ok(())
}

/// The directory opens again: alone, from a snapshot, and with the database.
fn reopen(dir: &Path, url: &str, digest: u64) -> Judged<()> {
    let verdict = verify(dir).map_err(|error| error.to_string())?;
    ensure(verdict.wrong.is_none(), || format!("log verify: {:?}", verdict.wrong))?;
    let conserved = |t: &stampede_persist::log::books::ItemTotals| t.granted == t.available + t.held + t.sold;
    ensure(verdict.items.values().all(conserved), || format!("books: {:?}", verdict.items))?;
    let alone = Life::alone(dir)?;
    ensure(alone.digest() == digest, || "replayed, it is another state".to_owned())?;
    alone.snapshot()?;
    drop(alone);
    let (mut again, _) = Life::with(dir, url)?;
    again.sell("again")?;
    again.export()
}

struct Onlooker;

impl Looker for Onlooker {
    fn cursor(&mut self, _: Lsn, _: Lsn) -> bool {
        true
    }
    fn aside(&mut self, _: &AsideLook<'_>) {}
    fn stock(&mut self, _: &StockLook) {}
    fn range(&mut self, _: i64, _: i64) {}
    fn order(&mut self, _: &OrderLook<'_>) {}
    fn range_done(&mut self) {}
    fn payment(&mut self, _: &PaymentLook<'_>) {}
    fn payments_done(&mut self) {}
    fn astray(&mut self, _: &OrderLook<'_>) {}
}

fn seed() -> u64 {
    let given = std::env::var("STAMPEDE_SEED").ok().and_then(|seed| seed.parse().ok());
    let day = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    given.unwrap_or_else(day)
}

#[test]
fn whatever_stands_in_postgres_the_directory_opens() {
    let seed = seed();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    println!("seed: STAMPEDE_SEED={seed} PROPTEST_CASES={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let databases = std::cell::RefCell::new(Databases::new());
    let sums = std::cell::RefCell::new((0, 0, 0));
    let strategy = rows::shop().no_shrink();
    let strategy =
        if std::env::var_os("STAMPEDE_SHRINK").is_some() { rows::shop().boxed() } else { strategy.boxed() };
    let done = runner.run(&strategy, |shop| {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&mut databases.borrow_mut(), &shop)));
        let judged = judged.unwrap_or_else(|_| Err("it panicked".to_owned()));
        let (items, orders, left) = judged.map_err(TestCaseError::fail)?;
        let mut sums = sums.borrow_mut();
        *sums = (sums.0 + items, sums.1 + orders, sums.2 + left);
        Ok(())
    });
    let (items, orders, left) = *sums.borrow();
    println!("{items} items and {orders} orders were taken over, {left} rows were left alone");
    if let Err(error) = done {
        panic!("seed {seed}: {error}");
    }
    let telling = u64::from(cases);
    assert!(items as u64 * 2 > telling && orders > telling && left * 2 > telling, "the cases say little");
}

/// A shop with orders of all kinds, half of whose facts are not there when the process is killed.
const CUT_SHORT: &str = "
    INSERT INTO stock (id, name, count, held, sale, paused) VALUES
        (1, 'phone', 4, 2, 3, false), (2, 'paused', 5, 0, 1, true), (3, 'closed', 5, 0, 0, false);
    UPDATE stock SET closed = true WHERE id = 3;
    INSERT INTO stock_order (id, sid, buyer, quantity, state) VALUES
        (4294967297, 1, 'ann', 2, 'paid'), (4294967298, 1, 'bob', 2, 'held'), (4294967300, 1, 'cy', 1, 'cancelled'),
        (4294967303, 1, 'di', 1, 'confirmed'), (8589934593, 2, 'ann', 1, 'paid')";

#[test]
fn an_import_that_was_cut_short_sells_nothing_and_goes_on_at_the_next_start() {
    let mut databases = Databases::new();
    let items = [1, 2, 3].map(|id| ItemId::new(id).expect("an item"));
    let url = databases.cluster.url_of("strict");
    let shop = &mut databases.strict;
    let mut fresh = || {
        shop.batch_execute(EMPTY).expect("emptied");
        shop.batch_execute(CUT_SHORT).expect("a shop");
        tempfile::tempdir().expect("a directory")
    };
    let home = fresh();
    let (whole, report) = Life::with(home.path(), &url).expect("taken over");
    assert_eq!((report.items, report.orders, report.left_total), (3, 5, 0), "{report:?}");
    let whole = items.map(|item| whole.item(item));
    for facts in 0.. {
        let home = fresh();
        if !Life::killed(home.path(), &url, facts).expect("started") {
            assert!(facts > 10, "only {facts} facts");
            break;
        }
        let mut alone = Life::alone(home.path()).expect("opened without the database");
        let before = items.map(|item| alone.item(item));
        for (at, item) in items.into_iter().enumerate().filter(|&(at, _)| before[at] != whole[at]) {
            assert!(
                !alone.meddle(item).expect("written"),
                "killed after {facts}: half of item {at} was resumed"
            );
        }
        alone.sell("early").expect("written");
        for (at, item) in items.into_iter().enumerate() {
            let sold = alone.item(item) != before[at];
            assert!(
                !sold || before[at] == whole[at],
                "killed after {facts}: half of item {item} was on sale"
            );
        }
        let early = items.map(|item| alone.item(item));
        drop(alone);
        let (again, report) = Life::with(home.path(), &url).expect("goes on");
        assert_eq!(report.left_total, 0, "killed after {facts}: {report:?}");
        for (at, item) in items.into_iter().enumerate() {
            let wanted = if before[at] == whole[at] { early[at] } else { whole[at] };
            assert_eq!(again.item(item), wanted, "killed after {facts}: item {item}");
        }
    }
}
