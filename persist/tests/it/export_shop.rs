//! The same hand in two databases: what somebody else does to the simulated one and to a
//! real one, and both read as the same plain values.

use std::sync::Arc;
use std::time::Instant;

use postgres::error::SqlState;
use postgres::{Client, Row};
use stampede_core::types::Lsn;
use stampede_persist::export::Nonce;
use stampede_persist::export::store::{CursorRow, OrderRecord, Piles, StockRow};
use stampede_persist::log::block::ChainHash;

use crate::export_bed::{DEADLINE, client};
use crate::sim_database::{
    Books, OrderLine, PaymentLine, Refusal, Rule, SimDatabase, Spec, StockLine, Tables,
};
use crate::sim_disk::Rng;

/// Somebody who works in both.
pub(crate) struct Shop {
    sim: SimDatabase,
    real: Client,
    /// Holds rows locked in the real one.
    locker: Client,
    locked: bool,
    refused: bool,
}

impl Shop {
    pub(crate) fn new(sim: SimDatabase, url: &str) -> Self {
        Self { sim, real: client(url), locker: client(url), locked: false, refused: false }
    }

    fn sql(&mut self, sql: &str) {
        self.real.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Whether the database let the statement through; its own constraints bind the shop as well.
    fn allowed(&mut self, sql: &str) -> bool {
        match self.real.batch_execute(sql) {
            Ok(()) => true,
            Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => false,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// One deed, by chance. `item` and `order` are of the sale, and `next_order` is none yet.
    pub(crate) fn meddle(&mut self, rng: &mut Rng, item: i64, order: Option<i64>, next_order: i64) -> String {
        let deed = rng.below(14);
        match deed {
            0..=2 => self.restock(rng, item),
            3 => self.tamper(rng, item),
            4 => self.delete_stock(item),
            5 => self.insert_stock(rng, item),
            6 => order.into_iter().for_each(|order| self.delete_order(order)),
            7 => self.insert_order(next_order),
            8 => self.switch_lock(item),
            9 | 10 => self.switch_refusals(rng, item),
            11 => self.block(rng),
            12 => self.delete_books(item),
            _ => self.kill_sessions(),
        }
        format!("deed {deed} at item {item}, order {order:?}")
    }

    fn restock(&mut self, rng: &mut Rng, id: i64) {
        let (delta, bump) = (rng.below(60) as i64 - 30, rng.below(2) as i64);
        if self.locked {
            return;
        }
        let edit = format!(
            "UPDATE stock SET count = greatest(count + {delta}, 0), version = version + {bump} WHERE id = {id}"
        );
        if !self.allowed(&edit) {
            return;
        }
        self.sim.edit_stock(id, |line| {
            line.row.piles.count = (line.row.piles.count + delta).max(0);
            line.row.version += bump;
        });
    }

    fn tamper(&mut self, rng: &mut Rng, id: i64) {
        let (held, sale) = (rng.below(3) as i64, rng.below(3) as i64);
        if self.locked {
            return;
        }
        if !self
            .allowed(&format!("UPDATE stock SET held = held + {held}, sale = sale + {sale} WHERE id = {id}"))
        {
            return;
        }
        self.sim.edit_stock(id, |line| {
            line.row.piles.held += held;
            line.row.piles.sale += sale;
        });
    }

    fn delete_stock(&mut self, id: i64) {
        if !self.locked {
            self.sql(&format!("DELETE FROM stock WHERE id = {id}"));
            self.sim.delete_stock(id);
        }
    }

    fn insert_stock(&mut self, rng: &mut Rng, id: i64) {
        if self.locked || self.sim.look(|tables| tables.stock.contains_key(&id)) {
            return;
        }
        let count = rng.below(50) as i64;
        if !self.allowed(&format!("INSERT INTO stock (id, name, count) VALUES ({id}, 'theirs', {count})")) {
            return;
        }
        self.sim.insert_stock(id, StockLine::new("theirs", count));
    }

    /// Books that are kept in memory would hide it: the connections go as well.
    fn delete_books(&mut self, id: i64) {
        self.sql(&format!("DELETE FROM stampede_item WHERE id = {id}"));
        self.sim.delete_books(id);
        self.kill_sessions();
    }

    /// Ends the exporters' connections, and waits until the real one is gone.
    fn kill_sessions(&mut self) {
        const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'stampede'";
        let deadline = Instant::now() + DEADLINE;
        while !self.real.query(KILL, &[]).expect("killed").is_empty() {
            assert!(Instant::now() < deadline, "a connection does not end");
        }
        self.sim.kill_sessions();
    }

    fn delete_order(&mut self, id: i64) {
        self.sql(&format!("DELETE FROM stock_order WHERE id = {id}"));
        self.sim.delete_order(id);
    }

    fn insert_order(&mut self, id: i64) {
        if self.sim.look(|tables| tables.orders.contains_key(&id)) {
            return;
        }
        self.sql(&format!(
            "INSERT INTO stock_order (id, sid, buyer, quantity, state, create_time, update_time) \
             VALUES ({id}, {}, 'me', 9, 'paid', to_timestamp(1), to_timestamp(1))",
            id >> 32
        ));
        let record = OrderRecord {
            id,
            quantity: 9,
            state: "paid".to_owned(),
            create_time_ms: 1_000,
            pay_by_ms: 0,
            buyer: "me".to_owned(),
            idem_key: String::new(),
            payment_ref: String::new(),
            price_minor: 0,
            currency: String::new(),
            refund_ref: String::new(),
            refunded: 0,
            has_null: false,
        };
        self.sim.insert_order(OrderLine {
            sid: id >> 32,
            name: None,
            record,
            update_time_ms: 1_000,
            end_time_ms: 0,
            lsn: 0,
        });
    }

    fn block(&mut self, rng: &mut Rng) {
        let buyer = format!("rude-{}", rng.below(7));
        self.sql(&format!(
            "INSERT INTO stampede_blocked (buyer) VALUES ('{buyer}') \
             ON CONFLICT (buyer) DO UPDATE SET actor = '', lsn = 0"
        ));
        self.sim.block_by_hand(&buyer);
    }

    /// Locks a row, or lets all go.
    fn switch_lock(&mut self, id: i64) {
        if self.locked {
            self.let_go();
            return;
        }
        let lock = format!("BEGIN; SELECT FROM stock WHERE id = {id} FOR UPDATE");
        self.locker.batch_execute(&lock).expect("locked");
        self.sim.lock_stock(id, true);
        self.locked = true;
    }

    pub(crate) fn let_go(&mut self) {
        self.locker.batch_execute("ROLLBACK").expect("let go");
        for id in self.sim.look(|tables| tables.stock.keys().copied().collect::<Vec<_>>()) {
            self.sim.lock_stock(id, false);
        }
        self.locked = false;
    }

    fn switch_refusals(&mut self, rng: &mut Rng, id: i64) {
        if self.refused {
            self.refuse_no_more();
            return;
        }
        // A constraint waits for whoever holds a row.
        if self.locked {
            return;
        }
        let count = rng.below(40) as i64;
        let him = crate::export_sale::buyer(5 + rng.below(3));
        self.sql(&format!(
            "ALTER TABLE stock ADD CONSTRAINT few CHECK (id <> {id} OR count > {count}) NOT VALID; \
             ALTER TABLE stock_order ADD CONSTRAINT him CHECK (buyer <> '{him}') NOT VALID; \
             CREATE OR REPLACE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.buyer = 'buyer-9' THEN \
                     RAISE 'new row for relation \"stock_order\" violates check constraint \"late\"'; \
                 END IF; RETURN NEW; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON stock_order \
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()"
        ));
        let refuse = |name: &str, rule, deferred| {
            self.sim.refuse(Refusal { name: name.to_owned(), rule, deferred });
        };
        refuse("few", Rule::CountUpTo { id, count }, false);
        refuse("him", Rule::Buyer(him), false);
        refuse("late", Rule::Buyer("buyer-9".to_owned()), true);
        self.refused = true;
    }

    pub(crate) fn refuse_no_more(&mut self) {
        if self.refused && !self.locked {
            self.sql(
                "ALTER TABLE stock DROP CONSTRAINT few; ALTER TABLE stock_order DROP CONSTRAINT him; \
                 DROP TRIGGER late ON stock_order",
            );
            self.sim.refuse_no_more();
            self.refused = false;
        }
    }

    /// What is in the simulated database, and what is in the real one.
    pub(crate) fn both(&mut self) -> (Tables, Tables) {
        let sim = self.sim.tables();
        let mut real = read(&mut self.real);
        // Each database draws its own identity.
        real.schema = sim.schema;
        (sim, real)
    }
}

fn read(client: &mut Client) -> Tables {
    let mut tables = Tables::default();
    for row in client.query(STOCK, &[]).expect("stock") {
        let (spec, piles) =
            (Arc::new(spec(&row)), Piles { count: row.get(13), held: row.get(14), sale: row.get(15) });
        let (paused, closed, ended) = (row.get(16), row.get(17), row.get(18));
        let row_now = StockRow { version: row.get(19), piles };
        tables.stock.insert(row.get(20), StockLine { row: row_now, spec, paused, closed, ended });
    }
    for row in client.query(BOOKS, &[]).expect("books") {
        let facts = Piles { count: row.get(13), held: row.get(14), sale: row.get(15) };
        let left = row.get::<_, Option<i64>>(19).map(|version| StockRow {
            version,
            piles: Piles { count: row.get(22), held: row.get(23), sale: row.get(24) },
        });
        let books = Books {
            spec: Arc::new(spec(&row)),
            facts,
            outside: row.get(21),
            paused: row.get(16),
            closed: row.get(17),
            ended: row.get(18),
            row: left,
            pause_reason: row.get(25),
        };
        tables.books.insert(row.get(20), books);
    }
    for row in client.query(ORDERS, &[]).expect("orders") {
        let line = order_line(&row);
        tables.orders.insert(line.record.id, line);
    }
    for row in client.query(PAYMENTS, &[]).expect("payments") {
        let line = PaymentLine {
            sid: row.get(2),
            kind: row.get(3),
            payment_ref: row.get(4),
            refund_ref: row.get(5),
            quantity: row.get(6),
            create_time_ms: row.get(7),
        };
        tables.payments.insert((row.get(0), row.get(1)), line);
    }
    for row in
        client.query("SELECT log_id, epoch, lsn, nonce, chain FROM stampede_cursor", &[]).expect("cursor")
    {
        let (epoch, lsn): (i64, i64) = (row.get(1), row.get(2));
        let (nonce, chain) = (row.get::<_, Option<&str>>(3), row.get::<_, Option<&str>>(4));
        let row = CursorRow {
            log_id: row.get(0),
            epoch: epoch as u64,
            nonce: nonce.and_then(Nonce::from_hex),
            lsn: Lsn(lsn as u64),
            chain: chain.map(chain_of),
            touched_us: 0,
        };
        tables.cursors.insert(row.log_id.clone(), row);
    }
    let blocked = "SELECT buyer, actor, CASE WHEN lsn = 0 THEN 0 ELSE (extract(epoch FROM since) * 1000)::bigint END, \
         lsn FROM stampede_blocked";
    for row in client.query(blocked, &[]).expect("blocked") {
        tables.blocked.insert(row.get(0), (row.get(1), row.get(2), row.get(3)));
    }
    let aside = "SELECT lsn, kind, what, reason, order_id FROM stampede_set_aside ORDER BY id";
    for row in client.query(aside, &[]).expect("set aside") {
        tables.set_aside.push((row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)));
    }
    tables
}

fn chain_of(text: &str) -> ChainHash {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal digits");
    std::array::from_fn(byte)
}

const STOCK: &str = "SELECT name, price_minor, currency, opens_at_ms, closes_at_ms, cap, payment, hold_ms, ticket, \
     challenge, min_level, min_account_age_s, admit_per_s, count, held, sale, paused, closed, ended, version, id \
     FROM stock";
const BOOKS: &str = "SELECT name, price_minor, currency, opens_at_ms, closes_at_ms, cap, payment, hold_ms, ticket, \
     challenge, min_level, min_account_age_s, admit_per_s, count, held, sale, paused, closed, ended, row_version, id, \
     outside, row_count, row_held, row_sale, pause_reason FROM stampede_item";
const ORDERS: &str = "SELECT id, sid, name, buyer, quantity, state, (extract(epoch FROM create_time) * 1000)::bigint, \
     coalesce((extract(epoch FROM pay_by) * 1000)::bigint, 0), (extract(epoch FROM update_time) * 1000)::bigint, \
     coalesce(payment_ref, ''), coalesce(idem_key, ''), lsn, coalesce(price_minor, 0), \
     coalesce(currency, ''), coalesce(refund_ref, ''), refunded, \
     coalesce((extract(epoch FROM end_time) * 1000)::bigint, 0) FROM stock_order";
pub(crate) const PAYMENTS: &str = "SELECT order_id, lsn, sid, kind, coalesce(payment_ref, ''), coalesce(refund_ref, ''), \
     quantity, (extract(epoch FROM create_time) * 1000)::bigint FROM stock_payment ORDER BY lsn";

fn spec(row: &Row) -> Spec {
    Spec {
        name: row.get(0),
        price_minor: row.get(1),
        currency: row.get(2),
        opens_at_ms: row.get(3),
        closes_at_ms: row.get(4),
        cap: row.get(5),
        payment: row.get(6),
        hold_ms: row.get(7),
        ticket: row.get(8),
        challenge: row.get(9),
        min_level: row.get(10),
        min_account_age_s: row.get(11),
        admit_per_s: row.get(12),
    }
}

fn order_line(row: &Row) -> OrderLine {
    let record = OrderRecord {
        id: row.get(0),
        quantity: row.get(4),
        state: row.get(5),
        create_time_ms: row.get(6),
        pay_by_ms: row.get(7),
        buyer: row.get(3),
        idem_key: row.get(10),
        payment_ref: row.get(9),
        price_minor: row.get(12),
        currency: row.get(13),
        refund_ref: row.get(14),
        refunded: row.get(15),
        has_null: false,
    };
    let (sid, name, update_time_ms, lsn) = (row.get(1), row.get(2), row.get(8), row.get(11));
    OrderLine { sid, name, record, update_time_ms, end_time_ms: row.get(16), lsn }
}
