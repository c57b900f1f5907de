//! What Postgres says, for the commands that compare it with the log and the engine.
//!
//! Reads only, in one snapshot of the database, so that its figures fit each other and
//! the cursor that they come with. Judging them is the caller's business.

use stampede_core::item::OrderState;
use stampede_core::types::{ItemId, Lsn};

use super::database::Database;
use super::error::ExportError;
use super::link::Link;
use super::numbers::{as_u64, item_of};
use crate::log::identity::LogId;

/// Orders of one state, and their units.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StateTotals {
    /// How many orders.
    pub orders: u64,
    /// How many units.
    pub units: u64,
}

/// One item as Postgres has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemRow {
    /// Which.
    pub item: ItemId,
    /// Units available.
    pub count: i64,
    /// Units set aside.
    pub held: i64,
    /// Units sold.
    pub sale: i64,
    /// The row's version.
    pub version: i64,
    /// Units that others added to `count` and the engine has not taken over.
    pub outside: i64,
    /// Orders by [`OrderState::code`].
    pub orders: [StateTotals; OrderState::COUNT],
}

impl ItemRow {
    /// count + held + sale.
    pub const fn granted(&self) -> i64 {
        self.count + self.held + self.sale
    }
}

/// Everything that [`reconcile_read`] found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Reconciled {
    /// How far the log was exported; `None` = never.
    pub cursor: Option<Lsn>,
    /// Items by id.
    pub items: Vec<ItemRow>,
    /// Orders whose item has no stock row, or whose state is unknown.
    pub orders_astray: u64,
    /// Rows in `stampede_set_aside`.
    pub set_aside: u64,
}

const ITEMS: &str = "SELECT s.id, s.count, s.held, s.sale, s.version, coalesce(l.outside, 0) \
     FROM stock s LEFT JOIN stampede_item l ON l.id = s.id ORDER BY s.id";

const ORDERS: &str =
    "SELECT sid, state, count(*), sum(quantity)::bigint FROM stock_order GROUP BY sid, state";

/// Reads the totals of every item. Memory: about 200 bytes per item.
///
/// # Errors
/// [`ExportError`] says what is wrong and what to do.
pub fn reconcile_read(database: &mut Database, log_id: LogId) -> Result<Reconciled, ExportError> {
    database.run(async |link| {
        link.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let read = read_all(link, log_id).await;
        link.execute_batch("ROLLBACK").await?;
        read
    })
}

async fn read_all(link: &mut Link, log_id: LogId) -> Result<Reconciled, ExportError> {
    let log_id = log_id.to_string();
    let cursor = link.query("SELECT lsn FROM stampede_cursor WHERE log_id = $1", &[&log_id]).await?;
    let set_aside = link.query("SELECT count(*) FROM stampede_set_aside", &[]).await?;
    let mut reconciled = Reconciled {
        cursor: cursor.first().map(|row| Lsn(as_u64(row.get(0)))),
        set_aside: set_aside.first().map_or(0, |row| as_u64(row.get(0))),
        ..Reconciled::default()
    };
    for row in link.query(ITEMS, &[]).await? {
        if let Some(item) = item_of(row.get(0)) {
            reconciled.items.push(ItemRow {
                item,
                count: row.get(1),
                held: row.get(2),
                sale: row.get(3),
                version: row.get(4),
                outside: row.get(5),
                orders: Default::default(),
            });
        }
    }
    for row in link.query(ORDERS, &[]).await? {
        let totals = StateTotals { orders: as_u64(row.get(2)), units: as_u64(row.get(3)) };
        reconciled.enter(row.get(0), row.get(1), totals);
    }
    Ok(reconciled)
}

impl Reconciled {
    fn enter(&mut self, sid: i64, state: &str, totals: StateTotals) {
        let place = item_of(sid)
            .and_then(|item| self.items.binary_search_by_key(&item, |row| row.item).ok())
            .zip(OrderState::from_name(state));
        match place {
            Some((at, state)) => self.items[at].orders[usize::from(state.code())] = totals,
            None => self.orders_astray += totals.orders,
        }
    }
}
