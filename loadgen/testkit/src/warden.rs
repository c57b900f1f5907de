//! The warden of a throw-away server: a small shell process that holds the other end of a pipe.
//!
//! When this process ends in whatever way, also by SIGKILL, the pipe closes, and the warden
//! stops the server and removes the directory; dropping a server does no more than close
//! that pipe. No other clean-up exists, so none can be forgotten.
//!
//! Every process of a server works in `DIR/data`; that is how the warden knows them. Where a process works is
//! told to its own user alone, and to root only with `CAP_SYS_PTRACE`, which a container lacks: so whoever
//! looks for them does it as the server's user. The directory may lie where that user removes nothing: a
//! second shell does that as us, when the first has ended.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::{ClusterError, system};

/// Prints who works in `$1/data`, by its name: nothing is asked of a disk that may be cut off.
const PROCESSES: &str = r#"
processes() {
    find /proc -mindepth 2 -maxdepth 2 -name cwd -printf '%h %l\n' | while read -r process cwd; do
        if [ "$cwd" = "$1/data" ]; then
            echo "${process#/proc/}"
        fi
    done
}
"#;

/// Waits for the end of its input, which is the end of the process that made the cluster,
/// then ends the server. Of Postgres it asks a quick stop first, and removes its shared memory.
const WARDEN: &str = r#"
cat > /dev/null
pid=$(sed -n 1p "$1/data/postmaster.pid" 2> /dev/null)
shm=$(sed -n 7p "$1/data/postmaster.pid" 2> /dev/null | awk '{print $2}')
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
    kill -CONT "$pid" 2> /dev/null
    kill -QUIT "$pid" 2> /dev/null
    n=0
    while [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ] && [ $n -lt 50 ]; do
        sleep 0.1
        n=$((n + 1))
    done
fi
for other in $(processes "$1"); do
    kill -KILL "$other" 2> /dev/null
done
[ -n "$shm" ] && ipcrm -m "$shm" 2> /dev/null
"#;

/// Waits for the end of the other shell, then removes the directory.
const REMOVER: &str = r#"
cat > /dev/null
rm -rf "$1"
"#;

/// A directory, and the processes that remove it with whoever works in its `data`.
#[derive(Debug)]
pub struct Warden {
    dir: PathBuf,
    user: Option<(u32, u32)>,
    shell: Child,
    remover: Child,
}

impl Warden {
    /// Makes a temporary directory and its warden, for a server that runs as `user`, or as we do; the
    /// directory is that user's.
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
        let started = start_shells(&dir, user).map_err(|source| system("starting /bin/sh", source));
        let (shell, remover) = started.inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        Ok(Self { dir, user, shell, remover })
    }

    /// The processes of the server, of which this is one that runs.
    ///
    /// # Errors
    /// [`ClusterError::Unseen`] if that one is not seen: then others may not be either.
    pub fn processes(&self, one: u32) -> Result<Vec<Pid>, ClusterError> {
        let seen = self.seen()?;
        if seen.iter().any(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(one)) {
            Ok(seen)
        } else {
            Err(ClusterError::Unseen { pid: one, dir: self.data_dir() })
        }
    }

    /// Who is seen to work in `data`; none also means that they are not seen, so ask [`Warden::processes`] once.
    pub(crate) fn seen(&self) -> Result<Vec<Pid>, ClusterError> {
        let mut command = shell(&format!("{PROCESSES}processes \"$1\""), &self.dir, self.user);
        let output = command.output().map_err(|source| system("starting /bin/sh", source))?;
        let seen = String::from_utf8_lossy(&output.stdout);
        Ok(seen.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
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
        drop(self.remover.wait());
    }
}

/// The one that ends the server, and the one that then removes the directory.
fn start_shells(dir: &Path, user: Option<(u32, u32)>) -> io::Result<(Child, Child)> {
    let mut first = shell(&format!("{PROCESSES}{WARDEN}"), dir, user);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let its_end = first.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let second = shell(REMOVER, dir, None).stdin(its_end).stdout(Stdio::null()).spawn();
    if second.is_err() {
        drop(first.stdin.take());
        drop(first.wait());
    }
    Ok((first, second?))
}

/// A shell that runs this with the directory as `$1`, in a group of its own: Ctrl-C at the terminal is for us,
/// and the warden sees our end.
fn shell(script: &str, dir: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "stampede-warden"]).arg(dir).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
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

/// Ports that the system gives to no connection by itself (`net.ipv4.ip_local_port_range`). In its own range some
/// client's end may take the port between the look and the start of a server, and hold it for long.
const PORTS: Range<u16> = 10_000..32_768;
/// How many of them are tried.
const PORT_TRIES: usize = 100;

/// A port of 127.0.0.1 that nobody uses at this moment, drawn so that two who look at once find two.
///
/// # Errors
/// What the system says of the last one that was tried.
pub fn free_port() -> io::Result<u16> {
    let drawn = || PORTS.start + (random() % u64::from(PORTS.end - PORTS.start)) as u16;
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port);
    let mut last = is_free(drawn());
    for _ in 1..PORT_TRIES {
        if last.is_ok() {
            break;
        }
        last = is_free(drawn());
    }
    last
}

/// The last few lines, as one.
pub fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
