//! Health checks during the start, while the log is replayed or the database's rows are taken over.
//!
//! Either may take minutes, and no core runs yet. A supervisor must not conclude that the process hangs:
//! `/healthz` answers, `/readyz` and `/metrics` give the reason `starting`, everything else is 503. This holds
//! for both APIs, until the cores are ready to take over ([`super::stand_in`]).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use super::sockets::Sockets;
use super::stand_in::{Answers, HealthSocket, StandIn};
use crate::engine::clock::wall;
use crate::engine::metrics::starting_metrics;
use crate::engine::reasons::Reason;
use crate::http::answer::{self, Media, ResponseMode, Status};
use crate::http::problem::Code;
use crate::http::route::{Listener, Route};

/// Responds while no core runs.
pub(super) struct Starting<'a> {
    sockets: &'a Sockets,
    /// Whether proxies begin buyers' connections with a PROXY header.
    proxy_protocol: bool,
    /// Set by the starting thread, read by the stand-in (Relaxed: shown to people).
    takes_over: Arc<AtomicBool>,
    stand_in: RefCell<Option<StandIn>>,
}

impl<'a> Starting<'a> {
    /// Begins to respond on these sockets.
    ///
    /// # Errors
    /// No descriptor or no thread is left.
    pub(super) fn begin(sockets: &'a Sockets, proxy_protocol: bool) -> anyhow::Result<Self> {
        let starting =
            Self { sockets, proxy_protocol, takes_over: Arc::default(), stand_in: RefCell::new(None) };
        starting.open()?;
        Ok(starting)
    }

    fn open(&self) -> anyhow::Result<()> {
        let shared = self.sockets.share().context("the listening sockets cannot be shared")?;
        let health_socket = |listener, socket| {
            let skips_proxy_headers = self.proxy_protocol && listener == Listener::Public;
            HealthSocket { listener, socket, skips_proxy_headers }
        };
        let mut sockets = vec![health_socket(Listener::Merchant, shared.merchant)];
        sockets.extend(shared.public.into_iter().map(|socket| health_socket(Listener::Public, socket)));
        let stand_in = StandIn::start("stampede-start", sockets, StartingAnswers(self.takes_over.clone()));
        *self.stand_in.borrow_mut() = Some(stand_in.context("cannot answer health checks")?);
        Ok(())
    }

    /// From now on the database's rows are taken over; it responds again if cores had taken its place.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub(super) fn take_over(&self) -> anyhow::Result<()> {
        self.takes_over.store(true, Ordering::Relaxed);
        if self.stand_in.borrow().is_none() { self.open() } else { Ok(()) }
    }

    /// Stops responding: when this returns, it accepts no more connections, and cores may.
    pub(super) fn stop(&self) {
        self.stand_in.borrow_mut().take();
    }
}

/// The responses meanwhile.
struct StartingAnswers(Arc<AtomicBool>);

impl StartingAnswers {
    fn why(&self) -> &'static str {
        if self.0.load(Ordering::Relaxed) {
            "what only the database has is being taken over"
        } else {
            "the log is being replayed"
        }
    }
}

impl Answers for StartingAnswers {
    fn is_on_duty(&self) -> bool {
        true
    }

    fn answer(&self, route: Option<Route>, out: &mut Vec<u8>) {
        let date = answer::date_line(wall().0 / 1000);
        let (name, mode) = (Reason::Starting.name(), ResponseMode::CLOSE);
        match route {
            Some(Route::Healthz | Route::PublicHealthz) => {
                answer::json(out, Status::Ok, mode, &date, |object| {
                    object.boolean("live", true);
                });
            }
            Some(Route::Readyz) => answer::json(out, Status::Unavailable, mode, &date, |object| {
                object.boolean("ready", false);
                object.array("reasons", |array| array.text(name));
                object.text(name, self.why());
            }),
            Some(Route::PublicReadyz) => answer::json(out, Status::Unavailable, mode, &date, |object| {
                object.boolean("ready", false);
            }),
            Some(Route::Metrics) => {
                let text = starting_metrics();
                answer::bytes(out, Status::Ok, Media::Metrics, text.as_bytes(), mode, &date);
            }
            _ => answer::problem(out, &Code::Overloaded.problem(), mode, &date),
        }
    }
}
