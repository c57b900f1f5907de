//! One life of an engine on a data directory: opened, preheated, sold from, exported, without
//! cores and threads. Answers the exporter as an owner does.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stampede_core::command::{Command, Movement, Outcome, Purchase, Ticket};
use stampede_core::fact::{ACTOR_POSTGRES, Fact, Switch};
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_net::server::export::{Ready, attach_before_sale};
use stampede_net::server::recover::{Intake, Replayed};
use stampede_net::server::replay::{Replay, Shards};
use stampede_persist::export::{
    ConnectOptions, Database, ExportEvent, ExportPort, ExportStatus, Exporter, ExporterOptions, HalfTaken,
    Nonce, PreheatReport, PreheatSink, Step,
};
use stampede_persist::feed::{FactFeed, FeedError};
use stampede_persist::log::dir::{DataDir, LogOptions, Stepped};
use stampede_persist::log::journal;
use stampede_persist::log::maintenance::Maintenance;

/// The time of every case.
pub(crate) const NOW: UnixMillis = UnixMillis(1_714_564_900_000);
/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A result with the reason in words.
pub(crate) type Judged<T> = Result<T, String>;

fn words<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Judged<T> {
    result.map_err(|error| format!("{what}: {error:#}"))
}

/// A small log; a directory in memory will do.
fn options(exports: bool) -> LogOptions {
    LogOptions {
        segment_bytes: 256 << 10,
        log_bytes_max: 64 << 20,
        free_bytes_min: 0,
        queue_slots: 256,
        queue_reserve: 16,
        allow_volatile: true,
        exports,
        ..LogOptions::default()
    }
}

/// A running engine.
pub(crate) struct Life {
    pub(crate) replayed: Replayed,
    log: Stepped,
    exporter: Option<Exporter>,
    events: Arc<Mutex<Vec<ExportEvent>>>,
    /// Items that were to be paused.
    pub(crate) said: Vec<String>,
}

/// Opens a directory, as the server does at its start.
fn recover(dir: &Path, exports: bool) -> Judged<Replayed> {
    let data = words("opened", DataDir::open(dir, &options(exports)))?;
    words("recovered", Replayed::recover(data, 2, |data, state| data.recover(&mut Replay::new(state))))
}

impl Life {
    /// Without the database.
    pub(crate) fn alone(dir: &Path) -> Judged<Self> {
        let mut replayed = recover(dir, false)?;
        let log = words("started", replayed.start_stepped(Vec::new()))?;
        Ok(Self { replayed, log, exporter: None, events: Arc::default(), said: Vec::new() })
    }

    /// With the database, preheated from it.
    pub(crate) fn with(dir: &Path, url: &str) -> Judged<(Self, PreheatReport)> {
        let mut replayed = recover(dir, true)?;
        let database = words("connected", Database::connect(&ConnectOptions::new(url)))?;
        let control = *replayed.control();
        let nonce = Nonce::new(control.epoch.into());
        let ready: Ready = words("attached", attach_before_sale(database, &replayed, nonce))?;
        let log = words("started", replayed.start_stepped(Vec::new()))?;
        let report = words("preheated", ready.preheat(&mut replayed, (&log.queue, &log.status), NOW))?;
        let events = Arc::default();
        let port = Port { maintenance: log.maintenance.clone(), events: Arc::clone(&events) };
        let options = ExporterOptions::new(url, control.log_id, nonce);
        let exporter =
            words("exporter", Exporter::new(options, Box::new(port), Arc::<ExportStatus>::default()))?;
        let mut life = Self { replayed, log, exporter: Some(exporter), events, said: Vec::new() };
        life.write()?;
        Ok((life, report))
    }

