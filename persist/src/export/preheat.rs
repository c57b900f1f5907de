//! The way back: what stands in Postgres and nowhere else becomes facts, before the sale.
//!
//! A shop puts its items into `stock` by hand (`INSERT INTO stock (id, name, count) …`), or
//! a data directory was lost and its database was not. Each item that the engine does not
//! know is handed out as `ItemCreated` (and `ItemSwitched`) by `ACTOR_POSTGRES`, followed by
//! its orders as `OrderImported`; each blocked buyer as `BuyerBlocked`. When these facts
//! come back through the feed, the exporter adds nothing to the rows: they are the rows.
//!
//! An item is taken over as a whole or not at all, and only if its numbers agree with its
//! orders. This module reads only, one page at a time, in one snapshot of the database.

use std::collections::HashSet;

use stampede_core::draw::DrawSeed;
use stampede_core::fact::{ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, Pile, TicketRule};
use stampede_core::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, PAYMENT_REF_BYTES_MAX, STOCK_MAX, SUBJECT_BYTES_MAX, UNIX_MILLIS_MAX,
};
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use super::attach::Attached;
use super::database::Database;
use super::error::ExportError;
use super::limits::{PREHEAT_PAGE_ITEMS, PREHEAT_PAGE_ORDERS};
use super::store::{Begin, Connect, OrderRecord, Piles, StockRecord, Store};
use super::text;

/// What the engine knows already, and where new facts go.
pub trait PreheatSink {
    /// Whether the engine knows this item.
    fn knows_item(&mut self, item: ItemId) -> bool;
    /// Whether this buyer is on the engine's blocklist.
    fn knows_blocked(&mut self, subject: &[u8]) -> bool;
    /// Takes a fact. An item's facts come in a row: the item, its switches, its orders by id.
    ///
    /// # Errors
    /// Why the engine cannot take it; preheating then ends.
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String>;
}

/// What preheating did.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PreheatReport {
    /// Items taken over.
    pub items: u64,
    /// Orders taken over.
    pub orders: u64,
    /// Blocked buyers taken over.
    pub blocked: u64,
    /// Items left alone, and why; at most the first thousand.
    pub left: Vec<(i64, String)>,
    /// How many items were left alone.
    pub left_total: u64,
}

/// Most items that a report names as left alone.
const LEFT_MAX: usize = 1_000;

/// Why preheating ended early. Facts that were taken stay taken; doing it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum PreheatError {
    /// The database.
    #[error(transparent)]
    Database(#[from] ExportError),
    /// The engine.
    #[error("an item or order from Postgres was not taken: {0}")]
    Sink(String),
}

/// Hands out everything in the database that the engine does not know.
///
/// Call it after [`super::attach`] and replay, before the first request. `now` is the sale
/// clock. Memory: one page of items or orders.
///
/// # Errors
/// See [`PreheatError`].
pub fn preheat<C: Connect>(
    database: &mut Database<C>,
    attached: &Attached,
    now: UnixMillis,
    sink: &mut dyn PreheatSink,
) -> Result<PreheatReport, PreheatError> {
    database.run(async |store| store.begin(Begin::Snapshot).await)?;
    let mut preheating = Preheating { database, sink, now, report: PreheatReport::default(), muddled: None };
    let done = preheating.blocked(attached).and_then(|()| preheating.items());
    let report = preheating.report;
    let ended = database.run(async |store| store.roll_back().await);
    done?;
    ended?;
    Ok(report)
}

struct Preheating<'a, C: Connect> {
    database: &'a mut Database<C>,
    sink: &'a mut dyn PreheatSink,
    now: UnixMillis,
    report: PreheatReport,
    /// Items with orders whose id is not one of theirs; looked up when first needed.
    muddled: Option<HashSet<i64>>,
}

