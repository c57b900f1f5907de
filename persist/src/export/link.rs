//! A connection to Postgres on which no call can hang for ever.
//!
//! The `postgres` crate's blocking client has no time limits: a server that stops in the
//! middle of a call (SIGSTOP, a dead disk) would hang the thread for good, since its kernel
//! keeps acknowledging. So the client beneath it, tokio-postgres, is driven here on a
//! runtime in the calling thread, each call with a deadline and a stop signal. No other
//! module of the product opens a connection. Next: [`super::postgres`] for the statements.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row};

use super::between::{CLIENT_PORT, stands_between};
use super::error::ExportError;
use super::limits::{CONNECT_WAIT_MAX, LOCK_WAIT_MAX};
use super::param::{Params, typed};
use super::store::Wire;
use super::target::{SslMode, Target};
use super::tls::{Tls, attempts};

/// How to reach the database.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…` or `key=value` pairs.
    pub url: String,
    /// Root certificates (PEM) where the URL names none; see [`super::tls`].
    pub root_certificates: Option<PathBuf>,
    /// Where libpq's variables come from: the environment of the process.
    pub environment: fn(&str) -> Option<String>,
    /// Longest wait for the answer to one call: a batch, a page of the preheating.
    pub call_wait_max: Duration,
}

impl ConnectOptions {
    /// Options for this URL, with the defaults for the rest (60 s for a call).
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            root_certificates: None,
            environment: |name| std::env::var(name).ok(),
            call_wait_max: Duration::from_secs(60),
        }
    }

    /// Checks the URL and the certificates that it names without connecting, and returns a warning if it
    /// is weak.
    ///
    /// # Errors
    /// [`ExportError::BadUrl`], [`ExportError::Tls`].
    pub fn check(&self) -> Result<Option<String>, ExportError> {
        let target = self.parse()?;
        Tls::new(&target, self.root_certificates.as_deref())?;
        let may_be_clear = matches!(target.mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
        let weak = |target: &Target| {
            let shown = target.shown();
            format!(
                "the connection to Postgres at {shown} may be in clear text; sslmode=verify-full with sslrootcert is safe"
            )
        };
        Ok((may_be_clear && !target.is_local()).then(|| weak(&target)))
    }

    /// Checks the URL without connecting, and returns its target, without the password.
    ///
    /// # Errors
    /// [`ExportError::BadUrl`].
    pub fn target(&self) -> Result<String, ExportError> {
        self.parse().map(|target| target.shown())
    }

    fn parse(&self) -> Result<Target, ExportError> {
        Target::parse(&self.url, self.environment)
    }
}

/// The password stays out of every text.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target().unwrap_or_else(|_| "unusable URL".to_owned());
        f.debug_struct("ConnectOptions").field("target", &target).finish_non_exhaustive()
    }
}

/// Drives calls on the current thread, none longer than its limit, none past a stop.
#[derive(Debug)]
pub(super) struct Runner {
    runtime: Runtime,
    call_wait_max: Duration,
    stop: watch::Receiver<bool>,
    /// Keeps the channel open, even if nobody else holds a sender.
    stopper: watch::Sender<bool>,
}

impl Runner {
    pub(super) fn new(call_wait_max: Duration) -> Result<Self, ExportError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ExportError::Other(format!("no runtime for the connection: {error}")))?;
        let (stopper, stop) = watch::channel(false);
        Ok(Self { runtime, call_wait_max, stop, stopper })
    }

    /// The sender that ends every call of this runner, now and later.
    pub(super) fn stopper(&self) -> watch::Sender<bool> {
        self.stopper.clone()
    }

    /// Whether a stop was asked for.
    pub(super) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub(super) fn connect(&self, options: &ConnectOptions) -> Result<Link, ExportError> {
        let limit = CONNECT_WAIT_MAX.min(options.call_wait_max);
        let link = Link::connect(options);
        match self.run_within(limit, link) {
            Err(ExportError::Stalled { .. }) => Err(ExportError::Unreachable {
                target: options.target()?,
                reason: format!("no answer for {} ms", limit.as_millis()),
            }),
            other => other,
        }
    }

    /// Runs the work until it ends, its time is over, or the stop comes, whichever is first.
    pub(super) fn run<T, E: From<ExportError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.run_within(self.call_wait_max, work)
    }

    fn run_within<T, E: From<ExportError>>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut stop = self.stop.clone();
        self.runtime.block_on(async move {
            let mut work = pin!(tokio::time::timeout(limit, work));
            let mut stopped = pin!(stop.wait_for(|stop| *stop));
            std::future::poll_fn(|cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    let late = ExportError::Stalled { after_ms: limit.as_millis() as u64 };
                    return Poll::Ready(done.unwrap_or_else(|_| Err(late.into())));
                }
                stopped.as_mut().poll(cx).map(|_| Err(ExportError::Stopping.into()))
            })
            .await
        })
    }
}

