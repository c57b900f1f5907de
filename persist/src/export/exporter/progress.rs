//! Detects a stalled export: facts are waiting, and none is exported for a while.
//!
//! A database that is down causes errors; one that answers but refuses every batch may not. Either way
//! the export is stalled, and after [`STALL_MAX`] an alarm is raised, once. Pure values: time is an
//! argument. The sale goes on meanwhile (I18).

use std::time::{Duration, Instant};

use stampede_core::types::Lsn;

use super::super::limits::STALL_MAX;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Progress {
    exported: Lsn,
    /// Since when facts wait and none was exported; `None` = no fact waits.
    since: Option<Instant>,
    reported: bool,
}

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// Nothing new.
    Nothing,
    /// It is stalled for this long; not reported so far.
    Stalled(Duration),
    /// It goes on again after a reported stall.
    GoesOn,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self { exported: Lsn::ZERO, since: None, reported: false }
    }

    /// Since when it is stalled, if it is.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Checks the progress.
    pub(super) fn look(&mut self, exported: Lsn, durable: Lsn, now: Instant) -> Finding {
        // A smaller LSN is progress, too: the database went back, and what it lacks is exported again.
        if exported >= durable || exported != self.exported {
            self.exported = exported;
            self.since = (exported < durable).then_some(now);
            return if std::mem::take(&mut self.reported) { Finding::GoesOn } else { Finding::Nothing };
        }
        let stalled = now.saturating_duration_since(*self.since.get_or_insert(now));
        if stalled < STALL_MAX || self.reported {
            return Finding::Nothing;
        }
        self.reported = true;
        Finding::Stalled(stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_and_its_end_are_reported_once() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut progress = Progress::new();
        assert_eq!(progress.look(Lsn(5), Lsn(5), at(0)), Finding::Nothing);
        assert_eq!(progress.since(), None, "nothing waits");
        assert_eq!(progress.look(Lsn(5), Lsn(9), at(100)), Finding::Nothing);
        assert_eq!(progress.since(), Some(at(100)), "the wait begins with what waits");
        assert_eq!(progress.look(Lsn(5), Lsn(20), at(129)), Finding::Nothing);
        let stalled = Finding::Stalled(STALL_MAX);
        assert_eq!(progress.look(Lsn(5), Lsn(21), at(100) + STALL_MAX), stalled);
        assert_eq!(progress.look(Lsn(5), Lsn(22), at(900)), Finding::Nothing, "once");
        assert_eq!(progress.look(Lsn(6), Lsn(22), at(901)), Finding::GoesOn);
        assert_eq!(progress.since(), Some(at(901)), "and begins anew with every batch");
        assert_eq!(progress.look(Lsn(22), Lsn(22), at(902)), Finding::Nothing);
        assert_eq!(progress.since(), None);
    }
}
