//! A snapshot: the whole state at one LSN, as sorted rows in checked chunks.
//!
//! Written under a temporary name, synced and renamed, and the directory synced; only
//! then may anything rely on it. The reader trusts no byte: each chunk has its number
//! and checksum, and the last one the totals. docs/WAL_FORMAT.md draws it.
//! Next: [`super::snapshotter`], which makes them.

use std::io;
use std::path::{Path, PathBuf};

use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, UnixMillis};

use super::block::FORMAT_VERSION;
use super::identity::LogId;
use super::layout;
use super::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOTS_KEPT};
use crate::codec::{self, ROW_BYTES_MAX};
use crate::disk::{Disk, DiskFile, OpenMode, remove_if_there};

const MAGIC: [u8; 8] = *b"STAMPSNP";
const HEADER_BYTES: usize = 64;
const CHUNK_HEADER_BYTES: usize = 16;
/// The row count that marks the closing chunk.
const CLOSING: u32 = u32::MAX;
const CLOSING_BYTES: usize = 16;

/// What a snapshot says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    /// The log it belongs to.
    pub log_id: LogId,
    /// The last fact in it.
    pub lsn: Lsn,
    /// The latest time of any fact up to there.
    pub last_ms: UnixMillis,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is damaged.
    #[error("the snapshot {} is damaged at byte {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to another log.
    #[error("the snapshot {} belongs to another log, {found}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: LogId,
    },
    /// A newer version wrote it.
    #[error(
        "the snapshot {} has format version {found}; this program reads up to {FORMAT_VERSION}",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The state refuses a row.
    #[error("the snapshot {} cannot be replayed: {reason}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot access the snapshot {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// The LSNs of the snapshots in a data directory, ascending.
///
/// # Errors
/// What the file system answers.
pub fn list_snapshots(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Lsn>> {
    let names = disk.list(&layout::snapshot_dir(dir))?;
    let mut lsns: Vec<_> = names.iter().filter_map(|name| layout::snapshot_lsn(name)).collect();
    lsns.sort_unstable();
    Ok(lsns)
}

/// Writes a snapshot row by row.
pub struct SnapshotWriter<'d> {
    disk: &'d dyn Disk,
    dir: PathBuf,
    name: PathBuf,
    temp: PathBuf,
    file: Box<dyn DiskFile>,
    at: u64,
    chunk: Vec<u8>,
    chunk_rows: u32,
    chunks: u32,
    rows: u64,
}

impl<'d> SnapshotWriter<'d> {
    /// Begins a snapshot under a temporary name.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn create(disk: &'d dyn Disk, dir: &Path, header: &SnapshotHeader) -> io::Result<Self> {
        let name = layout::snapshot_file(dir, header.lsn);
        let temp = name.with_extension("snap.tmp");
        remove_if_there(disk, &temp)?;
        let mut file = disk.open(&temp, OpenMode::CreateNew)?;
        file.write(0, &encode_header(header))?;
        let chunk = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES_MAX);
        let (dir, at) = (dir.to_owned(), HEADER_BYTES as u64);
        Ok(Self { disk, dir, name, temp, file, at, chunk, chunk_rows: 0, chunks: 0, rows: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// What the file system answers; the snapshot must then be dropped.
    pub fn row(&mut self, row: &StateRow<'_>) -> io::Result<()> {
        let mut bytes = [0; ROW_BYTES_MAX];
        let len = codec::encode_row(row, &mut bytes);
        if self.chunk.len() + 2 + len > SNAPSHOT_CHUNK_BYTES_MAX {
            self.write_chunk()?;
        }
        self.chunk.extend_from_slice(&(len as u16).to_le_bytes());
        self.chunk.extend_from_slice(&bytes[..len]);
        self.chunk_rows += 1;
        self.rows += 1;
        Ok(())
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let header = chunk_header(self.chunk_rows, self.chunks, &self.chunk);
        self.file.write(self.at, &header)?;
        self.file.write(self.at + CHUNK_HEADER_BYTES as u64, &self.chunk)?;
        self.at += (CHUNK_HEADER_BYTES + self.chunk.len()) as u64;
        self.chunk.clear();
        self.chunk_rows = 0;
        self.chunks += 1;
        Ok(())
    }

    /// Closes the snapshot, makes it durable under its name, and removes all but the last
    /// [`SNAPSHOTS_KEPT`].
    ///
    /// # Errors
    /// What the file system answers; nothing may rely on the snapshot then.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_chunk()?;
        let mut totals = [0; CLOSING_BYTES];
        totals[..8].copy_from_slice(&self.rows.to_le_bytes());
        totals[8..12].copy_from_slice(&self.chunks.to_le_bytes());
        self.file.write(self.at, &chunk_header(CLOSING, self.chunks, &totals))?;
        self.file.write(self.at + CHUNK_HEADER_BYTES as u64, &totals)?;
        self.file.sync()?;
        self.disk.rename(&self.temp, &self.name)?;
        self.disk.sync_dir(&layout::snapshot_dir(&self.dir))?;
        let kept = list_snapshots(self.disk, &self.dir)?;
        for old in kept.iter().rev().skip(SNAPSHOTS_KEPT) {
            self.disk.remove(&layout::snapshot_file(&self.dir, *old))?;
        }
        Ok(())
    }
}

