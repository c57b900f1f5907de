//! What is known about an item at rest, from every source that was read.
//!
//! Plain values. Next: [`super::check`], which weighs them.

use crate::history::History;
use crate::window::Window;

/// Where an order stands, as the server or Postgres names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Units sold.
    Sold,
    /// Units set aside.
    Held,
    /// No units yet, but it counts against the cap.
    Pending,
    /// Decided, not durable yet: an item at rest has none.
    Accepted,
    /// Called off, expired or refunded: units given back.
    Gone,
    /// Drawn, and nothing was left for it: it never had any units.
    Lost,
}

impl State {
    /// The state with this name; `None` for one that the contract does not have.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "confirmed" | "paid" => Some(Self::Sold),
            "held" => Some(Self::Held),
            "pending" | "entered" => Some(Self::Pending),
            "accepted" => Some(Self::Accepted),
            "cancelled" | "expired" | "refunded" => Some(Self::Gone),
            "lost" => Some(Self::Lost),
            _ => None,
        }
    }
}

/// One order as the merchant's list or the table `stock_order` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRow {
    /// Its number.
    pub order_id: u64,
    /// Whose it is.
    pub buyer: String,
    /// Its units.
    pub quantity: u32,
    /// Where it stands.
    pub state: State,
    /// Its idempotency key, where that is shown.
    pub key: Option<String>,
    /// When it was placed, in Unix milliseconds; 0 = not shown.
    pub created_at_ms: u64,
}

/// The item's totals as the merchant's page shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Units granted so far.
    pub granted: i64,
    /// Of these, not taken.
    pub available: i64,
    /// Of these, set aside.
    pub held: i64,
    /// Of these, sold.
    pub sold: i64,
    /// Most units per buyer; 0 = not told.
    pub cap: u32,
    /// When it is on sale, if that is told.
    pub window: Option<Window>,
    /// Whether an order may take its units only when it is paid (`on_payment`).
    pub pays_first: bool,
}

/// What Postgres holds about the item.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PostgresRows {
    /// `count` of its stock row.
    pub count: i64,
    /// `held` of its stock row.
    pub held: i64,
    /// `sale` of its stock row.
    pub sale: i64,
    /// Its rows of `stock_order`.
    pub orders: Vec<OrderRow>,
}

/// What the response to a second request for an acked order said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recalled {
    /// The purchase that won it.
    pub purchase: u32,
    /// Its number as acked.
    pub order_id: u64,
    /// Its units as acked.
    pub quantity: u32,
    /// Its units as the page shows them; `None` = there is no such order.
    pub found: Option<u32>,
}

/// All that is known about one item at rest: the merchant's totals and orders, or what any buyer can see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// What clients requested and were told, if that was kept.
    pub history: Option<&'a History>,
    /// The merchant's totals, if the merchant API was read.
    pub totals: Option<Totals>,
    /// The merchant's list of orders, if the merchant API was read.
    pub orders: Option<&'a [OrderRow]>,
    /// What Postgres holds, if it was read.
    pub postgres: Option<&'a PostgresRows>,
    /// What only buyers see; used where the merchant's totals and orders are not known.
    pub public: Public<'a>,
}

/// What buyers can know of an item, and whoever runs a load against it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Public<'a> {
    /// Most units per buyer, from the item's page; 0 = not known.
    pub cap: u32,
    /// Units to sell, as whoever runs the load says.
    pub stock: Option<u64>,
    /// Whether acked orders may have given their units back meanwhile (or never took any), so
    /// that sums of acks prove nothing.
    pub units_return: bool,
    /// Acked orders that were requested again as their buyers.
    pub recalled: &'a [Recalled],
}