/// One connection to Postgres. Between two transactions it leaves nothing on the server, no setting and no
/// prepared statement: a pooler may give the server's connection to somebody else.
#[derive(Debug)]
pub struct Link {
    client: Client,
    /// The settings at the beginning of each transaction.
    settings: String,
    wire: Wire,
    driver: JoinHandle<()>,
}

impl Link {
    async fn connect(options: &ConnectOptions) -> Result<Self, ExportError> {
        let target = options.parse()?;
        let tls = Tls::new(&target, options.root_certificates.as_deref())?;
        let mut link = Self::connect_over(&target, &tls, options.call_wait_max).await?;
        let rows = link.query(CLIENT_PORT, &[]).await?;
        let pooler = stands_between(rows.first().and_then(|row| row.get(0)), &target.ports());
        link.wire = Wire { clear: !tls.was_used() && !target.is_local(), pooler };
        Ok(link)
    }

    /// One attempt after the other, as the `sslmode` says.
    async fn connect_over(target: &Target, tls: &Tls, call_wait_max: Duration) -> Result<Self, ExportError> {
        let mut config = target.config.clone();
        let mut failed = None;
        for asked in attempts(target) {
            config.ssl_mode(*asked);
            tls.forget();
            match config.connect(tls.clone()).await {
                Ok((client, connection)) => {
                    let driver = tokio::spawn(async move { drop(connection.await) });
                    let settings = transaction_settings(call_wait_max);
                    return Ok(Self { client, settings, wire: Wire::default(), driver });
                }
                Err(error) => {
                    let error = ExportError::of_connect(&error, &target.shown());
                    // The next attempt can only help if the server refused this kind of connection; a
                    // refused password must not be sent again in clear text.
                    let helps = match &error {
                        ExportError::Tls(_) => true,
                        ExportError::LoginRefused { reason, .. } => reason.contains("pg_hba.conf"),
                        _ => false,
                    };
                    failed = failed.or(Some(error));
                    if !helps {
                        break;
                    }
                }
            }
        }
        Err(failed.expect("there is always an attempt"))
    }

    /// Begins a transaction with this statement.
    pub(super) async fn begin(&self, words: &str) -> Result<(), ExportError> {
        self.execute_batch(&format!("{words}; {}", self.settings)).await
    }

    /// Runs statements without parameters: transaction control.
    pub(super) async fn execute_batch(&self, sql: &str) -> Result<(), ExportError> {
        self.client.batch_execute(sql).await.map_err(|error| ExportError::of(&error))
    }

    /// The number of rows that the statement touched.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, ExportError> {
        self.client.execute_typed(sql, &typed(params)).await.map_err(|error| ExportError::of(&error))
    }

    /// The rows that the statement gave.
    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, ExportError> {
        self.client.query_typed(sql, &typed(params)).await.map_err(|error| ExportError::of(&error))
    }

    /// The kind of path that the connection takes.
    pub(super) const fn wire(&self) -> Wire {
        self.wire
    }

    /// The client itself, for COPY and for streams of rows.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A commit counts as exported, so it has to be synced. Locks and statements have time limits,
/// so that the server gives up before we do. All of it applies to one transaction alone.
fn transaction_settings(call_wait_max: Duration) -> String {
    format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; SET LOCAL client_min_messages = warning; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        LOCK_WAIT_MAX.min(call_wait_max / 2).as_millis(),
        call_wait_max.as_millis(),
    )
}
