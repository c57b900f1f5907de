//! One life of the engine: opened, recovered and put together as the server does it, but
//! without threads, sockets and a clock of its own. Whoever holds it takes its steps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::shard::Shard;
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, UnixMillis};
use stampede_net::engine::clock::SaleClock;
use stampede_net::engine::home::Home;
use stampede_net::engine::mesh::Mesh;
use stampede_net::engine::owner::Owner;
use stampede_net::engine::shared::{EngineState, Shared};
use stampede_net::gate::challenge::Challenges;
use stampede_net::gate::seal::SealKey;
use stampede_net::gate::ticket::Tickets;
use stampede_net::gate::{Gate, GateRules};
use stampede_net::http::limits::{HEAD_BYTES, IDLE_MS};
use stampede_net::identity::Identity;
use stampede_net::server::export::{Ready, attach_before_sale, attach_late, must_wait};
use stampede_net::server::recover::Replayed;
use stampede_net::server::replay::Shards;
use stampede_persist::codec;
use stampede_persist::export::{AttachError, Database, ExportStatus, Nonce, PreheatError};
use stampede_persist::log::control::Control;
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, Stepped};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::rebuild::Rebuild;

use crate::book::{Book, Red, ensure};
use crate::ledger::{Desk, Machine};
use crate::sim_database::SimDatabase;
use crate::sim_disk::SimDisk;

/// Where the simulated disk keeps everything.
pub(crate) const DIR: &str = "/data";
/// The merchant's token.
pub(crate) const TOKEN: &str = "sim";
/// Free space that the log wants to be left, in bytes.
pub(crate) const FREE_BYTES_MIN: u64 = 1 << 20;
/// Steps of the journal in which all facts of an import are written, if the disk lets it.
const IMPORT_STEPS_MAX: usize = 64;
/// Slots of the journal's queue, and of each ring between cores.
const SLOTS: usize = 32;

/// How the log of a simulated engine is kept: everything as small as it may be.
pub(crate) fn options(exports: bool) -> LogOptions {
    let options = LogOptions {
        segment_bytes: 32 << 10,
        free_bytes_min: FREE_BYTES_MIN,
        queue_slots: SLOTS,
        queue_reserve: SLOTS / 2,
        exports,
        snapshot_segments: 1,
        ..LogOptions::default()
    };
    LogOptions { log_bytes_max: options.log_bytes_least() + ((4 * 32) << 10), ..options }
}

/// A running engine.
pub(crate) struct Life {
    pub(crate) homes: Vec<Home>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Stepped,
    pub(crate) exporter: Option<Machine>,
    /// It has looked for what stands in the database alone.
    pub(crate) imported: bool,
}

/// What starts an engine.
pub(crate) struct Start<'a> {
    pub(crate) disk: &'a SimDisk,
    pub(crate) cores: usize,
    pub(crate) wall_ms: u64,
    pub(crate) desk: Option<&'a Desk>,
    pub(crate) seed: u64,
    /// Questions that an owner takes in one turn.
    pub(crate) turn_max: usize,
    pub(crate) mono_ms: &'static AtomicU64,
}

/// The identity of a history's log.
pub(crate) fn log_id(seed: u64) -> LogId {
    LogId([seed as u8 | 1; 16])
}

/// What a life goes by in the database: each start is a process of its own.
pub(crate) fn nonce(control: &Control, desk: &Desk) -> Nonce {
    Nonce::new(u128::from(desk.side) << 64 | u128::from(control.epoch))
}

thread_local! {
    static DRAWS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Seeds of draws that follow from the history's own.
fn draw_seed() -> DrawSeed {
    let n = DRAWS.get() + 1;
    DRAWS.set(n);
    let mut seed = DrawSeed::NONE;
    seed.0[..8].copy_from_slice(&(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).to_le_bytes());
    seed
}

/// Begins the seeds of draws anew.
pub(crate) fn begin_draws(seed: u64) {
    DRAWS.set(seed);
}

/// Passes what is replayed on to the shards, and keeps it for the books: what is new there
/// counts only when the recovery has come to its end.
struct Witness<'a> {
    shards: &'a mut Shards,
    book: &'a mut Book,
    new: Vec<(u64, u16, Vec<u8>)>,
    red: Option<Red>,
}

impl Rebuild for Witness<'_> {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        self.shards.row(row)
    }
    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.shards.fact(lsn, fact)?;
        if lsn.0 <= self.book.lsn {
            self.red = self.red.take().or(self.book.read(lsn.0, fact).err());
        } else {
            let mut bytes = vec![0; stampede_core::limits::FACT_BYTES_MAX];
            let len = codec::encode(fact, &mut bytes);
            bytes.truncate(len);
            self.new.push((lsn.0, codec::fact_kind(fact), bytes));
        }
        Ok(())
    }
    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        self.shards.rows(visit);
    }
}

