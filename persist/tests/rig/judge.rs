//! What an image has to be after a power cut, and what the order of writes has to show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stampede_core::types::Lsn;
use stampede_persist::log::block::peek_header;
use stampede_persist::log::dir::LogOptions;
use stampede_persist::log::limits::{BLOCK_BYTES_MAX, GROUP_BYTES_MAX, LAG_MS_MAX};

use super::capture::{Change, Event};
use super::life::{DIR, open};
use super::shop::{Book, Shop};
use super::sim_disk::SimDisk;

/// What was seen before the power went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The durable LSN that a producer could see.
    pub(crate) durable: u64,
    /// The cursor in the database.
    pub(crate) cursor: u64,
}

/// Recovers an image: it opens; everything that was seen as durable is there, as it was appended;
/// what was cut was kept; and a second opening finds nothing to do. Returns whether anything was cut.
pub(crate) fn judge(
    image: &SimDisk,
    options: &LogOptions,
    book: &Arc<Book>,
    seen: Seen,
) -> Result<bool, String> {
    let before = image.copy();
    let mut shop = Shop::against(book);
    let opened = open(image, options, &mut shop).map_err(|error| format!("does not open: {error}"))?;
    let lsn = Lsn(opened.next_lsn().0 - 1);
    if shop.facts() as u64 != lsn.0 {
        return Err(format!("LSN {lsn} was reached with {} facts", shop.facts()));
    }
    if lsn.0 < seen.durable {
        return Err(format!("LOST: recovered up to LSN {lsn}, seen as durable up to {}", seen.durable));
    }
    if lsn.0 < seen.cursor {
        return Err(format!("I6: recovered up to LSN {lsn}, the database is at {}", seen.cursor));
    }
    let cut = cut_and_kept(&before, &image.files_changed_since(&before))?;
    let torn = opened.warnings().iter().any(|text| text.contains("never durable"));
    if cut && !torn {
        return Err("something was cut and not reported".to_owned());
    }
    drop(opened);
    if !torn && !lsn.0.is_multiple_of(4) {
        return Ok(false);
    }
    let mut again = Shop::against(book);
    let opened = open(image, options, &mut again).map_err(|error| format!("opens once only: {error}"))?;
    if opened.next_lsn() != lsn.next() || opened.warnings().iter().any(|text| text.contains("never durable"))
    {
        return Err(format!("the second opening finds otherwise: {:?}", opened.warnings()));
    }
    Ok(torn)
}

/// Whether bytes of a segment were changed; an error unless a copy of them was kept.
fn cut_and_kept(before: &SimDisk, changed: &BTreeMap<PathBuf, Vec<u8>>) -> Result<bool, String> {
    let mut cut = false;
    for (path, is) in changed.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "seg")) {
        // A group that was written again is the same bytes.
        let Some(was) = before.file(path).filter(|was| was != is) else { continue };
        let first = was.iter().zip(is).position(|(was, is)| was != is).unwrap_or(was.len().min(is.len()));
        let last = was.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if is[first..].iter().any(|byte| *byte != 0) || was.len() != is.len() {
            return Err(format!("{} was changed otherwise than by a cut at byte {first}", path.display()));
        }
        let number = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let torn = Path::new(DIR).join("torn");
        let kept = changed.iter().filter(|(copy, _)| copy.starts_with(&torn));
        let kept = kept.filter_map(|(copy, bytes)| {
            let name = copy.file_name()?.to_str()?.strip_prefix(&format!("{number}-at-"))?.to_owned();
            Some((name.split('-').next()?.parse::<usize>().ok()?, bytes))
        });
        let whole = kept
            .clone()
            .any(|(at, bytes)| at <= first && last < at + bytes.len() && was[at..].starts_with(bytes));
        if !whole {
            return Err(format!("bytes {first} to {last} of {} were cut and not kept", path.display()));
        }
        cut = true;
    }
    Ok(cut)
}

