//! What to run, against whom, how hard; and what stands in its way.
//!
//! Checked before the first thread starts. Next: [`super::run`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::pace::Mode;
use super::schedule::PER_S_MAX;
use crate::history::History;
use crate::request::{RequestError, Shop};
use crate::workload::{ITEMS_MAX, Workload};

/// Most connections of one run: more than one address has ports.
pub const CONNECTIONS_MAX: u32 = 60_000;
/// Most threads of one run.
pub const THREADS_MAX: u32 = 256;
/// Most requests under way on one connection.
pub const PIPELINE_MAX: u32 = 1_024;

/// How a cause begins that lies on the generator's own machine.
pub(crate) const OWN_SYSTEM: &str = "the system does not let the generator";

/// What to run, against whom, how hard.
#[derive(Clone)]
pub struct RunConfig {
    /// The server.
    pub addr: SocketAddr,
    /// What the `Host` header says.
    pub host: String,
    /// What is requested.
    pub workload: Workload,
    /// Open or closed loop.
    pub mode: Mode,
    /// Connections, 1 to [`CONNECTIONS_MAX`], at least one per thread.
    pub connections: u32,
    /// Threads, 1 to [`THREADS_MAX`].
    pub threads: u32,
    /// Most requests under way per connection, 1 to [`PIPELINE_MAX`].
    pub pipeline: u32,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The merchant API, if payments are to be reported there.
    pub shop: Option<ShopSide>,
    /// How long new requests begin; `None`: until `requests` are made.
    pub duration: Option<Duration>,
    /// How many purchases to make, retries apart; `None`: as many as the duration holds.
    pub requests: Option<u64>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long an unknown outcome is retried, and how long no connection may be up.
    pub ride_out: Duration,
    /// Whether outcomes are kept one by one, as the checker needs them.
    pub keep_history: bool,
    /// Whether a line on standard error tells how it goes, if that is a terminal.
    pub progress: bool,
    /// Set from outside to end early; the outcome is still whole.
    pub stop: Arc<AtomicBool>,
}

impl RunConfig {
    /// A closed loop of `requests` purchases over 16 connections: a start for tests.
    pub fn closed(addr: SocketAddr, workload: Workload, requests: u64) -> Self {
        Self {
            addr,
            host: addr.to_string(),
            workload,
            mode: Mode::Closed,
            connections: 16,
            threads: 1,
            pipeline: 1,
            keep_alive: true,
            shop: None,
            duration: None,
            requests: Some(requests),
            timeout: Duration::from_secs(5),
            ride_out: Duration::from_secs(30),
            keep_history: true,
            progress: false,
            stop: Arc::default(),
        }
    }

    /// An empty history of the right kind, if one is to be kept.
    pub(super) fn history_wanted(&self) -> Option<History> {
        let items = self.workload.items().filter(|_| self.keep_history)?;
        Some(History::new(self.workload.names(), items, self.workload.quantity))
    }

    pub(super) fn check(&self) -> Result<(), RunError> {
        let ensure = |ok: bool, what| if ok { Ok(()) } else { Err(RunError::Setting(what)) };
        ensure((1..=CONNECTIONS_MAX).contains(&self.connections), "connections must be 1 to 60000")?;
        ensure((1..=THREADS_MAX).contains(&self.threads), "threads must be 1 to 256")?;
        ensure(self.threads <= self.connections, "each thread needs a connection: raise -c or lower -t")?;
        ensure((1..=PIPELINE_MAX).contains(&self.pipeline), "the pipeline must be 1 to 1024 deep")?;
        ensure(!self.timeout.is_zero(), "the time-out must be above 0")?;
        ensure(
            self.duration.is_some() || self.requests.is_some(),
            "give a duration or a number of requests",
        )?;
        ensure(self.duration.is_none_or(|d| !d.is_zero()), "the duration must be above 0")?;
        ensure(self.requests != Some(0), "the number of requests must be above 0")?;
        ensure(self.workload.users != Some(0), "there must be at least one user")?;
        ensure((0.0..=1.0).contains(&self.workload.repeat), "the share of repeats must be 0 to 1")?;
        let rate_fits = match &self.mode {
            Mode::Open(schedule) => (1e-3..=PER_S_MAX).contains(&schedule.peak_per_s()),
            Mode::Closed => true,
        };
        ensure(rate_fits, "the rate must be 0.001 to 100 million a second")?;
        ensure(
            self.keep_alive || self.pipeline == 1,
            "one connection per request leaves nothing to pipeline",
        )?;
        self.check_workload(ensure)
    }

    fn check_workload(
        &self,
        ensure: impl Fn(bool, &'static str) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let Workload { double_click, browse, fates, levels, .. } = &self.workload;
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        ensure(is_share(*double_click), "the share of double clicks must be 0 to 1")?;
        ensure((0.0..=1_000.0).contains(browse), "onlookers read 0 to 1000 pages per purchase")?;
        let shares = [fates.pay, fates.pay_late, fates.cancel];
        let fits = shares.into_iter().all(is_share) && shares.iter().sum::<f64>() <= 1.0 + 1e-9;
        ensure(fits, "the shares of those who pay, pay late and cancel must be 0 to 1 together")?;
        ensure(!fates.pays() || self.shop.is_some(), "who pays needs the merchant API: give --admin")?;
        ensure(levels.is_none_or(|levels| (1..=10).contains(&levels)), "there are 1 to 10 levels")?;
        let items_fit = self.workload.items().is_none_or(|items| {
            let numbers = items.first >= 1 && items.first.checked_add(items.count).is_some();
            numbers && (1..=ITEMS_MAX).contains(&items.count) && (0.0..=10.0).contains(&items.zipf)
        });
        ensure(items_fit, "there must be 1 to 100000 items, numbered from 1, and zipf 0 to 10")
    }
}

/// The merchant API as a run needs it.
#[derive(Clone)]
pub struct ShopSide {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What its requests need.
    pub shop: Shop,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nobody answers there.
    #[error("cannot reach {addr}: {cause}; is the server up and the address right?")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A setting is out of its bounds.
    #[error("{0}")]
    Setting(&'static str),
    /// A setting cannot be sent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Not enough descriptors.
    #[error("{needed} descriptors are needed and {allowed} allowed; raise `ulimit -n` or lower -c")]
    Descriptors {
        /// How many the run needs.
        needed: u64,
        /// How many it may have.
        allowed: u64,
    },
    /// The system refused a thread or an epoll instance.
    #[error("the system refused what a thread needs: {0}")]
    System(#[from] io::Error),
    /// A thread died.
    #[error("a thread of the generator panicked; this is a bug of the generator")]
    Panicked,
}
