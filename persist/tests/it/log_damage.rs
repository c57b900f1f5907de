//! Damage to what was durable: refused, named, and not a byte changed (I9).

use std::path::{Path, PathBuf};

use stampede_core::types::HashSecret;
use stampede_persist::disk::SECTOR_BYTES;
use stampede_persist::log::control::{Control, ControlFile, create_control, read_control};
use stampede_persist::log::dir::OpenError;
use stampede_persist::log::identity::LogId;
use stampede_persist::log::journal::Step;
use stampede_persist::log::layout;
use stampede_persist::log::recovery::RecoveryError;
use stampede_persist::log::verify::verify_on;

use super::forge::seal_block;
use super::log_sale::{DIR, append_next, new_log, recover_on, small, step_on};
use super::sim_disk::{Rng, SimDisk};

/// A log of `groups` groups, ended in order or by a kill.
fn logged(groups: u64, clean: bool) -> SimDisk {
    let disk = SimDisk::new(5);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    for _ in 0..groups {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        log.maintenance.prepare_spare().unwrap();
    }
    if clean {
        assert_eq!(log.journal.write_control(true), Step::Idle);
    }
    drop(log);
    disk.after_kill()
}

fn segment(number: u64) -> PathBuf {
    layout::segment_file(Path::new(DIR), number)
}

/// The refusal's text; panics if the log opens, or if the refusal changed anything.
fn refusal(what: &str, disk: &SimDisk) -> OpenError {
    let before = disk.files();
    let error = match recover_on(disk, &small()) {
        Err(error) => error,
        Ok((sale, _)) => panic!("{what}: opened, with the log up to LSN {}", sale.lsn()),
    };
    assert!(disk.files() == before, "{what}: a refusal changes nothing ({error})");
    error
}