impl<C: Connect> Preheating<'_, C> {
    /// The blocklist. A database that this log was already exported to may be behind it, so
    /// there only rows count that somebody has written by hand.
    fn blocked(&mut self, attached: &Attached) -> Result<(), PreheatError> {
        let fresh = attached.cursor == Lsn::ZERO;
        let mut last = String::new();
        loop {
            let page = self
                .database
                .run(async |store| store.blocked_page(&last, fresh, PREHEAT_PAGE_ORDERS).await)?;
            for buyer in &page {
                self.block(buyer)?;
            }
            let Some(end) = page.into_iter().next_back() else { return Ok(()) };
            last = end;
        }
    }

    fn block(&mut self, buyer: &str) -> Result<(), PreheatError> {
        let Some(subject) = subject_of(buyer) else { return Ok(()) };
        if self.sink.knows_blocked(&subject) {
            return Ok(());
        }
        self.report.blocked += 1;
        self.take(&Fact::BuyerBlocked {
            at_ms: self.now,
            subject: &subject,
            blocked: true,
            actor: ACTOR_POSTGRES,
        })
    }

    fn items(&mut self) -> Result<(), PreheatError> {
        let mut last = 0_i64;
        loop {
            let page = self.database.run(async |store| store.stock_page(last, PREHEAT_PAGE_ITEMS).await)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = end.id;
            let mut unknown = Vec::new();
            for row in page {
                match u64::try_from(row.id).ok().and_then(ItemId::new) {
                    Some(item) if self.sink.knows_item(item) => {}
                    Some(item) => unknown.push((item, row)),
                    None => self.leave(row.id, "the id is not 1 to 2147483647".to_owned()),
                }
            }
            self.page(&unknown)?;
        }
    }

    fn page(&mut self, unknown: &[(ItemId, StockRecord)]) -> Result<(), PreheatError> {
        if unknown.is_empty() {
            return Ok(());
        }
        let items: Vec<ItemId> = unknown.iter().map(|(item, _)| *item).collect();
        let with_orders = self.database.run(async |store| store.items_with_orders(&items).await)?;
        let with_orders: HashSet<ItemId> = with_orders.into_iter().collect();
        for (item, row) in unknown {
            let has_orders = with_orders.contains(item);
            match self.judge(*item, row, has_orders)? {
                Ok(stock) => self.hand_out(*item, &stock, has_orders)?,
                Err(reason) => self.leave(row.id, reason),
            }
        }
        Ok(())
    }

    /// Whether the item can be taken over: its settings, and its numbers against its orders.
    fn judge(
        &mut self,
        item: ItemId,
        row: &StockRecord,
        has_orders: bool,
    ) -> Result<Result<StockSettings, String>, PreheatError> {
        let stock = match StockSettings::read(row) {
            Ok(stock) => stock,
            Err(reason) => return Ok(Err(reason)),
        };
        if self.muddled()?.contains(&row.id) {
            return Ok(Err("it has orders whose id is not sid * 2^32 + a number".to_owned()));
        }
        let (held, sale) = match self.sum_orders(item, has_orders)? {
            Ok(sums) => sums,
            Err(reason) => return Ok(Err(reason)),
        };
        if (held, sale) == (stock.held, stock.sale) {
            return Ok(Ok(stock));
        }
        Ok(Err(format!(
            "its row says held {} and sale {}, its orders come to {held} and {sale}",
            stock.held, stock.sale
        )))
    }

    fn hand_out(
        &mut self,
        item: ItemId,
        stock: &StockSettings,
        has_orders: bool,
    ) -> Result<(), PreheatError> {
        let (at_ms, actor) = (self.now, ACTOR_POSTGRES);
        self.report.items += 1;
        // The database knows nothing of a draw.
        let (spec, granted, seed) = (stock.spec(), stock.granted, DrawSeed::NONE);
        self.take(&Fact::ItemCreated { at_ms, item, spec, granted, seed, actor })?;
        for (on, switch) in
            [(stock.paused, Switch::Paused), (stock.closed, Switch::Closed), (stock.ended, Switch::Ended)]
        {
            if on {
                self.take(&Fact::ItemSwitched { at_ms, item, switch, actor })?;
            }
        }
        let mut page = if has_orders { self.orders(item, first_order(item))? } else { Vec::new() };
        while let Some((last, _)) = page.last() {
            let last = *last;
            for (_, order) in &page {
                let order = order.as_ref().map_err(|reason| PreheatError::Sink(reason.clone()))?;
                self.report.orders += 1;
                self.take(&order.fact(self.now))?;
            }
            page = self.orders(item, last)?;
        }
        Ok(())
    }

    /// Units held and sold according to the orders; or what is wrong with one of them.
    fn sum_orders(
        &mut self,
        item: ItemId,
        has_orders: bool,
    ) -> Result<Result<(i64, i64), String>, PreheatError> {
        let (mut held, mut sale) = (0_i64, 0_i64);
        let mut page = if has_orders { self.orders(item, first_order(item))? } else { Vec::new() };
        while let Some((last, _)) = page.last() {
            let last = *last;
            for (id, order) in &page {
                match order {
                    Ok(order) => match order.state.pile() {
                        Pile::Held => held += i64::from(order.quantity.get()),
                        Pile::Sold => sale += i64::from(order.quantity.get()),
                        Pile::Available => {}
                    },
                    Err(reason) => return Ok(Err(format!("order {id}: {reason}"))),
                }
            }
            page = self.orders(item, last)?;
        }
        Ok(Ok((held, sale)))
    }

    /// The next page of the item's orders, by id.
    fn orders(&mut self, item: ItemId, after: i64) -> Result<Vec<JudgedOrder>, PreheatError> {
        let before = (i64::from(item.get()) + 1) << 32;
        let page =
            self.database.run(async |store| store.orders_page(after, before, PREHEAT_PAGE_ORDERS).await)?;
        Ok(page.iter().map(|row| (row.id, ImportedOrder::read(row))).collect())
    }

    /// Orders whose id does not name their item make that item one to leave alone.
    fn muddled(&mut self) -> Result<&HashSet<i64>, PreheatError> {
        if self.muddled.is_none() {
            let muddled = self.database.run(async |store| store.muddled_items().await)?;
            self.muddled = Some(muddled.into_iter().collect());
        }
        Ok(self.muddled.get_or_insert_default())
    }

    fn take(&mut self, fact: &Fact<'_>) -> Result<(), PreheatError> {
        self.sink.take(fact).map_err(PreheatError::Sink)
    }

    fn leave(&mut self, id: i64, reason: String) {
        tracing::warn!(target: "stampede::export", "stock row {id} is not taken over: {reason}");
        self.report.left_total += 1;
        if self.report.left.len() < LEFT_MAX {
            self.report.left.push((id, reason));
        }
    }
}

