//! Two engines on copies of one directory, one database: the history that a cloned disk, an rsync'd
//! standby or a machine that came back from the dead makes.
//!
//! A log is begun and its directory copied; then both go on, each with buyers of its own, started,
//! killed and started again in any order. No engine knows of the other; they meet in the database
//! alone. The judge (I13): what the database holds is always what *one* of the two logs says up to the
//! cursor, never a mixture; once it holds a fact that one of them lacks, that one never writes again; and
//! an engine that was refused sells nothing more.

use std::sync::atomic::{AtomicU64, Ordering};

use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;
use stampede_persist::export::Step as Exported;
use stampede_persist::log::journal::Step as Wrote;

use crate::book::{Book, Red, ensure};
use crate::coverage::{Coverage, Fault, Step};
use crate::engine::{Life, Start, begin_draws, log_id, recover};
use crate::ledger::Desk;
use crate::sim_database::{Fault as DbFault, at_call};
use crate::sim_disk::{Rng, SimDisk};
use crate::wire::{Answer, Writer};

const BEGAN_MS: u64 = 1_790_000_000_000;
const ITEM: u32 = 1;
/// Steps after the directory was copied.
const STEPS: u64 = 60;
/// Steps of an exporter after which it has brought the database up to date, or was refused.
const DRAIN_STEPS_MAX: usize = 200;

/// One of the two.
struct Twin<'t> {
    name: char,
    disk: SimDisk,
    desk: Desk,
    book: Book,
    mono_ms: &'t AtomicU64,
    life: Option<Life>,
    /// The database has refused it.
    refused: bool,
    next_buyer: u32,
}

