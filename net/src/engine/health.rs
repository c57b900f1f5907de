//! Liveness and readiness of the engine: `/healthz`, `/readyz`, and `/metrics` beside them.
//!
//! Any thread may answer them, from what all cores share. Next: [`super::reasons`] for what keeps the engine
//! from selling, [`super::metrics`] for the figures.

use super::metrics::metrics;
use super::reasons::{Reason, export_lag, is_ready, reasons};
use super::shared::Shared;
use super::stats::texts;
use super::tables;
use crate::http::answer::{self, Date, Media, ResponseMode, Status};
use crate::http::json_out::Object;
use crate::http::route::Route;

/// Appends the response to `/healthz`, `/readyz` or `/metrics`, on any thread. It shows what the watch over
/// the cores has found ([`super::pulse`]), not that the answering thread is well.
pub fn health(out: &mut Vec<u8>, route: &Route, shared: &Shared, mode: ResponseMode, date: &Date) {
    let status = |well: bool| if well { Status::Ok } else { Status::Unavailable };
    match route {
        Route::Readyz => {
            let reasons = reasons(shared);
            let status = status(is_ready(&reasons));
            answer::json(out, status, mode, date, |object| readiness(object, shared, &reasons));
        }
        // The public listener gives no reasons.
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

/// Names the stalled cores, if any.
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
