//! Refuses system calls to a program under test, like a container's seccomp profile.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// `SECCOMP_RET_ERRNO`, `SECCOMP_RET_KILL_PROCESS` and `SECCOMP_RET_ALLOW` of the kernel.
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL: u32 = 0x8000_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A filter that allows everything except some calls.
#[derive(Clone)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Refuses these calls with this error number.
    pub(crate) fn refusing(calls: &[libc::c_long], errno: i32) -> Self {
        Self::of(&[(calls, RET_ERRNO | errno as u32)])
    }

    /// Kills the process at the first of these calls.
    #[allow(dead_code, reason = "not every test program kills")]
    pub(crate) fn killing(calls: &[libc::c_long]) -> Self {
        Self::of(&[(calls, RET_KILL)])
    }

    /// What the default profile of Docker and containerd refuses on x86-64: io_uring, calls that
    /// inspect or change the machine, new namespaces, fixed addresses.
    /// `clone3` gets ENOSYS, so that the C library uses the older call.
    #[allow(dead_code, reason = "not every test program is put into a container")]
    #[rustfmt::skip]
    pub(crate) fn like_dockers() -> Self {
        let refused = [
            libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
            libc::SYS_acct, libc::SYS_add_key, libc::SYS_bpf, libc::SYS_clock_adjtime, libc::SYS_clock_settime,
            libc::SYS_delete_module, libc::SYS_fanotify_init, libc::SYS_finit_module, libc::SYS_fsconfig,
            libc::SYS_fsmount, libc::SYS_fsopen, libc::SYS_fspick, libc::SYS_get_mempolicy, libc::SYS_init_module,
            libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_kcmp, libc::SYS_kexec_file_load, libc::SYS_kexec_load,
            libc::SYS_keyctl, libc::SYS_mbind, libc::SYS_mount, libc::SYS_mount_setattr, libc::SYS_move_mount,
            libc::SYS_move_pages, libc::SYS_open_by_handle_at, libc::SYS_open_tree, libc::SYS_perf_event_open,
            libc::SYS_pidfd_getfd, libc::SYS_pivot_root, libc::SYS_process_madvise, libc::SYS_quotactl,
            libc::SYS_reboot, libc::SYS_request_key, libc::SYS_set_mempolicy, libc::SYS_setns,
            libc::SYS_settimeofday, libc::SYS_swapoff, libc::SYS_swapon, libc::SYS_syslog, libc::SYS_umount2,
            libc::SYS_unshare, libc::SYS_userfaultfd, libc::SYS_vhangup,
        ];
        let errno = |number: i32| RET_ERRNO | number as u32;
        let rules = [(&refused[..], errno(libc::EPERM)), (&[libc::SYS_clone3], errno(libc::ENOSYS))];
        let mut steps = Self::judging(&rules);
        // Besides the query (all ones): Linux's own personality, those of old Unixes, and their old address space.
        let kinds = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];
        let mut by_kind: Vec<_> =
            kinds.iter().flat_map(|kind| [jump(libc::BPF_JEQ, 1, *kind), end(RET_ALLOW)]).collect();
        by_kind.push(end(errno(libc::EPERM)));
        steps.extend(by_argument(libc::SYS_personality, by_kind));
        let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET;
        let apart = vec![
            jump(libc::BPF_JSET, 1, namespaces.cast_unsigned()), end(errno(libc::EPERM)), end(RET_ALLOW),
        ];
        steps.extend(by_argument(libc::SYS_clone, apart));
        steps.push(end(RET_ALLOW));
        Self(steps)
    }

    /// Answers these calls with this action.
    fn of(rules: &[(&[libc::c_long], u32)]) -> Self {
        let mut steps = Self::judging(rules);
        steps.push(end(RET_ALLOW));
        Self(steps)
    }

    /// The instructions that answer some calls, and continue with the others.
    fn judging(rules: &[(&[libc::c_long], u32)]) -> Vec<libc::sock_filter> {
        let mut steps = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
        for (calls, answer) in rules {
            for call in *calls {
                steps.extend([jump(libc::BPF_JEQ, 1, number(*call)), end(*answer)]);
            }
        }
        steps
    }

    /// Makes a command run under the filter.
    #[allow(dead_code, reason = "the server's bed installs it itself")]
    pub(crate) fn put_over(&self, command: &mut Command) {
        let filter = self.clone();
        // SAFETY: between fork and exec only prctl is called, which allocates nothing.
        unsafe { command.pre_exec(move || filter.install()) };
    }

    /// Installs it for this process, for good. Allocates nothing, so it can be called between fork and
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

fn step(code: u32, miss: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: miss, k }
}

/// The final instruction.
fn end(answer: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, answer)
}

/// Skips so many instructions if the test fails.
fn jump(test: u32, miss: u8, k: u32) -> libc::sock_filter {
    step(libc::BPF_JMP | test | libc::BPF_K, miss, k)
}

/// Tests the lower half of a call's first argument; the steps for it must end in every case.
fn by_argument(call: libc::c_long, judge: Vec<libc::sock_filter>) -> Vec<libc::sock_filter> {
    // After the call's number, the architecture and the instruction pointer.
    const FIRST_ARGUMENT: u32 = 16;
    let length = u8::try_from(judge.len() + 1).expect("a short filter");
    let mut steps = vec![
        jump(libc::BPF_JEQ, length, number(call)),
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, FIRST_ARGUMENT),
    ];
    steps.extend(judge);
    steps
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("the number of a system call")
}