fn damaged_file(what: &str, disk: &SimDisk) -> PathBuf {
    match refusal(what, disk) {
        OpenError::Recovery(RecoveryError::Damaged { file, offset, reason }) => {
            let verdict = verify_on(disk, DIR.as_ref()).unwrap();
            let wrong = verdict.wrong.unwrap_or_else(|| panic!("{what}: verify finds it, too"));
            assert_eq!((&wrong.file, wrong.offset), (&file, offset), "{what}: {reason}");
            file
        }
        other => panic!("{what}: another refusal: {other}"),
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_durable_part_is_refused() {
    let mut rng = Rng(11);
    let intact = logged(40, true);
    let segments: Vec<_> = intact.files().into_iter().filter(|(p, _)| p.starts_with("/data/log")).collect();
    for _ in 0..400 {
        let disk = intact.after_kill();
        let (path, bytes) = &segments[rng.below(4) as usize];
        let (byte, bit) = (rng.below(bytes.len() as u64) as usize, rng.below(8));
        disk.edit(path, |bytes| bytes[byte] ^= 1 << bit);
        let what = format!("bit {bit} of byte {byte} of {}", path.display());
        // A bit in the version number reads as a newer version: a refusal, too.
        let error = refusal(&what, &disk);
        let named = error.to_string().contains(path.to_str().unwrap());
        assert!(named, "{what}: names the file: {error}");
    }
}

#[test]
fn the_control_file_reveals_a_flipped_bit_in_the_last_block() {
    let disk = logged(3, true);
    let last = 2 * 4096;
    disk.edit(&segment(1), |bytes| bytes[last + 200] ^= 1);
    assert_eq!(damaged_file("last block", &disk), segment(1));
}

#[test]
fn a_later_block_alone_proves_that_an_earlier_one_was_durable() {
    // Killed before the control file learned of any of the five groups.
    for block in 0..4 {
        let disk = logged(5, false);
        disk.edit(&segment(1), |bytes| bytes[block * 4096 + 300] ^= 1);
        assert_eq!(damaged_file(&format!("block {block}"), &disk), segment(1));
    }
}

#[test]
fn a_damaged_last_block_is_refused_and_one_not_landed_is_cut() {
    let disk = logged(5, false);
    disk.edit(&segment(1), |bytes| bytes[4 * 4096 + 300] ^= 1);
    assert_eq!(damaged_file("no unfinished write leaves this", &disk), segment(1));
    let disk = logged(5, false);
    disk.edit(&segment(1), |bytes| bytes[4 * 4096..4 * 4096 + 512].fill(0));
    let (sale, opened) = recover_on(&disk, &small()).unwrap();
    assert_eq!(sale.lsn().0, 4 * 30, "nothing proves that the last one was durable: cut, and a copy kept");
    assert_eq!(opened.warnings().len(), 1);
}

#[test]
fn a_truncated_segment_is_refused() {
    for len in [0, 100, 4096, 20_000, (32 << 10) - 1] {
        let disk = logged(40, false);
        disk.edit(&segment(2), |bytes| bytes.truncate(len));
        assert_eq!(damaged_file(&format!("truncated to {len}"), &disk), segment(2));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let last_used = verify_on(&logged(40, true), DIR.as_ref()).unwrap().control.last_segment;
    assert!(last_used > 3);
    for number in [1, 2, last_used] {
        let disk = logged(40, true);
        disk.lose(&segment(number));
        assert_eq!(damaged_file(&format!("segment {number} lost"), &disk), segment(number));
    }
}

#[test]
fn an_older_copy_of_a_segment_is_refused() {
    let old = logged(3, true).files()[&segment(1)].clone();
    // Last segment: only the control file knows that it once held more.
    let disk = logged(6, true);
    disk.edit(&segment(1), |bytes| bytes.clone_from(&old));
    assert_eq!(damaged_file("older last segment", &disk), segment(1));
    let disk = logged(40, false);
    disk.edit(&segment(1), |bytes| bytes.clone_from(&old));
    assert_eq!(damaged_file("older first segment", &disk), segment(1));
}

#[test]
fn a_misdirected_block_is_refused() {
    let disk = logged(40, false);
    let other = disk.files()[&segment(2)][..4096].to_vec();
    disk.edit(&segment(1), |bytes| bytes[8192..12288].copy_from_slice(&other));
    assert_eq!(damaged_file("block of another segment", &disk), segment(1));
    let disk = logged(40, false);
    disk.edit(&segment(1), |bytes| bytes.copy_within(0..4096, 8192));
    assert_eq!(damaged_file("block of another place", &disk), segment(1));
}

#[test]
fn swapped_segments_are_refused() {
    let disk = logged(40, false);
    let files = disk.files();
    disk.edit(&segment(1), |bytes| bytes.clone_from(&files[&segment(2)]));
    disk.edit(&segment(2), |bytes| bytes.clone_from(&files[&segment(1)]));
    assert_eq!(damaged_file("swapped", &disk), segment(1));
}

#[test]
fn another_logs_segment_is_refused_as_such() {
    let disk = logged(40, false);
    disk.edit(&segment(1), |bytes| {
        // Another identity, with a checksum that matches it.
        bytes[16] ^= 1;
        seal_block(bytes);
    });
    let error = refusal("foreign", &disk);
    assert!(matches!(error, OpenError::Recovery(RecoveryError::Foreign { .. })), "{error}");
}

#[test]
fn a_forged_block_breaks_the_chain() {
    let disk = logged(5, false);
    disk.edit(&segment(1), |bytes| {
        // A change that its own checksum covers up: the next block knows better.
        bytes[113] = 1;
        seal_block(bytes);
    });
    let error = refusal("forged", &disk).to_string();
    assert!(error.contains("does not follow the one before it"), "{error}");
}

#[test]
fn a_block_that_miscounts_its_records_is_refused() {
    for (miscounted, reason) in
        [(29, "the records do not fill their block"), (31, "a record ends after its block")]
    {
        let disk = logged(5, false);
        disk.edit(&segment(1), |bytes| {
            assert_eq!(bytes[64], 30, "a group of thirty records");
            bytes[64] = miscounted;
            seal_block(bytes);
        });
        let error = refusal("miscounted", &disk).to_string();
        assert!(error.contains(reason), "{miscounted}: {error}");
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let disk = logged(3, false);
    disk.edit(&segment(1), |bytes| bytes[8] = 9);
    let error = refusal("newer block", &disk);
    assert!(matches!(error, OpenError::Recovery(RecoveryError::Newer { found: 9, .. })), "{error}");
}

#[test]
fn a_missing_control_file_is_refused_when_there_is_a_log() {
    let disk = logged(3, false);
    disk.lose(Path::new("/data/control"));
    assert!(matches!(refusal("no control", &disk), OpenError::NoControl { .. }));
}

#[test]
fn a_control_file_survives_one_damaged_slot_but_not_two() {
    let disk = logged(3, true);
    let control = Path::new("/data/control");
    for slot in [0, 4096] {
        let disk = disk.after_kill();
        disk.edit(control, |bytes| bytes[slot + 20] ^= 4);
        let (sale, opened) = recover_on(&disk, &small()).unwrap();
        assert_eq!((sale.lsn().0, opened.control().log_id), (3 * 30, new_log().log_id), "slot at {slot}");
    }
    disk.edit(control, |bytes| {
        bytes[20] ^= 4;
        bytes[4096 + 20] ^= 4;
    });
    assert!(matches!(refusal("both slots", &disk), OpenError::Control(_)));
}

/// Whatever becomes of the sector that was being written when the power went, the control file
/// says what it said before.
#[test]
fn the_control_file_outlives_the_sector_that_is_being_written() {
    let (disk, dir) = (SimDisk::new(3), Path::new(DIR));
    let file = dir.join("control");
    create_control(&disk, dir, &Control::new(LogId([7; 16]), HashSecret([9; 16]), 1 << 16)).unwrap();
    for round in 1..=4 {
        let before = read_control(&disk, dir).unwrap().expect("made above");
        let old = disk.files()[&file].clone();
        ControlFile::open(&disk, dir, before).unwrap().update(|control| control.epoch = round).unwrap();
        assert_eq!(read_control(&disk, dir).unwrap().expect("written").epoch, round);
        let new = disk.files()[&file].clone();
        let lost = disk.after_kill();
        lost.edit(&file, |bytes| {
            let sectors = old.chunks(SECTOR_BYTES).zip(new.chunks(SECTOR_BYTES)).enumerate();
            for (at, _) in sectors.filter(|(_, (old, new))| old != new) {
                bytes[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES].fill(0xA5);
            }
        });
        let left = read_control(&lost, dir).unwrap().expect("the other slot");
        assert_eq!(left.generation, before.generation, "round {round}");
    }
}

/// A read that goes astray while a log is opened, whichever it is: the log is refused, or opened
/// without what nothing could witness; but what was read is not destroyed by what is written next.
#[test]
fn a_read_that_goes_astray_destroys_nothing() {
    let (mut refused, mut opened) = (0, 0);
    for groups in 1..=6 {
        let whole = logged(groups, false);
        let acked = recover_on(&whole.copy(), &small()).unwrap().0.lsn();
        for nth in 1.. {
            let disk = whole.copy();
            disk.plan_misread(nth);
            let first = recover_on(&disk, &small()).map(|(sale, _)| sale.lsn());
            if disk.misreads() == 0 {
                break;
            }
            match first {
                Err(_) => refused += 1,
                Ok(lsn) if lsn < acked => continue,
                Ok(_) => opened += 1,
            }
            let second = recover_on(&disk.after_kill(), &small());
            let second = second.unwrap_or_else(|error| panic!("{groups} groups, read {nth}: {error}"));
            assert_eq!(second.0.lsn(), acked, "{groups} groups, read {nth}");
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} refused, {opened} opened");
}
