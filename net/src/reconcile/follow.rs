//! The replica of the log, brought to an LSN, with patience for what is not written yet.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stampede_core::types::Lsn;
use stampede_persist::log::control::Control;
use stampede_persist::log::mirror::{Advance, Mirror, MirrorError};
use stampede_persist::log::replica::Replica;

use super::options::LOOK_EVERY;
use super::trouble::Trouble;

/// The replica and where it comes from.
pub struct Follower {
    dir: PathBuf,
    mirror: Mirror<'static>,
}

impl Follower {
    /// At the oldest place that the data directory allows.
    ///
    /// # Errors
    /// [`Trouble`]: the directory holds no log, or one that cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Trouble> {
        let mirror = Mirror::open(dir).map_err(trouble)?;
        Ok(Self { dir: dir.to_owned(), mirror })
    }

    /// The books and orders at [`Self::lsn`].
    pub fn replica(&self) -> &Replica {
        self.mirror.replica()
    }

    /// The last fact in the replica.
    pub fn lsn(&self) -> Lsn {
        self.mirror.lsn()
    }

    /// What the control file said at the beginning.
    pub fn control(&self) -> &Control {
        self.mirror.control()
    }

    /// Goes on to exactly this LSN, or stays if it is there or beyond. Waits for facts that are
    /// not in the files yet, for so long.
    ///
    /// # Errors
    /// [`Trouble`]: they do not come, or the log is wrong.
    pub fn go_to(
        &mut self,
        to: Lsn,
        patience: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Trouble> {
        let mut deadline = None;
        loop {
            match self.mirror.advance(to).map_err(trouble)? {
                Advance::There => return Ok(()),
                Advance::More => {
                    deadline = None;
                    progress(&format!("reading the log: LSN {} of {to}", self.lsn()));
                }
                Advance::End if Instant::now() < *deadline.get_or_insert(Instant::now() + patience) => {
                    std::thread::sleep(LOOK_EVERY / 10);
                }
                Advance::End => {
                    self.mirror.judge_end().map_err(trouble)?;
                    return Err(Trouble::Unable(format!(
                        "the log in {} ends at LSN {}, LSN {to} is not in it; is it the data directory \
                         of this engine?",
                        self.dir.display(),
                        self.lsn()
                    )));
                }
            }
        }
    }
}

fn trouble(error: MirrorError) -> Trouble {
    match error {
        MirrorError::Open(error) => Trouble::Unable(error.to_string()),
        MirrorError::Trimmed => Trouble::Trimmed,
        MirrorError::Wrong(wrong) => Trouble::LogWrong(wrong.to_string()),
    }
}
