//! The faults of a round, one function each, and the list of them all.
//!
//! A fault waits for its moment, strikes, and leaves a running server behind. The round's checker
//! decides afterwards what must hold. Next: `round.rs`.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stampede_loadgen::check::Totals;
use stampede_testkit::{Missing, Need};

use crate::hold::{Held, Quota, threads_of};
use crate::proxy::Cut;
use crate::round::{Reached, Round};
use crate::sale::last;
use crate::server::sink::{Kind, Sink};
use crate::server::{get, wait_for};
use crate::small;
use crate::tracer::Strike;

/// What kind of load a fault needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crowded {
    Plain,
    /// A second load that fills the log, so that segments roll and snapshots are made.
    WithBallast,
    /// A connection for every request.
    WithoutKeepAlive,
    /// Somebody changes the stock, so buyers must not return units meanwhile.
    Edited,
}

/// The result of a fault, or why this machine cannot make it.
type Done = Result<Reached, Missing>;

/// One kind of fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) crowded: Crowded,
    pub(crate) act: fn(&mut Round<'_>) -> Done,
}

const fn plain(name: &'static str, act: fn(&mut Round<'_>) -> Done) -> Fault {
    Fault { name, crowded: Crowded::Plain, act }
}

const fn with(crowded: Crowded, name: &'static str, act: fn(&mut Round<'_>) -> Done) -> Fault {
    Fault { name, crowded, act }
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    plain("kill -9", kill),
    plain("kill -9, and again while it starts", kill_again),
    plain("kill -9, another number of cores", kill_and_change_cores),
    plain("kill -9 before a log write", kill_before_write),
    plain("kill -9 after a sync, nobody told yet", kill_after_sync),
    plain("kill -9 in the control file", kill_in_control),
    with(Crowded::WithBallast, "kill -9 while a segment is made", kill_in_segment),
    with(Crowded::WithBallast, "kill -9 in a snapshot or a trim", kill_in_snapshot),
    plain("kill -9 at the export's send", kill_at_send),
    plain("kill -9 at the export's answer", kill_at_receive),
    plain("kill -9 while replaying", kill_while_replaying),
    plain("EIO on a log write", |round| fail_write(round, "error=EIO")),
    plain("ENOSPC on a log write", |round| fail_write(round, "error=ENOSPC")),
    plain("a log write that writes nothing", |round| fail_write(round, "retval=0")),
    plain("EIO on the control file", fail_control),
    with(Crowded::WithBallast, "EIO while a segment is made", fail_segment),
    with(Crowded::WithBallast, "EIO in a snapshot", fail_snapshot),
    plain("SIGTERM", terminate),
    plain("SIGTERM twice", terminate_twice),
    plain("output: its reader is gone", |round| unheard(round, Kind::DeadReader)),
    plain("output: a full pipe", |round| unheard(round, Kind::FullPipe)),
    plain("output: a full pipe that does not wait", |round| unheard(round, Kind::FullPipeThatDoesNotWait)),
    plain("output: a full disk", |round| unheard(round, Kind::FullDisk)),
    plain("output: a stopped terminal", |round| unheard(round, Kind::StoppedTerminal)),
    plain("output: a closed terminal", |round| unheard(round, Kind::ClosedTerminal)),
    plain("signals that mean nothing", meaningless_signals),
    plain("SIGSTOP of the server", stop_server),
    plain("single threads held", hold_threads),
    plain("a processor quota", quota),
    plain("Postgres: sessions ended", end_sessions),
    plain("Postgres: kill -9", |round| outage(round, true)),
    plain("Postgres: immediate stop", |round| outage(round, false)),
    plain("Postgres: SIGSTOP", freeze),
    plain("Postgres: cut before COMMIT", |round| cut(round, Cut::BeforeCommit)),
    plain("Postgres: cut after COMMIT", |round| cut(round, Cut::AfterCommit)),
    plain("Postgres: cut after COMMIT, and kill -9", cut_and_kill),
    plain("Postgres: a locked row", lock_row),
    plain("Postgres: a wrong password", wrong_password),
    with(Crowded::Edited, "Postgres: a row restocked", restock),
    with(Crowded::Edited, "Postgres: a row withdrawn from", withdraw),
    with(Crowded::Edited, "Postgres: a row deleted", delete),
    with(Crowded::WithoutKeepAlive, "ulimit -n 64 while it runs", few_descriptors),
    plain("ulimit -n 64 at the start", few_descriptors_at_start),
    plain("a small file system, full", small::fill),
];

