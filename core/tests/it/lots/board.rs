//! The one word of an item that every core reads and that several may write.
//!
//! Bit 0 is the sold-out mark, the rest counts what came back or was granted. It is written
//! when a unit comes back, at a restock and when the item sells out, never by a sale:
//! the line stays shared while the sale runs. On real cores each method is one atomic
//! operation with acquire and release; here a step of the simulation is one.

/// The shared word.
#[derive(Default, Clone, Debug)]
pub(crate) struct Board {
    word: u64,
}

/// What the count was when somebody looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count(u64);

impl Board {
    /// Whether the whole system has nothing available, now.
    pub(crate) fn is_sold_out(&self) -> bool {
        self.word & 1 == 1
    }

    /// The count now.
    pub(crate) fn count(&self) -> Count {
        Count(self.word >> 1)
    }

    /// Units became available here: counts it and clears the mark, as one operation.
    pub(crate) fn came_back(&mut self) {
        self.word = (self.word & !1) + 2;
    }

    /// Sets the mark if nothing came back since `seen`; the owner alone does it.
    pub(crate) fn try_sell_out(&mut self, seen: Count) -> bool {
        let still = self.word == seen.0 << 1;
        self.word |= u64::from(still);
        still
    }
}
