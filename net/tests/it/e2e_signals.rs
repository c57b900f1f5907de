//! End to end: what each signal means to a server.

use crate::e2e_talk::Talk;
use crate::server::{Bed, wait_for};

#[test]
fn e2e_signals_that_mean_nothing_leave_it_selling() {
    let mut bed = Bed::new();
    let mut server = bed.start();
    let timers = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];
    let files = [libc::SIGXFSZ, libc::SIGIO, libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU];
    let usual = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGSTKFLT, libc::SIGWINCH, libc::SIGCHLD];
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for number in usual.into_iter().chain(timers).chain(files).chain(real_time) {
        server.signal(number);
        assert_eq!(Talk::with(&server).say("shop GET /readyz").status, 200, "after signal {number}");
        assert_eq!(server.exited(), None, "after signal {number}");
    }
    // Whoever expects files to be read again is told that they are not.
    wait_for("the word about SIGHUP", || server.said().contains("SIGHUP: nothing changes").then_some(()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_signals_to_stop_shut_it_down_cleanly() {
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGXCPU, libc::SIGPWR] {
        let mut server = Bed::new().start();
        server.signal(number);
        assert_eq!(server.wait_for_exit().code(), Some(0), "signal {number}: {}", server.said());
        assert!(server.said().contains("stopped in order"), "signal {number}: {}", server.said());
    }
}
