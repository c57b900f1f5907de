//! A sale for tests that injure the server while it runs: the load generator's buyers on
//! one item, and the checker's verdict at the end.
//!
//! It only checks. Next: `round.rs` of the torture, which uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use stampede_loadgen::check::{Ruling, Verdict};
use stampede_loadgen::engine::{self, Mode, Outcome, RunConfig, RunError};
use stampede_loadgen::history::{Baseline, History};
use stampede_loadgen::meaning::Class;
use stampede_loadgen::verify::{self, VerifyConfig};
use stampede_loadgen::workload::{Fates, Workload};

use crate::server::{PATIENCE, Server, pause, wait_for};

/// Time limit for one attempt of a buyer: shorter than the longest fault, so that buyers
/// retry during it.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long the item stays on sale, in milliseconds.
const OPEN_MS: u64 = 3_600_000;

/// What is sold, and how large the load is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sale {
    /// The item.
    pub(crate) item: u32,
    /// Its units.
    pub(crate) stock: u64,
    /// The seed for buyers and keys.
    pub(crate) seed: u64,
    /// Purchases, of two thirds as many buyers.
    pub(crate) purchases: u64,
    /// Purchases per second; `None`: one after the other on each connection.
    pub(crate) per_s: Option<f64>,
    /// Connections.
    pub(crate) connections: u32,
    /// Whether a connection carries more than one request.
    pub(crate) keep_alive: bool,
    /// Share of winners who cancel their order.
    pub(crate) cancel: f64,
}

impl Sale {
    /// Three purchases per unit, over that many connections.
    pub(crate) fn new(item: u32, stock: u64, seed: u64, per_s: f64, connections: u32) -> Self {
        let (purchases, per_s) = (3 * stock, Some(per_s));
        Self { item, stock, seed, purchases, per_s, connections, keep_alive: true, cancel: 0.0 }
    }

    /// Puts it on sale.
    pub(crate) fn open(&self, server: &Server) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis() as u64;
        let body = json!({
            "name": "torture", "price_minor": 100, "currency": "EUR", "stock": self.stock,
            "opens_at_ms": now - 1_000, "closes_at_ms": now + OPEN_MS, "cap": 1, "payment": "on_order",
        });
        server
            .merchant()
            .put(&format!("/admin/items/{}", self.item), &body)
            .expect("the item is put on sale");
    }

    /// Starts the buyers.
    pub(crate) fn start(self, public: SocketAddr) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let users = u32::try_from(self.purchases * 2 / 3).ok();
        let fates = Fates { cancel: self.cancel, ..Fates::default() };
        let workload = Workload {
            repeat: 0.1,
            double_click: 0.05,
            users,
            fates,
            ..Workload::purchases(self.item, self.seed)
        };
        let config = RunConfig {
            mode: self.per_s.map_or(Mode::Closed, Mode::open),
            connections: self.connections,
            keep_alive: self.keep_alive,
            ride_out: PATIENCE,
            timeout: ATTEMPT,
            stop: stop.clone(),
            ..RunConfig::closed(public, workload, self.purchases)
        };
        let thread = std::thread::spawn(move || engine::run(&config));
        Crowd { sale: self, stop, thread: Some(thread) }
    }
}

/// Buyers at work. Dropping it stops them.
pub(crate) struct Crowd {
    sale: Sale,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome, RunError>>>,
}

impl Crowd {
    /// Whether everybody has a final answer.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until everybody has a final answer.
    pub(crate) fn finish(mut self) -> Told {
        self.told()
    }

    /// Stops everybody who has no final answer yet.
    pub(crate) fn send_away(mut self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.told()
    }

    fn told(&mut self) -> Told {
        let thread = self.thread.take().expect("it is waited for once");
        let outcome = thread.join().expect("the buyers do not panic").expect("the buyers can start");
        assert_eq!(outcome.gave_up, None, "the buyers gave up");
        let mut history = outcome.history.expect("it was kept");
        let baseline = Baseline { granted: self.sale.stock as i64, ..Baseline::default() };
        history.baselines.insert(self.sale.item, baseline);
        if !outcome.interrupted {
            assert_eq!(history.count(Class::Unknown), 0, "every unknown was asked again and is decided");
        }
        Told { sale: self.sale, history, reconnects: outcome.tally.reconnects }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _its_own_matter = thread.join();
        }
    }
}

/// What the buyers were told.
pub(crate) struct Told {
    pub(crate) sale: Sale,
    pub(crate) history: History,
    pub(crate) reconnects: u64,
}

impl Told {
    /// The checker's verdict on the item at rest.
    pub(crate) fn judge(&self, server: &Server, postgres: Option<&str>) -> Verdict {
        let merchant = server.merchant();
        let history = Some(&self.history);
        let books = VerifyConfig::of_merchant(&merchant, self.sale.item);
        let verdict = verify::verify(&VerifyConfig { postgres, history, export_wait: PATIENCE, ..books });
        let verdict = verdict.expect("a verdict");
        // If units came back late, nobody can say whether they should have been sold. Everything else is
        // checked.
        let holds = matches!(verdict.ruling(), Ruling::Fine | Ruling::Inconclusive);
        assert!(holds, "{verdict}: {:#?}", verdict.violations);
        verdict
    }
}

/// Units sold so far; `None` while the server does not respond.
pub(crate) fn sold(server: &Server, item: u32) -> Option<i64> {
    server.merchant().item(item).ok().map(|page| page.totals.sold)
}

/// Waits until that many units are sold, or the load has ended.
pub(crate) fn wait_for_sold(server: &Server, crowd: &Crowd, units: u64) {
    wait_for("the sale's middle", || {
        let there = sold(server, crowd.sale.item).is_some_and(|sold| sold >= units as i64);
        (there || crowd.is_over()).then_some(())
    });
}

/// Waits out a fault: its length is part of the fault, and nothing is expected to have
/// happened when it is over.
pub(crate) fn last(length: Duration) {
    let until = std::time::Instant::now() + length;
    while std::time::Instant::now() < until {
        pause();
    }
}
