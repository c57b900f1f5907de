//! The promises that can be broken, each with its name and its words.
//!
//! Their numbers (I1, I2, …) are those of docs/TESTING.md. Next: [`super::verdict`], which collects them.

use std::fmt;

use super::evidence::Totals;
use crate::window::Window;

/// A broken promise, and of which item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The item, where several were checked.
    pub item: Option<u32>,
    /// What was broken.
    pub broken: Broken,
}

impl Violation {
    /// Its name in reports.
    pub const fn name(&self) -> &'static str {
        self.broken.name()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        self.item.map_or(Ok(()), |item| write!(f, "item {item}: "))?;
        self.broken.fmt(f)
    }
}

/// What was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// I1: more units went out than were granted.
    Oversold {
        /// The order with which the limit was passed; 0 = only the totals show it.
        order_id: u64,
        /// Units out.
        out: i64,
        /// Units granted.
        granted: i64,
    },
    /// I2: an acked order is not there.
    LostAck {
        /// The order.
        order_id: u64,
        /// Its key.
        key: String,
    },
    /// I2: an acked order is there, but for another buyer or quantity.
    AckDiffers {
        /// The order.
        order_id: u64,
        /// How.
        how: String,
    },
    /// I4: a buyer has more than the cap.
    AboveCap {
        /// The order with which the cap was passed.
        order_id: u64,
        /// Whose.
        buyer: String,
        /// Units that the buyer has.
        units: u64,
        /// The cap.
        cap: u32,
    },
    /// I5: one key, responses that contradict each other.
    AnswersDiffer {
        /// The key.
        key: String,
        /// How.
        how: String,
    },
    /// I5: one key, two orders.
    KeyWithTwoOrders {
        /// The later order.
        order_id: u64,
        /// The key.
        key: String,
    },
    /// I7: an order that nobody requested, or that was refused.
    Phantom {
        /// The order.
        order_id: u64,
        /// Whose it claims to be.
        buyer: String,
    },
    /// I7: an order was placed while the item was not on sale.
    OutsideWindow {
        /// The order.
        order_id: u64,
        /// When it was placed.
        created_at_ms: u64,
        /// When it could have been.
        window: Window,
    },
    /// An order number is listed twice, or belongs to another place in the list.
    DuplicateOrder {
        /// The number.
        order_id: u64,
    },
    /// I8: granted is not available + held + sold.
    NotConserved {
        /// The totals.
        totals: Totals,
    },
    /// I8: the totals are not the sums of the orders.
    TotalsDiffer {
        /// How.
        how: String,
    },
    /// I19: buyers were told "sold out" although more is left than can have come back.
    Undersold {
        /// Units left.
        available: i64,
        /// A buyer's purchase that was refused.
        key: String,
    },
    /// I6: Postgres and the merchant's pages differ.
    PostgresDiffers {
        /// The first order that differs; 0 = the stock row.
        order_id: u64,
        /// How.
        how: String,
    },
}

impl Broken {
    /// A short stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Oversold { .. } => "oversold",
            Self::LostAck { .. } => "lost_ack",
            Self::AckDiffers { .. } => "ack_differs",
            Self::AboveCap { .. } => "above_cap",
            Self::AnswersDiffer { .. } => "answers_differ",
            Self::KeyWithTwoOrders { .. } => "key_with_two_orders",
            Self::Phantom { .. } => "phantom",
            Self::OutsideWindow { .. } => "outside_window",
            Self::DuplicateOrder { .. } => "duplicate_order",
            Self::NotConserved { .. } => "not_conserved",
            Self::TotalsDiffer { .. } => "totals_differ",
            Self::Undersold { .. } => "undersold",
            Self::PostgresDiffers { .. } => "postgres_differs",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversold { order_id: 0, out, granted } => {
                write!(f, "the item's totals have {out} units out of {granted} granted")
            }
            Self::Oversold { order_id, out, granted } => {
                write!(f, "order {order_id} makes it {out} units out of {granted} granted")
            }
            Self::LostAck { order_id, key } => {
                write!(f, "order {order_id} was acked to key {key} and is gone")
            }
            Self::AckDiffers { order_id, how } => write!(f, "order {order_id}: {how}"),
            Self::AboveCap { order_id, buyer, units, cap } => {
                write!(f, "order {order_id} gives buyer {buyer} {units} units, the cap is {cap}")
            }
            Self::AnswersDiffer { key, how } => write!(f, "key {key}: {how}"),
            Self::KeyWithTwoOrders { order_id, key } => {
                write!(f, "order {order_id} is a second one for key {key}")
            }
            Self::Phantom { order_id, buyer } => {
                write!(f, "order {order_id} of buyer {buyer} answers no request that won or is unknown")
            }
            Self::OutsideWindow { order_id, created_at_ms, window } => {
                let Window { opens_at_ms, closes_at_ms } = window;
                write!(
                    f,
                    "order {order_id} was placed at {created_at_ms}, on sale is [{opens_at_ms}, {closes_at_ms})"
                )
            }
            Self::DuplicateOrder { order_id } => {
                write!(f, "order {order_id} is listed twice or out of order")
            }
            Self::NotConserved { totals } => {
                let Totals { granted, available, held, sold, .. } = totals;
                write!(f, "granted {granted} is not available {available} + held {held} + sold {sold}")
            }
            Self::TotalsDiffer { how } => f.write_str(how),
            Self::Undersold { available, key } => {
                write!(
                    f,
                    "key {key} was refused as sold out, yet {available} units are left, more than came back"
                )
            }
            Self::PostgresDiffers { order_id: 0, how } => f.write_str(how),
            Self::PostgresDiffers { order_id, how } => write!(f, "order {order_id}: {how}"),
        }
    }
}
