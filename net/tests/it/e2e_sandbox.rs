//! End to end: sandboxes that refuse system calls, hide `/proc` and `/sys`, or leave little to an ordinary
//! user. The server starts, or gives a reason in one sentence; it never panics.

use std::ffi::CString;
use std::process::Command;

use rustix::process::geteuid;
use stampede_testkit::{Missing, Need, skip};

use crate::e2e_talk::{Talk, item};
use crate::server::sandbox::{Sandbox, User, stranger};
use crate::server::seccomp::Filter;
use crate::server::{Bed, Server, wait_for};
use crate::transport::transports;

/// The errors that profiles return for a refused call.
const ERRORS: [i32; 2] = [libc::EPERM, libc::ENOSYS];
/// All system calls of io_uring.
const RING_CALLS: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
/// More than the rings of one server with one core take, and less than those of two.
const ROOM_FOR_ONE: u64 = 512 << 10;
/// Three huge pages: more than the rings of one core take, but not of two.
const ROOM_FOR_HUGE: u64 = (6 << 20) + (320 << 10);

fn bed(transport: &str, filter: Filter) -> Bed {
    within(transport, Sandbox { filter: Some(filter), ..Sandbox::default() })
}

fn within(transport: &str, sandbox: Sandbox) -> Bed {
    let mut bed = Bed::new().set("transport", transport);
    bed.sandbox = sandbox;
    bed.cores = "1";
    bed
}

/// The output of `doctor` in the same sandbox, line by line.
fn doctor(bed: &Bed) -> String {
    let mut command: Command = bed.command("doctor");
    command.args(["--cores", bed.cores]);
    bed.sandbox.put_over(&mut command);
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let ended = output.status.code().is_some_and(|code| code <= 1) && !said.contains("panicked");
    assert!(ended, "{:?}: {said}", output.status);
    said
}

/// Its line about one subject.
fn line_about(said: &str, check: &str) -> String {
    let line = said.lines().find(|line| line.split_whitespace().nth(1) == Some(check));
    line.unwrap_or_else(|| panic!("no line about {check}: {said}")).to_owned()
}

/// It starts, logs its transport, and sells.
fn sells(mut bed: Bed, transport: &str, what: &str) -> String {
    let mut server = bed.start();
    sells_on(&mut server);
    server.terminate();
    assert_eq!(server.wait_for_exit().code(), Some(0), "{what}: {}", server.said());
    let said = server.said();
    assert!(said.contains(&format!("transport=\"{transport}\"")), "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    said
}

fn sells_on(server: &mut Server) {
    let body = item(10, 1, "on_order", 0);
    Talk::with(server).check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}               -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $a
        "#
    ));
}

/// It ends at once, with exit code 1 and one sentence, and has not touched its directory.
fn is_refused(bed: &Bed, words: &[&str], what: &str) {
    let (code, said) = bed.start_refused();
    let in_words = said.contains("stampede: ") && !said.contains("panicked") && !said.contains("is ready");
    assert!(code == Some(1) && in_words, "{what}: {code:?} {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{what}: {said}");
    assert!(!bed.dir.join("control").exists() && !bed.dir.exists(), "{what}: {said}");
}

#[test]
fn e2e_sandbox_without_any_part_of_io_uring_is_served_by_epoll() {
    for (call, errno) in RING_CALLS.into_iter().flat_map(|call| ERRORS.map(|errno| (call, errno))) {
        let what = format!("call {call}, error {errno}");
        let bed = bed("auto", Filter::refusing(&[call], errno));
        let line = line_about(&doctor(&bed), "io_uring");
        assert!(line.starts_with("warn"), "{what}: {line}");
        let said = sells(bed, "epoll", &what);
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(lines.len(), 1, "one line gives the reason: {lines:#?}");
    }
}

