//! A copy of every item's books and orders, made from facts alone: reconciliation compares the
//! engine's memory and Postgres with it.
//!
//! [`super::books`] checks each fact and keeps the piles; this file keeps the orders, each with
//! everything that its facts say. Pure memory: about 120 bytes and the buyer's name per order, as
//! much for each late payment and refund. Next: [`super::mirror`], which feeds it from the files.

use std::collections::BTreeMap;

use stampede_core::fact::{Fact, ImportedMoney};
use stampede_core::item::{ItemSpec, OrderState};
use stampede_core::money::{MoneyKind, Price, tell};
use stampede_core::record::{OrderRecord, RecordDigest};
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};

use super::books::{Books, ItemTotals};

/// The copy. See the module's text.
pub struct Replica {
    secret: HashSecret,
    books: Books,
    orders: BTreeMap<ItemId, Vec<Row>>,
    /// What a unit costs now: older facts (November 2026 and before) lack the price.
    prices: BTreeMap<ItemId, Price>,
    payments: BTreeMap<(OrderId, Lsn), Payment>,
    subjects: Vec<u8>,
}

/// A late payment, its return, or a refund, as `stock_payment` has it. Its references are hashed, zero = none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payment {
    /// What was reported.
    pub kind: MoneyKind,
    /// When.
    pub at_ms: UnixMillis,
    /// Units given back.
    pub units: u32,
    /// The late payment's reference.
    pub payment_ref_hash: u64,
    /// The refund's own reference.
    pub refund_ref_hash: u64,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("items", &self.books.items().len()).finish_non_exhaustive()
    }
}

/// An order; the rows of an item lie in the order of `seq`.
struct Row {
    seq: u32,
    quantity: Quantity,
    state: OrderState,
    subject_len: u8,
    subject_at: u64,
    created_at_ms: UnixMillis,
    pay_by_ms: UnixMillis,
    lsn: Lsn,
    state_lsn: Lsn,
    key_hash: u64,
    payment_ref_hash: u64,
    refund_ref_hash: u64,
    refunded: u32,
    price: Price,
}

impl Replica {
    /// A copy of nothing; `secret` is that of the log's control file.
    pub fn new(secret: HashSecret) -> Self {
        let (orders, prices) = (BTreeMap::new(), BTreeMap::new());
        let payments = BTreeMap::new();
        Self { secret, books: Books::default(), orders, prices, payments, subjects: Vec::new() }
    }

