//! Opens, recovers and starts a data directory, in this order.
//!
//! ```text
//! DataDir::open ──▶ DataDir::recover(rebuild) ──▶ Opened::start(wakers, on_failure) ──▶ Started
//!   lock, identity      reads, judges, replays,       spares, journal's thread
//!                       then repairs, epoch + 1
//! ```
//!
//! Nothing on disk is changed before recovery has decided, except the lock and, in
//! an empty directory, the new identity. See [`super::layout`] for the files,
//! [`super::recovery`] for the decisions.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::types::{HashSecret, Lsn, UnixMillis};

use super::choose_snapshot::choose_snapshot;
use super::control::{Control, ControlFile, create_control, read_control};
pub use super::error::OpenError;
use super::identity::LogId;
use super::index::SegmentIndex;
use super::journal::{Active, Journal, Waker};
use super::layout;
use super::limits::GROUP_BYTES_MAX;
use super::maintenance::Maintenance;
pub use super::options::LogOptions;
use super::queue::FactQueue;
use super::rebuild::Rebuild;
use super::recovery::{Recovered, RecoveryError, recover};
use super::repair::{remove_half_made, repair};
use super::segment::{SegmentReader, create_segment, list_segments};
use super::segment_pool::{PoolLimits, SegmentPool, Spare};
use super::snapshot::{SnapshotError, list_snapshots, read_snapshot};
use super::status::LogStatus;
pub use super::stepped::{DirLock, Stepped};
use super::tail::LogTail;
use super::thread::JournalHandle;
use crate::disk::buffer::AlignedBuffer;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, DiskLock, LockError, OpenMode};

/// What a new log is created with; [`DataDir::open`] draws it at random.
#[derive(Clone, Copy, Debug)]
pub struct NewLog {
    /// The log's identity.
    pub log_id: LogId,
    /// The bytes of its hash secret.
    pub hash_secret: [u8; 16],
}

