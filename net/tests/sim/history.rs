//! One history: lives of the engine between crashes, with buyers, a merchant and faults; then peace,
//! without faults, in which all sums have to be right.
//!
//! Single-threaded. One generator makes every choice: the same seed gives the same history.
//! Where each promise is checked:
//!
//! | promise | file |
//! |---|---|
//! | I1, I4, I7, I8, I14, I20 | `book.rs`, which reads the log; `ledger.rs` for the rows in Postgres |
//! | I2, I3, I5, I7 | `shop.rs`, which remembers what clients were told |
//! | I2, I8, I14 | `history/recovery.rs`: starts that succeed |
//! | I9, I13, I17, I18 | `history/refusals.rs`: starts that have to be refused |
//! | I10 | `history/trouble.rs`, `history/durable.rs` |
//! | I11 | `history/durable.rs` |
//! | I3, I6, I12, I18 | `history/exported.rs`, `history/operator.rs`, `ledger.rs` |
//! | I15 | `history/answers.rs` |
//! | I16, I19 | `history/peace.rs` |

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_net::http::route::Listener;

use crate::book::{Book, Red};
use crate::coverage::{Coverage, Fault, Step};
use crate::engine::{Life, Start, begin_draws, log_id};
use crate::ledger::Desk;
use crate::shop::Shop;
use crate::sim_disk::{Rng, SimDisk};
use crate::trace::Trace;
use crate::wire::Writer;
use answers::Link;
use operator::Operator;
use plans::Plan;

mod answers;
mod crowd;
mod durable;
mod exported;
mod operator;
mod peace;
mod plans;
mod recovery;
mod refusals;
mod trouble;
mod world;

/// The simulated epoch: some day in 2026.
const BEGAN_MS: u64 = 1_790_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const BUYERS: u16 = 6;

/// How a life ended.
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
    /// The process ends at the next opportunity.
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
    /// The LSN before a group that may have gone to a wrong place.
    misdirected: Option<u64>,
    /// The highest LSN that was reported as durable.
    durable: u64,
    /// The durable LSN before the group that was written last.
    last_group: u64,
    /// The digest of the live state when everything was durable, and the LSN.
    expected: Option<(u64, u64)>,
    /// The log was damaged: a refusal to start is an end.
    damaged: bool,
    /// For each home and owner: turns of the owner in a row that answered none of the home's questions.
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

/// Runs it; a panic is an error.
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

    /// Ends a life. `true`: the log is damaged, and the history ends here.
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

    fn tick(&mut self, core: usize) {
        self.step = Step::Tick;
        self.life().homes[core].tick();
    }
}
