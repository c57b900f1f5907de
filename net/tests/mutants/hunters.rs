//! Who hunts what: the detectors, all of them part of `make test`, and the bugs that each
//! is meant to notice.

use stampede_core::planted::Bug;

/// A test program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// The core's integration tests.
    Core,
    /// The log's and the exporter's.
    Persist,
    /// The front end's unit tests.
    NetUnits,
    /// The front end's integration tests, with the real server among them.
    Net,
    /// Instructions counted.
    ConstantTime,
    /// The core's loom models.
    CoreLoom,
}

impl Program {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Persist => "persist",
            Self::NetUnits => "net, units",
            Self::Net => "net",
            Self::ConstantTime => "constant_time",
            Self::CoreLoom => "core under loom",
        }
    }
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Core | Self::CoreLoom => "stampede-core",
            Self::Persist => "stampede-persist",
            Self::NetUnits | Self::Net | Self::ConstantTime => "stampede-net",
        }
    }
    /// The name of its test target; `None` = the library's own tests.
    pub(crate) const fn target(self) -> Option<&'static str> {
        match self {
            Self::Core | Self::Persist | Self::Net => Some("it"),
            Self::ConstantTime => Some("constant_time"),
            Self::NetUnits | Self::CoreLoom => None,
        }
    }
    pub(crate) const fn is_loom(self) -> bool {
        matches!(self, Self::CoreLoom)
    }
}

/// A way to run a test program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detector {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) args: &'static [&'static str],
    pub(crate) env: &'static [(&'static str, &'static str)],
}

const fn detector(name: &'static str, program: Program, args: &'static [&'static str]) -> Detector {
    Detector { name, program, args, env: &[] }
}

static MODEL: Detector =
    detector("core", Program::Core, &["--skip", "tidy", "--skip", "shown", "--skip", "readme"]);
static LOG: Detector = detector("log", Program::Persist, &["log_", "disk_"]);
static EXPORT: Detector = detector("export", Program::Persist, &["export_"]);
static UNITS: Detector = detector("units", Program::NetUnits, &[]);
static HTTP: Detector = detector("http", Program::Net, &["http_", "engine_", "owner_"]);
static SERVER: Detector = detector("server", Program::Net, &["e2e_"]);
static STEPS: Detector = detector("steps", Program::ConstantTime, &[]);
static LOOM: Detector = detector("loom", Program::CoreLoom, &["loom"]);

/// All of them.
pub(crate) static DETECTORS: [&Detector; 8] = [&MODEL, &LOG, &EXPORT, &UNITS, &HTTP, &SERVER, &STEPS, &LOOM];

/// Those that are meant to notice a bug. The list is never empty: a bug without a hunter does not
/// compile.
pub(crate) fn hunters(bug: Bug) -> Vec<&'static Detector> {
    use Bug as B;
    match bug {
        B::CheckThenAct => vec![&LOOM],
        B::DedupeAfterTaking
        | B::KeysInMemory
        | B::PayloadIgnored
        | B::CapForgotten
        | B::CapKept
        | B::EarlySoldOut
        | B::FilterTooLate
        | B::ClosesLate
        | B::LatePayment
        | B::ExpiresTwice
        | B::ReplayDecides
        | B::BlocklistForgotten
        | B::LoserCounts => vec![&MODEL],
        B::AckBeforeSync
        | B::RetriedSync
        | B::ShortWriteIgnored
        | B::TrimBeforeExport
        | B::TrimBeforeSnapshot
        | B::DamageCut
        | B::ChainUnchecked
        | B::SnapshotUnsynced
        | B::EntryUnsynced
        | B::OneControlSlot => vec![&LOG],
        B::ClockTurnsBack => vec![&UNITS],
        B::VersionUnchecked
        | B::CursorOutside
        | B::CursorBefore
        | B::CommitAssumed
        | B::ExportedEarly
        | B::OldBackupTaken
        | B::FenceDropped
        | B::LockedRowForgotten
        | B::BadRowBlocks => vec![&EXPORT],
        B::ShownEarly
        | B::ReadEarly
        | B::ChunkedTaken
        | B::LengthTwice
        | B::BareLineFeed
        | B::GoesOnAfterDoubt => vec![&HTTP],
        B::MacByEquals => vec![&STEPS],
        B::TicketForAnyone => vec![&UNITS],
    }
}
