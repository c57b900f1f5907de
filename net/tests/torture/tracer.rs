//! Faults at chosen system calls: strace on one thread of the server, which kills the
//! process at the n-th call of a kind, or makes that call fail.
//!
//! It works because the journal, its helpers and the exporter are plain threads with plain
//! system calls; requests of the cores to io_uring cannot be caught. Next: `fault.rs`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use stampede_testkit::{Missing, Need};

use crate::server::{Server, wait_for};

/// How many letters of a thread's name the kernel keeps.
const NAME_BYTES_MAX: usize = 15;

/// Where to strike, and how.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    /// The thread, as the server names it.
    pub(crate) thread: &'static str,
    /// Only calls that touch this file.
    pub(crate) file: Option<PathBuf>,
    /// The system call.
    pub(crate) call: &'static str,
    /// What happens, in strace's syntax: `signal=SIGKILL`, `error=EIO`, `retval=0`.
    pub(crate) effect: &'static str,
    /// At which such call, counted from 1 from now on.
    pub(crate) at: u64,
}

impl Strike {
    /// The arguments for strace.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self { call, effect, at, .. } = self;
        let mut words = vec!["-qq".to_owned(), "-e".to_owned(), format!("trace={call}")];
        words.extend(["-e".to_owned(), format!("inject={call}:{effect}:when={at}")]);
        if let Some(file) = &self.file {
            words.extend(["-P".to_owned(), file.display().to_string()]);
        }
        words
    }
}

/// A running strace. Dropping it releases the thread.
pub(crate) struct Tracer {
    child: Child,
}

impl Tracer {
    /// Attaches to a thread.
    ///
    /// # Errors
    /// Why it cannot: no strace, or no right to trace.
    pub(crate) fn attach(server: &Server, strike: &Strike, log: &Path) -> Result<Self, Missing> {
        let thread = thread_of(server, strike.thread)
            .unwrap_or_else(|| panic!("the server has no thread {}", strike.thread));
        let mut command = Command::new("strace");
        command.args(strike.words()).args(["-p", &thread.to_string()]).arg("-o").arg(log);
        let said = log.with_extension("said");
        let errors = File::create(&said).expect("a file beside the data");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        die_with_us(&mut command);
        let child =
            command.spawn().map_err(|error| Missing::new(Need::Ptrace, format!("strace: {error}")))?;
        let mut tracer = Self { child };
        let status = format!("/proc/{}/task/{thread}/status", server.pid());
        wait_for("strace to take hold", || {
            if tracer.child.try_wait().expect("our own child").is_some() {
                // Without an error message it has struck at once, and the thread is gone.
                let complaint = read(&said);
                let complaint = complaint.trim();
                let why = || Missing::new(Need::Ptrace, format!("strace: {complaint}"));
                return Some(if complaint.is_empty() { Ok(()) } else { Err(why()) });
            }
            let held = read(Path::new(&status))
                .lines()
                .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"));
            held.then_some(Ok(()))
        })?;
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // strace detaches cleanly on this signal.
        let _gone_already = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended = self.child.wait();
    }
}

/// The child dies with its parent.
pub(crate) fn die_with_us(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which allocates nothing and is
    // safe to call there.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        });
    }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn thread_of(server: &Server, name: &str) -> Option<u32> {
    let kept = &name[..name.len().min(NAME_BYTES_MAX)];
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).ok()?.flatten();
    let mut named = threads.filter(|thread| read(&thread.path().join("comm")).trim() == kept);
    named.next()?.file_name().to_str()?.parse().ok()
}
