//! What an owner checks between requests: how full its tables are, and whether snapshots work. It
//! raises one alarm long before a table is full, and costs requests nothing.
//!
//! When a table is full, the owner refuses what needs one more row as `overloaded`, and goes on with
//! everything else. Next: [`super::counters`], which show the figures.

use stampede_core::shard::{Fullness, Shard, TABLES};

use super::shared::Shared;

/// What an owner has raised alarms about; nothing at first.
#[derive(Default)]
pub struct TableWatch {
    filling: [bool; TABLES],
    snapshots_failing: bool,
}

impl TableWatch {
    /// Publishes how full the owner's tables are, and raises an alarm for each that has become nearly full
    /// since. Core 0 also checks the snapshots.
    pub fn look(&mut self, shard: &Shard, shared: &Shared) {
        let core = shard.index();
        let fullness = shard.fullness();
        shared.state.counters[core].set_tables(&fullness);
        for (raised, table) in self.filling.iter_mut().zip(&fullness) {
            let alarming = table.is_alarming();
            if alarming && !*raised {
                shared.alarm_once(alarm(core, table));
            }
            *raised = alarming;
        }
        if core == 0 {
            self.look_at_snapshots(shared);
        }
    }

    fn look_at_snapshots(&mut self, shared: &Shared) {
        let failing = shared.log.snapshots_fail();
        if failing && !self.snapshots_failing {
            let why = shared.log.snapshot_failure().unwrap_or_default();
            shared.alarm_once(format!("snapshots fail, so the log only grows: {why}"));
        }
        self.snapshots_failing = failing;
    }
}

fn alarm(core: usize, table: &Fullness) -> String {
    let Fullness { table, used, max } = table;
    format!(
        "core {core}: the table {table} holds {used} of at most {max} rows; when it is full, requests that need another row are refused"
    )
}

/// The nearly full tables of all cores, as `/readyz` names them.
pub fn filling(shared: &Shared) -> Vec<String> {
    let tables = shared
        .state
        .counters
        .iter()
        .enumerate()
        .flat_map(|(core, counters)| counters.tables().into_iter().map(move |table| (core, table)));
    let near = tables.filter(|(_, table)| table.is_alarming());
    near.map(|(core, Fullness { table, used, max })| format!("core {core}: {table} {used} of {max}"))
        .collect()
}
