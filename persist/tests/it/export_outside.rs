//! Stock rows that somebody else changes, deletes or locks: noticed, taken over or put
//! right, asked about once; orders go in whatever happens.

use std::time::{Duration, Instant};

use postgres::Client;
use stampede_core::fact::{ACTOR_POSTGRES, Fact, Switch};
use stampede_core::types::UnixMillis;
use stampede_persist::export::{Exporter, Nonce, Step};

use crate::export_bed::{
    FakeEngine, adjusted, assert_exported, client, cluster, created, drain, exporter, exporter_to,
    fresh_database, item, rows, sales, step_until,
};

/// One item with 100 units, 40 of them sold and exported.
struct Bed {
    engine: FakeEngine,
    exporter: Exporter,
    url: String,
    shop: Client,
}

fn bed() -> Bed {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    engine.append(sales(1, 1, 40));
    let mut exporter = exporter(&engine, &database);
    drain(&mut exporter, &engine);
    let shop = client(&url);
    Bed { engine, exporter, url, shop }
}

impl Bed {
    #[track_caller]
    fn sql(&mut self, sql: &str) {
        self.shop.batch_execute(sql).expect(sql);
    }
    #[track_caller]
    fn drain(&mut self) {
        drain(&mut self.exporter, &self.engine);
    }
    /// Until a sweep has found nothing more to do.
    #[track_caller]
    fn settle(&mut self) {
        let mut shop = client(&self.url);
        let engine = self.engine.clone();
        step_until(&mut self.exporter, "settled", |step, _| {
            step == Step::Idle && engine.exported() == engine.durable() && books_agree(&mut shop)
        });
    }
    fn stock(&mut self) -> (i64, i64, i64) {
        rows(&mut self.shop).stock[&1]
    }
    fn outside(&mut self) -> i64 {
        self.shop.query_one("SELECT outside FROM stampede_item", &[]).expect("books").get(0)
    }
    /// The process dies, another one takes over.
    fn restart(&mut self, process: u128) {
        self.exporter =
            exporter_to(&self.engine, self.url.clone(), |options| options.nonce = Nonce::new(process));
    }
}

fn books_agree(shop: &mut Client) -> bool {
    let agree = "SELECT NOT EXISTS (SELECT FROM stampede_item l FULL JOIN stock s ON s.id = l.id WHERE \
         (s.version, s.count, s.held, s.sale) IS DISTINCT FROM (l.row_version, l.count + l.outside, l.held, l.sale))";
    shop.query_one(agree, &[]).expect("books").get(0)
}