fn kill(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.kill();
    round.start();
    Ok(Reached::Yes)
}

fn kill_again(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.kill();
    for _ in 0..3 {
        let server = round.world.bed.spawn();
        let pause_us = round.dice.among(0, 150_000);
        last(Duration::from_micros(pause_us));
        server.kill();
        round.outages += 1;
    }
    round.start();
    Ok(Reached::Yes)
}

fn kill_and_change_cores(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.kill();
    round.world.bed.cores = if round.world.bed.cores == "1" { "2" } else { "1" };
    round.start();
    Ok(Reached::Yes)
}

fn strike(thread: &'static str, call: &'static str, effect: &'static str, at: u64) -> Strike {
    Strike { thread, file: None, call, effect, at }
}

const JOURNAL: &str = "stampede-journal";
const SPARES: &str = "stampede-spares";
const SNAPSHOT: &str = "stampede-snapshot";
const EXPORTER: &str = "stampede-exporter";
const KILL: &str = "signal=SIGKILL";

fn kill_before_write(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let at = round.dice.among(1, 30);
    round.die_of(&strike(JOURNAL, "pwrite64", KILL, at))
}

/// After a sync the journal first wakes the cores, by a `write`.
fn kill_after_sync(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let at = round.dice.among(1, 30);
    round.die_of(&strike(JOURNAL, "write", KILL, at))
}

/// It is written when the journal is idle, and when a segment is rolled.
fn kill_in_control(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    let file = Some(round.world.bed.dir.join("control"));
    round.die_of(&Strike { file, ..strike(JOURNAL, "pwrite64", KILL, 1) })
}

fn kill_in_segment(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let call = round.dice.pick(&["fallocate", "pwrite64", "fsync", "rename"]);
    round.die_of(&strike(SPARES, call, KILL, 1))
}

fn kill_in_snapshot(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let call = round.dice.pick(&["pwrite64", "fsync", "rename"]);
    let at = if call == "rename" { round.dice.among(1, 2) } else { round.dice.among(1, 3) };
    round.die_of(&strike(SNAPSHOT, call, KILL, at))
}

fn kill_at_send(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let at = round.dice.among(1, 12);
    round.die_of(&strike(EXPORTER, "sendto", KILL, at))
}

fn kill_at_receive(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let at = round.dice.among(1, 12);
    round.die_of(&strike(EXPORTER, "recvfrom", KILL, at))
}

/// The start dies at its n-th read of a file, at its n-th write, or while it renames.
fn kill_while_replaying(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.kill();
    let mut reached = Reached::Not;
    for _ in 0..2 {
        let (call, most) = round.dice.pick(&[("pread64", 12), ("pwrite64", 3), ("fsync", 2), ("openat", 60)]);
        let at = round.dice.among(1, most);
        let mut words = vec!["strace".to_owned(), "-D".to_owned(), "-f".to_owned()];
        words.extend(["-o".to_owned(), round.world.beside("strace.log").display().to_string()]);
        words.extend(strike("", call, KILL, at).words());
        round.world.bed.wrap = words;
        let mut server = round.world.bed.spawn();
        round.world.bed.wrap.clear();
        let ended = wait_for("the start, or its end", || {
            let is_up = crate::server::get(server.admin, "/healthz").is_some();
            let ended = server.exited().is_some();
            (is_up || ended).then_some(ended)
        });
        if ended {
            let said = server.said();
            if said.contains("strace") {
                round.start();
                return Err(Missing::new(Need::Ptrace, said));
            }
            reached = Reached::Yes;
        } else {
            server.kill();
        }
        round.outages += 1;
    }
    round.start();
    Ok(reached)
}

