//! End to end: starts that must be refused, and shutdowns that are requested twice.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stampede_testkit::{ClusterOptions, PostgresCluster};

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, contents, free_address, wait_for};

fn sell_three(bed: &mut Bed) {
    let server = bed.start();
    let body = item(10, 1, "on_order", 0);
    Talk::with(&server).check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}               -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $a
        bob   POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $b
        carol POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $c
        "#
    ));
    server.kill();
}

/// Starts a server on the bed; it must refuse in one line that contains all of `words`, and
/// leave the directory unchanged.
fn check_refused(bed: &Bed, words: &[&str]) {
    let before = log_files(bed);
    let (code, said) = bed.start_refused();
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("stampede: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    words.iter().for_each(|word| assert!(lines[0].contains(word), "no `{word}` in {said}"));
    assert!(before == log_files(bed), "the directory was changed");
}

#[test]
fn e2e_a_second_server_on_one_directory_is_refused() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut second = Bed::new();
    second.dir = bed.dir.clone();
    let (code, said) = second.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{}", server.pid())) && said.contains("stampede: "), "{said}");
    // The first one has noticed nothing.
    assert_eq!(Talk::with(&server).say("shop GET /readyz").status, 200);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(second.start().stop(), Some(0), "the lock ends with the process");
}

#[test]
fn e2e_a_taken_port_is_refused() {
    let taken = free_address();
    let _holder = TcpListener::bind(taken).unwrap();
    let bed = Bed::new().listen(taken);
    let (code, said) = bed.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("stampede: cannot listen on {taken} for the buyers' API")), "{said}");
}

#[test]
fn e2e_a_data_directory_that_is_unusable_is_refused() {
    let mut bed = Bed::new();
    let file = bed.beside("file");
    fs::write(&file, "not a directory").unwrap();
    bed.dir = file.join("data");
    check_refused(&bed, &["file"]);
    let sealed = bed.beside("sealed");
    fs::create_dir(&sealed).unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere; then there is nothing to refuse.
    if fs::write(sealed.join("probe"), "").is_err() {
        bed.dir = sealed.join("data");
        check_refused(&bed, &["sealed"]);
    }
}

#[test]
fn e2e_a_damaged_log_is_refused_with_file_and_offset() {
    let mut bed = Bed::new();
    sell_three(&mut bed);
    let segment = largest_file(&bed);
    let whole = fs::read(&segment).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    // The first order: later blocks say that it was durable.
    flip(&segment, &whole, SECTOR_BYTES + RECORD_AT);
    check_refused(&bed, &[name, "4096"]);
    fs::write(&segment, &whole).unwrap();
    assert_eq!(bed.start().stop(), Some(0));
    // The very last block: only the control file says that it was.
    let whole = fs::read(&segment).unwrap();
    let last = whole.iter().rposition(|&byte| byte != 0).unwrap();
    flip(&segment, &whole, last);
    check_refused(&bed, &[name, &(last / SECTOR_BYTES * SECTOR_BYTES).to_string()]);
    fs::write(&segment, &whole[..6_000]).unwrap();
    check_refused(&bed, &[name]);
    let mut foreign = Bed::new();
    sell_three(&mut foreign);
    fs::copy(largest_file(&foreign), &segment).unwrap();
    check_refused(&bed, &[name]);
    fs::write(&segment, &whole).unwrap();
    let server = bed.start();
    Talk::with(&server).check("shop GET /admin/items/1 -> 200 open 10=7+0+3");
}

/// Everything in the data directory except the lock, which names its last holder.
fn log_files(bed: &Bed) -> Vec<(PathBuf, Vec<u8>)> {
    let files = if bed.dir.exists() { contents(&bed.dir) } else { Vec::new() };
    files.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

/// Where the first record of a block is, and the minimum length of a block.
const RECORD_AT: usize = 128;
const SECTOR_BYTES: usize = 4_096;

fn flip(file: &Path, whole: &[u8], at: usize) {
    let mut flipped = whole.to_owned();
    flipped[at] ^= 0x10;
    fs::write(file, flipped).unwrap();
}

/// The segment with the orders: the first of the log.
fn largest_file(bed: &Bed) -> PathBuf {
    let files = log_files(bed);
    let used = |content: &[u8]| content.iter().any(|&byte| byte != 0);
    let segments = files.into_iter().filter(|(_, content)| content.len() >= 4 << 20 && used(content));
    let mut segments: Vec<PathBuf> = segments.map(|(path, _)| path).collect();
    segments.sort();
    segments.remove(0)
}

#[test]
fn e2e_a_second_signal_ends_it_at_once() {
    let mut bed = Bed::new().set("shutdown.deadline_ms", "600000");
    let mut server = bed.start();
    // Half a request prevents a clean shutdown.
    let mut door = Http::to(server.public);
    door.send("GET /v1/ti");
    wait_for("the connection", || {
        let stats = Talk::with(&server).say("shop GET /admin/stats").json();
        let cores = stats["cores"].as_array().unwrap();
        let open: u64 = cores.iter().map(|core| core["connections_open"].as_u64().unwrap()).sum();
        (open >= 2).then_some(())
    });
    server.terminate();
    wait_for("the first signal", || server.said().contains("stopping").then_some(()));
    server.terminate();
    assert_eq!(server.wait_for_exit().code(), Some(75), "{}", server.said());
    drop(server);
    assert_eq!(bed.start().stop(), Some(0));
}

#[test]
fn e2e_nobody_delays_the_shutdown_beyond_its_deadline() {
    const DEADLINE: Duration = Duration::from_millis(1_500);
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let bed = Bed::new().set("shutdown.deadline_ms", "1500");
    let mut bed = bed.flag("--postgres", &cluster.url());
    let mut server = bed.start();
    let body = item(10, 1, "on_order", 0);
    let mut talk = Talk::with(&server);
    talk.check(&format!("shop PUT /admin/items/1 {body} -> 201 open 10=10+0+0"));
    // Half a request, a client that stays, and a database that does not respond.
    let mut half = Http::to(server.public);
    half.send("GET /v1/ti");
    cluster.freeze();
    talk.check(r#"alice POST /v1/items/1/orders {"quantity":1} -> 201 confirmed x1 $a"#);
    let orders = talk.into_orders();
    let began = Instant::now();
    server.terminate();
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.said());
    let took = began.elapsed();
    cluster.thaw();
    // Twice the time, for a busy machine.
    assert!(took < 2 * DEADLINE, "{took:?}");
    drop(server);
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    talk.check("alice GET /v1/orders/$a -> 200 confirmed x1 $a");
    wait_for("the export", || {
        let rows = cluster.psql("postgres", "SELECT count(*) FROM stock_order").unwrap();
        (rows.trim() == "1").then_some(())
    });
}