/// The paths of the files that were written to: their numbers are given in this order.
fn paths(events: &[Event]) -> Vec<&str> {
    let paths = events.iter().filter_map(|event| match &event.change {
        Change::Create { path, .. } | Change::Open { path, .. } => Some(path.as_str()),
        _ => None,
    });
    paths.collect()
}

/// How many blocks a write consists of; zero for the control file and for what is cut.
pub(crate) fn blocks(bytes: &[u8]) -> usize {
    let (mut at, mut blocks) = (0, 0);
    while let Ok(header) = peek_header(&bytes[at..]) {
        at += header.block_len();
        blocks += 1;
        if at >= bytes.len() {
            break;
        }
    }
    blocks
}

fn is_segment(path: &str) -> bool {
    path.ends_with(".seg")
}

/// All blocks of a group but the last are as large as can be; a group is not too large.
pub(crate) fn check_groups(events: &[Event]) -> Result<usize, String> {
    let paths = paths(events);
    let mut groups = 0;
    for event in events {
        let Change::Begin { file, offset, bytes } = &event.change else { continue };
        // Zeros are a tail that recovery cuts; a group that it writes again may be an older one.
        if !is_segment(paths[*file]) || event.durable == 0 || peek_header(bytes).is_err() {
            continue;
        }
        let mut at = 0;
        while at < bytes.len() {
            let header =
                peek_header(&bytes[at..]).map_err(|error| format!("no block at byte {at}: {error}"))?;
            let len = header.block_len();
            if at + len < bytes.len() && len != BLOCK_BYTES_MAX {
                return Err(format!(
                    "a group of {} bytes at byte {offset} of {} goes on after a block of {len}",
                    bytes.len(),
                    paths[*file]
                ));
            }
            at += len;
        }
        if bytes.len() > GROUP_BYTES_MAX {
            return Err(format!("a group has {} bytes", bytes.len()));
        }
        groups += 1;
    }
    Ok(groups)
}

/// The lag is measured in the log's own time: what passes between two steps of a write to the log or
/// the control file counts as this much at most. So a thread that the machine does not run, or a device that
/// stalls, lets little time pass, and the bound holds on a busy machine, too: half of it until the file is
/// due, and a dozen steps until it is written, those of other threads' writes to it among them.
const STEP_MAX: Duration = Duration::from_millis(2);

/// The longest time for which a durable group was not in the control file.
pub(crate) fn check_lag(events: &[Event]) -> Result<Duration, String> {
    let paths = paths(events);
    let (mut clock, mut last_at, mut longest) = (Duration::ZERO, None, Duration::ZERO);
    // Groups that the control file does not know: their last LSN, and when they became durable.
    let mut unknown: Vec<(u64, Duration)> = Vec::new();
    for event in events {
        let (file, bytes, ended) = match &event.change {
            Change::Begin { file, bytes, .. } => (*file, bytes, false),
            Change::End { file, bytes, .. } => (*file, bytes, true),
            _ => continue,
        };
        let (is_log, is_control) = (is_segment(paths[file]), paths[file].ends_with("/control"));
        if !is_log && !is_control {
            continue;
        }
        clock += last_at.map_or(Duration::ZERO, |last: Duration| (event.at - last).min(STEP_MAX));
        last_at = Some(event.at);
        if let Some((lsn, since)) = unknown.first() {
            longest = longest.max(clock - *since);
            if clock - *since > Duration::from_millis(LAG_MS_MAX) {
                return Err(format!(
                    "LSN {lsn} was durable for {:?} and the control file does not know it",
                    clock - *since
                ));
            }
        }
        if ended && is_control {
            let known = u64::from_le_bytes(bytes[48..56].try_into().expect("eight bytes"));
            unknown.retain(|(lsn, _)| *lsn > known);
        } else if ended && let Ok(header) = peek_header(bytes) {
            unknown.push((header.first_lsn.0, clock));
        }
    }
    Ok(longest)
}
