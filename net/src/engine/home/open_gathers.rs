//! Responses that several owners give parts of, until the last part has arrived.
//!
//! Next: [`super::gather`], which asks for the parts and puts them together.

use std::collections::HashMap;

use stampede_core::types::{Lsn, OrderId};

use crate::engine::ask::{ConnId, OwnedAudit, OwnedItem, OwnedOrder};
use crate::engine::busy::Busy;
use crate::engine::response::Browser;
use crate::http::route::{ItemsQuery, ListQuery};

/// What the parts make.
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
    /// A confirmation that all owners have applied a change; shown after this LSN.
    Followed(Lsn),
}

/// A response that is being gathered.
pub(super) struct Gather {
    pub(super) slot: (ConnId, u32),
    pub(super) kind: Kind,
    pub(super) missing: usize,
    pub(super) busy: Option<Busy>,
    /// An owner has more orders than it can sort by age.
    pub(super) too_many: bool,
    pub(super) orders: Vec<OwnedOrder>,
    /// Where the first owner stopped looking, if more orders follow there.
    pub(super) looked_to: Option<OrderId>,
    pub(super) items: Vec<OwnedItem>,
    pub(super) audit: Vec<OwnedAudit>,
}

/// All responses that are being gathered on a core: at most one per outstanding request.
#[derive(Default)]
pub(super) struct Gathers {
    pub(super) open: HashMap<u32, Gather>,
    pub(super) last: u32,
}
