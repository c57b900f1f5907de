//! Why a fact cannot be replayed.

use core::fmt;

use crate::item::OrderState;
use crate::types::{ItemId, Lsn, OrderId};

/// Why a fact cannot follow the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// It names an item that was never created.
    UnknownItem(ItemId),
    /// It creates an item that exists.
    ItemExists(ItemId),
    /// It names an order that was never placed.
    UnknownOrder(OrderId),
    /// It places an order whose number is not the item's next.
    SequenceGap {
        /// The order.
        order: OrderId,
        /// The sequence number that had to come.
        expected: u32,
    },
    /// It changes an order from a state or with a quantity that the order does not have, or
    /// to a state that cannot follow.
    WrongState {
        /// The order.
        order: OrderId,
        /// The state that it is in.
        actual: OrderState,
    },
    /// It takes more units than there are: the item would be oversold.
    Oversold(ItemId),
    /// It gives or takes units of an item, or places an order of it, in the middle of its draw.
    Drawing(ItemId),
    /// A value is out of its range.
    OutOfRange(&'static str),
    /// Its LSN is not above that of the fact before it.
    OutOfOrder(Lsn),
    /// A table is full.
    Full,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownItem(item) => write!(f, "item {item} was never created"),
            Self::ItemExists(item) => write!(f, "item {item} is created twice"),
            Self::UnknownOrder(order) => write!(f, "order {order} was never placed"),
            Self::SequenceGap { order, expected } => {
                write!(f, "order {order} has sequence number {}, expected {expected}", order.seq())
            }
            Self::WrongState { order, actual } => {
                write!(f, "order {order} is {}, which does not fit the fact", actual.name())
            }
            Self::Oversold(item) => write!(f, "item {item} would be oversold"),
            Self::Drawing(item) => write!(f, "item {item} is in the middle of its draw"),
            Self::OutOfRange(what) => write!(f, "{what} is out of range"),
            Self::OutOfOrder(lsn) => write!(f, "LSN {lsn} is not above the one before it"),
            Self::Full => write!(f, "a table is full"),
        }
    }
}

impl core::error::Error for ApplyError {}
