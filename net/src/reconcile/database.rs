//! Log = Postgres: every stock row, every order, every late payment and refund, at the cursor.
//!
//! A difference is only suspected at first. It counts when it is there again past everything that
//! was to be seen meanwhile; one of a stock row, when it lasts as long as there is patience, since
//! the exporter follows what others edit. Next: [`stampede_persist::export::look`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use stampede_core::item::OrderState;
use stampede_core::record::OrderRecord;
use stampede_core::types::{ItemId, Lsn, OrderId};
use stampede_persist::export::look::{
    self, AsideLook, Looker, OrderLook, PaymentLook, StockLook, StockNumbers,
};
use stampede_persist::export::refill::REFILLED;
use stampede_persist::export::{Database, text};
use stampede_persist::log::books::ItemTotals;
use stampede_persist::log::replica::{Payment, Replica};

use super::fields::Fields;
use super::follow::Follower;
use super::options::LOOK_EVERY;
use super::report::{Mismatch, Place, Report};
use super::trouble::Trouble;

/// Known differences that are named; more are counted.
const KNOWN_MAX: usize = 20;
/// Orders between two lines of progress.
const PROGRESS_ORDERS: u64 = 50_000;

/// Items that differ, with the first difference of each.
pub(super) type Differing = BTreeMap<ItemId, Mismatch>;

/// What a look came to.
#[derive(Default)]
pub(super) struct Looked {
    cursor: Option<Lsn>,
    differing: Differing,
    known: Vec<String>,
    known_total: usize,
    /// Why nothing could be compared.
    unable: Option<String>,
}

