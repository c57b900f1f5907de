//! The files of a data directory.
//!
//! ```text
//! DIR/LOCK                     held by the running engine, with its process id
//! DIR/control                  how far the log is durable (see `control`)
//! DIR/log/0000000000000001.seg segments, numbered from 1 (see `segment`)
//! DIR/snap/00000000000000001234.snap   snapshots, named by their LSN (see `snapshot`)
//! DIR/torn/                    copies of tails that recovery cut off
//! ```
//!
//! Names only: no file is touched here. Next: [`super::dir`].

use std::path::{Path, PathBuf};

use stampede_core::types::Lsn;

/// The lock file's name.
pub const LOCK_NAME: &str = "LOCK";
/// The suffix of a file that is being made; leftovers are removed at a start.
pub const TEMP_SUFFIX: &str = ".tmp";
const SEGMENT_SUFFIX: &str = ".seg";
const SNAPSHOT_SUFFIX: &str = ".snap";

/// The directory of segments.
pub fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}
/// The directory of snapshots.
pub fn snapshot_dir(dir: &Path) -> PathBuf {
    dir.join("snap")
}
/// The directory of tails that were cut off.
pub fn torn_dir(dir: &Path) -> PathBuf {
    dir.join("torn")
}
/// The file of a segment.
pub fn segment_file(dir: &Path, number: u64) -> PathBuf {
    log_dir(dir).join(format!("{number:016}{SEGMENT_SUFFIX}"))
}
/// The file of a snapshot.
pub fn snapshot_file(dir: &Path, lsn: Lsn) -> PathBuf {
    snapshot_dir(dir).join(format!("{:020}{SNAPSHOT_SUFFIX}", lsn.0))
}
/// The number in a segment's file name; `None` for other names.
pub fn segment_number(name: &str) -> Option<u64> {
    number_in(name, SEGMENT_SUFFIX, 16).filter(|number| *number > 0)
}
/// The LSN in a snapshot's file name; `None` for other names.
pub fn snapshot_lsn(name: &str) -> Option<Lsn> {
    number_in(name, SNAPSHOT_SUFFIX, 20).map(Lsn)
}

fn number_in(name: &str, suffix: &str, digits: usize) -> Option<u64> {
    let stem = name.strip_suffix(suffix)?;
    let plain = stem.len() == digits && stem.bytes().all(|byte| byte.is_ascii_digit());
    if plain { stem.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(segment_number(&name(segment_file(Path::new("d"), 42))), Some(42));
        assert_eq!(snapshot_lsn(&name(snapshot_file(Path::new("d"), Lsn(7)))), Some(Lsn(7)));
        for odd in ["1.seg", "000000000000000x.seg", "0000000000000000.seg", "0000000000000001.seg.tmp"] {
            assert_eq!(segment_number(odd), None, "{odd}");
        }
        let snapshot = name(snapshot_file(Path::new("d"), Lsn(7)));
        for odd in [&snapshot[1..], &format!("{snapshot}.tmp"), &snapshot.replace('7', "x"), "1.seg"] {
            assert_eq!(snapshot_lsn(odd), None, "{odd}");
        }
    }
}