fn fail_write(round: &mut Round<'_>, effect: &'static str) -> Done {
    round.reach(5);
    let at = round.dice.among(1, 30);
    round.die_of(&strike(JOURNAL, "pwrite64", effect, at))
}

fn fail_control(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    let file = Some(round.world.bed.dir.join("control"));
    round.die_of(&Strike { file, ..strike(JOURNAL, "pwrite64", "error=EIO", 1) })
}

/// A spare that cannot be made is not a failure of the log: it is made again.
fn fail_segment(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let call = round.dice.pick(&["fallocate", "pwrite64", "fsync", "rename"]);
    round.survive(&strike(SPARES, call, "error=EIO", 1))
}

/// A failed snapshot costs only the log space that it would have freed.
fn fail_snapshot(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let call = round.dice.pick(&["fsync", "rename"]);
    round.survive(&strike(SNAPSHOT, call, "error=EIO", 1))
}

fn terminate(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.world.server().terminate();
    let (status, said) = round.gone();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("stopped in order"), "{said}");
    round.start();
    Ok(Reached::Yes)
}

fn terminate_twice(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.world.server().terminate();
    round.world.server().terminate();
    let (status, said) = round.gone();
    assert!(matches!(status.code(), Some(0 | 75)), "{status}\n{said}");
    round.start();
    Ok(Reached::Yes)
}

/// A server whose output nobody reads still sells, warns, and shuts down gracefully.
fn unheard(round: &mut Round<'_>, kind: Kind) -> Done {
    round.reach_somewhere();
    round.kill();
    round.world.bed.sink = Some(Sink::new(kind));
    round.start();
    for _ in 0..20 {
        round.world.server().signal(libc::SIGHUP);
    }
    // Warnings in mid-sale, if there are any left.
    round.world.base.terminate_sessions();
    let lost = || {
        let metrics = get(round.world.server().admin, "/metrics").expect("it answers");
        round.world.server().signal(libc::SIGHUP);
        let sample = metrics.lines().find_map(|line| line.strip_prefix("stampede_log_lines_lost_total "));
        sample.is_some_and(|number| number != "0").then_some(())
    };
    wait_for("lines to be lost", lost);
    round.world.server().terminate();
    let (status, _) = round.gone();
    round.world.bed.sink = None;
    assert_eq!(status.code(), Some(0), "{kind:?}");
    round.start();
    Ok(Reached::Yes)
}

fn meaningless_signals(round: &mut Round<'_>) -> Done {
    for percent in [10, 40, 60] {
        round.reach(percent);
        for number in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGRTMIN()] {
            round.world.server().signal(number);
        }
    }
    Ok(Reached::Yes)
}

fn stop_server(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    let pid = Pid::from_raw(round.world.server().pid().cast_signed()).expect("a process");
    kill_process(pid, Signal::STOP).expect("it runs");
    let length_ms = round.dice.among(100, 1_000);
    last(Duration::from_millis(length_ms));
    kill_process(pid, Signal::CONT).expect("it runs");
    Ok(Reached::Yes)
}