/// A data directory that this process alone holds.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    control: Control,
    lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for DataDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataDir")
            .field("dir", &self.dir)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl DataDir {
    /// Locks a data directory on the real file system and reads its identity; creates it if it is new.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, options: &LogOptions) -> Result<Self, OpenError> {
        let mut new_log = NewLog { log_id: LogId([0; 16]), hash_secret: [0; 16] };
        let drawn =
            getrandom::fill(&mut new_log.log_id.0).and_then(|()| getrandom::fill(&mut new_log.hash_secret));
        drawn.map_err(|error| OpenError::Io {
            path: "/dev/urandom".into(),
            source: io::Error::other(error),
        })?;
        Self::open_on(Arc::new(RealDisk), dir, options, &new_log)
    }

    /// As [`DataDir::open`], on any disk and with a given identity.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &LogOptions,
        new_log: &NewLog,
    ) -> Result<Self, OpenError> {
        options.check().map_err(OpenError::Options)?;
        let lock = enter(&*disk, dir, options)?;
        let control = match read_control(&*disk, dir)? {
            Some(control) => control,
            None => create_log(&*disk, dir, options, new_log)?,
        };
        Ok(Self { disk, dir: dir.to_owned(), options: options.clone(), control, lock })
    }

    /// The secret under which its snapshots hash buyers and keys.
    pub fn hash_secret(&self) -> HashSecret {
        HashSecret(self.control.hash_secret)
    }
    /// What its control file says.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Checks everything, replays it into `rebuild`, and makes the log ready for writing.
    /// Memory: one block and one chunk. Speed: above a million orders a second.
    ///
    /// # Errors
    /// See [`OpenError`]; `rebuild` may hold a part of the state then and must not be used.
    pub fn recover(self, rebuild: &mut dyn Rebuild) -> Result<Opened, OpenError> {
        let mut warnings = Vec::new();
        let (snapshot_lsn, snapshot_ms) = self.replay_snapshot(rebuild, &mut warnings)?;
        let found = recover(&*self.disk, &self.dir, &self.control, snapshot_lsn, rebuild)?;
        let last = Lsn(found.end.next_lsn.0 - 1);
        rebuild.finish().map_err(|reason| RecoveryError::Refused { lsn: last, reason })?;
        if let Some(torn) = &found.torn {
            warnings.push(format!(
                "{} bytes at byte {} of segment {} were written but never durable; a copy is in {}",
                torn.len,
                torn.offset,
                torn.segment,
                layout::torn_dir(&self.dir).display()
            ));
        }
        let repaired = self.repair(&found);
        let control = repaired.map_err(|source| OpenError::Io { path: self.dir.clone(), source })?;
        let durable = Lsn(found.end.next_lsn.0 - 1);
        let first_lsn = self.control.first_lsn;
        let status = Arc::new(LogStatus::recovered(durable, snapshot_lsn, first_lsn));
        let last_ms = snapshot_ms.max(found.last_ms);
        Ok(Opened { data: self, control: Arc::new(control), found, status, last_ms, warnings })
    }

    /// Replays the newest usable snapshot; returns its LSN and latest time.
    fn replay_snapshot(
        &self,
        rebuild: &mut dyn Rebuild,
        warnings: &mut Vec<String>,
    ) -> Result<(Lsn, UnixMillis), OpenError> {
        let Some(lsn) = choose_snapshot(&*self.disk, &self.dir, &self.control, warnings)? else {
            return Ok((Lsn::ZERO, UnixMillis(0)));
        };
        let log_id = self.control.log_id;
        let header = read_snapshot(&*self.disk, &self.dir, lsn, log_id, &mut |row| rebuild.row(row));
        let header = header.map_err(|error| match error {
            SnapshotError::Refused { reason, .. } => RecoveryError::Refused { lsn, reason }.into(),
            source => OpenError::Snapshot { source, first_lsn: self.control.first_lsn },
        })?;
        Ok((lsn, header.last_ms))
    }

    fn repair(&self, found: &Recovered) -> io::Result<ControlFile> {
        remove_half_made(&*self.disk, &self.dir)?;
        repair(&*self.disk, &self.dir, self.control.log_id, found)?;
        // A killed process may have left directory entries that are not durable. Everything from here
        // on relies on them, and the control file is about to.
        self.disk.sync_dir(&layout::log_dir(&self.dir))?;
        self.disk.sync_dir(&layout::snapshot_dir(&self.dir))?;
        let control = ControlFile::open(&*self.disk, &self.dir, self.control)?;
        control.update(|control| {
            control.epoch += 1;
            control.exports |= self.options.exports;
            control.durable_lsn = Lsn(found.end.next_lsn.0 - 1);
            control.last_segment =
                control.last_segment.max(found.starts.last().map_or(0, |start| start.number));
            control.clean = false;
        })?;
        // Only now: the process that trimmed them may have been killed before its control file was durable,
        // and a power cut would bring the older control file back, which needs them.
        self.remove_trimmed()?;
        Ok(control)
    }

    fn remove_trimmed(&self) -> io::Result<()> {
        let leftovers = list_segments(&*self.disk, &self.dir)?.into_iter();
        leftovers
            .filter(|number| *number < self.control.first_segment)
            .try_for_each(|number| self.disk.remove(&layout::segment_file(&self.dir, number)))
    }
}

/// Creates the directory and its parts, checks its file system, and takes the lock.
fn enter(disk: &dyn Disk, dir: &Path, options: &LogOptions) -> Result<Box<dyn DiskLock>, OpenError> {
    let unwritable = |source| OpenError::Unwritable { dir: dir.to_owned(), source };
    make_dir(disk, dir).map_err(unwritable)?;
    if disk.is_volatile(dir).map_err(unwritable)? && !options.allow_volatile {
        return Err(OpenError::Volatile { dir: dir.to_owned() });
    }
    let lock = disk.lock(&dir.join(layout::LOCK_NAME)).map_err(|error| match error {
        LockError::Held { holder_pid } => OpenError::Locked { dir: dir.to_owned(), holder_pid },
        LockError::Io(source) => unwritable(source),
    })?;
    for part in [layout::log_dir(dir), layout::snapshot_dir(dir), layout::torn_dir(dir)] {
        disk.create_dir(&part).map_err(unwritable)?;
    }
    disk.sync_dir(dir).map_err(unwritable)?;
    Ok(lock)
}