    /// With the database, and killed when so many facts were taken over. Returns whether it came to that.
    pub(crate) fn killed(dir: &Path, url: &str, facts: usize) -> Judged<bool> {
        let mut replayed = recover(dir, true)?;
        let database = words("connected", Database::connect(&ConnectOptions::new(url)))?;
        let nonce = Nonce::new(replayed.control().epoch.into());
        let ready: Ready = words("attached", attach_before_sale(database, &replayed, nonce))?;
        let log = words("started", replayed.start_stepped(Vec::new()))?;
        let mut mortal = Mortal { intake: Intake::new(&mut replayed, &log.queue, &log.status), left: facts };
        let killed = ready.preheat_into(&mut mortal, NOW).is_err();
        let mut life = Self { replayed, log, exporter: None, events: Arc::default(), said: Vec::new() };
        life.write()?;
        Ok(killed)
    }

    /// What the shop sees of an item.
    pub(crate) fn item(&self, item: ItemId) -> Option<ItemNumbers> {
        let shards = self.replayed.shards();
        let shard = &shards[item.owner(shards.len())];
        let orders = shard.orders_after(Some(item), 0, 1_000).len();
        shard.item(item).map(|item| ItemNumbers {
            piles: [item.granted, item.available, item.held, item.sold],
            orders,
            flags: item.flags,
        })
    }

    /// Writes what waits into the log.
    fn write(&mut self) -> Judged<()> {
        loop {
            match self.log.journal.step() {
                journal::Step::Wrote { .. } => {}
                journal::Step::NeedsSegment if words("a spare", self.log.maintenance.prepare_spare())? => {}
                journal::Step::NeedsSegment => return Err("the log is full".to_owned()),
                journal::Step::Idle => return Ok(()),
                other => return Err(format!("the journal stopped: {other:?}")),
            }
        }
    }

    fn decide(&mut self, item: ItemId, command: &Command<'_>) -> Outcome {
        let owner = item.owner(self.replayed.shards().len());
        self.replayed.shards_mut()[owner].decide(NOW, command, &mut self.log.queue.producer())
    }

    /// Every item that the engine has.
    pub(crate) fn items(&self) -> Vec<ItemId> {
        let shards = self.replayed.shards().iter();
        shards.flat_map(|shard| shard.items_after(0, 100).map(|item| item.item)).collect()
    }

    /// Somebody tries to buy one unit of each item; returns how many could.
    pub(crate) fn sell(&mut self, who: &str) -> Judged<usize> {
        let (subject, secret, mut sold) = (who.as_bytes(), self.replayed.secret(), 0);
        for item in self.items() {
            let (buyer, key, ticket) = (secret.buyer(subject), b"once", Ticket::Good);
            let purchase = Purchase { item, buyer, subject, quantity: Quantity::ONE, key, ticket };
            let outcome = self.decide(item, &Command::Purchase(purchase));
            sold += usize::from(matches!(outcome, Outcome::Placed(_)));
        }
        self.write()?;
        Ok(sold)
    }

    /// The shop tells of two payments and a refund of every order, whatever becomes of them.
    pub(crate) fn pay(&mut self) -> Judged<()> {
        let orders: Vec<OrderId> = self
            .replayed
            .shards()
            .iter()
            .flat_map(|shard| shard.orders_after(None, 0, 100))
            .map(|owned| owned.order.order)
            .collect();
        let actor = "merchant";
        for order in orders {
            for payment_ref in [&b"first"[..], b"second"] {
                let movement = Movement::Pay;
                self.decide(order.item(), &Command::Move { order, movement, payment_ref, actor });
            }
            let (payment_ref, refund_ref, units) = (&b""[..], &b"back"[..], Some(Quantity::ONE));
            self.decide(order.item(), &Command::Refund { order, payment_ref, refund_ref, units, actor });
        }
        self.write()
    }

    /// The merchant tries to put an item on sale, then the exporter asks for a pause; whether the
    /// merchant could.
    pub(crate) fn meddle(&mut self, item: ItemId) -> Judged<bool> {
        let (resume, pause) = (Switch::Resumed, Switch::Paused);
        let resumed =
            self.decide(item, &Command::SwitchItem { item, switch: resume, actor: "merchant", key: b"" });
        self.decide(item, &Command::SwitchItem { item, switch: pause, actor: ACTOR_POSTGRES, key: b"" });
        self.write()?;
        Ok(matches!(resumed, Outcome::Done { .. }))
    }

