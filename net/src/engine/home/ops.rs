//! Health, readiness, metrics, statistics: how the engine says that it is well.

use std::fmt::{Display, Write as _};

use super::state::{Caller, Home};
use crate::engine::books;
use crate::engine::counters::{Count, Counters};
use crate::engine::reasons::{Reason, export_lag, is_ready, reasons};
use crate::engine::shared::Shared;
use crate::engine::tables;
use crate::http::answer::{self, Answer, Cache, Date, Manner, Media, Status};
use crate::http::json_out::Object;
use crate::http::problem::Code;
use crate::http::route::Route;
use crate::identity::cors::PREFLIGHT;
use crate::output;
use stampede_core::shard::Fullness;

impl Home {
    pub(super) fn ops(&mut self, route: &Route, caller: &mut Caller<'_>) {
        let manner = caller.manner;
        let (shared, date) = (self.shared.clone(), self.date);
        self.connections.answer_bytes(caller, |out| health(out, route, &shared, manner, &date));
    }

    /// Says which methods a path takes, and to a page of another origin, what it may send.
    pub(super) fn options(&mut self, methods: &'static str, caller: &mut Caller<'_>) {
        let (manner, date) = (caller.manner, self.date);
        let preflight = if manner.cors.is_some() { PREFLIGHT } else { "" };
        self.connections.answer_bytes(caller, |out| {
            let answer = Answer::begin(out, Status::NoContent, Cache::Never, manner, &date);
            answer.header("Allow", methods).push(&[preflight]).no_body();
        });
    }

