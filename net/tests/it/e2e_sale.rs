//! A whole sale for the end-to-end tests: the load generator's buyers, faults in the middle,
//! and the checker's verdict at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stampede_loadgen::engine::{self, Mode, Outcome, RunConfig};
use stampede_loadgen::meaning::Class;
use stampede_loadgen::verify::{self, VerifyConfig};
use stampede_loadgen::workload::Workload;

use crate::e2e_talk::{Talk, item};
use crate::server::{PATIENCE, Server, wait_for};

/// The item that is sold.
pub(crate) const ITEM: u32 = 1;
/// Its units.
pub(crate) const STOCK: u64 = 500;
/// Purchases, each by another buyer; some are sent twice.
const PURCHASES: u64 = 2_000;
/// Their rate, slow enough that something can be done in the middle.
const PER_S: f64 = 2_000.0;
const CONNECTIONS: u32 = 50;

/// Puts the stock on sale.
pub(crate) fn open_sale(server: &Server) {
    let body = item(STOCK, 1, "on_order", 0);
    let opened = format!("shop PUT /admin/items/{ITEM} {body} -> 201 open {STOCK}={STOCK}+0+0");
    Talk::with(server).check(&opened);
}

/// Starts the buyers and calls `meanwhile`; returns when everybody has a final answer.
pub(crate) fn rush(server: Server, seed: u64, meanwhile: impl FnOnce(Server) -> Server) -> (Server, Outcome) {
    eprintln!("seed {seed}");
    let stop = Arc::new(AtomicBool::new(false));
    let workload = Workload { repeat: 0.1, ..Workload::purchases(ITEM, seed) };
    let config = RunConfig {
        mode: Mode::open(PER_S),
        connections: CONNECTIONS,
        ride_out: PATIENCE,
        timeout: Duration::from_secs(10),
        stop: stop.clone(),
        ..RunConfig::closed(server.public, workload, PURCHASES)
    };
    let crowd = std::thread::spawn(move || engine::run(&config));
    // A test that fails in the middle must not wait for the buyers' patience.
    let _guard = StopOnDrop(stop);
    let server = meanwhile(server);
    let outcome = crowd.join().unwrap().expect("the buyers can start");
    assert_eq!(outcome.gave_up, None);
    (server, outcome)
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the merchant API shows that many units sold.
pub(crate) fn wait_for_sold(server: &Server, units: i64) {
    let merchant = server.merchant();
    wait_for("the sale's middle", || (merchant.item(ITEM).unwrap().totals.sold >= units).then_some(()));
}

/// The checker's verdict on a sale at rest: nothing lost, nothing sold twice, all sold.
pub(crate) fn judge(server: &Server, outcome: &Outcome, postgres: Option<&str>) {
    let merchant = server.merchant();
    let history = outcome.history.as_ref();
    let config = VerifyConfig {
        postgres,
        history,
        export_wait: PATIENCE,
        ..VerifyConfig::of_merchant(&merchant, ITEM)
    };
    let verdict = verify::verify(&config).expect("a verdict");
    assert!(verdict.is_fine(), "{verdict}: {:#?}", verdict.violations);
    let totals = merchant.item(ITEM).unwrap().totals;
    assert_eq!((totals.granted, totals.sold), (STOCK as i64, STOCK as i64));
    // Some buyers asked twice and got two responses.
    assert!(verdict.orders == STOCK && verdict.acks >= STOCK, "{verdict}");
    if postgres.is_some() {
        assert_eq!(verdict.postgres_orders, Some(STOCK));
    }
    let history = history.unwrap();
    assert!(
        history.count(Class::Refusal) as u64 > STOCK,
        "there were no buyers: {:?}",
        outcome.tally.by_code
    );
}
