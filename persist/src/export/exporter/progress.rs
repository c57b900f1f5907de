//! Whether the export gets on: since when facts have waited of which none was exported.
//!
//! A database that is away says so; one that answers and takes nothing, again and again, does not.
//! Both are an export that stands still, and after [`STALL_MAX`] somebody is told, once. Pure values:
//! time is an argument. The sale goes on meanwhile (I18).

use std::time::{Duration, Instant};

use stampede_core::types::Lsn;

use super::super::limits::STALL_MAX;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Progress {
    exported: Lsn,
    /// Since when facts wait and none was exported; `None` = none waits.
    since: Option<Instant>,
    told: bool,
}

/// What a look came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// Nothing that is not known already.
    Nothing,
    /// It has stood still for so long, which nobody was told yet.
    Stalled(Duration),
    /// It goes on, which it did not for so long that somebody was told.
    GoesOn,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self { exported: Lsn::ZERO, since: None, told: false }
    }

    /// Since when it stands still, if it does.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How far it is now.
    pub(super) fn look(&mut self, exported: Lsn, durable: Lsn, now: Instant) -> Finding {
        // A database that went back is progress, too: what it lacks is exported again.
        if exported >= durable || exported != self.exported {
            self.exported = exported;
            self.since = (exported < durable).then_some(now);
            return if std::mem::take(&mut self.told) { Finding::GoesOn } else { Finding::Nothing };
        }
        let stalled = now.saturating_duration_since(*self.since.get_or_insert(now));
        if stalled < STALL_MAX || self.told {
            return Finding::Nothing;
        }
        self.told = true;
        Finding::Stalled(stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_once_and_so_is_its_end() {
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
