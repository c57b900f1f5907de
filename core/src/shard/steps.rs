//! The budget of one tick: how many rows it may still look at.

/// How many more rows a tick looks at.
pub(super) struct Steps {
    pub(super) left: usize,
    /// Orders that draws may gather, counted apart so that a draw does not delay what else is due.
    pub(super) gather: usize,
}

impl Steps {
    /// Uses one step; false if none is left.
    pub(super) fn take(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}
