//! The simulated database against a real Postgres: the same exporter over both, fed with the
//! same facts of a real shard, the same hands of others in both; after every step the tables
//! are equal row for row, and so is what the engine is told. What the simulation finds over
//! the one therefore holds for the other.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stampede_core::fact::Fact;
use stampede_core::types::{ItemId, Lsn, UnixMillis};
use stampede_persist::export::limits::{COPY_ROWS_MIN, REFUSED_REST};
use stampede_persist::export::store::Connect;
use stampede_persist::export::{
    Alarm, Attached, Claim, ConnectOptions, Database, DatabaseId, ExportError, ExportEvent, ExportStatus,
    Exporter, ExporterOptions, HalfTaken, Nonce, Postgres, PreheatSink, Step, preheat,
};

use crate::export_bed::{FakeEngine, LOG, client, cluster, created, fresh_database, sales};
use crate::export_sale::{ITEMS, RandomSale};
use crate::export_shop::Shop;
use crate::sim_database::{Call, SimDatabase, Tables};
use crate::sim_disk::Rng;

/// For so long more histories are begun after the first.
const MORE: Duration = Duration::from_secs(8);
/// Rounds of one history: facts, deeds of others, steps of the exporter.
const ROUNDS: u64 = 40;

/// A way to a database whose clock is set by hand.
struct ByHand<C> {
    way: C,
    now: Arc<Mutex<Instant>>,
}

impl<C: Connect> Connect for ByHand<C> {
    type Store = C::Store;

    fn now(&self) -> Instant {
        *self.now.lock().expect("lock")
    }
    fn stopping(&self) -> bool {
        self.way.stopping()
    }
    fn connect(&mut self) -> Result<C::Store, ExportError> {
        self.way.connect()
    }
    fn run<T, E: From<ExportError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.way.run(work)
    }
}

/// An exporter with its engine's side.
struct Twin<C: Connect> {
    engine: FakeEngine,
    exporter: Exporter<ByHand<C>>,
}

impl<C: Connect> Twin<C> {
    fn new(engine: FakeEngine, way: C, now: &Arc<Mutex<Instant>>, process: u128) -> Self {
        let way = ByHand { way, now: Arc::clone(now) };
        let options = ExporterOptions::over(way, LOG, Nonce::new(process));
        engine.0.lock().expect("lock").exported = Default::default();
        let exporter = Exporter::over(options, Box::new(engine.clone()), Arc::new(ExportStatus::default()));
        Self { engine, exporter }
    }

    /// What was told, without what names the database, and how its connection broke.
    fn told(&self) -> Vec<ExportEvent> {
        let mut events = self.engine.events();
        events.retain(|event| !matches!(event, ExportEvent::Attached { .. }));
        for event in &mut events {
            if let ExportEvent::Alarm(Alarm::Unreachable { reason } | Alarm::Stalled { reason, .. }) = event {
                reason.truncate(reason.find("was lost: ").unwrap_or(reason.len()));
            }
        }
        events
    }
}

/// Table by table, so that a difference is seen.
#[track_caller]
fn assert_same(sim: &Tables, real: &Tables, place: &str) {
    assert_eq!(sim.cursors, real.cursors, "cursors, {place}");
    assert_lines(&sim.stock, &real.stock, &format!("stock, {place}"));
    assert_lines(&sim.books, &real.books, &format!("books, {place}"));
    assert_lines(&sim.orders, &real.orders, &format!("orders, {place}"));
    assert_lines(&sim.payments, &real.payments, &format!("payments, {place}"));
    assert_lines(&sim.blocked, &real.blocked, &format!("blocked buyers, {place}"));
    assert_eq!(sim.set_aside, real.set_aside, "set aside, {place}");
    assert_eq!(sim, real, "all tables, {place}");
}

#[track_caller]
fn assert_lines<K: Ord + Debug, V: PartialEq + Debug>(
    sim: &BTreeMap<K, V>,
    real: &BTreeMap<K, V>,
    what: &str,
) {
    for key in sim.keys().chain(real.keys()) {
        assert_eq!(sim.get(key), real.get(key), "{key:?} of {what}");
    }
}

