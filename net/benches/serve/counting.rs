//! The server inside this program, with an allocator that counts: how row 8 sees every allocation
//! of every thread, transport and journal included.
//!
//! The server is the same code; only the allocator has a counter before it. Each line on the
//! standard input is answered with the count so far. Next: [`crate::allocations`].

use std::alloc::{GlobalAlloc, Layout};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;

use crate::server::ServerProcess;

/// What stands before a count.
const WORD: &str = "allocations ";

/// Written by every thread at each allocation; read between legs, when nothing depends on the order.
static COUNT: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// mimalloc, as the server has it, with a counter before what allocates.
struct Counting;

// SAFETY: every call is handed on unchanged to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { MiMalloc.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { MiMalloc.realloc(block, layout, bytes) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

/// Is the server until it ends.
pub(crate) fn serve() -> ExitCode {
    // The server's command line holds the lock of the standard output as long as it serves.
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    let mut output = File::from(output.expect("a descriptor"));
    std::thread::spawn(move || {
        let mut line = String::with_capacity(64);
        let mut input = std::io::stdin().lock();
        while input.read_line(&mut line).is_ok_and(|count| count > 0) {
            writeln!(output, "{WORD}{}", COUNT.load(Ordering::Relaxed)).expect("it is read");
            line.clear();
        }
    });
    stampede_net::cli::run(stampede_net::server::serve)
}

/// Allocations of a server that was started as this program.
pub(crate) fn so_far(server: &mut ServerProcess) -> u64 {
    writeln!(server.input).expect("it listens");
    let mut line = String::new();
    while server.out.read_line(&mut line).expect("it answers") > 0 {
        if let Some(count) = line.trim().strip_prefix(WORD) {
            return count.parse().expect("a number");
        }
        line.clear();
    }
    panic!("the server ended");
}
