//! One round: a fresh sale with its load, a fault in the middle, the checker at the end.
//!
//! It stops and restarts the server; what happens to the server meanwhile is in
//! `fault.rs`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use stampede_testkit::Missing;

use crate::dice::Dice;
use crate::fault::{Crowded, Fault};
use crate::sale::{Crowd, Sale, wait_for_sold};
use crate::server::{PATIENCE, TOKEN, wait_for};
use crate::tracer::{Strike, Tracer};
use crate::world::World;

/// The size of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) stock: u64,
    pub(crate) per_s: f64,
    pub(crate) connections: u32,
}

/// Connections of the load that only fills the log, each with one order at a time.
const BALLAST_CONNECTIONS: u32 = 12;
/// Units of an item that is never sold out.
const BALLAST_STOCK: u64 = 400_000;
/// How long a sale lasts if somebody edits its stock, in seconds.
const EDITED_SALE_S: f64 = 3.0;
/// Longest wait for a step of the server: snapshots need many segments.
const STEP_WAIT: Duration = Duration::from_secs(30);
/// Number of checks of a server after its load has ended: it updates its control file a moment later.
const LOOKS_AT_REST: u32 = 200;
/// Exit code after a log failure.
const EXIT_LOG_FAILED: i32 = 74;

/// Whether the fault happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reached {
    Yes,
    /// The sale ended before the server came to that step; it was killed instead.
    Not,
}

/// A sale and its load while it runs.
pub(crate) struct Round<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) sale: Sale,
    pub(crate) crowd: Crowd,
    /// A second load that fills segment after segment.
    ballast: Option<Crowd>,
    pub(crate) dice: Dice,
    pub(crate) outages: u32,
    /// Units granted at the end.
    pub(crate) granted: u64,
    /// Whether everything has to be sold at the end.
    pub(crate) sells_out: bool,
}

/// The result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) reached: Reached,
    pub(crate) acked: u64,
    pub(crate) orders: u64,
    pub(crate) outages: u32,
    /// Whether buyers lost a connection.
    pub(crate) noticed: bool,
}

/// Runs one round. A broken promise panics.
///
/// # Errors
/// Why this fault cannot be made here; the sale was checked all the same.
pub(crate) fn play(world: &mut World, fault: &Fault, size: Size, seed: u64) -> (Report, Result<(), Missing>) {
    let mut dice = Dice::new(seed);
    let mut sale = Sale::new(world.next_item(), size.stock, dice.next(), size.per_s, size.connections);
    sale.keep_alive = fault.crowded != Crowded::WithoutKeepAlive;
    // In every third sale buyers cancel orders.
    if dice.among(1, 3) == 1 && fault.crowded != Crowded::Edited {
        sale.cancel = 0.1;
    }
    if fault.crowded == Crowded::Edited {
        // Slow enough that somebody with a database client can act in its middle.
        sale.per_s = Some(sale.purchases as f64 / EDITED_SALE_S);
    }
    sale.open(world.server());
    let ballast = (fault.crowded == Crowded::WithBallast).then(|| start_ballast(world, dice.next()));
    let crowd = sale.start(world.server().public);
    let (granted, sells_out) = (sale.stock, sale.cancel == 0.0);
    let mut round = Round { world, sale, crowd, ballast, dice, outages: 0, granted, sells_out };
    let done = (fault.act)(&mut round);
    let (report, skipped) = match done {
        Ok(reached) => (round.judge(reached), Ok(())),
        Err(why) => (round.judge(Reached::Not), Err(why)),
    };
    (report, skipped)
}

fn start_ballast(world: &mut World, seed: u64) -> Crowd {
    let ballast = Sale {
        purchases: BALLAST_STOCK,
        per_s: None,
        ..Sale::new(world.next_item(), BALLAST_STOCK, seed, 1.0, BALLAST_CONNECTIONS)
    };
    ballast.open(world.server());
    ballast.start(world.server().public)
}

