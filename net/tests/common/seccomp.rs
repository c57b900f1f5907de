//! Refuses system calls to a program under test, as a container's seccomp profile does.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// `SECCOMP_RET_ERRNO` and `SECCOMP_RET_ALLOW` of the kernel.
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A filter that lets everything through but some calls.
#[derive(Clone)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Refuses these calls with that error number.
    pub(crate) fn refusing(calls: &[libc::c_long], errno: i32) -> Self {
        let step = |code: u32, jump: u8, k: u32| libc::sock_filter { code: code as u16, jt: jump, jf: 0, k };
        let load_number = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
        let mut steps = vec![load_number];
        for (index, call) in calls.iter().enumerate() {
            let over = calls.len() - index;
            let number = u32::try_from(*call).expect("a number of a system call");
            steps.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, over as u8, number));
        }
        steps.push(step(libc::BPF_RET | libc::BPF_K, 0, RET_ALLOW));
        steps.push(step(libc::BPF_RET | libc::BPF_K, 0, RET_ERRNO | errno as u32));
        Self(steps)
    }

    /// Has a command run under it.
    #[allow(dead_code, reason = "the server's bed installs it itself")]
    pub(crate) fn put_over(&self, command: &mut Command) {
        let filter = self.clone();
        // SAFETY: between fork and exec only prctl is called, which allocates nothing.
        unsafe { command.pre_exec(move || filter.install()) };
    }

    /// Puts it over this process, for good. Allocates nothing, so that it can be called between fork and
    /// exec.
    pub(crate) fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() };
        let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
        // SAFETY: sets a flag of this process.
        let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none) };
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        // SAFETY: the kernel copies the program, which is alive and as long as it says.
        let second = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, none, none) };
        if first == 0 && second == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
