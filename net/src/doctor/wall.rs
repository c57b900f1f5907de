//! Asks the kernel whether its clock is synchronised.
//!
//! The only `unsafe` about time: the C library's `adjtimex` fills a struct behind a pointer.

use std::mem::MaybeUninit;

/// What `adjtimex` returns while the clock is not synchronised.
const TIME_ERROR: i32 = 5;

/// Whether the kernel's clock is synchronised; `None` if it does not say.
pub(super) fn is_synchronised() -> Option<bool> {
    // All zero asks for nothing to be changed (`modes = 0`), which every user may do.
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the call reads and writes one `timex` behind the pointer, which is alive and
    // initialised to zeroes, a valid value of each of its fields; it keeps no reference to it.
    match unsafe { libc::adjtimex(state.as_mut_ptr()) } {
        said if said < 0 => None,
        said => Some(said != TIME_ERROR),
    }
}
