//! One life of a log under real threads: producers at their own paces, the journal, the makers of
//! spares and snapshots, an exporter, on a disk that notes everything.
//!
//! A life ends as a power cut ends one: at a moment when the device has a write to the log in its
//! hands, wherever the threads are. What the database holds at that moment is kept, too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stampede_core::types::Lsn;
use stampede_persist::export::{
    ExportEvent, ExportPort, ExportStatus, Exporter, ExporterOptions, Nonce, Step,
};
use stampede_persist::feed::{FactFeed, FeedError};
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, OpenError, Opened};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::maintenance::Maintenance;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::status::LogStatus;

use super::capture::{CaptureDisk, Device, Event};
use super::shop::{Book, Encoded, ITEMS, Seller, Shop};
use super::sim_database::{Backup, SimDatabase};
use super::sim_disk::{Rng, SimDisk};

pub(crate) const DIR: &str = "/data";
pub(crate) const LOG: LogId = LogId(*b"a log of the rig");
const DEADLINE: Duration = Duration::from_secs(60);
/// Most facts of one life: each image is replayed in whole.
const FACTS_MAX: u64 = 4_000;

/// How a producer's facts come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Eight at once, and so many microseconds later the next, as long as there is room.
    Flood(u64),
    /// One after so many microseconds: about as fast as groups are written, or slower.
    Steady(u64),
    /// So many at once, then nothing for so many microseconds.
    Bursts(u64, u64),
    /// So many, and the next when these are durable.
    Waits(u64),
}

/// What a life is like.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) paces: Vec<Pace>,
    pub(crate) device: Device,
    pub(crate) options: LogOptions,
    pub(crate) lasts: Duration,
}

/// What a life is to bring about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    /// One group after the other without a pause, each of a fact or a few: the control file must keep up.
    Steady,
    /// Large groups, and facts that arrive while their blocks are built.
    Crowd,
    /// Anything.
    Any,
}

impl Conditions {
    pub(crate) fn draw(rng: &mut Rng, aim: Aim) -> Self {
        let producers = match aim {
            // Of three, one or the other comes in time also where the machine has no time for all.
            Aim::Steady => 3,
            Aim::Crowd => 2,
            Aim::Any => 1 + rng.below(u64::from(ITEMS)),
        };
        let pace = |rng: &mut Rng| match (aim, rng.below(6)) {
            (Aim::Steady, _) => Pace::Steady(1_000 + rng.below(1_500)),
            (Aim::Crowd, _) | (_, 0) => Pace::Flood(rng.below(80)),
            (_, 1) => Pace::Steady(20 + rng.below(300)),
            (_, 2) => Pace::Steady(300 + rng.below(4_000)),
            (_, 3 | 4) => Pace::Bursts(1 + rng.below(400), 100 + rng.below(8_000)),
            _ => Pace::Waits(1 + rng.below(64)),
        };
        let paces = (0..producers).map(|_| pace(rng)).collect();
        let stalls = aim == Aim::Any && rng.below(3) == 0;
        let device = Device {
            write_us_max: if aim == Aim::Crowd { 8_000 } else { [20, 100, 400][rng.below(3) as usize] },
            stall_in: if stalls { 1 + rng.below(20) } else { u64::MAX },
            stall_us: 5_000 + rng.below(20_000),
        };
        // A queue that facts can enter while the journal takes others out, and segments that roll and are
        // trimmed; or such of which a group fills several blocks, and that last the whole life.
        let (segment_kib, queue_slots) = match (aim, rng.below(4)) {
            (Aim::Steady, _) => (1 << 10, 512),
            (Aim::Crowd, _) | (_, 0) => (2 << 10, 8192),
            (_, 1) => (64, 512),
            (_, 2) => (256, 2048),
            _ => (512, 4096),
        };
        let options = LogOptions {
            segment_bytes: segment_kib << 10,
            log_bytes_max: 64 << 20,
            free_bytes_min: 0,
            queue_slots,
            queue_reserve: 64,
            snapshot_segments: 1 + rng.below(6),
            exports: true,
            ..LogOptions::default()
        };
        let lasts = match aim {
            Aim::Steady => 500,
            Aim::Crowd => 150,
            Aim::Any => 100 + rng.below(200),
        };
        Self { paces, device, options, lasts: Duration::from_millis(lasts) }
    }
}

pub(crate) fn open(disk: &SimDisk, options: &LogOptions, shop: &mut Shop) -> Result<Opened, OpenError> {
    open_on(Arc::new(disk.clone()), options, shop)
}

