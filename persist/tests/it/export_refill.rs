//! A database that lacks what the log no longer holds is filled from a snapshot and the facts after
//! it: whatever it held before, whatever call fails; and never over a row of somebody else.

use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::fact::Fact;
use stampede_core::shard::Shard;
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, Lsn, UnixMillis};
use stampede_persist::export::refill::{Refill, RefillError, Refilled};
use stampede_persist::export::store::Connect;
use stampede_persist::export::{
    AttachError, ConnectOptions, Database, DatabaseId, LogClaim, LogId, Nonce, migrate,
};
use stampede_persist::feed::{FactFeed, FeedError, History};
use stampede_persist::log::block::ChainHash;

use crate::export_bed::{self, FakeEngine, LOG, Rows, client, cluster, fresh_database, model};
use crate::export_sale::RandomSale;
use crate::export_sim::{drain, exporter, rows};
use crate::sim_database::{Fault, SimDatabase, StockLine, at_call};
use crate::sim_disk::Rng;

/// A log as it stands: facts, and a snapshot up to the `snapshot`-th.
struct Told {
    facts: Vec<Fact<'static>>,
    snapshot: usize,
}

impl Told {
    fn shard(&self, facts: usize) -> Shard {
        let mut shard = Shard::new(0, HashSecret(*b"a test's secret!"), Arc::new(Catalogue::new(1)));
        for (at, fact) in self.facts[..facts].iter().enumerate() {
            shard.apply(Lsn(at as u64 + 1), fact).expect("a real shard decided it");
        }
        shard
    }

    /// What the log's side says, with `first` as the first fact that it still holds.
    fn claim(&self, first: usize, process: u128) -> LogClaim {
        let (first_retained, durable) = (Lsn(first as u64), self.last_lsn());
        LogClaim {
            log_id: LOG,
            nonce: Nonce::new(process),
            held: None,
            first_retained,
            durable,
            database: None,
        }
    }
}

impl History for Told {
    fn snapshot_lsn(&self) -> Lsn {
        Lsn(self.snapshot as u64)
    }
    fn snapshot_ms(&self) -> UnixMillis {
        self.facts[..self.snapshot].iter().map(Fact::at_ms).max().unwrap_or_default()
    }
    fn last_lsn(&self) -> Lsn {
        Lsn(self.facts.len() as u64)
    }
    fn snapshot_rows(
        &self,
        visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut done = Ok(());
        self.shard(self.snapshot).rows(&mut |row| {
            if done.is_ok() {
                done = visit(row);
            }
        });
        done
    }
    fn facts(&self) -> Box<dyn FactFeed + '_> {
        Box::new(Feed { told: self, next: self.snapshot })
    }
    fn chain(&self) -> Result<ChainHash, FeedError> {
        Ok(FakeEngine::with(self.facts.clone()).chain_at(self.last_lsn()))
    }
    fn state(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        self.shard(self.facts.len()).rows(&mut |row| visit(*row));
    }
}

struct Feed<'a> {
    told: &'a Told,
    next: usize,
}

impl FactFeed for Feed<'_> {
    /// A few at a time, whatever is asked for, so that an order's facts come in several pieces.
    fn read(
        &mut self,
        up_to: Lsn,
        _max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<usize, FeedError> {
        let end = (up_to.0 as usize).min(self.next + 7);
        for at in self.next..end {
            visit(Lsn(at as u64 + 1), &self.told.facts[at]);
        }
        let read = end - self.next;
        self.next = end;
        Ok(read)
    }
    fn chain(&mut self) -> Result<ChainHash, FeedError> {
        unreachable!("nobody asks in the middle")
    }
}

