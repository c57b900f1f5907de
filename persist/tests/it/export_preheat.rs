//! Rows that stand in Postgres and nowhere else become facts, and are not written again.

use stampede_core::fact::{ACTOR_POSTGRES, Fact};
use stampede_core::item::{OrderState, Payment};
use stampede_core::types::{ItemId, Lsn, UnixMillis};
use stampede_persist::export::{
    Attached, ConnectOptions, Database, HalfTaken, LogClaim, LogId, Nonce, PreheatReport, PreheatSink,
    attach, migrate, preheat,
};

use crate::export_bed::{
    FakeEngine, LOG, client, cluster, drain, exporter_to, fresh_database, item, moved, order, rows, sales,
    trace,
};
use crate::record::keep_fact;

/// Takes facts as an engine with this log would.
struct Taker {
    engine: FakeEngine,
}

impl PreheatSink for Taker {
    fn knows_item(&mut self, item: ItemId) -> bool {
        self.engine
            .facts()
            .iter()
            .any(|fact| matches!(fact, Fact::ItemCreated { .. }) && fact.item() == Some(item))
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
        self.engine.append([keep_fact(fact)]);
        Ok(())
    }
}

fn attached(url: &str, log_id: LogId, engine: &FakeEngine) -> (Database, Attached) {
    let durable = engine.durable();
    let mut database = Database::connect(&ConnectOptions::new(url)).expect("connected");
    migrate(&mut database).expect("migrated");
    let claim = LogClaim {
        log_id,
        nonce: Nonce::new(1),
        held: None,
        first_retained: Lsn(1),
        durable,
        database: None,
    };
    let attached = attach(&mut database, &claim, &mut |lsn| Ok(engine.chain_at(lsn))).expect("attached");
    (database, attached)
}

fn warm(url: &str, log_id: LogId, engine: &FakeEngine) -> PreheatReport {
    let (mut database, attached) = attached(url, log_id, engine);
    let mut taker = Taker { engine: engine.clone() };
    preheat(&mut database, &attached, UnixMillis(9), &mut taker).expect("preheated")
}

#[test]
fn an_item_put_in_by_hand_is_sold() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    drop(attached(&url, LOG, &FakeEngine::default()));
    let mut shop = client(&url);
    shop.batch_execute(
        "INSERT INTO stock (id, name, count) VALUES (7, '秒杀手机', 100), (8, 'paused', 5), (9, '', 5);
         INSERT INTO stock (id, name, count, sale) VALUES (10, 'muddled', 5, 1), (11, 'wrong sum', 5, 1);
         INSERT INTO stock_order (id, sid, buyer, quantity, state) VALUES (1, 10, 'x', 1, 'confirmed');
         UPDATE stock SET paused = true WHERE id = 8;
         INSERT INTO stampede_blocked (buyer) VALUES ('scalper')",
    )
    .expect("inserted");
    let engine = FakeEngine::default();
    let report = warm(&url, LOG, &engine);
    assert_eq!((report.items, report.orders, report.blocked, report.left_total), (2, 0, 1, 3));
    let left: Vec<&str> = report.left.iter().map(|left| left.row.as_str()).collect();
    assert_eq!(left, ["stock row 9", "stock row 10", "stock row 11"], "{report:?}");
    let facts = engine.facts();
    assert_eq!(facts.len(), 4, "{facts:?}");
    let Fact::ItemCreated { spec, granted, .. } = facts[1] else { panic!("{facts:?}") };
    assert_eq!((spec.name, granted, spec.cap, spec.payment), ("秒杀手机", 100, 1, Payment::OnOrder));

    // Sold, and exported: the row is neither doubled nor forgotten.
    shop.batch_execute("DELETE FROM stock_order").expect("deleted");
    engine.append(sales(7, 1, 30));
    let mut exporter = exporter_to(&engine, url.clone(), |_| {});
    drain(&mut exporter, &engine);
    let found = rows(&mut shop);
    assert_eq!((found.stock[&7], found.stock[&8], found.blocked.len()), ((70, 0, 30), (5, 0, 0), 1));
    assert_eq!((engine.asked(), engine.pauses()), (vec![], vec![]));
    assert_eq!(warm(&url, LOG, &engine).items, 0, "known by now");
}

#[test]
fn a_lost_data_directory_is_made_up_for() {
    let seed = 99;
    println!("seed {seed}");
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let lost = FakeEngine::with(trace(seed, 12_000));
    drain(&mut exporter_to(&lost, url.clone(), |_| {}), &lost);
    let mut shop = client(&url);
    let before = rows(&mut shop);
    // What the other log's error tells the operator to do.
    shop.batch_execute("DELETE FROM stampede_cursor").expect("deleted");

    let (new_log, engine) = (LogId([9; 16]), FakeEngine::default());
    let report = warm(&url, new_log, &engine);
    assert_eq!(
        (report.items, report.orders, report.left_total),
        (5, before.orders.len() as u64, 0),
        "{report:?}"
    );
    // While the facts were on their way somebody restocked an item.
    shop.batch_execute("UPDATE stock SET count = count + 9 WHERE id = 2").expect("updated");
    let some = engine.facts().iter().find_map(|fact| match fact {
        Fact::OrderImported { order, quantity, state: OrderState::Confirmed, .. } => {
            Some((*order, quantity.get()))
        }
        _ => None,
    });
    let (some, quantity) = some.expect("a confirmed order");
    engine.append([moved(some, quantity, OrderState::Confirmed, OrderState::Cancelled)]);
    engine.append(sales(3, order(3, 1_000_000).seq(), 10));
    let mut exporter = exporter_to(&engine, url, |options| {
        options.log_id = new_log;
        options.nonce = Nonce::new(2);
        options.facts_per_batch_max = 1_000;
    });
    drain(&mut exporter, &engine);
    assert_eq!((engine.asked(), engine.pauses()), (vec![(2, 9)], vec![]), "{}", engine.said());
    engine.append([Fact::StockAdjusted {
        at_ms: UnixMillis(9),
        item: item(2),
        delta: 9,
        actor: ACTOR_POSTGRES,
        key: b"",
    }]);
    drain(&mut exporter, &engine);
    let found = rows(&mut shop);
    let mut wanted = crate::export_bed::model(&engine.facts());
    // The new log does not know when what it took over had ended; its rows say so as before.
    for (id, row) in &mut wanted.orders {
        if let Some(old) = before.orders.get(id).filter(|_| row.6.4 == 0) {
            row.6.4 = old.6.4;
        }
    }
    assert!(wanted.orders.values().any(|row| row.6.4 != 0), "no order had ended");
    assert_eq!(found.stock, wanted.stock);
    let differs = found.orders.iter().find(|(id, row)| wanted.orders.get(id) != Some(row));
    assert!(found.orders.len() == wanted.orders.len() && differs.is_none(), "{differs:?}");
}
