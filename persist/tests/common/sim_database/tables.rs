//! The rows of the simulated database, and the way back from every change.

use std::collections::BTreeMap;
use std::sync::Arc;

use stampede_persist::export::store::{
    CursorRow, Order, OrderRecord, PaymentRow, Piles, StockRecord, StockRow,
};

/// The settings that `stock` and `stampede_item` both hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    pub name: String,
    pub price_minor: i64,
    pub currency: String,
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    pub cap: i32,
    pub payment: String,
    pub hold_ms: i64,
    pub ticket: String,
    pub challenge: String,
    pub min_level: i32,
    pub min_account_age_s: i64,
    pub admit_per_s: i64,
}

impl Spec {
    /// The defaults of the table.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            price_minor: 0,
            currency: "CNY".to_owned(),
            opens_at_ms: 0,
            closes_at_ms: 253_402_300_799_999,
            cap: 1,
            payment: "on_order".to_owned(),
            hold_ms: 0,
            ticket: "never".to_owned(),
            challenge: "never".to_owned(),
            min_level: 0,
            min_account_age_s: 0,
            admit_per_s: 0,
        }
    }
}

/// A row of `stock`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockLine {
    pub row: StockRow,
    pub spec: Arc<Spec>,
    pub paused: bool,
    pub closed: bool,
    pub ended: bool,
}

impl StockLine {
    /// What `INSERT INTO stock (id, name, count)` makes.
    pub fn new(name: impl Into<String>, count: i64) -> Self {
        let row = StockRow { version: 0, piles: Piles { count, held: 0, sale: 0 } };
        Self { row, spec: Arc::new(Spec::named(name)), paused: false, closed: false, ended: false }
    }

    pub(super) fn record(&self, id: i64) -> StockRecord {
        let spec = &*self.spec;
        StockRecord {
            id,
            name: spec.name.clone(),
            piles: self.row.piles,
            price_minor: spec.price_minor,
            currency: spec.currency.clone(),
            opens_at_ms: spec.opens_at_ms,
            closes_at_ms: spec.closes_at_ms,
            cap: spec.cap,
            payment: spec.payment.clone(),
            hold_ms: spec.hold_ms,
            ticket: spec.ticket.clone(),
            challenge: spec.challenge.clone(),
            min_level: spec.min_level,
            min_account_age_s: spec.min_account_age_s,
            admit_per_s: spec.admit_per_s,
            paused: self.paused,
            closed: self.closed,
            ended: self.ended,
            has_null: false,
        }
    }
}

/// A row of `stampede_item`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Books {
    pub spec: Arc<Spec>,
    pub facts: Piles,
    pub outside: i64,
    pub paused: bool,
    pub closed: bool,
    pub ended: bool,
    pub row: Option<StockRow>,
    pub pause_reason: Option<String>,
}

/// A row of `stock_order`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderLine {
    pub sid: i64,
    pub name: Option<String>,
    pub record: OrderRecord,
    pub update_time_ms: i64,
    /// 0 = none.
    pub end_time_ms: i64,
    pub lsn: i64,
}

impl OrderLine {
    pub(super) fn of(order: &Order<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("escaped text is UTF-8");
        Self {
            sid: i64::from(order.id.item().get()),
            name: order.name.map(str::to_owned),
            record: OrderRecord {
                id: order.id.get().cast_signed(),
                quantity: order.quantity.cast_signed(),
                state: order.state.name().to_owned(),
                create_time_ms: order.created_at_ms.0.cast_signed(),
                pay_by_ms: order.pay_by_ms.map_or(0, |at| at.0.cast_signed()),
                buyer: text(order.buyer),
                idem_key: order.key.map(text).unwrap_or_default(),
                payment_ref: order.payment_ref.map(text).unwrap_or_default(),
                price_minor: order.price.map_or(0, |price| price.minor.cast_signed()),
                currency: order.price.map(|price| price.currency().to_owned()).unwrap_or_default(),
                refund_ref: order.refund_ref.map(text).unwrap_or_default(),
                refunded: order.refunded.cast_signed(),
                has_null: false,
            },
            update_time_ms: order.updated_at_ms.0.cast_signed(),
            end_time_ms: order.ended_at_ms.map_or(0, |at| at.0.cast_signed()),
            lsn: order.lsn.0.cast_signed(),
        }
    }

    /// Whether both are one order, whatever has become of it.
    pub(super) fn is_same_order(&self, other: &Self) -> bool {
        let of = |line: &Self| {
            let record = &line.record;
            (line.sid, record.buyer.clone(), record.quantity, record.create_time_ms)
        };
        of(self) == of(other)
    }

