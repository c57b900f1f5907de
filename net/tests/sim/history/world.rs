//! The world between two lives, and starts that must not be.

use super::{HOUR_MS, History};
use crate::book::{Red, ensure};
use crate::coverage::{Fault, Step};
use crate::engine::{Start, recover};

impl History<'_> {
    /// The world between two lives: clocks, cores, and bits that turn over.
    pub(super) fn between_lives(&mut self) -> Result<(), Red> {
        self.wall_ms += self.rng.below(5_000);
        match self.rng.below(20) {
            0 | 1 => {
                self.wall_ms -= HOUR_MS;
                self.cover.struck(Fault::ClockBack, Step::Rest, None);
            }
            2 => {
                self.wall_ms += HOUR_MS;
                self.cover.struck(Fault::ClockAhead, Step::Rest, None);
            }
            _ => {}
        }
        let cores = 1 + self.rng.below(4) as usize;
        if cores != self.cores {
            self.cover.struck(Fault::CoresChange, Step::Rest, None);
            self.cores = cores;
        }
        self.fill_if_decided();
        self.choose_flags();
        if self.chance(60) {
            self.try_damage()?;
        }
        if self.chance(10) {
            self.try_volatile()?;
        }
        Ok(())
    }

    /// A bit of a copy turns over: either the copy is refused, or nothing that counts is missing.
    pub(super) fn try_damage(&mut self) -> Result<(), Red> {
        let copy = self.disk.copy();
        let Some((file, byte)) = copy.flip() else { return Ok(()) };
        self.cover.struck(Fault::BitFlip, Step::Boot, None);
        copy.take_changes();
        let before = copy.files();
        let mut book = std::mem::take(&mut self.book);
        let recovered = recover(&Start { disk: &copy, ..self.start() }, &mut book);
        self.book = book;
        match recovered? {
            Ok(recovery) => {
                let durable = recovery.replayed.durable().0;
                let lost = durable < self.durable;
                // The group that was written last has no witness until the control file has it.
                let floor = recovery.witnessed.max(self.last_group).min(self.durable);
                let witnessed = durable >= floor;
                ensure!(witnessed, "I9 byte {byte} of {file}: recovered up to {durable} of {}", self.durable);
                self.cover.unwitnessed += u64::from(lost);
                if durable == self.book.lsn && recovery.is_known() {
                    self.book.compare(recovery.replayed.shards().iter())?;
                }
            }
            Err(refusal) => {
                let names = refusal.contains("/data/");
                ensure!(names, "I9 byte {byte} of {file}: the refusal names no file: {refusal}");
                ensure!(before == copy.files(), "I9 byte {byte} of {file}: refused, and the files changed");
                self.cover.refusals += 1;
            }
        }
        Ok(())
    }

    pub(super) fn try_volatile(&mut self) -> Result<(), Red> {
        self.cover.struck(Fault::Volatile, Step::Boot, None);
        self.disk.set_volatile(true);
        let mut book = std::mem::take(&mut self.book);
        let recovered = recover(&self.start(), &mut book);
        self.book = book;
        self.disk.set_volatile(false);
        ensure!(recovered?.is_err(), "I17 a log in memory was taken without a word");
        Ok(())
    }

    pub(super) fn second_process(&mut self) -> Result<(), Red> {
        if !self.chance(20) {
            return Ok(());
        }
        self.cover.struck(Fault::TwoProcesses, Step::Boot, None);
        let mut book = std::mem::take(&mut self.book);
        let recovered = recover(&self.start(), &mut book);
        self.book = book;
        ensure!(recovered?.is_err(), "I13 two processes hold one data directory");
        Ok(())
    }
}
