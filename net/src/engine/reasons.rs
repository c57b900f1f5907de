//! Why the engine does not sell, or should get no new buyers: the one list behind readiness, log lines,
//! alarms and metrics.
//!
//! When a reason begins or ends to hold, there is one log line, one alarm for the merchant, and a change of
//! `stampede_not_ready{reason="…"}`. [`Announcer`] compares what holds with what it announced last; the watch
//! over the cores calls it ten times a second. To add a reason, add it to [`Reason`]: the compiler asks for
//! the rest.

use super::shared::{Phase, Shared};
use crate::named::named;

/// Durable facts that may wait for export before this counts as a reason.
const EXPORT_LAG_MAX: u64 = 1_000_000;

named! {
    /// A reason not to be ready.
    pub enum Reason {
        /// The server is starting: [`crate::server`] reports it, since there is no engine yet.
        Starting = "starting",
        /// It is shutting down.
        Draining = "draining",
        /// A core does not run.
        CoreStalled = "core_stalled",
        /// Connections cannot be accepted.
        NotAccepting = "not_accepting",
        /// The database was never reached, and may know items and orders.
        AwaitingDatabase = "awaiting_database",
        /// The log has no room for further orders.
        LogFull = "log_full",
        /// The log cannot be written.
        LogFailed = "log_failed",
        /// Selling was stopped until the next start.
        SellingStopped = "selling_stopped",
        /// The sale clock is ahead of the machine's clock. It is reported, but does not make the server unready: no
        /// other server has its stock, and only the time is wrong.
        ClockAhead = "clock_ahead",
        /// Many facts wait for export.
        ExportLag = "export_lag",
    }
}

impl Reason {
    /// What is wrong and what to do, if this reason holds now.
    pub fn holds(self, shared: &Shared) -> Option<String> {
        match self {
            Self::Starting => None,
            Self::NotAccepting => shared.state.accept_errors.failure(),
            Self::Draining => (shared.phase() != Phase::Serving)
                .then(|| "the server is shutting down; open requests are answered".to_owned()),
            Self::CoreStalled => stalled(shared),
            Self::AwaitingDatabase => shared.awaited().map(|why| {
                format!(
                    "Postgres: {why}. This server has never reached it, and it may hold items and orders, so nothing is sold \
                     before. If it is known to be empty, start with --new-shop"
                )
            }),
            Self::LogFull => shared.log.is_full().then(|| full(shared)),
            Self::LogFailed => {
                shared.log.failure().map(|why| format!("{why}. Repair the disk, then start again"))
            }
            Self::SellingStopped => shared.selling_stopped(),
            Self::ClockAhead => shared.clock.is_ahead().then(|| shared.clock_words()),
            Self::ExportLag => {
                let lag = export_lag(shared);
                (shared.export.is_some() && lag > EXPORT_LAG_MAX)
                    .then(|| format!("{lag} durable facts are not in Postgres yet; check the database"))
            }
        }
    }
}

/// Durable facts that the database does not hold yet.
pub fn export_lag(shared: &Shared) -> u64 {
    let exported = shared.export.as_ref().map_or(u64::MAX, |export| export.exported_lsn().0);
    shared.log.durable_lsn().0.saturating_sub(exported)
}

/// The reasons that hold now.
pub fn reasons(shared: &Shared) -> Vec<Reason> {
    Reason::ALL.into_iter().filter(|reason| reason.holds(shared).is_some()).collect()
}

/// Whether these reasons leave the engine ready to sell.
pub fn is_ready(reasons: &[Reason]) -> bool {
    reasons.iter().all(|&reason| reason == Reason::ClockAhead)
}

fn stalled(shared: &Shared) -> Option<String> {
    let cores: Vec<String> = shared.state.pulse.stalled().map(|core| core.to_string()).collect();
    (!cores.is_empty()).then(|| format!("core {} does not run; its buyers wait", cores.join(", ")))
}