    /// What an older row knows and this one may not.
    pub(super) fn keep_of(&mut self, older: &Self) {
        self.name.clone_from(&older.name);
        self.update_time_ms = self.update_time_ms.max(older.update_time_ms);
        if self.end_time_ms == 0 {
            self.end_time_ms = older.end_time_ms;
        }
        if !older.record.idem_key.is_empty() {
            self.record.idem_key.clone_from(&older.record.idem_key);
        }
        if self.record.payment_ref.is_empty() {
            self.record.payment_ref.clone_from(&older.record.payment_ref);
        }
        if self.record.refund_ref.is_empty() {
            self.record.refund_ref.clone_from(&older.record.refund_ref);
        }
        if !older.record.currency.is_empty() {
            self.record.price_minor = older.record.price_minor;
            self.record.currency.clone_from(&older.record.currency);
        }
    }

    pub(super) fn update(&mut self, order: &Order<'_>) {
        let newer = Self::of(order);
        self.record.state = newer.record.state;
        (self.update_time_ms, self.lsn) = (newer.update_time_ms, newer.lsn);
        if newer.end_time_ms != 0 {
            self.end_time_ms = newer.end_time_ms;
        }
        if order.payment_ref.is_some() {
            self.record.payment_ref = newer.record.payment_ref;
        }
        if order.refund_ref.is_some() {
            self.record.refund_ref = newer.record.refund_ref;
        }
        self.record.refunded = self.record.refunded.max(newer.record.refunded);
        if order.pay_by_ms.is_some() {
            self.record.pay_by_ms = newer.record.pay_by_ms;
        }
    }
}

/// A row of `stock_payment`, without its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentLine {
    pub sid: i64,
    pub kind: String,
    pub payment_ref: String,
    pub refund_ref: String,
    pub quantity: i32,
    pub create_time_ms: i64,
}

impl PaymentLine {
    pub(super) fn of(row: &PaymentRow<'_>) -> ((i64, i64), Self) {
        let line = Self {
            sid: i64::from(row.order.item().get()),
            kind: row.kind.name().to_owned(),
            payment_ref: row.payment_ref.to_owned(),
            refund_ref: row.refund_ref.to_owned(),
            quantity: row.units.cast_signed(),
            create_time_ms: row.at_ms.0.cast_signed(),
        };
        ((row.order.get().cast_signed(), row.lsn.0.cast_signed()), line)
    }
}

/// A row of `stampede_blocked`.
pub type BlockedLine = (String, i64, i64);
/// A row of `stampede_set_aside`: LSN, kind, what, reason, the id of an order that somebody else's row has.
pub type AsideLine = (i64, String, String, String, Option<i64>);

/// The row of `stampede_schema`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaRow {
    pub version: i32,
    pub database: [u8; 16],
}

/// Everything that is in the database, as plain values.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tables {
    pub schema: Option<SchemaRow>,
    /// By log.
    pub cursors: BTreeMap<String, CursorRow>,
    /// By id.
    pub stock: BTreeMap<i64, StockLine>,
    /// By id of the item.
    pub books: BTreeMap<i64, Books>,
    /// By id.
    pub orders: BTreeMap<i64, OrderLine>,
    /// By the order's id and the fact.
    pub payments: BTreeMap<(i64, i64), PaymentLine>,
    /// Actor, since when, LSN; by buyer.
    pub blocked: BTreeMap<String, BlockedLine>,
    /// In the order in which they were kept.
    pub set_aside: Vec<AsideLine>,
}

/// How a change is taken back.
enum Back {
    Schema(Option<SchemaRow>),
    Cursor(String, Option<CursorRow>),
    Stock(i64, Option<StockLine>),
    Books(i64, Option<Books>),
    Order(i64, Option<OrderLine>),
    Payment((i64, i64)),
    Blocked(String, Option<BlockedLine>),
    SetAside,
}

/// A place in the undo log.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

/// The changes of the transaction that is open, the last one last.
#[derive(Default)]
pub(super) struct Undo(Vec<Back>);

impl Undo {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.0.len())
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn back_to_start(&mut self, tables: &mut Tables) {
        self.back_to(Mark(0), tables);
    }

    pub(super) fn back_to(&mut self, mark: Mark, tables: &mut Tables) {
        while self.0.len() > mark.0 {
            match self.0.pop().expect("longer than the mark") {
                Back::Schema(old) => tables.schema = old,
                Back::Cursor(key, old) => put(&mut tables.cursors, key, old),
                Back::Stock(key, old) => put(&mut tables.stock, key, old),
                Back::Books(key, old) => put(&mut tables.books, key, old),
                Back::Order(key, old) => put(&mut tables.orders, key, old),
                Back::Payment(key) => drop(tables.payments.remove(&key)),
                Back::Blocked(key, old) => put(&mut tables.blocked, key, old),
                Back::SetAside => drop(tables.set_aside.pop()),
            }
        }
    }
}