    /// Loads a row of a snapshot.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        self.books.row(row)?;
        match *row {
            StateRow::Money(money) => {
                let hash = self.hash(money.reference);
                let hashes = match money.kind {
                    MoneyKind::Refund => Some((0, hash)),
                    MoneyKind::LatePayment => Some((hash, 0)),
                    MoneyKind::LateReturned => Some((money.reference_hash, hash)),
                    MoneyKind::Payment | MoneyKind::Extension | MoneyKind::Ended => None,
                };
                // Money that came with an imported order has no time.
                if let Some(hashes) = hashes.filter(|_| money.at_ms.0 != 0) {
                    self.pay((money.order, money.lsn), (money.kind, money.at_ms), money.units, hashes);
                }
                let found = self.orders.get_mut(&money.order.item());
                let found =
                    found.and_then(|rows| find(rows, money.order.seq()).and_then(|at| rows.get_mut(at)));
                match (found, money.kind) {
                    (Some(row), MoneyKind::Payment) => tell(&mut row.payment_ref_hash, money.reference_hash),
                    (Some(row), MoneyKind::Refund) => tell(&mut row.refund_ref_hash, money.reference_hash),
                    _ => {}
                }
            }
            StateRow::Item { item, spec, .. } => drop(self.prices.insert(item, price(&spec))),
            _ => {}
        }
        if let Some(record) = OrderRecord::of_row(row) {
            self.place(&record);
        }
        Ok(())
    }

    /// Enters a fact.
    ///
    /// # Errors
    /// Why it contradicts those before it.
    pub fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.books.fact(fact)?;
        match *fact {
            Fact::ItemCreated { item, spec, .. } | Fact::ItemChanged { item, spec, .. } => {
                self.prices.insert(item, price(&spec));
            }
            Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price } => {
                let times = (at_ms, pay_by_ms);
                let price = price.known().or_else(|| self.prices.get(&order.item()).copied());
                let money = ImportedMoney { price: price.unwrap_or(Price::UNKNOWN), ..ImportedMoney::NONE };
                self.place_new(lsn, (order, quantity, state), times, (subject, key, &[]), &money);
            }
            Fact::OrderImported {
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                money,
                ..
            } => {
                let times = (created_at_ms, pay_by_ms);
                self.place_new(lsn, (order, quantity, state), times, (subject, key, payment_ref), &money);
            }
            Fact::OrderMoved { order, to, payment_ref, .. } => {
                let hash = self.hash(payment_ref);
                self.shift(lsn, order, Some(to), |row| tell(&mut row.payment_ref_hash, hash));
            }
            Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, .. } => {
                let hash = self.hash(refund_ref);
                self.pay((order, lsn), (MoneyKind::Refund, at_ms), units.get(), (0, hash));
                let to = (refunded == quantity).then_some(OrderState::Refunded);
                self.shift(lsn, order, to, |row| {
                    row.refunded = refunded.get();
                    tell(&mut row.refund_ref_hash, hash);
                });
            }
            Fact::HoldExtended { order, pay_by_ms, .. } => {
                self.shift(lsn, order, None, |row| row.pay_by_ms = pay_by_ms);
            }
            Fact::PaymentLate { at_ms, order, payment_ref, .. } => {
                let hash = self.hash(payment_ref);
                self.pay((order, lsn), (MoneyKind::LatePayment, at_ms), 0, (hash, 0));
                self.shift(lsn, order, None, |_| {});
            }
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, .. } => {
                let hashes = (self.hash(payment_ref), self.hash(refund_ref));
                self.pay((order, lsn), (MoneyKind::LateReturned, at_ms), 0, hashes);
                self.shift(lsn, order, None, |_| {});
            }
            Fact::EntryDrawn { order, to, pay_by_ms, .. } => {
                self.shift(lsn, order, Some(to), |row| row.pay_by_ms = pay_by_ms);
            }
            _ => {}
        }
        Ok(())
    }

    /// The keyed hash of a key or reference; zero for none.
    pub fn hash(&self, reference: &[u8]) -> u64 {
        if reference.is_empty() { 0 } else { self.secret.reference(reference) }
    }

    fn pay(
        &mut self,
        (order, lsn): (OrderId, Lsn),
        (kind, at_ms): (MoneyKind, UnixMillis),
        units: u32,
        (payment_ref_hash, refund_ref_hash): (u64, u64),
    ) {
        let payment = Payment { kind, at_ms, units, payment_ref_hash, refund_ref_hash };
        self.payments.insert((order, lsn), payment);
    }

    fn place_new(
        &mut self,
        lsn: Lsn,
        (order, quantity, state): (OrderId, Quantity, OrderState),
        (created_at_ms, pay_by_ms): (UnixMillis, UnixMillis),
        (subject, key, payment_ref): (&[u8], &[u8], &[u8]),
        money: &ImportedMoney<'_>,
    ) {
        let refund_ref_hash = self.hash(money.refund_ref);
        let (key_hash, payment_ref_hash) = (self.hash(key), self.hash(payment_ref));
        self.place(&OrderRecord {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn: lsn,
            key_hash,
            payment_ref_hash,
            refund_ref_hash,
            refunded: money.refunded,
            price: money.price,
            subject,
        });
    }

    fn place(&mut self, record: &OrderRecord<'_>) {
        let row = Row {
            seq: record.order.seq(),
            quantity: record.quantity,
            state: record.state,
            subject_len: record.subject.len() as u8,
            subject_at: self.subjects.len() as u64,
            created_at_ms: record.created_at_ms,
            pay_by_ms: record.pay_by_ms,
            lsn: record.lsn,
            state_lsn: record.state_lsn,
            key_hash: record.key_hash,
            payment_ref_hash: record.payment_ref_hash,
            refund_ref_hash: record.refund_ref_hash,
            refunded: record.refunded,
            price: record.price,
        };
        self.subjects.extend_from_slice(record.subject);
        let rows = self.orders.entry(record.order.item()).or_default();
        // Numbers ascend, except perhaps those of imported orders.
        let at = match rows.last() {
            Some(last) if last.seq >= row.seq => rows.partition_point(|other| other.seq < row.seq),
            _ => rows.len(),
        };
        rows.insert(at, row);
    }

    fn shift(&mut self, lsn: Lsn, order: OrderId, to: Option<OrderState>, change: impl FnOnce(&mut Row)) {
        let Some(rows) = self.orders.get_mut(&order.item()) else { return };
        if let Some(row) = find(rows, order.seq()).and_then(|at| rows.get_mut(at)) {
            (row.state, row.state_lsn) = (to.unwrap_or(row.state), lsn);
            change(row);
        }
    }

    // ---- reading ----

    /// The totals of each item.
    pub fn items(&self) -> &BTreeMap<ItemId, ItemTotals> {
        self.books.items()
    }

    /// How many orders it holds.
    pub fn orders(&self) -> u64 {
        self.orders.values().map(|rows| rows.len() as u64).sum()
    }

    /// One order.
    pub fn order(&self, order: OrderId) -> Option<OrderRecord<'_>> {
        let rows = self.orders.get(&order.item())?;
        find(rows, order.seq()).map(|at| self.record(order.item(), &rows[at]))
    }

    /// The order with the lowest number above `after`, over all items.
    pub fn next_order(&self, after: u64) -> Option<OrderRecord<'_>> {
        let (item_reached, seq_reached) = ((after >> 32) as u32, after as u32);
        let first = ItemId::new(u64::from(item_reached.max(1)))?;
        self.orders.range(first..).find_map(|(item, rows)| {
            let done = if item.get() == item_reached { seq_reached } else { 0 };
            rows.get(above(rows, done)).map(|row| self.record(*item, row))
        })
    }

    /// The late payment or refund of this order that this fact reported.
    pub fn payment(&self, order: OrderId, lsn: Lsn) -> Option<&Payment> {
        self.payments.get(&(order, lsn))
    }

    /// The late payments and refunds of orders with numbers above `after` and below `end`, by order and fact.
    pub fn payments(&self, after: u64, end: u64) -> impl Iterator<Item = (OrderId, Lsn)> {
        let all = self.payments.keys().copied();
        all.filter(move |(order, _)| order.get() > after && order.get() < end)
    }

    /// An item's orders with sequence numbers above `after`, up to and with `to`.
    pub fn records(&self, item: ItemId, after: u32, to: u32) -> impl Iterator<Item = OrderRecord<'_>> {
        let rows = self.orders.get(&item).map_or(&[][..], Vec::as_slice);
        let rows = rows[above(rows, after)..].iter().take_while(move |row| row.seq <= to);
        rows.map(move |row| self.record(item, row))
    }

    /// The digest of the same.
    pub fn digest(&self, item: ItemId, after: u32, to: u32) -> RecordDigest {
        let mut digest = RecordDigest::default();
        self.records(item, after, to).for_each(|record| digest.add(&record));
        digest
    }

    fn record(&self, item: ItemId, row: &Row) -> OrderRecord<'_> {
        let at = row.subject_at as usize;
        OrderRecord {
            order: OrderId::new(item, row.seq),
            quantity: row.quantity,
            state: row.state,
            created_at_ms: row.created_at_ms,
            pay_by_ms: row.pay_by_ms,
            lsn: row.lsn,
            state_lsn: row.state_lsn,
            key_hash: row.key_hash,
            payment_ref_hash: row.payment_ref_hash,
            refund_ref_hash: row.refund_ref_hash,
            refunded: row.refunded,
            price: row.price,
            subject: &self.subjects[at..at + usize::from(row.subject_len)],
        }
    }
}

fn price(spec: &ItemSpec<'_>) -> Price {
    Price { minor: spec.price_minor, currency: spec.currency }
}

/// The position of the order with this number: mostly the number itself, since gaps are rare.
fn find(rows: &[Row], seq: u32) -> Option<usize> {
    let guess = seq.wrapping_sub(1) as usize;
    match rows.get(guess) {
        Some(row) if row.seq == seq => Some(guess),
        _ => rows.binary_search_by_key(&seq, |row| row.seq).ok(),
    }
}

/// The position where the orders with numbers above this one begin.
fn above(rows: &[Row], seq: u32) -> usize {
    match find(rows, seq) {
        Some(at) => at + 1,
        None => rows.partition_point(|row| row.seq <= seq),
    }
}
