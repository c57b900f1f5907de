//! The state that a log is replayed into, as a trait.
//!
//! Recovery and the snapshotter both feed one; neither knows which. Next:
//! [`super::recovery`], [`super::snapshotter`].

use stampede_core::fact::Fact;
use stampede_core::state_row::StateRow;
use stampede_core::types::Lsn;

/// State that can be rebuilt from a snapshot's rows and the facts after it.
///
/// Contract: all rows come first, in the order of the snapshot, then facts in LSN
/// order without gaps. An `Err` says in words why the state refuses (a broken
/// conservation rule); nothing follows it.
pub trait Rebuild {
    /// Loads a row of a snapshot.
    ///
    /// # Errors
    /// Why the row does not fit.
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String>;

    /// Applies a fact.
    ///
    /// # Errors
    /// Why the fact does not fit.
    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String>;

    /// Called after the last fact: waits for work that is still running.
    ///
    /// # Errors
    /// Why a fact does not fit, if that is known only now. Nothing on disk was changed so far.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Visits the whole state as rows, in the order of [`stampede_core::state_row`].
    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>));
}
