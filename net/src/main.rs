//! The binary `stampede`: the allocator, and the server handed to the command line.
//!
//! See [`stampede_net::cli`] for the commands.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs before the first allocation, because the allocator's first piece of memory is its largest.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = ask_for_huge_pages;

/// Has the allocator ask for huge pages: a purchase reads tables at random places, and with small pages
/// half of that cost is address translation. If there are no huge pages, or with
/// `MIMALLOC_ALLOW_LARGE_OS_PAGES=0` in the environment, pages stay small.
extern "C" fn ask_for_huge_pages() {
    let option = libmimalloc_sys::mi_option_large_os_pages;
    // SAFETY: sets an option of the allocator, which is linked in; nothing else runs yet.
    unsafe { libmimalloc_sys::mi_option_set_enabled_default(option, true) };
}

fn main() -> ExitCode {
    stampede_net::cli::run(stampede_net::server::serve)
}
