//! Starts that are refused: for a reason and with a place (I9, I18), beside another process (I13), in memory (I17).

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::{Fault, Step};
use crate::engine::{Start, recover};

impl History<'_> {
    /// A start was refused: right only if something was wrong with the disk, or the database is awaited.
    pub(super) fn refused(&mut self, refusal: &str) -> Result<(), Red> {
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

    /// Flips a bit of a copy: either the copy is refused, or nothing durable is missing.
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
                // Nothing can prove the last group before the control file notes it.
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
