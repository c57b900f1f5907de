//! What the disk does to a life, and what must not follow it: fail-stop (I10).

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::{Fault, Step};
use crate::engine::FREE_BYTES_MIN;
use crate::sim_disk::{Op, Part, Struck, Trouble};

/// Operations to aim a fault at; the first two are durable writes.
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

impl History<'_> {
    /// Plans the disk's faults of the next life.
    pub(super) fn plan_trouble(&mut self) {
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

    /// Notes the faults since the last call.
    pub(super) fn after_step(&mut self) -> Result<(), Red> {
        if let Some(at) = self.disk.take_struck() {
            self.note_trouble(at);
        }
        ensure!(self.disk.writes_after_failure() == 0, "I10 a file was written to after it had failed");
        Ok(())
    }

    pub(super) fn note_trouble(&mut self, (trouble, op, part): Struck) {
        let (fault, at) = (fault_of(trouble), (op, part));
        // `bury` counts a crash, when it knows how the process ended.
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
