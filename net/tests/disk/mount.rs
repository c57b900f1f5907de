//! Our own file systems: images in a temporary directory, mounted through loop devices,
//! which the kernel frees when the mount is gone.
//!
//! A warden process unmounts them however this process ends. Next: the
//! programs that fill, break and cut them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::server::wait_for;

/// Ends when its standard input does. Unmounts the innermost first.
const WARDEN: &str = r#"
cat > /dev/null
for name in top file base; do
    umount -l "$1/$name" 2> /dev/null
done
rm -rf "$1"
"#;

/// A temporary directory with mount points `top`, `file` and `base`.
pub(crate) struct Place {
    dir: TempDir,
    warden: Child,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("/bin/sh");
        // A process group of its own: Ctrl-C at the terminal is for us, and the warden sees our end.
        command.args(["-c", WARDEN, "warden"]).arg(dir.path()).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let warden = command.spawn().expect("a shell");
        Self { dir, warden }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file system in an image of this size (sparse) in `image`, mounted at `file`.
    ///
    /// # Errors
    /// Why it cannot be made here.
    pub(crate) fn mount_image(&self, kind: Kind, image: &Path, bytes: u64) -> Result<PathBuf, String> {
        let file = File::create(image).map_err(|error| format!("{}: {error}", image.display()))?;
        file.set_len(bytes).map_err(|error| format!("{}: {error}", image.display()))?;
        run(Command::new(kind.maker()).args(kind.options()).arg(image))?;
        self.mount_again(kind, image)
    }

    /// Mounts an image that was mounted before.
    ///
    /// # Errors
    /// What `mount` says.
    pub(crate) fn mount_again(&self, kind: Kind, image: &Path) -> Result<PathBuf, String> {
        let at = self.path("file");
        std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(["-t", kind.name(), "-o", "loop"]).arg(image).arg(&at))?;
        Ok(at)
    }

    /// A file system in memory of this size, mounted at `base`.
    ///
    /// # Errors
    /// Why it cannot be made here.
    pub(crate) fn mount_memory(&self, bytes: u64) -> Result<PathBuf, String> {
        let at = self.path("base");
        std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at))?;
        Ok(at)
    }

    /// Resizes the file system in memory.
    pub(crate) fn resize_memory(&self, bytes: u64) {
        self.try_resize(bytes).expect("it grows");
    }

    /// Shrinks the file system in memory to what is in use.
    pub(crate) fn fill_memory(&self) {
        // Concurrent writes make the first answer too small.
        wait_for("the store to be full", || {
            let stat = rustix::fs::statvfs(self.path("base")).expect("a mount");
            self.try_resize((stat.f_blocks - stat.f_bfree) * stat.f_frsize).ok()
        });
    }

    fn try_resize(&self, bytes: u64) -> Result<(), String> {
        let option = format!("remount,size={bytes}");
        run(Command::new("mount").args(["-o", &option]).arg(self.path("base")))
    }

    /// Unmounts it.
    pub(crate) fn unmount(&self, name: &str) {
        // The kernel closes the files of a process only a moment after its end.
        wait_for("everybody to leave the mount", || run(Command::new("umount").arg(self.path(name))).ok());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let _ended = self.warden.wait();
    }
}

/// A kind of file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    const fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    const fn options(self) -> &'static [&'static str] {
        match self {
            // No deferred work in the background.
            Self::Ext4 => &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            Self::Xfs => &["-q", "-f"],
        }
    }
}

/// Runs a system program.
///
/// # Errors
/// Its error message, or that it is not installed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed without a word");
    Err(format!("{name}: {}", first.trim()))
}