/// What the rows must be: as ever. A snapshot has the texts of facts that neither the database nor the
/// log has any more.
fn expected(facts: &[Fact<'static>]) -> Rows {
    model(facts)
}

/// A sale, a database that holds the first part of it, and a log that has forgotten more than that.
struct Case {
    told: Told,
    cursor: usize,
    engine: FakeEngine,
    database: SimDatabase,
}

fn case(seed: u64) -> Case {
    let mut rng = Rng(seed);
    let facts = RandomSale::new().go_on(&mut rng, 400);
    let many = facts.len() as u64;
    assert!(many > 40, "seed {seed}: a sale of {many} facts");
    let cursor = rng.below(many / 3) as usize * rng.below(4).min(1) as usize;
    let snapshot = cursor + 2 + rng.below(many - cursor as u64 - 2) as usize;
    let (engine, database) = (FakeEngine::with(facts[..cursor].to_vec()), SimDatabase::new(seed));
    if cursor > 0 {
        drain(&mut exporter(&engine, &database, 1), &engine, &database);
    }
    engine.append(facts[cursor..].to_vec());
    Case { told: Told { facts, snapshot }, cursor, engine, database }
}

fn refill(told: &Told, claim: &LogClaim, way: impl Connect) -> Result<Refilled, RefillError> {
    let mut database = Database::over(way).map_err(|error| AttachError::Database(error.to_string()))?;
    migrate(&mut database).map_err(AttachError::from)?;
    Refill::begin(&mut database, claim, told)?.run()
}

impl Case {
    fn refill(&self, process: u128) -> Result<Refilled, RefillError> {
        refill(&self.told, &self.told.claim(self.told.snapshot + 1, process), self.database.clone())
    }

    /// The rows are right, and an engine goes on with them without a word.
    #[track_caller]
    fn check(&self, seed: u64) {
        let expected = expected(&self.told.facts);
        assert_eq!(rows(&self.database.tables()), expected, "seed {seed}");
        assert_eq!(self.database.cursor(LOG), Some(self.told.last_lsn()), "seed {seed}");
        self.engine.0.lock().expect("lock").first = self.told.snapshot as u64 + 1;
        self.engine.0.lock().expect("lock").events.clear();
        let before = self.database.tables();
        let mut next = exporter(&self.engine, &self.database, 100);
        drain(&mut next, &self.engine, &self.database);
        self.database.advance(std::time::Duration::from_secs(30));
        drain(&mut next, &self.engine, &self.database);
        assert_eq!((self.engine.asked(), self.engine.pauses()), (vec![], vec![]), "seed {seed}");
        assert_eq!(self.engine.alarms(), vec![], "seed {seed}");
        assert_eq!(self.database.tables().orders, before.orders, "seed {seed}");
    }
}

#[test]
fn a_refill_is_the_snapshot_and_the_facts_after_it() {
    for seed in 1..=60 {
        let case = case(seed);
        let lacking = case.told.claim(case.told.snapshot + 1, 2);
        let mut exporting = exporter(&case.engine, &case.database, 2);
        case.engine.0.lock().expect("lock").first = lacking.first_retained.0;
        crate::export_sim::until_stopped(&mut exporting, &case.database);
        assert!(case.engine.said().contains("stampede export --from-snapshot"), "{}", case.engine.said());
        let done = case.refill(3).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((done.from, done.to), (Lsn(case.cursor as u64), case.told.last_lsn()), "seed {seed}");
        case.check(seed);
        assert!(matches!(case.refill(101), Err(RefillError::NothingMissing { .. })), "seed {seed}");
    }
}

#[test]
fn a_fill_that_ends_at_any_call_is_done_again() {
    let mut ended = 0;
    for (seed, fault) in [(3, Fault::Dies), (4, Fault::DiesAfter), (5, Fault::DiesAfter)] {
        for call in 1.. {
            let case = case(seed);
            case.database.set_plan(Some(at_call(call, fault)));
            let first = case.refill(2);
            case.database.set_plan(None);
            match first {
                Ok(_) => break,
                // The answer to the last commit was lost: everything is there.
                Err(_) if case.database.cursor(LOG) == Some(case.told.last_lsn()) => {}
                Err(_) => {
                    case.refill(3).unwrap_or_else(|error| panic!("seed {seed}, call {call}: {error}"));
                }
            }
            ended += 1;
            case.check(seed);
        }
    }
    assert!(ended > 100, "{ended} calls");
}

#[test]
fn a_row_of_somebody_else_is_never_replaced() {
    let claim = |told: &Told| told.claim(told.snapshot + 1, 2);
    let case_with = |change: &dyn Fn(&Case)| {
        let case = case(1);
        migrate(&mut Database::over(case.database.clone()).expect("connected")).expect("migrated");
        change(&case);
        let before = rows(&case.database.tables());
        let error = refill(&case.told, &claim(&case.told), case.database.clone()).unwrap_err();
        assert!(matches!(error, RefillError::Foreign { total: 1, .. }), "{error}");
        let after = rows(&case.database.tables());
        before.orders.iter().for_each(|(id, row)| assert_eq!(after.orders.get(id), Some(row), "order {id}"));
        before.stock.iter().for_each(|(id, row)| assert_eq!(after.stock.get(id), Some(row), "item {id}"));
        assert_ne!(case.database.cursor(LOG), Some(case.told.last_lsn()));
        error.to_string()
    };
    let told = case(1);
    let (ours, _) = model(&told.told.facts).orders.into_iter().next().expect("an order");
    let line = |id: i64, buyer: &str| {
        let mut full = case(1);
        full.refill(2).expect("filled");
        let mut line = full.database.orders()[&ours].clone();
        full.cursor = 0;
        line.record.id = id;
        line.record.buyer = buyer.to_owned();
        line.lsn = 0;
        line
    };
    let theirs = line(ours, "somebody else");
    let said = case_with(&|case| case.database.insert_order(theirs.clone()));
    assert!(said.contains(&format!("order {ours}")), "{said}");
    let unknown = (ours >> 32 << 32) + 77_777;
    let theirs = line(unknown, "somebody else");
    let said = case_with(&|case| case.database.insert_order(theirs.clone()));
    assert!(said.contains(&format!("order {unknown} of somebody else")), "{said}");
    let item = ours >> 32;
    let said = case_with(&|case| {
        case.database.delete_books(item);
        case.database.insert_stock(item, StockLine::new("theirs", 12_345));
    });
    assert!(said.contains(&format!("stock {item} (count 12345")), "{said}");
}

/// Rows that the database refuses for their own sake are set aside, wherever they are, and a withdrawal of
/// what is sold already is told.
#[test]
fn a_refill_goes_around_what_is_refused_and_tells_of_it() {
    let blocked = |buyer: &'static str| Fact::BuyerBlocked {
        at_ms: UnixMillis(1),
        subject: buyer.as_bytes(),
        blocked: true,
        actor: "merchant",
    };
    let mut facts = vec![export_bed::created(1, 100), export_bed::created(2, 100), blocked("gone")];
    facts.extend(export_bed::sales(1, 1, 2));
    let cursor = facts.len();
    facts.extend([export_bed::created(3, 100), blocked("him"), blocked("her")]);
    facts.extend([(1, 3), (2, 1), (3, 1)].into_iter().flat_map(|(id, seq)| export_bed::sales(id, seq, 5)));
    let told = Told { snapshot: facts.len() - 4, facts };
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let before = FakeEngine::with(told.facts[..cursor].to_vec());
    export_bed::drain(&mut export_bed::exporter(&before, &database), &before);
    let mut shop = client(&url);
    shop.batch_execute(
        "UPDATE stock SET count = 0 WHERE id = 1;
         ALTER TABLE stock ADD CONSTRAINT many CHECK (id <> 2 OR count > 96);
         ALTER TABLE stampede_item ADD CONSTRAINT named CHECK (id <> 3 OR name NOT LIKE 'phone%');
         ALTER TABLE stampede_blocked ADD CONSTRAINT not_him CHECK (buyer <> 'him')",
    )
    .expect("altered");
    let way = stampede_persist::export::Postgres::new(ConnectOptions::new(&url)).expect("a way");
    let done = refill(&told, &told.claim(told.snapshot + 1, 3), way).expect("filled");
    let named: Vec<(u32, i64)> = done.void.iter().map(|(item, units)| (item.get(), *units)).collect();
    assert_eq!((named, done.set_aside), (vec![(1, 5)], 3), "{done:?}");
    let kinds = shop.query("SELECT kind FROM stampede_set_aside WHERE kind <> 'refilled' ORDER BY kind", &[]);
    let kinds: Vec<String> = kinds.expect("kept").iter().map(|row| row.get(0)).collect();
    assert_eq!(kinds, ["blocked", "item", "stock"]);
    let found = export_bed::rows(&mut shop);
    assert_eq!((found.stock[&1], found.stock[&2], found.stock[&3]), ((0, 0, 7), (100, 0, 0), (95, 0, 5)));
    assert_eq!(found.orders.len(), 17, "all of them");
    assert_eq!(found.blocked, ["gone", "her"]);
    let books = shop.query_one("SELECT count, sale FROM stampede_item WHERE id = 2", &[]).expect("books");
    assert_eq!((books.get::<_, i64>(0), books.get::<_, i64>(1)), (95, 5), "the books are right");
}