/// Just before the first id that an order of the item can have.
fn first_order(item: ItemId) -> i64 {
    i64::from(item.get()) << 32
}

/// A row of `stock`, checked.
struct StockSettings {
    name: String,
    granted: u64,
    held: i64,
    sale: i64,
    paused: bool,
    closed: bool,
    ended: bool,
    spec: ItemSpec<'static>,
}

impl StockSettings {
    fn read(row: &StockRecord) -> Result<Self, String> {
        let (name, Piles { count, held, sale }) = (row.name.clone(), row.piles);
        let granted = u64::try_from(i128::from(count) + i128::from(held) + i128::from(sale))
            .ok()
            .filter(|granted| *granted <= STOCK_MAX)
            .ok_or("its stock is out of range")?;
        let spec = read_spec(row)?;
        ItemSpec { name: &name, ..spec }
            .check()
            .map_err(|wrong| format!("{}: {}", wrong.field, wrong.reason))?;
        let (paused, closed, ended) = (row.paused, row.closed, row.ended);
        Ok(Self { name, granted, held, sale, paused, closed, ended, spec })
    }

    fn spec(&self) -> ItemSpec<'_> {
        ItemSpec { name: &self.name, ..self.spec }
    }
}

/// The settings in a row, without the name.
fn read_spec(row: &StockRecord) -> Result<ItemSpec<'static>, String> {
    Ok(ItemSpec {
        name: "",
        price_minor: in_range(row.price_minor, "price_minor")?,
        currency: row.currency.as_bytes().try_into().map_err(|_| "currency: not three letters")?,
        opens_at_ms: UnixMillis(in_range(row.opens_at_ms, "opens_at_ms")?),
        closes_at_ms: UnixMillis(in_range(row.closes_at_ms, "closes_at_ms")?),
        cap: in_range(row.cap.into(), "cap")?,
        payment: Payment::from_name(&row.payment).ok_or("payment: no such kind")?,
        hold_ms: in_range(row.hold_ms, "hold_ms")?,
        ticket: TicketRule::from_name(&row.ticket).ok_or("ticket: no such rule")?,
        challenge: ChallengeRule::from_name(&row.challenge).ok_or("challenge: no such rule")?,
        min_level: in_range(row.min_level.into(), "min_level")?,
        min_account_age_s: in_range(row.min_account_age_s, "min_account_age_s")?,
        admit_per_s: in_range(row.admit_per_s, "admit_per_s")?,
        draw_ms: 0,
    })
}

