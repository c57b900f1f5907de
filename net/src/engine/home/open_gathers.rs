//! Answers that several owners give in parts, until the last part has come.
//!
//! Next: [`super::gather`], which asks for the parts and puts them together.

use std::collections::HashMap;

use stampede_core::types::{Lsn, OrderId};

use crate::engine::ask::{ConnId, OwnedAudit, OwnedItem, OwnedOrder};
use crate::engine::busy::Busy;
use crate::engine::response::Browser;
use crate::http::route::{ItemsQuery, ListQuery};

/// What the parts become.
pub(super) enum Kind {
    /// A buyer's orders.
    Orders { limit: usize, newest: bool },
    /// Orders for the merchant.
    OrdersPage { limit: usize, newest: bool },
    /// Items for the merchant.
    Items(ItemsQuery),
    /// A page of the list for buyers.
    Listed(ListQuery),
    /// The page of all sales.
    Sales(Browser),
    /// The audit trail.
    Audit { limit: usize, newest: bool },
    /// Nothing but that all have done it; shows after that LSN.
    Followed(Lsn),
}

/// An answer that is being gathered.
pub(super) struct Gather {
    pub(super) slot: (ConnId, u32),
    pub(super) kind: Kind,
    pub(super) missing: usize,
    pub(super) busy: Option<Busy>,
    /// An owner has more than it can put in the order asked for.
    pub(super) too_many: bool,
    pub(super) orders: Vec<OwnedOrder>,
    /// The first order up to which an owner has looked, where others follow.
    pub(super) looked_to: Option<OrderId>,
    pub(super) items: Vec<OwnedItem>,
    pub(super) audit: Vec<OwnedAudit>,
}

/// All answers that are being gathered on a core: at most one per outstanding request.
#[derive(Default)]
pub(super) struct Gathers {
    pub(super) open: HashMap<u32, Gather>,
    pub(super) last: u32,
}
