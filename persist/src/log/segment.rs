//! A segment: a file of fixed size, filled from its first sector to its last with blocks.
//!
//! It is made under a temporary name, zero-filled, synced and renamed, and its directory
//! synced, all before the first block is written: later writes change no metadata. A
//! recycled segment is zeroed first, so that a sector holds zeros until it is written,
//! once: [`super::torn`] relies on that. Nothing here decides what a missing block means.
//! Next: [`super::chain`].

use std::io;
use std::path::{Path, PathBuf};

use super::block::{BLOCK_HEADER_BYTES, BlockError, BlockHeader, check_block, is_zero, peek_header};
use super::identity::LogId;
use super::layout;
use super::limits::READ_BYTES;
use crate::disk::{Disk, DiskFile, OpenMode, SECTOR_BYTES, remove_if_there};

/// The numbers of the segments in a data directory, ascending.
///
/// # Errors
/// What the file system answers.
pub fn list_segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(&layout::log_dir(dir))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| layout::segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a segment of zeros, durable with its directory entry.
///
/// # Errors
/// What the file system answers; a half-made file may be left under a temporary name.
pub fn create_segment(disk: &dyn Disk, dir: &Path, number: u64, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
    let name = layout::segment_file(dir, number);
    let temp = name.with_extension("seg.tmp");
    remove_if_there(disk, &temp)?;
    let file = disk.open(&temp, OpenMode::CreateNew)?;
    zero_and_rename(disk, dir, file, bytes, (&temp, &name))
}

/// Zeroes a trimmed segment's file of `bytes` bytes and gives it a new number, durable with its
/// directory entry. The log must not need it any more: a crash in between leaves it half zeroed.
///
/// # Errors
/// What the file system answers.
pub fn recycle_segment(
    disk: &dyn Disk,
    dir: &Path,
    from: u64,
    to: u64,
    bytes: u64,
) -> io::Result<Box<dyn DiskFile>> {
    let (old, name) = (layout::segment_file(dir, from), layout::segment_file(dir, to));
    let file = disk.open(&old, OpenMode::ReadWrite)?;
    zero_and_rename(disk, dir, file, bytes, (&old, &name))
}

fn zero_and_rename(
    disk: &dyn Disk,
    dir: &Path,
    mut file: Box<dyn DiskFile>,
    bytes: u64,
    (from, to): (&Path, &Path),
) -> io::Result<Box<dyn DiskFile>> {
    file.zero_fill(bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(from, to)?;
    disk.sync_dir(&layout::log_dir(dir))?;
    disk.open(to, OpenMode::ReadWrite)
}

/// Reads blocks out of a segment through a window of its bytes.
pub struct SegmentReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    size: u64,
    window: Vec<u8>,
    window_at: u64,
    window_len: usize,
    read_ahead: usize,
}

impl SegmentReader {
    /// Opens a segment for reading.
    ///
    /// # Errors
    /// `NotFound`, or what the file system answers.
    pub fn open(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<Self> {
        let path = layout::segment_file(dir, number);
        let file = disk.open(&path, OpenMode::Read)?;
        let size = file.size()?;
        // A file smaller than the window is read in one piece.
        let window = vec![0; READ_BYTES.min(size.max(SECTOR_BYTES as u64) as usize)];
        Ok(Self { file, path, number, size, window, window_at: 0, window_len: 0, read_ahead: READ_BYTES })
    }
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Sets how much is read at once: much to catch up, little to follow closely.
    pub fn set_read_ahead(&mut self, bytes: usize) {
        self.read_ahead = bytes.clamp(BLOCK_HEADER_BYTES, READ_BYTES);
    }
    /// Discards what was read ahead: the journal may have written there since.
    pub fn forget(&mut self) {
        self.window_len = 0;
    }

    /// The bytes from `offset` on, at least `wanted` of them unless the file ends before. `wanted` may be
    /// [`READ_BYTES`] at most; no block is larger.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn bytes_at(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        assert!(wanted <= READ_BYTES, "a window holds the largest block");
        let wanted = wanted.min(self.window.len());
        let end = self.window_at + self.window_len as u64;
        let inside = self.window_at <= offset && offset + wanted as u64 <= end;
        if !inside && (offset < self.window_at || end < self.size || self.window_len == 0) {
            self.window_len = 0;
            let len = wanted.max(self.read_ahead).min(self.window.len());
            self.window_len = self.file.read(offset, &mut self.window[..len])?;
            self.window_at = offset;
        }
        let skip = usize::try_from(offset.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok(self.window[..self.window_len].get(skip..).unwrap_or(&[]))
    }

    /// The offset of the first sector from `offset` on that is not all zeros; `None` = there is none.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn first_not_empty(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        while offset < self.size {
            let sector = self.bytes_at(offset, SECTOR_BYTES)?;
            if !is_zero(&sector[..SECTOR_BYTES.min(sector.len())]) {
                return Ok(Some(offset));
            }
            offset += SECTOR_BYTES as u64;
        }
        Ok(None)
    }

    /// The block at `offset` and its bytes, or why there is none.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn block_at(
        &mut self,
        offset: u64,
        log_id: LogId,
    ) -> io::Result<Result<(BlockHeader, &[u8]), BlockError>> {
        let number = self.number;
        let wanted = match peek_header(self.bytes_at(offset, BLOCK_HEADER_BYTES)?) {
            Ok(header) => header.block_len(),
            Err(error) => return Ok(Err(error)),
        };
        let bytes = self.bytes_at(offset, wanted)?;
        Ok(check_block(bytes, log_id, number).map(|header| (header, &bytes[..header.block_len()])))
    }
}
