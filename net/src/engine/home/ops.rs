//! Health, readiness, metrics, statistics: how the engine says that it is well.

use std::fmt::Write as _;

use super::state::{Caller, Home};
use crate::engine::books;
use crate::engine::counters::{Count, Counters};
use crate::engine::reasons::{Reason, export_lag, is_ready, reasons};
use crate::engine::shared::Shared;
use crate::engine::tables;
use crate::http::answer::{self, Answer, Cache, Date, Media, ResponseMode, Status};
use crate::http::json_out::Object;
use crate::http::problem::Code;
use crate::http::route::Route;
use crate::identity::cors::PREFLIGHT;
use crate::output;
use stampede_core::shard::Fullness;

impl Home {
    pub(super) fn ops(&mut self, route: &Route, caller: &mut Caller<'_>) {
        let mode = caller.mode;
        let (shared, date) = (self.shared.clone(), self.date);
        self.connections.answer_bytes(caller, |out| health(out, route, &shared, mode, &date));
    }

    /// Says which methods a path takes, and to a page of another origin, what it may send.
    pub(super) fn options(&mut self, methods: &'static str, caller: &mut Caller<'_>) {
        let (mode, date) = (caller.mode, self.date);
        let preflight = if mode.cors.is_some() { PREFLIGHT } else { "" };
        self.connections.answer_bytes(caller, |out| {
            let answer = Answer::begin(out, Status::NoContent, Cache::Never, mode, &date);
            answer.header("Allow", methods).push(&[preflight]).no_body();
        });
    }

    pub(super) fn stats(&mut self, caller: &mut Caller<'_>) {
        let mode = caller.mode;
        let (shared, date, now) = (self.shared.clone(), self.date, self.now.sale);
        self.connections.answer_bytes(caller, |out| {
            answer::json(out, Status::Ok, mode, &date, |object| {
                outcomes(object, &shared);
                per_core(object, &shared);
                log(object, &shared);
                export(object, &shared);
                texts(object, "alarms", &shared.alarms());
                texts(object, "weakened", &shared.weakened());
                object.text("mark", &format!("{:016x}", books::mark(&shared.secret)));
                object.number("now_ms", now.0);
            });
        });
    }
}

/// Answers `/healthz`, `/readyz` or `/metrics`, on whatever thread. They tell what the watch over the
/// cores has found ([`crate::engine::pulse`]), not that the thread that answers is well.
pub(crate) fn health(out: &mut Vec<u8>, route: &Route, shared: &Shared, mode: ResponseMode, date: &Date) {
    let status = |well: bool| if well { Status::Ok } else { Status::Unavailable };
    match route {
        Route::Readyz => {
            let reasons = reasons(shared);
            let status = status(is_ready(&reasons));
            answer::json(out, status, mode, date, |object| readiness(object, shared, &reasons));
        }
        // Who asks from outside learns no reasons.
        Route::PublicReadyz => {
            let ready = is_ready(&reasons(shared));
            answer::json(out, status(ready), mode, date, |object| {
                object.boolean("ready", ready);
            });
        }
        Route::PublicHealthz => {
            let live = shared.state.pulse.stalled().next().is_none();
            answer::json(out, status(live), mode, date, |object| {
                object.boolean("live", live);
            });
        }
        Route::Metrics => {
            let text = metrics(shared);
            answer::bytes(out, Status::Ok, Media::Metrics, text.as_bytes(), mode, date);
        }
        _ => {
            let live = shared.state.pulse.stalled().next().is_none();
            answer::json(out, status(live), mode, date, |object| {
                object.boolean("live", live);
                stalled_cores(object, shared);
            });
        }
    }
}

/// Names the cores that stand still, if any.
fn stalled_cores(object: &mut Object<'_>, shared: &Shared) {
    if shared.state.pulse.stalled().next().is_some() {
        object.array("stalled_cores", |array| {
            shared.state.pulse.stalled().for_each(|core| array.number(core as u64));
        });
    }
}

fn readiness(object: &mut Object<'_>, shared: &Shared, reasons: &[Reason]) {
    object.boolean("ready", is_ready(reasons));
    texts(object, "reasons", &reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>());
    texts(object, "weakened", &shared.weakened());
    stalled_cores(object, shared);
    texts(object, "filling", &tables::filling(shared));
    if let Some(error) = shared.log.snapshot_failure() {
        object.text("snapshot_error", &error);
    }
    if let Some(failure) = shared.state.accept_errors.failure() {
        object.text("not_accepting", &failure);
    }
    if let Some(reason) = shared.selling_stopped() {
        object.text("selling_stopped", &reason);
    }
    if let Some(reason) = shared.awaited() {
        object.text("awaiting_database", &reason);
    }
    if shared.clock.is_ahead() {
        object.text("clock_ahead", &shared.clock_words());
    }
    if let Some(error) = shared.export.as_ref().and_then(|export| export.last_error()) {
        object.text("export_error", &error);
    }
    if let Some(stalled) = shared.export.as_ref().and_then(|export| export.stalled_for()) {
        let (seconds, lag) = (stalled.as_secs(), export_lag(shared));
        object.text("export_stalled", &format!("nothing was exported for {seconds} s, {lag} facts wait"));
    }
}

fn texts(object: &mut Object<'_>, name: &'static str, texts: &[impl AsRef<str>]) {
    object.array(name, |array| texts.iter().for_each(|text| array.text(text.as_ref())));
}

