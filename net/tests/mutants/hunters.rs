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
    /// Their unit tests.
    PersistUnits,
    /// The front end's unit tests.
    NetUnits,
    /// The front end's integration tests, with the real server among them.
    Net,
    /// Power cuts under the log's real threads.
    Rig,
    /// Instructions counted.
    ConstantTime,
    /// The table of raw requests and the two readers.
    Wire,
    /// The whole engine in simulation.
    Sim,
    /// Faults below the file system.
    Disk,
    /// Foreign rows on a real Postgres.
    Foreign,
    /// The core's loom models.
    CoreLoom,
}

impl Program {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Persist => "persist",
            Self::PersistUnits => "persist, units",
            Self::Rig => "rig",
            Self::NetUnits => "net, units",
            Self::Net => "net",
            Self::ConstantTime => "constant_time",
            Self::Wire => "wire",
            Self::Sim => "sim",
            Self::Disk => "disk",
            Self::Foreign => "foreign",
            Self::CoreLoom => "core under loom",
        }
    }
    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Core | Self::CoreLoom => "stampede-core",
            Self::Persist | Self::PersistUnits | Self::Rig => "stampede-persist",
            Self::NetUnits
            | Self::Net
            | Self::ConstantTime
            | Self::Wire
            | Self::Sim
            | Self::Disk
            | Self::Foreign => "stampede-net",
        }
    }
    /// The name of its test target; `None` = the library's own tests.
    pub(crate) const fn target(self) -> Option<&'static str> {
        match self {
            Self::Core | Self::Persist | Self::Net => Some("it"),
            Self::Rig => Some("rig"),
            Self::ConstantTime => Some("constant_time"),
            Self::Wire => Some("wire"),
            Self::Sim => Some("sim"),
            Self::Disk => Some("disk"),
            Self::Foreign => Some("foreign"),
            Self::NetUnits | Self::PersistUnits | Self::CoreLoom => None,
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
static PARTS: Detector = detector("log units", Program::PersistUnits, &["log::lag", "disk::"]);
static DAMAGE: Detector = detector("damage", Program::Persist, &["damage_"]);
static RIG: Detector = detector("rig", Program::Rig, &[]);
static EXPORT: Detector = detector(
    "export",
    Program::Persist,
    &["export_sim", "export_ahead", "export_twins", "export_refill", "export_anew", "export_payments"],
);
static IDENTITY: Detector = detector("identity", Program::Persist, &["export_identity"]);
static POSTGRES: Detector =
    detector("postgres", Program::Persist, &["export_outside", "export_pooler", "export_refuse"]);
static UNITS: Detector = detector(
    "units",
    Program::NetUnits,
    &["gate::", "clock::", "identity::", "render::", "replay::", "recover::"],
);
static WATCH: Detector = detector(
    "watch",
    Program::NetUnits,
    &["watch::tests", "stand_in::", "pulse::", "no_wake_is_left", "a_core_that_closes"],
);
static COMPARED: Detector = detector("compared", Program::NetUnits, &["reconcile::database"]);
static ACCEPT: Detector = detector("accept", Program::Net, &["e2e_accept"]);
static HTTP: Detector = detector("http", Program::Net, &["http_", "engine_", "owner_"]);
static HOLD: Detector = detector("hold", Program::Net, &["hold_any", "hold_an_idle", "hold_a_core_for"]);
static ACQUIRE: Detector = detector("acquire", Program::Net, &["acquire_at"]);
static SANDBOX: Detector = detector("sandbox", Program::Net, &["e2e_sandbox_two"]);
static WAITING: Detector = detector("waiting", Program::Net, &["e2e_waiting"]);
static STARTING: Detector = detector("starting", Program::Net, &["e2e_starting"]);
static AWAY: Detector = detector("away", Program::Net, &["e2e_a_known_database"]);
static PROXIED: Detector = detector("proxied", Program::Net, &["e2e_proxy"]);
static DRAIN: Detector = detector("drain", Program::Net, &["e2e_drain_a_"]);
static OUTPUT: Detector = detector("output", Program::Net, &["e2e_output"]);
static SIGNALS: Detector = detector("signals", Program::Net, &["e2e_signals"]);
static TOLD: Detector = detector("told", Program::Net, &["e2e_copies"]);
static URLS: Detector = detector("urls", Program::Net, &["a_postgres_url"]);
static WIRE: Detector = detector("wire", Program::Wire, &[]);
static SIM: Detector = detector("sim", Program::Sim, &["--histories", "40000"]);
static DISK: Detector = detector("disk", Program::Disk, &[]);
static FOREIGN: Detector = detector("foreign", Program::Foreign, &[]);
static STEPS: Detector = detector("steps", Program::ConstantTime, &[]);
static LOOM: Detector = detector("loom", Program::CoreLoom, &["loom"]);

/// All of them.
pub(crate) static DETECTORS: &[&Detector] = &[
    &MODEL, &LOG, &PARTS, &DAMAGE, &RIG, &EXPORT, &IDENTITY, &POSTGRES, &UNITS, &HTTP, &HOLD, &WAITING,
    &STARTING, &AWAY, &DRAIN, &PROXIED, &OUTPUT, &SIGNALS, &TOLD, &URLS, &WATCH, &COMPARED, &ACCEPT,
    &ACQUIRE, &SANDBOX, &WIRE, &SIM, &DISK, &FOREIGN, &STEPS, &LOOM,
];

/// Those that are meant to notice a bug; never none, since a bug without hunters does not compile.
pub(crate) fn hunters(bug: Bug) -> Vec<&'static Detector> {
    use Bug as B;
    match bug {
        B::CheckThenAct | B::LooksBeforeLowering => vec![&LOOM],
        B::StartsSilent => vec![&STARTING],
        B::OneLessWaits => vec![&WAITING],
        B::EndsUntold | B::CutsNewcomers | B::GoesWithoutGoodbye => vec![&WATCH],
        B::GivesWay | B::StaysSilent | B::DumpsCore => vec![&HOLD],
        B::TellsFirst | B::BlamesForStops | B::ServesInTurn | B::LeftToTheTick => vec![&WATCH],
        B::AcceptsUnseen => vec![&ACCEPT],
        B::PaymentForgiven => vec![&COMPARED],
        B::AcquiresLate => vec![&ACQUIRE],
        B::HugePagesLocked => vec![&SANDBOX],
        B::WaitsForReaders => vec![&OUTPUT],
        B::DiesOfHangup => vec![&SIGNALS],
        B::StopsUntold => vec![&TOLD],
        B::UrlUnchecked => vec![&URLS],
        B::FilterTooLate
        | B::LoserCounts
        | B::WalksNumbers
        | B::ReservesAtOnce
        | B::OrdersUnbounded
        | B::RefundOfAnyPayment
        | B::RefundedLooksExpired
        | B::LatePaymentForgotten
        | B::ReturnForgotten
        | B::EndForgotten
        | B::HoldWithoutEnd
        | B::CallKeysIgnored
        | B::FilterForgets => vec![&MODEL],
        B::DedupeAfterTaking
        | B::KeysInMemory
        | B::PayloadIgnored
        | B::CapForgotten
        | B::CapKept
        | B::EarlySoldOut
        | B::ClosesLate
        | B::LatePayment
        | B::ExpiresTwice
        | B::ReplayDecides
        | B::TakenAgainOverCap
        | B::PriceOfToday
        | B::TextsForgotten
        | B::BlocklistForgotten => vec![&MODEL, &SIM],
        B::AckBeforeSync
        | B::RetriedSync
        | B::TrimBeforeExport
        | B::ExportsByFlag
        | B::TrimBeforeSnapshot => {
            vec![&LOG, &SIM]
        }
        B::ShortWriteIgnored => vec![&LOG, &DISK, &SIM],
        B::DamageCut | B::ChainUnchecked => vec![&LOG, &DAMAGE, &SIM],
        B::SnapshotUnsynced | B::EntryUnsynced | B::NamesTrusted | B::OneControlSlot => vec![&LOG, &SIM],
        B::TrimmedForgotten | B::TrimsAtOnce | B::ParentUnsynced => vec![&LOG],
        B::OverlayTaken => vec![&PARTS],
        B::GroupGoesOn => vec![&DAMAGE, &RIG],
        B::ControlLags => vec![&PARTS, &RIG],
        B::ClockTurnsBack | B::ClockNotFollowed => vec![&UNITS],
        B::VersionUnchecked
        | B::CursorOutside
        | B::CursorBefore
        | B::CommitAssumed
        | B::AheadDropped
        | B::BatchGrows
        | B::FenceDropped
        | B::LockedRowForgotten
        | B::BadRowBlocks
        | B::VoidAlarmDropped => vec![&EXPORT, &SIM],
        B::ExportedEarly => vec![&EXPORT, &POSTGRES, &SIM],
        B::SameNonce => vec![&IDENTITY, &SIM],
        B::HashNotCompared | B::StandbyStopsSale | B::GivenSinceIgnored => vec![&IDENTITY],
        B::SellsBeforePreheat => vec![&WAITING, &SIM],
        B::PreheatStopsSale => vec![&AWAY],
        B::ProxyAnyPeer => vec![&HTTP, &PROXIED],
        B::ProxyWordDropped => vec![&PROXIED],
        B::EndsAlone => vec![&DRAIN],
        B::ForeignRowReplaced | B::UnfitTaken | B::SwallowedUnseen | B::SettingsLeftBehind => {
            vec![&POSTGRES]
        }
        B::StallUntold
        | B::PaymentsLeftOut
        | B::PausesWithoutEnd
        | B::ImportedLeftOut
        | B::OwnRowsForeign
        | B::FenceBySweep => {
            vec![&EXPORT]
        }
        B::OldBackupTaken => vec![&EXPORT, &POSTGRES],
        B::RefillPassesOver | B::RefillDropsVoid => vec![&EXPORT],
        B::FirstHomeFirst => vec![&HTTP, &SIM],
        B::ShortBatchTaken
        | B::OwnFirst
        | B::ChunkUncut
        | B::OneVerdict
        | B::JunkUncharged
        | B::JunkForFree
        | B::ContinueOvertakes
        | B::AudienceUnread
        | B::LifeUnbounded
        | B::AddressSilent => vec![&HTTP],
        B::ShownEarly => vec![&HTTP, &SIM],
        B::ReadEarly | B::SnapshotOneArena => vec![&UNITS],
        B::ChunkedTaken | B::LengthTwice | B::BareLineFeed | B::LaxChunks | B::GoesOnAfterDoubt => {
            vec![&HTTP, &WIRE]
        }
        B::ForeignPages | B::BlockUndone => vec![&HTTP],
        B::TagsByVersion | B::PlaceKept => vec![&MODEL],
        B::AppendedUnchecked | B::ImportCheckWeaker => vec![&MODEL, &FOREIGN],
        B::ImportForgotten | B::ImportEndsEarly => vec![&FOREIGN],
        B::VerifyByOwnRule => vec![&LOG],
        B::MacByEquals => vec![&STEPS],
        B::TicketForAnyone => vec![&UNITS, &WIRE],
    }
}
