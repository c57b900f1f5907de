//! What recovery changes on disk, once it has decided that nothing durable is damaged.
//!
//! Keeps a copy of a torn tail and zeroes it. Writes the last group again if nothing
//! proves that its sync returned: it may be in the page cache alone, and after a failed
//! sync another sync proves nothing. Removes half-made files. A crash may interrupt
//! each step; the next start repeats it.
//! Next: [`super::dir`].

use std::io;
use std::path::Path;

use super::block::{BlockHeader, check_block, hash_block};
use super::identity::LogId;
use super::layout::{self, TEMP_SUFFIX};
use super::recovery::{Recovered, TornTail};
use crate::disk::buffer::AlignedBuffer;
use crate::disk::{Disk, OpenMode};

/// Makes the recovered log ready to be written to.
///
/// # Errors
/// What the file system answers.
pub(super) fn repair(disk: &dyn Disk, dir: &Path, log_id: LogId, found: &Recovered) -> io::Result<()> {
    if let Some(torn) = &found.torn {
        keep_copy(disk, dir, torn, |bytes| is_torn(bytes, log_id, found))?;
        let mut file = disk.open(&layout::segment_file(dir, torn.segment), OpenMode::ReadWrite)?;
        file.write_durable(torn.offset, AlignedBuffer::new(torn.len as usize).as_slice())?;
    }
    if let Some((segment, offset)) = found.unproven {
        let end = if found.end.segment == segment { found.end.offset } else { u64::MAX };
        write_again(disk, dir, segment, (offset, end), |bytes| is_group(bytes, segment, log_id, found))?;
    }
    Ok(())
}

/// A second read may differ from the first (a misdirected read): nothing is overwritten unless
/// both agree.
fn reads_differ(file: &Path, offset: u64) -> io::Error {
    let file = file.display();
    io::Error::other(format!("two reads of {file} at byte {offset} differ; nothing there was changed"))
}

/// Whether the bytes to be cut off do not continue the log at the end that was found.
fn is_torn(bytes: &[u8], log_id: LogId, found: &Recovered) -> bool {
    let end = &found.end;
    let goes_on = |header: BlockHeader| header.prev_hash == end.chain && header.first_lsn == end.next_lsn;
    !check_block(bytes, log_id, end.segment).is_ok_and(goes_on)
}

/// Whether the bytes to be written again are the group that was replayed: a chain of blocks up to
/// the end that was found.
fn is_group(bytes: &[u8], segment: u64, log_id: LogId, found: &Recovered) -> bool {
    let (mut at, mut chain) = (0, None);
    while at < bytes.len() {
        let block = &bytes[at..];
        let Ok(header) = check_block(block, log_id, segment) else { return false };
        if chain.is_some_and(|chain| chain != header.prev_hash) {
            return false;
        }
        chain = Some(hash_block(&header, block));
        at += header.block_len();
    }
    chain == Some(found.end.chain)
}

fn read_range(disk: &dyn Disk, file: &Path, offset: u64, len: usize) -> io::Result<AlignedBuffer> {
    let mut bytes = AlignedBuffer::new(len);
    let read = disk.open(file, OpenMode::Read)?.read(offset, bytes.as_mut_slice())?;
    if read == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn keep_copy(
    disk: &dyn Disk,
    dir: &Path,
    torn: &TornTail,
    is_right: impl FnOnce(&[u8]) -> bool,
) -> io::Result<()> {
    let path = layout::segment_file(dir, torn.segment);
    let bytes = read_range(disk, &path, torn.offset, torn.len as usize)?;
    if !is_right(bytes.as_slice()) {
        return Err(reads_differ(&path, torn.offset));
    }
    let name = format!("{:016}-at-{}", torn.segment, torn.offset);
    let copies = layout::torn_dir(dir);
    let taken = disk.list(&copies)?;
    let free = (1..).map(|n| format!("{name}-{n}.torn")).find(|name| !taken.contains(name));
    let path = copies.join(free.expect("some number is free"));
    let mut copy = disk.open(&path, OpenMode::CreateNew)?;
    copy.write(0, bytes.as_slice())?;
    copy.sync()?;
    disk.sync_dir(&copies)
}

fn write_again(
    disk: &dyn Disk,
    dir: &Path,
    segment: u64,
    (offset, end): (u64, u64),
    is_right: impl FnOnce(&[u8]) -> bool,
) -> io::Result<()> {
    let path = layout::segment_file(dir, segment);
    let mut file = disk.open(&path, OpenMode::ReadWrite)?;
    let end = end.min(file.size()?);
    let bytes = read_range(disk, &path, offset, (end - offset) as usize)?;
    if !is_right(bytes.as_slice()) {
        return Err(reads_differ(&path, offset));
    }
    file.write_durable(offset, bytes.as_slice())
}

/// Removes files that were being made when the engine stopped.
///
/// # Errors
/// What the file system answers.
pub(super) fn remove_half_made(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for place in [dir.to_owned(), layout::log_dir(dir), layout::snapshot_dir(dir)] {
        for name in disk.list(&place)?.iter().filter(|name| name.ends_with(TEMP_SUFFIX)) {
            disk.remove(&place.join(name))?;
        }
    }
    Ok(())
}