impl Round<'_> {
    /// Waits until about this share of the stock is sold.
    pub(crate) fn reach(&self, percent: u64) {
        wait_for_sold(self.world.server(), &self.crowd, self.sale.stock * percent / 100);
    }

    /// Waits until a random moment in the middle of the sale.
    pub(crate) fn reach_somewhere(&mut self) {
        let percent = self.dice.among(5, 70);
        self.reach(percent);
    }

    /// Waits until everybody has a final answer.
    pub(crate) fn see_it_through(&self) {
        wait_for("the end of the load", || self.is_through().then_some(()));
    }

    fn is_through(&self) -> bool {
        self.crowd.is_over()
    }

    pub(crate) fn kill(&mut self) {
        self.world.server.take().expect("the server runs").kill();
        self.outages += 1;
    }

    /// Starts it again, as a supervisor would.
    pub(crate) fn start(&mut self) {
        assert!(self.world.server.is_none(), "it runs");
        self.world.server = Some(self.world.bed.start());
    }

    /// Waits for the end of a server that was told to stop; returns how it ended, and its output.
    pub(crate) fn gone(&mut self) -> (ExitStatus, String) {
        let mut server = self.world.server.take().expect("the server runs");
        let status = server.wait_for_exit();
        self.outages += 1;
        (status, server.said())
    }

    /// Strikes at a system call and waits until the server has died of it; then restarts
    /// it. If the sale ends first, the server is killed.
    pub(crate) fn die_of(&mut self, strike: &Strike) -> Result<Reached, Missing> {
        let tracer = self.strike(strike)?;
        let died = self.comes_about(|world| world.server_mut().exited().is_some());
        drop(tracer);
        let reached = if died {
            let (status, said) = self.gone();
            if strike.effect.starts_with("signal") {
                assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}\n{said}");
            } else {
                assert_eq!(status.code(), Some(EXIT_LOG_FAILED), "{strike:?}: {status}\n{said}");
                assert!(said.contains("the log has failed"), "{said}");
            }
            Reached::Yes
        } else {
            self.kill();
            Reached::Not
        };
        self.start();
        Ok(reached)
    }

    /// Strikes at a system call whose failure the server must survive.
    pub(crate) fn survive(&mut self, strike: &Strike) -> Result<Reached, Missing> {
        let tracer = self.strike(strike)?;
        let log = self.strike_log();
        let met =
            self.comes_about(|_| std::fs::read_to_string(&log).unwrap_or_default().contains("INJECTED"));
        drop(tracer);
        Ok(if met { Reached::Yes } else { Reached::Not })
    }

    pub(crate) fn strike(&self, strike: &Strike) -> Result<Tracer, Missing> {
        Tracer::attach(self.world.server(), strike, &self.strike_log())
    }

    fn strike_log(&self) -> std::path::PathBuf {
        self.world.beside("strace.log")
    }

    /// Whether nothing is left that could bring the server to a step. A server at rest still
    /// updates its control file, and a ballast load never ends.
    fn is_worn_out(&self) -> bool {
        self.is_through() && self.ballast.as_ref().is_none_or(Crowd::is_over)
    }

    /// Waits for something that the load must cause; false if nothing is left that
    /// could, or if it takes too long.
    fn comes_about(&mut self, mut it: impl FnMut(&mut World) -> bool) -> bool {
        let deadline = std::time::Instant::now() + STEP_WAIT;
        let mut looks_left = LOOKS_AT_REST;
        while looks_left > 0 && std::time::Instant::now() < deadline {
            if it(self.world) {
                return true;
            }
            looks_left -= u32::from(self.is_worn_out());
            crate::server::pause();
        }
        false
    }

    /// A merchant's `POST`.
    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        let address = self.world.server().admin;
        let mut stream = TcpStream::connect(address).expect("the merchant gets in");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Lets the loads finish, and compares what they were told with the totals and
    /// the database.
    fn judge(self, reached: Reached) -> Report {
        let Self { world, sale, crowd, ballast, outages, granted, sells_out, .. } = self;
        let told = crowd.finish();
        let ballast = ballast.map(Crowd::send_away);
        assert_eq!(world.server_mut().exited(), None, "it ended by itself:\n{}", world.server_mut().said());
        wait_for_stock_row(world, sale.item);
        let url = world.url();
        let verdict = told.judge(world.server(), Some(&url));
        let totals = world.server().merchant().item(sale.item).expect("the item's page").totals;
        assert_eq!(totals.granted, granted as i64, "units granted");
        if sells_out {
            assert_eq!((totals.sold, totals.available), (granted as i64, 0), "everything is sold (I19)");
        }
        let mut report = Report {
            reached,
            acked: told.history.orders_acked() as u64,
            orders: verdict.orders,
            outages,
            noticed: told.reconnects > 0,
        };
        world.remember(told);
        if let Some(ballast) = ballast {
            wait_for_stock_row(world, ballast.sale.item);
            let verdict = ballast.judge(world.server(), Some(&url));
            report.orders += verdict.orders;
            report.acked += ballast.history.orders_acked() as u64;
            world.remember(ballast);
        }
        report
    }
}

/// Waits until the stock row agrees with the merchant API: the exporter postpones a row that somebody
/// has locked (for example a dying session of its own), while orders continue.
fn wait_for_stock_row(world: &World, item: u32) {
    let merchant = world.server().merchant();
    let row = format!("SELECT count, held, sale FROM stock WHERE id = {item}");
    wait_for("the stock's row to say what the shop says", || {
        let totals = merchant.item(item).ok()?.totals;
        let expected = format!("{}|{}|{}", totals.available, totals.held, totals.sold);
        (world.sql(&row) == expected).then_some(())
    });
}
