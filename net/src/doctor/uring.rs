//! Asks the kernel for the smallest ring and gives it back at once.
//!
//! The only `unsafe` of the startup checks: the C library has no wrapper for
//! `io_uring_setup`.

use std::os::fd::{FromRawFd, OwnedFd};

use super::Uring;

/// `struct io_uring_params`: 120 bytes, all zero asks for nothing special. The kernel
/// writes into all of it.
#[repr(C, align(8))]
struct Params([u8; 120]);

/// What the kernel says to a ring of one entry.
pub(super) fn ask(sysctl: u32) -> Uring {
    let mut params = Params([0; 120]);
    let params: *mut Params = &raw mut params;
    // SAFETY: the call reads and writes one `io_uring_params` behind the pointer, which
    // is alive, aligned and large enough; it keeps no reference to it.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params) };
    if fd < 0 {
        return refused(std::io::Error::last_os_error().raw_os_error().unwrap_or(0), sysctl);
    }
    // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Uring::Works
}

/// What an error number of the kernel means.
pub(super) const fn refused(errno: i32, sysctl: u32) -> Uring {
    match errno {
        libc::ENOSYS => Uring::Missing,
        libc::EPERM | libc::EACCES => Uring::Forbidden { sysctl },
        errno => Uring::Other(errno),
    }
}
