//! What replays a log: the seam to the engine's state.
//!
//! Recovery and the snapshotter both feed one of these; neither knows what is
//! behind it. Next: [`super::recovery`], [`super::snapshotter`].

use stampede_core::fact::Fact;
use stampede_core::state_row::StateRow;
use stampede_core::types::Lsn;

/// State that can be rebuilt from a snapshot's rows and the facts after it.
///
/// Contract: all rows come first, in the order of the snapshot, then facts in LSN
/// order without gaps. An `Err` says in words why the state refuses (a broken
/// conservation rule); nothing more is visited then.
pub trait Rebuild {
    /// Takes over a row of a snapshot.
    ///
    /// # Errors
    /// Why the row cannot be.
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String>;

    /// Applies a fact.
    ///
    /// # Errors
    /// Why the fact cannot be.
    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String>;

    /// All facts were visited: waits for what is still under way.
    ///
    /// # Errors
    /// Why a fact cannot be, if that comes out only now. Nothing on disk has been changed yet.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Visits the whole state as rows, in the order of [`stampede_core::state_row`].
    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>));
}
