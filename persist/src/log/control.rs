//! The control file: a small file beside the log with what the log cannot prove itself.
//!
//! That is: how far the log was durable when nothing was written after it, where it
//! begins, and whose it is. It must never claim more than is durable. It has two slots
//! of one sector; the newer valid one counts, and the other is overwritten next, so a
//! torn write loses nothing. docs/WAL_FORMAT.md draws it. Next: [`super::recovery`],
//! which relies on it.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use stampede_core::types::{HashSecret, Lsn};

use super::block::{ChainHash, FORMAT_VERSION, FORMAT_VERSION_MIN};
use super::identity::LogId;
use crate::disk::buffer::AlignedBuffer;
use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES, remove_if_there};

/// Its name in the data directory.
pub const CONTROL_NAME: &str = "control";
/// Its name while it is being made.
const CONTROL_TEMP: &str = "control.tmp";
const MAGIC: [u8; 8] = *b"STAMPCTL";
const SLOT_BYTES: usize = SECTOR_BYTES;
/// Bytes of a slot in use; the checksum follows them.
const USED_BYTES: usize = 204;

/// What the control file says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Grows by one with each rewrite; the higher slot counts.
    pub generation: u64,
    /// The identity of the log.
    pub log_id: LogId,
    /// Grows by one with each start.
    pub epoch: u64,
    /// A durable LSN; later ones may be durable, too.
    pub durable_lsn: Lsn,
    /// The first segment of the log; lower ones are leftovers of trimming.
    pub first_segment: u64,
    /// The LSN of its first fact.
    pub first_lsn: Lsn,
    /// The hash that its first block names as the one before it.
    pub first_chain: ChainHash,
    /// The last segment that a block was or will be written to; 0 = none yet.
    pub last_segment: u64,
    /// The LSN of the newest durable snapshot; 0 = none.
    pub snapshot_lsn: Lsn,
    /// The size of every segment of this log.
    pub segment_bytes: u64,
    /// The secret under which snapshots hash buyers and keys.
    pub hash_secret: [u8; 16],
    /// The identity of the database that it exports to; `None` until one was attached.
    pub database: Option<[u8; 16]>,
    /// Whether any start was told to export. Later starts cannot change it: a fact may not be trimmed
    /// before the database has it (I11). Only [`Control::detach`] resets it.
    pub exports: bool,
    /// Whether the engine shut down cleanly: the log then ends exactly at `durable_lsn`.
    pub clean: bool,
}

/// For which database a log keeps the facts that are not exported yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptFor {
    /// The database with this identity.
    Database([u8; 16]),
    /// A database that a start was told to export to and that no start has reached yet.
    FirstDatabase,
}

impl std::fmt::Display for KeptFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(identity) => {
                f.write_str("database ")?;
                identity.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::FirstDatabase => f.write_str("a database that was never reached"),
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("generation", &self.generation)
            .field("log_id", &self.log_id)
            .field("epoch", &self.epoch)
            .field("durable_lsn", &self.durable_lsn.0)
            .field("first_segment", &self.first_segment)
            .field("first_lsn", &self.first_lsn.0)
            .field("last_segment", &self.last_segment)
            .field("snapshot_lsn", &self.snapshot_lsn.0)
            .field("segment_bytes", &self.segment_bytes)
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// The control of a new log.
    pub fn new(log_id: LogId, hash_secret: HashSecret, segment_bytes: u64) -> Self {
        Self {
            generation: 1,
            log_id,
            epoch: 0,
            durable_lsn: Lsn::ZERO,
            first_segment: 1,
            first_lsn: Lsn(1),
            first_chain: log_id.genesis(),
            last_segment: 0,
            snapshot_lsn: Lsn::ZERO,
            segment_bytes,
            hash_secret: hash_secret.0,
            database: None,
            exports: false,
            clean: true,
        }
    }

    /// For which database the log keeps facts; `None` = for none, they may be trimmed once a snapshot
    /// covers them. Trimming depends on this, never on the settings of one start.
    pub const fn keeps_facts_for(&self) -> Option<KeptFor> {
        match self.database {
            Some(database) => Some(KeptFor::Database(database)),
            None if self.exports => Some(KeptFor::FirstDatabase),
            None => None,
        }
    }

    /// From now on the log belongs to no database.
    pub(super) const fn detach(&mut self) {
        (self.database, self.exports) = (None, false);
    }

