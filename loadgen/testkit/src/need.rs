//! What a test needs and not every machine has: such a test is left out aloud, and fails where it must not be.
//!
//! Where `CI` is set, only what `STAMPEDE_SKIP_OK` names may be missing (names with commas between them).
//! Whoever runs the tests says there what they cannot have: `.ci/run` what it has found out of the machine,
//! `.ci/as-user` what an ordinary user is not allowed, `.ci/in-container` what a container is not. The tests
//! that are shell (`make test-tsan`) keep to the same rule by `.ci/skip`.

use std::fmt::{self, Display};
use std::io::Write as _;

/// What may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A control group of one's own with a processor quota.
    Cgroup,
    /// Many open files.
    Files,
    /// Images of file systems, mounted through loop devices; file systems in user space.
    FileSystems,
    /// A mount namespace of one's own.
    Mounts,
    /// Taking hold of the threads of another process.
    Ptrace,
    /// io_uring.
    Ring,
    /// Being root, so that a process can be another user's.
    Root,
}

impl Need {
    /// What it is called in `STAMPEDE_SKIP_OK`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Files => "files",
            Self::FileSystems => "file-systems",
            Self::Mounts => "mounts",
            Self::Ptrace => "ptrace",
            Self::Ring => "ring",
            Self::Root => "root",
        }
    }
}

/// Something that is missing here, and how that showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    need: Need,
    why: String,
}

impl Missing {
    /// That this is missing, which showed so.
    pub fn new(need: Need, why: impl Display) -> Self {
        Self { need, why: why.to_string() }
    }

    /// Whether a test may be left out for it.
    #[must_use]
    pub fn may_be_missing(&self) -> bool {
        let known = std::env::var("STAMPEDE_SKIP_OK").unwrap_or_default();
        may_be_missing(self.need, std::env::var_os("CI").is_some(), &known)
    }
}

impl Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.need.name(), self.why)
    }
}

/// Leaves out what the calling test would do now, and says so, also where the harness keeps a test's words
/// to itself.
///
/// # Panics
/// Where that must not be missing.
pub fn skip(missing: &Missing) {
    assert!(missing.may_be_missing(), "it is needed, and STAMPEDE_SKIP_OK does not name it: {missing}");
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {missing}\n", thread.name().unwrap_or_default());
    // Nobody may be there to hear it.
    let _said = std::io::stderr().write_all(line.as_bytes());
}

fn may_be_missing(need: Need, is_ci: bool, known: &str) -> bool {
    !is_ci || known.split(',').any(|known| known == need.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_may_be_missing_in_ci() {
        for (need, is_ci, known, may) in [
            (Need::Ring, false, "", true),
            (Need::Ring, true, "", false),
            (Need::Ring, true, "ring", true),
            (Need::Ring, true, ",mounts,ring", true),
            (Need::Ring, true, "mounts", false),
            (Need::Ring, true, "rings", false),
            (Need::FileSystems, true, "files", false),
        ] {
            assert_eq!(may_be_missing(need, is_ci, known), may, "{need:?} {is_ci} {known:?}");
        }
    }
}