#[test]
fn e2e_sandbox_without_the_chosen_transport_gets_a_reason() {
    for (call, errno) in RING_CALLS.into_iter().flat_map(|call| ERRORS.map(|errno| (call, errno))) {
        let bed = bed("ring", Filter::refusing(&[call], errno));
        is_refused(&bed, &["io_uring"], &format!("call {call}, error {errno}"));
    }
    let waits = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    for calls in [&waits[..], &[libc::SYS_epoll_create1], &[libc::SYS_epoll_ctl], &[libc::SYS_eventfd2]] {
        for errno in ERRORS {
            let bed = bed("epoll", Filter::refusing(calls, errno));
            let what = format!("calls {calls:?}, error {errno}");
            let line = line_about(&doctor(&bed), "epoll");
            assert!(line.starts_with("FAIL"), "{what}: {line}");
            is_refused(&bed, &["epoll"], &what);
        }
    }
}

#[test]
fn e2e_sandbox_without_epoll_pwait2_still_sells() {
    for errno in ERRORS {
        sells(bed("epoll", Filter::refusing(&[libc::SYS_epoll_pwait2], errno)), "epoll", "epoll_pwait2");
    }
}

#[test]
fn e2e_sandbox_without_any_transport_gets_both_reasons() {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_epoll_create1];
    for errno in ERRORS {
        let bed = bed("auto", Filter::refusing(&calls, errno));
        let line = line_about(&doctor(&bed), "epoll");
        assert!(line.starts_with("FAIL"), "{line}");
        is_refused(&bed, &["epoll", "core 0"], &format!("error {errno}"));
    }
}

/// Some profiles kill instead of refusing.
#[test]
fn e2e_sandbox_epoll_never_calls_io_uring() {
    let bed = bed("epoll", Filter::killing(&RING_CALLS));
    assert!(line_about(&doctor(&bed), "io_uring").starts_with("ok"));
    sells(bed, "epoll", "killed at the first call for io_uring");
}

#[test]
fn e2e_sandbox_like_dockers_default() {
    let line = line_about(&doctor(&bed("auto", Filter::like_dockers())), "io_uring");
    assert!(line.starts_with("warn") && line.contains("Docker"), "{line}");
    for transport in ["auto", "epoll"] {
        sells(bed(transport, Filter::like_dockers()), "epoll", transport);
    }
    is_refused(&bed("ring", Filter::like_dockers()), &["io_uring", "Docker"], "ring");
}

#[test]
fn e2e_sandbox_without_proc_and_sys() {
    for hidden in [&[c"/sys"][..], &[c"/proc"], &[c"/proc", c"/sys"]] {
        for transport in transports() {
            let sandbox = Sandbox { hidden: hidden.to_vec(), ..Sandbox::default() };
            if let Err(why) = sandbox.can_be_made() {
                return skip(&why);
            }
            let what = format!("{transport} without {hidden:?}");
            let bed = within(&transport, sandbox);
            assert!(line_about(&doctor(&bed), "io_uring").starts_with("ok"), "{what}");
            sells(bed, &transport, &what);
        }
    }
}

/// All of it at once, as in a small container.
#[test]
fn e2e_sandbox_like_dockers_default_without_proc_and_sys() {
    let hidden = vec![c"/proc", c"/sys"];
    let sandbox = Sandbox { hidden, filter: Some(Filter::like_dockers()), ..Sandbox::default() };
    if let Err(why) = sandbox.can_be_made() {
        return skip(&why);
    }
    let bed = within("auto", sandbox);
    assert!(line_about(&doctor(&bed), "io_uring").starts_with("warn"));
    sells(bed, "epoll", "a small container");
}

#[test]
fn e2e_sandbox_where_the_kernel_has_io_uring_switched_off() {
    let mut bed = bed("auto", Filter::refusing(&[libc::SYS_io_uring_setup], libc::EPERM));
    let says_two = bed.beside("switch");
    std::fs::write(&says_two, "2\n").unwrap();
    let covered =
        vec![(CString::new(says_two.to_str().unwrap()).unwrap(), c"/proc/sys/kernel/io_uring_disabled")];
    bed.sandbox.covered = covered;
    if let Err(why) = bed.sandbox.can_be_made() {
        return skip(&why);
    }
    let line = line_about(&doctor(&bed), "io_uring");
    assert!(line.starts_with("warn") && line.contains("kernel.io_uring_disabled = 2"), "{line}");
    sells(bed, "epoll", "switched off");
}