fn total(shared: &Shared, count: Count) -> u64 {
    shared.state.counters.iter().map(|core| core.get(count)).sum()
}

fn refusals(shared: &Shared) -> impl Iterator<Item = (Code, u64)> {
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

// ---- Prometheus ----

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP stampede_{name} {help}\n# TYPE stampede_{name} {kind}");
    }
    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _infallible = writeln!(self.0, "stampede_{name}{labels} {value}");
    }
    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

fn metrics(shared: &Shared) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    for &count in Count::ALL {
        let name = format!("{}_total", count.name());
        text.family(&name, "counter", count.help());
        for (core, counters) in shared.state.counters.iter().enumerate() {
            text.sample(&name, &format!("{{core=\"{core}\"}}"), counters.get(count));
        }
    }
    text.family("refusals_total", "counter", "Requests refused, by code.");
    for (code, times) in refusals(shared) {
        text.sample("refusals_total", &format!("{{code=\"{}\"}}", code.name()), times);
    }
    text.family("connections_open", "gauge", "Connections open now, per core.");
    for (core, counters) in shared.state.counters.iter().enumerate() {
        text.sample("connections_open", &format!("{{core=\"{core}\"}}"), counters.open());
    }
    pulse_metrics(&mut text, shared);
    table_metrics(&mut text, shared);
    log_metrics(&mut text, shared);
    export_metrics(&mut text, shared);
    text.family("not_ready", "gauge", "1 while this reason keeps it from selling, or buyers from it.");
    for reason in Reason::ALL {
        let holds = u64::from(reason.holds(shared).is_some());
        text.sample("not_ready", &format!("{{reason=\"{}\"}}", reason.name()), holds);
    }
    text.one("ready", "gauge", "1 if ready to sell.", u64::from(is_ready(&reasons(shared))));
    let ahead = "How far the sale clock is ahead of this machine's clock.";
    text.one("clock_ahead_milliseconds", "gauge", ahead, shared.clock.ahead_ms());
    text.one("alarms", "gauge", "Alarms kept for the merchant.", shared.alarms().len() as u64);
    let lost = output::lines_lost();
    text.one(
        "log_lines_lost_total",
        "counter",
        "Lines of the standard error and output that nobody took.",
        lost,
    );
    text.family("weakened", "gauge", "A promise that was weakened by a flag.");
    for what in shared.weakened() {
        text.sample("weakened", &format!("{{what={what:?}}}"), 1);
    }
    text.0
}

fn pulse_metrics(text: &mut Text, shared: &Shared) {
    let pulse = &shared.state.pulse;
    text.family("core_stalled_milliseconds", "gauge", "How long the core has not turned; 0 = it turns.");
    for core in 0..pulse.cores() {
        text.sample("core_stalled_milliseconds", &format!("{{core=\"{core}\"}}"), pulse.stalled_ms(core));
    }
    text.family("core_stalls_total", "counter", "How often the core was found not to turn for a second.");
    for core in 0..pulse.cores() {
        text.sample("core_stalls_total", &format!("{{core=\"{core}\"}}"), pulse.stalls(core));
    }
}

/// A metric of every table: its name, what it means, how it is read.
type TableMetric = (&'static str, &'static str, fn(&Fullness) -> u64);

fn table_metrics(text: &mut Text, shared: &Shared) {
    let figures: [TableMetric; 2] = [
        ("table_used", "What a table of an owner holds.", |table| table.used),
        ("table_max", "What it can hold; what needs more is refused.", |table| table.max),
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
    text.one("log_durable_lsn", "gauge", "The last durable fact.", log.durable_lsn().0);
    text.one("log_groups_total", "counter", "Groups written and synced.", log.groups());
    text.one("log_facts_total", "counter", "Facts written.", log.facts());
    text.one("log_written_bytes_total", "counter", "Bytes written, padding included.", log.bytes_written());
    text.one("log_disk_bytes", "gauge", "Bytes of all segment files.", log.disk_bytes());
    text.one("log_queued", "gauge", "Facts that wait for the journal.", shared.queue.len() as u64);
    text.one("log_sync_max_microseconds", "gauge", "Longest write and sync.", log.sync_us_max());
    text.one("log_sync_microseconds_total", "counter", "All writes and syncs.", log.sync_us_sum());
    let failing = u64::from(log.snapshots_fail());
    text.one("log_snapshots_fail", "gauge", "1 while no snapshot can be made.", failing);
    text.one("log_accepting", "gauge", "1 while the log takes facts.", u64::from(log.accepting()));
}

fn export_metrics(text: &mut Text, shared: &Shared) {
    let Some(export) = &shared.export else { return };
    text.one("export_connected", "gauge", "1 while Postgres is reached.", u64::from(export.connected()));
    text.one("export_lsn", "gauge", "The last exported fact.", export.exported_lsn().0);
    text.one("export_lag", "gauge", "Durable facts that are not exported yet.", export_lag(shared));
    let waits = export.waits_for().as_secs();
    text.one(
        "export_waits_seconds",
        "gauge",
        "How long facts have waited of which none was exported.",
        waits,
    );
    text.one("export_rows_total", "counter", "Rows of orders written.", export.rows());
    text.one("export_conflicts_total", "counter", "Stock rows changed by others.", export.conflicts());
    text.one("export_set_aside_total", "counter", "Rows that Postgres refused.", export.set_aside());
}
