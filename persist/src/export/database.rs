//! A database for calls outside the exporter's thread.
//!
//! Next: [`super::link`] for the connection to Postgres, [`super::store`] for the calls.

use super::error::ExportError;
pub use super::link::ConnectOptions;
use super::postgres::Postgres;
use super::store::{Connect, Store, Wire};

/// A connection and the driver of its calls: for migrations, attaching, preheating, and reading
/// for comparisons.
#[derive(Debug)]
pub struct Database<C: Connect = Postgres> {
    way: C,
    store: C::Store,
}

impl Database {
    /// Connects to Postgres.
    ///
    /// # Errors
    /// [`ExportError`] says what is wrong and what to do.
    pub fn connect(options: &ConnectOptions) -> Result<Self, ExportError> {
        Self::over(Postgres::new(options.clone())?)
    }
}

impl<C: Connect> Database<C> {
    /// Connects to any database.
    ///
    /// # Errors
    /// [`ExportError`] says what is wrong and what to do.
    pub fn over(mut way: C) -> Result<Self, ExportError> {
        let store = way.connect()?;
        Ok(Self { way, store })
    }

    /// The kind of path that the connection takes.
    pub fn wire(&self) -> Wire {
        self.store.wire()
    }

    /// Runs calls under one deadline.
    pub(super) fn run<T, E: From<ExportError>>(
        &mut self,
        work: impl AsyncFnOnce(&mut C::Store) -> Result<T, E>,
    ) -> Result<T, E> {
        self.way.run(work(&mut self.store))
    }
}