/// Not a test: runs the command in `STAMPEDE_CONTAINED`, and refuses the calls that Docker's default profile
/// refuses. `make contained` puts the rest of a container around it.
#[test]
#[ignore = "runs a command that it is given"]
fn in_a_container() {
    let command = std::env::var("STAMPEDE_CONTAINED").expect("STAMPEDE_CONTAINED, a command");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]);
    // The variables that cargo sets for a test: a cargo in there would rebuild whatever depends on them.
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_", "CARGO_CRATE_NAME", "OUT_DIR"];
    // Likewise those from `.cargo/config.toml`.
    let set = ["stampede-glommio-compat.h", "/.cargo/include"];
    for (name, value) in std::env::vars() {
        if told.iter().any(|told| name.starts_with(told)) || set.iter().any(|set| value.ends_with(set)) {
            shell.env_remove(name);
        }
    }
    Filter::like_dockers().put_over(&mut shell);
    let status = shell.status().expect("a shell");
    assert!(status.success(), "{command}: {status}");
}

/// A bed of one core for another user; `None` = this machine cannot do it, and that was reported.
fn as_user(transport: &str, user: User) -> Option<Bed> {
    if !geteuid().is_root() {
        skip(&Missing::new(Need::Root, "no process can be another user's"));
        return None;
    }
    let mut bed = Bed::new().set("transport", transport).user(user);
    bed.cores = "1";
    Some(bed)
}

#[test]
fn e2e_sandbox_a_second_server_with_little_lockable_memory() {
    if !transports().contains(&"ring".to_owned()) {
        return;
    }
    let user = User { number: stranger(), memlock_bytes: ROOM_FOR_ONE, threads_max: libc::RLIM_INFINITY };
    let Some(mut first) = as_user("ring", user) else { return };
    let server = first.start();
    let third = as_user("ring", user).unwrap();
    let line = line_about(&doctor(&third), "memlock");
    assert!(line.starts_with("FAIL") && line.contains("processes of this user"), "{line}");
    is_refused(&third, &["memlock", "LimitMEMLOCK", "transport = auto"], "a second one that insists");
    let second = as_user("auto", user).unwrap();
    assert!(line_about(&doctor(&second), "memlock").starts_with("warn"));
    let said = sells(second, "epoll", "a second one");
    assert_eq!(said.lines().filter(|line| line.contains("memlock")).count(), 1, "one line says why: {said}");
    // The first one's memory is released some time after its end, and later while other
    // tests release theirs.
    assert_eq!(server.stop(), Some(0));
    wait_for("room", || line_about(&doctor(&third), "memlock").starts_with("ok").then_some(()));
    sells(first, "ring", "the first one again");
}

/// A server locks what its rings take, not whole huge pages around its memory.
#[test]
fn e2e_sandbox_two_servers_of_a_user_share_what_it_may_lock() {
    if !transports().contains(&"ring".to_owned()) {
        return;
    }
    let user = User { number: stranger(), memlock_bytes: ROOM_FOR_HUGE, threads_max: libc::RLIM_INFINITY };
    let Some(mut first) = as_user("ring", user) else { return };
    let server = first.start();
    sells(as_user("ring", user).unwrap(), "ring", "the second");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_sandbox_with_few_threads_or_files_starts_or_says_why() {
    for transport in transports() {
        for threads_max in 1..=14 {
            let memlock_bytes = 8 << 20;
            let Some(bed) = as_user(&transport, User { number: stranger(), memlock_bytes, threads_max })
            else {
                return;
            };
            starts_or_says_why(&bed, &format!("{transport}, {threads_max} threads"));
        }
        for files in [4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 220, 400] {
            let mut bed = Bed::new().set("transport", &transport).files(files);
            bed.cores = "1";
            starts_or_says_why(&bed, &format!("{transport}, {files} files"));
        }
    }
}

fn starts_or_says_why(bed: &Bed, what: &str) {
    let mut server = bed.spawn();
    let is_ready = wait_for("a start or an end", || {
        let is_ready = server.said().contains("is ready");
        (is_ready || server.exited().is_some()).then_some(is_ready)
    });
    if is_ready {
        server.terminate();
    }
    let code = server.wait_for_exit().code();
    let said = server.said();
    assert_eq!(code, Some(i32::from(!is_ready)), "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(is_ready || said.contains("stampede: "), "{what}: {said}");
}
