//! Refuses system calls to a program under test, as a container's seccomp profile does.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// `SECCOMP_RET_ERRNO`, `SECCOMP_RET_KILL_PROCESS` and `SECCOMP_RET_ALLOW` of the kernel.
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL: u32 = 0x8000_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A filter that lets everything through but some calls.
#[derive(Clone)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Refuses these calls with that error number.
    pub(crate) fn refusing(calls: &[libc::c_long], errno: i32) -> Self {
        Self::of(&[(calls, RET_ERRNO | errno as u32)])
    }

    /// Ends the process at the first of these calls.
    #[allow(dead_code, reason = "not every test program kills")]
    pub(crate) fn killing(calls: &[libc::c_long]) -> Self {
        Self::of(&[(calls, RET_KILL)])
    }

    /// What Docker's and containerd's default profile refuses on x86-64: io_uring, and the calls that
    /// look into the machine or change it. `clone3` is said not to be there, so that the C library
    /// takes the older call.
    #[allow(dead_code, reason = "not every test program is put into a container")]
    #[rustfmt::skip]
    pub(crate) fn like_dockers() -> Self {
        let refused = [
            libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
            libc::SYS_acct, libc::SYS_add_key, libc::SYS_bpf, libc::SYS_clock_adjtime, libc::SYS_clock_settime,
            libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_fsconfig, libc::SYS_fsmount,
            libc::SYS_fsopen, libc::SYS_fspick, libc::SYS_get_mempolicy, libc::SYS_init_module, libc::SYS_kcmp,
            libc::SYS_kexec_load, libc::SYS_keyctl, libc::SYS_mbind, libc::SYS_mount,
            libc::SYS_move_mount, libc::SYS_move_pages, libc::SYS_open_by_handle_at, libc::SYS_open_tree,
            libc::SYS_perf_event_open, libc::SYS_pivot_root, libc::SYS_quotactl, libc::SYS_reboot,
            libc::SYS_request_key, libc::SYS_set_mempolicy, libc::SYS_setns, libc::SYS_settimeofday,
            libc::SYS_swapoff, libc::SYS_swapon, libc::SYS_syslog, libc::SYS_umount2, libc::SYS_unshare,
            libc::SYS_userfaultfd, libc::SYS_vhangup,
        ];
        let errno = |number: i32| RET_ERRNO | number as u32;
        Self::of(&[(&refused, errno(libc::EPERM)), (&[libc::SYS_clone3], errno(libc::ENOSYS))])
    }

    /// Answers some calls with that.
    fn of(rules: &[(&[libc::c_long], u32)]) -> Self {
        let step = |code: u32, miss: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: miss, k };
        let end = |answer: u32| step(libc::BPF_RET | libc::BPF_K, 0, answer);
        let mut steps = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
        for (calls, answer) in rules {
            for call in *calls {
                let number = u32::try_from(*call).expect("a number of a system call");
                steps.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number));
                steps.push(end(*answer));
            }
        }
        steps.push(end(RET_ALLOW));
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