/// What was recovered.
pub(crate) struct Recovery {
    pub(crate) replayed: Replayed,
    /// Up to where the control file knew the log to be durable.
    pub(crate) witnessed: u64,
    new: Vec<(u64, u16, Vec<u8>)>,
}

/// Opens and recovers; the inner error is a refusal, in words.
pub(crate) fn recover(start: &Start<'_>, book: &mut Book) -> Result<Result<Recovery, String>, Red> {
    let new_log = NewLog { log_id: log_id(start.seed), hash_secret: [7; 16] };
    let opened = DataDir::open_on(
        Arc::new(start.disk.clone()),
        Path::new(DIR),
        &options(start.desk.is_some()),
        &new_log,
    );
    let data = match opened {
        Ok(data) => data,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (mut new, mut red, witnessed) = (Vec::new(), None, data.control().durable_lsn.0);
    let replayed = Replayed::recover(data, start.cores, |data, shards| {
        let mut witness = Witness { shards, book: &mut *book, new: Vec::new(), red: None };
        let opened = data.recover(&mut witness);
        (new, red) = (witness.new, witness.red);
        opened
    });
    if let Some(red) = red {
        return Err(red);
    }
    Ok(replayed.map(|replayed| Recovery { replayed, witnessed, new }).map_err(|error| format!("{error:#}")))
}

/// What `stampede export --from-snapshot` does; what came of it, in words.
pub(crate) fn refill(start: &Start<'_>, desk: &Desk) -> Result<String, String> {
    let new_log = NewLog { log_id: log_id(start.seed), hash_secret: [7; 16] };
    let data = DataDir::open_on(Arc::new(start.disk.clone()), Path::new(DIR), &options(true), &new_log)
        .map_err(|error| error.to_string())?;
    let database = Database::over(desk.database.clone()).map_err(|error| error.to_string())?;
    let mut process = *data.control();
    // Not that of a life: recovery counts on from here.
    process.epoch = u64::MAX - process.epoch;
    let filled = stampede_net::server::refill::refill(data, database, nonce(&process, desk));
    filled.map(|filled| format!("{filled:?}")).map_err(|error| format!("{error:#}"))
}

impl Recovery {
    /// What was recovered is durable from now on: the books take it over and compare.
    pub(crate) fn judge(&self, book: &mut Book) -> Result<(), Red> {
        let durable = self.replayed.durable().0;
        ensure!(durable >= book.lsn, "I2 recovered up to LSN {durable}, LSN {} was durable", book.lsn);
        for (lsn, kind, payload) in &self.new {
            book.read(*lsn, &codec::decode(*kind, payload).map_err(|error| error.to_string())?)?;
        }
        ensure!(durable == book.lsn, "I9 recovered up to LSN {durable}, replayed up to {}", book.lsn);
        let (last, known) = (self.replayed.last_ms().0, book.last_ms);
        ensure!(last >= known, "I14 the sale clock goes on from {last}, the log has {known}");
        book.life_began_ms = known;
        book.compare(self.replayed.shards().iter())
    }

    /// Whether it brought nothing that the books did not have.
    pub(crate) fn is_known(&self) -> bool {
        self.new.is_empty()
    }

    /// Starts the log and puts the engine together; the inner error is a refusal.
    pub(crate) fn start(mut self, start: &Start<'_>, attaches: bool) -> Result<Life, String> {
        let mesh = Arc::new(Mesh::with_slots(start.cores, SLOTS));
        let wakers = mesh.wakers().iter().map(|waker| {
            let waker = waker.clone();
            Arc::new(move || waker.wake()) as Arc<dyn Fn() + Send + Sync>
        });
        let attached = match start.desk.filter(|_| attaches) {
            Some(desk) => match Database::over(desk.database.clone()) {
                Ok(database) => {
                    match attach_before_sale(database, &self.replayed, nonce(self.replayed.control(), desk)) {
                        Ok(ready) => Some(ready),
                        // The sale goes on without it (I18).
                        Err(AttachError::Database(_)) => None,
                        // The log could not be read: that says nothing of the database.
                        Err(AttachError::Log(unread)) => return Err(unread),
                        Err(refused) => return Err(format!("I12 {refused}")),
                    }
                }
                Err(_unreachable) => None,
            },
            None => None,
        };
        let mut log = self.replayed.start_stepped(wakers.collect()).map_err(|error| format!("{error:#}"))?;
        start.mono_ms.store(0, std::sync::atomic::Ordering::Relaxed);
        let wall = UnixMillis(start.wall_ms);
        let clock = SaleClock::start_by_hand(wall, self.replayed.last_ms(), start.mono_ms);
        let attached = match (attached, start.desk) {
            (None, Some(desk)) if desk.past.is_some() && must_wait(self.replayed.control(), false) => {
                Some(wait_for_database(desk, self.replayed.control(), &log)?)
            }
            (attached, _) => attached,
        };
        let imported = attached.is_some();
        if let Some(ready) = attached {
            // Without a past it is a new shop, which sells whatever comes of the database.
            let waits = start.desk.is_some_and(|desk| desk.past.is_some());
            take_over(ready, waits, &mut self.replayed, &mut log, clock.now().sale)?;
        }
        let export = start.desk.map(|_| Arc::<ExportStatus>::default());
        let shared = Arc::new(Shared {
            clock,
            identity: Identity::header([127, 0, 0, 1].into(), vec![]).expect("loopback"),
            gate: gate(start.cores),
            admin_token: TOKEN.to_owned(),
            secret: self.replayed.secret(),
            catalogue: self.replayed.catalogue().clone(),
            log: log.status.clone(),
            queue: log.queue.clone(),
            export: export.clone(),
            weakened: vec![],
            ack_durable: true,
            demo: None,
            mesh,
            idle_ms: IDLE_MS as u32,
            head_bytes: HEAD_BYTES as u32,
            state: EngineState::serving(start.cores),
        });
        let shards = self.replayed.into_shards().into_iter().enumerate();
        let homes = shards.map(|(core, shard)| {
            let owner = Owner::with_seeds(shard, log.queue.producer(), shared.clone(), draw_seed);
            Home::new(core, owner, shared.clone()).with_turn_max(start.turn_max)
        });
        let homes = homes.collect();
        let exporter = start.desk.zip(export).map(|(desk, status)| desk.exporter(&shared, &log, status));
        Ok(Life { homes, shared, log, exporter, imported })
    }
}

/// Nothing is sold before the database is reached: the log runs meanwhile.
fn wait_for_database(desk: &Desk, control: &Control, log: &Stepped) -> Result<Ready<SimDatabase>, String> {
    let database = Database::over(desk.database.clone()).map_err(|error| format!("awaits: {error}"))?;
    attach_late(database, &log.maintenance, nonce(control, desk)).map_err(|refused| match refused {
        AttachError::Database(reason) => format!("awaits: {reason}"),
        AttachError::Log(unread) => unread,
        refused => format!("I12 {refused}"),
    })
}

/// Takes over what stands in the database alone; the control file learns of the database last.
fn take_over(
    ready: Ready<SimDatabase>,
    waits: bool,
    replayed: &mut Replayed,
    log: &mut Stepped,
    now: UnixMillis,
) -> Result<(), String> {
    let database = ready.database();
    match ready.preheat(replayed, (&log.queue, &log.status), now) {
        Ok(report) if report.left_total > 0 => return Err(format!("left alone: {:?}", report.left)),
        Ok(_) => {}
        // A database that was seen before may be down (I18): what was put there since waits for the next start.
        Err(PreheatError::Database(_)) if !waits || replayed.control().database.is_some() => return Ok(()),
        Err(PreheatError::Database(error)) => return Err(format!("awaits: {error}")),
        Err(error) => return Err(error.to_string()),
    }
    let last = replayed.shards().iter().map(Shard::lsn).max().unwrap_or(Lsn::ZERO);
    for _ in 0..IMPORT_STEPS_MAX {
        if log.status.durable_lsn() >= last {
            let noted = log.maintenance.set_database(database);
            return noted.map_err(|error| format!("cannot write the control file: {error}"));
        }
        log.journal.step();
        let _none = log.maintenance.prepare_spare();
    }
    Err(log.status.failure().unwrap_or("the log has no room for what the database holds").to_owned())
}

/// Limits are another test's subject: they are off.
fn gate(cores: usize) -> Gate {
    Gate {
        rules: GateRules {
            buyer_per_s: 0,
            ip_per_s: 0,
            bad_tokens_per_s: 0,
            connections_per_ip: 0,
            suspicious_accounts: 8,
            suspicious_asks_per_min: 60,
        },
        tickets: Tickets::new(vec![SealKey::new(1, &[7; 32]).expect("long enough")], 60_000),
        challenges: Challenges::new(cores, &[9; 64], 60_000, 16),
    }
}

impl Life {
    /// Reads on in the log and lets the books judge it. What cannot be read is left.
    pub(crate) fn audit(&self, book: &mut Book) -> Result<(), Red> {
        use stampede_persist::feed::FactFeed as _;
        let durable = self.log.status.durable_lsn();
        let (mut tail, mut red) = (self.log.maintenance.tail(Lsn(book.lsn)), None);
        while tail.next_lsn() <= durable && red.is_none() {
            let read = tail.read(durable, 1 << 16, &mut |lsn, fact| {
                if red.is_none() {
                    red = book.read(lsn.0, fact).err();
                }
            });
            if read.is_err() {
                break;
            }
        }
        red.map_or(Ok(()), Err)
    }
}
