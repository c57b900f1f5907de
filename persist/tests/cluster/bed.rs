//! What the suite stands on: a store under test, its handles, and the two accidents that it has to survive.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stampede_core::types::Lsn;
use stampede_persist::cluster::{
    Block, ClusterError, ClusterId, ClusterName, ClusterRecord, Epoch, EtcdOptions, EtcdStore, Faults,
    LeaderRecord, Ledger, MemoryCluster, MemoryStore, NodeName, NodeRecord, Nonce, Position, Registry, Swap,
};
use stampede_persist::log::identity::LogId;
use stampede_testkit::{EtcdCluster, EtcdClusterOptions};

use crate::proxy::{Mode, Proxy};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long somebody asks who is to hear no answer.
const GIVES_UP_AFTER: Duration = Duration::from_secs(2);

/// Both traits at once.
pub(crate) trait Store: Ledger + Registry {}

impl<S: Ledger + Registry> Store for S {}

/// A store under test that holds no cluster yet.
pub(crate) trait Bed: Sync {
    type Handle: Store + Send;

    /// A node's handle; `expected` as its settings would say.
    fn handle(&self, expected: Option<ClusterId>) -> Self::Handle;

    /// Sends an append that arrives only after `meanwhile` has run.
    fn append_late(
        &self,
        leader: &LeaderRecord,
        block: &Block,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), ClusterError>;

    /// Sends an append that is carried out and whose answer is lost.
    fn append_unheard(&self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError>;
}

/// The store in memory.
#[derive(Default)]
pub(crate) struct MemoryBed(pub(crate) MemoryCluster);

impl Bed for MemoryBed {
    type Handle = MemoryStore;

    fn handle(&self, expected: Option<ClusterId>) -> MemoryStore {
        self.0.handle(expected)
    }

    fn append_late(
        &self,
        leader: &LeaderRecord,
        block: &Block,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), ClusterError> {
        let mut handle = self.0.handle_with(None, Faults { delay: 256, ..Faults::default() });
        let answer = handle.append(leader, block);
        assert_eq!(self.0.under_way(), 1);
        meanwhile();
        self.0.deliver(0);
        answer
    }

    fn append_unheard(&self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError> {
        self.0.handle_with(None, Faults { lose_answer: 256, ..Faults::default() }).append(leader, block)
    }
}

/// One name in the etcd that all tests share; it lives as long as this process.
pub(crate) struct EtcdBed(ClusterName);

fn shared() -> MutexGuard<'static, EtcdCluster> {
    static SHARED: OnceLock<Mutex<EtcdCluster>> = OnceLock::new();
    let cluster = SHARED.get_or_init(|| {
        Mutex::new(EtcdCluster::new(&EtcdClusterOptions::default()).expect("three members of etcd"))
    });
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Text of bytes, as etcd's gateway takes and gives them.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

impl EtcdBed {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(ClusterName::new(&format!("bed-{number}")).expect("a name"))
    }

    fn key(&self, rest: &str) -> String {
        base64(format!("/stampede/{}/{rest}", self.0))
    }

    /// Writes below the cluster's keys, as a stranger would.
    pub(crate) fn put(&self, rest: &str, value: &[u8]) {
        let body = format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", self.key(rest), base64(value));
        shared().post(0, "/v3/kv/put", &body).expect("put");
    }

    pub(crate) fn delete(&self, rest: &str) {
        let body = format!("{{\"key\":\"{}\"}}", self.key(rest));
        shared().post(0, "/v3/kv/deleterange", &body).expect("deleted");
    }

    pub(crate) fn get(&self, rest: &str) -> Vec<u8> {
        let told =
            shared().post(0, "/v3/kv/range", &format!("{{\"key\":\"{}\"}}", self.key(rest))).expect("got");
        let value = told.split("\"value\":\"").nth(1).and_then(|rest| rest.split('"').next());
        assert!(told.contains("\"kvs\""), "{rest} is there");
        // An empty value is left out.
        STANDARD.decode(value.unwrap_or_default()).expect("base64")
    }

    fn store(&self, endpoints: Vec<String>, expected: Option<ClusterId>, patience: Duration) -> EtcdStore {
        let mut options = patient(EtcdOptions::new(self.0.clone(), endpoints));
        options.expected = expected;
        options.timeouts.attempt = patience;
        options.timeouts.call = patience;
        EtcdStore::new(&options).expect("options")
    }
}

/// Time-outs for a machine that has other things to do.
pub(crate) fn patient(mut options: EtcdOptions) -> EtcdOptions {
    options.timeouts.connect = Duration::from_secs(10);
    options.timeouts.attempt = Duration::from_secs(10);
    options.timeouts.call = PATIENCE;
    options
}

impl Bed for EtcdBed {
    type Handle = EtcdStore;