    fn encode(&self, slot: &mut [u8]) {
        slot.fill(0);
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        slot[10] = u8::from(self.clean);
        slot[11] = u8::from(self.database.is_some());
        slot[12] = u8::from(self.exports);
        slot[16..24].copy_from_slice(&self.generation.to_le_bytes());
        slot[24..40].copy_from_slice(&self.log_id.0);
        slot[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        slot[48..56].copy_from_slice(&self.durable_lsn.0.to_le_bytes());
        slot[56..64].copy_from_slice(&self.first_segment.to_le_bytes());
        slot[64..72].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        slot[72..104].copy_from_slice(&self.first_chain);
        slot[104..112].copy_from_slice(&self.last_segment.to_le_bytes());
        slot[112..120].copy_from_slice(&self.snapshot_lsn.0.to_le_bytes());
        slot[120..128].copy_from_slice(&self.segment_bytes.to_le_bytes());
        slot[128..144].copy_from_slice(&self.hash_secret);
        slot[144..160].copy_from_slice(&self.database.unwrap_or_default());
        let crc = crc32c::crc32c(&slot[..USED_BYTES]);
        slot[USED_BYTES..USED_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(slot: &[u8]) -> Result<Self, SlotError> {
        if slot[..8] != MAGIC {
            return Err(SlotError::Damaged);
        }
        let u64_at = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
        let crc = u32::from_le_bytes(slot[USED_BYTES..USED_BYTES + 4].try_into().expect("four bytes"));
        if crc != crc32c::crc32c(&slot[..USED_BYTES]) {
            return Err(SlotError::Damaged);
        }
        let format = u16::from_le_bytes([slot[8], slot[9]]);
        if format > FORMAT_VERSION {
            return Err(SlotError::Newer(format));
        }
        if format < FORMAT_VERSION_MIN {
            return Err(SlotError::Older(format));
        }
        let database = (slot[11] == 1).then(|| slot[144..160].try_into().expect("sixteen bytes"));
        Ok(Self {
            generation: u64_at(16),
            log_id: LogId(slot[24..40].try_into().expect("sixteen bytes")),
            epoch: u64_at(40),
            durable_lsn: Lsn(u64_at(48)),
            first_segment: u64_at(56),
            first_lsn: Lsn(u64_at(64)),
            first_chain: slot[72..104].try_into().expect("thirty-two bytes"),
            last_segment: u64_at(104),
            snapshot_lsn: Lsn(u64_at(112)),
            segment_bytes: u64_at(120),
            hash_secret: slot[128..144].try_into().expect("sixteen bytes"),
            database,
            exports: slot[12] == 1,
            clean: slot[10] == 1,
        })
    }
}

enum SlotError {
    Damaged,
    Newer(u16),
    Older(u16),
}

/// Why the control file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Neither slot is valid.
    #[error(
        "the control file {} is damaged in both slots; put back a copy of the whole data directory, \
         or rebuild from Postgres into a new one",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "{} has format version {found}; this program reads up to {FORMAT_VERSION}: start the newer \
         program that wrote it",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
    },
    /// An older version wrote it, which this program does not read any more.
    #[error(
        "{} has format version {found}; this program reads version {FORMAT_VERSION_MIN} and newer: let the \
         program that wrote it export everything to Postgres, and begin a new directory",
        file.display()
    )]
    Older {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The file system refused.
    #[error("cannot access {}: {source}; check the disk and the directory's owner", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Reads the control file of a data directory; `None` when there is none. Changes nothing.
///
/// # Errors
/// See [`ControlError`].
pub fn read_control(disk: &dyn Disk, dir: &Path) -> Result<Option<Control>, ControlError> {
    let file = dir.join(CONTROL_NAME);
    let wrap = |source| ControlError::Io { file: file.clone(), source };
    let open = match disk.open(&file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(wrap)?,
    };
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    open.read(0, &mut bytes).map_err(wrap)?;
    let slots = [Control::decode(&bytes[..SLOT_BYTES]), Control::decode(&bytes[SLOT_BYTES..])];
    for slot in &slots {
        match *slot {
            Err(SlotError::Newer(found)) => return Err(ControlError::Newer { file, found }),
            Err(SlotError::Older(found)) => return Err(ControlError::Older { file, found }),
            Ok(_) | Err(SlotError::Damaged) => {}
        }
    }
    let newest = slots.into_iter().flatten().max_by_key(|control| control.generation);
    newest.map(Some).ok_or(ControlError::Damaged { file })
}

/// Makes the control file of a new data directory: written under a temporary name, synced and
/// renamed, and the directory synced.
///
/// # Errors
/// What the file system answers.
pub fn create_control(disk: &dyn Disk, dir: &Path, control: &Control) -> io::Result<()> {
    let (temp, name) = (dir.join(CONTROL_TEMP), dir.join(CONTROL_NAME));
    remove_if_there(disk, &temp)?;
    let mut file = disk.open(&temp, OpenMode::CreateNew)?;
    file.zero_fill(2 * SLOT_BYTES as u64)?;
    let mut slot = vec![0; SLOT_BYTES];
    control.encode(&mut slot);
    file.write((control.generation % 2) * SLOT_BYTES as u64, &slot)?;
    file.sync()?;
    disk.rename(&temp, &name)?;
    disk.sync_dir(dir)
}

/// The control file of the running engine; shared by the journal and the trimmer.
pub struct ControlFile {
    inner: Mutex<Inner>,
}

struct Inner {
    file: Box<dyn DiskFile>,
    current: Control,
    slot: AlignedBuffer,
    failed: bool,
}

impl ControlFile {
    /// Opens it for writing; `current` is what [`read_control`] gave.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn open(disk: &dyn Disk, dir: &Path, current: Control) -> io::Result<Self> {
        let file = disk.open(&dir.join(CONTROL_NAME), OpenMode::ReadWrite)?;
        let inner = Inner { file, current, slot: AlignedBuffer::new(SLOT_BYTES), failed: false };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// What it says now.
    pub fn current(&self) -> Control {
        self.inner.lock().current
    }

    /// Changes it and returns when the change is durable. Takes about one sync.
    ///
    /// # Errors
    /// What the file system answers; after that every call fails without touching the file.
    pub fn update(&self, change: impl FnOnce(&mut Control)) -> io::Result<()> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.failed {
            return Err(io::Error::other("an earlier write of the control file failed"));
        }
        let mut next = inner.current;
        change(&mut next);
        next.generation = inner.current.generation + 1;
        next.encode(inner.slot.as_mut_slice());
        let slot = next.generation % 2;
        let offset = slot * SLOT_BYTES as u64;
        inner.failed = true;
        inner.file.write_durable(offset, inner.slot.as_slice())?;
        inner.failed = false;
        inner.current = next;
        Ok(())
    }
}

impl std::fmt::Debug for ControlFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.current().fmt(f)
    }
}