fn encode_header(header: &SnapshotHeader) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..32].copy_from_slice(&header.log_id.0);
    out[32..40].copy_from_slice(&header.lsn.0.to_le_bytes());
    out[40..48].copy_from_slice(&header.last_ms.0.to_le_bytes());
    let crc = crc32c::crc32c(&out[..60]);
    out[60..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn chunk_header(rows: u32, index: u32, payload: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
    let mut out = [0; CHUNK_HEADER_BYTES];
    out[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out[4..8].copy_from_slice(&rows.to_le_bytes());
    out[8..12].copy_from_slice(&index.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), payload);
    out[12..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads a snapshot and checks all of it. Rows are visited before the rest is checked: to know
/// beforehand that the whole snapshot is good, call this once with a visitor that does nothing.
///
/// # Errors
/// See [`SnapshotError`].
pub fn read_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    lsn: Lsn,
    log_id: LogId,
    visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>,
) -> Result<SnapshotHeader, SnapshotError> {
    let file = layout::snapshot_file(dir, lsn);
    let io = |source| SnapshotError::Io { file: file.clone(), source };
    let open = disk.open(&file, OpenMode::Read).map_err(io)?;
    let size = open.size().map_err(io)?;
    let mut reader =
        SnapshotReader { file: file.clone(), open, at: 0, size, rows: 0, chunks: 0, chunk: Vec::new() };
    let header = reader.header(lsn, log_id)?;
    while reader.chunk(visit)? {}
    Ok(header)
}

struct SnapshotReader {
    file: PathBuf,
    open: Box<dyn DiskFile>,
    at: u64,
    size: u64,
    rows: u64,
    chunks: u32,
    chunk: Vec<u8>,
}

impl SnapshotReader {
    fn damaged(&self, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { file: self.file.clone(), offset: self.at, reason: reason.into() }
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = std::mem::take(&mut self.chunk);
        bytes.resize(len, 0);
        let read = self.open.read(offset, &mut bytes);
        let read = read.map_err(|source| SnapshotError::Io { file: self.file.clone(), source })?;
        if read == len { Ok(bytes) } else { Err(self.damaged("the file ends too early")) }
    }

    fn header(&mut self, lsn: Lsn, log_id: LogId) -> Result<SnapshotHeader, SnapshotError> {
        let bytes = self.read(0, HEADER_BYTES)?;
        let crc = u32::from_le_bytes(bytes[60..64].try_into().expect("four bytes"));
        if bytes[..8] != MAGIC || crc != crc32c::crc32c(&bytes[..60]) {
            return Err(self.damaged("its header is damaged"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format > FORMAT_VERSION {
            return Err(SnapshotError::Newer { file: self.file.clone(), found: format });
        }
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let found = LogId(bytes[16..32].try_into().expect("sixteen bytes"));
        if found != log_id {
            return Err(SnapshotError::Foreign { file: self.file.clone(), found });
        }
        if u64_at(32) != lsn.0 {
            return Err(self.damaged("its LSN is not the one in its name"));
        }
        self.at = HEADER_BYTES as u64;
        Ok(SnapshotHeader { log_id: found, lsn, last_ms: UnixMillis(u64_at(40)) })
    }

    /// Reads one chunk; false after the closing one.
    fn chunk(
        &mut self,
        visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>,
    ) -> Result<bool, SnapshotError> {
        let head: [u8; CHUNK_HEADER_BYTES] =
            self.read(self.at, CHUNK_HEADER_BYTES)?.try_into().expect("as long as asked for");
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (len, rows, index) = (u32_at(0) as usize, u32_at(4), u32_at(8));
        if len > SNAPSHOT_CHUNK_BYTES_MAX || index != self.chunks {
            return Err(self.damaged("a chunk's header is damaged"));
        }
        let payload = self.read(self.at + CHUNK_HEADER_BYTES as u64, len)?;
        if chunk_header(rows, index, &payload) != head {
            return Err(self.damaged("a chunk's checksum does not match"));
        }
        if rows == CLOSING {
            return self.closing(&payload).map(|()| false);
        }
        self.visit_rows(rows, &payload, visit)?;
        self.at += (CHUNK_HEADER_BYTES + len) as u64;
        self.chunks += 1;
        self.chunk = payload;
        Ok(true)
    }

    fn visit_rows(
        &mut self,
        rows: u32,
        mut left: &[u8],
        visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>,
    ) -> Result<(), SnapshotError> {
        for _ in 0..rows {
            let (len, rest) =
                left.split_first_chunk::<2>().ok_or_else(|| self.damaged("a chunk is short"))?;
            let row_len = usize::from(u16::from_le_bytes(*len));
            let (row, rest) = rest.split_at_checked(row_len).ok_or_else(|| self.damaged("a row is short"))?;
            let row = codec::decode_row(row).map_err(|error| self.damaged(error.to_string()))?;
            visit(&row).map_err(|reason| SnapshotError::Refused { file: self.file.clone(), reason })?;
            left = rest;
        }
        self.rows += u64::from(rows);
        if left.is_empty() { Ok(()) } else { Err(self.damaged("a chunk has bytes left over")) }
    }

    fn closing(&self, payload: &[u8]) -> Result<(), SnapshotError> {
        let end = self.at + (CHUNK_HEADER_BYTES + CLOSING_BYTES) as u64;
        let whole = payload.len() == CLOSING_BYTES
            && payload[..8] == self.rows.to_le_bytes()
            && payload[8..12] == self.chunks.to_le_bytes()
            && self.size == end;
        if whole { Ok(()) } else { Err(self.damaged("its totals do not match")) }
    }
}
