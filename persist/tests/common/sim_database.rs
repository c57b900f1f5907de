//! A simulated database under the real exporter: tables in memory, faults by plan.
//!
//! It stands where Postgres stands in the product, behind the export's seam, and behaves as
//! Postgres does in what the export can tell: transactions with a savepoint, one that failed
//! takes nothing but a rollback, rows held locked by others, rows refused for their own sake
//! (at once or at the commit). No thread, no timer, no clock: every answer is there at the second
//! look, so that what the exporter does while it waits is done; time passes by the cost of a call,
//! by a fault, or by [`SimDatabase::advance`]. Same calls, same plan, same answers.
//!
//! ```text
//! tables.rs   the rows, and the way back from every change (undo, not copies)
//! plan.rs     which fault happens at which call
//! store.rs    the seam: what each statement does
//! outside.rs  what somebody else does between two transactions; what a checker reads
//! ```

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses another part of it"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stampede_persist::export::ExportError;
use stampede_persist::export::store::Connect;

#[path = "sim_database/outside.rs"]
mod outside;
#[path = "sim_database/plan.rs"]
mod plan;
#[path = "sim_database/store.rs"]
mod store;
#[path = "sim_database/tables.rs"]
mod tables;

pub use outside::{Backup, Outside};
pub use plan::{Call, Counts, Fault, Plan, at_call, at_nth};
pub use store::SimStore;
pub use tables::{Books, OrderLine, PaymentLine, Refusal, Rule, SchemaRow, Spec, StockLine, Tables};

use tables::{Mark, Undo};

/// What an ordinary call costs.
const CALL_COST: Duration = Duration::from_micros(100);
/// Most looks at the calls of one transaction: each needs two.
const LOOKS_MAX: u32 = 1 << 20;
/// How long a call waits for a lock, as the product's session settings have it.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How long a call waits for an answer, as the product's options have it.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// The database. Clones are the same one.
#[derive(Clone)]
pub struct SimDatabase(Arc<Mutex<State>>);

/// A transaction that is open.
struct Transaction {
    session: u64,
    careful: bool,
    /// Something in it failed: only a rollback helps.
    failed: bool,
    savepoint: Option<Mark>,
    /// What a constraint will say at the commit.
    refused_at_commit: Option<String>,
}

struct State {
    tables: Tables,
    undo: Undo,
    open: Option<Transaction>,
    outside: Outside,
    begin: Instant,
    elapsed: Duration,
    stopping: bool,
    /// Nobody can connect.
    down: bool,
    /// The next session's number.
    next_session: u64,
    /// Sessions before this one are gone.
    first_alive: u64,
    /// Seeds the identity of a database that is migrated here.
    seed: u64,
    calls: u64,
    plan: Option<Plan>,
    counts: Counts,
}

impl SimDatabase {
    /// An empty database, without tables. The seed becomes its identity.
    pub fn new(seed: u64) -> Self {
        let state = State {
            tables: Tables::default(),
            undo: Undo::default(),
            open: None,
            outside: Outside::default(),
            begin: Instant::now(),
            elapsed: Duration::ZERO,
            stopping: false,
            down: false,
            next_session: 1,
            first_alive: 0,
            seed,
            calls: 0,
            plan: None,
            counts: Counts::default(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the database")
    }

    /// What it was made with.
    pub fn seed(&self) -> u64 {
        self.state().seed
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.state().elapsed += by;
    }

    /// How much time has passed.
    pub fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    /// Tells the exporter to stop (or not to, for the next one).
    pub fn set_stopping(&self, stopping: bool) {
        self.state().stopping = stopping;
    }

    /// Sets what goes wrong from now on; `None` = nothing.
    pub fn set_plan(&self, plan: Option<Plan>) {
        let mut state = self.state();
        (state.plan, state.calls) = (plan, 0);
    }

    /// Calls since the plan was set.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }
}

impl Connect for SimDatabase {
    type Store = SimStore;

    fn now(&self) -> Instant {
        let state = self.state();
        state.begin + state.elapsed
    }

    fn stopping(&self) -> bool {
        self.state().stopping
    }

    fn connect(&mut self) -> Result<SimStore, ExportError> {
        let session = self.state().connect()?;
        Ok(SimStore::new(self.clone(), session))
    }

    fn run<T, E: From<ExportError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let (mut work, mut context) = (pin!(work), Context::from_waker(Waker::noop()));
        for _ in 0..LOOKS_MAX {
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
        }
        unreachable!("a simulated database lets nobody wait for long")
    }
}

impl State {
    /// The database's own clock.
    fn now_us(&self) -> i64 {
        self.elapsed.as_micros() as i64
    }

