//! Follows the journal through the log's files: the exporter gets its facts from here.
//!
//! It reads files, never memory, and never beyond the durable watermark. It goes
//! from segment to segment as the journal does. Next: [`crate::feed`] for the
//! contract, [`super::journal`] for the writer, [`super::chain_at`] for the chain's
//! hash at the place that it has reached.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use stampede_core::fact::Fact;
use stampede_core::types::Lsn;

use super::block::{ChainHash, Records, hash_block};
use super::chain_at::{BlockPlace, chain_at};
use super::control::ControlFile;
use super::identity::LogId;
use super::layout;
use super::limits::READ_BYTES;
use super::segment::{SegmentReader, list_segments};
use super::status::LogStatus;
use crate::codec;
use crate::disk::Disk;
use crate::feed::{FactFeed, FeedError};

/// Bytes read at once when it is close behind the journal.
const FOLLOW_BYTES: usize = 64 << 10;
/// From this many facts behind the journal on it reads in large pieces.
const FAR_BEHIND: u64 = 1024;

/// A reader of durable facts, in order, each once.
pub struct LogTail {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log_id: LogId,
    status: Arc<LogStatus>,
    control: Arc<ControlFile>,
    reader: Option<SegmentReader>,
    offset: u64,
    next: Lsn,
    /// The block that holds the last fact visited.
    last: Option<BlockPlace>,
}

impl std::fmt::Debug for LogTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTail").field("dir", &self.dir).field("next", &self.next.0).finish_non_exhaustive()
    }
}

/// The result of a visit to a block.
enum Visit {
    /// Facts were visited, this many.
    Visited(usize),
    /// The block ends before the wanted fact.
    Skipped,
}

impl LogTail {
    /// A tail whose first fact is the one after `after`. Nothing is read yet.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        control: Arc<ControlFile>,
        status: Arc<LogStatus>,
        after: Lsn,
    ) -> Self {
        let log_id = control.current().log_id;
        Self { disk, dir, log_id, status, control, reader: None, offset: 0, next: after.next(), last: None }
    }

    /// The LSN that comes next.
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    fn io(&self, source: io::Error) -> FeedError {
        let file = self.reader.as_ref().map_or_else(|| layout::log_dir(&self.dir), |r| r.path().to_owned());
        FeedError::Io { file, source }
    }

    fn damaged(&self, reason: String) -> FeedError {
        let file = self.reader.as_ref().map_or_else(|| layout::log_dir(&self.dir), |r| r.path().to_owned());
        FeedError::Damaged { file, offset: self.offset, reason }
    }

    /// The error for a fact that is not there: it was trimmed, or the log is damaged.
    fn gone(&self, reason: String) -> FeedError {
        let first = self.status.first_retained_lsn();
        if first > self.next { FeedError::Trimmed { wanted: self.next, first } } else { self.damaged(reason) }
    }

    /// Finds the segment that holds the next fact: the last one that begins at or before it.
    fn locate(&mut self) -> Result<(), FeedError> {
        let numbers = list_segments(&*self.disk, &self.dir).map_err(|error| self.io(error))?;
        for number in numbers.into_iter().rev() {
            let mut reader = match SegmentReader::open(&*self.disk, &self.dir, number) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| self.io(error))?,
            };
            reader.set_read_ahead(FOLLOW_BYTES);
            let first = reader.block_at(0, self.log_id).map_err(|error| self.io(error))?;
            if first.is_ok_and(|(header, _)| header.first_lsn <= self.next) {
                (self.reader, self.offset) = (Some(reader), 0);
                return Ok(());
            }
        }
        Err(self.gone(format!("no segment holds LSN {}", self.next)))
    }

    /// Opens the segment that holds the next fact, if none is open or the open one is at its end.
    fn open_segment(&mut self) -> Result<(), FeedError> {
        let Some(reader) = &self.reader else { return self.locate() };
        if self.offset < reader.size() {
            return Ok(());
        }
        let number = reader.number() + 1;
        match SegmentReader::open(&*self.disk, &self.dir, number) {
            Ok(next) => (self.reader, self.offset) = (Some(next), 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.gone(format!("segment {number} is missing")));
            }
            Err(error) => return Err(self.io(error)),
        }
        Ok(())
    }

    /// Visits the wanted facts of the block at this place.
    fn visit_block(
        &mut self,
        limit: Lsn,
        max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<Visit, FeedError> {
        let behind = limit.0.saturating_sub(self.next.0);
        let reader = self.reader.as_mut().expect("a segment was opened before");
        reader.set_read_ahead(if behind > FAR_BEHIND { READ_BYTES } else { FOLLOW_BYTES });
        let mut block = reader.block_at(self.offset, self.log_id);
        if matches!(block, Ok(Err(_))) {
            // The journal may have written here after the read-ahead: read again, from the file.
            reader.forget();
            block = reader.block_at(self.offset, self.log_id);
        }
        let (header, bytes) = match block {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                return Err(self.gone(format!("{error}, where durable LSN {} should be", self.next)));
            }
            Err(error) => return Err(self.io(error)),
        };
        if header.first_lsn > self.next {
            return Err(self.gone(format!("LSN {} is missing before this block", self.next)));
        }
        let mut visited = 0;
        let read = visit_records(Records::new(&header, bytes), self.next, limit, max, &mut |lsn, fact| {
            visited += 1;
            visit(lsn, fact);
        });
        self.next = Lsn(self.next.0 + visited as u64);
        if visited > 0 {
            let segment = self.reader.as_ref().map_or(0, SegmentReader::number);
            self.last = Some(BlockPlace { segment, offset: self.offset });
        }
        read.map_err(|reason| self.damaged(reason))?;
        if self.next > header.last_lsn() {
            self.offset += header.block_len() as u64;
            if visited == 0 {
                return Ok(Visit::Skipped);
            }
        }
        Ok(Visit::Visited(visited))
    }
}

