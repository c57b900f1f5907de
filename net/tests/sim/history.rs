//! One history: lives of the engine between crashes, with a crowd that buys and a world
//! that breaks things; then peace, in which everything has to come out right.
//!
//! Single-threaded. Every choice comes out of one generator: same seed, same history.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;
use stampede_net::server::replay::Shards;
use stampede_persist::export::Step as Exported;
use stampede_persist::log::journal::Step as Wrote;

use crate::book::{Book, Red, ensure};
use crate::coverage::{Coverage, Fault, Step};
use crate::engine::{FREE_BYTES_MIN, Life, Start, begin_draws, log_id, recover};
use crate::ledger::Desk;
use crate::past::{Before, Past};
use crate::shop::{Call, Shop};
use crate::sim_disk::{Op, Part, Rng, SimDisk, Struck, Trouble};
use crate::trace::Trace;
use crate::wire::{Answer, Writer};
use operator::Operator;

mod crowd;
mod operator;
mod peace;
mod world;

/// The simulated epoch: some day in 2026.
const BEGAN_MS: u64 = 1_790_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const BUYERS: u16 = 6;
/// Operations that trouble is aimed at; the first two are durable writes.
const AIMS: &[(Op, Part)] = &[
    (Op::WriteDurable, Part::Log),
    (Op::WriteDurable, Part::Control),
    (Op::WriteDurable, Part::Log),
    (Op::Rename, Part::Log),
    (Op::Rename, Part::Snapshot),
    (Op::Remove, Part::Snapshot),
    (Op::Remove, Part::Log),
    (Op::Sync, Part::Snapshot),
    (Op::SyncDir, Part::Log),
    (Op::SyncDir, Part::Snapshot),
];
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Steps of the exporter after which everything must stand in the database, and steps without
/// any change after which it does.
const DRAIN_STEPS_MAX: usize = 400;
const QUIET_EXPORTS: usize = 30;
/// Rounds after which a system at peace must be quiet.
const QUIET_ROUNDS_MAX: usize = 64;

/// An item that the merchant puts on sale.
#[derive(Clone)]
struct Plan {
    id: u32,
    body: String,
    stock: u64,
    draws: bool,
    opens: u64,
    closes: u64,
    cap: u64,
    payment: &'static str,
    hold_ms: u64,
}

impl Plan {
    fn before(&self) -> Before<'_> {
        let Self { id, stock, opens, closes, cap, payment, hold_ms, .. } = *self;
        Before { id, stock, opens, closes, cap, payment, hold_ms }
    }
}

/// A connection, and the calls that are under way on it.
struct Link {
    core: usize,
    client: Client,
    calls: VecDeque<Call>,
}

/// What came of a life.
enum End {
    Dead,
    /// It went through its steps.
    Alive,
}

pub(crate) struct History<'c> {
    rng: Rng,
    disk: SimDisk,
    book: Book,
    shop: Shop,
    plans: Vec<Plan>,
    pub(crate) trace: Trace,
    cover: &'c mut Coverage,
    mono_ms: &'static AtomicU64,
    wall_ms: u64,
    /// Whether the log is driven through many segments.
    rolls: bool,
    /// Nothing breaks any more.
    peaceful: bool,
    /// The process ends in the middle of what it does.
    dies: bool,
    /// The database, in histories that have one.
    desk: Option<Desk>,
    operator: Operator,
    cores: usize,
    seed: u64,
    life: Option<Life>,
    links: Vec<Link>,
    writer: Writer,
    step: Step,
    slow: u32,
    /// The LSN before a group that may have landed elsewhere, and whether it was the last.
    misdirected: Option<u64>,
    /// Up to where the log was said to be durable.
    durable: u64,
    /// The durable LSN before the group that was written last.
    last_group: u64,
    /// Digest of the live state at a crash at which everything was durable, and that LSN.
    expected: Option<(u64, u64)>,
    /// The log was damaged: a refusal to start is an end.
    damaged: bool,
    /// Per home and owner: turns of the owner in a row that left all of the home's questions where they were.
    passed_over: Vec<usize>,
}

