//! A disk whose power can be cut: ext4 in a file of its own, mounted through a loop device.
//!
//! The cut is the file system's own shutdown without a flush of its journal (`xfs_io -x -c shutdown`, the
//! call by which file systems are tested): what was not synced is gone, what was synced is there,
//! and the next mount recovers the journal as after a real power cut. It needs root, loop devices,
//! e2fsprogs and xfsprogs; where they are missing the error says so.
//!
//! A warden unmounts it when this process ends, in whatever way. Next: [`crate::redis`] and
//! [`crate::postgres`], whose servers can be made on it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::warden::{random, tail};
use crate::{ClusterError, system};

/// Waits for the end of its input, then until the servers on the disk have been cleared away by their
/// own wardens, then takes the mount away.
const WARDEN: &str = r#"
cat > /dev/null
n=0
while ls "$1/disk" 2> /dev/null | grep -q '^stampede-' && [ $n -lt 100 ]; do
    sleep 0.1
    n=$((n + 1))
done
umount -l "$1/disk" 2> /dev/null
rm -rf "$1"
"#;

/// The disk. Dropping it unmounts it and removes its file; drop the servers on it first.
#[derive(Debug)]
pub struct Image {
    dir: PathBuf,
    warden: Child,
}

impl Image {
    /// Makes one of `bytes` bytes (sparse) and mounts it.
    ///
    /// # Errors
    /// [`ClusterError`] with the reason why this machine cannot; nothing is left behind.
    pub fn new(bytes: u64) -> Result<Self, ClusterError> {
        let root = std::env::temp_dir().canonicalize();
        let root = root.map_err(|source| system("finding the temporary directory", source))?;
        let dir = root.join(format!("stampede-disk-{:08x}", random() as u32));
        // A server that runs as another user has to get through.
        let made = DirBuilder::new().mode(0o711).create(&dir).and_then(|()| fs::create_dir(dir.join("disk")));
        made.map_err(|source| system("making a temporary directory", source))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WARDEN, "stampede-warden"]).arg(&dir).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let warden = command.spawn().map_err(|source| system("starting /bin/sh", source));
        let warden = warden.inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        let image = Self { dir, warden };
        let file = File::create(image.file()).and_then(|file| file.set_len(bytes));
        file.map_err(|source| system("making the file of a disk", source))?;
        let mut make = Command::new("mkfs.ext4");
        // No lazy work that would go on in the background.
        make.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        run(make.arg(image.file()), "mkfs.ext4")?;
        image.mount()?;
        fs::set_permissions(image.path(), Permissions::from_mode(0o711))
            .map_err(|source| system("opening a disk to others", source))?;
        Ok(image)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Makes everything on it durable: what a server wrote long before a sale.
    ///
    /// # Errors
    /// [`ClusterError::System`].
    pub fn sync(&self) -> Result<(), ClusterError> {
        let synced = File::open(self.path()).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        synced.map_err(|source| system("syncing a disk", source))
    }

    /// Cuts the power: from now on nothing on it can be read or written, and what was not synced is gone.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] with the reason why this machine cannot.
    pub fn cut(&self) -> Result<(), ClusterError> {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()), "xfs_io")
    }

    /// Gives the power back: mounts what was left. Whoever still has files open there keeps them, dead.
    ///
    /// It is a copy of the disk that is mounted: a mount namespace that somebody made meanwhile has a mount of
    /// its own, which keeps the file system of the old one in the kernel, shut down as it is.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn mount_again(&self) -> Result<(), ClusterError> {
        run(Command::new("umount").arg("-l").arg(self.path()), "umount")?;
        let copy = self.dir.join("copy");
        run(Command::new("cp").arg("--sparse=always").arg(self.file()).arg(&copy), "cp")?;
        fs::rename(&copy, self.file()).map_err(|source| system("taking the copy of a disk", source))?;
        self.mount()
    }

    fn mount(&self) -> Result<(), ClusterError> {
        let mut command = Command::new("mount");
        run(command.args(["-t", "ext4", "-o", "loop"]).arg(self.file()).arg(self.path()), "mount")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("file")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        drop(self.warden.wait());
    }
}

fn run(command: &mut Command, program: &'static str) -> Result<(), ClusterError> {
    let sbin: &Path = Path::new("/usr/sbin:/sbin");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{}", sbin.display())).stdin(Stdio::null());
    let output = command.output().map_err(|source| system(program, source))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Failed { program, output: tail(&output.stderr) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::{Missing, Need, skip};

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let image = match Image::new(64 << 20) {
            Ok(image) => image,
            // What this machine cannot do is said, and is red where it must be there.
            Err(error) => return skip(&Missing::new(Need::FileSystems, error)),
        };
        let (dir, root) = (image.dir.clone(), image.path());
        let mut synced = File::create(root.join("synced")).expect("a file");
        synced.write_all(b"kept").and_then(|()| synced.sync_all()).expect("written");
        image.sync().expect("synced");
        fs::write(root.join("written"), b"lost").expect("written");
        drop(synced);
        // Somebody with mounts of their own, as a test in a sandbox is.
        let mut elsewhere = Command::new("unshare");
        elsewhere
            .args(["--mount", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut elsewhere = elsewhere.spawn().expect("unshare");
        elsewhere.stdout.as_mut().expect("asked for").read_exact(&mut [0]).expect("it is there");
        image.cut().expect("cut");
        assert!(fs::write(root.join("more"), b"x").is_err(), "the power is off");
        image.mount_again().expect("mounted");
        assert_eq!(fs::read(root.join("synced")).expect("it is there"), b"kept");
        assert!(!root.join("written").exists(), "what was not synced is gone");
        drop(image);
        assert!(!dir.exists());
        drop(elsewhere.stdin.take());
        assert!(elsewhere.wait().expect("it ends").success());
    }
}