fn visit_records(
    records: Records<'_>,
    from: Lsn,
    limit: Lsn,
    max: usize,
    visit: &mut dyn FnMut(Lsn, &Fact<'_>),
) -> Result<(), String> {
    let wanted = Lsn(limit.0.min(from.0.saturating_add(max as u64 - 1)));
    for record in records {
        let record = record.map_err(|error| error.to_string())?;
        if record.lsn < from {
            continue;
        }
        if record.lsn > wanted {
            break;
        }
        let fact = codec::decode(record.kind, record.payload);
        let fact = fact.map_err(|error| format!("LSN {}: {error}", record.lsn))?;
        visit(record.lsn, &fact);
    }
    Ok(())
}

impl FactFeed for LogTail {
    fn read(
        &mut self,
        up_to: Lsn,
        max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<usize, FeedError> {
        let limit = up_to.min(self.status.durable_lsn());
        let mut visited = 0;
        while self.next <= limit && visited < max {
            self.open_segment()?;
            if let Visit::Visited(now) = self.visit_block(limit, max - visited, visit)? {
                visited += now;
            }
        }
        Ok(visited)
    }

    fn chain(&mut self) -> Result<ChainHash, FeedError> {
        let lsn = Lsn(self.next.0 - 1);
        // Close behind the journal the block is still in the reader's window.
        if let Some((place, reader)) = self.last.zip(self.reader.as_mut())
            && place.segment == reader.number()
            && let Ok(Ok((header, block))) = reader.block_at(place.offset, self.log_id)
            && (header.first_lsn..=header.last_lsn()).contains(&lsn)
        {
            return Ok(hash_block(&header, block));
        }
        let found = chain_at(&*self.disk, &self.dir, &self.control, lsn, self.last);
        match found.map_err(|error| self.io(error))? {
            Some(hash) => Ok(hash),
            None => Err(self.gone(format!("no block holds LSN {lsn}"))),
        }
    }
}
