//! `GET /metrics`: all figures of the engine in the text format of Prometheus.
//!
//! docs/METRICS.md lists them; a test holds the page to what is written here.

use std::fmt::Write as _;

use stampede_core::shard::Fullness;

use super::counters::Count;
use super::reasons::{Reason, export_lag, is_ready, reasons};
use super::shared::Shared;
use super::stats::refusals;
use crate::output;

/// The text that is being written.
struct Text(String);

impl Text {
    /// Begins a metric: `kind` is `counter` or `gauge`.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP stampede_{name} {help}\n# TYPE stampede_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _infallible = writeln!(self.0, "stampede_{name}{labels} {value}");
    }

    /// A metric with one sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// A metric with a sample per core.
    fn per_core(&mut self, name: &str, kind: &str, help: &str, values: impl Iterator<Item = u64>) {
        self.family(name, kind, help);
        for (core, value) in values.enumerate() {
            self.sample(name, &format!("{{core=\"{core}\"}}"), value);
        }
    }

    /// Whether the engine sells, and the reasons why not.
    fn readiness(&mut self, holds: impl Iterator<Item = (Reason, bool)>, ready: bool) {
        let help = "1 while this reason keeps the engine from selling, or buyers away from it.";
        self.family("not_ready", "gauge", help);
        for (reason, holds) in holds {
            self.sample("not_ready", &format!("{{reason=\"{}\"}}", reason.name()), u64::from(holds));
        }
        self.one("ready", "gauge", "1 if ready to sell.", u64::from(ready));
    }
}

/// The whole text.
pub(super) fn metrics(shared: &Shared) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    core_metrics(&mut text, shared);
    table_metrics(&mut text, shared);
    log_metrics(&mut text, shared);
    export_metrics(&mut text, shared);
    let holds = Reason::ALL.into_iter().map(|reason| (reason, reason.holds(shared).is_some()));
    text.readiness(holds, is_ready(&reasons(shared)));
    let ahead = "How far the sale clock is ahead of this machine's clock.";
    text.one("clock_ahead_milliseconds", "gauge", ahead, shared.clock.ahead_ms());
    text.one("alarms", "gauge", "Alarms kept for the merchant.", shared.alarms().len() as u64);
    let lost = "Lines of log and output that were dropped because nobody read them.";
    text.one("log_lines_lost_total", "counter", lost, output::lines_lost());
    text.family("weakened", "gauge", "1 for each promise that a setting weakens.");
    for what in shared.weakened() {
        text.sample("weakened", &format!("{{what={what:?}}}"), 1);
    }
    text.0
}

/// The text while no core runs yet.
pub fn starting_metrics() -> String {
    let mut text = Text(String::new());
    text.readiness([(Reason::Starting, true)].into_iter(), false);
    text.0
}

fn core_metrics(text: &mut Text, shared: &Shared) {
    let (counters, pulse) = (&shared.state.counters, &shared.state.pulse);
    for &count in Count::ALL {
        let name = format!("{}_total", count.name());
        text.per_core(&name, "counter", count.help(), counters.iter().map(|core| core.get(count)));
    }
    text.family("refusals_total", "counter", "Refused requests, by error code.");
    for (code, times) in refusals(shared) {
        text.sample("refusals_total", &format!("{{code=\"{}\"}}", code.name()), times);
    }
    let open = counters.iter().map(|core| core.open());
    text.per_core("connections_open", "gauge", "Open connections.", open);
    let cores = || 0..pulse.cores();
    let stalled = "How long the core's loop has not run; 0 = it runs.";
    let stalled_ms = cores().map(|core| pulse.stalled_ms(core));
    text.per_core("core_stalled_milliseconds", "gauge", stalled, stalled_ms);
    let stalls = "How often the core's loop did not run for a second.";
    text.per_core("core_stalls_total", "counter", stalls, cores().map(|core| pulse.stalls(core)));
}

/// A metric of every table: its name, what it means, how it is read.
type TableMetric = (&'static str, &'static str, fn(&Fullness) -> u64);

fn table_metrics(text: &mut Text, shared: &Shared) {
    let figures: [TableMetric; 2] = [
        ("table_used", "Rows in a table of an owner core.", |table| table.used),
        ("table_max", "Most rows of that table; what needs another row is refused.", |table| table.max),
    ];
    for (name, help, figure) in figures {
        text.family(name, "gauge", help);
        for (core, counters) in shared.state.counters.iter().enumerate() {
            for fullness in counters.tables() {
                let labels = format!("{{core=\"{core}\",table=\"{}\"}}", fullness.table);
                text.sample(name, &labels, figure(&fullness));
            }
        }
    }
}

fn log_metrics(text: &mut Text, shared: &Shared) {
    let log = &shared.log;
    text.one("log_durable_lsn", "gauge", "LSN of the last durable fact.", log.durable_lsn().0);
    text.one("log_groups_total", "counter", "Groups of facts written and synced.", log.groups());
    text.one("log_facts_total", "counter", "Facts written.", log.facts());
    text.one("log_written_bytes_total", "counter", "Bytes written, padding included.", log.bytes_written());
    text.one("log_disk_bytes", "gauge", "Size of all segment files, in bytes.", log.disk_bytes());
    text.one("log_queued", "gauge", "Facts in the journal's queue.", shared.queue.len() as u64);
    text.one("log_sync_max_microseconds", "gauge", "Longest write and sync of a group.", log.sync_us_max());
    let sum = "Time spent in writes and syncs.";
    text.one("log_sync_microseconds_total", "counter", sum, log.sync_us_sum());
    text.one("log_snapshots_fail", "gauge", "1 while snapshots fail.", u64::from(log.snapshots_fail()));
    text.one("log_accepting", "gauge", "1 while the log takes facts.", u64::from(log.accepting()));
}

fn export_metrics(text: &mut Text, shared: &Shared) {
    let Some(export) = &shared.export else { return };
    text.one("export_connected", "gauge", "1 while connected to Postgres.", u64::from(export.connected()));
    text.one("export_lsn", "gauge", "LSN of the last exported fact.", export.exported_lsn().0);
    text.one("export_lag", "gauge", "Durable facts that are not exported yet.", export_lag(shared));
    let waits = "How long facts have waited without any being exported.";
    text.one("export_waits_seconds", "gauge", waits, export.waits_for().as_secs());
    text.one("export_rows_total", "counter", "Order rows written.", export.rows());
    text.one("export_conflicts_total", "counter", "Stock rows that others had changed.", export.conflicts());
    text.one("export_set_aside_total", "counter", "Rows that Postgres refused.", export.set_aside());
}