/// Both exporters, and everything around them.
struct Twins {
    seed: u64,
    rng: Rng,
    now: Arc<Mutex<Instant>>,
    url: String,
    database: SimDatabase,
    sim: Twin<SimDatabase>,
    real: Twin<Postgres>,
    shop: Option<Shop>,
    sale: RandomSale,
    /// Events that the engine has not answered yet begin here.
    answered: usize,
    process: u128,
    deeds: Vec<String>,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let (database, now) = (SimDatabase::new(seed), Arc::new(Mutex::new(Instant::now())));
        let url = cluster().url_of(&fresh_database());
        let postgres = Postgres::new(ConnectOptions::new(&*url)).expect("a URL");
        let sim = Twin::new(FakeEngine::default(), database.clone(), &now, 1);
        let real = Twin::new(FakeEngine::default(), postgres, &now, 1);
        let (sale, shop) = (RandomSale::new(), None);
        let (answered, process, deeds) = (0, 1, Vec::new());
        Self { seed, rng: Rng(seed), now, url, database, sim, real, shop, sale, answered, process, deeds }
    }

    /// Both processes die, and both come again.
    fn restart(&mut self) {
        self.process += 1;
        let postgres = Postgres::new(ConnectOptions::new(&*self.url)).expect("a URL");
        self.sim = Twin::new(self.sim.engine.clone(), self.database.clone(), &self.now, self.process);
        self.real = Twin::new(self.real.engine.clone(), postgres, &self.now, self.process);
    }

    fn append(&self, facts: Vec<Fact<'static>>) {
        self.sim.engine.append(facts.clone());
        self.real.engine.append(facts);
    }

    /// One step of both; whether there is nothing more to do.
    #[track_caller]
    fn step(&mut self) -> bool {
        let (sim, real) = (self.sim.exporter.step(), self.real.exporter.step());
        let place = format!("seed {}, after {:#?}", self.seed, self.deeds);
        assert_eq!(
            sim,
            real,
            "steps, {place}\nsim {}\nreal {}",
            self.sim.engine.said(),
            self.real.engine.said()
        );
        assert_eq!(self.sim.told(), self.real.told(), "told, {place}");
        if let (Step::Exported(_), Some(shop)) = (sim, &mut self.shop) {
            let (sim, real) = shop.both();
            assert_same(&sim, &real, &place);
        }
        match sim {
            Step::Wait(wait) => *self.now.lock().expect("lock") += wait,
            Step::Stopped => panic!("stopped: {}, {place}", self.sim.engine.said()),
            _ => {}
        }
        sim == Step::Idle
    }

    #[track_caller]
    fn until_idle(&mut self) {
        for _ in 0..200 {
            if self.step() {
                return;
            }
        }
        panic!("seed {}: never idle", self.seed);
    }

    fn round(&mut self) {
        let steps = 1 + self.rng.below(25);
        let facts = self.sale.go_on(&mut self.rng, steps);
        self.append(facts);
        let shop = self.shop.as_mut().expect("the tables are there by now");
        for _ in 0..self.rng.below(3) {
            let item = 1 + self.rng.below(ITEMS);
            let orders = &self.sale.orders;
            let order = (!orders.is_empty()).then(|| orders[self.rng.below(orders.len() as u64) as usize]);
            let last = orders.iter().filter(|order| u64::from(order.item().get()) == item).max();
            let next = (item as i64) << 32 | i64::from(last.map_or(0, |order| order.seq()) + 1);
            let deed = shop.meddle(&mut self.rng, item as i64, order.map(|order| order.get() as i64), next);
            self.deeds.push(deed);
        }
        if self.rng.below(3) == 0 {
            let events = self.sim.told();
            let facts = self.sale.answer(&events[self.answered..]);
            self.answered = events.len();
            self.append(facts);
        }
        *self.now.lock().expect("lock") += Duration::from_millis(self.rng.below(3_000));
        if self.rng.below(12) == 0 {
            self.restart();
        }
        self.until_idle();
    }

    fn run(&mut self) {
        self.until_idle();
        self.shop = Some(Shop::new(self.database.clone(), &self.url));
        for _ in 0..ROUNDS {
            self.round();
        }
        let shop = self.shop.as_mut().expect("made above");
        shop.let_go();
        shop.refuse_no_more();
        for _ in 0..8 {
            *self.now.lock().expect("lock") += Duration::from_secs(15);
            self.until_idle();
        }
        let rush = self.sale.rush(COPY_ROWS_MIN as u64);
        self.append(rush);
        self.until_idle();
        assert_eq!(self.sim.engine.exported(), self.sim.engine.durable(), "seed {}", self.seed);
        self.preheat();
    }

    /// Both databases are read as if the data directory were lost.
    fn preheat(&self) {
        let claim = Claim { epoch: 1, since_us: 0, left: Lsn::ZERO };
        let attached = Attached { database: DatabaseId([0; 16]), cursor: Lsn::ZERO, claim };
        let mut sim = Database::over(self.database.clone()).expect("connected");
        let mut real = Database::connect(&ConnectOptions::new(&*self.url)).expect("connected");
        let (mut sim_facts, mut real_facts) = (Facts::default(), Facts::default());
        let sim = preheat(&mut sim, &attached, UnixMillis(1), &mut sim_facts).expect("preheated");
        let real = preheat(&mut real, &attached, UnixMillis(1), &mut real_facts).expect("preheated");
        assert_eq!(sim, real, "preheating, seed {}", self.seed);
        assert_eq!(sim_facts.0, real_facts.0, "preheating, seed {}", self.seed);
        assert!(sim.items > 0 && sim.orders >= COPY_ROWS_MIN as u64, "{sim:?}");
    }
}