    fn handle(&self, expected: Option<ClusterId>) -> EtcdStore {
        self.store(shared().endpoints(), expected, PATIENCE)
    }

    fn append_late(
        &self,
        leader: &LeaderRecord,
        block: &Block,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), ClusterError> {
        let proxy = Proxy::new(shared().port(0));
        let mut old = self.store(vec![proxy.url()], None, PATIENCE);
        old.cluster().expect("it is connected");
        proxy.set(Mode::HoldRequests);
        thread::scope(|scope| {
            let sent = scope.spawn(|| old.append(leader, block));
            wait_until("the append is under way", || proxy.held() >= block.bytes().len());
            meanwhile();
            proxy.set(Mode::Pass);
            sent.join().expect("no panic")
        })
    }

    fn append_unheard(&self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError> {
        let proxy = Proxy::new(shared().port(0));
        let mut unheard = self.store(vec![proxy.url()], None, GIVES_UP_AFTER);
        unheard.cluster().expect("it is connected");
        proxy.set(Mode::DropAnswers);
        let answer = unheard.append(leader, block);
        let mut look = self.handle(None);
        wait_until("it was carried out", || look.bounds().expect("bounds").1 == block.after());
        answer
    }
}

/// Waits for something with a deadline.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// A cluster's record, drawn from a number.
pub(crate) fn record(number: u8) -> ClusterRecord {
    let id = ClusterId([number; 16]);
    ClusterRecord { id, log_id: LogId([number ^ 0xFF; 16]), secret: [number; 32], level: 1 }
}

/// A node that wants to lead.
pub(crate) fn candidate(name: &str, nonce: u8) -> LeaderRecord {
    let node = Some(NodeName::new(name).expect("a name"));
    LeaderRecord { epoch: Epoch::NONE, node, address: format!("{name}:9000"), nonce: Nonce([nonce; 16]) }
}

/// A node that is there.
pub(crate) fn present(name: &str, nonce: u8) -> NodeRecord {
    let node = NodeName::new(name).expect("a name");
    let (address, version) = (format!("{name}:9000"), "0.1.0".to_owned());
    NodeRecord { node, address, nonce: Nonce([nonce; 16]), version, level: 1 }
}

/// Makes the cluster of this number, with a node that leads it.
pub(crate) fn led(store: &mut impl Store, number: u8) -> (LeaderRecord, Position) {
    store.found(&record(number)).expect("made");
    lead(store, "first", number)
}

/// Makes this node the leader; with where the chain ends.
#[track_caller]
pub(crate) fn lead(store: &mut impl Store, name: &str, nonce: u8) -> (LeaderRecord, Position) {
    let (old, _) = store.leader().expect("told");
    match store.swap(&old, &candidate(name, nonce)).expect("swapped") {
        Swap::Won(leader) => {
            let tail = store.seal(&leader).expect("sealed");
            (leader, tail)
        }
        Swap::Lost(to) => panic!("{to:?} has won"),
    }
}

/// The next block: so many facts, and bytes that say where they belong.
pub(crate) fn next_block(leader: &LeaderRecord, before: Position, facts: u64, len: usize) -> Block {
    let last = Lsn(before.lsn.0 + facts);
    let byte = |at: usize| (at as u64).wrapping_mul(31).wrapping_add(last.0) as u8;
    let bytes = (0..len).map(byte).collect();
    Block::new(leader.epoch, before, last, bytes).expect("a block")
}

/// Appends some blocks; gives them.
pub(crate) fn append_some(
    store: &mut impl Store,
    leader: &LeaderRecord,
    mut at: Position,
    blocks: u64,
) -> Vec<Block> {
    let mut all = Vec::new();
    for n in 1..=blocks {
        let block = next_block(leader, at, n % 3 + 1, 100);
        store.append(leader, &block).expect("appended");
        at = block.after();
        all.push(block);
    }
    all
}

/// The whole chain from its beginning.
pub(crate) fn chain(store: &mut impl Store) -> Vec<Block> {
    let (mut at, tail) = store.bounds().expect("bounds");
    let mut all = Vec::new();
    while at != tail {
        let some = store.read(at, 3).expect("read");
        at = some.last().expect("it goes on").after();
        all.extend(some);
    }
    all
}
