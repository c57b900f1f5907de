//! What recovery changes on disk, once it has decided that nothing durable is damaged.
//!
//! Keeps a copy of a torn tail and zeroes it; writes a last group again of which
//! nobody knows whether its sync returned (it may stand in the page cache alone,
//! and after a failed sync asking again proves nothing); removes half-made files.
//! Each step may be cut short by a crash and is simply done again.
//! Next: [`super::dir`].

use std::io;
use std::path::Path;

use super::layout::{self, TEMP_SUFFIX};
use super::recovery::{Recovered, TornTail};
use crate::disk::buffer::AlignedBuffer;
use crate::disk::{Disk, OpenMode};

/// Makes the recovered log ready to be written to.
///
/// # Errors
/// What the file system answers.
pub(super) fn repair(disk: &dyn Disk, dir: &Path, found: &Recovered) -> io::Result<()> {
    if let Some(torn) = &found.torn {
        keep_copy(disk, dir, torn)?;
        let mut file = disk.open(&layout::segment_file(dir, torn.segment), OpenMode::ReadWrite)?;
        file.write_durable(torn.offset, AlignedBuffer::new(torn.len as usize).as_slice())?;
    }
    if let Some((segment, offset)) = found.unproven {
        let end = if found.end.segment == segment { found.end.offset } else { u64::MAX };
        write_again(disk, dir, segment, offset, end)?;
    }
    Ok(())
}

fn read_range(disk: &dyn Disk, file: &Path, offset: u64, len: usize) -> io::Result<AlignedBuffer> {
    let mut bytes = AlignedBuffer::new(len);
    let read = disk.open(file, OpenMode::Read)?.read(offset, bytes.as_mut_slice())?;
    if read == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn keep_copy(disk: &dyn Disk, dir: &Path, torn: &TornTail) -> io::Result<()> {
    let bytes = read_range(disk, &layout::segment_file(dir, torn.segment), torn.offset, torn.len as usize)?;
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

fn write_again(disk: &dyn Disk, dir: &Path, segment: u64, offset: u64, end: u64) -> io::Result<()> {
    let path = layout::segment_file(dir, segment);
    let mut file = disk.open(&path, OpenMode::ReadWrite)?;
    let end = end.min(file.size()?);
    let bytes = read_range(disk, &path, offset, (end - offset) as usize)?;
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