    pub(super) fn stats(&mut self, caller: &mut Caller<'_>) {
        let manner = caller.manner;
        let (shared, date, now) = (self.shared.clone(), self.date, self.now.sale);
        self.connections.answer_bytes(caller, |out| {
            answer::json(out, Status::Ok, manner, &date, |object| {
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
pub(crate) fn health(out: &mut Vec<u8>, route: &Route, shared: &Shared, manner: Manner, date: &Date) {
    let status = |well: bool| if well { Status::Ok } else { Status::Unavailable };
    match route {
        Route::Metrics => {
            let text = metrics(shared);
            answer::bytes(out, Status::Ok, Media::Metrics, text.as_bytes(), manner, date);
        }
        // Who asks from outside learns no reasons.
        Route::Readyz | Route::PublicReadyz => {
            let reasons = reasons(shared);
            let ready = is_ready(&reasons);
            answer::json(out, status(ready), manner, date, |object| {
                object.boolean("ready", ready);
                if *route == Route::Readyz {
                    readiness(object, shared, &reasons);
                }
            });
        }
        _ => {
            let live = shared.pulse.stalled().next().is_none();
            answer::json(out, status(live), manner, date, |object| {
                object.boolean("live", live);
                if *route != Route::PublicHealthz {
                    stalled_cores(object, shared);
                }
            });
        }
    }
}

/// Names the cores that stand still, if any.
fn stalled_cores(object: &mut Object<'_>, shared: &Shared) {
    if shared.pulse.stalled().next().is_some() {
        object.array("stalled_cores", |array| {
            shared.pulse.stalled().for_each(|core| array.number(core as u64));
        });
    }
}

fn readiness(object: &mut Object<'_>, shared: &Shared, reasons: &[Reason]) {
    texts(object, "reasons", &reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>());
    texts(object, "weakened", &shared.weakened());
    stalled_cores(object, shared);
    texts(object, "filling", &tables::filling(shared));
    let export = shared.export.as_ref();
    let stalled = export.and_then(|export| export.stalled_for()).map(|stalled| {
        let (seconds, lag) = (stalled.as_secs(), export_lag(shared));
        format!("nothing was exported for {seconds} s, {lag} facts wait")
    });
    object
        .text_if("snapshot_error", shared.log.snapshot_failure())
        .text_if("not_accepting", shared.accept_errors.failure())
        .text_if("selling_stopped", shared.selling_stopped())
        .text_if("awaiting_database", shared.awaited())
        .text_if("clock_ahead", shared.clock.is_ahead().then(|| shared.clock_words()))
        .text_if("export_error", export.and_then(|export| export.last_error()))
        .text_if("export_stalled", stalled);
}

fn texts(object: &mut Object<'_>, name: &'static str, texts: &[impl AsRef<str>]) {
    object.array(name, |array| texts.iter().for_each(|text| array.text(text.as_ref())));
}

fn refusals(shared: &Shared) -> impl Iterator<Item = (Code, u64)> {
    let sum = |code: Code| shared.counters.iter().map(|core| core.problem(code)).sum();
    Code::ALL.iter().map(move |&code| (code, sum(code)))
}

fn outcomes(object: &mut Object<'_>, shared: &Shared) {
    object.object("totals", |object| {
        for &count in Count::ALL {
            object.number(count.name(), shared.counters.iter().map(|core| core.get(count)).sum::<u64>());
        }
    });
    object.object("refusals", |object| {
        for (code, times) in refusals(shared) {
            object.nonzero(code.name(), times);
        }
    });
}

fn per_core(object: &mut Object<'_>, shared: &Shared) {
    object.array("cores", |array| {
        for core in &shared.counters {
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
            .boolean("accepting", log.accepting())
            .text_if("snapshot_error", log.snapshot_failure());
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
            .boolean("pooler", export.pooler())
            .text_if("last_error", export.last_error());
    });
}

// ---- Prometheus ----

/// Metrics as they are written; one whose name ends in `_total` is a counter, all others are gauges.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _infallible = writeln!(self.0, "# HELP stampede_{name} {help}\n# TYPE stampede_{name} {kind}");
    }
    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _infallible = writeln!(self.0, "stampede_{name}{labels} {value}");
    }
    /// A metric without a label.
    fn one(&mut self, name: &str, help: &str, value: impl Into<u64>) {
        self.family(name, help);
        self.sample(name, "", value.into());
    }
    /// A metric with values told apart by a label.
    fn each<L: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) {
        self.family(name, help);
        for (of, value) in values {
            self.sample(name, &format!("{{{label}=\"{of}\"}}"), value);
        }
    }
}

fn metrics(shared: &Shared) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    let cores = || shared.counters.iter().enumerate();
    for &count in Count::ALL {
        let name = format!("{}_total", count.name());
        text.each(&name, count.help(), "core", cores().map(|(core, counters)| (core, counters.get(count))));
    }
    let by_code = refusals(shared).map(|(code, times)| (code.name(), times));
    text.each("refusals_total", "Requests refused, by code.", "code", by_code);
    let open = cores().map(|(core, counters)| (core, counters.open()));
    text.each("connections_open", "Connections open now, per core.", "core", open);
    pulse_metrics(&mut text, shared);
    table_metrics(&mut text, shared);
    log_metrics(&mut text, shared);
    export_metrics(&mut text, shared);
    let held = Reason::ALL.iter().map(|reason| (reason.name(), reason.holds(shared).is_some().into()));
    text.each("not_ready", "1 while this reason keeps it from selling, or buyers from it.", "reason", held);
    text.one("ready", "1 if ready to sell.", is_ready(&reasons(shared)));
    let help = "How far the sale clock is ahead of this machine's clock.";
    text.one("clock_ahead_milliseconds", help, shared.clock.ahead_ms());
    text.one("alarms", "Alarms kept for the merchant.", shared.alarms().len() as u64);
    let help = "Lines of the standard error and output that nobody took.";
    text.one("log_lines_lost_total", help, output::lines_lost());
    let weakened = shared.weakened().into_iter().map(|what| (what, 1));
    text.each("weakened", "A promise that was weakened by a flag.", "what", weakened);
    text.0
}

fn pulse_metrics(text: &mut Text, shared: &Shared) {
    let (pulse, cores) = (&shared.pulse, || 0..shared.pulse.cores());
    let stalled = cores().map(|core| (core, pulse.stalled_ms(core)));
    let help = "How long the core has not turned; 0 = it turns.";
    text.each("core_stalled_milliseconds", help, "core", stalled);
    let stalls = cores().map(|core| (core, pulse.stalls(core)));
    text.each("core_stalls_total", "How often the core was found not to turn for a second.", "core", stalls);
}

/// A metric of every table: its name, what it means, how it is read.
type TableMetric = (&'static str, &'static str, fn(&Fullness) -> u64);

fn table_metrics(text: &mut Text, shared: &Shared) {
    let figures: [TableMetric; 2] = [
        ("table_used", "What a table of an owner holds.", |table| table.used),
        ("table_max", "What it can hold; what needs more is refused.", |table| table.max),
    ];
    for (name, help, figure) in figures {
        text.family(name, help);
        for (core, counters) in shared.counters.iter().enumerate() {
            for fullness in counters.tables() {
                let labels = format!("{{core=\"{core}\",table=\"{}\"}}", fullness.table);
                text.sample(name, &labels, figure(&fullness));
            }
        }
    }
}

fn log_metrics(text: &mut Text, shared: &Shared) {
    let log = &shared.log;
    text.one("log_durable_lsn", "The last durable fact.", log.durable_lsn().0);
    text.one("log_groups_total", "Groups written and synced.", log.groups());
    text.one("log_facts_total", "Facts written.", log.facts());
    text.one("log_written_bytes_total", "Bytes written, padding included.", log.bytes_written());
    text.one("log_disk_bytes", "Bytes of all segment files.", log.disk_bytes());
    text.one("log_queued", "Facts that wait for the journal.", shared.queue.len() as u64);
    text.one("log_sync_max_microseconds", "Longest write and sync.", log.sync_us_max());
    text.one("log_sync_microseconds_total", "All writes and syncs.", log.sync_us_sum());
    text.one("log_snapshots_fail", "1 while no snapshot can be made.", log.snapshots_fail());
    text.one("log_accepting", "1 while the log takes facts.", log.accepting());
}

fn export_metrics(text: &mut Text, shared: &Shared) {
    let Some(export) = &shared.export else { return };
    text.one("export_connected", "1 while Postgres is reached.", export.connected());
    text.one("export_lsn", "The last exported fact.", export.exported_lsn().0);
    text.one("export_lag", "Durable facts that are not exported yet.", export_lag(shared));
    let help = "How long facts have waited of which none was exported.";
    text.one("export_waits_seconds", help, export.waits_for().as_secs());
    text.one("export_rows_total", "Rows of orders written.", export.rows());
    text.one("export_conflicts_total", "Stock rows changed by others.", export.conflicts());
    text.one("export_set_aside_total", "Rows that Postgres refused.", export.set_aside());
}
