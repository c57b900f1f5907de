//! The detectors: tests from `make test` that `make mutants` runs against a mutation. A
//! patch names the detectors that must notice it.

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
    /// The cluster's store, in memory and on etcd.
    Cluster,
    /// Power cuts under the log's real threads.
    Rig,
    /// Constant time, by counted instructions.
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
            Self::Cluster => "cluster",
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
            Self::Persist | Self::PersistUnits | Self::Cluster | Self::Rig => "stampede-persist",
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
            Self::Cluster => Some("cluster"),
            Self::Rig => Some("rig"),
            Self::ConstantTime => Some("constant_time"),
            Self::Wire => Some("wire"),
            Self::Sim => Some("sim"),
            Self::Disk => Some("disk"),
            Self::Foreign => Some("foreign"),
            Self::NetUnits | Self::PersistUnits | Self::CoreLoom => None,
        }
    }
    /// Where its tests are written, from the root of the workspace.
    #[cfg(test)]
    pub(crate) const fn sources(self) -> &'static str {
        match self {
            Self::Core => "core/tests/it",
            Self::CoreLoom => "core/src",
            Self::Persist => "persist/tests/it",
            Self::PersistUnits => "persist/src",
            Self::Cluster => "persist/tests/cluster",
            Self::Rig => "persist/tests/rig",
            Self::NetUnits => "net/src",
            Self::Net => "net/tests/it",
            Self::ConstantTime => "net/tests/constant_time.rs",
            Self::Wire => "net/tests/wire",
            Self::Sim => "net/tests/sim",
            Self::Disk => "net/tests/disk",
            Self::Foreign => "net/tests/foreign",
        }
    }
    pub(crate) const fn is_loom(self) -> bool {
        matches!(self, Self::CoreLoom)
    }
}

/// A way to run a test program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detector {
    /// The name that patches use.
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// Filters for the names of its tests; none = the whole program.
    pub(crate) tests: &'static [&'static str],
    /// Further arguments.
    pub(crate) args: &'static [&'static str],
    /// Whether it starts no other process and depends on no clock but its own. Then it may run in
    /// parallel with others, and may be killed as soon as one test has failed.
    pub(crate) is_pure: bool,
}

const fn detector(name: &'static str, program: Program, tests: &'static [&'static str]) -> Detector {
    Detector { name, program, tests, args: &[], is_pure: false }
}

/// A detector that is pure.
const fn pure(name: &'static str, program: Program, tests: &'static [&'static str]) -> Detector {
    Detector { is_pure: true, ..detector(name, program, tests) }
}

static MODEL: Detector = Detector {
    args: &["--skip", "tidy", "--skip", "shown", "--skip", "readme"],
    ..pure("core", Program::Core, &[])
};
static LOG: Detector = detector("log", Program::Persist, &["log_", "disk_"]);
static PARTS: Detector = pure("log units", Program::PersistUnits, &["log::lag", "disk::", "cluster::"]);
static DAMAGE: Detector = pure("damage", Program::Persist, &["damage_"]);
/// Without what starts an etcd of its own for each test.
static CLUSTER: Detector = Detector {
    args: &["--skip", "secured::", "--skip", "faults::"],
    ..detector("cluster", Program::Cluster, &[])
};
static RIG: Detector = detector("rig", Program::Rig, &[]);
static EXPORT: Detector = detector(
    "export",
    Program::Persist,
    &["export_sim", "export_ahead", "export_twins", "export_refill", "export_anew", "export_payments"],
);
static IDENTITY: Detector = detector("identity", Program::Persist, &["export_identity"]);
static POSTGRES: Detector =
    detector("postgres", Program::Persist, &["export_outside", "export_pooler", "export_refuse"]);
static UNITS: Detector = pure(
    "units",
    Program::NetUnits,
    &["gate::", "clock::", "identity::", "render::", "response::", "pages::", "replay::", "recover::"],
);
static WATCH: Detector = detector(
    "watch",
    Program::NetUnits,
    &["watch::tests", "stand_in::", "pulse::", "no_wake_is_left", "a_core_that_closes", "listen::"],
);
static COMPARED: Detector = pure("compared", Program::NetUnits, &["reconcile::database"]);
static ACCEPT: Detector = detector("accept", Program::Net, &["e2e_accept"]);
static HTTP: Detector = pure("http", Program::Net, &["http_", "engine_", "owner_"]);
static HOLD: Detector = detector("hold", Program::Net, &["hold_any", "hold_an_idle", "hold_a_core_for"]);
static ACQUIRE: Detector = detector("acquire", Program::Net, &["acquire_at"]);
static SANDBOX: Detector = detector("sandbox", Program::Net, &["e2e_sandbox_two"]);
static WAITING: Detector = detector("waiting", Program::Net, &["e2e_waiting"]);
static STARTING: Detector = detector("starting", Program::Net, &["e2e_starting"]);
static AWAY: Detector = detector("away", Program::Net, &["e2e_a_known_database"]);
static DRAIN: Detector = detector("drain", Program::Net, &["e2e_drain_a_", "e2e_drain_every"]);
static MONEY: Detector = detector("money", Program::Net, &["e2e_money"]);
static PROXIED: Detector = detector("proxied", Program::Net, &["e2e_proxy"]);
static OUTPUT: Detector = detector("output", Program::Net, &["e2e_output"]);
static SIGNALS: Detector = detector("signals", Program::Net, &["e2e_signals"]);
static TOLD: Detector = detector("told", Program::Net, &["e2e_copies"]);
static URLS: Detector = pure("urls", Program::Net, &["a_postgres_url"]);
static WIRE: Detector = pure("wire", Program::Wire, &[]);
static SIM: Detector = Detector { args: &["--histories", "40000"], ..pure("sim", Program::Sim, &[]) };
static DISK: Detector = detector("disk", Program::Disk, &[]);
static FOREIGN: Detector = detector("foreign", Program::Foreign, &[]);
static STEPS: Detector = detector("steps", Program::ConstantTime, &[]);
static LOOM: Detector = pure("loom", Program::CoreLoom, &["loom"]);

/// The detector with this name.
pub(crate) fn named(name: &str) -> Option<&'static Detector> {
    DETECTORS.iter().find(|detector| detector.name == name).copied()
}

/// All of them.
pub(crate) static DETECTORS: &[&Detector] = &[
    &MODEL, &LOG, &PARTS, &DAMAGE, &CLUSTER, &RIG, &EXPORT, &IDENTITY, &POSTGRES, &UNITS, &HTTP, &HOLD,
    &WAITING, &STARTING, &AWAY, &DRAIN, &PROXIED, &MONEY, &OUTPUT, &SIGNALS, &TOLD, &URLS, &WATCH, &COMPARED,
    &ACCEPT, &ACQUIRE, &SANDBOX, &WIRE, &SIM, &DISK, &FOREIGN, &STEPS, &LOOM,
];