/// What preheating hands out, as text: facts borrow.
#[derive(Default)]
struct Facts(Vec<String>);

impl PreheatSink for Facts {
    fn knows_item(&mut self, _: ItemId) -> bool {
        false
    }
    fn half_taken(&mut self, _: ItemId) -> Option<HalfTaken> {
        None
    }
    fn has_room(&mut self, _: ItemId, _: u64) -> bool {
        true
    }
    fn knows_blocked(&mut self, _: &[u8]) -> bool {
        false
    }
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        self.0.push(format!("{fact:?}"));
        Ok(())
    }
}

/// Calls that are rare, and the point of it all: without them the comparison says little.
const TELLING: [Call; 17] = [
    Call::RollBack,
    Call::RollBackToSavepoint,
    Call::ReleaseSavepoint,
    Call::TakeCursor,
    Call::RecoverBooks,
    Call::LockStockRows,
    Call::StockRows,
    Call::MakeStockRows,
    Call::NotePauses,
    Call::ClearPauses,
    Call::CopyOrders,
    Call::UpdateOrders,
    Call::PutPayments,
    Call::Unblock,
    Call::SetAside,
    Call::BlockedPage,
    Call::OrdersPage,
];

#[test]
fn a_stock_row_that_stays_refused_is_kept_once() {
    let now = Arc::new(Mutex::new(Instant::now()));
    let url = cluster().url_of(&fresh_database());
    let postgres = Postgres::new(ConnectOptions::new(&*url)).expect("a URL");
    let mut twin = Twin::new(FakeEngine::with([created(1, 100)]), postgres, &now, 1);
    let until_idle = |twin: &mut Twin<Postgres>| {
        let idle = (0..100).any(|_| twin.exporter.step() == Step::Idle);
        assert!(idle, "never idle: {}", twin.engine.said());
        *now.lock().expect("lock") += REFUSED_REST + Duration::from_secs(1);
    };
    until_idle(&mut twin);
    let mut shop = client(&url);
    shop.batch_execute("ALTER TABLE stock ADD CONSTRAINT many CHECK (count > 90)").expect("altered");
    twin.engine.append(sales(1, 1, 20));
    (0..4).for_each(|_| until_idle(&mut twin));
    assert!(twin.exporter.status().set_aside() >= 3, "it was tried again");
    let kept: i64 = shop.query_one("SELECT count(*) FROM stampede_set_aside", &[]).expect("kept").get(0);
    assert_eq!(kept, 1);
}

/// A history in which every telling call is made; the first of each day's.
const FIRST: u64 = 1;

fn history(seed: u64) -> BTreeMap<Call, u64> {
    println!("seed: STAMPEDE_SEED={seed}");
    let mut twins = Twins::new(seed);
    twins.run();
    let called = twins.database.counts().called().clone();
    let missing: Vec<Call> = TELLING.into_iter().filter(|call| !called.contains_key(call)).collect();
    println!("calls not made: {missing:?}");
    called
}

#[test]
fn the_simulated_database_is_like_the_real_one() {
    if let Some(seed) = std::env::var("STAMPEDE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        history(seed);
        return;
    }
    let called = history(FIRST);
    assert!(TELLING.iter().all(|call| called.contains_key(call)), "{called:?}");
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let today = since_1970.as_secs() / 86_400 * 1_000;
    // As many as there is time for.
    let begin = Instant::now();
    (today..today + 100).take_while(|_| begin.elapsed() < MORE).for_each(|seed| drop(history(seed)));
}