fn in_range<T: TryFrom<i64>>(value: i64, name: &str) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{name}: out of range"))
}

/// An order by its id, or what is wrong with it.
type JudgedOrder = (i64, Result<ImportedOrder, String>);

/// A row of `stock_order`, checked.
struct ImportedOrder {
    id: OrderId,
    quantity: Quantity,
    state: OrderState,
    created_at_ms: UnixMillis,
    pay_by_ms: UnixMillis,
    subject: Vec<u8>,
    key: Vec<u8>,
    payment_ref: Vec<u8>,
}

impl ImportedOrder {
    fn read(row: &OrderRecord) -> Result<Self, String> {
        let (units, state) = (row.quantity, row.state.as_str());
        Ok(Self {
            id: u64::try_from(row.id).ok().and_then(OrderId::from_u64).ok_or("no order id")?,
            quantity: u64::try_from(units).ok().and_then(Quantity::new).ok_or("quantity out of range")?,
            state: OrderState::from_name(state).ok_or_else(|| format!("no such state: {state}"))?,
            created_at_ms: moment(row.create_time_ms)?,
            pay_by_ms: moment(row.pay_by_ms)?,
            subject: subject_of(&row.buyer).ok_or("the buyer is not 1 to 64 bytes")?,
            key: bytes_of(&row.idem_key, IDEMPOTENCY_KEY_BYTES_MAX)
                .ok_or("the idempotency key is too long")?,
            payment_ref: bytes_of(&row.payment_ref, PAYMENT_REF_BYTES_MAX)
                .ok_or("the payment reference is too long")?,
        })
    }

    fn fact(&self, at_ms: UnixMillis) -> Fact<'_> {
        Fact::OrderImported {
            at_ms,
            order: self.id,
            quantity: self.quantity,
            state: self.state,
            created_at_ms: self.created_at_ms,
            pay_by_ms: self.pay_by_ms,
            subject: &self.subject,
            key: &self.key,
            payment_ref: &self.payment_ref,
        }
    }
}

fn moment(at_ms: i64) -> Result<UnixMillis, &'static str> {
    let at_ms = u64::try_from(at_ms).map_err(|_| "a time before 1970")?;
    if at_ms > UNIX_MILLIS_MAX { Err("a time beyond the year 9999") } else { Ok(UnixMillis(at_ms)) }
}

fn subject_of(buyer: &str) -> Option<Vec<u8>> {
    bytes_of(buyer, SUBJECT_BYTES_MAX).filter(|subject| !subject.is_empty())
}

fn bytes_of(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    text::unescape(text).filter(|bytes| bytes.len() <= bytes_max)
}