/// Holds threads one by one, each at a random system call, in the middle of the sale.
fn hold_threads(round: &mut Round<'_>) -> Done {
    round.reach(5);
    let pid = round.world.server().pid();
    for _ in 0..4 {
        let threads = threads_of(pid);
        let (thread, name) = &threads[round.dice.among(0, threads.len() as u64 - 1) as usize];
        let boundaries = round.dice.among(0, 12);
        let length_ms = round.dice.among(120, 600);
        let held = Held::keep(*thread, boundaries, Duration::from_millis(length_ms));
        // A thread that has ended meanwhile is skipped.
        let is_there = threads_of(pid).iter().any(|(known, _)| known == thread);
        held.or_else(|why| if is_there { Err(why) } else { Ok(()) })
            .map_err(|why| Missing::new(Need::Ptrace, format!("{name}: {why}")))?;
    }
    Ok(Reached::Yes)
}

/// 20 ms of processor time in 500, for all threads together.
fn quota(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    let quota = Quota::on(round.world.server().pid())?;
    let length_ms = round.dice.among(1_000, 3_000);
    last(Duration::from_millis(length_ms));
    drop(quota);
    Ok(Reached::Yes)
}

fn end_sessions(round: &mut Round<'_>) -> Done {
    let mut ended = 0;
    for percent in [10, 40, 60] {
        round.reach(percent);
        ended += round.world.base.terminate_sessions();
    }
    assert!(ended > 0, "the exporter had no session");
    Ok(Reached::Yes)
}

fn outage(round: &mut Round<'_>, is_killed: bool) -> Done {
    round.reach_somewhere();
    let crowd = &round.crowd;
    round.world.base.outage(is_killed, || wait_for("the end of the load", || crowd.is_over().then_some(())));
    Ok(Reached::Yes)
}

fn freeze(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.world.base.cluster.freeze();
    round.see_it_through();
    round.world.base.cluster.thaw();
    Ok(Reached::Yes)
}

/// Waits until the armed proxy has cut, or the exporter has nothing left to commit.
fn wait_for_cut(round: &mut Round<'_>, cut: Cut) -> Reached {
    round.reach_somewhere();
    let before = round.world.base.proxy.cuts();
    round.world.base.proxy.arm(cut);
    let was_cut = wait_for("a COMMIT", || {
        let was_cut = round.world.base.proxy.cuts() > before;
        (was_cut || round.crowd.is_over()).then_some(was_cut)
    });
    if was_cut { Reached::Yes } else { Reached::Not }
}

fn cut(round: &mut Round<'_>, cut: Cut) -> Done {
    let mut reached = Reached::Not;
    for _ in 0..2 {
        if wait_for_cut(round, cut) == Reached::Yes {
            reached = Reached::Yes;
        }
    }
    round.world.base.proxy.arm(Cut::Nowhere);
    Ok(reached)
}

/// Neither the exporter nor its next process knows that the rows are in.
fn cut_and_kill(round: &mut Round<'_>) -> Done {
    let reached = wait_for_cut(round, Cut::AfterCommit);
    round.world.base.proxy.arm(Cut::Nowhere);
    round.kill();
    round.start();
    Ok(reached)
}

fn lock_row(round: &mut Round<'_>) -> Done {
    round.reach(10);
    let mut session = round.world.base.session(&round.world.database);
    let lock = format!("BEGIN; SELECT 1 FROM stock WHERE id = {} FOR UPDATE", round.sale.item);
    session.batch_execute(&lock).expect("a lock");
    round.see_it_through();
    session.batch_execute("ROLLBACK").expect("unlocked");
    Ok(Reached::Yes)
}

fn wrong_password(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.world.base.lock_out(true);
    round.see_it_through();
    round.world.base.lock_out(false);
    Ok(Reached::Yes)
}

/// Waits until the row is in Postgres, changes it, and waits until the shop sees the change;
/// returns whether anything was left to sell then.
fn edit(round: &mut Round<'_>, units: i64) -> bool {
    let item = round.sale.item;
    round.reach(10);
    let row = format!("SELECT count(*) FROM stock WHERE id = {item}");
    wait_for("the stock's row", || (round.world.sql(&row) == "1").then_some(()));
    round.world.sql(&format!("UPDATE stock SET count = greatest(count + ({units}), 0) WHERE id = {item}"));
    let merchant = round.world.server().merchant();
    let before = round.granted as i64;
    let totals = wait_for("the shop to see the edit", || {
        let totals = merchant.item(item).ok()?.totals;
        let is_seen = totals.granted == before + units;
        (is_seen || is_void(round, units, &totals)).then_some(totals)
    });
    round.granted = u64::try_from(totals.granted).expect("units were granted");
    totals.available > 0
}

