//! Which fault happens at which call, and how often each did.

use std::collections::BTreeMap;

/// Calls of the seam, by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    Connect,
    Begin,
    Commit,
    RollBack,
    Savepoint,
    ReleaseSavepoint,
    RollBackToSavepoint,
    Traits,
    SchemaVersion,
    LockMigrations,
    TableInTheWay,
    MakeIdentity,
    MigrateStep,
    SetSchemaVersion,
    LockAttaching,
    Identity,
    LockCursors,
    ClearBooks,
    MakeCursor,
    TakeCursor,
    MoveCursor,
    HoldsCursor,
    LoadBooks,
    PutSpecs,
    RecoverBooks,
    StockRows,
    LockStockRows,
    Settle,
    EnterBooks,
    MakeStockRows,
    NotePauses,
    ClearPauses,
    CopyOrders,
    InsertOrders,
    RefillOrders,
    UpdateOrders,
    PutPayments,
    Block,
    Unblock,
    SetAside,
    Sweep,
    BlockedPage,
    StockPage,
    ItemsWithOrders,
    OrdersPage,
    MuddledItems,
}

/// What can go wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// The connection dies before the call arrives: the transaction is rolled back. At
    /// [`Call::Connect`]: refused.
    Dies,
    /// The call is carried out and the connection dies before the answer. At
    /// [`Call::Commit`]: everything is there, and the exporter does not know.
    DiesAfter,
    /// No answer within the limit, nothing done.
    Stalls,
    /// No answer within the limit, but it was done.
    StallsAfter,
    /// A deadlock: the transaction has to be rolled back, the connection is well.
    Conflicts,
    /// Somebody holds a lock for longer than anybody waits.
    LockedOut,
    /// The server cannot do it now (a full disk). At [`Call::Connect`]: it is starting up.
    Complains,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Dies,
        Self::DiesAfter,
        Self::Stalls,
        Self::StallsAfter,
        Self::Conflicts,
        Self::LockedOut,
        Self::Complains,
    ];
}

/// Asked at each call, with its number since the plan was set, from 1.
pub type Plan = Box<dyn FnMut(Call, u64) -> Option<Fault> + Send>;

/// One fault, at the n-th call from now.
pub fn at_call(n: u64, fault: Fault) -> Plan {
    Box::new(move |_, call| (call == n).then_some(fault))
}

/// One fault, at the n-th call of this kind from now.
pub fn at_nth(kind: Call, mut n: u64, fault: Fault) -> Plan {
    Box::new(move |call, _| {
        if call != kind || n == 0 {
            return None;
        }
        n -= 1;
        (n == 0).then_some(fault)
    })
}

/// How often what was done to the exporter.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    called: BTreeMap<Call, u64>,
    injected: BTreeMap<(Fault, Call), u64>,
    outside: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn call(&mut self, call: Call) {
        *self.called.entry(call).or_insert(0) += 1;
    }

    pub(super) fn inject(&mut self, fault: Fault, call: Call) {
        *self.injected.entry((fault, call)).or_insert(0) += 1;
    }

    pub(super) fn happen(&mut self, what: &'static str) {
        *self.outside.entry(what).or_insert(0) += 1;
    }

    /// Calls, by kind.
    pub const fn called(&self) -> &BTreeMap<Call, u64> {
        &self.called
    }

    /// Faults of the plan, by kind and call.
    pub const fn injected(&self) -> &BTreeMap<(Fault, Call), u64> {
        &self.injected
    }

    /// What somebody else did, by its name.
    pub const fn outside(&self) -> &BTreeMap<&'static str, u64> {
        &self.outside
    }
}