fn open_on(
    disk: Arc<dyn stampede_persist::disk::Disk>,
    options: &LogOptions,
    shop: &mut Shop,
) -> Result<Opened, OpenError> {
    let new_log = NewLog { log_id: LOG, hash_secret: [9; 16] };
    DataDir::open_on(disk, Path::new(DIR), options, &new_log)?.recover(shop)
}

/// What a life leaves.
pub(crate) struct Lived {
    pub(crate) events: Vec<Event>,
    /// Everything that was appended, in this life and before.
    pub(crate) book: Arc<Book>,
    pub(crate) crash: Crash,
}

/// The moment at which the power went.
pub(crate) struct Crash {
    /// How many events had happened.
    pub(crate) events: usize,
    /// What the database held.
    pub(crate) database: Backup,
}

/// Lives on this disk, on which `book` stands, beside this database.
pub(crate) fn live(
    disk: &SimDisk,
    database: &SimDatabase,
    book: &Arc<Book>,
    conditions: &Conditions,
    seed: u64,
) -> Result<Lived, String> {
    let cursor = Arc::new(AtomicU64::new(0));
    let capture = CaptureDisk::new(disk.copy(), conditions.device, seed, Arc::clone(&cursor));
    let (mut shop, mut book) = (Shop::against(book), Book::clone(book));
    let opened = open_on(Arc::new(capture.clone()), &conditions.options, &mut shop)
        .map_err(|error| format!("the next life does not begin: {error}"))?;
    book.cut_after(Lsn(opened.next_lsn().0 - 1));
    let epoch = opened.control().epoch;
    capture.watch(opened.status().durable_watermark());
    let log = opened.start(Vec::new(), |_| ()).map_err(|error| error.to_string())?;
    let (queue, status) = (Arc::clone(&log.queue), Arc::clone(&log.status));
    let maintenance = Arc::clone(log.journal.maintenance());
    let life = Life { capture: &capture, database, conditions, cursor, queue, status, maintenance, epoch };
    let lived = life.run(&shop, seed);
    let failure = log.status.failure().map(str::to_owned);
    drop(log);
    let (appended, crash) = lived?;
    if let Some(reason) = failure {
        return Err(format!("the log failed on a sound disk: {reason}"));
    }
    book.add(appended);
    let events = std::mem::take(&mut capture.notes().events);
    Ok(Lived { events, book: Arc::new(book), crash })
}

struct Life<'a> {
    capture: &'a CaptureDisk,
    database: &'a SimDatabase,
    conditions: &'a Conditions,
    cursor: Arc<AtomicU64>,
    queue: Arc<FactQueue>,
    status: Arc<LogStatus>,
    maintenance: Arc<Maintenance>,
    epoch: u64,
}

