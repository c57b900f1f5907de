//! The warden of a throw-away server: a small shell process that holds the other end of a pipe.
//!
//! When this process ends in whatever way, also by SIGKILL, the pipe closes, and the warden
//! stops the server and removes the directory; dropping a server does no more than close
//! that pipe. No other clean-up exists, so none can be forgotten.
//!
//! Every process of a server works in `DIR/data`; that is how the warden knows them.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::{ClusterError, system};

/// Waits for the end of its input, which is the end of the process that made the cluster,
/// then ends the server and removes the directory. Of Postgres it asks a quick stop first, and
/// removes its shared memory.
const WARDEN: &str = r#"
cat > /dev/null
pid=$(sed -n 1p "$1/data/postmaster.pid" 2> /dev/null)
shm=$(sed -n 7p "$1/data/postmaster.pid" 2> /dev/null | awk '{print $2}')
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
    kill -CONT "$pid" 2> /dev/null
    kill -QUIT "$pid" 2> /dev/null
    n=0
    while kill -0 "$pid" 2> /dev/null && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ] && [ $n -lt 50 ]; do
        sleep 0.1
        n=$((n + 1))
    done
fi
for cwd in /proc/[0-9]*/cwd; do
    if [ "$(readlink "$cwd" 2> /dev/null)" = "$1/data" ]; then
        other=${cwd#/proc/}
        kill -KILL "${other%/cwd}" 2> /dev/null
    fi
done
[ -n "$shm" ] && ipcrm -m "$shm" 2> /dev/null
rm -rf "$1"
"#;

/// A directory, and the process that removes it with whoever works in its `data`.
#[derive(Debug)]
pub struct Warden {
    dir: PathBuf,
    shell: Child,
}

impl Warden {
    /// Makes a temporary directory, owned by `user` if one is given, and its warden.
    ///
    /// # Errors
    /// [`ClusterError::System`]; nothing is left behind.
    pub fn new(kind: &str, user: Option<(u32, u32)>) -> Result<Self, ClusterError> {
        Self::new_in(&std::env::temp_dir(), kind, user)
    }

    /// The same in the directory `root`, for a server whose disk is to be cut off (see [`crate::Image`]).
    ///
    /// # Errors
    /// [`ClusterError::System`]; nothing is left behind.
    pub fn new_in(root: &Path, kind: &str, user: Option<(u32, u32)>) -> Result<Self, ClusterError> {
        let dir = make_dir(root, kind, user)?;
        let mut command = Command::new("/bin/sh");
        // A group of its own: Ctrl-C at the terminal is for us, and the warden sees our end.
        command.args(["-c", WARDEN, "stampede-warden"]).arg(&dir).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = command.spawn().map_err(|source| system("starting /bin/sh", source));
        let shell = shell.inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        Ok(Self { dir, shell })
    }

    /// The directory; everything in it goes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where every process of the server works; the server, or its maker, creates it.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Tells the warden to begin; its end is waited for by the drop.
    pub fn let_go(&mut self) {
        drop(self.shell.stdin.take());
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.let_go();
        drop(self.shell.wait());
    }
}

fn make_dir(root: &Path, kind: &str, user: Option<(u32, u32)>) -> Result<PathBuf, ClusterError> {
    let root = root.canonicalize().map_err(|source| system("finding the temporary directory", source))?;
    let dir = root.join(format!("stampede-{kind}-{:08x}", random() as u32));
    DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|source| system("making a temporary directory", source))?;
    if let Some((uid, gid)) = user {
        chown(&dir, Some(uid), Some(gid)).map_err(|source| system("handing over a directory", source))?;
    }
    Ok(dir)
}

/// Random for each call, from the seed of the standard library's hash tables.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A port of 127.0.0.1 that nobody listens on at this moment.
///
/// # Errors
/// What the system says.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The processes that work in this directory: every process of a server does.
pub(crate) fn processes_in(dir: &Path) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// The last few lines, as one.
pub fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