fn put<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(table.insert(key, value)),
        None => drop(table.remove(&key)),
    }
}

/// Changes of rows, each with its way back.
impl Tables {
    pub(super) fn set_schema(&mut self, undo: &mut Undo, row: SchemaRow) {
        undo.0.push(Back::Schema(self.schema.replace(row)));
    }

    pub(super) fn set_cursor(&mut self, undo: &mut Undo, row: CursorRow) {
        let key = row.log_id.clone();
        undo.0.push(Back::Cursor(key.clone(), self.cursors.insert(key, row)));
    }

    pub(super) fn set_stock(&mut self, undo: &mut Undo, id: i64, line: StockLine) {
        undo.0.push(Back::Stock(id, self.stock.insert(id, line)));
    }

    pub(super) fn set_books(&mut self, undo: &mut Undo, id: i64, books: Books) {
        undo.0.push(Back::Books(id, self.books.insert(id, books)));
    }

    pub(super) fn clear_books(&mut self, undo: &mut Undo) {
        for (id, books) in std::mem::take(&mut self.books) {
            undo.0.push(Back::Books(id, Some(books)));
        }
    }

    pub(super) fn set_order(&mut self, undo: &mut Undo, line: OrderLine) {
        let id = line.record.id;
        undo.0.push(Back::Order(id, self.orders.insert(id, line)));
    }

    pub(super) fn add_payment(&mut self, undo: &mut Undo, key: (i64, i64), line: PaymentLine) {
        assert!(self.payments.insert(key, line).is_none(), "a row that is there stays");
        undo.0.push(Back::Payment(key));
    }

    pub(super) fn set_blocked(&mut self, undo: &mut Undo, buyer: &str, line: Option<BlockedLine>) {
        let old = match line {
            Some(line) => self.blocked.insert(buyer.to_owned(), line),
            None => self.blocked.remove(buyer),
        };
        undo.0.push(Back::Blocked(buyer.to_owned(), old));
    }

    pub(super) fn add_set_aside(&mut self, undo: &mut Undo, line: AsideLine) {
        self.set_aside.push(line);
        undo.0.push(Back::SetAside);
    }
}

/// A constraint that somebody has put on a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its name.
    pub name: String,
    /// What it refuses.
    pub rule: Rule,
    /// Checked at the commit, unless the transaction asks for it at once.
    pub deferred: bool,
}

/// What a constraint refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Orders of this buyer.
    Buyer(String),
    /// Payments with this reference.
    Payment(String),
    /// A stock row of this item with no more than this many units available.
    CountUpTo { id: i64, count: i64 },
}

impl Refusal {
    pub(super) fn hits_order(&self, line: &OrderLine) -> bool {
        matches!(&self.rule, Rule::Buyer(buyer) if *buyer == line.record.buyer)
    }

    pub(super) fn hits_payment(&self, line: &PaymentLine) -> bool {
        matches!(&self.rule, Rule::Payment(reference) if *reference == line.payment_ref)
    }

    pub(super) fn hits_stock(&self, id: i64, line: &StockLine) -> bool {
        matches!(self.rule, Rule::CountUpTo { id: of, count } if of == id && line.row.piles.count <= count)
    }
}

/// The name of the table's own constraint that a stock row breaks; the first by name of several.
pub(super) fn broken_check(line: &StockLine) -> Option<&'static str> {
    let (piles, spec) = (line.row.piles, &*line.spec);
    let checks = [
        (piles.count >= 0, "stock_count_check"),
        (piles.held >= 0, "stock_held_check"),
        (piles.sale >= 0, "stock_sale_check"),
        (spec.price_minor >= 0, "stock_price_minor_check"),
        (spec.currency.bytes().all(|letter| letter.is_ascii_uppercase()), "stock_currency_check"),
        (spec.opens_at_ms >= 0, "stock_opens_at_ms_check"),
        (spec.closes_at_ms > spec.opens_at_ms, "stock_check"),
        (spec.cap >= 1, "stock_cap_check"),
        (spec.hold_ms >= 0, "stock_hold_ms_check"),
    ];
    checks.iter().filter(|(holds, _)| !holds).map(|(_, name)| *name).min()
}
