//! Replays every corpus, and the seeds that they grew from, without coverage and without libFuzzer.

use std::path::PathBuf;

/// Most files of one corpus, and most bytes of one file: the corpora stay small.
const FILES_MAX: usize = 200;
const BYTES_MAX: usize = 16 << 10;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&dir).expect("every target has a corpus");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("readable")))
        .collect();
    files.sort();
    files
}

fn replay(target: &str, check: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) {
    seeds().iter().for_each(|seed| check(seed));
    let files = corpus(target);
    assert!((seeds().len()..=FILES_MAX).contains(&files.len()), "{target}: {} files", files.len());
    for (path, bytes) in &files {
        assert!(bytes.len() <= BYTES_MAX, "{} is large", path.display());
        // What fails is named, whatever it fails with.
        println!("{}", path.display());
        check(bytes);
    }
}

#[test]
fn batch() {
    replay("batch", stampede_fuzz::batch::check, stampede_fuzz::batch::seeds);
}

#[test]
fn conn() {
    replay("conn", stampede_fuzz::conn::check, stampede_fuzz::conn::seeds);
}

#[test]
fn json() {
    replay("json", stampede_fuzz::json::check, stampede_fuzz::json::seeds);
}

#[test]
fn seal() {
    replay("seal", stampede_fuzz::seal::check, stampede_fuzz::seal::seeds);
}

#[test]
fn log() {
    replay("log", stampede_fuzz::log::check, stampede_fuzz::log::seeds);
}

#[test]
fn snapshot() {
    replay("snapshot", stampede_fuzz::snapshot::check, stampede_fuzz::snapshot::seeds);
}