/// A withdrawal after everything is sold removes nothing, and the row is restored.
fn is_void(round: &Round<'_>, units: i64, totals: &Totals) -> bool {
    let row = format!("SELECT count, held, sale FROM stock WHERE id = {}", round.sale.item);
    let sold = totals.granted;
    units < 0 && totals.sold == sold && round.world.sql(&row) == format!("0|0|{sold}")
}

fn restock(round: &mut Round<'_>) -> Done {
    let units = round.dice.among(1, 9).cast_signed();
    round.sells_out = edit(round, units);
    Ok(Reached::Yes)
}

fn withdraw(round: &mut Round<'_>) -> Done {
    let units = round.dice.among(1, 9).cast_signed();
    round.sells_out = edit(round, -units);
    Ok(Reached::Yes)
}

/// The row is restored to the engine's numbers, and the item stays paused until somebody
/// resumes it.
fn delete(round: &mut Round<'_>) -> Done {
    let item = round.sale.item;
    round.reach(10);
    let deleted =
        format!("WITH gone AS (DELETE FROM stock WHERE id = {item} RETURNING 1) SELECT count(*) FROM gone");
    wait_for("the stock's row", || (round.world.sql(&deleted) == "1").then_some(()));
    let merchant = round.world.server().merchant();
    wait_for("the item to be paused", || {
        let page = merchant.get(&format!("/admin/items/{item}")).ok()?;
        (page["state"] == "paused").then_some(())
    });
    let alarms = merchant.get("/admin/stats").expect("the shop answers")["alarms"].to_string();
    assert!(alarms.contains(&format!("item {item} ")), "{alarms}");
    let resumed = round.post(&format!("/admin/items/{item}/resume"), "");
    assert!(resumed.starts_with("HTTP/1.1 200"), "{resumed}");
    // Buyers who came while it was paused got that response, and do not come back.
    round.sells_out = false;
    Ok(Reached::Yes)
}

fn few_descriptors(round: &mut Round<'_>) -> Done {
    let limits = |round: &Round<'_>, soft: &str| {
        let pid = round.world.server().pid().to_string();
        let mut command = std::process::Command::new("prlimit");
        let output = command.args(["--pid", &pid, &format!("--nofile={soft}:")]).output();
        let output = output.expect("util-linux is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    round.reach(10);
    let soft =
        std::fs::read_to_string(format!("/proc/{}/limits", round.world.server().pid())).expect("it runs");
    let soft = soft.lines().find(|line| line.starts_with("Max open files")).expect("there is such a line");
    let soft = soft.split_whitespace().nth(3).expect("a limit").to_owned();
    limits(round, "64");
    let length_ms = round.dice.among(200, 1_500);
    last(Duration::from_millis(length_ms));
    limits(round, &soft);
    Ok(Reached::Yes)
}

/// The start is refused clearly: there would be room for hardly any connection.
fn few_descriptors_at_start(round: &mut Round<'_>) -> Done {
    round.reach_somewhere();
    round.kill();
    round.world.bed.wrap = ["prlimit", "--nofile=64:64"].map(str::to_owned).to_vec();
    let (code, said) = round.world.bed.start_refused();
    round.world.bed.wrap.clear();
    round.start();
    assert!(code.is_some_and(|code| code != 0), "it took 64 descriptors for enough:\n{said}");
    assert!(said.contains("64 files may be open"), "{said}");
    Ok(Reached::Yes)
}
