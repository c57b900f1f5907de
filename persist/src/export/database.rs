//! A connection to Postgres on which no call can hang for ever.
//!
//! The `postgres` crate's blocking client has no time limits: a server that is stopped
//! in mid-call (SIGSTOP, a dead disk) would hang the thread for good, since its kernel
//! keeps acknowledging. So the client beneath it, tokio-postgres, is driven here on a
//! runtime of the calling thread, each call under a deadline and under a stop signal.
//! No other module of the product opens a connection. Next: [`super::exporter`].

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ExportError;
use super::limits::{CONNECT_WAIT_MAX, LOCK_WAIT_MAX};
use super::postgres::Postgres;
use super::store::Connect;

/// How to reach the database.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…` or `key=value` pairs.
    pub url: String,
    /// Root certificates (PEM) for `sslmode=require`; `None` = those of the system.
    pub root_certificates: Option<PathBuf>,
    /// Longest wait for the answer to one call: a batch, a page of the preheating.
    pub call_wait_max: Duration,
}

impl ConnectOptions {
    /// Options for this URL, everything else as usual (60 s for a call).
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), root_certificates: None, call_wait_max: Duration::from_secs(60) }
    }

    /// Checks the URL without connecting, and says where it leads, without the password.
    ///
    /// # Errors
    /// [`ExportError::BadUrl`].
    pub fn target(&self) -> Result<String, ExportError> {
        self.config().map(|config| target_of(&config))
    }

    fn config(&self) -> Result<Config, ExportError> {
        refuse_ambiguous(&self.url)?;
        let mut config: Config = self.url.parse().map_err(|error| bad_url(&error))?;
        if config.get_hosts().is_empty() {
            return Err(ExportError::BadUrl("it names no host".to_owned()));
        }
        if config.get_user().is_none() {
            return Err(ExportError::BadUrl("it names no user".to_owned()));
        }
        config.application_name("stampede");
        config.keepalives_idle(Duration::from_secs(15));
        config.tcp_user_timeout(Duration::from_secs(30));
        config.connect_timeout(CONNECT_WAIT_MAX);
        Ok(config)
    }
}

/// The password stays out of every text.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target().unwrap_or_else(|_| "unusable URL".to_owned());
        f.debug_struct("ConnectOptions").field("target", &target).finish_non_exhaustive()
    }
}

/// How a password has to be written that would be taken for something else.
const ESCAPING: &str = "in user and password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %, %20 for a space";
/// Words of libpq that the client does not know: safe to repeat, as everything else is not.
const LIBPQ_WORDS: [&str; 8] =
    ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "passfile", "service", "gssencmode"];

/// A second `@` is part of a password that was not escaped: what the client would take for the host, and
/// name in its texts, is a piece of a secret.
fn refuse_ambiguous(url: &str) -> Result<(), ExportError> {
    let rest = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    let is_ambiguous = rest.is_some_and(|(_, place)| place.split('?').any(|part| part.contains('@')));
    if is_ambiguous {
        Err(ExportError::BadUrl(format!("it holds more than one @; {ESCAPING}")))
    } else {
        Ok(())
    }
}

/// Says what is wrong without a word of the URL: any of them may be a piece of the password.
fn bad_url(error: &tokio_postgres::Error) -> ExportError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let is_known = |word: &&&str| cause == format!("unknown option `{word}`");
    if cause.starts_with("invalid value for option") {
        return ExportError::BadUrl(format!("{cause}; {ESCAPING}"));
    }
    ExportError::BadUrl(match LIBPQ_WORDS.iter().find(is_known) {
        Some(word) => format!("the option {word} is not supported"),
        None if cause.starts_with("unknown option") => "it has an option that nobody knows".to_owned(),
        None => format!("it cannot be read; {ESCAPING}"),
    })
}

fn target_of(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "?".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("?");
    format!("{host}:{port}/{database}")
}

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

    /// Runs calls under one deadline.
    pub(super) fn run<T, E: From<ExportError>>(
        &mut self,
        work: impl AsyncFnOnce(&mut C::Store) -> Result<T, E>,
    ) -> Result<T, E> {
        self.way.run(work(&mut self.store))
    }
}

/// Drives calls on the current thread, none longer than its limit, none past a stop.
#[derive(Debug)]
pub(super) struct Runner {
    runtime: Runtime,
    call_wait_max: Duration,
    stop: watch::Receiver<bool>,
    /// Keeps the signal of a runner that nobody stops alive.
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

    /// What ends every call of this runner, now and later.
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

    /// Waits for the work, its time limit, or the stop, whichever comes first.
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

/// One connection to Postgres and the statements prepared on it.
#[derive(Debug)]
pub struct Link {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    driver: JoinHandle<()>,
}

/// A parameter list, as the client takes it.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Link {
    async fn connect(options: &ConnectOptions) -> Result<Self, ExportError> {
        let config = options.config()?;
        let target = target_of(&config);
        let refused = |error: tokio_postgres::Error| ExportError::of_connect(&error, &target);
        let (client, driver) = if config.get_ssl_mode() == SslMode::Require {
            let tls = tls(options.root_certificates.as_deref())?;
            let (client, connection) = config.connect(tls).await.map_err(refused)?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        };
        let link = Self { client, statements: HashMap::new(), driver };
        link.execute_batch(&session_settings(options.call_wait_max)).await?;
        Ok(link)
    }

    /// Runs statements without parameters: transaction control and settings.
    pub(super) async fn execute_batch(&self, sql: &str) -> Result<(), ExportError> {
        self.client.batch_execute(sql).await.map_err(|error| ExportError::of(&error))
    }

    /// The statement, prepared at its first use.
    pub(super) async fn prepared(&mut self, sql: &'static str) -> Result<Statement, ExportError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(|error| ExportError::of(&error))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// The number of rows that the statement touched.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, ExportError> {
        let statement = self.prepared(sql).await?;
        self.client.execute(&statement, params).await.map_err(|error| ExportError::of(&error))
    }

    /// The rows that the statement gave.
    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, ExportError> {
        let statement = self.prepared(sql).await?;
        self.client.query(&statement, params).await.map_err(|error| ExportError::of(&error))
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

/// A commit counts as exported, so it has to be synced; locks and statements have limits,
/// so that the server gives up before we do.
fn session_settings(call_wait_max: Duration) -> String {
    format!(
        "SET lock_timeout = {}; SET statement_timeout = {}; SET client_min_messages = warning; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        LOCK_WAIT_MAX.min(call_wait_max / 2).as_millis(),
        call_wait_max.as_millis(),
    )
}

/// `sslmode=require` verifies the certificate and its host name: stricter than libpq's,
/// since an unverified server could as well be anybody.
fn tls(roots: Option<&Path>) -> Result<MakeRustlsConnect, ExportError> {
    // Fails only when a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let Some(path) = roots else {
        return MakeRustlsConnect::with_native_certs()
            .map(|(tls, _)| tls)
            .map_err(|errors| ExportError::Tls(format!("the system's root certificates: {errors:?}")));
    };
    let unreadable =
        |error: &dyn fmt::Display| ExportError::Tls(format!("root certificates {}: {error}", path.display()));
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        store.add(certificate).map_err(|error| unreadable(&error))?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