impl Life<'_> {
    fn run(&self, shop: &Shop, seed: u64) -> Result<(Vec<(u64, Encoded)>, Crash), String> {
        let (stop, begun) = (AtomicBool::new(false), Instant::now());
        let over = &stop;
        std::thread::scope(|scope| {
            let exporter = scope.spawn(move || self.export(begun, over));
            let trimmer = scope.spawn(move || self.snapshot_and_trim(seed, over));
            let mut rng = Rng(seed);
            let mut sellers: Vec<_> = (0..self.conditions.paces.len() as u32)
                .map(|n| Seller::new(self.queue.producer(), n, shop.last_seq(n), rng.next()))
                .collect();
            for (n, seller) in sellers.iter_mut().enumerate() {
                if !shop.has_item(n as u32) {
                    seller.open_item();
                }
            }
            self.queue.flush();
            let threads: Vec<_> = sellers
                .into_iter()
                .zip(&self.conditions.paces)
                .map(|(seller, pace)| scope.spawn(move || self.produce(seller, *pace, over)))
                .collect();
            let appended = threads.into_iter().flat_map(|thread| thread.join().expect("a producer"));
            let appended: Vec<_> = appended.collect();
            let crash = exporter.join().expect("the exporter")?;
            trimmer.join().expect("the trimmer")?;
            Ok((appended, crash))
        })
    }

    fn produce(&self, mut seller: Seller, pace: Pace, over: &AtomicBool) -> Vec<(u64, Encoded)> {
        let (status, mut next, most) =
            (&self.status, Instant::now(), FACTS_MAX / self.conditions.paces.len() as u64);
        let go_on = || !over.load(Ordering::Acquire) && status.failure().is_none();
        while go_on() && (seller.appended.len() as u64) < most {
            let (facts, pause_us) = match pace {
                Pace::Flood(us) => (8, us),
                Pace::Steady(us) => (1, us),
                Pace::Bursts(facts, us) => (facts, us),
                Pace::Waits(facts) => (facts, 0),
            };
            let mut last = Lsn::ZERO;
            for _ in 0..facts {
                while !(seller.producer.has_room() && status.accepting()) {
                    if !go_on() {
                        return seller.appended;
                    }
                    std::thread::yield_now();
                }
                last = seller.sell();
            }
            seller.producer.flush();
            next = (next + Duration::from_micros(pause_us)).max(Instant::now() - Duration::from_millis(2));
            let waits = matches!(pace, Pace::Waits(_));
            while go_on() && (Instant::now() < next || waits && status.durable_lsn() < last) {
                // A sleep is late by a tenth of a millisecond; the rest is waited for awake.
                match next.saturating_duration_since(Instant::now()).checked_sub(Duration::from_micros(200)) {
                    Some(long) => std::thread::sleep(long),
                    None => std::thread::yield_now(),
                }
            }
        }
        seller.appended
    }

    /// Makes snapshots and trims, as the product's own thread does, and more often.
    fn snapshot_and_trim(&self, seed: u64, over: &AtomicBool) -> Result<(), String> {
        let mut rng = Rng(seed ^ 1);
        while !over.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(5 + rng.below(60)));
            let made = self.maintenance.snapshot(&mut Shop::default());
            made.map_err(|error| format!("no snapshot: {error}"))?;
            self.maintenance.trim().map_err(|error| format!("no trim: {error}"))?;
        }
        Ok(())
    }

    /// Exports, and ends the life: at a moment when no transaction is open, and, if one comes,
    /// when a write to the log is under way.
    fn export(&self, begun: Instant, over: &AtomicBool) -> Result<Crash, String> {
        let refused = Arc::new(std::sync::Mutex::new(None));
        let port = Port {
            status: Arc::clone(&self.status),
            maintenance: Arc::clone(&self.maintenance),
            refused: Arc::clone(&refused),
        };
        let options = ExporterOptions::over(self.database.clone(), LOG, Nonce::new(self.epoch.into()));
        let mut exporter = Exporter::over(options, Box::new(port), Arc::new(ExportStatus::default()));
        let mut crash = None;
        let enough = self.conditions.lasts.mul_f64(1.5);
        while crash.is_none() {
            match exporter.step() {
                Step::Idle => std::thread::park_timeout(Duration::from_micros(200)),
                Step::Wait(wait) => self.database.advance(wait),
                Step::Exported(_) | Step::Again => {}
                Step::Stopped => {
                    over.store(true, Ordering::Release);
                    let reason = refused.lock().expect("lock").take().unwrap_or_default();
                    return Err(format!("the exporter stopped: {reason}"));
                }
            }
            if let Some(cursor) = self.database.cursor(LOG) {
                self.cursor.store(cursor.0, Ordering::Release);
            }
            if begun.elapsed() > self.conditions.lasts {
                let notes = self.capture.notes();
                if notes.in_flight > 0 || begun.elapsed() > enough || self.status.failure().is_some() {
                    crash = Some(Crash { events: notes.events.len(), database: self.database.back_up() });
                }
            }
            if begun.elapsed() > DEADLINE {
                over.store(true, Ordering::Release);
                return Err("the exporter does not come back".to_owned());
            }
        }
        over.store(true, Ordering::Release);
        Ok(crash.expect("the loop ends with it"))
    }
}

/// The engine's side of the exporter.
struct Port {
    status: Arc<LogStatus>,
    maintenance: Arc<Maintenance>,
    refused: Arc<std::sync::Mutex<Option<String>>>,
}

impl ExportPort for Port {
    fn durable_lsn(&self) -> Lsn {
        self.status.durable_lsn()
    }
    fn first_retained_lsn(&self) -> Lsn {
        self.status.first_retained_lsn()
    }
    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError> {
        Ok(Box::new(self.maintenance.tail(after)))
    }
    fn exported(&mut self, lsn: Lsn) {
        self.status.exported_watermark().store(lsn.0, Ordering::Release);
    }
    fn event(&mut self, event: ExportEvent) {
        match event {
            // A failure is the log's, which the life reports.
            ExportEvent::Attached { database, .. } => drop(self.maintenance.set_database(database.0)),
            ExportEvent::Refused(error) => *self.refused.lock().expect("lock") = Some(error.to_string()),
            _ => {}
        }
    }
}