    fn connect(&mut self) -> Result<u64, ExportError> {
        let (target, call) = ("sim:5432/sim".to_owned(), Call::Connect);
        self.elapsed += CALL_COST;
        let fault = self.next_fault(call);
        if self.down {
            return Err(ExportError::Unreachable { target, reason: "connection refused".to_owned() });
        }
        match fault {
            None => {
                self.next_session += 1;
                Ok(self.next_session - 1)
            }
            Some(Fault::Stalls | Fault::StallsAfter) => {
                self.elapsed += Duration::from_secs(10);
                let reason = "no answer for 10000 ms".to_owned();
                Err(ExportError::Unreachable { target, reason })
            }
            Some(Fault::Dies | Fault::DiesAfter) => {
                Err(ExportError::Unreachable { target, reason: "connection refused".to_owned() })
            }
            Some(Fault::Conflicts | Fault::LockedOut | Fault::Complains) => {
                let reason = "the database system is starting up".to_owned();
                Err(ExportError::NotReady { target, reason })
            }
        }
    }

    fn next_fault(&mut self, call: Call) -> Option<Fault> {
        self.calls += 1;
        self.counts.call(call);
        let fault = self.plan.as_mut()?(call, self.calls)?;
        self.counts.inject(fault, call);
        Some(fault)
    }

    /// One call of a session: the plan's fault, or the work, or both.
    fn call<T>(
        &mut self,
        session: u64,
        call: Call,
        work: impl FnOnce(&mut Self) -> Result<T, ExportError>,
    ) -> Result<T, ExportError> {
        self.elapsed += CALL_COST;
        let fault = self.next_fault(call);
        if session < self.first_alive {
            return Err(ExportError::Lost("connection closed".to_owned()));
        }
        match fault {
            None => self.work(session, call, work),
            Some(Fault::Dies) => Err(self.die(session)),
            Some(Fault::Stalls) => Err(self.stall(session)),
            Some(Fault::DiesAfter) => {
                drop(self.work(session, call, work));
                Err(self.die(session))
            }
            Some(Fault::StallsAfter) => {
                drop(self.work(session, call, work));
                Err(self.stall(session))
            }
            Some(Fault::Conflicts) => {
                self.work(session, call, |_| Err(ExportError::Conflict("deadlock detected".to_owned())))
            }
            Some(Fault::LockedOut) => self.work(session, call, Self::locked_out),
            Some(Fault::Complains) => self.work(session, call, |_| {
                Err(ExportError::Other("could not extend file: No space left on device".to_owned()))
            }),
        }
    }

    fn locked_out<T>(&mut self) -> Result<T, ExportError> {
        self.elapsed += LOCK_WAIT;
        Err(ExportError::Locked("canceling statement due to lock timeout".to_owned()))
    }

    fn work<T>(
        &mut self,
        session: u64,
        call: Call,
        work: impl FnOnce(&mut Self) -> Result<T, ExportError>,
    ) -> Result<T, ExportError> {
        if let Some(open) = &self.open {
            assert_eq!(open.session, session, "{call:?} of a session while another has a transaction open");
            let helps = matches!(call, Call::RollBack | Call::RollBackToSavepoint);
            assert!(!open.failed || call != Call::Commit, "a failed transaction is to be committed");
            if open.failed && !helps {
                let text = "current transaction is aborted, commands ignored until end of transaction block";
                return Err(ExportError::Other(text.to_owned()));
            }
        }
        let done = work(self);
        match (&mut self.open, &done) {
            (Some(open), Err(_)) => open.failed = true,
            (Some(_), Ok(_)) => {}
            (None, Ok(_)) => self.undo.forget(),
            (None, Err(_)) => self.undo.back_to_start(&mut self.tables),
        }
        done
    }

    /// The session is gone, and what it had not committed.
    fn end_session(&mut self, session: u64) {
        if self.open.as_ref().is_some_and(|open| open.session == session) {
            self.open = None;
            self.undo.back_to_start(&mut self.tables);
        }
    }

    fn end_all_sessions(&mut self) {
        if self.open.take().is_some() {
            self.undo.back_to_start(&mut self.tables);
        }
        self.first_alive = self.next_session;
    }

    fn die(&mut self, session: u64) -> ExportError {
        self.end_session(session);
        self.first_alive = self.first_alive.max(session + 1);
        ExportError::Lost("connection reset by peer".to_owned())
    }

    fn stall(&mut self, session: u64) -> ExportError {
        self.elapsed += ANSWER_WAIT;
        self.end_session(session);
        self.first_alive = self.first_alive.max(session + 1);
        ExportError::Stalled { after_ms: ANSWER_WAIT.as_millis() as u64 }
    }
}