/// What another log has written to the blocklist stays, as long as this one never wrote to the database.
#[test]
fn the_blocklist_of_another_log_is_left_alone() {
    let (mut kept, mut gone) = (0, 0);
    for seed in 1..=20 {
        let case = case(seed);
        migrate(&mut Database::over(case.database.clone()).expect("connected")).expect("migrated");
        case.database.block_as("theirs", 77);
        case.refill(2).expect("filled");
        let stays = case.database.look(|tables| tables.blocked.contains_key("theirs"));
        assert_eq!(stays, case.cursor == 0, "seed {seed}: once it is this log's, so is its blocklist");
        (kept, gone) = (kept + u32::from(stays), gone + u32::from(!stays));
    }
    assert!(kept > 2 && gone > 2, "{kept} kept, {gone} gone");
}

/// The last item there can be, and an id just behind those of an item.
#[test]
fn the_ends_of_an_items_numbers_are_told_apart() {
    let last = 2_147_483_647;
    let mut facts = vec![export_bed::created(1, 100), export_bed::created(last, 100)];
    facts.extend(export_bed::sales(1, 1, 5));
    facts.extend(export_bed::sales(last, 1, 5));
    let told = Told { facts: facts.clone(), snapshot: 8 };
    let database = SimDatabase::new(1);
    migrate(&mut Database::over(database.clone()).expect("connected")).expect("migrated");
    let done = refill(&told, &told.claim(9, 2), database.clone()).expect("filled");
    assert_eq!((done.items, done.orders), (2, 10));
    let mut behind = database.orders()[&((1 << 32) + 1)].clone();
    behind.record.id = 2 << 32;
    let database = SimDatabase::new(2);
    migrate(&mut Database::over(database.clone()).expect("connected")).expect("migrated");
    database.insert_order(behind);
    refill(&told, &told.claim(9, 2), database.clone()).expect("filled");
    let mut expected = expected(&facts);
    let found = rows(&database.tables());
    assert!(found.orders.contains_key(&(2 << 32)), "it stays");
    expected.orders.insert(2 << 32, found.orders[&(2 << 32)].clone());
    assert_eq!(found, expected);
}

