//! The budget of one tick: how many rows it may still look at.

/// How many more rows a tick looks at.
pub(super) struct Steps {
    pub(super) left: usize,
    /// Of its own: a draw that is gathered must not hold up what else is due.
    pub(super) gather: usize,
}

impl Steps {
    /// Whether there is one more step; counts it.
    pub(super) fn take(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}