/// Compares all items, or these alone, at the first cursor that the replica can be brought to.
pub(super) fn look(
    database: &mut Database,
    log: &mut Follower,
    only: Option<&[ItemId]>,
    patience: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Looked, Trouble> {
    let deadline = Instant::now() + patience;
    let log_id = log.control().log_id;
    loop {
        let from = log.lsn();
        let mut comparison = Comparison::new(log, only, patience, progress);
        let wanted = look::look(database, log_id, only, &mut comparison);
        if matches!(wanted, Ok(true)) {
            comparison.missing_rows();
            comparison.missing_texts();
            comparison.missing_payments();
        }
        let Comparison { trouble, looked, cursor, .. } = comparison;
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        match wanted {
            Ok(true) => return Ok(looked),
            Ok(false) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Ok(false) => {
                let text = if cursor == Lsn::ZERO {
                    "nothing of this log is in Postgres yet".to_owned()
                } else {
                    format!("Postgres is at LSN {cursor} and does not come to LSN {from}")
                };
                return Ok(Looked { unable: Some(text), ..Looked::default() });
            }
            Err(error) => return Ok(Looked { unable: Some(error.to_string()), ..Looked::default() }),
        }
    }
}

/// Enters what is certain in the report; returns what is to be looked at again.
pub(super) fn note(looked: Looked, report: &mut Report) -> Differing {
    if let Some(reason) = looked.unable {
        report.unable.push(format!("Postgres: {reason}"));
        return Differing::new();
    }
    report.cursor = looked.cursor;
    report.known = looked.known;
    let more = looked.known_total.saturating_sub(report.known.len());
    if more > 0 {
        report.known.push(format!("and {more} more"));
    }
    looked.differing
}

/// Looks at the items that differed until they are found equal or the difference is certain.
pub(super) fn look_again(
    database: &mut Database,
    log: &mut Follower,
    mut differing: Differing,
    patience: Duration,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Trouble> {
    let deadline = Instant::now() + patience;
    while !differing.is_empty() {
        progress(&format!("Postgres: looking at {} items again", differing.len()));
        let items: Vec<ItemId> = differing.keys().copied().collect();
        let looked = look(database, log, Some(&items), patience, progress)?;
        if let Some(reason) = looked.unable {
            report.unable.push(format!("Postgres, items that differed at first: {reason}"));
            return Ok(());
        }
        let over = Instant::now() >= deadline;
        let orders = |mismatch: &Mismatch| mismatch.order.is_some() || mismatch.stray.is_some();
        let (certain, rest): (Differing, Differing) =
            looked.differing.into_iter().partition(|(_, mismatch)| over || orders(mismatch));
        certain.into_values().for_each(|mismatch| report.add(mismatch));
        differing = rest;
        if !differing.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

/// What Postgres says about one order, for showing.
pub(super) fn one(
    database: &mut Database,
    log: &Follower,
    order: OrderId,
) -> Result<(Lsn, Option<Fields>), Trouble> {
    let mut one = One { replica: log.replica(), order, cursor: Lsn::ZERO, found: None };
    let looked = look::look(database, log.control().log_id, Some(&[order.item()]), &mut one);
    looked.map_err(|error| Trouble::Unable(error.to_string()))?;
    Ok((one.cursor, one.found))
}

struct One<'a> {
    replica: &'a Replica,
    order: OrderId,
    cursor: Lsn,
    found: Option<Fields>,
}

impl Looker for One<'_> {
    fn cursor(&mut self, cursor: Lsn, _: Lsn) -> bool {
        self.cursor = cursor;
        true
    }
    fn aside(&mut self, _: &AsideLook<'_>) {}
    fn stock(&mut self, _: &StockLook) {}
    fn range(&mut self, _: i64, _: i64) {}
    fn order(&mut self, row: &OrderLook<'_>) {
        if row.id == self.order.get().cast_signed() {
            self.found = Some(fields(row, self.replica));
        }
    }
    fn range_done(&mut self) {}
    fn payment(&mut self, _: &PaymentLook<'_>) {}
    fn payments_done(&mut self) {}
    fn astray(&mut self, _: &OrderLook<'_>) {}
}

/// One look at everything.
struct Comparison<'a> {
    log: &'a mut Follower,
    only: Option<&'a [ItemId]>,
    patience: Duration,
    progress: &'a mut dyn FnMut(&str),
    cursor: Lsn,
    aside: HashSet<i64>,
    aside_moves: HashSet<i64>,
    /// Late payments and refunds that were set aside, by order and fact.
    aside_payments: HashSet<(u64, u64)>,
    /// Up to this fact they were exported by a program that wrote none.
    payments_after: Lsn,
    /// How many are missing for that reason.
    unwritten_payments: u64,
    /// Those of the range that were seen.
    seen_payments: BTreeSet<(OrderId, Lsn)>,
    /// Where the database was filled from a snapshot, which knows no texts: after the one LSN, up to
    /// the other.
    refilled: Vec<(Lsn, Lsn)>,
    /// Orders without a text for that reason.
    without_texts: u64,
    /// Items with a row or books in Postgres.
    stocked: HashSet<ItemId>,
    /// The last order that was compared, and where the range ends.
    done: u64,
    end: u64,
    /// Behind which order the range begins, and before which it ends.
    payments_range: (u64, u64),
    seen: u64,
    trouble: Option<Trouble>,
    looked: Looked,
}

impl<'a> Comparison<'a> {
    fn new(
        log: &'a mut Follower,
        only: Option<&'a [ItemId]>,
        patience: Duration,
        progress: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self {
            log,
            only,
            patience,
            progress,
            cursor: Lsn::ZERO,
            aside: HashSet::new(),
            aside_moves: HashSet::new(),
            aside_payments: HashSet::new(),
            payments_after: Lsn::ZERO,
            unwritten_payments: 0,
            seen_payments: BTreeSet::new(),
            refilled: Vec::new(),
            without_texts: 0,
            stocked: HashSet::new(),
            done: 0,
            end: 0,
            payments_range: (0, 0),
            seen: 0,
            trouble: None,
            looked: Looked::default(),
        }
    }

    fn known(&mut self, text: impl FnOnce() -> String) {
        self.looked.known_total += 1;
        if self.looked.known.len() < KNOWN_MAX {
            self.looked.known.push(text());
        }
    }

    /// Items of the log that Postgres does not know at all.
    fn missing_rows(&mut self) {
        let items = self.log.replica().items().keys().copied();
        let items = items.filter(|item| self.only.is_none_or(|only| only.contains(item)));
        let items: Vec<ItemId> = items.filter(|item| !self.stocked.contains(item)).collect();
        for item in items {
            let what = "it has no stock row and no books in Postgres".to_owned();
            self.differs(Mismatch::new(item, Place::Postgres, self.cursor, what));
        }
    }

    fn missing_texts(&mut self) {
        let many = self.without_texts;
        if many > 0 {
            self.known(|| {
                format!(
                    "{many} orders have no idempotency key or payment reference in Postgres, which was filled from a \
                     snapshot"
                )
            });
        }
    }

    fn missing_payments(&mut self) {
        let many = self.unwritten_payments;
        if many > 0 {
            self.known(|| {
                format!("{many} late payments and refunds were exported before there was a stock_payment")
            });
        }
    }

    /// Late payments and refunds of the range that Postgres passed over.
    fn passed_over_payments(&mut self) {
        let seen = std::mem::take(&mut self.seen_payments);
        let (first, end) = self.payments_range;
        let all = self.log.replica().payments(first, end).filter(|key| !seen.contains(key));
        let missing: Vec<(OrderId, Lsn)> = all.collect();
        for (order, lsn) in missing {
            if self.aside_payments.contains(&(order.get(), lsn.0)) {
                self.known(|| {
                    format!("order {order}: what LSN {lsn} told of its money lies in stampede_set_aside")
                });
            } else if lsn <= self.payments_after {
                self.unwritten_payments += 1;
            } else {
                let what = format!("order {order}: stock_payment lacks what LSN {lsn} told of its money");
                self.payment_differs(order, what);
            }
        }
    }

    /// Certain once it is found again, as a difference of an order is.
    fn payment_differs(&mut self, order: OrderId, what: String) {
        let mismatch = Mismatch::new(order.item(), Place::Postgres, self.cursor, what);
        self.differs(Mismatch { stray: Some(order.get().cast_signed()), ..mismatch });
    }

    /// Orders come before stock rows, and the first of them before the others.
    fn differs(&mut self, mismatch: Mismatch) {
        let orders = |known: &Mismatch| known.order.is_some() || known.stray.is_some();
        match self.looked.differing.get(&mismatch.item) {
            Some(known) if orders(known) => {}
            _ => drop(self.looked.differing.insert(mismatch.item, mismatch)),
        }
    }

    /// Orders of the log up to `end`, left out, that Postgres passed over.
    fn passed_over(&mut self, end: u64) {
        while let Some(record) = self.log.replica().next_order(self.done) {
            let (order, id) = (record.order, record.order.get());
            if id >= end {
                return;
            }
            self.done = id;
            if self.aside.contains(&id.cast_signed()) {
                self.known(|| {
                    format!("order {order} was refused by Postgres and lies in stampede_set_aside")
                });
                continue;
            }
            let ours = Fields::of_record(&record);
            self.differs(Mismatch::at_order(Place::Postgres, self.cursor, order, (Some(ours), None)));
        }
    }

    fn compare(&mut self, order: OrderId, row: &OrderLook<'_>) {
        let replica = self.log.replica();
        let Some(record) = replica.order(order) else {
            let theirs = fields(row, replica);
            return self.differs(Mismatch::at_order(
                Place::Postgres,
                self.cursor,
                order,
                (None, Some(theirs)),
            ));
        };
        if same(&record, row, replica) {
            return;
        }
        if self.refilled.iter().any(|range| same_but_for_texts(&record, row, replica, *range)) {
            self.without_texts += 1;
            return;
        }
        if self.aside_moves.contains(&row.id) && row.state != record.state.name() {
            let state = record.state.name();
            return self.known(|| {
                format!(
                    "order {order}: Postgres refused its change to {state}, which lies in stampede_set_aside"
                )
            });
        }
        let ours = Fields::of_record(&record);
        // A record has its item in its number; a row could name another.
        let ours = ours.with("sid", order.item().to_string());
        let theirs = fields(row, replica);
        self.differs(Mismatch::at_order(Place::Postgres, self.cursor, order, (Some(ours), Some(theirs))));
    }

    /// A row whose id is none of an item of the log.
    fn stranger(&mut self, row: &OrderLook<'_>) {
        let named = u64::try_from(row.sid).ok().and_then(ItemId::new);
        let named = named.filter(|item| self.log.replica().items().contains_key(item));
        match named {
            Some(item) => {
                let what = format!("stock_order holds a row {} of this item that is no order of it", row.id);
                let mismatch = Mismatch::new(item, Place::Postgres, self.cursor, what);
                self.differs(Mismatch { stray: Some(row.id), ..mismatch });
            }
            None => self.known(|| format!("row {} of stock_order is of no item that is on sale", row.id)),
        }
    }

    /// The order of a known item that an id names.
    fn named(&self, id: i64) -> Option<OrderId> {
        let order = u64::try_from(id).ok().and_then(OrderId::from_u64);
        order.filter(|order| self.log.replica().items().contains_key(&order.item()))
    }
}

impl Looker for Comparison<'_> {
    fn cursor(&mut self, cursor: Lsn, payments_after: Lsn) -> bool {
        (self.cursor, self.payments_after) = (cursor, payments_after);
        if cursor == Lsn::ZERO || cursor < self.log.lsn() {
            return false;
        }
        if let Err(trouble) = self.log.go_to(cursor, self.patience, self.progress) {
            self.trouble = Some(trouble);
            return false;
        }
        self.looked.cursor = Some(cursor);
        true
    }

    fn aside(&mut self, aside: &AsideLook<'_>) {
        let id = aside.what.strip_prefix("id=").and_then(|rest| rest.split(' ').next()?.parse().ok());
        match (aside.kind, id) {
            ("order", Some(id)) => drop(self.aside.insert(id)),
            ("order_move", Some(id)) => drop(self.aside_moves.insert(id)),
            ("payment", _) => self.aside_payments.extend(payment_aside(aside.what)),
            (REFILLED, _) => self.refilled.extend(refilled(aside.what)),
            _ => {}
        }
    }

    fn stock(&mut self, stock: &StockLook) {
        self.stocked.insert(stock.item);
        let item = stock.item;
        let totals = self.log.replica().items().get(&item).copied();
        match totals {
            None => {
                self.known(|| format!("stock row {item} is not on sale; it is taken over at the next start"));
            }
            Some(totals) => match judge_stock(stock, &totals) {
                Judged::Equal => {}
                Judged::Behind => self.known(|| {
                    format!("stock row {item} is behind its orders: it is locked, or Postgres refuses it")
                }),
                Judged::Differs(what) => {
                    self.differs(Mismatch::new(item, Place::Postgres, self.cursor, what));
                }
            },
        }
    }

    fn range(&mut self, after: i64, end: i64) {
        self.done = u64::try_from(after).unwrap_or(0);
        self.end = u64::try_from(end).unwrap_or(0);
        self.payments_range = (self.done, self.end);
    }

    fn order(&mut self, row: &OrderLook<'_>) {
        self.seen += 1;
        if self.seen.is_multiple_of(PROGRESS_ORDERS) {
            (self.progress)(&format!("Postgres: {} orders", self.seen));
        }
        let Some(order) = self.named(row.id) else { return self.stranger(row) };
        self.passed_over(order.get());
        self.done = order.get();
        self.compare(order, row);
    }

    fn range_done(&mut self) {
        self.passed_over(self.end);
    }

    fn payment(&mut self, row: &PaymentLook<'_>) {
        let lsn = Lsn(row.lsn.cast_unsigned());
        let replica = self.log.replica();
        let found = self.named(row.order).and_then(|order| Some((order, replica.payment(order, lsn)?)));
        let Some((order, payment)) = found else {
            let (order, lsn) = (row.order, row.lsn);
            return self.known(|| {
                format!(
                    "row {order}, {lsn} of stock_payment was not written by this log; somebody else, or an earlier log, wrote it"
                )
            });
        };
        let same = same_payment(order, payment, row, replica);
        self.seen_payments.insert((order, lsn));
        if same {
            return;
        }
        if self.aside_payments.contains(&(order.get(), lsn.0)) {
            self.known(|| {
                format!("order {order}: in the place of what LSN {lsn} told stands a row of somebody else")
            });
        } else {
            self.payment_differs(
                order,
                format!("order {order}: stock_payment has another row of LSN {lsn} than the log"),
            );
        }
    }

    fn payments_done(&mut self) {
        self.passed_over_payments();
    }

    fn astray(&mut self, row: &OrderLook<'_>) {
        if self.named(row.id).is_none() {
            self.stranger(row);
        }
    }
}

enum Judged {
    Equal,
    /// As the exporter left it, which is not yet as it should be.
    Behind,
    Differs(String),
}

/// The row against the exporter's books, and those against the log.
fn judge_stock(stock: &StockLook, totals: &ItemTotals) -> Judged {
    let facts = [totals.available, totals.held, totals.sold].map(u64::cast_signed);
    let Some(books) = stock.books else {
        return Judged::Differs("its row in stampede_item is gone".to_owned());
    };
    let text = |[count, held, sale]: [i64; 3]| format!("count {count}, held {held}, sale {sale}");
    if books.facts != facts {
        let (theirs, ours) = (text(books.facts), text(facts));
        return Judged::Differs(format!("the exporter's books have {theirs}; the log has {ours}"));
    }
    let Some(row) = stock.row else {
        return Judged::Differs("its stock row is gone".to_owned());
    };
    let piles = |row: StockNumbers| [row.count, row.held, row.sale];
    if Some(row) != books.left {
        let left = books.left.map_or_else(|| "nothing".to_owned(), |left| numbers(left, &text(piles(left))));
        let found = numbers(row, &text(piles(row)));
        return Judged::Differs(format!("the stock row has {found}; the exporter left {left}"));
    }
    if books.outside != 0 {
        let found = numbers(row, &text(piles(row)));
        return Judged::Differs(format!(
            "the stock row has {found}, which is {:+} units that the engine has not taken over",
            books.outside
        ));
    }
    if piles(row) == facts { Judged::Equal } else { Judged::Behind }
}

fn numbers(row: StockNumbers, piles: &str) -> String {
    format!("{piles} (version {})", row.version)
}

/// Whether the row says what the record says. Times and the LSN are the exporter's own notes: an
/// order that was taken over keeps those of its former engine.
fn same(record: &OrderRecord<'_>, row: &OrderLook<'_>, replica: &Replica) -> bool {
    i64::from(record.order.item().get()) == row.sid
        && i64::from(record.quantity.get()) == i64::from(row.quantity)
        && record.state.name() == row.state
        && same_text(record.subject, row.buyer)
        && hash(replica, row.key) == Some(record.key_hash)
        && hash(replica, row.payment_ref) == Some(record.payment_ref_hash)
        && hash(replica, row.refund_ref) == Some(record.refund_ref_hash)
        && i64::from(record.refunded) == i64::from(row.refunded)
        && same_price(record, row)
}

/// Whether a row of `stock_payment` says what the log says.
fn same_payment(order: OrderId, payment: &Payment, row: &PaymentLook<'_>, replica: &Replica) -> bool {
    i64::from(order.item().get()) == row.sid
        && payment.kind.name() == row.kind
        && payment.units == row.quantity.cast_unsigned()
        && payment.at_ms.0.cast_signed() == row.at_ms
        && hash(replica, row.payment_ref) == Some(payment.payment_ref_hash)
        && hash(replica, row.refund_ref) == Some(payment.refund_ref_hash)
}

/// An order of an older program has no price in the database.
fn same_price(record: &OrderRecord<'_>, row: &OrderLook<'_>) -> bool {
    let (minor, currency) = (record.price.minor.cast_signed(), record.price.currency());
    row.currency.is_empty() || (row.price_minor, row.currency) == (minor, currency)
}

/// The same, where a text is missing that a database filled from a snapshot cannot have: that of a fact
/// between what the database held before (`after`) and the snapshot (`upto`). An order that is paid was last
/// changed by its payment, so that it is known where that fact stands.
fn same_but_for_texts(
    record: &OrderRecord<'_>,
    row: &OrderLook<'_>,
    replica: &Replica,
    (after, upto): (Lsn, Lsn),
) -> bool {
    let no_key = row.key.is_empty() && record.lsn > after && record.lsn <= upto;
    let paid_later = record.state == OrderState::Paid && record.state_lsn > upto;
    let no_payment =
        row.payment_ref.is_empty() && record.state_lsn > after && record.lsn <= upto && !paid_later;
    let known = OrderRecord {
        key_hash: if no_key { 0 } else { record.key_hash },
        payment_ref_hash: if no_payment { 0 } else { record.payment_ref_hash },
        ..*record
    };
    same(&known, row, replica)
}

/// Order and fact of a payment that was set aside.
fn payment_aside(what: &str) -> Option<(u64, u64)> {
    let mut words = what.split(' ');
    let mut number = |name: &str| words.next()?.strip_prefix(name)?.parse().ok();
    Some((number("order_id=")?, number("lsn=")?))
}

/// The range in a row that says that the database was filled.
fn refilled(what: &str) -> Option<(Lsn, Lsn)> {
    let mut words = what.split(' ');
    let mut number = |name: &str| words.next()?.strip_prefix(name)?.parse().ok().map(Lsn);
    Some((number("after=")?, number("upto=")?))
}

fn same_text(bytes: &[u8], shown: &str) -> bool {
    bytes == shown.as_bytes() && !bytes.contains(&b'\\') && !bytes.contains(&0)
        || text::escape(bytes) == shown
}

fn hash(replica: &Replica, shown: &str) -> Option<u64> {
    if shown.is_empty() { Some(0) } else { text::unescape(shown).map(|bytes| replica.hash(&bytes)) }
}

fn fields(row: &OrderLook<'_>, replica: &Replica) -> Fields {
    Fields::of_row(row, |shown| hash(replica, shown))
}

#[cfg(test)]
mod tests {
    use stampede_persist::export::look::StockBooks;

    use super::super::memory::tests::replica;
    use super::*;

    /// What the exporter wrote of the first order of [`replica`].
    const GOOD: OrderLook<'_> = OrderLook {
        id: 7 << 32 | 1,
        sid: 7,
        buyer: "buyer\\\\1",
        quantity: 1,
        state: "confirmed",
        key: "key",
        payment_ref: "",
        lsn: 2,
        refund_ref: "",
        refunded: 0,
        price_minor: 0,
        currency: "",
    };

    fn totals() -> ItemTotals {
        ItemTotals { granted: 10, available: 6, held: 1, sold: 3, orders: 4, last_seq: 4 }
    }

    fn row(version: i64, count: i64, held: i64, sale: i64) -> StockNumbers {
        StockNumbers { version, count, held, sale }
    }

    fn judged(row: Option<StockNumbers>, books: Option<StockBooks>) -> String {
        let item = ItemId::new(7).expect("an item");
        match judge_stock(&StockLook { item, row, books }, &totals()) {
            Judged::Equal => "equal".to_owned(),
            Judged::Behind => "behind".to_owned(),
            Judged::Differs(what) => what,
        }
    }

    #[test]
    fn a_stock_row_is_judged_by_the_exporters_books_and_those_by_the_log() {
        let good = row(5, 6, 1, 3);
        let books = StockBooks { facts: [6, 1, 3], outside: 0, left: Some(good) };
        assert_eq!(judged(Some(good), Some(books)), "equal");
        let older = StockBooks { left: Some(row(4, 7, 1, 2)), ..books };
        assert_eq!(judged(Some(row(4, 7, 1, 2)), Some(older)), "behind");
        let differs = |row, books, what: &str| {
            let said = judged(row, books);
            assert!(said.contains(what), "{said}");
        };
        differs(Some(row(6, 6, 1, 3)), Some(books), "version 6");
        differs(Some(row(5, 7, 1, 3)), Some(books), "count 7");
        differs(Some(row(5, 6, 0, 4)), Some(books), "held 0, sale 4");
        differs(None, Some(books), "its stock row is gone");
        differs(Some(good), None, "its row in stampede_item is gone");
        differs(
            Some(good),
            Some(StockBooks { facts: [5, 1, 4], ..books }),
            "the exporter's books have count 5",
        );
        let asked = row(5, 106, 1, 3);
        let outside = StockBooks { outside: 100, left: Some(asked), ..books };
        differs(Some(asked), Some(outside), "+100 units that the engine has not taken over");
    }

    /// A text may be missing where a snapshot stood in for its fact, and nowhere else; a wrong one never.
    #[test]
    fn a_text_may_be_missing_where_the_database_was_filled_from_a_snapshot() {
        assert_eq!(refilled("after=3 upto=17 orders=5"), Some((Lsn(3), Lsn(17))));
        assert_eq!(refilled("upto=17"), None);
        let replica = replica(2);
        let record = replica.next_order(0).expect("an order");
        let lsn = record.lsn.0;
        let row = OrderLook { key: "", ..GOOD };
        let same = |row: &OrderLook<'_>, after, upto| {
            same_but_for_texts(&record, row, &replica, (Lsn(after), Lsn(upto)))
        };
        assert!(same(&row, lsn - 1, lsn));
        assert!(!same(&row, lsn, lsn + 5), "its fact was in the database before");
        assert!(!same(&row, 0, lsn - 1), "its fact came after the snapshot");
        for wrong in [
            OrderLook { key: "other", ..row },
            OrderLook { quantity: 2, ..row },
            OrderLook { payment_ref: "p", ..row },
        ] {
            assert!(!same(&wrong, lsn - 1, lsn), "{wrong:?}");
        }
    }

    /// A payment is a fact of its own: one that came after the snapshot was exported with its reference.
    #[test]
    fn a_reference_of_a_payment_that_the_log_holds_is_missed() {
        let replica = replica(2);
        let placed = replica.next_order(0).expect("an order");
        let lsn = placed.lsn.0;
        let row = OrderLook { state: "paid", key: "", ..GOOD };
        let upto = lsn + 3;
        let paid_at =
            |at| OrderRecord { state: OrderState::Paid, state_lsn: Lsn(at), payment_ref_hash: 7, ..placed };
        let forgiven = |at| same_but_for_texts(&paid_at(at), &row, &replica, (Lsn(lsn - 1), Lsn(upto)));
        assert!(forgiven(lsn + 1) && forgiven(upto), "the snapshot stood in for its fact");
        assert!(!forgiven(upto + 1), "its fact was exported");
        // What was refunded later may have been paid before.
        let refunded = OrderRecord { state: OrderState::Refunded, ..paid_at(upto + 1) };
        let row = OrderLook { state: "refunded", ..row };
        assert!(same_but_for_texts(&refunded, &row, &replica, (Lsn(lsn - 1), Lsn(upto))));
    }

    #[test]
    fn every_field_of_a_row_counts_but_the_exporters_notes() {
        let replica = replica(2);
        let record = replica.next_order(0).expect("an order");
        assert_eq!(record.order.get().cast_signed(), GOOD.id);
        assert!(same(&record, &GOOD, &replica));
        assert!(same(&record, &OrderLook { lsn: 77, ..GOOD }, &replica), "the LSN is the exporter's own");
        let wrong = [
            (OrderLook { sid: 8, ..GOOD }, "sid"),
            (OrderLook { buyer: "buyer\\\\2", ..GOOD }, "buyer"),
            // As the bytes are, and not as they are shown.
            (OrderLook { buyer: "buyer\\1", ..GOOD }, "buyer"),
            (OrderLook { quantity: 2, ..GOOD }, "quantity"),
            (OrderLook { state: "paid", ..GOOD }, "state"),
            (OrderLook { key: "other", ..GOOD }, "key_hash"),
            (OrderLook { key: "", ..GOOD }, "key_hash"),
            (OrderLook { key: "broken\\", ..GOOD }, "key_hash"),
            (OrderLook { payment_ref: "p", ..GOOD }, "payment_ref_hash"),
            (OrderLook { refund_ref: "r", ..GOOD }, "refund_ref_hash"),
            (OrderLook { refunded: 1, ..GOOD }, "refunded"),
            (OrderLook { price_minor: 5, currency: "EUR", ..GOOD }, "price"),
        ];
        for (row, name) in wrong {
            assert!(!same(&record, &row, &replica), "{name}");
            let ours = Fields::of_record(&record).with("sid", record.order.item().to_string());
            assert_eq!(ours.differing(&fields(&row, &replica)), [name]);
        }
    }
}
