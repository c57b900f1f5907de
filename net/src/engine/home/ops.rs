//! Operations: health, metrics, statistics and the methods of a path, as responses of this core.

use super::state::{Caller, Home};
use crate::engine::health::health;
use crate::engine::stats;
use crate::http::answer::{self, Answer, Cache, Status};
use crate::http::route::Route;
use crate::identity::cors::PREFLIGHT;

impl Home {
    pub(super) fn ops(&mut self, route: &Route, caller: &mut Caller<'_>) {
        let mode = caller.mode;
        let (shared, date) = (self.shared.clone(), self.date);
        self.connections.answer_bytes(caller, |out| health(out, route, &shared, mode, &date));
    }

    /// Names the methods of a path, and tells a page of another origin what it may send.
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
                stats::fill(object, &shared);
                object.number("now_ms", now.0);
            });
        });
    }
}