fn full(shared: &Shared) -> String {
    if shared.log.disk_low() {
        "the file system of the data directory is almost full; once there is space, selling resumes by itself"
            .to_owned()
    } else {
        "the log has reached log.bytes_max, or its next segment is not ready yet; selling resumes by itself as soon \
         as a snapshot and the export allow old segments to be deleted"
            .to_owned()
    }
}

/// A reason that has begun or ended since the last look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It holds now; the text says what is wrong.
    Began(Reason, String),
    /// It does not hold any more.
    Ended(Reason),
}

impl Change {
    /// One sentence for the log and for the merchant.
    pub fn text(&self) -> String {
        match self {
            Self::Began(reason, why) => format!("not ready, {}: {why}", reason.name()),
            Self::Ended(reason) => format!("{} is over", reason.name()),
        }
    }
}

/// What was announced last.
#[derive(Default)]
pub struct Announcer {
    told: [bool; Reason::ALL.len()],
    times_full: u64,
}

impl Announcer {
    /// What has changed since the last look. A log that was full in between counts as two changes.
    pub fn look(&mut self, times_full: u64, holds: impl Fn(Reason) -> Option<String>) -> Vec<Change> {
        let mut changes = Vec::new();
        let was_full = times_full > std::mem::replace(&mut self.times_full, times_full);
        for (told, reason) in self.told.iter_mut().zip(Reason::ALL) {
            let held = holds(reason);
            let holds_now = held.is_some();
            match (*told, held) {
                (false, Some(why)) => changes.push(Change::Began(reason, why)),
                (false, None) if reason == Reason::LogFull && was_full => {
                    changes.push(Change::Began(reason, "there was no room for a moment".to_owned()));
                    changes.push(Change::Ended(reason));
                }
                (true, None) => changes.push(Change::Ended(reason)),
                (true, Some(_)) | (false, None) => {}
            }
            *told = holds_now;
        }
        changes
    }

    /// Looks, and reports to the log and the merchant what has changed. The watch itself reports stalled cores
    /// and the clock, and the shutdown has its own line in the log.
    pub fn announce(&mut self, shared: &Shared) {
        let told_elsewhere = [Reason::CoreStalled, Reason::ClockAhead];
        let holds = |reason: Reason| reason.holds(shared).filter(|_| !told_elsewhere.contains(&reason));
        for change in self.look(shared.log.times_full(), holds) {
            let text = change.text();
            match change {
                Change::Began(Reason::Draining, _) => {}
                Change::Began(..) => tracing::error!("alarm: {text}"),
                Change::Ended(_) => tracing::warn!("alarm: {text}"),
            }
            shared.alarm(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_announced_once_when_it_begins_and_ends() {
        for reason in Reason::ALL {
            let mut announcer = Announcer::default();
            let begun = |asked: Reason| (asked == reason).then(|| "because".to_owned());
            let texts = |changes: Vec<Change>| changes.iter().map(Change::text).collect::<Vec<_>>();
            assert_eq!(announcer.look(0, |_| None), []);
            let name = reason.name();
            assert_eq!(texts(announcer.look(0, begun)), [format!("not ready, {name}: because")]);
            assert_eq!(announcer.look(0, begun), []);
            assert_eq!(texts(announcer.look(0, |_| None)), [format!("{name} is over")]);
            assert_eq!(announcer.look(0, |_| None), []);
        }
    }

    #[test]
    fn a_log_that_was_full_between_two_looks_is_announced() {
        let mut announcer = Announcer::default();
        let changes = announcer.look(1, |_| None);
        assert!(matches!(&changes[..], [Change::Began(Reason::LogFull, _), Change::Ended(Reason::LogFull)]));
        assert_eq!(announcer.look(1, |_| None), []);
        // A stop that was seen is not announced again.
        let full = |reason| (reason == Reason::LogFull).then(String::new);
        assert_eq!(announcer.look(2, full).len(), 1);
        assert_eq!(announcer.look(2, |_| None).len(), 1);
    }
}