struct Twins {
    rng: Rng,
    seed: u64,
    twins: [Twin<'static>; 2],
    /// There are two by now.
    copied: bool,
    /// Whose facts the database holds, once that can be told.
    winner: Option<usize>,
    writer: Writer,
    /// What happened, for whoever reads a red one.
    story: Vec<String>,
}

/// Runs one such history. `Err` says which invariant does not hold.
pub(crate) fn run(seed: u64, cover: &mut Coverage, clocks: [&'static AtomicU64; 2]) -> Result<(), Red> {
    begin_draws(seed);
    let mut rng = Rng(seed ^ 0x7477_696e_7477_696e);
    let disk = SimDisk::new(rng.next());
    let desk = Desk::new(seed, log_id(seed));
    let twin = |name, disk, desk, mono_ms| Twin {
        name,
        disk,
        desk,
        book: Book::default(),
        mono_ms,
        life: None,
        refused: false,
        next_buyer: 0,
    };
    let other = desk.beside();
    let twins = [twin('A', disk.clone(), desk, clocks[0]), twin('B', disk, other, clocks[1])];
    let mut twins =
        Twins { rng, seed, twins, copied: false, winner: None, writer: Writer::default(), story: Vec::new() };
    twins.play().map_err(|red| format!("{red}\n  {}", twins.story.join("\n  ")))?;
    cover.struck(Fault::TwoCopies, Step::Rest, None);
    Ok(())
}

impl Twins {
    fn play(&mut self) -> Result<(), Red> {
        self.begin()?;
        for _ in 0..STEPS {
            let at = self.rng.below(2) as usize;
            self.act(at)?;
        }
        self.peace()
    }

    /// A log with an item, some orders, some of them exported; then its directory is copied.
    fn begin(&mut self) -> Result<(), Red> {
        self.start(0)?;
        let body = format!(
            "{{\"name\":\"n\",\"price_minor\":1,\"stock\":40,\"opens_at_ms\":{},\"closes_at_ms\":{},\"cap\":1,\
             \"payment\":\"on_order\",\"hold_ms\":0,\"draw_ms\":0}}",
            BEGAN_MS - 1_000,
            BEGAN_MS + 100 * 3_600_000
        );
        let put = format!("/admin/items/{ITEM}");
        self.ask(0, Listener::Merchant, |writer| writer.merchant("PUT", &put, &body))?;
        for _ in 0..self.rng.below(4) {
            self.buy(0)?;
        }
        for _ in 0..self.rng.below(6) {
            self.export(0)?;
        }
        self.die(0)?;
        self.twins[1].disk = self.twins[0].disk.copy();
        self.twins[1].next_buyer = 1_000;
        self.copied = true;
        // Its book is read from its log.
        self.start(1)?;
        self.die(1)
    }

    fn act(&mut self, at: usize) -> Result<(), Red> {
        if self.twins[at].life.is_none() {
            return if self.twins[at].refused && self.rng.below(4) > 0 { Ok(()) } else { self.start(at) };
        }
        match self.rng.below(16) {
            0..6 => self.buy(at),
            6..14 => self.export(at).map(drop),
            14 if self.rng.coin() => {
                let fault = [DbFault::Dies, DbFault::DiesAfter][self.rng.below(2) as usize];
                let call = 1 + self.rng.below(12);
                self.twins[at].desk.database.set_plan(Some(at_call(call, fault)));
                Ok(())
            }
            14 => self.write(at),
            _ => self.die(at),
        }
    }

    fn start(&mut self, at: usize) -> Result<(), Red> {
        let attaches = self.rng.coin();
        let (seed, twin) = (self.seed, &mut self.twins[at]);
        let start = Start {
            turn_max: OWNER_BATCH_MAX,
            disk: &twin.disk,
            cores: 1,
            wall_ms: BEGAN_MS + twin.mono_ms.load(Ordering::Relaxed),
            desk: Some(&twin.desk),
            seed,
            mono_ms: twin.mono_ms,
        };
        let recovery = recover(&start, &mut twin.book)?
            .map_err(|refusal| format!("I9 {} does not start: {refusal}", twin.name))?;
        recovery.judge(&mut twin.book)?;
        match recovery.start(&start, attaches) {
            Ok(life) => {
                let text = format!("{} starts at LSN {}, attaches {attaches}", twin.name, twin.book.lsn);
                self.story.push(text);
                twin.life = Some(life);
            }
            Err(refusal) => {
                ensure!(refusal.starts_with("I12"), "I9 {} does not start: {refusal}", twin.name);
                self.was_refused(at, &refusal)?;
            }
        }
        self.judge()
    }

    fn die(&mut self, at: usize) -> Result<(), Red> {
        let twin = &mut self.twins[at];
        if let Some(life) = twin.life.take() {
            life.audit(&mut twin.book)?;
        }
        twin.disk.kill();
        self.story.push(format!("{} dies at LSN {}", twin.name, twin.book.lsn));
        Ok(())
    }

    fn life(&mut self, at: usize) -> &mut Life {
        self.twins[at].life.as_mut().expect("called in a life")
    }

    // ---- what they do ----

    fn buy(&mut self, at: usize) -> Result<(), Red> {
        let buyer = self.twins[at].next_buyer;
        self.twins[at].next_buyer += 1;
        let path = format!("/v1/items/{ITEM}/orders");
        let status = self.ask(at, Listener::Public, |writer| {
            writer.buyer("POST", &path, buyer as u16, Some(buyer as usize), "{\"quantity\":1}")
        })?;
        let stopped = self.life(at).shared.selling_stopped().is_some();
        let name = self.twins[at].name;
        ensure!(!stopped || status == 503, "I13 {name} was refused and still sells: {status}");
        Ok(())
    }

    /// One request over a connection of its own; the status of the answer.
    fn ask(
        &mut self,
        at: usize,
        listener: Listener,
        request: impl FnOnce(&mut Writer) -> &[u8],
    ) -> Result<u16, Red> {
        let twin = &mut self.twins[at];
        let now_ms = twin.mono_ms.fetch_add(1, Ordering::Relaxed) + 1;
        let life = twin.life.as_mut().expect("called in a life");
        let token = life.homes[0].connections.enter();
        let mut client = Client::new(token, Conn::new(listener, now_ms), [127, 0, 0, 1].into());
        client.conn.feed(request(&mut self.writer), now_ms);
        for _ in 0..8 {
            let life = self.life(at);
            life.homes[0].read_clock();
            life.homes[0].serve(&mut client);
            life.homes[0].pump();
            if let Some((answer, _)) = Answer::parse(&client.out) {
                let status = answer.status;
                life.homes[0].connections.leave(client.id);
                return Ok(status);
            }
            self.write(at)?;
        }
        Err(format!("I16 {} does not answer", self.twins[at].name))
    }

    fn write(&mut self, at: usize) -> Result<(), Red> {
        loop {
            let log = &mut self.life(at).log;
            match log.journal.step() {
                Wrote::Wrote { .. } => {}
                Wrote::Idle => return Ok(()),
                Wrote::NeedsSegment => {
                    log.maintenance.prepare_spare().map_err(|error| error.to_string())?;
                }
                Wrote::Failed => return Err("I10 a log fails although nothing breaks".into()),
            }
        }
    }

    fn export(&mut self, at: usize) -> Result<Exported, Red> {
        let twin = &mut self.twins[at];
        let Some(exporter) = twin.life.as_mut().and_then(|life| life.exporter.as_mut()) else {
            return Ok(Exported::Idle);
        };
        let (before, cursor) = (twin.refused, twin.desk.cursor());
        let step = exporter.step();
        twin.desk.wait(step);
        let name = twin.name;
        ensure!(!before || twin.desk.cursor() == cursor, "I13 {name} was refused and writes again");
        if step == Exported::Stopped && !before {
            let reason = exporter.status().last_error().unwrap_or_default();
            self.was_refused(at, &reason)?;
        }
        let cursor = self.twins[at].desk.cursor();
        self.story.push(format!("{name} exports: {step:?}, the cursor is at {cursor}"));
        self.judge()?;
        Ok(step)
    }

    // ---- the judge ----

    /// Whether the database holds what this twin's log says up to the cursor, and nothing else.
    fn agrees(&self, at: usize) -> bool {
        let twin = &self.twins[at];
        let cursor = twin.desk.cursor();
        twin.desk.database.look(|tables| {
            let ours = twin.book.orders.iter().filter(|(_, order)| order.lsn <= cursor);
            let mut theirs = tables.orders.iter();
            let same = ours.into_iter().all(|(id, order)| {
                theirs.next().is_some_and(|(row, line)| {
                    *row as u64 == *id && line.record.buyer.as_bytes() == &*order.buyer
                })
            });
            same && theirs.next().is_none() && cursor <= twin.book.lsn
        })
    }

    fn judge(&mut self) -> Result<(), Red> {
        for twin in &mut self.twins {
            if let Some(life) = &twin.life {
                life.audit(&mut twin.book)?;
            }
        }
        let agree = [self.agrees(0), self.agrees(1)];
        ensure!(agree[0] || agree[1], "I13 the database holds what neither of two engines says");
        match self.winner {
            None if self.copied && agree[0] != agree[1] => self.winner = Some(usize::from(agree[1])),
            Some(winner) => {
                let name = self.twins[winner].name;
                ensure!(agree[winner], "I13 the database held the facts of {name}, and now others");
            }
            None => {}
        }
        Ok(())
    }

    /// A refusal is right if the other one is, or may be, attached, or has written what this one lacks.
    fn was_refused(&mut self, at: usize, reason: &str) -> Result<(), Red> {
        self.story.push(format!("{} is refused: {reason}", self.twins[at].name));
        self.judge()?;
        let other = &self.twins[1 - at];
        // A fence is lifted by the next start, if nothing was written meanwhile.
        let fenced = reason.contains("taken over") && other.book.lsn > 0;
        let lost = self.winner == Some(1 - at);
        self.twins[at].refused = lost;
        let name = self.twins[at].name;
        ensure!(fenced || lost, "I12 {name} is refused without a reason: {reason}");
        Ok(())
    }

    /// Each of the two alone, twice: the database comes to one of them, and the other stays out.
    fn peace(&mut self) -> Result<(), Red> {
        for at in [0, 1, 0, 1] {
            self.die(0)?;
            self.die(1)?;
            self.twins[at].desk.database.set_plan(None);
            self.start(at)?;
            if self.twins[at].life.is_none() {
                continue;
            }
            let mut steps = 0;
            loop {
                let step = self.export(at)?;
                let twin = &self.twins[at];
                let done = step == Exported::Idle && twin.desk.cursor() == twin.book.lsn;
                if done || step == Exported::Stopped {
                    break;
                }
                steps += 1;
                ensure!(steps < DRAIN_STEPS_MAX, "I18 {} does not export: {step:?}", twin.name);
            }
            if self.twins[at].refused {
                self.buy(at)?;
            }
        }
        let cursor = self.twins[0].desk.cursor();
        let done = |at: usize| self.agrees(at) && cursor == self.twins[at].book.lsn;
        ensure!(done(0) || done(1), "I18 neither of the two is exported");
        Ok(())
    }
}