    /// Lets the exporter work until everything is in the database, answering what it asks.
    pub(crate) fn export(&mut self) -> Judged<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(exporter) = self.exporter.as_mut() else { return Ok(()) };
            let step = exporter.step();
            let exported = exporter.status().exported_lsn();
            let asked = self.answer();
            self.write()?;
            let done = exported == self.log.status.durable_lsn();
            match step {
                Step::Idle if done && !asked => return Ok(()),
                Step::Stopped => return Err(format!("the exporter stopped: {:?}", self.said)),
                Step::Wait(_) | Step::Idle => std::thread::park_timeout(Duration::from_millis(1)),
                _ => {}
            }
            if Instant::now() > deadline {
                let state = (step, exported, self.log.status.durable_lsn());
                return Err(format!("the export hangs: {state:?}, {:?}", self.said));
            }
        }
    }

    /// Answers events as an owner does; whether there were any.
    fn answer(&mut self) -> bool {
        let events = std::mem::take(&mut *self.events.lock().expect("lock"));
        for event in &events {
            let (item, delta) = match event {
                ExportEvent::StockChangedOutside { item, delta, .. } => (*item, Some(*delta)),
                ExportEvent::PauseItem { item, .. } => (*item, None),
                other => {
                    self.said.push(format!("{other:?}"));
                    continue;
                }
            };
            let actor = ACTOR_POSTGRES;
            let adjust = delta.map(|delta| Command::AdjustStock { item, delta, actor, key: b"" });
            let adjusted = adjust.map(|adjust| self.decide(item, &adjust));
            if !matches!(adjusted, Some(Outcome::Done { .. })) {
                self.decide(item, &Command::SwitchItem { item, switch: Switch::Paused, actor, key: b"" });
            }
        }
        !events.is_empty()
    }

    /// What the state comes to, over all shards.
    pub(crate) fn digest(&self) -> u64 {
        self.replayed.shards().iter().fold(0, |sum, shard| sum.wrapping_add(shard.digest()))
    }

    /// A snapshot of the log, made and read as the engine would.
    pub(crate) fn snapshot(&self) -> Judged<Lsn> {
        let mut state = Shards::new(1, self.replayed.secret());
        words("a snapshot", self.log.maintenance.snapshot(&mut state))
    }
}

/// An item's piles, orders and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ItemNumbers {
    pub(crate) piles: [u64; 4],
    pub(crate) orders: usize,
    pub(crate) flags: u8,
}

/// Takes so many facts, and then no more: the process is gone.
struct Mortal<'a> {
    intake: Intake<'a>,
    left: usize,
}

impl PreheatSink for Mortal<'_> {
    fn knows_item(&mut self, item: ItemId) -> bool {
        self.intake.knows_item(item)
    }
    fn half_taken(&mut self, item: ItemId) -> Option<HalfTaken> {
        self.intake.half_taken(item)
    }
    fn has_room(&mut self, item: ItemId, orders: u64) -> bool {
        self.intake.has_room(item, orders)
    }
    fn knows_blocked(&mut self, subject: &[u8]) -> bool {
        self.intake.knows_blocked(subject)
    }
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        self.left = self.left.checked_sub(1).ok_or("killed")?;
        self.intake.take(fact)
    }
}

struct Port {
    maintenance: Arc<Maintenance>,
    events: Arc<Mutex<Vec<ExportEvent>>>,
}

impl ExportPort for Port {
    fn durable_lsn(&self) -> Lsn {
        self.maintenance.status().durable_lsn()
    }
    fn first_retained_lsn(&self) -> Lsn {
        self.maintenance.status().first_retained_lsn()
    }
    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError> {
        Ok(Box::new(self.maintenance.tail(after)))
    }
    fn exported(&mut self, _: Lsn) {}
    fn event(&mut self, event: ExportEvent) {
        self.events.lock().expect("lock").push(event);
    }
}