/// Runs one history. `Err` says which invariant does not hold.
pub(crate) fn run(
    seed: u64,
    keeps_text: bool,
    cover: &mut Coverage,
    mono_ms: &'static AtomicU64,
) -> (Result<(), Red>, Trace) {
    let mut history = History::new(seed, keeps_text, cover, mono_ms);
    // A panic of the engine is red, too; in the product it ends the process.
    let ended = caught(|| history.play());
    if let Err(red) = &ended {
        history.trace.note("RED", &[], || red.clone());
    }
    let facts = history.book.lsn;
    history.cover.facts += facts;
    history.cover.acked += history.shop.acked();
    history.cover.histories += 1;
    history.life = None;
    (ended, history.trace)
}

/// What it came to; a panic is red.
pub(crate) fn caught(play: impl FnOnce() -> Result<(), Red>) -> Result<(), Red> {
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let at = crate::PANICKED_AT.with_borrow(Clone::clone);
        Err(format!("I16 panic at {at}: {}", panic_text(&*panic)))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

impl<'c> History<'c> {
    fn new(seed: u64, keeps_text: bool, cover: &'c mut Coverage, mono_ms: &'static AtomicU64) -> Self {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(rng.next());
        disk.set_fine_tears(true);
        begin_draws(seed);
        let wall_ms = BEGAN_MS + rng.below(HOUR_MS);
        let mut history = Self {
            cores: 1 + rng.below(4) as usize,
            rng,
            disk,
            book: Book::default(),
            shop: Shop::default(),
            plans: Vec::new(),
            trace: Trace::new(keeps_text),
            cover,
            mono_ms,
            wall_ms,
            seed,
            rolls: false,
            dies: false,
            peaceful: false,
            desk: None,
            operator: Operator::new(seed),
            life: None,
            links: Vec::new(),
            writer: Writer::default(),
            step: Step::Rest,
            slow: 0,
            misdirected: None,
            last_group: 0,
            durable: 0,
            expected: None,
            damaged: false,
            passed_over: Vec::new(),
        };
        history.desk = history.chance(600).then(|| Desk::new(seed, log_id(seed)));
        history.rolls = history.chance(120);
        history.plan_items();
        history.begin_with_a_past();
        history.choose_flags();
        history
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.rng.below(1000) < per_mille
    }

    /// One or two items: little stock, every kind of payment, windows that may end in mid-history.
    fn plan_items(&mut self) {
        for _ in 0..1 + self.rng.below(2) {
            let id = 1 + self.rng.below(40) as u32;
            if self.plans.iter().any(|plan| plan.id == id) {
                continue;
            }
            let (stock, cap) = (1 + self.rng.below(5), 1 + self.rng.below(2));
            let opens = self.wall_ms - HOUR_MS + self.rng.below(4) / 3 * (HOUR_MS + 20);
            let closes =
                self.wall_ms + if self.chance(250) { 200 + self.rng.below(800) } else { 100 * HOUR_MS };
            let payment = ["on_order", "hold", "on_payment"][self.rng.below(3) as usize];
            let hold_ms = if payment == "on_order" { 0 } else { 50 + self.rng.below(2_000) };
            // A draw has to be announced before the item opens.
            let (opens, closes, draw) = match self.chance(80) {
                true => (self.wall_ms + 60, self.wall_ms + 100 * HOUR_MS, 1_000),
                false => (opens, closes, 0),
            };
            let body = format!(
                "{{\"name\":\"n\",\"price_minor\":1,\"stock\":{stock},\"opens_at_ms\":{opens},\
                 \"closes_at_ms\":{closes},\"cap\":{cap},\"payment\":\"{payment}\",\"hold_ms\":{hold_ms},\
                 \"draw_ms\":{draw}}}"
            );
            self.plans.push(Plan { id, body, stock, draws: draw > 0, opens, closes, cap, payment, hold_ms });
        }
    }

    /// In some histories the database holds items and orders from before, and the log knows nothing of them.
    fn begin_with_a_past(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        // The database knows nothing of a draw.
        let items: Vec<Before<'_>> = self.plans.iter().filter(|plan| !plan.draws).map(Plan::before).collect();
        desk.past = Past::of(self.seed, self.wall_ms, &items);
        if let Some(past) = &desk.past {
            past.write(&desk.database, &items);
            self.book.past = past.clone();
            self.cover.struck(Fault::DbPast, Step::Rest, None);
        }
    }

    fn play(&mut self) -> Result<(), Red> {
        let lives = 1 + self.rng.below(2);
        for _ in 0..lives {
            self.plan_trouble();
            match self.live()? {
                End::Dead => {}
                End::Alive => self.note_end_of_life()?,
            }
            if self.bury()? {
                return Ok(());
            }
            self.between_lives()?;
        }
        self.peace()
    }

    // ---- lives ----

    /// What the disk will do to the next life.
    fn plan_trouble(&mut self) {
        let first = if self.book.lsn == 0 { 45 } else { 10 };
        let in_ops = 1 + self.rng.below(first + 40);
        let trouble = match self.rng.below(100) {
            0..50 => Some(Trouble::Crash),
            50..58 => Some(Trouble::Fail(EIO)),
            58..62 => Some(Trouble::Fail(ENOSPC)),
            62..69 => Some(Trouble::Tear(EIO)),
            69..74 => Some(Trouble::Short),
            74..78 => Some(Trouble::Misdirect),
            _ => None,
        };
        // Half of it at any operation, half at one of a kind that is rare or matters most.
        let aim = AIMS[self.rng.below(AIMS.len() as u64) as usize];
        if let Some(trouble) = trouble {
            let durable = matches!(trouble, Trouble::Short | Trouble::Misdirect);
            if durable || self.rng.coin() {
                let (op, part) = if durable { AIMS[self.rng.below(2) as usize] } else { aim };
                self.disk.aim(op, part, 1 + self.rng.below(6), trouble);
            } else {
                self.disk.plan(in_ops, trouble);
            }
        }
        if self.rolls && self.rng.coin() {
            self.desk.iter().for_each(|desk| desk.database.set_down(true));
        }
        if self.chance(40) {
            self.disk.plan_misread(1 + self.rng.below(40));
        }
        let full = self.chance(40);
        self.disk.set_free_bytes(if full { FREE_BYTES_MIN + self.rng.below(1 << 18) } else { 1 << 40 });
        if full {
            self.cover.struck(Fault::DiskFull, Step::Rest, None);
        }
    }

    fn start(&self) -> Start<'_> {
        Start {
            disk: &self.disk,
            cores: self.cores,
            wall_ms: self.wall_ms,
            desk: self.desk.as_ref().filter(|_| !self.operator.forgets),
            seed: self.seed,
            turn_max: self.turn_max(),
            mono_ms: self.mono_ms,
        }
    }

    /// Small in most histories, so that a small crowd is more than an owner takes in one turn.
    fn turn_max(&self) -> usize {
        if self.peaceful {
            return OWNER_BATCH_MAX;
        }
        [1, 2, 3, OWNER_BATCH_MAX][(self.seed % 4) as usize]
    }

    /// Opens, recovers, judges and starts. `false`: it refused, or died on the way.
    fn boot(&mut self) -> Result<bool, Red> {
        self.step = Step::Boot;
        let mut book = std::mem::take(&mut self.book);
        let recovered = recover(&self.start(), &mut book);
        self.book = book;
        let refusal = match recovered? {
            Ok(recovery) => {
                if !self.recovered_enough(recovery.replayed.durable().0)? {
                    return Ok(false);
                }
                recovery.judge(&mut self.book)?;
                self.was_started();
                self.shop.check_seen(&self.book)?;
                if let Some((digest, lsn)) = self.expected.take()
                    && lsn == self.book.lsn
                {
                    let found = recovery.replayed.shards().iter().map(|shard| shard.digest());
                    let found = found.fold(0, u64::wrapping_add);
                    ensure!(found == digest, "I8 replay gives another state than the live one");
                }
                let attaches = self.rng.coin();
                match recovery.start(&self.start(), attaches) {
                    Ok(life) => {
                        if life.imported {
                            self.last_group = self.book.lsn;
                            life.audit(&mut self.book)?;
                            self.durable = self.durable.max(life.log.status.durable_lsn().0);
                        }
                        self.check_attached(&life)?;
                        let (now, last) = (life.shared.clock.now().sale.0, self.book.last_ms);
                        ensure!(now >= last, "I14 the sale clock begins at {now}, the log has {last}");
                        self.life = Some(life);
                        self.passed_over = vec![0; self.cores * self.cores];
                        self.cover.lives += 1;
                        let numbers = [self.book.lsn, self.cores as u64];
                        self.trace
                            .note("up", &numbers, || format!("{} cores, LSN {}", numbers[1], numbers[0]));
                        return Ok(true);
                    }
                    Err(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        self.refused(&refusal)?;
        Ok(false)
    }

    /// After a write went astray what is left may be short, by the group that was written last.
    fn recovered_enough(&mut self, durable: u64) -> Result<bool, Red> {
        if durable < self.durable && self.misdirected.is_some_and(|before| durable >= before) {
            self.cover.unwitnessed += 1;
            self.damaged = true;
            return Ok(false);
        }
        ensure!(
            durable >= self.durable,
            "I2 recovered up to LSN {durable}, {} was said to be durable",
            self.durable
        );
        self.durable = durable;
        Ok(true)
    }

    /// A start was refused: that is right only if something was wrong with the disk.
    fn refused(&mut self, refusal: &str) -> Result<(), Red> {
        self.cover.refusals += 1;
        self.trace.note("refused", &[], || refusal.to_owned());
        let struck = self.disk.take_struck();
        let excused = self.disk.crashed() || struck.is_some() || self.disk.misreads() > 0;
        self.damaged |= self.misdirected.is_some();
        let full = refusal.contains("os error 28") || refusal.contains("no room");
        if refusal.starts_with("I12") {
            return self.decide(refusal);
        }
        let awaits = refusal.starts_with("awaits");
        if awaits {
            let away = self.desk.as_ref().is_some_and(|desk| desk.past.is_some()) && !self.peaceful;
            ensure!(away || excused, "I18 waits for a database that can be reached: {refusal}");
            self.cover.struck(Fault::DbAwaited, Step::Boot, None);
        }
        let right = excused || self.damaged || full || awaits;
        ensure!(right, "I9 refuses to start without a reason: {refusal}");
        if let Some(at) = struck {
            self.note_trouble(at);
        }
        if self.damaged && !self.disk.crashed() && struck.is_none() && !awaits {
            let names = refusal.contains("/data/");
            ensure!(names || refusal.contains("LSN"), "I9 the refusal names no place: {refusal}");
        }
        Ok(())
    }

    /// The database is not behind what was trimmed, or nothing is sold (I12).
    fn check_attached(&mut self, life: &Life) -> Result<(), Red> {
        let first = life.log.status.first_retained_lsn().0;
        let furthest = self.may_trim();
        ensure!(first - 1 <= furthest, "I11 the log begins at LSN {first}, {furthest} was exported");
        Ok(())
    }

    /// The exporter takes a step; what it tells the engine lies in the engine's inboxes.
    fn export(&mut self) -> Result<(), Red> {
        let (Some(desk), Some(life)) = (&mut self.desk, &mut self.life) else { return Ok(()) };
        let Some(exporter) = &mut life.exporter else { return Ok(()) };
        self.step = Step::Export;
        // Now and then the process ends at one of the calls, in or behind a transaction.
        let ends = !self.peaceful && self.rng.below(16) == 0;
        let before = desk.injected();
        if ends {
            desk.end_at_call(&mut self.rng);
        }
        let step = exporter.step();
        self.dies = ends && desk.injected() > before;
        desk.wait(step);
        let (cursor, first) = (desk.cursor(), life.log.status.first_retained_lsn().0);
        let attached = matches!(step, Exported::Exported(_) | Exported::Idle);
        ensure!(
            !attached || cursor + 1 >= first,
            "I12 exports to a database at {cursor}, the log begins at {first}"
        );
        let durable = life.log.status.durable_lsn().0;
        ensure!(cursor <= durable, "I3 LSN {cursor} is exported, {durable} is durable");
        self.cover.exported += u64::from(matches!(step, Exported::Exported(_)));
        self.trace.note("export", &[cursor], || format!("{step:?}, the cursor is at {cursor}"));
        Ok(())
    }

    fn disturb(&mut self) {
        let items: Vec<u32> = self.plans.iter().map(|plan| plan.id).collect();
        let Some(desk) = &mut self.desk else { return };
        let fault = desk.disturb(&mut self.rng, &items);
        self.cover.struck(fault, self.step, None);
        self.trace.note("database", &[fault as u64], || fault.name().to_owned());
    }

    fn live(&mut self) -> Result<End, Red> {
        if !self.boot()? {
            return Ok(End::Dead);
        }
        self.second_process()?;
        self.links.clear();
        self.shop.begin_life();
        for core in 0..self.cores {
            self.connect(Listener::Public, core);
        }
        self.connect(Listener::Merchant, 0);
        for at in 0..self.plans.len() {
            let plan = self.plans[at].clone();
            if !self.book.items.contains_key(&plan.id) {
                self.put_item(&plan)?;
            }
        }
        let steps = if self.rolls { 160 } else { 30 + self.rng.below(50) };
        let kill_at = if self.chance(200) { self.rng.below(steps) } else { steps };
        let mut last_words = None;
        for at in 0..steps {
            if at == kill_at || last_words == Some(0) {
                return Ok(End::Dead);
            }
            self.act()?;
            self.after_step()?;
            if self.disk.crashed() || std::mem::take(&mut self.dies) {
                return Ok(End::Dead);
            }
            let failed = self.life.as_ref().is_some_and(|life| life.log.status.failure().is_some());
            last_words = last_words.map(|left: u32| left - 1).or(failed.then_some(6));
        }
        Ok(End::Alive)
    }

    /// What trouble did since the last look.
    fn after_step(&mut self) -> Result<(), Red> {
        if let Some(at) = self.disk.take_struck() {
            self.note_trouble(at);
        }
        ensure!(self.disk.writes_after_failure() == 0, "I10 a file was written to after it had failed");
        Ok(())
    }

    fn note_trouble(&mut self, (trouble, op, part): Struck) {
        let (fault, at) = (fault_of(trouble), (op, part));
        // A crash is counted when it is known how the process ended.
        let Some(fault) = fault else { return };
        if matches!(trouble, Trouble::Short | Trouble::Misdirect) && op != Op::WriteDurable {
            return;
        }
        if fault == Fault::Misdirected {
            self.misdirected.get_or_insert(self.last_group);
        }
        self.cover.struck(fault, self.step, Some(at));
        let step = self.step;
        self.trace
            .note("fault", &[fault as u64, step as u64], || format!("{} in {step:?}: {at:?}", fault.name()));
    }

    /// Ends a life that is over, one way or the other. `true`: the log is damaged, nothing follows.
    fn bury(&mut self) -> Result<bool, Red> {
        self.after_step()?;
        self.links.clear();
        self.life = None;
        if self.disk.misreads() > 0 {
            self.cover.struck(Fault::Misread, self.step, None);
        }
        if self.damaged {
            self.count_database();
            return Ok(true);
        }
        let power = self.rng.coin();
        let fault = if power { Fault::PowerCut } else { Fault::Kill };
        let at = self.disk.death();
        self.cover.struck(fault, self.step, at);
        let step = self.step;
        self.trace.note("dies", &[u64::from(power), step as u64], || {
            format!("{} in {step:?} {at:?}", fault.name())
        });
        if power {
            self.disk.cut();
        } else {
            self.disk.kill();
        }
        self.step = Step::Rest;
        Ok(false)
    }

    /// Everything that was decided is durable: what a replay must give.
    fn note_end_of_life(&mut self) -> Result<(), Red> {
        self.step = Step::Rest;
        let Some(life) = &self.life else { return Ok(()) };
        let durable = life.log.status.durable_lsn().0;
        if life.log.queue.is_empty() && life.log.status.failure().is_none() && self.misdirected.is_none() {
            life.audit(&mut self.book)?;
            if self.book.lsn != durable {
                // A read went astray.
                return Ok(());
            }
            self.book.compare(life.homes.iter().map(|home| home.owner().shard()))?;
            let digests = life.homes.iter().map(|home| home.owner().shard().digest());
            self.expected = Some((digests.fold(0, u64::wrapping_add), durable));
        }
        Ok(())
    }

    // ---- steps ----

    fn pass(&mut self, ms: u64) {
        self.mono_ms.fetch_add(ms, Ordering::Relaxed);
        self.wall_ms += ms;
    }

    /// One step of somebody.
    fn act(&mut self) -> Result<(), Red> {
        self.step = Step::Rest;
        if self.rolls && self.rng.below(4) == 0 {
            return match self.rng.below(8) {
                0 => self.snapshot(),
                1 => self.trim(),
                _ => self.journal(),
            };
        }
        match self.rng.below(100) {
            0 => self.rush(),
            1..38 => self.somebody_asks(),
            38..41 => self.export(),
            41 => {
                if self.chance(700) {
                    self.disturb();
                }
                Ok(())
            }
            42..50 => {
                let at = self.rng.below(self.links.len() as u64) as usize;
                self.serve(at)
            }
            50..64 => {
                let core = self.rng.below(self.cores as u64) as usize;
                self.pump(core)
            }
            64..82 => self.journal(),
            82..90 => {
                let ms = self.rng.below(40);
                self.pass(ms);
                let core = self.rng.below(self.cores as u64) as usize;
                self.tick(core);
                Ok(())
            }
            90..98 => self.maintain(),
            98 => {
                let jump = [1_000, 3_000, HOUR_MS][self.rng.below(3) as usize];
                self.pass(jump);
                Ok(())
            }
            _ => {
                self.slow = 4 + self.rng.below(16) as u32;
                self.cover.struck(Fault::DiskSlow, Step::Journal, None);
                Ok(())
            }
        }
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("called in a life")
    }

    fn pump(&mut self, core: usize) -> Result<(), Red> {
        self.step = Step::Pump;
        let waiting = |life: &Life| -> Vec<usize> {
            let mesh = &life.shared.mesh;
            (0..life.homes.len()).map(|home| mesh.waiting(home, core)).collect()
        };
        let life = self.life();
        let before = waiting(life);
        life.homes[core].read_clock();
        life.homes[core].pump();
        let after = waiting(life);
        let peers = before.len() + 1;
        for (home, (before, after)) in before.into_iter().zip(after).enumerate() {
            let passed_over = &mut self.passed_over[home * self.cores + core];
            *passed_over = if before > 0 && after >= before { *passed_over + 1 } else { 0 };
            ensure!(*passed_over <= peers, "unfair: the owner {core} passes over home {home}");
        }
        Ok(())
    }

    fn tick(&mut self, core: usize) {
        self.step = Step::Tick;
        self.life().homes[core].tick();
    }

    fn journal(&mut self) -> Result<(), Red> {
        if self.slow > 0 {
            self.slow -= 1;
            return Ok(());
        }
        self.step = Step::Journal;
        let life = self.life.as_mut().expect("called in a life");
        let before = life.log.status.durable_lsn();
        let wrote = life.log.journal.step();
        if matches!(wrote, Wrote::Wrote { .. }) {
            self.last_group = before.0;
        }
        let durable = life.log.status.durable_lsn();
        self.durable = durable.0;
        ensure!(wrote != Wrote::Failed || durable == before, "I10 a failed write was called durable");
        self.trace.note("journal", &[durable.0], || format!("{wrote:?}, LSN {durable}"));
        if wrote == Wrote::NeedsSegment || self.rng.coin() {
            self.spare();
        }
        Ok(())
    }

    fn spare(&mut self) {
        self.step = Step::Spare;
        // Without room, or with an error, there is none; the journal waits.
        let _none = self.life().log.maintenance.prepare_spare();
    }

    fn maintain(&mut self) -> Result<(), Red> {
        match self.rng.below(8) {
            0..3 => {
                self.step = Step::Settle;
                if self.life().log.journal.is_unsettled() {
                    self.life().log.journal.settle(false);
                }
            }
            3 => self.spare(),
            4 | 5 => self.snapshot()?,
            _ => self.trim()?,
        }
        Ok(())
    }

    /// The facts that a snapshot covers may not be read again: the books take them first.
    fn snapshot(&mut self) -> Result<(), Red> {
        self.step = Step::Snapshot;
        let life = self.life.as_ref().expect("called in a life");
        if self.misdirected.is_none() {
            life.audit(&mut self.book)?;
        }
        if self.book.lsn != life.log.status.durable_lsn().0 {
            return Ok(());
        }
        let made = life.log.maintenance.snapshot(&mut Shards::new(1, life.shared.secret));
        let lsn = made.as_ref().map_or(0, |lsn| lsn.0);
        self.trace.note("snapshot", &[lsn], || format!("{made:?}"));
        Ok(())
    }

    fn trim(&mut self) -> Result<(), Red> {
        self.step = Step::Trim;
        let life = self.life.as_ref().expect("called in a life");
        let gone = life.log.maintenance.trim();
        let (first, covered) = (life.log.status.first_retained_lsn(), life.log.status.snapshot_lsn());
        let exported = self.may_trim();
        self.was_trimmed(first.0 - 1);
        ensure!(first.0 - 1 <= exported, "I11 trimmed up to {first}, {exported} is exported");
        ensure!(first.0 <= covered.0 + 1, "I11 trimmed up to {first}, the snapshot covers {covered}");
        self.trace.note("trim", &[first.0], || format!("{gone:?}, the log begins at LSN {first}"));
        Ok(())
    }

    // ---- connections ----

    fn connect(&mut self, listener: Listener, core: usize) {
        let now_ms = self.mono_ms.load(Ordering::Relaxed);
        let home = &mut self.life().homes[core];
        let token = home.connections.enter();
        let client = Client::new(token, Conn::new(listener, now_ms), [127, 0, 0, 1].into());
        self.links.push(Link { core, client, calls: VecDeque::new() });
    }

    /// The connection is gone, with the answers that were under way.
    fn cut(&mut self, at: usize, listener: Listener) {
        let link = self.links.swap_remove(at);
        self.life().homes[link.core].connections.leave(link.client.id);
        self.cover.struck(Fault::AnswerLost, self.step, None);
        self.connect(listener, link.core);
        let last = self.links.len() - 1;
        self.links.swap(at, last);
    }

    /// Sends a request on a connection, and has it served.
    fn send(&mut self, at: usize, call: Call, request: impl FnOnce(&mut Writer) -> &[u8]) -> Result<(), Red> {
        let now_ms = self.mono_ms.load(Ordering::Relaxed);
        let bytes = request(&mut self.writer);
        self.trace.bytes(bytes);
        let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        self.trace.note("ask", &[at as u64], || {
            format!("link {at} {call:?} {} {}", first.escape_ascii(), body_of(bytes))
        });
        let link = &mut self.links[at];
        if link.client.conn.feed(bytes, now_ms) < bytes.len() {
            return Ok(());
        }
        link.calls.push_back(call);
        self.cover.requests += 1;
        self.serve(at)
    }

    /// The core serves a connection; what comes out reaches the client.
    fn serve(&mut self, at: usize) -> Result<(), Red> {
        self.step = Step::Serve;
        let life = self.life.as_mut().expect("called in a life");
        let link = &mut self.links[at];
        let home = &mut life.homes[link.core];
        home.read_clock();
        home.serve(&mut link.client);
        let (core, needs_pump) = (link.core, home.needs_pump());
        if needs_pump && self.rng.below(4) > 0 {
            self.pump(core)?;
            self.step = Step::Serve;
        }
        let durable = self.life().log.status.durable_lsn().0;
        let link = &mut self.links[at];
        let out = std::mem::take(&mut link.client.out);
        self.read(at, &out, durable)?;
        let link = &mut self.links[at];
        if out.len() <= 4096 {
            link.client.out = out;
            link.client.out.clear();
        }
        let closed = link.client.is_closing();
        let merchant = at + 1 == self.links.len();
        if closed {
            let listener = if merchant { Listener::Merchant } else { Listener::Public };
            self.cut(at, listener);
        }
        Ok(())
    }

    fn read(&mut self, at: usize, out: &[u8], durable: u64) -> Result<(), Red> {
        let mut rest = out;
        while let Some((answer, len)) = Answer::parse(rest) {
            rest = &rest[len..];
            let call = self.links[at].calls.pop_front();
            let call = call.ok_or("I15 an answer to nothing")?;
            let code = answer.text("code");
            self.cover.answered(answer.status, code);
            self.cover.busy += u64::from(answer.status == 503);
            self.trace.bytes(answer.body);
            self.trace.note("answer", &[at as u64, answer.status.into()], || {
                let replay = memchr::memmem::find(answer.head, b"Replay").is_some();
                let again = if replay { " (again)" } else { "" };
                format!("link {at} {call:?}: {}{again} {}", answer.status, answer.body.escape_ascii())
            });
            self.shop.answered(call, &answer, durable)?;
        }
        ensure!(rest.is_empty(), "I15 half an answer: {}", rest.escape_ascii());
        Ok(())
    }
}

fn fault_of(trouble: Trouble) -> Option<Fault> {
    match trouble {
        Trouble::Fail(_) => Some(Fault::WriteFails),
        Trouble::Tear(_) => Some(Fault::WriteTears),
        Trouble::Short => Some(Fault::ShortWrite),
        Trouble::Misdirect => Some(Fault::Misdirected),
        Trouble::Crash => None,
    }
}

fn body_of(request: &[u8]) -> String {
    let at = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    request[at..].escape_ascii().to_string()
}
