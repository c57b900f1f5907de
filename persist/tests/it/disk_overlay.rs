//! A data directory on a real overlay: as durable as its upper layer (I17).
//!
//! Mounts need a mount namespace of their own: the test starts itself again in one, and says
//! aloud what a machine does not allow.

use std::path::Path;
use std::process::Command;

use stampede_persist::disk::Disk as _;
use stampede_persist::disk::real::RealDisk;
use stampede_testkit::{Missing, Need, skip};

/// Set in the process that finds everything mounted.
const PLACE: &str = "STAMPEDE_TEST_OVERLAYS";

/// Mounts an overlay upon a tmpfs, and one upon that; one upon the place itself, if that can carry one.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate / || exit 77
cd "$1"
mkdir low mem in-memory on-disk up work nested
mount -t tmpfs none mem || exit 77
mkdir mem/up mem/work mem/up2 mem/work2
mount -t overlay overlay -o "lowerdir=$1/low,upperdir=$1/mem/up,workdir=$1/mem/work" in-memory || exit 77
mount -t overlay overlay -o "lowerdir=$1/low,upperdir=$1/up,workdir=$1/work" on-disk || rmdir on-disk
mkdir -p in-memory/a/b
exec "$2" --exact disk_overlay::an_overlay_upon_memory_is_no_disk --nocapture
"#;

fn check(place: &Path) {
    let volatile = |name: &str| RealDisk.is_volatile(&place.join(name)).unwrap();
    assert!(volatile("mem"), "a tmpfs");
    assert!(volatile("in-memory") && volatile("in-memory/a/b"), "an overlay upon a tmpfs");
    if place.join("on-disk").is_dir() {
        assert_eq!(volatile("on-disk"), volatile("low"), "an overlay upon what the place lies on");
    }
}

#[test]
fn an_overlay_upon_memory_is_no_disk() {
    if let Some(place) = std::env::var_os(PLACE) {
        check(Path::new(&place));
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("with a space");
    std::fs::create_dir(&place).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", SCRIPT, "sh"]).arg(&place).arg(std::env::current_exe().unwrap());
    let output = match unshare.env(PLACE, &place).output() {
        Err(error) => return skip(&Missing::new(Need::Mounts, format!("unshare: {error}"))),
        Ok(output) => output,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let not_allowed = output.status.code() == Some(77) || said.contains("unshare failed");
    if not_allowed {
        return skip(&Missing::new(Need::Mounts, said.trim()));
    }
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{said}");
}
