//! What a sandbox takes from a program under test: system calls, directories, root's rights, lockable memory.
//!
//! Everything happens between fork and exec, by system calls that allocate nothing. Directories are hidden
//! in a mount namespace of the program.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;
use std::process::Command;

use stampede_testkit::{Missing, Need};

use super::seccomp::Filter;

/// The user that the program runs as.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) number: u32,
    /// Bytes of memory that it may lock, if we can set that.
    pub(crate) memlock_bytes: u64,
    /// Processes and threads that it may have, if we can set that.
    pub(crate) threads_max: u64,
}

/// What the program must do without; nothing by default.
#[derive(Clone, Default)]
pub(crate) struct Sandbox {
    pub(crate) filter: Option<Filter>,
    /// Directories that appear empty.
    pub(crate) hidden: Vec<&'static CStr>,
    /// Files that are replaced by others.
    pub(crate) covered: Vec<(CString, &'static CStr)>,
    /// An ordinary user, instead of ours.
    pub(crate) user: Option<User>,
}

impl Sandbox {
    /// Enters the sandbox for good, except for the filter, which comes last: see [`Self::install_filter`].
    pub(crate) fn enter(&self) -> io::Result<()> {
        if !self.hidden.is_empty() || !self.covered.is_empty() {
            own_mounts()?;
        }
        for dir in &self.hidden {
            mount(Some(c"tmpfs"), dir, Some(c"tmpfs"), libc::MS_RDONLY)?;
        }
        for (from, over) in &self.covered {
            mount(Some(from), over, None, libc::MS_BIND)?;
        }
        self.user.map_or(Ok(()), become_user)
    }

    /// Installs the filter for this process.
    pub(crate) fn install_filter(&self) -> io::Result<()> {
        self.filter.as_ref().map_or(Ok(()), Filter::install)
    }

    /// Makes a command run in the sandbox.
    pub(crate) fn put_over(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        let sandbox = self.clone();
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || sandbox.enter().and_then(|()| sandbox.install_filter())) };
    }

    /// Whether this machine allows it.
    pub(crate) fn can_be_made(&self) -> Result<(), Missing> {
        let mut command = Command::new("true");
        self.put_over(&mut command);
        command.status().map(drop).map_err(|error| Missing::new(Need::Mounts, error))
    }
}

/// The calls by which a thread gets its own mount namespace; if it is not root, in its own user namespace.
fn own_mounts() -> io::Result<()> {
    // SAFETY: changes the namespaces of this process, which has one thread.
    let unshare = |what: i32| unsafe { libc::unshare(what) };
    if unshare(libc::CLONE_NEWNS) != 0 && unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) != 0 {
        return Err(io::Error::last_os_error());
    }
    // Mounts made here are not visible elsewhere.
    mount(None, c"/", None, libc::MS_REC | libc::MS_SLAVE)
}

fn mount(from: Option<&CStr>, over: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all texts end with a zero and are alive during the call.
    let done = unsafe { libc::mount(pointer(from), over.as_ptr(), pointer(kind), flags, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives up all of root's rights. The C library does it on all threads.
pub(crate) fn become_user(user: User) -> io::Result<()> {
    let limits = [(libc::RLIMIT_MEMLOCK, user.memlock_bytes), (libc::RLIMIT_NPROC, user.threads_max)];
    for (resource, most) in limits {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one structure that is alive.
        if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Not every root user may raise it.
        let most = most.min(limit.rlim_max);
        limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: reads one structure that is alive.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let number = user.number;
    // SAFETY: changes who this process is, and reads no memory.
    let groups = unsafe { libc::setgroups(0, std::ptr::null()) };
    // SAFETY: as above.
    let group = unsafe { libc::setresgid(number, number, number) };
    // SAFETY: as above.
    let user = unsafe { libc::setresuid(number, number, number) };
    if [groups, group, user] == [0; 3] { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A user id that nobody else uses.
pub(crate) fn stranger() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + std::process::id() % 100_000 * 1_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 1_000
}

/// Lets everybody read a directory, and a user write there.
pub(crate) fn hand_over(dir: &Path, user: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::chown(dir, Some(user), Some(user))
}
