//! A database and what drives the calls to it, outside the exporter's thread.
//!
//! Next: [`super::link`] for the connection to Postgres, [`super::store`] for what is asked of it.

use super::error::ExportError;
pub use super::link::ConnectOptions;
use super::postgres::Postgres;
use super::store::{Connect, Store, Wire};

/// A connection with what drives its calls, for those that are made outside the exporter's
/// thread: migrations, attaching, preheating, reading back.
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

    /// What the connection goes over.
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
