//! End to end: sandboxes that refuse single system calls. A start, or a sentence; never a panic.

use std::process::Command;

use crate::e2e_talk::{Talk, item};
use crate::server::Bed;
use crate::server::seccomp::Filter;

/// What profiles answer to a call that they do not let through.
const ERRORS: [i32; 2] = [libc::EPERM, libc::ENOSYS];
/// All that io_uring is made of.
const RING_CALLS: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

fn bed(transport: &str, calls: &[libc::c_long], errno: i32) -> Bed {
    let mut bed = Bed::new().set("transport", transport);
    bed.filter = Some(Filter::refusing(calls, errno));
    bed.cores = "1";
    bed
}

fn doctor(bed: &Bed) -> String {
    let mut command: Command = bed.command("doctor");
    bed.filter.as_ref().expect("a filter").put_over(&mut command);
    let output = command.output().expect("the binary runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// It starts, says which way it took, and sells.
fn sells(mut bed: Bed, what: &str) {
    let mut server = bed.start();
    let body = item(10, 1, "on_order", 0);
    Talk::with(&server).check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}               -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $a
        "#
    ));
    server.terminate();
    assert_eq!(server.wait_for_exit().code(), Some(0), "{what}: {}", server.said());
    assert!(server.said().contains("transport=\"epoll\""), "{what}: {}", server.said());
}

#[test]
fn e2e_sandbox_without_any_part_of_io_uring_is_served_by_epoll() {
    for (call, errno) in RING_CALLS.into_iter().flat_map(|call| ERRORS.map(|errno| (call, errno))) {
        let what = format!("call {call}, error {errno}");
        let bed = bed("auto", &[call], errno);
        let said = doctor(&bed);
        let line = said.lines().find(|line| line.contains("io_uring")).expect("a line about it");
        assert!(line.starts_with("warn"), "{what}: {said}");
        sells(bed, &what);
    }
}

#[test]
fn e2e_sandbox_that_lacks_what_was_asked_for_is_refused_in_a_sentence() {
    for (call, errno) in RING_CALLS.into_iter().flat_map(|call| ERRORS.map(|errno| (call, errno))) {
        let (code, said) = bed("ring", &[call], errno).start_refused();
        assert!(code == Some(1) && said.contains("io_uring"), "call {call}, error {errno}: {code:?} {said}");
    }
    let waits = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    for calls in [&waits[..], &[libc::SYS_epoll_create1], &[libc::SYS_epoll_ctl], &[libc::SYS_eventfd2]] {
        for errno in ERRORS {
            let (code, said) = bed("epoll", calls, errno).start_refused();
            let what = format!("calls {calls:?}, error {errno}: {code:?} {said}");
            assert!(code == Some(1) && said.contains("stampede: ") && !said.contains("panicked"), "{what}");
        }
    }
}

#[test]
fn e2e_sandbox_without_the_newer_wait_is_no_hindrance() {
    for errno in ERRORS {
        sells(bed("epoll", &[libc::SYS_epoll_pwait2], errno), "epoll_pwait2");
    }
}