fn switched(switch: Switch, actor: &'static str) -> Fact<'static> {
    Fact::ItemSwitched { at_ms: UnixMillis(1), item: item(1), switch, actor, key: b"" }
}

#[test]
fn a_restock_by_hand_is_taken_over_once() {
    let mut bed = bed();
    // Nothing is being sold: only a look at the rows can find it.
    bed.sql("UPDATE stock SET count = count + 5, version = version + 1");
    bed.settle();
    assert_eq!((bed.stock(), bed.outside(), bed.engine.asked()), ((65, 0, 40), 5, vec![(1, 5)]));
    bed.engine.append(sales(1, 41, 3));
    bed.drain();
    assert_eq!((bed.stock(), bed.engine.asked().len()), ((62, 0, 43), 1), "asked while a question is open");
    bed.engine.append([adjusted(1, 5, ACTOR_POSTGRES)]);
    bed.drain();
    bed.settle();
    assert_eq!((bed.stock(), bed.outside(), bed.engine.asked().len()), ((62, 0, 43), 0, 1));
    assert_exported(&bed.engine, &bed.url);
    assert_eq!(bed.exporter.status().conflicts(), 1);
}

#[test]
fn an_edit_amid_sales_is_told_from_them() {
    let mut bed = bed();
    bed.sql("UPDATE stock SET count = count - 10");
    bed.engine.append(sales(1, 41, 20));
    bed.drain();
    assert_eq!((bed.stock(), bed.engine.asked()), ((30, 0, 60), vec![(1, -10)]));
    // A second edit before the answer: asked about after it, for what is then left.
    bed.sql("UPDATE stock SET count = count + 100");
    bed.settle();
    bed.engine.append([adjusted(1, -10, ACTOR_POSTGRES)]);
    bed.drain();
    bed.settle();
    assert_eq!(bed.engine.asked(), vec![(1, -10), (1, 100)]);
    bed.engine.append([adjusted(1, 100, ACTOR_POSTGRES)]);
    bed.drain();
    assert_exported(&bed.engine, &bed.url);
}

#[test]
fn a_withdrawal_of_what_is_sold_stops_at_zero() {
    let mut bed = bed();
    bed.sql("UPDATE stock SET count = 0");
    bed.engine.append(sales(1, 41, 50));
    bed.drain();
    assert_eq!((bed.stock(), bed.engine.asked()), ((0, 0, 90), vec![(1, -10)]));
    // The engine sells three more before it hears of it, and cannot bear ten: it pauses.
    bed.engine.append(sales(1, 91, 3));
    bed.engine.append([switched(Switch::Paused, ACTOR_POSTGRES)]);
    bed.drain();
    bed.settle();
    assert_eq!((bed.stock(), bed.outside(), bed.engine.asked().len()), ((0, 0, 93), -7, 1));
    // Resumed by the merchant: asked again, for what is left.
    bed.engine.append([switched(Switch::Resumed, "merchant")]);
    bed.drain();
    assert_eq!(bed.engine.asked(), vec![(1, -10), (1, -7)]);
    bed.engine.append([adjusted(1, -7, ACTOR_POSTGRES)]);
    bed.drain();
    assert_exported(&bed.engine, &bed.url);
}

#[test]
fn a_question_outlives_the_process_and_is_not_asked_twice() {
    let mut bed = bed();
    bed.sql("UPDATE stock SET count = count + 7");
    bed.settle();
    // Dies without an answer: asked again.
    bed.restart(2);
    bed.settle();
    step_until(&mut bed.exporter, "asked again", {
        let engine = bed.engine.clone();
        move |_, _| engine.asked().len() == 2
    });
    assert_eq!(bed.engine.asked(), vec![(1, 7), (1, 7)]);
    // Dies with the answer in the log, not exported yet: not asked again.
    bed.engine.append([adjusted(1, 7, ACTOR_POSTGRES)]);
    bed.engine.append(sales(1, 41, 2));
    bed.restart(3);
    bed.drain();
    bed.settle();
    assert_eq!((bed.engine.asked().len(), bed.outside()), (2, 0));
    assert_exported(&bed.engine, &bed.url);
}

#[test]
fn held_and_sale_are_put_right_and_the_item_stops() {
    let mut bed = bed();
    bed.sql("UPDATE stock SET sale = sale - 3, version = version + 1");
    bed.engine.append(sales(1, 41, 1));
    bed.drain();
    assert_eq!((bed.stock(), bed.engine.pauses()), ((59, 0, 41), vec![1]));
    assert!(bed.engine.said().contains("from 0 and 40 to 0 and 37"), "{}", bed.engine.said());
    // The process dies before the engine has paused: told again by the next.
    bed.restart(2);
    step_until(&mut bed.exporter, "told again", {
        let engine = bed.engine.clone();
        move |_, _| engine.pauses() == [1, 1]
    });
    bed.engine.append([switched(Switch::Paused, ACTOR_POSTGRES)]);
    bed.drain();
    bed.restart(3);
    bed.drain();
    bed.settle();
    assert_eq!(bed.engine.pauses(), [1, 1], "paused by now");
    assert_exported(&bed.engine, &bed.url);
}

#[test]
fn a_deleted_row_comes_back_and_the_item_stops() {
    let mut bed = bed();
    bed.sql("DELETE FROM stock");
    bed.settle();
    assert_eq!((bed.stock(), bed.engine.pauses()), ((60, 0, 40), vec![1]));
    let name: String = bed.shop.query_one("SELECT name FROM stock", &[]).expect("stock").get(0);
    assert_eq!(name, "phone 1 手机");
    bed.engine.append(sales(1, 41, 2));
    bed.drain();
    assert_exported(&bed.engine, &bed.url);
    assert_eq!(bed.engine.asked(), []);
}

/// The engine answers each pause with a fact, also if the item is paused already. Asked again in the batch
/// of that fact, the two would fill the log between them.
#[test]
fn a_row_that_cannot_be_mended_pauses_its_item_once() {
    let mut bed = bed();
    // It is no row of the engine's any more, and cannot be put back: its id is taken.
    bed.sql("ALTER TABLE stock ALTER count DROP NOT NULL");
    bed.sql("UPDATE stock SET count = NULL, version = version + 1");
    bed.engine.append(sales(1, 41, 2));
    let (engine, mut answered) = (bed.engine.clone(), 0);
    step_until(&mut bed.exporter, "at rest", |step, _| {
        while answered < engine.pauses().len() {
            engine.append([switched(Switch::Paused, ACTOR_POSTGRES)]);
            answered += 1;
        }
        assert!(answered < 5, "paused again and again");
        step == Step::Idle && engine.exported() == engine.durable()
    });
    assert_eq!(bed.engine.pauses(), [1]);
}

#[test]
fn a_version_alone_is_taken_over_quietly() {
    let mut bed = bed();
    let events = bed.engine.events().len();
    bed.sql("UPDATE stock SET version = version + 1");
    bed.engine.append(sales(1, 41, 2));
    bed.drain();
    assert_exported(&bed.engine, &bed.url);
    assert_eq!((bed.engine.events().len(), bed.exporter.status().conflicts()), (events, 1));
}

#[test]
fn a_stock_row_that_was_there_first_stands_and_the_item_stops() {
    let mut bed = bed();
    bed.sql("INSERT INTO stock (id, name, count, sale) VALUES (2, 'theirs', 7, 2), (3, 'same', 50, 0)");
    bed.engine.append([created(2, 50), created(3, 50)]);
    bed.engine.append(sales(2, 1, 1));
    bed.drain();
    let theirs = "SELECT name, count, held, sale, version FROM stock WHERE id = 2";
    let look = |shop: &mut Client| {
        let row = shop.query_one(theirs, &[]).expect("a row");
        (row.get::<_, String>(0), row.get(1), row.get(2), row.get(3), row.get(4))
    };
    let before = ("theirs".to_owned(), 7_i64, 0_i64, 2_i64, 0_i64);
    assert_eq!((look(&mut bed.shop), bed.engine.pauses()), (before.clone(), vec![2]));
    assert!(bed.engine.said().contains("a row of somebody else was there before"), "{}", bed.engine.said());
    // It stays so whatever is sold, and in another process.
    bed.engine.append(sales(2, 2, 3));
    bed.drain();
    let paused = Fact::ItemSwitched {
        at_ms: UnixMillis(1),
        item: item(2),
        switch: Switch::Paused,
        actor: ACTOR_POSTGRES,
        key: b"",
    };
    bed.engine.append([paused]);
    bed.restart(2);
    bed.engine.append(sales(2, 5, 1));
    bed.drain();
    assert_eq!(look(&mut bed.shop), before);
    // The way out: the shop deletes it, and the engine's books are written.
    bed.sql("DELETE FROM stock WHERE id = 2");
    bed.restart(3);
    bed.settle();
    assert_exported(&bed.engine, &bed.url);
}

#[test]
fn a_locked_row_waits_and_orders_do_not() {
    let mut bed = bed();
    let mut other = client(&bed.url);
    let mut lock = other.transaction().expect("begun");
    lock.execute("UPDATE stock SET count = count + 1", &[]).expect("locked");
    bed.engine.append(sales(1, 41, 10));
    bed.drain();
    assert_eq!((bed.stock(), rows(&mut bed.shop).orders.len()), ((60, 0, 40), 50));
    assert_eq!(bed.exporter.status().deferred(), 1);
    // What the row is owed outlives the process.
    bed.restart(2);
    bed.drain();
    lock.rollback().expect("rolled back");
    bed.settle();
    assert_exported(&bed.engine, &bed.url);
    assert_eq!(
        (bed.engine.asked(), bed.engine.pauses(), bed.exporter.status().deferred()),
        (vec![], vec![], 0)
    );
}

#[test]
fn a_locked_table_waits_and_orders_do_not() {
    let mut bed = bed();
    let mut other = client(&bed.url);
    let mut lock = other.transaction().expect("begun");
    lock.batch_execute("LOCK TABLE stock IN ACCESS EXCLUSIVE MODE").expect("locked");
    // Long enough for the looks at the rows, which run into the lock as well, to come round.
    let begin = Instant::now();
    let mut sold = 40;
    while begin.elapsed() < Duration::from_secs(8) && sold < 90 {
        bed.engine.append(sales(1, sold + 1, 1));
        sold += 1;
        let engine = bed.engine.clone();
        step_until(&mut bed.exporter, "an order", |_, _| engine.exported() == engine.durable());
        let orders: i64 = bed.shop.query_one("SELECT count(*) FROM stock_order", &[]).expect("orders").get(0);
        assert_eq!(orders, i64::from(sold));
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert_eq!(bed.exporter.status().connects(), 1, "{}", bed.engine.said());
    lock.rollback().expect("rolled back");
    bed.settle();
    assert_exported(&bed.engine, &bed.url);
}