/// Creates a directory and its parents, each durable before the next is created in it.
fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let Some(parent) = parent_of(dir) else { return Ok(()) };
    let (made, parent_is_durable) = match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(disk, parent)?;
            (disk.create_dir(dir)?, true)
        }
        made => made.map(|made| (made, !made))?,
    };
    // Also if it exists: a killed start may have created it, or its parent, without syncing it.
    if made {
        disk.sync_dir(parent)?;
    } else {
        sync_found(disk, parent)?;
    }
    match parent_of(parent) {
        Some(above) if !parent_is_durable => sync_found(disk, above),
        _ => Ok(()),
    }
}

/// Makes the entries durable that an earlier start may have created in a directory.
fn sync_found(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    match disk.sync_dir(dir) {
        // The directory cannot be read or written, or its file system cannot sync directories (`/proc`, some
        // network and user-space ones). Then no start of ours created the entry, or that start reported it.
        Err(error)
            if matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

fn parent_of(dir: &Path) -> Option<&Path> {
    dir.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn create_log(
    disk: &dyn Disk,
    dir: &Path,
    options: &LogOptions,
    new_log: &NewLog,
) -> Result<Control, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let empty =
        list_segments(disk, dir).map_err(io)?.is_empty() && list_snapshots(disk, dir).map_err(io)?.is_empty();
    if !empty {
        return Err(OpenError::NoControl { dir: dir.to_owned() });
    }
    let control = Control::new(new_log.log_id, HashSecret(new_log.hash_secret), options.segment_bytes);
    create_control(disk, dir, &control).map_err(io)?;
    Ok(control)
}

/// A recovered log, not yet written to.
pub struct Opened {
    data: DataDir,
    control: Arc<ControlFile>,
    found: Recovered,
    status: Arc<LogStatus>,
    last_ms: UnixMillis,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("data", &self.data)
            .field("next_lsn", &self.next_lsn().0)
            .finish_non_exhaustive()
    }
}

/// A running log.
#[derive(Debug)]
pub struct Started {
    /// Where facts go in.
    pub queue: Arc<FactQueue>,
    /// How far it has come.
    pub status: Arc<LogStatus>,
    /// Its threads.
    pub journal: JournalHandle,
}

impl Opened {
    /// The content of the control file after this start: identity, epoch, database.
    pub fn control(&self) -> Control {
        self.control.current()
    }
    /// The LSN that the next fact gets.
    pub fn next_lsn(&self) -> Lsn {
        self.found.end.next_lsn
    }
    /// The latest time of any fact: the sale clock must not start before it (I14).
    pub fn last_ms(&self) -> UnixMillis {
        self.last_ms
    }
    /// How many facts were replayed after the snapshot.
    pub fn facts_replayed(&self) -> u64 {
        self.found.facts
    }
    /// The watermarks; the same object that [`Opened::start`] hands out.
    pub fn status(&self) -> Arc<LogStatus> {
        Arc::clone(&self.status)
    }
    /// What the operator should know: a torn tail that was cut, a snapshot that was skipped.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
    /// Its disk and its directory.
    pub(super) fn place(&self) -> (&Arc<dyn Disk>, &Path) {
        (&self.data.disk, &self.data.dir)
    }
    /// A reader of durable facts that begins after this LSN.
    pub fn tail(&self, after: Lsn) -> LogTail {
        let (disk, dir) = (Arc::clone(&self.data.disk), self.data.dir.clone());
        LogTail::new(disk, dir, Arc::clone(&self.control), Arc::clone(&self.status), after)
    }
    /// Records durably which database this log exports to.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn set_database(&self, identity: [u8; 16]) -> io::Result<()> {
        self.control.update(|control| control.database = Some(identity))
    }

    /// Starts the journal's threads. Each waker is called once per durable group. If the log fails,
    /// `on_failure` is called once with the reason: the process must then stop selling and end.
    ///
    /// # Errors
    /// [`OpenError::Io`] when segments cannot be made.
    pub fn start(
        self,
        wakers: Vec<Waker>,
        on_failure: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Started, OpenError> {
        let stepped = self.start_stepped(wakers)?;
        let (queue, status) = (Arc::clone(&stepped.queue), Arc::clone(&stepped.status));
        let dir = stepped.maintenance.dir().to_owned();
        let journal = JournalHandle::spawn(stepped, Box::new(on_failure));
        let journal = journal.map_err(|source| OpenError::Io { path: dir, source })?;
        Ok(Started { queue, status, journal })
    }

    /// As [`Opened::start`], without threads: the caller steps the journal and makes the spares.
    ///
    /// # Errors
    /// [`OpenError::Io`] when segments cannot be made.
    pub fn start_stepped(self, wakers: Vec<Waker>) -> Result<Stepped, OpenError> {
        let path = self.data.dir.clone();
        self.assemble(wakers).map_err(|source| OpenError::Io { path, source })
    }

    fn assemble(self, wakers: Vec<Waker>) -> io::Result<Stepped> {
        let Self { data, control, found, status, .. } = self;
        let segment_bytes = data.control.segment_bytes;
        let next_lsn = found.end.next_lsn;
        let index = Arc::new(SegmentIndex::new(found.starts));
        let queue = Arc::new(FactQueue::new(data.options.queue_slots, data.options.queue_reserve, next_lsn));
        let (active, pool) = open_segments(&data, &control, &status, found.end.segment, found.end.offset)?;
        control.update(|control| control.last_segment = active.number)?;
        let pool = Arc::new(pool);
        let maintenance = Arc::new(Maintenance {
            disk: Arc::clone(&data.disk),
            dir: data.dir.clone(),
            options: data.options.clone(),
            status: Arc::clone(&status),
            control: Arc::clone(&control),
            pool: Arc::clone(&pool),
            index: Arc::clone(&index),
            queue: Arc::clone(&queue),
        });
        while maintenance.prepare_spare()? {}
        let journal = Journal {
            log_id: data.control.log_id,
            epoch: control.current().epoch,
            segment_bytes,
            active,
            chain: found.end.chain,
            durable: Lsn(next_lsn.0 - 1),
            buffer: AlignedBuffer::new(GROUP_BYTES_MAX.min(segment_bytes as usize)),
            queue: Arc::clone(&queue),
            status: Arc::clone(&status),
            pool,
            control,
            index,
            wakers,
        };
        journal.judge_room();
        Ok(Stepped { journal, maintenance, queue, status, lock: DirLock::new(data.lock) })
    }
}

/// Opens the segment that the journal continues, and the spare segments that are ready.
fn open_segments(
    data: &DataDir,
    control: &ControlFile,
    status: &Arc<LogStatus>,
    number: u64,
    offset: u64,
) -> io::Result<(Active, SegmentPool)> {
    let (disk, dir) = (&data.disk, &data.dir);
    let segment_bytes = control.current().segment_bytes;
    let path = layout::segment_file(dir, number);
    let file = match disk.open(&path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_segment(&**disk, dir, number, segment_bytes)?
        }
        other => other?,
    };
    let active = Active { number, file, offset, fresh: offset == 0 };
    let mut ready = VecDeque::new();
    for spare in list_segments(&**disk, dir)?.into_iter().filter(|n| *n > number) {
        let path = layout::segment_file(dir, spare);
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        // The journal goes from one segment to the next number, so a spare after a gap cannot be used; nor
        // one that is not empty, since recovery relies on zeros after the end of the log.
        let in_turn = file.size()? == segment_bytes && spare == number + ready.len() as u64 + 1;
        if in_turn && SegmentReader::open(&**disk, dir, spare)?.first_not_empty(0)?.is_none() {
            ready.push_back(Spare { number: spare, file });
        } else {
            disk.remove(&path)?;
        }
    }
    let spares = data.options.spares(segment_bytes);
    let limits = PoolLimits {
        segment_bytes,
        spares,
        spares_max: spares + data.options.snapshot_segments as usize,
        log_bytes_max: data.options.log_bytes_max,
        free_bytes_min: data.options.free_bytes_min,
    };
    let in_use = number + 1 - control.current().first_segment;
    let next_number = number + ready.len() as u64 + 1;
    let pool = SegmentPool::new(
        Arc::clone(disk),
        dir.clone(),
        limits,
        Arc::clone(status),
        ready,
        in_use,
        next_number,
    );
    Ok((active, pool))
}
