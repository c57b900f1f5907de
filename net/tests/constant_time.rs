//! Whether a secret is compared in constant time: by counting instructions, not by a clock.
//!
//! A child checks a forged seal, token or signature while its parent steps it one instruction
//! at a time. Whoever compares byte by byte and stops at the first difference executes more
//! instructions the later that difference is; nothing else differs between two children, so
//! the counts must be equal to the instruction. A program of its own, without the usual test
//! harness: a process with threads cannot be forked for this.

use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use stampede_core::types::{ItemId, UnixMillis};
use stampede_net::gate::seal::{Claim, Note, Purpose, SealKey, open};
use stampede_net::http::conn::{Conn, Next};
use stampede_net::http::route::Listener;
use stampede_net::identity::check_admin;
use stampede_net::identity::key::IdentityKey;
use stampede_testkit::{Missing, Need, skip};

/// Steps after which a child is given up: far more than any check takes.
const STEPS_MAX: u64 = 20_000_000;

/// Makes a check of something that differs from the right thing in this byte alone; the check says
/// whether it was taken.
type Forger = fn(usize) -> Box<dyn Fn() -> bool>;

fn main() -> ExitCode {
    if let Err(why) = count(&|| false) {
        skip(&Missing::new(Need::Ptrace, why));
        return ExitCode::SUCCESS;
    }
    // What is done once, at first use (the processor's features, the resolver of symbols), is done now.
    let checks: [(&str, Forger); 3] =
        [("ticket's seal", ticket), ("buyer's token", token), ("merchant's token", merchant)];
    let mut failed = 0;
    println!("running {} tests", checks.len());
    for (name, forged) in checks {
        let verdict = constant(forged);
        failed += u32::from(verdict.is_err());
        let (word, detail) = match verdict {
            Ok(steps) => ("ok", format!("{steps} instructions, wherever the difference is")),
            Err(reason) => ("FAILED", reason),
        };
        println!("test constant_time::{name} ... {word} ({detail})", name = name.replace([' ', '\''], "_"));
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" },
        3 - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many instructions a check takes, if it takes the same for each place of the difference.
fn constant(forged: Forger) -> Result<u64, String> {
    const PLACES: [usize; 6] = [0, 1, 7, 15, 30, 31];
    // With room for all: memory that is given back in between would move the buffers of the later
    // checks, and how long a search for a byte takes hangs on where its buffer begins.
    let mut seen = Vec::with_capacity(PLACES.len());
    for place in PLACES {
        let check = forged(place);
        if check() {
            return Err(format!("a forgery in byte {place} was taken"));
        }
        seen.push((place, count(&*check)?));
    }
    let steps = seen[0].1;
    if seen.iter().all(|(_, count)| *count == steps) { Ok(steps) } else { Err(format!("by place: {seen:?}")) }
}

fn ticket(place: usize) -> Box<dyn Fn() -> bool> {
    let key = SealKey::new(1, &[7; 32]).expect("long enough");
    let claim = Claim { subject: b"ann", item: ItemId::new(5).expect("small"), epoch: 3 };
    let note = Note { from_ms: UnixMillis(1_000), until_ms: UnixMillis(61_000), serial: (1, 7) };
    let sealed = BASE64.decode(key.seal(Purpose::Ticket, &claim, &note)).expect("ours");
    let mut forged = sealed.clone();
    forged[sealed.len() - 32 + place] ^= 0x80;
    let (text, keys) = (BASE64.encode(forged), [key]);
    Box::new(move || open(&keys, Purpose::Ticket, &text, &claim, UnixMillis(2_000)).is_some())
}

fn token(place: usize) -> Box<dyn Fn() -> bool> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let key = IdentityKey::hs256("k", &[9; 32]).expect("long enough");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[9; 32]).expect("any length");
    mac.update(b"header.claims");
    let mut signature = mac.finalize().into_bytes().to_vec();
    assert!(key.verifies(b"header.claims", &signature), "the signature is right before it is forged");
    signature[place] ^= 0x80;
    Box::new(move || key.verifies(b"header.claims", &signature))
}

fn merchant(place: usize) -> Box<dyn Fn() -> bool> {
    let token = *b"0123456789abcdef0123456789abcdef";
    let mut shown = token;
    shown[place] ^= 1;
    let shown = String::from_utf8(shown.to_vec()).expect("still ASCII");
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {shown}\r\n\r\n");
    Box::new(move || {
        let mut conn = Conn::new(Listener::Merchant, 0);
        conn.feed(request.as_bytes(), 0);
        matches!(conn.next(), Next::Request(request) if check_admin(&request.head, &token).is_ok())
    })
}

/// Instructions from the child's stop to its end.
fn count(check: &dyn Fn() -> bool) -> Result<u64, String> {
    // SAFETY: this process has one thread, so the child may use all that was there before.
    let child = unsafe { libc::fork() };
    if child == 0 {
        run_traced(check);
    }
    if child < 0 {
        return Err(format!("no process to trace: {}", std::io::Error::last_os_error()));
    }
    let mut steps = 0;
    loop {
        let mut status = 0;
        // SAFETY: the child is ours, and the status a place of our own.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
            return Err(format!("the child is lost: {}", std::io::Error::last_os_error()));
        }
        if libc::WIFEXITED(status) {
            return match libc::WEXITSTATUS(status) {
                0 => Ok(steps),
                code => Err(format!("the child ended with {code}")),
            };
        }
        if !libc::WIFSTOPPED(status) || steps > STEPS_MAX {
            return Err(format!("the child was lost after {steps} steps (status {status:#x})"));
        }
        steps += 1;
        // SAFETY: the child is stopped and traced by this process.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        if stepped != 0 {
            return Err(format!("the child cannot be stepped: {}", std::io::Error::last_os_error()));
        }
    }
}

/// The child's part: stops itself, checks, ends without anything that the parent's state could change.
fn run_traced(check: &dyn Fn() -> bool) -> ! {
    // SAFETY: asks to be traced by the parent; no pointers are passed.
    let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    if traced != 0 {
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(2) }
    }
    // SAFETY: a signal to this process itself.
    unsafe { libc::raise(libc::SIGSTOP) };
    let taken = std::hint::black_box(check)();
    // SAFETY: ends this process at once, without destructors, which the parent still needs.
    unsafe { libc::_exit(i32::from(taken)) }
}