#[test]
fn a_database_that_is_not_behind_or_not_ours_is_not_filled() {
    let case = case(7);
    let told = &case.told;
    let way = || case.database.clone();
    let refused = |claim: LogClaim| refill(told, &claim, way()).unwrap_err();
    let claim = told.claim(told.snapshot + 1, 2);
    let enough = LogClaim { first_retained: Lsn(case.cursor as u64 + 1), ..claim };
    assert!(matches!(refused(enough), RefillError::NothingMissing { .. }));
    let error = refused(LogClaim { database: Some(DatabaseId([5; 16])), ..claim });
    assert!(matches!(error, RefillError::Attach(AttachError::OtherDatabase { .. })), "{error}");
    let error = refused(LogClaim { log_id: LogId([9; 16]), ..claim });
    assert!(matches!(error, RefillError::Attach(AttachError::OtherLog { .. })), "{error}");
    assert!(case.database.edit_cursor(LOG, |row| row.lsn = Lsn(1_000_000)));
    let error = refused(claim);
    assert!(matches!(error, RefillError::Attach(AttachError::Ahead { .. })), "{error}");
}

/// The same on a real server: both databases come to the same rows.
#[test]
fn postgres_is_filled_as_the_simulated_database_is() {
    for seed in [2, 11] {
        let case = case(seed);
        let name = fresh_database();
        let url = cluster().url_of(&name);
        let before = FakeEngine::with(case.told.facts[..case.cursor].to_vec());
        if case.cursor > 0 {
            export_bed::drain(&mut export_bed::exporter(&before, &name), &before);
        }
        let way = stampede_persist::export::Postgres::new(ConnectOptions::new(&url)).expect("a way");
        let claim = case.told.claim(case.told.snapshot + 1, 3);
        let done = refill(&case.told, &claim, way).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(done, case.refill(3).expect("filled"), "seed {seed}");
        let expected = expected(&case.told.facts);
        assert_eq!(export_bed::rows(&mut client(&url)), expected, "seed {seed}");
        case.check(seed);
        // And an exporter goes on.
        before.append(case.told.facts[case.cursor..].to_vec());
        before.0.lock().expect("lock").first = claim.first_retained.0;
        let mut next = export_bed::exporter_to(&before, url.clone(), |options| options.nonce = Nonce::new(4));
        export_bed::drain(&mut next, &before);
        assert_eq!(before.asked(), vec![], "seed {seed}: {}", before.said());
    }
}
