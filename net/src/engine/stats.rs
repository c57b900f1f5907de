//! The body of `GET /admin/stats`: counts, tables, log, export, alarms.
//!
//! Next: [`super::counters`], which hold the counts.

use stampede_core::shard::Fullness;

use super::books;
use super::counters::{Count, Counters};
use super::reasons::export_lag;
use super::shared::Shared;
use crate::http::json_out::Object;
use crate::http::problem::Code;

/// Appends all fields of the response.
pub(super) fn fill(object: &mut Object<'_>, shared: &Shared) {
    outcomes(object, shared);
    per_core(object, shared);
    log(object, shared);
    export(object, shared);
    texts(object, "alarms", &shared.alarms());
    texts(object, "weakened", &shared.weakened());
    object.text("mark", &format!("{:016x}", books::mark(&shared.secret)));
}

fn total(shared: &Shared, count: Count) -> u64 {
    shared.state.counters.iter().map(|core| core.get(count)).sum()
}

/// How often each refusal was the response, over all cores.
pub(super) fn refusals(shared: &Shared) -> impl Iterator<Item = (Code, u64)> {
    let sum = |code: Code| shared.state.counters.iter().map(|core| core.problem(code)).sum();
    Code::ALL.iter().map(move |&code| (code, sum(code)))
}

fn outcomes(object: &mut Object<'_>, shared: &Shared) {
    object.object("totals", |object| {
        for &count in Count::ALL {
            object.number(count.name(), total(shared, count));
        }
    });
    object.object("refusals", |object| {
        for (code, times) in refusals(shared).filter(|(_, times)| *times > 0) {
            object.number(code.name(), times);
        }
    });
}

fn per_core(object: &mut Object<'_>, shared: &Shared) {
    object.array("cores", |array| {
        for core in &shared.state.counters {
            array.object(|object| {
                object.number("connections_open", core.open());
                for &count in Count::ALL {
                    object.number(count.name(), core.get(count));
                }
                tables(object, core);
            });
        }
    });
}

fn tables(object: &mut Object<'_>, core: &Counters) {
    object.object("tables", |object| {
        for Fullness { table, used, max } in core.tables() {
            object.object(table, |object| {
                object.number("used", used).number("max", max);
            });
        }
    });
}

fn log(object: &mut Object<'_>, shared: &Shared) {
    let log = &shared.log;
    object.object("log", |object| {
        object
            .number("durable_lsn", log.durable_lsn().0)
            .number("snapshot_lsn", log.snapshot_lsn().0)
            .number("first_retained_lsn", log.first_retained_lsn().0)
            .number("groups", log.groups())
            .number("facts", log.facts())
            .number("bytes_written", log.bytes_written())
            .number("disk_bytes", log.disk_bytes())
            .number("queued", shared.queue.len())
            .number("sync_us_max", log.sync_us_max())
            .number("sync_us_sum", log.sync_us_sum())
            .boolean("accepting", log.accepting());
        if let Some(error) = log.snapshot_failure() {
            object.text("snapshot_error", &error);
        }
    });
}

fn export(object: &mut Object<'_>, shared: &Shared) {
    let Some(export) = &shared.export else { return };
    object.object("export", |object| {
        object
            .boolean("connected", export.connected())
            .number("exported_lsn", export.exported_lsn().0)
            .number("lag", export_lag(shared))
            .number("batches", export.batches())
            .number("rows", export.rows())
            .number("conflicts", export.conflicts())
            .number("set_aside", export.set_aside())
            .number("deferred", export.deferred())
            .number("waits_ms", export.waits_for().as_millis() as u64)
            .boolean("pooler", export.pooler());
        if let Some(error) = export.last_error() {
            object.text("last_error", &error);
        }
    });
}

/// Appends an array of texts.
pub(super) fn texts(object: &mut Object<'_>, name: &'static str, texts: &[impl AsRef<str>]) {
    object.array(name, |array| texts.iter().for_each(|text| array.text(text.as_ref())));
}
