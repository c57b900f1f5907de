//! The exporter: only durable facts (I3), never to a database that is behind the log (I12), and in the
//! end all of them (I18).

use stampede_persist::export::Step as Exported;

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::Step;
use crate::ledger::Desk;

/// Steps of the exporter within which everything has to be in the database; and steps without any
/// change after which it is.
const DRAIN_STEPS_MAX: usize = 400;
const QUIET_EXPORTS: usize = 30;

impl History<'_> {
    /// The exporter takes a step; the engine finds its messages in its inboxes.
    pub(super) fn export(&mut self) -> Result<(), Red> {
        let (Some(desk), Some(life)) = (&mut self.desk, &mut self.life) else { return Ok(()) };
        let Some(exporter) = &mut life.exporter else { return Ok(()) };
        self.step = Step::Export;
        // Now and then the process ends at a call, in or after a transaction.
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

    pub(super) fn disturb(&mut self) {
        let items: Vec<u32> = self.plans.iter().map(|plan| plan.id).collect();
        let Some(desk) = &mut self.desk else { return };
        let fault = desk.disturb(&mut self.rng, &items);
        self.cover.struck(fault, self.step, None);
        self.trace.note("database", &[fault as u64], || fault.name().to_owned());
    }

    /// Exports until everything is there, foreign edits are followed, and nothing changes any more.
    pub(super) fn drain(&mut self) -> Result<(), Red> {
        if self.desk.is_none() {
            return Ok(());
        }
        let mut quiet = 0;
        for _ in 0..DRAIN_STEPS_MAX {
            let before = (self.durable, self.desk.as_ref().map_or(0, Desk::cursor));
            self.export()?;
            self.settle()?;
            let desk = self.desk.as_ref().expect("looked above");
            let after = (self.durable, desk.cursor());
            quiet = if before == after && after.0 == after.1 { quiet + 1 } else { 0 };
            if quiet == QUIET_EXPORTS {
                return Ok(());
            }
        }
        let status = self.life().exporter.as_ref().and_then(|exporter| exporter.status().last_error());
        let cursor = self.desk.as_ref().map_or(0, Desk::cursor);
        Err(format!("I18 {cursor} of {} is exported, and no more: {status:?}", self.durable))
    }

    pub(super) fn count_database(&mut self) {
        if let Some(desk) = &self.desk {
            self.cover.database(&desk.database.counts());
        }
    }
}
